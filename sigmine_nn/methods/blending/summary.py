"""Collect a search for a blend into a plain dict: strings, numbers, lists, None.

May import: `sigmine`, `sigmine_nn.report`, `.clustering`; `.outcome` for the type checker only.
"""

from __future__ import annotations

import datetime
import math
from importlib import metadata
from typing import TYPE_CHECKING, Any

from sigmine import __version__
from sigmine.report import formats

from ...report.blending import FORMAT, FORMAT_VERSION
from .clustering import LayerClusters

if TYPE_CHECKING:
    from .outcome import BlendSearch

__all__ = ["summarize"]

_WHY = {
    "generations": "The search ran to its end.",
    "patience": "The search ended because its last generations found nothing better.",
    "interrupt": "The search was stopped by hand before its end.",
}
_VERSIONS = ("torch", "numpy", "scipy", "scikit-learn")


def summarize(search: BlendSearch) -> dict[str, Any]:
    """Collect all that a report says.

    Parameters
    ----------
    search : BlendSearch
        The search.

    Returns
    -------
    dict
        Nothing but dicts, lists, strings, numbers, booleans and None.
    """
    matrix = search.clusters.matrix
    correlation = matrix.correlation()
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "sigmine": __version__,
            **{name: metadata.version(name) for name in _VERSIONS},
        },
        "question": {"sentence": _question(search)},
        "answer": {"sentence": _answer(search), "how": _WHY[search.stopped]},
        "warnings": _warnings(search),
        "losses": _losses(search),
        "history": [
            {name: _plain(value) for name, value in row.items()}
            for row in search.history.to_dict("records")
        ],
        "agreement": {
            "names": matrix.names,
            "values": [[_plain(value) for value in row] for row in correlation.to_numpy().tolist()],
        },
        "layers": [_layer(search, found) for found in search.clusters.layers.values()],
        "normaliser": search.criterion.normaliser,
        "notes": _notes(search),
    }


def _question(search: BlendSearch) -> str:
    matrix = search.clusters.matrix
    return (
        f"{matrix.units.n:,} filters in {formats.count_of(len(matrix.units), 'layer')} were "
        f"scored by {len(matrix.names)} criteria; which blend of them ranks last those "
        f"{formats.format_share(search.settings['amount'])} without which the network does best?"
    )


def _answer(search: BlendSearch) -> str:
    sentence = (
        f"Without the filters that the blend ranks last the loss on the search data is "
        f"{search.loss:.4g}, of the whole network {search.full_loss:.4g}. Random search with "
        f"{formats.count_of(search.n_evaluations, 'different mask')} found {search.random_loss:.4g}"
    )
    name, loss = search.best_single
    return f"{sentence}, the best single criterion, {name}, gives {loss:.4g}." if name else (
        f"{sentence}."
    )  # fmt: skip


def _warnings(search: BlendSearch) -> list[str]:
    found = [
        "The losses are those that the search has made small: on other data they are larger. "
        "Judge the blend on data that had no part in it."
    ]
    name, loss = search.best_single
    if name and not search.loss < loss:
        found.append(f"No blend was found to be better than {name} alone; use that.")
    if not search.loss < search.random_loss:
        found.append("Evolution has found nothing better than random search.")
    constant = {layer: names for layer, names in search.clusters.matrix.constant.items() if names}
    for layer, names in constant.items():
        found.append(
            f"On layer {layer} all filters have the same score by {formats.join_names(names)}; the "
            "rank correlation is not defined there and was set to 0."
        )
    return found


def _losses(search: BlendSearch) -> list[dict[str, Any]]:
    """Return the losses that were compared, lowest first."""
    rows = [("blend (evolution)", search.loss), ("blend (random search)", search.random_loss)]
    rows += [(f"{name} alone", loss) for name, loss in search.singles.items()]
    rows = [(name, loss) for name, loss in rows if not math.isnan(loss)]
    return [{"name": name, "loss": _plain(loss)} for name, loss in sorted(rows, key=_by_loss)]


def _by_loss(row: tuple[str, float]) -> float:
    return row[1]


def _layer(search: BlendSearch, found: LayerClusters) -> dict[str, Any]:
    matrix = search.clusters.matrix
    factors = search.criterion.layers[found.layer]
    clusters = []
    for members, medoid in zip(found.members, found.medoids, strict=True):
        taken = next((name for name in members if name in factors), None)
        clusters.append(
            {
                "members": list(members),
                "medoid": medoid,
                "taken": taken,
                "factor": 0.0 if taken is None else factors[taken],
            }
        )
    return {
        "layer": found.layer,
        "n_filters": len(matrix.units.range_of(found.layer)),
        "coupled": list(matrix.coupled.get(found.layer, ())),
        "clusters": clusters,
        "silhouette": _plain(found.silhouette),
        "left_out": list(matrix.left_out[found.layer]),
        "constant": list(matrix.constant[found.layer]),
        "names": list(found.names),
        "labels": found.labels.tolist(),
        "joins": [[int(a), int(b), float(height)] for a, b, height, _ in found.linkage],
    }


def _notes(search: BlendSearch) -> list[dict[str, str]]:
    settings = {**search.settings, **vars(search.evolution)}
    words = ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)
    criteria = search.clusters.matrix.criteria
    return [
        {
            "name": "Blend",
            "text": f"{search.criterion.formula}. {search.criterion.source}. The form of the "
            "factors, the normaliser and the search are choices of sigmine.",
        },
        {
            "name": "Clusters",
            "text": "Criteria that rank the filters of a layer alike, by Spearman's rank "
            f"correlation; method {search.clusters.method!r}. The medoid is nearest to the others.",
        },
        {"name": "Settings", "text": words},
        *({"name": each.name, "text": f"{each.formula}. {each.source}."} for each in criteria),
    ]


def _plain(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return None if math.isnan(value) else float(value)
