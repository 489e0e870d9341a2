"""The load of the comparison: so many callers, each with one connection, asking again as soon as it is answered.

It drives the upstream through its day (well, dying, down, back) and looks into every answer: is it about what was asked?
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httptools

CALLERS: Final = 16
DAY: Final = (("up", 1.0), ("dying", 0.2), ("down", 2.0), ("back", 3.3))
"""What becomes of the upstream, and for how many seconds."""


class Caller(asyncio.Protocol):
    """One connection, one request at a time. A lost connection is an answer of status 0."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.answered: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.end(self.parser.get_status_code(), self.body)

    def connection_lost(self, error: Exception | None) -> None:
        self.end(0, b"")

    def end(self, status: int, body: bytes) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_result((status, body))

    async def ask(self, method: str, target: str) -> tuple[int, bytes]:
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(f"{method} {target} HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n".encode())
        return await self.answered


@dataclass
class Tally:
    """What was seen in one day."""

    seconds: list[float] = field(default_factory=list)
    confirmed: set[str] = field(default_factory=set)
    wrong: int = 0
    lost: int = 0
    well: int = 0
    """Answers while all was well."""
    incomplete: float = 0.0
    """When the last incomplete answer came."""

    def count(self, phase: str, seconds: float, user: str, order: str, status: int, body: bytes) -> None:
        self.seconds.append(seconds)
        self.well += phase == "up"
        if status != 200:
            self.lost += 1
            return
        answer = json.loads(body)
        data = answer["data"]
        if not fits(data, answer["complete"], user, order):
            self.wrong += 1
        if data["order"] is not None:
            self.confirmed.add(order)
        if not answer["complete"]:
            self.incomplete = time.perf_counter()


def fits(data: dict[str, Any], complete: bool, user: str, order: str) -> bool:
    """Whether the answer is about this user and this order, and says rightly whether something is missing."""
    missing = data["history"] is None or data["order"] is None
    return (
        data["user"]["id"] == user
        and data["prices"] == {"rope": 12.5, "bell": 99.9}
        and (data["order"] is None or data["order"]["id"] == order)
        and complete is not missing
    )


async def day(port: int, control: int, phases: tuple[tuple[str, float], ...]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    _, upstream = await loop.create_connection(Caller, "127.0.0.1", control)
    await upstream.ask("POST", "/report")
    tally, phase, ends = Tally(), phases[0][0], False

    async def caller(number: int) -> None:
        _, connection = await loop.create_connection(Caller, "127.0.0.1", port)
        turn = 0
        while not ends:
            turn += 1
            user, order, begin, began = str(number), f"{number}-{turn}", phase, time.perf_counter()
            status, body = await connection.ask("POST", f"/checkout/{user}/{order}")
            tally.count(begin, time.perf_counter() - began, user, order, status, body)
            if not status:
                _, connection = await loop.create_connection(Caller, "127.0.0.1", port)
        connection.transport.close()

    callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
    began = since = time.perf_counter()
    for name, seconds in phases:
        await upstream.ask("POST", "/up" if name == "back" else f"/{name}")
        phase, since = name, time.perf_counter()
        await asyncio.sleep(seconds)
    ends = True
    await asyncio.gather(*callers)
    lasted = time.perf_counter() - began
    _, told = await upstream.ask("POST", "/report")
    report = json.loads(told)
    upstream.transport.close()
    ordered = sorted(tally.seconds)
    return {
        "answers": len(ordered),
        "rps": len(ordered) / lasted,
        "well": tally.well / phases[0][1],
        "p99": ordered[len(ordered) * 99 // 100] * 1000,
        "wrong": tally.wrong + tally.lost + len(tally.confirmed - report["placed"].keys()),
        "doubled": sum(times > 1 for times in report["placed"].values()),
        "unsaid": len(report["placed"].keys() - tally.confirmed),
        "refused": report["refused"],
        "healed": max(0.0, tally.incomplete - since),
    }


if __name__ == "__main__":
    import uvloop

    port, control, warm = map(int, sys.argv[1:])
    phases: tuple[tuple[str, float], ...] = (("up", 0.5),) if warm else DAY
    json.dump(uvloop.run(day(port, control, phases)), sys.stdout)
