"""Costs of selections: against networks that are really smaller, and torch's own counter."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn import costs as costs_module
from sigmine_nn.costs import Costs, measure_latency
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError
from sigmine_nn.masks import apply_masks
from sigmine_nn.surgery import remove_units
from sigmine_nn.units import Kind, Role, Slice, UnitGroup, Units

torch.set_num_threads(1)


class ConvNet(nn.Module):
    """Residual, with a depthwise convolution, a normalisation in groups and an upsampling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.a = nn.Conv2d(8, 8, 3, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.b = nn.Conv2d(8, 8, 1)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.gn = nn.GroupNorm(4, 12)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.fc = nn.Linear(6 * 36, 5)

    def forward(self, x):
        x = torch.relu(self.bn(self.stem(x)))
        x = torch.relu(x + self.b(torch.relu(self.depth(torch.relu(self.a(x))))))
        x = torch.relu(self.gn(self.down(x)))
        return self.fc(torch.relu(self.up(x)).flatten(1))


X = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def conv_net():
    torch.manual_seed(0)
    model = ConvNet().eval()
    return model, find_units(model, "channel", X)


def number_of_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops() // 2


def random_keep(units, seed):
    """A mask with at least one unit in every block, as many in each."""
    generator = np.random.default_rng(seed)
    keep = np.zeros(units.n, dtype=bool)
    for group in units:
        where = units.range_of(group.name)
        size = group.n_units // group.blocks
        count = generator.integers(1, size + 1)
        rows = [generator.permutation(size) < count for _ in range(group.blocks)]
        keep[where.start : where.stop] = np.concatenate(rows)
    return keep


def test_everything_is_what_the_model_has(conv_net):
    model, units = conv_net
    costs = Costs.of(model, units, X)
    assert costs.parameters() == number_of_parameters(model)
    assert costs.flops() == macs(model, X)


@pytest.mark.parametrize("seed", range(12))
def test_costs_are_those_of_the_smaller_network(conv_net, seed):
    model, units = conv_net
    keep = random_keep(units, seed)
    costs = Costs.of(model, units, X)
    small, _ = remove_units(model, units, keep)
    assert costs.parameters(keep) == number_of_parameters(small)
    assert costs.flops(keep) == macs(small, X)


def test_the_count_does_not_change_the_model(conv_net):
    model, units = conv_net
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Costs.of(model, units, X)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    model.eval()


def test_hooks_are_gone_after_an_error(conv_net):
    model, units = conv_net
    with pytest.raises(RuntimeError):
        Costs.of(model, units, torch.zeros(1, 2, 6, 6))
    assert not any(module._forward_hooks for module in model.modules())


def test_projections_of_attention_with_other_lengths_of_queries_and_keys():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    units = Units(
        (
            UnitGroup(
                "out_proj", Kind.ROW, 8,
                (Slice("out_proj.weight", 0, Role.OUT), Slice("out_proj.bias", 0, Role.OUT)),
                removable=False,
            ),
        ),
        {"out_proj.weight": (8, 8), "out_proj.bias": (8,)},
    )  # fmt: skip
    query, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    costs = Costs.of(attention, units, {"query": query, "key": memory, "value": memory})
    assert costs.flops() == 64 * (6 + 10 + 10 + 6)
    assert Costs.of(attention, units, (query, memory, memory)).flops() == costs.flops()
    keep = np.arange(8) < 3
    assert costs.flops(keep) == 64 * (6 + 10 + 10) + 6 * 3 * 8
    separate = nn.MultiheadAttention(8, 2, kdim=4, vdim=6, batch_first=True)
    inputs = (query, torch.randn(2, 5, 4), torch.randn(2, 5, 6))
    assert Costs.of(separate, units, inputs).flops() == 64 * 6 + 8 * 4 * 10 + 8 * 6 * 10 + 64 * 6


def test_a_transformer_layer_is_seen_although_it_has_a_fused_path():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    units = find_units(layer, "element")
    costs = Costs.of(layer, units, torch.randn(2, 3, 8))
    assert costs.flops() == 6 * (3 * 64 + 64 + 2 * 8 * 16)


def test_layers_that_run_twice_cost_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return self.fc(self.fc(x))

    model = Twice()
    units = find_units(model, "element")
    keep = np.arange(16) < 5
    assert Costs.of(model, units, torch.randn(3, 4)).flops(keep) == 2 * 3 * 5


@pytest.mark.parametrize("kind", ["element", "row"])
def test_masked_units_cost_their_entries_that_are_not_zero(kind):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    units = find_units(model, kind)
    keep = np.random.default_rng(0).random(units.n) < 0.5
    costs = Costs.of(model, units, torch.randn(7, 6))
    masks = apply_masks(model, units, keep)
    masked = Costs.of(model, units, torch.randn(7, 6))  # names of parameters are others now
    masks.merge()
    weights = [int(torch.count_nonzero(model[i].weight)) for i in (0, 2)]
    assert costs.parameters(keep) == sum(int(torch.count_nonzero(p)) for p in model.parameters())
    assert costs.flops(keep) == 7 * sum(weights)
    assert masked.parameters(keep) == costs.parameters(keep)
    assert masked.flops(keep) == costs.flops(keep)


def test_single_entries_and_axes_of_one_parameter():
    model = nn.Linear(3, 4, bias=False)
    groups = (
        UnitGroup("entries", Kind.ELEMENT, 12, (Slice("weight", None, Role.IN),), removable=False),
        UnitGroup("rows", Kind.ROW, 4, (Slice("weight", 0, Role.OUT),), removable=False),
    )
    units = Units(groups, {"weight": (4, 3)})
    entries = np.ones((4, 3), dtype=bool)
    entries[0, 0] = entries[1, 2] = False
    keep = np.concatenate([entries.ravel(), [False, True, True, True]])
    assert Costs.of(model, units).parameters(keep) == 8


def test_units_of_several_groups_along_one_axis():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)
            self.c = nn.Linear(8, 2)

        def forward(self, x):
            return self.c(torch.cat([self.a(x), self.b(x)], dim=1))

    torch.manual_seed(0)
    model, x = Joined(), torch.randn(2, 3)
    units = find_units(model, "channel", x)
    assert units.names == ["a", "b"]
    keep = np.array([1, 0, 1, 0, 0, 0, 1, 1], dtype=bool)
    small, _ = remove_units(model, units, keep, example_inputs=x)
    costs = Costs.of(model, units, x)
    assert costs.parameters(keep) == number_of_parameters(small)
    assert costs.flops(keep) == macs(small, x)


