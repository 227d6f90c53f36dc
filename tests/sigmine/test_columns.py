"""The list of columns: complete, unambiguous, and the one that every table follows."""

import re

import pytest

from sigmine.columns import COLUMN_NAMES, COLUMNS, FORMATS, column
from sigmine.report.schema import SCHEMA

# The contract: these names, in this order; others may follow.
CONTRACT = [
    "pattern",
    "length",
    "support",
    "support_cases",
    "statistic",
    "pvalue",
    "log10_pvalue",
    "pvalue_adjusted",
    "minimum_pvalue",
    "odds_ratio",
    "odds_ratio_low",
    "odds_ratio_high",
    "homogeneity_pvalue",
    "direction",
]


def test_names_and_order():
    assert list(COLUMN_NAMES[: len(CONTRACT)]) == CONTRACT
    assert list(COLUMN_NAMES[len(CONTRACT) :]) == ["pvalue_other", "pvalue_mid", "generator"]
    assert len({item.label for item in COLUMNS}) == len(COLUMNS)


@pytest.mark.parametrize("item", COLUMNS, ids=lambda item: item.name)
def test_every_column_is_described(item):
    assert item.dtype in {"tuple", "int64", "float64", "str"}
    assert item.format in FORMATS
    assert item.is_number == (item.dtype in {"int64", "float64"})
    assert re.fullmatch(r"[A-Z].*[^.]\.", item.help), "one sentence, with a full stop"


def test_column_by_name():
    assert column("pvalue").name == "pvalue"
    with pytest.raises(KeyError):
        column("p")


def test_the_report_holds_every_column():
    assert list(SCHEMA["patterns"]["rows"][0]) == list(COLUMN_NAMES)
