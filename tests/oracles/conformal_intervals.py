"""Comparisons of tests/oracles/conformal.py beyond sets: intervals, control of a risk, selective prediction."""

import warnings

from harness import Comparison, value

import conformal_libraries as lib
import numpy as np  # after the harness, which may start the program over

ALPHA = 0.1


class Regression:
    """Real labels, predictions, their scale, and the ends of an interval; a half is for calibration."""

    single = False
    options = ["--calibration", "is_calibration"]

    def __init__(self, name, y, pred, sigma, lower, upper, calibration):
        self.name, self.y, self.pred, self.sigma, self.calibration = name, y, pred, sigma, calibration
        self.lower, self.upper = lower, upper

    def write(self, folder):
        self.path = folder / f"{self.name}.npz"
        np.savez(self.path, y=self.y, pred=self.pred, sigma=self.sigma, lower=self.lower, upper=self.upper,
                 is_calibration=self.calibration)  # fmt: skip

    def columns(self, calibration, *names):
        which = self.calibration if calibration else ~self.calibration
        return [getattr(self, name)[which] for name in names]


class Losses:
    """Losses in [0, 1] that do not rise with lambda, all rows but the last for calibration."""

    single = False
    options = ["--calibration", "is_calibration"]

    def __init__(self, name, losses, lambdas):
        self.name, self.losses, self.lambdas = name, losses, lambdas

    def write(self, folder):
        self.path = folder / f"{self.name}.npz"
        np.savez(self.path, loss=self.losses, lambdas=self.lambdas,
                 is_calibration=np.arange(len(self.losses)) < len(self.losses) - 1)  # fmt: skip


def make_data():
    rng = np.random.default_rng(20261126)
    sets = []
    for name, n in (("regression", 1501), ("few_rows", 220)):
        sigma = rng.uniform(0.5, 2, n)
        pred = rng.normal(0, 3, n)
        y = pred + sigma * rng.normal(0, 1, n)
        lower, upper = pred - 1.2 * sigma, pred + rng.uniform(0.2, 1.6, n) * sigma
        calibration = rng.random(n) < 0.5 if name == "regression" else np.arange(n) < 25
        sets.append(Regression(name, y, pred, sigma, lower, upper, calibration))
    # Multiples of 1/8: many residuals are equal, and labels lie on the ends of intervals.
    y, pred, sigma = rng.integers(-40, 41, 900) / 8, rng.integers(-40, 41, 900) / 8, rng.choice([0.5, 1, 2], 900)
    sets.append(Regression("eighths", y, pred, sigma, pred - 1, pred + 2, rng.random(900) < 0.5))
    steps = np.sort(rng.random((300, 12)), axis=1)[:, ::-1] * rng.random((300, 1))
    sets.append(Losses("losses", np.concatenate([steps, np.zeros((300, 1))], axis=1), np.linspace(0, 1, 13)))
    return sets


DATA = ["regression", "few_rows", "eighths"]


def judged(data, lower, upper):
    y = data.columns(False, "y")[0]
    return np.array([((lower <= y) & (y <= upper)).mean(), (upper - lower).mean()])


def spec(rule, more=""):
    options = f"conformal={rule},alpha={ALPHA}{more}"
    return f"coverage({options}),interval_width({options})"


def read(results):
    return np.array([value(result) for result in results])


# ---- libraries -----------------------------------------------------------------------------------


def torchcp_intervals(score, names):
    def call(data):
        torch = lib.torch
        cal = torch.tensor(np.stack(data.columns(True, *names), axis=1))
        other = torch.tensor(np.stack(data.columns(False, *names), axis=1))
        (y,) = data.columns(True, "y")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = score(cal, torch.tensor(y))
            qhat = lib.module("torchcp.utils.common").calculate_conformal_value(scores, ALPHA)
            ends = score.generate_intervals(other, torch.as_tensor(qhat).reshape(-1)).numpy()
        return judged(data, ends[:, 0, 0], ends[:, 0, 1])

    return call


def mapie_intervals(data):
    class Given(lib.sklearn_base.RegressorMixin, lib.sklearn_base.BaseEstimator):
        fitted_ = True

        def fit(self, X, y):
            return self

        def predict(self, X):
            return np.asarray(X)[:, 0]

    (cal, y), (other,) = data.columns(True, "pred", "y"), data.columns(False, "pred")
    regressor = lib.mapie_regression.SplitConformalRegressor(Given(), confidence_level=1 - ALPHA, prefit=True)
    regressor.conformalize(cal[:, None], y)
    ends = regressor.predict_interval(other[:, None])[1]
    return judged(data, ends[:, 0, 0], ends[:, 1, 0])


def crepes_intervals(normalized):
    def call(data):
        pred, sigma, y = data.columns(True, "pred", "sigma", "y")
        regressor = lib.crepes.ConformalRegressor().fit(y - pred, sigma if normalized else None)
        pred, sigma = data.columns(False, "pred", "sigma")
        ends = regressor.predict_int(pred, sigma if normalized else None, confidence=1 - ALPHA)
        return judged(data, ends[:, 0], ends[:, 1])

    return call


