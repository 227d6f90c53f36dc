"""How much memory a search needs, and whether the machine has it: asked before the start.

May import: `sigmine.exceptions`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .exceptions import InsufficientMemoryError

__all__ = [
    "MemoryEstimate",
    "available_memory",
    "estimate_memory",
    "require_memory",
    "too_little_for",
]

_WORD_BYTES = 8
_ROW_BYTES = 24  # order of the rows, their strata, and what sorts them
_NAME_BYTES = 80  # a short text, and its place in a tuple
_ENTRY_BYTES = 9  # of a sparse matrix: a 64-bit index, or a 32-bit one twice, and a byte
_ITEM_BYTES = 136  # number, ones, evidence and order of an item, and what sorts them
_COUNT_BYTES, _COUNTED_ITEMS = 16, 1024  # counts of so many items in every stratum, at a time
_LINE_BYTES = 240  # of the tables of the test: 72 or 136 stay, the rest makes them
_OWN_BYTES = 128  # of a line that every worker has for itself
# Lines of the tables at most, and those that workers have: so many, and so many a stratum.
_MOST_LINES, _OWN_LINES, _STRATUM_LINES = 2**16, 2**13, 130
_FAR_BYTES = 3  # of rows beyond the tables
_WORKER_BYTES = 2**24  # buffers that a worker has at any size of the data
_NO_LIMIT = 2**60  # control groups write a number about as large for "no limit"
# Below this nobody needs to be asked: looking costs more than a small search.
_SMALL = 2**28


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory that a search needs, in bytes, by part.

    Parameters
    ----------
    n_rows, n_items, n_strata, n_jobs : int
        What it was estimated for.
    columns : int
        The items, packed 64 rows to a word.
    rows : int
        Order and stratum of every row.
    names : int
        Names of the items.
    source : int
        The matrix that the items are packed from, if it has to be made first; gone before the
        search begins.
    search_copy : int
        The items in the order and the layout of the search.
    counts : int
        Ones, evidence and order of the items.
    workers : int
        What the workers need of their own, all together.
    tables : int
        Tables of the test.
    """

    n_rows: int
    n_items: int
    n_strata: int
    n_jobs: int
    columns: int
    rows: int
    names: int
    source: int
    search_copy: int
    counts: int
    workers: int
    tables: int

    @property
    def total(self) -> int:
        """The most that is needed at one time; without the results."""
        return self.columns + self.rows + self.names + max(self.source, self.search)

    @property
    def search(self) -> int:
        """What the search needs beside the packed items."""
        return self.search_copy + self.counts + self.workers + self.tables

    def to_dict(self) -> dict[str, int]:
        """Return the parts and the total.

        Returns
        -------
        dict
            Bytes by part, and ``"total"``.
        """
        sizes = {"n_rows", "n_items", "n_strata", "n_jobs"}
        parts = {name: value for name, value in asdict(self).items() if name not in sizes}
        return {**parts, "total": self.total}


