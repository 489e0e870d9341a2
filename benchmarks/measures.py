"""What one client costs, taken in a process of its own, so that nothing of another client is in it.

    python benchmarks/measures.py load '{"contender": "aiohttp", "origin": "http://127.0.0.1:9000", "requests": 20000}'

CPU is the process's own, user and system, all threads (`getrusage`): what a client leaves to the kernel or to a runtime beside
the interpreter is its cost too.
"""

import asyncio
import gc
import json
import os
import resource
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from statistics import mean, median, quantiles
from time import perf_counter

import uvloop
from contenders import CONTENDERS, Setting

MIB = 1 << 20


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def system():
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime


async def load(setting, contend, *, requests, size=0, path="/small"):
    """CPU per request of as many callers as the setting has, on warm connections: JSON, or a body of `size` bytes."""
    failed, first = 0, ""

    async with contend(setting) as client:
        where = client.at(f"/bytes/{size}" if size else path)

        async def call():
            if size:
                assert len(await client.read(where)) == size
            else:
                assert (await client.get(where))["id"] == 123

        async def caller(turns):
            nonlocal failed, first
            for _ in turns:
                try:
                    await call()
                except Exception as error:
                    failed, first = failed + 1, first or repr(error)

        async def run(count):
            turns = iter(range(count))
            await asyncio.gather(*(caller(turns) for _ in range(setting.concurrency)))

        await run(min(setting.concurrency * 4, max(requests, setting.concurrency)))
        before, kernel, began = cpu(), system(), perf_counter()
        await run(requests)
        used, kernel, took = cpu() - before, system() - kernel, perf_counter() - began
    return {
        "cpu_us": used / requests * 1e6,
        "system_us": kernel / requests * 1e6,
        "per_second": requests / took,
        "failed": failed,
        "failure": first,
    }


async def overhead(setting, contend, *, requests):
    """What a call costs above an engine that answers at once, beyond a bare client's: taken in turns, the medians' difference."""
    taken = {CONTENDERS["fairlead-bare"]: [], contend: []}
    for _ in range(10):
        for made, seconds in taken.items():
            async with made(setting) as client:
                where = client.at("/small")
                await client.get(where)
                before = cpu()
                for _ in range(requests // 10):
                    await client.get(where)
                seconds.append((cpu() - before) / (requests // 10))
    bare, ours = (median(seconds) * 1e6 for seconds in taken.values())
    return {"added_us": ours - bare, "whole_us": ours}


async def latency(setting, contend, *, requests):
    """The time of each call, one caller after another."""
    async with contend(setting) as client:
        where = client.at("/small")
        for _ in range(requests // 10):
            await client.get(where)
        times = []
        before = cpu()
        for _ in range(requests):
            began = perf_counter()
            answer = await client.get(where)
            times.append(perf_counter() - began)
            assert answer["id"] == 123
        used = cpu() - before
    return {
        "median_us": median(times) * 1e6,
        "mean_us": mean(times) * 1e6,
        "p99_us": quantiles(times, n=100)[98] * 1e6,
        "cpu_us": used / requests * 1e6,
    }


async def stream(setting, contend, *, direction, size):
    """One body of that many bytes, streamed: its speed, its CPU, and the most memory it took beyond that of an idle client."""
    async with contend(setting) as client:

        async def run(count):
            if direction == "up":
                assert (await client.upload(client.at("/small"), count))["id"] == 123
            else:
                assert await client.download(client.at(f"/bytes/{count}")) == count

        await run(MIB)  # the first brings modules and a connection
        gc.collect()
        idle = memory("VmRSS")
        forget_peak()
        before, began = cpu(), perf_counter()
        await run(size)
        used, took = cpu() - before, perf_counter() - began
        peak = memory("VmHWM")
    return {
        "mib_per_second": size / MIB / took,
        "cpu_s_per_gib": used / (size / (1 << 30)),
        "growth_mib": max(0, peak - idle) / MIB,
    }


async def idle(setting, contend, *, traced, step):
    """What a connection takes while it rests: as many calls as the setting has callers are under way at once, and then none.

    `step` of them come at a time: handshakes at once leave more behind than one after another. `traced` counts what Python
    allocated (and slows everything); else it is what the process has resident.
    """
    raise_limit()
    held = sockets()
    async with contend(setting) as client:
        await client.get(client.at("/waiting"))
        together, waiting = client.at(f"/together/{setting.concurrency}"), client.at("/waiting")
        gc.collect()
        if traced:
            tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0] if traced else memory("VmRSS")
        callers = []
        while (missing := setting.concurrency - len(callers)) > 0:
            callers += [asyncio.ensure_future(client.read(together)) for _ in range(min(step, missing))]
            while missing > step and (await client.get(waiting))["waiting"] < len(callers):
                pass
        await asyncio.gather(*callers)
        callers.clear()
        await asyncio.sleep(0.1)  # what ended leaves the loop's lists
        gc.collect()
        after = tracemalloc.get_traced_memory()[0] if traced else memory("VmRSS")
        kept = sockets() - held
    return {"kept": kept, "kib": (after - before) / 1024 / (kept - 1)}


def memory(field):
    """A field of the process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def sockets():
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += str(entry.readlink()).startswith("socket:")
    return found


def raise_limit():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


MEASURES = {"load": load, "overhead": overhead, "latency": latency, "stream": stream, "idle": idle}
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def measure(
    name, *, contender, origin, concurrency=50, connections=None, authority=None, loop="uvloop", stub=False, **options
):
    setting = Setting(origin, concurrency, connections, authority, stub)
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(MEASURES[name](setting, CONTENDERS[contender], **options))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], **json.loads(sys.argv[2]))), flush=True)
    os._exit(0)  # pyreqwest's threads at times outlive the interpreter, and abort its end
