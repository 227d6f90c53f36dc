"""Streaming moments: those of all samples, whatever the batches and the processes."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sigmine_nn.moments import Moments, gathered, means

NUMBERS = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)


@given(NUMBERS, st.lists(st.integers(0, 30), max_size=4))
def test_batches_give_the_moments_of_all(numbers, cuts):
    values = torch.tensor(numbers, dtype=torch.float64)[:, None] * torch.tensor([1.0, -3.0])
    edges = [0, *sorted(min(cut, len(numbers)) for cut in cuts), len(numbers)]
    moments, merged = Moments.empty(2), Moments.empty(2)
    for start, stop in pairwise(edges):
        moments.add(values[start:stop])
        part = Moments.empty(2)
        part.add(values[start:stop])
        merged.merge(part)
    scale = max(1.0, float(values.abs().max()))
    for found in (moments, merged):
        assert found.count == len(numbers)
        np.testing.assert_allclose(found.mean, values.mean(dim=0), atol=1e-12 * scale)
        np.testing.assert_allclose(
            found.variance, values.var(dim=0), rtol=1e-9, atol=1e-12 * scale**2
        )
        expected = (values.var(dim=0) / len(numbers)).sqrt()
        np.testing.assert_allclose(found.standard_error, expected, rtol=1e-6, atol=1e-6 * scale)


def test_a_large_mean_does_not_cancel():
    values = 1e8 + torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    moments = Moments.empty(1)
    for row in values:
        moments.add(row[None])
    assert moments.variance.item() == pytest.approx(1.0, rel=1e-9)


def test_fewer_than_two_samples_have_no_variance():
    moments = Moments.empty(2)
    assert moments.variance.isnan().all()
    moments.add(torch.tensor([[1.0, torch.nan]]))
    assert moments.mean[0] == 1.0
    assert moments.mean[1].isnan()
    assert moments.standard_error.isnan().all()


def test_means_of_one_process():
    found, n = means({"a": torch.tensor([2.0, 4.0])}, 4, "cpu")
    assert (found["a"].tolist(), n) == ([0.5, 1.0], 4)
    assert means({"a": torch.zeros(1)}, 0, "cpu")[0]["a"].isnan().all()
    assert torch.equal(gathered(torch.ones(2, 3), "cpu"), torch.ones(2, 3))
