"""`PatternResults`: the significant patterns of one search, with everything needed to defend them.

Allowed imports: everything below the miner (`problem`, `settings`, `patterns`, `rowsets`,
`columns`, `association`, `search`, `report`), and `files` to write.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._atomic import atomic_write
from .association import cmh
from .exceptions import InputError, StatisticalWarning
from .patterns import (
    PatternTable,
    compare_results,
    comparison_frame,
    csv_text,
    item_tuples,
    log_pvalues,
    stratum_columns,
)
from .report.concerns import asymptotic_concerns
from .report.coverage import INCOMPARABLE, coverage_of, guarantee_of, stopped_after
from .report.formats import count_of
from .report.progress import show_progress
from .rowsets import all_shortest_generators

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from .problem import Problem
    from .search.outcome import ProgressCallback, SearchOutcome
    from .settings import SearchSettings

__all__ = ["PatternResults", "asymptotic_concerns"]

MEDIAN_CHI2 = 0.45493642311957283  # median of the chi-squared law with one degree of freedom
SEPARATOR = " & "  # between the items of a pattern in text
LOG10_TOLERANCE = 1e-9  # relative tolerance of "equal to the threshold", on the log scale


@dataclass(frozen=True, eq=False, repr=False)
class PatternResults:
    """The answer of a search: significant patterns, best first, and what they rest on.

    Made by `sigmine.mine_patterns` and `sigmine.FACS`, or by `from_outcome`.

    Attributes
    ----------
    problem : Problem
        The data that were searched.
    settings : SearchSettings
        What was asked.
    outcome : SearchOutcome
        What the search returned.
    time_limit : float or None, default=None
        Seconds that the search was given; the one without strata is given as many.
    verbose : int, default=0
        Above 0, the one without strata shows its progress on stderr.

    Notes
    -----
    If the outcome is independent of the items given the strata, the probability that `patterns`
    has any row is at most ``settings.alpha`` (family-wise error rate, by Tarone's method): exactly
    so with ``method="exact"``, approximately with ``method="asymptotic"``, see `concerns`. Beside
    true patterns the same holds for the others as far as their p-values are valid given the margins
    of all patterns, which is the premise of any correction that chooses hypotheses by margins.

    If the search was stopped by a time limit that was chosen beforehand, the same holds for what
    was searched, but a pattern that is missing may be significant: see `complete`.
    """

    problem: Problem
    settings: SearchSettings
    outcome: SearchOutcome
    time_limit: float | None = None
    verbose: int = 0

    @classmethod
    def from_outcome(
        cls,
        problem: Problem,
        settings: SearchSettings,
        outcome: SearchOutcome,
        time_limit: float | None = None,
    ) -> PatternResults:
        """Describe what a search found.

        Parameters
        ----------
        problem : Problem
            What was searched.
        settings : SearchSettings
            How.
        outcome : SearchOutcome
            The answer of `sigmine.search.search_patterns`.
        time_limit : float or None, default=None
            Seconds that it was given.

        Returns
        -------
        PatternResults
            Columns are computed when they are asked for.
        """
        return cls(problem, settings, outcome, time_limit)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        stopped = "" if self.complete else f", {stopped_after(self)}"
        return (
            f"<PatternResults: {len(self):,} significant of {self.n_testable:,} testable patterns, "
            f"target {self.problem.target_name!r}, {self.problem.table.n_strata} strata, "
            f"method {self.settings.method!r}{stopped}>"
        )

    # ---- the patterns ----------------------------------------------------------------------

    @cached_property
    def _table(self) -> PatternTable:
        return PatternTable(self.problem, self.settings, self.outcome)

    @cached_property
    def patterns(self) -> pd.DataFrame:
        """One row a significant pattern, best first.

        The columns are described in `sigmine.columns.COLUMNS`.
        """
        return self._table.frame()

    @property
    def tables(self) -> NDArray[np.int64]:
        """The 2x2 tables of the patterns, an ndarray of shape (n_patterns, n_strata, 2, 2).

        Each is ``[[carrier cases, carrier controls], [other cases, other controls]]``.
        """
        return self._table.tables

    def rows(self, top: int) -> list[dict[str, Any]]:
        """Return the best patterns as plain values, without describing the others.

        Parameters
        ----------
        top : int
            How many; fewer if there are fewer.

        Returns
        -------
        list of dict
            A dict a pattern, with the columns of `patterns`, and the logarithms log10_pvalue_other
            and log10_minimum_pvalue, which still tell where a p-value is too small for a float.
        """
        return self._table.rows(top)

    # ---- numbers of the search ------------------------------------------------------------

    @property
    def n_visited(self) -> int:
        """Distinct row sets that the search looked at."""
        return self.outcome.n_visited

    @property
    def n_testable(self) -> int:
        """Patterns that could have reached significance: the number to correct for."""
        return self.outcome.n_testable

    @property
    def testability_threshold(self) -> float:
        """Largest attainable minimum p-value that counts as testable; nan if none does."""
        return self.outcome.testability_threshold

    @property
    def corrected_threshold(self) -> float:
        """P-values up to it are significant: alpha / `n_testable`, or less in a stopped search."""
        return self.outcome.corrected_threshold

    @property
    def complete(self) -> bool:
        """Whether the search came to its end; if not, every number is about what was searched."""
        return self.outcome.complete

    @property
    def searched_fraction(self) -> float:
        """Estimated share of the search space that was searched, 0 to 1."""
        return self.outcome.searched_fraction

    @property
    def searched_items(self) -> tuple[str, ...]:
        """Items whose patterns were all searched, so that no significant one is missing.

        The patterns of an item are those in which it is the rarest; see `SearchOutcome`.
        """
        names, found = self.problem.item_names, self.outcome.searched_items
        return tuple(names) if found is None else tuple(names[j] for j in found.tolist())

    @property
    def coverage(self) -> str | None:
        """What was not searched, as sentences; None if the search is complete."""
        return coverage_of(self)

    @property
    def guarantee(self) -> str:
        """What is promised about false discoveries, as a sentence."""
        return guarantee_of(self)

    @property
    def concerns(self) -> str | None:
        """Where the guarantee is weaker than it looks, as a sentence; None if nowhere."""
        return asymptotic_concerns(self)

    @property
    def disagreements(self) -> NDArray[np.bool_]:
        """Patterns whose p-value by the other method is above the corrected threshold.

        An ndarray of shape (n_patterns,).
        """
        return np.asarray(self._table.pvalues_other > self._lenient_threshold)

    @property
    def n_disagreements(self) -> int:
        """How many patterns are among the `disagreements`, counted without their p-values."""
        return self._table.n_refuted(self._lenient_threshold)

    @property
    def _lenient_threshold(self) -> float:
        return self.corrected_threshold * (1 + LOG10_TOLERANCE)

    # ---- tables ----------------------------------------------------------------------------

    @property
    def summary(self) -> pd.DataFrame:
        """The patterns as a DataFrame (same as `to_frame`)."""
        return self.to_frame()

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table of patterns.

        Returns
        -------
        DataFrame
            One row a pattern, best first.
        """
        return self.patterns.copy()

    def stratum_table(self, i: int) -> pd.DataFrame:
        """Return the 2x2 tables of one pattern, a row a stratum.

        Parameters
        ----------
        i : int
            Row of `patterns`, 0 is the best.

        Returns
        -------
        DataFrame
            Columns stratum, carriers, carrier_cases, others, other_cases, odds_ratio,
            odds_ratio_low, odds_ratio_high (95 %, uncorrected; with 0.5 added to every cell of a
            table that has an empty one, as `association.effects.stratum_odds_ratios` does).

        Raises
        ------
        InputError
            If there is no such pattern.
        """
        import pandas as pd

        return pd.DataFrame(stratum_columns(self.problem, self.tables[self._row(i)]))

    def generators(self, i: int, *, limit: int = 100) -> list[tuple[str, ...]]:
        """List the shortest itemsets that hold in exactly the rows of one pattern.

        Parameters
        ----------
        i : int
            Row of `patterns`.
        limit : int, default=100
            Most itemsets to list.

        Returns
        -------
        list of tuple of str
            In item order.

        Raises
        ------
        InputError
            If there is no such pattern.
        """
        closure = self.outcome.closures[self._table.order[self._row(i)]]
        table = self.problem.table
        found = all_shortest_generators(table.columns, closure, table.n_rows, limit=limit)
        return item_tuples(self.problem.item_names, found)

    def _row(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise InputError(
                f"There is no pattern {i}: the result has {count_of(len(self), 'pattern')}, "
                f"counted from 0. Choose one of the rows of `patterns`."
            )
        return int(i)

    # ---- calibration -----------------------------------------------------------------------

    @cached_property
    def testable(self) -> pd.DataFrame:
        """Statistic and p-values of the testable patterns, or of a sample of them.

        A DataFrame with columns statistic, pvalue and log10_pvalue; the share that was sampled is
        ``outcome.sample_fraction``.
        """
        import pandas as pd

        values = self._statistics, np.exp(self._testable_logs), self.testable_log10_pvalues
        return pd.DataFrame(dict(zip(("statistic", "pvalue", "log10_pvalue"), values, strict=True)))

    @property
    def testable_log10_pvalues(self) -> NDArray[np.float64]:
        """Base-10 logarithms of the p-values of `testable`, an ndarray."""
        return np.asarray(self._testable_logs / np.log(10.0), dtype=np.float64)

    @cached_property
    def _testable_logs(self) -> NDArray[np.float64]:
        return log_pvalues(self.settings, *self._sample)

    @property
    def _sample(self) -> tuple[NDArray[np.int64], ...]:
        outcome, table = self.outcome, self.problem.table
        return outcome.sample_support, outcome.sample_cases, table.sizes, table.case_sizes

    @cached_property
    def _statistics(self) -> NDArray[np.float64]:
        return cmh.statistic(*self._sample, variance=self.settings.variance)

    @property
    def inflation(self) -> float:
        """Genomic inflation: median statistic of the testable patterns over 0.4549.

        Near 1 if most patterns are unrelated to the outcome within strata; nan if nothing was
        testable. Two-sided whatever the alternative; see `sigmine.metrics.genomic_inflation`.
        """
        statistics = self._statistics[np.isfinite(self._statistics)]
        return float(np.median(statistics) / MEDIAN_CHI2) if len(statistics) else float("nan")

    # ---- with and without the covariate ----------------------------------------------------

    def unstratified(self, progress: ProgressCallback | None = None) -> PatternResults:
        """Return what the same search finds in the same rows without the covariate.

        Runs on the first call, with the same time limit, and is kept. With one stratum this is the
        result itself.

        Parameters
        ----------
        progress : callable, optional
            Called with a `SearchProgress` a few times a second while the search runs. Without it
            a bar is shown if the first search was asked to be verbose.

        Returns
        -------
        PatternResults
            With one stratum, "all rows".
        """
        if self.problem.table.n_strata == 1:
            return self
        if "_unstratified" not in vars(self):
            from .search import search_patterns

            problem, limit = self.problem.without_strata(), self.time_limit
            with show_progress(progress, self.verbose, "Comparing") as told:
                outcome = search_patterns(problem, self.settings, time_limit=limit, progress=told)
            found = PatternResults(problem, self.settings, outcome, limit, self.verbose)
            vars(self)["_unstratified"] = found
        kept: PatternResults = vars(self)["_unstratified"]
        return kept

    @cached_property
    def compared(self) -> dict[str, Any]:
        """The columns of `comparison`, without names; see `sigmine.patterns.compare_results`."""
        return compare_results(self._table, self.unstratified()._table)

    def comparison(self) -> pd.DataFrame:
        """Compare the patterns that are significant with the covariate, without it, or both.

        Both searches see the same rows, so patterns are matched by their closed itemset.

        Returns
        -------
        DataFrame
            Columns pattern, generator, support, support_cases; pvalue, log10_pvalue, odds_ratio
            (given the strata); pvalue_unstratified, log10_pvalue_unstratified,
            odds_ratio_unstratified; significant, significant_unstratified. Ordered by the
            unstratified p-value.

        Warns
        -----
        StatisticalWarning
            If one of the searches was stopped: what it has not found is then not significant in
            the table, and may be so in truth.
        """
        if not (self.complete and self.unstratified().complete):
            warnings.warn(INCOMPARABLE, StatisticalWarning, stacklevel=2)
        return comparison_frame(self.problem, self.compared)

    def confounded(self) -> pd.DataFrame:
        """Return the discoveries that only a search without the covariate would claim.

        Returns
        -------
        DataFrame
            The rows of `comparison` that are significant without the strata and not with them.
        """
        frame = self.comparison()
        only_without = frame["significant_unstratified"] & ~frame["significant"]
        return frame[only_without].reset_index(drop=True)

    # ---- out -------------------------------------------------------------------------------

    def to_dict(
        self, *, top: int = 20, confounding: bool = True, limit: int | None = 10_000
    ) -> dict[str, Any]:
        """Return the report as a plain dict; see `sigmine.report.summarize`.

        Parameters
        ----------
        top : int, default=20
            Patterns to describe one by one.
        confounding : bool, default=True
            Compare with the search without the covariate (runs it).
        limit : int or None, default=10_000
            Most rows of the table of patterns; None for all.

        Returns
        -------
        dict
            Only str, int, float, bool, None, list and dict.
        """
        from .report import summarize

        return summarize(self, top=top, confounding=confounding, limit=limit)

    def to_json(
        self,
        path: str | Path,
        *,
        top: int = 20,
        confounding: bool = True,
        limit: int | None = 10_000,
    ) -> None:
        """Write the report as JSON, for ``sigmine report`` and `sigmine.report.load_summary`.

        Parameters
        ----------
        path : str or Path
            The file; replaced at once when it is complete.
        top, confounding, limit
            As in `to_dict`.

        Raises
        ------
        InputError, OSError
            If the file cannot be written; one that was there before is unchanged.
        """
        from .report import render_json

        atomic_write(path, render_json(self.to_dict(top=top, confounding=confounding, limit=limit)))

    def to_html(self, path: str | Path, *, top: int = 20, confounding: bool = True) -> None:
        """Write the report as one self-contained HTML file.

        Parameters
        ----------
        path, top, confounding
            As in `to_json`, with the same errors.
        """
        from .report import render_html

        atomic_write(path, render_html(self.to_dict(top=top, confounding=confounding)))

    def to_markdown(self, path: str | Path, *, top: int = 20, confounding: bool = True) -> None:
        """Write the report as Markdown.

        Parameters
        ----------
        path, top, confounding
            As in `to_json`, with the same errors.
        """
        from .report import render_markdown

        atomic_write(path, render_markdown(self.to_dict(top=top, confounding=confounding)))

    def to_csv(self, path: str | Path) -> None:
        """Write all patterns as CSV, with " & " between the items of a pattern.

        Parameters
        ----------
        path
            As in `to_json`, with the same errors.
        """
        atomic_write(path, csv_text(self._table.all_columns, SEPARATOR))

    def print_summary(self, top: int = 10) -> None:
        """Print the counts, the guarantee and the best patterns, within 100 columns.

        Parameters
        ----------
        top : int, default=10
            Most patterns to show.
        """
        from .report.text import summary_lines

        print("\n".join(summary_lines(self, top)))

    def _repr_html_(self) -> str:
        from .report import render_notebook

        return render_notebook(self.to_dict(top=0, confounding=False, limit=10))

    # ---- figures ---------------------------------------------------------------------------

    def plot_forest(self, i: int = 0, ax: Axes | None = None) -> Axes:
        """Draw the odds ratio of one pattern in every stratum, and pooled.

        Parameters
        ----------
        i : int, default=0
            Row of `patterns`.
        ax : matplotlib Axes, optional
            Where to draw; a new figure without it.

        Returns
        -------
        matplotlib Axes
            The axes with the plot. A stratum whose odds ratio is not defined is left blank.

        Raises
        ------
        InputError
            If there is no such pattern.
        """
        from .report.plots import forest

        row = self.patterns.iloc[self._row(i)]
        return forest(self.stratum_table(i), row, title=SEPARATOR.join(row["generator"]), ax=ax)

    def plot_qq(self, ax: Axes | None = None) -> Axes:
        """Draw observed against expected p-values of the testable patterns.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure without it.

        Returns
        -------
        matplotlib Axes
            The axes with the plot.
        """
        from .report.plots import qq

        known = {"threshold": self.corrected_threshold, "inflation": self.inflation}
        return qq(self.testable_log10_pvalues, **known, ax=ax)

    def plot_strata(self, ax: Axes | None = None) -> Axes:
        """Draw the sizes and the case rates of the strata.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure without it.

        Returns
        -------
        matplotlib Axes
            The axes with the plot.
        """
        from .report.plots import strata

        rows = [(s.label, s.n, s.n_cases) for s in self.problem.strata_summary]
        return strata(rows, case_name=self.problem.class_names[1], ax=ax)
