"""Limits that processes share through Redis: the scripts with numbers, members before a real Redis, and that Redis lost and back."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from fairlead import ConfigError, HTTPClient
from fairlead.core import Send, Upstream
from fairlead.errors import CircuitOpen, ConnectFailed, LimitReached
from fairlead.events import CircuitClosed, CircuitOpened, Event, SharingLost, SharingResumed
from fairlead.policies import CircuitBreaker
from fairlead.policies.rate import RateLimit
from fairlead.sharing import RedisStore, member, scripts, store, talk
from fairlead.testing import at_every_await, at_every_step, script
from peers import closed_port, loops, moment
from services import PORTS, Gate, keys, until

redis_needed = pytest.mark.service("redis")
URL: Final = f"redis://127.0.0.1:{PORTS['redis']}/0"
SURE: Final = 5.0
"""Seconds in which a Redis answers that is there, on the slowest of machines."""
SOON: Final = 0.2
"""Seconds after which one that is asked and does not answer is gone, where a test waits for just that."""


@pytest.fixture
def prefix() -> Iterator[str]:
    with keys() as made:
        yield made


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis(port=PORTS["redis"]) as made:
        yield made


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    async with Gate(PORTS["redis"]) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is lost tries to come back after a moment."""
    monkeypatch.setattr(member, "BACK", (0.02, 0.05))


class One:
    """A member, and what it told."""

    def __init__(
        self, url: str, prefix: str, *, name: str = "shop", timeout: float = SURE, every: float = 0.05
    ) -> None:
        self.events: list[Event] = []
        self.upstream = Upstream(name, (self.events.append,))
        self.shared = RedisStore(url, prefix=prefix, timeout=timeout, every=every).share(self.upstream)

    async def __aenter__(self) -> Self:
        self.shared.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shared.close()

    async def reserve(
        self, key: str = "all", *, interval: float = 60.0, burst: int = 2, patience: float = 1e6
    ) -> float | None:
        return await self.shared.reserve(key, interval=interval, burst=burst, patience=patience)

    @property
    def told(self) -> list[str]:
        """The store's losses and returns, by name."""
        return [type(event).__name__ for event in self.events if isinstance(event, SharingLost | SharingResumed)]


def leftovers() -> list[str]:
    """Tasks beside the one that asks."""
    return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]


# The script of reservations, by a clock of the test's


class Reference:
    """The generic cell rate algorithm in whole microseconds."""

    def __init__(self) -> None:
        self.due = 0

    def reserve(self, now: int, interval: int, burst: int, patience: int, owed: int) -> tuple[int, int]:
        due = max(now, self.due)
        if owed:
            self.due = due = due + owed * interval
        wait = max(0, due - (burst - 1) * interval - now)
        if wait > patience:
            return 0, wait
        self.due = due + interval
        return 1, wait


AT: Final = 1_790_000_000
TIMED: Final = scripts.RESERVE.text.replace(b"redis.call('TIME')", b"{ARGV[5], ARGV[6]}")
steps = st.lists(
    st.tuples(
        st.integers(0, 3_000_000),
        st.integers(0, 5_000_000) | st.just(10**14),
        st.just(0) | st.integers(0, 5),
    ),
    min_size=1,
    max_size=30,
)


