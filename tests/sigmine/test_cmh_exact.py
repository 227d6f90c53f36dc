"""The exact conditional test: scipy, values of R, exact fractions at any depth, brute force."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sigmine._jit import JIT_ENABLED
from sigmine.association import cmh_exact
from sigmine.exceptions import InputError
from tests import naive, strategies

ALTERNATIVES = ("two-sided", "greater", "less")
KINDS = [
    ("two-sided", "central"),
    ("two-sided", "minlike"),
    ("greater", "central"),
    ("less", "central"),
]
kinds = pytest.mark.parametrize(("alternative", "two_sided"), KINDS)
FEWER = 1 if JIT_ENABLED else 5  # how many times fewer cases without compiled kernels


def named(kind):
    return {"alternative": kind[0], "two_sided": kind[1]}


def counts_of(tables):
    """(support, cases, sizes, case_sizes) of tables [[carrier cases, controls], [other ...]]."""
    tables = np.asarray(tables)
    return (
        tables[:, 0].sum(axis=-1),
        tables[:, 0, 0].sum(),
        tables.sum(axis=(1, 2)),
        tables[:, :, 0].sum(axis=-1),
    )


# ---------------------------------------------------------------------------------------------
# Other programs
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [5, 20, 100])
def test_one_stratum_is_scipys_fisher_exact_to_the_digit(largest):
    rng = np.random.default_rng(largest)
    for _ in range(150 // FEWER):
        table = rng.integers(0, largest, (2, 2))
        args = counts_of([table])
        for alternative in ALTERNATIVES:
            expected = stats.fisher_exact(table, alternative=alternative).pvalue
            found = cmh_exact.pvalue(*args, alternative=alternative, two_sided="minlike")
            assert found == pytest.approx(expected, rel=1e-12)
        smaller = min(stats.fisher_exact(table, alternative=a).pvalue for a in ("greater", "less"))
        assert cmh_exact.pvalue(*args) == pytest.approx(min(1.0, 2 * smaller), rel=1e-12)


# p-values of R's fisher.test(table), 16 digits, as listed in TestFisherExact.test_precise of
# scipy/stats/tests/test_stats.py; the last three from test_gh4130 there.
FISHER_IN_R = [
    ([[100, 2], [1000, 5]], 1.300759363430016e-01),
    ([[2, 7], [8, 2]], 2.301413756522114e-02),
    ([[5, 1], [10, 10]], 1.973244147157190e-01),
    ([[5, 15], [20, 20]], 9.580440012477637e-02),
    ([[5, 16], [20, 25]], 1.725864953812994e-01),
    ([[10, 5], [10, 1]], 1.973244147157190e-01),
    ([[10, 5], [10, 0]], 6.126482213438734e-02),
    ([[5, 0], [1, 4]], 4.761904761904762e-02),
    ([[0, 5], [1, 4]], 1.0),
    ([[5, 1], [0, 4]], 4.761904761904758e-02),
    ([[0, 1], [3, 2]], 1.0),
    ([[6, 37], [108, 200]], 0.005092697748126),
    ([[22, 0], [0, 102]], 7.175066786244549e-25),
    ([[94, 48], [3577, 16988]], 2.069356340993818e-37),
]


@pytest.mark.parametrize(("table", "pvalue"), FISHER_IN_R)
def test_fisher_test_of_r(table, pvalue):
    found = cmh_exact.pvalue(*counts_of([table]), two_sided="minlike")
    assert found == pytest.approx(pvalue, rel=2e-13)


# R's fisher.test(table, alternative="less") and "greater", from test_less_greater there.
FISHER_SIDES_IN_R = [
    ([[2, 7], [8, 2]], 0.018521725952066501, 0.9990149169715733),
    ([[200, 7], [8, 300]], 1.0, 2.0056578803889148e-122),
    ([[28, 21], [6, 1957]], 1.0, 5.7284374608319831e-44),
]


@pytest.mark.parametrize(("table", "less", "greater"), FISHER_SIDES_IN_R)
def test_one_sided_fisher_test_of_r(table, less, greater):
    args = counts_of([table])
    assert cmh_exact.pvalue(*args, alternative="less") == pytest.approx(less, rel=1e-12)
    assert cmh_exact.pvalue(*args, alternative="greater") == pytest.approx(greater, rel=1e-12)


def test_several_strata_in_r():
    # The example of R's help page of mantelhaen.test (penicillin and rabbits, Agresti 1990), where
    # a comment gives p = 0.040 for mantelhaen.test(Rabbits, exact = TRUE) and p = 0.020 with
    # alternative = "greater".
    rabbits = [
        [[0, 0], [6, 5]],
        [[3, 0], [3, 6]],
        [[6, 2], [0, 4]],
        [[5, 6], [1, 0]],
        [[2, 5], [0, 0]],
    ]
    args = counts_of(rabbits)
    assert round(float(cmh_exact.pvalue(*args, two_sided="minlike")), 3) == 0.040
    assert round(float(cmh_exact.pvalue(*args, alternative="greater")), 3) == 0.020


# ---------------------------------------------------------------------------------------------
# Exact fractions
# ---------------------------------------------------------------------------------------------


@given(strategies.observations(max_size=12), st.sampled_from(KINDS), st.booleans())
def test_equal_to_the_twin(observation, kind, mid_p):
    x, a, n, n1 = observation
    exact = naive.exact_pvalue(x, sum(a), n, n1, **named(kind), mid_p=mid_p)
    found = cmh_exact.log_pvalue([x], [sum(a)], n, n1, **named(kind), mid_p=mid_p)[0]
    assert found == pytest.approx(naive.log_fraction(exact), rel=1e-11, abs=1e-12)
    assert cmh_exact.pvalue([x], [sum(a)], n, n1, **named(kind), mid_p=mid_p)[0] == pytest.approx(
        float(exact), rel=1e-11
    )
    assert cmh_exact.log10_pvalue([x], [sum(a)], n, n1, **named(kind), mid_p=mid_p)[
        0
    ] == pytest.approx(found / math.log(10), rel=1e-14)


@kinds
def test_p_and_mid_p_together(alternative, two_sided):
    rng = np.random.default_rng(3)
    n, n1 = [9, 12, 5], [4, 6, 2]
    x = np.array([rng.integers(0, np.array(n) + 1) for _ in range(30)]).reshape(5, 6, 3)
    a = np.array(
        [rng.choice(list(naive.attainable(row.tolist(), n, n1))) for row in x.reshape(-1, 3)]
    ).reshape(5, 6)
    options = {"alternative": alternative, "two_sided": two_sided}
    both = cmh_exact.log_pvalue_and_mid(x, a, n, n1, **options)
    for found, mid_p in zip(both, (False, True), strict=True):
        assert found.shape == (5, 6)
        np.testing.assert_array_equal(
            found, cmh_exact.log_pvalue(x, a, n, n1, **options, mid_p=mid_p)
        )
    assert (both[1] <= both[0]).all()


def test_mid_p_counts_all_outcomes_that_are_as_likely_by_half():
    # Law 1, 9, 9, 1 of 20: the two outcomes in the middle are equally likely, whichever is seen.
    for a, expected in ((0, 1 / 20), (1, 1 - 9 / 20), (2, 1 - 9 / 20), (3, 1 / 20)):
        found = cmh_exact.pvalue([[3]], [a], [6], [3], two_sided="minlike", mid_p=True)[0]
        assert found == pytest.approx(expected, rel=1e-12)
    # Three cases of four rows, two carriers: one outcome in two, both as likely.
    found = cmh_exact.pvalue([[2]], [1], [4], [3], two_sided="minlike", mid_p=True)[0]
    assert found == pytest.approx(0.5, rel=1e-12)


def draw_large(rng, n_strata, size, where):
    """(x, a, n, n1) with large strata; `where` says how far out a is."""
    n = rng.integers(size // 2, size + 1, n_strata)
    n1 = np.clip((n * rng.uniform(0.02, 0.98, n_strata)).astype(int), 1, n - 1)
    x = np.clip((n * rng.uniform(0.02, 0.98, n_strata)).astype(int), 1, n - 1)
    values = naive.attainable(x.tolist(), n.tolist(), n1.tolist())
    last = len(values) - 1
    index = {
        "low": int(rng.integers(0, 4)),
        "high": last - int(rng.integers(0, 4)),
        "anywhere": int(rng.integers(0, last + 1)),
        "middle": round(float((x * n1 / n).sum())) - values[0] + int(rng.integers(-3, 4)),
    }[where]
    return x.tolist(), values[min(max(index, 0), last)], n.tolist(), n1.tolist()


@kinds
@pytest.mark.parametrize("where", ["low", "high", "anywhere", "middle"])
@pytest.mark.parametrize(("n_strata", "size"), [(1, 60), (3, 100), (5, 300), (1, 2000)])
def test_accurate_at_every_depth(n_strata, size, where, alternative, two_sided):
    rng = np.random.default_rng([n_strata, size, len(where)])
    for _ in range(6 if size < 1000 and JIT_ENABLED else 2):
        x, a, n, n1 = draw_large(rng, n_strata, size, where)
        options = {"alternative": alternative, "two_sided": two_sided}
        exact = naive.exact_pvalue(x, a, n, n1, **options)
        found = cmh_exact.log_pvalue([x], [a], n, n1, **options)[0]
        if exact < Fraction(1, 2):  # the relative error of p
            assert found == pytest.approx(naive.log_fraction(exact), abs=5e-12)
        else:  # of 1 - p
            assert -math.expm1(found) == pytest.approx(float(1 - exact), rel=1e-10, abs=1e-13)


@kinds
@pytest.mark.parametrize("n_strata", [1, 2, 6])
def test_thousands_of_digits(n_strata, alternative, two_sided):
    # Perfect association but for one or three rows: p below 10^-2800, far below any double.
    size = 12_000 // n_strata
    n, n1 = [size] * n_strata, [size // 2] * n_strata
    x = [size // 2] * n_strata
    wrong = 1 if n_strata == 1 else 3
    a = wrong if alternative == "less" else sum(n1) - wrong
    # By hand: the tail is a sum over few misplaced rows; the other end mirrors it.
    per_stratum = [math.comb(size // 2, i) ** 2 for i in range(wrong + 1)]
    ways = [1] + [0] * wrong
    for _ in range(n_strata):
        ways = [
            sum(ways[i] * per_stratum[total - i] for i in range(total + 1))
            for total in range(wrong + 1)
        ]
    tail = Fraction(sum(ways), math.comb(size, size // 2) ** n_strata)
    exact = tail if alternative != "two-sided" else 2 * tail
    found = cmh_exact.log_pvalue([x], [a], n, n1, alternative=alternative, two_sided=two_sided)[0]
    assert found == pytest.approx(naive.log_fraction(exact), rel=1e-13)
    log10 = cmh_exact.log10_pvalue([x], [a], n, n1, alternative=alternative, two_sided=two_sided)
    assert log10[0] == pytest.approx(naive.log_fraction(exact) / math.log(10), rel=1e-13)
    assert log10[0] < -2800
    assert cmh_exact.pvalue([x], [a], n, n1, alternative=alternative)[0] == 0.0
    # The smallest of all is at the very end.
    least = Fraction(1, math.comb(size, size // 2) ** n_strata)
    least *= 1 if alternative != "two-sided" else 2
    options = {"alternative": alternative, "two_sided": two_sided}
    for function in (cmh_exact.minimum_log_pvalue, cmh_exact.minimum_log_pvalue_bound):
        value = function([x], n, n1, **options)[0]
        bound_of_minlike = function is cmh_exact.minimum_log_pvalue_bound and two_sided == "minlike"
        slack = math.log(2) if bound_of_minlike else 0.0
        assert value == pytest.approx(naive.log_fraction(least) - slack, rel=1e-13)


def test_between_1e_minus_300_and_the_smallest_double():
    n, n1, x = [1040], [520], [520]
    for a in (519, 518, 517):
        exact = naive.exact_pvalue(x, a, n, n1)
        assert Fraction(1, 10**310) < exact < Fraction(1, 10**295)
        assert cmh_exact.log10_pvalue([x], [a], n, n1)[0] == pytest.approx(
            naive.log_fraction(exact) / math.log(10), rel=1e-14
        )


def test_millions_of_rows():
    # phyper(18999, 99000, 110000, 39000, lower.tail = FALSE) = 1.701815e-09 in R (docstring of
    # TestFisherExact in scipy/stats/tests/test_stats.py).
    args = ([[39_000]], [19_000], [209_000], [99_000])
    assert cmh_exact.pvalue(*args, alternative="greater")[0] == pytest.approx(
        1.701815e-09, rel=1e-6
    )
    # A table on which scipy once needed minutes: gh-9231 there; R gives a p-value below 1e-170.
    x, a = 5829225 + 5692693, 5829225
    n, n1 = x + 2 * 5760959, 5829225 + 5760959
    log_p = cmh_exact.log_pvalue([[x]], [a], [n], [n1], two_sided="minlike")[0]
    expected = stats.hypergeom(n, n1, x).logsf(a - 1)
    assert log_p / math.log(10) < -170
    assert cmh_exact.log_pvalue([[x]], [a], [n], [n1], alternative="greater")[0] == pytest.approx(
        expected, rel=1e-6
    )


# ---------------------------------------------------------------------------------------------
# The level is kept, exactly
# ---------------------------------------------------------------------------------------------


@kinds
def test_the_null_probability_of_p_at_most_t_is_at_most_t(alternative, two_sided):
    rng = np.random.default_rng(10)
    options = {"alternative": alternative, "two_sided": two_sided}
    for _ in range(80 // FEWER):
        k = int(rng.integers(1, 5))
        n = rng.integers(1, 10, k)
        n1 = np.array([rng.integers(0, v + 1) for v in n])
        x = np.array([rng.integers(0, v + 1) for v in n])
        margins = (x.tolist(), n.tolist(), n1.tolist())
        law = naive.null_counts(*map(tuple, margins))
        values = list(naive.attainable(*margins))
        p = cmh_exact.pvalue(np.tile(x, (len(values), 1)), values, n, n1, **options)
        assert ((p > 0) & (p <= 1)).all()
        for t in p:
            chance = Fraction(
                sum(count for count, other in zip(law, p, strict=True) if other <= t * (1 + 1e-9)),
                sum(law),
            )
            assert chance <= Fraction(float(t)) * (1 + Fraction(1, 10**6))


# ---------------------------------------------------------------------------------------------
# Degenerate and bad input
# ---------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize(
    ("x", "a", "n", "n1"),
    [
        ((0,), 0, (6,), (3,)),
        ((6,), 3, (6,), (3,)),
        ((2,), 2, (4,), (4,)),
        ((2,), 0, (4,), (0,)),
        ((1, 0), 1, (1, 1), (1, 0)),
        ((0,), 0, (0,), (0,)),
        ((0, 5, 1), 1, (0, 5, 1), (0, 1, 0)),
    ],
)
def test_tables_that_say_nothing(x, a, n, n1, alternative, two_sided):
    options = {"alternative": alternative, "two_sided": two_sided}
    assert cmh_exact.pvalue([x], [a], n, n1, **options)[0] == 1.0
    assert cmh_exact.log_pvalue([x], [a], n, n1, **options)[0] == 0.0
    assert cmh_exact.minimum_pvalue([x], n, n1, **options)[0] == 1.0
    # One outcome in all, seen: it counts by half; the central two-sided p-value doubles it again.
    mid = cmh_exact.pvalue([x], [a], n, n1, **options, mid_p=True)[0]
    central = (alternative, two_sided) == ("two-sided", "central")
    assert mid == pytest.approx(1.0 if central else 0.5)


@kinds
def test_strata_that_say_nothing_change_nothing(alternative, two_sided):
    options = {"alternative": alternative, "two_sided": two_sided}
    alone = ([[4, 5]], [6], [10, 12], [5, 6])
    more = ([[0, 4, 3, 5, 1, 2]], [10], [0, 10, 3, 12, 1, 2], [0, 5, 3, 6, 1, 0])
    np.testing.assert_allclose(
        cmh_exact.log_pvalue(*alone, **options), cmh_exact.log_pvalue(*more, **options), rtol=1e-12
    )
    for function in (cmh_exact.minimum_log_pvalue, cmh_exact.minimum_log_pvalue_bound):
        np.testing.assert_allclose(
            function(alone[0], *alone[2:], **options),
            function(more[0], *more[2:], **options),
            rtol=1e-12,
        )


def test_every_leading_shape():
    x = np.array([[[3, 2], [1, 4]], [[0, 0], [5, 5]], [[2, 2], [4, 1]]])
    a = np.array([[3, 2], [0, 6], [2, 3]])
    n, n1 = [8, 9], [4, 5]
    whole = cmh_exact.pvalue(x, a, n, n1)
    assert whole.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        assert whole[i, j] == cmh_exact.pvalue(x[i, j], a[i, j], n, n1)
    assert cmh_exact.minimum_pvalue(x, n, n1).shape == (3, 2)
    assert cmh_exact.pvalue(np.zeros((0, 2)), np.zeros(0), n, n1).shape == (0,)
    np.testing.assert_array_equal(
        cmh_exact.pvalue([[3, 2], [2, 3]], 3, n, n1),
        [cmh_exact.pvalue([3, 2], 3, n, n1), cmh_exact.pvalue([2, 3], 3, n, n1)],
    )


BAD = {
    "no strata": ((np.zeros((1, 0)), [0], [], []), "sizes"),
    "margins of different lengths": (([[3, 1]], [1], [6, 4], [3]), "case_sizes"),
    "more cases than rows": (([[3]], [1], [6], [7]), "case_sizes"),
    "a size that is no whole number": (([[3]], [1], [6.5], [3]), "sizes"),
    "a size of nan": (([[3]], [1], [np.nan], [3]), "sizes"),
    "support of another length": (([[3, 1]], [1], [6], [3]), r"support has shape \(1, 2\)"),
    "support above the size": (([[7]], [1], [6], [3]), "support"),
    "cases of another shape": (([[3], [3]], [1, 1, 1], [6], [3]), "cases"),
    "more cases than carriers": (([[2]], [3], [6], [3]), "cases"),
    "more controls among carriers than controls": (([[5]], [1], [6], [3]), "cases"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    args, message = BAD[name]
    for function in (cmh_exact.log_pvalue, cmh_exact.pvalue, cmh_exact.log_pvalue_and_mid):
        with pytest.raises(InputError, match=message):
            function(*args)
    if message != "cases":
        for function in (cmh_exact.minimum_pvalue, cmh_exact.minimum_log_pvalue_bound):
            with pytest.raises(InputError, match=message):
                function(args[0], *args[2:])


def test_unknown_names():
    for function, args in (
        (cmh_exact.pvalue, ([[3]], [2], [6], [3])),
        (cmh_exact.minimum_pvalue, ([[3]], [6], [3])),
    ):
        with pytest.raises(InputError, match=r"alternative='two\.sided' is not known"):
            function(*args, alternative="two.sided")
        with pytest.raises(InputError, match="two_sided='fisher' is not known"):
            function(*args, two_sided="fisher")


# ---------------------------------------------------------------------------------------------
# Minimum and bound: brute force
# ---------------------------------------------------------------------------------------------


def minima_of_the_grid(n, n1, kind):
    """Return every x in 0..n_k and the twin's smallest log p-value for it, over all outcomes."""
    x = list(itertools.product(*(range(n_k + 1) for n_k in n)))
    setting = ("exact", *kind, "mantel-haenszel")
    return np.array(x), np.array([naive.minimum_log_pvalue(row, n, n1, setting) for row in x])


