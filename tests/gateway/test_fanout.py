"""One aggregate under way, on virtual time: who waits for whom, who is late, and what is left behind."""

import asyncio
from math import inf

import pytest

from fairlead.errors import AttemptTimedOut, ConnectFailed, Disconnected
from fairlead.testing import at_every_step, script, virtual_time
from gateway.asking import serving

SERVICES = """
[services.a]
url = "http://a.test"
retries = 0
[services.b]
url = "http://b.test"
retries = 0
[services.c]
url = "http://c.test"
retries = 0
[[aggregates]]
get = "/x/{id}"
"""
TOGETHER = SERVICES + 'parts = { a = { call = "a /" }, b = { call = "b /" }, c = { call = "c /" } }'


def now():
    return asyncio.get_running_loop().time()


def parts(a='{ call = "a /" }', b='{ call = "b /" }', c='{ call = "c /" }', within=None):
    bound = f'within = "{within}"\n' if within else ""
    return f"{SERVICES}{bound}[aggregates.parts]\na = {a}\nb = {b}\nc = {c}\n"


@virtual_time
async def test_three_parts_of_two_seconds_take_two():
    slow = [script(2.0, (200, {})) for _ in range(3)]
    async with serving(TOGETHER, a=slow[0], b=slow[1], c=slow[2]) as ask:
        answer = await ask("/x/1")
        assert now() == 2.0
    assert answer.json()["complete"] is True
    assert answer.headers["fairlead-complete"] == "true"
    assert "cache-control" not in answer.headers


@virtual_time
async def test_a_part_waits_for_what_it_refers_to_and_only_for_that():
    began = {}

    def at(name, answer):
        def tell(request):
            began[name] = now()
            return answer

        return tell

    toml = parts(c='{ call = "c /{a.id}" }')
    async with serving(
        toml,
        a=script(at("a", (200, {"id": 7})), then=200),
        b=script(3.0, at("b", (200, {}))),
        c=script(at("c", (200, {}))),
    ) as ask:
        ask.gateway.clients["a"].engine.answers.insert(0, 1.0)
        await ask("/x/1")
        assert began == {"a": 1.0, "b": 3.0, "c": 1.0}
        assert ask.gateway.clients["c"].engine.requests[0].target == "/7"


@virtual_time
async def test_a_failed_part_takes_nothing_from_the_others():
    async with serving(
        TOGETHER, a=script((200, {"n": 1})), b=script(503), c=script(ConnectFailed("10.0.0.7 refused"))
    ) as ask:
        answer = await ask("/x/1")
    assert answer.status == 200
    assert answer.data == {"a": {"n": 1}, "b": None, "c": None}
    assert [answer.status_of(name) for name in "abc"] == ["ok", "error", "error"]
    assert answer.json()["complete"] is False
    assert answer.headers["fairlead-complete"] == "false"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["errors"] == [
        {"service": "b", "error": "answered 503 Service Unavailable"},
        {"service": "c", "error": "could not connect"},
    ]
    assert "error" not in answer.json()["services"]["a"]


@virtual_time
async def test_or_fills_the_data_and_the_status_stays_what_it_was():
    async with serving(
        parts(b='{ call = "b /", or = [{ sku = "none" }] }', c='{ call = "c /{b[0].sku}" }'),
        a=script((200, {})), b=script(500), c=script((200, {"price": 1})),
    ) as ask:  # fmt: skip
        answer = await ask("/x/1")
        assert ask.gateway.clients["c"].engine.requests[0].target == "/none"
    assert answer.data["b"] == [{"sku": "none"}]
    assert answer.status_of("b") == "error"
    assert answer.status_of("c") == "ok"
    assert answer.json()["complete"] is False


