"""Calibration: what is collected is what it says, and the model is handed back as it was."""

import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sigmine_nn.calibrate import Statistic, calibrate
from sigmine_nn.criteria import CRITERIA, Scoring, get_criterion
from sigmine_nn.curvature import hessian_gradient_product
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.masks import apply_masks
from sigmine_nn.units import Gate, Kind, Role, Slice, UnitGroup
from tests import naive_criteria
from tests.calibration_nets import Sequences, images, in_batches, residual, units_of

ALL = [s for s in Statistic if s is not Statistic.STATE_ENERGY]  # there are no states here


def taylor_by_gates(model, x, y, units, loss):
    """Return minus the derivative of each sample's loss by gates in the forward pass itself."""
    rows = []
    for i in range(len(x)):

        def of_gates(*values, i=i):
            gates = dict(zip(units.names, values, strict=True))
            return loss(model(x[i : i + 1], gates), y[i : i + 1])

        ones = tuple(torch.ones(g.n_units, dtype=x.dtype) for g in units)
        rows.append(torch.cat(torch.func.grad(of_gates, argnums=tuple(range(len(ones))))(*ones)))
    return torch.stack(rows)


# -- Values ---------------------------------------------------------------------------------------


def test_taylor_of_a_sample_is_the_derivative_by_a_gate():
    model, (x, y) = residual(), images()
    units = model.units()
    found = calibrate(
        model, in_batches(x, y, 5, 4, 3), units,
        ["taylor", "squared_taylor", "absolute_taylor"],
        loss="cross_entropy", keep_samples=True,
    )  # fmt: skip
    expected = taylor_by_gates(model, x, y, units, F.cross_entropy)
    assert (expected != 0).any(dim=0).all()
    torch.testing.assert_close(found.samples[Statistic.TAYLOR], expected.float())
    torch.testing.assert_close(found.of_units[Statistic.TAYLOR].mean, expected.mean(dim=0))
    torch.testing.assert_close(
        found.of_units[Statistic.TAYLOR].variance, expected.var(dim=0, correction=1)
    )
    squares = found.of_units[Statistic.SQUARED_TAYLOR]
    torch.testing.assert_close(squares.mean, expected.square().mean(dim=0))
    absolute = found.of_units[Statistic.ABSOLUTE_TAYLOR]
    torch.testing.assert_close(absolute.mean, expected.abs().mean(dim=0))
    assert found.loss == pytest.approx(F.cross_entropy(model(x), y).item(), abs=1e-12)
    assert (found.n_samples, found.n_batches) == (12, 3)


@pytest.mark.parametrize(("windows", "double"), [(1, False), (3, False), (1, True), (2, True)])
def test_taylor_of_sequences_windows_and_layers_that_are_called_twice(windows, double):
    torch.manual_seed(0)
    model = Sequences(windows, double).double()
    x, y = torch.randn(7, 6, 4, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    units = model.units()
    found = calibrate(
        model, [(x[:3], y[:3]), (x[3:], y[3:])], units, ["taylor"], loss="mse", keep_samples=True
    )

    def loss(gate, i):
        return F.mse_loss(model(x[i : i + 1], gate), y[i : i + 1])

    ones = torch.ones(6, dtype=torch.float64)
    expected = torch.stack([torch.func.grad(loss)(ones, i) for i in range(7)])
    torch.testing.assert_close(found.samples[Statistic.TAYLOR], expected.float())


def test_taylor_of_one_dimensional_convolutions():
    torch.manual_seed(0)
    first, second = nn.Conv1d(2, 5, 3).double(), nn.Conv1d(5, 3, 2).double()
    model = nn.Sequential(first, nn.Tanh(), second, nn.Flatten())
    group = UnitGroup(
        "0", Kind.CHANNEL, 5, (Slice("0.weight", 0, Role.OUT),), (Gate("2", "input", 1),)
    )
    x, y = torch.randn(4, 2, 8, dtype=torch.float64), torch.tensor([0, 3, 7, 14])
    found = calibrate(
        model, [(x, y)], units_of(model, group), ["taylor"], loss="cross_entropy",
        keep_samples=True,
    )  # fmt: skip

    def loss(gate, i):
        h = torch.tanh(first(x[i : i + 1])) * gate.view(1, -1, 1)
        return F.cross_entropy(second(h).flatten(1), y[i : i + 1])

    ones = torch.ones(5, dtype=torch.float64)
    expected = torch.stack([torch.func.grad(loss)(ones, i) for i in range(4)])
    torch.testing.assert_close(found.samples[Statistic.TAYLOR], expected.float())


def test_gates_whose_units_are_out_of_order_or_a_part():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2)).double()
    index = np.array([[6, 1], [0, 4], [3, 2]])  # entries 5 and 7 belong to no unit
    group = UnitGroup(
        "0", Kind.CHANNEL, 3, (Slice("0.weight", 0, Role.OUT, index),),
        (Gate("1", "input", -1, index),),
    )  # fmt: skip
    x = torch.randn(5, 3, dtype=torch.float64)
    found = calibrate(model, [x], units_of(model, group), ["activation"])
    expected = model[0](x).detach()[:, index.reshape(-1)].view(5, 3, 2).mean(dim=2).mean(dim=0)
    torch.testing.assert_close(found.of_units[Statistic.ACTIVATION].mean, expected)


