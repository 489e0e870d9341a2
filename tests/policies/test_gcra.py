"""Turns in numbers, and the line of those who wait for one: exact, fair, never idle, and nothing lost."""

import asyncio
import contextlib
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now
from fairlead.core import Upstream
from fairlead.errors import CircuitOpen, ConfigError, Knowledge, LimitReached
from fairlead.policies.gcra import GRAIN, LATE, Paced, Turns
from fairlead.testing import Fault, VirtualLoop, at_every_await, at_every_step, virtual_time


def taken(turns, now):
    """How many go at once."""
    number = 0
    while turns.take(now):
        number += 1
    return number


# The rule, in numbers


def test_one_goes_and_the_next_an_interval_later():
    turns = Turns(0.5, 1)
    assert [at for at in (0.0, 0.2, 0.4, 0.5, 0.9, 1.0, 7.0, 7.4, 7.6) if turns.take(at)] == [0.0, 0.5, 1.0, 7.0, 7.6]


@pytest.mark.parametrize("burst", [1, 2, 7])
def test_a_burst_goes_at_once_after_as_long_without(burst):
    turns = Turns(0.1, burst)
    assert taken(turns, 1000.3) == burst
    assert taken(turns, 1000.3 + 0.1) == 1
    assert taken(turns, 1000.3 + 0.3) == min(burst, 2)
    assert taken(turns, 2000.7) == burst


def test_who_waits_knows_its_turn():
    turns = Turns(1.0, 3)
    assert taken(turns, 0.0) == 3
    assert [turns.reserve(0.25) for _ in range(3)] == [1.0, 2.0, 3.0]
    assert turns.next(0.25) == 4.0
    assert turns.next(9.0) == 9.0


def test_who_leaves_gives_the_last_turn_back():
    turns = Turns(1.0, 1)
    turns.take(0.0)
    for _ in range(3):
        turns.reserve(0.0)
    turns.give_back()
    assert [*turns.times] == [1.0, 2.0]
    assert turns.reserve(0.0) == 3.0


def test_a_turn_that_nobody_took_goes_to_the_next():
    turns = Turns(1.0, 1)
    turns.take(0.0)
    turns.reserve(0.0), turns.reserve(0.0)
    turns.undo(turns.go(1.0)[0])
    assert ([*turns.times], turns.free) == ([1.0], 2.0)
    turns.undo(turns.go(1.0)[0])
    assert ([*turns.times], turns.free) == ([], 1.0)


def test_put_off_all_follow_from_there_at_the_rate():
    turns = Turns(1.0, 5)
    taken(turns, 0.0)
    turns.reserve(0.0), turns.reserve(0.0)
    assert turns.put_off(10.0) == 9.0
    assert [*turns.times] == [10.0, 11.0]
    assert turns.free == 12.0
    assert turns.put_off(5.0) == 0.0
    assert [*turns.times] == [10.0, 11.0]
    idle = Turns(1.0, 5)
    idle.put_off(10.0)
    assert not idle.take(9.9)
    assert taken(idle, 10.0) == 1


def test_a_loop_that_comes_a_little_late_is_forgiven_and_more_is_not_made_up_for():
    turns = Turns(0.1, 1)
    turns.take(0.0)
    for _ in range(5):
        turns.reserve(0.0)
    turns.go(0.1 + LATE / 2)
    assert turns.times[0] == pytest.approx(0.2)
    turns.go(10.0)
    assert [*turns.times] == pytest.approx([10.1 - LATE + interval for interval in (0, 0.1, 0.2)])


def test_a_turn_from_a_store_is_kept_for_who_comes_next_and_no_longer_than_it_is_of_use():
    turns = Turns(1.0, 1)
    turns.lend(5.0)
    turns.lend(4.0)
    assert ([*turns.times], turns.free) == ([4.0, 5.0], 6.0)
    turns.give_back()
    assert len(turns.times) == 2
    turns.forget(4.5, 0)
    assert [*turns.times] == [5.0]
    turns.forget(9.0, 1)
    assert [*turns.times] == [5.0]


ARRIVALS = st.lists(st.floats(0, 3), max_size=40)


