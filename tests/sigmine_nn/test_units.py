"""Units: slices, groups, numbering, and the kinds that need no tracing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError
from sigmine_nn.masks import apply_masks
from sigmine_nn.units import Kind, Role, Slice, UnitGroup, Units, find_tensor
from tests import networks


def group(name: str, n: int, **options: object) -> UnitGroup:
    return UnitGroup(name, Kind.CHANNEL, n, (Slice(f"{name}.weight", 0, Role.OUT),), **options)


# -- Slices -------------------------------------------------------------------------------------


def test_a_slice_without_an_index_has_one_entry_a_unit():
    piece = Slice("w", 0, Role.OUT)
    assert piece.entries(np.array([2, 0])).tolist() == [0, 2]
    assert piece.spread(np.array([0.5, 1.0, 0.0]), 3).tolist() == [0.5, 1.0, 0.0]


def test_a_slice_with_an_index_gives_each_unit_its_entries_and_the_rest_a_one():
    piece = Slice("w", 1, Role.IN, np.array([[1, 2], [5, 4]]))
    assert piece.entries(np.array([1])).tolist() == [4, 5]
    assert piece.entries(np.array([1, 0])).tolist() == [1, 2, 4, 5]
    assert piece.spread(np.array([0.0, 0.25]), 7).tolist() == [1, 0, 0, 1, 0.25, 0.25, 1]
    assert piece.spread(np.array([0.0, 0.25]), 6, rest=9.0).tolist() == [9, 0, 0, 9, 0.25, 0.25]


# -- Groups and their numbering -----------------------------------------------------------------


def test_units_are_numbered_through_the_groups():
    units = Units((group("a", 3), group("b", 2)), {})
    assert len(units) == 2
    assert units.n == 5
    assert units.names == ["a", "b"]
    assert list(units.range_of("b")) == [3, 4]
    assert [units.name_of(i) for i in range(5)] == ["a.0", "a.1", "a.2", "b.0", "b.1"]
    assert {k: v.tolist() for k, v in units.scopes.items()} == {"a": [0, 1, 2], "b": [3, 4]}
    parts = units.split(np.arange(5) * 10)
    assert {k: v.tolist() for k, v in parts.items()} == {"a": [0, 10, 20], "b": [30, 40]}
    frame = units.frame()
    assert frame["unit"].tolist() == ["a.0", "a.1", "a.2", "b.0", "b.1"]
    assert frame["index"].tolist() == [0, 1, 2, 0, 1]
    assert list(frame["layer"].cat.categories) == ["a", "b"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Units((group("a", 3), group("a", 2)), {}), InputError, "names must differ"),
        (lambda: Units((), {}), ModelError, "no units"),
        (lambda: group("a", 6, blocks=4), InputError, "6 units in 4 blocks"),
        (
            lambda: UnitGroup("a", Kind.ROW, 3, (Slice("w", 0, Role.OUT, np.zeros((2, 1), int)),)),
            InputError,
            r"3 units and an index of shape \(2, 1\)",
        ),
        (lambda: Units((group("a", 3),), {}).range_of("b"), ModelError, "no group of units 'b'"),
    ],
)
def test_what_is_no_group(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_units_of_another_model_are_refused():
    units = find_units(networks.mlp(), "row")
    units.check(networks.mlp(seed=3))
    with pytest.raises(ModelError, match="has shape"):
        units.check(networks.mlp(hidden=(9, 12)))
    with pytest.raises(ModelError, match="no such tensor"):
        units.check(nn.Linear(2, 2))


def test_find_tensor_finds_parameters_buffers_and_masked_weights():
    model = networks.residual_net()
    assert find_tensor(model, "stem.weight") is model.stem.weight
    assert find_tensor(model, "norm.running_mean") is model.norm.running_mean
    assert find_tensor(model, "norm.nothing") is None
    assert find_tensor(model, "nowhere.weight") is None
    assert find_tensor(model, "block1.conv1") is None


# -- Rows and elements --------------------------------------------------------------------------


def test_rows_are_all_rows_of_linear_and_convolutional_layers():
    model = networks.flat_net()
    units = find_units(model, "row")
    assert {g.name: g.n_units for g in units} == {"0": 6, "3": 12, "7": 20, "9": 10}
    assert not any(g.removable for g in units)
    masks = apply_masks(model, units, np.arange(units.n) % 2 == 0)
    assert bool((model[0].weight[1::2] == 0).all())
    assert bool((model[0].bias[1::2] == 0).all())
    assert bool((model[0].weight[::2] != 0).all())
    masks.remove()


def test_elements_are_the_entries_of_weights_in_the_order_of_memory():
    model = networks.mlp()
    units = find_units(model, "element")
    assert units.n == 30 * 16 + 16 * 12 + 12 * 2
    keep = np.ones(units.n, dtype=bool)
    keep[units.range_of("2").start + 5] = False  # row 0, column 5
    apply_masks(model, units, keep)
    assert model[2].weight[0, 5] == 0
    assert int((model[2].weight == 0).sum()) == 1


@pytest.mark.parametrize("kind", ["row", "element"])
def test_a_model_that_is_a_single_layer(kind):
    model = nn.Linear(3, 2)
    units = find_units(model, kind)
    assert units.names == [""]
    masks = apply_masks(model, units, np.arange(units.n) > 0)
    assert model(torch.ones(1, 3)).shape == (1, 2)
    assert model.weight[0, 0].item() == 0.0
    masks.remove()
    assert isinstance(model.weight, nn.Parameter)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.lm_head = nn.Linear(4, 7, bias=False)
        self.lm_head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.embed(x))


def test_a_tied_weight_is_counted_once_and_masked_at_both_places():
    model = Tied()
    units = find_units(model, "element")
    assert units.names == ["embed"]
    assert units.n == 28
    keep = np.ones(28, dtype=bool)
    keep[:4] = False
    masks = apply_masks(model, units, keep)
    assert bool((model.lm_head.weight[0] == 0).all())
    assert bool((model.embed.weight[0] == 0).all())
    masks.merge()
    assert model.lm_head.weight is model.embed.weight
    assert bool((model.embed.weight[0] == 0).all())
    assert bool((model.embed.weight[1:] != 0).all())


# -- What find_units refuses --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "neuron"}, InputError, "'neuron' is not known"),
        ({"kind": "channel"}, InputError, "no example_inputs"),
        ({"kind": "head"}, ModelError, "no units of kind 'head'"),
        ({"kind": "state"}, ModelError, "no units of kind 'state'"),
        ({"kind": "row", "ignore": ["nowhere"]}, ModelError, "ignore names 'nowhere'"),
        ({"kind": "row", "ignore": "0"}, InputTypeError, "give a list"),
        ({"kind": "row", "ignore": ["*"]}, ModelError, "outside of the layers that are ignored"),
    ],
)
def test_what_find_units_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        find_units(networks.mlp(), **arguments)


def test_a_model_that_is_none():
    with pytest.raises(InputTypeError, match="must be a torch"):
        find_units("model", "row")


@pytest.mark.parametrize("pattern", ["block1", "block1.*"])
def test_ignored_layers_keep_their_units(pattern):
    model = networks.residual_net()
    units = find_units(model, "row", ignore=[pattern])
    assert units.names == ["stem", "down", "block2.conv1", "block2.conv2", "head"]


def test_a_layer_that_is_only_read_from_is_not_ignored_with_its_reader():
    model = networks.mlp()
    units = find_units(model, "channel", torch.zeros(2, 30), ignore=["2"])
    assert units.names == ["0"]
