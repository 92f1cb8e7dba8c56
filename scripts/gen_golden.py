#!/usr/bin/env python3
"""Golden cases: small tables and the exact value of every metric on them.

Writes tests/golden/*.case. The expected values are exact rationals computed from the definitions by
brute force: pairs are counted one by one and each threshold recounts all rows, so that the
oracle shares no idea (sorting, prefix sums, histograms) with the engine. Standard library only;
the same bytes on every machine.

    scripts/gen_golden.py            write the files
    scripts/gen_golden.py --check    exit 1 when a file on disk differs from what would be written

The format of a case, UTF-8 text:

    # name: example_a                      comments; name and description are always there
    task binary                            binary | multiclass | multilabel | regression | verification
    metrics auroc,auprc(method=trapezoid)  as for `cupel eval --metrics`
    options --group g --by-class           optional, as on the command line
    columns label:u8 probs[3]:f32 g:str    bool, u8, i32, i64, f16, bf16, f32, f64, str; [k]: k columns
    1 0.5 0.25 0.25 a                      one row per line, in the order of the columns
    ----
    auroc = 3/4
    auprc = 29/36 ulp=1
    auroc average=macro group=g:a = 1/2 rel=1e-14
    auroc class=2 = undefined no_positive
    error 3 weight                         the only line of a case that fails: exit code, part of the message

A decimal is read as a double, then rounded to the dtype of its column. Of `p/q` both are below 2^53
or q is a power of two, hence double(p)/double(q) is the correctly rounded value: where the exact rational is
longer, its correctly rounded double is written as a rational, an infinite value as 1/0. Without a tolerance the result must be ==;
`ulp=1`: at most one unit in the last place away; `rel=x`: relative error at most x. The average is
named beside the metric, not among its options. `group=g:a,h:b` is an intersection, `xauc group=g:a|b` is positives
of a against negatives of b.
"""

import argparse
import copy
import functools
import math
import re
import statistics
import struct
import sys
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from random import Random

from golden import abstention, choosing, intervals, modes, selective, verification

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "golden"
MASS_UNIT = 2**40  # weights of the cases are multiples of 2^-40: masses are integers in this unit
EPSILON = {"average": " rel=1e-14", "brier": " rel=1e-12", "auprc": " ulp=1"}
# A mean or an interpolation is a few double operations on exact integers, not one rounding.
ROUNDED_MORE_THAN_ONCE = {"eer", "balanced_accuracy", "es_auroc"}


class Undefined(Exception):
    """A metric without a value; the argument is the reason that the result names."""


# ---- columns ------------------------------------------------------------------------------------


def round_to(dtype, text):
    """The value of a cell: a str, an int, or a float that holds the dtype's value exactly."""
    if dtype == "str":
        return text
    if dtype in ("bool", "u8", "i32", "i64"):
        return int(text)
    value = float(text)
    if dtype == "f64" or not math.isfinite(value):
        return value
    if dtype == "f32":
        return struct.unpack("<f", struct.pack("<f", value))[0]
    if dtype == "f16":
        rounded = struct.unpack("<e", struct.pack("<e", value))[0]
    elif dtype == "bf16":
        rounded = struct.unpack("<f", b"\0\0" + struct.pack("<f", value)[2:])[0]
    else:
        raise ValueError(dtype)
    # A reader may round by way of float: only values on which both ways agree.
    assert rounded == value, (dtype, text)
    return rounded


class Column:
    def __init__(self, text):
        match = re.fullmatch(r"(\w+)(?:\[(\d+)\])?:(\w+)", text)
        self.name, self.dtype = match[1], match[3]
        self.width = int(match[2]) if match[2] else None


# ---- binary definitions: rows are (y, score, mass) -----------------------------------------------


def masses(rows):
    if not rows:
        raise Undefined("empty")
    if not any(w for _, _, w in rows):
        raise Undefined("zero_weight")
    return sum(w for y, _, w in rows if y), sum(w for y, _, w in rows if not y)


def masses_of_both(rows):
    positive, negative = masses(rows)
    if positive == 0:
        raise Undefined("no_positive")
    if negative == 0:
        raise Undefined("no_negative")
    return positive, negative


def thresholds(rows):
    """(TP, FP) of the decision score >= t for every score t that has mass, descending."""
    rows = [row for row in rows if row[2]]
    return [
        (sum(w for y, s, w in rows if y and s >= t), sum(w for y, s, w in rows if not y and s >= t))
        for t in sorted({s for _, s, _ in rows}, reverse=True)
    ]


def twice_wins(positives, negatives):
    """2U: a pair counts twice its mass when the positive ranks higher, once when it ties."""
    return sum(wp * wn * (2 if sp > sn else 1) for sp, wp in positives for sn, wn in negatives if sp >= sn)


def roc(rows):
    positive, negative = masses_of_both(rows)
    return [(Fraction(0), Fraction(0))] + [
        (Fraction(fp, negative), Fraction(tp, positive)) for tp, fp in thresholds(rows)
    ]


def auroc(rows, max_fpr=None):
    positive, negative = masses_of_both(rows)
    if max_fpr is None or Fraction(max_fpr) == 1:
        wins = twice_wins([(s, w) for y, s, w in rows if y], [(s, w) for y, s, w in rows if not y])
        return Fraction(wins, 2 * positive * negative)
    limit, area, points = Fraction(max_fpr), Fraction(0), roc(rows)
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    lowest = limit * limit / 2
    return (1 + (area - lowest) / (limit - lowest)) / 2


def gini(rows):
    return 2 * auroc(rows) - 1


def auprc(rows, method="step"):
    positive, _ = masses(rows)
    if positive == 0:
        raise Undefined("no_positive")
    area, recall0, precision0 = Fraction(0), Fraction(0), Fraction(1)
    for tp, fp in thresholds(rows):
        recall, precision = Fraction(tp, positive), Fraction(tp, tp + fp)
        height = precision if method == "step" else (precision + precision0) / 2
        area += (recall - recall0) * height
        recall0, precision0 = recall, precision
    return area


def ks(rows):
    return max(tpr - fpr for fpr, tpr in roc(rows))


def eer(rows):
    points = roc(rows)
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        before, after = x0 - (1 - y0), x1 - (1 - y1)
        if after == 0:
            return x1
        if after > 0:
            return x0 + (x1 - x0) * before / (before - after)
    raise AssertionError("the last point is (1, 1)")


def tpr_at_fpr(rows, target="0.01", interpolation="none"):
    points, limit = roc(rows), Fraction(target)
    best = max(tpr for fpr, tpr in points if fpr <= limit)
    if interpolation == "linear":
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            if x0 <= limit < x1:
                best = max(best, y0 + (y1 - y0) * (limit - x0) / (x1 - x0))
    return best


def fpr_at_tpr(rows, target="0.95", interpolation="none"):
    points, limit = roc(rows), Fraction(target)
    best = min(fpr for fpr, tpr in points if tpr >= limit)
    if interpolation == "linear":
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            if y0 < limit <= y1:
                best = min(best, x0 + (x1 - x0) * (limit - y0) / (y1 - y0))
    return best


def recalls_and_precisions(rows):
    positive, _ = masses(rows)
    if positive == 0:
        raise Undefined("no_positive")
    return [(Fraction(tp, positive), Fraction(tp, tp + fp)) for tp, fp in thresholds(rows)]


def precision_at_recall(rows, target="0.8"):
    return max(p for r, p in recalls_and_precisions(rows) if r >= Fraction(target))


def recall_at_precision(rows, target="0.9"):
    reached = [r for r, p in recalls_and_precisions(rows) if p >= Fraction(target)]
    if not reached:
        raise Undefined("not_reached")
    return max(reached)


def f_beta_max(rows, beta="1"):
    positive, _ = masses(rows)
    if positive == 0:
        raise Undefined("no_positive")
    square = Fraction(beta) ** 2
    return max((1 + square) * tp / ((1 + square) * tp + square * (positive - tp) + fp) for tp, fp in thresholds(rows))


RANKING = {
    f.__name__: f
    for f in (auroc, gini, auprc, ks, eer, tpr_at_fpr, fpr_at_tpr, precision_at_recall)
    + (recall_at_precision, f_beta_max)
}


# ---- decisions and probabilities: rows are (label, values, mass) ---------------------------------


def recalls_mean(hits):
    """Mean recall over the classes that have mass; hits are (label, hit, mass)."""
    recalls = []
    for k in sorted({label for label, _, w in hits if w}):
        mass = sum(w for label, _, w in hits if label == k)
        recalls.append(Fraction(sum(w for label, hit, w in hits if label == k and hit), mass))
    return sum(recalls) / len(recalls)


def mean(pairs):
    """Weighted mean of (value, mass)."""
    if not pairs:
        raise Undefined("empty")
    total = sum(w for _, w in pairs)
    if total == 0:
        raise Undefined("zero_weight")
    return sum(Fraction(v) * w for v, w in pairs) / total


def rank_of_label(values, label):
    """How many classes rank strictly before the label: larger, or equal with a lower index."""
    return sum(v > values[label] or (v == values[label] and k < label) for k, v in enumerate(values))


def decision(table, rows, metric, threshold=None, k="5"):
    """accuracy, balanced_accuracy, top_k_accuracy and brier of a binary or multiclass table."""
    masses([(1, None, w) for _, _, w in rows])
    if table.task == "binary":
        limit = Fraction(threshold) if threshold else Fraction(0 if table.logits else 1, 2)
        hits = [(y, (Fraction(v) > limit) == bool(y), w) for y, v, w in rows]
        squares = [((Fraction(v) - y) ** 2, w) for y, v, w in rows]
    else:
        k = int(k) if metric == "top_k_accuracy" else 1
        hits = [(y, rank_of_label(v, y) < k, w) for y, v, w in rows]
        squares = [(sum((Fraction(p) - (c == y)) ** 2 for c, p in enumerate(v)), w) for y, v, w in rows]
    if metric == "brier":
        assert not table.logits
        return mean(squares)
    if metric == "balanced_accuracy":
        return recalls_mean(hits)
    return mean([(hit, w) for _, hit, w in hits])


# ---- calibration ----------------------------------------------------------------------------------

SPLIT = "uncertainty_calibration"
PRESETS = {SPLIT: (15, "right"), "guo": (15, "right"), "torchmetrics": (15, "left"), "netcal": (10, "left"), "tfp": (15, "left"),
           "sklearn": (5, "right"), "mapie": (49, "right")}  # fmt: skip
OF_MOMENTS = {"smooth_ece", "spiegelhalter_z", "brier_skill"}
SORTED = {"ace", "tace", "ece_sweep", "ks_calibration", "kuiper_calibration", "mmce", "skce"}
CALIBRATION = {"ece", "ece_top_label", "mce", "rmsce", "average_ce", "classwise_ece", "ece_by_predicted_class", *SORTED,
               *selective.METRICS}  # fmt: skip


def bin_of(p, bins, closed, preset):
    """The bin of a confidence, by trying each; the confidences that a library keeps apart have a bin of theirs."""
    if preset == "torchmetrics" and p == 1:
        return "one"
    if preset == "mapie" and p == 0:
        return "zero"
    for k in range(bins):
        low, high = k / bins, (k + 1) / bins
        inside = low < p <= high or (k == 0 and p == 0)
        if closed == "left":
            inside = low <= p < high or (k == bins - 1 and p == 1)
        if inside:
            return k
    raise AssertionError(p)


def mass_bin_of(points, p, bins):
    """The bin of equal mass of a confidence: the mass of smaller ones, counted for it alone."""
    return bins * sum(w for q, _, w in points if q < p) // sum(w for _, _, w in points)


