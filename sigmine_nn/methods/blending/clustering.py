"""Clusters of criteria that rank the filters of a layer alike.

May import: `sigmine`, `sigmine_nn.agreement`, `.matrix`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sigmine._checks import one_of, whole_number
from sigmine.exceptions import InputError
from sigmine.ranking import order

from ...agreement import average_linkage
from .matrix import CriteriaMatrix, Floats, rank_correlation, standard_ranks

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CriteriaClusters", "LayerClusters", "cluster_criteria"]

Indices = NDArray[np.int64]

METHODS = ("average", "kmeans")


@dataclass(frozen=True, eq=False)
class LayerClusters:
    """The clusters of the criteria on one layer.

    Attributes
    ----------
    layer : str
        Name of the layer.
    names : tuple of str
        The criteria that are defined there.
    labels : ndarray of int64, shape (n_names,)
        Number of the cluster of each, from 0, in order of appearance.
    medoids : tuple of str
        Of every cluster the criterion with the smallest mean distance to the others of it.
    silhouettes : mapping of int to float
        Mean silhouette for every number of clusters that was tried.
    linkage : ndarray of float64, shape (n_names - 1, 4)
        Average linkage of the criteria by 1 - rank correlation, for a dendrogram.
    """

    layer: str
    names: tuple[str, ...]
    labels: Indices = field(repr=False)
    medoids: tuple[str, ...]
    silhouettes: Mapping[int, float] = field(repr=False)
    linkage: Floats = field(repr=False)

    @property
    def members(self) -> tuple[tuple[str, ...], ...]:
        """The criteria of every cluster."""
        return tuple(
            tuple(n for n, label in zip(self.names, self.labels, strict=True) if label == k)
            for k in range(len(self.medoids))
        )

    @property
    def silhouette(self) -> float:
        """Mean silhouette of the clusters; NaN if there is one, or as many as criteria."""
        return self.silhouettes.get(len(self.medoids), math.nan)


@dataclass(frozen=True, eq=False)
class CriteriaClusters:
    """The clusters of criteria, layer by layer.

    Attributes
    ----------
    matrix : CriteriaMatrix
        Of the scores that were compared.
    method : str
        How clusters were found.
    layers : mapping of str to LayerClusters
        By the name of the layer.
    """

    matrix: CriteriaMatrix
    method: str
    layers: Mapping[str, LayerClusters] = field(repr=False)

    def together(self, names: Iterable[str]) -> dict[str, bool]:
        """Say on which layers some criteria fall in one cluster.

        Parameters
        ----------
        names : iterable of str
            Criteria; those that are not defined on a layer are passed over there.

        Returns
        -------
        dict of str to bool

        Raises
        ------
        InputError
            For a criterion that is not in the matrix.
        """
        wanted = list(names)
        if unknown := sorted(set(wanted) - set(self.matrix.names)):
            raise InputError(
                f"criterion {unknown[0]!r} is not in the matrix; there are "
                f"{', '.join(self.matrix.names)}."
            )
        return {
            layer: any(set(wanted) & set(found.names) <= set(members) for members in found.members)
            for layer, found in self.layers.items()
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a row a layer and criterion.

        Returns
        -------
        DataFrame
            Columns ``layer``, ``criterion``, ``cluster`` (from 1; missing where the criterion is
            not defined), ``medoid`` (whether it is that of its cluster) and ``constant`` (whether
            it gives all filters one score).
        """
        import pandas as pd

        rows = []
        for layer, found in self.layers.items():
            labels = dict(zip(found.names, found.labels.tolist(), strict=True))
            for name in self.matrix.names:
                label = labels.get(name)
                rows.append(
                    {
                        "layer": layer,
                        "criterion": name,
                        "cluster": None if label is None else label + 1,
                        "medoid": name in found.medoids,
                        "constant": name in self.matrix.constant[layer],
                    }
                )
        return pd.DataFrame(rows).astype({"cluster": "Int64"})


