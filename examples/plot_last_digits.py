"""
Which states of a state space model can go?
===========================================

Handwritten digits, read as sequences of 64 pixels, one after the other, by two kinds of deep state
space models: S5 (one system a layer) and S4D (one a feature). Trained from scratch, then pruned
without retraining, by the closed form of LAST, by baselines, by criteria that look at data, and by
balanced truncation. The last part shows where the closed form goes wrong, and what repairs it.

``python examples/plot_last_digits.py`` trains five networks of each kind (some 25 minutes on one
core, continued where it was interrupted if ``--out`` names a folder); ``--quick`` trains one of
each for a few epochs. The figures of the full study are in the documentation of the method.
"""

# %%
# The networks
# ------------
# Four blocks of normalisation, state space layer, gate. Step sizes between 1/64 and 100/64 suit
# sequences of 64 steps: a state forgets within the sequence. ``clip_eigs`` keeps training from
# making a state unstable, which has no H-infinity norm.

import argparse
import math
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from sigmine_nn import Pruner, PruningCurves, get_criterion, pruning_curve
from sigmine_nn.methods import LAST, balanced_truncation
from sigmine_nn.state_space import S4D, S5

LENGTH = 64
SUITED = (1 / LENGTH, 100 / LENGTH)
USUAL = (1e-3, 1e-1)  # made for sequences of thousands of steps
SYSTEM = ("Lambda", "log_step", ".B", "A_real", "A_imag", "log_dt")  # slower, without decay


class Block(nn.Module):
    def __init__(self, ssm, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.ssm = ssm
        self.gate = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        y = functional.gelu(self.ssm(self.norm(x)))
        return x + self.dropout(y * torch.sigmoid(self.gate(y)))


class Classifier(nn.Module):
    def __init__(self, kind, steps, width=32, depth=4):
        super().__init__()
        low, high = steps

        def layer():
            if kind == "S5":
                return S5(width, 32, blocks=4, dt_min=low, dt_max=high, clip_eigs=True)
            return S4D(width, 16, dt_min=low, dt_max=high)

        self.encoder = nn.Linear(1, width)
        self.blocks = nn.ModuleList(Block(layer(), width) for _ in range(depth))
        self.decoder = nn.Linear(width, 10)

    def forward(self, x):
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x)
        return self.decoder(x.mean(dim=1))


def load(seed):
    """Return images and targets for training, and 500 others for the test."""
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32)[:, :, None]
    x = (x - x.mean()) / x.std()
    y = torch.tensor(digits.target)
    train, test = train_test_split(
        np.arange(len(y)), test_size=500, stratify=digits.target, random_state=seed
    )
    return (x[train], y[train]), (x[test], y[test])


@cache
def train(kind, seed, epochs, steps=SUITED):
    torch.manual_seed(seed)
    model = Classifier(kind, steps)
    (x, y), _ = load(seed)
    named = dict(model.named_parameters())
    system = [p for name, p in named.items() if any(part in name for part in SYSTEM)]
    rest = [p for name, p in named.items() if not any(part in name for part in SYSTEM)]
    optimizer = torch.optim.AdamW(
        [
            {"params": rest, "lr": 4e-3, "weight_decay": 0.05},
            {"params": system, "lr": 1e-3, "weight_decay": 0.0},
        ]
    )
    rounds = epochs * math.ceil(len(x) / 64)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rounds)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=generator).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


# %%
# Ways to prune
# -------------
# All rank states, and remove exactly the same number. Magnitude is :math:`|\lambda|\,\|b\|\,\|c\|`.
# The Taylor criteria and the energy of the states look at 512 training images, which the closed
# forms do not: they are no LAST. Balanced truncation selects no states at all; it rewrites every
# layer.


def states(criterion, scope="global", **options):
    return Pruner(get_criterion(criterion, **options), units="state", scope=scope)


WAYS = {
    "LAST": LAST(),
    "LAST, horizon 64": LAST(horizon="sequence"),
    "H-infinity, uniform": states("hinf", "layer"),
    "H-infinity, global": states("hinf"),
    "H2 (AIRE-Prune)": states("aire"),
    "magnitude, uniform": states("state_magnitude", "layer"),
    "magnitude, global": states("state_magnitude"),
    "magnitude, LAMP": states("state_magnitude", normalise="last"),
    "random, uniform": states("random", "layer"),
    "random, global": states("random"),
    "energy (data)": states("state_energy"),
    "Taylor (data)": states("taylor"),
    "squared Taylor (data)": states("taylor_squared"),
    "balanced truncation": balanced_truncation,
}
MAGNITUDES = [way for way in WAYS if way.startswith("magnitude")]
RANDOM = [way for way in WAYS if way.startswith("random")]
SHOWN = ["LAST", "H-infinity, uniform", "magnitude, LAMP", "random, global",
         "squared Taylor (data)", "balanced truncation"]  # fmt: skip
TRAP = ("LAST", "LAST, horizon 64", "magnitude, uniform", "random, global")


