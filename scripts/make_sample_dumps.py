#!/usr/bin/env python3
"""Makes data/: prediction dumps of models trained on the datasets that scikit-learn bundles.

Each dump holds the held-out test rows of one model, together they cover the formats cupel reads:
CSV (plain, gzip), npz (stored, deflated), npy (C and Fortran order, both endiannesses), f16, bf16, f32, f64.
data/expected.json holds scikit-learn's values, computed in float64 from the arrays as saved (read
back from the files), for a test that compares cupel with them. Seeds are constant: with the versions of
requirements.txt the same machine writes the same bytes (another may differ in a last digit).

    .venv/bin/python scripts/make_sample_dumps.py             train, write everything
    .venv/bin/python scripts/make_sample_dumps.py --expected  only recompute expected.json and README.md
"""

import argparse
import csv
import gzip
import json
import sys
import warnings
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import sklearn
import sklearn.metrics as sk
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = Path(__file__).resolve().parent.parent / "data"
SEED = 20240229
# Machine epsilon of what a column is stored as: log_loss clips to [eps, 1 - eps].
EPSILON = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
ATTRIBUTES = {  # of a digit; every digit has at least one and lacks at least one
    "even": {0, 2, 4, 6, 8},
    "prime": {2, 3, 5, 7},
    "loop": {0, 6, 8, 9},
    "straight": {1, 4, 7},
    "large": {5, 6, 7, 8, 9},
}


def split(X, y, size):
    """(train indices, test indices), stratified by label."""
    return train_test_split(np.arange(len(X)), test_size=size, random_state=SEED, stratify=y)


def thirds(train, values, names):
    """The names of the thirds of the training rows that values fall into."""
    return np.array(names)[np.searchsorted(np.quantile(train, (1 / 3, 2 / 3)), values, side="right")]


# ---- writers ------------------------------------------------------------------------------------


def write_csv(path, columns):
    """Strings quoted, numbers in the shortest text that gives the same value of their dtype."""
    lines = [",".join(columns)]
    for row in zip(*columns.values()):
        cells = ['"' + v.replace('"', '""') + '"' if isinstance(v, str) else str(v) for v in row]
        lines.append(",".join(cells))
    data = ("\n".join(lines) + "\n").encode()
    if path.suffix == ".gz":
        # No time and no name in the header: the same bytes on every run.
        data = gzip.compress(data, compresslevel=9, mtime=0)
    path.write_bytes(data)


def write_pair(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def to_bf16(values):
    """Rounds to nearest even and stores the two bytes as ml_dtypes marks them, dtype |V2."""
    bits = np.asarray(values, dtype="<f4").view("<u4").astype("u8")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype("<u2").view("V2")


def from_bf16(raw):
    return (raw.view("<u2").astype("<u4") << 16).view("<f4").astype(float)


# ---- models -------------------------------------------------------------------------------------


def breast_cancer(folder):
    data = load_breast_cancer()
    X, y = data.data, 1 - data.target  # 1: malignant
    train, test = split(X, y, 0.5)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05)).fit(X[train], y[train])
    score, label = model.predict_proba(X[test])[:, 1], y[test]
    names = ["small, lower third", "medium, middle third", "large, upper third"]
    size = thirds(X[train, 0], X[test, 0], names)
    # As if each size were a third of the patients and one in five of them ill.
    share = np.array([(size == s).mean() for s in size])
    weight = np.round(np.where(label == 1, 0.2 / label.mean(), 0.8 / (1 - label.mean())) / (3 * share), 3)
    write_csv(
        folder / "breast_cancer.csv",
        {"id": test, "score": score.astype("f4"), "label": label, "weight": weight, "size": size},
    )
    write_pair(folder / "breast_cancer_f16", score=score.astype("<f2"), label=label.astype("u1"))
    np.savez(folder / "breast_cancer_bf16.npz", score=to_bf16(score), label=label == 1)


