"""Golden cases of conformal selection, p-values and risk control: what is asked, and the answers by
the words of the definitions in exact fractions, every pair of rows compared with every other.
"""

import random as randomness
import re
from fractions import Fraction
from types import SimpleNamespace

WORD = 2**64
METRICS = {"selection_fdp", "selection_power", "selection_rate", "p_value", "p_value_efficiency", "risk_control", "controlled_risk"}


class Undefined(Exception):
    """No value, for the reason given."""


# ---- random numbers of a row --------------------------------------------------------------------


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % WORD
    return x ^ (x >> 31)


def counter_random(seed, row):
    return mix(mix((seed + 0x9E3779B97F4A7C15) % WORD) ^ mix((row + 0xD1B54A32D192ED03) % WORD))


def uniform(purpose, seed, row):
    """In (0, 1], in units of 2^-48."""
    stream = mix(seed ^ (0xA0761D6478BD642F * purpose) % WORD)
    return Fraction((counter_random(stream, row) >> 16) + 1, 2**48)


P_VALUE, MODEL, PRUNING, COMMON = 1, 2, 3, 4


# ---- selection ----------------------------------------------------------------------------------


def rejected(p, q):
    """How many Benjamini and Hochberg reject."""
    p = sorted(p)
    return max((k for k in range(1, len(p) + 1) if p[k - 1] <= q * k / len(p)), default=0)


def p_value(scores, score, n, ties, u):
    below = sum(s < score for s in scores)
    equal = sum(s == score for s in scores)
    return Fraction(below + {"count": equal + 1, "strict": 1, "random": u * (equal + 1)}[ties]) / (n + 1)


def selected_rows(rows, options, seed):
    """(test rows, which of them are selected)."""
    q, ties = Fraction(options.get("q", "0.1")), options.get("ties", "count")
    level = options.get("c")

    def is_null(row):
        return row.y <= (float(level) if level is not None else row.level)

    def score(row, t):
        """V of a calibration row, None where it is above every other, or of a test row."""
        if options.get("score", "clip") == "clip":
            return -Fraction(row.pred[t]) if is_null(row) or not row.calibration else None
        of = row.y if row.calibration else (float(level) if level is not None else row.level)
        return Fraction(of - row.pred[t])  # one rounding, as in the definition

    fit = [row for row in rows if row.calibration]
    test = [row for row in rows if not row.calibration]
    n, m = len(fit), len(test)
    if n == 0 or m == 0:
        return test, [False] * m
    scores = [[s for s in (score(row, t) for row in fit) if s is not None] for t in range(len(rows[0].pred))]

    def final(j, t):
        return p_value(scores[t], score(test[j], t), n, ties, uniform(P_VALUE, seed, test[j].id))

    if options.get("method", "bh") == "bh":
        model = int(options.get("model", 0))
        p = [final(j, model) for j in range(m)]
        k = rejected(p, q)
        return test, [k > 0 and x <= sorted(p)[k - 1] for x in p]
    values = []
    for j, row in enumerate(test):
        sizes = []
        for t, of_model in enumerate(scores):
            own = score(row, t)
            auxiliary = [Fraction(0)] * m
            for other, theirs in enumerate(score(r, t) for r in test):
                if other != j:
                    auxiliary[other] = Fraction(sum(s <= theirs for s in of_model) + (own <= theirs), n + 1)
            sizes.append(rejected(auxiliary, q))
        best = [t for t, size in enumerate(sizes) if size == max(sizes)]
        place = 0
        if options.get("equal_models") == "random":
            place = int((uniform(MODEL, seed, row.id) - Fraction(1, 2**48)) * len(best))
        bound = q * max(sizes) / m
        e = 1 / bound if final(j, best[place]) <= bound else Fraction(0)
        pruning = options.get("pruning", "dtm")
        if pruning != "dtm":
            e /= uniform(PRUNING, seed, row.id) if pruning == "hete" else uniform(COMMON, seed, 0)
        values.append(e)
    falling = sorted(values, reverse=True)
    k = max((k for k in range(1, m + 1) if falling[k - 1] >= m / (q * k)), default=0)
    return test, [k > 0 and e >= m / (q * k) for e in values]


