"""
How sure is a pruned set?
=========================

A convolutional network that reads digits is pruned by five criteria, each with the same calibration
images. Two questions that no ranking answers by itself: which of the decisions would other images
have made otherwise, and how much may go before the accuracy suffers?
"""

# %%
# A network with batch normalisation and a residual connection, trained on half of scikit-learn's
# 1,797 digits. The other images are for calibration, for a test, and for a last look.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from sigmine_nn import Pruner, evaluate, rank_uncertainty, score_by_criteria


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(y)))


def make_network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        Block(32),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
targets = torch.tensor(digits.target)
shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
images, targets = images[shuffled], targets[shuffled]


def batches(start, stop):
    return list(zip(images[start:stop].split(64), targets[start:stop].split(64), strict=True))


torch.manual_seed(0)
model = make_network()
optimizer = torch.optim.Adam(model.parameters(), 2e-3)
for _ in range(8):
    for inputs, labels in batches(0, 900):
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
model.eval()
held_out = batches(1400, 1797)
print(f"accuracy {evaluate(model, held_out, loss='cross_entropy').accuracy:.1%}")

# %%
# Undecided units
# ---------------
# Five criteria that look at data, one pass over 256 images. A third of the channels is to go; a
# channel is undecided if it is among them in more than 5 % and less than 95 % of the resamples.
# Beside it, the truth that this predicts: how much of the pruned set *other* images repeat.

criteria = ["taylor", "taylor_squared", "activation", "apoz", "hrank"]
tables = score_by_criteria(model, batches(900, 1156), criteria=criteria, loss="cross_entropy")
again = score_by_criteria(model, batches(1156, 1400), criteria=criteria, loss="cross_entropy")

share, repeated = {}, {}
for name in criteria:
    first, second = (
        rank_uncertainty(table, 1 / 3, n_resamples=400) for table in (tables[name], again[name])
    )
    share[name] = first.share_undecided
    both = (first.pruned & second.pruned).sum()
    repeated[name] = both / (first.pruned | second.pruned).sum()
    print(
        f"{name:15} undecided {share[name]:.0%}, pruned set repeated (Jaccard) {repeated[name]:.2f}"
    )

figure, ax = plt.subplots(layout="constrained")
place = np.arange(len(criteria))
ax.barh(place - 0.2, [share[name] for name in criteria], 0.4, label="undecided")
ax.barh(place + 0.2, [repeated[name] for name in criteria], 0.4, label="repeated by other images")
ax.set_yticks(place, criteria)
ax.invert_yaxis()
ax.set_xlim(0, 1)
ax.legend()
ax.spines[["top", "right"]].set_visible(False)

# %%
# How much may go?
# ----------------
# A budget promises nothing of the accuracy. A test does: nested sets in the order of the ranking
# are tested on 244 other images, and the largest goes that is shown to cost less than three
# points.

pruner = Pruner(
    "taylor", amount=0.8, level=0.05, margin=0.03, metric="accuracy", test="nested",
    n_resamples=400,
)  # fmt: skip
pruner.fit(model, batches(900, 1156), loss="cross_entropy", test_data=batches(1156, 1400))
small = pruner.transform(model, physical=True)
results = pruner.results(model, small, data=held_out)
results.print_summary()

# %%
# The tests one by one: the change of the share of errors with its upper limit. The first set whose
# limit crosses the margin ends the row.

tests = pruner.removal_.to_frame()
figure, ax = plt.subplots(layout="constrained")
reach = [np.zeros(len(tests)), tests["ci_high"] - tests["increase"]]
ax.errorbar(tests["n_removed"], tests["increase"], yerr=reach, fmt="o", capsize=3)
ax.axhline(0.03, linestyle="--", color="tab:orange")
ax.set_xlabel("channels removed")
ax.set_ylabel("increase of the share of errors (upper limit)")
ax.spines[["top", "right"]].set_visible(False)
