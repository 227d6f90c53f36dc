"""The curriculum on a CUDA device: the same masks, the same training, resumed there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sigmine_nn import Cup
from sigmine_nn.methods import CupCurriculum, train_curriculum

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning"),
]


@pytest.fixture(autouse=True)
def _any_kernel():
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(True)


def trained(device, checkpoint=None, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 2)).double()
    x = torch.randn(40, 6).double()
    y = (x[:, 0] > 0).long()
    model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    schedule = Cup(cycles=3, every=2, start=2)
    cup = CupCurriculum(model, optimizer, schedule=schedule, **options)
    data = list(zip(x.split(10), y.split(10), strict=True))
    run = train_curriculum(cup, data, data[:1], loss="cross_entropy", checkpoint=checkpoint)
    return cup, run


@pytest.mark.parametrize("values", ["last", "best", "initial", "random"])
@pytest.mark.parametrize("updates", ["identical", "dynamic", "freezing"])
def test_devices_agree(values, updates, tmp_path):
    here, _ = trained("cpu", values=values, updates=updates)
    there, run = trained("cuda", tmp_path / "run.pt", values=values, updates=updates)
    for name, history in there.cohorts.histories.items():
        assert history.removed_in.is_cuda
        assert torch.equal(history.removed_in.cpu(), here.cohorts.histories[name].removed_in)
    for one, other in zip(here.model.parameters(), there.model.parameters(), strict=True):
        assert other.is_cuda
        torch.testing.assert_close(one, other.cpu(), rtol=1e-6, atol=1e-8)
    again, same = trained("cuda", tmp_path / "run.pt", values=values, updates=updates)
    assert same.best_loss_ == run.best_loss_
    assert all(map(torch.equal, again.model.parameters(), there.model.parameters()))
