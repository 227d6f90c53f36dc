"""The cut of the search space into tasks: nothing is left out, nothing is done twice."""

from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine.search import tasks as module
from sigmine.search.layout import ONES
from sigmine.search.prepare import prepare
from sigmine.search.tasks import plan_tasks, predict_least, root_weights
from sigmine.settings import SearchSettings
from tests.searches import make_problem, mine

WORKERS = (1, 2, 3, 8, 64, 1000)


def of_supports(supports, n_rows):
    """What a plan is made from: the ones of every item, falling."""
    root_cand = np.zeros((len(supports), 3), dtype=np.int64)
    root_cand[:, ONES] = np.sort(np.array(supports, dtype=np.int64))[::-1]
    return SimpleNamespace(
        data=SimpleNamespace(root_cand=root_cand), table=SimpleNamespace(n_rows=n_rows)
    )


def assert_covers_once(plan, n_items):
    """Every root item whole, or all of its shares, once."""
    shares = defaultdict(Counter)
    for task in plan.tasks:
        assert 0 <= task.first < task.last <= n_items
        assert 0 <= task.share < task.n_shares
        assert task.n_shares == 1 or task.last == task.first + 1
        for item in range(task.first, task.last):
            shares[item][task.share, task.n_shares] += 1
    assert sorted(shares) == list(range(n_items))
    for found in shares.values():
        (n_shares,) = {n for _, n in found}
        assert found == {(share, n_shares): 1 for share in range(n_shares)}


def assert_weights(plan):
    assert plan.weights.shape == (len(plan.tasks),)
    assert np.isfinite(plan.weights).all()
    assert (plan.weights > 0).all()
    if len(plan.tasks):
        assert plan.weights.sum() == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("n_workers", WORKERS)
