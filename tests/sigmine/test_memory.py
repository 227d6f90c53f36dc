"""What a search needs, what the machine has, and a refusal that says what to do."""

from __future__ import annotations

import ctypes
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine import memory
from sigmine.exceptions import InputError, InsufficientMemoryError
from sigmine.memory import available_memory, estimate_memory, require_memory

GIB = 2**30


def test_parts_of_the_estimate():
    estimate = estimate_memory(130, 10, 3, n_jobs=2)
    assert estimate.columns == estimate.search_copy == 3 * 8 * 10
    assert estimate.tables == memory._LINE_BYTES * 133 + memory._FAR_BYTES * 130
    assert estimate.counts == memory._ITEM_BYTES * 10 + 16 * 10 * 3
    assert estimate.workers == 2 * (estimate.columns + 2**24 + memory._OWN_BYTES * 133)
    assert estimate.source == 0
    parts = estimate.to_dict()
    total = parts.pop("total")
    assert sum(parts.values()) == total
    assert set(parts) == set(memory._PART_NAMES)


def test_tables_hardly_grow_where_there_are_many_rows():
    few, many, most = (estimate_memory(n, 10, 4) for n in (10**4, 10**6, 10**7))
    assert many.tables < 10 * few.tables
    assert most.tables - many.tables == memory._FAR_BYTES * 9 * 10**6


def test_what_is_packed_from_is_gone_before_the_search():
    none = estimate_memory(10**6, 1000, 4)
    dense = estimate_memory(10**6, 1000, 4, dense=True)
    assert dense.source == 10**9
    assert dense.total == dense.columns + dense.rows + dense.names + 10**9
    sparse = estimate_memory(10**6, 1000, 4, nnz=10**6)
    assert 0 < sparse.source < dense.source
    assert sparse.total == none.total  # the search needs more than packing did


