"""Tables packed block by block: the same problem as from the file read whole."""

from __future__ import annotations

import gzip
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from sigmine import _slices, _survey, _tally, mining, streaming
from sigmine.exceptions import (
    DataWarning,
    FileFormatError,
    InputError,
    InputTypeError,
)
from sigmine.files import read_table
from sigmine.mining import mine_patterns
from sigmine.settings import SearchSettings
from sigmine.streaming import pack_table
from tests.packing import assert_same, peak_of

DEFAULT = SearchSettings()


@pytest.fixture
def small_blocks(monkeypatch):
    """Read tables in blocks of a few bytes."""
    return lambda size: monkeypatch.setattr(_slices, "_RECORDS_BYTES", size)


def whole_table(path, *, settings=DEFAULT, format=None, **options):
    """Return what `mine_patterns` searches, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(mining, "mine_problem", lambda problem, *_, **__: problem)
        frame = read_table(path, format=format)
        problem = mine_patterns(frame, grid_step=settings.grid_step, **options)
    return problem, [str(warning.message) for warning in caught]


def packed_table(path, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        problem = pack_table(path, **options)
    assert all(warning.filename == __file__ for warning in caught)
    return problem, [str(warning.message) for warning in caught]


def assert_same_table(path, **options):
    expected, expected_warnings = whole_table(path, **options)
    problem, found_warnings = packed_table(path, **options)
    assert_same(problem, expected)
    assert found_warnings == expected_warnings
    return problem


def random_frame(seed, n_rows):
    """Columns of every kind, with the difficulties of each."""
    rng = np.random.default_rng(seed)

    def holes(values, share=0.1):
        return pd.Series(values).astype(object).mask(rng.random(n_rows) < share)

    return pd.DataFrame(
        {
            "died": np.where(rng.permutation(n_rows) % 2, "yes", "no"),
            "ward": rng.integers(1, 4, n_rows),
            "sex": rng.choice(["m", "f"], n_rows),
            "flag": rng.integers(0, 2, n_rows),
            "ok": rng.choice([True, False], n_rows),
            "ok or missing": holes(rng.choice([True, False], n_rows)),
            "flag or missing": holes(rng.integers(0, 2, n_rows)),
            "grade": rng.integers(1, 6, n_rows),
            "age": rng.integers(0, 90, n_rows),
            "age or missing": holes(rng.integers(18, 90, n_rows)),
            "weight": rng.normal(70, 12, n_rows).round(2),
            "tied": np.minimum(rng.exponential(1, n_rows).round(1), 2.0),
            "colour": holes(rng.choice(["red", "green, dark", 'a "b"', "x\ny"], n_rows)),
            "id": [f"p{i:05d}" for i in range(n_rows)],
            "constant": "same",
            "nothing": np.nan,
            # Numbers first and texts later: what a block looks like is not what the column is.
            "mixed": [str(i % 3) if i < n_rows // 2 else "xyz"[i % 3] for i in range(n_rows)],
            "mixed whole": [i % 4 if i < n_rows // 2 else i % 4 + 0.5 for i in range(n_rows)],
            "ok then one": [True if i < n_rows // 2 else 1 for i in range(n_rows)],
        }
    )


OPTIONS = [
    {"missing": "absent"},
    {"missing": "item", "negate": True},
    {"missing": "absent", "bin_method": "width", "bins": 3},
    {"missing": "item", "edges": {"age": [30, 60], "grade": [2]}, "max_levels": 2},
    {"missing": "absent", "columns": ["age", "colour", "mixed"], "exclude": ["colour"]},
    {"missing": "absent", "strata": ["ward", "sex"], "positive": "no"},
    {"missing": "absent", "strata": "ok", "settings": SearchSettings(grid_step=0.06)},
    {"missing": "absent", "max_levels": 10_000},
    {"missing": "drop", "exclude": ["nothing"]},
    {"missing": "drop", "exclude": ["nothing"], "strata": ["flag or missing", "ward"]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options))
@pytest.mark.parametrize("most", [2**14, 20])
@pytest.mark.parametrize("size", [2**23, 2000])
def test_csv_as_read_whole(tmp_path, monkeypatch, small_blocks, options, most, size):
    path = tmp_path / "table.csv"
    random_frame(len(options) + most, 120).to_csv(path, index=False)
    small_blocks(size)
    monkeypatch.setattr(_tally, "_MOST_VALUES", most)
    monkeypatch.setattr(_survey, "_LONG_BYTES", 2000)
    assert_same_table(path, target="died", **{"strata": "ward", **options})


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options))
@pytest.mark.parametrize("most", [2**14, 20])
def test_parquet_as_read_whole(tmp_path, monkeypatch, options, most):
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    frame = random_frame(7, 300).drop(columns=["mixed", "mixed whole", "ok then one"])
    frame["when"] = pd.Timestamp("2020-02-01") + pd.to_timedelta(frame["age"], unit="D")
    frame["when"] = frame["when"].mask(frame["age"] > 80)
    frame["day"] = [pd.Timestamp(f"2021-03-{1 + i % 4}").date() for i in range(300)]
    frame["level"] = pd.Categorical(
        np.where(frame["flag"] == 1, "low", "high"), ["low", "middle", "high"], ordered=True
    )
    frame["size"] = pd.Categorical(frame["colour"].fillna("none"))
    frame["whole or missing"] = frame["age or missing"].astype("Int64")
    frame = frame.astype({"age or missing": float, "flag or missing": float})
    options = dict(options)
    if "columns" in options:
        options["columns"] = ["when", "day", "level", "size", "whole or missing", "id", "age"]
    frame.index = pd.Index(np.arange(300) + 5, name="row")  # pandas writes it too
    frame.to_parquet(path, row_group_size=70)
    monkeypatch.setattr("sigmine._blocks._BATCH_ROWS", 32)
    monkeypatch.setattr(_tally, "_MOST_VALUES", most)
    assert_same_table(path, target="died", **{"strata": "ward", **options})


SMALL = "died,sex,age\n1,m,31\n0,f,45\n1,m,52\n0,f,31\n1,f,45\n0,m,52\n"


@pytest.mark.parametrize("size", [5, 2**23])
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (SMALL, "a.csv"),
        (SMALL.rstrip("\n"), "no-newline.csv"),
        (SMALL.replace("\n", "\r\n"), "windows.csv"),
        (SMALL.replace("\n", "\r"), "mac.csv"),
        ("\ufeff" + SMALL, "mark.csv"),
        ("\n\n" + SMALL + "\n \n", "blank.csv"),
        (SMALL.replace("31\n", "31\n   \n\n"), "blank-between.csv"),
        (SMALL.replace(",", ", "), "spaces.csv"),
        (SMALL.replace("m", '"m\n\nn"').replace("sex", '"s\ne\nx"'), "quoted-lines.csv"),
        (SMALL.replace("m", '"m, ""n"""'), "quotes.csv"),
        (SMALL.replace("m", 'm"').replace("f", '5" f'), "stray-quotes.csv"),
        (SMALL.replace("m", "NA"), "missing.csv"),
        (SMALL.replace(",", "\t"), "a.tsv"),
        (gzip.compress(SMALL.encode(), mtime=0), "a.csv.gz"),
        (SMALL.replace("31", "1e1").replace("45", "18446744073709551615"), "large.csv"),
        (SMALL.replace("31", "99999999999999999999999"), "larger.csv"),
    ],
)
def test_tables_as_people_write_them(tmp_path, small_blocks, content, name, size):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    small_blocks(size)
    assert_same_table(path, target="died", missing="item")


