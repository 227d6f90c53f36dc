"""Results as CSV files that say where they come from. Standard library only, to stay small."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
_PACKAGES = ("numpy", "scipy", "numba", "pandas", "matplotlib")


def provenance() -> dict[str, str]:
    """Return date, commit, machine and versions."""
    facts = {
        "date": date.today().isoformat(),
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} CPUs, {platform.system()}",
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def _commit() -> str:
    """Return the commit of the sources, and whether the package differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "sigmine")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def write_records(
    path: Path, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any] | None = None
) -> None:
    """Write rows as CSV under comment lines with their provenance; make the folder if needed.

    Parameters
    ----------
    path : Path
        Where to; replaced whole.
    rows : sequence of mappings
        All with the keys of the first.
    facts : mapping, optional
        More comment lines, such as the options of the run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    with beside.open("w", encoding="utf-8", newline="") as file:
        for key, value in {**provenance(), **(facts or {})}.items():
            file.write(f"# {key}: {value}\n")
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _text(value) for key, value in row.items()} for row in rows)
    beside.replace(path)


def read_records(path: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Read what `write_records` wrote.

    Returns
    -------
    rows : list of dict
        Values as texts.
    facts : dict
        The comment lines.
    """
    facts: dict[str, str] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    while lines and lines[0].startswith("#"):
        key, _, value = lines.pop(0)[1:].partition(":")
        facts[key.strip()] = value.strip()
    return list(csv.DictReader(lines)), facts


def _text(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def print_table(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as a Markdown table."""
    table = [{key: str(_short(value)) for key, value in row.items()} for row in rows]
    if not table:
        return
    widths = {key: max(len(key), *(len(row[key]) for row in table)) for key in table[0]}
    header = {key: key for key in widths}
    rule = {key: "-" * width for key, width in widths.items()}
    for row in (header, rule, *table):
        print("| " + " | ".join(row[key].ljust(width) for key, width in widths.items()) + " |")
    sys.stdout.flush()


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
