"""Schedules: formulas, exact ends, updates, and what cannot be a schedule."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn.schedules import (
    Cup,
    Geometric,
    Linear,
    OneShot,
    Polynomial,
    ProgressiveSoft,
    count_removed,
)

TARGET = st.floats(0, 0.99)
STEPS = {
    "start": st.integers(0, 20),
    "length": st.integers(0, 60),
    "every": st.integers(1, 25),
    "target": TARGET,
}


def growing(start, length, every, target):
    end = start + length
    return [
        OneShot(target, start),
        Linear(target, end, start, every),
        Linear(target, end, start, every, initial=target / 2),
        Polynomial(target, end, start, every),
        Polynomial(target, end, start, every, power=1.5),
        Geometric(end, start, every, target=target),
        Geometric(end, start, every, rate=target / 2 / (length + 1)),
        ProgressiveSoft(target, end, start, every),
    ]


@given(**STEPS)
def test_sparsity_grows_changes_at_updates_only_and_ends_exactly(start, length, every, target):
    for schedule in growing(start, length, every, target):
        steps = range(start + length + 5)
        values = [schedule.sparsity_at(step) for step in steps]
        assert all(0 <= value < 1 for value in values)
        assert values == sorted(values)
        updates = [step for step in steps if schedule.is_update(step)]
        assert len(updates) == schedule.n_updates
        assert updates[0] == schedule.start
        assert updates[-1] == schedule.end
        for step in steps[1:]:
            if values[step] != values[step - 1]:
                assert step in updates
        if not (isinstance(schedule, Geometric) and schedule.target is None):
            assert values[schedule.end] == target
        assert schedule.sparsity_at(10**9) == values[-1]


@given(st.integers(0, 50), st.integers(1, 100), TARGET)
def test_the_cubic_schedule_is_that_of_zhu_and_gupta(start, length, target):
    schedule = Polynomial(target, start + length, start, initial=target / 3)
    for step in range(start, start + length + 1):
        expected = target + (target / 3 - target) * (1 - (step - start) / length) ** 3
        assert schedule.sparsity_at(step) == pytest.approx(expected)


def test_linear():
    schedule = Linear(0.8, end=40, start=20, every=5)
    assert [schedule.sparsity_at(s) for s in (0, 20, 25, 29, 30, 39, 40)] == pytest.approx(
        [0, 0, 0.2, 0.2, 0.4, 0.6, 0.8]
    )
    with pytest.raises(TypeError):
        Linear(0.8, end=40, power=2.0)


def test_geometric_removes_the_same_share_of_what_remains():
    schedule = Geometric(end=57, start=19, every=2)
    left = 1.0
    for step in range(19, 58, 2):
        left *= 0.8
        assert 1 - schedule.sparsity_at(step) == pytest.approx(left)
    assert schedule.n_updates == 20
    assert 1 - schedule.sparsity_at(57) == pytest.approx(0.0115, abs=1e-4)  # 1.15 % remain
    with_target = Geometric(end=9, target=0.9)
    assert with_target.sparsity_at(9) == 0.9
    ratios = [(1 - with_target.sparsity_at(s + 1)) / (1 - with_target.sparsity_at(s))
              for s in range(9)]  # fmt: skip
    assert ratios == pytest.approx([0.1**0.1] * 9)


@given(st.integers(0, 10**6), st.floats(0.01, 0.5), st.integers(0, 30))
def test_counts(n, rate, cycle):
    schedule = Geometric(end=30, rate=rate)
    expected = round(n * (1 - (1 - rate) ** (cycle + 1)))
    assert schedule.count_at(cycle, n) == expected
    assert count_removed(n, 1.0) == n
    assert count_removed(n, 0.0) == 0


def test_progressive_soft_masks_move_down():
    schedule = ProgressiveSoft(0.3, end=10, start=2, every=2, power=2.0)
    masks = [schedule.mask_at(step) for step in range(12)]
    assert masks[:3] == [1.0, 1.0, 1.0]
    assert masks[4] == 1 - 0.25**2 == masks[5]
    assert masks[10] == masks[11] == 0.0
    assert masks == sorted(masks, reverse=True)
    for step in range(12):
        assert schedule.sparsity_at(step) == pytest.approx(0.3 * (1 - masks[step]))


def test_cup_goes_down_and_comes_back_mirrored():
    schedule = Cup(cycles=20, every=50, start=50)
    assert schedule.end == 1950  # 20 x 50 epochs of pruning, 20 x 50 of growing
    assert schedule.n_updates == 39
    # What is trained, in per cent: 20 capacities down, the same ones up.
    capacities = [100 * (1 - schedule.sparsity_at(step)) for step in range(0, 2000, 50)]
    assert capacities == pytest.approx(capacities[::-1])
    published = [100, 80, 64, 51.2, 41, 32.8, 26.2, 21, 16.8, 13.4, 10.7, 8.6, 6.9, 5.5, 4.4, 3.5,
                 2.8, 2.3, 1.8, 1.4]  # fmt: skip
    assert capacities[:20] == pytest.approx(published, abs=0.06)
    assert 100 * (1 - schedule.bottom) == pytest.approx(1.15, abs=0.01)
    assert schedule.sparsity_at(1950) == 0.0
    levels = [level for step in range(2000) for level in schedule.levels_at(step)]
    assert levels == [*range(1, 21), *range(19, -1, -1)]
    assert schedule.levels_at(1000) == (20, 19)
    assert schedule.levels_at(1001) == ()


def test_a_cup_of_one_cycle():
    schedule = Cup(cycles=1, every=3, start=3)
    assert schedule.levels_at(3) == (1, 0)
    assert schedule.sparsity_at(3) == 0.0
    assert schedule.bottom == pytest.approx(0.2)


def test_schedules_are_values():
    assert Polynomial(0.5, 10) == Polynomial(0.5, 10)
    assert hash(Cup(3)) == hash(Cup(3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Polynomial(0.5, 10).target = 0.7
    assert repr(Linear(0.5, 10)) == "Linear(target=0.5, end=10, start=0, every=1, initial=0.0)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneShot(1.0), "target=1.0 would remove everything"),
        (lambda: OneShot(-0.1), "target=-0.1"),
        (lambda: OneShot(0.5, -1), "start=-1"),
        (lambda: Linear(0.5, 3, 4), "end=3 comes before start=4"),
        (lambda: Linear(0.5, 3, every=0), "every=0"),
        (lambda: Linear(0.5, 3, initial=0.6), "initial=0.6 is above target=0.5"),
        (lambda: Polynomial(0.5, 3, power=0.5), "power=0.5"),
        (lambda: Polynomial(math.nan, 3), "target=nan"),
        (lambda: Geometric(3, rate=0.5, target=0.5), "both given"),
        (lambda: Geometric(3, rate=1.0), "rate=1.0"),
        (lambda: Geometric(53, rate=0.5), "54 updates leaves nothing"),
        (lambda: Cup(60, rate=0.5), "60 updates leaves nothing"),
        (lambda: Geometric(3, target=1.0), "target=1.0"),
        (lambda: ProgressiveSoft(0.5, 3, power=0.0), "power=0"),
        (lambda: Cup(0), "cycles=0"),
        (lambda: Cup(3, rate=0.0), "rate=0"),
        (lambda: Cup(3, every=0), "every=0"),
        (lambda: Linear(0.5, 3).is_update(-1), "step=-1"),
        (lambda: count_removed(-1, 0.5), "n=-1"),
    ],
)
def test_what_cannot_be_a_schedule(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_steps_are_whole_numbers():
    with pytest.raises(InputTypeError, match=r"step=1\.5"):
        Linear(0.5, 3).sparsity_at(1.5)
    with pytest.raises(InputTypeError, match=r"end=3\.0"):
        Linear(0.5, 3.0)
