#!/usr/bin/env python3
"""scikit-learn's values for the dumps of CUPEL_EXTRA_DATA, for the tests: tests/dumps/expected.json.

    scripts/make_extra_expected.py FOLDER      FOLDER is what CUPEL_EXTRA_DATA names

One-vs-rest AUROC and average precision per class, overall and per group, of every vlm/*__mmbench.npz
on NumPy's float64 softmax of the logits, and of cifar10_vgg on its probabilities in float64. A class
that has no row of one kind is null. Of cifar10_vgg also calibration errors over 15 bins (lo, hi] and the Brier score, by
NumPy alone. Of every vlm dump also coverage and mean size of its APS sets (alpha 0.1, numpy.quantile's "higher", arg-max where
empty) on its own split, in float64, equal probabilities by ascending class.
"""

import json
import sys
from pathlib import Path

import numpy as np
import sklearn
from sklearn.metrics import average_precision_score, roc_auc_score

OUT = Path(__file__).resolve().parent.parent / "tests" / "dumps" / "expected.json"


def softmax(logits):
    x = logits.astype(np.float64)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def one_vs_rest(label, probs):
    values = []
    for c in range(probs.shape[1]):
        y = (label == c).astype(int)
        both = 0 < y.sum() < len(y)
        values.append(
            {
                "auroc": float(roc_auc_score(y, probs[:, c])) if both else None,
                "auprc": float(average_precision_score(y, probs[:, c])) if y.sum() else None,
                "n_pos": int(y.sum()),
                "n_neg": int(len(y) - y.sum()),
            }
        )
    return values


def gaps(confidence, right, bins=15):
    """(share of rows, |accuracy - mean confidence|) of each bin that has rows."""
    edges = np.arange(1, bins + 1) / bins
    at = np.searchsorted(edges, confidence, side="left")
    return [((at == b).mean(), abs(right[at == b].mean() - confidence[at == b].mean())) for b in np.unique(at)]


def calibration(label, probs):
    top = gaps(probs.max(axis=1), probs.argmax(axis=1) == label)
    classes = [sum(n * g for n, g in gaps(p, label == c)) for c, p in enumerate(probs.T)]
    return {
        "ece": float(sum(n * g for n, g in top)),
        "mce": float(max(g for _, g in top)),
        "classwise_ece": float(np.mean(classes)),
        "brier": float(((probs - np.eye(probs.shape[1])[label]) ** 2).sum(axis=1).mean()),
    }


def aps(label, probs, is_calibration, alpha=0.1):
    order = np.argsort(-probs, axis=1, kind="stable")
    scores = np.empty_like(probs)
    np.put_along_axis(scores, order, np.take_along_axis(probs, order, axis=1).cumsum(axis=1), axis=1)
    fit = scores[is_calibration, label[is_calibration]]
    level = np.ceil((len(fit) + 1) * (1 - alpha)) / len(fit)
    sets = scores[~is_calibration] <= np.quantile(fit, level, method="higher")
    empty = ~sets.any(axis=1)
    sets[empty, probs[~is_calibration][empty].argmax(axis=1)] = True
    covered = sets[np.arange(len(sets)), label[~is_calibration]]
    return {"coverage": float(covered.mean()), "size": float(sets.sum(axis=1).mean())}


def main():
    root = Path(sys.argv[1])
    out = {"scikit-learn": sklearn.__version__, "numpy": np.__version__, "dumps": {}}
    for path in sorted(root.glob("vlm/*__mmbench.npz")):
        with np.load(path) as dump:
            probs, label, group = softmax(dump["logits"]), dump["label"], dump["l2_category"]
        groups = {"": one_vs_rest(label, probs)}
        for g in np.unique(group):
            groups[str(g)] = one_vs_rest(label[group == g], probs[group == g])
        out["dumps"][f"vlm/{path.name}"] = groups
    with np.load(root / "cifar10_vgg" / "probs.npz") as dump:
        probs, label = dump["probs"].astype(np.float64), dump["label"]
    out["dumps"]["cifar10_vgg/probs.npz"] = {"": one_vs_rest(label, probs)}
    out["dumps"]["cifar10_vgg/probs.npz calibration"] = calibration(label, probs)
    out["dumps"]["aps"] = {}
    for path in sorted(root.glob("vlm/*.npz")):
        with np.load(path) as dump:
            out["dumps"]["aps"][path.stem] = aps(dump["label"], softmax(dump["logits"]), dump["is_calibration"])
    OUT.parent.mkdir(exist_ok=True)
    lines = [f"{json.dumps(d)}: {json.dumps(v, separators=(',', ':'))}" for d, v in out["dumps"].items()]
    head = f'{{"scikit-learn": "{out["scikit-learn"]}", "numpy": "{out["numpy"]}", "dumps": {{\n'
    OUT.write_text(head + ",\n".join(lines) + "\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
