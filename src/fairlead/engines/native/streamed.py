"""What is read from a connection after the head of an answer: a body, or another protocol's bytes."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.engines.native.connection import Connection
from fairlead.errors import Disconnected, FairleadError


class Streamed:
    """The body of a stream; its connection is kept when it was read to its end, and given up otherwise."""

    __slots__ = ("_connection", "_keep")

    def __init__(self, connection: Connection, keep: Callable[[Connection], None]) -> None:
        self._connection: Connection | None = connection
        self._keep = keep

    async def read(self) -> bytes:
        connection = self._connection
        if connection is None:
            return b""
        data = await connection.next()
        if not data:
            self._connection = None
            self._keep(connection)
        return data

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.answer.complete and not connection.answer.size and not connection.read_from:
            self._keep(connection)
        else:
            connection.fail(FairleadError("the stream was closed", request=connection.call.request, phase="body"))


class Nothing:
    """The body of a stream that is here already: there is nothing to read, and nothing to give up."""

    __slots__ = ()

    async def read(self) -> bytes:
        return b""

    def close(self) -> None:
        pass


class Switched(Streamed):
    """A connection that speaks another protocol now: what comes is read as a body is, and what is written goes out as it stands."""

    __slots__ = ()

    async def write(self, data: bytes) -> None:
        if self._connection is None:
            raise Disconnected("the upgraded connection is closed", phase="body")
        await self._connection.write(data)

    def outlive(self) -> None:
        if self._connection is not None:
            self._connection.outlive()
