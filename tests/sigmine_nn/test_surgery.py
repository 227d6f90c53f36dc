"""Removal: what is cut, what stays, what is refused, and what comes afterwards."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sigmine.exceptions import InputError
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import CalibrationError, EquivalenceError, ModelError
from sigmine_nn.masks import apply_masks
from sigmine_nn.plan import RemovalPlan
from sigmine_nn.surgery import (
    largest_difference,
    plan_removal,
    recalibrate_batchnorm,
    remove_units,
    transfer_state,
)
from sigmine_nn.units import Gate, Kind, Role, SizeAttribute, Slice, UnitGroup, Units
from tests import networks
from tests.networks import images, random_keep, state_of


def pruned(norm: str = "batch", seed: int = 1, **options: object):
    model = networks.residual_net(norm)
    units = find_units(model, "channel", images())
    small, plan = remove_units(model, units, random_keep(units, seed), **options)
    return model, units, small, plan


# -- What is cut --------------------------------------------------------------------------------


def test_a_small_network_is_what_slicing_by_hand_gives():
    model = networks.mlp()
    inputs = torch.randn(4, 30)
    units = find_units(model, "channel", inputs)
    keep = random_keep(units, 4)
    first, second = np.flatnonzero(keep[:16]), np.flatnonzero(keep[16:])
    small, plan = remove_units(model, units, keep)
    state = {name: p.detach().numpy() for name, p in model.named_parameters()}
    expected = {
        "0.weight": state["0.weight"][first],
        "0.bias": state["0.bias"][first],
        "2.weight": state["2.weight"][np.ix_(second, first)],
        "2.bias": state["2.bias"][second],
        "4.weight": state["4.weight"][:, second],
        "4.bias": state["4.bias"],
    }
    for name, parameter in small.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), expected[name])
    assert (small[0].out_features, small[2].in_features) == (len(first), len(first))
    assert plan.kept["2.weight"] == {0: second.tolist(), 1: first.tolist()}


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
def test_sizes_that_layers_repeat_are_right(norm):
    _, _, small, _ = pruned(norm)
    for name, module in small.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels), name
        elif isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        elif isinstance(module, nn.BatchNorm2d):
            assert len(module.running_var) == len(module.weight) == module.num_features
        elif isinstance(module, nn.GroupNorm):
            assert len(module.weight) == module.num_channels
        elif isinstance(module, nn.LayerNorm):
            assert module.normalized_shape == tuple(module.weight.shape)
    assert str(small.stem.out_channels) in repr(small.stem)


def test_the_model_is_left_as_it_was():
    model = networks.residual_net("group").train()
    units = find_units(model, "channel", images())
    before = state_of(model)
    small, _ = remove_units(model, units, random_keep(units), example_inputs=images())
    assert state_of(model) == before
    assert small.training
    storages = {p.data_ptr() for p in model.parameters()}
    assert not storages & {p.data_ptr() for p in small.parameters()}


def test_everything_that_is_not_cut_stays():
    model = networks.residual_net()
    model.stem.weight.requires_grad_(False)
    model.stem.weight.note = "mine"
    model.stem.note = {"a": 1}
    model.block1.register_buffer("extra", torch.arange(3), persistent=False)
    calls = []
    model.stem.register_forward_hook(lambda *_: calls.append(1))
    units = find_units(model, "channel", images())
    small, _ = remove_units(model, units, random_keep(units, 1))
    assert not small.stem.weight.requires_grad
    assert small.stem.weight.note == "mine"
    assert small.stem.note == {"a": 1}
    assert small.block1.extra.tolist() == [0, 1, 2]
    assert "block1.extra" not in small.state_dict()
    calls.clear()
    small(images())
    assert calls == [1]
    assert small.norm.num_batches_tracked == model.norm.num_batches_tracked
    assert small.down.bias.requires_grad


def test_nothing_removed_is_nothing_changed():
    model = networks.residual_net()
    units = find_units(model, "channel", images())
    small, plan = remove_units(model, units, np.ones(units.n, dtype=bool))
    assert plan == RemovalPlan({}, {})
    assert torch.equal(small(images()), model(images()))


class Tied(nn.Module):
    """An autoencoder with one table: the hidden size is an axis of both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.mix = nn.Linear(6, 6)
        self.lm_head = nn.Linear(6, 9, bias=False)
        self.lm_head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.lm_head(x + torch.tanh(self.mix(x)))


