"""Tables, transactions and values from files, and files written whole or not at all.

A file is looked at before it is parsed: one that is not what its name says, is empty, or is cut
off gets an error with the line. Nothing is ever unpickled.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from ._atomic import atomic_path, atomic_write, require_writable
from ._fimi import MAX_DIGITS, digit_runs, item_blocks, numbers_at, sparse_items
from ._frames import listed
from .exceptions import DataWarning, FileFormatError, InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "atomic_path",
    "atomic_write",
    "read_fimi",
    "read_table",
    "read_values",
    "require_writable",
]

FORMATS = ("csv", "tsv", "parquet")
_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".pq": "parquet"}
_DELIMITERS = {"csv": ",", "tsv": "\t"}

# First bytes of files that are often found under the name of another.
_SIGNATURES = {
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "compressed with gzip",
    b"PK\x03\x04": "a zip archive or a spreadsheet (.xlsx, .ods)",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls)",
    b"BZh91AY": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstandard",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SLICE = 2**22  # bytes looked at in one go: bounds the memory of the checks
_MISSING_TEXTS = frozenset({"NA", "N/A", "NaN", "nan", "null", "NULL", "None", "<NA>"})


def read_table(path: str | os.PathLike[str], *, format: str | None = None) -> pd.DataFrame:
    """Read a table from a CSV, TSV or Parquet file.

    Parameters
    ----------
    path : str or path-like
        The file. Text is UTF-8, with a header line; it may be compressed (".csv.gz").
    format : {"csv", "tsv", "parquet"}, optional
        Format of the file, if its suffix (.csv, .tsv, .tab, .parquet, .pq) does not say.

    Returns
    -------
    pandas.DataFrame
        One row a record, at least one. Cells that are empty or read NA, N/A, NaN, None or null
        are missing. Blank lines are skipped, except in a table of one column.

    Raises
    ------
    FileFormatError
        If the file is empty, is not what its name says, is cut off, has a line with another
        number of fields than the header, bytes that are not UTF-8, columns without a name or of
        one name, or no rows. The message gives the line.
    InputError
        If there is no such file, the format is not known, or pyarrow is needed and missing.

    Warns
    -----
    DataWarning
        If the first column has no name and numbers or names the rows: it is left out.

    Notes
    -----
    pandas pads short lines with missing values and renames repeated columns without a word,
    which is why the lines are counted here first. Needs memory for the text and the table.
    """
    path = Path(path)
    kind = _format_of(path, format)
    if kind == "parquet":
        return _read_parquet(path)
    return _read_text_table(path, _load_text(path), _DELIMITERS[kind])


def read_columns(path: str | os.PathLike[str], *, format: str | None = None) -> Any:
    """Return the columns of `read_table`; a small table of whole numbers as a dict of arrays.

    Without pandas, which takes as long to import as a small search.
    """
    path = Path(path)
    kind = _format_of(path, format)
    if kind == "parquet":
        return _read_parquet(path)
    data, delimiter = _load_text(path), _DELIMITERS[kind]
    columns = _whole_numbers(path, data, delimiter)
    return _read_text_table(path, data, delimiter) if columns is None else columns


def _whole_numbers(path: Path, data: bytes, delimiter: str) -> dict[str, NDArray[Any]] | None:
    """Parse a table whose cells are all digits; None if it is another one, or large."""
    header_end = data.find(b"\n") + 1
    if len(data) > _SLICE or b'"' in data or not data[:header_end].strip():
        return None
    header = _header(path, data, delimiter)
    if not header[0] or _looks_irregular(data, delimiter, len(header)):
        return None
    body = data[header_end:].replace(b"\r\n", b"\n")
    octets = np.frombuffer(body, dtype=np.uint8)
    is_digit = (octets >= ord("0")) & (octets <= ord("9"))
    if not (is_digit | (octets == ord(delimiter)) | (octets == ord("\n"))).all():
        return None
    starts, stops = digit_runs(is_digit)
    n_rows = int((octets == ord("\n")).sum()) + (not data.endswith(b"\n"))
    # A cell has one run of digits, or it is empty.
    if not n_rows or len(starts) != n_rows * len(header) or (stops - starts).max() > MAX_DIGITS:
        return None
    values = numbers_at(body, starts, stops).reshape(n_rows, len(header))
    return {name: np.ascontiguousarray(values[:, j]) for j, name in enumerate(header)}


def _format_of(path: Path, format: str | None) -> str:
    if format is not None:
        if format not in FORMATS:
            raise InputError(f"format={format!r} is not known; choose one of {', '.join(FORMATS)}.")
        return format
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    if suffixes and suffixes[-1] in _SUFFIXES:
        return _SUFFIXES[suffixes[-1]]
    hint = "Give its format, one of csv, tsv, parquet."
    if suffixes[-1:] in ([".dat"], [".fimi"]):
        hint = "Read transactions (items of one subject a line) with read_fimi."
    raise InputError(
        f"{path} has a suffix that is not known as a table; known are "
        f"{', '.join(_SUFFIXES)}, and .csv.gz. {hint}"
    )


def _load(path: Path) -> bytes:
    """Read a file that must exist and not be empty."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a file. Name one of the files in it.")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist (from folder {Path.cwd()}). Check its name and folder."
        ) from None
    except PermissionError:
        raise InputError(f"{path} may not be read. Change its permissions (chmod +r).") from None
    return _not_empty(path, data)


