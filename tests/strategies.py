"""Hypothesis strategies and seeded generators of small cases that the tests share.

Cases are small enough for the slow twins and drawn to hit the corners: strata of one row, strata
with one class, empty patterns, constant and duplicated columns, ties.
"""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

METHOD_SETTINGS = [
    ("exact", "two-sided", "central", "mantel-haenszel"),
    ("exact", "two-sided", "minlike", "mantel-haenszel"),
    ("exact", "greater", "central", "mantel-haenszel"),
    ("exact", "less", "central", "mantel-haenszel"),
    ("asymptotic", "two-sided", "central", "mantel-haenszel"),
    ("asymptotic", "two-sided", "central", "cochran"),
    ("asymptotic", "greater", "central", "mantel-haenszel"),
    ("asymptotic", "less", "central", "cochran"),
]
"""Every (method, alternative, two_sided, variance) that differs, in the order of the twins."""


@st.composite
def margins(draw, max_strata=5, max_size=10, informative=False):
    """(sizes, case_sizes): tuples of n_k >= 1 and 0 <= n1_k <= n_k.

    `informative` keeps at least one case and one control in every stratum.
    """
    n_strata = draw(st.integers(1, max_strata))
    sizes, case_sizes = [], []
    for _ in range(n_strata):
        n = draw(st.integers(2 if informative else 1, max_size))
        low, high = (1, n - 1) if informative else (0, n)
        sizes.append(n)
        case_sizes.append(draw(st.integers(low, high)))
    return tuple(sizes), tuple(case_sizes)


@st.composite
def supports(draw, max_strata=5, max_size=10, informative=False):
    """(x, sizes, case_sizes), with x_k anywhere in 0..n_k."""
    sizes, case_sizes = draw(margins(max_strata, max_size, informative))
    x = tuple(draw(st.integers(0, n)) for n in sizes)
    return x, sizes, case_sizes


@st.composite
def observations(draw, max_strata=5, max_size=10, informative=False):
    """(x, a, sizes, case_sizes), with a_k attainable in every stratum (tuples of length K)."""
    x, sizes, case_sizes = draw(supports(max_strata, max_size, informative))
    a = tuple(
        draw(st.integers(max(0, x_k - (n - n1)), min(x_k, n1)))
        for x_k, n, n1 in zip(x, sizes, case_sizes, strict=True)
    )
    return x, a, sizes, case_sizes


def tables(max_strata=6, max_count=30, min_count=0):
    """Integer arrays of shape (K, 2, 2)."""
    return st.integers(1, max_strata).flatmap(
        lambda k: hnp.arrays(np.int64, (k, 2, 2), elements=st.integers(min_count, max_count))
    )


@st.composite
def mining_cases(draw, max_rows=24, max_items=6, max_strata=4):
    """(matrix, y, strata): bool (n, p), bool (n,), int64 (n,), with one informative stratum."""
    n = draw(st.integers(2, max_rows))
    p = draw(st.integers(1, max_items))
    n_strata = draw(st.integers(1, max_strata))
    matrix = draw(hnp.arrays(np.bool_, (n, p)))
    y = draw(hnp.arrays(np.bool_, n))
    strata = draw(hnp.arrays(np.int64, n, elements=st.integers(0, n_strata - 1)))
    y[:2] = (True, False)
    strata[:2] = 0
    return matrix, y, strata


def tied_scores(min_size=1, max_size=60, levels=5):
    """Float arrays with few distinct values, both zeros and infinities among them."""
    values = [-np.inf, -1.5, -0.0, 0.0, 0.25, 1.0, np.inf][: levels + 2]
    return st.lists(st.sampled_from(values), min_size=min_size, max_size=max_size).map(np.array)


def pvalue_arrays(min_size=1, max_size=60):
    """p-values in [0, 1] with ties and tiny values."""
    element = st.one_of(
        st.sampled_from([0.0, 1e-300, 1e-5, 0.001, 0.01, 0.0125, 0.02, 0.025, 0.05, 0.5, 1.0]),
        st.floats(0.0, 1.0, allow_subnormal=False),
    )
    return st.lists(element, min_size=min_size, max_size=max_size).map(np.array)


def random_case(rng, n_rows=30, n_items=6, n_strata=3, density=0.5, effect=0.0, corners=True):
    """Return (matrix, y, strata) from a numpy Generator.

    `effect` (0 to 1) moves the case rate of the carriers of items 0 and 1 together; case rates
    differ between strata. `corners` sometimes adds a duplicate, an all-absent and an all-present
    column, and a stratum with one class.
    """
    strata = rng.integers(0, n_strata, n_rows)
    matrix = rng.random((n_rows, n_items)) < density
    rate = np.linspace(0.25, 0.75, n_strata)[strata] if n_strata > 1 else np.full(n_rows, 0.5)
    carriers = matrix[:, :2].all(axis=1)
    rate = np.where(carriers, rate + effect * (1 - rate), rate * (1 - effect / 2))
    y = rng.random(n_rows) < rate
    if corners:
        kind = rng.integers(0, 6)
        if kind == 0:
            matrix[:, -1] = matrix[:, 0]
        elif kind == 1:
            matrix[:, -1] = False
        elif kind == 2:
            matrix[:, -1] = True
        elif kind == 3 and n_strata > 1:
            y[strata == n_strata - 1] = True
    here = np.flatnonzero(strata == strata[0])
    if len(here) < 2:
        strata[(here[0] + 1) % n_rows] = strata[0]
        here = np.flatnonzero(strata == strata[0])
    y[here[0]], y[here[1]] = True, False
    return matrix, y, strata
