"""What a long search has found so far, in a folder, so that another run can go on from there.

A folder belongs to one search. ``search.json`` says which one it is and how far it has come, and
names the files of numbers, one a pass, with their hashes. Files are written whole or not at all,
and the old ones are removed only after ``search.json`` names the new ones: whatever happens in
between, the folder holds one complete state.

Files that come from elsewhere are not trusted: they hold plain numbers (no pickle), and every shape
and range is checked before a number is used as an index.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .._atomic import atomic_path, atomic_write
from .._version import __version__
from ..bitset import BitTable
from ..exceptions import FileFormatError, InputError, InputTypeError
from ..settings import SearchSettings
from .layout import CANDIDATE, CARRIERS, CASES, N_CLOSED, N_PATH, SAMPLED, SUPPORT, WHAT
from .rounds import Frame
from .tasks import Plan
from .worker import Part, Task

__all__ = ["Checkpoint", "SavedPass", "SavedSearch", "fingerprint"]

_FORMAT = "sigmine-checkpoint-1"
_NAME = "search.json"
_STAGES = ("threshold", "collect", "summit")  # in the order of a search


class Checkpoint:
    """A folder in which a search keeps what it has found so far.

    Parameters
    ----------
    folder : str or path-like
        Made if it does not exist; for one search only.
    seconds : float, default=30.0
        Between two saves, about: what is lost at most when a search is killed. After Ctrl-C or a
        time limit it is a few seconds.

    Examples
    --------
    >>> Checkpoint("my-search", seconds=60.0).seconds
    60.0
    """

    def __init__(self, folder: str | os.PathLike[str], seconds: float = 30.0) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise InputTypeError(
                f"checkpoint={folder!r} must be the path of a folder (or a "
                "sigmine.search.Checkpoint, which also says how often to save)."
            )
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise InputError(
                f"seconds={seconds!r} must be a number of at least 0: the time between two saves."
            )
        self.folder = Path(folder)
        self.seconds = float(seconds)

    @classmethod
    def of(cls, value: str | os.PathLike[str] | Checkpoint) -> Checkpoint:
        """Return a checkpoint, made from a path if that is what was given."""
        return value if isinstance(value, Checkpoint) else cls(value)

    @property
    def last_saved(self) -> float | None:
        """When something was last saved, as from ``time.time``; None if nothing was, so far."""
        try:
            return (self.folder / _NAME).stat().st_mtime
        except OSError:
            return None


@dataclass(frozen=True)
class SavedPass:
    """What a pass has found so far.

    Attributes
    ----------
    stage : str
        "threshold", "collect" or "summit".
    plan : Plan
        Its tasks.
    finished : ndarray of bool, shape (n_tasks,)
        Those that are done.
    part : Part
        What was met in them, and nothing else.
    """

    stage: str
    plan: Plan
    finished: NDArray[np.bool_]
    part: Part


def fingerprint(table: BitTable, settings: SearchSettings) -> str:
    """Return a hash of everything that the answer of a search depends on.

    Parameters
    ----------
    table : BitTable
        Items, cases and strata.
    settings : SearchSettings
        What is asked.

    Returns
    -------
    str
        SHA-256 in hexadecimal digits.
    """
    digest = hashlib.sha256(_FORMAT.encode())
    digest.update(json.dumps(settings.to_dict(), sort_keys=True).encode())
    for array in (table.columns, table.cases, table.segments, table.masks, table.sizes):
        digest.update(str((array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class SavedSearch:
    """The state of one search in its folder.

    Parameters
    ----------
    checkpoint : Checkpoint
        The folder.
    frame : Frame
        The search.

    Attributes
    ----------
    passes : list of SavedPass
        What an earlier run has left; only the last one may be unfinished.
    seconds : float
        How long earlier runs took.

    Raises
    ------
    InputError
        If the folder cannot be used, or belongs to another search.
    FileFormatError
        If a file in it is damaged.
    """

    def __init__(self, checkpoint: Checkpoint, frame: Frame) -> None:
        self._folder, self._seconds_between = checkpoint.folder, checkpoint.seconds
        self._frame = frame
        self._fingerprint = fingerprint(frame.prepared.table, frame.settings)
        self._entries: list[dict[str, Any]] = []
        self.passes: list[SavedPass] = []
        self.seconds = 0.0
        _make_folder(self._folder)
        if (self._folder / _NAME).exists():
            self._load()
        self._started = self._last = time.monotonic()

    def of_stage(self, number: int, stage: str) -> SavedPass:
        """Return what an earlier run has left of a pass.

        Raises
        ------
        FileFormatError
            If it is that of another stage.
        """
        saved = self.passes[number]
        if saved.stage != stage:
            _Damage(self._folder).fail(_NAME, f"pass {number} is {saved.stage!r}, not {stage!r}")
        return saved

    @property
    def is_due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self._seconds_between

    def save(self, number: int, state: SavedPass) -> None:
        """Write the state of a pass; those before it stay as they are.

        Parameters
        ----------
        number : int
            Of the pass.
        state : SavedPass
            What it has found.

        Raises
        ------
        OSError
            If the disk is full: what was saved before is unchanged.
        """
        before = {entry["file"] for entry in self._entries}
        entry = _write_pass(self._folder, state)
        self._entries = [*self._entries[:number], entry]
        settings, table = self._frame.settings, self._frame.prepared.table
        content = {
            "format": _FORMAT,
            "version": __version__,
            "fingerprint": self._fingerprint,
            "settings": settings.to_dict(),
            "n_rows": table.n_rows,
            "n_items": table.n_items,
            "n_strata": table.n_strata,
            "seconds": self.seconds + time.monotonic() - self._started,
            "passes": self._entries,
        }
        atomic_write(self._folder / _NAME, json.dumps(content, indent=1) + "\n")
        for name in before - {entry["file"] for entry in self._entries}:
            with suppress(OSError):
                (self._folder / name).unlink()
        self._last = time.monotonic()

    def _load(self) -> None:
        path = self._folder / _NAME
        damaged = _Damage(self._folder)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            damaged.fail(_NAME, "it is not JSON")
        damaged.require(isinstance(content, dict), _NAME, "it holds no table of values")
        form, version = content.get("format"), content.get("version")
        if form != _FORMAT or version != __version__:
            raise InputError(
                f"{self._folder} holds a search of sigmine {version!r} (format {form!r}); this is "
                f"sigmine {__version__!r} ({_FORMAT!r}). Finish it with that version, or give "
                "another folder for checkpoint."
            )
        if content.get("fingerprint") != self._fingerprint:
            raise InputError(self._describe_other(content))
        seconds, entries = content.get("seconds"), content.get("passes")
        damaged.require(
            isinstance(seconds, int | float) and 0 <= seconds < np.inf, _NAME, "seconds are missing"
        )
        damaged.require(
            isinstance(entries, list)
            and 1 <= len(entries) <= len(_STAGES)
            and all(_is_entry(entry) for entry in entries),
            _NAME,
            "its list of passes is not complete",
        )
        self.passes = [_read_pass(self._folder, entry, self._frame) for entry in entries]
        order = [_STAGES.index(saved.stage) for saved in self.passes]
        damaged.require(
            order[0] == 0
            and order == sorted(set(order))
            and all(saved.finished.all() for saved in self.passes[:-1]),
            _NAME,
            "its passes are not in order",
        )
        self.seconds, self._entries = float(seconds), entries

    def _describe_other(self, content: dict[str, Any]) -> str:
        """Say what is different."""
        table, settings = self._frame.prepared.table, self._frame.settings.to_dict()
        mine = {"n_rows": table.n_rows, "n_items": table.n_items, "n_strata": table.n_strata}
        different = [
            f"{name} {content.get(name)!r} there, {value!r} here"
            for name, value in mine.items()
            if content.get(name) != value
        ]
        theirs = content.get("settings")
        if isinstance(theirs, dict):
            different += [
                f"{name}={theirs.get(name)!r} there, {value!r} here"
                for name, value in settings.items()
                if theirs.get(name) != value
            ]
        what = "; ".join(different) or "same size and settings, but other values"
        return (
            f"{self._folder} holds the checkpoint of another search ({what}). A checkpoint "
            "continues the same search of the same data only: give another folder, or delete this "
            "one."
        )


class _Damage:
    """Refuses what a file holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fail(self, name: str, what: str) -> NoReturn:
        raise FileFormatError(
            f"this checkpoint is damaged: {what}. Nothing in it was used; delete the folder "
            f"{self._folder} to start the search anew.",
            path=str(self._folder / name),
        )

    def require(self, condition: Any, name: str, what: str) -> None:
        if not condition:
            self.fail(name, what)


