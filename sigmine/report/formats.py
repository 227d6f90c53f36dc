"""How numbers and names are written for people: one function for each kind of value.

Allowed imports: none of ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = [
    "DASH",
    "NBSP",
    "count_of",
    "format_count",
    "format_decimal",
    "format_duration",
    "format_integer",
    "format_interval",
    "format_percent",
    "format_pvalue",
    "format_ratio",
    "format_share",
    "join_names",
    "short_label",
]

DASH = "–"  # shown where a value does not exist
NBSP = "\u00a0"  # keeps a number and its unit on one line
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_pvalue(
    pvalue: float | None,
    log10_pvalue: float | None = None,
    *,
    digits: int = 2,
    plain: bool = False,
) -> str:
    """Write a p-value.

    Parameters
    ----------
    pvalue : float or None
        The p-value; may have underflowed to 0 if the logarithm is given. None or nan: a dash.
    log10_pvalue : float or None, optional
        Its base-10 logarithm, used below 0.001.
    digits : int, default=2
        Significant digits.
    plain : bool, default=False
        "3.1e-9" instead of "3.1 × 10⁻⁹".

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> print(format_pvalue(3.14e-9), format_pvalue(0.0, -4321.5), format_pvalue(0.0312))
    3.1 × 10⁻⁹ 3.2 × 10⁻⁴³²² 0.031
    """
    if pvalue is None or math.isnan(pvalue):
        return DASH
    if pvalue >= 0.001:
        return _significant(pvalue, digits)
    if log10_pvalue is None or not math.isfinite(log10_pvalue):
        if pvalue <= 0:  # underflow: the smallest double is about 5e-324
            return "<1e-307" if plain else f"<{NBSP}10{'-307'.translate(_SUPERSCRIPT)}"
        log10_pvalue = math.log10(pvalue)
    return _scientific(log10_pvalue, digits, plain)


def _significant(value: float, digits: int) -> str:
    """Write a number in [0.001, 1] with `digits` significant digits and no exponent."""
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # after rounding: 0.0996 is 0.10
    decimals = digits - 1 - exponent
    text = f"{value:.{max(0, decimals)}f}"
    return "1" if float(text) >= 1 else text


def _scientific(log10_value: float, digits: int, plain: bool) -> str:
    exponent = math.floor(log10_value)
    mantissa = f"{10 ** (log10_value - exponent):.{digits - 1}f}"
    if float(mantissa) >= 10:
        exponent, mantissa = exponent + 1, f"{1:.{digits - 1}f}"
    if plain:
        return f"{mantissa}e{exponent}"
    return f"{mantissa}{NBSP}×{NBSP}10{str(exponent).translate(_SUPERSCRIPT)}"


def format_ratio(value: float | None, *, plain: bool = False) -> str:
    """Write an odds ratio: two decimals where they mean something.

    Parameters
    ----------
    value : float or None
        At least 0, or inf; None or nan: a dash.
    plain : bool, default=False
        Only ASCII: "inf" instead of "∞".

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> print(*[format_ratio(v) for v in (2.931, 0.0042, 15321.0, float("inf"), 0.0)])
    2.93 0.0042 1.5 × 10⁴ ∞ 0
    """
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "inf" if plain else "∞"
    if value == 0:
        return "0"
    if value < 0.1:
        return (
            _significant(value, 2) if value >= 0.001 else _scientific(math.log10(value), 2, plain)
        )
    if value < 999.995:
        return f"{value:.2f}"
    return _scientific(math.log10(value), 2, plain)


def format_interval(low: float | None, high: float | None, *, plain: bool = False) -> str:
    """Write an interval of odds ratios, or a dash if it does not exist."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return DASH
    return f"{format_ratio(low, plain=plain)} to {format_ratio(high, plain=plain)}"


def format_integer(value: int | None) -> str:
    """Write a count with commas between thousands."""
    return DASH if value is None else f"{value:,}"


def format_decimal(value: float | None, digits: int = 2) -> str:
    """Write a number with a fixed number of decimals, or a dash."""
    if value is None or math.isnan(value):
        return DASH
    return ("∞" if value > 0 else "−∞") if math.isinf(value) else f"{value:,.{digits}f}"


def format_percent(part: int, whole: int) -> str:
    """Write a share as a percentage, or a dash if there is nothing to share.

    Examples
    --------
    >>> print(format_percent(2053, 6366), format_percent(0, 0))
    32.2 % –
    """
    return DASH if whole == 0 else f"{100 * part / whole:.1f}{NBSP}%"


def format_share(fraction: float) -> str:
    """Write an estimated share in whole percent, rounded down: 100 % means all.

    Examples
    --------
    >>> print(*[format_share(f) for f in (0.9999, 0.3456, 0.004, 0.0, 1.0)], sep=", ")
    99 %, 34 %, less than 1 %, 0 %, 100 %
    """
    if 0.0 < fraction < 0.01:
        return f"less than 1{NBSP}%"
    return f"{math.floor(100 * min(1.0, fraction))}{NBSP}%"


def format_count(value: float) -> str:
    """Write a large count with three digits, for a line that changes all the time.

    Examples
    --------
    >>> [format_count(n) for n in (678, 9_999, 12_345, 7_865_356, 244_601_181, 3.2e10)]
    ['678', '9,999', '12.3k', '7.87M', '245M', '32.0G']
    """
    if value < 10_000:
        return f"{value:,.0f}"
    unit = "k" if value < 999_500 else "M" if value < 999_500_000 else "G"
    scaled = value / {"k": 1e3, "M": 1e6, "G": 1e9}[unit]
    decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:,.{decimals}f}{unit}"


def format_duration(seconds: float) -> str:
    """Write a time as people say it: seconds, minutes or hours.

    Examples
    --------
    >>> [format_duration(s) for s in (0.4, 72, 720, 9000, 400_000)]
    ['1 s', '72 s', '12 min', '2.5 h', '111 h']
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 6000:
        return f"{round(seconds / 60)} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"


def count_of(count: int, noun: str, plural: str | None = None) -> str:
    """Write a count with its noun.

    Examples
    --------
    >>> count_of(1, "row"), count_of(1200, "row"), count_of(3, "stratum", "strata")
    ('1 row', '1,200 rows', '3 strata')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def join_names(names: Sequence[str], *, last: str = "and") -> str:
    """Write a list of names as part of a sentence.

    Examples
    --------
    >>> join_names(["age", "sex", "site"]), join_names(["age"])
    ('age, sex and site', 'age')
    """
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def short_label(label: str, names: Sequence[str]) -> str:
    """Leave the names of several covariates out of a stratum's label; its column shows them.

    Parameters
    ----------
    label : str
        As from `sigmine.strata.encode_strata`: "sex=male, age=30-39" with two or more names.
    names : sequence of str
        The covariates, in the order of the label.

    Returns
    -------
    str
        "male · 30-39"; the label itself if it has another form.

    Examples
    --------
    >>> short_label("sex=male, age=30-39", ["sex", "age"]), short_label("male", ["sex"])
    ('male · 30-39', 'male')
    """
    if len(names) < 2:
        return label
    values = []
    rest = label
    for name, following in zip(names, [*names[1:], None], strict=True):
        if not rest.startswith(f"{name}="):
            return label
        rest = rest[len(name) + 1 :]
        end = len(rest) if following is None else rest.find(f", {following}=")
        if end < 0:
            return label
        values.append(rest[:end])
        rest = rest[end + 2 :]
    return " · ".join(values)
