"""Small state space networks that the tests share, each made from a seed.

Sequences are (batch, length, 3). Three layers of a kind lie behind one another, with different
numbers of states.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigmine_nn.state_space import S4D, S5
from tests.networks import seeded

STEPS = {"dt_min": 0.05, "dt_max": 0.8}
WHY = "layers of another library are an optional check (the extra 'test' has it)"


def sequences(n: int = 4, length: int = 12, features: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, length, features, generator=generator, dtype=torch.float64).float()


def batches_of(n: int = 6, length: int = 12, size: int = 3, seed: int = 0) -> Any:
    """Batches of sequences with a class that the first feature decides."""
    x = sequences(n, length, seed=seed)
    return list(zip(x.split(size), (x[:, :, 0].mean(dim=1) > 0).long().split(size), strict=True))


class Stack(nn.Module):
    """State space layers between a linear encoder and a linear head, with residual connections."""

    def __init__(self, layers: list[nn.Module], width: int = 4, transposed: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, width)
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(width, 2)
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        for layer in self.layers:
            y = layer(x.mT if self.transposed else x)
            y = y[0] if isinstance(y, tuple) else y
            x = x + F.gelu(y.mT if self.transposed else y)
        return self.head(x.mean(dim=1))


class S4DPyKernel(nn.Module):
    """A kernel with the tensors that ``s4d.py`` of the S4 repository has."""

    def __init__(self, features: int, n: int, trained: bool) -> None:
        super().__init__()
        self.C = nn.Parameter(torch.randn(features, n, 2) / math.sqrt(2))
        tensors = {
            "log_dt": torch.rand(features) * math.log(10.0) + math.log(0.05),
            "log_A_real": torch.log(0.5 * torch.ones(features, n)),
            "A_imag": math.pi * torch.arange(n, dtype=torch.float32).repeat(features, 1),
        }
        for name, tensor in tensors.items():
            if trained:
                parameter = nn.Parameter(tensor)
                parameter._optim = {"weight_decay": 0.0, "lr": 0.001}  # noted for optimisers
                self.register_parameter(name, parameter)
            else:
                self.register_buffer(name, tensor)

    def forward(self, L: int) -> Tensor:
        dt = self.log_dt.exp()
        a = -self.log_A_real.exp() + 1j * self.A_imag
        c = torch.view_as_complex(self.C)
        dta = a * dt[:, None]
        c = c * (dta.exp() - 1.0) / a
        powers = (dta[..., None] * torch.arange(L, dtype=dt.dtype)).exp()
        return 2.0 * torch.einsum("hn,hnl->hl", c, powers).real


class S4DPy(nn.Module):
    """A layer as ``s4d.py`` has it: features before steps, and a pair of outputs."""

    def __init__(self, features: int, n: int, trained: bool = True) -> None:
        super().__init__()
        self.h, self.n, self.transposed = features, n, True
        self.D = nn.Parameter(torch.randn(features))
        self.kernel = S4DPyKernel(features, n, trained)
        self.output_linear = nn.Conv1d(features, 2 * features, 1)

    def forward(self, u: Tensor, **_: Any) -> tuple[Tensor, None]:
        length = u.shape[-1]
        k = torch.fft.rfft(self.kernel(L=length), n=2 * length)
        y = torch.fft.irfft(torch.fft.rfft(u, n=2 * length) * k, n=2 * length)[..., :length]
        y = F.gelu(y + u * self.D[:, None])
        return F.glu(self.output_linear(y), dim=-2), None


def s5_library() -> Any:
    """s5-pytorch, whose import warns of torch.jit.script."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip("s5", reason=WHY)


def lru_library() -> Any:
    return pytest.importorskip("LRU_pytorch", reason=WHY)


@torch.no_grad()
def tied(layer: nn.Module) -> nn.Module:
    """Give conjugate partners of s5-pytorch one step size, and conjugate rows and columns."""
    ssm: Any = getattr(layer, "seq", layer)
    n = len(ssm.Lambda)
    values = ssm.Lambda.imag
    assert bool((values[1:] >= values[:-1]).all())  # partners are i and n - 1 - i
    half = torch.arange(n // 2)
    ssm.log_step[n - 1 - half] = ssm.log_step[half]
    ssm.B[n - 1 - half] = ssm.B[half] * torch.tensor([1.0, -1.0])
    for start in range(0, ssm.C.shape[1], n):
        ssm.C[:, start + n - 1 - half] = ssm.C[:, start + half].conj()
    return layer


def s5_torch(width: int, n: int, tie: bool = True, **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        layer: nn.Module = s5_library().S5(width, n, **STEPS, **options)
    with torch.no_grad():  # its own draws are NumPy's
        for parameter in (layer.seq.B, layer.seq.C, layer.seq.D):
            parameter.copy_(torch.randn_like(parameter) * 0.4)
        low, high = math.log(0.05), math.log(0.8)
        layer.seq.log_step.copy_(low + (high - low) * torch.rand(n).view_as(layer.seq.log_step))
    return tied(layer) if tie else layer


def lru(width: int, n: int) -> nn.Module:
    layer: nn.Module = lru_library().LRU(width, width, n, rmin=0.3, rmax=0.95)
    return layer


class Bare(nn.Module):
    """An S5SSM without its wrapper, which takes one sequence."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.inner = s5_torch(3, n).seq

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y


@seeded
def made(layer: Callable[[int, int], nn.Module], sizes: tuple[int, ...] = (6, 4, 5),
         transposed: bool = False) -> nn.Module:  # fmt: skip
    return Stack([layer(4, n) for n in sizes], transposed=transposed)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "S5": lambda: made(lambda d, n: S5(d, n, **STEPS)),
    "S5 in blocks": lambda: made(lambda d, n: S5(d, 2 * n, blocks=2, **STEPS)),
    "S5 bilinear": lambda: made(lambda d, n: S5(d, n, discretization="bilinear", **STEPS)),
    "S5 both ways": lambda: made(lambda d, n: S5(d, n, bidirectional=True, **STEPS)),
    "S5 clipped": lambda: made(lambda d, n: pushed(S5(d, n, clip_eigs=True, **STEPS))),
    "S4D": lambda: made(lambda d, n: S4D(d, n, **STEPS)),
    "S4D transposed": lambda: made(lambda d, n: S4D(d, n, transposed=True, **STEPS),
                                   transposed=True),
}  # fmt: skip
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "s4d.py": lambda: made(S4DPy, transposed=True),
    "s4d.py with buffers": lambda: made(lambda d, n: S4DPy(d, n, False), transposed=True),
    "s5-pytorch": lambda: made(s5_torch),
    "s5-pytorch untied": lambda: made(lambda d, n: s5_torch(d, n, tie=False)),
    "s5-pytorch both ways": lambda: made(lambda d, n: s5_torch(d, n, bidir=True)),
    "lru-pytorch": lambda: made(lru),
}


@torch.no_grad()
def pushed(layer: S5) -> S5:
    """Move some eigenvalues over the imaginary axis: clipping brings them back."""
    layer.Lambda_re[::2] = 0.3
    return layer