def _make_folder(folder: Path) -> None:
    """Make the folder, and find out now whether files can be written."""
    if folder.exists() and not folder.is_dir():
        raise InputError(
            f"checkpoint={str(folder)!r} is a file; expected a folder. Choose another name."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder} for the checkpoint cannot be made ({error.strerror}). Choose "
            "another place."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"the folder {folder} for the checkpoint may not be written to. Change its "
            "permissions or choose another."
        )
    others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if others and not (folder / _NAME).exists() and not all(map(_is_file_name, others)):
        raise InputError(
            f"the folder {folder} holds other files ({others[0]!r}) and no checkpoint. Give an "
            "empty or a new one: files of a checkpoint are replaced and removed."
        )


def _is_file_name(name: Any) -> bool:
    """Say whether a name is one that `_write_pass` gives; it can lead to no other folder."""
    if not isinstance(name, str) or not name.endswith(".npz") or not name.isascii():
        return False
    stage, _, code = name.removesuffix(".npz").partition("-")
    return stage in _STAGES and code.isalnum()


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and _is_file_name(entry.get("file"))
        and entry.get("stage") in _STAGES
        and isinstance(entry.get("sha256"), str)
    )


def _write_pass(folder: Path, state: SavedPass) -> dict[str, Any]:
    part = state.part
    numbers = np.array([part.level, part.visited, part.sample_mask], dtype=np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "numbers": numbers,
        "marks": np.array([part.most, part.window], dtype=np.float64),
        "counts": part.counts,
        "values": part.values,
        "evidence": part.evidence,
        "found": part.found,
        "items": part.items,
        "tasks": np.array(state.plan.tasks, dtype=np.int64).reshape(-1, 4),
        "weights": state.plan.weights,
        "finished": state.finished,
    }
    name = f"{state.stage}-{secrets.token_hex(8)}.npz"
    path = folder / name
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
    return {"stage": state.stage, "file": name, "sha256": digest}


