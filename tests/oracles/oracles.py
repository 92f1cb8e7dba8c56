#!/usr/bin/env python3
"""Compares cupel's calibration metrics with the libraries whose conventions its presets name.

    scripts/venv.sh --oracles             makes .venv-oracles (scikit-learn, MAPIE, relplot, ...)
    scripts/venv.sh --oracles-torch       ... with torchmetrics and netcal, which need 5 GB
    tests/oracles/oracles.py [--cupel build/bin/cupel] [--all] [--write docs/LIBRARIES.md]

Makes seeded data, asks cupel and each library, and prints one line for each comparison that does
not agree (--all: for every one) and a summary; --write puts the table of what was measured into a document
instead. Exit code 0: all agree, or differ as KNOWN says; 1:
a difference that KNOWN does not explain, or one of KNOWN that is no longer there; 77: nothing
to compare with (no environment). Downloads nothing.

The interpreter is that of .venv-oracles, or of the folder that CUPEL_ORACLES names, whoever starts
this file.
"""

import sys

from harness import Comparison, main, module, value

import numpy as np  # after the harness, which may start the program over

sklearn_metrics = module("sklearn.metrics")
sklearn_calibration = module("sklearn.calibration")
mapie = module("mapie.metrics.calibration")
relplot = module("relplot")
verified = module("calibration")
torch = module("torch")
torchmetrics = module("torchmetrics.functional.classification")
netcal = module("netcal.metrics")
scipy_optimize = module("scipy.optimize")

PACKAGES = {
    "sklearn": ("scikit-learn", sklearn_metrics),
    "mapie": ("MAPIE", mapie),
    "relplot": ("relplot", relplot),
    "uncertainty-calibration": ("uncertainty-calibration", verified),
    "torchmetrics": ("torchmetrics", torchmetrics),
    "netcal": ("netcal", netcal),
    "scipy": ("scipy", scipy_optimize),
}

# ---- data ----------------------------------------------------------------------------------------


class Data:
    """Rows of one kind. `p` is [n] or [n, k]; `tolerance` is for a library that computes in its type."""

    def __init__(self, name, p, y, logits=None, calibration=None):
        self.name, self.p, self.y = name, np.ascontiguousarray(p), y.astype(np.int64)
        self.logits, self.calibration = logits, calibration
        self.binary = self.p.ndim == 1
        self.single = self.p.dtype == np.float32
        self.options = [] if calibration is None else ["--calibration", "is_calibration"]

    def write(self, folder):
        arrays = {"label": self.y}
        if self.logits is not None:
            arrays["logits"] = self.logits
        else:
            arrays["score" if self.binary else "probs"] = self.p
        if self.calibration is not None:
            arrays["is_calibration"] = self.calibration
        self.path = folder / f"{self.name}.npz"
        np.savez(self.path, **arrays)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def make_data():
    rng = np.random.default_rng(20260101)
    n = 3000
    p = rng.beta(0.8, 0.9, n)
    y = (rng.random(n) < p**1.3).astype(int)
    sets = [Data("binary", p, y), Data("binary_f32", p.astype(np.float32), y)]
    # A quarter of the rows on a grid of 1/64, so that many are equal; 0 and 1 among them.
    tied = np.where(np.arange(n) % 4 == 0, np.round(p * 64) / 64, p)
    tied[:8] = [0, 0, 0, 0, 1, 1, 1, 1]
    labels = y.copy()
    labels[:8] = [0, 1, 0, 0, 1, 0, 1, 1]
    sets += [Data("ties", tied, labels), Data("ties_f32", tied.astype(np.float32), labels)]
    # On the edges of 16 and of 8 bins, which every type holds exactly.
    # Neighbours err in opposite directions, or a row could change bins and no error would tell.
    def hits_of(count, bins):
        rate = count / bins + np.where(count % 2 == 0, 0.17, -0.17)
        return (rng.random(n) < np.clip(rate, 0.02, 0.98)).astype(int)

    sixteenths = rng.integers(0, 17, n)
    dyadic, hit = sixteenths / 16, hits_of(sixteenths, 16)
    sets += [Data("dyadic", dyadic, hit), Data("dyadic_f32", dyadic.astype(np.float32), hit)]
    # On the edges of ten bins, which no type holds exactly: k/10, correctly rounded.
    count = rng.integers(0, 11, n)
    tenths, hit = count / 10, hits_of(count, 10)
    sets += [Data("tenths", tenths, hit), Data("tenths_f32", tenths.astype(np.float32), hit)]
    for k in (5, 12):
        z = rng.normal(0, 2.2, (n, k))
        P = softmax(z)
        y = np.array([rng.choice(k, p=row) for row in softmax(z * 0.6)])
        sets += [Data(f"classes{k}", P, y), Data(f"classes{k}_f32", P.astype(np.float32), y)]
    # Certain rows, and two classes that are equally probable.
    P = P.copy()
    P[:40] = np.eye(12)[rng.integers(0, 12, 40)]
    P[40:60] = 0
    P[40:60, 3] = P[40:60, 7] = 0.5
    sets += [Data("certain", P, y), Data("certain_f32", P.astype(np.float32), y)]
    half = np.arange(n) % 2 == 0
    z = rng.normal(0, 3, (n, 4))
    y = np.array([rng.choice(4, p=row) for row in softmax(z * 0.5)])
    sets.append(Data("logits4", softmax(z), y, logits=z, calibration=half))
    z = rng.normal(0, 3, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-(0.5 * z - 0.3)))).astype(int)
    sets.append(Data("logits1", 1 / (1 + np.exp(-z)), y, logits=z, calibration=half))
    return {data.name: data for data in sets}


