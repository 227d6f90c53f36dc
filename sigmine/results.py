"""`PatternResults`: the significant patterns of one search, with everything needed to defend them.

Allowed imports: everything below the miner (`problem`, `settings`, `patterns`, `rowsets`,
`columns`, `association`, `search`, `report`), and `files` to write.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .association import cmh, effects
from .exceptions import InputError
from .patterns import compare_results, item_tuples, log_pvalues, pattern_frame
from .report.formats import count_of, format_percent, format_pvalue, join_names
from .rowsets import all_shortest_generators

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from .problem import Problem
    from .search.outcome import SearchOutcome
    from .settings import SearchSettings

__all__ = ["PatternResults", "asymptotic_concerns"]

MEDIAN_CHI2 = 0.45493642311957283  # median of the chi-squared law with one degree of freedom
SEPARATOR = " & "  # between the items of a pattern in text
BALANCED = (0.4, 0.6)  # share of cases within which null runs kept the asymptotic test's level
UNEVEN = (0.2, 0.8)  # share of cases of a stratum; 25 to 75 % kept the level, 2 and 90 % did not
UNEVEN_SHARE = 0.1  # of the searched rows that may lie in uneven strata
THIN_ROWS = 25  # a stratum with fewer rows is thin for the chi-squared approximation
THIN_CLASS = 5  # so is one with fewer cases, or fewer controls
THIN_SHARE = 0.25  # of the searched rows that may lie in thin strata
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
    patterns : DataFrame
        One row a significant pattern, best first; the columns are described in
        `sigmine.columns.COLUMNS`.
    tables : ndarray of int64, shape (n_patterns, n_strata, 2, 2)
        The 2x2 tables, ``[[carrier cases, carrier controls], [other cases, other controls]]``.

    Notes
    -----
    If the outcome is independent of the items given the strata, the probability that `patterns`
    has any row is at most ``settings.alpha`` (family-wise error rate, by Tarone's method): exactly
    so with ``method="exact"``, approximately with ``method="asymptotic"``, see `concerns`. Beside
    true patterns the same holds for the others as far as their p-values are valid given the margins
    of all patterns, which is the premise of any correction that chooses hypotheses by margins.
    """

    problem: Problem
    settings: SearchSettings
    outcome: SearchOutcome
    patterns: pd.DataFrame
    tables: NDArray[np.int64]

    @classmethod
    def from_outcome(
        cls, problem: Problem, settings: SearchSettings, outcome: SearchOutcome
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

        Returns
        -------
        PatternResults
            With every column computed.
        """
        patterns, tables = pattern_frame(problem, settings, outcome)
        return cls(problem, settings, outcome, patterns, tables)

    def __len__(self) -> int:
        return len(self.patterns)

    def __repr__(self) -> str:
        return (
            f"<PatternResults: {len(self):,} significant of {self.n_testable:,} testable patterns, "
            f"target {self.problem.target_name!r}, {self.problem.table.n_strata} strata, "
            f"method {self.settings.method!r}>"
        )

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
        """Alpha over the number of testable patterns: p-values up to it are significant."""
        return self.outcome.corrected_threshold

    @property
    def guarantee(self) -> str:
        """What is promised about false discoveries, as a sentence."""
        percent = f"{100 * self.settings.alpha:g} %"
        given = (
            f" among rows with the same {join_names(self.problem.strata_names)}"
            if self.problem.strata_names
            else " in these rows"
            if self.problem.table.n_strata == 1
            else " within the strata"
        )
        premise = (
            f"If no pattern had anything to do with {self.problem.target_name}{given}, the chance"
        )
        if self.settings.method == "exact":
            return (
                f"{premise} that this list contains even one would be at most {percent} "
                "(family-wise error rate). The exact conditional test makes this hold for any "
                "sizes of the strata."
            )
        return (
            f"{premise} that this list contains even one would be about {percent} at most "
            "(family-wise error rate). The test uses the chi-squared approximation, so this holds "
            'only approximately; method="exact" would guarantee it.'
        )

    @property
    def concerns(self) -> str | None:
        """Where the guarantee is weaker than it looks, as a sentence; None if nowhere."""
        return asymptotic_concerns(self)

    @property
    def disagreements(self) -> NDArray[np.bool_]:
        """Patterns whose p-value by the other method is above the corrected threshold.

        An ndarray of shape (n_patterns,).
        """
        other = self.patterns["pvalue_other"].to_numpy(dtype=np.float64)
        return np.asarray(other > self.corrected_threshold * (1 + LOG10_TOLERANCE))

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

        tables = self.tables[self._row(i)]
        ratio, low, high = effects.stratum_odds_ratios(tables)
        return pd.DataFrame(
            {
                "stratum": list(self.problem.stratum_labels),
                "carriers": tables[:, 0].sum(axis=1),
                "carrier_cases": tables[:, 0, 0],
                "others": tables[:, 1].sum(axis=1),
                "other_cases": tables[:, 1, 0],
                "odds_ratio": ratio,
                "odds_ratio_low": low,
                "odds_ratio_high": high,
            }
        )

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
        names = self.problem.item_names
        index = {name: j for j, name in enumerate(names)}
        pattern = self.patterns["pattern"].iloc[self._row(i)]
        closure = np.array([index[name] for name in pattern], dtype=np.int64)
        table = self.problem.table
        found = all_shortest_generators(table.columns, closure, table.n_rows, limit=limit)
        return item_tuples(names, found)

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

        sizes, case_sizes = self.problem.table.sizes, self.problem.table.case_sizes
        support, cases = self.outcome.sample_support, self.outcome.sample_cases
        logp = log_pvalues(self.settings, support, cases, sizes, case_sizes)
        chi2 = cmh.statistic(support, cases, sizes, case_sizes, variance=self.settings.variance)
        return pd.DataFrame(
            {"statistic": chi2, "pvalue": np.exp(logp), "log10_pvalue": logp / np.log(10.0)}
        )

    @property
    def inflation(self) -> float:
        """Genomic inflation: median statistic of the testable patterns over 0.4549.

        Near 1 if most patterns are unrelated to the outcome within strata; nan if nothing was
        testable. Two-sided whatever the alternative; see `sigmine.metrics.genomic_inflation`.
        """
        statistics = self.testable["statistic"].to_numpy(dtype=np.float64)
        statistics = statistics[np.isfinite(statistics)]
        return float(np.median(statistics) / MEDIAN_CHI2) if len(statistics) else float("nan")

    # ---- with and without the covariate ----------------------------------------------------

    @cached_property
    def _unstratified(self) -> PatternResults:
        from .search import search_patterns

        problem = self.problem.without_strata()
        return PatternResults.from_outcome(
            problem, self.settings, search_patterns(problem, self.settings)
        )

    def unstratified(self) -> PatternResults:
        """Return what the same search finds in the same rows without the covariate.

        Runs on the first call and is kept. With one stratum this is the result itself.

        Returns
        -------
        PatternResults
            With one stratum, "all rows".
        """
        return self if self.problem.table.n_strata == 1 else self._unstratified

    @cached_property
    def _comparison(self) -> pd.DataFrame:
        return compare_results(self, self.unstratified())

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
        """
        return self._comparison.copy()

    def confounded(self) -> pd.DataFrame:
        """Return the discoveries that only a search without the covariate would claim.

        Returns
        -------
        DataFrame
            The rows of `comparison` that are significant without the strata and not with them.
        """
        frame = self._comparison
        return frame[frame["significant_unstratified"] & ~frame["significant"]].reset_index(
            drop=True
        )

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

        self._write(path, render_json(self.to_dict(top=top, confounding=confounding, limit=limit)))

    def to_html(self, path: str | Path, *, top: int = 20, confounding: bool = True) -> None:
        """Write the report as one self-contained HTML file.

        Parameters
        ----------
        path, top, confounding
            As in `to_json`, with the same errors.
        """
        from .report import render_html

        self._write(path, render_html(self.to_dict(top=top, confounding=confounding)))

    def to_markdown(self, path: str | Path, *, top: int = 20, confounding: bool = True) -> None:
        """Write the report as Markdown.

        Parameters
        ----------
        path, top, confounding
            As in `to_json`, with the same errors.
        """
        from .report import render_markdown

        self._write(path, render_markdown(self.to_dict(top=top, confounding=confounding)))

    def to_csv(self, path: str | Path) -> None:
        """Write all patterns as CSV, with " & " between the items of a pattern.

        Parameters
        ----------
        path : str or Path
            The file; replaced at once when it is complete.

        Raises
        ------
        InputError, OSError
            As in `to_json`.
        """
        frame = self.to_frame()
        for name in ("pattern", "generator"):
            frame[name] = [SEPARATOR.join(items) for items in frame[name]]
        self._write(path, frame.to_csv(index=False, lineterminator="\n"))

    @staticmethod
    def _write(path: str | Path, data: str) -> None:
        from .files import atomic_write

        atomic_write(path, data)

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

        return qq(
            self.testable["log10_pvalue"].to_numpy(dtype=np.float64),
            threshold=self.corrected_threshold,
            inflation=self.inflation,
            ax=ax,
        )

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

        return strata(
            [(s.label, s.n, s.n_cases) for s in self.problem.strata_summary],
            case_name=self.problem.class_names[1],
            ax=ax,
        )


def asymptotic_concerns(results: PatternResults) -> str | None:
    """Say where the chi-squared approximation is too thin for the promised error rate.

    Parameters
    ----------
    results : PatternResults
        The result of a search.

    Returns
    -------
    str or None
        Sentences for a `StatisticalWarning` and for the report; None if the search used the exact
        test or if nothing speaks against the approximation.

    Notes
    -----
    At Tarone's thresholds (p of about 1e-7) the chi-squared tail is far below the true
    conditional tail when few cases are expected among the carriers, whatever the number of rows.
    On null data at alpha = 0.05 (the study of the error rate in the documentation) something was
    reported in 2 % of the data sets with one stratum and half of the rows cases, in 68 % with 10 %
    cases, in 99.7 % with 3 %; and in 19 to 41 % with half of the rows cases but strata of unequal
    case rates. Hence the signs that are looked for: a share of cases outside 40 to 60 %, many rows
    in strata with fewer than 25 rows or fewer than 5 cases or controls, or with a case rate outside
    20 to 80 %, and significant patterns that the exact test does not confirm.
    """
    if results.settings.method != "asymptotic":
        return None
    sizes, case_sizes = results.problem.table.sizes, results.problem.table.case_sizes
    n_rows, n_cases = int(sizes.sum()), int(case_sizes.sum())
    signs = []
    if not BALANCED[0] <= n_cases / n_rows <= BALANCED[1]:
        signs.append(
            f"{format_percent(n_cases, n_rows)} of the searched rows are cases (the approximation "
            f"holds its level only near 50 %)"
        )
    smaller = np.minimum(case_sizes, sizes - case_sizes)
    thin = (sizes < THIN_ROWS) | (smaller < THIN_CLASS)
    thin_rows = int(sizes[thin].sum())
    if thin_rows > THIN_SHARE * n_rows:
        signs.append(
            f"{format_percent(thin_rows, n_rows)} of them lie in strata with fewer than "
            f"{THIN_ROWS} rows or fewer than {THIN_CLASS} cases or controls"
        )
    rates = case_sizes / sizes
    uneven_rows = int(sizes[(rates < UNEVEN[0]) | (rates > UNEVEN[1])].sum())
    if uneven_rows > UNEVEN_SHARE * n_rows:
        signs.append(
            f"{format_percent(uneven_rows, n_rows)} of them lie in strata with less than "
            f"{UNEVEN[0]:.0%} or more than {UNEVEN[1]:.0%} cases"
        )
    refuted = int(results.disagreements.sum())
    if refuted:
        signs.append(
            f"{refuted:,} of the {len(results):,} significant patterns "
            f"{'has' if refuted == 1 else 'have'} an exact p-value above the threshold "
            f"{format_pvalue(results.corrected_threshold, plain=True)}"
        )
    if not signs:
        return None
    return (
        "The chi-squared approximation is too thin here for the family-wise error rate of "
        f"{results.settings.alpha:g} that was asked for: {'; '.join(signs)}. Use "
        'method="exact", which keeps the error rate for any design.'
    )
