"""What a pool has from its opening to its close: its places, the line before them, and who is there.

Entered again it has another: what the last one left running, and whoever still waits for that, is none of its business.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from concurrent.futures import Future as Work
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fairlead.core import Upstream
from fairlead.offload.work import Running
from fairlead.policies.slots import Slots

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor


class Life:
    """One of them. It opens by the first call, which names the loop."""

    __slots__ = ("calls", "closed", "emptied", "executor", "idle", "loop", "running", "slots")

    def __init__(self, name: str, limit: int, waiting: float) -> None:
        self.loop: Callable[[], AbstractEventLoop | None] = _nowhere
        self.closed = False
        self.calls = 0
        """Those that began and have not ended, in line or at work."""
        self.emptied: Future[None] | None = None
        self.running: set[Running] = set()
        self.idle: list[ProcessPoolExecutor] = []
        self.slots = Slots(Upstream(name), limit, waiting)
        self.executor = ThreadPoolExecutor(limit, thread_name_prefix=f"fairlead {name}")

    def leave(self) -> None:
        """A call has ended."""
        self.calls -= 1
        if not self.calls and self.emptied is not None:
            settle(self.emptied)

    def ended(self, running: Running) -> None:
        """A work has ended, and its place is free."""
        self.running.discard(running)
        self.slots.release()
        settle(running.outcome)

    def elsewhere(self, loop: AbstractEventLoop) -> bool:
        """Whether it is another loop's, which goes on."""
        known = self.loop()
        return known is not None and known is not loop and not known.is_closed()


def settle(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def tell(loop: AbstractEventLoop, ended: Callable[[], None], _: Work[Any]) -> None:
    with suppress(RuntimeError):  # a loop that is closed: nobody is there to be told
        loop.call_soon_threadsafe(ended)


def _nowhere() -> None:
    return None