def selection(rows, wanted, metric, options, seed, weighted):
    if weighted:
        raise Undefined("not_defined")
    if not any(row.calibration for row in rows):
        raise Undefined("too_few_calibration")
    test, chosen = selected_rows(rows, options, seed)
    level = options.get("c")
    pairs = [(row.y > (float(level) if level is not None else row.level), is_in) for row, is_in in zip(test, chosen) if wanted(row)]
    if not pairs:
        raise Undefined("empty")
    picked = [good for good, is_in in pairs if is_in]
    if metric == "selection_fdp":
        return Fraction(picked.count(False), max(1, len(picked)))
    if metric == "selection_rate":
        return Fraction(len(picked), len(pairs))
    good = sum(good for good, _ in pairs)
    if not good:
        raise Undefined("no_positive")
    return Fraction(picked.count(True), good)


# ---- p-values -----------------------------------------------------------------------------------


def of_labels(gen, rows, wanted, metric, options, seed, weighted, width):
    """Of probabilities."""
    table = SimpleNamespace(width=width, logits=False)
    if any(not 0 <= v <= 1 for row in rows for v in row.pred):
        raise Undefined("not_probability")
    if weighted:
        raise Undefined("not_defined")
    fit = [row for row in rows if row.calibration]
    others = [row for row in rows if not row.calibration and wanted(row)]
    if not fit:
        raise Undefined("too_few_calibration")
    if not others:
        raise Undefined("empty")
    score = options.get("conformal", "lac")
    usual = {"raps": "0.01", "saps": "0.2"}.get(score, "0")
    penalty, k_reg = round(Fraction(options.get("lambda", usual)) * 2**48), int(options.get("k_reg", 5))

    def scored(row, label):
        values = row.pred if width else row.pred[0]
        return gen.conformal_score(gen.conformal_masses(table, values), label, score, penalty, k_reg)

    ranked = [-scored(row, int(row.y)) for row in fit]
    smoothed, alpha = options.get("smoothed") == "true", Fraction(options.get("alpha", "0.1"))
    total = Fraction(0)
    for row in others:
        u = uniform(P_VALUE, seed, row.id)
        p = [p_value(ranked, -scored(row, k), len(fit), "random" if smoothed else "count", u) for k in range(width or 2)]
        wrong = [x for k, x in enumerate(p) if k != int(row.y)]
        inside = sum(x > alpha for x in p)
        inside_wrong = sum(x > alpha for x in wrong)
        total += {
            "own": p[int(row.y)], "s": sum(p), "n": inside, "u": sorted(p)[-2], "f": sum(p) - max(p), "m": inside > 1,
            "e": max(0, inside - 1), "ou": max(wrong), "of": sum(wrong), "om": inside_wrong > 0, "oe": inside_wrong,
        }["own" if metric == "p_value" else options.get("criterion", "of")]  # fmt: skip
    return total / len(others)


# ---- risk ---------------------------------------------------------------------------------------


def risk(rows, wanted, metric, options, weighted):
    if weighted:
        raise Undefined("not_defined")
    fit = [row.loss for row in rows if row.calibration]
    others = [row.loss for row in rows if not row.calibration and wanted(row)]
    if not fit:
        raise Undefined("too_few_calibration")
    exact = [[Fraction(round(Fraction(v) * 10**12), 10**12) for v in loss] for loss in fit]
    alpha, most = Fraction(options.get("alpha", "0.1")), Fraction(options.get("B", "1"))
    for index in range(len(exact[0])):
        if (sum(loss[index] for loss in exact) + most) / (len(fit) + 1) <= alpha:
            break
    else:
        raise Undefined("not_reached")
    if metric == "risk_control":
        return Fraction(index)
    if not others:
        raise Undefined("empty")
    return sum(Fraction(round(Fraction(loss[index]) * 10**12), 10**12) for loss in others) / len(others)


