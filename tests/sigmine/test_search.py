"""The search against the slow twin, its symmetries, its threads and its interruption."""

import dataclasses
import math
import signal
import threading
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmine._jit import JIT_ENABLED
from sigmine.exceptions import SearchInterrupted
from sigmine.problem import build_problem
from sigmine.ranking import select, tarone
from sigmine.search import driver, search_patterns, worker
from sigmine.settings import SearchSettings
from sigmine.strata import encode_strata
from tests import naive, strategies

N_TABLES = 24 if JIT_ENABLED else 16  # random tables for each of 16 tests
N_EXAMPLES = 40 if JIT_ENABLED else 25

OPTIONS = [
    {
        "method": method,
        "alternative": alternative,
        "two_sided": two_sided,
        "variance": variance,
        "grid_step": grid_step,
    }
    for method, alternative, two_sided, variance in strategies.METHOD_SETTINGS
    for grid_step in (None, 0.06)
]


def option_id(options):
    words = [options["method"], options["alternative"]]
    words.append(options["two_sided"] if options["method"] == "exact" else options["variance"])
    return "-".join([*words, "grid" if options["grid_step"] else "exact threshold"])


def make_problem(matrix, y, strata, *, keep=False, names=None):
    matrix = np.asarray(matrix, dtype=bool)
    return build_problem(
        matrix,
        np.asarray(y, dtype=bool),
        encode_strata(strata, len(matrix)),
        item_names=[str(j) for j in range(matrix.shape[1])] if names is None else names,
        keep_uninformative=keep,
    )


def mine(matrix, y, strata, *, keep=False, names=None, n_jobs=None, progress=None, **options):
    problem = make_problem(matrix, y, strata, keep=keep, names=names)
    outcome = search_patterns(
        problem, SearchSettings(**options), n_jobs=n_jobs, progress=progress
    )
    return problem, outcome


def patterns(problem, outcome):
    """Return {names of the closed itemset: {(stratum, carriers, carrier cases), ...}}."""
    found = {
        frozenset(problem.item_names[j] for j in closure): frozenset(
            zip(problem.stratum_labels, x, a, strict=True)
        )
        for closure, x, a in zip(
            outcome.closures, outcome.support.tolist(), outcome.support_cases.tolist(), strict=True
        )
    }
    assert len(found) == len(outcome.closures)  # every closed itemset once
    return found


def assert_same_result(first, second):
    """Compare two (problem, outcome) in what does not depend on the order of anything."""
    one, two = first[1], second[1]
    assert one.n_testable == two.n_testable
    for name in ("testability_threshold", "corrected_threshold"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-9, nan_ok=True)
    assert patterns(*first) == patterns(*second)


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
    assert outcome.corrected_threshold == pytest.approx(
        expected["corrected_threshold"], rel=1e-12
    )
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


def draw_table(rng, *, n_rows=(15, 61), n_items=(3, 9), n_strata=(1, 6)):
    """Return (matrix, y, strata) with all kinds of corners."""
    n, p, k = (int(rng.integers(*limits)) for limits in (n_rows, n_items, n_strata))
    matrix, y, strata = strategies.random_case(
        rng, n, p, k, density=rng.uniform(0.15, 0.85), effect=rng.uniform(0.0, 1.0)
    )
    corner = rng.integers(0, 8)
    if corner == 0:
        matrix[:, 1] = ~matrix[:, 0]  # complement
    elif corner == 1:  # tied supports in every stratum: rows of equal stratum and class swapped
        for value in np.unique(strata):
            rows = np.flatnonzero(strata == value)
            matrix[rows, 1] = rng.permutation(matrix[rows, 0])
    elif corner == 2:
        matrix[:, 2] = matrix[:, 0] & matrix[:, 1]  # in the closure of the two
    elif corner == 3:
        strata[-1] = 9  # a stratum of one row
    elif corner == 4:
        matrix[rng.random(n) < 0.5] = False  # rows without items
    return matrix, y, strata * 3 + 1  # codes with gaps


