"""Rankings compared: against slow twins and scipy, by theorems, and with units left out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sigmine.exceptions import InputError
from sigmine_nn.agreement import MEASURES, agreement, stability
from sigmine_nn.rank_measures import (
    jaccard,
    kendall,
    rank_biased_overlap,
    selection_stability,
    spearman,
)
from tests import naive_significance as naive
from tests.score_tables import made_units, weighed

SCORES = st.lists(st.integers(0, 6).map(float), min_size=2, max_size=9)


def varied(scores):
    return len(set(scores)) > 1


class TestMeasures:
    @given(st.data())
    def test_correlations_as_the_twins(self, data):
        first = data.draw(SCORES.filter(varied))
        second = data.draw(
            st.lists(st.integers(0, 6).map(float), min_size=len(first), max_size=len(first)).filter(
                varied
            )
        )
        found = spearman(np.array(first), np.array(second))
        wanted = naive.correlation(naive.average_ranks(first), naive.average_ranks(second))
        assert found == pytest.approx(wanted, abs=1e-12)
        assert kendall(np.array(first), np.array(second)) == pytest.approx(
            naive.kendall_tau_b(first, second), abs=1e-12
        )

    def test_constant_scores_have_no_correlation(self):
        for measure in (spearman, kendall):
            assert math.isnan(measure(np.ones(4), np.arange(4.0)))
            assert math.isnan(measure(np.ones(1), np.ones(1)))

    @given(st.integers(1, 12).flatmap(lambda n: st.tuples(*[st.permutations(range(n))] * 2)),
           st.sampled_from([0.5, 0.9, 0.98]))  # fmt: skip
    def test_rank_biased_overlap(self, orders, p):
        first, second = orders
        found = rank_biased_overlap(first, second, p)
        assert found == pytest.approx(naive.rank_biased_overlap(first, second, p))
        assert found == pytest.approx(rank_biased_overlap(second, first, p))
        assert -1e-12 <= found <= 1 + 1e-12
        assert rank_biased_overlap(first, first, p) == pytest.approx(1)

    def test_overlap_counts_the_first_ranks_most(self):
        order = list(range(10))
        early = rank_biased_overlap(order, [1, 0, *order[2:]])
        late = rank_biased_overlap(order, [*order[:8], 9, 8])
        assert early < late < 1

    def test_overlap_of_other_things(self):
        assert math.isnan(rank_biased_overlap([], []))
        for second in ([0, 1], [0, 1, 3], [0, 1, 1]):
            with pytest.raises(InputError, match="do not hold the same things"):
                rank_biased_overlap([0, 1, 2], second)

    def test_jaccard(self):
        assert jaccard(np.array([1, 1, 0], bool), np.array([0, 1, 1], bool)) == 1 / 3
        assert math.isnan(jaccard(np.zeros(2, bool), np.zeros(2, bool)))

    def test_selection_stability(self):
        rng = np.random.default_rng(0)
        drawn = [
            selection_stability(rng.permuted(np.tile(np.arange(20) < 8, (10, 1)), axis=1))
            for _ in range(400)
        ]
        # 0 for random sets: standard error about 0.0024 (spread 0.047).
        assert abs(np.mean(drawn)) < 5 * np.std(drawn) / 20
        sets = rng.random((5, 12)) < 0.4
        same = selection_stability(np.tile(sets[0], (3, 1)))
        assert same == pytest.approx(1)
        assert math.isnan(selection_stability(np.ones((3, 4), bool)))
        with pytest.raises(InputError, match="at least two sets"):
            selection_stability(sets[:1])

    def test_selection_stability_is_kuncheva_for_sets_of_one_size(self):
        # Theorem 3 of the paper; Kuncheva (2007): mean over the pairs of (r n - k^2) / (k (n - k)).
        rng = np.random.default_rng(1)
        sets = rng.permuted(np.tile(np.arange(9) < 4, (6, 1)), axis=1)
        pairs = [
            (int((sets[i] & sets[j]).sum()) * 9 - 16) / (4 * 5) for i in range(6) for j in range(i)
        ]
        assert selection_stability(sets) == pytest.approx(np.mean(pairs))


class TestAgreement:
    def tables(self):
        rng = np.random.default_rng(3)
        units = made_units(6, 8)
        base = rng.normal(size=14)
        scores = {
            "one": base,
            "near": base + 0.05 * rng.normal(size=14),
            "square": np.sign(base) * base**2,
            "other": rng.normal(size=14),
        }
        return {name: weighed(values, units=units) for name, values in scores.items()}

    @pytest.mark.parametrize("layer", [None, "g0", "g1"])
    def test_as_scipy(self, layer):
        tables = self.tables()
        found = agreement(tables, 0.5)
        where = {None: slice(None), "g0": slice(0, 6), "g1": slice(6, 14)}[layer]
        for a, one in tables.items():
            for b, other in tables.items():
                x, y = one.score.numpy()[where], other.score.numpy()[where]
                for measure, function in (
                    ("spearman", stats.spearmanr), ("kendall", stats.kendalltau),
                ):  # fmt: skip
                    value = found.matrix(measure, layer).loc[a, b]
                    assert value == pytest.approx(function(x, y).statistic)
                low = [set(range(14)) - naive.kept(t.score.tolist(), 7) for t in (one, other)]
                inside = [s & set(range(14)[where]) for s in low]
                union = inside[0] | inside[1]
                wanted = len(inside[0] & inside[1]) / len(union)
                assert found.matrix("jaccard", layer).loc[a, b] == pytest.approx(wanted)
                orders = [np.argsort(v).tolist() for v in (x, y)]  # no ties; the pruned first
                assert found.matrix("rbo", layer).loc[a, b] == pytest.approx(
                    naive.rank_biased_overlap(*orders, 0.9)
                )

    def test_monotone_transformations_agree_fully(self):
        found = agreement(self.tables())
        for measure in MEASURES:
            assert found.matrix(measure).loc["one", "square"] == pytest.approx(1.0)

    def test_clusters(self):
        found = agreement(self.tables())
        assert found.clusters() == {"one": 1, "near": 1, "square": 1, "other": 2}
        assert found.linkage.shape == (3, 4)
        assert set(found.clusters(2.0).values()) == {1}

    def test_layers_are_relative(self):
        # The second layer has larger scores by one criterion only; inside the layers they agree.
        units = made_units(3, 3)
        one = weighed([1.0, 2, 3, 10, 20, 30], units=units)
        other = weighed([10.0, 20, 30, 1, 2, 3], units=units)
        assert agreement({"a": one, "b": other}).overall["spearman"][0, 1] < 0
        found = agreement({"a": one, "b": other}, 0.34, scope="layer")
        for measure in MEASURES:
            assert found.overall[measure][0, 1] == pytest.approx(1.0)
        assert found.pruned.sum(axis=1).tolist() == [2, 2]

    def test_units_without_a_score_are_left_out_and_counted(self):
        units = made_units(6)
        one = weighed([1.0, 2, 3, 4, 5, math.nan], units=units)
        other = weighed([math.nan, 3, 2, 4, 5, 6], units=units)
        found = agreement({"a": one, "b": other}, 0.5)
        assert found.n_common.tolist() == [[5, 4], [4, 5]]
        assert found.overall["spearman"][0, 1] == pytest.approx(
            stats.spearmanr([2, 3, 4, 5], [3, 2, 4, 5]).statistic
        )
        # Of the four in common each prunes two, the same two.
        assert found.overall["jaccard"][0, 1] == 1
        consensus = found.consensus()
        assert consensus["n_rankings"].tolist() == [1, 2, 2, 2, 2, 1]
        assert consensus["mean_rank"].tolist() == pytest.approx([0.2, 0.4, 0.4, 0.7, 0.9, 1.0])
        assert consensus["borda"].tolist() == pytest.approx([0, 2, 2, 5, 7, 4])
        assert found.disputed()["unit"].tolist() == ["g0.2", "g0.3", "g0.4", "g0.1"]

    def test_a_unit_that_nobody_scores(self):
        units = made_units(3)
        tables = {name: weighed([1.0, math.nan, 2.0], units=units) for name in "ab"}
        consensus = agreement(tables).consensus()
        assert consensus.loc[1, ["mean_rank", "spread", "share_pruned"]].isna().all()
        assert consensus.loc[1, "borda"] == 0

    def test_disputed(self):
        units = made_units(5)
        tables = {"a": weighed([1.0, 2, 3, 4, 5], units=units),
                  "b": weighed([5.0, 2, 3, 4, 1], units=units)}  # fmt: skip
        found = agreement(tables, 0.2).disputed(2)
        assert found["unit"].tolist() == ["g0.0", "g0.4"]
        assert found["spread"].tolist() == pytest.approx([0.8, 0.8])
        assert found["share_pruned"].tolist() == [0.5, 0.5]

    def test_constant_scores_cannot_be_clustered(self):
        units = made_units(4)
        tables = {"a": weighed([1.0, 2, 3, 4], units=units), "b": weighed([1.0] * 4, units=units)}
        found = agreement(tables)
        assert math.isnan(found.overall["spearman"][0, 1])
        with pytest.raises(InputError, match="have no correlation with"):
            found.clusters()

    def test_bad_input(self):
        one = weighed([1.0, 2.0])
        with pytest.raises(InputError, match="1 rankings cannot agree"):
            agreement([one])
        with pytest.raises(InputError, match="names must differ"):
            agreement([one, one])
        with pytest.raises(InputError, match="ranks 3 units of 1 groups"):
            agreement({"a": one, "b": weighed([1.0, 2.0, 3.0])})
        with pytest.raises(InputError, match="sparsity=0 is out of range"):
            agreement({"a": one, "b": one}, 0)
        found = agreement({"a": one, "b": one})
        with pytest.raises(InputError, match="no group of units 'conv'"):
            found.matrix(layer="conv")
        with pytest.raises(InputError, match="measure='cosine' is not known"):
            found.matrix("cosine")


class TestStability:
    def test_repetitions(self):
        rng = np.random.default_rng(0)
        units = made_units(5, 7)
        base = rng.normal(size=12)
        tables = [weighed(base + 0.3 * rng.normal(size=12), units=units) for _ in range(4)]
        found = stability(tables, 0.25)
        pairs = [
            stats.spearmanr(tables[i].score, tables[j].score).statistic
            for i in range(4)
            for j in range(i)
        ]
        assert found.mean["spearman"] == pytest.approx(np.mean(pairs))
        assert found.lowest["spearman"] == pytest.approx(min(pairs))
        assert found.selection == selection_stability(found.agreement.pruned)
        assert found.agreement.names == ("0", "1", "2", "3")
        frequency = found.to_frame()["share_pruned"]
        np.testing.assert_allclose(frequency, found.agreement.pruned.mean(axis=0))

    def test_equal_repetitions(self):
        found = stability([weighed([1.0, 2.0, 3.0, 4.0])] * 3)
        assert found.mean == pytest.approx(dict.fromkeys(MEASURES, 1.0))
        assert found.selection == pytest.approx(1.0)

    def test_nothing_to_compare(self):
        found = stability([weighed([1.0, 1.0])] * 2, 0.3)
        assert math.isnan(found.mean["spearman"])
        assert math.isnan(found.mean["jaccard"])
        assert math.isnan(found.selection)