def test_the_format_can_be_given(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text(SMALL.replace(",", "\t"))
    assert_same_table(path, target="died", format="tsv")


@pytest.mark.parametrize("size", [9, 2**23])
def test_row_names_are_left_out_with_a_warning(tmp_path, small_blocks, size):
    lines = SMALL.splitlines()
    rows = [lines[0], *(f"r{i},{line}" for i, line in enumerate(lines[1:]))]
    path = tmp_path / "table.csv"
    path.write_text("," + "\n".join(rows) + "\n")
    small_blocks(size)
    assert_same_table(path, target="died")
    with pytest.warns(DataWarning, match="first column has no name"):
        assert len(pack_table(path, target="died").item_names) == 5
    path.write_text("," + "\n".join(rows).replace("r3", "r1") + "\n")
    with pytest.raises(FileFormatError, match="its values repeat"):
        pack_table(path, target="died")


@pytest.mark.parametrize("size", [4, 2**23])
@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("", "x.csv"),
        (" \n\n", "x.csv"),
        ("a,b,c\n1,2,3\n4,5", "x.csv"),
        ("a,b,c\n1,2,3\n4,5\n6,7,8\n", "x.csv"),
        ("a,b,c\n1,2,3\n\n4,5,6,7\n", "x.csv"),
        ("a,b\nr1,1,2\nr2,3,4\n", "x.csv"),
        ('a,b\n1,2\n3,"x', "x.csv"),
        ('a,b\n1,"x\n3,4\n5,6\n', "x.csv"),
        ('a,b\n1,"x y"\n3,"z', "x.csv"),
        ('a,b\n1,"x\ny"\n3\n4,5\n', "x.csv"),
        ("a,b,a\n1,2,3\n", "x.csv"),
        ("a,,b\n1,2,3\n", "x.csv"),
        ("a;b\n1;2\n", "x.csv"),
        (b"a,b\n1,2\n3,\xe9\n", "x.csv"),
        (b"a,b\n1,\x002\n", "x.csv"),
        (b"a,b\n1,2\n# comment\n3,4\n", "x.csv"),
        (b"PAR1", "x.csv"),
        (b"a,b\n1,2\n", "x.parquet"),
        (b"PAR1 and no end", "x.parquet"),
        (b"PAR1 and nothing PAR1", "x.parquet"),
        (b"a,b\n", "x.json"),
        (None, "missing.csv"),
        (None, "missing.parquet"),
        (None, "."),
    ],
)
def test_errors_are_those_of_the_whole_table(tmp_path, small_blocks, content, name, size):
    pytest.importorskip("pyarrow")
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as expected:
        read_table(path)
    small_blocks(size)
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))) as caught:
        pack_table(path, target="a")
    assert getattr(caught.value, "line", None) == getattr(expected.value, "line", None)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({}, {"target": "nobody"}),
        ({}, {"target": "died", "strata": ["ward", "nobody"]}),
        ({}, {"target": "died", "strata": ["died"]}),
        ({}, {"target": "died", "columns": ["died"]}),
        ({}, {"target": "died", "columns": "age"}),
        ({}, {"target": "age"}),
        ({}, {"target": "weight"}),
        ({}, {"target": "colour"}),
        ({}, {"target": "died", "strata": "weight"}),
        ({}, {"target": "died", "strata": "colour"}),
        ({}, {"target": "died", "strata": "id"}),
        ({}, {"target": "died", "positive": "maybe"}),
        ({}, {"target": "died"}),
        ({}, {"target": "died", "missing": "drop"}),
        ({}, {"target": "nothing", "missing": "drop"}),
        ({}, {"target": "died", "missing": "never"}),
        ({}, {"target": "died", "bins": 1}),
        ({}, {"target": "died", "bins": 2.5}),
        ({}, {"target": "died", "edges": {"nobody": [1]}}),
        ({}, {"target": "died", "missing": "absent", "edges": {"sex": [1]}}),
        ({}, {"target": "died", "missing": "absent", "edges": {"age": [60, 30]}}),
        ({}, {"target": "died", "columns": ["constant"]}),
        ({"age": np.inf}, {"target": "died", "columns": ["age"]}),
        ({"colour=red": 1}, {"target": "died", "columns": ["colour", "colour=red"],
                             "missing": "absent"}),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_as_for_the_whole_table(tmp_path, change, options):
    frame = random_frame(3, 120)
    for name, value in change.items():
        frame[name] = np.where(np.arange(120) % 7 == 0, value, frame.get(name, 0))
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    with pytest.raises((InputError, InputTypeError)) as expected:
        whole_table(path, **options)
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        packed_table(path, **options)


