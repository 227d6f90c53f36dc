"""Tables from files in blocks of rows: CSV, TSV and Parquet, for files larger than memory."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ._frames import listed
from ._slices import record_slices, text_slices
from .exceptions import FileFormatError
from .files import _DELIMITERS, _format_of, _header, _is_blank, _read_parquet, _records

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableSource", "open_table"]

_BATCH_ROWS = 2**16


class TableSource(Protocol):
    """A table that can be read several times, a block of rows after the other.

    Attributes
    ----------
    path : Path
        The file.
    names : list of str
        Its columns.
    is_text : bool
        Whether types are guessed from the values, for every block anew.
    """

    path: Path
    names: list[str]
    is_text: bool

    def blocks(
        self, columns: Sequence[str], as_text: Collection[str] = ()
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows of some columns, block by block; other columns may have other blocks.

        Parameters
        ----------
        columns : sequence of str
            What to read; in this order.
        as_text : collection of str, optional
            Columns of a text file whose values are not to be interpreted.
        """


def open_table(path: Path, format: str | None) -> TableSource:
    """Look at the start of a table.

    Parameters
    ----------
    path : Path
        CSV, TSV (which may be compressed) or Parquet.
    format : {"csv", "tsv", "parquet"} or None
        Format of the file, if its suffix does not say.

    Returns
    -------
    TableSource

    Raises
    ------
    FileFormatError
        If the header, or the end of a Parquet file, cannot be read.
    InputError
        If there is no such file, the format is not known, or pyarrow is needed and missing.
    """
    kind = _format_of(path, format)
    return _ParquetTable(path) if kind == "parquet" else _TextTable(path, _DELIMITERS[kind])


class _TextTable:
    """A table as text, with a header."""

    is_text = True

    def __init__(self, path: Path, delimiter: str) -> None:
        self.path, self._delimiter = path, delimiter
        start = next(text_slices(path)).data
        self.names = _header(path, start, delimiter)
        records: Any = _records(start, delimiter)
        next(record for record in records if not _is_blank(record))
        self._header_lines = records.line_num

    def blocks(
        self, columns: Sequence[str], as_text: Collection[str] = ()
    ) -> Iterator[pd.DataFrame]:
        import pandas as pd

        n_rows = 0
        for line, data in record_slices(
            self.path, self._delimiter, len(self.names), self._header_lines
        ):
            if not data.strip():
                continue
            try:
                frame = pd.read_csv(
                    io.BytesIO(data),
                    sep=self._delimiter,
                    header=None,
                    names=self.names,
                    usecols=list(columns),
                    dtype=dict.fromkeys(as_text, str),
                    encoding="utf-8",
                    skipinitialspace=True,
                    index_col=False,
                    low_memory=False,
                )
            except (pd.errors.ParserError, ValueError) as error:
                raise FileFormatError(
                    f"the rows from this line on cannot be read ({error}). Open the file in an "
                    "editor at the place named.",
                    path=str(self.path),
                    line=line,
                ) from error
            n_rows += len(frame)
            yield frame[list(columns)]
        if not n_rows:
            raise FileFormatError(
                f"a header with {len(self.names)} columns ({listed(self.names, 4)}) but no rows; "
                "expected at least one row.",
                path=str(self.path),
            )


class _ParquetTable:
    """A table in a Parquet file; its columns have one type each."""

    is_text = False

    def __init__(self, path: Path) -> None:
        self.path = path
        file = self._open()
        if repeated := [
            repr(name) for name, n in Counter(file.schema_arrow.names).items() if n > 1
        ]:
            raise FileFormatError(
                f"more than one column is called {listed(repeated)}; column names must differ.",
                path=str(path),
            )
        # What pandas wrote as an index is no column.
        self.names = list(map(str, file.schema_arrow.empty_table().to_pandas().columns))
        if not file.metadata.num_rows or not self.names:
            _read_parquet(path)  # raises the error of a table without rows or columns

    def _open(self) -> Any:
        try:
            import pyarrow.parquet as pq

            return pq.ParquetFile(self.path, pre_buffer=False)
        except (ImportError, OSError, ValueError):
            _read_parquet(self.path)  # raises the error that says what is wrong
            raise

    def blocks(
        self, columns: Sequence[str], as_text: Collection[str] = ()
    ) -> Iterator[pd.DataFrame]:
        import pyarrow as pa

        try:
            for batch in self._open().iter_batches(_BATCH_ROWS, columns=list(columns)):
                yield batch.to_pandas()[list(columns)]
        except (pa.ArrowException, OSError) as error:
            raise FileFormatError(
                f"the Parquet file is damaged ({error}). Get or write it again.",
                path=str(self.path),
            ) from error
