"""Retry: what is tried again, when, and never too late."""

import asyncio
import gc
from contextlib import suppress
from io import BytesIO
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from fairlead.events import GaveUp, Retried
from fairlead.message import Response
from fairlead.policies import Budget, Retry
from fairlead.testing import Pieces, at_every_step, script, virtual_time


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
    [
        {"retries": -1},
        {"retries": 1.5},
        {"retries": True},
        {"delay": -1},
        {"delay": "1"},
        {"throttled_delay": -1},
        {"backoff": 0.5},
        {"max_delay": inf},
        {"max_retry_after": None},
        {"budget": 0.2},
        {"budget": Budget},
        {"statuses": 503},
        {"statuses": "503"},
        {"statuses": {"503"}},
        {"when": True},
    ],
)
def test_numbers_that_cannot_work_are_refused(numbers):
    with pytest.raises(ConfigError, match=f"Retry: {next(iter(numbers))}="):
        Retry(**numbers)


def test_a_predicate_that_has_to_be_awaited_is_refused():
    async def when(request, outcome): ...

    with pytest.raises(ConfigError, match="pass a plain function"):
        Retry(when=when)


def test_throttled_the_pause_grows_from_another_base():
    recipe = Retry(throttled_delay=1.0, backoff=2.0, max_delay=5.0)
    assert [recipe.cap(attempt, throttled=True) for attempt in range(1, 5)] == [1.0, 2.0, 4.0, 5.0]


@given(
    st.builds(
        Retry,
        retries=st.integers(0, 9),
        delay=st.floats(0, 100),
        throttled_delay=st.floats(0, 100),
        backoff=st.floats(1, 10),
        max_delay=st.floats(0, 100),
        max_retry_after=st.floats(0, 1000),
        random=st.just(half),
    ),
    st.integers(1, 20),
    st.floats(0, 2000) | st.just(inf),
    st.floats(0, 1e9),
    st.booleans(),
)
def test_a_pause_is_no_longer_than_it_may_be_and_else_there_is_a_reason(recipe, attempt, left, asked, throttled):
    verdict = recipe.pause(attempt, left, asked=asked, throttled=throttled)
    if isinstance(verdict, str):
        assert verdict
        assert attempt > recipe.retries or asked > recipe.max_retry_after or asked + recipe.max_delay >= left
    else:
        assert attempt <= recipe.retries
        assert asked <= verdict < left
        assert asked <= recipe.max_retry_after
        assert verdict - asked <= recipe.max_delay + 1e-6


def test_without_retries_it_is_not_there():
    engine = script()
    assert bound(engine, retries=0) == engine.send


def test_it_explains_itself():
    assert "up to 2 more attempts" in Retry().explain()
    assert "at most 0.05, 0.1 s" in Retry().explain()
    assert "throttled 1, 2 s" in Retry().explain()
    assert "from a budget of 20% of the calls of 10 s and 10 in each second" in Retry().explain()
    assert "without a budget" in Retry(budget=None).explain()
    assert "Retry-After is kept up to 120 s" in Retry().explain()
    assert "or `when` says so" in Retry(when=lambda *_: None).explain()
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
async def test_a_body_that_is_more_than_we_hold_would_be_so_again():
    error = ProtocolError("too large")
    error.too_large = True
    engine = script(error)
    with pytest.raises(ProtocolError):
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


@pytest.mark.parametrize(
    ("answer", "pause"),
    [
        (429, 0.5),
        ((503, None, {"Retry-After": "0"}), 0.5),
        ((503, None, {"Retry-After": "Sunday, 06-Nov-94 08:49:37 GMT"}), 0.5),
        ((503, None, {"Retry-After": "soon"}), 0.025),
        ((500, None, {"Retry-After": "2"}), 2.025),
        ((503, None, {"retry-after-ms": "250"}), 0.75),
        (503, 0.025),
        (Disconnected, 0.025),
    ],
)
@virtual_time
async def test_throttling_is_given_more_time_than_a_fault_that_passes(answer, pause):
    await bound(script(answer, 200))(call())
    assert now() == pytest.approx(pause)


@virtual_time
async def test_a_date_to_come_again_at_is_read_against_the_answers_own():
    day = "Sun, 06 Nov 1994 08:49:"
    engine = script((429, None, {"Retry-After": f"{day}40 GMT", "Date": f"{day}37 GMT"}), 200)
    await bound(engine)(call())
    assert now() == 3.5


@virtual_time
async def test_asked_to_wait_past_the_deadline_the_answer_is_handed_out_at_once():
    engine = script((503, b"busy", {"Retry-After": "5"}))
    response = await bound(engine)(call(timeout=5.0))
    assert (response.status_code, response.content, now()) == (503, b"busy", 0.0)
    assert response.retry_after == 5.0


