"""The benchmark of several workers: its ratios, and a small run."""

import sys

from benchmarks import cores
from benchmarks.records import read_records


def row(kind, number, wall, yardstick=2.0):
    facts = {"yardstick": yardstick, "load": 1.0}
    return {"data": "set", "kind": kind, "round": number, "wall_s": wall, **facts}


def test_ratios_are_those_of_one_round():
    # The machine gets slower from round to round: a ratio of medians would be 4 / 3.
    rows = [
        *(row("one", 1, 2.0), row("threads", 1, 1.0)),
        *(row("one", 2, 4.0), row("threads", 2, 3.0)),
        *(row("one", 3, 12.0), row("threads", 3, 4.0)),
    ]
    one, threads = cores.summarize(rows)
    assert (one["kind"], one["times one"], one["highest"]) == ("one", 1.0, 1.0)
    assert (threads["kind"], threads["times one"], threads["highest"]) == ("threads", 2.0, 3.0)
    assert threads["wall_s"] == 3.0


def test_a_small_run(tmp_path, monkeypatch, capsys):
    small = {"small": {"n_rows": 200, "n_items": 20, "density": 0.2}}
    monkeypatch.setattr(cores, "QUICK", small)
    monkeypatch.setattr(cores, "_YARDSTICK_TURNS", 1000)
    arguments = ["cores", "--quick", "--kind", "threads", "loky", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    cores.main()
    rows, facts = read_records(tmp_path / "cores_all_kinds.csv")
    assert facts["workers"] == "2"
    assert [found["kind"] for found in rows] == ["one", "threads", "loky"]
    assert len({found["testable"] for found in rows}) == 1  # the answer is the same
    assert all(float(found["wall_s"]) > 0 for found in rows)
    assert "times one" in capsys.readouterr().out
