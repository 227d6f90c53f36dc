"""How numbers are written: one case for each branch, and nothing that lies."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine.report.formats import (
    DASH,
    count_of,
    format_decimal,
    format_integer,
    format_interval,
    format_percent,
    format_pvalue,
    format_ratio,
    join_names,
    short_label,
)


@pytest.mark.parametrize(
    ("pvalue", "log10", "text"),
    [
        (1.0, 0.0, "1"),
        (0.999, None, "1"),
        (0.994, None, "0.99"),
        (0.25, None, "0.25"),
        (0.05, None, "0.050"),
        (0.0312, None, "0.031"),
        (0.001, None, "0.0010"),
        (0.000999, None, "1.0 × 10⁻³"),
        (0.00099, None, "9.9 × 10⁻⁴"),
        (3.14e-9, None, "3.1 × 10⁻⁹"),
        (9.96e-9, None, "1.0 × 10⁻⁸"),
        (1e-300, -300.0, "1.0 × 10⁻³⁰⁰"),
        (0.0, -4321.5, "3.2 × 10⁻⁴³²²"),
        (0.0, None, "< 10⁻³⁰⁷"),
        (0.0, -math.inf, "< 10⁻³⁰⁷"),
        (math.nan, None, DASH),
        (None, None, DASH),
    ],
)
def test_pvalues(pvalue, log10, text):
    assert format_pvalue(pvalue, log10).replace("\u00a0", " ") == text


def test_pvalues_in_plain_text():
    assert format_pvalue(3.14e-9, plain=True) == "3.1e-9"
    assert format_pvalue(0.0, plain=True) == "<1e-307"
    assert format_pvalue(9.47e-6, digits=4, plain=True) == "9.470e-6"


@given(st.floats(1e-300, 1.0))
def test_pvalues_round_correctly(pvalue):
    assert float(format_pvalue(pvalue, plain=True)) == pytest.approx(pvalue, rel=0.051)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.00"),
        (2.931, "2.93"),
        (999.99, "999.99"),
        (999.999, "1.0 × 10³"),
        (15321.0, "1.5 × 10⁴"),
        (0.1, "0.10"),
        (0.0996, "0.10"),
        (0.0042, "0.0042"),
        (0.00042, "4.2 × 10⁻⁴"),
        (0.0, "0"),
        (math.inf, "∞"),
        (math.nan, DASH),
        (None, DASH),
    ],
)
def test_ratios(value, text):
    assert format_ratio(value).replace("\u00a0", " ") == text


def test_ratios_in_plain_text():
    assert format_ratio(math.inf, plain=True) == "inf"
    assert format_ratio(15321.0, plain=True) == "1.5e4"
    assert format_interval(0.5, 2.0, plain=True) == "0.50 to 2.00"


def test_intervals():
    assert format_interval(0.5, math.inf) == "0.50 to ∞"
    assert format_interval(None, 2.0) == format_interval(1.0, math.nan) == DASH


def test_the_rest():
    assert (format_integer(1234567), format_integer(None)) == ("1,234,567", DASH)
    assert (format_decimal(1234.567), format_decimal(None)) == ("1,234.57", DASH)
    assert (format_decimal(math.inf), format_decimal(-math.inf)) == ("∞", "−∞")
    assert format_percent(1, 3) == "33.3\u00a0%"
    assert count_of(0, "row") == "0 rows"
    assert (join_names([]), join_names(["a", "b"])) == ("", "a and b")
    assert join_names(["a", "b", "c"], last="or") == "a, b or c"


@pytest.mark.parametrize(
    ("label", "names", "text"),
    [
        ("sex=m, age=30-39", ["sex", "age"], "m · 30-39"),
        ("a=1, b=x, y=2, c=3", ["a", "b", "c"], "1 · x, y=2 · 3"),
        ("anything", ["sex"], "anything"),
        ("sex=m", ["sex", "age"], "sex=m"),
        ("age=3, sex=m", ["sex", "age"], "age=3, sex=m"),
        ("all rows", [], "all rows"),
    ],
)
def test_labels_of_crossed_strata(label, names, text):
    assert short_label(label, names) == text
