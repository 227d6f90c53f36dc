"""The summary as plain text, for a terminal.

Allowed imports: `report.formats`, `report.coverage`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .coverage import is_lowered, stopped_after
from .formats import (
    count_of,
    format_integer,
    format_interval,
    format_pvalue,
    format_ratio,
    join_names,
)

if TYPE_CHECKING:
    from ..results import PatternResults

__all__ = ["summary_lines"]

SEPARATOR = " & "
WIDTH = 100


def summary_lines(results: PatternResults, top: int, said: Sequence[str] = ()) -> list[str]:
    """Write the counts, the guarantee and the best patterns as lines of at most 100 columns.

    Parameters
    ----------
    results : PatternResults
        The result of a search.
    top : int
        Most patterns to list.
    said : sequence of str, optional
        Warnings that were given already; they are left out.

    Returns
    -------
    list of str
        The lines.
    """
    problem, settings = results.problem, results.settings
    strata = join_names(problem.strata_names) or "none"
    stopped = "" if results.complete else f"; {stopped_after(results)}"
    lines = [
        f"{count_of(len(results), 'significant pattern')} of {results.n_testable:,} testable "
        f"({results.n_visited:,} visited{stopped})",
        *textwrap.wrap(
            f"target {problem.target_name} = {problem.class_names[1]}; "
            f"{count_of(problem.table.n_rows, 'row')} searched, "
            f"{count_of(problem.n_cases, 'case')}; "
            f"{count_of(len(problem.item_names), 'item')}; strata: {strata} "
            f"({problem.table.n_strata:,}); {settings.method} test, {settings.alternative}",
            WIDTH,
        ),
        f"significant: p-value at most {format_pvalue(results.corrected_threshold, plain=True)} "
        f"{'<' if is_lowered(results) else '='} {settings.alpha:g} / "
        f"{max(1, results.n_testable):,}",
        *textwrap.wrap(results.guarantee, WIDTH),
    ]
    for text in (results.coverage, results.concerns):
        if text is not None and not any(text in warning for warning in said):
            lines += textwrap.wrap(f"Warning: {text}", WIDTH)
    if not problem.item_names:
        lines.append("Nothing was testable: no item varies over the searched rows.")
    elif not results.n_testable and not results.complete:
        lines.append("Nothing that was searched was testable.")
    elif results.n_testable == 0:
        smallest = format_pvalue(results.outcome.smallest_minimum_pvalue, plain=True)
        lines += textwrap.wrap(
            f"Nothing was testable: the smallest attainable p-value is {smallest}, against a "
            f"threshold of {settings.alpha:g}.",
            WIDTH,
        )
    if len(results):
        lines += ["", *_summary_table(results, top)]
    if len(results) > top:
        lines.append(f"... and {len(results) - top:,} more")
    return lines


def _summary_table(results: PatternResults, top: int) -> list[str]:
    header = ("", "rows", "cases", "odds ratio (95 % CI)", "p-value", "adjusted")
    rows = []
    found = results.rows(top)
    for rank, row in enumerate(found, start=1):
        interval = format_interval(row["odds_ratio_low"], row["odds_ratio_high"], plain=True)
        rows.append(
            (
                str(rank),
                format_integer(row["support"]),
                format_integer(row["support_cases"]),
                f"{format_ratio(row['odds_ratio'], plain=True)} ({interval})",
                format_pvalue(row["pvalue"], row["log10_pvalue"], plain=True),
                format_pvalue(row["pvalue_adjusted"], plain=True),
            )
        )
    widths = [max(len(cell) for cell in cells) for cells in zip(header, *rows, strict=True)]
    room = WIDTH - sum(widths) - 2 * len(widths)
    texts = ["pattern"]
    for row in found:
        extra = row["length"] - len(row["generator"])
        tail = f" (+{extra} implied)" if extra else ""
        texts.append(_shorten(SEPARATOR.join(row["generator"]), room - len(tail)) + tail)
    width = max(map(len, texts))
    lines = []
    for text, cells in zip(texts, [header, *rows], strict=True):
        numbers = "  ".join(cell.rjust(w) for cell, w in zip(cells[1:], widths[1:], strict=True))
        lines.append(f"{cells[0].rjust(widths[0])}  {text.ljust(width)}  {numbers}".rstrip())
    return lines


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"
