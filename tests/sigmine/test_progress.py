"""How far a running search is: in words, as a bar, and what is said after Ctrl-C."""

import os
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from sigmine import mine_matrix
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

    def test_a_name_for_the_first_stage(self, capsys):
        with progress.ProgressBar("Comparing") as show:
            for state in run_of_a_search():
                show(state)
        said = capsys.readouterr().err
        assert "Comparing:  30%|" in said
        assert "Searching" not in said
        assert "Second pass: 100%|" in said

    def test_whoever_listens_sees_to_it(self, capsys):
        heard = []
        with progress.show_progress(heard.append, 1) as show:
            show(FIRST)
        with progress.show_progress(None, 0) as show:
            assert show is None
        assert heard == [FIRST]
        assert capsys.readouterr().err == ""

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


class TestTheSearchWithoutStrata:
    """The second search of a report."""

    @pytest.fixture(autouse=True)
    def bars(self, monkeypatch):
        """Names of the bars that are drawn."""
        bars = []

        def show(bar, state):
            bars.append(bar._name)

        monkeypatch.setattr(progress.ProgressBar, "_show", show)
        return bars

    def mined(self, **options):
        rng = np.random.default_rng(1)
        X, y, strata = rng.random((300, 8)) < 0.4, rng.random(300) < 0.5, np.arange(300) % 2
        return mine_matrix(X, y, strata=strata, **options)

    def test_a_verbose_search_shows_it_too(self, bars):
        results = self.mined(verbose=1)
        assert set(bars) == {None}
        results.comparison()
        assert set(bars) == {None, "Comparing"}

    def test_a_silent_one_does_not(self, bars):
        self.mined().comparison()
        assert bars == []

    def test_whoever_listens_sees_to_it(self, bars):
        states = []
        results = self.mined(verbose=1)
        bars.clear()
        without = results.unstratified(progress=states.append)
        assert states[-1].visited == without.n_visited
        n_states = len(states)
        assert results.unstratified(progress=states.append) is without
        assert len(states) == n_states  # it does not run again
        assert bars == []