@virtual_time
async def test_a_part_that_depends_on_a_failed_one_is_skipped_and_not_asked():
    async with serving(parts(c='{ call = "c /{b.x}", or = 0 }'), a=script((200, {})), b=script(500), c=script()) as ask:
        answer = await ask("/x/1")
        assert ask.gateway.clients["c"].engine.calls == []
    assert answer.status_of("c") == "skipped"
    assert answer.error_of("c") == "needs b, which has no value"
    assert answer.data["c"] == 0
    assert [one["service"] for one in answer.json()["errors"]] == ["b"]


@virtual_time
async def test_a_null_makes_a_part_skipped():
    async with serving(
        parts(c='{ call = "c /{b.x}" }'), a=script((200, {})), b=script((200, {"x": None})), c=script()
    ) as ask:
        answer = await ask("/x/1")
    assert answer.status_of("c") == "skipped"
    assert answer.error_of("c") == "{b.x} is null"
    assert answer.data["c"] is None
    assert answer.json()["complete"] is False
    assert answer.json()["errors"] == []


@pytest.mark.parametrize(
    ("vip", "asked"), [(True, True), (False, False), (None, False), ([], False), (0, False), ("no", True)]
)
@virtual_time
async def test_when_decides_whether_a_part_is_asked(vip, asked):
    async with serving(
        parts(c='{ call = "c /", when = "{b.vip}" }'),
        a=script((200, {})),
        b=script((200, {"vip": vip})),
        c=script(then=(200, 5)),
    ) as ask:
        answer = await ask("/x/1")
    assert answer.status_of("c") == ("ok" if asked else "skipped")
    assert answer.data["c"] == (5 if asked else None)
    assert answer.json()["complete"] is True, "what was not wanted is not missing"


@virtual_time
async def test_within_bounds_everything_and_says_who_was_late():
    toml = parts(b='{ call = "b /", or = 1 }', c='{ call = "c /{b.x}" }', within="500ms")
    async with serving(toml, a=script(0.4, (200, 7)), b=script(inf), c=script()) as ask:
        answer = await ask("/x/1")
        assert now() == 0.5
    assert [answer.status_of(name) for name in "abc"] == ["ok", "timeout", "timeout"]
    assert answer.data == {"a": 7, "b": 1, "c": None}
    assert answer.error_of("b") == "no answer within 0.5 s"


@virtual_time
async def test_a_parts_own_within_is_a_timeout_and_what_waits_for_it_goes_on():
    toml = parts(b='{ call = "b /", within = "100ms", or = { x = 2 } }', c='{ call = "c /{b.x}" }')
    async with serving(toml, a=script((200, 1)), b=script(inf), c=script((200, 3))) as ask:
        answer = await ask("/x/1")
        assert now() == pytest.approx(0.1)
        assert ask.gateway.clients["c"].engine.requests[0].target == "/2"
    assert [answer.status_of(name) for name in "abc"] == ["ok", "timeout", "ok"]


@virtual_time
async def test_a_parts_own_within_is_no_verdict_on_its_upstream():
    async with serving(
        parts(b='{ call = "b /", within = "100ms" }'), b=script(then=inf), a=script(then=200), c=script(then=200)
    ) as ask:
        for _ in range(6):
            assert (await ask("/x/1")).status_of("b") == "timeout"
        assert len(ask.gateway.clients["b"].engine.requests) == 6


@virtual_time
async def test_a_required_part_that_fails_decides_at_once_and_cancels_the_rest():
    engines = {"a": script(0.2, 500), "b": script((200, {})), "c": script(inf)}
    async with serving(parts(a='{ call = "a /", required = true }'), **engines) as ask:
        answer = await ask("/x/1")
        assert now() == 0.2
    assert answer.status == 502
    assert answer.headers["content-type"] == "application/problem+json"
    services = answer.json()["services"]
    assert [services[name]["status"] for name in "abc"] == ["error", "ok", "skipped"]
    assert engines["c"].open == 0