@redis_needed
class TestTheScript:
    def reserve(
        self, redis: Redis, key: str, now: int, interval: float, burst: int, patience: float, owed: int = 0
    ) -> tuple[int, int]:
        seconds, micros = divmod(now, 1_000_000)
        found: Any = redis.eval(TIMED, 1, key, repr(interval), burst, repr(patience), owed, AT + seconds, micros)
        return tuple(found)

    @given(steps=steps, interval=st.integers(1, 2_000_000), burst=st.integers(1, 20))
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    def test_gives_the_turns_that_the_rule_gives(
        self, redis: Redis, prefix: str, steps: list[tuple[int, int, int]], interval: int, burst: int
    ) -> None:
        key, reference, now, given = f"{prefix}:rule", Reference(), 0, []
        redis.delete(key)
        for pause, patience, owed in steps:
            now += pause
            told = self.reserve(redis, key, now, interval, burst, patience, owed)
            assert told == reference.reserve(now, interval, burst, patience, owed)
            if told[0]:
                given.append(now + told[1])
                left = reference.due - now
                assert redis.pttl(key) * 1000 > left - 1_000_000, "gone while it still says busy"
        for first, turn in enumerate(given):
            for many, later in enumerate(given[first:], 1):
                assert later - turn >= (many - burst) * interval, "more turns than the rate and the burst"

    def test_keeps_a_rate_that_is_no_whole_number_of_microseconds(self, redis: Redis, prefix: str) -> None:
        interval = 1e6 / 3
        waits = [self.reserve(redis, prefix, 0, interval, 1, 1e14)[1] for _ in range(3001)]
        assert waits[-1] == pytest.approx(1000e6, abs=400)

    def test_never_lets_go_of_a_key_that_says_busy(self, redis: Redis, prefix: str) -> None:
        for _ in range(5):
            self.reserve(redis, prefix, 0, 20_000, 5, 0)
        assert self.reserve(redis, prefix, 0, 20_000, 5, 0)[0] == 0
        assert 1000 <= redis.pttl(prefix) <= 1100

    def test_reserves_nothing_for_who_would_not_wait(self, redis: Redis, prefix: str) -> None:
        self.reserve(redis, prefix, 0, 1_000_000, 1, 0)
        before = redis.get(prefix)
        for patience in (999_999, 0, -1):
            assert self.reserve(redis, prefix, 0, 1_000_000, 1, patience) == (0, 1_000_000)
        assert redis.get(prefix) == before
        assert self.reserve(redis, prefix, 0, 1_000_000, 1, 1_000_000) == (1, 1_000_000)

    def test_gives_turns_after_those_that_are_owed(self, redis: Redis, prefix: str) -> None:
        assert self.reserve(redis, prefix, 0, 1_000_000, 1, 1e14, owed=3) == (1, 3_000_000)
        assert self.reserve(redis, prefix, 0, 1_000_000, 1, 0, owed=2) == (0, 6_000_000)
        assert self.reserve(redis, prefix, 0, 1_000_000, 1, 1e14) == (1, 6_000_000)

    def test_without_any_patience_only_looks(self, redis: Redis, prefix: str) -> None:
        assert self.reserve(redis, prefix, 0, 1_000_000, 1, -1) == (0, 0)
        assert not redis.exists(prefix)


