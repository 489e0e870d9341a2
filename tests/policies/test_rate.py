"""The rate limit: each call at its turn, an upstream left alone as long as it asks, and one rate for several processes."""

import asyncio
import contextlib
from collections import Counter
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now, recorded
from fairlead import HTTPClient
from fairlead.core import Timeout, Upstream
from fairlead.errors import CircuitOpen, ConfigError, ConnectFailed, DeadlineExceeded, Knowledge, LimitReached
from fairlead.events import CircuitOpened, Held
from fairlead.message import Response
from fairlead.policies import CircuitBreaker, ConcurrencyLimit, RateLimit, Retry
from fairlead.policies.gcra import Turns
from fairlead.testing import Fault, Pieces, VirtualLoop, at_every_await, at_every_step, script, virtual_time

SPENT = (200, b"", {"RateLimit": '"default";r=0;t=10'})
ASKED = (429, b"", {"Retry-After": "10"})


def bound(engine, recipe, upstream=None):
    """A send, and the lines behind it."""
    upstream = upstream or Upstream("shop")
    return recipe.bind(engine.send, upstream), upstream.state(recipe, lambda: pytest.fail("no state was made"))


class Inner:
    """An engine, for what stands inside."""

    def __init__(self, send):
        self.send = send


async def at(send, asked=None):
    """When it was sent."""
    asked = asked or call(timeout=None)
    await send(asked)
    return now()


def only(lines):
    (line,) = lines.values()
    return line


def empty(lines):
    timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
    return timers == [] and all((line.waiting, len(line.upstream.waiting)) == (0, 0) for line in lines.values())


# A rate


@virtual_time
async def test_fifty_in_a_second_are_never_more_in_any_second():
    send, lines = bound(script(then=200), RateLimit(50))
    went = await asyncio.gather(*[at(send) for _ in range(200)])
    assert went == pytest.approx([place / 50 for place in range(200)])
    assert empty(lines)


@virtual_time
async def test_a_burst_goes_at_once():
    send, _ = bound(script(then=200), RateLimit(60, 60.0, burst=3))
    went = await asyncio.gather(*[at(send) for _ in range(5)])
    assert went == pytest.approx([0, 0, 0, 1, 2])


@virtual_time
async def test_nobody_overtakes_the_line_when_the_loop_stood_still():
    send, lines = bound(script(then=200), RateLimit(1))
    await send(call())
    first = asyncio.ensure_future(at(send))
    await asyncio.sleep(0.5)
    asyncio.get_running_loop().now = 3.0
    assert await at(send) == pytest.approx(4.0, abs=0.02)
    assert await first == 3.0
    assert empty(lines)


@virtual_time
async def test_each_origin_has_a_line_of_its_own():
    send, lines = bound(script(then=200), RateLimit(1))
    urls = ("https://a.test/", "https://b.test/")
    assert await asyncio.gather(*[at(send, call(url=url, timeout=None)) for url in urls * 2]) == [0, 0, 1, 1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("wait", "timeout"),
    [
        (None, Timeout(total=2.0)),
        (None, Timeout(total=9.0, wait=2.0)),
        (2.0, Timeout(total=9.0)),
        (2.0, Timeout(total=None)),
    ],
)
@virtual_time
async def test_who_cannot_wait_for_its_turn_is_refused_at_once(wait, timeout):
    send, lines = bound(script(then=200), RateLimit(1, 3.0, wait=wait))
    await send(call())
    with pytest.raises(LimitReached, match=r"shop: at most 1 calls in 3 s: the next turn is in 3 s") as caught:
        await send(call(timeout=timeout))
    assert (caught.value.retry_after, caught.value.knowledge, caught.value.phase) == (
        3.0,
        Knowledge.NOT_SENT,
        "waiting",
    )
    assert now() == 0.0
    await asyncio.sleep(1.5)
    assert await at(send, call(timeout=timeout)) == 3.0
    assert empty(lines)


