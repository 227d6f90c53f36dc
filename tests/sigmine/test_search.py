"""The search against the slow twin: thresholds, patterns, generators; ties; defects of others."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmine._jit import JIT_ENABLED
from tests import naive, strategies
from tests.searches import (
    OPTIONS,
    assert_empty,
    draw_limits,
    draw_table,
    mine,
    option_id,
    patterns,
)

N_TABLES = 24  # random tables for each of 16 tests
N_EXAMPLES = 40 if JIT_ENABLED else 25

# ---------------------------------------------------------------------------------------------
# Equal to the twin
# ---------------------------------------------------------------------------------------------


def assert_equal_to_twin(matrix, y, strata, *, keep=False, **options):
    """Compare a search with brute force; return the number of significant patterns."""
    expected = naive.mine(
        matrix.tolist(), y.tolist(), strata.tolist(), drop_uninformative=not keep, **options
    )
    problem, outcome = mine(matrix, y, strata, keep=keep, **options)
    assert problem.stratum_labels == tuple(str(code) for code in expected["stratum_codes"])
    assert tuple(problem.table.sizes) == expected["sizes"]
    assert tuple(problem.table.case_sizes) == expected["case_sizes"]
    assert outcome.n_testable == expected["n_testable"]
    if expected["n_testable"]:
        assert outcome.testability_threshold == pytest.approx(
            expected["testability_threshold"], rel=1e-9
        )
    else:
        assert math.isnan(outcome.testability_threshold)
    assert outcome.corrected_threshold == pytest.approx(expected["corrected_threshold"], rel=1e-12)
    assert outcome.smallest_minimum_pvalue == pytest.approx(
        expected["smallest_minimum_pvalue"], rel=1e-9, nan_ok=True
    )
    found = patterns(problem, outcome)
    labels = problem.stratum_labels
    assert found == {
        frozenset(map(str, h["closed"])): frozenset(zip(labels, h["x"], h["a"], strict=True))
        for h in expected["significant"]
    }
    assert_generators_are_right(matrix, problem, outcome, expected, options)
    # The order is that of the closed itemsets, whatever the search did.
    closures = [closure.tolist() for closure in outcome.closures]
    assert closures == sorted(closures)
    return len(expected["significant"])


def assert_generators_are_right(matrix, problem, outcome, expected, options):
    by_closure = {h["closed"]: h for h in expected["significant"]}
    max_length = options.get("max_length")
    searched = problem.table.row_order
    for generator, closure in zip(outcome.generators, outcome.closures, strict=True):
        items = [int(problem.item_names[j]) for j in generator]
        closed = tuple(int(problem.item_names[j]) for j in closure)
        hypothesis = by_closure[closed]
        rows = np.flatnonzero(matrix[:, items].all(axis=1))
        assert set(rows) & set(searched) == hypothesis["rows"]
        assert set(items) <= set(closed)
        assert items == sorted(set(items))
        if max_length is not None:
            assert len(items) <= max_length
            assert tuple(items) in hypothesis["generators"]  # one of the shortest


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_equal_to_brute_force(options):
    rng = np.random.default_rng([OPTIONS.index(options), 2016])
    n_significant = 0
    for _ in range(N_TABLES):
        matrix, y, strata = draw_table(rng)
        if options["alternative"] == "less":
            y = ~y  # the planted carriers have more cases
        keep = bool(rng.random() < 0.3)
        n_significant += assert_equal_to_twin(
            matrix, y, strata, keep=keep, **options, **draw_limits(rng)
        )
    assert n_significant >= 2  # the comparison says something


@pytest.mark.parametrize("max_length", [None, 1, 2, 3])
@pytest.mark.parametrize("min_support", [1, 4])
def test_limits_work_inside_the_bounds(max_length, min_support):
    # The limits decide what is counted, so the threshold must follow them.
    rng = np.random.default_rng(17)
    counts = []
    for method in ("exact", "asymptotic"):
        case = draw_table(rng, n_rows=(40, 41), n_items=(7, 8), n_strata=(2, 3))
        options = {"method": method, "max_length": max_length, "min_support": min_support}
        assert_equal_to_twin(*case, **options)
        counts.append(mine(*case, **options)[1].n_testable)
        free = mine(*case, method=method)[1].n_testable
        assert counts[-1] <= free
    assert max(counts) > 0


@pytest.mark.parametrize("method", ["exact", "asymptotic"])
def test_strata_over_several_words_and_many_in_one(method):
    rng = np.random.default_rng(3)
    for n_rows, n_strata in ((70, 1), (128, 2), (129, 3), (200, 2)):
        matrix, y, _ = strategies.random_case(rng, n_rows, 5, 1, 0.4, 0.8, corners=False)
        strata = rng.integers(0, n_strata, n_rows)
        assert_equal_to_twin(matrix, y, strata, method=method)
    pairs = np.repeat(np.arange(80), 2)  # 80 strata of one case and one control
    y = np.tile([True, False], 80)
    matrix = rng.random((160, 5)) < np.where(y, 0.7, 0.3)[:, None]
    matrix[:, 0] = y & (pairs % 8 != 0)
    assert assert_equal_to_twin(matrix, y, pairs, method=method) > 0


@pytest.mark.parametrize("method", ["exact", "asymptotic"])
def test_dense_and_sparse_extremes(method):
    rng = np.random.default_rng(5)
    for density in (0.02, 0.05, 0.95, 0.98):
        matrix, y, strata = strategies.random_case(rng, 60, 8, 2, density, 0.9, corners=False)
        assert_equal_to_twin(matrix, y, strata, method=method, alpha=0.5)


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
@settings(max_examples=N_EXAMPLES)
@given(
    case=strategies.mining_cases(),
    alpha=st.sampled_from([0.05, 0.3, 0.9]),
    max_length=st.sampled_from([None, 1, 2]),
)
def test_equal_to_brute_force_on_any_table(options, case, alpha, max_length):
    assert_equal_to_twin(*case, **options, alpha=alpha, max_length=max_length)


@pytest.mark.parametrize("keep", [False, True])
def test_uninformative_strata(keep):
    rng = np.random.default_rng(8)
    matrix, y, strata = strategies.random_case(rng, 50, 6, 3, 0.4, 0.9, corners=False)
    y[strata == 1] = True
    assert y[strata == 0].any()
    assert not y[strata == 0].all()
    options = {"method": "asymptotic", "variance": "cochran", "grid_step": 0.06, "alpha": 0.2}
    assert_equal_to_twin(matrix, y, strata, keep=keep, **options)
    problem, outcome = mine(matrix, y, strata, keep=keep, **options)
    assert problem.table.n_strata == (3 if keep else 2)
    assert [s.informative for s in problem.strata_summary] == [True, False, True]
    assert outcome.support.shape[1] == problem.table.n_strata


def test_keeping_uninformative_strata_counts_more_hypotheses():
    # Rows of a one-class stratum tell itemsets apart that are one hypothesis without it.
    rng = np.random.default_rng(21)
    matrix = rng.random((60, 6)) < 0.5
    strata = np.repeat([0, 1], 30)
    y = np.where(strata == 0, rng.random(60) < 0.5, True)
    y[:2] = (True, False)
    matrix[strata == 0, 1] = matrix[strata == 0, 0]
    options = {"method": "asymptotic", "variance": "cochran", "grid_step": 0.06}
    kept = mine(matrix, y, strata, keep=True, **options)[1]
    dropped = mine(matrix, y, strata, **options)[1]
    assert kept.n_testable > dropped.n_testable
    for keep in (False, True):
        assert_equal_to_twin(matrix, y, strata, keep=keep, **options)


# ---------------------------------------------------------------------------------------------
# Nothing to find, ties, equality
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_no_items_at_all(n_jobs):
    y = np.arange(8) % 2 == 0
    constant = np.ones((8, 2), dtype=bool)
    constant[:, 1] = False
    for matrix in (np.zeros((8, 0), dtype=bool), constant):
        problem, outcome = mine(matrix, y, None, n_jobs=n_jobs)
        assert problem.item_names == ()
        assert_empty(outcome)
        assert outcome.n_visited == 0
        assert math.isnan(outcome.smallest_minimum_pvalue)
        assert outcome.support.shape == (0, 1)


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_nothing_testable(options):
    # Four rows: the smallest attainable p-value is far above the level.
    matrix = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=bool)
    _, outcome = mine(matrix, [1, 1, 0, 0], None, alpha=0.01, **options)
    assert_empty(outcome, alpha=0.01)
    assert outcome.smallest_minimum_pvalue > 0.01
    assert outcome.sample_support.shape == (0, 1)


def test_min_support_above_every_support():
    matrix = np.eye(12, dtype=bool)[:, :3]
    _, outcome = mine(matrix, np.arange(12) < 6, None, min_support=2)
    assert_empty(outcome)


def test_smallest_minimum_pvalue_does_not_count_what_has_too_few_rows():
    # Item 0 holds in 4 rows and could reach 2 / C(12, 4); with min_support=5 only item 1 counts.
    matrix = np.zeros((12, 2), dtype=bool)
    matrix[:4, 0] = True
    matrix[:11, 1] = True
    y = np.arange(12) < 4
    _, outcome = mine(matrix, y, None, min_support=5, alternative="greater")
    assert_empty(outcome)
    assert outcome.smallest_minimum_pvalue == pytest.approx(2 / 3)  # C(11, 4) / C(12, 4)


def test_smallest_minimum_pvalue_where_nothing_is_testable():
    # Each item alone can reach C(4, 2) / C(6, 2) = 0.4, the two together 1 / C(6, 2) = 0.067:
    # not testable either, but that is the smallest p-value that these data can give.
    matrix = np.array([[1, 1], [1, 1], [1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
    y = np.array([1, 1, 0, 0, 0, 0], dtype=bool)
    _, outcome = mine(matrix, y, None, alternative="greater")
    assert_empty(outcome)
    assert outcome.smallest_minimum_pvalue == pytest.approx(1 / 15)


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_an_item_that_says_nothing_is_not_testable_at_any_level(options):
    # All rows of one stratum and none of the other: p = 1 whatever the outcome.
    strata = np.repeat([0, 1], 6)
    y = np.arange(12) % 2 == 0
    _, outcome = mine((strata == 0)[:, None], y, strata, alpha=0.9, **options)
    assert_empty(outcome, alpha=0.9)
    assert outcome.smallest_minimum_pvalue == 1.0


def blocks(n_strata, size=10):
    """One case in every stratum, and an item that holds for exactly the cases."""
    strata = np.repeat(np.arange(n_strata), size)
    y = np.arange(n_strata * size) % size == 0
    return y[:, None].copy(), y, strata


def test_level_is_reached_with_equality():
    # psi = p = 1 / 20 = alpha and one hypothesis: delta m(delta) = alpha exactly.
    matrix, y, strata = blocks(1, size=20)
    _, outcome = mine(matrix, y, strata, alternative="greater")
    assert outcome.n_testable == 1
    assert outcome.testability_threshold == pytest.approx(0.05, rel=1e-12)
    assert len(outcome.closures) == 1
    # Two hypotheses, psi = 1 / 40 each: 2 / 40 = alpha.
    matrix = np.zeros((40, 2), dtype=bool)
    matrix[0, 0] = matrix[1, 1] = True
    _, outcome = mine(matrix, np.arange(40) == 0, None, alternative="greater")
    assert outcome.n_testable == 2
    assert outcome.corrected_threshold == 0.025
    assert [c.tolist() for c in outcome.closures] == [[0]]  # p = 1 / 40 = alpha / m


@pytest.mark.parametrize(
    ("n_strata", "grid_step", "alpha"),
    [
        (3, 0.06, 0.0011),  # psi = 1e-3 = 10 ** (-0.06 * 50)
        (3, 0.06, 0.001),  # and delta m(delta) = alpha there
        (1, 1.0, 0.1),  # psi = 0.1 = 10 ** -1
        (2, 0.5, 0.0101),
        (2, 0.1, 0.01),
    ],
)
def test_minimum_pvalue_on_the_grid(n_strata, grid_step, alpha):
    matrix, y, strata = blocks(n_strata)
    options = {"alternative": "greater", "grid_step": grid_step, "alpha": alpha}
    assert assert_equal_to_twin(matrix, y, strata, **options) == 1


def test_values_that_differ_by_rounding_are_one():
    # The strata are the same but for their order, so psi is the same product in another order:
    # 24 hypotheses tied at one value, whatever the last bits say.
    sizes = [7, 9, 11, 13]
    strata = np.repeat(np.arange(4), sizes)
    y = np.concatenate([np.arange(n) < 3 for n in sizes])
    rng = np.random.default_rng(2)
    for method in ("exact", "asymptotic"):
        columns = []
        for _ in range(7):
            column = np.zeros(len(y), dtype=bool)
            for k in range(4):
                rows = np.flatnonzero(strata == k)
                column[rng.choice(rows, 3, replace=False)] = True
            columns.append(column)
        matrix = np.array(columns).T
        for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
            assert_equal_to_twin(matrix, y, np.array(order)[strata], method=method, alpha=0.3)


def test_perfect_association_far_below_the_smallest_double():
    y = np.arange(4000) % 2 == 0
    for method in ("exact", "asymptotic"):
        _, outcome = mine(y[:, None], y, None, method=method, grid_step=None)
        assert outcome.n_testable == 1
        assert len(outcome.closures) == 1
        assert outcome.smallest_minimum_pvalue == 0.0  # underflow: 1e-1000
        _, outcome = mine(y[:, None], y, None, method=method, grid_step=0.06)
        assert outcome.n_testable == 1


# ---------------------------------------------------------------------------------------------
# Nothing is lost, nothing is printed that may not be: two defects of the original programs
# ---------------------------------------------------------------------------------------------


def post_order(columns):
    """Yield closed row sets as the original visits them: after all that lies below.

    Items by falling support; candidate k is extended by those before it and is not closed if one
    behind it, at this level or above, covers its rows.
    """

    def descend(candidates, behind):
        for k, rows in enumerate(candidates):
            later = behind + candidates[k + 1 :]
            if any(rows <= other for other in later):
                continue
            children = [rows & other for other in candidates[:k]]
            yield from descend([c for c in children if c and c != rows], later)
            yield rows

    distinct = sorted(set(columns), key=lambda rows: (-len(rows), columns.index(rows)))
    yield from descend(distinct, [])


def greedy_search(visits, alpha, step):
    """Keep significant patterns as the original does, while the threshold still moves.

    `visits` gives (name, psi, p). A pattern is written if p <= alpha / m as it stands at that
    moment; at the end what was written is filtered with the final alpha / m, and not with psi.
    Returns (delta_j, m, what is reported).
    """
    j, m, frequency, tentative, written = 1, 0, Counter(), alpha, []
    for name, psi, p in visits:
        if psi > 10 ** (-step * j):
            continue
        frequency[math.floor(-math.log10(psi) / step)] += 1
        m += 1
        while m * 10 ** (-step * j) > alpha:
            m -= frequency[j]
            j += 1
            tentative = alpha / m if m else math.inf
        if psi <= 10 ** (-step * j) and p <= tentative:
            written.append((name, p))
    return 10 ** (-step * j), m, {name for name, p in written if p <= alpha / max(1, m)}


def both_ways(columns, y):
    """Return the result of the greedy way, ours, and the hypotheses by their rows."""
    matrix = np.array([[value == "1" for value in column] for column in columns]).T
    y = np.array([value == "1" for value in y])
    options = {"method": "asymptotic", "variance": "cochran", "grid_step": 0.06}
    twin = naive.mine(matrix.tolist(), y.tolist(), None, **options)
    by_rows = {h["rows"]: h for h in twin["hypotheses"]}
    visits = list(post_order([frozenset(np.flatnonzero(column)) for column in matrix.T]))
    assert set(visits) == set(by_rows)
    greedy = greedy_search(
        [(by_rows[r]["closed"], by_rows[r]["psi"], by_rows[r]["p"]) for r in visits], 0.05, 0.06
    )
    ours = mine(matrix, y, None, **options)
    exact = mine(matrix, y, None, **{**options, "grid_step": None})
    return greedy, ours, exact, twin


def reported(result):
    return {tuple(sorted(int(name) for name in closed)) for closed in patterns(*result)}


def test_a_pattern_that_the_greedy_way_loses_is_kept():
    # {1} has p = 0.0209. When it is met, three patterns are testable and alpha / 3 = 0.0167; then
    # the threshold drops, one of the three is not testable any more, and alpha / 2 = 0.025.
    columns = ["000100100100", "101100100110", "101010110101", "001000101010"]
    (delta, m, lost), ours, exact, twin = both_ways(columns, "100100110110")
    assert (m, lost) == (2, set())
    assert ours[1].n_testable == exact[1].n_testable == 2
    assert ours[1].testability_threshold == pytest.approx(delta)
    assert reported(ours) == reported(exact) == {(1,)}
    (kept,) = twin["significant"]
    assert 0.05 / 3 < kept["p"] <= 0.05 / 2


def test_a_pattern_that_was_not_testable_is_not_reported():
    # {0, 1} has psi = p = 0.0195: above delta_j = 0.0182, below alpha / m = 0.025. Reporting
    # it means testing everything with psi <= 0.025 at 0.025: 4 hypotheses, 0.1 > alpha.
    columns = ["101100101000", "110010000000", "010000010100"]
    (delta, m, printed), ours, exact, twin = both_ways(columns, "100010000000")
    threshold = 0.05 / m
    (extra,) = [h for h in twin["hypotheses"] if h["closed"] == (0, 1)]
    assert delta < extra["psi"] <= threshold
    assert extra["p"] <= threshold
    assert sum(h["psi"] <= threshold for h in twin["hypotheses"]) * threshold > 0.05
    assert printed == {(1,), (0, 1)}
    assert ours[1].n_testable == m
    assert reported(ours) == reported(exact) == {(1,)}
    assert sum(h["psi"] <= delta for h in twin["hypotheses"]) * delta <= 0.05