@redis_needed
class TestTurns:
    async def test_are_one_line_for_all_members(self, prefix: str) -> None:
        async with One(URL, prefix) as one, One(URL, prefix) as other:
            waits = [await each.reserve() for _ in range(2) for each in (one, other)]
        assert waits[:2] == [0.0, 0.0]
        assert waits[2:] == [pytest.approx(60.0, abs=SURE), pytest.approx(120.0, abs=SURE)]

    async def test_are_apart_for_other_keys_names_and_prefixes(self, prefix: str) -> None:
        for made in (
            One(URL, prefix),
            One(URL, prefix, name="shop:all"),
            One(URL, prefix, name="{shop}"),
            One(URL, prefix, name="läden \n*?[a]\x00 \udc80"),
            One(URL, f"{prefix}:shop"),
        ):
            async with made as one:
                for key in ("a", "a:b", "https://[::1]:8443", "\n\udcff{}"):
                    assert await one.reserve(key, burst=1) == 0.0
                    assert await one.reserve(key, burst=1, patience=1.0) > 1.0
            assert one.told == []

    async def test_that_nobody_waits_for_are_not_reserved(self, prefix: str) -> None:
        async with One(URL, prefix) as one:
            await one.reserve(burst=1)
            assert [await one.reserve(burst=1, patience=patience) > patience for patience in (0.0, -1.0, 30.0)] == [
                True
            ] * 3
            assert 30.0 < await one.reserve(burst=1, patience=inf) <= 60.0

    async def test_come_all_at_once_over_one_connection(self, prefix: str, gate: Gate) -> None:
        async with One(gate.url, prefix) as one:
            waits = await asyncio.gather(*[one.reserve(burst=200) for _ in range(300)])
        assert waits[:200] == [0.0] * 200
        assert waits[200:] == sorted(waits[200:])
        assert waits[-1] == pytest.approx(6000.0, abs=SURE)
        assert gate.accepted == 1

    async def test_are_given_by_a_redis_that_does_not_know_the_script(
        self, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unknown = scripts.Script(f"-- {prefix}\n{scripts.RESERVE.text.decode()}")
        monkeypatch.setattr(member, "RESERVE", unknown)
        async with One(URL, prefix) as one:
            waits = await asyncio.gather(*[one.reserve() for _ in range(4)])
            assert [wait > 0 for wait in waits] == [False, False, True, True]
            assert await one.reserve() is not None
        assert one.told == []

    async def test_are_none_before_the_start_and_after_the_end(self, prefix: str) -> None:
        one = One(URL, prefix)
        assert await one.reserve() is None
        async with one:
            assert await one.reserve() == 0.0
        assert await one.reserve() is None
        await one.shared.close()
        assert one.told == []
        assert leftovers() == []

    async def test_begin_anew_on_the_same_loop_after_an_end(self, prefix: str) -> None:
        one = One(URL, prefix)
        for _ in range(2):
            async with one:
                assert await one.reserve() == 0.0

    @pytest.mark.parametrize("loop", loops(), ids=lambda loop: loop.__module__.partition(".")[0])
    def test_begin_anew_on_another_loop(self, prefix: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        one = One(URL, prefix)

        async def told() -> float | None:
            one.shared.start()
            return await one.reserve()

        for _ in range(2):
            with asyncio.Runner(loop_factory=loop) as runner:
                assert runner.run(told()) == 0.0
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(one.shared.close())
        assert one.told == []


@redis_needed
class TestWhoIsCancelled:
    def test_leaves_the_connection_to_the_others(self, prefix: str) -> None:
        async def story(cut: Any) -> None:
            async with One(URL, prefix) as one:
                await one.reserve("first")
                line = one.shared._line
                await cut(one.reserve("cut", interval=1e-3))
                assert [await one.reserve("after", interval=1e-3, burst=10**6) for _ in range(3)] == [0.0] * 3
                assert one.shared._line is line
                assert one.told == []
            assert leftovers() == []

        assert at_every_step(story, real=True) > 3

    def test_leaves_nothing_behind_wherever_it_was(self, prefix: str) -> None:
        async def life(one: One) -> None:
            async with one:
                await one.reserve()
                await one.reserve()

        async def story(cut: Any) -> None:
            one = One(URL, prefix, timeout=SOON)
            await cut(life(one))
            await one.shared.close()
            await until(lambda: not leftovers())
            latest = one.shared._latest
            assert latest is None or latest.transport is None

        for loop in loops():
            assert at_every_await(story, loop_factory=loop) > 10


@redis_needed
class TestAStoreThatIsLost:
    @pytest.fixture
    async def one(self, gate: Gate, prefix: str) -> AsyncIterator[One]:
        """A member of two, which has heard of the other."""
        async with One(URL, prefix), One(gate.url, prefix, timeout=SOON) as one:
            await until(lambda: one.shared.members == 2)
            yield one

    async def lost(self, one: One) -> SharingLost:
        await until(lambda: one.told == ["SharingLost"])
        (event,) = [event for event in one.events if isinstance(event, SharingLost)]
        return event

    async def back(self, gate: Gate, one: One) -> None:
        await gate.restore()
        await until(lambda: one.told == ["SharingLost", "SharingResumed"])
        assert await one.reserve() is not None

    async def test_is_told_once_and_so_is_its_return(self, gate: Gate, one: One) -> None:
        gate.cut()
        assert (await self.lost(one)).store == f"redis://127.0.0.1:{gate.port}/0"
        tries = []
        line = one.shared._new_line
        one.shared._new_line = lambda broken: tries.append(line(broken)) or tries[-1]
        assert [await one.reserve() for _ in range(100)] == [None] * 100
        await until(lambda: len(tries) >= 3)
        assert one.told == ["SharingLost"]
        await self.back(gate, one)
        assert one.told == ["SharingLost", "SharingResumed"]

    async def test_leaves_each_its_share_of_the_last_count(self, gate: Gate, one: One) -> None:
        gate.cut()
        assert (await self.lost(one)).members == 2
        assert one.shared.members == 2

    @pytest.mark.parametrize("how", ["frozen", "slow"])
    async def test_is_waited_for_once_by_those_who_are_there_and_by_none_who_comes_later(
        self, gate: Gate, one: One, how: str
    ) -> None:
        if how == "frozen":
            gate.freeze()
        else:
            gate.slow(3600.0)
        assert await asyncio.gather(*[one.reserve() for _ in range(50)]) == [None] * 50
        event = await self.lost(one)
        assert isinstance(event.error, TimeoutError)
        coming = one.reserve()
        with pytest.raises(StopIteration):  # without a turn of the loop
            coming.send(None)
        await self.back(gate, one)

    async def test_is_left_alone_by_calls(self, gate: Gate, one: One, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(member, "BACK", (3600.0, 3600.0))
        await one.shared.close()
        one.shared.start()
        assert await one.reserve() is not None
        gate.cut()
        await self.lost(one)
        await gate.restore()
        carried, accepted = gate.carried, gate.accepted
        assert [await one.reserve() for _ in range(100)] == [None] * 100
        assert (gate.carried, gate.accepted) == (carried, accepted)

    async def test_that_was_never_there_is_lost_too(self, gate: Gate, prefix: str) -> None:
        gate.cut()
        async with One(gate.url, prefix) as one:
            assert await one.reserve() is None
            assert (await self.lost(one)).members == 1
            await self.back(gate, one)

    async def test_that_lets_in_and_never_answers_is_lost_too(self, gate: Gate, prefix: str) -> None:
        gate.freeze()
        async with One(gate.url, prefix, timeout=SOON) as one:
            assert await asyncio.gather(one.reserve(), one.reserve()) == [None, None]
            await self.lost(one)
            await self.back(gate, one)
        await until(lambda: gate.callers == 0)

    @pytest.mark.parametrize(
        "lie",
        [
            b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
            b"-READONLY You can't write against a read only replica.\r\n",
            b"-MOVED 3999 127.0.0.1:6381\r\n",
            b"-LOADING Redis is loading the dataset in memory\r\n",
            b"-NOAUTH Authentication required.\r\n",
            b"+OK\r\n",
            b"$-1\r\n",
            b"*2\r\n:1\r\n$1\r\nx\r\n",
            b"*0\r\n*0\r\n*0\r\n",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ],
        ids=lambda lie: lie[:8].decode(),
    )
    async def test_is_what_answers_wrongly(self, gate: Gate, one: One, lie: bytes) -> None:
        gate.lie = lie
        assert await one.reserve() is None
        await self.lost(one)
        await self.back(gate, one)

    async def test_is_not_back_before_it_can_do_what_it_could_not(self, gate: Gate, one: One, redis: Redis) -> None:
        assert await one.reserve("good") == 0.0
        (key,) = redis.scan_iter(match=f"*{one.shared._store.prefix}*turns:good", count=1000)
        redis.delete(key)
        redis.lpush(key, "a list")
        assert await one.reserve("good") is None
        await self.lost(one)
        accepted = gate.accepted
        await until(lambda: gate.accepted >= accepted + 3)
        assert one.told == ["SharingLost"]
        redis.delete(key)
        await self.back(gate, one)
        assert redis.type(key) == b"none"

    async def test_counts_who_was_there_until_all_are_back(
        self, gate: Gate, prefix: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who is back first is alone, and would have the whole rate for itself were the store lost again."""
        monkeypatch.setattr(member, "SETTLES", 1e6)
        async with One(gate.url, prefix, timeout=SOON) as one:
            async with One(URL, prefix):
                await until(lambda: one.shared.members == 2)
                gate.cut()
                await self.lost(one)
            redis.delete(*redis.scan_iter(match=f"*{prefix}*", count=1000))
            await self.back(gate, one)
            assert one.shared.members == 2
            one.shared._whole = 0.0
            await until(lambda: one.shared.members == 1)

    async def test_forgets_nothing_that_matters(self, one: One, redis: Redis, gate: Gate) -> None:
        """Its keys are gone, as after a restart without a disk: it goes on from there."""
        await one.reserve()
        redis.delete(*redis.scan_iter(match=f"*{one.shared._store.prefix}*", count=1000))
        assert await one.reserve() == 0.0
        await until(lambda: redis.scan_iter(match=f"*{one.shared._store.prefix}*members"))
        await until(lambda: one.shared.members == 2)
        assert one.told == []

    @pytest.mark.parametrize("loop", loops(), ids=lambda loop: loop.__module__.partition(".")[0])
    @pytest.mark.parametrize("how", ["cut", "frozen", "frozen and asked", "never there"])
    def test_holds_up_no_end(self, prefix: str, how: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        async def story() -> None:
            async with Gate(PORTS["redis"]) as gate, asyncio.timeout(SURE):
                if how == "never there":
                    gate.freeze()
                one = One(gate.url, prefix, timeout=SOON)
                async with one:
                    if how == "never there":
                        asked = asyncio.create_task(one.reserve())
                        await until(lambda: gate.accepted)
                    else:
                        assert await one.reserve() == 0.0
                        gate.cut() if how == "cut" else gate.freeze()
                        asked = asyncio.create_task(one.reserve())
                        if how == "frozen and asked":
                            await asyncio.sleep(0)
                assert await asked is None
                await until(lambda: gate.callers == 0)
            assert leftovers() == []

        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(story())

    async def test_is_no_loss_when_only_the_loop_was_held_up(self, prefix: str) -> None:
        """An answer that is there, and was not read in time."""
        async with One(URL, prefix, timeout=SOON, every=3600.0) as one:
            await until(lambda: one.shared._waking)
            asked = asyncio.create_task(one.reserve())
            await asyncio.sleep(0)
            time.sleep(2 * SOON)  # noqa: ASYNC251 -- that is the point
            assert await asked == 0.0
        assert one.told == []


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """A recipe whose state counts as a budget does."""

    name: str = "default"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        return send


class Counted:
    """What is said of this process, and what was heard of the others."""

    def __init__(self) -> None:
        self.calls = self.spent = 0
        self.others = [0, 0]

    def taken(self) -> tuple[int, int]:
        told, (self.calls, self.spent) = (self.calls, self.spent), (0, 0)
        return told

    def heard(self, calls: int, spent: int, now: float) -> None:
        self.others[0] += calls
        self.others[1] += spent


@redis_needed
class TestMembers:
    async def test_know_how_many_they_are(self, prefix: str) -> None:
        async with One(URL, prefix) as one, One(URL, prefix) as other, One(URL, prefix, name="another") as alone:
            await until(lambda: one.shared.members == other.shared.members == 2)
            async with One(URL, prefix) as third:
                await until(lambda: {each.shared.members for each in (one, other, third)} == {3})
            await until(lambda: one.shared.members == other.shared.members == 2)
            assert alone.shared.members == 1

    async def test_that_vanish_are_soon_not_counted(self, prefix: str, gate: Gate) -> None:
        async with One(URL, prefix) as one, One(gate.url, prefix):
            await until(lambda: one.shared.members == 2)
            gate.cut()
            await until(lambda: one.shared.members == 1)

    async def test_are_as_many_as_is_said_before_they_are_counted(self, prefix: str, gate: Gate) -> None:
        gate.cut()
        events: list[Event] = []
        shared = RedisStore(gate.url, prefix=prefix, members=4).share(Upstream("shop", (events.append,)))
        shared.start()
        await until(lambda: events)
        assert shared.members == 4
        await shared.close()

    async def test_who_do_nothing_come_less_often(
        self, prefix: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(member, "IDLE", 1e6)
        async with One(gate.url, prefix) as one, One(URL, prefix) as other:
            await until(lambda: one.shared._waking and not one.shared._used)
            carried = gate.carried
            for _ in range(10):
                await other.reserve()
                await asyncio.sleep(0.02)
            assert gate.carried - carried < 1000
            assert other.shared.members == 2, "and are counted all the same"

    async def test_hear_what_the_others_counted_and_not_what_they_said(self, prefix: str) -> None:
        async with One(URL, prefix) as one, One(URL, prefix) as other:
            counts = [
                [each.upstream.state(recipe, Counted) for recipe in (Counting(), Counting(name="läden x"))]
                for each in (one, other)
            ]
            await until(lambda: len(one.shared._talk._totals) == len(other.shared._talk._totals) == 2)
            counts[0][0].calls, counts[0][0].spent, counts[1][1].calls = 10, 2, 7
            await until(lambda: counts[1][0].others == [10, 2] and counts[0][1].others == [7, 0])
            counts[0][0].calls += 1
            await until(lambda: counts[1][0].others == [11, 2])
            assert counts[0][0].others == counts[1][1].others == [0, 0]

    async def test_hear_nothing_of_a_time_without_a_store(self, prefix: str, gate: Gate) -> None:
        async with One(URL, prefix) as one, One(gate.url, prefix) as other:
            counts = [each.upstream.state(Counting(), Counted) for each in (one, other)]
            await until(lambda: one.shared._talk._totals and other.shared._talk._totals)
            gate.cut()
            await until(lambda: other.told == ["SharingLost"])
            counts[0].calls, counts[1].calls = 1000, 2000
            await until(lambda: not counts[0].calls)
            await gate.restore()
            await until(lambda: other.told == ["SharingLost", "SharingResumed"] and other.shared._talk._totals)
            counts[0].calls, counts[1].calls = 1, 2
            await until(lambda: counts[0].others[0] and counts[1].others[0])
            assert (counts[0].others, counts[1].others) == ([2, 0], [1, 0])

    async def test_whose_counts_are_lost_begin_anew(self, prefix: str, redis: Redis) -> None:
        async with One(URL, prefix) as one, One(URL, prefix) as other:
            counts = [each.upstream.state(Counting(), Counted) for each in (one, other)]
            await until(lambda: one.shared._talk._totals and other.shared._talk._totals)
            counts[0].calls = 50
            await until(lambda: counts[1].others == [50, 0])
            before = {each.shared._talk._born for each in (one, other)}
            redis.delete(*redis.scan_iter(match=f"*{prefix}*", count=1000))
            await until(lambda: not before & {each.shared._talk._born for each in (one, other)})
            counts[0].calls = 3
            await until(lambda: counts[1].others == [53, 0])
            assert counts[0].others == [0, 0]

    async def test_leave_nothing_in_redis_that_does_not_end(self, prefix: str, redis: Redis) -> None:
        async with Shop(URL, prefix, ConnectFailed) as shop:
            await shop.shared.reserve("all", interval=1.0, burst=1, patience=1.0)
            await shop.fails()
            await until(lambda: not shop.shared._talk.urgent and not shop.shared._talk._said)
            found = list(redis.scan_iter(match=f"*{prefix}*", count=1000))
            assert len(found) == 5
            assert all(0 < redis.pttl(key) < 200_000 for key in found)


class Shop:
    """A client, one among several processes', whose upstream answers as it is told."""

    def __init__(self, url: str, prefix: str, *answers: Any, breakers: tuple[CircuitBreaker, ...] = ()) -> None:
        self.events: list[Event] = []
        breakers = breakers or (CircuitBreaker(consecutive=1, open_for=30.0),)
        self.client = HTTPClient(
            "https://shop.test",
            name="shop",
            engine=script(*answers, then=200),
            policies=breakers,
            sinks=(self.events.append,),
            shared=RedisStore(url, prefix=prefix, timeout=SURE, every=0.05),
        )
        self.shared: Any = self.client.upstream.shared

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def fails(self, path: str = "/") -> None:
        with pytest.raises(ConnectFailed):
            await self.client.get(path)

    async def joined(self) -> None:
        await until(lambda: self.shared._talk._born)

    def circuits(self, name: str = "default") -> dict[str, str]:
        found = self.client.upstream.states["CircuitBreaker", name]
        return {circuit.key: str(circuit.state) for circuit in found.values()}

    def told(self) -> list[tuple[str, bool]]:
        """Which circuits opened and closed, and whether somebody else said so."""
        return [
            (type(event).__name__, event.told)
            for event in self.events
            if isinstance(event, CircuitOpened | CircuitClosed)
        ]


ORIGIN: Final = "https://shop.test"


@redis_needed
class TestCircuits:
    async def test_that_one_opens_are_open_for_all(self, prefix: str) -> None:
        async with Shop(URL, prefix, ConnectFailed) as one, Shop(URL, prefix) as other:
            await other.joined()
            await one.fails()
            await until(other.told)
            with pytest.raises(CircuitOpen, match="told by another process: a failure") as refusal:
                await other.client.get("/")
            assert 20.0 < refusal.value.retry_after < 40.0
            await asyncio.gather(
                until(lambda: one.shared._talk._since == 1), until(lambda: other.shared._talk._since == 1)
            )
            assert one.told() == [("CircuitOpened", False)]
            assert other.told() == [("CircuitOpened", True)]

    async def test_are_told_at_once(self, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(member, "IDLE", 1.0)
        async with Shop(URL, prefix, ConnectFailed) as one, Shop(URL, prefix) as other:
            object.__setattr__(one.shared._store, "every", 3600.0)
            await until(lambda: one.shared._waking and other.shared._talk._born)
            await one.fails()
            await until(other.told)

    async def test_that_one_closes_are_closed_for_all(self, prefix: str) -> None:
        quickly = (CircuitBreaker(consecutive=1, open_for=0.5),)
        async with (
            Shop(URL, prefix, ConnectFailed, breakers=quickly) as one,
            Shop(URL, prefix, breakers=quickly) as other,
        ):
            await other.joined()
            await one.fails()
            await until(other.told)

            async def probed() -> bool:
                with suppress(CircuitOpen):
                    await one.client.get("/")
                return one.circuits() == {ORIGIN: "closed"}

            async with asyncio.timeout(SURE):
                while not await probed():
                    await moment()
            await until(lambda: other.circuits() == {ORIGIN: "closed"})
            assert other.told() == [("CircuitOpened", True), ("CircuitClosed", True)]

    async def test_that_are_open_are_open_for_who_comes_later(self, prefix: str) -> None:
        async with Shop(URL, prefix, ConnectFailed) as one:
            await one.fails()
            await until(lambda: not one.shared._talk.urgent)
            async with Shop(URL, prefix) as later:
                await until(lambda: later.circuits() == {ORIGIN: "open"})

    async def test_that_were_open_are_nothing_to_who_comes_later(self, prefix: str, redis: Redis) -> None:
        async with Shop(URL, prefix, ConnectFailed, breakers=(CircuitBreaker(consecutive=1, open_for=0.5),)) as one:
            await one.fails()
            await until(lambda: one.shared._talk._since == 1)
            over = asyncio.get_running_loop().time() + 0.5
            await until(lambda: asyncio.get_running_loop().time() > over)
            async with Shop(URL, prefix) as later:
                await later.joined()
                assert later.told() == []

    async def test_are_each_recipes_own(self, prefix: str) -> None:
        breakers = tuple(
            CircuitBreaker(consecutive=number, open_for=30.0, name=name)
            for number, name in ((9, "slack"), (1, "läden 1"))
        )
        async with (
            Shop(URL, prefix, ConnectFailed, breakers=breakers) as one,
            Shop(URL, prefix, breakers=breakers) as other,
        ):
            await other.joined()
            await one.fails()
            await until(lambda: other.circuits("läden 1") == {ORIGIN: "open"})
            assert "open" not in other.circuits("slack").values()

    @pytest.mark.parametrize("how", ["shadow", "forced"])
    async def test_that_say_nothing_of_the_upstream_are_not_told(self, prefix: str, how: str) -> None:
        breakers = (CircuitBreaker(consecutive=1, mode="shadow" if how == "shadow" else "on"),)
        async with Shop(URL, prefix, *[ConnectFailed] * (how == "shadow"), breakers=breakers) as one:
            await one.joined()
            if how == "shadow":
                await one.fails()
            else:
                await one.client.get("/")
                one.client.upstream.states["CircuitBreaker", "default"].force("open")
            assert one.told()
            assert not one.shared._talk.urgent

    async def test_that_opened_while_nobody_heard_are_told_when_somebody_does(self, prefix: str, gate: Gate) -> None:
        async with Shop(gate.url, prefix, ConnectFailed) as one, Shop(URL, prefix) as other:
            await asyncio.gather(one.joined(), other.joined())
            gate.cut()
            await until(lambda: any(isinstance(event, SharingLost) for event in one.events))
            await one.fails()
            await gate.restore()
            await until(lambda: other.circuits() == {ORIGIN: "open"})

    async def test_are_remembered_up_to_a_number(
        self, prefix: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(talk, "CIRCUITS", 3)
        by_path = (CircuitBreaker(consecutive=1, open_for=30.0, by=lambda request: request.target),)
        async with Shop(URL, prefix, *[ConnectFailed] * 8, breakers=by_path) as one:
            for number in range(8):
                await one.fails(f"/{number}")
                await until(lambda: not one.shared._talk.urgent and not one.shared._talk._said)
            async with Shop(URL, prefix, breakers=by_path) as later:
                await until(lambda: len(later.circuits()) == 3)
                assert later.circuits() == dict.fromkeys(("/5", "/6", "/7"), "open")


class TestRedisStore:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "redis",
            "redis://",
            "http://h:6379",
            "redis://user:hunter2@h:port/0",
            "redis://:hunter2@h/one",
            "unix://",
            "redis://[h",
        ],
    )
    def test_says_what_is_no_url_and_repeats_none_of_it(self, url: str) -> None:
        with pytest.raises(ConfigError, match=r"pass redis://host:6379/0") as error:
            RedisStore(url)
        assert "hunter2" not in str(error.value)

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://h", "redis://h:6379/0"),
            ("rediss://me:hunter2@h:1/2?password=hunter2", "rediss://h:1/2"),
            ("redis://:hunter2@[::1]/", "redis://[::1]:6379/0"),
            ("unix:///run/redis.sock?db=2&password=hunter2", "unix:///run/redis.sock"),
        ],
    )
    def test_never_shows_its_credentials(self, url: str, shown: str) -> None:
        client = HTTPClient("https://shop.test", engine=script(), shared=url)
        store = RedisStore(url)
        assert store.shown == shown
        told = f"{store!r} {store} {client.explain()} {client.upstream.shared!r} {client!r}"
        assert shown in told
        assert "hunter2" not in told

    async def test_never_tells_its_credentials_when_it_is_lost(self, caplog: pytest.LogCaptureFixture) -> None:
        events: list[Event] = []
        url = f"redis://me:hunter2@127.0.0.1:{closed_port()}/0"
        client = HTTPClient("https://shop.test", engine=script(then=200), sinks=(events.append,), shared=url)
        with caplog.at_level(logging.DEBUG):
            async with client:
                await until(lambda: any(isinstance(event, SharingLost) for event in events))
                assert (await client.get("/")).status_code == 200
        assert any("does not answer" in line for line in caplog.messages)
        assert "hunter2" not in f"{events} {[vars(record) for record in caplog.records]}"

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"timeout": 0}, "RedisStore: timeout=0 is not a number of seconds above 0"),
            ({"timeout": True}, "RedisStore: timeout=True is not a number"),
            ({"every": inf}, "RedisStore: every=inf is not a number of seconds above 0"),
            ({"members": 0}, "RedisStore: members=0 is not a whole number above 0"),
            ({"prefix": ""}, "RedisStore: prefix='' would mix"),
        ],
    )
    def test_says_what_cannot_work(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(message)):
            RedisStore(URL, **wrong)

    def test_says_so_if_redis_py_knows_no_such_option(self) -> None:
        with pytest.raises(ConfigError, match=r"redis://h:6379/0' has options that redis-py cannot read") as error:
            HTTPClient("https://shop.test", engine=script(), shared="redis://me:hunter2@h?hunter2=hunter2")
        assert "hunter2" not in str(error.value)

    def test_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "find_spec", lambda _: None)
        with pytest.raises(
            ConfigError, match=re.escape("shop.test: shared='redis://h:6379/0' needs its library: pip install")
        ):
            HTTPClient("https://shop.test", engine=script(), shared="redis://h")

    def test_is_imported_only_where_it_is_used(self) -> None:
        code = "import sys, fairlead; fairlead.HTTPClient('https://h'); print('redis' in sys.modules, 'fairlead.sharing' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "False False\n"


