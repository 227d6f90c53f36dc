"""`CupCurriculum`: the curriculum that a training loop calls after every step and every cycle.

May import: `sigmine`, everything of `sigmine_nn` but `cli`, and of this package what lies below:
`weights`, `cohorts`, `updates`, `values`, `checks`, `history`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sigmine._checks import one_of, open_unit, whole_number
from sigmine.exceptions import InputError, InputTypeError

from ...criteria import Criterion
from ...exceptions import ModelError
from ...growth import MaskHistory, ValueSource, reset_optimizer_state
from ...schedules import Cup, Schedule
from .checks import check_history, check_same, check_training, doubts
from .cohorts import Cohorts, Scope
from .history import History
from .updates import Learning, Updates, learning_of
from .values import Rewind, ValueStore
from .weights import (
    Prunable,
    criterion_of,
    element_units,
    prunable_weights,
    scores_of_weights,
    seed_of,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CupCurriculum"]

FORMAT, VERSION = "cup curriculum", 1


class CupCurriculum:
    """Capacity shrinks cycle by cycle and grows back, around a training loop of your own.

    Parameters
    ----------
    model : Module
        The network, at its initialisation, on the device where it is trained; changed in place.
    optimizer : Optimizer
        Of its parameters.
    schedule : Schedule, optional
        How much goes and comes back; by default the published one, ``Cup(cycles=20, every=50,
        start=50)``. A schedule that only removes, such as `Geometric`, makes this iterative
        pruning. Its steps are counted by `train_cup` only; here a cycle ends with `end_of_cycle`.
    criterion : str or Criterion, default="magnitude_increase"
        What a weight is worth; those worth least go. "magnitude_increase" is abs(w) - abs(w0).
    scope : {"tensor", "global"}, default="tensor"
        Whether weights of one tensor or of all are ranked together.
    prunable : {"layers", "weight"}, collection of str or callable, default="layers"
        Which parameters may lose entries; see `prunable_weights`.
    values : {"last", "best", "initial", "random"}, default="initial"
        With which values entries come back; see `ValueSource`.
    updates : {"identical", "dynamic", "freezing"}, default="identical"
        Which weights learn while capacity grows; see `Updates`.
    rewind : {"init", "best", "none", "warmup"}, default="init"
        Where what stays goes back to when entries were removed; see `Rewind`.
    gamma : float, default=0.95
        Of "dynamic", in (0, 1).
    grow_mask_lag : {0, 1}, default=0
        1 repeats a defect of the published program for comparisons: what has just come back does
        not learn before the next cycle, and what comes back last never does. It is without effect
        under "freezing", as there.
    warmup : int, default=0
        Epochs or steps of training before the first cycle; `train_cup` counts them, and in a loop
        of your own the first `end_of_cycle` ends them. 0 is no warm-up.
    seed : int, default=0
        Of random criteria and values.

    Attributes
    ----------
    cycle : int
        Number of the cycle that runs, from 1; 0 during the warm-up.
    n_cycles : int
        Cycles in all, without the warm-up.
    cohorts : Cohorts
        When every entry was removed, and the level that holds.
    history_ : DataFrame
        A row a validation; columns in `sigmine_nn.methods.cup_curriculum.history.COLUMNS`.

    Raises
    ------
    InputError, InputTypeError, ModelError
        If the network, the optimiser or a parameter cannot be used; nothing is changed then.

    Warns
    -----
    DataWarning
        If a small weight loses all its entries.
    SigmineWarning
        If "dynamic" is asked of an optimiser that divides by the size of gradients.

    See Also
    --------
    train_cup : a training loop that is ready.

    Notes
    -----
    After Scharr and Toborek [1]_ and their published program; the text of the paper was not
    available.

    *Guarantees.* Masks are nested, and of a weight with n entries exactly round(n s) are gone at
    sparsity s. After every `after_step` entries that are gone are exactly 0, and entries that are
    frozen are bit for bit what they were, whatever momentum and weight decay do. What is not
    prunable (biases) is never masked and always learns. The moments of entries that go or come
    back are forgotten; a rewinding forgets those of everything. The learning rate is left alone.

    *Storage.* One byte an entry for all masks, and one tensor a weight: it holds the initial value
    of an entry, when the entry goes the value with which it will come back, and while it is
    frozen its value. "best" (values or rewinding) and "warmup" take another copy of the weights,
    for the state that they name. While masks hold, there are a boolean or two for every entry,
    and with "dynamic" a factor.

    References
    ----------
    .. [1] L. Scharr and V. Toborek, "Cup curriculum: curriculum learning on model capacity",
       workshop OPT at NeurIPS (2023), arXiv:2311.03956.

    Examples
    --------
    >>> from sigmine_nn import Cup
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> x, y = torch.randn(64, 4), torch.randn(64, 1)
    >>> seen = []
    >>> with CupCurriculum(model, optimizer, schedule=Cup(cycles=2, rate=0.5)) as cup:
    ...     while not cup.finished:
    ...         for _ in range(5):
    ...             optimizer.zero_grad()
    ...             nn.functional.mse_loss(model(x), y).backward()
    ...             cup.after_backward()  # gradient clipping would come behind it
    ...             optimizer.step()
    ...             cup.after_step()
    ...         seen.append(cup.capacity)
    ...         cup.end_of_cycle()
    >>> seen
    [1.0, 0.5, 0.5, 1.0]
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        schedule: Schedule | None = None,
        criterion: str | Criterion = "magnitude_increase",
        scope: Scope | str = "tensor",
        prunable: Prunable = "layers",
        values: ValueSource | str = "initial",
        updates: Updates | str = "identical",
        rewind: Rewind | str = "init",
        gamma: float = 0.95,
        grow_mask_lag: int = 0,
        warmup: int = 0,
        seed: int = 0,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.schedule = Cup(cycles=20, every=50, start=50) if schedule is None else schedule
        if not isinstance(self.schedule, Schedule):
            raise InputTypeError(
                f"schedule is a {type(schedule).__name__}; give one of sigmine_nn.schedules, such "
                "as Cup(cycles=20)."
            )
        self.scope = Scope(one_of("scope", scope, tuple(Scope)))
        self.values = ValueSource(one_of("values", values, tuple(ValueSource)))
        self.updates = Updates(one_of("updates", updates, tuple(Updates)))
        self.rewind = Rewind(one_of("rewind", rewind, tuple(Rewind)))
        self.gamma = open_unit("gamma", gamma, "0.95")
        if whole_number("grow_mask_lag", grow_mask_lag, 0) > 1:
            raise InputError(
                f"grow_mask_lag={grow_mask_lag!r} is out of range; give 0, or 1 for the defect of "
                "the published program."
            )
        self.grow_mask_lag = int(grow_mask_lag)
        self.warmup = whole_number("warmup", warmup, 0)
        self.seed = whole_number("seed", seed, 0)
        if self.rewind is Rewind.WARMUP and self.warmup == 0:
            raise InputError(
                "rewind='warmup' goes back to the state after a warm-up, and warmup=0 has none; "
                "give warmup=, the epochs or steps before the first cycle."
            )
        self._weights = prunable_weights(model, prunable)
        self._units = element_units(self._weights)
        check_training(self._weights, optimizer, self.schedule)
        for warning in doubts(self._weights, optimizer, self.schedule, self.scope, self.updates):
            warnings.warn(warning, stacklevel=2)
        self.criterion = criterion
        criterion_of(criterion, {})  # known, or refused before anything begins
        self._store = ValueStore(model, self._weights, self.values, self.rewind, self.seed)
        self.cohorts = Cohorts(self._weights)
        self.cycle = 0 if self.warmup else 1
        self.n_steps = 0  # of the optimiser
        self._steps_before = 0  # when the cycle began
        self._between = False  # after_backward was called, after_step not yet
        self._history = History()
        self._learning: dict[str, Learning] = {}

    # -- Where it is -----------------------------------------------------------------------------

    @property
    def n_cycles(self) -> int:
        """Cycles in all, without the warm-up."""
        return self.schedule.n_updates + 1

    @property
    def length(self) -> int:
        """Epochs or steps of the whole training, by the schedule and the warm-up."""
        return self.warmup + self.schedule.end + self.schedule.every

    @property
    def finished(self) -> bool:
        """Whether the last cycle has ended."""
        return self.cycle > self.n_cycles

    @property
    def phase(self) -> str:
        """One of "warmup", "down" and "up"; the way up begins behind the turn."""
        if self.cycle == 0:
            return "warmup"
        turn = self.schedule.n_levels if isinstance(self.schedule, Cup) else self.n_cycles
        return "down" if self.cycle <= turn else "up"

    @property
    def level(self) -> int:
        """How many cycles' worth of entries is gone."""
        return self.cohorts.level

    @property
    def n_pruned(self) -> int:
        """How many times entries were removed so far."""
        return self.cohorts.n_cycles

    @property
    def capacity(self) -> float:
        """Fraction of the prunable entries that is there."""
        return self.cohorts.capacity

    def ends_cycle(self, time: int) -> bool:
        """Return whether the warm-up or a cycle ends after so much training.

        Parameters
        ----------
        time : int
            Epochs or steps since the beginning.

        Returns
        -------
        bool
        """
        if time in (self.warmup, self.length):
            return time > 0
        return time > self.warmup and self.schedule.is_update(time - self.warmup)

    @property
    def history_(self) -> pd.DataFrame:
        """A row a validation."""
        return self._history.frame()

    # -- The doors of a training loop ------------------------------------------------------------

    def __enter__(self) -> CupCurriculum:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave removed and frozen entries as they must be, also when a step was interrupted."""
        self._between = False
        self._impose()

    @torch.no_grad()
    def after_backward(self) -> None:
        """Give every weight the gradient that it is to learn from.

        Once for every step of the optimiser: after the last ``backward`` where gradients are
        accumulated, after ``unscale_`` of a ``GradScaler``, before gradients are clipped.

        Raises
        ------
        InputError
            If it is called twice without `after_step`, or after the end.
        ModelError
            For a sparse gradient.
        """
        self._check_running()
        if self._between:
            raise InputError(
                "after_backward was called twice and after_step not between; call each once for "
                "every optimizer.step(), after the last backward() where gradients accumulate."
            )
        self._between = True
        for name, learning in self._learning.items():
            gradient = self._weights[name].grad
            if gradient is None:
                continue
            if gradient.layout is not torch.strided:
                raise ModelError(
                    f"the gradient of {name!r} is {gradient.layout}; entries are masked one by "
                    "one, so it must be dense (sparse=False for an embedding)."
                )
            gradient.masked_fill_(learning.removed, 0.0)
            if learning.frozen is not None:
                gradient.masked_fill_(learning.frozen, 0.0)
            if learning.rates is not None:
                gradient.mul_(learning.rates)

    def after_step(self) -> None:
        """Put removed entries back to 0, and frozen ones to what they were.

        Raises
        ------
        InputError
            If `after_backward` was not called before.
        """
        if not self._between:
            raise InputError(
                "after_step was called without after_backward before it; call that between "
                "backward() and optimizer.step(), since removed weights would learn otherwise."
            )
        self._between = False
        self.n_steps += 1
        self._impose()

    @torch.no_grad()
    def _impose(self) -> None:
        for name, learning in self._learning.items():
            weight = self._weights[name]
            if learning.frozen is not None:
                weight.copy_(torch.where(learning.frozen, self._store.kept[name], weight))
            weight.masked_fill_(learning.removed, 0.0)

    def after_validation(self, loss: float, train_loss: float | None = None) -> None:
        """Tell how good the network is; as often as you like, for "best" at least once a cycle.

        Parameters
        ----------
        loss : float
            On validation data; low is good. NaN is never the best.
        train_loss : float, optional
            For the history.
        """
        self._check_running()
        self._history.add(self, loss, train_loss)
        if self.phase == "down":
            self._store.observe(loss)

    def end_of_cycle(
        self,
        data: Any = None,
        *,
        loss: str | Callable[..., Tensor] | None = None,
        n_batches: int | None = None,
    ) -> None:
        """Change what is there: remove entries, or bring some back.

        Parameters
        ----------
        data, loss, n_batches
            As in `score_units`, for criteria that look at data.

        Raises
        ------
        InputError
            If nothing was trained in the cycle, the curriculum is over, or no validation was told
            where "best" needs one.
        CalibrationError
            If the criterion needs data.
        """
        self._check_running()
        if self.n_steps == self._steps_before:
            raise InputError(
                f"cycle {self.cycle} ends without a step; train in every cycle, and call "
                "after_backward and after_step around optimizer.step()."
            )
        if self.cycle == 0:
            self._store.end_warmup()
        elif self.cycle < self.n_cycles:
            levels = self.schedule.levels_of(self.cycle - 1)
            for level in levels:
                if level > self.level:
                    self._prune(level, len(levels) > 1, data, loss, n_batches)
                else:
                    self._grow(level)
        self.cycle += 1
        self._steps_before = self.n_steps
        if self.finished:
            self._store.release()
        self._learn()

    # -- What happens at the end of a cycle ------------------------------------------------------

    def _prune(self, level: int, turning: bool, data: Any, loss: Any, n_batches: Any) -> None:
        """Remove entries, keep the values with which they will come back, and rewind the others."""
        self._store.check_best(self.cycle)
        scores = scores_of_weights(
            self.model,
            self._units,
            criterion_of(self.criterion, self._store.kept),
            data=data,
            loss=loss,
            n_batches=n_batches,
            seed=seed_of(self.seed, 0, level),
        )
        gone = self.cohorts.prune(scores, self.schedule.sparsity_of(level), self.scope)
        self._store.store(gone)
        if self._store.go_back(turning=turning):
            for parameter in self.model.parameters():  # moments of weights that are no more
                self.optimizer.state.pop(parameter, None)
        self._forget(gone)
        self._store.best_loss = math.inf
        self._learn()

    @torch.no_grad()
    def _grow(self, level: int) -> None:
        """Bring entries back with the values that were kept for them."""
        if self.level == self.cohorts.n_cycles:
            self._store.draw(self.cohorts.masks())
            self._store.start = self._store.best = None  # of the way down
        back = self.cohorts.grow(level)
        for name, entries in back.items():
            weight = self._weights[name]
            weight.copy_(torch.where(entries, self._store.kept[name], weight))
        self._store.hold(self.cohorts.masks())
        self._forget(back)

    def _forget(self, entries: Mapping[str, Tensor]) -> None:
        for name, chosen in entries.items():
            reset_optimizer_state(self.optimizer, self._weights[name], chosen)

    def _learn(self) -> None:
        """Work out how every weight learns at the level that holds, and put masks on."""
        self._learning = {}
        if self.cohorts.n_cycles == 0 or self.finished:
            return
        for name, history in self.cohorts.histories.items():
            self._learning[name] = learning_of(
                history,
                self.level,
                self.updates,
                growing=self.level < history.n_cycles,
                gamma=self.gamma,
                lag=self.grow_mask_lag,
                dtype=self._weights[name].dtype,
            )
        self._impose()

    def _check_running(self) -> None:
        if self.finished:
            raise InputError(
                f"the curriculum is over after {self.n_cycles} cycles; its loop ends when "
                "`finished` is true."
            )

    # -- State -----------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """The choices that were made, as plain values."""
        name = self.criterion if isinstance(self.criterion, str) else self.criterion.name
        return {
            "schedule": repr(self.schedule),
            "criterion": name,
            "scope": str(self.scope),
            "values": str(self.values),
            "updates": str(self.updates),
            "rewind": str(self.rewind),
            "gamma": self.gamma,
            "grow_mask_lag": self.grow_mask_lag,
            "warmup": self.warmup,
            "seed": self.seed,
            "weights": list(self._weights),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return where the curriculum is, without the model and the optimiser.

        Returns
        -------
        dict
            Tensors, and plain values that JSON can hold; `load_state_dict` takes it back. The
            tensors are those in use: save or copy them before training goes on.

        Raises
        ------
        InputError
            Between `after_backward` and `after_step`.
        """
        if self._between:
            raise InputError(
                "the state was asked for between after_backward and after_step; ask after the step."
            )
        cohorts = self.cohorts
        return {
            "format": FORMAT,
            "version": VERSION,
            "settings": self.settings,
            "cycle": self.cycle,
            "level": cohorts.level,
            "n_pruned": cohorts.n_cycles,
            "n_steps": self.n_steps,
            "steps_before": self._steps_before,
            "history": [dict(row) for row in self._history.rows],
            "removed_in": {name: h.removed_in for name, h in cohorts.histories.items()},
            **self._store.state_dict(),
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse a state that is not of such a curriculum; nothing is changed.

        Parameters
        ----------
        state : mapping
            As of `state_dict`.

        Raises
        ------
        InputError
            If it is of another model or other settings.
        """
        if state.get("format") != FORMAT or state.get("version") != VERSION:
            raise InputError(
                f"the state has format {state.get('format')!r}, version {state.get('version')!r}; "
                f"expected {FORMAT!r}, version {VERSION}: a state_dict() of a CupCurriculum."
            )
        check_same(self.settings, state["settings"])
        for name, weight in self._weights.items():
            check_history(name, weight, state["removed_in"])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where a curriculum was.

        Parameters
        ----------
        state : mapping
            Of `state_dict`. Load the model's and the optimiser's own states first; this one says
            nothing of them, and puts the masks on.

        Raises
        ------
        InputError
            As `check_state`; nothing is changed then.
        """
        self.check_state(state)
        n_pruned, level = int(state["n_pruned"]), int(state["level"])
        histories = {
            name: MaskHistory(
                state["removed_in"][name].detach().to(weight.device, copy=True), n_pruned
            )
            for name, weight in self._weights.items()
        }
        self._store.load_state_dict(state)
        self.cohorts.histories, self.cohorts.level = histories, level
        self.cycle, self.n_steps = int(state["cycle"]), int(state["n_steps"])
        self._steps_before = int(state["steps_before"])
        self._history = History(state["history"])
        self._between = False
        self._learn()
