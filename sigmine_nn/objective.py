"""From a batch to losses: what data may look like, and how a model is asked.

A batch is ``(inputs, targets)`` (tensors, or tuples or mappings of inputs), a mapping that a model
takes as keyword arguments and answers with ``.loss`` (Hugging Face), or anything at all where the
loss is a function of ``(model, batch)``. The loss is a mean over the samples of the batch.

May import: `sigmine`, `sigmine_nn.exceptions`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sigmine.exceptions import InputTypeError

from .exceptions import CalibrationError

__all__ = ["Objective", "batches", "length_of", "moved", "rows"]

_NAMED: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": nn.functional.cross_entropy,
    "mse": nn.functional.mse_loss,
}


def batches(data: object, limit: int | None = None) -> Iterator[Any]:
    """Go through the batches of calibration data.

    Parameters
    ----------
    data : iterable of batches
        A DataLoader, a list, a generator.
    limit : int or None, default=None
        Batches at most.

    Yields
    ------
    object
        A batch.

    Raises
    ------
    InputTypeError
        If it is no iterable; a single tensor is refused too, since its rows would be taken for
        batches.
    """
    if isinstance(data, Tensor | Mapping | str) or not isinstance(data, Iterable):
        raise InputTypeError(
            f"data is a {type(data).__name__}; it must be an iterable of batches, such as a "
            "DataLoader or a list of (inputs, targets). Put a single batch into a list."
        )
    for number, batch in enumerate(data):
        if limit is not None and number >= limit:
            return
        yield batch


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on a device.

    Parameters
    ----------
    batch : object
        Tensors, and tuples, lists and mappings of them.
    device : device
        Where to.

    Returns
    -------
    object
    """
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return _like(batch, [moved(value, device) for value in batch])
    return batch


def _like(batch: Any, values: list[Any]) -> Any:
    """Return values in a sequence of the same type; named tuples take them one by one."""
    return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)


def length_of(batch: Any) -> int:
    """Return how many samples a batch holds: the first size of its first tensor.

    Parameters
    ----------
    batch : object
        As in `moved`.

    Returns
    -------
    int

    Raises
    ------
    CalibrationError
        If there is no tensor in it, or no sample.
    """
    first = next(_tensors(batch), None)
    if first is None or first.ndim == 0 or len(first) == 0:
        shape = "no tensor" if first is None else f"a tensor of shape {tuple(first.shape)}"
        raise CalibrationError(
            f"a batch holds {shape}; it must hold tensors with a sample a row, at least one."
        )
    return len(first)


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, tuple | list):
        for value in batch:
            yield from _tensors(value)


def _kind_of(loss: Any) -> str | None:
    """Return the name of a loss that is one of the named ones, without options; None otherwise."""
    for name, function in _NAMED.items():
        if loss is function:
            return name
    if type(loss) is nn.MSELoss and loss.reduction == "mean":
        return "mse"
    if type(loss) is nn.CrossEntropyLoss and loss.reduction == "mean":
        return "cross_entropy" if loss.weight is None and loss.label_smoothing == 0.0 else None
    return None


