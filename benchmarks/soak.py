"""Ten minutes of bad weather: is anything held that should not be, and does anything grow?

    python benchmarks/soak.py [--seconds 600] [--callers 100] [--uvloop] [--csv soak.csv] [--svg docs/soak.svg]

Callers ask `rough.py`, over TLS and without, through the whole pipeline: one answer in six is wrong, one call in eight is cancelled
somewhere, and every few seconds the server is killed and another one takes its place. Each second everything is counted. It is flat
if the last third has no more of anything than the first, but for what the constants below allow; and in the end all is 0 again.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gc
import logging
import platform
import random
import socket
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from statistics import fmean, linear_regression
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import trustme
from plot import Panel, draw

from fairlead import FairleadError, HTTPClient, Timeout
from fairlead.engines.native import Native
from fairlead.policies import CircuitBreaker, ConcurrencyLimit, Observe, Retry

LIMIT = 60
"""Calls under way at once: fewer than callers, so that some always wait in line."""
CANCELLED = 1 / 8
LIVES = (5.0, 12.0)
"""Seconds that a server lives, at least and at most."""
AWAY = (0.1, 0.7)
"""Seconds until the next one takes its place."""
WARMING = 0.1
"""The share of the time that is not judged: pools, caches and the allocator fill."""
ALLOWED = {"resident": 5.0, "blocks": 5_000, "descriptors": 15, "tasks": 15, "connections": 15, "taken": 10}
"""MiB, Python's memory blocks, and counts. Of what grows, the last third of the time has so much more than the first, on average, and
the straight line through all of it rises by as much."""


@dataclass
class Sample:
    second: float
    resident: float
    """MiB."""
    blocks: int
    descriptors: int
    tasks: int
    connections: int
    idle: int
    taken: int
    line: int
    servers: int
    """How many there were until now."""
    answered: int
    failed: int
    refused: int
    cancelled: int


@dataclass
class Town:
    """The callers' one client, and the server of the moment."""

    client: HTTPClient
    ports: tuple[int, int]
    certificate: str
    dice: random.Random
    outcomes: Counter[str] = field(default_factory=Counter)
    servers: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self) -> str:
        scheme, port = self.dice.choice((("http", self.ports[0]), ("https", self.ports[1])))
        return f"{scheme}://127.0.0.1:{port}"

    async def restart(self) -> None:
        """One server after another."""
        while not self.over.is_set():
            server = await self.start()
            try:
                await self.sleep(self.dice.uniform(*LIVES))
            finally:
                server.kill()
                await server.wait()
            await self.sleep(self.dice.uniform(*AWAY))

    async def start(self) -> asyncio.subprocess.Process:
        self.servers += 1
        options = ("--plain", self.ports[0], "--secure", self.ports[1], "--certificate", self.certificate)
        server = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("rough.py")),
            *map(str, options),
            "--seed",
            str(self.servers),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert server.stdout is not None
        await server.stdout.readline()
        return server

    async def sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    async def live(self) -> None:
        """One caller: call after call."""
        while not self.over.is_set():
            task = asyncio.create_task(self.dice.choice(CALLS)(self))
            if self.dice.random() < CANCELLED:
                await asyncio.wait({task}, timeout=self.dice.choice((0.0, 0.001, 0.01, 0.1, 0.3)))
                task.cancel()
                if self.dice.random() < 0.3:
                    await asyncio.sleep(0)
                    task.cancel()
            try:
                await task
                self.outcomes["answered"] += 1
            except asyncio.CancelledError:
                self.outcomes["cancelled"] += 1
            except FairleadError as error:
                self.outcomes[type(error).__name__] += 1
                if type(error).__name__ == "CircuitOpen":
                    await asyncio.sleep(0.05)

    def sample(self, second: float) -> Sample:
        engine, seen = self.client.engine, self.outcomes
        assert isinstance(engine, Native)
        slots = self.client.upstream.states["ConcurrencyLimit", "default"]
        refused = seen["CircuitOpen"] + seen["LimitReached"]
        return Sample(
            round(second, 1),
            resident(),
            sys.getallocatedblocks(),
            descriptors(),
            len(asyncio.all_tasks()),
            len(engine._open),
            sum(map(len, engine._idle.values())),
            slots.taken,
            len(slots.line),
            self.servers,
            seen["answered"],
            sum(seen.values()) - refused - seen["answered"] - seen["cancelled"],
            refused,
            seen["cancelled"],
        )


