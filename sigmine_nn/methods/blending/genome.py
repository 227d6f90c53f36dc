"""What a blend can be: of every cluster of a layer one criterion, and a factor for each.

A genome says which criterion of each cluster is taken and with what factor; factors of a layer are
not negative and add up to 1. `Space` makes genomes, crosses and mutates them, and tells the recipe
of each.

May import: `.clustering`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .clustering import CriteriaClusters

__all__ = ["Gene", "Genome", "Space"]


@dataclass(frozen=True)
class Gene:
    """What a blend does on one layer.

    Attributes
    ----------
    choices : tuple of int
        Of every cluster, which of its criteria is taken.
    factors : tuple of float
        Its calibration factor; not negative, with sum 1.
    """

    choices: tuple[int, ...]
    factors: tuple[float, ...]


Genome = tuple[Gene, ...]
"""A gene a layer."""


class Space:
    """All blends of one criterion of every cluster.

    Parameters
    ----------
    clusters : CriteriaClusters
        Of every layer.
    """

    def __init__(self, clusters: CriteriaClusters) -> None:
        self.layers = list(clusters.layers)
        self.members = [found.members for found in clusters.layers.values()]
        self._medoids = tuple(
            tuple(group.index(m) for group, m in zip(found.members, found.medoids, strict=True))
            for found in clusters.layers.values()
        )

    def even(self) -> Genome:
        """Return the blend of the medoids with equal factors."""
        return tuple(
            Gene(medoids, (1.0 / len(medoids),) * len(medoids)) for medoids in self._medoids
        )

    def single(self, name: str) -> Genome:
        """Return the blend that is one criterion, and `even` on layers where it is not defined.

        Parameters
        ----------
        name : str
            The criterion.

        Returns
        -------
        Genome
        """
        genes = []
        for gene, clusters in zip(self.even(), self.members, strict=True):
            place = next((k for k, group in enumerate(clusters) if name in group), None)
            if place is not None:
                choices = list(gene.choices)
                choices[place] = clusters[place].index(name)
                factors = tuple(float(k == place) for k in range(len(clusters)))
                gene = Gene(tuple(choices), factors)
            genes.append(gene)
        return tuple(genes)

    def drawn(self, rng: Generator) -> Genome:
        """Return a blend at random: criteria with equal chances, factors uniform on the simplex."""
        genes = []
        for clusters in self.members:
            choices = tuple(int(rng.integers(len(group))) for group in clusters)
            genes.append(Gene(choices, _scaled(rng.dirichlet(np.ones(len(clusters))))))
        return tuple(genes)

    def crossed(self, first: Genome, second: Genome, rng: Generator) -> Genome:
        """Return a blend that has every layer from one of two parents, each with chance 1/2."""
        takes = rng.random(len(first)) < 0.5
        return tuple(a if take else b for a, b, take in zip(first, second, takes, strict=True))

    def mutated(self, genome: Genome, rng: Generator, rate: float, step: float) -> Genome:
        """Return a blend with some genes changed.

        Parameters
        ----------
        genome : Genome
            Before.
        rng : Generator
            Draws which and how.
        rate : float
            Chance of every choice and of every factor to change.
        step : float
            Standard deviation of what is added to a factor, before all are cut to [0, 1] and
            divided by their sum.

        Returns
        -------
        Genome
        """
        genes = []
        for gene, clusters in zip(genome, self.members, strict=True):
            choices = list(gene.choices)
            for k, group in enumerate(clusters):
                if rng.random() < rate and len(group) > 1:
                    other = int(rng.integers(len(group) - 1))
                    choices[k] = other + (other >= choices[k])
            factors = np.array(gene.factors)
            hit = rng.random(len(factors)) < rate
            factors += np.where(hit, rng.normal(0.0, step, len(factors)), 0.0)
            genes.append(Gene(tuple(choices), _scaled(factors.clip(0.0, 1.0)) or gene.factors))
        return tuple(genes)

    def recipe(self, genome: Genome) -> dict[str, dict[str, float]]:
        """Return the factors by layer and criterion, without those that are 0.

        Parameters
        ----------
        genome : Genome
            A blend.

        Returns
        -------
        dict of str to dict of str to float
        """
        found = {}
        for layer, clusters, gene in zip(self.layers, self.members, genome, strict=True):
            found[layer] = {
                group[choice]: factor
                for group, choice, factor in zip(clusters, gene.choices, gene.factors, strict=True)
                if factor > 0.0
            }
        return found


def _scaled(factors: NDArray[np.float64]) -> tuple[float, ...]:
    """Divide factors by their sum; nothing where it is 0."""
    total = float(factors.sum())
    return tuple((factors / total).tolist()) if total > 0.0 else ()