@virtual_time
async def test_a_turn_at_the_deadline_itself_comes_too_late():
    send, _ = bound(script(then=200), RateLimit(1))
    await send(call())
    with pytest.raises(LimitReached):
        await send(call(timeout=1.0))
    assert await at(send, call(timeout=Timeout(wait=1.0))) == 1.0


@virtual_time
async def test_with_no_patience_nobody_waits():
    send, lines = bound(script(then=200), RateLimit(1, wait=0, burst=2))
    await send(call())
    await send(call())
    with pytest.raises(LimitReached):
        await send(call())
    await asyncio.sleep(1.0)
    assert await at(send) == 1.0
    assert empty(lines)


@virtual_time
async def test_a_turn_is_used_by_a_call_that_failed_too():
    send, _ = bound(script(ConnectFailed, KeyError, 200), RateLimit(1))
    for failure in (ConnectFailed, KeyError):
        with pytest.raises(failure):
            await send(call())
    assert await at(send) == 2.0


@virtual_time
async def test_a_stream_is_paced_as_any_other():
    engine = script(then=(200, Pieces(b"a", 5.0, b"b"), {"RateLimit": '"d";r=0;t=3'}))
    send, lines = bound(engine, RateLimit(1))
    first = await send(call(stream=True))
    second = await send(call(stream=True))
    assert now() == 3.0
    first.close(), second.close()
    assert engine.open == 0
    assert empty(lines)


@virtual_time
async def test_what_waits_is_turned_away_when_a_circuit_opens_elsewhere():
    upstream = Upstream("shop")
    send, lines = bound(script(then=200), RateLimit(1), upstream)
    waiting = [asyncio.ensure_future(at(send)) for _ in range(3)]
    await asyncio.sleep(0.5)
    upstream.turn_away(lambda asked: CircuitOpen("circuit open", request=asked.request))
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in done] == [float, CircuitOpen, CircuitOpen]
    assert await at(send) == 1.0
    assert empty(lines)


@virtual_time
async def test_who_waits_knows_when_the_client_is_closed():
    engine = script(then=200)
    client = HTTPClient("https://shop.test", engine=engine, policies=(RateLimit(1, 10.0),))
    await client.get("/")
    waiting = asyncio.ensure_future(client.get("/"))
    await asyncio.sleep(1)
    await client.close(drain=0)
    with pytest.raises(ConfigError, match="the client was closed"):
        await waiting
    assert now() == 1.0
    assert len(engine.calls) == 1


@virtual_time
async def test_a_higher_priority_is_served_first():
    async with HTTPClient("https://shop.test", engine=script(then=200), policies=(RateLimit(1),)) as client:
        went = []

        async def one(priority):
            await client.get("/", priority=priority)
            went.append(priority)

        await asyncio.gather(*[one(priority) for priority in (0, 0, -1, 0, 5)])
    assert went == [0, 5, 0, 0, -1]


@virtual_time
async def test_two_rates_stand_one_in_the_other():
    policies = (RateLimit(2, 10.0, burst=2, name="long"), RateLimit(1, hints=False))
    async with HTTPClient("https://shop.test", engine=script(then=200), policies=policies) as client:

        async def one():
            await client.get("/", timeout=None)
            return now()

        assert await asyncio.gather(*[one() for _ in range(4)]) == [0.0, 1.0, 5.0, 10.0]


# What the upstream says


@pytest.mark.parametrize("recipe", [RateLimit(100), RateLimit(None)])
@pytest.mark.parametrize("answer", [SPENT, ASKED])
@virtual_time
async def test_an_upstream_that_asks_to_be_left_alone_is(recipe, answer):
    upstream, events = recorded()
    send, lines = bound(script(answer, then=200), recipe, upstream)
    assert await at(send) == 0.0
    assert events == [Held("shop", "https://shop.test", 10.0)]
    assert only(lines).held == 10.0
    with pytest.raises(LimitReached) as caught:
        await send(call(timeout=9.0))
    assert (caught.value.retry_after, now()) == (10.0, 0.0)
    assert await at(send, call(timeout=11.0)) == 10.0
    assert await at(send, call(url="https://elsewhere.test/")) == 10.0
    assert empty(lines)


