"""Errors and warnings, by topic.

Every message says what was found, what was expected and what to do. The errors subclass the
built-in ones too, so that callers need not know this module.
"""

from __future__ import annotations

__all__ = [
    "DataWarning",
    "FileFormatError",
    "InputError",
    "InputTypeError",
    "InsufficientMemoryError",
    "SearchInterrupted",
    "SigmineError",
    "SigmineWarning",
    "StatisticalWarning",
]


class SigmineError(Exception):
    """Base class of every error that sigmine raises on purpose."""


class InputError(SigmineError, ValueError):
    """Data or a parameter has a value that cannot be used."""


class InputTypeError(SigmineError, TypeError):
    """Data or a parameter has a type that cannot be used."""


class FileFormatError(InputError):
    """A file is not what its name says, is empty, or is cut off.

    Parameters
    ----------
    message : str
        What was found, what was expected and what to do.
    path : str, optional
        The file.
    line : int, optional
        The line, counted from 1, where reading stopped.
    """

    def __init__(self, message: str, path: str | None = None, line: int | None = None) -> None:
        self.path = path
        self.line = line
        place = "" if path is None else (f"{path}: " if line is None else f"{path}, line {line}: ")
        super().__init__(place + message)


class InsufficientMemoryError(InputError, MemoryError):
    """The data need more memory than there is; raised before anything large is made.

    Parameters
    ----------
    message : str
        What is needed, what is available and what to do.
    needed, available : int, optional
        Bytes.
    """

    def __init__(
        self, message: str, needed: int | None = None, available: int | None = None
    ) -> None:
        self.needed = needed
        self.available = available
        super().__init__(message)


class SearchInterrupted(SigmineError, KeyboardInterrupt):
    """The search was stopped before its end, so that no error rate can be promised."""


class SigmineWarning(UserWarning):
    """Base class of every warning that sigmine gives."""


class DataWarning(SigmineWarning):
    """Something in the data was left out or changed; the message says what."""


class StatisticalWarning(SigmineWarning):
    """A guarantee is weaker than it looks for these data; the message says where."""
