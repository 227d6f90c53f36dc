"""How far it goes: time and memory at a million items, a million rows, a thousand strata.

    python -m benchmarks.scale                        # every case, one process each
    python -m benchmarks.scale --case items-sparse --shrink 10
    python -m benchmarks.scale --shrink 100           # a look: rows or items divided by 100

Memory is compared with the packed data (one bit a cell): most of it in packing, on top of the
input, and in the search, on top of the packed data themselves. Each case is a process of its own
that has its kernels loaded before anything is measured. Linux only: the peak of a stage is
read from /proc.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import run_process
from benchmarks.records import REPOSITORY, RESULTS, Row, print_table, write_records

MILLION = 1_000_000
SEED = 20251122


@dataclass(frozen=True)
class Case:
    """One size of data.

    Attributes
    ----------
    n_rows, n_items, n_strata : int
        Size.
    density : float
        Probability of a one.
    kind : {"dense", "sparse", "fimi", "csv"}
        What it comes as: a matrix, or a file that is packed as it is read.
    shrinks : {"n_rows", "n_items"}
        What ``--shrink`` divides.
    max_length, min_support : int
        Limits of the search: with a million rows nearly every combination is testable, and
        nothing could enumerate them.
    """

    n_rows: int
    n_items: int
    n_strata: int
    density: float
    kind: str
    shrinks: str = "n_rows"
    max_length: int | None = 2
    min_support: int = 1


CASES = {
    "items-sparse": Case(1000, MILLION, 4, 0.001, "sparse", "n_items", None),
    "items": Case(1000, MILLION, 4, 0.02, "sparse", "n_items", None),
    "items-dense": Case(1000, MILLION, 4, 0.9, "dense", "n_items", 1),
    "rows-sparse": Case(MILLION, 100, 4, 0.001, "sparse"),
    "rows": Case(MILLION, 100, 4, 0.1, "dense"),
    "rows-half": Case(MILLION, 100, 4, 0.5, "dense"),
    "rows-dense": Case(MILLION, 100, 4, 0.9, "dense"),
    "strata": Case(100_000, 100, 1000, 0.1, "dense"),
    "strata-items": Case(20_000, 5000, 1000, 0.01, "sparse", "n_items"),
    "fimi-items": Case(1000, MILLION, 4, 0.05, "fimi", "n_items", 1),
    "fimi-rows": Case(MILLION, 100, 4, 0.1, "fimi", max_length=1),
    "csv-rows": Case(MILLION, 100, 4, 0.1, "csv", max_length=1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--shrink", type=int, default=1, help="divide rows or items")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds a case")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale.csv")
    parser.add_argument("--measure", action="store_true", help="in this process; prints JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(_shrunk(options.case[0], options.shrink), options.jobs)))
        return
    rows: list[Row] = []
    for name in options.case:
        arguments = ["--case", name, "--shrink", str(options.shrink), "--jobs", str(options.jobs)]
        command = [sys.executable, "-m", "benchmarks.scale", "--measure", *arguments]
        cost = run_process(command, directory=REPOSITORY, limit_s=options.limit)
        rows.append({"case": name, **json.loads(cost.output)})
        write_records(options.out, rows, {"shrink": options.shrink, "jobs": options.jobs})
        print(f"{name} done", file=sys.stderr)
    print_table(summary(rows))


def _shrunk(name: str, factor: int) -> Case:
    case = CASES[name]
    small: Any = {case.shrinks: max(1, getattr(case, case.shrinks) // factor)}
    case = replace(case, **small)
    # At least twenty rows a stratum, so that there are cases and controls.
    return replace(case, n_strata=max(1, min(case.n_strata, case.n_rows // 20)))


def measure(case: Case, n_jobs: int) -> Row:
    """Make the data, pack and search them; return what each cost.

    Parameters
    ----------
    case : Case
        The size.
    n_jobs : int
        Workers.

    Returns
    -------
    dict
        Sizes in MB (10^6 bytes), CPU seconds of all threads together, counts.
    """
    from sigmine.memory import estimate_memory
    from sigmine.search import search_patterns
    from sigmine.settings import SearchSettings

    settings = SearchSettings(max_length=case.max_length, min_support=case.min_support)
    tiny = Case(200, 12, 2, 0.3, "dense")
    search_patterns(_packer(tiny, Path(), settings)[0](), settings)
    with tempfile.TemporaryDirectory() as folder:
        pack, input_bytes = _packer(case, Path(folder), settings)
        problem, packing = _staged(pack)
    table = problem.table
    packed = table.columns.nbytes
    # What a table needs beside its bits: the order of the rows, the segments, the classes.
    other = sum(array.nbytes for array in table) - packed
    outcome, searching = _staged(lambda: search_patterns(problem, settings, n_jobs=n_jobs))
    estimate = estimate_memory(table.n_rows, table.n_items, table.n_strata, n_jobs=n_jobs)
    return {
        **asdict(case),
        "input_mb": input_bytes / 1e6,
        "packed_mb": packed / 1e6,
        "table_other_mb": other / 1e6,
        "estimate_mb": estimate.total / 1e6,
        "pack_cpu_s": packing[0],
        "pack_wall_s": packing[1],
        "pack_peak_mb": packing[2] / 1e6,
        "search_cpu_s": searching[0],
        "search_wall_s": searching[1],
        "search_peak_mb": searching[2] / 1e6,
        "visited": outcome.n_visited,
        "testable": outcome.n_testable,
        "significant": len(outcome.closures),
    }


def _staged(work: Callable[[], Any]) -> tuple[Any, tuple[float, float, int]]:
    """Run one stage; return its result, CPU and wall seconds, and the peak above the start."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark
    before, cpu, wall = _status("VmRSS"), time.process_time(), time.perf_counter()
    result = work()
    costs = time.process_time() - cpu, time.perf_counter() - wall
    return result, (*costs, max(0, _status("VmHWM") - before))


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {name}; run this on Linux.")