@pytest.mark.parametrize("recipe", [RateLimit(100), RateLimit(None)])
@virtual_time
async def test_a_hold_is_told_once_and_only_gets_longer(recipe):
    upstream, events = recorded()
    answers = [(429, b"", {"Retry-After": seconds}) for seconds in ("5", "9", "2")]
    delays = iter([0.1, 0.2, 0.3])

    async def slow(_):
        answer = answers.pop(0)
        await asyncio.sleep(next(delays))
        return answer

    send, lines = bound(script(slow, slow, slow, then=200), recipe, upstream)
    await asyncio.gather(*[send(call()) for _ in range(3)])
    assert [event.seconds for event in events] == [5.0]
    assert await at(send) == pytest.approx(9.2, abs=0.02)
    assert empty(lines)


@pytest.mark.parametrize(("recipe", "over"), [(RateLimit(1000.0), 13.0), (RateLimit(None), 14.0)])
@virtual_time
async def test_who_had_its_turn_and_waits_for_a_slot_is_held_too(recipe, over):
    sent = []

    async def answer(_):
        sent.append(began := now())
        await asyncio.sleep(1.0)
        return ASKED if began < 1.0 else 200

    upstream = Upstream("shop")
    inner = ConcurrencyLimit(limit=2)
    send, lines = bound(Inner(inner.bind(script(then=answer).send, upstream)), recipe, upstream)
    ends = await asyncio.gather(*[at(send, call(timeout=20.0 if n else None)) for n in range(6)])
    assert sent[:3] == pytest.approx([0.0, 0.0, 11.0], abs=0.01)
    assert (len(sent), max(ends)) == (6, pytest.approx(over, abs=0.01))
    assert empty(lines)
    assert upstream.states["ConcurrencyLimit", "default"].taken == 0


@pytest.mark.parametrize("recipe", [RateLimit(1000.0), RateLimit(None)])
@virtual_time
async def test_who_cannot_wait_for_another_turn_is_refused_as_the_hold_begins(recipe):
    upstream = Upstream("shop")
    slots = ConcurrencyLimit(limit=1)
    send, lines = bound(Inner(slots.bind(script(1.0, ASKED, then=200).send, upstream)), recipe, upstream)
    ends = await asyncio.gather(at(send), *[at(send, call(timeout=5.0)) for _ in range(3)], return_exceptions=True)
    assert [type(end) for end in ends[1:]] == [LimitReached] * 3
    assert [end.retry_after for end in ends[1:]] == pytest.approx([10.0] * 3)
    assert now() == pytest.approx(1.0)
    assert empty(lines)


@virtual_time
async def test_of_two_each_calls_back_who_had_a_turn_of_its_own():
    upstream = Upstream("shop")
    slots = ConcurrencyLimit(limit=1)
    second = RateLimit(5.0, name="second", hints=False)
    inner = second.bind(slots.bind(script(1.0, ASKED, then=200).send, upstream), upstream)
    send, lines = bound(Inner(inner), RateLimit(100.0, name="first"), upstream)
    ends = await asyncio.gather(*[at(send) for _ in range(4)])
    assert ends == pytest.approx([1.0, 11.0, 11.2, 11.4], abs=0.05)
    assert empty(lines)


@pytest.mark.parametrize("priority", [1.5, "high"])
@virtual_time
async def test_a_priority_that_is_none_is_refused_before_it_is_compared_with_others(priority):
    send, lines = bound(script(then=200), RateLimit(1))
    await send(call())
    asked = call()
    asked.priority = priority
    with pytest.raises(ConfigError, match=r"priority=.* is not a whole number"):
        await send(asked)
    assert await asyncio.gather(at(send), at(send)) == pytest.approx([1.0, 2.0])
    assert empty(lines)


