"""A request as it goes on: below the upstream's base, with the fields that are not one connection's and those that the proxy adds.

What can be known of it is known when the proxy is built. First what the caller sent is sorted, and what its `Connection` names is taken away;
what is ours is added after that, out of its reach (RFC 9110 section 7.6.1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf
from typing import Final

from fairlead.base import BaseAPIClient
from fairlead.caller import remaining
from fairlead.headers import Headers, Pair
from fairlead.inbound import Scope
from fairlead.keywords import default_headers
from fairlead.message import Request
from fairlead.policies.deadline import DeadlineHeader
from fairlead.proxy.fields import Inward, Verdicts, one_cookie
from fairlead.proxy.forwarded import Tale
from fairlead.proxy.framing import Said, framed, host
from fairlead.proxy.status import Refusal
from fairlead.proxy.target import target
from fairlead.request import METHOD
from fairlead.url import Origin, with_params

ALLOWED: Final = (b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
VERSIONS: Final = {"1.0": "1.0", "1": "1.0", "1.1": "1.1", "2": "2", "3": "3"}
"""As servers name them. Some parsers also let "0.9", "2.0" and "9.9" through, in the clothes of HTTP/1; none of them is."""
KNOWN: Final = 1024
"""Peers that are kept, with what is said of them."""
LONGEST: Final = 256
"""Bytes of a peer's name, and of the place that the proxy is mounted at, of one that is kept."""
_NUMBER: Final = re.compile(rb"[0-9]{1,9}").fullmatch
_USUAL: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LENGTH_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})


class Onward:
    """Makes the requests that one proxy sends on."""

    def __init__(
        self, client: BaseAPIClient, origin: Origin, *, tale: Tale, via: str, preserve_host: bool, strip: Sequence[str]
    ) -> None:
        self._client = client
        self._origin = origin
        self._tale = tale
        self._via = {version: (b"via", f"{version} {via}".encode()) for version in VERSIONS.values()}
        self._loop = re.compile(rf"(?:^|[\s,]){re.escape(via)}(?:$|[\s,;(])", re.IGNORECASE | re.ASCII).search
        # What every request of the client has because it was told so, and not because the library has it.
        own = default_headers(None).raw
        self._own = [pair for pair in client._default_headers.raw if pair not in own]
        self._framing = client._default_headers.framing
        without = {name.lower() for name, _ in self._own}
        self._preserve = preserve_host and b"host" not in without
        named = {name for name, _ in client._default_params}
        self._deadline: bytes | None = None
        for policy in client.pipeline.policies:
            if getattr(policy, "place", None) == "Auth":
                without |= {b"authorization", str(getattr(policy, "header", "authorization")).lower().encode()}
                named |= {str(query)} if (query := getattr(policy, "query", None)) else set()
            elif isinstance(policy, DeadlineHeader):
                self._deadline = policy.header.lower().encode()
        self._known: dict[tuple[str, str | None, str, str, str], Headers] = {}
        self._verdicts = Verdicts(without, [prefix.lower().encode() for prefix in strip])
        self._named = frozenset(name.lower().encode() for name in named)
        self._params = with_params("", client._default_params).removeprefix("?") if client._default_params else ""

    def request(self, scope: Scope) -> tuple[Request, Said, str, int]:
        """The request to send on, without its body; what decides of that, and its length. Raises Refusal for what breaks a rule."""
        method = scope["method"]
        if method not in _USUAL:
            _checked(method)
        inward = Inward(scope["headers"], self._verdicts)
        said = inward.said
        if (version := VERSIONS.get(scope.get("http_version", "1.1"))) is None:
            raise Refusal(505, "http_request_error", "a version of HTTP that is not passed on")
        name = host(said, version)
        pairs = inward.kept if version[:1] == "1" else one_cookie(inward.kept)
        plain = name and (len(said) == 1 or (len(said) == 2 and b"connection" in said))
        if not plain:
            self._travelled(method, said, pairs)
        if self._deadline is not None and "fairlead.caller" in scope and remaining() < inf:
            pairs = [pair for pair in pairs if pair[0] != self._deadline]  # what is left of it is said by the client
        where, prefix = target(scope, self._client._base, self._params, self._named)
        client = scope.get("client")
        peer = client[0] if client is not None else None
        scheme = scope.get("scheme", "http")
        if self._tale.trusted.believes(peer):
            told = self._tale.believed(peer, scheme, name, prefix, said)
            fields = Headers.received([*pairs, self._via[version], *inward.claims, *told, *self._own])
        else:
            fields = Headers.received(pairs).joined(self._ours(version, peer, scheme, name, prefix))
        length = 0 if scope["type"] != "http" or (plain and version == "1.1") else framed(said, version)
        fields.framing = self._framing  # nothing that the caller sent is an engine's to set
        if length == 0 and b"content-length" in said and method not in _LENGTH_EXPECTED:
            fields = Headers.received([*fields.raw, (b"content-length", b"0")])
        if self._preserve and name:
            fields = Headers.received([(b"host", name.encode("latin-1")), *fields.raw])
        return Request.build(method, self._origin, where, fields), said, version, length

    def _ours(self, version: str, peer: str | None, scheme: str, host: str, prefix: str) -> Headers:
        """What is added for a peer that is not believed: the same for each of its requests to one host, so kept, and encoded once."""
        key = version, peer, scheme, host, prefix
        known = self._known.get(key)
        if known is None:
            seen = self._tale.seen(peer, scheme, host, prefix)
            known = Headers.received([self._via[version], *seen, *self._own])
            if len(prefix) + len(peer or "") > LONGEST:  # as a caller may write it: a place that has a parameter, say
                return known
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[key] = known
        return known

    def _travelled(self, method: str, said: Said, pairs: list[Pair]) -> None:
        """What is said of the way here; raises Refusal where that ends."""
        for value in said.get(b"via", ()):
            if self._loop(value.decode("latin-1")) is not None:
                raise Refusal(508, "proxy_loop_detected", "this request has been here before")
            pairs.append((b"via", value))
        if (hops := said.get(b"max-forwards")) is not None:
            pairs.append((b"max-forwards", _one_less(method, hops)))


def _checked(method: str) -> None:
    """Of a method that is none of the usual, whether it goes on. They are told apart by case (RFC 9110 section 9.1), and a request has
    its own in capitals: one in other letters would be another there."""
    if method in {"CONNECT", "TRACE"}:
        raise Refusal(405, "http_request_denied", f"{method} is not passed on", ALLOWED)
    if METHOD(method) is None:
        raise Refusal(400, "http_request_error", "a method that is none")
    if method != method.upper():
        raise Refusal(501, "http_request_denied", "a method in small letters is not passed on", ALLOWED)


def _one_less(method: str, hops: Sequence[bytes]) -> bytes:
    """Max-Forwards as it goes on (RFC 9110 section 7.6.2): it counts for OPTIONS alone, as TRACE goes nowhere."""
    if method != "OPTIONS":
        return hops[0]
    if len(hops) > 1 or _NUMBER(hops[0]) is None:
        raise Refusal(400, "http_request_error", "a Max-Forwards that is no number")
    if not (left := int(hops[0])):
        raise Refusal(204, "", "asked no further", ALLOWED)
    return b"%d" % (left - 1)
