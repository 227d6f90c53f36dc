"""Checkpoints: a search that goes on gives the same answer; nothing else is ever gone on with."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest

from sigmine._jit import JIT_ENABLED
from sigmine.exceptions import FileFormatError, InputError, InputTypeError, SearchInterrupted
from sigmine.search import Checkpoint, checkpoint, driver, search_patterns, testability, total
from sigmine.search.layout import CARRIERS, CASES, KEY, N_CLOSED, N_PATH, SUPPORT, WHAT
from sigmine.settings import SearchSettings
from tests import strategies
from tests.searches import assert_outcomes_are_identical, draw_limits, draw_table, make_problem

BUT = ("n_visited", "seconds")


def search(case, folder=None, *, seconds=0.0, n_jobs=None, time_limit=None, progress=None, **given):
    return search_patterns(
        make_problem(*case),
        SearchSettings(**given),
        n_jobs=n_jobs,
        time_limit=time_limit,
        progress=progress,
        checkpoint=None if folder is None else Checkpoint(folder, seconds=seconds),
    )


def small_case(seed=12):
    return strategies.random_case(np.random.default_rng(seed), 120, 14, 3, 0.4, 0.9, corners=False)


@pytest.fixture
def stop_after(monkeypatch):
    """Have every search stop when so many tasks are done in all, by whoever."""

    def arrange(n_tasks):
        state = {"left": n_tasks}

        class Counted(driver.Control):
            def __init__(self, seconds=None):
                super().__init__(seconds)
                state["control"] = self

        class Stopping(driver.Schedule):
            def end(self, number, seconds=None):
                super().end(number, seconds)
                state["left"] -= 1
                if state["left"] == 0:
                    state["control"].stop[0] = 1

        with monkeypatch.context() as patched:
            patched.setattr(driver, "Control", Counted)
            patched.setattr(driver, "Schedule", Stopping)
            yield

    return contextmanager(arrange)


def until_complete(case, folder, stop_after, n_tasks, **options):
    """Run again and again, a few tasks at a time; return the outcomes."""
    outcomes = []
    while not (outcomes and outcomes[-1].complete):
        with stop_after(n_tasks):
            outcomes.append(search(case, folder, **options))
        assert len(outcomes) < 2000
    return outcomes


def read(folder):
    return json.loads((Path(folder) / "search.json").read_text())


def saved_as_finished(folder):
    return np.load(folder / read(folder)["passes"][0]["file"])["finished"]


def killed_case():
    n, p = (800, 48) if JIT_ENABLED else (200, 20)
    rng = np.random.default_rng(6)
    return rng.random((n, p)) < 0.5, rng.random(n) < 0.5, rng.integers(0, 3, n)


OPTIONS = [
    {},
    {"method": "asymptotic", "variance": "cochran", "grid_step": 0.06},
    {"max_length": 2, "alternative": "greater"},
    {"method": "asymptotic", "min_support": 5, "alpha": 0.3},
]


class TestResume:
    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.parametrize("options", OPTIONS)
    def test_in_many_pieces(self, options, n_jobs, stop_after, tmp_path):
        case = small_case()
        whole = search(case, **options)
        outcomes = until_complete(case, tmp_path, stop_after, 12, n_jobs=n_jobs, **options)
        assert len(outcomes) > 3
        fractions = [outcome.searched_fraction for outcome in outcomes]
        assert fractions[0] < 0.9
        assert fractions[-1] == 1.0
        assert_outcomes_are_identical(whole, outcomes[-1], but=BUT)

    def test_any_table(self, stop_after, tmp_path):
        rng = np.random.default_rng(5)
        for number in range(6):
            case, limits = draw_table(rng), draw_limits(rng)
            whole = search(case, **limits)
            folder = tmp_path / str(number)
            outcomes = until_complete(case, folder, stop_after, 5, **limits)
            assert_outcomes_are_identical(whole, outcomes[-1], but=BUT)

    def test_with_other_workers(self, stop_after, tmp_path):
        case = small_case()
        whole = search(case)
        for n_jobs, n_tasks in ((1, 3), (2, 9), (3, 2)):
            with stop_after(n_tasks):
                assert not search(case, tmp_path, n_jobs=n_jobs).complete
        with joblib.parallel_config(backend="loky", n_jobs=2):
            outcome = search(case, tmp_path)
        assert_outcomes_are_identical(whole, outcome, but=BUT)

    def test_in_the_second_pass(self, stop_after, tmp_path, monkeypatch):
        monkeypatch.setattr(testability, "LOG_SAFETY", -3.0)
        case = small_case()
        whole = search(case, alpha=0.3)
        outcomes = until_complete(case, tmp_path, stop_after, 15, alpha=0.3)
        assert_outcomes_are_identical(whole, outcomes[-1], but=BUT)
        stages = [entry["stage"] for entry in read(tmp_path)["passes"]]
        assert stages == ["threshold", "collect"]
        # As soon as the first pass is done, everything is searched, but not yet said exactly.
        assert sum(o.searched_fraction == 1.0 and not o.complete for o in outcomes) > 1

    def test_when_nothing_is_testable(self, stop_after, tmp_path):
        rng = np.random.default_rng(2)
        case = rng.random((20, 12)) < 0.4, np.arange(20) < 10, None
        whole = search(case, alpha=1e-7)
        assert whole.n_testable == 0
        outcomes = until_complete(case, tmp_path, stop_after, 9, alpha=1e-7)
        assert_outcomes_are_identical(whole, outcomes[-1], but=BUT)
        assert [entry["stage"] for entry in read(tmp_path)["passes"]] == ["threshold", "summit"]

    def test_with_little_kept(self, stop_after, tmp_path, monkeypatch):
        # What is added up is cut down again and again: values near the threshold, and the sample.
        case = small_case()
        monkeypatch.setattr(driver, "_SAMPLE_SIZE", 10)
        whole = search(case, alpha=0.3)
        assert 0 < whole.sample_fraction < 1
        for kept in (40, 4):
            monkeypatch.setattr(total, "_VALUES_KEPT", kept)
            folder = tmp_path / str(kept)
            outcomes = until_complete(case, folder, stop_after, 12, alpha=0.3)
            assert_outcomes_are_identical(whole, outcomes[-1], but=BUT)

    def test_without_any_items(self, tmp_path):
        case = np.zeros((10, 3), dtype=bool), np.arange(10) < 5, None
        whole = search(case)
        for _ in range(2):
            assert_outcomes_are_identical(whole, search(case, tmp_path), but=BUT)

    def test_a_search_that_has_ended_is_not_searched_again(self, tmp_path, monkeypatch):
        case = small_case()
        whole = search(case, tmp_path)

        def refuse(*_):
            raise AssertionError("searched again")

        monkeypatch.setattr("sigmine.search.worker.Worker.__init__", refuse)
        again = search(case, tmp_path)
        assert_outcomes_are_identical(whole, again, but=("seconds",))
        assert again.seconds >= read(tmp_path)["seconds"]

    def test_time_and_visits_of_all_runs_are_counted(self, stop_after, tmp_path):
        case, states = small_case(), []
        with stop_after(5):
            first = search(case, tmp_path)
        saved = read(tmp_path)["seconds"]  # what came after saving does not count
        second = search(case, tmp_path, progress=states.append)
        assert second.n_visited >= first.n_visited
        assert second.seconds > states[0].seconds >= saved > 0
        assert states[-1].visited == second.n_visited
        assert states[0].fraction_done <= states[-1].fraction_done == 1.0

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_ctrl_c_saves_what_is_whole(self, n_jobs, tmp_path, monkeypatch):
        monkeypatch.setattr(driver, "_ROUND_SECONDS", 0.0)

        def interrupt(state):
            if state.fraction_done > 0.05:
                raise KeyboardInterrupt

        with pytest.raises(SearchInterrupted):  # no save is due before the end
            search(killed_case(), tmp_path, seconds=1e9, n_jobs=n_jobs, progress=interrupt)
        assert 0 < saved_as_finished(tmp_path).mean() < 1
        outcome = search(killed_case(), tmp_path, seconds=5.0)
        assert_outcomes_are_identical(search(killed_case()), outcome, but=BUT)

    def test_a_path_will_do(self, tmp_path):
        case = small_case()
        settings = SearchSettings()
        for folder in (str(tmp_path / "new" / "deep"), tmp_path / "other"):
            outcome = search_patterns(make_problem(*case), settings, checkpoint=folder)
            assert outcome.complete
            assert (Path(folder) / "search.json").exists()


KILLED = """
import sys, numpy as np
from sigmine.problem import build_problem
from sigmine.search import Checkpoint, search_patterns
from sigmine.settings import SearchSettings
from sigmine.strata import encode_strata

