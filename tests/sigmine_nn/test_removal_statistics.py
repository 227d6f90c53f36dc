"""Tests against a margin: against slow twins, scipy, statsmodels, and at the border of the null."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn.noninferiority import (
    exact_margin_bound,
    exact_margin_pvalue,
    fixed_sequence,
    noninferiority,
    sign_flip_pvalues,
    t_pvalues,
)
from sigmine_nn.risk_control import choose_sparsity, hoeffding_bentkus_pvalue
from tests import naive_significance as naive


def differences(n, n_units, seed=0, scale=0.1):
    return np.random.default_rng(seed).normal(size=(n, n_units)) * scale


def most_rejections(n_runs, level=0.05):
    """Rejections that n_runs tests of true hypotheses exceed with probability 0.001."""
    return stats.binom.isf(0.001, n_runs, level)


class TestPvalues:
    def test_t_as_scipy(self):
        values = differences(40, 5)
        wanted = stats.ttest_1samp(values, 0.02, alternative="less")
        np.testing.assert_allclose(t_pvalues(values, 0.02), wanted.pvalue)
        found = noninferiority(values, 0.02, level=0.1)
        interval = wanted.confidence_interval(0.9)
        np.testing.assert_allclose(found.ci_high, interval.high)
        np.testing.assert_allclose(found.increase, values.mean(axis=0))

    def test_the_bound_is_the_test_turned_around(self):
        values = differences(30, 4)
        found = noninferiority(values, 0.02, level=0.05)
        for column in range(4):
            at_bound = t_pvalues(values[:, [column]], found.ci_high[column])
            assert at_bound == pytest.approx(0.05)

    @pytest.mark.parametrize(("value", "wanted"), [(0.0, 2.0**-12), (0.5, 1.0), (0.7, 1.0)])
    def test_columns_without_variation(self, value, wanted):
        values = np.full((12, 1), value)
        assert t_pvalues(values, 0.5) == wanted
        assert sign_flip_pvalues(values, 0.5) == wanted
        found = noninferiority(values, 0.5)
        assert found.standard_error == 0
        assert found.ci_high == value

    @given(st.integers(2, 8), st.integers(0, 50), st.sampled_from([-0.05, 0.0, 0.05]))
    def test_sign_flips_as_the_twin(self, n, seed, margin):
        values = differences(n, 3, seed).round(2)  # ties
        found = sign_flip_pvalues(values, margin)
        wanted = [naive.sign_flip(column, margin) for column in values.T.tolist()]
        np.testing.assert_allclose(found, wanted)

    def test_random_flips_are_near_all_flips(self):
        values = differences(12, 4, seed=3)
        every = sign_flip_pvalues(values, 0.02, n_flips=4096)
        some = sign_flip_pvalues(values, 0.02, n_flips=4000)
        # Standard error at most 0.008.
        np.testing.assert_allclose(some, every, atol=0.035)
        assert (some > 0).all()
        assert (sign_flip_pvalues(values, 5.0, n_flips=99) == 0.01).all()

    @pytest.mark.parametrize(("worse", "better"), [(0, 0), (1, 3), (2, 2), (4, 1), (0, 5)])
    @pytest.mark.parametrize("margin", [0.1, 0.25, -0.05])
    def test_exact_margin_as_the_twin(self, worse, better, margin):
        # The twin enumerates all tables at 41 shares, wherever they are; ours looks only where
        # shares are likely, and between them the largest is the same up to the grids.
        found = exact_margin_pvalue(worse, better, 20, margin)
        if worse - better >= 20 * margin:
            assert found == 1
            return
        tail = 5e-7
        d = worse + better
        low = stats.beta.ppf(tail, d, 21 - d) if d else 0.0
        high = stats.beta.isf(tail, d + 1, 20 - d)
        shares = np.linspace(max(low, abs(margin)), max(high, abs(margin)), 41)
        wanted = max(naive.margin_tail(worse, better, 20, margin, share) for share in shares)
        assert found == pytest.approx(min(1.0, wanted + 1e-6), rel=0.01)

    def test_exact_at_margin_0_is_mcnemar(self):
        assert exact_margin_pvalue(3, 9, 50, 0.0) == pytest.approx(
            stats.binomtest(3, 12, alternative="less").pvalue
        )

    def test_exact_beyond_every_margin(self):
        assert exact_margin_pvalue(1, 1, 10, -1.0) == 1
        assert exact_margin_pvalue(1, 1, 10, 1.1) == pytest.approx(1e-6)

    @given(st.integers(0, 10), st.integers(0, 10), st.integers(20, 200))
    def test_exact_bound_turns_the_test_around(self, worse, better, n):
        bound = exact_margin_bound(worse, better, n, 0.05)
        assert (worse - better) / n < bound <= 1
        assert exact_margin_pvalue(worse, better, n, bound) <= 0.05 + 1e-9
        # At margin 0 the test is McNemar's, with a p-value of its own: there the bound is careful.
        if abs(bound) > 2e-6:
            assert exact_margin_pvalue(worse, better, n, bound - 1e-5) > 0.05 - 0.002

    def test_exact_test_of_columns(self):
        values = np.zeros((50, 3))
        values[:4, 1] = -1
        values[:2, 2] = 1
        found = noninferiority(values, 0.1, test="exact", correction="none")
        pairs = [(0, 0), (0, 4), (2, 0)]
        assert found.pvalue.tolist() == [exact_margin_pvalue(*pair, 50, 0.1) for pair in pairs]
        assert found.ci_high.tolist() == [exact_margin_bound(*pair, 50, 0.05) for pair in pairs]


class TestCorrections:
    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [("holm", "holm"), ("benjamini-hochberg", "fdr_bh"), ("bonferroni", "bonferroni")],
    )
    def test_as_statsmodels(self, ours, theirs):
        values = differences(40, 12) - np.linspace(0, 0.06, 12)
        found = noninferiority(values, 0.0, correction=ours)
        reject, adjusted, *_ = multipletests(found.pvalue, 0.05, theirs)
        np.testing.assert_allclose(found.pvalue_adjusted, adjusted)
        assert (found.accepted == reject).all()
        assert 0 < found.accepted.sum() < 12

    def test_westfall_young_as_the_twin(self):
        values = differences(8, 3, seed=2) - [0.0, 0.08, 0.16]
        found = noninferiority(values, 0.0, correction="westfall-young", level=0.1)
        wanted = naive.westfall_young(values.T.tolist(), 0.0)
        np.testing.assert_allclose(found.pvalue_adjusted, wanted)
        assert (found.accepted == (found.pvalue_adjusted <= 0.1)).all()
        assert found.accepted.any()

    @given(st.integers(3, 20), st.integers(1, 6), st.integers(0, 99))
    def test_westfall_young_accepts_what_its_adjusted_pvalues_say(self, n, n_units, seed):
        values = differences(n, n_units, seed).round(1) - 0.05
        found = noninferiority(values, 0.0, correction="westfall-young", level=0.2, n_flips=60)
        assert (found.accepted == (found.pvalue_adjusted <= 0.2 * (1 + 1e-9))).all()

    def test_none(self):
        found = noninferiority(differences(40, 12), 0.02, correction="none")
        assert (found.pvalue == found.pvalue_adjusted).all()
        assert (found.accepted == (found.pvalue <= 0.05)).all()

    def test_fixed_sequence(self):
        assert fixed_sequence([0.05, 0.01], 0.05) == 2
        assert fixed_sequence([0.06, 0.01], 0.05) == 0


class TestBadInput:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.zeros(3), r"shape \(3,\)"),
            (np.zeros((1, 3)), r"shape \(1, 3\)"),
            ([[0.0], [math.inf]], "inf in row 1, column 0"),
        ],
    )
    def test_differences(self, values, message):
        with pytest.raises(InputError, match=message):
            noninferiority(values, 0.1)

    def test_parameters(self):
        values = differences(5, 2)
        with pytest.raises(InputTypeError, match="must be numbers"):
            noninferiority([["a"], ["b"]], 0.1)
        with pytest.raises(InputError, match="test='z' is not known"):
            noninferiority(values, 0.1, test="z")
        with pytest.raises(InputError, match="correction='sidak' is not known"):
            noninferiority(values, 0.1, correction="sidak")
        with pytest.raises(InputError, match="for differences of -1, 0 and 1"):
            noninferiority(values, 0.1, test="exact")
        with pytest.raises(InputError, match="Use test='t'"):
            noninferiority(values, 0.1, test="sign-flip", correction="westfall-young")
        with pytest.raises(InputTypeError, match="margin='small' is not a number"):
            noninferiority(values, "small")


@pytest.mark.statistical
class TestAtTheBorderOfTheNull:
    """300 data sets each. A test that keeps its level fails here with probability 0.001."""

    N_RUNS = 300

    def data(self, rng, n=60, n_null=6, n_far=6, margin=0.1):
        """Correlated normal differences: the first cost the margin exactly, the others nothing."""
        common = rng.normal(size=(n, 1))
        values = 0.5 * common + rng.normal(size=(n, n_null + n_far)) * 0.5
        return values + np.r_[np.full(n_null, margin), np.full(n_far, margin - 0.5)]

    @pytest.mark.parametrize("correction", ["holm", "bonferroni", "westfall-young"])
    def test_family_wise_error(self, correction):
        rng = np.random.default_rng(7)
        false, power = 0, 0.0
        for seed in range(self.N_RUNS):
            found = noninferiority(
                self.data(rng), 0.1, correction=correction, n_flips=300, seed=seed
            )
            false += found.accepted[:6].any()
            power += found.accepted[6:].mean() / self.N_RUNS
        assert false <= most_rejections(self.N_RUNS)
        assert power > 0.9

    def test_westfall_young_uses_the_dependence(self):
        # 30 nearly equal columns: the correction for 30 tests is far too strong.
        rng = np.random.default_rng(8)
        false = {"holm": 0, "westfall-young": 0}
        for seed in range(self.N_RUNS):
            values = rng.normal(size=(40, 1)) + 0.05 * rng.normal(size=(40, 30))
            for name in false:
                found = noninferiority(values, 0.0, correction=name, n_flips=200, seed=seed)
                false[name] += found.accepted.any()
        assert false["holm"] < false["westfall-young"] <= most_rejections(self.N_RUNS)

    def test_false_discovery_rate(self):
        rng = np.random.default_rng(9)
        shares = []
        for _ in range(self.N_RUNS):
            found = noninferiority(
                self.data(rng, n_null=10, n_far=10), 0.1, correction="benjamini-hochberg"
            )
            shares.append(found.accepted[:10].sum() / max(1, found.accepted.sum()))
        # Expected at most 0.05 x 10/20; 3.1 standard errors on top.
        assert np.mean(shares) <= 0.025 + 3.1 * np.std(shares) / math.sqrt(self.N_RUNS)

    @pytest.mark.parametrize("n", [6, 40])
    def test_sign_flips_are_exact_for_heavy_symmetric_tails(self, n):
        rng = np.random.default_rng(10)
        values = rng.standard_t(1.5, size=(n, 2000))
        pvalue = sign_flip_pvalues(values, 0.0, n_flips=500)
        assert (pvalue <= 0.05).sum() <= most_rejections(2000)
        assert (pvalue <= 0.5).mean() == pytest.approx(0.5, abs=0.04)

    @pytest.mark.parametrize("p_better", [0.0, 0.01, 0.1])
    def test_exact_test_of_accuracy(self, p_better):
        rng = np.random.default_rng(11)
        counts = rng.multinomial(300, [p_better + 0.02, p_better, 0.98 - 2 * p_better], size=2000)
        pairs, times = np.unique(counts[:, :2], axis=0, return_counts=True)
        found = [exact_margin_pvalue(w, b, 300, 0.02) for w, b in pairs.tolist()]
        rejected = times[np.array(found) <= 0.05].sum()
        assert rejected <= most_rejections(2000)
        if p_better > 0:  # not by never rejecting
            assert rejected >= 30

    def test_t_fails_for_rare_large_losses(self):
        # The limit that the documentation states: one sample of a hundred costs 10, the others
        # nothing, so that the mean is the margin. A data set of 100 without the rare sample has
        # probability 0.37, and then the test rejects. The exact test of mistakes does not.
        rng = np.random.default_rng(12)
        rare = (rng.random((100, 1000)) < 0.01).astype(float)
        rare[0] += 1e-9  # no column is constant
        rejected = (t_pvalues(10 * rare, 0.1) <= 0.05).mean()
        assert 0.3 < rejected < 0.45
        exact = noninferiority(np.round(rare), 0.01, test="exact", correction="none")
        assert exact.accepted.sum() <= most_rejections(1000)

    def test_nested_sets(self):
        # Costs rise along the sequence and pass the margin at the fourth; accepted sets at or
        # beyond it are the errors.
        rng = np.random.default_rng(13)
        cost = np.array([0.0, 0.03, 0.06, 0.1, 0.1, 0.12])
        false, reached = 0, 0
        for _ in range(self.N_RUNS):
            values = rng.normal(size=(400, 1)) * 0.3 + rng.normal(size=(400, 6)) * 0.1 + cost
            found = noninferiority(values, 0.1, correction="none")
            n_accepted = fixed_sequence(found.pvalue, 0.05)
            false += n_accepted > 3
            reached += n_accepted >= 2
        assert false <= most_rejections(self.N_RUNS)
        assert reached > 0.9 * self.N_RUNS


class TestLearnThenTest:
    def test_the_formulas(self):
        total, n, limit = 3.0, 50, 0.2
        mean = total / n
        h = mean * math.log(mean / limit) + (1 - mean) * math.log((1 - mean) / (1 - limit))
        tail = sum(math.comb(n, k) * limit**k * (1 - limit) ** (n - k) for k in range(4))
        wanted = min(math.exp(-n * h), math.e * tail)
        assert hoeffding_bentkus_pvalue(total, n, limit) == pytest.approx(wanted)
        assert hoeffding_bentkus_pvalue(50.0, n, limit) == 1
        assert hoeffding_bentkus_pvalue(0.0, n, 0.2) == pytest.approx(0.8**50)

    def test_other_bounds_are_scaled(self):
        rng = np.random.default_rng(0)
        risks = (rng.random((300, 4)) < [0.01, 0.02, 0.1, 0.01]).astype(float)
        sparsities = [0.2, 0.4, 0.6, 0.8]
        plain = choose_sparsity(risks, sparsities, 0.08)
        scaled = choose_sparsity(6 * risks - 2, sparsities, 6 * 0.08 - 2, bounds=(-2, 4))
        np.testing.assert_allclose(scaled.pvalue, plain.pvalue)
        assert plain.sparsity == scaled.sparsity == 0.4
        frame = plain.to_frame()
        # The last has a small p-value and does not count.
        assert frame["accepted"].tolist() == [True, True, False, False]
        assert frame["pvalue"].iloc[3] < 0.05

    def test_nothing_is_good_enough(self):
        assert choose_sparsity(np.ones((20, 2)), [0.1, 0.2], 0.5).sparsity is None

    @pytest.mark.parametrize(
        ("risks", "sparsities", "options", "message"),
        [
            ([[0.5, 1.5]], [0.1, 0.2], {}, "between 0.5 and 1.5, outside the bounds"),
            ([[0.5, math.nan]], [0.1, 0.2], {}, "outside the bounds"),
            ([[0.5, 0.5]], [0.2, 0.1], {}, "do not ascend"),
            ([[0.5, 0.5]], [0.2], {}, r"shape \(1, 2\) and sparsities \(1,\)"),
            ([[0.5]], [0.2], {"bounds": (1, 0)}, "are no range"),
        ],
    )
    def test_bad_input(self, risks, sparsities, options, message):
        with pytest.raises(InputError, match=message):
            choose_sparsity(risks, sparsities, 0.5, **options)

    @pytest.mark.statistical
    @pytest.mark.parametrize("kind", ["mistakes", "cut losses"])
    def test_the_guarantee(self, kind):
        # 1,000 data sets of 200 samples; the true risk passes the limit at the fourth of six
        # sparsities, so that a choice from there on is an error. Fails with probability 0.001 if
        # the error rate is 0.1.
        rng = np.random.default_rng(14)
        truth = np.array([0.02, 0.03, 0.05, 0.1001, 0.15, 0.3])
        sparsities = np.linspace(0.1, 0.6, 6)
        false, chosen = 0, []
        for _ in range(1000):
            hard = rng.random((200, 1))  # the same samples are hard for all
            risks = (hard < truth).astype(float)
            if kind == "cut losses":
                risks = risks * rng.uniform(0.5, 1.0, size=(200, 1)) / 0.75
                risks = np.minimum(risks, 1.0)
                limit = 0.1 * np.minimum(np.linspace(0.5, 1, 10001) / 0.75, 1).mean()
            else:
                limit = 0.1
            choice = choose_sparsity(risks, sparsities, limit, level=0.1)
            false += choice.n_accepted > 3
            chosen.append(choice.n_accepted)
        assert false <= most_rejections(1000, 0.1)
        assert np.mean(np.array(chosen) >= 2) > 0.8
