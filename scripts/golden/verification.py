"""Golden cases of embeddings: all pairs one by one, each distance by the float32 chain that the definition names, all
counts anew at every threshold, and everything after the distances in exact fractions.

The chain in float32. A fused multiply-add is the exact a * b + c rounded once, here as a Fraction, because a sum rounded
to double first and to float32 then may differ. Quotients and square roots of float32 numbers may take that way: a result
within double's 53 >= 2 * 24 + 2 bits is never so close to the middle of two float32 numbers that the first rounding decides.
"""

import math
import struct
from decimal import Decimal, localcontext
from fractions import Fraction
from random import Random

CURVES = {"opis", "eps_opis"}
RATES = {"class_far", "class_frr", "far_spread", "frr_spread"}
RETRIEVAL = {"recall_at_k", "map_at_r", "r_precision"}


class Undefined(Exception):
    """No value, for the reason given."""


# ---- float32 ------------------------------------------------------------------------------------


def to_f32(double):
    return struct.unpack("<f", struct.pack("<f", double))[0]


def round_f32(value):
    """A Fraction to the nearest float32, ties to even, as a float."""
    if value == 0:
        return 0.0
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    while Fraction(2) ** exponent > abs(value):
        exponent -= 1
    while Fraction(2) ** (exponent + 1) <= abs(value):
        exponent += 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    return float(round(value / unit) * unit)  # round() takes ties to even


def fma(a, b, c):
    return round_f32(Fraction(a) * Fraction(b) + Fraction(c))


def dot(a, b):
    total = 0.0
    for x, y in zip(a, b):
        total = fma(x, y, total)
    return total


def normalised(vector):
    # Of such rows none is scaled by a power of two first.
    assert 2**-40 <= max(map(abs, vector)) < 2**40
    length = to_f32(math.sqrt(dot(vector, vector)))
    return [to_f32(x / length) for x in vector]


def closeness(a, b, domain):
    """(score, the distance or the similarity), both as floats; larger scores are closer."""
    if domain == "cosine":
        similarity = dot(a, b)
        return similarity, similarity
    gap = max(0.0, fma(-2.0, dot(a, b), round_f32(Fraction(dot(a, a)) + Fraction(dot(b, b)))))
    distance = to_f32(math.sqrt(gap))
    return -distance, distance


# ---- all pairs ----------------------------------------------------------------------------------


class Pairs:
    """Rows are {"label", "embedding", "id", ...}; pairs are (score, value, label, label)."""

    def __init__(self, rows, domain, normalize):
        self.rows, self.domain = rows, domain
        vectors = [normalised(r["embedding"]) if normalize else r["embedding"] for r in rows]
        self.scores = [[0.0] * len(rows) for _ in rows]
        self.pairs = []
        for i, a in enumerate(rows):
            for j in range(i):
                score, value = closeness(vectors[j], vectors[i], domain)
                self.scores[i][j] = self.scores[j][i] = score
                self.pairs.append((score, value, rows[j]["label"], a["label"]))
        self.negatives = sorted((p for p in self.pairs if p[2] != p[3]), key=lambda p: -p[0])
        labels = [r["label"] for r in rows]
        kinds = sorted(set(labels), key=lambda label: (isinstance(label, str), label))
        self.classes = [c for c in kinds if 1 < labels.count(c) < len(labels)]

    def two_classes(self):
        if not self.rows:
            raise Undefined("empty")
        if len(self.classes) < 2:
            raise Undefined("too_few_classes")

    def closer(self, value, threshold):
        return value <= threshold if self.domain == "l2" else value >= threshold

    def at(self, threshold, cls):
        """(accepted positives, positives, accepted negatives, negatives) of a class."""
        own = [self.closer(p[1], threshold) for p in self.pairs if p[2] == cls == p[3]]
        others = [self.closer(p[1], threshold) for p in self.pairs if (p[2] == cls) != (p[3] == cls)]
        return sum(own), len(own), sum(others), len(others)

    def utility(self, threshold, cls, c):
        accepted, positives, wrong, negatives = self.at(threshold, cls)
        psi, phi = Fraction(accepted, positives), 1 - Fraction(wrong, negatives)
        return (1 + c * c) * phi * psi / (c * c * phi + psi) if phi + psi else Fraction(0)

    def bound(self, far):
        n = len(self.negatives)
        if far * n < 1:
            raise Undefined("not_resolved")
        return self.negatives[math.ceil(far * n) - 1][1]


# ---- OPIS ---------------------------------------------------------------------------------------