@virtual_time
async def test_asked_to_wait_longer_than_is_waited_the_answer_is_handed_out_at_once():
    engine = script((429, None, {"Retry-After": "31"}), (429, None, {"Retry-After": "30"}), 200)
    send = bound(engine, max_retry_after=30.0)
    assert (await send(call(timeout=None))).status_code == 429
    assert now() == 0.0
    assert (await send(call(timeout=None))).status_code == 200
    assert now() == 30.5


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


@pytest.mark.parametrize("answer", [(503, Pieces(b"sorry", 1.0)), Disconnected, (429, None, {"Retry-After": "1"})])
def test_a_cancellation_at_any_step_leaves_nothing_behind(answer):
    async def story(cut):
        engine = script(0.1, answer, 0.1, answer, 0.1, (200, Pieces(b"here", 0.1)), then=(200, Pieces(b"again")))
        upstream = Upstream("shop")
        send = bound(engine, upstream=upstream)

        async def read():
            response = await send(call(stream=True))
            try:
                await response.aread()
            finally:
                response.close()

        await cut(read())
        assert (engine.open, upstream.waiting) == (0, {})
        assert len(asyncio.all_tasks()) == 1
        await read()
        assert engine.open == 0

    assert at_every_step(story) > 10


# One's own say


@virtual_time
async def test_a_predicate_may_try_again_what_the_rule_would_not():
    engine = script(409, 202, 404, 503, 201)
    send = bound(engine, retries=9, when=lambda _, outcome: outcome.status_code != 201)
    assert (await send(call("POST", json={}))).status_code == 201
    assert engine.bodies == [b"{}"] * 5


@virtual_time
async def test_a_predicate_may_leave_what_the_rule_would_try_again():
    engine = script(503, Disconnected)
    send = bound(engine, when=lambda *_: False)
    assert (await send(call())).status_code == 503
    with pytest.raises(Disconnected):
        await send(call())


@virtual_time
async def test_a_predicate_that_says_nothing_leaves_it_to_the_rule():
    engine = script(503, 200, 503, ConnectFailed, 404)
    send = bound(engine, when=lambda *_: None)
    assert [(await send(call(method))).status_code for method in ("GET", "POST", "POST")] == [200, 503, 404]


@virtual_time
async def test_a_predicate_is_asked_with_the_request_and_the_answer_or_the_error():
    asked = []
    engine = script(200, DeadlineExceeded, CircuitOpen, LimitReached, Disconnected, 404)
    send = bound(engine, when=lambda request, outcome: asked.append((request, outcome)))
    request = call()
    assert (await send(request)).status_code == 200
    for error in (DeadlineExceeded, CircuitOpen, LimitReached):
        with pytest.raises(error):
            await send(call())
    await send(call())
    assert asked[0][0] is request.request
    assert [type(outcome) for _, outcome in asked] == [
        Response, DeadlineExceeded, CircuitOpen, LimitReached, Disconnected, Response
    ]  # fmt: skip


@virtual_time
async def test_a_predicate_is_not_asked_about_what_is_not_ours_or_was_written_wrongly():
    engine = script(ConfigError, ValueError)
    send = bound(engine, when=lambda *_: True)
    for error in (ConfigError, ValueError):
        with pytest.raises(error):
            await send(call())


@virtual_time
async def test_a_refusal_that_is_tried_again_is_given_the_time_it_asks_for():
    engine = script(CircuitOpen(retry_after=4.0), 200)
    send = bound(engine, when=lambda _, outcome: isinstance(outcome, CircuitOpen))
    assert (await send(call())).status_code == 200
    assert now() == 4.025


@virtual_time
async def test_a_predicate_is_bound_by_attempts_the_deadline_the_budget_and_the_body():
    async def body():
        yield b"once"

    def always(*_):
        return True

    engine = script(then=500)
    await bound(engine, when=always)(call())
    assert len(engine.calls) == 3
    await bound(engine, when=always, delay=2.0, backoff=1.0)(call(timeout=1.0))
    assert len(engine.calls) == 4
    await bound(engine, when=always, budget=Budget(share=0, floor=0))(call())
    assert len(engine.calls) == 5
    await bound(engine, when=always)(call("PUT", content=body()))
    assert len(engine.calls) == 6


@virtual_time
async def test_a_predicate_that_fails_leaves_no_answer_open():
    def when(request, outcome):
        raise KeyError(outcome.status_code)

    engine = script((200, Pieces(b"here")))
    with pytest.raises(KeyError):
        await bound(engine, when=when)(call(stream=True))
    assert engine.open == 0


