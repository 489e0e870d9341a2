"""The fuzz targets, for a moment: their seeds, and some thousand inputs that chance makes of them, the same in every run."""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

TARGETS = (
    "answer",
    "coding",
    "cookies",
    "dates",
    "guard",
    "head",
    "hints",
    "lines",
    "redirect",
    "retry_after",
    "tunnel",
    "url",
)
INPUTS = 3000


def fuzz(name: str) -> ModuleType:
    with patch.object(sys, "path", [str(Path(__file__).parent.parent), *sys.path]):
        return import_module(f"fuzz.{name}")


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found_in_a_moment(target: str) -> None:
    run, found = fuzz("run"), fuzz(target)
    for data in islice(run.inputs(found.SEEDS, seed=1), INPUTS):
        assert run.met(found.check, data) == ""


def test_every_target_is_met() -> None:
    files = {path.stem for path in Path(__file__).parent.parent.joinpath("fuzz").glob("*.py")}
    assert files - {"run", "source"} == set(TARGETS) == set(fuzz("run").TARGETS)


def test_a_finding_is_told_with_what_made_it() -> None:
    def check(data: bytes) -> None:
        assert data != b"here"

    run = fuzz("run")
    assert run.met(check, b"elsewhere") == ""
    assert run.met(check, b"here").startswith("b'here'\nTraceback")


def test_chance_is_the_same_in_every_run() -> None:
    run = fuzz("run")
    one, other, third = ([*islice(run.inputs([b"seed", b"another"], seed), 50)] for seed in (1, 1, 2))
    assert one == other != third
