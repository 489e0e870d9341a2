"""A response, with httpx's names: raw pairs inside, the rest computed on demand. Here its body is here; in `arriving.py` it is to come.

`when_closed` serves both: what holds something for a response gives it back there, so no policy needs a second path for streams.
Longer than most: the names are many.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Self, TypeVar, overload

from fairlead.body import encode
from fairlead.errors import DecodeError, FairleadError, StatusError
from fairlead.headers import Headers, HeaderTypes, Pair
from fairlead.request import Request
from fairlead.typed import decoder

T = TypeVar("T")

_blank: Final = object.__new__  # asked of a class, it costs twice as much
_CHARSET: Final = re.compile(r"charset=[\"']?([\w.:-]+)", re.IGNORECASE)
_ENDS: Final = re.compile(r"\r\n|\n|\r")
_UNREADABLE: Final = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"})
"""Codecs of Python's own that call themselves text, and are no charset of anybody's."""


class Seconds(float):
    """A number of seconds that also answers to `timedelta`'s `total_seconds()`."""

    def total_seconds(self) -> float:
        return float(self)


class Response:
    """One answer. Buffered: `content` is here. A stream: read it with `aiter_bytes()` and its kin, inside its `async with`."""

    __slots__ = (
        "_content", "_fallback", "_headers", "_history", "_pairs", "_seconds", "_trailers", "request", "status_code", "upstream",
    )  # fmt: skip

    is_closed: bool = True
    complete: bool = True
    """Whether the whole body arrived."""
    error: BaseException | None = None
    """What ended the body early, if anything did."""
    upgraded: Any = None
    """Of a stream answered by 101: the raw connection, an `Upgraded`."""

    def __init__(
        self,
        status_code: int,
        headers: HeaderTypes | None = None,
        content: bytes | str | None = None,
        *,
        json: Any = None,
        request: Request | None = None,
    ) -> None:
        body, content_type = encode(content=content, json=json, data=None, files=None)
        fields = Headers(headers)
        if content_type is not None and "content-type" not in fields:
            fields.add("Content-Type", content_type)
        self._fill(status_code, fields.raw, body if isinstance(body, bytes) else b"", request, 0.0)

    @classmethod
    def received(cls, status: int, pairs: Sequence[Pair], content: bytes, request: Request, seconds: float) -> Self:
        """A whole answer, as an engine read it: `content` decoded, `seconds` since the attempt began."""
        self: Self = _blank(cls)
        self.status_code, self.request, self.upstream = status, request, None
        self._pairs, self._headers = pairs, None
        self._content, self._seconds = content, seconds
        return self

    def _fill(
        self, status: int, pairs: Sequence[Pair], content: bytes | None, request: Request | None, seconds: float
    ) -> None:
        self.status_code = status
        self.request = request
        self.upstream: str | None = None
        """The name of the upstream whose client this came through."""
        self._pairs = pairs
        self._headers: Headers | None = None
        self._content = content
        self._seconds = seconds

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers.received(self._pairs)
        return self._headers

    @property
    def url(self) -> str:
        return self.request.url if self.request is not None else ""

    @property
    def elapsed(self) -> Seconds:
        """Seconds from the attempt's start until this response was handed out."""
        return Seconds(self._seconds)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    @property
    def is_error(self) -> bool:
        return self.status_code >= 400

    @property
    def retry_after(self) -> float | None:
        """Seconds that the upstream asks to be left alone: by `retry-after-ms`, or `Retry-After`, a number or a date."""
        from fairlead.dates import retry_after

        return retry_after(self.headers)

    @property
    def content(self) -> bytes:
        if self._content is None:
            raise FairleadError(
                "the body is still arriving: `await response.aread()` first",
                request=self.request,
                phase="body",
            )
        return self._content

    @property
    def text(self) -> str:
        """The body decoded by the charset of its Content-Type, else as UTF-8; what does not decode is replaced."""
        return self.content.decode(self._charset(), "replace")

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, into: type[T]) -> T: ...
    def json(self, into: Any = None) -> Any:
        """The body as JSON: builtins, or `into` a dataclass, TypedDict, msgspec.Struct or pydantic model.

        Raises DecodeError with the place of the fault; its message repeats nothing of the body.
        """
        content = self._content
        try:
            return decoder(into)(self.content if content is None else content)
        except ValueError as error:
            raise DecodeError(str(error), response=self) from None

    def raise_for_status(self) -> Self:
        """Raise StatusError for 4xx and 5xx."""
        if self.status_code >= 400:
            raise StatusError(self)
        return self

    @property
    def trailers(self) -> Headers:
        """The fields after the body (RFC 9110 section 6.5); of a stream, once that has ended. They are never merged with `headers`."""
        try:
            return self._trailers
        except AttributeError:  # nearly no answer has any, so no answer is given an empty place for them
            return Headers()

    @trailers.setter
    def trailers(self, fields: Headers) -> None:
        self._trailers = fields

    @property
    def history(self) -> tuple[Response, ...]:
        """The redirects that led here, first to last, without their bodies; empty where none was followed."""
        try:
            return self._history
        except AttributeError:  # as with trailers
            return ()

    @history.setter
    def history(self, before: tuple[Response, ...]) -> None:
        self._history = before

    @property
    def fallback(self) -> str | None:
        """What answered in place of the upstream: a client's name, a function's, or "a given answer"; None where it answered itself."""
        return getattr(self, "_fallback", None)

    @fallback.setter
    def fallback(self, told: str) -> None:
        self._fallback = told

    def when_closed(self, callback: Callable[[], object]) -> None:
        """Run `callback` once the body has ended, however it does: now, when it is here or closed already."""
        callback()

    def close(self) -> None:
        """Give up what has not arrived, then run the callbacks, innermost first; all run, the first exception is raised last."""

    async def aclose(self) -> None:
        self.close()

    async def aread(self) -> bytes:
        """The whole body."""
        if self._content is None:
            self._content = b"".join([chunk async for chunk in self.aiter_bytes()])
        return self._content

    def here(self) -> bytes | None:
        """What `aiter_raw` would give, in one piece and at once, if all of it is here; the response is then closed. Else None."""
        return self._content

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        """The body as it was sent, still content-coded; of a buffered response, its content."""
        if self._content:
            yield self._content

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The body with its content coding undone."""
        return self.aiter_raw()

    async def aiter_text(self) -> AsyncIterator[str]:
        """The body as text, never cut inside a character."""
        decoder = codecs.getincrementaldecoder(self._charset())("replace")

        def decoded(chunk: bytes, *, final: bool = False) -> str:
            try:
                return decoder.decode(chunk, final)
            except UnicodeError:  # UTF-16 without its mark: the order of its bytes is not guessed
                raise DecodeError("the body does not begin as its charset does", response=self) from None

        async for chunk in self.aiter_bytes():
            if text := decoded(chunk):
                yield text
        if text := decoded(b"", final=True):
            yield text

    async def aiter_lines(self) -> AsyncIterator[str]:
        """The body line by line, without the line ends (LF, CR LF or CR)."""
        held: list[str] = []  # the line so far, joined once, so that a long one costs no more than its length
        end = ""
        async for text in self.aiter_text():
            # A CR at the end may be the first half of a CR LF.
            whole = (end + text).removesuffix("\r")
            end = "\r" if text.endswith("\r") else ""
            *lines, rest = _ENDS.split(whole)
            for line in lines:
                yield "".join([*held, line])
                held.clear()
            held.append(rest)
        if end or any(held):
            yield "".join(held)

    def _charset(self) -> str:
        """The charset that is named, if it is one: some of Python's codecs are none, and raise whatever they are given."""
        found = _CHARSET.search(self.headers.get("content-type", ""))
        try:
            codec = codecs.lookup(found[1] if found is not None else "utf-8")
        except LookupError:
            return "utf-8"
        known = codec._is_text_encoding and codec.name.replace("-", "_") not in _UNREADABLE
        return codec.name if known else "utf-8"

    def __repr__(self) -> str:
        return f"<Response [{self.status_code}]>"
