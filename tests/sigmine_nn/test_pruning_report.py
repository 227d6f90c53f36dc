"""The report of a pruning: every number is one of the result, and nothing in it is trusted."""

from __future__ import annotations

import json
import re

import pytest

from sigmine.exceptions import FileFormatError
from sigmine_nn import Pruner, evaluate
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.report import load_summary, render_html, render_markdown
from tests.networks import digits, in_batches, residual_net, train


@pytest.fixture(scope="module")
def batches():
    return in_batches(*(part[:384] for part in digits()))


@pytest.fixture(scope="module")
def model():
    return train(residual_net(seed=2), *(part[400:900] for part in digits()), epochs=2)


@pytest.fixture(scope="module")
def results(model, batches):
    pruner = Pruner(amount=0.4, compare=("l1",), n_resamples=100)
    pruner.fit(model, batches[:4], loss="cross_entropy")
    small = pruner.transform(model, physical=True)
    return pruner.results(model, small, data=batches[4:], latency=True)


def test_the_page_shows_what_was_found(results, batches, model):
    page = results.to_html()
    units = results.table.units
    assert f"{int((~results.selection.keep).sum())} of {units.n} units go" in page
    for name in units.names:
        assert name in page
    before = evaluate(model, batches[4:], loss="cross_entropy")
    assert results.before.accuracy == before.accuracy
    assert page.count("<svg") == 3
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)


def test_units_of_both_sides_of_the_cut_are_listed(results):
    rows = results.to_dict()["ranking"]["rows"]
    assert {row["keep"] for row in rows} == {True, False}
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)


def test_json_is_read_back_and_gives_the_same_pages(results, tmp_path):
    path = tmp_path / "report.json"
    results.to_json(path)
    summary = load_summary(path)
    assert render_html(summary) == render_html(json.loads(path.read_text()))
    assert "| " in render_markdown(summary)


def test_names_are_escaped(results):
    summary = results.to_dict()
    summary["layers"][0]["layer"] = summary["ranking"]["rows"][0]["unit"] = "<b>&"
    summary["model"]["name"] = "<script>"
    page = render_html(summary)
    assert "<b>&" not in page
    assert "<script>" not in page
    assert "&lt;b&gt;&amp;" in page


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: s.pop("layers"), "layers is missing"),
        (lambda s: s["layers"][0].update(n_kept=10**6), "keeps 1000000"),
        (lambda s: s["ranking"]["rows"][0].update(p_pruned=1.5), "no probability"),
        (lambda s: s["ranking"]["rows"][0].update(keep="yes"), "true or false"),
        (lambda s: s["agreement"].update(names=["one"]), "square"),
        (lambda s: s.update(format="other"), "not a sigmine report"),
        (lambda s: s.update(version=99), "version 99"),
    ],
)
def test_a_damaged_file_is_refused(results, tmp_path, change, word):
    summary = json.loads(results.to_json())
    change(summary)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(summary))
    with pytest.raises(FileFormatError, match=word):
        load_summary(path)


def test_weights_alone_are_said_to_have_no_distribution(model, batches):
    pruner = Pruner("l2").fit(model, example_inputs=batches[0][0])
    page = pruner.results(model).to_html()
    assert "looks at weights alone" in page
    assert "probability of being pruned" not in page


def test_tests_of_removal_are_shown_with_their_promise(model, batches):
    pruner = Pruner(level=0.05, margin=0.2, metric="accuracy", test="nested", n_resamples=50)
    pruner.fit(model, batches[:3], loss="cross_entropy", test_data=batches[3:])
    summary = pruner.results(model).to_dict()
    assert "at most 5" in summary["answer"]["guarantee"]
    assert summary["removal"]["what"] == "Set"
    assert summary["removal"]["total"] == len(pruner.removal_.keeps)
    assert "Tests of removal" in render_html(summary)


def test_decisions_that_are_not_the_ranking_s_are_counted(batches):
    pruner = Pruner(amount=0.5, n_resamples=50)
    pruner.fit(residual_net("group"), batches[:2], loss="cross_entropy")
    differ = int((pruner.uncertainty_.pruned == pruner.selection_.keep).sum())
    assert differ > 0
    said = pruner.results(residual_net("group")).to_dict()["warnings"]
    assert any(text.startswith(f"{differ} decisions differ") for text in said)


def test_the_summary_is_printed(results, capsys):
    results.print_summary()
    said = capsys.readouterr().out
    assert "were ranked by 'taylor'" in said
    assert "undecided" in said


class TestEvaluation:
    def test_it_is_what_numpy_counts(self, model, batches):
        found = evaluate(model, batches, loss="cross_entropy")
        right = [
            bool(a) for inputs, targets in batches for a in model(inputs).argmax(dim=1) == targets
        ]
        assert found.accuracy == pytest.approx(sum(right) / len(right))
        assert found.n_samples == 384

    def test_no_classes_no_accuracy(self, model, batches):
        regression = [(inputs, model(inputs).detach() * 0) for inputs, _ in batches]
        found = evaluate(model, regression, loss="mse")
        assert found.accuracy is None
        assert found.loss > 0

    def test_no_batches(self, model):
        with pytest.raises(CalibrationError, match="no batch"):
            evaluate(model, [], loss="mse")
