"""Batches and losses: what data may look like, and what is asked of the model."""

from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sigmine.exceptions import InputTypeError
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.objective import Objective, batches, length_of, moved, rows

Pair = namedtuple("Pair", ["x", "y"])


def data(n=5):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=generator)
    return x, torch.randint(3, (n,), generator=generator)


def net():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def test_batches_stop_at_the_limit():
    assert list(batches(["a", "b", "c"], 2)) == ["a", "b"]
    assert list(batches(c for c in "abc")) == ["a", "b", "c"]


def test_parts_of_batches_keep_their_types():
    x, y = data()
    for batch in ((x, y), [x, y], Pair(x, y), {"x": x, "y": y, "z": (x, 3)}, x):
        part = rows(moved(batch, torch.device("cpu")), 1, 3)
        assert type(part) is type(batch)
        assert length_of(part) == 2
    part = rows({"x": x, "scale": torch.tensor(2.0), "n": 3}, 1, 3)
    assert (part["scale"], part["n"]) == (2.0, 3)


@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy",
        nn.CrossEntropyLoss(),
        F.cross_entropy,
        lambda outputs, targets: F.cross_entropy(outputs, targets),
        lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
    ],
)
def test_losses_of_samples_have_the_loss_of_the_batch_as_mean(loss):
    model, (x, y) = net(), data()
    objective = Objective(loss)
    each = objective.per_sample(model, (x, y))
    expected = F.cross_entropy(model(x), y, reduction="none").double()
    torch.testing.assert_close(each, expected.detach(), rtol=1e-6, atol=1e-7)
    assert objective(model, (x, y)).item() == pytest.approx(each.mean().item(), rel=1e-6)
    assert not each.requires_grad


def test_losses_of_sequences_are_means_over_them():
    model, x = net(), torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    each = Objective("mse").per_sample(model, (x, torch.zeros(3, 5, 3)))
    torch.testing.assert_close(each, model(x).detach().double().square().mean(dim=(1, 2)))


def test_inputs_may_be_many_or_named():
    class Two(nn.Module):
        def forward(self, a, b):
            return a + b

    a, b = torch.ones(2, 3), torch.full((2, 3), 2.0)
    for inputs in ((a, b), [a, b], {"a": a, "b": b}):
        assert Objective().outputs(Two(), (inputs, None)).sum() == 18
    assert Objective().outputs(Two(), {"a": a, "b": b}).sum() == 18
    assert Objective().outputs(nn.Identity(), a) is a


def test_kinds_are_named_losses_without_options():
    kinds = {
        "cross_entropy": ["cross_entropy", F.cross_entropy, nn.CrossEntropyLoss()],
        "mse": ["mse", nn.MSELoss()],
        None: [
            None,
            nn.L1Loss(),
            nn.MSELoss(reduction="sum"),
            nn.CrossEntropyLoss(weight=torch.ones(3)),
            nn.CrossEntropyLoss(label_smoothing=0.1),
        ],
    }
    for kind, losses in kinds.items():
        assert {Objective(loss).kind for loss in losses} == {kind}


def test_a_reduction_is_put_back():
    loss = nn.CrossEntropyLoss()
    Objective(loss).per_sample(net(), data())
    assert loss.reduction == "mean"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda m: list(batches({"x": 1})), InputTypeError, "is a dict"),
        (lambda m: length_of(("a", 3)), CalibrationError, "no tensor"),
        (lambda m: length_of(torch.tensor(3.0)), CalibrationError, r"shape \(\)"),
        (lambda m: Objective(3), InputTypeError, "is a int"),
        (lambda m: Objective("hinge"), InputTypeError, "cross_entropy, mse"),
        (lambda m: Objective("mse")(m, data()[0]), CalibrationError, "is a Tensor"),
        (lambda m: Objective()(m, data()[0]), CalibrationError, "none as .loss"),
        (lambda m: Objective(lambda o, t: o)(m, data()), CalibrationError, r"shape \(5, 3\)"),
        (
            lambda m: Objective("mse").per_sample(
                m, (data()[0], torch.tensor([[0.0] * 3] * 3 + [[torch.inf] * 3] * 2))
            ),
            CalibrationError,
            "loss of sample 3 of a batch is inf",
        ),
    ],
)
def test_refused(call, error, match):
    with pytest.raises(error, match=match):
        call(net())