# ---- cases --------------------------------------------------------------------------------------


class Case:
    """A case with answers of its own; `text` as of those of gen_golden."""

    def __init__(self, gen, name, description, metrics, columns, rows, task="binary", options="--calibration c", error=""):
        self.gen, self.name, self.description, self.task = gen, name, description, task
        self.metrics, self.columns, self.options, self.error = metrics, columns, options, error
        self.rows = rows.strip().splitlines() if isinstance(rows, str) else rows

    def option(self, name, usual=None):
        words = self.options.split()
        return words[words.index(name) + 1] if name in words else usual

    def read(self):
        """(rows, width of the probabilities, whether rows are weighted)"""
        columns = [self.gen.Column(c) for c in self.columns.split()]
        names = {c.name for c in columns}
        rows = []
        for position, line in enumerate(self.rows):
            cells, row = line.split(), {}
            for c in columns:
                taken = [self.gen.round_to(c.dtype, t) for t in cells[: c.width or 1]]
                row[c.name] = taken if c.width else taken[0]
                cells = cells[c.width or 1 :]
            assert not cells, line
            pred = next((row[n] for n in ("score", "probs", "pred") if n in row), None)
            key = row.get("id", position) if self.option("--id") or "id" in names else position
            rows.append(SimpleNamespace(
                y=row.get("label", row.get("y")), pred=pred if isinstance(pred, list) else [pred], calibration=bool(row.get("c")),
                level=row.get("threshold", 0), group=str(row.get("g")), id=int(key), loss=row.get("loss")))  # fmt: skip
        width = next((c.width for c in columns if c.name == "probs"), None)
        return rows, width, "weight" in names

    def value(self, rows, width, weighted, metric, options, wanted):
        seed = int(self.option("--seed", 0))
        if metric.startswith("selection"):
            return selection(rows, wanted, metric, options, seed, weighted)
        if metric.startswith("p_value"):
            return of_labels(self.gen, rows, wanted, metric, options, seed, weighted, width)
        return risk(rows, wanted, metric, options, weighted)

    def expected(self):
        rows, width, weighted = self.read()
        groups = [("", lambda row: True)]
        if "--group" in self.options:
            for group in sorted({row.group for row in rows}):
                groups.append((f" group=g:{group}", lambda row, group=group: row.group == group))
        for metric, _, text in re.findall(r"(\w+)(\(([^)]*)\))?", self.metrics):
            options = dict(o.split("=") for o in text.split(",") if o)
            shown = f"({text})" if text else ""
            for name, wanted in groups:
                try:
                    value = self.value(rows, width, weighted, metric, options, wanted)
                    yield f"{metric}{shown}{name} = {self.gen.write_value(value, '')}"
                except Undefined as reason:
                    yield f"{metric}{shown}{name} = undefined {reason}"

    def text(self):
        lines = [f"# name: {self.name}", f"# description: {self.description}", "# written by scripts/gen_golden.py"]
        lines += [f"task {self.task}", f"metrics {self.metrics}", *([f"options {self.options}"] if self.options else [])]
        lines += [f"columns {self.columns}", *self.rows, "----"]
        lines += [f"error {self.error}"] if self.error else list(self.expected())
        return "\n".join(lines) + "\n"


def every(options, names=("selection_fdp", "selection_power", "selection_rate")):
    return ",".join(f"{name}({text})" for text in options for name in names)


BINARY, SEVERAL = "label:u8 score:f64 c:bool", "label:i64 probs[3]:f64 c:bool"
FEW = "1 0.9 0\n0 0.1 1\n0 0.4 1\n1 0.8 0"


