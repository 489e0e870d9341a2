"""What a small call costs: the first figure of `bench.py` alone, with the rounds and the load that one asks for.

python benchmarks/client.py [--rounds 5] [--concurrency 50] [--requests 20000] [--loop asyncio] [--tls] [floor fairlead-full ...]
"""

import argparse
import dataclasses
from contextlib import ExitStack

import page
from bench import Bench, rounds_of
from figures import MAIN

USUAL = ("floor", "fairlead-bare", "fairlead-full", "aiohttp", "httpx2")

if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("clients", nargs="*", default=USUAL)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--requests", type=int, default=20_000)
    options.add_argument("--concurrency", type=int, default=50)
    options.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    options.add_argument("--tls", action="store_true")
    given = options.parse_args()
    load = {"requests": given.requests, "concurrency": given.concurrency, "loop": given.loop, "tls": given.tls}
    figure = dataclasses.replace(MAIN, clients=tuple(given.clients), options=load)
    with ExitStack() as stack:
        rounds = rounds_of(figure, given.rounds, Bench(stack), quick=False)
    print(f"150-byte JSON, keep-alive, concurrency {given.concurrency}, {given.rounds} interleaved rounds\n")
    print(page.table(figure, rounds))
