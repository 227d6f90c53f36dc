"""From sums of table entries to evidence, bounds and a first look at p, against the slow twin.

The kernels are given what the search gives them: sums over strata of the columns of the tables.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings

from sigmine._jit import JIT_ENABLED
from sigmine.association import cmh, cmh_exact
from sigmine.association.evidence import (
    build_tables,
    evidence_of_log_pvalue,
    log_pvalue_of_evidence,
    minimum_evidences,
)
from sigmine.association.scores import (
    DEFICIT,
    DOWN,
    DOWN_BOUND,
    DOWN_CORNER,
    EXCESS,
    HIGHEST,
    KIND,
    LOWEST,
    MEAN,
    N_COLUMNS,
    SIDE,
    UP,
    UP_BOUND,
    UP_CORNER,
    VARIANCE,
    ceiling_of_sums,
    corner_reaches,
    evidence_of_sums,
    lacks_units,
    may_be_small,
    subsets_reach,
    units_needed,
)
from sigmine.problem import build_problem
from sigmine.search.layout import PEAK
from sigmine.search.prepare import prepare
from sigmine.settings import SearchSettings
from sigmine.strata import encode_strata
from tests import naive, strategies

SETTINGS = strategies.METHOD_SETTINGS
every_setting = pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
of_the_asymptotic_test = pytest.mark.parametrize(
    "setting", [s for s in SETTINGS if s[0] == "asymptotic"], ids="-".join
)
# As many digits as a sum of table entries may lose, and what the search allows for them.
SLACK = 1e-9


def as_settings(setting, **others):
    names = ("method", "alternative", "two_sided", "variance")
    return SearchSettings(**dict(zip(names, setting, strict=True)), **others)


class Sums:
    """What a kernel of the search knows of the row sets with the carriers `x`."""

    def __init__(self, x, sizes, case_sizes, setting):
        self.tables = build_tables(sizes, case_sizes, as_settings(setting))
        self.lines = (N_COLUMNS * (self.tables.offset + np.array(x))).astype(np.int64)
        parts = self.tables.parts.reshape(-1, N_COLUMNS)[self.lines // N_COLUMNS]
        self.total = [float(v) for v in parts.sum(axis=0)]
        choice = self.tables.choice.tolist()
        self.kind, self.side = choice[KIND], choice[SIDE]
        self.excess, self.deficit = choice[EXCESS], choice[DEFICIT]
        self.sides = {"excess": self.excess, "deficit": self.deficit}
        self.scratch = np.full((3, len(sizes) + 1), np.nan)

    def evidence(self):
        return evidence_of_sums(
            up=self.total[UP],
            down=self.total[DOWN],
            variance=self.total[VARIANCE],
            kind=self.kind,
            side=self.side,
            **self.sides,
        )

    def ceiling(self):
        return ceiling_of_sums(
            up=self.total[UP_BOUND],
            down=self.total[DOWN_BOUND],
            kind=self.kind,
            side=self.side,
            **self.sides,
        )

    def lacks_units(self, prune):
        units = int(self.tables.ceilings[self.lines // N_COLUMNS].sum())
        return lacks_units(units, units_needed(prune, self.tables.unit, self.kind, self.side))

    def corner_reaches(self, side, cut):
        return corner_reaches(
            lines=self.lines,
            n_strata=len(self.lines),
            corners=self.tables.corners,
            side=side,
            cut=cut,
            scratch=self.scratch,
        )

    def subsets_reach(self, cut):
        return subsets_reach(
            up=self.total[UP_BOUND],
            down=self.total[DOWN_BOUND],
            lines=self.lines,
            n_strata=len(self.lines),
            corners=self.tables.corners,
            kind=self.kind,
            cut=cut,
            scratch=self.scratch,
            **self.sides,
        )

    def may_be_small(self, cases, peak, keep):
        return may_be_small(
            cases=float(cases),
            mean=self.total[MEAN],
            highest=self.total[HIGHEST],
            lowest=self.total[LOWEST],
            variance=self.total[VARIANCE],
            up=self.total[UP],
            down=self.total[DOWN],
            peak=peak,
            keep=keep,
            kind=self.kind,
            side=self.side,
            **self.sides,
        )


def lowered(evidence):
    return float(evidence - SLACK * max(1.0, evidence))


def raised(evidence):
    return float(evidence + SLACK * max(1.0, evidence))


# ---------------------------------------------------------------------------------------------
# The smallest p-value, and the smallest of all subsets
# ---------------------------------------------------------------------------------------------


@every_setting
@given(strategies.supports(max_size=9))
def test_evidence_of_sums_is_that_of_the_twins_minimum(setting, margins):
    x, n, n1 = margins
    evidence = Sums(x, n, n1, setting).evidence()
    assert evidence >= 0.0
    expected = naive.minimum_log_pvalue(x, n, n1, setting)
    assert float(log_pvalue_of_evidence(evidence, as_settings(setting))) == pytest.approx(
        expected, rel=1e-9, abs=1e-9
    )
    again = minimum_evidences(np.array([x]), build_tables(n, n1, as_settings(setting)))[0]
    assert evidence == pytest.approx(again, rel=1e-12, abs=1e-12)


@every_setting
@given(strategies.supports(max_strata=4, max_size=5))
def test_the_ceiling_is_above_every_subset(setting, margins):
    # And equal to the best one for the exact test, but for outcomes of both ends added up.
    x, n, n1 = margins
    sums = Sums(x, n, n1, setting)
    best = float(
        evidence_of_log_pvalue(
            naive.minimum_log_pvalue_bound(x, n, n1, setting), as_settings(setting)
        )
    )
    assert sums.ceiling() >= lowered(best)
    if setting[0] == "exact" and setting[2] == "central":
        assert sums.ceiling() == pytest.approx(best, rel=1e-9, abs=1e-9)
    if setting[0] == "asymptotic" and len(n) == 1:
        assert sums.ceiling() == pytest.approx(best, rel=1e-7, abs=1e-9)


@every_setting
@given(strategies.supports(max_size=9))
def test_whole_units_are_the_ceiling_rounded_up(setting, margins):
    x, n, n1 = margins
    sums = Sums(x, n, n1, setting)
    ceiling = sums.ceiling()
    for prune in (ceiling, lowered(ceiling), ceiling / 2, 0.0, -1.0):
        assert not sums.lacks_units(prune)
    assert sums.lacks_units(raised(ceiling) * (1 + 1e-6) + 1e-6 * (1 + sum(n)))


def test_units_of_many_strata_do_not_spill_over():
    # 40,000 strata, each of them rounded up by less than a unit.
    n = np.full(40_000, 3)
    for setting in SETTINGS:
        sums = Sums(n, n, np.full(40_000, 1), setting)
        units = int(sums.tables.ceilings[sums.lines // N_COLUMNS].sum())
        for half in (units >> 32, units & 0xFFFFFFFF):
            assert 0 <= half <= 2**30 + len(n) + 1
        assert not sums.lacks_units(lowered(sums.ceiling()))


def test_evidence_where_both_ends_are_tied():
    # minlike: one of the ends, or the two together. p = 2 / C(20, 10) and 2 / C(20, 10).
    size = math.comb(20, 10)
    for two_sided in ("central", "minlike"):
        sums = Sums((10,), (20,), (10,), ("exact", "two-sided", two_sided, "cochran"))
        assert sums.evidence() == pytest.approx(math.log(size / 2), rel=1e-12)
    # The ends (1, 0) of three carriers, two of four rows being cases: P = 1/2 each, p = 1.
    sums = Sums((3,), (4,), (2,), ("exact", "two-sided", "minlike", "cochran"))
    assert sums.evidence() == 0.0
    # 1 / C(10, 3) above, C(7, 3) / C(10, 3) below.
    sums = Sums((3,), (10,), (3,), ("exact", "two-sided", "minlike", "cochran"))
    assert sums.evidence() == pytest.approx(math.log(120), rel=1e-12)


def test_no_carrier_no_evidence():
    for setting in SETTINGS:
        for x, n, n1 in (((0,), (9,), (4,)), ((9,), (9,), (4,)), ((4,), (9,), (0,)), ((1,),) * 3):
            sums = Sums(x, n, n1, setting)
            assert sums.evidence() == 0.0


# ---------------------------------------------------------------------------------------------
# Can a subset reach a cut?
# ---------------------------------------------------------------------------------------------


def largest_statistics(x, n, n1, variance):
    """Over all x' <= x, one by one: the largest statistic from above, and from below."""
    best = [0.0, 0.0]
    for smaller in itertools.product(*(range(x_k + 1) for x_k in x)):
        totals = naive.attainable(smaller, n, n1)
        for side in (0, 1):
            end = totals[-1] if side == 0 else totals[0]
            deviation, spread = naive.cmh_parts(smaller, end, n, n1, variance)
            if spread:
                best[side] = max(best[side], float(deviation**2 / spread))
    return best


