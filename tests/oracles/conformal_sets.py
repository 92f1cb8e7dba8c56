"""Comparisons of tests/oracles/conformal.py beyond thresholds: sets row by row, categories, weights, p-values.

`ALPHA` is that of everything here that takes one.
"""

import pathlib
import tempfile

from harness import Comparison, Unknown, value

import conformal_libraries as lib
import numpy as np  # after the harness, which may start the program over

ALPHA = 0.2
MANY = ["classes3", "classes12", "ties6"]


def first_whole(results):
    """The results of all rows, without those of groups."""
    return [result for result in results if result["group"] is None]


def covered(rows, sets):
    return sets[np.arange(len(rows.y)), rows.y]


def coverage_and_size(fit):
    def call(data):
        sets = fit(data).sets
        return np.array([covered(data.rows, sets).mean(), sets.sum(axis=1).mean()])

    return call


def both(options):
    return f"coverage({options},alpha={ALPHA}),set_size({options},alpha={ALPHA})"


def read_both(results):
    return np.array([value(result) for result in first_whole(results)[:2]])


# ---- sets and p-values of rows --------------------------------------------------------------------


def set_file(cupel, data, *options):
    """The arrays of `cupel sets`."""
    with tempfile.TemporaryDirectory(prefix="cupel-oracles-") as folder:
        path = pathlib.Path(folder) / "sets.npz"
        try:
            cupel.run(["sets", str(data.path), "--calibration", "is_calibration", "--alpha", str(ALPHA), *options, "-o",
                       str(path), "-q"])  # fmt: skip
        except RuntimeError as why:
            if "sets" in str(why) and "unknown command" in str(why):
                raise Unknown("no command 'sets' yet") from why
            raise
        with np.load(path) as arrays:
            return dict(arrays)


def mask_of(cupel, data, options):
    arrays = set_file(cupel, data, "--conformal", options, "--layout", "bitmask")
    return np.unpackbits(arrays["mask"], axis=1, count=int(arrays["classes"]), bitorder="little").ravel()


def sets_of_rows():
    out = []
    calls = {
        "lac": ("lac", {}), "aps": ("aps", {}), "raps(lambda=0.3,k_reg=1)": ("raps", {"penalty": 0.3, "kreg": 1}),
        "topk": ("topk", {}), "margin": ("margin", {}),
    }  # fmt: skip
    for spec, (name, options) in calls.items():
        out.append(Comparison(
            "torchcp", lambda d, n=name, o=options: lib.torchcp_split(d.rows, n, ALPHA, **o).sets.ravel(),
            f"cupel sets --conformal {spec}", [*MANY, "classes100"], f"predict_with_logits, {name}", double=0,
            read=lambda mask: mask, ask=lambda cupel, d, spec=spec: mask_of(cupel, d, spec),
        ))  # fmt: skip

    def saps(data):
        """With the threshold that its own scores of sets give."""
        score = lib.torchcp_score("saps")
        rows = data.rows
        own = np.sort(score(lib.torch.tensor(rows.p_cal)).numpy()[np.arange(len(rows.y_cal)), rows.y_cal])
        qhat = own[int(np.ceil((len(own) + 1) * (1 - ALPHA))) - 1]
        return lib.torchcp_split(rows, "saps", ALPHA, qhat=qhat).sets.ravel()

    out.append(Comparison(
        "torchcp", saps, "cupel sets --conformal saps", [*MANY, "classes100"],
        "SAPS(randomized=False), calibrated with the scores of its sets", double=0, read=lambda mask: mask,
        ask=lambda cupel, d: mask_of(cupel, d, "saps"),
    ))  # fmt: skip
    for name in ("lac", "margin"):
        out.append(Comparison(
            "crepes", lambda d, name=name: lib.crepes_p_values(d.rows, name).ravel(),
            f"cupel sets --conformal {name} --p-values plain:all", MANY, f"predict_p, {name}, smoothing=False",
            read=lambda p: p,
            ask=lambda cupel, d, name=name: set_file(cupel, d, "--conformal", name, "--p-values", "plain:all")["p_values"].ravel(),
        ))  # fmt: skip
    return out


