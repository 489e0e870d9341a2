"""Fallback: what is answered instead, and when."""

import asyncio
from contextlib import suppress
from functools import partial
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now, recorded
from fairlead import HTTPClient, StatusError
from fairlead.auth import Bearer
from fairlead.core import Upstream
from fairlead.errors import CircuitOpen, ConfigError, ConnectFailed, DeadlineExceeded, Disconnected
from fairlead.events import FellBack
from fairlead.message import Response
from fairlead.policies import CircuitBreaker, Fallback, Retry
from fairlead.testing import Pieces, at_every_step, run, script, virtual_time


def bound(engine, *answer, upstream=None, **numbers):
    return Fallback(*answer, **numbers).bind(engine.send, upstream or Upstream("shop"))


@pytest.mark.parametrize("failure", [ConnectFailed, CircuitOpen, DeadlineExceeded, 500, 503])
@virtual_time
async def test_a_value_is_answered_after(failure):
    asked = call()
    response = await bound(script(failure), [])(asked)
    assert (response.status_code, response.json(), response.request) == (200, [], asked.request)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("value", [None, {}, 0, "text", {"items": [1, 2]}])
@virtual_time
async def test_a_value_is_anything_json_can_say(value):
    assert (await bound(script(ConnectFailed), value)(call())).json() == value


@virtual_time
async def test_a_given_response_is_answered_anew_each_time():
    given = Response(203, {"X-From": "here"}, b"old")
    send = bound(script(then=ConnectFailed), given)
    first, second = await send(call()), await send(call())
    assert first is not second
    assert (first.status_code, first.headers["x-from"], first.content) == (203, "here", b"old")


@virtual_time
async def test_a_function_sees_the_call_and_the_cause():
    seen = []

    def answer(asked, cause):
        seen.append((asked, cause))
        return {"cached": True}

    asked = call()
    assert (await bound(script(503), answer)(asked)).json() == {"cached": True}
    ((seen_call, cause),) = seen
    assert (seen_call, cause.status_code) == (asked, 503)


@virtual_time
async def test_a_function_may_be_async_and_return_a_response():
    async def answer(asked, cause):
        await asyncio.sleep(1)
        return Response(206, content=type(cause).__name__)

    response = await bound(script(ConnectFailed), answer)(call())
    assert (response.status_code, response.text) == (206, "ConnectFailed")


@virtual_time
async def test_what_the_function_raises_is_raised():
    def answer(asked, cause):
        raise LookupError("nothing stored")

    with pytest.raises(LookupError, match="nothing stored"):
        await bound(script(503), answer)(call())


@pytest.mark.parametrize("status", [200, 404, 429])
@virtual_time
async def test_an_answer_that_is_no_failure_stays(status):
    assert (await bound(script((status, b"own")), [])(call())).content == b"own"


@pytest.mark.parametrize("error", [ConfigError, asyncio.CancelledError, ZeroDivisionError])
@virtual_time
async def test_a_mistake_and_a_cancellation_are_not_hidden(error):
    with pytest.raises(error):
        await bound(script(error), [])(call())


@virtual_time
async def test_on_says_what_a_failure_is():
    send = bound(script(404, ConnectFailed), {}, on=lambda outcome: isinstance(outcome, Response))
    assert (await send(call())).json() == {}
    with pytest.raises(ConnectFailed):
        await send(call())


@virtual_time
async def test_the_answer_that_is_replaced_is_closed():
    engine = script((503, Pieces(b"sorry", b"...")))
    response = await bound(engine, [])(call(stream=True))
    assert engine.open == 0
    assert [chunk async for chunk in response.aiter_bytes()] == [b"[]"]


@virtual_time
async def test_it_is_told():
    upstream, events = recorded()
    asked = call()
    await bound(script(ConnectFailed), [], upstream=upstream)(asked)
    (event,) = events
    assert isinstance(event, FellBack)
    assert (event.call, type(event.cause)) == (asked, ConnectFailed)


def test_what_json_cannot_say_is_refused_when_it_is_bound():
    with pytest.raises(ConfigError, match="Fallback: an answer of object cannot be encoded"):
        bound(script(), object())


@virtual_time
async def test_so_it_is_of_one_for_a_call():
    async with HTTPClient("https://a.test", engine=script()) as client:
        for given in (object(), Fallback({}, object())):
            with pytest.raises(ConfigError, match="Fallback: an answer of object cannot be encoded"):
                await client.get("/x", fallback=given)


# A chain


class Backup(HTTPClient, base_url="https://backup.test/v2", headers={"X-Tenant": "b"}, params={"key": "b"}):
    auth = Bearer("of-backup")


def primary(*answers, fallback, then=ConnectFailed, **options):
    options.setdefault("policies", (fallback,))
    return HTTPClient("https://shop.test/v1", engine=script(*answers, then=then), name="primary", **options)


