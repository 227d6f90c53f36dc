"""Packed columns: round trips, strata as segments, counts against plain sums."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from sigmine import bitset
from sigmine._jit import njit

SIZES = [1, 2, 63, 64, 65, 127, 128, 129, 200, 640]


@njit
def _popcount_in_a_kernel(words, out):
    for i in range(words.shape[0]):
        out[i] = bitset.popcount(words[i])


WORDS = [0, 1, 2, 3, 2**63, 2**64 - 1, 0x5555555555555555, 0xAAAAAAAAAAAAAAAA, 88172645463325252]


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.integers(0, 2**64 - 1)), min_size=1))
def test_popcount_is_the_number_of_ones(values):
    words = np.array(values, dtype=np.uint64)
    expected = [bin(value).count("1") for value in values]
    assert [bitset.popcount(word) for word in words] == expected
    out = np.zeros(len(words), dtype=np.int64)
    _popcount_in_a_kernel(words, out)
    assert out.tolist() == expected


@pytest.mark.parametrize("n_rows", SIZES)
@pytest.mark.parametrize("kind", ["dense", "csc", "csr", "coo", "csc_array", "integers"])
def test_pack_and_unpack(n_rows, kind):
    rng = np.random.default_rng(n_rows)
    dense = rng.random((n_rows, 7)) < 0.4
    matrix = {
        "dense": lambda: dense,
        "csc": lambda: sparse.csc_matrix(dense),
        "csr": lambda: sparse.csr_matrix(dense),
        "coo": lambda: sparse.coo_matrix(dense),
        "csc_array": lambda: sparse.csc_array(dense),
        "integers": lambda: dense.astype(np.int8),
    }[kind]()
    order = rng.permutation(n_rows).astype(np.int64)
    packed = bitset.pack_columns(matrix, order)
    assert packed.dtype == np.uint64
    assert packed.shape == (7, -(-n_rows // 64))
    np.testing.assert_array_equal(bitset.unpack_columns(packed, n_rows), dense[order].T)
    # Nothing behind the last row, so that whole words may be counted.
    np.testing.assert_array_equal(np.bitwise_count(packed).sum(axis=1), dense.sum(axis=0))


def test_first_row_is_the_lowest_bit():
    matrix = np.zeros((65, 1), dtype=bool)
    matrix[[0, 5, 64]] = True
    packed = bitset.pack_columns(matrix, np.arange(65))
    assert packed.tolist() == [[2**0 + 2**5, 2**0]]


@pytest.mark.parametrize("kind", ["C", "F", "strided", "float", "csr", "csc", "packed"])
@pytest.mark.parametrize("n_rows", [70, 130, 200])
def test_more_than_is_packed_at_a_time(kind, n_rows, monkeypatch):
    monkeypatch.setattr(bitset, "_BLOCK_BYTES", 256)
    monkeypatch.setattr(bitset, "_BLOCK_ENTRIES", 37)
    rng = np.random.default_rng(n_rows)
    dense = rng.random((n_rows, 100)) < 0.3
    order = rng.permutation(n_rows)[: n_rows - 5]
    matrix = {
        "C": lambda: dense,
        "F": lambda: np.asfortranarray(dense),
        "strided": lambda: np.repeat(np.repeat(dense, 2, axis=0), 2, axis=1)[::2, ::2],
        "float": lambda: dense * 1.0,
        "csr": lambda: sparse.csr_array(dense),
        "csc": lambda: sparse.csc_array(dense),
        "packed": lambda: packed_columns(dense),
    }[kind]()
    packed = bitset.pack_columns(matrix, order)
    assert packed.flags.c_contiguous
    np.testing.assert_array_equal(bitset.unpack_columns(packed, len(order)), dense[order].T)
    assert np.bitwise_count(packed).sum() == dense[order].sum()


def packed_columns(dense):
    """Pack in the order of the rows by plain loops."""
    words = [
        [
            sum(1 << i for i, one in enumerate(column[start : start + 64]) if one)
            for start in range(0, len(column), 64)
        ]
        for column in dense.T
    ]
    return bitset.PackedColumns(np.array(words, dtype=np.uint64), len(dense))


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 150), st.integers(1, 5))), st.data())
def test_packed_columns_are_reordered(dense, data):
    order = np.array(data.draw(st.permutations(range(len(dense)))))
    order = order[: data.draw(st.integers(0, len(dense)))]
    matrix = packed_columns(dense)
    assert matrix.shape == dense.shape
    packed = bitset.pack_columns(matrix, order)
    assert packed.shape == (dense.shape[1], -(-len(order) // 64))
    np.testing.assert_array_equal(bitset.unpack_columns(packed, len(order)), dense[order].T)
    assert np.bitwise_count(packed).sum() == dense[order].sum()


def test_packed_columns_in_order_are_left_as_they_are():
    matrix = packed_columns(np.random.default_rng(0).random((130, 3)) < 0.5)
    assert bitset.pack_columns(matrix, np.arange(130)) is matrix.words


def test_sparse_entries_stored_twice_or_as_zero():
    rows, columns = [3, 3, 1, 66], [0, 0, 0, 1]
    matrix = sparse.csr_array((np.ones(4, bool), columns, [0, 0, 1, 1, 3, *[3] * 62, 4]))
    assert matrix.shape == (67, 2)
    assert not matrix.has_canonical_format
    zero = sparse.csc_array((np.array([True, False]), ([5, 6], [0, 0])), shape=(67, 2))
    assert zero.nnz == 2
    expected = np.zeros((67, 2), dtype=bool)
    expected[rows, columns] = True
    packed = bitset.pack_columns(matrix, np.arange(67))
    np.testing.assert_array_equal(bitset.unpack_columns(packed, 67), expected.T)
    packed = bitset.pack_columns(zero, np.arange(67))
    assert packed.tolist() == [[2**5, 0], [0, 0]]


@given(st.data())
def test_rows_written_piece_by_piece(data):
    n_rows = data.draw(st.integers(1, 300))
    dense = data.draw(hnp.arrays(np.bool_, (n_rows, 2)))
    borders = sorted(data.draw(st.lists(st.integers(0, n_rows), max_size=5)))
    packed = np.zeros((2, -(-n_rows // 64)), dtype=np.uint64)
    for start, stop in pairwise([0, *borders, n_rows]):
        bitset.put_rows(packed, start, dense[start:stop].T)
    np.testing.assert_array_equal(packed, packed_columns(dense).words)


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (1, 1), (7, 3), (700, 30)])
def test_ones_of_columns(shape, monkeypatch):
    monkeypatch.setattr(bitset, "_BLOCK_BYTES", 1000)
    columns = np.random.default_rng(0).integers(0, 2**63, shape, dtype=np.uint64)
    expected = [sum(int(word).bit_count() for word in column) for column in columns]
    assert bitset.count_ones(columns).tolist() == expected


@pytest.mark.parametrize("block", [2**20, 48])
@given(kept=hnp.arrays(np.bool_, st.integers(0, 30)))
def test_columns_left_out(block, kept):
    columns = np.arange(2 * len(kept), dtype=np.uint64).reshape(-1, 2)
    expected = columns[kept]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitset, "_BLOCK_BYTES", block)
        left = bitset.keep_columns(columns, kept)
    np.testing.assert_array_equal(left, expected)
    assert left.flags.c_contiguous
    # Most of them gone: nothing holds the memory of the others.
    assert np.shares_memory(left, columns) == (0 < len(kept) <= 2 * kept.sum())


@pytest.mark.parametrize("kind", ["C", "F", "float", "csr", "csc", "packed"])
def test_packing_needs_little_beside_the_result(kind):
    dense = np.random.default_rng(0).random((20_000, 2000)) < 0.05
    matrix = {
        "C": lambda: dense,
        "F": lambda: np.asfortranarray(dense),
        "float": lambda: dense * 1.0,
        "csr": lambda: sparse.csr_array(dense),
        "csc": lambda: sparse.csc_array(dense),
        "packed": lambda: bitset.PackedColumns(
            bitset.pack_columns(dense, np.arange(20_000)), 20_000
        ),
    }[kind]()
    codes = np.arange(20_000) % 3
    y = np.arange(20_000) % 2 == 0
    tracemalloc.start()
    try:
        table = bitset.build_bit_table(matrix, y, codes, 3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    result = 0 if kind == "packed" else table.columns.nbytes
    # Rows: their order, and what sorts them. The rest are blocks, of a fixed size.
    assert peak < result + 40 * 20_000 + 12 * 2**20 < 20_000 * 2000


def test_some_rows_only():
    dense = np.random.default_rng(2).random((100, 4)) < 0.5
    order = np.array([99, 3, 17, 50])
    packed = bitset.pack_columns(dense, order)
    assert packed.shape == (4, 1)
    np.testing.assert_array_equal(bitset.unpack_columns(packed, 4), dense[order].T)


def test_no_columns():
    packed = bitset.pack_columns(np.zeros((70, 0), dtype=bool), np.arange(70))
    assert packed.shape == (0, 2)
    assert bitset.unpack_columns(packed, 70).shape == (0, 70)


@st.composite
def tables(draw):
    """(matrix, y, codes, n_strata); codes of -1 are rows to leave out."""
    n = draw(st.integers(1, 200))
    n_strata = draw(st.integers(1, 9))
    matrix = draw(hnp.arrays(np.bool_, (n, draw(st.integers(1, 4)))))
    y = draw(hnp.arrays(np.bool_, n))
    codes = draw(hnp.arrays(np.int64, n, elements=st.integers(-1, n_strata - 1)))
    codes[0] = 0
    return matrix, y, codes, n_strata


@given(tables())
def test_canonical_layout(case):
    matrix, y, codes, n_strata = case
    table = bitset.build_bit_table(matrix, y, codes, n_strata)
    kept = codes >= 0
    assert table.n_items == matrix.shape[1]
    assert table.n_rows == kept.sum()
    assert table.n_strata == n_strata
    assert table.n_words == table.columns.shape[1] == -(-table.n_rows // 64)
    assert table.sizes.tolist() == [int((codes == k).sum()) for k in range(n_strata)]
    assert table.case_sizes.tolist() == [int((y & (codes == k)).sum()) for k in range(n_strata)]
    # Rows by stratum, inside a stratum as they came.
    expected = sorted(np.flatnonzero(kept), key=lambda i: (codes[i], i))
    assert table.row_order.tolist() == expected
    rows = bitset.unpack_columns(table.columns, table.n_rows)
    np.testing.assert_array_equal(rows, matrix[expected].T)
    cases = bitset.unpack_columns(table.cases, table.n_rows)
    np.testing.assert_array_equal(cases, y[expected])
    for array in table:  # one layout: a kernel is compiled anew for each
        assert array.flags.c_contiguous
        assert array.flags.writeable


@given(tables())
def test_segments_cut_the_rows_by_stratum(case):
    table = bitset.build_bit_table(*case)
    stratum_of = np.repeat(np.arange(table.n_strata), table.sizes)
    assert (np.diff(table.segments[:, 1]) >= 0).all()
    owner = np.full(table.n_words * 64, -1)
    for (word, stratum), mask in zip(table.segments, table.masks, strict=True):
        for bit in range(64):
            if int(mask) >> bit & 1:
                assert owner[word * 64 + bit] == -1  # no row in two strata
                owner[word * 64 + bit] = stratum
    np.testing.assert_array_equal(owner[: table.n_rows], stratum_of)
    assert (owner[table.n_rows :] == -1).all()


@given(tables())
def test_counts_by_stratum(case):
    matrix, _, codes, n_strata = case
    table = bitset.build_bit_table(*case)
    expected = [
        [int((column & (codes == k)).sum()) for k in range(n_strata)] for column in matrix.T
    ]
    counts = bitset.count_strata(table.columns, table.segments, table.masks, n_strata)
    assert counts.tolist() == expected
    own = np.full(n_strata, -7, dtype=np.int64)
    for j in range(matrix.shape[1]):
        total = bitset.count_segments(table.columns, j, table.segments, table.masks, own)
        assert own.tolist() == expected[j]
        assert total == sum(expected[j])


@given(tables())
def test_subset(case):
    matrix, _, codes, _ = case
    table = bitset.build_bit_table(*case)
    kept = matrix[codes >= 0]
    for i in range(matrix.shape[1]):
        for j in range(matrix.shape[1]):
            assert bitset.is_subset(table.columns, i, table.columns, j) == bool(
                (kept[:, j] | ~kept[:, i]).all()
            )


@pytest.mark.parametrize("sizes", [[64, 64], [63, 1, 64], [1] * 130, [65, 0, 63], [200], [0, 3]])
def test_strata_at_the_borders_of_words(sizes):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    n = len(codes)
    table = bitset.build_bit_table(
        np.ones((n, 1), dtype=bool), np.zeros(n, dtype=bool), codes, len(sizes)
    )
    counts = bitset.count_strata(table.columns, table.segments, table.masks, len(sizes))
    assert counts[0].tolist() == sizes
    # Words that hold several strata are not padded.
    assert table.n_words == -(-n // 64)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=40))
def test_segments_of_any_sizes(sizes):
    found, masks = bitset._segments(np.array(sizes))
    expected = []
    start = 0
    for k, size in enumerate(sizes):
        for word in range(start // 64, -(-(start + size) // 64) if size else 0):
            rows = range(max(start, 64 * word), min(start + size, 64 * word + 64))
            expected.append((word, k, sum(1 << (row % 64) for row in rows)))
        start += size
    assert [(*pair, m) for pair, m in zip(found.tolist(), masks.tolist(), strict=True)] == expected
    assert found.dtype == np.int64
    assert masks.dtype == np.uint64
    assert found.shape == (len(expected), 2)


def test_more_strata_than_16_bits_count():
    n = 40_000
    codes = np.random.default_rng(0).permutation(n)
    table = bitset.build_bit_table(np.zeros((n, 1), bool), codes % 2 == 0, codes, n)
    np.testing.assert_array_equal(codes[table.row_order], np.arange(n))
    assert table.case_sizes.tolist() == [1, 0] * (n // 2)
    assert len(table.segments) == n
