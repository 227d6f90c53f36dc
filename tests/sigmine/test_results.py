"""`PatternResults` against the slow twin, against what it promises, and at its edges."""

import json
import math
import pickle
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import sigmine.search
from sigmine import patterns
from sigmine.association import cmh_exact
from sigmine.columns import COLUMN_NAMES, COLUMNS
from sigmine.exceptions import InputError
from sigmine.patterns import log_pvalues
from sigmine.results import PatternResults, asymptotic_concerns
from sigmine.settings import SearchSettings
from tests import naive, strategies
from tests.made_results import (
    HOSTILE,
    closure_of,
    make_outcome,
    make_problem,
    make_results,
    planted,
    search_naively,
)

SETTINGS = [
    SearchSettings(alpha=0.9),
    SearchSettings(alpha=0.9, two_sided="minlike"),
    SearchSettings(alpha=0.9, alternative="greater"),
    SearchSettings(alpha=0.9, method="asymptotic"),
    SearchSettings(alpha=0.9, method="asymptotic", variance="cochran", alternative="less"),
]


@pytest.fixture
def rng():
    return np.random.default_rng(20261122)


@pytest.fixture
def results(rng):
    """Four patterns over four strata."""
    matrix, y, strata = planted(rng)
    problem = make_problem(matrix, y, strata, strata_names=["site"], target_name="died")
    return make_results(problem, [(0, 1), (0,), (2, 3), (1,)])


def empty_results(n_testable=0, **settings):
    problem = make_problem(
        [[1, 0], [0, 1], [1, 1], [0, 0]], [1, 0, 1, 0], target_name="died", strata_names=None
    )
    return make_results(problem, [], settings=SearchSettings(**settings), n_testable=n_testable)


class TestAgainstTheSlowTwin:
    @pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.method}-{s.alternative}")
    def test_every_column(self, settings):
        rng = np.random.default_rng(7)
        n_patterns = 0
        for _ in range(12):
            matrix, y, strata = strategies.random_case(rng, 28, n_items=5, effect=0.8)
            if settings.alternative == "less":
                y = ~y
            results, answer = search_naively(matrix, y, strata, settings)
            expected = {tuple(f"i{j}" for j in h["closed"]): h for h in answer["significant"]}
            assert set(results.patterns["pattern"]) == set(expected)
            n_patterns += len(expected)
            for i, row in results.patterns.iterrows():
                check_row(results, i, row, expected[row["pattern"]], answer, settings)
        assert n_patterns > 15, "the cases must find something"

    def test_testable_sample(self):
        rng = np.random.default_rng(8)
        case = strategies.random_case(rng, n_rows=26, n_items=5, effect=0.8)
        results, answer = search_naively(*case, SETTINGS[0])
        testable = [h for h in answer["hypotheses"] if h["testable"]]
        frame = results.testable
        assert list(frame.columns) == ["statistic", "pvalue", "log10_pvalue"]
        np.testing.assert_allclose(frame["pvalue"], [h["p"] for h in testable], rtol=1e-9)
        np.testing.assert_allclose(
            frame["statistic"], [float(h["statistic"]) for h in testable], rtol=1e-9, atol=1e-12
        )
        median = np.median([float(h["statistic"]) for h in testable])
        assert results.inflation == pytest.approx(median / 0.45493642311957)


