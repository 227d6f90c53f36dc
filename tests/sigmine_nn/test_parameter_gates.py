"""Derivatives of the loss of every sample by gates in the weights that read states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigmine_nn.calibrate import Statistic, calibrate
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.masks import apply_masks
from sigmine_nn.objective import Objective
from sigmine_nn.parameter_gates import ParameterGates, gated_groups
from sigmine_nn.scoring import score_units
from sigmine_nn.state import kept_attributes, unchanged
from sigmine_nn.state_space import S5
from tests.networks import state_of
from tests.state_nets import MODELS, OTHERS, STEPS, batches_of, made, sequences

ALL = {**MODELS, **OTHERS}
DOUBLE = ["S5", "S5 both ways", "S4D", "s4d.py"]
SINGLE = ["s5-pytorch", "s5-pytorch both ways", "lru-pytorch"]


def derivatives_of(model: nn.Module, batch: Any) -> Tensor:
    groups = gated_groups(list(find_units(model, "state")))
    assert len(groups) == 3
    return ParameterGates(model, groups, Objective("cross_entropy")).derivatives(batch)


def batch_for(name: str, n: int = 3) -> tuple[Tensor, Tensor]:
    x = sequences(n, 4 if name == "lru-pytorch" else 8)
    return (x.double() if name in DOUBLE else x), torch.arange(n) % 2


def losses_with(model: nn.Module, values: np.ndarray, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The loss of every sample with masks of any size on the states."""
    units = find_units(model, "state")
    masks = apply_masks(model, units, np.minimum(values, 1.0))
    with torch.no_grad():
        for group, piece, parameter, name in masks._places:  # masks above 1 are for tests only
            place = units.range_of(group)
            buffer = getattr(masks._gated[parameter], name)
            spread = piece.spread(values[place.start : place.stop], len(buffer))
            buffer.copy_(torch.from_numpy(np.ascontiguousarray(spread)))
        found = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
    masks.remove()
    return found