def test_statistics_of_activations_equal_their_twins():
    model, (x, y) = residual(), images()
    found = calibrate(
        model, in_batches(x, y, 5, 7), model.units(),
        ["activation", "magnitude", "zeros", "rank", "gradient_norm"], loss="cross_entropy",
        keep_samples=True,
    )  # fmt: skip
    with torch.no_grad():
        h = F.relu(model.bn(model.stem(x)))
        r = F.relu(model.bn1(model.conv1(h)))
        out = F.relu(h + model.conv2(r))
    h, r, out = (t.numpy() for t in (h, r, out))
    for name, twin in naive_criteria.OF_MAPS.items():
        stem = [[(twin(h[i, c]) + twin(out[i, c])) / 2 for c in range(6)] for i in range(12)]
        conv1 = [[twin(r[i, c]) for c in range(4)] for i in range(12)]
        expected = np.hstack([stem, conv1])
        if name == "rank":  # the second reader of the stem sees no maps
            expected[:, :6] = [[twin(h[i, c]) for c in range(6)] for i in range(12)]
        got = found.samples[Statistic(name)].numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7, err_msg=name)


def test_gradient_norm_is_that_of_the_gradients_at_the_readers():
    model, (x, y) = residual(), images(4)
    found = calibrate(
        model, [(x, y)], model.units(), ["gradient_norm"], loss="cross_entropy", keep_samples=True
    )
    for i in range(4):
        with torch.no_grad():
            h = F.relu(model.bn(model.stem(x[i : i + 1])))
        a = h.clone().requires_grad_()
        r = F.relu(model.bn1(model.conv1(a))).detach().requires_grad_()
        out = F.relu(h + model.conv2(r)).detach().requires_grad_()
        F.cross_entropy(model.fc(out.flatten(1)), y[i : i + 1]).backward()
        at_r = torch.autograd.grad(F.relu(h + model.conv2(r)), r, out.grad)[0]
        at_a = torch.autograd.grad(F.relu(model.bn1(model.conv1(a))), a, at_r)[0]
        stem = (at_a.square().sum((0, 2, 3)) + out.grad.square().sum((0, 2, 3))).sqrt()
        expected = torch.cat([stem, at_r.square().sum((0, 2, 3)).sqrt()])
        torch.testing.assert_close(found.samples[Statistic.GRADIENT_NORM][i], expected.float())


def test_means_of_parameters():
    model, (x, y) = residual(), images()
    found = calibrate(
        model, in_batches(x, y, 5, 7), model.units(), ["gradient", "input_square"],
        loss="cross_entropy",
    )  # fmt: skip
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    gradients = found.of_parameters[Statistic.GRADIENT]
    assert "conv1.weight" in gradients
    for name, value in gradients.items():
        torch.testing.assert_close(value, model.get_parameter(name).grad)
    h = F.relu(model.bn(model.stem(x))).detach()
    squares = found.of_parameters[Statistic.INPUT_SQUARE]
    torch.testing.assert_close(squares["stem.weight"], x.square().mean().reshape(1))
    torch.testing.assert_close(squares["conv1.weight"], h.square().mean(dim=(0, 2, 3)))


def test_rows_have_one_taylor_of_activations_and_of_weights():
    # sum over the weights and the bias of a row of theta dL/dtheta = sum of output x gradient.
    model, (x, y) = residual(), images()
    units = find_units(model, "row")
    found = calibrate(model, [(x, y)], units, ["taylor", "gradient"], loss="cross_entropy")
    scoring = Scoring.of(model, units, found)
    by_weight = get_criterion("taylor_weight", form="absolute_sum")(scoring)
    torch.testing.assert_close(by_weight.score, get_criterion("taylor")(scoring).score)