def p_values():
    """Means of p-values, and TorchCP's criteria of efficiency."""
    out = []

    def scores(data, name):
        score = lib.torchcp_score(name)
        rows = data.rows
        return score(lib.torch.tensor(rows.p_cal), lib.torch.tensor(rows.y_cal)), score(lib.torch.tensor(rows.p))

    def own(data, name):
        p = lib.torchcp_metrics.compute_p_values(*scores(data, name)).numpy()
        return p[np.arange(len(p)), data.rows.y].mean()

    for name in ("lac", "aps"):
        out.append(Comparison("torchcp", lambda d, n=name: own(d, n), f"p_value(conformal={name})", MANY,
                              f"compute_p_values of the labels, {name}"))  # fmt: skip
    out.append(Comparison(
        "crepes", lambda d: lib.crepes_p_values(d.rows, "lac")[np.arange(len(d.rows.y)), d.rows.y].mean(),
        "p_value(conformal=lac)", MANY, "predict_p of the labels, smoothing=False"))  # fmt: skip
    for letter in ("S", "N", "U", "F", "M", "E", "OU", "OF", "OM", "OE"):
        options = f"criterion={letter.lower()}" + (f",alpha={ALPHA}" if letter in ("N", "M", "E", "OM", "OE") else "")

        def criterion(data, letter=letter):
            more = [ALPHA] if letter in ("N", "M", "E", "OM", "OE") else []
            labels = [lib.torch.tensor(data.rows.y)] if letter.startswith("O") else []
            function = getattr(lib.torchcp_metrics, f"pvalue_criterion_{letter}")
            return float(function(*scores(data, "lac"), *labels, *more))

        # It averages counts in float32.
        out.append(Comparison("torchcp", criterion, f"p_value_efficiency({options})", MANY, f"pvalue_criterion_{letter}",
                              double=1e-6))  # fmt: skip
    return out


def smoothed():
    """How many smoothed p-values are outside those of u = 0 and u = 1."""

    def at(rows, u):
        cal, scores = lib.crepes_scores(rows, "lac")
        drawn, np.random.rand = np.random.rand, lambda *shape: np.full(shape, u)
        try:
            return lib.crepes.ConformalClassifier().fit(cal).predict_p(scores, smoothing=True)
        finally:
            np.random.rand = drawn

    def outside(cupel, data):
        arrays = set_file(cupel, data, "--conformal", "lac", "--p-values", "smoothed:all")
        p = arrays["p_values"].reshape(data.rows.p.shape)
        low, high = at(data.rows, 0.0), at(data.rows, 1.0)
        return float(np.sum((p < low - 1e-12) | (p > high + 1e-12)) + (np.ptp(p - low) == 0))

    return [Comparison("crepes", lambda d: 0.0, "cupel sets --conformal lac --p-values smoothed:all", MANY,
                       "predict_p, hinge, between theta = 0 and theta = 1", double=0, read=lambda n: n,
                       ask=outside)]  # fmt: skip


class Rest:
    """A dump without the rows on which MAPIE's RAPS looked for lambda."""

    options = ["--calibration", "is_calibration"]

    def __init__(self, name, path):
        self.name, self.path = name, path


def raps_of_mapie():
    """With the lambda and k* that it found, u forced to 0."""

    def fit(data):
        return lib.mapie_split(data.rows, "raps", ALPHA, False, lib.NoNoise(7))

    def ask(cupel, data):
        score = fit(data).score
        used = np.flatnonzero(data.calibration)[score.X_raps[:, 0].astype(int)]
        kept = np.setdiff1d(np.arange(len(data.y)), used)
        options = f"conformal=raps,lambda={score.lambda_star},k_reg={int(score.k_star[0])},empty=argmax,alpha={ALPHA}"
        with tempfile.TemporaryDirectory(prefix="cupel-oracles-") as folder:
            path = pathlib.Path(folder) / "rest.npz"
            np.savez(path, probs=data.p[kept], label=data.y[kept], is_calibration=data.calibration[kept])
            return cupel.results(Rest(f"{data.name} without", path), f"coverage({options}),set_size({options})")

    def call(data):
        fitted = fit(data)
        sets = fitted.sets
        return np.array([fitted.qhat, covered(data.rows, sets).mean(), sets.sum(axis=1).mean()])

    def read(results):
        return np.array([float(results[0]["details"]["qhat"]), *map(value, results)])

    return [Comparison("mapie", call, "coverage, set_size (conformal=raps,empty=argmax), its lambda and k*",
                       ["classes12"], "SplitConformalClassifier(conformity_score='raps'), include_last_label=False, u "
                       "forced to 0", read=read, ask=ask)]  # fmt: skip


# ---- categories and weights ------------------------------------------------------------------------


