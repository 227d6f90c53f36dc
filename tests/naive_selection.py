"""Slow twins of the selection of units: plain Python, nothing of ours.

Groups are lists of scores with a number of blocks. A unit is (group, number). None is an undefined
score.
"""

import itertools
import math


def best_first(scores, groups):
    """Units of some groups: high scores first, equal ones by group and number."""
    units = [(g, i) for g in groups for i in range(len(scores[g]))]
    return sorted(units, key=lambda unit: (-scores[unit[0]][unit[1]], unit))


def best_subset(scores, k, minimum, forced):
    """The best of all sets of k units that hold what must stay; None if there is none.

    Of two sets the better is the one that has the best unit which is not in both.
    """
    order = best_first(scores, range(len(scores)))
    best = None
    for chosen in itertools.combinations(order, k):
        chosen = set(chosen)
        if not forced <= chosen:
            continue
        sizes = [sum(unit[0] == g for unit in chosen) for g in range(len(scores))]
        if any(
            size < min(minimum, len(of_group)) for size, of_group in zip(sizes, scores, strict=True)
        ):
            continue
        word = [unit in chosen for unit in order]
        if best is None or word > best[0]:
            best = (word, chosen)
    return None if best is None else best[1]


def mean(values):
    total = 0.0
    for value in values:
        total += value
    total /= len(values)
    return 0.0 if math.isnan(total) else total


def climb(scores, blocks, forced, minimum, round_to):
    """Yield the sets that stay, from what must stay to everything, one candidate more at a time."""
    kept_of_block, queue, orders, rows = {}, [], {}, {}
    for g, values in enumerate(scores):
        size = len(values) // blocks[g]
        rows[g] = size
        for b in range(blocks[g]):
            units = [(g, b * size + i) for i in range(size)]
            must = [unit for unit in units if unit in forced]
            rest = [unit for unit in units if unit not in forced]
            rest.sort(key=lambda unit: (-scores[unit[0]][unit[1]], unit[1]))
            orders[g, b] = must + rest
        musts = [sum((g, b * size + i) in forced for i in range(size)) for b in range(blocks[g])]
        count = max(*musts, min(size, math.ceil(minimum / blocks[g])))
        kept_of_block[g] = count
        for place in range(count, size):
            units = [orders[g, b][place] for b in range(blocks[g])]
            value = mean([scores[u][i] for u, i in units])
            queue.append((-value, g, place))
    queue.sort()

    def rounded(g):
        count = kept_of_block[g]
        while count < rows[g] and count * blocks[g] % round_to:
            count += 1
        return count

    def kept():
        return {
            unit
            for (g, _), order in orders.items()
            for unit in order[: rounded(g)]
        }  # fmt: skip

    yield kept()
    for _, g, _ in queue:
        kept_of_block[g] += 1
        yield kept()


def select(scores, blocks, forced, k, minimum, round_to):
    """The first set of at least k units; None if more than k must stay."""
    for number, kept in enumerate(climb(scores, blocks, forced, minimum, round_to)):
        if number == 0 and len(kept) > k:
            return None
        if len(kept) >= k:
            return kept
    raise AssertionError("everything has fewer than k units")


def nearest(scores, blocks, forced, minimum, round_to, cost, wanted):
    """The set whose cost is nearest to the target, the larger of two; None if all cost more."""
    sets = list(climb(scores, blocks, forced, minimum, round_to))
    if cost(sets[0]) > wanted:
        return None
    return min(reversed(sets), key=lambda kept: abs(cost(kept) - wanted))


def erk(shapes, density):
    """Densities by bisection of the factor in front of the Erdos-Renyi-Kernel shares."""
    sizes = [math.prod(shape) for shape in shapes]
    shares = [sum(shape) / math.prod(shape) for shape in shapes]
    low, high = 0.0, max(1 / share for share in shares)
    for _ in range(200):
        factor = (low + high) / 2
        total = sum(
            min(1.0, factor * share) * size for share, size in zip(shares, sizes, strict=True)
        )
        if total < density * sum(sizes):
            low = factor
        else:
            high = factor
    return [min(1.0, high * share) for share in shares]
