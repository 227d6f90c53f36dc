"""Slow twins of state space models and their scores: plain loops over numbers, nothing of ours."""

import cmath
import math

import numpy as np

# -- One state ----------------------------------------------------------------------------------


def swept_gain(eigenvalue, row, column, n_angles=20_001):
    """The largest singular value of c b^T / (z - lambda) over points of the unit circle."""
    size = math.sqrt(sum(abs(v) ** 2 for v in row) * sum(abs(v) ** 2 for v in column))
    circle = (cmath.exp(2j * math.pi * k / n_angles) for k in range(n_angles))
    return max(size / abs(z - eigenvalue) for z in circle)


def impulse_energy(eigenvalue, row, column, n_steps):
    """The sum over steps of the squared Frobenius norm of c lambda^k b^T."""
    total, power = 0.0, 1.0 + 0.0j
    for _ in range(n_steps):
        total += sum(abs(c * power * b) ** 2 for c in column for b in row)
        power *= eigenvalue
    return total


def summed_gain(eigenvalue, row, column, n_steps):
    """||c|| ||b|| times the sum of |lambda|^k over the steps."""
    size = math.sqrt(sum(abs(v) ** 2 for v in row) * sum(abs(v) ** 2 for v in column))
    return size * sum(abs(eigenvalue) ** k for k in range(n_steps))


def zero_order_hold(eigenvalue, step, n_parts=20_000):
    """exp(a h), and the integral of exp(a t) from 0 to h by the midpoint rule."""
    width = step / n_parts
    total = sum(cmath.exp(eigenvalue * (k + 0.5) * width) for k in range(n_parts)) * width
    return cmath.exp(eigenvalue * step), total


def trapezoidal(eigenvalue, step):
    """lambda and the factor of b from x1 - x0 = h (a (x0 + x1) / 2 + b u)."""
    left = 1.0 - step * eigenvalue / 2.0
    return (1.0 + step * eigenvalue / 2.0) / left, step / left


def legs_normal(n):
    """The normal part of the HiPPO-LegS matrix: A + P P^T with P_i = sqrt(i + 1/2)."""
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i > j:
                out[i, j] = -math.sqrt((2 * i + 1) * (2 * j + 1))
            elif i == j:
                out[i, j] = -(i + 1)
            out[i, j] += math.sqrt(i + 0.5) * math.sqrt(j + 0.5)
    return out


# -- Whole systems ------------------------------------------------------------------------------


def states(eigenvalues, inputs, sequence, channel=None, backward=False):
    """x_k of one sequence, shape (length, n)."""
    length, n = len(sequence), len(eigenvalues)
    found = np.zeros((length, n), dtype=complex)
    state = [0j] * n
    for k in reversed(range(length)) if backward else range(length):
        for i in range(n):
            if channel is None:
                driven = sum(inputs[i][j] * sequence[k][j] for j in range(len(sequence[k])))
            else:
                driven = inputs[i][0] * sequence[k][channel[i]]
            state[i] = eigenvalues[i] * state[i] + driven
        found[k] = state
    return found


def response(eigenvalues, inputs, outputs, factor, sequence, channel=None):
    """f Re(C x_k) of one sequence, shape (length, n_outputs), over all directions."""
    n_outputs = len(sequence[0]) if channel is not None else outputs.shape[1]
    y = np.zeros((len(sequence), n_outputs))
    for direction, columns in enumerate(outputs):
        x = states(eigenvalues, inputs, sequence, channel, backward=direction == 1)
        for k in range(len(sequence)):
            for i in range(len(eigenvalues)):
                if channel is None:
                    for o in range(n_outputs):
                        y[k, o] += factor * (columns[o, i] * x[k, i]).real
                else:
                    y[k, channel[i]] += factor * (columns[0, i] * x[k, i]).real
    return y


def energies(eigenvalues, inputs, outputs, sequence, channel=None):
    """The mean over the steps of |x|^2 times ||c||^2 of every state, over all directions."""
    found = [0.0] * len(eigenvalues)
    for direction, columns in enumerate(outputs):
        x = states(eigenvalues, inputs, sequence, channel, backward=direction == 1)
        for i in range(len(eigenvalues)):
            size = sum(abs(c) ** 2 for c in columns[:, i])
            found[i] += size * sum(abs(v) ** 2 for v in x[:, i]) / len(sequence)
    return found


# -- The ranking --------------------------------------------------------------------------------


def last_scores(layers):
    """Each score over the sum of itself and all larger ones of its layer; ties by index."""
    found = []
    for scores in layers:
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        out, total = [0.0] * len(scores), 0.0
        for i in order:
            total += scores[i]
            out[i] = scores[i] / total if total else 0.0
        found.append(out)
    return found


def kept(layers, n_keep):
    """Which states of every layer are among the best n_keep of all; ties by layer and index."""
    places = [(a, i) for a, scores in enumerate(layers) for i in range(len(scores))]
    best = sorted(places, key=lambda p: -layers[p[0]][p[1]])[:n_keep]
    return [[(a, i) in best for i in range(len(scores))] for a, scores in enumerate(layers)]