def test_two_recipes_that_ask_otherwise_are_two():
    assert Retry(when=lambda *_: True) != Retry(when=lambda *_: False)


# The body


@pytest.mark.parametrize("fault", [503, Disconnected])
@virtual_time
async def test_a_file_is_sent_again_from_where_it_stood(fault):
    file = BytesIO(b"header,body")
    file.seek(7)
    engine = script(fault, fault, 200)
    await bound(engine)(call("PUT", content=file))
    assert engine.bodies == [b"body"] * 3


@virtual_time
async def test_a_form_with_files_is_sent_again_as_it_was():
    file = BytesIO(b"header,body")
    file.seek(7)
    engine = script(503, 200)
    await bound(engine)(call("PUT", files={"one": file, "two": b"bytes"}, data={"a": "b"}))
    first, second = engine.bodies
    assert first == second
    assert b"\r\n\r\nbody\r\n" in first


@virtual_time
async def test_a_file_that_was_half_read_is_sent_again_whole():
    file = BytesIO(b"x" * 200_000)

    async def half_read(request):
        async for chunk in request.content:
            assert chunk
            break
        return ConnectFailed

    engine = script(half_read, 200)
    await bound(engine)(call("PUT", content=file))
    assert engine.bodies == [b"x" * 200_000]


@virtual_time
async def test_a_file_that_cannot_go_back_is_sent_once():
    class Pipe(BytesIO):
        def seekable(self):
            return False

    engine = script(503)
    assert (await bound(engine)(call("PUT", content=Pipe(b"once")))).status_code == 503
    assert engine.bodies == [b"once"]


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


@pytest.mark.parametrize(
    ("answers", "timeout", "reason", "attempt"),
    [
        ([(503, None, {"Retry-After": "300"})], 12.0, "asked to wait 300 s, and 12 s are left", 1),
        ([(503, None, {"Retry-After": "5"})], 5.0, "asked to wait 5 s, and 5 s are left", 1),
        ([503, (429, None, {"retry-after-ms": "1500"})], 1.0, "asked to wait 1.5 s, and 0.97 s are left", 2),
        (
            [(503, None, {"Retry-After": "300"})],
            None,
            "asked to wait 300 s, and 120 s is the longest that is waited",
            1,
        ),
        ([0.5, Disconnected], 0.52, "the pause would be 0.03 s, and 0.02 s are left", 1),
        ([503, 503, 503], 30.0, "3 attempts were made", 3),
        ([503, 503, ConnectFailed], 30.0, "3 attempts were made", 3),
    ],
)
@virtual_time
async def test_it_says_why_what_might_have_been_tried_again_is_not(answers, timeout, reason, attempt):
    upstream, events = recorded()
    asked = call(timeout=timeout)
    await asyncio.gather(bound(script(*answers), upstream=upstream)(asked), return_exceptions=True)
    last = events.pop()
    assert isinstance(last, GaveUp)
    assert (last.reason, last.attempt, last.call, last.request) == (reason, attempt, asked, asked.request)
    assert all(isinstance(event, Retried) for event in events)


@pytest.mark.parametrize("answers", [[200], [404], [503, 200], [503, 404], [CircuitOpen], [503, CircuitOpen]])
@virtual_time
async def test_of_what_could_not_be_tried_again_nothing_is_said(answers):
    upstream, events = recorded()
    await asyncio.gather(bound(script(*answers), upstream=upstream)(call()), return_exceptions=True)
    await bound(script(503), upstream=upstream)(call("POST"))
    assert not [event for event in events if isinstance(event, GaveUp)]


@virtual_time
async def test_an_error_that_is_not_tried_again_has_a_note_that_says_why():
    with pytest.raises(Disconnected) as caught:
        await bound(script(Disconnected), delay=4.0)(call(timeout=1.0))
    assert caught.value.__notes__ == ["not tried again: the pause would be 2 s, and 1 s are left"]


@virtual_time
async def test_past_the_deadline_nothing_is_left():
    async def late(attempt):
        await asyncio.sleep(2.0)
        raise Disconnected

    upstream, events = recorded()
    with pytest.raises(Disconnected):
        await Retry(random=half).bind(late, upstream)(call(timeout=1.0))
    assert [event.reason for event in events] == ["the pause would be 0.03 s, and 0 s are left"]


@virtual_time
async def test_no_circle_is_left_of_an_attempt_that_failed():
    class Lost(Disconnected):
        """Of this test alone: others keep errors of theirs."""

    async def fail(call):
        raise Lost

    send = Retry().bind(fail, Upstream("shop"))
    gc.collect()
    gc.disable()
    try:
        with suppress(Lost):
            await send(call())
        assert not [one for one in gc.get_objects() if type(one) is Lost]
    finally:
        gc.enable()
