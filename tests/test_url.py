"""What a value becomes in a path, a query and a form."""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pydantic
import pytest

from fairlead.body import from_form
from fairlead.errors import ConfigError
from fairlead.url import Origin, join, segment, shown, split, text, with_params


class Plain(Enum):
    METRIC = "metric"


class Mixed(str, Enum):  # noqa: UP042  as many have written it
    METRIC = "metric"


class Strict(StrEnum):
    METRIC = "metric"


class Number(IntEnum):
    TWO = 2


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a b", "a b"),
        (7, "7"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (b"raw", "raw"),
        (Plain.METRIC, "metric"),
        (Mixed.METRIC, "metric"),
        (Strict.METRIC, "metric"),
        (Number.TWO, "2"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_value_is_written_as_apis_read_it(value: object, written: str) -> None:
    assert text(value) == written


@pytest.mark.parametrize(
    "write", [text, segment, lambda one: with_params("/", {"key": one}), lambda one: from_form({"key": one})]
)
def test_a_secret_is_never_written_by_accident(write: Any) -> None:
    with pytest.raises(ConfigError, match="get_secret_value") as caught:
        write(pydantic.SecretStr("hidden"))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "target"),
    [
        ({}, "/x"),
        ({"a": None}, "/x"),
        ({"a": ["1", None, "2"]}, "/x?a=1&a=2"),
        ({"page[size]": 1, "q": "a&b=c d+e/ü~"}, "/x?page%5Bsize%5D=1&q=a%26b%3Dc%20d%2Be%2F%C3%BC~"),
        ([("a", 1), ("a", True)], "/x?a=1&a=true"),
        ({"empty": ""}, "/x?empty="),
    ],
)
def test_parameters_become_a_query(params: Any, target: str) -> None:
    assert with_params("/x", params) == target


def test_parameters_join_the_query_that_is_there() -> None:
    assert with_params("/x?a=1", {"b": 2}) == "/x?a=1&b=2"


@pytest.mark.parametrize("value", ["", ".", "..", b"..", None])
def test_a_segment_that_would_be_another_path_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="segment"):
        segment(value)


@pytest.mark.parametrize(
    ("value", "written"),
    [("a/../b", "a%2F..%2Fb"), ("a%2fb", "a%252fb"), ("a\r\nb", "a%0D%0Ab"), ("..a", "..a"), (7, "7")],
)
def test_a_segment_holds_whatever_it_is_given(value: object, written: str) -> None:
    assert segment(value) == written


# An absolute URL: where it leads, and what is asked there


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://a.example", "http://a.example", "/"),
        ("HTTPS://A.Example:443/x", "https://a.example", "/x"),
        ("http://a.example:8080?q=1", "http://a.example:8080", "/?q=1"),
        ("http://a.example/x#part", "http://a.example", "/x"),
        ("http://a.example/a%2fb/../c?x=%20&y#z", "http://a.example", "/a%2fb/../c?x=%20&y"),
        ("http://a.example/caf\u00e9?q=\u20ac", "http://a.example", "/caf%C3%A9?q=%E2%82%AC"),
        ("http://a.example/a b|c", "http://a.example", "/a%20b%7Cc"),
        ("http://a.example/100%", "http://a.example", "/100%25"),
        ("http://[::1]:80/x", "http://[::1]", "/x"),
        ("http://b\u00fccher.example/", "http://xn--bcher-kva.example", "/"),
        ("http://under_score.example/", "http://under_score.example", "/"),
        ("http://a.example:/", "http://a.example", "/"),
        ("http://a.example/@evil.example:1/", "http://a.example", "/@evil.example:1/"),
        ("http://a.example/?next=http://b.example", "http://a.example", "/?next=http://b.example"),
    ],
)
def test_a_url_is_an_origin_and_a_target(url: str, origin: str, target: str) -> None:
    found, asked = split(url)
    assert (str(found), asked) == (origin, target)
    assert split(f"{found}{asked}") == (found, asked)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example/x",
        "/x",
        "//a.example/x",
        "http:/a.example",
        "http://",
        "http:///x",
        "ftp://a.example",
        "file:///etc/passwd",
        "http://me:hunter2@a.example/",
        "http://hunter2@a.example/",
        "http://a.example:0/",
        "http://a.example:65536/",
        "http://a.example:80a/",
        "http://a b/",
        "http://a.example\\@b.example/",
        "http://a.example\r\nHost: b/",
        "http://a.example/x\r\nX: 1",
        "http://[::1/",
        "http://::1/",
        "http://a%2eexample/",
        "http://\u2100.example/",
        "http://" + "\u00fc" * 70 + ".example/",
        " http://a.example/",
    ],
)
def test_what_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split(url)
    assert "hunter2" not in str(caught.value)
    assert "\r" not in str(caught.value)


