"""`import sigmine` is light, and every public name is there."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import sigmine

HEAVY = ("numba", "pandas", "scipy", "sklearn", "matplotlib", "statsmodels", "numpy", "torch")


def modules_after(statement: str) -> set[str]:
    """Top-level modules of a new interpreter that has run `statement`."""
    code = f"{statement}\nimport sys\nprint(*sorted(sys.modules), sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_import_loads_nothing_heavy():
    assert not set(HEAVY) & modules_after("import sigmine")


def test_light_names_stay_light():
    # The errors and the settings are needed by code that may never run a search.
    loaded = modules_after("import sigmine; sigmine.InputError; sigmine.SearchSettings(alpha=0.1)")
    assert not set(HEAVY) & loaded


def test_mining_loads_neither_plots_nor_models():
    # scipy.stats, statsmodels and matplotlib cost seconds, and a search needs none of them.
    loaded = modules_after("import sigmine; sigmine.mine_patterns")
    assert not {"matplotlib", "statsmodels", "scipy.stats", "torch"} & loaded


def test_mining_arrays_does_without_pandas():
    # It takes as long to import as a small search; whoever asks for a table of patterns needs it.
    loaded = modules_after(
        "import numpy as np, sigmine\n"
        "X = np.arange(300).reshape(60, 5) % 7 < 4\n"
        "results = sigmine.mine_matrix(X, X[:, 0] & X[:, 3], strata=np.arange(60) % 2)\n"
        "assert results.rows(5)"
    )
    assert not {"pandas", "narwhals", "matplotlib", "jinja2"} & loaded


@pytest.mark.parametrize("name", sigmine.__all__)
def test_public_name_resolves(name):
    assert getattr(sigmine, name) is not None
    assert name in dir(sigmine)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="FastCMH"):
        _ = sigmine.FastCMH


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+([.-]?\w+)*", sigmine.__version__)


def test_the_pruning_package_is_empty_and_light():
    import sigmine_nn

    assert sigmine_nn.__version__ == sigmine.__version__
    assert not set(HEAVY) & modules_after("import sigmine_nn")
