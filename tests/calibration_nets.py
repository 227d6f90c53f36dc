"""Small networks whose units are known by hand, with gates that a test can turn itself."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sigmine_nn.units import Gate, Kind, Role, Slice, UnitGroup, Units

torch.set_num_threads(1)


def one(value, gates, name):
    """Multiply by a gate along axis 1, if there is one."""
    if gates is None:
        return value
    return value * gates[name].view(1, -1, *[1] * (value.ndim - 2))


class Residual(nn.Module):
    """Convolutions with batch norm and a residual; ``stem`` is read by ``conv1`` and ``fc``."""

    def __init__(self, size=5):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.conv1 = nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.fc = nn.Linear(6 * size * size, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x, gates=None):
        h = self.act(self.bn(self.stem(x)))
        r = self.act(self.bn1(self.conv1(one(h, gates, "stem"))))
        out = F.relu(h + self.conv2(one(r, gates, "conv1")))
        return self.fc(one(out, gates, "stem").flatten(1))

    def units(self):
        size = self.fc.in_features // 6
        flat = np.arange(6 * size).reshape(6, size)
        stem = UnitGroup(
            "stem",
            Kind.CHANNEL,
            6,
            (
                Slice("stem.weight", 0, Role.OUT),
                Slice("stem.bias", 0, Role.OUT),
                *(Slice(f"bn.{t}", 0, Role.NORM) for t in TENSORS),
                Slice("conv2.weight", 0, Role.OUT),
                Slice("conv2.bias", 0, Role.OUT),
                Slice("conv1.weight", 1, Role.IN),
                Slice("fc.weight", 1, Role.IN, flat),
            ),
            (Gate("conv1", "input", 1), Gate("fc", "input", -1, flat)),
        )
        conv1 = UnitGroup(
            "conv1",
            Kind.CHANNEL,
            4,
            (
                Slice("conv1.weight", 0, Role.OUT),
                *(Slice(f"bn1.{t}", 0, Role.NORM) for t in TENSORS),
                Slice("conv2.weight", 1, Role.IN),
            ),
            (Gate("conv2", "input", 1),),
        )
        return units_of(self, stem, conv1)


TENSORS = ("weight", "bias", "running_mean", "running_var")


def units_of(model, *groups):
    names = {piece.parameter for group in groups for piece in group.slices}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return Units(groups, {name: tuple(tensors[name].shape) for name in names})


def residual(seed=0, dtype=torch.float64):
    """Return a network in evaluation mode whose batch norms are not the identity."""
    torch.manual_seed(seed)
    model = Residual().to(dtype)
    with torch.no_grad():
        for norm in (model.bn, model.bn1):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0.2, 0.1)
            norm.running_mean.normal_(0.0, 0.1)
            norm.running_var.uniform_(0.5, 2.0)
    return model.eval()


def images(n=12, seed=1, dtype=torch.float64, size=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, size, size, generator=generator, dtype=dtype)
    return x, torch.randint(3, (n,), generator=generator)


def in_batches(x, y, *sizes):
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


class Sequences(nn.Module):
    """A feed-forward block over (batch, time, width), its hidden layer cut into windows of time."""

    def __init__(self, windows=1, twice=False):
        super().__init__()
        self.up = nn.Linear(4, 6)
        self.down = nn.Linear(6, 3)
        self.windows, self.twice = windows, twice

    def forward(self, x, gate=None):
        b, t, d = x.shape
        h = F.gelu(self.up(x.reshape(b * self.windows, t // self.windows, d)))
        h = h if gate is None else h * gate
        out = self.down(h)
        if self.twice:  # the same layer twice
            again = torch.sin(h)
            out = out + self.down(again if gate is None else torch.sin(h / gate) * gate)
        return out.reshape(b, t, 3).mean(dim=1)

    def units(self):
        hidden = UnitGroup(
            "up",
            Kind.MLP_CHANNEL,
            6,
            (
                Slice("up.weight", 0, Role.OUT),
                Slice("up.bias", 0, Role.OUT),
                Slice("down.weight", 1, Role.IN),
            ),
            (Gate("down", "input", -1),),
        )
        return units_of(self, hidden)