@given(ARRIVALS, st.floats(0.01, 2), st.integers(1, 5), st.lists(st.booleans(), min_size=40, max_size=40))
def test_in_no_window_go_more_than_the_burst_and_one_for_each_interval(gaps, interval, burst, waits):
    turns, went, at = Turns(interval, burst), [], 0.0
    for gap, wait in zip(gaps, waits, strict=False):
        at += gap
        while turns.times and turns.times[0] <= at:
            went.append(turns.go(turns.times[0])[0])
        if not turns.times and turns.take(at):
            went.append(at)
        elif wait:
            turns.reserve(at)
    went += turns.times
    keeps(went, interval, burst)


def keeps(went, interval, burst, late=0.0):
    for first in range(len(went)):
        for last in range(first, len(went)):
            length = went[last] - went[first]
            assert last - first + 1 <= burst + (length + late) / interval + 0.001, went


# The line


def paced(rate=1.0, burst=1, upstream=None):
    return Paced(upstream or Upstream("shop"), "https://shop.test", "at most 1 call in 1 s", 1 / rate, burst, "default")


async def go(line, asked=None, *, until=inf):
    """Come, and say when it was one's turn."""
    asked = asked or call(timeout=None)
    if not line.take(now()):
        await line.turn(asked, until, now())
    return now()


def empty(line):
    return line.waiting == 0 and not line.lanes and line.timer is None and not line.upstream.waiting


@virtual_time
async def test_they_go_in_the_order_they_came_each_at_its_turn():
    line = paced()
    went = []

    async def one(number):
        await go(line)
        went.append((number, now()))

    await asyncio.gather(*[one(number) for number in range(5)])
    assert went == [(number, float(number)) for number in range(5)]
    assert empty(line)


@virtual_time
async def test_one_timer_serves_the_whole_line():
    line, loop = paced(), asyncio.get_running_loop()
    waiting = [asyncio.ensure_future(go(line)) for _ in range(50)]
    await asyncio.sleep(0)
    assert len(loop._scheduled) == 1
    assert line.next == 50.0
    await asyncio.gather(*waiting)
    assert loop._scheduled == []


@virtual_time
async def test_who_would_wait_too_long_is_refused_at_once():
    line = paced()
    assert [await go(line), line.next] == [0.0, 1.0]
    with pytest.raises(LimitReached, match=r"at most 1 call in 1 s: the next turn is in 1 s") as caught:
        await go(line, until=0.9)
    assert (caught.value.retry_after, caught.value.knowledge, now()) == (1.0, Knowledge.NOT_SENT, 0.0)
    assert await go(line, until=1.0) == 1.0
    assert empty(line)


@virtual_time
async def test_everyone_behind_one_who_leaves_moves_up():
    line = paced()
    await go(line)
    waiting = [asyncio.ensure_future(go(line)) for _ in range(4)]
    await asyncio.sleep(0.5)
    waiting[1].cancel()
    await asyncio.sleep(0)
    assert line.next == 4.0
    waiting.append(asyncio.ensure_future(go(line)))
    assert [await one for one in waiting if not one.cancelled()] == [1.0, 2.0, 3.0, 4.0]
    assert empty(line)


@virtual_time
async def test_when_all_have_left_the_turn_is_free():
    line = paced()
    await go(line)
    waiting = [asyncio.ensure_future(go(line)) for _ in range(3)]
    await asyncio.sleep(0.5)
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
    assert empty(line)
    await asyncio.sleep(0.5)
    assert await go(line, until=now()) == 1.0


@virtual_time
async def test_a_higher_priority_goes_first_and_who_it_makes_too_late_is_refused():
    line = paced()
    await go(line)
    patient, hurried, last = (asyncio.ensure_future(go(line, until=until)) for until in (inf, 2.5, 3.0))
    await asyncio.sleep(0)
    urgent = call(timeout=None)
    urgent.priority = 1
    assert await go(line, urgent) == 1.0
    with pytest.raises(LimitReached) as caught:
        await hurried
    assert caught.value.retry_after == 3.0
    assert [await patient, await last] == [2.0, 3.0]
    assert empty(line)


@virtual_time
async def test_a_lower_priority_comes_after_all_others():
    line = paced()
    await go(line)
    idle = call(timeout=None)
    idle.priority = -1
    went = await asyncio.gather(go(line, idle), go(line), go(line))
    assert went == [3.0, 1.0, 2.0]


