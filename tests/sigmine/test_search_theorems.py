"""Theorems: what the answer of a search does not depend on, and what it guarantees."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmine._jit import JIT_ENABLED
from sigmine.ranking import select, tarone
from tests import naive, strategies
from tests.searches import (
    assert_empty,
    assert_outcomes_are_identical,
    assert_same_result,
    mine,
    patterns,
)

any_options = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["exact", "asymptotic"]),
        "alternative": st.sampled_from(["two-sided", "greater", "less"]),
        "two_sided": st.sampled_from(["central", "minlike"]),
        "variance": st.sampled_from(["mantel-haenszel", "cochran"]),
        "grid_step": st.sampled_from([None, 0.06]),
        "max_length": st.sampled_from([None, 1, 2]),
        "min_support": st.sampled_from([1, 2]),
        "alpha": st.sampled_from([0.05, 0.3]),
    }
)
theorem = settings(max_examples=60 if JIT_ENABLED else 40)


@theorem
@given(strategies.mining_cases(), any_options, st.randoms(use_true_random=False))
def test_row_order_does_not_matter(case, options, random):
    matrix, y, strata = case
    order = list(range(len(y)))
    random.shuffle(order)
    first = mine(matrix, y, strata, **options)[1]
    second = mine(matrix[order], y[order], strata[order], **options)[1]
    assert_outcomes_are_identical(first, second)  # to the last bit


@theorem
@given(strategies.mining_cases(), any_options, st.permutations(range(4)))
def test_names_of_strata_do_not_matter(case, options, codes):
    matrix, y, strata = case
    first = mine(matrix, y, [f"s{code}" for code in strata], **options)
    renamed = mine(matrix, y, [f"s{codes[code]}" for code in strata], **options)
    assert first[1].n_testable == renamed[1].n_testable
    back = {f"s{codes[code]}": f"s{code}" for code in range(4)}
    problem = dataclasses.replace(
        renamed[0], stratum_labels=tuple(back[s] for s in renamed[0].stratum_labels)
    )
    assert_same_result(first, (problem, renamed[1]))


@theorem
@given(strategies.mining_cases(), any_options, st.permutations(range(6)))
def test_item_order_does_not_matter(case, options, order):
    matrix, y, strata = case
    order = [j for j in order if j < matrix.shape[1]]
    assert_same_result(
        mine(matrix, y, strata, **options),
        mine(matrix[:, order], y, strata, names=[str(j) for j in order], **options),
    )


@theorem
@given(strategies.mining_cases(), any_options)
def test_swapping_the_classes_swaps_the_directions(case, options):
    matrix, y, strata = case
    other = {"two-sided": "two-sided", "greater": "less", "less": "greater"}
    problem, outcome = mine(matrix, y, strata, **options)
    swapped = dict(options, alternative=other[options["alternative"]])
    problem_2, outcome_2 = mine(matrix, ~y, strata, **swapped)
    controls = dataclasses.replace(
        outcome_2, support_cases=outcome_2.support - outcome_2.support_cases
    )
    assert_same_result((problem, outcome), (problem_2, controls))


@theorem
@given(strategies.mining_cases(), any_options, st.integers(0, 5))
def test_a_duplicated_item_only_joins_the_closures(case, options, item):
    matrix, y, strata = case
    item %= matrix.shape[1]
    first = mine(matrix, y, strata, **options)
    second = mine(np.column_stack([matrix, matrix[:, item]]), y, strata, **options)
    assert first[1].n_testable == second[1].n_testable
    twin_name = str(matrix.shape[1])
    for closed in patterns(*second):
        assert (str(item) in closed) == (twin_name in closed)
    without = {closed - {twin_name}: value for closed, value in patterns(*second).items()}
    assert without == patterns(*first)


@theorem
@given(strategies.mining_cases(), any_options, st.integers(0, 5), st.integers(0, 5))
def test_the_conjunction_of_two_items_as_an_item_changes_nothing_but_closures(
    case, options, one, two
):
    matrix, y, strata = case
    options = dict(options, max_length=None)  # as an item it is shorter
    both = matrix[:, one % matrix.shape[1]] & matrix[:, two % matrix.shape[1]]
    first = mine(matrix, y, strata, **options)
    second = mine(np.column_stack([matrix, both]), y, strata, **options)
    assert first[1].n_testable == second[1].n_testable
    name = str(matrix.shape[1])
    without = {closed - {name}: value for closed, value in patterns(*second).items()}
    assert without == patterns(*first)


@theorem
@given(strategies.mining_cases(), any_options, st.integers(1, 8), st.booleans())
def test_a_stratum_of_one_class_changes_nothing(case, options, n_extra, label):
    matrix, y, strata = case
    extra = np.arange(n_extra * matrix.shape[1]).reshape(n_extra, -1) % 3 == 0
    longer = (
        np.vstack([matrix, extra]),
        np.append(y, [label] * n_extra),
        np.append(strata, [9] * n_extra),
    )
    first, second = mine(matrix, y, strata, **options), mine(*longer, **options)
    assert_outcomes_are_identical(first[1], second[1])
    assert patterns(*first) == patterns(*second)


@theorem
@given(strategies.mining_cases(), any_options)
def test_the_online_threshold_is_tarones_rule_applied_to_everything(case, options):
    options = dict(options, grid_step=None)
    matrix, y, strata = case
    twin = naive.mine(matrix.tolist(), y.tolist(), strata.tolist(), **options)
    minima = [h["psi"] for h in twin["hypotheses"]]
    _, outcome = mine(matrix, y, strata, **options)
    if not minima:
        assert_empty(outcome, options["alpha"])
        return
    selection = select(minima, tarone(options["alpha"]))
    assert outcome.n_testable == selection.n_kept
    assert outcome.corrected_threshold == pytest.approx(selection.threshold, rel=1e-12)
    assert outcome.testability_threshold == pytest.approx(
        selection.last_kept, rel=1e-9, nan_ok=True
    )


@theorem
@given(strategies.mining_cases(), any_options)
def test_guarantee_holds_by_construction(case, options):
    # Everything rejected is testable, and m(delta*) tests share alpha.
    matrix, y, strata = case
    _, outcome = mine(matrix, y, strata, **options)
    m = outcome.n_testable
    assert outcome.corrected_threshold * max(1, m) <= options["alpha"] * (1 + 1e-12)
    if m:
        assert outcome.testability_threshold * m <= options["alpha"] * (1 + 2e-9)
        assert outcome.testability_threshold <= outcome.corrected_threshold * (1 + 2e-9)
    assert len(outcome.closures) <= m
