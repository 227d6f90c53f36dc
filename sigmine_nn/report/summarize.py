"""Collect the results of a pruning into a plain dict: strings, numbers, lists, None.

Allowed imports: `sigmine`, `sigmine_nn.units`; `sigmine_nn.results` for the type checker only.
"""

from __future__ import annotations

import datetime
import math
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from sigmine import __version__
from sigmine.report import formats

from ..units import Kind
from .schema import FORMAT, FORMAT_VERSION
from .states import state_facts, summarize_curves, summarize_states

if TYPE_CHECKING:
    from ..evaluation import Evaluation
    from ..results import PruningResults

__all__ = ["summarize"]

_ROWS = 40  # of the ranking, and of the tests
_VERSIONS = ("torch", "numpy", "scipy")


def summarize(results: PruningResults) -> dict[str, Any]:
    """Collect all that a report says.

    Parameters
    ----------
    results : PruningResults
        The results.

    Returns
    -------
    dict
        Nothing but dicts, lists, strings, numbers, booleans and None.
    """
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "sigmine": __version__,
            **{name: metadata.version(name) for name in _VERSIONS},
        },
        "model": {"name": results.model_name},
        "question": _question(results),
        "answer": _answer(results),
        "facts": _facts(results),
        "warnings": _warnings(results),
        "layers": _layers(results),
        "ranking": _ranking(results),
        "undecided": _undecided(results),
        "removal": _removal(results),
        "agreement": _agreement(results),
        "states": summarize_states(results),
        "curves": summarize_curves(results),
        "notes": _notes(results),
    }


def _question(results: PruningResults) -> dict[str, Any]:
    units = results.table.units
    kinds = sorted({str(group.kind).replace("_", " ") for group in units})
    sentence = (
        f"{units.n:,} units ({formats.join_names(kinds)}) in "
        f"{formats.count_of(len(units), 'group')} were ranked by {results.criterion.name!r}"
    )
    if results.table.has_sampling_distribution:
        samples = formats.count_of(results.table.n_samples, "calibration sample")
        sentence += f", from {samples}"
    return {
        "criterion": results.criterion.name,
        "formula": results.criterion.formula,
        "source": results.criterion.source,
        "sentence": f"{sentence}.",
        "settings": {name: _plain(value) for name, value in results.settings.items()},
    }


def _answer(results: PruningResults) -> dict[str, Any]:
    keep = results.selection.keep
    n_gone = int((~keep).sum())
    before, after = results.costs.parameters(), results.costs.parameters(keep)
    sentence = (
        f"{n_gone:,} of {len(keep):,} units go, and with them "
        f"{formats.format_share(1 - after / before)} of the parameters."
    )
    return {"sentence": sentence, "quality": _quality(results), "guarantee": _guarantee(results)}


def _quality(results: PruningResults) -> str:
    before, after = results.before, results.after
    if before is None or after is None:
        return ""
    if before.accuracy is not None and after.accuracy is not None:
        change = (
            f"accuracy {formats.format_share(before.accuracy)} before and "
            f"{formats.format_share(after.accuracy)} after"
        )
    else:
        change = f"mean loss {before.loss:.4g} before and {after.loss:.4g} after"
    return f"On {formats.count_of(before.n_samples, 'sample')} that were kept apart: {change}."


def _guarantee(results: PruningResults) -> str:
    settings = results.settings
    if results.removal is not None:
        level, margin = formats.format_share(settings["level"]), settings["margin"]
        if settings["test"] in ("nested", "both"):
            return (
                f"The chance that the units that go cost {margin:g} or more in "
                f"{results.removal.metric} is at most {level}, over test data like these."
            )
        rate = "expected share" if settings["correction"] == "benjamini-hochberg" else "chance"
        what = "of units" if rate == "expected share" else "of any unit"
        return (
            f"The {rate} {what} among those that go which, removed alone, cost {margin:g} or more "
            f"in {results.removal.metric} is at most {level}. Nothing is promised of removing all "
            "of them together."
        )
    if not results.table.has_sampling_distribution:
        return f"{_no_distribution(results)} Nothing is promised of the loss."
    return (
        "The intervals say what other calibration data would have changed in the ranking. Nothing "
        "is promised of the loss: for that, ask for a test of removal (level=, margin=)."
    )


