"""Retry: what is tried again, when, and never too late."""

import asyncio
from math import inf

import pytest

from calls import call, now, recorded
from fairlead.core import Timeout, Upstream
from fairlead.errors import (
    AttemptTimedOut,
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    Disconnected,
    Knowledge,
    LimitReached,
    ProtocolError,
)
from fairlead.events import Retried
from fairlead.message import Response
from fairlead.policies import Retry
from fairlead.testing import Pieces, script, virtual_time


def half():
    return 0.5


def bound(engine, *, upstream=None, random=half, **numbers):
    return Retry(random=random, **numbers).bind(engine.send, upstream or Upstream("shop"))


# The rules, in numbers


def test_the_longest_pause_grows_to_its_cap():
    recipe = Retry(delay=0.05, backoff=2.0, max_delay=1.0)
    assert [recipe.cap(attempt) for attempt in range(1, 8)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert recipe.cap(100_000) == 1.0


@pytest.mark.parametrize(
    "numbers",
    [{"retries": -1}, {"retries": 1.5}, {"retries": True}, {"delay": -1}, {"backoff": 0.5}, {"max_delay": inf}],
)
def test_numbers_that_cannot_work_are_refused(numbers):
    with pytest.raises(ConfigError, match=f"Retry: {next(iter(numbers))}="):
        Retry(**numbers)


def test_without_retries_it_is_not_there():
    engine = script()
    assert bound(engine, retries=0) == engine.send


def test_it_explains_itself():
    assert "up to 2 more attempts" in Retry().explain()
    assert "at most 0.05, 0.1 s" in Retry().explain()
    assert Retry(retries=0).explain() == "retry: never"
    assert "1 more attempt " in Retry(retries=1).explain()


# What is tried again


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@virtual_time
async def test_a_get_is_tried_again_after(status):
    engine = script(status, 200)
    assert (await bound(engine)(call())).status_code == 200
    assert len(engine.calls) == 2


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 404, 409, 501, 505])
@virtual_time
async def test_an_answer_stays_as_it_is_when_it_is(status):
    engine = script(status)
    assert (await bound(engine)(call())).status_code == status


@pytest.mark.parametrize("fault", [ConnectFailed, Disconnected, ProtocolError, AttemptTimedOut])
@virtual_time
async def test_a_get_is_tried_again_after_a_fault(fault):
    engine = script(fault, 200)
    assert (await bound(engine)(call())).status_code == 200


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@virtual_time
async def test_a_plain_post_is_sent_once_when_it_was_answered_with(status):
    engine = script(status)
    assert (await bound(engine)(call("POST", json={}))).status_code == status
    assert len(engine.calls) == 1


@pytest.mark.parametrize("fault", [Disconnected, ProtocolError, AttemptTimedOut])
@virtual_time
async def test_a_plain_post_is_sent_once_when_it_may_have_arrived(fault):
    engine = script(fault)
    with pytest.raises(fault):
        await bound(engine)(call("POST", json={}))
    assert len(engine.calls) == 1


@pytest.mark.parametrize(
    "fault", [ConnectFailed, Disconnected(knowledge=Knowledge.NOT_SENT), AttemptTimedOut(knowledge=Knowledge.NOT_SENT)]
)
@virtual_time
async def test_a_plain_post_is_tried_again_when_it_was_not_sent(fault):
    engine = script(fault, 201)
    assert (await bound(engine)(call("POST", json={"a": 1}))).status_code == 201
    assert engine.bodies == [b'{"a":1}']


@pytest.mark.parametrize("answer", [503, Disconnected, AttemptTimedOut])
@virtual_time
async def test_a_post_with_a_key_is_tried_again_with_the_same_key(answer):
    engine = script(answer, 201)
    assert (await bound(engine)(call("POST", json={}, headers={"Idempotency-Key": "k1"}))).status_code == 201
    assert [request.headers["idempotency-key"] for request in engine.requests] == ["k1", "k1"]


@pytest.mark.parametrize(
    "error", [CircuitOpen, LimitReached, ConfigError, DeadlineExceeded, ValueError, ConnectionError]
)
@virtual_time
async def test_what_another_attempt_cannot_mend_is_raised_at_once(error):
    engine = script(error)
    with pytest.raises(error):
        await bound(engine)(call())
    assert len(engine.calls) == 1


@virtual_time
async def test_a_refusal_ends_the_retries():
    engine = script(503, CircuitOpen(retry_after=4.0))
    with pytest.raises(CircuitOpen):
        await bound(engine)(call())
    assert len(engine.calls) == 2


@virtual_time
async def test_a_body_that_cannot_be_read_again_gets_one_attempt():
    async def body():
        yield b"once"

    engine = script(ConnectFailed, 503)
    send = bound(engine)
    with pytest.raises(ConnectFailed):
        await send(call("PUT", content=body()))
    assert (await send(call("PUT", content=body()))).status_code == 503