def curves(pairs, far_range="0.01:0.1", d_range=None, n_thresholds="101", rule="mean", c="1", **_):
    """[(weight, U of each class)]: weights add up to 1."""
    pairs.two_classes()
    if d_range:
        first, last = sorted(map(float, d_range.split(":")), reverse=pairs.domain == "cosine")
    else:
        first, last = (pairs.bound(Fraction(f)) for f in far_range.split(":"))
    c = Fraction(c)

    def utilities(threshold):
        return [pairs.utility(threshold, cls, c) for cls in pairs.classes]

    if first == last:
        return [(Fraction(1), utilities(first))]
    if rule == "exact":
        inside = {p[1] for p in pairs.pairs if not pairs.closer(p[1], first) and pairs.closer(p[1], last)}
        edges = sorted({first, last} | inside, reverse=pairs.domain == "cosine")
        width = abs(Fraction(last) - Fraction(first))
        return [(abs(Fraction(b) - Fraction(a)) / width, utilities(a)) for a, b in zip(edges, edges[1:])]
    k = int(n_thresholds)
    grid = [first + (last - first) * i / (k - 1) for i in range(k - 1)] + [last]
    weight = Fraction(1, k) if rule == "mean" else Fraction(1, k - 1)
    ends = {0, k - 1} if rule == "trapezoid" else set()
    return [(weight / 2 if i in ends else weight, utilities(t)) for i, t in enumerate(grid)]


def mean(values):
    return sum(values) / len(values)


def opis(pairs, **options):
    return sum(w * mean([(u - mean(us)) ** 2 for u in us]) for w, us in curves(pairs, **options))


def eps_opis(pairs, epsilon="0.1", rank="pointwise", power="2", **options):
    found = curves(pairs, **options)
    classes = range(len(found[0][1]))
    count = max(1, math.ceil(Fraction(epsilon) * len(classes)))
    means = [sum(w * us[i] for w, us in found) for i in classes]
    total = Fraction(0)
    for w, us in found:
        order = sorted(classes, key=lambda i: (us if rank == "pointwise" else means)[i])
        gap = mean([us[i] for i in order[-count:]]) - mean([us[i] for i in order[:count]])
        total += w * (abs(gap) if power == "1" else gap * gap)
    return total


# ---- rates at one threshold ---------------------------------------------------------------------


def rates(pairs, metric, far="0.01", threshold=None, **_):
    pairs.two_classes()
    if threshold is not None:
        at = float(threshold)
    else:
        most = math.floor(Fraction(far) * len(pairs.negatives))
        if most == 0:
            raise Undefined("not_resolved")
        # Just stricter than the first negative pair that would be too many.
        first_wrong = pairs.negatives[most][1]
        direction = -math.inf if pairs.domain == "l2" else math.inf
        at = math.nextafter(first_wrong, direction)
    found = []
    for cls in pairs.classes:
        accepted, positives, wrong, negatives = pairs.at(at, cls)
        found.append(Fraction(wrong, negatives) if "far" in metric else Fraction(positives - accepted, positives))
    return found


