"""The concurrency limit: a fair line, by priority, bounded by the deadline, and no slot lost."""

import asyncio
import gc
import weakref
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now
from fairlead import HTTPClient
from fairlead.core import Pipeline, Timeout, Upstream
from fairlead.errors import (
    AttemptTimedOut,
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    FairleadError,
    Knowledge,
    LimitReached,
    Refused,
)
from fairlead.message import Response
from fairlead.policies import Aimd, CircuitBreaker, ConcurrencyLimit, Gradient, RateLimit
from fairlead.policies.slots import LAST, Line
from fairlead.testing import Pieces, VirtualLoop, at_every_await, at_every_step, script, virtual_time


def bound(engine, upstream=None, **numbers):
    upstream = upstream or Upstream("shop")
    recipe = ConcurrencyLimit(**numbers)
    return recipe.bind(engine.send, upstream), upstream.state(recipe, lambda: pytest.fail("no state was made"))


def ranked(priority, url="https://shop.test/x", **options):
    """A call of that priority."""
    asked = call(url=url, **options)
    asked.priority = priority
    return asked


async def lined_up(send, *calls):
    """Tasks that send them, each of which has come as far as it does at once."""
    tasks = []
    for asked in calls:
        tasks.append(asyncio.ensure_future(send(asked)))
        await asyncio.sleep(0)
    return tasks


def held(slots):
    return slots.taken, slots.waiting, len(slots.upstream.waiting)


@virtual_time
async def test_no_more_than_the_limit_are_under_way_and_all_get_their_turn():
    most = under_way = 0

    class Busy:
        async def send(self, asked):
            nonlocal most, under_way
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(1)
            under_way -= 1
            return await script(200).send(asked)

    send, slots = bound(Busy(), limit=32)
    answers = await asyncio.gather(*[send(call()) for _ in range(320)])
    assert {answer.status_code for answer in answers} == {200}
    assert (most, now()) == (32, 10.0)
    assert (slots.taken, len(slots.line)) == (0, 0)


@virtual_time
async def test_first_come_first_served():
    served = []

    async def one(send, number):
        await send(call())
        served.append(number)

    engine = script(then=lambda _: asyncio.sleep(1, 200))
    send, _ = bound(engine, limit=1)
    await asyncio.gather(*[one(send, number) for number in range(10)])
    assert served == list(range(10))


@virtual_time
async def test_who_waits_in_line_waits_no_longer_than_the_deadline():
    send, slots = bound(script(60.0, 200, then=200), limit=1)
    holding = asyncio.ensure_future(send(call(timeout=None)))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded) as caught:
        await send(call(timeout=2.0))
    assert now() == 2.0
    assert (caught.value.phase, caught.value.knowledge) == ("waiting", Knowledge.NOT_SENT)
    assert "in line for a slot (limit 1, 1 under way and 0 waiting): the deadline passed" in str(caught.value)
    assert len(slots.line) == 0
    await holding
    assert slots.taken == 0


@virtual_time
async def test_who_waits_in_line_waits_no_longer_than_asked_for():
    send, slots = bound(script(60.0, 200, then=200), limit=1)
    holding = asyncio.ensure_future(send(call(timeout=None)))
    await asyncio.sleep(0)
    with pytest.raises(
        DeadlineExceeded, match=r"in line for a slot \(limit 1, .*\): none was free for 0.5 s"
    ) as caught:
        await send(call(timeout=Timeout(total=2.0, wait=0.5)))
    assert now() == 0.5
    assert (caught.value.phase, caught.value.knowledge) == ("waiting", Knowledge.NOT_SENT)
    with pytest.raises(DeadlineExceeded, match="the deadline passed"):
        await send(call(timeout=Timeout(total=2.0, wait=5.0)))
    assert now() == 2.5
    assert len(slots.line) == 0
    await holding
    assert slots.taken == 0


@virtual_time
async def test_of_a_whole_line_each_waits_until_its_own_time_by_one_timer():
    send, slots = bound(script(inf, then=200), limit=1)
    holding = asyncio.ensure_future(send(call(timeout=None)))
    ended = []

    async def one(seconds):
        with pytest.raises(DeadlineExceeded):
            await send(call(timeout=seconds))
        ended.append((seconds, now()))

    times = [3.0, 1.0, 2.0, 1.0, 5.0, 4.0]
    waiting = [asyncio.ensure_future(one(seconds)) for seconds in times]
    await asyncio.sleep(0)
    assert len(asyncio.get_running_loop()._scheduled) <= 3  # one is set; those it took the place of are forgotten soon
    await asyncio.gather(*waiting)
    assert ended == [(seconds, seconds) for seconds in sorted(times)]
    assert slots._timer is None
    holding.cancel()
    await asyncio.wait([holding])


