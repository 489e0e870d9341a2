"""A POST is money: it is sent once when it may have been carried out, and again only when it cannot have been."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fairlead import HTTPClient
from fairlead.errors import Disconnected
from fairlead.events import Event, Retried


class Till:
    """Counts the requests that arrive whole. `dies`: it reads them and closes without a word."""

    def __init__(self, *, dies: bool = False) -> None:
        self.dies = dies
        self.paid = 0
        self.server: asyncio.Server | None = None

    async def open(self, port: int = 0) -> int:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(len(b'{"amount":1}'))
                self.paid += 1
                if self.dies:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def till():
    till = Till()
    yield till
    await till.close()


@pytest.mark.parametrize("engine", ["native", "httpx2", "aiohttp"])
async def test_a_post_whose_connection_dies_after_sending_is_sent_exactly_once(till, engine):
    till.dies = True
    async with HTTPClient(f"http://127.0.0.1:{await till.open()}", engine=engine, timeout=5.0) as client:
        with pytest.raises(Disconnected) as caught:
            await client.post("/pay", json={"amount": 1})
    assert till.paid == 1
    assert caught.value.knowledge == "unknown"


@pytest.mark.parametrize("engine", ["native", "httpx2", "aiohttp"])
async def test_with_an_idempotency_key_it_is_tried_again(till, engine):
    till.dies = True
    url = f"http://127.0.0.1:{await till.open()}"
    async with HTTPClient(url, engine=engine, timeout=5.0, max_retries=2, retry_delay=0.001) as client:
        with pytest.raises(Disconnected):
            await client.post("/pay", json={"amount": 1}, idempotency_key="order-1")
    assert till.paid == 3


@pytest.mark.parametrize("engine", ["native", "httpx2", "aiohttp"])
async def test_a_post_that_found_nobody_is_tried_again_and_arrives_once(till, engine):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    opening: list[asyncio.Task[int]] = []

    def open_on_retry(event: Event) -> None:
        if isinstance(event, Retried):
            opening.append(asyncio.get_running_loop().create_task(till.open(port)))

    url = f"http://127.0.0.1:{port}"
    async with HTTPClient(url, engine=engine, timeout=20.0, max_retries=9, sinks=(open_on_retry,)) as client:
        assert (await client.post("/pay", json={"amount": 1})).content == b"ok"
    await opening[0]
    assert till.paid == 1
