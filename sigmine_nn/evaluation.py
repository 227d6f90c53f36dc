"""How good a network is on data: mean loss and accuracy, with their standard errors.

May import: `sigmine`, `sigmine_nn.objective`, `sigmine_nn.state`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .exceptions import CalibrationError
from .objective import Objective, batches, length_of, moved
from .state import unchanged

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """The quality of a network on data.

    Attributes
    ----------
    n_samples : int
        Samples.
    loss, loss_error : float
        Mean loss, and its standard error (NaN for one sample).
    accuracy, accuracy_error : float or None
        Share of the samples whose class has the largest output, and its standard error; None where
        outputs are no scores of classes.
    """

    n_samples: int
    loss: float
    loss_error: float
    accuracy: float | None = None
    accuracy_error: float | None = None


def evaluate(
    model: nn.Module,
    data: object,
    *,
    loss: str | Callable[..., Tensor] | None = None,
    n_batches: int | None = None,
) -> Evaluation:
    """Ask a network, in evaluation mode, how good it is.

    Parameters
    ----------
    model : Module
        The network; left as it was found.
    data : iterable of batches
        As in `calibrate`.
    loss : str, callable or None, default=None
        As in `calibrate`.
    n_batches : int, optional
        Batches at most.

    Returns
    -------
    Evaluation

    Raises
    ------
    CalibrationError
        If there is no batch, or no loss.
    """
    objective = Objective(loss)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    losses: list[Tensor] = []
    hits: list[Tensor] = []
    with unchanged(model), torch.no_grad():
        model.eval()
        for batch in batches(data, n_batches):
            batch = moved(batch, device)
            outputs = None  # of the model as it is; losses may ask it for something else
            if not objective.takes_model and objective.loss is not None:
                outputs = objective.outputs(model, batch)
            losses.append(objective.per_sample(model, batch, outputs).cpu())
            right = _right(outputs, batch)
            if right is not None:
                hits.append(right.cpu())
    if not losses:
        raise CalibrationError("data holds no batch; give at least one.")
    values = torch.cat(losses)
    n = len(values)
    error = float(values.std() / math.sqrt(n)) if n > 1 else math.nan
    accuracy = accuracy_error = None
    if sum(map(len, hits)) == n:
        accuracy = float(torch.cat(hits).double().mean())
        accuracy_error = math.sqrt(accuracy * (1.0 - accuracy) / n)
    return Evaluation(n, float(values.mean()), error, accuracy, accuracy_error)


def _right(outputs: object, batch: object) -> Tensor | None:
    """Say for every sample whether its class has the largest output; None if there are none."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        return None
    targets = batch[1]
    if (
        not isinstance(outputs, Tensor)
        or not isinstance(targets, Tensor)
        or outputs.ndim != 2
        or outputs.shape[1] < 2
        or targets.is_floating_point()
        or targets.shape != (length_of(batch),)
    ):
        return None
    return outputs.argmax(dim=1) == targets
