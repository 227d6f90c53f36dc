"""The command line: a thin reader of files around `mine_patterns` and `mine_matrix`.

Options have the names and the defaults of the Python functions. Heavy modules are imported inside
the commands, so that ``sigmine --help`` answers at once.

Exit codes: 0 done (also when nothing is significant, or a time limit stopped the search),
1 something unexpected, 2 wrong usage, 3 data that cannot be used, 4 an output that cannot be
written, 130 interrupted.
"""

from __future__ import annotations

import gc
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from . import _cli_options as option
from ._atomic import atomic_write, require_writable
from ._terminal import (
    SearchMeter,
    exit_codes,
    say,
    show_patterns,
    show_summary,
    warnings_as_sentences,
    writing,
)
from ._version import __version__
from .exceptions import InputError, InputTypeError
from .settings import SearchSettings

if TYPE_CHECKING:
    from .results import PatternResults

__all__ = ["app", "main"]

HTML, MARKDOWN = (".html", ".htm"), (".md", ".markdown")
# What the names of outputs may end in.
SUFFIXES = {"--out": (".csv", ""), "--report": HTML + MARKDOWN, "--json": (".json", "")}
# Options of `mine` that speak of columns, which a FIMI file does not have, and the other way round.
FOR_TABLES = (
    "target", "strata", "columns", "exclude", "bins", "bin_method", "edges", "negate", "missing",
    "max_levels",
)  # fmt: skip
# Bytes of a table that is read in slices: that takes a quarter more time, and little memory.
LARGE = 2**26
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}  # of --time-limit
FOR_FIMI = ("labels", "covariates")
# Options of `mine` that go to `mine_patterns` as they are.
PREPARATION = ("target", "positive", "bins", "bin_method", "negate", "missing", "max_levels")

