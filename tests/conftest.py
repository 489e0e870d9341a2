"""What was made before a module's tests stays while they run: it is not looked through by each that collects its garbage."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

from services import missing, required

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A process for each core, where there are two: beside one core's, another would only collect all tests once more."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if cores == 1 else min(cores, 4)


@pytest.fixture(scope="module", autouse=True)
def _settled() -> None:
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("service"):
        if (reason := missing(*mark.args)) is not None:
            if required():
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
