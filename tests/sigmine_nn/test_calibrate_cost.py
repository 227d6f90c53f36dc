"""The script that measures the cost of Taylor scores runs; what it measures is not tested."""

import argparse
import json

import pytest

from benchmarks import nn_taylor


@pytest.mark.parametrize("network", ["residual", "vision"])
def test_the_script_runs_on_small_networks(network, capsys):
    options = argparse.Namespace(quick=True, device="cpu", rounds=1)
    rows, units = nn_taylor.timed(network, options)
    assert [row["what"] for row in rows] == list(nn_taylor.WAYS)
    assert all(row["ratio"] > 0 and row["n_units"] == units.n for row in rows)
    nn_taylor.alone(network, "taylor", options)
    assert json.loads(capsys.readouterr().out) == 0.0
