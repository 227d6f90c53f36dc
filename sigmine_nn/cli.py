"""The command line of the pruning engine: a thin reader around `Pruner`.

A network, its data and its loss are Python: functions in a file of yours, named as
``file.py:function``. That file is run; weights and reports are only read.

Exit codes: as ``sigmine``.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmine._atomic import atomic_write, require_writable
from sigmine._terminal import exit_codes, say, warnings_as_sentences, writing
from sigmine._version import __version__
from sigmine.exceptions import FileFormatError, InputError, InputTypeError

if TYPE_CHECKING:
    from torch import nn

    from .pruner import Pruner

__all__ = ["app", "main"]

app = typer.Typer(
    name="sigmine-nn",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Network = Annotated[
    str, typer.Argument(help="FILE.py:FUNCTION that returns the network (a torch.nn.Module).")
]
Data = Annotated[
    str | None, typer.Option(help="FILE.py:FUNCTION that returns calibration batches.")
]
TestData = Annotated[
    str | None,
    typer.Option(help="With --level: FILE.py:FUNCTION that returns other batches, for the tests."),
]
EvaluationData = Annotated[
    str | None,
    typer.Option(help="FILE.py:FUNCTION that returns further batches, to compare both networks."),
]
Weights = Annotated[Path | None, typer.Option(help="Weights of the network, a .safetensors file.")]
Loss = Annotated[
    str | None, typer.Option(help="cross_entropy, mse, or FILE.py:FUNCTION of (outputs, targets).")
]
Criterion = Annotated[str, typer.Option(help="What ranks the units; --list-criteria shows all.")]
Units = Annotated[str, typer.Option(help="channel, head, mlp_channel, state, row or element.")]
Amount = Annotated[float, typer.Option(help="Fraction of the units that goes.")]
Params = Annotated[
    float | None, typer.Option(help="Fraction of the parameters that goes, instead of --amount.")
]
Flops = Annotated[
    float | None, typer.Option(help="Fraction of the multiply-adds, instead of --amount.")
]
Scope = Annotated[str, typer.Option(help="global or layer: where units are ranked together.")]
Level = Annotated[
    float | None, typer.Option(help="Remove only what a test at this level shows to be harmless.")
]
Margin = Annotated[
    float | None, typer.Option(help="With --level: how much worse the metric may become.")
]
Metric = Annotated[str, typer.Option(help="With --level: loss or accuracy.")]
Test = Annotated[str, typer.Option(help="With --level: units, nested (sets), or both.")]
Correction = Annotated[
    str, typer.Option(help="With --level: holm, benjamini-hochberg or westfall-young.")
]
Ignore = Annotated[
    list[str] | None, typer.Option(help="A layer whose units are left alone; may be repeated.")
]
Seed = Annotated[int, typer.Option(help="Seed of what is drawn.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sigmine {__version__}")
        raise typer.Exit


def _list_criteria(wanted: bool) -> None:
    if wanted:
        from .criteria import CRITERIA

        for name in sorted(CRITERIA):
            needs = " (needs data)" if CRITERIA[name].needs_data else ""
            typer.echo(f"{name}: {CRITERIA[name].formula}{needs}")
        raise typer.Exit


@app.callback()
def sigmine_nn(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
    list_criteria: Annotated[
        bool,
        typer.Option(
            "--list-criteria", callback=_list_criteria, is_eager=True, help="Show all criteria."
        ),
    ] = False,
) -> None:
    """Prune a neural network by a ranking that says how sure it is."""


@app.command()
def rank(
    network: Network,
    data: Data = None,
    weights: Weights = None,
    loss: Loss = None,
    criterion: Criterion = "taylor",
    units: Units = "channel",
    amount: Amount = 0.5,
    scope: Scope = "global",
    ignore: Ignore = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Write the ranking to this .csv file.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a report: .html, .md or .json.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Rank the units of a network, with intervals, and change nothing."""
    with exit_codes(), warnings_as_sentences():
        for path in (out, report):
            _require(path)
        model = _load_network(network, weights)
        pruner = _pruner(
            criterion=criterion, units=units, amount=amount, scope=scope, ignore=ignore or (),
            random_state=seed, progress=False if quiet else None,
        )  # fmt: skip
        pruner.fit(model, _call(data), loss=_loss(loss))
        results = pruner.results(model)
        if out is not None:
            with writing(out):
                atomic_write(out, results.ranking.to_csv(index=False))
        _write_report(results, report)
        results.print_summary()
        if out is None:
            typer.echo(results.ranking.head(20).to_string(index=False))


