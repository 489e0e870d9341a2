"""Sinks: each takes the events of `fairlead.events` and tells them somewhere else."""

from __future__ import annotations

from fairlead.events import Sink
from fairlead.observe.logs import log

__all__ = ["log", "sinks"]


def sinks(*, traces: bool = False) -> tuple[Sink, ...]:
    """What a client tells its events to, beside sinks of one's own."""
    if not traces:
        return (log,)
    from fairlead.observe import traces as spans

    return (log, *spans.traces())