def diabetes(folder):
    data = load_diabetes(scaled=False)
    X, y = data.data, (data.target > 150).astype("i8")
    train, test = split(X, y, 0.5)
    model = GradientBoostingClassifier(n_estimators=40, max_depth=2, learning_rate=0.1, random_state=SEED)
    score = model.fit(X[train], y[train]).predict_proba(X[test])[:, 1]
    age = np.array(["under 40", "40 to 59", "60 or more"])[np.searchsorted((40, 60), X[test, 0], side="right")]
    sex = X[test, 1].astype("i8")  # 1 and 2; the dataset does not say which is which
    write_csv(folder / "diabetes.csv.gz", {"score": score, "y": y[test], "sex": sex, "age": age})


def diabetes_intervals(folder):
    """Progression itself: predictions, a scale of their residuals, and the 10 and 90 % quantiles."""
    data = load_diabetes(scaled=False)
    X, y = data.data, data.target
    train, test = train_test_split(np.arange(len(X)), test_size=0.6, random_state=SEED)

    def boosted(**options):
        return GradientBoostingRegressor(n_estimators=50, max_depth=2, random_state=SEED, **options)

    pred = boosted().fit(X[train], y[train]).predict(X[test])
    residuals = np.abs(y[train] - cross_val_predict(boosted(), X[train], y[train], cv=5))
    sigma = np.maximum(boosted().fit(X[train], residuals).predict(X[test]), 1)
    ends = [boosted(loss="quantile", alpha=a).fit(X[train], y[train]).predict(X[test]) for a in (0.1, 0.9)]
    age = np.array(["under 40", "40 to 59", "60 or more"])[np.searchsorted((40, 60), X[test, 0], side="right")]
    columns = {"pred": pred, "sigma": sigma, "lower": np.minimum(*ends), "upper": np.maximum(*ends)}
    columns = {name: values.astype("f4") for name, values in columns.items()}
    groups = {"sex": X[test, 1].astype("i8"), "age": age}
    write_csv(folder / "diabetes_intervals.csv", {"id": test, "y": y[test], **columns, **groups})


def digits(folder):
    X, y = load_digits(return_X_y=True)
    train, test = split(X, y, 0.3)
    ink = thirds(X[train].sum(1), X[test].sum(1), ["light", "medium", "heavy"])
    trees = ExtraTreesClassifier(n_estimators=60, random_state=SEED).fit(X[train], y[train])
    probs = trees.predict_proba(X[test]).astype("f4")
    np.savez(folder / "digits_probs.npz", probs=probs, label=y[test].astype("i8"), ink=ink, id=test.astype("i4"))
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.002)).fit(X[train], y[train])
    logits = linear.decision_function(X[test]).astype("f2")
    np.savez_compressed(folder / "digits_logits_f16.npz", logits=logits, label=y[test].astype("i8"), ink=ink)
    indicator = np.array([[int(d in having) for having in ATTRIBUTES.values()] for d in y], dtype="u1")
    forest = ExtraTreesClassifier(n_estimators=40, max_depth=7, random_state=SEED)
    columns = forest.fit(X[train], indicator[train]).predict_proba(X[test])
    probs = np.stack([c[:, 1] for c in columns], axis=1).astype("f4")
    np.savez_compressed(folder / "digits_attributes.npz", probs=probs, label=indicator[test], ink=ink)


def wine(folder):
    X, y = load_wine(return_X_y=True)
    X = X[:, [0, 1, 4, 9]]  # alcohol, malic acid, magnesium, colour intensity: not too easy
    train, test = split(X, y, 0.6)
    probs = LinearDiscriminantAnalysis().fit(X[train], y[train]).predict_proba(X[test])
    write_pair(folder / "wine", probs=np.asfortranarray(probs), label=y[test].astype("i4"))
    probs = GaussianNB().fit(X[train], y[train]).predict_proba(X[test])
    write_pair(folder / "wine_big_endian", probs=probs.astype(">f4"), label=y[test].astype(">i2"))


