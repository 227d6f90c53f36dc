"""The ready loop and its files: resumed runs are straight runs, and what is refused."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sigmine.exceptions import FileFormatError, InputError, InputTypeError
from sigmine_nn import Cup, Geometric
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.methods.cup_curriculum import (
    CupCurriculum,
    FullCapacity,
    load_training,
    plot_cup,
    save_training,
    train_curriculum,
)

generator = torch.Generator().manual_seed(0)
X = torch.randn(60, 6, generator=generator)
Y = (X[:, :3].sum(1, keepdim=True) > 0).long().squeeze(1)
TRAIN = list(zip(X[:40].split(10), Y[:40].split(10), strict=True))
HELD_OUT = [(X[40:], Y[40:])]


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 2)
    )


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01),
}


def ready(optimizer="sgd", schedule=None, **options):
    model = network()
    made = OPTIMISERS[optimizer](model.parameters())
    schedule = Cup(cycles=3, every=2, start=2) if schedule is None else schedule
    return CupCurriculum(model, made, schedule=schedule, **options)


def plateau(cup):
    return torch.optim.lr_scheduler.ReduceLROnPlateau(cup.optimizer, factor=0.5, patience=1)


def train(cup, data=TRAIN, **options):
    return train_curriculum(cup, data, HELD_OUT, loss="cross_entropy", **options)


class Stop(Exception):
    """The power fails."""


def failing(after):
    """Return a validation function that fails at a call, when that was already saved before."""
    calls = []

    def validate(model):
        calls.append(0)
        if len(calls) == after:
            raise Stop
        return float(nn.functional.cross_entropy(model(HELD_OUT[0][0]), HELD_OUT[0][1]))

    return validate


def equal(one, other):
    """Whether two trainings ended alike, bit by bit: weights, optimiser, masks, history."""
    states = [cup.model.state_dict() for cup in (one, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    moments = [cup.optimizer.state_dict()["state"] for cup in (one, other)]
    assert moments[0].keys() == moments[1].keys()
    for number in moments[0]:
        for key, value in moments[0][number].items():
            same = moments[1][number][key]
            assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same
    assert one.history_.equals(other.history_)
    return True


# -- Resumed is straight -----------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize(
    "options",
    [
        {"values": "last"},
        {"values": "best", "rewind": "best", "updates": "freezing"},
        {"values": "random", "rewind": "none", "updates": "identical", "criterion": "random"},
        {"values": "initial", "rewind": "warmup", "warmup": 3, "grow_mask_lag": 1},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_resumed_training_is_the_straight_one_bit_by_bit(tmp_path, optimizer, options):
    straight = ready(optimizer, **options)
    validate = failing(0)
    whole = train_curriculum(
        straight, TRAIN, validate, loss="cross_entropy", scheduler=plateau(straight), clip=0.5
    )
    n = len(whole.history_)
    assert n == straight.length
    for place in range(2, n + 1):
        path = tmp_path / f"{place}.pt"
        broken = ready(optimizer, **options)
        with pytest.raises(Stop):
            train_curriculum(
                broken, TRAIN, failing(place), loss="cross_entropy", clip=0.5,
                scheduler=plateau(broken), checkpoint=path,
            )  # fmt: skip
        fresh = ready(optimizer, **options)
        run = train_curriculum(
            fresh, TRAIN, failing(0), loss="cross_entropy", clip=0.5, scheduler=plateau(fresh),
            checkpoint=path,
        )  # fmt: skip
        assert equal(fresh, straight)
        assert run.best_loss_ == whole.best_loss_ == whole.history_["validation_loss"].min()
        assert run.best_validation_ == whole.best_validation_
        for name, tensor in run.best_state_.items():
            assert torch.equal(tensor, whole.best_state_[name])


@pytest.mark.parametrize("rewind", ["init", "best"])
def test_the_best_state_of_a_cycle_outlives_an_interruption(tmp_path, rewind):
    def size(model):  # grows, so that the first state of a cycle is its best
        return float(sum(p.norm() for p in model.parameters()))

    options = {"schedule": Cup(cycles=2, every=4, start=4), "values": "best", "rewind": rewind}
    straight = ready(**options)
    run = train_curriculum(straight, TRAIN, size, loss="cross_entropy")
    firsts = run.history_.groupby("cycle")["validation_loss"].idxmin()
    assert firsts.tolist()[:2] == [0, 4]

    def stopping(model):
        calls.append(0)
        if len(calls) == place:
            raise Stop
        return size(model)

    for place in range(2, 9):
        calls, path = [], tmp_path / f"{place}.pt"
        with pytest.raises(Stop):
            train_curriculum(ready(**options), TRAIN, stopping, loss="cross_entropy",
                             checkpoint=path)  # fmt: skip
        again = ready(**options)
        train_curriculum(again, TRAIN, size, loss="cross_entropy", checkpoint=path)
        assert equal(again, straight)


@pytest.mark.parametrize("kind", ["loader", "loader with a generator", "function"])
def test_resuming_in_the_middle_of_an_epoch(tmp_path, kind):
    def data():
        dataset = TensorDataset(X[:40], Y[:40])
        if kind == "function":  # 4 batches an epoch, in an order that depends on its number
            return lambda epoch: [TRAIN[(epoch + i) % 4] for i in range(4)]
        own = torch.Generator().manual_seed(5) if kind.endswith("generator") else None
        return DataLoader(dataset, batch_size=10, shuffle=True, generator=own)

    schedule = Cup(cycles=2, every=7, start=7)
    settings = {"loss": "cross_entropy", "unit": "steps", "validate_every": 3}
    straight = ready(schedule=schedule)
    train_curriculum(straight, data(), failing(0), **settings)
    assert straight.history_["step"].tolist() == [3, 6, 7, 9, 12, 14, 15, 18, 21, 24, 27, 28]
    path = tmp_path / "run.pt"
    for place in (3, 6, 9, 12):
        cup = ready(schedule=schedule)
        with pytest.raises(Stop):
            train_curriculum(cup, data(), failing(place), **settings, checkpoint=path)
        cup = ready(schedule=schedule)
        train_curriculum(cup, data(), failing(0), **settings, checkpoint=path)
        assert equal(cup, straight)
        path.unlink()


def test_a_finished_training_is_not_trained_again(tmp_path):
    path = tmp_path / "run.pt"
    cup = ready()
    first = train(cup, checkpoint=path)
    before = path.read_bytes()
    again = ready()
    run = train(again, checkpoint=path)
    assert equal(again, cup)
    assert run.best_loss_ == first.best_loss_
    assert path.read_bytes() == before


def test_own_loops_can_save_and_go_on(tmp_path):
    def cycle(cup):
        for x, y in TRAIN:
            cup.optimizer.zero_grad()
            nn.functional.cross_entropy(cup.model(x), y).backward()
            cup.after_backward()
            cup.optimizer.step()
            cup.after_step()
        cup.end_of_cycle()

    straight = ready("adam", updates="freezing")
    other = ready("adam", updates="freezing")
    torch.manual_seed(1)
    while not straight.finished:
        cycle(straight)
    torch.manual_seed(1)
    for _ in range(4):
        cycle(other)
    path = save_training(tmp_path / "own.pt", other, extra={"random": torch.get_rng_state()})
    resumed = ready("adam", updates="freezing")
    extra = load_training(path, resumed)
    with pytest.raises(InputError, match="cycle 5 ends without a step"):
        resumed.end_of_cycle()
    torch.set_rng_state(extra["random"])
    while not resumed.finished:
        cycle(resumed)
    assert equal(resumed, straight)


# -- What is in a file -------------------------------------------------------------------------


def test_states_are_tensors_and_plain_values(tmp_path):
    cup = ready("adam", values="best")
    path = tmp_path / "run.pt"
    with pytest.raises(Stop):
        train_curriculum(cup, TRAIN, failing(8), loss="cross_entropy", checkpoint=path)
    content = torch.load(path, weights_only=True)
    state = content["curriculum"]
    tensors = {f"{part}.{name}": tensor
               for part in ("removed_in", "kept", "best")
               for name, tensor in (state.pop(part) or {}).items()}  # fmt: skip
    assert json.loads(json.dumps(state)) == state  # the rest is JSON
    from safetensors.torch import load, save

    again = load(save(tensors))
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("options", "copies"),
    [
        ({"values": "last", "rewind": "none"}, 1),
        ({"values": "last", "rewind": "init"}, 1),
        ({"values": "initial"}, 1),
        ({"values": "random"}, 1),
        ({"values": "initial", "updates": "freezing"}, 1),
        ({"values": "best"}, 2),
        ({"values": "best", "rewind": "best"}, 2),
        ({"values": "last", "rewind": "warmup", "warmup": 1}, 2),
    ],
)
def test_storage_is_one_model_and_a_byte_a_weight(options, copies):
    """Whatever the number of cycles; "best" and "warmup" take one model more."""
    cup = ready(schedule=Cup(cycles=12, rate=0.1), **options)
    model = sum(t.numel() * t.element_size() for t in cup.model.state_dict().values())
    weights = sum(cup.model.get_parameter(n).numel() for n in cup.cohorts.histories)
    while not cup.finished:
        cup.after_backward()
        cup.after_step()
        cup.after_validation(1.0)
        cup.end_of_cycle()
        state = cup.state_dict()
        held = [t for part in ("kept", "start", "best") for t in (state[part] or {}).values()]
        assert len({t.data_ptr() for t in held}) == len(held)
        assert sum(t.numel() * t.element_size() for t in held) <= copies * model
        masks = list(state["removed_in"].values())
        assert sum(t.numel() * t.element_size() for t in masks) == weights


def test_a_failed_saving_leaves_the_old_file(tmp_path):
    cup = ready()
    path = save_training(tmp_path / "run.pt", cup)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"extra\['odd'\]\[1\] is a Module, and a file with it"):
        save_training(path, cup, extra={"odd": [1, nn.Module()]})
    with pytest.raises(InputError, match="does not exist"):
        save_training(tmp_path / "no" / "run.pt", cup)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_files_that_are_none(tmp_path, capsys):
    path = tmp_path / "run.pt"
    cup = ready()
    with pytest.raises(FileNotFoundError):
        load_training(path, cup)
    path.write_bytes(b"text")
    with pytest.raises(FileFormatError, match="no saved training, or it is damaged"):
        load_training(path, cup)
    torch.save({"format": "sigmine training", "version": 1, "model": Evil()}, path)
    with pytest.raises(FileFormatError, match="no saved training"):
        load_training(path, cup)
    assert capsys.readouterr().out == ""
    torch.save([1], path)
    with pytest.raises(FileFormatError, match="of format 'list'"):
        load_training(path, cup)
    torch.save({"format": "sigmine training", "version": 1}, path)
    with pytest.raises(FileFormatError, match="is incomplete"):
        load_training(path, cup)
    save_training(path, cup)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="damaged"):
        load_training(path, cup)


def saved(tmp_path, cup):
    return save_training(tmp_path / "run.pt", cup)


def changed(path, change):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].pop("0.bias"), "'0.bias' is in the model only"),
        (
            lambda c: c["model"].update({"0.bias": torch.zeros(3)}),
            r"'0.bias' is \(3,\) in the file",
        ),
        (lambda c: c["curriculum"].update(format="cup"), "the state has format 'cup'"),
        (lambda c: c["curriculum"]["removed_in"].pop("0.weight"), "holds nothing as the masks"),
        (
            lambda c: c["curriculum"]["removed_in"].update({"0.weight": torch.zeros(20, 6)}),
            "torch.float32 as the masks of '0.weight'; expected a tensor of uint8",
        ),
        (
            lambda c: c["curriculum"]["removed_in"].update(
                {"0.weight": torch.zeros(2, dtype=torch.uint8)}
            ),
            r"masks of '0.weight' have shape \(2,\)",
        ),
        (
            lambda c: c["curriculum"]["kept"].update({"0.weight": torch.zeros(2)}),
            r"remembers '0.weight' with shape \(2,\), and the model has shape \(20, 6\)",
        ),
        (lambda c: c["optimizer"].update(param_groups=[]), "saved optimiser does not fit to SGD"),
    ],
)
def test_files_of_something_else(tmp_path, change, message):
    path = changed(saved(tmp_path, ready()), change)
    with pytest.raises(InputError, match=message):
        load_training(path, ready())


def test_files_of_other_settings(tmp_path):
    path = saved(tmp_path, ready(values="last"))
    cup = ready()
    weights = {name: tensor.clone() for name, tensor in cup.model.state_dict().items()}
    with pytest.raises(InputError, match="made with values='last', and this curriculum has 'init"):
        load_training(path, cup)
    with pytest.raises(InputError, match="format 'cup curriculum', version 1, length None"):
        load_training(path, FullCapacity(cup.model, cup.optimizer, length=3))
    assert all(torch.equal(weights[n], t) for n, t in cup.model.state_dict().items())
    path = tmp_path / "steps.pt"
    train(ready(), unit="steps", validate_every=1, checkpoint=path)
    with pytest.raises(InputError, match="of a training in 'steps', and this one counts 'epochs'"):
        train(ready(), checkpoint=path)


# -- The loop ----------------------------------------------------------------------------------


def test_the_loop_follows_schedule_and_warm_up():
    cup = ready(warmup=3)
    run = train(cup)
    frame = run.history_
    assert cup.length == len(frame) == 3 + 12
    assert frame["phase"].tolist() == ["warmup"] * 3 + ["down"] * 6 + ["up"] * 6
    assert frame["level"].tolist() == [0] * 5 + [1, 1, 2, 2, 2, 2, 1, 1, 0, 0]
    assert frame["step"].tolist() == [4 * (i + 1) for i in range(15)]
    assert cup.finished
    assert cup.capacity == 1.0
    best = frame.loc[frame["validation_loss"].idxmin()]
    assert run.best_loss_ == best["validation_loss"]
    assert run.best_validation_ == best["validation"]
    fresh = network(1)
    fresh.load_state_dict(run.best_state_)
    fresh.eval()
    loss = nn.functional.cross_entropy(fresh(HELD_OUT[0][0]), HELD_OUT[0][1])
    assert loss.item() == pytest.approx(run.best_loss_, rel=1e-6)
    assert train(ready(), keep_best=False).best_state_ is None


def test_the_loop_trains_as_one_would_by_hand():
    by_hand, looped = ready("adam"), ready("adam")
    train(looped, clip=0.1, seed=7)
    torch.manual_seed(7)
    epoch = 0
    while not by_hand.finished:
        by_hand.model.train()
        for x, y in TRAIN:
            by_hand.optimizer.zero_grad()
            nn.functional.cross_entropy(by_hand.model(x), y).backward()
            by_hand.after_backward()
            nn.utils.clip_grad_norm_(by_hand.model.parameters(), 0.1)
            by_hand.optimizer.step()
            by_hand.after_step()
        epoch += 1
        if epoch % 2 == 0:
            by_hand.end_of_cycle()
    for one, other in zip(by_hand.model.parameters(), looped.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_generator_and_the_modes_are_given_back():
    cup = ready()
    cup.model[3].eval()
    before = torch.get_rng_state()
    train(cup)
    assert torch.equal(before, torch.get_rng_state())
    assert not cup.model[3].training
    assert cup.model[0].training
    first, second = ready(), ready()
    torch.manual_seed(123)
    train(first)
    torch.manual_seed(321)
    train(second)
    assert equal(first, second)  # a function of its own seed


def test_early_stopping_and_iterative_pruning_are_the_same_loop():
    model = network()
    dense = FullCapacity(model, OPTIMISERS["sgd"](model.parameters()), length=5)
    run = train(dense)
    assert run.history_["phase"].unique().tolist() == ["dense"]
    assert (run.history_["capacity"] == 1).all()
    assert len(run.history_) == 5
    assert run.best_loss_ == run.history_["validation_loss"].min()
    by_hand = network()
    optimizer = OPTIMISERS["sgd"](by_hand.parameters())
    torch.manual_seed(0)
    for x, y in TRAIN * 5:
        optimizer.zero_grad()
        nn.functional.cross_entropy(by_hand(x), y).backward()
        optimizer.step()
    assert all(map(torch.equal, model.parameters(), by_hand.parameters()))
    sparse = ready(schedule=Geometric(end=6, start=2, every=2))
    frame = train(sparse).history_
    assert frame["level"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_plateau_is_measured_anew_when_weights_are_removed():
    """The published program sets the best loss back on the way down, and not on the way up."""
    seen = []

    class Watched(torch.optim.lr_scheduler.ReduceLROnPlateau):
        def step(self, metrics):
            seen.append(self.best)
            super().step(metrics)

    cup = ready(schedule=Cup(cycles=2, every=2, start=2))
    train(cup, scheduler=Watched(cup.optimizer, patience=100))
    fresh = [math.isinf(best) for best in seen]
    assert fresh == [True, False, True, False, True, False, False, False]


def test_other_schedulers_step_by_unit():
    for unit, length in (("epochs", 12), ("steps", 12)):
        cup = ready()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(cup.optimizer, 0.9)
        train(cup, unit=unit, validate_every=100, scheduler=scheduler)
        assert cup.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**length)
        # Validations at the ends of cycles in any case.
        assert len(cup.history_) == 6


def test_criteria_with_data():
    cup = ready(criterion="snip")
    train(cup, score_data=TRAIN[:2])
    assert cup.finished
    with pytest.raises(CalibrationError, match="'snip' looks at"):
        train(ready(criterion="snip"))


def test_progress_goes_to_stderr(capsys):
    train(ready(), progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "training: 100%" in shown.err
    assert "12/12" in shown.err
    assert "capacity=100%" in shown.err
    train(ready(), progress=None)  # no terminal
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"unit": "batches"}, InputError, "unit='batches' is not known"),
        ({"unit": "steps"}, InputError, "unit='steps' needs validate_every"),
        ({"validate_every": 0}, InputError, "validate_every=0"),
        ({"clip": -1.0}, InputError, r"clip=-1\.0 is out of range"),
        ({"save_every": 0}, InputError, "save_every=0"),
        ({"seed": -1}, InputError, "seed=-1"),
        ({"data": iter(TRAIN)}, InputTypeError, "is a generator, which can be gone through once"),
        ({"data": []}, CalibrationError, "data holds no batch"),
        ({"checkpoint": "no/such/folder/run.pt"}, InputError, "does not exist"),
    ],
)
def test_what_cannot_be_trained(options, error, message):
    with pytest.raises(error, match=message):
        train(ready(), **options)


def test_a_schedule_needs_a_first_cycle():
    with pytest.raises(InputError, match="at step 0, before any training"):
        train(ready(schedule=Cup(cycles=2)))
    with pytest.raises(CalibrationError, match="validation holds no batch"):
        train_curriculum(ready(), TRAIN, [], loss="cross_entropy")


# -- The figure --------------------------------------------------------------------------------


def test_the_cup_is_drawn():
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    run = train(ready())
    ax = run.plot()
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["validation"].get_ydata().tolist() == run.history_["validation_loss"].tolist()
    assert lines["training"].get_xdata().tolist() == run.history_["step"].tolist()
    assert lines["lowest"].get_ydata().item() == run.best_loss_
    (behind,) = (other for other in ax.figure.axes if other is not ax)
    corners = behind.collections[0].get_paths()[0].vertices
    assert corners[:, 1].max() == 100
    # The lowest edge of the cup is what is trained at the turn: 64 % of 120 + 40 entries.
    edge = corners[corners[:, 1] > 0][:, 1].min()
    assert edge == pytest.approx(100 * run.history_["capacity"].min())
    given = plt.subplots()[1]
    assert plot_cup(run.history_, given) is given
    with pytest.raises(InputError, match="no row"):
        plot_cup(ready().history_)
    plt.close("all")