def test_the_host_field_leaves_out_a_schemes_own_port() -> None:
    assert [Origin("http", "a", 80).authority, Origin("https", "a", 80).authority] == ["a", "a:80"]
    assert Origin("https", "::1", 443).authority == "[::1]"


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        ("", "", "/"),
        ("", "/x", "/x"),
        ("", "x", "/x"),
        ("", "?a=1", "/?a=1"),
        ("/v1", "", "/v1"),
        ("/v1", "/x", "/v1/x"),
        ("/v1", "x/y", "/v1/x/y"),
        ("/v1", "?a=1", "/v1?a=1"),
        ("/v1", "a b", "/v1/a%20b"),
        ("/v1", "../x", "/v1/../x"),
        ("/v1", "x/http://b.example/", "/v1/x/http://b.example/"),
        ("/v1", "http://b.example/", None),
        ("/v1", "//b.example/", None),
        ("/v1", "\\\\b.example/", None),
        ("/v1", "@b.example", "/v1/@b.example"),
    ],
)
def test_a_path_is_joined_below_its_base(base: str, path: str, target: str | None) -> None:
    assert join(base, path) == target


@pytest.mark.parametrize("path", ["/a\r\nb", "/a\nb", "/\x00", "/\x7f", "\t"])
def test_a_control_character_is_refused_in_a_path(path: str) -> None:
    with pytest.raises(ConfigError, match="control character"):
        join("", path)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://me:hunter2@a.example/x?token=hunter2&b=1#y", "https://a.example/x?token=***&b=***"),
        ("/x?a=1&&b", "/x?a=***&b=***"),
        ("/x", "/x"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, seen: str) -> None:
    assert shown(url) == seen


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("//user:hunter2/w@host/x", "//host/x"),
        ("https://user:hunter2/w@host/x?a=1", "https://host/x?a=***"),
        ("https://user:hunter2?@host/x", "https://***"),
        ("https://user:a@hunter2@host/x", "https://host/x"),
        ("https://user:hunter2#@host/", "https://host/"),
        ("user:hunter2@host", "host"),
        ("user:hunter2@host?token=hunter2", "host?token=***"),
        ("api?token=abc@hunter2", "***"),
        ("https://host/cb#access_token=hunter2", "https://host/cb"),
        ("https://host/v1/@scope/x", "https://host/v1/@scope/x"),
        ("/@scope/x?a@b=1", "/@scope/x?a@b=***"),
    ],
)
def test_a_password_is_not_shown_however_the_url_is_broken(url: str, seen: str) -> None:
    assert shown(url) == seen
    assert "hunter2" not in shown(url)


@pytest.mark.parametrize(
    ("params", "target"),
    [("a=b", "/x?a=b"), ("?a=b+c&a=%20&d", "/x?a=b+c&a=%20&d"), ("q=a b", "/x?q=a%20b"), ("", "/x")],
)
def test_a_query_may_be_given_as_it_stands(params: str, target: str) -> None:
    assert with_params("/x", params) == target


@pytest.mark.parametrize("params", [5, [1], ["abc"], [("a",)], b"a=b", [("a", 1, 2)]])
def test_what_has_no_names_and_values_is_refused(params: Any) -> None:
    with pytest.raises(ConfigError, match="list of pairs"):
        with_params("/x", params)


@pytest.mark.parametrize(
    "write",
    [
        segment,
        lambda one: with_params("/", {"key": one}),
        lambda one: with_params("/", {one: 1}),
        lambda one: with_params("/", one),
        lambda one: from_form({"key": one}),
        lambda one: join("", one),
    ],
)
@pytest.mark.parametrize("value", ["hunter2\ud800", "\udcff"])
def test_half_a_character_is_refused(write: Any, value: str) -> None:
    with pytest.raises(ConfigError, match="lone surrogate") as caught:
        write(value)
    assert "hunter2" not in str(caught.value)


def test_bytes_that_are_no_text_are_escaped_as_they_are() -> None:
    assert segment(b"\xff/") == "%FF%2F"
    assert with_params("/", {b"n": b"\xff"}) == "/?n=%FF"
    assert from_form({"a": b"\xff b"}) == b"a=%FF+b"
