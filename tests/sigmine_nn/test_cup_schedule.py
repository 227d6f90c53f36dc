"""Levels of schedules, and cups over any monotone list."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn.schedules import Cup, Geometric, Linear, OneShot, Polynomial

MONOTONE = st.lists(st.floats(0.0, 0.99), min_size=1, max_size=8).map(sorted)


@given(MONOTONE, st.integers(1, 5), st.integers(0, 7))
def test_a_cup_over_any_monotone_list_goes_down_and_comes_back(sparsities, every, start):
    cup = Cup(sparsities=sparsities, every=every, start=start)
    n = len(sparsities)
    assert (cup.cycles, cup.n_levels, cup.n_updates) == (n, n, 2 * n - 1)
    assert cup.end == start + 2 * (n - 1) * every
    assert cup.bottom == sparsities[-1]
    assert [cup.sparsity_of(level) for level in range(n + 1)] == [0.0, *sparsities]
    levels = [level for update in range(cup.n_updates) for level in cup.levels_of(update)]
    assert levels == [*range(1, n + 1), *range(n - 1, -1, -1)]
    by_step = [level for step in range(cup.end + 3) for level in cup.levels_at(step)]
    assert by_step == levels
    # What is trained mirrors itself around the turn.
    trained = [0.0] + [cup.sparsity_at(start + k * every) for k in range(cup.n_updates)]
    assert trained == trained[::-1]
    assert hash(cup) == hash(Cup(sparsities=tuple(sparsities), every=every, start=start))
    assert dataclasses.replace(cup, every=every + 1).sparsities == tuple(sparsities)


@given(st.integers(1, 12), st.floats(0.05, 0.6))
def test_the_geometric_cup_is_one_of_them(cycles, rate):
    cup = Cup(cycles=cycles, rate=rate)
    listed = Cup(sparsities=[1 - (1 - rate) ** level for level in range(1, cycles + 1)])
    for step in range(2 * cycles + 1):
        assert cup.sparsity_at(step) == listed.sparsity_at(step)
        assert cup.levels_at(step) == listed.levels_at(step)


@pytest.mark.parametrize(
    "schedule",
    [OneShot(0.5, 3), Linear(0.6, 9, 1, 2), Polynomial(0.6, 8, initial=0.1), Geometric(5, 1)],
)
def test_schedules_that_only_remove_have_a_level_an_update(schedule):
    assert schedule.n_levels == schedule.n_updates
    for update in range(schedule.n_updates):
        assert schedule.levels_of(update) == (update + 1,)
    for step in range(schedule.end + 2):
        for level in schedule.levels_at(step):
            assert schedule.sparsity_of(level) == schedule.sparsity_at(step)
    before = schedule.sparsity_at(schedule.start - 1) if schedule.start else None
    assert before is None or schedule.sparsity_of(0) == before


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Cup(sparsities=[]), InputError, "sparsities are none"),
        (lambda: Cup(sparsities=[0.5, 0.4]), InputError, r"fall from 0.5 to 0.4"),
        (lambda: Cup(sparsities=[0.5, 1.0]), InputError, "sparsities=1.0 would remove everything"),
        (lambda: Cup(sparsities=["a"]), InputTypeError, "sparsities='a'"),
        (lambda: Cup(3, sparsities=[0.5]), InputError, "1 sparsities are given, and cycles=3"),
        (lambda: Cup(rate=0.3, sparsities=[0.5]), InputError, r"rate=0\.3; give either"),
        (lambda: Cup(3).levels_of(5), InputError, "update=5 is none of the 5"),
        (lambda: Cup(3).sparsity_of(4), InputError, "level=4 is none of the schedule"),
        (lambda: Cup(3).levels_of(-1), InputError, "update=-1"),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
