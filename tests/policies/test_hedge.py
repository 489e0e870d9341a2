"""Hedge: what is sent beside a late attempt, which answer wins, and that nothing is left of the others."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from contextvars import ContextVar
from math import ceil, inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now, recorded
from fairlead import HTTPClient
from fairlead.core import Call, Pipeline, Timeout, Upstream
from fairlead.endpoint import get
from fairlead.errors import (
    AttemptTimedOut,
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    Disconnected,
    LimitReached,
    ProtocolError,
)
from fairlead.events import Finished, GaveUp, Hedged, Retried
from fairlead.message import Response
from fairlead.policies import Budget, CircuitBreaker, ConcurrencyLimit, Hedge, Retry, standard
from fairlead.policies.hedge import EVERY, KEPT, Latencies
from fairlead.policies.race import LEAVING, telling, verdict
from fairlead.policies.retry import STATUSES
from fairlead.policies.worst import Worst, worst
from fairlead.testing import Pieces, VirtualLoop, at_every_await, at_every_step, run, script, virtual_time

LATE = 0.1
NOTHING = Budget(share=0.0, floor=0.0)


def bound(engine, *, upstream=None, delay=LATE, **numbers):
    return Hedge(delay=delay, **numbers).bind(engine.send, upstream or Upstream("shop"))


def after(seconds, answer):
    """An answer that takes that long, whatever was asked before it."""

    async def told(_request):
        await asyncio.sleep(seconds)
        return answer

    return told


def others():
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


# The rules, in numbers


def test_what_ends_a_call_is_an_answer_that_another_attempt_would_not_better():
    too_large = ProtocolError()
    too_large.too_large = True
    ends = [Response(200), Response(404), Response(501), too_large, ConfigError("no"), ValueError()]
    assert [verdict(outcome, STATUSES) for outcome in ends] == [True] * len(ends)
    fails = [*map(Response, STATUSES), ConnectFailed(), Disconnected(), ProtocolError(), AttemptTimedOut()]
    assert [verdict(outcome, STATUSES) for outcome in fails] == [False] * len(fails)
    says_nothing = [CircuitOpen(), LimitReached(), DeadlineExceeded()]
    assert [verdict(outcome, STATUSES) for outcome in says_nothing] == [None] * len(says_nothing)


def test_an_answer_tells_more_than_a_fault_and_a_refusal_of_ours_least():
    told = [Response(503), Disconnected(), DeadlineExceeded(), CircuitOpen()]
    assert sorted(told, key=telling, reverse=True) == told


def test_none_is_late_before_there_are_enough_samples():
    latencies = Latencies(Hedge(samples=3))
    for seconds in (1.0, 2.0):
        latencies.note(seconds)
        assert latencies.delay == inf
    latencies.note(3.0)
    assert latencies.delay == 3.0


@given(
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=400),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
    st.integers(1, KEPT),
)
def test_the_delay_is_the_quantile_of_the_last_latencies(seconds, share, samples):
    latencies = Latencies(Hedge(quantile=share, samples=samples, max_delay=50.0))
    expected = inf
    for count, one in enumerate(seconds, 1):
        latencies.note(one)
        if count >= samples and (count - samples) % EVERY == 0:
            last = sorted(seconds[max(0, count - KEPT) : count])
            expected = min(50.0, last[ceil(share * len(last)) - 1])
        assert latencies.delay == expected


@given(st.lists(st.tuples(st.floats(0.001, 9.0), st.floats(0.0, 1.0)), min_size=20, max_size=500))
def test_hedging_never_makes_the_upstream_look_faster_than_it_is(calls):
    """Each call: what its first attempt would take, and how soon after it was late it was given up, as a share of the rest."""
    hedged, plain = Latencies(Hedge()), Latencies(Hedge())
    least = inf
    for seconds, share in calls:
        late = hedged.delay
        hedged.note(seconds if seconds < late else late + share * (seconds - late))
        plain.note(seconds)
        if hedged.delay < inf:
            assert min(least, plain.delay) <= hedged.delay <= plain.delay
        least = min(least, hedged.delay)


def test_the_delay_stays_where_it_is_over_thousands_of_hedged_calls():
    random, latencies, hedged = Random(7), Latencies(Hedge()), 0
    for _ in range(5000):
        first, second = random.expovariate(10), random.expovariate(10)
        if first > latencies.delay:
            hedged += 1
            first = min(first, latencies.delay + second)
        latencies.note(first)
    assert hedged / 5000 == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(
    "numbers",
    [
        {"delay": -1},
        {"delay": inf},
        {"quantile": 0},
        {"quantile": 1.0},
        {"samples": 0},
        {"samples": KEPT + 1},
        {"max_delay": 0},
        {"attempts": 0},
        {"attempts": 11},
        {"attempts": True},
        {"delay": "1"},
        {"delay": True},
        {"quantile": "0.9"},
        {"max_delay": None},
        {"statuses": 503},
        {"statuses": {"503"}},
        {"budget": 5},
    ],
)
def test_numbers_that_cannot_work_are_refused(numbers):
    with pytest.raises(ConfigError, match=f"Hedge: {next(iter(numbers))}="):
        Hedge(**numbers)


def test_with_one_attempt_it_is_not_there():
    engine = script()
    assert bound(engine, attempts=1) == engine.send


def test_it_explains_itself():
    assert "one more after the p95 of the last 128 calls (at most 10 s)" in Hedge().explain()
    assert "up to 3 attempts where that is safe, one more after 0.2 s" in Hedge(delay=0.2, attempts=3).explain()
    assert "20% of the calls" in Hedge().explain()
    assert "without a budget" in Hedge(budget=None).explain()
    assert Hedge(attempts=1).explain() == "hedge: never"


def test_a_hedge_and_a_retry_or_another_hedge_would_multiply():
    for other in (Retry(), Hedge(name="other")):
        with pytest.raises(ConfigError, match="multiply their attempts"):
            Pipeline((other, Hedge()))


# Who wins


@virtual_time
async def test_an_answer_in_time_is_the_only_attempt_and_has_no_task():
    tasks = []

    def answers(_request):
        tasks.extend(others())
        return 200

    engine = script(answers)
    assert (await bound(engine)(call())).status_code == 200
    assert (len(engine.calls), tasks, now()) == (1, [], 0.0)


@virtual_time
async def test_a_late_attempt_gets_another_beside_it_and_the_first_answer_wins():
    engine = script(after(10.0, (200, b"first")), after(0.05, (200, b"second")))
    response = await bound(engine)(call())
    assert (response.content, now()) == (b"second", pytest.approx(0.15))
    assert (engine.open, others()) == (0, [])


@virtual_time
async def test_the_first_attempt_may_win_though_it_was_late():
    engine = script(after(0.2, (200, b"first")), inf)
    response = await bound(engine)(call())
    assert (response.content, now()) == (b"first", 0.2)
    assert (engine.open, others()) == (0, [])


@virtual_time
async def test_each_further_one_follows_after_the_delay():
    began = []

    async def note(_request):
        began.append(now())
        await asyncio.sleep(10.0)
        return 200

    engine = script(then=note)
    await bound(engine, attempts=4)(call())
    assert began == [pytest.approx(LATE * number) for number in range(4)]
    assert (now(), engine.open, others()) == (10.0, 0, [])


@virtual_time
async def test_with_no_delay_all_are_sent_at_once():
    engine = script(inf, inf, 200)
    assert (await bound(engine, delay=0.0, attempts=3)(call())).status_code == 200
    assert (now(), engine.open, others()) == (0.0, 0, [])


@pytest.mark.parametrize("winner", [1, 2, 3])
@virtual_time
async def test_whichever_wins_the_others_leave_nothing(winner):
    answers = [after(1.0, (200, b"%d" % number)) if number == winner else inf for number in (1, 2, 3)]
    engine = script(*answers)
    response = await bound(engine, attempts=3)(call())
    assert (response.content, engine.open, others()) == (b"%d" % winner, 0, [])
    assert asyncio.current_task().cancelling() == 0


@pytest.mark.parametrize("status", [200, 301, 404, 501])
@virtual_time
async def test_an_answer_that_is_no_failure_ends_the_call(status):
    engine = script(inf, status)
    assert (await bound(engine, attempts=5)(call())).status_code == status
    assert (len(engine.calls), now(), engine.open) == (2, LATE, 0)


@pytest.mark.parametrize("error", [ConfigError, ValueError])
@pytest.mark.parametrize("place", [0, 1])
@virtual_time
async def test_an_error_that_another_attempt_cannot_mend_ends_the_call(error, place):
    engine = script(*[after(0.2, error) if at == place else inf for at in (0, 1)])
    with pytest.raises(error):
        await bound(engine)(call())
    assert (len(engine.calls), engine.open, others()) == (2, 0, [])


@virtual_time
async def test_an_answer_that_came_while_the_loop_was_busy_is_seen_before_a_hedge_is_sent():
    answer = asyncio.get_running_loop().create_future()

    async def waits(_request):
        return await answer

    upstream, events = recorded()
    loop = asyncio.get_running_loop()
    loop.call_at(LATE, answer.set_result, 200)
    await bound(script(waits), upstream=upstream)(call())
    assert (now(), events) == (LATE, [])


# When attempts fail


@pytest.mark.parametrize("failure", [503, 429, Disconnected, ConnectFailed, AttemptTimedOut])
@virtual_time
async def test_one_that_fails_is_followed_at_once_and_needs_no_task(failure):
    tasks = []

    def answers(_request):
        tasks.extend(others())
        return 200

    engine = script(failure, answers)
    assert (await bound(engine)(call())).status_code == 200
    assert (now(), tasks) == (0.0, [])


@virtual_time
async def test_a_hedge_that_fails_is_followed_at_once():
    engine = script(inf, after(0.05, 503), (200, b"third"))
    response = await bound(engine, attempts=3)(call())
    assert (response.content, now()) == (b"third", pytest.approx(0.15))


@virtual_time
async def test_when_no_more_may_follow_the_others_are_waited_for():
    engine = script(after(0.5, 200), after(0.05, 503))
    assert (await bound(engine)(call())).status_code == 200
    assert now() == 0.5
    engine = script(after(0.2, Disconnected), after(0.5, 200))
    assert (await bound(engine)(call())).status_code == 200
    assert now() == pytest.approx(0.5 + 0.6)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ((503, b"first"), Disconnected, (503, b"first")),
        (Disconnected, (503, b"second"), (503, b"second")),
        ((503, b"first"), CircuitOpen, (503, b"first")),
        (Disconnected, CircuitOpen, Disconnected),
        (Disconnected, DeadlineExceeded, Disconnected),
    ],
)
@pytest.mark.parametrize("seconds", [None, 0.5, 1.5])
@virtual_time
async def test_when_all_fail_what_tells_most_is_handed_out(first, second, told, seconds):
    """One after the other, or both under way together, and either the last to end."""
    engine = script(first, second) if seconds is None else script(after(1.0, first), after(seconds, second))
    if isinstance(told, tuple):
        response = await bound(engine)(call())
        assert (response.status_code, response.content) == told
    else:
        with pytest.raises(told):
            await bound(engine)(call())
    assert (len(engine.calls), engine.open, others()) == (2, 0, [])


@virtual_time
async def test_of_two_answers_or_two_faults_the_later_is_handed_out():
    assert (await bound(script(500, (503, b"second")))(call())).content == b"second"
    engine = script(after(1.0, (503, b"first")), after(0.5, (503, b"second")))
    assert (await bound(engine)(call())).content == b"first"
    with pytest.raises(ConnectFailed):
        await bound(script(Disconnected, ConnectFailed))(call())


@pytest.mark.parametrize("seconds", [0.5, 1.5])
@virtual_time
async def test_a_hedge_that_is_refused_never_stands_for_the_first_attempt(seconds):
    engine = script(after(1.0, CircuitOpen("first")), after(seconds, LimitReached("second")))
    with pytest.raises(CircuitOpen):
        await bound(engine)(call())


@virtual_time
async def test_a_refusal_of_the_first_is_followed_by_none():
    engine = script(CircuitOpen)
    with pytest.raises(CircuitOpen):
        await bound(engine, attempts=5)(call())


@virtual_time
async def test_an_upstream_that_asks_for_a_pause_is_sent_no_more():
    pause = (503, b"busy", {"Retry-After": "2"})
    engine = script(pause)
    assert (await bound(engine, attempts=5)(call())).content == b"busy"
    assert now() == 0.0
    engine = script(after(1.0, (200, b"first")), pause)  # the one under way is waited for
    assert (await bound(engine, attempts=5)(call())).content == b"first"
    assert now() == 1.0


@virtual_time
async def test_to_come_again_at_once_is_no_pause():
    engine = script((503, None, {"Retry-After": "0"}), 200)
    assert (await bound(engine)(call())).status_code == 200


@virtual_time
async def test_an_answer_too_large_is_not_asked_for_again():
    error = ProtocolError()
    error.too_large = True
    with pytest.raises(ProtocolError):
        await bound(script(error))(call())


# What is not hedged


@pytest.mark.parametrize("answer", [503, Disconnected, ConnectFailed])
@virtual_time
async def test_a_plain_post_is_one_plain_attempt(answer):
    asked = call("POST", json={})
    engine = script(after(1.0, answer))
    if answer == 503:
        assert (await bound(engine)(asked)).status_code == 503
    else:
        with pytest.raises(answer):
            await bound(engine)(asked)
    assert engine.calls == [asked]
    assert asked.allowance == 30.0


@virtual_time
async def test_a_post_with_a_key_is_hedged_with_the_same_key():
    engine = script(inf, 201)
    assert (await bound(engine)(call("POST", json={}, headers={"Idempotency-Key": "k1"}))).status_code == 201
    assert [request.headers["idempotency-key"] for request in engine.requests] == ["k1", "k1"]


@virtual_time
async def test_a_body_that_cannot_be_read_again_is_one_plain_attempt():
    engine = script(after(1.0, 503))
    assert (await bound(engine)(call("PUT", content=iter([b"once"])))).status_code == 503


@virtual_time
async def test_a_body_that_is_read_while_it_is_sent_is_never_sent_beside_itself():
    engine = script(after(1.0, 503), 200)
    assert (await bound(engine)(call("PUT", content=lambda: iter([b"a", b"b"])))).status_code == 200
    assert (now(), engine.bodies) == (1.0, [b"ab", b"ab"])


@virtual_time
async def test_none_is_sent_after_the_deadline():
    engine = script(after(1.0, 200))
    assert (await bound(engine, delay=5.0)(call(timeout=5.0))).status_code == 200
    engine = script(inf)
    with pytest.raises(AttemptTimedOut):
        await bound(engine, delay=5.0)(call(timeout=5.0))
    assert (now(), len(engine.calls)) == (6.0, 1)


# The budget


@virtual_time
async def test_a_spent_budget_sends_no_hedge_and_ends_none():
    upstream, events = recorded()
    budget = Budget(share=0.0, floor=1.0)
    engine = script(after(0.5, 200), after(5.0, 200))
    send = bound(engine, upstream=upstream, attempts=3, budget=budget)
    assert (await send(call())).status_code == 200
    assert ([type(event) for event in events], now()) == ([Hedged], 0.5)


@virtual_time
async def test_a_spent_budget_lets_a_failure_stand_and_says_so():
    upstream, events = recorded()
    send = bound(script(503), upstream=upstream, budget=NOTHING)
    assert (await send(call())).status_code == 503
    (told,) = events
    assert isinstance(told, GaveUp)
    assert (told.attempt, told.reason) == (1, "the budget is spent")


@pytest.mark.parametrize(
    ("answers", "attempt", "reason"),
    [
        ([503, 503], 2, "2 attempts were made"),
        ([(503, b"", {"Retry-After": "2"})], 1, "asked to wait 2 s"),
        ([after(0.5, 503), (503, b"", {"Retry-After": "2"})], 1, "asked to wait 2 s"),
        ([after(0.5, 503), after(1.0, 503)], 2, "2 attempts were made"),
        ([after(30.0, AttemptTimedOut)], 1, "no time is left"),
    ],
)
@virtual_time
async def test_when_the_last_one_failed_it_is_told_once_why_none_follows(answers, attempt, reason):
    upstream, events = recorded()
    with suppress(AttemptTimedOut):
        await bound(script(*answers), upstream=upstream, delay=LATE if len(answers) > 1 else 90.0)(call())
    (told,) = [event for event in events if isinstance(event, GaveUp)]
    assert (told.attempt, told.reason) == (attempt, reason)


@virtual_time
async def test_one_that_failed_beside_one_that_wins_is_no_news():
    upstream, events = recorded()
    await bound(script(after(1.0, 200), 503), upstream=upstream)(call())
    assert [type(event) for event in events] == [Hedged]


def test_at_the_worst_each_attempt_fails_at_the_end_of_its_time():
    assert worst([Hedge(attempts=3)], Timeout(total=60.0, attempt=5.0)) == Worst(3, 15.0)
    assert worst([Hedge(attempts=3)], Timeout(total=8.0, attempt=5.0)) == Worst(3, 8.0)


@virtual_time
async def test_it_is_the_budget_of_retries_too():
    upstream, budget = Upstream("shop"), Budget(share=0.0, floor=1.0)
    engine = script(503, 200, 503)
    retry = Retry(budget=budget, delay=0.0).bind(engine.send, upstream)
    assert (await retry(call())).status_code == 200
    assert (await bound(engine, upstream=upstream, budget=budget)(call())).status_code == 503


@virtual_time
async def test_every_call_is_counted_hedged_or_not():
    upstream, budget = Upstream("shop"), Budget(share=0.5, floor=0.0)
    send = bound(script(then=503), upstream=upstream, budget=budget)
    await send(call("POST"))
    assert (await send(call())).status_code == 503
    assert budget.of(upstream).spent == 1


@virtual_time
async def test_without_a_budget_only_the_attempts_are_bounded():
    engine = script(then=503)
    await bound(engine, attempts=10, budget=None)(call())
    assert len(engine.calls) == 10


# The latencies seen


@virtual_time
async def test_the_delay_is_found_from_what_first_attempts_took():
    upstream = Upstream("shop")
    engine = script(*[after(0.01 * (number + 1), 200) for number in range(20)], inf, 200)
    send = bound(engine, upstream=upstream, delay=None)
    for _ in range(20):
        await send(call())
    began = now()
    await send(call())
    assert now() - began == pytest.approx(0.19)
    assert upstream.states["Hedge", "default"].delay == pytest.approx(0.19)


@virtual_time
async def test_failures_that_came_fast_are_no_latencies():
    upstream = Upstream("shop")
    send = bound(script(then=Disconnected), upstream=upstream, delay=None, samples=1)
    for _ in range(50):
        with pytest.raises(Disconnected):
            await send(call())
    assert upstream.states["Hedge", "default"].delay == inf


@virtual_time
async def test_a_first_attempt_that_lost_counts_with_the_time_it_had():
    upstream = Upstream("shop")
    engine = script(after(0.1, 200), inf, after(0.05, 200))
    send = bound(engine, upstream=upstream, delay=None, samples=1)
    await send(call())
    upstream.states["Hedge", "default"]._due = 1
    await send(call())
    assert upstream.states["Hedge", "default"].delay == pytest.approx(0.15)


# The call


@virtual_time
async def test_each_attempt_is_a_call_of_its_own():
    engine = script(inf, inf, 200)
    whole = call()
    await bound(engine, attempts=3)(whole)
    assert [attempt.attempt for attempt in engine.calls] == [1, 2, 3]
    assert len({id(attempt) for attempt in [whole, *engine.calls]}) == 4
    assert {attempt.allowance for attempt in engine.calls} == {10.0}
    assert whole.attempt == 3


@virtual_time
async def test_what_is_sent_beside_and_what_follows_a_failure_is_told():
    upstream, events = recorded()
    engine = script(inf, after(0.05, 503), 200)
    asked = call()
    await bound(engine, upstream=upstream, attempts=3)(asked)
    hedged, retried = events
    assert isinstance(hedged, Hedged)
    assert (hedged.call, hedged.attempt, hedged.delay) == (asked, 2, LATE)
    assert isinstance(retried, Retried)
    assert (retried.call, retried.attempt, retried.delay, retried.cause.status_code) == (asked, 2, 0.0, 503)


@virtual_time
async def test_attempts_see_the_context_of_their_caller():
    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen = []

    async def note(_request):
        seen.append(user.get())
        await asyncio.sleep(1.0)
        return 200

    user.set("ada")
    await bound(script(then=note), attempts=3)(call())
    assert seen == ["ada"] * 3


@virtual_time
async def test_it_can_be_asked_for_by_one_call():
    class Shop(HTTPClient, base_url="https://shop.test"):
        @get("/x", hedge=Hedge(delay=LATE))
        async def declared(self) -> Response: ...

    async with Shop(engine=script(inf, 200, inf, 200, 503, (200, b"retried"))) as shop:
        assert (await shop.get("/x", hedge=Hedge(delay=LATE))).status_code == 200
        assert (await shop.declared()).status_code == 200
        assert now() == pytest.approx(2 * LATE)
        assert (await shop.get("/x")).content == b"retried"
    policies = tuple(Hedge(delay=LATE) if isinstance(one, Retry) else one for one in standard())
    async with Shop(engine=script(inf, 200, 503), policies=policies) as shop:
        await shop.get("/x")
        assert (await shop.get("/x", hedge=None, raise_for_status=False)).status_code == 503
    async with Shop(engine=script(inf, 200), policies=policies) as shop:
        began = now()
        with pytest.raises(AttemptTimedOut):
            await shop.get("/x", retry=Retry(retries=1, delay=0.0), timeout=1.0)
        assert now() - began == pytest.approx(1.0), "by a retry alone"


@virtual_time
async def test_one_call_is_one_finished_call():
    events = []
    policies = tuple(Hedge(delay=LATE) if isinstance(one, Retry) else one for one in standard())
    async with HTTPClient(
        "https://shop.test", engine=script(inf, 200), policies=policies, sinks=(events.append,)
    ) as shop:
        await shop.get("/x")
    (finished,) = [event for event in events if isinstance(event, Finished)]
    assert finished.attempt == 2


# Within the limits of an upstream


@virtual_time
async def test_a_loser_gives_its_slot_back_and_is_no_verdict():
    upstream = Upstream("shop")
    engine = script(inf, 200)
    pipeline = Pipeline((Hedge(delay=LATE), CircuitBreaker(consecutive=1), ConcurrencyLimit(limit=2)))
    await pipeline.bind(engine.send, upstream)(call())
    assert upstream.states["ConcurrencyLimit", "default"].taken == 0
    assert next(iter(upstream.states["CircuitBreaker", "default"].values())).state == "closed"


@virtual_time
async def test_a_stream_that_failed_holds_no_slot_that_the_next_waits_for():
    engine = script((503, Pieces(b"sorry", inf)), (200, Pieces(b"ok")))
    pipeline = Pipeline((Hedge(delay=LATE), ConcurrencyLimit(limit=1)))
    response = await pipeline.bind(engine.send, Upstream("shop"))(call(stream=True))
    assert (now(), await response.aread()) == (0.0, b"ok")


# Streams


@virtual_time
async def test_a_streamed_winner_stays_readable():
    engine = script(inf, (200, Pieces(b"a", 1.0, b"b")))
    response = await bound(engine)(call(stream=True))
    assert (engine.open, others()) == (1, [])
    assert await response.aread() == b"ab"
    assert engine.open == 0


@virtual_time
async def test_the_last_stream_that_failed_is_handed_out_readable():
    engine = script(after(0.5, (503, Pieces(b"first"))), after(1.0, (503, Pieces(b"second"))))
    response = await bound(engine)(call(stream=True))
    assert (now(), await response.aread(), engine.open) == (pytest.approx(1.1), b"second", 0)


@virtual_time
async def test_a_loser_that_had_its_answer_already_is_closed():
    """Both answer in the same turn of the loop."""
    for order in ((1, 2), (2, 1)):
        gates = {number: asyncio.get_running_loop().create_future() for number in order}
        waiting = iter((1, 2))

        async def waits(_request, gates=gates, waiting=waiting):
            await gates[next(waiting)]
            return 200, Pieces(b"ok")

        engine = script(then=waits)
        task = asyncio.ensure_future(bound(engine)(call(stream=True)))
        await asyncio.sleep(2 * LATE)
        for number in order:
            gates[number].set_result(None)
        response = await task
        assert (engine.open, others()) == (1, [])
        assert await response.aread() == b"ok"


@virtual_time
async def test_one_that_answers_though_it_is_cancelled_has_lost_all_the_same():
    async def unmoved(_request):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10.0)
        return 200, Pieces(b"first")

    engine = script(unmoved, (200, Pieces(b"second")))
    response = await bound(engine)(call(stream=True))
    assert (await response.aread(), engine.open, others()) == (b"second", 0, [])
    assert asyncio.current_task().cancelling() == 0


# Cancelled


STORIES = {
    "the first is late and wins": (after(0.2, 200), inf),
    "the second wins": (inf, after(0.05, 200)),
    "the third wins": (inf, inf, after(0.05, 200)),
    "one after the other fails": (after(0.01, 503), after(0.01, 503), after(0.01, 200)),
    "hedges fail": (inf, after(0.01, 503), after(0.01, 200)),
    "all fail": (after(0.3, 503), after(0.3, Disconnected), after(0.3, 503)),
    "all answer at once": (after(0.3, 200), after(0.2, 200), after(0.1, 200)),
}


@pytest.fixture(params=[f"{story}, {how}" for story in STORIES for how in ("buffered", "stream")])
def told(request):
    """A story to be cut short."""
    name, _, how = request.param.rpartition(", ")

    async def told(cut):
        upstream = Upstream("shop")
        engine = script(*STORIES[name], then=after(0.01, 200))
        pipeline = Pipeline((Hedge(delay=LATE, attempts=3), CircuitBreaker(), ConcurrencyLimit(limit=5)))
        send = pipeline.bind(engine.send, upstream)

        async def work():
            response = await send(call(stream=how == "stream"))
            try:
                await response.aread()
            finally:
                response.close()

        await cut(work())
        assert (engine.open, others()) == (0, [])
        assert upstream.states["ConcurrencyLimit", "default"].taken == 0

    return told


TENTHS = st.integers(0, 8).map(lambda tenths: tenths / 10)
OUTCOMES = st.sampled_from(
    [200, 404, 503, (503, b"", {"Retry-After": "1"}), Disconnected, CircuitOpen, DeadlineExceeded, ValueError]
)


@given(
    st.lists(st.tuples(TENTHS, OUTCOMES), min_size=4, max_size=4),
    TENTHS,
    st.integers(2, 4),
    st.lists(TENTHS, max_size=2),
    st.booleans(),
)
def test_whatever_comes_of_the_attempts_one_outcome_is_handed_out_and_nothing_left(
    answers, delay, attempts, cuts, stream
):
    async def story():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        upstream = Upstream("shop")
        engine = script(*[after(seconds, outcome) for seconds, outcome in answers])
        send = Pipeline((Hedge(delay=delay, attempts=attempts), ConcurrencyLimit(limit=2))).bind(engine.send, upstream)
        task = asyncio.ensure_future(send(call(stream=stream)))
        for cut in cuts:
            asyncio.get_running_loop().call_later(cut, task.cancel)
        await asyncio.wait([task])
        left = others()
        cut = bool(cuts) and task.cancelled()
        assert cut or not task.cancelled()
        if not cut and task.exception() is None:
            response = task.result()
            assert response.status_code in {one if isinstance(one, int) else 503 for _, one in answers}
            assert await response.aread() == b""
        assert (engine.open, left, complaints) == (0, [], [])
        assert upstream.states["ConcurrencyLimit", "default"].taken == 0
        assert len(engine.calls) <= attempts

    run(story())


def test_cancelled_at_any_step_nothing_is_left(told):
    assert at_every_step(told) > 1


def test_whatever_fails_or_is_cancelled_at_any_await_nothing_is_left(told):
    assert at_every_await(told, loop_factory=VirtualLoop) > 1


@virtual_time
async def test_cancelled_again_while_what_lost_ends_it_still_waits_for_that():
    ended = []

    async def slow_to_end(_request):
        try:
            await asyncio.sleep(inf)
        finally:
            await asyncio.sleep(0.5)
            ended.append(now())

    task = asyncio.ensure_future(bound(script(after(0.2, 200), slow_to_end))(call()))
    await asyncio.sleep(0.3)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (ended, others()) == ([pytest.approx(0.7)], [])


@virtual_time
async def test_what_will_not_end_is_not_waited_for_and_closed_when_it_does():
    async def stubborn(_request):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(100.0)
        await asyncio.sleep(100.0)
        return 200, Pieces(b"late")

    engine = script(after(0.2, (200, b"first")), stubborn)
    response = await bound(engine)(call(stream=True))
    assert now() == pytest.approx(0.2 + LEAVING)
    response.close()
    (left,) = others()
    await asyncio.wait([left])
    await asyncio.sleep(0)
    assert engine.open == 0


@virtual_time
async def test_a_cancellation_in_the_turn_of_a_hedges_answer_is_the_callers():
    """In either order: whoever cancels it, the caller is cancelled."""
    for cancelled_first in (True, False):
        gate = asyncio.get_running_loop().create_future()

        async def waits(_request, gate=gate):
            await gate
            return 200, Pieces(b"ok")

        engine = script(inf, waits)
        task = asyncio.ensure_future(bound(engine)(call(stream=True)))
        await asyncio.sleep(2 * LATE)
        if cancelled_first:
            task.cancel()
            gate.set_result(None)
        else:
            gate.set_result(None)
            for _ in range(10):
                await asyncio.sleep(0)
                if task.cancelling():
                    break
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert (engine.open, others()) == (0, [])


@virtual_time
async def test_a_time_limit_around_the_call_is_that_and_no_cancellation():
    engine = script(inf, inf)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await bound(engine)(call())
    async with asyncio.timeout(1.0):
        await bound(script(inf, 200))(call())
    assert asyncio.current_task().cancelling() == 0


@virtual_time
async def test_what_was_never_looked_at_complains_of_nothing():
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    engine = script(after(0.15, 200), after(0.05, Disconnected), after(0.05, Disconnected))
    await bound(engine, attempts=3)(call())
    gc.collect()
    assert complaints == []


class Watched(Call):
    __slots__ = ("__weakref__",)


@virtual_time
async def test_an_error_leaves_no_circle_behind():
    async def send(attempt):
        await asyncio.sleep(0.3)
        if attempt.attempt < good:
            raise Disconnected
        return Response(200)

    gc.collect()
    gc.disable()
    try:
        for good in (1, 2, 3, 9):
            for delay in (0.0, LATE, 1.0):
                asked = Watched(call().request, Timeout(), now() + 30.0)
                left = weakref.ref(asked)
                with suppress(Disconnected):
                    await Hedge(delay=delay, attempts=3).bind(send, Upstream("shop"))(asked)
                del asked
                await asyncio.sleep(0)
                assert left() is None, (good, delay)
    finally:
        gc.enable()
