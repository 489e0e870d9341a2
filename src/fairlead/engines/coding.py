"""Content codings undone piece by piece, so that a small body cannot become a large one unseen.

RFC 9110 section 8.4. gzip and deflate come with Python; br and zstd are asked for only where their library is installed. A
piece is at most 64 KiB (of br 96, its library's own grain): whoever collects pieces counts them, whoever passes them on holds one.
What is passed on is bounded too: zeros and repeated lines shrink a thousandfold, so a body may give as much as could be held
whatever its ratio; beyond that no honest one keeps up 200 to 1.

Longer than most: four codings, and what each of them can be made to cost.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any, Final

from fairlead.engines.wire import too_large
from fairlead.errors import ProtocolError
from fairlead.message import Coding

PIECE: Final = 64 * 1024
SLICE: Final = 16 * 1024
"""Coded bytes given to a library at once: what it leaves over it hands back as a copy, which must stay small."""
MAX_CODINGS: Final = 3
MEMBERS: Final = 1000
"""Members of a gzip body, or frames of a zstd one, that need not give anything; each one more must give 64 bytes."""
HELD: Final = 1024 * 1024
"""Bytes that one coding may give to the next, before this gives any itself."""
FREE: Final = 64 * 1024 * 1024
"""Bytes that a body may decode to, however small it is."""
RATIO: Final = 200
"""Bytes that each byte of a body may decode to, beyond those."""
WINDOW: Final = 23
"""The largest window of zstd, as a power of two: 8 MiB (RFC 9659 section 3)."""


def accepted() -> str:
    """The `Accept-Encoding` that this installation can undo."""
    names = ["gzip", "deflate"]
    if _brotli() is not None:
        names.append("br")
    if _zstd() is not None:
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
    return _Bounded(known[0] if len(known) == 1 else _Chain(known))


def whole(coding: Coding, content: bytes, limit: int) -> bytes:
    """All of a coded body; raises ProtocolError when it decodes to more than `limit` bytes, or stops too early."""
    pieces, size = [], 0
    for piece in coding.feed(content):
        size += len(piece)
        if size > limit:
            raise too_large(limit)
        pieces.append(piece)
    if content:
        coding.end()
    return b"".join(pieces)


def _made(name: bytes) -> Coding | None:
    if name in {b"gzip", b"x-gzip"}:
        return _Zlib(31)
    if name == b"deflate":
        return _Zlib(15)
    if name == b"br" and (module := _brotli()) is not None:
        return _Brotli(module)
    if name == b"zstd" and (module := _zstd()) is not None:
        return _Zstd(module)
    return None


def _slices(chunk: bytes) -> Iterator[memoryview]:
    view = memoryview(chunk)
    return (view[start : start + SLICE] for start in range(0, len(view), SLICE))


class _Bounded:
    """Counts what comes and what it gives."""

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        self._came = self._given = 0

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        self._came += len(chunk)
        for piece in self._coding.feed(chunk):
            yield piece  # first: who holds the pieces may have a bound of its own, and says so
            self._given += len(piece)
            if self._given > FREE and self._given > RATIO * self._came:
                raise ProtocolError(
                    f"the body decodes to more than {RATIO} times its size: read it with aiter_raw()", phase="body"
                )

    def end(self) -> None:
        self._coding.end()


class _Members:
    """Counts what follows one another in one body: one that is all beginnings costs much and gives nothing."""

    def __init__(self) -> None:
        self._begun = 1
        self.given = 0

    def begin(self) -> None:
        self._begun += 1
        if self._begun > MEMBERS + self.given // 64:
            raise ProtocolError(f"more than {MEMBERS} members of the coded body hold next to nothing", phase="body")


class _Zlib:
    """gzip (RFC 1952, members may follow one another) and deflate (RFC 1950, and the bare RFC 1951 that some servers send)."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._inflate = zlib.decompressobj(window)
        self._members = _Members()
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
        for part in _slices(chunk):
            yield from self._undo(part)

    def _undo(self, part: bytes | memoryview) -> Iterator[bytes]:
        try:
            while part:
                if self._inflate.eof:
                    self._members.begin()
                    self._inflate = zlib.decompressobj(self._window)
                piece = self._inflate.decompress(part, PIECE)
                part = self._inflate.unconsumed_tail or self._inflate.unused_data
                if piece:
                    self._members.given += len(piece)
                    yield piece
            # A full piece may leave output behind that no input asks for.
            while not self._inflate.eof and (piece := self._inflate.decompress(b"", PIECE)):
                self._members.given += len(piece)
                yield piece
        except zlib.error:
            raise ProtocolError("the body is not what its Content-Encoding says", phase="body") from None

    def end(self) -> None:
        if not self._inflate.eof:
            raise ProtocolError("the coded body stopped too early", phase="body")


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self, module: Any) -> None:
        self._error: type[Exception] = module.error
        self._inflate = module.Decompressor()

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        try:
            for part in _slices(chunk):
                piece = self._inflate.process(part, output_buffer_limit=PIECE)
                while piece or not self._inflate.can_accept_more_data():
                    if piece:
                        yield piece
                    piece = self._inflate.process(b"", output_buffer_limit=PIECE)
        except self._error:
            raise ProtocolError("the body is not what its Content-Encoding says", phase="body") from None

    def end(self) -> None:
        if not self._inflate.is_finished():
            raise ProtocolError("the coded body stopped too early", phase="body")


