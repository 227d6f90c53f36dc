"""Quality against the amount removed: several ways to prune, several trained networks.

One network says little about a way to prune: another training may turn the order round.
`pruning_curve` asks one network at every amount and for every way; `PruningCurves` puts networks
together, with intervals over networks, and differences of ways on the same networks.

May import: everything of `sigmine_nn` but `sigmine_nn.methods` and `sigmine_nn.cli`.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from sigmine._checks import one_of, open_unit, real_number, whole_number
from sigmine.exceptions import InputError, InputTypeError

from .evaluation import evaluate
from .exceptions import CalibrationError
from .masks import apply_masks
from .objective import batches
from .pruner import Pruner
from .scoring import inputs_of, peeked, score_by_criteria
from .selection import select_units

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["PruningCurves", "pruning_curve"]

Way = Pruner | Callable[[nn.Module, float], nn.Module]
_COLUMNS = ("model", "way", "amount", "removed", "loss", "accuracy")
_WHOLE = "whole"


def pruning_curve(
    model: nn.Module,
    data: Any,
    ways: Mapping[str, Way],
    amounts: Sequence[float],
    *,
    calibration: Any = None,
    loss: str | Callable[..., Tensor] | None = None,
    example_inputs: Any = None,
    n_draws: int = 4,
    name: object = 0,
    progress: bool | None = False,
) -> pd.DataFrame:
    """Measure a network at every amount removed, for every way of removing, without retraining.

    Parameters
    ----------
    model : Module
        The network; left as it was.
    data : iterable of batches
        On which it is measured: neither training nor calibration data.
    ways : mapping of str to Pruner or callable
        A `Pruner` whose criterion, units, scope, allocation, minimum and rounding are used; or a
        function from a network and an amount to a smaller network (which must not change the one
        that it is given).
    amounts : sequence of float
        Fractions of the units that are removed, in [0, 1).
    calibration : iterable of batches, optional
        For criteria that look at data.
    loss : str, callable or None, default=None
        As in `calibrate`.
    example_inputs : Tensor, tuple or mapping, optional
        What the network takes; by default the inputs of the first batch of `data`.
    n_draws : int, default=4
        Draws that are averaged for the criterion "random".
    name : object, default=0
        Of the network, such as its seed.
    progress : bool or None, default=False
        Whether to show a bar on stderr; None: on a terminal.

    Returns
    -------
    DataFrame
        A row a way and amount, with columns ``model``, ``way``, ``amount`` (asked for), ``removed``
        (fraction of the units; NaN for functions), ``loss``, ``accuracy`` (NaN where there is
        none). The first row, of way ``"whole"``, is the network as it is.

    Raises
    ------
    InputError, InputTypeError, ModelError, CalibrationError
        If an argument, the network or the data cannot be used.
    """
    import pandas as pd
    from tqdm import tqdm

    amounts = [real_number("amounts", a, 0.0, 1.0, "fractions in [0, 1)") for a in amounts]
    _check_ways(ways)
    whole_number("n_draws", n_draws, 1)
    first, data = peeked(data)
    data = list(batches(data))  # gone through many times
    if example_inputs is None:
        example_inputs = inputs_of(first)
    if calibration is not None:
        calibration = list(batches(calibration))
    rows: list[dict[str, Any]] = []

    def note(way: str, amount: float, removed: float, small: nn.Module) -> None:
        found = evaluate(small, data, loss=loss)
        accuracy = np.nan if found.accuracy is None else found.accuracy
        rows.append(dict(zip(_COLUMNS, (name, way, amount, removed, found.loss, accuracy),
                             strict=True)))  # fmt: skip

    disable = None if progress is None else not progress
    with tqdm(total=len(ways), desc="pruning", unit="way", file=sys.stderr, disable=disable) as bar:
        note(_WHOLE, 0.0, 0.0, model)
        for label, way in ways.items():
            if isinstance(way, Pruner):
                draws = n_draws if way.chosen_criterion().name == "random" else 1
                for draw in range(draws):
                    asked = (calibration, loss, example_inputs)
                    for amount, removed, small in _masked(model, way, amounts, draw, *asked):
                        note(label, amount, removed, small)
            else:
                for amount in amounts:
                    note(label, amount, np.nan, way(model, amount))
            bar.update(1)
    frame = pd.DataFrame(rows)
    keys = ["model", "way", "amount"]
    return frame.groupby(keys, sort=False, dropna=False, as_index=False).mean()[list(_COLUMNS)]


def _check_ways(ways: Mapping[str, Way]) -> None:
    if not isinstance(ways, Mapping) or not ways:
        raise InputTypeError(
            f"ways is {ways!r}; give a mapping of names to a Pruner or a function each, such as "
            "{'L2': Pruner('l2')}."
        )
    if _WHOLE in ways:
        raise InputError(f"a way is called {_WHOLE!r}, which is the network as it is; rename it.")
    wrong = next((k for k, way in ways.items() if not isinstance(way, Pruner | Callable)), None)
    if wrong is not None:
        raise InputTypeError(
            f"way {wrong!r} is a {type(ways[wrong]).__name__}; give a Pruner, or a function from a "
            "network and an amount to a smaller network."
        )


def _masked(
    model: nn.Module,
    way: Pruner,
    amounts: Sequence[float],
    draw: int,
    calibration: Any,
    loss: str | Callable[..., Tensor] | None,
    example_inputs: Any,
) -> Iterable[tuple[float, float, nn.Module]]:
    """Go through the amounts with one scoring: the amount, what is really removed, the network."""
    criterion = way.chosen_criterion()
    if criterion.needs_data and calibration is None:
        raise CalibrationError(
            f"criterion {criterion.name!r} looks at data, and there are none for it; give "
            "calibration=, other data than those that are measured on."
        )
    (table,) = score_by_criteria(
        model,
        calibration if criterion.needs_data else None,
        criteria=[criterion],
        units=way.units,
        loss=loss,
        example_inputs=example_inputs,
        ignore=way.ignore,
        keep_samples=False,
        seed=way.random_state + draw,
    ).values()
    small = copy.deepcopy(model)
    masks = apply_masks(small, table.units, np.ones(table.units.n))
    for amount in amounts:
        selection = select_units(
            table,
            amount,
            scope=way.scope,
            allocation=way.allocation,
            minimum=way.minimum,
            round_to=way.round_to,
        )
        masks.set(selection.keep)
        yield amount, float(np.mean(~selection.keep)), small


@dataclass(frozen=True, eq=False)
class PruningCurves:
    """Curves of several networks, each pruned in the same ways.

    Attributes
    ----------
    frame : DataFrame
        Rows of `pruning_curve`, one below the other; networks differ in ``model``.
    metric : {"accuracy", "loss"}, default="accuracy"
        What is compared.
    """

    frame: pd.DataFrame
    metric: str = "accuracy"

    def __post_init__(self) -> None:
        missing = [name for name in _COLUMNS if name not in self.frame]
        if missing:
            raise InputError(
                f"the frame has no column {missing[0]!r}; give rows of pruning_curve, one below "
                "the other (pandas.concat)."
            )
        one_of("metric", self.metric, ("accuracy", "loss"))
        if self.frame.duplicated(["model", "way", "amount"]).any():
            raise InputError(
                "a network has a way and an amount twice; give every network a name of its own "
                "(pruning_curve(name=...))."
            )

    @property
    def ways(self) -> list[str]:
        """The ways of pruning, in the order of the rows."""
        return [way for way in dict.fromkeys(self.frame["way"]) if way != _WHOLE]

    @property
    def amounts(self) -> list[float]:
        """The amounts, ascending."""
        return sorted({float(a) for a in self.frame.loc[self.frame["way"] != _WHOLE, "amount"]})

    @property
    def n_models(self) -> int:
        """Number of networks."""
        return int(self.frame["model"].nunique())

    def table(self, way: str) -> pd.DataFrame:
        """Return the metric of one way, networks down and amounts across.

        Parameters
        ----------
        way : str
            One of `ways`, or ``"whole"``.

        Returns
        -------
        DataFrame

        Raises
        ------
        InputError
            If there is no such way.
        """
        rows = self.frame[self.frame["way"] == way]
        if rows.empty:
            raise InputError(f"way={way!r} was not tried; there are {', '.join(self.ways)}.")
        return rows.pivot(index="model", columns="amount", values=self.metric)

    def summary(self, confidence_level: float = 0.95) -> pd.DataFrame:
        """Return mean and interval of the metric for every way and amount.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Of the intervals.

        Returns
        -------
        DataFrame
            Columns ``way``, ``amount``, ``mean``, ``sd``, ``ci_low``, ``ci_high``, ``n_models``.
            Intervals are Student's, over networks: they say what another training would have
            given, not other test data. NaN for one network.
        """
        import pandas as pd

        rows = []
        for way in [_WHOLE, *self.ways]:
            for amount, values in self.table(way).items():
                rows.append({"way": way, "amount": amount, **_interval(values, confidence_level)})
        return pd.DataFrame(rows)

    def difference(
        self, way: str, other: str, amount: float, confidence_level: float = 0.95
    ) -> pd.Series:
        """Return how much more of the metric one way has than another, on the same networks.

        Parameters
        ----------
        way, other : str
            Two of `ways`.
        amount : float
            One of `amounts`.
        confidence_level : float, default=0.95
            Of the interval.

        Returns
        -------
        Series
            ``mean``, ``sd``, ``ci_low``, ``ci_high``, ``n_models`` of the differences, and
            ``n_positive``, the networks on which `way` has more.

        Raises
        ------
        InputError
            If the way or the amount was not tried.
        """
        import pandas as pd

        if amount not in self.amounts:
            raise InputError(f"amount={amount!r} was not tried; there are {self.amounts}.")
        values = (self.table(way)[amount] - self.table(other)[amount]).dropna()
        found = _interval(values, confidence_level)
        return pd.Series({**found, "n_positive": int((values > 0).sum())}, name=f"{way} - {other}")

    def largest_amount(self, lost: float = 0.01, confidence_level: float = 0.95) -> pd.DataFrame:
        """Return how much can go until too much of the metric is lost.

        Parameters
        ----------
        lost : float, default=0.01
            What may be lost at most: a fall of the accuracy, or a rise of the loss.
        confidence_level : float, default=0.95
            Of the intervals.

        Returns
        -------
        DataFrame
            A row a way: mean and interval over networks of the largest of `amounts` up to which
            all of them lose at most that; 0 if the first loses more.
        """
        import pandas as pd

        sign = -1.0 if self.metric == "accuracy" else 1.0
        whole = self.table(_WHOLE)[0.0]
        rows = []
        for way in self.ways:
            change = self.table(way).sub(whole, axis=0) * sign
            # A hundredth of a sample more or less is rounding.
            fine = (change <= lost + 1e-9).cummin(axis=1)
            largest = fine.apply(
                lambda row: max((a for a, ok in row.items() if ok), default=0.0), axis=1
            )
            rows.append({"way": way, **_interval(largest, confidence_level)})
        return pd.DataFrame(rows)

    def plot(
        self, ways: Sequence[str] | None = None, *, ax: Axes | None = None,
        confidence_level: float = 0.95,
    ) -> Axes:  # fmt: skip
        """Draw the metric against the amount, with intervals over networks.

        Parameters
        ----------
        ways : sequence of str, optional
            Which to draw; all by default.
        ax : Axes, optional
            Where to draw; a new figure by default.
        confidence_level : float, default=0.95
            Of the intervals.

        Returns
        -------
        Axes
            Bands of accuracies end at 0 and 1.
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
        summary = self.summary(confidence_level)
        whole = summary.loc[summary["way"] == _WHOLE, "mean"].iloc[0]
        ax.axhline(whole, color="0.6", linewidth=1, linestyle=":")
        for way in self.ways if ways is None else ways:
            rows = summary[summary["way"] == way]
            if rows.empty:
                self.table(way)  # says which there are
            (drawn,) = ax.plot(rows["amount"], rows["mean"], marker="o", markersize=4, label=way)
            low, high = rows["ci_low"], rows["ci_high"]
            if self.metric == "accuracy":  # Student's intervals know of no limits
                low, high = low.clip(0.0, 1.0), high.clip(0.0, 1.0)
            color = drawn.get_color()
            ax.fill_between(rows["amount"], low, high, alpha=0.15, linewidth=0, color=color)
        ax.set(xlabel="fraction of the units removed", ylabel=self.metric)
        ax.legend(frameon=False)
        return ax


def _interval(values: pd.Series, confidence_level: float) -> dict[str, float]:
    """Return mean, standard deviation and Student's interval of some numbers."""
    from scipy import stats

    level = open_unit("confidence_level", confidence_level, "0.95")
    n = len(values)
    mean = float(values.mean())
    sd = float(values.std(ddof=1)) if n > 1 else np.nan
    half = float(stats.t.ppf(0.5 + level / 2.0, n - 1)) * sd / np.sqrt(n) if n > 1 else np.nan
    return {"mean": mean, "sd": sd, "ci_low": mean - half, "ci_high": mean + half, "n_models": n}
