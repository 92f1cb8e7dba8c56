"""Faults of the libraries that tests/oracles/conformal.py meets, each shown: listed, not imitated.

A fault is a function that returns whether it is there, and what is seen. One that is gone fails.
"""

import io
import warnings
from contextlib import redirect_stdout

import conformal_libraries as lib
import numpy as np  # after the harness, which may start the program over


def uniform_rows(n, k, seed=0):
    p = np.random.default_rng(seed).dirichlet(np.ones(k), n)
    return p, (p.cumsum(axis=1) < np.random.default_rng(seed + 1).random((n, 1))).sum(axis=1).clip(max=k - 1)


# ---- TorchCP -------------------------------------------------------------------------------------


def saps_of_rank_one():
    p = lib.torch.tensor([[0.6, 0.3, 0.1]])
    score = lib.torchcp_score("saps")
    calibration, sets = float(score(p.clone(), lib.torch.tensor([0]))[0]), float(score(p.clone())[0, 0])
    return (calibration, sets) == (0.0, 0.6), f"of p = .6, .3, .1 label 0 scores {calibration} and {sets}"


def margin_writes():
    p = lib.torch.tensor([[0.6, 0.3, 0.1]])
    lib.torchcp_score("margin")(p, lib.torch.tensor([0]))
    return float(p[0, 0]) == -1, f"p[label] is {float(p[0, 0])} afterwards"


def thresholds_of_float32():
    """With torch's own default type."""
    p, y = uniform_rows(400, 4)
    lib.torch.set_default_dtype(lib.torch.float32)
    try:
        fitted = lib.torchcp_fit(lib.torchcp_score("lac"), p, y, p, 0.1, "ClassConditionalPredictor")
    finally:
        lib.torch.set_default_dtype(lib.torch.float64)
    exact = lib.torchcp_fit(lib.torchcp_score("lac"), p, y, p, 0.1, "ClassConditionalPredictor")
    lost = [c for c in range(4) if fitted.qhat[c] < exact.qhat[c]]
    return bool(lost), f"of 4 classes {len(lost)} lose the calibration row that is their threshold"


def weights_sorted_alone():
    """Rows are (weight, p of label 0): scores 0.1 to 0.9, one of which weighs 10 and the others 1."""
    Module, cat, tensor = lib.torch.nn.Module, lib.torch.cat, lib.torch.tensor

    def layer(function):
        made = Module()
        made.forward = function
        return made

    model = layer(lambda x: cat([x[:, 1:], 1 - x[:, 1:]], dim=1))
    encoder = layer(lambda x: x[:, :1])
    detector = layer(lambda w: cat([1 / (1 + w), w / (1 + w)], dim=1))  # the ratio is the weight
    score = np.arange(1, 10) / 10
    sizes = []
    for heavy in (0.1, 0.9):
        rows = np.stack([np.where(score == heavy, 10.0, 1.0), 1 - score], axis=1)
        predictor = lib.torchcp_predictors.WeightedPredictor(
            lib.torchcp_score("lac"), model, image_encoder=encoder, domain_classifier=detector, device="cpu"
        )
        predictor.calibrate([(tensor(rows), lib.torch.zeros(9, dtype=lib.torch.int64))], alpha=0.4)
        asked = (tensor([[1.0, 0.5]]), tensor([0]))  # both labels score 0.5
        sizes.append(predictor.evaluate([asked])["average_size"])
    # 0.6 of the weight, 19, is at the score 0.3 in the first case and at 0.9 in the second.
    return sizes == [2.0, 2.0], (
        f"nine scores .1 to .9, the lowest weighs 10: the set of scores .5, .5 has {sizes[0]:g} labels, not 0 (qhat = .3)"
    )


