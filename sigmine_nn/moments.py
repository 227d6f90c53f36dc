"""Means and variances of per-sample values that arrive batch by batch; nothing is kept of a batch.

May import: nothing of `sigmine_nn`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "gathered", "means", "together"]


def together() -> bool:
    """Say whether other processes calibrate too: the default process group of torch is there."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized()


def means(
    sums: Mapping[str, Tensor], count: int, device: torch.device | str
) -> tuple[dict[str, Tensor], int]:
    """Return means from sums, of all processes.

    Parameters
    ----------
    sums : mapping of str to Tensor
        The same names and shapes in every process; divided in place.
    count : int
        What they are sums of, in this process.
    device : device
        On which processes exchange numbers.

    Returns
    -------
    means : dict of str to Tensor
        NaN if the count is 0.
    count : int
        Of all processes.
    """
    total = torch.tensor(count, dtype=torch.int64, device=device)
    if together():
        torch.distributed.all_reduce(total)
        for name in sorted(sums):
            torch.distributed.all_reduce(sums[name])
    n = int(total)
    return {name: value.div_(n if n else torch.nan) for name, value in sums.items()}, n


def gathered(values: Tensor, device: torch.device | str) -> Tensor:
    """Return the rows of all processes, in the order of their ranks.

    Parameters
    ----------
    values : Tensor, shape (n_rows, n)
        The number of rows may differ, the columns may not.
    device : device
        On which processes exchange numbers.

    Returns
    -------
    Tensor, shape (n_all_rows, n)
        On the CPU.
    """
    if not together():
        return values.cpu()
    distributed = torch.distributed
    n_processes = distributed.get_world_size()
    length = torch.tensor([len(values)], dtype=torch.int64, device=device)
    lengths = [torch.zeros_like(length) for _ in range(n_processes)]
    distributed.all_gather(lengths, length)
    longest = max(int(n) for n in lengths)
    padded = values.new_zeros((longest, *values.shape[1:]), device=device)
    padded[: len(values)] = values.to(device)
    parts = [torch.empty_like(padded) for _ in range(n_processes)]
    distributed.all_gather(parts, padded)
    return torch.cat([part[: int(n)] for part, n in zip(parts, lengths, strict=True)]).cpu()


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of vectors, in float64.

    Attributes
    ----------
    count : int
        Samples so far.
    mean : Tensor of float64, shape (n,)
    squares : Tensor of float64, shape (n,)
        Sum of squared deviations from the mean.
    """

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, n: int, device: torch.device | str = "cpu") -> Moments:
        """Return the moments of no samples.

        Parameters
        ----------
        n : int
            Length of the vectors.
        device : device, default="cpu"
            Where they are kept.

        Returns
        -------
        Moments
        """
        zeros = torch.zeros(n, dtype=torch.float64, device=device)
        return cls(0, zeros, zeros.clone())

    def add(self, values: Tensor) -> None:
        """Add samples.

        Parameters
        ----------
        values : Tensor, shape (n_samples, n)
            Real numbers; NaN stays NaN in its column.
        """
        values = values.detach().to(self.mean)
        count = len(values)
        if count:
            mean = values.mean(dim=0)
            self._merge(count, mean, ((values - mean) ** 2).sum(dim=0))

    def merge(self, other: Moments) -> None:
        """Add the samples of others.

        Parameters
        ----------
        other : Moments
            Of vectors of the same length.
        """
        if other.count:
            self._merge(other.count, other.mean.to(self.mean), other.squares.to(self.mean))

    def _merge(self, count: int, mean: Tensor, squares: Tensor) -> None:
        # Chan, Golub and LeVeque (1983): no difference of large sums, so no cancellation.
        total = self.count + count
        shift = mean - self.mean
        self.mean = self.mean + shift * (count / total)
        self.squares = self.squares + squares + shift * shift * (self.count * count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """Unbiased variance of one sample; NaN for fewer than two."""
        return self.squares / (self.count - 1) if self.count > 1 else self.squares * torch.nan

    @property
    def standard_error(self) -> Tensor:
        """Standard error of the mean; NaN for fewer than two samples."""
        return (self.variance / max(1, self.count)).sqrt()

    def all_reduce(self) -> None:
        """Add the samples of all other processes of the default process group of torch."""
        distributed = torch.distributed
        # Two sums of plain sums: (count, count x mean), then the deviations from the joint mean.
        first = torch.cat([self.mean * self.count, self.mean.new_tensor([float(self.count)])])
        distributed.all_reduce(first)
        total = int(first[-1].item())
        mean = first[:-1] / max(1, total)
        squares = self.squares + self.count * (self.mean - mean) ** 2
        distributed.all_reduce(squares)
        self.count, self.mean, self.squares = total, mean, squares