def test_what_is_packed_already_is_not_asked_for_again():
    before = estimate_memory(10**6, 1000, 4, n_jobs=2)
    after = estimate_memory(10**6, 1000, 4, n_jobs=2, packed=True)
    assert after.total == before.total - before.columns - before.rows - before.names
    assert after.search_copy == before.search_copy
    assert after.workers == before.workers


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.integers(1, 1000), st.integers(1, 64))
def test_more_of_anything_needs_more(n_rows, n_items, n_strata, n_jobs):
    least = estimate_memory(n_rows, n_items, n_strata, n_jobs=n_jobs).total
    assert estimate_memory(n_rows + 64, n_items, n_strata, n_jobs=n_jobs).total > least
    assert estimate_memory(n_rows, n_items + 1, n_strata, n_jobs=n_jobs).total > least
    assert estimate_memory(n_rows, n_items, n_strata + 1, n_jobs=n_jobs).total > least
    assert estimate_memory(n_rows, n_items, n_strata, n_jobs=n_jobs + 1).total > least
    packed = n_items * -(-n_rows // 64) * 8
    assert 2 * packed < least


@pytest.fixture
def machine(monkeypatch):
    """Say how much memory the machine has."""
    monkeypatch.delenv("SIGMINE_MEMORY_CHECK", raising=False)

    def _machine(available):
        monkeypatch.setattr(memory, "available_memory", lambda: available)

    return _machine


class TestRefusal:
    @pytest.mark.parametrize("available", [None, 2**62])
    def test_what_fits_or_is_unknown_passes(self, machine, available):
        machine(available)
        require_memory(estimate_memory(10**9, 10**5, 4))

    def test_exactly_enough_is_enough(self, machine):
        estimate = estimate_memory(10**6, 10**4, 4)
        machine(estimate.total)
        require_memory(estimate)
        machine(estimate.total - 1)
        with pytest.raises(InsufficientMemoryError) as caught:
            require_memory(estimate)
        assert caught.value.needed == estimate.total
        assert caught.value.available == estimate.total - 1
        assert isinstance(caught.value, InputError)
        assert isinstance(caught.value, MemoryError)

    def test_small_searches_are_not_asked(self, monkeypatch):
        monkeypatch.setattr(memory, "available_memory", lambda: pytest.fail("asked"))
        require_memory(estimate_memory(10_000, 1000, 4))

    def test_the_check_can_be_switched_off(self, machine, monkeypatch):
        machine(1)
        monkeypatch.setenv("SIGMINE_MEMORY_CHECK", "0")
        require_memory(estimate_memory(10**9, 10**5, 4))

    def test_fewer_workers_where_that_is_enough(self, machine):
        machine(10 * GIB)
        message = (
            r"needs about 42\.\d GiB of memory \(room of the workers 3\d\.\d GiB, .*\) for "
            r"1,000,000 rows, 20,000 items, 4 strata and n_jobs=16; 10\.0 GiB are available\. "
            r"With n_jobs=2 it needs 9\.\d GiB, which fits\."
        )
        with pytest.raises(InsufficientMemoryError, match=message):
            require_memory(estimate_memory(10**6, 20_000, 4, n_jobs=16))

    @given(n_jobs=st.integers(2, 100), gib=st.floats(0.3, 50))
    def test_the_workers_that_are_advised_fit_and_no_more(self, n_jobs, gib):
        estimate = estimate_memory(10**6, 20_000, 4, n_jobs=n_jobs)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("SIGMINE_MEMORY_CHECK", raising=False)
            patch.setattr(memory, "available_memory", lambda: int(gib * GIB))
            try:
                require_memory(estimate)
            except InsufficientMemoryError as error:
                advised = re.search(r"With n_jobs=(\d+) it needs", str(error))
                if advised is None:
                    assert estimate_memory(10**6, 20_000, 4).total > gib * GIB
                    return
                fits = int(advised[1])
                assert 1 <= fits < n_jobs
                assert estimate_memory(10**6, 20_000, 4, n_jobs=fits).total <= gib * GIB
                assert estimate_memory(10**6, 20_000, 4, n_jobs=fits + 1).total > gib * GIB

    @pytest.mark.parametrize("n_jobs", [1, 8])
    @pytest.mark.parametrize("dense", [False, True])
    def test_as_many_items_as_fit(self, machine, n_jobs, dense):
        machine(GIB)
        with pytest.raises(InsufficientMemoryError, match=r"about [\d,]+ items fit") as caught:
            require_memory(estimate_memory(10**6, 100_000, 4, n_jobs=n_jobs, dense=dense))
        room = int(
            str(caught.value)
            .partition("about ")[2]
            .partition("about ")[2]
            .split()[0]
            .replace(",", "")
        )
        assert estimate_memory(10**6, room, 4, dense=dense).total <= GIB
        assert estimate_memory(10**6, 2 * room, 4, dense=dense).total > GIB
        assert "max_length does not" in str(caught.value)

    def test_nothing_fits(self, machine):
        machine(GIB)
        with pytest.raises(InsufficientMemoryError, match="Even a single item needs"):
            require_memory(estimate_memory(10**9, 100, 4))

    def test_the_matrix_to_be_made_first(self, machine):
        machine(GIB)
        with pytest.raises(InsufficientMemoryError, match="the items before they are packed 93"):
            require_memory(estimate_memory(10**6, 10**5, 4, dense=True))
        # gone by the time that the most is needed
        with pytest.raises(InsufficientMemoryError) as caught:
            require_memory(estimate_memory(10**6, 10**5, 4, nnz=10**9))
        assert "before they are packed" not in str(caught.value)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**44, "16.0 TiB"),
     (2**55, "32,768.0 TiB")],
)  # fmt: skip
def test_sizes_are_readable(n_bytes, text):
    assert memory._size(n_bytes) == text