def clusters_of_absent_classes():
    """Class 4 has no calibration row: in no cluster, its threshold is the last cluster's."""
    p, _ = uniform_rows(3000, 5)
    y = np.arange(3000) % 4
    fitted = lib.torchcp_fit(
        lib.torchcp_score("lac"), p, y, p[:1], 0.1, "ClusteredPredictor", num_clusters=2, ratio_clustering=0.5,
        split="doubledip",
    )  # fmt: skip
    null = int(fitted.predictor.cluster_assignments[4]) == -1
    return null and np.isfinite(fitted.qhat[4]), f"its threshold is {fitted.qhat[4]:.3f}, that of rare classes infinite"


def cqr_r_scale():
    score = lib.torchcp_regression.CQRR()
    predicted = lib.torch.tensor([[0.0, 2.0]])
    interval = np.ravel(score.generate_intervals(predicted, lib.torch.tensor([0.5])).numpy())
    return abs(interval[1] - 2) < 1e-5, f"[0, 2] with qhat = 0.5 becomes [{interval[0]:.6f}, {interval[1]:.6f}], not [-1, 3]"


def absolute_width():
    metrics = lib.module("torchcp.regression.utils.metrics").Metrics()
    size = metrics("average_size")(lib.torch.tensor([[1.0, 0.0]]))
    return size == 1.0, f"the crossed interval [1, 0] has size {size}"


def macro_coverage_of_absent_classes():
    sets = np.ones((4, 4), bool)
    rate = lib.torchcp_metric("coverage_rate", sets, np.array([0, 1, 2, 2]), "macro", 4)
    return rate == 0.75, f"sets of all labels have {rate} where one class of four does not occur"


def strata_end():
    sets = np.ones((4, 1001), bool)
    value = lib.torchcp_metric("SSCV", sets, np.arange(4), 0.1)
    return value == -1, f"SSCV of sets of 1001 labels is {value}"


def slab_needs_every_class():
    x, sets = np.random.default_rng(0).normal(size=(100, 2)), np.ones((100, 3), bool)
    try:
        lib.torchcp_metric("WSC", x, sets, np.arange(100) % 2)
    except ValueError as why:
        return "unique classes" in str(why), "it raises"
    return False, "it answers"


def slab_of_labels():
    """One feature. Sets hold half of the labels where x < 0, all of them elsewhere, where the label is 0."""
    x = np.linspace(-1, 1, 800)[:, None]
    y = (x[:, 0] < 0).astype(int)
    sets = np.ones((800, 2), bool)
    sets[:400:2, 1] = False
    value = lib.torchcp_metric("WSC", x, sets, y, 0.2, 10)
    return value > 0.9, f"coverage 0.5 where x < 0 and label 1, else 1: {value:.2f}, of the slab where labels are 0"


# ---- MAPIE ---------------------------------------------------------------------------------------


def one_class_of(rows, score, alpha, **options):
    return lib.mapie_split(lib.Rows(*rows), score, alpha, **options)


def epsilon():
    """The score of the other row is 5e-9 above qhat = 0.5."""
    p = np.concatenate([np.tile([0.5, 0.5], (9, 1)), [[0.5 - 5e-9, 0.5 + 5e-9]]])
    sets = one_class_of((p, np.zeros(10, int), np.arange(10) < 9), "lac", 0.2).sets
    return bool(sets[0, 0]), "a label whose score is 5e-9 above qhat is in the set"


def always_random():
    p, y = uniform_rows(400, 4)
    rows = (p, y, np.arange(400) < 200)
    fits = [one_class_of(rows, "aps", 0.1, random_state=np.random.RandomState(seed)) for seed in (1, 2)]
    plain = one_class_of(rows, "aps", 0.1, random_state=lib.NoNoise(0))
    sizes = [f"{fit.sets.sum(axis=1).mean():.3f}" for fit in fits]
    return fits[0].qhat != fits[1].qhat and all(fit.qhat < plain.qhat for fit in fits), (
        f"include_last_label=True, two seeds: qhat {fits[0].qhat:.4f} and {fits[1].qhat:.4f}, sizes {' and '.join(sizes)}; "
        f"without u {plain.qhat:.4f}, {plain.sets.sum(axis=1).mean():.3f}"
    )


