"""The scripts that measure run, each once and small; what they measure is not tested."""

from __future__ import annotations

import csv
import importlib
import inspect
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SUITES = ("search", "memory", "startup")
KINDS = ("time_", "timeraw_", "peakmem_", "track_")


def asv_benchmarks():
    """Every benchmark as asv finds them, with its first parameters."""
    for suite in SUITES:
        module = importlib.import_module(f"benchmarks.asv.{suite}")
        for name, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ == module.__name__:
                for method in filter(lambda text: text.startswith(KINDS), dir(cls)):
                    yield pytest.param(cls, method, id=f"{suite}.{name}.{method}")


@pytest.mark.parametrize(("cls", "method"), list(asv_benchmarks()))
def test_every_benchmark_of_the_suites_runs(cls, method, repository: Path):
    parameters = [values[0] for values in getattr(cls, "params", ())]
    assert len(parameters) == len(getattr(cls, "param_names", ()))
    benchmark = cls()
    if hasattr(benchmark, "setup"):
        benchmark.setup(*parameters)
    result = getattr(benchmark, method)(*parameters)
    if method.startswith("track_"):
        assert result > 0
    elif method.startswith("timeraw_"):
        code, setup = result if isinstance(result, tuple) else (result, "")
        command = [sys.executable, "-c", f"{setup}\n{code}"]
        subprocess.run(command, cwd=repository, check=True, capture_output=True)
    else:
        assert result is None


def test_asv_finds_the_suites(repository: Path):
    settings = json.loads((repository / "asv.conf.json").read_text(encoding="utf-8"))
    folder = repository / settings["benchmark_dir"]
    found = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert found == set(SUITES)
    assert (folder / "__init__.py").exists()


class TestGrowth:
    def test_an_exact_power_law(self):
        from benchmarks.growth import fit_power_law

        sizes = np.array([1.0, 2, 4, 8, 16])
        fit = fit_power_law(sizes, 3 * sizes**1.7)
        assert fit.exponent == pytest.approx(1.7)
        assert fit.low == pytest.approx(1.7)
        assert fit.factor == pytest.approx(3)
        assert fit.n_points == 5
        assert math.isnan(fit_power_law(sizes[:2], sizes[:2]).exponent)

    def test_the_interval_covers(self):
        from benchmarks.growth import fit_power_law

        rng = np.random.default_rng(0)
        sizes = np.repeat(2.0 ** np.arange(6), 3)
        fits = [
            fit_power_law(sizes, sizes * np.exp(rng.normal(0, 0.3, len(sizes)))) for _ in range(400)
        ]
        covered = sum(fit.low <= 1 <= fit.high for fit in fits)
        assert 365 <= covered <= 395  # 380 expected; beyond that in 1 of 1000 runs

    def test_measured_fitted_and_drawn(self, tmp_path: Path, monkeypatch, capsys):
        from benchmarks import growth

        monkeypatch.setattr(growth, "SIZES", {"middle": {"n_items": [15, 20, 30]}})
        monkeypatch.setattr(growth, "SHORTEST", 0.0)
        small = {"n_rows": 120, "n_items": 20, "density": 0.3}
        monkeypatch.setitem(growth.SHAPES, "middle", small)
        arguments = ["growth", "--quick", "--out", str(tmp_path), "--pages", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", arguments)
        growth.main()
        fits = growth.read_records(tmp_path / "growth_fit.csv")[0]
        by_items = [fit for fit in fits if fit["size"] == "n_items" and fit["of"] == "visited"]
        assert float(by_items[0]["exponent"]) > 0
        assert "<svg" in (tmp_path / "growth.svg").read_text(encoding="utf-8")
        with (tmp_path / "growth_table.csv").open(encoding="utf-8") as file:
            table = list(csv.reader(file))
        assert [row[1] for row in table] == ["strata K", "rows n", "items p"]
        assert all(len(row) == 5 for row in table)
        assert table[0][2] == "–"  # one size of strata fits no line
        assert "exponent" in capsys.readouterr().out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", ["items", "strata", "fimi-rows", "csv-rows"])
def test_scale(name: str):
    from benchmarks import scale

    case = scale._shrunk(name, 1000)
    found = scale.measure(case, n_jobs=1)
    assert found["packed_mb"] > 0
    assert found["testable"] > 0
    row = {"case": name, **found}
    assert scale.summary([row])[0]["search peak / packed"] >= 1
