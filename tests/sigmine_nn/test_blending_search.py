"""The search: planted dead filters, no mask twice, determinism, resuming, Ctrl-C, and controls."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sigmine.exceptions import FileFormatError, InputError, InputTypeError, StatisticalWarning
from sigmine_nn import Pruner, evaluate, recalibrate_batchnorm, remove_units, select_units
from sigmine_nn.criteria import Criterion
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.methods import (
    BlendedCriterion,
    Evolution,
    cluster_criteria,
    criteria_matrix,
    search_blend,
)
from sigmine_nn.methods.blending.fitness import HeldOut, LossCache, key_of
from sigmine_nn.methods.blending.genome import Space
from sigmine_nn.scores import ScoreTable
from tests import networks

FEW = Evolution(population=16, generations=3, n_elite=4, n_parents=4)


@pytest.fixture(scope="module")
def digits():
    """A network that reads digits, two sets of data, and clusters of the twelve criteria."""
    model = networks.flat_net(8)
    x, y = networks.digits()
    networks.train(model, x[:500], y[:500], epochs=3)
    data = networks.in_batches(x[500:628], y[500:628], 64)
    search = networks.in_batches(x[628:800], y[628:800], 86)
    matrix = criteria_matrix(model, data, loss="cross_entropy")
    return model, data, search, cluster_criteria(matrix)


def found_by(digits, **options):
    model, data, search, clusters = digits
    return search_blend(
        model, data, search, **{"clusters": clusters, "evolution": FEW, "seed": 3, **options}
    )


@pytest.fixture(scope="module")
def found(digits):
    return found_by(digits)


def same(first, second):
    assert first.criterion == second.criterion
    assert first.random_criterion == second.random_criterion
    assert (first.loss, first.random_loss) == (second.loss, second.random_loss)
    assert first.history.equals(second.history)
    assert first.singles == second.singles
    assert (first.keep == second.keep).all()


# -- Known truth ----------------------------------------------------------------------------------


def ranked(name, order):
    """A criterion that puts the filters of every layer into an order, the worst first."""

    def function(scoring):
        score = torch.empty(scoring.units.n, dtype=torch.float64)
        for layer in scoring.units.names:
            where = scoring.units.range_of(layer)
            score[[where.start + i for i in order]] = torch.arange(len(order)).double()
        return ScoreTable(scoring.units, score, name)

    return Criterion(name, function, "given", "a test")


@pytest.fixture(scope="module")
def planted():
    """Two layers of twelve filters, of which the first six are read by nothing.

    One criterion puts the dead filters 0, 1, 2 below all others, one the dead 3, 4, 5; each has
    the other three among the living. A third has the dead above the living.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 12, 3), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Flatten(), nn.Linear(12 * 16, 10),
    )  # fmt: skip
    with torch.no_grad():
        model[3].weight[:, :6] = 0.0
        model[7].weight.view(10, 12, 16)[:, :6] = 0.0
    x, y = networks.digits()
    data = networks.in_batches(x[:96], y[:96], 48)
    recalibrate_batchnorm(model.eval(), data)
    with torch.no_grad():
        labels = model(x[96:192]).argmax(dim=1)  # the whole network is right
    criteria = [
        ranked("sees_one_half", [0, 1, 2, 6, 3, 7, 4, 8, 5, 9, 10, 11]),
        ranked("sees_the_other", [3, 4, 5, 11, 0, 10, 1, 9, 2, 8, 7, 6]),
        ranked("blind", [7, 9, 11, 6, 8, 10, 0, 3, 1, 4, 2, 5]),
    ]
    matrix = criteria_matrix(model, None, criteria=criteria, example_inputs=x[:2])
    clusters = cluster_criteria(matrix, 3)
    return model, data, networks.in_batches(x[96:192], labels, 96), clusters


@pytest.mark.parametrize("selection", ["tournament", "truncation"])
def test_only_the_blend_finds_all_dead_filters(planted, selection):
    model, data, search, clusters = planted
    assert all(len(found.medoids) == 3 for found in clusters.layers.values())
    found = search_blend(
        model, data, search, clusters=clusters,
        evolution=Evolution(generations=8, selection=selection),
    )  # fmt: skip
    alive = np.tile(np.arange(12) >= 6, 2)
    assert (found.keep == alive).all()
    assert found.loss == pytest.approx(found.full_loss, abs=1e-5)
    assert min(found.singles.values()) > found.full_loss + 0.05
    # The blend with equal factors does not find them either.
    even = BlendedCriterion.equal(clusters.matrix)
    pruner = Pruner(even, units=clusters.matrix.units, scope="layer").fit(model, data)
    assert not (pruner.selection_.keep == alive).all()
    pruner = Pruner(found.criterion, units=clusters.matrix.units, scope="layer").fit(model, data)
    assert (pruner.selection_.keep == alive).all()


