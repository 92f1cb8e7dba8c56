"""Conformal sets whose scores are drawn, whose ties rank as a group, or whose thresholds are of classes, groups, clusters or
weighted rows: by brute force, each row of a table against every calibration row."""

import itertools
import math
from fractions import Fraction

OPTIONS = {"ties", "randomised", "mode", "null_cluster"}
ONE = 2**48
EVERY = math.inf


# ---- what is drawn: SplitMix64's finaliser over (seed, key) ------------------------------------------


def mixed(x):
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> shift)) * factor % 2**64
    return x ^ (x >> 31)


def drawn(seed, key):
    return mixed(mixed((seed + 0x9E3779B97F4A7C15) % 2**64) ^ mixed((key + 0xD1B54A32D192ED03) % 2**64))


def stream(seed, name):
    return seed ^ int.from_bytes(name, "big")


def u_of(how, seed, key, label):
    """48 bits of a row, or of a row and label."""
    row = drawn(stream(seed, b"conforma"), key)
    return (row if how == "row" else drawn(row, label)) >> 16


# ---- scores ------------------------------------------------------------------------------------------


def score(row, label, options):
    """Low and high end by the words of the definitions, and u in between."""
    name, masses = options.get("conformal", "lac"), row["masses"]
    usual = {"raps": "0.01", "saps": "0.2"}.get(name, "0")
    penalty = round(Fraction(options.get("lambda", usual)) * ONE)
    free = int(options.get("k_reg", 5))
    order = sorted(range(len(masses)), key=lambda k: (-masses[k], k))
    if options.get("ties") == "group":
        first = 1 + sum(m > masses[label] for m in masses)
        last = sum(m >= masses[label] for m in masses)
    else:
        first = last = order.index(label) + 1
    if name in ("lac", "margin"):
        best = max((m for k, m in enumerate(masses) if k != label), default=0)
        return ONE - masses[label] if name == "lac" else best - masses[label]
    if name == "saps":
        largest = masses[order[0]]
        low = 0 if first == 1 else largest + penalty * (first - 2)
        high = largest + penalty * (last - 1)
    elif name == "topk":
        low, high = (first - 1) * 2**32, last * 2**32
    else:
        added = penalty * max(0, last - free) if name == "raps" else 0
        low = sum(masses[k] for k in order[: first - 1]) + added
        high = sum(masses[k] for k in order[:last]) + added
    how = options.get("randomised", "none")
    if how == "none":
        return high
    part = (high - low) * u_of(how, options["seed"], row["key"], label) // ONE
    return low + part if name == "saps" else high - part


# ---- thresholds --------------------------------------------------------------------------------------


def ranked(scores, alpha, rule, quantile_rank):
    rank = quantile_rank(len(scores), alpha, rule) if scores else None
    return EVERY if rank is None else sorted(scores)[rank - 1]


def partitions(items, most):
    """Every division of the items into at most `most` parts."""
    if not items:
        yield []
        return
    for rest in partitions(items[1:], most):
        for i, part in enumerate(rest):
            yield [*rest[:i], [items[0], *part], *rest[i + 1 :]]
        if len(rest) < most:
            yield [[items[0]], *rest]


def clusters_of(fit, classes, alpha, options):
    """(cluster of each class or None, rows that no cluster was made from); the best of all partitions, which has to be better
    than any other by more than rounding."""
    counts = [sum(row["label"] == c for row in fit) for c in range(classes)]
    least = next(n for n in itertools.count(1) if math.ceil((n + 1) * (1 - alpha)) <= n)
    n_min = max(min(counts), least)
    enough = sum(n >= n_min for n in counts)
    n_clust = n_min * enough // (75 + enough)
    seed = stream(options["seed"], b"clusterz")

    def shared(row):
        return Fraction(drawn(seed, row["key"]), 2**64) < Fraction(n_clust, n_min)

    own = {c: sorted(score(r, c, options) for r in fit if r["label"] == c and shared(r)) for c in range(classes)}
    kept = [c for c in range(classes) if len(own[c]) >= least]
    wanted, proper = n_clust // 2, [row for row in fit if not shared(row)]
    if wanted < 2 or not kept:
        return [None] * classes, proper
    points = {c: [own[c][math.ceil(Fraction(q, 10) * len(own[c])) - 1] for q in (5, 6, 7, 8, 9)] for c in kept}
    weights = {c: math.sqrt(len(own[c])) for c in kept}

    def spread(part):
        total = sum(weights[c] for c in part)
        centre = [sum(weights[c] * points[c][i] for c in part) / total for i in range(5)]
        return sum(weights[c] * (points[c][i] - centre[i]) ** 2 for c in part for i in range(5))

    found = sorted((sum(map(spread, parts)), sorted(map(sorted, parts))) for parts in partitions(kept, wanted))
    assert wanted >= len(kept) or found[1][0] > 1.5 * found[0][0], "clusters that are not clear"
    parts = [[c] for c in kept] if wanted >= len(kept) else found[0][1]
    return [next((i for i, part in enumerate(parts) if c in part), None) for c in range(classes)], proper


def threshold_finder(fit, classes, alpha, options, quantile_rank):
    """A function of (row, label): the threshold that the label's score is compared with."""
    mode, rule = options.get("mode", "marginal"), options.get("quantile", "exact")

    def of(rows):
        return ranked([score(r, r["label"], options) for r in rows], alpha, rule, quantile_rank)

    if mode == "class":
        found = [of([r for r in fit if r["label"] == c]) for c in range(classes)]
        return lambda row, label: found[label]
    if mode == "group":
        found = {g: of([r for r in fit if r["group"] == g]) for g in {r["group"] for r in fit}}
        return lambda row, label: found.get(row["group"], EVERY)
    if mode == "cluster":
        clusters, proper = clusters_of(fit, classes, alpha, options)
        rare = EVERY if options.get("null_cluster") == "inf" else of(proper)
        found = {i: of([r for r in proper if clusters[r["label"]] == i]) for i in set(clusters) - {None}}
        return lambda row, label: found.get(clusters[label], rare)
    if mode == "weighted":
        scores = [(score(r, r["label"], options), r["mass"]) for r in fit]

        def by_weight(row, label):
            need = (1 - alpha) * (sum(m for _, m in scores) + row["mass"])
            reached = (s for s in sorted({s for s, _ in scores}) if sum(m for t, m in scores if t <= s) >= need)
            return next(reached, EVERY)

        return by_weight
    found = of(fit)
    return lambda row, label: found


def value(fit, others, classes, metric, options, quantile_rank):
    """A value, or the reason why there is none; rows are dicts of label, masses, key, group and mass."""
    if not fit:
        return "too_few_calibration"
    if options.get("mode") == "weighted" and not any(r["mass"] for r in fit):
        return "zero_weight"
    if not others:
        return "empty"
    threshold = threshold_finder(fit, classes, Fraction(options.get("alpha", "0.1")), options, quantile_rank)
    hits, sizes = 0, 0
    for row in others:
        masses = row["masses"]
        found = [c for c in range(len(masses)) if score(row, c, options) <= threshold(row, c)]
        if not found and options.get("empty") == "argmax":
            found = [masses.index(max(masses))]
        hits, sizes = hits + (row["label"] in found), sizes + len(found)
    return Fraction(hits if metric == "coverage" else sizes, len(others))