def cuts_around(value):
    return [value * factor for factor in (0.3, 0.9, 1 - 1e-9, 1 + 1e-9, 1.1, 3.0)] + [1e-3, 0.7]


@of_the_asymptotic_test
@given(strategies.supports(max_strata=4, max_size=6))
def test_a_corner_reaches_what_some_subset_reaches(setting, margins):
    x, n, n1 = margins
    sums = Sums(x, n, n1, setting)
    best = largest_statistics(x, n, n1, setting[3])
    for side, value in zip((UP_CORNER, DOWN_CORNER), best, strict=True):
        for cut in cuts_around(value):
            if cut > 0 and abs(cut - value) > 1e-12 * value:
                assert sums.corner_reaches(side, cut) == (value >= cut)


@of_the_asymptotic_test
@given(strategies.supports(max_strata=4, max_size=6))
def test_subsets_reach_what_some_subset_reaches(setting, margins):
    x, n, n1 = margins
    sums = Sums(x, n, n1, setting)
    above, below = largest_statistics(x, n, n1, setting[3])
    value = max(above if sums.excess else 0.0, below if sums.deficit else 0.0)
    for cut in cuts_around(value):
        if cut <= 0 or abs(cut - value) <= 1e-12 * value:
            continue
        # One stratum: the one-sum bound is the answer, and there is nothing left to ask.
        assert (sums.ceiling() >= cut and sums.subsets_reach(cut)) == (value >= cut)


