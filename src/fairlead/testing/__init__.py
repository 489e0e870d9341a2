"""For tests: an engine that answers from a list, a clock that does not wait, and a crowd on it."""

from fairlead.testing.application import override
from fairlead.testing.scripted import Answer, Pieces, Script, script
from fairlead.testing.torture import Cut, Fault, at_every_await, at_every_step
from fairlead.testing.virtual import Outage, Service, Story, VirtualLoop, run, simulate, virtual_time

__all__ = [
    "Answer",
    "Cut",
    "Fault",
    "Outage",
    "Pieces",
    "Script",
    "Service",
    "Story",
    "VirtualLoop",
    "at_every_await",
    "at_every_step",
    "override",
    "run",
    "script",
    "simulate",
    "virtual_time",
]