# ---- cupel ---------------------------------------------------------------------------------------


def diagram(result):
    """Accuracy and confidence of the bins that hold rows, as calibration_curve gives them."""
    bins = result["details"]["bins"]
    return np.array([b["accuracy"] for b in bins] + [b["confidence"] for b in bins])


# ---- libraries -----------------------------------------------------------------------------------


def top(data):
    return data.p.max(axis=1), (data.p.argmax(axis=1) == data.y).astype(int)


def curve(strategy, bins):
    def call(data):
        right, mean = sklearn_calibration.calibration_curve(
            data.y, data.p, n_bins=bins, strategy=strategy
        )
        return np.concatenate([right, mean])

    return call


def tm(norm, bins):
    def call(data):
        scores, labels = torch.from_numpy(data.p), torch.from_numpy(data.y)
        if data.binary:
            return float(
                torchmetrics.binary_calibration_error(scores, labels, n_bins=bins, norm=norm)
            )
        return float(
            torchmetrics.multiclass_calibration_error(
                scores, labels, num_classes=data.p.shape[1], n_bins=bins, norm=norm
            )
        )

    return call


def netcal_measure(name, **options):
    return lambda data: float(getattr(netcal, name)(**options).measure(data.p, data.y))


def scaling_ce(p, debias, scheme, mode="top-label", bins=15):
    def call(data):
        return float(
            verified.lower_bound_scaling_ce(
                data.p,
                data.y,
                p=p,
                debias=debias,
                num_bins=bins,
                binning_scheme=getattr(verified, scheme),
                mode=mode,
            )
        )

    return call


def two_columns_ece(data):
    p = data.p.astype(np.float64)  # 1 - p is exact there
    return float(verified.get_ece(np.stack([1 - p, p], axis=1), data.y))


def cumulative(data):
    order = np.argsort(data.p, kind="stable")
    return np.cumsum((data.y - data.p)[order]) / len(data.y)


def mapie_ks(data):
    """The statistic in units of its scale, which MAPIE divides by."""
    scale = mapie.length_scale(data.p)
    return mapie.kolmogorov_smirnov_statistic(data.y, data.p) * scale


def mapie_kuiper(data):
    return mapie.kuiper_statistic(data.y, data.p) * mapie.length_scale(data.p)