@redis_needed
class TestAClient:
    async def test_keeps_to_a_rate_with_its_like(self, prefix: str) -> None:
        def made() -> HTTPClient:
            return HTTPClient(
                "https://shop.test",
                name="shop",
                engine=script(then=200),
                policies=(RateLimit(1, per=60.0, burst=3, wait=0),),
                shared=RedisStore(URL, prefix=prefix, timeout=SURE),
            )

        async with made() as one, made() as other:
            outcomes = [await attempt(client) for _ in range(3) for client in (one, other)]
        assert outcomes == [True] * 3 + [False] * 3

    async def test_goes_on_at_its_share_without_a_store(self, prefix: str, gate: Gate) -> None:
        events: list[Event] = []
        client = HTTPClient(
            "https://shop.test",
            name="shop",
            engine=script(then=200),
            policies=(RateLimit(1, per=60.0, burst=4, wait=0),),
            shared=RedisStore(gate.url, prefix=prefix, timeout=SURE, every=0.05),
            sinks=(events.append,),
        )
        async with One(URL, prefix), client:
            await until(lambda: client.upstream.shared.members == 2)
            gate.cut()
            await until(lambda: any(isinstance(event, SharingLost) for event in events))
            assert [await attempt(client) for _ in range(4)] == [True, True, False, False]

    async def test_that_is_dropped_open_ends_what_it_shares(self, prefix: str, gate: Gate) -> None:
        client = HTTPClient("https://shop.test", engine=script(then=200), shared=RedisStore(gate.url, prefix=prefix))
        await client.get("/")
        await until(lambda: gate.callers == 1)
        with pytest.warns(ResourceWarning, match="was dropped open"):
            del client
            gc.collect()
        await until(lambda: gate.callers == 0)

    async def test_closes_its_engine_although_its_store_hangs(self, prefix: str, gate: Gate) -> None:
        engine = script(then=200)
        async with HTTPClient("https://shop.test", engine=engine, shared=RedisStore(gate.url, prefix=prefix)) as client:
            await client.get("/")
            await until(lambda: client.upstream.shared._talk._born)
            gate.freeze()
            closing = asyncio.create_task(client.close())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait({closing})
            assert engine.closed
        await until(lambda: gate.callers == 0)

    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # pytest-xdist has a thread
    async def test_leaves_its_connection_to_the_parent_of_a_fork(self, prefix: str, gate: Gate) -> None:
        async with Shop(gate.url, prefix) as shop:
            await shop.joined()
            line = shop.shared._line
            if (pid := os.fork()) == 0:
                try:
                    shop.shared._latest.transport.get_extra_info("socket").send(b"*0\r\nnonsense\r\n")
                    shop.shared._latest.cut()
                finally:
                    os._exit(0)
            await until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)
            assert [await shop.shared.reserve("x", interval=1e-3, burst=9, patience=9.0) for _ in range(3)] == [0.0] * 3
            assert shop.shared._line is line
        assert not any(isinstance(event, SharingLost) for event in shop.events)


async def attempt(client: HTTPClient) -> bool:
    try:
        await client.get("/")
    except LimitReached:
        return False
    return True