@virtual_time
async def test_who_has_an_urgent_call_waits_no_longer_than_it_would():
    line = paced()
    waiting = [asyncio.ensure_future(go(line)) for _ in range(3)]
    await asyncio.sleep(0)
    urgent = call(timeout=None)
    urgent.priority = 1
    with pytest.raises(LimitReached) as caught:
        await go(line, urgent, until=0.5)
    assert caught.value.retry_after == 1.0
    assert await go(line, urgent, until=1.0) == 1.0
    assert [await one for one in waiting] == [0.0, 2.0, 3.0]


@virtual_time
async def test_a_call_is_turned_away_while_it_waits():
    upstream = Upstream("shop")
    line = paced(upstream=upstream)
    await go(line)
    waiting = [asyncio.ensure_future(go(line)) for _ in range(3)]
    await asyncio.sleep(0)
    away = waiting[1]
    turned = iter([None, CircuitOpen("open"), None])
    upstream.turn_away(lambda _: next(turned))
    with pytest.raises(CircuitOpen):
        await away
    assert [await waiting[0], await waiting[2]] == [1.0, 2.0]
    assert empty(line)


@virtual_time
async def test_who_is_turned_away_in_the_very_turn_of_its_turn_leaves_it_to_the_next():
    """And so in the turn of a hold, before it could leave by itself."""
    upstream = Upstream("shop")
    line, loop = paced(upstream=upstream), asyncio.get_running_loop()
    await go(line)
    away = [asyncio.ensure_future(go(line)) for _ in range(2)]
    idle = call(timeout=None)
    idle.priority = -1
    stays = [asyncio.ensure_future(go(line, idle)) for _ in range(2)]

    def turn_away():
        upstream.turn_away(lambda asked: CircuitOpen() if asked.priority == 0 else None)

    def hold():
        turn_away()
        line.hold(5.0, now())

    loop.call_at(1.0 - 5e-10, turn_away)
    await asyncio.wait(away)
    assert [type(one.exception()) for one in away] == [CircuitOpen] * 2
    assert await stays[0] == pytest.approx(1.0)
    assert [*line.turns.times] == [2.0]
    away = asyncio.ensure_future(go(line, until=4.0))
    loop.call_at(1.5, hold)
    with pytest.raises(CircuitOpen):
        await away
    assert await stays[1] == 5.0
    assert await go(line) == 6.0
    assert empty(line)


@virtual_time
async def test_who_leaves_in_the_very_turn_of_its_turn_and_of_a_hold_does_not_break_it():
    line, loop = paced(), asyncio.get_running_loop()
    await go(line)
    leaves, stays, late = (asyncio.ensure_future(go(line, until=until)) for until in (inf, inf, 6.5))

    def hold():
        line.hold(5.0, now())
        leaves.cancel()

    loop.call_at(1.0 + 5e-10, hold)
    assert [await stays, await late, line.next] == [5.0, 6.0, 7.0]
    assert leaves.cancelled()
    assert empty(line)


@virtual_time
async def test_once_the_client_is_closed_nobody_waits():
    upstream = Upstream("shop")
    line = paced(upstream=upstream)
    await go(line)
    waiting = [asyncio.ensure_future(go(line)) for _ in range(3)]
    await asyncio.sleep(0)
    upstream.close()
    for late in (*waiting, go(line)):
        with pytest.raises(ConfigError, match="the client was closed") as caught:
            await late
        assert caught.value.knowledge is Knowledge.NOT_SENT
    assert now() == 0.0
    assert empty(line)


@virtual_time
async def test_a_hold_puts_off_all_who_wait_and_refuses_who_cannot():
    line = paced()
    await go(line)
    hurried, *patient = (asyncio.ensure_future(go(line, until=until)) for until in (9.0, inf, 11.0))
    await asyncio.sleep(0)
    assert line.hold(10.0, now())
    assert not line.hold(5.0, now())
    with pytest.raises(LimitReached) as caught:
        await hurried
    assert caught.value.retry_after == 10.0
    assert [await one for one in patient] == [10.0, 11.0]
    assert line.hold(20.0, now())
    assert await go(line) == 20.0
    assert empty(line)


@virtual_time
async def test_a_loop_that_stood_still_does_not_make_up_for_it():
    line, loop = paced(rate=10.0), asyncio.get_running_loop()
    waiting = [asyncio.ensure_future(go(line)) for _ in range(8)]
    await asyncio.sleep(0.25)
    loop.now += 3.0  # something kept it
    went = [await one for one in waiting]
    assert went[:3] == pytest.approx([0.0, 0.1, 0.2])
    keeps(went, 0.1, 1, LATE)