def in_classification(gen):
    def case(name, *arguments, **more):
        return Case(gen, f"choosing_{name}", *arguments, **more)

    def wrong(name, description, metrics, text, columns=BINARY, rows=FEW, **more):
        return case(name, description, metrics, columns, rows, error=text, **more)

    # METRICS 4.5: calibration 1..19, test .5 1.5 9.5 17.5; scores are 20 - V.
    example = [f"0 {20 - v} 1" for v in range(1, 20)] + [f"{int(k < 2)} {20 - v} 0" for k, v in enumerate((0.5, 1.5, 9.5, 17.5))]
    tied = [f"{y} {s} {c} {i}" for i, (y, s, c) in enumerate(
        [(0, s, 1) for s in (1, 1, 2, 2, 2, 3)] + [(1, s, 1) for s in (2, 3, 4, 4)] + [(y, s, 0) for s in (2, 3, 4, 4, 4) for y in (0, 1)])]  # fmt: skip
    options = [f"q={q},ties={t}" for q in ("0.3", "0.5") for t in ("count", "strict", "random")]
    rules = [f"q={q},method=optcs{more}" for q in ("0.3", "0.6") for more in ("", ",pruning=hete", ",pruning=homo", ",ties=random", ",ties=strict")]
    scores = ("lac", "aps", "raps", "saps", "topk", "margin")
    criteria = ("s", "n", "u", "f", "m", "e", "ou", "of", "om", "oe")
    efficiency = every([f"criterion={c}" for c in criteria] + [f"criterion={c},smoothed=true,conformal=aps" for c in criteria],
                       ("p_value_efficiency",))  # fmt: skip
    p_values = every([f"conformal={s}" for s in scores] + ["smoothed=true", "conformal=aps,smoothed=true"], ("p_value",))
    random = randomness.Random(20261231)
    seeded = []
    for i in range(150):
        x = random.randrange(0, 33) / 32
        seeded.append(f"{int(random.random() < x * x)} {x} {int(random.random() < 0.6)} {random.choice('aab')} {7 * i + 3}")
    classes = []
    for i in range(90):
        y = gen.skewed_class(random, 4)
        classes.append(f"{y} {gen.simplex(random, y, 4)} {int(random.random() < 0.5)} {random.choice('aab')} {1000 - i}")
    return [
        wrong("q_one", "a level of 1", "selection_fdp(q=1)", "2 expected a number between 0 and 1, neither of them"),
        wrong("q_zero", "a level of 0", "selection_power(q=0)", "2 expected a number between 0 and 1, neither of them"),
        wrong("q_text", "a level that is no number", "selection_rate(q=few)", "2 option 'q' of 'selection_rate' is 'few'"),
        wrong("level", "a binary task has labels for it", "selection_fdp(c=0.5)", "2 null rows of a binary task have label 0"),
        wrong("pruning", "an option of the other method", "selection_fdp(pruning=hete)", "2 add method=optcs"),
        wrong("model", "one column is one model", "selection_fdp(model=1)", "2 is 1, and there are 1 columns"),
        wrong("no_split", "nothing to compare with", "selection_fdp", "2 'selection_fdp' compares with calibration rows", options=""),
        wrong("no_split_p", "nothing to compare with", "p_value", "2 'p_value' compares with calibration rows", options=""),
        wrong("alpha", "a criterion without a level", "p_value_efficiency(criterion=of,alpha=0.2)", "2 alpha is an option of n, m, e, om and oe"),
        wrong("penalty", "a score without a penalty", "p_value(lambda=1)", "2 lambda is an option of raps and saps"),
        case("example", "METRICS 4.5: p = .05 .1 .5 .9", every(["q=0.2", "q=0.19", "q=0.05", "q=0.9", "q=0.2,method=optcs"]), BINARY, example),
        case("ties", "equal scores, of null rows and of others", every([*options, *rules]), BINARY + " id:i64", tied,
             options="--calibration c --id id --seed 5"),
        case("one_label", "no null row for calibration", every(["q=0.5", "q=0.2"]), BINARY, "1 0.5 1\n1 0.5 1\n1 0.75 0\n0 0.25 0"),
        case("no_positive", "nothing worth selecting", every(["q=0.5"]), BINARY, "0 0.5 1\n0 0.5 1\n0 0.75 0\n0 0.25 0"),
        case("no_calibration_rows", "every row is for testing", "selection_fdp,selection_power,selection_rate,p_value,p_value_efficiency", BINARY,
             "0 0.5 0\n1 0.5 0"),
        case("no_other_rows", "every row is for calibration", "selection_fdp,selection_power,selection_rate,p_value,p_value_efficiency", BINARY,
             "0 0.5 1\n1 0.5 1"),
        case("weighted", "weights are no counts", "selection_fdp,selection_power,selection_rate,p_value,p_value_efficiency", BINARY + " weight:f32",
             "0 0.5 1 1\n1 0.5 0 2"),
        case("margins", "scores that are no probabilities", "selection_fdp(q=0.5),selection_rate(q=0.5),p_value,p_value_efficiency", BINARY,
             "0 -3 1\n0 2.5 1\n1 7 1\n1 9 0\n0 -8 0"),
        case("seeded", "150 rows on 33 scores, two groups: one selection of all", every([*options, *rules]), BINARY + " g:str id:i64", seeded,
             options="--calibration c --id id --seed 9 --group g"),
        case("seeded_p", "p-values of two classes", f"{p_values},{efficiency}", BINARY + " g:str id:i64", seeded,
             options="--calibration c --id id --group g"),
        case("seeded_classes", "p-values of four classes, two groups", f"{p_values},{efficiency},"
             + every([f"criterion={c},alpha=0.4,conformal=raps,lambda=0.125,k_reg=1" for c in ("n", "m", "e", "om", "oe")], ("p_value_efficiency",)),
             "label:i64 probs[4]:f32 c:bool g:str id:i64", classes, "multiclass", "--calibration c --id id --seed 3 --group g"),
    ]  # fmt: skip


