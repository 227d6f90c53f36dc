"""Units shut off where they are read: what else depends on them shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError
from sigmine_nn.gating import masked_norm, read_elsewhere, tensors_of
from sigmine_nn.units import Gate, Kind, Role, Slice, UnitGroup
from tests import naive_masks, networks
from tests.networks import state_of


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


def linear_group(index: np.ndarray | None = None, gates: tuple[str, ...] = ("2",)) -> UnitGroup:
    return UnitGroup(
        "0", Kind.CHANNEL, 16,
        (Slice("0.weight", 0, Role.OUT), Slice("0.bias", 0, Role.OUT),
         Slice("2.weight", 1, Role.IN, index)),
        tuple(Gate(name, "input", -1, index) for name in gates),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_every_wrong_map_is_found_out_and_the_right_one_is_not(seed):
    model, inputs = networks.mlp(), torch.randn(4, 30)
    before = state_of(model)
    assert read_elsewhere(model, [linear_group()], inputs, seed) == {}
    for shift in (1, 5, 8):
        wrong = np.roll(np.arange(16), shift)[:, None]
        assert list(read_elsewhere(model, [linear_group(wrong)], inputs, seed)) == ["0"]
    assert state_of(model) == before


class Noisy(nn.Module):
    """Adds in another order every time, as kernels of GPUs do: the last bits change."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.calls = model, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.model(x) + 1e-7 * (self.calls % 7)


def test_rounding_is_not_taken_for_a_reader_nor_a_reader_for_rounding():
    model, inputs = Noisy(networks.mlp()), torch.randn(4, 30)

    def within(group: UnitGroup) -> UnitGroup:
        slices = tuple(Slice(f"model.{s.parameter}", s.axis, s.role, s.index) for s in group.slices)
        gates = tuple(Gate(f"model.{g.module}", g.side, g.axis, g.index) for g in group.gates)
        return UnitGroup(group.name, group.kind, group.n_units, slices, gates)

    assert read_elsewhere(model, [within(linear_group())], inputs) == {}
    wrong = within(linear_group(np.roll(np.arange(16), 3)[:, None]))
    assert list(read_elsewhere(model, [wrong], inputs)) == ["0"]


def test_a_layer_that_is_called_by_keywords_only():
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(input=self.fc1(input=x))

    model = Keyword()
    before = state_of(model)
    with pytest.raises(ModelError, match="'fc2' is called with keyword arguments only"):
        find_units(model, "mlp_channel", torch.randn(2, 4))
    assert state_of(model) == before


def test_a_gate_that_is_missing_is_found_out():
    model, inputs = networks.seeded(Twice)(), torch.randn(4, 6)
    found = find_units(model, "channel", inputs)[0]
    assert len(found.gates) == 2
    for gate in found.gates:
        fewer = UnitGroup(found.name, found.kind, found.n_units, found.slices, (gate,))
        assert list(read_elsewhere(model, [fewer], inputs)) == ["a"]


def test_only_the_wrong_group_is_named():
    model, inputs = networks.mlp(), torch.randn(4, 30)
    right = find_units(model, "channel", inputs)
    wrong = linear_group(np.roll(np.arange(16), 3)[:, None])
    assert list(read_elsewhere(model, [wrong, right[1]], inputs)) == ["0"]


def test_outputs_that_are_not_numbers_do_not_condemn_a_group():
    model, inputs = networks.mlp(), torch.randn(4, 30)
    inputs[0, 0] = torch.nan
    assert read_elsewhere(model, [linear_group()], inputs) == {}


@pytest.mark.parametrize("n_groups", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_masked_statistics_are_those_of_the_kept_channels(n_groups, seed):
    rng = np.random.default_rng(seed)
    x, keep = rng.normal(size=(2, 8, 5)), rng.random(8) < 0.6
    module = nn.GroupNorm(n_groups, 8, affine=False)
    weights = torch.from_numpy(keep.astype(float))
    found = masked_norm(module, torch.from_numpy(x), weights).numpy()
    for row in range(2):
        expected = naive_masks.group_norm(x[row], np.flatnonzero(keep).tolist(), n_groups)
        np.testing.assert_allclose(found[row][keep], expected[keep], rtol=1e-12, atol=1e-12)
    assert np.isfinite(found).all()


def test_masks_of_ones_are_the_normalisation_itself():
    x = torch.randn(3, 8, 4, dtype=torch.float64)
    for module in (nn.GroupNorm(2, 8).double(), nn.LayerNorm(8).double()):
        networks.generic(module)
        given = x if isinstance(module, nn.GroupNorm) else x.transpose(1, 2)
        torch.testing.assert_close(masked_norm(module, given, torch.ones(8)), module(given))
    nothing = masked_norm(nn.LayerNorm(8, elementwise_affine=False), x.transpose(1, 2).float(),
                          torch.zeros(8))  # fmt: skip
    assert bool(nothing.isfinite().all())


def test_all_floating_tensors_of_an_output_are_found():
    one = torch.ones(1)
    output = {"a": one, "b": [one, (one, 3)], "c": None, "d": torch.ones(1, dtype=torch.int64)}
    assert len(list(tensors_of(output))) == 3
