"""A request: what it is made of, and what of it may be said aloud."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from fairlead.body import Upload
from fairlead.errors import ConfigError, Disconnected, FairleadError, StatusError
from fairlead.headers import Headers
from fairlead.request import Request
from fairlead.response import Response
from fairlead.url import Origin


def test_a_request_is_a_method_an_origin_and_a_target() -> None:
    request = Request("get", "https://a.example/x?a=1", params={"b": [2, 3]}, headers={"X-One": "1"})
    assert (request.method, request.origin, request.target) == (
        "GET",
        Origin("https", "a.example", 443),
        "/x?a=1&b=2&b=3",
    )
    assert request.url == "https://a.example/x?a=1&b=2&b=3"
    assert request.headers.raw == [(b"X-One", b"1")]
    assert request.content == b""


def test_a_body_brings_its_type_unless_one_is_given() -> None:
    assert Request("POST", "http://a", json={}).headers["content-type"] == "application/json"
    typed = Request("POST", "http://a", json={}, headers={"content-type": "application/x+json"})
    assert typed.headers.raw == [(b"content-type", b"application/x+json")]
    assert "content-type" not in Request("POST", "http://a", content=b"x").headers


@pytest.mark.parametrize("method", ["", "GET /", "GET\r\nX: 1", "G\x00T", "G\u00c9T", "GET:"])
def test_a_method_is_one_word(method: str) -> None:
    with pytest.raises(ConfigError, match="is not a method"):
        Request(method, "http://a")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY", "put"])
def test_methods_that_mean_the_same_twice(method: str) -> None:
    assert Request(method, "http://a").idempotent


@pytest.mark.parametrize("method", ["POST", "PATCH", "post", "MOVE", "CONNECT"])
def test_methods_that_do_not_unless_they_are_keyed(method: str) -> None:
    assert not Request(method, "http://a").idempotent
    assert Request(method, "http://a", headers={"Idempotency-Key": "1"}).idempotent
    assert Request(method, "http://a", idempotent=True).idempotent
    assert not Request("GET", "http://a", idempotent=False).idempotent


def test_a_body_of_bytes_can_be_sent_again_and_a_generator_cannot() -> None:
    assert Request("POST", "http://a", content=b"x").replayable
    assert Request("POST", "http://a", content=[b"x"]).replayable
    assert not Request("POST", "http://a", content=iter([b"x"])).replayable
    assert isinstance(Request("POST", "http://a", files={"f": b"x"}).content, Upload)


def test_a_copy_leaves_the_original_as_it_is() -> None:
    request = Request("POST", "http://a/x", headers={"A": "1"}, content=b"x", idempotent=True)
    signed = request.with_header("a", "2")
    moved = request.replace(target="/y")
    assert (request.headers["a"], signed.headers["a"], moved.headers["a"]) == ("1", "2", "1")
    assert (request.target, signed.target, moved.target) == ("/x", "/x", "/y")
    assert [one.content for one in (signed, moved)] == [b"x", b"x"]
    assert [one.idempotent for one in (signed, moved)] == [True, True]


def test_ready_parts_are_taken_as_they_are() -> None:
    headers = Headers({"A": "1"})
    request = Request.build("GET", Origin("http", "a", 8080), "/x", headers)
    assert request.headers is headers
    assert request.url == "http://a:8080/x"


@pytest.mark.parametrize(
    "given", [{"params": {"token": "hunter2"}}, {"headers": {"X-Any": "hunter2"}}, {"content": b"hunter2"}]
)
def test_what_it_says_of_itself_holds_no_secret(given: Any) -> None:
    request = Request("GET", "http://a.example/x", **given)
    assert repr(request) == "<Request GET http://a.example/x>"
    assert request.place == "http://a.example/x"


SECRETS = {"Authorization": "Bearer hunter2", "X-Api-Key": "hunter2", "Accept": "a/b"}


@pytest.mark.parametrize("content", [b"hunter2", iter([b"hunter2"]), lambda: [b"hunter2"]])
@pytest.mark.parametrize(
    "raised",
    [lambda request: Disconnected(request=request), lambda request: StatusError(Response(500, request=request))],
)
def test_an_error_goes_to_another_process_without_the_secrets_of_its_request(raised: Any, content: Any) -> None:
    request = Request("POST", "http://a.example/x?token=hunter2", headers=SECRETS, content=content)
    error: FairleadError = raised(request)
    sent = pickle.dumps(error)
    assert b"hunter2" not in sent
    copied = pickle.loads(sent)
    assert (type(copied), str(copied)) == (type(error), str(error))
    assert copied.request.headers == {"authorization": "***", "x-api-key": "***", "accept": "a/b"}
    assert (copied.request.method, copied.request.url) == ("POST", "http://a.example/x")


def test_a_route_goes_with_the_request_wherever_it_goes() -> None:
    request = Request("GET", "http://a.example/users/1?token=hunter2")
    assert request.route is None
    assert pickle.loads(pickle.dumps(request)).route is None
    request.route = "/users/{id}"
    copies = request.replace(target="/y"), request.with_header("A", "b"), copy.copy(request)
    assert [copied.route for copied in (*copies, pickle.loads(pickle.dumps(request)))] == ["/users/{id}"] * 4


def test_a_request_that_is_copied_keeps_what_it_has() -> None:
    request = Request("POST", "http://a.example/x?a=1", headers=SECRETS, content=b"x")
    for copied in (copy.copy(request), copy.deepcopy(request)):
        assert copied.headers.raw == request.headers.raw
        assert (copied.url, copied.content) == (request.url, b"x")
        copied.headers["Accept"] = "c/d"
    assert request.headers["accept"] == "a/b"
