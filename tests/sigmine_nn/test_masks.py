"""Masks: exact, reversible, and on while a network is trained, copied, cast and saved."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sigmine.exceptions import InputError
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError
from sigmine_nn.masks import Masks, apply_masks, has_masks, holders
from sigmine_nn.surgery import largest_difference, remove_units
from sigmine_nn.units import Gate, Kind, Role, Slice, UnitGroup, Units
from tests import naive_masks, networks
from tests.networks import images, random_keep, state_of

NORMS = ("batch", "group", "layer", "none")


def residual(norm: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Units, Tensor]:
    model = networks.residual_net(norm).to(dtype)
    inputs = images(dtype=dtype)
    return model, find_units(model, "channel", inputs), inputs


# -- Exact --------------------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self, n_groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 1, bias=False)
        self.norm = nn.GroupNorm(n_groups, 6)
        self.linear = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.norm(self.conv(x))).mean(dim=2))


@pytest.mark.parametrize("n_groups", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_masks_are_what_loops_over_the_kept_channels_give(n_groups, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Small(n_groups).double()
        networks.generic(model)
        x = torch.randn(2, 3, 4, dtype=torch.float64)
    parameters = {
        "conv": model.conv.weight[:, :, 0], "scale": model.norm.weight, "shift": model.norm.bias,
        "linear": model.linear.weight, "bias": model.linear.bias,
    }  # fmt: skip
    arrays = {name: value.detach().numpy().copy() for name, value in parameters.items()}
    units = find_units(model, "channel", x)
    keep = np.random.default_rng(seed).random(6) < 0.6  # in unequal numbers a group
    apply_masks(model, units, keep)
    kept = np.flatnonzero(keep).tolist()
    for row in range(2):
        expected = naive_masks.small_network(x[row].numpy(), arrays, kept, n_groups)
        np.testing.assert_allclose(model(x)[row].detach(), expected, rtol=1e-12, atol=1e-12)


_residual = {norm: residual(norm, torch.float64) for norm in NORMS}


@pytest.mark.parametrize("norm", NORMS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_masked_and_removed_networks_agree(norm, seed):
    model, units, inputs = _residual[norm]
    remove_units(model, units, random_keep(units, seed), example_inputs=inputs, tolerance=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_they_agree_in_single_precision_too(norm):
    model, units, inputs = residual(norm)
    for seed in range(5):
        remove_units(model, units, random_keep(units, seed), example_inputs=inputs)


@pytest.mark.parametrize("norm", NORMS)
def test_masks_of_ones_change_no_bit(norm):
    model, units, inputs = residual(norm)
    expected = model(inputs)
    masks = apply_masks(model, units, np.ones(units.n))
    assert torch.equal(model(inputs), expected)
    masks.remove()


def test_naive_gating_of_outputs_would_not_be_removal():
    """The trap that the masked statistics are for: zeroed channels still count in a GroupNorm."""
    model, units, inputs = residual("group")
    keep = random_keep(units, 3)
    small, _ = remove_units(model, units, keep)
    gated = copy.deepcopy(model)
    with torch.no_grad():
        for group in units:
            place = units.range_of(group.name)
            gone = np.flatnonzero(~keep[place.start : place.stop])
            for piece in group.with_role(Role.OUT):
                parameter = dict(gated.named_parameters())[piece.parameter]
                parameter[torch.from_numpy(piece.entries(gone))] = 0
    assert largest_difference(gated, small, inputs) > 1e-2


def test_soft_masks_multiply_what_reads_a_unit():
    model, inputs = networks.mlp(), torch.randn(5, 30)
    units = find_units(model, "channel", inputs)
    values = np.random.default_rng(0).random(units.n)
    hidden = F.relu(model[0](inputs)) * torch.tensor(values[:16], dtype=torch.float32)
    hidden = F.relu(model[2](hidden)) * torch.tensor(values[16:], dtype=torch.float32)
    expected = model[4](hidden)
    masks = apply_masks(model, units, values)
    torch.testing.assert_close(model(inputs), expected)
    np.testing.assert_array_equal(masks.values, values)


# -- Gradients and training ---------------------------------------------------------------------


def test_gradients_reach_the_weights_through_the_masks():
    model, inputs = networks.mlp(), torch.randn(5, 30)
    units = find_units(model, "channel", inputs)
    masks = apply_masks(model, units, np.linspace(0, 1, units.n))
    model(inputs).square().sum().backward()
    gradient = model[2].parametrizations.weight.original.grad
    column = torch.linspace(0, 1, units.n)[:16]
    plain = copy.deepcopy(networks.mlp())
    with torch.no_grad():
        for number, mask in ((2, column), (4, torch.linspace(0, 1, units.n)[16:])):
            plain[number].weight *= mask
    plain(inputs).square().sum().backward()
    torch.testing.assert_close(gradient, plain[2].weight.grad * column)
    assert bool((gradient[:, 0] == 0).all())
    assert bool((gradient[:, 1:] != 0).any())
    masks.remove()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_training_with_masks_is_training_without_the_units(norm, name):
    """Every weight that stays takes the same path; what is masked stays out of the network."""
    make = {
        "sgd": lambda m: torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=1e-3),
        "adam": lambda m: torch.optim.Adam(m.parameters(), 1e-3),
    }[name]
    model, units, inputs = residual(norm, torch.float64)
    keep = random_keep(units, 1)
    small, plan = remove_units(model, units, keep)
    masks = apply_masks(model, units, keep)
    targets = torch.tensor([0, 1, 2, 3])
    for network in (model, small):
        optimizer = make(network)
        network.train()
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(network(inputs), targets).backward()
            optimizer.step()
        network.eval()
    assert largest_difference(model, small, inputs) < 1e-8
    # Taken off, the weights that stay are those of the small network.
    masks.remove()
    plan.apply(model)
    assert largest_difference(model, small, inputs) < 1e-8


def test_weights_behind_a_mask_get_no_gradient_and_stay_without_decay():
    model, units, inputs = residual("group")
    keep = random_keep(units, 1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    masks = apply_masks(model, units, keep)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()
    masks.remove()
    moved = 0
    for group in units:
        place = units.range_of(group.name)
        gone = np.flatnonzero(~keep[place.start : place.stop])
        for piece in group.slices:
            now = dict(model.named_parameters())[piece.parameter]
            entries = torch.from_numpy(piece.entries(gone))
            old = before[piece.parameter].index_select(piece.axis, entries)
            assert torch.equal(now.index_select(piece.axis, entries), old), piece.parameter
            moved += not torch.equal(now, before[piece.parameter])
    assert moved > 0


# -- Taken off, merged, set again ---------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_taken_off_the_model_is_what_it_was(norm):
    model, units, inputs = residual(norm)
    expected, before = model(inputs), state_of(model)
    masks = apply_masks(model, units, random_keep(units))
    assert has_masks(model)
    assert not torch.equal(model(inputs), expected)
    assert masks.remove() is model
    assert state_of(model) == before
    assert not has_masks(model)
    assert torch.equal(model(inputs), expected)


@pytest.mark.parametrize("norm", ["batch", "none", "group"])
def test_merged_weights_compute_the_same_bit_by_bit(norm):
    model, units, inputs = residual(norm)
    parameters = dict(model.named_parameters())
    masks = apply_masks(model, units, random_keep(units))
    expected = model(inputs)
    assert masks.merge() is model
    assert torch.equal(model(inputs), expected)
    assert dict(model.named_parameters()).keys() == parameters.keys()
    for name, parameter in model.named_parameters():
        assert parameter is parameters[name]  # an optimiser still holds the right ones
    assert has_masks(model) == (norm == "group")  # statistics have no weights to go into


def test_masks_can_be_set_again_and_again():
    model, units, inputs = residual("group")
    masks = Masks(model, units)
    outputs = []
    for seed in (1, 2, 1):
        masks.set(random_keep(units, seed))
        outputs.append(model(inputs))
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])
    masks.set(torch.ones(units.n, dtype=torch.bool))
    masks.remove()
    assert torch.equal(model(inputs), networks.residual_net("group")(inputs))


def test_after_the_end_there_is_an_error():
    model, units, _ = residual("none")
    masks = apply_masks(model, units, np.ones(units.n))
    masks.remove()
    for action in (masks.remove, masks.merge, lambda: masks.set(np.ones(units.n))):
        with pytest.raises(ModelError, match="merged or taken off"):
            action()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(3), r"shape \(3,\)"),
        (np.full(48, 1.5), "between 1.5 and 1.5"),
        (np.full(48, -0.1), "between -0.1"),
        (np.full(48, np.nan), "nan"),
        (np.ones((48, 1)), r"shape \(48, 1\)"),
    ],
)
def test_masks_that_are_none_leave_the_model_alone(values, message):
    model, units, inputs = residual("group")
    assert units.n == 48
    before = state_of(model)
    with pytest.raises(InputError, match=message):
        apply_masks(model, units, values)
    assert state_of(model) == before
    masks = apply_masks(model, units, random_keep(units))
    expected = model(inputs)
    with pytest.raises(InputError):
        masks.set(values)
    assert torch.equal(model(inputs), expected)


# -- Several on one model -----------------------------------------------------------------------


@pytest.mark.parametrize("order", ["outer first", "inner first"])
def test_nested_masks_multiply_and_come_off_one_by_one(order):
    model, units, inputs = residual("group")
    one, two = random_keep(units, 1), random_keep(units, 2)
    together = copy.deepcopy(model)
    apply_masks(together, units, one & two)
    before, plain = state_of(model), model(inputs)
    first, second = apply_masks(model, units, one), apply_masks(model, units, two)
    torch.testing.assert_close(model(inputs), together(inputs))
    off, on = (first, second) if order == "outer first" else (second, first)
    off.remove()
    alone = copy.deepcopy(networks.residual_net("group"))
    apply_masks(alone, units, on.values)
    assert torch.equal(model(inputs), alone(inputs))
    on.remove()
    assert state_of(model) == before
    assert torch.equal(model(inputs), plain)


def test_the_order_of_parameters_stays_whatever_comes_off_first():
    model = nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2))
    before = [name for name, _ in model.named_parameters()]
    rows, elements = find_units(model, "row"), find_units(model, "element")
    for order in ((0, 1), (1, 0)):
        masks = [apply_masks(model, units, np.ones(units.n)) for units in (rows, elements)]
        masks[order[0]].remove()
        masks[order[1]].merge()
        assert [name for name, _ in model.named_parameters()] == before


def test_units_of_two_kinds_on_the_same_weights():
    model, inputs = networks.vit(), images()
    channels = find_units(model, "mlp_channel", inputs)
    elements = find_units(model, "element")
    a = apply_masks(model, channels, random_keep(channels))
    b = apply_masks(model, elements, np.random.default_rng(0).random(elements.n) < 0.8)
    expected = model(inputs)
    b.merge()
    torch.testing.assert_close(model(inputs), expected, rtol=0, atol=0)
    a.merge()
    torch.testing.assert_close(model(inputs), expected, rtol=0, atol=0)
    assert not has_masks(model)


def test_masks_of_several_groups_on_one_weight():
    """The inputs and the outputs of a layer are units of two groups."""
    model, inputs = networks.mlp(), torch.randn(4, 30)
    units = find_units(model, "channel", inputs)
    apply_masks(model, units, np.arange(units.n) != 3)
    weight = model[2].weight
    assert bool((weight[:, 3] == 0).all())
    assert int((weight == 0).sum()) == 12


class Concatenated(nn.Module):
    """Two layers side by side in one normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(4, 3)
        self.norm, self.c = nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.norm(torch.cat([self.a(x), self.b(x)], dim=-1)))


