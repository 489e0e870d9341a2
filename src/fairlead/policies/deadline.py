"""Tell the upstream how long its answer is waited for, so that nobody works for a caller who has given up.

In a header, as seconds that are left and no time of day: clocks differ. Innermost but for cookies and auth, so after every wait, and
anew for each attempt. The same recipe reads the header of an inbound request: what one service writes, the next understands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Final

from fairlead.core import Call, Send, Upstream
from fairlead.errors import ConfigError, DeadlineExceeded, Knowledge
from fairlead.headers import Headers
from fairlead.message import Response

HEADER: Final = "X-Request-Timeout"
_SECONDS: Final = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,20})?").fullmatch
_MILLISECONDS: Final = re.compile(rb"[0-9]{1,12}").fullmatch
_GRPC: Final = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_PER_SECOND: Final = {b"H": 1 / 3600, b"M": 1 / 60, b"S": 1, b"m": 10**3, b"u": 10**6, b"n": 10**9}
_COARSER: Final = (("m", 1), ("S", 1000), ("M", 60_000), ("H", 3_600_000))


@dataclass(frozen=True, slots=True)
class DeadlineHeader:
    """Sends what is left of a call's time, or of its attempt's where that is less. Without a deadline, or set by hand: nothing.

    Seconds with at most three decimals; whole milliseconds where the name ends in `-ms`; gRPC's format in `grpc-timeout`. With less
    than a millisecond left it sends nothing, and raises DeadlineExceeded.
    """

    header: str = HEADER
    name: str = field(default="default", kw_only=True)
    place: ClassVar[str] = "DeadlineHeader"

    def __post_init__(self) -> None:
        told = f"DeadlineHeader: header={self.header!r}"
        if not isinstance(self.header, str):
            raise ConfigError(f"{told} is no string: use the name of a header field, such as {HEADER}")
        try:
            framing = Headers({self.header: "1"}).framing
        except ConfigError:
            raise ConfigError(f"{told} is no name of a header field: use one such as {HEADER}") from None
        if framing:
            raise ConfigError(f"{told} says where a message ends: use another, such as {HEADER}")

    def explain(self) -> str:
        return f"deadline header: {self.header}, with what is left of the time of the call and of its attempt"

    def write(self, seconds: float) -> str | None:
        """The header's value, never more than `seconds`; None for less than a millisecond."""
        milliseconds = int(seconds * 1000)
        if milliseconds < 1:
            return None
        name = self.header.lower()
        if name.endswith("-ms"):
            return str(milliseconds)
        if name == "grpc-timeout":  # at most eight digits
            fits = (f"{milliseconds // size}{unit}" for unit, size in _COARSER if milliseconds // size < 10**8)
            return next(fits, "99999999H")
        whole, rest = divmod(milliseconds, 1000)
        return f"{whole}.{rest:03}".rstrip("0") if rest else str(whole)

    def read(self, value: bytes) -> float | None:
        """The seconds that a value says; None for what is no number above 0, or one of more digits than any deadline has."""
        name, value = self.header.lower(), value.strip(b" \t")
        seconds = 0.0
        if name.endswith("-ms"):
            if _MILLISECONDS(value):
                seconds = int(value) / 1000
        elif name == "grpc-timeout":
            if found := _GRPC(value):
                seconds = int(found[1]) / _PER_SECOND[found[2]]
        elif _SECONDS(value):
            seconds = float(value)
        return seconds or None

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        header, write, name = self.header, self.write, upstream.name

        async def tell(call: Call) -> Response:
            left = call.deadline
            if left < inf:
                left -= call.clock()
            # Of a stream, an attempt's time bounds each silence, and not the whole.
            if call.allowance < left and not call.stream:
                left = call.allowance
            if left < inf:
                request = call.request
                if (value := write(left)) is None:
                    raise DeadlineExceeded(
                        "nothing was sent: less than a millisecond is left",
                        request=request,
                        upstream=name,
                        phase="waiting",
                        knowledge=Knowledge.NOT_SENT,
                    )
                if header not in request.headers:
                    call.request = request.replace(headers=request.headers.joined(Headers({header: value})))
            return await send(call)

        return tell
