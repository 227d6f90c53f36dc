"""Flat lists of itemsets, against lists of lists."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine.search.flat import (
    Itemsets,
    lengths_of,
    lexicographic_order,
    reordered,
    sorted_within,
    spread,
)


def flat_of(itemsets):
    flat = np.array([item for itemset in itemsets for item in itemset], dtype=np.int64)
    return flat, np.cumsum([len(itemset) for itemset in itemsets], dtype=np.int64)


def as_lists(flat, ends):
    return [piece.tolist() for piece in Itemsets(flat, ends)]


item = st.one_of(
    st.integers(0, 5),
    st.integers(0, 10**4),
    st.sampled_from([2**20 - 2, 2**20 - 1, 2**20, 2**20 + 1, 2**31 - 1, 2**40]),
)


def lists(least=0, largest=None):
    one = item if largest is None else st.integers(0, largest)
    return st.lists(st.lists(one, min_size=least, max_size=8, unique=True), max_size=30)


@given(lists(), st.integers(-40, 40), st.slices(30))
def test_itemsets_are_a_sequence(itemsets, index, part):
    flat, ends = flat_of(itemsets)
    found = Itemsets(flat, ends)
    assert isinstance(found, Sequence)
    assert len(found) == len(itemsets)
    assert [piece.tolist() for piece in found] == itemsets
    assert [piece.tolist() for piece in found] == itemsets  # more than once
    assert [piece.tolist() for piece in reversed(found)] == itemsets[::-1]
    assert [piece.tolist() for piece in found[part]] == itemsets[part]
    for i in (index, np.int64(index)):
        if -len(itemsets) <= index < len(itemsets):
            assert found[i].tolist() == itemsets[i]
            assert found[i].dtype == np.int64
        else:
            with pytest.raises(IndexError):
                found[i]
    lengths = [len(itemset) for itemset in itemsets]
    assert found.lengths.tolist() == lengths_of(ends).tolist() == lengths


@given(lists())
def test_sorted_within(itemsets):
    flat, ends = flat_of(itemsets)
    before = flat.copy()
    assert as_lists(sorted_within(flat, ends), ends) == [sorted(s) for s in itemsets]
    np.testing.assert_array_equal(flat, before)


@given(lists(least=1))
def test_lexicographic_order_is_that_of_python(itemsets):
    itemsets = [sorted(itemset) for itemset in itemsets]
    order = lexicographic_order(*flat_of(itemsets)).tolist()
    assert order == sorted(range(len(itemsets)), key=lambda i: itemsets[i])  # both are stable


@pytest.mark.parametrize("width", [1, 2, 3, 6, 20, 21, 31, 62])
def test_a_prefix_stands_first_whatever_the_width_of_an_item(width):
    # As many items as one integer holds, one more and one less: 0 and the largest item, and
    # itemsets that are beginnings of each other.
    top = 2**width - 2
    per_key = 63 // (top + 1).bit_length()
    itemsets = []
    for length in {1, per_key - 1, per_key, per_key + 1, 2 * per_key, 2 * per_key + 1}:
        if 0 < length <= top + 1:
            itemsets += [[*range(length)], [*range(top - length + 1, top + 1)]]
            itemsets += [[*range(length - 1), top]] if length - 1 <= top else []
    rng = np.random.default_rng(width)
    itemsets = [itemsets[i] for i in rng.permutation(len(itemsets))]
    order = lexicographic_order(*flat_of(itemsets)).tolist()
    assert [itemsets[i] for i in order] == sorted(itemsets)


def test_lexicographic_order_of_many_long_itemsets():
    rng = np.random.default_rng(5)
    itemsets = [
        sorted(rng.choice(60, rng.integers(1, 40), replace=False).tolist()) for _ in range(2000)
    ]
    order = lexicographic_order(*flat_of(itemsets))
    assert [itemsets[i] for i in order] == sorted(itemsets)


@given(lists(), st.randoms(use_true_random=False))
def test_reordered(itemsets, random):
    order = [random.randrange(len(itemsets)) for _ in range(random.randrange(40)) if itemsets]
    flat, ends = reordered(*flat_of(itemsets), np.array(order, dtype=np.int64))
    assert as_lists(flat, ends) == [itemsets[i] for i in order]


@given(lists(largest=9), st.lists(st.lists(item, min_size=1, max_size=4), min_size=10, max_size=10))
def test_spread(itemsets, members):
    flat, ends = spread(*flat_of(itemsets), Itemsets(*flat_of(members)))
    assert as_lists(flat, ends) == [
        [x for i in itemset for x in members[i]] for itemset in itemsets
    ]


def test_spread_to_one_member_each():
    flat, ends = spread(*flat_of([[2, 0], [1]]), Itemsets(*flat_of([[7], [2**33], [5]])))
    assert as_lists(flat, ends) == [[5, 7], [2**33]]


def test_no_itemsets():
    flat, ends = flat_of([])
    assert len(Itemsets(flat, ends)) == 0
    assert list(Itemsets(flat, ends)) == []
    assert lengths_of(ends).tolist() == []
    assert sorted_within(flat, ends).tolist() == []
    assert lexicographic_order(flat, ends).tolist() == []
    nothing = np.empty(0, dtype=np.int64)
    assert [a.tolist() for a in reordered(flat, ends, nothing)] == [[], []]
    for members in (Itemsets(flat, ends), Itemsets(*flat_of([[3, 4]]))):
        assert [a.tolist() for a in spread(flat, ends, members)] == [[], []]
    # None of those that are there.
    assert [a.tolist() for a in reordered(*flat_of([[1, 2], [3]]), nothing)] == [[], []]


def test_types_stay():
    flat, ends = flat_of([[3, 1], [2]])
    members = Itemsets(*flat_of([[i, i + 10] for i in range(4)]))
    for part in (
        sorted_within(flat, ends),
        lexicographic_order(flat, ends),
        *reordered(flat, ends, np.array([1])),
        *spread(flat, ends, members),
    ):
        assert part.dtype == np.int64
