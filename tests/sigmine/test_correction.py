"""Corrections by name against scipy, statsmodels and the rules that they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sigmine import correction, ranking
from sigmine.correction import CORRECTIONS, adjust, get_correction
from sigmine.exceptions import InputError, InputTypeError
from sigmine.ranking import select
from tests import strategies

STATSMODELS = {"bonferroni": "bonferroni", "holm": "holm", "benjamini-hochberg": "fdr_bh"}


@pytest.mark.parametrize("name", STATSMODELS)
def test_equal_to_statsmodels(name):
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(2)
    rejections = 0
    for _ in range(25):
        pvalues = rng.uniform(size=int(rng.integers(1, 60))) ** 3
        alpha = float(rng.uniform(0.01, 0.4))
        reject, adjusted, _, _ = multipletests(pvalues, alpha, method=STATSMODELS[name])
        np.testing.assert_allclose(adjust(pvalues, name), adjusted, rtol=1e-12)
        mask = select(pvalues, get_correction(name, alpha)).mask
        np.testing.assert_array_equal(mask, reject)
        rejections += int(reject.sum())
    assert rejections > 50


def test_equal_to_scipy():
    rng = np.random.default_rng(3)
    for _ in range(60):
        pvalues = rng.uniform(size=int(rng.integers(1, 60))) ** 2
        expected = stats.false_discovery_control(pvalues, method="bh")
        np.testing.assert_allclose(adjust(pvalues, "bh"), expected, rtol=1e-12)


def test_textbook_example():
    # The fifteen p-values of Benjamini and Hochberg (1995): at 0.05 Bonferroni
    # rejects three and their procedure four.
    pvalues = [
        *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
        *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
    ]
    assert select(pvalues, get_correction("bonferroni")).n_kept == 3
    assert select(pvalues, get_correction("holm")).n_kept == 3
    assert select(pvalues, get_correction("bh")).n_kept == 4


@given(strategies.pvalue_arrays(), st.sampled_from(sorted(STATSMODELS)), st.floats(0.001, 0.9))
def test_adjusted_pvalues_are_the_levels_of_the_rule(pvalues, name, alpha):
    adjusted = adjust(pvalues, name)
    assert ((adjusted >= pvalues) & (adjusted <= 1)).all()
    clear = np.abs(adjusted - alpha) > 1e-6 * alpha  # away from ties with the level
    mask = select(pvalues, get_correction(name, alpha)).mask
    np.testing.assert_array_equal(mask[clear], (adjusted <= alpha)[clear])


@given(strategies.pvalue_arrays(), st.sampled_from(sorted(STATSMODELS)), st.integers(0, 30))
def test_more_tests_than_pvalues_are_pvalues_of_one(pvalues, name, missing):
    padded = adjust(np.append(pvalues, np.ones(missing)), name)[: len(pvalues)]
    np.testing.assert_allclose(adjust(pvalues, name, m=len(pvalues) + missing), padded, rtol=1e-12)


def test_names_give_the_rules():
    assert get_correction("bonferroni", 0.1) == ranking.bonferroni(0.1)
    assert get_correction("bonferroni", 0.1, m=7) == ranking.bonferroni(0.1, 7)
    assert get_correction("holm", 0.1) == ranking.holm(0.1)
    assert get_correction("tarone", 0.1) == ranking.tarone(0.1)
    assert get_correction("benjamini-hochberg", 0.1) == ranking.benjamini_hochberg(0.1)
    assert get_correction("bh", 0.1) == ranking.benjamini_hochberg(0.1)
    minima = np.array([0.1, 0.2])
    rule = get_correction("westfall-young", 0.1, null_minima=minima)
    assert rule == ranking.westfall_young([0.2, 0.1], 0.1)


def test_every_correction_is_described():
    for name, entry in CORRECTIONS.items():
        assert entry.name == name
        assert entry.error_rate in ("FWER", "FDR")
        assert entry.scores == ("minimum_pvalue" if name == "tarone" else "pvalue")
        assert entry.title
        assert entry.assumptions
        assert f'"{name}"' in correction.__doc__
        minima = [0.5] if name == "westfall-young" else None
        assert get_correction(name, null_minima=minima).name.replace("_", "-") == name


def test_no_pvalues():
    for name in STATSMODELS:
        assert adjust([], name).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: get_correction("sidak"),
            InputError,
            "name='sidak' is not known; choose one of bonf",
        ),
        (lambda: get_correction(None), InputError, "name=None is not known"),
        (lambda: get_correction("holm", 5), InputError, "alpha=5"),
        (lambda: get_correction("bh", 0), InputError, "q=0"),
        (lambda: get_correction("holm", m=5), InputError, "m=5"),
        (lambda: get_correction("westfall-young"), InputError, "needs null_minima"),
        (lambda: get_correction("holm", null_minima=[0.1]), InputError, "takes no null_minima"),
        (lambda: adjust([0.1], "tarone"), InputError, "method='tarone' is not known"),
        (lambda: adjust([0.1, float("nan")]), InputError, "nan at index 1"),
        (lambda: adjust([0.1, 1.5]), InputError, "1.5 at index 1"),
        (lambda: adjust([-0.1]), InputError, "-0.1 at index 0"),
        (lambda: adjust([[0.1]]), InputError, r"shape \(1, 1\)"),
        (lambda: adjust(["p"]), InputTypeError, "must be numbers"),
        (lambda: adjust([0.1, 0.2], m=1), InputError, "m=1 must be at least 2"),
        (lambda: adjust([0.1], m=1.5), InputTypeError, "m=1.5"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
