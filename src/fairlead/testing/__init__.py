"""For tests: an engine that answers from a list, and a clock that does not wait."""

from fairlead.testing.scripted import Answer, Pieces, Script, script
from fairlead.testing.virtual import Cut, VirtualLoop, at_every_step, run, virtual_time

__all__ = [
    "Answer",
    "Cut",
    "Pieces",
    "Script",
    "VirtualLoop",
    "at_every_step",
    "run",
    "script",
    "virtual_time",
]