def test_units_behind_no_gradient_have_none():
    model, (x, y) = residual(), images(3)

    def ignores_the_block(model, batch):
        return F.relu(model.bn(model.stem(batch[0]))).mean() + 0.0 * model(batch[0]).detach().sum()

    with pytest.raises(CalibrationError, match="does not depend on any unit"):
        calibrate(model, [(x, y)], model.units(), ["taylor"], loss=ignores_the_block)

    def ignores_conv1(model, batch):
        out = model(batch[0])
        h = F.relu(model.bn(model.stem(batch[0])))
        return out.detach().sum() * 0.0 + model.conv1(h).square().mean()

    found = calibrate(
        model, [(x, y)], model.units(), ["taylor", "gradient_norm"], loss=ignores_conv1
    )
    for moments in found.of_units.values():
        assert (moments.mean[:6].abs() > 0).any()
        assert torch.equal(moments.mean[6:], torch.zeros(4, dtype=torch.float64))


def test_activations_that_are_overwritten_in_place_are_noticed():
    class Plain(nn.Module):
        in_place = False

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 3)

        def forward(self, x):
            h = F.relu(self.a(x), inplace=self.in_place)
            out = self.b(h)
            out = out.mul_(2.0) if self.in_place else out * 2.0
            return out.sum(dim=(2, 3))

    torch.manual_seed(0)
    model, (x, y) = Plain().double(), images(6)
    units = find_units(model, "row")
    statistics = ["taylor", "zeros", "input_square"]
    runs = []
    for Plain.in_place in (False, True):
        data = in_batches(x, y, 2, 4)
        runs.append(calibrate(model, data, units, statistics, loss="cross_entropy"))
    for statistic in (Statistic.TAYLOR, Statistic.ZEROS):
        torch.testing.assert_close(*(run.of_units[statistic].mean for run in runs))
    torch.testing.assert_close(*(run.of_parameters[Statistic.INPUT_SQUARE] for run in runs))
    assert runs[0].of_units[Statistic.TAYLOR].mean.abs().min() > 0


def test_activations_that_are_overwritten_behind_their_reader_are_noticed():
    class Behind(nn.Module):
        in_place = False

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = self.a(x)
            out = self.b(h)
            h = h.add_(1.0) if self.in_place else h + 1.0
            return out + h[:, :2]

    torch.manual_seed(0)
    model = Behind().double()
    group = UnitGroup(
        "a", Kind.CHANNEL, 4, (Slice("a.weight", 0, Role.OUT),), (Gate("b", "input", 1),)
    )
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.arange(5) % 2
    runs = []
    for Behind.in_place in (False, True):
        found = calibrate(model, [(x, y)], units_of(model, group), ["taylor"], loss="cross_entropy")
        runs.append(found.of_units[Statistic.TAYLOR].mean)
    torch.testing.assert_close(*runs)


def test_the_hessian_is_multiplied_with_the_whole_gradient():
    torch.manual_seed(0)
    model = Sequences().double()
    x, y = torch.randn(6, 2, 4, dtype=torch.float64), torch.arange(6) % 3
    units = find_units(model, "row", ignore=["up"])
    found = calibrate(model, [(x, y)], units, ["hessian_gradient"], loss="cross_entropy")
    expected = hessian_gradient_product(model, [(x, y)], "cross_entropy")
    torch.testing.assert_close(found.of_parameters[Statistic.HESSIAN_GRADIENT], expected)


def test_batches_of_other_sizes_give_the_same():
    model, (x, y) = residual(), images()
    whole, parts = (
        calibrate(
            model, in_batches(x, y, *sizes), model.units(), ALL, loss="cross_entropy",
            keep_samples=True,
        )
        for sizes in ((12,), (5, 1, 6))
    )  # fmt: skip
    for statistic, moments in whole.of_units.items():
        torch.testing.assert_close(moments.mean, parts.of_units[statistic].mean)
        torch.testing.assert_close(moments.variance, parts.of_units[statistic].variance)
        torch.testing.assert_close(whole.samples[statistic], parts.samples[statistic])
        assert whole.samples[statistic].shape == (12, 10)
    for statistic, tensors in whole.of_parameters.items():
        torch.testing.assert_close(tensors, parts.of_parameters[statistic])
    limited = calibrate(model, in_batches(x, y, 5, 1, 6), model.units(), ["zeros"], n_batches=2)
    assert (limited.n_samples, limited.n_batches, limited.loss) == (6, 2, None)


