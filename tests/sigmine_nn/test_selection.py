"""Selection of units: slow twins, exact counts on ties, nested sets, budgets met."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from sigmine import ranking
from sigmine.exceptions import DataWarning, InputError, InputTypeError
from sigmine_nn.costs import Costs
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError
from sigmine_nn.scores import ScoreTable
from sigmine_nn.selection import Reason, Target, count_kept, select_units
from sigmine_nn.surgery import remove_units
from sigmine_nn.units import Kind, Role, Slice, UnitGroup, Units
from tests import naive_selection as naive

torch.set_num_threads(1)

NAN, INF = math.nan, math.inf
TIED = st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, 3.5, -1.0, INF, -INF])

VALUE = st.none() | TIED | TIED


def units_of(sizes, blocks=None):
    """Groups g0, g1, ... of rows of weights with 3 columns."""
    blocks = blocks or [1] * len(sizes)
    groups = tuple(
        UnitGroup(f"g{i}", Kind.ROW, n, (Slice(f"g{i}.weight", 0, Role.OUT),), blocks=b,
                  removable=False)
        for i, (n, b) in enumerate(zip(sizes, blocks, strict=True))
    )  # fmt: skip
    return Units(groups, {f"g{i}.weight": (n, 3) for i, n in enumerate(sizes)})


def table_of(scores, blocks=None):
    units = units_of([len(values) for values in scores], blocks)
    flat = [NAN if value is None else value for values in scores for value in values]
    return ScoreTable(units, torch.tensor(flat, dtype=torch.float64), "given")


def kept_set(units, keep):
    parts = units.split(keep)
    return {
        (g, i) for g, name in enumerate(units.names) for i in np.flatnonzero(parts[name]).tolist()
    }


@st.composite
def cases(draw, max_blocks=3, max_groups=3, max_rows=4, value=VALUE):
    """Scores by group with ties, undefined ones and blocks."""
    scores, blocks = [], []
    for _ in range(draw(st.integers(1, max_groups))):
        b = draw(st.integers(1, max_blocks))
        n = b * draw(st.integers(1, max_rows))
        scores.append(draw(st.lists(value, min_size=n, max_size=n)))
        blocks.append(b)
    return scores, blocks


def undefined(scores):
    return {(g, i) for g, values in enumerate(scores) for i, v in enumerate(values) if v is None}


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return select_units(*arguments, **options)


# -- Against slow twins ------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(cases(max_blocks=1, max_rows=3), st.integers(1, 3), st.floats(0, 0.99))
def test_the_kept_set_is_the_best_of_all_subsets(case, minimum, amount):
    scores, _ = case
    table = table_of(scores)
    n = table.units.n
    k = count_kept(amount, n)
    forced = undefined(scores)
    # Where the undefined ones stand does not matter, since all of them are in every set.
    filled = [[0.0 if v is None else v for v in values] for values in scores]
    expected = naive.best_subset(filled, k, minimum, forced)
    if expected is None:
        with pytest.raises(InputError, match="at most"):
            quietly(table, amount, minimum=minimum)
        return
    assert kept_set(table.units, quietly(table, amount, minimum=minimum).keep) == expected


@settings(max_examples=300, deadline=None)
@given(
    cases(), st.integers(1, 5), st.integers(1, 4), st.floats(0, 0.99),
    st.lists(st.booleans(), min_size=36, max_size=36),
)  # fmt: skip
def test_blocks_minimum_rounding_and_undefined_scores(case, minimum, round_to, amount, asked):
    scores, blocks = case
    table = table_of(scores, blocks)
    user = np.array(asked[: table.units.n]) & np.array(asked[-table.units.n :])
    forced = undefined(scores) | kept_set(table.units, user)
    k = count_kept(amount, table.units.n)
    expected = naive.select(scores, blocks, forced, k, minimum, round_to)
    options = {"minimum": minimum, "round_to": round_to, "keep": user}
    if expected is None:
        with pytest.raises(InputError, match="at most") as caught:
            quietly(table, amount, **options)
        least = next(naive.climb(scores, blocks, forced, minimum, round_to))
        assert f"at most {table.units.n - len(least)} can be" in str(caught.value)
        return
    found = quietly(table, amount, **options)
    assert kept_set(table.units, found.keep) == expected
    for group in table.units:
        where = table.units.range_of(group.name)
        in_blocks = found.keep[where.start : where.stop].reshape(group.blocks, -1).sum(axis=1)
        assert len(set(in_blocks.tolist())) == 1


@settings(max_examples=100, deadline=None)
@given(cases(max_blocks=1, max_rows=5), st.data())
def test_scopes_are_selected_one_by_one(case, data):
    scores, _ = case
    names = [f"g{i}" for i in range(len(scores))]
    place = [data.draw(st.integers(0, 1)) for _ in names]
    scope = {
        f"s{s}": [name for name, p in zip(names, place, strict=True) if p == s]
        for s in sorted(set(place))
    }
    amounts = {name: data.draw(st.floats(0, 0.9)) for name in scope}
    table = table_of(scores)
    forced, expected = undefined(scores), set()
    for name, groups in scope.items():
        members = [int(group[1:]) for group in groups]
        mine = [scores[g] for g in members]
        local = {(members.index(g), i) for g, i in forced if g in members}
        k = count_kept(amounts[name], sum(map(len, mine)))
        part = naive.select(mine, [1] * len(mine), local, k, 1, 1)
        assume(part is not None)
        expected |= {(members[g], i) for g, i in part}
    found = quietly(table, scope=scope, allocation=amounts)
    assert kept_set(table.units, found.keep) == expected
    assert set(found.thresholds) == set(scope)


@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(1, 3), st.integers(1, 3), st.floats(0, 0.95), st.integers(1, 5))
def test_budgets_of_parameters_come_as_near_as_single_candidates_allow(
    case, minimum, round_to, removed, rest
):
    scores, blocks = case
    table = table_of(scores, blocks)
    model = nn.ModuleDict(
        {f"g{i}": nn.Linear(3, len(values), bias=False) for i, values in enumerate(scores)}
    )
    model["rest"] = nn.Linear(rest, 1)
    costs = Costs.of(model, table.units)
    wanted = (1 - removed) * costs.parameters()

    def cost(kept):
        return 3 * len(kept) + rest + 1

    forced = undefined(scores)
    expected = naive.nearest(scores, blocks, forced, minimum, round_to, cost, wanted)
    options = {"params": removed, "costs": costs, "minimum": minimum, "round_to": round_to}
    if expected is None:
        with pytest.raises(InputError, match="at most"):
            quietly(table, **options)
        return
    found = quietly(table, **options)
    assert cost(kept_set(table.units, found.keep)) == cost(expected)
    assert found.achieved["parameters"] == pytest.approx(1 - cost(expected) / costs.parameters())


# -- Theorems ----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(cases(max_blocks=1, max_rows=12, value=TIED), st.floats(0, 0.99))
def test_exactly_k_are_kept_whatever_the_ties(case, amount):
    table = table_of(case[0])
    n, k = table.units.n, count_kept(amount, table.units.n)
    assert ranking.select(torch.zeros(n), ranking.sparsity(amount)).n_kept == k
    if k >= len(table.units):
        assert select_units(table, amount).n_kept == k


@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(1, 3), st.integers(1, 3), st.data())
def test_kept_sets_are_nested(case, minimum, round_to, data):
    table = table_of(*case)
    low, high = sorted(data.draw(st.tuples(st.floats(0, 0.6), st.floats(0, 0.6))))
    try:
        fewer = quietly(table, high, minimum=minimum, round_to=round_to).keep
    except InputError:
        assume(False)
    more = quietly(table, low, minimum=minimum, round_to=round_to).keep
    assert (more | ~fewer).all()


@settings(max_examples=60, deadline=None)
@given(cases(max_blocks=2), st.floats(0, 0.6))
def test_adding_a_constant_to_ranks_changes_nothing(case, amount):
    """The selection is a function of the order alone (single units, no means over blocks)."""
    scores, _ = case
    table = table_of(scores)
    defined = ~table.score.isnan()
    other = table.score.clone()
    ranks = ranking.ranks(table.score[defined], largest=False, ties="min")
    other[defined] = ranks.double() * 7 - 3
    try:
        expected = quietly(table, amount).keep
    except InputError:
        assume(False)
    assert (quietly(ScoreTable(table.units, other, "ranks"), amount).keep == expected).all()


def test_fractions_are_counted_as_the_ranking_engine_counts_them():
    assert count_kept(0.29, 100) == 71  # 0.29 x 100 is below 29 in floats
    for n in (1, 7, 100, 1000):
        for percent in range(100):
            rule = ranking.sparsity(percent / 100)
            assert ranking.select(np.zeros(n), rule).n_kept == count_kept(percent / 100, n)


# -- What is reported --------------------------------------------------------------------------


def test_reasons_and_thresholds():
    table = table_of([[5.0, 4.0, 3.0, None], [0.2, 0.1], [1.0, 2.0, 0.5]])
    found = select_units(table, 0.5, keep=["g2.2"])
    # 9 units, 5 stay: the undefined one, the one asked for, the best of g1, and 2 by rank
    assert found.keep.tolist() == [True, True, False, True, True, False, False, False, True]
    names = [found.reason_of(unit) for unit in range(9)]
    assert names[3] is Reason.UNDEFINED
    assert names[8] is Reason.USER
    assert names[4] is Reason.PROTECTED
    assert {names[i] for i in (0, 1, 2, 5, 6, 7)} == {Reason.RANKED}
    assert found.threshold == 4.0
    assert found.n_undefined == 1
    assert found.target is Target.UNITS
    assert found.requested == 0.5
    assert found.achieved == {"units": pytest.approx(4 / 9)}
    frame = found.to_frame()
    assert list(frame.columns) == ["unit", "layer", "index", "kind", "score", "keep", "reason"]
    assert frame["reason"].tolist() == names
    layers = found.by_layer().set_index("layer")
    assert layers.loc["g0", "n_kept"] == 3
    assert layers.loc["g0", "sparsity"] == 0.25
    assert layers.loc["g0", "n_undefined"] == 1
    assert layers.loc["g0", "lowest_kept"] == 4.0
    assert layers.loc["g0", "highest_removed"] == 3.0
    assert layers.loc["g1", "n_protected"] == 1
    assert math.isnan(layers.loc["g1", "lowest_kept"])
    assert layers.loc["g2", "n_user"] == 1


def test_units_kept_in_multiples_are_protected():
    table = table_of([[8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    found = select_units(table, 0.6, round_to=4)
    assert found.n_kept == 4
    assert found.achieved["units"] == 0.5
    both = table_of([[8.0, 7.0, 6.0, 5.0], [9.0, 1.0, 0.5, 0.25]])
    found = select_units(both, 0.5, round_to=2)
    assert found.by_layer()["n_kept"].tolist() == [2, 2]
    assert found.reason_of(5) is Reason.PROTECTED
    assert found.reason_of(1) is Reason.RANKED
    assert found.threshold == 7.0


def test_infinite_scores_of_both_signs_in_blocks():
    table = table_of([[INF, 0.0, -INF, 1.0, -INF, -INF]], [2])
    found = select_units(table, 1 / 3)
    # candidates: (inf, 1), (0, -inf), (-inf, -inf)
    assert found.keep.tolist() == [True, True, False, True, True, False]


def test_layers_uniform_erk_and_named_amounts():
    generator = torch.Generator().manual_seed(3)
    units = units_of([10, 20, 40])
    table = ScoreTable(units, torch.rand(70, generator=generator).double(), "given")
    kept = select_units(table, 0.3, scope="layer").by_layer()["n_kept"].tolist()
    assert kept == [7, 14, 28]
    assert select_units(table, 0.3, allocation="uniform").by_layer()["n_kept"].tolist() == kept
    named = select_units(table, 0.5, allocation={"g1": 0.25}).by_layer()["n_kept"].tolist()
    assert named == [5, 15, 20]
    erk = select_units(table, 0.5, allocation="erk").by_layer()
    assert erk["sparsity"].is_monotonic_increasing  # large layers lose more
    assert sum(erk["n_kept"]) == pytest.approx(35, abs=3)
    isomorphic = select_units(table, 0.5, allocation="isomorphic")
    assert (isomorphic.keep == select_units(table, 0.5).keep).all()  # all are alike


def test_scales_make_layers_comparable():
    table = table_of([[1.0, 2.0, 3.0, 4.0], [100.0, 200.0, None, 300.0]])
    assert select_units(table, 0.5).by_layer()["n_kept"].tolist() == [1, 3]
    found = select_units(table, 0.5, normalise="max")
    # 0.25 0.5 0.75 1 | 0.33 0.67 - 1: the undefined one stays, and the best three
    assert found.keep.tolist() == [False, False, True, True, False, False, True, True]
    assert found.threshold == 0.75
    assert select_units(table, 0.5, normalise="rank").n_kept == 4


def test_most_scores_undefined_is_a_warning():
    table = table_of([[None, None, 1.0], [2.0, None, 3.0]])
    select_units(table, 0.3)
    with pytest.warns(DataWarning, match="4 of 6 units are not defined \\(in g0, g1\\)"):
        found = select_units(table_of([[None, None, None], [2.0, None, 3.0]]), 0.2)
    assert found.keep.tolist() == [True, True, True, False, True, True]


def test_numpy_and_torch_of_either_precision_agree():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 50, size=400).astype(np.float64)
    units = units_of([100, 250, 50])
    expected = select_units(ScoreTable(units, torch.from_numpy(scores), "given"), 0.63).keep
    in_numpy = ranking.select(scores, ranking.sparsity(0.63)).mask
    assert (expected == in_numpy).all()
    single = ScoreTable(units, torch.from_numpy(scores.astype(np.float32)), "given")
    assert (select_units(single, 0.63).keep == expected).all()


def test_one_cut_and_the_ladder_agree_on_many_units():
    generator = torch.Generator().manual_seed(0)
    units = units_of([60_000, 40_000])
    table = ScoreTable(units, torch.randint(0, 999, (100_000,), generator=generator).double(), "x")
    at_once = select_units(table, 0.77)
    model = nn.ModuleDict({f"g{i}": nn.Linear(3, g.n_units, bias=False) for i, g in
                           enumerate(units)})  # fmt: skip
    by_ladder = select_units(table, params=0.77, costs=Costs.of(model, units))
    assert (at_once.keep == by_ladder.keep).all()
    assert at_once.threshold == by_ladder.threshold
    assert (at_once.reason == by_ladder.reason).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_units():
    generator = torch.Generator().manual_seed(0)
    units = units_of([60_000, 40_000], [1, 8])
    scores = torch.randint(0, 999, (100_000,), generator=generator).double()
    scores[::1000] = NAN
    for options in ({}, {"round_to": 8}, {"scope": "layer"}, {"minimum": 30_000}):
        here = select_units(ScoreTable(units, scores, "x"), 0.5, **options)
        there = select_units(ScoreTable(units, scores.cuda(), "x"), 0.5, **options)
        assert (here.keep == there.keep).all()
        assert here.thresholds == there.thresholds
        assert (here.reason == there.reason).all()


# -- Budgets on real networks ------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 48, 3, padding=1)
        self.b = nn.Conv2d(48, 96, 3, padding=1, stride=2)
        self.bn = nn.BatchNorm2d(96)
        self.c = nn.Conv2d(96, 64, 3, padding=1)
        self.fc = nn.Linear(64 * 16, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.bn(self.b(torch.relu(self.a(x)))))
        return self.out(torch.relu(self.fc(torch.relu(self.c(x)).flatten(1))))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(2, 1, 8, 8)
    units = find_units(model, "channel", x)
    score = torch.rand(units.n, generator=torch.Generator().manual_seed(1)).double()
    return model, x, ScoreTable(units, score, "given"), Costs.of(model, units, x)


@pytest.mark.parametrize("removed", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("how", [{}, {"scope": "layer"}, {"allocation": "erk"}])
@pytest.mark.parametrize("target", ["params", "flops"])
def test_targets_are_met_within_one_per_cent_on_the_smaller_network(net, removed, how, target):
    model, x, table, costs = net
    found = select_units(table, costs=costs, **{target: removed}, **how)
    small, _ = remove_units(model, table.units, found.keep, example_inputs=x)
    after = sum(p.numel() for p in small.parameters())
    before = sum(p.numel() for p in model.parameters())
    assert found.achieved["parameters"] == pytest.approx(1 - after / before)
    name = "parameters" if target == "params" else "flops"
    assert found.target == name
    assert abs(found.achieved[name] - removed) <= 0.01


def test_targets_with_multiples_and_named_amounts(net):
    _, _, table, costs = net
    found = select_units(table, params=0.5, costs=costs, round_to=8)
    assert (found.by_layer()["n_kept"] % 8 == 0).all()
    # Eight of 64 channels of the convolution before the large linear layer are 9 per cent.
    assert abs(found.achieved["parameters"] - 0.5) < 0.05
    found = select_units(table, flops=0.3, costs=costs, allocation={"a": 0.0})
    assert found.by_layer()["n_kept"][0] == 48
    assert abs(found.achieved["flops"] - 0.3) <= 0.01


def test_element_budgets_count_weights(net):
    model = net[0]
    units = find_units(model, "element")
    score = torch.rand(units.n, generator=torch.Generator().manual_seed(1)).double()
    costs = Costs.of(model, units, net[1])
    found = select_units(ScoreTable(units, score, "given"), flops=0.75, costs=costs)
    assert abs(found.achieved["flops"] - 0.75) < 1e-3


# -- Errors ------------------------------------------------------------------------------------


def test_a_budget_that_cannot_be_met_says_what_can(net):
    _, _, table, costs = net
    with pytest.raises(InputError, match=r"0\.999 of the parameters .* at most 0\.9") as caught:
        select_units(table, params=0.999, costs=costs, minimum=8)
    share = float(str(caught.value).split("at most ")[1].split(" ")[0])
    found = select_units(table, params=share, costs=costs, minimum=8)
    assert found.achieved["parameters"] >= share - 0.01
    small = table_of([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(InputError, match=r"3 of 4 units would .* at most 2 can be .*0\.5"):
        select_units(small, 0.75)
    with pytest.raises(InputError, match="of 'g0' would"):
        select_units(small, 0.5, scope="layer", minimum=2)
    with pytest.raises(InputError, match="in multiples of 2"):
        select_units(small, 0.75, round_to=2)


def test_arguments_that_cannot_be_used(net):
    _, _, table, costs = net
    for amount in (1.0, -0.1, NAN):
        with pytest.raises(InputError, match="amount"):
            select_units(table, amount)
    with pytest.raises(InputTypeError, match="ScoreTable"):
        select_units(table.score)
    with pytest.raises(InputError, match="both"):
        select_units(table, params=0.5, flops=0.5, costs=costs)
    with pytest.raises(InputError, match=r"parameters needs costs="):
        select_units(table, params=0.5)
    with pytest.raises(InputError, match="example_inputs"):
        select_units(table, flops=0.5, costs=Costs.of(net[0], table.units))
    with pytest.raises(InputError, match="other units"):
        select_units(table_of([[1.0, 2.0]]), 0.5, costs=costs)
    with pytest.raises(InputError, match="minimum"):
        select_units(table, minimum=0)
    with pytest.raises(InputTypeError, match="round_to"):
        select_units(table, round_to=2.0)
    with pytest.raises(InputTypeError, match="a string"):
        select_units(table, keep="a")
    with pytest.raises(ModelError, match="no group of units 'nowhere'"):
        select_units(table, keep=["nowhere"])
    with pytest.raises(InputError, match=r"'a\.48'.*48 units"):
        select_units(table, keep=["a.48"])
    with pytest.raises(InputError, match=r"shape \(2,\)"):
        select_units(table, keep=[True, False])


def test_what_the_caller_keeps_by_group_mask_or_tensor(net):
    _, _, table, _ = net
    where = table.units.range_of("c")
    mask = np.zeros(table.units.n, dtype=bool)
    mask[where.start : where.stop] = True
    by_name = select_units(table, 0.6, keep=["c"])
    assert by_name.keep[where.start : where.stop].all()
    assert (select_units(table, 0.6, keep=mask).keep == by_name.keep).all()
    assert (select_units(table, 0.6, keep=torch.from_numpy(mask)).keep == by_name.keep).all()
