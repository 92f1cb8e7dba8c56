#!/usr/bin/env python3
"""Compares the golden cases with scikit-learn, wherever scikit-learn has the metric.

Reads tests/golden/*.case (format: gen_golden.py) with code of its own, so that it also checks the
files: parsing, rounding to dtypes, groups, the order of columns. Run by a person after gen_golden.py has
changed, in the environment of scripts/venv.sh:

    .venv/bin/python scripts/check_golden.py

Metrics that scikit-learn lacks are read off its curves. Prints how many expected values were compared; exit
1 when one differs by more than 1e-9 relative or is defined on one side only. Error cases are only counted.
"""

import argparse
import math
import re
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import sklearn.metrics as sk

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "golden"
DTYPES = {"bool": "?", "u8": "u1", "i32": "i4", "i64": "i8", "f16": "f2", "f32": "f4", "f64": "f8"}


def read_case(path):
    """(header, columns by name, expected lines) of one file."""
    head, _, tail = path.read_text(encoding="utf-8").partition("----\n")
    header, rows, shape = {}, [], None
    for line in head.splitlines():
        key, _, rest = line.partition(" ")
        if shape is None:
            header[key if key != "#" else rest.split(":")[0]] = rest
            shape = rest if key == "columns" else None
        else:
            rows.append(line.split())
    columns, at = {}, 0
    for name, width, dtype in re.findall(r"(\w+)(?:\[(\d+)\])?:(\w+)", shape):
        cells = [row[at : at + int(width or 1)] for row in rows]
        at += int(width or 1)
        if dtype == "str":
            array = np.array(cells, dtype=str)
        elif dtype == "bf16":
            array = np.array(cells, dtype="f8")
            assert not (array.astype("f4").view("u4") & 0xFFFF).any(), "not a bf16 value"
        elif dtype == "bool":
            array = np.array(cells, dtype="i4").astype("?")
        else:
            array = np.array(cells, dtype="f8").astype(DTYPES[dtype])
        columns[name] = array.reshape(len(rows), int(width)) if width else array.reshape(len(rows))
    return header, columns, tail.splitlines()


def parse_expected(line):
    key, _, value = line.partition(" = ")
    metric, _, options, where = re.fullmatch(r"(\w+)(\(([^)]*)\))?(.*)", key).groups()
    options = dict(o.split("=") for o in options.split(",")) if options else {}
    where = dict(w.split("=", 1) for w in where.split())
    if value.startswith("undefined"):
        return metric, options, where, None
    p, q = value.split()[0].split("/")
    return metric, options, where, int(p) / int(q)