def test_masks_of_several_groups_in_one_normalisation():
    def group(name: str, index: np.ndarray) -> UnitGroup:
        return UnitGroup(
            name, Kind.CHANNEL, len(index),
            (Slice(f"{name}.weight", 0, Role.OUT), Slice(f"{name}.bias", 0, Role.OUT),
             Slice("norm.weight", 0, Role.NORM, index), Slice("norm.bias", 0, Role.NORM, index),
             Slice("c.weight", 1, Role.IN, index)),
            (Gate("c", "input", -1, index),), (Gate("norm", "output", -1, index),),
        )  # fmt: skip

    model = Concatenated().double()
    networks.generic(model)
    groups = (group("a", np.arange(5)[:, None]), group("b", np.arange(5, 8)[:, None]))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    units = Units(groups, shapes)
    inputs = torch.randn(6, 4, dtype=torch.float64)
    for seed in range(5):
        keep = random_keep(units, seed)
        remove_units(model, units, keep, example_inputs=inputs, tolerance=1e-12)


# -- Copies, files, devices ---------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_copies_have_masks_of_their_own(norm):
    model, units, inputs = residual(norm)
    masks = apply_masks(model, units, random_keep(units, 1))
    expected = model(inputs)
    other = copy.deepcopy(masks)
    assert torch.equal(other.model(inputs), expected)
    assert other.model is not model
    other.set(random_keep(units, 2))
    assert not torch.equal(other.model(inputs), expected)
    assert torch.equal(model(inputs), expected)
    other.remove()
    assert has_masks(model)
    assert not has_masks(other.model)
    clone = copy.deepcopy(model)
    masks.remove()
    assert torch.equal(clone(inputs), expected)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_state_holds_masks_and_weights(norm):
    model, units, inputs = residual(norm)
    apply_masks(model, units, random_keep(units, 1))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = networks.residual_net(norm, seed=7)
    apply_masks(other, units, np.ones(units.n))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(inputs), model(inputs))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_a_masked_model_can_be_cast(norm, dtype):
    model, units, inputs = residual(norm)
    keep = random_keep(units, 1)
    masks = apply_masks(model, units, keep)
    expected = model(inputs)
    model.to(dtype)
    out = model(inputs.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
    masks.remove()
    assert all(p.dtype == dtype for p in model.parameters())


def test_masks_follow_the_dtype_of_the_weights():
    model = networks.mlp().to(torch.bfloat16)
    units = find_units(model, "row")
    apply_masks(model, units, np.ones(units.n))
    assert model[0].weight.dtype == torch.bfloat16
    assert {b.dtype for b in model.buffers()} == {torch.bfloat16}


# -- Tied, parametrized and unusual weights -----------------------------------------------------


class TiedPair(nn.Module):
    """A head that shares its weight with an embedding; its inputs are units, the table is not."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.lm_head = nn.Linear(4, 7, bias=False)
        self.lm_head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.lm_head(self.embed(x))


def tied_units() -> Units:
    reads = Slice("lm_head.weight", 1, Role.IN)
    group = UnitGroup("lm_head", Kind.CHANNEL, 4, (reads,), (Gate("lm_head", "input", -1),))
    return Units((group,), {"lm_head.weight": (7, 4)})


def test_a_tied_weight_is_masked_where_it_reads_and_nowhere_else():
    model, x = TiedPair(), torch.arange(7)
    before = state_of(model)
    values = np.array([1.0, 0.0, 0.5, 1.0])
    expected = (model.embed(x) * torch.tensor(values, dtype=torch.float32)) @ model.embed.weight.T
    table = model.embed.weight.detach().clone()
    masks = apply_masks(model, tied_units(), values)
    torch.testing.assert_close(model(x), expected)
    assert torch.equal(model.embed.weight, table)
    assert holders(model) == {id(model.embed.weight): ["embed.weight", "lm_head.weight"]}
    masks.remove()
    assert state_of(model) == before
    assert model.lm_head.weight is model.embed.weight


def test_merging_cuts_a_tie_that_would_carry_the_mask_elsewhere():
    model, x = TiedPair(), torch.arange(7)
    table = model.embed.weight.detach().clone()
    masks = apply_masks(model, tied_units(), [1.0, 0.0, 0.5, 1.0])
    expected = model(x)
    masks.merge()
    assert torch.equal(model(x), expected)
    assert torch.equal(model.embed.weight, table)
    assert model.lm_head.weight is not model.embed.weight
    assert isinstance(model.lm_head.weight, nn.Parameter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: parametrizations.spectral_norm(m[4]), "parametrized by _SpectralNorm"),
        (lambda m: m[4].register_buffer("weight", m[4].__dict__.pop("w")), "no parameter"),
    ],
    ids=["parametrized", "buffer"],
)
def test_what_cannot_be_masked_leaves_the_model_alone(change, message):
    model = networks.mlp()
    units = find_units(model, "row")
    model[4].__dict__["w"] = model[4].weight.detach()
    if "no parameter" in message:
        del model[4].weight
    change(model)
    before = state_of(model)
    with pytest.raises(ModelError, match=message):
        Masks(model, units)  # the other two layers had masks by then
    assert state_of(model) == before
    assert not has_masks(model)


def test_whole_numbers_cannot_be_masked():
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    units = find_units(model, "row")
    whole = torch.zeros(2, 2, dtype=torch.int8)
    model[0].weight = nn.Parameter(whole, requires_grad=False)
    with pytest.raises(ModelError, match="int8"):
        Masks(model, units)


def test_units_of_another_model_are_refused_before_anything_changes():
    model, _, _ = residual("none")
    before = state_of(model)
    with pytest.raises(ModelError, match="units were found in a model"):
        apply_masks(model, find_units(networks.mlp(), "row"), np.ones(30))
    assert state_of(model) == before
