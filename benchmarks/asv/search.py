"""Time and size of the search, by family of data and number of strata."""

# ruff: noqa: D102  (asv reads the names of methods, which say what they do)

from __future__ import annotations

from typing import Any

from sigmine import SearchSettings, simulate
from sigmine.mining import matrix_problem
from sigmine.search import search_patterns

SHAPES: dict[str, dict[str, Any]] = {
    "dense": {"n_rows": 1000, "n_items": 28, "density": 0.5},
    "middle": {"n_rows": 500, "n_items": 250, "density": 0.2},
    "wide": {"n_rows": 500, "n_items": 1800, "density": 0.1},
}


def planted(family: str, n_strata: int) -> Any:
    """Return the problem of one simulated set; always the same."""
    data = simulate.simulate_planted(n_strata=n_strata, rng=0, **SHAPES[family])
    return matrix_problem(
        data.X.astype(bool), data.y, data.strata, data.item_names, None, SearchSettings()
    )


class Search:
    """The default method."""

    params = (["middle", "wide", "dense"], [1, 4, 32])
    param_names = ("family", "strata")
    settings = SearchSettings()

    def setup(self, family: str, n_strata: int) -> None:
        self.problem = planted(family, n_strata)
        search_patterns(planted("middle", 2), self.settings)  # loads the kernels

    def time_search(self, family: str, n_strata: int) -> None:
        search_patterns(self.problem, self.settings)

    def track_visited(self, family: str, n_strata: int) -> int:
        return search_patterns(self.problem, self.settings).n_visited

    track_visited.unit = "row sets"  # type: ignore[attr-defined]


class SearchAsymptotic(Search):
    """The published method."""

    settings = SearchSettings(method="asymptotic", variance="cochran")


class SearchTwoWorkers:
    """The largest family on two cores; wall time."""

    params = (["middle", "wide", "dense"],)
    param_names = ("family",)

    def setup(self, family: str) -> None:
        self.problem = planted(family, 4)
        search_patterns(planted("middle", 2), SearchSettings(), n_jobs=2)

    def time_search(self, family: str) -> None:
        search_patterns(self.problem, SearchSettings(), n_jobs=2)