def tied_units(*parameters: str) -> Units:
    pieces = [
        Slice("mix.weight", 0, Role.OUT), Slice("mix.bias", 0, Role.OUT),
        Slice("mix.weight", 1, Role.IN), *(Slice(name, 1, Role.IN) for name in parameters),
    ]  # fmt: skip
    group = UnitGroup(
        "mix", Kind.CHANNEL, 6, tuple(pieces), (Gate("mix", "input", -1),
                                               Gate("lm_head", "input", -1)),
    )  # fmt: skip
    shapes = {"mix.weight": (6, 6), "mix.bias": (6,), **{name: (9, 6) for name in parameters}}
    return Units((group,), shapes)


def test_tied_weights_are_cut_once_and_stay_tied():
    model, x = Tied(), torch.arange(9)
    units = tied_units("lm_head.weight", "embed.weight")
    keep = [True, False, True, True, False, True]
    small, _ = remove_units(model, units, keep)
    assert small.lm_head.weight is small.embed.weight
    assert small.embed.weight.shape == (9, 4)
    assert (small.embed.embedding_dim, small.lm_head.in_features) == (4, 4)
    kept = torch.tensor([0, 2, 3, 5])
    table = model.embed.weight[:, kept]
    mixed = torch.tanh(table @ model.mix.weight[kept][:, kept].T + model.mix.bias[kept])
    torch.testing.assert_close(small(x), (table + mixed) @ table.T)


def test_a_tie_that_would_have_to_be_cut_is_refused():
    model = Tied()
    before = state_of(model)
    with pytest.raises(ModelError, match="are one parameter"):
        remove_units(model, tied_units("lm_head.weight"), [True, False, True, True, False, True])
    assert state_of(model) == before


def test_a_module_under_two_names_is_cut_once():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)
            self.also_a = self.a

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.also_a(x)))

    model, inputs = Shared(), torch.randn(3, 4)
    units = find_units(model, "channel", inputs)
    small, _ = remove_units(model, units, [True, False] * 3, example_inputs=inputs)
    assert small.a is small.also_a
    assert small.a.out_features == 3


# -- The check ----------------------------------------------------------------------------------