@virtual_time
async def test_another_client_is_asked_for_the_same_below_its_own_base():
    there = script((200, {"from": "there"}))
    async with Backup(engine=there) as backup, primary(503, fallback=Fallback(backup)) as client:
        response = await client.get("/users/1", params={"page": 2})
    assert (response.json(), response.fallback) == ({"from": "there"}, "Backup")
    (asked,) = there.requests
    assert asked.url == "https://backup.test/v2/users/1?page=2&key=b"
    assert (asked.headers["authorization"], asked.headers["x-tenant"]) == ("Bearer of-backup", "b")


@virtual_time
async def test_no_secret_goes_to_the_other_client():
    there = script(200)
    said = {"headers": {"X-Api-Key": "SECRET"}, "params": {"api key": "SECRET"}, "auth": Bearer("SECRET")}
    async with (
        HTTPClient("https://backup.test", engine=there) as backup,
        primary(503, fallback=Fallback(backup), **said) as client,
    ):
        await client.get("/x", params={"q": "1"}, headers={"Cookie": "SECRET", "X-Own": "kept"})
    (asked,) = there.requests
    assert asked.target == "/x?q=1"
    assert "SECRET" not in str(asked.headers.raw)
    assert asked.headers["x-own"] == "kept"


@virtual_time
async def test_the_first_that_can_answer_does():
    asked = []

    def older(_, cause):
        asked.append(cause)
        raise ConnectFailed("no store either")

    async with (
        HTTPClient("https://backup.test", engine=script(500), name="backup", max_retries=0) as backup,
        primary(503, fallback=Fallback(backup, older, {"items": []})) as client,
    ):
        response = await client.get("/x")
    assert (response.json(), response.fallback) == ({"items": []}, "a given answer")
    assert [cause.status_code for cause in asked] == [503]


@virtual_time
async def test_the_last_one_decides():
    async with (
        HTTPClient("https://backup.test", engine=script(500, ConnectFailed), max_retries=0) as backup,
        primary(fallback=Fallback(backup)) as client,
    ):
        assert (await client.get("/x", raise_for_status=False)).status_code == 500
        with pytest.raises(ConnectFailed) as caught:
            await client.get("/x")
    assert caught.value.upstream == "backup.test"


@pytest.mark.parametrize(("failure", "elsewhere"), [(ConnectFailed, 1), (Disconnected, 0), (503, 0)])
@virtual_time
async def test_what_may_have_been_done_is_not_done_again_elsewhere(failure, elsewhere):
    there = script(then=201)
    async with HTTPClient("https://backup.test", engine=there) as backup:
        async with primary(failure, fallback=Fallback(backup)) as client:
            if elsewhere:
                assert (await client.post("/orders", json={})).status_code == 201
            else:
                with pytest.raises(StatusError if failure == 503 else failure):
                    await client.post("/orders", json={})
        assert len(there.requests) == elsewhere
        async with primary(failure, fallback=Fallback(backup)) as client:
            assert (await client.post("/orders", json={}, idempotency_key="k")).status_code == 201
        assert there.requests[-1].headers["idempotency-key"] == "k"


@virtual_time
async def test_a_body_that_was_read_goes_nowhere_else():
    there = script(then=201)

    async def once():
        yield b"row"

    async with (
        HTTPClient("https://backup.test", engine=there) as backup,
        primary(ConnectFailed, fallback=Fallback(backup, {"kept": True})) as client,
    ):
        assert (await client.put("/x", content=once())).json() == {"kept": True}
    assert there.requests == []


class Stubborn(HTTPClient):
    async def _retry_with_backoff(self, func, request):
        with suppress(Disconnected, ConnectFailed):
            return await func(request)
        return await func(request)


@pytest.mark.parametrize("client", [Stubborn, partial(HTTPClient, policies=(Retry(retries=1, when=lambda *_: True),))])
@pytest.mark.parametrize(("first", "asked"), [(Disconnected, 0), (ConnectFailed, 1)])
@virtual_time
async def test_what_an_attempt_before_the_last_may_have_done_is_not_done_again_elsewhere(client, first, asked):
    there = script(then=200)
    async with (
        HTTPClient("https://b.test", engine=there) as backup,
        client("https://a.test", engine=script(first, ConnectFailed)) as shop,
    ):
        with suppress(ConnectFailed):
            await shop.post("/orders", fallback=backup)
    assert len(there.requests) == asked


@virtual_time
async def test_the_other_client_knows_the_route():
    there = script(then=503)
    async with (
        HTTPClient("https://b.test", engine=there, policies=(CircuitBreaker(by="route", consecutive=3),)) as backup,
        HTTPClient("https://a.test", engine=script(then=503), max_retries=0, raise_for_status=False) as shop,
    ):
        for number in range(3):
            await shop.get(f"/users/{number}", route="/users/{number}", fallback=backup)
        with pytest.raises(CircuitOpen, match=r"GET https://b\.test/users/\{number\}"):
            await shop.get("/users/3", route="/users/{number}", fallback=backup)


