"""MAPIE, TorchCP, crepes and puncc on given probabilities: what tests/oracles/conformal.py asks them.

A *fitted* thing here has `qhat` (a number, or one per class) and `sets`, a boolean matrix [rows, classes]
of the rows that were not for calibration. `Rows` are probabilities and labels of both halves.
Everything is computed in float64 (torch's default type is set to it) unless a function says otherwise.
"""

import importlib.abc
import importlib.machinery
import sys
import types
import warnings

from harness import module

import numpy as np  # after the harness, which may start the program over


class Empty(types.ModuleType):
    """A module that is not installed: any name imported from it is an empty class."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what only TorchCP's parts for graphs, language models and training need."""

    names = ("torch_geometric", "transformers", "torchsort", "torchvision")

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Empty(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.append(StandIn())  # last: what is installed is found first

torch = module("torch")
torchcp = module("torchcp")
torchcp_scores = module("torchcp.classification.score") if torchcp else None
torchcp_predictors = module("torchcp.classification.predictor") if torchcp else None
torchcp_metrics = module("torchcp.classification.utils.metrics") if torchcp else None
torchcp_regression = module("torchcp.regression.score") if torchcp else None
mapie_classification = module("mapie.classification")
mapie_regression = module("mapie.regression")
mapie_scores = module("mapie.conformity_scores")
mapie_set_metrics = module("mapie.metrics.classification")
mapie_interval_metrics = module("mapie.metrics.regression")
mapie_conditional = module("mapie.metrics.conditional")
mapie_uncertainty = module("mapie.metrics.uncertainty")
mapie_risks = module("mapie.risk_control")
crepes = module("crepes")
crepes_extras = module("crepes.extras")
puncc = module("deel.puncc")
puncc_calibration = module("deel.puncc.api.calibration")
puncc_scores = module("deel.puncc.api.nonconformity_scores")
puncc_sets = module("deel.puncc.api.prediction_sets")
puncc_metrics = module("deel.puncc.metrics")
sklearn_base = module("sklearn.base")

if torch:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)


class Rows:
    """Probabilities [n, k] and labels [n], float64, of the rows for calibration and of the others."""

    def __init__(self, p, y, calibration):
        p = np.stack([1 - p, p], axis=1) if p.ndim == 1 else p
        p = p.astype(np.float64)
        self.k = p.shape[1]
        self.p_cal, self.y_cal = p[calibration], y[calibration]
        self.p, self.y = p[~calibration], y[~calibration]


class Fitted:
    def __init__(self, qhat, sets):
        self.qhat, self.sets = qhat, np.asarray(sets, bool)


# ---- TorchCP -------------------------------------------------------------------------------------


def torchcp_score(name, kind="identity", randomized=False, penalty=0.01, kreg=5, weight=0.2):
    """A score of probabilities (kind=identity) or of logits (softmax)."""
    scores = torchcp_scores
    return {
        "lac": lambda: scores.LAC(kind),
        "aps": lambda: scores.APS(kind, randomized),
        "raps": lambda: scores.RAPS(kind, randomized, penalty, kreg),
        "saps": lambda: scores.SAPS(kind, randomized, weight),
        "topk": lambda: scores.TOPK(kind, randomized),
        "margin": lambda: scores.Margin(kind),
    }[name]()


def torchcp_fit(score, x_cal, y_cal, x, alpha, predictor="SplitPredictor", qhat=None, **options):
    """Calibrates on arrays and makes the sets of x, at `qhat` instead where that is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = getattr(torchcp_predictors, predictor)(score, alpha=alpha, **options)
        # Margin writes into what it is given.
        fitted.calculate_threshold(torch.tensor(x_cal), torch.tensor(y_cal), alpha)
        at = fitted.q_hat if qhat is None else qhat
        sets = fitted.predict_with_logits(torch.tensor(x), at)
    answer = Fitted(np.asarray(fitted.q_hat, float), sets.numpy())
    answer.predictor = fitted
    return answer


def torchcp_split(rows, name, alpha, qhat=None, **options):
    return torchcp_fit(torchcp_score(name, **options), rows.p_cal, rows.y_cal, rows.p, alpha, qhat=qhat)


def torchcp_by_class(rows, name, alpha, **options):
    score = torchcp_score(name, **options)
    return torchcp_fit(score, rows.p_cal, rows.y_cal, rows.p, alpha, "ClassConditionalPredictor")


def torchcp_metric(name, *arguments, **options):
    """A metric of TorchCP's registry; arrays become tensors."""
    tensors = [torch.tensor(a.astype(np.int64) if a.dtype == bool else a) if isinstance(a, np.ndarray) else a
               for a in arguments]  # fmt: skip
    return torchcp_metrics.Metrics()(name)(*tensors, **options)


