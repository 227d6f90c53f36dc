"""One worker: what it counts, collects and enumerates, in one task or in many.

Row sets come from the slow twin; their p-values from the functions of `sigmine.association`, which
have tests of their own, so that tables of some hundred rows can be tried.
"""

import hashlib
import math
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from sigmine._jit import JIT_ENABLED
from sigmine.association import cmh, cmh_exact
from sigmine.association.evidence import evidence_of_log_pvalue
from sigmine.search.layout import (
    CANDIDATE,
    CARRIERS,
    CASES,
    COLLECT,
    COUNT,
    EDGE,
    ENUMERATE,
    KEY,
    N_CLOSED,
    N_PATH,
    ROOM,
    SAMPLED,
    STORE_FROM,
    SUMMIT,
    SUPPORT,
    WHAT,
    Shared,
)
from sigmine.search.prepare import prepare
from sigmine.search.testability import build_ladder, climbed, first_level
from sigmine.search.worker import Goal, Task, Worker, merged
from sigmine.settings import SearchSettings
from tests import naive
from tests.searches import OPTIONS, draw_table, make_problem, mine, option_id, patterns

NEVER = 2**62 - 1  # bits that no hash is without


class Search:
    """Data, settings and ladder of a search, and all its hypotheses by brute force."""

    def __init__(self, case, **options):
        self.case, self.settings = case, SearchSettings(**options)
        self.problem = make_problem(*case)
        self.table = self.problem.table
        self.prepared = prepare(self.table, self.settings)
        self.ladder = build_ladder(self.settings)
        self.n_columns = len(self.prepared.data.root_cand)
        self.whole = [Task(0, self.n_columns)] if self.n_columns else []

    def new_shared(self):
        return Shared(np.zeros(1, dtype=np.int64), np.zeros(len(self.ladder.rungs), dtype=np.int64))

    def run(self, goal, tasks=None, *, shared=None, sample_size=10**6):
        shared = self.new_shared() if shared is None else shared
        worker = Worker(
            prepared=self.prepared,
            settings=self.settings,
            ladder=self.ladder,
            shared=shared,
            goal=goal,
            sample_size=sample_size,
        )
        return worker.run(iter(self.whole if tasks is None else tasks))

    def hypotheses(self):
        """Return {closed itemset: (carriers and carrier cases by stratum)} by brute force."""
        matrix, y, strata = (np.asarray(part) for part in self.case)
        kept = naive.keep_informative(y.tolist(), strata.tolist())
        codes = sorted({int(strata[i]) for i in kept})
        found = naive.hypotheses_of(
            naive.as_itemsets(matrix.tolist()),
            kept,
            self.settings.min_support,
            self.settings.max_length,
        )
        out = {}
        for rows, entry in found.items():
            rows = sorted(rows)
            x = [int((strata[rows] == code).sum()) for code in codes]
            a = [int(y[rows][strata[rows] == code].sum()) for code in codes]
            out[entry["closed"]] = (x, a)
        return out

    def scored(self):
        """Return closed itemsets, x, a, evidence and log p of all hypotheses."""
        found = self.hypotheses()
        x = np.array([x for x, _ in found.values()]).reshape(len(found), -1)
        a = np.array([a for _, a in found.values()]).reshape(len(found), -1)
        settings, margins = self.settings, (self.table.sizes, self.table.case_sizes)
        if settings.method == "exact":
            module, how = cmh_exact, {"two_sided": settings.two_sided}
        else:
            module, how = cmh, {"variance": settings.variance}
        how["alternative"] = settings.alternative
        psi = module.minimum_log_pvalue(x, *margins, **how)
        log_p = module.log_pvalue(x, a.sum(axis=1), *margins, **how)
        return list(found), x, a, evidence_of_log_pvalue(psi, settings), log_p, psi

    def records(self, part):
        """Return {closed itemset: row of its record}, and check that paths are generators.

        Of what belongs to the sample only, there are counts but no items.
        """
        lengths = part.found[:, N_PATH] + part.found[:, N_CLOSED]
        assert lengths.sum() == len(part.items)
        out = {}
        for row, end in enumerate(np.cumsum(lengths).tolist()):
            columns = part.items[end - lengths[row] : end]
            if not part.found[row, WHAT] & CANDIDATE:
                assert len(columns) == 0
                continue
            path = columns[: part.found[row, N_PATH]]
            items = [j for c in columns for j in self.prepared.items[c].tolist()]
            rows = np.bitwise_and.reduce(self.problem.table.columns[items])
            first = [self.prepared.items[c][0] for c in path]
            of_path = np.bitwise_and.reduce(self.problem.table.columns[first])
            np.testing.assert_array_equal(rows, of_path)
            assert np.bitwise_count(rows).sum() == part.found[row, CARRIERS]
            closed = tuple(sorted(int(self.problem.item_names[j]) for j in items))
            assert closed not in out
            out[closed] = row
        return out


