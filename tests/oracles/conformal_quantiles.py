"""Which order statistic of n calibration scores a library takes for qhat, beside cupel's `quantile=`.

METRICS 4.1 has the table that `CELLS` repeats; `LADDER` is asked besides. Scores are i / (n + 1), so that
qhat says its rank. Where a library raises, cupel has an infinite qhat.
"""

import json
import math
import pathlib
import tempfile
import warnings
from fractions import Fraction

import conformal_libraries as lib
import numpy as np  # after the harness, which may start the program over

CELLS = [(8, "0.1"), (9, "0.1"), (19, "0.1"), (99, "0.1"), (100, "0.1"), (1000, "0.1"), (19, "0.05"), (99, "0.45")]
LADDER = [(n, alpha)
          for n in (7, 10, 11, 29, 39, 59, 79, 100, 159, 179, 198, 199, 299, 499, 500, 999, 1999)
          for alpha in ("0.01", "0.05", "0.1", "0.2", "0.25", "0.3", "0.45", "0.5")]  # fmt: skip
RAISES = "error"


def scores(n):
    return np.arange(1, n + 1) / (n + 1)


def one_label(n):
    """Rows of which lac of label 0 are the scores, and one row to make a set of."""
    s = scores(n)
    p = np.concatenate([np.stack([1 - s, s], axis=1), [[0.5, 0.5]]])
    return lib.Rows(p, np.zeros(n + 1, int), np.arange(n + 1) < n)


def mapie_regression(n, alpha, **options):
    class Zero(lib.sklearn_base.RegressorMixin, lib.sklearn_base.BaseEstimator):
        fitted_ = True

        def fit(self, X, y):
            return self

        def predict(self, X):
            return np.zeros(len(X))

    regressor = lib.mapie_regression.SplitConformalRegressor(Zero(), confidence_level=1 - alpha, prefit=True)
    regressor.conformalize(np.zeros((n, 1)), scores(n))
    return regressor.predict_interval(np.zeros((1, 1)), **options)[1][0, 1, 0]


def crepes_regression(n, alpha):
    fitted = lib.crepes.ConformalRegressor().fit(scores(n))
    return fitted.predict_int(np.zeros(1), confidence=1 - alpha)[0, 1]


def crepes_classification(n, alpha):
    """The largest score that a set holds, among the calibration scores and one above them."""
    asked = np.append(scores(n), 0.9999999)
    fitted = lib.crepes.ConformalClassifier().fit(scores(n))
    held = fitted.predict_set(asked[:, None], confidence=1 - alpha, smoothing=False)[:, 0]
    return math.inf if held.all() else asked[held.sum() - 1]


def numpy_higher(n, alpha):
    return np.quantile(scores(n), math.ceil((n + 1) * (1 - alpha)) / n, method="higher")


def mapie_before(n, alpha):
    """As MAPIE 1.5.0 and before: mapie.utils._compute_classification_quantile, behind its check of n."""
    if n < max(1 / alpha, 1 / (1 - alpha)):
        raise ValueError("number of samples")
    return np.quantile(scores(n), (n + 1) * (1 - alpha) / n, method="higher")


# What each asks, the package, cupel's quantile, METRICS 4.1's column (CELLS in order; None: not there).
ASKED = [
    ("numpy.quantile(ceil((n+1)(1-alpha))/n, method='higher')", "numpy", numpy_higher, "numpy_higher",
     [RAISES, 9, 19, 91, 92, 902, 19, 57]),
    ("SplitPredictor", "torchcp", lambda n, a: lib.torchcp_split(one_label(n), "lac", a).qhat, "exact",
     [math.inf, 9, 18, 90, 91, 901, 19, 56]),
    ("ClassConditionalPredictor", "torchcp", lambda n, a: lib.torchcp_by_class(one_label(n), "lac", a).qhat[0],
     "exact", None),
    ("SplitConformalClassifier", "MAPIE", lambda n, a: lib.mapie_split(one_label(n), "lac", a).qhat, "exact",
     [RAISES, RAISES, 19, 91, 91, 901, RAISES, 56]),
    ("as of 1.5.0 and before", "MAPIE", mapie_before, "mapie_cls",
     [RAISES, RAISES, 19, 91, 91, 901, RAISES, 56]),
    ("SplitConformalRegressor", "MAPIE", mapie_regression, "mapie_reg",
     [RAISES, RAISES, 18, 90, 91, 901, RAISES, 56]),
    ("BaseCalibrator", "puncc", lambda n, a: lib.puncc_split(one_label(n), "lac", a).qhat, "puncc",
     [RAISES, 9, 18, 90, 91, 901, 19, 56]),
    ("ConformalRegressor", "crepes", crepes_regression, "crepes",
     [math.inf, math.inf, 19, 91, 91, 901, 19, 56]),
    ("ConformalClassifier(smoothing=False)", "crepes", crepes_classification, "crepes", None),
]  # fmt: skip