def _read_pass(folder: Path, entry: dict[str, Any], frame: Frame) -> SavedPass:
    """Read and check the numbers of a pass."""
    name = entry["file"]
    damaged = _Damage(folder)
    try:
        content = (folder / name).read_bytes()
    except OSError:
        damaged.fail(name, "it is missing or cannot be read")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        damaged.fail(name, "its content is not what was written (its hash differs)")
    n_strata, n_items = frame.prepared.table.n_strata, len(frame.prepared.data.root_cand)
    n_columns = SUPPORT + 2 * n_strata

    def require(condition: Any, what: str) -> None:
        damaged.require(condition, name, what)

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            read = {
                key: _read_array(archive, key, dtype, n_dimensions)
                for key, (dtype, n_dimensions) in _ARRAYS.items()
            }
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        damaged.fail(name, f"an array cannot be read ({error})")
    numbers, marks, tasks = read["numbers"], read["marks"], read["tasks"]
    require(numbers.shape == (3,) and marks.shape == (2,), "it lacks numbers")
    require(tasks.shape[1] == 4 and read["found"].shape[1] == n_columns, "an array is too narrow")
    level, visited, sample_mask = numbers.tolist()
    part = Part(
        level=level,
        counts=read["counts"],
        visited=visited,
        most=float(marks[0]),
        window=float(marks[1]),
        values=read["values"],
        sample_mask=sample_mask,
        evidence=read["evidence"],
        found=read["found"],
        items=read["items"],
    )
    plan = Plan([Task(*task) for task in tasks.tolist()], read["weights"])
    _check_plan(plan, read["finished"], n_items, require)
    _check_numbers(part, len(frame.ladder.rungs), require)
    _check_records(part, frame.prepared.table, n_items, require)
    return SavedPass(entry["stage"], plan, read["finished"], part)


_ARRAYS: dict[str, tuple[type[np.generic], int]] = {
    "numbers": (np.int64, 1),
    "marks": (np.float64, 1),
    "counts": (np.int64, 1),
    "values": (np.float64, 1),
    "evidence": (np.float64, 1),
    "found": (np.int64, 2),
    "items": (np.int64, 1),
    "tasks": (np.int64, 2),
    "weights": (np.float64, 1),
    "finished": (np.bool_, 1),
}


