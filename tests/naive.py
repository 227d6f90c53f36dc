"""Slow twins of the miner: pure Python, no cleverness, nothing of ours imported.

Everything is found by trying everything. Itemsets come from ``itertools.combinations``,
probabilities are exact integers or ``fractions.Fraction``, the smallest attainable p-value is the
minimum over every attainable table, and the bound over supersets is the minimum over the whole
box of smaller margins. The fast functions are compared with these; never the other way round.

Words used below, for one itemset and K strata:

sizes, case_sizes
    n_k rows and n1_k cases of every stratum, tuples of length K.
x, a
    Carriers and carrier cases of every stratum, tuples of length K. Only ``sum(a)`` matters.
"""

import itertools
import math
from fractions import Fraction
from functools import lru_cache

TOLERANCE = 1e-9
"""Two p-values (or a p-value and a threshold) closer than this, relatively, are the same."""

MINLIKE_TOLERANCE = Fraction(1, 10**7)
"""Outcomes as likely as the observed one up to this factor count as no likelier (R, scipy)."""


def at_most(value, threshold):
    """Compare so that rounding in the last digits does not decide."""
    return value <= threshold * (1 + TOLERANCE)


# ---------------------------------------------------------------------------------------------
# Asymptotic test: Cochran-Mantel-Haenszel
# ---------------------------------------------------------------------------------------------


def cmh_parts(x, a_total, sizes, case_sizes, variance="mantel-haenszel"):
    """Return (N, D) as fractions: cases among carriers less their expectation, and its variance.

    A stratum with one class, or with one row, adds nothing to either.
    """
    deviation = Fraction(a_total)
    spread = Fraction(0)
    for x_k, n_k, n1_k in zip(x, sizes, case_sizes, strict=True):
        if n_k == 0:
            continue
        deviation -= Fraction(n1_k * x_k, n_k)
        numerator = n1_k * (n_k - n1_k) * x_k * (n_k - x_k)
        if variance == "cochran":
            spread += Fraction(numerator, n_k**3)
        elif variance == "mantel-haenszel":
            if n_k > 1:
                spread += Fraction(numerator, n_k**2 * (n_k - 1))
        else:
            raise ValueError(variance)
    return deviation, spread


def cmh_statistic(x, a_total, sizes, case_sizes, variance="mantel-haenszel"):
    """T = N^2 / D; 0 where D = 0."""
    deviation, spread = cmh_parts(x, a_total, sizes, case_sizes, variance)
    return float(deviation**2 / spread) if spread else 0.0


def log_erfc(z):
    """log(erfc(z)), also where erfc underflows (asymptotic series from z = 20)."""
    if z < 20:
        return math.log(math.erfc(z))
    total = 1.0
    term = 1.0
    for j in range(1, 20):
        term *= -(2 * j - 1) / (2 * z * z)
        total += term
    return -z * z - math.log(z * math.sqrt(math.pi)) + math.log(total)


def asymptotic_log_pvalue(
    x, a_total, sizes, case_sizes, *, alternative="two-sided", variance="mantel-haenszel"
):
    """Natural logarithm of the chi-squared (normal) tail; 0 (p = 1) where D = 0.

    One-sided: "greater" is P(Z >= N / sqrt(D)), "less" is P(Z <= N / sqrt(D)).
    """
    deviation, spread = cmh_parts(x, a_total, sizes, case_sizes, variance)
    if spread == 0:
        return 0.0
    z = math.sqrt(deviation**2 / spread)
    if alternative == "two-sided":
        return min(0.0, log_erfc(z / math.sqrt(2)))
    signed = z if deviation >= 0 else -z
    if alternative == "less":
        signed = -signed
    elif alternative != "greater":
        raise ValueError(alternative)
    return log_erfc(signed / math.sqrt(2)) - math.log(2)


def asymptotic_pvalue(x, a_total, sizes, case_sizes, **options):
    return math.exp(asymptotic_log_pvalue(x, a_total, sizes, case_sizes, **options))


# ---------------------------------------------------------------------------------------------
# Exact conditional test
# ---------------------------------------------------------------------------------------------


def attainable(x, sizes, case_sizes):
    """All totals of carrier cases that these margins allow, smallest first."""
    low = sum(max(0, x_k - (n - n1)) for x_k, n, n1 in zip(x, sizes, case_sizes, strict=True))
    high = sum(min(x_k, n1) for x_k, n, n1 in zip(x, sizes, case_sizes, strict=True))
    return range(low, high + 1)


