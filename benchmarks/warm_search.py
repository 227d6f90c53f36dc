"""Search one set of transaction files in a process that has its kernels loaded; print JSON.

    python -m benchmarks.warm_search build/data/wide-K4 --method asymptotic

`benchmarks.compare` runs this; times are CPU seconds of this process, all threads together.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from sigmine.files import read_fimi, read_values
from sigmine.mining import matrix_problem
from sigmine.preprocessing import validate_binary_matrix
from sigmine.problem import Problem
from sigmine.search import search_patterns
from sigmine.settings import SearchSettings
from sigmine.simulate import simulate_planted


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a search, with the defaults of sigmine."""
    parser.add_argument("--method", default="exact")
    parser.add_argument("--variance", default="mantel-haenszel")
    parser.add_argument("--grid-step", type=float)
    parser.add_argument("--alpha", type=float, default=0.05)


def load(prefix: Path, settings: SearchSettings) -> Problem:
    """Read PREFIX.transactions, .labels and .covariates."""
    matrix, names = read_fimi(f"{prefix}.transactions")
    binary, _ = validate_binary_matrix(matrix)
    labels, covariates = (read_values(f"{prefix}.{end}") for end in ("labels", "covariates"))
    return matrix_problem(binary, labels, covariates, names, None, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("prefix", type=Path)
    add_search_options(parser)
    options = parser.parse_args()
    settings = SearchSettings(
        alpha=options.alpha,
        method=options.method,
        variance=options.variance,
        grid_step=options.grid_step,
    )
    tiny = simulate_planted(200, 12, 2, rng=0)
    names = [f"x{j}" for j in range(12)]
    search_patterns(
        matrix_problem(tiny.X.astype(bool), tiny.y, tiny.strata, names, None, settings), settings
    )
    started = time.process_time()
    problem = load(options.prefix, settings)
    read = time.process_time()
    outcome = search_patterns(problem, settings)
    searched = time.process_time()
    answer = {
        "read_cpu_s": read - started,
        "search_cpu_s": searched - read,
        "search_wall_s": outcome.seconds,
        "visited": outcome.n_visited,
        "testable": outcome.n_testable,
        "corrected_threshold": outcome.corrected_threshold,
        "significant": len(outcome.closures),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
