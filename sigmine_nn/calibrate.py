"""One pass over calibration data, which collects what the chosen criteria ask for, and no more.

Statistics of units are values per sample and unit, read at the gates of the units; of these, only
count, mean and variance are kept (and the values themselves if they are asked for). Statistics of
parameters are means in the shape of the parameter. The model is left as it was found, and under an
initialised process group of ``torch.distributed`` every process gets the statistics of all data.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.collector`, `sigmine_nn.curvature`,
`sigmine_nn.functional`, `sigmine_nn.moments`, `sigmine_nn.objective`,
`sigmine_nn.parameter_gates`, `sigmine_nn.state`, `sigmine_nn.synaptic_flow`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sigmine.exceptions import InputError

from .collector import OF_GRADIENTS, OF_PARAMETERS, TAYLOR, Collector, Statistic
from .curvature import PerSample, hessian_gradient_product, repeatable
from .exceptions import CalibrationError
from .functional import prepare
from .moments import Moments, gathered, means, together
from .objective import Objective, batches, length_of, moved
from .parameter_gates import ParameterGates, gated_groups
from .state import unchanged
from .synaptic_flow import synaptic_flow
from .units import Kind, UnitGroup, Units

__all__ = ["Calibration", "Statistic", "calibrate"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a pass has collected.

    Attributes
    ----------
    units : Units
        Of whose gates.
    n_samples : int
        Samples, of all processes.
    n_batches : int
        Batches of this process.
    loss : float or None
        Mean loss over the samples; None if no loss was needed.
    of_units : dict of Statistic to Moments
        Vectors over all units; NaN for units whose gates have no such statistic.
    samples : dict of Statistic to Tensor of float32, shape (n_samples, n_units)
        Those that were kept, on the CPU; of all processes, in the order of their ranks.
    of_parameters : dict of Statistic to dict of str to Tensor
        Means, in the shape of the parameter (for `INPUT_SQUARE`: a value for every input, NaN for
        layers that were never reached).
    """

    units: Units
    n_samples: int
    n_batches: int
    loss: float | None
    of_units: dict[Statistic, Moments] = field(repr=False)
    samples: dict[Statistic, Tensor] = field(repr=False)
    of_parameters: dict[Statistic, dict[str, Tensor]] = field(repr=False)


