"""Diagonal systems: closed forms of norms, discretisation, pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmine.exceptions import InputError
from sigmine_nn.state_space import DiagonalSystem
from sigmine_nn.state_space.systems import conjugate_pairs, discretize
from tests import naive_state


def system(n: int = 5, seed: int = 0, directions: int = 1, **options: object) -> DiagonalSystem:
    """A system with random eigenvalues, of all angles and of moduli between 0.1 and 0.99."""
    rng = np.random.default_rng(seed)
    modulus, angle = rng.uniform(0.1, 0.99, n), rng.uniform(-math.pi, math.pi, n)
    inputs = rng.normal(size=(n, 3)) + 1j * rng.normal(size=(n, 3))
    outputs = rng.normal(size=(directions, 2, n)) + 1j * rng.normal(size=(directions, 2, n))
    return DiagonalSystem(
        torch.from_numpy(modulus * np.exp(1j * angle)),
        torch.from_numpy(inputs),
        torch.from_numpy(outputs),
        **options,  # type: ignore[arg-type]
    )


def parts(found: DiagonalSystem, i: int) -> tuple[complex, list[complex], list[complex]]:
    columns = found.outputs[:, :, i].reshape(-1).tolist()
    return complex(found.eigenvalues[i]), found.inputs[i].tolist(), columns


# -- Norms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", [1, 2])
def test_h_infinity_is_the_largest_of_a_frequency_sweep(directions: int) -> None:
    found = system(4, directions=directions)
    gain = found.gain()
    for i in range(4):
        swept = naive_state.swept_gain(*parts(found, i))
        assert swept == pytest.approx(float(gain[i]), rel=1e-3)
        assert swept <= float(gain[i]) * (1 + 1e-12)


def test_h_infinity_is_attained_at_the_angle_of_the_eigenvalue() -> None:
    found = system(6, seed=1)
    response = found.frequency_response(found.eigenvalues.angle())
    assert response.shape == (6, 6, 2, 3)
    own = response[torch.arange(6), torch.arange(6)]
    largest = torch.linalg.matrix_norm(own, ord=2)
    torch.testing.assert_close(largest, found.gain(), rtol=1e-12, atol=0)


def test_frequency_response_of_two_directions_stacks_the_outputs() -> None:
    found = system(2, seed=2, directions=2)
    z = complex(math.cos(0.7), math.sin(0.7))
    response = found.frequency_response(torch.tensor([0.7], dtype=torch.float64))[0]
    for i in range(2):
        value, row, column = parts(found, i)
        expected = np.outer(column, row) / (z - value)
        np.testing.assert_allclose(response[i].numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("horizon", [None, 1, 2, 7])
def test_h2_is_the_energy_of_the_impulse_response(horizon: int | None) -> None:
    found = system(5, seed=3)
    gain = found.gain("h2", horizon)
    for i in range(5):
        energy = naive_state.impulse_energy(*parts(found, i), n_steps=horizon or 4000)
        assert float(gain[i]) ** 2 == pytest.approx(energy, rel=1e-9)


@pytest.mark.parametrize("horizon", [1, 3, 64])
def test_finite_horizon_is_the_sum_over_the_steps(horizon: int) -> None:
    found = system(5, seed=4)
    gain = found.gain(horizon=horizon)
    for i in range(5):
        summed = naive_state.summed_gain(*parts(found, i), n_steps=horizon)
        assert float(gain[i]) == pytest.approx(summed, rel=1e-12)


def test_slow_states_are_exact_in_double_precision() -> None:
    modulus = 1.0 - 1e-9
    slow = DiagonalSystem(
        torch.tensor([modulus + 0j], dtype=torch.complex128),
        torch.ones(1, 1, dtype=torch.complex128),
        torch.ones(1, 1, 1, dtype=torch.complex128),
    )
    assert float(slow.gain()) == pytest.approx(1e9, rel=1e-6)
    assert float(slow.gain(horizon=100)) == pytest.approx(100.0, rel=1e-6)
    assert float(slow.gain("h2", horizon=100)) == pytest.approx(10.0, rel=1e-6)


def test_a_state_without_memory_has_the_gain_of_one_step() -> None:
    found = DiagonalSystem(
        torch.zeros(1, dtype=torch.complex128),
        2 * torch.ones(1, 1, dtype=torch.complex128),
        3 * torch.ones(1, 1, 1, dtype=torch.complex128),
    )
    for norm in ("hinf", "h2"):
        for horizon in (None, 1, 5):
            assert float(found.gain(norm, horizon)) == 6.0
    assert found.time_constants.tolist() == [0.0]


@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 200))
@settings(max_examples=30, deadline=None)
def test_longer_horizons_amplify_more_and_all_time_the_most(seed: int, horizon: int) -> None:
    found = system(4, seed=seed)
    for norm in ("hinf", "h2"):
        values = [found.amplification(norm, h) for h in (horizon, horizon + 1, None)]
        assert bool((values[0] <= values[1] * (1 + 1e-12)).all())
        assert bool((values[1] <= values[2] * (1 + 1e-12)).all())
    assert bool((found.amplification("h2") <= found.amplification()).all())


@pytest.mark.parametrize("value", [1.0, 1.5, -1.0, 1j, complex("nan")])
def test_unstable_states_are_refused(value: complex) -> None:
    found = system(3)
    found.eigenvalues[1] = value
    assert found.unstable().tolist() == [1]
    with pytest.raises(InputError, match="state 1 has an eigenvalue of modulus"):
        found.gain()


@pytest.mark.parametrize("horizon", [0, -3, 1.5])
def test_horizons_that_are_no_number_of_steps_are_refused(horizon: float) -> None:
    with pytest.raises((InputError, TypeError), match="horizon"):
        system().gain(horizon=horizon)  # type: ignore[arg-type]


def test_time_constants_are_the_steps_to_one_over_e() -> None:
    found = system(5, seed=5)
    for value, steps in zip(found.eigenvalues, found.time_constants, strict=True):
        assert abs(complex(value)) ** float(steps) == pytest.approx(1 / math.e)
    found.eigenvalues[:] = 1.1
    assert found.median_time_constant == math.inf


# -- From continuous to discrete ----------------------------------------------------------------


def test_zero_order_hold_is_the_integral_over_a_step() -> None:
    values = torch.tensor([-0.5 + 3j, -2.0, 0.0, -1e-9 + 0j], dtype=torch.complex128)
    steps = torch.tensor([0.3, 1.2, 0.7, 0.5], dtype=torch.float64)
    rows = torch.ones(4, 2, dtype=torch.complex128)
    eigenvalues, inputs = discretize(values, rows, steps)
    for i in range(4):
        power, factor = naive_state.zero_order_hold(complex(values[i]), float(steps[i]))
        assert complex(eigenvalues[i]) == pytest.approx(power, rel=1e-12)
        assert complex(inputs[i, 1]) == pytest.approx(factor, rel=1e-6)


def test_the_bilinear_transform_is_the_trapezoidal_rule() -> None:
    values = torch.tensor([-0.5 + 3j, -2.0, 0.0], dtype=torch.complex128)
    steps = torch.tensor([0.3, 1.2, 0.7], dtype=torch.float64)
    rows = torch.randn(3, 2, dtype=torch.complex128)
    eigenvalues, inputs = discretize(values, rows, steps, "bilinear")
    for i in range(3):
        power, factor = naive_state.trapezoidal(complex(values[i]), float(steps[i]))
        assert complex(eigenvalues[i]) == pytest.approx(power, rel=1e-12)
        assert complex(inputs[i, 1]) == pytest.approx(factor * complex(rows[i, 1]), rel=1e-12)


def test_gradients_pass_an_eigenvalue_of_zero() -> None:
    values = torch.tensor([0.0 + 0j, -1.0 + 1j], dtype=torch.complex128, requires_grad=True)
    rows = torch.ones(2, 1, dtype=torch.complex128)
    eigenvalues, inputs = discretize(values, rows, torch.tensor(0.5, dtype=torch.float64))
    (eigenvalues.abs().sum() + inputs.abs().sum()).backward()
    assert values.grad is not None
    assert bool(torch.isfinite(torch.view_as_real(values.grad)).all())


def test_both_rules_agree_for_small_steps_and_other_rules_are_refused() -> None:
    values = torch.tensor([-0.5 + 3j], dtype=torch.complex128)
    rows, step = torch.ones(1, 1, dtype=torch.complex128), torch.tensor(1e-4, dtype=torch.float64)
    for a, b in zip(discretize(values, rows, step), discretize(values, rows, step, "bilinear"),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="euler"):
        discretize(values, rows, step, "euler")


# -- Pairs --------------------------------------------------------------------------------------


def test_conjugates_are_one_unit_in_any_order() -> None:
    values = torch.tensor([0.5 + 0.2j, 0.9, 0.1 - 0.3j, 0.5 - 0.2j, 0.1 + 0.3j])
    assert conjugate_pairs(values).tolist() == [[0, 3], [1, 1], [2, 4]]


def test_without_partners_every_state_is_a_unit() -> None:
    assert conjugate_pairs(torch.tensor([0.5 + 0.2j, 0.1 + 0.3j])).tolist() == [[0], [1]]
    assert conjugate_pairs(torch.tensor([0.5 + 0j, 0.5 + 0j])).tolist() == [[0], [1]]


def test_partners_may_drift_within_the_tolerance_only() -> None:
    near = torch.tensor([0.5 + 0.2j, 0.5 - 0.20002j])
    assert conjugate_pairs(near).tolist() == [[0, 1]]
    assert conjugate_pairs(near, tolerance=1e-6).tolist() == [[0], [1]]
    assert conjugate_pairs(torch.tensor([0.5 + 0.2j, 0.5 - 0.2002j])).tolist() == [[0], [1]]


def test_small_steps_do_not_make_strangers_partners() -> None:
    """All eigenvalues are within 1e-3 of 1 then; only those of one continuous pair belong."""
    rng = np.random.default_rng(0)
    continuous = -0.5 + 1j * rng.uniform(1, 30, 40)
    steps = 1e-5 * np.exp(rng.uniform(0, 1, 80))
    both = np.concatenate([continuous, continuous.conj()])
    strangers = torch.from_numpy(np.exp(both * steps))
    assert conjugate_pairs(strangers).shape == (80, 1)
    steps[40:] = steps[:40]
    partners = torch.from_numpy(np.exp(both * steps))
    assert conjugate_pairs(partners).tolist() == [[i, i + 40] for i in range(40)]


def test_real_eigenvalues_of_any_sign_have_no_partner() -> None:
    values = torch.tensor([0.0, -0.5, -0.5 + 1e-9j, 0.9, 0.0], dtype=torch.complex128)
    assert conjugate_pairs(values).shape == (5, 1)


@given(seed=st.integers(0, 10**6), n_pairs=st.integers(0, 6), n_real=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_state_is_in_exactly_one_unit(seed: int, n_pairs: int, n_real: int) -> None:
    rng = np.random.default_rng(seed)
    upper = rng.uniform(-0.7, 0.7, n_pairs) + 1j * rng.uniform(0.01, 0.7, n_pairs)
    values = np.concatenate([upper, upper.conj(), rng.uniform(-0.9, 0.9, n_real)])
    if len(values) == 0:
        return
    values = rng.permutation(values)
    members = conjugate_pairs(torch.from_numpy(values))
    assert sorted({i for row in members.tolist() for i in row}) == list(range(len(values)))
    assert len(members) == n_pairs + n_real
    for first, last in members[:, [0, -1]].tolist():
        if first != last:
            assert values[first] == pytest.approx(values[last].conj(), abs=1e-4)


def test_values_of_members_are_added_up_once() -> None:
    members = np.array([[0, 3], [1, 1], [2, 4]])
    found = system(5, conjugate=False, members=members)
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], dtype=torch.float64)
    assert found.of_units(values).tolist() == [9.0, 2.0, 20.0]
    assert found.of_units(values.repeat(2, 1)).shape == (2, 3)
    assert (found.n_states, found.n_units) == (5, 3)


# -- States on data -----------------------------------------------------------------------------


@pytest.mark.parametrize("directions", [1, 2])
def test_mean_squares_are_those_of_a_loop(directions: int) -> None:
    found = system(3, seed=6, directions=directions)
    sequences = torch.randn(2, 7, 3, dtype=torch.float64)
    values = found.mean_squares(sequences)
    for row, sequence in zip(values, sequences, strict=True):
        expected = naive_state.energies(
            found.eigenvalues.tolist(), found.inputs.tolist(), found.outputs.numpy(),
            sequence.tolist(),
        )  # fmt: skip
        np.testing.assert_allclose(row.numpy(), expected, rtol=1e-10)


def test_mean_squares_of_channels_see_their_own_feature_only() -> None:
    base = system(4, seed=7)
    channel = [0, 2, 2, 1]
    found = DiagonalSystem(
        base.eigenvalues, base.inputs[:, :1], base.outputs[:, :1], torch.tensor(channel)
    )
    sequences = torch.randn(2, 6, 3, dtype=torch.float64)
    for row, sequence in zip(found.mean_squares(sequences), sequences, strict=True):
        expected = naive_state.energies(
            found.eigenvalues.tolist(), found.inputs.tolist(), found.outputs.numpy(),
            sequence.tolist(), channel,
        )  # fmt: skip
        np.testing.assert_allclose(row.numpy(), expected, rtol=1e-10)