# What callers do


async def small(town: Town) -> None:
    await town.client.get(f"{town.url()}/small", timeout=1.0)


async def large(town: Town) -> None:
    await town.client.get(f"{town.url()}/bytes/300000", timeout=1.0)


async def chunks(town: Town) -> None:
    await town.client.get(f"{town.url()}/chunks", timeout=Timeout(1.0, read=0.5))


async def coded(town: Town) -> None:
    await town.client.get(f"{town.url()}/gzip", timeout=1.0)


async def head(town: Town) -> None:
    await town.client.head(f"{town.url()}/small", timeout=0.5)


async def post(town: Town) -> None:
    await town.client.post(f"{town.url()}/echo", json={"order": "a" * 200}, timeout=1.0)


async def upload(town: Town) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(town.dice.randrange(6)):
            yield bytes(20_000)
            await asyncio.sleep(town.dice.random() * 0.01)

    await town.client.put(f"{town.url()}/echo", content=pieces, timeout=Timeout(1.0, write=0.5))


async def stream(town: Town) -> None:
    async with town.client.stream("GET", f"{town.url()}/slowly", timeout=Timeout(1.0, attempt=0.3)) as response:
        async for _ in response.aiter_bytes():
            pass


async def half_a_stream(town: Town) -> None:
    async with town.client.stream("GET", f"{town.url()}/bytes/1000000", timeout=1.0) as response:
        async for _ in response.aiter_bytes():
            break


CALLS: tuple[Callable[[Town], Awaitable[None]], ...] = (
    small, small, small, small, large, chunks, coded, head, post, upload, stream, half_a_stream,
)  # fmt: skip


# What comes of it


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * 4096 / (1 << 20), 2)


async def soak(seconds: float, callers: int, seed: int) -> tuple[list[Sample], dict[str, object]]:
    authority, dice = trustme.CA(), random.Random(seed)
    with (
        tempfile.NamedTemporaryFile(suffix=".pem") as certificate,
        tempfile.NamedTemporaryFile(suffix=".pem") as own,
    ):
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(certificate.name)
        authority.cert_pem.write_to_path(own.name)
        policies = (
            Observe(),
            Retry(retries=2, delay=0.01),
            CircuitBreaker(open_for=0.3, max_open_for=1.0),
            ConcurrencyLimit(limit=LIMIT),
        )
        client = HTTPClient(verify=own.name, policies=policies)
        town = Town(client, two_ports(), certificate.name, dice)
        first = await town.start()  # what watches children stays with the loop
        first.kill()
        await first.wait()
        before = descriptors()
        restarts = asyncio.create_task(town.restart())
        lives = [asyncio.create_task(town.live()) for _ in range(callers)]
        samples = []
        began = perf_counter()
        for tick in range(1, int(seconds) + 1):
            await asyncio.sleep(began + tick - perf_counter())
            samples.append(town.sample(perf_counter() - began))
        town.over.set()
        await asyncio.gather(*lives, restarts)
        left = town.sample(perf_counter() - began)
        await client.close()
        engine = client.engine
        assert isinstance(engine, Native)
        gc.collect()
        for _ in range(200):  # the loop lets go of what was closed last
            if len(asyncio.all_tasks()) > 1 or descriptors() > before:
                await asyncio.sleep(0.01)
        return samples, {
            "slots taken": left.taken,
            "callers in line": left.line,
            "timers of calls": len(engine._waits._timers),
            "tasks": len(asyncio.all_tasks()) - 1,
            "connections": len(engine._open),
            "descriptors": max(0, descriptors() - before),
            "servers": town.servers,
            "outcomes": dict(town.outcomes.most_common()),
        }


