"""Searches of small tables, their results in comparable form, and the options to try them with."""

import dataclasses
import math

import numpy as np
import pytest

from sigmine.problem import build_problem
from sigmine.search import search_patterns
from sigmine.settings import SearchSettings
from sigmine.strata import encode_strata
from tests import strategies

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
    outcome = search_patterns(problem, SearchSettings(**options), n_jobs=n_jobs, progress=progress)
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


def assert_outcomes_are_identical(one, two, but=("seconds",)):
    for field in dataclasses.fields(one):
        if field.name in but:
            continue
        left, right = getattr(one, field.name), getattr(two, field.name)
        if field.name in ("generators", "closures"):
            assert [v.tolist() for v in left] == [v.tolist() for v in right], field.name
        else:
            np.testing.assert_array_equal(left, right, err_msg=field.name)


def assert_empty(outcome, alpha=0.05):
    assert outcome.n_testable == 0
    assert math.isnan(outcome.testability_threshold)
    assert outcome.corrected_threshold == alpha
    assert len(outcome.generators) == len(outcome.closures) == 0
    assert outcome.support.shape[0] == outcome.support_cases.shape[0] == 0


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
