"""Evidence: one scale for all tests, its thresholds, and the bound by the number of rows."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sigmine._jit import JIT_ENABLED
from sigmine.association import cmh, cmh_exact
from sigmine.association.evidence import (
    build_tables,
    evidence_of_log_pvalue,
    log_pvalue_of_evidence,
    may_be_below,
    minimum_evidences,
    root_of_log_pvalue,
)
from sigmine.search.prepare import evidence_limit
from sigmine.settings import SearchSettings
from tests import naive, strategies


def as_settings(setting):
    method, alternative, two_sided, variance = setting
    return SearchSettings(
        method=method, alternative=alternative, two_sided=two_sided, variance=variance
    )


def setting_id(setting):
    return "-".join(setting)


every_setting = pytest.mark.parametrize("setting", strategies.METHOD_SETTINGS, ids=setting_id)


@every_setting
@given(logp=st.floats(-1e6, 0.0))
def test_log_pvalue_and_evidence_are_inverse(setting, logp):
    settings = as_settings(setting)
    evidence = float(evidence_of_log_pvalue(logp, settings))
    assert evidence >= 0
    back = float(log_pvalue_of_evidence(evidence, settings))
    one_sided = settings.method == "asymptotic" and settings.alternative != "two-sided"
    if one_sided and logp > math.log(0.5):  # margins never attain these
        assert evidence == 0.0
    elif logp < -1e-12:
        assert back == pytest.approx(logp, rel=1e-9)
    else:
        assert back == pytest.approx(0.0, abs=1e-10)


@every_setting
def test_evidence_grows_as_the_pvalue_falls(setting):
    settings = as_settings(setting)
    evidence = np.concatenate([np.linspace(0.0, 5.0, 2001), np.geomspace(5.0, 1e6, 2000)])
    logp = log_pvalue_of_evidence(evidence, settings)
    assert logp[0] == 0.0
    assert (np.diff(logp) <= 0).all()
    back = evidence_of_log_pvalue(np.linspace(-50.0, 0.0, 2001), settings)
    assert (np.diff(back) <= 0).all()
    assert back[-1] == 0.0


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_root_of_a_pvalue(alternative):
    sides = 2 if alternative == "two-sided" else 1
    for p in (1e-300, 1e-20, 1e-3, 0.05, 0.3, 0.5, 0.9, 0.999999, 1 - 1e-12):
        found = float(root_of_log_pvalue(math.log(p), alternative))
        assert found == pytest.approx(stats.norm.isf(p / sides), rel=1e-8, abs=1e-12)
    assert root_of_log_pvalue(-1e6, alternative) == pytest.approx(
        math.sqrt(2e6), rel=1e-4
    )  # log p ~ -z^2 / 2


@every_setting
@given(strategies.supports(max_size=8))
def test_minimum_evidence_is_that_of_the_twins_minimum(setting, margins):
    x, n, n1 = margins
    settings = as_settings(setting)
    tables = build_tables(n, n1, settings)
    evidence = minimum_evidences(np.array([x]), tables)
    expected = naive.minimum_log_pvalue(x, n, n1, setting)
    assert log_pvalue_of_evidence(evidence, settings)[0] == pytest.approx(
        expected, rel=1e-9, abs=1e-9
    )
    assert minimum_evidences(np.array([x]), tables, bound=True)[0] >= evidence[0] - 1e-9


def test_the_asymptotic_test_has_no_tables_of_extremes():
    n, n1 = [30, 20], [10, 15]
    assert build_tables(n, n1, SearchSettings(method="asymptotic")).extremes.size == 2
    assert build_tables(n, n1, SearchSettings()).extremes.shape == (2, 52)


# ---------------------------------------------------------------------------------------------
# By the number of rows alone
# ---------------------------------------------------------------------------------------------


def draw_strata(rng, largest_grid):
    while True:
        k = int(rng.integers(1, 5))
        n = rng.integers(1, 16, k)
        if np.prod(n + 1) <= largest_grid:
            return n, np.array([rng.integers(0, v + 1) for v in n])


@every_setting
def test_no_row_set_exceeds_the_limit_of_its_size(setting):
    rng = np.random.default_rng(13)
    settings = as_settings(setting)
    for _ in range(40 if JIT_ENABLED else 8):
        n, n1 = draw_strata(rng, 4000 if JIT_ENABLED else 300)
        tables = build_tables(n, n1, settings)
        limit = evidence_limit(tables, int(n.sum()))
        assert limit.shape == (n.sum() + 1,)
        assert limit[0] == 0.0
        assert (np.diff(limit) >= 0).all()
        x = np.array(list(itertools.product(*(range(n_k + 1) for n_k in n))))
        slack = 1e-12 * np.maximum(1.0, limit)
        for bound in (False, True):
            evidence = minimum_evidences(x, tables, bound=bound)
            assert (evidence <= (limit + slack)[x.sum(axis=1)]).all()


@every_setting
def test_the_limit_is_reached_in_one_stratum(setting):
    # With one stratum the bound over x' <= x is the limit itself, up to the doubling of a tail.
    settings = as_settings(setting)
    n, n1 = 20, 6 if settings.alternative != "less" else 14
    tables = build_tables([n], [n1], settings)
    limit = evidence_limit(tables, n)
    found = minimum_evidences(np.arange(7)[:, None], tables)
    if settings.method == "exact" and settings.alternative == "two-sided":
        doubled = math.log(2) if settings.two_sided == "central" else 0.0
        np.testing.assert_allclose(found[1:], np.maximum(limit[1:7] - doubled, 0.0), atol=1e-12)
    else:
        np.testing.assert_allclose(found, limit[:7], rtol=1e-12)


# ---------------------------------------------------------------------------------------------
# Against a threshold
# ---------------------------------------------------------------------------------------------


@every_setting
def test_nothing_below_a_threshold_is_missed(setting):
    rng = np.random.default_rng(29)
    method, alternative, two_sided, variance = setting
    settings = as_settings(setting)
    extra = 0
    for _ in range(25 if JIT_ENABLED else 6):
        k = int(rng.integers(1, 5))
        n = rng.integers(2, 60, k)
        n1 = np.array([rng.integers(0, v + 1) for v in n])
        x = np.array([rng.integers(0, n + 1) for _ in range(40)])
        low = np.maximum(0, x - (n - n1)).sum(axis=1)
        high = np.minimum(x, n1).sum(axis=1)
        a = rng.integers(low, high + 1)
        if method == "exact":
            logp = cmh_exact.log_pvalue(x, a, n, n1, alternative=alternative, two_sided=two_sided)
        else:
            logp = cmh.log_pvalue(x, a, n, n1, alternative=alternative, variance=variance)
        tables = build_tables(n, n1, settings)
        for threshold in (*np.unique(logp)[:8], math.log(0.05), math.log(1e-4), -1e-9):
            kept = may_be_below(x, a, tables, float(threshold), settings)
            below = logp <= threshold
            informative = logp < 0 if method == "asymptotic" else np.ones(40, dtype=bool)
            assert (kept | ~below | ~informative).all()
            if two_sided == "central":  # and nothing clearly above it is kept
                assert not (kept & (logp > threshold + 1e-5) & (logp > -30)).any()
            extra += int((kept & ~below).sum())
    assert extra < 2_000
