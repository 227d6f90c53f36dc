"""Pruned models in files: the plan of what stays as JSON, and the weights as safetensors.

One file holds both: the JSON is in the header of the safetensors file, so that any reader of
safetensors gets the weights, and nothing in it is code. To load it, the original model is made
anew by a function of the caller, cut down by the plan, and given the weights. A file may name the
function that made the original, which is told to the reader and never called for him.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.masks`, `sigmine_nn.plan`.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sigmine._atomic import atomic_path
from sigmine.exceptions import FileFormatError, InputError, InputTypeError

from .exceptions import ModelError
from .masks import has_masks
from .plan import RemovalPlan
from .units import find_tensor

__all__ = ["SavedModel", "load_pruned", "read_pruned", "save_pruned"]

FORMAT = "sigmine pruned model"
VERSION = 1
_KEY = "sigmine_nn"
_MAX_JSON = 64 * 2**20  # bytes; the plan of a model of 10^7 units has about that


@dataclass(frozen=True, eq=False)
class SavedModel:
    """What a file says about a pruned model, without its weights.

    Attributes
    ----------
    plan : RemovalPlan
        What stays of the original model.
    shapes : dict of str to tuple of int
        Shape of every stored tensor.
    tied : dict of str to str
        Names of tensors that are another one under a second name.
    config : dict or None
        Keyword arguments of the function that makes the original model.
    constructor : str or None
        Where that function is, as ``"package.module:function"``: for the reader, not to be trusted.
    """

    plan: RemovalPlan
    shapes: dict[str, tuple[int, ...]]
    tied: dict[str, str]
    config: dict[str, Any] | None
    constructor: str | None


def save_pruned(
    path: str | os.PathLike[str],
    model: nn.Module,
    plan: RemovalPlan,
    *,
    constructor: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Save a pruned model.

    Parameters
    ----------
    path : str or path-like
        File to write, by custom ``*.safetensors``; in a folder that is there,
        ``model.safetensors``. Written whole or not at all.
    model : Module
        The pruned model. Its parameters and persistent buffers are saved.
    plan : RemovalPlan
        As `remove_units` returned it with the model.
    constructor : str, optional
        Where the function is that makes the original model, as ``"package.module:function"``.
    config : mapping, optional
        Its keyword arguments, as JSON can hold them.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the file cannot be written, or `config` is nothing that JSON holds.
    ModelError
        If the plan is not of this model, masks are on it, or its state is not only tensors.
    """
    target = Path(path)
    target = target / "model.safetensors" if target.is_dir() else target
    if constructor is not None:
        _check_constructor(constructor)
    tensors, tied = _state(model, plan)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "plan": plan.to_dict(),
        "tied": tied,
        "config": None if config is None else dict(config),
        "constructor": constructor,
    }
    try:
        text = json.dumps(content, allow_nan=False, separators=(",", ":"))
        if json.loads(text) != content:
            raise TypeError("some values come back as others")
    except (TypeError, ValueError) as error:
        raise InputError(
            f"config cannot be saved as JSON ({error}); use strings as keys, and numbers, strings, "
            "lists and None as values."
        ) from error
    if len(text) > _MAX_JSON:
        raise InputError(
            f"plan and config take {len(text) / 2**20:.0f} MiB as JSON, and {_MAX_JSON // 2**20} "
            "fit; save the state_dict and the plan by yourself."
        )
    from safetensors.torch import save_file

    with atomic_path(target) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", _KEY: text})
    return target