@virtual_time
async def test_whose_time_is_up_is_told_so_and_not_refused():
    send, lines = bound(script(then=200), RateLimit(1))
    await send(call())
    late = call(timeout=0.5)
    await asyncio.sleep(0.5)
    with pytest.raises(DeadlineExceeded) as caught:
        await send(late)
    assert caught.value.knowledge is Knowledge.NOT_SENT
    assert empty(lines)


def test_at_whatever_step_a_hold_and_a_leaving_meet_no_slot_and_no_turn_is_lost():
    async def story(cut):
        upstream = Upstream("shop")
        slots = ConcurrencyLimit(limit=1)
        engine = script(0.1, (429, b"", {"Retry-After": "1"}), then=200)
        send, lines = bound(Inner(slots.bind(engine.send, upstream)), RateLimit(None), upstream)
        others = [asyncio.create_task(at(send)) for _ in range(3)]
        await asyncio.sleep(0)
        await cut(at(send))
        await asyncio.gather(*others, at(send))
        assert empty(lines)
        assert upstream.states["ConcurrencyLimit", "default"].taken == 0
        assert engine.open == 0

    assert at_every_step(story) > 5


@virtual_time
async def test_after_a_hold_they_go_by_the_rate():
    send, lines = bound(script(SPENT, then=200), RateLimit(2, burst=2))
    await send(call())
    went = await asyncio.gather(*[at(send) for _ in range(4)])
    assert went == [10.0, 10.5, 11.0, 11.5]
    assert empty(lines)


@virtual_time
async def test_without_a_rate_they_go_by_the_answers():
    engine = script(SPENT, then=lambda _: asyncio.sleep(1, 200))
    send, lines = bound(engine, RateLimit(None))
    await send(call())
    went = await asyncio.gather(*[at(send) for _ in range(10)])
    assert [went.count(answered) for answered in (11.0, 12.0, 13.0, 14.0)] == [1, 2, 4, 3]
    assert only(lines).room == 0
    assert empty(lines)


@virtual_time
async def test_without_a_rate_an_upstream_that_still_has_enough_says_so_to_one():
    engine = script(ASKED, ASKED, then=200)
    send, lines = bound(engine, RateLimit(None))
    await send(call())
    waiting = [asyncio.ensure_future(at(send)) for _ in range(9)]
    await asyncio.sleep(10.5)
    assert len(engine.calls) == 2
    await asyncio.gather(*waiting)
    assert now() == 20.0
    assert empty(lines)


@pytest.mark.parametrize("answer", [500, 429, ConnectFailed, asyncio.CancelledError])
@virtual_time
async def test_without_a_rate_what_fails_first_lets_another_try(answer):
    send, lines = bound(script(SPENT, answer, then=200), RateLimit(None))
    await send(call())
    done = await asyncio.gather(*[at(send) for _ in range(5)], return_exceptions=True)
    assert done[1:] == [10.0] * 4
    assert empty(lines)
    assert only(lines).out == 0


@virtual_time
async def test_a_hold_is_bounded():
    send, lines = bound(script((429, b"", {"Retry-After": "3600"}), then=200), RateLimit(None, max_hold=60.0))
    await send(call())
    assert only(lines).held == 60.0


@virtual_time
async def test_hints_can_be_left_unheard():
    send, _ = bound(script(then=ASKED), RateLimit(10, hints=False))
    await send(call())
    assert await at(send) == pytest.approx(0.1)


@virtual_time
async def test_times_are_read_by_the_clock_that_is_given():
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000030"}
    send, lines = bound(script((403, b"", headers)), RateLimit(None, clock=lambda: 1_700_000_000.0))
    await send(call())
    assert only(lines).held == 30.0


