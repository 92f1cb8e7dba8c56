#!/usr/bin/env python3
"""NumPy's selective prediction on the dumps of CUPEL_EXTRA_DATA, for the tests: tests/dumps/selective.json.

    scripts/make_selective_expected.py FOLDER      FOLDER is what CUPEL_EXTRA_DATA names

Of every vlm dump, on its own split: the areas of the rows that are not for calibration, rows of equal confidence in expectation
over their orders; and, for two grids of (alpha, beta), the policy that costs least on the calibration rows and what it
answers to the others.
"""

import json
import math
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

OUT = Path(__file__).resolve().parent.parent / "tests" / "dumps" / "selective.json"
GRIDS = {
    "": (range(75, 91), [Fraction(b, 200) for b in range(2, 11)]),
    "alpha_from=0.5,alpha_to=0.8,alpha_step=0.1,beta_from=0.1,beta_to=0.4,beta_step=0.1": (
        range(50, 81, 10),
        [Fraction(b, 10) for b in range(1, 5)],
    ),
}


def softmax(logits):
    """Row sums are rounded once, so that equal sets of logits give equal probabilities."""
    x = logits.astype(np.float64)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / np.array([[math.fsum(row)] for row in e])


def areas(confidence, right):
    order = np.argsort(-confidence, kind="stable")
    p, wrong = confidence[order], (~right[order]).astype(float)
    start = np.flatnonzero(np.r_[True, p[1:] != p[:-1]])
    sizes = np.diff(np.r_[start, len(p)])
    wrong = np.repeat(np.add.reduceat(wrong, start) / sizes, sizes)  # each row its group's mean
    k = np.arange(1, len(p) + 1)
    risk = wrong.cumsum() / k
    best = np.maximum(0, k - right.sum()) / k
    return {
        "aurc": math.fsum(risk) / len(p),
        "e_aurc": math.fsum(risk - best) / len(p),
        "auarc": float(np.trapezoid(1 - risk, np.linspace(0, 1, len(p)))),
        "distinct": len(start),
    }


def answers(probs, label, predict, abstain):
    """Counts of [single, right, sets, covered, labels, abstained]; probabilities in units of 2^-48."""
    scores = 2**48 - probs
    least, first = scores.min(axis=1), probs.argmax(axis=1)
    single = least <= predict
    none = ~single & (least > abstain)
    some = ~single & ~none
    sets = scores <= abstain
    held = sets[np.arange(len(label)), label]
    counts = single, single & (first == label), some, some & held, sets[some], none
    return [int(np.count_nonzero(c)) for c in counts]


def cost(counts):
    single, right, sets, covered, labels, none = counts
    n, answered = single + sets + none, single + sets
    shares = [s / n for s in (single, sets, none) if s]
    return (
        ((answered - right - covered) / answered if answered else 1)
        + 0.3 * (labels / sets if sets else 0)
        + 0.3 * none / n
        - 0.4 * answered / n
        + 0.2 * sum(s * math.log(s) for s in shares)
        + 0.5 * max(0, single / n - 0.8)
    )


def policy(probs, label, fit, alphas, betas):
    masses = np.rint(probs * 2**48).astype(np.int64)
    ranked = np.sort(2**48 - masses[fit, label[fit]])
    n = len(ranked)

    def quantile(level):
        k = math.ceil((n + 1) * (1 - level))
        return 2**60 if k > n else ranked[k - 1]

    tried = [
        (cost(answers(masses[fit], label[fit], quantile(a), quantile(b))), a, b)
        for a in (Fraction(a, 100) for a in alphas)
        for b in betas
    ]
    least = min(c for c, _, _ in tried)
    _, a, b = next(t for t in tried if t[0] == least)
    counts = answers(masses[~fit], label[~fit], quantile(a), quantile(b))
    return {"alpha": float(a), "beta": float(b), "counts": counts, "cost": cost(counts)}


def main():
    lines = []
    for path in sorted((Path(sys.argv[1]) / "vlm").glob("*.npz")):
        with np.load(path) as dump:
            probs, label, fit = softmax(dump["logits"]), dump["label"], dump["is_calibration"].astype(bool)
        found = areas(probs[~fit].max(axis=1), probs[~fit].argmax(axis=1) == label[~fit])
        found["policies"] = {name: policy(probs, label, fit, *grid) for name, grid in GRIDS.items()}
        lines.append(f"{json.dumps(path.stem)}: {json.dumps(found, separators=(',', ':'))}")
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
