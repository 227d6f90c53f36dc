"""A training loop that is ready: for a curriculum, or for none.

May import: `sigmine`, everything of `sigmine_nn` but `cli`, and of this package all but `evidence`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sigmine._atomic import require_writable
from sigmine._checks import one_of, real_number, whole_number
from sigmine.exceptions import InputError, InputTypeError

from ...exceptions import CalibrationError
from ...objective import Objective, batches, length_of, moved
from .checkpoint import Curriculum, load_training, save_training
from .context import CupCurriculum
from .figures import plot_cup

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["TrainingRun", "train_curriculum"]

Batches = Iterable[Any] | Callable[[int], Iterable[Any]]


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """What a training came to.

    Attributes
    ----------
    history_ : DataFrame
        A row a validation; see `CupCurriculum`.
    best_loss_ : float
        The lowest validation loss; infinite if none was a number.
    best_validation_ : int
        The number of that validation; 0 if there is none.
    best_state_ : dict of str to Tensor or None
        The model's ``state_dict`` then, if it was kept.
    """

    history_: pd.DataFrame = field(repr=False)
    best_loss_: float
    best_validation_: int
    best_state_: dict[str, Tensor] | None = field(repr=False)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the cup: capacity and loss over the steps.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure without it.

        Returns
        -------
        matplotlib Axes
        """
        return plot_cup(self.history_, ax)


def train_curriculum(
    curriculum: Curriculum,
    data: Batches,
    validation: Iterable[Any] | Callable[[nn.Module], float],
    *,
    loss: str | Callable[..., Tensor] | None = None,
    scheduler: Any = None,
    clip: float | None = None,
    unit: str = "epochs",
    validate_every: int | None = None,
    score_data: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 1,
    keep_best: bool = True,
    seed: int = 0,
    progress: bool | None = False,
) -> TrainingRun:
    """Train a model through a curriculum, from its beginning or from a checkpoint to its end.

    Parameters
    ----------
    curriculum : CupCurriculum or FullCapacity
        With the model, the optimiser, and how long everything takes.
    data : iterable of batches, or callable
        Training data, gone through once an epoch: a DataLoader, a list; or a function of the number
        of the epoch, from 0, that returns its batches.
    validation : iterable of batches, or callable
        Validation data, for the mean loss over their samples; or a function of the model that
        returns a number, low for a good network.
    loss : str, callable or None, default=None
        As in `calibrate`: a mean over the samples of a batch.
    scheduler : object, optional
        Of the learning rate. ``ReduceLROnPlateau`` is told every validation loss, and forgets its
        best one whenever entries were removed; any other makes a step an epoch, or with
        ``unit="steps"`` a step.
    clip : float, optional
        Largest norm of the gradient, after the curriculum has changed it.
    unit : {"epochs", "steps"}, default="epochs"
        What the steps of the schedule and the warm-up count: passes through the data, or steps of
        the optimiser.
    validate_every : int, optional
        Units from one validation to the next; there is one at the end of every cycle in any case. 1
        by default for epochs; for steps it must be given.
    score_data : iterable of batches, optional
        For criteria that look at data.
    checkpoint : path-like, optional
        File in which the training is saved; if it is there, training goes on from it.
    save_every : int, default=1
        Validations from one saving to the next.
    keep_best : bool, default=True
        Whether the state with the lowest validation loss is kept, which takes another copy of the
        model.
    seed : int, default=0
        Of everything that draws from torch's generator (dropout, the order of a DataLoader). The
        generator is given back as it was.
    progress : bool or None, default=False
        Whether to show a bar on stderr; None: on a terminal.

    Returns
    -------
    TrainingRun
        The model is in the state of the end, not in the best one: load `best_state_` for that.

    Raises
    ------
    InputError, InputTypeError, CalibrationError
        If something cannot be used. Ctrl-C leaves the last checkpoint, and the masks in place.

    Notes
    -----
    A training that goes on from a checkpoint ends bit for bit like one that was never interrupted,
    on the CPU with the same number of threads, if its data are a list, a function of the epoch, or
    a DataLoader without workers that keep a state of their own.

    Examples
    --------
    >>> from sigmine_nn import Cup
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Linear(10, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> x = torch.randn(40, 10)
    >>> train, held_out = [(x[:20], x[:20, :1])], [(x[20:], x[20:, :1])]
    >>> cup = CupCurriculum(model, optimizer, schedule=Cup(cycles=2, every=3, start=3))
    >>> run = train_curriculum(cup, train, held_out, loss="mse")
    >>> run.history_.groupby("cycle", as_index=False)["capacity"].first()["capacity"].tolist()
    [1.0, 0.8, 0.8, 1.0]
    """
    if isinstance(curriculum, CupCurriculum) and curriculum.schedule.start < 1:
        raise InputError(
            f"the schedule removes entries at step {curriculum.schedule.start}, before any "
            "training; give the length of the first cycle, as in Cup(every=50, start=50)."
        )
    one_of("unit", unit, ("epochs", "steps"))
    if validate_every is None and unit == "steps":
        raise InputError(
            "unit='steps' needs validate_every, the steps from one validation to the next; give "
            "it, for example validate_every=100."
        )
    if clip is not None:
        clip = real_number("clip", clip, 0.0, math.inf, "a positive norm, such as 0.5")
    if isinstance(data, Iterator) or isinstance(validation, Iterator):
        raise InputTypeError(
            "data or validation is a generator, which can be gone through once only; give a list, "
            "a DataLoader, or a function."
        )
    loop = _Loop(
        curriculum,
        _Stream(data),
        validation,
        Objective(loss),
        scheduler,
        clip,
        unit,
        whole_number("validate_every", 1 if validate_every is None else validate_every, 1),
        score_data,
        None if checkpoint is None else require_writable(checkpoint),
        whole_number("save_every", save_every, 1),
        keep_best,
    )
    device = loop.device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), curriculum:
        torch.manual_seed(whole_number("seed", seed, 0))
        return loop.run(progress)


