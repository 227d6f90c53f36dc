"""The blend as a criterion: twins, invariances, the engine, and recipes in files."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sigmine.exceptions import FileFormatError, InputError, InputTypeError
from sigmine_nn import Pruner, get_criterion, rank_uncertainty, score_by_criteria, score_units
from sigmine_nn.criteria import CRITERIA, Criterion, Scoring
from sigmine_nn.exceptions import ModelError
from sigmine_nn.methods import BlendedCriterion, criteria_matrix
from sigmine_nn.methods.blending.criterion import NORMALISERS, normalised
from sigmine_nn.scores import ScoreTable
from tests import naive_blending as naive
from tests import networks
from tests.score_tables import made_units


def given_scores(name, scores):
    """A criterion whose scores are given."""

    def function(scoring):
        return ScoreTable(scoring.units, torch.tensor(scores, dtype=torch.float64), name)

    return Criterion(name, function, "given", "a test")


def blended(rows, factors, normaliser, sizes=None):
    """Scores of a blend of given scores, on made units."""
    units = made_units(*(sizes or (len(rows[0]),)))
    own = [given_scores(f"c{i}", row) for i, row in enumerate(rows)]
    recipe = {f"c{i}": factor for i, factor in enumerate(factors)}
    criterion = BlendedCriterion(dict.fromkeys(units.names, recipe), normaliser, own=own)
    return criterion(Scoring(units, {"w": torch.zeros(1)})).score.numpy()


ROWS = st.integers(2, 9).flatmap(
    lambda n: st.lists(
        st.lists(st.integers(-20, 20).map(float), min_size=n, max_size=n), min_size=1, max_size=4
    )
)


def some_factors(draw, n):
    weights = draw(st.lists(st.integers(1, 9), min_size=n, max_size=n))
    return [w / sum(weights) for w in weights]


@given(st.data(), st.sampled_from(NORMALISERS))
def test_a_blend_equals_its_twin(data, normaliser):
    rows = data.draw(ROWS)
    factors = some_factors(data.draw, len(rows))
    found = blended(rows, factors, normaliser)
    np.testing.assert_allclose(found, naive.blend(rows, factors, normaliser), atol=1e-12)


@given(st.data())
def test_by_rank_no_increasing_transformation_matters(data):
    rows = data.draw(ROWS)
    factors = some_factors(data.draw, len(rows))
    changed = [np.exp(np.array(row) / 5).tolist() for row in rows]
    changed[0] = [v**3 for v in rows[0]]
    assert (blended(rows, factors, "rank") == blended(changed, factors, "rank")).all()


@given(st.data(), st.sampled_from(["min-max", "z", "max", "mean"]))
def test_no_positive_factor_matters_and_no_shift_where_it_is_said(data, normaliser):
    rows = data.draw(ROWS)
    factors = some_factors(data.draw, len(rows))
    shift = 7.0 if normaliser in ("min-max", "z") else 0.0
    changed = [[scale * v + shift for v in row] for scale, row in zip((0.5, 3, 10, 2), rows,
                                                                     strict=False)]  # fmt: skip
    np.testing.assert_allclose(
        blended(rows, factors, normaliser), blended(changed, factors, normaliser), atol=1e-12
    )


def test_shifts_matter_for_shares_of_the_largest_and_the_mean():
    rows, shifted = [[1.0, 2.0, 4.0]], [[11.0, 12.0, 14.0]]
    for normaliser in ("max", "mean"):
        assert not np.allclose(
            blended(rows, [1.0], normaliser), blended(shifted, [1.0], normaliser)
        )


@given(st.data(), st.sampled_from(NORMALISERS))
def test_filters_in_another_order_have_the_same_scores(data, normaliser):
    rows = data.draw(ROWS)
    factors = some_factors(data.draw, len(rows))
    moved = data.draw(st.permutations(range(len(rows[0]))))
    found = blended([[row[i] for i in moved] for row in rows], factors, normaliser)
    np.testing.assert_allclose(found, blended(rows, factors, normaliser)[list(moved)], atol=1e-12)


@given(st.data(), st.sampled_from(NORMALISERS))
def test_criteria_in_another_order_make_the_same_blend(data, normaliser):
    rows = data.draw(ROWS)
    factors = some_factors(data.draw, len(rows))
    found = blended(rows[::-1], factors[::-1], normaliser)
    np.testing.assert_allclose(found, blended(rows, factors, normaliser), atol=1e-12)


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_one_criterion_alone_keeps_its_order(normaliser):
    row = [3.0, -1.0, 7.0, 0.0]
    assert np.argsort(blended([row], [1.0], normaliser)).tolist() == np.argsort(row).tolist()
    assert np.isfinite(normalised(np.zeros(3), normaliser)).all()


def test_layers_are_normalised_by_themselves():
    rows = [[1.0, 2.0, 100.0, 300.0, 200.0]]
    assert blended(rows, [1.0], "rank", (2, 3)).tolist() == [0.5, 1.0, 1 / 3, 1.0, 2 / 3]


def test_undefined_layers_are_undefined():
    rows = [[1.0, np.nan, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]]
    found = blended(rows, [0.5, 0.5], "rank", (2, 2))
    assert np.isnan(found).tolist() == [True, True, False, False]


# -- In the engine --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    model = networks.residual_net("batch", 8)
    x, y = networks.digits()
    return model, networks.in_batches(x[:64], y[:64], 32)


RECIPE = {
    "stem": {"l1": 0.25, "taylor_absolute": 0.75},
    "block1.conv1": {"entropy": 0.5, "bn_shift": 0.5},
    "down": {"fermat": 1.0},
    "block2.conv1": {"apoz": 0.125, "hrank": 0.875},
}


def test_it_asks_for_what_its_criteria_ask_for():
    blend = BlendedCriterion(RECIPE)
    assert blend.needs_data
    assert blend.needs_loss
    assert blend.needs_samples
    names = ("taylor_absolute", "entropy", "apoz", "hrank")
    assert blend.statistics == frozenset().union(*(CRITERIA[n].statistics for n in names))
    light = BlendedCriterion({"stem": {"l1": 0.5, "bn_scale": 0.5}})
    assert not light.needs_data
    assert get_criterion(light).name == "blend"


def test_scores_are_those_of_the_matrix(network):
    model, data = network
    matrix = criteria_matrix(model, data, loss="cross_entropy")
    table = score_units(model, data, criterion=BlendedCriterion(RECIPE), units=matrix.units,
                        loss="cross_entropy")  # fmt: skip
    assert table.criterion == "blend"
    for layer, factors in RECIPE.items():
        where = list(matrix.units.range_of(layer))
        rows = [matrix.scores[matrix.names.index(name)][where].tolist() for name in factors]
        np.testing.assert_allclose(
            table.score[where], naive.blend(rows, factors.values(), "rank"), atol=1e-12
        )


def test_it_ranks_prunes_and_is_compared_like_any_other(network):
    model, data = network
    blend = BlendedCriterion(RECIPE, name="mine")
    pruner = Pruner(blend, amount=0.5, scope="layer", compare=["l2"])
    pruner.fit(model, data, loss="cross_entropy")
    assert pruner.agreement_.names == ("mine", "l2")
    small = pruner.transform(model, physical=True)
    assert small.stem.out_channels == 4
    assert "mine" in pruner.results(model, small, data=data).to_html()
    assert not pruner.scores_.has_sampling_distribution
    assert rank_uncertainty(pruner.scores_, 0.5).p_pruned is None


def test_it_has_a_place_in_the_tests_of_removal(network):
    model, data = network
    pruner = Pruner(
        BlendedCriterion(RECIPE), amount=0.3, scope="layer", level=0.05, margin=5.0, test="nested"
    )
    pruner.fit(model, data, loss="cross_entropy", test_data=data)
    assert pruner.removal_.n_accepted > 0


def test_units_of_other_layers_are_undefined_and_other_networks_refused(network):
    model, data = network
    part = BlendedCriterion({"stem": {"l1": 1.0}})
    score = score_units(model, data, criterion=part).score
    assert torch.isnan(score).sum() == len(score) - 8
    with pytest.raises(ModelError, match="the blend is of the layers stem"):
        score_units(networks.flat_net(), data, criterion=part)


def test_equal_factors_are_the_mean_rank(network):
    model, data = network
    matrix = criteria_matrix(model, data, loss="cross_entropy")
    blend = BlendedCriterion.equal(matrix)
    assert blend.name == "mean_rank"
    found = score_units(model, data, criterion=blend, units=matrix.units, loss="cross_entropy")
    for layer in matrix.units.names:
        where = list(matrix.units.range_of(layer))
        np.testing.assert_allclose(
            found.score[where], naive.mean_rank(matrix.of_layer(layer).tolist()), atol=1e-12
        )
    few = criteria_matrix(networks.flat_net(), data, loss="cross_entropy")
    norms = BlendedCriterion.equal(few, ["bn_scale", "bn_shift"])
    assert norms.layers == {"3": {"bn_scale": 0.5, "bn_shift": 0.5}}
    with pytest.raises(InputError, match="'snip' is not in the matrix"):
        BlendedCriterion.equal(few, ["snip"])


def test_copies_and_pickles_are_the_same(network):
    blend = BlendedCriterion(RECIPE, "z", name="mine")
    for other in (copy.deepcopy(blend), pickle.loads(pickle.dumps(blend))):
        assert other.layers == RECIPE
        assert (other.normaliser, other.name) == ("z", "mine")
        assert other == blend


def test_a_recipe_is_printed():
    blend = BlendedCriterion({"a": {"l1": 0.25, "l2": 0.75}, "longer": {"apoz": 1.0}}, "z")
    assert str(blend).split("\n") == [
        "blend of 2 layers, normalised by z",
        "a       0.250 l1 + 0.750 l2",
        "longer  1.000 apoz",
    ]
    assert repr(blend) == "BlendedCriterion('blend', 2 layers, normaliser='z')"
    assert blend.criteria == ["l1", "l2", "apoz"]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (({},), InputError, "names no layer"),
        ((["l1"],), InputError, "names no layer"),
        (({"a": {}},), InputTypeError, "layer 'a' has factors"),
        (({"a": {"nothing": 1.0}},), InputError, "'nothing', which is not known"),
        (({"a": {"l1": 0.5}},), InputError, "add up to 0.5"),
        (({"a": {"l1": 1.5, "l2": -0.5}},), InputError, "not negative"),
        (({"a": {"l1": float("nan")}},), InputError, "is nan"),
        (({"a": {"l1": True}},), InputTypeError, "is True"),
        (({"a": {"l1": "1"}},), InputTypeError, "is '1'"),
        (({"a": {"l1": 1.0}}, "sum"), InputError, "normaliser='sum' is not known"),
    ],
)
def test_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        BlendedCriterion(*arguments)
    with pytest.raises(InputTypeError, match="is no name"):
        BlendedCriterion({"a": {"l1": 1.0}}, name=3)


# -- Files ----------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(0.0, 1.0).filter(lambda v: v == 0 or v > 1e-6), min_size=2, max_size=2),
    st.text(min_size=1, max_size=8),
)
def test_factors_come_back_bit_by_bit(tmp_path_factory, factors, layer):
    total = sum(factors) or 1.0
    factors = [f / total for f in factors] if sum(factors) else [0.5, 0.5]
    blend = BlendedCriterion({layer: dict(zip(("l1", "apoz"), factors, strict=True))}, "min-max")
    path = tmp_path_factory.mktemp("blend") / "blend.json"
    text = blend.to_json(path)
    assert path.read_text(encoding="utf-8") == text
    again = BlendedCriterion.read_json(path)
    assert again == blend
    assert again.to_json() == text


def test_a_recipe_read_from_a_file_gives_the_same_scores(network, tmp_path):
    model, data = network
    blend = BlendedCriterion(RECIPE)
    blend.to_json(tmp_path / "blend.json")
    again = BlendedCriterion.read_json(tmp_path / "blend.json")
    tables = [
        score_by_criteria(model, data, criteria=[c], loss="cross_entropy")["blend"].score
        for c in (blend, again)
    ]
    assert torch.equal(tables[0].nan_to_num(), tables[1].nan_to_num())


def test_own_criteria_have_to_be_given_again(tmp_path):
    signed = get_criterion("bn_shift", signed=True)
    blend = BlendedCriterion({"a": {"bn_shift": 0.5, "l1": 0.5}}, own=[signed])
    path = tmp_path / "blend.json"
    assert json.loads(blend.to_json(path))["own"] == ["bn_shift"]
    with pytest.raises(FileFormatError, match="takes criterion 'bn_shift' of whoever wrote it"):
        BlendedCriterion.read_json(path)
    again = BlendedCriterion.read_json(path, own=[signed])
    assert again.options["own"] == (signed,)


GOOD = json.loads(BlendedCriterion({"a": {"l1": 0.5, "l2": 0.5}}).to_json())


def changed(**values):
    return json.dumps({**GOOD, **values})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "cannot be read as JSON"),
        (changed()[:-9], "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[1]", "this is JSON, but no"),
        (changed(format="sigmine-pruning-report"), "this is JSON, but no"),
        (changed(version=2), "version 2"),
        (changed(version=True), "version True"),
        (changed(layers={"a": {"l1": 0.9}}), "add up to 0.9"),
        (changed(layers={"a": {"__import__": 1.0}}), "'__import__', which is not known"),
        (changed(layers={"a": {"l1": -1, "l2": 2}}), "not negative"),
        (changed(layers={"a": {"l1": "inf"}}), "is inf"),
        (changed(layers={"a": {"l1": None}}), "expected a number"),
        (changed(layers={"a": {"l1": True}}), "expected a number"),
        (changed(layers={}), "names no layer"),
        (changed(layers=[["a"]]), "expected an object"),
        (changed(normaliser="eval"), "normaliser='eval'"),
        (changed(name=""), "is no name"),
        (changed(own="l1"), "expected a list"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "layers"}), "layers is missing"),
        (changed().replace("0.5", "NaN", 1), "NaN is not valid JSON"),
        (changed().replace("0.5", "1e999", 1), "expected a number"),
        (changed().replace("0.5", "9" * 5000, 1), "cannot be read as JSON"),
        (changed().replace('"l2": 0.5', '"l1": 0.5'), "same key twice"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused(text, match, tmp_path):
    path = tmp_path / "blend.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileFormatError, match=match):
        BlendedCriterion.read_json(path)


def test_a_file_that_is_too_large_or_missing(tmp_path):
    path = tmp_path / "blend.json"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        BlendedCriterion.read_json(path)
    with path.open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(FileFormatError, match="has 65 MiB"):
        BlendedCriterion.read_json(path)
