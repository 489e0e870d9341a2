"""A stream is handed out only as a context manager: opened by `async with`, closed by its end, whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from types import TracebackType

from fairlead.errors import ConfigError
from fairlead.message import Arriving, Request, Response


class Stream:
    """`async with client.stream("GET", path) as response: ...`. Nothing is sent before it is entered; it is entered once."""

    __slots__ = ("_opened_at", "_send", "request", "response")

    def __init__(self, request: Request, send: Callable[[Request], Awaitable[Response]], opened_at: str) -> None:
        self.request = request
        self._send: Callable[[Request], Awaitable[Response]] | None = send
        self._opened_at = opened_at
        self.response: Response | None = None

    async def __aenter__(self) -> Response:
        if self._send is None:
            raise ConfigError("a stream opens once: call client.stream() again")
        send, self._send = self._send, None
        self.response = response = await send(self.request)
        if isinstance(response, Arriving):
            response.opened_at = self._opened_at
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.response is not None:
            self.response.close()


def caller() -> str:
    """The line outside this package that is running: where a client or a stream was made."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("fairlead."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
