"""Evidence: one scale for all tests, its tables, and the bound by the number of rows."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sigmine._jit import JIT_ENABLED
from sigmine.association.evidence import (
    build_tables,
    evidence_of_log_pvalue,
    log_pvalue_of_evidence,
    minimum_evidences,
    root_of_log_pvalue,
)
from sigmine.association.scores import (
    ASYMPTOTIC,
    DEFICIT,
    DOWN,
    DOWN_BOUND,
    DOWN_CORNER,
    EXACT,
    EXCESS,
    HIGHEST,
    KIND,
    LOWEST,
    MEAN,
    N_COLUMNS,
    SIDE,
    UP,
    UP_BOUND,
    UP_CORNER,
    VARIANCE,
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


# ---------------------------------------------------------------------------------------------
# The tables
# ---------------------------------------------------------------------------------------------


def lines_of(tables, sizes):
    """Yield (stratum, x, line of parts, line of corners or None), in the order of the tables."""
    parts = tables.parts.reshape(-1, N_COLUMNS)
    corners = tables.corners.reshape(-1, N_COLUMNS)
    for k, n in enumerate(sizes):
        for x in range(n + 1):
            line = int(tables.offset[k]) + x
            yield k, x, parts[line], corners[line] if len(corners) == len(parts) else None
    assert len(parts) == sum(n + 1 for n in sizes)
    assert tables.offset[0] == 0


def test_a_table_has_72_bytes_a_row_and_corners_where_they_are_needed():
    n, n1 = [30, 20], [10, 15]
    exact, asymptotic = (
        build_tables(n, n1, SearchSettings(method=method)) for method in ("exact", "asymptotic")
    )
    assert exact.parts.nbytes == asymptotic.parts.nbytes == 64 * (30 + 20 + 2)
    assert asymptotic.corners.shape == asymptotic.parts.shape
    assert exact.corners.shape == (N_COLUMNS,)
    assert exact.ceilings.shape == asymptotic.ceilings.shape == (30 + 20 + 2,)
    assert exact.offset.tolist() == [0, 31]
    for table in (*exact, *asymptotic):
        assert np.ndim(table) == 0 or table.flags.c_contiguous


@every_setting
@given(strategies.margins())
def test_columns_that_every_test_has(setting, margins):
    n, n1 = margins
    variance = setting[3]
    tables = build_tables(n, n1, as_settings(setting))
    for k, x, part, _ in lines_of(tables, n):
        deviation, spread = naive.cmh_parts((x,), 0, n[k : k + 1], n1[k : k + 1], variance)
        totals = naive.attainable((x,), n[k : k + 1], n1[k : k + 1])
        assert part[MEAN] == pytest.approx(float(-deviation), rel=1e-12)
        assert part[VARIANCE] == pytest.approx(float(spread), rel=1e-12)
        assert (part[LOWEST], part[HIGHEST]) == (totals[0], totals[-1])
    choice = tables.choice.tolist()
    assert choice[KIND] == (EXACT if setting[0] == "exact" else ASYMPTOTIC)
    assert choice[EXCESS] == (setting[1] != "less")
    assert choice[DEFICIT] == (setting[1] != "greater")
    assert len(choice) == 4
    assert 0 <= choice[SIDE] < 4


@given(strategies.margins())
def test_columns_of_the_exact_test(margins):
    # -log P(A = largest), -log P(A = smallest), and the largest of each over x' <= x.
    n, n1 = margins
    tables = build_tables(n, n1, SearchSettings())

    def surprise(k, x, side):
        counts = naive.null_counts((x,), (n[k],), (n1[k],))
        return naive.log_fraction(Fraction(sum(counts), counts[side]))

    for k, x, part, _ in lines_of(tables, n):
        for column, bound, side in ((UP, UP_BOUND, -1), (DOWN, DOWN_BOUND, 0)):
            assert part[column] == pytest.approx(surprise(k, x, side), rel=1e-12, abs=1e-12)
            largest = max(surprise(k, smaller, side) for smaller in range(x + 1))
            assert part[bound] == pytest.approx(largest, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("variance", ["mantel-haenszel", "cochran"])
@given(strategies.margins())
def test_columns_of_the_asymptotic_test(variance, margins):
    # f^2 / v is the largest statistic over x' <= x of a stratum alone, from that side.
    n, n1 = margins
    tables = build_tables(n, n1, SearchSettings(method="asymptotic", variance=variance))

    def reach(k, x, side):
        """(distance from the mean, variance) at the end of the range."""
        end = naive.attainable((x,), (n[k],), (n1[k],))[side]
        deviation, spread = naive.cmh_parts((x,), end, (n[k],), (n1[k],), variance)
        return abs(deviation), spread

    for k, x, part, corner in lines_of(tables, n):
        for column, bound, first, side in (
            (UP, UP_BOUND, UP_CORNER, -1),
            (DOWN, DOWN_BOUND, DOWN_CORNER, 0),
        ):
            assert part[column] == pytest.approx(float(reach(k, x, side)[0]), rel=1e-12, abs=1e-12)
            every = [reach(k, smaller, side) for smaller in range(x + 1)]
            largest = max((f * f / v for f, v in every if v), default=0)
            assert part[bound] == pytest.approx(float(largest), rel=1e-12, abs=1e-12)
            f, v, ratio = corner[first : first + 3]
            if largest:
                assert f * f / v == pytest.approx(float(largest), rel=1e-12)
                assert ratio == pytest.approx(v / f, rel=1e-12)
            else:
                assert f == v == ratio == 0.0


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
        limit = evidence_limit(tables, n)
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
    limit = evidence_limit(tables, np.array([n]))
    found = minimum_evidences(np.arange(7)[:, None], tables)
    if settings.method == "exact" and settings.alternative == "two-sided":
        doubled = math.log(2) if settings.two_sided == "central" else 0.0
        np.testing.assert_allclose(found[1:], np.maximum(limit[1:7] - doubled, 0.0), atol=1e-12)
    else:
        np.testing.assert_allclose(found, limit[:7], rtol=1e-12)


def test_the_limit_takes_equal_strata_as_one():
    # 500 strata of three kinds: the same as of the three, but for the number of rows.
    n, n1 = np.array([2, 7, 12]), np.array([1, 3, 12])
    for method in ("exact", "asymptotic"):
        setting = SearchSettings(method=method)
        few = evidence_limit(build_tables(n, n1, setting), n)
        times = np.tile(np.arange(3), 167)[:500]
        many = evidence_limit(build_tables(n[times], n1[times], setting), n[times])
        assert few[1] > 0
        np.testing.assert_allclose(many[:8], few[:8], rtol=1e-12)
        assert many.shape == (n[times].sum() + 1,)
