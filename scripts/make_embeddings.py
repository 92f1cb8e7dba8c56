#!/usr/bin/env python3
"""Makes data/digits_embeddings.npz and data/digit_pairs.csv: embeddings of handwritten digits, and pairs of them.

Half of the digits that scikit-learn bundles are projected onto the 16 principal components of the other half. The
pairs are drawn from these rows, as many of one digit as of two, with the cosine of their embeddings in float64,
rounded to 6 digits. Seeds are constant: with the versions of requirements.txt the same machine writes the same
bytes (another may differ in a last digit).

    .venv/bin/python scripts/make_embeddings.py
"""

import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

FOLDER = Path(__file__).resolve().parent.parent / "data"
SEED = 20240229
WIDTH = 16
PAIRS = 400


def embeddings():
    """(rows in the dataset, embedding [n, WIDTH] f32, label, thirds of the sum of the pixels)."""
    X, y = load_digits(return_X_y=True)
    train, test = train_test_split(np.arange(len(X)), test_size=0.5, random_state=SEED, stratify=y)
    projection = PCA(WIDTH, svd_solver="full").fit(X[train])
    ink = np.searchsorted(np.quantile(X[train].sum(axis=1), (1 / 3, 2 / 3)), X[test].sum(axis=1), side="right")
    names = np.array(["light", "medium", "heavy"])
    return test, projection.transform(X[test]).astype("f4"), y[test], names[ink]


def pairs(rows, embedding, label):
    """Dictionaries of PAIRS pairs, half of them of one digit."""
    unit = embedding.astype("f8")
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    first, second = np.triu_indices(len(label), 1)
    same = label[first] == label[second]
    random = np.random.default_rng(SEED)
    chosen = np.concatenate([random.choice(np.flatnonzero(same == side), PAIRS // 2, replace=False) for side in (True, False)])
    for pair in np.sort(chosen):
        a, b = first[pair], second[pair]
        yield {"row_a": rows[a], "row_b": rows[b], "class_a": label[a], "class_b": label[b],
               "score": f"{unit[a] @ unit[b]:.6f}"}


def main():
    rows, embedding, label, ink = embeddings()
    np.savez(FOLDER / "digits_embeddings.npz", embedding=embedding, label=label.astype("u1"), ink=ink, id=rows.astype("i4"))
    with (FOLDER / "digit_pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["row_a", "row_b", "class_a", "class_b", "score"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(pairs(rows, embedding, label))
    size = sum((FOLDER / name).stat().st_size for name in ("digits_embeddings.npz", "digit_pairs.csv"))
    print(f"{embedding.shape[0]} rows of {WIDTH}, {PAIRS} pairs, {size} bytes in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