class _Stream:
    """Training data as an endless row of batches that knows where it is."""

    def __init__(self, data: Batches) -> None:
        self.data = data
        self.epoch = self.taken = 0
        self._iterator: Iterator[Any] | None = None
        self._began = self._random()

    def _random(self) -> dict[str, Tensor]:
        """Return the states of the generators that have a say in the order of the data."""
        found = {"torch": torch.get_rng_state()}
        if isinstance(own := getattr(self.data, "generator", None), torch.Generator):
            found["data"] = own.get_state()
        return found

    def _set_random(self, states: dict[str, Tensor]) -> None:
        torch.set_rng_state(states["torch"])
        if "data" in states:
            self.data.generator.set_state(states["data"])  # type: ignore[union-attr]

    def _begin(self) -> Iterator[Any]:
        self._began = self._random()
        return batches(self.data(self.epoch) if callable(self.data) else self.data)

    def next(self) -> Any:
        """Return the next batch; None, once, at the end of an epoch."""
        if self._iterator is None:
            self._iterator = self._begin()
        batch = next(self._iterator, None)
        if batch is not None:
            self.taken += 1
            return batch
        if self.taken == 0:
            raise CalibrationError("data holds no batch; give at least one.")
        self.epoch, self.taken, self._iterator = self.epoch + 1, 0, None
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return where it is, and the generators as they are and as they were when it began."""
        return {
            "epoch": self.epoch,
            "taken": self.taken,
            "began": self._began,
            "random": self._random(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where a stream was: draw the epoch again, and pass over what was taken of it."""
        self.epoch, self.taken, self._iterator = int(state["epoch"]), 0, None
        if state["taken"]:
            self._set_random(state["began"])
            for _ in range(int(state["taken"])):
                self.next()
        self._set_random(state["random"])