def least_temperature(data):
    z, y = data.logits[data.calibration], data.y[data.calibration]
    if z.ndim == 1:
        z = np.stack([np.zeros_like(z), z], axis=1)

    def nll(t):
        s = z / t
        return np.mean(
            np.log(np.exp(s - s.max(axis=1, keepdims=True)).sum(axis=1))
            + s.max(axis=1)
            - s[np.arange(len(y)), y]
        )

    return scipy_optimize.minimize_scalar(
        nll, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10}
    ).x


def held_out_loss(fit):
    """Log loss of the rows that were not fitted on."""

    def call(data):
        model = fit(data.logits[data.calibration], data.y[data.calibration])
        others = ~data.calibration
        p = np.clip(model(data.logits[others]), 1e-300, 1)
        y = data.y[others]
        return float(-np.mean(np.where(y == 1, np.log(p), np.log1p(-p))))

    return call


def platt(z, y):
    linear = module("sklearn.linear_model").LogisticRegression(C=np.inf, tol=1e-12, max_iter=10000)
    linear.fit(z[:, None], y)
    return lambda x: linear.predict_proba(x[:, None])[:, 1]


def isotonic_brier(data):
    fitted = module("sklearn.isotonic").IsotonicRegression(
        y_min=0, y_max=1, out_of_bounds="clip"
    ).fit(data.logits[data.calibration], data.y[data.calibration])
    others = ~data.calibration
    return float(np.mean((fitted.predict(data.logits[others]) - data.y[others]) ** 2))


def others_after(name):
    def read(result):
        value(result)
        return result["details"]["others"][name]["after"]

    return read


# ---- what is compared ----------------------------------------------------------------------------

BINARY = ["binary", "binary_f32", "ties", "ties_f32", "dyadic", "dyadic_f32", "tenths", "tenths_f32"]
CLASSES = ["classes5", "classes5_f32", "classes12", "classes12_f32", "certain", "certain_f32"]
DISTINCT = ["binary", "binary_f32"]  # no two rows are equal


def torchmetrics_comparisons(norm, bins, spec, options, single=2e-6):
    call = tm(norm, bins)
    # It computes several classes in float32 whatever their type is.
    return [
        Comparison("torchmetrics", call, spec, BINARY, f"binary_calibration_error({options})".replace("()", ""),
                   single=single),
        Comparison("torchmetrics", call, spec, CLASSES, f"multiclass_calibration_error({options})".replace("()", ""),
                   double=single, single=single),
    ]