def _no_distribution(results: PruningResults) -> str:
    if results.criterion.needs_data:
        return (
            "The criterion needs data, but is no mean over samples: how sure it is, is not known."
        )
    return "The criterion looks at weights alone: it has no sampling distribution, and no p-values."


def _facts(results: PruningResults) -> list[dict[str, Any]]:
    keep, costs = results.selection.keep, results.costs
    facts = [
        _fact("Units", f"{int(keep.sum()):,}", f"{len(keep):,}"),
        _fact("Parameters", f"{costs.parameters(keep):,}", f"{costs.parameters():,}"),
    ]
    # Products inside of state space layers are not counted: the figure would not move.
    if costs.uses is not None and any(g.kind is not Kind.STATE for g in results.table.units):
        facts.append(_fact("Multiply-adds", _large(costs.flops(keep)), _large(costs.flops())))
    if results.latency:
        before, after = results.latency["before"], results.latency["after"]
        facts.append(
            _fact(
                "Latency, median",
                f"{1e3 * after.median:.3g} ms",
                f"{1e3 * before.median:.3g} ms",
                "was",
            )
        )
    facts += [_fact(*fact) for fact in state_facts(results)]
    for name, attribute in (("Loss", "loss"), ("Accuracy", "accuracy")):
        after_, before_ = (_measure(e, attribute) for e in (results.after, results.before))
        if after_ is not None and before_ is not None:
            facts.append(_fact(name, after_, before_, "was"))
    return facts


def _fact(name: str, after: str, before: str, word: str = "of") -> dict[str, str]:
    return {"name": name, "after": after, "word": word, "before": before}


def _measure(evaluation: Evaluation | None, attribute: str) -> str | None:
    value = None if evaluation is None else getattr(evaluation, attribute)
    if value is None:
        return None
    return f"{value:.4g}" if attribute == "loss" else formats.format_share(value)


