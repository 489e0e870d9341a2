"""What a request carries: bytes, or an upload that is read while it is sent.

`json=`, `data=`, `files=` and `content=` all end as one of these two, so that an engine knows two kinds of body and retry
asks one question: can it be read again? Longer than most: each way to give a body is here.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import aclosing
from inspect import iscoroutinefunction
from typing import IO, Any, Final, cast

from fairlead.errors import ConfigError
from fairlead.url import octets, pairs, text

Source = AsyncIterable[bytes] | Iterable[bytes]
Content = bytes | bytearray | memoryview | str | Source | IO[bytes] | Callable[[], Source]
"""A body as a caller may give it. A callable is asked for a fresh source on each attempt, so that the body can be sent again."""
File = bytes | str | IO[bytes]
Files = Mapping[str, Any] | Iterable[tuple[str, Any]]
"""Name to a file, its bytes, or `(filename, file)` or `(filename, file, content type)`; without a filename it is a plain field."""
Data = Mapping[str, Any] | Iterable[tuple[str, Any]] | bytes | str

CHUNK: Final = 64 * 1024


class Upload:
    """A body read while it is sent. `length` in bytes where it is known; `replayable` if it can be read again from its start.

    `awaited` is whether it was its source that was waited for last, and not whoever takes it.
    """

    __slots__ = ("_open", "_spent", "awaited", "length", "replayable")

    def __init__(self, open_: Callable[[], Source], *, length: int | None = None, replayable: bool = True) -> None:
        self._open = open_
        self._spent = self.awaited = False
        self.length = length
        self.replayable = replayable

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        if self._spent and not self.replayable:
            raise ConfigError(
                "this body was read already and cannot be read again: pass bytes, a seekable file or a function"
            )
        self._spent = True
        source = self._open()
        if not isinstance(source, AsyncIterable):
            for chunk in source:
                yield _piece(chunk)
            return
        chunks = aiter(source)
        try:
            self.awaited = True
            async for chunk in chunks:
                self.awaited = False
                yield _piece(chunk)
                self.awaited = True
            self.awaited = False
        finally:
            if isinstance(chunks, AsyncGenerator):  # given up half-way, it is told so now and not when memory is tidied
                await chunks.aclose()


def from_content(content: Content) -> bytes | Upload:
    """The body for `content=`; raises ConfigError for what is no bytes and yields none."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return octets(content)
    if isinstance(content, bytearray | memoryview):
        return bytes(content)
    if isinstance(content, Upload):
        return content
    if hasattr(content, "read"):
        return _from_async_file(content) if iscoroutinefunction(content.read) else _from_file(content)
    if callable(content):
        return Upload(content)
    source = cast("object", content)  # whatever the signature says
    if isinstance(source, AsyncIterable | Iterable) and not isinstance(source, Mapping):
        return Upload(lambda: source, replayable=not isinstance(source, AsyncIterator | Iterator))
    raise ConfigError(
        f"content= is {type(content).__name__}: pass bytes, a string, a file, or an iterable of bytes; json= for objects"
    )


def from_json(value: Any) -> bytes:
    """JSON (RFC 8259) of builtins, dataclasses, msgspec structs and pydantic models."""
    import msgspec

    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"json= cannot be encoded: {error}") from None


