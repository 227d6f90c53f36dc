"""The settings of a search for a blend, and what it has found.

May import: `sigmine`, `sigmine_nn.report`, `.clustering`, `.criterion`, and `.summary` inside
functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sigmine._checks import one_of, real_number, whole_number
from sigmine.exceptions import InputError
from sigmine.ranking import order

from ...report.documents import Renderer, Reported
from .clustering import CriteriaClusters
from .criterion import BlendedCriterion

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BlendSearch", "Evolution"]


@dataclass(frozen=True)
class Evolution:
    """Settings of the evolutionary search; all of them are ours, see Notes.

    Attributes
    ----------
    population : int, default=32
        Blends alive at a time.
    generations : int, default=20
        After the first.
    selection : {"tournament", "truncation"}, default="tournament"
        Whether a parent is the best of `tournament_size` drawn ones, or one of the best
        `n_parents`.
    tournament_size : int, default=3
        At least 1.
    n_parents : int, default=8
        At least 1, at most `population`.
    n_elite : int, default=8
        Blends that go on as they are: the best ones, of different masks. Less than `population`.
    mutation_rate : float, default=0.2
        Chance of every choice and every factor of a child to change.
    step : float, default=0.3
        Standard deviation of the change of a factor in the first generation; it falls to a fifth
        of that, in equal steps.
    patience : int, optional
        Stop when so many generations in a row have not found a lower loss.

    Notes
    -----
    The paper names an evolutionary algorithm and its settings were not available. Steps that
    become smaller are those of LeGR (T.-W. Chin et al., CVPR 2020), population, elite and mutation
    rate were chosen for searches of some hundred evaluations.
    """

    population: int = 32
    generations: int = 20
    selection: str = "tournament"
    tournament_size: int = 3
    n_parents: int = 8
    n_elite: int = 8
    mutation_rate: float = 0.2
    step: float = 0.3
    patience: int | None = None

    def __post_init__(self) -> None:
        whole_number("population", self.population, 2)
        whole_number("generations", self.generations, 0)
        one_of("selection", self.selection, ("tournament", "truncation"))
        whole_number("tournament_size", self.tournament_size, 1)
        whole_number("n_parents", self.n_parents, 1)
        whole_number("n_elite", self.n_elite, 1)
        real_number("mutation_rate", self.mutation_rate, 0.0, 1.0, "a number in [0, 1]")
        real_number("step", self.step, 0.0, 1.0, "a number in [0, 1]")
        if self.patience is not None:
            whole_number("patience", self.patience, 1)
        for name in ("n_parents", "n_elite"):
            limit = self.population - (name == "n_elite")
            if getattr(self, name) > limit:
                raise InputError(
                    f"{name}={getattr(self, name)} and population={self.population}; at most "
                    f"{limit} can be taken. Give a larger population."
                )

    def step_in(self, generation: int) -> float:
        """Return the step of a generation, counted from 1."""
        return self.step * (1.0 - 0.8 * (generation - 1) / max(1, self.generations - 1))


@dataclass(frozen=True, eq=False)
class BlendSearch(Reported):
    """What a search for a blend has found.

    Attributes
    ----------
    criterion : BlendedCriterion
        The best blend of the evolution.
    loss : float
        Its loss on the search data. It is the smallest of many, and so smaller than on other data.
    keep : ndarray of bool, shape (n_units,)
        The filters that stay by it.
    random_criterion : BlendedCriterion
        The best blend of random search, with as many different masks tried.
    random_loss : float
        Its loss.
    singles : mapping of str to float
        Loss of every criterion by itself, on the same data; NaN where it was not among the first
        generation.
    full_loss : float
        Loss of the whole network.
    clusters : CriteriaClusters
        From which the blends took their criteria.
    evolution : Evolution
        The settings of the search.
    settings : mapping
        Those of what is ranked and removed: ``amount``, ``scope``, ``allocation``, ``minimum``,
        ``round_to``, ``normaliser``, ``seed``.
    history : DataFrame
        A row a generation: ``generation``, ``n_evaluations`` (different masks so far), ``best``,
        ``median`` (of the population), ``random_evaluations``, ``random_best``.
    stopped : {"generations", "patience", "interrupt"}
        Why it ended.
    seconds : float
        How long it took.
    """

    criterion: BlendedCriterion
    loss: float
    keep: NDArray[np.bool_] = field(repr=False)
    random_criterion: BlendedCriterion
    random_loss: float
    singles: Mapping[str, float] = field(repr=False)
    full_loss: float
    clusters: CriteriaClusters = field(repr=False)
    evolution: Evolution
    settings: Mapping[str, Any]
    history: pd.DataFrame = field(repr=False)
    stopped: str
    seconds: float

    @property
    def n_evaluations(self) -> int:
        """Different masks that the evolution has tried."""
        return int(self.history["n_evaluations"].iloc[-1])

    @property
    def best_single(self) -> tuple[str, float]:
        """The single criterion with the lowest loss, and the loss; NaN if none was tried."""
        known = {name: loss for name, loss in self.singles.items() if not math.isnan(loss)}
        if not known:
            return "", math.nan
        name = list(known)[int(order(list(known.values()), largest=False)[0])]
        return name, known[name]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values.

        Returns
        -------
        dict
        """
        from .summary import summarize

        return summarize(self)

    def _renderers(self) -> tuple[Renderer, Renderer]:
        from ...report.blending import render_html, render_markdown

        return render_html, render_markdown

    def print_summary(self) -> None:
        """Print the blend, and what was found beside it."""
        summary = self.to_dict()
        print(summary["question"]["sentence"])
        print(summary["answer"]["sentence"])
        print(self.criterion)
        for text in summary["warnings"]:
            print(f"Take care. {text}")
