"""States of layers of several libraries: found, masked, really removed, saved, refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sigmine.exceptions import InputError
from sigmine_nn.adapters import find_states, read_systems, sequence_lengths, state_layers
from sigmine_nn.costs import Costs
from sigmine_nn.criteria import Scoring, get_criterion
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError
from sigmine_nn.masks import apply_masks
from sigmine_nn.plan import RemovalPlan
from sigmine_nn.saving import load_pruned, save_pruned
from sigmine_nn.state_space import S4D, S5, FlatS4DKernel
from sigmine_nn.surgery import largest_difference, remove_units, transfer_state
from sigmine_nn.units import Kind, Role, Units
from tests.networks import random_keep, state_of
from tests.state_nets import (
    MODELS,
    OTHERS,
    STEPS,
    Bare,
    lru,
    made,
    s5_torch,
    sequences,
)

ALL = {**MODELS, **OTHERS}
OWN = list(MODELS)


def inputs_for(name: str) -> Tensor:
    # lru-pytorch goes step by step in Python.
    return sequences(2, 5) if name == "lru-pytorch" else sequences()


def states_of(model: nn.Module, x: Any = None) -> Units:
    return find_units(model, "state", x)


def without_a_channel(units: Units) -> NDArray[np.bool_]:
    """Keep all states but those of the second feature of the first S4D layer."""
    keep = np.ones(units.n, dtype=bool)
    per_feature = units[0].n_units // 4
    keep[per_feature : 2 * per_feature] = False
    return keep


# -- Found --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_states_are_found_and_nothing_else_reads_them(name: str) -> None:
    model = ALL[name]()
    before = state_of(model)
    x = inputs_for(name)
    units = states_of(model, x)
    assert state_of(model) == before
    assert units.names == ["layers.0", "layers.1", "layers.2"]
    assert {group.kind for group in units} == {Kind.STATE}
    assert units.left_out == {}
    systems = read_systems(model)
    assert [systems[group.name].n_units for group in units] == [g.n_units for g in units]
    assert sequence_lengths(model, x) == dict.fromkeys(units.names, x.shape[1])
    assert state_of(model) == before


def test_numbers_of_units() -> None:
    sizes = {name: [group.n_units for group in states_of(ALL[name]())]
             for name in ("S5", "S4D", "s4d.py", "s5-pytorch", "s5-pytorch untied",
                          "s5-pytorch both ways")}  # fmt: skip
    assert sizes == {
        "S5": [6, 4, 5],
        "S4D": [24, 16, 20],
        "s4d.py": [24, 16, 20],
        "s5-pytorch": [3, 2, 3],  # pairs, and one real state of five
        "s5-pytorch untied": [6, 4, 5],
        "s5-pytorch both ways": [3, 2, 3],
    }


def test_partners_are_looked_for_in_their_own_block() -> None:
    torch.manual_seed(0)
    layer: Any = s5_torch(3, 8, tie=False, block_count=2)
    with torch.no_grad():
        layer.seq.log_step.fill_(-1.0)
    (group,) = find_states(layer)
    index = group.slices[0].index
    assert index is not None
    assert index.tolist() == [[0, 3], [1, 2], [4, 7], [5, 6]]


def test_conjugates_are_removed_together() -> None:
    model: Any = ALL["s5-pytorch"]()
    units = states_of(model)
    keep = np.ones(units.n, dtype=bool)
    keep[[0, 6]] = False  # a pair of the first layer, a pair or the real state of the last
    small: Any = remove_units(model, units, keep, example_inputs=sequences())[0]
    for old, new in zip(model.layers, small.layers, strict=True):
        values = new.seq.Lambda.detach()
        assert sorted(values.imag.tolist()) == pytest.approx(
            sorted((-values.imag).tolist()), abs=1e-5
        )
        assert len(values) <= len(old.seq.Lambda)
    assert len(small.layers[0].seq.Lambda) == 4


def test_the_real_state_of_an_odd_number_counts_once() -> None:
    model: Any = ALL["s5-pytorch"]()
    units = states_of(model)
    (makers,) = {piece.parameter: piece for piece in units[2].slices
                 if piece.parameter.endswith(".B")}.values()  # fmt: skip
    assert makers.index is not None
    (real,) = [i for i, row in enumerate(makers.index.tolist()) if row[0] == row[1]]
    unit = units.range_of("layers.2").start + real
    keep = np.ones(units.n, dtype=bool)
    keep[unit] = False
    ssm = model.layers[2].seq
    costs = Costs.of(model, units)
    # Lambda and log_step one number each; a row of B with two parts, a column of C.
    assert costs.parameters() - costs.parameters(keep) == 1 + 1 + 2 * 4 + 4
    with torch.no_grad():
        scores = get_criterion("l2")(Scoring.of(model, units)).score
    row = int(makers.index[real, 0])
    assert float(scores[unit]) == pytest.approx(float(ssm.B[row].detach().norm()), rel=1e-6)
    pair = units.range_of("layers.2").start + (0 if real != 0 else 1)
    rows = makers.index[pair - units.range_of("layers.2").start].tolist()
    assert float(scores[pair]) == pytest.approx(float(ssm.B[rows].detach().norm()), rel=1e-6)


@pytest.mark.parametrize("layer", ["S5", "S4D", "s5-pytorch", "lru-pytorch"])
def test_the_model_itself_may_be_the_layer(layer: str) -> None:
    make: Callable[[], nn.Module] = {
        "S5": lambda: S5(3, 4, **STEPS),
        "S4D": lambda: S4D(3, 4, **STEPS),
        "s5-pytorch": lambda: s5_torch(3, 5),
        "lru-pytorch": lambda: lru(3, 4),
    }[layer]
    model = make()
    x = sequences(2, 5)
    units = find_units(model, "state", x)
    assert units.names == [layer.split("-")[0].upper()]
    small, plan = remove_units(model, units, random_keep(units), example_inputs=x)
    again = make()
    plan.apply(again)
    again.load_state_dict(small.state_dict())
    assert largest_difference(small, again, x) == 0.0


def test_a_bare_layer_of_s5_pytorch_takes_one_sequence() -> None:
    torch.manual_seed(0)
    model = Bare(5)
    x = sequences(1, 9)[0]
    units = find_units(model, "state", x)
    assert units.names == ["inner"]
    assert sequence_lengths(model, x) == {"inner": 9}
    keep = np.array([True, False, True])
    small, _ = remove_units(model, units, keep, example_inputs=x)
    assert len(small.inner.Lambda) == 3  # type: ignore[union-attr, arg-type]
    masked = copy.deepcopy(model)
    apply_masks(masked, units, keep)
    assert largest_difference(masked, small, x) < 1e-5


def test_a_model_that_calls_its_layer_seq_is_no_layer() -> None:
    """The wrapper of s5-pytorch calls its inner layer so; others may do that too."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(2, 3)
            self.seq = s5_torch(3, 5).seq

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.seq(self.embed(x).repeat_interleave(2, dim=0))
            return y

    model = Net()
    x = sequences(1, 9)[0, :, :2]
    assert [layer.path for layer in state_layers(model)] == ["seq"]
    assert sequence_lengths(model, x) == {"seq": 18}


