"""Clients that call whether or not they are answered: users do not wait with their next click until a service is well again.

Each is a process of a fleet: an upstream of its own, with the states of the real policies in it. Together their calls are one Poisson
process, and whose turn it is, is drawn: that is the same as one for each, and needs one timer. Of a sample, every n-th call of that
process is made: so it comes as evenly as the crowd's own calls do.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from fairlead.core import Call, Pipeline, Policy, Send, Timeout, Upstream
from fairlead.errors import FairleadError, Refused
from fairlead.message import Request, Response
from fairlead.testing.virtual.clockwork import Clockwork
from fairlead.testing.virtual.story import Tally

_PLAIN: Final = frozenset({"Observe", "Retry", "CircuitBreaker", "RateLimit", "ConcurrencyLimit", "DeadlineHeader"})
"""Places of our own policies that ask for no task."""


class Crowd:
    """`clients` of them, each for `weight` of its like, calling `rate` times a second until `seconds` are over."""

    def __init__(
        self,
        *,
        clients: int,
        weight: float,
        rate: float,
        seconds: float,
        policies: Sequence[Policy],
        send: Send,
        request: Request,
        timeout: Timeout,
        loop: Clockwork,
        random: Random,
        tally: Tally,
    ) -> None:
        pipeline = Pipeline(tuple(policies))
        self._sends = [pipeline.bind(send, Upstream(f"client-{number}")) for number in range(clients)]
        self._weight = weight
        self._gap = 1 / (clients * rate * weight)
        """Between two calls of all."""
        self._until = seconds
        self._request = request
        self._timeout = timeout
        self._total = timeout.total or 0.0
        self._loop = loop
        self._begin = loop.play if all(map(_asks_for_no_task, policies)) else loop.start
        self._random = random
        self._tally = tally
        self._wait()

    def _wait(self) -> None:
        when = self._loop.now + self._random.gammavariate(self._weight, self._gap)
        if when < self._until:
            self._loop.call_at(when, self._call)

    def _call(self) -> None:
        loop, tally, sends = self._loop, self._tally, self._sends
        tally.offered += 1
        send = sends[int(self._random.random() * len(sends))]
        call = Call(self._request, self._timeout, loop.now + self._total, clock=loop.time)
        self._begin(tally.second, send(call), self._ended)  # type: ignore[arg-type]  # what policies return are coroutines
        self._wait()

    def _ended(self, second: int, response: Response | None, error: Exception | None) -> None:
        tally = self._tally
        if response is not None and response.status_code < 500:
            tally.answered += 1
            tally.came_through[second] += 1
            return
        if error is not None and not isinstance(error, FairleadError):
            raise error
        tally.failed += 1
        if isinstance(error, Refused):
            tally.refused += 1


def _asks_for_no_task(policy: Policy) -> bool:
    return type(policy).__module__.startswith("fairlead.policies.") and getattr(policy, "place", "") in _PLAIN
