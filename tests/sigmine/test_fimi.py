"""Transactions parsed by array operations: the same as line by line, wherever a block ends."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine import _fimi, _slices
from sigmine.exceptions import FileFormatError
from sigmine.files import read_fimi
from sigmine.mining import matrix_problem
from sigmine.settings import SearchSettings
from sigmine.streaming import pack_fimi
from tests.packing import peak_of

BAD = re.compile(r"[^0-9 \t\r\n]|[0-9]{19,}")


def slow_twin(text):
    """Parse line by line: the ids of every row, or the line and the word that is no id."""
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        for word in re.split(r"[ \t\r]+", line):
            if BAD.search(word):
                return number, word[:30]
    return [sorted({int(word) for word in line.split()}) for line in lines]


def rows_of(matrix, names):
    """Return the ids of every row; checks the promises of the matrix."""
    assert matrix.format == "csc"
    assert matrix.dtype == np.bool_
    assert matrix.data.all()
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
    for start, stop in zip(matrix.indptr, matrix.indptr[1:], strict=False):
        assert stop > start  # every id occurs
        assert (np.diff(matrix.indices[start:stop]) > 0).all()
    ids = np.array([int(name) for name in names], dtype=np.int64)
    assert (np.diff(ids) > 0).all()
    assert names == tuple(map(str, ids.tolist()))
    rows = matrix.tocsr()
    return [sorted(ids[rows.indices[a:b]].tolist()) for a, b in zip(rows.indptr, rows.indptr[1:])]  # noqa: B905


def check(path, text):
    """Compare what is read with the slow twin, by both readers."""
    expected = slow_twin(text)
    if isinstance(expected, list):
        assert rows_of(*read_fimi(path)) == expected
        problem = pack_fimi(path, np.arange(len(expected)) % 2) if len(expected) > 1 else None
        if problem is not None:
            kept = {int(name) for name in problem.item_names}
            dropped = {int(item.name) for item in problem.dropped}
            assert kept | dropped == set().union(*expected)
            assert not kept & dropped
        return
    line, word = expected
    for read in (read_fimi, lambda path: pack_fimi(path, [0, 1])):
        with pytest.raises(FileFormatError, match=re.escape(f": {word!r} is not the id")) as caught:
            read(path)
        assert caught.value.line == line


NUMBERS = st.one_of(
    st.integers(0, 12),
    st.integers(0, 10**18 - 1),
    st.sampled_from([10**k - j for k in range(1, 19) for j in (0, 1) if 10**k - j < 10**18]),
).map(str)
PADDED = st.builds("{:0>{}}".format, NUMBERS, st.integers(1, 18))
SPACES = st.sampled_from([" ", "  ", "\t", " \t ", " \r "])
ENDS = st.sampled_from(["\n", "\r\n", " \n", "\n\n", "\n \n"])
WRONG = st.sampled_from(
    ["-1", "1.5", "x", "1e3", "+4", "#", "é7", "9" * 19, "1,2", "1\x0c2", "\x0b"]
)


@st.composite
def texts(draw, words=NUMBERS | PADDED):
    parts = []
    for row in draw(st.lists(st.lists(words, max_size=5), min_size=1, max_size=8).filter(any)):
        for word in row:
            parts += [word, draw(SPACES)]
        if draw(st.booleans()):
            parts = parts[:-1]
        parts.append(draw(ENDS))
    text = draw(st.sampled_from(["", " ", "\n"])) + "".join(parts)
    return text.rstrip("\n") if draw(st.booleans()) else text


@given(text=texts() | texts(NUMBERS | WRONG), block=st.integers(1, 60), size=st.integers(1, 60))
def test_the_same_as_line_by_line(tmp_path_factory, text, block, size):
    if not text.strip(" \t\r\n"):
        text += "1\n"
    if "\n" not in text:
        text += "\n"  # carriage returns would be line ends
    path = tmp_path_factory.getbasetemp() / "lines.dat"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fimi, "_BLOCK_BYTES", block)
        patch.setattr(_slices.text_slices, "__defaults__", (size,))
        check(path, text)


LINES = "12 7\r\n\n3 123456789 3 \n  \n999999999999999999\t00000000000000005 8\n1"


@pytest.mark.parametrize("newline", ["", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("bad", ["", " -4", " 5.0 7", "0000000000000000000", "\x0c"])
def test_blocks_that_end_at_every_byte(tmp_path, monkeypatch, newline, bad):
    path = tmp_path / "items.dat"
    for text in (LINES + bad + newline, LINES.replace("8", "8" + bad) + newline):
        path.write_bytes(text.encode())
        for block in range(1, len(text) + 2):
            monkeypatch.setattr(_fimi, "_BLOCK_BYTES", block)
            check(path, text)


@pytest.mark.parametrize("largest", [0, 10, 2**22])
def test_ids_in_a_table_or_sorted(tmp_path, monkeypatch, largest):
    monkeypatch.setattr(_fimi, "LARGEST_TABLE", largest)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 40, 6).tolist() for _ in range(300)]
    path = tmp_path / "items.dat"
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    assert rows_of(*read_fimi(path)) == [sorted(set(row)) for row in rows]


@pytest.mark.parametrize("largest", [0, 2**22])
def test_rare_items_are_left_out_of_the_rows_they_stand_in(tmp_path, monkeypatch, largest):
    monkeypatch.setattr(_fimi, "LARGEST_TABLE", largest)
    monkeypatch.setattr(_fimi, "_BLOCK_BYTES", 50)
    path = tmp_path / "items.dat"
    path.write_text("".join(f"{i % 3} {100 + i} {50 + i % 2} {i % 5}\n" for i in range(90)))
    matrix, names = read_fimi(path)
    settings = SearchSettings(min_support=2)
    problem = pack_fimi(path, np.arange(90) // 45, settings=settings)
    kept = np.flatnonzero(matrix.sum(axis=0) >= 2)
    assert problem.item_names == tuple(names[j] for j in kept)
    expected = matrix_problem(
        matrix.toarray()[:, kept], np.arange(90) // 45, None, problem.item_names, None, settings
    )
    np.testing.assert_array_equal(problem.table.columns, expected.table.columns)


@pytest.mark.parametrize("length", range(1, 19))
def test_numbers_of_every_length(length):
    rng = np.random.default_rng(length)
    words = [
        "".join(map(str, rng.integers(0, 10, rng.integers(1, length + 1)))) for _ in range(200)
    ]
    words += ["9" * length, "0" * length, "1" + "0" * (length - 1)]
    for data in (" ".join(words), "x" + "/:".join(words) + "y"):  # the neighbours of digits
        octets = np.frombuffer(data.encode(), dtype=np.uint8)
        starts, stops = _fimi.digit_runs((octets >= ord("0")) & (octets <= ord("9")))
        assert _fimi.numbers_at(data.encode(), starts, stops).tolist() == [int(w) for w in words]


def test_no_digits_at_all():
    starts, stops = _fimi.digit_runs(np.zeros(0, dtype=np.bool_))
    assert len(starts) == len(stops) == len(_fimi.numbers_at(b"", starts, stops)) == 0


def test_many_empty_rows_before_the_first_item(tmp_path):
    path = tmp_path / "items.dat"
    path.write_bytes(b" \n" * 300_000 + b"5\n5 6\n\n")  # the first blocks have no items
    matrix, names = read_fimi(path)
    assert matrix.shape == (300_003, 2)
    assert names == ("5", "6")
    assert pack_fimi(path, np.arange(300_003) % 2).item_names == ("5", "6")


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\n \n", gzip.compress(b"\n", mtime=0)]
)
def test_files_without_an_item(tmp_path, content):
    path = tmp_path / ("items.dat.gz" if content[:1] == b"\x1f" else "items.dat")
    path.write_bytes(content)
    for read in (read_fimi, lambda path: pack_fimi(path, [0, 1])):
        with pytest.raises(FileFormatError, match="the file is empty"):
            read(path)


def test_a_line_longer_than_a_block(tmp_path):
    path = tmp_path / "items.dat"
    path.write_text("1 2\n" + " ".join(map(str, range(200_000))) + "\n2\n")
    matrix, names = read_fimi(path)
    assert names == tuple(map(str, range(200_000)))
    assert matrix.sum(axis=1).tolist() == [2, 200_000, 1]


def test_working_space_is_a_few_numbers_for_each_entry(tmp_path):
    path = tmp_path / "items.dat"
    path.write_text("1 22 333 4444 55555\n" * 40_000)
    (matrix, _), peak = peak_of(lambda: read_fimi(path))
    assert matrix.nnz == 200_000
    # Text, ids twice while they are joined, and two matrices; not the eight bytes for each byte of
    # the text that whole-file positions would need.
    assert peak < path.stat().st_size + 40 * matrix.nnz + 8 * 2**20
