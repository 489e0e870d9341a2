"""The plain verbs: a `Response`, or the value that `into=` names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

from fairlead import HTTPClient, Response
from fairlead.policies import CookieJar


@dataclass
class User:
    id: int
    name: str


class Page(TypedDict):
    users: list[User]


async def verbs(client: HTTPClient) -> None:
    assert_type(await client.get("/users/1"), Response)
    assert_type(await client.get("/users/1", into=User), User)
    assert_type(await client.get("/users", params={"page": 1}, into=list[User]), list[User])
    assert_type(await client.get("/users", into=Page, timeout=1.0), Page)
    assert_type(await client.head("/users/1"), Response)
    assert_type(await client.options("/users"), Response)
    assert_type(await client.delete("/users/1", headers={"If-Match": '"1"'}), Response)
    assert_type(await client.post("/users", json={"name": "Ada"}), Response)
    assert_type(await client.put("/users/1", json=User(1, "Ada"), into=User), User)
    assert_type(await client.patch("/users/1", data={"name": "Ada"}, into=User), User)
    assert_type(await client.request("GET", "/users/1"), Response)
    assert_type(await client.request("GET", "/users/1", into=User), User)


async def sessions(client: HTTPClient) -> None:
    ada = CookieJar()
    assert_type(await client.post("/login", data={"name": "ada"}, cookies=ada, follow_redirects=True), Response)
    assert_type(await client.get("/orders", into=Page, cookies=ada), Page)
    assert_type((await client.get("/orders", cookies=None)).history, tuple[Response, ...])
    assert_type(ada.get("session", "https://api.example"), str | None)


async def answers(client: HTTPClient) -> None:
    response = await client.get("/users/1", raise_for_status=False)
    assert_type(response.status_code, int)
    assert_type(response.json(into=User), User)
    assert_type(response.raise_for_status(), Response)
    assert_type(await client.send(client.build_request("GET", "/users/1")), Response)
    assert_type(await client.health_check(), bool)


async def streams(client: HTTPClient) -> AsyncIterator[bytes]:
    async with client.stream("GET", "/export", timeout=60.0) as response:
        assert_type(response, Response)
        async for chunk in response.aiter_bytes():
            assert_type(chunk, bytes)
            yield chunk


async def opened_and_closed() -> None:
    client = HTTPClient(base_url="https://api.example", timeout=30.0, headers={"Accept": "application/json"})
    async with client as same:
        assert_type(same, HTTPClient)
    await client.close()
    await client.close(drain=5.0)


class Quiet(HTTPClient, base_url="https://api.example"):
    """A verb can be overridden, and called by its own name from its overriding."""

    async def get(self, path: str, **options: Any) -> Any:
        return await super().get(path, **options)