def estimate_memory(
    n_rows: int,
    n_items: int,
    n_strata: int,
    *,
    nnz: int | None = None,
    dense: bool = False,
    packed: bool = False,
    n_jobs: int = 1,
) -> MemoryEstimate:
    """Estimate the memory of a search.

    Parameters
    ----------
    n_rows, n_items, n_strata : int
        Size of the data.
    nnz : int or None, default=None
        Ones of a sparse matrix that has to be made before the items can be packed; None if the
        matrix is there already, or none is needed.
    dense : bool, default=False
        Whether a matrix with a byte a cell has to be made first.
    packed : bool, default=False
        Whether the items are packed already: what is in memory is not asked for again.
    n_jobs : int, default=1
        Workers.

    Returns
    -------
    MemoryEstimate
        What follows from the size of the data alone.

    Notes
    -----
    With w = ceil(n_rows / 64) words a column, packed data are 8 w n_items bytes. The search makes
    one copy, and a worker is given room for one more: the columns of a node shrink to the rows of
    its carriers. The tables of the test grow with the rows up to some ten thousand, and hardly
    beyond.

    This is no bound. What is found comes on top, and nobody knows before how much that is: every
    testable hypothesis has a count in every stratum, so that thousands of them in a thousand
    strata need hundreds of MiB. ``benchmarks/scale.py`` sets the estimate beside what was used.

    Examples
    --------
    >>> estimate = estimate_memory(1_000_000, 100, 4)
    >>> estimate.columns, estimate.total < 2**27
    (12500000, True)
    """
    columns = _WORD_BYTES * -(-n_rows // 64) * n_items
    lines = n_rows + n_strata
    own = _OWN_BYTES * min(lines, _OWN_LINES + _STRATUM_LINES * n_strata)
    counted = _COUNT_BYTES * n_strata * min(n_items, _COUNTED_ITEMS)
    return MemoryEstimate(
        n_rows=n_rows,
        n_items=n_items,
        n_strata=n_strata,
        n_jobs=n_jobs,
        columns=0 if packed else columns,
        rows=0 if packed else _ROW_BYTES * n_rows,
        names=0 if packed else _NAME_BYTES * n_items,
        source=(n_rows * n_items if dense else 0) + _ENTRY_BYTES * (nnz or 0),
        search_copy=columns,
        counts=_ITEM_BYTES * n_items + counted,
        workers=n_jobs * (columns + _WORKER_BYTES + own),
        tables=_LINE_BYTES * min(lines, _MOST_LINES + _STRATUM_LINES * n_strata)
        + _FAR_BYTES * n_rows,
    )


def require_memory(estimate: MemoryEstimate) -> None:
    """Refuse a search that cannot fit into memory, before anything large is made.

    Parameters
    ----------
    estimate : MemoryEstimate
        What it needs.

    Raises
    ------
    InsufficientMemoryError
        If it needs more than is available; says how much, for what, and what would fit.

    Notes
    -----
    Nothing is refused where the available memory is not known, nor if the environment variable
    ``SIGMINE_MEMORY_CHECK`` is 0.
    """
    if (available := too_little_for(estimate.total)) is None:
        return
    parts = estimate.to_dict()
    total = parts.pop("total")
    # What is there when the most is needed: the matrix is gone before the search begins.
    search = {"search_copy", "counts", "workers", "tables"}
    gone = search if estimate.source > estimate.search else {"source"}
    present = [(name, value) for name, value in parts.items() if name not in gone]
    largest = sorted(present, key=lambda part: -part[1])[:3]
    shown = ", ".join(f"{_PART_NAMES[name]} {_size(value)}" for name, value in largest)
    raise InsufficientMemoryError(
        f"the search needs about {_size(total)} of memory ({shown}) for {estimate.n_rows:,} rows, "
        f"{estimate.n_items:,} items, {estimate.n_strata:,} strata and n_jobs={estimate.n_jobs}; "
        f"{_size(available)} are available. {_advice(estimate, available)} Fewer rows help as "
        "well; max_length does not. SIGMINE_MEMORY_CHECK=0 starts all the same.",
        needed=total,
        available=available,
    )


def too_little_for(needed: int) -> int | None:
    """Return what memory is available, if that is less than what is needed.

    Parameters
    ----------
    needed : int
        In bytes.

    Returns
    -------
    int or None
        In bytes; None if it suffices, if nobody needs to be asked, if nobody knows, or if the
        environment variable ``SIGMINE_MEMORY_CHECK`` is 0.
    """
    if needed <= _SMALL or os.environ.get("SIGMINE_MEMORY_CHECK", "1").strip() == "0":
        return None
    available = available_memory()
    return None if available is None or needed <= available else available


_PART_NAMES = {
    "columns": "packed items",
    "rows": "order of the rows",
    "names": "names of the items",
    "source": "the items before they are packed",
    "search_copy": "a copy in the order of the search",
    "counts": "counts and order of the items",
    "workers": "room of the workers",
    "tables": "tables of the test",
}


def _advice(estimate: MemoryEstimate, available: int) -> str:
    """Say what would fit: fewer workers, or so many items."""
    one_job = replace(estimate, n_jobs=1, workers=estimate.workers // estimate.n_jobs)
    if one_job.total <= available:
        n_jobs = 1 + (available - one_job.total) // one_job.workers
        needed = _size(one_job.total + (n_jobs - 1) * one_job.workers)
        return f"With n_jobs={n_jobs} it needs {needed}, which fits."
    # Everything but rows, tables and buffers grows with the items.
    one_item = estimate_memory(estimate.n_rows, 1, estimate.n_strata)
    fixed = estimate.rows + one_item.search - one_item.search_copy
    room = int(estimate.n_items * max(0, available - fixed) / max(1, one_job.total - fixed))
    if room < 2:
        return f"Even a single item needs {_size(fixed)}: use a machine with more memory."
    return (
        f"With n_jobs=1, about {_two_digits(room):,} items fit: leave out rare ones, for example "
        "those with fewer than min_support rows, which can be in no pattern."
    )


def _two_digits(number: int) -> int:
    """Round down to two digits, so that an estimate does not look like a count."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit


def _size(n_bytes: int) -> str:
    """Format a number of bytes."""
    value, unit = float(n_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:,.1f} {unit}" if unit != "bytes" else f"{n_bytes} bytes"


def available_memory() -> int | None:
    """Return how many bytes this process can still use, without swapping.

    Returns
    -------
    int or None
        On Linux what the kernel calls available, or what the control groups of a container or a
        job leave, if that is less; on Windows the free physical memory; on macOS all physical
        memory, which the system frees as it is asked for. None where it is not known.
    """
    readers = {"linux": _linux_memory, "darwin": _mac_memory, "win32": _windows_memory}
    try:
        return readers[sys.platform]()
    except (KeyError, OSError, ValueError, AttributeError):
        return None


def _linux_memory(root: Path = Path("/")) -> int | None:
    """Look into the files of the kernel below `root`."""
    found = [_named_number(root / "proc/meminfo", "MemAvailable:", 1024)]
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files = ("memory.max", "memory.current", "inactive_file")
            found += _group_memory(root / "sys/fs/cgroup", path, files)
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            found += _group_memory(root / "sys/fs/cgroup/memory", path, files)
    known = [value for value in found if value is not None]
    return max(0, min(known)) if known else None


def _group_memory(base: Path, path: str, files: tuple[str, str, str]) -> list[int]:
    """Return what a control group and those above it leave; groups without a limit have no say.

    A container may see its own group as the topmost one while its path is that of the host: folders
    that are not there are passed over.
    """
    limit_file, usage_file, cache_name = files
    left = []
    group = base.joinpath(*Path(path).parts[1:])
    for folder in (group, *group.parents):
        limit, usage = _number(folder / limit_file), _number(folder / usage_file)
        if limit is not None and usage is not None and limit < _NO_LIMIT:
            # Files that are cached count as usage, but give way.
            cached = _named_number(folder / "memory.stat", cache_name, 1) or 0
            left.append(limit - usage + cached)
        if folder == base:
            break
    return left


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such group; or "max"
        return None


def _named_number(path: Path, name: str, unit: int) -> int | None:
    """Return the number behind a name in a file of such lines."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for words in map(str.split, lines):
        if words and words[0] == name:
            return int(words[1]) * unit
    return None


def _mac_memory() -> int | None:
    import ctypes

    size, length = ctypes.c_uint64(0), ctypes.c_size_t(8)
    library = ctypes.CDLL(None)
    failed = library.sysctlbyname(
        b"hw.memsize", ctypes.byref(size), ctypes.byref(length), None, ctypes.c_size_t(0)
    )
    return None if failed else int(size.value)


def _windows_memory() -> int | None:
    import ctypes

    class MemoryStatus(ctypes.Structure):
        """MEMORYSTATUSEX of the Windows API."""

        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total_physical", ctypes.c_uint64),
            ("available_physical", ctypes.c_uint64),
            ("total_page_file", ctypes.c_uint64),
            ("available_page_file", ctypes.c_uint64),
            ("total_virtual", ctypes.c_uint64),
            ("available_virtual", ctypes.c_uint64),
            ("available_extended", ctypes.c_uint64),
        )

    status = MemoryStatus()
    status.length = ctypes.sizeof(MemoryStatus)
    libraries: Any = getattr(ctypes, "windll")  # noqa: B009  # exists on Windows only
    succeeded = libraries.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.available_physical) if succeeded else None