def choices(folder):
    """For selection and risk control: models of a number, and losses at many thresholds."""
    (folder / "conformal").mkdir(exist_ok=True)
    data = load_diabetes(scaled=False)
    X, y = data.data, data.target
    train, test = train_test_split(np.arange(len(X)), test_size=0.6, random_state=SEED)
    models = (make_pipeline(StandardScaler(), LinearRegression()),
              GradientBoostingRegressor(n_estimators=40, max_depth=2, random_state=SEED),
              ExtraTreesRegressor(n_estimators=60, min_samples_leaf=3, random_state=SEED))  # fmt: skip
    pred = np.stack([m.fit(X[train], y[train]).predict(X[test]) for m in models], axis=1)
    sex = X[test, 1].astype("i8")
    level = np.array([np.quantile(y[train][X[train, 1] == s], 0.6) for s in (1, 2)])
    np.savez_compressed(folder / "conformal" / "diabetes_models.npz", y=y[test], pred=pred, threshold=level[sex - 1], sex=sex,
                        id=test.astype("i4"))  # fmt: skip
    # A digit is said to have the attributes with p >= 1 - lambda; the loss is the share of its own that are missed.
    attributes = np.load(folder / "digits_attributes.npz")
    own, lambdas = attributes["label"], np.arange(41) / 40
    missed = [(own * (attributes["probs"] < 1 - at)).sum(axis=1) / own.sum(axis=1) for at in lambdas]
    np.savez_compressed(folder / "conformal" / "digits_losses.npz", loss=np.stack(missed, axis=1).astype("f4"), lambdas=lambdas,
                        ink=attributes["ink"])  # fmt: skip


# ---- reading back -------------------------------------------------------------------------------


class Dump:
    """Arrays of a dump as a user has them, scores as float64, and how cupel is called on it."""

    def __init__(self, path, task, dataset, model, layout, read, groups=()):
        self.path, self.task, self.dataset, self.model = path, task, dataset, model
        self.layout, self.groups = layout, list(groups)
        self.arguments = []
        if path.endswith(".npy"):
            self.arguments = ["--label", str(Path(path).parent / "label.npy")]
        arrays = read(FOLDER / path)
        self.logits = "logits" in arrays
        scores = next(arrays[n] for n in ("score", "probs", "logits", "pred") if n in arrays)
        if scores.dtype.kind == "V":
            self.dtype, self.scores = "bf16", from_bf16(scores)
        else:
            self.dtype, self.scores = f"f{8 * scores.dtype.itemsize}", np.array(scores, dtype="f8", order="C")
        label = np.asarray(arrays.get("label", arrays.get("y")))
        self.label = label.astype("f8" if task == "regression" else "i8")
        self.weight = np.asarray(arrays["weight"]) if "weight" in arrays else None
        self.columns = {g: np.asarray(arrays[g]).astype(str) for g in self.groups}
        if self.groups:
            self.arguments += ["--group", ",".join(self.groups)]


def read_csv(path):
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path, newline="", encoding="utf-8")
    with opened as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for name in columns:
        if name not in ("size", "age", "sex"):
            columns[name] = np.array(columns[name], dtype="f8")
    return columns


def read_pair(path):
    return {path.stem: np.load(path), "label": np.load(path.parent / "label.npy")}


def read_npz(path):
    with np.load(path) as arrays:
        return dict(arrays)


def all_dumps():
    logistic, trees = "logistic regression", "extra trees"
    return [
        Dump("breast_cancer.csv", "binary", "breast cancer", logistic,
             "csv, quoted strings, weights, groups", read_csv, ["size"]),
        Dump("breast_cancer_f16/score.npy", "binary", "breast cancer", logistic,
             "npy f16, label u8 in label.npy", read_pair),
        Dump("breast_cancer_bf16.npz", "binary", "breast cancer", logistic,
             "npz stored, score bf16 (dtype V2), label bool", read_npz),
        Dump("diabetes.csv.gz", "binary", "diabetes, progression > 150", "gradient boosting",
             "csv gzip, label `y`, groups", read_csv, ["sex", "age"]),
        Dump("diabetes_intervals.csv", "regression", "diabetes, progression", "gradient boosting",
             "csv, label `y`, pred, sigma, lower, upper, groups", read_csv, ["sex", "age"]),
        Dump("digits_probs.npz", "multiclass", "digits", trees, "npz stored, probs f32, groups", read_npz, ["ink"]),
        Dump("digits_logits_f16.npz", "multiclass", "digits", logistic,
             "npz deflated, logits f16, groups", read_npz, ["ink"]),
        Dump("digits_attributes.npz", "multilabel", "digits: " + ", ".join(ATTRIBUTES), trees + ", depth 7",
             "npz deflated, probs f32, label u8 [n,5], groups", read_npz, ["ink"]),
        Dump("wine/probs.npy", "multiclass", "wine, 4 features", "linear discriminant analysis",
             "npy f64 Fortran order, label i32 in label.npy", read_pair),
        Dump("wine_big_endian/probs.npy", "multiclass", "wine, 4 features", "Gaussian naive Bayes",
             "npy f32 big-endian, label i16 big-endian in label.npy", read_pair),
    ]  # fmt: skip