def from_form(data: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> bytes:
    """application/x-www-form-urlencoded (WHATWG URL section 5)."""
    from urllib.parse import quote_plus

    return "&".join(
        [f"{quote_plus(octets(name))}={quote_plus(octets(value))}" for name, value in pairs(data, "data=")]
    ).encode()


def encode(
    *, content: Content | None, json: Any, data: Data | None, files: Files | None
) -> tuple[bytes | Upload | None, str | None]:
    """The one body that was given, and its content type; raises ConfigError when there are two."""
    if files is not None:
        if content is not None or json is not None or isinstance(data, bytes | str):
            raise ConfigError("files= goes with data= as a mapping, not with content= or json=")
        return multipart(data or (), files)
    if (content is not None) + (json is not None) + (data is not None) > 1:
        raise ConfigError("a request has one body: pass one of json=, data=, content=")
    if json is not None:
        return from_json(json), "application/json"
    if data is not None:
        if isinstance(data, bytes | str):
            return from_content(data), None
        return from_form(data), "application/x-www-form-urlencoded"
    return (None if content is None else from_content(content)), None


def multipart(fields: Mapping[str, Any] | Iterable[tuple[str, Any]], files: Files) -> tuple[Upload, str]:
    """multipart/form-data (RFC 7578), read file by file while it is sent."""
    boundary = os.urandom(16).hex().encode()
    parts: list[tuple[bytes, bytes | Upload]] = [
        (_part_head(boundary, name), octets(value)) for name, value in pairs(fields, "data=")
    ]
    for name, given in files.items() if isinstance(files, Mapping) else files:
        filename, file, content_type = _file(name, given)
        parts.append((_part_head(boundary, name, filename, content_type), from_content(file)))
    tail = b"--%b--\r\n" % boundary

    async def read() -> AsyncIterator[bytes]:
        for head, body in parts:
            yield head
            if isinstance(body, bytes):
                yield body
            else:
                async with aclosing(aiter(body)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            yield b"\r\n"
        yield tail

    sizes = [len(body) if isinstance(body, bytes) else body.length for _, body in parts]
    known = [size for size in sizes if size is not None]
    length = sum(known) + sum(len(head) + 2 for head, _ in parts) + len(tail) if len(known) == len(sizes) else None
    replayable = all(isinstance(body, bytes) or body.replayable for _, body in parts)
    return Upload(read, length=length, replayable=replayable), f"multipart/form-data; boundary={boundary.decode()}"


def _file(name: str, given: Any) -> tuple[str | None, File, str | None]:
    filename: str | None = name
    file, content_type = given, None
    if isinstance(given, tuple):
        if not 2 <= len(given) <= 3:
            raise ConfigError(f"files[{name!r}]: pass a file, (filename, file) or (filename, file, content type)")
        filename, file, content_type = (*given, None)[:3]
    elif isinstance(told := getattr(given, "filename", None) or getattr(given, "name", None), str):
        filename = os.path.basename(told)  # noqa: PTH119  # pathlib takes 3 ms to import, and is not needed otherwise
    if content_type is None and filename is not None:
        from mimetypes import guess_type

        content_type = getattr(file, "content_type", None) or guess_type(filename)[0] or "application/octet-stream"
    return filename, file, content_type


def _part_head(boundary: bytes, name: str, filename: str | None = None, content_type: object = None) -> bytes:
    head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
    if filename is not None:
        head += f'; filename="{_quoted(text(filename))}"'
    if content_type is not None:
        if not isinstance(content_type, str) or re.search(r"[\x00-\x1f\x7f]", content_type):
            raise ConfigError(f"files[{name!r}]: {content_type!r} is not a content type")
        head += f"\r\nContent-Type: {content_type}"
    return b"--%b\r\n%b\r\n\r\n" % (boundary, octets(head))


def _quoted(name: str) -> str:
    """As browsers escape a form field's name (WHATWG HTML section 4.10.21.8)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _from_file(file: Any) -> Upload:
    start, length = _extent(file)

    def read() -> Iterator[bytes]:
        if start is not None:
            file.seek(start)
        while chunk := file.read(CHUNK):
            if isinstance(chunk, str):
                raise ConfigError("the file is open as text: open it with mode 'rb'")
            yield chunk

    return Upload(read, length=length, replayable=start is not None)


def _from_async_file(file: Any) -> Upload:
    """Starlette's UploadFile and its like: reads are awaited; where it stands and how long it is, the file inside knows."""
    start, length = _extent(getattr(file, "file", None))
    if start is None and isinstance(size := getattr(file, "size", None), int):
        start, length = 0, size
    last: asyncio.Future[Any] | None = None

    async def alone(step: Callable[[int], Awaitable[Any]], number: int) -> Any:
        """One step at a time. Steps run in threads, which no cancellation stops: one that was given up is waited for."""
        nonlocal last
        while last is not None and not last.done():
            await asyncio.wait([last])
        last = asyncio.ensure_future(step(number))
        last.add_done_callback(_seen)
        own = last
        await asyncio.wait([own])
        return own.result()

    async def read() -> AsyncIterator[bytes]:
        if start is not None:
            await alone(file.seek, start)
        while chunk := await alone(file.read, CHUNK):
            yield chunk

    return Upload(read, length=length, replayable=start is not None)


def _seen(step: asyncio.Future[Any]) -> None:
    """The fault of a step that was given up is nobody's: it is not told when memory is tidied."""
    if not step.cancelled():
        step.exception()


def _extent(file: Any) -> tuple[int | None, int | None]:
    """Where a file stands and how many bytes it has from there; None where it cannot go back."""
    try:
        if not file.seekable():
            return None, None
        start = file.tell()
    except (AttributeError, OSError):
        return None, None
    except ValueError:
        raise ConfigError("the file is closed: open it again") from None
    length = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    return start, max(length, 0)


def _piece(chunk: object) -> bytes:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        return bytes(chunk)
    raise ConfigError(f"the body gave {type(chunk).__name__} where bytes are sent: encode it first")


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "get_secret_value"):
        raise TypeError("a secret is not sent by accident: pass .get_secret_value()")
    raise TypeError(f"{type(value).__name__} has no JSON form")
