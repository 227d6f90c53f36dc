"""Blending of pruning criteria: how far criteria agree, clusters of those that do, and a blend.

After Y. He, L. Huang, Z. Liang, W. Liang, J. Yang, Blending Pruning Criteria for Convolutional
Neural Networks, ICANN 2021, arXiv:2107.05033.

The way of the data, a file a step: `matrix` (scores of every filter by every criterion, from one
pass), `clustering` (criteria that rank a layer alike), `genome` (what a blend can be), `fitness`
(how well a network does without the filters that it ranks last), `search` (evolution, and random
search beside it), `outcome` (its settings and what it has found), `criterion` (the blend that came
out, as a criterion of the engine), `recipe_file` (it in a file), `summary` (the search as a plain
dict, for `sigmine_nn.report`).

May import: everything of `sigmine_nn` but `cli`.
"""

from __future__ import annotations

from .clustering import CriteriaClusters, LayerClusters, cluster_criteria
from .criterion import BlendedCriterion
from .matrix import FILTER_CRITERIA, CriteriaMatrix, criteria_matrix, find_filters
from .outcome import BlendSearch, Evolution
from .search import search_blend

__all__ = [
    "FILTER_CRITERIA",
    "BlendSearch",
    "BlendedCriterion",
    "CriteriaClusters",
    "CriteriaMatrix",
    "Evolution",
    "LayerClusters",
    "cluster_criteria",
    "criteria_matrix",
    "find_filters",
    "search_blend",
]
