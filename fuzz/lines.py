"""Text and lines of a body: the same however it was cut, in any charset that a peer may name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fuzz.source import Source, pieces

from fairlead.errors import DecodeError
from fairlead.message import Arriving, Request, Response

CHARSETS = (
    b"", b"utf-8", b"latin-1", b"utf-16", b"utf-16-le", b"utf-32", b"shift_jis", b"gb18030", b"iso-2022-jp", b"utf-7", b"hz", b"ascii",
    b"big5", b"euc-kr", b"utf-8-sig", b"cp1252", b"idna", b"punycode", b"base64", b"rot13", b"unicode_escape", b"mbcs", b"undefined",
)  # fmt: skip
TEXT = "one\r\ntwo\nthree\rfour\u2028five\x0bsix\n\nüñ€😀\r"
_ENCODED = [
    TEXT.encode(name.decode(), "ignore") if name and number < 16 else TEXT.encode()
    for number, name in enumerate(CHARSETS)
]
SEEDS = [bytes([0, number, 2, 0, 4, 2]) + body for number, body in enumerate(_ENCODED)]
SEEDS += [bytes([1, 12]) + b"text/plain; charset=utf-8"[:12] + bytes([0, 3]) + TEXT.encode()]
SEEDS += [
    bytes([0, 1, 1, 0, 0]) + body
    for body in (b"\r\n", b"\r", b"a\r", b"\r\r\n\n", b"a\r\nb", b"data: x\r\n\r\ndata: y\n\n")
]

_REQUEST = Request("GET", "http://api.example/")


def check(data: bytes) -> None:
    source = Source(data)
    kind = source.take(60) if source.flag() else b"text/plain; charset=" + source.pick(CHARSETS)
    sizes, body = source.sizes(), source.rest()
    response = Response.received(200, [(b"Content-Type", kind)], body, _REQUEST, 0.0)
    assert isinstance(response.text, str)
    whole = _read([body], kind, Response.aiter_text)
    lines = _read([body], kind, Response.aiter_lines)
    for cut in (pieces(body, sizes), pieces(body, [1])):
        other = _read(cut, kind, Response.aiter_text)
        assert (whole is None) == (other is None), (whole, other)
        if whole is not None and other is not None:
            assert "".join(other) == "".join(whole)
        assert _read(cut, kind, Response.aiter_lines) == lines
    if whole is not None:
        *expected, rest = re.split(r"\r\n|\n|\r", "".join(whole))
        assert lines == [*expected, *([rest] if rest else [])], lines


class _Pieces:
    """A body that is here, and does as if it came."""

    def __init__(self, cut: Sequence[bytes]) -> None:
        self._left = iter(cut)

    async def read(self) -> bytes:
        return next(self._left, b"")

    def close(self) -> None:
        """Nothing is held."""


def _read(cut: Sequence[bytes], kind: bytes, reader: Callable[[Any], AsyncIterator[str]]) -> list[str] | None:
    """All that the reader gives, None for a body that cannot be read."""

    async def read() -> list[str]:
        response = Arriving(200, [(b"Content-Type", kind)], _Pieces(cut), None, _REQUEST, 0.0)
        return [text async for text in reader(response)]

    steps = read()
    try:
        steps.send(None)  # nothing in it waits
    except StopIteration as end:
        found: list[str] = end.value
        return found
    except DecodeError:
        return None
    raise AssertionError("it waits for something")
