"""What is a date of HTTP: whatever is written, a moment of the years 1 to 9999, or None; and a moment only for what has a form's shape."""

from __future__ import annotations

import re

from fuzz.source import Source

from fairlead.dates import parse

SHAPES = re.compile(
    r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"
    r"|[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9:]{8} GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}"
)
VALUES = (
    b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994", b"Fri, 31 Dec 9999 23:59:60 GMT",
    b"Mon, 01 Jan 0001 00:00:00 GMT", b"Mon, 01 Jan 0000 00:00:00 GMT", b"Sun, 29 Feb 2023 08:49:60 GMT", b"Wednesday, 29-Feb-00 23:59:59 GMT",
    b"Sun, 06 Nov 1994 08:49:37 +0000", b"1994-11-06T08:49:37Z", b"\xb2un Nov  6 08:49:37 1994", b"",
)  # fmt: skip
SEEDS = [bytes([now]) + value for now in (0, 1, 50, 255) for value in VALUES]


def check(data: bytes) -> None:
    source = Source(data)
    now = source.number(256) * 2e8
    text = source.rest().decode("latin-1")
    moment = parse(text, now)
    assert moment is None or (moment.is_integer() and -62135596800 <= moment <= 253402300800), moment
    assert moment is None or SHAPES.fullmatch(text), text
