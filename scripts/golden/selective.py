"""Selective prediction by brute force: all orders of equal confidences, every threshold by itself.

A point is (confidence, whether it is right, mass). The functions return a Fraction, or the text of the reason why
there is no value.
"""

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import permutations, product

METRICS = {"aurc", "e_aurc", "auarc", "risk_at_coverage", "coverage_at_risk"}
MOST_ORDERS = 3000


def errors_of_first(points):
    """Mean errors among the first k rows, k = 1 ... N: each wrong row by the chance that it is among them."""
    found = []
    for k in range(1, len(points) + 1):
        mean = Fraction(0)
        for p, right, _ in points:
            above = sum(q > p for q, _, _ in points)
            equal = sum(q == p for q, _, _ in points)
            if not right:
                mean += min(max(Fraction(k - above, equal), Fraction(0)), Fraction(1))
        found.append(mean)
    return found


def errors_of_orders(points):
    """The same as a mean over every order; None where there are too many."""
    groups = [[right for q, right, _ in points if q == p] for p in sorted({p for p, _, _ in points}, reverse=True)]
    if math.prod(math.factorial(len(g)) for g in groups) > MOST_ORDERS:
        return None
    sums, orders = [0] * len(points), 0
    for order in product(*(permutations(g) for g in groups)):
        errors, orders = 0, orders + 1
        for k, right in enumerate(right for g in order for right in g):
            errors += not right
            sums[k] += errors
    return [Fraction(s, orders) for s in sums]


def asymptotic(risk):
    if risk == 1:
        return Fraction(1)
    with localcontext() as context:
        context.prec = 50
        rest = Decimal((1 - risk).numerator) / Decimal((1 - risk).denominator)
        return risk + (1 - risk) * Fraction(rest.ln())


def area(points, metric, oracle="exact", form="mean", **_):
    errors = errors_of_first(points)
    by_orders = errors_of_orders(points)
    assert by_orders is None or by_orders == errors
    rows = len(points)
    risks = [e / k for k, e in enumerate(errors, 1)]
    if metric == "aurc":
        return sum(risks) / rows
    if metric == "auarc":
        rights = [1 - r for r in risks]
        if form == "mean":
            return sum(rights) / rows
        if rows == 1:
            return "not_defined"
        return sum((a + b) / 2 for a, b in zip(rights, rights[1:])) / (rows - 1)
    wrong = sum(not right for _, right, _ in points)
    if oracle == "asymptotic":
        return sum(risks) / rows - asymptotic(Fraction(wrong, rows))
    best = sorted((right for _, right, _ in points), reverse=True)
    return sum(r - Fraction(best[:k].count(False), k) for k, r in enumerate(risks, 1)) / rows


def point(points, metric, coverage="0.8", risk="0.05"):
    total = sum(w for _, _, w in points)
    policies = []
    for t in {p for p, _, w in points if w}:
        answered = sum(w for p, _, w in points if p >= t)
        policies.append((Fraction(answered, total), Fraction(sum(w for p, r, w in points if p >= t and not r), answered)))
    if metric == "risk_at_coverage":
        return min((share, error) for share, error in policies if share >= Fraction(coverage))[1]
    reached = [share for share, error in policies if error <= Fraction(risk)]
    return max(reached) if reached else "not_reached"


def value(points, weighted, metric, **options):
    if metric in ("risk_at_coverage", "coverage_at_risk"):
        return point(points, metric, **options)
    return "not_defined" if weighted else area(points, metric, **options)