rng = np.random.default_rng(6)
n, p = int(sys.argv[2]), int(sys.argv[3])
matrix, y, codes = rng.random((n, p)) < 0.5, rng.random(n) < 0.5, rng.integers(0, 3, n)
problem = build_problem(matrix, y, encode_strata(codes, n), item_names=list(map(str, range(p))))

def tell(state):
    if state.visited:
        print("running", flush=True)

search_patterns(problem, SearchSettings(), n_jobs=2, progress=tell,
                checkpoint=Checkpoint(sys.argv[1], seconds=0.02))
print("ended", flush=True)
"""


def test_killed_in_the_middle(tmp_path):
    case, folder = killed_case(), tmp_path / "checkpoint"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), folder, *map(str, case[0].shape)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        while not (folder / "search.json").exists():
            assert process.poll() is None
            time.sleep(0.005)
        assert b"running" in process.stdout.readline()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    finished = saved_as_finished(folder)
    assert finished.any()
    assert not finished.all(), "the search was over before it was killed"
    assert_outcomes_are_identical(search(case), search(case, folder, seconds=5.0), but=BUT)


class TestRefused:
    @pytest.fixture
    def folder(self, tmp_path, stop_after):
        with stop_after(5):
            assert not search(small_case(), tmp_path).complete
        return tmp_path

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"alpha": 0.1}, r"alpha=0.05 there, 0.1 here"),
            ({"min_support": 2}, r"min_support=1 there, 2 here"),
            ({"grid_step": 0.06}, r"grid_step=None there, 0.06 here"),
        ],
    )
    def test_other_settings(self, folder, options, words):
        with pytest.raises(InputError, match=words) as info:
            search(small_case(), folder, **options)
        assert "give another folder, or delete this one" in str(info.value)

    def test_other_data(self, folder):
        matrix, y, strata = small_case()
        with pytest.raises(InputError, match="n_items 14 there, 13 here"):
            search((matrix[:, 1:], y, strata), folder)
        changed = matrix.copy()
        changed[5, 5] ^= True
        with pytest.raises(InputError, match="same size and settings, but other values"):
            search((changed, y, strata), folder)
        flipped = y.copy()
        flipped[[np.flatnonzero(y)[0], np.flatnonzero(~y)[0]]] ^= True
        with pytest.raises(InputError, match="another search"):
            search((matrix, flipped, strata), folder)
        with pytest.raises(InputError, match="another search"):
            search((matrix, y, (strata + 1) % 2), folder)
        assert search((matrix, y, strata), folder).complete  # nothing was harmed

    def test_another_version(self, folder, monkeypatch):
        monkeypatch.setattr(checkpoint, "__version__", "99.0")
        with pytest.raises(
            InputError, match=r"holds a search of sigmine .* this is sigmine '99.0'"
        ):
            search(small_case(), folder)

    def test_a_folder_with_other_files(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("precious")
        with pytest.raises(InputError, match=r"holds other files .*thesis.tex"):
            search(small_case(), tmp_path)
        assert (tmp_path / "thesis.tex").read_text() == "precious"

    def test_a_file(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("")
        with pytest.raises(InputError, match="is a file; expected a folder"):
            search(small_case(), path)
        with pytest.raises(InputError, match="cannot be made"):
            search(small_case(), path / "below")

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
    )
    def test_a_folder_that_may_not_be_written_to(self, tmp_path):
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(InputError, match="may not be written to"):
                search(small_case(), tmp_path)
        finally:
            tmp_path.chmod(0o700)

    @pytest.mark.parametrize("value", [3, None, b"x"])
    def test_no_path(self, value):
        with pytest.raises(InputTypeError, match=r"checkpoint=.* must be the path of a folder"):
            Checkpoint(value)

    @pytest.mark.parametrize("value", [-1.0, float("nan"), "1", True])
    def test_no_time(self, value, tmp_path):
        with pytest.raises(InputError, match=r"seconds=.* must be a number of at least 0"):
            Checkpoint(tmp_path, seconds=value)


HOSTILE = {
    "pickled": lambda a: a.update(values=np.array([{}], dtype=object)),
    "other type": lambda a: a.update(values=a["values"].astype(np.float32)),
    "big endian": lambda a: a.update(items=a["items"].astype(">i8")),
    "other shape": lambda a: a.update(counts=a["counts"].reshape(-1, 1)),
    "by columns": lambda a: a.update(found=np.asfortranarray(a["found"])),
    "missing": lambda a: a.pop("tasks"),
    "a number less": lambda a: a.update(numbers=a["numbers"][:2]),
    "short counts": lambda a: a.update(counts=a["counts"][:-1]),
    "negative counts": lambda a: np.put(a["counts"], 3, -1),
    "level": lambda a: np.put(a["numbers"], 0, len(a["counts"])),
    "negative level": lambda a: np.put(a["numbers"], 0, -1),
    "negative visits": lambda a: np.put(a["numbers"], 1, -1),
    "sample mask": lambda a: np.put(a["numbers"], 2, 5),
    "nan marks": lambda a: np.put(a["marks"], 0, np.nan),
    "nan values": lambda a: np.put(a["values"], 0, np.nan),
    "negative evidence": lambda a: np.put(a["evidence"], 0, -1.0),
    "items beyond": lambda a: np.put(a["items"], 0, 14),
    "negative items": lambda a: np.put(a["items"], 0, -1),
    "an item less": lambda a: a.update(items=a["items"][:-1]),
    "no path": lambda a: a["found"].__setitem__((0, N_PATH), 0),
    "long path": lambda a: a["found"].__setitem__((0, N_PATH), 2**40),
    "negative closure": lambda a: a["found"].__setitem__((0, N_CLOSED), -1),
    "carriers beyond": lambda a: a["found"].__setitem__((0, SUPPORT), 10**6),
    "negative carriers": lambda a: a["found"].__setitem__((0, SUPPORT + 1), -1),
    "cases beyond": lambda a: a["found"].__setitem__((0, SUPPORT + 3), 10**6),
    "too few cases": lambda a: a["found"].__setitem__((0, slice(SUPPORT + 3, None)), -1),
    "other sum": lambda a: a["found"].__setitem__((0, CARRIERS), 0),
    "other cases": lambda a: a["found"].__setitem__((0, CASES), -1),
    "unknown kind": lambda a: a["found"].__setitem__((0, WHAT), 64),
    "records less": lambda a: a.update(evidence=a["evidence"][:-1]),
    "narrow records": lambda a: a.update(found=np.ascontiguousarray(a["found"][:, :-1])),
    "tasks less": lambda a: a.update(tasks=a["tasks"][:-1]),
    "tasks twice": lambda a: a["tasks"].__setitem__(1, a["tasks"][0]),
    "tasks beyond": lambda a: a["tasks"].__setitem__((-1, 1), 99),
    "tasks backwards": lambda a: a["tasks"].__setitem__((0, 1), -1),
    "shares": lambda a: a["tasks"].__setitem__((-1, 2), 7),
    "no shares": lambda a: a["tasks"].__setitem__((0, 3), 0),
    "weights": lambda a: np.put(a["weights"], 0, 7.0),
    "nan weights": lambda a: np.put(a["weights"], 0, np.nan),
    "half finished": lambda a: a.update(finished=a["finished"][:-1]),
}


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path, stop_after):
        with stop_after(40):
            assert not search(small_case(), tmp_path, alpha=0.3).complete
        return tmp_path

    def assert_refused(self, folder, words):
        with pytest.raises(FileFormatError, match="is damaged") as info:
            search(small_case(), folder, alpha=0.3)
        message = str(info.value)
        assert words in message
        assert "delete the folder" in message
        assert str(folder) in message

    def change_json(self, folder, **changes):
        content = read(folder)
        content |= changes
        (folder / "search.json").write_text(json.dumps(content))

    def change_arrays(self, folder, change, **options):
        """Write other arrays, under the right hash."""
        (entry,) = read(folder)["passes"]
        path = folder / entry["file"]
        with np.load(path) as archive:
            arrays = dict(archive)
        change(arrays)
        stream = io.BytesIO()
        np.savez(stream, **arrays, **options)
        path.write_bytes(stream.getvalue())
        entry["sha256"] = hashlib.sha256(stream.getvalue()).hexdigest()
        self.change_json(folder, passes=[entry])

    def test_nothing_is_wrong(self, folder):
        self.change_arrays(folder, lambda arrays: None)
        whole = search(small_case(), alpha=0.3)
        assert_outcomes_are_identical(whole, search(small_case(), folder, alpha=0.3), but=BUT)

    @pytest.mark.parametrize("text", ["", "{", "[1", "null", "[]", "3", "\x00\xff", "[" * 10**5])
    def test_no_json(self, folder, text):
        (folder / "search.json").write_text(text, encoding="latin-1")
        self.assert_refused(folder, "search.json")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"seconds": None}, "seconds"),
            ({"seconds": -1}, "seconds"),
            ({"seconds": float("inf")}, "seconds"),
            ({"passes": None}, "passes"),
            ({"passes": []}, "passes"),
            ({"passes": [{}]}, "passes"),
            ({"passes": [{"stage": "threshold", "file": "../x.npz", "sha256": "0"}]}, "passes"),
            ({"passes": [{"stage": "threshold", "file": "/etc/passwd", "sha256": "0"}]}, "passes"),
            ({"passes": [{"stage": "threshold", "file": 3, "sha256": "0"}]}, "passes"),
            ({"passes": [{"stage": "other", "file": "threshold-1.npz", "sha256": "0"}]}, "passes"),
            (
                {"passes": [{"stage": "threshold", "file": "threshold-1.npz", "sha256": "0"}]},
                "missing or cannot be read",
            ),
        ],
    )
    def test_other_json(self, folder, changes, words):
        self.change_json(folder, **changes)
        self.assert_refused(folder, words)

    def test_passes_out_of_order(self, folder):
        (entry,) = read(folder)["passes"]
        self.change_json(folder, passes=[entry, entry])
        self.assert_refused(folder, "not in order")
        self.change_json(folder, passes=[entry | {"stage": "collect"}])
        self.assert_refused(folder, "not in order")

    def test_a_pass_that_the_search_does_not_have(self, folder):
        # One pass is enough here; a file that says "summit" is not used for anything.
        def finish(arrays):
            arrays["finished"][:] = True
            arrays["values"] = arrays["values"][:0]

        self.change_arrays(folder, finish)
        (entry,) = read(folder)["passes"]
        self.change_json(folder, passes=[entry, entry | {"stage": "summit"}])
        self.assert_refused(folder, "pass 1 is 'summit', not 'collect'")

    @pytest.mark.parametrize("where", [0, 0.5, 0.999])
    def test_a_flipped_bit(self, folder, where):
        (entry,) = read(folder)["passes"]
        path = folder / entry["file"]
        content = bytearray(path.read_bytes())
        content[int(where * len(content))] ^= 16
        path.write_bytes(content)
        self.assert_refused(folder, "hash")

    def test_cut_off(self, folder):
        (entry,) = read(folder)["passes"]
        path = folder / entry["file"]
        path.write_bytes(path.read_bytes()[:-100])
        self.assert_refused(folder, "hash")

    def test_no_archive(self, folder):
        (entry,) = read(folder)["passes"]
        (folder / entry["file"]).write_bytes(b"nothing")
        entry["sha256"] = hashlib.sha256(b"nothing").hexdigest()
        self.change_json(folder, passes=[entry])
        self.assert_refused(folder, "cannot be read")

    @pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
    def test_arrays_that_no_search_has(self, folder, change):
        self.change_arrays(folder, change)
        self.assert_refused(folder, ".npz")

    def test_truth_values_that_are_neither(self, folder):
        (entry,) = read(folder)["passes"]
        path = folder / entry["file"]
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["finished.npy"] = members["finished.npy"][:-1] + b"\x07"
        self.write(folder, entry, members, zipfile.ZIP_STORED)
        self.assert_refused(folder, "truth values")

    def test_compressed(self, folder):
        # What is read cannot be larger than the file.
        (entry,) = read(folder)["passes"]
        with zipfile.ZipFile(folder / entry["file"]) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        self.write(folder, entry, members, zipfile.ZIP_DEFLATED)
        self.assert_refused(folder, "compressed")

    def test_a_header_that_promises_terabytes(self, folder):
        (entry,) = read(folder)["passes"]
        with zipfile.ZipFile(folder / entry["file"]) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        )
        members["values.npy"] = stream.getvalue() + bytes(8)
        self.write(folder, entry, members, zipfile.ZIP_STORED)
        self.assert_refused(folder, "values is cut off")

    def write(self, folder, entry, members, compression):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        (folder / entry["file"]).write_bytes(stream.getvalue())
        entry["sha256"] = hashlib.sha256(stream.getvalue()).hexdigest()
        self.change_json(folder, passes=[entry])


class TestFiles:
    def test_old_states_are_removed(self, tmp_path, monkeypatch):
        saved = Counter()
        save = checkpoint.SavedSearch.save

        def counted(self, number, state):
            save(self, number, state)
            saved[state.stage] += 1
            assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
                ["search.json", *(entry["file"] for entry in read(tmp_path)["passes"])]
            )

        monkeypatch.setattr(checkpoint.SavedSearch, "save", counted)
        search(small_case(), tmp_path)
        assert saved["threshold"] > 5

    def test_a_crash_between_the_two_files(self, tmp_path, stop_after, monkeypatch):
        with stop_after(5):
            search(small_case(), tmp_path)
        before = read(tmp_path)

        def crash(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(checkpoint, "atomic_write", crash)
            with pytest.raises(OSError, match="No space left"):
                search(small_case(), tmp_path)
        assert read(tmp_path) == before
        outcome = search(small_case(), tmp_path)
        assert_outcomes_are_identical(search(small_case()), outcome, but=BUT)

    def test_how_often(self, tmp_path, monkeypatch):
        times = []
        save = checkpoint.SavedSearch.save

        def timed(self, *args):
            times.append(time.monotonic())
            save(self, *args)

        monkeypatch.setattr(checkpoint.SavedSearch, "save", timed)
        search(small_case(), tmp_path / "seldom", seconds=3600.0, n_jobs=2)
        assert len(times) == 1  # at the end
        assert Checkpoint(tmp_path).seconds == 30.0

    def test_the_file_says_what_it_is(self, tmp_path):
        search(small_case(), tmp_path, alpha=0.2)
        content = read(tmp_path)
        assert content["format"] == "sigmine-checkpoint-1"
        assert content["settings"] == SearchSettings(alpha=0.2).to_dict()
        assert (content["n_rows"], content["n_items"], content["n_strata"]) == (120, 14, 3)

    def test_the_parts_hold_what_was_met_in_the_finished_tasks(self, tmp_path, stop_after):
        # And nothing of the batch that was left in the middle.
        case = small_case()
        with stop_after(30):
            outcome = search(case, tmp_path, seconds=0.0)
        (entry,) = read(tmp_path)["passes"]
        arrays = np.load(tmp_path / entry["file"])
        assert arrays["finished"].sum() == 29  # the thirtieth was that of the stop
        assert arrays["weights"][arrays["finished"]].sum() < outcome.searched_fraction
        assert (np.diff(np.sort(arrays["found"][:, KEY])) > 0).all()  # nothing twice
