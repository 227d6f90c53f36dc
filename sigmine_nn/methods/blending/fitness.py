"""How well a network does without the filters that a blend ranks last: the loss on held-out data.

Losses are kept by mask, so that no mask is tried twice, and can be kept in a file: they depend on
the network and the data alone, and a search that replays its steps with known losses is where it
was.

May import: `sigmine`, and everything of `sigmine_nn` below `methods`; `.recipe_file`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sigmine._atomic import atomic_write, require_writable
from sigmine.exceptions import FileFormatError, InputError

from ...evaluation import evaluate
from ...exceptions import CalibrationError
from ...masks import apply_masks
from ...surgery import recalibrate_batchnorm, remove_units
from ...units import Units
from .recipe_file import read_object

__all__ = ["HeldOut", "LossCache", "key_of"]

Mask = NDArray[np.bool_]
Loss = str | Callable[..., Tensor] | None

FORMAT = "sigmine blend search losses"
VERSION = 1


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A network and the data on which it is tried without some of its filters.

    Attributes
    ----------
    model : Module
        The network; left as it is.
    units : Units
        Its filters.
    data : list of batches
        For the running statistics of batch normalisations.
    search_data : list of batches
        For the loss.
    loss : str, callable or None
        As in `evaluate`.
    """

    model: nn.Module
    units: Units
    data: list[Any] = field(repr=False)
    search_data: list[Any] = field(repr=False)
    loss: Loss

    def loss_of(self, keep: Mask) -> float:
        """Return the mean held-out loss without some filters, with batch norm recalibrated.

        Parameters
        ----------
        keep : ndarray of bool, shape (n_units,)
            The filters that stay.

        Returns
        -------
        float
            Infinite where losses or statistics are not finite.
        """
        if all(group.removable for group in self.units):
            small, _ = remove_units(self.model, self.units, keep)
        else:
            small = copy.deepcopy(self.model)
            apply_masks(small, self.units, keep)
        try:
            if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in small.modules()):
                recalibrate_batchnorm(small, self.data)
            return evaluate(small, self.search_data, loss=self.loss).loss
        except CalibrationError:  # the whole network was asked before: it is this mask
            return math.inf

    def losses_of(self, keeps: Sequence[Mask], parent: int) -> list[float]:
        """Return the losses of several masks, in one thread where this is another process.

        Parameters
        ----------
        keeps : sequence of ndarray of bool
            The masks.
        parent : int
            Process that asks.

        Returns
        -------
        list of float
        """
        if os.getpid() != parent:
            torch.set_num_threads(1)
        return [self.loss_of(keep) for keep in keeps]

    def digest(self) -> str:
        """Return a hash of all that losses depend on, but for the code of a loss of one's own."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            _add(found, name, tensor)
        for group in self.units:
            found.update(repr((group.name, str(group.kind), group.n_units)).encode())
            for piece in group.slices:
                found.update(repr((piece.parameter, piece.axis, str(piece.role))).encode())
                if piece.index is not None:
                    found.update(np.ascontiguousarray(piece.index).tobytes())
        for place, batches in enumerate((self.data, self.search_data)):
            _add(found, f"data {place}", batches)
        loss = getattr(self.loss, "__qualname__", None) or repr(self.loss)
        found.update(f"{type(self.model).__qualname__} {loss}".encode())
        return found.hexdigest()


def _add(found: Any, name: str, value: Any) -> None:
    """Add tensors, and containers of them, to a hash."""
    found.update(name.encode())
    if isinstance(value, Tensor):
        found.update(repr((tuple(value.shape), str(value.dtype))).encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        found.update(flat.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key, item in value.items():
            _add(found, str(key), item)
    elif isinstance(value, tuple | list):
        for number, item in enumerate(value):
            _add(found, str(number), item)
    elif isinstance(value, str | int | float | bool):
        found.update(repr(value).encode())


def key_of(keep: Mask) -> str:
    """Return a mask as a word: its bits in hexadecimal.

    Parameters
    ----------
    keep : ndarray of bool, shape (n,)
        The mask.

    Returns
    -------
    str
    """
    return np.packbits(keep).tobytes().hex()


class LossCache:
    """Losses by mask: each is found once, in this process or in several, and kept in a file.

    Parameters
    ----------
    held_out : HeldOut
        Finds them.
    n_jobs : int, default=1
        Processes of joblib; the losses are the same for every number of them.
    checkpoint : str or path-like, optional
        File that losses are read from and written to.

    Attributes
    ----------
    losses : dict of str to float
        By the key of the mask.
    n_found : int
        How many were found here, not read.

    Raises
    ------
    InputError
        If the file cannot be written, or holds losses of another network or other data.
    FileFormatError
        If it is no such file, or damaged.
    """

    def __init__(
        self,
        held_out: HeldOut,
        n_jobs: int | None = 1,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        self.held_out, self.n_jobs = held_out, n_jobs
        self.losses: dict[str, float] = {}
        self.n_found = 0
        self._path = None if checkpoint is None else require_writable(checkpoint)
        self._digest = "" if checkpoint is None else held_out.digest()
        if self._path is not None and self._path.exists():
            self.losses = _read(self._path, self._digest, held_out.units.n)

    def find(self, keeps: Iterable[Mask]) -> None:
        """Find the losses of masks that are not known yet.

        Parameters
        ----------
        keeps : iterable of ndarray of bool, shape (n_units,)
            Masks, each as often as you like.

        Notes
        -----
        What was found before an interrupt stays, and is in the file; with several processes that
        is what earlier calls have found.
        """
        new = {key_of(keep): keep for keep in keeps}
        new = {key: keep for key, keep in new.items() if key not in self.losses}
        if not new:
            return
        try:
            with _one_thread():
                for key, loss in self._found(new):
                    self.losses[key] = loss
                    self.n_found += 1
        finally:
            self._save()

    def _found(self, new: dict[str, Mask]) -> Iterator[tuple[str, float]]:
        from joblib import Parallel, delayed, effective_n_jobs

        masks = list(new.values())
        n_jobs = min(effective_n_jobs(self.n_jobs), len(masks))
        if n_jobs == 1:
            for key, keep in new.items():
                yield key, self.held_out.loss_of(keep)
            return
        # One part a process: the network is sent once for many masks.
        parts = [masks[start::n_jobs] for start in range(n_jobs)]
        found = Parallel(n_jobs=n_jobs)(
            delayed(self.held_out.losses_of)(part, os.getpid()) for part in parts
        )
        for start, losses in enumerate(found):
            yield from zip(list(new)[start::n_jobs], losses, strict=True)

    def _save(self) -> None:
        if self._path is None:
            return
        content = {
            "format": FORMAT,
            "version": VERSION,
            "configuration": self._digest,
            "losses": {k: v if math.isfinite(v) else None for k, v in self.losses.items()},
        }
        atomic_write(self._path, json.dumps(content, allow_nan=False, indent=0))


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch: sums have one order then, here and in every other process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _read(path: Path, digest: str, n_units: int) -> dict[str, float]:
    """Return the losses in a file that a stranger may have written."""
    advice = "Delete it, or name another file as checkpoint."
    content = read_object(path, FORMAT, VERSION, advice)
    losses = content.get("losses")
    if content.get("configuration") != digest:
        raise InputError(
            f"{path} holds losses of another network, or on other data, than these; they would "
            f"mean nothing here. {advice}"
        )
    if not isinstance(losses, dict):
        raise FileFormatError(f"its losses are no object. {advice}", path=str(path))
    length = 2 * ((n_units + 7) // 8)
    for key, loss in losses.items():
        if len(key) != length or set(key) - set("0123456789abcdef"):
            raise FileFormatError(
                f"{key[:40]!r} is no mask of {n_units} filters. {advice}", path=str(path)
            )
        fine = loss is None or (type(loss) in (int, float) and abs(loss) < 1e300)
        if not fine:
            raise FileFormatError(
                f"the loss of mask {key[:40]!r} is {str(loss)[:40]}, expected a number or null. "
                f"{advice}",
                path=str(path),
            )
    return {key: math.inf if loss is None else float(loss) for key, loss in losses.items()}
