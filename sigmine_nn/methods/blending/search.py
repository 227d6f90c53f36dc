"""The search for a blend: evolution, and random search with the same budget beside it.

May import: `sigmine`, and everything of `sigmine_nn` below `methods`; `.clustering`, `.criterion`,
`.fitness`, `.genome`, `.matrix`, `.outcome`.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from sigmine._checks import one_of, whole_number
from sigmine.exceptions import InputTypeError, StatisticalWarning
from sigmine.ranking import order

from ...evaluation import evaluate
from ...exceptions import CalibrationError
from ...objective import batches
from ...scores import ScoreTable
from ...selection import select_units
from .clustering import CriteriaClusters, cluster_criteria
from .criterion import NORMALISERS, BlendedCriterion, blended, normalised, own_of
from .fitness import HeldOut, Loss, LossCache, Mask, key_of
from .genome import Genome, Space
from .matrix import criteria_matrix
from .outcome import BlendSearch, Evolution

__all__ = ["search_blend"]

_REDRAWS = 10  # of a child whose mask was tried before
_DRAWS = 20  # of random search, for each mask that was not drawn before


def search_blend(
    model: nn.Module,
    data: Any,
    search_data: Any,
    *,
    clusters: CriteriaClusters | None = None,
    loss: Loss = "cross_entropy",
    amount: float = 0.5,
    scope: str | Mapping[str, Sequence[str]] = "layer",
    allocation: str | Mapping[str, float] | None = None,
    minimum: int = 1,
    round_to: int = 1,
    normaliser: str = "rank",
    evolution: Evolution | None = None,
    n_jobs: int | None = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | None = False,
) -> BlendSearch:
    """Search for the blend of criteria without whose lowest filters a network does best.

    Parameters
    ----------
    model : Module
        The network; left as it was.
    data : iterable of batches
        For the criteria, if `clusters` are not given, and for the running statistics of batch
        normalisations without the filters. Held in memory.
    search_data : iterable of batches
        For the loss that is made small: other data than `data`, and than those on which the result
        is to be judged. Held in memory.
    clusters : CriteriaClusters, optional
        From `cluster_criteria`; by default of `FILTER_CRITERIA` on all filters, by silhouette.
    loss : str, callable or None, default="cross_entropy"
        As in `calibrate`.
    amount : float, default=0.5
        Fraction of the filters to remove.
    scope, allocation, minimum, round_to
        As in `select_units`; by default the same fraction goes of every layer, so that the ranking
        alone decides.
    normaliser : {"rank", "max", "mean", "min-max", "z"}, default="rank"
        As in `BlendedCriterion`.
    evolution : Evolution, optional
        Settings of the search.
    n_jobs : int, default=1
        Processes of joblib. The result is the same for every number of them.
    checkpoint : str or path-like, optional
        File for the losses that were found. A search that is called again with it, with the same
        network and data, takes them from there and ends as if it had never stopped.
    seed : int, default=0
        Of all that is drawn.
    progress : bool or None, default=False
        Whether to show a bar on stderr; None: on a terminal.

    Returns
    -------
    BlendSearch

    Raises
    ------
    InputError, InputTypeError, ModelError, TracingError, CalibrationError, FileFormatError
        If an argument, the network, the data, the loss or the checkpoint cannot be used.

    Warns
    -----
    StatisticalWarning
        If it was stopped by Ctrl-C: what was best so far is returned.

    Notes
    -----
    The first generation is the blend of the medoids with equal factors, every criterion by itself,
    and blends drawn at random: if `population` is larger than the number of criteria, the result
    is never worse on the search data than the best single criterion that is defined on every
    layer. Then parents are selected, each layer of a child is that of one of two parents, choices
    and factors are mutated, and the best of before go on. Masks are tried once each; a child whose
    mask is known is drawn anew, up to ten times.

    Random search begins with the same first generation, goes on with blends drawn at random, and
    has tried as many different masks after every generation (fewer only where there are hardly any
    others). The difference of the two is what evolution adds.

    That candidates and calibration factors are searched by an evolutionary algorithm is from [1]_;
    the rest is ours.

    References
    ----------
    .. [1] Y. He et al., "Blending Pruning Criteria for Convolutional Neural Networks", ICANN 2021,
       arXiv:2107.05033.
    """
    evolution = Evolution() if evolution is None else evolution
    if not isinstance(evolution, Evolution):
        raise InputTypeError(f"evolution is a {type(evolution).__name__}; give an Evolution.")
    one_of("normaliser", normaliser, NORMALISERS)
    whole_number("seed", seed, 0)
    data, search_data = list(batches(data)), list(batches(search_data))
    if not data or not search_data:
        raise CalibrationError(
            f"data hold {len(data)} and search_data {len(search_data)} batches; give at least one "
            "of each."
        )
    if clusters is None:
        clusters = cluster_criteria(
            criteria_matrix(model, data, loss=loss, seed=seed, progress=progress), seed=seed
        )
    budget = {
        "amount": amount,
        "scope": scope,
        "allocation": allocation,
        "minimum": minimum,
        "round_to": round_to,
    }
    ranker = _Ranker(clusters, normaliser, budget)
    held_out = HeldOut(model, clusters.matrix.units, data, search_data, loss)
    full_loss = evaluate(model, search_data, loss=loss).loss
    ranker.keep_of(ranker.space.even())  # a budget that cannot be met is told before any work
    cache = LossCache(held_out, n_jobs, checkpoint)
    settings = budget | {"normaliser": normaliser, "seed": seed}
    return _Search(ranker, cache, evolution, seed).run(progress, full_loss, settings)


class _Ranker:
    """From a blend to the mask of the filters that stay by it."""

    def __init__(
        self, clusters: CriteriaClusters, normaliser: str, budget: Mapping[str, Any]
    ) -> None:
        self.clusters, self.normaliser, self.budget = clusters, normaliser, budget
        self.space = Space(clusters)
        matrix = clusters.matrix
        self.units = matrix.units
        self._rows = {
            layer: {
                name: normalised(row, normaliser)
                for name, row in zip(matrix.defined(layer), matrix.of_layer(layer), strict=True)
            }
            for layer in self.units.names
        }

    def keep_of(self, genome: Genome) -> Mask:
        """Return the filters that stay, as `select_units` chooses them by the blend."""
        score = np.empty(self.units.n)
        for layer, factors in self.space.recipe(genome).items():
            where = self.units.range_of(layer)
            rows = self._rows[layer]
            score[where.start : where.stop] = blended([(f, rows[n]) for n, f in factors.items()])
        table = ScoreTable(self.units, torch.from_numpy(score), "blend")
        return select_units(table, **self.budget).keep

    def criterion_of(self, genome: Genome, name: str) -> BlendedCriterion:
        """Return the blend as a criterion."""
        own = own_of(self.clusters.matrix.criteria)
        return BlendedCriterion(self.space.recipe(genome), self.normaliser, name=name, own=own)


class _Tried:
    """The blends that one of the two searches has come to, a blend a mask, in order."""

    def __init__(self) -> None:
        self.genomes: dict[str, Genome] = {}

    def best(self, losses: Mapping[str, float]) -> tuple[Genome, float] | None:
        """Return the first blend with the lowest loss, of those whose loss is known."""
        known = [key for key in self.genomes if key in losses]
        if not known:
            return None
        first = known[int(order([losses[key] for key in known], largest=False)[0])]
        return self.genomes[first], losses[first]


class _Search:
    """Evolution and random search, generation by generation."""

    def __init__(self, ranker: _Ranker, cache: LossCache, evolution: Evolution, seed: int) -> None:
        self.ranker, self.cache, self.evolution, self.seed = ranker, cache, evolution, seed
        self.space = ranker.space
        self.tried, self.tried_at_random = _Tried(), _Tried()
        self.random_draws = np.random.default_rng([seed, 1])
        self.population: list[tuple[Genome, str]] = []
        self.history: list[dict[str, float]] = []

    def run(
        self, progress: bool | None, full_loss: float, settings: Mapping[str, Any]
    ) -> BlendSearch:
        """Run to the end, or as far as it is let."""
        begin = time.perf_counter()
        stopped = "generations"
        with _bar(self.evolution.generations + 1, progress) as bar:
            try:
                self._first()
                bar(self.history[-1])
                for generation in range(1, self.evolution.generations + 1):
                    if self._is_stale():
                        stopped = "patience"
                        break
                    self._next(generation)
                    bar(self.history[-1])
            except KeyboardInterrupt:
                if self.tried.best(self.cache.losses) is None:
                    raise
                stopped = "interrupt"
                self._note()
                done = self.history[-1]
                warnings.warn(
                    f"the search was stopped in generation {done['generation']} of "
                    f"{self.evolution.generations}; the result is the best of "
                    f"{done['n_evaluations']} blends so far. Call it again, with a checkpoint if "
                    "what was found is not to be lost.",
                    StatisticalWarning,
                    stacklevel=3,
                )
        return self._result(stopped, full_loss, settings, time.perf_counter() - begin)

    def _first(self) -> None:
        """Try the even blend, every criterion by itself, and blends at random."""
        rng = np.random.default_rng([self.seed, 0])
        names = self.ranker.clusters.matrix.names
        first = [self.space.even(), *(self.space.single(name) for name in names)]
        first = first[: self.evolution.population]
        while len(first) < self.evolution.population:
            first.append(self.space.drawn(rng))
        self._live(first)

    def _next(self, generation: int) -> None:
        """Let the best go on, and put children in the place of the others."""
        rng = np.random.default_rng([self.seed, 2, generation])
        losses = [self.cache.losses[key] for _, key in self.population]
        ranked = [self.population[i] for i in order(losses, largest=False)]
        elite: dict[str, Genome] = {}
        for genome, key in ranked:  # a blend a mask
            elite.setdefault(key, genome)
        kept = list(elite.values())[: self.evolution.n_elite]
        step = self.evolution.step_in(generation)
        children: list[Genome] = []
        seen = set(self.tried.genomes)
        while len(kept) + len(children) < self.evolution.population:
            for _ in range(_REDRAWS):
                parents = [ranked[self._parent(rng, len(ranked))][0] for _ in range(2)]
                child = self.space.crossed(parents[0], parents[1], rng)
                child = self.space.mutated(child, rng, self.evolution.mutation_rate, step)
                key = key_of(self.ranker.keep_of(child))
                if key not in seen:
                    break
            seen.add(key)
            children.append(child)
        self._live([*kept, *children])

    def _parent(self, rng: np.random.Generator, n: int) -> int:
        """Return the rank of a parent, 0 for the best."""
        if self.evolution.selection == "truncation":
            return int(rng.integers(self.evolution.n_parents))
        return int(rng.integers(n, size=self.evolution.tournament_size).min())

    def _live(self, genomes: Sequence[Genome]) -> None:
        """Find the losses of a new population, and of as many blends at random."""
        keeps = [self.ranker.keep_of(genome) for genome in genomes]
        population = [(genome, key_of(keep)) for genome, keep in zip(genomes, keeps, strict=True)]
        for genome, key in population:
            self.tried.genomes.setdefault(key, genome)
        at_random = self.tried_at_random.genomes
        if not at_random:  # both begin with the same blends
            at_random.update(self.tried.genomes)
        missing = len(self.tried.genomes) - len(at_random)
        for _ in range(_DRAWS * missing + 100 * (missing > 0)):
            if len(at_random) == len(self.tried.genomes):
                break
            genome = self.space.drawn(self.random_draws)
            keep = self.ranker.keep_of(genome)
            if key_of(keep) not in at_random:
                at_random[key_of(keep)] = genome
                keeps.append(keep)
        self.cache.find(keeps)
        self.population = population
        self._note()

    def _note(self) -> None:
        losses = self.cache.losses
        known = [losses[key] for _, key in self.population if key in losses]
        best, at_random = self.tried.best(losses), self.tried_at_random.best(losses)
        self.history.append(
            {
                "generation": len(self.history),
                "n_evaluations": sum(key in losses for key in self.tried.genomes),
                "best": math.nan if best is None else best[1],
                "median": float(np.median(known)) if known else math.nan,
                "random_evaluations": sum(key in losses for key in self.tried_at_random.genomes),
                "random_best": math.nan if at_random is None else at_random[1],
            }
        )

    def _is_stale(self) -> bool:
        """Say whether the last generations have found nothing better."""
        patience = self.evolution.patience
        if patience is None or len(self.history) <= patience:
            return False
        return self.history[-1]["best"] >= self.history[-1 - patience]["best"]

    def _result(
        self, stopped: str, full_loss: float, settings: Mapping[str, Any], seconds: float
    ) -> BlendSearch:
        import pandas as pd

        losses = self.cache.losses
        best, at_random = self.tried.best(losses), self.tried_at_random.best(losses)
        assert best is not None
        at_random = best if at_random is None else at_random
        singles = {}
        for name in self.ranker.clusters.matrix.names:
            key = key_of(self.ranker.keep_of(self.space.single(name)))
            singles[name] = losses.get(key, math.nan)
        return BlendSearch(
            criterion=self.ranker.criterion_of(best[0], "blend"),
            loss=best[1],
            keep=self.ranker.keep_of(best[0]),
            random_criterion=self.ranker.criterion_of(at_random[0], "random_search"),
            random_loss=at_random[1],
            singles=singles,
            full_loss=full_loss,
            clusters=self.ranker.clusters,
            evolution=self.evolution,
            settings=dict(settings),
            history=pd.DataFrame(self.history),
            stopped=stopped,
            seconds=seconds,
        )


@contextmanager
def _bar(n: int, progress: bool | None) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Show the generations that are done, and the lowest losses."""
    if progress is False:
        yield lambda row: None
        return
    from tqdm import tqdm

    disable = None if progress is None else not progress
    with tqdm(total=n, desc="blending", unit="gen", file=sys.stderr, disable=disable) as bar:

        def step(row: Mapping[str, float]) -> None:
            bar.set_postfix(best=f"{row['best']:.4g}", random=f"{row['random_best']:.4g}")
            bar.update(1)

        yield step
