"""What thousands of tests made before the first of them runs stays: it is not looked through by each that collects its garbage."""

from __future__ import annotations

import gc

import pytest

from services import missing, required


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("service"):
        if (reason := missing(*mark.args)) is not None:
            if required():
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
