"""How long a peer asks to wait: a number that can be slept, or None, whatever the peer wrote."""

from __future__ import annotations

from math import isfinite

from fuzz.source import Source

from fairlead.dates import retry_after
from fairlead.headers import Headers

VALUES = (
    b"1", b"0", b"1.5", b"-1", b"1e9", b"999999999", b"9999999999", b"Sun, 06 Nov 1994 08:49:37 GMT", b"Mon, 01 Jan 0000 00:00:00 GMT",
    b"Fri, 31 Dec 9999 23:59:59 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994", b"nan", b"inf", b"\xb2", b"",
    b"Sun, 99 Nov 2024 99:99:99 GMT", b"Sun, 29 Feb 2023 08:49:60 GMT",
)  # fmt: skip
SEEDS = [bytes([kind, len(value)]) + value + other for kind in range(4) for value in VALUES for other in VALUES[:8]]


def check(data: bytes) -> None:
    source = Source(data)
    kind = source.number(4)
    first, second = source.take(60), source.rest()
    names = (
        [(b"Retry-After", first), (b"Date", second)],
        [(b"retry-after-ms", first), (b"Retry-After", second)],
        [(b"Retry-After", first), (b"Retry-After", second)],
        [(b"Retry-After", second)],
    )
    seconds = retry_after(Headers.received(names[kind]), lambda: 1e9)
    assert seconds is None or (isfinite(seconds) and seconds >= 0), seconds
