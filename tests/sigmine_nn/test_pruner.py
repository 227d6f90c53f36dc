"""The front door: what is asked is what is removed, and the network is never changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from sigmine.exceptions import InputError, StatisticalWarning
from sigmine_nn import (
    Pruner,
    score_by_criteria,
    score_units,
    split_data,
    test_joint_removal,
    test_removal,
)
from sigmine_nn.exceptions import CalibrationError, ModelError
from sigmine_nn.pruner import completed
from sigmine_nn.scores import ScoreTable
from sigmine_nn.units import Kind, Role, Slice, UnitGroup, Units
from tests.networks import (
    accuracy,
    digits,
    flat_net,
    in_batches,
    mlp,
    residual_net,
    state_of,
    train,
)

CONTRACT = ["unit", "layer", "score", "standard_error", "ci_low", "ci_high", "pvalue",
            "pvalue_adjusted", "rank", "rank_low", "rank_high", "p_pruned", "undecided",
            "keep"]  # fmt: skip


@pytest.fixture(scope="module")
def data():
    inputs, targets = digits()
    return {
        "train": (inputs[:700], targets[:700]),
        "calibration": in_batches(inputs[700:956], targets[700:956]),
        "validation": in_batches(inputs[956:1356], targets[956:1356]),
        "test": in_batches(inputs[1356:], targets[1356:]),
    }


@pytest.fixture(scope="module")
def model(data):
    return train(residual_net(seed=1), *data["train"], epochs=4)


def sizes(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class TestBudget:
    def test_exactly_the_amount_goes_and_the_network_is_left_alone(self, model, data):
        before = state_of(model)
        pruner = Pruner(amount=0.3, n_resamples=100)
        pruner.fit(model, data["calibration"], loss="cross_entropy")
        n = pruner.units_.n
        assert pruner.selection_.n_kept == n - int(0.3 * n)
        small = pruner.transform(model, physical=True)
        masked = pruner.transform(model)
        assert state_of(model) == before
        inputs = data["test"][0][0]
        assert torch.allclose(small(inputs), masked(inputs), atol=1e-5)
        assert sizes(small) == pruner.costs_.parameters(pruner.selection_.keep) < sizes(model)

    def test_a_target_in_parameters_or_multiply_adds_is_met(self, model, data):
        for target in ("params", "flops"):
            pruner = Pruner("l2", units="channel", **{target: 0.4})
            pruner.fit(model, example_inputs=data["test"][0][0][:1])
            count = pruner.costs_.parameters if target == "params" else pruner.costs_.flops
            achieved = 1 - count(pruner.selection_.keep) / count()
            assert achieved == pytest.approx(0.4, abs=0.03), target  # a net of few channels

    def test_the_ranking_has_the_columns_of_the_contract(self, model, data):
        pruner = Pruner(n_resamples=100).fit(model, data["calibration"], loss="cross_entropy")
        ranking = pruner.ranking_
        assert list(ranking.columns) == CONTRACT
        assert ranking["rank"].is_monotonic_increasing
        assert (ranking["score"].diff().dropna() <= 0).all()
        assert (ranking["ci_low"] <= ranking["ci_high"]).all()
        assert ranking["pvalue"].isna().all()  # nothing was tested
        assert ranking["keep"].sum() == pruner.selection_.n_kept

    def test_weights_alone_have_no_distribution(self, model, data):
        pruner = Pruner("l1").fit(model, example_inputs=data["test"][0][0][:1])
        assert not pruner.scores_.has_sampling_distribution
        assert (
            pruner.ranking_[["standard_error", "ci_low", "p_pruned", "pvalue"]]
            .isna()
            .all(axis=None)
        )

    def test_elements_are_masked_and_never_cut(self, data):
        model = mlp(64, n_outputs=10)
        batches = [(inputs.flatten(1), targets) for inputs, targets in data["calibration"]]
        pruner = Pruner("wanda", units="element", amount=0.9, n_resamples=0).fit(model, batches)
        masked = pruner.transform(model)
        zeros = sum(int((layer.weight == 0).sum()) for layer in masked if hasattr(layer, "weight"))
        assert zeros == int(0.9 * pruner.units_.n)
        with pytest.raises(ModelError, match="masked"):
            pruner.transform(model, physical=True)

    @pytest.mark.parametrize("settings", [{"scope": "layer"}, {"allocation": "erk"}])
    @pytest.mark.parametrize("norm", ["batch", "group"])
    def test_intervals_speak_of_the_set_that_goes(self, data, norm, settings):
        pruner = Pruner(n_resamples=50, **settings)
        pruner.fit(residual_net(norm), data["calibration"], loss="cross_entropy")
        assert (pruner.uncertainty_.pruned == ~pruner.selection_.keep).all()

    def test_a_fit_that_fails_leaves_nothing_of_an_earlier_one(self, model, data):
        pruner = Pruner("l2").fit(model, example_inputs=data["test"][0][0][:1])
        with pytest.raises(CalibrationError):
            pruner.set_params(criterion="taylor").fit(model, [], loss="cross_entropy")
        with pytest.raises(NotFittedError):
            pruner.transform(model)

    def test_a_table_of_patients(self):
        from sklearn.datasets import load_breast_cancer

        found = load_breast_cancer()
        inputs = torch.tensor((found.data - found.data.mean(0)) / found.data.std(0)).float()
        targets = torch.tensor(found.target)
        model = train(mlp(), inputs[:300], targets[:300], epochs=20)
        pruner = Pruner(amount=0.6, level=0.05, margin=0.05, metric="accuracy", test="nested",
                        n_resamples=50)  # fmt: skip
        pruner.fit(
            model,
            in_batches(inputs[300:400], targets[300:400]),
            loss="cross_entropy",
            test_data=in_batches(inputs[400:], targets[400:]),
        )
        small = pruner.transform(model, physical=True)
        assert sizes(small) < sizes(model)
        lost = accuracy(model, inputs[400:], targets[400:]) - accuracy(
            small, inputs[400:], targets[400:]
        )
        assert lost < 0.05  # or the test would not have let it pass

    def test_the_same_seed_gives_the_same(self, model, data):
        first, second = (
            Pruner("random", random_state=3).fit(model, example_inputs=data["test"][0][0][:1])
            for _ in range(2)
        )
        assert (first.selection_.keep == second.selection_.keep).all()

    def test_a_generator_of_batches_will_do(self, data):
        model = flat_net()
        listed = Pruner(n_resamples=50).fit(model, data["calibration"], loss="cross_entropy")
        once = Pruner(n_resamples=50)
        once.fit(model, (batch for batch in data["calibration"]), loss="cross_entropy")
        assert torch.equal(listed.scores_.score, once.scores_.score)

    def test_criteria_are_compared_where_asked(self, model, data):
        pruner = Pruner(compare=("l1", "l2"), n_resamples=50)
        pruner.fit(model, data["calibration"], loss="cross_entropy")
        assert pruner.agreement_.names == ("taylor", "l1", "l2")


class TestLevel:
    def test_units_go_only_where_a_test_clears_them(self, model, data):
        pruner = Pruner(level=0.05, margin=0.05, metric="accuracy", n_resamples=50)
        with pytest.warns(StatisticalWarning, match="may go together does not follow"):
            pruner.fit(
                model, data["calibration"], loss="cross_entropy", test_data=data["validation"]
            )
        gone = ~pruner.selection_.keep
        assert gone.any()
        assert not (gone & ~pruner.removal_.removable).any()
        ranking = pruner.ranking_
        assert (ranking.loc[~ranking["keep"], "pvalue_adjusted"] <= 0.05).all()

    def test_both_removes_cleared_units_as_far_as_sets_of_them_are_harmless(self, model, data):
        settings = {"level": 0.05, "margin": 0.1, "metric": "accuracy", "n_resamples": 50}
        pruner = Pruner(test="both", correction="benjamini-hochberg", **settings)
        pruner.fit(model, data["calibration"], loss="cross_entropy", test_data=data["validation"])
        gone = ~pruner.selection_.keep
        first, second = split_data(data["validation"])
        cleared = test_removal(
            model, first, pruner.units_, margin=0.1, metric="accuracy", loss="cross_entropy",
            correction="benjamini-hochberg",
        ).removable  # fmt: skip
        assert gone.any()
        assert not (gone & ~cleared).any()
        joint = test_joint_removal(
            model, second, pruner.units_, ~gone, margin=0.1, metric="accuracy",
            loss="cross_entropy",
        )  # fmt: skip
        assert joint.removable
        assert gone.sum() < cleared.sum()  # each may go, not all

    def test_a_margin_that_nothing_meets_removes_nothing(self, model, data):
        pruner = Pruner(level=0.05, margin=1e-9, n_resamples=50, test="nested", amount=0.9)
        pruner.fit(model, data["calibration"], loss="cross_entropy", test_data=data["validation"])
        assert pruner.selection_.keep.all()

    def test_nested_sets_keep_the_accuracy_within_the_margin(self, model, data):
        margin = 0.05
        pruner = Pruner(level=0.05, margin=margin, metric="accuracy", test="nested",
                        n_resamples=50)  # fmt: skip
        pruner.fit(model, data["calibration"], loss="cross_entropy", test_data=data["validation"])
        small = pruner.transform(model, physical=True)
        inputs, targets = (torch.cat(part) for part in zip(*data["test"], strict=True))
        # On 441 other samples: the margin, and three standard errors of a difference.
        lost = accuracy(model, inputs, targets) - accuracy(small, inputs, targets)
        assert lost < margin + 3 * np.sqrt(2 * 0.1 * 0.9 / len(targets))

    @pytest.mark.parametrize(
        ("settings", "test_data", "error", "word"),
        [
            ({"level": 0.05}, True, InputError, "needs a margin"),
            ({"level": 0.05, "margin": 0.1}, False, CalibrationError, "test_data"),
            ({"margin": 0.1}, False, InputError, "margin is given and level is not"),
            ({}, True, InputError, "test_data is given and level is not"),
            ({"level": 0.05, "margin": 0.1, "flops": 0.5}, True, InputError, "exclude"),
            ({"level": 0.05, "margin": 0.1, "test": "joint"}, True, InputError, "'both'"),
        ],
    )
    def test_what_does_not_fit_together_is_refused(
        self, model, data, settings, test_data, error, word
    ):
        held = data["validation"] if test_data else None
        with pytest.raises(error, match=word):
            Pruner(**settings).fit(model, data["calibration"], loss="cross_entropy", test_data=held)


class TestBadInput:
    def test_before_the_fit_there_is_nothing(self, model):
        with pytest.raises(NotFittedError, match="fit first"):
            Pruner().transform(model)

    @pytest.mark.parametrize(
        ("settings", "with_data", "error", "word"),
        [
            ({"criterion": "tailor"}, True, InputError, "tailor"),
            ({"units": "neuron"}, True, InputError, "neuron"),
            ({"amount": 1.0}, True, InputError, "amount"),
            ({"ignore": ["conv99"]}, True, ModelError, "conv99"),
            ({}, False, InputError, "example_inputs"),
        ],
    )
    def test_the_model_is_as_it_was(self, model, data, settings, with_data, error, word):
        before = state_of(model)
        batches = data["calibration"] if with_data else None
        with pytest.raises(error, match=word):
            Pruner(**settings).fit(model, batches, loss="cross_entropy")
        assert state_of(model) == before

    def test_no_batches_and_no_number(self, model, data):
        with pytest.raises(CalibrationError, match="no batch"):
            Pruner().fit(model, [], loss="cross_entropy")
        inputs, targets = data["calibration"][0]
        broken = [(inputs * torch.nan, targets)]
        with pytest.raises(CalibrationError, match="nan"):
            Pruner().fit(model, broken, loss="cross_entropy")

    def test_it_is_an_estimator(self):
        pruner = Pruner(amount=0.2, criterion="l2")
        assert clone(pruner).get_params()["amount"] == 0.2
        assert "l2" in repr(pruner)


class TestScoring:
    def test_several_criteria_from_one_pass_are_those_of_one_each(self, model, data):
        together = score_by_criteria(
            model, data["calibration"], criteria=["taylor", "apoz", "l2"], loss="cross_entropy"
        )
        for name, table in together.items():
            alone = score_units(model, data["calibration"], criterion=name, loss="cross_entropy")
            assert torch.equal(table.score, alone.score), name

    def test_criteria_without_data_need_none(self, model, data):
        with pytest.raises(CalibrationError, match="'taylor' looks at what the network does"):
            score_units(model, example_inputs=data["test"][0][0])

    def test_a_criterion_is_named_once(self, model, data):
        with pytest.raises(InputError, match="each once"):
            score_by_criteria(model, data["calibration"], criteria=["l1", "l1"])


class TestCompleted:
    @staticmethod
    def table(score: list[float], blocks: int = 1) -> ScoreTable:
        group = UnitGroup("a", Kind.CHANNEL, len(score), (Slice("a.weight", 0, Role.OUT),),
                          blocks=blocks)  # fmt: skip
        return ScoreTable(Units((group,), {}), torch.tensor(score).double(), "given")

    def test_a_group_keeps_its_best(self):
        none = np.zeros(3, dtype=bool)
        assert completed(self.table([0.1, 0.3, 0.2]), none, 1).tolist() == [False, True, False]

    def test_blocks_keep_equal_numbers(self):
        keep = np.array([True, False, False, False])
        found = completed(self.table([0.1, 0.3, 0.2, 0.9], blocks=2), keep, 1)
        assert found.tolist() == [True, False, False, True]

    def test_units_without_a_score_stay(self):
        none = np.zeros(2, dtype=bool)
        assert completed(self.table([float("nan"), 0.3]), none, 1).tolist() == [True, False]