def in_numbers(gen):
    """Regression and risk."""

    def case(name, description, metrics, columns, rows, task="regression", **more):
        return Case(gen, f"choosing_{name}", description, metrics, columns, rows, task, **more)

    def risky(name, description, metrics, rows, **more):
        return case(name, description, metrics, f"loss[{len(rows[0].split()) - 1}]:f64 c:bool", rows, "risk", **more)

    one, three = "y:f64 pred:f64 c:bool", "y:f64 pred[3]:f64 threshold:f64 c:bool g:str id:i64"
    few = "0 0.5 1\n1 0.5 1\n1 0.75 0\n0 0.25 0"
    by_model = [f"q={q},method=bh,model={t}{more}" for q in ("0.3", "0.6") for t in range(3) for more in ("", ",score=residual,ties=random")]
    optimized = [f"q={q},method=optcs{more}" for q in ("0.4", "0.7")
                 for more in ("", ",equal_models=random", ",score=residual", ",pruning=hete,ties=random", ",pruning=homo", ",ties=strict")]  # fmt: skip
    random = randomness.Random(20270105)
    seeded = []
    for i in range(70):
        x = random.randrange(-16, 17) / 8
        models = " ".join(str(x + random.randrange(-8, 9) * t / 16) for t in (0.5, 1, 2))
        seeded.append(f"{x + random.randrange(-4, 5) / 8} {models} {random.choice((-0.25, 0, 0.5))} {int(random.random() < 0.5)} "
                      f"{random.choice('ab')} {i * i}")  # fmt: skip
    example = ["1 .6 .4 .2 0 1", ".8 .5 .1 .1 0 1", "1 1 .5 .2 .2 1", ".6 .2 .2 0 0 1", "1 .5 .5 .25 0 0", ".5 .5 .25 .25 .125 0"]
    controlled = every([f"alpha={a}" for a in ("0.3", "0.299999999999", "0.88", "0.24", "0.239", "0.5")], ("risk_control", "controlled_risk"))
    lost = []
    for _ in range(60):
        own = sorted((random.randrange(0, 1001) / 1000 for _ in range(12)), reverse=True)
        lost.append(f"{' '.join(map(str, own))} {int(random.random() < 0.5)} {random.choice('ab')}")
    return [
        case("no_level", "nothing says what is worth selecting", "selection_fdp", one, few, error="2 selection needs the level c that y has to exceed"),
        case("two_models", "which of the models", "selection_fdp(c=0)", "y:f64 pred[2]:f64 c:bool", "0 0.5 1 1\n1 0.5 0 0",
             error="2 selection by method=bh takes one model, and there are 2"),
        case("third_model", "columns count from 0", "selection_fdp(c=0,model=2)", "y:f64 pred[2]:f64 c:bool", "0 0.5 1 1\n1 0.5 0 0",
             error="2 is 2, and there are 2 columns"),
        case("model_of_optcs", "all models or one", "selection_fdp(c=0,model=1,method=optcs)", one, few, error="2 model' of 'selection_fdp' is for method=bh"),
        case("numbers", "one model, levels as an option", every(["q=0.5,c=0", "q=0.5,c=0.5", "q=0.6,c=-1", "q=0.6,c=2", "q=0.6,c=0,score=residual"]), one,
             few + "\n-1 0.125 1\n2 0.875 0"),
        case("no_numbers", "no row", every(["c=0"]), one, []),
        case("weighted_numbers", "weights are no counts", every(["c=0"]), one + " weight:f64", "0 0.5 1 1\n1 0.5 0 1"),
        case("seeded_models", "70 rows, three models, levels in a column, two groups", every([*by_model, *optimized]), three, seeded,
             options="--calibration c --id id --seed 11 --group g"),
        risky("losses", "METRICS 4.6, the fourth threshold with equality, and two other rows", controlled, example),
        risky("loss_alpha", "more than any loss", "risk_control(alpha=1)", example, error="2 alpha=1 of 'risk_control' is not below B=1"),
        risky("loss_delta", "a bound in expectation", "risk_control(delta=0.1)", example, error="2 delta is an option of hoeffding and bernstein"),
        risky("loss_no_split", "nothing to control by", "controlled_risk", example, options="", error="2 'controlled_risk' compares with calibration rows"),
        risky("loss_rises", "a loss that grows with lambda", "risk_control", [*example, "1 .5 .75 .5 0 0", "1 .5 .5 .75 0 1"],
              error="3 rises from 0.5 to 0.75 in column 2 (2 such rows in all)"),
        risky("loss_small_b", "losses above B", "risk_control(B=0.5,alpha=0.25)", example, error="3 is 1 in column 0, outside 0 to B = 0.5"),
        risky("loss_negative", "a negative loss", "risk_control", [*example, "1 .5 .5 0 -.5 0"], error="3 is -0.5 in column 4, outside 0 to B = 1"),
        risky("loss_large_b", "another largest loss", every(["B=2,alpha=0.5", "B=2,alpha=1.5", "B=100,alpha=20.3"], ("risk_control", "controlled_risk")), example),
        risky("loss_no_calibration_rows", "every row is for testing", "risk_control,controlled_risk", ["1 0 0", ".5 0 0"]),
        risky("loss_no_other_rows", "every row is for calibration", "risk_control(alpha=0.7),controlled_risk(alpha=0.7)", ["1 0 1", ".5 0 1"]),
        case("seeded_losses", "60 rows, twelve thresholds, two groups", every([f"alpha=0.{a}" for a in range(1, 10)] + ["alpha=0.25,B=1.5"],
             ("risk_control", "controlled_risk")), "loss[12]:f64 c:bool g:str", lost, "risk", options="--calibration c --group g"),
    ]  # fmt: skip


def cases(gen):
    return in_classification(gen) + in_numbers(gen)