def rank(call, n, alpha):
    """The rank of the library's qhat among the scores, inf, or RAISES."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            qhat = float(np.ravel(call(n, float(alpha)))[0])
    except ValueError:
        return RAISES
    if math.isinf(qhat):
        return math.inf
    nearest = round(qhat * (n + 1))
    return nearest if abs(nearest / (n + 1) - qhat) < 1e-9 else f"no score: {qhat}"


def exact_rank(n, alpha):
    k = math.ceil((n + 1) * (1 - Fraction(alpha)))
    return k if k <= n else math.inf


def rounds_up(n, alpha):
    """Doubles make (n + 1)(1 - alpha), a whole number, a little larger, so that ceil() takes one more."""
    return math.ceil((n + 1) * (1 - float(alpha))) > math.ceil((n + 1) * (1 - Fraction(alpha)))


def cupel_ranks(cupel, cells, conventions):
    """{(convention, n, alpha): rank or inf} of `coverage(quantile=...)`."""
    out = {}
    with tempfile.TemporaryDirectory(prefix="cupel-oracles-") as folder:
        for n in sorted({n for n, _ in cells}):
            path = pathlib.Path(folder) / f"{n}.npz"
            rows = one_label(n)
            np.savez(path, probs=np.concatenate([rows.p_cal, rows.p]), label=np.zeros(n + 1, np.int64),
                     cal=np.arange(n + 1) < n)  # fmt: skip
            alphas = sorted({alpha for m, alpha in cells if m == n})
            metrics = ",".join(f"coverage(conformal=lac,quantile={name})" for name in conventions)
            text = cupel.run(["eval", str(path), "--metrics", metrics, "--alpha", ",".join(alphas), "--calibration",
                              "cal", "--format", "json", "-q"])  # fmt: skip
            for result in json.loads(text)["results"]:
                params, details = result["params"], result["details"]
                infinite = math.isinf(float(details["qhat"]))
                key = (params["quantile"], n, float(params["alpha"]))
                out[key] = math.inf if infinite else details["rank"]
    return out


def shown(value):
    return "inf" if value == math.inf else str(value)


def check(cupel):
    """Lines for the document, and failures: cells where cupel and the library differ for no known reason."""
    conventions = sorted({asked[3] for asked in ASKED})
    ours = cupel_ranks(cupel, {*CELLS, *LADDER}, conventions)
    present = {"numpy": True, "torchcp": lib.torchcp, "MAPIE": lib.mapie_classification, "crepes": lib.crepes,
               "puncc": lib.puncc_calibration}  # fmt: skip
    lines = ["", "Which order statistic is qhat, n calibration scores, as asked today (in brackets what METRICS 4.1 says "
             "where it says something else); the last two columns: cells of these and of "
             f"{len(LADDER)} others that cupel's `quantile=` has too, and the others.", "",
             "| library | call | " + " | ".join(f"{n}, {alpha[1:]}" for n, alpha in CELLS) + " | cupel | equal | not |",
             "|---|---|" + "---|" * len(CELLS) + "---|---|---|"]  # fmt: skip
    failures = []
    for function, package, call, convention, said in ASKED:
        if not present[package]:
            continue
        cells, equal, other = [], 0, 0
        for n, alpha in [*CELLS, *LADDER]:
            theirs, mine = rank(call, n, alpha), ours[convention, n, float(alpha)]
            if len(cells) < len(CELLS):
                claim = said[len(cells)] if said else theirs
                cells.append(shown(theirs) + (f" [{shown(claim)}]" if claim != theirs else ""))
            if theirs == mine or (theirs == RAISES and mine == math.inf):
                equal += 1
                continue
            other += 1
            if not explained(function, convention, n, alpha, theirs, mine):
                failures.append(f"quantile={convention}, n = {n}, alpha = {alpha}: {shown(mine)}; {package}'s {function} "
                                f"takes {shown(theirs)}")  # fmt: skip
        lines.append(f"| {package} | `{function}` | " + " | ".join(cells) + f" | `{convention}` | {equal} | {other} |")
    lines += ["", "Where they differ: numpy's, TorchCP's, MAPIE's and puncc's k is ceil of a double, one more than of the "
              "exact product for alpha = 0.45 and some n; a k above n because of it is infinite, or refused; "
              "for MAPIE before 1.6.0 it is numpy's place (n + 1)(1 - alpha)(n - 1)/n that doubles make larger. MAPIE and "
              "puncc refuse some n for which k <= n. crepes' classifier holds p >= alpha, one score more than its regressor "
              "where alpha (n + 1) is a whole number in doubles too. MAPIE 1.6.0 changed its classifier: `mapie_cls` is "
              "what 1.5.0 and before took, today's is `exact`."]  # fmt: skip
    return lines, failures


def explained(function, convention, n, alpha, theirs, mine):
    """Whether this is one of the differences that the document lists."""
    exact = exact_rank(n, alpha)
    if convention in ("exact", "puncc", "mapie_reg", "numpy_higher", "mapie_cls") and rounds_up(n, alpha):
        return theirs in (mine + 1, math.inf, RAISES)
    place = (n + 1) * (1 - Fraction(alpha)) * (n - 1) / n  # numpy's place of that level among n scores
    if convention == "mapie_cls" and place.denominator == 1 and theirs == mine + 1:
        return True
    if theirs == RAISES:
        # n < max(1/alpha, 1/(1-alpha)) in MAPIE, alpha < 1/(n+1) in puncc.
        return n <= max(1 / float(alpha), 1 / (1 - float(alpha)))
    if function.startswith("ConformalClassifier"):
        return theirs == mine + 1 and (n + 1) * Fraction(alpha) == int((n + 1) * Fraction(alpha)) and exact <= mine
    return False