def _not_empty(path: Path, data: bytes) -> bytes:
    if not data.strip():
        raise FileFormatError(
            f"the file is empty ({len(data)} bytes); expected data. Get or write it again.",
            path=str(path),
        )
    return data


def _load_text(path: Path) -> bytes:
    """Return the bytes of a text file, decompressed, valid UTF-8, lines ended by newline."""
    data = _load(path)
    if path.suffix.lower() == ".gz":
        data = _decompress(path, data)
    found = next((what for magic, what in _SIGNATURES.items() if data.startswith(magic)), None)
    if found is None and b"\0" in data:
        found = "binary (it has zero bytes)"
    if found is not None:
        raise FileFormatError(
            f"the file is not what its name says: it is {found}; expected plain text. Rename it "
            "to its own suffix (.parquet, .csv.gz), or export it as UTF-8 text.",
            path=str(path),
        )
    data = _not_empty(path, data.removeprefix(_BYTE_ORDER_MARK))
    try:
        if not data.isascii():
            data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileFormatError(
            f"byte {data[error.start]:#04x} is not UTF-8 text. Save the file as UTF-8, for "
            f"example with: iconv -f latin1 -t utf-8 {path.name} > new-file",
            path=str(path),
            line=line,
        ) from None
    # Lines of old Macs end in a carriage return alone.
    return data if b"\n" in data else data.replace(b"\r", b"\n")


