"""Configurations of Hugging Face models that describe a pruned one.

Where every layer keeps the same numbers of heads and channels, an ordinary configuration can say
so, and ``from_pretrained`` loads the pruned model like any other.

May import: `sigmine`, `sigmine_nn.units`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ..exceptions import ModelError
from .attention import attention_sizes
from .feed_forward import find_mlp_channels

__all__ = ["native_config"]


def native_config(model: nn.Module) -> Any:
    """Return a configuration that makes models of the shapes of a pruned one.

    Parameters
    ----------
    model : PreTrainedModel
        A model of transformers whose heads or feed-forward channels were removed.

    Returns
    -------
    PretrainedConfig
        A copy of the model's, with other numbers of heads and channels. Assign it to
        ``model.config`` before ``save_pretrained``.

    Raises
    ------
    ModelError
        If no configuration of its class says it: layers of different sizes, sizes that follow from
        others (the head size of BERT), numbers that the class refuses (Llama wants a hidden size
        that is a multiple of the number of heads). `sigmine_nn.saving.save_pruned` saves such
        models.
    """
    config = getattr(model, "config", None)
    if config is None:
        raise ModelError(
            f"{type(model).__name__} has no config; give a model of transformers, or save it with "
            "save_pruned."
        )
    config = copy.deepcopy(config)
    heads = {(found.n_heads, found.n_kv_heads, found.size) for found in attention_sizes(model)}
    hidden = {group.n_units for group in find_mlp_channels(model)}
    if len(heads) > 1 or len(hidden) > 1:
        raise ModelError(
            f"layers have different sizes ({sorted(heads)} query heads, key-value heads and head "
            f"sizes, {sorted(hidden)} channels), and a configuration holds one for all; save the "
            "model with save_pruned."
        )
    for n_heads, n_kv_heads, size in heads:
        _set(config, n_heads, "num_attention_heads")
        _set(config, n_kv_heads, "num_key_value_heads")
        _set(config, size, "head_dim")
    for n_channels in hidden:
        _set(config, n_channels, "intermediate_size", "ffn_dim", "n_inner", "hidden_dim")
    _check(model, config)
    return config


def _set(config: Any, value: int, *names: str) -> None:
    for name in names:
        if getattr(config, name, None) is not None:
            setattr(config, name, value)


def _check(model: nn.Module, config: Any) -> None:
    """Make a model of the configuration, without memory for its weights, and compare the shapes."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    try:
        validate = getattr(config, "validate", None)
        if callable(validate):
            validate()
        with torch.device("meta"):
            made: nn.Module = type(model)(config)
    except Exception as error:  # whatever the class does not like about it
        raise ModelError(
            f"{type(config).__name__} does not take the sizes of the pruned model "
            f"({type(error).__name__}: {error}); save it with save_pruned."
        ) from error
    found = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    wrong = next((name for name in expected if found.get(name) != expected[name]), None)
    if wrong is not None or set(found) != set(expected):
        raise ModelError(
            f"{type(config).__name__} cannot say the sizes of the pruned model: {wrong!r} has "
            f"shape {expected.get(wrong or '')} and would get {found.get(wrong or '')}; save it "
            "with save_pruned."
        )
