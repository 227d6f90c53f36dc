"""Error rates, power and inflation: by hand, by scipy, and by their definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sigmine import metrics
from sigmine.exceptions import InputError, InputTypeError
from sigmine.metrics import (
    clopper_pearson,
    count_false,
    empirical_fwer,
    genomic_inflation,
    power,
    precision,
)


@given(st.integers(1, 2000), st.data(), st.floats(0.5, 0.999))
def test_clopper_pearson_equals_scipy(trials, data, level):
    successes = data.draw(st.integers(0, trials))
    for alternative in ("two-sided", "greater", "less"):
        ours = clopper_pearson(successes, trials, level, alternative)
        test = stats.binomtest(successes, trials, alternative=alternative)
        expected = test.proportion_ci(level, method="exact")
        assert ours.low == pytest.approx(expected.low, rel=1e-7, abs=1e-12)
        assert ours.high == pytest.approx(expected.high, rel=1e-7)
        assert ours.rate == successes / trials
        assert ours.low <= ours.rate <= ours.high
        assert (ours.successes, ours.trials, ours.level) == (successes, trials, level)


def test_clopper_pearson_limits_solve_their_definition():
    estimate = clopper_pearson(7, 50, 0.9)
    assert stats.binom.sf(6, 50, estimate.low) == pytest.approx(0.05)
    assert stats.binom.cdf(7, 50, estimate.high) == pytest.approx(0.05)
    assert estimate.excludes(0.01)
    assert estimate.excludes(0.5)
    assert not estimate.excludes(0.14)


def test_clopper_pearson_at_the_ends():
    assert clopper_pearson(0, 20).low == 0.0
    assert clopper_pearson(0, 20).high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert clopper_pearson(20, 20).high == 1.0
    assert clopper_pearson(20, 20).low == pytest.approx(0.025 ** (1 / 20))


def test_empirical_fwer_counts_runs_not_discoveries():
    n_false = np.zeros(200, dtype=int)
    n_false[:12] = 40
    estimate = empirical_fwer(n_false)
    assert estimate == clopper_pearson(12, 200)
    assert estimate.rate == 0.06
    assert not estimate.excludes(0.05)
    assert empirical_fwer([1] * 50, alternative="greater").excludes(0.05)


def test_false_discoveries_share_no_item_with_an_associated_set():
    associated = [(1, 2, 3), (7, 8)]
    found = [(1, 2, 3), (3, 9), (8,), (4, 5), (6,)]
    assert count_false(found, associated) == 2
    assert precision(found, associated) == 0.6
    assert count_false(found, []) == 5
    assert count_false([], associated) == 0
    assert math.isnan(precision([], associated))


@pytest.mark.parametrize(
    ("match", "expected"), [("contains", 2 / 3), ("exact", 1 / 3), ("overlaps", 1.0)]
)
def test_power(match, expected):
    associated = [("a", "b"), ("c", "d"), ("e", "f")]
    found = [["b", "a"], {"c", "d", "x"}, np.array(["e", "x"])]
    assert power(found, associated, match=match) == pytest.approx(expected)
    assert power([], associated, match=match) == 0.0
    assert math.isnan(power(found, [], match=match))


def test_items_of_numpy_and_of_python_are_the_same():
    assert power([np.array([0, 1, 2])], [(0, 1)]) == 1.0
    assert count_false([np.array([0, 1, 2])], [(2, 3)]) == 0


def test_genomic_inflation():
    assert pytest.approx(stats.chi2.ppf(0.5, 1), rel=1e-14) == metrics.CHI2_MEDIAN
    assert genomic_inflation([0.0, metrics.CHI2_MEDIAN, 9.0]) == 1.0
    assert genomic_inflation([2 * metrics.CHI2_MEDIAN]) == 2.0
    assert genomic_inflation([np.inf, np.inf, 0.0]) == np.inf
    assert math.isnan(genomic_inflation([]))
    quantiles = stats.chi2.ppf((np.arange(10_001) + 0.5) / 10_001, 1)
    assert genomic_inflation(quantiles) == pytest.approx(1.0, rel=1e-6)
    assert genomic_inflation(1.3 * quantiles) == pytest.approx(1.3, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: clopper_pearson(5, 4), InputError, "successes=5 of trials=4"),
        (lambda: clopper_pearson(-1, 4), InputError, "successes=-1"),
        (lambda: clopper_pearson(0, 0), InputError, "trials=0 must be at least 1"),
        (lambda: clopper_pearson(0.5, 4), InputTypeError, "successes=0.5"),
        (lambda: clopper_pearson(1, 4, 95), InputError, "level=95"),
        (lambda: clopper_pearson(1, 4, "95%"), InputTypeError, "level='95%'"),
        (lambda: clopper_pearson(1, 4, 0.9, "both"), InputError, "alternative='both'"),
        (lambda: empirical_fwer([]), InputError, r"shape \(0,\)"),
        (lambda: empirical_fwer([[1]]), InputError, r"shape \(1, 1\)"),
        (lambda: empirical_fwer([-1]), InputError, "negative or broken"),
        (lambda: empirical_fwer([0.5]), InputError, "negative or broken"),
        (lambda: empirical_fwer([float("nan")]), InputError, "negative or broken"),
        (lambda: empirical_fwer(["many"]), InputTypeError, "n_false"),
        (lambda: power([(1,)], [(1,)], match="near"), InputError, "match='near'"),
        (lambda: power(["ab"], [("a",)]), InputTypeError, "patterns holds 'ab'"),
        (lambda: power("ab", [("a",)]), InputTypeError, "patterns is one string"),
        (lambda: count_false([1], [(1,)]), InputTypeError, "patterns holds 1"),
        (lambda: count_false([(1,)], [1]), InputTypeError, "associated holds 1"),
        (lambda: genomic_inflation([-1.0]), InputError, "negative or missing"),
        (lambda: genomic_inflation([float("nan")]), InputError, "negative or missing"),
        (lambda: genomic_inflation(["x"]), InputTypeError, "numbers"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