def test_a_shared_layer_is_found_once_and_cut_everywhere() -> None:
    model: Any = made(lambda d, n: S5(d, n, **STEPS), sizes=(5,))
    model.layers.append(model.layers[0])
    units = find_units(model, "state", sequences())
    assert units.names == ["layers.0"]
    small: Any = remove_units(model, units, random_keep(units), example_inputs=sequences())[0]
    assert small.layers[0] is small.layers[1]
    model = made(lambda d, n: S4D(d, n, **STEPS), sizes=(5,))
    model.layers.append(model.layers[0])
    units = find_units(model, "state", sequences())
    small = remove_units(model, units, random_keep(units), example_inputs=sequences())[0]
    assert small.layers[0] is small.layers[1]


def test_a_layer_that_is_called_several_times_counts_its_longest_sequence() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.unused = S5(3, 4, **STEPS), S5(3, 4, **STEPS)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x).mean(dim=1) + self.layer(u=x[:, ::2]).mean(dim=1)
            return y

    assert sequence_lengths(Twice(), sequences()) == {"layer": 12}


def test_layers_can_be_ignored() -> None:
    model = ALL["S4D"]()
    assert find_units(model, "state", ignore=["layers.1"]).names == ["layers.0", "layers.2"]
    with pytest.raises(ModelError, match="head"):
        find_units(model, "state", ignore=["head"])


