"""A client: what its requests are, where they may go, what its errors say, and how it ends."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from functools import partial
from math import inf
from unittest.mock import patch

import pytest

from fairlead import Bearer, CircuitBreaker, HTTPClient, Response, Retry, Timeout
from fairlead.core import Pipeline
from fairlead.errors import (
    AttemptTimedOut,
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    Disconnected,
    FairleadError,
    StatusError,
)
from fairlead.policies import ConcurrencyLimit, Fallback, Hedge, RateLimit
from fairlead.testing import Pieces, script, virtual_time

BASE = "https://api.test/v1"


def sent(engine):
    (request,) = engine.requests
    return request


class TestRequests:
    @pytest.mark.parametrize(
        ("base", "path", "url"),
        [
            (BASE, "/users/1", "https://api.test/v1/users/1"),
            (BASE, "users/1", "https://api.test/v1/users/1"),
            (BASE + "/", "/users", "https://api.test/v1/users"),
            (BASE, "", "https://api.test/v1"),
            (BASE, "?page=2", "https://api.test/v1?page=2"),
            ("https://api.test", "", "https://api.test/"),
            (BASE, "/a b/ü?q=x y", "https://api.test/v1/a%20b/%C3%BC?q=x%20y"),
            (BASE, "/a%2Fb", "https://api.test/v1/a%2Fb"),
            (BASE, "/redirect?to=https://other.test/", "https://api.test/v1/redirect?to=https://other.test/"),
            (BASE, "@evil.test/x", "https://api.test/v1/@evil.test/x"),
            (BASE, "https://api.test/v2", "https://api.test/v2"),
            ("", "http://other.test:8080/x", "http://other.test:8080/x"),
        ],
    )
    @virtual_time
    async def test_a_path_joins_the_base_url(self, base, path, url):
        engine = script(200)
        async with HTTPClient(base, engine=engine) as client:
            await client.get(path)
        assert sent(engine).url == url

    @pytest.mark.parametrize(
        "path",
        ["https://evil.test/v1", "http://api.test/v1", "//evil.test/", "https://api.test:444/", "\\\\evil.test\\x"],
    )
    @virtual_time
    async def test_another_origin_is_refused_before_anything_is_sent(self, path):
        engine = script(then=200)
        async with HTTPClient(BASE, auth=Bearer("secret"), engine=engine) as client:
            with pytest.raises(ConfigError):
                await client.get(path)
        assert engine.requests == []

    @virtual_time
    async def test_a_request_built_elsewhere_is_refused_too(self):
        engine = script(then=200)
        async with HTTPClient(BASE, engine=engine) as client, HTTPClient(engine=engine) as free:
            with pytest.raises(ConfigError, match="allow_origins"):
                await client.send(free.build_request("GET", "https://evil.test/"))

    @virtual_time
    async def test_an_allowed_origin_is_not(self):
        engine = script(200)
        async with HTTPClient(BASE, engine=engine, allow_origins=("https://cdn.test",)) as client:
            await client.get("https://cdn.test/x")
        assert sent(engine).url == "https://cdn.test/x"

    @virtual_time
    async def test_a_relative_path_needs_a_base_url(self):
        async with HTTPClient(engine=script(then=200)) as client:
            with pytest.raises(ConfigError, match="base_url"):
                await client.get("/users")

    @virtual_time
    async def test_params_and_headers_of_a_call_go_over_those_of_the_client(self):
        engine = script(200)
        own = {"page": 1, "lang": "en"}
        async with HTTPClient(BASE, params=own, headers={"X-A": "1", "X-B": "1"}, engine=engine) as client:
            await client.get("/users?x=1", params={"page": [2, 3], "gone": None, "on": True}, headers={"x-b": "2"})
        assert sent(engine).target == "/v1/users?x=1&lang=en&page=2&page=3&on=true"
        assert sent(engine).headers["x-a"] == "1"
        assert sent(engine).headers.get_list("x-b") == ["2"]

    @virtual_time
    async def test_every_field_of_a_call_is_sent_in_its_order_and_its_case(self):
        own = [("X-Tag", "one"), ("x-tag", "two"), ("X-Other", "1")]
        async with HTTPClient(BASE, headers=own, engine=script()) as client:
            assert client.build_request("GET", "/").headers.raw[-3:] == [
                (b"X-Tag", b"one"),
                (b"x-tag", b"two"),
                (b"X-Other", b"1"),
            ]
            request = client.build_request("GET", "/", headers=[("X-TAG", "a"), ("Accept", "b"), ("x-Tag", "c")])
        assert request.headers.raw[-4:] == [(b"X-Other", b"1"), (b"X-TAG", b"a"), (b"Accept", b"b"), (b"x-Tag", b"c")]
        assert request.headers.get_list("accept") == ["b"]

    @virtual_time
    async def test_params_may_be_a_query_as_it_stands(self):
        async with (
            HTTPClient(BASE, engine=script()) as plain,
            HTTPClient(BASE, params="lang=en&page=1", engine=script()) as own,
        ):
            assert plain.build_request("GET", "/", params="a=b+c").target == "/v1/?a=b+c"
            assert own.build_request("GET", "/", params="page=2&q=b+c").target == "/v1/?lang=en&page=2&q=b+c"
            assert own.build_request("GET", "/", params=iter([("page", 2)])).target == "/v1/?lang=en&page=2"

    @virtual_time
    async def test_the_defaults_of_a_client_are_not_changed_by_a_request(self):
        engine = script(200, 200)
        async with HTTPClient(BASE, engine=engine) as client:
            request = client.build_request("GET", "/")
            request.headers["x-own"] = "1"
            await client.send(request)
            await client.get("/")
        assert "x-own" not in engine.requests[1].headers

    @pytest.mark.parametrize(
        ("body", "content", "kind"),
        [
            ({"json": {"a": [1, None]}}, b'{"a":[1,null]}', "application/json"),
            ({"data": {"a": "x y", "b": [1, 2]}}, b"a=x+y&b=1&b=2", "application/x-www-form-urlencoded"),
            ({"content": b"raw"}, b"raw", None),
            ({"content": "text"}, b"text", None),
            ({"data": b"raw"}, b"raw", None),
        ],
    )
    @virtual_time
    async def test_a_body_is_encoded_and_named(self, body, content, kind):
        engine = script(200)
        async with HTTPClient(BASE, engine=engine) as client:
            await client.post("/", **body)
        assert engine.bodies == [content]
        assert sent(engine).headers.get("content-type") == kind

    @virtual_time
    async def test_two_bodies_are_one_too_many(self):
        async with HTTPClient(BASE, engine=script()) as client:
            with pytest.raises(ConfigError, match="one body"):
                await client.post("/", json={}, content=b"x")

    @pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\0b"])
    @virtual_time
    async def test_a_line_break_in_a_header_is_an_error_before_anything_is_sent(self, value):
        engine = script(then=200)
        async with HTTPClient(BASE, engine=engine) as client:
            with pytest.raises(ConfigError, match="control character"):
                await client.get("/", headers={"X-A": value})
            with pytest.raises(ConfigError, match="control character"):
                await client.get("/" + value)
            with pytest.raises(ConfigError, match="method"):
                await client.request("GET " + value, "/")
        assert engine.requests == []

    @virtual_time
    async def test_an_idempotency_key_is_the_same_for_every_attempt(self):
        engine = script(503, 503, 200)
        async with HTTPClient(BASE, engine=engine) as client:
            await client.post("/pay", json={}, idempotent=True)
        keys = {request.headers["idempotency-key"] for request in engine.requests}
        assert len(engine.requests) == 3
        assert len(keys) == 1

    @virtual_time
    async def test_a_post_without_a_key_is_sent_once(self):
        engine = script(Disconnected, then=200)
        async with HTTPClient(BASE, engine=engine) as client:
            with pytest.raises(Disconnected):
                await client.post("/pay", json={})
        assert len(engine.requests) == 1

    @virtual_time
    async def test_a_post_that_was_not_sent_is_tried_again(self):
        engine = script(ConnectFailed, ConnectFailed, 200)
        async with HTTPClient(BASE, engine=engine) as client:
            await client.post("/pay", json={})
        assert len(engine.requests) == 3


class TestAnswers:
    @virtual_time
    async def test_verbs_raise_for_a_status_unless_told_otherwise(self):
        async with HTTPClient(BASE, engine=script(404, 404, then=404)) as client:
            with pytest.raises(StatusError, match="404 Not Found") as caught:
                await client.get("/users/1?token=secret")
            assert caught.value.response.status_code == 404
            assert "secret" not in str(caught.value)
            assert (await client.get("/", raise_for_status=False)).status_code == 404
            assert (await client.send(client.build_request("GET", "/"))).status_code == 404
            async with client.stream("GET", "/") as response:
                assert response.status_code == 404

    @virtual_time
    async def test_a_client_may_be_told_not_to_raise(self):
        async with HTTPClient(BASE, engine=script(500), raise_for_status=False, max_retries=0) as client:
            assert (await client.get("/")).status_code == 500

    @virtual_time
    async def test_into_decodes_to_a_type(self):
        @dataclass
        class User:
            id: int
            name: str

        async with HTTPClient(BASE, engine=script(then=(200, {"id": 1, "name": "Ada"}))) as client:
            assert await client.get("/", into=User) == User(1, "Ada")
            with pytest.raises(DecodeError) as caught:
                await client.get("/", into=list[User])
            assert "Ada" not in str(caught.value)

    @virtual_time
    async def test_an_error_names_its_upstream_and_its_request(self):
        async with HTTPClient(BASE, name="billing", engine=script(then=ConnectFailed), max_retries=0) as client:
            with pytest.raises(ConnectFailed, match=r"billing: .*GET https://api\.test/v1/x") as caught:
                await client.get("/x?key=secret")
            assert caught.value.upstream == "billing"
            assert "secret" not in str(caught.value)

    @virtual_time
    async def test_a_stream_is_read_while_it_arrives_and_closed_by_its_end(self):
        engine = script((200, Pieces(b"one\n", 1.0, b"two\r", b"\nthree")))
        async with HTTPClient(BASE, engine=engine) as client:
            async with client.stream("GET", "/") as response:
                assert not response.complete
                assert [line async for line in response.aiter_lines()] == ["one", "two", "three"]
                assert response.complete
            assert response.is_closed
        assert engine.open == 0

    @virtual_time
    async def test_a_stream_left_early_is_given_up(self):
        engine = script((200, Pieces(b"one", b"two")))
        async with HTTPClient(BASE, engine=engine) as client:
            async with client.stream("GET", "/") as response:
                pass
            assert response.is_closed
            assert not response.complete
            with pytest.raises(FairleadError, match="closed"):
                await response.aread()
        assert engine.open == 0


class TestPipeline:
    @virtual_time
    async def test_the_standard_order(self):
        client = HTTPClient(BASE, auth=Bearer("x"), engine=script())
        kinds = [type(policy).__name__ for policy in client.pipeline.policies]
        assert kinds == ["Observe", "Retry", "CircuitBreaker", "ConcurrencyLimit", "Bearer"]

    def test_an_order_that_cannot_work_is_an_error_when_the_client_is_built(self):
        with pytest.raises(ConfigError, match="CircuitBreaker cannot stand outside Retry"):
            HTTPClient(BASE, policies=(CircuitBreaker(), Retry()), engine=script())
        with pytest.raises(ConfigError, match="two Retry"):
            HTTPClient(BASE, policies=(Retry(), Retry(name="b")), engine=script())

    @pytest.mark.parametrize("wrong", [[1.0], {"total": 1.0}, "1", (1.0, 2.0), True])
    @virtual_time
    async def test_a_timeout_that_is_none_is_told_as_such(self, wrong):
        async with HTTPClient(BASE, engine=script()) as client:
            with pytest.raises(ConfigError, match=r"timeout: .* is not a number of seconds"):
                await client.get("/", timeout=wrong)

    @pytest.mark.parametrize("wrong", [Retry, "retry", None, script(200)])
    def test_what_is_no_policy_is_told_as_such(self, wrong):
        with pytest.raises(ConfigError, match="is no policy: pass what has a method bind"):
            HTTPClient(BASE, policies=(CircuitBreaker(), wrong), engine=script())

    def test_a_place_that_there_is_not_is_told_with_those_that_there_are(self):
        class Own:
            place = "Somewhere"

            def bind(self, send, upstream):
                return send

        with pytest.raises(ConfigError, match="Own: place='Somewhere' is none of Observe, Fallback, Cache"):
            HTTPClient(BASE, policies=(Own(),), engine=script())

    def test_what_counts_calls_stands_there_once_under_one_name(self):
        for recipe in (CircuitBreaker, ConcurrencyLimit, partial(RateLimit, 5.0)):
            with pytest.raises(ConfigError, match="called 'default' would count each call twice"):
                HTTPClient(BASE, policies=(recipe(), recipe(name="other"), recipe()), engine=script())
            HTTPClient(BASE, policies=(recipe(), recipe(name="other")), engine=script())

    def test_one_pipeline_within_another_stands_for_its_policies(self):
        with pytest.raises(ConfigError, match="two Retry"):
            HTTPClient(BASE, policies=(Retry(), Pipeline((Pipeline((Retry(),)),))), engine=script())
        whole = HTTPClient(BASE, policies=(Retry(), CircuitBreaker()), engine=script())
        client = HTTPClient(BASE, policies=(Pipeline((Retry(), CircuitBreaker())),), engine=script())
        assert client.pipeline == whole.pipeline
        assert client.explain() == whole.explain()

    @virtual_time
    async def test_a_call_may_have_a_retry_of_its_own_and_shares_the_circuit(self):
        engine = script(then=503)
        async with HTTPClient(BASE, engine=engine) as client:
            for _ in range(5):
                await client.get("/", retry=None, raise_for_status=False)
            assert len(engine.requests) == 5
            with pytest.raises(CircuitOpen):
                await client.get("/")

    @virtual_time
    async def test_a_call_may_have_credentials_of_its_own(self):
        engine = script(then=200)
        async with HTTPClient(BASE, auth=Bearer("ours"), engine=engine) as client:
            await client.get("/")
            await client.get("/", auth=Bearer("theirs"))
            await client.get("/", auth=("ada", "pw"))
            await client.get("/", auth=None)
            for number in range(100):  # many users: what was bound for one is let go
                await client.get("/", auth=Bearer(f"user-{number}"))
            assert len(client._bound._kept) <= 64
        given = [request.headers.get("authorization") for request in engine.requests]
        assert given[:4] == ["Bearer ours", "Bearer theirs", "Basic YWRhOnB3", None]

    @virtual_time
    async def test_timeout_is_the_deadline_of_the_whole_call(self):
        engine = script(then=100.0)
        async with HTTPClient(BASE, engine=engine, timeout=3.0) as client:
            with pytest.raises(AttemptTimedOut):
                await client.get("/")
            engine.answers.append(5.0)
            engine.answers.append(200)
            await client.get("/", timeout=Timeout(total=6.0))

    @virtual_time
    async def test_a_deadline_of_ones_own_caller_is_no_verdict(self):
        async with HTTPClient(BASE, engine=script(then=inf), timeout=3.0) as client:
            for _ in range(6):
                with pytest.raises(DeadlineExceeded):
                    await client.send(
                        client.build_request("GET", "/"), deadline=asyncio.get_running_loop().time() + 0.1
                    )
            (circuit,) = client.upstream.states["CircuitBreaker", "default"].values()
            assert (str(circuit.state), circuit.window.failed) == ("closed", 0)

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "3", True])
    def test_a_timeout_that_is_no_time_is_an_error(self, timeout):
        with pytest.raises(ConfigError, match="timeout"):
            HTTPClient(BASE, timeout=timeout, engine=script())

    @virtual_time
    async def test_true_is_no_second_even_where_one_second_was_asked_before(self):
        async with HTTPClient(BASE, engine=script(then=200)) as client:
            await client.get("/", timeout=1)
            with pytest.raises(ConfigError, match="timeout"):
                await client.get("/", timeout=True)

    def test_explain_says_the_pipeline_in_words_outermost_first(self):
        told = HTTPClient(BASE, name="billing", timeout=3.0, max_connections=7, engine=script()).explain()
        lines = told.splitlines()
        assert lines[0] == "billing -> https://api.test/v1"
        words = ["observe", "retry", "circuit breaker", "concurrency limit"]
        assert [word for word, line in zip(words, lines[2:6], strict=True) if word in line] == words
        assert "at most 7 calls" in told


class TestLife:
    @pytest.mark.parametrize(("answer", "healthy"), [(200, True), (404, True), (500, False), (ConnectFailed, False)])
    @virtual_time
    async def test_health_is_one_attempt_below_500(self, answer, healthy):
        engine = script(then=answer)
        async with HTTPClient(BASE, engine=engine, health_path="/health") as client:
            assert await client.health_check() is healthy
        assert sent(engine).target == "/v1/health"

    @virtual_time
    async def test_health_is_the_upstreams_own_and_not_that_of_what_stands_in_or_is_sent_beside(self):
        engine = script(then=503)
        async with HTTPClient(BASE, engine=engine, policies=(Fallback({}), Hedge(delay=0.1))) as client:
            assert await client.health_check() is False
        assert len(engine.calls) == 1

    @virtual_time
    async def test_health_is_asked_with_the_clients_own_params(self):
        engine = script(200)
        async with HTTPClient(BASE, engine=engine, params={"key": 1}) as client:
            assert await client.health_check()
        assert sent(engine).target == "/v1?key=1"

    @virtual_time
    async def test_health_never_raises(self):
        async with HTTPClient(engine=script()) as client:
            assert await client.health_check() is False

    @virtual_time
    async def test_a_closed_client_says_so(self):
        engine = script(then=200)
        client = HTTPClient(BASE, engine=engine)
        await client.get("/")
        await client.close()
        await client.close()
        with pytest.raises(ConfigError, match="closed"):
            await client.get("/")

    @virtual_time
    async def test_a_client_dropped_open_says_where_it_was_made(self):
        client = HTTPClient(BASE, engine=script(200))
        await client.get("/")
        with pytest.warns(ResourceWarning, match=r"HTTPClient made at .*test_client\.py:\d+ was dropped open"):
            del client
            gc.collect()

    @virtual_time
    async def test_a_stream_dropped_open_says_where_it_was_opened(self):
        engine = script((200, Pieces(b"one")))
        async with HTTPClient(BASE, engine=engine) as client:
            stream = client.stream("GET", "/")
            response = await stream.__aenter__()
            with pytest.warns(ResourceWarning, match=r"a stream opened at .*test_client\.py:\d+ was dropped open"):
                del stream, response
                gc.collect()
        assert engine.open == 0

    def test_class_keywords_are_defaults_that_a_subclass_and_the_constructor_override(self):
        class Weather(HTTPClient, base_url=BASE, timeout=3.0, max_retries=5):
            auth = Bearer("x")

        class Tides(Weather, timeout=4.0):
            pass

        assert Weather(engine=script()).timeout.total == 3.0
        assert Tides(engine=script()).timeout.total == 4.0
        assert Tides(timeout=5.0, engine=script()).timeout.total == 5.0
        assert Tides("https://other.test", engine=script()).base_url == "https://other.test"
        assert Tides(engine=script()).name == "Tides"

    @pytest.mark.parametrize(
        ("key", "value", "told"),
        [
            ("base_url", 5, "base_url=5"),
            ("timeout", "5", "timeout='5'"),
            ("max_retries", 1.5, "max_retries=1.5"),
            ("max_retries", True, "max_retries=True"),
            ("retry_delay", None, "retry_delay=None"),
            ("retry_backoff", "2", "retry_backoff='2'"),
            ("max_connections", "5", "max_connections='5'"),
            ("max_keepalive_connections", 1.0, "max_keepalive_connections=1.0"),
            ("http2", "yes", "http2='yes'"),
            ("verify", None, "verify=None"),
            ("proxy", {"http": "http://me:hunter2@proxy"}, "proxy=dict"),
            ("auth", "hunter2", "auth=str"),
            ("auth", ("hunter2",), "auth=tuple"),
            ("policies", Retry(), "policies=Retry"),
            ("allow_origins", "https://a.test", "allow_origins='https://a.test'"),
            ("sinks", print, "sinks=builtin"),
            ("health_path", None, "health_path=None"),
            ("name", 5, "name=5"),
        ],
    )
    def test_a_keyword_of_another_type_is_told_with_its_value_and_the_mend(self, key, value, told):
        with pytest.raises(ConfigError, match="cannot work: pass ") as caught:
            HTTPClient(**{"base_url": BASE, "engine": script(), key: value})
        assert str(caught.value).startswith(f"HTTPClient: {told}")
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("headers", ["abc", {"X": 1}, [1], {"X": None}, {1: "a"}])
    def test_headers_of_another_type_are_told(self, headers):
        with pytest.raises(ConfigError, match="header"):
            HTTPClient(BASE, headers=headers, engine=script())

    def test_a_token_alone_is_no_auth_of_a_class(self):
        class Weather(HTTPClient, base_url=BASE):
            auth = "hunter2"

        with pytest.raises(ConfigError, match=r"Weather: auth=str cannot work: pass Bearer") as caught:
            Weather(engine=script())
        assert "hunter2" not in str(caught.value)

    def test_an_unknown_keyword_is_told_which_was_meant(self):
        with pytest.raises(TypeError, match="did you mean 'timeout'"):
            HTTPClient(BASE, timout=3)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="did you mean 'base_url'"):

            class Weather(HTTPClient, base_ur=BASE):  # type: ignore[call-arg]
                pass

    @pytest.mark.parametrize(
        "base", ["api.test", "ftp://api.test", "https://ada:pw@api.test", "https://api.test?x=1", "https://"]
    )
    def test_a_base_url_that_cannot_be_called_is_an_error(self, base):
        with pytest.raises(ConfigError, match="base_url") as caught:
            HTTPClient(base, engine=script())
        assert "pw@" not in str(caught.value)

    @virtual_time
    async def test_an_instance_can_be_patched(self):
        async with HTTPClient(BASE, engine=script()) as client:
            with patch.object(client, "get") as get:
                get.return_value = Response(200, json={"id": 1})
                assert (await client.get("/users/1")).json() == {"id": 1}
