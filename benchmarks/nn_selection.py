"""Selecting among many units, beside ``torch.topk`` on the same tensor in the same run.

    python -m benchmarks.nn_selection

Both keep the same number of the same scores, in turn: of all, or in every layer. ``select_units``
is the whole function: from a table of scores to a mask in numpy, with reasons and thresholds.
``topk`` is as it comes, with its values sorted, and without (``unsorted``). Needs torch (the extra
``nn``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.records import RESULTS, Row, print_table, write_records
from sigmine_nn.scores import ScoreTable
from sigmine_nn.selection import select_units
from sigmine_nn.units import Kind, Role, Slice, UnitGroup, Units

AMOUNTS = (0.1, 0.5, 0.9, 0.99)
SCOPES = ("global", "layer")
LAYERS = 20
ROUNDS = 7


def element_table(n: int, seed: int = 0) -> ScoreTable:
    """Return a table of single weights in some layers, with scores of squared normal weights."""
    sizes = [n // LAYERS] * LAYERS
    groups = tuple(
        UnitGroup(f"layer{i}", Kind.ELEMENT, size, (Slice(f"layer{i}.weight", None, Role.IN),),
                  removable=False)
        for i, size in enumerate(sizes)
    )  # fmt: skip
    units = Units(groups, {f"layer{i}.weight": (size, 1) for i, size in enumerate(sizes)})
    generator = torch.Generator().manual_seed(seed)
    return ScoreTable(units, torch.randn(units.n, generator=generator).double().square(), "given")


def by_topk(table: ScoreTable, amount: float, scope: str, in_order: bool) -> Any:
    """Return what ``torch.topk`` makes of all scores, or of those of every layer."""
    parts = [table.score] if scope == "global" else table.units.split(table.score).values()
    return [
        torch.topk(part, len(part) - int(amount * len(part)), sorted=in_order) for part in parts
    ]


def measure(table: ScoreTable, amount: float, scope: str, rounds: int) -> Row:
    """Return seconds of both, taking turns, and how many times as long ours takes."""
    functions: dict[str, Callable[[], Any]] = {
        "topk": lambda: by_topk(table, amount, scope, True),
        "unsorted": lambda: by_topk(table, amount, scope, False),
        "select": lambda: select_units(table, amount, scope=scope),
    }
    kept = functions["select"]().n_kept  # every function runs once unmeasured
    assert kept == sum(len(part.indices) for part in functions["topk"]())
    functions["unsorted"]()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    ratios = {
        name: [a / b for a, b in zip(seconds["select"], seconds[name], strict=True)]
        for name in ("topk", "unsorted")
    }
    return {
        "n_units": table.units.n,
        "removed": amount,
        "scope": scope,
        "rounds": rounds,
        **{f"{name}_median_s": median(taken) for name, taken in seconds.items()},
        "ratio_median": median(ratios["topk"]),
        "ratio_most": max(ratios["topk"]),
        "ratio_unsorted_median": median(ratios["unsorted"]),
        "ratio_unsorted_most": max(ratios["unsorted"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a million units, two rounds, no CSV")
    parser.add_argument("--out", type=Path, default=RESULTS / "nn_selection.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, rounds = (10**6, 2) if options.quick else (10**7, ROUNDS)
    table = element_table(n)
    rows = [measure(table, amount, scope, rounds) for scope in SCOPES for amount in AMOUNTS]
    print_table(rows)
    if not options.quick:
        write_records(options.out, rows, {"torch": torch.__version__, "threads": 1})


if __name__ == "__main__":
    main()
