"""A thousand callers cancelled on each engine, at random, in every phase of a call; nothing may be left of them.

    python benchmarks/cancel.py [--callers 1000] [--seed 1] [--uvloop] [native httpx2 aiohttp]

Where a caller is when it is cancelled is looked up, not assumed: whether its call has come to the engine (else it waits in line),
whether the system lists a connection that is still being made for it, and what the peer has seen of it by then. Each caller that
must be told apart before it has said a word has a loopback address of its own (127.x.y.z).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fairlead import HTTPClient, engines
from fairlead.core import Call, Engine
from fairlead.engines import Wire
from fairlead.message import Response
from peers import Authority, Line, Peer

PHASES = ("waiting", "connecting", "TLS", "sending", "head", "body")
LIMIT = 150
"""Calls under way at once; the rest wait in line."""
LIFE, HOLD, RUSH = 2.0, 0.5, 4.0
"""Seconds, at most: until a caller is cancelled, that a peer stays in a phase, within which all callers come."""


@dataclass
class Caller:
    number: int
    kind: str
    under_way: bool = False
    phase: str = "done"
    """What the peer saw last."""

    def address(self) -> str:
        if self.kind == "crowd":
            return f"127.1.{self.number // 250}.{self.number % 250 + 1}"
        return f"127.2.{self.number // 250}.{self.number % 250 + 1}" if self.kind == "mute" else "127.0.0.1"


@dataclass
class Watched:
    """The engine, with a look at who has come to it."""

    engine: Engine
    callers: dict[int, Caller] = field(default_factory=dict)

    async def send(self, call: Call, /) -> Response:
        caller = self.callers.get(int(call.request.headers.get("x-caller", "-1")))
        if caller is not None:
            caller.under_way = True
        return await self.engine.send(call)

    async def close(self) -> None:
        await self.engine.close()


class Town:
    """Where the callers go: a crowd at a door, a peer that is mute in the handshake, and one that takes its time in all it does."""

    def __init__(self, callers: list[Caller], dice: random.Random) -> None:
        self.callers = callers
        self.dice = dice
        self.secured: set[str] = set()
        self.authority = Authority()

    async def mute(self, line: Line) -> None:
        await line.reader.read(1)
        self.secured.add(line.writer.get_extra_info("sockname")[0])

    async def flow(self, line: Line) -> None:
        while (seen := await line.head()) is not None:
            caller = self.callers[int(seen.get(b"x-caller") or -1)]
            caller.phase = "sending"
            if caller.kind == "blocked":
                transport = cast("asyncio.Transport", line.writer.transport)
                transport.pause_reading()
                await self.hold()
                transport.resume_reading()
            await line.body(seen)
            caller.phase = "head"
            await self.hold()
            caller.phase = "body"
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", bytes(10000))
            await self.hold()
            await line.say(bytes(10000))
            caller.phase = "done"

    async def hold(self) -> None:
        await asyncio.sleep(self.dice.uniform(0, HOLD))


def phase_of(caller: Caller, town: Town, crowd: int) -> str:
    if not caller.under_way:
        return "waiting"
    if caller.kind == "crowd":
        return "connecting" if (caller.address(), crowd) in connecting() else "other"
    if caller.kind == "mute":
        return "TLS" if caller.address() in town.secured else "connecting"
    return caller.phase if caller.phase != "done" else "other"


def connecting() -> set[tuple[str, int]]:
    """Address and port of every connection that has sent its SYN and has no answer, as the system lists them."""
    found = set()
    for row in Path("/proc/net/tcp").read_text().splitlines():
        _, _, remote, state, *_ = row.split()
        if state == "02":
            address, port = remote.split(":")
            found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


def sockets() -> int:
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += str(entry.readlink()).startswith("socket:")
    return found


async def calls(client: HTTPClient, caller: Caller, url: str, pause: float) -> None:
    """Call after call: uploads that take their time, or too long for a peer that does not read; buffered, or streams."""

    async def body() -> AsyncIterator[bytes]:
        yield bytes(1000)
        if caller.kind == "blocked":
            for _ in range(200):
                yield bytes(1 << 16)
        else:
            await asyncio.sleep(pause)
            yield bytes(1000)

    options: dict[str, Any] = {"headers": {"x-caller": str(caller.number)}, "content": body, "timeout": 60.0}
    while True:
        caller.under_way, caller.phase = False, "done"
        if caller.number % 2:
            await client.post(url, **options)
        else:
            async with client.stream("POST", url, **options) as response:
                async for _ in response.aiter_bytes():
                    pass


async def run(name: engines.EngineName, number: int, seed: int) -> dict[str, Any]:
    dice = random.Random(seed)
    callers = [
        Caller(index, dice.choices(["crowd", "mute", "blocked", "safe", "plain"], [2, 2, 1, 3, 5])[0])
        for index in range(number)
    ]
    town = Town(callers, dice)
    async with AsyncExitStack() as stack:
        secure = await stack.enter_async_context(Peer(town.flow, tls=town.authority.server("127.0.0.1")))
        plain = await stack.enter_async_context(Peer(town.flow))
        mute = await stack.enter_async_context(Peer(town.mute, host="0.0.0.0"))
        door = stack.enter_context(socket.create_server(("0.0.0.0", 0), backlog=0))
        crowd = door.getsockname()[1]
        for _ in range(3):
            early = stack.enter_context(socket.socket())
            early.setblocking(False)
            early.connect_ex(("127.0.0.1", crowd))
        ports = {"crowd": crowd, "mute": mute.port, "plain": plain.port}
        before = sockets()

        engine = Watched(engines.create(name, Wire(verify=town.authority.client())), dict(enumerate(callers)))
        client = HTTPClient(engine=engine, max_retries=0, max_connections=LIMIT)
        seen: Counter[str] = Counter()
        outcomes: Counter[str] = Counter()

        async def live(caller: Caller) -> None:
            scheme = "http" if caller.kind in {"crowd", "plain"} else "https"
            url = f"{scheme}://{caller.address()}:{ports.get(caller.kind, secure.port)}/"
            await asyncio.sleep(dice.uniform(0, RUSH))
            task = asyncio.create_task(calls(client, caller, url, dice.uniform(0, HOLD)))
            await asyncio.wait({task}, timeout=dice.uniform(0, LIFE))
            seen[phase_of(caller, town, crowd)] += 1
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                outcomes["cancelled"] += 1
            except Exception as error:
                outcomes[type(error).__name__] += 1

        started = perf_counter()
        await asyncio.gather(*map(live, callers))
        took = perf_counter() - started

        extra = Caller(number, "safe")
        callers.append(extra)
        answer = await client.post(
            f"https://127.0.0.1:{secure.port}/", headers={"x-caller": str(number)}, content=b"next"
        )
        slots = client.upstream.states["ConcurrencyLimit", "default"]
        held = slots.taken + len(slots.line)
        peers = secure.tasks | plain.tasks | mute.tasks
        tasks = len(asyncio.all_tasks() - peers) - 1
        still = len(connecting() & {(caller.address(), crowd) for caller in callers if caller.kind == "crowd"})
        await client.close()
        for peer in (secure, plain, mute):
            await peer.empty()
        return {
            "engine": name,
            "seconds": f"{took:.1f}",
            "callers": number,
            **{phase: seen[phase] for phase in PHASES},
            "in between": seen["other"],
            "cancelled": outcomes.pop("cancelled", 0),
            "errors": sum(outcomes.values()),
            "next": answer.status_code,
            "slots held": held,
            "tasks left": tasks,
            "connecting left": still,
            "descriptors left": sockets() - before,
        }


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("engines", nargs="*", default=["native", "httpx2", "aiohttp"])
    arguments.add_argument("--callers", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--uvloop", action="store_true")
    given = arguments.parse_args()
    factory = None
    if given.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    rows = []
    for name in given.engines:
        with asyncio.Runner(loop_factory=factory) as runner:
            rows.append(runner.run(run(name, given.callers, given.seed)))
    width = max(map(len, rows[0]))
    for key in rows[0]:
        print(f"{key:<{width}}  " + "  ".join(f"{row[key]!s:>8}" for row in rows))
    good = all(
        row["next"] == 200
        and row["cancelled"] == given.callers
        and not any(row[key] for key in ("errors", "slots held", "tasks left", "connecting left", "descriptors left"))
        and all(row[phase] >= 0.05 * given.callers for phase in PHASES)
        for row in rows
    )
    print("every phase met, nothing left" if good else "NOT as it should be")
    return not good


if __name__ == "__main__":
    sys.exit(main())