def test_sums_of_halves_are_not_halves():
    model = nn.Sequential(nn.Identity(), nn.Linear(3, 1, bias=False)).bfloat16()
    group = UnitGroup(
        "0", Kind.CHANNEL, 3, (Slice("1.weight", 1, Role.IN),), (Gate("1", "input", -1),)
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.5, -2.0, 4.0]]))
    x = torch.rand(2, 512, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = calibrate(
        model, [(x, torch.zeros(2))], units_of(model, group),
        ["taylor", "activation", "gradient", "input_square"],
        loss=lambda outputs, targets: outputs.float().mean(), keep_samples=True,
    )  # fmt: skip
    exact = x.double()
    torch.testing.assert_close(
        found.of_units[Statistic.ACTIVATION].mean, exact.mean(dim=(0, 1)), rtol=1e-6, atol=0
    )
    # The gradient of a sample by an input is weight / 512, which bfloat16 holds exactly.
    weight = model[1].weight.detach().double()
    torch.testing.assert_close(
        found.samples[Statistic.TAYLOR].double(), exact.sum(dim=1) * weight / 512,
        rtol=1e-6, atol=0,
    )  # fmt: skip
    assert found.of_parameters[Statistic.GRADIENT]["1.weight"].dtype == torch.float32
    squares = found.of_parameters[Statistic.INPUT_SQUARE]["1.weight"]
    torch.testing.assert_close(squares, exact.square().mean(dim=(0, 1)), rtol=1e-6, atol=0)


def test_masked_models_are_calibrated_as_they_are():
    model, (x, y) = residual(), images()
    units = model.units()
    keep = np.ones(units.n, dtype=bool)
    keep[[2, 7]] = False
    masks = apply_masks(model, units, keep)
    found = calibrate(
        model, [(x, y)], units, ["taylor", "gradient", "fisher"], loss="cross_entropy"
    )
    gone = torch.from_numpy(~keep)
    assert torch.equal(found.of_units[Statistic.TAYLOR].mean == 0, gone)
    scoring = Scoring.of(model, units, found)
    inputs = get_criterion("taylor_weight", roles=["in"])(scoring).score
    assert torch.equal(inputs == 0, gone)
    masks.remove()


def test_units_that_no_batch_reaches_are_undefined():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return self.used(x)

    torch.manual_seed(0)
    model = Idle()
    units = find_units(model, "row")
    data = [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))]
    statistics = set(ALL) - {Statistic.RANK}
    found = calibrate(model, data, units, statistics, loss="cross_entropy", keep_samples=True)
    for statistic, moments in found.of_units.items():
        assert moments.mean[:2].isfinite().all(), statistic
        assert moments.mean[2:].isnan().all(), statistic
        assert found.samples[statistic][:, 2:].isnan().all()
    assert found.of_parameters[Statistic.INPUT_SQUARE]["idle.weight"].isnan().all()
    # The loss does not change with these: their derivatives are zeros, and known.
    for statistic in (Statistic.GRADIENT, Statistic.FISHER, Statistic.HESSIAN_GRADIENT):
        value = found.of_parameters[statistic]["idle.weight"]
        assert torch.equal(value, torch.zeros_like(value))


