"""The ranking engine: slow twins, exact counts on ties, and one answer from every array library."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine import _rules, ranking
from sigmine.exceptions import InputError, InputTypeError
from sigmine.ranking import (
    at_most,
    benjamini_hochberg,
    bonferroni,
    cumulative_mass,
    holm,
    normalise,
    order,
    ranks,
    select,
    sparsity,
    tail_normalise,
    tarone,
    top_k,
    westfall_young,
)
from tests import naive, naive_criteria, strategies


def _strict(values):
    import array_api_strict

    return array_api_strict.asarray(np.asarray(values))


def _torch(values):
    torch = pytest.importorskip("torch")
    return torch.asarray(np.asarray(values))


LIBRARIES = {"list": list, "numpy": np.asarray, "strict": _strict, "torch": _torch}


@pytest.fixture(params=LIBRARIES)
def library(request):
    if request.param == "strict":
        pytest.importorskip("array_api_strict")
    if request.param == "torch":
        pytest.importorskip("torch")
    return LIBRARIES[request.param]


def kept(selection):
    return {i for i, keep in enumerate(np.asarray(selection.mask).tolist()) if keep}


# -- Order, ranks -----------------------------------------------------------------------------


@given(strategies.tied_scores(), st.booleans())
def test_order_is_by_score_then_index(scores, largest):
    assert order(scores, largest).tolist() == naive.order(scores.tolist(), largest)


@given(strategies.tied_scores(), st.booleans())
def test_ranks(scores, largest):
    first = ranks(scores, largest)
    for rank, i in enumerate(naive.order(scores.tolist(), largest), start=1):
        assert first[i] == rank
    better = scores[None, :] > scores[:, None] if largest else scores[None, :] < scores[:, None]
    equal = scores[None, :] == scores[:, None]
    lowest, highest = better.sum(axis=1) + 1, (better | equal).sum(axis=1)
    np.testing.assert_array_equal(ranks(scores, largest, "min"), lowest)
    np.testing.assert_array_equal(ranks(scores, largest, "max"), highest)
    np.testing.assert_array_equal(ranks(scores, largest, "average"), (lowest + highest) / 2)


def test_minus_zero_is_zero(library):
    zeros = library([0.0, -0.0, 0.0, -0.0])
    assert np.asarray(order(zeros)).tolist() == [0, 1, 2, 3]
    assert np.asarray(order(zeros, largest=False)).tolist() == [0, 1, 2, 3]
    assert kept(select(zeros, top_k(2))) == {0, 1}


# -- Rules against their twins, on every library ------------------------------------------------

TIED = [0.5, 0.25, 0.5, 0.0, 0.5, -0.0, 0.25, 1.0]
PVALUES = [0.012, 0.0004, 0.3, 0.01, 0.012, 0.9, 0.0125, 0.001, 0.026, 0.0004]
MINIMA = [0.0005, 0.002, 0.003, 0.01, 0.011, 0.02, 0.2] + [0.03] * 93

CASES = [
    (top_k(4), TIED, True, naive.keep_best(TIED, 4)),
    (top_k(4), TIED, False, naive.keep_best(TIED, 4, largest=False)),
    (sparsity(0.6), TIED, True, naive.keep_best(TIED, 4)),
    (sparsity(0.6), TIED, False, naive.keep_best(TIED, 4, largest=False)),
    (at_most(0.25), TIED, True, {1, 3, 5, 6}),
    (at_most(0.25), TIED, False, {1, 3, 5, 6}),
    (cumulative_mass(0.3), TIED, True, naive.keep_mass(TIED, 0.3)),
    (bonferroni(0.05), PVALUES, True, naive.keep_bonferroni(PVALUES, 0.05)),
    (bonferroni(0.05, m=100), PVALUES, True, naive.keep_bonferroni(PVALUES, 0.05, 100)),
    (holm(0.05), PVALUES, True, naive.keep_holm(PVALUES, 0.05)),
    (benjamini_hochberg(0.05), PVALUES, True, naive.keep_benjamini_hochberg(PVALUES, 0.05)),
    (tarone(0.05), PVALUES, True, naive.keep_tarone(PVALUES, 0.05)),
    (tarone(0.05), PVALUES, False, naive.keep_tarone(PVALUES, 0.05)),
    # (b + 1) / 101 <= 0.05 needs b <= 4: four minima are at most 0.01, five at most 0.012.
    (westfall_young(MINIMA, 0.05), PVALUES, True, {1, 3, 7, 9}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]!r}-{case[2]}")
def test_every_library_gives_the_twin_s_mask(library, case):
    rule, scores, largest, expected = case
    selection = select(library(scores), rule, largest=largest)
    assert kept(selection) == expected
    assert selection.n_kept == len(expected)
    reference = select(np.asarray(scores), rule, largest=largest)
    assert selection.threshold == reference.threshold
    assert selection.last_kept == reference.last_kept
    assert np.asarray(selection.order).tolist() == reference.order.tolist()
    assert np.asarray(selection.mask).dtype == np.bool_
    if library is not list:
        assert type(selection.mask) is type(library(scores))
    if rule.direction == "either":
        assert set(np.asarray(selection.order)[: selection.n_kept].tolist()) == expected


def test_the_cases_tell_rules_apart():
    assert len({frozenset(case[3]) for case in CASES if case[1] is PVALUES}) >= 4


@given(strategies.tied_scores(), st.data())
def test_exactly_k_are_kept_whatever_the_ties(scores, data):
    k = data.draw(st.integers(0, len(scores)))
    for largest in (True, False):
        selection = select(scores, top_k(k), largest=largest)
        assert kept(selection) == naive.keep_best(scores.tolist(), k, largest)
        assert selection.n_kept == selection.mask.sum() == k


@given(strategies.pvalue_arrays(), st.sampled_from([0.01, 0.05, 0.2, 0.5]))
def test_pvalue_rules_equal_their_twins(pvalues, alpha):
    values = pvalues.tolist()
    assert kept(select(pvalues, bonferroni(alpha))) == naive.keep_bonferroni(values, alpha)
    assert kept(select(pvalues, tarone(alpha))) == naive.keep_tarone(values, alpha)
    assert kept(select(pvalues, holm(alpha))) == naive.keep_holm(values, alpha)
    expected = naive.keep_benjamini_hochberg(values, alpha)
    assert kept(select(pvalues, benjamini_hochberg(alpha))) == expected


@given(strategies.pvalue_arrays(), st.sampled_from([0.01, 0.05, 0.2, 0.5]))
def test_threshold_is_what_pvalues_are_compared_with(pvalues, alpha):
    for rule in (bonferroni(alpha), holm(alpha), benjamini_hochberg(alpha)):
        selection = select(pvalues, rule)
        below = pvalues <= selection.threshold * (1 + 1e-9)
        np.testing.assert_array_equal(selection.mask, below)
    weak, middle, strong = (
        select(pvalues, rule).mask
        for rule in (bonferroni(alpha), holm(alpha), benjamini_hochberg(alpha))
    )
    assert not (weak & ~middle).any()
    assert not (middle & ~strong).any()


@given(strategies.pvalue_arrays(), strategies.pvalue_arrays(), st.sampled_from([0.05, 0.2, 0.6]))
def test_westfall_young_equals_its_twin(pvalues, minima, alpha):
    selection = select(pvalues, westfall_young(minima, alpha))
    assert kept(selection) == naive.keep_westfall_young(pvalues.tolist(), minima.tolist(), alpha)


@given(
    st.lists(st.sampled_from([0.0, 0.125, 0.5, 1.0, 3.0, 3.5]), min_size=1, max_size=25),
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
)
def test_cumulative_mass_equals_its_twin(scores, eps):
    assert kept(select(scores, cumulative_mass(eps))) == naive.keep_mass(scores, eps)


def test_sparsity_counts_are_those_of_decimal_fractions():
    for n in (1, 2, 3, 7, 10, 99, 100, 1000):
        scores = np.arange(n, dtype=float)
        for percent in range(101):
            selection = select(scores, sparsity(percent / 100))
            assert n - selection.n_kept == percent * n // 100


# -- Tarone -----------------------------------------------------------------------------------


@given(strategies.pvalue_arrays(), st.sampled_from([0.01, 0.05, 0.2]))
def test_tarone_is_exact(minima, alpha):
    selection = select(minima, tarone(alpha))
    delta, m = naive.tarone_exact(minima.tolist(), alpha)
    assert selection.n_kept == m
    assert selection.threshold == pytest.approx(alpha / max(1, m))
    if m:
        assert selection.last_kept == pytest.approx(delta, rel=2e-9)
        # No testable candidate is out of reach, and one value more would not fit.
        assert selection.last_kept <= selection.threshold * (1 + 1e-8)
        larger = minima[~selection.mask]
        if len(larger):
            following = larger.min()
            count = (minima <= following * (1 + 1e-9)).sum()
            assert following * count > alpha
    else:
        assert math.isnan(selection.last_kept)


def test_tarone_counts_values_within_rounding_as_one():
    third = 1 / 3 * 0.03
    almost = [third, third * (1 + 3e-16), third * (1 - 3e-16)]
    assert select(almost, tarone(0.03)).n_kept == 3  # 0.01 * 3, to the last bit
    # Split by rounding, the smallest would qualify alone: 0.02 * 1 <= 0.03 < 0.02 * 2.
    assert select([0.02 * (1 - 1e-12), 0.02], tarone(0.03)).n_kept == 0


def test_tarone_by_hand():
    selection = select([0.001, 0.02, 0.02, 0.03, 0.5], tarone(0.05))
    assert selection.mask.tolist() == [True, False, False, False, False]
    assert selection.threshold == 0.05
    assert selection.last_kept == 0.001
    nothing = select([0.2, 0.3], tarone(0.05))
    assert nothing.n_kept == 0
    assert nothing.threshold == 0.05


# -- Partition path ---------------------------------------------------------------------------

N_LARGE = 200_000
LARGE = {
    "normal": lambda rng: rng.standard_normal(N_LARGE),
    "few values": lambda rng: rng.integers(0, 7, N_LARGE).astype(float),
    "one value": lambda rng: np.zeros(N_LARGE),
    "ascending": lambda rng: np.arange(N_LARGE, dtype=float),
    "descending": lambda rng: -np.arange(N_LARGE, dtype=float),
    "periodic": lambda rng: np.tile(np.arange(13.0), N_LARGE // 13 + 1)[:N_LARGE],
    "infinite": lambda rng: rng.choice([-np.inf, 0.0, np.inf], N_LARGE),
    "one outlier": lambda rng: np.where(np.arange(N_LARGE) == 77_777, 1.0, 0.0),
    "float32": lambda rng: rng.standard_normal(N_LARGE).astype(np.float32),
    "sample sees the extremes only": lambda rng: np.where(
        np.arange(N_LARGE) % (N_LARGE // _rules._SAMPLE) == 0, 9.0, rng.random(N_LARGE)
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_partition_equals_the_full_sort(name):
    scores = LARGE[name](np.random.default_rng(3))
    for largest in (True, False):
        full = order(scores, largest)
        for k in (1, 2, 1000, N_LARGE // 13, N_LARGE // 2, N_LARGE - 3, N_LARGE):
            selection = select(scores, top_k(k), largest=largest)
            expected = np.zeros(N_LARGE, dtype=bool)
            expected[full[:k]] = True
            np.testing.assert_array_equal(selection.mask, expected)
            assert selection.threshold == scores[full[k - 1]]


def test_partition_on_every_library(library, monkeypatch):
    # The thresholds are lowered so that strict arrays of ordinary size take every branch.
    monkeypatch.setattr(_rules, "_SORT_DIRECTLY", 16)
    monkeypatch.setattr(_rules, "_SAMPLE", 8)
    rng = np.random.default_rng(8)
    for scores in (rng.standard_normal(500), rng.integers(0, 5, 500).astype(float)):
        for k in (1, 17, 250, 499):
            for largest in (True, False):
                selection = select(library(scores), top_k(k), largest=largest)
                assert kept(selection) == naive.keep_best(scores.tolist(), k, largest)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=80), st.data())
def test_kth_smallest_with_tiny_samples(values, data):
    k = data.draw(st.integers(1, len(values)))
    array = np.array(values, dtype=float)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rules, "_SORT_DIRECTLY", 2)
        patch.setattr(_rules, "_SAMPLE", 2)
        assert _rules._kth_smallest(np, array, k) == sorted(values)[k - 1]


# -- Scopes -----------------------------------------------------------------------------------


def test_scopes_apply_the_rule_inside_each(library):
    scores = [5.0, 1.0, 4.0, 2.0, 3.0, 0.0]
    scopes = {"a": [5, 0, 2], "b": (1,), "c": np.array([3, 4])}
    selection = select(library(scores), sparsity(0.5), scopes=scopes)
    assert kept(selection) == {0, 1, 2, 4}
    assert selection.n_kept == 4
    assert math.isnan(selection.threshold)
    assert {name: part.threshold for name, part in selection.parts.items()} == {
        "a": 4.0,
        "b": 1.0,
        "c": 3.0,
    }
    assert "a: sparsity(s=0.5) kept 2 of 3" in selection.reason


def test_every_scope_can_have_its_own_rule(library):
    rules = {"a": top_k(0), "b": top_k(1)}
    selection = select(library([1.0, 2.0, 3.0]), rules, scopes={"b": [0, 2], "a": [1]})
    assert kept(selection) == {2}
    assert selection.rule == rules


def test_scopes_of_ranges_and_empty_scopes():
    selection = select([1.0, 2.0, 3.0], top_k(0), scopes={"all": range(3), "none": []})
    assert selection.n_kept == 0
    assert selection.parts["none"].mask.shape == (0,)


@given(strategies.tied_scores(min_size=2), st.data())
def test_one_scope_is_global_and_scope_names_do_not_matter(scores, data):
    rule = sparsity(data.draw(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0])))
    everything = select(scores, rule)
    one = select(scores, rule, scopes={"all": np.arange(len(scores))})
    np.testing.assert_array_equal(one.mask, everything.mask)
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(scores), max_size=len(scores)))
    scopes = {str(v): np.flatnonzero(np.array(labels) == v) for v in sorted(set(labels))}
    parts = select(scores, rule, scopes=scopes)
    backwards = select(scores, rule, scopes=dict(reversed(scopes.items())))
    np.testing.assert_array_equal(parts.mask, backwards.mask)
    for where in scopes.values():
        np.testing.assert_array_equal(parts.mask[where], select(scores[where], rule).mask)


# -- Scale ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("sum", [0.125, -0.375, 0.5, 0.0]),
        ("mean", [0.5, -1.5, 2.0, 0.0]),
        ("max", [0.25, -0.75, 1.0, 0.0]),
        ("l2", [1 / math.sqrt(26), -3 / math.sqrt(26), 4 / math.sqrt(26), 0.0]),
        ("standard", [0.5 / 2.5, -3.5 / 2.5, 3.5 / 2.5, -0.5 / 2.5]),
        ("rank", [0.75, 0.25, 1.0, 0.5]),
    ],
)
def test_normalise(library, how, expected):
    scores = [1.0, -3.0, 4.0, 0.0]
    np.testing.assert_allclose(np.asarray(normalise(library(scores), how)), expected, rtol=1e-14)
    both = np.asarray(
        normalise(
            library([1.0, 7.0, -3.0, 7.0, 4.0, 0.0]), how, scopes={"x": [1, 3], "y": [0, 2, 4, 5]}
        )
    )
    np.testing.assert_allclose(both[[0, 2, 4, 5]], expected, rtol=1e-14)


@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=30),
    st.sampled_from(["sum", "mean", "max", "l2", "standard", "rank"]),
    st.sampled_from([1e-150, 0.125, 3.0, 1e150]),
)
def test_normalise_does_not_see_the_scale_and_keeps_the_order(values, how, factor):
    scores = np.array(values, dtype=float)
    once = normalise(scores, how)
    np.testing.assert_allclose(normalise(scores * factor, how), once, rtol=1e-9, atol=1e-12)
    assert np.isfinite(once).all()
    if scores.any() and (how != "standard" or scores.std() > 0):
        spread = scores[:, None] - scores[None, :]
        assert ((once[:, None] - once[None, :] > 0) == (spread > 0)).all()


def test_normalise_of_zeros_is_zero():
    for how in ("sum", "mean", "max", "l2", "standard"):
        assert normalise([0.0, 0.0], how).tolist() == [0.0, 0.0]
    assert normalise([2.0, 2.0], "standard").tolist() == [0.0, 0.0]
    assert normalise([], "sum").shape == (0,)


# -- Rules and selections as values -------------------------------------------------------------


@pytest.mark.parametrize("scores", [[], [0.0, 0.0], [3.0], [1.0, 1.0, 2.0, 0.0], [1e308] * 3])
def test_tail_normalise(library, scores):
    found = tail_normalise(library(scores))
    expected = naive_criteria.tail_shares([score / max(scores) for score in scores if any(scores)])
    np.testing.assert_allclose(np.asarray(found), expected or [0.0] * len(scores), rtol=1e-14)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.data())
def test_tail_normalise_is_a_share_and_keeps_the_order(scores, data):
    where = data.draw(st.permutations(range(len(scores))))
    cut = data.draw(st.integers(0, len(scores)))
    scopes = {"a": sorted(where[:cut]), "b": sorted(where[cut:])}
    found = tail_normalise(scores, scopes)
    for inside in scopes.values():
        values = [scores[i] for i in inside]
        np.testing.assert_allclose(found[inside], naive_criteria.tail_shares(values), rtol=1e-14)
        positive = [i for i in inside if scores[i] > 0]
        np.testing.assert_array_equal(order(found[positive]), order(np.array(scores)[positive]))
        if positive:
            assert found[inside].max() == 1.0


def test_rules_are_values():
    rules = [case[0] for case in CASES]
    for rule in rules:
        assert pickle.loads(pickle.dumps(rule)) == rule
        with pytest.raises(AttributeError):
            rule.name = "other"
    assert top_k(3) == top_k(np.int64(3)) != top_k(4)
    assert sparsity(0) == sparsity(0.0)
    assert repr(tarone(0.05)) == "tarone(alpha=0.05)"
    assert repr(westfall_young([0.1] * 1000, 0.05)) == "westfall_young(alpha=0.05)"
    assert all(isinstance(rule, ranking.Rule) for rule in rules)
    assert {rule.name for rule in rules} <= set(ranking.__all__)


def test_threshold_and_last_kept_of_nothing():
    for rule in (top_k(0), sparsity(1.0), cumulative_mass(1.0)):
        selection = select([1.0, 2.0], rule)
        assert selection.n_kept == 0
        assert math.isnan(selection.threshold)
        assert math.isnan(selection.last_kept)
    assert select([0.5], bonferroni(0.05)).threshold == 0.05
    assert select([0.5, 0.5], holm(0.05)).threshold == 0.025
    assert select([0.5, 0.5], benjamini_hochberg(0.05)).threshold == 0.025


def test_no_scores_at_all(library):
    empty = library(np.array([], dtype=float))
    for rule in (case[0] for case in CASES):
        if rule.name == "top_k":
            rule = top_k(0)
        selection = select(empty, rule)
        assert selection.n_kept == 0
        assert selection.mask.shape == (0,)
        assert np.asarray(selection.order).tolist() == []
    assert np.asarray(ranks(empty)).tolist() == []


def test_whole_number_scores(library):
    scores = np.array([3, 1, 3, 2], dtype=np.int32)
    selection = select(library(scores), top_k(2))
    assert kept(selection) == {0, 2}
    assert selection.threshold == 3.0


def test_westfall_young_needs_enough_permutations():
    few = westfall_young([0.5] * 18, 0.05)  # (0 + 1) / 19 > 0.05: nothing can be significant
    assert select([0.0, 1e-9], few).n_kept == 0
    enough = westfall_young([0.5] * 19, 0.05)  # 1 / 20
    assert select([0.0, 0.49, 0.5], enough).mask.tolist() == [True, True, False]
    assert enough.decide(np, np.array([0.1]), False)[1] == 0.5
    assert select([1.0], westfall_young([1.0] * 3, 0.999)).n_kept == 0
    assert select([1.0], westfall_young([0.1], 0.999999999999)).n_kept == 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_scores_of_every_precision_and_with_gradients(dtype):
    torch = pytest.importorskip("torch")
    scores = torch.tensor([1.0, 2.0, 2.0, 0.5], dtype=getattr(torch, dtype), requires_grad=True)
    assert kept(select(scores, top_k(2))) == {1, 2}
    assert kept(select(scores, cumulative_mass(0.2))) == {0, 1, 2}
    assert ranks(scores, ties="average").tolist() == [3.0, 1.5, 1.5, 4.0]
    assert not normalise(scores).requires_grad
    pvalues = torch.tensor([0.01, 0.5, 0.02, 0.9], dtype=getattr(torch, dtype))
    assert kept(select(pvalues, tarone(0.05))) == {0, 2}
    assert kept(select(pvalues, benjamini_hochberg(0.05))) == {0, 2}


# -- Errors -----------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: select([1.0, NAN, NAN], top_k(1)), InputError, r"2 NaN \(the first at index 1\)"),
        (lambda: order([NAN]), InputError, "1 NaN"),
        (lambda: select([[1.0], [2.0]], top_k(1)), InputError, r"shape \(2, 1\)"),
        (lambda: select(["a"], top_k(1)), InputTypeError, "real numbers"),
        (lambda: select([True], top_k(1)), InputTypeError, "dtype bool"),
        (lambda: select([1j], top_k(1)), InputTypeError, "dtype complex128"),
        (lambda: select([1.0], "top_k"), InputTypeError, "not a Rule"),
        (lambda: select([1.0], {"a": top_k(1)}), InputTypeError, "needs scopes"),
        (lambda: select([1.0, 2.0], top_k(3)), InputError, "asks for 3 of 2"),
        (lambda: top_k(-1), InputError, "k=-1"),
        (lambda: top_k(1.5), InputTypeError, "k=1.5"),
        (lambda: top_k(True), InputTypeError, "k=True"),
        (lambda: sparsity(1.1), InputError, r"s=1.1.*\[0, 1\]"),
        (lambda: sparsity("half"), InputTypeError, "s='half'"),
        (lambda: at_most(NAN), InputError, "t=nan"),
        (lambda: cumulative_mass(-0.1), InputError, "eps=-0.1"),
        (lambda: select([1.0, -1.0], cumulative_mass(0.1)), InputError, "negative"),
        (lambda: select([1.0, math.inf], cumulative_mass(0.1)), InputError, "infinite"),
        (
            lambda: bonferroni(0.0),
            InputError,
            r"alpha=0.0 is out of range; give a number in \(0, 1\)",
        ),
        (lambda: bonferroni(0.05, m=0), InputError, "m=0"),
        (lambda: select([0.1] * 3, bonferroni(0.05, m=2)), InputError, "at least 3"),
        (lambda: tarone(1), InputError, "alpha=1"),
        (lambda: tarone(None), InputTypeError, "alpha=None"),
        (lambda: holm(5), InputError, "alpha=5"),
        (lambda: benjamini_hochberg(-1), InputError, "q=-1"),
        (lambda: select([0.5, 1.5], tarone(0.05)), InputError, r"0.5 to 1.5.*\[0, 1\]"),
        (lambda: select([-0.5, 0.5], holm(0.05)), InputError, "-0.5"),
        (lambda: westfall_young([], 0.05), InputError, "empty"),
        (lambda: westfall_young([0.5, 1.5], 0.05), InputError, "null_minima goes from 0.5 to 1.5"),
        (lambda: westfall_young([NAN], 0.05), InputError, "null_minima has 1 NaN"),
        (lambda: ranks([1.0], ties="dense"), InputError, "ties='dense'"),
        (lambda: normalise([1.0], "median"), InputError, "how='median'"),
        (lambda: normalise([math.inf], "sum"), InputError, "how='rank'"),
        (lambda: tail_normalise([1.0, -2.0]), InputError, "between -2 and 1"),
        (lambda: tail_normalise([math.inf]), InputError, "inf"),
        (lambda: tail_normalise([NAN]), InputError, "1 NaN"),
        (lambda: tail_normalise([1.0], {"a": [1]}), InputError, "exactly once"),
        (lambda: select([1.0], top_k(1), scopes={}), InputTypeError, "mapping"),
        (lambda: select([1.0], top_k(1), scopes=[0]), InputTypeError, "mapping"),
        (lambda: select([1.0], top_k(1), scopes={"a": [0.0]}), InputTypeError, "scope 'a'"),
        (lambda: select([1.0], top_k(1), scopes={"a": [[0]]}), InputTypeError, r"\(1, 1\)"),
        (lambda: select([1.0, 2.0], top_k(1), scopes={"a": [0]}), InputError, "exactly once"),
        (lambda: select([1.0], top_k(0), scopes={"a": [0], "b": [0]}), InputError, "2 indices"),
        (lambda: select([1.0], top_k(0), scopes={"a": [-1]}), InputError, "exactly once"),
        (
            lambda: select([1.0], {"b": top_k(0)}, scopes={"a": [0]}),
            InputError,
            r"\['b'\].*\['a'\]",
        ),
        (
            lambda: select(
                [1.0, 0.5],
                {"a": at_most(1), "b": cumulative_mass(0)},
                scopes={"a": [0], "b": [1]},
            ),
            InputError,
            "others the smallest",
        ),
    ],
)
def test_errors_say_what_was_found(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_import_is_light():
    code = (
        "import sys, sigmine.ranking; "
        "print([m for m in ('numba', 'pandas', 'scipy', 'torch', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
