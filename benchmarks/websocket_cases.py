"""Plays the cases of Autobahn's test suite through the proxy, from both sides, and writes the table in docs/proxy-websocket.md.

python benchmarks/websocket_cases.py --wstest "python2.7 -m autobahntestsuite.wstest"

Its fuzzing client talks to an echo server behind the proxy, and to that server itself; its fuzzing server is what the proxy leads to,
with an echo client before it, and with that client alone. Families 12 and 13 are compression, which the proxy does not offer upstream.
The suite (`autobahntestsuite` 0.8.2 on PyPI) needs Python 2.7 and is no dependency: `--wstest` says how to run it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))

PAGE = ROOT / "docs" / "proxy-websocket.md"
BEGIN, END = "<!-- cases: written by benchmarks/websocket_cases.py -->", "<!-- end of cases -->"
FAMILIES = {
    1: "text and binary, all sizes of a length",
    2: "pings and pongs",
    3: "reserved bits",
    4: "reserved opcodes",
    5: "fragmentation",
    6: "UTF-8",
    7: "closing, with all codes",
    9: "messages of up to 16 MiB, whole and in pieces",
    10: "fragmentation chosen by the sender",
}
GOOD = {"OK", "INFORMATIONAL"}
LARGEST = 64 * 1024 * 1024
Outcomes = dict[str, dict[str, str]]


# What is played through


async def echo(scope, receive, send):
    await receive()
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def serve(port: int, upstream: str | None) -> None:
    """The echo server, or a proxy that leads somewhere."""
    import uvicorn

    from fairlead import HTTPClient
    from fairlead.proxy import ReverseProxy

    app = echo if upstream is None else ReverseProxy(HTTPClient(upstream))
    uvicorn.run(app, port=port, log_level="critical")


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


def started(stack: ExitStack, number: int, *command: str) -> None:
    """A process that listens, until the stack is left."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", number)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"{command} does not listen")


def serving(stack: ExitStack, upstream: str | None) -> int:
    number = port()
    told = [] if upstream is None else ["--upstream", upstream]
    started(stack, number, sys.executable, __file__, "--serve", str(number), *told)
    return number


# From both sides


def clients_side(wstest: list[str], folder: Path) -> tuple[Outcomes, Outcomes]:
    """What the fuzzing client finds: of the echo server, and of the proxy before it."""
    with ExitStack() as stack:
        direct = serving(stack, None)
        proxied = serving(stack, f"http://127.0.0.1:{direct}")
        servers = [
            {"agent": agent, "url": f"ws://127.0.0.1:{number}/", "options": {"version": 18}}
            for agent, number in (("direct", direct), ("proxied", proxied))
        ]
        subprocess.run(
            [*wstest, "-m", "fuzzingclient", "-s", spec(folder, options={"failByDrop": False}, servers=servers)],
            check=True,
            capture_output=True,
        )
    return found(folder)


def upstreams_side(wstest: list[str], folder: Path) -> tuple[Outcomes, Outcomes]:
    """What the fuzzing server finds: of an echo client, and of the proxy before it."""
    with ExitStack() as stack:
        fuzzer = port()
        told = spec(folder, url=f"ws://127.0.0.1:{fuzzer}")
        started(stack, fuzzer, *wstest, "-m", "fuzzingserver", "-s", told, "-u", "0")
        proxied = serving(stack, f"http://127.0.0.1:{fuzzer}")
        asyncio.run(played(f"ws://127.0.0.1:{fuzzer}", "direct"))
        asyncio.run(played(f"ws://127.0.0.1:{proxied}", "proxied"))
    return found(folder)


async def played(base: str, agent: str) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    async with connect(f"{base}/getCaseCount") as ws:
        count = int(await ws.recv())
    for case in range(1, count + 1):
        url = f"{base}/runCase?case={case}&agent={agent}"
        try:
            async with connect(url, max_size=LARGEST, compression=None, ping_interval=None) as ws:
                async for message in ws:
                    await ws.send(message)
        except WebSocketException:
            pass  # what is found is the server's to note
    async with connect(f"{base}/updateReports?agent={agent}") as ws:
        async for _ in ws:
            pass


def spec(folder: Path, **told: object) -> str:
    folder.mkdir()
    path = folder / "spec.json"
    told |= {
        "outdir": str(folder / "out"),
        "cases": ["*"],
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    }
    path.write_text(json.dumps(told))
    return str(path)


def found(folder: Path) -> tuple[Outcomes, Outcomes]:
    index = json.loads((folder / "out" / "index.json").read_text())
    return index["direct"], index["proxied"]


# The page


def verdict(outcome: dict[str, str]) -> str:
    if outcome["behavior"] in GOOD and outcome["behaviorClose"] in GOOD:
        return "pass"
    good = outcome["behavior"] in {*GOOD, "NON-STRICT"} and outcome["behaviorClose"] in GOOD
    return "not strict" if good else "fail"


def told(outcomes: Outcomes, family: int | None) -> str:
    cases = [case for case in outcomes if family is None or case.partition(".")[0] == str(family)]
    counts = Counter(verdict(outcomes[case]) for case in cases)
    return ", ".join(f"{counts[kind]} {kind}" for kind in ("pass", "not strict", "fail") if counts[kind])


def order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def differing(direct: Outcomes, proxied: Outcomes) -> str:
    lines = [
        f"* {case}: {verdict(direct[case])} without the proxy, {verdict(proxied[case])} through it"
        for case in sorted(direct, key=order)
        if verdict(direct[case]) != verdict(proxied[case]) or verdict(proxied[case]) == "fail"
    ]
    return "\n".join(lines) or "None."


def page(client: tuple[Outcomes, Outcomes], server: tuple[Outcomes, Outcomes]) -> str:
    every = (*client, *server)
    rows = []
    for family, name in (*FAMILIES.items(), (None, "**all**")):
        cells = " | ".join(told(outcomes, family) for outcomes in every)
        count = sum(family is None or case.partition(".")[0] == str(family) for case in client[0])
        rows.append(f"| {name if family is None else f'{family} {name}'} | {count} | {cells} |")
    table = "\n".join(rows)
    used = f"`websockets` {version('websockets')}, `uvicorn` {version('uvicorn')}"
    return f"""| family | cases | fuzzing client: echo server | the proxy before it | fuzzing server: echo client | the proxy before it |
|---|---|---|---|---|---|
{table}

On {used}. Where the proxy comes out otherwise, or fails, under the fuzzing client:

{differing(*client)}

and under the fuzzing server:

{differing(*server)}
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--wstest", help="the command that runs Autobahn's wstest")
    arguments.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments.add_argument("--upstream", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve is not None:
        serve(given.serve, given.upstream)
        return
    if given.wstest is None:
        arguments.error("--wstest is needed")
    wstest = shlex.split(given.wstest)
    with tempfile.TemporaryDirectory() as folder:
        client = clients_side(wstest, Path(folder) / "client")
        server = upstreams_side(wstest, Path(folder) / "server")
    written = page(client, server)
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{written}\n{END}{rest.partition(END)[2]}", "utf-8")
    print(written)


if __name__ == "__main__":
    main()
