"""What httpx2 and httpx (0.28) spell alike, each with classes of its own: a response, a stream, and a name for every error of ours.

Which of the two it is, the request says that is handed in; neither is imported here.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import lru_cache
from types import ModuleType
from typing import Any, Final, cast

from fairlead.errors import (
    ConfigError,
    ConnectFailed,
    DecodeError,
    Disconnected,
    FairleadError,
    Knowledge,
    LimitReached,
    Phase,
    ProtocolError,
    Refused,
    TimedOut,
)
from fairlead.message import Response

LIBRARIES: Final = ("httpx2", "httpx")

_TIMEOUTS: Final[dict[Phase | None, str]] = {
    "waiting": "PoolTimeout",
    "connecting": "ConnectTimeout",
    "sending": "WriteTimeout",
}


class Library:
    """One of the two."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.response: Callable[..., Any] = module.Response
        self.held: type = module.ByteStream
        """The stream of a body that is in memory."""
        self.stream: Callable[..., Any] = type("Stream", (_Stream, module.AsyncByteStream), {})
        """The stream of a response of ours, with the function that tells its errors."""

    def told(self, error: FairleadError, request: Any) -> BaseException:
        """Our error in the library's words."""
        made: BaseException = getattr(self._module, named(error))(str(error), request=request)
        return made

    def unsupported(self, request: Any) -> BaseException:
        """The error for a URL that leads nowhere."""
        made: BaseException = self._module.UnsupportedProtocol("not an absolute http or https URL", request=request)
        return made


@lru_cache(maxsize=64)
def library(kind: type) -> Library:
    """The library that a class of requests is of; one that somebody derived is of the same."""
    for base in kind.__mro__:
        name = base.__module__.partition(".")[0]
        if name in LIBRARIES:
            return _called(name)
    raise ConfigError(
        f"{kind.__module__}.{kind.__name__} is no request of {' or '.join(LIBRARIES)}: pass one of theirs"
    )


@lru_cache
def _called(name: str) -> Library:
    return Library(sys.modules[name])


def named(error: FairleadError) -> str:
    """What httpx calls it: by what happened, in which phase, and by what is known of the request."""
    if isinstance(error, TimedOut):
        return _TIMEOUTS.get(error.phase, "ReadTimeout")
    if isinstance(error, LimitReached):
        return "PoolTimeout"
    if isinstance(error, ConnectFailed | Refused):
        return "ConnectError"
    if isinstance(error, ProtocolError):
        return "RemoteProtocolError"
    if isinstance(error, Disconnected):
        if error.knowledge is Knowledge.NOT_SENT:
            return "ConnectError"
        if error.phase == "sending":
            return "WriteError"
        return "ReadError" if isinstance(error.__cause__, OSError) else "RemoteProtocolError"
    if isinstance(error, DecodeError):
        return "DecodingError"
    return "LocalProtocolError"


class _Stream:
    """A body as its library iterates it, in the pieces that came."""

    def __init__(self, response: Response, told: Callable[[FairleadError], BaseException]) -> None:
        self._response = response
        self._told = told

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async with aclosing(cast("AsyncGenerator[bytes]", self._response.aiter_raw())) as chunks:
                async for chunk in chunks:
                    yield chunk
        except FairleadError as error:
            raise self._told(error) from error

    async def aclose(self) -> None:
        self._response.close()