def by_class():
    out = []
    names = [*MANY, "classes12_f32", "few5"]
    for name in ("lac", "aps", "margin"):
        out.append(Comparison(
            "torchcp", coverage_and_size(lambda d, n=name: lib.torchcp_by_class(d.rows, n, ALPHA)),
            both(f"conformal={name},mode=class"), names, f"ClassConditionalPredictor, {name}", read=read_both, whole=True,
        ))  # fmt: skip

    def thresholds(results):
        return np.array([float(one["qhat"]) for one in results[0]["details"]["thresholds"]])

    out += [
        Comparison("torchcp", lambda d: lib.torchcp_by_class(d.rows, "lac", ALPHA).qhat,
                   f"coverage(conformal=lac,mode=class,alpha={ALPHA})", names, "ClassConditionalPredictor.q_hat",
                   read=thresholds, whole=True),
        Comparison("puncc", coverage_and_size(lambda d: lib.puncc_by_class(d.rows, ALPHA)),
                   both("conformal=lac,mode=class,quantile=puncc"), ["classes3", "classes12", "ties6"],
                   "ClasswiseCalibrator(classwise_lac_score, classwise_lac_set)", read=read_both, whole=True),
        Comparison("crepes", coverage_and_size(lambda d: lib.crepes_by_class(d.rows, "lac", ALPHA)),
                   both("conformal=lac,mode=class,quantile=crepes"), names, "ConformalClassifier, a class at a time",
                   read=read_both, whole=True),
        Comparison("crepes", coverage_and_size(lambda d: lib.crepes_split(
            d.rows, "lac", ALPHA, (d.more["g"][d.calibration], d.more["g"][~d.calibration]))),
                   both("conformal=lac,mode=group,quantile=crepes"), ["groups"], "ConformalClassifier, bins",
                   read=read_both, whole=True),
    ]  # fmt: skip
    return out


def weighted():
    def weighted_puncc(data):
        """A threshold of each weight of the rows to judge, from its weighted quantile."""
        rows, weight = data.rows, data.more["weight"]
        w_cal, w = weight[data.calibration], weight[~data.calibration]
        calibrator = lib.puncc_calibration.BaseCalibrator(
            nonconf_score_func=lib.puncc_scores.lac_score, pred_set_func=lib.puncc_sets.lac_set
        )
        calibrator.fit(y_true=rows.y_cal, y_pred=rows.p_cal)
        sets = np.zeros(rows.p.shape, bool)
        for own in np.unique(w):
            share = np.append(w_cal, own) / (w_cal.sum() + own)
            qhat = float(calibrator.compute_quantile(alpha=ALPHA, weights=share))
            sets[w == own] = 1 - rows.p[w == own] <= qhat
        return lib.Fitted(None, sets)

    return [Comparison("puncc", coverage_and_size(weighted_puncc), both("conformal=lac,mode=weighted"), ["weights"],
                       "BaseCalibrator.compute_quantile(weights=...), of each row's own weight", read=read_both,
                       whole=True)]  # fmt: skip


def clusters():
    """The two draw their rows for clustering and their centres apart: the plan is equal, sets about."""

    def torchcp(data):
        lib.torch.manual_seed(0)
        rows = data.rows
        return lib.torchcp_fit(lib.torchcp_score("lac"), rows.p_cal, rows.y_cal, rows.p, ALPHA, "ClusteredPredictor")

    spec = both("conformal=lac,mode=cluster")
    return [
        Comparison("torchcp", lambda d: float(torchcp(d).predictor.num_clusters), spec, ["clusters"],
                   "ClusteredPredictor.num_clusters", whole=True,
                   # The last is that of classes in no cluster.
                   read=lambda results: len(results[0]["details"]["thresholds"]) - 1),
        Comparison("torchcp", lambda d: coverage_and_size(torchcp)(d)[0], spec, ["clusters"], "ClusteredPredictor, coverage",
                   double=0.02),
        Comparison("torchcp", lambda d: coverage_and_size(torchcp)(d)[1], spec, ["clusters"], "ClusteredPredictor, size",
                   double=0.2, whole=True, read=lambda results: value(results[1])),
    ]  # fmt: skip


# ---- metrics of sets -------------------------------------------------------------------------------


