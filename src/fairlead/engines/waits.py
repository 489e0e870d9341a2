"""What an engine waits for, so that closing it ends every wait."""

from __future__ import annotations

import asyncio


class Waits:
    """The timers of calls under way."""

    def __init__(self) -> None:
        self.closed = False
        self._timers: set[asyncio.Timeout] = set()
        self._emptied: asyncio.Future[None] | None = None

    def add(self, timer: asyncio.Timeout) -> None:
        self._timers.add(timer)

    def discard(self, timer: asyncio.Timeout) -> None:
        self._timers.discard(timer)
        if self._emptied is not None and not self._timers and not self._emptied.done():
            self._emptied.set_result(None)

    async def close(self) -> None:
        """Every call under way ends with an error, and none begins. May be called again, and by several at once."""
        self.closed = True
        for timer in self._timers:
            if not timer.expired():  # which it is already before its task runs again
                timer.reschedule(0.0)
        if self._timers:
            self._emptied = self._emptied or asyncio.get_running_loop().create_future()
            await asyncio.wait({self._emptied})