# -- What is measured -----------------------------------------------------------------------------


def test_the_loss_is_that_of_the_smaller_network_with_new_statistics(digits, found):
    model, data, search, clusters = digits
    units = clusters.matrix.units
    pruner = Pruner(found.criterion, units=units, scope="layer").fit(
        model, data, loss="cross_entropy"
    )
    assert (pruner.selection_.keep == found.keep).all()
    small, _ = remove_units(model, units, found.keep)
    recalibrate_batchnorm(small, data)
    assert evaluate(small, search, loss="cross_entropy").loss == pytest.approx(found.loss)
    assert evaluate(model, search, loss="cross_entropy").loss == pytest.approx(found.full_loss)


def test_singles_are_in_the_first_generation(digits, found):
    model, data, search, clusters = digits
    matrix = clusters.matrix
    held_out = HeldOut(model, matrix.units, data, search, "cross_entropy")
    assert list(found.singles) == matrix.names
    for name in ("l2", "taylor_absolute"):
        scores = torch.from_numpy(matrix.scores[matrix.names.index(name)])
        table = ScoreTable(matrix.units, scores, name)
        keep = select_units(table, 0.5, scope="layer").keep
        assert held_out.loss_of(keep) == found.singles[name]
    assert found.loss <= min(found.singles.values())
    assert found.best_single == min(found.singles.items(), key=lambda item: item[1])


def test_both_searches_try_as_many_masks_and_begin_alike(found):
    history = found.history
    assert (history["n_evaluations"] == history["random_evaluations"]).all()
    assert history["best"][0] == history["random_best"][0]
    assert (history["best"].diff().dropna() <= 0).all()
    assert found.n_evaluations <= 16 + 3 * 12
    assert found.loss == history["best"].iloc[-1]
    assert found.random_loss == history["random_best"].iloc[-1]
    assert found.stopped == "generations"
    assert list(history["generation"]) == [0, 1, 2, 3]


def test_no_mask_is_tried_twice(digits, monkeypatch):
    tried = []
    loss_of = HeldOut.loss_of

    def noted(self, keep):
        tried.append(key_of(keep))
        return loss_of(self, keep)

    monkeypatch.setattr(HeldOut, "loss_of", noted)
    found = found_by(digits, amount=0.2, evolution=Evolution(population=20, generations=4))
    assert len(tried) == len(set(tried))
    assert found.n_evaluations <= len(tried) <= 2 * found.n_evaluations


def test_a_space_that_is_exhausted_ends(digits):
    model, data, _, _ = digits
    matrix = criteria_matrix(model, data, criteria=["l1", "l2"], loss="cross_entropy")
    found = found_by(digits, clusters=cluster_criteria(matrix, 1))
    assert found.n_evaluations <= 4  # two layers, one of two criteria on each
    assert (found.history["random_evaluations"] <= 4).all()


def test_networks_without_batch_norm_and_masks_that_break_them(digits):
    _, data, search, _ = digits
    model = networks.residual_net("none", 4)
    matrix = criteria_matrix(model, data, criteria=["l1", "l2", "activation"])
    found = search_blend(
        model, data, search, clusters=cluster_criteria(matrix), evolution=FEW, amount=0.25
    )
    assert math.isfinite(found.loss)


