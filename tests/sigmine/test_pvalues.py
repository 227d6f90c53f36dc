"""P-values at the end of a search: exact where they matter, whatever is left out or merged."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine._jit import JIT_ENABLED
from sigmine.association import cmh_exact
from sigmine.bitset import build_bit_table
from sigmine.search import pvalues
from sigmine.search.pvalues import log_pvalue_bound, log_pvalues
from sigmine.settings import SearchSettings
from tests import naive, strategies

every_setting = pytest.mark.parametrize("setting", strategies.METHOD_SETTINGS, ids="-".join)


def as_settings(setting):
    names = ("method", "alternative", "two_sided", "variance")
    return SearchSettings(**dict(zip(names, setting, strict=True)))


def table_of(n, n1):
    """Rows without items, with these strata."""
    codes = np.repeat(np.arange(len(n)), n)
    y = np.concatenate([np.arange(size) < cases for size, cases in zip(n, n1, strict=True)])
    return build_bit_table(np.zeros((len(codes), 0), dtype=bool), y, codes, len(n))


exact_settings = pytest.mark.parametrize(
    "setting", [s for s in strategies.METHOD_SETTINGS if s[0] == "exact"], ids="-".join
)


@exact_settings
@pytest.mark.parametrize("cells", [2**20, 0], ids=["tails", "one probability each"])
@given(observation=strategies.observations(max_size=12))
def test_no_pvalue_is_below_its_bound(setting, cells, observation):
    x, a, n, n1 = observation
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pvalues, "_TABLE_CELLS", cells)
        arguments = np.array([x]), np.array([a]), table_of(n, n1), as_settings(setting)
        bound = log_pvalue_bound(*arguments)
    assert bound.shape == (1,)
    assert bound[0] <= naive.log_pvalue(x, sum(a), n, n1, setting) + 1e-9
    # It is not a bound of just anything: the table itself has this probability.
    probability = Fraction(1)
    for x_k, a_k, n_k, n1_k in zip(x, a, n, n1, strict=True):
        ways = math.comb(n1_k, a_k) * math.comb(n_k - n1_k, x_k - a_k)
        probability *= Fraction(ways, math.comb(n_k, x_k))
    assert bound[0] >= naive.log_fraction(probability) - 1e-9


@exact_settings
@given(observation=strategies.observations(max_strata=1, max_size=30))
def test_in_one_stratum_the_bound_is_the_pvalue(setting, observation):
    x, a, n, n1 = observation
    arguments = np.array([x]), np.array([a]), table_of(n, n1), as_settings(setting)
    bound = log_pvalue_bound(*arguments)[0]
    expected = naive.log_pvalue(x, sum(a), n, n1, setting)
    if setting[2] == "minlike" or (
        setting[1] == "two-sided" and abs(sum(a) - n1[0] * x[0] / n[0]) < 1
    ):  # the other end is not looked at
        assert bound <= expected + 1e-9
    else:
        assert bound == pytest.approx(expected, rel=1e-9, abs=1e-9)


@exact_settings
def test_the_bound_far_out(setting):
    # Far below the smallest double: no bound, but no error either, and nothing is lost.
    n, n1 = [4000, 300], [2000, 40]
    table, settings = table_of(n, n1), as_settings(setting)
    support = np.array([[2000, 30], [1000, 0], [3, 300], [0, 0]])
    for cases in ([[2000, 30], [1000, 0], [3, 40], [0, 0]], [[0, 0], [0, 0], [0, 40], [0, 0]]):
        cases = np.array(cases)
        bound = log_pvalue_bound(support, cases, table, settings)
        expected = cmh_exact.log_pvalue(
            support,
            cases.sum(axis=1),
            n,
            n1,
            alternative=settings.alternative,
            two_sided=settings.two_sided,
        )
        assert (bound <= expected + 1e-9).all()
        found = log_pvalues(support, cases, table, settings, -5.0)
        small = expected <= -5.0
        np.testing.assert_allclose(found[small], expected[small], rtol=1e-12)


@every_setting
@given(observation=strategies.observations(max_size=9), other=st.floats(1e-4, 1.0))
def test_every_pvalue_that_matters(setting, observation, other):
    x, a, n, n1 = observation
    expected = naive.log_pvalue(x, sum(a), n, n1, setting)
    table = table_of(n, n1)
    for threshold in (expected, expected - 0.01, min(0.0, expected + 0.01), math.log(other)):
        found = log_pvalues(
            np.array([x]), np.array([a]), table, as_settings(setting), threshold + 1e-9
        )[0]
        if expected <= threshold:
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
        else:
            assert found == 0.0 or found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def draw_row_sets(rng, n, n1, n_sets):
    support_cases = rng.integers(0, n1 + 1, (n_sets, len(n)))
    return support_cases + rng.integers(0, n - n1 + 1, (n_sets, len(n))), support_cases


@every_setting
@pytest.mark.parametrize("n_strata", [1, 2, 30])
def test_equal_margins_are_merged(setting, n_strata, monkeypatch):
    # With 30 strata the margins do not fit one number, and nothing is merged.
    rng = np.random.default_rng([n_strata, 4])
    n = rng.integers(4, 9, n_strata)
    n1 = rng.integers(1, n)
    table, settings = table_of(n, n1), as_settings(setting)
    n_sets = 3000 if JIT_ENABLED else 300
    support, cases = draw_row_sets(rng, n, n1, n_sets)
    support, cases = support[np.arange(n_sets) % 700], cases[np.arange(n_sets) % 700]
    monkeypatch.setattr(pvalues, "_DEDUPLICATE_FROM", 10**9)
    one_by_one = log_pvalues(support, cases, table, settings, 0.0)
    monkeypatch.setattr(pvalues, "_DEDUPLICATE_FROM", 1)
    sizes = []
    compute = pvalues.cmh_exact.log_pvalue

    def counted(support, *args, **kwargs):
        sizes.append(len(support))
        return compute(support, *args, **kwargs)

    monkeypatch.setattr(pvalues.cmh_exact, "log_pvalue", counted)
    np.testing.assert_array_equal(log_pvalues(support, cases, table, settings, 0.0), one_by_one)
    if settings.method == "exact":
        merged = len(np.unique(np.column_stack([support, cases.sum(axis=1)]), axis=0))
        assert sizes == [merged if n_strata < 30 else n_sets]


@every_setting
def test_no_row_sets(setting):
    nothing = np.empty((0, 2), dtype=np.int64)
    found = log_pvalues(nothing, nothing, table_of([5, 6], [2, 3]), as_settings(setting), -1.0)
    assert found.shape == (0,)