def cluster_criteria(
    matrix: CriteriaMatrix,
    n_clusters: int | None = None,
    *,
    method: str = "average",
    max_clusters: int = 6,
    seed: int = 0,
) -> CriteriaClusters:
    """Find criteria that rank the filters of a layer alike, for every layer.

    Parameters
    ----------
    matrix : CriteriaMatrix
        The scores.
    n_clusters : int, optional
        Clusters of every layer; a layer with fewer criteria has one cluster a criterion. By
        default the number with the largest mean silhouette.
    method : {"average", "kmeans"}, default="average"
        Average linkage of 1 - Spearman's rank correlation, or K-means of the ranks, standardised by
        criterion.
    max_clusters : int, default=6
        The most that are tried.
    seed : int, default=0
        Of the first centres of K-means.

    Returns
    -------
    CriteriaClusters

    Raises
    ------
    InputError
        For an argument out of its range, or a layer on which no criterion is defined.
    InputTypeError
        For an argument of a wrong type.

    Notes
    -----
    Squared Euclidean distances of standardised ranks are 2 n (1 - rank correlation), so that both
    methods speak of the same likeness. The sign counts: criteria with opposite orders are far from
    each other. Silhouettes are of 1 - rank correlation for both; equal ones are decided for fewer
    clusters, and one cluster is never chosen, since it has no silhouette (give ``n_clusters=1``).
    K-means finds fewer clusters than asked where criteria have the same ranks.

    That the criteria are clustered layer by layer on the ranks of their scores is from [1]_; the
    methods, the number of clusters and the medoids are ours, as the text of the paper was not
    available.

    References
    ----------
    .. [1] Y. He et al., "Blending Pruning Criteria for Convolutional Neural Networks", ICANN 2021,
       arXiv:2107.05033.
    """
    one_of("method", method, METHODS)
    if n_clusters is not None:
        whole_number("n_clusters", n_clusters, 1)
    whole_number("max_clusters", max_clusters, 2)
    whole_number("seed", seed, 0)
    layers = {}
    for layer in matrix.units.names:
        names = tuple(matrix.defined(layer))
        if not names:
            raise InputError(
                f"none of {', '.join(matrix.names)} is defined on layer {layer!r}; add a criterion "
                "of weights such as 'l1', or leave the layer out with ignore."
            )
        layers[layer] = _clustered(
            layer, names, matrix.of_layer(layer), n_clusters, method, max_clusters, seed
        )
    return CriteriaClusters(matrix, method, layers)


def _clustered(
    layer: str,
    names: tuple[str, ...],
    scores: Floats,
    n_clusters: int | None,
    method: str,
    max_clusters: int,
    seed: int,
) -> LayerClusters:
    """Cluster the criteria of one layer."""
    correlation = rank_correlation(scores)
    distance = 1.0 - correlation
    linkage = average_linkage(correlation) if len(names) > 1 else np.empty((0, 4))

    def cut(k: int) -> Indices:
        if method == "average":
            return _joined(linkage, len(names), k)
        return _by_means(standard_ranks(scores), k, seed)

    tried = range(2, min(max_clusters, len(names) - 1) + 1)
    if n_clusters is not None:
        tried = range(n_clusters, n_clusters + 1)
    found = {k: cut(min(k, len(names))) for k in tried}
    if not found:  # one or two criteria: every one is a cluster
        found = {len(names): np.arange(len(names))}
    silhouettes = {
        int(labels.max()) + 1: _silhouette(distance, labels) for labels in found.values()
    }
    candidates = list(found.values())
    # Rounded: clusters that are equally good are ties, and the first has the fewest.
    best = [round(silhouettes[int(labels.max()) + 1], 12) for labels in candidates]
    labels = candidates[int(order(np.nan_to_num(best, nan=-np.inf))[0])]
    medoids = []
    for k in range(int(labels.max()) + 1):
        mine = np.flatnonzero(labels == k)
        nearest = order(distance[np.ix_(mine, mine)].mean(axis=1).round(12), largest=False)
        medoids.append(names[mine[int(nearest[0])]])
    kept = {k: value for k, value in silhouettes.items() if not math.isnan(value)}
    return LayerClusters(layer, names, labels, tuple(medoids), kept, linkage)


def _joined(linkage: Floats, n: int, k: int) -> Indices:
    """Return the clusters that are left when n - k pairs were joined."""
    # Heights may be equal, so that a cut at a height could not leave exactly k.
    members = {i: [i] for i in range(n)}
    for number, (first, second) in enumerate(linkage[: n - k, :2].astype(int)):
        members[n + number] = members.pop(first) + members.pop(second)
    labels = np.empty(n, dtype=np.int64)
    for label, rows in enumerate(members.values()):
        labels[rows] = label
    return _renumbered(labels)


def _by_means(points: Floats, k: int, seed: int) -> Indices:
    """Return the clusters of K-means."""
    from sklearn.cluster import KMeans

    distinct = len(np.unique(points.round(9), axis=0))  # more clusters than points are none
    fitted = KMeans(min(k, distinct), n_init=10, random_state=seed).fit(points)
    return _renumbered(fitted.labels_)


def _renumbered(labels: Indices) -> Indices:
    """Give clusters numbers in order of appearance."""
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(int(label), len(numbers)) for label in labels])


def _silhouette(distance: Floats, labels: Indices) -> float:
    """Return the mean silhouette; NaN where it is not defined."""
    from sklearn.metrics import silhouette_score

    if not 2 <= int(labels.max()) + 1 <= len(labels) - 1:
        return math.nan
    return float(silhouette_score(distance, labels, metric="precomputed"))
