"""What a pruning has found: the ranking, the decision, what it rests on, and what it did.

May import: `sigmine`, `sigmine_nn.report`, and what lies below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .agreement import Agreement
from .costs import Costs, Latency
from .criteria import Criterion
from .evaluation import Evaluation
from .joint_removal import NestedRemovalTest
from .removal import RemovalTest
from .report.documents import Renderer, Reported
from .scores import ScoreTable
from .selection import UnitSelection
from .significance import RankUncertainty
from .state_space import DiagonalSystem

if TYPE_CHECKING:
    import pandas as pd

    from .curves import PruningCurves

__all__ = ["PruningResults"]


@dataclass(frozen=True, eq=False)
class PruningResults(Reported):
    """The result of a pruning, for tables and reports.

    Attributes
    ----------
    model_name : str
        Class of the network.
    criterion : Criterion
        What ranked the units.
    settings : mapping
        Parameters of the `Pruner`.
    table : ScoreTable
        The scores.
    selection : UnitSelection
        The units that stay.
    costs : Costs
        Parameters, and multiply-adds where they were counted.
    uncertainty : RankUncertainty or None
        How sure the ranking is; None without a sampling distribution.
    removal : RemovalTest, NestedRemovalTest or None
        The tests of removal, if there were any.
    agreement : Agreement or None
        With other criteria, if there were any.
    before, after : Evaluation or None
        Quality on data that were given for it.
    latency : mapping of str to Latency, or None
        Of "before" and "after", if it was measured.
    step_latency : mapping of str to Latency, or None
        The same of one recurrent step of all state space layers.
    systems : mapping of str to DiagonalSystem, or None
        The discrete system behind every group of states, of the network that was ranked.
    curves : PruningCurves or None
        Quality against the amount removed, if it was measured.
    """

    model_name: str
    criterion: Criterion
    settings: Mapping[str, Any] = field(repr=False)
    table: ScoreTable = field(repr=False)
    selection: UnitSelection = field(repr=False)
    costs: Costs = field(repr=False)
    uncertainty: RankUncertainty | None = field(default=None, repr=False)
    removal: RemovalTest | NestedRemovalTest | None = field(default=None, repr=False)
    agreement: Agreement | None = field(default=None, repr=False)
    before: Evaluation | None = None
    after: Evaluation | None = None
    latency: Mapping[str, Latency] | None = None
    step_latency: Mapping[str, Latency] | None = None
    systems: Mapping[str, DiagonalSystem] | None = field(default=None, repr=False)
    curves: PruningCurves | None = field(default=None, repr=False)

    @property
    def ranking(self) -> pd.DataFrame:
        """A row a unit, best first.

        Columns ``unit``, ``layer``, ``score``, ``standard_error``, ``ci_low``, ``ci_high``,
        ``pvalue``, ``pvalue_adjusted``, ``rank``, ``rank_low``, ``rank_high``, ``p_pruned``,
        ``undecided``, ``keep``. What is not defined is missing, never made up.
        """
        frame = self.table.to_frame().drop(columns=["index", "kind"])
        known = self.uncertainty
        for name in ("ci_low", "ci_high", "rank", "rank_low", "rank_high", "p_pruned"):
            values = None if known is None else getattr(known, name)
            frame[name] = np.nan if values is None else values
        undecided = None if known is None else known.undecided
        frame["undecided"] = False if undecided is None else undecided
        frame["pvalue"] = frame["pvalue_adjusted"] = np.nan
        if isinstance(self.removal, RemovalTest):
            tested = self.removal.tested
            frame.loc[tested, "pvalue"] = self.removal.result.pvalue
            frame.loc[tested, "pvalue_adjusted"] = self.removal.result.pvalue_adjusted
        frame["keep"] = self.selection.keep
        order = ["unit", "layer", "score", "standard_error", "ci_low", "ci_high", "pvalue",
                 "pvalue_adjusted", "rank", "rank_low", "rank_high", "p_pruned", "undecided",
                 "keep"]  # fmt: skip
        return frame[order].sort_values("rank", kind="stable", ignore_index=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values.

        Returns
        -------
        dict
        """
        from .report import summarize

        return summarize(self)

    def _renderers(self) -> tuple[Renderer, Renderer]:
        from .report import render_html, render_markdown

        return render_html, render_markdown

    def print_summary(self) -> None:
        """Print what was asked, removed and kept, and how sure it is."""
        summary = self.to_dict()
        print(summary["question"]["sentence"])
        print(f"{summary['answer']['sentence']} {summary['answer']['quality']}".rstrip())
        if summary["undecided"]:
            print(summary["undecided"]["sentence"])
        print(summary["answer"]["guarantee"])
        for text in summary["warnings"]:
            print(f"Take care. {text}")
