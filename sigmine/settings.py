"""The parameters of one search, checked once and then passed along unchanged."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

from .exceptions import InputError, InputTypeError

__all__ = ["ALTERNATIVES", "CORRECTIONS", "METHODS", "TWO_SIDED", "VARIANCES", "SearchSettings"]

METHODS = ("exact", "asymptotic")
ALTERNATIVES = ("two-sided", "greater", "less")
TWO_SIDED = ("central", "minlike")
VARIANCES = ("mantel-haenszel", "cochran")
CORRECTIONS = ("tarone",)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name}={value!r} is not known; choose one of {', '.join(allowed)}.")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What is asked of a search.

    Parameters
    ----------
    alpha : float, default=0.05
        Level of the family-wise error rate, in (0, 1).
    method : {"exact", "asymptotic"}, default="exact"
        Exact conditional test, or the chi-squared approximation of the FACS paper.
    alternative : {"two-sided", "greater", "less"}, default="two-sided"
        "greater": carriers are cases more often than others of their stratum.
    two_sided : {"central", "minlike"}, default="central"
        Two-sided p-value of the exact test: twice the smaller tail, or the sum over outcomes
        no likelier than the observed one.
    correction : {"tarone"}, default="tarone"
        Multiple-testing procedure.
    variance : {"mantel-haenszel", "cochran"}, default="mantel-haenszel"
        Variance of the asymptotic statistic: denominator n_k - 1 (textbook) or n_k (FACS paper).
    grid_step : float or None, default=None
        None finds the exact threshold; 0.06 walks the grid of the original programs
        (thresholds 10 ** (-0.06 j)).
    min_support : int, default=1
        Fewest carriers of a pattern.
    max_length : int or None, default=None
        Most items of a pattern's shortest description (generator).
    """

    alpha: float = 0.05
    method: str = "exact"
    alternative: str = "two-sided"
    two_sided: str = "central"
    correction: str = "tarone"
    variance: str = "mantel-haenszel"
    grid_step: float | None = None
    min_support: int = 1
    max_length: int | None = None

    def __post_init__(self) -> None:
        alpha: Any = self.alpha
        if isinstance(alpha, bool) or not isinstance(alpha, Real):
            raise InputTypeError(f"alpha={alpha!r} is not a number; give one in (0, 1).")
        if not 0 < self.alpha < 1:
            raise InputError(
                f"alpha={self.alpha!r} is not in (0, 1); 0.05 is the usual family-wise error rate."
            )
        _one_of("method", self.method, METHODS)
        _one_of("alternative", self.alternative, ALTERNATIVES)
        _one_of("two_sided", self.two_sided, TWO_SIDED)
        _one_of("correction", self.correction, CORRECTIONS)
        _one_of("variance", self.variance, VARIANCES)
        step: Any = self.grid_step
        if step is not None and not (isinstance(step, Real) and 1e-4 <= float(step) <= 10):
            raise InputError(
                f"grid_step={step!r} must be None (exact) or a number in [1e-4, 10]; "
                "the original programs use 0.06."
            )
        counts: list[tuple[str, Any, bool]] = [
            ("min_support", self.min_support, False),
            ("max_length", self.max_length, True),
        ]
        for name, value, optional in counts:
            if value is None and optional:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise InputTypeError(f"{name}={value!r} must be a whole number of at least 1.")
            if value < 1:
                raise InputError(f"{name}={value!r} must be at least 1.")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dict, for reports and JSON.

        Returns
        -------
        dict
            Parameter names and values.
        """
        return asdict(self)
