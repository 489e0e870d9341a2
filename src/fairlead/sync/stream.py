"""A stream that a thread reads: each piece is fetched from the loop when it is asked for, and none before."""

from __future__ import annotations

import warnings
from asyncio import _get_running_loop
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar, cast

from fairlead.errors import ConfigError, FairleadError
from fairlead.message import Response
from fairlead.stream import Stream
from fairlead.sync.background import Background

T = TypeVar("T")
_END: Final = object()


class SyncResponse(Response):
    """A response whose body is still to come: read once, inside its `with`, by `iter_bytes()` and its kin or whole by `read()`."""

    __slots__ = ("_arriving", "_background", "_left", "complete", "error", "is_closed")

    def __init__(self, arriving: Response, background: Background) -> None:
        self._arriving = arriving
        self._background = background
        self._left = False
        """Whether it is closed as soon as the loop comes to it."""
        self._fill(arriving.status_code, arriving._pairs, arriving._content, arriving.request, arriving._seconds)
        self.upstream = arriving.upstream
        if arriving.history:
            self.history = arriving.history
        if arriving.fallback is not None:
            self.fallback = arriving.fallback
        self._note()

    @classmethod
    async def opened(cls, stream: Stream, background: Background) -> Self:
        """On the loop. Made here, so that one whom an interrupt takes from its reader closes as any that is dropped."""
        arriving = await stream.__aenter__()
        background.streams.add(arriving)
        arriving.when_closed(partial(background.streams.discard, arriving))
        return cls(arriving, background)

    def iter_raw(self) -> Iterator[bytes]:
        """The body as it was sent, still content-coded."""
        return self._each(self._arriving.aiter_raw)

    def iter_bytes(self) -> Iterator[bytes]:
        """The body with its content coding undone."""
        return self._each(self._arriving.aiter_bytes)

    def iter_text(self) -> Iterator[str]:
        """The body as text, never cut inside a character."""
        return self._each(self._arriving.aiter_text)

    def iter_lines(self) -> Iterator[str]:
        """The body line by line, without the line ends (LF, CR LF or CR)."""
        return self._each(self._arriving.aiter_lines)

    def read(self) -> bytes:
        """The whole body; afterwards it is `content` too."""
        try:
            self._content = self._background.run(self._arriving.aread)
        finally:
            self._note()
        return self._content

    @property
    def content(self) -> bytes:
        if self._content is None:
            raise FairleadError(
                "the body is still arriving: `response.read()` first", request=self.request, phase="body"
            )
        return self._content

    def when_closed(self, callback: Callable[[], object]) -> None:
        """Run `callback` once the body has ended, on the loop's thread."""

        async def told() -> None:
            self._arriving.when_closed(callback)

        self._background.run(told)

    def close(self) -> None:
        if self.is_closed:
            return
        background = self._background
        running = _get_running_loop()
        if background.lost or running not in {None, background.loop}:
            # Nobody may wait: a generator that reads it is dropped while a loop runs, or the interpreter ends.
            self._left = True
            self._hand_over_close()
            self._note()
            return
        try:
            if running is None:
                background.run(self._arriving.aclose)
            else:
                self._arriving.close()
        except BaseException as error:
            if isinstance(error, ConfigError) and self._arriving.is_closed:  # the client was closed before
                return
            self._hand_over_close()  # an interrupt ended the closing too
            raise
        finally:
            self._note()

    def aiter_raw(self) -> NoReturn:
        raise ConfigError("this stream is read by a thread: `for chunk in response.iter_bytes()`, or `response.read()`")

    def _each(self, begin: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        run, pieces = self._background.run, begin()
        try:
            while (piece := run(_next, (pieces,))) is not _END:
                yield cast("T", piece)
        finally:
            self._note()

    def _note(self) -> None:
        arriving = self._arriving
        self.is_closed = arriving.is_closed or self._left
        self.complete, self.error = arriving.complete, arriving.error
        if self.is_closed and arriving.trailers:
            self.trailers = arriving.trailers

    def _hand_over_close(self) -> None:
        with suppress(RuntimeError):
            self._background.hand_over(self._arriving.close)

    def __del__(self) -> None:
        if (arriving := getattr(self, "_arriving", None)) is None or arriving.is_closed or self._left:
            return
        self._hand_over_close()
        where = f" at {at}" if (at := getattr(arriving, "opened_at", "")) else ""
        warnings.warn(
            f"a stream opened{where} was dropped open: read it inside its `with`",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )


class SyncStream:
    """`with client.stream("GET", path) as response: ...`. Nothing is sent before it is entered; it is entered once."""

    __slots__ = ("_open", "_stream", "response")

    def __init__(self, stream: Stream, open_: Callable[[Stream], SyncResponse]) -> None:
        self._stream = stream
        self._open = open_
        self.response: SyncResponse | None = None

    def __enter__(self) -> SyncResponse:
        self.response = self._open(self._stream)
        return self.response

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.response is not None:
            self.response.close()


async def _next(pieces: AsyncIterator[Any]) -> Any:
    return await anext(pieces, _END)