@virtual_time
async def test_a_line_that_is_full_refuses():
    engine = script(1.0, 200, then=200)
    send, slots = bound(engine, limit=1, waiting=1)
    first, second = (asyncio.ensure_future(send(call())) for _ in range(2))
    await asyncio.sleep(0)
    with pytest.raises(LimitReached, match=r"the line is full \(limit 1, 1 under way and 1 waiting\)") as caught:
        await send(call())
    assert (caught.value.retry_after, slots.shed) == (None, 1)
    assert [answer.status_code for answer in await asyncio.gather(first, second)] == [200, 200]
    assert slots.taken == 0


@virtual_time
async def test_who_is_cancelled_leaves_the_line():
    send, slots = bound(script(inf, then=200), limit=1, waiting=1)
    holding = asyncio.ensure_future(send(call(timeout=5.0)))
    await asyncio.sleep(0)
    for _ in range(3):
        waiting = asyncio.ensure_future(send(call()))
        await asyncio.sleep(0)
        assert len(slots.line) == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        assert len(slots.line) == 0
    await asyncio.wait([holding])
    assert isinstance(holding.exception(), AttemptTimedOut)
    assert slots.taken == 0


@virtual_time
async def test_once_the_client_is_closed_nobody_waits():
    upstream = Upstream("shop")
    send, slots = bound(script((200, Pieces(b"a")), then=200), upstream, limit=1)
    holding = await send(call(stream=True))
    waiting = asyncio.ensure_future(send(call()))
    await asyncio.sleep(0)
    upstream.close()
    for late in (waiting, send(call()), send(call(timeout=None))):
        with pytest.raises(ConfigError, match="the client was closed") as caught:
            await late
        assert caught.value.knowledge is Knowledge.NOT_SENT
    assert now() == 0.0
    assert (slots.taken, len(slots.line), len(upstream.waiting)) == (1, 0, 0)
    holding.close()
    assert slots.taken == 0


@virtual_time
async def test_a_fault_frees_the_slot():
    send, slots = bound(script(ConnectFailed, KeyError), limit=1)
    with pytest.raises(ConnectFailed):
        await send(call())
    with pytest.raises(KeyError):
        await send(call())
    assert slots.taken == 0


@virtual_time
async def test_a_stream_keeps_its_slot_until_it_is_closed():
    send, slots = bound(script(then=(200, Pieces(b"a", b"b"))), limit=1)
    response = await send(call(stream=True))
    waiting = asyncio.ensure_future(send(call()))
    await asyncio.sleep(1)
    assert (slots.taken, waiting.done()) == (1, False)
    response.close()
    assert (await waiting).content == b"ab"
    assert slots.taken == 0


@virtual_time
async def test_two_pipelines_over_one_upstream_share_the_slots():
    upstream, engine = Upstream("shop"), script(then=200)
    _, one = bound(engine, upstream, limit=3)
    _, other = bound(engine, upstream, limit=3)
    assert one is other
    with pytest.raises(ConfigError, match="two different ConcurrencyLimit recipes"):
        bound(engine, upstream, limit=4)


def test_without_a_limit_it_is_not_there():
    engine = script()
    assert ConcurrencyLimit(limit=None).bind(engine.send, Upstream("shop")) == engine.send


@pytest.mark.parametrize("numbers", [{"limit": 0}, {"limit": 1.5}, {"limit": True}, {"limit": Aimd}, {"waiting": -1}])
def test_numbers_that_cannot_work_are_refused(numbers):
    with pytest.raises(ConfigError, match=f"ConcurrencyLimit: {next(iter(numbers))}="):
        ConcurrencyLimit(**numbers)