def test_a_loss_that_is_not_finite_is_the_worst(digits):
    model, data, search, clusters = digits
    limit = model[0].out_channels

    def loss(outputs, targets, reduction="mean"):
        value = F.cross_entropy(outputs, targets, reduction=reduction)
        return value if loss.whole else value * math.inf

    loss.whole = True
    held_out = HeldOut(model, clusters.matrix.units, data, search, loss)
    keep = np.ones(clusters.matrix.units.n, dtype=bool)
    keep[: limit // 2] = False
    assert math.isfinite(held_out.loss_of(keep))
    loss.whole = False
    assert held_out.loss_of(keep) == math.inf
    with pytest.raises(CalibrationError, match="finite"):
        found_by(digits, loss=loss)


# -- Determinism ----------------------------------------------------------------------------------


def test_the_seed_decides_and_no_global_generator(digits, found):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - that it does not matter is what is tested
    same(found_by(digits), found)
    other = found_by(digits, seed=4)
    assert not other.history.equals(found.history)


def test_the_number_of_processes_does_not_matter(digits, found):
    same(found_by(digits, n_jobs=2), found)


def test_threads_are_as_before(digits):
    model, data, search, clusters = digits
    before = torch.get_num_threads()
    cache = LossCache(HeldOut(model, clusters.matrix.units, data, search, "cross_entropy"))
    cache.find([np.ones(clusters.matrix.units.n, dtype=bool)])
    assert torch.get_num_threads() == before


def test_the_model_is_left_alone(digits):
    model = digits[0]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found_by(digits)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training


# -- Resuming -------------------------------------------------------------------------------------


class Stopped:
    """A loss that is cross entropy until it is asked too often: then somebody presses Ctrl-C."""

    def __init__(self, after):
        self.after = after
        self.count = 0

    def __call__(self, outputs, targets, reduction="mean"):
        self.count += 1
        if self.count > self.after:
            raise KeyboardInterrupt
        return F.cross_entropy(outputs, targets, reduction=reduction)

    def __repr__(self):
        return "stopped cross entropy"


def test_a_search_that_is_called_again_ends_as_if_it_had_not_stopped(digits, tmp_path):
    path = tmp_path / "losses.json"
    whole = found_by(digits, loss=Stopped(math.inf))
    with pytest.warns(StatisticalWarning, match="stopped in generation 1 of 3"):
        part = found_by(digits, loss=Stopped(60), checkpoint=path)
    assert part.stopped == "interrupt"
    assert part.n_evaluations < whole.n_evaluations
    assert part.loss <= whole.history["best"][0]
    n_saved = len(json.loads(path.read_text())["losses"])
    assert 16 <= n_saved < whole.n_evaluations
    loss = Stopped(math.inf)
    same(found_by(digits, loss=loss, checkpoint=path), whole)
    n_all = len(json.loads(path.read_text())["losses"])
    assert loss.count == 2 + 2 * (n_all - n_saved)  # two batches; the whole network is asked first
    again = Stopped(2)
    same(found_by(digits, loss=again, checkpoint=path), whole)


def test_more_generations_go_on_from_a_shorter_search(digits, tmp_path):
    path = tmp_path / "losses.json"
    short = found_by(digits, checkpoint=path)
    longer = Evolution(population=16, generations=3, n_elite=4, n_parents=4, step=0.2)
    found_by(digits, checkpoint=path, seed=5, evolution=longer)
    assert len(json.loads(path.read_text())["losses"]) > short.n_evaluations
    same(found_by(digits, checkpoint=path), short)


def test_an_interrupt_before_anything_was_found_is_one(digits):
    with pytest.raises(KeyboardInterrupt):
        found_by(digits, loss=Stopped(3))


def test_losses_of_other_data_are_refused(digits, tmp_path):
    model, data, search, clusters = digits
    path = tmp_path / "losses.json"
    found_by(digits, checkpoint=path, evolution=Evolution(generations=0))
    with pytest.raises(InputError, match="another network, or on other data"):
        search_blend(model, data, search[:1], clusters=clusters, checkpoint=path)
    with pytest.raises(InputError, match="another network, or on other data"):
        found_by(digits, checkpoint=path, loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    other = networks.flat_net(8, seed=1)
    with pytest.raises(InputError, match="another network, or on other data"):
        search_blend(other, data, search, clusters=clusters, checkpoint=path)
    with pytest.raises(InputError, match="does not exist"):
        found_by(digits, checkpoint=tmp_path / "nowhere" / "losses.json")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: "[", "cannot be read as JSON"),
        (lambda c: {**c, "format": "x"}, "this is JSON, but no"),
        (lambda c: {**c, "version": 9}, "version 9"),
        (lambda c: {**c, "losses": []}, "no object"),
        (lambda c: {**c, "losses": {"zz": 1.0}}, "no mask of 24 filters"),
        (lambda c: {**c, "losses": {"FFFFFF": 1.0}}, "no mask of 24 filters"),
        (lambda c: {**c, "losses": {"ffffff": "1"}}, "expected a number"),
        (lambda c: {**c, "losses": {"ffffff": True}}, "expected a number"),
        (lambda c: {**c, "losses": {"ffffff": 1e308}}, "expected a number"),
    ],
)
def test_hostile_checkpoints_are_refused(change, match, digits, tmp_path):
    model, data, search, clusters = digits
    held_out = HeldOut(model, clusters.matrix.units, data, search, "cross_entropy")
    path = tmp_path / "losses.json"
    LossCache(held_out, checkpoint=path).find([np.ones(clusters.matrix.units.n, dtype=bool)])
    made = change(json.loads(path.read_text()))
    path.write_text(made if isinstance(made, str) else json.dumps(made))
    with pytest.raises(FileFormatError, match=match):
        LossCache(held_out, checkpoint=path)