def _large(value: int) -> str:
    """Write a large number with three digits and a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def _warnings(results: PruningResults) -> list[str]:
    found = []
    undefined = int(results.table.score.isnan().sum())
    if undefined:
        found.append(
            f"The criterion is not defined for {formats.count_of(undefined, 'unit')}; they stay, "
            "and were not ranked."
        )
    known = results.uncertainty
    differ = 0 if known is None else int((known.pruned == results.selection.keep).sum())
    if differ:
        found.append(
            f"{formats.count_of(differ, 'decision')} differ from the plain ranking (units of "
            "blocks that must stay equal, protected units, or tests); ranks and probabilities are "
            "those of the ranking."
        )
    if known is not None and known.method == "gaussian":
        found.append(
            "The per-sample values were not kept, so the intervals come from means and variances "
            "alone, as if the scores of different units were independent."
        )
    share = None if known is None else known.share_undecided
    if share is not None and share > 0.2:
        found.append(
            f"{formats.format_share(share)} of the decisions are undecided: other calibration data "
            "would have made them otherwise. More data, or calibrate_until, would settle them."
        )
    before, after = results.before, results.after
    if before is not None and after is not None and after.accuracy is not None:
        lost = (before.accuracy or 0.0) - after.accuracy
        if lost > 0.1:
            found.append(
                f"The accuracy has fallen by {100 * lost:.1f} points; fine-tune before use, or "
                "remove less."
            )
    return found


def _layers(results: PruningResults) -> list[dict[str, Any]]:
    units = results.table.units
    kept = units.split(results.selection.keep)
    known = results.uncertainty
    open_ = None if known is None or known.undecided is None else units.split(known.undecided)
    return [
        {
            "layer": name,
            "n_units": len(kept[name]),
            "n_kept": int(kept[name].sum()),
            "undecided": None if open_ is None else int(open_[name].sum()),
        }
        for name in units.names
    ]


def _ranking(results: PruningResults) -> dict[str, Any]:
    """Return the units on both sides of the cut."""
    frame = results.ranking
    frame = frame[frame["score"].notna()]
    scored = frame.sort_values("score", ascending=False, kind="stable")
    cut = int(scored["keep"].sum())
    begin = max(0, min(cut - _ROWS // 2, len(scored) - _ROWS))
    rows = scored.iloc[begin : begin + _ROWS]
    names = ("unit", "layer", "score", "ci_low", "ci_high", "rank", "rank_low", "rank_high",
             "p_pruned", "undecided", "keep")  # fmt: skip
    records = [{name: _plain(row[name]) for name in names} for row in rows.to_dict("records")]
    for row in records:
        for name in ("rank", "rank_low", "rank_high"):
            row[name] = None if row[name] is None else int(row[name])
    return {
        "rows": records,
        "total": len(scored),
        "sentence": (f"High scores stay. {_no_distribution(results)}"),
    }


def _undecided(results: PruningResults) -> dict[str, Any] | None:
    known = results.uncertainty
    if known is None or known.undecided is None or known.share_undecided is None:
        return None
    low, high = known.thresholds
    n = int(known.undecided.sum())
    return {
        "n": n,
        "share": known.share_undecided,
        "low": low,
        "high": high,
        "confidence": formats.format_share(known.confidence_level),
        "sentence": (
            f"{n:,} of {int(np.isfinite(known.rank).sum()):,} units "
            f"({formats.format_share(known.share_undecided)}) are undecided: over "
            f"{known.n_resamples:,} resamples of the calibration data they are neither almost "
            f"always (more than {formats.format_share(high)}) nor almost never (less than "
            f"{formats.format_share(low)}) among the pruned."
        ),
    }


def _removal(results: PruningResults) -> dict[str, Any] | None:
    removal = results.removal
    if removal is None:
        return None
    frame = removal.to_frame()
    nested = "accepted" in frame
    if nested:
        frame["unit"] = [formats.count_of(int(n), "unit") for n in frame["n_removed"]]
        frame = frame.rename(columns={"accepted": "removable"})
    else:
        frame = frame.sort_values("pvalue", kind="stable")
    names = ("unit", "increase", "ci_high", "pvalue", "pvalue_adjusted", "removable")
    rows = [
        {name: _plain(row.get(name)) for name in names}
        for row in frame.head(_ROWS).to_dict("records")
    ]
    n_yes, n_all = int(frame["removable"].sum()), len(frame)
    margin, metric = results.settings["margin"], removal.metric
    what = "nested sets" if nested else "units"
    return {
        "rows": rows,
        "total": n_all,
        "metric": metric,
        "what": "Set" if nested else "Unit",
        "sentence": (
            f"{n_yes:,} of {n_all:,} {what} were shown to cost less than the margin of {margin:g} "
            f"in {metric}, on data that had no part in the ranking. 'Not shown' does not mean that "
            "they cost more."
        ),
    }


def _agreement(results: PruningResults) -> dict[str, Any] | None:
    found = results.agreement
    if found is None:
        return None
    matrix = found.matrix("spearman")
    names = [str(name) for name in matrix.columns]
    return {
        "names": names,
        "values": [[_plain(value) for value in row] for row in matrix.to_numpy().tolist()],
        "sentence": (
            "Spearman's rank correlation of the scores of all units, criterion against criterion. "
            "1 is the same order, 0 an unrelated one."
        ),
    }


def _notes(results: PruningResults) -> list[dict[str, str]]:
    criterion = results.criterion
    settings = ", ".join(
        f"{name}={_plain(value)!r}" for name, value in results.settings.items() if value is not None
    )
    notes = [
        {"name": "Criterion", "text": f"{criterion.formula}. {criterion.source}."},
        {"name": "Settings", "text": settings},
        {"name": "Sparsity", "text": "The fraction of the units that is removed."},
    ]
    if results.uncertainty is not None and results.uncertainty.has_sampling_distribution:
        text = (
            "A unit whose probability of being pruned, over resamples of the calibration data, "
            "lies between the two limits. It speaks of the data, not of another training."
        )
        notes.append({"name": "Undecided", "text": text})
    notes += [
        {"name": f"Left out: {layer}", "text": why}
        for layer, why in results.table.units.left_out.items()
    ]
    return notes


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)