def test_it_explains_itself():
    assert "at most 100 calls" in ConcurrencyLimit().explain()
    assert "a line of at most 5" in ConcurrencyLimit(waiting=5).explain()
    assert "2 to 200: one more for each round trip" in ConcurrencyLimit(limit=Aimd()).explain()
    assert "a time-out, 503 or 429; the rest" in ConcurrencyLimit(limit=Aimd()).explain()
    assert "503, 429 or an answer that took more than 0.5 s" in ConcurrencyLimit(limit=Aimd(slow=0.5)).explain()
    assert "fewer while answers take more than 1.5 times" in ConcurrencyLimit(limit=Gradient()).explain()
    assert ConcurrencyLimit(limit=None).explain() == "concurrency limit: none"


# Priorities


@virtual_time
async def test_a_higher_priority_is_served_first_and_equals_in_the_order_they_came():
    served = []

    async def answer(request):
        served.append(request.target)
        return await asyncio.sleep(1, 200)

    send, slots = bound(script(then=answer), limit=1)
    names = [(0, "/first"), (-1, "/a"), (0, "/b"), (5, "/c"), (0, "/d"), (5, "/e"), (-1, "/f")]
    await asyncio.gather(*[send(ranked(priority, f"https://shop.test{path}")) for priority, path in names])
    assert served == ["/first", "/c", "/e", "/b", "/d", "/a", "/f"]
    assert held(slots) == (0, 0, 0)


@virtual_time
async def test_in_a_full_line_the_youngest_of_the_lowest_priority_makes_way():
    send, slots = bound(script(then=lambda _: asyncio.sleep(1, 200)), limit=1, waiting=3)
    first, old, young, high = await lined_up(
        send, ranked(0), ranked(0), ranked(0, "https://shop.test/young"), ranked(1)
    )
    (newcomer,) = await lined_up(send, ranked(2))
    await asyncio.sleep(0)
    refusal = young.exception()
    assert isinstance(refusal, LimitReached)
    assert "limit 1, 1 under way and 3 waiting); one of a higher priority came (GET https://shop.test/young)" in str(
        refusal
    )
    assert (refusal.retry_after, refusal.phase, refusal.knowledge) == (None, "waiting", Knowledge.NOT_SENT)
    (second,) = await lined_up(send, ranked(1))
    await asyncio.sleep(0)
    assert isinstance(old.exception(), LimitReached)
    with pytest.raises(LimitReached):
        await send(ranked(1))
    assert (slots.shed, slots.waiting) == (3, 3)
    await asyncio.gather(first, high, newcomer, second)
    assert now() == 4.0
    assert held(slots) == (0, 0, 0)


@virtual_time
async def test_where_nobody_may_wait_no_priority_helps():
    send, slots = bound(script(then=lambda _: asyncio.sleep(1, 200)), limit=1, waiting=0)
    (first,) = await lined_up(send, ranked(0))
    with pytest.raises(LimitReached):
        await send(ranked(9))
    await first
    assert held(slots) == (0, 0, 0)


@virtual_time
async def test_who_gives_up_in_this_turn_leaves_its_place_to_whoever_comes():
    send, slots = bound(script(then=lambda _: asyncio.sleep(1, 200)), limit=1, waiting=1)
    first, second = await lined_up(send, ranked(0), ranked(7))
    third = asyncio.ensure_future(send(ranked(0)))
    second.cancel()  # it leaves the line after the third has come
    await asyncio.gather(first, third)
    assert (second.cancelled(), slots.shed) == (True, 0)
    assert held(slots) == (0, 0, 0)


@virtual_time
async def test_a_verb_says_the_priority():
    served = []

    async def answer(request):
        served.append(request.target)
        return await asyncio.sleep(1, 200)

    limit = ConcurrencyLimit(limit=1)
    async with HTTPClient("https://shop.test", engine=script(then=answer), policies=(limit,)) as client:
        await asyncio.gather(client.get("/a"), client.get("/b"), client.post("/c", priority=1))
    assert served == ["/a", "/c", "/b"]


@virtual_time
async def test_a_priority_that_is_no_whole_number_is_refused():
    send, slots = bound(script(then=lambda _: asyncio.sleep(1, 200)), limit=1)
    (first,) = await lined_up(send, call())
    for wrong in ("high", None, 1.5):
        with pytest.raises(ConfigError, match=r"priority=.* is not a whole number"):
            await send(ranked(wrong))
    async with HTTPClient("https://shop.test", engine=script(200)) as client:
        with pytest.raises(ConfigError, match=r"priority='high' is not a whole number"):
            await client.get("/", priority="high")  # also where nobody waits
    await first
    assert held(slots) == (0, 0, 0)


# Turned away