def raps_search():
    """Its search for lambda penalises from rank lambda on, not from k*: cast(int, lambda_) for k_star."""
    score = lib.mapie_scores.RAPSConformityScore()
    sums = np.zeros((1, 4, 1))
    with_k = score._add_regularization(sums.copy(), lambda_=0.5, k_star=3, prediction_phase=False).ravel()
    return not np.allclose(with_k, 0.5 * np.maximum(0, np.arange(1, 5) - 3)), (
        f"with lambda = 0.5 and k* = 3 ranks 1 to 4 are charged {', '.join(f'{v:g}' for v in with_k)}"
    )


def raps_split():
    p, y = uniform_rows(1000, 4)
    score = one_class_of((p, y, np.arange(1000) < 500), lib.mapie_scores.RAPSConformityScore(size_raps=0.2), 0.1).score
    return len(score.y_raps) == 50, f"size_raps=0.2 of 500 calibration rows: lambda is looked for on {len(score.y_raps)}"


def flipped_ties():
    p = np.array([[0.25, 0.25, 0.5]] * 2)
    y = np.array([0, 2] + [1] * 38)
    fitted = one_class_of((np.repeat(p, 20, axis=0), y, np.arange(40) < 20), "aps", 0.2,
                          random_state=lib.NoNoise(0))  # fmt: skip
    return abs(fitted.qhat - 0.75) < 1e-12, f"of p = .25, .25, .5 label 1 has the sum {fitted.qhat:g}, so it ranks before 0"


def binary_lac_only():
    p, y = uniform_rows(100, 2)
    try:
        one_class_of((p, y, np.arange(100) < 50), "aps", 0.1)
    except ValueError as why:
        return "binary" in str(why), "it raises"
    return False, "it answers"


def slab_of_the_same_rows():
    """The slab with the least coverage is looked for, and reported, on the same rows: below 0.9 by chance."""
    rng = np.random.default_rng(0)
    x, covered = rng.normal(size=(400, 3)), rng.random(400) < 0.9
    sets = np.stack([covered, np.ones(400, bool)], axis=1)
    value = lib.mapie_conditional.worst_slab_coverage(x, np.zeros(400, int), y_sets=sets, n_directions=50)
    return value < 0.8, f"coverage that is 0.9 whatever x is: {value:.3f} (400 rows, 50 directions)"


# ---- crepes --------------------------------------------------------------------------------------


def truncated_level():
    q = [lib.crepes.ConformalRegressor().fit(np.arange(1.0, n + 1)).predict_int(np.zeros(1), confidence=0.9)[0, 1]
         for n in (9, 19, 99)]  # fmt: skip
    return q == [np.inf, 19.0, 91.0], "confidence 0.9: of 9, 19 and 99 residuals it takes inf, the 19th and the 91st"


def sets_at_alpha():
    fitted = lib.crepes.ConformalClassifier().fit(np.arange(1, 4) / 4)
    held = fitted.predict_set(np.array([[0.75, 0.99]]), confidence=0.75, smoothing=False)
    return held.tolist() == [[1, 1]], "of 3 scores, confidence 0.75: a label above all of them, p = 1/4, is in the set"


# ---- puncc ---------------------------------------------------------------------------------------


def sets_cut_by_rows():
    p = np.array([[0.4, 0.3, 0.2, 0.1]])
    sizes = [len(lib.puncc_sets.raps_set(np.repeat(p, n, axis=0), 0.95, rand=False)[0][0]) for n in (1, 2, 4)]
    return sizes == [1, 2, 4], f"qhat = .95, p = .4, .3, .2, .1: of 1, 2 and 4 rows sizes are {sizes}"


