"""Header fields on their way through: which go on to the next hop, and which were meant for this one.

What is done with a name is decided once and remembered, so a message costs one look into a dictionary for each of its fields. The
order of fields stays, and repeated ones stay apart (RFC 9110 section 5.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final

from fairlead.headers import Pair
from fairlead.inbound import Scope
from fairlead.message import Response
from fairlead.proxy.status import Refusal

HOP_BY_HOP: Final = frozenset(
    b"connection proxy-connection keep-alive te trailer transfer-encoding upgrade proxy-authenticate proxy-authorization"
    b" proxy-authentication-info http2-settings alpn alt-svc close".split()
)
"""Fields of one connection, listed in `Connection` or not (RFC 9110 section 7.6.1); `Alt-Svc` names the upstream's own endpoint."""
OURS: Final = (b"fairlead-", b"x-fairlead-")
"""What begins like this is said by us alone."""
MOST: Final = 256
"""Fields of one request; more are answered 431."""
LARGEST: Final = 64 * 1024
"""Bytes of all names and values of one request; more are answered 431."""
_KNOWN: Final = 1024
"""Names that are remembered: others may be made up to fill memory."""
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_VISIBLE: Final = bytes([9, *range(32, 127), *range(128, 256)])

DROP: Final = 0
PASS: Final = 1
NOTE: Final = 2
"""Not passed on as it is: something is made of it."""
CLAIM: Final = 3
"""Passed on where whoever says it is believed."""
WRONG: Final = 4
"""No name, or one that is longer than any."""
LONGEST: Final = 256
"""Bytes of a name."""

_NOTED: Final = frozenset(
    b"host connection content-length transfer-encoding expect max-forwards via"
    b" forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-prefix".split()
)


class Verdicts(dict[bytes, int]):
    """Of a request's field by its name: what becomes of it. Names in `without` are dropped, and what begins with one of `control`."""

    def __init__(self, without: Iterable[bytes] = (), control: Sequence[bytes] = ()) -> None:
        self._without = HOP_BY_HOP.union(without)
        self._control = (*OURS, *control)

    def __missing__(self, name: bytes) -> int:
        verdict = self._of(name.lower())
        if len(self) < _KNOWN:
            self[name] = verdict
        return verdict

    def _of(self, name: bytes) -> int:
        if name in _NOTED:
            return NOTE
        if not name or name.lstrip(b":").translate(None, _TOKEN) or len(name) > LONGEST:
            return WRONG
        # An underscore is a hyphen to some who read it (CGI, WSGI), and is then another field than the one that was looked at.
        if name in self._without or b"_" in name or name[:1] == b":" or name.startswith(self._control):
            return DROP
        return CLAIM if name.startswith(b"x-forwarded-") or name == b"x-real-ip" else PASS


class Inward:
    """A request's fields, sorted: `kept` go on, `said` are those that something is made of, by name, `claims` only from whom is believed."""

    __slots__ = ("claims", "kept", "said")

    def __init__(self, headers: Sequence[Any], verdicts: Verdicts) -> None:
        """Raises Refusal for fields that break a rule, or are too many."""
        self.kept: list[Pair] = []
        self.said: dict[bytes, list[bytes]] = {}
        self.claims: list[Pair] = []
        kept, said = self.kept, self.said
        if headers and type(headers[0]) is not tuple:  # ASGI has lists of lists; nearly every server has tuples
            headers = [(name, value) for name, value in headers]
        for pair in headers:
            name, value = pair
            verdict = verdicts[name]
            if verdict == PASS:
                kept.append(pair)
            elif verdict == NOTE:
                if (known := said.get(name)) is None:
                    said[name] = [value]
                else:
                    known.append(value)
            elif verdict == CLAIM:
                self.claims.append(pair)
            elif verdict == WRONG:
                raise Refusal(400, "http_request_error", "a header name that is none")
        text = b"".join(chain.from_iterable(headers))
        if len(headers) > MOST or len(text) > LARGEST:
            raise Refusal(431, "http_request_error", "more header fields than are held")
        if text.translate(None, _VISIBLE):
            raise Refusal(400, "http_request_error", "a control character in a header value")
        if (options := said.get(b"connection")) is not None and options != _USUAL:
            # First what it names goes; what is ours is added afterwards, out of its reach.
            named = options_of(options)
            self.kept = [pair for pair in kept if pair[0] not in named]
            self.claims = [pair for pair in self.claims if pair[0] not in named]
            for name in named & said.keys() - _FRAMING:
                del said[name]


