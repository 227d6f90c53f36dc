"""Calibration hands the model back as it was, also when it refuses."""

import pytest
import torch
from torch import nn

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn.calibrate import Statistic, calibrate
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import CalibrationError, ModelError
from sigmine_nn.units import Gate, Kind, Role, Slice, UnitGroup
from tests.calibration_nets import Sequences, images, in_batches, residual, units_of

ALL = list(Statistic)

# -- The model is handed back ---------------------------------------------------------------------


class Fragile(nn.Module):
    """A network with everything that could be left changed."""

    def __init__(self):
        super().__init__()
        self.net = residual(dtype=torch.float32)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(1))
        self.fails = None

    def forward(self, x):
        self.calls += 1
        self.last = x.detach().mean().reshape(1)  # another tensor
        if self.fails is not None and self.calls > 1:
            raise self.fails
        return self.net(self.drop(x))


def snapshot(model):
    return {
        "modes": [module.training for module in model.modules()],
        "grads": [parameter.grad for parameter in model.parameters()],
        "gradients": [
            None if parameter.grad is None else parameter.grad.clone()
            for parameter in model.parameters()
        ],
        "wanted": [parameter.requires_grad for parameter in model.parameters()],
        "tensors": [id(t) for t in (*model.parameters(), *model.buffers())],
        "values": {name: t.clone() for name, t in model.state_dict().items()},
        "types": [t.dtype for t in model.parameters()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
        "tensor hooks": [
            len(p._backward_hooks or ()) + len(p._post_accumulate_grad_hooks or ())
            for p in model.parameters()
        ],
        "in place": [m.inplace for m in model.modules() if isinstance(m, nn.ReLU)],
    }


def assert_same(before, after):
    for key in before.keys() - {"values", "grads", "gradients"}:
        assert before[key] == after[key], key
    assert all(a is b for a, b in zip(before["grads"], after["grads"], strict=True))
    for a, b in zip(before["gradients"], after["gradients"], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    assert before["values"].keys() == after["values"].keys()
    assert all(torch.equal(t, after["values"][name]) for name, t in before["values"].items())


@pytest.mark.parametrize("fails", [None, ValueError("in the middle"), KeyboardInterrupt()])
def test_the_model_is_left_as_it_was_found(fails):
    model = Fragile().train()
    model.net.bn.eval()
    model.net.fc.weight.requires_grad_(False)
    model.net.stem.weight.grad = torch.ones_like(model.net.stem.weight)
    x, y = images(8, dtype=torch.float32)
    units = find_units(model, "row")
    before = snapshot(model)
    model.fails = fails
    arguments = (model, in_batches(x, y, 4, 4), units, ALL)
    if fails is None:
        calibrate(*arguments, loss="cross_entropy")
    else:
        with pytest.raises(type(fails)):
            calibrate(*arguments, loss="cross_entropy")
    assert_same(before, snapshot(model))


# -- Refused --------------------------------------------------------------------------------------


def nan_unit(model):
    with torch.no_grad():
        model.conv1.weight[3] = torch.nan
    return model


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"data": []}, CalibrationError, "no batch"),
        ({"data": 3}, InputTypeError, "iterable of batches"),
        ({"data": torch.zeros(3, 1, 5, 5)}, InputTypeError, "single batch"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, CalibrationError, "one number"),
        ({"loss": lambda o, t: o.sum() * torch.nan}, CalibrationError, "loss of a batch is nan"),
        ({"loss": lambda o, t: 1.0}, CalibrationError, "is a float"),
        ({"loss": None}, CalibrationError, "no loss was given"),
        ({"loss": "hinge"}, InputTypeError, "'hinge' is not known"),
        ({"statistics": ["tailor"]}, InputError, "statistics are taylor"),
        ({"statistics": ["zeros"], "model": "nan"}, CalibrationError, "'zeros' of unit 'conv1.3'"),
        ({"statistics": ["rank"], "model": "nan"}, CalibrationError, "'rank' of unit 'conv1.3'"),
        ({"units": "element"}, CalibrationError, "of kind 'element' have none"),
        ({"units": "other"}, ModelError, "find the units of this model|Find the units of this"),
        ({"data": [(torch.zeros(0, 1, 5, 5), torch.zeros(0))]}, CalibrationError, "at least one"),
    ],
)  # fmt: skip
def test_refused(change, error, match):
    model, (x, y) = residual(), images(4)
    units = model.units()
    if change.get("model") == "nan":
        model = nan_unit(model)
    if change.get("units") == "element":
        units = find_units(model, "element")
    if change.get("units") == "other":
        units = Sequences().units()
    before = snapshot(model)
    with pytest.raises(error, match=match):
        calibrate(
            model, change.get("data", [(x, y)]), units, change.get("statistics", ["taylor"]),
            loss=change.get("loss", "cross_entropy"),
        )  # fmt: skip
    after = snapshot(model)
    for one in (before, after):
        one["values"] = {k: v.nan_to_num(9.0) for k, v in one["values"].items()}
    assert_same(before, after)


def test_inputs_that_are_no_samples_are_refused():
    model = nn.Linear(4, 2)
    group = UnitGroup(
        "in", Kind.CHANNEL, 4, (Slice("weight", 1, Role.IN),), (Gate("", "input", 1),)
    )

    def over_time(model, batch):
        return model(batch[0].reshape(5, 4)).mean()

    with pytest.raises(CalibrationError, match=r"shape \(5, 4\) in a batch of 2 samples"):
        calibrate(
            model, [(torch.zeros(2, 10), 0)], units_of(model, group), ["taylor"], loss=over_time
        )
