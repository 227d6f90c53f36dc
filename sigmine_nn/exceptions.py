"""Errors of networks that cannot be used, besides those of `sigmine.exceptions`.

May import: `sigmine.exceptions`.
"""

from __future__ import annotations

from sigmine.exceptions import InputError, SigmineError

__all__ = ["CalibrationError", "EquivalenceError", "ModelError", "TracingError"]


class ModelError(InputError):
    """A network has no such layer, or one that cannot be pruned in the way that is asked."""


class TracingError(ModelError):
    """The dependencies of a network could not be found."""


class CalibrationError(InputError):
    """The calibration data or the loss gave nothing that can be used; the message says what."""


class EquivalenceError(SigmineError, RuntimeError):
    """A network with units removed does not compute what it computes with the units masked.

    Parameters
    ----------
    message : str
        What was found, what was expected and what to do.
    difference : float, optional
        Largest absolute difference of the outputs.
    """

    def __init__(self, message: str, difference: float | None = None) -> None:
        self.difference = difference
        super().__init__(message)
