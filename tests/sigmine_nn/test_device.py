"""The same on a CUDA device: found, masked, removed, trained, saved and loaded."""

from __future__ import annotations

import copy

import pytest
import torch

from sigmine_nn.discovery import find_units
from sigmine_nn.masks import apply_masks
from sigmine_nn.saving import load_pruned, save_pruned
from sigmine_nn.surgery import recalibrate_batchnorm, remove_units
from tests import networks
from tests.networks import images, random_keep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # Kernels without a deterministic version are not what is tested here.
    pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning"),
]
MAKERS = {
    "batch": (lambda: networks.residual_net("batch"), "channel"),
    "group": (lambda: networks.residual_net("group"), "channel"),
    "layer": (lambda: networks.residual_net("layer"), "channel"),
    "vit": (networks.vit, "head"),
}


@pytest.fixture(autouse=True)
def _any_kernel():
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(True)


@pytest.mark.parametrize("name", MAKERS)
def test_a_network_on_a_cuda_device(name, tmp_path):
    make, kind = MAKERS[name]
    model, inputs = make().cuda(), images().cuda()
    here = find_units(make(), kind, images())
    units = find_units(model, kind, inputs)
    assert units.names == here.names
    assert [group.blocks for group in units] == [group.blocks for group in here]
    keep = random_keep(units, 1)
    small, plan = remove_units(model, units, keep, example_inputs=inputs)
    assert all(parameter.is_cuda for parameter in small.parameters())
    expected = model(inputs)
    masked = copy.deepcopy(model)
    masks = apply_masks(masked, units, torch.as_tensor(keep).cuda())
    assert all(buffer.is_cuda for buffer in masked.buffers())
    masks.remove()
    assert torch.equal(masked(inputs), expected)
    recalibrate_batchnorm(small, [inputs.cpu()])
    path = save_pruned(tmp_path / "m", small, plan)
    loaded = load_pruned(path, lambda: make().cuda())
    assert torch.equal(loaded(inputs), small(inputs))
    on_cpu = load_pruned(path, make)
    torch.testing.assert_close(on_cpu(images()), small(inputs).cpu(), rtol=1e-2, atol=1e-2)
