# The public names, and where each one is: read by type checkers, and by lazy_loader at run time.
from . import agreement, calibrate, criteria, methods, state_space
from .agreement import Agreement, Stability, stability
from .bridge import mine_units
from .calibrate import Calibration, Statistic
from .comparison import compare_models, mcnemar, newcombe_interval, paired_bootstrap
from .costs import Costs, Latency, measure_latency
from .criteria import CRITERIA, Criterion, get_criterion
from .curves import PruningCurves, pruning_curve
from .discovery import find_units
from .evaluation import Evaluation, evaluate
from .exceptions import CalibrationError, EquivalenceError, ModelError, TracingError
from .growth import (
    Growth,
    MaskHistory,
    ValueSource,
    choose_growth,
    regrown_values,
    reset_optimizer_state,
)
from .joint_removal import (
    JointRemovalTest,
    NestedRemovalTest,
    nested_keeps,
    test_joint_removal,
    test_nested_removal,
)
from .masks import Masks, apply_masks
from .pruner import Pruner
from .removal import RemovalTest, test_removal
from .results import PruningResults
from .risk_control import choose_sparsity
from .risks import split_data
from .saving import load_pruned, save_pruned
from .schedules import Cup, Geometric, Linear, OneShot, Polynomial, ProgressiveSoft
from .scores import Aggregate, ScoreTable
from .scoring import score_by_criteria, score_units
from .selection import UnitSelection, select_units
from .significance import RankUncertainty, rank_uncertainty
from .stopping import calibrate_until
from .surgery import recalibrate_batchnorm, remove_units
from .units import Gate, Kind, Role, SizeAttribute, Slice, UnitGroup, Units

__version__: str

__all__ = [
    "CRITERIA",
    "Aggregate",
    "Agreement",
    "Calibration",
    "CalibrationError",
    "Costs",
    "Criterion",
    "Cup",
    "EquivalenceError",
    "Evaluation",
    "Gate",
    "Geometric",
    "Growth",
    "JointRemovalTest",
    "Kind",
    "Latency",
    "Linear",
    "MaskHistory",
    "Masks",
    "ModelError",
    "NestedRemovalTest",
    "OneShot",
    "Polynomial",
    "ProgressiveSoft",
    "Pruner",
    "PruningCurves",
    "PruningResults",
    "RankUncertainty",
    "RemovalTest",
    "Role",
    "ScoreTable",
    "SizeAttribute",
    "Slice",
    "Stability",
    "Statistic",
    "TracingError",
    "UnitGroup",
    "UnitSelection",
    "Units",
    "ValueSource",
    "__version__",
    "agreement",
    "apply_masks",
    "calibrate",
    "calibrate_until",
    "choose_growth",
    "choose_sparsity",
    "compare_models",
    "criteria",
    "evaluate",
    "find_units",
    "get_criterion",
    "load_pruned",
    "mcnemar",
    "measure_latency",
    "methods",
    "mine_units",
    "nested_keeps",
    "newcombe_interval",
    "paired_bootstrap",
    "pruning_curve",
    "rank_uncertainty",
    "recalibrate_batchnorm",
    "regrown_values",
    "remove_units",
    "reset_optimizer_state",
    "save_pruned",
    "score_by_criteria",
    "score_units",
    "select_units",
    "split_data",
    "stability",
    "state_space",
    "test_joint_removal",
    "test_nested_removal",
    "test_removal",
]
