"""Files read with the line of every error, and written whole or not at all."""

import builtins
import errno
import gzip
import os
import stat
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine import files
from sigmine.exceptions import DataWarning, FileFormatError, InputError
from sigmine.files import (
    atomic_path,
    atomic_write,
    read_fimi,
    read_table,
    read_values,
    require_writable,
)


@pytest.fixture
def write(tmp_path):
    """Write a file of the test and return its path."""

    def _write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


# -- Tables -----------------------------------------------------------------------------------

TABLE = "age,sex,died\n31,m,0\n45,f,1\n"
FRAME = pd.DataFrame({"age": [31, 45], "sex": ["m", "f"], "died": [0, 1]})


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TABLE, "a.csv"),
        (TABLE, "A.CSV"),
        (TABLE.rstrip("\n"), "no-newline.csv"),
        (TABLE.replace("\n", "\r\n"), "windows.csv"),
        (TABLE.replace("\n", "\r"), "mac.csv"),
        ("\ufeff" + TABLE, "mark.csv"),
        (TABLE + "\n\n", "blank-at-end.csv"),
        (TABLE.replace("45", "\n   \n45"), "blank-between.csv"),
        ("\n" + TABLE, "blank-first.csv"),
        (TABLE.replace(",", ", "), "spaces.csv"),
        (TABLE.replace("m", '"m"').replace("age", '"age"'), "quotes.csv"),
        (TABLE.replace(",", "\t"), "a.tsv"),
        (TABLE.replace(",", "\t"), "a.tab"),
        (gzip.compress(TABLE.encode(), mtime=0), "a.csv.gz"),
        (gzip.compress(TABLE.replace(",", "\t").encode(), mtime=0), "a.tsv.gz"),
    ],
)
def test_tables_as_people_write_them(write, content, name):
    pd.testing.assert_frame_equal(read_table(write(content, name)), FRAME)


def test_the_format_can_be_given(write):
    path = write(TABLE.replace(",", "\t"), "table.txt")
    pd.testing.assert_frame_equal(read_table(str(path), format="tsv"), FRAME)
    with pytest.raises(InputError, match=r"suffix that is not known.*\.csv.*csv, tsv, parquet"):
        read_table(path)
    with pytest.raises(InputError, match=r"format='excel'.*csv, tsv, parquet"):
        read_table(path, format="excel")
    with pytest.raises(InputError, match="read_fimi"):
        read_table(write("1 2\n", "items.dat"))


def test_quotes_separators_and_line_ends_inside_values(write):
    path = write('name,note\n"Smith, J.","two\nlines"\nx,5" pipe\n"a ""b""",\n')
    frame = read_table(path)
    assert frame["name"].tolist() == ["Smith, J.", "x", 'a "b"']
    assert frame["note"].tolist()[:2] == ["two\nlines", '5" pipe']
    assert frame["note"].isna().tolist() == [False, False, True]


def test_text_that_is_not_ascii(write):
    assert read_table(write("naïve,Größe\nö,1\n")).columns.tolist() == ["naïve", "Größe"]


def test_missing_cells(write):
    frame = read_table(write("a,b\n,NA\n1,x\n"))
    assert frame.isna().to_numpy().tolist() == [[True, True], [False, False]]


def test_row_names_are_left_out_with_a_warning(write):
    path = write(',a,b\n1,0,1\n2,1,1\n')  # fmt: skip
    with pytest.warns(DataWarning, match="first column has no name .* left out") as caught:
        frame = read_table(path)
    assert frame.columns.tolist() == ["a", "b"]
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("", None, r"the file is empty \(0 bytes\)"),
        (" \n\n", None, r"the file is empty \(3 bytes\)"),
        ("a,b,c\n", None, r"header with 3 columns \(a, b, c\) but no rows"),
        ("a,b,c\n1,2,3\n4,5", 3, "2 fields .* has 3, and no line end: the file is cut off in the"),
        ("a,b,c\n1,2,3\n4,5\n", 3, "2 fields where the header has 3. Repair the line"),
        ("a,b,c\n1,2,3\n4,5\n6,7,8\n", 3, "2 fields where the header has 3"),
        ("a,b,c\n1,2,3\n\n4,5,6,7\n", 4, "4 fields where the header has 3"),
        ("a,b\nr1,1,2\nr2,3,4\n", 2, "3 fields .*first column holds row names"),
        ('a,b\n1,2\n3,"x', 3, "quoted value that begins here is never closed"),
        ('a,b\n1,"x\n3,4\n5,6\n', 2, "never closed"),
        ('a,b\n1,"x y"\n3,"z', 3, "never closed"),
        ("a,b,a,c,b\n1,2,3,4,5\n", 1, "more than one column is called 'a', 'b'"),
        ("a,,b,\n1,2,3,4\n", 1, "columns without a name: number 2, 4 of 4"),
        (",a\nx,1\nx,2\n", 1, "first column has no name, and its values repeat"),
        ("a;b\n1;2\n", 1, "contains semicolons; expected commas"),
        ("a\tb\n1\t2\n", 1, "contains tabs; expected commas"),
        (b"a,b\n1,2\n3,\xe9\n", 3, "byte 0xe9 is not UTF-8 text.*iconv"),
        ("x\n1\n\n2\n", 3, "a blank line among values"),
        ('""\n""\n', 1, "the header cannot be read .it is blank."),
        (b"a,b\n1,\x002\n", None, r"it is binary \(it has zero bytes\)"),
        (b"PAR1" + bytes(20) + b"PAR1", None, "it is a Parquet file"),
        (gzip.compress(TABLE.encode(), mtime=0), None, "it is compressed with gzip"),
        (TABLE.encode("utf-16"), None, "it is text in UTF-16"),
        (b"\x89HDF\r\n", None, "it is an HDF5 file"),
    ],
)
def test_bad_tables(write, content, line, message):
    path = write(content)
    with pytest.raises(FileFormatError, match=message) as caught:
        read_table(path)
    assert caught.value.line == line
    assert caught.value.path == str(path)
    place = str(path) if line is None else f"{path}, line {line}: "
    assert str(caught.value).startswith(place)