def of_rates(pairs, metric, spread="range", **options):
    found = rates(pairs, metric, **options)
    if not metric.endswith("spread"):
        return mean(found)
    if spread == "range":
        return max(found) - min(found)
    variance = mean([(r - mean(found)) ** 2 for r in found])
    with localcontext() as context:
        context.prec = 40
        return Fraction((Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt())


# ---- retrieval ----------------------------------------------------------------------------------


def retrieval(pairs, metric, k="1", **_):
    if not pairs.rows:
        raise Undefined("empty")
    results = []
    for i, row in enumerate(pairs.rows):
        others = sorted((j for j in range(len(pairs.rows)) if j != i), key=lambda j: (-pairs.scores[i][j], pairs.rows[j]["id"]))
        hits = [pairs.rows[j]["label"] == row["label"] for j in others]
        relevant = sum(hits)
        if relevant == 0:
            continue
        first = hits[:relevant]
        results.append({
            "recall_at_k": Fraction(any(hits[: int(k)])),
            "r_precision": Fraction(sum(first), relevant),
            "map_at_r": sum(Fraction(sum(first[: r + 1]), r + 1) for r in range(relevant) if first[r]) / Fraction(relevant),
        }[metric])  # fmt: skip
    if not results:
        raise Undefined("no_positive")
    return mean(results)


def tar_at_far(rows, far="0.001", **_):
    positives = [s for y, s, _ in rows if y]
    negatives = [s for y, s, _ in rows if not y]
    if Fraction(far) * len(negatives) < 1:
        raise Undefined("not_resolved")
    within = [t for _, t, _ in rows if Fraction(sum(s >= t for s in negatives), len(negatives)) <= Fraction(far)]
    return Fraction(max((sum(s >= t for s in positives) for t in within), default=0), len(positives))


# ---- cases --------------------------------------------------------------------------------------


def value_of(gen, pairs, metric, options):
    """(value, tolerance)."""
    if metric in CURVES:
        return (opis if metric == "opis" else eps_opis)(pairs, **options), " rel=1e-11"
    if metric in RATES:
        exact = metric.endswith("spread") and options.get("spread") != "std"
        return of_rates(pairs, metric, **options), "" if exact else " rel=1e-13"
    if metric in RETRIEVAL:
        return retrieval(pairs, metric, **options), " ulp=1" if metric == "map_at_r" else ""
    ranked = [(int(a == b), score, 1) for score, _, a, b in pairs.pairs]
    for y, reason in ((None, "empty"), (1, "no_positive"), (0, "no_negative")):
        if not any(y is None or row[0] == y for row in ranked):
            raise Undefined(reason)
    if metric == "tar_at_far":
        return tar_at_far(ranked, **options), ""
    return gen.RANKING[metric](ranked, **options), gen.tolerance_of(metric, options, None)


def lines(gen, case):
    """Every expected line of a case: overall, then the groups."""
    columns = [gen.Column(c) for c in case.columns.split()]
    rows = []
    for number, line in enumerate(case.rows):
        cells, row = line.split(), {"id": number}
        for c in columns:
            taken = [gen.round_to(c.dtype, t) for t in cells[: c.width or 1]]
            row[c.name] = taken if c.width else taken[0]
            cells = cells[c.width or 1 :]
        assert not cells, line
        rows.append(row)
    segments = [("", rows)]
    for group in (gen.option(case, "--group") or "").split(","):
        for value in sorted({str(r[group]) for r in rows} if group else ()):
            segments.append((f" group={group}:{value}", [r for r in rows if str(r[group]) == value]))
    known, found = {}, []
    for metric, options in gen.split_metrics(case.metrics):
        text = "(" + ",".join(f"{k}={v}" for k, v in options.items()) + ")" if options else ""
        domain, normalize = options.pop("domain", "l2"), options.pop("normalize", "true") == "true"
        for group, own in segments:
            key = (group, domain, normalize)
            if key not in known:
                known[key] = Pairs(own, domain, normalize)
            try:
                value, tolerance = value_of(gen, known[key], metric, options)
                found.append(f"{metric}{text}{group} = {gen.write_value(Fraction(value), tolerance)}")
            except (Undefined, gen.Undefined) as reason:
                found.append(f"{metric}{text}{group} = undefined {reason}")
    return found


def grid_metrics(where):
    """Every rule and every way to rank, over the same range."""
    each = ["opis({})", "opis({},rule=trapezoid)", "opis({},rule=exact)", "opis({},c=2)", "eps_opis({})",
            "eps_opis({},power=1)", "eps_opis({},rank=range)", "eps_opis({},rule=exact)", "eps_opis({},epsilon=0.4,power=1)",
            "eps_opis({},rule=exact,rank=range,power=1)", "eps_opis({},epsilon=0.5,rule=exact)"]  # fmt: skip
    return ",".join(one.format(where) for one in each)


RANKED = "auroc,eer,auprc,ks,gini,tpr_at_fpr,fpr_at_tpr,f_beta_max,tar_at_far(far=0.05),tar_at_far(far=0.3)"
NEAREST = "recall_at_k,recall_at_k(k=2),recall_at_k(k=3),recall_at_k(k=100),map_at_r,r_precision"


def points(degrees, labels):
    return [f"{label} {math.cos(math.radians(d)):.9f} {math.sin(math.radians(d)):.9f}" for d, label in zip(degrees, labels)]


def rows_of(seed, sizes, width, levels, dtype, text=False):
    """Rows about a centre of their class, as multiples of 1/levels; ids, and a group of every third row."""
    random = Random(seed)
    found = []
    for label, size in enumerate(sizes):
        centre = [random.gauss(0, 1) for _ in range(width)]
        for _ in range(size):
            values = [round((x + random.gauss(0, 0.8)) * levels) / levels for x in centre]
            if not any(values):
                values[0] = 1.0
            found.append((f"c{label}" if text else label, values))
    random.shuffle(found)
    ids = random.sample(range(1000), len(found))
    return [f"{label} {i} {'ab'[n % 3 == 0]} " + " ".join(map(repr, v)) for n, ((label, v), i) in enumerate(zip(found, ids))]


def cases(gen):
    found = []

    def add(name, description, metrics, columns, rows, options=""):
        found.append(gen.Case(name, description, metrics, columns, rows, "verification", options))

    g = points([0, 20, 60, 100, 180, 190], [0, 0, 1, 1, 2, 2])
    flat = "label:i64 embedding[2]:f32"
    add("example_g", "example G of METRICS: three classes on the unit circle",
        grid_metrics("d_range=0.4:1.6") + ",opis(d_range=0.4:1.6,n_thresholds=4),opis(far_range=0.09:0.5),opis,"
        "class_far(threshold=1.1),class_frr(threshold=0.5),far_spread(threshold=1.1),frr_spread(threshold=0.5,spread=std),"
        "class_far(far=0.2),class_frr(far=0.1),class_far," + RANKED + "," + NEAREST, "label:i64 id:i64 embedding[2]:f32",
        [f"{row[0]} {i}{row[1:]}" for i, row in enumerate(g)], "--id id")  # fmt: skip
    add("example_g_similarities", "example G by cosines: another integral",
        grid_metrics("domain=cosine,d_range=-0.3:0.9") + ",opis(domain=cosine,far_range=0.1:0.5),"
        "class_far(domain=cosine,threshold=0.2),class_frr(domain=cosine,far=0.2)", flat, g)  # fmt: skip
    add("one_row_classes", "classes of one row are negatives of the others and not counted",
        grid_metrics("far_range=0.1:0.6") + "," + RANKED + "," + NEAREST + ",class_far(far=0.2),class_frr(far=0.2)", flat,
        points([0, 25, 70, 95, 140, 230, 300], [0, 0, 1, 1, 2, 3, 4]))  # fmt: skip
    add("duplicates_and_opposites", "equal rows are at distance 0, opposite ones at 2",
        "opis(d_range=0.1:1.95),opis(d_range=0.1:1.95,rule=exact),auroc,eer,tar_at_far(far=0.5)," + NEAREST,
        "label:i64 id:i64 embedding[2]:f32",
        ["0 5 1 0", "0 3 1 0", "1 9 1 0", "1 2 -1 0", "1 4 0 1", "2 7 0 -1", "2 1 0 -1"], "--id id")  # fmt: skip
    asked = "opis,eps_opis(rule=exact),class_far(far=0.5),frr_spread(threshold=1),auroc,tar_at_far," + NEAREST
    add("one_class", "nothing to compare a class with", asked, flat, points([0, 10, 50], [3, 3, 3]))
    add("no_class_of_two", "every class has one row", asked, flat, points([0, 10, 50], [0, 1, 2]))
    add("one_class_of_two", "one class of two rows beside another row", asked, flat, points([0, 10, 50], [0, 0, 1]))
    add("one_row", "no pair", asked, flat, points([10], [0]))
    columns = "label:{} id:i64 g:str embedding[{}]:{}"
    everything = ",".join([grid_metrics("far_range=0.02:0.3"), RANKED, NEAREST, "class_far(far=0.1)", "class_frr(far=0.1)",
                           "far_spread(far=0.1)", "frr_spread(far=0.1)", "far_spread(far=0.1,spread=std)"])  # fmt: skip
    add("seeded", "random rows of six classes, by group", everything, columns.format("i64", 5, "f32"),
        rows_of(1, [6, 5, 4, 3, 1, 7], 5, 2**10, "f32"), "--group g --id id")  # fmt: skip
    add("seeded_halves", "in half precision, labels as text", everything, columns.format("str", 4, "f16"),
        rows_of(2, [5, 5, 1, 6, 2, 2], 4, 2**4, "f16", text=True), "--id id")  # fmt: skip
    add("seeded_as_they_are", "small integers, not normalised: many equal distances",
        grid_metrics("normalize=false,d_range=0.5:6") + ",auroc,class_far(normalize=false,far=0.2),"
        "map_at_r(normalize=false),recall_at_k(normalize=false,k=2),r_precision(normalize=false)",
        columns.format("i64", 3, "bf16"), rows_of(3, [4, 6, 3, 1, 5], 3, 1, "bf16"), "--group g --id id")  # fmt: skip
    add("seeded_products", "dot products of rows that are not normalised",
        grid_metrics("domain=cosine,normalize=false,far_range=0.05:0.4") + ",map_at_r(domain=cosine,normalize=false),"
        "class_frr(domain=cosine,normalize=false,far=0.2)", columns.format("i64", 3, "f32"),
        rows_of(4, [4, 6, 3, 1, 5], 3, 4, "f32"), "--id id")  # fmt: skip
    return found
