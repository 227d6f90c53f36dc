"""Time limits and checkpoints at every door, and what results say of a search that was stopped."""

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import sigmine
from sigmine import FACS, memory, mine_matrix, mine_patterns
from sigmine.exceptions import (
    InputError,
    InputTypeError,
    InsufficientMemoryError,
    SearchInterrupted,
    StatisticalWarning,
)
from sigmine.mining import mine_problem
from sigmine.report import load_summary, render_html, render_json, render_markdown, summarize
from sigmine.results import PatternResults
from sigmine.search import Checkpoint, driver
from sigmine.settings import SearchSettings
from tests.made_results import make_problem, make_results
from tests.sigmine.test_report import MOMENT, a_problem, check_everything, check_page

NO_TIME = 1e-9  # seconds: nothing is searched
RNG = np.random.default_rng(8)
Y = np.arange(120) % 2
X = (RNG.random((120, 9)) < np.where(Y == 1, 0.65, 0.4)[:, None]).astype(int)
Z = RNG.integers(0, 2, 120)
FRAME = pd.DataFrame(X, columns=[f"i{j}" for j in range(9)]).astype(bool).assign(y=Y, z=Z)


@pytest.fixture(autouse=True)
def _clock_is_looked_at_before_the_start(monkeypatch):
    """Otherwise a search of milliseconds may be done before anybody looks."""

    class Punctual(driver.Control):
        def __init__(self, seconds=None):
            super().__init__(seconds)
            self.check_time()

    monkeypatch.setattr(driver, "Control", Punctual)


def by_frame(**options):
    return mine_patterns(FRAME, target="y", strata="z", **options)


def by_matrix(**options):
    return mine_matrix(X, Y, strata=Z, **options)


def by_problem(**options):
    return mine_problem(make_problem(X, Y, Z), SearchSettings(), **options)


def by_estimator(**options):
    return FACS(**options).fit(X, Y, strata=Z).results_


DOORS = pytest.mark.parametrize("door", [by_frame, by_matrix, by_problem, by_estimator])


def same_answer(one, other):
    pd.testing.assert_frame_equal(one.patterns, other.patterns)
    assert (one.n_testable, one.corrected_threshold) == (
        other.n_testable,
        other.corrected_threshold,
    )


@DOORS
class TestDoors:
    def test_a_limit_that_is_reached(self, door):
        with pytest.warns(StatisticalWarning, match="stopped by its time limit after 0") as caught:
            results = door(time_limit=NO_TIME)
        assert len(caught) == 1
        assert "checkpoint" not in str(caught[0].message)
        assert caught[0].filename.endswith((".py",))
        assert not results.complete
        assert results.searched_fraction == 0.0
        assert results.searched_items == ()
        assert len(results) == results.n_testable == 0

    def test_a_limit_that_is_not_reached(self, door):
        results = door(time_limit=1000)
        assert results.complete
        assert results.coverage is None
        assert (results.searched_fraction, len(results.searched_items)) == (1.0, 9)
        same_answer(results, door())
        assert len(results) > 0

    def test_goes_on_from_a_checkpoint(self, door, tmp_path):
        folder = tmp_path / "kept"
        with pytest.warns(StatisticalWarning, match="same checkpoint goes on from there"):
            door(time_limit=NO_TIME, checkpoint=str(folder))
        results = door(checkpoint=folder)
        same_answer(results, door())
        assert (folder / "search.json").exists()
        # What is kept is the whole search now: it says so without being searched again.
        again = door(checkpoint=Checkpoint(folder, seconds=5.0))
        same_answer(again, results)

    def test_a_checkpoint_of_another_search(self, door, tmp_path):
        door(checkpoint=tmp_path)
        with pytest.raises(InputError, match="holds the checkpoint of another search"):
            mine_matrix(X, 1 - Y, strata=Z, checkpoint=tmp_path)

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"time_limit": 0}, InputError, "time_limit=0 must be above 0 seconds"),
            ({"time_limit": math.nan}, InputError, "time_limit=nan must be above 0"),
            ({"time_limit": "1h"}, InputTypeError, "time_limit='1h' must be None or a number"),
            ({"checkpoint": 3}, InputTypeError, "checkpoint=3 must be the path of a folder"),
        ],
    )
    def test_wrong_values_are_found_first(self, door, options, error, match, monkeypatch):
        def too_late(*_, **__):
            raise AssertionError("the items were made before the options were looked at")

        monkeypatch.setattr("sigmine.mining.make_items", too_late)
        monkeypatch.setattr("sigmine.mining.validate_binary_matrix", too_late)
        monkeypatch.setattr("sigmine.miner.validate_binary_matrix", too_late)
        with pytest.raises(error, match=match):
            door(**options)

    def test_a_search_that_does_not_fit(self, door, monkeypatch):
        monkeypatch.setattr(memory, "_SMALL", 0)
        monkeypatch.setattr(memory, "available_memory", lambda: 2**25)
        monkeypatch.setattr("sigmine.mining.search_patterns", None)  # never comes to that
        with pytest.raises(InsufficientMemoryError, match="n_jobs=3"):
            door(n_jobs=3)


