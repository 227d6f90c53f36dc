"""What the dict of a pruning looks like, and a reader of JSON files that trusts nothing.

Allowed imports: `sigmine.report.schema`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sigmine.report.schema import Anything, Mapping, Nullable, read_report, validate

__all__ = ["FORMAT", "FORMAT_VERSION", "load_summary"]

FORMAT = "sigmine-pruning-report"
FORMAT_VERSION = 1

SCHEMA: dict[str, Any] = {
    "format": "text",
    "version": "count",
    "created": "text",
    "versions": Mapping("text"),
    "model": {"name": "text"},
    "question": {
        "criterion": "text",
        "formula": "text",
        "source": "text",
        "sentence": "text",
        "settings": Mapping(Anything()),
    },
    "answer": {"sentence": "text", "quality": "text", "guarantee": "text"},
    "facts": [{"name": "text", "after": "text", "word": "text", "before": "text"}],
    "warnings": ["text"],
    "layers": [{"layer": "text", "n_units": "count", "n_kept": "count", "undecided": "count?"}],
    "ranking": {
        "rows": [
            {
                "unit": "text",
                "layer": "text",
                "score": "number?",
                "ci_low": "number?",
                "ci_high": "number?",
                "rank": "count?",
                "rank_low": "count?",
                "rank_high": "count?",
                "p_pruned": "number?",
                "undecided": "flag",
                "keep": "flag",
            }
        ],
        "total": "count",
        "sentence": "text",
    },
    "undecided": Nullable(
        {
            "n": "count",
            "share": "number",
            "low": "number",
            "high": "number",
            "confidence": "text",
            "sentence": "text",
        }
    ),
    "removal": Nullable(
        {
            "rows": [
                {
                    "unit": "text",
                    "increase": "number?",
                    "ci_high": "number?",
                    "pvalue": "number?",
                    "pvalue_adjusted": "number?",
                    "removable": "flag",
                }
            ],
            "total": "count",
            "metric": "text",
            "what": "text",
            "sentence": "text",
        }
    ),
    "agreement": Nullable({"names": ["text"], "values": [["number?"]], "sentence": "text"}),
    "states": Nullable(
        {
            "layers": [
                {
                    "layer": "text",
                    "n_states": "count",
                    "points": [{"re": "number", "im": "number", "score": "number", "keep": "flag"}],
                }
            ],
            "sentence": "text",
        }
    ),
    "curves": Nullable(
        {
            "metric": "text",
            "n_models": "count",
            "whole": "number",
            "ways": [
                {
                    "way": "text",
                    "points": [
                        {"amount": "number", "mean": "number", "low": "number?", "high": "number?"}
                    ],
                    "largest": "number",
                }
            ],
            "sentence": "text",
        }
    ),
    "notes": [{"name": "text", "text": "text"}],
}


def load_summary(path: str | Path) -> dict[str, Any]:
    """Read a report of a pruning from a JSON file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict
        Ready for `render_html` and `render_markdown`; every part has been checked.

    Raises
    ------
    FileFormatError
        If the file is not JSON, is cut off, is of another kind or version, or lacks something.
    OSError
        If it cannot be read.
    """
    advice = "Write it with PruningResults.to_json or `sigmine-nn rank --report`."
    return read_report(path, FORMAT, FORMAT_VERSION, advice, _checked)


def _checked(value: dict[str, Any]) -> dict[str, Any]:
    summary: dict[str, Any] = validate(value, SCHEMA)
    _check(summary)
    return summary


def _check(summary: dict[str, Any]) -> None:
    """Check what kinds alone cannot say."""
    for i, row in enumerate(summary["layers"]):
        if row["n_units"] == 0 or row["n_kept"] > row["n_units"]:
            raise ValueError(f"layers[{i}] keeps {row['n_kept']} of {row['n_units']} units")
    for i, row in enumerate(summary["ranking"]["rows"]):
        if row["p_pruned"] is not None and not 0.0 <= row["p_pruned"] <= 1.0:
            raise ValueError(f"ranking.rows[{i}].p_pruned is no probability")
    undecided = summary["undecided"]
    if undecided and not 0.0 <= undecided["low"] <= undecided["high"] <= 1.0:
        raise ValueError("the limits of undecided are no probabilities in order")
    for i, layer in enumerate((summary["states"] or {"layers": []})["layers"]):
        if any(not 0.0 <= point["score"] <= 1.0 for point in layer["points"]):
            raise ValueError(f"states.layers[{i}] has scores outside of 0 to 1")
    agreement = summary["agreement"]
    if agreement:
        sizes = {len(agreement["names"]), len(agreement["values"]), *map(len, agreement["values"])}
        if len(sizes) != 1:
            raise ValueError("agreement is no square matrix with a name a row")
