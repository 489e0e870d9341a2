"""Header fields: kept as they are sent, read whatever their case, and shown without their secrets."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.errors import ConfigError
from fairlead.headers import Headers, is_sensitive


def test_fields_keep_their_order_their_case_and_their_repetition() -> None:
    headers = Headers([("X-One", "1"), ("accept", "*/*"), ("x-one", "2")])
    assert headers.raw == [(b"X-One", b"1"), (b"accept", b"*/*"), (b"x-one", b"2")]
    assert headers.wire == b"X-One: 1\r\naccept: */*\r\nx-one: 2\r\n"
    assert headers.multi_items() == [("x-one", "1"), ("accept", "*/*"), ("x-one", "2")]


def test_they_read_as_a_mapping_that_ignores_case() -> None:
    headers = Headers({"X-One": "1", "Accept": "*/*"})
    headers.add("x-one", "2")
    assert headers["X-ONE"] == "1, 2"
    assert headers.get_list("x-one") == ["1", "2"]
    assert headers.get("none") is None
    assert "ACCEPT" in headers
    assert 1 not in headers
    assert (list(headers), len(headers)) == (["x-one", "accept"], 2)
    assert headers == {"accept": "*/*", "x-one": "1"} or headers == Headers(
        [("ACCEPT", "*/*"), ("x-one", "2"), ("x-one", "1")]
    )
    assert headers != {"accept": "*/*"}
    with pytest.raises(KeyError):
        headers["none"]


def test_setting_replaces_and_deleting_removes_every_field_of_a_name() -> None:
    headers = Headers([("a", "1"), ("A", "2"), ("b", "3")])
    headers["A"] = "4"
    assert headers.wire == b"b: 3\r\nA: 4\r\n"
    del headers["B"]
    assert headers.wire == b"A: 4\r\n"
    with pytest.raises(KeyError):
        del headers["b"]


def test_the_encoded_block_follows_every_change() -> None:
    headers = Headers({"a": "1"})
    for change in (lambda: headers.add("b", "2"), lambda: headers.pop("a"), lambda: headers.update({"c": "3"})):
        change()
        assert headers.wire == b"".join([b"%b: %b\r\n" % pair for pair in headers.raw])


def test_a_copy_is_its_own() -> None:
    headers = Headers({"a": "1"})
    for copy in (headers.copy(), Headers(headers)):
        copy.add("b", "2")
        assert copy.wire == b"a: 1\r\nb: 2\r\n"
    assert headers.wire == b"a: 1\r\n"


def test_two_are_joined_without_a_change_to_either() -> None:
    first, second = Headers({"a": "1"}), Headers({"A": "2", "Host": "x"})
    both = first.joined(second)
    assert both.wire == b"a: 1\r\nA: 2\r\nHost: x\r\n"
    assert (both.framing, first.framing) == (True, False)
    both.add("c", "3")
    assert (len(first.raw), len(second.raw)) == (1, 2)


@pytest.mark.parametrize(
    "name", ["Host", "content-LENGTH", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "TE"]
)
def test_a_field_that_an_engine_sets_is_noticed(name: str) -> None:
    assert Headers({name: "x"}).framing
    assert Headers({name: "x"}).copy().framing
    assert not Headers({f"X-{name}": "x"}).framing


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "\u00e9", b"a\x00", "(a)"])
def test_a_name_that_would_break_the_line_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="is not a header name"):
        Headers([(name, "x")])


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\x00b", "\x7f", b"\x1b"])
def test_a_value_that_would_break_the_line_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="a control character in the value") as caught:
        Headers([("x-name", value)])
    assert "b: c" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"), [("\u20ac", "not Latin-1"), (1, "the value is int, not a string"), (None, "NoneType")]
)
def test_a_value_that_is_no_text_is_refused(value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Headers({"x-name": value})


def test_values_are_latin_1_and_without_blanks_around() -> None:
    headers = Headers([("a", " \u00e9\tb \t"), (b"b", b"\xc3\xa9")])
    assert headers.raw == [(b"a", b"\xe9\tb"), (b"b", b"\xc3\xa9")]
    assert headers["a"] == "\u00e9\tb"


def test_what_a_peer_sent_is_taken_as_it_is() -> None:
    headers = Headers.received([(b"X-Odd", b"a\x01 \t"), (b"set-cookie", b"a=1"), (b"Set-Cookie", b"b=2")])
    assert headers["x-odd"] == "a\x01"
    assert headers.get_list("Set-Cookie") == ["a=1", "b=2"]
    assert headers.wire == b"X-Odd: a\x01 \t\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\n"


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "X-Api-Key",
        "X-Goog-Api-Key",
        "Some-Token-Of-Ours",
        "X-Client-Secret",
        "X-Auth",
        "Auth-Key",
        "Key",
        "Ocp-Apim-Subscription-Key",
        "x-functions-key",
        "DD-APPLICATION-KEY",
        "X_API_KEY",
        "X_Auth",
        "Access_Key",
        "X-Access-Key",
        "X-Master-Key",
        "X-Private-Key",
        "X-Client-Key",
        "X-Appwrite-Key",
        "X-JWT-Assertion",
        "X-Goog-Iap-Jwt-Assertion",
        "X-Amzn-Oidc-Data",
        "X-Forwarded-Client-Cert",
        "X-ARR-ClientCert",
        "X-MS-CLIENT-PRINCIPAL",
        "X-Otp",
        "X-CSRF",
        "X-XSRF",
    ],
)
def test_secrets_are_not_shown(name: str) -> None:
    headers = Headers([(name, "hunter2"), ("Accept", "*/*")])
    assert is_sensitive(name.lower().encode())
    assert headers.redacted() == {name.lower(): "***", "accept": "*/*"}


def test_nor_is_the_query_of_an_address():
    headers = Headers(
        {"Referer": "https://a.example/x?token=hush&q", "Link": "</y?key=hush>; rel=next", "X-Odd": "a;b"}
    )
    shown = headers.redacted()
    assert "hush" not in str(shown)
    assert (shown["referer"], shown["x-odd"]) == ("https://a.example/x?***", "a;b")
    assert "hunter2" not in repr(headers)


@pytest.mark.parametrize(
    "name",
    [
        "www-authenticate",
        "author",
        "idempotency-key",
        "x-idempotency-key",
        "idempotency_key",
        "sec-websocket-key",
        "accept",
        "x-monkey",
        "x-key-count",
        "keep-alive",
        "x-client",
        "x-option",
        "x-forwarded-for",
    ],
)
def test_what_is_no_secret_is_shown(name: str) -> None:
    assert not is_sensitive(name.encode())


@pytest.mark.parametrize(
    "given", ["abc", b"abc", 5, ["abc"], [("a",)], [1], [("hunter2", "b", "c")], {1: "a"}, {None: "a"}]
)
def test_what_is_no_mapping_and_no_list_of_pairs_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"list of|is not a header name") as caught:
        Headers(given)
    assert "hunter2" not in str(caught.value)


def test_fields_stand_under_others_that_replace_those_of_their_names() -> None:
    under = Headers([("Accept", "*/*"), ("X-A", "1"), ("x-a", "2"), ("Host", "x")])
    own = Headers([("X-b", "1"), ("ACCEPT", "a/b"), ("x-B", "2"), ("accept", "c/d")])
    both = under.under(own)
    assert both.wire == b"X-A: 1\r\nx-a: 2\r\nHost: x\r\nX-b: 1\r\nACCEPT: a/b\r\nx-B: 2\r\naccept: c/d\r\n"
    assert both.framing
    assert under.under(Headers()).raw == under.raw
    assert (len(under.raw), len(own.raw)) == (4, 4)