def test_tabs_are_expected_of_tsv(write):
    with pytest.raises(FileFormatError, match="contains commas; expected tabs"):
        read_table(write(TABLE, "table.tsv"))


def test_a_spreadsheet_under_the_name_of_a_csv(tmp_path):
    path = tmp_path / "table.csv"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(FileFormatError, match="spreadsheet"):
        read_table(path)


def test_what_pandas_refuses_is_passed_on(write, monkeypatch):
    def refuse(*args, **options):
        raise pd.errors.ParserError("no such luck")

    monkeypatch.setattr(pd, "read_csv", refuse)
    with pytest.raises(FileFormatError, match=r"table cannot be read \(no such luck\)"):
        read_table(write(TABLE))


def test_a_field_beyond_the_limit_of_the_parser(write):
    path = write('a,b\n1,"' + "x" * 200_000 + "\n3,4,5\n")
    with pytest.raises(FileFormatError, match="line cannot be read") as caught:
        read_table(path)
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(TABLE.encode(), "name ends in .gz but the content is not gzip"),
     (gzip.compress(TABLE.encode() * 50, mtime=0)[:-12], "compressed file is cut off")],
)  # fmt: skip
def test_bad_compression(write, content, message):
    with pytest.raises(FileFormatError, match=message):
        read_table(write(content, "table.csv.gz"))


@pytest.mark.parametrize("reader", [read_table, read_fimi, read_values])
def test_no_file_and_a_folder(tmp_path, reader):
    with pytest.raises(InputError, match=r"no\.csv does not exist"):
        reader(tmp_path / "no.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a folder; expected a file"):
        reader(tmp_path / "folder.csv")


def test_a_file_that_may_not_be_read(write, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match="may not be read"):
        read_table(write(TABLE))


cells = st.sampled_from(["", "1", "x", '"', '""', '"a,b"', '"a\nb"', '5" pipe', " ", '"c""d"'])


@given(st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=6), st.booleans(),
       st.integers(1, 7))  # fmt: skip
def test_the_fast_check_misses_nothing_that_the_parser_sees(rows, newline, slice_size):
    # What the fast check lets pass has the right number of fields in every record.
    text = "\n".join(["h1,h2", *(",".join(row) for row in rows)]) + "\n" * newline
    data = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_SLICE", slice_size)
        alarm = files._looks_irregular(data, ",", 2)
    records = [record for record in files._records(data, ",") if record]
    if not alarm:
        assert all(len(record) == 2 for record in records)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 9), st.booleans(), st.booleans())
def test_the_fast_check_passes_regular_tables(n_fields, n_rows, slice_size, quoted, newline):
    cell = '"a,\n""b"' if quoted else "12"
    text = "\n".join(",".join([cell] * (n_fields + 1)) for _ in range(n_rows)) + "\n" * newline
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_SLICE", slice_size)
        assert not files._looks_irregular(text.encode(), ",", n_fields + 1)


def test_a_long_table_has_its_bad_line_found(write):
    good = "1,2,3\n" * 50_000
    with pytest.raises(FileFormatError) as caught:
        read_table(write("a,b,c\n" + good + "1,2\n" + good))
    assert caught.value.line == 50_002


# -- Parquet ----------------------------------------------------------------------------------


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    for name in ("a.parquet", "a.pq"):
        FRAME.to_parquet(tmp_path / name)
        pd.testing.assert_frame_equal(read_table(tmp_path / name), FRAME)
    (tmp_path / "any.bin").write_bytes((tmp_path / "a.pq").read_bytes())
    pd.testing.assert_frame_equal(read_table(tmp_path / "any.bin", format="parquet"), FRAME)


