"""LAST: layer-adaptive state pruning of deep state space models.

After M. Gwak, S. Moon, J. Ko, P. Park, Layer-adaptive state pruning for deep state space models,
NeurIPS 2024, of which the formulas and the published figures were at hand, and not the whole text.

May import: everything of `sigmine_nn` but `cli`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ..criteria import Criterion, get_criterion
from ..exceptions import ModelError
from ..pruner import Pruner
from ..units import Kind, Units

__all__ = ["LAST"]


class LAST(Pruner):
    """Remove the states of state space layers that can do the least to the output of their layer.

    A state of a diagonal layer is a system of its own, c b^T / (z - lambda), whose H-infinity norm
    is norm(c) norm(b) / (1 - abs(lambda)) exactly. Its square, divided by the sum of itself and all
    larger ones of the layer, is the score; one threshold over all layers decides. No data, no
    gradients, no retraining.

    Parameters
    ----------
    amount : float, default=0.3
        Fraction of all states that go, in [0, 1): floor(amount x n) of n, exactly.
    horizon : int, "sequence" or None, default=None
        Steps that a state is given to build up its response. None is the published score, which
        looks at all time: it over-rates states that remember longer than the sequences are (a
        warning says so, if `fit` is given example inputs). "sequence" looks at the length of the
        example inputs.
    norm : {"hinf", "h2"}, default="hinf"
        "h2" is the score of AIRE-Prune, not LAST.
    normalise : {"last", "none"}, default="last"
        "none" compares the norms of all layers as they are ("global H-infinity").
    legacy_bidirectional : bool, default=False
        Score bidirectional layers as the authors' program does; see `sigmine_nn.criteria.
        state_space.last`.
    units : str or Units, default="state"
        The states of all layers that are known, or of some.
    ignore : sequence of str, default=()
        Layers whose states are not to be touched.
    minimum : int, default=1
        States that stay in every layer. One always does: the best state of a layer scores 1.
    progress : bool or None, default=False
        Whether to show bars on stderr; None: on a terminal.

    Attributes
    ----------
    units_, scores_, selection_, ranking_, costs_, plan_
        As in `Pruner`.

    See Also
    --------
    sigmine_nn.criteria.state_space : the scores, and those that look at data.
    sigmine_nn.curves.pruning_curve : accuracy against the amount, for several ways.
    sigmine_nn.methods.balanced_truncation : the classical reduction.

    Notes
    -----
    Where data are at hand, ``Pruner("taylor_squared", units="state")`` and ``Pruner("state_energy",
    units="state")`` are better choices (see the documentation for figures). What is guaranteed:
    exactly the amount, never an empty layer, the same answer whatever the scale of a layer's B or
    C, and masked and smaller networks that agree to rounding. Nothing is promised of the accuracy:
    the score is a bound of one layer's response, not of the loss.

    Examples
    --------
    >>> import torch
    >>> from sigmine_nn.methods import LAST
    >>> from sigmine_nn.state_space import S5
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     S5(4, 16, dt_min=0.02, dt_max=1.0), torch.nn.GELU(), S5(4, 16, dt_min=0.02, dt_max=1.0))
    >>> x = torch.randn(8, 50, 4)
    >>> last = LAST(amount=0.5).fit(model, example_inputs=x)
    >>> small = last.transform(model, physical=True)
    >>> small[0].n_states + small[2].n_states
    16
    """

    def __init__(
        self,
        amount: float = 0.3,
        *,
        horizon: int | str | None = None,
        norm: str = "hinf",
        normalise: str = "last",
        legacy_bidirectional: bool = False,
        units: str | Units = "state",
        ignore: Sequence[str] = (),
        minimum: int = 1,
        progress: bool | None = False,
    ) -> None:
        super().__init__(
            "last", units=units, amount=amount, ignore=ignore, minimum=minimum, progress=progress
        )
        self.horizon = horizon
        self.norm = norm
        self.normalise = normalise
        self.legacy_bidirectional = legacy_bidirectional

    def chosen_criterion(self) -> Criterion:
        """Return the criterion "last" with the options of this recipe.

        Returns
        -------
        Criterion
        """
        return get_criterion(
            "last",
            horizon=self.horizon,
            norm=self.norm,
            normalise=self.normalise,
            legacy_bidirectional=self.legacy_bidirectional,
        )

    def fit(
        self,
        model: nn.Module,
        data: Any = None,
        *,
        loss: str | Callable[..., Tensor] | None = None,
        test_data: Any = None,
        example_inputs: Any = None,
    ) -> LAST:
        """Rank the states of a network and choose those that go; the network is never changed.

        Parameters
        ----------
        model : Module
            The network.
        data : iterable of batches, optional
            Not needed; the inputs of the first batch stand for missing example inputs.
        loss : str, callable or None, default=None
            For `results`, to compare networks.
        test_data : None
            Not used: there is no test of removal here. ``Pruner("last", units="state", level=...)``
            has one.
        example_inputs : Tensor, tuple or mapping, optional
            What the network takes: for the length of the sequences, and to check the smaller
            network.

        Returns
        -------
        LAST
            Itself.

        Raises
        ------
        ModelError
            If there is no layer whose states can be scored (the message says why), or a state is
            unstable.
        InputError
            If a parameter cannot be used.

        Warns
        -----
        StatisticalWarning
            If states remember longer than the sequences are, and no horizon is set.
        """
        kinds = self.units if isinstance(self.units, str) else {g.kind for g in self.units}
        if kinds not in (Kind.STATE, {Kind.STATE}):
            raise ModelError(
                f"units={self.units!r} are not only states of state space layers, and others have "
                "no such score; give units='state', or units of that kind."
            )
        super().fit(model, data, loss=loss, test_data=test_data, example_inputs=example_inputs)
        return self
