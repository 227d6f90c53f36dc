"""The order of the house: imports of `sigmine_nn` run one way, and torch is loaded on first use."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "sigmine_nn"

# From the bottom up. A part may import parts of its own layer and of the layers below it.
LAYERS = (
    "exceptions",
    "units state moments rank_measures resampling state_space",
    "objective functional noninferiority risk_control schedules growth report _ladder",
    "gating adapters collector curvature parameter_gates synaptic_flow",
    "scores evaluation risks _scope",
    "graph masks calibrate costs allocation significance",
    "discovery criteria plan selection agreement comparison",
    "surgery removal stopping",
    "saving scoring joint_removal",
    "results",
    "pruner bridge",
    "curves",
    "methods",
    "cli",
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts.split()}
SOURCES = sorted(ROOT.rglob("*.py"))


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, leaving out what runs only for the type checker."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            yield child
            yield from nodes(child)


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported_parts(path: Path) -> set[str]:
    package = ["sigmine_nn", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            base = [*base, *(node.module or "").split(".")] if node.module else base
            found |= {[*base, alias.name, ""][1] for alias in node.names}
    return found - {part_of(path)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_arrow_runs_back(path: Path):
    part = part_of(path)
    if part == "__init__":
        return
    assert part in LEVEL, f"give {part} a place in LAYERS"
    back = {other for other in imported_parts(path) if LEVEL[other] > LEVEL[part]}
    assert not back


def test_importing_the_package_does_not_load_torch():
    code = "import sys, sigmine_nn; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