def draw_limits(rng):
    return {
        "alpha": float(rng.choice([0.05, 0.05, 0.2, 0.5, 0.01])),
        "min_support": int(rng.choice([1, 1, 1, 2, 5])),
        "max_length": [None, None, 1, 2, 3][rng.integers(5)],
    }


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


def assert_empty(outcome, alpha=0.05):
    assert outcome.n_testable == 0
    assert math.isnan(outcome.testability_threshold)
    assert outcome.corrected_threshold == alpha
    assert outcome.generators == outcome.closures == []
    assert outcome.support.shape[0] == outcome.support_cases.shape[0] == 0


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
    problem, outcome = mine(matrix, [1, 1, 0, 0], None, alpha=0.01, **options)
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


# ---------------------------------------------------------------------------------------------
# Theorems: what the answer does not depend on
# ---------------------------------------------------------------------------------------------

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


def assert_outcomes_are_identical(one, two):
    for field in dataclasses.fields(one):
        if field.name == "seconds":
            continue
        left, right = getattr(one, field.name), getattr(two, field.name)
        if isinstance(left, list):
            assert [v.tolist() for v in left] == [v.tolist() for v in right], field.name
        else:
            np.testing.assert_array_equal(left, right, err_msg=field.name)


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


# ---------------------------------------------------------------------------------------------
# Buffers, sample, threads
# ---------------------------------------------------------------------------------------------


