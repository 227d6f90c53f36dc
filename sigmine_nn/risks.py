"""What a network costs on every sample: loss, mistakes, or a measure of one's own. Low is good.

May import: `sigmine`, `sigmine_nn.objective`, `sigmine_nn.state`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sigmine._checks import open_unit, whole_number
from sigmine.exceptions import InputError, InputTypeError

from .exceptions import CalibrationError
from .objective import Objective, batches, length_of

__all__ = ["Metric", "RiskOf", "split_data"]

Metric = str | Callable[[nn.Module, Any], Tensor]
"""`"loss"`, `"accuracy"`, or a function from a model and a batch to a risk for every sample."""


class RiskOf:
    """How a model and a batch become a risk for every sample.

    Parameters
    ----------
    metric : {"loss", "accuracy"} or callable
        The loss of the sample; 1 for a wrong class and 0 for the right one; or a function of
        ``(model, batch)`` that returns a tensor of shape (n_samples,), low for good.
    loss : str, callable or None, default=None
        As in `calibrate`; used by "loss".

    Raises
    ------
    InputTypeError
        If they are none of these.
    """

    def __init__(
        self, metric: Metric = "loss", loss: str | Callable[..., Tensor] | None = None
    ) -> None:
        if not callable(metric) and metric not in ("loss", "accuracy"):
            raise InputTypeError(
                f"metric={metric!r} is not known; choose 'loss', 'accuracy', or give a function of "
                "(model, batch) that returns a risk for every sample."
            )
        self.metric = metric
        self.objective = Objective(loss)

    @property
    def name(self) -> str:
        """Name of the metric."""
        return self.metric if isinstance(self.metric, str) else _name_of(self.metric)

    @torch.no_grad()
    def __call__(self, model: nn.Module, batch: Any) -> NDArray[np.float64]:
        """Return the risk of every sample of a batch.

        Parameters
        ----------
        model : Module
            The model, in the mode in which it is to be asked.
        batch : object
            The batch.

        Returns
        -------
        ndarray of float64, shape (n_samples,)

        Raises
        ------
        CalibrationError
            If there is not one finite number a sample.
        """
        if self.metric == "loss":
            risk = self.objective.per_sample(model, batch)
        elif self.metric == "accuracy":
            risk = _mistakes(self.objective.outputs(model, batch), batch)
        else:
            assert callable(self.metric)
            risk = self.metric(model, batch)
        n = length_of(batch)
        if not isinstance(risk, Tensor) or tuple(risk.shape) != (n,):
            found = tuple(risk.shape) if isinstance(risk, Tensor) else type(risk).__name__
            raise CalibrationError(
                f"metric {self.name!r} gave {found} for a batch of {n} samples; it must give a "
                f"tensor of shape ({n},), a number a sample."
            )
        values = risk.detach().cpu().double().numpy()
        if not np.isfinite(values).all():
            raise CalibrationError(
                f"metric {self.name!r} gave {values[~np.isfinite(values)][0]} for a sample; a mean "
                "of it would mean nothing. Look for NaN or overflow in the data or the weights."
            )
        return values


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _mistakes(outputs: Any, batch: Any) -> Tensor:
    """Return 1 for every sample whose largest output is not its class."""
    outputs = getattr(outputs, "logits", outputs)
    if isinstance(batch, Mapping):
        targets = batch.get("labels")
    else:
        targets = batch[1] if isinstance(batch, tuple | list) and len(batch) == 2 else None
    if not isinstance(targets, Tensor) or not isinstance(outputs, Tensor):
        raise CalibrationError(
            f"a batch is a {type(batch).__name__} without classes; metric 'accuracy' needs pairs "
            "of (inputs, classes), or a mapping with 'labels'."
        )
    if outputs.ndim != 2 or targets.ndim != 1:
        raise CalibrationError(
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}; metric "
            "'accuracy' needs (n_samples, n_classes) and (n_samples,). Give a function of (model, "
            "batch) for other outputs."
        )
    return (outputs.argmax(dim=1) != targets).double()


def split_data(
    data: object, shares: Sequence[float] = (0.5, 0.5), *, seed: int = 0
) -> tuple[list[Any], ...]:
    """Split data at random, sample by sample: one part to choose with, another to test with.

    A test on the data that chose its hypothesis finds what was put in: units that look harmless on
    some samples were chosen because of these samples. See the guarantees in the documentation.

    Parameters
    ----------
    data : iterable of batches
        All of it is held; batches as in `calibrate`, of tensors with a sample a row.
    shares : sequence of float, default=(0.5, 0.5)
        Share of every part, each in (0, 1), summing to at most 1; a rest is left out.
    seed : int, default=0
        Of the split.

    Returns
    -------
    tuple of list
        Batches of every part: each batch of `data` is split in these shares. No sample is in two
        parts. Batches without samples are left out.

    Raises
    ------
    InputError
        For shares that cannot be met, or a part that would be empty.
    """
    parts = [open_unit("shares", share, "0.5") for share in shares]
    if not parts or sum(parts) > 1 + 1e-9:
        raise InputError(
            f"shares={tuple(shares)!r} sum to {sum(parts):g}; give shares in (0, 1) that sum to at "
            "most 1, such as (0.5, 0.5)."
        )
    rng = np.random.default_rng(whole_number("seed", seed, 0))
    ends = np.concatenate([[0.0], np.cumsum(parts)])
    out: tuple[list[Any], ...] = tuple([] for _ in parts)
    seen = 0
    for batch in batches(data):
        n = length_of(batch)
        order = rng.permutation(n)
        # Where the parts end in all samples so far, so that rounding does not add up over batches.
        cuts = np.floor(ends * (seen + n) + 1e-9) - np.floor(ends * seen + 1e-9)
        cuts = np.maximum.accumulate(cuts).astype(int)  # rounded, they may cross
        for part, start, stop in zip(out, cuts[:-1], cuts[1:], strict=True):
            if stop > start:
                part.append(_rows(batch, torch.from_numpy(np.sort(order[start:stop])), n))
        seen += n
    if empty := [i for i, part in enumerate(out) if not part]:
        raise InputError(
            f"part {empty[0]} of {len(out)} got none of {seen} samples; give more data or fewer "
            "parts."
        )
    return out


def _rows(batch: Any, index: Tensor, n: int) -> Any:
    """Return some samples of a batch; what has no row a sample stays as it is."""
    if isinstance(batch, Tensor):
        return batch[index.to(batch.device)] if batch.ndim and len(batch) == n else batch
    if isinstance(batch, Mapping):
        return {key: _rows(value, index, n) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(_rows(value, index, n) for value in batch)
    return batch