@lru_cache(maxsize=200_000)
def null_counts(x, sizes, case_sizes):
    """How many of the equally likely label arrangements give each attainable total.

    Arguments are tuples. The counts belong to ``attainable(...)`` and sum to prod C(n_k, x_k).
    """
    counts = {0: 1}
    for x_k, n_k, n1_k in zip(x, sizes, case_sizes, strict=True):
        convolved = {}
        for a_k in range(max(0, x_k - (n_k - n1_k)), min(x_k, n1_k) + 1):
            ways = math.comb(n1_k, a_k) * math.comb(n_k - n1_k, x_k - a_k)
            for total, count in counts.items():
                convolved[total + a_k] = convolved.get(total + a_k, 0) + count * ways
        counts = convolved
    return tuple(counts[total] for total in sorted(counts))


def exact_pvalue(
    x,
    a_total,
    sizes,
    case_sizes,
    *,
    alternative="two-sided",
    two_sided="central",
    mid_p=False,
):
    """Exact conditional p-value as a Fraction.

    ``mid_p`` counts outcomes exactly as extreme as the observed one half: the observed total for
    a tail (the tail is halved before it is doubled), every total tied in probability for
    "minlike".
    """
    counts = null_counts(tuple(x), tuple(sizes), tuple(case_sizes))
    everything = sum(counts)
    here = a_total - attainable(x, sizes, case_sizes)[0]
    if not 0 <= here < len(counts):
        raise ValueError("these margins do not allow that many cases")
    own = Fraction(counts[here], 2) if mid_p else counts[here]
    upper = sum(counts[here + 1 :]) + own
    lower = sum(counts[:here]) + own
    if alternative == "greater":
        return Fraction(upper) / everything
    if alternative == "less":
        return Fraction(lower) / everything
    if alternative != "two-sided":
        raise ValueError(alternative)
    if two_sided == "central":
        return min(Fraction(1), 2 * Fraction(min(upper, lower)) / everything)
    if two_sided != "minlike":
        raise ValueError(two_sided)
    one = MINLIKE_TOLERANCE.denominator
    within = [c for c in counts if c * one <= counts[here] * (one + 1)]
    tied = [c for c in within if c * (one + 1) >= counts[here] * one]
    total = Fraction(sum(within))
    return (total - Fraction(sum(tied), 2) if mid_p else total) / everything


def log_fraction(value):
    """Natural logarithm of a positive Fraction, however small."""
    return math.log(value.numerator) - math.log(value.denominator)


# ---------------------------------------------------------------------------------------------
# Smallest attainable p-value, and its smallest value over all smaller margins
# ---------------------------------------------------------------------------------------------


def pvalue(x, a_total, sizes, case_sizes, settings):
    """p-value under ``settings`` = (method, alternative, two_sided, variance), as a float."""
    method, alternative, two_sided, variance = settings
    if method == "exact":
        return float(
            exact_pvalue(
                x, a_total, sizes, case_sizes, alternative=alternative, two_sided=two_sided
            )
        )
    if method == "asymptotic":
        return asymptotic_pvalue(
            x, a_total, sizes, case_sizes, alternative=alternative, variance=variance
        )
    raise ValueError(method)


def log_pvalue(x, a_total, sizes, case_sizes, settings):
    """Like `pvalue`, natural logarithm."""
    method, alternative, two_sided, variance = settings
    if method == "exact":
        return log_fraction(
            exact_pvalue(
                x, a_total, sizes, case_sizes, alternative=alternative, two_sided=two_sided
            )
        )
    return asymptotic_log_pvalue(
        x, a_total, sizes, case_sizes, alternative=alternative, variance=variance
    )


@lru_cache(maxsize=200_000)
def minimum_log_pvalue(x, sizes, case_sizes, settings):
    """Smallest log p-value over every attainable total, tried one by one (tuples only)."""
    return min(
        log_pvalue(x, a, sizes, case_sizes, settings) for a in attainable(x, sizes, case_sizes)
    )


def minimum_pvalue(x, sizes, case_sizes, settings):
    return math.exp(minimum_log_pvalue(tuple(x), tuple(sizes), tuple(case_sizes), settings))


def minimum_log_pvalue_bound(x, sizes, case_sizes, settings):
    """Smallest log p-value over every margin x' <= x: the whole box is walked."""
    sizes, case_sizes = tuple(sizes), tuple(case_sizes)
    return min(
        minimum_log_pvalue(smaller, sizes, case_sizes, settings)
        for smaller in itertools.product(*(range(x_k + 1) for x_k in x))
    )


