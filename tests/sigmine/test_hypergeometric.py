"""Sums of hypergeometric variables against whole numbers, at the centre and far out."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sigmine._jit import JIT_ENABLED
from sigmine.association import cmh, cmh_exact, hypergeometric
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


def test_point_probability_of_every_small_table():
    for size in range(1, 15 if JIT_ENABLED else 9):
        for draws, cases in itertools.product(range(size + 1), repeat=2):
            for j in range(max(0, draws - size + cases), min(draws, cases) + 1):
                found = hypergeometric.log_point(float(j), float(draws), float(cases), float(size))
                assert found == pytest.approx(exact_log_point(j, draws, cases, size), abs=1e-13)


@pytest.mark.parametrize("size", [100, 1_000, 30_000])
def test_point_probability_of_large_tables(size):
    rng = np.random.default_rng(size)
    for _ in range(60 // FEWER):
        draws, cases = (int(v) for v in rng.integers(1, size, 2))
        low, high = max(0, draws - size + cases), min(draws, cases)
        mode = draws * cases // size
        for j in {low, high, min(max(mode, low), high), int(rng.integers(low, high + 1))}:
            found = hypergeometric.log_point(float(j), float(draws), float(cases), float(size))
            expected = exact_log_point(j, draws, cases, size)
            assert found == pytest.approx(expected, rel=2e-13, abs=2e-12)


def test_point_probabilities_of_a_huge_table_sum_to_one():
    # Near the centre of a law over a billion rows; Loader's expansion loses no digits there.
    size, draws, cases = 1e9, 4e8, 3e8
    centre, deviation = 1.2e8, math.sqrt(4e8 * 0.3 * 0.7 * 0.6)
    step = round(deviation / 50)
    points = np.arange(-600, 601) * step + centre
    mass = sum(math.exp(hypergeometric.log_point(j, draws, cases, size)) for j in points) * step
    assert mass == pytest.approx(1.0, rel=1e-9)


# ---------------------------------------------------------------------------------------------
# Tails of the sum
# ---------------------------------------------------------------------------------------------


@given(strategies.observations(max_size=12))
def test_tails_of_any_small_sum(observation):
    x, a, n, n1 = observation
    law = law_of(x, n, n1)
    total = sum(a)
    lower, upper, point = hypergeometric.log_tails(
        total, np.array(x, dtype=np.int64), kernel_margins(n, n1)
    )
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
        support = np.array(x, dtype=np.int64)
        below = Fraction(0)
        for a, p in law.items():
            above = 1 - below
            below += p
            found = hypergeometric.log_tails(a, support, margins)
            for value, expected in zip(found, (below, above, p), strict=True):
                if expected > Fraction(1, 2):
                    assert -math.expm1(value) == pytest.approx(
                        float(1 - expected), rel=1e-10, abs=1e-14
                    )
                else:
                    assert value == pytest.approx(naive.log_fraction(expected), abs=1e-12)


@given(strategies.supports(max_size=12), st.floats(-30, 30))
def test_tilted_law_is_the_law_times_an_exponential(margins, theta):
    x, n, n1 = margins
    law = law_of(x, n, n1)
    low, found, log_mgf = hypergeometric.tilted_sum(
        np.array(x, dtype=np.int64), kernel_margins(n, n1), theta
    )
    assert found.sum() == pytest.approx(1.0, rel=1e-12)
    logs = {a: naive.log_fraction(p) + theta * a for a, p in law.items()}
    largest = max(logs.values())
    scale = largest + math.log(sum(math.exp(v - largest) for v in logs.values()))
    assert log_mgf == pytest.approx(scale, rel=1e-11, abs=1e-11)
    for a, value in logs.items():
        expected = math.exp(value - scale)
        inside = low <= a < low + len(found)
        assert (found[a - low] if inside else 0.0) == pytest.approx(expected, rel=1e-10, abs=1e-18)


def test_tilt_leads_to_the_target():
    rng = np.random.default_rng(5)
    for _ in range(100 // FEWER):
        n = rng.integers(20, 200, 3)
        n1, x = (np.array([int(rng.integers(5, v - 4)) for v in n]) for _ in range(2))
        margins = kernel_margins(n, n1)
        support = x.astype(np.int64)
        values = naive.attainable(x.tolist(), n.tolist(), n1.tolist())
        target = int(rng.integers(values[0] + 1, values[-1]))
        theta = hypergeometric.find_tilt(float(target), support, margins)
        low, law, _ = hypergeometric.tilted_sum(support, margins, theta)
        at = np.arange(low, low + len(law))
        mean = float((law * at).sum())
        deviation = math.sqrt(float((law * (at - mean) ** 2).sum()))
        assert abs(mean - target) < 0.2 * deviation + 0.6


def test_no_cases_and_no_carriers():
    for x, n, n1 in (([0], [5], [2]), ([5], [5], [2]), ([2], [5], [0]), ([2], [5], [5])):
        (a,) = naive.attainable(x, n, n1)
        support = np.array(x, dtype=np.int64)
        margins = kernel_margins(n, n1)
        assert hypergeometric.log_tails(a, support, margins) == (0.0, 0.0, 0.0)
        assert hypergeometric.point_pvalue_sum(a, support, margins) == (0.0, 0.0)


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
            total, own = hypergeometric.point_pvalue_sum(
                a, np.array(x, dtype=np.int64), kernel_margins(n, n1)
            )
            assert math.exp(total) == pytest.approx(float(expected), rel=1e-11)
            assert math.exp(own) == pytest.approx(float(tied), rel=1e-11)
            ties += tied > law[a]
    assert ties > 100 // FEWER


# ---------------------------------------------------------------------------------------------
# Fast tails
# ---------------------------------------------------------------------------------------------


def plain_tails(a, x, n, n1):
    margins = kernel_margins(n, n1)
    extremes, offset = cmh_exact.extreme_tables(margins[cmh.SIZE], margins[cmh.CASES])
    work = np.full((3, int(margins[cmh.SIZE].sum()) + 2), np.nan)
    return hypergeometric.plain_tails(
        a, np.array(x, dtype=np.int64), margins, extremes, offset, work[0], work[1], work[2]
    )


def test_fast_tails_of_every_outcome():
    rng = np.random.default_rng(3)
    for _ in range(60 // FEWER):
        x, n, n1 = draw_margins(rng)
        below = Fraction(0)
        for a, p in law_of(x, n, n1).items():
            above = 1 - below
            below += p
            found = plain_tails(a, x, n, n1)
            for value, expected in zip(found, (below, above), strict=True):
                assert value == pytest.approx(float(expected), rel=1e-11, abs=1e-16)


@pytest.mark.parametrize("size", [3_000, 20_000])
def test_fast_tails_of_large_strata(size):
    # So large that the lowest outcome underflows: the law is built from its mode.
    rng = np.random.default_rng(size)
    for n_strata in (1, 2):
        n = rng.integers(size // 2, size, n_strata)
        n1, x = ((n * rng.uniform(0.3, 0.7, n_strata)).astype(int) for _ in range(2))
        mean = float((x * n1 / n).sum())
        deviation = math.sqrt(float((x * n1 / n * (1 - n1 / n) * (1 - x / n)).sum()))
        for z in (-9, -6, -3, 0, 3, 6, 9):
            a = round(mean + z * deviation)
            below, above = plain_tails(a, x.tolist(), n.tolist(), n1.tolist())
            lower, upper, _ = hypergeometric.log_tails(a, x.astype(np.int64), kernel_margins(n, n1))
            assert below == pytest.approx(math.exp(lower), rel=1e-9, abs=1e-17)
            assert above == pytest.approx(math.exp(upper), rel=1e-9, abs=1e-17)
            if n_strata == 1:
                law = stats.hypergeom(int(n[0]), int(n1[0]), int(x[0]))
                assert above == pytest.approx(law.sf(a - 1), rel=1e-8, abs=1e-17)
