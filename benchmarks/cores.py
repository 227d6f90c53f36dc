"""What more workers bring: threads, processes (loky) and a Dask cluster beside one thread.

    python -m benchmarks.cores                  # threads: three data sets, five rounds in turn
    python -m benchmarks.cores --kind threads loky dask --rounds 3
    python -m benchmarks.cores --quick          # a look: small data, one round

Wall time of the search alone, of searches that take more than two seconds of one core, with workers
that are started and kernels that are loaded. In each round every kind of worker searches every
data set once, one after the other, and the ratio is that to the one thread of the same round.

How much there is to gain is measured beside it, by work that shares nothing (a loop over numbers
in a register): ``yardstick`` is what the workers could reach at that moment, on a machine that does
other work less than their number. Load and CPU time of the machine that went elsewhere (``busy``,
``stolen``) stand in every line. Writes
cores.csv into ``results/``, or cores_all_kinds.csv if there is more than threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import joblib
import numba
import numpy as np

from benchmarks.records import RESULTS, Row, print_table, write_records

# About a million testable row sets at most: with many more, one worker may need a second pass where
# two do not, and the ratio would say more about that than about the cores.
SHAPES: dict[str, dict[str, Any]] = {
    "wide": {"n_rows": 500, "n_items": 30_000, "density": 0.1},
    "middle": {"n_rows": 1000, "n_items": 1000, "density": 0.2},
    "broad": {"n_rows": 1000, "n_items": 12_000, "density": 0.1},
}
QUICK: dict[str, dict[str, Any]] = {"small": {"n_rows": 500, "n_items": 400, "density": 0.2}}
N_STRATA = 4
KINDS = ("threads", "loky", "dask")
_YARDSTICK_TURNS = 300_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=["threads"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--method", default="exact")
    parser.add_argument("--quick", action="store_true", help="small data, one round")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the CSV file")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    rows = list(measure(options))
    shapes = QUICK if options.quick else SHAPES
    facts = {"method": options.method, "workers": options.workers, "strata": N_STRATA, **shapes}
    name = "cores.csv" if options.kind == ["threads"] else "cores_all_kinds.csv"
    write_records(options.out / name, rows, facts)
    print_table(summarize(rows))


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Yield one row a search, and one a yardstick.

    Parameters
    ----------
    options : argparse.Namespace
        Kinds and number of workers, rounds, method.
    """
    from sigmine.search import search_patterns
    from sigmine.settings import SearchSettings

    settings = SearchSettings(method=options.method)
    shapes = QUICK if options.quick else SHAPES
    problems = {name: _problem(shape, settings) for name, shape in shapes.items()}
    kinds = ["one", *options.kind]
    with ExitStack() as stack:
        client = stack.enter_context(_dask_client(options.workers, "dask" in options.kind))
        for number in range(options.rounds + 1):  # the first one starts the workers
            yardstick = _yardstick(options.workers)
            for data, problem in problems.items():
                for kind in kinds:
                    before = _machine_seconds()
                    with _backend(kind, options.workers, client):
                        started, cpu = time.perf_counter(), time.process_time()
                        outcome = search_patterns(problem, settings)
                        wall = time.perf_counter() - started
                        cpu = time.process_time() - cpu
                    if number:
                        yield {
                            "data": data,
                            "kind": kind,
                            "round": number,
                            "wall_s": wall,
                            "cpu_s": cpu,  # of this process: workers elsewhere are not in it
                            "visited": outcome.n_visited,
                            "testable": outcome.n_testable,
                            "yardstick": yardstick,
                            **_others(before, _machine_seconds(), cpu, kind),
                            "load": os.getloadavg()[0],
                        }
            print(f"round {number} of {options.rounds} done", file=sys.stderr)


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Return medians over the rounds, one row a data set and kind of worker.

    Parameters
    ----------
    rows : sequence of dict
        From `measure`.

    Returns
    -------
    list of dict
        With the median of the ratios, and the highest, that of the quietest moment.
    """
    one = {(row["data"], row["round"]): row["wall_s"] for row in rows if row["kind"] == "one"}
    table = []
    for data in dict.fromkeys(row["data"] for row in rows):
        for kind in dict.fromkeys(row["kind"] for row in rows):
            mine = [row for row in rows if row["data"] == data and row["kind"] == kind]
            ratios = [one[data, row["round"]] / row["wall_s"] for row in mine]
            table.append(
                {
                    "data": data,
                    "kind": kind,
                    "wall_s": statistics.median(row["wall_s"] for row in mine),
                    "times one": statistics.median(ratios),
                    "highest": max(ratios),
                    "yardstick": statistics.median(row["yardstick"] for row in mine),
                    "load": statistics.median(row["load"] for row in mine),
                }
            )
    return table


def _problem(shape: dict[str, Any], settings: Any) -> Any:
    from sigmine.mining import matrix_problem
    from sigmine.simulate import simulate_planted

    data = simulate_planted(rng=0, n_strata=N_STRATA, **shape)
    return matrix_problem(
        data.X.astype(np.bool_), data.y, data.strata, data.item_names, None, settings
    )


@contextmanager
def _dask_client(n_workers: int, is_wanted: bool) -> Iterator[Any]:
    if not is_wanted:
        yield None
        return
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _backend(kind: str, n_workers: int, client: Any) -> Any:
    if kind == "one":
        return nullcontext()
    if kind == "dask":
        return joblib.parallel_config(backend="dask", client=client)
    name = "threading" if kind == "threads" else "loky"
    return joblib.parallel_config(backend=name, n_jobs=n_workers)


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _turn(number: int, n_turns: int) -> int:
    for _ in range(n_turns):
        number ^= number << 13
        number ^= number >> 7
        number ^= number << 17
    return number


def _yardstick(n_workers: int) -> float:
    """Return how many times the work of one thread some threads do at this moment."""
    _turn(1, 1)
    seconds = []
    for n in (1, n_workers):
        started = time.perf_counter()
        with ThreadPoolExecutor(n) as pool:
            list(pool.map(_turn, range(1, n + 1), [_YARDSTICK_TURNS] * n))
        seconds.append(time.perf_counter() - started)
    return n_workers * seconds[0] / seconds[1]


def _machine_seconds() -> tuple[float, float]:
    """Return CPU seconds of the whole machine: in use, and stolen by others on its host."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return 0.0, 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks, steal / ticks


def _others(
    before: tuple[float, float], after: tuple[float, float], cpu: float, kind: str
) -> dict[str, float]:
    busy = after[0] - before[0]
    return {
        # With processes, their work cannot be told from that of others.
        "busy_s": max(0.0, busy - cpu) if kind in ("one", "threads") else busy,
        "stolen_s": after[1] - before[1],
    }


if __name__ == "__main__":
    main()