app = typer.Typer(
    name="sigmine",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Command = TypeVar("Command", bound=Callable[..., None])


def _flowing(command: Command) -> Command:
    """Join the lines of a paragraph in the help text, so that they are broken anew to the width."""
    text = inspect.cleandoc(command.__doc__ or "")
    command.__doc__ = re.sub(r"(?<!\n)\n(?=\S)", " ", text)
    return command


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sigmine {__version__}")
        raise typer.Exit


@app.callback()
@_flowing
def sigmine(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Find combinations of features that go with an outcome, whatever the covariate explains.

    Every combination that could be significant is tested inside the strata of the covariate, and
    the chance of reporting anything, if nothing were there, is at most --alpha.

    [bold]Start here[/bold]
      sigmine demo                    a real data set, to see what comes out
      sigmine mine --help             examples and every option

    [bold]Exit codes[/bold]
        0  done, also when nothing is significant or the time limit stopped the search
        1  something unexpected
        2  wrong usage
        3  data that cannot be used
        4  an output that cannot be written
      130  interrupted; with --checkpoint the same command goes on from there

    SIGMINE_DEBUG=1 shows where an error happened.
    """


@app.command(short_help="Mine a table or a FIMI file for significant patterns.")
@_flowing
def mine(
    ctx: typer.Context,
    table: option.Table,
    target: option.Target = None,
    positive: option.Positive = None,
    strata: option.StrataNames = None,
    columns: option.Columns = None,
    exclude: option.Exclude = None,
    labels: option.Labels = None,
    covariates: option.Covariates = None,
    bins: option.Bins = 4,
    bin_method: option.BinMethod = "quantile",
    edges: option.Edges = None,
    negate: option.Negate = False,
    missing: option.Missing = "error",
    max_levels: option.MaxLevels = 50,
    alpha: option.Alpha = 0.05,
    method: option.Method = "exact",
    alternative: option.Alternative = "two-sided",
    two_sided: option.TwoSided = "central",
    variance: option.Variance = "mantel-haenszel",
    grid_step: option.GridStep = None,
    min_support: option.MinSupport = 1,
    max_length: option.MaxLength = None,
    n_jobs: option.Jobs = None,
    time_limit: option.TimeLimit = None,
    checkpoint: option.Checkpoint = None,
    out: option.Out = None,
    report: option.Report = None,
    json: option.Json = None,
    top: option.Top = 20,
    quiet: option.Quiet = False,
) -> None:
    r"""Find the combinations of items that are significantly associated with the outcome.

    [bold]A table[/bold]: which combinations go with dying, in patients of the same sex?
      sigmine mine patients.csv --target died --positive yes --strata sex

    [bold]Several covariates, and a report to hand on[/bold]
      sigmine mine patients.csv --target died --strata sex,hospital \
        --out patterns.csv --report report.html --json results.json

    [bold]Numeric columns[/bold] become intervals: four with equally many rows, or as you say
      sigmine mine patients.csv --target died --edges age=30,50,70 --bins 3

    [bold]Empty cells and identifiers[/bold]
      sigmine mine patients.csv --target died --missing item --exclude patient_id

    [bold]Transactions[/bold]: a line a subject, outcome and stratum in files of their own
      sigmine mine items.dat --labels outcome.txt --covariates batch.txt

    [bold]A long search[/bold]: stop after an hour; the same command goes on from there
      sigmine mine patients.csv --target died --time-limit 1h --checkpoint my-search

    [bold]The published method[/bold], as the original program runs it
      sigmine mine items.dat --labels y.txt --covariates c.txt \
        --method asymptotic --variance cochran --grid-step 0.06
    """
    with exit_codes(), warnings_as_sentences() as said:
        fimi = _is_fimi(table)
        _check_usage(ctx, table, fimi=fimi)
        settings = _settings(ctx.params)
        seconds = _seconds(time_limit)
        _check_folder(checkpoint)
        inputs = [path for path in (table, labels, covariates) if path is not None]
        outputs = Outputs(out=out, report=report, json=json)
        outputs.check(inputs)
        with SearchMeter(quiet=quiet) as meter:
            search: dict[str, Any] = {
                "n_jobs": n_jobs,
                "time_limit": seconds,
                "checkpoint": checkpoint,
                "progress": meter,
            }
            if labels is not None:  # a FIMI file: the usage was checked
                results = _mine_fimi(table, labels, covariates, positive, settings, search)
            else:
                preparation = {name: ctx.params[name] for name in PREPARATION}
                preparation["edges"] = _edges(edges)
                names = {"strata": strata, "columns": columns, "exclude": exclude}
                results = _mine_table(table, names, preparation, settings, search)
        outputs.write(results, quiet=quiet)
        # Where a file takes the patterns, they are not printed too.
        top = top if out is None else 0
        _show(results, outputs, said, top=top, quiet=quiet)


@app.command(short_help="Write the report of a search that was saved as JSON.")
@_flowing
def report(
    saved: Annotated[
        Path,
        typer.Argument(
            help="Results that `sigmine mine --json` wrote.",
            metavar="RESULTS.json",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Write to this file, .html or .md; without it, print Markdown.",
            metavar="FILE.html",
        ),
    ] = None,
) -> None:
    """Write the report of a search that was saved as JSON, without searching again.

    [bold]Examples[/bold]
      sigmine report results.json --out report.html
      sigmine report results.json --out report.md
      sigmine report results.json | less

    The files of `sigmine mine --json` hold everything that a report shows.
    """
    with exit_codes(), warnings_as_sentences():
        outputs = Outputs(report=out)
        outputs.check([saved])
        from .report import load_summary

        text = _rendered(load_summary(saved), out)
        if out is None:
            typer.echo(text)
            return
        with writing(out):
            atomic_write(out, text)
        say(f"Wrote {out}")


@app.command(short_help="Mine a real data set, and see what comes out.")
@_flowing
def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the three files.", metavar="FOLDER")
    ] = Path("sigmine-demo"),
    quiet: option.Quiet = False,
) -> None:
    """Mine a real data set: 6,366 women of a 1974 survey, and who of them had an affair.

    Age and years of marriage are the strata: what is reported is not
    explained by them. Writes report.html, patterns.csv and results.json into a folder.

    [bold]Examples[/bold]
      sigmine demo
      sigmine demo --out my-folder

    Nothing is downloaded: the data come with a dependency.
    """
    with exit_codes(), warnings_as_sentences() as said:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        outputs = Outputs(
            out=out / "patterns.csv", report=out / "report.html", json=out / "results.json"
        )
        outputs.check([])
        from .datasets import load_fair
        from .mining import mine_patterns

        data = load_fair()
        with SearchMeter(quiet=quiet) as meter:
            results = mine_patterns(data.frame, target=data.target, strata=data.strata,
                                    progress=meter)  # fmt: skip
        outputs.write(results, quiet=quiet)
        _show(results, outputs, said, top=10, quiet=quiet)
        typer.echo(f"Open {(out / 'report.html').resolve()} in a browser.")


@dataclass(frozen=True)
class Outputs:
    """The files that were asked for; None where one was not."""

    out: Path | None = None
    report: Path | None = None
    json: Path | None = None

    def _given(self) -> dict[str, Path]:
        named = {"--out": self.out, "--report": self.report, "--json": self.json}
        return {name: path for name, path in named.items() if path is not None}

    def check(self, inputs: Iterable[Path]) -> None:
        """Find out now, not after the search, that a file cannot be written."""
        taken = {path.resolve(): "the input" for path in inputs}
        for name, path in self._given().items():
            if path.suffix.lower() not in SUFFIXES[name]:
                known = " or ".join(filter(None, SUFFIXES[name]))
                raise _usage(name, f"{path} must end in {known}, which is what is written.")
            other = taken.setdefault(path.resolve(), name)
            if other != name:
                raise _usage(name, f"{path} is {other} already; give each its own file.")
        for path in self._given().values():
            with writing(path):
                require_writable(path)

    def write(self, results: PatternResults, *, quiet: bool) -> None:
        """Write each file whole: to a temporary name, then moved into place."""
        # The report is collected once, so that the files agree to the second; and before any file
        # is opened, so that a failure in it is not taken for one of writing.
        summary: dict[str, Any] = {}
        if self.report is not None or self.json is not None:
            if results.complete:  # or it would not be compared
                with SearchMeter(quiet=quiet, name="Comparing") as meter:
                    results.unstratified(progress=meter)
            summary = results.to_dict()
        written: list[str] = []
        try:
            for name, path in self._given().items():
                with writing(path):
                    if name == "--out":
                        results.to_csv(path)
                    else:
                        atomic_write(path, _rendered(summary, path))
                written.append(str(path))
        finally:
            # An interrupt or a full disk in between: say what is there.
            if written and len(written) < len(self._given()):
                say(f"Wrote {', '.join(written)}, and no other file.")

    def __str__(self) -> str:
        return ", ".join(map(str, self._given().values()))


def _is_fimi(path: Path) -> bool:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1:] in ([".dat"], [".fimi"])


def _rendered(summary: dict[str, Any], path: Path | None) -> str:
    """Return the text of the kind of report that a file name asks for; Markdown without one."""
    from .report import render_html, render_json, render_markdown

    suffix = ".md" if path is None else path.suffix.lower()
    if suffix in MARKDOWN:
        return render_markdown(summary)
    return render_html(summary) if suffix in HTML else render_json(summary)


def _usage(name: str, message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint=name)


def _check_usage(ctx: typer.Context, table: Path, *, fimi: bool) -> None:
    """Refuse options that do not belong to this kind of file, and ask for those that do."""
    given = {
        name
        for name in FOR_TABLES + FOR_FIMI
        if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    wrong = sorted(given.intersection(FOR_TABLES if fimi else FOR_FIMI))
    if wrong:
        kind = (
            "a FIMI file, which has items and no columns; give --labels and --covariates"
            if fimi
            else "read as a table with columns; give --target and --strata (a FIMI file ends in "
            ".dat)"
        )
        names = ", ".join("--" + name.replace("_", "-") for name in wrong)
        raise _usage(names, f"{table} is {kind}.")
    if fimi and "labels" not in given:
        raise _usage("--labels", f"{table} needs the file of the outcome, one value a line.")
    if not fimi and "target" not in given:
        raise _usage("--target", f"{table} needs the name of the column with the outcome.")


def _settings(params: dict[str, Any]) -> SearchSettings:
    names = [field.name for field in fields(SearchSettings) if field.name in params]
    try:
        return SearchSettings(**{name: params[name] for name in names})
    except (InputError, InputTypeError) as error:
        # The message begins with the name of the parameter.
        name = str(error).split("=", 1)[0]
        raise _usage("--" + name.replace("_", "-"), str(error)) from None


def _seconds(text: str | None) -> float | None:
    """Read ``90``, ``90s``, ``10m`` or ``1.5h``."""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].isalpha() else (text, "s")
    try:
        seconds = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise _usage(
            "--time-limit",
            f"{text!r} is no time; write a number of seconds above 0, or one of minutes or hours, "
            "as in 90, 10m or 2h.",
        )
    return seconds


def _check_folder(checkpoint: Path | None) -> None:
    """Find out now, not after the data are read, that a checkpoint cannot be a folder."""
    if checkpoint is not None and checkpoint.exists() and not checkpoint.is_dir():
        raise _usage("--checkpoint", f"{checkpoint} is a file; give a folder, or a new name.")


def _edges(values: Sequence[str] | None) -> dict[str, list[float]] | None:
    """Read ``age=30,50``; a column name may contain an equals sign, a number may not."""
    if not values:
        return None
    edges: dict[str, list[float]] = {}
    for value in values:
        column, equals, numbers = value.rpartition("=")
        try:
            if not equals:
                raise ValueError
            edges[column] = [float(number) for number in numbers.split(",")]
        except ValueError:
            raise _usage(
                "--edges",
                f"{value!r} cannot be read; write the column, an equals sign and numbers "
                "separated by commas, as in age=30,50.",
            ) from None
    return edges


def _split_names(values: Sequence[str] | None, known: Iterable[str]) -> list[str] | None:
    """Take ``a,b`` apart, unless a column has that very name."""
    if not values:
        return None
    known = set(known)
    names: list[str] = []
    for value in values:
        parts = [value] if value in known else [part.strip() for part in value.split(",")]
        names.extend(part for part in parts if part)
    return names


def _is_large(table: Path) -> bool:
    """Say whether a table is better read in slices; one that is not there is not."""
    try:
        size = table.stat().st_size
    except OSError:
        return False
    # These are several times larger once they are read.
    compressed = table.suffix.lower() not in {".csv", ".tsv", ".txt"}
    return size > (LARGE // 8 if compressed else LARGE)


def _mine_table(
    table: Path,
    names: dict[str, list[str] | None],
    preparation: dict[str, Any],
    settings: SearchSettings,
    search: dict[str, Any],
) -> PatternResults:
    """Mine a table; a large one is packed as it is read, and may be larger than memory."""
    large = _is_large(table)
    if large:
        from ._blocks import open_table

        known = list(open_table(table, None).names)
    else:
        from .files import read_columns

        frame = read_columns(table)
        known = list(getattr(frame, "columns", frame))
    lists: dict[str, Any] = {key: _split_names(values, known) for key, values in names.items()}
    lists["exclude"] = lists["exclude"] or []
    if large:
        from .mining import mine_problem
        from .streaming import pack_table

        problem = pack_table(table, settings=settings, **lists, **preparation)
        return mine_problem(problem, settings, **search)
    from .mining import mine_patterns

    return mine_patterns(frame, **lists, **preparation, **settings.to_dict(), **search)


def _mine_fimi(
    table: Path,
    labels: Path,
    covariates: Path | None,
    positive: str | None,
    settings: SearchSettings,
    options: dict[str, Any],
) -> PatternResults:
    """Mine transactions, which are packed as they are read: the file may be larger than memory."""
    from .mining import mine_problem
    from .streaming import pack_fimi

    problem = pack_fimi(table, labels, covariates, positive=positive, settings=settings)
    return mine_problem(problem, settings, **options)


def _show(
    results: PatternResults, outputs: Outputs, said: list[str], *, top: int, quiet: bool
) -> None:
    """Print what was found and promised, the best patterns, and what was written."""
    if not quiet:
        show_summary(results, said)
        if top and len(results):
            typer.echo("")
    show_patterns(results, top)
    if not quiet and str(outputs):
        say(f"Wrote {outputs}")


def main() -> None:
    """Run the command line; the entry point of ``sigmine`` and of ``python -m sigmine``."""
    # Nothing here multiplies matrices, but the libraries that do start a thread a core when they
    # are loaded, and each of these spins for a tenth of a second.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is imported makes hundreds of thousands of objects that stay; looking for garbage among
    # them every 700 objects would take a tenth of the time of a small search.
    gc.set_threshold(100_000)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character of an item name gets its code instead.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="sigmine")