@pytest.mark.parametrize("n_items", [0, 1, 2, 3, 17, 1000])
@pytest.mark.parametrize("density", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_everything_is_searched_once(n_items, n_workers, density):
    rng = np.random.default_rng(n_items)
    n_rows = 1000
    supports = rng.binomial(n_rows - 2, density, n_items) + 1
    for least in (1, 5, 500):
        plan = plan_tasks(of_supports(supports, n_rows), n_workers, least)
        assert_covers_once(plan, n_items)
        assert_weights(plan)
        assert (n_items == 0) == (plan.tasks == [])


@given(
    supports=st.lists(st.integers(1, 49), max_size=120),
    n_workers=st.integers(0, 300),
    least=st.integers(0, 60),
    weights=st.lists(st.floats(1e-3, 1e6), min_size=120, max_size=120),
)
def test_everything_is_searched_once_whatever_the_weights(supports, n_workers, least, weights):
    prepared = of_supports(supports, 50)
    with pytest.MonkeyPatch.context() as patched:
        for given_weights in (None, np.array(weights[: len(supports)])):
            if given_weights is not None:
                patched.setattr(module, "root_weights", lambda *_, w=given_weights: w)
            plan = plan_tasks(prepared, n_workers, least)
            assert_covers_once(plan, len(supports))
            assert_weights(plan)


@pytest.mark.parametrize("n_workers", [1, 2, 16])
def test_no_task_is_much_heavier_than_the_goal(n_workers):
    # Two goals at most, or an item that cannot be split further: it has no more children, or 64
    # shares.
    rng = np.random.default_rng(2)
    for n_items, density in ((30, 0.5), (400, 0.2), (3000, 0.01)):
        prepared = of_supports(rng.binomial(400, density, n_items) + 1, 500)
        plan = plan_tasks(prepared, n_workers)
        goal = 1 / (48 * n_workers)
        assert len(plan.tasks) >= min(n_items, 48 * n_workers) / 2
        for task, weight in zip(plan.tasks, plan.weights, strict=True):
            assert weight < 2 * goal * (1 + 1e-9) or task.n_shares == min(64, task.first)


def test_weights_of_roots():
    rng = np.random.default_rng(3)
    for density in (0.001, 0.3, 0.7):
        supports = rng.binomial(998, density, 300) + 1
        weights = root_weights(of_supports(supports, 1000), 1)
        assert weights.shape == (300,)
        assert (weights >= 1).all()
        assert density < 0.1 or weights[-1] > weights[0]
    # The higher the bar, the less there is to do.
    more, less = (root_weights(of_supports(supports, 1000), least) for least in (1, 300))
    assert (less <= more).all()
    assert less.sum() < more.sum()
    assert root_weights(of_supports([], 10), 1).shape == (0,)
    # Nothing of 90 rows below items of 5: all of them weigh the same.
    assert root_weights(of_supports([5, 5, 5], 100), 90) == pytest.approx([1.0, 1.0, 1.0])
    # Items of equal support: item i has those before it to be combined with.
    equal = root_weights(of_supports([300] * 40, 1000), 5)
    assert (np.diff(equal) > 0).all()


@pytest.mark.parametrize(("density", "least"), [(0.5, 12), (0.3, 8), (0.12, 5)])
def test_weights_are_subtree_sizes_where_items_are_independent(density, least):
    # Brute force: all sets with at least that many rows, by their rarest item.
    rng = np.random.default_rng(5)
    n_rows, n_items = 400, 16
    matrix = rng.random((n_rows, n_items)) < density * rng.uniform(0.7, 1.3, n_items)
    matrix = matrix[:, np.argsort(-matrix.sum(axis=0), kind="stable")]
    sizes = np.zeros(n_items)

    def descend(rows, item, root):
        for other in range(item):
            both = rows & matrix[:, other]
            if both.sum() >= least:
                sizes[root] += 1
                descend(both, other, root)

    for item in range(n_items):
        sizes[item] += 1
        descend(matrix[:, item], item, item)
    weights = root_weights(of_supports(matrix.sum(axis=0), n_rows), least) - 1.0
    assert weights.sum() == pytest.approx(sizes.sum(), rel=0.35)
    assert np.corrcoef(weights, sizes)[0, 1] > 0.9


def problem_of(n_items, density, **options):
    rng = np.random.default_rng(8)
    matrix, y = rng.random((500, n_items)) < density, rng.random(500) < 0.5
    settings = SearchSettings(**options)
    prepared = prepare(make_problem(matrix, y, None).table, settings)
    outcome = mine(matrix, y, None, **options)[1]
    return prepared, settings, outcome


@pytest.mark.parametrize(
    "options", [{}, {"method": "asymptotic", "grid_step": 0.06}, {"alternative": "greater"}]
)
@pytest.mark.parametrize(("n_items", "density"), [(14, 0.5), (80, 0.1)])
def test_the_predicted_number_of_rows(n_items, density, options):
    # The fewest rows of what is testable in the end, known after the search only.
    prepared, settings, outcome = problem_of(n_items, density, **options)
    assert outcome.sample_fraction == 1.0
    found = int(outcome.sample_support.sum(axis=1).min())
    assert 0.6 * found - 1 <= predict_least(prepared, settings) <= 1.5 * found + 1


def test_the_predicted_number_of_rows_stays_in_range():
    prepared, _, _ = problem_of(3, 0.5)
    assert predict_least(prepared, SearchSettings(min_support=44)) == 44
    assert 1 <= predict_least(prepared, SearchSettings(alpha=1e-300)) <= 500
    assert predict_least(prepared, SearchSettings(alpha=0.999)) >= 1


@pytest.mark.parametrize("density", [0.9, 0.9999])
def test_weights_do_not_overflow(density):
    n_rows = 20_000
    supports = np.full(200_000, int(n_rows * density))
    weights = root_weights(of_supports(supports, n_rows), 1)
    assert np.isfinite(weights).all()
    assert np.isfinite(weights.sum())
    plan = plan_tasks(of_supports(supports, n_rows), 4)
    assert_weights(plan)
    assert_covers_once(plan, len(supports))


def test_the_plan_of_a_problem():
    rng = np.random.default_rng(4)
    matrix, y = rng.random((60, 25)) < 0.4, rng.random(60) < 0.5
    matrix[:, 5] = matrix[:, 9]  # one column of the search
    prepared = prepare(make_problem(matrix, y, None).table, SearchSettings())
    assert_covers_once(plan_tasks(prepared, 3), 24)


@pytest.mark.parametrize("share", [1, 2, 64])
def test_the_answer_does_not_depend_on_the_plan(share, monkeypatch):
    # The finest plan there is, and one task for all.
    rng = np.random.default_rng(6)
    case = rng.random((80, 9)) < 0.5, rng.random(80) < 0.5, rng.integers(0, 2, 80)
    one = mine(*case, alpha=0.3)[1]
    assert one.n_testable > 10
    monkeypatch.setattr(module, "_TASKS_PER_WORKER", 1e-6 if share == 1 else 1e6)
    monkeypatch.setattr(module, "_MOST_SHARES", share)
    plans = []
    make = module.plan_tasks

    def kept(*args, **kwargs):
        plans.append(make(*args, **kwargs))
        return plans[-1]

    monkeypatch.setattr("sigmine.search.driver.plan_tasks", kept)
    other = mine(*case, alpha=0.3, n_jobs=2)[1]
    assert len(plans[0].tasks) == 1 if share == 1 else len(plans[0].tasks) > 9
    assert other.n_testable == one.n_testable
    assert other.testability_threshold == one.testability_threshold
    assert [c.tolist() for c in other.closures] == [c.tolist() for c in one.closures]
    np.testing.assert_array_equal(other.support, one.support)
    np.testing.assert_array_equal(other.sample_support, one.sample_support)