# ---- scikit-learn's values ----------------------------------------------------------------------


def assert_ranks_do_not_depend_on_rounding(logits):
    """Softmax in double orders all cells as exact arithmetic does, with room for rounding.

    Equal logits of one row have equal bits in any implementation; no other cells may be that close.
    """
    with localcontext() as context:
        context.prec = 40
        exact = []
        for row in logits:
            e = [Decimal(v).exp() for v in row]
            exact += [x / sum(e) for x in e]
    rounded = softmax(logits, axis=1).ravel()
    order = sorted(range(len(exact)), key=exact.__getitem__)
    for a, b in zip(order, order[1:]):
        if a // logits.shape[1] == b // logits.shape[1] and exact[a] == exact[b]:
            assert rounded[a] == rounded[b]
            continue
        apart = exact[b] - exact[a] > exact[b] * Decimal("1e-12")
        assert apart and rounded[a] < rounded[b], "softmax values too close: choose another seed"


def area(y, s, w, **options):
    if y.min() == y.max():
        return None
    return sk.roc_auc_score(y, s, sample_weight=w, **options)


def average_precision(y, s, w):
    return sk.average_precision_score(y, s, sample_weight=w) if y.any() else None


def pr_trapezoid(y, s, w):
    if not y.any():
        return None
    precision, recall, _ = sk.precision_recall_curve(y, s, sample_weight=w)
    return sk.auc(recall, precision)


def youden(y, s, w):
    if y.min() == y.max():
        return None
    fpr, tpr, _ = sk.roc_curve(y, s, sample_weight=w)
    return (tpr - fpr).max()


def log_loss(dump, y, p, w, classes):
    """scikit-learn's, with the clipping of the stored dtype; from logits nothing is clipped."""
    if dump.logits:
        return -log_softmax(p, axis=1)[np.arange(len(y)), y].mean()
    epsilon = EPSILON[dump.dtype]
    return sk.log_loss(y, y_proba=np.clip(p, epsilon, 1 - epsilon), sample_weight=w, labels=range(classes))


def binary_values(dump, y, s, w):
    predicted = s > 0.5
    return [
        ("auroc", {}, area(y, s, w)),
        ("auroc", {"max_fpr": 0.25}, area(y, s, w, max_fpr=0.25)),
        ("auprc", {}, average_precision(y, s, w)),
        ("auprc", {"method": "trapezoid"}, pr_trapezoid(y, s, w)),
        ("ks", {}, youden(y, s, w)),
        ("accuracy", {}, sk.accuracy_score(y, predicted, sample_weight=w)),
        ("balanced_accuracy", {}, sk.balanced_accuracy_score(y, predicted, sample_weight=w)),
        ("brier", {}, sk.brier_score_loss(y, y_proba=s, sample_weight=w, labels=[0, 1])),
        ("log_loss", {}, log_loss(dump, y, s, w, 2)),
    ]


def mean_of_defined(values, masses=None):
    masses = np.ones(len(values)) if masses is None else masses
    kept = [(v, m) for v, m in zip(values, masses) if v is not None]
    if not kept:
        return None
    return np.average([v for v, _ in kept], weights=[m for _, m in kept])


