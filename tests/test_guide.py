"""The guide's own code, with only its imports changed, against a real upstream on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from fastapi.testclient import TestClient

from fairlead import HTTPClient, Response, StatusError
from loopback import Upstream, example, led

ANSWERS: dict[str, Any] = {
    "/": {},
    "GET /users/123": {"id": 123, "name": "Ada"},
    "POST /users": [201, {"id": 124}],
    "GET /users": [{"id": 1}],
    "GET /cgi-bin/token": {"access_token": "TOKEN", "expires_in": 7200},
    "POST /cgi-bin/message/template/send": {"errcode": 0, "msgid": 1},
}


@pytest.fixture
def peer() -> Iterator[Upstream]:
    with led(ANSWERS) as made:
        yield made


def test_the_guides_client_runs_with_every_argument(peer: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    # Made at import, where there is no loop yet.
    module = example("guide_client")
    asyncio.run(module.main())
    assert [f"{asked.method} {asked.target}" for asked in peer.asked] == [
        "GET /users/123",
        "POST /users",
        "GET /users?page=1&page_size=10",
    ]
    assert {asked.headers["authorization"] for asked in peer.asked} == {"Bearer YOUR_TOKEN"}
    assert peer.asked[1].json == {"name": "Ada", "email": "ada@example.com"}
    assert capsys.readouterr().out == "user 123: Ada\ncreated: 201\n1 users\n"


async def test_the_guides_client_is_closed_by_hand(peer: Upstream) -> None:
    client = HTTPClient(base_url="https://api.example.com", timeout=30.0)
    response = await client.get("/users/123")
    assert response.json() == {"id": 123, "name": "Ada"}
    with pytest.raises(StatusError, match="404"):
        await client.get("/nobody")
    await client.close()


async def test_the_guides_class_asks_for_its_token_once(peer: Upstream) -> None:
    module = example("guide_wechat")
    async with module.WeChatAPIClient(app_id="app", app_secret="s&cret") as client:
        for _ in range(2):
            answer = await client.send_template_message("ada", "T1", {"first": {"value": "Hello"}})
            assert answer["errcode"] == 0
        assert client.timeout.total == 10.0
    sent = "/cgi-bin/message/template/send?access_token=TOKEN"
    assert [asked.target for asked in peer.asked] == [
        "/cgi-bin/token?grant_type=client_credential&appid=app&secret=s%26cret",
        sent,
        sent,
    ]
    assert peer.asked[1].json == {"touser": "ada", "template_id": "T1", "data": {"first": {"value": "Hello"}}}


def test_the_guides_application_opens_and_closes_its_clients(peer: Upstream) -> None:
    module = example("guide_fastapi")
    with TestClient(module.app) as caller:
        assert caller.get("/users/123").json() == {"id": 123, "name": "Ada"}
        assert caller.post("/notify/ada").json() == {"errcode": 0, "msgid": 1}
        assert caller.get("/health").json() == {"upstream": True}
    assert peer.asked[-1].target == "/"


async def test_the_guides_unit_test_patches_a_verb() -> None:
    client = HTTPClient(base_url="https://api.example.com")
    with patch.object(client, "get") as mock_get:
        mock_get.return_value = Response(200, json={"id": 123, "name": "Ada"})
        response = await client.get("/users/123")
    assert response.json()["name"] == "Ada"
    mock_get.assert_awaited_once_with("/users/123")


async def test_the_guides_class_can_be_patched_too(peer: Upstream) -> None:
    client = example("guide_wechat").WeChatAPIClient("app", "secret")
    with patch.object(client, "get") as mock_get:
        mock_get.return_value = Response(200, json={"access_token": "patched"})
        assert await client.get_access_token() == "patched"
