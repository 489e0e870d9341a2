"""Who comes when all slots are taken waits in line, where the wait is seen, fair and bounded by the deadline.

A connection pool that queues hides the same wait where nobody measures it. A slot is held until the answer's body has ended.
How many there are is a number, or learnt from the answers (`adaptive.py`); who is next is the line's (`slots.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final

from fairlead.core import Call, Send, Timeout, Upstream
from fairlead.errors import AttemptTimedOut, ConfigError
from fairlead.message import Response
from fairlead.policies.slots import Slots

if TYPE_CHECKING:
    from fairlead.policies.adaptive import Aimd, AimdRule, Gradient, GradientRule
    from fairlead.policies.worst import Worst

OVERLOADED: Final = frozenset({429, 503, 504})
"""The answers that say that it was asked too much, the last on behalf of who did not answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyLimit:
    """At most `limit` calls under way (None: any number); the rest wait in line, no longer than their deadline or `Timeout.wait`.

    With `Aimd()` or `Gradient()` the limit follows what the upstream bears. `waiting` bounds the line (None: does not): who finds it full
    gets LimitReached, unless one of a lower priority waits, which then gets it.
    """

    limit: int | Aimd | Gradient | None = 100
    waiting: int | None = None
    name: str = "default"
    place: ClassVar[str] = "ConcurrencyLimit"

    def __post_init__(self) -> None:
        limit, waiting = self.limit, self.waiting
        if limit is not None and not _moves(limit) and (type(limit) is not int or limit < 1):
            raise ConfigError(
                f"ConcurrencyLimit: limit={limit!r} is not a whole number from 1 on, nor Aimd(...) or Gradient(...); None sets no bound"
            )
        if waiting is not None and (type(waiting) is not int or waiting < 0):
            raise ConfigError(
                f"ConcurrencyLimit: waiting={waiting!r} is not a whole number from 0 on; None sets no bound"
            )

    def explain(self) -> str:
        limit = self.limit
        if limit is None:
            return "concurrency limit: none"
        under_way = f"at most {limit} calls under way" if isinstance(limit, int) else limit.explain()
        line = "in line" if self.waiting is None else f"in a line of at most {self.waiting}"
        return f"concurrency limit: {under_way}; the rest wait {line}, no longer than their deadline"

    def worst(self, one: Worst, timeout: Timeout) -> Worst:
        return one if self.limit is None else one.times(1, inf if timeout.wait is None else timeout.wait)

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        limit, bound = self.limit, inf if self.waiting is None else self.waiting
        if limit is None:
            return send
        if not isinstance(limit, int):
            return _adapting(send, upstream.state(self, lambda: Slots(upstream, limit.initial, bound, limit.start())))
        slots = upstream.state(self, lambda: Slots(upstream, limit, bound))

        async def admit(call: Call) -> Response:
            if slots.taken < slots.limit:
                slots.taken += 1
            else:
                await slots.turn(call)
            try:
                response = await send(call)
            except BaseException:
                slots.release()
                raise
            response.when_closed(slots.release)
            return response

        return admit


def _adapting(send: Send, slots: Slots) -> Send:
    """The same, telling the rule how each call went that says something about the load."""
    rule: AimdRule | GradientRule = slots.rule

    def follow(limit: int) -> None:
        if limit != slots.limit:
            slots.resize(limit)

    def ended(response: Response, epoch: int) -> None:
        if isinstance(response.error, AttemptTimedOut):
            follow(rule.failed(epoch))
        slots.release()

    async def adapt(call: Call) -> Response:
        if slots.taken < slots.limit:
            slots.taken += 1
        else:
            await slots.turn(call)
        epoch = rule.epoch
        try:
            response = await send(call)
        except BaseException as error:
            if isinstance(error, AttemptTimedOut):
                follow(rule.failed(epoch))
            slots.release()
            raise
        if response.status_code in OVERLOADED:
            follow(rule.failed(epoch))
        elif response.status_code < 500:
            # Of a stream, the time to its head: how long its body takes is up to its length and its reader.
            follow(rule.answered(epoch, slots.taken, response._seconds, call.clock()))
        if response.is_closed:
            slots.release()
        else:
            response.when_closed(partial(ended, response, epoch))
        return response

    return adapt


def _moves(limit: object) -> bool:
    return hasattr(limit, "start") and not isinstance(limit, type)
