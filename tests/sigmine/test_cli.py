"""The command line: what it prints and writes, and the exit code of everything that can fail."""

from __future__ import annotations

import inspect
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import sigmine
from sigmine import _terminal, cli

runner = CliRunner()


def run(*args: object, **how):
    return runner.invoke(cli.app, [str(arg) for arg in args], **how)


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "sigmine", *map(str, args)]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """240 rows: smoking with drinking doubles dying within either sex; hospital says nothing."""
    rng = random.Random(20)
    rows = []
    for _ in range(240):
        sex = rng.choice(["female", "male"])
        smoker, drinker = rng.random() < 0.5, rng.random() < 0.5
        risk = (0.15 if sex == "female" else 0.35) + (0.5 if smoker and drinker else 0.0)
        rows.append(
            {
                "sex": sex,
                "hospital": rng.choice("AB"),
                "smoker": "yes" if smoker else "no",
                "drinker": "yes" if drinker else "no",
                "age": rng.randrange(20, 80),
                "died": "yes" if rng.random() < risk else "no",
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture
def table(tmp_path: Path, frame: pd.DataFrame) -> Path:
    path = tmp_path / "patients.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def fimi(tmp_path: Path, frame: pd.DataFrame) -> list[object]:
    """The same rows as a FIMI file with labels and covariates: arguments of `mine`."""
    items = {"smoker": 1, "drinker": 2, "hospital": 3}
    is_on = frame.assign(hospital=frame["hospital"].eq("A").map({True: "yes", False: "no"}))
    lines = [
        " ".join(str(number) for name, number in items.items() if row[name] == "yes")
        for row in is_on.to_dict("records")
    ]
    names = ("items.dat", "labels.txt", "strata.txt")
    texts = (lines, frame["died"], frame["sex"])
    for name, text in zip(names, texts, strict=True):
        (tmp_path / name).write_text("\n".join(text) + "\n")
    paths = [tmp_path / name for name in names]
    return [paths[0], "--labels", paths[1], "--covariates", paths[2]]


class TestHelp:
    def test_lists_commands_and_exit_codes(self):
        result = run("--help")
        assert result.exit_code == 0
        for word in ("mine", "report", "demo", "130", "SIGMINE_DEBUG"):
            assert word in result.stdout

    def test_without_arguments_shows_the_help(self):
        assert "Commands" in run().output

    @pytest.mark.parametrize("name", ["mine", "report", "demo"])
    def test_every_command_shows_an_example(self, name: str):
        assert f"  sigmine {name}" in run(name, "--help").stdout

    def test_explains_every_option(self):
        text = run("mine", "--help", env={"COLUMNS": "200"}).stdout
        for option in inspect.signature(cli.mine).parameters:
            if option not in {"ctx", "table"}:
                assert f"--{option.replace('_', '-')} " in text

    def test_loads_nothing_heavy(self):
        code = (
            "import sys\nfrom sigmine.cli import app\n"
            "try:\n    app(['mine', '--help'])\nexcept SystemExit:\n    pass\n"
            "print(sorted({'numpy', 'numba', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "[]"

    @pytest.mark.parametrize(("given", "used"), [(None, "1"), ("3", "3")])
    def test_starts_no_threads_of_blas(self, given, used):
        code = (
            "import os, sys\nfrom sigmine.cli import main\nsys.argv = ['sigmine', '--version']\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            "print(os.environ['OPENBLAS_NUM_THREADS'])"
        )
        environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
        if given is not None:
            environment["OPENBLAS_NUM_THREADS"] = given
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert done.stdout.splitlines()[-1] == used

    def test_version(self):
        done = subprocess.run(command("--version"), capture_output=True, text=True)
        assert done.stdout == f"sigmine {sigmine.__version__}\n"

    def test_has_the_names_and_defaults_of_the_function(self):
        ours = inspect.signature(cli.mine).parameters
        theirs = inspect.signature(sigmine.mine_patterns).parameters
        elsewhere = {"frame", "correction", "verbose", "progress"}
        assert set(theirs) - elsewhere <= set(ours)
        empty = {None, ()}  # an option that is not given
        for name in set(theirs) - elsewhere - {"target"}:
            default, other = ours[name].default, theirs[name].default
            assert default == other or (default in empty and other in empty), name


class TestMine:
    def test_prints_patterns_and_the_promise(self, table: Path):
        result = run("mine", table, "--target", "died", "--strata", "sex", "--exclude", "hospital")
        assert result.exit_code == 0, result.stderr
        assert re.search(r"1  \S*(smoker|drinker)=yes & \S*(smoker|drinker)=yes", result.stdout)
        assert "family-wise error rate" in result.stdout
        assert "\x1b" not in result.output  # no colours outside of a terminal

    def test_is_the_function(self, table: Path, frame: pd.DataFrame, tmp_path: Path):
        out = tmp_path / "patterns.csv"
        options = ("--alpha", 0.2, "--bins", 3, "--negate", "--max-length", 2)
        result = run("mine", table, "--target", "died", "--strata", "sex", "--out", out, *options)
        assert result.exit_code == 0, result.stderr
        expected = sigmine.mine_patterns(
            frame, target="died", strata="sex", alpha=0.2, bins=3, negate=True, max_length=2
        )
        written = pd.read_csv(out)
        assert len(written) == len(expected) > 0
        assert written["pattern"].tolist() == [" & ".join(p) for p in expected.patterns["pattern"]]
        assert written["pvalue"].to_numpy() == pytest.approx(expected.patterns["pvalue"])

    def test_writes_all_files_and_nothing_else(self, table: Path, tmp_path: Path):
        names = ["patterns.csv", "report.html", "results.json"]
        out, report, json = (tmp_path / name for name in names)
        result = run("mine", table, "--target", "died", "--strata", "sex",
                     "--out", out, "--report", report, "--json", json)  # fmt: skip
        assert result.exit_code == 0, result.stderr
        assert sorted(os.listdir(tmp_path)) == sorted([*names, table.name])
        assert report.read_text().lower().startswith("<!doctype html>")
        assert f"Wrote {out}, {report}, {json}" in result.stderr
        assert "odds ratio" not in result.stdout  # the patterns are in the file

    def test_markdown_report(self, table: Path, tmp_path: Path):
        report = tmp_path / "report.md"
        assert run("mine", table, "--target", "died", "--report", report).exit_code == 0
        assert report.read_text().startswith("#")

    def test_several_strata(self, table: Path):
        args = ("mine", table, "--target", "died")
        once = run(*args, "--strata", "sex,hospital")
        twice = run(*args, "--strata", "sex", "--strata", "hospital")
        assert once.exit_code == 0, once.stderr
        assert once.stdout == twice.stdout
        assert "sex and hospital" in once.stdout

    def test_a_comma_in_a_column_name(self, frame: pd.DataFrame, tmp_path: Path):
        path = tmp_path / "comma.csv"
        frame.rename(columns={"sex": "sex, at birth"}).to_csv(path, index=False)
        result = run("mine", path, "--target", "died", "--strata", "sex, at birth")
        assert result.exit_code == 0, result.stderr
        assert "sex, at birth" in result.stdout

    def test_positive_and_columns(self, table: Path):
        result = run("mine", table, "--target", "died", "--positive", "no",
                     "--columns", "smoker,drinker", "--strata", "sex")  # fmt: skip
        assert result.exit_code == 0, result.stderr
        assert "died = no" in result.stdout
        assert "age" not in result.stdout

    def test_edges(self, table: Path):
        assert cli._edges(["age=30,50", "a=b=1e3"]) == {"age": [30.0, 50.0], "a=b": [1000.0]}
        assert cli._edges(None) is None
        result = run("mine", table, "--target", "died", "--edges", "age=30,50")
        assert result.exit_code == 0, result.stderr

    def test_transactions(self, fimi: list[object], frame: pd.DataFrame):
        result = run("mine", *fimi, "--positive", "yes")
        assert result.exit_code == 0, result.stderr
        assert re.search(r"1  1 & 2 ", result.stdout)

    def test_original_program(self, fimi: list[object]):
        result = run("mine", *fimi, "--method", "asymptotic", "--variance", "cochran",
                     "--grid-step", 0.06)  # fmt: skip
        assert result.exit_code == 0, result.stderr
        assert "asymptotic test" in result.stdout

    def test_a_warning_is_given_once(self, frame: pd.DataFrame, tmp_path: Path):
        path = tmp_path / "rare.csv"
        rare = frame.assign(died=["yes" if i % 12 == 0 else "no" for i in range(len(frame))])
        rare.to_csv(path, index=False)
        result = run("mine", path, "--target", "died", "--method", "asymptotic")
        assert result.exit_code == 0, result.stderr
        assert "Warning: The chi-squared approximation" in result.stderr
        assert ".py" not in result.stderr  # no file, line and source
        assert "Warning" not in result.stdout

    def test_nothing_significant_is_a_result(self, table: Path):
        result = run("mine", table, "--target", "died", "--columns", "hospital", "--strata", "sex")
        assert result.exit_code == 0, result.stderr
        assert "0 significant patterns" in result.stdout

    def test_nothing_testable_is_a_result(self, tmp_path: Path):
        path = tmp_path / "tiny.csv"
        path.write_text("x,y\n1,1\n0,0\n1,0\n0,1\n")
        result = run("mine", path, "--target", "y")
        assert result.exit_code == 0, result.stderr
        assert "smallest attainable p-value" in result.stdout

    def test_top(self, table: Path):
        args = ("mine", table, "--target", "died", "--alpha", 0.5, "--negate", "--quiet")
        everything = run(*args, "--top", 1000).stdout.splitlines()
        two = run(*args, "--top", 2).stdout.splitlines()
        assert len(everything) > 4
        assert len(two) == 4
        assert two[-1] == f"... and {len(everything) - 3:,} more (--top, or --out for all of them)"

    def test_quiet(self, table: Path, tmp_path: Path):
        out = tmp_path / "patterns.csv"
        result = run("mine", table, "--target", "died", "--quiet", "--out", out)
        assert (result.exit_code, result.output) == (0, "")
        assert out.exists()

    def test_a_terminal_gets_a_table(self, frame: pd.DataFrame, capsys, monkeypatch):
        renamed = frame.rename(columns={"smoker": "[bold]smoker"})
        results = sigmine.mine_patterns(renamed, target="died", strata="sex")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", "120")
        _terminal.show_patterns(results, top=3)
        shown = capsys.readouterr().out
        assert "[bold]smoker=yes" in shown  # not taken for markup
        assert "─" in shown


class TestUsage:
    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--target", "died", "--alpha", "2"], ["--alpha", "(0, 1)"]),
            (["--target", "died", "--method", "magic"], ["--method", "exact"]),
            (["--target", "died", "--min-support", "0"], ["--min-support", "at least 1"]),
            (["--target", "died", "--edges", "age"], ["--edges", "age=30,50"]),
            (["--target", "died", "--edges", "age=young"], ["--edges", "age=30,50"]),
            (["--target", "died", "--top", "-1"], ["--top"]),
            (["--target", "died", "--report", "report.pdf"], [".html", ".md"]),
            (["--target", "died", "--report", "report"], [".html", ".md"]),
            (["--target", "died", "--out", "patterns.xlsx"], [".csv"]),
            (["--target", "died", "--json", "report.html"], [".json"]),
            (["--target", "died", "--labels", "y.txt"], ["--labels", ".dat"]),
            (["--no-such-option"], ["--no-such-option"]),
            ([], ["--target"]),
        ],
    )
    def test_wrong_options(self, table: Path, args: list[str], words: list[str]):
        result = run("mine", table, *args, env={"COLUMNS": "200"})
        assert result.exit_code == 2
        for word in words:
            assert word in result.stderr
        assert result.stdout == ""

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            ([], ["--labels"]),
            (["--labels", "y.txt", "--target", "died", "--bins", "3"], ["--bins, --target"]),
        ],
    )
    def test_wrong_options_for_transactions(self, tmp_path: Path, args, words):
        result = run("mine", tmp_path / "items.dat", *args, env={"COLUMNS": "200"})
        assert result.exit_code == 2
        for word in words:
            assert word in result.stderr

    def test_one_file_for_two_outputs(self, table: Path, tmp_path: Path):
        result = run("mine", table, "--target", "died", "--out", tmp_path / "x",
                     "--json", tmp_path / "x")  # fmt: skip
        assert result.exit_code == 2

    def test_the_input_is_not_overwritten(self, table: Path):
        before = table.read_bytes()
        result = run("mine", table, "--target", "died", "--out", table)
        assert result.exit_code == 2
        assert table.read_bytes() == before


