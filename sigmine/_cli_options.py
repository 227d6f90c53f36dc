"""The options of ``sigmine mine``: their names, and what they mean in the words of a user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .settings import ALTERNATIVES, METHODS, TWO_SIDED, VARIANCES


def _option(panel: str, name: str, words: str, metavar: str | None = None) -> Any:
    return typer.Option(name, help=words, metavar=metavar, rich_help_panel=panel)


DATA, ITEMS, TEST, OUTPUT = "Data", "Items from columns", "Test and search", "Output"

Table = Annotated[
    Path,
    typer.Argument(
        help="The data: CSV, TSV or Parquet with one row a subject and one column a variable; or "
        "a FIMI file (.dat) with the items of one subject a line.",
        metavar="TABLE",
        show_default=False,
    ),
]
Target = Annotated[
    str | None, _option(DATA, "--target", "Column of the outcome, of two values.", "COLUMN")
]
Positive = Annotated[
    str | None,
    _option(DATA, "--positive", "Value of the outcome that makes a row a case.", "VALUE"),
]
StrataNames = Annotated[
    list[str] | None,
    _option(
        DATA,
        "--strata",
        "Column to adjust for (hospital, sex, batch): patterns are compared only within rows that "
        "share its value. Repeat it, or separate by commas, to cross several.",
        "COLUMN",
    ),
]
Columns = Annotated[
    list[str] | None,
    _option(
        DATA, "--columns", "Use these columns only. Repeat it or separate by commas.", "COLUMN"
    ),
]
Exclude = Annotated[
    list[str] | None,
    _option(DATA, "--exclude", "Leave these columns out (an identifier, a date).", "COLUMN"),
]
Labels = Annotated[
    Path | None,
    _option(DATA, "--labels", "For a .dat file: the outcome, one value a line.", "FILE"),
]
Covariates = Annotated[
    Path | None,
    _option(DATA, "--covariates", "For a .dat file: the stratum, one value a line.", "FILE"),
]
Bins = Annotated[
    int, _option(ITEMS, "--bins", "Into how many intervals a numeric column is cut.", "N")
]
BinMethod = Annotated[
    str,
    _option(
        ITEMS,
        "--bin-method",
        "quantile: intervals with about equally many rows; width: of equal width.",
        "quantile|width",
    ),
]
Edges = Annotated[
    list[str] | None,
    _option(
        ITEMS,
        "--edges",
        "Cut a column at these values instead: age=30,50. Repeat it.",
        "COLUMN=A,B",
    ),
]
Negate = Annotated[
    bool, _option(ITEMS, "--negate", "Make an item of the absence of each item too.")
]
Missing = Annotated[
    str,
    _option(
        ITEMS,
        "--missing",
        "What to do with empty cells. error: stop and name them; absent: the row has none of the "
        "column's items; item: being empty is an item; drop: leave the row out.",
        "error|absent|item|drop",
    ),
]
MaxLevels = Annotated[
    int,
    _option(ITEMS, "--max-levels", "Leave out a text column with more distinct values.", "N"),
]
Alpha = Annotated[
    float,
    _option(
        TEST,
        "--alpha",
        "Family-wise error rate: the chance of reporting any pattern if none were real.",
        "LEVEL",
    ),
]
Method = Annotated[
    str,
    _option(
        TEST,
        "--method",
        "exact: the conditional test, right for any counts; asymptotic: its chi-squared "
        "approximation, as published, too lenient where cases are few.",
        "|".join(METHODS),
    ),
]
Alternative = Annotated[
    str,
    _option(
        TEST,
        "--alternative",
        "greater: only patterns that make the outcome more frequent; less: less frequent.",
        "|".join(ALTERNATIVES),
    ),
]
TwoSided = Annotated[
    str,
    _option(
        TEST,
        "--two-sided",
        "Two-sided p-value of the exact test. central: twice the smaller tail; minlike: as R does.",
        "|".join(TWO_SIDED),
    ),
]
Variance = Annotated[
    str,
    _option(
        TEST,
        "--variance",
        "Variance of the CMH statistic: textbook, or that of the FACS paper.",
        "|".join(VARIANCES),
    ),
]
GridStep = Annotated[
    float | None,
    _option(
        TEST,
        "--grid-step",
        "Walk a grid of thresholds instead of finding the exact one; 0.06 repeats the original "
        "programs.",
        "STEP",
    ),
]
MinSupport = Annotated[
    int, _option(TEST, "--min-support", "Fewest rows that a pattern must hold in.", "N")
]
MaxLength = Annotated[
    int | None, _option(TEST, "--max-length", "Most items that a pattern may need.", "N")
]
Jobs = Annotated[
    int | None,
    _option(TEST, "--n-jobs", "Parallel workers; -1 takes every processor.", "N"),
]
TimeLimit = Annotated[
    str | None,
    _option(
        TEST,
        "--time-limit",
        "Stop the search after this time (90, 10m, 2h) and report what was searched up to there; "
        "the output says how much that is.",
        "TIME",
    ),
]
Checkpoint = Annotated[
    Path | None,
    _option(
        TEST,
        "--checkpoint",
        "Keep in this folder what the search has found so far: after Ctrl-C, a crash or the time "
        "limit the same command goes on from there.",
        "FOLDER",
    ),
]
Out = Annotated[Path | None, _option(OUTPUT, "--out", "Write the patterns as CSV.", "FILE.csv")]
Report = Annotated[
    Path | None,
    _option(OUTPUT, "--report", "Write the report: .html or .md.", "FILE.html"),
]
Json = Annotated[
    Path | None,
    _option(
        OUTPUT, "--json", "Write the results as JSON, which `sigmine report` reads.", "FILE.json"
    ),
]
Top = Annotated[
    int, typer.Option("--top", min=0, help="Patterns to print.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool, _option(OUTPUT, "--quiet", "No progress, no summary: results, warnings and errors only.")
]
