"""Callers of a proxy who leave in the midst of it: each upstream connection, slot and socket of theirs is free again."""

import pytest

from proxy.leaving import FEW, PHASES, run
from servers import SERVERS

FREE = {"calls under way": 0, "slots taken": 0, "in line": 0, "upstream connections": 0, "sockets": 0}


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "at once"])
@pytest.mark.parametrize("server", SERVERS)
async def test_nothing_is_left_of_callers_who_leave_in_every_phase(server, together):
    pytest.importorskip(server)

    seen = await run(server, FEW if server == "granian" else 150, together=together)

    assert all(seen[f"left: {phase}"] > 10 for phase in PHASES)
    assert {name: seen[name] for name in FREE} == FREE
    assert seen["whoever asked next"] == "200"