@pytest.mark.parametrize("holes", ["feature", "target"])
def test_one_class_is_left(tmp_path, holes):
    path = tmp_path / "table.csv"
    options = {"target": "died", "missing": "drop"}
    if holes == "feature":
        path.write_text("died,a\n0,\n1,1\n0,\n1,2\n")
    else:
        path.write_text("died,a\n,1\n1,1\n,2\n1,2\n")
    with pytest.raises(InputError) as expected:
        whole_table(path, **options)
    assert ("after rows with missing values" in str(expected.value)) == (holes == "feature")
    with pytest.raises(InputError, match=re.escape(str(expected.value))):
        packed_table(path, **options)


def test_only_columns_of_many_numbers(tmp_path, monkeypatch, small_blocks):
    small_blocks(500)
    monkeypatch.setattr(_tally, "_MOST_VALUES", 20)
    path = tmp_path / "table.csv"
    random_frame(1, 200).to_csv(path, index=False)
    assert_same_table(path, target="died", columns=["age", "weight"])
    survey = streaming.survey_table

    def surveyed(*args):
        found = survey(*args)
        path.write_text(path.read_text().partition("\n")[0] + "\n" + "1," * 18 + "1\n")
        return found

    monkeypatch.setattr(streaming, "survey_table", surveyed)
    with pytest.raises(FileFormatError, match="changed while it was read"):
        pack_table(path, target="died", columns=["age", "weight"])