@dataclass
class _Loop:
    """One training."""

    curriculum: Curriculum
    stream: _Stream
    validation: Any
    objective: Objective
    scheduler: Any
    clip: float | None
    unit: str
    validate_every: int
    score_data: Any
    checkpoint: Path | None
    save_every: int
    keep_best: bool
    time: int = 0  # epochs or steps so far
    best_loss: float = math.inf
    best_validation: int = 0
    best_state: dict[str, Tensor] | None = None
    n_validations: int = 0

    def __post_init__(self) -> None:
        self.model = self.curriculum.model
        self.device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        self._losses: list[Tensor] = []  # of the training batches since the last validation

    @property
    def plateau(self) -> bool:
        """Whether the scheduler goes by the validation loss."""
        return isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)

    def run(self, progress: bool | None) -> TrainingRun:
        """Train to the end."""
        if self.checkpoint is not None and self.checkpoint.exists():
            self._restore()
        modes = {module: module.training for module in self.model.modules()}
        try:
            with self._bar(progress) as show:
                while not self.curriculum.finished:
                    self._advance()
                    show()
        finally:
            for module, mode in modes.items():
                module.training = mode
        return TrainingRun(
            self.curriculum.history_, self.best_loss, self.best_validation, self.best_state
        )

    def _advance(self) -> None:
        """Train for an epoch or a step, and do what is due then."""
        self.model.train()
        batch = self.stream.next()
        while batch is not None:
            self._step(batch)
            if self.unit == "steps":
                break
            batch = self.stream.next()
        else:  # the end of an epoch
            if self.unit == "steps":
                return
        self.time += 1
        if self.scheduler is not None and not self.plateau:
            self.scheduler.step()
        ends = self.curriculum.ends_cycle(self.time)
        if not ends and self.time % self.validate_every:
            return
        self._validate()
        if ends:
            self._end_cycle()
        due = self.n_validations % self.save_every == 0 or self.curriculum.finished
        if self.checkpoint is not None and due:
            save_training(
                self.checkpoint, self.curriculum, scheduler=self.scheduler, extra=self._state()
            )

    def _step(self, batch: Any) -> None:
        optimizer = self.curriculum.optimizer
        optimizer.zero_grad()
        value = self.objective.value(self.model, moved(batch, self.device))
        value.backward()  # type: ignore[no-untyped-call]
        self.curriculum.after_backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        optimizer.step()
        self.curriculum.after_step()
        self._losses.append(value.detach())

    def _validate(self) -> None:
        """Measure the validation loss, and tell everybody."""
        loss = self._validation_loss()
        train_loss = float(torch.stack(self._losses).double().mean()) if self._losses else None
        self._losses = []
        self.n_validations += 1
        self.curriculum.after_validation(loss, train_loss)
        if self.plateau:
            self.scheduler.step(loss)
        if loss < self.best_loss:
            self.best_loss, self.best_validation = loss, self.n_validations
            if self.keep_best:
                state = self.model.state_dict()
                self.best_state = {n: t.detach().clone() for n, t in state.items()}

    def _validation_loss(self) -> float:
        self.model.eval()
        with torch.no_grad():
            if callable(self.validation):
                return float(self.validation(self.model))
            total, n = 0.0, 0
            for batch in batches(self.validation):
                here = moved(batch, self.device)
                size = length_of(here)
                total += float(self.objective.value(self.model, here)) * size
                n += size
        if n == 0:
            raise CalibrationError("validation holds no batch; give at least one.")
        return total / n

    def _end_cycle(self) -> None:
        before = self.curriculum.n_pruned
        self.curriculum.end_of_cycle(self.score_data, loss=self.objective.loss)
        if self.plateau and self.curriculum.n_pruned > before:
            self.scheduler.best = math.inf  # another network: its losses are not comparable

    def _state(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "time": self.time,
            "best_loss": self.best_loss,
            "best_validation": self.best_validation,
            "best_state": self.best_state,
            "n_validations": self.n_validations,
            "stream": self.stream.state_dict(),
        }

    def _restore(self) -> None:
        """Go on from the checkpoint."""
        assert self.checkpoint is not None
        state = load_training(self.checkpoint, self.curriculum, scheduler=self.scheduler)
        if not isinstance(state, dict) or state.get("unit") != self.unit:
            found = state.get("unit") if isinstance(state, dict) else None
            raise InputError(
                f"{self.checkpoint} is of a training in {found!r}, and this one counts "
                f"{self.unit!r}; continue as it was begun, or give another file."
            )
        self.time, self.n_validations = int(state["time"]), int(state["n_validations"])
        self.best_loss = float(state["best_loss"])
        self.best_validation = int(state["best_validation"])
        best = state["best_state"]
        self.best_state = None if best is None else {n: t.to(self.device) for n, t in best.items()}
        self.stream.load_state_dict(state["stream"])

    @contextmanager
    def _bar(self, progress: bool | None) -> Iterator[Callable[[], None]]:
        """Show how far the training is, with capacity and losses."""
        if progress is False:
            yield lambda: None
            return
        from tqdm import tqdm

        disable = None if progress is None else not progress
        with tqdm(
            total=self.curriculum.length,
            initial=self.time,
            desc="training",
            unit=self.unit[:-1],
            file=sys.stderr,
            disable=disable,
        ) as bar:

            def show() -> None:
                if self.n_validations > shown[0]:  # capacities are counted, which takes a while
                    shown[0] = self.n_validations
                    bar.set_postfix(
                        phase=self.curriculum.phase,
                        capacity=f"{self.curriculum.capacity:.0%}",
                        best=f"{self.best_loss:.4g}",
                        refresh=False,
                    )
                bar.update(self.time - bar.n)

            shown = [0]
            yield show