def check_row(results, i, row, twin, answer, settings):
    """Compare one pattern with the slow twin's."""
    x, a = twin["x"], sum(twin["a"])
    sizes, case_sizes = answer["sizes"], answer["case_sizes"]
    choice = [settings.alternative, settings.two_sided, settings.variance]
    other = "asymptotic" if settings.method == "exact" else "exact"

    def pvalue(method):
        return naive.pvalue(x, a, sizes, case_sizes, (method, *choice))

    generators = [tuple(f"i{j}" for j in items) for items in twin["generators"]]
    assert row["generator"] == generators[0]
    assert results.generators(i) == generators
    assert (row["length"], row["support"], row["support_cases"]) == (len(row["pattern"]), sum(x), a)
    assert row["statistic"] == pytest.approx(float(twin["statistic"]), rel=1e-9)
    assert row["pvalue"] == pytest.approx(twin["p"], rel=1e-9)
    assert row["log10_pvalue"] == pytest.approx(twin["log_p"] / math.log(10), rel=1e-9, abs=1e-12)
    assert row["pvalue_adjusted"] == pytest.approx(min(1, twin["p"] * answer["n_testable"]))
    assert row["minimum_pvalue"] == pytest.approx(twin["psi"], rel=1e-9)
    assert row["minimum_pvalue"] <= row["pvalue"] * (1 + 1e-9)
    assert row["pvalue_other"] == pytest.approx(pvalue(other), rel=1e-9)
    exact = row["pvalue"] if settings.method == "exact" else row["pvalue_other"]
    assert 0 < row["pvalue_mid"] <= exact * (1 + 1e-9)
    tables = results.tables[i]
    assert tables[:, 0].sum(axis=1).tolist() == list(x)
    assert tables[:, :, 0].sum(axis=1).tolist() == list(case_sizes)
    assert tables.sum(axis=(1, 2)).tolist() == list(sizes)
    expected = naive.mantel_haenszel_odds_ratio(tables)
    assert row["odds_ratio"] == pytest.approx(expected, nan_ok=True)
    excess = a - sum(n1 * k / n for n1, n, k in zip(case_sizes, sizes, x, strict=True))
    assert row["direction"] == ("greater" if excess > -1e-12 else "less")


class TestTheTable:
    def test_columns_and_types(self, results):
        frame = results.patterns
        assert tuple(frame.columns) == COLUMN_NAMES
        for column in COLUMNS:
            if column.dtype == "tuple":
                assert all(isinstance(value, tuple) for value in frame[column.name])
            elif column.dtype == "str":
                assert all(isinstance(value, str) for value in frame[column.name])
            else:
                assert frame[column.name].dtype == column.dtype

    def test_an_empty_table_has_the_same_columns_and_types(self, results):
        empty = empty_results(n_testable=10)
        pd.testing.assert_series_equal(empty.patterns.dtypes, results.patterns.dtypes)
        assert (len(empty), empty.tables.shape) == (0, (0, 1, 2, 2))

    def test_best_first(self, results):
        assert results.patterns["log10_pvalue"].is_monotonic_increasing
        assert results.patterns["pattern"].iloc[0] == ("i0", "i1")

    def test_ties_go_by_effect_then_length_then_items(self):
        # Items 0 and 1 are mirror images (same p, opposite effect); 3 is 2 for other rows of the
        # same kind; 0 and 1 are the stronger ones.
        y = np.arange(80) < 40
        strong, weak = np.zeros(80, dtype=bool), np.zeros(80, dtype=bool)
        strong[:30] = True
        weak[10:38] = weak[40:42] = True
        other = np.roll(weak[:40], 3)
        other = np.concatenate([other, np.roll(weak[40:], 7)])
        matrix = np.stack([weak, other, strong, ~strong], axis=1)
        results = make_results(make_problem(matrix, y), [(3,), (1,), (0,), (2,)])
        order = [pattern[0] for pattern in results.patterns["pattern"]]
        logs = results.patterns["log10_pvalue"].tolist()
        assert logs[0] == pytest.approx(logs[1])
        assert logs[2] == pytest.approx(logs[3])
        assert order == ["i2", "i3", "i0", "i1"]

    def test_the_order_does_not_depend_on_the_order_of_discovery(self, rng):
        matrix, y, strata = planted(rng, n_rows=200)
        problem = make_problem(matrix, y, strata)
        itemsets = [(j,) for j in range(8)] + [(0, 1), (2, 3), (4, 5)]
        first = make_results(problem, itemsets).patterns
        for _ in range(3):
            rng.shuffle(itemsets)
            pd.testing.assert_frame_equal(make_results(problem, itemsets).patterns, first)

    def test_pvalues_beyond_the_smallest_double(self):
        y = np.arange(6000) < 3000
        best, good = y.copy(), y.copy()
        good[:20] = False
        results = make_results(
            make_problem(np.stack([good, best], axis=1), y), [(0,), (1,)], n_testable=7
        )
        frame = results.patterns
        assert frame["pvalue"].tolist() == [0.0, 0.0]
        assert frame["pattern"].tolist() == [("i1",), ("i0", "i1")]
        assert frame["log10_pvalue"].iloc[0] == pytest.approx(
            (math.log(2) + 2 * math.lgamma(3001) - math.lgamma(6001)) / math.log(10)
        )
        assert frame["odds_ratio"].iloc[0] == math.inf
        assert "<1e-307" not in frame.to_string()

    def test_the_best_rows_alone_are_those_of_the_table(self, results, monkeypatch):
        monkeypatch.setattr("sigmine.patterns._FEW", 0)
        alone = PatternResults.from_outcome(results.problem, results.settings, results.outcome)
        rows = alone.rows(2)
        frame = results.patterns.head(2)
        for name in COLUMN_NAMES:
            assert [row[name] for row in rows] == frame[name].tolist()
        for name in ("pvalue_other", "minimum_pvalue"):
            for row in rows:
                assert 10.0 ** row[f"log10_{name}"] == pytest.approx(row[name])
        assert alone.rows(99) == results.rows(99)
        assert alone.rows(0) == []
        assert "all_columns" in vars(results._table)

    def test_few_rows_do_not_cost_a_description_of_all(self, results, monkeypatch):
        monkeypatch.setattr("sigmine.patterns._FEW", 0)
        alone = PatternResults.from_outcome(results.problem, results.settings, results.outcome)
        alone.rows(1)
        assert "all_columns" not in vars(alone._table)

    def test_to_frame_is_a_copy(self, results):
        frame, summary = results.to_frame(), results.summary
        frame["pvalue"] = 1.0
        del summary["pvalue"]
        assert (results.patterns["pvalue"] < 1).all()