class TestBadInput:
    """Exit code 3, one paragraph on stderr, nothing on stdout, no file."""

    def check(self, tmp_path: Path, path: Path, *args: object) -> str:
        out = tmp_path / "out.csv"
        result = run("mine", path, "--out", out, *args)
        assert result.exit_code == 3, result.output
        assert result.stdout == ""
        assert result.stderr.startswith("Error: ")
        assert "Traceback" not in result.stderr
        assert "\n\n" not in result.stderr
        assert not out.exists()
        return result.stderr

    def test_no_such_file(self, tmp_path: Path):
        assert "nowhere.csv" in self.check(tmp_path, tmp_path / "nowhere.csv", "--target", "y")

    def test_empty_file(self, tmp_path: Path):
        path = tmp_path / "empty.csv"
        path.touch()
        assert "empty" in self.check(tmp_path, path, "--target", "y")

    def test_a_line_that_is_cut_off(self, table: Path, tmp_path: Path):
        table.write_text(table.read_text() + "male,A")
        assert "line 242" in self.check(tmp_path, table, "--target", "died")

    def test_no_such_column(self, table: Path, tmp_path: Path):
        said = self.check(tmp_path, table, "--target", "survived")
        assert "survived" in said
        assert "died" in said  # the columns that there are

    def test_three_classes(self, table: Path, tmp_path: Path):
        assert "age" in self.check(tmp_path, table, "--target", "age")

    def test_missing_values(self, table: Path, tmp_path: Path, frame: pd.DataFrame):
        frame.assign(smoker=frame["smoker"].where(frame.index > 3)).to_csv(table, index=False)
        said = self.check(tmp_path, table, "--target", "died")
        assert "smoker" in said

    def test_labels_of_another_length(self, fimi: list[object], tmp_path: Path):
        Path(str(fimi[2])).write_text("yes\nno\n")
        said = self.check(tmp_path, Path(str(fimi[0])), *fimi[1:])
        assert "240" in said
        assert "2" in said

    def test_a_report_of_something_else(self, tmp_path: Path):
        path = tmp_path / "other.json"
        path.write_text('{"a": 1}')
        result = run("report", path, "--out", tmp_path / "report.html")
        assert result.exit_code == 3
        assert "not a sigmine report" in result.stderr


