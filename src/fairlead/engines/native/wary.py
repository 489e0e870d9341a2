"""A connection that is asked each time before it serves again: one that leads through a proxy, or that has an age.

Proxies are known to close what they served without a word, and right away. What only these need costs the others nothing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fairlead.core import Call
from fairlead.engines.native.connection import Connection
from fairlead.message import Request


class Wary(Connection):
    """`age` is how many seconds it may serve; an exchange under way ends first. `addressed` says what a request's head is here."""

    __slots__ = ("_addressed", "_expires")

    def __init__(
        self, addressed: Callable[[Request, bytes], bytes], age: float, loop: asyncio.AbstractEventLoop, *rest: Any
    ) -> None:
        super().__init__(loop, *rest)
        self._addressed = addressed
        self._expires = loop.time() + age

    def begin(self, call: Call, head: bytes, started: float) -> asyncio.Future[None]:
        return super().begin(call, self._addressed(call.request, head), started)

    def rest(self, now: float, until: float) -> bool:
        return super().rest(now, min(until, self._expires)) and now < self._expires

    def serves(self, now: float, idempotent: bool) -> bool:
        return now < self._expires and super().serves(now, False)
