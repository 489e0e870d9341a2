"""The page of the rules: all fifty, each with a source, and led to a test that is there and named after its number."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "proxy-rules.md"
LINK = re.compile(r"\]\(([^)#]+)#([^)]+)\)")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text("utf-8").splitlines()
    if re.match(r"\| \d+\.", line)
]


@cache
def functions(path: Path) -> set[str]:
    tests = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tests) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_there_are_fifty_in_their_order():
    assert [int(row[0].partition(".")[0]) for row in ROWS] == list(range(1, 51))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_rule_has_a_source_and_a_proof(row):
    rule, source, verdict = row
    assert source
    links = LINK.findall(verdict)
    assert links or "impossible:" in verdict
    for path, name in links:
        assert name in functions(PAGE.parent / path)
    number = int(rule.partition(".")[0])
    if number not in {48, 49}:  # of WebSockets, which have a page of their own
        assert any(name.startswith(f"test_rule_{number:02}_") for _, name in links)


def test_every_rule_that_is_tested_stands_there():
    page = PAGE.read_text("utf-8")
    told = {name for name in functions(Path(__file__).parent / "test_rules.py") if name.startswith("test_rule_")}
    assert {name for name in told if f"#{name})" not in page} == set()


def test_at_least_forty_four_are_held():
    assert sum(not verdict.startswith("impossible") for _, _, verdict in ROWS) >= 44
