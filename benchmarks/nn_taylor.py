"""What Taylor scores cost over the forward and backward passes that they need: time and memory.

    python -m benchmarks.nn_taylor
    python -m benchmarks.nn_taylor --quick             # a look: small networks, two rounds
    python -m benchmarks.nn_taylor --device cuda

Two networks: a residual convolutional one with its coupled channels, and a vision transformer with
the rows of all its layers. The yardstick is what training does in evaluation mode: forward, loss,
backward to every parameter. Both run in turn in one process, and the CPU time (on a GPU the
elapsed time) of one is divided by that of the other, round by round; the median counts. Peak
memory is that of processes that do one of the two only (on a GPU, of torch's allocator). Writes
nn_taylor.csv into ``results/``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.processes import run_process
from benchmarks.records import RESULTS, Row, print_table, write_records
from sigmine_nn.calibrate import calibrate
from sigmine_nn.discovery import find_units
from sigmine_nn.units import Units

Batches = list[tuple[Tensor, Tensor]]

WAYS = {"taylor": ["taylor"], "taylor and gradient": ["taylor", "gradient"]}
TARGET = 1.3


class Block(nn.Module):
    """Two convolutions with batch norm beside a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Residual(nn.Module):
    """Three stages of two blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.stages = nn.ModuleList(nn.Sequential(Block(w), Block(w)) for w in widths)
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, 32, 32) to logits."""
        x = self.stages[0](F.relu(self.stem(x)))
        for down, stage in zip(self.downs, self.stages[1:], strict=True):  # type: ignore[arg-type]
            x = stage(F.relu(down(x)))
        return self.head(x.mean(dim=(2, 3)))


class Layer(nn.Module):
    """Attention and a feed-forward part, each behind a layer norm."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to the same shape."""
        b, t, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])  # (B, H, T, D / H)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Vision(nn.Module):
    """A vision transformer over patches of four by four."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.place = nn.Parameter(torch.zeros(1, 64, width))
        self.layers = nn.Sequential(*(Layer(width, 4) for _ in range(depth)))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, 32, 32) to logits."""
        x = self.patch(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.layers(x).mean(dim=1))


def prepared(network: str, quick: bool, device: str) -> tuple[nn.Module, Units, Batches]:
    """Return a network in evaluation mode, its units, and data on a device."""
    torch.manual_seed(0)
    if network == "residual":
        model: nn.Module = Residual(8 if quick else 32)
    else:
        model = Vision(32 if quick else 192, 2 if quick else 4)
    size, n_batches = (16, 2) if quick else (64, 3)
    data = [
        (torch.randn(size, 3, 32, 32, device=device), torch.randint(10, (size,), device=device))
        for _ in range(n_batches)
    ]
    model = model.to(device).eval()
    kind = "channel" if network == "residual" else "row"
    return model, find_units(model, kind, data[0][0][:2]), data


def bare(model: nn.Module, data: Batches) -> None:
    """Do what every gradient needs."""
    for x, y in data:
        F.cross_entropy(model(x), y).backward()
        model.zero_grad()


def ways(model: nn.Module, units: Units, data: Batches) -> dict[str, Callable[[], Any]]:
    """Return what is compared, the yardstick first."""
    found: dict[str, Callable[[], Any]] = {"bare": lambda: bare(model, data)}
    for name, wanted in WAYS.items():
        found[name] = lambda wanted=wanted: calibrate(
            model, data, units, wanted, loss="cross_entropy"
        )
    return found


def seconds(call: Callable[[], Any], device: str) -> float:
    """Return the CPU time of a call, or the elapsed time on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    started = clock()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - started


def timed(network: str, options: argparse.Namespace) -> tuple[list[Row], Units]:
    """Run everything in turn, round by round."""
    model, units, data = prepared(network, options.quick, options.device)
    calls = ways(model, units, data)
    for call in calls.values():
        call()
    rounds = [
        {name: seconds(call, options.device) for name, call in calls.items()}
        for _ in range(options.rounds)
    ]
    rows: list[Row] = []
    for name in WAYS:
        ratios = [one[name] / one["bare"] for one in rounds]
        rows.append(
            {
                "network": network,
                "what": name,
                "n_parameters": sum(p.numel() for p in model.parameters()),
                "n_units": units.n,
                "n_gates": sum(len(group.gates) for group in units),
                "n_samples": sum(len(x) for x, _ in data),
                "bare_s": statistics.median(one["bare"] for one in rounds),
                "seconds": statistics.median(one[name] for one in rounds),
                "ratio": statistics.median(ratios),
                "least_ratio": min(ratios),
                "largest_ratio": max(ratios),
            }
        )
    return rows, units


def peak(network: str, what: str, options: argparse.Namespace) -> float:
    """Return the peak memory, in MiB, of a process that does one thing only."""
    command = [
        sys.executable, "-m", "benchmarks.nn_taylor", "--device", options.device,
        "--alone", network, what,
    ]  # fmt: skip
    # Freed tensors go back to the system at once: the peak is what is alive, not how the heap lies.
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    cost = run_process([*command, "--quick"] if options.quick else command, environment=environment)
    on_device: float = json.loads(cost.output)
    return on_device or cost.peak_mb


def alone(network: str, what: str, options: argparse.Namespace) -> None:
    """Do one thing, and print the peak of the device's memory; 0 without a device."""
    torch.set_num_threads(1)
    call = ways(*prepared(network, options.quick, options.device))[what]
    if options.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    call()
    on_device = torch.cuda.max_memory_allocated() / 2**20 if options.device != "cpu" else 0.0
    print(json.dumps(on_device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small networks, two rounds")
    parser.add_argument("--rounds", type=int, help="default: 7, 2 with --quick")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "nn_taylor.csv")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 7)
    if options.alone:
        alone(*options.alone, options)
        return
    torch.set_num_threads(1)
    rows: list[Row] = []
    for network in ("residual", "vision"):
        measured, units = timed(network, options)
        base = peak(network, "bare", options)
        for row in measured:
            row["bare_peak_mb"] = base
            row["peak_mb"] = peak(network, row["what"], options)
            row["over_bare_mb"] = row["peak_mb"] - base
            row["scores_mb"] = 3 * 8 * units.n / 2**20  # mean, squares, and the score itself
        rows += measured
    facts = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if options.device != "cpu" else "cpu",
        "threads": 1,
        "rounds": options.rounds,
        "quick": options.quick,
        "target": f"ratio of taylor at most {TARGET}",
    }
    write_records(options.out, rows, facts)
    print_table(rows)


if __name__ == "__main__":
    main()
