"""Packed columns: round trips, strata as segments, counts against plain sums."""

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


@pytest.mark.parametrize("as_sparse", [False, True])
def test_more_columns_than_are_packed_at_a_time(as_sparse, monkeypatch):
    monkeypatch.setattr(bitset, "_CHUNK", 3)
    dense = np.random.default_rng(1).random((70, 10)) < 0.3
    packed = bitset.pack_columns(sparse.csr_array(dense) if as_sparse else dense, np.arange(70))
    np.testing.assert_array_equal(bitset.unpack_columns(packed, 70), dense.T)


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
