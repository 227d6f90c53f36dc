"""The report of a search for a blend: pages from a dict, figures, and files of strangers."""

import json
import re
from xml.etree import ElementTree

import pytest

from sigmine.exceptions import FileFormatError
from sigmine_nn.methods import Evolution, cluster_criteria, criteria_matrix, search_blend
from sigmine_nn.report.blending import (
    dendrogram,
    history,
    load_summary,
    render_html,
    render_markdown,
)
from tests import networks


@pytest.fixture(scope="module")
def search():
    model = networks.residual_net("batch", 8)
    x, y = networks.digits()
    data, other = (networks.in_batches(x[i : i + 64], y[i : i + 64]) for i in (0, 64))
    matrix = criteria_matrix(model, data, criteria=["l1", "l2", "bn_scale", "hrank", "apoz"],
                             loss="cross_entropy")  # fmt: skip
    clusters = cluster_criteria(matrix)
    return search_blend(model, data, other, clusters=clusters, evolution=Evolution(8, 1, n_elite=2))


def test_the_same_pages_from_a_file(search, tmp_path):
    summary = search.to_dict()
    assert json.loads(json.dumps(summary)) == summary
    search.to_json(tmp_path / "search.json")
    again = load_summary(tmp_path / "search.json")
    again["created"] = summary["created"]
    assert render_html(again) == render_html(summary)
    assert render_markdown(again) == render_markdown(summary)
    assert search.to_html(tmp_path / "search.html")[:15] == "<!doctype html>"
    assert search.to_markdown(tmp_path / "search.md")[:9] == "# A blend"


def test_a_page_says_what_was_found(search):
    page = search.to_html()
    assert "<script" not in page
    assert not re.search(r"src=|href=\"[^#]|url\(", page)  # nothing to load
    assert page.count('class="figure dendrogram"') == 4
    assert page.count('class="figure agreement"') == 1
    assert f"{search.loss:.4g}" in page
    assert f"{search.random_loss:.4g}" in page
    assert "computed by block1.conv2, stem together" in page
    text = search.to_markdown()
    for layer, factors in search.criterion.layers.items():
        for name, factor in factors.items():
            assert layer.replace("_", "\\_") in text
            assert f"{factor:.3f}" in text, name
    assert "Judge the blend on data that had no part in it" in text


def test_the_summary_is_printed(search, capsys):
    search.print_summary()
    shown = capsys.readouterr().out
    assert str(search.criterion) in shown
    assert "Take care." in shown
    assert "Random search with" in shown


def test_names_are_escaped(search):
    summary = search.to_dict()
    summary["layers"][0]["layer"] = "<script>alert(1)</script>"
    summary["layers"][0]["names"][0] = "<b>"
    summary["agreement"]["names"][0] = "<b>"
    page = render_html(summary)
    assert "<script" not in page
    assert "<b>" not in page


def test_a_dendrogram_has_a_leaf_a_criterion_and_no_crossing():
    joins = [[0, 2, 0.1], [1, 3, 0.2], [4, 5, 1.5]]
    figure = ElementTree.fromstring(dendrogram(["a", "b", "c", "d"], joins, [0, 1, 0, 1]))
    space = "{http://www.w3.org/2000/svg}"
    labels = [t for t in figure.iter(f"{space}text") if t.text in "abcd"]
    heights = {t.text: float(t.get("y")) for t in labels}
    assert sorted(heights, key=heights.get) == ["a", "c", "b", "d"]
    lines = [line for line in figure.iter(f"{space}line") if line.get("class") == "axis"]
    assert len(lines) == 9  # three a join
    assert ElementTree.fromstring(dendrogram(["a"], [], [0])) is not None


def test_a_history_without_finite_losses_is_drawn():
    row = {
        "n_evaluations": 3.0,
        "best": None,
        "random_evaluations": 3.0,
        "random_best": float("inf"),
    }
    ElementTree.fromstring(history([row]))
    ElementTree.fromstring(history([]))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.update(format="x"), "not a sigmine report"),
        (lambda s: s.update(version=9), "format version 9"),
        (lambda s: s.pop("layers"), "layers is missing"),
        (lambda s: s["agreement"]["values"].pop(), "no square matrix"),
        (lambda s: s["layers"][0]["labels"].pop(), "has not one label"),
        (lambda s: s["layers"][0].update(names=[], labels=[], joins=[]), "has not one label"),
        (lambda s: s["layers"][0]["joins"][0].__setitem__(0, 99), "joins what is not there"),
        (lambda s: s["layers"][0]["joins"][0].__setitem__(2, -1.0), "no distance"),
        (lambda s: s["layers"][0]["joins"][0].pop(), "joins what is not there"),
        (lambda s: s["losses"].append({"name": 1, "loss": 1.0}), "expected a string"),
    ],
)
def test_hostile_reports_are_refused(change, match, search, tmp_path):
    summary = search.to_dict()
    change(summary)
    path = tmp_path / "search.json"
    path.write_text(json.dumps(summary))
    with pytest.raises(FileFormatError, match=match):
        load_summary(path)
