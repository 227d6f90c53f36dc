"""Channels by tracing: what torch-pruning gets wrong must not get through."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigmine.exceptions import InputTypeError
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError, TracingError
from sigmine_nn.graph import TorchPruningProvider, within
from sigmine_nn.surgery import largest_difference, plan_removal, remove_units
from sigmine_nn.units import Gate, Kind, Role, Slice, UnitGroup
from tests import networks
from tests.networks import generic, images, random_keep, state_of


def made(build: type[nn.Module], *args: object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(*args)
        generic(model)
    return model.eval()


def agree(model: nn.Module, inputs: object, n: int = 3) -> None:
    """Removed and masked networks are the same for several random masks, in double precision."""
    model = model.double()
    units = find_units(model, "channel", inputs)
    for seed in range(n):
        remove_units(model, units, random_keep(units, seed), example_inputs=inputs, tolerance=1e-10)


# -- Time and errors ----------------------------------------------------------------------------


def test_a_trace_that_does_not_end_is_ended():
    alive = []

    def forever() -> None:
        while True:
            alive.append(time.monotonic())
            time.sleep(0.001)

    start = time.monotonic()
    with pytest.raises(TracingError, match=r"not found within 0.2 seconds"):
        within(0.2, forever)
    assert time.monotonic() - start < 5.0
    time.sleep(0.05)
    n = len(alive)
    time.sleep(0.05)
    assert len(alive) == n  # the thread has ended, not only been left


def test_a_trace_that_catches_everything_is_ended_too():
    done = []

    def stubborn() -> None:
        for _ in range(3):
            try:
                while True:
                    time.sleep(0.001)
            except BaseException:
                done.append(1)

    with pytest.raises(TracingError):
        within(0.1, stubborn)
    assert len(done) >= 3


def test_what_is_done_in_time_is_returned_and_errors_come_through():
    assert within(5.0, lambda: 7) == 7
    with pytest.raises(KeyError):
        within(5.0, lambda: {}["x"])


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), True, "10"])
def test_time_limits_that_are_none(limit):
    with pytest.raises(InputTypeError, match="time_limit"):
        find_units(networks.mlp(), "channel", torch.zeros(2, 30), time_limit=limit)


class Looping(nn.Module):
    """Its second forward pass does not end, as tracing some language models does not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        while torch.is_grad_enabled():
            time.sleep(0.001)
        return self.b(self.a(x))


def test_a_model_whose_trace_is_ended_is_left_as_it_was():
    model = made(Looping).train()
    model.a.weight.requires_grad_(False)
    before = state_of(model)
    with pytest.raises(TracingError, match="seconds"):
        find_units(model, "channel", torch.zeros(2, 4), time_limit=0.2)
    assert state_of(model) == before