@pytest.mark.parametrize(
    ("failure", "status"),
    [(500, 502), (404, 502), (ConnectFailed, 502), (Disconnected, 502), ((200, b"<p>"), 502), (503, 503), (429, 503),
     (AttemptTimedOut, 504)],
)  # fmt: skip
@virtual_time
async def test_the_status_of_the_whole_tells_what_became_of_the_required_part(failure, status):
    toml = parts(a='{ call = "a /", required = true }')
    async with serving(toml, a=script(failure), b=script((200, 1)), c=script((200, 1))) as ask:
        answer = await ask("/x/1")
    assert answer.status == answer.json()["status"] == status


@virtual_time
async def test_a_required_part_that_is_late_is_a_504():
    toml = parts(a='{ call = "a /", required = true }', within="1s")
    async with serving(toml, a=script(inf), b=script((200, 1)), c=script((200, 1))) as ask:
        answer = await ask("/x/1")
        assert now() == 1.0
    assert answer.status == 504
    assert answer.json()["services"]["a"]["status"] == "timeout"
    assert answer.json()["services"]["b"]["status"] == "ok"


@virtual_time
async def test_a_required_part_blames_what_it_waited_for():
    toml = parts(b='{ call = "b /{a.x}", required = true }')
    async with serving(toml, a=script(AttemptTimedOut), b=script(), c=script((200, 1))) as ask:
        assert (await ask("/x/1")).status == 504


@virtual_time
async def test_a_required_part_without_its_query_parameter_is_the_callers_mistake():
    toml = parts(a='{ call = "a /?q={query.q}", required = true }')
    async with serving(toml, a=script(), b=script((200, 1)), c=script((200, 1))) as ask:
        answer = await ask("/x/1")
    assert answer.status == 400
    assert answer.json()["detail"] == "a: {query.q} is null"


@virtual_time
async def test_an_open_circuit_says_when_to_come_again():
    toml = parts(a='{ call = "a /", required = true }')
    async with serving(toml, a=script(*[500] * 5), b=script(then=(200, 1)), c=script(then=(200, 1))) as ask:
        for _ in range(5):
            assert (await ask("/x/1")).status == 502
        answer = await ask("/x/1")
    assert answer.status == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 5


@virtual_time
async def test_an_aggregate_in_a_hurry_opens_no_circuit():
    toml = parts(within="10ms")
    async with serving(toml, a=script(then=inf), b=script(then=(200, 1)), c=script(then=(200, 1))) as ask:
        for _ in range(20):
            assert (await ask("/x/1")).status_of("a") == "timeout"
        assert len(ask.gateway.clients["a"].engine.calls) == 20


@virtual_time
async def test_a_caller_who_goes_away_takes_the_calls_along():
    engines = {name: script(inf) for name in "abc"}
    async with serving(TOGETHER, **engines) as ask:
        asyncio.get_running_loop().call_later(0.3, ask.gone.set)
        answer = await ask("/x/1")
        assert now() == 0.3
        assert answer.status == 499, "for whoever stands between"
        assert [engine.open for engine in engines.values()] == [0, 0, 0]
        assert len(asyncio.all_tasks()) == 1


def test_a_cancellation_at_any_step_leaves_nothing_behind():
    async def story(cut):
        toml = parts(b='{ call = "b /{a.id}" }', c='{ call = "c /{a.id}", required = true }', within="2s")
        engines = {"a": script(0.1, (200, {"id": 1})), "b": script(0.1, (200, 2)), "c": script(0.2, (200, 3))}
        async with serving(toml, **engines) as ask:
            await cut(ask("/x/1"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert [engine.open for engine in engines.values()] == [0, 0, 0]
            assert len(asyncio.all_tasks()) == 1

    assert at_every_step(story) >= 10


@virtual_time
async def test_a_fault_of_ours_takes_one_part_and_is_logged(caplog):
    async with serving(TOGETHER, a=script((200, 1)), b=script(ZeroDivisionError), c=script((200, 3))) as ask:
        answer = await ask("/x/1")
    assert answer.data == {"a": 1, "b": None, "c": 3}
    assert answer.error_of("b") == "ZeroDivisionError"
    assert "b: the call failed unexpectedly" in caplog.text