@pytest.mark.parametrize("name", DOUBLE)
def test_derivatives_are_those_of_finite_differences(name: str) -> None:
    model = ALL[name]().double()
    batch = batch_for(name)
    found = derivatives_of(model, batch)
    n = found.shape[1]
    assert found.dtype == torch.float64
    for unit in range(0, n, max(1, n // 7)):
        step = np.zeros(n)
        step[unit] = 1e-5
        above, below = (losses_with(model, 1.0 + sign * step, batch) for sign in (1, -1))
        expected = (above - below) / 2e-5
        torch.testing.assert_close(found[:, unit], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", [*DOUBLE, *SINGLE])
def test_derivatives_are_those_of_a_loop_over_samples(name: str) -> None:
    """Weight times gradient of the weights that read a state, added up: real parts of complex."""
    model = ALL[name]()
    if name in DOUBLE:
        model = model.double()
    x, y = batch_for(name)
    units = find_units(model, "state")
    found = derivatives_of(model, (x, y))
    for sample in range(len(x)):
        model.zero_grad()
        F.cross_entropy(model(x[[sample]]), y[[sample]]).backward()
        named = dict(model.named_parameters())
        for group in units:
            place = units.range_of(group.name)
            expected = torch.zeros(group.n_units, dtype=torch.float64)
            for piece in group.slices:
                if str(piece.role) != "in":
                    continue
                weight = named[piece.parameter]
                assert weight.grad is not None
                each = (weight.grad.conj() * weight).real.detach().double()
                for unit in range(group.n_units):
                    entries = {unit} if piece.index is None else set(piece.index[unit].tolist())
                    for entry in entries:
                        part = each.reshape(-1)[entry] if piece.axis is None else (
                            each.select(piece.axis, entry).sum())  # fmt: skip
                        expected[unit] += part
            torch.testing.assert_close(
                found[sample, place.start : place.stop], expected,
                rtol=1e-9 if name in DOUBLE else 1e-3, atol=1e-11 if name in DOUBLE else 1e-6,
            )  # fmt: skip


def test_a_linear_loss_falls_by_exactly_the_derivative() -> None:
    """Where the loss is linear in the outputs of a layer, the first order is all there is."""
    torch.manual_seed(0)
    layer = S5(3, 5, **STEPS).double()
    x = sequences(3, 9).double()

    def loss(outputs: Tensor, _: Tensor) -> Tensor:
        return outputs.sum(dim=(1, 2)).mean()

    units = find_units(layer, "state")
    gates = ParameterGates(layer, list(units), Objective(loss))
    found = gates.derivatives((x, torch.zeros(3)))
    with torch.no_grad():
        whole = layer(x).sum(dim=(1, 2))
        for unit in range(5):
            keep = np.ones(5)
            keep[unit] = 0.0
            masks = apply_masks(layer, units, keep)
            without = layer(x).sum(dim=(1, 2))
            masks.remove()
            torch.testing.assert_close(whole - without, found[:, unit])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_size_of_batches_does_not_matter(size: int) -> None:
    model = MODELS["S4D"]().double()
    x, y = sequences(5, 8).double(), torch.tensor([0, 1, 1, 0, 1])
    units = find_units(model, "state")
    data = list(zip(x.split(size), y.split(size), strict=True))
    found = calibrate(
        model, data, units, ["taylor", "squared_taylor", "absolute_taylor"], loss="cross_entropy",
        keep_samples=True,
    )  # fmt: skip
    each = derivatives_of(model, (x, y))
    torch.testing.assert_close(found.of_units[Statistic.TAYLOR].mean, each.mean(dim=0))
    squares = found.of_units[Statistic.SQUARED_TAYLOR].mean
    torch.testing.assert_close(squares, each.square().mean(dim=0))
    absolute = found.of_units[Statistic.ABSOLUTE_TAYLOR].mean
    torch.testing.assert_close(absolute, each.abs().mean(dim=0))
    torch.testing.assert_close(found.samples[Statistic.TAYLOR], each.float())
    assert found.loss == pytest.approx(float(F.cross_entropy(model(x), y).detach()), rel=1e-12)


def test_large_gradients_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from sigmine_nn import parameter_gates

    model = MODELS["S5"]().double()
    batch = batch_for("S5", 5)
    whole = derivatives_of(model, batch)
    monkeypatch.setattr(parameter_gates, "_ROOM", 1)
    torch.testing.assert_close(derivatives_of(model, batch), whole)


def test_units_of_one_group_are_the_same_alone_and_together() -> None:
    model = MODELS["S5"]().double()
    batch = batch_for("S5")
    units = find_units(model, "state")
    whole = derivatives_of(model, batch)
    for group in units:
        place = units.range_of(group.name)
        alone = ParameterGates(model, [group], Objective("cross_entropy")).derivatives(batch)
        torch.testing.assert_close(alone, whole[:, place.start : place.stop])


def test_masked_states_have_the_derivative_zero() -> None:
    model = MODELS["S5"]().double()
    units = find_units(model, "state")
    keep = np.ones(units.n, dtype=bool)
    keep[[1, 7]] = False
    apply_masks(model, units, keep)
    found = derivatives_of(model, batch_for("S5"))
    assert bool((found[:, ~keep] == 0).all())
    assert bool((found[:, keep] != 0).any(dim=0).all())


# -- Models that cannot be mapped over samples --------------------------------------------------


class Remembers(S5):
    """Keeps its last outputs as a plain attribute, and asks for a number: no map over samples."""

    seen: Tensor | None

    def __init__(self, width: int, n: int) -> None:
        super().__init__(width, n, **STEPS)
        self.seen, self.calls = None, 0

    def forward(self, u: Tensor, step_scale: float = 1.0) -> Tensor:
        y = super().forward(u, step_scale)
        self.seen, self.late = y, y
        self.calls += 1
        return y + 0.0 * float(y.detach().sum())


def test_models_that_cannot_be_mapped_are_asked_sample_by_sample() -> None:
    plain = made(lambda d, n: S5(d, n, **STEPS)).double()
    odd: Any = made(Remembers).double()
    odd.load_state_dict(plain.state_dict())
    batch = batch_for("S5")
    torch.testing.assert_close(derivatives_of(odd, batch), derivatives_of(plain, batch))


def test_tensors_that_layers_keep_are_put_back() -> None:
    model: Any = made(Remembers)
    before = state_of(model)
    data = batches_of(6, 8, 3)
    units = find_units(model, "state")
    calibrate(model, data, units, ["taylor"], loss="cross_entropy")
    assert state_of(model) == before
    layer = model.layers[0]
    assert layer.calls > 0
    assert layer.seen is None  # no tensor of a map that failed
    assert not hasattr(layer, "late")
    model(data[0][0])
    held = layer.seen
    calibrate(model, data, units, ["taylor"], loss="cross_entropy")
    assert layer.seen is held
    for guard in (unchanged, kept_attributes):
        with guard(model):
            layer.seen = None
        assert layer.seen is held


def test_the_state_of_lru_pytorch_is_put_back() -> None:
    model: Any = OTHERS["lru-pytorch"]()
    states = [layer.state for layer in model.layers]
    table = score_units(
        model, batches_of(3, 4, 3), criterion="taylor", units="state", loss="cross_entropy"
    )
    assert bool(table.score.isfinite().all())
    for layer, state in zip(model.layers, states, strict=True):
        assert layer.state is state
    model(sequences(1, 3))  # and it still runs


@pytest.mark.parametrize("size", [1, 3])
def test_a_loss_that_no_state_can_change_is_refused(size: int) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = S5(3, 4, **STEPS)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).detach().mean(dim=1)

    model = Cut()
    units = find_units(model, "state")
    data = [(sequences(size, 6), torch.zeros(size).long())]
    with pytest.raises(CalibrationError, match="does not depend on any unit"):
        calibrate(model, data, units, ["taylor"], loss="cross_entropy")


def test_errors_of_the_model_itself_are_shown() -> None:
    class Broken(S5):
        def forward(self, u: Tensor, step_scale: float = 1.0) -> Tensor:
            if u.shape[0] == 1:
                raise RuntimeError("one sequence is too few")
            return super().forward(u, step_scale)

    model = made(lambda d, n: Broken(d, n, **STEPS))
    with pytest.raises(RuntimeError, match="one sequence is too few"):
        calibrate(
            model, batches_of(3, 6, 3), find_units(model, "state"), ["taylor"],
            loss="cross_entropy",
        )  # fmt: skip


def test_mappings_are_batches_too() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = MODELS["S5"]().double()

        def forward(self, x: Tensor, labels: Tensor) -> Any:
            outputs = self.net(x)
            return type("Output", (), {"loss": F.cross_entropy(outputs, labels)})()

    model = Named()
    x, y = batch_for("S5")
    units = find_units(model, "state")
    found = calibrate(model, [{"x": x, "labels": y}], units, ["taylor"])
    expected = derivatives_of(model.net, (x, y)).mean(dim=0)
    torch.testing.assert_close(found.of_units[Statistic.TAYLOR].mean, expected)
