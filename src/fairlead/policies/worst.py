"""The worst that a call can come to: how many requests one call can become, and how long it can take.

Told from the inside out, as a pipeline is bound: an engine makes one request in an attempt's time; a policy that sends again, or
waits, has a method `worst` that says what it makes of that. One without it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from fairlead.core import Policy, Timeout


class Worst(NamedTuple):
    """Requests, and seconds (`inf`: no bound)."""

    requests: int
    seconds: float

    def times(self, count: int, pauses: float = 0.0) -> Worst:
        """One after the other, `count` times, with `pauses` seconds between them in all."""
        return Worst(self.requests * count, self.seconds * count + pauses)

    def __str__(self) -> str:
        time = f"{self.seconds:.4g} s" if self.seconds < inf else "for ever (timeout= would bound it)"
        return f"{time}, and becomes {self.requests} request{'s' if self.requests > 1 else ''}"


def worst(policies: Iterable[Policy], timeout: Timeout) -> Worst:
    """What a call with this timeout comes to at the worst, of a stream until its head; the deadline bounds all of it.

    The call is one that is not safe to repeat: an attempt of it has all the time, and where nothing was sent another may follow.
    """
    found = Worst(1, timeout.alone)
    for recipe in reversed(tuple(policies)):
        if hasattr(recipe, "worst"):
            found = recipe.worst(found, timeout)
    return found._replace(seconds=min(found.seconds, timeout.total or inf))