def ranking_values(indicator, p, multilabel, y):
    """(metric, options, average, class, value) of AUROC and AP, averages checked against scikit-learn's."""
    found = []
    everywhere = (indicator.any(0) & ~indicator.all(0)).all()
    for name, function, peer in (
        ("auroc", area, sk.roc_auc_score),
        ("auprc", average_precision, sk.average_precision_score),
    ):
        per_class = [function(indicator[:, k], p[:, k], None) for k in range(p.shape[1])]
        averages = {
            "macro": mean_of_defined(per_class),
            "weighted": mean_of_defined(per_class, indicator.sum(0)),
            "micro": function(indicator.ravel(), p.ravel(), None),
        }
        if multilabel:
            averages["samples"] = mean_of_defined([function(a, b, None) for a, b in zip(indicator, p)])
        if everywhere:
            for how, value in averages.items():
                theirs = peer(indicator, p, average=how)
                assert abs(theirs - value) < 1e-13, (name, how, theirs, value)
                averages[how] = theirs
            if name == "auroc" and not multilabel:
                for how in ("macro", "weighted"):
                    averages[f"ovo_{how}"] = peer(y, p, multi_class="ovo", average=how)
        found += [(name, {}, how, None, value) for how, value in averages.items()]
        found += [(name, {}, None, k, value) for k, value in enumerate(per_class)]
    return found


def multiclass_values(dump, y, s):
    classes = s.shape[1]
    p = softmax(s, axis=1) if dump.logits else s
    predicted = s.argmax(1)
    found = ranking_values(np.eye(classes, dtype=int)[y], p, False, y)
    # top_k_accuracy_score puts the higher index first on ties; mirrored, the lower, as arg-max does.
    last = classes - 1
    top2 = sk.top_k_accuracy_score(last - y, s[:, ::-1], k=2, labels=range(classes))
    brier = sk.brier_score_loss(y, y_proba=p, labels=range(classes), scale_by_half=False)
    return found + [
        ("accuracy", {}, None, None, sk.accuracy_score(y, predicted)),
        ("balanced_accuracy", {}, None, None, sk.balanced_accuracy_score(y, predicted)),
        ("top_k_accuracy", {"k": 2}, None, None, top2),
        ("brier", {}, None, None, brier),
        ("log_loss", {}, None, None, log_loss(dump, y, s, None, classes)),
    ]


def values_of(dump, rows):
    y, s = dump.label[rows], dump.scores[rows]
    w = None if dump.weight is None else dump.weight[rows]
    if dump.task == "regression":
        errors = (("mae", sk.mean_absolute_error), ("rmse", sk.root_mean_squared_error))
        return [(name, {}, None, None, error(y, s, sample_weight=w)) for name, error in errors]
    if dump.task == "binary":
        return [(m, options, None, None, v) for m, options, v in binary_values(dump, y, s, w)]
    if dump.task == "multilabel":
        return ranking_values(y, s, True, y)
    return multiclass_values(dump, y, s)


def metric_text(found):
    """The --metrics list that yields all of these values; macro and class values come with the name."""
    texts = []
    for metric, options, average, k, _ in found:
        shown = dict(options)
        if average not in (None, "macro"):
            shown["average"] = average
        text = metric + (f"({','.join(f'{a}={b}' for a, b in shown.items())})" if shown else "")
        if text not in texts:
            texts.append(text)
    return ",".join(texts)


def expected_of(dump):
    n = len(dump.label)
    if dump.logits:
        assert_ranks_do_not_depend_on_rounding(dump.scores)
    segments = [(None, np.ones(n, dtype=bool))]
    for name, column in dump.columns.items():
        segments += [({name: str(v)}, column == v) for v in np.unique(column)]
    results, metrics = [], None
    for group, rows in segments:
        found = values_of(dump, rows)
        metrics = metrics or metric_text(found)
        for metric, options, average, k, value in found:
            results.append(
                {"metric": metric, "params": options, "average": average, "class": k, "group": group,
                 "value": None if value is None else float(value)}
            )  # fmt: skip
    arguments = dump.arguments + ["--metrics", metrics]
    if dump.task in ("multiclass", "multilabel"):
        arguments.append("--by-class")
    return {"dump": dump.path, "task": dump.task, "rows": n, "arguments": arguments, "results": results}


def accuracy_of(dump, results):
    """As cupel shows it: weighted where the dump has weights."""
    if dump.task == "regression":
        return f"mean absolute error {results[0]['value']:.2f}"
    if dump.task == "multilabel":
        return f"{((dump.scores > 0.5) == dump.label).mean():.4f} per label"
    overall = (r["value"] for r in results if r["metric"] == "accuracy" and r["group"] is None)
    return f"{next(overall):.4f}" + (" weighted" if dump.weight is not None else "")