def test_many_levels_in_many_blocks(tmp_path, monkeypatch, small_blocks):
    small_blocks(100)
    monkeypatch.setattr(_tally, "_MOST_VALUES", 5)
    path = tmp_path / "table.csv"
    rows = "".join(f"{i % 2},{i % 3},person {i % 211}\n" for i in range(600))
    path.write_text("died,ward,who\n" + rows)
    assert_same_table(path, target="died", max_levels=10)


def test_a_record_without_end(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('died,a\n0,1\n1,"' + "2\n" * 100_000)
    with pytest.raises(FileFormatError, match="field larger than field limit") as caught:
        pack_table(path, target="died")
    assert caught.value.line == 3


def test_parquet_that_is_no_table_of_values(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "table.parquet"
    died = pa.array([0, 1, 0, 1])
    pq.write_table(pa.table([died, died], names=["died", "died"]), path)
    with pytest.raises(FileFormatError, match="more than one column is called 'died'"):
        pack_table(path, target="died")
    pq.write_table(pa.table({"died": died, "a": [[1], [2], [1], [3]]}), path)
    with pytest.raises(InputError, match="column 'a' is a list of lists"):
        pack_table(path, target="died")


def test_without_rows(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n")
    with pytest.raises(FileFormatError, match=r"header with 2 columns .* but no rows"):
        pack_table(path, target="a")
    pytest.importorskip("pyarrow")
    pd.DataFrame({"a": []}).to_parquet(tmp_path / "table.parquet")
    with pytest.raises(FileFormatError, match="0 rows and 1 columns"):
        pack_table(tmp_path / "table.parquet", target="a")


@pytest.mark.parametrize("after", [SMALL + "1,m,31\n", SMALL[:-7]])
@pytest.mark.parametrize("missing", ["error", "drop"])
@pytest.mark.parametrize("size", [20, 2**23])
def test_a_table_that_changes(tmp_path, monkeypatch, small_blocks, after, missing, size):
    small_blocks(size)
    path = tmp_path / "table.csv"
    path.write_text(SMALL)
    survey = streaming.survey_table

    def surveyed(*args):
        found = survey(*args)
        path.write_text(after)
        return found

    monkeypatch.setattr(streaming, "survey_table", surveyed)
    with pytest.raises(FileFormatError, match="changed while it was read"):
        pack_table(path, target="died", missing=missing)


def test_a_damaged_parquet_file(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    random_frame(0, 300)[["died", "id", "age"]].to_parquet(path)
    data = bytearray(path.read_bytes())
    data[40:400] = bytes(360)
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="damaged"):
        pack_table(path, target="died")


def test_a_large_table_needs_less_than_its_text(tmp_path, small_blocks):
    small_blocks(2**18)
    n_rows = 100_000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.choice(["never at all", "nearly always"], (2000, 20)))
    frame.columns = [f"x{j}" for j in range(20)]
    frame["y"] = rng.integers(0, 2, 2000)
    frame["z"] = rng.integers(0, 3, 2000)
    header, _, rows = frame.to_csv(index=False).partition("\n")
    path = tmp_path / "table.csv"
    path.write_text(header + "\n" + n_rows // 2000 * rows)
    problem, peak = peak_of(lambda: pack_table(path, target="y", strata="z"))
    assert problem.n_rows == n_rows
    assert len(problem.item_names) == 40
    bound = 2 * problem.table.columns.nbytes + 100 * n_rows + 6 * 2**20
    assert peak < bound < 0.8 * path.stat().st_size
