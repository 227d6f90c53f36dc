"""Criteria: each against its formula in plain numbers, high = keep, undefined = NaN."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sigmine.exceptions import InputError
from sigmine_nn import criteria
from sigmine_nn.calibrate import Calibration, Statistic, calibrate
from sigmine_nn.criteria import CRITERIA, Scoring, get_criterion
from sigmine_nn.criteria.geometry import _fermat_point
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.moments import Moments
from sigmine_nn.scores import Aggregate
from sigmine_nn.units import Gate, Kind, Role, Slice, UnitGroup, Units
from tests import naive_criteria
from tests.calibration_nets import images, in_batches, residual, units_of

# Tried on state space layers in test_state_criteria.
OF_STATES = {"last", "hinf", "aire", "state_magnitude", "state_energy"}


@pytest.fixture(scope="module")
def network():
    """Return a model, its units, data, and a scoring with every statistic."""
    model, (x, y) = residual(), images()
    units = model.units()
    found = calibrate(
        model, in_batches(x, y, 5, 7), units, list(Statistic), loss="cross_entropy",
        keep_samples=True,
    )  # fmt: skip
    return model, x, y, Scoring.of(model, units, found)


def weights_of(model, unit):
    """Return the rows of the convolutions that compute a unit, and their biases."""
    if unit < 6:
        rows = [model.stem.weight[unit], model.conv2.weight[unit]]
        return rows, [model.stem.bias[unit], model.conv2.bias[unit]]
    return [model.conv1.weight[unit - 6]], []


def flat(tensors):
    return [float(v) for t in tensors for v in t.detach().reshape(-1)]


def with_gradients(model, x, y):
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def expected_of_weights(model):
    rows = [flat(weights_of(model, u)[0]) for u in range(10)]
    squares = [sum(v * v for v in row) for row in rows]
    return {
        "l1": [sum(map(abs, row)) for row in rows],
        "l2": [math.sqrt(s) for s in squares],
        "lamp": naive_criteria.tail_shares(squares[:6]) + naive_criteria.tail_shares(squares[6:]),
        "geometric_median": naive_criteria.distances(rows[:6]) + naive_criteria.distances(rows[6:]),
        "bn_scale": [abs(v) for v in flat([model.bn.weight, model.bn1.weight])],
        "bn_shift": [abs(v) for v in flat([model.bn.bias, model.bn1.bias])],
    }


def test_criteria_of_weights_equal_their_twins(network):
    model, _, _, scoring = network
    for name, expected in expected_of_weights(model).items():
        table = get_criterion(name)(scoring)
        np.testing.assert_allclose(table.score.numpy(), expected, rtol=1e-10, err_msg=name)
        assert table.criterion == name
        assert not table.has_sampling_distribution


def test_criteria_of_weights_and_gradients_equal_their_twins(network):
    model, x, y, scoring = network
    gradients = with_gradients(model, x, y)
    pairs = []
    for unit in range(10):
        names = ["stem", "conv2"] if unit < 6 else ["conv1"]
        row = unit if unit < 6 else unit - 6
        weights = [(f"{n}.weight", row) for n in names]
        biases = [(f"{n}.bias", row) for n in names if n != "conv1"]
        pairs.append((weights, biases))

    def products(places):
        return [
            float(v)
            for name, row in places
            for v in (model.get_parameter(name).detach()[row] * gradients[name][row]).reshape(-1)
        ]

    each = [sum(map(abs, products(w + b))) for w, b in pairs]
    whole = [abs(sum(products(w + b))) for w, b in pairs]
    weights = [sum(map(abs, products(w))) for w, _ in pairs]
    expected = {
        "taylor_weight": (get_criterion("taylor_weight"), each),
        "absolute": (get_criterion("taylor_weight", form="absolute_sum"), whole),
        "snip": (get_criterion("snip"), [v / sum(weights) for v in weights]),
    }
    for name, (criterion, values) in expected.items():
        np.testing.assert_allclose(
            criterion(scoring).score.numpy(), values, rtol=1e-9, err_msg=name
        )


def test_second_order_criteria_are_sums_over_what_goes(network):
    model, _, _, scoring = network
    found = scoring.calibration.of_parameters
    fisher, product = found[Statistic.FISHER], found[Statistic.HESSIAN_GRADIENT]

    def total(unit, values):
        """Sum values over the rows and biases of a unit."""
        names = ["stem", "conv2"] if unit < 6 else ["conv1"]
        row = unit if unit < 6 else unit - 6
        places = [f"{n}.{t}" for n in names for t in ("weight", "bias") if f"{n}.{t}" in values]
        return sum(float(values[p][row].sum()) for p in places)

    theta = dict(model.named_parameters())
    saliency = {n: theta[n].detach() ** 2 * fisher[n] / 2 for n in theta}
    expected = [total(u, saliency) for u in range(10)]
    np.testing.assert_allclose(get_criterion("obd")(scoring).score.numpy(), expected, rtol=1e-9)
    flow = {n: theta[n].detach() * product[n] for n in theta}
    expected = np.array([total(u, flow) for u in range(10)])
    for unit in range(6):
        expected[unit] += float(flow["bn.weight"][unit] + flow["bn.bias"][unit])
        expected[unit] += float(flow["conv1.weight"][:, unit].sum())
        expected[unit] += float(flow["fc.weight"][:, unit * 25 : (unit + 1) * 25].sum())
    for unit in range(4):
        expected[6 + unit] += float(flow["bn1.weight"][unit] + flow["bn1.bias"][unit])
        expected[6 + unit] += float(flow["conv2.weight"][:, unit].sum())
    for direction, values in (
        ("increase", expected), ("decrease", -expected), ("preserve", abs(expected)),
    ):  # fmt: skip
        score = get_criterion("grasp", direction=direction)(scoring).score
        np.testing.assert_allclose(score.numpy(), values, rtol=1e-8, err_msg=direction)


def test_grasp_predicts_the_change_of_the_gradient_s_norm():
    # Scaling the parameters of a unit by 1 + e changes |g|^2 / 2 by e x score, to first order.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3
    units = find_units(model, "row")
    found = calibrate(model, [(x, y)], units, ["hessian_gradient"], loss="cross_entropy")
    score = get_criterion("grasp")(Scoring.of(model, units, found)).score

    def half_square():
        gradients = with_gradients(model, x, y)
        return 0.5 * sum(float(g.square().sum()) for g in gradients.values())

    for unit in range(9):
        group = units[int(np.searchsorted(units.ends, unit, side="right"))]
        row = unit - units.range_of(group.name).start
        values = []
        for factor in (1 - 1e-4, 1 + 1e-4):
            with torch.no_grad():
                for piece in group.slices:
                    model.get_parameter(piece.parameter)[row] *= factor
            values.append(half_square())
            with torch.no_grad():
                for piece in group.slices:
                    model.get_parameter(piece.parameter)[row] /= factor
        slope = (values[1] - values[0]) / 2e-4
        assert score[unit].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_wanda_by_element_and_by_unit(network):
    model, x, _, scoring = network
    with torch.no_grad():
        h = F.relu(model.bn(model.stem(x)))
    root = h.square().mean(dim=(0, 2, 3)).sqrt()
    expected = (model.conv1.weight.detach().abs() * root[None, :, None, None]).sum(dim=(1, 2, 3))
    torch.testing.assert_close(get_criterion("wanda")(scoring).score[6:], expected)

    grouped = nn.Conv2d(4, 6, 3, groups=2).double()
    units = find_units(grouped, "element")
    images_ = torch.randn(5, 4, 7, 7, dtype=torch.float64)
    found = calibrate(grouped, [images_], units, ["input_square"])
    score = get_criterion("wanda")(Scoring.of(grouped, units, found)).score.view(6, 2, 3, 3)
    root = images_.square().mean(dim=(0, 2, 3)).sqrt()
    for out in range(6):
        for i in range(2):
            reads = i + 2 * (out // 3)
            expected = grouped.weight[out, i].detach().abs() * root[reads]
            torch.testing.assert_close(score[out, i], expected)


def test_criteria_of_activations_are_means_of_their_samples(network):
    _, _, _, scoring = network
    signs = {"activation": 1, "apoz": -1, "taylor_squared": 1, "taylor_absolute": 1,
             "gradient_norm": 1}  # fmt: skip
    for name, sign in signs.items():
        table = get_criterion(name)(scoring)
        mean = table.samples.double().mean(dim=0)
        torch.testing.assert_close(table.score, sign * mean, rtol=1e-6, atol=1e-9)
        assert table.has_sampling_distribution
    assert get_criterion("apoz")(scoring).aggregate is Aggregate.NEGATIVE
    taylor = get_criterion("taylor")(scoring)
    torch.testing.assert_close(taylor.score, taylor.moments.mean.abs())
    rank = get_criterion("hrank")(scoring)
    assert (rank.score >= 0).all()
    assert (rank.score <= 5).all()


@given(
    st.lists(st.lists(st.floats(-3, 3, width=16), min_size=3, max_size=3), min_size=1, max_size=20),
    st.integers(2, 9),
)
def test_entropy_equals_its_twin(rows, n_bins):
    group = UnitGroup("a", Kind.ROW, 3, (Slice("a", 0, Role.OUT),), (Gate("", "output", 1),))
    units = Units((group,), {"a": (3, 1)})
    samples = torch.tensor(rows, dtype=torch.float32)
    moments = Moments.empty(3)
    moments.add(samples)
    found = Calibration(
        units, len(rows), 1, None, {Statistic.ACTIVATION: moments},
        {Statistic.ACTIVATION: samples}, {},
    )  # fmt: skip
    table = get_criterion("entropy", n_bins=n_bins)(Scoring(units, {}, found))
    expected = [naive_criteria.entropy(column, n_bins) for column in samples.T.tolist()]
    np.testing.assert_allclose(table.score.numpy(), expected, atol=1e-12)


# -- Geometry -------------------------------------------------------------------------------------


def test_opposite_filters_are_far_apart_and_equal_ones_are_not():
    layer = nn.Conv2d(2, 4, 3)
    with torch.no_grad():
        layer.weight[1] = -layer.weight[0]
        layer.weight[3] = layer.weight[2]
    units = find_units(layer, "row")
    scoring = Scoring.of(layer, units)
    score = get_criterion("geometric_median")(scoring).score
    assert score[2] == score[3]
    a, b = (layer.weight[i].detach().double().reshape(-1) for i in (0, 2))
    expected = 2 * a.norm() + 2 * (a - b).norm()
    assert score[0].item() == pytest.approx(expected.item(), rel=1e-12)


@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(1, 4))
def test_no_point_has_smaller_distances_than_the_fermat_point(seed, n, d):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(n, d))
    found = _fermat_point(torch.from_numpy(points), 1000).numpy()
    best = naive_criteria.sum_of_distances(found, points)
    others = [*points, *(found + generator.normal(scale=0.01, size=(20, d)))]
    for other in others:
        assert best <= naive_criteria.sum_of_distances(other, points) * (1 + 1e-4)


def test_fermat_scores_are_distances_from_the_point(network):
    model, _, _, scoring = network
    score = get_criterion("fermat")(scoring).score.numpy()
    rows = np.array([flat(weights_of(model, u)[0]) for u in range(6)])
    point = _fermat_point(torch.from_numpy(rows), 100).numpy()
    np.testing.assert_allclose(score[:6], [math.dist(point, row) for row in rows], rtol=1e-9)
    # A regular simplex has its point in the middle.
    middle = _fermat_point(torch.eye(4, dtype=torch.float64), 100)
    torch.testing.assert_close(middle, torch.full((4,), 0.25, dtype=torch.float64))


# -- What all have in common ----------------------------------------------------------------------


def test_every_criterion_is_in_the_table_of_the_docstring():
    lines = criteria.__doc__.split("\n")
    rules = [i for i, line in enumerate(lines) if line.startswith("=====")]
    listed = [line.split()[0] for line in lines[rules[1] + 1 : rules[2]]]
    assert sorted(listed) == sorted(CRITERIA)
    for line in lines[rules[1] + 1 : rules[2]]:
        criterion = CRITERIA[line.split()[0]]
        needs = line[69:78].split("[")[0].strip()
        expected = (
            "loss" if criterion.needs_loss else "inputs" if criterion.needs_data else "nothing"
        )
        assert needs == ("a shape" if criterion.name == "synflow" else expected), line


@pytest.mark.parametrize("name", sorted(CRITERIA.keys() - OF_STATES))
def test_contract(name, network):
    model, x, y, scoring = network
    criterion = get_criterion(name)
    table = criterion(scoring)
    assert table.score.dtype == torch.float64
    assert table.score.shape == (10,)
    assert table.criterion == name
    assert criterion.formula
    assert criterion.source
    undefined = table.score.isnan()
    assert not undefined.any()
    # Only what it asks for is needed.
    found = None
    if criterion.needs_data:
        found = calibrate(
            model, in_batches(x, y, 12), scoring.units, criterion.statistics,
            loss="cross_entropy" if criterion.needs_loss else None,
            keep_samples=criterion.needs_samples,
        )  # fmt: skip
        with pytest.raises(CalibrationError, match=r"not (collected|kept)"):
            criterion(Scoring.of(model, scoring.units))
    again = criterion(Scoring.of(model, scoring.units, found))
    torch.testing.assert_close(again.score, table.score)
    row = line_of(name)
    assert table.has_sampling_distribution == row.endswith("yes")


def line_of(name):
    return next(line for line in criteria.__doc__.split("\n") if line.split()[:1] == [name])


@pytest.mark.parametrize("kind", ["element", "row"])
def test_undefined_is_nan_for_other_kinds(kind):
    model, (x, y) = residual(), images(4)
    units = find_units(model, kind)
    of_gates = {"activation", "apoz", "hrank", "entropy", "taylor", "taylor_squared",
                "taylor_absolute", "gradient_norm", "state_energy"}  # fmt: skip
    for name, criterion in CRITERIA.items():
        if kind == "element" and name in of_gates:
            continue  # refused by calibrate, with a message of its own
        found = None
        if criterion.needs_data:
            found = calibrate(
                model, [(x, y)], units, criterion.statistics, loss="cross_entropy",
                keep_samples=True,
            )  # fmt: skip
        score = criterion(Scoring.of(model, units, found)).score
        nowhere = OF_STATES | {"bn_scale", "bn_shift"}
        nowhere |= {"geometric_median", "fermat"} if kind == "element" else set()
        if name in nowhere:
            assert score.isnan().all(), name
        elif name == "hrank":  # rows of the linear layer are no maps
            assert torch.equal(score.isnan(), torch.arange(units.n) >= units.range_of("fc").start)
        else:
            assert score.isfinite().all(), name


def test_elements_are_scored_one_by_one():
    model = nn.Linear(3, 2).double()
    units = find_units(model, "element")
    scoring = Scoring.of(model, units)
    weight = model.weight.detach().reshape(-1)
    torch.testing.assert_close(get_criterion("l1")(scoring).score, weight.abs())
    shares = naive_criteria.tail_shares(weight.square().tolist())
    np.testing.assert_allclose(get_criterion("lamp")(scoring).score.numpy(), shares, rtol=1e-12)


def test_scale_of_batch_norm_needs_one():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 3))
    slices = (
        Slice("0.weight", 0, Role.OUT),
        Slice("1.weight", 0, Role.NORM),
        Slice("2.weight", 1, Role.IN),
    )
    units = units_of(model, UnitGroup("0", Kind.CHANNEL, 4, slices, (Gate("2", "input", 1),)))
    for name in ("bn_scale", "bn_shift"):
        assert get_criterion(name)(Scoring.of(model, units)).score.isnan().all()


def test_scale_of_several_batch_norms_is_their_mean():
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -2.0, 0.0]))
        model[2].weight.copy_(torch.tensor([3.0, 4.0, -5.0]))
    slices = [
        Slice(f"{i}.{t}", 0, Role.NORM)
        for i in (1, 2)
        for t in ("weight", "bias", "running_mean", "running_var")
    ]
    group = UnitGroup("0", Kind.CHANNEL, 3, (Slice("0.weight", 0, Role.OUT), *slices))
    score = get_criterion("bn_scale")(Scoring.of(model, units_of(model, group))).score
    assert score.tolist() == [2.0, 3.0, 2.5]
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([1.0, -2.0, 0.0]))
        model[2].bias.copy_(torch.tensor([3.0, 4.0, -5.0]))
    scoring = Scoring.of(model, units_of(model, group))
    assert get_criterion("bn_shift")(scoring).score.tolist() == [2.0, 3.0, 2.5]
    assert get_criterion("bn_shift", signed=True)(scoring).score.tolist() == [2.0, 1.0, -2.5]


def test_random_is_a_function_of_the_seed():
    model = residual()
    scores = [
        get_criterion("random")(Scoring.of(model, model.units(), seed=seed)).score
        for seed in (1, 1, 2)
    ]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda s: get_criterion("l3"), InputError, "'l3' is not known"),
        (lambda s: get_criterion("l2", p=3), InputError, "no option 'p'"),
        (lambda s: get_criterion("taylor_weight", form="x")(s), InputError, "form='x'"),
        (lambda s: get_criterion("grasp", direction="up")(s), InputError, "direction='up'"),
        (lambda s: get_criterion("entropy", n_bins=1)(s), InputError, "n_bins=1"),
        (lambda s: get_criterion("entropy", n_bins=2.5)(s), InputError, "n_bins=2.5"),
    ],
)
def test_refused(call, error, match, network):
    with pytest.raises(error, match=match):
        call(network[3])
