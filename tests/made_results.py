"""Results made without a search: from the slow twin, or from itemsets that a test names.

So the tests of `PatternResults` and of the report do not depend on the search.
"""

import numpy as np

from sigmine.problem import build_problem
from sigmine.results import PatternResults
from sigmine.rowsets import count_itemsets
from sigmine.search.outcome import SearchOutcome
from sigmine.settings import SearchSettings
from sigmine.strata import encode_strata
from tests import naive

HOSTILE = "</td><script>alert('x')</script> | \"q\" & `code` *b* [l](javascript:x) \\ #é\u2028"


def make_problem(matrix, y, strata=None, *, item_names=None, **options):
    """Build a problem; items are named i0, i1, ... by default."""
    matrix = np.asarray(matrix, dtype=bool)
    names = item_names or [f"i{j}" for j in range(matrix.shape[1])]
    return build_problem(
        matrix,
        np.asarray(y, dtype=bool),
        encode_strata(strata, len(matrix), names=options.pop("strata_names", None)),
        item_names=names,
        **options,
    )


def closure_of(problem, items):
    """All items that hold wherever all of `items` do."""
    columns = problem.table.columns
    rows = np.bitwise_and.reduce(columns[list(items)], axis=0)
    return np.flatnonzero(~(rows & ~columns).any(axis=1)).astype(np.int64)


def make_outcome(problem, settings, itemsets, *, n_testable=100, sample=None, fraction=1.0):
    """Make an outcome with the given itemsets (of the problem's items) as significant patterns."""
    generators = [np.array(items, dtype=np.int64) for items in itemsets]
    support, support_cases = count_itemsets(problem.table, generators)
    if sample is None:
        sample = [np.array([j]) for j in range(len(problem.item_names))]
    sample_support, sample_cases = count_itemsets(problem.table, sample)
    return SearchOutcome(
        n_visited=2 * n_testable,
        n_testable=n_testable,
        testability_threshold=1e-4 if n_testable else float("nan"),
        corrected_threshold=settings.alpha / max(1, n_testable),
        smallest_minimum_pvalue=1e-12 if n_testable else 0.21,
        generators=generators,
        closures=[closure_of(problem, items) for items in itemsets],
        support=support,
        support_cases=support_cases,
        sample_support=sample_support if n_testable else sample_support[:0],
        sample_cases=sample_cases.sum(axis=1) if n_testable else np.zeros(0, dtype=np.int64),
        sample_fraction=fraction,
        seconds=0.25,
    )


def make_results(problem, itemsets, *, settings=None, **options):
    """Make a result with the given itemsets as significant patterns."""
    settings = settings or SearchSettings()
    outcome = make_outcome(problem, settings, itemsets, **options)
    return PatternResults.from_outcome(problem, settings, outcome)


def search_naively(matrix, y, strata, settings):
    """Search by brute force; return the result and the slow twin's answer."""
    answer = naive.mine(
        matrix.tolist(),
        y.tolist(),
        strata.tolist(),
        alpha=settings.alpha,
        method=settings.method,
        alternative=settings.alternative,
        two_sided=settings.two_sided,
        variance=settings.variance,
    )
    problem = make_problem(matrix, y, strata)
    place = {name: j for j, name in enumerate(problem.item_names)}

    def items(numbers):
        return np.array([place[f"i{j}"] for j in numbers], dtype=np.int64)

    def counts(hypotheses, key):
        table = [h[key] for h in hypotheses]
        return np.array(table, dtype=np.int64).reshape(len(table), len(answer["sizes"]))

    significant = answer["significant"]
    testable = [h for h in answer["hypotheses"] if h["testable"]]
    outcome = SearchOutcome(
        n_visited=len(answer["hypotheses"]),
        n_testable=answer["n_testable"],
        testability_threshold=answer["testability_threshold"],
        corrected_threshold=answer["corrected_threshold"],
        smallest_minimum_pvalue=answer["smallest_minimum_pvalue"],
        # The longest generator there is: the shortest ones must be found from it.
        generators=[items(h["closed"]) for h in significant],
        closures=[items(h["closed"]) for h in significant],
        support=counts(significant, "x"),
        support_cases=counts(significant, "a"),
        sample_support=counts(testable, "x"),
        sample_cases=counts(testable, "a").sum(axis=1),
        sample_fraction=1.0,
        seconds=0.0,
    )
    return PatternResults.from_outcome(problem, settings, outcome), answer


def planted(rng, n_rows=600, n_items=8, n_strata=4):
    """Return (matrix, y, strata) where items 0 and 1 together raise the case rate."""
    strata = rng.integers(0, n_strata, n_rows)
    matrix = rng.random((n_rows, n_items)) < 0.4
    rate = 0.15 + 0.3 * strata / n_strata + 0.5 * matrix[:, :2].all(axis=1)
    y = rng.random(n_rows) < rate
    return matrix, y, strata
