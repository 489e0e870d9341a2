"""What thousands of tests made before the first of them runs stays: it is not looked through by each that collects its garbage."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