class Fixed(nn.Module):
    """A size is written down in the code."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        if self.how == "shape":
            x = x.view(-1, 6)
        if self.how == "scale":
            x = x / x.shape[1]
        return self.c(F.relu(self.b(x)))


@pytest.mark.parametrize(
    ("how", "message"), [("shape", r"does not run \(RuntimeError"), ("scale", "differs by 0")]
)
def test_a_network_that_computes_something_else_is_not_believed(how, message):
    model, inputs = Fixed(how), torch.randn(5, 4)
    units = find_units(model, "channel", inputs)
    before = state_of(model)
    with pytest.raises(EquivalenceError, match=message) as caught:
        remove_units(model, units, np.arange(12) % 2 == 0, example_inputs=inputs)
    assert "because of 'a';" in str(caught.value)  # and not of 'b'
    assert caught.value.difference > 1e-5
    assert state_of(model) == before
    remove_units(model, units, np.arange(12) % 2 == 0)  # unchecked, as asked


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_precision_are_compared_without_their_rounding(dtype):
    model = networks.residual_net("group").to(dtype)
    inputs = images(dtype=dtype)
    units = find_units(networks.residual_net("group"), "channel", images())
    small, _ = remove_units(model, units, random_keep(units), example_inputs=inputs)
    assert {p.dtype for p in small.parameters()} == {dtype}
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_largest_difference_of_outputs():
    class Says(nn.Module):
        def __init__(self, output: object) -> None:
            super().__init__()
            self.output = output

        def forward(self, x: Tensor) -> object:
            return self.output

    def difference(a: object, b: object) -> float:
        return largest_difference(Says(a), Says(b), torch.zeros(1))

    one = torch.ones(3)
    assert difference(one, one) == 0.0
    assert difference(one, one + 0.5) == 0.5
    assert difference(one * 100, one * 101) == pytest.approx(0.01)
    assert difference({"a": one, "b": [one]}, {"a": one, "b": [one * 3]}) == 2.0
    assert difference((one, 7), (one, 8)) == 0.0
    assert difference(one, torch.ones(4)) == float("inf")
    assert difference((one, one), (one,)) == float("inf")
    assert difference(one, one * torch.nan) == float("inf")
    assert difference(torch.ones(0), torch.ones(0)) == 0.0


# -- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (np.ones(3, dtype=bool), r"shape \(3,\)"),
        (np.ones(48), "dtype float64"),
        (np.arange(48) >= 8, "all 8 units of 'stem' would be removed"),
    ],
)
def test_masks_that_cannot_be(keep, message):
    model = networks.residual_net()
    units = find_units(model, "channel", images())
    with pytest.raises(InputError, match=message):
        plan_removal(model, units, keep)


@pytest.mark.parametrize("kind", ["row", "element"])
def test_units_that_can_only_be_masked(kind):
    model = networks.mlp()
    units = find_units(model, kind)
    with pytest.raises(ModelError, match="can be masked, not removed"):
        remove_units(model, units, np.arange(units.n) > 0)


def test_masks_are_taken_off_first():
    model = networks.mlp()
    units = find_units(model, "channel", torch.zeros(2, 30))
    masks = apply_masks(model, units, random_keep(units))
    with pytest.raises(ModelError, match="masks are on"):
        remove_units(model, units, random_keep(units))
    masks.remove()
    remove_units(model, units, random_keep(units))


# -- Plans --------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_plan_survives_json_and_fits_to_a_new_model(seed):
    model = networks.residual_net("group")
    units = test_a_plan_survives_json_and_fits_to_a_new_model.units
    small, plan = remove_units(model, units, random_keep(units, seed))
    again = RemovalPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    new = networks.residual_net("group", seed=9)
    again.apply(new)
    new.load_state_dict(small.state_dict())
    assert torch.equal(new(images()), small(images()))


test_a_plan_survives_json_and_fits_to_a_new_model.units = find_units(
    networks.residual_net("group"), "channel", images()
)


@pytest.mark.parametrize(
    "plan",
    [
        None, [], {}, {"kept": {}}, {"kept": [], "attributes": {}},
        {"kept": {"w": {"x": [0]}}, "attributes": {}},
        {"kept": {"w": {"0": [0.5]}}, "attributes": {}},
        {"kept": {"w": {"0": [True]}}, "attributes": {}},
        {"kept": {"w": {"0": 3}}, "attributes": {}},
        {"kept": {}, "attributes": {"m": {"a": "3"}}},
        {"kept": {}, "attributes": {"m": 3}},
    ],
)  # fmt: skip
def test_what_is_no_plan(plan):
    with pytest.raises(InputError, match="no plan of removed units"):
        RemovalPlan.from_dict(plan)


@pytest.mark.parametrize(
    ("kept", "attributes", "message"),
    [
        ({"0.weight": {0: [0, 99]}}, {}, "up to 99 of axis 0"),
        ({"0.weight": {0: [-1, 3]}}, {}, "for another model"),
        ({"0.weight": {0: [3, 3]}}, {}, "ascending"),
        ({"0.weight": {0: [3, 2]}}, {}, "ascending"),
        ({"0.weight": {0: []}}, {}, "at least one"),
        ({"0.weight": {2: [0]}}, {}, "axis 2"),
        ({"0.nothing": {0: [0]}}, {}, "no parameter or buffer '0.nothing'"),
        ({"0.forward": {0: [0]}}, {}, "no parameter or buffer"),
        ({"nowhere.weight": {0: [0]}}, {}, "no module 'nowhere'"),
        ({}, {"nowhere": {"a": 1}}, "no module 'nowhere'"),
        ({}, {"0": {"nothing": 1}}, "'nothing'"),
        ({}, {"0": {"forward": 1}}, "'forward'"),
        ({}, {"0": {"training": 1}}, "'training'"),
        ({}, {"0": {"out_features": 0}}, "out_features"),
        ({}, {"0": {"out_features": 17}}, "gets smaller"),
        ({"0.weight": {0: [0]}}, {"2": {"__class__": 1}}, "__class__"),
    ],
)
def test_a_hostile_plan_leaves_the_model_as_it_was(kept, attributes, message):
    model = networks.mlp()
    before = state_of(model)
    with pytest.raises(ModelError, match=message):
        RemovalPlan(kept, attributes).apply(model)
    assert state_of(model) == before


def test_sizes_of_modules_shrink_by_what_a_unit_takes_off():
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 6), nn.Linear(6, 2)
            self.n, self.width = 3, 6

    model = Counts()
    index = np.arange(6).reshape(3, 2)
    group = UnitGroup(
        "a", Kind.CHANNEL, 3,
        (Slice("a.weight", 0, Role.OUT, index), Slice("a.bias", 0, Role.OUT, index),
         Slice("b.weight", 1, Role.IN, index)),
        (Gate("b", "input", -1, index),),
        sizes=(SizeAttribute("", "n"), SizeAttribute("", "width", 2)),
    )  # fmt: skip
    shapes = {"a.weight": (6, 2), "a.bias": (6,), "b.weight": (2, 6)}
    small, _ = remove_units(model, Units((group,), shapes), [False, True, False])
    assert (small.n, small.width, small.a.out_features) == (1, 2, 2)
    assert torch.equal(small.a.bias, model.a.bias[2:4])


# -- Afterwards ---------------------------------------------------------------------------------


def test_statistics_of_batch_norm_are_those_of_the_data():
    model = networks.flat_net()
    data = [images(8, seed=i) for i in range(3)]
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train()
    model[4].momentum = 0.25
    assert recalibrate_batchnorm(model, data) is model
    x = [model[3](model[2](F.relu(model[0](batch)))) for batch in data]
    mean = torch.stack([b.mean(dim=(0, 2, 3)) for b in x]).mean(dim=0)
    variance = torch.stack([b.var(dim=(0, 2, 3)) for b in x]).mean(dim=0)
    torch.testing.assert_close(model[4].running_mean, mean)
    torch.testing.assert_close(model[4].running_var, variance)
    assert model[4].num_batches_tracked == 3
    assert model[4].momentum == 0.25
    assert all(module.training for module in model.modules())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name])
        assert parameter.grad is None


def test_recalibration_takes_pairs_and_a_limit_and_ignores_other_networks():
    model = networks.residual_net()
    batches = [(images(4, seed=i), torch.zeros(4)) for i in range(5)]
    recalibrate_batchnorm(model, batches, n_batches=2)
    assert model.norm.num_batches_tracked == 2
    other = networks.residual_net("group")
    before = state_of(other)
    recalibrate_batchnorm(other, batches)
    assert state_of(other) == before


@pytest.mark.parametrize(
    ("data", "message"),
    [([], "no batch"), ([images() * torch.nan], "not finite")],
)
def test_recalibration_that_fails_keeps_the_old_statistics(data, message):
    model = networks.residual_net().train()
    before = state_of(model)
    with pytest.raises(CalibrationError, match=message):
        recalibrate_batchnorm(model, data)
    assert state_of(model) == before

    def breaks():
        yield images()
        raise KeyError("data are gone")

    with pytest.raises(KeyError):
        recalibrate_batchnorm(model, breaks())
    assert state_of(model) == before
    assert model.norm.momentum == 0.1


def test_recalibration_helps_a_pruned_network():
    x, y = networks.digits()
    model = networks.train(networks.residual_net(), x[:600], y[:600], epochs=4, lr=1e-2)
    units = find_units(model, "channel", x[:2])
    gains = []
    for seed in range(4):
        small, _ = remove_units(model, units, random_keep(units, seed, at_least=4))
        before = networks.accuracy(small, x[1000:], y[1000:])
        recalibrate_batchnorm(small, x[:600].split(100))
        gains.append(networks.accuracy(small, x[1000:], y[1000:]) - before)
    assert np.mean(gains) > 0.05, gains


OPTIMIZERS = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), 0.05),
    "momentum": lambda m: torch.optim.SGD(m.parameters(), 0.05, momentum=0.9),
    "adam": lambda m: torch.optim.Adam(m.parameters(), 1e-2),
    "amsgrad": lambda m: torch.optim.AdamW(m.parameters(), 1e-2, amsgrad=True),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), 1e-3, momentum=0.5),
    "groups": lambda m: torch.optim.Adam(
        [{"params": [p for p in m.parameters() if p.ndim > 1], "lr": 1e-2},
         {"params": [p for p in m.parameters() if p.ndim == 1], "lr": 1e-3}]
    ),
}  # fmt: skip


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, n: int) -> None:
    inputs, targets = images(6, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4, 5])
    for _ in range(n):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_as_if_the_units_had_been_masked(name):
    """Cut while training, with the state of the optimiser: the same path as under masks."""
    model = networks.residual_net("none").double()
    units = find_units(model, "channel", images(dtype=torch.float64))
    keep = random_keep(units, 1)
    masks = apply_masks(model, units, keep)
    optimizer = OPTIMIZERS[name](model)
    steps(model, optimizer, 3)
    masked = copy.deepcopy((model, optimizer))
    masks.remove()
    small, plan = remove_units(model, units, keep)
    new = OPTIMIZERS[name](small)
    before = copy.deepcopy(optimizer.state_dict())
    transfer_state(optimizer, model, new, small, plan)
    assert str(before) == str(optimizer.state_dict())
    steps(small, new, 3)
    steps(*masked, 3)
    assert largest_difference(masked[0], small, images(dtype=torch.float64)) < 1e-10
    for parameter, state in new.state.items():
        for value in state.values():
            assert not isinstance(value, Tensor) or value.shape in (parameter.shape, ())


def test_a_fresh_optimiser_has_nothing_to_cut():
    model, _, small, plan = pruned()
    optimizer = OPTIMIZERS["adam"](model)
    new = OPTIMIZERS["adam"](small)
    transfer_state(optimizer, model, new, small, plan)
    assert all(not state for state in new.state.values())


def test_states_are_copies():
    model, _, small, plan = pruned("none")
    old, new = OPTIMIZERS["adam"](model), OPTIMIZERS["adam"](small)
    model(images()).sum().backward()
    old.step()
    transfer_state(old, model, new, small, plan)
    one, other = old.state[model.head.bias], new.state[small.head.bias]
    assert torch.equal(one["exp_avg"], other["exp_avg"])
    assert one["exp_avg"].data_ptr() != other["exp_avg"].data_ptr()
    assert one["step"] == other["step"] == 1
    assert one["step"] is not other["step"]


@pytest.mark.parametrize("wrong", ["old", "new"])
def test_an_optimiser_of_another_model(wrong):
    model, _, small, plan = pruned()
    old, new = OPTIMIZERS["adam"](model), OPTIMIZERS["adam"](small)
    other = OPTIMIZERS["adam"](networks.mlp())
    first, second = (other, new) if wrong == "old" else (old, other)
    with pytest.raises(ModelError, match="does not have"):
        transfer_state(first, model, second, small, plan)
    assert not other.state
    assert not new.state


# -- Export -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "norm"), [("removed", "batch"), ("merged", "group")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning",
                            "ignore::UserWarning")  # fmt: skip
def test_pruned_networks_can_be_exported_to_onnx(how, norm, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = networks.residual_net(norm)
    units = find_units(model, "channel", images())
    keep = random_keep(units, 1)
    if how == "removed":
        model, _ = remove_units(model, units, keep)
    else:
        apply_masks(model, units, keep).merge()
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (images(),), path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    (output,) = session.run(None, {name: images().numpy()})
    np.testing.assert_allclose(output, model(images()).detach(), rtol=1e-4, atol=1e-5)


def test_pruned_networks_can_be_exported_as_graphs():
    _, _, small, _ = pruned("group")
    exported = torch.export.export(small, (images(),)).module()
    torch.testing.assert_close(exported(images()), small(images()))