class TestEstimator:
    def test_parameters_are_stored_as_given(self, tmp_path):
        checkpoint = Checkpoint(tmp_path)
        miner = FACS(time_limit="later", checkpoint=checkpoint)
        assert miner.get_params()["time_limit"] == "later"
        assert miner.checkpoint is checkpoint
        copy = clone(FACS(time_limit=60, checkpoint=tmp_path))
        assert (copy.time_limit, copy.checkpoint) == (60, tmp_path)

    def test_transform_says_that_nothing_was_searched(self):
        with pytest.warns(StatisticalWarning):
            miner = FACS(time_limit=NO_TIME).fit(X, Y)
        with pytest.warns(sigmine.DataWarning, match="nothing that was searched is testable"):
            assert miner.transform(X).shape == (120, 0)


class TestInterrupt:
    """After Ctrl-C the message says what the folder holds."""

    def stop(self, checkpoint):
        def press(progress):
            raise KeyboardInterrupt

        with pytest.raises(SearchInterrupted) as caught:
            by_matrix(checkpoint=checkpoint, progress=press)
        return str(caught.value)

    def test_without_a_checkpoint(self):
        assert "nothing found so far can be called significant" in self.stop(None)

    def test_before_anything_was_saved(self, tmp_path):
        said = self.stop(Checkpoint(tmp_path / "new", seconds=1000.0))
        assert "new holds " in said  # nothing, unless the search was quicker than the key
        assert "the same search" in said

    def test_of_a_search_that_was_saved(self, tmp_path, monkeypatch):
        def press(*_, **__):
            raise SearchInterrupted("stopped")

        by_matrix(checkpoint=tmp_path)
        monkeypatch.setattr("sigmine.mining.search_patterns", press)
        with pytest.raises(SearchInterrupted, match="holds what an earlier run had found"):
            by_matrix(checkpoint=tmp_path)


def stopped(results, **changes):
    """The same result, as if its search had been stopped."""
    changes = {"complete": False, "searched_fraction": 0.347} | changes
    if changes["searched_fraction"] < 1.0:
        changes.setdefault("searched_items", np.array([1, 3], dtype=np.int64))
    outcome = replace(results.outcome, **changes)
    return PatternResults(results.problem, results.settings, outcome, time_limit=60)


@pytest.fixture
def whole():
    return make_results(a_problem(), [(0, 1), (0,), (1,)])


@pytest.fixture
def half(whole):
    return stopped(whole)


class TestResults:
    def test_a_complete_search_is_not_talked_about(self, whole, capsys):
        assert whole.complete
        assert whole.coverage is None
        assert whole.searched_items == tuple(whole.problem.item_names)
        whole.print_summary()
        said = capsys.readouterr().out + repr(whole) + whole.guarantee
        assert "stopped" not in said

    def test_what_was_searched(self, half):
        assert half.searched_fraction == 0.347
        assert half.searched_items == ("i1", "i3")
        assert half.coverage.startswith(
            "The search was stopped by its time limit after 34\u00a0% of the search space"
        )
        assert "a pattern that is not listed may be significant" in half.coverage
        assert half.coverage.endswith(
            "complete only for patterns whose rarest item is one of 2 of the 8 items."
        )

    def test_with_limited_length_another_item_counts(self, whole):
        short = PatternResults(whole.problem, SearchSettings(max_length=2), stopped(whole).outcome)
        assert "in whose shortest description the rarest item is one of 2" in short.coverage

    def test_no_item_was_finished(self, whole):
        none = stopped(whole, searched_fraction=0.001, searched_items=np.empty(0, dtype=np.int64))
        assert "less than 1\u00a0% of the search space" in none.coverage
        assert none.coverage.endswith("sure to be complete for no item yet.")

    def test_the_last_pass_was_not_finished(self, whole):
        last = stopped(whole, searched_fraction=1.0, corrected_threshold=0.0001)
        assert len(last.searched_items) == 8
        assert "Every pattern was counted" in last.coverage
        assert "the threshold is 1.0e-4" in last.coverage
        nothing = stopped(whole, searched_fraction=1.0, n_testable=0)
        assert "may change with more time" in nothing.coverage

    def test_the_guarantee_names_its_premise(self, whole, half):
        assert half.guarantee.startswith(whole.guarantee)
        assert "if its time limit was chosen before anybody saw what it found" in half.guarantee

    def test_text(self, half, capsys):
        half.print_summary()
        said = capsys.readouterr().out
        assert "(200 visited; stopped after 34\u00a0% of the search space)" in said
        assert "Warning: The search was stopped by its time limit" in said
        assert "= 0.05 / 100" in said
        assert "stopped after 34\u00a0% of the search space>" in repr(half)
        assert all(len(line) <= 100 for line in said.splitlines())

    def test_a_lowered_threshold_is_no_quotient(self, whole, capsys):
        stopped(whole, searched_fraction=1.0, corrected_threshold=0.0001).print_summary()
        assert "p-value at most 1.0e-4 < 0.05 / 100" in capsys.readouterr().out

    def test_nothing_testable_so_far_is_no_statement_about_the_data(self, whole, capsys):
        nothing = stopped(whole, n_testable=0, smallest_minimum_pvalue=math.nan)
        nothing.print_summary()
        assert "Nothing that was searched was testable." in capsys.readouterr().out
        none = stopped(make_results(a_problem(), [], n_testable=0))
        answer = summarize(none, confounding=False)["answer"]["sentence"]
        assert answer.startswith("Nothing that was searched could be tested")

    def test_none_significant_names_no_smallest_pvalue(self, whole):
        none = stopped(make_results(a_problem(), []))
        answer = summarize(none, confounding=False)["answer"]["sentence"]
        assert answer.endswith("The search was stopped after 34\u00a0% of the search space.")
        assert "smallest" not in answer