def comparisons():
    c = Comparison
    brier = lambda d: sklearn_metrics.brier_score_loss(  # noqa: E731
        d.y, d.p, scale_by_half=d.binary, labels=range(2 if d.binary else d.p.shape[1])
    )
    losses = lambda d: sklearn_metrics.log_loss(  # noqa: E731
        d.y, d.p, labels=range(2 if d.binary else d.p.shape[1])
    )
    skill = lambda d: sklearn_metrics.d2_brier_score(d.y, d.p)  # noqa: E731
    ece = lambda d: mapie.expected_calibration_error(  # noqa: E731
        d.y if d.binary else top(d)[1], d.p, num_bins=50, split_strategy="uniform"
    )
    classwise = lambda d: mapie.expected_calibration_error(  # noqa: E731
        d.y, d.p, num_bins=50, split_strategy="uniform", classwise=True, class_labels=d.y
    )
    by_class = lambda d: mapie.top_label_ece(  # noqa: E731
        d.y, d.p, num_bins=50, split_strategy="uniform"
    )
    every = BINARY + CLASSES
    all_of = [
        c("sklearn", brier, "brier", every, "brier_score_loss(scale_by_half=False)"),
        c("sklearn", losses, "log_loss", every, "log_loss"),
        c("sklearn", skill, "brier_skill", BINARY + CLASSES, "d2_brier_score"),
        c("sklearn", curve("uniform", 5), "ece(preset=sklearn)", BINARY,
          "calibration_curve", read=diagram),
        c("sklearn", curve("uniform", 16), "ece(preset=sklearn,bins=16)", BINARY,
          "calibration_curve(n_bins=16)", read=diagram),
        c("sklearn", curve("uniform", 10), "ece(preset=sklearn,bins=10)", BINARY,
          "calibration_curve(n_bins=10)", read=diagram),
        c("sklearn", curve("quantile", 15), "ece(binning=mass,bins=15)", DISTINCT,
          "calibration_curve(strategy='quantile')", read=diagram),
        *torchmetrics_comparisons("l1", 15, "ece(preset=torchmetrics)", ""),
        *torchmetrics_comparisons("l2", 15, "rmsce(preset=torchmetrics)", "norm='l2'", 5e-5),
        *torchmetrics_comparisons("max", 15, "mce(preset=torchmetrics)", "norm='max'"),
        *torchmetrics_comparisons("l1", 10, "ece(preset=torchmetrics,bins=10)", "n_bins=10"),
        *torchmetrics_comparisons("l1", 16, "ece(preset=torchmetrics,bins=16)", "n_bins=16"),
        c("netcal", netcal_measure("ECE", bins=10), "ece(preset=netcal)", every, "ECE(10)"),
        c("netcal", netcal_measure("MCE", bins=10), "mce(preset=netcal)", every, "MCE(10)"),
        c("netcal", netcal_measure("ACE", bins=10), "average_ce(preset=netcal)", every, "ACE(10)"),
        c("netcal", netcal_measure("ECE", bins=16), "ece(preset=netcal,bins=16)", BINARY, "ECE(16)"),
        c("netcal", netcal_measure("MMCE"), "mmce", every, "MMCE"),
        c("mapie", ece, "ece(preset=mapie)", every, "expected_calibration_error"),
        c("mapie", classwise, "classwise_ece(preset=mapie)", CLASSES,
          "expected_calibration_error(classwise=True)"),
        c("mapie", by_class, "ece_by_predicted_class(preset=mapie,weighting=classes)", CLASSES,
          "top_label_ece"),
        # It breaks ties by noise of 1e-8 of a score.
        c("mapie", mapie_ks, "ks_calibration", DISTINCT + ["dyadic", "dyadic_f32"],
          "kolmogorov_smirnov_statistic * scale", double=1e-6),
        c("mapie", mapie_kuiper, "kuiper_calibration", DISTINCT + ["dyadic", "dyadic_f32"],
          "kuiper_statistic * scale", double=1e-6),
        c("mapie", lambda d: mapie.spiegelhalter_statistic(d.y, d.p), "spiegelhalter_z",
          BINARY, "spiegelhalter_statistic", double=1e-10, single=1e-4),
        c("uncertainty-calibration", lambda d: float(verified.get_ece(d.p, d.y)),
          "ece(preset=guo)", every, "get_ece"),
        c("uncertainty-calibration", scaling_ce(1, False, "get_equal_prob_bins", bins=16),
          "ece(preset=guo,bins=16)", BINARY, "get_ece(num_bins=16)"),
        c("uncertainty-calibration", scaling_ce(1, False, "get_equal_prob_bins", bins=10),
          "ece(preset=guo,bins=10)", BINARY, "get_ece(num_bins=10)"),
        c("uncertainty-calibration", two_columns_ece, "ece_top_label", BINARY,
          "get_ece([1 - p, p])"),
        c("uncertainty-calibration", scaling_ce(2, False, "get_equal_prob_bins"), "rmsce", every,
          "lower_bound_scaling_ce(p=2, debias=False, get_equal_prob_bins)", single=1e-5),
        c("uncertainty-calibration", scaling_ce(2, True, "get_equal_prob_bins"),
          "ece(norm=l2,debias=true)", every,
          "lower_bound_scaling_ce(p=2, get_equal_prob_bins)", single=1e-5),
        c("uncertainty-calibration", scaling_ce(1, False, "get_equal_prob_bins", "marginal"),
          "classwise_ece", CLASSES, "get_ece(mode='marginal')"),
        c("uncertainty-calibration", scaling_ce(2, False, "get_equal_prob_bins", "marginal"),
          "classwise_ece(norm=l2)", CLASSES,
          "lower_bound_scaling_ce(p=2, debias=False, get_equal_prob_bins, 'marginal')",
          single=1e-5),
        c("uncertainty-calibration", lambda d: float(verified.get_calibration_error(
            d.p, d.y, mode="top-label")), "ece(preset=uncertainty_calibration)",
          every, "get_calibration_error(mode='top-label')", single=1e-5),
        c("uncertainty-calibration", lambda d: float(verified.get_ece_em(d.p, d.y)),
          "ece(preset=uncertainty_calibration,norm=l1,debias=false)",
          DISTINCT + ["classes5", "classes5_f32", "classes12", "classes12_f32"],
          "get_ece_em"),
        # relplot computes on a grid.
        c("relplot", lambda d: float(relplot.smECE_sigma(d.p, d.y, 0.1)),
          "smooth_ece(sigma=0.1)", BINARY, "smECE_sigma(sigma=0.1)", double=2e-3, single=2e-3),
        c("relplot", lambda d: float(relplot.smECE(d.p, d.y)), "smooth_ece",
          [name for name in BINARY if not name.startswith("dyadic")], "smECE",
          double=2e-3, single=2e-3),
        c("scipy", least_temperature, "temperature", ["logits4", "logits1"],
          "minimize_scalar over T of the log loss", double=1e-6),
        c("sklearn", held_out_loss(platt), "platt", ["logits1"],
          "LogisticRegression(C=inf), log_loss of the other rows", double=1e-6,
          read=others_after("log_loss")),
        c("sklearn", isotonic_brier, "isotonic", ["logits1"],
          "IsotonicRegression, brier of the other rows", double=1e-9,
          read=others_after("brier")),
    ]
    return all_of


