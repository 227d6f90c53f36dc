"""Hidden channels of feed-forward parts: rows of the layers up, columns of the layer down.

With a gate, h_j = act(gate_j . x) * (up_j . x) is one unit of two rows; without it,
h_j = act(up_j . x). The activation must work entry by entry, as those of transformers do.

May import: `sigmine`, `sigmine_nn.units`.
"""

from __future__ import annotations

from torch import nn

from ..units import Gate, Kind, SizeAttribute, UnitGroup
from ._layers import columns, joined, linear_at, rows

__all__ = ["find_mlp_channels"]

# Layers up (the first gives the group its name) and the layer down, as paths below one module.
_NAMES: tuple[tuple[str, ...], ...] = (
    ("up_proj", "gate_proj", "down_proj"),
    ("w3", "w1", "w2"),
    ("wi_1", "wi_0", "wo"),
    ("up_proj", "down_proj"),
    ("fc1", "fc2"),
    ("dense_h_to_4h", "dense_4h_to_h"),
    ("intermediate.dense", "output.dense"),
    ("linear1", "linear2"),
    ("lin1", "lin2"),
    ("wi", "wo"),
)
_SIZES = ("intermediate_size", "hidden_features")


def find_mlp_channels(model: nn.Module) -> list[UnitGroup]:
    """Find the hidden channels of feed-forward parts.

    Parameters
    ----------
    model : Module
        The network.

    Returns
    -------
    list of UnitGroup
        One for every feed-forward part, under the name of its layer up.
    """
    groups = []
    for name, module in model.named_modules():
        for *up, down in _NAMES:
            found = [linear_at(module, path) for path in (*up, down)]
            layers = [layer for layer in found if layer is not None]
            if len(layers) < len(found):
                continue
            hidden = layers[-1].in_features
            if all(layer.out_features == hidden for layer in layers[:-1]):
                groups.append(_group(name, module, up, down, layers))
                break
    return groups


def _group(
    name: str, module: nn.Module, up: list[str], down: str, layers: list[nn.Linear]
) -> UnitGroup:
    hidden = layers[-1].in_features
    slices = [
        piece
        for path, layer in zip(up, layers[:-1], strict=True)
        for piece in rows(joined(name, path), layer, None)
    ]
    last = joined(name, down)
    reason = _obstacle(module, [*up, down], hidden, layers[0].in_features)
    return UnitGroup(
        joined(name, up[0]),
        Kind.MLP_CHANNEL,
        hidden,
        (*slices, columns(last, None)),
        (Gate(last, "input", -1),),
        sizes=tuple(
            SizeAttribute(name, attribute)
            for attribute in _SIZES
            if getattr(module, attribute, None) == hidden
        ),
        removable=not reason,
        reason=reason,
    )


def _obstacle(module: nn.Module, paths: list[str], hidden: int, width: int) -> str:
    """Return what lies between the layers and is as wide as the hidden channels, or nothing."""
    if hidden == width:  # as wide as everything else: sizes tell nothing
        return ""
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[0] not in paths and hidden in parameter.shape:
            return f"{name!r} of shape {tuple(parameter.shape)} works on the hidden channels, too"
    return ""