def binary(metric, options, y, s, w):
    """One ranking metric of a binary problem; NaN where scikit-learn gives none."""
    if not w.any():  # no rows, or none that count: scikit-learn raises an error
        return math.nan
    if metric == "auroc":
        limit = options.get("max_fpr")
        return sk.roc_auc_score(y, s, sample_weight=w, max_fpr=limit and float(limit))
    if metric == "gini":
        return 2 * sk.roc_auc_score(y, s, sample_weight=w) - 1
    if not (y * w).any():
        return math.nan
    precision, recall, _ = sk.precision_recall_curve(y, s, sample_weight=w)
    if metric == "auprc" and options.get("method", "step") == "step":
        return sk.average_precision_score(y, s, sample_weight=w)
    if metric == "auprc":
        return sk.auc(recall, precision)
    # Without the artificial end (precision 1, recall 0), which no threshold reaches.
    precision, recall = precision[:-1], recall[:-1]
    if metric == "precision_at_recall":
        return precision[recall >= float(options.get("target", 0.8)) - 1e-12].max()
    if metric == "recall_at_precision":
        reached = recall[precision >= float(options.get("target", 0.9)) - 1e-12]
        return reached.max() if reached.size else math.nan
    if metric == "f_beta_max":
        square = float(options.get("beta", 1)) ** 2
        with np.errstate(invalid="ignore"):
            f = (1 + square) * precision * recall / (square * precision + recall)
        return np.nan_to_num(f).max()
    if not ((1 - y) * w).any():
        return math.nan
    fpr, tpr, _ = sk.roc_curve(y, s, sample_weight=w, drop_intermediate=False)
    linear = options.get("interpolation") == "linear"
    if metric == "ks":
        return (tpr - fpr).max()
    if metric == "tpr_at_fpr":
        limit = float(options.get("target", 0.01))
        return np.interp(limit, fpr, tpr) if linear else tpr[fpr <= limit + 1e-12].max()
    if metric == "fpr_at_tpr":
        limit = float(options.get("target", 0.95))
        if not linear:
            return fpr[tpr >= limit - 1e-12].min()
        at = np.searchsorted(tpr, limit)
        share = (limit - tpr[at - 1]) / (tpr[at] - tpr[at - 1])
        return fpr[at - 1] + share * (fpr[at] - fpr[at - 1])
    if metric == "eer":
        difference = fpr - (1 - tpr)
        at = np.argmax(difference >= -1e-15)
        share = -difference[at - 1] / (difference[at] - difference[at - 1])
        return fpr[at - 1] + share * (fpr[at] - fpr[at - 1])
    raise ValueError(f"no counterpart of {metric}")


def average(values, masses):
    values, masses = np.array(values, dtype=float), np.array(masses, dtype=float)
    keep = ~np.isnan(values)
    if not keep.any():
        return math.nan
    return np.average(values[keep], weights=masses[keep])


def matrix(metric, options, where, y, p, w):
    """A ranking metric of a matrix of scores: y is the indicator matrix."""
    if "class" in where:
        k = int(where["class"])
        return binary(metric, options, y[:, k], p[:, k], w)
    how = where["average"]
    ready = (y * w[:, None]).any(0).all() and ((1 - y) * w[:, None]).any(0).all()
    if metric == "auroc" and how in ("macro", "weighted", "micro") and ready:
        return sk.roc_auc_score(y, p, average=how, sample_weight=w)
    if metric == "auprc" and how in ("macro", "weighted", "micro") and ready and not options:
        return sk.average_precision_score(y, p, average=how, sample_weight=w)
    if how.startswith("ovo"):
        labels = y.argmax(1)
        pairs = []
        for a in range(p.shape[1]):
            for b in range(a + 1, p.shape[1]):
                both = (labels == a) | (labels == b)
                halves = [binary(metric, {}, y[both, c], p[both, c], w[both]) for c in (a, b)]
                pairs.append((np.mean(halves), both.sum() if how == "ovo_weighted" else 1))
        value = average(*zip(*pairs))
        if ready and np.allclose(p.sum(1), 1):
            peer = sk.roc_auc_score(labels, p, multi_class="ovo", average=how[4:])
            assert abs(peer - value) < 1e-12
        return value
    if how == "micro":
        return binary(metric, options, y.ravel(), p.ravel(), np.repeat(w, p.shape[1]))
    if how == "samples":
        one = np.ones(p.shape[1])
        return average([binary(metric, options, y[i], p[i], one) for i in range(len(y))], w)
    classes = [binary(metric, options, y[:, k], p[:, k], w) for k in range(p.shape[1])]
    return average(classes, (y * w[:, None]).sum(0) if how == "weighted" else np.ones(len(classes)))


