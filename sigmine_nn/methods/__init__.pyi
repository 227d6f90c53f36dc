# The recipes, and the file of each: read by type checkers, and by lazy_loader at run time.
from .balancing import balanced_truncation
from .blending import (
    FILTER_CRITERIA,
    BlendedCriterion,
    BlendSearch,
    CriteriaClusters,
    CriteriaMatrix,
    Evolution,
    LayerClusters,
    cluster_criteria,
    criteria_matrix,
    find_filters,
    search_blend,
)
from .last import LAST

__all__ = [
    "FILTER_CRITERIA",
    "LAST",
    "BlendSearch",
    "BlendedCriterion",
    "CriteriaClusters",
    "CriteriaMatrix",
    "Evolution",
    "LayerClusters",
    "balanced_truncation",
    "cluster_criteria",
    "criteria_matrix",
    "find_filters",
    "search_blend",
]
