"""Simulated data: the probabilities that were asked for, the truth that is claimed, the seeds."""

import numpy as np
import pytest
from scipy import stats

from sigmine.exceptions import InputError, InputTypeError
from sigmine.simulate import SimulatedData, simulate_null, simulate_planted
from tests import naive

FUNCTIONS = [simulate_null, simulate_planted]


def binomial_pvalue(successes, trials, rate):
    if rate in (0.0, 1.0):
        return float(successes == trials * rate)
    return stats.binomtest(int(successes), int(trials), rate).pvalue


@pytest.mark.parametrize("function", FUNCTIONS)
def test_shapes_and_types(function):
    data = function(101, 13, 4, rng=1)
    assert isinstance(data, SimulatedData)
    assert data.X.shape == (101, 13)
    assert data.X.dtype == data.y.dtype == np.int8
    assert data.strata.dtype == np.int64
    assert set(np.unique(data.X)) == set(np.unique(data.y)) == {0, 1}
    assert sorted(np.bincount(data.strata).tolist()) == [25, 25, 25, 26]
    assert data.case_rates.tolist() == pytest.approx([0.25, 5 / 12, 7 / 12, 0.75])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_seeds(function):
    def same(one, other):
        return (
            (one.X == other.X).all() and (one.y == other.y).all() and one.planted == other.planted
        )

    first = function(200, 20, rng=5)
    assert same(first, function(200, 20, rng=5))
    assert same(first, function(200, 20, rng=np.random.default_rng(5)))
    assert same(first, function(200, 20, rng=np.random.SeedSequence(5)))
    assert not same(first, function(200, 20, rng=6))
    generator = np.random.default_rng(5)
    assert not same(function(200, 20, rng=generator), function(200, 20, rng=generator))
    assert not same(function(200, 20), function(200, 20))


@pytest.mark.parametrize(
    ("case_rates", "n_strata", "expected"),
    [
        (0.3, 3, [0.3, 0.3, 0.3]),
        ((0.02, 0.9), 2, [0.02, 0.9]),
        ((0.1, 0.9), 3, [0.1, 0.5, 0.9]),
        ((0.2, 0.4), 1, [0.3]),
        ([0.1, 0.9, 0.2, 0.8], 4, [0.1, 0.9, 0.2, 0.8]),
    ],
)
def test_case_rates(case_rates, n_strata, expected):
    data = simulate_null(100, 2, n_strata, case_rates=case_rates, rng=0)
    assert data.case_rates.tolist() == pytest.approx(expected)


@pytest.mark.statistical
@pytest.mark.parametrize("function", FUNCTIONS)
def test_rates_are_those_that_were_asked_for(function):
    # 3 + 20 binomial tests at 1e-4 each on seeded data.
    density = np.linspace(0.0, 1.0, 20)
    data = function(30_000, 32, 3, density=[*density, *[0.5] * 12], case_rates=(0.1, 0.8), rng=3)
    for k, rate in enumerate((0.1, 0.45, 0.8)):
        here = data.strata == k
        assert binomial_pvalue(data.y[here].sum(), here.sum(), rate) > 1e-4
    free = set(range(20)) - set().union(*data.planted.associated, *data.planted.confounded)
    assert len(free) >= 8
    for j in free:
        assert binomial_pvalue(data.X[:, j].sum(), len(data.X), density[j]) > 1e-4


@pytest.mark.statistical
def test_null_items_are_independent_of_outcome_and_stratum():
    # p-values of 200 independent items, with and without strata, are uniform: two
    # Kolmogorov-Smirnov tests at 1e-3.
    data = simulate_null(4000, 200, 4, density=0.5, case_rates=(0.1, 0.9), rng=11)
    sizes, case_sizes = np.bincount(data.strata), np.bincount(data.strata, weights=data.y)
    support = np.stack([data.X[data.strata == k].sum(axis=0) for k in range(4)], axis=1)
    carrier_cases = data.X[data.y == 1].sum(axis=0)
    inside, ignored = [], []
    for x, a in zip(support.tolist(), carrier_cases.tolist(), strict=True):
        margins = (tuple(x), a, tuple(sizes.tolist()), tuple(map(int, case_sizes)))
        inside.append(naive.asymptotic_pvalue(*margins))
        ignored.append(naive.asymptotic_pvalue((sum(x),), a, (len(data.y),), (int(data.y.sum()),)))
    assert stats.kstest(inside, "uniform").pvalue > 1e-3
    assert stats.kstest(ignored, "uniform").pvalue > 1e-3


