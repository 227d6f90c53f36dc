"""What the command line shows while it searches."""

import io
import re
import sys
from dataclasses import replace

import pytest

from sigmine import _terminal
from sigmine.search.outcome import SearchProgress
from tests.sigmine.test_cli import frame, run, table  # noqa: F401  # fixtures


def progress(seconds: float, stage: str = "threshold", done: float = 0.25) -> SearchProgress:
    return SearchProgress(
        stage=stage, visited=12345, testable=678, threshold=0.00012, fraction_done=done,
        seconds=seconds,
    )  # fmt: skip


class TestProgress:
    def test_silent_in_the_first_second(self, capsys):
        with _terminal.SearchMeter() as meter:
            meter(progress(0.9))
        assert capsys.readouterr() == ("", "")

    def test_silent_when_quiet(self, capsys):
        with _terminal.SearchMeter(quiet=True) as meter:
            meter(progress(100))
        assert capsys.readouterr() == ("", "")

    def test_plain_lines_are_rare(self, capsys):
        with _terminal.SearchMeter() as meter:
            for step in range(50):
                meter(progress(1.5 + step / 100))
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err == (
            "Searching: 25% of the search space, 12.3k visited (8,230/s), 678 testable, "
            "threshold 0.00012, 2 s so far\n"
        )

    def test_says_why_nothing_has_been_visited(self, capsys):
        with _terminal.SearchMeter() as meter:
            meter(replace(progress(3.2), visited=0, testable=0, fraction_done=0.0))
        said = capsys.readouterr().err
        assert said == "Searching: compiling (once on this machine), 3 s so far\n"

    def test_a_name_for_another_search(self, capsys):
        for stage, start in (("threshold", "Comparing: 25%"), ("collect", "Second pass: 25%")):
            with _terminal.SearchMeter(name="Comparing") as meter:
                meter(progress(1.5, stage=stage))
            assert capsys.readouterr().err.startswith(start)

    @pytest.mark.parametrize("quiet", [True, False])
    def test_the_search_for_the_report_shows_it_too(self, table, tmp_path, monkeypatch, quiet):  # noqa: F811
        shown, take = [], _terminal.SearchMeter.__call__

        def spy(meter, state):
            if meter.name == "Comparing":
                shown.append(meter.quiet)
            take(meter, state)

        monkeypatch.setattr(_terminal.SearchMeter, "__call__", spy)
        options = ["--quiet"] * quiet
        run("mine", table, "--target", "died", "--strata", "sex", *options)
        assert not shown  # without a report there is no second search
        report = tmp_path / "report.md"
        args = ("mine", table, "--target", "died", "--strata", "sex", "--report", report)
        assert run(*args, *options).exit_code == 0
        assert set(shown) == {quiet}

    @pytest.mark.parametrize("columns", [120, 79, 60, 40, 25])
    def test_a_bar_on_a_terminal(self, monkeypatch, columns):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(columns))
        with _terminal.SearchMeter() as meter:
            meter(progress(2.0))
            meter(progress(3.0, stage="collect", done=0.5))
        shown = terminal.getvalue()
        assert "\x1b[?25h" in shown  # the cursor is back
        lines = [
            line for line in re.split(r"[\r\n]", re.sub(r"\x1b\[[?\d;]*\w", "", shown)) if line
        ]
        assert max(map(len, lines)) <= columns
        # The end of the counts is what a narrow terminal does not show.
        assert re.match(r"Searching +[━╸╺]+ +25% ", lines[0])
        assert re.match(r"Second pass [━╸╺]+ 100% ", lines[-1])
        assert columns < 60 or "12.3k visited" in lines[0]
