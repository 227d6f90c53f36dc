"""Collect what a report says of states and of curves: plain values again.

Allowed imports: `sigmine`; `sigmine_nn.results` and others for the type checker only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sigmine.ranking import ranks
from sigmine.report import formats

if TYPE_CHECKING:
    import pandas as pd

    from ..results import PruningResults

__all__ = ["state_facts", "summarize_curves", "summarize_states"]

_POINTS = 5000  # of all discs; more than that cannot be told apart


def state_facts(results: PruningResults) -> list[tuple[str, str, str, str]]:
    """Return what states cost before and after: name, after, before, and a word between.

    Parameters
    ----------
    results : PruningResults
        The results.

    Returns
    -------
    list of tuple of str
        Empty for networks without states.
    """
    facts: list[tuple[str, str, str, str]] = []
    if results.systems:
        kept = results.table.units.split(results.selection.keep)
        before = after = 0
        for name, mine in kept.items():
            system = results.systems.get(name)
            if system is not None:
                before += system.n_states
                after += len(np.unique(system.members[mine]))
        # A state is a complex number: two of the precision that models compute in.
        facts.append(
            ("State memory, single precision", _bytes(8 * after), _bytes(8 * before), "of")
        )
    if results.step_latency:
        now, was = results.step_latency["after"], results.step_latency["before"]
        facts.append(
            (
                "One recurrent step, median",
                f"{1e3 * now.median:.3g} ms",
                f"{1e3 * was.median:.3g} ms",
                "was",
            )
        )
    return facts


def _bytes(n: int) -> str:
    return f"{n:,} B" if n < 10_000 else f"{n / 1000:,.1f} kB"


def summarize_states(results: PruningResults) -> dict[str, Any] | None:
    """Return the eigenvalues of every layer, with ranks for scores.

    Parameters
    ----------
    results : PruningResults
        The results.

    Returns
    -------
    dict or None
        None for networks without states.
    """
    if not results.systems:
        return None
    units = results.table.units
    scores = results.table.score.detach().cpu().numpy()
    place = np.full(units.n, np.nan)
    known = ~np.isnan(scores)
    if known.any():
        place[known] = np.asarray(ranks(scores[known], largest=False, ties="max")) / known.sum()
    every = max(1, math.ceil(units.n / _POINTS))
    split, keep = units.split(place), units.split(results.selection.keep)
    layers = []
    for name in units.names:
        system = results.systems.get(name)
        if system is None:
            continue
        values = system.eigenvalues.cpu().numpy()[system.members[:, 0]]
        layers.append(
            {
                "layer": name,
                "n_states": len(values),
                "points": [
                    {
                        "re": float(values[i].real),
                        "im": float(values[i].imag),
                        "score": 0.0 if np.isnan(split[name][i]) else float(split[name][i]),
                        "keep": bool(keep[name][i]),
                    }
                    for i in range(0, len(values), every)
                ],
            }
        )
    shown = "" if every == 1 else f" One of {every} is shown."
    sentence = (
        "Each point is the eigenvalue of a state in discrete time: its angle is the frequency that "
        "the state listens to, its distance from the circle how fast it forgets. States near the "
        "circle remember longest. Of conjugate pairs the stored half is shown."
    )
    return {"layers": layers, "sentence": sentence + shown}


def summarize_curves(results: PruningResults) -> dict[str, Any] | None:
    """Return quality against the amount removed, way by way.

    Parameters
    ----------
    results : PruningResults
        The results.

    Returns
    -------
    dict or None
        None where no curves were given.
    """
    curves = results.curves
    if curves is None:
        return None
    summary, largest = curves.summary(), curves.largest_amount().set_index("way")["mean"]
    whole = float(summary.loc[summary["way"] == "whole", "mean"].iloc[0])
    networks = formats.count_of(curves.n_models, "network")
    return {
        "metric": curves.metric,
        "n_models": curves.n_models,
        "whole": whole,
        "ways": [
            {
                "way": way,
                "points": [_point(row) for _, row in summary[summary["way"] == way].iterrows()],
                "largest": float(largest[way]),
            }
            for way in curves.ways
        ],
        "sentence": (
            f"Mean {curves.metric} of {networks} at every fraction removed, without retraining; "
            "bands are 95 % intervals over networks. The dotted line is the whole network. "
            "'Largest' is the mean of the largest fraction up to which at most 0.01 is lost."
        ),
    }


def _point(row: pd.Series) -> dict[str, Any]:
    def plain(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    return {
        "amount": float(row["amount"]),
        "mean": float(row["mean"]),
        "low": plain(row["ci_low"]),
        "high": plain(row["ci_high"]),
    }
