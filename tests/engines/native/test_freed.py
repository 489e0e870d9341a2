"""What is over is freed at once: a circle would wait for the collector, and over TLS keep a quarter of a megabyte meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from fairlead import FairleadError, HTTPClient
from fairlead.engines.native.connection import Connection
from fairlead.policies import ConcurrencyLimit, Observe, Retry
from peers import PATIENCE, Line, Peer, answer, authority


@pytest.fixture(autouse=True)
def without_the_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def talk(line: Line) -> None:
    while (seen := await line.request()) is not None:
        match seen.target:
            case "/last":
                await line.say(answer(b"ok", b"Connection: close"))
            case "/reset":
                return line.reset()
            case "/half":
                await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                return line.hang_up()
            case "/nonsense":
                await line.say(b"220 mail.example ESMTP\r\n")
            case "/silence":
                await line.gone()
            case _:
                await line.say(answer())
    return None


async def left() -> int:
    """Connections that there are, once the loop has let go of what it held."""
    async with asyncio.timeout(PATIENCE):
        for _ in range(500):
            found = sum(type(one) is Connection for one in gc.get_objects())
            if not found:
                return 0
            await asyncio.sleep(0.001)
    return found


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("target", ["/last", "/reset", "/half", "/nonsense", "/silence", "/closed", "/cancelled"])
async def test_a_connection_is_freed_when_it_is_over(target: str, tls: bool) -> None:
    policies = (Observe(), Retry(retries=1, delay=0.0), ConcurrencyLimit())
    async with Peer(talk, tls=authority().server("127.0.0.1") if tls else None) as peer:
        client = HTTPClient(peer.url, verify=authority().client(), policies=policies, timeout=0.2)
        if target == "/cancelled":
            call = asyncio.ensure_future(client.get("/silence", timeout=PATIENCE))
            await peer.until(lambda: len(peer.requests) == 1)
            call.cancel()
            await asyncio.wait({call})
            del call
        else:
            with suppress(FairleadError):
                await client.get(target)
        if target == "/closed":
            await client.close()
        assert await left() == 0
        await client.close()
