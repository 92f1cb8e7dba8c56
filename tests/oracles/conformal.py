#!/usr/bin/env python3
"""Compares cupel's conformal metrics with MAPIE, TorchCP, crepes and puncc.

    scripts/venv.sh --oracles-conformal   makes .venv-oracles with all of them: 5 GB
    tests/oracles/conformal.py [--cupel build/bin/cupel] [--all] [--write docs/LIBRARIES.md]

As oracles.py, beside which it stands; 77 also where one of the libraries is not installed. What is compared is
here (thresholds and sets of scores), in conformal_sets.py and in conformal_intervals.py. Besides, each library is asked
for the order statistic that it takes (conformal_quantiles.py), and each fault that docs/LIBRARIES.md lists is shown
(conformal_faults.py): one that is no longer there fails, so that the list stays true.
"""

import sys

from harness import SKIPPED, Comparison, main, value

import conformal_faults
import conformal_intervals
import conformal_libraries as lib
import conformal_quantiles
import conformal_sets
import numpy as np  # after the harness, which may start the program over

PACKAGES = {
    "mapie": ("MAPIE", lib.mapie_classification),
    "torchcp": ("torchcp", lib.torchcp),
    "crepes": ("crepes", lib.crepes),
    "puncc": ("puncc", lib.puncc_calibration),
    "covmetrics": ("covmetrics", lib.mapie_conditional),
}

# ---- data ----------------------------------------------------------------------------------------


class Data:
    """Rows of several classes, or of one score; about half of them are for calibration."""

    def __init__(self, name, p, y, calibration, logits=None, alphas=(0.05, 0.1, 0.3), options=(), **more):
        self.name, self.p, self.y, self.calibration, self.logits = name, p, y, calibration, logits
        self.alphas, self.more = alphas, more
        self.options = ["--calibration", "is_calibration", *options]
        self.single = (p if logits is None else logits).dtype == np.float32
        self.rows = lib.Rows(p, y, calibration)

    def write(self, folder):
        arrays = {"label": self.y, "is_calibration": self.calibration, **self.more}
        if self.logits is not None:
            arrays["logits"] = self.logits
        else:
            arrays["score" if self.p.ndim == 1 else "probs"] = self.p
        self.path = folder / f"{self.name}.npz"
        np.savez(self.path, **arrays)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def drawn(rng, p):
    """A label of each row, drawn by probabilities that are flatter than p: the model is overconfident."""
    flat = softmax(np.log(p) * 0.6)
    return (flat.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1).clip(max=p.shape[1] - 1)


def make_data():
    rng = np.random.default_rng(20261125)
    sets = []

    def half(n):
        return rng.random(n) < 0.5

    for name, n, k in (("classes3", 700, 3), ("classes12", 2000, 12), ("classes100", 3000, 100)):
        z = rng.normal(0, 2.2, (n, k))
        p = softmax(z)
        # Of 3 classes more than 10 % of the labels come last: qhat of aps is the sum of a whole row (data `last3`).
        alphas = (0.2, 0.3, 0.4) if k == 3 else (0.05, 0.1, 0.3)
        sets.append(Data(name, p, drawn(rng, p), half(n), alphas=alphas))
    sets.append(Data("last3", sets[0].p, sets[0].y, sets[0].calibration, alphas=(0.05, 0.1)))
    # Rows of probabilities that are multiples of 1/64, many of them equal, 0 among them: all sums are exact.
    n, k = 1500, 6
    p = rng.multinomial(64, rng.dirichlet(np.full(k, 0.8), n)) / 64
    sets.append(Data("ties6", p, drawn(rng, (p + 1e-3) / (1 + k * 1e-3)), half(n)))
    z = rng.normal(0, 2.2, (1500, 12)).astype(np.float32)
    p = softmax(z.astype(np.float64))
    sets.append(Data("logits12_f32", p, drawn(rng, p), half(1500), logits=z))
    p = softmax(rng.normal(0, 2.2, (1500, 12)))
    sets.append(Data("classes12_f32", p.astype(np.float32), drawn(rng, p), half(1500)))
    score = rng.beta(0.8, 0.9, 900)
    sets.append(Data("binary", score, (rng.random(900) < score**1.3).astype(int), half(900)))
    # 15 rows: too few for alpha = 0.05, where qhat is infinite.
    p = softmax(rng.normal(0, 2.2, (400, 5)))
    sets.append(Data("few5", p, drawn(rng, p), np.arange(400) < 15, alphas=(0.05, 0.2, 0.4)))
    sets += special_data(rng)
    sets += conformal_intervals.make_data()
    return {data.name: data for data in sets}