def set_metrics():
    def of(name, *more, **options):
        """A metric of TorchCP of its sets at ALPHA."""

        def call(data):
            rows = data.rows
            sets = lib.torchcp_split(rows, "aps", ALPHA).sets
            arguments = [rows.p, sets, rows.y] if name == "DiffViolation" else [sets, rows.y]
            known = {"alpha": ALPHA, "k": rows.k}
            found = lib.torchcp_metric(name, *arguments, *[known.get(m, m) for m in more], **options)
            return found[0] if isinstance(found, tuple) else found

        return call

    def mapie(call):
        return lambda d: call(d.rows, lib.torchcp_split(d.rows, "aps", ALPHA).sets)

    metrics, conditional = lib.mapie_set_metrics, lib.mapie_conditional
    data, own = ["classes3", "classes12", "classes100"], f"conformal=aps,alpha={ALPHA}"
    # torch averages in float32 where it says .float().
    single = {"double": 1e-6}
    gap = lambda weighted: mapie(lambda r, s: 100 * conditional.coverage_gap(  # noqa: E731
        r.y, r.y, 1 - ALPHA, y_sets=s, weighted=weighted))  # fmt: skip
    return [
        Comparison("torchcp", of("coverage_rate"), f"coverage({own})", data, "coverage_rate", **single),
        Comparison("torchcp", of("average_size"), f"set_size({own})", data, "average_size", double=1e-5),
        Comparison("torchcp", of("coverage_rate", "macro", "k"), f"macro_coverage({own},absent=zero)",
                   [*data, "absent5"], "coverage_rate(coverage_type='macro')", **single),
        Comparison("torchcp", of("CovGap", "alpha", "k"), f"cov_gap({own})", [*data, "absent5"], "CovGap", double=1e-4),
        Comparison("covmetrics", gap(False), f"cov_gap({own})", [*data, "absent5"], "100 * coverage_gap of classes", double=1e-9),
        Comparison("covmetrics", gap(True), f"cov_gap({own},weighted=true)", [*data, "absent5"],
                   "100 * coverage_gap of classes(weighted=True)", double=1e-9),
        Comparison("torchcp", of("VioClasses", "alpha", "k"), f"cov_gap({own})", data, "VioClasses",
                   read=lambda result: float(result["details"]["classes_below"])),
        Comparison("torchcp", of("SSCV", "alpha"), f"sscv({own})", data, "SSCV", **single),
        Comparison("torchcp", of("DiffViolation", "alpha"), f"diff_violation({own})", data, "DiffViolation", **single),
        Comparison("mapie", mapie(lambda r, s: metrics.classification_ssc_score(r.y, s[:, :, None])[0]), f"ssc({own})",
                   data, "classification_ssc_score"),
        Comparison("mapie", mapie(lambda r, s: metrics.classification_ssc_score(r.y, s[:, :, None], num_bins=3)[0]),
                   f"ssc({own},num_bins=3)", ["classes12", "classes100"],
                   "classification_ssc_score(num_bins=3)"),
        Comparison("mapie", mapie(lambda r, s: metrics.classification_mean_width_score(s[:, :, None])[0]),
                   f"set_size({own})", data, "classification_mean_width_score"),
        Comparison("mapie", mapie(lambda r, s: metrics.classification_coverage_score(r.y, s[:, :, None])[0]),
                   f"coverage({own})", data, "classification_coverage_score"),
        Comparison("torchcp", of("singleton_hit_ratio"), f"singleton_hit_rate({own})", data, "singleton_hit_ratio"),
        Comparison("crepes", lambda d: rate(d, 1), f"singleton_rate(conformal=lac,alpha={ALPHA},quantile=crepes)", data,
                   "get_classification_results, one_c"),
        Comparison("crepes", lambda d: rate(d, 0), f"empty_rate(conformal=lac,alpha={ALPHA},quantile=crepes)", data,
                   "get_classification_results, empty"),
        Comparison("puncc", lambda d: puncc_metric(d, "classification_mean_size"), f"set_size({own})", data,
                   "classification_mean_size"),
        Comparison("puncc", lambda d: puncc_metric(d, "classification_mean_coverage"), f"coverage({own})", data,
                   "classification_mean_coverage"),
        Comparison("puncc", lambda d: puncc_metric(d, "classification_classwise_coverage", d.rows.k).mean(),
                   f"macro_coverage({own})", [*data, "absent5"], "mean of classification_classwise_coverage"),
        Comparison("covmetrics", slab_of_one_feature, f"worst_slab_coverage({own},directions=8,held_out=0.000000001)",
                   ["features"], "worst_slab_coverage",
                   read=lambda result: result["details"]["slab"]["coverage"]),
    ]  # fmt: skip


def rate(data, size):
    sets = lib.crepes_split(data.rows, "lac", ALPHA).sets.astype(int)
    results = lib.module("crepes.base").get_classification_results(
        sets, None, np.arange(data.rows.k), data.rows.y, ["one_c", "empty"])  # fmt: skip
    return results["one_c" if size == 1 else "empty"]


def puncc_metric(data, name, *more):
    sets = lib.torchcp_split(data.rows, "aps", ALPHA).sets
    lists = [list(np.flatnonzero(row)) for row in sets]
    arguments = (lists,) if name.endswith("mean_size") else (data.rows.y, lists)
    return getattr(lib.puncc_metrics, name)(*arguments, *more)


def slab_of_one_feature(data):
    """One feature, so that all directions are two; on the rows that were searched."""
    sets = lib.torchcp_split(data.rows, "aps", ALPHA).sets
    x = data.more["embedding"][~data.calibration]
    return lib.mapie_conditional.worst_slab_coverage(x, data.rows.y, y_sets=sets, n_directions=8)


def comparisons():
    return [
        *sets_of_rows(), *raps_of_mapie(), *p_values(), *smoothed(), *by_class(), *weighted(), *clusters(), *set_metrics(),
    ]  # fmt: skip