class TestLinux:
    """The kernel's files, as they look on a plain machine, in a container, and in a job."""

    @staticmethod
    def write(root, files):
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return memory._linux_memory(root)

    MEMINFO = "MemTotal:       24684096 kB\nMemFree:  1 kB\nMemAvailable:   2048 kB\n"

    def test_a_plain_machine(self, tmp_path):
        assert self.write(tmp_path, {"proc/meminfo": self.MEMINFO}) == 2048 * 1024

    def test_nothing_is_known(self, tmp_path):
        assert self.write(tmp_path, {"proc/meminfo": "MemTotal: 5 kB\n"}) is None
        assert memory._linux_memory(tmp_path / "nowhere") is None

    def test_control_groups_version_2(self, tmp_path):
        base = "sys/fs/cgroup"
        files = {
            "proc/meminfo": "MemAvailable: 9000000 kB\n",
            "proc/self/cgroup": "0::/user/job\n",
            f"{base}/user/job/memory.max": "max\n",
            f"{base}/user/job/memory.current": "100\n",
            f"{base}/user/memory.max": "5000\n",
            f"{base}/user/memory.current": "3000\n",
            f"{base}/user/memory.stat": "anon 1\ninactive_file 700\nactive_file 9\n",
        }
        assert self.write(tmp_path, files) == 5000 - 3000 + 700
        files[f"{base}/user/job/memory.max"] = "1500"
        assert self.write(tmp_path, files) == 1400
        files[f"{base}/user/job/memory.current"] = "1600"  # over its limit
        assert self.write(tmp_path, files) == 0

    def test_a_container_whose_path_is_that_of_the_host(self, tmp_path):
        files = {
            "proc/meminfo": self.MEMINFO,
            "proc/self/cgroup": "0::/docker/abc\n",
            "sys/fs/cgroup/memory.max": "1000",
            "sys/fs/cgroup/memory.current": "400",
        }
        assert self.write(tmp_path, files) == 600

    def test_control_groups_version_1(self, tmp_path):
        base = "sys/fs/cgroup/memory"
        files = {
            "proc/meminfo": self.MEMINFO,
            "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/batch/7\n1:cpu:/\n0::/\n",
            f"{base}/memory.limit_in_bytes": str(0x7FFFFFFFFFFFF000),
            f"{base}/memory.usage_in_bytes": "12345",
            f"{base}/batch/7/memory.limit_in_bytes": "100000",
            f"{base}/batch/7/memory.usage_in_bytes": "60000",
            f"{base}/batch/7/memory.stat": "cache 7\ntotal_inactive_file 500\n",
        }
        assert self.write(tmp_path, files) == 40500
        (tmp_path / base / "batch/7/memory.limit_in_bytes").unlink()
        assert memory._linux_memory(tmp_path) == 2048 * 1024


def test_this_machine_has_some():
    if sys.platform not in {"linux", "darwin", "win32"}:
        pytest.skip("not known here")
    available = available_memory()
    assert available is not None
    assert 2**20 < available < 2**60


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32", "emscripten"])
def test_what_cannot_be_read_is_unknown(monkeypatch, platform):
    def fails(*_):
        raise OSError

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(memory, "_linux_memory", fails)
    monkeypatch.setattr(ctypes, "CDLL", fails)
    if hasattr(ctypes, "windll"):
        monkeypatch.delattr(ctypes, "windll")
    assert available_memory() is None


def test_windows(monkeypatch):
    class Kernel:
        @staticmethod
        def GlobalMemoryStatusEx(pointer):
            status = pointer._obj
            assert status.length == ctypes.sizeof(type(status)) == 64
            status.available_physical = 3 * GIB
            return 1

    class Libraries:
        kernel32 = Kernel

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", Libraries, raising=False)
    assert available_memory() == 3 * GIB
    monkeypatch.setattr(Kernel, "GlobalMemoryStatusEx", lambda pointer: 0)
    assert available_memory() is None


def test_mac(monkeypatch):
    class Library:
        def __init__(self, name):
            assert name is None

        @staticmethod
        def sysctlbyname(name, value, length, new, new_length):
            assert name == b"hw.memsize"
            assert length._obj.value == ctypes.sizeof(value._obj) == 8
            value._obj.value = 16 * GIB
            return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", Library)
    assert available_memory() == 16 * GIB
    monkeypatch.setattr(Library, "sysctlbyname", lambda *_: -1)
    assert available_memory() is None