def minimum_pvalue_bound(x, sizes, case_sizes, settings):
    return math.exp(minimum_log_pvalue_bound(x, sizes, case_sizes, settings))


# ---------------------------------------------------------------------------------------------
# Testability thresholds
# ---------------------------------------------------------------------------------------------


def tarone_exact(minima, alpha):
    """Return (delta*, m): the largest attained value with delta * m(delta) <= alpha.

    m(delta) counts the values <= delta. (nan, 0) when no value qualifies.
    """
    best, count = math.nan, 0
    for delta in sorted(set(minima)):
        m = sum(at_most(value, delta) for value in minima)
        if at_most(delta * m, alpha):
            best, count = delta, m
    return best, count


def tarone_grid(minima, alpha, step):
    """Return (delta_j, m) of the original programs' grid delta_j = 10 ** (-step * j), j >= 1."""
    for j in itertools.count(1):
        delta = 10.0 ** (-step * j)
        m = sum(at_most(value, delta) for value in minima)
        if at_most(m * delta, alpha):
            return delta, m
    raise AssertionError("unreachable: the grid goes to 0")


# ---------------------------------------------------------------------------------------------
# The whole search
# ---------------------------------------------------------------------------------------------


def as_itemsets(rows):
    """Rows as sets of items; a row may be a set of items or a sequence of 0/1."""
    if all(isinstance(row, (set, frozenset)) for row in rows):
        return [frozenset(row) for row in rows]
    return [frozenset(j for j, value in enumerate(row) if value) for row in rows]


def keep_informative(y, strata):
    """Row numbers of the strata that hold both classes."""
    classes = {}
    for label, code in zip(y, strata, strict=True):
        classes.setdefault(code, set()).add(bool(label))
    return [i for i, code in enumerate(strata) if len(classes[code]) == 2]


def hypotheses_of(itemsets, kept, min_support=1, max_length=None):
    """Distinct row sets of all itemsets of at most `max_length` items.

    Returns a dict {rows: {"closed": tuple, "generators": [tuple, ...]}}; generators are the
    shortest itemsets with those rows. Items in none or in all of the kept rows are left out.
    """
    rows_of = {}
    for i in kept:
        for item in itemsets[i]:
            rows_of.setdefault(item, set()).add(i)
    rows_of = {j: frozenset(r) for j, r in sorted(rows_of.items()) if len(r) < len(kept)}
    longest = len(rows_of) if max_length is None else min(max_length, len(rows_of))
    found = {}
    for length in range(1, longest + 1):
        for itemset in itertools.combinations(rows_of, length):
            rows = frozenset.intersection(*(rows_of[j] for j in itemset))
            if len(rows) < max(1, min_support):
                continue
            entry = found.setdefault(rows, {"generators": []})
            if not entry["generators"] or len(entry["generators"][0]) == length:
                entry["generators"].append(itemset)
    for rows, entry in found.items():
        entry["closed"] = tuple(j for j, other in rows_of.items() if rows <= other)
    return found


