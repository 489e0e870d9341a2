"""Three processes keep to one rate through one Redis: what their upstream counts, second by second, also while Redis is killed.

    python benchmarks/shared.py [--rate 50] [--seconds 20] [--processes 3] [--redis redis://127.0.0.1:6379/0]

The Redis is a child of its own (`redis-server` must be on the path), so that it can be killed and started again. With `--redis` it
is that one, which is not killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from time import perf_counter, process_time
from typing import Any

from fairlead import HTTPClient
from fairlead.core import Upstream
from fairlead.errors import FairleadError
from fairlead.events import SharingLost, SharingResumed
from fairlead.policies import ConcurrencyLimit
from fairlead.policies.rate import RateLimit
from fairlead.sharing import RedisStore

CALLERS = 20
"""In each process, each calling again as soon as it was answered: more than the rate lets through."""
SETTLE = 3.0
"""Seconds after all have come before it is counted: the first burst is over."""
START = 5.0
"""Seconds within which the last has come."""
NEAR = 0.03
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOLD = {SharingLost: "lost", SharingResumed: "resumed"}


# One of the processes


async def work(url: str, redis: str, prefix: str, rate: float, seconds: float) -> None:
    """Call until the time is over; say what failed, and what was told of the store."""
    logging.disable(logging.WARNING)  # it is in what is said
    told: list[str] = []
    failed: list[str] = []
    calls = 0

    def hear(event: object) -> None:
        if type(event) in TOLD:
            told.append(TOLD[type(event)])

    async def call(client: HTTPClient, until: float) -> None:
        nonlocal calls
        while perf_counter() < until:
            try:
                await client.get(f"/{os.getpid()}")
            except FairleadError as error:
                failed.append(repr(error))
            calls += 1

    client = HTTPClient(
        url,
        name="upstream",
        policies=(RateLimit(rate), ConcurrencyLimit(limit=100)),
        shared=RedisStore(redis, prefix=prefix),
        sinks=(hear,),
    )
    async with client:
        until = perf_counter() + seconds
        await asyncio.gather(*[call(client, until) for _ in range(CALLERS)])
    print(json.dumps({"calls": calls, "failed": failed, "told": told}))


# The rest of the world


class Counter:
    """An upstream that notes when it was asked, and when so many processes have come."""

    def __init__(self, processes: int) -> None:
        self.times: list[float] = []
        self.processes = processes
        self.came: set[bytes] = set()
        self.all = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.times.append(perf_counter())
                self.came.add(head.partition(b" HTTP/")[0])
                if len(self.came) == self.processes:
                    self.all.set()
                writer.write(ANSWER)
        writer.close()

    def seconds(self, begin: float, count: int) -> list[int]:
        return [sum(begin + n <= time < begin + n + 1 for time in self.times) for n in range(count)]


class Server:
    """A Redis of its own, which keeps nothing."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self.folder = tempfile.TemporaryDirectory()
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = await asyncio.create_subprocess_exec(
            "redis-server", *options, "--dir", self.folder.name, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(10):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    async def close(self) -> None:
        await self.kill()
        self.folder.cleanup()


async def measure(options: argparse.Namespace, redis: str, server: Server | None) -> bool:
    """One run, told; with a server, it is killed after a quarter of the time and back after a half. Whether it went well."""
    counter = Counter(options.processes)
    upstream = await asyncio.start_server(counter.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
    prefix = f"fairlead-bench-{secrets.token_hex(4)}"
    seconds = options.seconds
    asked = ["--worker", url, redis, prefix, str(options.rate), str(SETTLE + seconds + START)]
    workers = [
        await asyncio.create_subprocess_exec(sys.executable, __file__, *asked, stdout=asyncio.subprocess.PIPE)
        for _ in range(options.processes)
    ]
    outcomes = asyncio.gather(*[worker.communicate() for worker in workers])
    await asyncio.wait_for(counter.all.wait(), 60)
    begin = perf_counter() + SETTLE
    if server is not None:
        await asyncio.sleep(SETTLE + seconds / 4)
        await server.kill()
        await asyncio.sleep(seconds / 4)
        await server.start()
    told = [json.loads(out) for out, _ in await outcomes]
    upstream.close()
    counted = counter.seconds(begin, seconds)
    failed = [error for one in told for error in one["failed"]]
    mean = sum(counted) / seconds
    print(f"  asked in each second: {' '.join(map(str, counted))}")
    print(
        f"  mean {mean:.2f} of {options.rate:g} ({mean / options.rate - 1:+.1%}), worst {max(counted)} and {min(counted)}"
    )
    print(
        f"  {sum(one['calls'] for one in told)} calls ({'/'.join(str(one['calls']) for one in told)}), {len(failed)} failed",
        *failed[:3],
    )
    print(f"  told: {'; '.join(', '.join(one['told']) or 'nothing' for one in told)}")
    if server is not None:
        return not failed and all(one["told"] == ["lost", "resumed"] for one in told)
    return not failed and all(abs(number - options.rate) <= NEAR * options.rate for number in counted)


async def cost(redis: str) -> None:
    """Microseconds of one reservation: one after the other, and a hundred at once."""
    shared: Any = RedisStore(redis, prefix=f"fairlead-bench-{secrets.token_hex(4)}", timeout=5.0).share(
        Upstream("cost")
    )
    shared.start()

    async def reserve() -> None:
        assert await shared.reserve("cost", interval=1e-6, burst=1, patience=60.0) is not None

    try:
        await reserve()
        for at_once in (1, 100):
            rounds = 5000 // at_once
            wall, cpu = perf_counter(), process_time()
            for _ in range(rounds):
                await (reserve() if at_once == 1 else asyncio.gather(*[reserve() for _ in range(at_once)]))
            wall, cpu = perf_counter() - wall, process_time() - cpu
            each = 1e6 / (rounds * at_once)
            print(
                f"  reserve, {at_once} at once: {wall * each:.0f} us each, of which {cpu * each:.0f} us are of this process"
            )
    finally:
        await shared.close()


async def main(options: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        server = None
        if options.redis is None:
            if shutil.which("redis-server") is None:
                print("there is no redis-server on the path: pass --redis redis://host:6379/0")
                return 2
            server = Server()
            stack.push_async_callback(server.close)
            await server.start()
        redis = options.redis or server.url
        print("what a reservation costs")
        await cost(redis)
        print(f"{options.processes} processes, {options.rate:g} calls a second together")
        good = await measure(options, redis, None)
        if server is not None:
            print("the same, and Redis killed after a quarter of the time, and back after a half")
            good = await measure(options, redis, server) and good
    print("good" if good else "not as it should be")
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(work(*sys.argv[2:5], float(sys.argv[5]), float(sys.argv[6])))
        raise SystemExit
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--redis")
    raise SystemExit(asyncio.run(main(parser.parse_args())))
