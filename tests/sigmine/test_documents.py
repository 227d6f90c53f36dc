"""What the README and the changelog say is what happens."""

from __future__ import annotations

import pkgutil
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import sigmine


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def test_the_example_runs(readme: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = blocks(readme, "python")[0]
    assert len(example.splitlines()) <= 12
    exec(compile(example, "README.md", "exec"), {})
    assert "family-wise error rate" in capsys.readouterr().out
    assert (tmp_path / "report.html").stat().st_size > 10_000
    monkeypatch.undo()


def test_the_example_of_pruning_runs(readme: str, tmp_path: Path, monkeypatch):
    pytest.importorskip("torch")
    from tests.networks import digits, flat_net, in_batches

    monkeypatch.chdir(tmp_path)
    inputs, targets = digits()
    names = {
        "model": flat_net(),
        "calibration_batches": in_batches(inputs[:128], targets[:128]),
        "test_batches": in_batches(inputs[128:256], targets[128:256]),
    }
    exec(compile(blocks(readme, "python")[1], "README.md", "exec"), names)
    assert (tmp_path / "pruning.html").stat().st_size > 10_000
    monkeypatch.undo()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_plain_lines_are_what_make_runs(
    readme: str, repository: Path, tmp_path: Path, target: str
):
    position = [block.strip() for block in blocks(readme, "console")].index(f"make {target}")
    plain = blocks(readme, "console")[position + 1].strip().splitlines()
    done = subprocess.run(
        ["make", "--dry-run", target, f"VENV={tmp_path / 'env'}", "PYTHON=python3", "ARGS="],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    runs = done.stdout.replace(str(tmp_path / "env"), ".venv").replace('"', "")
    runs = runs.replace(" --disable-pip-version-check", "").replace(" --quiet", "")
    for line in plain:
        assert line.replace('"', "") in runs


def test_linked_files_exist(readme: str, repository: Path):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", readme) if "://" not in link]
    assert links
    for link in links:
        assert (repository / link).exists(), link


def test_the_citation_has_the_version(repository: Path):
    citation = (repository / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {sigmine.__version__}\n" in citation


def test_every_template_and_stub_is_packaged(repository: Path):
    settings = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["sigmine"]
    package = repository / "sigmine"
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    others = {
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    # numba's cache, if the tests are not what filled it
    others = {path for path in others if path.suffix not in {".nbi", ".nbc", ".pyc"}}
    assert others <= packaged, f"not in the wheel: {sorted(others - packaged)}"


@pytest.mark.parametrize(
    "place",
    [
        "pyproject.toml",
        "README.md",
        "CONTRIBUTING.md",
        "benchmarks/*.md",
        "docs/*.rst",
        "docs/studies/*.rst",
        "docs/api/*.rst",
    ],
)
def test_every_module_that_is_named_exists(repository: Path, place: str):
    # A function or a class may follow the module.
    files = list(repository.glob(place))
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        for name in re.findall(r"\b(?:sigmine|sigmine_nn|benchmarks|tests)(?:\.[a-z_]\w*)+", text):
            assert pkgutil.resolve_name(name) is not None, f"{file.name} names {name}"
