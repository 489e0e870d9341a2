"""Time that jumps: a loop for tests, and a crowd of clients before a service that fails, for what no test of one call shows."""

from fairlead.testing.virtual.loop import VirtualLoop, run, virtual_time
from fairlead.testing.virtual.service import Outage, Service
from fairlead.testing.virtual.simulation import simulate
from fairlead.testing.virtual.story import Story

__all__ = ["Outage", "Service", "Story", "VirtualLoop", "run", "simulate", "virtual_time"]
