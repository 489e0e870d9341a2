"""Engines are tested on both loops: their timers, their TLS and their ways to lose a connection differ."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import pytest

from fairlead.engines.native import resolve


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.SelectorEventLoop}
    if find_spec("uvloop") is not None:
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What every name leads to, instead of what the system says; and under "asked", which were asked for."""
    told: dict[str, list[str]] = {"asked": []}

    async def ask(host: str) -> list[tuple[Any, ...]]:
        told["asked"].append(host)
        if host not in told:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [info for one in told[host] for info in socket.getaddrinfo(one, None, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(resolve, "_system", ask)
    return told