# -- Masked is shrunk ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_masked_and_shrunk_are_the_same(name: str) -> None:
    model = ALL[name]()
    x, units = inputs_for(name), states_of(model)
    before = state_of(model)
    for seed in range(1 if name == "lru-pytorch" else 3):
        keep = random_keep(units, seed)
        small, _ = remove_units(model, units, keep, example_inputs=x)
        masked = copy.deepcopy(model)
        masks = apply_masks(masked, units, keep)
        assert largest_difference(masked, small, x) < 1e-5
        assert largest_difference(model, small, x) > 1e-4
        masks.merge()
        assert largest_difference(masked, small, x) < 1e-5
    assert state_of(model) == before


@pytest.mark.parametrize("name", ALL)
def test_a_layer_shrinks_by_itself_as_in_its_model(name: str) -> None:
    model = ALL[name]()
    units = states_of(model)
    keep = random_keep(units, 2)
    small, _ = remove_units(model, units, keep)
    kept = units.split(keep)
    for layer in state_layers(model):
        before = state_of(layer.module)
        alone = layer.shrink(kept[layer.name])
        inside = small.get_submodule(layer.path)
        assert state_of(alone)["tensors"] == state_of(inside)["tensors"]
        if name == "lru-pytorch":  # keeps a state that is no parameter
            assert alone.state.shape == inside.state.shape
        assert state_of(layer.module) == before
        assert [p.requires_grad for p in alone.parameters()] == [
            p.requires_grad for p in inside.parameters()
        ]
        # What is called the gate is what the masks of the whole model multiply.
        (group,) = (group for group in units if group.name == layer.name)
        named = {f"{layer.path}.{piece.parameter}".lstrip(".") for piece in layer.gate()}
        assert named == {piece.parameter for piece in group.with_role(Role.IN)}
    with pytest.raises(InputError, match="one of them true"):
        layer.shrink(np.zeros_like(kept[layer.name]))


@pytest.mark.parametrize("name", [*OWN, "s4d.py", "s4d.py with buffers"])
def test_in_double_precision_to_ten_digits(name: str) -> None:
    model = ALL[name]().double()
    x, units = sequences().double(), states_of(model)
    keep = random_keep(units, 1)
    small, _ = remove_units(model, units, keep)
    apply_masks(model, units, keep)
    assert {p.dtype for p in small.parameters()} == {torch.float64}
    assert largest_difference(model, small, x) < 1e-10


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_counted_as_they_are(name: str) -> None:
    model = ALL[name]()
    units = states_of(model)
    costs = Costs.of(model, units)
    assert costs.parameters() == sum(p.numel() for p in model.parameters())
    for seed in range(3):
        keep = random_keep(units, seed)
        small, _ = remove_units(model, units, keep)
        assert costs.parameters(keep) == sum(p.numel() for p in small.parameters())
        systems = read_systems(small)
        kept = [int(part.sum()) for part in units.split(keep).values()]
        assert [systems[name].n_units for name in units.names] == kept
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert {name for name, p in small.named_parameters() if p.requires_grad} == trained


@pytest.mark.parametrize("name", ["S4D", "s4d.py", "s4d.py with buffers"])
def test_a_feature_may_lose_all_its_states(name: str) -> None:
    model: Any = ALL[name]()
    units = states_of(model)
    keep = without_a_channel(units)
    small: Any = remove_units(model, units, keep, example_inputs=sequences())[0]
    kernel = small.layers[0].kernel
    assert isinstance(kernel, FlatS4DKernel)
    assert 1 not in kernel.channel.tolist()
    assert bool((kernel(5)[1] == 0).all())
    assert kernel.C.shape == (18, 2)
    assert not isinstance(small.layers[1].kernel, FlatS4DKernel)  # nothing was lost there
    assert vars(kernel.C) == vars(model.layers[0].kernel.C)
    if name == "s4d.py":
        assert kernel.A_imag._optim == {"weight_decay": 0.0, "lr": 0.001}


