"""Effect sizes: printed results of R, statsmodels, definitions, degenerate tables, invariances."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from sigmine.association import effects
from sigmine.association._arrays import fitted_cell
from sigmine.exceptions import InputError, InputTypeError
from tests import naive, strategies

# Printed by R (mantelhaen.test; BreslowDayTest of DescTools) in the docstrings and classes
# TestStratified1, 2 and 3 of statsmodels/stats/tests/test_contingency_tables.py. Breslow-Day is
# (without, with) Tarone's adjustment; the odds ratio and interval do not depend on it.
PRINTED_BY_R = {
    "TestStratified1": {
        "tables": [
            [[0, 0], [6, 5]],
            [[3, 0], [3, 6]],
            [[6, 2], [0, 4]],
            [[5, 6], [1, 0]],
            [[2, 5], [0, 0]],
        ],
        "odds_ratio": 7.0,
        "interval": (1.026713, 47.725133),
    },
    "TestStratified2": {
        "tables": [
            [[20, 14], [10, 24]],
            [[15, 12], [3, 15]],
            [[3, 2], [3, 2]],
            [[12, 3], [7, 5]],
            [[1, 0], [3, 2]],
        ],
        "odds_ratio": 3.5912,
        "interval": (1.781135, 7.240633),
        "breslow_day": ((1.8438, 0.7645), (1.8436, 0.7645)),
    },
    "TestStratified3": {
        "tables": [
            [[313, 512], [19, 89]],
            [[207, 353], [8, 17]],
            [[205, 120], [391, 202]],
            [[278, 139], [244, 131]],
            [[138, 53], [299, 94]],
            [[351, 22], [317, 24]],
        ],
        "odds_ratio": 1.101879,
        "interval": (0.9402012, 1.2913602),
        "breslow_day": ((18.83297, 0.002064786), (18.83297, 0.002064786)),
    },
}


@pytest.mark.parametrize("name", PRINTED_BY_R)
def test_values_printed_by_r(name):
    case = PRINTED_BY_R[name]
    assert effects.pooled_odds_ratio(case["tables"]) == pytest.approx(case["odds_ratio"], rel=1e-4)
    interval = effects.pooled_odds_ratio_interval(case["tables"])
    np.testing.assert_allclose(interval, case["interval"], rtol=1e-6)
    for tarone, (statistic, pvalue) in enumerate(case.get("breslow_day", ())):
        result = effects.breslow_day(case["tables"], tarone=bool(tarone))
        assert result.statistic == pytest.approx(statistic, rel=1e-4)
        assert result.pvalue == pytest.approx(pvalue, rel=1e-4)
        assert result.dof == len(case["tables"]) - 1


def test_equal_to_statsmodels_on_random_tables():
    from statsmodels.stats.contingency_tables import StratifiedTable, Table2x2

    rng = np.random.default_rng(7)
    for _ in range(40):
        tables = rng.integers(1, 30, (int(rng.integers(2, 7)), 2, 2))
        other = StratifiedTable([table.astype(float) for table in tables])
        level = float(rng.uniform(0.5, 0.999))
        assert effects.pooled_odds_ratio(tables) == pytest.approx(other.oddsratio_pooled, rel=1e-12)
        np.testing.assert_allclose(
            effects.pooled_odds_ratio_interval(tables, level),
            other.oddsratio_pooled_confint(1 - level),
            rtol=1e-10,
        )
        for tarone in (False, True):
            expected = other.test_equal_odds(adjust=tarone)
            ours = effects.breslow_day(tables, tarone=tarone)
            assert ours.statistic == pytest.approx(expected.statistic, rel=1e-8, abs=1e-10)
            assert ours.pvalue == pytest.approx(expected.pvalue, rel=1e-8)
        ratios = effects.stratum_odds_ratios(tables, level)
        for k, table in enumerate(tables):
            single = Table2x2(table.astype(float))
            low, high = single.oddsratio_confint(1 - level)
            np.testing.assert_allclose(
                [part[k] for part in ratios], [single.oddsratio, low, high], rtol=1e-10
            )


@settings(deadline=None)
@given(strategies.tables(max_count=6))
def test_pooled_odds_ratio_equals_the_twin(tables):
    expected = naive.mantel_haenszel_odds_ratio(tables.tolist())
    np.testing.assert_allclose(effects.pooled_odds_ratio(tables), expected, rtol=1e-12)


INF, NAN = float("inf"), float("nan")
DEGENERATE = {
    "no control among carriers": ([[[3, 0], [1, 3]]], INF),
    "no case among carriers": ([[[0, 3], [1, 3]]], 0.0),
    "perfect": ([[[3, 0], [0, 3]]], INF),
    "perfect, reversed": ([[[0, 3], [3, 0]]], 0.0),
    "no carriers": ([[[0, 0], [2, 3]]], NAN),
    "only carriers": ([[[2, 3], [0, 0]]], NAN),
    "no cases": ([[[0, 2], [0, 3]]], NAN),
    "no rows": ([[[0, 0], [0, 0]]], NAN),
    "nothing in any stratum": ([[[0, 0], [2, 3]], [[0, 2], [0, 3]], [[0, 0], [0, 0]]], NAN),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_tables(name):
    tables, odds = DEGENERATE[name]
    np.testing.assert_equal(float(effects.pooled_odds_ratio(tables)), odds)
    low, high = effects.pooled_odds_ratio_interval(tables)
    assert np.isnan(low)
    assert np.isnan(high)
    for repeated in (tables, tables * 3):
        result = effects.breslow_day(repeated)
        assert np.isnan(result.statistic)
        assert np.isnan(result.pvalue)


def test_one_informative_stratum_has_nothing_to_compare():
    result = effects.breslow_day([[[3, 2], [1, 4]], [[0, 0], [5, 5]]])
    assert result.dof == 0
    assert np.isnan(result.statistic)
    assert np.isnan(result.pvalue)


def test_uninformative_strata_change_nothing():
    tables = np.array([[[5, 2], [3, 9]], [[4, 4], [1, 7]]])
    extra = np.array([[[0, 0], [2, 3]], [[4, 3], [0, 0]], [[0, 3], [0, 5]], [[0, 0], [0, 0]]])
    both = np.concatenate([extra[:2], tables, extra[2:]])
    assert effects.is_informative(both).tolist() == [False, False, True, True, False, False]
    assert effects.pooled_odds_ratio(both) == effects.pooled_odds_ratio(tables)
    assert effects.pooled_odds_ratio_interval(both) == effects.pooled_odds_ratio_interval(tables)
    for tarone in (False, True):
        ours = effects.breslow_day(both, tarone)
        np.testing.assert_allclose(ours, effects.breslow_day(tables, tarone), rtol=1e-12)
    ratios = np.array(effects.stratum_odds_ratios(both))
    assert np.isnan(ratios[:, [0, 1, 4, 5]]).all()
    np.testing.assert_array_equal(ratios[:, 2:4], effects.stratum_odds_ratios(tables))


def test_one_stratum_is_woolf():
    tables = np.array([[[12, 5], [7, 11]]])
    low, high = effects.pooled_odds_ratio_interval(tables)
    ratio, stratum_low, stratum_high = effects.stratum_odds_ratios(tables)
    assert effects.pooled_odds_ratio(tables) == pytest.approx(132 / 35)
    np.testing.assert_allclose([ratio[0], stratum_low[0], stratum_high[0]], [132 / 35, low, high])


def test_half_is_added_where_a_cell_is_empty():
    tables = [[[2, 0], [1, 3]], [[2, 1], [1, 3]], [[0, 0], [1, 3]]]
    assert effects.has_empty_cell(tables).tolist() == [True, False, False]
    ratio, low, high = effects.stratum_odds_ratios(tables)
    assert ratio[0] == pytest.approx(2.5 * 3.5 / (0.5 * 1.5))
    width = stats.norm.isf(0.025) * np.sqrt(1 / 2.5 + 1 / 0.5 + 1 / 1.5 + 1 / 3.5)
    np.testing.assert_allclose([low[0], high[0]], ratio[0] * np.exp([-width, width]))
    assert ratio[1] == pytest.approx(6.0)
    assert np.isnan([ratio[2], low[2], high[2]]).all()


@settings(deadline=None)
@given(strategies.tables(max_count=40, min_count=1), st.floats(-20, 20))
def test_fitted_cells_have_the_margins_and_the_odds_ratio(tables, log_odds):
    a, b, c, d, n = (cell.astype(float) for cell in effects._cells(tables))
    odds = np.full(a.shape, np.exp(log_odds))
    cells = [
        fitted_cell(a + b, a + c, n, odds),
        fitted_cell(a + b, b + d, n, 1 / odds),
        fitted_cell(c + d, a + c, n, 1 / odds),
        fitted_cell(c + d, b + d, n, odds),
    ]
    assert min(cell.min() for cell in cells) > 0
    np.testing.assert_allclose(cells[0] + cells[1], a + b, rtol=1e-12)
    np.testing.assert_allclose(cells[0] + cells[2], a + c, rtol=1e-12)
    np.testing.assert_allclose(cells[2] + cells[3], c + d, rtol=1e-12)
    np.testing.assert_allclose(cells[0] * cells[3] / (cells[1] * cells[2]), odds, rtol=1e-9)


@settings(deadline=None)
@given(strategies.tables(max_count=30), st.randoms(use_true_random=False))
def test_invariances(tables, random):
    odds = effects.pooled_odds_ratio(tables)
    low, high = effects.pooled_odds_ratio_interval(tables)
    homogeneity = effects.breslow_day(tables)

    order = list(range(len(tables)))
    random.shuffle(order)
    shuffled = tables[order]
    np.testing.assert_allclose(effects.pooled_odds_ratio(shuffled), odds, rtol=1e-12)
    np.testing.assert_allclose(effects.breslow_day(shuffled), homogeneity, rtol=1e-6, atol=1e-9)

    # Cases and controls swapped, or carriers and others: the reciprocal.
    for swapped in (tables[..., ::-1], tables[..., ::-1, :]):
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(effects.pooled_odds_ratio(swapped), 1 / odds, rtol=1e-12)
            limits = effects.pooled_odds_ratio_interval(swapped)
            np.testing.assert_allclose(limits, (1 / high, 1 / low), rtol=1e-9)
        np.testing.assert_allclose(effects.breslow_day(swapped), homogeneity, rtol=1e-6, atol=1e-9)

    transposed = np.swapaxes(tables, -1, -2)
    np.testing.assert_allclose(effects.pooled_odds_ratio(transposed), odds, rtol=1e-12)
    if np.isfinite(low):
        assert low < odds < high
        narrow = effects.pooled_odds_ratio_interval(tables, 0.5)
        assert low < narrow[0] < odds < narrow[1] < high


@settings(deadline=None)
@given(strategies.tables(max_strata=4, max_count=9))
def test_leading_axes_are_independent(tables):
    batch = np.stack([tables, tables[::-1], tables * 2, tables * 0]).reshape(2, 2, -1, 2, 2)
    pooled = effects.pooled_odds_ratio(batch)
    low, high = effects.pooled_odds_ratio_interval(batch)
    homogeneity = effects.breslow_day(batch)
    ratios = effects.stratum_odds_ratios(batch)
    assert pooled.shape == low.shape == high.shape == (2, 2)
    assert all(part.shape == (2, 2) for part in homogeneity)
    assert all(part.shape == batch.shape[:3] for part in ratios)
    for index in np.ndindex(2, 2):
        np.testing.assert_equal(pooled[index], effects.pooled_odds_ratio(batch[index]))
        expected = effects.pooled_odds_ratio_interval(batch[index])
        np.testing.assert_equal((low[index], high[index]), expected)
        expected = effects.breslow_day(batch[index])
        np.testing.assert_equal([part[index] for part in homogeneity], list(expected))
        expected = effects.stratum_odds_ratios(batch[index])
        np.testing.assert_equal([part[index] for part in ratios], list(expected))


def test_no_patterns_give_empty_results():
    none = np.empty((0, 3, 2, 2), dtype=np.int64)
    assert effects.pooled_odds_ratio(none).shape == (0,)
    assert all(part.shape == (0,) for part in effects.pooled_odds_ratio_interval(none))
    assert all(part.shape == (0,) for part in effects.breslow_day(none))
    assert all(part.shape == (0, 3) for part in effects.stratum_odds_ratios(none))


def test_counts_beyond_the_products_of_int64():
    tables = np.array([[[3, 1], [1, 3]], [[2, 1], [1, 3]]], dtype=np.int64)
    large = tables * 10**10
    assert effects.pooled_odds_ratio(large) == pytest.approx(effects.pooled_odds_ratio(tables))
    ours, small = effects.breslow_day(large), effects.breslow_day(tables)
    assert ours.statistic == pytest.approx(small.statistic * 1e10, rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(strategies.tables(max_strata=4, max_count=20, min_count=1), st.integers(2, 50))
def test_statistic_grows_with_the_counts(tables, factor):
    once, many = effects.breslow_day(tables), effects.breslow_day(tables * factor)
    assume(once.dof > 0)
    assert many.statistic == pytest.approx(once.statistic * factor, rel=1e-6, abs=1e-7)


@pytest.mark.statistical
def test_homogeneity_pvalues_are_uniform_under_one_odds_ratio():
    # Kolmogorov-Smirnov at 0.001 on 20,000 seeded draws of four strata with odds ratio 2.
    rng = np.random.default_rng(0)
    n_draws, baseline = 20_000, np.array([0.2, 0.35, 0.5, 0.65])
    odds = baseline / (1 - baseline)
    carrier_cases = rng.binomial(400, 2 * odds / (1 + 2 * odds), (n_draws, 4))
    other_cases = rng.binomial(600, baseline, (n_draws, 4))
    tables = np.stack(
        [
            np.stack([carrier_cases, 400 - carrier_cases], axis=-1),
            np.stack([other_cases, 600 - other_cases], axis=-1),
        ],
        axis=-2,
    )
    assert stats.kstest(effects.breslow_day(tables).pvalue, "uniform").pvalue > 0.001
    low, high = effects.pooled_odds_ratio_interval(tables, 0.9)
    covered = int(((low <= 2) & (high >= 2)).sum())
    assert stats.binomtest(covered, n_draws, 0.9).pvalue > 0.001


@pytest.mark.parametrize(
    ("tables", "error", "match"),
    [
        ([[1, 2], [3, 4]], InputError, r"shape \(2, 2\).*tables\[None\]"),
        (np.zeros((2, 3, 2)), InputError, r"\(2, 3, 2\)"),
        ([[[1, 2], [3, -1]]], InputError, "negative"),
        ([[[1, 2], [3, float("nan")]]], InputError, "missing"),
        ([[["a", 2], [3, 4]]], InputTypeError, "not an array of numbers"),
    ],
)
def test_bad_tables(tables, error, match):
    for function in (
        effects.pooled_odds_ratio,
        effects.pooled_odds_ratio_interval,
        effects.breslow_day,
        effects.stratum_odds_ratios,
        effects.is_informative,
        effects.has_empty_cell,
    ):
        with pytest.raises(error, match=match):
            function(tables)


@pytest.mark.parametrize(
    ("level", "error"), [(0, InputError), (1, InputError), (95, InputError), ("x", InputTypeError)]
)
def test_bad_level(level, error):
    tables = [[[3, 1], [1, 3]]]
    for function in (effects.pooled_odds_ratio_interval, effects.stratum_odds_ratios):
        with pytest.raises(error, match="level="):
            function(tables, level)
