"""Limits that processes share through Redis: the scripts with numbers, members before a real Redis, and that Redis lost and back."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from fairlead import ConfigError, HTTPClient
from fairlead.core import Send, Upstream
from fairlead.errors import CircuitOpen, ConnectFailed
from fairlead.events import CircuitClosed, CircuitOpened, Event, SharingLost, SharingResumed
from fairlead.policies import CircuitBreaker
from fairlead.sharing import RedisStore, member, scripts, talk
from fairlead.sharing import store as store_module
from fairlead.testing import at_every_await, at_every_step, script
from peers import loops
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

    async def __aenter__(self) -> One:
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

    def reserve(self, now: int, interval: int, burst: int, patience: int) -> tuple[int, int]:
        due = max(now, self.due)
        wait = max(0, due - (burst - 1) * interval - now)
        if wait > patience:
            return 0, wait
        self.due = due + interval
        return 1, wait


AT: Final = 1_790_000_000
TIMED: Final = scripts.RESERVE.text.replace(b"redis.call('TIME')", b"{ARGV[4], ARGV[5]}")
steps = st.lists(
    st.tuples(st.integers(0, 3_000_000), st.integers(0, 5_000_000) | st.just(10**14)), min_size=1, max_size=30
)


@redis_needed
class TestTheScript:
    def reserve(
        self, redis: Redis, key: str, now: int, interval: float, burst: int, patience: float
    ) -> tuple[int, int]:
        seconds, micros = divmod(now, 1_000_000)
        found: Any = redis.eval(TIMED, 1, key, repr(interval), burst, repr(patience), AT + seconds, micros)
        return tuple(found)

    @given(steps=steps, interval=st.integers(1, 2_000_000), burst=st.integers(1, 20))
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    def test_gives_the_turns_that_the_rule_gives(
        self, redis: Redis, prefix: str, steps: list[tuple[int, int]], interval: int, burst: int
    ) -> None:
        key, reference, now, given = f"{prefix}:rule", Reference(), 0, []
        redis.delete(key)
        for pause, patience in steps:
            now += pause
            told = self.reserve(redis, key, now, interval, burst, patience)
            assert told == reference.reserve(now, interval, burst, patience)
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
