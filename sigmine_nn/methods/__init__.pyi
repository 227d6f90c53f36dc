# The recipes, and the file of each: read by type checkers, and by lazy_loader at run time.
from .balancing import balanced_truncation
from .blending import (
    FILTER_CRITERIA,
    BlendSearch,
    BlendedCriterion,
    CriteriaClusters,
    CriteriaMatrix,
    Evolution,
    LayerClusters,
    cluster_criteria,
    criteria_matrix,
    find_filters,
    search_blend,
)
from .cup_curriculum import CupCurriculum
from .last import LAST

__all__ = [
    "FILTER_CRITERIA",
    "LAST",
    "BlendSearch",
    "BlendedCriterion",
    "CriteriaClusters",
    "CriteriaMatrix",
    "CupCurriculum",
    "Evolution",
    "LayerClusters",
    "balanced_truncation",
    "cluster_criteria",
    "criteria_matrix",
    "find_filters",
    "search_blend",
]
