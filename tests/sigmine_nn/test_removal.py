"""Units removed from networks: the risks by hand, the network left alone, sets in a fixed order."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from sigmine.exceptions import InputError
from sigmine_nn import joint_removal, removal
from sigmine_nn.calibrate import calibrate
from sigmine_nn.criteria import Scoring, get_criterion
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.masks import Masks
from sigmine_nn.noninferiority import noninferiority
from sigmine_nn.significance import rank_uncertainty
from sigmine_nn.stopping import StopReason, calibrate_until, joined
from tests.score_tables import made_batches, made_units, small_network, weighed


def without(model, *gone):
    """The network with the columns that read some hidden units at 0."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[2].weight[:, list(gone)] = 0.0
    return other


def losses(model, batches):
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    with torch.no_grad():
        return nn.functional.cross_entropy(model(x), y, reduction="none").double().numpy()


def state_of(model):
    return {
        "names": [name for name, _ in model.named_parameters()],
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "ids": [id(parameter) for parameter in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "types": [type(module) for module in model.modules()],
        "gradients": [parameter.requires_grad for parameter in model.parameters()],
    }


def same_state(one, other):
    plain = all(one[key] == other[key] for key in one if key != "values")
    values = (one["values"], other["values"])
    return plain and all(torch.equal(values[0][name], values[1][name]) for name in values[0])


class TestRisks:
    def test_by_hand(self):
        model, units = small_network()
        batches = made_batches()
        keeps = [np.arange(6) != 2, np.array([True, False, True, True, False, True])]
        found = removal.removal_risks(model, batches, units, keeps, loss="cross_entropy")
        np.testing.assert_allclose(found.before, losses(model, batches), rtol=1e-6)
        np.testing.assert_allclose(found.after[:, 0], losses(without(model, 2), batches), rtol=1e-6)
        np.testing.assert_allclose(
            found.after[:, 1], losses(without(model, 1, 4), batches), rtol=1e-6
        )
        np.testing.assert_array_equal(found.differences, found.after - found.before[:, None])

    @pytest.mark.parametrize("fails", [False, True])
    def test_the_network_is_left_alone(self, fails):
        model, units = small_network()
        model.train()
        before = state_of(model)

        def metric(model, batch):
            if fails:
                raise RuntimeError("the metric failed")
            return torch.zeros(len(batch[0]))

        keeps = [np.arange(6) != 2]
        if fails:
            with pytest.raises(RuntimeError, match="the metric failed"):
                removal.removal_risks(model, made_batches(), units, keeps, metric=metric)
        else:
            removal.removal_risks(model, made_batches(), units, keeps, metric=metric)
        assert same_state(state_of(model), before)

    def test_masks_leave_the_order_of_the_parameters(self):
        model, units = small_network()
        before = state_of(model)
        masks = Masks(model, units)
        masks.set(np.zeros(6))
        masks.remove()
        assert same_state(state_of(model), before)
        names = [name for name, _ in Masks(model, units).merge().named_parameters()]
        assert names == before["names"]

    def test_dropout_is_off(self):
        model, units = small_network()
        model = nn.Sequential(*model, nn.Dropout(0.9)).train()
        again = [
            removal.removal_risks(
                model, made_batches(), units, [np.arange(6) != 0], loss="cross_entropy"
            )
            for _ in range(2)
        ]
        assert (again[0].after == again[1].after).all()

    @pytest.mark.parametrize("data", [made_batches(4), iter(made_batches(4))])
    def test_batches_at_most(self, data):
        model, units = small_network()
        found = removal.removal_risks(
            model, data, units, [np.arange(6) != 0], metric="accuracy", n_batches=2
        )
        assert found.after.shape == (40, 1)
        assert set(np.unique(found.after)) <= {0.0, 1.0}

    def test_progress_goes_to_stderr(self, capsys):
        model, units = small_network()
        removal.test_removal(
            model, made_batches(2), units, margin=1.0, loss="cross_entropy", progress=True
        )
        shown = capsys.readouterr()
        assert "removing" in shown.err
        assert shown.out == ""

    def test_bad_input(self):
        model, units = small_network()
        with pytest.raises(CalibrationError, match="no batch"):
            removal.removal_risks(model, [], units, [np.arange(6) != 0], loss="cross_entropy")
        with pytest.raises(InputError, match="no set of units"):
            removal.removal_risks(model, made_batches(), units, [])
        with pytest.raises(InputError, match=r"keep has shape \(5,\) and dtype bool"):
            removal.removal_risks(model, made_batches(), units, [np.ones(5, dtype=bool)])
        with pytest.raises(InputError, match=r"keep has shape \(6,\) and dtype int64"):
            removal.removal_risks(model, made_batches(), units, [np.arange(6)])


class TestOneByOne:
    def test_every_unit(self):
        model, units = small_network()
        batches = made_batches()
        found = removal.test_removal(model, batches, units, margin=0.05, loss="cross_entropy")
        change = np.stack(
            [losses(without(model, u), batches) - losses(model, batches) for u in range(6)], axis=1
        )
        wanted = noninferiority(change, 0.05)
        frame = found.to_frame()
        assert list(frame.columns) == [
            "unit", "layer", "index", "kind", "increase", "standard_error", "ci_high", "pvalue",
            "pvalue_adjusted", "removable",
        ]  # fmt: skip
        assert frame["unit"].tolist() == [f"0.{u}" for u in range(6)]
        for name in ("increase", "standard_error", "ci_high", "pvalue", "pvalue_adjusted"):
            np.testing.assert_allclose(frame[name], getattr(wanted, name), rtol=1e-3, atol=1e-7)
        assert (found.removable == wanted.accepted).all()
        assert found.risk == pytest.approx(losses(model, batches).mean())

    def test_some_units(self):
        model, units = small_network()
        with torch.no_grad():
            model[2].weight[:, 4] = 0.0  # nothing reads it
            model[2].weight[:, 1] *= 50  # everything does
        batches = [(x, model(x).argmax(dim=1)) for x, _ in made_batches()]  # what it says is right
        found = removal.test_removal(
            model, batches, units, margin=0.01, loss="cross_entropy", which=[4, 1]
        )
        assert found.to_frame()["unit"].tolist() == ["0.4", "0.1"]
        assert found.removable.tolist() == [False, False, False, False, True, False]
        assert found.result.pvalue[0] == pytest.approx(2.0**-60)

    def test_accuracy_is_tested_exactly(self):
        model, units = small_network()
        found = removal.test_removal(model, made_batches(), units, margin=0.1, metric="accuracy")
        assert found.result.test == "exact"
        assert found.metric == "accuracy"
        young = removal.test_removal(
            model, made_batches(), units, margin=0.1, metric="accuracy",
            correction="westfall-young", n_flips=99,
        )  # fmt: skip
        assert young.result.test == "t"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"which": []}, "name the units by their numbers, from 0 to 5"),
            ({"which": [6]}, "from 0 to 5"),
            ({"which": [0.5]}, "from 0 to 5"),
            ({"which": [1, 1]}, "names a unit twice"),
            ({"test": "z"}, "test='z' is not known"),
            ({"correction": "sidak"}, "correction='sidak' is not known"),
            ({"level": 0}, "level=0 is out of range"),
        ],
    )
    def test_bad_options_are_found_before_the_work(self, options, message):
        model, units = small_network()

        def never(model, batch):
            raise AssertionError

        with pytest.raises(InputError, match=message):
            removal.test_removal(model, made_batches(), units, margin=0.1, metric=never, **options)

    def test_pytest_does_not_take_them_for_tests(self):
        for function in (
            removal.test_removal, joint_removal.test_joint_removal,
            joint_removal.test_nested_removal,
        ):  # fmt: skip
            assert function.__test__ is False


