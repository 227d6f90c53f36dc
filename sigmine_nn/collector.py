"""The statistics that can be collected, and the hooks that collect them while a model runs.

A gate hands its reader a view of its own, so that the gradient of what this reader makes of the
activations arrives at the gate. Values are added up over positions first and sorted by unit
afterwards, so that nothing but the product of activation and gradient is ever as large as an
activation.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.adapters`, `sigmine_nn.moments`,
`sigmine_nn.state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from .adapters import StateLayer, state_layers
from .exceptions import CalibrationError, ModelError
from .moments import Moments
from .state import leaf_parameters
from .units import Gate, UnitGroup, Units

__all__ = ["OF_GRADIENTS", "OF_PARAMETERS", "TAYLOR", "Collector", "Statistic"]


class Statistic(StrEnum):
    """What can be collected."""

    TAYLOR = "taylor"
    """Per sample and unit: sum over the gates and positions of activation times gradient of the
    sample's loss. The loss changes by minus that, to first order, if the unit is removed."""
    SQUARED_TAYLOR = "squared_taylor"
    """Its square."""
    ABSOLUTE_TAYLOR = "absolute_taylor"
    """Its absolute value."""
    GRADIENT_NORM = "gradient_norm"
    """Per sample and unit: Euclidean norm, over the gates and positions, of the gradient of the
    sample's loss by the activation."""
    ACTIVATION = "activation"
    """Per sample and unit: mean activation over the positions."""
    MAGNITUDE = "magnitude"
    """Per sample and unit: mean absolute activation over the positions."""
    ZEROS = "zeros"
    """Per sample and unit: share of the positions at which the activation is zero."""
    RANK = "rank"
    """Per sample and unit: rank of the map of activations; maps of two dimensions only."""
    STATE_ENERGY = "state_energy"
    """Per sample and state of a state space layer: mean over the steps of the squared modulus of
    the state, times the squared norm of its output column."""
    GRADIENT = "gradient"
    """Per parameter: mean gradient of the loss."""
    INPUT_SQUARE = "input_square"
    """Per weight of a linear layer or a convolution: mean square of every input of its layer, over
    samples and positions."""
    FISHER = "fisher"
    """Per parameter: mean over the samples of the squared gradient of the sample's loss, the
    diagonal of the empirical Fisher information."""
    GGN = "ggn"
    """Per parameter: diagonal of the generalised Gauss-Newton matrix of the mean loss; for cross
    entropy and squared error."""
    HESSIAN_GRADIENT = "hessian_gradient"
    """Per parameter: Hessian of the mean loss times its gradient. Two passes more over the data."""
    SYNAPTIC_FLOW = "synaptic_flow"
    """Per parameter: its absolute value times the derivative, by it, of the sum of the outputs of
    the network with absolute weights on an input of ones. The data give the shape alone."""