def two_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def grown(samples: list[Sample], name: str) -> tuple[float, float, float, float]:
    """The averages of the first and the last third, their difference, and what the trend of the whole comes to."""
    judged = samples[int(len(samples) * WARMING) :]
    values = [float(getattr(sample, name)) for sample in judged]
    third = max(1, len(values) // 3)
    first, last = fmean(values[:third]), fmean(values[-third:])
    trend = linear_regression(range(len(values)), values).slope * len(values) if len(values) > 1 else 0.0
    return first, last, last - first, trend


def picture(samples: list[Sample], title: str) -> str:
    seconds = [sample.second for sample in samples]
    restarts = [later.second for earlier, later in pairwise(samples) if later.servers > earlier.servers]

    def rate(name: str) -> list[float]:
        counts = [0, *[getattr(sample, name) for sample in samples]]
        times = [0.0, *seconds]
        return [(counts[i + 1] - counts[i]) / max(0.1, times[i + 1] - times[i]) for i in range(len(samples))]

    def of(name: str) -> list[float]:
        return [float(getattr(sample, name)) for sample in samples]

    return draw(
        title,
        seconds,
        restarts,
        [
            Panel("Resident memory, MiB", {"": of("resident")}),
            Panel("Descriptors, connections", {"descriptors": of("descriptors"), "open": of("connections"), "idle": of("idle")}),
            Panel("Tasks, slots, callers in line", {"tasks": of("tasks"), "slots": of("taken"), "in line": of("line")}),
            Panel("Calls in a second", {"answered": rate("answered"), "failed": rate("failed"), "refused": rate("refused"), "cancelled": rate("cancelled")}),
        ],
    )  # fmt: skip


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=600.0)
    arguments.add_argument("--callers", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--uvloop", action="store_true")
    arguments.add_argument("--csv", type=Path)
    arguments.add_argument("--svg", type=Path)
    given = arguments.parse_args()
    factory = None
    if given.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    complaints: list[str] = []
    logging.getLogger("fairlead").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addHandler(Collected(complaints))
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_: complaints.append(str(message))
    with asyncio.Runner(loop_factory=factory) as runner:
        samples, ends = runner.run(soak(given.seconds, given.callers, given.seed))
    if given.csv is not None:
        with given.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, [one.name for one in fields(Sample)])
            writer.writeheader()
            writer.writerows(map(asdict, samples))
    loop = "uvloop" if given.uvloop else "asyncio"
    last = samples[-1]
    told = (
        f"{given.seconds:g} s, {given.callers} callers, {ends.pop('servers')} servers, {loop}, Python {platform.python_version()}:"
        f" {last.answered:,} calls answered, {last.failed:,} failed, {last.refused:,} refused, {last.cancelled:,} cancelled"
    )
    if given.svg is not None:
        given.svg.write_text(picture(samples, told), encoding="utf-8")
    print(told)
    print("  " + ", ".join(f"{name} {count:,}" for name, count in ends.pop("outcomes").items()))  # type: ignore[attr-defined]
    good = True
    print(f"{'':<14}{'first third':>12}{'last third':>12}{'difference':>12}{'trend':>12}{'allowed':>12}")
    for name, allowed in ALLOWED.items():
        first, end, difference, trend = grown(samples, name)
        flat = difference <= allowed or trend <= allowed
        good = good and flat
        print(
            f"{name:<14}{first:12,.1f}{end:12,.1f}{difference:12,.1f}{trend:12,.1f}{allowed:12,.1f}{'' if flat else '  GROWS'}"
        )
    print("in the end: " + ", ".join(f"{name} {count}" for name, count in ends.items()))
    good = good and not any(ends.values()) and not complaints
    for complaint in complaints[:5]:
        print(f"  said: {complaint[:300]}")
    print("flat, and nothing left" if good else "NOT as it should be")
    return not good


class Collected(logging.Handler):
    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record.getMessage())


if __name__ == "__main__":
    sys.exit(main())
