"""An application on a real server, in the loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from peers import PATIENCE, moment


class _Server(uvicorn.Server):
    """Ends as soon as it is told to: uvicorn's own looks for that every tenth of a second, and when it has nobody left waits another."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            await moment()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        await self.lifespan.shutdown()


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
