"""Where a request goes, in the bytes that its caller wrote: below the base, and nowhere else.

RFC 9110 section 7.7: the path and the query are not modified. So they are taken as they came (`raw_path`, `query_string`), and never
from the decoded path, in which a `%2F` is a slash and a `;` may be lost. What is cut off is the place that the proxy is mounted at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from fairlead.proxy.status import Refusal

LONGEST: Final = 64 * 1024
"""Bytes of a target; a longer one is answered 414."""
_VISIBLE: Final = re.compile(rb"[!\"$-~]*+").fullmatch
"""Visible ASCII without a number sign: what is behind one is no part of a target, and some take it for one."""
_SLASH: Final = rb"[/\\]|%(?:25)*+(?:2f|5c)|%c0%af|%c1%9c"
_DOT: Final = rb"\.|%(?:25)*+2e|%c0%ae|%e0%80%ae"
_UP: Final = re.compile(
    rb"(?:^|%b)(?:%b){2}(?:%b|;|%%(?:25)*+(?:3b|3f|23|00)|$)" % (_SLASH, _DOT, _SLASH), re.IGNORECASE
).search
"""A segment of two dots, in any spelling that some server reads as one: encoded twice, in more bytes than it takes, or cut off behind."""

_PARAMETERS: Final = re.compile(rb"[^&;]+[&;]*+|[&;]++").findall


def target(scope: Mapping[str, Any], base: str, params: str = "", own: Collection[bytes] = ()) -> tuple[str, str]:
    """The target of the request, and the prefix that was cut off, as it was written; raises Refusal.

    `base` is the path of the upstream's base URL, without a slash at its end; `params` are the client's own, added at the end; `own`
    are the names, in small letters, that nobody else says.
    """
    # Decoded, a question mark in the path would begin a query.
    raw: bytes = scope.get("raw_path") or quote(scope["path"], "/!$&'()*+,;=:@", errors="surrogateescape").encode()
    query: bytes = scope.get("query_string", b"")
    root: str = scope.get("root_path", "")
    if len(raw) + len(query) > LONGEST:
        raise Refusal(414, "http_request_error", "a longer target than is held")
    if own and query:
        query = without(query, own)
    if raw[:1] != b"/" and raw != b"*":
        raise Refusal(400, "http_request_error", "a target that is no path")
    prefix = b""
    if root:
        at = mounted(raw, root, scope.get("app_root_path", ""))
        prefix, raw = raw[:at], raw[at:]
    if raw[:1] != b"/":
        if raw == b"*" and scope["method"] == "OPTIONS" and not base:
            return "*", ""
        if raw:
            raise Refusal(400, "http_request_error", "a target that is no path")
    if (b"." in raw or b"%" in raw) and _UP(raw) is not None:
        raise Refusal(400, "http_request_error", "a path that leads upwards")
    if _VISIBLE(raw) is None or _VISIBLE(query) is None:
        raise Refusal(400, "http_request_error", "a target of other bytes than visible ASCII")
    whole = f"{base}{raw.decode('ascii')}" if raw else base or "/"
    if query:
        whole = f"{whole}?{query.decode('ascii')}"
    if params:
        whole = f"{whole}{'&' if query else '?'}{params}"
    return whole, prefix.decode("ascii") if prefix.isascii() else ""


def without(query: bytes, names: Collection[bytes]) -> bytes:
    """The query as it stands, but for what some server reads as a parameter of one of these names: of two, any may count."""
    kept = [part for part in _PARAMETERS(query) if _name(part) not in names]
    left = b"".join(kept)
    return left if left == query else left.rstrip(b"&;")


def _name(part: bytes) -> bytes:
    """Of a parameter, with whatever else a name may stand for: `%6bey`, `KEY`, `key[]`."""
    name = part.partition(b"=")[0].rstrip(b"&;").replace(b"+", b" ")
    return unquote_to_bytes(name).lower().partition(b"[")[0].strip()


def mounted(raw: bytes, root: str, outer: str) -> int:
    """How many bytes of the path stand for the place that the application is mounted at.

    What an application says of the proxy before it (`outer`, FastAPI's `root_path=`) may not be in the path at all.
    """
    places = [root, root.removeprefix(outer)] if outer and root.startswith(outer) else [root]
    for place in places:
        wanted = place.rstrip("/").encode("utf-8")
        if (at := _reach(raw, wanted)) is not None:
            return at
    return 0


def _reach(raw: bytes, wanted: bytes) -> int | None:
    """The end of the prefix that reads `wanted` once it is decoded, and is whole segments; None where there is none."""
    if raw.startswith(wanted):
        at = len(wanted)
    else:
        at = 0
        for byte in wanted:
            width = 3 if raw[at : at + 1] == b"%" else 1
            if unquote_to_bytes(raw[at : at + width]) != bytes([byte]):
                return None
            at += width
    return at if raw[at : at + 1] in b"/" else None
