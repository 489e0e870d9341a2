"""What waits for what: each part for exactly the parts it refers to, so that the rest run at once.

References make the order; where a part stands in the file means nothing. Names that lead nowhere and circles are found here,
before the first request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final

from fairlead.errors import ConfigError
from fairlead.gateway.reference import Reference
from fairlead.gateway.table import meant
from fairlead.gateway.target import Pieces, Target, names

REQUEST: Final = frozenset({"query", "header"})
"""What a reference may read of the request besides its path parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One upstream answer, as the file describes it. Seconds are floats; `fallback` is JSON."""

    name: str
    service: str
    call: str
    target: Target
    required: bool = False
    fallback: bytes | None = None
    within: float | None = None
    when: Reference | None = None
    headers: tuple[tuple[str, Pieces], ...] = ()

    @property
    def reads(self) -> frozenset[str]:
        """Every name its references read."""
        read = self.target.names.union(*(names(value) for _, value in self.headers))
        return read | self.when.names if self.when is not None else read


@dataclass(frozen=True, slots=True)
class Step:
    """A part in its plan: the parts it waits for, the steps that wait for it, and whether anything reads its answer."""

    part: Part
    needs: tuple[str, ...]
    then: tuple[int, ...]

    @property
    def is_read(self) -> bool:
        return bool(self.then)


@dataclass(frozen=True, slots=True)
class Plan:
    """One aggregate: its steps in the file's order. `stages` are for people: the parts that can begin after the stage before."""

    path: str
    within: float | None
    steps: tuple[Step, ...]
    stages: tuple[tuple[str, ...], ...]
    reads: frozenset[str]


def plan(path: str, parameters: Sequence[str], parts: Sequence[Part], within: float | None) -> Plan:
    """The plan for an aggregate's parts; raises ConfigError naming the part that cannot be placed."""
    order = {part.name: at for at, part in enumerate(parts)}
    needs: dict[str, tuple[str, ...]] = {}
    for part in parts:
        if part.name in REQUEST or part.name in parameters:
            what = "a path parameter" if part.name in parameters else "what references call the request"
            raise ConfigError(f"parts.{part.name}: {part.name!r} is {what} already; give the part another name")
        for name in sorted(part.reads - order.keys() - REQUEST - set(parameters)):
            known = [one for one in (*order, *parameters, *sorted(REQUEST)) if one != part.name]
            raise ConfigError(f'parts.{part.name}: no part or path parameter "{name}"{meant(name, tuple(known))}')
        needs[part.name] = tuple(name for name in order if name in part.reads)
    stages = _stages(needs)
    steps = tuple(
        Step(part, needs[part.name], tuple(at for name, at in order.items() if part.name in needs[name]))
        for part in parts
    )
    return Plan(path, within, steps, stages, frozenset().union(*(part.reads for part in parts)))


def _stages(needs: dict[str, tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = error.args[1][:0:-1]  # each waits for the next
        begin = min(range(len(circle)), key=lambda at: list(needs).index(circle[at]))
        name, *others = circle[begin:] + circle[:begin]
        if not others:
            raise ConfigError(f"parts.{name}: refers to itself; refer to another part") from None
        told = ", which waits for ".join([*others, name])
        raise ConfigError(f"parts.{name}: waits for {told}: a circle; drop one of these references") from None
    stages = []
    while ready := sorter.get_ready():
        stages.append(tuple(name for name in needs if name in ready))
        sorter.done(*ready)
    return tuple(stages)
