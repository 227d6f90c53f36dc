"""Slow twins for masks and removal: numpy and loops, one entry at a time; imports nothing of ours.

Parameters are dictionaries of arrays by name. A network here is conv 1x1 -> norm -> relu -> mean
over positions -> linear, which has a unit for every channel of the convolution.
"""

from __future__ import annotations

import numpy as np


def group_norm(x: np.ndarray, kept: list[int], n_groups: int, eps: float = 1e-5) -> np.ndarray:
    """Normalise (channels, positions) in groups, over the kept channels of each group only."""
    size = len(x) // n_groups
    out = np.zeros_like(x)
    for g in range(n_groups):
        members = [c for c in range(g * size, (g + 1) * size) if c in kept]
        values = [v for c in members for v in x[c]]
        if not values:
            continue
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        for c in members:
            out[c] = [(v - mean) / np.sqrt(variance + eps) for v in x[c]]
    return out


def small_network(
    x: np.ndarray, parameters: dict[str, np.ndarray], kept: list[int], n_groups: int
) -> np.ndarray:
    """Return the outputs, shape (n_outputs,), for one input of shape (n_inputs, positions)."""
    maps = np.zeros((len(parameters["conv"]), x.shape[1]))
    for c in kept:
        for p in range(x.shape[1]):
            maps[c, p] = sum(parameters["conv"][c, i] * x[i, p] for i in range(len(x)))
    normal = group_norm(maps, kept, n_groups)
    outputs = parameters["bias"].copy()
    for o in range(len(outputs)):
        for c in kept:
            shifted = normal[c] * parameters["scale"][c] + parameters["shift"][c]
            outputs[o] += parameters["linear"][o, c] * np.mean(np.maximum(shifted, 0.0))
    return outputs
