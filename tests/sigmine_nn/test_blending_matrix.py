"""The criteria matrix: one pass, what is left out, coupled filters by rank, correlations."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from sigmine.exceptions import InputError
from sigmine_nn import agreement, find_units, score_by_criteria
from sigmine_nn.criteria import Criterion, get_criterion
from sigmine_nn.exceptions import CalibrationError, ModelError
from sigmine_nn.methods import FILTER_CRITERIA, criteria_matrix, find_filters
from sigmine_nn.methods.blending.matrix import CriteriaMatrix, rank_correlation, standard_ranks
from sigmine_nn.scores import ScoreTable
from tests import naive_blending as naive
from tests import networks
from tests.score_tables import made_units


def data(n=48, seed=0):
    x, y = networks.digits()
    return networks.in_batches(x[seed : seed + n], y[seed : seed + n], 24)


@pytest.fixture(scope="module")
def residual():
    model = networks.residual_net("batch", 8)
    return model, criteria_matrix(model, data(), loss="cross_entropy")


def flat(tensor):
    return [float(v) for v in tensor.detach().reshape(-1)]


def test_there_are_twelve_and_all_are_scored(residual):
    _, matrix = residual
    assert len(FILTER_CRITERIA) == len(set(FILTER_CRITERIA)) == 12
    assert matrix.names == list(FILTER_CRITERIA)
    assert matrix.scores.shape == (12, matrix.units.n)
    assert np.isfinite(matrix.scores).all()
    assert matrix.coupled == {
        "stem": ("block1.conv2", "stem"),
        "down": ("block2.conv2", "down"),
    }
    frame = matrix.to_frame()
    assert list(frame.columns[4:]) == matrix.names
    assert len(frame) == matrix.units.n


def test_filters_of_one_layer_have_the_scores_of_the_engine(residual):
    model, matrix = residual
    tables = score_by_criteria(
        model, data(), criteria=FILTER_CRITERIA, units=matrix.units, loss="cross_entropy"
    )
    for name, row in zip(matrix.names, matrix.scores, strict=True):
        for layer in ("block1.conv1", "block2.conv1"):
            where = list(matrix.units.range_of(layer))
            assert (row[where] == tables[name].score.numpy()[where]).all(), name


def test_coupled_filters_have_mean_ranks_of_their_layers(residual):
    model, matrix = residual
    where = list(matrix.units.range_of("stem"))
    layers = [model.stem.weight, model.block1.conv2.weight]
    expected = {
        "l1": naive.mean_rank([[sum(map(abs, flat(f))) for f in w] for w in layers]),
        "l2": naive.mean_rank([[sum(v * v for v in flat(f)) for f in w] for w in layers]),
        "bn_scale": naive.mean_rank(
            [list(map(abs, flat(n.weight))) for n in (model.norm, model.block1.norm2)]
        ),
        "bn_shift": naive.mean_rank(
            [list(map(abs, flat(n.bias))) for n in (model.norm, model.block1.norm2)]
        ),
    }
    for name, ranks in expected.items():
        np.testing.assert_allclose(
            matrix.scores[matrix.names.index(name)][where], ranks, err_msg=name
        )
    # The sum of raw scores would be that of the layer with the larger numbers.
    with torch.no_grad():
        louder = networks.residual_net("batch", 8)
        louder.stem.weight *= 1000.0
    again = criteria_matrix(louder, None, criteria=["l1"], example_inputs=networks.images())
    assert (again.scores[0][where] == matrix.scores[0][where]).all()
    raw = score_by_criteria(louder, criteria=["l1"], units=matrix.units)["l1"].score[where]
    order = np.argsort([sum(map(abs, flat(f))) for f in louder.stem.weight])
    assert (np.argsort(raw.numpy()) == order).all()


def test_coupled_filters_have_the_rank_of_what_passes(residual):
    model, matrix = residual
    where = list(matrix.units.range_of("stem"))
    tables = score_by_criteria(
        model, data(), criteria=["activation", "taylor_absolute"], units=matrix.units,
        loss="cross_entropy",
    )  # fmt: skip
    for name, table in tables.items():
        found = matrix.scores[matrix.names.index(name)][where]
        np.testing.assert_allclose(found, naive.mean_rank([table.score[where].tolist()]))


def test_undefined_criteria_are_left_out_of_their_layers_only():
    matrix = criteria_matrix(networks.flat_net(), data(), loss="cross_entropy")
    assert matrix.units.names == ["0", "3"]  # the hidden linear layer has no filters
    assert "no filters" in matrix.units.left_out["7"]
    assert matrix.left_out == {"0": ("bn_scale", "bn_shift"), "3": ("hrank",)}
    assert "bn_scale" not in matrix.defined("0")
    assert matrix.of_layer("0").shape == (10, 6)
    assert matrix.correlation("0").shape == (10, 10)
    mean = matrix.correlation()
    assert mean.shape == (12, 12)
    assert np.isnan(mean.loc["bn_scale", "hrank"])  # defined together nowhere
    assert mean.loc["bn_scale", "l1"] == matrix.correlation("3").loc["bn_scale", "l1"]


def of_scores(scores, *sizes):
    """A matrix of made scores."""
    scores = np.asarray(scores, dtype=float)
    units = made_units(*(sizes or (scores.shape[1],)))
    criteria = tuple(Criterion(f"c{i}", lambda s: None, "made", "made") for i in range(len(scores)))
    return CriteriaMatrix(units, criteria, scores)


@pytest.mark.parametrize("seed", range(5))
def test_correlations_equal_their_twin_and_scipy(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (5, 9)).astype(float)  # with ties
    found = rank_correlation(scores)
    expected = [[naive.spearman(a, b) for b in scores.tolist()] for a in scores.tolist()]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found, stats.spearmanr(scores.T).statistic, atol=1e-12)
    squared = ((standard_ranks(scores)[:, None] - standard_ranks(scores)) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared, 2 * 9 * (1 - found), atol=1e-10)


def test_constant_scores_have_correlation_0_and_are_reported():
    matrix = of_scores([[1, 2, 3, 4], [5, 5, 5, 5], [0, 0, 0, 0]])
    assert matrix.constant == {"g0": ("c1", "c2")}
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert matrix.correlation("g0").to_numpy().tolist() == expected


def test_correlations_equal_those_of_agreement():
    rng = np.random.default_rng(0)
    matrix = of_scores(rng.normal(size=(4, 25)), 10, 15)
    tables = {
        name: ScoreTable(matrix.units, torch.from_numpy(row), name)
        for name, row in zip(matrix.names, matrix.scores, strict=True)
    }
    found = agreement.agreement(tables, scope="layer")
    for layer in matrix.units.names:
        np.testing.assert_allclose(
            matrix.correlation(layer), found.matrix("spearman", layer), atol=1e-12
        )
    mean = (matrix.correlation("g0") + matrix.correlation("g1")) / 2
    np.testing.assert_allclose(matrix.correlation(), mean)


def test_the_model_is_left_alone_and_data_may_be_a_generator(residual):
    model, matrix = residual
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    again = criteria_matrix(model, iter(data()), loss="cross_entropy")
    assert np.array_equal(again.scores, matrix.scores)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_criteria_with_options_are_scored_layer_by_layer_too():
    model = networks.residual_net("batch", 8)
    criterion = get_criterion("bn_shift", signed=True)
    found = criteria_matrix(model, None, criteria=[criterion], example_inputs=networks.images())
    ranks = naive.mean_rank([flat(model.norm.bias), flat(model.block1.norm2.bias)])
    np.testing.assert_allclose(found.scores[0][list(found.units.range_of("stem"))], ranks)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda m: criteria_matrix(m, None, criteria=["l1"]), InputError, "neither data nor"),
        (lambda m: criteria_matrix(m, None, example_inputs=networks.images()), CalibrationError,
         "there are none"),
        (lambda m: criteria_matrix(m, data(), criteria=["l1", "l1"]), InputError, "each once"),
        (lambda m: criteria_matrix(m, data(), criteria=["l9"]), InputError, "'l9' is not known"),
        (lambda m: criteria_matrix(m, data(), units=find_units(m, "row"), ignore=["stem"]),
         InputError, "both given"),
        (lambda m: find_filters(networks.mlp(), torch.zeros(2, 30)), ModelError, "none is of a"),
    ],
)  # fmt: skip
def test_refused(call, error, match, residual):
    with pytest.raises(error, match=match):
        call(residual[0])


def test_a_layer_that_is_not_there_is_named(residual):
    for ask in (residual[1].defined, residual[1].of_layer, residual[1].correlation):
        with pytest.raises(ModelError, match="no group of units 'x'"):
            ask("x")


def test_a_table_holds_the_scores_of_a_criterion(residual):
    table = residual[1].table("apoz")
    assert table.criterion == "apoz"
    assert np.array_equal(table.score.numpy(), residual[1].scores[8])
    with pytest.raises(InputError, match="'snip' is not in the matrix"):
        residual[1].table("snip")


def test_filters_of_one_dimension_are_filters():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 2, 3))
    assert find_filters(model, torch.zeros(1, 2, 9)).names == ["0"]
