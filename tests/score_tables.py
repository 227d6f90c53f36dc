"""Tables of scores without a network, and a network small enough to prune by hand."""

import torch
from torch import nn

from sigmine_nn.moments import Moments
from sigmine_nn.scores import Aggregate, ScoreTable
from sigmine_nn.units import Gate, Kind, Role, Slice, UnitGroup, Units


def made_units(*sizes, blocks=1):
    """Units of groups ``g0``, ``g1``, ... that belong to no parameters."""
    groups = [UnitGroup(f"g{i}", Kind.CHANNEL, n, (), blocks=blocks) for i, n in enumerate(sizes)]
    return Units(tuple(groups), {})


def sampled(samples, *, units=None, aggregate=Aggregate.MEAN, keep=True, criterion="made"):
    """Table of per-sample values, with the values kept or not."""
    samples = torch.as_tensor(samples)
    units = units or made_units(samples.shape[1])
    table = ScoreTable.of_samples(units, samples, criterion, aggregate)
    return table if keep else ScoreTable(units, table.score, criterion, table.moments, aggregate)


def weighed(scores, *, units=None, criterion="weights"):
    """Table without a sampling distribution."""
    scores = torch.as_tensor(scores, dtype=torch.float64)
    return ScoreTable(units or made_units(len(scores)), scores, criterion)


def of_moments(units, mean, squares, count):
    return ScoreTable(units, mean, "made", Moments(count, mean, squares))


def small_network(seed=0, n_inputs=4, n_hidden=6, n_classes=3):
    """Two linear layers, and the hidden channels as units."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(n_inputs, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_classes))
    slices = (
        Slice("0.weight", 0, Role.OUT),
        Slice("0.bias", 0, Role.OUT),
        Slice("2.weight", 1, Role.IN),
    )
    group = UnitGroup("0", Kind.CHANNEL, n_hidden, slices, gates=(Gate("2", "input", -1),))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return model, Units((group,), shapes)


def made_batches(n_batches=3, size=20, seed=1, n_inputs=4, n_classes=3):
    """Batches of normal inputs and random classes."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, n_inputs, generator=generator),
            torch.randint(n_classes, (size,), generator=generator),
        )
        for _ in range(n_batches)
    ]
