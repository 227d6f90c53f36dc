"""Where a training is, in one file: read without running anything, written whole or not at all.

The file is one of ``torch.save`` that holds tensors and plain values only, so that
``torch.load(path, weights_only=True)`` reads it, which is also how it is read here.

May import: `sigmine`, `sigmine_nn.exceptions`, and `context` and `full_capacity` of this package.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sigmine._atomic import atomic_path
from sigmine.exceptions import FileFormatError, InputError

from .context import CupCurriculum
from .full_capacity import FullCapacity

__all__ = ["Curriculum", "load_training", "save_training"]

Curriculum = CupCurriculum | FullCapacity

FORMAT, VERSION = "sigmine training", 1
_PLAIN = (type(None), bool, int, float, str)
_MAPPINGS = (dict, OrderedDict, Counter)


def save_training(
    path: str | os.PathLike[str],
    curriculum: Curriculum,
    *,
    scheduler: Any = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Save where a training is: model, optimiser, curriculum, and more.

    Parameters
    ----------
    path : str or path-like
        File to write; a file that is there is replaced when the new one is complete.
    curriculum : CupCurriculum or FullCapacity
        Knows its model and its optimiser.
    scheduler : object, optional
        Of the learning rate: something with a ``state_dict``.
    extra : mapping, optional
        More to remember, in tensors and plain values: the number of the epoch, the state of a
        random generator (``torch.get_rng_state()``).

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the file cannot be written, or something holds more than tensors and plain values.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model": dict(curriculum.model.state_dict()),
        "optimizer": curriculum.optimizer.state_dict(),
        "curriculum": curriculum.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "extra": None if extra is None else dict(extra),
    }
    for name, part in content.items():
        _check_plain(name, part)
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    return Path(path)


def _check_plain(name: str, part: Any) -> None:
    """Refuse what could not be read back without running code."""
    if type(part) in _PLAIN or isinstance(part, Tensor):
        return
    if type(part) in _MAPPINGS:
        for key, value in part.items():
            _check_plain(f"{name}[{key!r}]", value)
    elif type(part) in (list, tuple, set):
        for number, value in enumerate(part):
            _check_plain(f"{name}[{number}]", value)
    else:
        raise InputError(
            f"{name} is a {type(part).__name__}, and a file with it could not be read safely; save "
            "tensors and plain values only (numbers, strings, lists and dictionaries of them)."
        )


def load_training(
    path: str | os.PathLike[str], curriculum: Curriculum, *, scheduler: Any = None
) -> Any:
    """Go back to where a training was.

    Parameters
    ----------
    path : str or path-like
        A file of `save_training`. It may come from a stranger: nothing in it is run.
    curriculum : CupCurriculum or FullCapacity
        Made anew with the same settings, around a model and an optimiser that were made anew.
    scheduler : object, optional
        As it was saved.

    Returns
    -------
    object
        What was saved as `extra`.

    Raises
    ------
    FileFormatError
        If it is no such file, or damaged.
    InputError
        If it is of another model, optimiser or curriculum; nothing is changed then.
    """
    content = _read(path)
    try:
        _check_model(curriculum.model.state_dict(), content["model"])
        curriculum.check_state(content["curriculum"])
        _load_optimizer(curriculum.optimizer, content["optimizer"])
        curriculum.model.load_state_dict(content["model"])
        curriculum.load_state_dict(content["curriculum"])
        if scheduler is not None:
            scheduler.load_state_dict(content["scheduler"])
        return content["extra"]
    except (KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"the saved training is incomplete ({type(error).__name__}: {error}); expected a file "
            "that save_training has written. Save it again, or begin anew.",
            str(path),
        ) from error


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive raises whatever it likes
        reason = str(error).partition("\n")[0]
        raise FileFormatError(
            f"this is no saved training, or it is damaged ({type(error).__name__}: "
            f"{reason[:200]}); expected a file that save_training has written.",
            str(path),
        ) from error
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT or content.get("version") != VERSION:
        raise FileFormatError(
            f"this is a file of format {found!r}; expected {FORMAT!r}, version {VERSION}. Give a "
            "file that save_training has written.",
            str(path),
        )
    return dict(content)


def _check_model(mine: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    if different := sorted(set(mine) ^ set(saved)):
        where = "model" if different[0] in mine else "file"
        raise InputError(
            f"{different[0]!r} is in the {where} only; continue with the model that was saved."
        )
    for name, tensor in mine.items():
        other = saved[name]
        if not isinstance(tensor, Tensor):
            continue
        if not isinstance(other, Tensor) or other.shape != tensor.shape:
            found = tuple(other.shape) if isinstance(other, Tensor) else type(other).__name__
            raise InputError(
                f"{name!r} is {found} in the file, and has shape {tuple(tensor.shape)} in the "
                "model; continue with the model that was saved."
            )


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    try:
        optimizer.load_state_dict(dict(saved))
    except ValueError as error:
        raise InputError(
            f"the saved optimiser does not fit to {type(optimizer).__name__} ({error}); make it "
            "for the same parameters in the same groups."
        ) from error
