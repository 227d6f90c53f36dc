"""
Does a blend of criteria prune better?
======================================

Twelve criteria rank the filters of two networks that read digits. Which of them say the same? Is a
blend, searched for on held-out images, better than each by itself, than random search with the
same budget, and than chance; before fine-tuning, and after?

Without arguments this runs the whole study (six seeds, three amounts, two networks), which takes
ten to twenty minutes; ``--quick`` runs a small one, and ``--out FOLDER`` writes its tables and its
figure. An interrupted study goes on where it was if it is called with the same folder.
"""

# %%
# Two networks, and three parts of the data
# -----------------------------------------
# Half of scikit-learn's 1,797 digits are for training and fine-tuning, 350 for the criteria and the
# search (150 for scores and running statistics, 200 for the loss that the search makes small), the
# rest for the test. Each seed is another split and another network.

import argparse
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from sigmine_nn import (
    evaluate,
    mcnemar,
    recalibrate_batchnorm,
    remove_units,
    score_units,
    select_units,
    stability,
)
from sigmine_nn.methods import (
    FILTER_CRITERIA,
    BlendedCriterion,
    Evolution,
    cluster_criteria,
    criteria_matrix,
    search_blend,
)

parser = argparse.ArgumentParser()
parser.add_argument("--quick", action="store_true", help="a small study")
parser.add_argument("--out", type=Path, help="folder for tables and the figure")
options = parser.parse_args(sys.argv[1:])
torch.set_num_threads(1)

SEEDS = range(2 if options.quick else 6)
AMOUNTS = (0.5,) if options.quick else (0.3, 0.5, 0.7)
EVOLUTION = Evolution(population=16, generations=3, n_elite=4) if options.quick else Evolution()
EPOCHS = 4 if options.quick else 10
# Epochs of fine-tuning, all of them counted.
FINE_TUNING = {"after": 1, "long_after": 2} if options.quick else {"after": 2, "long_after": 8}
MOMENTS = ("before", *FINE_TUNING)
NORM_LIKE = ("l1", "l2", "geometric_median", "fermat")