def opened(asked):
    return CircuitOpen("circuit open", retry_after=5.0, request=asked.request)


@virtual_time
async def test_who_waits_when_a_circuit_opens_is_turned_away_and_leaves_the_line():
    engine = script(1.0, 200, then=200)
    send, slots = bound(engine, limit=1)
    first, second, third = await lined_up(send, call(), ranked(3), call(url="https://other.test/"))
    slots.upstream.turn_away(lambda asked: opened(asked) if asked.request.origin.host == "shop.test" else None)
    with pytest.raises(CircuitOpen, match="circuit open") as caught:
        await second
    assert (caught.value.retry_after, now()) == (5.0, 0.0)
    assert held(slots) == (1, 1, 1)
    await asyncio.gather(first, third)
    assert (len(engine.calls), held(slots)) == (2, (0, 0, 0))


@virtual_time
async def test_a_slot_that_is_freed_goes_past_who_has_just_been_turned_away():
    send, slots = bound(script(1.0, 200, then=200), limit=1)
    first, second, third = await lined_up(send, call(), call(url="https://shop.test/second"), call())
    slots.upstream.turn_away(lambda asked: opened(asked) if asked.request.target == "/second" else None)
    first.cancel()
    await asyncio.wait([first, second, third])
    assert (first.cancelled(), type(second.exception()), third.result().status_code) == (True, CircuitOpen, 200)
    assert held(slots) == (0, 0, 0)


@virtual_time
async def test_who_was_handed_a_slot_and_has_not_gone_yet_is_turned_away_too():
    send, slots = bound(script(inf, then=200), limit=1)
    first, second, third = await lined_up(send, call(), call(), call())
    slots.resize(2)
    assert slots.taken == 2
    slots.upstream.turn_away(opened)
    assert {type(one) for one in await asyncio.gather(second, third, return_exceptions=True)} == {CircuitOpen}
    assert slots.taken == 1
    first.cancel()
    await asyncio.wait([first])
    assert held(slots) == (0, 0, 0)


@pytest.mark.parametrize("settled", ["granted", "expired", "shed", "turned away", "closed"])
@virtual_time
async def test_cancelled_in_the_very_turn_in_which_its_wait_ends(settled):
    send, slots = bound(script(inf, then=200), limit=1, waiting=1)
    first, second = await lined_up(send, call(timeout=None), call(timeout=2.0))
    third = None
    if settled == "granted":
        slots.resize(2)
    elif settled == "expired":
        slots._expire(asyncio.get_running_loop())
    elif settled == "shed":
        third = asyncio.ensure_future(send(ranked(1)))
        await asyncio.sleep(0)
    elif settled == "turned away":
        slots.upstream.turn_away(opened)
    else:
        slots.upstream.close()
    assert not second.done()
    second.cancel()
    await asyncio.wait([second])
    assert second.cancelled()
    first.cancel()
    await asyncio.wait([first, *([third] if third else [])])
    assert held(slots) == (0, 0, 0)


# Time


@virtual_time
async def test_a_slot_that_comes_with_the_deadline_sends_nothing():
    engine = script(2.0, 200, then=200)
    send, slots = bound(engine, limit=1)
    first, second = await lined_up(send, call(timeout=None), call(timeout=2.0))
    with pytest.raises(DeadlineExceeded, match="the deadline passed") as caught:
        await second
    assert caught.value.knowledge is Knowledge.NOT_SENT
    await first
    assert (len(engine.calls), held(slots)) == (1, (0, 0, 0))


@virtual_time
async def test_a_loop_that_was_blocked_past_the_deadline_sends_nothing():
    engine = script(inf, then=200)
    send, slots = bound(engine, limit=1)
    first, second, third = await lined_up(send, call(timeout=None), call(timeout=2.0), call(timeout=9.0))
    first.cancel()
    await asyncio.sleep(0)
    asyncio.get_running_loop().now = 3.0
    with pytest.raises(DeadlineExceeded, match="the deadline passed"):
        await second
    assert (await third).status_code == 200
    assert (len(engine.calls), held(slots)) == (2, (0, 0, 0))


# What a dashboard reads


