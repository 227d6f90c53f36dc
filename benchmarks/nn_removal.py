"""What a network gains by losing channels: parameters, multiply-adds, file and latency.

    python -m benchmarks.nn_removal
    python -m benchmarks.nn_removal --quick            # a look: a small network, few passes

A residual convolutional network loses a quarter, half and three quarters of its channels.
Latency is the median of passes in turn with the whole network, in one process and one thread.
Writes nn_removal.csv into ``results/``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.nn_taylor import Residual
from benchmarks.records import RESULTS, Row, print_table, write_records
from sigmine_nn import Pruner, measure_latency, save_pruned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small network, few passes")
    parser.add_argument("--out", type=Path, default=RESULTS / "nn_removal.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Residual(8 if options.quick else 32).eval()
    side = 16 if options.quick else 32
    inputs = torch.randn(8, 3, side, side)
    rows = [
        measure(model, inputs, amount, repeats=5 if options.quick else 30)
        for amount in (0.25, 0.5, 0.75)
    ]
    write_records(options.out, rows, {"torch": torch.__version__})
    print_table(rows)


def measure(model: torch.nn.Module, inputs: torch.Tensor, amount: float, repeats: int) -> Row:
    """Remove channels and compare with the whole network.

    Parameters
    ----------
    model : Module
        The network.
    inputs : Tensor
        What it takes.
    amount : float
        Fraction of the channels of every layer.
    repeats : int
        Timed passes.

    Returns
    -------
    dict
        Ratios of the smaller network to the whole one.
    """
    pruner = Pruner("l2", amount=amount, scope="layer").fit(model, example_inputs=inputs)
    small = pruner.transform(model, physical=True)
    latency = measure_latency({"whole": model, "small": small}, inputs, repeats=repeats)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "whole.safetensors", Path(folder) / "small.safetensors"
        nothing = Pruner("l2", amount=0.0, scope="layer").fit(model, example_inputs=inputs)
        save_pruned(files[0], nothing.transform(model, physical=True), nothing.plan_)
        save_pruned(files[1], small, pruner.plan_)
        whole, smaller = (path.stat().st_size for path in files)
    keep, costs = pruner.selection_.keep, pruner.costs_
    return {
        "channels removed": 1 - float(keep.mean()),
        "parameters": costs.parameters(keep) / costs.parameters(),
        "multiply-adds": costs.flops(keep) / costs.flops(),
        "file": smaller / whole,
        "file_kb": smaller / 1024,
        "latency": latency["small"].median / latency["whole"].median,
        "whole_ms": 1e3 * latency["whole"].median,
        "small_ms": 1e3 * latency["small"].median,
    }


if __name__ == "__main__":
    main()