class TestTogether:
    def twins(self):
        """A network in which units 0 and 1 compute the same, so that one of them is enough."""
        model, units = small_network()
        with torch.no_grad():
            for name in ("weight", "bias"):
                getattr(model[0], name)[1] = getattr(model[0], name)[0]
            model[0].bias[:2] = 3.0
            model[2].weight.zero_()
            model[2].bias.zero_()
            model[2].weight[0, :2] = 2.0

        def clipped(model, batch):  # one of them is enough for the output to be large
            return (model(batch[0])[:, 0] < 1.0).double()

        return model, units, clipped

    def test_each_is_not_all(self):
        model, units, metric = self.twins()
        batches = [(x * 0.1, y) for x, y in made_batches()]
        each = removal.test_removal(model, batches, units, margin=0.1, metric=metric)
        assert each.removable.all()
        keep = np.array([False, False, True, True, True, True])
        both = joint_removal.test_joint_removal(
            model, batches, units, keep, margin=0.1, metric=metric
        )
        assert both.increase == 1.0
        assert not both.removable
        assert (both.n_removed, both.n_samples, both.pvalue) == (2, 60, 1.0)

    def test_nested_sets_stop_at_the_first_that_fails(self):
        model, units, metric = self.twins()
        batches = [(x * 0.1, y) for x, y in made_batches()]
        table = weighed([2.0, 1.0, 0.0, 0.0, 0.0, 0.0], units=units)
        keeps = joint_removal.nested_keeps(table, [0.34, 0.67, 0.84, 0.99])
        assert [int(k.sum()) for k in keeps] == [4, 2, 1, 1]
        keeps[3] = np.zeros(6, dtype=bool)  # both twins
        keeps.append(keeps[0])  # harmless, and too late
        found = joint_removal.test_nested_removal(
            model, batches, units, keeps, margin=0.1, metric=metric
        )
        assert found.n_accepted == 3
        assert (found.keep == keeps[2]).all()
        assert found.to_frame()["accepted"].tolist() == [True, True, True, False, False]
        assert found.n_removed.tolist() == [2, 4, 5, 6, 2]
        none = joint_removal.test_nested_removal(
            model, batches, units, keeps[3:], margin=0.1, metric=metric
        )
        assert none.n_accepted == 0
        assert none.keep.all()

    def test_nested_keeps(self):
        units = made_units(4, 4)
        scores = [4, 3, 2, 1, 40, math.nan, 20, 10]
        table = weighed([float(s) for s in scores], units=units)
        whole = joint_removal.nested_keeps(table, [0.3, 0.6])
        assert [np.flatnonzero(~k).tolist() for k in whole] == [[2, 3], [0, 1, 2, 3]]
        layers = joint_removal.nested_keeps(table, [0.5, 0.75], scope="layer")
        assert [np.flatnonzero(~k).tolist() for k in layers] == [[2, 3, 7], [1, 2, 3, 6, 7]]
        for bad in ([], [0.5, 0.4], [0.5, 0.5]):
            with pytest.raises(InputError, match="do not ascend"):
                joint_removal.nested_keeps(table, bad)


