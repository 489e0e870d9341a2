"""One client among those that share: it says that it is there, and hears of the others, about once a second.

Whatever goes wrong with the store (silence, a refusal, a wrong answer) is a loss: told once, and never an error of a call. From then on
calls are not asked to wait for it at all; its own task tries to come back, and tells once that it is.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, Task, get_running_loop, sleep, wait
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from math import inf, nextafter
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from fairlead import forks
from fairlead.core import Upstream
from fairlead.events import Event, SharingLost, SharingResumed
from fairlead.policies.jitter import chance
from fairlead.sharing.scripts import EXCHANGE, RESERVE
from fairlead.sharing.talk import Talk, micro

if TYPE_CHECKING:
    from fairlead.sharing.line import Line
    from fairlead.sharing.store import RedisStore

IDLE: Final = 5.0
"""Times as long between two exchanges of a client that does nothing."""
SOON: Final = 0.05
"""Seconds at least between two exchanges, however many circuits open."""
BACK: Final = 1.0, 5.0
"""Seconds before one tries to come back: at first, and at most; doubling in between."""
SETTLES: Final = 2.0
"""Times the longest of these until all are back: who is back first finds itself alone, and would have everybody's share if the store went again."""
AGES: Final = 1e8
"""Seconds that stand for any longer time."""


class Member:
    """What one upstream of this process shares. It begins on the loop that first uses it, and anew on another."""

    def __init__(
        self, store: RedisStore, upstream: Upstream, line: Callable[[Callable[[Exception], None]], Line]
    ) -> None:
        self._store = store
        self._upstream = upstream
        prefix, name = _plain(store.prefix), _plain(upstream.name)
        self._root = f"{{{prefix}:{name}}}:"
        """Of a key: of its own, whatever the names are. All keys of an upstream lie together, as a script's must."""
        self._new_line = line
        self._keys = tuple(f"{self._root}{name}".encode() for name in ("members", "state", "order", "circuits"))
        self._loop: AbstractEventLoop | None = None
        self._task: Task[None] | None = None
        self._begin()
        upstream.sinks = (*upstream.sinks, self)

    def _begin(self) -> None:
        self.members = self._store.members
        self._talk = Talk(self._upstream)
        self._line: Line | None = None
        """Where calls ask; None while the store is gone."""
        self._latest: Line | None = None
        self._lost, self._used = False, True
        self._whole = -inf
        """When the count can be less than it was."""
        self._failed: tuple[bytes, ...] | None = None
        """A reservation that the store refused to make: it is not back before it makes it."""
        self._waking: Future[None] | None = None

    # What a client asks of it

    def explain(self) -> str:
        return f"through {self._store.shown}: rate limits, circuits, the budget of retries; without it, each client has its share of them"

    def start(self) -> None:
        loop = get_running_loop()
        if self._task is None or self._loop is not loop:
            self._loop = loop
            self._begin()
            # Calls wait for the first connection, no longer than for an answer.
            line = self._line = self._new_line(self._lose)
            self._task = loop.create_task(self._live(loop, line), context=Context())

    async def reserve(
        self, key: str, /, *, interval: float, burst: int, patience: float, owed: int = 0
    ) -> float | None:
        line = self._line
        if line is None:
            return None
        self._used = True
        asked = f"{self._root}turns:{_plain(key)}".encode(), micro(interval), b"%d" % burst
        try:
            reserved, micros = await line.run(
                RESERVE, asked[:1], (*asked[1:], micro(min(patience, AGES)), b"%d" % owed)
            )
            seconds: float = micros / 1e6
        except Exception as error:
            if line.ended is None:
                self._failed = asked
                line.cut(error)
            return None
        # Rounding must not turn a yes into a no.
        return min(seconds, patience) if reserved else max(seconds, nextafter(patience, inf))

    async def close(self) -> None:
        task, self._task = self._task, None
        line, self._line = self._line, None
        if task is None or task.get_loop() is not get_running_loop():
            return
        try:
            if line is not None and line.ended is None:
                with suppress(Exception):  # nobody is there to take the farewell
                    await line.ask(b"ZREM", self._keys[0], self._talk.me)
        finally:
            task.cancel()
            await wait({task})

    def forked(self) -> None:
        """In a child: the connection is the parent's."""
        if self._latest is not None:
            forks.let_go([self._latest.transport])

    # A sink, to hear of its own circuits

    def listens(self) -> bool:
        """Not to calls."""
        return False

    def __call__(self, event: Event) -> None:
        if self._loop is not None and self._talk.note(event, self._loop.time()):
            self._wake()

    # Its life

    async def _live(self, loop: AbstractEventLoop, line: Line) -> None:
        first, most = BACK
        pause = first
        while True:
            self._latest = line
            came = inf
            try:
                await line.open()
                while True:
                    told = loop.time()
                    gap = await self._exchange(line, told)
                    if self._lost:
                        await self._return(line)
                    came = min(came, told)
                    await self._until_next(loop, told, gap)
            except Exception as error:
                line.cut(error)
            finally:
                line.cut()
            if loop.time() - came > most:
                pause = first  # who is lost as soon as it is back comes back ever more slowly
            await sleep(pause * (0.8 + 0.2 * chance()))
            pause = min(2 * pause, most)
            line = self._new_line(self._lose)

    def _lose(self, error: Exception) -> None:
        """The line has ended by itself, and so has what it told."""
        self._line = None
        self._talk.lost()
        if not self._lost and self._task is not None:
            self._lost = True
            self._upstream.emit(SharingLost(self._upstream.name, self._store.shown, self.members, error))
        self._wake()

    async def _return(self, line: Line) -> None:
        if self._failed is not None:
            key, interval, burst = self._failed
            await line.run(RESERVE, (key,), (interval, burst, b"-1"))  # without patience: nothing is reserved
            self._failed = None
        self._lost, self._line = False, line
        self._upstream.emit(SharingResumed(self._upstream.name, self._store.shown))

    async def _until_next(self, loop: AbstractEventLoop, told: float, gap: float) -> None:
        self._waking = loop.create_future()
        timer = loop.call_later(gap * (0.9 + 0.2 * chance()), self._wake)
        try:
            if not self._talk.urgent:
                await self._waking
        finally:
            timer.cancel()
            self._waking = None
        await sleep(told + SOON - loop.time())

    def _wake(self) -> None:
        if self._waking is not None and not self._waking.done():
            self._waking.set_result(None)

    async def _exchange(self, line: Line, now: float) -> float:
        """Say that it is there and what happened, and hear the same; returns the seconds until the next time."""
        talk = self._talk
        busy = talk.count() or talk.urgent or self._used
        self._used = False
        gap = self._store.every * (1.0 if busy else IDLE)
        counted = talk.hear(await line.run(EXCHANGE, self._keys, talk.say(now, gap)), now)
        if self._lost:
            self._whole = now + SETTLES * BACK[1]
        self.members = counted if now >= self._whole else max(counted, self.members)
        return gap


def _plain(name: str) -> str:
    return quote(name, safe="", errors="surrogatepass")
