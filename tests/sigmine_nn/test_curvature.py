"""Curvature: quadratic losses with a known Hessian, slow loops, and theorems."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn import curvature
from sigmine_nn.curvature import (
    HessianMethod,
    fisher_diagonal,
    ggn_diagonal,
    hessian_gradient_product,
    mean_gradient,
)
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.masks import apply_masks
from sigmine_nn.state import leaf_parameters
from sigmine_nn.synaptic_flow import synaptic_flow
from tests.calibration_nets import images, in_batches, residual

METHODS = list(HessianMethod)


class Point(nn.Module):
    def __init__(self, start):
        super().__init__()
        self.theta = nn.Parameter(start)
        self.idle = nn.Parameter(torch.ones(2, dtype=start.dtype))

    def forward(self, x):
        return self.theta * x


def tanh_net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def vectors(n=11):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (n,), generator=generator)


# -- The Hessian times the gradient ---------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_quadratic_loss(method):
    torch.manual_seed(0)
    root = torch.randn(5, 5, dtype=torch.float64)
    hessian, centre = root @ root.T, torch.randn(5, dtype=torch.float64)
    start = torch.randn(5, dtype=torch.float64)
    model = Point(start.clone())

    def loss(model, batch):  # the mean over two batches is the quadratic form
        away = model.theta - centre
        return batch[0].mean() * 0.5 * away @ hessian @ away

    data = [(torch.full((2, 1), 0.25, dtype=torch.float64),),
            (torch.full((3, 1), 1.5, dtype=torch.float64),)]  # fmt: skip
    gradient = mean_gradient(model, data, loss)
    expected = hessian @ (start - centre)
    torch.testing.assert_close(gradient["theta"], expected)
    found = hessian_gradient_product(model, data, loss, method=method)
    torch.testing.assert_close(found["theta"], hessian @ expected)
    assert torch.equal(found["idle"], torch.zeros(2, dtype=torch.float64))
    assert torch.equal(model.theta, start)


def by_definition(model, x, y):
    """Return H g by the whole Hessian matrix."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    flat = torch.cat([p.reshape(-1) for p in parameters.values()])

    def loss(vector):
        parts = vector.split([p.numel() for p in parameters.values()])
        named = {n: v.view_as(p) for (n, p), v in zip(parameters.items(), parts, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, named, (x,)), y)

    return torch.func.jacrev(torch.func.grad(loss))(flat) @ torch.func.grad(loss)(flat)


def test_both_methods_equal_the_whole_hessian():
    model, (x, y) = tanh_net(), vectors()
    data = in_batches(x, y, 4, 7)
    expected = by_definition(model, x, y)
    exact, near = (
        torch.cat([
            value.reshape(-1)
            for value in hessian_gradient_product(
                model, data, "cross_entropy", method=method
            ).values()
        ])
        for method in (HessianMethod.DOUBLE_BACKWARD, HessianMethod.DIFFERENCE)
    )  # fmt: skip
    torch.testing.assert_close(exact, expected)
    assert (near - expected).norm() < 1e-4 * expected.norm()
    # The error of a central difference is of second order in the step.
    large = hessian_gradient_product(model, data, "cross_entropy", relative_step=0.1)
    error = torch.cat([value.reshape(-1) for value in large.values()]) - expected
    assert error.norm() == pytest.approx(100 * (near - expected).norm().item(), rel=0.2)


