"""Names to addresses, for one engine: each asked for once by all who wait, kept for a while, a failure too.

A resolver of the system that is slow or down then costs one thread for a name, not one for each call.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohappyeyeballs import AddrInfoType

TTL: Final = 30.0
"""Seconds that addresses are kept. The system's resolver does not say how long they are good for."""
NEGATIVE_TTL: Final = 1.0
"""Seconds that a failure is kept: a burst of calls asks once, and who was down is found again at once."""
NAMES: Final = 256
"""Names that are kept; beyond that, the oldest makes room."""

Ask = Callable[[str], Awaitable[Sequence[AddrInfoType]]]


class _Known:
    """What a lookup brought. Connections to many addresses of one kind are spread: each begins with another of them."""

    __slots__ = ("_addresses", "_error", "_turn", "until")

    def __init__(self, addresses: Sequence[AddrInfoType], error: OSError | None, until: float) -> None:
        self._addresses = addresses
        self._error = error
        self._turn = 0
        self.until = until

    def at(self, port: int) -> list[AddrInfoType]:
        """The addresses with that port: a lookup is for a host, whichever of its ports is called."""
        if self._error is not None:
            raise type(self._error)(*self._error.args)
        families: dict[int, list[AddrInfoType]] = {}
        for family, kind, protocol, name, place in self._addresses:
            families.setdefault(family, []).append((family, kind, protocol, name, (place[0], port, *place[2:])))
        spread = []
        for same in families.values():
            first = self._turn % len(same)
            spread += same[first:] + same[:first]
        self._turn += 1
        return spread


class _Asked:
    """A lookup under way, and how many wait for it."""

    __slots__ = ("askers", "task")

    def __init__(self, task: asyncio.Task[_Known]) -> None:
        self.task = task
        self.askers = 0


class Resolver:
    """Belongs to the loop that asks; `ask` is where answers come from, the system if nothing else is named."""

    def __init__(self, ask: Ask | None = None) -> None:
        self._ask = ask or _system
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known: dict[str, _Known] = {}
        self._asked: dict[str, _Asked] = {}

    async def __call__(self, host: str, port: int) -> Sequence[AddrInfoType]:
        """The addresses of a host, at least one; an address itself needs no lookup. Raises OSError for a host that has none."""
        if (numeric := _numeric(host, port)) is not None:
            return numeric
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._asked.clear()
            self._known.clear()
            self._loop = loop
        known = self._known.get(host)
        if known is None or loop.time() >= known.until:
            known = await self._wait(loop, host)
        return known.at(port)

    def forget(self, host: str) -> None:
        """None of its addresses could be connected to: the next call asks anew."""
        self._known.pop(host, None)

    async def _wait(self, loop: asyncio.AbstractEventLoop, host: str) -> _Known:
        """Wait for the lookup of that name. It ends with the last who waits, and not before."""
        asked = self._asked.get(host)
        if asked is None or asked.task.done():
            asked = self._asked[host] = _Asked(loop.create_task(self._look_up(loop, host)))
        asked.askers += 1
        try:
            await asyncio.wait({asked.task})
            return asked.task.result()
        finally:
            asked.askers -= 1
            if not asked.askers:
                asked.task.cancel()
                if self._asked.get(host) is asked:
                    del self._asked[host]

    async def _look_up(self, loop: asyncio.AbstractEventLoop, host: str) -> _Known:
        addresses: Sequence[AddrInfoType] = ()
        error: OSError | None = None
        try:
            addresses = await self._ask(host)
        except OSError as told:
            error = told.with_traceback(None)
        except UnicodeError:  # what cannot be written in a query
            pass
        if not addresses and error is None:
            error = socket.gaierror(socket.EAI_NONAME, "no address is known")
        known = _Known(addresses, error, loop.time() + (TTL if error is None else NEGATIVE_TTL))
        self._known.pop(host, None)
        if len(self._known) >= NAMES:
            del self._known[next(iter(self._known))]
        self._known[host] = known
        return known


async def _system(host: str) -> Sequence[AddrInfoType]:
    return await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)


def _numeric(host: str, port: int) -> list[AddrInfoType] | None:
    """What an address means to the system, in whatever form it is written (`127.1` is one); None for a name."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    zoned = host.replace("%25", "%") if ":" in host else host  # RFC 6874
    try:
        return list(socket.getaddrinfo(zoned, port, type=socket.SOCK_STREAM, flags=flags))
    except (socket.gaierror, UnicodeError):
        return None