def test_inputs_by_name_and_outputs_in_tuples():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Both(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(input=self.a(x)[0])

    class Both(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y, y * 2

    torch.manual_seed(0)
    model = Named().double()
    units = find_units(model, "row")
    hidden = UnitGroup(
        "hidden", Kind.CHANNEL, 4, (Slice("b.weight", 1, Role.IN),), (Gate("b", "input", 1),)
    )
    units = units_of(model, units[0], hidden)
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.arange(5) % 2
    found = calibrate(model, [(x, y)], units, ["taylor"], loss="cross_entropy")
    mean = found.of_units[Statistic.TAYLOR].mean
    assert (mean != 0).all()
    torch.testing.assert_close(mean[:4], mean[4:])  # the same tensor at both gates


def test_progress_is_shown_on_stderr(capsys):
    model, (x, y) = residual(), images(4)
    for shown in (True, False):
        calibrate(model, in_batches(x, y, 2, 2), model.units(), ["zeros"], progress=shown)
        calibrate(model, iter([(x, y)]), model.units(), ["zeros"], n_batches=3, progress=shown)
        assert ("calibrating" in capsys.readouterr().err) is shown


# -- Batches --------------------------------------------------------------------------------------


def test_a_language_model_of_hugging_face_with_batches_of_names():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=17, hidden_size=16, intermediate_size=12, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    groups = [
        UnitGroup(
            f"{block}.mlp", Kind.MLP_CHANNEL, 12,
            (
                Slice(f"{block}.mlp.gate_proj.weight", 0, Role.OUT),
                Slice(f"{block}.mlp.up_proj.weight", 0, Role.OUT),
                Slice(f"{block}.mlp.down_proj.weight", 1, Role.IN),
            ),
            (Gate(f"{block}.mlp.down_proj", "input", -1),),
        )
        for block in ("model.layers.0", "model.layers.1")
    ]  # fmt: skip
    units = units_of(model, *groups)
    tokens = torch.randint(17, (6, 9), generator=torch.Generator().manual_seed(0))
    data = ({"input_ids": part, "labels": part} for part in tokens.split(4))
    found = calibrate(model, data, units, ["taylor", "input_square", "fisher"], keep_samples=True)
    assert found.loss == pytest.approx(model(input_ids=tokens, labels=tokens).loss.item(), rel=1e-6)
    gate = torch.ones(12, requires_grad=True)
    handle = model.model.layers[0].mlp.down_proj.register_forward_pre_hook(
        lambda _, inputs: (inputs[0] * gate,)
    )
    model(input_ids=tokens, labels=tokens).loss.backward()
    handle.remove()
    torch.testing.assert_close(
        found.of_units[Statistic.TAYLOR].mean[:12].float(), gate.grad, rtol=1e-4, atol=1e-9
    )
    assert set(found.of_parameters[Statistic.FISHER]) >= {"model.embed_tokens.weight"}


def test_generators_do_for_one_pass_only():
    model, (x, y) = residual(), images()
    data = in_batches(x, y, 6, 6)
    one = calibrate(model, data, model.units(), ["taylor"], loss="cross_entropy")
    two = calibrate(model, iter(data), model.units(), ["taylor"], loss="cross_entropy")
    assert torch.equal(one.of_units[Statistic.TAYLOR].mean, two.of_units[Statistic.TAYLOR].mean)
    with pytest.raises(CalibrationError, match="only once"):
        calibrate(model, iter(data), model.units(), ["hessian_gradient"], loss="cross_entropy")


def test_memory_does_not_grow_with_the_data():
    model = residual()
    alive, most = [], []

    def note(module, inputs, output):
        alive.append(weakref.ref(output))

    handle = model.conv1.register_forward_hook(note)
    x, y = images(4)

    def data():
        for _ in range(6):
            yield x, y
            most.append(sum(ref() is not None for ref in alive))

    calibrate(model, data(), model.units(), set(ALL) - {Statistic.HESSIAN_GRADIENT},
              loss="cross_entropy")  # fmt: skip
    handle.remove()
    assert len(alive) >= 6
    assert max(most) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_scores_of_the_cpu():
    model, (x, y) = residual(), images()
    scores = []
    for device in ("cpu", "cuda"):
        model.to(device)
        found = calibrate(
            model, in_batches(x, y, 5, 7), model.units(), ALL, loss="cross_entropy",
            keep_samples=True,
        )  # fmt: skip
        scoring = Scoring.of(model, model.units(), found)
        scores.append({name: criterion(scoring).score for name, criterion in CRITERIA.items()})
    for name, score in scores[1].items():
        torch.testing.assert_close(score.cpu(), scores[0][name], rtol=1e-8, atol=1e-10)
        assert score.is_cuda or name == "random"


# -- Processes ------------------------------------------------------------------------------------


def test_two_processes_give_the_scores_of_one(tmp_path, repository):
    command = [sys.executable, "-m", "tests.calibration_process", str(tmp_path)]
    running = [
        subprocess.Popen([*command, str(rank)], cwd=repository, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    for process in running:
        assert process.wait(timeout=200) == 0, process.stderr.read()
        process.stderr.close()
    model, (x, y) = residual(), images(11)
    alone = calibrate(
        model, in_batches(x, y, 7, 4), model.units(), list(Statistic), loss="cross_entropy",
        keep_samples=True,
    )  # fmt: skip
    scoring = Scoring.of(model, model.units(), alone)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["n_samples"] == 11
        assert found["loss"] == pytest.approx(alone.loss, abs=1e-12)
        assert found["scores"].keys() == CRITERIA.keys()
        for name, score in found["scores"].items():
            expected = CRITERIA[name](scoring).score
            torch.testing.assert_close(score, expected, equal_nan=True, rtol=1e-6, atol=1e-9)
        variance = alone.of_units[Statistic.TAYLOR].variance
        torch.testing.assert_close(found["variance"], variance)
