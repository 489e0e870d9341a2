"""A fleet of clients before one service, as it would go on: the real policies, on virtual time, told second by second.

Where each client has its own budget, circuit and limits, and each is well tested, what they do together is another question: retries
of thousands can keep a service down that one client would not even notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from math import inf
from random import Random
from typing import Any

from fairlead.core import Policy, Timeout
from fairlead.errors import ConfigError
from fairlead.message import Request
from fairlead.policies import standard
from fairlead.testing.virtual.clockwork import Clockwork
from fairlead.testing.virtual.crowd import Crowd
from fairlead.testing.virtual.service import Outage, Served, Service
from fairlead.testing.virtual.story import Story, Tally


def simulate(
    *,
    clients: int,
    rate: float,
    seconds: float,
    policies: Sequence[Policy] | None = None,
    service: Service | None = None,
    outages: Sequence[Outage] = (),
    timeout: float | Timeout = 30.0,
    request: Request | None = None,
    sample: float = 1,
    seed: int = 0,
) -> Story:
    """What becomes of `clients`, each calling `rate` times a second for `seconds`, in the same way for the same `seed`.

    `policies` are those of each client, outermost first (None: those of a plain one). With `sample=n` every n-th client is there and
    stands for n, before an n-th of the service: nearly the same curves in an n-th of the time. Call it outside of a loop or in one:
    it returns when all is over. Whatever a policy raises that is no FairleadError ends it.
    """
    if type(clients) is not int or clients < 1:
        raise ConfigError(f"simulate: clients={clients!r} is not a whole number above 0")
    if not 0 < rate < inf:
        raise ConfigError(f"simulate: rate={rate!r} is not a number of calls a second above 0")
    if not 1 <= seconds < inf:
        raise ConfigError(f"simulate: seconds={seconds!r} is not a number of seconds from 1 on")
    if not 1 <= sample <= clients:
        raise ConfigError(f"simulate: sample={sample!r} is not a number from 1 to the {clients} clients there are")
    bounds = Timeout.of(timeout)
    if bounds.total is None:
        raise ConfigError(
            "simulate: a timeout without a total: what hangs would hang for ever; say how long a call may take"
        )
    there = round(clients / sample)
    loop, tally = Clockwork(), Tally()  # type: ignore[abstract]  # what it has not, it says
    served = Served(service or Service(), outages, loop, _dice(seed, "service"), tally, there / clients)
    for second in range(1, int(seconds) + 1):
        loop.call_at(float(second), tally.turn)
    Crowd(
        clients=there,
        weight=clients / there,
        rate=rate,
        seconds=seconds,
        policies=[_seeded(policy, seed) for policy in (standard() if policies is None else policies)],
        send=served.send,
        request=request or Request("GET", "https://service.test/"),
        timeout=bounds,
        loop=loop,
        random=_dice(seed, "crowd"),
        tally=tally,
    )
    loop.run()
    return tally.story(clients / there)


def _seeded(policy: Policy, seed: int) -> Policy:
    """The same recipe, its chance repeatable."""
    if not is_dataclass(policy) or all(field.name != "random" for field in fields(policy)):
        return policy
    recipe: Any = policy
    seeded: Policy = replace(recipe, random=_dice(seed, type(policy).__name__).random)
    return seeded


def _dice(seed: int, whose: str) -> Random:
    """Each has its own, so that the same calls come at the same times whatever the policies are."""
    return Random(f"{seed} {whose}")  # noqa: S311  # nothing here is secret