def special_data(rng):
    """What only some comparisons are made on."""
    n, k = 1600, 6
    z = rng.normal(0, 2.2, (n, k))
    p, half = softmax(z), rng.random(n) < 0.5
    y = drawn(rng, p)
    out = [
        Data("groups", p, y, half, options=["--group", "g"], g=rng.integers(0, 3, n)),
        # Powers of two, so that sums of weights are exact; a rare weight of 8.
        Data("weights", p, y, half, weight=rng.choice([0.25, 0.5, 1.0, 2.0, 8.0], n, p=[0.3, 0.3, 0.2, 0.18, 0.02])),
        Data("features", p, y, half, embedding=rng.normal(0, 1, (n, 1))),
    ]
    # Class 4 is not among the labels.
    p = softmax(rng.normal(0, 2.2, (900, 5)))
    out.append(Data("absent5", p, drawn(rng, p[:, :4] / p[:, :4].sum(axis=1, keepdims=True)), rng.random(900) < 0.5))
    # Classes of two kinds, well predicted and badly: two clusters.
    n, k = 16000, 40
    y = np.arange(n) % k
    z = rng.normal(0, 1, (n, k))
    z[np.arange(n), y] += np.where(y < k // 2, 6, 2) + rng.normal(0, 1, n)
    out.append(Data("clusters", softmax(z), y, np.arange(n) // k % 2 == 0))
    return out


DISTINCT = ["classes3", "classes12", "classes100", "binary"]
SINGLE = ["classes12_f32", "logits12_f32"]
MANY = ["classes3", "classes12", "classes100", "ties6", *SINGLE, "few5"]  # classes: more than two
EVERY = [*MANY, "binary", "last3"]

# ---- what is read --------------------------------------------------------------------------------


def qhat_coverage_size(results):
    """Of `coverage, set_size` of every alpha: qhat, coverage and mean size, alpha by alpha."""
    half = len(results) // 2
    return np.ravel([
        [float(covered["details"]["qhat"]), value(covered), value(size)]
        for covered, size in zip(results[:half], results[half:])
    ])  # fmt: skip


def coverage_size(results):
    return qhat_coverage_size(results).reshape(-1, 3)[:, 1:].ravel()


def qhats(results):
    return qhat_coverage_size(results).reshape(-1, 3)[:, 0]


def both(options):
    return f"coverage({options}),set_size({options})"


def at_all_alphas(spec):
    return lambda cupel, data: cupel.results(data, spec, ["--alpha", ",".join(map(str, data.alphas))])


def covered(rows, sets):
    return sets[np.arange(len(rows.y)), rows.y]


def numbers(fit, what="qhat coverage size"):
    """A call that fits for every alpha; the numbers of `what` of each."""

    def call(data):
        out = []
        for alpha in data.alphas:
            fitted = fit(data.rows, alpha)
            measured = {
                "qhat": fitted.qhat,
                "coverage": covered(data.rows, fitted.sets).mean(),
                "size": fitted.sets.sum(axis=1).mean(),
            }
            out += [float(measured[name]) for name in what.split()]
        return np.array(out)

    return call


# ---- what is compared ----------------------------------------------------------------------------


def split_sets():
    """Thresholds and sets of split conformal prediction, score by score."""

    def c(library, fit, options, data, function, what="qhat coverage size"):
        read = {"qhat coverage size": qhat_coverage_size, "coverage size": coverage_size, "qhat": qhats}[what]
        return Comparison(library, numbers(fit, what), both(options), data, function, read=read, ask=at_all_alphas(both(options)))

    scores = {
        "lac": "conformal=lac",
        "aps": "conformal=aps",
        "raps": "conformal=raps,lambda=0.01,k_reg=5",
        "saps": "conformal=saps,lambda=0.2",
        "topk": "conformal=topk",
        "margin": "conformal=margin",
    }
    calls = {
        "lac": "LAC()", "aps": "APS(randomized=False)", "topk": "TOPK(randomized=False)", "margin": "Margin()",
        "raps": "RAPS(randomized=False, penalty=0.01, kreg=5)", "saps": "SAPS(randomized=False)",
    }  # fmt: skip
    out = []
    for name, options in scores.items():
        out.append(c("torchcp", lambda rows, a, name=name: lib.torchcp_split(rows, name, a), options, EVERY,
                     f"SplitPredictor({calls[name]})"))
    heavy = lambda rows, a: lib.torchcp_split(rows, "raps", a, penalty=0.3, kreg=1)  # noqa: E731
    out += [
        c("torchcp", heavy, "conformal=raps,lambda=0.3,k_reg=1", EVERY,
          "SplitPredictor(RAPS(randomized=False, penalty=0.3, kreg=1))"),
        c("mapie", lambda rows, a: lib.mapie_split(rows, "lac", a), "conformal=lac", EVERY,
          "SplitConformalClassifier(conformity_score='lac')"),
        c("mapie", lambda rows, a: lib.mapie_split(rows, "top_k", a), "conformal=topk,empty=argmax", MANY,
          "SplitConformalClassifier(conformity_score='top_k')", "coverage size"),
        c("mapie", lambda rows, a: lib.mapie_split(rows, "aps", a, False, lib.NoNoise(0)),
          "conformal=aps,empty=argmax", [*MANY, "last3"],
          "SplitConformalClassifier(conformity_score='aps'), include_last_label=False, u forced to 0"),
        c("mapie", lambda rows, a: lib.mapie_split(rows, "aps", a, True, np.random.RandomState(1)),
          "conformal=aps", ["classes3", "classes12", "classes100"], "SplitConformalClassifier(conformity_score='aps')", "coverage size"),
        c("crepes", lambda rows, a: lib.crepes_split(rows, "lac", a), "conformal=lac,quantile=crepes", EVERY,
          "ConformalClassifier, hinge, smoothing=False", "coverage size"),
        c("crepes", lambda rows, a: lib.crepes_split(rows, "margin", a), "conformal=margin,quantile=crepes", EVERY,
          "ConformalClassifier, margin, smoothing=False", "coverage size"),
        c("puncc", lambda rows, a: lib.puncc_split(rows, "lac", a), "conformal=lac,quantile=puncc", EVERY,
          "BaseCalibrator(lac_score, lac_set)"),
        c("puncc", lambda rows, a: lib.puncc_split(rows, "raps", a),
          "conformal=raps,lambda=0,k_reg=1,quantile=puncc", EVERY, "BaseCalibrator(raps_score_builder(0, 1, rand=False))", "qhat"),
        c("puncc", lambda rows, a: lib.puncc_split(rows, "raps", a, 0.3, 2),
          "conformal=raps,lambda=0.3,k_reg=2,quantile=puncc", EVERY,
          "BaseCalibrator(raps_score_builder(0.3, 2, rand=False))", "qhat"),
    ]  # fmt: skip
    return out


def comparisons():
    return [*split_sets(), *conformal_sets.comparisons(), *conformal_intervals.comparisons()]


# ---- known differences ---------------------------------------------------------------------------

# (library, metrics, data, why the library's value is not cupel's). Listed, not imitated.
WHOLE_ROW = (
    "qhat is the sum of a whole row, which is 1 but for what rounding leaves: some 2^-53 in the library, 2^-48 in cupel. "
    "Rows whose label comes last are equal on paper, and on both sides rounding says which sets hold it"
)
SAPS = (
    "not randomised, its calibration scores a label of rank 1 with 0, its sets with the largest probability: qhat is too "
    "small"
)
EPSILON = "it includes labels whose probability, or score, is within 1e-8 of the last one"
TIED = "of equal probabilities the higher class index comes first, or all of them count: it flips an ascending argsort"
REFUSES = "it refuses fewer than 1/alpha rows (puncc: 1/alpha - 1), where qhat is infinite"
RANDOM = (
    "its calibration subtracts u p[label], its sets hold the label at which the sum reaches qhat: larger, never empty"
)
KNOWN = [
    ("torchcp", [both("conformal=aps"), both("conformal=raps,lambda=0.01,k_reg=5"),
                 both("conformal=raps,lambda=0.3,k_reg=1")], ["last3"], WHOLE_ROW),
    ("torchcp", ["p_value(conformal=aps)"], ["classes3", "classes12"], WHOLE_ROW),
    ("torchcp", [both("conformal=saps,lambda=0.2")], ["classes3", "binary", "few5"], SAPS),
    ("mapie", [both("conformal=lac"), both("conformal=topk,empty=argmax"), both("conformal=aps,empty=argmax")],
     ["classes100"], EPSILON),
    ("mapie", [both("conformal=topk,empty=argmax"), both("conformal=aps,empty=argmax")], ["ties6"], TIED),
    ("mapie", [both("conformal=aps,empty=argmax")], ["last3"], WHOLE_ROW),
    ("mapie", [both("conformal=lac"), both("conformal=topk,empty=argmax"), both("conformal=aps,empty=argmax")],
     ["few5"], REFUSES),
    ("mapie", [both("conformal=aps")], ["classes3", "classes12", "classes100"], RANDOM),
    ("puncc", [both("conformal=lac,quantile=puncc"), both("conformal=raps,lambda=0,k_reg=1,quantile=puncc"),
               both("conformal=raps,lambda=0.3,k_reg=2,quantile=puncc")], ["few5"], REFUSES),
    ("puncc", [both("conformal=raps,lambda=0,k_reg=1,quantile=puncc")], ["ties6"], TIED),
    ("puncc", ["macro_coverage(conformal=aps,alpha=0.2)"], ["absent5"], "it raises where a class has no rows"),
]  # fmt: skip


def more(cupel):
    lines, failures = [], []
    for part in (conformal_quantiles, conformal_faults):
        told, failed = part.check(cupel)
        lines += told
        failures += failed
    return lines, failures


if __name__ == "__main__":
    absent = [package for package, loaded in PACKAGES.values() if loaded is None]
    if absent:
        print(f"oracles skipped: no {', '.join(absent)}; scripts/venv.sh --oracles-conformal installs them")
        sys.exit(SKIPPED)
    sys.exit(main(__doc__.splitlines()[0], make_data, comparisons, KNOWN, PACKAGES,
                  ("<!-- conformal -->", "<!-- /conformal -->"), more))
