"""Who comes when all slots are taken waits in line, where the wait is seen, fair and bounded by the deadline.

A connection pool that queues hides the same wait where nobody measures it. A slot is held until the answer's body has ended.
A slot that is freed is handed to the first in line, so nobody overtakes; one that is cancelled in the turn of its grant hands
it on.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from fairlead.core import Call, Send, Upstream
from fairlead.errors import ConfigError, DeadlineExceeded, Knowledge, LimitReached
from fairlead.message import Response


class Slots:
    """Counts calls under way, and keeps those who wait in the order they came."""

    __slots__ = ("limit", "line", "taken", "upstream")

    def __init__(self, limit: int, upstream: Upstream) -> None:
        self.limit = limit
        self.upstream = upstream
        self.taken = 0
        self.line: OrderedDict[Future[bool], None] = OrderedDict()

    def take(self) -> bool:
        """Take a slot if one is free: while anyone waits, none is."""
        if self.taken < self.limit:
            self.taken += 1
            return True
        return False

    def release(self) -> None:
        """Hand the slot to the first in line, or free it."""
        while self.line:
            grant, _ = self.line.popitem(last=False)
            if not grant.done():
                grant.set_result(True)
                return
        self.taken -= 1

    async def turn(self, deadline: float) -> bool:
        """Wait for a slot: True with one, False without one at the deadline. Raises ConfigError once the client is closed."""
        loop = get_running_loop()
        grant: Future[bool] = loop.create_future()
        self.line[grant] = None
        timer = loop.call_at(deadline, self._expire, grant) if deadline < inf else None
        try:
            return await self.upstream.wait(grant, Knowledge.NOT_SENT)
        except BaseException:
            if grant.done() and not grant.cancelled() and grant.result():
                self.release()
            else:
                self.line.pop(grant, None)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _expire(self, grant: Future[bool]) -> None:
        if not grant.done():
            del self.line[grant]
            grant.set_result(False)

    def __repr__(self) -> str:
        return f"<{self.taken} of {self.limit} slots taken, {len(self.line)} waiting>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyLimit:
    """At most `limit` calls under way (None: any number); the rest wait in line, no longer than their deadline or `Timeout.wait`.

    `waiting` bounds the line (None: does not): who finds it full gets LimitReached.
    """

    limit: int | None = 100
    waiting: int | None = None
    name: str = "default"
    place: ClassVar[str] = "ConcurrencyLimit"

    def __post_init__(self) -> None:
        for name, least in (("limit", 1), ("waiting", 0)):
            number = getattr(self, name)
            if number is not None and (type(number) is not int or number < least):
                raise ConfigError(
                    f"ConcurrencyLimit: {name}={number!r} is not a whole number from {least} on; None sets no bound"
                )

    def explain(self) -> str:
        if self.limit is None:
            return "concurrency limit: none"
        line = "in line" if self.waiting is None else f"in a line of at most {self.waiting}"
        return f"concurrency limit: at most {self.limit} calls under way; the rest wait {line}, no longer than their deadline"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        if self.limit is None:
            return send
        limit, waiting = self.limit, inf if self.waiting is None else self.waiting
        slots = upstream.state(self, lambda: Slots(limit, upstream))

        async def admit(call: Call) -> Response:
            if not slots.take():
                if len(slots.line) >= waiting:
                    raise LimitReached(
                        f"{limit} under way and {len(slots.line)} waiting already",
                        request=call.request,
                        upstream=upstream.name,
                    )
                until, told = call.deadline, "the deadline passed"
                if (patience := call.timeout.wait) is not None and (soon := call.clock() + patience) < until:
                    until, told = soon, f"none was free for {patience:g} s"
                if not await slots.turn(until):
                    raise DeadlineExceeded(
                        f"in line for a slot (limit {limit}): {told}",
                        request=call.request,
                        upstream=upstream.name,
                        phase="waiting",
                        knowledge=Knowledge.NOT_SENT,
                    )
            try:
                response = await send(call)
            except BaseException:
                slots.release()
                raise
            response.when_closed(slots.release)
            return response

        return admit
