"""Each example is a whole program, and does what its first line says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from loopback import example, led


async def test_weather_is_asked_for_each_city_and_told_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEATHER_KEY", "secret")
    answers = {"/v1/cities/Oslo": {"city": "Oslo", "celsius": 4}, "POST /v1/reports": {"number": 7}}
    with led(answers) as peer:
        await example("weather").main(["Oslo", "Atlantis"])
    assert capsys.readouterr().out.startswith("Oslo: 4.0 degrees\nAtlantis: ")
    assert sorted(f"{asked.method} {asked.target}" for asked in peer.asked) == [
        "GET /v1/cities/Atlantis?units=metric",
        "GET /v1/cities/Oslo?units=metric",
        "POST /v1/reports",
    ]
    assert {asked.headers["authorization"] for asked in peer.asked} == {"Bearer secret"}


def test_a_download_is_written_as_it_arrives(tmp_path: Path) -> None:
    with led({"/big": ["x" * 1000] * 1000}):
        size = asyncio.run(example("download").download("http://files.example/big", tmp_path / "big"))
    assert size == (tmp_path / "big").stat().st_size > 1_000_000


async def test_every_page_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    with led({"/a": "A", "/b": [500, "B"]}) as peer:
        await example("pages").main(["http://one.example/a", "http://two.example/b", "not a URL"])
    told = sorted(capsys.readouterr().out.splitlines())
    assert told[0] == "http://one.example/a: 200, 3 bytes"
    assert told[1].startswith("http://two.example/b: 500")
    assert told[2].startswith("not a URL: ")
    assert {asked.target for asked in peer.asked} == {"/a", "/b"}


def test_a_trip_is_answered_without_its_orders_but_not_without_its_weather() -> None:
    answers = {
        "/v1/cities/Oslo": {"city": "Oslo", "celsius": 4},
        "/v1/cities/Lima": [404, {}],
        "/orders": [404, {}],
        "/": {},
    }
    with led(answers), TestClient(example("trip").app) as caller:
        answer = caller.get("/trip/Oslo")
        assert answer.status_code == 200
        told = answer.json()
        assert told["data"] == {"weather": {"city": "Oslo", "celsius": 4.0}, "orders": []}
        assert told["complete"] is False
        assert {name: part["status"] for name, part in told["services"].items()} == {"weather": "ok", "orders": "error"}

        answer = caller.get("/trip/Lima")
        assert answer.status_code == 502
        assert answer.json()["upstream"] == "Weather"

        assert caller.get("/health").status_code == 200
