"""What a search starts from: distinct columns by falling support, word by word."""

from __future__ import annotations

import numpy as np
import pytest

from sigmine.bitset import unpack_columns
from sigmine.search import prepare as module
from sigmine.search.layout import EVIDENCE, ITEM, ONES
from sigmine.search.prepare import prepare
from sigmine.settings import SearchSettings
from tests.searches import make_problem


@pytest.mark.parametrize("hashes", ["as they are", "all equal", "few"])
@pytest.mark.parametrize("cells", [64, 2**14])
def test_distinct_columns_by_support(hashes, cells, monkeypatch):
    rng = np.random.default_rng(4)
    matrix = rng.random((150, 40)) < rng.random(40)
    matrix = matrix[:, rng.integers(0, 40, 90)]
    matrix = matrix[:, ~matrix.all(axis=0) & matrix.any(axis=0)]
    table = make_problem(matrix, rng.random(150) < 0.4, rng.integers(0, 3, 150)).table
    monkeypatch.setattr(module, "_BLOCK_CELLS", cells)
    as_usual = module._hashes
    if hashes == "all equal":
        monkeypatch.setattr(module, "_hashes", lambda columns: np.zeros(len(columns), np.uint64))
    elif hashes == "few":
        monkeypatch.setattr(module, "_hashes", lambda columns: as_usual(columns) & np.uint64(3))
    prepared = prepare(table, SearchSettings())
    packed = matrix[table.row_order]
    groups: dict[bytes, list[int]] = {}
    for j in range(packed.shape[1]):
        groups.setdefault(packed[:, j].tobytes(), []).append(j)
    expected = sorted(groups.values(), key=lambda items: (-packed[:, items[0]].sum(), items[0]))
    assert len(expected) < packed.shape[1]
    assert [items.tolist() for items in prepared.items] == expected
    first = [items[0] for items in expected]
    words = prepared.data.columns.reshape(table.n_words, len(expected))
    np.testing.assert_array_equal(
        unpack_columns(np.ascontiguousarray(words.T), 150).T, packed[:, first]
    )
    np.testing.assert_array_equal(prepared.data.root_cand[:, ITEM], np.arange(len(expected)))
    np.testing.assert_array_equal(prepared.data.root_cand[:, ONES], packed[:, first].sum(axis=0))
    assert (prepared.data.root_score[:, EVIDENCE] >= 0).all()


def test_columns_that_differ_have_hashes_that_differ():
    rng = np.random.default_rng(5)
    columns = rng.integers(0, 2**63, (2000, 3)).astype(np.uint64)
    columns[1000:] = columns[:1000] ^ (
        np.uint64(1) << rng.integers(0, 64, (1000, 3)).astype(np.uint64)
    )
    assert len(np.unique(module._hashes(columns))) == 2000


def test_a_table_without_items():
    table = make_problem(np.ones((9, 1), bool), np.arange(9) < 3, None).table
    prepared = prepare(table, SearchSettings())
    assert len(prepared.items) == len(prepared.data.root_cand) == len(prepared.data.columns) == 0
