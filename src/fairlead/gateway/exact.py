"""JSON that passes through as it was written: checked as bytes, and decoded only where another part refers into it.

A number decoded and encoded again is another number: 1.10 becomes 1.1, and what a float cannot hold becomes what it can.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from fairlead.message import Response

_check = msgspec.json.Decoder(msgspec.Raw).decode
_MARK: Final = b"\xef\xbb\xbf"


def checked(response: Response) -> bytes:
    """The body as it may stand inside another JSON document; raises ValueError, which repeats none of it."""
    content = response.content
    if not content and response.status_code in {204, 205}:
        return b"null"
    if content[:3] == _MARK:  # a byte order mark, which RFC 8259 section 8.1 lets a reader ignore
        content = content[3:]
    try:
        _check(content)
        if not content.isascii():
            content.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("the answer is not JSON") from None
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    return content


class Exact(float):
    """A number that remembers how it was written."""

    __slots__ = ("text",)
    text: str


Exact.__name__ = "float"  # JMESPath's functions ask for the name of a type


def _exact(written: str) -> float:
    number = Exact(written)
    number.text = written
    return number


_decode = msgspec.json.Decoder(float_hook=_exact).decode


def decoded(content: bytes) -> Any:
    """What references look into; raises ValueError for what only looks like JSON, such as half a surrogate pair."""
    try:
        return _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("the answer is not JSON") from None
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None


def text(value: Any) -> str:
    """One value as a URL or a header carries it; raises ValueError for what is no single value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Exact):
        return value.text
    if isinstance(value, int | float) and math.isfinite(value):
        return str(value)
    kind = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "no number"
    raise ValueError(f"{kind} is not one value")
