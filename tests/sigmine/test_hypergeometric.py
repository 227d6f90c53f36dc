"""Sums of hypergeometric variables against whole numbers, at the centre and far out."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine._jit import JIT_ENABLED
from sigmine.association import cmh, hypergeometric
from tests import naive, strategies

FEWER = 1 if JIT_ENABLED else 5


def kernel_margins(n, n1):
    return cmh.margins_matrix(np.array(n, dtype=float), np.array(n1, dtype=float), "cochran")


def law_of(x, n, n1):
    """{value: probability as a Fraction} of the number of cases among the carriers."""
    counts = naive.null_counts(tuple(x), tuple(n), tuple(n1))
    return {
        a: Fraction(count, sum(counts))
        for a, count in zip(naive.attainable(x, n, n1), counts, strict=True)
    }


def tails(a, x, margins):
    """(log P(A <= a), log P(A >= a), log P(A = a)) of one pattern."""
    found = hypergeometric.log_tails(
        np.array([a], dtype=np.int64), np.array([x], dtype=np.int64).reshape(1, -1), margins
    )
    return tuple(found[:, 0].tolist())


def no_likelier_than(a, x, margins):
    found = hypergeometric.no_likelier(
        np.array([a], dtype=np.int64), np.array([x], dtype=np.int64), margins
    )
    return tuple(found[:, 0].tolist())


def draw_margins(rng, max_strata=5, max_size=40):
    k = int(rng.integers(1, max_strata + 1))
    n = rng.integers(0, max_size + 1, k).tolist()
    return [int(rng.integers(0, v + 1)) for v in n], n, [int(rng.integers(0, v + 1)) for v in n]


# ---------------------------------------------------------------------------------------------
# One law
# ---------------------------------------------------------------------------------------------


def exact_log_point(j, draws, cases, size):
    ways = math.comb(cases, j) * math.comb(size - cases, draws - j)
    everything = math.comb(size, draws)
    # The difference of two large logarithms would lose digits: divide first.
    shift = everything.bit_length() - ways.bit_length() + 64
    return math.log((ways << shift) // everything) - shift * math.log(2)


def log_points(cells):
    """log P of rows (j, draws, cases, size)."""
    return hypergeometric.log_point(*np.array(cells, dtype=np.float64).T)


def test_point_probability_of_every_small_table():
    cells = [
        (j, draws, cases, size)
        for size in range(1, 15)
        for draws, cases in itertools.product(range(size + 1), repeat=2)
        for j in range(max(0, draws - size + cases), min(draws, cases) + 1)
    ]
    expected = [exact_log_point(*cell) for cell in cells]
    np.testing.assert_allclose(log_points(cells), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [100, 1_000, 30_000])
def test_point_probability_of_large_tables(size):
    rng = np.random.default_rng(size)
    cells = []
    for _ in range(60):
        draws, cases = (int(v) for v in rng.integers(1, size, 2))
        low, high = max(0, draws - size + cases), min(draws, cases)
        mode = draws * cases // size
        for j in {low, high, min(max(mode, low), high), int(rng.integers(low, high + 1))}:
            cells.append((j, draws, cases, size))
    expected = [exact_log_point(*cell) for cell in cells]
    np.testing.assert_allclose(log_points(cells), expected, rtol=2e-13, atol=2e-12)


def test_point_probabilities_of_a_huge_table_sum_to_one():
    # Near the centre of a law over a billion rows; Loader's expansion loses no digits there.
    size, draws, cases = 1e9, 4e8, 3e8
    centre, deviation = 1.2e8, math.sqrt(4e8 * 0.3 * 0.7 * 0.6)
    step = round(deviation / 50)
    points = np.arange(-600, 601) * step + centre
    mass = float(np.exp(hypergeometric.log_point(points, draws, cases, size)).sum()) * step
    assert mass == pytest.approx(1.0, rel=1e-9)


# ---------------------------------------------------------------------------------------------
# Tails of the sum
# ---------------------------------------------------------------------------------------------


@given(strategies.observations(max_size=12))
def test_tails_of_any_small_sum(observation):
    x, a, n, n1 = observation
    law = law_of(x, n, n1)
    total = sum(a)
    lower, upper, point = tails(total, x, kernel_margins(n, n1))
    for found, expected in (
        (lower, sum(p for value, p in law.items() if value <= total)),
        (upper, sum(p for value, p in law.items() if value >= total)),
        (point, law[total]),
    ):
        assert math.exp(found) == pytest.approx(float(expected), rel=1e-11)
    assert math.exp(lower) + math.exp(upper) - math.exp(point) == pytest.approx(1.0, rel=1e-12)


def test_tails_of_every_outcome():
    rng = np.random.default_rng(1)
    for _ in range(60 // FEWER):
        x, n, n1 = draw_margins(rng)
        law = law_of(x, n, n1)
        margins = kernel_margins(n, n1)
        below = Fraction(0)
        for a, p in law.items():
            above = 1 - below
            below += p
            found = tails(a, x, margins)
            for value, expected in zip(found, (below, above, p), strict=True):
                if expected > Fraction(1, 2):
                    assert -math.expm1(value) == pytest.approx(
                        float(1 - expected), rel=1e-10, abs=1e-14
                    )
                else:
                    assert value == pytest.approx(naive.log_fraction(expected), abs=1e-12)


@given(strategies.supports(max_size=12, informative=True), st.integers(-3, 3))
def test_the_tilt_does_not_enter_the_answer(margins, theta):
    x, n, n1 = margins
    values = naive.attainable(x, n, n1)[1:-1]  # the ends need no tilt
    if not values:
        return
    a = np.array(values, dtype=np.int64)
    support = np.repeat(np.array([x], dtype=np.int64), len(a), axis=0)
    margins = kernel_margins(n, n1)
    found = hypergeometric._tails_by_tilt(a, support, margins, np.full(len(a), float(theta)))
    # Tilted away from its target, a tail may come out as 1 less the other: an absolute error.
    np.testing.assert_allclose(
        np.exp(found), np.exp(hypergeometric.log_tails(a, support, margins)), rtol=1e-11, atol=1e-13
    )


def test_the_tilt_leads_to_the_target():
    rng = np.random.default_rng(5)
    for _ in range(100):
        n = rng.integers(20, 200, 3)
        n1, x = (np.array([int(rng.integers(5, v - 4)) for v in n]) for _ in range(2))
        values = np.array(naive.attainable(x.tolist(), n.tolist(), n1.tolist())[1:-1])
        support = np.repeat(x[None].astype(np.int64), len(values), axis=0)
        tilts = hypergeometric.find_tilts(values.astype(float), support, kernel_margins(n, n1))
        assert (np.diff(tilts) > -0.5).all()  # a far target needs a strong tilt
        at = rng.integers(0, len(values))
        mean, deviation = tilted_moments(x, n, n1, float(tilts[at]))
        assert abs(mean - values[at]) < 0.2 * deviation + 0.6


def tilted_moments(x, n, n1, theta):
    """Mean and standard deviation of the sum of the tilted laws, from their point probabilities."""
    mean, variance = 0.0, 0.0
    for x_k, n_k, n1_k in zip(x.tolist(), n.tolist(), n1.tolist(), strict=True):
        j = np.arange(max(0, x_k - n_k + n1_k), min(x_k, n1_k) + 1, dtype=float)
        logs = hypergeometric.log_point(j, float(x_k), float(n1_k), float(n_k)) + theta * j
        law = np.exp(logs - logs.max())
        law /= law.sum()
        mean += float(law @ j)
        variance += float(law @ j**2) - float(law @ j) ** 2
    return mean, math.sqrt(variance)


def test_many_patterns_at_once_are_each_alone(monkeypatch):
    rng = np.random.default_rng(6)
    _, n, n1 = draw_margins(rng, max_strata=4, max_size=60)
    support = np.array([rng.integers(0, v + 1, 200 // FEWER) for v in n]).T
    margins = kernel_margins(n, n1)
    low, high = (ends.sum(axis=1) for ends in hypergeometric._range(support, margins))
    cases = rng.integers(low, high + 1)
    monkeypatch.setattr(hypergeometric, "_BLOCK_CELLS", 32 * len(n))  # several blocks
    for function in (hypergeometric.log_tails, hypergeometric.no_likelier):
        found = function(cases, support, margins)
        alone = [function(cases[i : i + 1], support[i : i + 1], margins) for i in range(len(cases))]
        np.testing.assert_allclose(found, np.concatenate(alone, axis=1), rtol=1e-13, atol=1e-13)


def test_no_cases_and_no_carriers():
    for x, n, n1 in (([0], [5], [2]), ([5], [5], [2]), ([2], [5], [0]), ([2], [5], [5])):
        (a,) = naive.attainable(x, n, n1)
        margins = kernel_margins(n, n1)
        assert tails(a, x, margins) == (0.0, 0.0, 0.0)
        assert no_likelier_than(a, x, margins) == (0.0, 0.0)


def test_no_patterns():
    nothing = np.zeros(0, dtype=np.int64)
    support = np.zeros((0, 2), dtype=np.int64)
    margins = kernel_margins([5, 6], [2, 3])
    assert hypergeometric.log_tails(nothing, support, margins).shape == (3, 0)
    assert hypergeometric.no_likelier(nothing, support, margins).shape == (2, 0)


# ---------------------------------------------------------------------------------------------
# Outcomes no likelier than the observed one
# ---------------------------------------------------------------------------------------------


def no_likelier(law, a):
    """(sum over outcomes no likelier than a, sum over those as likely), within 1e-7."""
    slack = 1 + naive.MINLIKE_TOLERANCE
    within = [p for p in law.values() if p <= law[a] * slack]
    return sum(within), sum(p for p in within if p * slack >= law[a])


def test_point_pvalue_of_every_outcome():
    rng = np.random.default_rng(2)
    ties = 0
    for i in range(80 // FEWER):
        x, n, n1 = draw_margins(rng, max_strata=4, max_size=20)
        if i % 3 == 0:  # symmetric: every outcome has one as likely
            n1 = [v // 2 for v in n]
            n = [2 * v for v in n1]
            x = [min(x_k, n_k) for x_k, n_k in zip(x, n, strict=True)]
        law = law_of(x, n, n1)
        for a in law:
            expected, tied = no_likelier(law, a)
            total, own = no_likelier_than(a, x, kernel_margins(n, n1))
            assert math.exp(total) == pytest.approx(float(expected), rel=1e-11)
            assert math.exp(own) == pytest.approx(float(tied), rel=1e-11)
            ties += tied > law[a]
    assert ties > 100 // FEWER