class TestOutputs:
    """Exit code 4, before any work."""

    @pytest.mark.parametrize(
        ("option", "name"), [("--out", "x.csv"), ("--report", "x.html"), ("--json", "x.json")]
    )
    def test_a_folder_that_is_missing(self, tmp_path: Path, option: str, name: str):
        # The input is missing too: had it been read first, the code would be 3.
        target = tmp_path / "nowhere" / name
        result = run("mine", tmp_path / "no.csv", "--target", "y", option, target)
        assert result.exit_code == 4
        assert "nowhere" in result.stderr

    def test_a_folder_in_place_of_a_file(self, tmp_path: Path):
        result = run("mine", tmp_path / "no.csv", "--target", "y", "--out", tmp_path)
        assert result.exit_code == 4

    def test_a_file_in_place_of_the_folder_of_the_demo(self, tmp_path: Path):
        (tmp_path / "taken").touch()
        assert run("demo", "--out", tmp_path / "taken").exit_code == 4

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk(self, table: Path, tmp_path: Path):
        json = tmp_path / "results.json"
        result = run("mine", table, "--target", "died", "--json", json, "--out", "/dev/full")
        assert result.exit_code == 4
        assert "/dev/full cannot be written" in result.stderr or "full" in result.stderr

    def test_says_what_was_written_before_a_failure(self, table: Path, tmp_path: Path, monkeypatch):
        def refuse(path, text):
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(cli, "atomic_write", refuse)
        out, json = tmp_path / "p.csv", tmp_path / "r.json"
        result = run("mine", table, "--target", "died", "--out", out, "--json", json)
        assert result.exit_code == 4
        assert f"Wrote {out}, and no other file." in result.stderr
        assert f"{json} cannot be written: No space left on device." in result.stderr