@pytest.mark.parametrize("name", ALL)
def test_pruned_models_can_be_pruned_again(name: str) -> None:
    model = ALL[name]()
    x, units = inputs_for(name), states_of(model)
    small, _ = remove_units(model, units, random_keep(units, 0, at_least=2))
    again = find_units(small, "state", x)
    assert again.names == units.names
    smaller, plan = remove_units(small, again, random_keep(again, 2), example_inputs=x)
    assert plan.flattened == () or "s4d" in name.lower()
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, small, smaller)]
    assert counts[0] > counts[1] > counts[2]


@pytest.mark.parametrize("name", ["S5", "S4D"])
def test_pruned_layers_still_go_step_by_step(name: str) -> None:
    model: Any = ALL[name]().double()
    units = states_of(model)
    small: Any = remove_units(model, units, random_keep(units))[0]
    layer = small.layers[0]
    u = torch.randn(2, 9, 4, dtype=torch.float64)
    state = layer.initial_state(2)
    assert state.shape[1] == read_systems(small)["layers.0"].n_states
    for k in range(9):
        y, state = layer.step(u[:, k], state)
        torch.testing.assert_close(y, layer(u)[:, k], rtol=1e-9, atol=1e-10)


def test_the_last_state_of_a_recurrent_layer_is_cut_too() -> None:
    model: Any = OTHERS["lru-pytorch"]()
    units = states_of(model)
    keep = np.ones(units.n, dtype=bool)
    keep[1:3] = False
    small: Any = remove_units(model, units, keep)[0]
    assert small.layers[0].state.shape == (4,)
    assert model.layers[0].state.shape == (6,)
    for x in (torch.randn(5, 4), torch.randn(2, 5, 4)):  # one sequence, and several
        masked = copy.deepcopy(model)
        apply_masks(masked, units, keep)
        assert largest_difference(masked.layers[0], small.layers[0], x) < 1e-5


def test_training_goes_on_after_pruning() -> None:
    model = ALL["S4D"]()
    units = states_of(model)
    small, _ = remove_units(model, units, random_keep(units))
    small.train()
    small(sequences()).square().sum().backward()
    assert all(p.grad is not None for p in small.parameters())


@pytest.mark.parametrize("name", ["S5", "S4D", "s5-pytorch"])
def test_the_optimiser_keeps_its_moments_of_what_stays(name: str) -> None:
    model = ALL[name]()
    units = states_of(model)
    old = torch.optim.Adam(model.parameters(), 0.01)
    model(sequences()).square().sum().backward()
    old.step()
    keep = random_keep(units, 1)
    small, plan = remove_units(model, units, keep)
    new = torch.optim.Adam(small.parameters(), 0.01)
    transfer_state(old, model, new, small, plan)
    names = dict(model.named_parameters())
    for parameter_name, parameter in small.named_parameters():
        before = old.state[names[parameter_name]]["exp_avg"]
        after = new.state[parameter]["exp_avg"]
        assert after.shape == parameter.shape
        torch.testing.assert_close(plan.cut(parameter_name, before), after)
    if name == "S4D":
        mine = torch.from_numpy(keep[: units[0].n_units])
        before = old.state[names["layers.0.kernel.C"]]["exp_avg"].reshape(-1, 2)[mine]
        after = new.state[dict(small.named_parameters())["layers.0.kernel.C"]]["exp_avg"]
        assert torch.equal(before, after)
    small(sequences()).square().sum().backward()
    new.step()