@virtual_time
async def test_a_retry_waits_as_long_as_was_asked_and_once():
    policies = (Retry(retries=1, delay=0.0), RateLimit(None))
    engine = script((503, b"", {"Retry-After": "2"}), 200)
    async with HTTPClient("https://shop.test", engine=engine, policies=policies) as client:
        assert (await client.get("/")).status_code == 200
    assert 2.0 <= now() <= 4.0


@virtual_time
async def test_a_refusal_is_not_tried_again_and_no_verdict():
    policies = (Retry(), CircuitBreaker(consecutive=1), RateLimit(1, 60.0), ConcurrencyLimit())
    sink = []
    async with HTTPClient(
        "https://shop.test", engine=script(then=200), policies=policies, sinks=(sink.append,)
    ) as client:
        await client.get("/")
        for _ in range(3):
            with pytest.raises(LimitReached):
                await client.get("/", timeout=5.0)
        assert now() == 0.0
    assert not any(isinstance(event, CircuitOpened) for event in sink)


@virtual_time
async def test_so_many_origins_are_remembered_and_none_that_somebody_waits_in_is_forgotten():
    send, lines = bound(script(SPENT, then=200), RateLimit(1, origins=3))
    await send(call(url="https://held.test/", timeout=None))
    waiting = asyncio.ensure_future(at(send, call(url="https://held.test/", timeout=None)))
    await asyncio.sleep(0)
    for number in range(20):
        await send(call(url=f"https://{number}.test/", timeout=None))
    assert len(lines) == 3
    assert await waiting == 10.0
    assert empty(lines)


@virtual_time
async def test_when_somebody_waits_everywhere_there_is_one_more():
    send, lines = bound(script(then=200), RateLimit(1, origins=2))
    waiting = [asyncio.ensure_future(at(send, call(url=f"https://{n}.test/"))) for n in (1, 1, 2, 2, 3, 3)]
    await asyncio.sleep(0)
    assert len(lines) == 3
    assert await asyncio.gather(*waiting) == [0, 1, 0, 1, 0, 1]


# The recipe


def test_with_nothing_to_do_it_is_not_there():
    engine = script()
    assert RateLimit(None, hints=False).bind(engine.send, Upstream("shop")) == engine.send


@virtual_time
async def test_two_pipelines_over_one_upstream_share_the_turns():
    upstream, engine = Upstream("shop"), script(then=200)
    one, other = (bound(engine, RateLimit(1), upstream)[0] for _ in range(2))
    assert await asyncio.gather(at(one), at(other)) == [0.0, 1.0]
    with pytest.raises(ConfigError, match="two different RateLimit recipes"):
        bound(engine, RateLimit(2), upstream)


@pytest.mark.parametrize(
    "numbers",
    [
        {"rate": 0}, {"rate": -1}, {"rate": "50"}, {"rate": True}, {"rate": inf}, {"rate": float("nan")}, {"rate": 5e-324},
        {"per": 0}, {"per": None}, {"per": inf}, {"wait": -1}, {"wait": False}, {"wait": inf}, {"max_hold": 0},
        {"burst": 0}, {"burst": 1.5}, {"burst": True}, {"origins": 0}, {"burst": 2, "rate": None},
    ],
)  # fmt: skip
def test_numbers_that_cannot_work_are_refused(numbers):
    with pytest.raises(ConfigError, match=f"RateLimit: {next(iter(numbers))}="):
        RateLimit(**{"rate": 1, **numbers})


def test_it_explains_itself():
    told = RateLimit(50, 2.0, burst=5).explain()
    assert (
        "one for each origin: at most 50 calls in 2 s, up to 5 at once; the rest wait for their turn, no longer" in told
    )
    assert "asks for it is left alone, for at most 120 s" in told
    assert "the rest are refused" in RateLimit(50, wait=0).explain()
    assert "for their turn, at most 2 s" in RateLimit(50, wait=2).explain()
    assert "calls in" not in RateLimit(None).explain()
    assert RateLimit(None, hints=False).explain() == "rate limit, one for each origin: none"


