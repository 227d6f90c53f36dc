"""What the Cup Curriculum adds to a training step, and what removing weights takes.

    python -m benchmarks.nn_cup
    python -m benchmarks.nn_cup --quick                # a look: small layers, few steps

A pair of linear layers with 4.7 million weights, batches of 256, SGD with momentum. A step is
forward, loss, backward, update, and what the curriculum does around it; the CPU time of steps with
it is divided by that of steps without, in turn, round by round, and the median counts. "down" is a
cycle with weights removed, "up" one with weights that came back. Writes nn_cup.csv into
``results/``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.records import RESULTS, Row, print_table, write_records
from sigmine_nn import Cup
from sigmine_nn.methods import CupCurriculum


def network(width: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
    return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def bare(width: int, batch: int) -> Callable[[], None]:
    """Return a step of plain training."""
    model, optimizer = network(width)
    x = torch.randn(batch, width)

    def step() -> None:
        optimizer.zero_grad()
        F.mse_loss(model(x), x).backward()
        optimizer.step()

    return step


def curriculum(width: int, batch: int, updates: str) -> tuple[Callable[[], None], CupCurriculum]:
    """Return the same step within a curriculum."""
    model, optimizer = network(width)
    cup = CupCurriculum(model, optimizer, schedule=Cup(cycles=3), updates=updates)
    x = torch.randn(batch, width)

    def step() -> None:
        optimizer.zero_grad()
        F.mse_loss(model(x), x).backward()
        cup.after_backward()
        optimizer.step()
        cup.after_step()

    return step, cup


def cpu_time(function: Callable[[], None], repeats: int = 1) -> float:
    begin = time.process_time()
    for _ in range(repeats):
        function()
    return time.process_time() - begin


def measured(updates: str, options: argparse.Namespace) -> list[Row]:
    width, batch = (128, 64) if options.quick else (768, 256)
    plain = bare(width, batch)
    step, cup = curriculum(width, batch, updates)
    rows: list[Row] = []
    step()
    removal = cpu_time(cup.end_of_cycle)
    for phase in ("down", "up"):
        while cup.phase != phase or (phase == "up" and cup.level == cup.n_pruned):
            step()
            cup.end_of_cycle()
        plain(), step()
        ratios = [
            cpu_time(step, options.steps) / cpu_time(plain, options.steps)
            for _ in range(options.rounds)
        ]
        rows.append(
            {
                "updates": updates,
                "phase": phase,
                "ratio": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
                "removal_seconds": removal,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small layers, few steps")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS / "nn_cup.csv")
    options = parser.parse_args()
    options.steps = 2 if options.quick else 5
    torch.set_num_threads(1)
    rows = [
        row
        for updates in ("identical", "dynamic", "freezing")
        for row in measured(updates, options)
    ]
    facts = {"torch": torch.__version__, "threads": 1, "rounds": options.rounds}
    write_records(options.out, rows, facts | {"quick": options.quick})
    print_table(rows)


if __name__ == "__main__":
    main()