def _decompress(path: Path, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except EOFError:
        raise FileFormatError(
            "the compressed file is cut off before its end. Get it again.", path=str(path)
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FileFormatError(
            f"the name ends in .gz but the content is not gzip ({error}). Rename or recompress it.",
            path=str(path),
        ) from None


def _read_text_table(path: Path, data: bytes, delimiter: str) -> pd.DataFrame:
    import pandas as pd

    header = _header(path, data, delimiter)
    if _looks_irregular(data, delimiter, len(header)):
        _raise_irregular(path, data, delimiter, len(header))
    try:
        frame = pd.read_csv(
            io.BytesIO(data),
            sep=delimiter,
            encoding="utf-8",
            skipinitialspace=True,
            index_col=False,
            low_memory=False,
        )
    except (pd.errors.ParserError, ValueError) as error:
        raise FileFormatError(
            f"the table cannot be read ({error}). Open it in an editor at the place named.",
            path=str(path),
        ) from error
    if not len(frame):
        raise FileFormatError(
            f"a header with {len(header)} columns ({listed(header, 4)}) but no rows; expected at "
            "least one row.",
            path=str(path),
        )
    frame.columns = pd.Index(header)
    if header[0] == "":
        return _without_row_names(path, frame)
    return frame


def _records(data: bytes, delimiter: str) -> Any:
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
    return csv.reader(text, delimiter=delimiter, skipinitialspace=True)


def _is_blank(record: list[str]) -> bool:
    return not any(record) and len(record) < 2


def _header(path: Path, data: bytes, delimiter: str) -> list[str]:
    """Return the column names; refuse a header that pandas would quietly repair."""
    try:
        header = next(record for record in _records(data, delimiter) if not _is_blank(record))
    except (csv.Error, StopIteration) as error:
        reason = str(error) or "it is blank"
        raise FileFormatError(
            f"the header cannot be read ({reason}); expected a line with the names of the columns.",
            path=str(path),
            line=1,
        ) from None
    header = [name.strip() for name in header]
    if len(header) == 1:
        for other, name in (("\t", "tabs"), (";", "semicolons"), (",", "commas")):
            if other in header[0]:
                raise FileFormatError(
                    f"the header {header[0][:60]!r} is one column that contains {name}; expected "
                    f"{'commas' if delimiter == ',' else 'tabs'} between columns. Give the right "
                    'format ("csv", "tsv"), or save the table with commas.',
                    path=str(path),
                    line=1,
                )
    if repeated := [repr(name) for name, n in Counter(header).items() if n > 1 and name]:
        raise FileFormatError(
            f"more than one column is called {listed(repeated)}; column names must differ. Rename "
            "them, or add a header line if the file has none.",
            path=str(path),
            line=1,
        )
    if unnamed := [str(i + 1) for i, name in enumerate(header) if not name and i]:
        raise FileFormatError(
            f"columns without a name: number {listed(unnamed)} of {len(header)}. Name them in "
            "the header line.",
            path=str(path),
            line=1,
        )
    return header


def _without_row_names(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out a first column without a name, as R and pandas write for row names."""
    if frame.iloc[:, 0].is_unique and frame.shape[1] > 1:
        warn(
            f"{path}: the first column has no name and a different value in every row, so it is "
            "taken for row names and left out. Name it in the header to use it.",
            DataWarning,
            stacklevel=4,
        )
        return frame.iloc[:, 1:]
    raise FileFormatError(
        "the first column has no name, and its values repeat, so that they are not row names. "
        "Name it in the header line.",
        path=str(path),
        line=1,
    )


def _looks_irregular(data: bytes, delimiter: str, n_fields: int) -> bool:
    """Say whether some line may have another number of fields than the header.

    Counts separators and line ends outside of quotes with numpy, many times faster than a
    parser. Blank lines and quotes in the middle of a field raise false alarms, so that an alarm
    is looked into by `_raise_irregular`.
    """
    if n_fields == 1:
        return True  # without separators there is nothing to count
    octets = np.frombuffer(data, dtype=np.uint8)
    starts = np.frombuffer(f'{delimiter}\n\r"'.encode(), dtype=np.uint8)
    inside = False  # within quotes at the start of the slice
    separators = 0  # so far, on the line that the slice begins with
    for start in range(0, len(octets), _SLICE):
        piece = octets[start : start + _SLICE]
        is_end = piece == ord("\n")
        is_separator = piece == ord(delimiter)
        is_quote = piece == ord('"')
        if inside or is_quote.any():
            quoted = np.logical_xor.accumulate(is_quote) ^ inside
            # A quote opens a value at its start only (or follows a quote: a doubled one inside);
            # anywhere else it is a plain character, and the count of quotes means nothing.
            opens = np.flatnonzero(is_quote & quoted)
            before = octets[start + opens[start + opens > 0] - 1]
            if not np.isin(before, starts).all():
                return True
            inside = bool(quoted[-1])
            is_end &= ~quoted
            is_separator &= ~quoted
        running = separators + np.cumsum(is_separator, dtype=np.int64)
        at_ends = running[is_end]
        if (np.diff(at_ends, prepend=0) != n_fields - 1).any():
            return True
        separators = int(running[-1]) - (int(at_ends[-1]) if len(at_ends) else 0)
    return inside or (not data.endswith(b"\n") and separators != n_fields - 1)


def _raise_irregular(path: Path, data: bytes, delimiter: str, n_fields: int) -> None:
    """Find the first line that does not fit the header; return if there is none after all."""
    records = _records(data, delimiter)
    n_lines = data.count(b"\n") + (not data.endswith(b"\n"))
    line = 1  # first line of the record
    blank_line = None
    try:
        for record in records:
            problem = None
            is_last = records.line_num >= n_lines
            if _is_blank(record):
                blank_line = line
            elif len(record) != n_fields:
                problem = _misfit(len(record), n_fields, line)
                if is_last and not data.endswith(b"\n") and len(record) < n_fields:
                    problem = (
                        f"{len(record)} fields where the header has {n_fields}, and no line end: "
                        "the file is cut off in the middle of its last line. Get it again."
                    )
            elif blank_line is not None and n_fields == 1:
                # pandas would skip it; of a single column it may stand for a missing value.
                line = blank_line
                problem = "a blank line among values. Write NA if it is missing, or remove it."
            if is_last and _never_closed(data, line, delimiter):
                problem = (
                    "a quoted value that begins here is never closed: the file is cut off or a "
                    "quote is missing. Get it again, or repair the line."
                )
            if problem is not None:
                raise FileFormatError(problem, path=str(path), line=line)
            line = records.line_num + 1
    except csv.Error as error:
        raise FileFormatError(
            f"the line cannot be read ({error}). Look for a quote that is not closed.",
            path=str(path),
            line=line,
        ) from None


def _never_closed(data: bytes, line: int, delimiter: str) -> bool:
    """Say whether the last record, which begins at `line`, ends within quotes."""
    if data.count(b'"') % 2 == 0:
        return False
    rest = data.split(b"\n", line - 1)[-1].decode("utf-8")
    try:
        list(csv.reader(io.StringIO(rest, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        return "end of data" in str(error)  # the other complaint is a quote within a field
    return False


def _misfit(found: int, n_fields: int, line: int) -> str:
    if found == n_fields + 1 and line == 2:
        hint = "If the first column holds row names, give it a name in the header"
    else:
        hint = "Repair the line, and quote values that contain the separator"
    return f"{found} fields where the header has {n_fields}. {hint}."


def _read_parquet(path: Path) -> pd.DataFrame:
    data_head = _load_ends(path)
    if data_head[0] != b"PAR1":
        raise FileFormatError(
            "the file is not what its name says: it does not begin as a Parquet file does. Give "
            'its format ("csv", "tsv") or get it again.',
            path=str(path),
        )
    if data_head[1] != b"PAR1":
        raise FileFormatError(
            "the Parquet file is cut off: its end is missing. Get or write it again.",
            path=str(path),
        )
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(
            f"{path} is a Parquet file, and pyarrow, which reads them, is not installed. Run: "
            "pip install sigmine[parquet]"
        ) from None
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise FileFormatError(
            f"the Parquet file is damaged ({error}). Get or write it again.", path=str(path)
        ) from error
    if repeated := [repr(name) for name, n in Counter(table.column_names).items() if n > 1]:
        raise FileFormatError(
            f"more than one column is called {listed(repeated)}; column names must differ.",
            path=str(path),
        )
    if not table.num_rows or not table.num_columns:
        raise FileFormatError(
            f"the table has {table.num_rows} rows and {table.num_columns} columns; expected at "
            "least one of each.",
            path=str(path),
        )
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _load_ends(path: Path) -> tuple[bytes, bytes]:
    """Return the first and the last four bytes of a file."""
    if not path.is_file() or path.stat().st_size < 8:
        data = _load(path)  # raises the error that fits, unless the file is merely short
        return data[:4], data[-4:]
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(-4, os.SEEK_END)
        return head, file.read(4)


def read_fimi(path: str | os.PathLike[str]) -> tuple[Any, tuple[str, ...]]:
    """Read transactions: the items of one row on each line, as numbers.

    Parameters
    ----------
    path : str or path-like
        Text file in the format of the FIMI repository (.dat; may be compressed, .dat.gz): every
        line holds whole numbers of at least 0 separated by white space, the ids of the
        items of a row. An empty line is a row without items; an id that is repeated on a line
        counts once.

    Returns
    -------
    matrix : scipy.sparse.csc_array of bool of shape (n_rows, n_items)
        Stored entries are all True; row indices ascend within a column.
    names : tuple of str of length n_items
        Ids of the items that occur, ascending.

    Raises
    ------
    FileFormatError
        If the file is empty, not text, or has something else than such a number: the message
        gives the line.
    InputError
        If there is no such file.
    """
    path = Path(path)
    matrix, ids = sparse_items(item_blocks(path, _load_text(path)))
    return matrix, tuple(map(str, ids.tolist()))


def read_values(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read the labels or the covariate that accompany transactions: one value a row.

    Parameters
    ----------
    path : str or path-like
        Text file with one value on each line, or all values on a single line separated by
        white space.

    Returns
    -------
    ndarray of shape (n_rows,)
        int64 if all values are whole numbers, float64 if all are numbers, else texts (object).

    Raises
    ------
    FileFormatError
        If the file is empty or not text, or has a blank line or a missing value (NA, NaN, None,
        null) between values: the message gives the line.
    InputError
        If there is no such file.
    """
    path = Path(path)
    text = _load_text(path).decode("utf-8").replace("\r\n", "\n").rstrip()
    values = [value.strip() for value in text.split("\n")]
    one_line = len(values) == 1
    if one_line:
        values = text.split()
    for i, value in enumerate(values):
        if not value or value in _MISSING_TEXTS:
            found = f"the missing value {value!r}" if value else "a blank line"
            raise FileFormatError(
                f"{found}; expected one value for every row. Fill it in, or leave the row out of "
                "all files.",
                path=str(path),
                line=1 if one_line else i + 1,
            )
    array = np.array(values, dtype=np.str_)
    for dtype in (np.int64, np.float64):
        try:
            return array.astype(dtype)
        except (ValueError, OverflowError):
            continue
    return array.astype(object)