def test_infinite_losses_come_back(digits, tmp_path):
    model, data, search, clusters = digits
    held_out = HeldOut(model, clusters.matrix.units, data, search, "cross_entropy")
    cache = LossCache(held_out, checkpoint=tmp_path / "losses.json")
    keep = np.ones(clusters.matrix.units.n, dtype=bool)
    cache.losses[key_of(keep)] = math.inf
    keep[3] = False
    cache.find([keep, keep])
    assert cache.n_found == 1
    again = LossCache(held_out, checkpoint=tmp_path / "losses.json")
    assert again.losses == cache.losses


# -- Settings -------------------------------------------------------------------------------------


def test_patience_ends_the_search(digits):
    patient = Evolution(population=16, generations=50, n_elite=4, step=0.0, mutation_rate=0.0,
                        patience=2)  # fmt: skip
    found = found_by(digits, evolution=patient)
    assert found.stopped == "patience"
    best = found.history["best"]
    assert len(best) < 51
    assert best.iloc[-1] == best.iloc[-3]


def test_other_budgets_and_normalisers(digits):
    for options in (
        {"amount": 0.7, "normaliser": "z"},
        {"scope": "global", "minimum": 2},
        {"allocation": {"0": 0.25, "3": 0.5}, "normaliser": "min-max"},
    ):
        found = found_by(digits, evolution=Evolution(generations=0), **options)
        assert found.criterion.normaliser == options.get("normaliser", "rank")
    assert found.keep[:8].sum() == 6
    assert found.keep[8:].sum() == 8


def test_progress_is_shown_on_stderr(digits, capsys):
    found_by(digits, evolution=Evolution(generations=1), progress=True)
    shown = capsys.readouterr()
    assert "blending: 100%" in shown.err
    assert not shown.out


def test_genes_stay_on_the_simplex_and_inside_their_clusters(digits):
    space = Space(digits[3])
    rng = np.random.default_rng(0)
    genome = space.even()
    for _ in range(300):
        genome = space.mutated(space.crossed(genome, space.drawn(rng), rng), rng, 0.5, 1.0)
        for gene, clusters in zip(genome, space.members, strict=True):
            assert sum(gene.factors) == pytest.approx(1.0)
            assert min(gene.factors) >= 0.0
            assert all(0 <= c < len(g) for c, g in zip(gene.choices, clusters, strict=True))
        BlendedCriterion(space.recipe(genome))
    still = space.mutated(genome, rng, 0.0, 1.0)
    for before, after in zip(genome, still, strict=True):
        assert after.choices == before.choices
        assert after.factors == pytest.approx(before.factors)
    layer = space.layers[0]
    assert space.recipe(space.single("l1"))[layer] == {"l1": 1.0}


def test_steps_fall_to_a_fifth():
    evolution = Evolution(generations=5, step=0.5)
    assert [evolution.step_in(g) for g in (1, 3, 5)] == pytest.approx([0.5, 0.3, 0.1])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"population": 1}, "population=1"),
        ({"generations": -1}, "generations=-1"),
        ({"selection": "roulette"}, "selection='roulette'"),
        ({"tournament_size": 0}, "tournament_size=0"),
        ({"n_parents": 40}, "n_parents=40 and population=32; at most 32"),
        ({"n_elite": 32}, "n_elite=32 and population=32; at most 31"),
        ({"mutation_rate": 1.1}, "mutation_rate=1.1"),
        ({"step": -0.1}, "step=-0.1"),
        ({"patience": 0}, "patience=0"),
    ],
)
def test_settings_out_of_range(options, match):
    with pytest.raises(InputError, match=match):
        Evolution(**options)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"normaliser": "sum"}, InputError, "normaliser='sum'"),
        ({"evolution": {"population": 3}}, InputTypeError, "evolution is a dict"),
        ({"amount": 1.5}, InputError, "amount=1.5"),
        ({"seed": -1}, InputError, "seed=-1"),
        ({"loss": None}, CalibrationError, "no loss was given"),
        ({"scope": "nowhere"}, InputError, "scope='nowhere'"),
    ],
)
def test_refused(options, error, match, digits):
    with pytest.raises(error, match=match):
        found_by(digits, **options)


def test_no_data(digits):
    model, data, _, clusters = digits
    with pytest.raises(CalibrationError, match="search_data 0 batches"):
        search_blend(model, data, [], clusters=clusters)