@virtual_time
async def test_the_time_that_is_left_bounds_the_other_client():
    async with (
        HTTPClient("https://backup.test", engine=script(inf)) as backup,
        primary(1.0, 503, fallback=Fallback(backup), timeout=3.0) as client,
    ):
        with pytest.raises(DeadlineExceeded):
            await client.get("/x")
    assert now() == 3.0


@virtual_time
async def test_two_that_stand_in_for_each_other_do_not_ask_for_ever():
    async with (
        HTTPClient("https://b.test", engine=script(then=503), max_retries=0) as b,
        HTTPClient("https://a.test", engine=script(then=503), max_retries=0) as a,
    ):
        with pytest.raises(StatusError):
            await a.get("/x", fallback=Fallback(b))
        assert (len(a.engine.calls), len(b.engine.calls)) == (1, 1)


@virtual_time
async def test_a_streamed_answer_comes_from_the_other_client_too():
    there = script((200, Pieces(b"a", 1.0, b"b")))
    async with (
        HTTPClient("https://backup.test", engine=there) as backup,
        primary((503, Pieces(b"...")), fallback=Fallback(backup)) as client,
    ):
        async with client.stream("GET", "/x") as response:
            assert [chunk async for chunk in response.aiter_bytes()] == [b"a", b"b"]
        assert client.engine.open == 0
    assert there.open == 0


@virtual_time
async def test_one_call_can_have_its_own():
    async with HTTPClient("https://a.test", engine=script(then=404), max_retries=0) as client:
        with pytest.raises(StatusError):
            await client.get("/x", fallback={"ok": True})  # 404 is no failure
    async with HTTPClient("https://a.test", engine=script(then=503), max_retries=0) as client:
        assert (await client.get("/x", fallback={"ok": True})).json() == {"ok": True}
        assert (await client.get("/x", raise_for_status=False)).fallback is None
        assert (await client.get("/x", fallback=lambda *_: {"ok": 2})).fallback == "<lambda>"


def test_cancelled_at_every_step_it_leaves_nothing():
    async def story(cut):
        first, second = script(0.1, 503, then=200), script(0.1, 200, then=200)
        async with (
            HTTPClient("https://b.test", engine=second, max_connections=1) as backup,
            primary(fallback=Fallback(backup), max_connections=1) as client,
        ):
            client.engine.answers[:] = first.answers
            await cut(client.get("/x"))
            assert (client.engine.open, second.open) == (0, 0)

    assert at_every_step(story) > 4


@pytest.mark.parametrize("wrong", [(), (HTTPClient,)])
def test_what_cannot_answer_is_refused(wrong):
    with pytest.raises(ConfigError, match="Fallback"):
        bound(script(), *wrong)


async def later(_):
    return True


@pytest.mark.parametrize("on", ["failed", later])
def test_who_is_asked_is_a_plain_function(on):
    with pytest.raises(ConfigError, match=r"on=.* cannot be asked"):
        Fallback({}, on=on)


@pytest.mark.parametrize("place", [0, 1])
@virtual_time
async def test_a_stream_is_closed_where_asking_fails(place):
    asked = []

    def on(_):
        asked.append(1)
        if len(asked) > place:
            raise LookupError
        return True

    there = script(then=(200, Pieces(b"a")))
    async with (
        HTTPClient("https://b.test", engine=there) as backup,
        primary((200, Pieces(b"a")), fallback=Fallback(backup, {}, on=on)) as client,
    ):
        with pytest.raises(LookupError):
            await client.send(client.build_request("GET", "/x"), stream=True)
        assert (client.engine.open, there.open) == (0, 0)


@given(
    outcomes=st.lists(st.sampled_from(["ok", "raises", "fails"]), min_size=1, max_size=5),
)
def test_it_is_the_first_good_one_or_the_last(outcomes):
    def answer(outcome):
        def told(*_):
            if outcome == "raises":
                raise ConnectFailed
            return Response(200 if outcome == "ok" else 500)

        return told

    async def story():
        upstream, events = recorded()
        send = Fallback(*map(answer, outcomes)).bind(script(503).send, upstream)
        try:
            status = (await send(call())).status_code
        except ConnectFailed:
            return "raises", events
        return {200: "ok", 500: "fails"}[status], events

    found, events = run(story())
    assert found == ("ok" if "ok" in outcomes else outcomes[-1])
    assert len(events) == (found != "raises")


def test_it_explains_itself():
    assert Fallback([]).explain() == "fallback: a given answer, in place of an error or a 5xx"
    assert Fallback(print, [], on=bool).explain() == (
        "fallback: print, then a given answer, in place of what it is told to replace"
    )