def test_a_folder_name_is_not_read_as_a_column(tmp_path):
    pytest.importorskip("pyarrow")
    folder = tmp_path / "year=2020"
    folder.mkdir()
    FRAME.to_parquet(folder / "a.parquet")
    assert read_table(folder / "a.parquet").columns.tolist() == FRAME.columns.tolist()


def test_damaged_parquet(tmp_path, write):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    with pytest.raises(FileFormatError, match="does not begin as a Parquet file"):
        read_table(write(TABLE, "text.parquet"))
    with pytest.raises(FileFormatError, match="does not begin"):
        read_table(write("PAR", "short.parquet"))
    with pytest.raises(FileFormatError, match="empty"):
        read_table(write("", "empty.parquet"))
    FRAME.to_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    with pytest.raises(FileFormatError, match="cut off"):
        read_table(write(whole[:-20], "half.parquet"))
    with pytest.raises(FileFormatError, match="damaged"):
        read_table(write(whole[:8] + whole[-8:], "hollow.parquet"))
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]),
                   tmp_path / "twice.parquet")  # fmt: skip
    with pytest.raises(FileFormatError, match="more than one column is called 'a'"):
        read_table(tmp_path / "twice.parquet")
    FRAME.iloc[:0].to_parquet(tmp_path / "no-rows.parquet")
    with pytest.raises(FileFormatError, match="0 rows and 3 columns"):
        read_table(tmp_path / "no-rows.parquet")


def test_parquet_without_pyarrow(write, monkeypatch):
    real_import = builtins.__import__

    def no_pyarrow(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    with pytest.raises(InputError, match=r"pip install sigmine\[parquet\]"):
        read_table(write(b"PAR1" + bytes(8) + b"PAR1", "a.parquet"))


# -- Transactions and values ------------------------------------------------------------------


def test_transactions(write):
    matrix, names = read_fimi(write("3 10 3\n\n 10\t2 \r\n007\n", "items.dat"))
    assert names == ("2", "3", "7", "10")
    assert matrix.format == "csc"
    assert matrix.dtype == np.bool_
    assert matrix.toarray().astype(int).tolist() == [
        [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0],
    ]  # fmt: skip


def test_compressed_transactions(write):
    matrix, names = read_fimi(write(gzip.compress(b"1 2\n2\n", mtime=0), "items.dat.gz"))
    assert matrix.toarray().tolist() == [[True, True], [False, True]]
    assert names == ("1", "2")


@given(
    st.lists(
        st.lists(st.integers(0, 30) | st.integers(0, 10**18 - 1), max_size=6),
        min_size=1,
        max_size=8,
    ).filter(any),
    st.booleans(),
)
def test_transactions_are_read_as_written(tmp_path_factory, rows, newline):
    # Without a final newline a last empty row cannot be told from the end of the file.
    newline = newline or not rows[-1]
    path = tmp_path_factory.getbasetemp() / "items.dat"
    path.write_text("\n".join(" ".join(map(str, row)) for row in rows) + "\n" * newline)
    matrix, names = read_fimi(path)
    assert names == tuple(map(str, sorted({item for row in rows for item in row})))
    dense = matrix.toarray()
    for row, has in zip(rows, dense, strict=True):
        assert {name for name, one in zip(names, has, strict=True) if one} == set(map(str, row))
    assert matrix.nnz == dense.sum()
    assert matrix.has_sorted_indices


@pytest.mark.parametrize(
    ("content", "line", "word"),
    [
        ("1 2\n3 x4 5\n", 2, "x4"),
        ("1 2\n3\n-1 2\n", 3, "-1"),
        ("1 2.5\n", 1, "2.5"),
        ("1,2,3\n", 1, "1,2,3"),
        ("5\tab c\n", 1, "ab"),
        ("1 2\n" + "9" * 19 + "\n", 2, "9" * 19),
        ("1 é\n", 1, "é"),
    ],
)
def test_bad_transactions(write, content, line, word):
    with pytest.raises(FileFormatError, match="is not the id of an item") as caught:
        read_fimi(write(content, "items.dat"))
    assert caught.value.line == line
    assert f": {word!r} is" in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n\n", b"1 2\x00\n", b"PAR1 \n"])
def test_files_that_hold_no_transactions(write, content):
    with pytest.raises(FileFormatError, match=r"empty|not what its name"):
        read_fimi(write(content, "items.dat"))


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("1\n0\n1\n", [1, 0, 1]),
        ("1 0 1\n", [1, 0, 1]),
        ("1\t0  1", [1, 0, 1]),
        ("1\r\n0\r\n", [1, 0]),
        ("0.5\n1\n", [0.5, 1.0]),
        ("New York\nOslo\n", ["New York", "Oslo"]),
        ("a b", ["a", "b"]),
        ("1\nb\n", ["1", "b"]),
        ("1\n0\n\n\n", [1, 0]),
        ("99999999999999999999\n1\n", [1e20, 1.0]),
    ],
)
def test_values(write, content, values):
    found = read_values(write(content, "labels.txt"))
    assert found.tolist() == values
    assert found.dtype == (object if isinstance(values[-1], str) else np.array(values).dtype)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("1\n\n0\n", 2, "a blank line"),
        ("1\nNA\n0\n", 2, "the missing value 'NA'"),
        ("\n1\n0\n", 1, "a blank line"),
        ("1 NaN 0\n", 1, "the missing value 'NaN'"),
        ("", None, "empty"),
    ],
)
def test_bad_values(write, content, line, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        read_values(write(content, "labels.txt"))
    assert caught.value.line == line


# -- Writing ----------------------------------------------------------------------------------


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("data", "content"), [("é\n", b"\xc3\xa9\n"), (b"\x00\r\n", b"\x00\r\n")])
def test_atomic_write(tmp_path, data, content):
    path = tmp_path / "report.html"
    for _ in range(2):  # a new file, then over an old one
        atomic_write(path, data)
        assert path.read_bytes() == content
        assert leftovers(tmp_path) == ["report.html"]


