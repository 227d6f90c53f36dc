"""Long searches from the command line: time limits, checkpoints, Ctrl-C, and files of any size."""

import os
import random
import signal
import subprocess
import time

import pytest

import sigmine
from sigmine import cli
from sigmine.files import read_fimi, read_values
from sigmine.search import driver
from tests.sigmine.test_cli import command, fimi, frame, run, table  # noqa: F401  # fixtures


def long_table(path):
    """Write a table whose search takes many seconds."""
    rng = random.Random(5)
    names = [f"x{j}" for j in range(70)]
    lines = [",".join([*names, "y"])]
    for _ in range(1200):
        lines.append(",".join([*(rng.choice("01") for _ in names), rng.choice("01")]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def no_time(monkeypatch):
    """Every time limit is over at once."""

    class Over(driver.Control):
        def __init__(self, seconds=None):
            super().__init__(seconds)
            if seconds is not None:
                self.stop[0] = 1

    monkeypatch.setattr(driver, "Control", Over)


class TestTimeLimit:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("90", 90.0), ("1.5", 1.5), ("45s", 45.0), ("10m", 600.0), ("1.5H", 5400.0), ("1e3", 1e3)],
    )
    def test_is_read(self, text, seconds):
        assert cli._seconds(text) == seconds
        assert cli._seconds(None) is None

    @pytest.mark.parametrize("text", ["0", "-1", "soon", "m", "", "10 m x", "3d", "nan", "inf"])
    def test_is_refused(self, table, text):  # noqa: F811
        result = run("mine", table, "--target", "died", "--time-limit", text,
                     env={"COLUMNS": "200"})  # fmt: skip
        assert result.exit_code == 2
        assert "--time-limit" in result.stderr
        assert "10m" in result.stderr

    def test_a_stop_is_no_error_and_is_said(self, table, tmp_path, no_time):  # noqa: F811
        report, saved = tmp_path / "report.html", tmp_path / "results.json"
        result = run("mine", table, "--target", "died", "--strata", "sex", "--time-limit", "1h",
                     "--report", report, "--json", saved)  # fmt: skip
        assert result.exit_code == 0, result.stderr
        assert "Warning: The search was stopped by its time limit" in result.stderr
        assert "stopped after 0\u00a0% of the search space" in result.stdout
        assert "Warning" not in result.stdout  # it was said already
        assert "This search is not complete." in report.read_text()
        again = run("report", saved)
        assert "This search is not complete." in again.stdout

    def test_quiet_says_it_too(self, table, no_time):  # noqa: F811
        result = run("mine", table, "--target", "died", "--time-limit", "1h", "--quiet")
        assert result.exit_code == 0
        assert result.stdout == ""
        assert "stopped by its time limit" in result.stderr

    def test_a_limit_that_is_not_reached(self, table):  # noqa: F811
        args = ("mine", table, "--target", "died", "--strata", "sex")
        limited, whole = run(*args, "--time-limit", "2h"), run(*args)
        assert limited.stdout.splitlines()[1:] == whole.stdout.splitlines()[1:]
        assert "stopped" not in limited.output

    def test_a_long_search(self, tmp_path):
        path = long_table(tmp_path / "long.csv")
        done = subprocess.run(
            command("mine", path, "--target", "y", "--time-limit", "1", "--top", "1"),
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "stopped by its time limit after" in done.stderr


class TestCheckpoint:
    def test_goes_on_to_the_same_answer(self, table, tmp_path, no_time):  # noqa: F811
        args = ("mine", table, "--target", "died", "--strata", "sex")
        kept = ("--checkpoint", tmp_path / "kept")
        first = run(*args, *kept, "--time-limit", "1m")
        assert "The same search with the same checkpoint goes on from there." in first.stderr
        # The number of visited row sets may differ after a checkpoint; nothing else does.
        later, whole = run(*args, *kept), run(*args)
        assert later.stdout.splitlines()[1:] == whole.stdout.splitlines()[1:]
        assert os.listdir(tmp_path / "kept")

    def test_of_another_search(self, table, tmp_path):  # noqa: F811
        args = ("mine", table, "--target", "died", "--checkpoint", tmp_path / "kept")
        assert run(*args).exit_code == 0
        result = run(*args, "--alpha", 0.01)
        assert result.exit_code == 3
        assert "alpha=0.05 there, 0.01 here" in result.stderr

    def test_a_file_is_no_folder(self, table):  # noqa: F811
        result = run("mine", table, "--target", "died", "--checkpoint", table,
                     env={"COLUMNS": "200"})  # fmt: skip
        assert result.exit_code == 2
        assert "is a file" in result.stderr

    @pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
    def test_an_interrupt_says_how_to_go_on(self, tmp_path):
        path, folder = long_table(tmp_path / "long.csv"), tmp_path / "kept"
        process = subprocess.Popen(
            command("mine", path, "--target", "y", "--checkpoint", folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            first = process.stderr.readline()  # progress: the search has begun
            while "compiling" in first:
                first = process.stderr.readline()
            assert first.startswith("Searching: ")
            process.send_signal(signal.SIGINT)
            stopped = time.monotonic()
            out, said = process.communicate(timeout=60)
            assert time.monotonic() - stopped < 20  # a second, on a machine that is not busy
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 130
        assert out == ""
        assert "Traceback" not in said
        assert f"The checkpoint {folder} holds " in said
        assert "the same search" in said


class TestTransactions:
    """A FIMI file is packed as it is read, with the answer of the matrix that it holds."""

    @pytest.mark.parametrize(
        "options",
        [{}, {"min_support": 60}, {"method": "asymptotic", "variance": "cochran",
                                   "grid_step": 0.06}],
        ids=str,
    )  # fmt: skip
    def test_is_the_function(self, fimi, tmp_path, options):  # noqa: F811
        out = tmp_path / "patterns.csv"
        given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        result = run("mine", *fimi, "--positive", "yes", "--alpha", 0.3, "--out", out, *given)
        assert result.exit_code == 0, result.stderr
        matrix, names = read_fimi(fimi[0])
        expected = sigmine.mine_matrix(
            matrix, read_values(fimi[2]), strata=read_values(fimi[4]), item_names=names,
            positive="yes", alpha=0.3, **options,
        )  # fmt: skip
        expected.to_csv(tmp_path / "expected.csv")
        assert out.read_text() == (tmp_path / "expected.csv").read_text()
        assert len(expected) > 0
        first = result.stdout.splitlines()[0]
        assert first.startswith(f"{len(expected)} significant pattern")
        assert f"of {expected.n_testable:,} testable" in first

    def test_never_holds_the_matrix(self, fimi, monkeypatch):  # noqa: F811
        def refuse(*_):
            raise AssertionError("the whole file was read into a matrix")

        monkeypatch.setattr("sigmine.files.read_fimi", refuse)
        assert run("mine", *fimi).exit_code == 0

    def test_rare_items_are_named_in_the_report(self, fimi, tmp_path):  # noqa: F811
        lines = fimi[0].read_text().splitlines()
        lines[0] += " 77"
        fimi[0].write_text("\n".join(lines) + "\n")
        report = tmp_path / "report.md"
        assert run("mine", *fimi, "--min-support", 2, "--report", report).exit_code == 0
        assert "fewer than min" in report.read_text()
        assert "77" in report.read_text()


class TestLargeTables:
    """A large table is packed as it is read."""

    @pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
    def test_same_answer(self, frame, tmp_path, suffix, monkeypatch):  # noqa: F811
        path = tmp_path / f"patients{suffix}"
        if suffix == ".parquet":
            pytest.importorskip("pyarrow")
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False)
        outs = [tmp_path / "whole.csv", tmp_path / "slices.csv"]
        args = ("mine", path, "--target", "died", "--strata", "sex", "--exclude", "hospital,smoker",
                "--alpha", 0.4, "--negate", "--positive", "yes")  # fmt: skip
        whole = run(*args, "--out", outs[0])
        monkeypatch.setattr(cli, "LARGE", 8 * 100)
        monkeypatch.setattr("sigmine.files.read_columns", None)
        slices = run(*args, "--out", outs[1])
        assert whole.exit_code == slices.exit_code == 0, slices.stderr
        assert outs[0].read_text() == outs[1].read_text()
        assert len(outs[0].read_text().splitlines()) > 1
        assert whole.stdout == slices.stdout

    def test_errors_have_their_codes(self, table, monkeypatch):  # noqa: F811
        monkeypatch.setattr(cli, "LARGE", 0)
        result = run("mine", table, "--target", "survived")
        assert result.exit_code == 3
        assert "survived" in result.stderr

    def test_a_file_that_is_not_there_is_not_large(self, tmp_path):
        assert not cli._is_large(tmp_path / "no.csv")


def test_time_limits_and_checkpoints_are_in_the_help():
    text = run("mine", "--help", env={"COLUMNS": "200"}).stdout
    assert "90, 10m, 2h" in text
    assert "--time-limit 1h --checkpoint my-search" in text
