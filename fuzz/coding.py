"""Content codings: any bytes in, pieces of bounded size or a ProtocolError out, and the same however they were cut."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence

import brotli
from backports import zstd
from fuzz.source import Source, pieces

from fairlead.engines import coding
from fairlead.errors import ProtocolError

FIELDS = (
    b"gzip",
    b"deflate",
    b"br",
    b"zstd",
    b"gzip, br",
    b"zstd, gzip, deflate",
    b"identity, x-gzip",
    b"GZIP , ",
    b"odd",
)
GRAIN = 96 * 1024
MOST = 8 * 1024 * 1024
"""Bytes after which the rest of a bomb is of no interest."""

_TEXT = b"the same words, the same words, the same words " * 20
_MADE = {
    0: (gzip.compress(_TEXT), gzip.compress(b"a") + gzip.compress(b""), gzip.compress(bytes(200_000)), b""),
    1: (zlib.compress(_TEXT), zlib.compress(_TEXT)[2:-4], b"\x78"),
    2: (brotli.compress(_TEXT), brotli.compress(bytes(200_000)), brotli.compress(b"")),
    3: (zstd.compress(_TEXT), zstd.compress(b"a") + zstd.compress(b"b"), b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab"),
    4: (brotli.compress(gzip.compress(_TEXT)),),
    5: (zlib.compress(gzip.compress(zstd.compress(_TEXT))),),
    6: (gzip.compress(_TEXT),),
    7: (gzip.compress(_TEXT),),
    8: (b"as it is",),
}
SEEDS = [bytes([0, field, 1, 3, 17]) + wire for field, wires in _MADE.items() for wire in wires]
SEEDS += [bytes([1, field, 1, 3, 17]) + _TEXT for field in range(len(FIELDS))]


def check(data: bytes) -> None:
    source = Source(data)
    sound, field, sizes = source.flag(), source.pick(FIELDS), source.sizes()
    wire = source.rest()
    if sound:  # what was coded well comes back
        coded = wire
        for name in field.lower().split(b","):
            coded = _coded(name.strip(), coded)
        good, given = _undone(field, pieces(coded, sizes))
        assert good, "what was coded well is refused"
        assert given == wire
        return
    whole = _undone(field, [wire])
    for cut in (pieces(wire, sizes), [*pieces(wire[:2000], [1]), wire[2000:]]):
        other = _undone(field, cut)
        assert other[0] == whole[0], f"a verdict that depends on the segments: {whole[0]}, {other[0]}"
        assert not whole[0] or other == whole


def _undone(field: bytes, cut: Sequence[bytes]) -> tuple[bool, bytes]:
    """Whether it ended well, and what came of it."""
    try:
        decode = coding.coding(field)
        if decode is None:
            return True, b"".join(cut)
        given, size = [], 0
        for chunk in cut:
            if not chunk:
                continue
            for piece in decode.feed(chunk):
                assert 0 < len(piece) <= GRAIN, f"a piece of {len(piece)} bytes"
                given.append(piece)
                size += len(piece)
                if size > MOST:
                    return True, b""
        if any(cut):
            decode.end()
        return True, b"".join(given)
    except ProtocolError:
        return False, b""


def _coded(name: bytes, data: bytes) -> bytes:
    match name:
        case b"gzip" | b"x-gzip":
            return gzip.compress(data, 1)
        case b"deflate":
            return zlib.compress(data, 1)
        case b"br":
            return bytes(brotli.compress(data, quality=1))
        case b"zstd":
            return zstd.compress(data, 1)
    return data
