"""Criteria of states that look at data, and states behind the front door."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sigmine.exceptions import StatisticalWarning
from sigmine_nn import Pruner
from sigmine_nn.adapters import read_systems
from sigmine_nn.calibrate import calibrate
from sigmine_nn.criteria import Scoring, get_criterion
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.masks import apply_masks
from sigmine_nn.scores import ScoreTable
from sigmine_nn.scoring import score_by_criteria, score_units
from sigmine_nn.state_space import S5, DiagonalSystem
from sigmine_nn.surgery import largest_difference
from sigmine_nn.units import Kind, UnitGroup, Units
from tests import naive_state
from tests.networks import state_of
from tests.state_nets import MODELS, OTHERS, STEPS, Stack, batches_of, made, sequences

CLOSED = ["last", "hinf", "aire", "state_magnitude"]
PUBLIC = [*MODELS, "s4d.py", "s5-pytorch", "s5-pytorch both ways", "lru-pytorch"]


def scored(model: nn.Module, criterion: str = "last", **options: Any) -> ScoreTable:
    scoring = Scoring.of(model, find_units(model, "state"))
    return get_criterion(criterion, **options)(scoring)


def by_layer(table: ScoreTable) -> list[list[float]]:
    return [part.tolist() for part in table.units.split(table.score).values()]


def states_of(systems: dict[str, DiagonalSystem]) -> Scoring:
    """A scoring of systems without a model behind them."""
    groups = tuple(UnitGroup(name, Kind.STATE, s.n_units, ()) for name, s in systems.items())
    return Scoring(Units(groups, {}), {}, systems=systems)


# -- Data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["S5", "S5 both ways", "S4D", "s5-pytorch", "lru-pytorch"])
def test_state_energy_is_that_of_a_loop(name: str) -> None:
    model: Any = {**MODELS, **OTHERS}[name]()
    x = sequences(3, 5)
    data = [(x[:2], torch.zeros(2).long()), (x[2:], torch.zeros(1).long())]
    criterion = get_criterion("state_energy", normalise="none")
    table = score_units(model, data, criterion=criterion, units="state")
    seen: list[Tensor] = []
    handle = model.layers[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(x)
    handle.remove()
    system = read_systems(model)["layers.1"]
    channel = None if system.channel is None else system.channel.tolist()
    energies = np.array([
        naive_state.energies(system.eigenvalues.tolist(), system.inputs.tolist(),
                             system.outputs.numpy(), sequence.tolist(), channel)
        for sequence in seen[0].detach()
    ])  # fmt: skip
    expected = [energies[:, sorted(set(row))].sum(axis=1) for row in system.members.tolist()]
    found = by_layer(table)[1]
    np.testing.assert_allclose(found, [e.mean() for e in expected], rtol=2e-5)
    assert table.samples is not None
    place = table.units.range_of("layers.1")
    np.testing.assert_allclose(
        table.samples[:, place.start : place.stop].numpy(), np.array(expected).T, rtol=2e-5
    )


def test_state_energy_is_on_the_scale_of_last() -> None:
    model = MODELS["S4D"]()
    tables = score_by_criteria(
        model, batches_of(), units="state",
        criteria=["state_energy"],
    )  # fmt: skip
    raw = score_units(
        model, batches_of(), units="state",
        criterion=get_criterion("state_energy", normalise="none"),
    )  # fmt: skip
    twin = naive_state.last_scores(by_layer(raw))
    for mine, expected in zip(by_layer(tables["state_energy"]), twin, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-9)


def test_a_layer_that_is_called_twice_has_the_mean_energy() -> None:
    model: Any = made(lambda d, n: S5(d, n, **STEPS), sizes=(4,))
    model.layers.append(model.layers[0])
    seen: list[Tensor] = []
    handle = model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = sequences(2, 6)
    model(x)
    handle.remove()
    criterion = get_criterion("state_energy", normalise="none")
    table = score_units(model, [(x, torch.zeros(2))], criterion=criterion, units="state")
    system = read_systems(model)["layers.0"]
    both = torch.stack([system.mean_squares(value) for value in seen])
    torch.testing.assert_close(table.score, both.mean(dim=(0, 1)), rtol=1e-6, atol=0)


def test_a_layer_that_is_given_other_sequences_than_samples_is_refused() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = S5(3, 4, **STEPS)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x.reshape(2 * len(x), -1, 3))
            return y.reshape(len(x), -1)

    with pytest.raises(CalibrationError, match="'layer' was given 6 sequences in a batch of 3"):
        score_units(Folded(), batches_of(), criterion="state_energy", units="state")


@pytest.mark.parametrize("name", ["S5", "s5-pytorch", "lru-pytorch"])
def test_scoring_leaves_the_model_as_it_was(name: str) -> None:
    model: Any = {**MODELS, **OTHERS}[name]()
    model.train()
    before = state_of(model)
    plain = {id(m): {k: v for k, v in vars(m).items() if isinstance(v, Tensor)}
             for m in model.modules()}  # fmt: skip
    score_by_criteria(
        model, batches_of(4, 5, 2), units="state", loss="cross_entropy",
        criteria=[get_criterion("last", horizon="sequence"), "state_energy", "taylor"],
    )  # fmt: skip
    assert state_of(model) == before
    for module in model.modules():
        for key, value in plain[id(module)].items():
            assert vars(module)[key] is value


def test_mixed_channels_and_states_are_scored_together() -> None:
    x = sequences()
    hidden = Stack([nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4)), S5(4, 5, **STEPS)])
    channels = find_units(hidden, "channel", x)
    assert channels.names == ["layers.0.0"]
    assert "in unknown ways" in channels.left_out["encoder"]  # features of a layer of states
    states = find_units(hidden, "state", x)
    units = Units((*channels.groups, *states.groups), {**channels.shapes, **states.shapes})
    data = batches_of()
    both = calibrate(hidden, data, units, ["taylor", "state_energy"], loss="cross_entropy")
    alone = [calibrate(hidden, data, part, ["taylor"], loss="cross_entropy")
             for part in (channels, states)]  # fmt: skip
    expected = torch.cat([part.of_units["taylor"].mean for part in alone])
    torch.testing.assert_close(both.of_units["taylor"].mean, expected, rtol=1e-6, atol=1e-9)
    energy = units.split(both.of_units["state_energy"].mean)
    assert bool(energy["layers.1"].isfinite().all())
    assert all(bool(energy[name].isnan().all()) for name in channels.names)
    table = get_criterion("state_energy")(Scoring.of(hidden, units, both))
    assert by_layer(table)[-1] == pytest.approx(
        naive_state.last_scores([energy["layers.1"].tolist()])[0]
    )


@pytest.mark.parametrize("criterion", ["l1", "l2", "lamp", "geometric_median", "fermat", "random"])
def test_criteria_of_weights_take_complex_weights(criterion: str) -> None:
    """Complex numbers count with both parts, as if these were stored side by side."""
    model: Any = OTHERS["lru-pytorch"]()
    options = {"roles": ["in"]} if criterion in ("l1", "l2", "geometric_median", "fermat") else {}
    table = scored(model, criterion, **options)
    assert bool(table.score.isfinite().all())
    columns = model.layers[0].C.detach()
    if criterion == "l1":
        torch.testing.assert_close(table.score[:6], columns.abs().sum(dim=0).double())
    if criterion == "l2":
        torch.testing.assert_close(table.score[:6], columns.norm(dim=0).double())
    if criterion == "geometric_median":
        points = torch.view_as_real(columns.mT.contiguous()).flatten(1).double()
        expected = torch.cdist(points, points).sum(dim=1)
        torch.testing.assert_close(table.score[:6], expected)


def test_criteria_of_activations_say_that_states_have_none() -> None:
    model = MODELS["S5"]()
    for criterion in ("apoz", "gradient_norm"):
        with pytest.raises(CalibrationError, match="state"):
            score_units(
                model, batches_of(), criterion=criterion, units="state", loss="cross_entropy"
            )


# -- The front door -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MODELS, "s4d.py", "s5-pytorch"])
def test_a_pruner_of_states_needs_no_data(name: str) -> None:
    model = {**MODELS, **OTHERS}[name]()
    x = sequences()
    before = state_of(model)
    criterion = get_criterion("last", horizon="sequence")
    pruner = Pruner(units="state", criterion=criterion, amount=0.4).fit(model, example_inputs=x)
    small = pruner.transform(model, physical=True)
    assert state_of(model) == before
    n = pruner.units_.n
    systems = read_systems(small)
    assert sum(system.n_units for system in systems.values()) == n - int(0.4 * n)
    assert largest_difference(pruner.transform(model), small, x) < 1e-5
    assert pruner.costs_.parameters(pruner.selection_.keep) == sum(
        p.numel() for p in small.parameters()
    )
    assert pruner.uncertainty_ is not None
    assert pruner.uncertainty_.method is None  # nothing is drawn from data
    assert len(pruner.ranking_) == n


def test_states_can_be_tested_for_removal() -> None:
    model = MODELS["S5"]()
    pruner = Pruner(units="state", criterion="taylor", level=0.05, margin=0.5, n_resamples=50,
                    test="nested", amount=0.5)  # fmt: skip
    pruner.fit(model, batches_of(24, 10, 12), loss="cross_entropy",
               test_data=batches_of(60, 10, 30, seed=1))  # fmt: skip
    assert pruner.removal_ is not None
    assert pruner.selection_.n_kept < pruner.units_.n  # a wide margin
    small = pruner.transform(model, physical=True)
    assert sum(s.n_units for s in read_systems(small).values()) == pruner.selection_.n_kept
    assert pruner.uncertainty_ is not None


def test_each_state_can_be_tested_by_itself() -> None:
    model = MODELS["S4D"]()
    pruner = Pruner(units="state", criterion="taylor", level=0.05, margin=0.5, n_resamples=20)
    with pytest.warns(StatisticalWarning, match="that all of them may go together"):
        pruner.fit(model, batches_of(12, 10, 6), loss="cross_entropy",
                   test_data=batches_of(40, 10, 20, seed=1))  # fmt: skip
    kept = pruner.units_.split(pruner.selection_.keep)
    assert all(part.any() for part in kept.values())
    assert pruner.selection_.n_kept < pruner.units_.n
    small = pruner.transform(model, physical=True)
    assert largest_difference(pruner.transform(model), small, sequences()) < 1e-5


def test_a_budget_of_parameters_is_met_by_states() -> None:
    model = MODELS["S4D"]()
    pruner = Pruner(units="state", criterion=get_criterion("last", horizon=12), params=0.3)
    small = pruner.fit(model, example_inputs=sequences()).transform(model, physical=True)
    whole = sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in small.parameters()) <= 0.7 * whole


def test_masks_between_zero_and_one_scale_complex_columns() -> None:
    model: Any = OTHERS["s5-pytorch"]()
    units = find_units(model, "state")
    before = model.layers[0].seq.C.detach().clone()
    values = np.ones(units.n)
    values[0] = 0.25
    masks = apply_masks(model, units, values)
    masked = model.layers[0].seq.C.detach()
    assert masked.is_complex()
    partners = [0, len(model.layers[0].seq.Lambda) - 1]
    assert torch.equal(masked[:, partners], 0.25 * before[:, partners])
    rest = [i for i in range(before.shape[1]) if i not in partners]
    assert torch.equal(masked[:, rest], before[:, rest])
    other = copy.deepcopy(model)
    masks.remove()
    assert torch.equal(model.layers[0].seq.C.detach(), before)
    assert torch.equal(other.layers[0].seq.C.detach(), masked)


@pytest.mark.parametrize("name", ["S5", "S4D"])
def test_double_precision_all_the_way(name: str) -> None:
    model = MODELS[name]().double()
    data = [(x.double(), y) for x, y in batches_of()]
    for criterion in ("last", "state_energy", "taylor"):
        pruner = Pruner(units="state", criterion=criterion, amount=0.4, n_resamples=20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StatisticalWarning)
            pruner.fit(model, data, loss="cross_entropy")
        small = pruner.transform(model, physical=True)
        assert {p.dtype for p in small.parameters()} == {torch.float64}
        assert largest_difference(pruner.transform(model), small, data[0][0]) < 1e-10
