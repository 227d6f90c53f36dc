"""The command line of the pruning engine, as a user types it."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from sigmine_nn.cli import app
from sigmine_nn.report import load_summary
from sigmine_nn.saving import load_pruned
from tests.networks import flat_net

NETWORK = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Flatten(),
        nn.Linear(12 * 16, 20), nn.ReLU(), nn.Linear(20, 10))

def batches(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(16, 1, 8, 8, generator=generator),
             torch.randint(0, 10, (16,), generator=generator)) for _ in range(3)]

def others():
    return batches(1)

def number():
    return 3
"""


@pytest.fixture
def network(tmp_path, request):
    # A module is run once in a process: a name of its own for every test.
    name = f"network_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(NETWORK)
    return str(tmp_path / f"{name}.py")


def run(*arguments):
    with torch.random.fork_rng(devices=[]):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_rank_writes_a_ranking_and_a_report(network, tmp_path):
    out, report = tmp_path / "ranking.csv", tmp_path / "report.html"
    found = run("rank", f"{network}:make", "--data", f"{network}:batches", "--loss",
                "cross_entropy", "--out", out, "--report", report, "-q")  # fmt: skip
    assert found.exit_code == 0, found.output
    ranking = pd.read_csv(out)
    assert ranking["rank"].tolist() == list(range(1, 39))
    assert "Layer by layer" in report.read_text()
    assert "were ranked by 'taylor'" in found.stdout


def test_prune_saves_what_python_loads(network, tmp_path):
    out, report = tmp_path / "small.safetensors", tmp_path / "report.json"
    found = run("prune", f"{network}:make", "--criterion", "l2", "--data", f"{network}:batches",
                "--evaluation-data", f"{network}:others", "--loss", "cross_entropy", "--amount",
                "0.5", "--out", out, "--report", report, "-q")  # fmt: skip
    assert found.exit_code == 0, found.output
    small = load_pruned(out, flat_net)
    assert sum(p.numel() for p in small.parameters()) < sum(
        p.numel() for p in flat_net().parameters()
    )
    summary = load_summary(report)
    assert {fact["name"] for fact in summary["facts"]} >= {"Units", "Parameters", "Latency, median"}
    page = tmp_path / "again.md"
    assert run("report", report, "--out", page).exit_code == 0
    assert page.read_text().startswith("# Pruning of Sequential")


def test_data_for_tests_need_a_level(network, tmp_path):
    found = run("prune", f"{network}:make", "--data", f"{network}:batches", "--test-data",
                f"{network}:others", "--loss", "cross_entropy", "--out", tmp_path / "x",
                "-q")  # fmt: skip
    assert found.exit_code == 3
    assert "test_data is given and level is not" in found.output


def test_weights_are_read(network, tmp_path):
    weights = tmp_path / "weights.safetensors"
    state = flat_net(seed=5).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    with_weights, without = (
        run("rank", f"{network}:make", "--criterion", "l1", "--data", f"{network}:batches",
            "-q", *extra).stdout
        for extra in (("--weights", weights), ())
    )  # fmt: skip
    assert with_weights != without


def test_criteria_are_listed():
    said = run("--list-criteria").stdout
    assert "taylor: " in said
    assert "(needs data)" in said


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        ({"network": "nothing.py:make"}, 3, "there is no file"),
        ({"network": "make"}, 3, "FILE.py:FUNCTION"),
        ({"network": "{network}:missing"}, 3, "no function 'missing'"),
        ({"network": "{network}:number"}, 3, "must return a torch.nn.Module"),
        ({"--criterion": "tailor"}, 3, "'tailor' is not known"),
        ({"--weights": "{folder}/none.safetensors"}, 3, "no .safetensors file"),
        ({"--out": "{folder}/none/ranking.csv"}, 4, "does not exist"),
    ],
)
def test_errors_are_one_paragraph(network, tmp_path, change, code, word):
    options = {"--data": f"{network}:batches", "--loss": "cross_entropy",
               "--out": str(tmp_path / "r.csv")}  # fmt: skip
    change = {k: v.format(network=network, folder=tmp_path) for k, v in change.items()}
    name = change.pop("network", f"{network}:make")
    arguments = [part for pair in (options | change).items() for part in pair]
    found = run("rank", name, *arguments, "-q")
    assert found.exit_code == code
    assert word in found.output
    assert "Traceback" not in found.output
    assert not (tmp_path / "r.csv").exists()