@virtual_time
async def test_its_state_says_who_is_under_way_who_waits_and_how_long_the_last_ones_did():
    send, slots = bound(script(then=lambda _: asyncio.sleep(1, 200)), limit=2, waiting=9)
    tasks = await lined_up(send, *[call() for _ in range(5)])
    assert (slots.limit, slots.taken, slots.waiting, slots.shed, list(slots.waited)) == (2, 2, 3, 0, [])
    assert repr(slots) == "<2 of 2 slots taken, 3 waiting>"
    await asyncio.gather(*tasks)
    assert list(slots.waited) == [1.0, 1.0, 2.0]
    await send(call())
    assert len(slots.waited) == 3
    assert slots.waited.maxlen == LAST


# A limit that changes


@virtual_time
async def test_a_limit_that_shrinks_cuts_nobody_short_and_one_that_grows_lets_the_line_through_at_once():
    send, slots = bound(script(then=lambda _: asyncio.sleep(1, 200)), limit=4)
    tasks = await lined_up(send, *[call() for _ in range(12)])
    slots.resize(2)
    assert (slots.taken, slots.waiting) == (4, 8)
    await asyncio.sleep(1.5)
    assert [task.done() for task in tasks[:4]] == [True] * 4
    assert (slots.taken, slots.waiting) == (2, 6)
    slots.resize(5)
    assert (slots.taken, slots.waiting) == (5, 3)
    await asyncio.gather(*tasks)
    assert (now(), held(slots)) == (3.5, (0, 0, 0))


# Cancelled at every step


def numbers(kind):
    return {"limit": 1} if kind == "fixed" else {"limit": Aimd(initial=1, least=1, most=2)}


@pytest.mark.parametrize("kind", ["fixed", "adaptive"])
@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
def test_cancelled_at_any_step_no_slot_is_lost(kind, stream):
    async def story(cut):
        engine = script(0.1, 200, 0.1, 503, then=(200, Pieces(b"a", 0.1, b"b")))
        send, slots = bound(engine, waiting=3, **numbers(kind))
        others = await lined_up(send, *[ranked(priority) for priority in (0, 2, -1)])

        async def work():
            response = await send(ranked(1, stream=stream))
            try:
                await response.aread()
            finally:
                response.close()

        await cut(work())
        await asyncio.gather(*others, return_exceptions=True)
        assert (held(slots), engine.open) == ((0, 0, 0), 0)

    assert at_every_step(story) > 5


@pytest.mark.parametrize("kind", ["fixed", "adaptive"])
def test_whatever_fails_or_is_cancelled_at_any_await_even_twice_no_slot_is_lost(kind):
    async def story(cut):
        engine = script(0.01, 200, 0.01, 503, then=(200, Pieces(b"a", 0.01, b"b")))
        send, slots = bound(engine, waiting=3, **numbers(kind))

        async def work():
            tasks = await lined_up(send, *[ranked(priority) for priority in (0, 2, -1)])
            try:
                response = await send(ranked(1, stream=True))
                try:
                    await response.aread()
                finally:
                    response.close()
            finally:
                await asyncio.gather(*tasks, return_exceptions=True)

        await cut(work())
        await asyncio.sleep(9.0)  # tasks that the work could not wait for
        assert (held(slots), engine.open) == ((0, 0, 0), 0)

    assert at_every_await(story, loop_factory=VirtualLoop) > 5


# The line, as a rule


@given(deeds=st.lists(st.tuples(st.sampled_from(["join", "leave", "first", "last"]), st.integers(-2, 2)), max_size=60))
def test_the_line_serves_the_eldest_of_the_highest_and_ends_with_the_youngest_of_the_lowest(deeds):
    line, model, number = Line(), [], 0
    for deed, priority in deeds:
        if deed == "join":
            number += 1
            line.join(number, f"call {number}", priority, inf)
            model.append((-priority, number))
        elif deed == "leave":
            one = number // 2
            where = [place for place in model if place[1] == one]
            rank = -where[0][0] if where else priority
            assert line.leave(one, rank) == bool(where)
            model = [place for place in model if place[1] != one]
        elif model:
            if deed == "first":
                assert line.first() == min(model)[1]
                model.remove(min(model))
            else:
                assert line.last() == (max(model)[1], f"call {max(model)[1]}")
        assert len(line) == len(model)
        assert line.ranks == sorted({-rank for rank, _ in model})


class Watched(Line):
    """Nobody is served before one of a higher priority, or an elder of the same, that still waits."""

    def first(self):
        waiting = [(-rank, place) for rank in self.ranks for place in self._equals[rank]]
        live = [(rank, place) for rank, place in waiting if not place.done()]
        served = super().first()
        if not served.done():
            highest = min(rank for rank, _ in live)
            assert served is next(place for rank, place in live if rank == highest)
        return served


