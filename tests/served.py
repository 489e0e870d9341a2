"""An application on a real server, in the loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from peers import PATIENCE


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[int]:
    """The port that uvicorn serves the application on."""
    with socket.socket(proto=socket.IPPROTO_TCP) as sock:  # else asyncio sets no TCP_NODELAY on what it accepts
        sock.bind(("127.0.0.1", 0))
        server = _Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, **options))
        running = asyncio.create_task(server.serve([sock]))
        up = asyncio.create_task(server.up.wait())
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait({running, up}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            up.cancel()
            running.result()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            async with asyncio.timeout(PATIENCE):
                await running
