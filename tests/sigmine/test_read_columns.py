"""Small tables of whole numbers are read without pandas, and come out as pandas reads them."""

import numpy as np
import pandas as pd
import pytest

from sigmine.exceptions import DataWarning, FileFormatError
from sigmine.files import read_columns, read_table

WHOLE = "a,b,y\n1,0,1\n0,7,0\n12,000,1\n"


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        WHOLE.rstrip(),
        WHOLE.replace("\n", "\r\n"),
        WHOLE.replace("\n", "\r"),
        "\ufeff" + WHOLE,
    ],
    ids=["plain", "no last line end", "windows", "old mac", "byte order mark"],
)
def test_small_tables_of_whole_numbers_come_as_arrays(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode())
    columns = read_columns(path)
    frame = read_table(path)
    assert isinstance(columns, dict)
    assert list(columns) == list(frame.columns)
    for name, values in columns.items():
        assert values.dtype == frame[name].dtype == np.int64
        assert values.tolist() == frame[name].tolist()
    other = tmp_path / "table.tsv"
    other.write_bytes(text.replace(",", "\t").encode())
    assert [v.tolist() for v in read_columns(other).values()] == [
        v.tolist() for v in columns.values()
    ]


@pytest.mark.parametrize(
    "row",
    [
        "1,,1",
        "1,-1,1",
        "1,0.5,1",
        "1,x,1",
        '1,"2",1',
        "1, 2,1",
        "1,NA,1",
        f"1,{10**18},1",
        "1,1e3,0",
    ],
)
def test_other_tables_are_read_by_pandas(tmp_path, row):
    path = tmp_path / "table.csv"
    path.write_text(f"{WHOLE}{row}\n")
    found = read_columns(path)
    pd.testing.assert_frame_equal(found, read_table(path))


@pytest.mark.parametrize("text", ["a\n1\n2\n", '"a",b\n1,2\n', "\na,b\n1,2\n"])
def test_headers_that_are_left_to_pandas(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    pd.testing.assert_frame_equal(read_columns(path), read_table(path))


def test_large_tables_are_left_to_pandas(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    path.write_text(WHOLE)
    monkeypatch.setattr("sigmine.files._SLICE", len(WHOLE) - 1)
    assert isinstance(read_columns(path), pd.DataFrame)


@pytest.mark.parametrize(
    "text", ["a,b\n", "a,b\n1,2\n3\n", "a,b\n1,2,3\n", "a,a\n1,2\n", "a,\n1,2\n"]
)
def test_the_same_errors_whoever_reads(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    messages = []
    for read in (read_table, read_columns):
        with pytest.raises(FileFormatError) as caught:
            read(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_row_names_are_left_out_by_both(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(",a,b\n1,0,1\n2,1,1\n")
    with pytest.warns(DataWarning, match="row names"):
        assert list(read_columns(path).columns) == ["a", "b"]
