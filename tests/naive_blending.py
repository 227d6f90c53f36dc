"""Slow twins of the blending of criteria: plain loops over numbers, nothing of the library."""

import itertools
import math


def average_ranks(scores):
    """Return ranks from 1 for the lowest; equal scores share the mean of theirs."""
    return [
        sum(other < score for other in scores)
        + (1 + sum(other == score for other in scores)) / 2
        for score in scores
    ]  # fmt: skip


def correlation(first, second):
    """Return Pearson's correlation; 0 where one side has only one value."""
    a, b = sum(first) / len(first), sum(second) / len(second)
    product = sum((x - a) * (y - b) for x, y in zip(first, second, strict=True))
    squares = sum((x - a) ** 2 for x in first) * sum((y - b) ** 2 for y in second)
    return product / math.sqrt(squares) if squares > 0 else 0.0


def spearman(first, second):
    return correlation(average_ranks(first), average_ranks(second))


def distances(rows):
    """Return 1 - rank correlation of every pair of rows."""
    return [
        [0.0 if i == j else 1 - spearman(a, b) for j, b in enumerate(rows)]
        for i, a in enumerate(rows)
    ]


def mean_distance(distance, first, second):
    return sum(distance[i][j] for i in first for j in second) / (len(first) * len(second))


def average_linkage(distance, k):
    """Join the two clusters with the smallest mean distance until k are left."""
    clusters = [[i] for i in range(len(distance))]
    while len(clusters) > k:
        a, b = min(
            itertools.combinations(range(len(clusters)), 2),
            key=lambda pair: mean_distance(distance, clusters[pair[0]], clusters[pair[1]]),
        )
        clusters[a] += clusters.pop(b)
    return {frozenset(cluster) for cluster in clusters}


def silhouette(distance, clusters):
    """Return the mean silhouette; 0 for those alone in their cluster."""
    total = 0.0
    for cluster in clusters:
        for i in cluster:
            others = [j for j in cluster if j != i]
            if others:
                inside = sum(distance[i][j] for j in others) / len(others)
                outside = min(
                    sum(distance[i][j] for j in other) / len(other)
                    for other in clusters
                    if other is not cluster
                )
                total += (outside - inside) / max(inside, outside)
    return total / len(distance)


def best_number(distance, largest):
    """Return the number of clusters with the largest mean silhouette, the fewest of equal ones."""
    found = {
        k: round(silhouette(distance, list(average_linkage(distance, k))), 12)
        for k in range(2, min(largest, len(distance) - 1) + 1)
    }
    return min(found, key=lambda k: (-found[k], k))


def medoid(distance, cluster):
    rows = sorted(cluster)
    return min(rows, key=lambda i: (round(sum(distance[i][j] for j in rows), 9), i))


def partitions(things, k):
    """Go through all ways to cut things into k sets, none of them empty."""
    if len(things) == k:
        yield [[thing] for thing in things]
    elif k > 0 and things:
        first, rest = things[0], things[1:]
        for found in partitions(rest, k - 1):
            yield [[first], *found]
        for found in partitions(rest, k):
            for i, part in enumerate(found):
                yield [*found[:i], [first, *part], *found[i + 1 :]]


def squares_within(points, clusters):
    """Return the sum of the squared distances of points from the mean of their cluster."""
    total = 0.0
    for cluster in clusters:
        for column in zip(*(points[i] for i in cluster), strict=True):
            mean = sum(column) / len(column)
            total += sum((value - mean) ** 2 for value in column)
    return total


def normalised(scores, how):
    n = len(scores)
    mean = sum(scores) / n
    if how == "rank":
        return [rank / n for rank in average_ranks(scores)]
    if how == "max":
        divisor = max(map(abs, scores))
        return [s / divisor if divisor else 0.0 for s in scores]
    if how == "mean":
        divisor = sum(map(abs, scores)) / n
        return [s / divisor if divisor else 0.0 for s in scores]
    if how == "min-max":
        divisor = max(scores) - min(scores)
        return [(s - min(scores)) / divisor if divisor else 0.0 for s in scores]
    divisor = math.sqrt(sum((s - mean) ** 2 for s in scores) / n)
    return [(s - mean) / divisor if divisor else 0.0 for s in scores]


def blend(rows, factors, how):
    """Return the sum of factor times normalised score, for every filter."""
    parts = [normalised(row, how) for row in rows]
    return [
        sum(factor * part[i] for factor, part in zip(factors, parts, strict=True))
        for i in range(len(rows[0]))
    ]


def mean_rank(rows):
    """Return the mean over the rows of rank over number."""
    return [sum(column) / len(rows) for column in zip(*(normalised(r, "rank") for r in rows),
                                                       strict=True)]  # fmt: skip
