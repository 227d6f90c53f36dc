"""Search one set of transaction files in a process that has its kernels loaded; print JSON.

    python -m benchmarks.warm_search build/data/wide-K4 --method asymptotic
    python -m benchmarks.warm_search build/data/chess --task closed --min-support 1600

`benchmarks.compare` runs this; CPU times are those of this process, all threads together.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sigmine.files import read_fimi, read_values
from sigmine.mining import matrix_problem
from sigmine.preprocessing import validate_binary_matrix
from sigmine.problem import Problem
from sigmine.search import search_patterns
from sigmine.settings import SearchSettings
from sigmine.simulate import simulate_planted

Facts = dict[str, Any]


def load(prefix: Path, settings: SearchSettings) -> Problem:
    """Read PREFIX.transactions, .labels and .covariates."""
    matrix, names = read_fimi(f"{prefix}.transactions")
    binary, _ = validate_binary_matrix(matrix)
    labels, covariates = (read_values(f"{prefix}.{end}") for end in ("labels", "covariates"))
    return matrix_problem(binary, labels, covariates, names, None, settings)


def significant_task(options: argparse.Namespace) -> tuple[Callable[[], Any], Callable[..., Facts]]:
    """Return how to read the data and how to search them; the search is warm."""
    settings = SearchSettings(
        alpha=options.alpha,
        method=options.method,
        alternative=options.alternative,
        two_sided=options.two_sided,
        variance=options.variance,
        grid_step=options.grid_step,
    )

    def search(problem: Problem) -> Facts:
        outcome = search_patterns(problem, settings, n_jobs=options.jobs)
        return {
            "visited": outcome.n_visited,
            "count": outcome.n_testable,
            "threshold": outcome.corrected_threshold,
            "significant": len(outcome.closures),
        }

    tiny = simulate_planted(200, 12, 2, rng=0)
    names = [f"x{j}" for j in range(12)]
    search(matrix_problem(tiny.X.astype(bool), tiny.y, tiny.strata, names, None, settings))
    return lambda: load(options.prefix, settings), search


def closed_task(options: argparse.Namespace) -> tuple[Callable[[], Any], Callable[..., Facts]]:
    """Return how to read the data and how to mine them; the miner is warm unless ``--cold``."""
    from sigmine.frequent import count_closed, frequent_itemsets

    def count(matrix: Any, support: int = options.min_support) -> Facts:
        return {"count": count_closed(matrix, support)}

    def table(matrix: Any, support: int = options.min_support) -> Facts:
        return {"count": len(frequent_itemsets(matrix, support, n_jobs=options.jobs))}

    mine = table if options.table else count
    if not options.cold:
        mine(simulate_planted(200, 12, 2, rng=0).X.astype(bool), 20)
    return lambda: read_fimi(f"{options.prefix}.transactions")[0], mine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("prefix", type=Path)
    parser.add_argument("--task", choices=("significant", "closed"), default="significant")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--method", default="exact")
    parser.add_argument("--alternative", default="two-sided")
    parser.add_argument("--two-sided", default="central")
    parser.add_argument("--variance", default="mantel-haenszel")
    parser.add_argument("--grid-step", type=float)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--min-support", type=int, default=1, help="rows; for closed itemsets")
    parser.add_argument("--table", action="store_true", help="make the table of closed itemsets")
    parser.add_argument("--cold", action="store_true", help="closed itemsets without warming")
    options = parser.parse_args()
    read, search = (closed_task if options.task == "closed" else significant_task)(options)
    started = time.process_time()
    data = read()
    was_read, wall = time.process_time(), time.perf_counter()
    answer = search(data)
    answer["search_cpu_s"] = time.process_time() - was_read
    answer["search_wall_s"] = time.perf_counter() - wall
    answer["read_cpu_s"] = was_read - started
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
