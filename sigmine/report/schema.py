"""What a report dict looks like, and a reader of JSON files that trusts nothing.

A schema is a nested value: a dict lists the keys that must be there, a list of one element is a
list of any length, and a string names a kind of value (`_KINDS`); "?" behind a kind allows None.

Allowed imports: `columns`, `exceptions`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..columns import COLUMNS
from ..exceptions import FileFormatError
from .summarize import FORMAT, FORMAT_VERSION

__all__ = ["SCHEMA", "Anything", "Mapping", "Nullable", "load_summary", "read_report", "validate"]

MAX_COUNT = 2**63 - 1
LARGEST = sys.float_info.max

_KINDS = {
    "text": "a string",
    "count": "a whole number of at least 0",
    "number": "a number",
    "flag": "true or false",
}


class Nullable:
    """A schema, or null in its place."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema


class Mapping:
    """An object with any keys, and values of one schema."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema


class Anything:
    """Any plain value (settings): shown through ``repr`` only."""


_COLUMN_SCHEMA = {"tuple": ["text"], "int64": "count", "float64": "number?", "str": "text"}

_PATTERN = {column.name: _COLUMN_SCHEMA[column.dtype] for column in COLUMNS}

_STRATUM_OF_PATTERN = {
    "label": "text",
    "carriers": "count",
    "carrier_cases": "count",
    "others": "count",
    "other_cases": "count",
    "odds_ratio": "number?",
    "odds_ratio_low": "number?",
    "odds_ratio_high": "number?",
    "weight": "number",
}

_DETAIL = {
    "rank": "count",
    "pattern": ["text"],
    "generator": ["text"],
    "generators": [["text"]],
    "sentence": "text",
    "direction": "text",
    "table": [["count"]],
    "statistic": "number?",
    "pvalue": "number?",
    "log10_pvalue": "number?",
    "pvalue_adjusted": "number?",
    "minimum_pvalue": "number?",
    "odds_ratio": "number?",
    "odds_ratio_low": "number?",
    "odds_ratio_high": "number?",
    "homogeneity_pvalue": "number?",
    "pvalue_other": "number?",
    "pvalue_mid": "number?",
    "log10_pvalue_other": "number?",
    "log10_minimum_pvalue": "number?",
    "warnings": ["text"],
    "strata": [_STRATUM_OF_PATTERN],
    "n_strata": "count",
}

_CONFOUNDED = {
    "pattern": ["text"],
    "generator": ["text"],
    "support": "count",
    "support_cases": "count",
    "pvalue": "number?",
    "log10_pvalue": "number?",
    "odds_ratio": "number?",
    "pvalue_unstratified": "number?",
    "log10_pvalue_unstratified": "number?",
    "odds_ratio_unstratified": "number?",
}

SCHEMA: dict[str, Any] = {
    "format": "text",
    "version": "count",
    "created": "text",
    "versions": Mapping("text"),
    "question": {
        "sentence": "text",
        "target": "text",
        "control": "text",
        "case": "text",
        "strata_names": ["text"],
    },
    "answer": {"n_significant": "count", "sentence": "text", "headline": "text?"},
    "data": {
        "n_rows": "count",
        "n_searched": "count",
        "n_cases": "count",
        "n_items": "count",
        "n_strata": "count",
        "n_strata_searched": "count",
        "n_uninformative": "count",
        "n_uninformative_rows": "count",
        "strata": [{"label": "text", "n": "count", "n_cases": "count", "informative": "flag"}],
    },
    "tested": {
        "alpha": "number",
        "method": "text",
        "alternative": "text",
        "n_visited": "count",
        "n_testable": "count",
        "testability_threshold": "number?",
        "corrected_threshold": "number?",
        "smallest_minimum_pvalue": "number?",
        "guarantee": "text",
        "seconds": "number?",
        "complete": "flag",
        "searched_fraction": "number",
        "coverage": "text?",
        "lowered": "flag",
    },
    "warnings": ["text"],
    "patterns": {"total": "count", "included": "count", "rows": [_PATTERN]},
    "details": [_DETAIL],
    "calibration": {
        "n": "count",
        "fraction": "number",
        "inflation": "number?",
        "points": [["number"]],
    },
    "confounding": Nullable(
        {
            "sentence": "text",
            "n_testable": "count",
            "corrected_threshold": "number?",
            "inflation": "number?",
            "n_significant": "count",
            "n_shared": "count",
            "n_confounded": "count",
            "n_gone": "count",
            "n_gained": "count",
            "rows": [_CONFOUNDED],
            "points": [["number"]],
        }
    ),
    "notes": ["text"],
    "dropped": {"total": "count", "rows": [{"name": "text", "reason": "text"}]},
    "settings": Mapping(Anything()),
    "reproduce": "text",
}


class _Mismatch(Exception):
    """A value that does not fit, with where it is."""


def validate(value: Any, schema: Any = SCHEMA, where: str = "") -> Any:
    """Check a value read from JSON and bring it into the form that `summarize` gives.

    Parameters
    ----------
    value : object
        What ``json`` read.
    schema : object, optional
        Default: that of a report.
    where : str, optional
        Path of the value, for messages.

    Returns
    -------
    object
        The same value with "inf" and "-inf" turned into numbers; keys that the schema does not
        know are left out.

    Raises
    ------
    ValueError
        If something is missing or of the wrong kind; the message says where.
    """
    try:
        return _fit(value, schema, where)
    except _Mismatch as mismatch:
        raise ValueError(str(mismatch)) from None


def _fit(value: Any, schema: Any, where: str) -> Any:
    if isinstance(schema, Anything):
        return value
    if isinstance(schema, Nullable):
        return None if value is None else _fit(value, schema.schema, where)
    if isinstance(schema, str):
        return _fit_leaf(value, schema, where)
    if isinstance(schema, list):
        if not isinstance(value, list):
            raise _mismatch(value, "a list", where)
        return [_fit(item, schema[0], f"{where}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, dict):
        raise _mismatch(value, "an object", where)
    if isinstance(schema, Mapping):
        return {key: _fit(item, schema.schema, f"{where}.{key}") for key, item in value.items()}
    fitted = {}
    for key, part in schema.items():
        inner = f"{where}.{key}" if where else key
        if key not in value:
            raise _Mismatch(f"{inner} is missing")
        fitted[key] = _fit(value[key], part, inner)
    return fitted


def _fit_leaf(value: Any, kind: str, where: str) -> Any:
    name = kind.removesuffix("?")
    if value is None and kind.endswith("?"):
        return None
    if name == "number" and value in ("inf", "-inf"):
        return math.inf if value == "inf" else -math.inf
    if name == "number" and type(value) in (int, float):
        if abs(value) <= LARGEST:
            return float(value)
    elif (
        (name == "text" and isinstance(value, str))
        or (name == "flag" and isinstance(value, bool))
        or (name == "count" and type(value) is int and 0 <= value <= MAX_COUNT)
    ):
        return value
    raise _mismatch(value, _KINDS[name], where)


def _mismatch(value: Any, expected: str, where: str) -> _Mismatch:
    shown = repr(value)
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    return _Mismatch(f"{where or 'the file'} is {shown}, expected {expected}")


def _check_shapes(summary: dict[str, Any]) -> None:
    """Check what kinds alone cannot say: 2x2 tables, points of a figure, counts that fit."""
    for i, detail in enumerate(summary["details"]):
        if [len(row) for row in detail["table"]] != [2, 2]:
            raise ValueError(f"details[{i}].table is not a 2x2 table of counts")
    figures = [("calibration", 2), ("confounding", 3)]
    for name, length in figures:
        part = summary[name]
        for i, point in enumerate(part["points"] if part else ()):
            if len(point) != length or not all(map(math.isfinite, point)):
                raise ValueError(f"{name}.points[{i}] is not {length} finite numbers")
    for i, stratum in enumerate(summary["data"]["strata"]):
        if stratum["n_cases"] > stratum["n"]:
            raise ValueError(f"data.strata[{i}] has more cases than rows")


def _check_coverage(tested: dict[str, Any]) -> None:
    """Check that a search that was stopped says what it left out."""
    if not 0.0 <= tested["searched_fraction"] <= 1.0:
        raise ValueError("tested.searched_fraction is not a share from 0 to 1")
    if tested["complete"] != (tested["coverage"] is None):
        raise ValueError("tested.complete and tested.coverage contradict each other")


def _upgraded(value: dict[str, Any]) -> dict[str, Any]:
    """Bring a report of version 1, when every search ran to its end, into the present form."""
    tested = value.get("tested")
    if value["version"] != 1 or not isinstance(tested, dict):
        return value
    whole = {"complete": True, "searched_fraction": 1.0, "coverage": None, "lowered": False}
    return {**value, "version": FORMAT_VERSION, "tested": {**tested, **whole}}


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not valid JSON")


def read_report(
    path: str | Path,
    kind: str,
    version: int,
    advice: str,
    checked: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Read a report of some kind.

    Parameters
    ----------
    path : str or Path
        The file.
    kind : str
        What must stand behind ``"format"``.
    version : int
        The newest version that is known; all from 1 on are.
    advice : str
        A sentence that says how such a file is made.
    checked : callable
        Returns the dict with every part checked (`validate`), or raises a ValueError that says what
        is wrong.

    Returns
    -------
    dict
        As `checked` returned it.

    Raises
    ------
    FileFormatError
        If the file is not JSON, is cut off, is of another kind or version, or is refused.
    OSError
        If it cannot be read.
    """
    name = str(path)
    try:
        value = json.loads(Path(path).read_bytes(), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise FileFormatError(
            f"this is not JSON, or it is cut off ({error.msg}); expected a sigmine report. "
            f"{advice}",
            path=name,
            line=error.lineno,
        ) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise FileFormatError(
            f"this cannot be read as JSON ({error}); expected a sigmine report. {advice}",
            path=name,
        ) from None
    if not isinstance(value, dict) or value.get("format") != kind:
        raise FileFormatError(
            f'this is JSON, but not a sigmine report (no "format": "{kind}"). {advice}',
            path=name,
        )
    if value.get("version") not in range(1, version + 1):
        raise FileFormatError(
            f"this report has format version {value.get('version')!r}; this sigmine reads versions "
            f"1 to {version}. Write it again with this version, or read it with the newer "
            "one.",
            path=name,
        )
    try:
        return checked(value)
    except ValueError as error:
        raise FileFormatError(f"the report is damaged: {error}. {advice}", path=name) from None


def load_summary(path: str | Path) -> dict[str, Any]:
    """Read a report from a JSON file that `sigmine` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict
        Ready for `render_html`, `render_markdown` and `render_json`; every part has been checked.

    Raises
    ------
    FileFormatError
        If the file is not JSON, is cut off, is of another kind or version, or lacks something.
    OSError
        If it cannot be read.
    """
    advice = "Write it with PatternResults.to_json or `sigmine mine --json`."
    return read_report(path, FORMAT, FORMAT_VERSION, advice, _checked)


def _checked(value: dict[str, Any]) -> dict[str, Any]:
    summary: dict[str, Any] = validate(_upgraded(value))
    _check_shapes(summary)
    _check_coverage(summary["tested"])
    return summary
