"""Whether a pruned network keeps its accuracy within the margin as often as promised.

    python -m benchmarks.nn_margin                  # 100 seeds, about ten minutes on a core
    python -m benchmarks.nn_margin --seeds 10       # a look

Every seed draws another network, another split of scikit-learn's digits, and other calibration
data. Four ways to decide what goes: nested sets, tested in the order of the ranking (which promises
that the loss of accuracy of what goes is below the margin with probability 0.95); units tested one
by one at a false discovery rate of 5 % (which promises nothing of all of them together); such units
on half of the data, and nested sets of them on the other half; and a budget. The truth is the
change of accuracy on images that had no part in anything; it is itself an estimate, so that a share
is given of seeds that are above the margin, and of those that are so by two standard errors.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.records import RESULTS, Row, print_table, write_records
from sigmine.exceptions import StatisticalWarning
from sigmine_nn import Pruner

MARGIN, LEVEL = 0.03, 0.05
WAYS = {
    "nested": {"level": LEVEL, "margin": MARGIN, "metric": "accuracy", "test": "nested"},
    "units, FDR": {
        "level": LEVEL,
        "margin": MARGIN,
        "metric": "accuracy",
        "correction": "benjamini-hochberg",
    },
    "units, FDR, then nested": {
        "level": LEVEL,
        "margin": MARGIN,
        "metric": "accuracy",
        "correction": "benjamini-hochberg",
        "test": "both",
    },
    "budget": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "nn_margin.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", StatisticalWarning)
    rows: list[Row] = []
    for seed in range(options.first, options.first + options.seeds):
        rows += measure(seed)
        write_records(options.out, rows, {"margin": MARGIN, "level": LEVEL})
        if seed % 10 == 9:
            print(f"seed {seed} done", file=sys.stderr)
    print_table(summary(rows))


class Network(nn.Module):
    """Two convolutions with a residual connection, batch normalisation, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.hidden = nn.Linear(16 * 16, 32)
        self.out = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 1, 8, 8) to scores (B, 10)."""
        x = functional.relu(self.norm(self.stem(x)))
        x = functional.relu(x + self.norm2(self.conv(x)))
        x = functional.relu(self.hidden(functional.avg_pool2d(x, 2).flatten(1)))
        return self.out(x)


def measure(seed: int) -> list[Row]:
    """Train a network, prune it in all ways, and look at it with other images."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = torch.tensor(digits.images[order], dtype=torch.float32)[:, None] / 16
    targets = torch.tensor(digits.target[order])
    torch.manual_seed(seed)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(6):
        for part in torch.randperm(600).split(50):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[part]), targets[part]).backward()
            optimizer.step()
    model.eval()

    def batches(start: int, stop: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        whole = (images[start:stop].split(100), targets[start:stop].split(100))
        return list(zip(*whole, strict=True))

    rows: list[Row] = []
    for name, settings in WAYS.items():
        pruner = Pruner(amount=0.5, n_resamples=0, **settings)  # type: ignore[arg-type]
        test_data = batches(800, 1200) if "level" in settings else None
        pruner.fit(model, batches(600, 800), loss="cross_entropy", test_data=test_data)
        small = pruner.transform(model, physical=True)
        with torch.no_grad():
            before = (model(images[1200:]).argmax(dim=1) == targets[1200:]).double()
            after = (small(images[1200:]).argmax(dim=1) == targets[1200:]).double()
        lost = before - after
        rows.append(
            {
                "seed": seed,
                "way": name,
                "removed": int((~pruner.selection_.keep).sum()),
                "units": pruner.units_.n,
                "accuracy": float(before.mean()),
                "lost": float(lost.mean()),
                "lost_error": float(lost.std() / np.sqrt(len(lost))),
            }
        )
    return rows


def summary(rows: list[Row]) -> list[Row]:
    """Return a row a way."""
    found: list[Row] = []
    for name in WAYS:
        mine = [row for row in rows if row["way"] == name]
        lost = np.array([row["lost"] for row in mine], dtype=float)
        error = np.array([row["lost_error"] for row in mine], dtype=float)
        removed = np.array([row["removed"] for row in mine], dtype=float)
        found.append(
            {
                "way": name,
                "seeds": len(mine),
                "removed, median": float(np.median(removed)),
                "lost, median": float(np.median(lost)),
                "lost, most": float(lost.max()),
                "above the margin": float((lost >= MARGIN).mean()),
                "by two errors": float((lost - 2 * error >= MARGIN).mean()),
            }
        )
    return found


if __name__ == "__main__":
    main()