class TestCalibrateUntil:
    def stream(self, n, size=8, seed=0):
        return made_batches(n, size=size, seed=seed)

    def test_joined_is_one_pass(self):
        model, units = small_network()
        batches = made_batches(5, size=7)
        options = {"loss": "cross_entropy", "keep_samples": True}
        statistics = ["taylor", "activation", "gradient", "input_square"]
        parts = [
            calibrate(model, part, units, statistics, **options)
            for part in (batches[:2], batches[2:])
        ]
        whole = calibrate(model, batches, units, statistics, **options)
        found = joined(*parts)
        assert (found.n_samples, found.n_batches) == (35, 5)
        assert found.loss == pytest.approx(whole.loss)
        for statistic, moments in whole.of_units.items():
            torch.testing.assert_close(found.of_units[statistic].mean, moments.mean)
            torch.testing.assert_close(found.of_units[statistic].squares, moments.squares)
            assert torch.equal(found.samples[statistic], whole.samples[statistic])
        for statistic, means in whole.of_parameters.items():
            for name, mean in means.items():
                torch.testing.assert_close(found.of_parameters[statistic][name], mean)
        assert parts[0].of_units["taylor"].count == 14  # left as it was

    def test_joined_of_others(self):
        model, units = small_network()
        one = calibrate(model, made_batches(1), units, ["activation"])
        other = calibrate(model, made_batches(1), units, ["magnitude"])
        with pytest.raises(InputError, match="only those of the same units and statistics"):
            joined(one, other)

    def test_met(self):
        model, units = small_network()
        batches = self.stream(200)
        taken = iter(batches)
        found = calibrate_until(
            model, taken, units, "taylor", 0.5, 0.4, loss="cross_entropy", n_resamples=200, growth=2
        )
        assert found.reason is StopReason.MET
        assert found.uncertainty.share_undecided <= 0.4
        looks = found.to_frame()
        assert (looks["share_undecided"].iloc[:-1] > 0.4).all()
        assert looks["n_batches"].tolist() == [2**i for i in range(len(looks))]
        assert len(list(taken)) == 200 - looks["n_batches"].iloc[-1]
        # The same as one pass over what was taken.
        used = batches[: looks["n_batches"].iloc[-1]]
        once = calibrate(model, used, units, ["taylor"], loss="cross_entropy", keep_samples=True)
        table = get_criterion("taylor")(Scoring(units, {}, once))
        again = rank_uncertainty(table, 0.5, n_resamples=200)
        np.testing.assert_allclose(found.uncertainty.p_pruned, again.p_pruned)
        torch.testing.assert_close(found.table.score, table.score)

    @pytest.mark.parametrize(
        ("limit", "reason", "n_batches"),
        [(None, StopReason.DATA_ENDED, 5), (4, StopReason.LIMIT, 4), (9, StopReason.DATA_ENDED, 5)],
    )
    def test_not_met(self, limit, reason, n_batches):
        model, units = small_network()
        found = calibrate_until(
            model, self.stream(5), units, "taylor", 0.5, 0.0, loss="cross_entropy",
            n_batches=limit, n_resamples=50, thresholds=(0.0, 1.0), growth=1.5, keep_samples=False,
        )  # fmt: skip
        assert found.reason is reason
        assert found.calibration.n_batches == n_batches
        assert found.history[-1][0] == n_batches
        assert found.uncertainty.method == "gaussian"

    def test_weights_alone_settle_nothing(self):
        model, units = small_network()
        with pytest.raises(InputError, match="'l1' looks at no calibration data"):
            calibrate_until(model, self.stream(2), units, "l1", 0.5)

    def test_too_little_data(self):
        model, units = small_network()
        for n in (0, 1):
            with pytest.raises(CalibrationError, match="fewer than 2 samples"):
                calibrate_until(
                    model, self.stream(n, size=1), units, "taylor", 0.5, loss="cross_entropy"
                )
        with pytest.raises(InputError, match=r"growth=0\.5 is out of range"):
            calibrate_until(model, self.stream(2), units, "taylor", 0.5, growth=0.5)