def decided(metric, options, y, values, w, logits):
    if values.ndim == 1:
        predicted = values > float(options.get("threshold", 0 if logits else 0.5))
    else:
        predicted = values.argmax(1)
    if metric == "accuracy":
        return sk.accuracy_score(y, predicted, sample_weight=w)
    if metric == "balanced_accuracy":
        return sk.balanced_accuracy_score(y, predicted, sample_weight=w)
    if metric == "brier" and values.ndim == 1:
        return sk.mean_squared_error(y, values, sample_weight=w)
    if metric == "brier":
        one_hot = np.eye(values.shape[1])[y]
        return np.average(((values - one_hot) ** 2).sum(1), weights=w)
    if metric == "top_k_accuracy":
        k = int(options.get("k", 5))
        # top_k_accuracy_score prefers the higher index on ties: mirrored, the lower.
        if k >= values.shape[1]:
            return 1.0
        last = values.shape[1] - 1
        return sk.top_k_accuracy_score(last - y, values[:, ::-1], k=k, labels=range(last + 1), sample_weight=w)
    raise ValueError(f"no counterpart of {metric}")


def evaluate(header, columns, metric, options, where):
    scores = next(n for n in ("score", "probs", "logits") if n in columns)
    y, s = columns["label"], columns[scores].astype(float)
    w = columns["weight"].astype(float) if "weight" in columns else np.ones(len(y))
    settings = header.get("options", "")
    if "--pos-label" in settings:
        y = y == settings.split("--pos-label ")[1].split()[0]
    y = y.astype("f8")
    flat = s if s.ndim == 2 else s[:, None]
    keep = np.isfinite(flat).all(1) & np.isfinite(w) & (w >= 0)
    domain = flat.shape[1] if header["task"] == "multiclass" else 2
    inside = (y >= 0) & (y < domain)
    keep &= inside.all(1) if y.ndim == 2 else inside
    assert keep.all() or "--nan drop" in settings
    if metric == "es_auroc":
        name = settings.split("--group ")[1].split()[0]
        found = [g for g in np.unique(columns[name].astype(str)) if g != "-1"]
        parts = [evaluate(header, columns, "auroc", {}, {"group": f"{name}:{g}"}) for g in found]
        overall = evaluate(header, columns, "auroc", {}, {})
        return overall / (1 + np.nansum(np.abs(np.array(parts) - overall)))
    if metric == "xauc":
        name, pair = where["group"].split(":")
        a, b = (columns[name].astype(str) == g for g in pair.split("|"))
        keep &= (a & (y == 1)) | (b & (y == 0))
    elif "group" in where:
        for part in where["group"].split(","):
            name, value = part.split(":")
            keep &= columns[name].astype(str) == value
    y, s, w = y[keep].astype(int), s[keep], w[keep]
    if not w.any():  # no rows, or none that count
        return math.nan
    if metric in ("accuracy", "balanced_accuracy", "brier", "top_k_accuracy"):
        return decided(metric, options, y, s, w, scores == "logits")
    if header["task"] == "binary":
        return binary("auroc" if metric == "xauc" else metric, options, y, s, w)
    if header["task"] == "multiclass":
        if scores == "logits":
            e = np.exp(s - s.max(1, keepdims=True))
            s = e / e.sum(1, keepdims=True)
        y = np.eye(s.shape[1], dtype=int)[y]
    return matrix(metric, options, where, y, s, w)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, default=FOLDER, help="where the cases are (tests/golden)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    compared, wrong, files = Counter(), 0, 0
    for path in sorted(arguments.dir.glob("*.case")):
        header, columns, lines = read_case(path)
        files += 1
        if lines[0].startswith("error"):
            compared["(errors, not compared)"] += 1
            continue
        for line in lines:
            metric, options, where, expected = parse_expected(line)
            with np.errstate(all="ignore"):
                value = float(evaluate(header, columns, metric, options, where))
            compared[metric] += 1
            if expected is None:
                right = math.isnan(value)
            else:
                right = abs(value - expected) <= 1e-9 * max(abs(expected), 1e-9)
            if not right:
                wrong += 1
                print(f"{path.name}: {line}: scikit-learn gives {value!r}, the file {expected!r}")
    for metric, count in sorted(compared.items()):
        print(f"{count:6d}  {metric}")
    print(f"{files} cases, {sum(compared.values())} lines, {wrong} differ")
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main())