@virtual_time
async def test_its_state_can_be_read_while_it_lives():
    upstream = Upstream("shop")
    send, _ = bound(script(SPENT, then=200), RateLimit(2), upstream)
    await send(call())
    waiting = [asyncio.ensure_future(send(call(timeout=None))) for _ in range(3)]
    await asyncio.sleep(1)
    lines = upstream.states["RateLimit", "default"]
    ((origin, line),) = lines.items()
    assert (lines.recipe.rate, str(origin), line.waiting, line.held, line.next) == (
        2,
        "https://shop.test",
        3,
        10.0,
        11.5,
    )
    assert repr(line) == "<https://shop.test: 3 waiting, held until 10, next turn at 11.5>"
    await asyncio.gather(*waiting)


# Shared


class Redis:
    """A store as `core.Shared` has it: one rate for all who ask; with `gone`, one that does not answer."""

    def __init__(self, members=1):
        self.members = members
        self.turns = {}
        self.asked = 0
        self.gone = False
        self.trip = 0.0

    async def reserve(self, key, /, *, interval, burst, patience, owed=0):
        assert patience >= 0
        self.asked += 1
        await asyncio.sleep(self.trip)
        if self.gone:
            return None
        turns = self.turns.setdefault(key, Turns(interval, burst))
        turns.free = max(turns.free, now()) + owed * interval if owed else turns.free
        seconds = turns.next(now()) - now()
        if seconds <= patience:
            turns.take(now()) or turns.reserve(now())
        return seconds


def sharing(redis, recipe, engine=None, processes=1):
    """As many processes."""
    for _ in range(processes):
        upstream = Upstream("shop")
        upstream.shared = redis
        yield bound(engine or script(then=200), recipe, upstream)


@virtual_time
async def test_processes_share_one_rate():
    redis = Redis(members=2)
    ends = [*sharing(redis, RateLimit(10), processes=2)]
    went = await asyncio.gather(*[at(ends[place % 2][0]) for place in range(20)])
    assert sorted(went) == pytest.approx([place / 10 for place in range(20)])
    assert [*redis.turns] == ["default:https://shop.test"]
    assert redis.asked == 20
    assert all(empty(lines) for _, lines in ends)


@virtual_time
async def test_who_waits_for_nothing_goes_if_the_store_has_a_turn_however_long_it_took_to_say_so():
    redis = Redis()
    redis.trip = 0.02
    ((send, lines),) = sharing(redis, RateLimit(10, burst=2, wait=0))
    ends = await asyncio.gather(*[send(call()) for _ in range(4)], return_exceptions=True)
    assert Counter(map(type, ends)) == {Response: 2, LimitReached: 2}  # which, the store's answers have no order for
    assert empty(lines)


@virtual_time
async def test_while_the_store_does_not_answer_each_goes_on_with_its_share():
    redis = Redis(members=4)
    ends = [*sharing(redis, RateLimit(4, burst=8), processes=4)]
    redis.gone = True
    went = await asyncio.gather(*[at(send) for send, _ in ends for _ in range(5)])
    assert sorted(went) == pytest.approx([0] * 8 + [1] * 4 + [2] * 4 + [3] * 4)


@virtual_time
async def test_a_store_that_comes_back_empty_is_told_of_those_who_wait_already():
    redis = Redis(members=2)
    ends = [*sharing(redis, RateLimit(10), processes=2)]
    redis.gone = True
    waiting = [asyncio.ensure_future(at(send)) for send, _ in ends for _ in range(6)]
    await asyncio.sleep(0.01)
    redis.gone = False
    later = [asyncio.ensure_future(at(send)) for _ in range(4) for send, _ in ends]
    went = sorted(await asyncio.gather(*waiting, *later))
    for place, when in enumerate(went):
        # Each process's share began with a call at once, and so did what the store has.
        assert sum(one > when - 1.0 + 1e-6 for one in went[: place + 1]) <= 10 + 3
    assert went[-1] == pytest.approx(1.7, abs=0.21)
    assert all(empty(lines) for _, lines in ends)


