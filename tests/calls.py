"""Calls and upstreams for the tests of policies."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

from fairlead.core import Call, Timeout, Upstream
from fairlead.events import Event
from fairlead.message import Request


def call(
    method: str = "GET",
    url: str = "https://shop.test/x",
    *,
    timeout: float | Timeout | None = 30.0,
    stream: bool = False,
    **request: Any,
) -> Call:
    """A call that begins now."""
    bounds = timeout if isinstance(timeout, Timeout) else Timeout(total=timeout)
    deadline = inf if bounds.total is None else now() + bounds.total
    return Call(Request(method, url, **request), bounds, deadline, stream=stream)


def now() -> float:
    return asyncio.get_running_loop().time()


def recorded() -> tuple[Upstream, list[Event]]:
    """An upstream, and the list of what it tells."""
    events: list[Event] = []
    return Upstream("shop", (events.append,)), events