class TestTheUnexpected:
    def test_error_without_traceback(self, table: Path, monkeypatch):
        def fail(*args, **options):
            raise ZeroDivisionError("by zero")

        monkeypatch.setattr("sigmine.files.read_columns", fail)
        result = run("mine", table, "--target", "died")
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ZeroDivisionError: by zero")
        assert "Traceback" not in result.stderr
        assert "Traceback" in run("mine", table, "--target", "died",
                                  env={"SIGMINE_DEBUG": "1"}).stderr  # fmt: skip

    def test_out_of_memory(self, table: Path, monkeypatch):
        def fail(*args, **options):
            raise MemoryError

        monkeypatch.setattr("sigmine.files.read_columns", fail)
        result = run("mine", table, "--target", "died")
        assert result.exit_code == 1
        assert "memory" in result.stderr

    def test_a_reader_that_goes_away(self, table: Path):
        process = subprocess.Popen(
            command("mine", table, "--target", "died", "--alpha", "0.5", "--negate", "--quiet"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        process.stderr.close()
        assert process.wait(timeout=120) == 0
        assert said == ""

    def test_a_terminal_without_the_character(self, frame: pd.DataFrame, tmp_path: Path):
        path = tmp_path / "table.csv"
        frame.rename(columns={"smoker": "Ωmega"}).to_csv(path, index=False)
        done = subprocess.run(
            command("mine", path, "--target", "died", "--strata", "sex"),
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        )
        assert done.returncode == 0
        assert rb"\u03a9mega=yes" in done.stdout

    def test_warnings_are_sentences(self, capsys):
        import warnings

        with _terminal.warnings_as_sentences():
            warnings.warn("few cases.", sigmine.StatisticalWarning, stacklevel=1)
        assert capsys.readouterr().err == "Warning: few cases.\n"


class TestInterrupt:
    def test_exit_code(self, table: Path, monkeypatch):
        def interrupt(*args, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr("sigmine.mining.mine_patterns", interrupt)
        result = run("mine", table, "--target", "died")
        assert result.exit_code == 130
        assert result.stderr == "Error: stopped by Ctrl-C.\n"

    @pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
    def test_ends_a_long_search(self, tmp_path: Path):
        rng = random.Random(5)
        names = [f"x{j}" for j in range(60)]
        rows = [[str(int(rng.random() < 0.6)) for _ in names] for _ in range(1500)]
        path = tmp_path / "long.csv"
        lines = [",".join([*names, "y"])] + [",".join([*row, rng.choice("01")]) for row in rows]
        path.write_text("\n".join(lines) + "\n")
        out = tmp_path / "out.csv"
        out.write_text("old")
        process = subprocess.Popen(
            command("mine", path, "--target", "y", "--out", out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            first = process.stderr.readline()  # progress: the search has run for a second
            while "compiling" in first:
                first = process.stderr.readline()
            assert first.startswith("Searching: ")
            process.send_signal(signal.SIGINT)
            stopped = time.monotonic()
            said = process.stderr.read()
            assert process.wait(timeout=60) == 130
            assert time.monotonic() - stopped < 20  # a second, on a machine that is not busy
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
        assert "Traceback" not in said
        assert out.read_text() == "old"
        assert sorted(os.listdir(tmp_path)) == ["long.csv", "out.csv"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What `sigmine demo` writes, into a folder that was not there."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    result = run("demo", "--out", folder)
    assert result.exit_code == 0, result.stderr
    assert str(folder / "report.html") in result.stdout
    assert " 1  " in result.stdout
    return folder


class TestDemoAndReport:
    def test_writes_three_files(self, folder: Path):
        assert sorted(os.listdir(folder)) == ["patterns.csv", "report.html", "results.json"]
        assert len(pd.read_csv(folder / "patterns.csv")) > 0

    def test_the_same_report_from_the_json(self, folder: Path, tmp_path: Path):
        again = tmp_path / "again.html"
        result = run("report", folder / "results.json", "--out", again)
        assert result.exit_code == 0, result.stderr
        assert again.read_text() == (folder / "report.html").read_text()

    def test_markdown_on_stdout(self, folder: Path, tmp_path: Path):
        printed = run("report", folder / "results.json")
        assert printed.exit_code == 0
        path = tmp_path / "report.md"
        assert run("report", folder / "results.json", "--out", path).exit_code == 0
        assert printed.stdout.strip() == path.read_text().strip()
