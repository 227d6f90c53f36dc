"""Another program's command line: the files its template may name, and what it answered.

A template is filled as by `str.format`; braces that belong to the program are doubled. Fields:

===============  =================================================================================
{items} {fimi}   transactions: the item numbers of a row on each line
{labels}         0 or 1 a line
{strata}         a stratum a line
{values}         ``#row,value`` and then a row a line: number and label
{table}          ``#row,item,...`` and then a row a line: number and 0 or 1 an item
{matrix}         an item a line: 0 or 1 a row, separated by blanks
{rows} {cases}   how many rows, how many of them labelled 1
{support}        fewest rows of an itemset (``--min-support``)
{tmp}            an empty folder that is removed afterwards
{prefix}         the path of the data without endings
===============  =================================================================================

A later stage may also name what was read from the output of the stages before it: {count},
{threshold}, {significant} and the names given to ``--capture``. Standard library only.
"""

from __future__ import annotations

import math
import re
import shlex
import string
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import Cost, run_process

# Programs print thresholds with six or seven digits.
_RELATIVE_TOLERANCE = 1e-5
_LAST_LINES = 8


@dataclass(frozen=True)
class Program:
    """How another program is run and what is read from its output.

    Attributes
    ----------
    stages : sequence of str
        Templates of command lines, run one after the other; their costs are added.
    answers : sequence of str
        Templates of files that are read besides stdout.
    patterns : mapping of str to str
        Regular expressions by name, the first group is the value. "count", "threshold" and
        "significant" are compared with ours.
    slack : int
        Largest difference between two counts that is not refused: some programs count the itemset
        of all rows.
    limit_s : float
        Seconds a stage.
    """

    stages: Sequence[str]
    answers: Sequence[str] = ()
    patterns: Mapping[str, str] = field(default_factory=dict)
    slack: int = 0
    limit_s: float = 1800.0

    def run(self, files: DataFiles, tmp: Path, support: int | None) -> tuple[Cost, dict[str, str]]:
        """Run every stage; return what they cost together and what was read from the output."""
        fields = {"tmp": str(tmp), "support": "" if support is None else str(support)}
        found: dict[str, str] = {}
        costs: list[Cost] = []
        for stage in self.stages:
            command = shlex.split(files.fill(stage, {**fields, **found}))
            costs.append(run_process(command, directory=tmp, limit_s=self.limit_s))
            found |= self._read("".join(cost.output for cost in costs) + self._files(fields))
        self._require_all(found, costs[-1].output)
        total = Cost(
            sum(cost.wall_s for cost in costs),
            sum(cost.cpu_s for cost in costs),
            max(cost.peak_mb for cost in costs),
            costs[-1].output,
        )
        return total, found

    def _files(self, fields: Mapping[str, str]) -> str:
        """Return the text of the answer files that exist by now."""
        paths = (Path(template.format(**fields)) for template in self.answers)
        return "".join("\n" + path.read_text("utf-8", "replace") for path in paths if path.exists())

    def _read(self, text: str) -> dict[str, str]:
        """Find the patterns; several counts (one a size of itemsets, say) are added up."""
        found = {}
        for name, pattern in self.patterns.items():
            if matches := [match[1] for match in re.finditer(pattern, text, re.MULTILINE)]:
                found[name] = str(sum(map(int, matches))) if name == "count" else matches[-1]
        return found

    def _require_all(self, found: Mapping[str, str], output: str) -> None:
        if missing := [name for name in self.patterns if name not in found]:
            tail = "\n".join(output.splitlines()[-_LAST_LINES:])
            sys.exit(
                f"Nothing in the output of {self.stages[-1]!r} matches the pattern of "
                f"{', '.join(missing)}; expected a match with one group. Change the pattern or "
                f"name the file with the answer (--answer). Its last lines:\n{tail}"
            )


@dataclass(frozen=True)
class Answer:
    """What a search found, as far as it is known."""

    count: int | None = None
    threshold: float | None = None
    significant: int | None = None


def read_answer(found: Mapping[str, str]) -> Answer:
    """Turn the texts that a program's patterns found into numbers."""
    return Answer(
        int(found["count"]) if "count" in found else None,
        float(found["threshold"]) if "threshold" in found else None,
        int(found["significant"]) if "significant" in found else None,
    )