README = """# Sample dumps

Predictions of models on held-out rows of datasets that scikit-learn bundles, written by `scripts/make_sample_dumps.py`.
Small, real and in many formats: for a first look (`cupel eval data/digits_probs.npz --group ink`) and for the tests.

| file | dataset | model | format | shape | accuracy by scikit-learn |
|---|---|---|---|---|---|
{rows}

For `selection_fdp` and `risk_control`: `conformal/diabetes_models.npz`, three models' predictions of the progression of diabetes, with a
level to exceed, the 60 % quantile of the training rows of the same sex; `conformal/digits_losses.npz`, the share of a digit's attributes that
are missed when those with p >= 1 - lambda are named, at 41 values of lambda.

For verification, by `scripts/make_embeddings.py`: `digits_embeddings.npz`, 899 digits projected onto the 16 principal components of the
others (npz stored, f32, label u8, ids, groups), and `digit_pairs.csv`, 400 pairs of them, half of one digit, with the cosine of their
embeddings (`score`) and both digits (`class_a`, `class_b`).

`.npy` dumps are a folder of two files: `cupel eval data/wine/probs.npy --label data/wine/label.npy`.
Labels: breast cancer 1 is malignant. Groups: `size` are thirds of the mean radius, `ink` thirds of the sum of the pixels (both cut
at the training rows' quantiles), `sex` is coded as in the dataset. Progression is a number from 25 to 346; `lower` and `upper` are the
10 and 90 % quantiles of a model each, `sigma` a model's absolute residual. `weight` makes the sizes equally frequent and one patient in five ill.

`expected.json` holds scikit-learn {version}'s values for these files, computed in float64 from the arrays as saved:
`dumps[].arguments` is the command line after `cupel eval DUMP` (paths relative to this folder), `dumps[].results[]` names metric, params,
average, class and group as the result of `cupel eval --format json` does; `value` is null where the metric is undefined.
The tests hold cupel to within 1e-12 of them.

The datasets (breast cancer Wisconsin, diabetes, optical digits, wine) come with scikit-learn under its BSD-3-Clause
licence; their sources are in its documentation ("Toy datasets").
"""


def to_text(document):
    """JSON with one result per line: a difference then shows which value moved."""
    shell = {**document, "dumps": [{**d, "results": []} for d in document["dumps"]]}
    text = json.dumps(shell, indent=1)
    for dump in document["dumps"]:
        results = ",\n".join("    " + json.dumps(r) for r in dump["results"])
        text = text.replace('"results": []', '"results": [\n' + results + "\n   ]", 1)
    return text + "\n"


def write_expected(folder):
    warnings.simplefilter("error")
    # Rows of float32 probabilities sum to one within 1e-7, not within the 1e-8 asked of float64.
    warnings.filterwarnings("ignore", message="The y_prob values do not sum to one")
    dumps = all_dumps()
    document = {
        "about": "scikit-learn's values for the dumps of this folder; written by scripts/make_sample_dumps.py",
        "sklearn": sklearn.__version__,
        "numpy": np.__version__,
        "tolerance": 1e-12,
        "dumps": [expected_of(d) for d in dumps],
    }
    (folder / "expected.json").write_text(to_text(document), encoding="utf-8")
    table = [
        f"| `{d.path}` | {d.dataset} | {d.model} | {d.layout} | [{','.join(map(str, d.scores.shape))}] | "
        f"{accuracy_of(d, e['results'])} |"
        for d, e in zip(dumps, document["dumps"])
    ]
    (folder / "README.md").write_text(
        README.format(rows="\n".join(table), version=sklearn.__version__), encoding="utf-8"
    )
    return document


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--expected", action="store_true", help="keep the dumps, recompute expected.json and README.md")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if not arguments.expected:
        for make in (breast_cancer, diabetes, diabetes_intervals, digits, wine, choices):
            make(FOLDER)
    document = write_expected(FOLDER)
    count = sum(len(d["results"]) for d in document["dumps"])
    size = sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file())
    print(f"{len(document['dumps'])} dumps, {count} expected values, {size} bytes in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