class TestPvaluesOfTheSearch:
    """The search has computed them already, and hands them over."""

    @pytest.fixture(params=SETTINGS, ids=lambda s: f"{s.method}-{s.alternative}-{s.two_sided}")
    def found(self, request, rng):
        matrix, y, strata = planted(rng)
        if request.param.alternative == "less":
            y = ~y
        problem = make_problem(matrix, y, strata)
        outcome = sigmine.search.search_patterns(problem, request.param)
        return PatternResults.from_outcome(problem, request.param, outcome)

    def test_are_those_of_the_patterns(self, found):
        outcome, table = found.outcome, found.problem.table
        expected = log_pvalues(
            found.settings, outcome.support, outcome.support_cases.sum(axis=1),
            table.sizes, table.case_sizes,
        )  # fmt: skip
        assert len(expected) > 1
        np.testing.assert_allclose(outcome.log_pvalue, expected, rtol=1e-12)

    def test_make_the_same_table_as_computed_anew(self, found):
        without = replace(found.outcome, log_pvalue=None)
        anew = PatternResults.from_outcome(found.problem, found.settings, without)
        pd.testing.assert_frame_equal(found.to_frame(), anew.to_frame(), check_exact=True)
        assert found.rows(3) == anew.rows(3)

    def test_are_what_the_order_is_made_from(self, found, monkeypatch):
        monkeypatch.setattr("sigmine.patterns._FEW", 0)
        n_tested, exact = [], cmh_exact.log_pvalue_and_mid

        def spy(support, *args, **options):
            n_tested.append(len(support))
            return exact(support, *args, **options)

        monkeypatch.setattr(cmh_exact, "log_pvalue_and_mid", spy)
        assert len(found.rows(1)) == 1
        assert n_tested == [1]  # for the mid-p-value
        assert len(found) > 1


class TestOnePattern:
    def test_stratum_table(self, results):
        frame = results.stratum_table(0)
        assert list(frame["stratum"]) == list(results.problem.stratum_labels)
        row = results.patterns.iloc[0]
        assert frame["carriers"].sum() == row["support"]
        assert frame["carrier_cases"].sum() == row["support_cases"]
        sizes = results.problem.table.sizes
        assert (frame["carriers"] + frame["others"]).tolist() == sizes.tolist()
        a, n1, c, n0 = (
            float(frame[name].iloc[2])
            for name in ("carrier_cases", "carriers", "other_cases", "others")
        )
        expected = a * (n0 - c) / ((n1 - a) * c)
        assert frame["odds_ratio"].iloc[2] == pytest.approx(expected)
        assert frame["odds_ratio_low"].iloc[2] < expected < frame["odds_ratio_high"].iloc[2]

    @pytest.mark.parametrize("i", [-1, 4, 99])
    @pytest.mark.parametrize("method", ["stratum_table", "generators", "plot_forest"])
    def test_a_pattern_that_is_not_there(self, results, method, i):
        with pytest.raises(InputError, match=f"no pattern {i}.*4 patterns"):
            getattr(results, method)(i)