def mine(
    rows,
    y,
    strata=None,
    *,
    alpha=0.05,
    method="exact",
    alternative="two-sided",
    two_sided="central",
    variance="mantel-haenszel",
    grid_step=None,
    min_support=1,
    max_length=None,
    drop_uninformative=True,
):
    """Mine a small table by brute force.

    Parameters
    ----------
    rows : list of sets of items, or of sequences of 0/1
    y : sequence of 0/1
    strata : sequence of sortable codes, or None for one stratum
    drop_uninformative : bool
        Leave out the rows of strata with one class before anything else.

    Returns
    -------
    dict
        n_testable, testability_threshold (nan if nothing is testable), corrected_threshold,
        smallest_minimum_pvalue (nan without hypotheses), stratum_codes (the order of x and a),
        sizes, case_sizes, hypotheses (every one, as dicts with rows, closed, generators, x, a,
        statistic, psi, log_psi, p, log_p, testable), significant (those of them that are
        rejected).
    """
    itemsets = as_itemsets(rows)
    strata = [0] * len(itemsets) if strata is None else list(strata)
    kept = keep_informative(y, strata) if drop_uninformative else list(range(len(itemsets)))
    codes = sorted({strata[i] for i in kept})
    sizes = tuple(sum(strata[i] == code for i in kept) for code in codes)
    case_sizes = tuple(sum(strata[i] == code and bool(y[i]) for i in kept) for code in codes)
    settings = (method, alternative, two_sided, variance)

    hypotheses = []
    for carriers, entry in hypotheses_of(itemsets, kept, min_support, max_length).items():
        x = tuple(sum(strata[i] == code for i in carriers) for code in codes)
        a = tuple(sum(strata[i] == code and bool(y[i]) for i in carriers) for code in codes)
        log_psi = minimum_log_pvalue(x, sizes, case_sizes, settings)
        log_p = log_pvalue(x, sum(a), sizes, case_sizes, settings)
        hypotheses.append(
            {
                "rows": carriers,
                "closed": entry["closed"],
                "generators": entry["generators"],
                "x": x,
                "a": a,
                "statistic": cmh_statistic(x, sum(a), sizes, case_sizes, variance),
                "log_psi": log_psi,
                "psi": math.exp(log_psi),
                "log_p": log_p,
                "p": math.exp(log_p),
            }
        )

    minima = [h["psi"] for h in hypotheses]
    if grid_step is None:
        delta, m = tarone_exact(minima, alpha)
    else:
        delta, m = tarone_grid(minima, alpha, grid_step)
    threshold = alpha / max(1, m)
    for h in hypotheses:
        h["testable"] = at_most(h["psi"], delta)  # False for every one if delta is nan
    return {
        "n_testable": m,
        "testability_threshold": delta,
        "corrected_threshold": threshold,
        "smallest_minimum_pvalue": min(minima, default=math.nan),
        "stratum_codes": codes,
        "sizes": sizes,
        "case_sizes": case_sizes,
        "hypotheses": hypotheses,
        "significant": [h for h in hypotheses if h["testable"] and at_most(h["p"], threshold)],
    }


# ---------------------------------------------------------------------------------------------
# Effect sizes of K tables ((case carriers, control carriers), (other cases, other controls))
# ---------------------------------------------------------------------------------------------


def mantel_haenszel_odds_ratio(tables):
    """Pooled odds ratio sum(a d / n) / sum(b c / n); inf where only the denominator is 0."""
    numerator = denominator = Fraction(0)
    for (a, b), (c, d) in tables:
        n = a + b + c + d
        if n:
            numerator += Fraction(int(a * d), int(n))
            denominator += Fraction(int(b * c), int(n))
    if denominator == 0:
        return math.inf if numerator else math.nan
    return float(numerator / denominator)


# ---------------------------------------------------------------------------------------------
# Ranked selection
# ---------------------------------------------------------------------------------------------


def order(scores, largest=True):
    """Indices, best first; equal scores by index."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i] if largest else scores[i], i))


def keep_best(scores, k, largest=True):
    """Set of the k best indices."""
    return set(order(scores, largest)[:k])


def keep_mass(scores, eps):
    """Set of the fewest best indices whose sum is at least (1 - eps) of all, by trying each k."""
    ranked = order(scores)
    total = sum(map(Fraction, scores))
    for k in range(len(scores) + 1):
        lost = sum((Fraction(scores[i]) for i in ranked[k:]), Fraction(0))
        if at_most(lost, Fraction(eps) * total):
            return set(ranked[:k])
    raise AssertionError("unreachable: with all kept nothing is lost")


def keep_bonferroni(pvalues, alpha, m=None):
    m = len(pvalues) if m is None else m
    return {i for i, p in enumerate(pvalues) if at_most(p, alpha / m)}


def keep_tarone(minima, alpha):
    delta, _ = tarone_exact(minima, alpha)
    return {i for i, p in enumerate(minima) if at_most(p, delta)}


def keep_benjamini_hochberg(pvalues, q):
    """Everything up to the largest p that lies under the line, counted at each p itself."""
    m = len(pvalues)
    good = [p for p in pvalues if at_most(p, q * sum(other <= p for other in pvalues) / m)]
    return {i for i, p in enumerate(pvalues) if good and p <= max(good)}


def keep_holm(pvalues, alpha):
    """Reject the smallest while it is below alpha / (number not yet rejected)."""
    kept = set()
    for i in order(pvalues, largest=False):
        if not at_most(pvalues[i], alpha / (len(pvalues) - len(kept))):
            break
        kept.add(i)
    return kept


def keep_westfall_young(pvalues, null_minima, alpha):
    """Permutation p-value (b + 1) / (m + 1) of each, where b minima are at most p."""
    kept = set()
    for i, p in enumerate(pvalues):
        beaten = sum(at_most(minimum, p) for minimum in null_minima)
        if at_most((beaten + 1) / (len(null_minima) + 1), alpha):
            kept.add(i)
    return kept
