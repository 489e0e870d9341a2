"""The gateway as an application: what it answers to whom, and what it passes on."""

import asyncio

import pytest

from fairlead import HTTPClient
from fairlead.gateway.app import Gateway
from fairlead.testing import script, virtual_time
from gateway.asking import serving

ONE = """
[services.a]
url = "http://a.test/base"
[[aggregates]]
get = "/one/{id}"
parts = { a = { call = "a /items/{id}", required = true } }
[[aggregates]]
get = "/search"
[aggregates.parts]
a = { call = "a /search?q={query.q}&lang={query.lang || 'en'}", headers = { Authorization = "{header.authorization}", X-Page = "p{query.page}" } }
"""


def ok(value):
    return script(then=(200, value))


@virtual_time
async def test_an_answer_holds_data_and_what_became_of_each_part():
    async with serving(ONE, a=script((200, {"name": "Ann"}))) as ask:
        answer = await ask("/one/7")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert list(answer.json()) == ["data", "complete", "services", "errors"]
    assert answer.data == {"a": {"name": "Ann"}}
    assert answer.json()["errors"] == []
    part = answer.json()["services"]["a"]
    assert part.keys() == {"status", "ms"}
    assert part["ms"] >= 0


@virtual_time
async def test_numbers_pass_as_they_were_written():
    written = b'{"price":1.10,"id":12345678901234567890123,"tiny":1E-400,"n":-0.0}'
    toml = ONE.replace(
        'call = "a /items/{id}", required = true }',
        'call = "a /items/{id}" }, b = { call = "a /next?id={a.id}&price={a.price}" }',
    )
    engine = script((200, written), (200, b" [1.50]\n"))
    async with serving(toml, a=engine) as ask:
        answer = await ask("/one/7")
    assert written in answer.content
    assert b'"b": [1.50]\n' in answer.content
    assert engine.requests[1].target == "/base/next?id=12345678901234567890123&price=1.10"


@virtual_time
async def test_a_value_of_the_path_stays_in_its_segment():
    engine = ok(1)
    async with serving(ONE, a=engine) as ask:
        await ask("/one/a%2F..%2Fb%3Fc")
        assert (await ask("/one/%2e%2e")).status == 404
    assert [request.target for request in engine.requests] == ["/base/items/a%2F..%2Fb%3Fc"]


@virtual_time
async def test_nothing_is_forwarded_that_is_not_listed():
    engine = ok(1)
    async with serving(ONE, a=engine) as ask:
        await ask("/search?q=x%20y&secret=1", headers={"Cookie": "a=b", "Authorization": "Bearer t", "X-Other": "1"})
    request = engine.requests[0]
    assert request.target == "/base/search?q=x%20y&lang=en"
    assert request.headers["authorization"] == "Bearer t"
    assert {"cookie", "x-other", "x-page"}.isdisjoint(request.headers)


@virtual_time
async def test_a_repeated_parameter_is_passed_on_repeated():
    engine = ok(1)
    async with serving(ONE, a=engine) as ask:
        await ask("/search?q=1&q=2&q=3&lang=de")
    assert engine.requests[0].target == "/base/search?q=1&q=2&q=3&lang=de"


@virtual_time
async def test_a_header_that_would_break_a_line_fails_its_part_only():
    async with serving(ONE, a=script()) as ask:
        answer = await ask("/search?q=1&page=1%0d%0aX-Evil:1")
    assert answer.status_of("a") == "error"
    assert "X-Page" in answer.error_of("a")
    assert "Evil" not in answer.error_of("a")


@virtual_time
async def test_head_is_get_without_its_body():
    async with serving(ONE, a=ok(1)) as ask:
        answer = await ask("/one/1", method="HEAD")
    assert (answer.status, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0
    assert answer.headers["fairlead-complete"] == "true"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@virtual_time
async def test_other_methods_are_told_which_are_answered(method):
    async with serving(ONE, a=script()) as ask:
        answer = await ask("/one/1", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json()["title"] == "Method Not Allowed"


@pytest.mark.parametrize("path", ["/", "/one", "/one/", "/one/1/2", "/health/x"])
@virtual_time
async def test_an_unknown_path_is_a_problem_document(path):
    async with serving(ONE, a=script()) as ask:
        answer = await ask(path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "no aggregate has this path",
    }  # fmt: skip


@virtual_time
async def test_a_failed_required_part_is_a_problem_that_shows_no_body_and_no_query():
    async with serving(ONE, a=script((404, "secret of the upstream"))) as ask:
        answer = await ask("/one/1", headers={"X-Request-ID": "abc-1"})
    problem = answer.json()
    assert answer.status == 502
    assert problem["title"] == "Bad Gateway"
    assert problem["detail"] == "a: answered 404 Not Found"
    assert (problem["upstream"], problem["phase"], problem["request_id"]) == ("a", "head", "abc-1")
    assert problem["services"]["a"]["status"] == "error"
    assert "secret" not in answer.content.decode()


@virtual_time
async def test_a_request_id_that_is_no_plain_word_is_replaced():
    async with serving(ONE, a=script(404)) as ask:
        answer = await ask("/one/1", headers={"X-Request-ID": "a b<c>"})
    assert len(answer.json()["request_id"]) == 32


@virtual_time
async def test_health_asks_every_service():
    async with serving(ONE, a=script(200, 500)) as ask:
        well, ill = await ask("/health"), await ask("/health")
    assert (well.status, ill.status) == (200, 503)
    assert well.json() == {"healthy": True, "services": {"a": {"healthy": True, "circuit": "closed"}}}
    assert ill.json()["healthy"] is False


@virtual_time
async def test_the_server_closes_the_clients_with_the_application():
    async with serving(ONE, a=ok(1)) as ask:
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent = []

        async def receive():
            return next(messages)

        async def send(message):
            sent.append(message["type"])

        await ask.gateway({"type": "lifespan"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert ask.gateway.clients["a"].engine.closed


@virtual_time
async def test_two_requests_do_not_share_values():
    engine = script(then=lambda request: (200, {"target": request.target}))
    async with serving(ONE, a=engine) as ask:
        answers = await asyncio.gather(*[ask(f"/one/{number}") for number in range(20)])
    assert [answer.data["a"]["target"] for answer in answers] == [f"/base/items/{number}" for number in range(20)]


def test_a_service_becomes_a_client_with_its_numbers(tmp_path):
    file = tmp_path / "fairlead.toml"
    file.write_text(
        ONE.replace(
            '"http://a.test/base"',
            '"http://a.test/base"\ntimeout = "2s"\nretries = 5\nmax_connections = 3\nauth = { bearer = "t" }',
        )
    )
    gateway = Gateway(file)
    one = gateway.clients["a"]
    assert isinstance(one, HTTPClient)
    assert (one.name, one.base_url, one.timeout.total) == ("a", "http://a.test/base", 2.0)
    assert "5 more" in one.explain()
    assert "3 calls" in one.explain()
    assert "bearer" in one.explain()
