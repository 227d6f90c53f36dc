"""Where the budget goes: Erdos-Renyi-Kernel densities, equal structures, scopes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn.allocation import (
    comparable_scores,
    erk_densities,
    isomorphic_groups,
    make_budget,
)
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError
from sigmine_nn.scores import ScoreTable
from tests import naive_selection as naive

torch.set_num_threads(1)

SHAPES = st.lists(
    st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6
)


@given(SHAPES, st.floats(0.001, 1))
def test_erk_is_the_twin_and_meets_the_density(shapes, density):
    found = erk_densities(shapes, density)
    assert found == pytest.approx(naive.erk(shapes, density), rel=1e-6)
    sizes = [math.prod(shape) for shape in shapes]
    assert found @ sizes == pytest.approx(density * sum(sizes))
    assert (found > 0).all()
    assert (found <= 1).all()


@given(SHAPES, st.floats(0.01, 1), st.floats(0.01, 1))
def test_erk_densities_grow_together(shapes, one, other):
    low, high = sorted([one, other])
    assert (erk_densities(shapes, low) <= erk_densities(shapes, high) + 1e-12).all()


def test_erk_of_lenet_300_100():
    # Shares 1 : (300 + 784) / (300 x 784) and so on; at 10 per cent the last layer stays whole.
    shapes = [(300, 784), (100, 300), (10, 100)]
    found = erk_densities(shapes, 0.1)
    assert found[2] == 1.0
    left = 0.1 * (235_200 + 30_000 + 1_000) - 1_000
    factor = left / ((300 + 784) + (100 + 300))
    assert found[:2] == pytest.approx([factor * 1084 / 235_200, factor * 400 / 30_000])


def test_erk_refuses_nothing():
    with pytest.raises(InputError, match="at least one"):
        erk_densities([], 0.5)
    with pytest.raises(InputError, match="no size of it 0"):
        erk_densities([(3, 0)], 0.5)
    with pytest.raises(InputError, match="as many sizes"):
        erk_densities([(3, 2)], 0.5, [1, 2])
    with pytest.raises(InputError, match="density"):
        erk_densities([(3, 2)], 1.5)


class Residual(nn.Module):
    """Two plain convolutions of one structure, two ends of a residual, and linear layers."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(8, width, 3, padding=1), nn.Conv2d(width, 8, 3, padding=1)])
            for width in (4, 6)
        )
        self.fc1 = nn.Linear(8, 7)
        self.fc2 = nn.Linear(7, 5)
        self.fc3 = nn.Linear(5, 2)

    def forward(self, x):
        x = self.stem(x)
        for first, second in self.blocks:
            x = torch.relu(x + second(torch.relu(first(x))))
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x.mean((2, 3)))))))


@pytest.fixture(scope="module")
def units():
    torch.manual_seed(0)
    return find_units(Residual(), "channel", torch.randn(2, 1, 4, 4))


def test_layers_of_equal_structure_are_one_scope(units):
    assert units.names == ["stem", "blocks.0.0", "blocks.1.0", "fc1", "fc2"]
    assert isomorphic_groups(units) == {
        "stem": ("stem",),
        "blocks.0.0": ("blocks.0.0", "blocks.1.0"),
        "fc1": ("fc1", "fc2"),
    }
    budget = make_budget(units, allocation="isomorphic")
    assert budget.sizes == {"stem": 8, "blocks.0.0": 10, "fc1": 12}
    assert budget.amounts(0.3) == {"stem": 0.3, "blocks.0.0": 0.3, "fc1": 0.3}


def test_scopes(units):
    assert make_budget(units).scopes == {"global": tuple(units.names)}
    assert list(make_budget(units, "layer").scopes) == units.names
    named = make_budget(
        units,
        {"convs": ["blocks.1.0", "stem", "blocks.0.0"], "rest": ("fc1", "fc2")},
        {"rest": 0.1},
    )
    assert named.scopes["convs"] == ("stem", "blocks.0.0", "blocks.1.0")  # order of the units
    assert named.amounts(0.6) == {"convs": 0.6, "rest": 0.1}


def test_erk_takes_the_weights_that_compute_the_units(units):
    amounts = make_budget(units, allocation="erk").amounts(0.4)
    shares = [(8 + 1 + 9 - 3) / 72, (4 + 8 + 6) / 288, (6 + 8 + 6) / 432, 15 / 56, 12 / 35]
    sizes = np.array([8, 4, 6, 7, 5])
    densities = 1 - np.array([amounts[name] for name in units.names])
    assert densities @ sizes == pytest.approx(0.6 * 30)
    free = densities < 1
    ratios = densities[free] / np.array(shares)[free]
    assert ratios == pytest.approx(ratios[0])
    assert (densities[~free] == 1).all()
    assert free.any()
    assert not free.all()
    assert set(make_budget(units, allocation="erk").amounts(1.0).values()) == {1.0}
    nothing = make_budget(units, allocation="erk").amounts(0.0)
    assert list(nothing.values()) == pytest.approx([0.0] * 5, abs=1e-12)


def test_what_cannot_be_a_scope_or_an_allocation(units):
    with pytest.raises(InputError, match="scope='locally' is not known"):
        make_budget(units, "locally")
    with pytest.raises(InputError, match="allocation='earth' is not known"):
        make_budget(units, allocation="earth")
    with pytest.raises(ModelError, match="no group of units 'fc9'"):
        make_budget(units, {"a": ["fc9"]})
    with pytest.raises(InputError, match=r"blocks\.0\.0, blocks\.1\.0, fc1, stem is missing"):
        make_budget(units, {"a": ["fc2"]})
    with pytest.raises(InputError, match="fc2 is repeated"):
        make_budget(units, {"a": units.names, "b": ["fc2"]})
    with pytest.raises(InputTypeError, match="list"):
        make_budget(units, {"a": "fc2"})
    with pytest.raises(InputTypeError, match="at least one"):
        make_budget(units, {"a": units.names, "b": []})
    with pytest.raises(InputError, match="leave scope out"):
        make_budget(units, {"a": units.names}, "erk")
    with pytest.raises(ModelError, match="allocation names 'fc9'"):
        make_budget(units, allocation={"fc9": 0.5})
    with pytest.raises(InputError, match=r"allocation\['fc1'\]=1.5"):
        make_budget(units, allocation={"fc1": 1.5})
    with pytest.raises(InputError, match="remove everything"):
        make_budget(units, allocation={"fc1": 1})


def test_scales_leave_undefined_scores_out(units):
    score = torch.arange(1, 31, dtype=torch.float64)
    score[3] = math.nan
    table = ScoreTable(units, score, "given")
    assert comparable_scores(table) is not None
    assert torch.equal(comparable_scores(table).isnan(), score.isnan())
    scaled = comparable_scores(table, "sum")
    assert scaled.isnan().nonzero().flatten().tolist() == [3]
    for name in units.names:
        where = units.range_of(name)
        part = scaled[where.start : where.stop]
        assert float(part.nansum()) == pytest.approx(1.0)
    with pytest.raises(InputError, match="how='median'"):
        comparable_scores(table, "median")


def test_a_whole_network_stays_whole():
    # The factor times the share may round to just above 1 for all layers.
    for rows in range(1, 40):
        assert erk_densities([(rows, 7)], 1.0) == pytest.approx([1.0], rel=1e-15)
        assert erk_densities([(rows, 7), (3, rows, 5)], 1.0).max() <= 1.0
