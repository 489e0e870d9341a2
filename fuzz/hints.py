"""What an upstream says about its limits: a time that can be waited, or None, whatever it wrote."""

from __future__ import annotations

from math import isfinite

from fuzz.source import Source

from fairlead.headers import Headers
from fairlead.policies.hints import hold, speaks

NAMES = (
    b"RateLimit", b"ratelimit-remaining", b"RateLimit-Reset", b"X-RateLimit-Remaining", b"x-ratelimit-reset", b"x-rate-limit-remaining",
    b"X-Rate-Limit-Reset", b"Retry-After", b"Date", b"X-RateLimit-Resource",
)  # fmt: skip
VALUES = (
    b'"default";r=0;t=30', b'"a";r=1;t=5, "b";r=0;t=9', b'"a\\"b";r=0;t=1;pk=:cHs=:;q="x;r=1"', b"limit=9, remaining=0;w=60, reset=30",
    b"token;r=0;t=1;c=?1;d=-1.5;e=@1", b"0", b"30", b"0.0", b"1700000030", b"1700000030000", b"core", b"search",
    b"Sun, 06 Nov 1994 08:49:37 GMT", b"", b"nan", b"\xb2", b'"' * 40, b";r=" * 20,
)  # fmt: skip
SEEDS = [
    bytes([status, name, len(value)]) + value + bytes([name + 1, len(other)]) + other
    for status in range(2)
    for name in range(0, len(NAMES), 2)
    for value in VALUES
    for other in VALUES[:8]
]


def check(data: bytes) -> None:
    source = Source(data)
    status = source.pick((200, 429))
    pairs = [(source.pick(NAMES), source.take()) for _ in range(4)]
    seconds = hold(status, Headers.received(pairs), 1.7e9)
    assert seconds is None or (isfinite(seconds) and seconds > 0), seconds
    assert seconds is None or speaks(status, pairs)