def _packer(case: Case, folder: Path, settings: Any) -> tuple[Callable[[], Any], int]:
    """Make the data; return what packs them, and the size of what they come as."""
    from sigmine.mining import matrix_problem
    from sigmine.streaming import pack_fimi, pack_table

    rng = np.random.default_rng(SEED)
    strata = rng.permutation(np.arange(case.n_rows) % case.n_strata)
    y = rng.random(case.n_rows) < np.linspace(0.25, 0.75, case.n_strata)[strata]
    if case.kind == "fimi":
        path = folder / "items.dat"
        _write_fimi(path, case, rng)
        return lambda: pack_fimi(path, y, strata, settings=settings), path.stat().st_size
    if case.kind == "csv":
        path = folder / "table.csv"
        _write_csv(path, case, y, strata, rng)
        return (
            lambda: pack_table(path, target="y", strata="z", settings=settings),
            path.stat().st_size,
        )
    matrix: Any
    if case.kind == "sparse":
        matrix = _sparse(case, rng)
        size = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    else:
        matrix = np.empty((case.n_rows, case.n_items), dtype=np.bool_)
        for rows, block in _blocks(case, rng):
            matrix[rows] = block
        size = matrix.nbytes
    names = [f"x{j}" for j in range(case.n_items)]
    return lambda: matrix_problem(matrix, y, strata, names, None, settings), size


def _blocks(case: Case, rng: np.random.Generator) -> Any:
    """Yield rows of independent items, a few at a time: a slice and a matrix."""
    step = max(1, 10 * MILLION // case.n_items)
    for start in range(0, case.n_rows, step):
        rows = slice(start, min(start + step, case.n_rows))
        shape = (rows.stop - rows.start, case.n_items)
        yield rows, rng.random(shape, dtype=np.float32) < case.density


def _sparse(case: Case, rng: np.random.Generator) -> Any:
    from scipy.sparse import csr_array

    indices: list[NDArray[np.int32]] = []
    lengths = [np.zeros(1, dtype=np.int64)]
    for _, block in _blocks(case, rng):
        rows, columns = np.nonzero(block)
        indices.append(columns.astype(np.int32))
        lengths.append(np.bincount(rows, minlength=len(block)))
    found = np.concatenate(indices)
    indptr = np.cumsum(np.concatenate(lengths))
    shape = (case.n_rows, case.n_items)
    return csr_array((np.ones(len(found), dtype=np.bool_), found, indptr), shape=shape)


def _write_fimi(path: Path, case: Case, rng: np.random.Generator) -> None:
    with path.open("w", encoding="ascii") as file:
        for _, block in _blocks(case, rng):
            for row in block:
                file.write(" ".join(map(str, np.flatnonzero(row).tolist())) + "\n")


def _write_csv(
    path: Path,
    case: Case,
    y: NDArray[np.bool_],
    strata: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    with path.open("wb") as file:
        names = [f"x{j}" for j in range(case.n_items)]
        file.write(("y,z," + ",".join(names) + "\n").encode())
        for rows, block in _blocks(case, rng):
            # Digits, each with a comma or the end of the line behind it.
            cells = np.full((len(block), 2 * case.n_items), ord(","), dtype=np.uint8)
            cells[:, ::2] = block + np.uint8(ord("0"))
            cells[:, -1] = ord("\n")
            roles = zip(y[rows].astype(int).tolist(), strata[rows].tolist(), strict=True)
            file.writelines(
                f"{case_},{stratum},".encode() + line.tobytes()
                for (case_, stratum), line in zip(roles, cells, strict=True)
            )


def summary(rows: list[Row]) -> list[Row]:
    """Return the ratios that matter: memory as multiples of the packed data."""
    return [
        {
            "case": row["case"],
            "rows": f"{row['n_rows']:,}",
            "items": f"{row['n_items']:,}",
            "strata": row["n_strata"],
            "density": row["density"],
            "packed MB": row["packed_mb"],
            "pack CPU s": row["pack_cpu_s"],
            "pack peak / packed": row["pack_peak_mb"] / row["packed_mb"],
            "search CPU s": row["search_cpu_s"],
            # The packed data are there already.
            "search peak / packed": 1 + row["search_peak_mb"] / row["packed_mb"],
            # Below 1 the estimate was too low: what is found is not in it.
            "estimate / used": row["estimate_mb"]
            / (row["packed_mb"] + row["table_other_mb"] + row["search_peak_mb"]),
            "testable": row["testable"],
        }
        for row in rows
    ]


if __name__ == "__main__":
    main()
