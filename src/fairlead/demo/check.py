"""`fairlead demo --check`: the demo started, asked, broken and mended, with what held and the figures."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fairlead.client import HTTPClient
from fairlead.demo.processes import Upstreams, free_port, spawn, stop, unwind_when_told, wait_until_listening
from fairlead.errors import FairleadError
from fairlead.gather import gather

PATIENCE: Final = """
[[aggregates]]
get = "/patience"
[aggregates.parts]
users  = { call = "users /sleep/2" }
orders = { call = "orders /sleep/2" }
prices = { call = "prices /sleep/2" }
"""
BACK: Final = 20.0
"""Seconds within which an upstream that is back is called again: its circuit opens for five, and may have opened twice."""


def check(port: int) -> int:
    """The exit status: 0 if everything held."""
    unwind_when_told()
    with tempfile.TemporaryDirectory(prefix="fairlead-demo-") as folder, Upstreams() as upstreams:
        file = Path(folder, "fairlead.toml")
        file.write_text(upstreams.toml() + PATIENCE, "utf-8")
        port = free_port(port)
        serving = spawn([sys.executable, "-m", "fairlead", "serve", str(file), "--port", str(port)], quiet=True)
        try:
            wait_until_listening("the gateway", port, serving)
            report = Report()
            asyncio.run(_ask(report, upstreams, f"http://127.0.0.1:{port}"))
        finally:
            stop(serving)
    print(f"{report.held} of {report.held + report.failed} held")
    return 1 if report.failed else 0


class Report:
    """Prints what held and what did not, as it is seen."""

    def __init__(self) -> None:
        self.held = self.failed = 0

    def __call__(self, claim: str, held: bool, figures: str) -> None:
        self.held += held
        self.failed += not held
        print(f"{'ok    ' if held else 'FAILED'}  {claim}: {figures}", flush=True)


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer of the gateway, as far as there was one."""

    status: int
    seconds: float
    complete: bool | None = None
    data: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {status}" for part, status in self.parts.items())
        return f"{parts or f'status {self.status}'}; complete: {self.complete}; {self.seconds * 1000:.1f} ms"


async def look(gateway: HTTPClient, path: str) -> Seen:
    began = time.perf_counter()
    try:
        response = await gateway.get(path)
        answer = response.json()
    except FairleadError:
        return Seen(0, time.perf_counter() - began)
    seconds = time.perf_counter() - began
    parts = {name: part["status"] for name, part in answer.get("services", {}).items()}
    return Seen(response.status_code, seconds, answer.get("complete"), answer.get("data", {}), parts)


async def _ask(report: Report, upstreams: Upstreams, url: str) -> None:
    async with HTTPClient(url, timeout=10.0, max_retries=0, raise_for_status=False) as gateway:
        seen = await look(gateway, "/home/1")
        whole = set(seen.parts.values()) == {"ok"} and all(seen.data.values())
        report("/home/1 is complete, with all three parts", seen.complete is True and whole, str(seen))

        seen = await look(gateway, "/home/13")
        told = seen.parts == {"user": "ok", "orders": "error", "prices": "ok"} and seen.data["orders"] == []
        report("/home/13 shows one part that fails, and its `or`", seen.complete is False and told, str(seen))

        seen = await look(gateway, "/home/7")
        told = seen.parts == {"user": "ok", "orders": "ok", "prices": "timeout"} and bool(seen.data["orders"])
        report("/home/7 shows one part that is too slow", seen.complete is False and told, str(seen))

        seen = await look(gateway, "/patience")
        report(
            "three upstreams of 2 s each, through the gateway: under 2.5 s",
            seen.complete is True and seen.seconds < 2.5,
            f"{seen.seconds:.3f} s",
        )

        await _gathered(report, upstreams.ports)

        upstreams.stop("prices")
        seen = await look(gateway, "/home/1")
        told = seen.parts == {"user": "ok", "orders": "ok", "prices": "error"} and bool(seen.data["orders"])
        report("prices is killed: the others' data is there", seen.complete is False and told, str(seen))

        upstreams.start("prices")
        upstreams.wait("prices")
        began = time.perf_counter()
        for _ in range(int(BACK / 0.2)):
            seen = await look(gateway, "/home/1")
            if seen.complete:
                break
            await asyncio.sleep(0.2)
        report(
            "prices is back: complete again",
            seen.complete is True,
            f"{seen}; after {time.perf_counter() - began:.1f} s",
        )

        upstreams.stop("users")
        seen = await look(gateway, "/home/1")
        report(
            "users is killed, and is required: the answer is a 502", seen.status == 502, f"status {seen.status}; {seen}"
        )


async def _gathered(report: Report, ports: dict[str, int]) -> None:
    async with AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(HTTPClient(f"http://127.0.0.1:{port}"))
            for name, port in ports.items()
        }
        began = time.perf_counter()
        parts = await gather({name: client.get("/sleep/2") for name, client in clients.items()})
        seconds = time.perf_counter() - began
        report(
            "three upstreams of 2 s each, through gather: under 2.5 s",
            parts.complete and seconds < 2.5,
            f"{seconds:.3f} s",
        )
