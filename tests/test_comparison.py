"""The page that sets our policies beside others: whole rows, and each cell of ours led to a test that is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "comparison.md"
LINK = re.compile(r"\[[^\]]+\]\(([^)#]+)#([^)]+)\)")
HEAD, _, *ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text("utf-8").splitlines()
    if line.startswith("|")
]


def test_it_has_the_columns_it_says():
    assert HEAD[1:] == [
        "Fairlead", ".NET and Polly", "resilience4j", "failsafe-go", "Envoy", "AWS SDK", "httpware", "interlock-cb",
    ]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_is_whole_and_ours_is_proved(row):
    assert len(row) == len(HEAD)
    assert all(row), "an empty cell"
    links = LINK.findall(row[1])
    assert links or row[1] == "to come"
    for path, name in links:
        assert name in set(names(PAGE.parent / path))


def names(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from [f"{node.name}.{one.name}" for one in node.body if hasattr(one, "name")]
