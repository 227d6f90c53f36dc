"""Slow twins of the statistics of the pruner: plain Python and numpy, nothing of ours imported.

Probabilities come from enumeration or from ``math``; quantiles from sorted lists. The fast
functions are compared with these, never the other way round.
"""

import itertools
import math
from statistics import NormalDist


def quantile(values, q):
    """Quantile by linear interpolation between order statistics (type 7 of Hyndman and Fan)."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * q
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def kept(scores, n_keep):
    """Numbers of the best scores; of equal ones the lower numbers."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return set(order[:n_keep])


def rank_summary(samples, weights, score_of, scopes, n_keep, level):
    """Everything that resamples with given weights say; a dict of lists over the units.

    `score_of` turns the mean of a unit into its score; `scopes` are lists of numbers of units.
    """
    n, n_units = len(samples), len(samples[0])
    scores, ranks, pruned = [], [], []
    for row in weights:
        means = [sum(row[i] * samples[i][u] for i in range(n)) for u in range(n_units)]
        found = [score_of(mean) for mean in means]
        rank, gone = [math.nan] * n_units, [0] * n_units
        for where, k in zip(scopes, n_keep, strict=True):
            order = sorted(where, key=lambda u: (-found[u], u))
            for place, u in enumerate(order, start=1):
                rank[u], gone[u] = place, int(place > k)
        scores.append(found)
        ranks.append(rank)
        pruned.append(gone)
    tail, b = (1 - level) / 2, len(weights)
    all_means = [
        [sum(row[i] * samples[i][u] for i in range(n)) for u in range(n_units)] for row in weights
    ]
    observed = [sum(row[u] for row in samples) / n for u in range(n_units)]
    repeated = [0] * n_units
    for k in range(b):
        both = zip(all_means[k - 1], all_means[k], observed, strict=True)
        found = [score_of(one + other - mean) for one, other, mean in both]
        for where, n_kept in zip(scopes, n_keep, strict=True):
            for u in sorted(where, key=lambda u: (-found[u], u))[n_kept:]:
                repeated[u] += 1
    out = {name: [] for name in ("standard_error", "ci_low", "ci_high", "rank_low", "rank_high",
                                 "p_pruned", "p_repeated")}  # fmt: skip
    for u in range(n_units):
        of_unit = [row[u] for row in scores]
        mean = sum(of_unit) / b
        out["standard_error"].append(math.sqrt(sum((x - mean) ** 2 for x in of_unit) / (b - 1)))
        out["ci_low"].append(quantile(of_unit, tail))
        out["ci_high"].append(quantile(of_unit, 1 - tail))
        places = sorted(row[u] for row in ranks)
        below = math.floor((b - 1) * tail)
        out["rank_low"].append(places[below])
        out["rank_high"].append(places[b - 1 - below])
        out["p_pruned"].append(sum(row[u] for row in pruned) / b)
        out["p_repeated"].append(repeated[u] / b)
    return out


def bca(observed, replicates, jackknife, level):
    """BCa interval as Efron and Tibshirani (1993) print it, with ties counted half."""
    normal = NormalDist()
    below = sum((r < observed) + 0.5 * (r == observed) for r in replicates) / len(replicates)
    bias = normal.inv_cdf(below)
    centre = sum(jackknife) / len(jackknife)
    cubes = sum((centre - value) ** 3 for value in jackknife)
    squares = sum((centre - value) ** 2 for value in jackknife)
    acceleration = cubes / (6 * squares**1.5)
    ends = []
    for alpha in ((1 - level) / 2, (1 + level) / 2):
        z = bias + normal.inv_cdf(alpha)
        ends.append(quantile(replicates, normal.cdf(bias + z / (1 - acceleration * z))))
    return tuple(ends)


def sign_flip(values, margin):
    """Share of all 2^n sign flips of the deviations with a sum at most the observed one."""
    deviations = [value - margin for value in values]
    observed, count = sum(deviations), 0
    for signs in itertools.product((-1, 1), repeat=len(values)):
        flipped = sum(s * d for s, d in zip(signs, deviations, strict=True))
        count += flipped <= observed + 1e-9 * sum(map(abs, deviations))
    return count / 2 ** len(values)


def t_statistic(values):
    """Student's t of the mean against 0."""
    n = len(values)
    mean = sum(values) / n
    variance = sum((value - mean) ** 2 for value in values) / (n - 1)
    return mean / math.sqrt(variance / n)


def westfall_young(columns, margin):
    """Adjusted p-values: over all flips of whole samples, how often the smallest t is as small."""
    deviations = [[value - margin for value in column] for column in columns]
    observed = [t_statistic(column) for column in deviations]
    n, minima = len(columns[0]), []
    for signs in itertools.product((-1, 1), repeat=n):
        minima.append(
            min(
                t_statistic([s * d for s, d in zip(signs, column, strict=True)])
                for column in deviations
            )
        )
    return [(1 + sum(m <= t + 1e-9 * abs(t) for m in minima)) / (len(minima) + 1) for t in observed]


def trinomial(worse, better, n, p_worse, p_better):
    """Probability of so many worse and better samples of n."""
    same = n - worse - better
    ways = math.factorial(n) // (
        math.factorial(worse) * math.factorial(better) * math.factorial(same)
    )
    return ways * p_worse**worse * p_better**better * (1 - p_worse - p_better) ** same


def margin_tail(worse, better, n, margin, share):
    """P(Z at most the observed Z) by enumeration, for one share of discordant samples."""

    def statistic(w, b):
        return (w - b - n * margin) / math.sqrt(max(w + b, n * abs(margin)) + 1)

    observed = statistic(worse, better)
    p_worse, p_better = (share + margin) / 2, (share - margin) / 2
    return sum(
        trinomial(w, b, n, p_worse, p_better)
        for w in range(n + 1)
        for b in range(n + 1 - w)
        if statistic(w, b) <= observed * (1 - 1e-9)
    )


def rank_biased_overlap(first, second, p):
    """RBO_EXT of two permutations of one set, with the overlap counted anew at every depth."""
    n, total = len(first), 0.0
    for depth in range(1, n + 1):
        total += len(set(first[:depth]) & set(second[:depth])) / depth * p**depth
    return p**n + (1 - p) / p * total


def kendall_tau_b(first, second):
    """Tau-b from all pairs."""
    concordant = discordant = first_ties = second_ties = 0
    for i, j in itertools.combinations(range(len(first)), 2):
        a, b = first[i] - first[j], second[i] - second[j]
        concordant += a * b > 0
        discordant += a * b < 0
        first_ties += a == 0
        second_ties += b == 0
    pairs = len(first) * (len(first) - 1) // 2
    return (concordant - discordant) / math.sqrt((pairs - first_ties) * (pairs - second_ties))


def average_ranks(values):
    """Ranks from 1 for the smallest, ties averaged."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def correlation(first, second):
    """Pearson's."""
    n = len(first)
    a, b = sum(first) / n, sum(second) / n
    covariance = sum((x - a) * (y - b) for x, y in zip(first, second, strict=True))
    return covariance / math.sqrt(
        sum((x - a) ** 2 for x in first) * sum((y - b) ** 2 for y in second)
    )
