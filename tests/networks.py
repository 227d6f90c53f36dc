"""Small networks that the tests of `sigmine_nn` share, each made from a seed, and real data.

A function a network. Weights are random but generic: statistics and scales of normalisations are
not 0 and 1, so that a wrong one shows. Images are (n, 1, 8, 8), as scikit-learn's digits are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# -- Data -------------------------------------------------------------------------------------


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """All 1,797 digits, shape (n, 1, 8, 8) in [0, 1], and their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.images, dtype=torch.float32)[:, None] / 16, torch.tensor(found.target)


def images(n: int = 4, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)


def in_batches(inputs: Tensor, targets: Tensor, size: int = 64) -> list[tuple[Tensor, Tensor]]:
    return list(zip(inputs.split(size), targets.split(size), strict=True))


def train(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int = 3,
    lr: float = 2e-3,
    size: int = 64,
    seed: int = 0,
) -> nn.Module:
    """Train a classifier with Adam, in place; return it in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator)
        for rows in order.split(size):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    optimizer.zero_grad()
    return model.eval()


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    with torch.no_grad():
        return float((model(inputs).argmax(dim=1) == targets).float().mean())


# -- Weights ----------------------------------------------------------------------------------


def seeded(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Make a function of a network take ``seed=``, and leave torch's own generator alone."""

    @functools.wraps(make)
    def made(*args: Any, seed: int = 0, **options: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = make(*args, **options)
            generic(model)
        return model.eval()

    return made


@torch.no_grad()
def generic(model: nn.Module) -> None:
    """Give scales, shifts and statistics of normalisations values that are not 0 and 1."""
    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    for module in model.modules():
        if isinstance(module, norms) and module.weight is not None:
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0.0, 0.3)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.5, 1.5)


# -- Convolutions -----------------------------------------------------------------------------


class ChannelsLast(nn.Module):
    """LayerNorm over the channels of maps, as ConvNeXt has it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def norm_of(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(4, channels)
    return ChannelsLast(channels) if kind == "layer" else nn.Identity()


class Block(nn.Module):
    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm1 = norm_of(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm2 = norm_of(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))


class ResidualNet(nn.Module):
    """Two residual stages with the norm that is asked for: batch, group, layer or none."""

    def __init__(self, norm: str = "batch", width: int = 8, n_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=norm == "none")
        self.norm = norm_of(norm, width)
        self.block1 = Block(width, norm)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.block2 = Block(2 * width, norm)
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(F.relu(self.norm(self.stem(x))))
        x = self.block2(F.relu(self.down(x)))
        return self.head(x.mean(dim=(2, 3)))


@seeded
def residual_net(norm: str = "batch", width: int = 8) -> nn.Module:
    return ResidualNet(norm, width)


@seeded
def flat_net(width: int = 6) -> nn.Module:
    """Convolutions whose maps are flattened: a unit is several columns of the linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 20),
        nn.ReLU(),
        nn.Linear(20, 10),
    )


# -- Linear layers ----------------------------------------------------------------------------


@seeded
def mlp(n_inputs: int = 30, hidden: tuple[int, ...] = (16, 12), n_outputs: int = 2) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in zip((n_inputs, *hidden), hidden, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], n_outputs))


# -- Transformers -----------------------------------------------------------------------------


class Attention(nn.Module):
    """Attention with projections of their own; fewer key-value heads than heads are shared."""

    def __init__(self, width: int, n_heads: int, n_kv_heads: int | None = None) -> None:
        super().__init__()
        self.num_heads, self.head_dim = n_heads, width // n_heads
        self.num_key_value_heads = n_kv_heads or n_heads
        kv_width = self.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, kv_width)
        self.v_proj = nn.Linear(width, kv_width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = (
            layer(x).view(n, length, -1, self.head_dim).transpose(1, 2)  # (B, heads, T, d)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        share = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
        weights = (q @ k.transpose(2, 3) / math.sqrt(self.head_dim)).softmax(dim=-1)
        return self.out_proj((weights @ v).transpose(1, 2).reshape(n, length, -1))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self, width: int, n_heads: int, n_kv_heads: int | None, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, n_heads, n_kv_heads)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer on patches of 2 x 2, with a class token and learned positions."""

    def __init__(
        self,
        width: int = 16,
        n_heads: int = 4,
        n_layers: int = 2,
        n_kv_heads: int | None = None,
        hidden: int = 24,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.3)
        self.layers = nn.ModuleList(
            Layer(width, n_heads, n_kv_heads, hidden) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)  # (B, T, C)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


@seeded
def vit(
    width: int = 16,
    n_heads: int = 4,
    n_layers: int = 2,
    n_kv_heads: int | None = None,
    hidden: int = 24,
) -> nn.Module:
    return ViT(width, n_heads, n_layers, n_kv_heads, hidden)


@seeded
def llama(n_heads: int = 4, n_kv_heads: int = 2, n_layers: int = 2, **options: Any) -> nn.Module:
    """A Llama from a tiny configuration; needs transformers."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=44, num_hidden_layers=n_layers,
        num_attention_heads=n_heads, num_key_value_heads=n_kv_heads, head_dim=8,
        max_position_embeddings=32, pad_token_id=0, **options,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def tokens(n: int = 3, length: int = 7, seed: int = 0, vocabulary: int = 50) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, vocabulary, (n, length), generator=generator)


# -- Masks and copies -------------------------------------------------------------------------


def random_keep(units: Any, seed: int = 0, at_least: int = 1) -> np.ndarray:
    """Which units stay, at random: the same number from every block of a group, never none."""
    rng = np.random.default_rng(seed)
    keep = np.zeros(units.n, dtype=bool)
    for group in units:
        size = group.n_units // group.blocks
        n = int(rng.integers(at_least, size + 1))
        rows = np.array([rng.permutation(size) < n for _ in range(group.blocks)])
        place = units.range_of(group.name)
        keep[place.start : place.stop] = rows.ravel()
    return keep


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that must not change about a model, to be compared with ==."""
    tensors = {name: t.detach().clone().numpy().tobytes() for name, t in model.state_dict().items()}
    parameters = [  # in their order, which optimisers go by
        (name, id(p), p.requires_grad, None if p.grad is None else p.grad.numpy().tobytes())
        for name, p in model.named_parameters(remove_duplicate=False)
    ]
    modules = {
        name: (
            id(module), type(module), module.training, getattr(module, "inplace", None),
            list(module._forward_hooks), list(module._forward_pre_hooks),
            list(module._backward_hooks), sorted(module._buffers), sorted(module._parameters),
        )
        for name, module in model.named_modules(remove_duplicate=False)
    }  # fmt: skip
    return {"tensors": tensors, "parameters": parameters, "modules": modules}