def test_attention_can_be_differentiated_twice():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 3)

        def forward(self, x):
            q, k, v = self.qkv(x).view(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v)
            return self.out(y.transpose(1, 2).flatten(2).mean(dim=1))

    torch.manual_seed(0)
    model = Attention()
    x, y = torch.randn(6, 5, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    exact = hessian_gradient_product(model, [(x, y)], "cross_entropy", method="double_backward")
    near = hessian_gradient_product(model, [(x, y)], "cross_entropy")
    for name in exact:
        a, b = exact[name].reshape(-1), near[name].reshape(-1)
        if a.norm() > 1e-6:
            assert F.cosine_similarity(a, b, dim=0) > 0.999
    squares = fisher_diagonal(model, [(x, y)], "cross_entropy")
    torch.testing.assert_close(squares, looped_fisher(model, x, y), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_no_gradient_no_product_and_nothing_is_written(method):
    model = Point(torch.zeros(3))
    before = [p.clone() for p in model.parameters()]
    data = [(torch.ones(2, 3), torch.zeros(2, 3))]
    found = hessian_gradient_product(model, data, "mse", method=method)
    assert all(torch.equal(value, torch.zeros_like(value)) for value in found.values())
    net, (x, y) = residual(dtype=torch.float32).train(), images(6, dtype=torch.float32)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    hessian_gradient_product(net, [(x, y)], "cross_entropy", method=method)
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(m.training for m in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


# -- Diagonals ------------------------------------------------------------------------------------


def looped_fisher(model, x, y):
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(len(x)):
        model.zero_grad()
        F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        for name, p in model.named_parameters():
            sums[name] += p.grad**2 / len(x)
    model.zero_grad()
    return sums


@pytest.mark.parametrize("room", [1, 1500, 2**25])
def test_fisher_is_the_mean_of_squared_gradients(room, monkeypatch):
    monkeypatch.setattr(curvature, "_ROOM", room)
    model, (x, y) = residual(), images(7)
    found = fisher_diagonal(model, in_batches(x, y, 3, 4), "cross_entropy")
    torch.testing.assert_close(found, looped_fisher(model, x, y))


def test_networks_that_cannot_be_transformed_are_looped_over():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()

        def forward(self, x):
            return self.a(x) if x.sum().item() > 0 else self.b(x)

    torch.manual_seed(0)
    model, (x, y) = Branches(), vectors()
    expected = {}
    for name, layer, mine in (("a", model.a, x.sum(1) > 0), ("b", model.b, x.sum(1) <= 0)):
        part = looped_fisher(layer, x[mine], y[mine])
        expected |= {f"{name}.{key}": v * mine.sum() / len(x) for key, v in part.items()}
    torch.testing.assert_close(fisher_diagonal(model, [(x, y)], "cross_entropy"), expected)


def test_gauss_newton_of_linear_models_is_the_hessian():
    torch.manual_seed(0)
    model, (x, y) = nn.Linear(4, 3).double(), vectors()
    for loss, targets in (("cross_entropy", y), (nn.MSELoss(), torch.randn(11, 3).double())):
        found = ggn_diagonal(model, in_batches(x, targets, 5, 6), loss)
        function = F.cross_entropy if loss == "cross_entropy" else F.mse_loss

        def of_weight(weight, function=function, targets=targets):
            return function(F.linear(x, weight, model.bias), targets)

        hessian = torch.func.jacrev(torch.func.grad(of_weight))(model.weight.detach())
        expected = torch.einsum("ijij->ij", hessian)
        torch.testing.assert_close(found["weight"], expected)


def test_gauss_newton_is_the_fisher_information_over_the_model_s_own_labels():
    # Both equal the expectation over labels drawn from the model of the squared gradient.
    model, (x, _) = tanh_net(), vectors(5)
    found = ggn_diagonal(model, [(x, torch.zeros(5, dtype=torch.int64))], "cross_entropy")
    shares = model(x).softmax(dim=1).detach()
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(5):
        for label in range(3):
            part = looped_fisher(model, x[i : i + 1], torch.tensor([label]))
            for name, value in part.items():
                expected[name] += shares[i, label] * value / 5
    torch.testing.assert_close(found, expected)


def test_the_loop_equals_the_transform(monkeypatch):
    model, (x, y) = tanh_net(), vectors(5)
    fast = [f(model, [(x, y)], "cross_entropy") for f in (fisher_diagonal, ggn_diagonal)]

    def fails(*arguments):
        raise RuntimeError("no transform")

    monkeypatch.setattr(curvature.PerSample, "_vectorised", fails)
    slow = [f(model, [(x, y)], "cross_entropy") for f in (fisher_diagonal, ggn_diagonal)]
    torch.testing.assert_close(fast, slow)


def test_batches_of_names_and_losses_of_model_and_batch():
    model, (x, y) = tanh_net(), vectors(5)

    def loss(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"]) * batch["scale"]

    found = fisher_diagonal(model, [{"x": x, "y": y, "scale": 2.0}], loss)
    expected = looped_fisher(model, x, y)
    torch.testing.assert_close(found, {name: 4 * value for name, value in expected.items()})


def test_masked_parameters_keep_their_names():
    model, (x, y) = residual(), images(4)
    units = model.units()
    plain = fisher_diagonal(model, [(x, y)], "cross_entropy")
    masks = apply_masks(model, units, [1.0] * units.n)
    torch.testing.assert_close(fisher_diagonal(model, [(x, y)], "cross_entropy"), plain)
    assert leaf_parameters(model)["conv1.weight"][0] == "conv1.parametrizations.weight.original"
    masks.remove()


# -- Synaptic flow --------------------------------------------------------------------------------


def test_flow_through_two_linear_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False))
    found = synaptic_flow(model, (torch.randn(7, 4), torch.zeros(7)))
    first, second = (model[i].weight.detach().double().abs() for i in (0, 2))
    torch.testing.assert_close(found["0.weight"], first * second.sum(dim=0)[:, None])
    torch.testing.assert_close(found["2.weight"], second * first.sum(dim=1)[None, :])


def test_flow_into_a_unit_is_flow_out_of_it():
    # Tanaka et al., theorem 1, with batch norms folded into what flows in.
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False), nn.ReLU(inplace=True), nn.Conv2d(5, 4, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    before = [p.clone() for p in model.parameters()]
    found = synaptic_flow(model, images(2, dtype=torch.float32))
    into = found["0.weight"].sum(dim=(1, 2, 3))
    torch.testing.assert_close(into, found["2.weight"].sum(dim=(0, 2, 3)))
    into = found["2.weight"].sum(dim=(1, 2, 3)) + found["2.bias"]
    torch.testing.assert_close(into, found["5.weight"].sum(dim=0))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert model[1].inplace


# -- Refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda m, d: hessian_gradient_product(m, iter(d), "mse"), CalibrationError, "only once"),
        (lambda m, d: hessian_gradient_product(m, d, "mse", method="x"), InputError, "'x'"),
        (
            lambda m, d: hessian_gradient_product(m, d, "mse", relative_step=0.0),
            InputError,
            "relative_step=0.0",
        ),
        (
            lambda m, d: hessian_gradient_product(m, d, "mse", relative_step="a"),
            InputTypeError,
            "relative_step='a'",
        ),
        (
            lambda m, d: hessian_gradient_product(m.bfloat16(), d, "mse"),
            CalibrationError,
            "'weight' is torch.bfloat16",
        ),
        (lambda m, d: hessian_gradient_product(m, [], "mse"), CalibrationError, "no batch"),
        (lambda m, d: fisher_diagonal(m, [], "mse"), CalibrationError, "no batch"),
        (lambda m, d: ggn_diagonal(m, d, nn.L1Loss()), InputError, "cross_entropy.*L1Loss"),
        (
            lambda m, d: ggn_diagonal(m, d, nn.CrossEntropyLoss(label_smoothing=0.1)),
            InputError,
            "another loss",
        ),
        (
            lambda m, d: ggn_diagonal(Cube(), d, "cross_entropy"),
            CalibrationError,
            "a vector of logits",
        ),
        (
            lambda m, d: synaptic_flow(m, (torch.zeros(2, 2, dtype=torch.int64),)),
            CalibrationError,
            "torch.int64",
        ),
        (
            lambda m, d: synaptic_flow(Pair(), d[0]),
            CalibrationError,
            "returns a tuple",
        ),
        (
            lambda m, d: synaptic_flow(Large(), d[0]),
            CalibrationError,
            "flow through the network is inf",
        ),
    ],
)  # fmt: skip
def test_refused(call, error, match):
    data = [(torch.ones(2, 2), torch.zeros(2, 2))]
    with pytest.raises(error, match=match):
        call(nn.Linear(2, 2), data)


class Cube(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def forward(self, x):
        return super().forward(x).unsqueeze(2)


class Pair(Cube):
    def forward(self, x):
        return x, x


class Large(Cube):
    def forward(self, x):
        return (super().forward(x) * 1e308 * 1e308).sum()
