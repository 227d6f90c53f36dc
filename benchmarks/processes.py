"""Run a program and say what it cost. Standard library only, so that the parent stays small."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_POLL_SECONDS = 0.005


class Cost(NamedTuple):
    """What one run of a program cost.

    Attributes
    ----------
    wall_s, cpu_s : float
        Elapsed time; user plus system time of the process and of what it waited for.
    peak_mb : float
        Most resident memory of the process, in MiB.
    output : str
        What it wrote to stdout.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    output: str


def run_process(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    limit_s: float = 1800.0,
) -> Cost:
    """Run a program to its end and measure it.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell.
    environment : mapping, optional
        Variables on top of the present ones.
    directory : Path, optional
        Where it runs.
    limit_s : float, default=1800
        It is ended after this many seconds.

    Returns
    -------
    Cost

    Raises
    ------
    SystemExit
        If the program fails or exceeds the limit.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=directory,
            env={**os.environ, **(environment or {})},
        )
        peak, status = 0.0, 0
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, _resident_peak(process.pid))
            if time.perf_counter() - started > limit_s:
                process.kill()
            time.sleep(_POLL_SECONDS)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    if process.returncode != 0:
        tail = "\n".join(texts[1].splitlines()[-15:])
        sys.exit(
            f"{' '.join(command)}\nended with exit code {process.returncode} after {wall:.1f} s "
            f"(limit {limit_s:.0f} s):\n{tail}"
        )
    # ru_maxrss also counts the moment before exec, when the child was still a copy of this
    # process; the peak that the kernel shows for the running program does not.
    unit = 1024**2 if sys.platform == "darwin" else 1024
    peak = peak or usage.ru_maxrss / unit
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak, texts[0])


def _resident_peak(pid: int) -> float:
    """Return the peak resident memory of a running program in MiB; 0 where that is not known."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            for line in file:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0
