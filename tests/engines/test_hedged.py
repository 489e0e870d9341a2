"""Hedges on real sockets: whichever attempt wins, its answer can be read to the end, and the others' connections are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from fairlead import HTTPClient
from fairlead.errors import Disconnected
from fairlead.policies import Budget, ConcurrencyLimit, Hedge
from fairlead.testing import at_every_await, at_every_step
from peers import PATIENCE, Line, Peer, answer, loops, moment

NAMES = ("native", "httpx2", "aiohttp")
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"5\r\nhello\r\n"
END = b"0\r\n\r\n"


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[False, True], ids=["buffered", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    return request.param


def client(peer: Peer, engine: str, attempts: int = 2, delay: float = 0.0) -> HTTPClient:
    hedge = Hedge(delay=delay, attempts=attempts, budget=Budget(floor=1000.0))
    return HTTPClient(peer.url, engine=engine, timeout=PATIENCE, policies=(hedge, ConcurrencyLimit(limit=50)))


async def get(shop: HTTPClient, path: str = "/", *, stream: bool, **options) -> bytes:
    if not stream:
        return (await shop.get(path, **options)).content
    async with shop.stream("GET", path, **options) as response:
        return await response.aread()


def slots(shop: HTTPClient) -> int:
    return shop.upstream.states["ConcurrencyLimit", "default"].taken


def answers(number: int, of: int) -> Callable[[Line], Awaitable[None]]:
    """A talk in which the request of that number is answered when all have come, its body's end when the others are gone."""

    async def talk(line: Line) -> None:
        if await line.request() is None:
            return
        own = len(line.peer.requests)
        await line.peer.until(lambda: len(line.peer.requests) == of)
        if own == number:
            await line.say(HEAD, CHUNK)
            if line.peer.words:  # of a stream the winner is known by its head
                await line.peer.until(lambda: line.peer.open == 1)
            await line.say(CHUNK, END)

    return talk


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_the_winner_is_read_to_its_end_and_the_others_are_gone(engine, stream, number):
    async with Peer(answers(number, of=3)) as peer:
        if stream:
            peer.words.append(b"stream")
        async with client(peer, engine, attempts=3) as shop:
            assert await get(shop, stream=stream) == b"hellohello"
            await peer.until(lambda: peer.open == 1)
            assert (len(peer.requests), slots(shop)) == (3, 0)
        await peer.empty()


async def test_a_connection_that_won_is_used_again_in_whichever_task(engine, stream):
    async def talk(line: Line) -> None:
        while await line.request() is not None:
            if len(line.peer.requests) != 1:
                await line.say(answer(b"%d" % line.peer.accepted))

    async with Peer(talk) as peer, client(peer, engine, delay=0.05) as shop:
        assert await get(shop, stream=stream) == b"2"
        # Else a slow machine hedges what is answered at once.
        patient = Hedge(delay=PATIENCE, budget=None, name="patient")
        assert [await get(shop, stream=stream, hedge=patient) for _ in range(2)] == [b"2"] * 2
        assert peer.accepted == 2


async def test_an_attempt_whose_connection_dies_is_followed_at_once(engine, stream):
    async def talk(line: Line) -> None:
        await line.request()
        if len(line.peer.requests) == 1:
            line.reset()
        else:
            await line.say(answer())

    async with Peer(talk) as peer, client(peer, engine, delay=PATIENCE / 2) as shop:
        assert await get(shop, stream=stream) == b"ok"
        assert slots(shop) == 0


async def test_when_all_die_that_is_raised(engine, stream):
    async def talk(line: Line) -> None:
        await line.request()
        await line.peer.until(lambda: len(line.peer.requests) == 2)
        line.hang_up()

    async with Peer(talk) as peer, client(peer, engine) as shop:
        with pytest.raises(Disconnected):
            await get(shop, stream=stream)
        assert slots(shop) == 0
        await peer.empty()


async def test_a_caller_that_is_cancelled_leaves_no_connection(engine, stream):
    async def talk(line: Line) -> None:
        await line.request()

    async with Peer(talk) as peer, client(peer, engine, attempts=3) as shop:
        task = asyncio.create_task(get(shop, stream=stream))
        await peer.until(lambda: len(peer.requests) == 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert slots(shop) == 0
        await peer.empty()


async def test_a_time_limit_around_the_call_is_no_cancellation_of_the_caller(engine, stream):
    async def talk(line: Line) -> None:
        await line.request()

    async with Peer(talk) as peer, client(peer, engine) as shop:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                task = asyncio.current_task()
                told = asyncio.create_task(peer.until(lambda: len(peer.requests) == 2))
                told.add_done_callback(lambda _: limit.reschedule(0.0))
                await get(shop, stream=stream)
        assert task.cancelling() == 0
        await peer.empty()


async def test_many_at_once_leave_nothing(engine, stream):
    """The first attempt of every other call is never answered."""
    asked: list[str] = []

    async def talk(line: Line) -> None:
        while (seen := await line.request()) is not None:
            asked.append(seen.target)
            if asked.count(seen.target) > 1 or int(seen.target[1:]) % 2:
                await line.say(answer(seen.target.encode()))

    async with Peer(talk) as peer, client(peer, engine, delay=0.1) as shop:
        found = await asyncio.gather(*[get(shop, f"/{number}", stream=stream) for number in range(20)])
        assert found == [b"/%d" % number for number in range(20)]
        assert slots(shop) == 0
        await peer.until(lambda: peer.open <= 20)


def tasks(*, of: tuple[str, ...]) -> list[asyncio.Task]:
    """Those beside the test's own that run something of a class with such a name."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return [task for task in others if getattr(task.get_coro(), "__qualname__", "").startswith(of)]


def scened(stream: bool):
    async def talk(line: Line) -> None:
        await line.request()
        if len(line.peer.requests) == 1:
            with suppress(TimeoutError):
                await asyncio.wait_for(line.gone(), 0.02)
        await line.say(HEAD, CHUNK, CHUNK, END)

    async def story(cut) -> None:
        async with Peer(talk) as peer:
            async with client(peer, "native") as shop:
                await cut(get(shop, stream=stream))
                assert slots(shop) == 0
                theirs = tasks(of=("Peer", "Line", "BaseSelectorEventLoop"))
                assert set(tasks(of=("",))) == set(theirs)
            while tasks(of=("BaseSelectorEventLoop",)):  # the loop accepts a caller that has gone again
                await moment()
            await peer.empty()

    return story


@pytest.mark.parametrize("loop", loops(), ids=lambda loop: loop.__module__.partition(".")[0])
def test_whatever_fails_or_is_cancelled_at_any_await_nothing_is_left(loop, stream):
    assert at_every_await(scened(stream), loop_factory=loop) >= 3


def test_cancelled_at_any_step_nothing_is_left(stream):
    assert at_every_step(scened(stream), real=True) >= 5