@app.command()
def prune(
    network: Network,
    out: Annotated[Path, typer.Option(help="File for the smaller network (.safetensors).")],
    data: Data = None,
    test_data: TestData = None,
    evaluation_data: EvaluationData = None,
    weights: Weights = None,
    loss: Loss = None,
    criterion: Criterion = "taylor",
    units: Units = "channel",
    amount: Amount = 0.5,
    params: Params = None,
    flops: Flops = None,
    scope: Scope = "global",
    level: Level = None,
    margin: Margin = None,
    metric: Metric = "loss",
    test: Test = "units",
    correction: Correction = "holm",
    ignore: Ignore = None,
    seed: Seed = 0,
    report: Annotated[
        Path | None, typer.Option(help="Write a report: .html, .md or .json.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Remove units from a network, and save what is left."""
    with exit_codes(), warnings_as_sentences():
        from .saving import save_pruned

        for path in (out, report):
            _require(path)
        model = _load_network(network, weights)
        pruner = _pruner(
            criterion=criterion, units=units, amount=amount, params=params, flops=flops,
            scope=scope, level=level, margin=margin, metric=metric, test=test,
            correction=correction, ignore=ignore or (), random_state=seed,
            progress=False if quiet else None,
        )  # fmt: skip
        pruner.fit(model, _call(data), loss=_loss(loss), test_data=_call(test_data))
        small = pruner.transform(model, physical=True)
        with writing(out):
            save_pruned(out, small, pruner.plan_)
        results = pruner.results(
            model, small, data=_call(evaluation_data), latency=report is not None
        )
        _write_report(results, report)
        results.print_summary()
        if not quiet:
            say(f"wrote {out}")


@app.command(name="report")
def render(
    results: Annotated[Path, typer.Argument(help="A .json report of rank or prune.")],
    out: Annotated[Path, typer.Option(help="File to write: .html or .md.")],
) -> None:
    """Make a page of a report that was written as JSON."""
    with exit_codes():
        from .report import render_html, render_markdown
        from .report.schema import load_summary

        _require(out)
        summary = load_summary(results)
        page = render_markdown(summary) if _is_markdown(out) else render_html(summary)
        with writing(out):
            atomic_write(out, page)
        say(f"wrote {out}")


def _pruner(**settings: Any) -> Pruner:
    from .pruner import Pruner

    return Pruner(**settings)


def _require(path: Path | None) -> None:
    if path is not None:
        with writing(path):
            require_writable(path)


def _is_markdown(path: Path) -> bool:
    return path.suffix.lower() in {".md", ".markdown"}


def _write_report(results: Any, path: Path | None) -> None:
    if path is None:
        return
    with writing(path):
        if path.suffix.lower() == ".json":
            results.to_json(path)
        elif _is_markdown(path):
            results.to_markdown(path)
        else:
            results.to_html(path)


def _loss(name: str | None) -> Any:
    return _function(name) if name is not None and ":" in name else name


def _call(name: str | None) -> Any:
    return None if name is None else _function(name)()


def _function(name: str) -> Callable[..., Any]:
    """Return a function of a Python file, which is run."""
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not file or not attribute or path.suffix != ".py":
        raise InputError(
            f"{name!r} names no function; write it as FILE.py:FUNCTION, for example "
            "networks.py:make_network."
        )
    if not path.is_file():
        raise InputError(f"there is no file {file!r}; name a Python file with a function in it.")
    resolved = path.resolve()
    specification = importlib.util.spec_from_file_location(resolved.stem, resolved)
    assert specification is not None
    assert specification.loader is not None
    if specification.name not in sys.modules:
        module = importlib.util.module_from_spec(specification)
        sys.modules[specification.name] = module
        sys.path.insert(0, str(resolved.parent))
        try:
            specification.loader.exec_module(module)
        finally:
            sys.path.remove(str(resolved.parent))
    function = getattr(sys.modules[specification.name], attribute, None)
    if not callable(function):
        raise InputError(f"{file} has no function {attribute!r}; define it there.")
    return function  # type: ignore[no-any-return]


def _load_network(name: str, weights: Path | None) -> nn.Module:
    import torch

    model = _function(name)()
    if not isinstance(model, torch.nn.Module):
        raise InputTypeError(
            f"{name} returned a {type(model).__name__}; it must return a torch.nn.Module."
        )
    if weights is not None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise FileFormatError(
                f"this is no .safetensors file that can be read ({error}).", str(weights)
            ) from error
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise InputError(f"the weights in {weights} do not fit the network: {error}") from error
    return model


def main() -> None:
    """Run the command line."""
    app()