def calibrate(
    model: nn.Module,
    data: object,
    units: Units,
    statistics: Collection[Statistic | str],
    *,
    loss: str | Callable[..., Tensor] | None = None,
    n_batches: int | None = None,
    keep_samples: bool = False,
    progress: bool | None = False,
) -> Calibration:
    """Collect statistics of a model on calibration data, in one pass.

    Parameters
    ----------
    model : Module
        The network, asked in evaluation mode; left exactly as it was found.
    data : iterable of batches
        A DataLoader, a list, a generator (not for `Statistic.HESSIAN_GRADIENT`, which takes two
        passes more); a batch is ``(inputs, targets)``, a mapping of keyword
        arguments, or whatever the loss takes.
    units : Units
        Of this model.
    statistics : collection of Statistic
        What to collect.
    loss : str, callable or None, default=None
        "cross_entropy", "mse", a function of ``(outputs, targets)`` or of ``(model, batch)``, or
        None where the model returns ``.loss`` or no gradient is asked for. A mean over the samples
        of the batch.
    n_batches : int or None, default=None
        Batches at most.
    keep_samples : bool, default=False
        Keep the values of every sample: 4 bytes a sample, unit and statistic.
    progress : bool or None, default=False
        Whether to show a bar on stderr; None: on a terminal.

    Returns
    -------
    Calibration

    Raises
    ------
    CalibrationError
        If there is no batch, the loss is not one finite number, or a value is not a number.
    InputError, InputTypeError
        If data, loss or statistics cannot be used.
    ModelError
        If the units are not of this model.

    Notes
    -----
    Memory: the activations of the gates are held until their gradient comes, as for any backward
    pass; beyond that, two vectors over the units for each of their statistics, and a tensor for
    each parameter for those of parameters. It does not grow with the data.

    Activations that are changed in place after a gate has read them are noticed; the batch is run
    again and these gates keep copies from then on.

    Sums of half-precision activations and gradients are made in float32, all others in their own
    precision; everything is added up over batches in float64 (of parameters: float32 or more).
    """
    units.check(model)
    wanted = _checked(statistics)
    if Statistic.HESSIAN_GRADIENT in wanted:
        repeatable(data, "statistic 'hessian_gradient'")
    if unseen := {s for s in wanted - OF_PARAMETERS if not any(_has(g, s) for g in units)}:
        raise CalibrationError(
            f"statistic {str(min(unseen))!r} is read from activations, and units "
            f"of kind {str(units[0].kind)!r} have none; use a criterion of weights, or of their "
            "gradients."
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with unchanged(model):
        prepare(model, bool(wanted & _NEED_PARAMETER_GRADIENTS))
        run = _Pass(model, units, wanted, Objective(loss), device, keep_samples)
        with run.collector.hooks(), _bar(data, n_batches, progress) as step:
            for batch in batches(data, n_batches):
                run.add(moved(batch, device))
                step()
    calibration = run.result()
    if Statistic.HESSIAN_GRADIENT in wanted:
        of_parameters = calibration.of_parameters
        of_parameters[Statistic.HESSIAN_GRADIENT] = hessian_gradient_product(
            model,
            data,
            loss,
            n_batches=n_batches,
            gradient=of_parameters[Statistic.GRADIENT],
        )
    return calibration


_NEED_PARAMETER_GRADIENTS = {Statistic.GRADIENT, Statistic.HESSIAN_GRADIENT}
_OF_STATES = {*TAYLOR, Statistic.STATE_ENERGY}
_NEED_LOSS = OF_GRADIENTS | _NEED_PARAMETER_GRADIENTS


class _Pass:
    """One pass: the hooks, what needs no hooks, and the losses."""

    def __init__(
        self,
        model: nn.Module,
        units: Units,
        wanted: set[Statistic],
        objective: Objective,
        device: torch.device,
        keep_samples: bool,
    ) -> None:
        self.model, self.units, self.wanted, self.objective = model, units, wanted, objective
        self.device = device
        hessian = Statistic.HESSIAN_GRADIENT in wanted
        listened = wanted | {Statistic.GRADIENT} if hessian else wanted
        # The Hessian is multiplied with the whole gradient, not with that of the units only.
        self.collector = Collector(
            model, units, listened, device, keep_samples, all_gradients=hessian
        )
        self.per_sample = {
            statistic: PerSample(model, objective, ggn=statistic is Statistic.GGN)
            for statistic in (Statistic.FISHER, Statistic.GGN)
            if statistic in wanted
        }
        self.flow: dict[str, Tensor] | None = None
        self.needs_loss = bool(wanted & _NEED_LOSS)
        gated = gated_groups(units) if wanted & TAYLOR else []
        self.gates = ParameterGates(model, gated, objective) if gated else None
        # A backward pass has something to tell only where somebody listens.
        listens = any(group.gates for group in units) and bool(wanted & OF_GRADIENTS)
        self.needs_backward = listens or bool(wanted & _NEED_PARAMETER_GRADIENTS)
        self.losses = torch.zeros((), dtype=torch.float64, device=device)
        self.count = 0

    def add(self, batch: Any) -> None:
        """Run the model on a batch, in all the ways that are asked for."""
        size = length_of(batch)
        collector = self.collector
        if self.needs_loss:
            with torch.set_grad_enabled(self.needs_backward):
                value = self._loss(batch, size)
            if self.needs_backward:
                value.backward()  # type: ignore[no-untyped-call]
            self.losses += value.detach().double() * size
        else:
            collector.begin(size)
            with torch.no_grad():
                self.objective.outputs(self.model, batch)
        collector.paused = True
        if self.gates is not None:
            self._note_derivatives(self.gates, batch, size)
        collector.end()
        for squares in self.per_sample.values():
            squares.add(batch)
        if Statistic.SYNAPTIC_FLOW in self.wanted and self.flow is None:
            self.flow = synaptic_flow(self.model, batch)
        collector.paused = False
        self.count += size

    def _note_derivatives(self, gates: ParameterGates, batch: Any, size: int) -> None:
        """Note the derivatives by gates in weights as the collector notes those of activations."""
        # The collector takes the loss for the mean over the batch, and multiplies by its size.
        start, values = 0, gates.derivatives(batch) / size
        for group in gates.groups:
            part = values[:, start : start + group.n_units]
            self.collector.note(group, Statistic.TAYLOR, part)
            start += group.n_units

    def _loss(self, batch: Any, size: int) -> Tensor:
        for _ in range(2):
            self.collector.begin(size)
            value = self.objective(self.model, batch)
            if not self.collector.overwritten():
                break
        if self.needs_backward and not value.requires_grad:
            raise CalibrationError(
                "the loss does not depend on any unit: nothing to differentiate. Check that the "
                "loss is computed from the outputs, without detach or no_grad."
            )
        return value

    def result(self) -> Calibration:
        """Return the sums as means, over the processes of the default group too."""
        collector, device = self.collector, self.device
        losses, n_samples = means({"loss": self.losses}, self.count, device)
        if n_samples == 0:
            raise CalibrationError("data holds no batch; give at least one.")
        samples = {}
        for statistic, moments in collector.of_units.items():
            if together():
                moments.all_reduce()
            if collector.keep_samples:
                none = torch.zeros(0, self.units.n)
                samples[statistic] = gathered(
                    torch.cat([none, *collector.samples[statistic]]), device
                )
        return Calibration(
            units=self.units,
            n_samples=n_samples,
            n_batches=collector.n_batches,
            loss=float(losses["loss"]) if self.needs_loss else None,
            of_units=collector.of_units,
            samples=samples,
            of_parameters=self._of_parameters(),
        )

    def _of_parameters(self) -> dict[Statistic, dict[str, Tensor]]:
        found: dict[Statistic, dict[str, Tensor]] = {}
        if Statistic.GRADIENT in self.collector.wanted:
            found[Statistic.GRADIENT], _ = means(self.collector.gradients, self.count, self.device)
        if Statistic.INPUT_SQUARE in self.wanted:
            found[Statistic.INPUT_SQUARE] = {
                name: means({"": sums}, self.collector.n_inputs[name], self.device)[0][""]
                for name, sums in sorted(self.collector.inputs.items())
            }
        for statistic, squares in self.per_sample.items():
            found[statistic], _ = means(squares.sums, self.count, self.device)
        if Statistic.SYNAPTIC_FLOW in self.wanted and self.flow is not None:
            found[Statistic.SYNAPTIC_FLOW] = self.flow
        return found


def _has(group: UnitGroup, statistic: Statistic) -> bool:
    """Whether units have a statistic: at gates, or in weights that read states."""
    return bool(group.gates) or (group.kind is Kind.STATE and statistic in _OF_STATES)


def _checked(statistics: Collection[Statistic | str]) -> set[Statistic]:
    try:
        return {Statistic(statistic) for statistic in statistics}
    except ValueError as error:
        raise InputError(f"{error}; statistics are {', '.join(map(str, Statistic))}.") from None


@contextmanager
def _bar(
    data: object, n_batches: int | None, progress: bool | None
) -> Iterator[Callable[[], None]]:
    """Show how many batches are done."""
    if progress is False:
        yield lambda: None
        return
    from tqdm import tqdm

    try:
        total = len(data)  # type: ignore[arg-type]
    except TypeError:
        total = None
    if n_batches is not None:
        total = n_batches if total is None else min(total, n_batches)
    disable = None if progress is None else not progress
    with tqdm(
        total=total, desc="calibrating", unit="batch", file=sys.stderr, disable=disable
    ) as bar:
        yield lambda: bar.update(1)
