"""Slow twins of statistics and criteria: plain loops over numbers, nothing of the library."""

import math

import numpy as np


def mean(values):
    return sum(float(v) for v in np.ravel(values)) / np.size(values)


def mean_absolute(values):
    return sum(abs(float(v)) for v in np.ravel(values)) / np.size(values)


def zeros(values):
    return sum(float(v) == 0.0 for v in np.ravel(values)) / np.size(values)


def rank(values):
    """Rank by Gaussian elimination with pivots."""
    rows = [[float(v) for v in row] for row in values]
    found = 0
    for column in range(len(rows[0])):
        pivot = max(range(found, len(rows)), key=lambda r: abs(rows[r][column]), default=None)
        if pivot is None or abs(rows[pivot][column]) < 1e-9:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        for r in range(found + 1, len(rows)):
            factor = rows[r][column] / rows[found][column]
            rows[r] = [a - factor * b for a, b in zip(rows[r], rows[found], strict=True)]
        found += 1
        if found == len(rows):
            break
    return found


OF_MAPS = {"activation": mean, "magnitude": mean_absolute, "zeros": zeros, "rank": rank}


def distances(rows):
    """Return the sum of the distances of every row from all rows."""
    return [
        sum(math.dist(a, b) for b in rows)
        for a in rows
    ]  # fmt: skip


def sum_of_distances(point, rows):
    return sum(math.dist(point, row) for row in rows)


def entropy(values, n_bins):
    low, high = min(values), max(values)
    if low == high:
        return 0.0
    counts = [0] * n_bins
    for value in values:
        counts[min(n_bins - 1, int((value - low) / (high - low) * n_bins))] += 1
    shares = [count / len(values) for count in counts if count]
    return -sum(p * math.log(p) for p in shares)


def tail_shares(scores):
    """Return each score over the sum of itself and all that rank before it."""
    found = [0.0] * len(scores)
    before = 0.0
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        before += scores[i]
        found[i] = scores[i] / before if before else 0.0
    return found
