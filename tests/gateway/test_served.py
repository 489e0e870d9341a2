"""The gateway on a real server, with real upstreams, between real callers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fairlead.gateway import Gateway
from peers import PATIENCE, Line, Peer, answer, says
from served import served

TOML = """
[services.a]
url = "{a}"
[services.b]
url = "{b}"
[[aggregates]]
get = "/x/{{id}}"
parts = {{ a = {{ call = "a /{{id}}", required = {required} }}, b = {{ call = "b /?of={{a.sku}}" }} }}
"""


@asynccontextmanager
async def gateway(folder: Path, a: Peer, b: Peer, *, required: bool = False) -> AsyncIterator[int]:
    """Its port."""
    file = folder / "fairlead.toml"
    file.write_text(TOML.format(a=a.url, b=b.url, required=str(required).lower()), "utf-8")
    async with served(Gateway(file)) as port:
        yield port


async def ask(port: int, target: str, *fields: str) -> tuple[bytes, bytes]:
    """Head and body of what comes back until the connection ends."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [f"GET {target} HTTP/1.1", "Host: x", "Connection: close", *fields]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    return head, body


async def test_parts_pass_byte_by_byte_from_their_upstreams(tmp_path: Path) -> None:
    written = '{ "sku": "é&1", "price": 1.10 }'.encode()
    async with Peer(says(answer(written))) as a, Peer(says(answer(b"[2.50]"))) as b, gateway(tmp_path, a, b) as port:
        head, body = await ask(port, "/x/%2e%2e%2fsecret")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"fairlead-complete: true" in head
    assert b'{"data":{"a":' + written + b',"b":[2.50]},' in body
    assert json.loads(body)["complete"] is True
    assert (a.requests[0].target, b.requests[0].target) == ("/..%2Fsecret", "/?of=%C3%A9%261")


async def silent(line: Line) -> None:
    await line.head()


async def test_a_caller_who_hangs_up_ends_the_calls_to_the_upstreams(tmp_path: Path) -> None:
    async with Peer(silent) as a, Peer(silent) as b, gateway(tmp_path, a, b) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /x/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        await a.until(lambda: len(a.requests) == 1)
        assert a.open == 1
        writer.transport.abort()
        await a.empty()
        assert b.accepted == 0


async def test_how_long_a_caller_waits_bounds_the_calls_to_the_upstreams(tmp_path: Path) -> None:
    async with Peer(says(answer(b'{"sku":1}'))) as a, Peer(silent) as b, gateway(tmp_path, a, b) as port:
        head, body = await ask(port, "/x/1", "X-Request-Timeout: 0.5")
        told = json.loads(body)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (told["data"], told["complete"]) == ({"a": {"sku": 1}, "b": None}, False)
        assert {name: part["status"] for name, part in told["services"].items()} == {"a": "ok", "b": "timeout"}
        await b.empty()


async def test_who_does_not_wait_long_enough_for_what_is_required_is_told(tmp_path: Path) -> None:
    async with Peer(silent) as a, Peer(silent) as b, gateway(tmp_path, a, b, required=True) as port:
        head, body = await ask(port, "/x/1", "X-Request-Timeout: 0.5")
        assert head.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
        assert json.loads(body)["services"]["a"]["status"] == "timeout"
        await a.empty()
        assert b.accepted == 0


async def test_connections_to_the_upstreams_are_kept(tmp_path: Path) -> None:
    async with (
        Peer(says(answer(b'{"sku":1}'))) as a,
        Peer(says(answer(b"1"))) as b,
        gateway(tmp_path, a, b) as port,
    ):
        for _ in range(5):
            await ask(port, "/x/1")
        assert (a.accepted, b.accepted) == (1, 1)
        assert len(a.requests) == len(b.requests) == 5