class TestWords:
    def test_numbers_of_the_search(self, results):
        assert (results.n_visited, results.n_testable) == (200, 100)
        assert results.corrected_threshold == pytest.approx(0.05 / 100)
        assert results.testability_threshold == 1e-4
        assert repr(results) == (
            "<PatternResults: 4 significant of 100 testable patterns, target 'died', 4 strata, "
            "method 'exact'>"
        )

    def test_guarantee(self, results):
        assert "at most 5 %" in results.guarantee
        assert "died among rows with the same site" in results.guarantee
        assert "only approximately" not in results.guarantee
        asymptotic = empty_results(method="asymptotic", alpha=0.01).guarantee
        assert "about 1 %" in asymptotic
        assert "only approximately" in asymptotic
        assert "died in these rows" in asymptotic

    def test_print_summary(self, results, capsys):
        results.print_summary(top=2)
        text = capsys.readouterr().out
        assert "4 significant patterns of 100 testable (200 visited)" in text
        assert "... and 2 more" in text
        assert "i0 & i1" in text
        assert all(len(line) <= 100 for line in text.splitlines())

    def test_print_summary_with_long_names(self, rng, capsys):
        matrix, y, strata = planted(rng)
        names = [f"a very long name of an item, number {j}, that goes on and on" for j in range(8)]
        problem = make_problem(
            matrix, y, strata, item_names=names, strata_names=["s" * 130], target_name="t" * 150
        )
        make_results(problem, [(0, 1, 2, 3), (5,)]).print_summary()
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 100
        assert any("…" in line for line in lines)

    def test_print_summary_says_what_is_implied(self, capsys):
        matrix = np.zeros((40, 3), dtype=bool)
        matrix[:20, :2] = matrix[:10, 2] = True  # item 2 implies items 0 and 1
        make_results(make_problem(matrix, np.arange(40) < 12), [(2,)]).print_summary()
        assert "i2 (+2 implied)" in capsys.readouterr().out

    def test_print_summary_of_nothing(self, capsys):
        empty_results().print_summary()
        text = capsys.readouterr().out
        assert "0 significant patterns of 0 testable" in text
        assert "the smallest attainable p-value is 0.21" in text

    def test_notebook(self, rng):
        matrix, y, strata = planted(rng)
        problem = make_problem(matrix, y, strata, item_names=[HOSTILE + str(j) for j in range(8)])
        html = make_results(problem, [(0, 1), (2,)])._repr_html_()
        assert html.count("<tr>") == 3
        assert "<script" not in html
        assert "No combination" not in html