@virtual_time
async def test_a_store_that_is_lost_and_found_loses_and_doubles_nobody():
    redis = Redis(members=2)
    ((send, lines),) = sharing(redis, RateLimit(1))
    went = []

    async def one():
        went.append(await at(send))

    for gone in (False, True, False, True):
        redis.gone = gone
        waiting = [asyncio.ensure_future(one()) for _ in range(3)]
        await asyncio.sleep(0.1)
    redis.gone = False
    await asyncio.gather(*waiting)
    await asyncio.sleep(100)
    assert len(went) == 12
    assert empty(lines)
    assert not only(lines).turns.times


@virtual_time
async def test_a_shared_turn_that_would_come_too_late_is_refused():
    redis = Redis()
    ((send, lines),) = sharing(redis, RateLimit(1, 5.0))
    await send(call())
    with pytest.raises(LimitReached) as caught:
        await send(call(timeout=4.0))
    assert (caught.value.retry_after, now()) == (5.0, 0.0)
    assert await at(send) == 5.0
    assert empty(lines)


@virtual_time
async def test_a_call_whose_time_is_up_leaves_its_shared_turn_to_another():
    redis = Redis()
    ((send, lines),) = sharing(redis, RateLimit(1))
    late = call(timeout=1.0)
    await asyncio.sleep(2.0)
    with pytest.raises(DeadlineExceeded):
        await send(late)
    assert await at(send) == 2.0
    assert redis.asked == 1
    assert empty(lines)


@virtual_time
async def test_a_shared_turn_of_one_who_left_is_had_by_who_is_behind_and_then_by_who_comes():
    redis = Redis()
    ((send, lines),) = sharing(redis, RateLimit(1))
    waiting = [asyncio.ensure_future(at(send)) for _ in range(4)]
    await asyncio.sleep(0.5)
    waiting[1].cancel()
    await asyncio.sleep(0)
    waiting.append(asyncio.ensure_future(at(send)))
    assert [await one for one in waiting if not one.cancelled()] == [0.0, 1.0, 2.0, 3.0]
    assert redis.asked == 4
    assert empty(lines)


@virtual_time
async def test_a_turn_that_is_kept_and_comes_too_late_is_left_to_another():
    redis = Redis()
    ((send, lines),) = sharing(redis, RateLimit(1))
    await send(call())
    left = asyncio.ensure_future(send(call()))
    await asyncio.sleep(0.1)
    left.cancel()
    await asyncio.sleep(0)
    with pytest.raises(LimitReached) as caught:
        await send(call(timeout=0.5))
    assert caught.value.retry_after == 0.9
    assert await at(send) == 1.0
    assert redis.asked == 2
    assert empty(lines)


@virtual_time
async def test_a_turn_that_was_kept_too_long_is_not_used():
    redis = Redis()
    ((send, lines),) = sharing(redis, RateLimit(1))
    waiting = [asyncio.ensure_future(at(send)) for _ in range(3)]
    await asyncio.sleep(0.5)
    for one in waiting[1:]:
        one.cancel()
    await asyncio.sleep(4.5)
    assert await asyncio.gather(at(send), at(send)) == [5.0, 6.0]
    assert redis.asked == 5
    assert empty(lines)


@virtual_time
async def test_an_urgent_call_has_the_turn_of_one_behind_though_the_store_has_none_in_time():
    redis = Redis()
    ((send, lines),) = sharing(redis, RateLimit(1))
    waiting = [asyncio.ensure_future(at(send)) for _ in range(3)]
    await asyncio.sleep(0.5)
    urgent = call(timeout=0.6)
    urgent.priority = 1
    assert await at(send, urgent) == 1.0
    assert [await waiting[0], await waiting[1]] == [0.0, 2.0]
    with pytest.raises(LimitReached):
        await waiting[2]
    assert empty(lines)