_OF_TAYLOR: dict[Statistic, Callable[[Tensor], Tensor]] = {
    Statistic.SQUARED_TAYLOR: torch.square,
    Statistic.ABSOLUTE_TAYLOR: torch.abs,
}
TAYLOR = frozenset({Statistic.TAYLOR, *_OF_TAYLOR})
"""The derivative by a gate, and what is made of it sample by sample."""
OF_GRADIENTS = TAYLOR | {Statistic.GRADIENT_NORM}
"""Statistics of units that need the gradient of a loss."""
OF_PARAMETERS = frozenset(
    {
        Statistic.GRADIENT,
        Statistic.INPUT_SQUARE,
        Statistic.FISHER,
        Statistic.GGN,
        Statistic.HESSIAN_GRADIENT,
        Statistic.SYNAPTIC_FLOW,
    }
)
"""Statistics in the shape of a parameter."""

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Reader:
    """A gate made ready: where its units lie, in tensors of the device."""

    def __init__(self, group: UnitGroup, gate: Gate, device: torch.device) -> None:
        self.group, self.gate = group, gate
        self.index: Tensor | None = None
        self.in_order = True
        if gate.index is not None:
            flat = torch.from_numpy(gate.index.reshape(-1))
            self.in_order = bool((flat == torch.arange(len(flat))).all())
            self.index = flat.to(device)

    def axis(self, tensor: Tensor) -> int:
        """Return the axis of the units, counted from the front."""
        return self.gate.axis % tensor.ndim

    def positions(self, tensor: Tensor) -> list[int]:
        """Return the axes of the positions."""
        axis = self.axis(tensor)
        return [i for i in range(1, tensor.ndim) if i != axis]

    def sums(self, tensor: Tensor, size: int) -> Tensor:
        """Return the sum over the positions of every sample and unit, shape (size, n_units)."""
        # Sums of halves in single precision: their own has three digits.
        wide = torch.float32 if tensor.dtype.itemsize < 4 else tensor.dtype
        if self.axis(tensor) == 1 and tensor.ndim > 2:  # one sum over neighbours is the fastest
            total = tensor.flatten(2).sum(dim=2, dtype=wide)  # (rows, entries)
        else:
            over = self.positions(tensor)
            total = tensor.sum(dim=over, dtype=wide) if over else tensor.to(wide)
        if len(total) != size:  # windows of a sample, one behind the other
            total = total.view(size, -1, total.shape[1]).sum(dim=1)
        if self.index is None:
            return total
        if not self.in_order or len(self.index) != total.shape[1]:
            total = total[:, self.index]
        return total.view(size, self.group.n_units, -1).sum(dim=2)

    def count(self, tensor: Tensor, size: int) -> int:
        """Return how many numbers of a sample belong to one unit."""
        whole = tensor.numel() // size // tensor.shape[self.axis(tensor)]
        return whole * (1 if self.index is None else len(self.index) // self.group.n_units)

    def ranks(self, tensor: Tensor, size: int) -> Tensor | None:
        """Return the ranks of maps, shape (size, n_units); None if these are none."""
        if tensor.ndim != 4 or self.axis(tensor) != 1 or len(tensor) != size:
            return None
        maps = tensor if self.index is None else tensor[:, self.index]
        if maps.shape[1] != self.group.n_units:
            return None
        if maps.dtype.itemsize < 4:
            maps = maps.float()
        fine = maps.isfinite().flatten(2).all(dim=2)
        ranks: Tensor = torch.linalg.matrix_rank(maps.nan_to_num(0.0, 0.0, 0.0))
        return ranks.double().where(fine, torch.nan)


Sums = Callable[[_Reader, Tensor, int], Tensor]


def _mean_of(transform: Callable[[Tensor], Tensor]) -> Sums:
    def mean(reader: _Reader, tensor: Tensor, size: int) -> Tensor:
        return reader.sums(transform(tensor), size) / reader.count(tensor, size)

    return mean


# 0 times the activation: what is not finite stays visible.
_OF_ACTIVATIONS: dict[Statistic, Callable[[_Reader, Tensor, int], Tensor | None]] = {
    Statistic.ACTIVATION: _mean_of(lambda a: a),
    Statistic.MAGNITUDE: _mean_of(torch.abs),
    Statistic.ZEROS: _mean_of(lambda a: (a == 0).to(a.dtype) + 0.0 * a),
    Statistic.RANK: _Reader.ranks,
}


class Collector:
    """Hooks that read what passes the gates, and the sums of it.

    Parameters
    ----------
    model : Module
        The network.
    units : Units
        Of this model.
    wanted : set of Statistic
        What to collect; statistics of `OF_PARAMETERS` other than the gradient and the inputs are
        not for hooks, and passed over.
    device : device
        Of the sums.
    keep_samples : bool
        Whether to keep the values of every sample.
    all_gradients : bool, default=False
        Collect the gradient of every parameter, not only of those of units.
    """

    def __init__(
        self,
        model: nn.Module,
        units: Units,
        wanted: set[Statistic],
        device: torch.device,
        keep_samples: bool,
        all_gradients: bool = False,
    ) -> None:
        self.model, self.units, self.wanted, self.device = model, units, wanted, device
        self.keep_samples = keep_samples
        self.of_units = {
            statistic: Moments.empty(units.n, device)
            for statistic in Statistic
            if statistic in wanted - OF_PARAMETERS
        }
        self.samples: dict[Statistic, list[Tensor]] = {s: [] for s in self.of_units}
        named = {piece.parameter for group in units for piece in group.slices}
        self.parameters = {
            name: leaf
            for name, (_, leaf) in leaf_parameters(model).items()
            if (all_gradients or name in named) and leaf.is_floating_point()
        }
        self.gradients: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self.n_inputs: dict[str, int] = {}
        self.n_batches = 0
        self.paused = False
        self._size = 0
        self._products = [s for s in self.of_units if s in OF_GRADIENTS]
        self._values: dict[Statistic, Tensor] = {}
        self._n_read: dict[tuple[str, Statistic], int] = {}
        self._in_turn: list[tuple[UnitGroup, Statistic, Tensor]] = []
        self._passed: set[str] = set()
        self._watched: list[tuple[Gate, Tensor, int]] = []
        self._inputs: list[tuple[str, Tensor, int]] = []
        self._overwritten: set[Gate] = set()

    # -- What passes ----------------------------------------------------------------------

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Listen to the gates and the parameters for as long as it lasts."""
        with ExitStack() as stack:
            if self.of_units:
                for group in self.units:
                    for gate in group.gates:
                        reader = _Reader(group, gate, self.device)
                        stack.callback(self._listen(reader).remove)
            if Statistic.STATE_ENERGY in self.wanted:
                for layer in state_layers(self.model):
                    self._listen_to_states(layer, stack)
            if Statistic.GRADIENT in self.wanted:
                for name, leaf in self.parameters.items():
                    wide = torch.float32 if leaf.dtype.itemsize < 4 else leaf.dtype
                    self.gradients[name] = torch.zeros_like(leaf, dtype=wide, requires_grad=False)
                    handle = leaf.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                        lambda leaf, name=name: self._take_gradient(name, leaf)
                    )
                    stack.callback(handle.remove)
            if Statistic.INPUT_SQUARE in self.wanted:
                for name in self.parameters:
                    self._listen_to_inputs(name, stack)
            yield

    def _listen_to_inputs(self, name: str, stack: ExitStack) -> None:
        module_name, _, attribute = name.rpartition(".")
        module = self.model.get_submodule(module_name)
        if attribute != "weight" or not isinstance(module, _LAYERS):
            return
        n_inputs = module.in_features if isinstance(module, nn.Linear) else module.in_channels
        self.inputs[name] = torch.zeros(n_inputs, dtype=torch.float64, device=self.device)
        self.n_inputs[name] = 0
        handle = module.register_forward_pre_hook(
            lambda module, args, kwargs: self._take_input(name, module, _first(args, kwargs)),
            with_kwargs=True,
        )
        stack.callback(handle.remove)

    def _listen_to_states(self, layer: StateLayer, stack: ExitStack) -> None:
        group = next((group for group in self.units if group.name == layer.name), None)
        if group is None:
            return
        system = layer.read()  # the weights stay what they are for as long as this lasts

        def take(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not self.paused:
                values = layer.states(_first(args, kwargs), system)
                if len(values) != self._size:
                    raise CalibrationError(
                        f"{layer.name!r} was given {len(values)} sequences in a batch of "
                        f"{self._size} samples; it must be given one a sample."
                    )
                self.note(group, Statistic.STATE_ENERGY, values)

        stack.callback(layer.module.register_forward_pre_hook(take, with_kwargs=True).remove)

    def _listen(self, reader: _Reader) -> Any:
        gate = reader.gate
        try:
            module = self.model.get_submodule(gate.module)
        except AttributeError as error:
            raise ModelError(
                f"the model has no module {gate.module!r}; find the units of this model."
            ) from error
        if gate.side == "output":

            def after(_: nn.Module, inputs: Any, output: Any) -> Any:
                if isinstance(output, tuple):
                    return (self._pass(reader, output[0]), *output[1:])
                return self._pass(reader, output)

            return module.register_forward_hook(after)

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            passed = self._pass(reader, _first(args, kwargs))
            if args:
                return (passed, *args[1:]), kwargs
            return args, {**kwargs, next(iter(kwargs)): passed}

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def _pass(self, reader: _Reader, tensor: Tensor) -> Tensor:
        """Read what passes a gate; return what goes on, with a gradient of its own."""
        if self.paused:
            return tensor
        if len(tensor) % self._size:
            raise CalibrationError(
                f"the {reader.gate.side} of {reader.gate.module!r} has shape "
                f"{tuple(tensor.shape)} in a batch of {self._size} samples; its first axis must be "
                "the samples."
            )
        self._passed.add(reader.group.name)
        for statistic in self.of_units:
            if statistic in _OF_ACTIVATIONS:
                values = _OF_ACTIVATIONS[statistic](reader, tensor.detach(), self._size)
                if values is not None:
                    self.note(reader.group, statistic, values)
        if not self._products:
            return tensor
        return self._with_gradient(reader, tensor)

    def _with_gradient(self, reader: _Reader, tensor: Tensor) -> Tensor:
        """Return a view of what passes, whose gradient is read when it comes."""
        in_place = reader.gate in self._overwritten
        if not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_()
            # What is done in place to an output must not be done to a leaf.
            in_place = in_place or reader.gate.side == "output"
        # The gradient of what this reader makes of it, not of all that do. A hook on a view is lost
        # when the view is overwritten.
        passed = tensor.clone() if in_place else tensor.view_as(tensor)
        activation = tensor.detach()
        if reader.gate in self._overwritten:
            activation = activation.clone()
        else:
            self._watched.append((reader.gate, activation, activation._version))
        held = [activation] if any(_base(s) is Statistic.TAYLOR for s in self._products) else []
        del activation

        def take(gradient: Tensor) -> None:
            if held:
                activation = held.pop()
                if activation.dtype.itemsize < 4:
                    activation = activation.float()
                taylor = reader.sums(activation * gradient, self._size)
                self.note(reader.group, Statistic.TAYLOR, taylor)
            if Statistic.GRADIENT_NORM in self.of_units:
                gradient = gradient.float() if gradient.dtype.itemsize < 4 else gradient
                squares = reader.sums(gradient.square(), self._size)
                self.note(reader.group, Statistic.GRADIENT_NORM, squares)

        passed.register_hook(take)  # type: ignore[no-untyped-call]
        return passed

    def note(self, group: UnitGroup, statistic: Statistic, values: Tensor) -> None:
        """Add values of the units of a group, shape (samples, units), to those of the batch."""
        if statistic not in self._values:
            self._values[statistic] = torch.full(
                (self._size, self.units.n), torch.nan, dtype=torch.float64, device=self.device
            )
        place = self.units.range_of(group.name)
        part = self._values[statistic][:, place.start : place.stop]
        key = group.name, statistic
        if key in self._n_read:
            part += values
        else:
            part.copy_(values)
        self._n_read[key] = self._n_read.get(key, 0) + 1
        self._in_turn.append((group, statistic, values))

    def _take_gradient(self, name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        parameter.grad = None
        if gradient is not None:
            self.gradients[name].add_(gradient, alpha=self._size)

    def _take_input(self, name: str, module: nn.Module, tensor: Tensor) -> None:
        if self.paused:
            return
        tensor = tensor.detach()
        axis = (
            tensor.ndim - 1 if isinstance(module, nn.Linear) else tensor.ndim - _dimensions(module)
        )
        tensor = tensor if tensor.dtype.itemsize >= 4 else tensor.float()
        over = [i for i in range(tensor.ndim) if i != axis]
        squares = tensor.square()
        total = squares.sum(dim=over) if over else squares
        self._inputs.append((name, total, tensor.numel() // tensor.shape[axis]))

    # -- Batch by batch --------------------------------------------------------------------

    def begin(self, size: int) -> None:
        """Begin a batch."""
        self._size = size
        self._values, self._n_read, self._passed = {}, {}, set()
        self._watched, self._inputs, self._in_turn = [], [], []

    def overwritten(self) -> bool:
        """Say whether activations were changed in place after they had passed.

        Their gates keep copies from then on; the batch has to be run once more.
        """
        late = {gate for gate, tensor, version in self._watched if tensor._version != version}
        self._watched = []
        self._overwritten |= late
        return bool(late)

    def end(self) -> None:
        """Add up what was read in a batch."""
        self.n_batches += 1
        for name, total, count in self._inputs:
            self.inputs[name] += total
            self.n_inputs[name] += count
        self._fill_zeros()
        taylor = self._values.pop(Statistic.TAYLOR, None)
        if taylor is not None:
            taylor *= self._size  # the loss is a mean over the samples
            if Statistic.TAYLOR in self.wanted:
                self._values[Statistic.TAYLOR] = taylor
            for statistic, function in _OF_TAYLOR.items():
                if statistic in self.wanted:
                    self._values[statistic] = function(taylor)
        norm = self._values.get(Statistic.GRADIENT_NORM)
        if norm is not None:
            norm.sqrt_().mul_(self._size)
        for statistic, moments in self.of_units.items():
            values = self._values.get(statistic)
            if values is None:  # no gate was passed, or none has it
                values = torch.full((self._size, self.units.n), torch.nan, device=self.device)
            if statistic in _OF_ACTIVATIONS or statistic is Statistic.STATE_ENERGY:
                values = values / self._n_times(statistic, values)
            self._refuse_nan(statistic, values)
            moments.add(values)
            if self.keep_samples:
                self.samples[statistic].append(values.float().cpu())

    def _fill_zeros(self) -> None:
        """Note zeros where no gradient came back: the loss does not depend on these units."""
        bases = {_base(statistic) for statistic in self._products}
        for group in self.units:
            for statistic in bases:
                if group.name in self._passed and (group.name, statistic) not in self._n_read:
                    zeros = torch.zeros(self._size, group.n_units, device=self.device)
                    self.note(group, statistic, zeros)

    def _of_groups(self, values: list[int], like: Tensor) -> Tensor:
        """Spread a value of every group over its units."""
        sizes = torch.tensor([group.n_units for group in self.units])
        return torch.tensor(values).repeat_interleave(sizes).to(like)

    def _n_times(self, statistic: Statistic, values: Tensor) -> Tensor:
        """Return how often the units of every group were read: means are over these."""
        times = [self._n_read.get((group.name, statistic), 1) for group in self.units]
        return self._of_groups(times, values)

    def _refuse_nan(self, statistic: Statistic, values: Tensor) -> None:
        """Refuse values that are not finite where there was something to read."""
        key = _base(statistic)
        read = [int((group.name, key) in self._n_read) for group in self.units]
        wrong = (~values.isfinite()).any(dim=0) & (self._of_groups(read, values) > 0)
        if bool(wrong.any()):
            unit = self._first_wrong(key, int(wrong.to(torch.uint8).argmax()))
            raise CalibrationError(
                f"statistic {str(statistic)!r} of unit {self.units.name_of(unit)!r} is not a "
                f"finite number in batch {self.n_batches}; look for NaN or overflow in the data, "
                "the weights or the loss."
            )

    def _first_wrong(self, statistic: Statistic, otherwise: int) -> int:
        """Return the unit at which something that is not finite was read first."""
        for group, noted, values in self._in_turn:
            wrong = (~values.isfinite()).any(dim=0)
            if noted is statistic and bool(wrong.any()):
                start = self.units.range_of(group.name).start
                return start + int(wrong.to(torch.uint8).argmax())
        return otherwise


def _base(statistic: Statistic) -> Statistic:
    """Return the statistic that is read at the gates for another."""
    return Statistic.TAYLOR if statistic in _OF_TAYLOR else statistic


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the first input of a module, however it was handed over."""
    return args[0] if args else next(iter(kwargs.values()))


def _dimensions(module: nn.Module) -> int:
    """Return how many of the last axes of the input of a convolution are channels or positions."""
    return 1 + len(module.kernel_size)  # type: ignore[arg-type]
