"""The arrows between modules point one way, and the rules about size and numba hold.

Imports are read from the syntax tree, those inside functions too. Imports under
``if TYPE_CHECKING`` exist for the type checker only and may point anywhere.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the bottom up. A part may import parts of its own layer and of the layers below it.
LAYERS = (
    "exceptions _version settings _collector _jit _compilation _checks _rules "
    "ranking columns memory",
    "bitset _words _frames _binary _bins _atomic _fimi files _slices _blocks _tally",
    "strata rowsets",
    "problem",
    "association",
    "search parallel",
    "correction patterns",
    "report",  # below the results that it renders: it reads their attributes only
    "results",
    "preprocessing datasets simulate metrics _survey",
    "mining",
    "miner streaming frequent",
    "cli _cli_options _terminal __main__",
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts.split()}

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70  # of the body: without signature, docstring, comments, empty lines
# Loops of the search: a third of their lines are lists of arrays. Every function more is compiled
# once more, and the first result waits for it.
LONG_FOR_A_REASON = {"search_pair": 105, "_visit": 105}
COMPILERS = {"njit", "jit", "vectorize", "guvectorize", "stencil", "cfunc", "jit_module", "prange"}


def sources(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


ALL = sources("sigmine", "sigmine_nn")
MINER = sources("sigmine")


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def part_of(module: str) -> str | None:
    """Return the name below ``sigmine``; None for the package itself and for other packages."""
    names = module.split(".")
    return names[1] if names[0] == "sigmine" and len(names) > 1 else None


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in {getattr(test, "id", None), getattr(test, "attr", None)}


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the tree, leaving out what runs only for the type checker."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield other
                yield from run_time_nodes(other)
        else:
            yield child
            yield from run_time_nodes(child)


def imported(path: Path, root: Path = ROOT) -> set[str]:
    """Absolute names of what a file imports at run time; names taken from a module included."""
    package = module_name(path, root).split(".")
    if path.name != "__init__.py":
        package.pop()
    found: set[str] = set()
    for node in run_time_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            found.update(".".join([*base, alias.name]) for alias in node.names)
    return found


def imported_parts(path: Path, root: Path = ROOT) -> set[str]:
    """Return the parts of sigmine that a module of sigmine imports, its own part left out."""
    own = part_of(module_name(path, root))
    parts = {part_of(module) for module in imported(path, root)}
    return {part for part in parts if part not in {None, own}}  # type: ignore[misc]


def backward_arrows(path: Path, root: Path = ROOT) -> list[str]:
    own = part_of(module_name(path, root))
    level = len(LAYERS) if own is None else LEVEL[own]
    # A name that is no part of any layer is one of the lazy public names (`from . import FACS`),
    # which would go around the order.
    return [
        f"{own or 'sigmine'} -> {part}"
        for part in sorted(imported_parts(path, root))
        if LEVEL.get(part, len(LAYERS) + 1) > level
    ]


def code_lines(path: Path) -> set[int]:
    """Numbers of the lines that hold code: no comments, no docstrings, no empty lines."""
    text = path.read_text(encoding="utf-8")
    skip = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENCODING,
        tokenize.ENDMARKER,
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skip:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


@pytest.mark.parametrize("path", MINER, ids=relative)
def test_every_module_has_a_layer(path: Path):
    part = part_of(module_name(path))
    assert part is None or part in LEVEL, f"give {part} a place in LAYERS and in the docs"


@pytest.mark.parametrize("path", MINER, ids=relative)
def test_no_arrow_runs_back(path: Path):
    assert not backward_arrows(path)


def test_no_cycle_between_parts():
    # Parts of one layer may import each other, but not in a circle.
    arrows: dict[str, set[str]] = {part: set() for part in LEVEL}
    for path in MINER:
        part = part_of(module_name(path))
        if part in LEVEL:
            arrows[part] |= imported_parts(path) & set(LEVEL)

    done: set[str] = set()

    def visit(part: str, trail: tuple[str, ...]) -> None:
        assert part not in trail, " -> ".join([*trail, part])
        if part not in done:
            for other in sorted(arrows[part]):
                visit(other, (*trail, part))
            done.add(part)

    for part in sorted(arrows):
        visit(part, ())


@pytest.mark.parametrize("path", MINER, ids=relative)
def test_the_miner_knows_no_networks(path: Path):
    outside = {module.split(".")[0] for module in imported(path)}
    assert not outside & {"torch", "torchvision", "sigmine_nn"}


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_numba_is_named_in_one_place(path: Path):
    names = {module for module in imported(path) if module.split(".")[0] == "numba"}
    if relative(path) == "sigmine/_jit.py":
        assert names <= {
            "numba", "numba.core", "numba.core.cgutils", "numba.core.event", "numba.core.typing",
            "numba.core.typing.templates", "numba.extending", "numba.types",
        }  # fmt: skip
    elif relative(path) == "sigmine/bitset.py":
        # The popcount needs an intrinsic and its overload, but no compiler of its own.
        used = {module.split(".")[-1] for module in names}
        used |= {
            node.attr
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute)
        }
        assert not used & COMPILERS
    else:
        assert not names


FROM_PYTHON, FROM_KERNELS = {"njit", "njit_entry"}, {"njit_inner", "njit_leaf", "njit_inline"}
FROM_KERNELS.add("njit_part")
LINKED = {"njit_linked", "njit_linked_leaf"}  # may be named in Python, for their address


def _decorators(node: ast.AST) -> set[str]:
    listed = getattr(node, "decorator_list", [])
    return {decorator.id for decorator in listed if isinstance(decorator, ast.Name)}


def _kernels(path: Path, decorators: set[str]) -> set[str]:
    """Names of the kernels of a file that are decorated like that."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and _decorators(node) & decorators
    }


