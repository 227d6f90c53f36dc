"""What comes back: nested histories, growth rules, values, and an optimiser that forgets."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn.growth import (
    Growth,
    MaskHistory,
    ValueSource,
    choose_growth,
    regrown_values,
    reset_optimizer_state,
)
from sigmine_nn.schedules import Cup

torch.set_num_threads(1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# -- History -----------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_masks_are_nested_and_growth_in_reverse_retraces_them(removed_in):
    cycles = torch.tensor(removed_in)  # 6 is never
    history = MaskHistory.start(cycles)
    for cycle in range(1, 6):
        history = history.then(cycles > cycle)
    assert history.n_cycles == 5
    assert history.removed_in.dtype == torch.uint8
    mask = history.mask(5)
    for cycle in range(5, 0, -1):
        assert torch.equal(mask, cycles > cycle)
        assert torch.equal(history.cohort(cycle), cycles == cycle)
        n = int((cycles == cycle).sum())
        back = choose_growth("reverse", n, ~mask, history=history)
        assert torch.equal(back, history.cohort(cycle))
        assert not (back & mask).any()
        mask = mask | back
    assert mask.all()


def test_a_cup_of_a_weight():
    """Prune by the schedule, store what goes, grow back: capacities and values return exactly."""
    schedule, generator = Cup(cycles=5, start=1), seeded()
    initial = torch.randn(30, 40, generator=generator)
    weight, last, history = initial.clone(), torch.zeros(30, 40), MaskHistory.start(initial)
    values = {"initial": initial}
    for step in range(1, 6):
        weight = weight + 0.1 * torch.randn(30, 40, generator=generator)
        weight = weight * history.mask(history.n_cycles)
        level = schedule.levels_at(step)[0]
        n_gone = round(1200 * (1 - 0.8**level))
        scores = torch.where(history.mask(history.n_cycles), weight.abs(), -torch.inf)
        order = torch.argsort(scores.flatten(), descending=True, stable=True)
        mask = torch.zeros(1200, dtype=torch.bool)
        mask[order[: 1200 - n_gone]] = True
        before, history = weight, history.then(mask.view(30, 40))
        last = torch.where(history.cohort(level), before, last)
        assert int((~history.mask(level)).sum()) == n_gone
    stored = last.clone()
    for level in (4, 3, 2, 1, 0):
        back = history.cohort(level + 1)
        weight = regrown_values("last", weight, back, {"last": last})
        assert torch.equal(weight[back], stored[back])
        first = regrown_values("initial", weight, back, values)
        assert torch.equal(first[back], initial[back])
        assert torch.equal(first[~back], weight[~back])
    assert torch.equal(last, stored)


def test_histories_refuse_what_is_not_nested():
    history = MaskHistory.start(torch.zeros(3)).then(torch.tensor([True, False, True]))
    with pytest.raises(InputError, match="keeps 1 entries that were removed"):
        history.then(torch.tensor([True, True, False]))
    with pytest.raises(InputError, match=r"shape \(2,\)"):
        history.then(torch.tensor([True, True]))
    with pytest.raises(InputTypeError, match=r"float32; give a boolean"):
        history.then(torch.ones(3))
    with pytest.raises(InputError, match="cycle=2 has not been"):
        history.mask(2)
    with pytest.raises(InputError, match="cycle=0"):
        history.cohort(0)
    for _ in range(253):
        history = history.then(history.mask(history.n_cycles))
    assert history.n_cycles == 254
    with pytest.raises(InputError, match="255 cycles"):
        history.then(history.mask(254))


# -- Which come back ---------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0])), min_size=1,
                max_size=12), st.data())  # fmt: skip
def test_the_largest_gradients_come_back(entries, data):
    removed = torch.tensor([gone for gone, _ in entries])
    gradient = torch.tensor([value for _, value in entries])
    n = data.draw(st.integers(0, int(removed.sum())))
    gone = [i for i, (is_gone, _) in enumerate(entries) if is_gone]
    expected = sorted(gone, key=lambda i: (-abs(entries[i][1]), i))[:n]
    back = choose_growth(Growth.GRADIENT, n, removed, gradient=gradient)
    assert set(np.flatnonzero(back).tolist()) == set(expected)


@pytest.mark.statistical
def test_random_growth_is_uniform_over_the_removed():
    removed = torch.arange(12).view(3, 4) % 2 == 0  # 6 of 12
    generator, counts = seeded(1), torch.zeros(3, 4)
    for _ in range(2000):
        back = choose_growth("random", 2, removed, generator=generator)
        assert int(back.sum()) == 2
        counts += back
    assert (counts[~removed] == 0).all()
    # Each is binomial(2000, 1 / 3): within 4.5 standard deviations, false alarms below 1e-4.
    assert (counts[removed] - 2000 / 3).abs().max() < 4.5 * (2000 * 2 / 9) ** 0.5
    again = [choose_growth("random", 3, removed, generator=seeded(5)) for _ in range(2)]
    assert torch.equal(*again)


def test_growth_refuses():
    removed = torch.tensor([True, False, True])
    with pytest.raises(InputError, match="growth='best'"):
        choose_growth("best", 1, removed)
    with pytest.raises(InputError, match="n=3 entries are to come back, and 2"):
        choose_growth("random", 3, removed, generator=seeded())
    for growth, name in (("reverse", "history"), ("random", "generator"), ("gradient", "gradient")):
        with pytest.raises(InputError, match=f"'{growth}' needs {name}"):
            choose_growth(growth, 1, removed)
    with pytest.raises(InputError, match=r"shape \(2,\)"):
        choose_growth("gradient", 1, removed, gradient=torch.ones(2))
    with pytest.raises(InputTypeError, match="list; give a boolean"):
        choose_growth("random", 1, [True], generator=seeded())


# -- Values ------------------------------------------------------------------------------------


def test_values_come_from_their_source_and_nothing_else_moves():
    generator = seeded()
    weight = torch.randn(4, 5, generator=generator)
    back = torch.rand(4, 5, generator=generator) < 0.4
    values = {str(s): torch.randn(4, 5, generator=generator) for s in ("last", "best", "initial")}
    before = weight.clone()
    for source in ValueSource:
        out = regrown_values(source, weight, back, values, generator=seeded(3))
        assert torch.equal(out[~back], weight[~back])
        if source is ValueSource.RANDOM:
            assert torch.isin(out[back], values["initial"]).all()
            assert not torch.equal(out[back], values["initial"][back])
            again = regrown_values(source, weight, back, values, generator=seeded(3))
            assert torch.equal(out, again)
        else:
            assert torch.equal(out[back], values[source][back])
    assert torch.equal(weight, before)
    parameter = nn.Parameter(weight)
    assert not regrown_values("last", parameter, back, values).requires_grad


def test_values_refuse():
    weight, back = torch.zeros(2), torch.tensor([True, False])
    with pytest.raises(InputError, match="source='first'"):
        regrown_values("first", weight, back, {})
    with pytest.raises(InputError, match=r"'best' needs values\['best'\]"):
        regrown_values("best", weight, back, {})
    with pytest.raises(InputError, match=r"'random' needs values\['initial'\]"):
        regrown_values("random", weight, back, {})
    with pytest.raises(InputError, match="'random' needs generator"):
        regrown_values("random", weight, back, {"initial": weight})
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        regrown_values("last", weight, back, {"last": torch.zeros(3)})


# -- Optimiser ---------------------------------------------------------------------------------

OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adam decay": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
}
OTHERS = {  # without momentum nothing drifts, but what they remember is forgotten too
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "nadam": lambda p: torch.optim.NAdam(p),
    "radam": lambda p: torch.optim.RAdam(p),
}


def trained(name, steps=5):
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    optimizer = {**OPTIMISERS, **OTHERS}[name](list(model.parameters()))
    data = torch.randn(20, 6), torch.randn(20, 3)
    for _ in range(steps):
        step(model, optimizer, data)
    return model, optimizer, data


def step(model, optimizer, data, mask=None):
    optimizer.zero_grad()
    weight = model.weight if mask is None else model.weight * mask
    nn.functional.mse_loss(nn.functional.linear(data[0], weight, model.bias), data[1]).backward()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("reset", [True, False])
def test_removed_weights_stay_zero_if_and_only_if_they_are_forgotten(name, reset):
    model, optimizer, data = trained(name)
    removed = torch.rand(3, 6, generator=seeded(2)) < 0.5
    with torch.no_grad():
        model.weight[removed] = 0.0
    if reset:
        reset_optimizer_state(optimizer, model.weight, removed)
    before = model.weight.detach().clone()
    for _ in range(5):
        step(model, optimizer, data, ~removed)
    drifted = model.weight.detach()[removed].abs()
    assert (drifted == 0).all() if reset else (drifted > 0).all()
    assert (model.weight.detach()[~removed] != before[~removed]).all()


@pytest.mark.parametrize("name", [*OPTIMISERS, *OTHERS])
def test_only_the_named_entries_are_forgotten(name):
    model, optimizer, _ = trained(name)
    entries = torch.rand(3, 6, generator=seeded(2)) < 0.5
    before = copy.deepcopy(optimizer.state_dict()["state"])
    reset_optimizer_state(optimizer, model.weight, entries)
    after = optimizer.state_dict()["state"]
    moments = [key for key, value in after[0].items()
               if isinstance(value, torch.Tensor) and value.shape == (3, 6)]  # fmt: skip
    assert moments
    for key in moments:
        assert (after[0][key][entries] == 0).all()
        assert torch.equal(after[0][key][~entries], before[0][key][~entries])
    for key in set(after[0]) - set(moments):
        assert after[0][key] == before[0][key]
    assert all(torch.equal(torch.as_tensor(after[1][key]), torch.as_tensor(before[1][key]))
               for key in after[1] if after[1][key] is not None)  # fmt: skip


def test_an_optimiser_that_has_not_stepped_has_nothing_to_forget():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    reset_optimizer_state(optimizer, model.weight, torch.ones(2, 2, dtype=torch.bool))
    assert not optimizer.state
    with pytest.raises(InputError, match=r"has 2 parameters, and one of shape \(3, 3\)"):
        reset_optimizer_state(
            optimizer, nn.Parameter(torch.zeros(3, 3)), torch.ones(3, 3, dtype=torch.bool)
        )
    with pytest.raises(InputError, match=r"must have the shape \(2, 2\)"):
        reset_optimizer_state(optimizer, model.weight, torch.ones(2, dtype=torch.bool))
