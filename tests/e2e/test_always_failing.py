"""An upstream that always fails: little more is sent than was asked for, soon nothing at all, and no POST twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import inf

import pytest

from fairlead import HTTPClient
from fairlead.core import Policy
from fairlead.errors import CircuitOpen, ConnectFailed, Disconnected, FairleadError
from fairlead.events import CircuitOpened, Event
from fairlead.policies import CircuitBreaker, Hedge, Retry, standard
from fairlead.testing import script, virtual_time
from peers import PATIENCE, Line, Peer, answer

ENGINES = ("native", "httpx2", "aiohttp")
FAILS = 5
"""Failures in a row after which a circuit opens."""
SOON = 6.0
"""Seconds within which it does, however the upstream fails."""


def retried() -> tuple[Policy, ...]:
    return standard()


def hedged(delay: float | None = 0.05) -> tuple[Policy, ...]:
    return tuple(Hedge(delay=delay, attempts=3) if isinstance(one, Retry) else one for one in standard())


def learned() -> tuple[Policy, ...]:
    return hedged(None)


PIPELINES = pytest.mark.parametrize("pipeline", [retried, hedged, learned])


def allowed(calls: int, seconds: float) -> float:
    """Requests that so many calls may become: a fifth more, and ten in each second that has begun."""
    return 1.2 * calls + 10 * (int(seconds) + 1)


async def quietly(call) -> None:
    with suppress(FairleadError):
        await call


# On virtual time, for as long as it takes


@PIPELINES
@pytest.mark.parametrize("failure", [503, 429, ConnectFailed, Disconnected, inf], ids=str)
@pytest.mark.parametrize("rate", [1, 20, 300])
@virtual_time
async def test_what_is_sent_beside_first_attempts_stays_within_the_budget(pipeline, failure, rate):
    """Without a circuit, which would send less."""
    policies = tuple(one for one in pipeline() if not isinstance(one, CircuitBreaker))
    engine = script(then=failure)
    loop = asyncio.get_running_loop()
    async with HTTPClient(
        "https://shop.test", engine=engine, timeout=1.0, policies=policies, max_connections=None
    ) as shop:
        tasks = []
        for number in range(rate * 12):
            tasks.append(asyncio.create_task(quietly(shop.get("/", raise_for_status=False))))
            await asyncio.sleep(1 / rate)
            if not number % rate:
                assert len(engine.calls) <= allowed(len(tasks), loop.time())
        await asyncio.wait(tasks)
    assert len(engine.calls) <= allowed(len(tasks), loop.time())
    assert len(engine.calls) > len(tasks) or rate == 1 or failure == inf, "something was tried again"


@PIPELINES
@pytest.mark.parametrize("failure", [503, ConnectFailed, Disconnected, inf], ids=str)
@pytest.mark.parametrize("at_once", [1, 50])
@virtual_time
async def test_the_circuit_opens_soon_and_stays_open(pipeline, failure, at_once):
    engine, loop = script(then=failure), asyncio.get_running_loop()
    opened: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, CircuitOpened):
            opened.append(loop.time())

    async with HTTPClient("https://shop.test", engine=engine, timeout=1.0, policies=pipeline(), sinks=(note,)) as shop:
        while not opened:
            await asyncio.gather(*[quietly(shop.get("/", raise_for_status=False)) for _ in range(at_once)])
        assert opened[0] <= SOON
        if at_once == 1 and failure != inf:
            assert len(engine.calls) == FAILS
        sent = len(engine.calls)
        with pytest.raises(CircuitOpen):
            await shop.get("/")
        assert len(engine.calls) == sent
        while loop.time() < opened[0] + 600:
            await quietly(shop.get("/", raise_for_status=False))
            await asyncio.sleep(1.0)
        assert len(engine.calls) - sent <= 20, "probes alone, and ever fewer"


@PIPELINES
@pytest.mark.parametrize("failure", [503, 429, Disconnected, inf], ids=str)
@virtual_time
async def test_no_post_is_sent_twice(pipeline, failure):
    policies = tuple(one for one in pipeline() if not isinstance(one, CircuitBreaker))
    engine = script(then=failure)
    async with HTTPClient("https://shop.test", engine=engine, timeout=1.0, policies=policies) as shop:
        await asyncio.gather(*[quietly(shop.post("/pay", json={"order": number})) for number in range(50)])
    assert set(Counter(request.content for request in engine.requests).values()) == {1}


# On real sockets


async def unavailable(line: Line) -> None:
    while await line.request() is not None:
        await line.say(answer(b"", status=b"503 Service Unavailable"))


async def hangs_up(line: Line) -> None:
    await line.request()
    line.hang_up()


async def resets(line: Line) -> None:
    await line.request()
    line.reset()


async def silent(line: Line) -> None:
    await line.request()


async def stops_half_way(line: Line) -> None:
    await line.request()
    await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


async def babbles(line: Line) -> None:
    await line.request()
    await line.say(b"no HTTP at all\r\n\r\n")


TALKS: dict[str, Callable] = {
    talk.__name__: talk for talk in (unavailable, hangs_up, resets, silent, stops_half_way, babbles)
}
HANGS = {"silent", "stops_half_way"}
HANGING = 0.3
"""Seconds that a call has before one that says nothing: of fifty at once; a third of it where it is alone."""


@pytest.fixture(params=TALKS)
def talk(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pipeline", [retried, hedged])
async def test_it_is_left_alone_soon(engine, pipeline, talk):
    opened: list[Event] = []

    def note(event: Event) -> None:
        if isinstance(event, CircuitOpened):
            opened.append(event)

    bounds = HANGING / 3 if talk in HANGS else PATIENCE
    # A hedge that is sent because this machine is slow would be one failure more than were counted.
    policies = hedged(PATIENCE) if pipeline is hedged and talk not in HANGS else pipeline()
    async with Peer(TALKS[talk]) as peer:
        options = {"engine": engine, "timeout": bounds, "policies": policies, "sinks": (note,)}
        async with HTTPClient(peer.url, **options) as shop, asyncio.timeout(SOON):
            while not opened:
                await quietly(shop.get("/", raise_for_status=False))
            sent = len(peer.requests)
            with pytest.raises(CircuitOpen):
                await shop.get("/")
            await quietly(shop.post("/", json={}))
        assert len(peer.requests) == sent
        assert sent == FAILS or talk in HANGS


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pipeline", [retried, hedged])
async def test_no_post_arrives_twice_and_gets_stay_within_the_budget(engine, pipeline, talk):
    policies = tuple(one for one in pipeline() if not isinstance(one, CircuitBreaker))
    calls = 25
    loop = asyncio.get_running_loop()
    async with Peer(TALKS[talk]) as peer:
        options = {"engine": engine, "timeout": HANGING if talk in HANGS else PATIENCE, "policies": policies}
        async with HTTPClient(peer.url, **options) as shop, asyncio.timeout(PATIENCE):
            began = loop.time()
            posts = [shop.post("/pay", json={"order": number}) for number in range(calls)]
            gets = [shop.get("/", raise_for_status=False) for _ in range(calls)]
            await asyncio.gather(*map(quietly, [*posts, *gets]))
            seconds = loop.time() - began
        paid = Counter(seen.body for seen in peer.requests if seen.method == "POST")
        assert (len(paid), set(paid.values())) == (calls, {1})
        assert len(peer.requests) <= allowed(2 * calls, seconds + 1), "the second it began in is one of them"