def test_half_precision_layers_beside_complex_ones_are_compared() -> None:
    """Numbers of 16 bits are compared in 32; complex ones must stay complex."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(3, 3).bfloat16()
            self.layer = s5_torch(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(self.embed(x.to(self.embed.weight.dtype)).float())
            return y

    model = Net().eval()
    units = find_units(model, "state", sequences())
    small: Any = remove_units(model, units, [True, False, True], example_inputs=sequences())[0]
    assert small.layer.seq.Lambda.is_complex()


# -- Files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_saved_and_loaded_models_are_equal_bit_by_bit(name: str, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    model = ALL[name]()
    units = states_of(model)
    keep = random_keep(units, 1)
    if "s4d" in name.lower():
        keep &= without_a_channel(units)
    small, plan = remove_units(model, units, keep)
    path = save_pruned(tmp_path / "small.safetensors", small, plan)
    loaded = load_pruned(path, ALL[name]).eval()
    x = inputs_for(name)
    assert largest_difference(small, loaded, x) == 0.0
    assert [n for n, _ in loaded.named_parameters()] == [n for n, _ in small.named_parameters()]
    assert plan == RemovalPlan.from_dict(plan.to_dict())


def test_a_model_that_was_pruned_twice_is_loaded_in_two_steps(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    make = MODELS["S4D"]
    model = make()
    units = states_of(model)
    small, plan = remove_units(model, units, random_keep(units, 0, at_least=2))
    first = save_pruned(tmp_path / "small.safetensors", small, plan)
    again = states_of(small)
    smaller, plan = remove_units(small, again, random_keep(again, 2))
    second = save_pruned(tmp_path / "smaller.safetensors", smaller, plan)
    loaded = load_pruned(second, lambda: load_pruned(first, make))
    assert largest_difference(smaller, loaded, sequences()) == 0.0


def hostile(**changes: Any) -> RemovalPlan:
    plan = {"kept": {}, "attributes": {}, "flattened": [], **changes}
    return RemovalPlan.from_dict(plan)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({"flattened": [""]}, "is not the kernel of an S4D layer"),
        ({"flattened": ["head"]}, "is not the kernel of an S4D layer"),
        ({"flattened": ["layers.0.kernel", "head"]}, "is not the kernel of an S4D layer"),
        ({"flattened": ["layers.9"]}, "has no module 'layers.9'"),
        ({"flattened": ["layers.0.kernel"], "kept": {"layers.0.kernel.C": {"0": [99]}}},
         "it is for another model"),
        ({"flattened": ["layers.0.kernel"], "kept": {"nothing": {"0": [0]}}}, "'nothing'"),
        ({"kept": {"layers.0.training": {"0": [0]}}}, "layers.0.training"),
        ({"kept": {"layers.0.kernel.__class__": {"0": [0]}}}, "__class__"),
        ({"attributes": {"layers.0": {"forward": 1}}}, "forward"),
    ],
)  # fmt: skip
def test_plans_for_other_models_change_nothing(plan: dict[str, Any], reason: str) -> None:
    model = ALL["S4D"]()
    before = state_of(model)
    with pytest.raises(ModelError, match=reason):
        hostile(**plan).apply(model)
    assert state_of(model) == before


def test_a_flat_kernel_cannot_be_flattened_again() -> None:
    model = ALL["S4D"]()
    units = states_of(model)
    _, plan = remove_units(model, units, random_keep(units))
    plan.apply(model)
    before = state_of(model)
    with pytest.raises(ModelError, match="kernel"):
        plan.apply(model)
    assert state_of(model) == before


def test_a_kernel_that_is_the_model_itself_cannot_be_replaced() -> None:
    kernel = S4D(3, 4).kernel
    with pytest.raises(ModelError, match="replaces the model itself"):
        hostile(flattened=[""]).apply(kernel)


def test_tensors_that_only_look_like_a_kernel_are_refused() -> None:
    model = ALL["S4D"]()
    model.layers[0].kernel.C = nn.Parameter(torch.ones(3))  # type: ignore[index, union-attr]
    before = state_of(model)
    with pytest.raises(ModelError, match="kernel"):
        hostile(flattened=["layers.0.kernel"]).apply(model)
    assert state_of(model) == before


def test_a_computed_tensor_is_nothing_that_a_plan_can_cut() -> None:
    class Odd(nn.Linear):
        @property
        def twice(self) -> Tensor:
            return 2 * self.weight

    model = nn.Sequential(Odd(3, 3))
    before = state_of(model)
    with pytest.raises(ModelError, match=r"'0\.twice'"):
        hostile(kept={"0.twice": {"0": [0]}, "0.weight": {"0": [0]}}).apply(model)
    assert state_of(model) == before


@pytest.mark.parametrize("value", [3, "layers.0.kernel", {"a": 1}, None])
def test_flattened_must_be_a_list_of_names(value: Any) -> None:
    from sigmine.exceptions import InputError

    with pytest.raises(InputError, match="no plan of removed units"):
        hostile(flattened=value)