def rich_case(n_items, n_rows=200, seed=1):
    """Every combination of the items is associated: 2^n_items - 1 hypotheses, most significant."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % 2 == 0
    matrix = rng.random((n_rows, n_items)) < np.where(y, 0.93, 0.3)[:, None]
    return matrix, y, np.zeros(n_rows, dtype=np.int64)


@pytest.mark.parametrize(
    "options",
    [{"method": "asymptotic", "alternative": "greater"}, {"grid_step": 0.06}, {"max_length": 4}],
)
def test_length_of_buffers_and_stack_does_not_matter(options, monkeypatch):
    # Shortest possible: the kernel asks for a longer stack at every turn, and its buffer is
    # emptied after a few hundred hypotheses, or a few items.
    case = rich_case(10 if JIT_ENABLED else 8)
    whole = mine(*case, **options)[1]
    assert len(whole.closures) > (256 if JIT_ENABLED else 100)
    make_worker, new_buffer = worker.Worker.__init__, worker.new_buffer
    calls = Counter()

    def with_shortest_stack(self, *args):
        make_worker(self, *args)
        long = self.stack
        self.stack = worker._new_stack(long.words.shape[1], len(long.counts), 1, 1)
        self.stack.cursor[:] = long.cursor

    def buffer_of(rows, items):
        def short_buffer(n_strata):
            buffer = new_buffer(n_strata)
            return buffer._replace(
                evidence=buffer.evidence[:rows].copy(),
                support=buffer.support[:rows].copy(),
                info=buffer.info[:rows].copy(),
                items=buffer.items[:items].copy(),
            )

        return short_buffer

    kernel = worker.search_subtrees

    def counted(*args):
        calls["kernel"] += 1
        if calls["kernel"] > 20_000:
            raise AssertionError("the kernel is called again and again without getting on")
        return kernel(*args)

    monkeypatch.setattr(worker.Worker, "__init__", with_shortest_stack)
    monkeypatch.setattr(worker, "search_subtrees", counted)
    for rows, items in ((1, 16), (7, 1000), (1000, 1), (1000, 11)):
        monkeypatch.setattr(worker, "new_buffer", buffer_of(rows, items))
        for n_jobs in (1, 2):
            calls.clear()
            assert_outcomes_are_identical(whole, mine(*case, n_jobs=n_jobs, **options)[1])


@pytest.mark.skipif(not JIT_ENABLED, reason="131,071 nodes")
@pytest.mark.parametrize("grid_step", [None, 0.06])
def test_deep_lattice_with_known_counts(grid_step):
    # Item j holds in every row but row j, so s items together hold in n - s rows: 2^17 - 1 closed
    # itemsets, C(17, s) of them with the minimum p-value 2 C(20, s) / C(40, s).
    n_items, n_rows, n_cases, alpha = 17, 40, 20, 0.4
    matrix = np.ones((n_rows, n_items), dtype=bool)
    matrix[np.arange(n_items), np.arange(n_items)] = False
    y = np.arange(n_rows) >= n_cases  # the missing rows are controls
    problem, outcome = mine(matrix, y, None, alpha=alpha, grid_step=grid_step)
    psi = {
        s: min(1.0, 2 * math.comb(n_cases, s) / math.comb(n_rows, s)) for s in range(1, n_items + 1)
    }

    def count(delta):
        return sum(math.comb(n_items, s) for s, value in psi.items() if value <= delta * (1 + 1e-9))

    if grid_step is None:
        delta = max(value for value in psi.values() if value * count(value) <= alpha)
    else:
        grid = (10 ** (-grid_step * j) for j in range(1, 501))
        delta = next(value for value in grid if value * count(value) <= alpha)
    assert outcome.n_testable == count(delta) > 1000
    assert outcome.testability_threshold == pytest.approx(delta, rel=1e-9)
    # All missing rows are controls: p = psi for every pattern.
    threshold = alpha / count(delta)
    assert len(outcome.closures) == sum(
        math.comb(n_items, s) for s, v in psi.items() if v <= min(threshold, delta) * (1 + 1e-9)
    )
    assert max(map(len, outcome.generators)) == n_items
    lengths = Counter(map(len, outcome.closures))
    assert (outcome.support[:, 0] == [n_rows - len(c) for c in outcome.closures]).all()
    assert all(count == math.comb(n_items, s) for s, count in lengths.items())


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_the_sample_is_all_testable_patterns_where_they_are_few(options):
    rng = np.random.default_rng(41)
    for _ in range(10 if JIT_ENABLED else 4):
        case = draw_table(rng)
        limits = draw_limits(rng)
        twin = naive.mine(*(part.tolist() for part in case), **options, **limits)
        _, outcome = mine(*case, **options, **limits)
        assert outcome.sample_fraction == 1.0
        found = Counter(
            zip(
                map(tuple, outcome.sample_support.tolist()),
                outcome.sample_cases.tolist(),
                strict=True,
            )
        )
        testable = [h for h in twin["hypotheses"] if h["testable"]]
        assert found == Counter((h["x"], sum(h["a"])) for h in testable)


def test_a_part_is_sampled_where_there_are_many(monkeypatch):
    case = rich_case(9)
    whole = mine(*case)[1]
    monkeypatch.setattr(driver, "_SAMPLE_SIZE", 50)
    part = mine(*case)[1]
    assert whole.sample_fraction == 1.0
    assert len(whole.sample_cases) >= whole.n_testable > 300
    stride = round(1 / part.sample_fraction)
    assert stride == math.ceil(whole.n_testable / 50)
    # A binomial count with mean n / stride: six standard deviations on either side.
    mean = len(whole.sample_cases) / stride
    assert abs(len(part.sample_cases) - mean) < 6 * math.sqrt(mean)

    def rows_of(outcome):
        return Counter(
            (*x, a) for x, a in zip(outcome.sample_support.tolist(), outcome.sample_cases.tolist())
        )

    assert rows_of(part) <= rows_of(whole)
    assert_outcomes_are_identical(part, mine(*case, n_jobs=2)[1])
    # Which ones are drawn depends on the data alone, not on the threshold or the order of items.
    shuffled = mine(case[0][:, ::-1], *case[1:])[1]
    assert rows_of(shuffled) == rows_of(part)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "asymptotic", "variance": "cochran", "grid_step": 0.06},
        {"max_length": 2, "alternative": "greater"},
        {"method": "asymptotic", "min_support": 5, "alpha": 0.3},
    ],
)
def test_number_of_workers_does_not_matter(options):
    rng = np.random.default_rng(12)
    shapes = [(120, 14, 3, 0.4), (90, 150, 2, 0.06), (40, 1, 2, 0.5)]
    if not JIT_ENABLED:
        shapes = [(60, 9, 3, 0.4), (60, 70, 2, 0.04), (40, 1, 2, 0.5)]
    for n, p, k, density in shapes:
        case = strategies.random_case(rng, n, p, k, density, 0.8, corners=False)
        alone = mine(*case, n_jobs=1, **options)[1]
        for n_jobs in (2, 3):
            assert_outcomes_are_identical(alone, mine(*case, n_jobs=n_jobs, **options)[1])


def big_case():
    """A search of many seconds, however fast the machine."""
    rng = np.random.default_rng(6)
    n, p = (1000, 60) if JIT_ENABLED else (300, 40)
    return rng.random((n, p)) < 0.5, rng.random(n) < 0.5, rng.integers(0, 4, n)


def search_threads():
    return [thread for thread in threading.enumerate() if "sigmine" in thread.name]


@pytest.mark.parametrize("how", ["exception", "signal"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_interrupt_ends_the_search_within_a_second(how, n_jobs):
    mine(*(part[:100] for part in big_case()), alpha=1e-6, n_jobs=n_jobs)  # compiled
    called = []

    def progress(state):
        if state.visited > 0 and not called:
            called.append(time.perf_counter())
            if how == "signal":
                signal.raise_signal(signal.SIGINT)
            else:
                raise KeyboardInterrupt

    with pytest.raises(SearchInterrupted, match="interrupted before its end"):
        mine(*big_case(), n_jobs=n_jobs, progress=progress)
    assert time.perf_counter() - called[0] < 1.0
    assert not search_threads()


def test_an_error_in_the_progress_callback_ends_the_search():
    mine(*(part[:100] for part in big_case()), alpha=1e-6)  # compiled

    def progress(state):
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError, match="no terminal"):
        mine(*big_case(), progress=progress)
    deadline = time.monotonic() + 2.0
    while search_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not search_threads(), "the search goes on although nobody waits for it"


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("grid_step", [None, 0.06])
def test_progress_is_sane_and_monotone(n_jobs, grid_step):
    rng = np.random.default_rng(23)
    n, p = (500, 24) if JIT_ENABLED else (200, 13)
    case = rng.random((n, p)) < 0.5, rng.random(n) < 0.5, rng.integers(0, 3, n)
    states = []
    _, outcome = mine(
        *case, n_jobs=n_jobs, progress=states.append, grid_step=grid_step, method="asymptotic"
    )
    stages = [state.stage for state in states]
    assert stages == sorted(stages, reverse=True)  # "threshold" before "collect"
    assert set(stages) == {"threshold", "collect"}
    for before, after in zip(states, states[1:], strict=False):
        assert after.visited >= before.visited
        assert after.seconds >= before.seconds
        assert after.threshold <= before.threshold * (1 + 1e-12)
        if after.stage == before.stage:
            assert after.fraction_done >= before.fraction_done
    for state in states:
        assert 0.0 <= state.fraction_done <= 1.0
        assert 0 <= state.testable
        assert 0.0 < state.threshold <= 1.0
    last = states[-1]
    assert last.seconds <= outcome.seconds
    assert last.visited >= outcome.n_visited > 0
    assert last.threshold >= outcome.testability_threshold * (1 - 1e-9)
    assert last.testable >= outcome.n_testable > 0
    if grid_step:
        assert last.threshold == pytest.approx(outcome.testability_threshold, rel=1e-9)
        assert last.testable == outcome.n_testable
    assert [s.fraction_done for s in states if s.stage == "threshold"][-1] > 0.5