@virtual_time
async def test_who_has_come_too_late_by_a_loop_that_stood_still_is_refused():
    line, loop = paced(), asyncio.get_running_loop()
    waiting = [asyncio.ensure_future(go(line, until=until)) for until in (inf, inf, 3.0)]
    await asyncio.sleep(0.5)
    loop.now += 5.0
    assert [await one for one in waiting[:2]] == [0.0, 5.5]
    with pytest.raises(LimitReached):
        await waiting[2]


async def leaving(cut):
    """One leaves between two: if it had not gone, they have all the turns there are."""
    line, loop = paced(), asyncio.get_running_loop()
    await go(line)
    went = {}

    async def visit(name):
        went[name] = await go(line)

    before = asyncio.ensure_future(visit("before"))
    await asyncio.sleep(0)
    others = [before]
    loop.call_later(0.5, lambda: others.append(asyncio.ensure_future(visit("behind"))))
    with contextlib.suppress(asyncio.CancelledError):
        await cut(visit("between"))
    await asyncio.sleep(max(0.0, 0.6 - now()))
    await asyncio.gather(*others, visit("last"))
    assert [*went] == (["before", "between", "behind", "last"] if "between" in went else ["before", "behind", "last"])
    assert [*went.values()] == [1.0 + place for place in range(len(went))]
    assert empty(line)


def test_at_whatever_step_one_leaves_the_others_have_its_turn():
    assert at_every_step(leaving) > 3


def test_at_whatever_await_one_leaves_once_or_twice_the_others_have_its_turn():
    faults = [Fault.CANCELLED, Fault.CANCELLED_LATE, Fault.CANCELLED_TWICE]
    assert at_every_await(leaving, loop_factory=VirtualLoop, faults=faults) > 1


DEEDS = st.one_of(
    st.tuples(st.just("come"), st.sampled_from([inf, 0.0, 0.7, 2.0, 5.0]), st.integers(-1, 1)),
    st.tuples(st.just("cancel"), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0]), st.just(0)),
    st.tuples(st.just("turn away"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("hold"), st.sampled_from([0.3, 2.0]), st.just(0)),
)


@given(st.lists(DEEDS, max_size=40), st.sampled_from([0.3, 1.0]), st.integers(1, 3))
def test_whatever_happens_the_line_keeps_to_its_rate_and_loses_nobody(deeds, interval, burst):
    """Nobody goes after its time, in a hold, or before one of its priority that came earlier; no turn is left while somebody waits."""

    @virtual_time
    async def story():
        upstream = Upstream("shop")
        line = Paced(upstream, "https://shop.test", "limit", interval, burst, "default")
        told = Turns(interval, burst)  # what went and was held, and nothing of who waited
        went, order, tasks = [], {}, []

        async def visit(number, asked, until):
            await go(line, asked, until=until)
            assert line.held - GRAIN <= now() <= until + GRAIN
            assert told.take(now())
            went.append(now())
            order.setdefault(asked.priority, []).append(number)

        async def settle():
            for _ in range(4):
                await asyncio.sleep(0)
                assert (line.timer is None) == (line.waiting == 0)

        for deed, amount, priority in deeds:
            if deed == "come":
                asked = call(timeout=None)
                asked.priority = priority
                tasks.append(asyncio.ensure_future(visit(len(tasks), asked, now() + amount)))
            elif deed == "cancel" and tasks:
                tasks[amount % len(tasks)].cancel()
            elif deed == "pass":
                await asyncio.sleep(amount)
            elif deed == "turn away":
                refused = {amount - 1: CircuitOpen()}
                upstream.turn_away(lambda asked, refused=refused: refused.get(asked.priority))
            elif deed == "hold":
                line.hold(now() + amount, now())
                told.put_off(now() + amount)
            if deed in {"pass", "hold"}:
                await settle()
            assert len(line.turns.times) == line.waiting
            if line.waiting and deed in {"pass", "hold"}:
                assert now() - GRAIN < line.turns.times[0] <= told.next(now()) + GRAIN
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in done} <= {type(None), LimitReached, CircuitOpen, asyncio.CancelledError}
        keeps(went, interval, burst)
        assert all(numbers == sorted(numbers) for numbers in order.values())
        assert empty(line)
        assert not line.turns.times

    story()
