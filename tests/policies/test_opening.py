"""After a hold, without a rate: one call first, and then as many more as are answered."""

import asyncio
import contextlib
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now
from fairlead.core import Upstream
from fairlead.errors import CircuitOpen, ConfigError, Knowledge, LimitReached
from fairlead.policies.opening import Opening
from fairlead.testing import Fault, VirtualLoop, at_every_await, at_every_step, virtual_time


def opening(upstream=None):
    return Opening(upstream or Upstream("shop"), "https://shop.test")


async def go(line, asked=None, *, until=inf, takes=1.0, good=True):
    """Come, be let go, and be answered after as many seconds; when it was let go."""
    let_go = now()
    if line.room:
        ticket = await line.turn(asked or call(timeout=None), until, now())
        let_go = now()
        try:
            await asyncio.sleep(takes)
        finally:
            line.ended(ticket, now(), good=good)
    return let_go


def empty(line):
    timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
    return (line.waiting, line.out, line.timer, len(line.upstream.waiting), timers) == (0, 0, None, 0, [])


@virtual_time
async def test_where_nothing_was_asked_all_go():
    line = opening()
    assert await asyncio.gather(*[go(line) for _ in range(9)]) == [0.0] * 9
    assert line.room == 0


@virtual_time
async def test_after_a_hold_one_goes_and_each_answer_lets_two_more_go():
    line = opening()
    assert line.hold(10.0, now())
    went = await asyncio.gather(*[go(line) for _ in range(20)])
    assert [went.count(at) for at in (10.0, 11.0, 12.0, 13.0, 14.0)] == [1, 2, 4, 8, 5]
    assert line.room == 0
    assert empty(line)


@virtual_time
async def test_an_answer_that_is_not_good_lets_one_go_and_a_new_hold_begins_anew():
    line = opening()
    line.hold(1.0, now())
    waiting = [asyncio.ensure_future(go(line, good=place > 1)) for place in range(6)]
    await asyncio.sleep(2.5)
    assert [line.room, line.out, line.waiting] == [1, 1, 4]
    await asyncio.sleep(2)
    assert [line.room, line.out, line.waiting] == [2, 2, 1]
    assert line.hold(10.0, now())
    assert not line.hold(9.0, now())
    assert await waiting[5] == 10.0
    assert empty(line)


@virtual_time
async def test_what_was_let_go_before_a_hold_counts_no_more_after_it():
    line = opening()
    line.hold(1.0, now())
    slow, quick = (asyncio.ensure_future(go(line, takes=takes)) for takes in (60.0, 1.0))
    await asyncio.sleep(2)
    line.hold(3.0, now())
    assert await quick == 3.0
    await slow
    assert (line.out, line.room) == (0, 0)
    assert empty(line)


@virtual_time
async def test_where_nobody_waits_a_good_answer_lets_all_go():
    line = opening()
    line.hold(1.0, now())
    await asyncio.sleep(5)
    assert line.room == 1
    await go(line)
    assert line.room == 0


@virtual_time
async def test_who_cannot_wait_as_long_is_refused_at_once():
    line = opening()
    patient = asyncio.ensure_future(go(line))
    line.hold(2.0, now())
    hurried = asyncio.ensure_future(go(line, until=5.0))
    await asyncio.sleep(0)
    line.hold(9.0, now())
    with pytest.raises(LimitReached) as caught:
        await hurried
    assert (caught.value.retry_after, now()) == (9.0, 0.0)
    with pytest.raises(LimitReached, match="the upstream asked to be left alone: for 9 s more") as caught:
        await go(line, until=8.9)
    assert (caught.value.retry_after, caught.value.knowledge) == (9.0, Knowledge.NOT_SENT)
    assert await patient == 9.0
    assert empty(line)


@virtual_time
async def test_who_is_not_let_go_in_time_is_refused_then():
    line = opening()
    line.hold(1.0, now())
    first = asyncio.ensure_future(go(line, takes=9.0))
    await asyncio.sleep(1.5)
    with pytest.raises(LimitReached, match="few at a time"):
        await go(line, until=3.0)
    assert now() == 3.0
    with pytest.raises(LimitReached, match="few at a time"):
        await go(line, until=now())
    assert now() == 3.0
    await first
    assert empty(line)


