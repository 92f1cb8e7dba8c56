"""Golden cases of regression tasks: intervals and errors by brute force, for gen_golden.py.

Residuals and ends of intervals are Python floats (IEEE doubles, as the definitions say); everything after them is a
Fraction. Thresholds are found by sorting. An infinite value is written as 1/0. Standard library only.
"""

import math
from fractions import Fraction
from random import Random

RULES = ("absolute", "normalized", "cqr", "cqr_asymmetric")


class Missing(Exception):
    """A metric without a value; the argument is the reason that the result names."""


def scores(row, rule):
    """The scores of a row, one for each threshold."""
    y = row["y"]
    if rule == "absolute":
        return [abs(y - row["pred"])]
    if rule == "normalized":
        return [abs(y - row["pred"]) / row["sigma"]]
    if rule == "cqr":
        return [max(row["lower"] - y, y - row["upper"])]
    return [row["lower"] - y, y - row["upper"]]


def ends(row, rule, q):
    if rule == "absolute":
        return row["pred"] - q[0], row["pred"] + q[0]
    if rule == "normalized":
        return row["pred"] - q[0] * row["sigma"], row["pred"] + q[0] * row["sigma"]
    return row["lower"] - q[0], row["upper"] + q[-1]


def intervals(fit, others, category, quantile_rank, conformal, alpha, quantile, mode):
    """(row, lower, upper, covered) of every other row; `category` maps a row to what it shares a threshold with."""
    found = []
    for row in others:
        if conformal == "none":
            found.append((row, row["lower"], row["upper"], row["lower"] <= row["y"] <= row["upper"]))
            continue
        own = [r for r in fit if mode == "marginal" or category(r) == category(row)]
        sides = 2 if conformal == "cqr_asymmetric" else 1
        rank = quantile_rank(len(own), alpha / sides, quantile) if own else None
        q = []
        for side in range(sides):
            ranked = sorted(scores(r, conformal)[side] for r in own)
            q.append(math.inf if rank is None else ranked[rank - 1])
        covered = all(s <= t for s, t in zip(scores(row, conformal), q))
        found.append((row, *ends(row, conformal, q), covered))
    return found


