"""What is said in an exchange, and what is heard: counts of calls and retries, and circuits that opened or closed.

Counts are told as what was added since the last time, and heard as what others added: those of a time without a store are nobody's.
Openings are told as the seconds that are left, so that clocks may differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from secrets import token_hex
from typing import Any, Final
from urllib.parse import quote

from fairlead.core import Upstream
from fairlead.events import CircuitClosed, CircuitOpened, Event

CIRCUITS: Final = 256
"""Circuits of an upstream that are remembered."""
WORDS: Final = 200
"""Characters of a reason."""
LASTS: Final = 60.0
"""Seconds that the store keeps what nobody asks for, at least."""
STAYS: Final = 3.0
"""Exchanges after which one who is not heard of is not counted any more."""
AS: Final = "utf-8", "surrogatepass"


class Talk:
    """One member's side of the exchanges of an upstream."""

    __slots__ = ("_born", "_changes", "_counted", "_said", "_since", "_totals", "_upstream", "me")

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.me = token_hex(8).encode()
        self._changes: dict[tuple[str, str], tuple[float, str]] = {}
        """Circuits of ours that opened (until when, and why) or closed (0.0), of which nobody was told yet."""
        self._said: dict[tuple[str, str], tuple[float, str]] = {}
        """Those that were said, and of which nobody is known to have heard."""
        self._counted: list[tuple[bytes, Any, int, int]] = []
        self._totals: dict[bytes, tuple[int, int]] = {}
        """What all have counted, by budget, at the last exchange."""
        self._born, self._since = b"", 0

    @property
    def urgent(self) -> bool:
        return bool(self._changes)

    def note(self, event: Event, now: float) -> bool:
        """Whether this is to be told: a circuit of our own opened or closed, and none that another told of or that refuses nothing."""
        if not isinstance(event, CircuitOpened | CircuitClosed) or event.told or event.shadow:
            return False
        change = 0.0, ""
        if isinstance(event, CircuitOpened):
            if not isfinite(event.seconds):  # forced, by hand, in this process
                return False
            change = now + event.seconds, event.reason[:WORDS]
        closed = isinstance(event, CircuitClosed)
        for name, circuits in self._states("opened_elsewhere"):
            if any(one.key == event.origin and (one.state == "closed") is closed for one in circuits.values()):
                self._changes.pop((name, event.origin), None)
                self._changes[name, event.origin] = change
        while len(self._changes) > CIRCUITS:
            del self._changes[next(iter(self._changes))]
        return True

    def count(self) -> bool:
        """Take what was counted since the last time; whether that is anything."""
        self._counted = []
        for name, spending in self._states("heard"):
            calls, spent = spending.taken()
            known = name.encode(*AS)
            told = (calls, spent) if known in self._totals else (0, 0)
            self._counted.append((known, spending, *told))
        return any(calls or spent for _, _, calls, spent in self._counted)

    def say(self, now: float, gap: float) -> list[bytes]:
        """The arguments of the script, for one who comes again in `gap` seconds."""
        self._said, self._changes = {**self._said, **self._changes}, {}
        stay = STAYS * gap
        said = [self.me, micro(stay), b"%d" % (1e3 * max(LASTS, 2 * stay)), b"%d" % CIRCUITS]
        said += [self._born, b"%d" % self._since, b"%d" % len(self._counted)]
        for name, _, calls, spent in self._counted:
            said += [name, b"%d" % calls, b"%d" % spent]
        for (breaker, circuit), (until, reason) in self._said.items():
            if until == 0.0 or until > now:
                said += [f"{quote(breaker)} {circuit}".encode(*AS), micro(max(0.0, until - now)), reason.encode(*AS)]
        return said

    def lost(self) -> None:
        """Nobody hears what was counted from now on. What happened to circuits is said again when somebody does."""
        self._totals.clear()

    def hear(self, answer: tuple[int, bytes, int, list[int], list[tuple[bytes, int, bytes]]], now: float) -> int:
        """What the script answers; returns how many members there are."""
        members, born, self._since, totals, heard = answer
        self._said = {}
        if born != self._born:
            self._born = born
            self._totals.clear()
        for (known, spending, calls, spent), total in zip(self._counted, _pairs(totals), strict=True):
            if (before := self._totals.get(known)) is not None:
                spending.heard(max(0, total[0] - before[0] - calls), max(0, total[1] - before[1] - spent), now)
            self._totals[known] = total
        for told, micros, reason in heard:
            breaker, _, key = told.decode(*AS).partition(" ")
            for name, circuits in self._states("opened_elsewhere"):
                if quote(name) != breaker:
                    continue
                if micros:
                    circuits.opened_elsewhere(key, micros / 1e6, now, reason.decode(*AS)[:WORDS])
                else:
                    circuits.closed_elsewhere(key)
        return max(1, members)

    def _states(self, can: str) -> Iterator[tuple[str, Any]]:
        """The states of the upstream that can do this, by the names of their recipes."""
        for (_, name), state in self._upstream.states.items():
            if hasattr(state, can):
                yield name, state


def micro(seconds: float) -> bytes:
    return b"%a" % (seconds * 1e6)


def _pairs(flat: list[int]) -> Iterator[tuple[int, int]]:
    return zip(flat[::2], flat[1::2], strict=True)
