"""The slow twins against hand calculation, scipy, and figures of the original programs."""

import itertools
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

from tests import naive, strategies

# Three of three carriers are cases, three of three others are not: C(6, 3) = 20 arrangements.
PERFECT = {"x": (3,), "a_total": 3, "sizes": (6,), "case_sizes": (3,)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"alternative": "greater"}, Fraction(1, 20)),
        ({"alternative": "less"}, Fraction(1)),
        ({}, Fraction(1, 10)),
        ({"two_sided": "minlike"}, Fraction(1, 10)),
        ({"alternative": "greater", "mid_p": True}, Fraction(1, 40)),
        ({"alternative": "less", "mid_p": True}, Fraction(39, 40)),
        ({"mid_p": True}, Fraction(1, 20)),
        ({"two_sided": "minlike", "mid_p": True}, Fraction(1, 20)),  # both ends are tied: half each
    ],
)
def test_exact_pvalue_of_a_perfect_table(options, expected):
    assert naive.exact_pvalue(**PERFECT, **options) == expected


def test_exact_pvalue_of_two_strata_by_hand():
    # Stratum 1: one case of 2, one carrier: A1 in {0, 1}, 1 way each.
    # Stratum 2: one case of 3, two carriers: A2 = 0 in 1 of 3, A2 = 1 in 2 of 3.
    # Sum: 0 with 1/6, 1 with 3/6, 2 with 2/6.
    margins = {"x": (1, 2), "sizes": (2, 3), "case_sizes": (1, 1)}
    assert naive.null_counts(*margins.values()) == (1, 3, 2)
    assert naive.exact_pvalue(a_total=2, alternative="greater", **margins) == Fraction(1, 3)
    assert naive.exact_pvalue(a_total=1, alternative="greater", **margins) == Fraction(5, 6)
    assert naive.exact_pvalue(a_total=1, alternative="less", **margins) == Fraction(2, 3)
    assert naive.exact_pvalue(a_total=2, **margins) == Fraction(2, 3)
    assert naive.exact_pvalue(a_total=1, **margins) == 1
    assert naive.exact_pvalue(a_total=2, two_sided="minlike", **margins) == Fraction(1, 2)
    assert naive.exact_pvalue(a_total=1, two_sided="minlike", **margins) == 1
    assert naive.exact_pvalue(a_total=2, two_sided="minlike", mid_p=True, **margins) == Fraction(
        1, 3
    )
    # The least total has the smallest p-value: 1/6 minlike, 2/6 central.
    central = ("exact", "two-sided", "central", "mantel-haenszel")
    minlike = ("exact", "two-sided", "minlike", "mantel-haenszel")
    assert naive.minimum_pvalue(**margins, settings=central) == pytest.approx(1 / 3)
    assert naive.minimum_pvalue(**margins, settings=minlike) == pytest.approx(1 / 6)


def test_statistic_of_a_perfect_table():
    # a - 3 * 3 / 6 = 1.5; variance 3 * 3 * 3 * 3 / (6^2 * 5) = 0.45, or / 6^3 = 0.375.
    assert naive.cmh_statistic(**PERFECT) == pytest.approx(5.0)
    assert naive.cmh_statistic(**PERFECT, variance="cochran") == pytest.approx(6.0)
    assert naive.asymptotic_pvalue(**PERFECT) == pytest.approx(math.erfc(math.sqrt(2.5)))
    upper = naive.asymptotic_pvalue(**PERFECT, alternative="greater")
    lower = naive.asymptotic_pvalue(**PERFECT, alternative="less")
    assert upper == pytest.approx(0.5 * math.erfc(math.sqrt(2.5)))
    assert upper + lower == pytest.approx(1.0)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize(
    ("x", "a", "sizes", "case_sizes"),
    [
        ((0,), 0, (6,), (3,)),  # no carriers
        ((6,), 3, (6,), (3,)),  # all carriers
        ((2,), 2, (4,), (4,)),  # one class
        ((1, 0), 1, (1, 1), (1, 0)),  # strata of one row
    ],
)
def test_tables_without_information_have_p_one(x, a, sizes, case_sizes, alternative):
    for variance in ("mantel-haenszel", "cochran"):
        assert naive.cmh_statistic(x, a, sizes, case_sizes, variance) == 0.0
        assert (
            naive.asymptotic_pvalue(
                x, a, sizes, case_sizes, alternative=alternative, variance=variance
            )
            == 1.0
        )
    assert naive.exact_pvalue(x, a, sizes, case_sizes, alternative=alternative) == 1