def square_root(value):
    return Fraction(math.isqrt(value.numerator * 4**300 // value.denominator), 2**300)


def value_of(metric, fit, others, rows, category, quantile_rank, halves, weighted, **options):
    """`rows` are those that --split leaves, `others` those that are not for calibration."""
    if weighted:
        raise Missing("not_defined")
    if metric in ("mae", "rmse"):
        if not rows:
            raise Missing("empty")
        if metric == "mae":
            return sum(abs(Fraction(r["y"]) - Fraction(r["pred"])) for r in rows) / len(rows)
        if any(math.isinf(r["y"] - r["pred"]) for r in rows):
            raise Missing("overflow")
        return square_root(sum(Fraction(r["y"] - r["pred"]) ** 2 for r in rows) / len(rows))
    has_pred = any("pred" in r for r in fit + others + rows)
    conformal = options.get("conformal") or ("none" if not halves else "absolute" if has_pred else "cqr")
    alpha = Fraction(options.get("alpha", "0.1"))
    if conformal == "none":
        others = rows
    elif not fit:
        raise Missing("too_few_calibration")
    if not others:
        raise Missing("empty")
    found = intervals(fit, others, category, quantile_rank, conformal, alpha, options.get("quantile", "exact"),
                      options.get("mode", "marginal"))  # fmt: skip
    coverage = Fraction(sum(c for *_, c in found), len(found))
    if metric == "coverage":
        return coverage
    endless = any(math.isinf(high - low) for _, low, high, _ in found)
    if metric == "cwc":
        reach = Fraction(max(r["y"] for r in others)) - Fraction(min(r["y"] for r in others))
        if reach == 0:
            raise Missing("not_defined")
    if endless:
        return -math.inf if metric == "cwc" else math.inf
    width = sum(max(Fraction(0), Fraction(high) - Fraction(low)) for _, low, high, _ in found) / len(found)
    if metric == "interval_width":
        return width
    if metric == "cwc":
        eta = Fraction(options.get("eta", "30"))
        return float(1 - width / reach) * math.exp(-float(eta * (coverage - (1 - alpha)) ** 2))
    price = Fraction(0)
    for row, low, high, _ in found:
        y = Fraction(row["y"])
        price += max(Fraction(0), Fraction(low) - y) + max(Fraction(0), y - Fraction(high))
    return width + 2 / alpha * price / len(found)


# ---- the cases ----------------------------------------------------------------------------------


def of(*options, metrics=("coverage", "interval_width", "interval_score")):
    return ",".join(f"{metric}({text})" if text else metric for text in options for metric in metrics)


def cases():
    """(name, description, metrics, columns, rows, options, error) of each."""
    cal, points, bounds = "--calibration c", "y:f64 pred:f64 c:bool", "y:f64 lower:f64 upper:f64 c:bool"
    residuals = (".1", ".2", ".3", ".5", ".8", ".9", "1.2", "1.5", "2")

    def wrong(name, description, metrics, text, columns=bounds, rows="1 0 2 1\n3 1 4 0", options=cal, code=2):
        return name, description, metrics, columns, rows, options, f"{code} {text}"

    found = [
        wrong("interval_of_labels", "a score of classification", "coverage(conformal=aps)", "conformal=aps of 'coverage' is a score of labels"),
        wrong("interval_empty", "sets may be filled, intervals not", "coverage(empty=argmax)", "empty=argmax of 'coverage' is for sets"),
        wrong("interval_lambda", "a penalty of ranks", "coverage(lambda=0.5)", "lambda=0.5 of 'coverage' is for sets"),
        wrong("interval_alpha_one", "alpha is below 1", "interval_width(alpha=1)", "expected a number between 0 and 1, neither"),
        wrong("interval_no_group", "no groups to have thresholds of", "interval_width(mode=group)", "mode=group of 'interval_width' takes a threshold"),
        wrong("interval_no_calibration", "nothing to take a threshold from", "interval_width(conformal=cqr)",
              "'interval_width' takes its threshold from calibration rows", options=""),
        wrong("interval_set_size", "intervals have no labels to count", "set_size", "'set_size' is not defined for a regression task"),
        wrong("interval_no_pred", "no column to measure residuals from", "coverage(conformal=absolute)", "no array for the predictions", code=3),
        wrong("interval_no_sigma", "no scale", "coverage(conformal=normalized)", "no array for the scale", points, "1 2 1\n1 3 0", code=3),
        wrong("interval_no_bounds", "no intervals", "coverage(conformal=cqr)", "no array for the intervals", points, "1 2 1\n1 3 0", code=3),
        wrong("errors_no_pred", "no predictions", "mae", "no array for the predictions that 'mae' takes", code=3),
        wrong("errors_of_models", "predictions of two models", "mae", "of 2 models", "y:f64 pred[2]:f64", "1 2 3\n2 2 2", ""),
        wrong("intervals_of_models", "predictions of two models", "coverage(conformal=absolute)", "of 2 models", "y:f64 pred[2]:f64 c:bool", "1 2 3 1\n2 2 2 0"),
        wrong("half_an_interval", "a lower end alone", "coverage", "'lower' is the lower end of intervals", "y:f64 lower:f64", "1 2\n2 2", "", 3),
        wrong("crossed", "the lower end above the upper one, twice", "coverage", "lower 'lower' is 5, above 'upper' of the row, 4 (2 such rows", bounds,
              "1 0 2 1\n1 5 4 0\n1 3 3 1\n1 7 6 1", code=3),
        wrong("sigma_zero", "a scale of 0", "coverage(conformal=normalized)", "sigma 'sigma' is 0, and a scale is above 0 (1 such row",
              "y:f64 pred:f64 sigma:f64 c:bool", "1 2 1 1\n1 2 0 0", code=3),
        wrong("sigma_negative", "a negative scale", "coverage(conformal=normalized)", "sigma 'sigma' is -1, and a scale is above 0",
              "y:f64 pred:f64 sigma:f32 c:bool", "1 2 -1 1\n1 2 3 0", code=3),
        wrong("pred_nan", "a prediction that is no number", "mae", "pred 'pred' is nan (1 such row", "y:f64 pred:f32", "1 2\n1 nan", "", 3),
        wrong("label_infinite", "an infinite label", "mae", "label 'y' is -inf (1 such row", "y:f64 pred:f32", "-inf 2\n1 2", "", 3),
        wrong("upper_infinite", "an interval without an end", "coverage", "upper 'upper' is inf", bounds, "1 0 inf 1\n1 0 2 0", code=3),
        ("documented_residuals", "residuals .1 to 2 at alpha .2: qhat is 1.5; a residual of 1.5 is covered, the next double is not",
         of("alpha=0.2") + ",mae,rmse", points, [f"{r} 0 1" for r in residuals] + ["1.5 0 0", "1.5000000000000002 0 0", "-1.5 0 0", "0 0 0", "7 5.5 0"], cal, ""),
        ("documented_cqr", "E = -.5, .4, .2; at alpha .5 qhat is .2", of("conformal=cqr,alpha=0.5", "conformal=cqr_asymmetric,alpha=0.5", "conformal=none"),
         bounds, "1.5 1 2 1\n3.4 2 3 1\n-.2 0 1 1\n0.9 1 2 0\n2.3 1 2 0\n0.7 1 2 0\n1.2 1 2 0", cal, ""),
        ("negative_qhat", "intervals too wide: qhat is negative, and those narrower than twice it are empty",
         of("conformal=cqr,alpha=0.3", "conformal=cqr_asymmetric,alpha=0.6") + ",cwc(conformal=cqr,alpha=0.3)", bounds,
         [f"{i} {i - 3} {i + 4 + i / 8} 1" for i in range(8)] + ["2 0 4 0", "2 1 3 0", "2 2 2 0", "9 0 20 0", "-1 0 8 0"], cal, ""),
        ("given_intervals", "no calibration: the intervals as they are", of("", "alpha=0.25,conformal=none") + ",cwc,mae,rmse", "y:f64 lower:f64 upper:f64 pred:f64",
         "5 4 6 5\n7.5 6 9 7\n9.5 9 10 9.5\n10.5 8.5 12.5 11\n12.5 10.5 12 11", "", ""),
        ("mapie_example", "the example of MAPIE's coverage_width_based, which rounds to .69", "cwc(eta=0.01)", "y:f64 lower:f64 upper:f64",
         "5 4 6\n7.5 6 9\n9.5 9 10\n10.5 8.5 12.5\n12.5 10.5 12", "", ""),
        ("only_bounds", "without predictions the default is cqr", of(""), bounds, [f"{i} {i - 1} {i + i % 3} {int(i < 12)}" for i in range(20)], cal, ""),
        ("too_few", "three calibration rows: infinite intervals", of("", "conformal=cqr", "conformal=normalized,quantile=mapie_reg") + ",cwc", "y:f64 pred:f64 lower:f64 upper:f64 sigma:f64 c:bool",
         "1 2 0 3 1 1\n2 2 1 3 1 1\n3 2 1 4 2 1\n4 3 1 5 1 0\n6 3 2 4 1 0", cal, ""),
        ("few_for_a_side", "enough for alpha, too few for half of it", of("conformal=cqr,alpha=0.25", "conformal=cqr_asymmetric,alpha=0.25"), bounds,
         "1 0 3 1\n2 1 3 1\n3 1 2 1\n4 3 5 0\n6 3 7 0", cal, ""),
        ("no_calibration_rows", "every row is for testing", of("") + ",cwc,mae", points, "1 2 0\n2 2 0", cal, ""),
        ("no_other_rows", "every row is for calibration", of("alpha=0.5") + ",cwc,mae", points, "1 2 1\n2 2 1", cal, ""),
        ("no_regression_rows", "no row", of("") + ",cwc,mae,rmse", points, [], cal, ""),
        ("weighted_intervals", "weights are no counts", of("") + ",mae,rmse", points + " weight:f32", "1 2 1 1\n2 2 0 2", cal, ""),
        ("one_y", "no range to measure widths by", "cwc(conformal=none),interval_width(conformal=none)", "y:f64 lower:f64 upper:f64", "1 0 2\n1 1 3", "", ""),
        ("cancellation", "sums that cancel in doubles; the largest and the smallest doubles", "mae,rmse," + of("conformal=none"), "y:f64 pred:f64 lower:f64 upper:f64",
         "1e16 1 -1e16 1e16\n-1e16 1 -1e-300 1e16\n1 1.0000000000000002 0 5e-324\n5e-324 0 -5e-324 5e-324\n0.1 0.3 0.1 0.30000000000000004\n-0.0 0.0 -0.0 0.0", "", ""),
        ("large_errors", "a root of squares beyond the largest double", "mae,rmse", "y:f64 pred:f64", "1e300 -1e300\n3e200 1e200\n1e-200 -1e-200", "", ""),
        ("overflow", "a difference beyond the largest double", "rmse", "y:f64 pred:f64", "1.7e308 -1.7e308\n1 2", "", ""),
        ("integers_and_halves", "columns of other types, f16 and bf16 exactly", of("conformal=normalized,alpha=0.4", "conformal=cqr,alpha=0.4") + ",mae,rmse",
         "y:i32 pred:f16 sigma:bf16 lower:f32 upper:i64 c:u8", [f"{i * i % 7} {i / 4} {0.5 + i % 3 / 8} {i % 3 - 0.1} {3 + i % 4} {int(i % 3 > 0)}" for i in range(24)], cal, ""),
        ("dropped", "bad rows left out: NaN, infinite, crossed", of("alpha=0.3", "conformal=normalized,alpha=0.3", "conformal=cqr,alpha=0.3") + ",mae",
         "y:f64 pred:f64 sigma:f64 lower:f64 upper:f64 c:bool", "nan 1 1 0 1 1\n1 inf 1 0 1 1\n1 1 1 nan 1 1\n1 1 1 2 1 1\n1 1 1 0 nan 0\n1 2 1 0 3 1\n2 2 2 1 3 1\n3 1 1 2 4 1\n5 2 1 1 3 0\n2 1.5 1 1 2 0",
         f"{cal} --nan drop", ""),
    ]  # fmt: skip
    random = Random(20261205)

    def seeded(count, groups):
        rows = []
        for _ in range(count):
            pred, sigma = round(random.random() * 20 - 10, 3), round(0.25 + random.random() * 2, 3)
            y = round(pred + sigma * (random.random() + random.random() + random.random() - 1.5) * 2, 3)
            low, high = round(pred - sigma * random.random(), 3), round(pred + sigma * random.random(), 3)
            rows.append(f"{y} {pred} {sigma} {low} {high} {int(random.random() < 0.55)} {random.choice(groups)}")
        return rows

    columns = "y:f64 pred:f64 sigma:f32 lower:f64 upper:f64 c:bool g:str"
    found.append(("seeded_intervals", "150 rows, three groups: every score, the quantile of all rows", of(*(f"conformal={r},alpha={a}" for r in RULES for a in ("0.1", "0.35")), "conformal=none")
                  + ",cwc(conformal=cqr,eta=5),mae,rmse", columns, seeded(150, "aab"), f"{cal} --group g", ""))  # fmt: skip
    found.append(("seeded_by_group", "150 rows, a threshold for each group; one group is too small, another has no calibration row",
                  of(*(f"conformal={r},alpha={a},mode=group" for r in RULES for a in ("0.1", "0.3"))), columns,
                  seeded(150, "ab") + ["1 2 1 0 3 0 d", "4 2 1 0 3 0 d", "1 2 1 0 3 1 e", "5 2 1 0 3 0 e"], f"{cal} --group g", ""))  # fmt: skip
    found.append(("seeded_intersection", "thresholds of the combinations of two columns", of("conformal=absolute,alpha=0.4,mode=group"), columns.replace("c:bool", "c:bool h:i64"),
                  [" ".join([*r.split()[:6], str(random.randrange(2)), r.split()[6]]) for r in seeded(120, "ab")], f"{cal} --group g,h --intersect", ""))  # fmt: skip
    for count in (9, 19, 20, 99):
        rows = [f"{random.randrange(-500, 500) / 64} {random.randrange(-90, 90) / 16} {int(k < count)}" for k in range(count + 15)]
        found.append((f"residuals_of_{count}", f"{count} calibration rows, every quantile", of(*(f"quantile={q},alpha={a}" for q in ("exact", "numpy_higher", "mapie_cls", "mapie_reg", "puncc", "crepes")
                      for a in ("0.1", "0.05", "0.45")), metrics=("coverage", "interval_width")), points, rows, cal, ""))  # fmt: skip
    found.append(("split_test", "errors of the test rows alone; intervals are of them whatever is split", of("", "conformal=none") + ",mae,rmse",
                  "y:f64 pred:f64 lower:f64 upper:f64 c:bool", [f"{i % 5} {i % 3} {i % 2} {i % 2 + 2} {int(i % 4 < 2)}" for i in range(40)], f"{cal} --split test", ""))  # fmt: skip
    return found
