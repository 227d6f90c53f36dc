r"""Time another program beside sigmine on the same files, in turn, as ratios.

    python -m benchmarks.make_data build/data --strata 1 4 16
    python -m benchmarks.compare --data build/data/*.transactions \
        --program "facs -t {items} -l {labels} -c {strata} -f 0.05 -s {tmp}/out" \
        --method asymptotic --variance cochran --grid-step 0.06

In every round each data set is given to the program, to ``sigmine mine`` as a whole process, and
to a process that has its kernels loaded, where the search alone is timed. CPU time is user plus
system time. The template may use {items}, {labels}, {strata}, {tmp} (an empty folder) and {prefix}.
Standard library only: a small parent does not distort the memory of its children.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.processes import Cost, run_process
from benchmarks.records import REPOSITORY, RESULTS, Row, print_table, write_records

PROGRAM, PROCESS, SEARCH = "program", "sigmine process", "sigmine search"


def main() -> None:
    options = _options()
    prefixes = [Path(str(path).removesuffix(".transactions")) for path in options.data]
    rows: list[Row] = []
    # Not counted: fills numba's cache, and checks that every command works.
    _one_round(prefixes[0], 0, options)
    for prefix in prefixes:
        started = time.monotonic()
        for number in range(options.rounds):
            rows += _one_round(prefix, number, options)
            if time.monotonic() - started > options.budget:
                break
        print_table(summary([row for row in rows if row["data"] == prefix.name]))
        write_records(options.out, rows, _facts(options))
    print()
    print_table(summary(rows))


def _facts(options: argparse.Namespace) -> dict[str, str]:
    """Say what was compared; without the folder that the program lies in."""
    facts = {"options": " ".join(_search_options(options))}
    if options.program:
        program, *arguments = options.program.split()
        facts["program"] = " ".join([Path(program).name, *arguments])
    return facts


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="PREFIX",
        help="of PREFIX.transactions, PREFIX.labels, PREFIX.covariates",
    )
    parser.add_argument("--program", help="command line template of the other program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--budget", type=float, default=120.0, help="seconds a data set before a next round"
    )
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds a process")
    parser.add_argument("--out", type=Path, default=RESULTS / "compare.csv")
    # As `sigmine mine` and `benchmarks.warm_search` have them.
    parser.add_argument("--method", default="exact")
    parser.add_argument("--variance", default="mantel-haenszel")
    parser.add_argument("--grid-step", type=float)
    return parser.parse_args()


def _search_options(options: argparse.Namespace) -> list[str]:
    given = ["--method", options.method, "--variance", options.variance]
    return given + (["--grid-step", str(options.grid_step)] if options.grid_step else [])


def _one_round(prefix: Path, number: int, options: argparse.Namespace) -> list[Row]:
    """Run each contender once on one data set."""
    files = {
        "items": Path(f"{prefix}.transactions").resolve(),
        "labels": Path(f"{prefix}.labels").resolve(),
        "strata": Path(f"{prefix}.covariates").resolve(),
    }
    asked = _search_options(options)
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        # `sigmine mine` knows transactions by this ending.
        (tmp / "items.dat").symlink_to(files["items"])
        mine = f"-m sigmine mine {tmp}/items.dat --top 0 --quiet --out {tmp}/patterns.csv".split()
        mine += ["--labels", str(files["labels"]), "--covariates", str(files["strata"])]
        commands = {
            PROCESS: [sys.executable, *mine, *asked],
            SEARCH: [sys.executable, "-m", "benchmarks.warm_search", str(prefix.resolve()), *asked],
        }
        if options.program:
            template = options.program.format(**files, tmp=tmp, prefix=prefix.resolve())
            commands = {PROGRAM: shlex.split(template), **commands}
        return [
            _record(prefix.name, number, what, _run(command, options.limit))
            for what, command in commands.items()
        ]


def _run(command: list[str], limit_s: float) -> Cost:
    return run_process(command, directory=REPOSITORY, limit_s=limit_s)


def _record(data: str, number: int, what: str, cost: Cost) -> Row:
    """Make a row of the results; the warm process says itself what its search took."""
    said = json.loads(cost.output) if what == SEARCH else {}
    return {
        "data": data,
        "round": number,
        "what": what,
        "cpu_s": said.get("search_cpu_s", cost.cpu_s),
        "wall_s": said.get("search_wall_s", cost.wall_s),
        "peak_mb": cost.peak_mb,
        "read_cpu_s": said.get("read_cpu_s", ""),
        "visited": said.get("visited", ""),
        "testable": said.get("testable", ""),
        "corrected_threshold": said.get("corrected_threshold", ""),
        "significant": said.get("significant", ""),
    }


def summary(rows: list[Row]) -> list[Row]:
    """Return one row a data set: medians over the rounds, and ratios to the program."""
    table = []
    for data in dict.fromkeys(row["data"] for row in rows):

        def median(what: str, key: str = "cpu_s", data: str = data) -> float:
            mine = [row[key] for row in rows if row["data"] == data and row["what"] == what]
            return statistics.median(mine) if mine else float("nan")

        program, search, process = (median(what) for what in (PROGRAM, SEARCH, PROCESS))
        reading = median(SEARCH, "read_cpu_s")
        table.append(
            {
                "data": data,
                "rounds": sum(row["data"] == data and row["what"] == SEARCH for row in rows),
                "program CPU s": program,
                "search CPU s": search,
                "search / program": search / program,
                "read + search / program": (reading + search) / program,
                "process CPU s": process,
                "process / program": process / program,
                "program MB": median(PROGRAM, "peak_mb"),
                "process MB": median(PROCESS, "peak_mb"),
            }
        )
    return table


if __name__ == "__main__":
    main()
