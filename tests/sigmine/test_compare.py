"""The script that times other programs beside ours: formats, answers, refusals, ratios."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.limit import fraction_of_limit
from benchmarks.peers import Answer, DataFiles, Program, read_answer, refuse_different
from benchmarks.peers_tables import PROCESS, PROGRAM, SEARCH, TABLE, ratios, summary
from benchmarks.records import read_records


@pytest.fixture
def files(tmp_path: Path) -> DataFiles:
    prefix = tmp_path / "set"
    for ending, text in {
        "transactions": "7 3\n\n3\n",
        "labels": "1\n0\n1\n",
        "covariates": "0\n0\n1\n",
    }.items():
        prefix.with_suffix(f".{ending}").write_text(text, encoding="ascii")
    return DataFiles(prefix, tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("matrix", "1 0 1\n1 0 0\n"),
        ("table", "#row,3,7\n0,1,1\n1,0,0\n2,1,0\n"),
        ("values", "#row,value\n0,1\n1,0\n2,1\n"),
        ("fimi", "7 3\n\n3\n"),
    ],
)
def test_formats(files: DataFiles, name: str, text: str):
    assert Path(files.fill(f"{{{name}}}", {})).read_text(encoding="ascii") == text


def test_numbers_and_further_fields(files: DataFiles):
    assert files.fill("{rows} {cases} {support}", {"support": "5"}) == "3 2 5"


def test_unknown_fields_are_named(files: DataFiles):
    with pytest.raises(SystemExit, match=r"names \{tble\}.*matrix.*table"):
        files.fill("{tble}", {})


def test_a_later_stage_knows_what_an_earlier_one_found(files: DataFiles, tmp_path: Path):
    program = Program(
        [
            f'{sys.executable} -c "print(12); print(30)"',
            f'{sys.executable} -c "print({{count}} + 1, 1e-3)"',
        ],
        patterns={"count": r"^(\d+)$", "threshold": r"43 (\S+)"},
    )
    cost, found = program.run(files, tmp_path, None)
    assert read_answer(found) == Answer(42, 1e-3)
    assert cost.cpu_s > 0


def test_files_are_read_besides_the_output(files: DataFiles, tmp_path: Path):
    write = f"{sys.executable} -c \"open(r'{{tmp}}/said', 'w').write('found 8')\""
    program = Program([write], ["{tmp}/said"], {"count": r"found (\d+)"})
    assert program.run(files, tmp_path, None)[1] == {"count": "8"}


def test_an_answer_that_is_not_there_ends_the_comparison(files: DataFiles, tmp_path: Path):
    program = Program([f'{sys.executable} -c "print(1)"'], patterns={"count": r"of (\d+)"})
    with pytest.raises(SystemExit, match="matches the pattern of count"):
        program.run(files, tmp_path, None)


@pytest.mark.parametrize(
    ("theirs", "slack"),
    [
        (Answer(10, 1e-6, 3), 0),
        (Answer(11), 1),
        (Answer(threshold=1.000004e-6), 0),
        (Answer(), 0),
    ],
)
def test_equal_answers_are_compared(theirs: Answer, slack: int):
    refuse_different("set", "it", theirs, Answer(10, 1e-6, 3), slack)


@pytest.mark.parametrize(
    ("theirs", "slack", "message"),
    [
        (Answer(11), 0, "count 11 against our 10"),
        (Answer(12), 1, "count 12 against our 10"),
        (Answer(10, 1.1e-6), 0, "threshold"),
        (Answer(10, 1e-6, 4), 0, "significant 4"),
    ],
)
def test_different_answers_are_refused(theirs: Answer, slack: int, message: str):
    with pytest.raises(SystemExit, match=message):
        refuse_different("set", "it", theirs, Answer(10, 1e-6, 3), slack)


def row(what: str, cpu: float, method: str = "exact", jobs: int = 1, **more: float):
    line = {"data": "set", "round": 0, "what": what, "method": method, "jobs": jobs, "beside": ""}
    return {**line, "cpu_s": cpu, "wall_s": cpu / jobs, "peak_mb": 1.0, "read_cpu_s": 0.5, **more}


def test_ratios():
    rows = [
        row(PROGRAM, 400.0, "") | {"beside": "slow"},
        row(PROGRAM, 40.0, "") | {"beside": "fast"},
        row(SEARCH, 4.0),
        row(SEARCH, 4.4, jobs=2),
        row(SEARCH, 8.0, "asymptotic"),
        row(SEARCH, 8.0, "asymptotic", 2),
    ]
    assert summary(rows)[0]["program"] == "fast"
    assert summary(rows)[0]["program / search"] == 10
    assert ratios(rows) == [
        {
            "data": "set",
            "exact: wall 1 / 2 workers": pytest.approx(4 / 2.2),
            "asymptotic: wall 1 / 2 workers": 2.0,
            "CPU exact / asymptotic": 0.5,
        }
    ]


def test_without_a_program():
    (line,) = summary([row(SEARCH, 4.0)])
    assert line["program"] == ""
    assert line["search CPU s"] == 4.0


def compare_closed(files: DataFiles, out: Path, monkeypatch, *counts: int) -> None:
    named = [
        f"number {i}={sys.executable} -c 'print({n})' {{fimi}} {{support}}"
        for i, n in enumerate(counts)
    ]
    arguments = ["compare", "--task", "closed", "--data", f"{files.prefix}@1", "--rounds", "1"]
    arguments += ["--expect-count", r"\A(\d+)$", "--count-slack", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--against", *named])
    compare.main()


def test_several_programs_in_one_run(files: DataFiles, tmp_path: Path, monkeypatch):
    # Closed itemsets of the rows {7, 3}, {}, {3}: {3} and {3, 7}.
    compare_closed(files, tmp_path / "out.csv", monkeypatch, 2, 3)
    rows, facts = read_records(tmp_path / "out.csv")
    assert [(row["what"], row["beside"]) for row in rows] == [
        (PROGRAM, "number 0"), (PROGRAM, "number 1"), (PROCESS, ""), (SEARCH, ""), (TABLE, ""),
    ]  # fmt: skip
    assert [row["count"] for row in rows] == ["2", "3", "", "2", "2"]
    assert facts["program number 1"].startswith("python")
    with pytest.raises(SystemExit, match="number 1 answered count 4 against our 2"):
        compare_closed(files, tmp_path / "out.csv", monkeypatch, 2, 4)


def test_short_searches_say_nothing_about_workers():
    line = ratios([row(SEARCH, 1.0), row(SEARCH, 1.0, jobs=2)])[0]
    assert line["exact: wall 1 / 2 workers"] == ""


def test_fraction_of_the_limit():
    assert fraction_of_limit(10**9, 2.0, 1e9) == 0.5