def one_label_more():
    p = np.array([[0.4, 0.3, 0.2, 0.1]] * 4)
    size = len(lib.puncc_sets.raps_set(p, 0.75, rand=False)[0][0])
    return size == 3, f"qhat = .75, p = .4, .3, .2, .1: {size} labels, whose sum is .9; those with a score <= qhat are 2"


def lost_at_the_threshold():
    p = uniform_rows(1000, 100)[0].ravel()
    lost = np.mean(p < 1 - (1 - p))
    return lost > 0.1, f"p >= 1 - qhat is false for {100 * lost:.0f} % of 100,000 p (rows of 100) whose own 1 - p is qhat"


FAULTS = [
    ("torchcp", "`SAPS(randomized=False)`: calibration and sets score a label of rank 1 differently", saps_of_rank_one),
    ("torchcp", "`Margin('identity')` writes into the probabilities it is given", margin_writes),
    ("torchcp", "`ClassConditionalPredictor`, `ClusteredPredictor` round thresholds and alpha to float32 "
     "(torch's default type)", thresholds_of_float32),
    ("torchcp", "`WeightedPredictor` sorts the weights by themselves, not with their scores", weights_sorted_alone),
    ("torchcp", "`ClusteredPredictor`: a class without calibration rows", clusters_of_absent_classes),
    ("torchcp", "`CQRR` takes its scale from the intervals that it is about to fill: 1e-6", cqr_r_scale),
    ("torchcp", "`average_size` of intervals is abs(hi - lo)", absolute_width),
    ("torchcp", "`coverage_rate(coverage_type='macro')` counts absent classes as 0", macro_coverage_of_absent_classes),
    ("torchcp", "`SSCV`, `DiffViolation` have no stratum above 1000", strata_end),
    ("torchcp", "`WSC` refuses labels that do not contain every class", slab_needs_every_class),
    ("torchcp", "`WSC` hands calWSC(X, y, covered) the labels for the coverage", slab_of_labels),
    ("mapie", "compares with a tolerance of 1e-8", epsilon),
    ("mapie", "APS and RAPS subtract u p at calibration whatever `include_last_label` says", always_random),
    ("mapie", "RAPS looks for lambda with k* = lambda", raps_search),
    ("mapie", "RAPS forgets `size_raps`: scikit-learn's default of a tenth is taken", raps_split),
    ("mapie", "APS, RAPS, top-k rank equal probabilities by descending class", flipped_ties),
    ("mapie", "two classes: only LAC", binary_lac_only),
    ("mapie", "`worst_slab_coverage` (covmetrics) reports the rows it searched", slab_of_the_same_rows),
    ("crepes", "`predict_int` truncates (1 - confidence)(n + 1), 1 - 0.9 being 0.09999999999999998", truncated_level),
    ("crepes", "`predict_set` holds labels with p >= 1 - confidence, not p > alpha", sets_at_alpha),
    ("puncc", "`raps_set` cuts sets at the number of rows it is asked for", sets_cut_by_rows),
    ("puncc", "`raps_set(rand=False)` holds the label at which the sum reaches qhat", one_label_more),
    ("puncc", "`lac_set` rounds on its way to the threshold", lost_at_the_threshold),
]  # fmt: skip

LIBRARIES = {"torchcp": (lib.torchcp, "TorchCP"), "mapie": (lib.mapie_classification, "MAPIE"),
             "crepes": (lib.crepes, "crepes"), "puncc": (lib.puncc_calibration, "puncc")}  # fmt: skip


def check(_):
    lines, failures = ["", "Faults and peculiarities, each shown by the run that wrote this; none is imitated:", ""], []
    for library, what, show in FAULTS:
        loaded, name = LIBRARIES[library]
        if loaded is None:
            continue
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            there, seen = show()
        lines.append(f"- {name}: {what}. Seen: {seen}.")
        if not there:
            failures.append(f"{name}: {what}: not there any more; seen: {seen}")
    return lines, failures
