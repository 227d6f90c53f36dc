"""The report: pure functions of a dict, safe with hostile names, right at the edges."""

import copy
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import sigmine.search
from sigmine.exceptions import InputError
from sigmine.report import (
    figures,
    load_summary,
    render_html,
    render_json,
    render_markdown,
    render_notebook,
    summarize,
)
from sigmine.results import PatternResults
from sigmine.settings import SearchSettings
from tests.made_results import HOSTILE, make_outcome, make_problem, make_results, planted

VOID = {"meta", "link", "br", "hr", "img", "input"}
MOMENT = "2026-11-22T10:00:00+00:00"


class Page(HTMLParser):
    """Checks that tags nest, and remembers what matters."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.links, self.text = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.append((tag, named))
        if tag not in VOID:
            self.open.append(tag)
        if "id" in named:
            self.ids.append(named["id"])
        if "href" in named:
            self.links.append(named["href"])

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "title"} & set(self.open):
            self.text.append(data)

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def a_problem(seed=3, n_strata=4, names=None, **options):
    rng = np.random.default_rng(seed)
    matrix, y, strata = planted(rng, n_rows=150 * n_strata, n_strata=n_strata)
    options.setdefault("strata_names", ["site"])
    options.setdefault("target_name", "died")
    return make_problem(matrix, y, strata, item_names=names, **options)


@pytest.fixture
def fake_search(monkeypatch):
    """The search without strata: items 0, 2 and 5."""

    def search(problem, settings, **options):
        return make_outcome(problem, settings, [(0,), (2,), (5,)], n_testable=50)

    monkeypatch.setattr(sigmine.search, "search_patterns", search)


@pytest.fixture
def summary(fake_search):
    problem = a_problem(notes=["Two rows were dropped."], class_names=("no", "yes"))
    results = make_results(problem, [(0, 1), (0,), (1,), (3, 4)])
    return summarize(results, top=3, created=MOMENT)


def plain(value):
    """Whether a value is made of the allowed types only."""
    if isinstance(value, dict):
        return all(type(key) is str and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in {str, int, float, bool}


def check_page(text):
    page = Page(text)
    assert not {"script", "iframe", "object", "embed", "link", "img"} & {t for t, _ in page.tags}
    assert len(page.ids) == len(set(page.ids)), "ids are unique"
    assert all(link[0] == "#" and link[1:] in page.ids for link in page.links)
    assert "://" not in re.sub(r'xmlns="[^"]*"', "", text), "nothing to load"
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert all(attrs.get("scope") in {"row", "col", "colgroup"} for attrs in page.named("th"))
    assert all(attrs.get("role") == "img" for attrs in page.named("svg"))
    assert len(page.named("title")) == len(page.named("svg")) + 1
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        check_figure(svg)
    return page


def check_figure(svg):
    """Coordinates are finite numbers, and the text is escaped."""
    Page(svg)
    for name, value in re.findall(r'\b(x|y|x1|x2|y1|y2|width|height)="([^"]*)"', svg):
        assert math.isfinite(float(value)), name
    assert not re.search(r'\bd="[^"]*(nan|inf)', svg)


def check_markdown(text):
    """Every row of a table has the columns of its header."""
    columns = None
    for line in text.splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        pipes = len(re.findall(r"(?<!\\)(?:\\\\)*\|", line))
        assert columns in (None, pipes), line
        columns = pipes


def check_everything(summary, tmp_path):
    """All three forms of a summary; the JSON file gives the same dict back."""
    assert plain(summary)
    page = check_page(render_html(summary))
    check_markdown(render_markdown(summary))
    Page(render_notebook(summary))
    path = tmp_path / "results.json"
    text = render_json(summary)
    json.loads(text, parse_constant=pytest.fail)
    path.write_text(text, encoding="utf-8")
    assert load_summary(path) == summary
    return page


class TestContents:
    def test_all_forms(self, summary, tmp_path):
        check_everything(summary, tmp_path)

    def test_deterministic(self, summary):
        assert render_html(summary) == render_html(copy.deepcopy(summary))

    def test_what_the_page_says(self, summary):
        page = check_page(render_html(summary))
        for sentence in (
            "Which combinations of the 8 items go together with died\u00a0=\u00a0yes more or less "
            "often than chance explains, among rows with the same site?",
            "4 combinations are significantly associated with died\u00a0=\u00a0yes",
            "The strongest: Of the",
            "at most 5 % (family-wise error rate)",
            "Two rows were dropped.",
            "The 3 best of 4.",
            "Genomic inflation",
            "What the same search would have claimed without site",
            "mine_patterns( frame, target='died', strata=['site'], alpha=0.05",
        ):
            assert " ".join(sentence.split()) in page.words
        figures_named = [name.split()[1] for name in (a["class"] for a in page.named("svg"))]
        assert figures_named == ["strata-bars", "forest", "forest", "forest", "qq", "both"]
        assert len(page.named("article")) == 3

    def test_the_headline_counts_rows(self, summary):
        detail = summary["details"][0]
        (a, b), (c, d) = detail["table"]
        row = summary["patterns"]["rows"][0]
        assert (a, a + b) == (row["support_cases"], row["support"])
        assert a + b + c + d == summary["data"]["n_searched"]
        assert f"{a:,} ({100 * a / (a + b):.1f}\u00a0%) have" in summary["answer"]["headline"]
        assert sum(s["carriers"] for s in detail["strata"]) == a + b
        assert sum(s["weight"] for s in detail["strata"]) == pytest.approx(1.0)

    def test_confounding_counts(self, summary):
        part = summary["confounding"]
        assert part["n_significant"] == part["n_shared"] + part["n_confounded"] == 3
        assert (part["n_shared"], part["n_gained"]) == (1, 3)
        assert len(part["points"]) == 6
        assert part["n_gone"] == sum(row["pvalue"] > 0.05 for row in part["rows"])
        assert "would have claimed 3 combinations. 2 of them" in part["sentence"]

    def test_more_patterns_than_the_table_shows(self, fake_search):
        itemsets = [(j,) for j in range(8)] + [(i, j) for i in range(8) for j in range(i)]
        itemsets += [(i, j, k) for i in range(8) for j in range(i) for k in range(j)]
        results = make_results(a_problem(), itemsets[:80])
        summary = summarize(results, top=2, limit=60, created=MOMENT)
        assert (summary["patterns"]["total"], summary["patterns"]["included"]) == (80, 60)
        assert "… and 30 more, in the CSV file" in check_page(render_html(summary)).words
        assert "… and 30 more, in the CSV file" in render_markdown(summary)

    def test_without_the_comparison(self):
        summary = summarize(make_results(a_problem(), [(0,)]), confounding=False)
        assert summary["confounding"] is None
        assert "confounding" not in check_page(render_html(summary)).ids

    def test_top_is_in_the_table_whatever_the_limit(self):
        results = make_results(a_problem(), [(0,), (1,), (2,)])
        summary = summarize(results, top=2, limit=0, confounding=False)
        assert len(summary["details"]) == summary["patterns"]["included"] == 2

    @pytest.mark.parametrize("options", [{"top": -1}, {"limit": -5}])
    def test_negative_numbers(self, options):
        with pytest.raises(InputError, match="is negative"):
            summarize(make_results(a_problem(), [(0,)]), confounding=False, **options)

    def test_an_asymptotic_search_that_is_too_thin(self):
        settings = SearchSettings(method="asymptotic")
        rng = np.random.default_rng(1)
        y = rng.random(300) < 0.1
        matrix = np.stack([np.cumsum(y) * y > 24, rng.random(300) < 0.5], axis=1)
        results = make_results(make_problem(matrix, y), [(0,)], settings=settings, n_testable=10**7)
        summary = summarize(results, created=MOMENT)
        assert "too thin" in summary["warnings"][0]
        assert (
            "the exact test does not confirm this pattern" in summary["details"][0]["warnings"][0]
        )
        page = check_page(render_html(summary))
        assert "Take care." in page.words
        assert "**Take care.**" in render_markdown(summary)

    def test_different_odds_ratios_in_the_strata_are_pointed_out(self):
        i = np.arange(800)
        strata = i % 2
        carriers = i < 400
        y = np.where(strata == 0, (i // 2) % 4 < 1 + 2 * carriers, (i // 2) % 4 < 2)
        results = make_results(make_problem(carriers[:, None], y, strata), [(0,)])
        summary = summarize(results, confounding=False)
        assert any("differ between strata" in text for text in summary["details"][0]["warnings"])


class TestEdges:
    def test_nothing_significant(self, tmp_path, fake_search):
        summary = summarize(make_results(a_problem(), []), created=MOMENT)
        assert summary["answer"]["sentence"].startswith("None of the 100 testable combinations")
        assert "The smallest p-value is" in summary["answer"]["sentence"]
        page = check_everything(summary, tmp_path)
        assert "details" not in page.ids

    def test_nothing_testable(self, tmp_path):
        problem = make_problem([[1, 0], [0, 1], [1, 1], [0, 0]], [1, 0, 1, 0])
        summary = summarize(make_results(problem, [], n_testable=0), created=MOMENT)
        assert (
            "the smallest p-value that any combination can attain in these data is 0.21, above"
            in (summary["answer"]["sentence"])
        )
        assert summary["tested"]["testability_threshold"] is None
        assert summary["calibration"]["points"] == []
        page = check_everything(summary, tmp_path)
        assert "the smallest attainable p-value is 0.21" in page.words

    def test_nothing_testable_although_below_alpha(self):
        problem = make_problem([[1, 0], [0, 1], [1, 1], [0, 0]], [1, 0, 1, 0])
        settings = SearchSettings(alpha=0.3)
        summary = summarize(make_results(problem, [], n_testable=0, settings=settings))
        assert "so many combinations share it" in summary["answer"]["sentence"]

    def test_one_stratum(self, tmp_path):
        rng = np.random.default_rng(2)
        matrix, y, _ = planted(rng)
        problem = make_problem(matrix, y, target_name="died")
        summary = summarize(make_results(problem, [(0, 1)]), created=MOMENT)
        assert summary["confounding"] is None
        assert summary["question"]["sentence"].endswith("than chance explains?")
        assert summary["details"][0]["homogeneity_pvalue"] is None
        check_everything(summary, tmp_path)

    def test_a_hundred_strata(self, tmp_path, fake_search):
        problem = a_problem(n_strata=100, strata_names=["practice"])
        results = make_results(problem, [(0, 1), (0,)])
        summary = summarize(results, created=MOMENT)
        detail = summary["details"][0]
        assert (len(detail["strata"]), detail["n_strata"]) == (30, 100)
        labels = [row["label"] for row in detail["strata"]]
        order = list(problem.stratum_labels)
        assert labels == sorted(labels, key=order.index)
        weights = (results.tables[0, :, 0, 1] * results.tables[0, :, 1, 0]) / 150
        kept = np.isin(order, labels)
        assert weights[kept].min() >= weights[~kept].max() * 0.8
        page = check_everything(summary, tmp_path)
        assert "30 of 100 strata: those with most weight" in page.words
        assert "the 40 largest of 100" in page.words

    def test_two_covariates(self, tmp_path):
        rng = np.random.default_rng(2)
        matrix, y, strata = planted(rng)
        frame = {"sex": np.where(strata % 2, "f", "m"), "age": np.where(strata > 1, "old", "young")}
        problem = make_problem(matrix, y, list(frame.values()), strata_names=list(frame))
        summary = summarize(make_results(problem, [(0, 1)]), confounding=False, created=MOMENT)
        page = check_everything(summary, tmp_path)
        assert "sex · age" in page.words
        assert "f · old" in page.words
        assert "given sex and age" in page.words

    def test_infinite_odds_ratio_and_enormous_evidence(self, tmp_path):
        y = np.arange(9000) < 4000
        matrix = np.stack([y, ~y, np.arange(9000) % 2 == 0], axis=1)
        problem = make_problem(matrix, y, np.arange(9000) % 3)
        results = make_results(problem, [(0,), (1,)], n_testable=10)
        summary = summarize(results, confounding=False, created=MOMENT)
        rows = summary["patterns"]["rows"]
        assert [row["odds_ratio"] for row in rows] in ([math.inf, 0.0], [0.0, math.inf])
        assert rows[0]["pvalue"] == 0.0
        assert rows[0]["log10_pvalue"] < -2000
        assert '"odds_ratio": "inf"' in render_json(summary)
        page = check_everything(summary, tmp_path)
        assert "∞" in page.words
        assert re.search("10⁻²\\S+", page.words)

    def test_uninformative_strata_and_dropped_items(self, tmp_path):
        rng = np.random.default_rng(4)
        matrix, y, strata = planted(rng)
        y[strata == 2] = True
        matrix[:, 7] = False
        problem = make_problem(matrix, y, strata, strata_names=["site"])
        summary = summarize(make_results(problem, [(0, 1)]), confounding=False, created=MOMENT)
        page = check_everything(summary, tmp_path)
        assert "1 stratum has cases only or controls only" in page.words
        assert "no: one class" in page.words
        assert "1 item was left out" in page.words
        assert "constant: absent from every searched row (1): i7" in page.words

    def test_hostile_names(self, tmp_path, fake_search):
        problem = a_problem(
            names=[f"{HOSTILE}{j}" for j in range(8)],
            target_name=HOSTILE,
            class_names=(HOSTILE, HOSTILE),
            strata_names=[HOSTILE],
            notes=[HOSTILE],
        )
        summary = summarize(make_results(problem, [(0, 1), (2,)]), created=MOMENT)
        summary["versions"][HOSTILE] = HOSTILE
        for row in summary["data"]["strata"] + summary["details"][0]["strata"]:
            row["label"] = HOSTILE
        page = check_everything(summary, tmp_path)
        assert HOSTILE.split("|")[0].strip() in page.words
        text = render_markdown(summary)
        outside_code = "\n".join(x for x in text.splitlines() if not x.startswith("    "))
        assert "<script" not in outside_code
        assert not re.search(r"(?<!\\)(\\\\)*[\[\]`]", outside_code), "no link and no code"
        assert "\u2028" not in outside_code

    def test_long_closures_are_cut_in_words(self, tmp_path):
        i = np.arange(400)
        matrix = np.repeat((i < 120)[:, None], 60, axis=1)  # sixty items with the same rows
        matrix[:, -1] = i < 100
        problem = make_problem(matrix, (i < 100) | (i % 3 == 0))
        summary = summarize(make_results(problem, [(59,)]), created=MOMENT)
        assert summary["details"][0]["generators"] == [["i59"]]
        assert "and 47 more" in check_everything(summary, tmp_path).words

    def test_equally_short_descriptions(self):
        i = np.arange(300)
        matrix = np.stack([i < 90, i < 90, i % 2 == 0], axis=1)
        summary = summarize(make_results(make_problem(matrix, i < 100), [(0,)]))
        assert summary["details"][0]["generators"] == [["i0"], ["i1"]]
        page = check_page(render_html(summary))
        assert "Equally short descriptions of the same rows: i1" in page.words


def test_a_real_search_from_end_to_end(tmp_path):
    rng = np.random.default_rng(11)
    matrix, y, strata = planted(rng, n_rows=400, n_items=6, n_strata=3)
    problem = make_problem(matrix, y, strata, strata_names=["site"], target_name="died")
    settings = SearchSettings()
    outcome = sigmine.search.search_patterns(problem, settings)
    results = PatternResults.from_outcome(problem, settings, outcome)
    assert results.patterns["pattern"].iloc[0] == ("i0", "i1")
    frame = results.comparison()
    assert frame["significant"].sum() == len(results)
    assert frame["significant_unstratified"].sum() == len(results.unstratified())
    check_everything(summarize(results, created=MOMENT), tmp_path)


class TestCalibrationPoints:
    def test_few_points_are_all_there(self, summary):
        points = summary["calibration"]["points"]
        assert len(points) == summary["calibration"]["n"] == 8
        assert [x for x, _ in points] == sorted((x for x, _ in points), reverse=True)
        assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
        assert points[0][0] == pytest.approx(-math.log10(0.5 / 8), rel=1e-4)

    def test_many_points_are_thinned_but_the_smallest_stay(self):
        problem = a_problem()
        rng = np.random.default_rng(0)
        sample = [rng.choice(8, 2, replace=False) for _ in range(5000)]
        results = make_results(problem, [], sample=sample, fraction=0.5, n_testable=10_000)
        summary = summarize(results, confounding=False)
        part = summary["calibration"]
        assert part["n"] == 5000
        assert 300 < len(part["points"]) <= 400
        assert part["points"][199][0] == pytest.approx(-math.log10(199.5 / 5000), rel=1e-4)
        assert part["points"][-1][0] == pytest.approx(-math.log10(4999.5 / 5000), rel=1e-3)
        assert "a random sample of 5,000 of the 10,000" in check_page(render_html(summary)).words
        assert "smallest p-value" not in summary["answer"]["sentence"], (
            "the sample need not hold it"
        )


class TestFigures:
    @pytest.mark.parametrize("ratio", [None, 0.0, 1e-9, 0.2, 1.0, 55.0, 1e12, math.inf])
    @pytest.mark.parametrize("pooled", [None, 0.0, 0.9, math.inf])
    def test_forest_at_any_odds_ratio(self, ratio, pooled):
        row = {"odds_ratio": ratio, "odds_ratio_low": None, "odds_ratio_high": None, "weight": 0.5}
        if ratio:
            row.update(odds_ratio_low=ratio / 7, odds_ratio_high=ratio * 7)
        detail = {
            "strata": [row, {**row, "odds_ratio": 2.0, "weight": 0.0}],
            "odds_ratio": pooled,
            "odds_ratio_low": pooled and pooled / 2,
            "odds_ratio_high": pooled and pooled * 2,
        }
        svg = figures.forest(detail)
        check_figure(svg)
        height = float(re.search(r'height="([\d.]+)"', svg)[1])
        assert height == figures.ROW_HEIGHT * 4
        assert ">1</text>" in svg, "the line of no effect is labelled"
        assert svg.count('class="pooled"') == (pooled is not None)

    def test_forest_marks_stay_inside(self):
        row = {"odds_ratio": 3.0, "odds_ratio_low": 1e-8, "odds_ratio_high": 1e8, "weight": 1.0}
        detail = {"strata": [row], **{key: row[key] for key in list(row)[:3]}}
        svg = figures.forest(detail)
        xs = [float(x) for x in re.findall(r'\bx[12]="([\d.]+)"', svg)]
        assert 0 < min(xs) <= max(xs) < 260
        assert svg.count("<path") == 3, "two arrows and the diamond"

    @pytest.mark.parametrize("sizes", [[], [(0, 0)], [(5, 5), (100000, 1)]])
    def test_strata_bars(self, sizes):
        svg = figures.strata_bars([{"n": n, "n_cases": c} for n, c in sizes])
        check_figure(svg)
        assert svg.count("<rect") == 2 * len(sizes)

    @pytest.mark.parametrize("threshold", [None, 0.0, 1.0, 1e-300])
    @pytest.mark.parametrize("points", [[], [[0.0, 0.0]], [[3.0, 5000.0], [0.001, 0.0]]])
    def test_scatter_plots(self, points, threshold):
        check_figure(figures.qq({"n": len(points), "points": points}, threshold))
        part = {
            "corrected_threshold": threshold,
            "points": [[*point, kind % 3] for kind, point in enumerate(points)],
            "n_shared": 1,
            "n_confounded": 2,
            "n_gained": 3,
        }
        svg = figures.comparison(part, threshold, kinds=("both", "<b>", "&"))
        check_figure(svg)
        assert "2 &lt;b&gt;, 3 &amp;" in svg

    def test_points_at_the_threshold_count_as_significant(self):
        svg = figures.qq({"n": 2, "points": [[1.0, 2.0], [0.5, 1.9]]}, 0.01)
        assert len(re.findall("M", re.search(r'dots orange.*? d="([^"]*)"', svg)[1])) == 1