def _state(model: nn.Module, plan: RemovalPlan) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a model, each once, and the second names of those that have them."""
    if has_masks(model):
        raise ModelError(
            "masks are on the model, which a file cannot hold; remove the units (remove_units), or "
            "take the masks off."
        )
    for name, axes in plan.kept.items():
        tensor = find_tensor(model, name)
        for axis, entries in axes.items():
            if tensor is None or axis >= tensor.ndim or tensor.shape[axis] != len(entries):
                found = "no such tensor" if tensor is None else f"shape {tuple(tensor.shape)}"
                raise ModelError(
                    f"the plan leaves {len(entries)} entries of axis {axis} of {name!r}, and the "
                    f"model has {found}; give the pruned model together with its own plan."
                )
    tensors: dict[str, Tensor] = {}
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"the state of the model holds {name!r}, a {type(value).__name__}; only tensors "
                "can be saved."
            )
        if id(value) in first:
            tied[name] = first[id(value)]
            continue
        first[id(value)] = name
        tensors[name] = value.detach().cpu().contiguous().clone()
    return tensors, tied


def read_pruned(path: str | os.PathLike[str]) -> SavedModel:
    """Read what a file says about a pruned model, and nothing else of it.

    Parameters
    ----------
    path : str or path-like
        A file of `save_pruned`, or the folder that it was saved into.

    Returns
    -------
    SavedModel

    Raises
    ------
    FileFormatError
        If it is no such file, damaged, or of a later version.
    FileNotFoundError
        If there is none.
    """
    return _read(_file(path), weights=False)[0]


def load_pruned(
    path: str | os.PathLike[str], factory: str | Callable[..., nn.Module] | None = None
) -> nn.Module:
    """Load a pruned model.

    Parameters
    ----------
    path : str or path-like
        A file of `save_pruned`, or the folder that it was saved into. It may come from a stranger:
        nothing in it is run.
    factory : callable or str
        Makes the original model; called with the ``config`` of the file as keyword arguments. A
        string ``"package.module:function"`` is imported, so it is code that you trust: the file's
        own is never taken by itself (`read_pruned` shows it).

    Returns
    -------
    Module
        With outputs that are equal to those of the saved model bit by bit, on the device and in the
        mode in which the factory makes it.

    Raises
    ------
    FileFormatError
        If the file is damaged, or no such file.
    ModelError
        If the factory makes another model than the one that was pruned.
    InputTypeError
        If the factory is no function, or makes no module.
    """
    saved, tensors = _read(_file(path), weights=True)
    model = _made(factory, saved)
    try:
        saved.plan.apply(model)
        _fill(model, saved, tensors)
    except ModelError as error:
        raise ModelError(
            f"{path} does not fit to the model that the factory makes: {error}"
        ) from error
    return model


def _file(path: str | os.PathLike[str]) -> Path:
    found = Path(path)
    found = found / "model.safetensors" if found.is_dir() else found
    if not found.is_file():
        raise FileNotFoundError(
            f"there is no file {found}; give the file that save_pruned has written."
        )
    return found


def _read(path: Path, *, weights: bool) -> tuple[SavedModel, dict[str, Tensor]]:
    """Return what a file says, and its tensors if they are wanted."""
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            saved = _checked(text, shapes)
            if weights:
                tensors = {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, InputError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileFormatError(
            f"this is no saved pruned model, or it is damaged ({type(error).__name__}: {error}); "
            "expected a file that save_pruned has written. Save the model again.",
            str(path),
        ) from error
    return saved, tensors


def _checked(text: str | None, shapes: dict[str, tuple[int, ...]]) -> SavedModel:
    """Return what the JSON of a file says; it may be hostile."""
    if text is None or len(text) > _MAX_JSON:
        raise ValueError("its header holds no plan" if text is None else "its header is too long")
    content = json.loads(text)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("its header is of another format")
    if content.get("version") != VERSION:
        raise ValueError(
            f"it has version {content.get('version')!r} and this program reads {VERSION}"
        )
    tied, config, constructor = content["tied"], content["config"], content["constructor"]
    if not isinstance(tied, dict) or any(
        name in shapes or other not in shapes for name, other in tied.items()
    ):
        raise ValueError("its tied tensors are not among the stored ones")
    if not isinstance(config, dict | None) or not isinstance(constructor, str | None):
        raise TypeError("its config or its constructor has the wrong type")
    return SavedModel(RemovalPlan.from_dict(content["plan"]), shapes, tied, config, constructor)


def _made(factory: str | Callable[..., nn.Module] | None, saved: SavedModel) -> nn.Module:
    """Return the original model, made anew."""
    if isinstance(factory, str):
        _check_constructor(factory)
        module, _, name = factory.partition(":")
        factory = getattr(importlib.import_module(module), name, None)
    if not callable(factory):
        hint = "" if saved.constructor is None else f" (the file names {saved.constructor!r})"
        raise InputTypeError(
            f"factory is a {type(factory).__name__}; give the function that makes the original "
            f"model, or where it is as 'package.module:function'{hint}."
        )
    model = factory(**(saved.config or {}))
    if not isinstance(model, nn.Module):
        raise InputTypeError(
            f"the factory made a {type(model).__name__}; it must make a torch.nn.Module."
        )
    return model


def _check_constructor(constructor: str) -> None:
    module, colon, name = constructor.partition(":")
    parts = [*module.split("."), name]
    if not colon or not all(part.isidentifier() for part in parts):
        raise InputError(
            f"{constructor!r} is no place of a function; write 'package.module:function'."
        )


def _fill(model: nn.Module, saved: SavedModel, tensors: dict[str, Tensor]) -> None:
    """Copy the tensors into a model that has their shapes."""
    there = model.state_dict(keep_vars=True)
    names = set(tensors) | set(saved.tied)
    if different := sorted(names ^ set(there)):
        raise ModelError(
            f"{different[0]!r} is in {'the file' if different[0] in names else 'the model'} only"
        )
    for name, tensor in there.items():
        stored = tensors[saved.tied.get(name, name)]
        if not isinstance(tensor, Tensor) or tensor.shape != stored.shape:
            found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ModelError(
                f"{name!r} has shape {found} without the units, and {tuple(stored.shape)} in the "
                "file"
            )
    for name, other in saved.tied.items():
        if there[name] is not there[other]:
            raise ModelError(f"{name!r} and {other!r} are one tensor in the file, two in the model")
    with torch.no_grad():
        for name, stored in tensors.items():
            tensor = there[name]
            if tensor.dtype != stored.dtype:
                tensor.data = tensor.data.to(stored.dtype)
            tensor.copy_(stored)
