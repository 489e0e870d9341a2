"""Content codings undone piece by piece, so that a small body cannot become a large one unseen.

RFC 9110 section 8.4. gzip and deflate come with Python; br and zstd are asked for only where their library is installed. A
piece is at most 64 KiB (of br 96, its library's own grain): whoever collects pieces counts them, whoever passes them on holds one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Protocol

from fairlead.errors import ProtocolError
from fairlead.message import Coding

PIECE: Final = 64 * 1024
MAX_CODINGS: Final = 3


def accepted() -> str:
    """The `Accept-Encoding` that this installation can undo."""
    names = ["gzip", "deflate"]
    if find_spec("brotli") is not None:
        names.append("br")
    if find_spec("compression") is not None or find_spec("backports.zstd") is not None:
        names.append("zstd")
    return ", ".join(names)


def coding(field: bytes) -> Coding | None:
    """The decoder for a `Content-Encoding` value, or None where nothing is to be undone.

    An unknown coding is left as it is (the caller sees the header); a chain of more than three is refused.
    """
    names = [name for part in field.lower().split(b",") if (name := part.strip()) not in {b"", b"identity"}]
    if len(names) > MAX_CODINGS:
        raise ProtocolError(f"{len(names)} chained content codings: at most {MAX_CODINGS} are undone", phase="head")
    made = [_made(name) for name in reversed(names)]
    known = [one for one in made if one is not None]
    if not known or len(known) < len(made):
        return None
    return known[0] if len(known) == 1 else _Chain(known)


def whole(coding: Coding, content: bytes, limit: int) -> bytes:
    """All of a coded body; raises ProtocolError when it decodes to more than `limit` bytes, or stops too early."""
    pieces, size = [], 0
    for piece in coding.feed(content):
        size += len(piece)
        if size > limit:
            raise ProtocolError(f"the body decodes to more than {limit} bytes: read it as a stream", phase="body")
        pieces.append(piece)
    if content:
        coding.end()
    return b"".join(pieces)


def _made(name: bytes) -> Coding | None:
    if name in {b"gzip", b"x-gzip"}:
        return _Zlib(31)
    if name == b"deflate":
        return _Zlib(15)
    if name == b"br" and find_spec("brotli") is not None:
        return _Brotli()
    if name == b"zstd" and (module := _zstd()) is not None:
        return _Zstd(module)
    return None


class _Zlib:
    """gzip (RFC 1952, members may follow one another) and deflate (RFC 1950, and the bare RFC 1951 that some servers send)."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._inflate = zlib.decompressobj(window)
        self._head: bytes | None = b"" if window == 15 else None

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        if self._head is not None:
            # Two bytes tell whether a zlib header is there; they may come one by one.
            chunk = self._head + chunk
            if len(chunk) < 2:
                self._head = chunk
                return
            self._head = None
            if chunk[0] & 15 != 8 or int.from_bytes(chunk[:2]) % 31:
                self._window = -15
                self._inflate = zlib.decompressobj(-15)
        try:
            while chunk:
                if self._inflate.eof:
                    self._inflate = zlib.decompressobj(self._window)
                piece = self._inflate.decompress(chunk, PIECE)
                chunk = self._inflate.unconsumed_tail or self._inflate.unused_data
                if piece:
                    yield piece
            # A full piece may leave output behind that no input asks for.
            while not self._inflate.eof and (piece := self._inflate.decompress(b"", PIECE)):
                yield piece
        except zlib.error:
            raise ProtocolError("the body is not what its Content-Encoding says", phase="body") from None

    def end(self) -> None:
        if not self._inflate.eof:
            raise ProtocolError("the coded body stopped too early", phase="body")


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        import brotli

        self._error: type[Exception] = brotli.error
        self._inflate = brotli.Decompressor()

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        try:
            piece = self._inflate.process(chunk, output_buffer_limit=PIECE)
            while piece or not self._inflate.can_accept_more_data():
                if piece:
                    yield piece
                piece = self._inflate.process(b"", output_buffer_limit=PIECE)
        except self._error:
            raise ProtocolError("the body is not what its Content-Encoding says", phase="body") from None

    def end(self) -> None:
        if not self._inflate.is_finished():
            raise ProtocolError("the coded body stopped too early", phase="body")


class _Decompressor(Protocol):
    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zstd:
    """zstd (RFC 8878), frame after frame."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._inflate: _Decompressor = module.ZstdDecompressor()

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        try:
            while chunk or not self._inflate.needs_input:
                if self._inflate.eof:
                    if not chunk:
                        return
                    self._inflate = self._module.ZstdDecompressor()
                piece = self._inflate.decompress(chunk, PIECE)
                chunk = self._inflate.unused_data if self._inflate.eof else b""
                if piece:
                    yield piece
        except self._module.ZstdError:
            raise ProtocolError("the body is not what its Content-Encoding says", phase="body") from None

    def end(self) -> None:
        if not self._inflate.eof:
            raise ProtocolError("the coded body stopped too early", phase="body")


class _Chain:
    """One coding over another, the outermost undone first."""

    def __init__(self, codings: list[Coding]) -> None:
        self._codings = codings

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        return self._through(self._codings, chunk)

    def _through(self, codings: list[Coding], chunk: bytes) -> Iterator[bytes]:
        if not codings:
            yield chunk
            return
        for piece in codings[0].feed(chunk):
            yield from self._through(codings[1:], piece)

    def end(self) -> None:
        for one in self._codings:
            one.end()


def _zstd() -> Any:
    """Python's own module from 3.14 on, else its backport; None where neither is there."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None