def calls_of_inner_kernels(path: Path) -> set[str]:
    """Inner kernels that functions of a file call that are no kernels; tests would not notice."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known, linked = _kernels(path, FROM_KERNELS), _kernels(path, LINKED)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            home = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            if home.with_suffix(".py").is_file():
                names = {alias.name for alias in node.names}
                known |= names & _kernels(home.with_suffix(".py"), FROM_KERNELS)
                linked |= names & _kernels(home.with_suffix(".py"), LINKED)
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if _decorators(node) & (FROM_PYTHON | FROM_KERNELS | LINKED):
            return
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.update({node.func.id} & linked)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in known:
            found.add(node.id)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_python_calls_only_kernels_with_a_way_in(path: Path):
    assert not calls_of_inner_kernels(path)


def test_calls_of_inner_kernels_are_seen(tmp_path):
    (tmp_path / "kernels.py").write_text("@njit_leaf\ndef inner(x):\n    return x\n")
    (tmp_path / "caller.py").write_text(
        "from .kernels import inner\n@njit\ndef outer(x):\n    return inner(x)\n"
        "def python(x):\n    return outer(inner(x))\n"
    )
    assert calls_of_inner_kernels(tmp_path / "caller.py") == {"inner"}
    assert not calls_of_inner_kernels(tmp_path / "kernels.py")


def test_calls_of_linked_kernels_are_seen(tmp_path):
    text = "@njit_linked\ndef linked(x):\n    return x\nplace = address_of(linked)\n"
    (tmp_path / "kernels.py").write_text(text)
    assert not calls_of_inner_kernels(tmp_path / "kernels.py")
    (tmp_path / "kernels.py").write_text(text + "result = linked(1)\n")
    assert calls_of_inner_kernels(tmp_path / "kernels.py") == {"linked"}


@pytest.mark.parametrize("path", [*ALL, *sources("tests", "benchmarks")], ids=relative)
def test_no_file_is_too_long(path: Path):
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= MAX_FILE_LINES


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_no_function_is_too_long(path: Path):
    lines = code_lines(path)
    long = {
        node.name: size
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (size := sum(node.body[0].lineno <= n <= (node.end_lineno or 0) for n in lines))
        > LONG_FOR_A_REASON.get(node.name, MAX_FUNCTION_LINES)
    }
    assert not long


class TestTheReaderOfImports:
    """The checks above are worth what the reader sees."""

    @staticmethod
    def write(folder: Path, name: str, text: str) -> Path:
        path = folder / "sigmine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    @pytest.mark.parametrize(
        ("name", "text", "arrow"),
        [
            ("bitset.py", "from .miner import FACS", "bitset -> miner"),
            ("bitset.py", "def f():\n    from . import cli", "bitset -> cli"),
            ("bitset.py", "import sigmine.search.outcome", "bitset -> search"),
            ("search/outcome.py", "from ..results import PatternResults", "search -> results"),
            ("search/__init__.py", "from ..correction import holm", "search -> correction"),
            ("report/render.py", "from .. import results", "report -> results"),
            ("results.py", "from . import FACS", "results -> FACS"),
            ("results.py", "from sigmine import mine_patterns", "results -> mine_patterns"),
            (
                "problem.py",
                "try:\n    pass\nfinally:\n    import sigmine.results",
                "problem -> results",
            ),
        ],
    )
    def test_sees_an_arrow_that_runs_back(self, tmp_path: Path, name: str, text: str, arrow: str):
        assert backward_arrows(self.write(tmp_path, name, text), tmp_path) == [arrow]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("cli.py", "from .miner import mine_patterns\nimport numba, os.path"),
            ("search/itemsets.py", "from .outcome import x\nfrom ..association.cmh import y"),
            ("results.py", "def f(self):\n    from .report import render"),
            ("report/a.py", "from typing import TYPE_CHECKING\n"
                            "if TYPE_CHECKING:\n    from ..results import PatternResults"),
        ],
    )  # fmt: skip
    def test_lets_the_others_pass(self, tmp_path: Path, name: str, text: str):
        assert backward_arrows(self.write(tmp_path, name, text), tmp_path) == []

    def test_counts_code_only(self, tmp_path: Path):
        path = self.write(
            tmp_path,
            "x.py",
            '"""Doc."""\n\n# why\ndef f():\n    """Doc\n    more."""\n    return 1\n',
        )
        assert code_lines(path) == {4, 7}
