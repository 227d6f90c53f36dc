"""A pause of Python's garbage collector, while objects are made in great numbers that all stay.

It would look through them again and again as they are made. The pause is that of the process:
whoever is in it, in whatever thread, the collector runs again when the last one has left.
"""

from __future__ import annotations

import gc
import threading
from types import TracebackType

__all__ = ["PAUSE", "CollectorPause"]


class CollectorPause:
    """A context manager that may be entered many times, by any thread.

    `begin` and `end` do the same for callers that are told of the two moments one by one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._resume = False

    def begin(self) -> None:
        """Stop the collector, if nobody has yet."""
        with self._lock:
            if self._depth == 0:
                self._resume = gc.isenabled()
                gc.disable()
            self._depth += 1

    def end(self) -> None:
        """Start it again when the last one ends, if it was running before the first."""
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._resume:
                gc.enable()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


PAUSE = CollectorPause()
