"""Combinations of units that go with an error: what is planted is found, what is not is not."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from sigmine.exceptions import InputError, InputTypeError  # noqa: E402
from sigmine_nn.bridge import mine_units  # noqa: E402
from sigmine_nn.exceptions import CalibrationError  # noqa: E402


class Seen(nn.Module):
    """Shows its inputs as the rows of a layer, and answers with what the last two columns say."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.shown = nn.Linear(n_inputs, n_inputs, bias=False)
        with torch.no_grad():
            self.shown.weight.copy_(torch.eye(n_inputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shown(x)[:, -2:]


def made(n: int, seed: int, *, planted: bool) -> tuple[list, torch.Tensor]:
    """Make batches in which the network errs more often where the first two units are high."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6))
    target = rng.integers(0, 2, n)
    high = (x[:, :2] > 0).all(axis=1) if planted else rng.random(n) < 0.25
    error = rng.random(n) < np.where(high, 0.6, 0.1)
    answer = np.where(error, 1 - target, target)
    x[:, 4:] = np.stack([1 - answer, answer], axis=1)
    inputs, targets = torch.tensor(x, dtype=torch.float32), torch.tensor(target)
    return [(inputs[i : i + 50], targets[i : i + 50]) for i in range(0, n, 50)], torch.tensor(error)


def test_a_planted_combination_is_found_given_the_class():
    data, _ = made(600, 0, planted=True)
    results = mine_units(Seen(6), data, units="row", quantile=0.5)
    best = next(iter(results.rows(1)))
    assert set(best["pattern"]) == {"shown.0 high", "shown.1 high"}
    assert best["odds_ratio"] > 4


@pytest.mark.statistical
def test_nothing_is_found_where_nothing_is():
    # Each run makes a false finding with a probability of at most 0.01.
    for seed in range(3):
        data, _ = made(400, seed, planted=False)
        chance = np.random.default_rng(100 + seed).random(400) < 0.3
        results = mine_units(Seen(6), data, units="row", alpha=0.01, outcome=chance)
        assert len(results) == 0


def test_an_outcome_may_be_given_as_values():
    data, error = made(600, 0, planted=True)
    by_name = mine_units(Seen(6), data, units="row")
    by_value = mine_units(Seen(6), data, units="row", outcome=error.numpy())
    assert by_name.patterns["pvalue"].tolist() == by_value.patterns["pvalue"].tolist()


def test_the_model_is_left_as_it_was():
    model = Seen(6).train()
    mine_units(model, made(200, 0, planted=True)[0], units="row")
    assert model.training
    assert not model._forward_hooks
    assert not model.shown._forward_hooks


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"data": []}, CalibrationError, "no batch"),
        ({"data": [torch.zeros(3, 6)]}, CalibrationError, "pairs"),
        ({"quantile": 1.0}, InputError, "quantile"),
        ({"outcome": "mistake"}, InputTypeError, "mistake"),
        ({"strata": "group"}, InputTypeError, "group"),
        ({"strata": [1, 2]}, InputError, "strata has 2 values for 200"),
        ({"outcome": [True]}, InputError, "outcome has 1 values for 200"),
    ],
)
def test_what_cannot_be_used_is_refused(change, error, word):
    arguments = {"data": made(200, 0, planted=True)[0], "units": "row", **change}
    with pytest.raises(error, match=word):
        mine_units(Seen(6), **arguments)