def one_cookie(pairs: list[Pair]) -> list[Pair]:
    """The fields with all of `Cookie` in one: HTTP/2 and 3 may split it, and version 1.1 has it once (RFC 9113 section 8.2.3)."""
    crumbs = [value for name, value in pairs if name == b"cookie"]
    if len(crumbs) < 2:
        return pairs
    return [*[pair for pair in pairs if pair[0] != b"cookie"], (b"cookie", b"; ".join(crumbs))]


_USUAL: Final = [b"keep-alive"]
_FRAMING: Final = frozenset(b"host content-length transfer-encoding connection via max-forwards expect".split())
"""What says where the message ends and where it has been: to name it hides nothing."""


def options_of(connection: Iterable[bytes]) -> set[bytes]:
    """The names that the values of `Connection` list."""
    return {option.strip(b" \t").lower() for value in connection for option in value.split(b",")}


class _Kept(dict[bytes, bytes | None]):
    """Of a response's field by its name: the name in lower case, nothing for one that stays here, None for one that names a place."""

    def __missing__(self, name: bytes) -> bytes | None:
        low = name.lower()
        verdict: bytes | None = low
        if low == _LENGTH:
            verdict = _LENGTH
        elif low in HOP_BY_HOP or name.translate(None, _TOKEN):
            verdict = b""
        elif low in PLACES:
            verdict = None
        if len(self) < _KNOWN:
            self[name] = verdict
        return verdict


PLACES: Final = frozenset(b"location content-location refresh set-cookie".split())
"""What may be said in addresses of the upstream's own."""
Translate = Callable[[bytes, bytes, Scope], bytes]
"""Makes of such a field's value, by its name, what the caller of that scope is told."""
_LENGTH: Final = b"content-length"
_kept: Final = _Kept()
_OF_CODED: Final = frozenset(b"content-encoding content-md5 digest content-digest repr-digest".split())
"""What is true of the coded bytes alone (RFC 9110 section 7.7, RFC 9530)."""


def outward(pairs: Sequence[Pair], back: Translate | None = None, scope: Scope | None = None) -> tuple[list[Pair], int]:
    """A response's fields that go on, names in lower case, and the length they name, -1 for none."""
    head: list[Pair] = []
    length = -1
    named: list[bytes] = []
    kept = _kept
    for name, value in pairs:
        if low := kept[name]:
            if low is _LENGTH:
                length = int(value)
            head.append((low, value.strip(b" \t")))
        elif low is None:
            low, said = name.lower(), value.strip(b" \t")
            head.append((low, said if back is None or scope is None else back(low, said, scope)))
        elif value not in _PLAIN and name.lower() == b"connection":
            named.append(value)
    if named:
        gone = options_of(named)
        if b"content-length" in gone:
            gone.remove(b"content-length")
        head = [pair for pair in head if pair[0] not in gone]
    return head, length


_PLAIN: Final = frozenset((b"keep-alive", b"close", b"Keep-Alive", b"Close"))


def answered(response: Response, back: Translate | None = None, scope: Scope | None = None) -> tuple[list[Pair], int]:
    """The same of a response. Of one that a policy has read, or made, the body is no longer coded, and its length another."""
    head, length = outward(response.headers.raw, back, scope)
    content = response._content
    if content or (content == b"" and length > 0 and (response.request is None or response.request.method != "HEAD")):
        head, length = decoded(head, content), len(content)
    return head, length


def decoded(head: list[Pair], content: bytes) -> list[Pair]:
    """The fields for a body whose coding is undone: nothing that is true of the coded bytes alone, and a weak ETag for a strong one."""
    if any(name == b"content-encoding" for name, _ in head):
        head = [
            (name, b"W/" + value if name == b"etag" and value[:1] == b'"' else value)
            for name, value in head
            if name not in _OF_CODED
        ]
    return [*[pair for pair in head if pair[0] != _LENGTH], (_LENGTH, b"%d" % len(content))]