DEEDS = st.one_of(
    st.tuples(st.just("come"), st.integers(-1, 1), st.sampled_from([inf, 2.0])),
    st.tuples(st.sampled_from(["leave", "cancel", "away"]), st.integers(0, 20)),
    st.tuples(st.just("resize"), st.integers(1, 5)),
    st.just(("turn",)),
    st.just(("pass",)),
)


@given(
    limit=st.integers(1, 4),
    waiting=st.one_of(st.none(), st.integers(0, 3)),
    deeds=st.lists(DEEDS, max_size=60),
    closed=st.integers(0, 120),
)
def test_whatever_happens_slots_and_line_add_up(limit, waiting, deeds, closed):
    """Those inside never exceed the limit, but where it shrank, nobody waits beside a free slot, and in the end nothing is taken.

    The client is closed before the deed of that number, if there are as many.
    """

    @virtual_time
    async def story():
        inside = []
        leaves = {}

        class Engine:
            async def send(self, asked):
                inside.append(asked)
                try:
                    await leaves[asked].wait()
                    return Response(200)
                finally:
                    inside.remove(asked)

        upstream = Upstream("shop")
        send, slots = bound(Engine(), upstream, limit=limit, waiting=waiting)
        slots.line = Watched()
        visits = []
        before = 0

        def check():
            nonlocal before
            assert len(inside) <= slots.taken <= max(slots.limit, before)
            assert slots.taken >= slots.limit or not any(not grant.done() for grant in upstream.waiting)
            before = slots.taken

        for number, (deed, *how) in enumerate(deeds):
            if number == closed:
                upstream.close()
            if deed == "come":
                asked = ranked(how[0], timeout=how[1] if how[1] < inf else None)
                leaves[asked] = asyncio.Event()
                visits.append((asyncio.ensure_future(send(asked)), asked))
            elif deed == "turn":
                await asyncio.sleep(0)
            elif deed == "pass":
                await asyncio.sleep(1)
            elif deed == "resize":
                slots.resize(how[0])
            elif visits:
                task, chosen = visits[how[0] % len(visits)]
                if deed == "leave":
                    leaves[chosen].set()
                elif deed == "cancel":
                    task.cancel()
                else:
                    upstream.turn_away(lambda asked, chosen=chosen: opened(asked) if asked is chosen else None)
            check()
        for leave in leaves.values():
            leave.set()
        done = await asyncio.gather(*[task for task, _ in visits], return_exceptions=True)
        assert all(isinstance(one, Response | FairleadError | asyncio.CancelledError) for one in done)
        assert held(slots) == (0, 0, 0)

    story()


class Slow:
    """An engine that keeps nothing of what it was asked."""

    def __init__(self, first):
        self.answers = [first]

    async def send(self, asked):
        await asyncio.sleep(0.5)
        status, headers = self.answers.pop() if self.answers else (200, [])
        return Response.received(status, headers, b"", asked.request, 0.5)


@pytest.mark.parametrize(
    ("policies", "first"),
    [
        ((CircuitBreaker(consecutive=1), ConcurrencyLimit(limit=1)), (503, [])),
        ((CircuitBreaker(consecutive=1), RateLimit(1.0)), (503, [])),
        ((ConcurrencyLimit(limit=1, waiting=2),), (200, [])),
        ((RateLimit(4.0),), (429, [(b"retry-after", b"60")])),
        ((RateLimit(None), ConcurrencyLimit(limit=1)), (429, [(b"retry-after", b"60")])),
    ],
)
@virtual_time
async def test_a_call_that_is_refused_in_line_is_forgotten_at_once(policies, first):
    """A refusal whose traceback leads back to it would keep the call, and thousands in line, until they are looked for."""
    gc.collect()
    gc.disable()
    try:
        send = Pipeline(policies).bind(Slow(first).send, Upstream("shop"))
        refused = []

        async def one(place):
            asked = call(timeout=10.0)
            asked.priority = place
            try:
                await send(asked)
            except Refused as error:
                refused.append(weakref.ref(error))

        await asyncio.gather(*[one(place) for place in range(6)])
        await asyncio.sleep(0)
        assert refused
        assert [error() for error in refused] == [None] * len(refused)
    finally:
        gc.enable()
