"""Policies of one label, a set or no answer, by brute force: every pair of levels, every row, every label by itself.

Rows are (label, masses of the classes in units of 2^-48, id). The cost is a Decimal; what has no value is the text of
the reason.
"""

from decimal import Decimal, localcontext
from fractions import Fraction

METRICS = {"abstention_policy"}
ONE = 2**48
TUNE_KEY = 0x7E3A91C45BD20F68
USUAL = {"alpha_from": "0.75", "alpha_to": "0.9", "alpha_step": "0.01", "beta_from": "0.01", "beta_to": "0.05", "beta_step": "0.005",
         "tune": "same", "quantile": "exact", "size_weight": "0.3", "abstain_weight": "0.3", "answer_weight": "0.4",
         "entropy_weight": "0.2", "single_weight": "0.5", "single_from": "0.8"}  # fmt: skip


def mixed(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def is_for_tuning(row_id):
    key = mixed((TUNE_KEY + 0x9E3779B97F4A7C15) % 2**64) ^ mixed((row_id + 0xD1B54A32D192ED03) % 2**64)
    return mixed(key) >= 2**63


def answer(masses, predict, abstain):
    """A label, a list of labels, or None; a threshold that is None is above every score."""
    first = masses.index(max(masses))
    if predict is None or ONE - masses[first] <= predict:
        return first
    if abstain is not None and ONE - masses[first] > abstain:
        return None
    return [k for k, m in enumerate(masses) if abstain is None or ONE - m <= abstain]


def cost(rows, predict, abstain, o):
    """(cost, what it is made of)."""
    shares, wrong, sizes = [0, 0, 0], 0, []
    for label, masses, _ in rows:
        given = answer(masses, predict, abstain)
        if given is None:
            shares[2] += 1
        elif isinstance(given, list):
            shares[1] += 1
            sizes.append(len(given))
            wrong += label not in given
        else:
            shares[0] += 1
            wrong += label != given
    n = len(rows)
    single, _, abstained = (Decimal(s) / n for s in shares)
    entropy = -sum(Decimal(s) / n * (Decimal(s) / n).ln() for s in shares if s)
    weight = {k: Decimal(o[k]) for k in o if k.endswith("weight")}
    total = Decimal(wrong) / (n - shares[2]) if n > shares[2] else Decimal(1)
    total += weight["size_weight"] * (Decimal(sum(sizes)) / len(sizes) if sizes else 0)
    total += weight["abstain_weight"] * abstained - weight["answer_weight"] * (1 - abstained)
    total -= weight["entropy_weight"] * entropy
    total += weight["single_weight"] * max(Decimal(0), single - Decimal(o["single_from"]))
    return total, (shares, wrong, sum(sizes))


def levels(o, name):
    low, high, step = (Fraction(o[f"{name}_{part}"]) for part in ("from", "to", "step"))
    return [low + i * step for i in range(int((high - low) / step) + 1)]


def value(fit, others, quantile_rank, **options):
    o = {**USUAL, **options}
    with localcontext() as context:
        context.prec = 50
        tuning = [r for r in fit if is_for_tuning(r[2])] if o["tune"] == "split" else fit
        final = [r for r in fit if not is_for_tuning(r[2])] if o["tune"] == "split" else fit
        if not tuning or not final:
            return "too_few_calibration"
        if not others:
            return "empty"

        def threshold(rows, level):
            ranked = sorted(ONE - masses[label] for label, masses, _ in rows)
            rank = quantile_rank(len(rows), level, o["quantile"])
            return None if rank is None else ranked[rank - 1]

        best = None
        for alpha in levels(o, "alpha"):
            for beta in levels(o, "beta"):
                found, parts = cost(tuning, threshold(tuning, alpha), threshold(tuning, beta), o)
                assert best is None or parts == best[1] or abs(found - best[0]) > Decimal("1e-12"), "costs too close"
                if best is None or (found < best[0] and parts != best[1]):
                    best = (found, parts, alpha, beta)
        _, _, alpha, beta = best
        return Fraction(cost(others, threshold(final, alpha), threshold(final, beta), o)[0])
