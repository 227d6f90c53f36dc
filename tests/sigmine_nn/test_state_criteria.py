"""LAST and its relatives: closed forms, the scale of layers, exact budgets, data."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sigmine.exceptions import InputError, StatisticalWarning
from sigmine_nn import Pruner
from sigmine_nn.adapters import read_systems
from sigmine_nn.calibrate import calibrate
from sigmine_nn.criteria import CRITERIA, Scoring, get_criterion
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import CalibrationError, ModelError
from sigmine_nn.masks import apply_masks
from sigmine_nn.scores import ScoreTable
from sigmine_nn.scoring import score_by_criteria, score_units
from sigmine_nn.selection import select_units
from sigmine_nn.state_space import S5, DiagonalSystem
from sigmine_nn.surgery import largest_difference
from sigmine_nn.units import Kind, UnitGroup, Units
from tests import naive_state
from tests.networks import mlp, state_of
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


def random_system(rng: np.random.Generator, n: int, directions: int = 1) -> DiagonalSystem:
    eigenvalues = rng.uniform(0, 0.98, n) * np.exp(1j * rng.uniform(-math.pi, math.pi, n))
    scale = np.exp(rng.normal(size=n))
    inputs = rng.normal(size=(n, 2)) + 1j * rng.normal(size=(n, 2))
    outputs = rng.normal(size=(directions, 2, n)) + 1j * rng.normal(size=(directions, 2, n))
    tensors = [torch.from_numpy(part) for part in (eigenvalues, inputs, scale * outputs)]
    return DiagonalSystem(*tensors)


# -- The score ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["S5", "S5 both ways", "S4D"])
def test_scores_are_squared_norms_of_a_frequency_sweep(name: str) -> None:
    model = MODELS[name]()
    found = by_layer(scored(model, "hinf"))
    for scores, system in zip(found, read_systems(model).values(), strict=True):
        for i in range(0, system.n_states, 3):
            column = system.outputs[:, :, i].reshape(-1).tolist()
            value = complex(system.eigenvalues[i])
            swept = naive_state.swept_gain(value, system.inputs[i].tolist(), column, 4001)
            assert scores[i] == pytest.approx(swept**2, rel=2e-3)


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("criterion", ["last", "aire"])
def test_the_scale_is_that_of_the_papers_text(name: str, criterion: str) -> None:
    model = {**MODELS, **OTHERS}[name]()
    if criterion == "last":
        raw = by_layer(scored(model, "hinf"))
    else:
        raw = by_layer(scored(model, "last", norm="h2", normalise="none"))
    found = by_layer(scored(model, criterion))
    for mine, expected in zip(found, naive_state.last_scores(raw), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12)


def test_the_options_make_one_criterion_of_another() -> None:
    model = MODELS["S5"]()
    pairs = [
        (scored(model, "last", normalise="none"), scored(model, "hinf")),
        (scored(model, "last", norm="h2"), scored(model, "aire")),
        (scored(model, "last", horizon=9, normalise="none"), scored(model, "hinf", horizon=9)),
        (scored(model, "last", horizon=9, norm="h2"), scored(model, "aire", horizon=9)),
    ]
    for a, b in pairs:
        assert torch.equal(a.score, b.score)
    assert {a.criterion for a, _ in pairs} == {"last"}


def test_the_h2_score_is_the_energy_of_the_impulse_response() -> None:
    model = MODELS["S5 both ways"]()
    for horizon in (None, 6):
        table = scored(model, "last", norm="h2", normalise="none", horizon=horizon)
        for scores, system in zip(by_layer(table), read_systems(model).values(), strict=True):
            column = system.outputs[:, :, 1].reshape(-1).tolist()
            energy = naive_state.impulse_energy(
                complex(system.eigenvalues[1]), system.inputs[1].tolist(), column, horizon or 3000
            )
            assert scores[1] == pytest.approx(energy, rel=1e-9)


def test_magnitude_is_the_product_of_the_parameters() -> None:
    model = MODELS["S5"]()
    raw = []
    for system in read_systems(model).values():
        rows = [sum(abs(v) ** 2 for v in row) for row in system.inputs.tolist()]
        columns = [sum(abs(v) ** 2 for v in column) for column in system.outputs[0].mT.tolist()]
        values = [abs(v) ** 2 for v in system.eigenvalues.tolist()]
        raw.append([a * b * c for a, b, c in zip(rows, columns, values, strict=True)])
    for mine, expected in zip(by_layer(scored(model, "state_magnitude")), raw, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12)
    scaled = by_layer(scored(model, "state_magnitude", normalise="last"))
    for mine, expected in zip(scaled, naive_state.last_scores(raw), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12)


# -- Both directions ----------------------------------------------------------------------------


def test_a_bidirectional_layer_is_scored_by_its_stacked_columns() -> None:
    rng = np.random.default_rng(0)
    both = random_system(rng, 6, directions=2)
    stacked = DiagonalSystem(
        both.eigenvalues, both.inputs, both.outputs.flatten(0, 1)[None], conjugate=both.conjugate
    )
    a, b = (get_criterion("hinf")(states_of({"a": s})).score for s in (both, stacked))
    assert torch.equal(a, b)


def test_the_authors_formula_is_an_option() -> None:
    rng = np.random.default_rng(1)
    both = random_system(rng, 6, directions=2)
    single = random_system(rng, 4)
    criterion = get_criterion("hinf", legacy_bidirectional=True)
    found = criterion(states_of({"both": both, "single": single})).score.tolist()
    for i in range(6):
        row = sum(abs(v) ** 2 for v in both.inputs[i].tolist())  # B with power 2
        first, second = (
            math.sqrt(sum(abs(v) ** 2 for v in both.outputs[d, :, i].tolist())) for d in (0, 1)
        )  # and C with power 1: (a + b) / 2 ** 2 is (a + b) / 4
        away = 1.0 - abs(complex(both.eigenvalues[i]))
        assert found[i] == pytest.approx((first + second) / 2**2 * row / away**2, rel=1e-12)
    assert found[6:] == get_criterion("hinf")(states_of({"a": single})).score.tolist()


# -- The scale ----------------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 8), min_size=1, max_size=4),
       data=st.data())  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_ranking_and_budget_are_those_of_a_slow_twin(
    seed: int, sizes: list[int], data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    systems = {f"layer{i}": random_system(rng, n) for i, n in enumerate(sizes)}
    table = get_criterion("last")(states_of(systems))
    raw = by_layer(get_criterion("hinf")(states_of(systems)))
    twin = naive_state.last_scores(raw)
    found = by_layer(table)
    for mine, expected, energy in zip(found, twin, raw, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12)
        assert max(mine) == 1.0  # exactly
        order = sorted(range(len(mine)), key=lambda i: (-mine[i], i))
        assert order == sorted(range(len(mine)), key=lambda i: (-energy[i], i))
    n = sum(sizes)
    n_keep = data.draw(st.integers(len(sizes), n))
    selection = select_units(table, (n - n_keep) / n)
    assert selection.n_kept == n_keep
    kept = [part.tolist() for part in table.units.split(selection.keep).values()]
    assert kept == naive_state.kept(found, n_keep)
    assert all(any(part) for part in kept)


@pytest.mark.parametrize("name", ["S5", "S4D", "s5-pytorch", "lru-pytorch"])
def test_no_ratio_empties_a_layer(name: str) -> None:
    model = {**MODELS, **OTHERS}[name]()
    table = scored(model)
    n = table.units.n
    for n_keep in range(len(table.units), n + 1):
        selection = select_units(table, (n - n_keep) / n)
        assert selection.n_kept == n_keep
        assert all(part.any() for part in table.units.split(selection.keep).values())


def test_ties_are_broken_by_layer_and_index() -> None:
    eigenvalues = torch.zeros(4, dtype=torch.complex128)
    ones = torch.ones(4, 1, dtype=torch.complex128)
    equal = DiagonalSystem(eigenvalues, ones, torch.ones(1, 1, 4, dtype=torch.complex128))
    scoring = states_of({"a": equal, "b": equal})
    table = get_criterion("last")(scoring)
    expected = [1.0, 1 / 2, 1 / 3, 1 / 4]
    assert by_layer(table) == [expected, expected]
    for n_keep in range(2, 9):
        keep = table.units.split(select_units(table, 1 - n_keep / 8).keep)
        twin = naive_state.kept([expected, expected], n_keep)
        assert [keep["a"].tolist(), keep["b"].tolist()] == twin


def test_a_layer_of_zeros_keeps_a_state() -> None:
    model: Any = MODELS["S5"]()
    with torch.no_grad():
        model.layers[1].C.zero_()
    table = scored(model)
    assert by_layer(table)[1] == [0.0] * 4
    selection = select_units(table, 0.8)
    assert table.units.split(selection.keep)["layers.1"].sum() == 1


# -- What must not matter -----------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["last", "aire"])
@pytest.mark.parametrize("change", ["B", "C", "both", "mixed"])
def test_the_size_of_a_layer_does_not_matter(criterion: str, change: str) -> None:
    model = MODELS["S5"]()
    before = scored(model, criterion).score
    layer: Any = model.layers[1]  # type: ignore[index, union-attr]
    with torch.no_grad():
        if change in ("B", "both", "mixed"):
            layer.B *= 8.0
        if change in ("C", "both"):
            layer.C *= 8.0
        if change == "mixed":
            layer.C /= 8.0
    torch.testing.assert_close(scored(model, criterion).score, before, rtol=1e-12, atol=0)
    raw = scored(MODELS["S5"](), "hinf").score
    changed = scored(model, "hinf").score
    same = torch.allclose(changed, raw, rtol=1e-12)
    assert same == (change == "mixed")


@pytest.mark.parametrize("criterion", CLOSED)
def test_numbering_does_not_matter(criterion: str) -> None:
    model = MODELS["S5"]()
    before = by_layer(scored(model, criterion))[0]
    layer: Any = model.layers[0]  # type: ignore[index, union-attr]
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        for name in ("Lambda_re", "Lambda_im", "B", "log_step"):
            getattr(layer, name).copy_(getattr(layer, name)[order].clone())
        layer.C.copy_(layer.C[:, order].clone())
    after = by_layer(scored(model, criterion))[0]
    np.testing.assert_allclose(after, [before[i] for i in order.tolist()], rtol=1e-12)


def test_a_half_stored_and_a_fully_stored_system_have_the_same_scores() -> None:
    rng = np.random.default_rng(3)
    half = random_system(rng, 4)
    whole = DiagonalSystem(
        torch.cat([half.eigenvalues, half.eigenvalues.conj()]),
        torch.cat([half.inputs, half.inputs.conj()]),
        torch.cat([half.outputs, half.outputs.conj()], dim=2),
        conjugate=False,
        members=np.array([[i, i + 4] for i in range(4)]),
    )
    for criterion in CLOSED:
        a, b = (get_criterion(criterion)(states_of({"a": s})).score for s in (half, whole))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


# -- Horizons, and systems that have no norm ----------------------------------------------------


def test_a_horizon_lets_slow_states_fall() -> None:
    """A slow weak state against a fast strong one: over few steps the strong one wins."""
    system = DiagonalSystem(
        torch.tensor([0.999, 0.5], dtype=torch.complex128),
        torch.ones(2, 1, dtype=torch.complex128),
        torch.tensor([[[0.05, 1.0]]], dtype=torch.complex128),
    )
    whole = get_criterion("last")(states_of({"a": system})).score
    short = get_criterion("last", horizon=16)(states_of({"a": system})).score
    assert whole.argmax() == 0
    assert short.argmax() == 1
    gains = [naive_state.summed_gain(v, [1.0], [c], 16) for v, c in ((0.999, 0.05), (0.5, 1.0))]
    expected = naive_state.last_scores([[g**2 for g in gains]])[0]
    np.testing.assert_allclose(short.numpy(), expected, rtol=1e-10)


def test_the_horizon_may_be_the_length_of_the_sequences() -> None:
    model = MODELS["S5"]()
    criterion = get_criterion("last", horizon="sequence")
    table = score_units(model, criterion=criterion, units="state", example_inputs=sequences())
    assert torch.equal(table.score, scored(model, horizon=12).score)
    from_data = score_units(model, batches_of(), criterion=criterion, units="state")
    assert torch.equal(from_data.score, table.score)
    found = find_units(model, "state")
    assert torch.equal(
        score_units(model, iter(batches_of()), criterion=criterion, units=found).score, table.score
    )
    with pytest.raises(InputError, match="horizon='sequence' needs the length"):
        scored(model, horizon="sequence")


@pytest.mark.parametrize("horizon", [0, -1, "sequences", 1.5])
def test_other_horizons_are_refused(horizon: Any) -> None:
    with pytest.raises((InputError, TypeError), match="horizon"):
        scored(MODELS["S5"](), horizon=horizon)


def slow() -> nn.Module:
    return made(lambda d, n: S5(d, n, dt_min=1e-3, dt_max=2e-3))


def test_memory_beyond_the_sequence_is_warned_of() -> None:
    model = slow()
    memory = {n: s.median_time_constant for n, s in read_systems(model).items()}
    slowest = max(memory, key=memory.__getitem__)
    expected = rf"half of the states of '{slowest}' \(and of 2 more layers\) remember longer"
    with pytest.warns(StatisticalWarning, match=expected) as caught:
        score_units(model, criterion="last", units="state", example_inputs=sequences())
    assert len(caught) == 1  # for all layers together
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({"horizon": "sequence"}, {"horizon": 12}):
            criterion = get_criterion("last", **options)
            score_units(model, criterion=criterion, units="state", example_inputs=sequences())
        score_units(model, criterion="last", units="state")  # nothing is known of sequences
        score_units(
            model, criterion="last", units="state", example_inputs=sequences(1, length=3000)
        )


@pytest.mark.parametrize(("length", "warns"), [(6, True), (7, False)])
def test_the_median_memory_is_what_counts(length: int, warns: bool) -> None:
    eigenvalues = torch.tensor(
        [math.exp(-1 / t) for t in (1.0, 6.5, 900.0)], dtype=torch.complex128
    )
    system = DiagonalSystem(eigenvalues, torch.ones(3, 1).cdouble(), torch.ones(1, 1, 3).cdouble())
    assert system.median_time_constant == pytest.approx(6.5)
    scoring = dataclasses.replace(states_of({"a": system}), lengths={"a": length})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        get_criterion("last")(scoring)
    assert [str(w.message).startswith("half of the states of 'a' remember") for w in caught] == (
        [True] if warns else []
    )


def test_unstable_states_are_refused_by_name() -> None:
    model: Any = MODELS["S5"]()
    with torch.no_grad():
        model.layers[1].Lambda_re[2] = 0.1
    for criterion in ("last", "hinf", "aire"):
        with pytest.raises(ModelError, match=r"1 of 4 states of 'layers\.1' are unstable: state 2"):
            scored(model, criterion)
    assert bool(scored(model, "state_magnitude").score.isfinite().all())
    data = batches_of()
    assert bool(score_units(model, data, criterion="state_energy",
                            units="state").score.isfinite().all())  # fmt: skip


def test_clipped_eigenvalues_cannot_become_unstable() -> None:
    table = scored(MODELS["S5 clipped"]())
    assert bool(table.score.isfinite().all())


@pytest.mark.parametrize(
    ("criterion", "options"),
    [("last", {"norm": "h3"}), ("last", {"normalise": "lamp"}),
     ("state_magnitude", {"normalise": True}), ("last", {"horizons": 3})],
)  # fmt: skip
def test_unknown_options_are_refused(criterion: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"not known|no option"):
        scored(MODELS["S5"](), criterion, **options)


def test_units_that_are_not_known_are_refused_with_data_too() -> None:
    with pytest.raises(InputError, match="units='bogus' is not known"):
        score_units(MODELS["S5"](), batches_of(), units="bogus")


def test_units_that_are_no_states_have_no_score() -> None:
    model = mlp()
    units = find_units(model, "channel", torch.randn(2, 30))
    for criterion in CLOSED:
        assert bool(get_criterion(criterion)(Scoring.of(model, units)).score.isnan().all())
    states = find_units(MODELS["S5"](), "state")
    with pytest.raises(ModelError, match=r"Scoring\.of"):
        get_criterion("last")(Scoring(states, {}))


def test_the_criteria_say_where_they_come_from() -> None:
    for name in (*CLOSED, "state_energy"):
        assert CRITERIA[name].needs_data == (name == "state_energy")
    assert "not LAST" in CRITERIA["state_energy"].source
    assert "not LAST" in CRITERIA["aire"].source
    assert CRITERIA["last"].source.startswith("after ")


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
