"""A blend of criteria as a criterion of the engine, and the normalisers that make one scale.

May import: `sigmine`, `sigmine_nn.criteria`, `.matrix`, `.recipe_file`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigmine._atomic import atomic_write
from sigmine._checks import one_of
from sigmine.exceptions import InputError, InputTypeError
from sigmine.ranking import normalise

from ...criteria import CRITERIA, Criterion, Scoring
from ...exceptions import ModelError
from ...scores import ScoreTable
from .matrix import CriteriaMatrix, Floats, filter_scores
from .recipe_file import as_json, from_json

__all__ = ["NORMALISERS", "BlendedCriterion", "blended", "normalised"]

NORMALISERS = ("rank", "max", "mean", "min-max", "z")
_OF_ENGINE = {"rank": "rank", "max": "max", "mean": "mean", "z": "standard"}
_TOLERANCE = 1e-9  # of the sum of factors

Recipe = Mapping[str, Mapping[str, float]]


def normalised(scores: Floats, normaliser: str) -> Floats:
    """Bring the scores of a layer to a scale that criteria share.

    Parameters
    ----------
    scores : ndarray of float64, shape (n_filters,)
        Finite.
    normaliser : {"rank", "max", "mean", "min-max", "z"}
        Average rank over the number of filters; the score over the largest or the mean absolute
        value; (score - smallest) / (largest - smallest); (score - mean) / standard deviation.

    Returns
    -------
    ndarray of float64, shape (n_filters,)
        Zeros where the divisor would be 0.
    """
    if normaliser == "min-max":
        return np.asarray(normalise(scores - scores.min(), "max"))
    return np.asarray(normalise(scores, _OF_ENGINE[normaliser]))


def blended(parts: Sequence[tuple[float, Floats]]) -> Floats:
    """Return the sum of factor times normalised score.

    Parameters
    ----------
    parts : sequence of (float, ndarray of shape (n_filters,))
        At least one.

    Returns
    -------
    ndarray of float64, shape (n_filters,)
        Added up in the order given, so that equal parts give equal numbers to the last bit.
    """
    total = np.zeros_like(parts[0][1])
    for factor, scores in parts:
        total += factor * scores
    return total


def blended_scores(
    scoring: Scoring,
    *,
    layers: Recipe,
    normaliser: str = "rank",
    name: str = "blend",
    own: Sequence[Criterion] = (),
) -> ScoreTable:
    """Score filters by a blend; the function of `BlendedCriterion`.

    Parameters
    ----------
    scoring : Scoring
        With all that the criteria of the blend look at.
    layers : mapping of str to mapping of str to float
        By layer and criterion, the calibration factors.
    normaliser : str, default="rank"
        As in `normalised`.
    name : str, default="blend"
        Of the table.
    own : sequence of Criterion, default=()
        Criteria that `CRITERIA` does not hold.

    Returns
    -------
    ScoreTable
        NaN on layers that the blend does not name, and on layers where a criterion that it takes
        there is not defined for some filter.

    Raises
    ------
    ModelError
        If the blend names none of the layers.
    InputError
        For an unknown normaliser.
    """
    one_of("normaliser", normaliser, NORMALISERS)
    units = scoring.units
    found = [layer for layer in units.names if layer in layers]
    if not found:
        raise ModelError(
            f"the blend is of the layers {', '.join(list(layers)[:10])}, and the units are of "
            f"{', '.join(units.names[:10])}; a blend scores the network that it was made for, or "
            "one with layers of the same names."
        )
    known = CRITERIA | {criterion.name: criterion for criterion in own}
    names = list(dict.fromkeys(name for layer in found for name in layers[layer]))
    rows = dict(zip(names, filter_scores(scoring, [known[name] for name in names]), strict=True))
    score = np.full(units.n, np.nan)
    for layer in found:
        where = units.range_of(layer)
        mine = slice(where.start, where.stop)
        parts = [(factor, rows[name][mine]) for name, factor in layers[layer].items()]
        if all(np.isfinite(values).all() for _, values in parts):
            score[mine] = blended([(factor, normalised(v, normaliser)) for factor, v in parts])
    device = next(iter(scoring.tensors.values())).device
    return ScoreTable(units, torch.from_numpy(score).to(device), name)


class BlendedCriterion(Criterion):
    """A blend of criteria, with factors of its own for every layer: a criterion like any other.

    Parameters
    ----------
    layers : mapping of str to mapping of str to float
        By the name of the layer and of the criterion, the calibration factors: not negative, with
        sum 1 on every layer, so that no two blends with different factors of the same criteria are
        the same by a scale.
    normaliser : {"rank", "max", "mean", "min-max", "z"}, default="rank"
        What makes the scores of a layer comparable, see Notes.
    name : str, default="blend"
        Of the criterion.
    own : sequence of Criterion, default=()
        Criteria that `CRITERIA` does not hold.

    Raises
    ------
    InputError
        For factors that are negative or do not add up to 1, unknown names, or no layer.
    InputTypeError
        For arguments of a wrong type.

    See Also
    --------
    search_blend : finds one.

    Notes
    -----
    The score of filter c of a layer is the sum over the criteria of factor x n(score)(c), with

    - "rank": average rank over the number of filters (of the lowest 1/n, of the highest 1);
      unchanged by every increasing transformation of a criterion;
    - "max", "mean": the score over the largest or the mean absolute score; unchanged by a positive
      factor;
    - "min-max", "z": from 0 to 1, or with mean 0 and standard deviation 1; unchanged by a positive
      factor and a shift.

    Of filters that several layers compute together the scores are mean ranks before anything else;
    see `CriteriaMatrix`. Additive factors and normalisers are ours: the published form of the
    calibration was not available.

    A blend is not a mean over samples, so that it has no standard errors; score it on resampled
    data and compare with `stability` to see how sure it is.

    Examples
    --------
    >>> blend = BlendedCriterion({"conv1": {"l2": 0.75, "bn_scale": 0.25}})
    >>> print(blend)
    blend of 1 layer, normalised by rank
    conv1  0.750 l2 + 0.250 bn_scale
    >>> blend.needs_data
    False
    """

    def __init__(
        self,
        layers: Recipe,
        normaliser: str = "rank",
        *,
        name: str = "blend",
        own: Sequence[Criterion] = (),
    ) -> None:
        one_of("normaliser", normaliser, NORMALISERS)
        if not isinstance(name, str) or not name:
            raise InputTypeError(f"name={name!r} is no name; give a string such as 'blend'.")
        known = CRITERIA | {criterion.name: criterion for criterion in own}
        recipe = _checked(layers, known)
        used = [known[n] for n in dict.fromkeys(n for part in recipe.values() for n in part)]
        super().__init__(
            name=name,
            function=blended_scores,
            formula=f"sum over criteria of factor x score, normalised by {normaliser} in its layer",
            source="after Y. He, L. Huang, Z. Liang, W. Liang, J. Yang, Blending pruning criteria "
            "for convolutional neural networks, ICANN 2021, arXiv:2107.05033",
            statistics=frozenset().union(*(criterion.statistics for criterion in used)),
            needs_loss=any(criterion.needs_loss for criterion in used),
            needs_samples=any(criterion.needs_samples for criterion in used),
            options={
                "layers": recipe,
                "normaliser": normaliser,
                "name": name,
                "own": tuple(criterion for criterion in own if criterion in used),
            },
        )

    @property
    def layers(self) -> dict[str, dict[str, float]]:
        """By layer and criterion, the calibration factors."""
        return {layer: dict(factors) for layer, factors in self.options["layers"].items()}

    @property
    def normaliser(self) -> str:
        """What makes the scores of a layer comparable."""
        return str(self.options["normaliser"])

    @property
    def criteria(self) -> list[str]:
        """Names of the criteria that occur."""
        return list(dict.fromkeys(name for factors in self.layers.values() for name in factors))

    @classmethod
    def equal(
        cls,
        matrix: CriteriaMatrix,
        names: Sequence[str] | None = None,
        normaliser: str = "rank",
        *,
        name: str = "mean_rank",
    ) -> BlendedCriterion:
        """Return the blend with equal factors: by rank, the mean rank of the criteria.

        Parameters
        ----------
        matrix : CriteriaMatrix
            Says which criteria are defined on which layer.
        names : sequence of str, optional
            The criteria; by default all.
        normaliser : str, default="rank"
            As above.
        name : str, default="mean_rank"
            Of the criterion.

        Returns
        -------
        BlendedCriterion
            Layers on which none of them is defined are left out.

        Raises
        ------
        InputError
            For a criterion that is not in the matrix, or is defined nowhere.
        """
        wanted = matrix.names if names is None else list(names)
        if unknown := sorted(set(wanted) - set(matrix.names)):
            raise InputError(
                f"criterion {unknown[0]!r} is not in the matrix; there are "
                f"{', '.join(matrix.names)}."
            )
        layers = {}
        for layer in matrix.units.names:
            there = [each for each in wanted if each in matrix.defined(layer)]
            if there:
                layers[layer] = {each: 1.0 / len(there) for each in there}
        return cls(layers, normaliser, name=name, own=own_of(matrix.criteria))

    def __str__(self) -> str:
        """Return the recipe, a line a layer."""
        count = f"{len(self.layers)} layer{'' if len(self.layers) == 1 else 's'}"
        width = max(map(len, self.layers))
        lines = [f"{self.name} of {count}, normalised by {self.normaliser}"]
        for layer, factors in self.layers.items():
            sum_ = " + ".join(f"{factor:.3f} {name}" for name, factor in factors.items())
            lines.append(f"{layer:{width}}  {sum_}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Return a short name of the blend."""
        return (
            f"BlendedCriterion({self.name!r}, {len(self.layers)} layers, "
            f"normaliser={self.normaliser!r})"
        )

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the recipe as JSON, and write it if there is a path.

        Parameters
        ----------
        path : str or path-like, optional
            File to write; written whole or not at all.

        Returns
        -------
        str
            Names and numbers only; factors come back bit by bit.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        names = [criterion.name for criterion in self.options["own"]]
        text = as_json(self.name, self.normaliser, self.layers, names)
        if path is not None:
            atomic_write(path, text)
        return text

    @classmethod
    def read_json(
        cls, path: str | os.PathLike[str], *, own: Sequence[Criterion] = ()
    ) -> BlendedCriterion:
        """Read a recipe that `to_json` has written.

        Parameters
        ----------
        path : str or path-like
            The file. It may come from a stranger: it holds names and numbers, all of which are
            checked, and nothing in it is run.
        own : sequence of Criterion, default=()
            Criteria of yours that the recipe names.

        Returns
        -------
        BlendedCriterion

        Raises
        ------
        FileFormatError
            If it is no such file, damaged, of a later version, or names criteria or factors that
            cannot be.
        FileNotFoundError
            If there is none.
        """

        def made(name: str, normaliser: str, layers: Recipe, needed: list[str]) -> BlendedCriterion:
            given = [criterion.name for criterion in own]
            if missing := [each for each in needed if each not in given]:
                raise InputError(
                    f"it takes criterion {missing[0]!r} of whoever wrote it, not the one that may "
                    "be known here; give yours with own=."
                )
            return cls(layers, normaliser, name=name, own=own)

        return from_json(Path(path), made)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as the call that makes it."""
        return _made, (self.layers, self.normaliser, self.name, self.options["own"])


def _made(layers: Recipe, normaliser: str, name: str, own: Sequence[Criterion]) -> BlendedCriterion:
    return BlendedCriterion(layers, normaliser, name=name, own=own)


def own_of(criteria: Sequence[Criterion]) -> list[Criterion]:
    """Return the criteria that `CRITERIA` does not hold under their names, or holds otherwise.

    Parameters
    ----------
    criteria : sequence of Criterion
        Some.

    Returns
    -------
    list of Criterion
    """
    return [criterion for criterion in criteria if CRITERIA.get(criterion.name) != criterion]


def _checked(layers: Any, known: Mapping[str, Criterion]) -> dict[str, dict[str, float]]:
    """Return the recipe with factors that add up to 1 exactly as far as floats can."""
    if not isinstance(layers, Mapping) or not layers:
        raise InputError(
            f"layers={layers!r} names no layer; give factors by layer and criterion, such as "
            "{'conv1': {'l2': 0.5, 'taylor': 0.5}}."
        )
    recipe = {}
    for layer, factors in layers.items():
        if not isinstance(layer, str) or not isinstance(factors, Mapping) or not factors:
            raise InputTypeError(
                f"layer {layer!r} has factors {factors!r}; give a mapping of names of criteria to "
                "numbers that add up to 1."
            )
        for name, factor in factors.items():
            if name not in known:
                raise InputError(
                    f"layer {layer!r} takes criterion {name!r}, which is not known; there are "
                    f"{', '.join(sorted(known))}. Give one of your own with own=."
                )
            if isinstance(factor, bool) or not isinstance(factor, Real):
                raise InputTypeError(
                    f"the factor of {name!r} on layer {layer!r} is {factor!r}; give a number of at "
                    "least 0."
                )
            if not 0.0 <= float(factor) < math.inf:
                raise InputError(
                    f"the factor of {name!r} on layer {layer!r} is {factor!r}; it must be finite "
                    "and not negative, as high scores mean keep for every criterion."
                )
        total = math.fsum(map(float, factors.values()))
        if abs(total - 1.0) > _TOLERANCE:
            raise InputError(
                f"the factors of layer {layer!r} add up to {total:.12g}; divide them by their sum, "
                "so that it is 1."
            )
        recipe[layer] = {name: float(factor) for name, factor in factors.items()}
    return recipe