class TestConcerns:
    """Where `method="asymptotic"` cannot keep its promise."""

    @staticmethod
    def concerns(share, n_rows=400, n_strata=1, itemsets=(), method="asymptotic", carriers=None):
        i = np.arange(n_rows)
        strata = i % n_strata
        y = (i // n_strata) < share * n_rows / n_strata
        matrix = np.stack([i < 8, i % 3 == 0] if carriers is None else [carriers, i % 3 == 0], 1)
        settings = SearchSettings(method=method)
        return asymptotic_concerns(
            make_results(make_problem(matrix, y, strata), itemsets, settings=settings)
        )

    def test_balanced_and_large(self):
        assert self.concerns(0.5) is None
        assert self.concerns(0.45, n_strata=8) is None

    @pytest.mark.parametrize("share", [0.3, 0.1, 0.8])
    def test_unbalanced(self, share):
        assert f"{100 * share:.1f}\u00a0% of the searched rows are cases" in self.concerns(share)

    def test_the_exact_test_has_none(self):
        assert self.concerns(0.1, method="exact", itemsets=[(0,)]) is None

    def test_many_small_strata(self):
        assert "strata with fewer than 25 rows" in self.concerns(0.5, n_rows=512, n_strata=32)

    @pytest.mark.parametrize("two_sided", ["central", "minlike"])
    @pytest.mark.parametrize("method", ["exact", "asymptotic"])
    def test_disagreements_are_counted_as_they_are_listed(self, rng, method, two_sided):
        matrix, y, strata = planted(rng, n_rows=300)
        problem = make_problem(matrix, y, strata)
        settings = SearchSettings(method=method, two_sided=two_sided)
        itemsets = [(j,) for j in range(8)] + [(0, 1), (0, 1, 2), (0, 2), (3, 5, 6)]
        results = make_results(problem, itemsets, settings=settings)
        counted = results.n_disagreements  # before the p-values are there
        assert 0 < counted < len(results)
        assert counted == int(results.disagreements.sum()) == results.n_disagreements

    def test_refuted_patterns(self):
        # All eight carriers are cases: exact p = 0.0077, chi-squared p = 0.0043.
        text = self.concerns(0.5, itemsets=[(0,)], carriers=np.arange(400) < 8)
        assert "1 of the 1 significant patterns has an exact p-value above" in text
        assert 'method="exact"' in text


class TestWithoutTheCovariate:
    """A covariate that makes item 0 look associated, and hides item 1."""

    @pytest.fixture
    def confounded(self, monkeypatch):
        rng = np.random.default_rng(5)
        n = 4000
        strata = rng.integers(0, 2, n)
        matrix = np.stack(
            [
                rng.random(n) < np.where(strata == 1, 0.7, 0.2),  # follows the stratum only
                rng.random(n) < np.where(strata == 1, 0.2, 0.7),  # raises the rate within
                rng.random(n) < 0.4,
            ],
            axis=1,
        )
        y = rng.random(n) < 0.2 + 0.3 * strata + 0.2 * matrix[:, 1]
        problem = make_problem(matrix, y, strata, strata_names=["ward"])
        calls = []

        def search(problem, settings, **options):
            calls.append(problem)
            return make_outcome(problem, settings, [(0,), (0, 2)], n_testable=50)

        monkeypatch.setattr(sigmine.search, "search_patterns", search)
        return make_results(problem, [(1,), (0, 2)]), calls

    def test_runs_once_on_the_same_rows_as_one_stratum(self, confounded):
        results, calls = confounded
        without = results.unstratified()
        assert results.unstratified() is without
        assert len(calls) == 1
        assert calls[0].table.n_strata == 1
        assert calls[0].table.n_rows == results.problem.table.n_rows
        assert without.tables.shape == (2, 1, 2, 2)
        assert without.tables[0, 0].sum() == 4000

    def test_comparison(self, confounded):
        results, _ = confounded
        frame = results.comparison().set_index("pattern")
        assert set(frame.index) == {("i0",), ("i1",), ("i0", "i2")}
        assert frame["significant"].to_dict() == {
            ("i0",): False, ("i1",): True, ("i0", "i2"): True,
        }  # fmt: skip
        assert frame["significant_unstratified"].to_dict() == {
            ("i0",): True, ("i1",): False, ("i0", "i2"): True,
        }  # fmt: skip
        # The same p-values as in the tables of both searches.
        for pattern, value in results.patterns.set_index("pattern")["pvalue"].items():
            assert frame.loc[[pattern], "pvalue"].item() == pytest.approx(value)
        crude = results.unstratified().patterns.set_index("pattern")
        for name in ("pvalue", "log10_pvalue", "odds_ratio"):
            for pattern, value in crude[name].items():
                found = frame.loc[[pattern], f"{name}_unstratified"].item()
                assert found == pytest.approx(value)

    def test_the_comparison_asks_for_no_pvalue_that_a_search_knows(self, confounded, monkeypatch):
        results, _ = confounded
        n_tested = []

        def spy(settings, support, *args):
            n_tested.append(len(support))
            return log_pvalues(settings, support, *args)

        monkeypatch.setattr(patterns, "log_pvalues", spy)
        frame = patterns.compare_results(results._table, results.unstratified()._table)
        assert n_tested == [1, 1]
        assert frame["significant"].sum() == frame["significant_unstratified"].sum() == 2

    def test_confounded(self, confounded):
        results, _ = confounded
        frame = results.confounded()
        assert frame["pattern"].tolist() == [("i0",)]
        row = frame.iloc[0]
        assert row["pvalue_unstratified"] < 1e-9 < 0.001 < row["pvalue"]
        assert row["odds_ratio_unstratified"] > 1.4
        assert row["odds_ratio"] == pytest.approx(1.0, abs=0.2)

    def test_one_stratum_is_its_own_comparison(self):
        results = empty_results(n_testable=3)
        assert results.unstratified() is results
        assert len(results.comparison()) == len(results.confounded()) == 0


class TestOut:
    def test_csv(self, results, tmp_path):
        path = tmp_path / "patterns.csv"
        path.write_text("old")
        results.to_csv(path)
        frame = pd.read_csv(path)
        assert list(frame.columns) == list(COLUMN_NAMES)
        assert frame["pattern"].tolist() == [" & ".join(p) for p in results.patterns["pattern"]]
        np.testing.assert_allclose(frame["pvalue"], results.patterns["pvalue"], rtol=1e-14)
        assert list(tmp_path.iterdir()) == [path], "no temporary file is left"

    def test_csv_is_what_pandas_writes(self, rng, tmp_path):
        # Odds ratios of inf, missing intervals and p-values, names with quotes and line ends.
        matrix, y, strata = planted(rng)
        matrix[:, 2] = y
        names = ["a,b", 'say "no"', "two\nlines", " blank ", "plain", "x;y", "ü", "'q'"]
        problem = make_problem(matrix, y, strata, item_names=names)
        results = make_results(problem, [(0, 1), (2,), (3, 4), (1, 6), (5, 7)])
        path = tmp_path / "patterns.csv"
        results.to_csv(path)
        frame = results.to_frame()
        assert np.isinf(frame["odds_ratio"]).any()
        assert frame["odds_ratio_low"].isna().any()
        for name in ("pattern", "generator"):
            frame[name] = [" & ".join(items) for items in frame[name]]
        expected = frame.to_csv(index=False, lineterminator="\n")
        assert path.read_text(encoding="utf-8") == expected

    @pytest.mark.parametrize(
        ("method", "start"),
        [("to_html", "<!doctype html>"), ("to_markdown", "# "), ("to_json", '{\n "format"')],
    )
    def test_reports(self, results, tmp_path, method, start):
        path = tmp_path / "report"
        getattr(results, method)(path, confounding=False, top=1)
        text = path.read_text(encoding="utf-8")
        assert text.lstrip().startswith(start)
        assert "died" in text

    def test_json_limit(self, results, tmp_path):
        path = tmp_path / "results.json"
        results.to_json(path, confounding=False, top=1, limit=2)
        part = json.loads(path.read_text(encoding="utf-8"))["patterns"]
        assert (part["total"], part["included"], len(part["rows"])) == (4, 2, 2)
        results.to_json(path, confounding=False, limit=None)
        assert json.loads(path.read_text(encoding="utf-8"))["patterns"]["included"] == 4

    def test_a_folder_that_is_not_there(self, results, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            results.to_csv(tmp_path / "nowhere" / "patterns.csv")

    def test_pickle(self, results):
        copy = pickle.loads(pickle.dumps(results))
        assert isinstance(copy, PatternResults)
        pd.testing.assert_frame_equal(copy.patterns, results.patterns)
        assert copy.settings == results.settings


class TestPlots:
    @pytest.fixture(autouse=True)
    def _close(self):
        import matplotlib as mpl

        mpl.use("Agg")
        yield
        import matplotlib.pyplot as plt

        plt.close("all")

    @staticmethod
    def texts(ax):
        ax.figure.canvas.draw()
        return " ".join(
            text.get_text()
            for text in [ax.title, ax._left_title, *ax.get_xticklabels(), *ax.get_yticklabels()]
        )

    def test_forest(self, results):
        ax = results.plot_forest(0)
        text = self.texts(ax)
        assert "i0 & i1" in text
        assert "Pooled" in text
        assert ax.get_xscale() == "log"
        assert len(ax.lines) == 2 * 5 + 1  # interval and estimate of 4 strata and pooled; the null

    def test_qq(self, results):
        ax = results.plot_qq()
        assert re.search(r"8 testable patterns, inflation \d", self.texts(ax))
        assert len(ax.lines[-1].get_xdata()) == 8

    def test_strata(self, results):
        ax = results.plot_strata()
        widths = [patch.get_width() for patch in ax.patches[:4]]
        assert widths == results.problem.table.sizes.tolist()

    def test_on_given_axes(self, results):
        import matplotlib.pyplot as plt

        ax = plt.figure().add_subplot()
        assert results.plot_forest(1, ax=ax) is ax
        assert results.plot_qq(ax=plt.figure().add_subplot()) is not ax

    def test_hostile_names_and_nothing_testable(self, rng):
        matrix, y, strata = planted(rng)
        problem = make_problem(matrix, y, strata, item_names=[f"$\\x_{j}^$ {j}" for j in range(8)])
        self.texts(make_results(problem, [(0, 1)]).plot_forest())
        self.texts(empty_results().plot_qq())


def test_closures_are_what_the_helper_says(results):
    # The helper of these tests, against the definition.
    problem = results.problem
    for pattern in results.patterns["pattern"]:
        items = [problem.item_names.index(name) for name in pattern]
        assert closure_of(problem, items).tolist() == items
