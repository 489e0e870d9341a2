"""For tests: an engine that answers from a list, and a clock that does not wait."""

from fairlead.testing.scripted import Answer, Pieces, Script, script
from fairlead.testing.torture import Cut, Fault, at_every_await, at_every_step
from fairlead.testing.virtual import VirtualLoop, run, virtual_time

__all__ = [
    "Answer",
    "Cut",
    "Fault",
    "Pieces",
    "Script",
    "VirtualLoop",
    "at_every_await",
    "at_every_step",
    "run",
    "script",
    "virtual_time",
]