@virtual_time
async def test_a_body_made_anew_for_each_attempt_is_sent_whole_each_time():
    engine = script(503, 200)
    await bound(engine)(call("PUT", content=lambda: iter([b"a", b"b"])))
    assert engine.bodies == [b"ab", b"ab"]


@virtual_time
async def test_the_last_answer_or_fault_is_handed_out_as_it_is():
    engine = script(500, 502, (503, b"third"), Disconnected, Disconnected, Disconnected("third"))
    send = bound(engine)
    last = await send(call())
    assert (last.status_code, last.content) == (503, b"third")
    with pytest.raises(Disconnected, match="third"):
        await send(call())


# Pauses


@virtual_time
async def test_pauses_are_fully_jittered():
    engine = script(then=503)
    numbers = iter([0.5, 0.25])
    await bound(engine, delay=1.0, backoff=3.0, random=lambda: next(numbers))(call())
    assert now() == 0.5 * 1.0 + 0.25 * 3.0


@virtual_time
async def test_what_a_peer_asks_to_wait_comes_on_top():
    engine = script((429, None, {"Retry-After": "2"}), 200)
    await bound(engine, delay=1.0)(call())
    assert now() == 2.5


@virtual_time
async def test_asked_to_wait_past_the_deadline_the_answer_is_handed_out_at_once():
    engine = script((503, b"busy", {"Retry-After": "5"}))
    response = await bound(engine)(call(timeout=5.0))
    assert (response.status_code, response.content, now()) == (503, b"busy", 0.0)


@virtual_time
async def test_without_a_deadline_patience_ends_after_two_minutes():
    engine = script((503, None, {"Retry-After": "100"}), (503, None, {"Retry-After": "1000"}))
    assert (await bound(engine, throttled_delay=0.0)(call(timeout=None))).status_code == 503
    assert now() == 100.0


@virtual_time
async def test_a_pause_never_outlasts_the_deadline():
    engine = script(then=ConnectFailed)
    with pytest.raises(ConnectFailed):
        await bound(engine, retries=100, delay=1.0, backoff=1.0)(call(timeout=3.2))
    assert now() == 3.0
    assert len(engine.calls) == 7


@virtual_time
async def test_what_lost_is_closed_before_the_pause():
    engine = script((503, Pieces(b"sorry", inf)), 200)
    task = asyncio.ensure_future(bound(engine, delay=10.0)(call(stream=True)))
    await asyncio.sleep(1)
    assert (len(engine.calls), engine.open) == (1, 0)
    response = await task
    assert (response.status_code, engine.open) == (200, 1)
    response.close()


# The call


@virtual_time
async def test_each_attempt_is_a_call_of_its_own():
    engine = script(503, 503, 200)
    whole = call()
    await bound(engine)(whole)
    assert [attempt.attempt for attempt in engine.calls] == [1, 2, 3]
    assert len({id(attempt) for attempt in [whole, *engine.calls]}) == 4
    assert {attempt.deadline for attempt in engine.calls} == {whole.deadline}
    assert whole.attempt == 3


@virtual_time
async def test_an_attempt_that_another_may_follow_has_ten_seconds_and_any_other_the_whole_call():
    engine = script(then=200)
    send = bound(engine)
    for asked in (
        call(timeout=30.0),
        call(timeout=3.0),
        call("POST", timeout=30.0),
        call(timeout=Timeout(total=30.0, attempt=2.0)),
        call("POST", timeout=Timeout(total=30.0, attempt=2.0)),
        call("PUT", timeout=30.0, content=iter([b"once"])),
        call(timeout=None),
    ):
        await send(asked)
    assert [attempt.allowance for attempt in engine.calls] == [10.0, 3.0, 30.0, 2.0, 2.0, 30.0, 10.0]


@virtual_time
async def test_a_hanging_upstream_is_tried_until_the_deadline():
    engine = script(then=inf)
    with pytest.raises((AttemptTimedOut, DeadlineExceeded)):
        await bound(engine, delay=0.0)(call(timeout=25.0))
    assert now() == 25.0
    assert len(engine.calls) == 3


@virtual_time
async def test_every_retry_is_told():
    upstream, events = recorded()
    engine = script(503, Disconnected, 200)
    asked = call()
    await bound(engine, upstream=upstream)(asked)
    first, second = events
    assert isinstance(first, Retried)
    assert isinstance(second, Retried)
    assert (first.call, first.attempt, first.delay) == (asked, 1, 0.025)
    assert isinstance(first.cause, Response)
    assert first.cause.status_code == 503
    assert (second.attempt, second.delay, type(second.cause)) == (2, 0.05, Disconnected)
