"""Set-up of every test: numba's cache, hypothesis profiles, and a guard over global state.

At the root, so that it also serves the examples in the docstrings of the packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent

# Without torch the rest is still tested: nothing that imports it is collected, examples included.
collect_ignore_glob = []
if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["sigmine_nn/*", "tests/sigmine_nn/*", "tests/networks.py"]


def _source_hash() -> str:
    """Hash of every source: numba does not notice an edit in another file than the kernel's own."""
    digest = hashlib.sha256(sys.version.encode())
    for package in ("sigmine", "sigmine_nn"):
        for source in sorted((REPOSITORY / package).rglob("*.py")):
            digest.update(source.relative_to(REPOSITORY).as_posix().encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _numba_cache() -> Path:
    """Make a folder for the compiled kernels of exactly these sources, and clear away old ones."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    home = Path(tempfile.gettempdir()) / f"sigmine-numba-{user}"
    home.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and home.stat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="sigmine-numba-"))  # another's: never load from it
    week_ago = time.time() - 7 * 86400
    for old in home.iterdir():
        with suppress(OSError):  # another run may be clearing away too
            if old.stat().st_mtime < week_ago:
                shutil.rmtree(old)
    return home / _source_hash()


# Before anything imports numba, which reads the variable once. Child processes inherit it.
if "numba" in sys.modules:  # pragma: no cover
    raise RuntimeError("numba was imported before conftest.py could set NUMBA_CACHE_DIR")
os.environ["NUMBA_CACHE_DIR"] = str(_numba_cache())
# Tests call the parts of kernels one by one.
os.environ["SIGMINE_CALLABLE_KERNELS"] = "1"
# No test opens a window, whatever the machine has.
os.environ["MPLBACKEND"] = "Agg"

import hypothesis  # noqa: E402

# Compilation happens inside the first example, so that no example can have a deadline.
hypothesis.settings.register_profile("dev", deadline=None, max_examples=50)
hypothesis.settings.register_profile(
    "ci", deadline=None, max_examples=100, derandomize=True, print_blob=True
)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def _global_state() -> dict[str, object]:
    """Return the process-wide settings that library code must leave as it found them."""
    import joblib
    import numpy as np

    backend, n_jobs = joblib.parallel.get_active_backend()
    return {
        "numpy error state": np.geterr(),
        "numpy error callback": np.geterrcall(),
        "numpy print options": np.get_printoptions(),
        "joblib backend": type(backend).__name__,
        "joblib n_jobs": n_jobs,
        "working directory": os.getcwd(),
    }


@pytest.fixture(autouse=True)
def _unchanged_global_state() -> Iterator[None]:
    before = _global_state()
    yield
    after = _global_state()
    changed = [
        f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]
    ]
    if changed:
        pytest.fail("the test left global state changed: " + "; ".join(changed))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Return the folder of the data that are not in this repository; skip where it is missing."""
    folder = Path(os.environ.get("SIGMINE_REFERENCE_DATA", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no reference data in {folder} (set SIGMINE_REFERENCE_DATA)")
    return folder
