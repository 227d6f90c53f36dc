"""LAST as a recipe, its report, and balanced truncation beside it."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import linalg, stats
from sklearn.base import clone
from torch import nn

from sigmine.exceptions import FileFormatError, InputError, StatisticalWarning
from sigmine_nn import (
    Pruner,
    PruningCurves,
    find_units,
    get_criterion,
    load_pruned,
    pruning_curve,
    save_pruned,
)
from sigmine_nn.exceptions import ModelError
from sigmine_nn.methods import LAST, balanced_truncation
from sigmine_nn.report import load_summary, render_html
from sigmine_nn.state_space import S4D, S5, DiagonalSystem
from sigmine_nn.state_space.reduction import balance


class Net(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.encoder = nn.Linear(2, 4)
        self.layers = nn.ModuleList(layers)
        self.decoder = nn.Linear(4, 3)

    def forward(self, x):
        x = self.encoder(x)
        for layer in self.layers:
            x = x + nn.functional.gelu(layer(x))
        return self.decoder(x.mean(dim=1))


STEPS = {"dt_min": 0.05, "dt_max": 1.0}


def make(kind="S5", seed=0, **options):
    torch.manual_seed(seed)
    if kind == "S5":
        return Net(S5(4, 12, **STEPS, **options), S5(4, 8, **STEPS, **options))
    return Net(S4D(4, 3, **STEPS), S4D(4, 2, **STEPS))


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(24, 40, 2, generator=generator)
    return [(x, torch.arange(24) % 3)]


# -- The recipe ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["S5", "S4D"])
@pytest.mark.parametrize("amount", [0.0, 0.25, 0.5, 0.85])
def test_exactly_the_amount_goes_and_no_layer_is_empty(kind, amount, data):
    model, x = make(kind), data[0][0]
    last = LAST(amount).fit(model, example_inputs=x)
    keep = last.selection_.keep
    assert (~keep).sum() == math.floor(amount * 20)
    small = last.transform(model, physical=True)
    assert find_units(small, "state", x).n == keep.sum()
    masked = last.transform(model)
    torch.testing.assert_close(small(x), masked(x), rtol=0, atol=1e-5)
    assert sum(p.numel() for p in small.parameters()) == last.costs_.parameters(keep)


def test_it_is_a_pruner_with_the_criterion_last(data):
    model, x = make(), data[0][0]
    recipe = LAST(0.4, horizon=10, norm="h2", normalise="none").fit(model, example_inputs=x)
    criterion = get_criterion("last", horizon=10, norm="h2", normalise="none")
    plain = Pruner(criterion, units="state", amount=0.4).fit(model, example_inputs=x)
    pd.testing.assert_frame_equal(recipe.ranking_, plain.ranking_)
    other = clone(LAST(0.4, horizon="sequence")).set_params(horizon=10)
    assert other.get_params()["horizon"] == 10
    scores = other.fit(model, example_inputs=x).scores_.score
    expected = LAST(0.4, horizon=10).fit(model, example_inputs=x).scores_.score
    assert torch.equal(scores, expected)


def test_options_reach_curves_too(data):
    model = make()
    seen = {}
    for horizon in (None, 2):
        ways = {"LAST": LAST(horizon=horizon)}
        frame = pruning_curve(model, data, ways, [0.5, 0.7], loss="cross_entropy")
        seen[horizon] = frame["loss"].tolist()
    assert seen[None] != seen[2]


def test_saved_and_loaded(data, tmp_path):
    for kind in ("S5", "S4D"):
        model = make(kind)
        last = LAST(0.6).fit(model, example_inputs=data[0][0])
        small = last.transform(model, physical=True)
        path = save_pruned(tmp_path / f"{kind}.safetensors", small, last.plan_)
        back = load_pruned(path, lambda kind=kind: make(kind, seed=5))
        assert torch.equal(back(data[0][0]), small(data[0][0]))


def test_slow_states_are_warned_of(data):
    torch.manual_seed(0)
    model = Net(S5(4, 8, dt_min=1e-3, dt_max=1e-2))
    with pytest.warns(StatisticalWarning, match=r"remember longer than .* sequences have 40"):
        LAST(0.5).fit(model, data)
    LAST(0.5, horizon="sequence").fit(model, data)  # warnings are errors here
    LAST(0.5).fit(model)  # nothing is known of the sequences


def test_networks_without_states_are_refused(data):
    with pytest.raises(ModelError, match="no units of kind 'state'"):
        LAST().fit(nn.Linear(2, 3), example_inputs=data[0][0])
    units = find_units(nn.Sequential(nn.Linear(2, 3)), "row")
    for other in (units, "channel"):
        with pytest.raises(ModelError, match="not only states"):
            LAST(units=other).fit(nn.Sequential(nn.Linear(2, 3)))


# -- The report ---------------------------------------------------------------------------------


@pytest.fixture
def results(data):
    model = make()
    ways = {"LAST": LAST(), "random": Pruner("random", units="state")}
    frames = [
        pruning_curve(make(seed=k), data, ways, [0.3, 0.6], loss="cross_entropy", name=k)
        for k in range(2)
    ]
    last = LAST(0.4).fit(model, example_inputs=data[0][0], loss="cross_entropy")
    small = last.transform(model, physical=True)
    curves = PruningCurves(pd.concat(frames))
    return last.results(model, small, data=data, latency=True, curves=curves)


def test_the_report_shows_states_memory_time_and_curves(results, data):
    summary = results.to_dict()
    facts = {fact["name"]: fact for fact in summary["facts"]}
    assert (facts["Units"]["after"], facts["Units"]["before"]) == ("12", "20")
    memory = facts["State memory, single precision"]
    assert (memory["after"], memory["word"], memory["before"]) == ("96 B", "of", "160 B")
    assert facts["One recurrent step, median"]["word"] == "was"
    assert "Multiply-adds" not in facts  # they do not count what states cost
    layers = summary["states"]["layers"]
    assert [layer["n_states"] for layer in layers] == [12, 8]
    model = make()
    eigenvalues = torch.complex(model.layers[0].Lambda_re, model.layers[0].Lambda_im)
    expected = torch.exp(eigenvalues * model.layers[0].log_step.exp()).detach().numpy()
    points = layers[0]["points"]
    np.testing.assert_allclose([p["re"] + 1j * p["im"] for p in points], expected, rtol=1e-5)
    kept = [p["keep"] for layer in layers for p in layer["points"]]
    assert kept == results.selection.keep.tolist()
    scores = np.concatenate([[p["score"] for p in layer["points"]] for layer in layers])
    np.testing.assert_allclose(scores, stats.rankdata(results.table.score, "max") / 20)
    curves = {way["way"]: way for way in summary["curves"]["ways"]}
    table = results.curves.table("LAST")
    assert curves["LAST"]["points"][1]["mean"] == pytest.approx(table[0.6].mean())
    page = results.to_html()
    assert page.count('class="figure discs"') == 1
    assert page.count('class="ring"') == 8 + 1  # the key has one
    assert page.count('class="curve"') == 2 + 2  # lines, and their legend


def test_the_report_is_read_back(results, tmp_path):
    path = tmp_path / "report.json"
    text = results.to_json(path)
    assert render_html(load_summary(path)) == render_html(json.loads(text))
    assert "How much can go?" in results.to_markdown()
    damaged = json.loads(text)
    damaged["states"]["layers"][0]["points"][0]["score"] = 2.0
    path.write_text(json.dumps(damaged))
    with pytest.raises(FileFormatError, match="scores outside"):
        load_summary(path)


def test_names_in_figures_are_escaped(results):
    summary = results.to_dict()
    summary["states"]["layers"][0]["layer"] = summary["curves"]["ways"][0]["way"] = "<script>"
    assert "<script>" not in render_html(summary)


# -- Balanced truncation ------------------------------------------------------------------------


def system(n=6, n_inputs=3, n_outputs=2, seed=0, slowest=0.97):
    rng = np.random.default_rng(seed)
    eigenvalues = rng.uniform(0.3, slowest, n) * np.exp(1j * rng.uniform(0, np.pi, n))
    inputs = rng.normal(size=(n, n_inputs)) + 1j * rng.normal(size=(n, n_inputs))
    outputs = rng.normal(size=(1, n_outputs, n)) + 1j * rng.normal(size=(1, n_outputs, n))
    return DiagonalSystem(*map(torch.from_numpy, (eigenvalues, inputs, outputs)))


def response(found, angles):
    return found.frequency_response(angles).sum(dim=1)


def test_hankel_singular_values_are_those_of_lyapunov_equations():
    found = system()
    A = np.diag(found.eigenvalues.numpy())
    B, C = found.inputs.numpy(), found.outputs[0].numpy()
    P = linalg.solve_discrete_lyapunov(A, B @ B.conj().T)
    Q = linalg.solve_discrete_lyapunov(A.conj().T, C.conj().T @ C)
    expected = np.sort(np.sqrt(np.linalg.eigvals(P @ Q).real))[::-1]
    np.testing.assert_allclose(balance(found).singular_values, expected, rtol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_at_most_twice_the_tail(seed):
    # K. Glover, All optimal Hankel-norm approximations, 1984, and D. Enns: 2 x the sum of the tail.
    found, angles = system(seed=seed), torch.linspace(0, 2 * math.pi, 4001).double()
    balanced, whole = balance(found), response(system(seed=seed), angles)
    values = balanced.singular_values
    for order in range(1, 7):
        reduced = balanced.truncated([order])
        assert reduced.n_states == order
        difference = torch.linalg.matrix_norm(whole - response(reduced, angles), ord=2).max()
        assert difference <= 2 * values[order:].sum() + 1e-9
    # The bound is no empty one: half of the first value that is cut is always lost.
    difference = torch.linalg.matrix_norm(
        whole - response(balanced.truncated([3]), angles), ord=2
    ).max()
    assert difference >= values[3]


def test_unstable_systems_are_not_balanced():
    found = system()
    found.eigenvalues[2] = 1.0
    with pytest.raises(InputError, match="state 2 is unstable"):
        balance(found)
    with pytest.raises(InputError, match="2 orders for 1 parts"):
        balance(system()).truncated([1, 1])


@pytest.mark.parametrize(
    "make_one",
    [
        lambda: make(),
        lambda: make(bidirectional=True),
        lambda: make(discretization="bilinear"),
        lambda: make("S4D"),
    ],
)
def test_networks_are_rewritten(make_one, data):
    torch.manual_seed(0)
    model, x = make_one(), data[0][0]
    with torch.no_grad():
        whole = model(x)
        same = balanced_truncation(model, 0.0)(x)
        torch.testing.assert_close(same, whole, rtol=0, atol=1e-3 * float(whole.abs().max()))
        errors = []
        for amount in (0.1, 0.4, 0.9):
            small = balanced_truncation(model, amount)
            assert find_units(small, "state").n == 20 - math.floor(amount * 20)
            errors.append(float((small(x) - whole).norm()))
        assert errors[0] < errors[2]
        assert torch.equal(model(x), whole)


def test_slow_states_stay_slow(data):
    torch.manual_seed(0)
    model, x = Net(S5(4, 8, dt_min=1e-5, dt_max=1e-4, clip_eigs=True)), data[0][0]
    with torch.no_grad():
        model.layers[0].Lambda_re.fill_(-0.5)  # 0.5e-4 a step and less
        same = balanced_truncation(model, 0.0)
        before, after = (net.layers[0].discrete()[0].abs().min() for net in (model, same))
        assert float(1 - after) == pytest.approx(float(1 - before), rel=0.1)
        torch.testing.assert_close(same(x), model(x), rtol=0, atol=1e-3)


def test_a_layer_that_does_nothing_keeps_one_state():
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        model.layers[0].C.zero_()
    small = balanced_truncation(model, 0.5)
    assert [layer.n_states for layer in small.layers] == [2, 8]


def test_what_cannot_be_rewritten_is_refused():
    with pytest.raises(ModelError, match="no state space layer"):
        balanced_truncation(nn.Linear(2, 2), 0.5)
    with pytest.raises(InputError, match="leaves 1 states for 2 layers"):
        balanced_truncation(make(), 0.95)
    with pytest.raises(InputError, match="out of range"):
        balanced_truncation(make(), 1.5)