def refuse_different(data: str, who: str, theirs: Answer, ours: Answer, slack: int = 0) -> None:
    """End the comparison if two programs did not solve the same task.

    Parameters
    ----------
    data, who : str
        Names of the data and of the other program, for the message.
    theirs, ours : Answer
        What is None is not compared.
    slack : int, default=0
        Largest difference between counts that is accepted.
    """
    differ = []
    for name in ("count", "threshold", "significant"):
        their, our = getattr(theirs, name), getattr(ours, name)
        if their is None or our is None:
            continue
        is_count = isinstance(our, int)
        if not math.isclose(
            their,
            our,
            rel_tol=0.0 if is_count else _RELATIVE_TOLERANCE,
            abs_tol=slack if is_count else 0.0,
        ):
            differ.append(f"{name} {their:,} against our {our:,}")
    if differ:
        sys.exit(
            f"{data}: {who} answered {'; '.join(differ)}. Times of different answers cannot be "
            "compared: give both the same test, level and grid, or allow a count that includes "
            "the empty itemset (--count-slack 1)."
        )


class DataFiles:
    """One data set in the formats that templates name; written when first asked for.

    Parameters
    ----------
    prefix : Path
        Of PREFIX.transactions and, for searches with classes, .labels and .covariates.
    folder : Path
        Where other formats are written.
    """

    def __init__(self, prefix: Path, folder: Path) -> None:
        self.prefix = prefix.resolve()
        self._folder = folder
        self._known = {
            "prefix": str(self.prefix),
            "items": self._path("transactions"),
            "fimi": self._path("transactions"),
            "labels": self._path("labels"),
            "strata": self._path("covariates"),
        }
        self._makers: dict[str, Callable[[], str]] = {
            "values": self._values,
            "table": self._table,
            "matrix": self._matrix,
            "rows": lambda: str(len(self._rows())),
            "cases": lambda: str(self._labels().count("1")),
        }

    def fill(self, template: str, more: Mapping[str, str]) -> str:
        """Fill a template with these files and `more`.

        Parameters
        ----------
        template : str
            Of a command line.
        more : mapping of str to str
            Further fields.

        Returns
        -------
        str
            The command line.
        """
        fields = {}
        for name in {name for _, name, _, _ in string.Formatter().parse(template) if name}:
            if name in more:
                fields[name] = more[name]
                continue
            if name not in self._known and name not in self._makers:
                known = ", ".join(sorted({*self._known, *self._makers, *more}))
                sys.exit(
                    f"The command line {template!r} names {{{name}}}, which is not known; fields "
                    f"are {known}. Double the braces that belong to the program."
                )
            if name not in self._known:
                self._known[name] = self._makers[name]()
            fields[name] = self._known[name]
        return template.format(**fields)

    def _path(self, ending: str) -> str:
        return f"{self.prefix}.{ending}"

    def _rows(self) -> list[list[int]]:
        text = Path(self._path("transactions")).read_text("ascii")
        return [sorted({int(item) for item in line.split()}) for line in text.splitlines()]

    def _labels(self) -> list[str]:
        return Path(self._path("labels")).read_text("ascii").split()

    def _flags(self) -> tuple[list[int], list[bytearray]]:
        """Return the item numbers, and the rows as bytes of 0 and 1."""
        rows = self._rows()
        items = sorted({item for row in rows for item in row})
        place = {item: column for column, item in enumerate(items)}
        flags = [bytearray(len(items)) for _ in rows]
        for line, row in zip(flags, rows, strict=True):
            for item in row:
                line[place[item]] = 1
        return items, flags

    def _write(self, ending: str, lines: list[str]) -> str:
        path = self._folder / f"{self.prefix.name}.{ending}"
        path.write_text("".join(f"{line}\n" for line in lines), "ascii")
        return str(path.resolve())

    def _values(self) -> str:
        lines = [f"{row},{label}" for row, label in enumerate(self._labels())]
        return self._write("values", ["#row,value", *lines])

    def _table(self) -> str:
        items, flags = self._flags()
        lines = [f"{row},{','.join(map(str, line))}" for row, line in enumerate(flags)]
        return self._write("table", ["#row," + ",".join(map(str, items)), *lines])

    def _matrix(self) -> str:
        columns = zip(*self._flags()[1], strict=True)
        return self._write("matrix", [" ".join(map(str, column)) for column in columns])
