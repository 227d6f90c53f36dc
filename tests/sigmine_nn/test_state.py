"""Whatever happens inside, the model is handed back as it was found."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from sigmine_nn.state import leaf_parameters, unchanged


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = nn.BatchNorm1d(2)
        self.act = nn.ReLU(inplace=True)
        self.register_buffer("none", None)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
def test_everything_is_put_back(error):
    net = Net().train()
    net.a.eval()
    net.a.bias.requires_grad_(False)
    gradient = torch.ones(2, 2)
    net.a.weight.grad = gradient
    mean, values = net.b.running_mean, net.b.running_var.clone()

    def change():
        with unchanged(net):
            net.eval()
            net.act.inplace = False
            for parameter in net.parameters():
                parameter.requires_grad_(True)
                parameter.grad = None
            net.b.running_mean = torch.ones(2)
            net.b.running_var.fill_(7.0)
            if error is not None:
                raise error

    if error is None:
        change()
    else:
        with pytest.raises(error):
            change()
    assert [m.training for m in net.modules()] == [True, False, True, True]
    assert net.act.inplace
    assert net.a.weight.grad is gradient
    assert [p.requires_grad for p in net.parameters()] == [True, False, True, True]
    assert net.b.running_mean is mean
    assert torch.equal(net.b.running_var, values)


def test_leaves_are_named_as_before():
    net = Net()
    before = list(dict(net.named_parameters()))
    parametrize.register_parametrization(net.a, "weight", nn.Identity())
    found = leaf_parameters(net)
    assert sorted(found) == sorted(before)
    for now, leaf in found.values():
        assert net.get_parameter(now) is leaf
        assert leaf.is_leaf