class Broken(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        if self.how == "raises":
            raise RuntimeError("no forward today")
        return y.detach() if self.how == "detached" else torch.tensor(y.tolist())


@pytest.mark.parametrize(
    ("how", "message"),
    [("raises", "no forward today"), ("detached", "can be differentiated"), ("list", "can be")],
)
def test_a_model_that_cannot_be_traced_is_left_as_it_was(how, message):
    model = made(Broken, how).train()
    before = state_of(model)
    with pytest.raises(TracingError, match=message):
        find_units(model, "channel", torch.zeros(2, 4))
    assert state_of(model) == before


def test_inputs_of_the_wrong_shape():
    with pytest.raises(TracingError, match="example_inputs"):
        find_units(networks.mlp(), "channel", torch.zeros(2, 31))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_model_is_left_as_it_was(norm):
    model = networks.residual_net(norm).train()
    model.stem.weight.requires_grad_(False)
    model(images()).sum().backward()
    before = state_of(model)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    find_units(model, "channel", images())
    assert state_of(model) == before
    assert torch.equal(torch.rand(1), expected)  # the caller's random numbers, too


def test_it_works_without_gradients_and_with_frozen_parameters():
    model = networks.residual_net().requires_grad_(False)
    with torch.no_grad():
        frozen = find_units(model, "channel", images())
    assert frozen.names == find_units(networks.residual_net(), "channel", images()).names
    with torch.inference_mode(False):
        assert not any(p.requires_grad for p in model.parameters())


# -- Which groups there are ---------------------------------------------------------------------


def test_coupled_layers_are_one_group_and_the_outputs_of_the_network_none():
    units = find_units(networks.residual_net(), "channel", images())
    assert units.names == ["stem", "block1.conv1", "down", "block2.conv1"]
    stem = units[0]
    assert {s.parameter for s in stem.with_role(Role.OUT)} == {"stem.weight", "block1.conv2.weight"}
    assert {g.module for g in stem.gates} == {"block1.conv1", "down"}
    assert set(units.left_out) == {"head"}
    assert "leave it" in units.left_out["head"]


def test_flattened_maps_give_a_unit_several_columns():
    model = networks.flat_net()
    units = find_units(model, "channel", images())
    index = next(s for s in units[1].slices if s.parameter == "7.weight").index
    assert index.shape == (12, 16)
    assert index[2].tolist() == list(range(32, 48))


def test_normalisation_in_groups_sets_blocks():
    units = find_units(networks.residual_net("group"), "channel", images())
    assert [g.blocks for g in units] == [4, 4, 4, 4]
    keep = random_keep(units)
    keep[units.range_of("stem").start] ^= True
    with pytest.raises(ValueError, match="the same number must stay"):
        plan_removal(networks.residual_net("group"), units, keep)


NETWORKS = {
    "batch": lambda: networks.residual_net("batch"),
    "group": lambda: networks.residual_net("group"),
    "layer": lambda: networks.residual_net("layer"),
    "none": lambda: networks.residual_net("none"),
    "flat": networks.flat_net,
    "vit": networks.vit,
    "grouped": lambda: networks.vit(n_kv_heads=2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_masked_and_removed_networks_agree(name):
    agree(NETWORKS[name](), images(dtype=torch.float64))


def test_the_channels_of_a_vision_transformer_leave_its_heads_alone():
    units = find_units(networks.vit(), "channel", images())
    assert units.names == ["patches", "layers.0.mlp.fc1", "layers.1.mlp.fc1"]
    made_by = {s.parameter for g in units for s in g.with_role(Role.OUT)}
    assert not any("q_proj" in name or "v_proj" in name for name in made_by)
    assert {"token", "positions"} <= made_by  # parameters of no layer, cut along the right axis
    assert "heads" in units.left_out["layers.0.attention.q_proj"]


# -- What is known to go wrong ------------------------------------------------------------------


class UNet(nn.Module):
    """A skip connection by concatenation, with a normalisation behind it."""

    def __init__(self, norm: str, groups: int = 4) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 8, 3, padding=1)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 3, padding=1)
        norms = {"group": nn.GroupNorm(groups, 16), "batch": nn.BatchNorm2d(16)}
        self.norm = norms.get(norm, nn.Identity())
        self.out = nn.Conv2d(16, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.down(x))
        x = F.relu(self.up(F.relu(self.middle(skip))))
        x = F.relu(self.norm(torch.cat([x, skip], dim=1)))
        return self.last(F.relu(self.out(x)))


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_skip_connections_by_concatenation(norm):
    agree(made(UNet, norm), images(dtype=torch.float64))


def test_one_normalisation_over_a_concatenation_can_be_removed_from():
    agree(made(UNet, "group", 1), images(dtype=torch.float64))


def test_normalisation_in_groups_over_a_concatenation_can_only_be_masked():
    model = made(UNet, "group")
    units = find_units(model, "channel", images())
    removable = {g.name: g.removable for g in units}
    assert removable == {"down": False, "middle": True, "up": False, "out": True}
    keep = np.ones(units.n, dtype=bool)
    keep[0] = False
    with pytest.raises(ModelError, match=r"masked, not removed: 'norm' normalises"):
        plan_removal(model, units, keep)
    # The others can still go.
    keep = random_keep(units)
    for name in ("down", "up"):
        keep[units.range_of(name).start : units.range_of(name).stop] = True
    remove_units(model, units, keep, example_inputs=images())


class Conv(nn.Module):
    """Convolutions with whatever between."""

    def __init__(self, between: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3, padding=1)
        self.between = between
        self.b = nn.Conv2d(channels, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.relu(self.between(self.a(x))))).mean(dim=(2, 3)))


def test_depthwise_convolutions_pass_units_on():
    model = made(Conv, nn.Conv2d(8, 8, 3, padding=1, groups=8))
    units = find_units(model, "channel", images())
    assert units.names == ["a", "b"]
    assert {s.parameter for s in units[0].with_role(Role.NORM)} == {
        "between.weight", "between.bias",
    }  # fmt: skip
    small, _ = remove_units(model, units, random_keep(units, 1), example_inputs=images())
    n = small.a.out_channels
    assert small.between.groups == small.between.in_channels == small.between.out_channels == n
    agree(model, images(dtype=torch.float64))


