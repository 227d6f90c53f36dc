"""One thread, and torch's settings as they were: every test of `sigmine_nn` leaves them so."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

# Without torch there is nothing to collect here.
collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["*"]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread, so that the cores belong to the workers of the test run; and no random order."""
    import torch

    before = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(before)


def _settings_of_torch() -> dict[str, Any]:
    import torch

    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "distributed": torch.distributed.is_available() and torch.distributed.is_initialized(),
    }


@pytest.fixture(autouse=True)
def _unchanged_settings_of_torch() -> Iterator[None]:
    import torch

    before = _settings_of_torch()
    with torch.random.fork_rng(devices=[]):  # numbers that a test draws are the same every time
        torch.manual_seed(0)
        yield
    after = _settings_of_torch()
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in before
               if before[name] != after[name]]  # fmt: skip
    if changed:
        pytest.fail("the test left settings of torch changed: " + "; ".join(changed))
