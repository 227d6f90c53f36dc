"""Transactions packed slice by slice: the same problem as from the file read whole."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine import _fimi, _slices, memory, streaming
from sigmine.exceptions import (
    FileFormatError,
    InputError,
    InsufficientMemoryError,
)
from sigmine.files import read_fimi, read_values
from sigmine.mining import matrix_problem, mine_problem
from sigmine.settings import SearchSettings
from sigmine.streaming import pack_fimi
from tests.packing import assert_same, peak_of

DEFAULT = SearchSettings()


def whole_fimi(path, labels, strata=None, settings=DEFAULT, positive=None):
    matrix, names = read_fimi(path)
    return matrix_problem(matrix, labels, strata, names, positive, settings)


def roles(n_rows):
    """Two classes and three strata, whatever the number of rows."""
    return np.arange(n_rows) % 2, np.arange(n_rows) // 2 % 3


@pytest.fixture
def small_slices(monkeypatch):
    """Read transactions in slices of a few bytes."""
    return lambda size: monkeypatch.setattr(_slices.text_slices, "__defaults__", (size,))


TRANSACTIONS = "3 1 2\n\n7 1\n2 2 2\n10 7\n1 2 3\n  \n7\t1 \n3 10\n2\n"


@pytest.mark.parametrize("size", [1, 3, 8, 2**21])
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TRANSACTIONS, "plain.dat"),
        (TRANSACTIONS[:-1], "no-newline.dat"),
        (TRANSACTIONS + "\n\n", "blank-at-end.dat"),
        ("\n\n" + TRANSACTIONS, "blank-first.dat"),
        (TRANSACTIONS.replace("\n", "\r\n"), "windows.dat"),
        (TRANSACTIONS.replace("\n", "\r"), "mac.dat"),
        ("\ufeff" + TRANSACTIONS, "mark.dat"),
        (TRANSACTIONS.replace("7", "007"), "zeros.dat"),
        (TRANSACTIONS.replace("7", "999999999999999999"), "large-ids.dat"),
        (gzip.compress(TRANSACTIONS.encode(), mtime=0), "packed.dat.gz"),
        (
            gzip.compress(b"1 2\n", mtime=0) + gzip.compress(b"2\n1\n3\n", mtime=0),
            "two-members.dat.gz",
        ),
    ],
)
def test_transactions_as_people_write_them(tmp_path, small_slices, content, name, size):
    small_slices(size)
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    y, z = roles(read_fimi(path)[0].shape[0])
    assert_same(pack_fimi(path, y, z), whole_fimi(path, y, z))
    assert_same(pack_fimi(str(path), y), whole_fimi(path, y))


@given(
    rows=st.lists(st.lists(st.integers(0, 30), max_size=8), min_size=4, max_size=200),
    scale=st.sampled_from([1, 1_000, 10**12]),
    size=st.sampled_from([5, 64, 2**20]),
    newline=st.booleans(),
)
def test_random_transactions(tmp_path_factory, rows, scale, size, newline):
    path = tmp_path_factory.mktemp("fimi") / "items.dat"
    text = "\n".join(" ".join(str(item * scale) for item in row) for row in rows)
    path.write_text(text + "\n" * newline if text.strip() else "1\n" * len(rows))
    y, z = roles(read_fimi(path)[0].shape[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_slices.text_slices, "__defaults__", (size,))
        patch.setattr(_fimi, "LARGEST_TABLE", 10_000)
        assert_same(pack_fimi(path, y, z), whole_fimi(path, y, z))


def test_outcome_and_covariate_from_files(tmp_path):
    path, labels, strata = (tmp_path / name for name in ("items.dat", "y.txt", "z.txt"))
    path.write_text("1 2\n2\n1\n2 3\n1\n3\n")
    labels.write_text("ill\nwell\nill\nwell\nwell\nill\n")
    strata.write_text("a a b b a b\n")
    problem = pack_fimi(path, labels, str(strata), positive="ill")
    y, z = read_values(labels), read_values(strata)
    assert_same(problem, whole_fimi(path, y, z, positive="ill"))
    assert problem.class_names == ("well", "ill")
    settings = SearchSettings(alpha=0.9)
    found = mine_problem(problem, settings)
    assert found.n_testable == mine_problem(whole_fimi(path, y, z), settings).n_testable


def test_settings_of_the_search(tmp_path):
    path = tmp_path / "items.dat"
    path.write_text("1 2 2\n2 5\n1 2\n2\n1 3 3 3\n3\n")
    y, z = [0, 1, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]
    grid = SearchSettings(grid_step=0.06)
    assert_same(pack_fimi(path, y, z, settings=grid), whole_fimi(path, y, z, grid))
    assert pack_fimi(path, y, z, settings=grid).table.n_strata == 2
    rare = pack_fimi(path, y, settings=SearchSettings(min_support=3))
    assert rare.item_names == ("1", "2")  # 3 is in two rows, however often it is repeated
    assert [(item.name, item.reason) for item in rare.dropped] == [
        ("3", "in 2 rows, fewer than min_support=3"),
        ("5", "in 1 rows, fewer than min_support=3"),
    ]
    none = pack_fimi(path, y, settings=SearchSettings(min_support=100))
    assert none.item_names == ()
    assert len(none.dropped) == 4


@pytest.mark.parametrize("size", [4, 2**21])
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "x.dat"),
        (b" \n\r\n", "x.dat"),
        (b"1 2\n3 # a comment\n", "x.dat"),
        (b"# a comment\n1 2\n", "x.dat"),
        (b"1 2\n\n3\n4,5\n", "x.dat"),
        (b"1 2\n3 -4\n", "x.dat"),
        (b"1 2\n3 4.5\n1", "x.dat"),
        (b"1\n2\n1234567890123456789 3\n", "x.dat"),
        (b"1 2\n3 \xe9\n", "x.dat"),
        (b"1 2\n3 \x004\n", "x.dat"),
        (b"PAR1 and more", "x.dat"),
        (gzip.compress(b"1 2\n", mtime=0), "x.dat"),
        (gzip.compress(b"1 2\n" * 1000, mtime=0)[:-20], "x.dat.gz"),
        (b"1 2\n", "x.dat.gz"),
        (gzip.compress(b"1 2\n3 x\n", mtime=0), "x.dat.gz"),
        (None, "missing.dat"),
        (None, "."),
    ],
)
def test_errors_are_those_of_the_whole_file(tmp_path, small_slices, content, name, size):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as expected:
        read_fimi(path)
    small_slices(size)
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))) as caught:
        pack_fimi(path, [0, 1])
    assert getattr(caught.value, "line", None) == getattr(expected.value, "line", None)


def test_an_empty_compressed_file(tmp_path):
    path = tmp_path / "x.dat.gz"
    path.write_bytes(gzip.compress(b"", mtime=0))
    with pytest.raises(FileFormatError, match="the file is empty"):
        pack_fimi(path, [0, 1])


@pytest.mark.parametrize(
    ("labels", "strata", "message"),
    [
        ([0, 1], None, "y has 2 rows and X 3"),
        ([0, 1, 2], None, "multiclass"),
        ([0, 1, 1], [1, 2], "strata has 2 values but the data have 3 rows"),
        ([0, 1, 1], [1, 2, 3], "no informative stratum"),
    ],
)
def test_roles_are_checked_before_the_second_reading(
    tmp_path, monkeypatch, labels, strata, message
):
    path = tmp_path / "items.dat"
    path.write_text("1\n2\n1 2\n")
    monkeypatch.setattr(streaming, "_set_bits", lambda *_: pytest.fail("read again"))
    with pytest.raises(InputError, match=message):
        pack_fimi(path, labels, strata)


@pytest.mark.parametrize("after", ["1\n2\n", "1\n2\n1 2\n1\n"])
def test_a_file_that_changes(tmp_path, monkeypatch, after):
    path = tmp_path / "items.dat"
    path.write_text("1\n2\n1 2\n")
    count = streaming._count_items

    def counted(*args, **kwargs):
        found = count(*args, **kwargs)
        path.write_text(after)
        return found

    monkeypatch.setattr(streaming, "_count_items", counted)
    with pytest.raises(FileFormatError, match="changed while it was read"):
        pack_fimi(path, [0, 1, 1])


def test_what_cannot_fit_is_refused_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.delenv("SIGMINE_MEMORY_CHECK", raising=False)
    available = memory.estimate_memory(3, 2, 1).total - 1  # enough for no items
    monkeypatch.setattr(memory, "available_memory", lambda: available)
    monkeypatch.setattr(memory, "_SMALL", 0)
    monkeypatch.setattr(streaming, "_set_bits", lambda *_: pytest.fail("made"))
    path = tmp_path / "items.dat"
    path.write_text("1\n2\n1 2\n")
    with pytest.raises(InsufficientMemoryError, match="3 rows, 2 items"):
        pack_fimi(path, [0, 1, 1])


def test_memory_does_not_grow_with_the_text(tmp_path, small_slices):
    small_slices(2**16)
    rng = np.random.default_rng(0)
    path = tmp_path / "items.dat"
    rows = [" ".join(map(str, np.flatnonzero(rng.random(200) < 0.5))) for _ in range(20_000)]
    path.write_text("\n".join(rows))
    y, z = roles(20_000)
    problem, peak = peak_of(lambda: pack_fimi(path, y, z))
    # Twice the packed items, 100 bytes a row, and working space.
    bound = 2 * problem.table.columns.nbytes + 100 * 20_000 + 4 * 2**20
    assert peak < bound < path.stat().st_size + problem.table.columns.nbytes
