"""The doors of the curriculum: which weights it takes, what it refuses, what it tells."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sigmine.exceptions import DataWarning, InputError, InputTypeError
from sigmine_nn import Cup, Geometric, OneShot
from sigmine_nn.exceptions import CalibrationError, ModelError
from sigmine_nn.methods.cup_curriculum import CupCurriculum, magnitude_increase, prunable_weights
from tests.cup_networks import layers, sgd, train_some

# -- Which weights -----------------------------------------------------------------------------


def test_which_weights_may_go():
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(5, 4),
            "block": nn.TransformerEncoderLayer(4, 2, 8),
            "conv": nn.Conv1d(4, 4, 3),
            "norm": nn.BatchNorm1d(4),
            "memory": nn.GRU(4, 4),
            "out": nn.Linear(4, 5),
        }
    )
    model["out"].weight = model["embed"].weight  # tied: once
    model["conv"].weight.requires_grad_(False)  # not trained
    layers_only = ["embed.weight", "block.self_attn.in_proj_weight",
                   "block.self_attn.out_proj.weight", "block.linear1.weight",
                   "block.linear2.weight"]  # fmt: skip
    assert list(prunable_weights(model)) == layers_only
    parity = list(prunable_weights(model, "weight"))
    norms = {"block.norm1.weight", "block.norm2.weight", "norm.weight"}
    assert set(parity) == {*layers_only, *norms, "memory.weight_ih_l0", "memory.weight_hh_l0"}
    assert list(prunable_weights(model, ["out.bias", "block.linear1.weight"])) == [
        "block.linear1.weight", "out.bias",
    ]  # fmt: skip
    assert list(prunable_weights(model, lambda name, p: p.numel() == 5)) == ["out.bias"]


def test_tied_weights_are_one():
    model = nn.Sequential(nn.Embedding(6, 8), nn.Linear(8, 6, bias=False))
    model[1].weight = model[0].weight
    tokens = torch.arange(6)
    cup = CupCurriculum(
        model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), schedule=Cup(cycles=2)
    )
    while not cup.finished:
        cup.optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens), tokens).backward()
        cup.after_backward()
        cup.optimizer.step()
        cup.after_step()
        gone = ~cup.cohorts.masks()["0.weight"]
        assert int(gone.sum()) == round(48 * (1 - 0.8**cup.level))
        assert (model[1].weight[gone] == 0).all()
        cup.end_of_cycle()


def test_the_increase_of_magnitudes():
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, -3.0], [1.0, 0.2]]))
    cup = CupCurriculum(
        model, torch.optim.SGD(model.parameters(), lr=1.0), schedule=Cup(cycles=1, rate=0.5),
        rewind="none", values="last",
    )  # fmt: skip
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-0.9, -2.9], [0.9, 0.3]]))  # +0.4 -0.1 -0.1 +0.1
    model[0].weight.grad = torch.zeros(2, 2)
    cup.after_backward()
    cup.after_step()
    cup.end_of_cycle()
    assert (cup.cohorts.histories["0.weight"].removed_in == 1).tolist() == [
        [False, True], [True, False],
    ]  # fmt: skip
    assert magnitude_increase({}).needs_data is False


# -- What is refused ---------------------------------------------------------------------------


def make(**options):
    model = layers()
    return CupCurriculum(model, sgd(model), **{"schedule": Cup(cycles=2), **options})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"schedule": 5}, InputTypeError, "schedule is a int"),
        ({"scope": "layer"}, InputError, "scope='layer' is not known; choose one of tensor"),
        ({"values": "org"}, InputError, "values='org' is not known"),
        ({"updates": "slow"}, InputError, "updates='slow' is not known"),
        ({"rewind": "dont"}, InputError, "rewind='dont' is not known"),
        ({"gamma": 1.0}, InputError, "gamma=1.0 is out of range"),
        ({"grow_mask_lag": 2}, InputError, "grow_mask_lag=2 is out of range"),
        ({"warmup": -1}, InputError, "warmup=-1"),
        ({"rewind": "warmup"}, InputError, "warmup=0 has none"),
        ({"criterion": "l3"}, InputError, "criterion='l3' is not known"),
        ({"prunable": "bias"}, InputError, "prunable='bias' is not known"),
        ({"prunable": ["9.weight"]}, ModelError, "names '9.weight'"),
        ({"prunable": 3}, InputTypeError, "prunable is a int"),
        ({"prunable": lambda name, p: False}, ModelError, "leaves none of the 7"),
        ({"schedule": Geometric(end=300, rate=0.01)}, InputError, "removes entries 301 times"),
    ],
)
def test_what_is_no_curriculum(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


def test_an_optimiser_of_another_model_is_refused():
    model = layers()
    with pytest.raises(
        ModelError, match=r"'2.weight' may lose entries, and the optimiser does not"
    ):
        CupCurriculum(model, torch.optim.SGD(model[0].parameters(), lr=0.1))
    masked = layers()
    nn.utils.parametrize.register_parametrization(masked[2], "weight", nn.Identity())
    with pytest.raises(ModelError, match="layer '2' is parametrized"):
        CupCurriculum(masked, sgd(masked))


def test_doors_in_a_wrong_order():
    cup = make()
    with pytest.raises(InputError, match="after_step was called without after_backward"):
        cup.after_step()
    cup.after_backward()
    with pytest.raises(InputError, match="after_backward was called twice"):
        cup.after_backward()
    with pytest.raises(InputError, match="between after_backward and after_step"):
        cup.state_dict()
    cup.after_step()
    cup.end_of_cycle()
    with pytest.raises(InputError, match="cycle 2 ends without a step"):
        cup.end_of_cycle()
    for _ in range(3):
        cup.after_backward()
        cup.after_step()
        cup.end_of_cycle()
    for door in (cup.after_backward, cup.end_of_cycle, lambda: cup.after_validation(1.0)):
        with pytest.raises(InputError, match="over after 4 cycles"):
            door()


def test_what_a_cycle_needs():
    cup = make(values="best")
    cup.after_backward()
    cup.after_step()
    cup.after_validation(float("nan"))
    with pytest.raises(InputError, match="cycle 1 ends without a finite validation loss"):
        cup.end_of_cycle()
    cup.after_validation(1.0)
    cup.end_of_cycle()
    cup = make(criterion="snip")
    cup.after_backward()
    cup.after_step()
    with pytest.raises(CalibrationError, match="'snip' looks at what the network does with data"):
        cup.end_of_cycle()
    assert cup.cohorts.n_cycles == 0
    cup = make(criterion="bn_scale")
    cup.after_backward()
    cup.after_step()
    with pytest.raises(InputError, match=r"'bn_scale' is not defined for entries of '0.weight'"):
        cup.end_of_cycle()
    assert cup.cohorts.n_cycles == 0


def test_sparse_gradients_are_refused():
    model = nn.Sequential(nn.Embedding(5, 40, sparse=True))
    cup = CupCurriculum(model, torch.optim.SGD(model.parameters(), 0.1), schedule=Cup(cycles=1))
    for again in (False, True):
        model(torch.tensor([1])).sum().backward()
        if again:
            with pytest.raises(ModelError, match="must be dense"):
                cup.after_backward()
            break
        cup.after_backward()
        cup.after_step()
        cup.end_of_cycle()


def test_weights_that_lose_everything_are_named():
    model = nn.Linear(2, 1, bias=False)
    with pytest.warns(DataWarning, match=r"'weight' has 2 entries, and round\(n x 0.8\) removes"):
        CupCurriculum(
            model, torch.optim.SGD(model.parameters(), 0.1), schedule=Cup(sparsities=[0.8, 0.9])
        )
    CupCurriculum(  # a cup's last level is never trained
        model, torch.optim.SGD(model.parameters(), 0.1), schedule=Cup(sparsities=[0.5, 0.9])
    )
    with pytest.warns(DataWarning):
        CupCurriculum(model, torch.optim.SGD(model.parameters(), 0.1), schedule=OneShot(0.8))


def test_an_interrupted_step_leaves_removed_weights_at_zero():
    model = layers()
    cup = CupCurriculum(model, sgd(model), schedule=Cup(cycles=2))
    train_some(model, cup)
    cup.end_of_cycle()

    def interrupted():
        with cup:
            cup.after_backward()
            with torch.no_grad():
                model[2].weight.add_(1.0)  # the middle of a step
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (model[2].weight[~cup.cohorts.masks()["2.weight"]] == 0).all()
    train_some(model, cup)


def test_gradients_that_are_missing_are_left_alone():
    model = layers()
    cup = CupCurriculum(model, sgd(model), schedule=Cup(cycles=1))
    train_some(model, cup)
    cup.end_of_cycle()
    cup.optimizer.zero_grad()
    cup.after_backward()
    cup.optimizer.step()
    cup.after_step()
    assert model[2].weight.grad is None


def test_the_history_is_tidy():
    model = layers()
    cup = CupCurriculum(model, sgd(model), schedule=Cup(cycles=2, rate=0.5), warmup=1)
    while not cup.finished:
        train_some(model, cup, 3)
        cup.after_validation(1.5, 2.5 if cup.level else None)
        cup.end_of_cycle()
    frame = cup.history_
    assert list(frame["phase"]) == ["warmup", "down", "down", "up", "up"]
    assert list(frame["cycle"]) == [0, 1, 2, 3, 4]
    assert list(frame["level"]) == [0, 0, 1, 1, 0]
    assert frame["capacity"].tolist() == pytest.approx([1, 1, 0.5, 0.5, 1], abs=0.01)
    assert frame["step"].tolist() == [3, 6, 9, 12, 15]
    assert frame["train_loss"].isna().tolist() == [True, True, False, False, True]
    assert (frame["learning_rate"] == 0.1).all()