# ---- known differences ----------------------------------------------------------------------------

# (library, metrics, data, why the library's value is not cupel's). Listed, not imitated. A line that
# is not needed any more fails, so that the table stays true.
LINSPACE = (
    "its edges come from linspace: 0.30000000000000004 for 3/10, and a confidence of 0.3, which lies "
    "on the edge, is a bin lower in [lo, hi)"
)
EDGES_F32 = (
    "its edges are of the data's type: in float32, 7/10 is 0.69999998808, where the float32 value 0.7 "
    "lies, too; cupel compares that value with the double 7/10, which is above it"
)
NETCAL_EDGES = (
    "it counts rows with numpy.histogramdd and averages them with scipy's binned_statistic_dd, which "
    "takes a value close to an edge for the edge: counts and means are of different bins"
)
BOUNDARY = (
    "it halves the mass of rows at exactly 0 and 1: the reflection of its kernel does not double them"
)
KNOWN = [
    ("torchmetrics", ["ece(preset=torchmetrics,bins=10)"], ["tenths"], LINSPACE),
    ("torchmetrics", ["ece(preset=torchmetrics,bins=10)"], ["tenths_f32"], EDGES_F32),
    ("netcal",
     ["ece(preset=netcal)", "mce(preset=netcal)", "average_ce(preset=netcal)"],
     ["tenths", "tenths_f32"], NETCAL_EDGES),
    ("relplot", ["smooth_ece(sigma=0.1)", "smooth_ece"],
     ["dyadic", "dyadic_f32", "tenths", "tenths_f32"], BOUNDARY),
    ("mapie", ["ks_calibration", "kuiper_calibration"], ["dyadic", "dyadic_f32"],
     "it walks through equal scores one by one, in an order that its noise makes; cupel steps over "
     "them at once"),
    ("netcal", ["mmce"], BINARY,
     "of a binary score it takes p for the confidence of the decision p > 0.5, right or wrong, also "
     "where it decides against the class that p is of"),
]


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], make_data, comparisons, KNOWN, PACKAGES,
                  ("<!-- measured -->", "<!-- /measured -->")))