@pytest.mark.statistical
def test_planted_sets_are_associated_or_confounded_as_claimed():
    # Binomial tests of the carriers' shares at 1e-4 each on seeded data.
    data = simulate_planted(
        20_000, 30, 4, n_associated=2, n_confounded=2, carrier_rates=(0.1, 0.4), rng=7
    )
    sets = data.planted.associated + data.planted.confounded
    assert len(set().union(*sets)) == 16
    assert all(list(planted) == sorted(planted) for planted in sets)
    for planted in data.planted.associated:
        carriers = data.X[:, planted].all(axis=1)
        for k in range(4):
            for label, rate in ((0, 0.1), (1, 0.4)):
                here = (data.strata == k) & (data.y == label)
                assert binomial_pvalue(carriers[here].sum(), here.sum(), rate) > 1e-4
    for planted in data.planted.confounded:
        carriers = data.X[:, planted].all(axis=1)
        for k, rate in enumerate((0.1, 0.2, 0.3, 0.4)):
            for label in (0, 1):
                here = (data.strata == k) & (data.y == label)
                assert binomial_pvalue(carriers[here].sum(), here.sum(), rate) > 1e-4
        # Seen without the strata they are associated all the same.
        table = [[(carriers & (data.y == v)).sum() for v in (1, 0)], np.bincount(data.y)[::-1]]
        assert stats.fisher_exact(table).pvalue < 1e-6


def test_the_miner_s_twin_finds_the_associated_set_only():
    data = simulate_planted(
        300, 9, 2, density=0.3, case_rates=(0.2, 0.8), pattern_length=3, n_confounded=1, rng=2,
        carrier_rates=(0.05, 0.6),
    )  # fmt: skip
    found = naive.mine(data.X, data.y, data.strata)["significant"]
    closed = {h["closed"] for h in found}
    associated, confounded = data.planted.associated[0], data.planted.confounded[0]
    assert associated in closed
    assert all(set(items) & set(associated) for items in closed)
    ignored = naive.mine(data.X, data.y)["significant"]
    assert confounded in {h["closed"] for h in ignored}


def test_one_stratum():
    data = simulate_planted(500, 12, 1, n_confounded=1, carrier_rates=(0.0, 1.0), rng=0)
    assert set(data.strata) == {0}
    assert not data.X[:, data.planted.confounded[0]].all(axis=1).any()
    carriers = data.X[:, data.planted.associated[0]].all(axis=1)
    np.testing.assert_array_equal(carriers, data.y == 1)


def test_frame():
    data = simulate_planted(50, 12, 2, n_confounded=1, rng=0)
    frame = data.to_frame()
    assert list(frame.columns) == [*data.item_names, "y", "stratum"]
    assert data.item_names[:2] == ("item_00", "item_01")
    np.testing.assert_array_equal(frame[list(data.item_names)].to_numpy(), data.X)
    np.testing.assert_array_equal(frame["y"].to_numpy(), data.y)
    np.testing.assert_array_equal(frame["stratum"].to_numpy(), data.strata)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"n_rows": 0}, InputError, "n_rows=0"),
        ({"n_rows": 10.0}, InputTypeError, "n_rows=10.0"),
        ({"n_items": True}, InputTypeError, "n_items=True"),
        ({"n_strata": 0}, InputError, "n_strata=0"),
        ({"n_rows": 3, "n_strata": 4}, InputError, "n_strata=4 is more than n_rows=3"),
        ({"density": 1.5}, InputError, "density=1.5"),
        ({"density": "dense"}, InputTypeError, "density='dense'"),
        ({"density": [0.1, 0.2]}, InputError, "density has 2 entries for 100 items"),
        ({"case_rates": (0.5, float("nan"))}, InputError, "case_rates"),
        ({"case_rates": (0.1, 0.2, 0.3)}, InputError, "case_rates has 3 entries for 4 strata"),
        ({"case_rates": [[0.1], [0.2]]}, InputError, "case_rates"),
    ],
)
def test_errors(function, arguments, error, match):
    with pytest.raises(error, match=match):
        function(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"n_items": 11}, InputError, "3 planted sets of 4 items need 12 of n_items=11"),
        ({"pattern_length": 0}, InputError, "pattern_length=0"),
        ({"n_associated": -1}, InputError, "n_associated=-1"),
        ({"n_confounded": 1.5}, InputTypeError, "n_confounded=1.5"),
        ({"carrier_rates": (0.5, 0.1)}, InputError, "low <= high"),
        ({"carrier_rates": 0.5}, InputError, r"\(low, high\)"),
        ({"carrier_rates": (0.5, 1.1)}, InputError, "carrier_rates"),
    ],
)
def test_errors_of_planting(arguments, error, match):
    with pytest.raises(error, match=match):
        simulate_planted(**arguments)
