"""How far a running search is, in words, and as one bar for a script or a notebook.

Allowed imports: `report.formats`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .formats import format_count, format_duration

if TYPE_CHECKING:
    from ..search import Checkpoint, ProgressCallback, SearchProgress

__all__ = [
    "ProgressBar",
    "describe_counts",
    "describe_share",
    "how_to_go_on",
    "share_done",
    "show_progress",
    "stage_name",
]

# Most searches have the first stage only. It is the search space, so its share is what a bar shows;
# the others come on top where ties are heavy, or nothing was testable.
_NAMES = {"threshold": "Searching", "collect": "Second pass", "summit": "Last pass"}


def stage_name(progress: SearchProgress, name: str | None = None) -> str:
    """Return what the search is doing.

    Parameters
    ----------
    progress : SearchProgress
        Where it stands.
    name : str, optional
        Of the first stage, if it is not just a search.

    Returns
    -------
    str
        One or two words.
    """
    if name is not None and progress.stage == "threshold":
        return name
    return _NAMES.get(progress.stage, progress.stage)


def share_done(progress: SearchProgress) -> float:
    """Return the share of the search space that is done; it never falls.

    Parameters
    ----------
    progress : SearchProgress
        Where the search stands.

    Returns
    -------
    float
        From 0 to 1; 1 once a further pass has begun, since the first one saw everything.
    """
    return progress.fraction_done if progress.stage == "threshold" else 1.0


def describe_share(progress: SearchProgress) -> str:
    """Say how much of the present stage is done.

    Parameters
    ----------
    progress : SearchProgress
        Where the search stands.

    Returns
    -------
    str
        Rounded down: 100 % is the end.
    """
    percent = f"{math.floor(100 * progress.fraction_done)}%"
    what = "the search space" if progress.stage == "threshold" else "this pass"
    return f"{percent} of {what}"


def describe_counts(progress: SearchProgress) -> str:
    """Say what is known about the time left, and what was visited, how fast.

    Parameters
    ----------
    progress : SearchProgress
        Where the search stands.

    Returns
    -------
    str
        Parts with commas between them; what matters most comes first, for narrow terminals.
    """
    if not progress.visited:
        return "compiling (once on this machine)"
    parts = [
        f"{format_count(progress.visited)} visited ({format_count(progress.rate)}/s)",
        f"{format_count(progress.testable)} testable",
        f"threshold {progress.threshold:.2g}",
    ]
    if progress.seconds_left is not None:
        parts.insert(0, f"{format_duration(progress.seconds_left)} left")
    return ", ".join(parts)


def how_to_go_on(checkpoint: Checkpoint, began: float) -> str:
    """Say what the checkpoint of an interrupted search holds, and how to go on.

    Parameters
    ----------
    checkpoint : Checkpoint
        Of that search.
    began : float
        When the search was started, as from ``time.time``.

    Returns
    -------
    str
        Two sentences.
    """
    start = "The search was interrupted before its end."
    folder, saved = checkpoint.folder, checkpoint.last_saved
    if saved is None:
        return (
            f"{start} The checkpoint {folder} holds nothing yet (it is written about every "
            f"{checkpoint.seconds:g} seconds): the same search starts anew."
        )
    what = "what an earlier run had found, and nothing of this one yet"
    if saved >= began:
        what = f"what was found until {format_duration(time.time() - saved)} ago"
    return (
        f"{start} The checkpoint {folder} holds {what}: run the same search with the same "
        "checkpoint to go on from there."
    )


def show_progress(
    progress: ProgressCallback | None, verbose: int, name: str | None = None
) -> AbstractContextManager[ProgressCallback | None]:
    """Return who is told how far a search is, for as long as it lasts.

    Parameters
    ----------
    progress : callable or None
        Of the caller, who then sees to it.
    verbose : int
        Above 0, without `progress`, there is a bar on stderr.
    name : str, optional
        What the bar calls the first stage of the search.

    Returns
    -------
    context manager
    """
    return ProgressBar(name) if progress is None and verbose else nullcontext(progress)


class ProgressBar:
    """Progress of a search on stderr, by tqdm; appears after a second.

    Parameters
    ----------
    name : str, optional
        What it calls the first stage of the search.
    """

    def __init__(self, name: str | None = None) -> None:
        from tqdm import tqdm

        # miniters=0: the counts go on while the share stands still.
        self._name = name
        self._bar: Any = tqdm(
            total=1.0,
            delay=1.0,
            miniters=0,
            leave=False,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}",
        )

    def __enter__(self) -> Callable[[SearchProgress], None]:
        return self._show

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def _show(self, progress: SearchProgress) -> None:
        description, counts = stage_name(progress, self._name), describe_counts(progress)
        if progress.stage != "threshold":  # the bar is full: the words go on
            counts = f"{describe_share(progress)}, {counts}"
        # `update` is what draws, and what keeps to the delay.
        self._bar.set_description_str(description, refresh=False)
        self._bar.set_postfix_str(counts, refresh=False)
        self._bar.update(max(0.0, share_done(progress) - self._bar.n))