@kinds
def test_minimum_and_bound_over_the_whole_box(alternative, two_sided):
    rng = np.random.default_rng(7)
    options = {"alternative": alternative, "two_sided": two_sided}
    n_boxes = lower = 0
    for _ in range(100 // FEWER):
        k = int(rng.integers(1, 5))
        n = tuple(int(v) for v in rng.integers(1, {1: 40, 2: 12, 3: 6, 4: 4}[k], k))
        n1 = tuple(int(rng.integers(0, v + 1)) for v in n)
        x, least = minima_of_the_grid(n, n1, (alternative, two_sided))
        np.testing.assert_allclose(
            cmh_exact.minimum_log_pvalue(x, n, n1, **options), least, rtol=1e-11, atol=1e-12
        )
        box = least.reshape([n_k + 1 for n_k in n])
        for axis in range(k):
            box = np.minimum.accumulate(box, axis=axis)
        bound = cmh_exact.minimum_log_pvalue_bound(x, n, n1, **options)
        n_boxes += len(x)
        if two_sided == "central":
            np.testing.assert_allclose(bound, box.ravel(), rtol=1e-11, atol=1e-12)
        else:  # lower where both ends are as likely, by log 2 at most
            assert (bound <= box.ravel() + 1e-11).all()
            assert (bound >= box.ravel() - math.log(2) - 1e-11).all()
            lower += int((bound < box.ravel() - 1e-9).sum())
    assert n_boxes > 5_000 // FEWER
    if two_sided == "minlike":
        assert 0 < lower < n_boxes / 2


@settings(max_examples=30)
@given(strategies.supports(max_strata=3, max_size=5), st.sampled_from(KINDS))
def test_bound_is_that_of_the_twin(margins, kind):
    x, n, n1 = margins
    expected = naive.minimum_log_pvalue_bound(x, n, n1, ("exact", *kind, "mantel-haenszel"))
    found = cmh_exact.minimum_log_pvalue_bound([x], n, n1, **named(kind))[0]
    if kind == ("two-sided", "minlike"):
        assert expected - math.log(2) - 1e-11 <= found <= expected + 1e-11
    else:
        assert found == pytest.approx(expected, rel=1e-11, abs=1e-12)
    assert cmh_exact.minimum_pvalue_bound([x], n, n1, **named(kind))[0] == pytest.approx(
        math.exp(found)
    )


def test_extreme_tables_are_ratios_of_binomials():
    sizes, case_sizes = [7, 1, 12, 0, 5, 5], [3, 1, 11, 0, 0, 5]
    tables, offset = cmh_exact.extreme_tables(
        np.array(sizes, dtype=float), np.array(case_sizes, dtype=float)
    )
    assert tables.shape == (2, sum(sizes) + len(sizes))
    for k, (n, n1) in enumerate(zip(sizes, case_sizes, strict=True)):
        for row, cases in ((0, n1), (1, n - n1)):
            for x in range(n + 1):
                if x <= cases:
                    ratio = Fraction(math.comb(cases, x), math.comb(n, x))
                else:
                    ratio = Fraction(math.comb(x, cases), math.comb(n, cases))
                assert tables[row, offset[k] + x] == pytest.approx(
                    -naive.log_fraction(ratio), rel=1e-13, abs=1e-15
                )


# ---------------------------------------------------------------------------------------------
# Theorems
# ---------------------------------------------------------------------------------------------


@given(strategies.observations(max_size=12), st.sampled_from(KINDS))
def test_no_table_goes_below_the_minimum(observation, kind):
    x, a, n, n1 = observation
    logp = cmh_exact.log_pvalue([x], [sum(a)], n, n1, **named(kind))[0]
    assert cmh_exact.minimum_log_pvalue([x], n, n1, **named(kind))[0] <= logp + 1e-11


@given(strategies.supports(max_size=12), st.sampled_from(KINDS), st.data())
def test_no_superset_goes_below_the_bound(margins, kind, data):
    x, n, n1 = margins
    smaller = tuple(data.draw(st.integers(0, x_k)) for x_k in x)
    bound = cmh_exact.minimum_log_pvalue_bound([x], n, n1, **named(kind))[0]
    assert bound <= cmh_exact.minimum_log_pvalue([smaller], n, n1, **named(kind))[0] + 1e-11
    assert bound <= cmh_exact.minimum_log_pvalue_bound([smaller], n, n1, **named(kind))[0] + 1e-11


@given(strategies.observations(max_size=12), st.sampled_from(["central", "minlike"]), st.randoms())
def test_invariances(observation, two_sided, random):
    x, a, n, n1 = (np.array(part) for part in observation)
    total = a.sum()

    def p(alternative, *args):
        return cmh_exact.log_pvalue(*args, two_sided=two_sided, alternative=alternative)[0]

    same = {"rel": 1e-10, "abs": 1e-12}
    order = list(range(len(n)))
    random.shuffle(order)
    here = ([x], [total], n, n1)
    shuffled = ([x[order]], [total], n[order], n1[order])
    transposed = ([n1], [total], n, x)  # carriers and cases change places
    for alternative in ALTERNATIVES:
        assert p(alternative, *shuffled) == pytest.approx(p(alternative, *here), **same)
        assert p(alternative, *transposed) == pytest.approx(p(alternative, *here), **same)
    swapped_classes = ([x], [x.sum() - total], n, n - n1)
    complement = ([n - x], [n1.sum() - total], n, n1)
    for other in (swapped_classes, complement):
        assert p("two-sided", *other) == pytest.approx(p("two-sided", *here), **same)
        assert p("greater", *other) == pytest.approx(p("less", *here), **same)
        assert p("less", *other) == pytest.approx(p("greater", *here), **same)


@given(strategies.observations(max_size=12))
def test_sides_hang_together(observation):
    x, a, n, n1 = observation
    args = ([x], [sum(a)], n, n1)
    greater = cmh_exact.pvalue(*args, alternative="greater")[0]
    less = cmh_exact.pvalue(*args, alternative="less")[0]
    assert greater + less >= 1 - 1e-12  # both count the observed outcome
    central = cmh_exact.pvalue(*args)[0]
    assert central == pytest.approx(min(1.0, 2 * min(greater, less)), rel=1e-12)
    minlike = cmh_exact.pvalue(*args, two_sided="minlike")[0]
    assert minlike >= min(greater, less) * (1 - 1e-12)
    mid = [cmh_exact.pvalue(*args, alternative=side, mid_p=True)[0] for side in ("greater", "less")]
    assert sum(mid) == pytest.approx(1.0, rel=1e-12)  # the observed outcome once in all


# ---------------------------------------------------------------------------------------------
# The bound in closed form
# ---------------------------------------------------------------------------------------------


@given(strategies.observations(max_size=12), st.sampled_from(["two-sided", "greater", "less"]))
def test_no_pvalue_is_above_its_ceiling(observation, alternative):
    x, a, n, n1 = observation
    args = ([x], [sum(a)], n, n1)
    ceiling = cmh_exact.log_pvalue_ceiling(*args, alternative=alternative)[0]
    assert ceiling <= 0.0
    assert cmh_exact.log_pvalue(*args, alternative=alternative)[0] <= ceiling + 1e-12


def test_the_ceiling_settles_clear_cases():
    args = ([[60, 50]], [95], [400, 300], [200, 100])
    for alternative in ("two-sided", "greater"):
        exact = cmh_exact.log_pvalue(*args, alternative=alternative)[0]
        assert exact < -20
        assert (
            exact <= cmh_exact.log_pvalue_ceiling(*args, alternative=alternative)[0] < 0.8 * exact
        )
    # It says nothing against the direction, nor about tails that a definition adds from outside.
    assert cmh_exact.log_pvalue_ceiling(*args, alternative="less")[0] == 0.0
    assert cmh_exact.log_pvalue_ceiling(*args, two_sided="minlike")[0] == 0.0