def test_one_class_strata_add_nothing():
    for extra in (((2,), (5,), (5,), 2), ((2,), (5,), (0,), 0), ((1,), (1,), (1,), 1)):
        x, n, n1, cases = extra
        args = ((3, *x), 3 + cases, (6, *n), (3, *n1))
        assert naive.cmh_statistic(*args) == naive.cmh_statistic(**PERFECT)
        assert naive.exact_pvalue(*args) == naive.exact_pvalue(**PERFECT)


@pytest.mark.parametrize("z", [-3.0, 0.0, 0.5, 5.0, 19.99, 20.01, 25.0, 100.0])
def test_log_erfc(z):
    from scipy.special import log_ndtr

    expected = math.log(2) + log_ndtr(-z * math.sqrt(2))
    assert naive.log_erfc(z) == pytest.approx(expected, rel=1e-12)


def random_table(rng):
    n = int(rng.integers(2, 40))
    n1, x = int(rng.integers(1, n)), int(rng.integers(1, n))
    return x, int(rng.integers(max(0, x - n + n1), min(x, n1) + 1)), n, n1


def test_one_stratum_is_fisher_and_pearson():
    rng = np.random.default_rng(11)
    for _ in range(150):
        x, a, n, n1 = random_table(rng)
        table = [[a, x - a], [n1 - a, n - n1 - x + a]]
        for alternative in ("two-sided", "greater", "less"):
            ours = naive.exact_pvalue(
                (x,), a, (n,), (n1,), alternative=alternative, two_sided="minlike"
            )
            expected = stats.fisher_exact(table, alternative=alternative).pvalue
            assert float(ours) == pytest.approx(expected, rel=1e-9)
        pearson = stats.chi2_contingency(table, correction=False)
        statistic = naive.cmh_statistic((x,), a, (n,), (n1,), "cochran")
        assert statistic == pytest.approx(pearson.statistic, rel=1e-9, abs=1e-12)
        ours = naive.asymptotic_pvalue((x,), a, (n,), (n1,), variance="cochran")
        assert ours == pytest.approx(pearson.pvalue, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(strategies.observations(max_strata=3, max_size=6))
def test_null_law_is_that_of_all_label_arrangements(case):
    x, a, sizes, case_sizes = case
    ways = {}
    arrangements = [
        [set(cases) for cases in itertools.combinations(range(n), n1)]
        for n, n1 in zip(sizes, case_sizes, strict=True)
    ]
    one_by_one = [
        [sum(i < x_k for i in cases) for cases in options]  # the first x_k rows are carriers
        for options, x_k in zip(arrangements, x, strict=True)
    ]
    for totals in itertools.product(*one_by_one):
        ways[sum(totals)] = ways.get(sum(totals), 0) + 1
    everything = math.prod(len(options) for options in arrangements)
    upper = sum(count for total, count in ways.items() if total >= sum(a))
    ours = naive.exact_pvalue(x, sum(a), sizes, case_sizes, alternative="greater")
    assert ours == Fraction(upper, everything)


@settings(max_examples=60, deadline=None)
@given(strategies.observations(max_strata=3, max_size=6))
def test_order_of_pvalue_minimum_and_bound(case):
    x, a, sizes, case_sizes = case
    for setting in strategies.METHOD_SETTINGS:
        p = naive.pvalue(x, sum(a), sizes, case_sizes, setting)
        psi = naive.minimum_pvalue(x, sizes, case_sizes, setting)
        bound = naive.minimum_pvalue_bound(x, sizes, case_sizes, setting)
        assert 0 < bound <= psi * (1 + 1e-12)
        assert psi <= p * (1 + 1e-12) <= 1 + 1e-9


def test_bound_by_hand():
    # 6 rows, 3 cases: four carriers cannot be purer than three of three.
    greater = ("exact", "greater", "central", "mantel-haenszel")
    assert naive.minimum_pvalue((4,), (6,), (3,), greater) == pytest.approx(3 / 15)
    assert naive.minimum_pvalue_bound((4,), (6,), (3,), greater) == pytest.approx(1 / 20)


def test_tarone_exact_by_hand():
    minima = [0.001, 0.02, 0.02, 0.03, 0.5]
    # 0.001 * 1 and 0.02 * 3 = 0.06 > 0.05: only the first is testable.
    assert naive.tarone_exact(minima, 0.05) == (0.001, 1)
    assert naive.tarone_exact(minima, 0.06) == (0.02, 3)  # equality counts, as does the tie
    assert naive.tarone_exact(minima, 0.12) == (0.03, 4)
    delta, m = naive.tarone_exact([0.5, 0.4], 0.05)
    assert math.isnan(delta)
    assert m == 0
    assert naive.tarone_exact([], 0.05)[1] == 0


def test_tarone_exact_takes_values_within_rounding_as_one():
    almost = 0.02 * (1 - 1e-12)
    # Taken apart, `almost` would be testable alone: 0.02 * 1 <= 0.03 < 0.02 * 2.
    assert naive.tarone_exact([almost, 0.02], 0.03)[1] == 0
    assert naive.tarone_exact([almost, 0.02], 0.04)[1] == 2


def test_tarone_grid_by_hand():
    # step 1: 0.1 * 4 > 0.05; 0.01 * 1 <= 0.05.
    assert naive.tarone_grid([0.001, 0.02, 0.02, 0.03], 0.05, 1.0) == (0.01, 1)
    assert naive.tarone_grid([0.5], 0.05, 1.0) == (0.1, 0)  # nothing testable at the first step


def test_mine_by_hand():
    # Items 0 and 1 together mark the cases; item 2 is a copy of item 0; item 3 is in every row.
    rows = [{0, 1, 2, 3}] * 4 + [{0, 2, 3}] * 2 + [{1, 3}] * 2
    y = [1] * 4 + [0] * 4
    result = naive.mine(rows, y, alpha=0.05)
    by_rows = {h["rows"]: h for h in result["hypotheses"]}
    assert set(by_rows) == {
        frozenset(range(6)),
        frozenset([0, 1, 2, 3, 6, 7]),
        frozenset(range(4)),
    }
    pair = by_rows[frozenset(range(4))]
    assert pair["closed"] == (0, 1, 2)
    assert pair["generators"] == [(0, 1), (1, 2)]
    assert by_rows[frozenset(range(6))]["generators"] == [(0,), (2,)]
    assert pair["x"] == (4,)
    assert pair["a"] == (4,)
    assert pair["p"] == pytest.approx(2 / 70)
    # Six carriers: P(A = 4) = P(A = 2) = C(6, 4) / C(8, 4) = 15 / 70, doubled.
    assert by_rows[frozenset(range(6))]["psi"] == pytest.approx(3 / 7)
    assert result["n_testable"] == 1
    assert result["testability_threshold"] == pytest.approx(2 / 70)
    assert result["corrected_threshold"] == 0.05
    assert result["significant"] == [pair]

    assert naive.mine(rows, y, max_length=1)["significant"] == []
    assert len(naive.mine(rows, y, max_length=1)["hypotheses"]) == 2
    assert len(naive.mine(rows, y, min_support=5)["hypotheses"]) == 2
    nothing = naive.mine(rows, y, alpha=0.01)
    assert nothing["n_testable"] == 0
    assert nothing["corrected_threshold"] == 0.01
    assert math.isnan(nothing["testability_threshold"])


def test_rows_as_sets_or_as_zeros_and_ones():
    matrix = [[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1]]
    sets = [{0, 2}, {1, 2}, {0, 1}, {2}]
    assert naive.mine(matrix, [1, 0, 1, 0]) == naive.mine(sets, [1, 0, 1, 0])


def test_uninformative_strata_can_be_dropped_first():
    rows = [{0, 1}, {0, 1}, set(), set(), {0}, {1}]  # the items differ only in the last stratum
    y, strata = [1, 1, 0, 0, 1, 1], ["a", "a", "a", "a", "b", "b"]
    dropped = naive.mine(rows, y, strata)
    kept = naive.mine(rows, y, strata, drop_uninformative=False)
    assert dropped["stratum_codes"] == ["a"]
    assert [h["closed"] for h in dropped["hypotheses"]] == [(0, 1)]
    assert kept["stratum_codes"] == ["a", "b"]
    assert {h["closed"] for h in kept["hypotheses"]} == {(0,), (1,), (0, 1)}
    assert {h["psi"] for h in kept["hypotheses"]} == {dropped["hypotheses"][0]["psi"]}


@pytest.mark.parametrize("setting", strategies.METHOD_SETTINGS)
def test_significant_patterns_stay_below_the_level(setting):
    # What Tarone's argument needs: every rejected pattern is testable, m * threshold <= alpha.
    method, alternative, two_sided, variance = setting
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(8):
        matrix, y, strata = strategies.random_case(rng, n_rows=60, n_items=5, effect=0.9)
        result = naive.mine(
            matrix,
            y,
            strata,
            method=method,
            alternative=alternative,
            two_sided=two_sided,
            variance=variance,
        )
        testable = [h for h in result["hypotheses"] if h["testable"]]
        assert len(testable) == result["n_testable"]
        assert all(h["testable"] for h in result["significant"])
        found += len(result["significant"])
        if testable:
            assert max(h["psi"] for h in testable) <= result["corrected_threshold"] * (1 + 1e-9)
    assert (found > 0) == (alternative != "less")


def test_mantel_haenszel_odds_ratio_by_hand():
    assert naive.mantel_haenszel_odds_ratio([[[3, 1], [1, 3]]]) == 9.0
    assert naive.mantel_haenszel_odds_ratio([[[3, 0], [1, 3]]]) == math.inf
    assert naive.mantel_haenszel_odds_ratio([[[0, 1], [1, 3]]]) == 0.0
    assert math.isnan(naive.mantel_haenszel_odds_ratio([[[0, 0], [1, 3]], [[0, 0], [0, 0]]]))
    # (2*2/6 + 1*1/4) / (1*1/6 + 1*1/4) = (11/12) / (5/12)
    tables = [[[2, 1], [1, 2]], [[1, 1], [1, 1]]]
    assert naive.mantel_haenszel_odds_ratio(tables) == pytest.approx(2.2)


CONFORMANCE = [
    # items, strata, density, seed, closed itemsets, delta_j, m(delta_j), significant, and the
    # m of the exact threshold
    (12, 4, 0.4, 1, 1236, 9.54993e-05, 460, 15, 471),
    (13, 3, 0.5, 2, 2743, 4.7863e-05, 953, 0, 975),
    (12, 1, 0.4, 3, 873, 0.000288403, 171, 3, 171),
    (11, 5, 0.5, 4, 1067, 0.000109648, 433, 0, 434),
    (12, 2, 0.7, 5, 3335, 1.58489e-05, 3129, 0, 3129),
]


@pytest.mark.reference
@pytest.mark.parametrize("case", CONFORMANCE, ids=lambda case: "_".join(map(str, case[:4])))
def test_figures_of_the_original_program(case, tmp_path, reference_data):
    n_items, n_strata, density, seed, closed, delta, m, significant, m_exact = case
    generator = reference_data / "bench" / "make_dataset.py"
    flags = f"--n 120 --p {n_items} --K {n_strata} --qlo {density} --qhi {density} --s 3 --n_conf 1"
    command = [sys.executable, str(generator), str(tmp_path / "v"), *flags.split()]
    subprocess.run([*command, "--seed", str(seed)], check=True)
    rows = [
        frozenset(map(int, line.split()))
        for line in (tmp_path / "v.transactions").read_text().splitlines()
    ]
    y = [int(v) for v in (tmp_path / "v.labels").read_text().split()]
    strata = [int(v) for v in (tmp_path / "v.covariates").read_text().split()]
    published = {"method": "asymptotic", "variance": "cochran", "drop_uninformative": False}
    grid = naive.mine(rows, y, strata, grid_step=0.06, **published)
    assert len(grid["hypotheses"]) == closed
    assert grid["testability_threshold"] == pytest.approx(delta, rel=1e-5)
    assert grid["n_testable"] == m
    assert len(grid["significant"]) == significant
    assert naive.mine(rows, y, strata, **published)["n_testable"] == m_exact
