"""`Pruner`, the front door: score, say how sure, select, and give back a smaller network.

May import: everything of `sigmine_nn` but `cli`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from sigmine.exceptions import InputError, StatisticalWarning
from sigmine.ranking import order

from .adapters import OneStep, read_systems
from .agreement import Agreement, agreement
from .costs import Costs, measure_latency
from .criteria import Criterion, get_criterion
from .discovery import find_units
from .evaluation import evaluate
from .exceptions import CalibrationError
from .joint_removal import NestedRemovalTest, test_nested_removal
from .masks import apply_masks
from .removal import RemovalTest, test_removal
from .results import PruningResults
from .risks import split_data
from .scores import ScoreTable
from .scoring import inputs_of, peeked, score_by_criteria
from .selection import UnitSelection, select_units
from .significance import RankUncertainty, rank_uncertainty, scopes_of
from .surgery import remove_units
from .units import Kind, Units

if TYPE_CHECKING:
    import pandas as pd

    from .curves import PruningCurves

__all__ = ["Pruner", "completed"]

# Pipelines of scikit-learn pass rows on, not networks: there is nothing to route.
_ROUTES = ("set_fit_request", "set_transform_request")
N_SETS = 20  # nested sets that are tested, from none to the amount


class Pruner(BaseEstimator):  # type: ignore[misc]
    """Rank the units of a network, say how sure the ranking is, and remove the lowest.

    Parameters
    ----------
    criterion : str or Criterion, default="taylor"
        What a unit is worth: a name of `sigmine_nn.criteria.CRITERIA`, or one of your own.
    units : str or Units, default="channel"
        What a unit is: "channel", "head", "mlp_channel", "state", "row", "element"; or the units.
    amount : float, default=0.5
        Fraction of the units that is removed, in [0, 1). With ``test="nested"`` the largest that
        is tried.
    scope : {"global", "layer"} or mapping, default="global"
        Where units are ranked together.
    allocation : str, mapping or None, default=None
        Where the budget goes: see `select_units`.
    params, flops : float, optional
        Fraction of the parameters or multiply-adds that is to go, instead of `amount`.
    level : float, optional
        Instead of a budget: remove units only where a test shows, at this level, that the loss or
        the accuracy suffers less than `margin`.
    margin : float, optional
        The increase of the metric that would be tolerable; needed with `level`.
    metric : {"loss", "accuracy"}, default="loss"
        What the margin is in: mean loss, or the share of right answers (a fall of which is an
        increase of errors).
    test : {"units", "nested", "both"}, default="units"
        Test each unit by itself, corrected over the units by `correction`; or nested sets in the
        order of the ranking, which needs no correction and holds for all that goes together; or
        both, each with half of the test data: nested sets of the units that were cleared.
    correction : {"holm", "benjamini-hochberg", "westfall-young"}, default="holm"
        Of the tests of units.
    ignore : sequence of str, default=()
        Layers whose units are not to be touched.
    minimum : int, default=1
        Units that stay in every group.
    round_to : int, default=1
        Units kept in a group are a multiple of it, for the hardware.
    n_batches : int, optional
        Batches of calibration data at most.
    n_resamples : int, default=1000
        Of the calibration samples, for intervals; 0 for none.
    confidence_level : float, default=0.95
        Of the intervals.
    compare : sequence of str, default=()
        Other criteria, for a table of agreement.
    time_limit : float, default=60.0
        Seconds for tracing the dependencies of the network.
    random_state : int, default=0
        Seed of what is drawn.
    progress : bool or None, default=False
        Whether to show bars on stderr; None: on a terminal.

    Attributes
    ----------
    units_ : Units
        What was ranked.
    scores_ : ScoreTable
        The scores, with their per-sample values.
    uncertainty_ : RankUncertainty or None
        Intervals, ranks and undecided units (ranks alone for criteria without a sampling
        distribution); None if nothing goes, or without resamples.
    selection_ : UnitSelection
        The units that stay, and why.
    removal_ : RemovalTest, NestedRemovalTest or None
        The tests, with `level`.
    agreement_ : Agreement or None
        With the criteria in `compare`.
    ranking_ : DataFrame
        A row a unit, best first; see `PruningResults.ranking`.
    costs_ : Costs
        Parameters and multiply-adds, for any choice of units.
    plan_ : RemovalPlan
        After ``transform(physical=True)``: what was cut; for `save_pruned`.

    See Also
    --------
    score_units, select_units, apply_masks, remove_units : the parts that this is made of.

    Examples
    --------
    >>> import torch
    >>> from sigmine_nn import Pruner
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> data = [(torch.randn(32, 4), torch.randint(0, 3, (32,))) for _ in range(4)]
    >>> pruner = Pruner(amount=0.5).fit(model, data, loss="cross_entropy")
    >>> small = pruner.transform(model, physical=True)
    >>> small[0].out_features
    8
    """

    def __init__(
        self,
        criterion: str | Criterion = "taylor",
        *,
        units: str | Units = "channel",
        amount: float = 0.5,
        scope: str | Mapping[str, Sequence[str]] = "global",
        allocation: str | Mapping[str, float] | None = None,
        params: float | None = None,
        flops: float | None = None,
        level: float | None = None,
        margin: float | None = None,
        metric: str = "loss",
        test: str = "units",
        correction: str = "holm",
        ignore: Sequence[str] = (),
        minimum: int = 1,
        round_to: int = 1,
        n_batches: int | None = None,
        n_resamples: int = 1000,
        confidence_level: float = 0.95,
        compare: Sequence[str] = (),
        time_limit: float = 60.0,
        random_state: int = 0,
        progress: bool | None = False,
    ) -> None:
        self.criterion = criterion
        self.units = units
        self.amount = amount
        self.scope = scope
        self.allocation = allocation
        self.params = params
        self.flops = flops
        self.level = level
        self.margin = margin
        self.metric = metric
        self.test = test
        self.correction = correction
        self.ignore = ignore
        self.minimum = minimum
        self.round_to = round_to
        self.n_batches = n_batches
        self.n_resamples = n_resamples
        self.confidence_level = confidence_level
        self.compare = compare
        self.time_limit = time_limit
        self.random_state = random_state
        self.progress = progress

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for method in _ROUTES:
            if method in vars(cls):
                delattr(cls, method)

    def fit(
        self,
        model: nn.Module,
        data: Any = None,
        *,
        loss: str | Callable[..., Tensor] | None = None,
        test_data: Any = None,
        example_inputs: Any = None,
    ) -> Pruner:
        """Rank the units of a network and choose those that go; the network is never changed.

        Parameters
        ----------
        model : Module
            The network.
        data : iterable of batches, optional
            Calibration data: pairs of (inputs, targets), or mappings. Not needed by criteria of
            weights alone.
        loss : str, callable or None, default=None
            "cross_entropy", "mse", a function of (outputs, targets) or of (model, batch); None
            where the network returns ``.loss``.
        test_data : iterable of batches, optional
            For the tests with `level`; other data than `data`, which have chosen the order.
        example_inputs : Tensor, tuple or mapping, optional
            What the network takes; by default the inputs of the first batch.

        Returns
        -------
        Pruner
            Itself.

        Raises
        ------
        InputError, InputTypeError, ModelError, TracingError, CalibrationError
            If a parameter, the network, the data or the loss cannot be used; the network is as it
            was.
        """
        self.__dict__.pop("selection_", None)  # a fit that fails leaves no half of an earlier one
        criterion = self.chosen_criterion()
        self._check(test_data)
        if example_inputs is None and data is not None:
            batch, data = peeked(data)
            example_inputs = inputs_of(batch)
        units = self.units
        if isinstance(units, str):
            units = find_units(
                model, units, example_inputs, ignore=self.ignore, time_limit=self.time_limit
            )
        names = [name for name in self.compare if name != criterion.name]
        tables = score_by_criteria(
            model,
            data,
            criteria=[criterion, *names],
            units=units,
            loss=loss,
            example_inputs=example_inputs,
            n_batches=self.n_batches,
            keep_samples=self.n_resamples > 0,
            seed=self.random_state,
            progress=self.progress,
        )
        self.units_: Units = units
        self.scores_: ScoreTable = tables[criterion.name]
        self.costs_ = Costs.of(model, units, example_inputs)
        self._model_name = type(model).__name__
        self._example_inputs = example_inputs
        self._criterion, self._loss = criterion, loss
        self.removal_: RemovalTest | NestedRemovalTest | None = None
        self.selection_: UnitSelection = self._select(model, test_data)
        self.uncertainty_ = self._uncertainty()
        self.agreement_: Agreement | None = None
        if names:
            gone = float((~self.selection_.keep).mean())
            self.agreement_ = agreement(tables, gone if 0.0 < gone < 1.0 else 0.5)
        return self

    def chosen_criterion(self) -> Criterion:
        """Return the criterion with its options, as `fit` will use it.

        Returns
        -------
        Criterion

        Raises
        ------
        InputError
            If it is not known.
        """
        return get_criterion(self.criterion)

    def _check(self, test_data: Any) -> None:
        if self.level is None:
            if self.margin is not None or test_data is not None:
                given = "margin" if self.margin is not None else "test_data"
                raise InputError(
                    f"{given} is given and level is not; give both level= and margin= for a test "
                    "of removal, or a budget alone."
                )
            return
        if self.margin is None:
            raise InputError(
                f"level={self.level!r} asks for a test of removal, which needs a margin: how much "
                f"worse the {self.metric} may become. Give margin=."
            )
        if self.params is not None or self.flops is not None:
            raise InputError(
                "level and a budget (params=, flops=) exclude each other: a test decides how much "
                "goes. Leave one out."
            )
        if self.test not in ("units", "nested", "both"):
            raise InputError(f"test={self.test!r} is not known; use 'units', 'nested' or 'both'.")
        if test_data is None:
            raise CalibrationError(
                "level= needs test_data: other data than those that chose the order. "
                "sigmine_nn.split_data cuts batches in two."
            )

    def _select(self, model: nn.Module, test_data: Any) -> UnitSelection:
        if self.level is None:
            return self._selected_by_budget()
        if self.test == "nested":
            return self._selected_by_nested_sets(model, test_data)
        if self.test == "both":
            first, second = split_data(test_data, seed=self.random_state)
            return self._selected_by_both(model, first, second)
        return self._selected_by_units(model, test_data)

    def _budget(self, **amount: Any) -> UnitSelection:
        return select_units(
            self.scores_,
            **amount,
            scope=self.scope,
            allocation=self.allocation,
            costs=self.costs_,
            minimum=self.minimum,
            round_to=self.round_to,
        )

    def _selected_by_budget(self) -> UnitSelection:
        if self.params is not None or self.flops is not None:
            return self._budget(params=self.params, flops=self.flops)
        return self._budget(amount=self.amount)

    def _selected_by_units(self, model: nn.Module, test_data: Any) -> UnitSelection:
        """Remove the units that a test of each has cleared, as far as their groups allow."""
        self.removal_ = self._unit_tests(model, test_data)
        removable = self.removal_.removable
        if removable.sum() > 1:
            warnings.warn(
                f"each of {int(removable.sum())} units may be removed within the margin; that all "
                "of them may go together does not follow. Use test='nested', or test the set with "
                "sigmine_nn.test_joint_removal.",
                StatisticalWarning,
                stacklevel=3,
            )
        return self._keeping(completed(self.scores_, ~removable, self.minimum))

    def _unit_tests(self, model: nn.Module, test_data: Any) -> RemovalTest:
        return test_removal(
            model, test_data, self.units_, correction=self.correction, **self._test_settings()
        )

    def _keeping(self, keep: NDArray[np.bool_]) -> UnitSelection:
        """Return the selection that removes all but some units."""
        gone = float((~keep).sum()) / self.units_.n
        return select_units(self.scores_, gone, keep=keep, costs=self.costs_)

    def _selected_by_both(self, model: nn.Module, first: Any, second: Any) -> UnitSelection:
        """Test units on some data, and nested sets of those that were cleared on others."""
        cleared = self._unit_tests(model, first).removable
        worst = np.asarray(order(self.scores_.score.detach().cpu(), largest=False))
        worst = worst[cleared[worst]]
        candidates: list[UnitSelection] = []
        for number in range(1, N_SETS + 1):
            keep = np.ones(self.units_.n, dtype=bool)
            keep[worst[: number * len(worst) // N_SETS]] = False
            candidates.append(self._keeping(completed(self.scores_, keep, self.minimum)))
        return self._largest(model, second, candidates)

    def _selected_by_nested_sets(self, model: nn.Module, test_data: Any) -> UnitSelection:
        """Remove the largest of a row of nested sets that tests allow."""
        amounts = np.arange(1, N_SETS + 1) / N_SETS * self.amount
        candidates = [self._budget(amount=float(amount)) for amount in amounts]
        return self._largest(model, test_data, candidates)

    def _largest(
        self, model: nn.Module, test_data: Any, candidates: Sequence[UnitSelection]
    ) -> UnitSelection:
        """Return the last of nested selections before the first that a test does not clear."""
        chosen = self._keeping(np.ones(self.units_.n, dtype=bool))
        smaller: list[UnitSelection] = []
        for candidate in candidates:
            if candidate.n_kept < (smaller[-1] if smaller else chosen).n_kept:
                smaller.append(candidate)
        if not smaller:
            return chosen
        keeps = [candidate.keep for candidate in smaller]
        self.removal_ = test_nested_removal(
            model, test_data, self.units_, keeps, **self._test_settings()
        )
        n_accepted = self.removal_.n_accepted
        return smaller[n_accepted - 1] if n_accepted else chosen

    def _test_settings(self) -> dict[str, Any]:
        return {
            "margin": self.margin,
            "loss": self._loss,
            "metric": self.metric,
            "level": self.level,
            "seed": self.random_state,
            "progress": self.progress,
        }

    def _uncertainty(self) -> RankUncertainty | None:
        """Resample the calibration data, with as many units kept as were selected."""
        keep = self.selection_.keep
        n_gone = int((~keep).sum())
        if self.n_resamples < 2 or n_gone == 0:
            return None
        n_scored = int((~self.scores_.score.isnan()).sum())
        options: dict[str, Any] = {"n_keep": n_scored - n_gone}
        if self.scope != "global" or self.allocation is not None:
            # Groups with blocks are ranked block by block.
            scored = ~self.scores_.score.isnan().cpu().numpy()
            scopes = scopes_of(self.units_, "layer", scored)
            n_keep = {name: int(keep[where].sum()) for name, where in scopes.items()}
            options = {"scope": "layer", "n_keep": n_keep}
        return rank_uncertainty(
            self.scores_,
            n_resamples=self.n_resamples,
            confidence_level=self.confidence_level,
            seed=self.random_state,
            **options,
        )

    # -- After the fit ---------------------------------------------------------------------

    @property
    def ranking_(self) -> pd.DataFrame:
        """A row a unit, best first; see `PruningResults.ranking`."""
        return self._results().ranking

    def transform(
        self, model: nn.Module, *, physical: bool = False, check: bool = True
    ) -> nn.Module:
        """Return a copy of the network without the units that go.

        Parameters
        ----------
        model : Module
            The network that was fitted, or one with the same parameters' names and shapes; left as
            it was.
        physical : bool, default=False
            Whether tensors become really smaller; else the units are masked, which can be trained
            on and taken back.
        check : bool, default=True
            Whether the smaller network is compared with the masked one on the example inputs
            before it is believed.

        Returns
        -------
        Module

        Raises
        ------
        NotFittedError
            Before `fit`.
        EquivalenceError
            If the smaller network does not compute what the masked one does.
        ModelError
            If the network has other parameters, or the units can only be masked.
        """
        self._require_fit()
        keep = self.selection_.keep
        if not physical:
            masked = copy.deepcopy(model)
            apply_masks(masked, self.units_, keep)
            return masked
        inputs = self._example_inputs if check else None
        small, self.plan_ = remove_units(model, self.units_, keep, example_inputs=inputs)
        return small

    def results(
        self,
        model: nn.Module,
        small: nn.Module | None = None,
        *,
        data: Any = None,
        latency: bool = False,
        curves: PruningCurves | None = None,
    ) -> PruningResults:
        """Return the result for tables and reports; measure what the pruning has done.

        Parameters
        ----------
        model : Module
            The network that was fitted.
        small : Module, optional
            The pruned one, from `transform`.
        data : iterable of batches, optional
            On which both are compared: neither calibration nor training data.
        latency : bool, default=False
            Whether to time both on the example inputs; of state space models also one recurrent
            step, of a single sequence.
        curves : PruningCurves, optional
            Quality against the amount removed, for the report.

        Returns
        -------
        PruningResults

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If there are data and no network to compare.
        """
        self._require_fit()
        if small is None and (data is not None or latency):
            raise InputError(
                "data or latency are given and the pruned network is not; give small=, from "
                "transform."
            )
        found: dict[str, Any] = {}
        if small is not None and data is not None:
            found["before"] = evaluate(model, data, loss=self._loss)
            found["after"] = evaluate(small, data, loss=self._loss)
        if small is not None and latency and self._example_inputs is not None:
            found["latency"] = measure_latency(
                {"before": model, "after": small}, self._example_inputs
            )
        if any(group.kind is Kind.STATE for group in self.units_):
            found["systems"] = read_systems(model)
            steps = {"before": OneStep(model)}
            if small is not None and latency and steps["before"].n_layers:
                steps["after"] = OneStep(small)
                found["step_latency"] = measure_latency(steps, torch.zeros(1), repeats=100)
        return self._results(**found, curves=curves)

    def _results(self, **found: Any) -> PruningResults:
        self._require_fit()
        return PruningResults(
            model_name=self._model_name,
            criterion=self._criterion,
            settings=self.get_params(deep=False),
            table=self.scores_,
            selection=self.selection_,
            costs=self.costs_,
            uncertainty=self.uncertainty_,
            removal=self.removal_,
            agreement=self.agreement_,
            **found,
        )

    def _require_fit(self) -> None:
        if not hasattr(self, "selection_"):
            raise NotFittedError("this Pruner has seen no network yet; call fit first.")


for _method in _ROUTES:
    delattr(Pruner, _method)


def completed(table: ScoreTable, keep: NDArray[np.bool_], minimum: int) -> NDArray[np.bool_]:
    """Return a mask with as many more units as every group needs, the best first.

    Parameters
    ----------
    table : ScoreTable
        The scores; units without one stay.
    keep : ndarray of bool, shape (n_units,)
        Units that stay in any case.
    minimum : int
        Units that stay in every group; in groups with blocks, the same number in each.

    Returns
    -------
    ndarray of bool, shape (n_units,)
    """
    out: NDArray[np.bool_] = keep | table.score.isnan().cpu().numpy()
    scores = torch.nan_to_num(table.score.detach().cpu(), nan=torch.inf)
    for group in table.units:
        where = table.units.range_of(group.name)
        blocks = np.arange(where.start, where.stop).reshape(group.blocks, -1)
        needed = max(-(-minimum // group.blocks), int(out[blocks].sum(axis=1).max()))
        for block in blocks:
            best = block[np.asarray(order(scores[block]))]
            out[best[~out[best]][: needed - int(out[block].sum())]] = True
    return out