@pytest.mark.parametrize(
    "between",
    [
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Sequential(nn.Conv2d(8, 16, 1, groups=8), nn.Conv2d(16, 8, 1)),
        nn.LayerNorm([8, 8, 8]),
        nn.Softmax(dim=1),
        nn.LocalResponseNorm(3),
    ],
    ids=["grouped", "multiplier", "layer norm of maps", "softmax", "response norm"],
)
def test_what_mixes_channels_in_another_way_leaves_its_units_out(between):
    model = made(Conv, between)
    units = find_units(model, "channel", images())
    assert "a" not in units.names
    assert "a" in units.left_out
    assert "b" in units.names


@pytest.mark.parametrize(
    "between",
    [
        nn.GroupNorm(8, 8),
        nn.GroupNorm(1, 8),
        nn.GroupNorm(2, 8, affine=False),
        nn.GroupNorm(8, 8, affine=False),
        nn.InstanceNorm2d(8, affine=True),
        nn.BatchNorm2d(8, affine=False),
        nn.BatchNorm2d(8, track_running_stats=False),
        nn.PReLU(),
        nn.PReLU(8),
        nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True)),
        nn.Sequential(nn.ConvTranspose2d(8, 8, 3, padding=1), nn.ELU(inplace=True)),
    ],
    ids=str,
)
def test_layers_that_units_pass_through(between):
    model = made(Conv, between)
    assert "a" in find_units(model, "channel", images()).names
    agree(model, images(dtype=torch.float64))


def test_a_layer_norm_without_weights_can_only_be_masked():
    class Norm(networks.ChannelsLast):
        def __init__(self) -> None:
            super().__init__(8)
            self.norm = nn.LayerNorm(8, elementwise_affine=False)

    units = find_units(made(Conv, Norm()), "channel", images())
    assert [g.removable for g in units if g.name == "a"] in ([False], [])


class Shuffle(nn.Module):
    """Channels of two halves change places with each other, as in ShuffleNet."""

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        return x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


class Mean(nn.Module):
    """Every channel is read at a place that is no layer."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=1, keepdim=True)


class Scale(nn.Module):
    """A parameter of no layer, one number a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Wrong(nn.Module):
    """A parameter of no layer that is as wide as the maps: its last axis are no channels."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.rand(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


@pytest.mark.parametrize("between", [Shuffle(), Mean(), Wrong()], ids=["shuffle", "mean", "shift"])
def test_wrong_maps_and_missed_readers_are_found_out(between):
    units = find_units(made(Conv, between), "channel", images())
    assert "a" not in units.names
    assert "not found, or belong to others" in units.left_out["a"]


def test_parameters_of_no_layer_are_cut_along_the_right_axis():
    model = made(Conv, Scale())
    units = find_units(model, "channel", images())
    assert ("between.scale", 0) in {(s.parameter, s.axis) for s in units[0].slices}
    agree(model, images(dtype=torch.float64))


class Twice(nn.Module):
    """One layer used twice, with a residual connection around it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.shared = nn.Linear(6, 8), nn.Linear(8, 8)
        self.norm, self.b = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        x = x + F.relu(self.norm(self.shared(x)))
        x = x + F.relu(self.norm(self.shared(x)))
        return self.b(x)


def test_a_layer_that_is_used_twice():
    agree(made(Twice), torch.randn(4, 6, dtype=torch.float64))


class Leaves(nn.Module):
    """Channels are read by a layer and returned as well."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = F.relu(self.a(x))
        return {"logits": self.b(hidden), "features": hidden * 2}


def test_channels_that_leave_the_network_are_no_units():
    with pytest.raises(ModelError, match="'a' was left out"):
        find_units(made(Leaves), "channel", torch.randn(4, 6))


class Zero(nn.Module):
    """A residual branch that begins as zero: what reads it wrongly does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Conv(Shuffle())
        self.first = nn.Linear(3, 3)
        nn.init.zeros_(self.net.head.weight)
        nn.init.zeros_(self.net.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(1, 2, 3))[:, None] + self.first(self.net(x))


