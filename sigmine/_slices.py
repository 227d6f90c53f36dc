"""Text files in slices of whole lines or whole records, for files that are larger than memory.

A slice has been looked at as `sigmine.files` looks at a whole file: plain text, UTF-8, lines ended
by newline, no compression; an error names the line in the file.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from .exceptions import FileFormatError
from .files import (
    _BYTE_ORDER_MARK,
    _SIGNATURES,
    _load,
    _looks_irregular,
    _raise_irregular,
    _records,
)

__all__ = ["TextSlice", "errors_from_line", "record_slices", "text_slices"]

_SLICE_BYTES = 2**21
_RECORDS_BYTES = 2**21  # of a table: checked and parsed, it takes about thirty times as much
# A line put behind a slice: a quoted value that is still open takes it in. No text has zero bytes.
_SENTINEL = "\0"


class TextSlice(NamedTuple):
    """Consecutive lines of a file.

    Attributes
    ----------
    first_line : int
        Number of the first of them, counted from 1.
    data : bytes
        Ends with a newline, unless the file does not.
    """

    first_line: int
    data: bytes


@contextmanager
def errors_from_line(first_line: int) -> Iterator[None]:
    """Count the lines of errors from the start of the file, not of the slice.

    Parameters
    ----------
    first_line : int
        Line of the file that the slice begins with.
    """
    try:
        yield
    except FileFormatError as error:
        if error.line is None:
            raise
        message = str(error).removeprefix(f"{error.path}, line {error.line}: ")
        line = error.line + first_line - 1
        raise FileFormatError(message, path=error.path, line=line) from None


def text_slices(path: Path, size: int = _SLICE_BYTES) -> Iterator[TextSlice]:
    """Read a text file a slice at a time.

    Parameters
    ----------
    path : Path
        UTF-8 text, or that compressed by gzip (.gz).
    size : int, default=2 MiB
        Bytes of a slice, about; more only where a line is longer.

    Yields
    ------
    TextSlice
        Whole lines.

    Raises
    ------
    FileFormatError
        If the file is empty, compressed and cut off, or not text; once reading comes to the place.
    InputError
        If there is no such file, or it may not be read.
    """
    old_line_ends = _has_old_line_ends(path)
    line, blank = 1, True
    pieces: list[bytes] = []  # of a line that has not ended yet, and blank lines at the start
    for chunk in _chunks(path, size):
        if line == 1 and not pieces:
            _refuse_other_formats(path, chunk)
            chunk = chunk.removeprefix(_BYTE_ORDER_MARK)
        if old_line_ends:
            chunk = chunk.replace(b"\r", b"\n")
        blank = blank and not chunk.strip()
        end = chunk.rfind(b"\n") + 1
        if end and not blank:
            data = b"".join([*pieces, chunk[:end]])
            yield _checked(path, line, data)
            line += data.count(b"\n")
            chunk, pieces = chunk[end:], []
        pieces.append(chunk)
    if blank:
        raise FileFormatError(
            f"the file is empty ({path.stat().st_size} bytes); expected data. Get or write it "
            "again.",
            path=str(path),
        )
    if rest := b"".join(pieces):
        yield _checked(path, line, rest)


def _open(path: Path) -> IO[bytes]:
    try:
        if path.suffix.lower() == ".gz":
            opened: IO[bytes] = gzip.open(path)  # type: ignore[assignment]  # noqa: SIM115
            return opened
        return path.open("rb")
    except OSError:
        _load(path)  # raises the error that says what to do
        raise


def _chunks(path: Path, size: int) -> Iterator[bytes]:
    """Read a file, decompressed, in chunks of one size."""
    with _open(path) as file:
        try:
            chunk = file.read(max(size, 64))  # what kind of file it is must be in the first one
            while chunk:
                yield chunk
                chunk = file.read(size)
        except EOFError:
            raise FileFormatError(
                "the compressed file is cut off before its end. Get it again.", path=str(path)
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FileFormatError(
                f"the name ends in .gz but the content is not gzip ({error}). Rename or "
                "recompress it.",
                path=str(path),
            ) from None


def _has_old_line_ends(path: Path) -> bool:
    """Say whether lines end in a carriage return alone, as those of old Macs do."""
    found = False
    for chunk in _chunks(path, _SLICE_BYTES):
        if b"\n" in chunk:
            return False
        found = found or b"\r" in chunk
    return found


def _refuse_other_formats(path: Path, start: bytes) -> None:
    found = next((what for magic, what in _SIGNATURES.items() if start.startswith(magic)), None)
    if found is not None:
        raise _not_text(path, found)


def _not_text(path: Path, found: str) -> FileFormatError:
    return FileFormatError(
        f"the file is not what its name says: it is {found}; expected plain text. Rename it "
        "to its own suffix (.parquet, .csv.gz), or export it as UTF-8 text.",
        path=str(path),
    )


def _checked(path: Path, line: int, data: bytes) -> TextSlice:
    if b"\0" in data:
        raise _not_text(path, "binary (it has zero bytes)")
    try:
        if not data.isascii():
            data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"byte {data[error.start]:#04x} is not UTF-8 text. Save the file as UTF-8, for "
            f"example with: iconv -f latin1 -t utf-8 {path.name} > new-file",
            path=str(path),
            line=line + data.count(b"\n", 0, error.start),
        ) from None
    return TextSlice(line, data)


def record_slices(path: Path, delimiter: str, n_fields: int, skip: int) -> Iterator[TextSlice]:
    """Read the records of a table a slice at a time, each with the right number of fields.

    Parameters
    ----------
    path : Path
        The file.
    delimiter : str
        What separates fields.
    n_fields : int
        Fields of every record, at least 2.
    skip : int
        Lines of the header, which are left out.

    Yields
    ------
    TextSlice
        Whole records and blank lines; quoted values with line breaks are not cut in two.

    Raises
    ------
    FileFormatError
        If a record has another number of fields or a quote is never closed; with the line.
    """
    # What `_raise_irregular` is shown before the records: it gives advice about the second line of
    # a file, so that records must not stand there in a slice.
    before = b"\n\n"
    line, rest = skip + 1, b""
    for first_line, data in text_slices(path, _RECORDS_BYTES):
        if first_line <= skip:
            start = _line_start(data, skip - first_line + 1)
            before, data = data[:start] if first_line == 1 else before, data[start:]
        data = rest + data
        regular = not _looks_irregular(data, delimiter, n_fields)
        end = len(data) if regular or b'"' not in data else _end_of_records(data, delimiter)
        whole, rest = data[:end], data[end:]
        if whole:
            if not regular:
                with errors_from_line(line - before.count(b"\n")):
                    _raise_irregular(path, before + whole, delimiter, n_fields)
            yield TextSlice(line, whole)
            before = b"\n\n"
            line += whole.count(b"\n")
    if rest:
        raise FileFormatError(
            "a quoted value that begins here is never closed: the file is cut off or a quote is "
            "missing. Get it again, or repair the line.",
            path=str(path),
            line=line,
        )


def _end_of_records(data: bytes, delimiter: str) -> int:
    """Return where the last record begins if it is cut by the end of the data, else their end."""
    end = b"" if data.endswith(b"\n") else b"\n"
    records: Any = _records(data + end + _SENTINEL.encode(), delimiter)
    line = 0  # lines before the record
    try:
        for record in records:
            if record and record[-1].endswith(_SENTINEL) and record != [_SENTINEL]:
                return _line_start(data, line)
            line = records.line_num
    except csv.Error:  # `_raise_irregular` says where
        pass
    return len(data)


def _line_start(data: bytes, n_lines: int) -> int:
    """Return where the line behind the first `n_lines` begins, as csv counts lines."""
    if n_lines == 0:
        return 0
    ends = re.finditer(rb"\r\n|\n|\r", data)
    last = next(islice(ends, n_lines - 1, None), None)
    return len(data) if last is None else last.end()
