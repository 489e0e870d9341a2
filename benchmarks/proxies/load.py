"""What is asked of a proxy, by a client that costs next to nothing; what it cost the proxy is read from the kernel.

    python benchmarks/proxies/load.py small '{"port": 8080, "pids": [4711], "seconds": 2.0}'

Every byte of every answer is counted, and an answer that is not as expected ends the run.
"""

import asyncio
import json
import re
import resource
import sys
from pathlib import Path
from time import perf_counter

import uvloop

sys.path.append(str(Path(__file__).parents[1]))
from server import SMALL

MIB = 1 << 20
REQUEST = "GET {} HTTP/1.1\r\nhost: bench.example\r\nuser-agent: bench/1.0\r\naccept: */*\r\naccept-encoding: gzip, br\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search
BUFFER = memoryview(bytearray(MIB))


def cpu(pids):
    """Seconds of all threads, user and system."""
    return sum(
        int((thread / "schedstat").read_text().split()[0]) / 1e9
        for pid in pids
        for thread in Path(f"/proc/{pid}/task").iterdir()
    )


def memory(pids, field="VmRSS"):
    """Bytes."""
    found = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                found += int(line.split()[1]) * 1024
    return found


def forget_peak(pids):
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


class Caller(asyncio.BufferedProtocol):
    """One connection. An answer has a head that names its length, as each of the proxies sends it."""

    def __init__(self, request, length, told):
        self.request, self.length, self.told = request, length, told
        self.head, self.left, self.count, self.going = b"", 0, 0, True

    def connection_made(self, transport):
        self.transport = transport

    def ask(self):
        self.transport.write(self.request)

    def get_buffer(self, sizehint):
        return BUFFER

    def buffer_updated(self, nbytes):
        if self.left:
            self.left -= nbytes
        else:
            self.head += BUFFER[:nbytes]
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            named = LENGTH(self.head, 0, end + 2)
            if not self.head.startswith(b"HTTP/1.1 200 ") or named is None or int(named[1]) != self.length:
                self.transport.abort()
                self.told.set_exception(RuntimeError(f"an answer that was not expected: {self.head[:500]}"))
                return
            self.left = self.length - (len(self.head) - end - 4)
            self.head = b""
        if not self.left:
            self.count += 1
            if self.going:
                self.transport.write(self.request)
            elif not self.told.done():
                self.told.set_result(None)

    def connection_lost(self, error):
        if not self.told.done():
            self.told.set_exception(ConnectionError("the proxy closed the connection"))


async def callers(port, path, length, number):
    loop, made = asyncio.get_running_loop(), []
    for _ in range(number):
        told = loop.create_future()
        _, one = await loop.create_connection(
            lambda told=told: Caller(REQUEST.format(path).encode(), length, told), "127.0.0.1", port
        )
        made.append(one)
    return made


async def small(port, pids, *, seconds, warm, connections=50):
    """Requests for 150 bytes, one after the other on each connection, after as many as `warm`: some compile as they go. Or after 6 s."""
    many = await callers(port, "/small", len(SMALL), connections)
    for one in many:
        one.ask()
    for _ in range(120):
        if sum(one.count for one in many) >= warm:
            break
        await asyncio.sleep(0.05)
    before, began, used = sum(one.count for one in many), perf_counter(), cpu(pids)
    await asyncio.sleep(seconds)
    used, took, count = cpu(pids) - used, perf_counter() - began, sum(one.count for one in many) - before
    for one in many:
        one.going = False
    await asyncio.gather(*(one.told for one in many))
    return {"cpu_us": used / count * 1e6, "per_second": count / took, "busy": used / took}


async def large(port, pids, *, size):
    """One answer of that size, as fast as it comes."""
    for length in (MIB, size):  # the first brings modules and a connection
        (one,) = await callers(port, f"/bytes/{length}", length, 1)
        forget_peak(pids)
        idle, before, began = memory(pids), cpu(pids), perf_counter()
        one.going = False
        one.ask()
        await one.told
        took, used = perf_counter() - began, cpu(pids) - before
    growth = max(0, memory(pids, "VmHWM") - idle)
    return {
        "mib_per_second": size / MIB / took,
        "cpu_s_per_gib": used / (size / (1 << 30)),
        "growth_mib": growth / MIB,
    }


class Listener(asyncio.BufferedProtocol):
    """A connection that waits for one event, and then for nothing."""

    def __init__(self, told):
        self.told, self.came = told, b""

    def connection_made(self, transport):
        self.transport = transport
        transport.write(REQUEST.format("/events").encode())

    def get_buffer(self, sizehint):
        return BUFFER

    def buffer_updated(self, nbytes):
        self.came += BUFFER[:nbytes]
        if b"data: 1\n\n" in self.came and not self.told.done():
            self.told.set_result(None)

    def connection_lost(self, error):
        if not self.told.done():
            self.told.set_exception(ConnectionError(f"the proxy closed the connection: {self.came[:500]}"))


async def events(port, pids, *, streams, step=50):
    """So many streams of events, open at once: what each takes of the proxy's memory."""
    loop = asyncio.get_running_loop()
    opened = []

    async def more(number):
        told = [loop.create_future() for _ in range(number)]
        for one in told:
            _, listener = await loop.create_connection(lambda one=one: Listener(one), "127.0.0.1", port)
            opened.append(listener)
        await asyncio.gather(*told)

    await more(step)  # what the first bring, the others have
    await asyncio.sleep(0.3)
    before, used = memory(pids), cpu(pids)
    while len(opened) < streams:
        await more(min(step, streams - len(opened)))
    await asyncio.sleep(0.5)
    after, used = memory(pids), cpu(pids) - used
    if any(one.transport.is_closing() for one in opened):
        raise ConnectionError("the proxy closed a stream")
    return {"kib": (after - before) / 1024 / (streams - step), "cpu_us": used / (streams - step) * 1e6}


MEASURES = {measure.__name__: measure for measure in (small, large, events)}

if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps(uvloop.run(MEASURES[sys.argv[1]](**json.loads(sys.argv[2])))), flush=True)
