"""How long until something happens: import, first result with nothing compiled, second result.

    python -m benchmarks.startup            # five rounds, about four minutes
    python -m benchmarks.startup --quick    # one round

Every measurement is a process of its own. "First" starts with empty caches of numba and
matplotlib, as on a fresh machine after installation; "second" is a new process right after it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import Cost, run_process
from benchmarks.records import REPOSITORY, RESULTS, Row, print_table, write_records

IMPORTS_A_ROUND = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--out", type=Path, default=RESULTS / "startup.csv")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        table = _write_table(Path(folder))
        for number in range(1 if options.quick else options.rounds):
            for what, cost in _one_round(table, Path(folder) / str(number)):
                rows.append(
                    {
                        "what": what,
                        "round": number,
                        "wall_s": cost.wall_s,
                        "cpu_s": cost.cpu_s,
                        "peak_mb": cost.peak_mb,
                    }
                )
            print(f"round {number + 1} done", file=sys.stderr)
    write_records(options.out, rows)
    print_table(summary(rows))


def _write_table(folder: Path) -> Path:
    from sigmine.simulate import simulate_planted

    path = folder / "table.csv"
    simulate_planted(2000, 40, 4, rng=0).to_frame().to_csv(path, index=False)
    return path


def _one_round(table: Path, scratch: Path) -> Iterator[tuple[str, Cost]]:
    scratch.mkdir()
    python = [sys.executable]
    for _ in range(IMPORTS_A_ROUND):  # in turn, so that a busy spell meets both
        for what, code in (("bare Python", "pass"), ("import sigmine", "import sigmine")):
            yield what, run_process([*python, "-c", code], directory=REPOSITORY)
    mine = [*python, "-m", "sigmine", "mine", str(table), "--target", "y", "--strata", "stratum"]
    commands = {
        "mine to CSV": [*mine, "--quiet", "--out", str(scratch / "patterns.csv")],
        "mine to HTML report": [*mine, "--quiet", "--report", str(scratch / "report.html")],
        "demo": [*python, "-m", "sigmine", "demo", "--out", str(scratch / "demo")],
    }
    for name, command in commands.items():
        caches = scratch / name.replace(" ", "-")
        environment = {
            "NUMBA_CACHE_DIR": str(caches / "numba"),
            "MPLCONFIGDIR": str(caches / "matplotlib"),
        }
        for order in ("first", "second"):
            yield (
                f"{name}, {order}",
                run_process(command, environment=environment, directory=REPOSITORY),
            )


def summary(rows: list[Row]) -> list[Row]:
    """Return median and least of every measurement, and of what the import adds.

    On a machine with other work the least wall time is the better estimate.
    """
    by_what: dict[str, list[Row]] = {}
    for row in rows:
        by_what.setdefault(row["what"], []).append(row)
    table = {
        what: {
            "median wall s": statistics.median(row["wall_s"] for row in mine),
            "least wall s": min(row["wall_s"] for row in mine),
            "median CPU s": statistics.median(row["cpu_s"] for row in mine),
        }
        for what, mine in by_what.items()
    }
    bare = table["bare Python"]
    table["import sigmine over bare Python"] = {
        key: value - bare[key] for key, value in table["import sigmine"].items()
    }
    return [
        {
            "what": what,
            **costs,
            "CPU, times bare Python": costs["median CPU s"] / bare["median CPU s"],
        }
        for what, costs in table.items()
    ]


if __name__ == "__main__":
    main()
