"""Which weights a curriculum may remove, as element units of the engine, and what each is worth.

May import: `sigmine`, everything of `sigmine_nn` but `methods` and `cli`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sigmine.exceptions import InputError, InputTypeError

from ...calibrate import calibrate
from ...criteria import Criterion, Scoring, get_criterion
from ...criteria.base import sum_over_slices
from ...exceptions import CalibrationError, ModelError
from ...scores import ScoreTable
from ...units import Kind, Role, Slice, UnitGroup, Units

__all__ = [
    "Prunable",
    "criterion_of",
    "element_units",
    "magnitude_increase",
    "prunable_weights",
    "scores_of_weights",
    "seed_of",
]

Prunable = str | Collection[str] | Callable[[str, nn.Parameter], bool]

_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Embedding,
    nn.EmbeddingBag,
)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def prunable_weights(model: nn.Module, prunable: Prunable = "layers") -> dict[str, nn.Parameter]:
    """Return the weights whose entries may be removed.

    Parameters
    ----------
    model : Module
        The network.
    prunable : {"layers", "weight"}, collection of str or callable, default="layers"
        "layers": the weights of linear and convolutional layers and of embeddings, and the
        projections of ``nn.MultiheadAttention``. "weight": every parameter whose name contains
        "weight", as in the published program; those of normalisations are among them. Or names of
        parameters; or a function of name and parameter that says whether it may be pruned.

    Returns
    -------
    dict of str to Parameter
        In the order of ``named_parameters``, a tied weight once; only those that are trained
        (``requires_grad``).

    Raises
    ------
    ModelError
        If there is none, if a name is not one of the model's trained parameters, or if masks or
        other parametrizations are on a layer.
    InputError, InputTypeError
        For another word, or what is no filter.
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"model is a {type(model).__name__}; it must be a torch.nn.Module.")
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            raise ModelError(
                f"layer {name!r} is parametrized (masks are, for example), and a curriculum works "
                "on plain parameters; merge the masks, or remove the parametrizations, first."
            )
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    chosen = _chosen(model, trained, prunable)
    if not chosen:
        raise ModelError(
            f"prunable={prunable!r} leaves none of the {len(trained)} trained parameters of "
            f"{type(model).__name__}; name some, for example "
            f"{', '.join(map(repr, list(trained)[:3]))}."
        )
    for name, parameter in chosen.items():
        if not parameter.is_floating_point() or parameter.numel() == 0:
            raise ModelError(
                f"{name!r} has shape {tuple(parameter.shape)} and dtype {parameter.dtype}; only "
                "floating parameters with entries can be pruned. Leave it out with prunable=."
            )
    return chosen


def _chosen(
    model: nn.Module, trained: Mapping[str, nn.Parameter], prunable: Prunable
) -> dict[str, nn.Parameter]:
    """Return the trained parameters that a filter lets through."""
    if isinstance(prunable, str):
        if prunable == "weight":
            return {name: p for name, p in trained.items() if "weight" in name}
        if prunable != "layers":
            raise InputError(
                f"prunable={prunable!r} is not known; use 'layers', 'weight', a list of names of "
                "parameters, or a function of (name, parameter)."
            )
        wanted = {id(p) for p in _of_layers(model)}
        return {name: p for name, p in trained.items() if id(p) in wanted}
    if callable(prunable):
        return {name: p for name, p in trained.items() if prunable(name, p)}
    if not isinstance(prunable, Collection):
        raise InputTypeError(
            f"prunable is a {type(prunable).__name__}; give 'layers', 'weight', a list of names of "
            "parameters, or a function of (name, parameter)."
        )
    if missing := [name for name in prunable if name not in trained]:
        raise ModelError(
            f"prunable names {missing[0]!r}, which is no trained parameter of "
            f"{type(model).__name__}; there are {', '.join(list(trained)[:20])}"
            f"{', ...' if len(trained) > 20 else ''}."
        )
    return {name: p for name, p in trained.items() if name in set(prunable)}


def _of_layers(model: nn.Module) -> Iterator[nn.Parameter]:
    for module in model.modules():
        attention = _ATTENTION if isinstance(module, nn.MultiheadAttention) else ()
        for name in ("weight",) if isinstance(module, _LAYERS) else attention:
            if isinstance(parameter := module._parameters.get(name), nn.Parameter):
                yield parameter


def element_units(weights: Mapping[str, nn.Parameter]) -> Units:
    """Return every entry of some weights as a unit; groups have the names of the parameters.

    Parameters
    ----------
    weights : mapping of str to Parameter
        By name.

    Returns
    -------
    Units
        In the order of the mapping, and of the flattened weights.
    """
    groups = tuple(
        UnitGroup(name, Kind.ELEMENT, p.numel(), (Slice(name, None, Role.IN),), removable=False)
        for name, p in weights.items()
    )
    return Units(groups, {name: tuple(p.shape) for name, p in weights.items()})