@virtual_time
async def test_in_a_hold_the_store_is_not_asked_and_each_process_goes_on_by_its_share():
    redis = Redis(members=2)
    ends = [*sharing(redis, RateLimit(2), script(SPENT, SPENT, then=200), processes=2)]
    assert await asyncio.gather(*[at(send) for send, _ in ends]) == [0.0, 0.5]
    went = await asyncio.gather(*[at(send) for send, _ in ends for _ in range(2)])
    assert sorted(went) == [10.0, 10.5, 11.0, 11.5]
    assert redis.asked == 2


@virtual_time
async def test_a_hold_that_begins_while_the_store_is_asked_is_kept():
    redis = Redis()
    ((send, lines),) = sharing(redis, RateLimit(100))
    await send(call())
    redis.trip = 1.0
    waiting = [asyncio.ensure_future(at(send)) for _ in range(2)]
    await asyncio.sleep(0.5)
    only(lines).hold(5.0, now())
    assert [await one for one in waiting] == pytest.approx([5.0, 5.01])
    assert empty(lines)


async def leaving(cut):
    redis = Redis()
    redis.trip = 0.25
    ((send, lines),) = sharing(redis, RateLimit(1))
    await send(call())
    before = asyncio.ensure_future(at(send))
    await asyncio.sleep(0)
    with contextlib.suppress(asyncio.CancelledError):
        await cut(send(call()))
    last = await asyncio.gather(before, at(send), at(send))
    assert last == sorted(set(last))
    assert last[-1] <= 6.0
    assert empty(lines)


def test_at_whatever_step_one_leaves_nobody_waits_for_ever():
    assert at_every_step(leaving) > 4


def test_at_whatever_await_one_leaves_once_or_twice_nobody_waits_for_ever():
    faults = [Fault.CANCELLED, Fault.CANCELLED_LATE, Fault.CANCELLED_TWICE]
    assert at_every_await(leaving, loop_factory=VirtualLoop, faults=faults) > 3


DEEDS = st.one_of(
    st.tuples(st.just("come"), st.sampled_from([None, 0.5, 2.0, 5.0]), st.integers(-1, 1)),
    st.tuples(st.just("cancel"), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0]), st.just(0)),
    st.tuples(st.just("store"), st.booleans(), st.just(0)),
    st.tuples(st.just("hold"), st.sampled_from([0.3, 2.0]), st.just(0)),
)


@given(st.lists(DEEDS, max_size=40), st.integers(1, 3), st.sampled_from([0.0, 0.2]))
def test_whatever_becomes_of_the_store_each_call_goes_once_or_is_refused(deeds, members, trip):
    @virtual_time
    async def story():
        redis = Redis(members)
        redis.trip = trip
        engine = script(then=200)
        ((send, lines),) = sharing(redis, RateLimit(2), engine)
        tasks, went = [], []

        async def visit(asked):
            await send(asked)
            went.append(now())
            assert now() < asked.deadline

        for deed, amount, priority in deeds:
            if deed == "come":
                asked = call(timeout=amount)
                asked.priority = priority
                tasks.append(asyncio.ensure_future(visit(asked)))
            elif deed == "cancel" and tasks:
                tasks[amount % len(tasks)].cancel()
            elif deed == "pass":
                await asyncio.sleep(amount)
            elif deed == "store":
                redis.gone = amount
            elif deed == "hold" and lines:
                only(lines).hold(now() + amount, now())
            for line in lines.values():
                assert len(line.turns.times) >= line.waiting
                assert [*line.turns.times] == sorted(line.turns.times)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in done} <= {type(None), LimitReached, asyncio.CancelledError}
        assert len(went) == done.count(None) == len(engine.calls)
        assert empty(lines)

    story()
