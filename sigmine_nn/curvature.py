"""Derivatives beyond one backward pass: per-sample gradients and curvature.

Parameters are named as before anything was parametrized. Nothing is written into the model: it is
run with other tensors in the place of its parameters. Sums run over the batches, so that memory
does not grow with the data, and over the processes of the default group.

May import: `sigmine`, `sigmine_nn.functional`, `sigmine_nn.objective`, `sigmine_nn.moments`,
`sigmine_nn.state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vjp, vmap

from sigmine.exceptions import InputError, InputTypeError

from .exceptions import CalibrationError
from .functional import (
    LossModule,
    Tensors,
    call_with,
    device_of,
    flattened,
    plain_attention,
    prepare,
    real_leaves,
    wide,
)
from .moments import means
from .objective import Objective, batches, length_of, moved, rows
from .state import kept_attributes, leaf_parameters, unchanged

__all__ = [
    "HessianMethod",
    "PerSample",
    "fisher_diagonal",
    "ggn_diagonal",
    "hessian_gradient_product",
    "mean_gradient",
    "repeatable",
]

Loss = str | Callable[..., Tensor] | None

# Numbers in the gradients of the samples that are looked at together.
_ROOM = 2**25


class HessianMethod(StrEnum):
    """How the product of the Hessian and the gradient is found."""

    DIFFERENCE = "difference"
    """Central difference of the gradient along itself; any network, three gradients."""
    DOUBLE_BACKWARD = "double_backward"
    """Derivative of the gradient; exact, and more memory. Attention runs in plain operations."""


class PerSample:
    """Sums over samples of squares of per-sample derivatives.

    Parameters
    ----------
    model : Module
        The network, in evaluation mode.
    objective : Objective
        Its loss.
    ggn : bool, default=False
        The Gauss-Newton matrix in the place of the empirical Fisher information.

    Raises
    ------
    InputError
        For the Gauss-Newton matrix of a loss other than cross entropy and squared error.
    """

    def __init__(self, model: nn.Module, objective: Objective, ggn: bool = False) -> None:
        self.objective = objective
        self.model = model
        self.leaves = real_leaves(model)
        self.sums = {name: torch.zeros_like(wide(leaf)) for name, leaf in self.leaves.items()}
        self._now = {name: now for name, (now, _) in leaf_parameters(model).items()}
        self._root = _loss_root(objective) if ggn else None
        self._losses = LossModule(model, objective.outputs if ggn else objective.value)
        self._vmap_works = True

    def add(self, batch: Any) -> None:
        """Add the samples of a batch."""
        n = length_of(batch)
        step = max(1, _ROOM // max(1, sum(leaf.numel() for leaf in self.leaves.values())))
        for start in range(0, n, step):
            for name, value in self._squares(rows(batch, start, start + step)).items():
                self.sums[name] += value

    def _squares(self, batch: Any) -> Tensors:
        """Return sums of squares over the samples; samples at once where that works."""
        with plain_attention():
            if self._vmap_works and length_of(batch) > 1:
                try:
                    with kept_attributes(self.model):  # of a failed attempt they would be dead
                        return self._vectorised(batch)
                except (RuntimeError, ValueError, TypeError):
                    self._vmap_works = False  # an error of the model itself comes again below
            sums: Tensors = {}
            for i in range(length_of(batch)):
                for name, value in self._of_sample(rows(batch, i, i + 1)).items():
                    sums[name] = sums[name] + value if name in sums else value
            return sums

    def _vectorised(self, batch: Any) -> Tensors:
        flat, rebuild = flattened(batch)

        def squares(parameters: Tensors, *sample: Tensor) -> Tensors:
            single = rebuild([value.unsqueeze(0) if value.ndim else value for value in sample])
            return self._derivatives(parameters, single)

        over = (None, *(0 if value.ndim else None for value in flat))
        # Each sample's squares are reduced over its columns inside, over samples here.
        per_sample = vmap(squares, in_dims=over)(dict(self.leaves), *flat)
        return {name: value.sum(dim=0) for name, value in per_sample.items()}

    def _derivatives(self, parameters: Tensors, batch: Any) -> Tensors:
        """Return the squared derivatives of one sample, by functional transforms."""
        if self._root is None:
            gradients = grad(lambda p: self._call(p, batch))(parameters)
            return {name: wide(value).square() for name, value in gradients.items()}
        found = vjp(lambda p: self._call(p, batch), parameters)
        outputs, pull = found[0], found[1]
        columns = self._root(outputs)  # (n_columns, *outputs.shape)
        pulled = vmap(lambda column: pull(column)[0])(columns)
        return {name: wide(value).square().sum(dim=0) for name, value in pulled.items()}

    def _of_sample(self, batch: Any) -> Tensors:
        """Return the squared derivatives of one sample, by plain backward passes."""
        leaves = {name: leaf.detach().requires_grad_() for name, leaf in self.leaves.items()}
        tensors = list(leaves.values())
        with torch.enable_grad():
            value = self._call(leaves, batch)
        if self._root is None:
            columns = torch.ones((1, *value.shape), dtype=value.dtype, device=value.device)
        else:
            columns = self._root(value.detach())
        sums = {name: torch.zeros_like(wide(leaf)) for name, leaf in leaves.items()}
        for column in columns:
            found = torch.autograd.grad(
                value, tensors, column, retain_graph=True, allow_unused=True
            )
            for name, gradient in zip(leaves, found, strict=True):
                if gradient is not None:
                    sums[name] += wide(gradient).square()
        return sums

    def _call(self, parameters: Mapping[str, Tensor], batch: Any) -> Tensor:
        return call_with(self._losses, self._now, parameters, batch)


def _loss_root(objective: Objective) -> Callable[[Tensor], Tensor]:
    """Return the function from outputs of one sample to the columns of a root of the Hessian.

    The Hessian is that of the loss by the outputs; it is the sum over the columns s of s s^T.
    """
    kind = objective.kind
    if kind == "cross_entropy":
        return _cross_entropy_root
    if kind == "mse":
        return _squared_error_root
    raise InputError(
        "the Gauss-Newton diagonal is there for loss='cross_entropy' and loss='mse', and this is "
        f"another loss ({objective.loss!r}); use the empirical Fisher information."
    )


def _cross_entropy_root(outputs: Tensor) -> Tensor:
    # Hessian of -log softmax: diag(p) - p p^T = sum over c of p_c (e_c - p)(e_c - p)^T.
    if outputs.ndim != 2:
        raise CalibrationError(
            f"a sample has outputs of shape {tuple(outputs.shape[1:])}; the Gauss-Newton diagonal "
            "of cross entropy needs a vector of logits. Use the empirical Fisher information."
        )
    shares = outputs.softmax(dim=1)  # (1, C)
    unit = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
    return (shares.sqrt().mT * (unit - shares)).unsqueeze(1)  # (C, 1, C)


def _squared_error_root(outputs: Tensor) -> Tensor:
    # Mean over d outputs of (y - t)^2: the Hessian is 2 / d times the identity.
    d = outputs.numel()
    unit = torch.eye(d, dtype=outputs.dtype, device=outputs.device)
    root: Tensor = unit * (2.0 / d) ** 0.5
    return root.reshape(d, *outputs.shape)


# -- Over data ------------------------------------------------------------------------------------


def fisher_diagonal(
    model: nn.Module, data: object, loss: Loss = None, *, n_batches: int | None = None
) -> Tensors:
    """Return the diagonal of the empirical Fisher information.

    Parameters
    ----------
    model : Module
        The network, asked in evaluation mode; left exactly as it was found.
    data : iterable of batches
        Gone through once.
    loss : str, callable or None, default=None
        As in `sigmine_nn.objective.Objective`; a mean over the samples of a batch.
    n_batches : int or None, default=None
        Batches at most.

    Returns
    -------
    dict of str to Tensor
        For every parameter the mean over the samples of the squared gradient of the sample's loss.

    Raises
    ------
    CalibrationError
        If there is no batch or the loss cannot be used.

    Notes
    -----
    Gradients of many samples are found at once by ``torch.func`` (some 2^25 numbers at a time), or
    one by one for networks that it cannot transform. Batch statistics do not enter: evaluation
    mode. See J. Martens, New insights and perspectives on the natural gradient method, JMLR 21
    (2020), section 11, on how it differs from the Fisher information.
    """
    return _per_sample(model, data, loss, n_batches, ggn=False)


def ggn_diagonal(
    model: nn.Module, data: object, loss: Loss = None, *, n_batches: int | None = None
) -> Tensors:
    """Return the diagonal of the generalised Gauss-Newton matrix of the mean loss, exactly.

    Parameters
    ----------
    model, data, n_batches
        As in `fisher_diagonal`.
    loss : {"cross_entropy", "mse"} or a module of torch of the same
        Without weights, label smoothing or other options.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    InputError
        For other losses.
    CalibrationError
        If there is no batch, or the outputs are no vectors of logits.

    Notes
    -----
    Sum over the columns s of a root of the loss's Hessian of the squared entries of J^T s, J being
    the Jacobian of the outputs (N. N. Schraudolph, Fast curvature matrix-vector products, Neural
    Computation 14 (2002)): as many backward passes a sample as there are outputs.
    """
    return _per_sample(model, data, loss, n_batches, ggn=True)


def _per_sample(
    model: nn.Module, data: object, loss: Loss, n_batches: int | None, ggn: bool
) -> Tensors:
    objective = Objective(loss)
    device = device_of(model)
    with unchanged(model):
        prepare(model)
        total = PerSample(model, objective, ggn)
        count = 0
        for batch in batches(data, n_batches):
            batch = moved(batch, device)
            total.add(batch)
            count += length_of(batch)
    return _means(total.sums, count, device)


def _means(sums: Tensors, count: int, device: torch.device) -> Tensors:
    found, n = means(sums, count, device)
    if n == 0:
        raise CalibrationError("data holds no batch; give at least one.")
    return found


def mean_gradient(
    model: nn.Module,
    data: object,
    loss: Loss = None,
    *,
    n_batches: int | None = None,
    shift: Mapping[str, Tensor] | None = None,
) -> Tensors:
    """Return the gradient of the mean loss.

    Parameters
    ----------
    model, data, loss, n_batches
        As in `fisher_diagonal`.
    shift : mapping of str to Tensor, optional
        Added to the parameters first (not to those of the model).

    Returns
    -------
    dict of str to Tensor
        Zeros for parameters on which the loss does not depend.

    Raises
    ------
    CalibrationError
        If there is no batch or the loss cannot be used.
    """
    objective = Objective(loss)
    device = device_of(model)
    with unchanged(model):
        prepare(model)
        leaves = real_leaves(model)
        if shift is not None:
            leaves = {n: leaf + shift[n] if n in shift else leaf for n, leaf in leaves.items()}
        gradient = _Gradient(model, objective, leaves)
        sums = {name: torch.zeros_like(wide(leaf)) for name, leaf in leaves.items()}
        count = 0
        for batch in batches(data, n_batches):
            batch = moved(batch, device)
            size = length_of(batch)
            for name, value in gradient(batch).items():
                sums[name].add_(value, alpha=size)
            count += size
    return _means(sums, count, device)


class _Gradient:
    """The gradient of the loss of a batch, at given parameters."""

    def __init__(self, model: nn.Module, objective: Objective, parameters: Tensors) -> None:
        self._losses = LossModule(model, objective)
        self._now = {name: now for name, (now, _) in leaf_parameters(model).items()}
        self.parameters = {n: value.detach().requires_grad_() for n, value in parameters.items()}

    def __call__(self, batch: Any, create_graph: bool = False) -> Tensors:
        with torch.enable_grad():
            value = call_with(self._losses, self._now, self.parameters, batch)
            if not value.requires_grad:
                return {}
            found = torch.autograd.grad(
                value,
                list(self.parameters.values()),
                create_graph=create_graph,
                allow_unused=True,
            )
        named = zip(self.parameters, found, strict=True)
        return {name: value for name, value in named if value is not None}


def hessian_gradient_product(
    model: nn.Module,
    data: object,
    loss: Loss = None,
    *,
    method: HessianMethod | str = HessianMethod.DIFFERENCE,
    relative_step: float = 0.01,
    n_batches: int | None = None,
    gradient: Mapping[str, Tensor] | None = None,
) -> Tensors:
    """Return the Hessian of the mean loss times its gradient.

    Parameters
    ----------
    model, loss, n_batches
        As in `fisher_diagonal`.
    data : iterable of batches
        Gone through two or three times, so no generator.
    method : {"difference", "double_backward"}, default="difference"
        See `HessianMethod`.
    relative_step : float, default=0.01
        Of the difference: the step is this over the norm of the gradient, that is, the parameters
        move by this distance.
    gradient : mapping of str to Tensor, optional
        The gradient of the mean loss by every parameter, if it is known; saves one pass.

    Returns
    -------
    dict of str to Tensor
        Zeros where the gradient is zero.

    Raises
    ------
    CalibrationError
        If data can be gone through only once, hold no batch, or parameters are of half precision.
    InputError
        For an unknown method or a step that is not positive.

    Notes
    -----
    Difference: (g(theta + e g) - g(theta - e g)) / 2 e, with an error of order e^2 from the fourth
    derivative and of rounding over e. Double backward: the derivative of g(theta)^T c by theta at
    c = g, batch by batch (B. A. Pearlmutter, Fast exact multiplication by the Hessian, Neural
    Computation 6 (1994)).
    """
    try:
        method = HessianMethod(method)
    except ValueError:
        known = ", ".join(HessianMethod)
        raise InputError(f"method={method!r} is not known; there are {known}.") from None
    if isinstance(relative_step, bool) or not isinstance(relative_step, int | float):
        raise InputTypeError(f"relative_step={relative_step!r} must be a positive number.")
    if not 0 < relative_step < float("inf"):
        raise InputError(f"relative_step={relative_step} must be a positive number.")
    repeatable(data, "the product of Hessian and gradient")
    leaves = real_leaves(model)
    half = [name for name, leaf in leaves.items() if leaf.dtype.itemsize < 4]
    if half:
        raise CalibrationError(
            f"parameter {half[0]!r} is {leaves[half[0]].dtype}: differences of its gradients would "
            "be rounding errors. Convert the model to float32 first."
        )
    if gradient is None:
        gradient = mean_gradient(model, data, loss, n_batches=n_batches)
    if method is HessianMethod.DOUBLE_BACKWARD:
        return _double_backward(model, data, loss, n_batches, gradient)
    norm = float(torch.stack([value.double().square().sum() for value in gradient.values()]).sum())
    if norm == 0.0:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    step = relative_step / norm**0.5
    total: Tensors = {}
    for sign in (1.0, -1.0):
        shift = {name: value * (sign * step) for name, value in gradient.items()}
        found = mean_gradient(model, data, loss, n_batches=n_batches, shift=shift)
        for name, value in found.items():
            total[name] = value if sign > 0 else total[name].sub_(value).div_(2.0 * step)
    return total


def _double_backward(
    model: nn.Module,
    data: object,
    loss: Loss,
    n_batches: int | None,
    direction: Mapping[str, Tensor],
) -> Tensors:
    objective, device = Objective(loss), device_of(model)
    with unchanged(model), plain_attention():
        prepare(model)
        gradient = _Gradient(model, objective, real_leaves(model))
        tensors = gradient.parameters
        sums = {name: torch.zeros_like(leaf) for name, leaf in tensors.items()}
        count = 0
        for batch in batches(data, n_batches):
            batch = moved(batch, device)
            size = length_of(batch)
            found = gradient(batch, create_graph=True)
            with torch.enable_grad():
                along = sum((value * direction[name]).sum() for name, value in found.items())
            if isinstance(along, Tensor) and along.requires_grad:
                second = torch.autograd.grad(along, list(tensors.values()), allow_unused=True)
                for name, value in zip(tensors, second, strict=True):
                    if value is not None:
                        sums[name].add_(value, alpha=size)
            count += size
    return _means(sums, count, device)


def repeatable(data: object, what: str) -> None:
    """Refuse data that can be gone through only once.

    Parameters
    ----------
    data : object
        The data.
    what : str
        What needs several passes, for the message.

    Raises
    ------
    CalibrationError
        If it is an iterator.
    """
    if isinstance(data, Iterator):
        raise CalibrationError(
            f"data is a {type(data).__name__}, which can be gone through only once; {what} needs "
            "several passes. Give a list of batches or a DataLoader."
        )