# -- What a weight is worth --------------------------------------------------------------------


def magnitude_increase(initial: Mapping[str, Tensor]) -> Criterion:
    """Return the criterion abs(w) - abs(w0): weights that have grown stay.

    Parameters
    ----------
    initial : mapping of str to Tensor
        The initial values w0 by the name of the parameter.

    Returns
    -------
    Criterion
        For single weights; a unit of several gets the sum. NaN for what has no initial values.

    Notes
    -----
    One of the mask criteria of [1]_, and the one of the published program of the Cup Curriculum.
    It measures growth against the initialisation: a weight that began large and has shrunk goes
    before a small one that stayed.

    References
    ----------
    .. [1] H. Zhou, J. Lan, R. Liu and J. Yosinski, "Deconstructing lottery tickets: zeros, signs,
       and the supermask", NeurIPS (2019), arXiv:1905.01067.

    Examples
    --------
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.constant_(layer.weight, -3.0)
    >>> units = element_units(dict(layer.named_parameters()))
    >>> rule = magnitude_increase({"weight": torch.tensor([[1.0, 4.0]])})
    >>> rule(Scoring.of(layer, units)).score.tolist()
    [2.0, -1.0]
    """
    return Criterion(
        "magnitude_increase",
        _increase,
        "abs(w) - abs(w0)",
        "H. Zhou, J. Lan, R. Liu, J. Yosinski, Deconstructing lottery tickets, NeurIPS 2019",
        options={"initial": dict(initial)},
    )


def _increase(scoring: Scoring, *, initial: Mapping[str, Tensor]) -> ScoreTable:
    grown = {
        name: weight.double().abs() - initial[name].to(weight.device).double().abs()
        for name, weight in scoring.tensors.items()
        if name in initial
    }
    total = sum_over_slices(scoring.units, grown, biases=True)
    return ScoreTable(scoring.units, total, "magnitude_increase")


def criterion_of(criterion: str | Criterion, initial: Mapping[str, Tensor]) -> Criterion:
    """Return a criterion by name; "magnitude_increase" is one of the names here.

    Parameters
    ----------
    criterion : str or Criterion
        One of `sigmine_nn.criteria.CRITERIA`, "magnitude_increase", or one of your own.
    initial : mapping of str to Tensor
        The initial values, for "magnitude_increase".

    Returns
    -------
    Criterion

    Raises
    ------
    InputError
        For a name that is not known.
    """
    if criterion == "magnitude_increase":
        return magnitude_increase(initial)
    return get_criterion(criterion)


def scores_of_weights(
    model: nn.Module,
    units: Units,
    criterion: Criterion,
    *,
    data: Any = None,
    loss: str | Callable[..., Tensor] | None = None,
    n_batches: int | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Score every entry of the weights as they are.

    Parameters
    ----------
    model : Module
        The network; left as it was.
    units : Units
        Of `element_units`.
    criterion : Criterion
        High scores stay.
    data, loss, n_batches
        As in `score_units`, for criteria that look at data.
    seed : int, default=0
        For criteria that draw random numbers.

    Returns
    -------
    dict of str to Tensor of float64, shape (n_entries,)
        By the name of the parameter.

    Raises
    ------
    CalibrationError
        If the criterion needs data and there are none.
    InputError
        If a score is not defined: exact counts leave no room for that.
    """
    calibration = None
    if criterion.needs_data:
        if data is None:
            raise CalibrationError(
                f"criterion {criterion.name!r} looks at what the network does with data, and there "
                "are none; give batches when a cycle ends (data=, loss=)."
            )
        calibration = calibrate(
            model,
            data,
            units,
            criterion.statistics,
            loss=loss,
            n_batches=n_batches,
            keep_samples=criterion.needs_samples,
        )
    with torch.no_grad():
        table = criterion(Scoring.of(model, units, calibration, seed))
    scores = units.split(table.score)
    undefined = [name for name, values in scores.items() if bool(values.isnan().any())]
    if undefined:
        raise InputError(
            f"criterion {criterion.name!r} is not defined for entries of {undefined[0]!r}"
            f"{f' and {len(undefined) - 1} more' if len(undefined) > 1 else ''}; every entry that "
            "may go needs a score. Choose another criterion, or leave the weight out with "
            "prunable=."
        )
    return scores


def seed_of(seed: int, *key: int) -> int:
    """Return a seed that belongs to a seed and some numbers, whatever was drawn before."""
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0] >> 1)
