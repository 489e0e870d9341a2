"""Asks five clients what they make of every strange server of the corpus, and writes docs/differences.md.

python benchmarks/differences.py             the page, and how late the latest answer was
python benchmarks/differences.py --memory    what the native engine holds while a server sends without end, or a bomb
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import sys
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from corpus import CORPUS, GROUPS, Case, bombs  # noqa: E402
from fairlead.message import Response  # noqa: E402
from peers import Peer  # noqa: E402
from played import Aiohttp, Client, Httpx2, Ours, Seen, Server, play_all, whole  # noqa: E402

PAGE = ROOT / "docs" / "differences.md"
SECONDS = 2.0
"""What every call has, whatever its server does."""
CLIENTS: dict[str, Callable[[], Client]] = {
    "native": lambda: Ours("native"),
    '`engine="httpx2"`': lambda: Ours("httpx2"),
    '`engine="aiohttp"`': lambda: Ours("aiohttp"),
    "httpx2 itself": Httpx2,
    "aiohttp itself": Aiohttp,
}
INTRO = """# Strange servers

What {cases} servers say that no server should, and what a caller sees: broken framing, answers cut at every place, answers nobody
asked for, heads and bodies without end, bombs. The corpus is `tests/corpus.py`, with the section of the RFC that each case is judged
by; where the RFC leaves a choice, each of the choices counts as right. Every test run plays it to the native engine, over sockets and,
cut in two at every byte, to its parser: the outcome is the same for every cut. This page is written by
`python benchmarks/differences.py` and never edited; the native column is tested.

| client | decides as the RFCs say | not |
|---|---|---|
{counts}

`httpx2` {httpx2}, `aiohttp` {aiohttp}; "itself" is the library without Fairlead. Every call had {seconds:g} s; on the native engine
none took longer than {longest}.

Three choices of the native engine differ from the RFC: a folded line (`obs-fold`) in a head or a trailer is refused, never
unfolded, since who unfolds it and who does not read two different messages. Where the RFC allows both, it prefers to refuse: both
lengths at once, a length given twice (even the same), a bare CR or LF, any transfer coding but one `chunked`.

*Refused* is a `ProtocolError`, *disconnected* a `Disconnected`, *timed out* an `AttemptTimedOut`; of the libraries themselves their own
exception. After an answer: its status, its body, and whether the next call went over the same connection. What the RFC does not allow
is **bold**.
"""


def cell(case: Case, seen: Seen) -> str:
    return str(seen) if seen.agrees(case) else f"**{str(seen).replace('**', '')}**"


def page(results: dict[str, dict[str, Seen]]) -> str:
    agree = dict.fromkeys(CLIENTS, 0)
    different: list[str] = []
    alike: list[str] = []
    for group in GROUPS:
        here: list[str] = []
        same: list[str] = []
        for case in (one for one in CORPUS if one.group == group):
            seen = {name: result[f"{case.group}: {case.name}"] for name, result in results.items()}
            for name, one in seen.items():
                agree[name] += one.agrees(case)
            cells = [cell(case, one) for one in seen.values()]
            if all(one.agrees(case) for one in seen.values()):
                same.append(f"| {case.name} | {case.rfc} | {cells[0]} |")
            else:
                here.append(f"| {case.name} | {case.rfc} | {' | '.join(cells)} |")
        if here:
            head = ["case", "RFC", *CLIENTS]
            different += [f"\n### {group}\n", f"| {' | '.join(head)} |", "|---" * len(head) + "|", *here]
        if same:
            alike += [f"\n### {group}, alike\n", "| case | RFC | native |", "|---|---|---|", *same]
    counts = [f"| {name} | {count} | {len(CORPUS) - count} |" for name, count in agree.items()]
    longest = max(seen.seconds for seen in results["native"].values())
    intro = INTRO.format(
        cases=len(CORPUS),
        counts="\n".join(counts),
        httpx2=version("httpx2"),
        aiohttp=version("aiohttp"),
        seconds=SECONDS,
        longest=f"{longest:.1f} s",
    )
    return "\n".join(
        [intro, "## Where they differ", *different, "", "## Where all agree", *alike, ""],
    )


def write() -> None:
    results = {}
    for name, make in CLIENTS.items():
        results[name] = asyncio.run(play_all(CORPUS, make, whole, SECONDS))
        latest = max(results[name].items(), key=lambda item: item[1].seconds)
        agree = sum(results[name][f"{case.group}: {case.name}"].agrees(case) for case in CORPUS)
        print(f"{name:20} {agree} of {len(CORPUS)}; the latest after {latest[1].seconds:.2f} s: {latest[0]}")
    PAGE.write_text(page(results))
    print(f"wrote {PAGE.relative_to(ROOT)}")


# Memory: the server in this process, the client in one of its own for each case


def peak(*, anew: bool = False) -> int:
    """The most memory that was resident, in KiB; or what is, from where it is counted anew."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


class Passing(Ours):
    """Reads a body piece by piece, and keeps none."""

    async def read(self, response: Response) -> bytes:
        async for _ in response.aiter_bytes():
            pass
        return b""


def caller(url: str, method: str, stream: bool, out: Connection) -> None:
    async def ask() -> tuple[str, float]:
        client = Passing("native", stream=True) if stream else Ours("native")
        await client.ask("GET", f"{url}/again", b"", SECONDS)
        before = peak(anew=True)
        try:
            told = await client.ask(method, f"{url}/case", b"", 30.0)
            outcome = f"{told.status}, {len(told.body)} bytes"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}".partition(" (")[0]
        held = peak() - before
        await client.close()
        return outcome, held / 1024

    out.send(asyncio.run(ask()))


async def held(case: Case, stream: bool) -> tuple[str, float]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    async with Peer(Server(case, whole).talk) as peer:
        process = context.Process(target=caller, args=(peer.url, case.method, stream, there))
        process.start()
        outcome: tuple[str, float] = await asyncio.to_thread(here.recv)
        await asyncio.to_thread(process.join)
        return outcome


def memory() -> None:
    large = {"1,000 fields", "a value of 1 MiB"}
    for case in (*(one for one in CORPUS if one.forever or one.name in large), *bombs()):
        for stream in (False, True):
            outcome, mebibytes = asyncio.run(held(case, stream))
            how = "stream" if stream else "buffered"
            print(f"{mebibytes:7.1f} MiB  {how:8}  {case.group}: {case.name}: {outcome}", flush=True)


if __name__ == "__main__":
    logging.disable()
    memory() if "--memory" in sys.argv else write()
