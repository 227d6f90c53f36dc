"""The study behind ``docs/studies/fwer``: family-wise error rate and power, measured.

    python -m benchmarks.fwer_study              # 1,000 runs of everything, about ten minutes
    python -m benchmarks.fwer_study --quick      # 50 runs, into build/fwer
    python -m benchmarks.fwer_study --draw-only  # figures and tables again, from the CSV files

Every run has its own seed, so single runs can be repeated and the number of workers or the order
of configurations changes nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.confounded import (
    ALPHA,
    ARMS,
    N_STRATA,
    SHARES,
    NullDesign,
    null_design,
    search_arm,
)
from benchmarks.fwer_figure import draw
from benchmarks.records import REPOSITORY, RESULTS, Row, print_table, write_records
from sigmine.metrics import clopper_pearson, count_false, power
from sigmine.problem import build_problem
from sigmine.search import search_patterns
from sigmine.settings import SearchSettings
from sigmine.simulate import SimulatedData, simulate_planted
from sigmine.strata import encode_strata

# Share of the planted set's carriers among cases; 5 % among controls.
CARRIER_RATES = (0.12, 0.15, 0.18, 0.21)
N_SINGLE_ITEMS = 30


def measure_nulls(design: NullDesign, arms: tuple[str, ...], runs: int, **asked: Any) -> list[Row]:
    """Search the same simulated tables in every arm; one row of results an arm."""
    found = np.zeros((len(arms), runs), dtype=np.int64)
    testable = np.zeros_like(found)
    seconds = np.zeros(len(arms))
    for run in range(runs):
        problem = design.problem(run)
        for i, arm in enumerate(arms):
            started = time.process_time()
            outcome = search_arm(problem, arm, **asked)
            seconds[i] += time.process_time() - started
            found[i, run] = len(outcome.closures)
            testable[i, run] = outcome.n_testable
    rows = []
    for i, arm in enumerate(arms):
        rate = clopper_pearson(int((found[i] > 0).sum()), runs)
        rows.append(
            {
                "case_share": design.share,
                "n_strata": design.n_strata,
                "n_rows": design.n_rows,
                "n_items": design.n_items,
                "arm": arm,
                "runs": runs,
                "runs_with_discovery": rate.successes,
                "fwer": rate.rate,
                "fwer_low": rate.low,
                "fwer_high": rate.high,
                "mean_discoveries": float(found[i].mean()),
                "median_testable": float(np.median(testable[i])),
                "cpu_ms_per_search": 1000 * seconds[i] / runs,
            }
        )
    return rows


def study_fwer(runs: int) -> Iterator[list[Row]]:
    """Measure the three arms in every configuration."""
    for share in SHARES:
        for n_strata in N_STRATA:
            # With one stratum there are no strata to ignore.
            arms = ARMS if n_strata > 1 else ARMS[:2]
            yield measure_nulls(null_design(share, n_strata), arms, runs)


def study_single_items(runs: int) -> Iterator[list[Row]]:
    """Measure the default where it is least conservative: nearly independent hypotheses."""
    for n_strata in N_STRATA:
        design = null_design(0.5, n_strata, N_SINGLE_ITEMS)
        yield measure_nulls(design, ("exact",), runs, max_length=1)


def study_power(runs: int) -> Iterator[list[Row]]:
    """Measure how often a planted set is found, balanced classes, by both methods."""
    methods = ("exact", "asymptotic")
    for rate in CARRIER_RATES:
        hits = np.zeros((2, runs), dtype=bool)
        false = np.zeros((2, runs), dtype=np.int64)
        for run in range(runs):
            data = simulate_planted(
                500, 20, 4, carrier_rates=(0.05, rate), rng=np.random.SeedSequence([4, run])
            )
            for i, method in enumerate(methods):
                patterns = _patterns(data, method)
                hits[i, run] = power(patterns, data.planted.associated) == 1.0
                false[i, run] = count_false(patterns, data.planted.associated)
        rows = []
        for i, method in enumerate(methods):
            found = clopper_pearson(int(hits[i].sum()), runs)
            wrong = clopper_pearson(int((false[i] > 0).sum()), runs)
            rows.append(
                {
                    "carriers_among_cases": rate,
                    "method": method,
                    "runs": runs,
                    "runs_found": found.successes,
                    "power": found.rate,
                    "power_low": found.low,
                    "power_high": found.high,
                    "found_by_this_only": int((hits[i] & ~hits[1 - i]).sum()),
                    "runs_with_false": wrong.successes,
                    "fwer": wrong.rate,
                    "fwer_low": wrong.low,
                    "fwer_high": wrong.high,
                }
            )
        yield rows


def _patterns(data: SimulatedData, method: str) -> list[list[int]]:
    """Search planted data; return the significant closed itemsets as columns of the data."""
    problem = build_problem(
        data.X.astype(bool),
        data.y.astype(bool),
        encode_strata(data.strata, len(data.y)),
        item_names=[str(j) for j in range(data.X.shape[1])],
    )
    outcome = search_patterns(problem, SearchSettings(alpha=ALPHA, method=method))
    return [[int(problem.item_names[j]) for j in closure] for closure in outcome.closures]


STUDIES = {"fwer": study_fwer, "fwer_single_items": study_single_items, "power": study_power}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, help="runs a configuration (default 1000)")
    parser.add_argument("--quick", action="store_true", help="50 runs, into build/fwer")
    parser.add_argument("--only", choices=STUDIES, help="one part of the study")
    parser.add_argument("--draw-only", action="store_true", help="from the CSV files at hand")
    parser.add_argument("--out", type=Path, help="folder; by default where the docs read from")
    options = parser.parse_args()
    runs = options.runs or (50 if options.quick else 1000)
    out = options.out or (REPOSITORY / "build" / "fwer" if options.quick else None)
    results, pages = (out, out) if out else (RESULTS, REPOSITORY / "docs" / "studies")
    for name in [options.only] if options.only else STUDIES:
        if options.draw_only:
            break
        rows: list[Row] = []
        for part in STUDIES[name](runs):
            print_table(part)
            rows += part
        write_records(results / f"{name}.csv", rows, {"runs": runs, "alpha": ALPHA})
    for path in draw(results, pages):
        print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
