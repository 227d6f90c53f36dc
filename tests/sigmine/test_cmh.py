"""The asymptotic test: statsmodels, scipy, values of R, the slow twin, brute force over margins."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sigmine._jit import JIT_ENABLED
from sigmine.association import cmh
from sigmine.association.evidence import build_tables, minimum_evidences
from sigmine.exceptions import InputError
from sigmine.settings import SearchSettings
from tests import naive, strategies

VARIANCES = ("mantel-haenszel", "cochran")
ALTERNATIVES = ("two-sided", "greater", "less")
BOTH = list(itertools.product(VARIANCES, ALTERNATIVES))


def counts_of(tables):
    """(support, cases, sizes, case_sizes) of tables [[carrier cases, controls], [other ...]]."""
    tables = np.asarray(tables)
    return (
        tables[:, 0].sum(axis=-1),
        tables[:, 0, 0].sum(),
        tables.sum(axis=(1, 2)),
        tables[:, :, 0].sum(axis=-1),
    )


def random_tables(rng, largest=30):
    return rng.integers(0, largest, (int(rng.integers(1, 7)), 2, 2))


# ---------------------------------------------------------------------------------------------
# Other programs
# ---------------------------------------------------------------------------------------------


def test_equal_to_statsmodels():
    from statsmodels.stats.contingency_tables import StratifiedTable

    rng = np.random.default_rng(1)
    for _ in range(60):
        tables = rng.integers(1, 40, (int(rng.integers(2, 7)), 2, 2))
        expected = StratifiedTable([t.astype(float) for t in tables]).test_null_odds(
            correction=False
        )
        args = counts_of(tables)
        assert cmh.statistic(*args) == pytest.approx(expected.statistic, rel=1e-10)
        assert cmh.pvalue(*args) == pytest.approx(expected.pvalue, rel=1e-8)


def test_one_stratum_is_pearsons_test():
    rng = np.random.default_rng(2)
    for _ in range(100):
        table = rng.integers(1, 60, (2, 2))
        expected = stats.chi2_contingency(table, correction=False)
        args = counts_of([table])
        assert cmh.statistic(*args, variance="cochran") == pytest.approx(
            expected.statistic, rel=1e-10
        )
        assert cmh.pvalue(*args, variance="cochran") == pytest.approx(expected.pvalue, rel=1e-9)
        n = table.sum()
        assert cmh.statistic(*args) == pytest.approx(expected.statistic * (n - 1) / n, rel=1e-10)


# Printed by R: mantelhaen.test(data), which corrects for continuity, in the docstrings and classes
# of statsmodels/stats/tests/test_contingency_tables.py. The first is also the example of R's help
# page of mantelhaen.test (Rabbits).
PRINTED_BY_R = {
    "TestStratified1": (
        [
            [[0, 0], [6, 5]],
            [[3, 0], [3, 6]],
            [[6, 2], [0, 4]],
            [[5, 6], [1, 0]],
            [[2, 5], [0, 0]],
        ],
        3.9286,
        0.04747,
    ),
    "TestStratified2": (
        [
            [[20, 14], [10, 24]],
            [[15, 12], [3, 15]],
            [[3, 2], [3, 2]],
            [[12, 3], [7, 5]],
            [[1, 0], [3, 2]],
        ],
        11.8852,
        0.0005658,
    ),
    "TestStratified3": (
        [
            [[313, 512], [19, 89]],
            [[207, 353], [8, 17]],
            [[205, 120], [391, 202]],
            [[278, 139], [244, 131]],
            [[138, 53], [299, 94]],
            [[351, 22], [317, 24]],
        ],
        1.3368,
        0.2476,
    ),
}


@pytest.mark.parametrize("name", PRINTED_BY_R)
def test_values_printed_by_r(name):
    # Ours has no correction: it is put in here, (|N| - 1/2)^2 in place of N^2.
    tables, statistic, pvalue = PRINTED_BY_R[name]
    x, a, n, n1 = counts_of(tables)
    deviation = abs(a - (x * n1 / n).sum())
    corrected = cmh.statistic(x, a, n, n1) * ((deviation - 0.5) / deviation) ** 2
    assert corrected == pytest.approx(statistic, abs=5.1e-5)  # as many digits as R prints
    assert stats.chi2.sf(corrected, 1) == pytest.approx(pvalue, rel=3e-4)


def test_example_by_hand():
    # 10 carriers of 20, 8 of them among the 10 cases: (8 - 5)^2 / (0.25 * 10 * 0.5) = 7.2.
    args = ([[10]], [8], [20], [10])
    assert cmh.statistic(*args, variance="cochran")[0] == pytest.approx(7.2, rel=1e-14)
    assert cmh.statistic(*args)[0] == pytest.approx(7.2 * 19 / 20, rel=1e-14)
    assert cmh.signed_root(*args, variance="cochran")[0] == pytest.approx(math.sqrt(7.2))
    assert cmh.signed_root([[10]], [2], [20], [10], variance="cochran")[0] == pytest.approx(
        -math.sqrt(7.2)
    )


# ---------------------------------------------------------------------------------------------
# The twin
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", VARIANCES)
@given(strategies.observations())
def test_equal_to_the_twin(variance, observation):
    x, a, n, n1 = observation
    expected = naive.cmh_statistic(x, sum(a), n, n1, variance)
    assert cmh.statistic([x], [sum(a)], n, n1, variance=variance)[0] == pytest.approx(
        expected, rel=1e-10, abs=1e-25
    )
    for alternative in ALTERNATIVES:
        options = {"variance": variance, "alternative": alternative}
        expected = naive.asymptotic_log_pvalue(x, sum(a), n, n1, **options)
        found = cmh.log_pvalue([x], [sum(a)], n, n1, **options)[0]
        # Near T = 0 the p-value has infinite slope in T: rounding of N counts by its root.
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-7)
        assert cmh.pvalue([x], [sum(a)], n, n1, **options)[0] == pytest.approx(math.exp(found))
        assert cmh.log10_pvalue([x], [sum(a)], n, n1, **options)[0] == pytest.approx(
            found / math.log(10), rel=1e-14
        )


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_accurate_far_below_the_smallest_double(alternative):
    for n in (2_000, 20_000, 200_000):  # perfect association: T = n or n - 1
        half = n // 2
        a = 0 if alternative == "less" else half
        args = ([[half]], [a], [n], [half])
        for variance, statistic in (("cochran", n), ("mantel-haenszel", n - 1)):
            options = {"alternative": alternative, "variance": variance}
            log_tail = naive.log_erfc(math.sqrt(statistic / 2)) - (
                0.0 if alternative == "two-sided" else math.log(2)
            )
            found = cmh.log_pvalue(*args, **options)[0]
            assert found == pytest.approx(log_tail, rel=1e-12)
            assert cmh.log10_pvalue(*args, **options)[0] == pytest.approx(
                log_tail / math.log(10), rel=1e-12
            )
            assert cmh.pvalue(*args, **options)[0] == pytest.approx(math.exp(log_tail))
            assert cmh.minimum_log_pvalue(args[0], *args[2:], **options)[0] == pytest.approx(
                log_tail, rel=1e-12
            )


def test_large_counts_do_not_overflow():
    n = 4_000_000_000  # the product of the margins of one stratum is far beyond 64 bits
    half, excess = n // 2, 100_000
    args = ([[half, half]], [half + excess], [n, n], [half, half])
    expected = excess**2 / (2 * n / 16)  # the variance of a stratum is n / 16
    assert cmh.statistic(*args, variance="cochran")[0] == pytest.approx(expected, rel=1e-9)


# ---------------------------------------------------------------------------------------------
# Degenerate tables
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variance", "alternative"), BOTH)
@pytest.mark.parametrize(
    ("x", "a", "n", "n1"),
    [
        ((0,), 0, (6,), (3,)),  # no carriers
        ((6,), 3, (6,), (3,)),  # only carriers
        ((2,), 2, (4,), (4,)),  # only cases
        ((2,), 0, (4,), (0,)),  # only controls
        ((1, 0), 1, (1, 1), (1, 0)),  # strata of one row
        ((0,), 0, (0,), (0,)),  # an empty stratum
        ((0, 5, 1), 1, (0, 5, 1), (0, 1, 0)),  # all of these
    ],
)
def test_tables_that_say_nothing(x, a, n, n1, variance, alternative):
    assert cmh.statistic([x], [a], n, n1, variance=variance)[0] == 0.0
    assert math.isnan(cmh.signed_root([x], [a], n, n1, variance=variance)[0])
    options = {"variance": variance, "alternative": alternative}
    assert cmh.pvalue([x], [a], n, n1, **options)[0] == 1.0
    assert cmh.log_pvalue([x], [a], n, n1, **options)[0] == 0.0
    assert cmh.log10_pvalue([x], [a], n, n1, **options)[0] == 0.0
    assert cmh.minimum_pvalue([x], n, n1, **options)[0] == 1.0
    assert cmh.minimum_log_pvalue([x], n, n1, **options)[0] == 0.0


@pytest.mark.parametrize(("variance", "alternative"), BOTH)
def test_strata_that_say_nothing_change_nothing(variance, alternative):
    options = {"variance": variance, "alternative": alternative}
    alone = ([[4, 5]], [6], [10, 12], [5, 6])
    more = ([[0, 4, 3, 5, 1, 2]], [10], [0, 10, 3, 12, 1, 2], [0, 5, 3, 6, 1, 0])
    for function in (cmh.statistic, cmh.log_pvalue):
        chosen = {"variance": variance} if function is cmh.statistic else options
        np.testing.assert_allclose(function(*alone, **chosen), function(*more, **chosen))
    for function in (cmh.minimum_log_pvalue, cmh.minimum_log_pvalue_bound):
        np.testing.assert_allclose(
            function(alone[0], *alone[2:], **options), function(more[0], *more[2:], **options)
        )


def test_every_leading_shape():
    x = np.array([[[3, 2], [1, 4]], [[0, 0], [5, 5]], [[2, 2], [4, 1]]])  # (3, 2, K)
    a = np.array([[3, 2], [0, 6], [2, 3]])
    n, n1 = [8, 9], [4, 5]
    whole = cmh.pvalue(x, a, n, n1)
    assert whole.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        assert whole[i, j] == cmh.pvalue(x[i, j], a[i, j], n, n1)
    assert cmh.minimum_pvalue(x, n, n1).shape == (3, 2)
    assert cmh.minimum_pvalue_bound(x[0, 0], n, n1).shape == ()
    assert cmh.pvalue(np.zeros((0, 2)), np.zeros(0), n, n1).shape == (0,)
    # One number of cases for all.
    np.testing.assert_array_equal(
        cmh.statistic([[3, 2], [2, 3]], 3, n, n1),
        [cmh.statistic([3, 2], 3, n, n1), cmh.statistic([2, 3], 3, n, n1)],
    )


BAD = {
    "no strata": ((np.zeros((1, 0)), [0], [], []), "sizes"),
    "margins of different lengths": (([[3, 1]], [1], [6, 4], [3]), "case_sizes"),
    "two-dimensional margins": (([[3]], [1], [[6]], [[3]]), "sizes"),
    "more cases than rows": (([[3]], [1], [6], [7]), "case_sizes"),
    "a negative size": (([[0]], [0], [-6], [-7]), "sizes"),
    "a negative number of cases": (([[0]], [0], [6], [-1]), "case_sizes"),
    "a size that is no whole number": (([[3]], [1], [6.5], [3]), "sizes"),
    "a case size that is no whole number": (([[3]], [1], [6], [2.5]), "case_sizes"),
    "a size of nan": (([[3]], [1], [np.nan], [3]), "sizes"),
    "an infinite size": (([[3]], [1], [np.inf], [3]), "sizes"),
    "support of another length": (([[3, 1]], [1], [6], [3]), r"support has shape \(1, 2\)"),
    "a number as support": ((3, 1, [6], [3]), r"support has shape \(\)"),
    "support above the size": (([[7]], [1], [6], [3]), "support"),
    "negative support": (([[-1]], [0], [6], [3]), "support"),
    "support that is no whole number": (([[2.5]], [1], [6], [3]), "support"),
    "support of nan": (([[np.nan]], [1], [6], [3]), "support"),
    "cases of another shape": (([[3], [3]], [1, 1, 1], [6], [3]), "cases"),
    "more cases than carriers": (([[2]], [3], [6], [3]), "cases"),
    "more controls among carriers than controls": (([[5]], [1], [6], [3]), "cases"),
    "cases that are no whole number": (([[3]], [1.5], [6], [3]), "cases"),
    "cases of nan": (([[3]], [np.nan], [6], [3]), "cases"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    args, message = BAD[name]
    for function in (cmh.statistic, cmh.log_pvalue, cmh.pvalue, cmh.signed_root):
        with pytest.raises(InputError, match=message):
            function(*args)
    if message != "cases":
        for function in (cmh.minimum_pvalue, cmh.minimum_log_pvalue_bound):
            with pytest.raises(InputError, match=message):
                function(args[0], *args[2:])


def test_unknown_names():
    args = ([[3]], [2], [6], [3])
    margins = ([[3]], [6], [3])
    for function, its in (
        (cmh.pvalue, args),
        (cmh.log_pvalue, args),
        (cmh.minimum_pvalue, margins),
        (cmh.minimum_log_pvalue_bound, margins),
    ):
        with pytest.raises(InputError, match=r"alternative='two\.sided' is not known"):
            function(*its, alternative="two.sided")
        with pytest.raises(InputError, match="variance='textbook' is not known"):
            function(*its, variance="textbook")
    with pytest.raises(InputError, match="variance='textbook' is not known"):
        cmh.statistic(*args, variance="textbook")


# ---------------------------------------------------------------------------------------------
# Minimum and bound: brute force
# ---------------------------------------------------------------------------------------------


@given(strategies.supports(max_size=8))
def test_minimum_is_that_of_the_twin(margins):
    x, n, n1 = margins
    for variance, alternative in BOTH:
        settings_ = ("asymptotic", alternative, "central", variance)
        options = {"variance": variance, "alternative": alternative}
        found = cmh.minimum_log_pvalue([x], n, n1, **options)[0]
        assert found == pytest.approx(
            naive.minimum_log_pvalue(x, n, n1, settings_), rel=1e-9, abs=1e-9
        )
        assert cmh.minimum_pvalue([x], n, n1, **options)[0] == pytest.approx(math.exp(found))


@settings(max_examples=25)
@given(strategies.supports(max_strata=3, max_size=5))
def test_bound_is_that_of_the_twin(margins):
    x, n, n1 = margins
    for variance, alternative in BOTH:
        settings_ = ("asymptotic", alternative, "central", variance)
        options = {"variance": variance, "alternative": alternative}
        found = cmh.minimum_log_pvalue_bound([x], n, n1, **options)[0]
        assert found == pytest.approx(
            naive.minimum_log_pvalue_bound(x, n, n1, settings_), rel=1e-9, abs=1e-9
        )
        assert cmh.minimum_pvalue_bound([x], n, n1, **options)[0] == pytest.approx(math.exp(found))


def all_margins(n):
    """Every x_k in 0..n_k, shape (prod(n_k + 1), K), in the order of an array with these axes."""
    return np.array(list(itertools.product(*(range(n_k + 1) for n_k in n))), dtype=np.int64)


def largest_statistics(x, n, n1, variance):
    """Largest T over every attainable a, of each sign and at all: {alternative: array}."""
    share = np.divide(n1, n)
    spread = share * (1 - share)
    if variance == "mantel-haenszel":
        spread = np.where(n > 1, spread * n / np.maximum(n - 1, 1), 0.0)
    mean = (share * x).sum(axis=1)
    var = (spread * x * (1 - x / n)).sum(axis=1)
    low = np.maximum(0, x - (n - n1)).sum(axis=1)
    high = np.minimum(x, n1).sum(axis=1)
    best = {name: np.zeros(len(x)) for name in ALTERNATIVES}
    for a in range(int(high.max()) + 1):
        ok = (low <= a) & (a <= high) & (var > 1e-12)
        t = np.where(ok, (a - mean) ** 2 / np.where(ok, var, 1.0), 0.0)
        for name, sign in (("greater", a >= mean), ("less", a <= mean), ("two-sided", True)):
            best[name] = np.maximum(best[name], np.where(sign, t, 0.0))
    return best


def draw_strata(rng, largest_grid):
    while True:
        k = int(rng.integers(1, 5))
        n = rng.integers(1, 13, k)
        if np.prod(n + 1) <= largest_grid:
            return n, np.array([rng.integers(0, v + 1) for v in n])


@pytest.mark.parametrize("variance", VARIANCES)
def test_minimum_and_bound_over_the_whole_box(variance):
    # Every x of the grid is a case: its box is what lies below it, so running maxima along every
    # axis give the brute force over all boxes at once. No condition like x_k <= min(n1_k, n0_k).
    rng = np.random.default_rng(99)
    n_boxes = 0
    for _ in range(200 if JIT_ENABLED else 15):
        n, n1 = draw_strata(rng, 3000 if JIT_ENABLED else 300)
        x = all_margins(n)
        for alternative, best in largest_statistics(x, n, n1, variance).items():
            tables = build_tables(
                n,
                n1,
                SearchSettings(method="asymptotic", alternative=alternative, variance=variance),
            )
            np.testing.assert_allclose(minimum_evidences(x, tables), best, rtol=1e-9, atol=1e-12)
            box = best.reshape(n + 1)
            for axis in range(len(n)):
                box = np.maximum.accumulate(box, axis=axis)
            bound = minimum_evidences(x, tables, bound=True)
            np.testing.assert_allclose(bound, box.ravel(), rtol=1e-9, atol=1e-12)
            # And as p-values.
            one_sided = stats.norm.logsf(np.sqrt(box.ravel()))
            expected = one_sided + (np.log(2) if alternative == "two-sided" else 0.0)
            np.testing.assert_allclose(
                cmh.minimum_log_pvalue_bound(x, n, n1, variance=variance, alternative=alternative),
                np.where(box.ravel() > 0, np.minimum(expected, 0.0), 0.0),
                rtol=1e-9,
                atol=1e-12,
            )
            n_boxes += len(x)
    assert n_boxes > (100_000 if JIT_ENABLED else 1_000)


def test_a_cut_may_only_replace_the_bound_by_something_between_them():
    # In the search the sort is left out where a simpler bound is below the cut already.
    rng = np.random.default_rng(4)
    for _ in range(300 if JIT_ENABLED else 60):
        n, n1 = draw_strata(rng, 10_000)
        x = np.array([rng.integers(0, v + 1) for v in n], dtype=np.int64)
        variance = VARIANCES[int(rng.integers(2))]
        margins = cmh.margins_matrix(n.astype(float), n1.astype(float), variance)
        scratch = np.empty((3, len(n)))
        exact = cmh.maximum_statistic_bound(x, margins, 1, 1, -1.0, scratch)
        for cut in (0.5 * exact, exact * (1 - 1e-12), exact * (1 + 1e-9), 1.5 * exact, 1e9):
            found = cmh.maximum_statistic_bound(x, margins, 1, 1, cut, scratch)
            if exact >= cut:
                assert found == pytest.approx(exact, rel=1e-12)
            else:
                assert exact * (1 - 1e-12) <= found
                assert found < cut or found == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("n_strata", [2, 31, 200, 1500])
def test_bound_with_many_strata(n_strata):
    # The best prefix by a plain sort; long lists go through every gap of the sort in the kernel.
    rng = np.random.default_rng(n_strata)
    n = rng.integers(2, 40, n_strata)
    n1 = np.array([rng.integers(0, v + 1) for v in n])
    x = np.array([rng.integers(0, v + 1) for v in n])
    share = n1 / n
    spread = share * (1 - share)
    best = 0.0
    for room, weight in ((n1, 1 - share), (n - n1, share)):
        m = np.minimum(x, room)
        keep = (m > 0) & (spread > 0)
        f, v = (weight * m)[keep], (spread * m * (1 - m / n))[keep]
        order = np.argsort(v / f)
        best = max(best, np.max(np.cumsum(f[order]) ** 2 / np.cumsum(v[order]), initial=0.0))
    found = cmh.minimum_log_pvalue_bound([x], n, n1, variance="cochran")[0]
    assert found == pytest.approx(
        min(0.0, stats.norm.logsf(math.sqrt(best)) + math.log(2)), rel=1e-9
    )
    settings_ = SearchSettings(method="asymptotic", variance="cochran")
    bound = minimum_evidences(x[None, :], build_tables(n, n1, settings_), bound=True)[0]
    assert bound == pytest.approx(best, rel=1e-10)


# ---------------------------------------------------------------------------------------------
# Theorems
# ---------------------------------------------------------------------------------------------


@given(strategies.observations(max_size=12), st.sampled_from(BOTH))
def test_no_table_goes_below_the_minimum(observation, options):
    x, a, n, n1 = observation
    options = dict(zip(("variance", "alternative"), options, strict=True))
    logp = cmh.log_pvalue([x], [sum(a)], n, n1, **options)[0]
    assert cmh.minimum_log_pvalue([x], n, n1, **options)[0] <= logp + 1e-9


@given(strategies.supports(max_size=12), st.sampled_from(BOTH), st.data())
def test_no_superset_goes_below_the_bound(margins, options, data):
    x, n, n1 = margins
    options = dict(zip(("variance", "alternative"), options, strict=True))
    smaller = tuple(data.draw(st.integers(0, x_k)) for x_k in x)
    bound = cmh.minimum_log_pvalue_bound([x], n, n1, **options)[0]
    assert bound <= cmh.minimum_log_pvalue([smaller], n, n1, **options)[0] + 1e-9
    assert bound <= cmh.minimum_log_pvalue_bound([smaller], n, n1, **options)[0] + 1e-9


@given(strategies.observations(max_size=12), st.sampled_from(VARIANCES), st.randoms())
def test_invariances(observation, variance, random):
    x, a, n, n1 = (np.array(part) for part in observation)
    total = a.sum()
    statistic = cmh.statistic([x], [total], n, n1, variance=variance)[0]

    def p(alternative, *args):
        return cmh.log_pvalue(*args, variance=variance, alternative=alternative)[0]

    same = {"rel": 1e-8, "abs": 1e-7}
    order = list(range(len(n)))
    random.shuffle(order)
    assert cmh.statistic([x[order]], [total], n[order], n1[order], variance=variance)[
        0
    ] == pytest.approx(statistic, rel=1e-9, abs=1e-20)
    here = ([x], [total], n, n1)
    swapped_classes = ([x], [x.sum() - total], n, n - n1)
    complement = ([n - x], [n1.sum() - total], n, n1)
    for other in (swapped_classes, complement):
        assert p("two-sided", *other) == pytest.approx(p("two-sided", *here), **same)
        assert p("greater", *other) == pytest.approx(p("less", *here), **same)
        assert p("less", *other) == pytest.approx(p("greater", *here), **same)
    # The two one-sided p-values and the two-sided one hang together.
    smaller = min(p("greater", *here), p("less", *here))
    assert p("two-sided", *here) == pytest.approx(min(0.0, smaller + math.log(2)), **same)
