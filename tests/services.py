"""Services that some tests need, each on its standard port of loopback: `@pytest.mark.service("redis")`.

Without it such a test is skipped, and says why; with FAIRLEAD_REQUIRE_SERVICES=1, where they are meant to be there, it fails.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Final, Self

from peers import PATIENCE, moment

PORTS: Final = {"postgres": 5432, "redis": 6379, "rabbitmq": 5672, "nats": 4222}


@cache
def missing(name: str) -> str | None:
    """Why a service cannot be used; None if somebody listens there."""
    try:
        with socket.create_connection(("127.0.0.1", PORTS[name]), timeout=2.0):
            return None
    except OSError as error:
        return f"{name} is not there: nobody listens on 127.0.0.1:{PORTS[name]} ({type(error).__name__})"


def required() -> bool:
    return os.environ.get("FAIRLEAD_REQUIRE_SERVICES", "") not in {"", "0"}


@contextmanager
def keys() -> Iterator[str]:
    """A prefix that nobody else has, in a Redis that others use too; what was kept under it is gone afterwards."""
    from redis import Redis

    prefix = f"fairlead-test-{secrets.token_hex(6)}"
    try:
        yield prefix
    finally:
        with Redis(port=PORTS["redis"]) as redis:
            for key in redis.scan_iter(match=f"*{prefix}*", count=1000):
                redis.delete(key)


class Gate:
    """Stands before a service, and can be shut, held still, made slow, made to lie, and opened again: the same address throughout.

    Whatever changes can be waited for, no longer than `PATIENCE`.
    """

    def __init__(self, port: int) -> None:
        self.to = port
        self.accepted = 0
        self.carried = 0
        """Bytes that callers sent."""
        self.lie: bytes | None = None
        """What is answered instead, to each that comes."""
        self._delay = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def callers(self) -> int:
        return len(self._writers)

    def cut(self) -> None:
        """Everybody is thrown out, and nobody let in."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Who comes is let in, and nothing is answered."""
        self._open.clear()

    def slow(self, seconds: float) -> None:
        self._delay = seconds

    async def restore(self) -> None:
        self._delay, self.lie = 0.0, None
        self._open.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs: asyncio.StreamWriter | None = None
        answers: asyncio.Task[None] | None = None
        try:
            source, theirs = await asyncio.open_connection("127.0.0.1", self.to)
            answers = asyncio.create_task(self._answer(source, writer))
            while data := await reader.read(65536):
                self.carried += len(data)
                if self.lie is not None:
                    writer.write(self.lie)
                else:
                    theirs.write(data)
        except ConnectionError:
            pass
        finally:
            if answers is not None:
                answers.cancel()
            for one in (writer, theirs):
                if one is not None:
                    one.transport.abort()
            self._writers.discard(writer)

    async def _answer(self, source: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                await self._open.wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                writer.write(data)
            writer.transport.abort()


async def until(happened: Callable[[], object]) -> None:
    """Wait until something is so that gives no sign of its own."""
    async with asyncio.timeout(PATIENCE):
        while not happened():
            await moment()