# ---- MAPIE ---------------------------------------------------------------------------------------


def given_probabilities(p):
    """An estimator that was fitted before: rows are numbers of rows of p."""

    class Given(sklearn_base.ClassifierMixin, sklearn_base.BaseEstimator):
        def __init__(self):
            self.classes_ = np.arange(p.shape[1])
            self.n_features_in_ = 1

        def fit(self, X, y):
            return self

        def predict_proba(self, X):
            return p[np.asarray(X)[:, 0].astype(int)]

        def predict(self, X):
            return self.predict_proba(X).argmax(axis=1)

    return Given()


class NoNoise(np.random.RandomState):
    """u = 0, for APS and RAPS, which subtract u p at calibration whatever they are asked."""

    def uniform(self, *arguments, size=None, **more):
        return np.zeros(size)


def mapie_split(rows, score, alpha, include_last_label=True, random_state=None):
    """Scores lac, aps, raps, top_k. `answer.score` is MAPIE's score after calibration."""
    everyone = given_probabilities(np.concatenate([rows.p_cal, rows.p]))
    n = len(rows.y_cal)
    numbers = np.arange(n + len(rows.y), dtype=float)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = mapie_classification.SplitConformalClassifier(
            everyone, confidence_level=1 - alpha, conformity_score=score, prefit=True, random_state=random_state
        )
        fitted.conformalize(numbers[:n], rows.y_cal)
        _, sets = fitted.predict_set(numbers[n:], {"include_last_label": include_last_label})
    inner = fitted._mapie_classifier
    answer = Fitted(float(np.ravel(inner.quantiles_)[0]), sets[:, :, 0])
    answer.score = inner.conformity_score_function_
    return answer


# ---- crepes --------------------------------------------------------------------------------------


def crepes_scores(rows, name):
    """Scores of the labels for calibration, and of all labels of the others."""
    function = getattr(crepes_extras, {"lac": "hinge", "margin": "margin"}[name])
    return function(rows.p_cal, np.arange(rows.k), rows.y_cal), function(rows.p)


def crepes_split(rows, name, alpha, bins=None):
    """`bins`: a category of every calibration row and of every other one."""
    cal, scores = crepes_scores(rows, name)
    classifier = crepes.ConformalClassifier().fit(cal, None if bins is None else bins[0])
    sets = classifier.predict_set(scores, None if bins is None else bins[1], confidence=1 - alpha, smoothing=False)
    return Fitted(None, sets)


def crepes_by_class(rows, name, alpha):
    """As WrapClassifier with class_cond=True: column c against the calibration rows of label c."""
    cal, scores = crepes_scores(rows, name)
    sets = np.zeros(scores.shape, bool)
    for c in range(rows.k):
        one = crepes.ConformalClassifier().fit(cal[rows.y_cal == c])
        sets[:, c] = one.predict_set(scores[:, [c]], confidence=1 - alpha, smoothing=False)[:, 0]
    return Fitted(None, sets)


def crepes_p_values(rows, name):
    cal, scores = crepes_scores(rows, name)
    return crepes.ConformalClassifier().fit(cal).predict_p(scores, smoothing=False)


# ---- puncc ---------------------------------------------------------------------------------------


def puncc_split(rows, name, alpha, lambd=0.0, k_reg=1):
    if name == "lac":
        score, make = puncc_scores.lac_score, puncc_sets.lac_set
    else:
        score = puncc_scores.raps_score_builder(lambd, k_reg, rand=False)
        make = puncc_sets.raps_set_builder(lambd, k_reg, rand=False)
    return puncc_answer(puncc_calibration.BaseCalibrator(nonconf_score_func=score, pred_set_func=make), rows, alpha)


def puncc_by_class(rows, alpha):
    return puncc_answer(
        puncc_calibration.ClasswiseCalibrator(
            nonconf_score_func=puncc_scores.classwise_lac_score, pred_set_func=puncc_sets.classwise_lac_set
        ),
        rows,
        alpha,
    )


def puncc_answer(calibrator, rows, alpha):
    calibrator.fit(y_true=rows.y_cal, y_pred=rows.p_cal)
    (lists,) = calibrator.calibrate(alpha=alpha, y_pred=rows.p)
    sets = np.zeros(rows.p.shape, bool)
    for i, labels in enumerate(lists):
        sets[i, np.asarray(labels, int)] = True
    return Fitted(np.asarray(calibrator.compute_quantile(alpha=alpha), float), sets)
