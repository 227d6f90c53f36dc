"""Frequent itemsets: everything by brute force, what the theorems say, what may be asked for.

The slow twins know rows as bits of Python's integers. `every_itemset` tries all itemsets of a few
columns, `closed_itemsets` walks from closure to closure, for tables of more columns.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import sigmine
from sigmine import DataWarning, InputError, InputTypeError, frequent, frequent_itemsets
from sigmine._jit import JIT_ENABLED
from sigmine.frequent import count_closed, count_itemsets, passes, source
from tests.frames import every_frame

pytestmark = pytest.mark.filterwarnings("ignore:no (itemset|column) is:sigmine.DataWarning")

BASKETS = {"bread": [1, 1, 1, 1], "milk": [1, 1, 0, 1], "eggs": [0, 1, 1, 0]}


def columns_as_bits(X):
    """Return one integer a column: bit i is row i."""
    return [sum(1 << i for i, value in enumerate(column) if value) for column in X.T.tolist()]


def every_itemset(X, least):
    """Return {itemset: rows} of all itemsets with enough rows, the empty one left out."""
    columns = columns_as_bits(X)
    everybody = (1 << len(X)) - 1
    found = {}
    for length in range(1, len(columns) + 1):
        for itemset in itertools.combinations(range(len(columns)), length):
            rows = everybody
            for j in itemset:
                rows &= columns[j]
            if rows.bit_count() >= least:
                found[frozenset(itemset)] = rows.bit_count()
    return found


def only_closed(itemsets):
    """Keep the itemsets of a dictionary that have no superset with as many rows in it."""
    return {
        itemset: count
        for itemset, count in itemsets.items()
        if not any(itemset < other and count == itemsets[other] for other in itemsets)
    }


def closed_itemsets(X, least):
    """Return {itemset: rows} of the closed ones: add an item, close, until nothing is new."""
    columns = columns_as_bits(X)
    found, todo = {}, [(1 << len(X)) - 1]
    while todo:
        rows = todo.pop()
        itemset = frozenset(j for j, column in enumerate(columns) if rows & column == rows)
        if itemset not in found:
            found[itemset] = rows.bit_count()
            wider = (rows & column for column in columns)
            todo += [narrowed for narrowed in wider if narrowed.bit_count() >= least]
    found.pop(frozenset(), None)
    return {itemset: count for itemset, count in found.items() if count >= least}


def mined(X, least, **options):
    """Return {itemset: rows} of our table, which must not hold an itemset twice."""
    table = frequent_itemsets(X, least, **options)
    found = dict(zip(table["itemsets"], np.rint(table["support"] * X.shape[0]), strict=True))
    assert len(found) == len(table)
    return found


def random_table(rng, n, p, density):
    """Make a table with columns that are copies of, or contained in, other ones."""
    X = rng.random((n, p)) < density
    for _ in range(p // 4):
        of, to = rng.integers(p, size=2)
        X[:, to] = X[:, of] & (rng.random(n) < rng.choice([0.8, 1.0]))
    return X


@st.composite
def tables(draw):
    """(X, fewest rows); up to 24 rows by 9 columns, constant and repeated columns often."""
    n, p = draw(st.integers(1, 24)), draw(st.integers(1, 9))
    kinds = draw(st.lists(st.integers(1, 2**p) | st.just(2**p - 1), min_size=1, max_size=n))
    rows = [kinds[draw(st.integers(0, len(kinds) - 1))] for _ in range(n)]
    X = np.array([[row >> j & 1 for j in range(p)] for row in rows], dtype=bool)
    return X, draw(st.integers(1, n))


class TestTwins:
    @given(tables())
    def test_all_itemsets_and_closed_ones(self, table):
        X, least = table
        everything = every_itemset(X, least)
        assert closed_itemsets(X, least) == only_closed(everything)  # the twins agree
        assert mined(X, least, closed=False) == everything
        assert mined(X, least) == only_closed(everything)
        assert mined(sparse.csr_array(X), least) == only_closed(everything)

    @given(tables(), st.integers(1, 6), st.booleans())
    def test_max_length(self, table, max_length, closed):
        X, least = table
        expected = every_itemset(X, least)
        if closed:
            expected = only_closed(expected)
        expected = {itemset: n for itemset, n in expected.items() if len(itemset) <= max_length}
        assert mined(X, least, closed=closed, max_length=max_length) == expected
        assert count_itemsets(X, least, closed=closed, max_length=max_length) == len(expected)

    @pytest.mark.parametrize(
        ("n", "p", "density", "least"),
        [
            (10, 80, 0.75, 3),  # wide frames below wide frames
            (30, 90, 0.75, 20),
            (40, 12, 0.5, 2),  # a lattice, and a few items beside it
            (130, 66, 0.12, 4),  # two or three words a column
            (200, 300, 0.02, 2),  # lists
            (1, 70, 0.5, 1),
            (65, 1, 0.5, 1),
        ],
    )
    @pytest.mark.parametrize("sparse_below", [0.0, 2.0], ids=["bits", "lists"])
    def test_both_layouts(self, monkeypatch, n, p, density, least, sparse_below):
        monkeypatch.setattr(source, "_SPARSE_BELOW", sparse_below)
        for seed in range(3 if JIT_ENABLED else 1):
            X = random_table(np.random.default_rng(seed), n, p, density)
            expected = closed_itemsets(X, least)
            assert mined(X, least) == expected
            assert mined(sparse.csc_array(X), least, n_jobs=3) == expected
            assert count_closed(X, least, n_jobs=2) == len(expected)

    @pytest.mark.parametrize("sparse_below", [0.0, 2.0], ids=["bits", "lists"])
    def test_a_worker_that_starts_without_room_gets_more(self, monkeypatch, sparse_below):
        monkeypatch.setattr(source, "_SPARSE_BELOW", sparse_below)
        X = random_table(np.random.default_rng(0), 40, 90, 0.7)
        expected = mined(X, 20)
        monkeypatch.setattr(passes, "_FIRST_ROWS", 1)
        monkeypatch.setattr(passes, "_FIRST_WORDS", 1)
        assert mined(X, 20) == expected == closed_itemsets(X, 20)
        assert mined(X[:, :15], 20) == closed_itemsets(X[:, :15], 20)

    @pytest.mark.skipif(not JIT_ENABLED, reason="thousands of rows")
    def test_rows_that_cannot_be_merged_stay_columns(self):
        X = random_table(np.random.default_rng(1), 4000, 14, 0.5)
        everything = every_itemset(X, 100)
        assert mined(X, 100, closed=False) == everything
        assert mined(X, 100) == closed_itemsets(X, 100)


class TestTheorems:
    X = random_table(np.random.default_rng(3), 60, 14, 0.5)

    def test_every_frequent_itemset_has_the_rows_of_its_closure(self):
        closed, everything = mined(self.X, 6), mined(self.X, 6, closed=False)
        assert len(everything) > len(closed) > 100
        for itemset, count in everything.items():
            holders = {other: n for other, n in closed.items() if itemset <= other}
            closure = min(holders, key=len)
            assert holders[closure] == max(holders.values()) == count
            assert all(closure <= other for other in holders if holders[other] == count)

    def test_the_closed_itemsets_of_closed_itemsets_are_the_same(self):
        # With the closed itemsets as rows, what rows have in common is closed already.
        closed = [itemset for itemset in mined(self.X, 1) if itemset]
        rows = np.array([[j in itemset for j in range(14)] for itemset in closed])
        assert set(mined(rows, 1)) == set(closed)

    def test_fewer_rows_give_more_itemsets(self):
        tables = [mined(self.X, least) for least in (20, 10, 5)]
        for fewer, more in itertools.pairwise(tables):
            assert fewer.items() < more.items()

    def test_rows_and_columns_in_another_order(self):
        rng = np.random.default_rng(0)
        rows, columns = rng.permutation(60), rng.permutation(14)
        moved = mined(self.X[rows][:, columns], 6)
        assert {frozenset(columns[list(s)].tolist()): n for s, n in moved.items()} == mined(
            self.X, 6
        )


class TestTable:
    def test_is_what_users_of_mlxtend_know(self):
        table = frequent_itemsets(pd.DataFrame(BASKETS), min_support=0.5)
        expected = pd.DataFrame(
            {
                "support": [1.0, 0.75, 0.5],
                "itemsets": [
                    frozenset({"bread"}),
                    frozenset({"bread", "milk"}),
                    frozenset({"bread", "eggs"}),
                ],
            }
        )
        pd.testing.assert_frame_equal(table, expected)
        assert all(type(itemset) is frozenset for itemset in table["itemsets"])

    def test_order(self):
        table = frequent_itemsets(TestTheorems.X, 6, closed=False)
        lengths = table["itemsets"].map(len)
        keys = list(zip(-table["support"], lengths, strict=True))
        assert keys == sorted(keys)
        assert lengths.iloc[0] == 1

    @every_frame
    def test_every_library(self, make_frame):
        table = frequent_itemsets(make_frame(BASKETS), min_support=2)
        assert set(table["itemsets"]) == {
            frozenset({"bread"}),
            frozenset({"bread", "milk"}),
            frozenset({"bread", "eggs"}),
        }

    def test_names_or_positions(self):
        frame = pd.DataFrame(BASKETS)
        names = {frozenset({0}), frozenset({0, 1}), frozenset({0, 2})}
        assert set(frequent_itemsets(frame, 2, use_colnames=False)["itemsets"]) == names
        assert set(frequent_itemsets(frame.to_numpy(), 2)["itemsets"]) == names
        assert all(type(j) is int for itemset in names for j in itemset)
        frame.columns = [("a", 1), 7, "eggs"]  # names need not be texts
        assert frozenset({("a", 1), 7}) in set(frequent_itemsets(frame, 2)["itemsets"])

    def test_two_columns_of_one_name(self):
        frame = pd.DataFrame(np.ones((3, 2), dtype=int), columns=["a", "a"])
        with pytest.raises(InputError, match="'a'"):
            frequent_itemsets(frame, 1)

    def test_a_pandas_frame_of_sparse_columns(self):
        frame = pd.DataFrame(BASKETS).astype(bool)
        stored = frame.astype(pd.SparseDtype(bool, fill_value=False))
        pd.testing.assert_frame_equal(frequent_itemsets(stored, 2), frequent_itemsets(frame, 2))
        with pytest.raises(InputError, match=r"leave out True; expected .* 0 or False"):
            frequent_itemsets(frame.astype(pd.SparseDtype(bool, fill_value=True)), 2)

    def test_a_sparse_matrix_is_never_unpacked(self):
        # 50,000 columns by 200,000 rows: 10 GB as bytes.
        rows = np.arange(200_000)
        entries = (np.ones(400_000, bool), (np.tile(rows, 2), np.r_[rows % 50_000, rows % 7]))
        X = sparse.coo_array(entries, shape=(200_000, 50_000)).tocsr()
        found = mined(X, 1_000)
        assert len(found) == 7
        assert all(n > 28_000 for n in found.values())

    @pytest.mark.parametrize("length", [4, 5, 7, 8, 18, 19, 31, 32, 77, 130])
    def test_itemsets_of_every_size(self, length):
        X = np.vstack([np.ones((2, length), bool), np.zeros((1, length), bool)])
        assert frequent_itemsets(X, 1)["itemsets"].tolist() == [frozenset(range(length))]

    def test_is_a_public_name(self):
        assert sigmine.frequent_itemsets is frequent.frequent_itemsets
        assert sigmine.frequent.count_closed is count_closed
        assert {"frequent", "frequent_itemsets"} <= set(dir(sigmine))


class TestMinSupport:
    X = np.arange(10)[:, None] < np.array([10, 7, 3, 1])  # rows of the columns

    @pytest.mark.parametrize(
        ("min_support", "n_closed"),
        [(1, 4), (3, 3), (4, 2), (10, 1), (0.1, 4), (0.3, 3), (0.31, 2), (0.7, 2), (1.0, 1),
         (1e-9, 4), (np.int64(3), 3), (np.float32(0.7), 2)],
    )  # fmt: skip
    def test_share_or_number(self, min_support, n_closed):
        assert count_closed(self.X, min_support) == n_closed

    @pytest.mark.parametrize("n", [10, 100])
    def test_a_share_is_compared_as_the_user_would(self, n):
        X = np.arange(n)[:, None] < np.arange(1, n + 1)
        for k in range(1, n, 7):
            assert frequent_itemsets(X, k / n)["support"].min() == k / n

    @pytest.mark.parametrize("min_support", [0.0, -0.5, 1.5, float("nan"), 0, -3])
    def test_out_of_range(self, min_support):
        with pytest.raises(InputError, match="min_support"):
            frequent_itemsets(self.X, min_support)

    @pytest.mark.parametrize("min_support", ["0.5", None, True, [0.5], 1j])
    def test_not_a_number(self, min_support):
        with pytest.raises(InputTypeError, match="min_support"):
            count_closed(self.X, min_support)


@pytest.mark.filterwarnings("error")
class TestNothingFound:
    def test_too_few_rows(self):
        with pytest.warns(DataWarning, match=r"no column is 1 in 5 of 4 rows.*smaller min_support"):
            table = frequent_itemsets(pd.DataFrame(BASKETS), 5)
        assert table.columns.tolist() == ["support", "itemsets"]
        assert (len(table), table["support"].dtype, table["itemsets"].dtype) == (0, float, object)

    def test_a_table_of_zeros(self):
        with pytest.warns(DataWarning, match="no column is 1 in 1 of 3 rows"):
            assert len(frequent_itemsets(np.zeros((3, 4), bool), 1)) == 0
        assert count_closed(sparse.csr_array((3, 4), dtype=bool), 1) == 0

    def test_columns_of_ones_are_too_many(self):
        with pytest.warns(DataWarning, match="3 columns are 1 in every row .* max_length=2"):
            assert len(frequent_itemsets(np.ones((5, 3), bool), 1, max_length=2)) == 0

    def test_every_closed_itemset_is_too_long(self):
        X = np.array([[1, 1], [1, 1], [0, 0]])
        with pytest.warns(DataWarning, match="every closed itemset has more items than max_len"):
            assert len(frequent_itemsets(X, 1, max_length=1)) == 0
        assert count_itemsets(X, 1, closed=False, max_length=1) == 2


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"X": [[0, 2]]}, InputError, "2"),
        ({"X": [[0.0, np.nan]]}, InputError, "missing"),
        ({"X": np.zeros((0, 3))}, InputError, "0"),
        ({"X": [0, 1]}, InputError, "2D"),
        ({"X": "text"}, InputTypeError, "str"),
        ({"X": sparse.csr_array([[0, 3]])}, InputError, "3"),
        ({"closed": 1}, InputTypeError, "closed=1 must be True or False"),
        ({"max_length": 0}, InputError, "max_length"),
        ({"max_length": 1.5}, InputTypeError, "max_length"),
        ({"n_jobs": 0}, InputTypeError, "n_jobs"),
    ],
)
def test_what_cannot_be_used_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        frequent_itemsets(**{"X": [[0, 1], [1, 1]], **options})
    with pytest.raises(error, match=said):
        count_itemsets(**{"X": [[0, 1], [1, 1]], **options})
