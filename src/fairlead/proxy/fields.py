"""Header fields on their way through: which go on to the next hop, and which were meant for this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fairlead.headers import Pair

HOP_BY_HOP: Final = frozenset(
    b"connection proxy-connection keep-alive te trailer transfer-encoding upgrade proxy-authenticate proxy-authorization"
    b" proxy-authentication-info http2-settings alpn alt-svc close".split()
)
"""Fields of one connection, listed in `Connection` or not (RFC 9110 section 7.6.1); `Alt-Svc` names the upstream's own endpoint."""


def end_to_end(pairs: Sequence[Pair]) -> list[Pair]:
    """The fields that go on to the next hop, in order, names in lower case, repeated ones kept apart."""
    fields = [(name.lower(), value.strip(b" \t")) for name, value in pairs]
    named = {option.strip().lower() for name, value in fields if name == b"connection" for option in value.split(b",")}
    return [pair for pair in fields if pair[0] not in HOP_BY_HOP and pair[0] not in named]
