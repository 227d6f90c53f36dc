"""The tables of `benchmarks.compare`: medians over rounds, and ratios. Standard library only."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.records import Row

PROGRAM, PROCESS, SEARCH, TABLE = "program", "sigmine process", "sigmine search", "sigmine table"

# Below this many seconds on one core, starting workers is a good part of a search.
_LONG_S = 2.0


def summary(rows: Sequence[Row]) -> list[Row]:
    """Return one row a data set: medians over the rounds, and ratios to the program.

    Parameters
    ----------
    rows : sequence of Row
        Of `benchmarks.compare`; of several methods and numbers of workers the first counts, of
        several programs the fastest.

    Returns
    -------
    list of Row
    """
    table = []
    for data in dict.fromkeys(row["data"] for row in rows):
        beside = _fastest([row for row in rows if row["data"] == data])
        mine = [row for row in rows if row["data"] == data and row["beside"] in ("", beside)]
        program, search, process = (_median(mine, what) for what in (PROGRAM, SEARCH, PROCESS))
        reading = _median(mine, SEARCH, "read_cpu_s")
        line = {
            "data": data,
            "rounds": len({row["round"] for row in mine}),
            "program": beside,
            "program CPU s": program,
            "search CPU s": search,
            "program / search": program / search,
            "search / program": search / program,
            "read + search / program": (reading + search) / program,
            "process CPU s": process,
            "process / program": process / program,
            "program MB": _median(mine, PROGRAM, "peak_mb"),
            "process MB": _median(mine, PROCESS, "peak_mb"),
        }
        if any(row["what"] == TABLE for row in mine):
            line["table CPU s"] = _median(mine, TABLE)
        table.append(line)
    return table


def _fastest(rows: Sequence[Row]) -> str:
    """Return the name of the other program with the least CPU time; empty if there is none."""
    names = dict.fromkeys(row["beside"] for row in rows if row["what"] == PROGRAM)
    cost = {name: _median([r for r in rows if r["beside"] == name], PROGRAM) for name in names}
    return min(cost, key=cost.__getitem__, default="")


def ratios(rows: Sequence[Row]) -> list[Row]:
    """Return one row a data set that was searched in several ways.

    Parameters
    ----------
    rows : sequence of Row
        Of `benchmarks.compare`.

    Returns
    -------
    list of Row
        How many times faster more workers were, in wall time, for searches of at least two
        seconds on one core; and the exact method's CPU time over that of the approximation.
    """
    searched = [row for row in rows if row["what"] in (SEARCH, TABLE)]
    methods = list(dict.fromkeys(row["method"] for row in searched))
    workers = sorted({row["jobs"] for row in searched})
    table = []
    for data in dict.fromkeys(row["data"] for row in searched):
        mine = [row for row in searched if row["data"] == data]
        line: Row = {"data": data}
        for method in methods:
            # Closed itemsets are counted on one core; the table is what more workers make.
            what = TABLE if method == "closed" else SEARCH
            walls = {jobs: _median(mine, what, "wall_s", method, jobs) for jobs in workers}
            for jobs in workers[1:]:
                long = walls[workers[0]] >= _LONG_S
                name = f"{method}: wall {workers[0]} / {jobs} workers"
                line[name] = walls[workers[0]] / walls[jobs] if long else ""
        if {"exact", "asymptotic"} <= set(methods):
            exact, chi = (
                _median(mine, SEARCH, "cpu_s", method, workers[0])
                for method in ("exact", "asymptotic")
            )
            line["CPU exact / asymptotic"] = exact / chi
        table.append(line)
    return [line for line in table if len(line) > 1]


def _median(
    rows: Sequence[Row],
    what: str,
    key: str = "cpu_s",
    method: str | None = None,
    jobs: int | None = None,
) -> float:
    """Return the median over the rounds; of the first method and workers if none are named."""
    of_kind = [row for row in rows if row["what"] == what]
    if not of_kind:
        return float("nan")
    method = of_kind[0]["method"] if method is None else method
    jobs = of_kind[0]["jobs"] if jobs is None else jobs
    values = [row[key] for row in of_kind if row["method"] == method and row["jobs"] == jobs]
    return statistics.median(values) if values else float("nan")