def test_tied_weights_count_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model[2].weight = model[0].weight
    units = find_units(model[4], "element")
    groups = tuple(
        UnitGroup("last", g.kind, g.n_units, (Slice("4.weight", None, Role.IN),), removable=False)
        for g in units
    )
    costs = Costs.of(model, Units(groups, {"4.weight": (2, 4)}), torch.randn(1, 4))
    assert costs.parameters() == number_of_parameters(model) == 16 + 4 + 4 + 8 + 2
    assert costs.flops() == 16 + 16 + 8


class Tied(nn.Module):
    """A hidden layer whose weight another layer uses whole."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.c(torch.relu(self.a(torch.relu(self.b(x)))))


@pytest.mark.parametrize("keep", [[True] * 4, [True, False, True, True]])
def test_a_tied_weight_that_is_cut_under_one_name(keep):
    slices = (
        Slice("a.weight", 0, Role.OUT), Slice("a.bias", 0, Role.OUT), Slice("c.weight", 1, Role.IN)
    )  # fmt: skip
    shapes = {"a.weight": (4, 4), "a.bias": (4,), "c.weight": (2, 4)}
    model, x = Tied(), torch.randn(3, 4)
    units = Units((UnitGroup("a", Kind.CHANNEL, 4, slices),), shapes)
    if not all(keep):
        with pytest.raises(ModelError, match="one parameter"):
            remove_units(model, units, np.array(keep), example_inputs=x)
    costs = Costs.of(model, units, x)
    assert costs.parameters() == number_of_parameters(model)
    assert costs.flops() == macs(model, x)
    # Masks of it leave the whole weight in use.
    group = UnitGroup("a", Kind.ROW, 4, (Slice("a.weight", 0, Role.OUT),), removable=False)
    masked = Costs.of(model, Units((group,), {"a.weight": (4, 4)}))
    assert masked.parameters(np.array(keep)) == number_of_parameters(model)


def test_masks_of_units_that_something_reads_are_on_what_reads_them():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    slices = (Slice("0.weight", 0, Role.OUT), Slice("2.weight", 1, Role.IN))
    group = UnitGroup("0", Kind.CHANNEL, 4, slices, removable=False)
    units = Units((group,), {"0.weight": (4, 3), "2.weight": (2, 4)})
    keep = np.array([True, False, False, True])
    costs = Costs.of(model, units)
    apply_masks(model, units, keep).merge()
    assert costs.parameters(keep) == sum(int(p.count_nonzero()) for p in model.parameters())


def test_errors(conv_net):
    model, units = conv_net
    costs = Costs.of(model, units)
    with pytest.raises(InputError, match="example_inputs"):
        costs.flops()
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        costs.parameters(np.ones(3, dtype=bool))
    with pytest.raises(InputError, match="dtype float64"):
        costs.parameters(np.ones(units.n))


def test_latency_takes_turns_and_gives_quartiles(monkeypatch):
    order = []

    class Named(nn.Linear):
        def __init__(self, name):
            super().__init__(2, 2)
            self.name = name

        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            order.append(self.name)
            return super().forward(x)

    # Passes take 1, 2, 3, ... seconds by this clock.
    times = iter([t for i in range(100) for t in (0, i)])
    monkeypatch.setattr(costs_module.time, "perf_counter", lambda: next(times))
    models = {"a": Named("a"), "b": Named("b")}
    found = measure_latency(models, torch.zeros(1, 2), repeats=5, warmup=1)
    assert order == ["a", "b"] * 6
    # Turn i times "a" with 2 i and "b" with 2 i + 1 seconds; turn 0 is warm-up.
    assert (found["a"].lower, found["a"].median, found["a"].upper) == (4, 6, 8)
    assert (found["b"].median, found["b"].repeats) == (7, 5)
    assert models["a"].training


def test_latency_refuses_what_is_no_mapping_of_models():
    with pytest.raises(InputTypeError, match="mapping"):
        measure_latency(nn.Linear(1, 1), torch.zeros(1, 1))
    with pytest.raises(InputError, match="empty"):
        measure_latency({}, torch.zeros(1, 1))
    with pytest.raises(InputError, match="repeats"):
        measure_latency({"a": nn.Linear(1, 1)}, torch.zeros(1, 1), repeats=0)
