"""The concurrency limit: a fair line, bounded by the deadline, and no slot lost."""

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now
from fairlead.core import Timeout, Upstream
from fairlead.errors import AttemptTimedOut, ConfigError, ConnectFailed, DeadlineExceeded, Knowledge, LimitReached
from fairlead.policies import ConcurrencyLimit
from fairlead.policies.limit import Slots
from fairlead.testing import Pieces, script, virtual_time


def bound(engine, upstream=None, **numbers):
    upstream = upstream or Upstream("shop")
    recipe = ConcurrencyLimit(**numbers)
    return recipe.bind(engine.send, upstream), upstream.state(recipe, lambda: pytest.fail("no state was made"))


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
    assert "in line for a slot (limit 1)" in str(caught.value)
    assert len(slots.line) == 0
    await holding
    assert slots.taken == 0


@virtual_time
async def test_who_waits_in_line_waits_no_longer_than_asked_for():
    send, slots = bound(script(60.0, 200, then=200), limit=1)
    holding = asyncio.ensure_future(send(call(timeout=None)))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded, match=r"in line for a slot \(limit 1\): none was free for 0.5 s") as caught:
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
async def test_a_line_that_is_full_refuses():
    engine = script(1.0, 200, then=200)
    send, slots = bound(engine, limit=1, waiting=1)
    first, second = (asyncio.ensure_future(send(call())) for _ in range(2))
    await asyncio.sleep(0)
    with pytest.raises(LimitReached, match="1 under way and 1 waiting already"):
        await send(call())
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


@pytest.mark.parametrize("numbers", [{"limit": 0}, {"limit": 1.5}, {"limit": True}, {"waiting": -1}])
def test_numbers_that_cannot_work_are_refused(numbers):
    with pytest.raises(ConfigError, match=f"ConcurrencyLimit: {next(iter(numbers))}="):
        ConcurrencyLimit(**numbers)


def test_it_explains_itself():
    assert "at most 100 calls" in ConcurrencyLimit().explain()
    assert "a line of at most 5" in ConcurrencyLimit(waiting=5).explain()
    assert ConcurrencyLimit(limit=None).explain() == "concurrency limit: none"


@given(
    limit=st.integers(1, 4),
    deeds=st.lists(
        st.one_of(st.just("come"), st.just("leave"), st.just("turn"), st.tuples(st.just("cancel"), st.integers(0, 20))),
        max_size=60,
    ),
    closed=st.integers(0, 120),
)
def test_whatever_happens_slots_and_line_add_up(limit, deeds, closed):
    """Those inside never exceed the limit, nobody waits beside a free slot, and in the end nothing is taken.

    The client is closed before the deed of that number, if there are as many.
    """

    @virtual_time
    async def story():
        upstream = Upstream("shop")
        slots = Slots(limit, upstream)
        inside: list[asyncio.Task] = []

        async def visit(leave):
            if not slots.take() and not await slots.turn(inf):
                return
            inside.append(asyncio.current_task())
            try:
                await leave.wait()
            finally:
                inside.remove(asyncio.current_task())
                slots.release()

        visits: list[tuple[asyncio.Task, asyncio.Event]] = []
        for number, deed in enumerate(deeds):
            if number == closed:
                upstream.close()
            if deed == "come":
                leave = asyncio.Event()
                visits.append((asyncio.ensure_future(visit(leave)), leave))
            elif deed == "leave" and inside:
                next(leave for task, leave in visits if task is inside[0]).set()
            elif deed == "turn":
                await asyncio.sleep(0)
            elif isinstance(deed, tuple) and visits:
                visits[deed[1] % len(visits)][0].cancel()
            assert len(inside) <= slots.taken <= limit
            assert not slots.line or slots.taken == limit
        for _, leave in visits:
            leave.set()
        await asyncio.gather(*[task for task, _ in visits], return_exceptions=True)
        assert (slots.taken, len(slots.line), len(upstream.waiting)) == (0, 0, 0)

    story()