def puncc_intervals(score, interval, names):
    def call(data):
        calibrator = lib.puncc_calibration.BaseCalibrator(
            nonconf_score_func=getattr(lib.puncc_scores, score), pred_set_func=getattr(lib.puncc_sets, interval)
        )

        def given(calibration):
            columns = data.columns(calibration, *names)
            return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)

        calibrator.fit(y_true=data.columns(True, "y")[0], y_pred=given(True))
        return judged(data, *calibrator.calibrate(alpha=ALPHA, y_pred=given(False)))

    return call


def interval_metrics():
    """Of the columns `lower` and `upper` as they are."""
    given = f"conformal=none,alpha={ALPHA}"
    m = lib.mapie_interval_metrics

    def ends(d):
        return np.stack([d.lower, d.upper], axis=1)[:, :, None]

    return [
        Comparison("mapie", lambda d: m.regression_coverage_score(d.y, ends(d))[0], f"coverage({given})", DATA,
                   "regression_coverage_score"),
        Comparison("mapie", lambda d: m.regression_mean_width_score(ends(d))[0], f"interval_width({given})", DATA,
                   "regression_mean_width_score"),
        Comparison("mapie", lambda d: m.regression_mwi_score(d.y, ends(d), 1 - ALPHA), f"interval_score({given})", DATA,
                   "regression_mwi_score"),
        Comparison("mapie", lambda d: m.coverage_width_based(d.y, d.lower, d.upper, 10, 1 - ALPHA), f"cwc({given},eta=10)",
                   DATA, "coverage_width_based(eta=10)"),
        Comparison("puncc", lambda d: lib.puncc_metrics.regression_sharpness(d.lower, d.upper), f"interval_width({given})",
                   DATA, "regression_sharpness"),
        Comparison("puncc", lambda d: lib.puncc_metrics.regression_mean_coverage(d.y, d.lower, d.upper),
                   f"coverage({given})", DATA, "regression_mean_coverage"),
    ]  # fmt: skip


def intervals():
    def c(library, call, rule, function, more="", data=DATA):
        # eighths: 1/8 is exact, so that ends of intervals are; else a sum of doubles is rounded.
        return Comparison(library, call, spec(rule, more), data, function, double=1e-9, read=read, whole=True)

    scores = lib.torchcp_regression
    out = [
        c("mapie", mapie_intervals, "absolute", "SplitConformalRegressor", ",quantile=mapie_reg"),
        c("crepes", crepes_intervals(False), "absolute", "ConformalRegressor", ",quantile=crepes"),
        c("crepes", crepes_intervals(True), "normalized", "ConformalRegressor, sigmas", ",quantile=crepes"),
        c("puncc", puncc_intervals("absolute_difference", "constant_interval", ["pred"]), "absolute",
          "BaseCalibrator(absolute_difference, constant_interval)", ",quantile=puncc"),
        c("puncc", puncc_intervals("scaled_ad", "scaled_interval", ["pred", "sigma"]), "normalized",
          "BaseCalibrator(scaled_ad, scaled_interval)", ",quantile=puncc"),
        c("puncc", puncc_intervals("cqr_score", "cqr_interval", ["lower", "upper"]), "cqr",
          "BaseCalibrator(cqr_score, cqr_interval)", ",quantile=puncc"),
    ]  # fmt: skip
    if scores:
        out += [
            c("torchcp", torchcp_intervals(scores.ABS(), ["pred"]), "absolute", "ABS"),
            c("torchcp", torchcp_intervals(scores.CQR(), ["lower", "upper"]), "cqr", "CQR"),
        ]
    return out


# ---- risk control and selective prediction -----------------------------------------------------------


def risk_control():
    methods = lib.module("mapie.risk_control.methods")

    def crc(data, level):
        _, bound = methods.get_r_hat_plus(data.losses[:-1], data.lambdas, "crc", None, None, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(methods.find_best_predict_param(data.lambdas, bound, np.array([level]))[0])

    def bound(data, name):
        _, bounds = methods.get_r_hat_plus(data.losses[:-1], data.lambdas, "rcps", name, 0.1, None)
        return float(data.lambdas[np.flatnonzero(bounds <= 0.3)[0]])

    out = [Comparison("mapie", lambda d, a=a: crc(d, a), f"risk_control(alpha={a})", ["losses"],
                      "get_r_hat_plus('crc'), find_best_predict_param") for a in (0.05, 0.1, 0.3)]  # fmt: skip
    return out + [Comparison("mapie", lambda d, b=b: bound(d, b), f"risk_control(alpha=0.3,bound={b},delta=0.1)", ["losses"],
                             f"get_r_hat_plus('rcps', '{b}')") for b in ("hoeffding", "bernstein")]  # fmt: skip


def selective():
    def auarc(data):
        p = data.p.astype(float)
        return lib.mapie_uncertainty.auarc(p.argmax(axis=1) == data.y, p.max(axis=1))

    names = ["classes3", "classes12", "classes100"]
    return [
        Comparison("mapie", auarc, "auarc", names, "auarc"),
        Comparison("mapie", lambda d: 1 - auarc(d), "aurc", names, "1 - auarc"),
    ]


def comparisons():
    return [*intervals(), *interval_metrics(), *risk_control(), *selective()]
