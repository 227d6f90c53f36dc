"""How far a running search is: in words, as a bar, and what is said after Ctrl-C."""

import os
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from sigmine.report import progress
from sigmine.search import Checkpoint, SearchProgress

FIRST = SearchProgress(
    stage="threshold", visited=12345, testable=678, threshold=0.00012, fraction_done=0.996,
    seconds=5.0, seconds_left=150.0,
)  # fmt: skip


def run_of_a_search():
    """States of a search with a second pass, whose share begins at 0 again."""
    for stage in ("threshold", "collect", "summit"):
        for done in (0.0, 0.3, 0.3, 1.0):
            yield replace(FIRST, stage=stage, fraction_done=done)


class TestWords:
    def test_counts(self):
        assert progress.describe_counts(FIRST) == (
            "2 min left, 12.3k visited (2,469/s), 678 testable, threshold 0.00012"
        )

    def test_time_left_is_not_made_up(self):
        assert "left" not in progress.describe_counts(replace(FIRST, seconds_left=None))

    def test_share_is_rounded_down(self):
        assert progress.describe_share(FIRST) == "99% of the search space"
        assert progress.describe_share(replace(FIRST, fraction_done=1.0)).startswith("100%")

    def test_a_second_pass_is_no_part_of_the_search_space(self):
        second = replace(FIRST, stage="collect", fraction_done=0.2)
        assert progress.stage_name(second) == "Second pass"
        assert progress.describe_share(second) == "20% of this pass"

    def test_the_share_never_falls(self):
        shares = [progress.share_done(state) for state in run_of_a_search()]
        assert shares == sorted(shares)
        assert shares[:4] == [0.0, 0.3, 0.3, 1.0]


class TestBar:
    @pytest.fixture(autouse=True)
    def _steady_clock(self, monkeypatch):
        clock = iter(np.arange(0.0, 100.0, 0.4))
        monkeypatch.setattr("tqdm.std.time", lambda: next(clock))

    def test_appears_after_a_second_with_counts(self, capsys):
        with progress.ProgressBar() as show:
            for done in (0.0, 0.5, 0.5, 1.0):
                show(replace(FIRST, fraction_done=done))
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "12.3k visited (2,469/s), 678 testable" in captured.err
        assert "Searching:  50%|" in captured.err
        assert "Searching: 100%|" in captured.err

    def test_never_jumps_back(self, capsys):
        with progress.ProgressBar() as show:
            for state in run_of_a_search():
                show(state)
        said = capsys.readouterr().err
        percents = [int(found) for found in re.findall(r"(\d+)%\|", said)]
        assert percents == sorted(percents)
        assert 30 in percents
        assert "Second pass: 100%|" in said
        assert "30% of this pass" in said


class TestHowToGoOn:
    def test_nothing_was_saved(self, tmp_path):
        said = progress.how_to_go_on(Checkpoint(tmp_path), time.time())
        assert "holds nothing yet (it is written about every 30 seconds)" in said
        assert str(tmp_path) in said

    def test_saved_by_this_run(self, tmp_path):
        (tmp_path / "search.json").touch()
        os.utime(tmp_path / "search.json", (0, time.time() - 20))
        said = progress.how_to_go_on(Checkpoint(tmp_path), time.time() - 500)
        assert re.search(r"holds what was found until (19|20|21) s ago", said)
        assert "run the same search with the same checkpoint to go on" in said

    def test_saved_by_an_earlier_run(self, tmp_path):
        (tmp_path / "search.json").touch()
        said = progress.how_to_go_on(Checkpoint(tmp_path), time.time() + 10)
        assert "holds what an earlier run had found, and nothing of this one yet" in said
