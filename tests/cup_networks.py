"""Networks and loops that the tests of the Cup Curriculum share."""

from __future__ import annotations

import torch
from torch import nn

SHAPES = {"0.weight": (3, 4), "0.bias": (3,), "1.weight": (2, 3), "1.bias": (2,)}
PRUNABLE = ["0.weight", "1.weight"]


class Bowl(nn.Module):
    """A network whose loss is a bowl: sum h (w - t)^2 / 2 over its parameters."""

    def __init__(self, seed):
        super().__init__()
        layers = [nn.Linear(4, 3), nn.Linear(3, 2)]
        self.add_module("0", layers[0])
        self.add_module("1", layers[1])
        self.double()
        generator = torch.Generator().manual_seed(seed)

        def drawn(low, high):
            return {
                name: (low + (high - low) * torch.rand(shape, generator=generator).double())
                for name, shape in SHAPES.items()
            }

        with torch.no_grad():
            for name, values in drawn(-1.0, 1.0).items():
                self.get_parameter(name).copy_(values)
        self.target, self.other, self.curvature = drawn(-2, 2), drawn(-2, 2), drawn(0.2, 1.0)

    def loss(self, target):
        return sum(
            (self.curvature[n] * (p - target[n]) ** 2).sum() / 2 for n, p in self.named_parameters()
        )


def lists(tensors):
    return {name: tensor.flatten().tolist() for name, tensor in tensors.items()}


def run(model, cup, steps, record=lambda: None):
    """Train as a user would; return the masks under which was trained."""
    masks = []
    with cup:
        while not cup.finished:
            masks.append({n: m.flatten().tolist() for n, m in cup.cohorts.masks().items()})
            for _ in range(steps):
                cup.optimizer.zero_grad()
                model.loss(model.target).backward()
                cup.after_backward()
                cup.optimizer.step()
                cup.after_step()
                record()
                cup.after_validation(model.loss(model.other).item())
            cup.end_of_cycle()
    return masks


def sgd(model, lr=0.1, momentum=0.9, decay=0.05):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=decay)


def layers(seed=0, width=30):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Embedding(11, width), nn.LayerNorm(width), nn.Linear(width, 17), nn.ReLU(),
        nn.Linear(17, 5),
    )  # fmt: skip


TOKENS = torch.arange(44) % 11
ANSWERS = torch.arange(44) % 5


def train_some(model, cup, steps=2):
    for _ in range(steps):
        cup.optimizer.zero_grad()
        nn.functional.cross_entropy(model(TOKENS), ANSWERS).backward()
        cup.after_backward()
        cup.optimizer.step()
        cup.after_step()
