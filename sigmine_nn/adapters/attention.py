"""Attention heads: rows of the query, key and value projections, columns of the output projection.

Two layouts are known. *Separate* projections: query head h has rows h d to (h + 1) d - 1 of the
query projection (d: size of a head), and with grouped queries key-value head g serves the
neighbouring query heads g s to (g + 1) s - 1, s of them, as in Llama; the unit is a key-value head
with its queries. A *fused* projection has rows [head, (query, key, value), d], as in BLOOM and
GPT-NeoX.

May import: `sigmine`, `sigmine_nn.units`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from ..units import Gate, Kind, SizeAttribute, UnitGroup
from ._layers import columns, joined, linear_at, rows, windows

__all__ = ["AttentionSizes", "attention_inputs", "attention_sizes", "find_heads"]

# Query, key, value and output projections, as paths below the attention module. An output that
# begins with ".." lies below the module around it.
_SEPARATE: tuple[tuple[str, str, str, str], ...] = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("q_lin", "k_lin", "v_lin", "out_lin"),
    ("wq", "wk", "wv", "wo"),
    ("to_q", "to_k", "to_v", "to_out"),
    ("to_q", "to_k", "to_v", "to_out.0"),
    ("query", "key", "value", "out"),
    ("query", "key", "value", "..output.dense"),
)
_FUSED: tuple[tuple[str, str], ...] = (("query_key_value", "dense"),)
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
_HEAD_SIZES = ("head_dim", "attention_head_size", "head_size", "dim_head", "dim_per_head")
_WIDTHS = ("all_head_size", "inner_dim")


@dataclass(frozen=True)
class _Projections:
    """The projections of an attention module, by their full names."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    output: str
    layers: dict[str, nn.Linear]


def _all_projections(model: nn.Module) -> list[_Projections]:
    """Return every module that has the projections of attention, by their names."""
    found = []
    for name, module in model.named_modules():
        around = name.rpartition(".")[0]
        for *inputs, output in (*_SEPARATE, *_FUSED):
            layers = {joined(name, path): linear_at(module, path) for path in inputs}
            if not output.startswith(".."):
                last = joined(name, output)
            elif name:
                last = joined(around, output[2:])
            else:
                continue
            layers[last] = linear_at(model, last)
            there = {path: layer for path, layer in layers.items() if layer is not None}
            if len(there) == len(layers):
                found.append(_Projections(name, module, tuple(layers)[:-1], last, there))
                break
    return found


def attention_inputs(model: nn.Module) -> set[str]:
    """Return the layers whose outputs are divided into heads.

    Their outputs must not be cut one by one.

    Parameters
    ----------
    model : Module
        The network.

    Returns
    -------
    set of str
        Names of linear layers.
    """
    return {name for found in _all_projections(model) for name in found.inputs}


def find_heads(model: nn.Module) -> list[UnitGroup]:
    """Find attention heads.

    Parameters
    ----------
    model : Module
        The network.

    Returns
    -------
    list of UnitGroup
        One for every attention module, under its name; modules whose sizes do not fit together are
        left out.
    """
    groups = []
    for found in _all_projections(model):
        group = _separate(found) if len(found.inputs) == 3 else _fused(found)
        if group is not None:
            groups.append(group)
    return groups


def _attribute(module: nn.Module, names: Iterable[str]) -> int | None:
    """Return the first of some attributes that is a positive whole number."""
    values = (getattr(module, name, None) for name in names)
    return next(
        (v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), None
    )


def _sizes(found: _Projections, expected: dict[tuple[str, ...], tuple[int, int]]) -> (
    tuple[SizeAttribute, ...]
):  # fmt: skip
    """Return the attributes that have the value that is expected, and what a unit takes off."""
    return tuple(
        SizeAttribute(found.name, name, per_unit)
        for names, (value, per_unit) in expected.items()
        for name in names
        if getattr(found.module, name, None) == value
    )


@dataclass(frozen=True)
class AttentionSizes:
    """Numbers of heads of separate projections, and their sizes."""

    name: str
    n_heads: int
    n_kv_heads: int
    size: int
    value_size: int