def layer(channels, out, stride=1):
    return [
        nn.Conv2d(channels, out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    ]


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(*layer(channels, channels), *layer(channels, channels)[:2])

    def forward(self, x):
        return functional.relu(x + self.body(x))


class Net(nn.Module):
    """Layers, a 1 x 1 convolution to ten classes, and the mean over the positions."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.classes = nn.Conv2d(32, 10, 1)

    def forward(self, x):
        return self.classes(self.layers(x)).mean(dim=(2, 3))


def four_layers():
    return Net(*layer(1, 16), *layer(16, 32, 2), *layer(32, 32), *layer(32, 32))


def residual():
    return Net(*layer(1, 16), Block(16), *layer(16, 32, 2), Block(32))


NETWORKS = {"four layers": four_layers, "residual": residual}

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
targets = torch.tensor(digits.target)


def parts_of_data(seed):
    """Return batches for training, for scores, for the search, and for the test."""
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    sizes, batch = (900, 150, 200, 547), (64, 150, 200, 547)
    return [
        list(zip(images[rows].split(size), targets[rows].split(size), strict=True))
        for rows, size in zip(shuffled.split(sizes), batch, strict=True)
    ]


def train(model, batches, epochs, rate, seed):
    """Train in place; the batches come in an order of their own every epoch."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    model.train()
    for _ in range(epochs):
        for number in torch.randperm(len(batches), generator=generator).tolist():
            optimizer.zero_grad()
            inputs, labels = batches[number]
            functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def is_right(model, batches):
    return np.concatenate([(model(x).argmax(dim=1) == y).numpy() for x, y in batches])


# %%
# One network, all rankings
# -------------------------
# Of every ranking the same fraction of each layer goes, so that nothing but the order differs; then
# batch norm is recalibrated, and all are fine-tuned alike. McNemar's test compares each with the
# blend on the same test images. *Repeated* is the share of the pruned set (Jaccard) that the same
# criterion, or the same blend, finds from 150 other images, which the search has not seen.


def others_of(training):
    """Return 150 images that neither the criteria nor the search have seen."""
    inputs, labels = (torch.cat(part)[:150] for part in zip(*training, strict=True))
    return [(inputs, labels)]


def rankings(model, matrix, again, search, scored, other, amount, seed):
    """Return the mask of every ranking, and how far other images repeat it."""
    blends = {
        "blend": search.criterion,
        "random search": search.random_criterion,
        "mean rank": BlendedCriterion.equal(matrix),
    }
    tables = {name: (matrix.table(name), again.table(name)) for name in FILTER_CRITERIA}
    for name, criterion in blends.items():
        tables[name] = tuple(
            score_units(model, data, criterion=criterion, units=matrix.units, loss="cross_entropy")
            for data in (scored, other)
        )
    tables["random"] = tuple(
        score_units(model, criterion="random", units=matrix.units, seed=2 * seed + k)
        for k in (0, 1)
    )
    for name, pair in tables.items():
        keep = select_units(pair[0], amount, scope="layer").keep
        yield name, keep, stability(pair, amount, scope="layer").mean["jaccard"]


def fine_tuned(small, training, tested, seed):
    """Return which test images are right after some and after more epochs of fine-tuning."""
    right, done = {}, 0
    for moment, epochs in FINE_TUNING.items():
        train(small, training, epochs - done, 1e-3, seed + done)
        right[moment], done = is_right(small, tested), epochs
    return right


def study_of(network, seed):
    """Return the rows of one network: of rankings, of clusters, and of agreement."""
    training, scored, searched, tested = parts_of_data(seed)
    torch.manual_seed(seed)
    model = train(NETWORKS[network](), training, EPOCHS, 2e-3, seed)
    whole = is_right(model, tested).mean()
    matrix = criteria_matrix(model, scored, loss="cross_entropy")
    clusters = cluster_criteria(matrix)
    other = others_of(training)
    again = criteria_matrix(model, other, units=matrix.units, loss="cross_entropy")
    rows = []
    for amount in AMOUNTS:
        search = search_blend(
            model, scored, searched, clusters=clusters, amount=amount, evolution=EVOLUTION,
            seed=seed,
        )  # fmt: skip
        if search.stopped == "interrupt":  # half a search is no part of the study
            raise KeyboardInterrupt
        reference = None
        found = rankings(model, matrix, again, search, scored, other, amount, seed)
        for name, keep, repeated in sorted(found, key=lambda item: item[0] != "blend"):
            small, _ = remove_units(model, matrix.units, keep)
            recalibrate_batchnorm(small, scored)
            on_search, on_test = (
                evaluate(small, data, loss="cross_entropy") for data in (searched, tested)
            )
            right = {"before": is_right(small, tested)} | fine_tuned(small, training, tested, seed)
            reference = reference or right
            rows.append(
                {
                    "network": network, "seed": seed, "amount": amount, "ranking": name,
                    "whole": whole,
                    "search_accuracy": on_search.accuracy, "search_loss": on_search.loss,
                    "test_loss": on_test.loss, "repeated": repeated,
                    "n_evaluations": search.n_evaluations,
                }
            )  # fmt: skip
            for moment in MOMENTS:
                test = mcnemar(reference[moment], right[moment])
                rows[-1] |= {
                    moment: right[moment].mean(),
                    f"blend_only_{moment}": test.n_before,
                    f"other_only_{moment}": test.n_after,
                    f"p_{moment}": test.pvalue,
                }
    return pd.DataFrame(rows), clusters_of(network, seed, matrix), agreement_of(network, matrix)


def clusters_of(network, seed, matrix):
    """Return where the criteria of norms and distances fall in one cluster."""
    rows = []
    for method in ("average", "kmeans"):
        for number in (None, 3, 4):
            found = cluster_criteria(matrix, number, method=method)
            together = found.together(NORM_LIKE)
            for name, one in found.layers.items():
                rows.append(
                    {
                        "network": network, "seed": seed, "layer": name, "method": method,
                        "asked": "silhouette" if number is None else str(number),
                        "n_clusters": len(one.medoids), "silhouette": one.silhouette,
                        "norm_like_together": together[name],
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def agreement_of(network, matrix):
    frame = matrix.correlation().rename_axis("criterion").reset_index()
    return frame.assign(network=network)


def written(frame, name):
    """Write a table whole or not at all, if there is a folder."""
    name = f"quick_{name}" if options.quick else name
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        frame.to_csv(options.out / f"{name}.part", index=False, float_format="%.6g")
        (options.out / f"{name}.part").replace(options.out / name)


def earlier(name):
    """Return what an earlier call has written."""
    name = f"quick_{name}" if options.quick else name
    path = None if options.out is None else options.out / name
    return pd.read_csv(path, dtype={"asked": str}) if path and path.exists() else pd.DataFrame()


NAMES = ("blending_runs.csv", "blending_clusters.csv", "blending_agreement.csv")
tables = [earlier(name) for name in NAMES]
done = set() if tables[2].empty else set(zip(tables[2]["network"], tables[2]["seed"], strict=True))
# What was written of a network that was not finished is made again.
parts = [
    [t if t.empty else t[[pair in done for pair in zip(t["network"], t["seed"], strict=True)]]]
    for t in tables
]
for network in NETWORKS:
    for seed in SEEDS:
        if (network, seed) in done:
            continue
        begin = time.perf_counter()
        runs, clusters, correlations = study_of(network, seed)
        found = (runs, clusters, correlations.assign(seed=seed))
        for part, frame, name in zip(parts, found, NAMES, strict=True):
            part[:] = [pd.concat([*(f for f in part if len(f)), frame], ignore_index=True)]
            written(part[0], name)
        print(f"{network}, seed {seed}: {time.perf_counter() - begin:.0f} s")
runs, clusters, correlations = (part[0] for part in parts)

# %%
# Criteria that say the same
# --------------------------
# Mean rank correlation over layers and seeds, and the share of layers on which the four criteria of
# norms and distances fall in one cluster.

mean = correlations.drop(columns="seed").groupby(["network", "criterion"]).mean()
for network in NETWORKS:
    norms = mean.loc[network].loc[list(NORM_LIKE), list(NORM_LIKE)]
    print(network, "lowest mean rank correlation of the four:", f"{norms.min().min():.2f}")
share = clusters.groupby(["network", "method", "asked"])["norm_like_together"].mean().unstack()
print(share.round(2).to_string())

# %%
# Accuracy before and after fine-tuning
# -------------------------------------
# Means over seeds; `reach` is half the width of a 95 % interval (Student's t), and the difference
# is that of the blend minus the ranking, seed by seed. *Best single* is the criterion with the
# lowest loss on the search images, as somebody would choose it who searches for no blend. *Better*
# and *worse* count the seeds in which McNemar's test at 5 % finds the blend better or worse; no
# correction over rankings is made.

singles = runs[runs["ranking"].isin(FILTER_CRITERIA)]
first = singles.groupby(["network", "seed", "amount"])["search_loss"].idxmin()
every = pd.concat([runs, runs.loc[first].assign(ranking="best single")], ignore_index=True)


def reach(values):
    """Return half the width of the interval of a mean."""
    if len(values) < 2:
        return np.nan
    return stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5


def summary_of(part, blend):
    row = {
        "seeds": len(part),
        "repeated": part["repeated"].mean(),
        "search_minus_test": (part["search_accuracy"] - part["before"]).mean(),
        "test_minus_search_loss": (part["test_loss"] - part["search_loss"]).mean(),
    }
    for moment in MOMENTS:
        difference = blend[moment].to_numpy() - part[moment].to_numpy()
        certain = part[f"p_{moment}"].to_numpy() < 0.05
        more = part[f"blend_only_{moment}"].to_numpy() > part[f"other_only_{moment}"].to_numpy()
        row |= {
            moment: part[moment].mean(), f"{moment}_reach": reach(part[moment]),
            f"{moment}_difference": difference.mean(),
            f"{moment}_difference_reach": reach(difference),
            f"{moment}_better": int((certain & more).sum()),
            f"{moment}_worse": int((certain & ~more).sum()),
        }  # fmt: skip
    return row


table = []
for (network, amount), part in every.groupby(["network", "amount"]):
    blend = part[part["ranking"] == "blend"].sort_values("seed")
    for name, one in part.groupby("ranking"):
        summary = summary_of(one.sort_values("seed"), blend)
        table.append({"network": network, "amount": amount, "ranking": name} | summary)
table = pd.DataFrame(table).sort_values(
    ["network", "amount", "before"], ascending=[True, True, False], ignore_index=True
)
written(table, "blending_table.csv")
of_before = ["difference", "difference_reach", "better", "worse"]
shown = ["ranking", "before", *(f"before_{word}" for word in of_before)]
for moment in FINE_TUNING:
    shown += [moment, f"{moment}_difference_reach"]
shown.append("repeated")
for (network, amount), part in table.groupby(["network", "amount"]):
    print(f"\n{network}, {amount:.0%} of the filters of every layer removed; accuracy of the whole")
    print(f"network {runs[runs['network'] == network]['whole'].mean():.3f}")
    print(part[shown].round(3).to_string(index=False))

# %%
# What the figure shows: how far rankings lie apart before fine-tuning (left), and what is left of
# that after a few epochs and after more of them.

HEADS = {
    "before": "before fine-tuning",
    **{moment: f"fine-tuned, epochs: {epochs}" for moment, epochs in FINE_TUNING.items()},
}
SEARCHED = ("blend", "random search", "mean rank", "best single")
groups = list(table.groupby(["network", "amount"]))
figure, axes = plt.subplots(
    len(groups), 3, figsize=(9, 3.1 * len(groups)), layout="constrained", squeeze=False,
    sharex="row",
)  # fmt: skip
for row, ((network, amount), part) in zip(axes, groups, strict=True):
    place = np.arange(len(part))
    own = part["ranking"].isin(SEARCHED)
    color = np.where(part["ranking"] == "random", "gray", np.where(own, "orange", "blue"))
    for ax, moment in zip(row, MOMENTS, strict=True):
        for name in ("gray", "orange", "blue"):
            some = color == name
            half = part[f"{moment}_reach"].fillna(0)[some]
            ax.errorbar(
                part[moment][some], place[some], xerr=half, fmt="o", color=f"tab:{name}",
                markersize=4,
            )  # fmt: skip
        ax.set_yticks(place, part["ranking"] if moment == "before" else [], fontsize=7)
        ax.invert_yaxis()
        ax.set_xlim(0, 1)
        ax.set_title(f"{network}, {amount:.0%} removed,\n{HEADS[moment]}", fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
for ax in axes[-1]:
    ax.set_xlabel("test accuracy")
if options.out is not None:
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "blending"}):
        name = "quick_blending.svg" if options.quick else "blending.svg"
        figure.savefig(options.out / name, metadata={"Date": None})

# %%
# The price of the search
# -----------------------
# The blend was chosen because it does well on the search images. On the test images it does less
# well; a single criterion, which was not chosen, does not.

gap = table[table["ranking"].isin(["blend", "random search", "best single", "mean rank"])]
columns = ["network", "amount", "ranking", "search_minus_test", "test_minus_search_loss"]
print(gap[columns].round(3).to_string(index=False))
