"""What the command line shows: errors with their exit codes, progress, and the table of patterns.

Nothing heavy is imported here, because ``sigmine --help`` goes through it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from itertools import takewhile
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import typer

from .exceptions import InputError, SigmineError, SigmineWarning

if TYPE_CHECKING:
    from .results import PatternResults
    from .search.outcome import SearchProgress

__all__ = [
    "ExitCode",
    "OutputError",
    "SearchMeter",
    "exit_codes",
    "say",
    "show_patterns",
    "show_summary",
    "warnings_as_sentences",
    "writing",
]


class ExitCode(IntEnum):
    """What the command tells the shell."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    BAD_INPUT = 3
    CANNOT_WRITE = 4
    INTERRUPTED = 130


class OutputError(SigmineError):
    """A file that was asked for cannot be written."""


def say(message: str, *, label: str = "", color: str | None = None) -> None:
    """Print a sentence on stderr, after a label that is coloured on a terminal."""
    if label:
        typer.secho(f"{label}: ", fg=color, bold=True, nl=False, err=True)
    typer.echo(message, err=True)


def _fail(message: str, code: ExitCode) -> typer.Exit:
    if os.environ.get("SIGMINE_DEBUG", "") not in {"", "0"}:
        traceback.print_exc()
    say(message, label="Error", color="red")
    return typer.Exit(int(code))


def _reader_went_away() -> typer.Exit:
    # `sigmine mine ... | head`: every file is written before anything is printed, so that nothing
    # is lost. Python flushes stdout once more at its end and must find something that takes it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return typer.Exit(int(ExitCode.DONE))


@contextmanager
def _remembering_interrupts() -> Iterator[list[int]]:
    """Give a list that is not empty once Ctrl-C was pressed, whatever became of the exception."""
    interrupts: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield interrupts
        return
    signal.signal(signal.SIGINT, remember)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn an exception into one clear paragraph on stderr and an exit code.

    ``SIGMINE_DEBUG=1`` prints the traceback before the paragraph.
    """
    try:
        with _remembering_interrupts() as interrupted:
            yield
        sys.stdout.flush()
    except KeyboardInterrupt as error:  # also SearchInterrupted
        reason = str(error) or "stopped by Ctrl-C."
        raise _fail(reason, ExitCode.INTERRUPTED) from None
    except OutputError as error:
        raise _fail(str(error), ExitCode.CANNOT_WRITE) from None
    except SigmineError as error:
        raise _fail(str(error), ExitCode.BAD_INPUT) from None
    except BrokenPipeError:
        raise _reader_went_away() from None
    except MemoryError:
        raise _fail(
            "the data or the search do not fit into the memory of this machine. Use fewer columns "
            "or bins, or limit the search (--min-support, --max-length).",
            ExitCode.UNEXPECTED,
        ) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise  # typer's own ways to end a command
    except Exception as error:
        if interrupted:  # Ctrl-C while numba compiles can come out as an error of LLVM's
            raise _fail("stopped by Ctrl-C.", ExitCode.INTERRUPTED) from None
        raise _fail(
            f"{type(error).__name__}: {error}. This was not expected; SIGMINE_DEBUG=1 shows where "
            "it happened.",
            ExitCode.UNEXPECTED,
        ) from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a failure to write `path` from every other failure."""
    try:
        yield
    except BrokenPipeError:
        raise
    except InputError as error:  # says which path, and what to do
        raise OutputError(str(error)) from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