def draw_margins(rng, k, largest):
    n = rng.integers(1, largest, k)
    n1 = rng.integers(0, n + 1)
    return n, n1, rng.integers(0, n + 1)


@of_the_asymptotic_test
@pytest.mark.parametrize("n_strata", [1, 2, 3, 30, 300])
def test_reaching_is_the_maximum_over_prefixes(setting, n_strata):
    # Many strata: against numpy's sort, itself checked against the whole box elsewhere. The
    # order in which the strata stand does not matter.
    rng = np.random.default_rng([n_strata, SETTINGS.index(setting)])
    reached = 0
    for _ in range(40 if JIT_ENABLED else 8):
        n, n1, x = draw_margins(rng, n_strata, 40)
        if rng.random() < 0.5:
            order = np.argsort(n1 / n)
            n, n1, x = n[order], n1[order], x[order]
        sums = Sums(x, n, n1, setting)
        value = float(minimum_evidences(x[None, :], sums.tables, bound=True)[0])
        for cut in cuts_around(value):
            if cut > 0:
                found = sums.ceiling() >= cut and sums.subsets_reach(cut)
                assert found == (value >= cut)
                reached += found
    assert reached > 0


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s[0] == "exact"], ids="-".join)
def test_the_bound_of_the_exact_test_is_reached_without_a_look(setting):
    n, n1, x = (20, 30), (5, 12), (4, 9)
    sums = Sums(x, n, n1, setting)
    value = float(minimum_evidences(np.array([x]), sums.tables, bound=True)[0])
    assert sums.ceiling() == pytest.approx(value, rel=1e-12)
    assert sums.subsets_reach(sums.ceiling())


# ---------------------------------------------------------------------------------------------
# May the p-value be small?
# ---------------------------------------------------------------------------------------------


def log_pvalue(x, a, n, n1, setting):
    method, alternative, two_sided, variance = setting
    if method == "exact":
        found = cmh_exact.log_pvalue([x], [a], n, n1, alternative=alternative, two_sided=two_sided)
    else:
        found = cmh.log_pvalue([x], [a], n, n1, alternative=alternative, variance=variance)
    return float(found[0])