@virtual_time
async def test_a_higher_priority_goes_first():
    line = opening()
    line.hold(1.0, now())
    urgent = call(timeout=None)
    urgent.priority = 1
    assert await asyncio.gather(go(line), go(line), go(line, urgent)) == [2.0, 2.0, 1.0]


@virtual_time
async def test_who_waits_is_turned_away_and_when_the_client_is_closed_nobody_waits():
    upstream = Upstream("shop")
    line = opening(upstream)
    line.hold(1.0, now())
    away, closed = (asyncio.ensure_future(go(line)) for _ in range(2))
    await asyncio.sleep(0)
    refusals = iter([CircuitOpen("open"), None])
    upstream.turn_away(lambda _: next(refusals))
    with pytest.raises(CircuitOpen):
        await away
    upstream.close()
    for late in (closed, go(line)):
        with pytest.raises(ConfigError, match="the client was closed"):
            await late
    assert empty(line)


@virtual_time
async def test_who_leaves_in_the_very_turn_in_which_it_is_let_go_leaves_its_room():
    line, loop = opening(), asyncio.get_running_loop()
    line.hold(1.0, now())
    leaves = asyncio.ensure_future(go(line))
    await asyncio.sleep(0)
    loop.call_at(1.0 + 5e-10, leaves.cancel)
    await asyncio.wait([leaves])
    assert leaves.cancelled()
    assert await go(line) == 1.0
    assert empty(line)


async def leaving(cut):
    line = opening()
    line.hold(1.0, now())
    before = asyncio.ensure_future(go(line))
    await asyncio.sleep(0)
    behind = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.5, lambda: behind.set_result(asyncio.ensure_future(go(line, until=9.0))))
    with contextlib.suppress(asyncio.CancelledError):
        await cut(go(line, until=8.0))
    await before
    assert await (await behind) in {2.0, 3.0}
    assert await go(line) <= 4.0
    assert empty(line)
    assert line.room == 0


def test_at_whatever_step_one_leaves_no_room_is_lost():
    assert at_every_step(leaving) > 5


def test_at_whatever_await_one_leaves_once_or_twice_no_room_is_lost():
    faults = [Fault.CANCELLED, Fault.CANCELLED_LATE, Fault.CANCELLED_TWICE]
    assert at_every_await(leaving, loop_factory=VirtualLoop, faults=faults) > 3


DEEDS = st.one_of(
    st.tuples(st.just("come"), st.sampled_from([inf, 0.0, 0.7, 5.0]), st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 30), st.just(False)),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.just(False)),
    st.tuples(st.just("turn away"), st.just(0), st.just(False)),
    st.tuples(st.just("hold"), st.sampled_from([0.3, 2.0]), st.just(False)),
)


@given(st.lists(DEEDS, max_size=40))
def test_whatever_happens_nobody_goes_in_a_hold_waits_beside_room_or_is_lost(deeds):
    @virtual_time
    async def story():
        upstream = Upstream("shop")
        line = opening(upstream)
        tasks = []

        async def visit(until, *, good):
            assert await go(line, until=until, good=good) <= until + 1e-9

        for deed, amount, good in deeds:
            if deed == "come":
                tasks.append(asyncio.ensure_future(visit(now() + amount, good=good)))
            elif deed == "cancel" and tasks:
                tasks[amount % len(tasks)].cancel()
            elif deed == "pass":
                await asyncio.sleep(amount)
            elif deed == "turn away":
                upstream.turn_away(lambda _: CircuitOpen())
            elif deed == "hold":
                line.hold(now() + amount, now())
                let_go = line.out
            if deed == "hold":
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert line.out <= let_go
            assert line.out >= 0
            assert not line.waiting or now() <= line.held or line.out >= line.room
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in done} <= {type(None), LimitReached, CircuitOpen, asyncio.CancelledError}
        assert empty(line)

    story()
