"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .exceptions import InputError

__all__ = ["atomic_path", "atomic_write", "require_writable"]

_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is too large for this disk",
}


def require_writable(path: str | os.PathLike[str]) -> Path:
    """Check that a file can be written, before any work is done for it.

    Parameters
    ----------
    path : str or path-like
        File to write; it need not exist, its folder must.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    InputError
        If the folder does not exist or may not be written to, or the path is a folder or a
        read-only file.
    """
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a file name. Add one, {path}/report.html.")
    if not folder.exists():
        raise InputError(
            f"the folder {folder} of {path.name} does not exist. Create it first (mkdir -p), or "
            "choose another."
        )
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder; {path.name} cannot be put there.")
    if path.exists():
        if not os.access(path, os.W_OK):
            raise InputError(f"{path} is read-only. Change its permissions or choose another name.")
        if not path.is_file():
            return path  # a device or a pipe is written directly
    if not os.access(path.resolve().parent, os.W_OK | os.X_OK):
        raise InputError(
            f"the folder {folder} may not be written to. Change its permissions or choose another."
        )
    return path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to, and move the file into place when all went well.

    Parameters
    ----------
    path : str or path-like
        File to write. A symbolic link is followed; devices and pipes are written directly.

    Yields
    ------
    Path
        Path of an empty file in the same folder, with the same suffix.

    Raises
    ------
    InputError
        If the file cannot be written, see `require_writable`.
    OSError
        If the disk is full; the message says so.

    Notes
    -----
    Whatever ends the block with an exception, an interrupt too, leaves a file that was there
    before unchanged and removes the temporary one. The data are on disk (fsync) before the
    name changes; the name changes in one step (rename). The permissions of the old file are kept.
    """
    target = require_writable(path).resolve()
    if target.exists() and not target.is_file():
        yield target
        return
    # The end of the name is kept, for writers that look at the suffix.
    temporary = target.with_name(f".sigmine-{secrets.token_hex(4)}-{target.name[-80:]}")
    existed = target.exists()
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if existed:
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        os.chmod(temporary, mode)  # a writer may have put a file of its own there
        _to_disk(temporary)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            state = "the file that was there is unchanged" if existed else "no file was written"
            raise OSError(
                error.errno,
                f"{_NO_ROOM[error.errno]}; {state}. Make room or choose another folder",
                str(path),
            ) from error
        raise
    with suppress(OSError):  # not every system can sync a folder; the data are safe already
        _to_disk(target.parent)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a file whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to write.
    data : str or bytes
        Its content; text is written as UTF-8 with its line ends as they are.

    Raises
    ------
    InputError
        If the file cannot be written, see `require_writable`.
    OSError
        If the disk is full: a file that was there before is unchanged.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
