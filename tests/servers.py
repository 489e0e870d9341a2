"""An application on each of the servers that people run, in the loop of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from peers import PATIENCE, closed_port, moment
from served import served

SERVERS = ("uvicorn", "granian", "hypercorn")


def serving(server: str, app: Any) -> AbstractAsyncContextManager[int]:
    """The port that this server serves the application on; skips the test where it is not installed."""
    pytest.importorskip(server)
    return {"uvicorn": served, "granian": _granian, "hypercorn": _hypercorn}[server](app)


@asynccontextmanager
async def _granian(app: Any) -> AsyncIterator[int]:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    port = closed_port()
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
    running = asyncio.create_task(server.serve())
    await _answering(port)
    try:
        yield port
    finally:
        server.stop()
        async with asyncio.timeout(PATIENCE):
            await running


@asynccontextmanager
async def _hypercorn(app: Any) -> AsyncIterator[int]:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    port = closed_port()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    config.graceful_timeout = config.keep_alive_timeout = 0.1
    ends = asyncio.Event()
    running = asyncio.create_task(serve(app, config, shutdown_trigger=ends.wait))
    await _answering(port)
    try:
        yield port
    finally:
        ends.set()
        async with asyncio.timeout(PATIENCE):
            await running


async def _answering(port: int) -> None:
    """Wait until somebody answers there: it is listened before all that belongs to the server is made."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await moment()
                continue
            writer.write(b"nonsense\r\n\r\n")  # so that no application hears of it
            assert await reader.read(1)
            writer.transport.abort()
            return