def _read_array(
    archive: zipfile.ZipFile, key: str, dtype: type[np.generic], n_dimensions: int
) -> NDArray[Any]:
    """Read one array, of this type and no other, no larger than its file."""
    info = archive.getinfo(f"{key}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{key} is compressed")
    stream = io.BytesIO(archive.read(info))
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"{key} has another format")
    shape, fortran, found = np.lib.format.read_array_header_1_0(stream)
    if found != np.dtype(dtype) or fortran or len(shape) != n_dimensions:
        raise ValueError(f"{key} has another type or shape")
    rest = stream.read()
    n_bytes = int(np.dtype(dtype).itemsize)
    for length in shape:
        n_bytes *= int(length)
    if len(rest) != n_bytes or min(shape) < 0:
        raise ValueError(f"{key} is cut off")
    if dtype is np.bool_ and rest.translate(None, b"\x00\x01"):
        raise ValueError(f"{key} holds something else than truth values")
    return np.frombuffer(rest, dtype=dtype).reshape(shape).copy()


Require = Callable[[Any, str], None]


def _check_plan(plan: Plan, finished: NDArray[np.bool_], n_items: int, require: Require) -> None:
    """Require that the tasks cover every item once."""
    weights = plan.weights
    require(len(plan.tasks) == len(weights) == len(finished), "tasks are missing")
    sound = bool(np.isfinite(weights).all() and (weights >= 0).all())
    require(sound and (not len(weights) or abs(weights.sum() - 1.0) < 1e-6), "weights are not 1")
    item, share = 0, 0
    for task in plan.tasks:
        split = task.n_shares > 1
        covers = task.first == item and item < task.last <= n_items and task.n_shares >= 1
        require(covers and task.share == share, "its tasks do not cover the search")
        require(not split or task.last == item + 1, "its tasks do not cover the search")
        share = share + 1 if split and share + 1 < task.n_shares else 0
        item = item if share else task.last
    require(item == n_items and share == 0, "its tasks do not cover the search")


def _check_numbers(part: Part, n_buckets: int, require: Require) -> None:
    """Require numbers that a search can have."""
    require(len(part.counts) == n_buckets and (part.counts >= 0).all(), "counts are out of range")
    require(0 <= part.level < n_buckets and part.visited >= 0, "numbers are out of range")
    mask = part.sample_mask
    require(0 <= mask < 2**62 and mask & (mask + 1) == 0, "the sample is out of range")
    require(not np.isnan(part.most) and not np.isnan(part.window), "marks are not numbers")
    for values in (part.values, part.evidence):
        require(np.isfinite(values).all() and (values >= 0).all(), "evidence is out of range")


def _check_records(part: Part, table: BitTable, n_items: int, require: Require) -> None:
    """Require records whose numbers may be used as indices."""
    found, n_strata = part.found, table.n_strata
    require(len(found) == len(part.evidence), "records are missing")
    lengths = found[:, [N_PATH, N_CLOSED]]
    candidates = found[:, WHAT] & CANDIDATE > 0  # of the sample only the counts are there
    require(
        (lengths >= 0).all()
        and (lengths <= n_items).all()
        and (lengths[candidates, 0] >= 1).all()
        and int(lengths.sum()) == len(part.items),
        "items are missing",
    )
    require((part.items >= 0).all() and (part.items < n_items).all(), "there are no such items")
    x, a = found[:, SUPPORT : SUPPORT + n_strata], found[:, SUPPORT + n_strata :]
    require(
        (x >= 0).all()
        and (x <= table.sizes).all()
        and (a >= np.maximum(0, x - table.sizes + table.case_sizes)).all()
        and (a <= np.minimum(x, table.case_sizes)).all(),
        "carriers are out of range",
    )
    require(
        (found[:, CARRIERS] == x.sum(axis=1)).all()
        and (found[:, CASES] == a.sum(axis=1)).all()
        and (found[:, WHAT] >= 1).all()
        and (found[:, WHAT] & ~(CANDIDATE | SAMPLED) == 0).all(),
        "records contradict themselves",
    )