@contextmanager
def warnings_as_sentences() -> Iterator[list[str]]:
    """Show the warnings of sigmine as sentences, without file, line and source; yield them."""
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", SigmineWarning)
        default = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, SigmineWarning):
                said.append(str(message))
                say(said[-1], label="Warning", color="yellow")
            else:
                default(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield said


class SearchMeter:
    """Shows on stderr how far a search is, once it has taken a second.

    On a terminal it is a bar, elsewhere a plain line every few seconds.

    Parameters
    ----------
    quiet : bool, default=False
        Show nothing.
    name : str, optional
        What the first stage of the search is called.
    delay, interval : float, default=1.0 and 5.0
        Seconds before the first sign, and between plain lines.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        name: str | None = None,
        delay: float = 1.0,
        interval: float = 5.0,
    ) -> None:
        self.quiet = quiet
        self.name = name
        self.delay = delay
        self.interval = interval
        self._last = -float("inf")
        self._bar: Any = None
        self._task: Any = None
        self._counts: Any = None

    def __enter__(self) -> SearchMeter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()  # transient: takes its line away

    def __call__(self, progress: SearchProgress) -> None:
        """Take a report of the running search."""
        if self.quiet or progress.seconds < self.delay:
            return
        from .report.progress import describe_counts, describe_share, share_done, stage_name

        stage, counts = stage_name(progress, self.name), describe_counts(progress)
        if sys.stderr.isatty():
            if progress.stage != "threshold":  # the bar is full: the words go on
                counts = f"{describe_share(progress)}, {counts}"
            self._draw(stage, counts, share_done(progress))
            return
        now = time.monotonic()
        if now - self._last >= self.interval:
            self._last = now
            done = f"{describe_share(progress)}, " if progress.visited else ""
            say(f"{stage}: {done}{counts}, {progress.seconds:.0f} s so far")

    def _draw(self, stage: str, counts: str, share: float) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                RenderableColumn,
                TaskProgressColumn,
                TextColumn,
            )
            from rich.table import Column
            from rich.text import Text

            # On a narrow terminal the end of the counts is cut off, and nothing else: where there
            # is no room, rich takes it from columns that could wrap. The text itself does not.
            self._counts = Text(counts, no_wrap=True, overflow="ellipsis")
            console = Console(stderr=True)
            widths = len("Second pass"), min(20, max(5, console.width // 5)), len("100%")
            name, bar, percent = (Column(no_wrap=True, width=width) for width in widths)
            self._bar = Progress(
                TextColumn("{task.description}", table_column=name),
                BarColumn(bar_width=None, table_column=bar),
                TaskProgressColumn(table_column=percent),
                RenderableColumn(self._counts, table_column=Column(ratio=1)),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(stage, total=1.0, completed=share)
            self._bar.start()
        self._counts.plain = counts
        self._bar.update(self._task, description=stage, completed=share)


HEADER = ("", "pattern", "rows", "cases", "odds ratio (95 % CI)", "p-value", "adjusted")


def _rows(results: PatternResults, top: int) -> list[tuple[str, ...]]:
    from .report.formats import format_integer, format_interval, format_pvalue, format_ratio

    rows: list[tuple[str, ...]] = []
    for rank, row in enumerate(results.rows(top), start=1):
        implied = row["length"] - len(row["generator"])
        interval = format_interval(row["odds_ratio_low"], row["odds_ratio_high"], plain=True)
        rows.append(
            (
                str(rank),
                " & ".join(row["generator"]) + (f" (+{implied} implied)" if implied else ""),
                format_integer(row["support"]),
                format_integer(row["support_cases"]),
                f"{format_ratio(row['odds_ratio'], plain=True)} ({interval})",
                format_pvalue(row["pvalue"], row["log10_pvalue"], plain=True),
                format_pvalue(row["pvalue_adjusted"], plain=True),
            )
        )
    return rows


def show_summary(results: PatternResults, said: Sequence[str] = ()) -> None:
    """Print on stdout what was asked, searched and found, and what is guaranteed.

    Warnings that have been `said` on stderr are not repeated.
    """
    from .report.text import summary_lines

    # Without patterns: an empty line would separate them from the sentences.
    for line in takewhile(bool, summary_lines(results, top=0, said=said)):
        typer.echo(line)


def show_patterns(results: PatternResults, top: int) -> None:
    """Print the best patterns on stdout: a rich table on a terminal, plain columns elsewhere."""
    rows = _rows(results, top) if top else []
    if not rows:
        return
    if sys.stdout.isatty():
        _print_rich(rows)
    else:
        _print_plain([HEADER, *rows])
    if len(results) > len(rows):
        typer.echo(f"... and {len(results) - len(rows):,} more (--top, or --out for all of them)")


def _print_rich(rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # item names come from the data: no markup is read in them

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in HEADER:
        is_text = name == "pattern"
        table.add_column(
            name, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def _print_plain(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if HEADER[i] == "pattern" else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())
