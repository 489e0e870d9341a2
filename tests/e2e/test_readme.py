"""The README's first example, as it is written, against the upstreams of the demo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from fairlead.demo.processes import Upstreams

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def shop(monkeypatch):
    """The demo's three processes; where their usual ports are taken, the environment says which they have."""
    with Upstreams() as upstreams:
        for name in ("users", "orders"):
            monkeypatch.setenv(f"{name.upper()}__BASE_URL", f"http://127.0.0.1:{upstreams.ports[name]}")
        yield upstreams


def test_the_first_example_runs_as_it_is_written(shop):
    lines = README.read_text("utf-8").splitlines()
    start = lines.index("```python")
    assert start < 20, "a running example stands before line 20"
    code = "\n".join(lines[start + 1 : lines.index("```", start)])
    namespace = {}
    exec(compile(code, str(README), "exec"), namespace)
    with TestClient(namespace["app"]) as client:
        answer = client.get("/home/1").json()
        assert answer["complete"] is True
        assert answer["data"]["user"]["id"] == 1
        assert [set(order) for order in answer["data"]["orders"]] == [{"sku", "quantity"}] * len(
            answer["data"]["orders"]
        )
        failed = client.get("/home/13").json()
        assert failed["complete"] is False
        assert failed["services"]["orders"]["status"] == "error"
        assert client.get("/health").status_code == 200


def test_the_two_commands_are_named():
    text = README.read_text("utf-8")
    assert re.search(r"^make demo\b", text, re.MULTILINE)
    assert re.search(r"^make test\b", text, re.MULTILINE)