def test_weights_that_are_zero_hide_nothing():
    model = made(Zero)
    before = state_of(model)
    units = find_units(model, "channel", images())
    assert "net.a" in units.left_out
    assert state_of(model) == before


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, left: Tensor, right: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        hidden = self.a(left) + (0 if right is None else self.b(right))
        return self.c(F.relu(hidden)), [hidden.new_zeros(1)]


@pytest.mark.parametrize("how", ["tuple", "list", "mapping"])
def test_several_inputs_and_nested_outputs(how):
    left, right = torch.randn(3, 4), torch.randn(3, 5)
    inputs = {"tuple": (left, right), "list": [left, right],
              "mapping": {"left": left, "right": right}}[how]  # fmt: skip
    model = made(Several)
    units = find_units(model, "channel", inputs)
    assert units.names == ["a"]
    assert {s.parameter for s in units[0].with_role(Role.OUT)} == {
        "a.weight", "a.bias", "b.weight", "b.bias",
    }  # fmt: skip
    remove_units(model, units, random_keep(units), example_inputs=inputs)


def test_a_batch_is_not_taken_for_several_inputs():
    # torch-pruning itself calls model(*batch) first: two rows would be `left` and `right`.
    units = find_units(made(Several), "channel", torch.randn(2, 4))
    assert {s.parameter for s in units[0].with_role(Role.OUT)} == {"a.weight", "a.bias"}


class WithMultihead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(dim=1))


def test_multihead_attention_of_torch_is_left_out():
    model = made(WithMultihead)
    inputs = torch.randn(3, 5, 6)
    units = find_units(model, "channel", inputs)
    assert units.names == ["up"]
    remove_units(model, units, random_keep(units), example_inputs=inputs)
    with pytest.raises(ModelError, match="no units of kind 'head'"):
        find_units(model, "head", inputs)


def test_recurrent_layers_have_no_channels():
    model = nn.Sequential(nn.LSTM(4, 4, batch_first=True))
    with pytest.raises((ModelError, TracingError)):
        find_units(model, "channel", torch.zeros(2, 3, 4))


# -- Providers --------------------------------------------------------------------------------


def linear_group(index: np.ndarray | None = None, gates: tuple[str, ...] = ("2",)) -> UnitGroup:
    return UnitGroup(
        "0", Kind.CHANNEL, 16,
        (Slice("0.weight", 0, Role.OUT), Slice("0.bias", 0, Role.OUT),
         Slice("2.weight", 1, Role.IN, index)),
        tuple(Gate(name, "input", -1, index) for name in gates),
    )  # fmt: skip


def test_a_provider_of_ones_own():
    class Mine:
        def groups(self, model: nn.Module, example_inputs: object) -> list[UnitGroup]:
            return [linear_group()]

    model, inputs = networks.mlp(), torch.randn(4, 30)
    units = find_units(model, "channel", inputs, provider=Mine())
    assert units.names == ["0"]
    assert units.left_out == {}
    remove_units(model, units, np.arange(16) % 2 == 0, example_inputs=inputs)

    class Foreign:
        def groups(self, model: nn.Module, example_inputs: object) -> list[UnitGroup]:
            return [UnitGroup("x", Kind.CHANNEL, 2, (Slice("x.weight", 0, Role.OUT),))]

    with pytest.raises(ModelError, match=r"'x.weight', which the model does not have"):
        find_units(model, "channel", inputs, provider=Foreign())


def test_one_provider_for_several_models():
    provider = TorchPruningProvider()
    find_units(networks.residual_net(), "channel", images(), provider=provider)
    units = find_units(networks.mlp(), "channel", torch.zeros(2, 30), provider=provider)
    assert set(units.left_out) == {"4"}


# -- Every mask there is, on a small network ----------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "none", "layer"])
def test_all_masks_of_a_small_network(norm):
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm = nn.Conv2d(1, 4, 3), networks.norm_of(norm, 4)
            self.b = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.norm(self.a(x))).mean(dim=(2, 3)))

    model = made(Small).double()
    x = images(dtype=torch.float64)
    units = find_units(model, "channel", x)
    for keep in itertools.product([False, True], repeat=4):
        if any(keep):
            small, _ = remove_units(model, units, list(keep), example_inputs=x, tolerance=1e-12)
            assert small.a.out_channels == sum(keep)
    # Known truth: a unit without any effect can go and nothing changes.
    with torch.no_grad():
        model.b.weight[:, 1] = 0
    if norm != "layer":
        small, _ = remove_units(model, units, [True, False, True, True])
        assert largest_difference(model, small, x) < 1e-14