def measure(kind, seed, epochs, amounts, steps=SUITED, ways=WAYS):
    model = train(kind, seed, epochs, steps)
    (x, y), test = load(seed)
    calibration = list(zip(x[:512].split(64), y[:512].split(64), strict=True))
    return pruning_curve(
        model,
        [test],
        ways,
        amounts,
        calibration=calibration,
        loss="cross_entropy",
        example_inputs=x[:8],
        n_draws=1 if quick else 4,
        name=seed,
    )


def study(name, kind, seeds, epochs, amounts, out, **options):
    """Measure all networks of one kind; with a folder, each once and for all."""
    frames = []
    for seed in seeds:
        path = out / "networks" / f"last_{name}_{seed}.csv" if out else None
        if path and path.exists():
            frames.append(pd.read_csv(path))
            continue
        frames.append(measure(kind, seed, epochs, amounts, **options))
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            frames[-1].to_csv(path, index=False)
    return PruningCurves(pd.concat(frames, ignore_index=True))


parser = argparse.ArgumentParser()
parser.add_argument("--quick", action="store_true", help="one network a kind, a few epochs")
parser.add_argument("--seeds", type=int, default=5, help="networks of each kind")
parser.add_argument("--out", type=Path, help="folder for a CSV a network and for the figures")
arguments = parser.parse_args()
quick = arguments.quick
torch.set_num_threads(1)
seeds = range(1 if quick else arguments.seeds)
amounts = [0.2, 0.4, 0.6] if quick else [k / 10 for k in range(1, 10)]
epochs = {"S5": 10, "S4D": 4, "slow": 5} if quick else {"S5": 30, "S4D": 30, "slow": 50}
ways = {way: WAYS[way] for way in SHOWN} if quick else WAYS

s5 = study("s5", "S5", seeds, epochs["S5"], amounts, arguments.out, ways=ways)
s4d = study("s4d", "S4D", seeds, epochs["S4D"], amounts, arguments.out, ways=ways)


# %%
# Accuracy against the fraction of states removed, mean and 95 % interval over networks.


def table(curves):
    summary = curves.summary()
    wide = summary.pivot(index="way", columns="amount", values="mean").loc[["whole", *curves.ways]]
    return (100 * wide).round(1)


figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
for ax, curves, kind in zip(axes, (s5, s4d), ("S5", "S4D"), strict=True):
    curves.plot(SHOWN, ax=ax).set_title(f"{kind}, {curves.n_models} networks")
axes[1].get_legend().remove()  # the same
if arguments.out:
    figure.savefig(arguments.out / "last_curves.svg")

print("S5\n", table(s5).to_string(), "\nS4D\n", table(s4d).to_string())

# %%
# At 40 % of the states removed from S5, LAST against the best magnitude and random, network by
# network; and the largest fraction that costs at most one point.

if not quick:
    means = {way: float(s5.table(way)[0.4].mean()) for way in (*MAGNITUDES, *RANDOM)}
    for group in (MAGNITUDES, RANDOM):
        best = max(group, key=lambda way: means[way])
        print((100 * s5.difference("LAST", best, 0.4)).round(1).to_string(), "\n")
    for kind, curves in (("S5", s5), ("S4D", s4d)):
        print(kind, curves.largest_amount().round(3).to_string(index=False), sep="\n")

# %%
# The trap
# --------
# With step sizes between 0.001 and 0.1, half of the states remember hundreds of steps, and the
# sequence has 64. The closed form gives them credit for responses that never come, and magnitude
# is the better guide (`fit` warns of it). A finite horizon repairs the score.

slow = study("slow", "S5", seeds, epochs["slow"], amounts, arguments.out, steps=USUAL,
             ways={way: WAYS[way] for way in TRAP})  # fmt: skip
ax = slow.plot()
ax.set_title("S5 with step sizes for sequences of thousands of steps")
if arguments.out:
    ax.figure.savefig(arguments.out / "last_trap.svg")
    every = {"s5": s5, "s4d": s4d, "slow": slow}
    frames = [curves.frame.assign(kind=kind) for kind, curves in every.items()]
    pd.concat(frames).round(6).to_csv(arguments.out / "last_digits.csv", index=False)
    for kind, curves in every.items():
        table(curves).to_csv(arguments.out / f"last_table_{kind}.csv", header=False)
print("S5, step sizes 0.001 to 0.1\n", table(slow).to_string())

# %%
# The report
# ----------
# One network, 30 % of its states gone: what is kept where, eigenvalues on the unit disc, memory and
# time before and after.

model = train("S5", 0, epochs["S5"])
_, test = load(0)
last = LAST(amount=0.3).fit(model, example_inputs=test[0][:8], loss="cross_entropy")
small = last.transform(model, physical=True)
results = last.results(model, small, data=[test], latency=True, curves=s5)
results.print_summary()
if arguments.out:
    results.to_html(arguments.out / "last_report.html")