def test_a_writer_that_puts_its_own_file_there_keeps_the_permissions(tmp_path):
    # As writers do that are atomic by themselves, with a file for the owner alone.
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    with atomic_path(tmp_path / "b.txt") as temporary:
        other = tmp_path / "other"
        os.close(os.open(other, os.O_CREAT | os.O_WRONLY, 0o600))
        os.replace(other, temporary)
    assert (tmp_path / "b.txt").stat().st_mode == plain.stat().st_mode


def test_the_temporary_file_has_the_suffix_and_the_folder(tmp_path):
    with atomic_path(tmp_path / "a.csv.gz") as temporary:
        assert temporary.name.endswith(".csv.gz")
        assert temporary.parent == tmp_path
        FRAME.to_csv(temporary, index=False)
        assert not (tmp_path / "a.csv.gz").exists()
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.csv.gz"), FRAME)


def test_a_long_name_is_no_trouble(tmp_path):
    path = tmp_path / ("x" * 250 + ".csv")
    atomic_write(path, "text")
    assert path.read_text() == "text"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_goes_wrong_the_old_file_stays(tmp_path, error):
    path = tmp_path / "report.html"
    path.write_text("old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the new")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == ["report.html"]


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("where", ["write", "sync"])
def test_disk_full(tmp_path, monkeypatch, existed, where):
    path = tmp_path / "report.html"
    if existed:
        path.write_text("old")

    def no_room(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "write":
        monkeypatch.setattr(Path, "write_bytes", no_room)
    else:
        monkeypatch.setattr(os, "fsync", no_room)
    state = "the file that was there is unchanged" if existed else "no file was written"
    with pytest.raises(OSError, match=f"the disk is full; {state}") as caught:
        atomic_write(path, "new")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert leftovers(tmp_path) == (["report.html"] if existed else [])
    assert not existed or path.read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device():
    with pytest.raises(OSError, match="No space left"):
        atomic_write("/dev/full", "text")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_permissions_and_links_are_kept(tmp_path):
    path, link = tmp_path / "report.html", tmp_path / "link.html"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    atomic_write(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    previous = os.umask(0o027)
    try:
        atomic_write(tmp_path / "fresh.html", "x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "fresh.html").stat().st_mode) == 0o640


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_devices_are_written_directly(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        atomic_write(pipe, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_require_writable(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    assert require_writable(str(path)) == path
    assert leftovers(tmp_path) == []
    assert require_writable("bare-name.html") == Path("bare-name.html")
    with pytest.raises(InputError, match=r"folder .*no of a\.html does not exist. Create it"):
        require_writable(tmp_path / "no" / "a.html")
    with pytest.raises(InputError, match="is a folder; expected a file name"):
        require_writable(tmp_path)
    path.write_text("x")
    with pytest.raises(InputError, match="is a file, not a folder"):
        require_writable(path / "a.html")
    monkeypatch.setattr(os, "access", lambda where, mode: Path(where) != path)
    with pytest.raises(InputError, match="is read-only"):
        require_writable(path)
    monkeypatch.setattr(os, "access", lambda where, mode: Path(where) != tmp_path)
    with pytest.raises(InputError, match="may not be written to"):
        require_writable(tmp_path / "new.html")


def test_nothing_is_written_into_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        atomic_write(tmp_path / "no" / "a.html", "x")
    assert leftovers(tmp_path) == []
