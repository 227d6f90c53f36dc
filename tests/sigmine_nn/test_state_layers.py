"""Layers of state space models: recurrences, kernels, beginnings."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sigmine.exceptions import InputError
from sigmine_nn.adapters import flat_kernel, state_layers
from sigmine_nn.state_space import S4D, S5, FlatS4DKernel, S4DKernel
from sigmine_nn.state_space.layers import hippo_normal, scan
from tests import naive_state
from tests.state_nets import STEPS, S4DPy, lru, s5_library, s5_torch, sequences


def exact(layer: nn.Module) -> nn.Module:
    return layer.double()


# -- The scan -----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 33])
def test_the_scan_is_a_loop(length: int) -> None:
    eigenvalues = torch.polar(torch.rand(4).double() * 1.02, torch.rand(4).double() * 6)
    driven = torch.randn(2, length, 4, dtype=torch.complex128)
    found, state = scan(eigenvalues, driven), torch.zeros(2, 4, dtype=torch.complex128)
    for k in range(length):
        state = eigenvalues * state + driven[:, k]
        torch.testing.assert_close(found[:, k], state, rtol=1e-12, atol=1e-12)


def test_the_scan_can_be_differentiated_and_mapped() -> None:
    eigenvalues = torch.tensor([0.5 + 0.3j, 0.9 + 0j], dtype=torch.complex128, requires_grad=True)
    driven = torch.randn(5, 2, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(scan, (eigenvalues, driven))
    many = torch.randn(3, 5, 2, dtype=torch.complex128)
    mapped = torch.func.vmap(lambda v: scan(eigenvalues.detach(), v))(many)
    torch.testing.assert_close(mapped, scan(eigenvalues.detach(), many))


# -- The matrix that states begin with ----------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_hippo_normal_has_the_eigenvalues_of_the_matrix(n: int) -> None:
    matrix = naive_state.legs_normal(n)
    eigenvalues, vectors = hippo_normal(n)
    expected = np.linalg.eigvals(matrix)
    expected = expected[np.argsort(-expected.imag, kind="stable")]
    np.testing.assert_allclose(eigenvalues.numpy(), expected, atol=1e-8)
    identity = vectors.mH @ vectors
    np.testing.assert_allclose(identity.numpy(), np.eye(n), atol=1e-12)
    again = vectors @ torch.diag(eigenvalues) @ vectors.mH
    np.testing.assert_allclose(again.numpy(), matrix, atol=1e-10)


def test_s5_begins_with_the_upper_half_of_every_block() -> None:
    layer = S5(3, 6, blocks=2)
    upper = hippo_normal(6)[0][:3]
    assert bool((upper.imag > 0).all())
    for part in (layer.Lambda_im[:3], layer.Lambda_im[3:]):
        torch.testing.assert_close(part.detach(), upper.imag.float())
    assert bool((layer.Lambda_re == -0.5).all())


def test_step_sizes_lie_in_the_range_that_was_asked_for() -> None:
    for steps in (S5(3, 200, **STEPS).log_step, S4DKernel(200, 2, **STEPS).log_dt):
        low, high = (float(value) for value in steps.detach().exp().aminmax())
        assert STEPS["dt_min"] * (1 - 1e-6) <= low < 0.06
        assert 0.6 < high <= STEPS["dt_max"] * (1 + 1e-6)


# -- Forward, step by step, and what the adapters read ------------------------------------------


LAYERS: dict[str, Any] = {
    "S5": lambda: exact(S5(3, 4, **STEPS)),
    "S5 bilinear": lambda: exact(S5(3, 4, discretization="bilinear", **STEPS)),
    "S5 both ways": lambda: exact(S5(3, 4, bidirectional=True, **STEPS)),
    "S5 clipped": lambda: exact(S5(3, 4, clip_eigs=True, **STEPS)),
    "S4D": lambda: exact(S4D(3, 4, **STEPS)),
    "s5-pytorch": lambda: s5_torch(3, 5),
    "s5-pytorch both ways": lambda: s5_torch(3, 4, bidir=True),
    "s5-pytorch bilinear": lambda: bilinear(s5_torch(3, 5)),
    "lru-pytorch": lambda: lru(3, 4),
}


def bilinear(layer: Any) -> Any:
    """The wrapper of s5-pytorch has no option for it; its inner layer has."""
    layer.seq.discretize = s5_library().s5_model.discretize_bilinear
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_the_system_that_is_read_has_the_outputs_of_the_layer(name: str) -> None:
    """The strongest test of an adapter: its numbers, run in a loop, are what the layer computes."""
    layer = LAYERS[name]()
    if name == "S5 clipped":
        with torch.no_grad():
            layer.Lambda_re[:2] = 0.4
    u = sequences(2, 9)
    double = next(layer.parameters()).dtype == torch.float64
    (found,) = state_layers(layer)
    read = found.read()
    with torch.no_grad():
        y = layer(u.double() if double else u).double()
    passes = layer.seq.D if name.startswith("s5-pytorch") else layer.D
    for sequence, result in zip(u, y, strict=True):
        expected = naive_state.response(
            read.eigenvalues.tolist(), read.inputs.tolist(), read.outputs.numpy(), read.factor,
            sequence.tolist(), None if read.channel is None else read.channel.tolist(),
        )  # fmt: skip
        d = passes.detach().double()
        direct = sequence.double() @ d.mT if d.ndim == 2 else d * sequence.double()
        np.testing.assert_allclose(
            result.numpy(), expected + direct.numpy(), atol=1e-11 if double else 2e-6
        )


@pytest.mark.parametrize("name", ["S5", "S5 bilinear", "S5 clipped", "S4D"])
def test_steps_are_the_same_as_the_whole_sequence(name: str) -> None:
    layer = LAYERS[name]()
    u = sequences(2, 20).double()
    state, found = layer.initial_state(2), []
    for k in range(20):
        y, state = layer.step(u[:, k], state)
        found.append(y)
    torch.testing.assert_close(torch.stack(found, dim=1), layer(u), rtol=1e-10, atol=1e-10)


def test_a_bidirectional_layer_has_no_steps() -> None:
    layer = S5(3, 4, bidirectional=True)
    with pytest.raises(InputError, match="bidirectional layer needs the whole sequence"):
        layer.step(torch.zeros(1, 3), layer.initial_state(1))


def test_a_bidirectional_layer_reads_the_reversed_sequence_with_the_other_columns() -> None:
    layer = exact(S5(3, 4, bidirectional=True, **STEPS))
    u = sequences(2, 9).double()
    swapped = copy.deepcopy(layer)
    swapped.C1, swapped.C2 = layer.C2, layer.C1
    torch.testing.assert_close(layer(u).flip(1), swapped(u.flip(1)), rtol=1e-12, atol=1e-12)


def test_step_scale_is_another_step_size() -> None:
    layer = exact(S5(3, 4, **STEPS))
    u = sequences(1, 9).double()
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.log_step += np.log(2.0)
    torch.testing.assert_close(layer(u, step_scale=2.0), other(u), rtol=1e-12, atol=1e-12)


# -- Kernels ------------------------------------------------------------------------------------


def test_the_kernel_is_the_response_to_an_impulse() -> None:
    kernel = S4DKernel(3, 4, **STEPS).double()
    eigenvalues, inputs, outputs = (part.detach().numpy() for part in kernel.system())
    channel = kernel.channels().tolist()
    found = kernel(10).detach().numpy()
    for feature in range(3):
        impulse = [[1.0 if (k == 0 and j == feature) else 0.0 for j in range(3)] for k in range(10)]
        expected = naive_state.response(
            eigenvalues, inputs[:, None], outputs[None, None], 2.0, impulse, channel
        )
        np.testing.assert_allclose(found[feature], expected[:, feature], atol=1e-12)


def test_the_convolution_is_causal_and_does_not_wrap_around() -> None:
    layer = exact(S4D(3, 4, dt_min=0.001, dt_max=0.002))  # long memory
    u = sequences(1, 16).double()
    changed = u.clone()
    changed[:, 10:] += 5.0
    torch.testing.assert_close(layer(u)[:, :10], layer(changed)[:, :10], rtol=1e-9, atol=1e-11)


def test_transposed_sequences_give_the_same() -> None:
    layer = S4D(3, 4, **STEPS)
    other = S4D(3, 4, transposed=True, **STEPS)
    other.load_state_dict(layer.state_dict())
    u = sequences(2, 9)
    torch.testing.assert_close(layer(u).mT, other(u.mT))


@pytest.mark.parametrize("make", [lambda: S4DKernel(3, 4, **STEPS), lambda: S4DPy(3, 4).kernel])
def test_a_flat_kernel_is_the_same_kernel(make: Any) -> None:
    kernel = make()
    flat = flat_kernel(kernel)
    assert isinstance(flat, FlatS4DKernel)
    torch.testing.assert_close(flat(L=11), kernel(L=11))
    for name in ("C", "log_A_real", "A_imag", "log_dt"):
        old, new = getattr(kernel, name), getattr(flat, name)
        assert new.data_ptr() != old.data_ptr()
        assert getattr(new, "_optim", None) == getattr(old, "_optim", None)


def test_a_feature_without_states_has_the_kernel_zero() -> None:
    flat = flat_kernel(S4DKernel(3, 2, **STEPS))
    rows = flat.channel != 1
    short = FlatS4DKernel(
        flat.C.detach()[rows], flat.log_A_real.detach()[rows], flat.A_imag.detach()[rows],
        flat.log_dt.detach(), flat.channel[rows],
    )  # fmt: skip
    assert bool((short(6)[1] == 0).all())
    torch.testing.assert_close(short(6)[[0, 2]], flat(6)[[0, 2]])
    again = FlatS4DKernel(**{n: torch.zeros_like(t) for n, t in short.state_dict().items()})
    again.load_state_dict(short.state_dict())
    torch.testing.assert_close(again(6), short(6))


# -- What cannot be made ------------------------------------------------------------------------


def test_sizes_and_ranges_are_checked() -> None:
    with pytest.raises(InputError, match="7 states in 2 blocks"):
        S5(3, 7, blocks=2)
    with pytest.raises(InputError, match="dt_min"):
        S5(3, 4, dt_min=0.1, dt_max=0.01)
    with pytest.raises(InputError, match="dt_min"):
        S4D(3, 4, dt_min=0.0)
    with pytest.raises(InputError, match="n_states"):
        S4D(3, 0)
    with pytest.raises(ValueError, match="euler"):
        S5(3, 4, discretization="euler")


@pytest.mark.parametrize("name", ["S5", "S5 both ways", "S4D"])
def test_every_parameter_learns(name: str) -> None:
    layer = LAYERS[name]()
    y: Tensor = layer(sequences(2, 9).double())
    y.square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name