class TestReport:
    def test_all_forms_say_it(self, half, tmp_path):
        summary = summarize(half, created=MOMENT)
        check_everything(summary, tmp_path)
        page = check_page(render_html(summary))
        assert "This search is not complete." in page.words
        # The box stands before the answer, and the text on the test says it again.
        assert page.words.index("not complete") < page.words.index("The answer")
        assert "What was not searched." in page.words
        assert "Search space covered 34 %" in page.words
        assert "does not depend on the number of workers" not in page.words
        assert "Every combination of" not in page.words
        text = render_markdown(summary)
        assert "> **This search is not complete.** The search was stopped" in text
        assert "not listed may be significant" in half._repr_html_()

    def test_a_complete_search_does_not(self, whole, tmp_path):
        summary = summarize(whole, confounding=False, created=MOMENT)
        for text in (render_html(summary), render_markdown(summary), whole._repr_html_()):
            assert "not complete" not in text
            assert "stopped" not in text

    def test_a_lowered_threshold(self, whole, tmp_path):
        last = stopped(whole, searched_fraction=1.0, corrected_threshold=0.0001)
        summary = summarize(last, created=MOMENT)
        check_everything(summary, tmp_path)
        assert summary["tested"]["lowered"]
        assert "That is below 0.05 / 100" in check_page(render_html(summary)).words
        assert "below 0.05 / 100" in render_markdown(summary)

    def test_nothing_testable(self, whole, tmp_path):
        nothing = stopped(make_results(a_problem(), [], n_testable=0))
        check_everything(summarize(nothing, created=MOMENT), tmp_path)
        words = check_page(render_html(summarize(nothing, created=MOMENT))).words
        assert "smallest attainable p-value" not in words

    def test_saved_and_loaded(self, half, tmp_path):
        half.to_json(tmp_path / "r.json")
        tested = load_summary(tmp_path / "r.json")["tested"]
        assert (tested["complete"], tested["searched_fraction"]) == (False, 0.347)
        assert tested["coverage"] == half.coverage
        assert json.loads(render_json(half.to_dict()))["version"] == 2

    def test_how_to_reproduce_names_the_limit(self, half):
        assert "time_limit=60" in summarize(half)["reproduce"]


class TestComparison:
    """A search that was stopped must not look like one that found a pattern not significant."""

    def test_a_stopped_search_is_not_compared(self, half, monkeypatch):
        monkeypatch.setattr(PatternResults, "unstratified", None)  # it would run a search
        summary = summarize(half)
        assert summary["confounding"] is None
        assert any(note.startswith("Not compared with a search without site: this one was stopped")
                   for note in summary["notes"])  # fmt: skip

    def test_the_other_search_gets_the_same_time(self):
        results = PatternResults.from_outcome(
            make_problem(X, Y, Z), SearchSettings(), by_problem().outcome, time_limit=NO_TIME
        )
        assert not results.unstratified().complete
        summary = summarize(results)
        assert summary["confounding"] is None
        assert "that one was stopped by the time limit" in summary["notes"][-1]
        with pytest.warns(StatisticalWarning, match="may mean that a pattern was not searched"):
            results.comparison()

    def test_complete_searches_are_compared_without_a_word(self):
        results = by_matrix(time_limit=1000)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(results.comparison()) > 0
        assert summarize(results)["confounding"] is not None
