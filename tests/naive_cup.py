"""Slow twin of the Cup Curriculum: lists, loops and numpy floats; imports nothing of ours.

The network is a set of named lists of numbers, and its loss is sum h (w - t)^2 / 2, so that the
gradient of a number is h (w - t). SGD with momentum and weight decay, as torch writes it down.
"""

from __future__ import annotations

import statistics

Numbers = dict[str, list[float]]


def loss_of(weights: Numbers, target: Numbers, curvature: Numbers) -> float:
    return sum(
        h * (w - t) ** 2 / 2
        for name in weights
        for w, t, h in zip(weights[name], target[name], curvature[name], strict=True)
    )


class NaiveCup:
    """The whole curriculum.

    Parameters
    ----------
    initial : dict of str to list of float
        Where training begins.
    prunable : list of str
        Names that may lose entries.
    capacities : list of float
        Fraction that is there after each pruning.
    """

    def __init__(
        self, initial, prunable, target, curvature, validation, capacities, *,
        scope, score, values, updates, rewind, gamma, lag, lr, momentum, decay, steps,
    ):  # fmt: skip
        self.w0 = {name: list(row) for name, row in initial.items()}
        self.w = {name: list(row) for name, row in initial.items()}
        self.buffer = {name: [0.0] * len(row) for name, row in initial.items()}
        self.prunable, self.capacities = prunable, capacities
        self.target, self.curvature, self.validation = target, curvature, validation
        self.scope, self.score, self.values = scope, score, values
        self.updates, self.rewind, self.gamma, self.lag = updates, rewind, gamma, lag
        self.lr, self.momentum, self.decay, self.steps = lr, momentum, decay, steps
        self.gone_in = {name: [0] * len(initial[name]) for name in prunable}  # 0: never
        self.masks = []  # all masks, one after the other, as they held in training
        self.trace = []  # weights after every step

    def factor(self, name: str, i: int, down: bool, level: int) -> float:
        """Return what the gradient of an entry is multiplied by."""
        if name not in self.prunable:
            return 1.0
        gone, last = self.gone_in[name][i], len(self.capacities)
        if down:
            return 0.0 if gone else 1.0
        back = gone > level  # it went, and is here again
        if gone and not back:
            return 0.0
        if self.updates == "freezing":
            return 1.0 if gone == level + 1 else 0.0
        if back and gone == level + 1 and self.lag:
            return 0.0
        if self.updates == "dynamic" and gone:
            return (1 / self.gamma) ** (last + 1 - gone)
        return 1.0

    def train(self, down: bool, level: int) -> None:
        self.best, self.best_loss = None, float("inf")
        self.masks.append(
            {n: [not g or (not down and g > level) for g in self.gone_in[n]] for n in self.prunable}
        )
        for _ in range(self.steps):
            for name, row in self.w.items():
                for i, w in enumerate(row):
                    factor = self.factor(name, i, down, level)
                    gradient = factor * self.curvature[name][i] * (w - self.target[name][i])
                    push = gradient + self.decay * w
                    self.buffer[name][i] = self.momentum * self.buffer[name][i] + push
                    if factor != 0.0:  # what is gone is 0, what is frozen stays
                        row[i] = w - self.lr * self.buffer[name][i]
            self.trace.append({name: list(row) for name, row in self.w.items()})
            loss = loss_of(self.w, self.validation, self.curvature)
            if loss < self.best_loss:
                self.best_loss = loss
                self.best = {name: list(row) for name, row in self.w.items()}

    def worth(self, name: str, i: int) -> float:
        size = abs(self.w[name][i])
        return size - abs(self.w0[name][i]) if self.score == "increase" else size

    def prune(self, cycle: int) -> None:
        groups = [self.prunable] if self.scope == "global" else [[n] for n in self.prunable]
        come_back = {}
        for names in groups:
            everything = [(n, i) for n in names for i in range(len(self.w[n]))]
            wanted = round(len(everything) * (1 - self.capacities[cycle - 1]))
            here = [place for place in everything if not self.gone_in[place[0]][place[1]]]
            order = {place: number for number, place in enumerate(here)}
            # Lowest first; of equal ones those that come last go first.
            here.sort(key=lambda place: (self.worth(*place), -order[place]))
            for place in here[: wanted - (len(everything) - len(here))]:
                come_back[place] = cycle
        for name, i in come_back:
            self.gone_in[name][i] = cycle
            source = {"last": self.w, "best": self.best, "initial": self.w0}[self.values]
            self.stored[name][i] = source[name][i]
            self.buffer[name][i] = 0.0
        turning = cycle == len(self.capacities)
        back = self.best if self.rewind == "best" else self.w0
        if self.rewind == "best" or (self.rewind == "init" and not turning):
            self.w = {name: list(row) for name, row in back.items()}
            self.buffer = {name: [0.0] * len(row) for name, row in back.items()}
        for name in self.prunable:
            self.w[name] = [
                0.0 if gone else w for w, gone in zip(self.w[name], self.gone_in[name], strict=True)
            ]

    def grow(self, cycle: int) -> None:
        for name in self.prunable:
            for i, gone in enumerate(self.gone_in[name]):
                if gone == cycle:
                    self.w[name][i] = self.stored[name][i]
                    self.buffer[name][i] = 0.0

    def run(self) -> None:
        self.stored = {name: [0.0] * len(self.w[name]) for name in self.prunable}
        n = len(self.capacities)
        for cycle in range(1, n + 1):
            self.train(True, cycle - 1)
            self.prune(cycle)
        for cycle in range(n, 0, -1):
            self.grow(cycle)
            self.train(False, cycle - 1)


def hodges_lehmann(x: list[float], y: list[float]) -> float:
    """Return the median of all differences."""
    return statistics.median(b - a for a in x for b in y)


def walsh(differences: list[float]) -> float:
    """Return the median of all means of two, an entry with itself among them."""
    n = len(differences)
    return statistics.median(
        (differences[i] + differences[j]) / 2 for i in range(n) for j in range(i, n)
    )
