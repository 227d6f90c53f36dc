"""LAST and its relatives: closed forms, the scale of layers, exact budgets, data."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sigmine.exceptions import InputError, StatisticalWarning
from sigmine_nn.adapters import read_systems
from sigmine_nn.criteria import CRITERIA, Scoring, get_criterion
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError
from sigmine_nn.scores import ScoreTable
from sigmine_nn.scoring import score_units
from sigmine_nn.selection import select_units
from sigmine_nn.state_space import S5, DiagonalSystem
from sigmine_nn.units import Kind, UnitGroup, Units
from tests import naive_state
from tests.networks import mlp
from tests.state_nets import MODELS, OTHERS, batches_of, made, sequences

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
