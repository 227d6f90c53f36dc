"""Report files of strangers: everything that can be wrong gets a clear error."""

import copy
import json
import math
import subprocess
import sys

import pytest

from sigmine.exceptions import FileFormatError
from sigmine.report import load_summary, render_html, render_json, summarize
from sigmine.report.schema import SCHEMA, validate
from tests.made_results import make_results
from tests.sigmine.test_report import a_problem


@pytest.fixture(scope="module")
def summary():
    return summarize(make_results(a_problem(), [(0, 1), (0,)]), confounding=False)


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "results.json"
        data = content if isinstance(content, bytes | str) else json.dumps(content)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def broken(summary, where, value):
    """A copy of the summary with one value replaced (or removed, by `...`)."""
    changed = json.loads(render_json(summary))
    part = changed
    for key in where[:-1]:
        part = part[key]
    if value is ...:
        del part[where[-1]]
    else:
        part[where[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["format"], "other", "not a sigmine report"),
        (["version"], 99, "format version 99; this sigmine reads versions 1 to 2"),
        (["version"], ..., "format version None"),
        (["data"], ..., "data is missing"),
        (["data", "n_rows"], "12", "data.n_rows is '12', expected a whole number of at least 0"),
        (["data", "n_rows"], -1, "data.n_rows is -1"),
        (["data", "n_rows"], 2.5, "data.n_rows is 2.5"),
        (["data", "n_rows"], 10**40, "expected a whole number"),
        (["data", "n_rows"], True, "data.n_rows is True"),
        (["data", "strata", 1, "informative"], 1, r"data.strata\[1\].informative is 1"),
        (["data", "strata", 0, "n_cases"], 10**6, r"data.strata\[0\] has more cases than rows"),
        (["patterns", "rows", 0, "pattern"], "a", "expected a list"),
        (["patterns", "rows", 0, "pattern"], [1], r"rows\[0\].pattern\[0\] is 1, expected a str"),
        (["patterns", "rows", 0, "pvalue"], "tiny", "expected a number"),
        (["patterns", "rows", 0, "pvalue"], 10**309, "expected a number"),
        (["patterns", "rows"], {}, "expected a list"),
        (["details", 0, "table"], [[1, 2]], r"details\[0\].table is not a 2x2 table"),
        (["details", 0, "strata", 0, "weight"], None, "expected a number"),
        (["calibration", "points", 0], [1], "not 2 finite numbers"),
        (["calibration", "points", 0], [1, "inf"], "not 2 finite numbers"),
        (["tested", "complete"], ..., "tested.complete is missing"),
        (["tested", "complete"], False, "tested.complete and tested.coverage contradict"),
        (["tested", "coverage"], "Half of it.", "tested.complete and tested.coverage contradict"),
        (["tested", "searched_fraction"], 1.5, "searched_fraction is not a share from 0 to 1"),
        (["versions"], [], "expected an object"),
        (["versions", "numpy"], 2, "versions.numpy is 2"),
        (["confounding"], [], "expected an object"),
        (["answer", "headline"], 3, "expected a string"),
        (["warnings"], ["x" * 500, 4], r"warnings\[1\] is 4"),
        (["question", "target"], ["y" * 500], r"is \['yyy.*\.\.\., expected a string"),
    ],
)
def test_damaged(summary, write, where, value, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        load_summary(write(broken(summary, where, value)))
    assert "results.json" in str(caught.value)


def test_every_key_is_needed(summary, write):
    for key in SCHEMA:
        with pytest.raises(FileFormatError):
            load_summary(write(broken(summary, [key], ...)))


def test_cut_off(summary, write):
    text = render_json(summary)
    cut = text[: len(text) // 2]
    with pytest.raises(FileFormatError, match="cut off") as caught:
        load_summary(write(cut))
    assert caught.value.line == cut.count("\n") + 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00binary",
        b"PAR1",
        b"[1, 2]",
        b"null",
        b'{"format": NaN}',
        b"[" * 100_000,
        b'{"format": "sigmine-report", "version": 1}',
        b'{"format": "sigmine-report", "version": 1e999}',
        b'{"format": "sigmine-report", "version": ' + b"1" * 5000 + b"}",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_not_a_report(write, content):
    with pytest.raises(FileFormatError):
        load_summary(write(content))


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_summary(tmp_path / "nothing.json")


def test_a_report_of_version_1(summary, write):
    # Written when no search could be stopped.
    older = broken(summary, ["version"], 1)
    for name in ("complete", "searched_fraction", "coverage", "lowered"):
        del older["tested"][name]
    assert load_summary(write(older)) == summary


@pytest.mark.parametrize("tested", [None, [], "x", {}])
def test_a_damaged_report_of_version_1(summary, write, tested):
    older = broken(summary, ["version"], 1) | {"tested": tested}
    with pytest.raises(FileFormatError, match="tested"):
        load_summary(write(older))


def test_unknown_keys_are_left_out(summary, write):
    changed = broken(summary, ["extra"], "</style><script>")
    assert load_summary(write(changed)) == summary


def test_settings_of_any_kind_are_shown_nowhere_unescaped(summary, write):
    changed = broken(summary, ["settings", "alpha"], {"<script>": ["<script>"]})
    assert "<script" not in render_html(load_summary(write(changed)))


def test_infinity_is_a_string_in_the_file(summary, write):
    changed = copy.deepcopy(summary)
    changed["patterns"]["rows"][0]["odds_ratio"] = math.inf
    changed["patterns"]["rows"][1]["odds_ratio"] = -math.inf
    changed["patterns"]["rows"][1]["odds_ratio_low"] = math.nan
    text = render_json(changed)
    assert '"odds_ratio": "inf"' in text
    assert '"odds_ratio": "-inf"' in text
    rows = load_summary(write(text))["patterns"]["rows"]
    assert [row["odds_ratio"] for row in rows] == [math.inf, -math.inf]
    assert rows[1]["odds_ratio_low"] is None


def test_rendering_a_file_needs_neither_the_search_nor_pandas(summary, write):
    path = write(render_json(summary))
    code = (
        "import sys; from sigmine.report import load_summary, render_html; "
        f"render_html(load_summary({str(path)!r})); "
        "print(sorted({'numba', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_validate_names_the_value_itself():
    with pytest.raises(ValueError, match="the file is 3, expected an object"):
        validate(3)
