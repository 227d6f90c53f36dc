"""How long until something happens: import, first result with nothing compiled, second result.

    python -m benchmarks.startup            # five rounds, about four minutes
    python -m benchmarks.startup --quick    # one round

Every measurement is a process of its own, on a copy of the package as pip leaves it: with its
bytecode, outside of the repository. "First" starts with empty caches of numba and matplotlib, as
on a fresh machine after installation; "second" is a new process right after it. "Search" is a call
of `mine_matrix` and a look at its best rows, "search, table" one that goes on to the DataFrame.
"""

from __future__ import annotations

import argparse
import compileall
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import Cost, run_process
from benchmarks.records import REPOSITORY, RESULTS, Row, print_table, write_records

IMPORTS_A_ROUND = 10
SECONDS_A_ROUND = 3  # runs of each "second" command

SEARCH = """
import numpy as np
from sigmine import mine_matrix
X = np.random.default_rng(0).random((500, 30)) < 0.3
results = mine_matrix(X, X[:, 0] & X[:, 1], strata=np.arange(500) % 3)
assert len(results.rows(20)) == 20
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--out", type=Path, default=RESULTS / "startup.csv")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        site = _install(scratch / "site")
        _write_data(scratch)
        for number in range(1 if options.quick else options.rounds):
            for what, cost in _one_round(scratch, site, scratch / str(number)):
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


def _install(site: Path) -> Path:
    """Copy the package and compile it to bytecode, as pip does."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "sigmine", site / "sigmine", ignore=skip)
    compileall.compile_dir(site, quiet=1)
    return site


def _write_data(folder: Path) -> None:
    """Write one data set as a table, and as transactions."""
    import numpy as np

    from sigmine.simulate import simulate_planted

    data = simulate_planted(2000, 40, 4, rng=0)
    data.to_frame().to_csv(folder / "table.csv", index=False)
    lines = [" ".join(map(str, np.flatnonzero(row))) for row in np.asarray(data.X)]
    for name, values in {
        "items.dat": lines,
        "outcome.txt": np.asarray(data.y).astype(int),
        "strata.txt": data.strata,
    }.items():
        (folder / name).write_text("".join(f"{value}\n" for value in values))


def _one_round(data: Path, site: Path, scratch: Path) -> Iterator[tuple[str, Cost]]:
    scratch.mkdir()
    python = [sys.executable]
    installed = {"PYTHONPATH": str(site)}

    def run(command: list[str], **environment: str) -> Cost:
        return run_process(command, environment=installed | environment, directory=scratch)

    for _ in range(IMPORTS_A_ROUND):  # in turn, so that a busy spell meets both
        for what, code in (("bare Python", "pass"), ("import sigmine", "import sigmine")):
            yield what, run([*python, "-c", code])
    mine = [*python, "-m", "sigmine", "mine", "--quiet"]
    table = [*mine, str(data / "table.csv"), "--target", "y", "--strata", "stratum"]
    files = [str(data / name) for name in ("items.dat", "outcome.txt", "strata.txt")]
    transactions = [*mine, files[0], "--labels", files[1], "--covariates", files[2]]
    out = ["--out", str(scratch / "patterns.csv")]
    commands = {
        "search": [*python, "-c", SEARCH],
        "search, table": [*python, "-c", f"{SEARCH}results.patterns"],
        "mine transactions to CSV": [*transactions, *out],
        "mine table to CSV": [*table, *out],
        "mine table to HTML report": [*table, "--report", str(scratch / "report.html")],
        "demo": [*python, "-m", "sigmine", "demo", "--out", str(scratch / "demo")],
    }
    for name, command in commands.items():
        caches = scratch / name.replace(" ", "-")
        environment = {
            "NUMBA_CACHE_DIR": str(caches / "numba"),
            "MPLCONFIGDIR": str(caches / "matplotlib"),
        }
        yield f"{name}, first", run(command, **environment)
        for _ in range(SECONDS_A_ROUND):
            yield f"{name}, second", run(command, **environment)


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
            "least CPU s": min(row["cpu_s"] for row in mine),
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
