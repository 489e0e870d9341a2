"""URLs: what is written anywhere in one changes no origin it should not, breaks no request line, and raises nothing but ConfigError."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import parse_qsl, unquote

from fuzz.source import Source, text

from fairlead import HTTPClient
from fairlead.engines import proxy
from fairlead.errors import ConfigError
from fairlead.url import _URL, Origin, join, segment, shown, split, with_params

URLS = (
    "https://api.example/v1/users?x=1#top",
    "http://127.0.0.1:8080",
    "HTTP://[::1]:80/a b?q=ü",
    "http://[fe80::1%25eth0]/",
    "https://user:pass@api.example/",
    "https://bücher.example/straße",
    "https://api.example:0443/%2e%2e/%zz",
    "ftp://api.example/",
    "//evil.example/x",
    "/a/../b?c=d&e=%20",
    "?only=query",
    "\\\\evil.example",
    "http://a@b@c/",
    "http://api.example\\@evil.example/",
    "http:///x",
    "socks5://me:secret@proxy.example",
    "a:b://c",
    "..",
    "http://x/\r\nHost: evil",
)
SEEDS = [bytes([0]) + url.encode() for url in URLS]
SEEDS += [bytes([1, len(one.encode())]) + one.encode() + other.encode() for one in URLS[:3] for other in URLS]
SEEDS += [
    bytes([kind]) + value.encode()
    for kind in (2, 3, 4)
    for value in (*URLS, "a/b", "ä=&;%", "s", "", ".", "a@b:c/d?e#f")
]

CLIENT = HTTPClient("https://api.example/v1")

_TARGET = re.compile(r"/[!-~]*").fullmatch
_SENDABLE = re.compile(r"[!-~]+").fullmatch
_HOST = re.compile(r"[!-~]+").fullmatch


def check(data: bytes) -> None:
    source = Source(data)
    kind = source.number(5)
    try:
        (_absolute, _relative, _segment, _params, _secret)[kind](source)
    except ConfigError as error:
        str(error).encode("utf-8", "backslashreplace")


def _absolute(source: Source) -> None:
    given = text(source.rest())
    shown(given)
    with suppress(ConfigError):
        assert b"\r" not in proxy.parse(given).credentials
    origin, target = split(given)
    sound(origin, target)


def sound(origin: Origin, target: str) -> None:
    assert origin.scheme in {"http", "https"}
    assert 0 < origin.port < 65536
    assert _HOST(origin.host) is not None, origin
    assert origin.host == origin.host.lower()
    assert not set(origin.host) & set("/?#@\\[] "), origin
    assert _TARGET(target) is not None, target
    assert "#" not in target
    assert split(f"{origin}{target}") == (origin, target), "its own words mean something else"


def _relative(source: Source) -> None:
    base, path = text(source.take()), text(source.rest())
    request = CLIENT.build_request("GET", path)
    assert request.origin == split(CLIENT.base_url)[0], "a path chose another origin"
    origin, target = split(base)
    joined = join(target.rstrip("/"), path)
    if joined is None or "?" in target:  # a URL of its own; and a client's base has no query
        return
    assert request.target.startswith("/v1"), request.target
    assert _SENDABLE(joined) is not None, joined
    assert joined[0] in "/?", joined
    if joined[0] == "/":
        assert split(f"{origin}{joined}")[0] == origin, "a path chose another origin"


def _segment(source: Source) -> None:
    value = text(source.rest())
    quoted = segment(value)
    assert re.fullmatch(r"[A-Za-z0-9._~%-]+", quoted), quoted
    assert unquote(quoted, errors="strict") == value
    assert quoted.strip(".")
    origin, target = split(f"https://api.example/a/{quoted}/b")
    assert origin.host == "api.example"
    assert target.count("/") == 3


def _params(source: Source) -> None:
    names = [text(source.take(30)) for _ in range(source.number(5))]
    value = text(source.rest())
    given = [(name, value) for name in names]
    target = with_params("/x", given)
    assert _TARGET(target) is not None, target
    assert parse_qsl(target.partition("?")[2], keep_blank_values=True, max_num_fields=100) == given
    raw = with_params("/x?a=1", value)
    assert _TARGET(raw) is not None, raw
    assert raw.startswith("/x?a=1")


def _secret(source: Source) -> None:
    """A password is never shown, whatever stands beside it."""
    before, after = text(source.take(20)), text(source.take(20))
    scheme = source.pick(("http", "https", "socks5", "ftp"))
    url = f"{scheme}://user:{before}hunter2{after}@api.example/{text(source.rest())}"
    if (found := _URL.fullmatch(url)) is not None and "hunter2" not in (found["userinfo"] or ""):
        return  # in another place it is no password
    assert "hunter2" not in shown(url), url
    for reading in (split, proxy.parse):
        try:
            read = reading(url)
        except ConfigError as error:
            told = str(error)
        else:
            told = ""
            assert reading is not split, f"{read} from a URL with credentials"
        assert "hunter2" not in told, url