class Objective:
    """How a batch becomes a loss.

    Parameters
    ----------
    loss : str, callable or None
        "cross_entropy" or "mse"; a function of ``(outputs, targets)``, such as
        ``nn.CrossEntropyLoss()``; a function of ``(model, batch)`` (its parameters must have these
        names); or None where the model itself returns one as ``.loss``, or none is needed.

    Attributes
    ----------
    kind : {"cross_entropy", "mse"} or None
        Which of these it is, without options; None for others.

    Raises
    ------
    InputTypeError
        If it is none of these.
    """

    def __init__(self, loss: str | Callable[..., Tensor] | None = None) -> None:
        if isinstance(loss, str):
            if loss not in _NAMED:
                raise InputTypeError(
                    f"loss={loss!r} is not known; name one of {', '.join(_NAMED)}, or give a "
                    "function of (outputs, targets) or of (model, batch)."
                )
            loss = _NAMED[loss]
        if loss is not None and not callable(loss):
            raise InputTypeError(
                f"loss={loss!r} is a {type(loss).__name__}; it must be a name, None, or a function "
                "of (outputs, targets) or of (model, batch)."
            )
        self.loss = loss
        self.kind = _kind_of(loss)
        self.takes_model = loss is not None and _parameters(loss)[:2] == ["model", "batch"]

    def outputs(self, model: nn.Module, batch: Any) -> Any:
        """Return what the model makes of a batch.

        Parameters
        ----------
        model : Module
            The model.
        batch : object
            The batch; of a pair of inputs and targets only the inputs are used.

        Returns
        -------
        object
        """
        if isinstance(batch, Mapping):
            return model(**batch)
        inputs = batch[0] if isinstance(batch, tuple | list) else batch
        if isinstance(inputs, Mapping):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a batch.

        Parameters
        ----------
        model : Module
            The model.
        batch : object
            The batch.

        Returns
        -------
        Tensor, shape ()

        Raises
        ------
        CalibrationError
            If there is no loss, or it is no finite number.
        """
        value = self.value(model, batch)
        if value.ndim != 0:
            raise CalibrationError(
                f"the loss has shape {tuple(value.shape)}; it must be one number, the mean over "
                "the samples of the batch. Use reduction='mean'."
            )
        if not torch.isfinite(value):
            raise CalibrationError(
                f"the loss of a batch is {value.item()}; scores of it would mean nothing. Look for "
                "NaN in the data or the weights."
            )
        return value

    def value(self, model: nn.Module, batch: Any, *, outputs: Any = None, **options: Any) -> Tensor:
        """Return what the loss makes of a batch, without a look at its value.

        Parameters
        ----------
        model : Module
            The model.
        batch : object
            The batch.
        outputs : object, optional
            What the model makes of it, where that is known; for losses of outputs and targets.
        **options
            Of the loss, such as ``reduction``.

        Returns
        -------
        Tensor

        Raises
        ------
        CalibrationError
            If there is no loss, no targets, or what comes out is no tensor.
        """
        if self.loss is None:
            value = getattr(self.outputs(model, batch), "loss", None)
            if not isinstance(value, Tensor):
                raise CalibrationError(
                    "no loss was given and the model returns none as .loss; give loss=, for "
                    "example 'cross_entropy' with batches of (inputs, targets)."
                )
            return value
        if self.takes_model:
            value = self.loss(model, batch, **options)
        else:
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise CalibrationError(
                    f"a batch is a {type(batch).__name__}, and the loss needs targets; give pairs "
                    "of (inputs, targets), or a loss that is a function of (model, batch)."
                )
            outputs = self.outputs(model, batch) if outputs is None else outputs
            value = self._reduced(outputs, batch[1], options)
        if not isinstance(value, Tensor):
            raise CalibrationError(
                f"the loss is a {type(value).__name__}; it must be a tensor with one number."
            )
        return value

    def _reduced(self, outputs: Any, targets: Any, options: dict[str, Any]) -> Tensor:
        assert self.loss is not None
        if isinstance(self.loss, nn.Module) and options:
            before = self.loss.reduction
            self.loss.reduction = options["reduction"]
            try:
                value: Tensor = self.loss(outputs, targets)
                return value
            finally:
                self.loss.reduction = before
        return self.loss(outputs, targets, **options)

    @torch.no_grad()
    def per_sample(self, model: nn.Module, batch: Any, outputs: Any = None) -> Tensor:
        """Return the loss of every sample of a batch, without gradients.

        Parameters
        ----------
        model : Module
            The model, in the mode in which it is to be asked.
        batch : object
            The batch.
        outputs : object, optional
            As in `value`.

        Returns
        -------
        Tensor of float64, shape (n_samples,)
            Losses that know ``reduction="none"`` are asked once for all samples, others once for
            each sample.

        Raises
        ------
        CalibrationError
            As when called.
        """
        n = length_of(batch)
        if self._knows_reduction:
            value = self.value(model, batch, outputs=outputs, reduction="none")
            losses = value.reshape(n, -1).double().mean(dim=1)
            if not bool(losses.isfinite().all()):
                first = int((~losses.isfinite()).to(torch.uint8).argmax())
                raise CalibrationError(
                    f"the loss of sample {first} of a batch is {losses[first].item()}; it must be "
                    "a finite number. Look for NaN in the data or the weights."
                )
            return losses
        return torch.stack([self(model, rows(batch, i, i + 1)).double() for i in range(n)])

    @property
    def _knows_reduction(self) -> bool:
        if isinstance(self.loss, nn.Module):
            return hasattr(self.loss, "reduction")
        return self.loss is not None and "reduction" in _parameters(self.loss)


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def rows(batch: Any, start: int, stop: int) -> Any:
    """Return some samples of a batch, as a batch.

    Parameters
    ----------
    batch : object
        As in `moved`; every tensor has a sample a row (numbers without rows stay).
    start, stop : int
        The first sample, and the one behind the last.

    Returns
    -------
    object
    """
    if isinstance(batch, Tensor):
        return batch[start:stop] if batch.ndim else batch
    if isinstance(batch, Mapping):
        return {key: rows(value, start, stop) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return _like(batch, [rows(value, start, stop) for value in batch])
    return batch
