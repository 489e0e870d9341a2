"""Fallback: what is answered instead, and when."""

import asyncio

import pytest

from calls import call, recorded
from fairlead.core import Upstream
from fairlead.errors import CircuitOpen, ConfigError, ConnectFailed, DeadlineExceeded
from fairlead.events import FellBack
from fairlead.message import Response
from fairlead.policies import Fallback
from fairlead.testing import Pieces, script, virtual_time


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
    with pytest.raises(ConfigError, match="cannot be encoded"):
        bound(script(), object())


def test_it_explains_itself():
    assert Fallback([]).explain() == "fallback: a given answer in place of an error or a 5xx"
    assert Fallback(print, on=bool).explain() == "fallback: a function in place of what it is told to replace"
