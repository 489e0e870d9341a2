"""Callers of a reverse proxy who leave, each in a phase of its own, and what is left of them: nothing.

    python tests/proxy/leaving.py [--clients 5000] [--seed 1] [--together] [uvicorn granian hypercorn]

The upstream goes no further with a caller than the phase it leaves in, so that it is met there, and not where chance has it; but for
those that leave after a while, wherever they are by then: in line for a connection, say, as there are fewer of them than callers. Together,
all leave at once, when the last has come as far as it comes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import struct
import sys
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1])]

from fairlead.client import HTTPClient
from fairlead.proxy import ReverseProxy
from peers import PATIENCE, Line, Peer, moment
from servers import SERVERS, serving

FEW = 100
"""Callers at once of granian, which as it is run here serves 128 connections, and lets the rest wait."""
LIMIT = 100
"""Connections to the upstream; who comes when they are taken waits in line."""
PHASES = ("head", "upload", "answer", "body", "while")


class Gate:
    """Opens when so many stand before it."""

    def __init__(self, number: int) -> None:
        self.missing = number
        self.opened = asyncio.Event()
        self.at = 0.0

    async def __call__(self) -> None:
        self.missing -= 1
        if self.missing <= 0:
            self.at = perf_counter()
            self.opened.set()
        await self.opened.wait()


class Counted:
    """A proxy, and how many of its calls are under way."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.under_way = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        self.under_way += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.under_way -= 1


class Town:
    """The upstream: as far with each caller as its phase, and there until the connection ends."""

    def __init__(self) -> None:
        self.met: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def flow(self, line: Line) -> None:
        if (seen := await line.head()) is None:
            return
        phase = seen.target.strip("/").partition("/")[0]
        self.met[seen.target].set()
        if phase == "upload":
            await line.reader.readexactly(50_000)
            return
        await line.body(seen)
        if phase == "answer":
            return
        await line.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 40000\r\n\r\n", bytes(20_000))
        if phase == "body":
            return
        await line.say(bytes(20_000))
        line.hang_up()


async def leave(port: int, number: int, phase: str, town: Town, dice: random.Random, gate: Gate) -> None:
    """One caller, from its coming to its leaving through the gate: with a FIN, or a RST."""
    target = f"/{phase}/{number}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sock = writer.get_extra_info("socket")
    try:
        head = f"POST {target} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n"
        if phase == "head":
            writer.write(head.encode())
            await moment()
        elif phase == "while":
            writer.write(f"GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(), dice.uniform(0, 0.3))
        elif phase == "body":
            writer.write(f"GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), PATIENCE)
        else:
            writer.write(f"{head}\r\n".encode() + bytes(60_000 if phase == "upload" else 100_000))
            met, answered = asyncio.create_task(town.met[target].wait()), asyncio.create_task(reader.read(1))
            await asyncio.wait({met, answered}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            met.cancel()
            answered.cancel()
        await gate()
    finally:
        if dice.random() < 0.5:
            with suppress(OSError):  # it may have been sent away
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def sockets() -> int:
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += str(entry.readlink()).startswith("socket:")
    return found


async def run(server: str, clients: int, seed: int = 1, *, together: bool = False) -> dict[str, Any]:
    """What is left when so many have left, and after how many seconds nothing was."""
    dice = random.Random(seed)
    phases = [dice.choice(PHASES) for _ in range(clients)]
    gate = Gate(clients if together else 0)
    async with AsyncExitStack() as stack:
        town = Town()
        peer = await stack.enter_async_context(Peer(town.flow))
        client = await stack.enter_async_context(
            HTTPClient(base_url=peer.url, max_retries=0, max_connections=clients if together else LIMIT)
        )
        proxy = Counted(ReverseProxy(client))
        port = await stack.enter_async_context(serving(server, proxy))
        before = sockets()

        async def live(number: int) -> None:
            await asyncio.sleep(dice.uniform(0, clients / 1000))
            await leave(port, number, phases[number], town, dice, gate)

        most = longest = 0

        async def watch() -> None:
            nonlocal most, longest
            while True:
                await moment()
                if (slots := client.upstream.states.get(("ConcurrencyLimit", "default"))) is not None:
                    most, longest = max(most, slots.taken), max(longest, len(slots.line))

        watching = asyncio.create_task(watch())
        await asyncio.gather(*map(live, range(clients)))
        watching.cancel()
        started = gate.at if together else perf_counter()

        def left() -> dict[str, int]:
            slots = client.upstream.states["ConcurrencyLimit", "default"]
            return {
                "calls under way": proxy.under_way,
                "slots taken": slots.taken,
                "in line": len(slots.line),
                "upstream connections": peer.open,
                "sockets": max(0, sockets() - before),
            }

        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while any(left().values()):
                    await moment()
        took = perf_counter() - started
        rest = left()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /while/next HTTP/1.1\r\nHost: a.test\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            first = await reader.readuntil(b"\r\n")
        writer.transport.abort()
        return {
            "server": server,
            "clients": clients,
            **{f"left: {phase}": count for phase, count in sorted(Counter(phases).items())},
            "seconds until nothing": f"{took:.2f}",
            **rest,
            "seen by the upstream": len(peer.requests) - 1,
            "slots at most": most,
            "in line at most": longest,
            "whoever asked next": first.split()[1].decode(),
        }


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("servers", nargs="*", default=SERVERS)
    arguments.add_argument("--clients", type=int, default=5000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--together", action="store_true")
    given = arguments.parse_args()
    rows = []
    for server in given.servers:
        clients = min(given.clients, FEW) if given.together and server == "granian" else given.clients
        rows.append(asyncio.run(run(server, clients, given.seed, together=given.together)))
    width = max(map(len, rows[0]))
    for key in rows[0]:
        sys.stdout.write(f"{key:<{width}}  " + "  ".join(f"{row[key]!s:>10}" for row in rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
