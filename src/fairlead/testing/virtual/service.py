"""A service that serves so many requests in a second, keeps a line before it, and fails as the script says.

Whoever gave up waiting is served all the same, as a real service that does not know of it would: this is how a storm of retries keeps
one down that is well again. What becomes of a request is known when it comes, so the line is two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf
from random import Random
from statistics import NormalDist
from typing import Final, Literal, get_args

from fairlead.core import Call
from fairlead.engines.timing import ends, expired
from fairlead.errors import ConfigError, ConnectFailed
from fairlead.message import Response
from fairlead.testing.virtual.clockwork import Clockwork
from fairlead.testing.virtual.story import Tally

Kind = Literal["refused", "hanging", "stalled", "unavailable", "slow"]

_GRAIN: Final = 4096
"""Latencies that one is drawn from."""
_PAIRS: Final = [(b"Content-Length", b"0")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """From `at` on, for `seconds`, so goes this `share` of the requests.

    `refused`: no connection. `hanging`: no answer, ever. `stalled`: the same, but they wait in line, and are served afterwards.
    `unavailable`: 503, asking for `retry_after` seconds where that is given. `slow`: each takes `slowness` times as long.
    """

    at: float
    seconds: float
    kind: Kind = "refused"
    share: float = 1.0
    retry_after: float | None = None
    slowness: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.at < inf:
            raise ConfigError(f"Outage: at={self.at!r} is not a number of seconds from 0 on")
        if not 0 < self.seconds < inf:
            raise ConfigError(f"Outage: seconds={self.seconds!r} is not a number of seconds above 0")
        if self.kind not in get_args(Kind):
            raise ConfigError(f"Outage: kind={self.kind!r} is none of {', '.join(get_args(Kind))}")
        if not 0 < self.share <= 1:
            raise ConfigError(f"Outage: share={self.share!r} is not a share above 0 and up to 1")
        if self.kind == "stalled" and self.share < 1:
            raise ConfigError(
                f"Outage: share={self.share!r} of a stalled service: it has one line; use 'hanging' for a share"
            )
        if self.retry_after is not None and not 0 <= self.retry_after < inf:
            raise ConfigError(f"Outage: retry_after={self.retry_after!r} is not a number of seconds from 0 on")
        if not 1 <= self.slowness < inf:
            raise ConfigError(f"Outage: slowness={self.slowness!r} is not a number from 1 on")

    @property
    def end(self) -> float:
        return self.at + self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """`capacity` requests a second, each answered after `latency` seconds; a line of `line` seconds of work, then a refused connection.

    The latency is the median; `spread` is how much it varies: 0 for not at all, 0.5 for a slowest hundredth of three times as long
    (the deviation of its logarithm).
    """

    latency: float = 0.02
    spread: float = 0.5
    capacity: float = inf
    line: float = 1.0

    def __post_init__(self) -> None:
        for name in ("latency", "spread", "line"):
            if not 0 <= (number := getattr(self, name)) < inf:
                raise ConfigError(f"Service: {name}={number!r} is not a number from 0 on")
        if not self.capacity > 0:
            raise ConfigError(f"Service: capacity={self.capacity!r} is not a number of requests a second above 0")

    def latencies(self) -> list[float]:
        """What it takes, from the shortest to the longest, each as likely as another."""
        if not self.spread:
            return [self.latency]
        deviation = NormalDist(0.0, self.spread)
        return [self.latency * exp(deviation.inv_cdf((at + 0.5) / _GRAIN)) for at in range(_GRAIN)]


class Served:
    """A service under way, as an engine. `share` of it is here, where others of the crowd stand for more than themselves."""

    def __init__(
        self, service: Service, outages: Sequence[Outage], loop: Clockwork, random: Random, tally: Tally, share: float
    ) -> None:
        self._loop = loop
        self._tally = tally
        self._random = random.random
        self._latencies = service.latencies()
        self._each = 1 / (service.capacity * share)
        self._line = service.line
        self._free = 0.0
        """When the line will have been served."""
        self._under: tuple[Outage, ...] = ()
        for outage in outages:
            loop.call_at(outage.at, self._turn, (outage,), ())
            loop.call_at(outage.end, self._turn, (), (outage,))

    def _turn(self, begun: tuple[Outage, ...], over: tuple[Outage, ...]) -> None:
        self._under = (*(one for one in self._under if one not in over), *begun)

    async def send(self, call: Call, /) -> Response:
        loop, tally = self._loop, self._tally
        now = loop.now
        if now >= call.deadline:
            raise expired(call, started=now, phase="connecting")
        if call.attempt == 1:
            tally.first += 1
        else:
            tally.again += 1
        latency = self._latencies[int(self._random() * len(self._latencies))]
        each, opens, status, pairs = self._each, now, 200, _PAIRS
        hit = self._hit() if self._under else None
        if hit is not None:
            kind = hit.kind
            if kind == "refused":
                raise ConnectFailed(request=call.request)
            if kind == "slow":
                each, latency = each * hit.slowness, latency * hit.slowness
            elif kind == "stalled":
                opens = hit.end
            elif kind == "unavailable":
                status = 503
                if hit.retry_after is not None:
                    asked = f"{hit.retry_after:.3f}".rstrip("0").rstrip(".")
                    pairs = [*_PAIRS, (b"Retry-After", asked.encode())]
            else:
                await loop.until(ends(call, now))
                raise expired(call, started=now, phase="head")
        starts = self._free
        if starts < opens:
            starts = opens
        elif starts - opens > self._line:
            raise ConnectFailed(request=call.request)
        self._free = starts + each
        answered, due = starts + latency, ends(call, now)
        if answered >= due:
            await loop.until(due)
            raise expired(call, started=now, phase="head")
        await loop.until(answered)
        return Response.received(status, pairs, b"", call.request, answered - now)

    def _hit(self) -> Outage | None:
        """The outage that this request meets."""
        for outage in self._under:
            if outage.share == 1 or self._random() < outage.share:
                return outage
        return None
