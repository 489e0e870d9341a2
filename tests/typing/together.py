"""Several calls at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from fairlead import HTTPClient, Response, as_completed, fetch_all, gather, race


@dataclass
class User:
    id: int


async def name_from_database(number: int) -> str:
    return str(number)


async def several(client: HTTPClient) -> dict[str, Any]:
    parts = await gather(
        {"user": client.get("/users/1", into=User), "name": name_from_database(1), "nothing": None},
        required={"user"},
        within=2.0,
        default={"name": ""},
    )
    assert_type(parts.complete, bool)
    assert_type(parts.data, dict[str, Any])
    for name, part in parts.services.items():
        assert_type(name, str)
        assert_type(part.ms, float)
    return parts.as_dict()


async def first(client: HTTPClient) -> None:
    assert_type(await race([client.get("/a", into=User), client.get("/b", into=User)]), User)
    assert_type(await race([client.get("/a"), client.get("/b")], until="done"), Response)
    async for name, part in as_completed({"a": client.get("/a"), "b": name_from_database(2)}):
        assert_type(name, str)
        assert_type(part.status == "ok", bool)


async def many(urls: list[str]) -> int:
    size = 0
    async for page in fetch_all(urls, limit=10, ordered=True):
        assert_type(page.url, str)
        assert_type(page.status, int | None)
        size += len(page.content)
    return size
