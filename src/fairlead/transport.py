"""The door for other people's SDKs: a transport for httpx2, and for httpx 0.28, that sends through our policies and our engine.

`AsyncOpenAI(http_client=httpx2.AsyncClient(transport=AsyncTransport()), max_retries=0)`. The library's own response, stream and
errors come out, each error with ours as its cause. Every request is sent as a stream, and a body is handed on as it came: to
undo its coding is httpx's.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from http import HTTPStatus
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from fairlead.base import BaseAPIClient
from fairlead.body import Upload
from fairlead.core import Policy, Timeout
from fairlead.dialect import Library, library
from fairlead.errors import ConfigError, FairleadError
from fairlead.headers import Headers, Pair
from fairlead.keywords import DEFAULT, Default
from fairlead.message import Request, Response
from fairlead.url import Origin

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _Transport(httpx2.AsyncBaseTransport, httpx.AsyncBaseTransport):
        """What both libraries take, as type checkers read it. At run time they ask for its methods, and for no base."""

        async def handle_async_request(self, request: Any) -> Any: ...
else:
    _Transport = object

LONG: Final = 365 * 24 * 3600.0
"""Seconds of an attempt that is bounded only in its parts, as httpx bounds it."""
SHORT: Final = 0.001
"""Seconds for httpx's 0."""

_PORTS: Final = {"http": 80, "https": 443}
_TARGET: Final = re.compile(rb"[!-~]+").fullmatch
_NUMBER: Final = re.compile(rb"[0-9]{1,18}").fullmatch
_LENGTH_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})
_DECODED: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


class AsyncTransport(_Transport):
    """For `httpx2.AsyncClient(transport=...)`, or httpx's.

    Over a client: that one; it is closed here only with `close=True`. Over policies, or nothing (the standard pipeline): a client of
    its own. `idempotent=True` gives each POST and PATCH that has none an Idempotency-Key, so that it may be tried again.
    """

    def __init__(
        self,
        client: BaseAPIClient | Sequence[Policy] | None = None,
        *,
        idempotent: bool = False,
        close: bool = False,
    ) -> None:
        self._closes = close or not isinstance(client, BaseAPIClient)
        self.client = client if isinstance(client, BaseAPIClient) else _made(client)
        self._idempotent = idempotent

    async def handle_async_request(self, request: Any) -> Any:
        """The answer, once its head is here; raises the library's own errors."""
        theirs = library(request.__class__)
        try:
            ours = translated(request, theirs)
            if self._idempotent and not ours.idempotent:
                # Set here, before retry, so that every attempt carries the same key.
                ours.headers.add("Idempotency-Key", uuid.uuid4().hex)
                ours.idempotent = True
            response = await self.client.send(ours, timeout=self._timeout(request), stream=True)
        except FairleadError as error:
            raise theirs.told(error, request) from error
        return theirs.response(
            response.status_code,
            headers=_fields(response),
            stream=theirs.stream(response, partial(theirs.told, request=request)),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": _phrase(response.status_code)},
        )

    def _timeout(self, request: Any) -> Timeout | Default:
        given = request.extensions.get("timeout")
        if given is None:
            return DEFAULT
        return _bounds(self.client.timeout, *[given.get(part) for part in ("connect", "read", "write", "pool")])

    async def aclose(self) -> None:
        """Close the client that was made here, or, with `close=True`, the one that was given. May be called again."""
        if self._closes:
            await self.client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncTransport over {self.client!r}>"


def _made(policies: Sequence[Policy] | None) -> BaseAPIClient:
    """A client whose calls have no bound of their own: of httpx's callers each says its bounds."""
    given: object = policies  # whatever the signature says
    if not isinstance(given, tuple | list | None):
        raise ConfigError(
            f"AsyncTransport: {type(given).__name__} cannot work: pass a client, a tuple of policies, or nothing"
        )
    return BaseAPIClient(name="AsyncTransport", policies=None if policies is None else tuple(policies), timeout=None)


# The request


def translated(request: Any, theirs: Library) -> Request:
    """The same request in our words.

    How its body is framed is the engine's to say: of httpx's own fields it keeps those that say something else, and judges them.
    """
    url = request.url
    scheme, host = url.raw_scheme.decode(), url.raw_host.decode()
    if scheme not in _PORTS or not host:
        raise theirs.unsupported(request)
    origin = Origin(scheme, host, url.port or _PORTS[scheme])
    target = request.extensions.get("target", url.raw_path)  # as it stands: somebody may have signed it
    if _TARGET(target) is None:
        raise ConfigError("a target of other bytes than visible ASCII: escape them")

    usual = {(b"host", origin.authority.encode()), (b"connection", b"keep-alive")}
    fields: list[Pair] = []
    lengths: list[Pair] = []
    chunked = False
    for name, value in request.headers.raw:
        field = name.lower()
        if field == b"content-length":
            lengths.append((name, value))
        elif field == b"transfer-encoding" and value.lower() == b"chunked" and not chunked:
            chunked = True
        elif (field, value.lower()) not in usual:
            fields.append((name, value))

    stream = request.stream
    length = int(lengths[0][1]) if len(lengths) == 1 and _NUMBER(lengths[0][1]) and not chunked else None
    content: bytes | Upload
    if isinstance(stream, theirs.held) and not chunked:
        content = b"".join(cast("Iterable[bytes]", stream))
        said = length == len(content) and (length > 0 or request.method in _LENGTH_EXPECTED)
    else:
        content = Upload(lambda: stream, length=length, replayable=_replayable(stream, theirs))
        said = chunked or length is not None  # chunks overrule a length (RFC 9112 section 6.3)
    if not said:
        fields += lengths
    return Request.build(request.method, origin, target.decode(), Headers(fields), content)


def _replayable(stream: Any, theirs: Library) -> bool:
    """Whether it gives the same again: bytes do, and a multipart whose files are bytes, or can go back to their start."""
    if isinstance(stream, theirs.held):
        return True
    parts = getattr(stream, "fields", None)
    if not isinstance(parts, list):
        return False
    files = [part.file for part in parts if hasattr(part, "file")]
    return all(isinstance(file, bytes | str) or (hasattr(file, "seekable") and file.seekable()) for file in files)


@lru_cache(maxsize=256)
def _bounds(
    own: Timeout, connect: float | None, read: float | None, write: float | None, pool: float | None
) -> Timeout:
    """httpx's time-outs and the client's: of two bounds the tighter. The whole, which httpx does not bound, the client may."""
    return Timeout(
        total=own.total,
        attempt=own.attempt or LONG,
        connect=_tighter(own.connect, connect),
        read=_tighter(own.read or own.attempt, read),
        write=_tighter(own.write, write),
        wait=_tighter(own.wait, pool),
    )


def _tighter(ours: float | None, theirs: float | None) -> float | None:
    bounds = [seconds for seconds in (ours, theirs) if seconds is not None and seconds < inf]
    return max(min(bounds), SHORT) if bounds else None


# The response


def _fields(response: Response) -> list[Pair]:
    """The fields as they came; a body that a policy has read, or made, is no longer coded."""
    fields = [(name, value.strip(b" \t")) for name, value in response.headers.raw]
    return [pair for pair in fields if pair[0].lower() not in _DECODED] if response._content else fields


@lru_cache(maxsize=256)
def _phrase(status: int) -> bytes:
    """The registered phrase: the one on the wire is the peer's to choose."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
