"""The one list of what each column of a table of patterns means.

Everything that shows or stores a table of patterns reads this list: the DataFrame of
`sigmine.results.PatternResults`, the HTML report (column titles and glossary), the JSON schema
and the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COLUMNS", "COLUMN_NAMES", "FORMATS", "Column", "column"]

FORMATS = ("items", "integer", "decimal", "ratio", "pvalue", "text")


@dataclass(frozen=True)
class Column:
    """One column of a table of patterns.

    Attributes
    ----------
    name : str
        Name in the DataFrame, the CSV file and the JSON file.
    dtype : str
        "tuple" (of item names), "int64", "float64" or "str".
    label : str
        Title for people.
    format : {"items", "integer", "decimal", "ratio", "pvalue", "text"}
        How a value is shown.
    help : str
        One sentence that explains the column.
    """

    name: str
    dtype: str
    label: str
    format: str
    help: str

    @property
    def is_number(self) -> bool:
        """Whether values are numbers (shown right-aligned)."""
        return self.dtype in {"int64", "float64"}


COLUMNS: tuple[Column, ...] = (
    Column(
        "pattern",
        "tuple",
        "Pattern",
        "items",
        "Every item that holds in all rows of the pattern (the closed itemset); itemsets with the "
        "same rows are one hypothesis and are tested once.",
    ),
    Column("length", "int64", "Items", "integer", "Number of items of the pattern."),
    Column(
        "support",
        "int64",
        "Rows",
        "integer",
        "Rows of the searched strata in which every item of the pattern holds (the carriers).",
    ),
    Column("support_cases", "int64", "Cases", "integer", "Carriers that are cases."),
    Column(
        "statistic",
        "float64",
        "CMH statistic",
        "decimal",
        "Cochran-Mantel-Haenszel statistic, one degree of freedom: how far the number of cases "
        "among the carriers is from what the strata lead one to expect.",
    ),
    Column(
        "pvalue",
        "float64",
        "p-value",
        "pvalue",
        "Probability of an association at least this strong if, within every stratum, carriers "
        "were cases as often as other rows; not yet corrected for the number of patterns tested.",
    ),
    Column(
        "log10_pvalue",
        "float64",
        "log10 p",
        "decimal",
        "Base-10 logarithm of the p-value; stays accurate where the p-value itself is too small "
        "for a floating-point number.",
    ),
    Column(
        "pvalue_adjusted",
        "float64",
        "Adjusted p",
        "pvalue",
        "The p-value times the number of testable patterns, at most 1; to be compared with alpha.",
    ),
    Column(
        "minimum_pvalue",
        "float64",
        "Smallest attainable p",
        "pvalue",
        "The smallest p-value that the pattern could have reached, given only how many carriers "
        "each stratum has; patterns that cannot reach significance are never tested.",
    ),
    Column(
        "odds_ratio",
        "float64",
        "Odds ratio",
        "ratio",
        "Odds of being a case among carriers over the odds among the other rows of the same "
        "stratum, pooled over strata (Mantel-Haenszel).",
    ),
    Column(
        "odds_ratio_low",
        "float64",
        "95 % low",
        "ratio",
        "Lower end of the 95 % confidence interval of the pooled odds ratio "
        "(Robins-Breslow-Greenland); not corrected for the number of patterns.",
    ),
    Column(
        "odds_ratio_high",
        "float64",
        "95 % high",
        "ratio",
        "Upper end of the 95 % confidence interval of the pooled odds ratio.",
    ),
    Column(
        "homogeneity_pvalue",
        "float64",
        "Homogeneity p",
        "pvalue",
        "Breslow-Day test with Tarone's adjustment that the odds ratio is the same in every "
        "stratum; a small value says that one pooled odds ratio hides differences.",
    ),
    Column(
        "direction",
        "str",
        "Direction",
        "text",
        "Whether carriers are cases more often (greater) or less often (less) than expected from "
        "their strata.",
    ),
    Column(
        "pvalue_other",
        "float64",
        "p, other method",
        "pvalue",
        "The p-value by the method that was not used for the search: the chi-squared approximation "
        "beside an exact search, the exact test beside an asymptotic one.",
    ),
    Column(
        "pvalue_mid",
        "float64",
        "mid-p",
        "pvalue",
        "Mid-p version of the exact p-value, which counts half of the probability of the observed "
        "outcome; less conservative, shown for comparison only.",
    ),
    Column(
        "generator",
        "tuple",
        "Shortest description",
        "items",
        "A shortest itemset that holds in exactly the same rows; it implies the other items of the "
        "pattern in these data.",
    ),
)

COLUMN_NAMES: tuple[str, ...] = tuple(item.name for item in COLUMNS)

_BY_NAME = {item.name: item for item in COLUMNS}


def column(name: str) -> Column:
    """Return the description of one column.

    Parameters
    ----------
    name : str
        One of `COLUMN_NAMES`.

    Returns
    -------
    Column
        Its description.

    Raises
    ------
    KeyError
        If there is no such column.

    Examples
    --------
    >>> column("odds_ratio").label
    'Odds ratio'
    """
    return _BY_NAME[name]