class _Zstd:
    """zstd (RFC 8878), frame after frame."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._options = {module.DecompressionParameter.window_log_max: WINDOW}
        self._members = _Members()
        self._begin()

    def _begin(self) -> None:
        self._inflate = self._module.ZstdDecompressor(options=self._options)
        self._begun = False

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        for part in _slices(chunk):
            yield from self._undo(part)

    def _undo(self, part: bytes | memoryview) -> Iterator[bytes]:
        try:
            while part or not self._inflate.needs_input:
                if self._inflate.eof:
                    if not part:
                        return
                    self._members.begin()
                    self._begin()
                if not self._begun:
                    # A byte of its own: a frame that is given whole is judged by other code than one that comes in parts.
                    self._begun = True
                    self._inflate.decompress(part[:1], PIECE)
                    part = part[1:]
                    continue
                piece = self._inflate.decompress(part, PIECE)
                part = self._inflate.unused_data if self._inflate.eof else b""
                if piece:
                    self._members.given += len(piece)
                    yield piece
        except self._module.ZstdError as error:
            wide = "memory" in str(error)  # it has no other word for it
            raise ProtocolError(
                "zstd with a window of more than 8 MiB" if wide else "the body is not what its Content-Encoding says",
                phase="body",
            ) from None

    def end(self) -> None:
        if not self._inflate.eof:
            raise ProtocolError("the coded body stopped too early", phase="body")


class _Chain:
    """One coding over another, the outermost undone first.

    What they give to each other is bounded by what comes out in the end: a bomb may be inside, and nothing in the bomb.
    """

    def __init__(self, codings: list[Coding]) -> None:
        self._codings = codings
        self._inside = self._given = 0

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        return self._through(0, chunk)

    def _through(self, place: int, chunk: bytes) -> Iterator[bytes]:
        last = place == len(self._codings) - 1
        for piece in self._codings[place].feed(chunk):
            if last:
                self._given += len(piece)
                yield piece
                continue
            self._inside += len(piece)
            if self._inside > HELD + 2 * len(self._codings) * self._given:
                raise ProtocolError("content codings inside one another hold next to nothing", phase="body")
            yield from self._through(place + 1, piece)

    def end(self) -> None:
        for one in self._codings:
            one.end()


@cache
def _brotli() -> Any:
    """The library of that name, if it can stop at a bound: from 1.2 on."""
    try:
        module = import_module("brotli")
    except ImportError:
        return None
    return module if hasattr(getattr(module, "Decompressor", None), "can_accept_more_data") else None


@cache
def _zstd() -> Any:
    """Python's own module from 3.14 on, before that its backport; None where it is not there."""
    try:
        return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        return None
