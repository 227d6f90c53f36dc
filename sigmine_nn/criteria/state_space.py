"""Scores of the states of state space models: what a state can do to the output of its layer.

A state of a diagonal layer is a system of its own, c b^T / (z - lambda), whose norms have closed
forms. `last` and its relatives need no data; `state_energy` looks at what the states really do.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

import warnings
from enum import StrEnum

import torch
from torch import Tensor

from sigmine.exceptions import InputError, StatisticalWarning
from sigmine.ranking import tail_normalise

from ..calibrate import Statistic
from ..exceptions import CalibrationError, ModelError
from ..scores import Aggregate, ScoreTable
from ..state_space import DiagonalSystem
from ..state_space.systems import Norm
from ..units import Kind
from .base import Scoring, criterion

__all__ = ["Normalise", "aire", "hinf", "last", "state_energy", "state_magnitude"]

_LAST = (
    "after M. Gwak, S. Moon, J. Ko, P. Park, Layer-adaptive state pruning for deep state space "
    "models, NeurIPS 2024"
)
_AIRE = "after AIRE-Prune, ICLR 2026, arXiv 2602.00534"


class Normalise(StrEnum):
    """On which scale the scores of a layer are put."""

    LAST = "last"
    """Each over the sum of itself and all larger ones of its layer: layers share a scale."""
    NONE = "none"
    """As they are."""


@criterion(
    "last",
    formula="||c||^2 ||b||^2 / (1 - |lambda|)^2 over the same of it and all larger of its layer",
    source=_LAST,
)
def last(
    scoring: Scoring,
    *,
    horizon: int | str | None = None,
    norm: str = "hinf",
    normalise: str = "last",
    legacy_bidirectional: bool = False,
) -> ScoreTable:
    """Score states by the squared H-infinity norm of their subsystem, layers on one scale.

    Parameters
    ----------
    scoring : Scoring
        Of states.
    horizon : int, "sequence" or None, default=None
        Steps that a state is given to build up its response; None for all time, "sequence" for the
        length of the example inputs.
    norm : {"hinf", "h2"}, default="hinf"
        Largest amplification of a sinusoid, or energy of the impulse response.
    normalise : {"last", "none"}, default="last"
        See `Normalise`.
    legacy_bidirectional : bool, default=False
        Score bidirectional layers as the authors' program does, with norm(c)^2 replaced by
        (norm(c1) + norm(c2)) / 4, which is no norm of anything: only for comparisons with its
        results.

    Returns
    -------
    ScoreTable
        Without sampling distribution. With `normalise` "last" in [0, 1], and the best state of
        every layer has exactly 1, so that a global ranking empties no layer. NaN for units that are
        no states.

    Raises
    ------
    ModelError
        If a state is unstable (modulus 1 or more): its norm is infinite, although the formula
        gives a number.
    InputError
        For an unknown option, or a horizon of "sequence" without example inputs.

    Warns
    -----
    StatisticalWarning
        If no horizon is given and half of the states of a layer remember longer than the sequences
        of the example inputs last: all of time is then the wrong measure.

    Notes
    -----
    lambda and b are those of the discrete system, in double precision. With both directions of a
    bidirectional layer norm(c)^2 = norm(c1)^2 + norm(c2)^2, the column of the stacked output
    matrix. With a horizon of L steps and m the modulus of lambda, 1 / (1 - m) becomes
    (1 - m^L) / (1 - m), the largest amplification in that time. Conjugate pairs that are stored
    both are one unit, with the mean of their norms (a bound on half of the norm of the pair).

    See Also
    --------
    sigmine.ranking.tail_normalise : the scale.
    """
    norm, normalise = _option(Norm, "norm", norm), _option(Normalise, "normalise", normalise)
    scores = _of_layers(scoring, horizon, norm, legacy_bidirectional)
    return _table(scoring, scores, normalise, "last")


@criterion(
    "hinf",
    formula="||c||^2 ||b||^2 / (1 - |lambda|)^2",
    source=f"{_LAST}: its scores without the scale, 'global' or 'uniform' H-infinity",
)
def hinf(
    scoring: Scoring,
    *,
    horizon: int | str | None = None,
    legacy_bidirectional: bool = False,
) -> ScoreTable:
    """Score states by the squared H-infinity norm of their subsystem.

    Parameters
    ----------
    scoring, horizon, legacy_bidirectional
        As in `last`.

    Returns
    -------
    ScoreTable
        Without sampling distribution. The order within a layer is that of `last`.

    Raises
    ------
    ModelError, InputError
        As `last`.
    """
    scores = _of_layers(scoring, horizon, Norm.HINF, legacy_bidirectional)
    return _table(scoring, scores, Normalise.NONE, "hinf")


@criterion(
    "aire",
    formula="||c||^2 ||b||^2 / (1 - |lambda|^2) over the same of it and all larger of its layer",
    source=f"{_AIRE}; not LAST",
)
def aire(scoring: Scoring, *, horizon: int | str | None = None) -> ScoreTable:
    """Score states by the squared H2 norm of their subsystem, layers on one scale.

    Parameters
    ----------
    scoring, horizon
        As in `last`.

    Returns
    -------
    ScoreTable
        Without sampling distribution, in [0, 1].

    Raises
    ------
    ModelError, InputError
        As `last`.
    """
    scores = _of_layers(scoring, horizon, Norm.H2, legacy=False)
    return _table(scoring, scores, Normalise.LAST, "aire")


@criterion(
    "state_magnitude",
    formula="|lambda|^2 ||b||^2 ||c||^2",
    source=f"a baseline of {_LAST.removeprefix('after ')}; the definition is ours",
)
def state_magnitude(scoring: Scoring, *, normalise: str = "none") -> ScoreTable:
    """Score states by the size of their parameters in the discrete system.

    Parameters
    ----------
    scoring : Scoring
        Of states.
    normalise : {"none", "last"}, default="none"
        "last" is LAMP over states; see `Normalise`.

    Returns
    -------
    ScoreTable
        Without sampling distribution. NaN for units that are no states.

    Raises
    ------
    InputError
        For an unknown option.
    """
    scores = {}
    for name, system in _systems(scoring).items():
        energy = system.input_energy * system.output_energy
        root = (energy * system.eigenvalues.abs().square()).sqrt()
        scores[name] = _of_units(system, root)
    how = _option(Normalise, "normalise", normalise)
    return _table(scoring, scores, how, "state_magnitude")


@criterion(
    "state_energy",
    formula="||c||^2 mean |x|^2 over the same of it and all larger of its layer",
    source=f"ours, on the scale of {_LAST.removeprefix('after ')}; looks at data, and so not LAST",
    statistics=[Statistic.STATE_ENERGY],
)
def state_energy(scoring: Scoring, *, normalise: str = "last") -> ScoreTable:
    """Score states by how much they put into the output of their layer on calibration data.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.STATE_ENERGY`.
    normalise : {"last", "none"}, default="last"
        See `Normalise`.

    Returns
    -------
    ScoreTable
        With a sampling distribution; that of the scale itself is left out of it. NaN for units that
        are no states.

    Raises
    ------
    CalibrationError
        If it was not collected.
    InputError
        For an unknown option.
    """
    calibration = scoring.calibration
    if calibration is None or Statistic.STATE_ENERGY not in calibration.of_units:
        raise CalibrationError(
            "criterion 'state_energy' needs statistic 'state_energy', which was not collected."
        )
    moments = calibration.of_units[Statistic.STATE_ENERGY]
    samples = calibration.samples.get(Statistic.STATE_ENERGY)
    energies = scoring.units.split(moments.mean)
    means = {g.name: energies[g.name] for g in scoring.units if g.kind is Kind.STATE}
    how = _option(Normalise, "normalise", normalise)
    score = _table(scoring, means, how, "state_energy").score
    normaliser = None
    if how is Normalise.LAST:
        # Score = mean / normaliser; where both are 0, any normaliser gives the score.
        normaliser = torch.where(score > 0, moments.mean / score, 1.0)
    return ScoreTable(
        scoring.units, score, "state_energy", moments, Aggregate.MEAN, samples, normaliser
    )


# -- Parts --------------------------------------------------------------------------------------


def _option(kind: type[StrEnum], name: str, value: str) -> StrEnum:
    try:
        return kind(value)
    except ValueError:
        raise InputError(
            f"{name}={value!r} is not known; use one of {', '.join(map(repr, map(str, kind)))}."
        ) from None


def _systems(scoring: Scoring) -> dict[str, DiagonalSystem]:
    """Return the systems of the groups of states."""
    found = {}
    for group in scoring.units:
        if group.kind is Kind.STATE:
            if group.name not in scoring.systems:
                raise ModelError(
                    f"the system behind the states of {group.name!r} is not known; make the "
                    "scoring with Scoring.of, or find the units with find_units(model, 'state')."
                )
            found[group.name] = scoring.systems[group.name]
    return found


def _of_layers(
    scoring: Scoring, horizon: int | str | None, norm: StrEnum, legacy: bool
) -> dict[str, Tensor]:
    """Return the squared gains of the states of every layer."""
    found = {}
    systems = _systems(scoring)
    for name, system in systems.items():
        unstable = system.unstable()
        if len(unstable):
            modulus = float(system.eigenvalues.abs()[int(unstable[0])])
            raise ModelError(
                f"{len(unstable)} of {system.n_states} states of {name!r} are unstable: state "
                f"{int(unstable[0])} has |lambda| = {modulus:.6g}, and its response never ends, "
                "although the formula gives a number. Keep eigenvalues inside the unit circle in "
                "training (clip_eigs=True), or use a criterion that looks at data."
            )
        steps = _steps(scoring, name, horizon)
        if legacy and len(system.outputs) == 2:
            columns = system.outputs.abs().square().sum(dim=1).sqrt()  # (2, n)
            energy = system.input_energy * columns.sum(dim=0) / 4.0
            gain = energy.sqrt() * system.amplification(norm, steps)
        else:
            gain = system.gain(norm, steps)
        found[name] = _of_units(system, gain)
    if horizon is None:
        _warn_of_memory(scoring, systems)
    return found


def _of_units(system: DiagonalSystem, gain: Tensor) -> Tensor:
    """Return the squared gain of every unit: of pairs, the mean of both."""
    mean: Tensor = system.of_units(gain) / system.members.shape[1]
    return mean.square()


def _steps(scoring: Scoring, name: str, horizon: int | str | None) -> int | None:
    """Return the horizon of a layer in steps."""
    if horizon == "sequence":
        if name not in scoring.lengths:
            raise InputError(
                "horizon='sequence' needs the length of the sequences, and there are no example "
                f"inputs that reach {name!r}; give example_inputs, or the number of steps."
            )
        return scoring.lengths[name]
    if isinstance(horizon, str):
        raise InputError(
            f"horizon={horizon!r} is not known; give a number of steps, 'sequence' or None."
        )
    return horizon


def _warn_of_memory(scoring: Scoring, systems: dict[str, DiagonalSystem]) -> None:
    """Warn, once for all layers, if states remember longer than their sequences last."""
    memory = {
        name: system.median_time_constant / scoring.lengths[name]
        for name, system in systems.items()
        if name in scoring.lengths
    }
    slow = [name for name, share in memory.items() if share > 1.0]
    if not slow:
        return
    name = max(slow, key=memory.__getitem__)
    others = f" (and of {len(slow) - 1} more layers)" if len(slow) > 1 else ""
    warnings.warn(
        f"half of the states of {name!r}{others} remember longer than "
        f"{systems[name].median_time_constant:.3g} steps, and the sequences have "
        f"{scoring.lengths[name]}: the closed form looks at all time and over-rates slow states. "
        "Use horizon='sequence', or train with larger step sizes (dt_min).",
        StatisticalWarning,
        stacklevel=2,
    )


def _table(
    scoring: Scoring, scores: dict[str, Tensor], normalise: StrEnum, name: str
) -> ScoreTable:
    """Put the scores of the layers together, on the scale that is asked for."""
    parts = []
    for group in scoring.units:
        part = scores.get(group.name)
        if part is None:
            part = torch.full((group.n_units,), torch.nan, dtype=torch.float64)
        elif normalise is Normalise.LAST and not bool(part.isnan().any()):
            part = tail_normalise(part)
        parts.append(part)
    device = next((part.device for part in scores.values()), parts[0].device)
    return ScoreTable(scoring.units, torch.cat([part.to(device) for part in parts]), name)