def split_edges(points, bins):
    """The upper edges of uncertainty-calibration's bins, written as its get_equal_bins and get_discrete_bins are."""
    values = sorted(p for p, _, _ in points)
    distinct = sorted(set(values))
    if len(distinct) < len(values) / 4:
        return [(a + b) / 2 for a, b in zip(distinct, distinct[1:])] + [1.0]
    parts, sizes = min(bins, len(values)), []
    for i in range(parts):
        sizes.append(len(values) // parts + (i < len(values) % parts))
    groups = [values[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(parts)]
    return sorted({(a[-1] + b[0]) / 2 for a, b in zip(groups, groups[1:])} | {1.0})


def gaps(points, bins, closed, preset):
    """(mass, accuracy - confidence, accuracy, rows) of each bin that has mass; points are (p, right, mass)."""
    held = {}
    if preset == SPLIT:
        edges = split_edges(points, bins)
    elif preset == "mass":
        at = {p: mass_bin_of(points, p, bins) for p in {p for p, _, w in points if w}}
    for p, right, w in points:
        if preset == SPLIT:
            b = min(k for k, edge in enumerate(edges) if p <= edge)
        elif preset == "mass":
            b = at.get(p)
        else:
            b = bin_of(p, bins, closed, preset)
        held.setdefault(b, []).append((Fraction(p), right, w))
    out = []
    for rows in held.values():
        mass = sum(w for _, _, w in rows)
        if mass:
            accuracy = Fraction(sum(w for _, right, w in rows if right), mass)
            out.append((mass, accuracy - sum(p * w for p, _, w in rows) / mass, accuracy, len(rows)))
    return out


def root(value):
    with localcontext() as context:
        context.prec = 40
        return Fraction((Decimal(value.numerator) / Decimal(value.denominator)).sqrt())


def mean_gap(points, bins):
    """Nixon's mean over ranges of equal mass of one class, or None."""
    if not any(w for _, _, w in points):
        return None
    found = gaps(points, bins, "", "mass")
    return sum(abs(g) for _, g, _, _ in found) / len(found)


def sweep(points, weighted, binning="mass", norm="l1", most_bins="16384"):
    points = [point for point in points if point[2]]
    most = min(int(most_bins), 64 if weighted else max(len(points) - 1, 1))
    chosen = 1

    def binned(bins):
        at = {}
        for p, right, w in points:
            b = mass_bin_of(points, p, bins) if binning == "mass" else bin_of(p, bins, "right", "")
            at.setdefault(b, []).append((right, w))
        return [Fraction(sum(w for right, w in at[b] if right), sum(w for _, w in at[b])) for b in sorted(at)]

    for bins in range(2, most + 1):
        accuracies = binned(bins)
        if accuracies != sorted(accuracies):
            break
        chosen = bins
    found = gaps(points, chosen, "right", "mass" if binning == "mass" else "")
    total = sum(m for m, _, _, _ in found)
    if norm == "l1":
        return sum(m * abs(g) for m, g, _, _ in found) / total
    return root(sum(m * g * g for m, g, _, _ in found) / total)


def cumulative(points):
    """C(t) for every confidence t, each summed anew, and 0 before the first."""
    total = sum(w for _, _, w in points)
    return [Fraction(0)] + [
        sum((right - Fraction(p)) * w for p, right, w in points if p <= t) / total for t in {p for p, _, _ in points}
    ]


@functools.lru_cache(maxsize=None)
def laplacian(distance, nu):
    with localcontext() as context:
        context.prec = 40
        ratio = distance / nu
        return Fraction((-Decimal(ratio.numerator) / Decimal(ratio.denominator)).exp())


def kernel_error(points, weighted, metric, nu=None, estimator="unbiased"):
    if metric == "mmce":
        nu = nu or "0.4"
    elif (nu is None or estimator == "unbiased") and (weighted or len(points) < 2):
        raise Undefined("not_defined")
    if nu is None:
        nu = statistics.median(abs(p - q) for i, (p, _, _) in enumerate(points) for q, _, _ in points[:i])
    scale = Fraction(nu)
    if scale == 0:
        raise Undefined("not_defined")
    residuals = [((right - Fraction(p)) * w, Fraction(p)) for p, right, w in points]
    pairs = ((a, b) for i, a in enumerate(residuals) for b in residuals[:i])
    own = sum(d * d for d, _ in residuals)
    total = own + 2 * sum(d * e * laplacian(abs(p - q), scale) for (d, p), (e, q) in pairs)
    mass = sum(w for _, _, w in points)
    if metric == "mmce":
        return root(max(total, Fraction(0)) / mass**2)
    if estimator == "biased":
        return total / mass**2
    return (total - own) / (mass * (mass - mass // len(points)))


def sorted_metric(metric, sets, weighted, bins="15", threshold="0.01", **options):
    if metric in ("ace", "tace"):
        limit = float(threshold) if metric == "tace" else -1.0
        found = [mean_gap([x for x in points if x[0] > limit], int(bins)) for points in sets]
        found = [value for value in found if value is not None]
        if not found:
            raise Undefined("all_undefined")
        return sum(found) / len(found)
    (points,) = sets
    if metric == "ece_sweep":
        return sweep(points, weighted, **options)
    if metric == "ks_calibration":
        return max(abs(c) for c in cumulative(points))
    if metric == "kuiper_calibration":
        return max(cumulative(points)) - min(cumulative(points))
    return kernel_error(points, weighted, metric, **options)


def calibration(table, rows, metric, bins=None, closed=None, preset="", norm=None, debias=None, reduction="mean",
                weighting="mass", binning=None, **options):  # fmt: skip
    masses([(1, None, w) for _, _, w in rows])  # undefined without rows or weight
    standard = PRESETS.get(preset, PRESETS["guo"])
    how = (int(bins or standard[0]), closed or standard[1], "mass" if binning == "mass" else preset)

    def top(y, v):
        if table.task == "binary":
            return (v, y == 1) if v > 0.5 else (1.0 - v, y == 0)
        return max(v), v.index(max(v)) == y

    if metric in selective.METRICS:
        if not table.logits and any(not 0 <= x <= 1 for _, v, _ in rows for x in (v if table.task == "multiclass" else [v])):
            raise Undefined("not_probability")
        found = selective.value([(*top(y, v), w) for y, v, w in rows], table.weighted, metric, **options)
        if isinstance(found, str):
            raise Undefined(found)
        return found
    if metric in SORTED:
        if table.task == "binary":
            sets = [[(v, y == 1, w) for y, v, w in rows]]
        elif metric in ("ace", "tace"):
            sets = [[(v[k], y == k, w) for y, v, w in rows] for k in range(table.width)]
        else:
            sets = [[(*top(y, v), w) for y, v, w in rows]]
        options.update({k: v for k, v in (("bins", bins), ("norm", norm), ("binning", binning)) if v})
        return sorted_metric(metric, sets, table.weighted, **options)
    if preset == SPLIT:
        if table.weighted:
            raise Undefined("not_defined")
        norm = norm or "l2"
        debias = debias or ("true" if norm == "l2" and metric not in ("mce", "average_ce") else "false")
    norm, debias = norm or "l1", debias or "false"

    if metric in ("classwise_ece", "ece_by_predicted_class"):
        sets = []
        for k in range(table.width):
            if metric == "classwise_ece":
                sets.append([(v[k], y == k, w) for y, v, w in rows])
            else:
                sets.append([(max(v), y == k, w) for y, v, w in rows if v.index(max(v)) == k])
        if reduction == "pooled":
            sets = [[point for points in sets for point in points]]
        errors = [(sum(m * abs(g) for m, g, _, _ in gaps(s, *how)), sum(w for _, _, w in s)) for s in sets]
        if norm == "l2":
            return root(sum(sum(m * g * g for m, g, _, _ in gaps(s, *how)) / sum(w for _, _, w in s) for s in sets) / len(sets))
        if norm == "max":
            return sum(max(abs(g) for _, g, _, _ in gaps(s, *how)) for s in sets) / len(sets)
        if weighting == "classes":
            own = [error / mass for error, mass in errors if mass]
            return sum(own) / len(own)
        return sum(error for error, _ in errors) / sum(mass for _, mass in errors)
    if metric == "ece_top_label" or table.task == "multiclass":
        points = [(*top(y, v), w) for y, v, w in rows]
    else:
        points = [(v, y == 1, w) for y, v, w in rows]
    found = gaps(points, *how)
    total = sum(m for m, _, _, _ in found)
    norm = {"mce": "max", "rmsce": "l2"}.get(metric, norm)
    if metric == "average_ce":
        return sum(abs(g) for _, g, _, _ in found) / len(found)
    if norm == "max":
        return max(abs(g) for _, g, _, _ in found)
    if norm == "l1":
        return sum(m * abs(g) for m, g, _, _ in found) / total
    square = Fraction(0)
    for m, g, accuracy, n in found:
        if debias == "true" and n < 2:
            continue
        square += Fraction(m, total) * (g * g - (accuracy * (1 - accuracy) / (n - 1) if debias == "true" else 0))
    return root(max(square, Fraction(0)))


def pairs_of_vectors(table, rows, nu=None, estimator="unbiased"):
    """skce of several classes, pair by pair. The median distance is the lower one of two, as a float32."""
    masses([(1, None, w) for _, _, w in rows])
    n = len(rows)
    if table.weighted or (n < 2 and (estimator == "unbiased" or nu is None)):
        raise Undefined("not_defined")
    residuals = [[(y == k) - p for k, p in enumerate(v)] for y, v, _ in rows]
    pairs = [(i, j) for i in range(n) for j in range(i)]
    distance = {(i, j): math.dist(rows[i][1], rows[j][1]) for i, j in pairs}
    if nu is None:
        median = sorted(distance.values())[(len(pairs) - 1) // 2]
        nu = struct.unpack("f", struct.pack("f", median))[0]
        if nu == 0:
            raise Undefined("not_defined")
    terms = [
        2 * math.fsum(a * b for a, b in zip(residuals[i], residuals[j])) * math.exp(-distance[i, j] / float(nu))
        for i, j in pairs
    ]
    if estimator == "biased":
        terms += [math.fsum(a * a for a in r) for r in residuals]
    return Fraction(math.fsum(terms) / (n * n if estimator == "biased" else n * (n - 1)))


def smoothed(points, sigma, intervals=4000):
    """smooth_ece by its definition: every row's reflected kernel, Simpson's rule over |sum|; good to about 1e-7."""
    total = sum(w for _, _, w in points)
    images = [(s * p + 2 * k, (right - p) * w / total) for p, right, w in points for k in (-1, 0, 1) for s in (1, -1) if w]
    images += [(s * p + 2 * k, (right - p) * w / total) for p, right, w in points for k in (-2, 2) for s in (1, -1) if w]

    def error(t):
        return abs(sum(r * math.exp(-(((t - at) / sigma) ** 2) / 2) for at, r in images if abs(t - at) < 9 * sigma))

    ends = error(0) + error(1)
    inner = sum((4 if i % 2 else 2) * error(i / intervals) for i in range(1, intervals))
    return Fraction((ends + inner) / (3 * intervals) / (sigma * math.sqrt(2 * math.pi)))


def of_moments(table, rows, metric, sigma=None):
    """brier_skill, spiegelhalter_z and, of a given width, smooth_ece."""
    masses([(1, None, w) for _, _, w in rows])
    if metric == "brier_skill":
        whole = sum(w for _, _, w in rows)
        classes = range(table.width) if table.task == "multiclass" else (1,)
        shares = [Fraction(sum(w for y, _, w in rows if y == k), whole) for k in classes]
        reference = sum(s * (1 - s) for s in shares)
        if not reference:
            raise Undefined("single_class")
        return 1 - decision(table, rows, "brier") / reference
    if table.task == "multiclass":
        points = [(max(v), int(v.index(max(v)) == y), w) for y, v, w in rows]
    else:
        points = [(v, int(y == 1), w) for y, v, w in rows]
    if metric == "smooth_ece":
        return smoothed(points, float(sigma))
    if table.weighted:
        raise Undefined("not_defined")
    exact = [(Fraction(p), right) for p, right, _ in points]
    variance = sum((1 - 2 * p) ** 2 * p * (1 - p) for p, _ in exact)
    if not variance:
        raise Undefined("not_defined")
    difference = sum((right - p) * (1 - 2 * p) for p, right in exact)
    return (1 if difference > 0 else -1) * root(difference * difference / variance)


def calibration_of_label(table, metric, rows, **options):
    """A label of a multilabel table as the binary table that it is."""
    binary = copy.copy(table)
    binary.task = "binary"
    return calibration(binary, rows, metric, **options)


# ---- fits: rows are (label, value or values, mass), those to fit on and the others -------------------

FITTED = {"temperature", "platt", "isotonic"}
FIT_DIGITS = 40


def decimal(value):
    value = Fraction(value)
    return Decimal(value.numerator) / Decimal(value.denominator)


def softmax_losses(rows, factor):
    """(mass, loss, x_label - mean, variance) of each row, x the distances of its scaled logits from the largest."""
    out = []
    for y, values, w in rows:
        scaled = [decimal(v) * factor for v in values]
        x = [max(scaled) - v for v in scaled]
        e = [(-v).exp() for v in x]
        total = sum(e)
        mean = sum(a * b for a, b in zip(x, e)) / total
        variance = sum((a - mean) ** 2 * b for a, b in zip(x, e)) / total
        out.append((decimal(w), x[y] + total.ln(), x[y] - mean, variance))
    return out


def fit_on(rows):
    """Undefined where there is nothing to fit on."""
    if not rows:
        raise Undefined("too_few_calibration")
    masses(rows)


def inverse_temperature(rows):
    """The factor of least log loss: bisection of its slope, then Newton's method."""
    fit_on(rows)
    rows = [row for row in rows if row[2]]

    def slopes(factor):
        terms = softmax_losses(rows, factor)
        return sum(w * g for w, _, g, _ in terms), sum(w * h for w, _, _, h in terms)

    low, high = Decimal(1) / 20, Decimal(20)
    if all(len(set(values)) == 1 for _, values, _ in rows):
        raise Undefined("not_defined")
    if slopes(high)[0] <= 0 or slopes(low)[0] >= 0:
        raise Undefined("ran_away")
    for _ in range(14):
        middle = (low * high).sqrt()
        low, high = (middle, high) if slopes(middle)[0] < 0 else (low, middle)
    factor = (low * high).sqrt()
    for _ in range(6):
        first, second = slopes(factor)
        factor *= 1 - first / second
    assert low <= factor <= high and abs(slopes(factor)[0] / slopes(factor)[1]) < Decimal("1e-25")
    return factor


@lru_cache
def platt_line(rows, logits, smoothed):
    """Slope and intercept of the logistic regression, by Newton's method with halved steps."""
    fit_on(rows)
    rows = [row for row in rows if row[2]]
    if not logits and any(not 0 <= v <= 1 for _, v, _ in rows):
        raise Undefined("not_probability")
    positive = sum(Fraction(w, MASS_UNIT) for y, _, w in rows if y)
    negative = sum(Fraction(w, MASS_UNIT) for y, _, w in rows if not y)
    if positive == 0 or negative == 0:
        raise Undefined("no_positive" if positive == 0 else "no_negative")
    targets = [Fraction(0), Fraction(1)]
    if smoothed:
        targets = [1 / (negative + 2), (positive + 1) / (positive + 2)]
    points = [(platt_feature(v, logits), decimal(targets[y]), decimal(w)) for y, v, w in rows]
    if len({x for x, _, _ in points}) == 1:
        raise Undefined("not_defined")
    of = [[x for (x, _, _), row in zip(points, rows) if row[0] == y] for y in (0, 1)]
    if not smoothed and (max(of[0]) <= min(of[1]) or max(of[1]) <= min(of[0])):
        raise Undefined("ran_away")

    def loss(a, b):
        return sum(w * ((1 + (a * x + b).exp()).ln() - t * (a * x + b)) for x, t, w in points)

    a, b, now = Decimal(0), Decimal(0), loss(Decimal(0), Decimal(0))
    for _ in range(100):
        g0 = g1 = h00 = h01 = h11 = Decimal(0)
        for x, t, w in points:
            p = 1 / (1 + (-(a * x + b)).exp())
            g0, g1 = g0 + w * (p - t) * x, g1 + w * (p - t)
            v = w * p * (1 - p)
            h00, h01, h11 = h00 + v * x * x, h01 + v * x, h11 + v
        d = h00 * h11 - h01 * h01
        step = (g1 * h01 - g0 * h11) / d, (g0 * h01 - g1 * h00) / d
        share = Decimal(1)
        while loss(a + share * step[0], b + share * step[1]) > now:
            share /= 2
            if share < Decimal("1e-20"):
                break
        a, b = a + share * step[0], b + share * step[1]
        now = loss(a, b)
        if abs(step[0]) + abs(step[1]) < Decimal("1e-15"):
            return a, b
    raise AssertionError(f"did not settle: {a} {b} {step} {share} {len(rows)} {smoothed}")


def platt_feature(value, logits):
    if logits:
        return decimal(value)
    p = min(max(decimal(value), Decimal(1e-12)), Decimal(1 - 1e-12))
    return p.ln() - (1 - p).ln()


def isotonic_points(rows):
    """(score, value) of each distinct score, by the min-max formula of isotonic regression."""
    fit_on(rows)
    scores = sorted({v for _, v, w in rows if w})
    mass = [sum(w for _, v, w in rows if v == s) for s in scores]
    positive = [sum(w for y, v, w in rows if v == s and y) for s in scores]

    def share(a, b):
        return Fraction(sum(positive[a : b + 1]), sum(mass[a : b + 1]))

    last = len(scores)
    return [
        (s, max(min(share(a, b) for b in range(i, last)) for a in range(i + 1))) for i, s in enumerate(scores)
    ]


def isotonic_at(points, score, interpolation):
    below = [p for p in points if p[0] <= score]
    above = [p for p in points if p[0] >= score]
    if not below or not above:
        return (above[0] if above else below[-1])[1]
    (x0, y0), (x1, y1) = below[-1], above[0]
    if x0 == x1 or y0 == y1 or interpolation == "step":
        return y0
    return y0 + (y1 - y0) * (Fraction(score) - Fraction(x0)) / (Fraction(x1) - Fraction(x0))


def fitted(table, halves, metric, value="ece", targets="labels", interpolation="linear"):
    fit, others = halves
    with localcontext() as context:
        context.prec = FIT_DIGITS
        if metric == "temperature":
            if table.task == "binary":
                fit = [(y, [0, v], w) for y, v, w in fit]
            return Fraction(1 / inverse_temperature(fit))
        if metric == "platt":
            if not table.logits and any(not 0 <= v <= 1 for _, v, _ in table.fit_rows):
                fit_on(fit)
                raise Undefined("not_probability")
            a, b = platt_line(tuple(fit), table.logits, targets == "smoothed")
            mapped = []
            for y, v, w in others:
                z = a * platt_feature(v, table.logits) + b
                mapped.append((y, 1 / (1 + (-z).exp()), w, (1 + (z if y == 0 else -z).exp()).ln()))
        else:
            points = isotonic_points(fit)
            mapped = []
            for y, v, w in others:
                p = isotonic_at(points, v, interpolation)
                right = decimal(p if y else 1 - p)
                clipped = min(max(right, Decimal(2) ** -52), 1 - Decimal(2) ** -52)
                mapped.append((y, p, w, -clipped.ln()))
        masses([(1, None, w) for _, _, w, _ in mapped])
        if value == "log_loss":
            return mean([(Fraction(loss), w) for _, _, w, loss in mapped])
        if value == "brier":
            return mean([((Fraction(p) - y) ** 2, w) for y, p, w, _ in mapped])
        found = {}
        for y, p, w, _ in mapped:
            # What is no double is rounded, so it may not be near an edge; a share of a block may be on one.
            exact = isinstance(p, Fraction) and float(p) in {k / 15 for k in range(16)}
            assert exact or all(abs(float(p) - k / 15) > 1e-11 for k in range(16)), p
            k = bin_of(float(p), 15, "right", "")
            found[k] = found.get(k, 0) + w * (y - Fraction(p))
        return sum(abs(gap) for gap in found.values()) / sum(w for _, _, w, _ in mapped)


# ---- conformal sets: a threshold of the calibration rows, the sets of the others ---------------------

OF_SETS = {"coverage", "set_size"}


def conformal_masses(table, values):
    """The probabilities of a row's classes as integers in units of 2^-48; a binary row has two."""
    if table.logits:
        e = [decimal(v).exp() for v in (values if table.width else [0, values])]
        p = [Fraction(x / sum(e)) for x in e]
    else:
        p = [Fraction(v) for v in (values if table.width else [0, values])]
    units = [round(x * 2**48) for x in p]
    return units if table.width else [2**48 - units[1], units[1]]


def conformal_score(masses, label, score, penalty, k_reg):
    """By the words of the definitions, the ranks found by sorting."""
    order = sorted(range(len(masses)), key=lambda k: (-masses[k], k))
    rank = order.index(label) + 1
    through = sum(masses[k] for k in order[:rank])
    others = [m for k, m in enumerate(masses) if k != label]
    return {
        "lac": 2**48 - masses[label],
        "aps": through,
        "raps": through + penalty * max(0, rank - k_reg),
        "saps": masses[order[0]] + penalty * (rank - 1),
        "topk": rank,
        "margin": max(others, default=0) - masses[label],
    }[score]


def quantile_rank(n, alpha, rule):
    """The rank of the threshold among n scores, by trying ranks; None: there is none."""
    k = next(k for k in range(n + 2) if k >= (n + 1) * (1 - alpha))
    if rule == "crepes":
        from_largest = int((1.0 - float(1 - alpha)) * (n + 1))
        return n - (from_largest - 1) if from_largest else None
    if rule.startswith("mapie") and n < max(1 / alpha, 1 / (1 - alpha)):
        return None
    if rule == "mapie_cls":
        return next(r for r in range(1, n + 1) if r - 1 >= (n + 1) * (1 - alpha) * Fraction(n - 1, n))
    if k > n:
        return None
    if rule == "numpy_higher":
        return next(r for r in range(1, n + 1) if r - 1 >= Fraction(k, n) * (n - 1))
    return k


def of_sets(table, fit, others, metric, **options):
    """`fit` are all calibration rows, `others` those of the scope."""
    with localcontext() as context:
        context.prec = 60
        flat = [v for _, values, _ in table.fit_rows for v in (values if table.width else [values])]
        if not table.logits and any(not 0 <= v <= 1 for v in flat):
            raise Undefined("not_probability")
        if table.weighted:
            raise Undefined("not_defined")
        if not fit:
            raise Undefined("too_few_calibration")
        if not others:
            raise Undefined("empty")
        score, alpha = options.get("conformal", "lac"), Fraction(options.get("alpha", "0.1"))
        usual = {"raps": "0.01", "saps": "0.2"}.get(score, "0")
        penalty = round(Fraction(options.get("lambda", usual)) * 2**48)
        k_reg = int(options.get("k_reg", 5))
        sure = 2**12 if table.logits else 0  # how far a score of logits has to be from the threshold

        def scored(masses, label):
            return conformal_score(masses, label, score, penalty, k_reg)

        ranked = sorted(scored(conformal_masses(table, values), y) for y, values, _ in fit)
        rank = quantile_rank(len(fit), alpha, options.get("quantile", "exact"))
        hits, sizes = 0, 0
        for y, values, _ in others:
            masses = conformal_masses(table, values)
            found = []
            for label in range(len(masses)):
                s = scored(masses, label)
                assert rank is None or score == "topk" or s == ranked[rank - 1] or abs(s - ranked[rank - 1]) > sure
                if rank is None or s <= ranked[rank - 1]:
                    found.append(label)
            if not found and options.get("empty") == "argmax":
                found = [masses.index(max(masses))]
            hits, sizes = hits + (y in found), sizes + len(found)
        return Fraction(hits if metric == "coverage" else sizes, len(others))


def sets_by_mode(table, case, metric, wanted, **options):
    """Sets whose scores are drawn, or whose thresholds are not those of all calibration rows."""
    with localcontext() as context:
        context.prec = 60
        column, groups = option(case, "--calibration"), (option(case, "--group") or "").split(",")
        options["seed"] = int(option(case, "--seed") or 0)
        fit, others = [], []
        for (y, values, mass), g in zip(table.fit_rows, table.fit_groups):
            row = {"label": y, "masses": conformal_masses(table, values), "key": g.get("id"), "mass": mass,
                   "group": tuple(str(g[c]) for c in groups if c)}  # fmt: skip
            if g[column]:
                fit.append(row)
            elif all(str(g[c]) == text for c, text in wanted.items()):
                others.append(row)
        if table.weighted and options.get("mode") != "weighted":
            raise Undefined("not_defined")
        found = modes.value(fit, others, table.width or 2, metric, options, quantile_rank)
        if isinstance(found, str):
            raise Undefined(found)
        return found


# ---- metrics of sets: by size, class and rank, and the worst slab of features --------------------------

OF_SET_METRICS = {
    "singleton_rate", "singleton_hit_rate", "empty_rate", "sscv", "ssc", "diff_violation", "cov_gap", "macro_coverage",
    "uacc", "worst_slab_coverage",
}  # fmt: skip
WORD = 2**64


def rows_with_sets(table, fit, others, options):
    """(label, rank of the label, its set) of the others; undefined as of_sets()."""
    of_sets(table, fit, others, "coverage", **options)
    score, alpha = options.get("conformal", "lac"), Fraction(options.get("alpha", "0.1"))
    assert score in ("lac", "aps", "topk", "margin"), "scores without a penalty"

    with localcontext() as context:
        context.prec = 60
        ranked = sorted(conformal_score(conformal_masses(table, v), y, score, 0, 0) for y, v, _ in fit)
        rank = quantile_rank(len(fit), alpha, options.get("quantile", "exact"))
        found = []
        for y, values, _ in others:
            masses = conformal_masses(table, values)
            order = sorted(range(len(masses)), key=lambda k: (-masses[k], k))
            labels = {k for k in order if rank is None or conformal_score(masses, k, score, 0, 0) <= ranked[rank - 1]}
            if not labels and options.get("empty") == "argmax":
                labels = {order[0]}
            found.append((y, order.index(y) + 1, labels))
    return found


def share(rows, hit):
    if not rows:
        raise Undefined("empty")
    return Fraction(sum(map(bool, map(hit, rows))), len(rows))


def covered(row):
    return row[0] in row[2]


def largest_gap(rows, key, strata, alpha):
    """Over strata [first, last] of key(row)."""
    parts = [[row for row in rows if first <= key(row) <= last] for first, last in strata]
    gaps = [abs(share(part, covered) - (1 - alpha)) for part in parts if part]
    if not gaps:
        raise Undefined("empty")
    return max(gaps)


def strata_of(text, base):
    ends = [int(t) for t in text.split(":")]
    return list(zip([base] + [e + 1 for e in ends], ends))


def of_set_metrics(table, fit, others, metric, weighted="false", absent="skip", of="all", num_bins=None, strata=None, **options):
    rows = rows_with_sets(table, fit, others, options)
    classes = table.width or 2
    alpha = Fraction(options.get("alpha", "0.1"))
    if metric == "singleton_rate":
        return share(rows, lambda row: len(row[2]) == 1)
    if metric == "empty_rate":
        return share(rows, lambda row: not row[2])
    if metric == "singleton_hit_rate":
        return share([row for row in rows if of == "all" or len(row[2]) == 1], lambda row: row[2] == {row[0]})
    if metric == "uacc":
        labels = sum(len(row[2]) for row in rows)
        if not labels:
            raise Undefined("not_defined")
        return Fraction(sum(row[1] == 1 for row in rows), labels) * Fraction(math.sqrt(classes))
    if metric == "sscv":
        return largest_gap(rows, lambda row: len(row[2]), strata_of(strata or "1:3:10:100:1000", 0), alpha)
    if metric == "diff_violation":
        return largest_gap(rows, lambda row: row[1], strata_of(strata or "1:3:6:10:100:1000", 1), alpha)
    if metric == "ssc":
        sizes = [[s] for s in range(classes + 1)]
        if num_bins:
            # numpy.array_split of the sizes.
            long, rest = divmod(classes + 1, int(num_bins))
            sizes, left = [], list(range(classes + 1))
            for k in range(int(num_bins)):
                sizes.append([left.pop(0) for _ in range(long + (k < rest))])
        return min(share(part, covered) for part in ([r for r in rows if len(r[2]) in s] for s in sizes) if part)
    by_class = [share(part, covered) for part in ([r for r in rows if r[0] == k] for k in range(classes)) if part]
    if metric == "macro_coverage":
        return sum(by_class) / (classes if absent == "zero" else len(by_class))
    if weighted == "true":
        coverage = {k: share([r for r in rows if r[0] == k], covered) for k in {r[0] for r in rows}}
        return 100 * sum(abs(coverage[r[0]] - (1 - alpha)) for r in rows) / len(rows)
    return 100 * sum(abs(c - (1 - alpha)) for c in by_class) / len(by_class)


def mixed(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def counter(seed, number):
    return mixed(mixed((seed + 0x9E3779B97F4A7C15) % WORD) ^ mixed((number + 0xD1B54A32D192ED03) % WORD))


def fma(a, b, c):
    return float(Fraction(a) * Fraction(b) + Fraction(c))


def unit_vector(seed, number, width):
    key, normals = counter(seed ^ 0x736C616264697265, number), []
    while len(normals) < width:
        of_pair, attempt = counter(key, len(normals) // 2), 0
        while True:
            bits = counter(of_pair, attempt)
            x, y = (((half << 1 | 1) - 2**32) / 2**32 for half in (bits >> 32, bits % 2**32))
            s = fma(x, x, y * y)
            if s < 1:
                break
            attempt += 1
        scale = math.sqrt(-2 * math.log(s) / s)
        normals += [x * scale, y * scale]
    normals = normals[:width]
    length = math.sqrt(sum(x * x for x in normals))
    return [x / length for x in normals]


def worst_slab(rows, features, keys, delta="0.1", directions="1000", held_out="0.75"):
    """Every interval of every direction. Projections are apart, or of equal features: the last bits do not matter."""
    outside = [i for i in range(len(rows)) if counter(0x776F727374536C61, keys[i]) < Fraction(held_out) * WORD]
    searched = [i for i in range(len(rows)) if i not in outside]
    if not searched:
        raise Undefined("empty")
    best = None
    for number in range(int(directions)):
        v = unit_vector(0, number, len(features[0]))
        at = [sum(Fraction(a) * Fraction(b) for a, b in zip(v, x)) for x in features]
        ordered = sorted(range(len(rows)), key=lambda i: at[i])
        for i, j in zip(ordered, ordered[1:]):
            assert at[j] - at[i] > 1e-9 or features[i] == features[j], "projections too close"
        ends = sorted({at[i] for i in searched})
        places = [(ends.index(at[i]), covered(rows[i])) for i in searched]
        for low in range(len(ends)):
            for high in range(low, len(ends)):
                inside = [hit for place, hit in places if low <= place <= high]
                if len(inside) < Fraction(delta) * len(searched):
                    continue
                found = (Fraction(sum(inside), len(inside)), number, low, high)
                if best is None or found < best:
                    best, chosen = found, (at, ends[low], ends[high])
    at, low, high = chosen
    return share([rows[i] for i in outside if low <= at[i] <= high], covered)


def of_slabs(table, fit, wanted, column, options):
    """The rows of a group, those of `fit` left out, with their features and ids."""
    kept = [i for i, g in enumerate(table.fit_groups) if not g[column] and all(str(g[c]) == t for c, t in wanted.items())]
    slab = {k: options[k] for k in ("delta", "directions", "held_out") if k in options}
    rest = {k: v for k, v in options.items() if k not in slab}
    rows = rows_with_sets(table, fit, [table.fit_rows[i] for i in kept], rest)
    groups = [table.fit_groups[i] for i in kept]
    features = [g["features"] if isinstance(g["features"], list) else [g["features"]] for g in groups]
    return worst_slab(rows, features, [g["id"] for g in groups], **slab)


def abstained(table, case, wanted, **options):
    """A policy of one label, a set or no answer; `wanted` are the groups of the rows judged."""
    if not table.logits and any(not 0 <= v <= 1 for _, values, _ in table.fit_rows for v in (values if table.width else [values])):
        raise Undefined("not_probability")
    if table.weighted:
        raise Undefined("not_defined")
    column, fit, others = option(case, "--calibration"), [], []
    with localcontext() as context:
        context.prec = 60
        for (y, values, _), g in zip(table.fit_rows, table.fit_groups):
            row = (y, conformal_masses(table, values), g.get("id"))
            if g[column]:
                fit.append(row)
            elif all(str(g[c]) == text for c, text in wanted.items()):
                others.append(row)
    found = abstention.value(fit, others, quantile_rank, **options)
    if isinstance(found, str):
        raise Undefined(found)
    return found


# ---- averages -----------------------------------------------------------------------------------


def value_or_none(metric, rows, options):
    try:
        return metric(rows, **options)
    except Undefined:
        return None


def mean_of_defined(values):
    """Mean of (value or None, mass) over the values that are defined."""
    defined = [(v, w) for v, w in values if v is not None]
    if not defined:
        raise Undefined("all_undefined")
    return sum(v * w for v, w in defined) / sum(w for _, w in defined)


def one_vs_rest(table, rows, k):
    if table.task == "multilabel":
        return [(y[k], v[k], w) for y, v, w in rows]
    return [(int(y == k), v[k], w) for y, v, w in rows]


def averaged(table, rows, metric, options, average):
    classes = [one_vs_rest(table, rows, k) for k in range(table.width)]
    if average == "micro":
        return metric([row for k in classes for row in k], **options)
    if average == "samples":
        per_row = [([(yk, vk, 1) for yk, vk in zip(y, v)], w) for y, v, w in rows]
        return mean_of_defined([(value_or_none(metric, r, options), w) for r, w in per_row if w])
    if average.startswith("ovo_"):
        pairs = []
        for a in range(table.width):
            for b in range(a + 1, table.width):
                both = [row for row in rows if row[0] in (a, b)]
                ab = value_or_none(metric, one_vs_rest(table, both, a), options)
                ba = value_or_none(metric, one_vs_rest(table, both, b), options)
                share = sum(w for _, _, w in both) if average == "ovo_weighted" else 1
                pairs.append((None if ab is None or ba is None else (ab + ba) / 2, share))
        return mean_of_defined(pairs)
    values = [value_or_none(metric, k, options) for k in classes]
    positive = [sum(w for y, _, w in k if y) if average == "weighted" else 1 for k in classes]
    return mean_of_defined(list(zip(values, positive)))


# ---- a case -------------------------------------------------------------------------------------


def split_metrics(text):
    """'a,b(x=1,y=2)' -> [('a', {}), ('b', {'x': '1', 'y': '2'})]."""
    found = []
    for name, _, options in re.findall(r"(\w+)(\(([^)]*)\))?", text):
        found.append((name, dict(o.split("=") for o in options.split(",") if o)))
    return found


class Table:
    """What the oracle knows of a case: rows (label, value or values, mass) and the groups of each."""

    def __init__(self, case, probabilities=False):
        self.task = case.task
        columns = [Column(c) for c in case.columns.split()]
        names = {c.name for c in columns}
        self.logits = "logits" in names
        self.weighted = "weight" in names
        scores = next(n for n in ("score", "probs", "logits") if n in names)
        self.width = next(c.width for c in columns if c.name == scores)
        drop, positive_label = "--nan drop" in case.options, option(case, "--pos-label")
        self.rows, self.groups = [], []
        for line in case.rows:
            cells, row = line.split(), {}
            for c in columns:
                taken = [round_to(c.dtype, t) for t in cells[: c.width or 1]]
                row[c.name] = taken if c.width else taken[0]
                cells = cells[c.width or 1 :]
            assert not cells, line
            label, values = row["label"], row[scores]
            if positive_label:
                label = int(label == positive_label)
            weight = row.get("weight", 1.0)
            flat = values if self.width else [values]
            in_domain = {
                "binary": lambda: label in (0, 1),
                "multiclass": lambda: label in range(self.width),
                "multilabel": lambda: all(y in (0, 1) for y in label),
            }[self.task]()
            good = all(map(math.isfinite, [*flat, weight])) and weight >= 0 and in_domain
            assert good or drop, line
            if not good:
                continue
            mass = Fraction(weight) * MASS_UNIT
            assert mass.denominator == 1, "weights are multiples of 2^-40"
            if self.task == "binary":
                label = int(label)
            self.rows.append((label, values, int(mass)))
            self.groups.append({n: row[n] for n in names})
        self.fit_rows, self.fit_groups = list(self.rows), list(self.groups)
        split = option(case, "--split")
        if split:
            self.calibration = option(case, "--calibration")
            keep = [bool(g[self.calibration]) == (split == "calibration") for g in self.groups]
            self.rows = [row for row, kept in zip(self.rows, keep) if kept]
            self.groups = [g for g, kept in zip(self.groups, keep) if kept]
        ranked = any(metric in RANKING for metric, _ in split_metrics(case.metrics))
        if self.logits and probabilities:
            self.turn_into_probabilities()
        elif self.logits and self.task == "multiclass" and ranked:
            self.rank_by_softmax()

    def turn_into_probabilities(self):
        with localcontext() as context:
            context.prec = 60
            for i, (y, values, w) in enumerate(self.rows):
                e = [Decimal(v).exp() for v in (values if self.width else [values, 0])]
                p = [float(x / sum(e)) for x in e]
                self.rows[i] = (y, p if self.width else p[0], w)

    def rank_by_softmax(self):
        """Replaces logits by ranks of their softmax: only its order is used, never its value."""
        with localcontext() as context:
            context.prec = 60
            soft = []
            for _, values, _ in self.rows:
                e = [Decimal(v).exp() for v in values]
                soft.append([x / sum(e) for x in e])
            cells = sorted((p, i, k) for i, r in enumerate(soft) for k, p in enumerate(r))
            rank, ranks = 0, [[0] * self.width for _ in soft]
            for n, (p, i, k) in enumerate(cells):
                if n:
                    q, j, m = cells[n - 1]
                    same = self.rows[i][1] == self.rows[j][1] and k == m
                    # Equal logits give equal bits; any other two must be apart in double.
                    assert same or p - q > Decimal("1e-9") * p, "softmax values too close"
                    rank += not same
                ranks[i][k] = rank
        self.rows = [(y, r, w) for (y, _, w), r in zip(self.rows, ranks)]

    def halves(self, case, wanted):
        """(rows to fit on, the others) among those whose groups are wanted: {column: text}."""
        column, both = option(case, "--calibration"), ([], [])
        for row, g in zip(self.fit_rows, self.fit_groups):
            if all(str(g[c]) == text for c, text in wanted.items()):
                both[0 if g[column] else 1].append(row)
        return both

    def values_of(self, columns):
        """The group values that occur, in the order of the columns; unknown ones belong to none."""
        found = {tuple(str(g[c]) for c in columns) for g in self.groups}
        return sorted(v for v in found if not any(x in ("-1", "nan", "") for x in v))

    def subset(self, columns, values):
        wanted = [tuple(str(g[c]) for c in columns) == values for g in self.groups]
        return [row for row, keep in zip(self.rows, wanted) if keep]


def option(case, name):
    words = case.options.split()
    return words[words.index(name) + 1] if name in words else None


def write_value(value, tolerance):
    if value.numerator >= 2**53 or value.denominator >= 2**53:
        value = Fraction(value.numerator / value.denominator)  # int / int is correctly rounded
    return f"{value.numerator}/{value.denominator}{tolerance}"


def tolerance_of(metric, options, average):
    if metric == "brier":
        return EPSILON["brier"]
    interpolated = "max_fpr" in options or options.get("interpolation") == "linear"
    if average not in (None, "micro") or metric in ROUNDED_MORE_THAN_ONCE or interpolated:
        return EPSILON["average"]
    return EPSILON.get(metric, "")


def expected_lines(case):
    """Every expected line of a case, metric by metric: overall, its classes, then the groups."""
    table = Table(case)
    lines = []
    by_class = "--by-class" in case.options
    columns = option(case, "--group").split(",") if "--group" in case.options else []

    def segments_of(table):
        segments = [("", table.rows)]
        for c in columns:
            segments += [(f" group={c}:{v[0]}", table.subset([c], v)) for v in table.values_of([c])]
        if "--intersect" in case.options:
            for v in table.values_of(columns):
                name = ",".join(f"{c}:{x}" for c, x in zip(columns, v))
                segments.append((f" group={name}", table.subset(columns, v)))
        return segments

    segments = segments_of(table)
    confident = segments_of(Table(case, probabilities=True)) if table.logits else segments

    def add(key, tolerance, compute):
        try:
            lines.append(f"{key} = {write_value(compute(), tolerance)}")
        except Undefined as reason:
            lines.append(f"{key} = undefined {reason}")

    for metric, options in split_metrics(case.metrics):
        options = dict(options)
        average = options.pop("average", None)
        if table.task != "binary" and metric in RANKING:
            average = average or "macro"
        text = "(" + ",".join(f"{k}={v}" for k, v in options.items()) + ")" if options else ""
        suffix = f" average={average}" if average else ""
        tolerance = tolerance_of(metric, options, average)
        if metric == "xauc":
            (column,) = columns
            for a in table.values_of(columns):
                for b in table.values_of(columns):
                    if a != b:
                        add(f"xauc group={column}:{a[0]}|{b[0]}", "", lambda: xauc(table, columns, a, b))
            continue
        if metric == "es_auroc":
            add("es_auroc", tolerance, lambda: equity_scaled(table, columns))
            continue
        if metric in CALIBRATION:
            # A probability from a logit is a double within a few units in the last place.
            tolerance = " rel=1e-13"
            if table.logits or metric in ("mmce", "skce"):
                tolerance = " rel=1e-11"
            if table.task == "multilabel":
                average = average or "macro"
                text += f" average={average}"
            for (group, _), (_, rows) in zip(segments, confident):
                if table.task == "multiclass" and metric == "skce":
                    add(metric + text + group, " rel=1e-9", lambda: pairs_of_vectors(table, rows, **options))
                elif table.task == "multilabel":
                    value = functools.partial(calibration_of_label, table, metric)
                    add(metric + text + group, tolerance, lambda: averaged(table, rows, value, options, average))
                else:
                    add(metric + text + group, tolerance, lambda: calibration(table, rows, metric, **options))
            continue
        for group, rows in segments:
            if metric in OF_MOMENTS:
                close = " rel=1e-5" if metric == "smooth_ece" else " rel=1e-11"
                add(metric + text + group, close, lambda: of_moments(table, rows, metric, **options))
            elif metric in FITTED:
                wanted = dict(part.split(":") for part in group[7:].split(",")) if group else {}
                halves = table.halves(case, wanted)
                add(metric + text + group, " rel=1e-10", lambda: fitted(table, halves, metric, **options))
            elif metric in OF_SETS:
                wanted = dict(part.split(":") for part in group[7:].split(",")) if group else {}
                if modes.OPTIONS & options.keys():
                    add(metric + text + group, "", lambda: sets_by_mode(table, case, metric, wanted, **options))
                    continue
                fit, others = table.halves(case, {})[0], table.halves(case, wanted)[1]
                add(metric + text + group, "", lambda: of_sets(table, fit, others, metric, **options))
            elif metric in OF_SET_METRICS:
                wanted = dict(part.split(":") for part in group[7:].split(",")) if group else {}
                fit, others = table.halves(case, {})[0], table.halves(case, wanted)[1]
                if metric == "worst_slab_coverage":
                    column = option(case, "--calibration")
                    add(metric + text + group, "", lambda: of_slabs(table, fit, wanted, column, options))
                    continue
                close = EPSILON["average"] if metric in ("cov_gap", "macro_coverage", "uacc") else ""
                add(metric + text + group, close, lambda: of_set_metrics(table, fit, others, metric, **options))
            elif metric in abstention.METRICS:
                wanted = dict(part.split(":") for part in group[7:].split(",")) if group else {}
                add(metric + text + group, " rel=1e-13", lambda: abstained(table, case, wanted, **options))
            elif metric not in RANKING:
                add(metric + text + group, tolerance, lambda: decision(table, rows, metric, **options))
            elif table.task == "binary":
                add(metric + text + group, tolerance, lambda: RANKING[metric](rows, **options))
            else:
                function = RANKING[metric]
                add(
                    metric + text + suffix + group,
                    tolerance,
                    lambda: averaged(table, rows, function, options, average),
                )
                if by_class and average == "macro":
                    for k in range(table.width):
                        add(
                            f"{metric}{text} class={k}{group}",
                            tolerance_of(metric, options, None),
                            lambda: function(one_vs_rest(table, rows, k), **options),
                        )
    return lines


def regression_lines(case):
    """Every expected line of a regression case: overall, then the groups."""
    columns = [Column(c) for c in case.columns.split()]
    rows = []
    for line in case.rows:
        cells = line.split()
        row = {c.name: round_to(c.dtype, t) for c, t in zip(columns, cells)}
        numbers = [v for v in row.values() if not isinstance(v, str)]
        good = all(map(math.isfinite, numbers)) and row.get("sigma", 1) > 0
        good = good and row.get("lower", 0) <= row.get("upper", math.inf)
        assert good or "--nan drop" in case.options, line
        if good:
            rows.append({k: v if isinstance(v, str) else v if k == "c" else float(v) for k, v in row.items()})
            rows[-1]["text"] = {c.name: str(row[c.name]) for c in columns}
    named = option(case, "--group").split(",") if "--group" in case.options else []
    half, split = option(case, "--calibration"), option(case, "--split")
    segments = [("", {})]
    attributes = [[c] for c in named] + ([named] if "--intersect" in case.options else [])
    for attribute in attributes:
        for values in sorted({tuple(r["text"][c] for c in attribute) for r in rows}):
            wanted = dict(zip(attribute, values))
            segments.append((" group=" + ",".join(f"{c}:{v}" for c, v in wanted.items()), wanted))
    lines = []
    for metric, options in split_metrics(case.metrics):
        text = "(" + ",".join(f"{k}={v}" for k, v in options.items()) + ")" if options else ""
        for group, wanted in segments:
            own = [r for r in rows if all(r["text"][c] == v for c, v in wanted.items())]
            kept = [r for r in own if not split or bool(r[half]) == (split == "calibration")]
            fit = [r for r in rows if half and r[half]]
            others = [r for r in own if not half or not r[half]]
            key = f"{metric}{text}{group}"
            try:
                value = intervals.value_of(
                    metric, fit, others, kept, lambda r: [r["text"][c] for c in named], quantile_rank, half is not None,
                    any("weight" == c.name for c in columns), **options,
                )  # fmt: skip
                if isinstance(value, float) and math.isinf(value):
                    lines.append(f"{key} = {'-' if value < 0 else ''}1/0")
                else:
                    close = " rel=1e-13" if metric == "cwc" else ""
                    lines.append(f"{key} = {write_value(Fraction(value), close)}")
            except intervals.Missing as reason:
                lines.append(f"{key} = undefined {reason}")
    return lines


def xauc(table, columns, a, b):
    positives = [(s, w) for y, s, w in table.subset(columns, a) if y]
    negatives = [(s, w) for y, s, w in table.subset(columns, b) if not y]
    for side, reason in ((positives, "no_positive"), (negatives, "no_negative")):
        if not any(w for _, w in side):
            raise Undefined(reason)
    return Fraction(
        twice_wins(positives, negatives),
        2 * sum(w for _, w in positives) * sum(w for _, w in negatives),
    )


def equity_scaled(table, columns):
    overall = auroc(table.rows)
    groups = [value_or_none(auroc, table.subset(columns, v), {}) for v in table.values_of(columns)]
    return overall / (1 + sum(abs(g - overall) for g in groups if g is not None))


class Case:
    def __init__(self, name, description, metrics, columns, rows, task="binary", options="", error=""):
        self.name, self.description, self.task = name, description, task
        self.metrics, self.columns, self.options, self.error = metrics, columns, options, error
        self.rows = [r.strip() for r in rows.strip().splitlines()] if isinstance(rows, str) else rows

    def text(self):
        lines = [f"# name: {self.name}", f"# description: {self.description}"]
        lines += ["# written by scripts/gen_golden.py", f"task {self.task}", f"metrics {self.metrics}"]
        lines += [f"options {self.options}"] if self.options else []
        lines += [f"columns {self.columns}", *self.rows, "----"]
        compute = {
            "regression": regression_lines,
            "verification": functools.partial(verification.lines, sys.modules[__name__]),
        }.get(self.task, expected_lines)
        lines += [f"error {self.error}"] if self.error else compute(self)
        return "\n".join(lines) + "\n"


# ---- the cases ----------------------------------------------------------------------------------

# Every ranking metric, so that a case asks for all of them unless it is about one.
POINTS = (
    "tpr_at_fpr,tpr_at_fpr(target=0.25),fpr_at_tpr,precision_at_recall,recall_at_precision,"
    "recall_at_precision(target=0.7),f_beta_max,f_beta_max(beta=2),f_beta_max(beta=0.5)"
)
LINEAR = (
    "tpr_at_fpr(target=0.1,interpolation=linear),tpr_at_fpr(target=0.3,interpolation=linear),"
    "fpr_at_tpr(target=0.9,interpolation=linear),fpr_at_tpr(target=0.4,interpolation=linear)"
)
AREAS = "auroc,gini,auprc,auprc(method=trapezoid),ks,eer"
PARTIAL = "auroc(max_fpr=0.25),auroc(max_fpr=0.5),auroc(max_fpr=0.1),auroc(max_fpr=1)"
AVERAGES = (
    "auroc,auroc(average=weighted),auroc(average=micro),auprc,auprc(average=weighted),"
    "auprc(average=micro),ks,f_beta_max"
)
OVO = "auroc(average=ovo_macro),auroc(average=ovo_weighted)"

SCORE = "label:u8 score:f32"
FOUR_ROWS = "0 0.1\n1 0.9\n0 0.4\n1 0.35"


def wrong_usage():
    def wrong(name, description, metrics, text, columns=SCORE, rows=FOUR_ROWS, **more):
        return Case(name, description, metrics, columns, rows, error=f"2 {text}", **more)

    multiclass = dict(columns="label:i64 probs[3]:f32", rows="0 0.5 0.25 0.25\n2 0.25 0.25 0.5")
    return [
        wrong("unknown_metric", "a misspelt metric names the nearest one", "aurco", "did you mean 'auroc'"),
        wrong("unknown_option", "a misspelt option names the nearest one", "auroc(max_fp=0.5)", "max_fpr"),
        wrong("option_value", "a method that does not exist", "auprc(method=stair)", "method"),
        wrong("option_range", "a rate above one", "tpr_at_fpr(target=1.5)", "target"),
        wrong("max_fpr_zero", "no area below a rate of zero", "auroc(max_fpr=0)", "max_fpr"),
        wrong("beta_negative", "beta is positive", "f_beta_max(beta=-1)", "beta"),
        wrong("samples_multiclass", "the samples average is for multilabel", "auroc(average=samples)",
              "samples", task="multiclass", **multiclass),
        wrong("es_without_group", "an equity-scaled value needs a group", "es_auroc", "--group"),
        wrong("xauc_without_group", "cross-group AUROC needs a group", "xauc", "--group"),
        wrong("fit_without_calibration", "a fit needs rows to fit on", "platt", "--calibration"),
        wrong("temperature_of_probabilities", "a temperature divides logits", "temperature", "--logits",
              options="--calibration c", columns="label:u8 score:f32 c:bool", rows="0 0.1 1\n1 0.9 0"),
    ]  # fmt: skip


def bad_input():
    def bad(name, description, text, columns, rows, **more):
        return Case(name, description, "auroc", columns, rows, error=f"3 {text}", **more)

    return [
        bad("label_missing", "no column for the label", "label", "score:f32 h:f32", FOUR_ROWS),
        bad("label_ambiguous", "two candidates for the label, both named", "target",
            "label:u8 score:f32 target:u8", "0 0.1 0\n1 0.9 1"),
        bad("label_two", "2 is no binary label", "label", SCORE, "0 0.1\n2 0.9\n1 0.4"),
        bad("label_half", "0.5 is no label", "label", "label:f64 score:f32", "0 0.1\n0.5 0.9\n1 0.4"),
        bad("label_beyond_classes", "label 3 of three classes", "label", "label:i64 probs[3]:f32",
            "0 0.5 0.25 0.25\n3 0.25 0.25 0.5", task="multiclass"),
        bad("score_nan", "a score that is not a number", "score", SCORE, "0 0.1\n1 nan\n0 0.4"),
        bad("score_infinite", "an infinite score", "score", SCORE, "0 0.1\n1 0.4\n0 -inf"),
        bad("weight_negative", "a negative weight", "weight", SCORE + " weight:f64",
            "0 0.1 1\n1 0.9 -0.5"),
        bad("weight_nan", "a weight that is not a number", "weight", SCORE + " weight:f64",
            "0 0.1 1\n1 0.9 nan"),
        bad("weight_too_small", "a positive weight below half of 2^-64 rounds to zero", "weight",
            SCORE + " weight:f64", "0 0.1 1\n1 0.9 1e-30"),
    ]  # fmt: skip


EXAMPLE_A = "0 0.1\n0 0.4\n1 0.35\n1 0.8\n1 0.4"
EXAMPLE_B = "1 0.9\n1 0.8\n1 0.7\n0 0.6\n0 0.5\n1 0.4\n0 0.3\n0 0.2"
EXAMPLE_C = (".7 .2 .1", ".4 .3 .3", ".1 .8 .1", ".2 .3 .5", ".4 .4 .2", ".1 .2 .7")


def with_column(rows, values):
    return [f"{r} {v}" for r, v in zip(rows.splitlines(), values)]


def documented_examples():
    weighted = SCORE + " weight:f32"
    multiclass = "label:i64 probs[3]:f64"
    everything = f"{AVERAGES},{OVO},accuracy,balanced_accuracy,top_k_accuracy(k=2),brier"
    return [
        Case("example_a", "example A: one tie between a positive and a negative",
             f"{AREAS},{PARTIAL},{POINTS},{LINEAR},accuracy,balanced_accuracy,brier", SCORE, EXAMPLE_A),
        Case("example_a_weights", "example A with weights", f"{AREAS},{PARTIAL},{POINTS},accuracy,balanced_accuracy",
             weighted, with_column(EXAMPLE_A, (1, 2, 1, 1, 0.5))),
        Case("example_a_bootstrap", "example A with counts as weights: the weight 0 makes no threshold",
             f"{AREAS},{POINTS}", weighted, with_column(EXAMPLE_A, (2, 0, 1, 1, 3))),
        Case("example_b", "example B: no ties", f"{AREAS},{PARTIAL},{POINTS},{LINEAR},tpr_at_fpr(target=0.1),"
             "accuracy,accuracy(threshold=0.25)", "label:i64 score:f64", EXAMPLE_B),
        Case("example_c", "example C: three balanced classes", everything, multiclass,
             [f"{y} {r}" for y, r in zip((0, 0, 1, 1, 2, 2), EXAMPLE_C)], "multiclass", "--by-class"),
        Case("example_c_skewed", "example C with classes of three, two and one rows", everything, multiclass,
             [f"{y} {r}" for y, r in zip((0, 0, 0, 1, 1, 2), EXAMPLE_C)], "multiclass", "--by-class"),
        Case("example_c_multilabel", "example C, multilabel: a row of no positive and one of no negative are "
             "left out of the samples average", AVERAGES + ",auroc(average=samples),auprc(average=samples)",
             "label[2]:u8 probs[2]:f64", "1 0 .9 .2\n0 1 .4 .7\n1 1 .35 .6\n0 0 .3 .65", "multilabel", "--by-class"),
        Case("example_f", "example F: positives of one group against negatives of the other",
             "xauc,es_auroc,auroc,auprc", SCORE + " g:str",
             "1 .9 A\n1 .6 A\n0 .5 A\n0 .2 A\n1 .7 B\n1 .4 B\n0 .65 B\n0 .1 B\n0 .3 B", options="--group g"),
    ]  # fmt: skip


def extremes():
    everything = f"{AREAS},{POINTS}"
    decided = ",accuracy,balanced_accuracy,brier"
    return [
        Case("all_ties", "one threshold", everything + decided, SCORE, "1 0.25\n0 0.25\n0 0.25\n1 0.25\n0 0.25"),
        Case("perfect", "every positive above every negative", f"{everything},{PARTIAL},{LINEAR}", SCORE,
             "0 0.1\n1 0.8\n0 0.2\n1 0.9\n0 0.3"),
        Case("reversed", "every positive below every negative: ks is 0, not -1", f"{everything},{PARTIAL},{LINEAR}",
             SCORE, "1 0.1\n0 0.8\n1 0.2\n0 0.9\n1 0.3"),
        Case("only_positives", "what needs a negative is undefined", everything + decided, SCORE, "1 0.1\n1 0.75\n1 0.1"),
        Case("only_negatives", "what needs a positive is undefined", everything + decided, SCORE, "0 0.1\n0 0.75\n0 0.1"),
        Case("one_row", "a single positive", "auroc,auprc,accuracy,brier", SCORE, "1 0.75"),
        Case("empty", "no rows", everything + decided, SCORE, ""),
        Case("zero_weight", "all weights are zero", everything + decided, SCORE + " weight:f32",
             "1 0.9 0\n0 0.1 0\n1 0.4 0"),
        Case("zero_weight_positives", "the positives have no weight: as if they were not there", everything,
             SCORE + " weight:f64", "1 0.9 0\n0 0.1 1\n0 0.7 2\n1 0.4 0"),
        Case("weight_scales", "weights from 2^-40 to 2^40; sums are exact", everything + ",accuracy", SCORE + " weight:f64",
             "1 0.9 9.094947017729282e-13\n0 0.8 1\n1 0.7 1099511627776\n0 0.7 0.5\n1 0.3 3\n0 0.2 1099511627776\n"
             "0 0.95 2.7284841053187847e-12\n1 0.1 0.25"),
        Case("negative_zero", "-0.0 and 0.0 are one score", everything, "label:u8 score:f64",
             "1 -0.0\n0 0.0\n1 0.0\n0 -0.0\n1 5e-324\n0 -5e-324"),
        Case("denormals_f32", "the smallest float is above zero", everything, SCORE,
             "1 1.401298464324817e-45\n0 0\n0 -1.401298464324817e-45\n1 2.802596928649634e-45\n0 1.401298464324817e-45\n"
             "1 1.1754943508222875e-38\n0 1.1754942106924411e-38\n1 -0.0"),
        Case("largest_f32", "scores at both ends of float", everything, SCORE,
             "1 3.4028234663852886e+38\n0 3.4028232635611926e+38\n1 -3.4028234663852886e+38\n0 3.4028234663852886e+38\n"
             "0 -3.4028232635611926e+38\n1 1e30"),
        Case("last_bit_f64", "scores that only double tells apart", everything, "label:i32 score:f64",
             "1 0.5000000000000001\n0 0.5\n1 0.49999999999999994\n0 0.49999999999999989\n1 0.5\n0 0.5000000000000002\n"
             "1 -1.7976931348623157e308\n0 1.7976931348623157e308"),
        Case("f32_ties", "decimals that differ as double and agree as float", everything, SCORE,
             "1 0.1\n0 0.10000000149\n1 0.100000001\n0 0.3\n0 0.30000001\n1 0.3"),
        Case("f16_scores", "half precision: denormals, both zeros, the largest value", everything, "label:bool score:f16",
             "1 65504\n0 65472\n1 5.9604644775390625e-08\n0 0\n1 -0.0\n0 -5.9604644775390625e-08\n1 0.5\n0 0.5\n"
             "1 0.50048828125\n0 -65504\n1 6.103515625e-05\n0 6.097555160522461e-05"),
        Case("bf16_scores", "brain float: 8 bits of precision, the range of float", everything, "label:u8 score:bf16",
             "1 1\n0 0.99609375\n1 1.0078125\n0 1\n1 3.3895313892515355e+38\n0 -3.3895313892515355e+38\n1 -0.0\n0 0\n"
             "1 9.183549615799121e-41"),
        Case("binary_logits", "logits: ranked as they are, a decision is logit > 0", f"{everything},accuracy,"
             "balanced_accuracy,accuracy(threshold=-1)", "label:i64 logits:f32",
             "1 -3.5\n0 -120\n1 0\n0 -0.0\n1 88.75\n0 -1\n0 2.5\n1 2.5\n1 -0.5"),
        Case("threshold_strict", "p > threshold: 0.5 is a negative", "accuracy,balanced_accuracy,accuracy(threshold=0.25),"
             "balanced_accuracy(threshold=0.75),brier", SCORE, "1 0.5\n0 0.5\n1 0.75\n0 0.25\n1 0.25\n1 0.5000001\n0 1\n0 0\n1 1"),
        Case("rates_on_the_edge", "k/10 meets the decimal 0.3 and 0.7 exactly", "tpr_at_fpr(target=0.3),tpr_at_fpr(target=0.7),"
             "fpr_at_tpr(target=0.3),fpr_at_tpr(target=0.7),precision_at_recall(target=0.3),precision_at_recall(target=0.7),"
             "recall_at_precision(target=0.6),auroc(max_fpr=0.3),f_beta_max(beta=0.1)", SCORE,
             [f"{int(c == 'p')} {round(1 - i / 32, 5)}" for i, c in enumerate("npnppnpnnppnpnpnnpnp")]),
        Case("integral_labels", "labels as float", "auroc,auprc,accuracy", "label:f32 score:f32", "1.0 0.9\n0.0 0.1\n0 0.95\n1 0.4"),
        Case("positive_label", "the positive class by name", "auroc,auprc,ks", "label:str score:f64",
             "malignant 0.9\nbenign 0.1\nbenign 0.95\nmalignant 0.4", options="--pos-label malignant"),
    ]  # fmt: skip


def dropped_rows():
    return [
        Case("drop_scores", "rows whose score is no finite number are left out", "auroc,auprc,ks,accuracy", SCORE,
             "1 0.9\n0 nan\n0 0.3\n1 inf\n1 0.2\n0 -inf\n0 0.1\n1 nan", options="--nan drop"),
        Case("drop_labels_and_weights", "so are rows of a foreign label or weight", "auroc,auprc,accuracy",
             "label:i32 score:f32 weight:f64",
             "1 0.9 1\n2 0.8 1\n0 0.3 0.5\n-1 0.7 1\n1 0.2 0.25\n0 0.6 -1\n1 0.5 nan\n0 0.1 1\n0 0.2 inf", options="--nan drop"),
        Case("drop_all", "nothing is left", "auroc,auprc,accuracy", SCORE, "1 nan\n0 inf", options="--nan drop"),
        Case("drop_matrix_rows", "one bad cell drops the row for every class", "auroc,auprc,accuracy",
             "label:i64 probs[3]:f32", "0 0.5 0.25 0.25\n1 0.25 nan 0.5\n2 0.25 0.25 0.5\n1 0.125 0.5 0.375\n1 0.5 0.375 0.125\n"
             "0 0.25 0.5 0.25\n2 inf 0.5 0.25", "multiclass", "--nan drop --by-class"),
    ]  # fmt: skip


def classes_and_groups():
    return [
        Case("missing_class", "class 1 has no rows: undefined, left out of the averages", AVERAGES + "," + OVO +
             ",accuracy,balanced_accuracy", "label:u8 probs[3]:f32",
             "0 0.5 0.25 0.25\n0 0.25 0.5 0.25\n2 0.25 0.25 0.5\n2 0.375 0.125 0.5\n0 0.125 0.125 0.75", "multiclass", "--by-class"),
        Case("one_class", "a single class: no average has a value, but AP of the class is 1", "auroc,auroc(average=weighted),"
             "auroc(average=ovo_macro),auprc,accuracy,balanced_accuracy", "label:i64 probs[3]:f32",
             "1 0.5 0.25 0.25\n1 0.25 0.5 0.25", "multiclass", "--by-class"),
        Case("top_k_ties", "equal classes rank by index: lower first", "accuracy,top_k_accuracy,top_k_accuracy(k=1),"
             "top_k_accuracy(k=2),top_k_accuracy(k=3),top_k_accuracy(k=6),balanced_accuracy", "label:u8 probs[6]:f32",
             "5 0 0 0 0 0 0\n0 0 0 0 0 0 0\n2 0.25 0.25 0.25 0.25 0 0\n3 0.25 0.25 0.25 0.25 0 0\n4 0.125 0.125 0.125 0.125 0.25 0.25\n"
             "5 0.125 0.125 0.125 0.125 0.25 0.25\n1 -0.0 0.0 -0.0 0.0 0 0", "multiclass"),
        Case("multiclass_logits", "logits rank by their softmax: a large logit in a row of large ones is a small probability",
             "auroc,auroc(average=weighted),auprc,accuracy,balanced_accuracy,top_k_accuracy(k=2)", "label:i64 logits[3]:f32",
             "0 10 11.5 8\n0 -3 -4.25 -5\n1 -20 -18 -19.5\n1 0.5 0.125 -0.75\n2 100 101 102.5\n2 -0.25 0.75 0\n0 -3 -4.25 -5\n1 30 28.5 10",
             "multiclass", "--by-class"),
        Case("unknown_group", "-1 is in the overall value and in no group", "auroc,auprc,es_auroc,accuracy",
             SCORE + " g:i32", "1 .9 0\n0 .3 0\n1 .4 -1\n0 .5 -1\n1 .2 1\n0 .1 1\n1 .6 1\n0 .35 0\n1 .3 0\n0 .25 1", options="--group g"),
        Case("single_class_group", "a group of one class is undefined and does not scale the overall value",
             "auroc,auprc,es_auroc,xauc,ks", SCORE + " site:str",
             "1 .9 oslo\n0 .3 oslo\n1 .4 oslo\n1 .5 łódź\n1 .2 łódź\n0 .1 rome\n0 .6 rome\n1 .35 oslo\n0 .45 oslo", options="--group site"),
        Case("intersections", "two group columns and their combinations, one of which does not occur", "auroc,auprc,accuracy",
             SCORE + " sex:str ward:i64",
             "1 .9 f 1\n0 .3 f 1\n1 .4 f 2\n0 .5 f 2\n1 .2 m 1\n0 .1 m 1\n1 .6 m 1\n0 .35 f 1\n1 .3 f 2\n0 .25 m 1\n0 .7 f 3\n1 .8 f 3",
             options="--group sex,ward --intersect"),
        Case("multilabel_gaps", "a label without positives, one without negatives", AVERAGES +
             ",auroc(average=samples),auprc(average=samples)", "label[4]:u8 probs[4]:f32",
             "0 1 1 0 .1 .2 .3 .4\n0 1 0 1 .5 .5 .25 .75\n0 1 1 1 .3 .9 .3 .6\n0 1 0 0 .2 .1 .8 .1", "multilabel", "--by-class"),
    ]  # fmt: skip


def simplex(random, label, classes):
    """Multiples of 1/64 that sum to 1, with more mass on the label now and then."""
    cells = [0] * classes
    for _ in range(64):
        lucky = random.random() < 0.25
        cells[label if lucky else int(random.random() * classes)] += 1
    return " ".join(str(c / 64) for c in cells)


def skewed_class(random, classes):
    return min(int(random.random() ** 2 * classes), classes - 1)


def seeded():
    """Larger tables: many ties, skewed classes, groups of unlike sizes, weights in eighths."""
    cases = []

    def grid(random, y, steps):
        """A score of signal and noise on `steps` + 1 values; sums of dyadic numbers, no libm."""
        u, v = random.random(), random.random()
        return int((u + (v if y else 0.0)) / 2 * steps) / steps

    def group(random):
        return "abcd"[min(int(-4 * random.random() ** 3 + 4), 3)]

    def weight(random):
        return int(random.random() * 25) / 8

    random = Random(20240501)
    rows = []
    for _ in range(2000):
        y = int(random.random() < 0.125)
        rows.append(f"{y} {grid(random, y, 512)} {group(random)}")
    cases.append(Case("seeded_binary", "2000 rows, one in eight positive, 513 score values, four groups",
                      f"{AREAS},{PARTIAL},{POINTS},{LINEAR},xauc,es_auroc,accuracy,balanced_accuracy,brier",
                      SCORE + " g:str", rows, options="--group g"))  # fmt: skip

    random = Random(20240502)
    rows = []
    for _ in range(1000):
        y = int(random.random() < 0.4)
        rows.append(f"{y} {grid(random, y, 256)} {weight(random)} {group(random)}")
    cases.append(Case("seeded_binary_weighted", "1000 rows with weights in eighths, zero among them",
                      f"{AREAS},{PARTIAL},{POINTS},{LINEAR},xauc,es_auroc,accuracy,balanced_accuracy,brier",
                      SCORE + " weight:f32 g:str", rows, options="--group g"))  # fmt: skip

    random = Random(20240503)
    rows = []
    for _ in range(1500):
        y = int(random.random() < 0.3)
        rows.append(f"{y} {repr(grid(random, y, 2048) * 16 - 8)}")
    cases.append(Case("seeded_logits_f16", "1500 half-precision logits", f"{AREAS},{POINTS},accuracy",
                      "label:u8 logits:f16", rows))  # fmt: skip

    random = Random(20240504)
    rows = []
    for _ in range(800):
        y = int(random.random() < 0.5)
        rows.append(f"{y} {(random.random() + y * random.random()) / 2!r}")
    cases.append(Case("seeded_f64", "800 doubles, no ties", f"{AREAS},{PARTIAL},{POINTS},{LINEAR},brier",
                      "label:bool score:f64", rows))  # fmt: skip

    for name, seed, weights, count in (
        ("seeded_multiclass", 5, False, 500),
        ("seeded_multiclass_weighted", 6, True, 300),
    ):
        random = Random(20240500 + seed)
        rows = []
        for _ in range(count):
            y = skewed_class(random, 5)
            cells = [str(y), simplex(random, y, 5)] + ([str(weight(random))] if weights else []) + [group(random)]
            rows.append(" ".join(cells))
        cases.append(Case(name, f"{count} rows, five skewed classes, four groups" + (", weights in eighths" if weights else ""),
                          f"{AVERAGES}{'' if weights else ',' + OVO},auprc(method=trapezoid),accuracy,balanced_accuracy,"
                          "top_k_accuracy(k=2),top_k_accuracy(k=3),brier",
                          f"label:i64 probs[5]:f32{' weight:f64' if weights else ''} g:str", rows, "multiclass",
                          "--group g --by-class"))  # fmt: skip

    for name, seed, weights, count in (
        ("seeded_multilabel", 7, False, 400),
        ("seeded_multilabel_weighted", 8, True, 300),
    ):
        random = Random(20240500 + seed)
        rows = []
        for _ in range(count):
            labels = [int(random.random() < share) for share in (0.5, 0.2, 0.05, 0.8)]
            cells = [str(y) for y in labels] + [str(grid(random, y, 64)) for y in labels]
            rows.append(" ".join(cells + ([str(weight(random))] if weights else []) + [group(random)]))
        cases.append(Case(name, f"{count} rows, four labels, four groups" + (", weights in eighths" if weights else ""),
                          f"{AVERAGES},auroc(average=samples),auprc(average=samples)",
                          f"label[4]:u8 probs[4]:f32{' weight:f32' if weights else ''} g:str", rows, "multilabel",
                          "--group g --by-class"))  # fmt: skip
    return cases


EXAMPLE_H = "0 0\n0 .1\n1 .2\n0 .25\n1 .5\n0 .5\n1 .6\n1 .8\n0 .9\n1 1"
BINNED = ("ece(bins=4),ece(bins=4,closed=left),ece(bins=4,preset=torchmetrics),ece(bins=4,preset=netcal),"
          "ece(bins=4,preset=mapie),mce(bins=4),mce(bins=4,closed=left),mce(bins=4,preset=torchmetrics),rmsce(bins=4),"
          "rmsce(bins=4,closed=left),rmsce(bins=4,preset=torchmetrics),average_ce(bins=4),average_ce(bins=4,closed=left)")  # fmt: skip
DEFAULTS = "ece,mce,rmsce,average_ce,ece(preset=torchmetrics),ece(preset=netcal),ece(norm=l2),ece(norm=max)"
OF_CLASSES = ("classwise_ece,classwise_ece(reduction=pooled),ece_by_predicted_class,"
              "ece_by_predicted_class(weighting=classes,preset=mapie)")  # fmt: skip


def calibrated():
    edges = [f"{k % 2} {k / b!r}" for b in (5, 10, 15, 100) for k in range(b + 1)]
    cases = [
        Case("example_h", "example H: confidences on the edges of four bins, 0 and 1 among them",
             f"{BINNED},ece_top_label(bins=4),rmsce(bins=4,debias=true)", "label:i64 score:f64", EXAMPLE_H),
        Case("example_i", "example I: two bins of fifty rows, debiased", "rmsce(bins=2),rmsce(bins=2,debias=true)",
             "label:i64 score:f64",
             [f"{int(i < n)} {p}" for p, n in ((".3", 18), (".7", 30)) for i in range(50)]),
        Case("example_c_bins", "example C: every class, the predicted one, and apart by it",
             "classwise_ece(bins=5),ece(bins=5),ece_by_predicted_class(bins=5),"
             f"ece_by_predicted_class(bins=5,weighting=classes),{OF_CLASSES}", "label:i64 probs[3]:f64",
             [f"{y} {r}" for y, r in zip((0, 0, 1, 1, 2, 2), EXAMPLE_C)], "multiclass"),
        Case("edges", "confidences that are k/B as doubles, and bins of other widths",
             ",".join(f"ece(bins={b},closed={c}),mce(bins={b},closed={c})" for b in (1, 3, 5, 10, 15, 20, 50, 100)
                      for c in ("right", "left")) + ",ece_top_label(bins=10)", "label:i64 score:f64", edges),
        Case("more_bins_than_rows", "a thousand bins, and one row", "ece(bins=1000),average_ce(bins=1000),mce(bins=65536)",
             "label:i64 score:f64", "1 0.375"),
        Case("equal_confidences", "all confidences equal", f"{DEFAULTS},ece_top_label", "label:i64 score:f32",
             "1 .25\n0 .25\n0 .25\n1 .25\n0 .25"),
        Case("no_rows_to_bin", "no row", "ece,mce,average_ce,ece_top_label", "label:i64 score:f64", []),
        Case("no_weight_to_bin", "all weights are zero", "ece,rmsce", "label:i64 score:f64 weight:f64", "1 .5 0\n0 .25 0"),
    ]  # fmt: skip
    random = Random(20240600)
    rows = []
    for _ in range(600):
        p = random.randrange(0, 1025) / 1024
        rows.append(f"{int(random.random() < p)} {p} {random.randrange(0, 17) / 8} {random.choice('abc')}")
    cases.append(Case("seeded_bins", "600 rows, three groups, weights in eighths, some zero",
                      f"{DEFAULTS},ece_top_label,ece(bins=1)", "label:u8 score:f32 weight:f64 g:str", rows,
                      options="--group g"))
    rows = []
    for _ in range(400):
        y = skewed_class(random, 5)
        rows.append(f"{y} {simplex(random, y, 5)} {random.randrange(0, 9) / 4} {random.choice('ab')}")
    cases.append(Case("seeded_bins_multiclass", "400 rows, five skewed classes, weights in quarters",
                      f"{DEFAULTS},{OF_CLASSES}", "label:i64 probs[5]:f32 weight:f32 g:str", rows, "multiclass",
                      "--group g"))  # fmt: skip
    return cases


def of_second_moments():
    metrics = "smooth_ece(sigma=0.05),smooth_ece(sigma=0.2),spiegelhalter_z,brier_skill"
    cases = [
        Case("example_h_smooth", "example H: residuals at 0 and 1 keep their mass", metrics, "label:i64 score:f64", EXAMPLE_H),
        Case("certain", "no variance: Spiegelhalter's statistic does not exist", metrics, "label:i64 score:f64",
             "1 1\n0 0\n1 0.5\n0 1"),
        Case("one_class_skill", "all rows positive: no reference to be better than", metrics, "label:i64 score:f64",
             "1 1\n1 0.25\n1 0.5"),
    ]  # fmt: skip
    random = Random(20261124)
    for weight in ("", " weight:f64"):
        rows, of_classes = [], []
        for _ in range(80):
            p = random.randrange(0, 257) / 256
            cells = [f"{random.randrange(0, 17) / 8}"] if weight else []
            rows.append(" ".join([f"{int(random.random() < p * p)} {p}", *cells, random.choice("abc")]))
            y = skewed_class(random, 4)
            of_classes.append(" ".join([f"{y} {simplex(random, y, 4)}", *cells, random.choice("ab")]))
        name = "weighted" if weight else "counted"
        cases.append(Case(f"seeded_moments_{name}", "80 rows, three groups", metrics, f"label:u8 score:f32{weight} g:str",
                          rows, options="--group g"))  # fmt: skip
        cases.append(Case(f"seeded_moments_multiclass_{name}", "80 rows, four skewed classes", metrics,
                          f"label:i64 probs[4]:f32{weight} g:str", of_classes, "multiclass", "--group g"))  # fmt: skip
    return cases


MASS = "ece(binning=mass),ece(binning=mass,norm=l2),mce(binning=mass),rmsce(binning=mass),average_ce(binning=mass)"
SWEPT = "ece_sweep,ece_sweep(norm=l2),ece_sweep(binning=width),ece_sweep(binning=width,norm=l2)"
CUMULATIVE = "ks_calibration,kuiper_calibration"
KERNEL = "mmce,mmce(nu=0.05),skce(nu=0.4,estimator=biased),skce(nu=0.4),skce,skce(estimator=biased)"
EVERY_SORTED = f"{MASS},ece_top_label(binning=mass),ace,tace,{SWEPT},{CUMULATIVE}"
OF_SORTED_CLASSES = (f"{MASS},classwise_ece(binning=mass),classwise_ece(binning=mass,norm=l2),"
                     "classwise_ece(binning=mass,norm=max,bins=4),ece_by_predicted_class(binning=mass,bins=4),"
                     "ece_by_predicted_class(binning=mass,weighting=classes),"
                     f"ace,ace(bins=3),tace,tace(threshold=0.2),{SWEPT},{CUMULATIVE},mmce")  # fmt: skip


def wrong_binning():
    def wrong(name, description, metrics, text, columns=SCORE, rows=FOUR_ROWS, **more):
        return Case(name, description, metrics, columns, rows, error=f"2 {text}", **more)

    several = dict(columns="label:i64 probs[3]:f32", rows="0 0.5 0.25 0.25\n2 0.25 0.25 0.5", task="multiclass")
    return [
        wrong("mass_closed", "edges have no side where ties share a bin", "ece(binning=mass,closed=left)", "closed"),
        wrong("mass_preset", "a preset has its own bins", "ece(binning=mass,preset=netcal)", "'ece' takes preset="),
        wrong("mass_pooled", "no sorted set of all classes", "classwise_ece(binning=mass,reduction=pooled)",
              "reduction=pooled", **several),
        wrong("split_classwise", "of one set alone", f"classwise_ece(preset={SPLIT})", f"preset={SPLIT}", **several),
        wrong("split_l1_debias", "debiasing is of squares", f"ece(preset={SPLIT},norm=l1,debias=true)", "debias=true"),
    ]  # fmt: skip


def calibrated_in_order():
    """What reads sorted confidences: wrong usage, the examples of the definitions, what is at the edge, seeded rows."""
    random = Random(20240701)
    split = [f"{int(random.random() < 0.5)} {random.randrange(0, 4001) / 4000}" for _ in range(97)]
    few = "1 .5 0\n0 .25 1\n1 .25 2\n0 .75 0.5\n1 .75 0\n1 .9 3\n0 .6 0.25\n0 0 0\n1 1 0"
    cases = wrong_binning() + [
        Case("sorted_example_h", "example H: equal confidences share a bin, sizes 3, 3, 2 and 2",
             f"{EVERY_SORTED},ece(binning=mass,bins=4),mce(binning=mass,bins=4),ece(binning=mass,bins=1),"
             f"ece(binning=mass,bins=10),ece(binning=mass,bins=1000),rmsce(binning=mass,bins=4,debias=true),"
             f"ece(preset={SPLIT}),ece(preset={SPLIT},bins=4),{KERNEL},ece_sweep(most_bins=2)",
             "label:i64 score:f64", EXAMPLE_H),
        Case("sorted_example_i", "example I: two values, a bin for each however many bins there are",
             f"rmsce(binning=mass,bins=2,debias=true),rmsce(preset={SPLIT}),rmsce(binning=mass,debias=true)",
             "label:i64 score:f64", [f"{int(i < n)} {p}" for p, n in ((".3", 18), (".7", 30)) for i in range(50)]),
        Case("sorted_example_c", "example C: equal mass by class and by predicted class", OF_SORTED_CLASSES,
             "label:i64 probs[3]:f64", [f"{y} {r}" for y, r in zip((0, 0, 1, 1, 2, 2), EXAMPLE_C)], "multiclass"),
        Case("sorted_edges", "confidences 0, k/B and 1, with repeats", EVERY_SORTED, "label:i64 score:f64",
             [f"{k * b % 3 % 2} {k / b!r}" for b in (1, 3, 5, 10) for k in range(b + 1)]),
        Case("sorted_one_row", "one row: one bin, no pair", f"{EVERY_SORTED},{KERNEL},ece(preset={SPLIT},bins=4)",
             "label:i64 score:f64", "1 0.375"),
        Case("sorted_one_value", "all confidences equal: one bin, median distance 0",
             f"{EVERY_SORTED},{KERNEL},rmsce(preset={SPLIT})", "label:i64 score:f32",
             "1 .25\n0 .25\n0 .25\n1 .25\n0 .25"),
        Case("sorted_perfect", "accuracies rise with every bin: the sweep ends at its limit", SWEPT, SCORE,
             [f"{int(i > 6)} {i / 16}" for i in range(16)]),
        Case("sorted_below_threshold", "nothing above the threshold", "tace,tace(threshold=0.5),ace", SCORE,
             "1 0.005\n0 0.001\n0 0.01"),
        Case("sorted_no_rows", "no row", f"{EVERY_SORTED},mmce,skce", "label:i64 score:f64", []),
        Case("sorted_no_weight", "all weights are zero", f"{EVERY_SORTED},mmce,skce", "label:i64 score:f64 weight:f64",
             "1 .5 0\n0 .25 0"),
        Case("sorted_zero_weights", "rows without weight are in no bin and no pair",
             f"{EVERY_SORTED},mmce,skce,skce(nu=0.4),skce(nu=0.4,estimator=biased),ece(preset={SPLIT})",
             "label:i64 score:f64 weight:f64", few),
        Case("sorted_logits", "binary logits, some so large that their probabilities are equal",
             f"{EVERY_SORTED},mmce,skce(nu=0.4)", "label:i64 logits:f64",
             "1 -3.5\n0 -120\n1 0\n0 -0.0\n1 50\n0 60\n0 -1\n0 2.5\n1 2.5\n1 -0.5\n0 0.125\n1 900"),
        Case("sorted_split", "cuts between values, at ties and at neighbouring values",
             f"ece(preset={SPLIT}),rmsce(preset={SPLIT}),rmsce(preset={SPLIT},bins=20),ece(preset={SPLIT},norm=l1),"
             f"mce(preset={SPLIT}),average_ce(preset={SPLIT},bins=40),ece_top_label(preset={SPLIT}),"
             f"ece(preset={SPLIT},debias=false),ece(preset={SPLIT},bins=97)", "label:i64 score:f64", split),
        Case("sorted_split_neighbours", "halfway between neighbouring doubles is one of them", f"ece(preset={SPLIT},bins=2),"
             f"mce(preset={SPLIT},bins=3),ece(preset={SPLIT},norm=l1)", "label:i64 score:f64",
             "1 0.5\n0 0.5000000000000001\n1 0.5000000000000002\n0 0.49999999999999994\n1 0.4999999999999999\n0 0.5000000000000003"),
        Case("sorted_split_discrete", "fewer than a quarter distinct: a bin each", f"ece(preset={SPLIT}),"
             f"rmsce(preset={SPLIT},bins=2),mce(preset={SPLIT})", "label:i64 score:f64",
             [f"{k % 3 % 2} {k % 5 / 8}" for k in range(60)]),
        Case("sorted_multiclass_logits", "softmax of three classes", OF_SORTED_CLASSES, "label:i64 logits[3]:f32",
             "0 10 11.5 8\n0 -3 -4.25 -5\n1 -20 -18 -19.5\n1 0.5 0.125 -0.75\n2 100 101 102.5\n2 -0.25 0.75 0\n"
             "0 -3 -4.25 -5\n1 30 28.5 10", "multiclass"),
    ]  # fmt: skip
    rows = []
    for _ in range(150):
        p = random.randrange(0, 257) / 256
        rows.append(f"{int(random.random() < p)} {p} {random.choice('abc')}")
    cases.append(Case("seeded_sorted", "150 rows on 257 values, three groups",
                      f"{EVERY_SORTED},{KERNEL},ece(preset={SPLIT})", "label:u8 score:f32 g:str", rows,
                      options="--group g"))  # fmt: skip
    rows = [f"{r} {random.randrange(0, 17) / 8}" for r in rows]
    cases.append(Case("seeded_sorted_weighted", "the same with weights in eighths, some zero",
                      f"{EVERY_SORTED},mmce,skce(nu=0.4,estimator=biased),skce", "label:u8 score:f32 g:str weight:f64",
                      rows, options="--group g"))  # fmt: skip
    rows = []
    for _ in range(200):
        y = skewed_class(random, 5)
        rows.append(f"{y} {simplex(random, y, 5)} {random.randrange(0, 9) / 4} {random.choice('ab')}")
    cases.append(Case("seeded_sorted_multiclass", "200 rows, five skewed classes, weights in quarters",
                      OF_SORTED_CLASSES, "label:i64 probs[5]:f32 weight:f32 g:str", rows, "multiclass",
                      "--group g"))  # fmt: skip
    rows = []
    for _ in range(120):
        labels = [int(random.random() < share) for share in (0.5, 0.2, 0.8)]
        scores = [random.randrange(0, 65) / 64 for _ in labels]
        rows.append(" ".join([*map(str, labels), *map(str, scores), random.choice("ab")]))
    cases.append(Case("seeded_sorted_multilabel", "120 rows, three labels, each sorted for itself and all together",
                      "ece(binning=mass),ece(binning=mass,average=micro),ece_top_label(binning=mass),ace,"
                      "ks_calibration,ks_calibration(average=micro),mmce,ece_sweep,skce(nu=0.4)",
                      "label[3]:u8 probs[3]:f32 g:str", rows, "multilabel", "--group g"))  # fmt: skip
    return cases


EVERY_MAP = ("platt,platt(value=log_loss),platt(value=brier),platt(targets=smoothed),isotonic,isotonic(value=log_loss),"
             "isotonic(value=brier),isotonic(interpolation=step),isotonic(value=brier,interpolation=step)")  # fmt: skip


def fits():
    binary = "label:u8 logits:f64 c:bool"
    maps = f"temperature,{EVERY_MAP}"
    cal = "--calibration c"

    def logits(random, count, weights):
        rows = []
        for _ in range(count):
            y = int(random.random() < 0.4)
            z = round((random.random() + random.random() - 1 + (0.4 if y else -0.3)) * 9, 2)
            half, group = int(random.random() < 0.5), random.choice("abb")
            rows.append(f"{y} {z} {half}" + (f" {random.randrange(0, 9) / 4}" if weights else "") + f" {group}")
        return rows

    cases = [
        Case("temperature_example", "the example of temperature scaling: 1.4713189430; no other rows", "temperature",
             "label:i64 logits[3]:f64 c:bool", "0 2 0 0 1\n1 1 2 0 1\n0 0 3 0 1\n2 0 0 1 1\n0 3 0 0 1", "multiclass", cal),
        Case("fit_binary", "binary logits of twice the sharpness, two groups; other metrics see the test rows",
             f"{maps},auroc,accuracy,xauc", binary + " g:str", logits(Random(20241101), 160, False), options=f"{cal} --split test --group g"),
        Case("fit_binary_weighted", "weights in quarters, zero among them", f"{maps},auroc", "label:u8 logits:f64 c:bool weight:f32 g:str",
             logits(Random(20241102), 160, True), options=f"{cal} --split calibration --group g"),
        Case("fit_probabilities", "probabilities, 0 and 1 among them: their logits are clipped", EVERY_MAP, "label:u8 score:f32 c:u8",
             "0 0 1\n1 0.25 1\n0 0.25 1\n1 1 1\n0 0.5 1\n1 0.75 1\n0 0.875 1\n1 0.125 1\n0 0.375 0\n1 0.9375 0\n0 0 0\n1 1 0\n0 0.625 0\n1 0.3125 0"),
        Case("fit_ties", "few scores, many rows of each", maps, binary,
             [f"{int((i * 7) % 10 < k)} {v} {i % 2}" for k, v in ((1, -2), (4, -0.5), (3, 0.25), (7, 1), (9, 4)) for i in range(20)]),
        Case("all_right", "every calibration row right by a margin: the temperature runs to 0, the slope to infinity",
             f"temperature,{EVERY_MAP}", binary, "1 3 1\n1 2 1\n0 -2.5 1\n0 -4 1\n1 1 0\n0 1.5 0\n0 -1 0"),
        Case("all_wrong", "every calibration row wrong: the temperature runs to infinity, the slope falls",
             f"temperature,{EVERY_MAP}", binary, "0 3 1\n0 2 1\n1 -2.5 1\n1 -4 1\n1 1 0\n0 1.5 0\n0 -1 0"),
        Case("far_right", "so far right that no loss is left at any temperature", "temperature", binary,
             "1 30000 1\n0 -40000 1\n1 1 0"),
        Case("one_class_to_fit_on", "no positive calibration row", maps, binary, "0 3 1\n0 -2 1\n0 0.5 1\n1 1 0\n0 1.5 0"),
        Case("no_calibration_rows", "every row is for testing", f"{maps},auroc", binary, "1 3 0\n0 2 0\n1 -2 0"),
        Case("only_calibration_rows", "no other row", f"{maps},auroc", binary, "1 3 1\n0 2 1\n1 -2 1\n0 -1 1"),
        Case("no_rows_to_fit_on", "no row", f"{maps},auroc", binary, []),
        Case("no_weight_to_fit_on", "the calibration rows weigh nothing", maps, binary + " weight:f32", "1 3 1 0\n0 2 1 0\n1 -2 0 1\n0 1 0 1"),
        Case("equal_scores_to_fit_on", "all calibration scores are one; zero says nothing", "platt,isotonic", binary,
             "1 2 1\n0 2 1\n0 2 1\n1 3 0\n0 1 0"),
        Case("zero_logits", "logits of zero have no temperature", "temperature", binary, "1 0 1\n0 0 1\n1 3 0"),
        Case("margins", "scores outside [0, 1] that are no logits: isotonic alone maps them", "platt,isotonic,isotonic(value=brier)",
             "label:u8 score:f64 c:bool", "1 3 1\n0 2 1\n1 -2 1\n0 -1 1\n0 -5 1\n1 2.5 0\n0 -3 0\n1 0 0"),
    ]  # fmt: skip
    for name, seed, weights in (("fit_classes", 20241103, False), ("fit_classes_weighted", 20241104, True)):
        random = Random(seed)
        rows = []
        for _ in range(100):
            y = skewed_class(random, 4)
            cells = [round((random.random() - 0.5) * 16 + (5 if k == y else 0), 2) for k in range(4)]
            half, group = int(random.random() < 0.6), random.choice("ab")
            rows.append(f"{y} {' '.join(map(str, cells))} {half}" + (f" {random.randrange(0, 9) / 4}" if weights else "") + f" {group}")
        columns = "label:i64 logits[4]:f32 c:bool" + (" weight:f64" if weights else "") + " g:str"
        cases.append(Case(name, "logits of four classes, two groups" + (", weights in quarters" if weights else ""), "temperature,accuracy",
                          columns, rows, "multiclass", f"{cal} --split test --group g"))  # fmt: skip
    classes = "label:i64 logits[3]:f32 c:bool"
    cases += [
        Case("classes_right", "every calibration row right by a margin", "temperature", classes,
             "0 3 0 1 1\n1 0 4 0 1\n2 0 1 5 1\n0 1 2 3 0", "multiclass", cal),
        Case("classes_wrong", "every calibration row wrong", "temperature", classes,
             "0 0 3 1 1\n1 0 -4 0 1\n2 0 1 -5 1\n0 1 2 3 0", "multiclass", cal),
        Case("classes_equal", "the logits of each row are equal", "temperature", classes,
             "0 3 3 3 1\n1 -2 -2 -2 1\n0 1 2 3 0", "multiclass", cal),
        Case("classes_not_split", "every row is for testing", "temperature,accuracy", classes,
             "0 0 3 1 0\n1 0 -4 0 0", "multiclass", cal),
        Case("group_without_fit", "one group has no calibration row, another's is all right", "temperature", classes + " g:str",
             "0 3 0 1 1 a\n1 2 0 0 1 a\n2 0 1 5 1 a\n0 1 2 3 0 b\n1 0 2 0 1 c\n2 0 1 3 1 c\n0 1 0 0 0 c", "multiclass", f"{cal} --group g"),
    ]  # fmt: skip
    for case in cases:
        if "--calibration" not in case.options:
            case.options = cal
    return cases


def of_pairs():
    metrics = "skce,skce(estimator=biased),skce(nu=0.4),skce(nu=0.05,estimator=biased)"
    random = Random(20261125)
    rows = []
    for _ in range(90):
        y = skewed_class(random, 6)
        rows.append(f"{y} {simplex(random, y, 6)} {random.choice('abb')}")
    return [
        Case("example_c_pairs", "example C: vectors of three classes", metrics, "label:i64 probs[3]:f64",
             [f"{y} {r}" for y, r in zip((0, 0, 1, 1, 2, 2), EXAMPLE_C)], "multiclass"),
        Case("one_row_no_pair", "no pair: no median, no unbiased value", metrics, "label:i64 probs[3]:f64",
             "1 0.25 0.5 0.25", "multiclass"),
        Case("equal_rows", "all distances 0", metrics, "label:i64 probs[2]:f32", "1 0.25 0.75\n0 0.25 0.75\n1 0.25 0.75",
             "multiclass"),
        Case("weighted_pairs", "weights are no counts", metrics, "label:i64 probs[2]:f32 weight:f32",
             "1 0.25 0.75 1\n0 0.5 0.5 2", "multiclass"),
        Case("pairs_of_logits", "softmax of two classes", metrics, "label:i64 logits[2]:f64",
             "1 0.25 0.75\n0 -3 4\n1 100 99\n0 0.5 0.625\n0 2 -0.25", "multiclass"),
        Case("seeded_pairs", "90 rows, six skewed classes, two groups", metrics, "label:i64 probs[6]:f32 g:str", rows,
             "multiclass", "--group g"),
    ]  # fmt: skip


def sets():
    """Conformal sets: wrong usage, what is at the edge, seeded rows of every score and quantile."""
    classes, binary, cal = "label:i64 probs[3]:f64 c:bool", "label:u8 score:f64 c:bool", "--calibration c"
    rules = ("exact", "numpy_higher", "mapie_cls", "mapie_reg", "puncc", "crepes")
    scores = ("lac", "aps", "raps", "saps", "topk", "margin")
    few = "0 0.5 0.25 0.25 1\n1 0.25 0.5 0.25 1\n2 0.25 0.5 0.25 0"

    def wrong(name, description, metrics, text, options=cal):
        return Case(name, description, metrics, classes, few, "multiclass", options, error=f"2 {text}")

    def both(*options):
        return ",".join(f"{metric}({text})" for text in options for metric in ("coverage", "set_size"))

    cases = [
        wrong(f"sets_alpha_{name}", "alpha is between 0 and 1, neither of them", f"coverage(alpha={text})",
              "expected a number between 0 and 1, neither of them")
        for name, text in (("zero", "0"), ("one", "1"), ("large", "1.5"), ("text", "abc"), ("negative", "-0.1"))
    ] + [
        wrong("sets_alpha_digits", "more digits than are exact", "coverage(alpha=0.1234567890123456789)", "18 digits"),
        wrong("sets_negative_penalty", "a penalty is not negative", "set_size(conformal=raps,lambda=-0.5)", "a number from 0 to 1000"),
        wrong("sets_penalty_of_lac", "a score without a penalty", "coverage(lambda=0.5)", "lambda is an option of raps and saps"),
        wrong("sets_rank_of_saps", "raps alone has ranks without a penalty", "coverage(conformal=saps,k_reg=1)", "k_reg is an option of raps"),
        wrong("sets_unknown_score", "no such score", "coverage(conformal=asp)", "expected one of lac, aps"),
        wrong("sets_without_calibration", "no rows to take a threshold from", "set_size", "'set_size' takes its threshold from calibration rows", ""),
        Case("sets_penalty_fits", "the largest penalty", both("conformal=saps,lambda=1000,alpha=0.4"), classes, few, "multiclass", cal),
        Case("sets_ties", "equal probabilities: the lower class first", both(*(f"conformal={s},alpha=0.5" for s in scores)), classes,
             "2 0.25 0.25 0.5 1\n0 0.375 0.375 0.25 1\n1 0.375 0.375 0.25 1\n1 0.125 0.4375 0.4375 1\n2 0.125 0.4375 0.4375 1\n"
             "0 0.5 0.5 0 0\n1 0.5 0.5 0 0\n2 0.5 0.5 0 0\n0 0.25 0.375 0.375 0\n1 0.25 0.375 0.375 0\n2 0.375 0.25 0.375 0", "multiclass", cal),
        Case("sets_too_few", "three calibration rows are too few for a tenth: every label", both("empty=keep", "conformal=aps", "quantile=mapie_reg"),
             classes, few + "\n1 0.5 0.25 0.25 1", "multiclass", cal),
        Case("sets_no_calibration_rows", "every row is for testing", "coverage,set_size", classes, "0 0.5 0.25 0.25 0\n1 0.25 0.5 0.25 0", "multiclass", cal),
        Case("sets_no_other_rows", "every row is for calibration", "coverage,set_size", classes, "0 0.5 0.25 0.25 1\n1 0.25 0.5 0.25 1", "multiclass", cal),
        Case("sets_no_rows", "no row", "coverage,set_size", classes, [], "multiclass", cal),
        Case("sets_weighted", "weights are no counts", "coverage,set_size", classes + " weight:f32", "0 0.5 0.25 0.25 1 1\n1 0.25 0.5 0.25 0 2", "multiclass", cal),
        Case("sets_margins", "scores that are no probabilities, in a calibration row alone", "coverage,set_size", binary, "1 3 1\n0 0.25 0\n1 0.75 0", options=cal),
    ]  # fmt: skip
    random = Random(20261201)
    rows = []
    for _ in range(120):
        y = skewed_class(random, 5)
        rows.append(f"{y} {simplex(random, y, 5)} {int(random.random() < 0.5)} {random.choice('aab')}")
    cases.append(Case("seeded_sets", "120 rows, five skewed classes, two groups: every score at two alphas; a group's sets have the threshold of all",
                      both(*(f"conformal={s},alpha={a}" for s in scores for a in ("0.1", "0.35")),
                           "conformal=raps,alpha=0.2,lambda=0.125,k_reg=1", "conformal=saps,alpha=0.2,lambda=0.05",
                           "conformal=saps,alpha=0.2,lambda=0", "alpha=0.7", "alpha=0.7,empty=argmax",
                           "conformal=aps,alpha=0.8,empty=argmax", "conformal=margin,alpha=0.9,empty=argmax"),
                      "label:i64 probs[5]:f32 c:bool g:str", rows, "multiclass", f"{cal} --group g"))  # fmt: skip
    for count in (9, 19, 20):
        kept = [f"{k % 2} {random.randrange(0, 257) / 256} {int(k < count)}" for k in range(count + 25)]
        cases.append(Case(f"sets_of_{count}", f"{count} calibration rows of two classes, every quantile",
                          both(*(f"quantile={r},alpha={a}" for r in rules for a in ("0.1", "0.05", "0.25"))),
                          binary, kept, options=cal))  # fmt: skip
    rows = []
    for _ in range(70):
        y = skewed_class(random, 4)
        cells = [round((random.random() - 0.5) * 6 + (2 if k == y else 0), 2) for k in range(4)]
        rows.append(f"{y} {' '.join(map(str, cells))} {int(random.random() < 0.5)}")
    cases.append(Case("sets_of_logits", "softmax of four classes, the test rows whatever is split", both(*(f"conformal={s},alpha=0.2" for s in scores)),
                      "label:i64 logits[4]:f32 c:bool", rows, "multiclass", f"{cal} --split calibration"))  # fmt: skip
    rows = [f"{int(random.random() < 0.4)} {round(random.random() * 8 - 4, 2)} {int(random.random() < 0.5)}" for _ in range(60)]
    cases.append(Case("sets_of_binary_logits", "two classes of a logistic function", both(*(f"conformal={s},alpha=0.3" for s in scores)),
                      "label:u8 logits:f64 c:bool", rows, options=cal))  # fmt: skip
    return cases


def sets_by_modes():
    """Conformal sets: ties, draws of given keys, thresholds by class, group, cluster and weight."""
    classes, cal = "label:i64 probs[3]:f64 c:bool", "--calibration c"
    few = "0 0.5 0.25 0.25 1\n1 0.25 0.5 0.25 1\n2 0.25 0.5 0.25 0"
    drawing, scores = ("aps", "raps", "saps", "topk"), ("lac", "aps", "raps", "saps", "topk", "margin")

    def wrong(name, description, metrics, text, options=cal):
        return Case(name, description, metrics, classes, few, "multiclass", options, error=f"2 {text}")

    def both(*options):
        return ",".join(f"{metric}({text})" for text in options for metric in ("coverage", "set_size"))

    cases = [
        wrong("modes_draw_lac", "one minus p has no range to draw from", "coverage(randomised=row)", "nothing to draw with conformal=lac"),
        wrong("modes_draw_margin", "nor has a margin", "coverage(conformal=margin,randomised=label)", "nothing to draw with conformal=margin"),
        wrong("modes_unknown", "no such mode", "coverage(mode=classes)", "expected one of marginal, class"),
        wrong("modes_null", "only clusters have a null cluster", "coverage(mode=class,null_cluster=inf)", "an option of mode=cluster"),
        wrong("modes_no_group", "no groups to have thresholds", "coverage(mode=group)", "name the group columns with --group"),
        wrong("modes_no_weight", "no likelihood ratios", "coverage(mode=weighted)", "name their column with --weight"),
        wrong("modes_weighted_rank", "sums of weights have no rank", "coverage(mode=weighted,quantile=crepes)", "leave quantile out"),
    ]  # fmt: skip
    random = Random(20261202)

    def rows_of(count, k, more, grid=16):
        rows = []
        for n in range(count):
            y = skewed_class(random, k)
            rows.append(f"{y} {simplex(random, y, k)} {int(random.random() < 0.5)} {more(n)}".strip())
        return rows

    cases.append(Case("modes_ties", "equal probabilities, one after the other and as a group",
                      both(*(f"conformal={s},alpha={a},ties={t}" for s in scores for a in ("0.5", "0.3") for t in ("index", "group")),
                           *(f"conformal={s},alpha=0.5,ties=group,randomised=row" for s in drawing)),
                      "label:i64 probs[3]:f64 c:bool id:i64",
                      "2 0.25 0.25 0.5 1 1\n0 0.375 0.375 0.25 1 2\n1 0.375 0.375 0.25 1 3\n1 0.125 0.4375 0.4375 1 4\n2 0.125 0.4375 0.4375 1 5\n"
                      "0 0.5 0.5 0 0 6\n1 0.5 0.5 0 0 7\n2 0.5 0.5 0 0 8\n0 0.25 0.375 0.375 0 9\n1 0.25 0.375 0.375 0 10\n2 0.375 0.25 0.375 0 11",
                      "multiclass", cal))  # fmt: skip
    ids = list(range(5, 500, 3))
    random.shuffle(ids)
    cases.append(Case("modes_drawn", "110 rows, five classes: u of a row and of a row and label, by id and seed",
                      both(*(f"conformal={s},alpha={a},randomised={how}" for s in drawing for a in ("0.1", "0.4") for how in ("row", "label")),
                           "conformal=raps,alpha=0.2,lambda=0.125,k_reg=1,randomised=label,ties=group",
                           "conformal=saps,alpha=0.7,lambda=0.05,randomised=row,empty=argmax",
                           "conformal=aps,alpha=0.2,randomised=label,mode=class", "conformal=aps,alpha=0.2,randomised=row,mode=group"),
                      "label:i64 probs[5]:f32 c:bool id:i64 g:str", rows_of(110, 5, lambda n: f"{ids[n]} {random.choice('aab')}"),
                      "multiclass", f"{cal} --seed 77 --group g"))  # fmt: skip
    cases.append(Case("modes_drawn_binary", "two classes of a logistic function, drawn", both(*(f"conformal={s},alpha=0.3,randomised=label" for s in drawing)),
                      "label:u8 score:f64 c:bool id:i64",
                      [f"{int(random.random() < 0.4)} {random.randrange(0, 257) / 256} {int(random.random() < 0.5)} {ids[n]}" for n in range(60)],
                      options=cal))  # fmt: skip
    rules = ("exact", "numpy_higher", "mapie_cls", "mapie_reg", "puncc", "crepes")
    by_class = rows_of(130, 5, lambda n: "")
    # The last class has no calibration row, the one before it too few.
    by_class = [r if r[0] not in "34" else r[:-1] + str(int(r[0] == "3" and n % 3 == 0)) for n, r in enumerate(by_class)]
    cases.append(Case("modes_class", "thresholds by class; one is rare in the calibration rows, one is not there",
                      both(*(f"conformal={s},alpha={a},mode=class" for s in scores for a in ("0.1", "0.3")),
                           *(f"quantile={r},alpha={a},mode=class" for r in rules[1:] for a in ("0.1", "0.25")),
                           "conformal=aps,alpha=0.6,mode=class,empty=argmax", "alpha=0.7,mode=class,empty=argmax"),
                      "label:i64 probs[5]:f32 c:bool", by_class, "multiclass", cal))  # fmt: skip
    # Combinations (b, 2) and (c, 1) are never for calibration; -1 is unknown, and a combination of its own.
    by_group = []
    for r in rows_of(140, 3, lambda n: f"{random.choice('aaabbc')} {random.choice((1, 1, 2, -1))}"):
        words = r.split()
        words[4] = "0" if words[5:] in (["b", "2"], ["c", "1"]) else words[4]
        by_group.append(" ".join(words))
    cases.append(Case("modes_group", "thresholds by combination of two columns; two combinations are not in the calibration rows",
                      both(*(f"conformal={s},alpha=0.2,mode=group" for s in scores), *(f"quantile={r},alpha=0.1,mode=group" for r in rules),
                           "conformal=raps,lambda=0.1,k_reg=1,alpha=0.3,mode=group,ties=group"),
                      "label:i64 probs[3]:f64 c:bool g:str h:i64", by_group, "multiclass", f"{cal} --group g,h --intersect"))  # fmt: skip
    weights = ("0", "0.5", "1", "1.25", "2", "0.0000152587890625", "3.75")
    cases.append(Case("modes_weighted", "likelihood ratios of both halves, some of them 0: each row has its own threshold",
                      both(*(f"conformal={s},alpha={a},mode=weighted" for s in scores for a in ("0.1", "0.35")),
                           "conformal=aps,alpha=0.25,mode=weighted,empty=argmax", "conformal=lac,alpha=0.1"),
                      "label:i64 probs[4]:f32 c:bool weight:f64 g:str", rows_of(90, 4, lambda n: f"{random.choice(weights)} {random.choice('ab')}"),
                      "multiclass", f"{cal} --group g"))  # fmt: skip
    cases.append(Case("modes_weighted_zero", "no calibration row has weight", "coverage(mode=weighted),set_size(mode=weighted)",
                      classes + " weight:f32", "0 0.5 0.25 0.25 1 0\n1 0.25 0.5 0.25 0 2", "multiclass", cal))  # fmt: skip
    cases.append(Case("modes_nothing", "no calibration rows", both("mode=class", "mode=group", "mode=cluster"), classes + " g:str id:i64",
                      "0 0.5 0.25 0.25 0 a 1\n1 0.25 0.5 0.25 0 b 2", "multiclass", f"{cal} --group g"))  # fmt: skip
    clustered = []
    for n in range(470):
        y, p = n % 7, random.randrange(600, 800) if n % 7 in (0, 2, 5) else random.randrange(60, 250)
        cuts = sorted(random.randrange(1024 - p + 1) for _ in range(5))
        rest = [b - a for a, b in zip([0, *cuts], [*cuts, 1024 - p])]
        cells = [*rest[:y], p, *rest[y:]]
        clustered.append(f"{y} {' '.join(str(v / 1024) for v in cells)} {int(n % 8 != 0)} {n * 7 + 3}")
    cases.append(Case("modes_cluster", "three easy classes and four hard ones: two clusters, and a class with too few rows in the share for clusters",
                      both(*(f"conformal={s},alpha=0.25,mode=cluster{rare}" for s in ("lac", "aps") for rare in ("", ",null_cluster=inf"))),
                      "label:i64 probs[7]:f64 c:bool id:i64", clustered, "multiclass", f"{cal} --seed 6"))  # fmt: skip
    cases.append(Case("modes_no_clusters", "too few rows for clusters: all have the threshold of all rows", both("alpha=0.2,mode=cluster,conformal=aps"),
                      "label:i64 probs[3]:f64 c:bool id:i64", rows_of(60, 3, lambda n: str(n * n)), "multiclass", cal))  # fmt: skip
    return cases


def regression():
    cases = [Case(name, description, metrics, columns, rows, "regression", options, error)
             for name, description, metrics, columns, rows, options, error in intervals.cases()]  # fmt: skip
    few = "0 0.5 0.25 0.25 1\n1 0.25 0.5 0.25 1\n2 0.25 0.5 0.25 0"
    for name, metrics, error in (
        ("sets_of_residuals", "coverage(conformal=absolute)", "2 conformal=absolute of 'coverage' is a score of a regression task"),
        ("width_of_sets", "interval_width", "2 'interval_width' is not defined for a multiclass task"),
    ):  # fmt: skip
        cases.append(Case(name, "of a regression task alone", metrics, "label:i64 probs[3]:f64 c:bool", few, "multiclass",
                          "--calibration c", error))  # fmt: skip
    return cases


def set_metrics():
    """Metrics of conformal sets: METRICS' example L, what is at the edge, seeded rows, worst slabs."""
    classes, cal = "label:i64 probs[4]:f64 c:bool", "--calibration c"
    every = (
        "coverage,set_size,singleton_rate,empty_rate,singleton_hit_rate,singleton_hit_rate(of=singletons),sscv,"
        "sscv(strata=0:1:2:4),ssc,ssc(num_bins=2),diff_violation,diff_violation(strata=1:2:4),cov_gap,"
        "cov_gap(weighted=true),macro_coverage,macro_coverage(absent=zero),uacc"
    )
    nine = ["0 1 0 0 0 1"] * 8 + ["0 0.3125 0.6875 0 0 1"]
    of_l = [
        "0 0.5 0.25 0.125 0.125 0", "2 0.375 0.375 0.125 0.125 0", "1 0.25 0.25 0.25 0.25 0",
        "2 0.3125 0.3125 0.3125 0.0625 0", "1 0.125 0.5 0.25 0.125 0", "1 0.125 0.375 0.375 0.125 0",
    ]  # fmt: skip

    def with_options(text):
        return re.sub(r"(\w+)(?:\(([^)]*)\))?", lambda m: f"{m[1]}({m[2] + ',' if m[2] else ''}{text})", every)

    def wrong(name, description, metrics, text, options=cal):
        return Case(name, description, metrics, classes, of_l, "multiclass", options, error=text)

    random = Random(20261210)
    rows = []
    for _ in range(150):
        y = skewed_class(random, 6)
        rows.append(f"{y} {simplex(random, y, 6)} {int(random.random() < 0.4)} {random.choice('aab')}")
    slabs = "label:i64 probs[3]:f64 features[2]:f64 id:i64 c:bool g:str"
    points = []
    for i in range(140):
        x = [random.randrange(-6, 7) / 8, random.randrange(-6, 7) / 8]
        y = random.randrange(3)
        p = [4, 4, 4]
        p[y] += random.randrange(0, 9) - (4 if x[0] > 0.4 else 0)
        total = 16 - sum(p)
        p[(y + 1) % 3] += total
        points.append(f"{y} {' '.join(str(v / 16) for v in p)} {x[0]} {x[1]} {1000 + 7 * i} {int(random.random() < 0.3)} {random.choice('aab')}")
    slab = "worst_slab_coverage(directions=9,alpha=0.3),worst_slab_coverage(directions=20,delta=0.25,held_out=0.5,conformal=aps,alpha=0.4)"
    line = "label:i64 probs[3]:f64 features:f32 id:i64 c:bool"
    on_line = [" ".join([*point.split()[:5], *point.split()[6:8]]) for point in points[:70]]
    return [
        wrong("strata_order", "strata ascend", "sscv(strata=3:1)", "2 ascending"),
        wrong("strata_text", "strata are integers", "diff_violation(strata=1:x)", "2 joined by ':'"),
        wrong("strata_rank_zero", "ranks count from 1", "diff_violation(strata=0:3)", "2 integers from 1"),
        wrong("too_many_size_bins", "four classes have five sizes", "ssc(num_bins=6)", "2 more than the 5 sizes"),
        wrong("slab_delta", "a slab of all rows is no slab", "worst_slab_coverage(delta=1)", "2 between 0 and 1"),
        wrong("slab_without_features", "features are asked for", "worst_slab_coverage", "3 no array for the embedding"),
        Case("slab_nan_feature", "a feature that is not finite", "worst_slab_coverage", slabs,
             [points[0].replace(points[0].split()[4], "nan", 1), *points[1:20]], "multiclass", cal, error="3 embedding 'features' is nan in column 0"),
        Case("example_l", "example L, in a fourth class that no set holds", every, classes, nine + of_l, "multiclass", cal),
        Case("singletons_only", "every set is one label", with_options("empty=argmax,alpha=0.7"), classes, nine + of_l, "multiclass", cal),
        Case("empty_sets_only", "every set is empty", with_options("alpha=0.8"), classes,
             ["0 1 0 0 0 1"] * 9 + ["1 0.5 0.5 0 0 0", "2 0.25 0.25 0.25 0.25 0"], "multiclass", cal),
        Case("sets_of_all_labels", "too few calibration rows", every, classes, ["0 1 0 0 0 1", *of_l], "multiclass", cal),
        Case("set_metrics_no_rows", "every row is for calibration", every, classes, nine, "multiclass", cal),
        Case("set_metrics_weighted", "weights are no counts", every, classes + " weight:f32", [r + " 1" for r in nine + of_l], "multiclass", cal),
        Case("ranks_in_no_stratum", "strata that end before the data", "sscv(strata=0),diff_violation(strata=1),sscv(strata=0:1)", classes,
             nine + ["2 0.375 0.375 0.125 0.125 0", "1 0.375 0.375 0.125 0.125 0"], "multiclass", cal),
        Case("seeded_set_metrics", "150 rows, six skewed classes, two groups", ",".join([with_options("conformal=aps,alpha=0.2"), with_options("alpha=0.35,quantile=numpy_higher"), every]),
             "label:i64 probs[6]:f32 c:bool g:str", rows, "multiclass", f"{cal} --group g"),
        Case("binary_set_metrics", "two classes of a score", re.sub("0:1:2:4", "0:1:2", re.sub("1:2:4", "1:2", every)), "label:u8 score:f64 c:bool",
             [f"{int(random.random() < 0.4)} {random.randrange(0, 65) / 64} {int(k < 15)}" for k in range(60)], options=cal),
        Case("worst_slabs", "140 points of a grid, some of them equal, two groups: a group is searched on its own", slab, slabs, points, "multiclass", f"{cal} --group g"),
        Case("worst_slab_of_one_feature", "a line: directions are both ways", slab, line, on_line, "multiclass", cal),
        Case("worst_slab_nothing_to_search", "every row is held out", "worst_slab_coverage(held_out=0.999999)", slabs, points[:30], "multiclass", cal),
        Case("worst_slab_no_rows", "every row is for calibration", "worst_slab_coverage", slabs,
             [" ".join([*p.split()[:7], "1", "a"]) for p in points[:12]], "multiclass", cal),
    ]  # fmt: skip


AREAS_OF_ERRORS = "aurc,e_aurc,e_aurc(oracle=asymptotic),auarc,auarc(form=trapezoid)"
SELECTIVE = (f"{AREAS_OF_ERRORS},risk_at_coverage,risk_at_coverage(coverage=0.5),risk_at_coverage(coverage=1),"
             "risk_at_coverage(coverage=0.01),coverage_at_risk,coverage_at_risk(risk=0.25),coverage_at_risk(risk=0),"
             "coverage_at_risk(risk=1)")  # fmt: skip


def answered_first():
    """Selective prediction: wrong usage, example M, ties, what is at the edge, seeded rows."""
    binary, confident = "label:u8 score:f64", (".95 1", ".9 1", ".8 0", ".7 1", ".6 0", ".5 1")

    def wrong(name, description, metrics, text):
        return Case(f"selective_{name}", description, metrics, binary, FOUR_ROWS, error=f"2 {text}")

    few = "1 .5 0\n0 .25 1\n1 .25 2\n0 .75 0.5\n1 .75 0\n1 .9 3\n0 .6 0.25\n0 0 0\n1 1 0"
    cases = [
        wrong("no_coverage", "answering nothing has no risk", "risk_at_coverage(coverage=0)", "expected a number from 1e-09 to 1"),
        wrong("large_risk", "a risk is a share", "coverage_at_risk(risk=1.5)", "expected a number from 0 to 1"),
        wrong("oracle", "no such oracle", "e_aurc(oracle=best)", "expected one of exact, asymptotic"),
        wrong("points", "a number of points", "aurc(points=-1)", "points"),
        Case("selective_example_m", "example M, the negative class being right at one half", SELECTIVE, binary,
             [f"{int(r) if p != '.5' else 1 - int(r)} {p}" for p, r in map(str.split, confident)]),
        Case("selective_example_m_classes", "example M as two classes", SELECTIVE, "label:i64 probs[2]:f64",
             [f"{1 - int(r)} {p} {1 - float(p)!r}" for p, r in map(str.split, confident)], "multiclass"),
        Case("selective_one_value", "all confidences equal, on both sides of one half: the risk is that of all", SELECTIVE, binary,
             "1 .75\n0 .75\n1 .25\n0 .25\n0 .25\n1 .75\n1 .75"),
        Case("selective_ties", "three groups of equal confidences, every order of each", SELECTIVE, binary,
             "1 1\n0 1\n1 0\n0 0\n0 0\n1 .75\n0 .25\n1 .25\n1 .75\n1 .5\n0 .5\n0 .5"),
        Case("selective_all_right", "no error", SELECTIVE, binary, "1 .75\n0 .25\n1 .875\n0 0"),
        Case("selective_all_wrong", "nothing but errors", SELECTIVE, binary, "0 .75\n1 .25\n0 .875\n1 0"),
        Case("selective_errors_last", "the order that has all errors last, and its reverse by groups", SELECTIVE, binary + " g:str",
             "1 .95 a\n1 .9 a\n0 .15 a\n0 .75 a\n1 .45 a\n0 .97 b\n1 .04 b\n1 .875 b\n0 .25 b\n1 .7 b", options="--group g"),
        Case("selective_one_row", "one row: no trapezoid", SELECTIVE, binary, "1 0.375"),
        Case("selective_one_class", "all rows positive", SELECTIVE, binary, "1 .375\n1 .75\n1 .75\n1 .5"),
        Case("selective_no_rows", "no row", SELECTIVE, binary, []),
        Case("selective_margins", "scores that are no probabilities", SELECTIVE, binary, "1 3\n0 .25"),
        Case("selective_dropped", "a row without a score is left out", SELECTIVE, "label:u8 score:f32", "1 nan\n0 .25\n1 .75\n0 .75\n1 .125",
             options="--nan drop"),
        Case("selective_no_weight", "all weights are zero", SELECTIVE, binary + " weight:f64", "1 .5 0\n0 .25 0"),
        Case("selective_zero_weights", "rows without weight make no threshold; means over orders need counts", SELECTIVE,
             binary + " weight:f64", few),
        Case("selective_logits", "binary logits, some so large that their probabilities are equal", SELECTIVE, "label:i64 logits:f64",
             "1 -3.5\n0 -120\n1 0\n0 -0.0\n1 50\n0 60\n0 -1\n0 2.5\n1 2.5\n1 -0.5\n0 0.125\n1 900"),
        Case("selective_class_logits", "softmax of three classes; equal logits, equal confidences", SELECTIVE, "label:i64 logits[3]:f32",
             "0 10 11.5 8\n1 10 11.5 8\n0 -3 -4.25 -5\n1 -20 -18 -19.5\n1 0.5 0.125 -0.75\n2 100 101 102.5\n2 -0.25 0.75 0\n"
             "0 -3 -4.25 -5\n1 30 28.5 10\n1 0 0 0\n0 2 2 2", "multiclass"),
        Case("selective_equal_classes", "two classes as probable: the lower one is predicted", SELECTIVE, "label:i64 probs[3]:f32",
             "0 .5 .5 0\n1 .5 .5 0\n2 .25 .375 .375\n1 .25 .375 .375\n1 0 1 0", "multiclass"),
    ]  # fmt: skip
    random = Random(20261211)
    rows = []
    for _ in range(150):
        p = random.randrange(0, 65) / 64
        rows.append(f"{int(random.random() < p)} {p} {random.choice('abc')}")
    cases.append(Case("seeded_selective", "150 rows on 65 values, three groups", SELECTIVE, "label:u8 score:f32 g:str", rows,
                      options="--group g"))  # fmt: skip
    rows = [f"{r} {random.randrange(0, 17) / 8}" for r in rows]
    cases.append(Case("seeded_selective_weighted", "the same with weights in eighths, some zero", SELECTIVE,
                      "label:u8 score:f32 g:str weight:f64", rows, options="--group g"))  # fmt: skip
    rows = []
    for _ in range(160):
        y = skewed_class(random, 5)
        rows.append(f"{y} {simplex(random, y, 5)} {random.choice('aab')}")
    cases.append(Case("seeded_selective_classes", "160 rows, five skewed classes, two groups", SELECTIVE,
                      "label:i64 probs[5]:f32 g:str", rows, "multiclass", "--group g"))  # fmt: skip
    rows = []
    for _ in range(90):
        labels = [int(random.random() < share) for share in (0.5, 0.2, 0.8)]
        scores = [random.randrange(0, 33) / 32 for _ in labels]
        rows.append(" ".join([*map(str, labels), *map(str, scores)]))
    cases.append(Case("seeded_selective_labels", "90 rows, three labels, each for itself and all together",
                      ",".join(f"{m},{m}(average=micro)" for m in ("aurc", "e_aurc", "auarc", "risk_at_coverage", "coverage_at_risk")),
                      "label[3]:u8 probs[3]:f32", rows, "multilabel"))  # fmt: skip
    return cases


LEVELS = "alpha_from=0.4,alpha_to=0.7,alpha_step=0.1,beta_from=0.1,beta_to=0.4,beta_step=0.075"


def without_answer():
    """Policies that may abstain: wrong usage, what is at the edge, seeded rows."""
    classes, binary, cal = "label:i64 probs[3]:f64 c:bool", "label:u8 score:f64 c:bool", "--calibration c"
    policies = ",".join(f"abstention_policy{o}" for o in ("", f"({LEVELS})", f"({LEVELS},quantile=numpy_higher)",
                        f"({LEVELS},entropy_weight=0.013,single_weight=2.07,single_from=0.3)", f"({LEVELS},size_weight=0.011,abstain_weight=0.05)",
                        "(alpha_from=0.5,alpha_to=0.5,beta_from=0.3,beta_to=0.3)",
                        "(alpha_from=0.1,alpha_to=0.2,beta_from=0.6,beta_to=0.9,beta_step=0.1)"))  # fmt: skip
    apart = f"abstention_policy(tune=split),abstention_policy({LEVELS},tune=split)"
    few = "0 0.5 0.25 0.25 1\n1 0.25 0.5 0.25 1\n2 0.25 0.5 0.25 0"

    def wrong(name, description, options, text, given=cal):
        return Case(f"policy_{name}", description, f"abstention_policy{options}", classes, few, "multiclass", given, error=f"2 {text}")

    random = Random(20261217)

    def drawn(count, width, more=lambda: ""):
        rows = []
        for n in range(count):
            y = skewed_class(random, width)
            rows.append(f"{y} {simplex(random, y, width)} {int(random.random() < 0.5)}{more()}")
        return rows

    cases = [
        wrong("alphas_reversed", "the smallest alpha comes first", "(alpha_from=0.9,alpha_to=0.8)", "alpha_from of 'abstention_policy' is above alpha_to"),
        wrong("beta_zero", "a level is between 0 and 1", "(beta_from=0)", "expected a number between 0 and 1, neither of them"),
        wrong("small_step", "too many levels", "(beta_step=0.00001)", "beta_step of 'abstention_policy' is too small"),
        wrong("tune", "no such way to tune", "(tune=half)", "expected one of same, split"),
        wrong("without_calibration", "no rows to choose on", "", "'abstention_policy' takes its threshold from calibration rows", ""),
        Case("policy_few", "two calibration rows: thresholds above every score", policies, classes, few, "multiclass", cal),
        Case("policy_no_calibration_rows", "every row is for testing", policies, classes, "0 0.5 0.25 0.25 0\n1 0.25 0.5 0.25 0", "multiclass", cal),
        Case("policy_no_other_rows", "every row is for calibration", policies, classes, "0 0.5 0.25 0.25 1\n1 0.25 0.5 0.25 1", "multiclass", cal),
        Case("policy_no_rows", "no row", policies, classes, [], "multiclass", cal),
        Case("policy_half_empty", "one calibration row: it cannot be in both halves", apart, classes + " id:i64",
             "0 0.5 0.25 0.25 1 5\n1 0.25 0.5 0.25 0 6", "multiclass", cal),
        Case("policy_weighted", "weights are no counts", policies, classes + " weight:f32", "0 0.5 0.25 0.25 1 1\n1 0.25 0.5 0.25 0 2", "multiclass", cal),
        Case("policy_margins", "scores that are no probabilities, in a calibration row alone", policies, binary, "1 3 1\n0 0.25 0\n1 0.75 0", options=cal),
        Case("policy_dropped", "a row without a score is left out of either half", policies, binary,
             "1 nan 1\n0 .25 1\n1 .75 1\n0 .75 1\n1 .125 1\n0 .5 1\n1 nan 0\n1 .875 0\n0 .5 0\n1 .25 0", options=f"{cal} --nan drop"),
        Case("policy_one_value", "all confidences equal, half of them right: one kind of answer", policies, binary,
             [f"{n % 2} {.75 if n % 4 < 2 else .25} {n % 3 // 2}" for n in range(48)], options=cal),
        Case("policy_one_class", "all rows of one class", policies, classes,
             [f"1 {(8 - n % 9) / 16} {(n % 9) / 8} {(8 - n % 9) / 16} {n % 2}" for n in range(40)], "multiclass", cal),
        Case("policy_ties", "few distinct scores: thresholds are shared, and costs too", policies, classes,
             [f"{n % 3 if n % 5 else 2} {('0.5 0.25 0.25', '0.25 0.625 0.125', '0.125 0.125 0.75', '0.375 0.375 0.25')[n * 7 % 4]} {n // 3 % 2}"
              for n in range(72)], "multiclass", cal),
        Case("seeded_policy", "160 rows, five skewed classes, two groups: the choice is that of all", policies, "label:i64 probs[5]:f32 c:bool g:str",
             drawn(160, 5, lambda: f" {random.choice('aab')}"), "multiclass", f"{cal} --group g"),
    ]  # fmt: skip
    rising = ",".join(f"abstention_policy(alpha_from=0.5,alpha_to=0.95,alpha_step=0.15,beta_from=0.3,beta_to=0.6,beta_step=0.1,single_weight={w},quantile={q})"
                      for w in (0, 0.5, 2) for q in ("mapie_reg", "mapie_cls", "crepes", "puncc"))  # fmt: skip
    cases.append(Case("policy_threshold_rises", "MAPIE's quantiles are infinite for a large alpha of few rows, not for a smaller one", rising, classes,
                      [f"{n % 3} {(6 - n % 5) / 8} {(n % 5) / 8} 0.25 {int(n < 9)}" for n in range(24)], "multiclass", cal))  # fmt: skip
    ids = random.sample(range(10**9), 150)
    cases.append(Case("seeded_policy_apart", "150 rows of four classes, half of the calibration rows for tuning, by id", apart,
                      "label:i64 probs[4]:f64 c:bool id:i64", drawn(150, 4, lambda: f" {ids.pop()}"), "multiclass", cal))  # fmt: skip
    rows = []
    for _ in range(120):
        y = skewed_class(random, 4)
        cells = [round((random.random() - 0.5) * 6 + (2 if k == y else 0), 2) for k in range(4)]
        rows.append(f"{y} {' '.join(map(str, cells))} {int(random.random() < 0.5)}")
    cases.append(Case("policy_of_logits", "softmax of four classes", policies, "label:i64 logits[4]:f32 c:bool", rows, "multiclass",
                      f"{cal} --split calibration"))  # fmt: skip
    rows = [f"{int(random.random() < 0.4)} {round(random.random() * 8 - 4, 2)} {int(random.random() < 0.5)}" for _ in range(80)]
    cases.append(Case("policy_of_binary_logits", "two classes of a logistic function", policies, "label:u8 logits:f64 c:bool", rows, options=cal))
    return cases


def all_files():
    """{file name: text}; the numbers keep wrong usage first and the slow cases last."""
    files = {}
    families = (wrong_usage, bad_input, documented_examples, extremes, dropped_rows, classes_and_groups, seeded, calibrated,
                of_second_moments, calibrated_in_order, of_pairs, fits, sets, sets_by_modes,
                regression, set_metrics, answered_first, without_answer,
                functools.partial(choosing.cases, sys.modules[__name__]),
                functools.partial(verification.cases, sys.modules[__name__]))  # fmt: skip
    for family, cases in enumerate(f() for f in families):
        for n, case in enumerate(cases):
            files[f"{family}{n:02d}_{case.name}.case"] = case.text()
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file differs")
    parser.add_argument("--dir", type=Path, default=FOLDER, help="where the cases are (tests/golden)")
    arguments = parser.parse_args()
    files = all_files()
    here = {p.name for p in arguments.dir.glob("*.case")}
    if arguments.check:
        wrong = sorted(here - files.keys())
        for name, text in files.items():
            path = arguments.dir / name
            if not path.exists() or path.read_bytes() != text.encode():
                wrong.append(name)
        for name in wrong:
            print(f"{arguments.dir / name}: differs from what scripts/gen_golden.py writes", file=sys.stderr)
        return 1 if wrong else 0
    arguments.dir.mkdir(parents=True, exist_ok=True)
    for name in here - files.keys():
        (arguments.dir / name).unlink()
    for name, text in files.items():
        (arguments.dir / name).write_bytes(text.encode())
    print(f"{len(files)} cases in {arguments.dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
