"""Requests read twice: `meant` as RFC 9112 lets a server read what a client sent, `strict` as no two readers could differ on.

What `meant` does not find, nobody may make of these bytes. Where the RFC leaves a server a choice (a bare LF ends a line, a fold is
a space, of two framings the chunks count), it takes the more tolerant one: what is refused instead is never wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
HOP_BY_HOP = frozenset(
    b"keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer upgrade http2-settings".split()
)

_token = re.compile(TOKEN).fullmatch
_digits = re.compile(rb"[0-9]+").fullmatch
_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?").fullmatch
_first = re.compile(b"(" + TOKEN + rb") (\*|/[!\"$-~]*) HTTP/1\.1").fullmatch
_field = re.compile(b"(" + TOKEN + rb"):[ \t]*((?:[!-~\x80-\xff][\t -~\x80-\xff]*)?)").fullmatch
_version = re.compile(rb"HTTP/1\.([0-9])").fullmatch
_absolute = re.compile(rb"https?://(?:[^/?#@]*@)?([^/?#@]+)(.*)", re.IGNORECASE).fullmatch
_size = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[^\n]*)?").fullmatch
"""What stands behind a semicolon is ignored, whatever it is (section 7.1.1), as long as it is one line."""


@dataclass
class Read:
    """One request; `whole` unless its body is cut off, by the end of the bytes or by what is no body."""

    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = True

    def named(self, name: bytes) -> list[bytes]:
        return [value for one, value in self.fields if one.lower() == name]

    @property
    def text(self) -> str:
        return f"{self.method.decode('latin-1')} {self.target.decode('latin-1')}"


def strict(data: bytes) -> tuple[list[Read], int, str]:
    """The requests, how many bytes they are, and what is wrong behind them, "" for nothing."""
    found: list[Read] = []
    at = 0
    while at < len(data):
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            return found, at, ""
        first, *lines = data[at:end].split(b"\r\n")
        if (start := _first(first)) is None:
            return found, at, f"a first line {first[:60]!r}"
        one = Read(start[1], start[2])
        for line in lines:
            if (pair := _field(line)) is None:
                return found, at, f"a field {line[:60]!r}"
            one.fields.append((pair[1], pair[2].rstrip(b" \t")))
        if fault := _head(one):
            return found, at, fault
        at, fault = _strict_body(one, data, end + 4)
        if fault:
            return found, at, fault
        found.append(one)
        if not one.whole:
            break
    return found, at, ""


def _head(one: Read) -> str:
    """What a field of this request has that none may have on its way to an upstream."""
    hosts, lengths, codings = one.named(b"host"), one.named(b"content-length"), one.named(b"transfer-encoding")
    if len(hosts) != 1 or not hosts[0] or not _host(hosts[0]):
        return f"Host {hosts!r}"
    if len(lengths) + len(codings) > 1:
        return f"Content-Length {lengths!r} and Transfer-Encoding {codings!r}"
    if lengths and not _digits(lengths[0]):
        return f"Content-Length {lengths[0]!r}"
    if codings and codings[0].lower() != b"chunked":
        return f"Transfer-Encoding {codings[0]!r}"
    if one.target == b"*" and one.method != b"OPTIONS":
        return "an asterisk for a target"
    for option in b",".join(one.named(b"connection")).split(b","):
        if option.strip().lower() not in {b"", b"keep-alive", b"close"}:
            return f"Connection: {option!r}"
    for name, _ in one.fields:
        low = name.lower()
        if low in HOP_BY_HOP:
            return f"hop-by-hop {name!r}"
        if b"_" in low and low.replace(b"_", b"-") in {b"host", b"content-length", b"transfer-encoding"}:
            return f"{name!r}, which some read with a hyphen"
    return ""


def _strict_body(one: Read, data: bytes, at: int) -> tuple[int, str]:
    if lengths := one.named(b"content-length"):
        size = int(lengths[0])
        one.body = data[at : at + size]
        one.whole = len(one.body) == size
        return at + len(one.body), ""
    if not one.named(b"transfer-encoding"):
        return at, ""
    one.whole = False
    while (end := data.find(b"\r\n", at)) >= 0:
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", data[at:end]):
            return at, f"a chunk size {data[at:end][:40]!r}"
        size = int(data[at:end], 16)
        one.body += data[end + 2 : end + 2 + size]
        at = end + 2 + size
        after = data[at : at + 2]
        if len(after) < 2:
            return min(at, len(data)), ""
        if after != b"\r\n":
            return at, f"after a chunk {after!r}"
        at += 2
        if not size:
            one.whole = True
            return at, ""
    return at, ""


def meant(data: bytes) -> list[Read]:
    """The requests that a server may take these bytes for."""
    found: list[Read] = []
    at = 0
    while True:
        while (blank := re.compile(rb"\r?\n").match(data, at)) is not None:  # section 2.2: empty lines before a request
            at = blank.end()
        lines, at = _lines(data, at)
        if not lines:
            return found
        # Section 3: the words of the first line may be told apart by any blanks. Section 2.2: a bare CR is a space.
        words = re.split(rb"[ \t\x0b\x0c\r]+", lines[0].strip(b" \t\x0b\x0c\r"))
        if len(words) != 3 or _token(words[0]) is None or (version := _version(words[2])) is None:
            return found
        one = Read(words[0], words[1])
        old = version[1] == b"0"
        tunnel = one.method == b"CONNECT"  # RFC 9110 section 9.3.6: it is refused, and the connection goes on
        if not _fields(one, lines[1:]) or not (tunnel or _aimed(one, old=old)):
            return found
        at, goes_on = _body(one, data, at, old=old)
        if at < 0:
            return found
        if not tunnel:
            found.append(one)
        options = {option.strip().lower() for value in one.named(b"connection") for option in value.split(b",")}
        # Section 9.6: after `close` no further request is looked at.
        if not (one.whole and goes_on) or b"close" in options or (old and b"keep-alive" not in options):
            return found


def _lines(data: bytes, at: int) -> tuple[list[bytes], int]:
    """The lines of a head, and where it ends; none where it does not."""
    lines: list[bytes] = []
    while (end := data.find(b"\n", at)) >= 0:
        line = data[at:end].removesuffix(b"\r")
        at = end + 1
        if not line:
            return lines, at
        lines.append(line)
    return [], at


def _fields(one: Read, lines: list[bytes]) -> bool:
    folds = False  # section 2.2: a line that begins with a blank, before any field, may be skipped
    for raw in lines:
        line = raw.replace(b"\r", b" ").replace(b"\x00", b" ")  # section 2.2; RFC 9110 section 5.5
        if line[:1] in {b" ", b"\t"}:
            if folds:  # section 5.2
                name, value = one.fields[-1]
                one.fields[-1] = name, (value + b" " + line.strip(b" \t")).strip(b" \t")
            continue
        name, colon, value = line.partition(b":")
        if not colon or _token(name) is None or b"\x00" in raw.partition(b":")[0]:
            return False
        folds = True
        one.fields.append((name, value.strip(b" \t")))
    return True


def _aimed(one: Read, *, old: bool) -> bool:
    """Whether target and Host say where to (section 3.2); the target becomes the path."""
    hosts = one.named(b"host")
    if len(hosts) > 1 or (not hosts and not old) or not all(map(_host, hosts)):
        return False
    if not re.fullmatch(rb"[!-~]+", one.target):
        return False
    if absolute := _absolute(one.target):
        if not _host(absolute[1]):
            return False
        one.target = absolute[2] if absolute[2][:1] == b"/" else b"/" + absolute[2]
    one.target = one.target.partition(b"#")[0]  # what is behind it is no part of a target
    return one.target[:1] == b"/" or (one.target == b"*" and one.method == b"OPTIONS")


def _body(one: Read, data: bytes, at: int, *, old: bool) -> tuple[int, bool]:
    """Where the body ends (section 6.3), -1 where nobody can tell, and whether another request may follow it."""
    lengths, codings = one.named(b"content-length"), one.named(b"transfer-encoding")
    if codings:
        # RFC 9110 section 5.6.1: empty elements of a list are ignored. Section 6.1: in HTTP/1.0 it is faulty.
        given = [coding.strip(b" \t").lower() for value in codings for coding in value.split(b",")]
        if old or [coding for coding in given if coding] != [b"chunked"]:
            return -1, False
        return _chunked(one, data, at), not lengths
    if not lengths:
        return at, True
    said = [size.strip(b" \t") for value in lengths for size in value.split(b",")]
    if not all(map(_digits, said)) or len({size.lstrip(b"0") for size in said}) > 1:
        return -1, False
    size = int(said[0].lstrip(b"0")[:30] or b"0")
    one.body = data[at : at + size]
    one.whole = len(one.body) == size
    return at + len(one.body), True


def _chunked(one: Read, data: bytes, at: int) -> int:
    one.whole = False
    while (end := data.find(b"\r\n", at)) >= 0:
        if (said := _size(data[at:end].replace(b"\r", b" "))) is None:
            return at
        size = int(said[1], 16)
        one.body += data[end + 2 : end + 2 + size]
        at = end + 2 + size
        if not size:
            trailers, after = _lines(data, at)
            if trailers or after > at:
                one.whole = _fields(Read(b"", b""), trailers)
                return after
            return at
        if data[at : at + 2] != b"\r\n":
            return at
        at += 2
    return at
