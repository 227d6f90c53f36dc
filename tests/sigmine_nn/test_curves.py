"""Quality against the amount: what is measured, and what is said of several networks."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn import (
    Pruner,
    PruningCurves,
    evaluate,
    find_units,
    pruning_curve,
    score_units,
    select_units,
)
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.masks import apply_masks
from tests.networks import digits, in_batches, residual_net, train

mpl.use("agg")
AMOUNTS = [0.2, 0.5]


@pytest.fixture(scope="module")
def model():
    return train(residual_net(seed=0), *(part[:400] for part in digits()), epochs=2)


@pytest.fixture(scope="module")
def data():
    return in_batches(*(part[500:700] for part in digits()))


def test_a_row_is_what_a_user_would_measure_by_hand(model, data):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ways = {"L2": Pruner("l2"), "by layer": Pruner("l2", scope="layer", minimum=3)}
    frame = pruning_curve(model, data, ways, AMOUNTS, loss="cross_entropy", name="net")
    assert list(frame["way"]) == ["whole", "L2", "L2", "by layer", "by layer"]
    assert set(frame["model"]) == {"net"}
    units = find_units(model, "channel", data[0][0])
    table = score_units(model, criterion="l2", units=units)
    for way, options in (("L2", {}), ("by layer", {"scope": "layer", "minimum": 3})):
        for amount in AMOUNTS:
            selection = select_units(table, amount, **options)
            masks = apply_masks(model, units, selection.keep)
            expected = evaluate(model, data, loss="cross_entropy")
            masks.remove()
            row = frame[(frame["way"] == way) & (frame["amount"] == amount)].iloc[0]
            assert row["accuracy"] == pytest.approx(expected.accuracy, abs=1e-12)
            assert row["loss"] == pytest.approx(expected.loss, rel=1e-6)
            assert row["removed"] == pytest.approx((~selection.keep).mean())
    whole = evaluate(model, data, loss="cross_entropy")
    assert frame["accuracy"][0] == whole.accuracy
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_random_is_the_mean_of_draws_that_differ(model, data):
    found = {}
    for draws in (1, 3):
        ways = {"random": Pruner("random")}
        frame = pruning_curve(model, data, ways, [0.4], loss="cross_entropy", n_draws=draws)
        found[draws] = frame.set_index("way").loc["random", "loss"]
    alone = [
        pruning_curve(
            model, data, {"r": Pruner("random", random_state=k)}, [0.4],
            loss="cross_entropy", n_draws=1,
        )["loss"][1]
        for k in range(3)
    ]  # fmt: skip
    assert len(set(alone)) == 3
    assert found[1] == pytest.approx(alone[0])
    assert found[3] == pytest.approx(np.mean(alone))


def test_functions_are_ways_too(model, data):
    asked = []

    def nothing(network, amount):
        asked.append(amount)
        return network

    frame = pruning_curve(model, data, {"nothing": nothing}, AMOUNTS, loss="cross_entropy")
    assert asked == AMOUNTS
    assert frame["removed"].isna().tolist() == [False, True, True]
    assert (frame["accuracy"] == frame["accuracy"][0]).all()


def test_criteria_that_need_data_get_those_and_no_others(model, data):
    ways = {"Taylor": Pruner("taylor")}
    with pytest.raises(CalibrationError, match="give calibration="):
        pruning_curve(model, data, ways, AMOUNTS, loss="cross_entropy")
    frame = pruning_curve(
        model, data, ways, AMOUNTS, loss="cross_entropy", calibration=iter(data[:1])
    )
    units = find_units(model, "channel", data[0][0])
    table = score_units(model, data[:1], criterion="taylor", units=units, loss="cross_entropy")
    masks = apply_masks(model, units, select_units(table, 0.5).keep)
    assert frame["loss"].iloc[-1] == pytest.approx(
        evaluate(model, data, loss="cross_entropy").loss, rel=1e-6
    )
    masks.remove()


@pytest.mark.parametrize(
    ("ways", "error", "message"),
    [
        ({}, InputTypeError, "give a mapping"),
        ({"whole": Pruner()}, InputError, "rename it"),
        ({"a": "l2"}, InputTypeError, "'a' is a str"),
    ],
)
def test_ways_that_are_refused(model, data, ways, error, message):
    with pytest.raises(error, match=message):
        pruning_curve(model, data, ways, AMOUNTS, loss="cross_entropy")


def rows(model, way, values, amounts=(0.2, 0.4, 0.6), whole=0.9):
    first = {"model": model, "way": "whole", "amount": 0.0, "removed": 0.0, "loss": 0.1,
             "accuracy": whole}  # fmt: skip
    return [first] + [
        {**first, "way": way, "amount": a, "removed": a, "accuracy": v}
        for a, v in zip(amounts, values, strict=True)
    ]


def made():
    """Three networks, two ways, known numbers."""
    good = {0: (0.9, 0.9, 0.5), 1: (0.9, 0.89, 0.3), 2: (0.88, 0.895, 0.4)}
    bad = {0: (0.9, 0.5, 0.5), 1: (0.9, 0.6, 0.3), 2: (0.9, 0.4, 0.4)}
    frames = [rows(k, "good", good[k]) + rows(k, "bad", bad[k])[1:] for k in range(3)]
    return PruningCurves(pd.DataFrame([row for frame in frames for row in frame]))


def test_means_and_intervals_are_those_of_students_t():
    summary = made().summary(confidence_level=0.9).set_index(["way", "amount"])
    values = np.array([0.9, 0.89, 0.895])
    low, high = stats.t.interval(0.9, 2, values.mean(), stats.sem(values))
    row = summary.loc[("good", 0.4)]
    assert row["mean"] == pytest.approx(0.895)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
    assert row["n_models"] == 3
    assert summary.loc[("whole", 0.0), "sd"] == pytest.approx(0.0, abs=1e-12)


def test_differences_are_paired():
    found = made().difference("good", "bad", 0.4)
    expected = np.array([0.4, 0.29, 0.495])
    interval = stats.t.interval(0.95, 2, expected.mean(), stats.sem(expected))
    assert found["mean"] == pytest.approx(expected.mean())
    assert (found["ci_low"], found["ci_high"]) == pytest.approx(interval)
    assert found["n_positive"] == 3


def test_the_largest_amount_stops_at_the_first_loss():
    # Of network 2 the first amount costs 2 points: what comes back later does not count.
    found = made().largest_amount(0.01).set_index("way")
    assert found.loc["good", "mean"] == pytest.approx((0.4 + 0.4 + 0.0) / 3)
    assert found.loc["bad", "mean"] == pytest.approx(0.2)
    assert made().largest_amount(0.5).set_index("way").loc["bad", "mean"] == pytest.approx(
        (0.6 + 0.4 + 0.6) / 3
    )


def test_a_loss_may_rise_instead():
    frame = made().frame.assign(loss=lambda f: 1.0 - f["accuracy"])
    curves = PruningCurves(frame, "loss")
    pd.testing.assert_frame_equal(curves.largest_amount(0.01), made().largest_amount(0.01))


def test_one_network_has_no_interval():
    one = made().frame.query("model == 0")
    summary = PruningCurves(one).summary()
    assert summary["ci_low"].isna().all()
    assert summary["mean"].notna().all()


def test_curves_are_drawn():
    ax = made().plot()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["good", "bad"]
    with pytest.raises(InputError, match="'best' was not tried; there are good, bad"):
        made().plot(["best"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="loss"), "no column 'loss'"),
        (lambda f: pd.concat([f, f]), "twice"),
    ],
)
def test_frames_that_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        PruningCurves(change(made().frame))
    with pytest.raises(InputError, match=r"amount=0\.3 was not tried"):
        made().difference("good", "bad", 0.3)
    with pytest.raises(InputError, match="metric='error'"):
        PruningCurves(made().frame, "error")
