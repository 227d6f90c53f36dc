"""The canonical layout with its names: what is searched, what is left out, and why."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from sigmine import memory
from sigmine.bitset import PackedColumns, count_strata, pack_columns, unpack_columns
from sigmine.exceptions import InputError, InsufficientMemoryError
from sigmine.problem import DroppedItem, StratumSummary, build_problem
from sigmine.search import search_patterns
from sigmine.settings import SearchSettings
from sigmine.strata import encode_strata
from tests import strategies


def problem_of(matrix, y, strata, names="abcdefgh", **options):
    matrix = np.asarray(matrix, dtype=bool)
    return build_problem(
        matrix,
        np.asarray(y, dtype=bool),
        encode_strata(strata, len(matrix)),
        item_names=list(names[: matrix.shape[1]]),
        **options,
    )


MATRIX = [
    # a  b  c  d: b is constant where it counts, d is everywhere, c nowhere
    [1, 1, 0, 1],
    [0, 1, 0, 1],
    [1, 1, 0, 1],
    [0, 1, 0, 1],
    [1, 0, 0, 1],
]
Y = [1, 0, 0, 1, 1]
STRATA = ["x", "x", "y", "y", "z"]  # z has one class


def test_what_is_searched():
    problem = problem_of(MATRIX, Y, STRATA, target_name="died", class_names=("no", "yes"))
    assert problem.item_names == ("a",)
    assert problem.stratum_labels == ("x", "y")
    assert problem.strata_names == encode_strata(STRATA, 5).names
    assert problem.strata_summary == (
        StratumSummary("x", 2, 1, True),
        StratumSummary("y", 2, 1, True),
        StratumSummary("z", 1, 1, False),
    )
    assert problem.target_name == "died"
    assert problem.class_names == ("no", "yes")
    assert problem.n_rows == 5
    assert problem.n_cases == 2
    assert problem.table.n_rows == 4
    assert problem.table.row_order.tolist() == [0, 1, 2, 3]
    assert problem.dropped == (
        DroppedItem("b", "constant: present in every searched row"),
        DroppedItem("c", "constant: absent from every searched row"),
        DroppedItem("d", "constant: present in every searched row"),
    )
    assert problem.notes == ()


def test_keep_uninformative_strata():
    problem = problem_of(MATRIX, Y, STRATA, keep_uninformative=True)
    assert problem.item_names == ("a", "b")  # b tells the row of z from the others
    assert problem.stratum_labels == ("x", "y", "z")
    assert problem.table.sizes.tolist() == [2, 2, 1]
    assert problem.table.case_sizes.tolist() == [1, 1, 1]
    assert [s.informative for s in problem.strata_summary] == [True, True, False]
    assert problem.n_cases == 3


def test_what_was_left_out_before_stays_in_the_list():
    before = DroppedItem("age", "one value only")
    problem = problem_of(MATRIX, Y, STRATA, dropped=[before], notes=["2 rows were dropped."])
    assert problem.dropped[0] == before
    assert [item.name for item in problem.dropped] == ["age", "b", "c", "d"]
    assert problem.notes == ("2 rows were dropped.",)


def test_names_of_covariates():
    strata = {"sex": ["f", "m", "f", "m"], "old": [0, 0, 1, 1]}
    matrix = [[1], [0], [1], [0]]
    with pytest.raises(InputError, match="no informative stratum"):
        problem_of(matrix, [1, 0, 0, 1], strata)
    problem = problem_of(
        matrix * 2, [1, 0, 0, 1, 0, 1, 1, 0], {k: v * 2 for k, v in strata.items()}
    )
    assert problem.strata_names == ("sex", "old")
    assert problem.stratum_labels[0] == "sex=f, old=0"


@pytest.mark.parametrize(
    ("y", "strata", "message"),
    [
        ([1, 1, 1], None, "1 stratum of size 3, all cases"),
        ([0, 0, 0], None, "1 stratum of size 3, all controls"),
        ([0, 1, 0], [1, 2, 3], "3 strata, all of size 1"),
        ([0, 1, 1], ["p", "q", "q"], "2 strata of sizes 1 to 2, 1 with cases only and 1 with"),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_no_informative_stratum(y, strata, message, keep):
    with pytest.raises(InputError, match=message):
        problem_of([[1], [0], [1]], y, strata, keep_uninformative=keep)


def test_no_items_left():
    problem = problem_of([[1, 0], [1, 0]], [0, 1], None)
    assert problem.item_names == ()
    assert problem.table.columns.shape == (0, 1)
    assert len(problem.dropped) == 2
    problem = problem_of(np.zeros((2, 0)), [0, 1], None)
    assert problem.item_names == problem.dropped == ()


@given(strategies.mining_cases(max_rows=90))
def test_the_table_holds_the_data(case):
    matrix, y, strata = case
    problem = problem_of(matrix, y, strata)
    table = problem.table
    dense = unpack_columns(table.columns, table.n_rows)
    for name, column in zip(problem.item_names, dense, strict=True):
        j = "abcdefgh".index(name)
        np.testing.assert_array_equal(column, matrix[table.row_order, j])
        assert 0 < column.sum() < table.n_rows
    assert len(problem.item_names) + len(problem.dropped) == matrix.shape[1]
    for k, label in enumerate(problem.stratum_labels):
        rows = strata == int(label)
        assert table.sizes[k] == rows.sum()
        assert table.case_sizes[k] == y[rows].sum()
    assert sum(s.n for s in problem.strata_summary) == problem.n_rows == len(y)
    assert sum(s.n_cases for s in problem.strata_summary) == y.sum()
    # Left out: the rows of strata with one class, no others.
    searched = {int(label) for label in problem.stratum_labels}
    assert sorted(table.row_order) == [i for i, code in enumerate(strata) if code in searched]


@given(strategies.mining_cases(max_rows=90))
def test_sparse_and_dense_are_the_same(case):
    matrix, y, strata = case
    dense = problem_of(matrix, y, strata)
    encoded = encode_strata(strata, len(y))
    names = list("abcdefgh"[: matrix.shape[1]])
    for make in (sparse.csr_array, sparse.csc_matrix):
        other = build_problem(make(matrix), y, encoded, item_names=names)
        assert other.item_names == dense.item_names
        assert other.dropped == dense.dropped
        for one, two in zip(other.table, dense.table, strict=True):
            np.testing.assert_array_equal(one, two)


@given(strategies.mining_cases(max_rows=90))
def test_packed_columns_are_the_same(case):
    matrix, y, strata = case
    dense = problem_of(matrix, y, strata)
    packed = PackedColumns(pack_columns(matrix, np.arange(len(y))), len(y))
    names = list("abcdefgh"[: matrix.shape[1]])
    other = build_problem(packed, y, encode_strata(strata, len(y)), item_names=names)
    assert other.item_names == dense.item_names
    assert other.dropped == dense.dropped
    for one, two in zip(other.table, dense.table, strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.flags.c_contiguous
        assert one.flags.writeable


def test_what_cannot_fit_is_refused_first(monkeypatch):
    monkeypatch.delenv("SIGMINE_MEMORY_CHECK", raising=False)
    monkeypatch.setattr(memory, "available_memory", lambda: 2**30)
    # A matrix of a cell that looks like 10^12 of them: nobody may touch it.
    matrix = np.broadcast_to(np.True_, (10**6, 10**6))
    y = np.arange(10**6) % 2 == 0
    message = r"needs about .* GiB .* 1,000,000 rows, 1,000,000 items, 1 strata .* 1\.0 GiB are"
    with pytest.raises(InsufficientMemoryError, match=message):
        build_problem(matrix, y, encode_strata(None, 10**6), item_names=range(10**6))


@given(strategies.mining_cases(max_rows=150), st.sampled_from(["exact", "asymptotic"]))
def test_without_strata_is_the_same_rows_in_one_stratum(case, method):
    matrix, y, strata = case
    problem = problem_of(matrix, y, strata)
    merged = problem.without_strata()
    rows = problem.table.row_order
    direct = problem_of(matrix[rows], y[rows], None)
    assert merged.stratum_labels == direct.stratum_labels == ("all rows",)
    assert merged.strata_names == ()
    assert merged.strata_summary == direct.strata_summary
    assert merged.item_names == problem.item_names
    assert merged.table.sizes.tolist() == [len(rows)]
    assert merged.n_cases == problem.n_cases
    counts = count_strata(merged.table.columns, merged.table.segments, merged.table.masks, 1)
    np.testing.assert_array_equal(counts[:, 0], np.bitwise_count(merged.table.columns).sum(axis=1))
    settings = SearchSettings(method=method, alpha=0.3)
    one, two = (search_patterns(p, settings) for p in (merged, direct))
    assert one.n_testable == two.n_testable
    np.testing.assert_array_equal(one.testability_threshold, two.testability_threshold)
    np.testing.assert_array_equal(one.support, two.support)
    np.testing.assert_array_equal(one.support_cases, two.support_cases)
    np.testing.assert_array_equal(one.sample_support, two.sample_support)


@pytest.mark.parametrize("n_rows", [64, 128, 65])
def test_without_strata_at_the_borders_of_words(n_rows):
    strata = np.arange(n_rows) % 3
    y = np.arange(n_rows) % 2 == 0
    matrix = np.arange(n_rows)[:, None] % 5 == 0
    merged = problem_of(matrix, y, strata).without_strata()
    assert merged.table.masks.tolist()[:-1] == [2**64 - 1] * (merged.table.n_words - 1)
    assert sum(int(mask).bit_count() for mask in merged.table.masks) == n_rows