def cases_of(seed, n=6):
    rng = np.random.default_rng(seed)
    return [draw_table(rng) for _ in range(n)]


# ---------------------------------------------------------------------------------------------
# What a pass is for
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("min_support", [1, 4, 12])
def test_enumerate(min_support):
    for case in cases_of(1, 10):
        search = Search(case, min_support=min_support)
        expected = {name: sum(x) for name, (x, _) in search.hypotheses().items()}
        part = search.run(Goal(ENUMERATE, 0, keep=0.0))
        rows = search.records(part)
        assert {name: part.found[row, CARRIERS] for name, row in rows.items()} == expected
        assert part.found.shape[1] == SUPPORT  # no counts by stratum
        assert part.visited == len(expected)
        # Only to count them.
        counted = search.run(Goal(ENUMERATE, 0, keep=math.inf))
        assert counted.visited == part.visited
        assert len(counted.found) == len(counted.items) == 0


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_summit(options):
    for case in cases_of(2):
        search = Search(case, **options)
        evidence = search.scored()[3]
        highest = evidence.max(initial=-math.inf)
        for known in (-math.inf, 0.5 * highest):  # what the first pass has seen
            part = search.run(Goal(SUMMIT, 1, store=known))
            assert part.most == pytest.approx(highest, rel=1e-9, abs=1e-12)
            assert part.counts.sum() == len(part.found) == len(part.values) == 0


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_collect_everything(options):
    for number, case in enumerate(cases_of(3)):
        search = Search(case, **options)
        closed, x, a, evidence, _, _ = search.scored()
        rungs = search.ladder.rungs
        level = [0, len(rungs) // 50, len(rungs) // 10][number % 3]
        store = float(rungs[level, STORE_FROM])
        part = search.run(Goal(COLLECT, level, store=store, keep=0.0))
        rows = search.records(part)
        # All that reach the level, but that rounding may decide on it, each with its counts.
        slack = 1e-9 * max(1.0, store)
        for i, name in enumerate(closed):
            if abs(evidence[i] - store) > slack:
                assert (name in rows) == (evidence[i] > store)
            if name in rows:
                k, record = x.shape[1], part.found[rows[name]]
                assert record[SUPPORT : SUPPORT + k].tolist() == x[i].tolist()
                assert record[SUPPORT + k :].tolist() == a[i].tolist()
                assert (record[CARRIERS], record[CASES]) == (x[i].sum(), a[i].sum())
                assert record[WHAT] == CANDIDATE | SAMPLED
                assert part.evidence[rows[name]] == pytest.approx(evidence[i], rel=1e-9, abs=1e-12)
        # Counts by bucket, and all values.
        assert part.counts.sum() == len(part.values) == len(rows) == len(part.found)
        np.testing.assert_array_equal(np.sort(part.values), np.sort(part.evidence))
        reach = part.evidence >= store
        assert reach.all()
        bucket = np.searchsorted(rungs[:, EDGE], part.evidence, side="right") - 1
        counts = np.bincount(bucket, minlength=len(rungs))
        np.testing.assert_array_equal(part.counts[level:], counts[level:])


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_collect_what_may_be_significant(options):
    n_left_out = 0
    for number, case in enumerate(cases_of(30)):
        search = Search(case, **options)
        closed, _, _, evidence, log_p, _ = search.scored()
        store = float(search.ladder.rungs[5, STORE_FROM])
        threshold = math.log([0.5, 0.01][number % 2])
        keep = float(evidence_of_log_pvalue(threshold, search.settings)) * (1 - 1e-9)
        everything = search.run(Goal(COLLECT, 5, store=store, keep=0.0))
        sampled = search.run(Goal(COLLECT, 5, store=store, keep=keep))
        goal = Goal(COLLECT, 5, store=store, keep=keep, window=-math.inf, sample_mask=NEVER)
        part = search.run(goal)
        rows = search.records(part)
        for i, name in enumerate(closed):  # not one of those is missing
            if log_p[i] <= threshold and evidence[i] > store + 1e-9:
                assert name in rows
        assert len(rows) == len(part.found)
        assert (part.found[:, WHAT] == CANDIDATE).all()
        assert len(part.values) == 0
        n_left_out += len(everything.found) - len(rows)
        # As a sample, all of them are recorded.
        keys = sorted(everything.found[:, KEY].tolist())
        assert sorted(sampled.found[:, KEY].tolist()) == keys
        assert (sampled.found[:, WHAT] & SAMPLED > 0).all()
        assert set(search.records(sampled)) == set(rows)
        for other in (sampled, part):
            np.testing.assert_array_equal(other.counts, everything.counts)
    assert n_left_out > 10


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_count(options):
    # Whatever is pruned on the way: at the end, every bucket from the level on is exact.
    for case in cases_of(4):
        search = Search(case, alpha=0.2, **options)
        *_, evidence, log_p, psi = search.scored()
        part = search.run(Goal(COUNT, first_level(search.ladder, search.settings)))
        edges = search.ladder.rungs[:, EDGE]
        level, alive = climbed(search.ladder, part.counts, part.level, search.settings)
        assert level == part.level
        # Evidence comes as exact as rounding allows: count again between the buckets.
        for bucket in range(level, len(edges), 50):
            near = np.abs(evidence - edges[bucket]) <= 1e-9 * np.maximum(1.0, edges[bucket])
            total = part.counts[bucket:].sum()
            assert (evidence[~near] >= edges[bucket]).sum() <= total
            assert total <= ((evidence >= edges[bucket]) | near).sum()
        assert alive == part.counts[level:].sum()
        if search.settings.grid_step:
            room = search.ladder.rungs[level, ROOM]
            delta, m = naive.tarone_grid(np.exp(psi).tolist(), 0.2, 0.06)
            assert m == alive
            assert 0.2 / room == pytest.approx(delta, rel=1e-9)
        # And what may be significant has been recorded.
        testable = evidence >= edges[level] * (1 + 1e-9)
        small = testable & (log_p <= math.log(0.2 / search.ladder.rungs[level, ROOM]))
        recorded = part.found[:, WHAT] & CANDIDATE > 0
        assert recorded.sum() >= small.sum()


def test_nothing_to_search():
    y = np.arange(9) % 2 == 0
    search = Search((np.ones((9, 2), dtype=bool), y, np.zeros(9, dtype=np.int64)))
    for goal in (Goal(COUNT, 0), Goal(ENUMERATE, 0), Goal(SUMMIT, 0, store=-math.inf)):
        for tasks in ([], None):
            part = search.run(goal, tasks)
            assert part.visited == 0
            assert part.most == -math.inf
            assert len(part.values) == len(part.found) == len(part.items) == part.counts.sum() == 0


def test_told_to_stop():
    search = Search(cases_of(5, 1)[0])
    shared = search.new_shared()
    shared.stop[0] = 1
    assert search.run(Goal(COUNT, 0), shared=shared).visited == 0


# ---------------------------------------------------------------------------------------------
# One task or many
# ---------------------------------------------------------------------------------------------


def finest(n):
    """Every root alone, every second one split by its children."""
    tasks = []
    for i in range(n):
        n_shares = 1 + (i % 2) * (1 + i // 2)
        tasks += [Task(i, i + 1, share, n_shares) for share in range(n_shares)]
    return tasks


def in_comparable_form(search, part):
    records = {name: part.found[row].tolist() for name, row in search.records(part).items()}
    return part.counts.tolist(), part.visited, part.most, sorted(part.values.tolist()), records


@pytest.mark.parametrize("limits", [{}, {"min_support": 3}, {"max_length": 3}])
@pytest.mark.parametrize("method", ["exact", "asymptotic"])
def test_parts_add_up(method, limits):
    rng = np.random.default_rng(7)
    for case in cases_of(6):
        search = Search(case, method=method, **limits)
        if not search.n_columns:
            continue
        goals = [Goal(COLLECT, 30, store=float(search.ladder.rungs[30, STORE_FROM]), keep=0.0)]
        if "max_length" not in limits:  # closures are left to the end there
            goals.append(Goal(ENUMERATE, 0, keep=0.0))
        for goal in goals:
            whole = search.run(goal)
            if "max_length" in limits:
                expected = sorted(whole.found.tolist())
            else:
                expected = in_comparable_form(search, whole)
            tasks = finest(search.n_columns)
            order = [tasks[i] for i in rng.permutation(len(tasks))]
            border = int(rng.integers(0, len(tasks) + 1))
            for workers in ([tasks], [order], [order[:border], order[border:]],
                            [[task] for task in order]):  # fmt: skip
                part = merged([search.run(goal, own) for own in workers])
                if "max_length" in limits:
                    assert sorted(part.found.tolist()) == expected
                    assert part.visited == whole.visited
                else:
                    assert in_comparable_form(search, part) == expected


def test_parts_of_different_levels():
    search = Search(cases_of(8, 1)[0])
    one, two = (search.run(Goal(COLLECT, 5, keep=math.inf)) for _ in range(2))
    one.level, two.level = 10, 700
    one.window, two.window = 9.0, 4.0
    one.sample_mask, two.sample_mask = 1, 7
    two.most = one.most + 1
    both = merged([one, two])
    assert both.level == 700
    assert not both.counts[:700].any()
    np.testing.assert_array_equal(both.counts[700:], 2 * one.counts[700:])
    assert (both.window, both.sample_mask, both.most) == (4.0, 7, two.most)
    assert both.visited == 2 * one.visited
    for name in ("values", "evidence", "found", "items"):
        halves = getattr(one, name), getattr(two, name)
        np.testing.assert_array_equal(getattr(both, name), np.concatenate(halves))


def test_workers_of_one_search_hear_of_each_other():
    # The second worker starts where the counts of the first one put the threshold, as soon as it
    # has exchanged them: it visits less than if it were alone.
    rng = np.random.default_rng(1)
    n, p = (400, 40) if JIT_ENABLED else (150, 16)
    case = rng.random((n, p)) < 0.5, rng.random(n) < 0.5, np.zeros(n, dtype=np.int64)
    search = Search(case, method="asymptotic")
    level = first_level(search.ladder, search.settings)
    half = p * 2 // 3
    tasks = [Task(i, i + 1) for i in range(p)]
    alone = search.run(Goal(COUNT, level), tasks[:half])
    shared = search.new_shared()
    with pytest.MonkeyPatch.context() as patched:
        if not JIT_ENABLED:  # compiled kernels have the number in them
            for module in ("block_kernel", "pair_kernel"):
                patched.setattr(f"sigmine.search.{module}.EXCHANGE_AFTER", 50)
        other = search.run(Goal(COUNT, level), tasks[half:], shared=shared)
        assert shared.counts.sum() > 0
        together = search.run(Goal(COUNT, level), tasks[:half], shared=shared)
    assert together.level >= other.level > level
    assert together.visited < alone.visited
    parts = merged([other, together])
    whole = search.run(Goal(COUNT, level))
    last = climbed(search.ladder, parts.counts, parts.level, search.settings)
    assert last == climbed(search.ladder, whole.counts, whole.level, search.settings)


def test_the_sample_of_a_worker_is_thinned_by_the_hash():
    case = cases_of(9, 1)[0]
    search = Search(case, alpha=0.9, max_length=None)
    goal = Goal(COUNT, first_level(search.ladder, search.settings))
    full = search.run(goal)
    sampled = full.found[:, WHAT] & SAMPLED > 0
    assert full.sample_mask == 0
    assert sampled.sum() > 8
    thin = search.run(goal, sample_size=1)
    assert thin.sample_mask > 0
    keys = {key for key in full.found[sampled, KEY].tolist() if key & thin.sample_mask == 0}
    found = thin.found[thin.found[:, WHAT] & SAMPLED > 0]
    assert {key for key in found[:, KEY].tolist() if key & thin.sample_mask == 0} == keys
    # What may be significant is there all the same.
    for part in (full, thin):
        assert len(np.unique(part.found[:, KEY])) == len(part.found)
    candidates = [
        sorted(part.found[part.found[:, WHAT] & CANDIDATE > 0, KEY].tolist())
        for part in (full, thin)
    ]
    assert candidates[0] == candidates[1]


# ---------------------------------------------------------------------------------------------
# From one kernel to the other: 64 rows fill a word, 128 rows fill two
# ---------------------------------------------------------------------------------------------

BORDERS = (1, 2, 63, 64, 65, 127, 128, 129, 130)


def nested_case(rng, m, depth, spread, n_strata, n_rows=330):
    """A table in which the `depth` + 1 sparsest items hold together in exactly `m` rows.

    The rows stand side by side in few words, or far apart in all of them. Five more items,
    denser than those, extend the node.
    """
    order = rng.permutation(n_rows) if spread else np.arange(37, 37 + n_rows) % n_rows
    matrix = np.zeros((n_rows, depth + 6), dtype=bool)
    rest = order[m:]
    for j in range(depth + 1):
        matrix[order[:m], j] = True
        if depth:  # each of the others has a part of the rest, without a row common to all
            share = rest[np.arange(len(rest)) % (depth + 1) != j]
            n_more = int(len(share) * (0.4 + 0.02 * j))
            matrix[rng.permutation(share)[:n_more], j] = True
    supports = matrix[:, : depth + 1].sum(axis=0)
    for j in range(depth + 1, depth + 6):
        n_ones = min(n_rows - 1, int(supports.max()) + 10 * (j - depth))
        inside = order[:m][rng.random(m) < 0.75]
        matrix[inside, j] = True
        outside = rng.permutation(rest)[: n_ones - len(inside)]
        matrix[outside, j] = True
    assert matrix[:, : depth + 1].all(axis=1).sum() == m
    strata = np.arange(n_rows) * n_strata // n_rows  # borders anywhere in a word
    y = rng.random(n_rows) < np.where(matrix[:, -2:].all(axis=1), 0.9, 0.15)
    y[np.flatnonzero(np.diff(strata, prepend=-1))] = True  # both classes in every stratum
    y[np.flatnonzero(np.diff(strata, append=n_strata))] = False
    return matrix, y, strata


def assert_equal_to_brute_force(case, **options):
    """Compare thresholds and patterns; return the number of significant patterns."""
    search = Search(case, **options)
    closed, x, a, _, log_p, psi = search.scored()
    alpha = search.settings.alpha
    delta, m = naive.tarone_exact(np.exp(psi).tolist(), alpha)
    problem, outcome = mine(*case, **options)
    assert outcome.n_testable == m
    assert outcome.testability_threshold == pytest.approx(delta, rel=1e-7, nan_ok=True)
    expected = {
        frozenset(map(str, name)): frozenset(
            zip(problem.stratum_labels, x[i].tolist(), a[i].tolist(), strict=True)
        )
        for i, name in enumerate(closed)
        if naive.at_most(math.exp(psi[i]), delta) and naive.at_most(math.exp(log_p[i]), alpha / m)
    }
    assert patterns(problem, outcome) == expected
    return len(expected)


@pytest.mark.parametrize("m", BORDERS)
@pytest.mark.parametrize("spread", [False, True], ids=["side by side", "far apart"])
def test_row_sets_at_the_borders_of_words_are_all_enumerated(m, spread):
    rng = np.random.default_rng([m, spread])
    for depth, n_strata in ((0, 1), (1, 3), (2, 3)):
        search = Search(nested_case(rng, m, depth, spread, n_strata))
        expected = {name: sum(x) for name, (x, _) in search.hypotheses().items()}
        assert m in expected.values()
        part = search.run(Goal(ENUMERATE, 0, keep=0.0))
        rows = search.records(part)
        assert {name: part.found[row, CARRIERS] for name, row in rows.items()} == expected
        assert part.visited == len(expected)


@pytest.mark.parametrize("m", BORDERS)
@pytest.mark.parametrize("spread", [False, True], ids=["side by side", "far apart"])
@pytest.mark.parametrize("method", ["exact", "asymptotic"])
def test_row_sets_at_the_borders_of_words_are_all_tested(m, spread, method):
    rng = np.random.default_rng([m, spread, method == "exact"])
    n_significant = 0
    n_strata = [1, 3, 40]
    for depth in (0, 1, 2):
        case = nested_case(rng, m, depth, spread, n_strata[(depth + m) % 3])
        alternative = ["two-sided", "greater", "less"][(depth + m // 2) % 3]
        n_significant += assert_equal_to_brute_force(
            case, method=method, alternative=alternative, alpha=0.3
        )
        # At a level where everything is testable, and with short descriptions.
        search = Search(case, method=method)
        evidence = search.scored()[3]
        part = search.run(Goal(COLLECT, 0, store=1e-6, keep=math.inf))
        np.testing.assert_allclose(
            np.sort(part.values), np.sort(evidence[evidence >= 1e-6]), rtol=1e-9
        )
    assert_equal_to_brute_force(case, method=method, max_length=3, alpha=0.3)
    assert n_significant > 0


@pytest.mark.parametrize("n_words", [3, 5, 8])
def test_the_choice_between_packing_and_leaving_out_words(n_words):
    # 129 rows and more in 3 to 8 words: packed if that halves the words, otherwise not.
    rng = np.random.default_rng(n_words)
    for m in (129, 192, 193, 256):
        if m > 64 * n_words - 20:
            continue
        case = nested_case(rng, m, 1, True, 2, n_rows=64 * n_words)
        search = Search(case)
        expected = {name: sum(x) for name, (x, _) in search.hypotheses().items()}
        part = search.run(Goal(ENUMERATE, 0, keep=0.0))
        found = {name: part.found[row, CARRIERS] for name, row in search.records(part).items()}
        assert found == expected
        assert_equal_to_brute_force(case, alpha=0.3)


# ---------------------------------------------------------------------------------------------
# Other processors
# ---------------------------------------------------------------------------------------------

_DIGEST = """
import hashlib, numpy as np
from sigmine._jit import HAS_PEXT
from tests.searches import mine
rng = np.random.default_rng(77)
digest, n_testable, n_found = hashlib.sha256(), 0, 0
for options in (dict(method="exact"), dict(method="asymptotic", max_length=3)):
    for n, p, k, density in ((90, 9, 2, 0.5), (400, 12, 3, 0.4), (150, 80, 1, 0.06)):
        matrix, y = rng.random((n, p)) < density, rng.random(n) < 0.4
        y |= matrix[:, 0] & matrix[:, 1]
        outcome = mine(matrix, y, rng.integers(0, k, n), alpha=0.3, **options)[1]
        for name in ("n_visited", "n_testable", "testability_threshold", "generators", "closures",
                     "support", "support_cases", "sample_support", "sample_cases"):
            value = getattr(outcome, name)
            value = [v.tolist() for v in value] if name in ("generators", "closures") else value
            digest.update(repr(np.asarray(value).tolist() if name[0] == "s" else value).encode())
        n_testable, n_found = n_testable + outcome.n_testable, n_found + len(outcome.closures)
assert n_testable > 500 and n_found > 50, (n_testable, n_found)
print(digest.hexdigest(), HAS_PEXT)
"""


def digest_with(repository, cache, **variables):
    """Return the digest of some searches in a new interpreter, and whether it used `pext`."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), **variables}
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "SIGMINE_NO_PEXT"):
        if name not in variables:
            environment.pop(name, None)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", _DIGEST],
        env=environment,
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    digest, pext = run.stdout.split()
    assert len(digest) == hashlib.sha256().digest_size * 2
    return digest, pext == "True"


@pytest.mark.slow
@pytest.mark.skipif(not JIT_ENABLED, reason="nothing is compiled")
@pytest.mark.timeout(1200)
def test_every_processor_gives_the_same(repository, tmp_path):
    # Every variant compiles everything anew: ten seconds and more each.
    here, _ = digest_with(repository, tmp_path / "host")
    names = ["generic"]
    if platform.machine().lower() in {"x86_64", "amd64"}:
        names.append("x86-64-v3")
    for name in names:
        assert digest_with(repository, tmp_path / name, NUMBA_CPU_NAME=name) == (here, False)
    # The switch is not part of numba's key of the cache, so it has a cache of its own here.
    assert digest_with(repository, tmp_path / "steps", SIGMINE_NO_PEXT="1") == (here, False)
    assert digest_with(repository, tmp_path / "python", NUMBA_DISABLE_JIT="1")[0] == here
