"""Every example of the README and the documentation runs as it is written.

The `python` blocks of a page run in their order and share their names; `await` may stand outside a function. A comment of the
page, `<!-- upstream: {"/users/1": {"id": 1}} -->`, says what the upstreams of the blocks after it answer: every host that they
name is then led to one on loopback.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from fairlead import HTTPClient
from fairlead.gateway import config
from loopback import led

ROOT = Path(__file__).parent.parent
PAGES = sorted(page for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")) if page.exists())
PART = re.compile(
    r"<!-- upstream: (?P<answers>.*?) -->|^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)


@dataclass
class Block:
    """One fenced block, or the answers that a comment gives to what follows it."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in PART.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if found["answers"] is not None:
            yield Block("upstream", found["answers"], line)
        else:
            yield Block(found["language"], dedent(found["code"]), line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_pages_examples_run(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    # A module of its own, as annotations are looked up by the module's name.
    module = ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with led() as peer, asyncio.Runner() as runner:
        for block in blocks(page):
            if block.language == "upstream":
                peer.answers.update(json.loads(block.text))
            elif block.language == "python":
                code = compile(
                    "\n" * block.line + block.text, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
                )
                result = eval(code, vars(module))
                if code.co_flags & inspect.CO_COROUTINE:
                    runner.run(result)
        for value in vars(module).values():
            if isinstance(value, HTTPClient):
                runner.run(value.close())


def test_whole_configurations_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "fairlead.toml"
    for page in PAGES:
        for block in blocks(page):
            if block.language != "toml" or not {"services", "aggregates"} <= tomllib.loads(block.text).keys():
                continue
            for variable in re.findall(r"\$\{(\w+)\}", block.text):
                monkeypatch.setenv(variable, "given")
            file.write_text(block.text)
            config.load(file)


def test_the_reader_finds_blocks_of_every_kind(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '# Page\n<!-- upstream: {"/": 1} -->\n```python\nx = 1\n```\n* item\n  ```toml\n  a = 1\n  ```\n```console\n$ ls\n```\n'
    )
    assert list(blocks(page)) == [
        Block("upstream", '{"/": 1}', 2),
        Block("python", "x = 1\n", 3),
        Block("toml", "a = 1\n", 7),
        Block("console", "$ ls\n", 10),
    ]