def peak_of(x):
    """-log of the largest probability of the number of cases, at most, as the search has it."""
    return 0.5 * math.log1p(3.0 * sum(x))


def assert_small_pvalues_are_seen(x, n, n1, setting, thresholds=()):
    """Try every number of cases; return how many questions were answered with yes without need."""
    sums, options = Sums(x, n, n1, setting), as_settings(setting)
    needless = 0
    for a in naive.attainable(x, n, n1):
        logp = log_pvalue(x, a, n, n1, setting)
        for threshold in (min(logp, 0.0), *thresholds):
            keep = lowered(evidence_of_log_pvalue(threshold, options))
            found = sums.may_be_small(a, peak_of(x), keep)
            if logp <= threshold and logp < 0.0:
                assert found
            needless += bool(found) and logp > threshold
    return needless


@every_setting
@settings(max_examples=60)
@given(strategies.supports(max_strata=6, max_size=12))
def test_a_small_pvalue_is_never_missed(setting, margins):
    assert_small_pvalues_are_seen(
        *margins, setting, thresholds=[math.log(p) for p in (0.9, 0.5, 0.3, 0.05, 1e-3)]
    )


@every_setting
def test_a_small_pvalue_is_never_missed_in_large_tables(setting):
    # Strata from one row to hundreds, of one class too; every number of cases from end to end.
    rng = np.random.default_rng([3, SETTINGS.index(setting)])
    thresholds = [math.log(0.05), math.log(1e-6), -50.0]
    needless = asked = 0
    for _ in range(150 if JIT_ENABLED else 10):
        n, n1, x = draw_margins(rng, int(rng.integers(1, 9)), int(rng.choice([2, 12, 300])))
        n, n1, x = n.tolist(), n1.tolist(), x.tolist()
        needless += assert_small_pvalues_are_seen(x, n, n1, setting, thresholds)
        asked += len(thresholds) * len(naive.attainable(x, n, n1))
    assert asked > (10_000 if JIT_ENABLED else 300)
    assert needless < asked / 2  # it does say no


@given(strategies.supports(max_strata=5, max_size=14))
def test_the_largest_probability_is_not_below_its_bound(margins):
    x, n, n1 = margins
    counts = naive.null_counts(x, n, n1)
    assert math.log(sum(counts)) - math.log(max(counts)) <= peak_of(x) + 1e-12


def test_the_search_has_that_bound_for_every_number_of_rows():
    y = np.arange(30) % 3 == 0
    problem = build_problem(y[:, None], y, encode_strata(None, 30), item_names=["a"])
    by_ones = prepare(problem.table, SearchSettings()).data.by_ones
    assert by_ones.shape == (31, 2)
    np.testing.assert_allclose(by_ones[:, PEAK], [peak_of([s]) for s in range(31)], rtol=1e-14)


@every_setting
def test_a_pvalue_in_the_middle_is_not_small(setting):
    # 100 carriers of 300 rows, half of them cases, right at the mean.
    n, n1, x = (200, 100), (100, 50), (60, 40)
    sums, options = Sums(x, n, n1, setting), as_settings(setting)
    keep = float(evidence_of_log_pvalue(math.log(1e-4), options))
    assert not sums.may_be_small(50, peak_of(x), keep)
    assert sums.may_be_small(50, peak_of(x), 0.0)  # no evidence is asked for
    far = {"greater": 95, "less": 5}.get(setting[1], 95)
    assert sums.may_be_small(far, peak_of(x), keep)
    assert sums.may_be_small(100 - far, peak_of(x), keep) == (setting[1] == "two-sided")


def test_one_sided_pvalues_above_one_half_have_no_evidence():
    # Evidence 0 stands for all of them, and everything may be as small as that.
    for setting in SETTINGS:
        if setting[0] == "asymptotic" and setting[1] != "two-sided":
            keep = float(evidence_of_log_pvalue(math.log(0.7), as_settings(setting)))
            assert keep == 0.0
            sums = Sums((4,), (10,), (5,), setting)
            assert all(sums.may_be_small(a, peak_of([4]), keep) for a in range(5))
