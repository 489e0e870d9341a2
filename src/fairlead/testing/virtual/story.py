"""What was seen of a crowd and its service: everything counted, second by second."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf


@dataclass(frozen=True, slots=True)
class Story:
    """Each field has a number for each second; of a sample, what it stands for."""

    offered: tuple[float, ...]
    """Calls that began."""
    first: tuple[float, ...]
    """First attempts that reached the service, or found no connection to it."""
    again: tuple[float, ...]
    """Attempts beside the first: retries and hedges."""
    answered: tuple[float, ...]
    """Calls that ended well: by an answer below 500."""
    failed: tuple[float, ...]
    """Calls that ended otherwise."""
    refused: tuple[float, ...]
    """Of those that failed: the ones that a policy of ours refused."""
    came_through: tuple[float, ...]
    """Of the calls that began in this second: those that ended well, whenever that was."""

    @property
    def sent(self) -> tuple[float, ...]:
        """All attempts."""
        return tuple(first + again for first, again in zip(self.first, self.again, strict=True))

    @property
    def seconds(self) -> int:
        return len(self.offered)

    def amplification(self, since: float = 0.0, until: float = inf) -> float:
        """Attempts for each call that began, between two seconds: 1.0 where every call is sent once."""
        window = self._window(since, until)
        return sum(self.sent[window]) / (sum(self.offered[window]) or inf)

    def peak(self, since: float = 0.0, until: float = inf) -> float:
        """The same, of the worst second."""
        window = self._window(since, until)
        return max(
            (sent / offered for sent, offered in zip(self.sent[window], self.offered[window], strict=True) if offered),
            default=0.0,
        )

    def share(self, since: float = 0.0, until: float = inf) -> float:
        """The share of the calls that began between two seconds and ended well."""
        window = self._window(since, until)
        return sum(self.came_through[window]) / (sum(self.offered[window]) or inf)

    def recovered(self, after: float, share: float = 0.99) -> float:
        """Seconds until, in each of those that follow, this share of the calls ends well; `inf` if that is not seen."""
        start = int(after)
        bad = [
            second for second in range(start, self.seconds) if self.came_through[second] < share * self.offered[second]
        ]
        since = max(bad) + 1 if bad else start
        return max(0.0, since - after) if since < self.seconds else inf

    def _window(self, since: float, until: float) -> slice:
        return slice(int(since), int(min(until, self.seconds)))


class Tally:
    """Counts, and once in a second puts aside how far they came."""

    __slots__ = ("_seen", "again", "answered", "came_through", "failed", "first", "offered", "refused", "second")

    NAMES = ("offered", "first", "again", "answered", "failed", "refused")

    def __init__(self) -> None:
        self.offered = self.first = self.again = self.answered = self.failed = self.refused = 0
        self.second = 0
        """How many were put aside."""
        self.came_through = [0]
        self._seen: list[tuple[int, ...]] = [(0,) * len(self.NAMES)]

    def turn(self) -> None:
        """A second is over."""
        self.second += 1
        self.came_through.append(0)
        self._seen.append(tuple(getattr(self, name) for name in self.NAMES))

    def story(self, weight: float) -> Story:
        """Of the seconds that are over, where each that was counted stands for `weight`."""
        columns = list(zip(*self._seen, strict=True))
        told = {
            name: tuple((later - before) * weight for before, later in pairwise(column))
            for name, column in zip(self.NAMES, columns, strict=True)
        }
        return Story(**told, came_through=tuple(came * weight for came in self.came_through[: self.second]))
