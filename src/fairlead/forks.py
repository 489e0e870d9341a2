"""A client lives in one process and on one loop: elsewhere it is an error, and in a child it lets go of its parent's sockets.

The system tells of a fork, once; a call asks nothing. Nothing is set up before the first client opens.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, BaseTransport, get_running_loop
from collections.abc import Iterable
from functools import cache, partial
from typing import Protocol
from weakref import WeakSet

from fairlead.errors import ConfigError


class Settled(Protocol):
    """What lives where it was opened."""

    @property
    def name(self) -> str: ...

    def forked(self) -> None:
        """This is a child now, and the parent goes on with what was opened. Called before anything else runs here."""
        ...


def settle(one: Settled, loop: AbstractEventLoop | None, *, forked: bool) -> AbstractEventLoop:
    """The loop that is running, where `one` lives from now on; raises ConfigError if that is not where it lives already."""
    if forked:
        raise ConfigError(f"{one.name}: the client was opened in another process, before a fork: open one here")
    running = get_running_loop()
    if loop is not None and loop is not running and not loop.is_closed():
        raise ConfigError(f"{one.name}: the client was opened on another event loop: open one for each loop")
    remember(one)
    return running


def remember(one: Settled) -> None:
    """Have it told of a fork."""
    _settled().add(one)


def let_go(transports: Iterable[BaseTransport | None]) -> None:
    """Give up a child's copies of its parent's sockets; the parent's are as they were.

    The descriptors lead nowhere from now on, and are not free: a transport that believes one to be its own still may write to it,
    watch it or close it, and harms neither the parent nor a socket that the child would otherwise have been given under that number.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for transport in transports:
            if transport is not None and (descriptor := transport.get_extra_info("socket").fileno()) >= 0:
                os.dup2(nowhere, descriptor, inheritable=False)
    finally:
        os.close(nowhere)


@cache
def _settled() -> WeakSet[Settled]:
    found: WeakSet[Settled] = WeakSet()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(_forked, found))
    return found


def _forked(settled: WeakSet[Settled]) -> None:
    for one in list(settled):
        one.forked()
