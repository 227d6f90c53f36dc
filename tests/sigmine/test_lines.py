"""Lines beyond the tables: as those that are kept, in the kernel and outside, and in a search."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sigmine._jit import JIT_ENABLED
from sigmine.association import cmh_exact, evidence
from sigmine.association.evidence import build_tables, minimum_evidences, own_tables
from sigmine.association.lines import STEP, far_lines, find_far
from sigmine.association.scores import DOWN_BOUND, KIND, N_COLUMNS, UP_BOUND
from sigmine.problem import build_problem
from sigmine.search import search_patterns
from sigmine.search.prepare import evidence_limit
from sigmine.settings import SearchSettings
from sigmine.strata import encode_strata

SIZES, CASES = np.array([200, 97, 3, 150, 80]), np.array([60, 90, 1, 0, 80])
SETTINGS = [
    {"method": method, "alternative": alternative}
    for method in ("exact", "asymptotic")
    for alternative in ("two-sided", "greater", "less")
]
every_setting = pytest.mark.parametrize("options", SETTINGS, ids=lambda o: "-".join(o.values()))
every_fine = pytest.mark.parametrize("fine", [2, 40, 97, 150])


def missing(fine):
    """Return stratum and carriers of every line beyond the tables."""
    lines = [(k, x) for k, n in enumerate(SIZES.tolist()) for x in range(fine + 1, n + 1)]
    return np.array(lines, dtype=np.int64).T


@every_fine
@every_setting
def test_missing_lines_are_those_of_whole_tables(options, fine):
    settings = SearchSettings(**options)
    whole = build_tables(SIZES, CASES, settings)
    short = build_tables(SIZES, CASES, settings, fine=fine)
    assert whole.is_whole
    assert not short.is_whole
    kind = int(whole.choice[KIND])
    stratum, x = missing(fine)
    lines = whole.offset[stratum] + x
    parts, corners = far_lines(x, stratum, short.far, fine, kind)
    expected = whole.parts.reshape(-1, N_COLUMNS)[lines]
    np.testing.assert_allclose(parts, expected, rtol=1e-12, atol=1e-11)
    if options["method"] == "asymptotic":
        expected = whole.corners.reshape(-1, N_COLUMNS)[lines]
        np.testing.assert_allclose(corners, expected, rtol=1e-12, atol=1e-11)
    own, own_corners = own_tables(short)
    assert not np.shares_memory(own, short.parts)
    for i in range(0, len(x), 1 if JIT_ENABLED else 7):
        place = find_far(
            x=x[i],
            stratum=stratum[i],
            spare=i % len(SIZES),
            fine=fine,
            kind=kind,
            far=short.far,
            parts=own,
            corners=own_corners,
        )
        assert place == len(own) - N_COLUMNS * (i % len(SIZES) + 1)
        here = slice(place, place + N_COLUMNS)
        np.testing.assert_allclose(own[here], parts[i], rtol=1e-12, atol=1e-11)
        if options["method"] == "asymptotic":
            f, v, ratio = corners[i].reshape(-1)[[0, 3]], corners[i][[1, 4]], corners[i][[2, 5]]
            found = own_corners[here]
            np.testing.assert_allclose(found[[0, 3]], f, rtol=1e-12, atol=1e-11)
            used = f > 0.0  # the rest is not looked at
            np.testing.assert_allclose(found[[1, 4]][used], v[used], rtol=1e-12)
            np.testing.assert_allclose(found[[2, 5]][used], ratio[used], rtol=1e-12)
    np.testing.assert_array_equal(own[: -N_COLUMNS * 5], short.parts[: -N_COLUMNS * 5])


@every_fine
@every_setting
def test_the_ceiling_of_a_bucket_is_that_of_its_last_line(options, fine):
    settings = SearchSettings(**options)
    whole = build_tables(SIZES, CASES, settings)
    short = build_tables(SIZES, CASES, settings, fine=fine)
    assert short.unit == pytest.approx(whole.unit, rel=1e-12)
    n_lines = sum(min(n, fine) + 1 for n in SIZES.tolist())
    assert short.offset.tolist()[1] == min(SIZES[0], fine) + 1
    place = n_lines
    for k, n in enumerate(SIZES.tolist()):
        for first in range(fine, n, STEP):
            last = whole.offset[k] + min(first + STEP, n)
            for shift in (0, 32):
                mine, full = (int(c) >> shift & (2**32 - 1) for c in (
                    short.ceilings[place], whole.ceilings[last]
                ))  # fmt: skip
                assert abs(mine - full) <= 1 + full * 1e-11
            bounds = whole.parts.reshape(-1, N_COLUMNS)[whole.offset[k] + first : last + 1]
            for column in (UP_BOUND, DOWN_BOUND):
                assert bounds[:, column].max() == bounds[-1, column]
            place += 1
    assert place == len(short.ceilings)


@every_setting
@pytest.mark.parametrize("bound", [False, True])
def test_evidence_needs_no_whole_table(options, bound):
    settings = SearchSettings(**options)
    x = np.random.default_rng(3).integers(0, SIZES + 1, (400, 5))
    expected = minimum_evidences(x, build_tables(SIZES, CASES, settings), bound=bound)
    for fine in (2, 40, 150):
        tables = build_tables(SIZES, CASES, settings, fine=fine)
        found = minimum_evidences(x, tables, bound=bound)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-11)


@every_setting
def test_the_limit_by_rows_ends_with_the_lines(options):
    settings = SearchSettings(**options)
    whole = evidence_limit(build_tables(SIZES, CASES, settings), SIZES)
    short = evidence_limit(build_tables(SIZES, CASES, settings, fine=90), SIZES)
    np.testing.assert_allclose(short, whole[:91], rtol=1e-12)


def test_sums_of_logarithms_do_not_depend_on_how_many_are_in_memory(monkeypatch):
    every = {
        (n, n1): cmh_exact.extremes_at(n, n1, np.arange(n + 1)) for n, n1 in ((50, 17), (9, 9))
    }
    monkeypatch.setattr(cmh_exact, "_BLOCK_TERMS", 4)
    for (n, n1), expected in every.items():
        some = np.array([0, 3, 4, 5, n - 1, n])
        np.testing.assert_array_equal(cmh_exact.extremes_at(n, n1, np.arange(n + 1)), expected)
        np.testing.assert_array_equal(cmh_exact.extremes_at(n, n1, some), expected[some])


def make_problem():
    rng = np.random.default_rng(8)
    n = 900 if JIT_ENABLED else 400
    strata = (rng.random(n) < 0.3).astype(int)
    y = rng.random(n) < np.where(strata, 0.6, 0.25)
    dense = rng.random((n, 7)) < 0.75
    dense[:, 0] |= y & (rng.random(n) < 0.4)
    return build_problem(
        np.concatenate([dense, rng.random((n, 4)) < 0.15], axis=1), y, encode_strata(strata, n),
        item_names=[f"x{j}" for j in range(11)],
    )  # fmt: skip


@every_setting
@pytest.mark.parametrize("max_length", [None, 2])
def test_a_search_finds_the_same_without_whole_tables(options, max_length, monkeypatch):
    problem = make_problem()
    settings = SearchSettings(max_length=max_length, **options)
    expected = search_patterns(problem, settings)
    monkeypatch.setattr(evidence, "_ALL_LINES", 0)
    monkeypatch.setattr(evidence, "_FINE_LINES", 0)
    sizes, case_sizes = problem.table.sizes, problem.table.case_sizes
    assert build_tables(sizes, case_sizes, settings).fine == 128
    for n_jobs in (1, 2):
        found = search_patterns(problem, settings, n_jobs=n_jobs)
        assert found.n_testable == expected.n_testable > 0
        for field in dataclasses.fields(found):
            mine, other = getattr(found, field.name), getattr(expected, field.name)
            if isinstance(mine, float) and field.name != "seconds":
                assert mine == pytest.approx(other, rel=1e-9)
            elif isinstance(mine, np.ndarray) and field.name != "log_pvalue":
                np.testing.assert_array_equal(mine, other)
        assert [c.tolist() for c in found.closures] == [c.tolist() for c in expected.closures]
        assert not math.isnan(found.testability_threshold)
