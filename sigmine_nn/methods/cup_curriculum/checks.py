"""What a curriculum refuses or doubts before it begins, and before it goes on from a saved state.

May import: `sigmine`, everything of `sigmine_nn` but `methods` and `cli`, and `cohorts` and
`updates` of this package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sigmine.exceptions import DataWarning, InputError, SigmineWarning

from ...exceptions import ModelError
from ...growth import MaskHistory
from ...schedules import Cup, Schedule, count_removed
from .cohorts import Scope
from .updates import Updates

__all__ = ["check_history", "check_same", "check_training", "doubts"]

# Optimisers whose steps hardly depend on the size of gradients.
_ADAPTIVE = (
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.RMSprop,
    torch.optim.Rprop,
)


def check_training(
    weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, schedule: Schedule
) -> None:
    """Refuse an optimiser without some of the weights, and a schedule with too many levels.

    Parameters
    ----------
    weights : mapping of str to Parameter
        Those that may lose entries.
    optimizer : Optimizer
        That is to train them.
    schedule : Schedule
        How much goes.

    Raises
    ------
    ModelError, InputError
        For the one, and for the other.
    """
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if missing := [name for name, p in weights.items() if id(p) not in known]:
        raise ModelError(
            f"{missing[0]!r} may lose entries, and the optimiser does not have it; give the "
            "optimiser of this model, or leave the weight out with prunable=."
        )
    if schedule.n_levels >= MaskHistory.NEVER:
        raise InputError(
            f"the schedule removes entries {schedule.n_levels} times, and a byte can number "
            f"{MaskHistory.NEVER - 1}; remove more each time."
        )


def doubts(
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    scope: Scope,
    updates: Updates,
) -> Iterator[Warning]:
    """Go through what will hardly be what was meant.

    Parameters
    ----------
    weights, optimizer, schedule
        As in `check_training`.
    scope : Scope
        Which entries are ranked together.
    updates : Updates
        How weights learn while capacity grows.

    Yields
    ------
    Warning
        A `DataWarning` if a weight loses all its entries, a `SigmineWarning` if rates are asked of
        an optimiser that divides by the size of gradients.
    """
    # The emptiest network of a cup is never trained.
    deepest = schedule.n_levels - isinstance(schedule, Cup)
    bottom = schedule.sparsity_of(deepest)
    sizes = {name: weight.numel() for name, weight in weights.items()}
    small = [name for name, n in sizes.items() if count_removed(n, bottom) == n]
    if small and scope is Scope.TENSOR:
        more = f" (so for {len(small) - 1} more)" if len(small) > 1 else ""
        yield DataWarning(
            f"{small[0]!r} has {sizes[small[0]]} entries, and round(n x {bottom:.4g}) removes them "
            f"all{more}; leave such weights out with prunable=, remove less, or rank with "
            "scope='global'."
        )
    if updates is Updates.DYNAMIC and isinstance(optimizer, _ADAPTIVE):
        yield SigmineWarning(
            f"updates='dynamic' multiplies gradients, and {type(optimizer).__name__} divides by "
            "their size, so that it is nearly 'identical'; use SGD for it."
        )


def check_same(mine: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuse a state of other settings.

    Parameters
    ----------
    mine, saved : mapping of str to object
        Settings of the curriculum, and of the one that was saved.

    Raises
    ------
    InputError
        For the first that differs.
    """
    for key, value in mine.items():
        if (other := saved.get(key)) != value:
            raise InputError(
                f"the state was made with {key}={other!r}, and this curriculum has {value!r}; make "
                "it with the same settings, or begin anew."
            )


def check_history(name: str, weight: Tensor, saved: Mapping[str, Any]) -> None:
    """Refuse a saved history of masks that is none of a weight.

    Parameters
    ----------
    name : str
        Of the weight.
    weight : Tensor
        The weight.
    saved : mapping of str to Tensor
        The histories that were saved.

    Raises
    ------
    InputError
        If it is missing, or of another dtype or shape.
    """
    tensor = saved.get(name)
    if not isinstance(tensor, Tensor) or tensor.dtype != torch.uint8:
        found = "nothing" if tensor is None else getattr(tensor, "dtype", type(tensor).__name__)
        raise InputError(
            f"the state holds {found} as the masks of {name!r}; expected a tensor of uint8."
        )
    if tensor.shape != weight.shape:
        raise InputError(
            f"the state's masks of {name!r} have shape {tuple(tensor.shape)}, and the weight "
            f"{tuple(weight.shape)}; load the state into the model that it was saved from."
        )