def attention_sizes(model: nn.Module) -> list[AttentionSizes]:
    """Return the sizes of all attention modules with separate projections.

    Parameters
    ----------
    model : Module
        The network.

    Returns
    -------
    list of AttentionSizes
        Without modules whose sizes do not fit together.
    """
    found = [f for f in _all_projections(model) if len(f.inputs) == 3]
    return [sizes for sizes in map(_sizes_of, found) if sizes is not None]


def _sizes_of(found: _Projections) -> AttentionSizes | None:
    """Return the sizes that attributes and weights agree on; None if they do not."""
    q, k, v = (found.layers[name].out_features for name in found.inputs)
    n_heads = _attribute(found.module, _HEADS)
    size = _attribute(found.module, _HEAD_SIZES)
    if size is None:
        if n_heads is None or q % n_heads:
            return None
        size = q // n_heads
    counted, n_kv = q // size, k // size
    if n_kv == 0 or counted % n_kv or n_heads not in (None, counted):
        return None
    value_size = v // n_kv
    sizes = AttentionSizes(found.name, counted, n_kv, size, value_size)
    fits = (q, k, v) == (counted * size, n_kv * size, n_kv * value_size)
    fits = fits and found.layers[found.output].in_features == counted * value_size
    return sizes if fits else None


def _separate(found: _Projections) -> UnitGroup | None:
    sizes = _sizes_of(found)
    if sizes is None:
        return None
    q, k, v = (found.layers[name] for name in found.inputs)
    counted, n_kv = sizes.n_heads, sizes.n_kv_heads
    size, value_size = sizes.size, sizes.value_size
    share = counted // n_kv
    out_index = windows(n_kv, share * value_size)
    slices = [
        *rows(found.inputs[0], q, windows(n_kv, share * size)),
        *rows(found.inputs[1], k, windows(n_kv, size)),
        *rows(found.inputs[2], v, windows(n_kv, value_size)),
        columns(found.output, out_index),
    ]
    expected = {
        _HEADS: (counted, share),
        _KV_HEADS: (n_kv, 1),
        _WIDTHS: (counted * size, share * size),
    }
    reason = _obstacle(found, counted, {q.out_features, k.out_features} - {size})
    return UnitGroup(
        found.name,
        Kind.HEAD,
        n_kv,
        tuple(slices),
        (Gate(found.output, "input", -1, out_index),),
        sizes=_sizes(found, expected),
        removable=not reason,
        reason=reason,
    )


def _fused(found: _Projections) -> UnitGroup | None:
    (name,) = found.inputs
    layer, output = found.layers[name], found.layers[found.output]
    n_heads = _attribute(found.module, _HEADS)
    if n_heads is None:
        n_heads = output.in_features // (_attribute(found.module, _HEAD_SIZES) or 1)
    size = output.in_features // n_heads
    if n_heads * size != output.in_features or layer.out_features != 3 * output.in_features:
        return None
    if _attribute(found.module, _HEAD_SIZES) not in (None, size):
        return None
    out_index = windows(n_heads, size)
    reason = _obstacle(found, n_heads, {layer.out_features, n_heads * size} - {size})
    return UnitGroup(
        found.name,
        Kind.HEAD,
        n_heads,
        (*rows(name, layer, windows(n_heads, 3 * size)), columns(found.output, out_index)),
        (Gate(found.output, "input", -1, out_index),),
        sizes=_sizes(found, {_HEADS: (n_heads, 1), _WIDTHS: (n_heads * size, size)}),
        removable=not reason,
        reason=reason,
    )


def _obstacle(found: _Projections, n_heads: int, widths: set[int]) -> str:
    """Return what would still count the old heads if some were removed, or nothing."""
    if "alibi" in inspect.signature(found.module.forward).parameters:
        return (
            "the slopes of its linear position biases (ALiBi) follow from the number of heads and "
            "come from outside of the module"
        )
    for name, parameter in found.module.named_parameters():
        if joined(found.name, name).rpartition(".")[0] in found.layers:
            continue
        of_module = "." not in name
        table = isinstance(found.module.get_submodule(name.rpartition(".")[0]), nn.Embedding)
        if (of_module or table) and n_heads in parameter.shape:
            return f"its parameter {name!r} of shape {tuple(parameter.shape)} counts the heads"
        if widths & set(parameter.shape):
            return f"its parameter {name!r} mixes the heads"
    return ""
