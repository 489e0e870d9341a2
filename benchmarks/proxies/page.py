"""What is measured of the proxies, what Fairlead's has to reach, and the page that says whether it did."""

from __future__ import annotations

from typing import Any, TypedDict

from figures import Field, Figure, Round, Target, value
from page import ground, verdicts
from proxies.contenders import OURS

GIB = 1 << 30
PEERS = ("nginx", "envoy", "http-proxy", "httpx2")
EVERY = (*PEERS, "uvicorn alone", "one call", "no policies", "ReverseProxy", "in FastAPI")
MAIN = "ReverseProxy"

INTRODUCTION = """\
What it costs to pass an answer on with `ReverseProxy` and with other proxies, side by side in one run of `make bench-proxy`, which wrote
this page."""

READING = """\
Each proxy is a fresh process with one worker, one after another, in rounds: a value is the median over the rounds, a ratio the median of
the ratios within a round. CPU is that of all the proxy's processes, user and system, as the kernel counts it. It hardly moves when the
machine is busy; speeds do. The upstream (`benchmarks/server.py`) and the client (`benchmarks/proxies/load.py`) are two more processes;
connections are kept on both sides, and nobody writes a log.

- `nginx`, `envoy` and `http-proxy` (`@fastify/http-proxy`) run with the configurations in `benchmarks/proxies`.
- `httpx2` is FastAPI with `client.send(request, stream=True)` and a `StreamingResponse`, as it is shown everywhere.
- `uvicorn alone` is no proxy: an application that has its answer, or its event. It is the price below which nothing on uvicorn can go.
- `one call` is no proxy either: the same application, with one call of a client that has no policies.
- `no policies` is `ReverseProxy` over `HTTPClient(policies=())`.
- `ReverseProxy` has every policy that a client has by default: observe, fallback, retry, circuit breaker, concurrency limit.
- `in FastAPI` is the same, mounted in a FastAPI application.

What is in Python runs on uvicorn, uvloop and httptools, with one worker, and without uvicorn's own reading of proxy headers, its access
log, and its `Server` and `Date`. What is ours has `--http fairlead.proxy.uvicorn:Protocol`, as `fairlead serve` has."""

FLOOR = (
    "half of what a warmed-up http-proxy takes is what `one call` takes here, and that passes nothing on: one write and one read at the "
    "upstream's socket, and as much at the caller's. The rest is in the table below."
)

SMALL = Figure(
    "small",
    "A small answer",
    "GET of 150 bytes of JSON, 50 callers at once.",
    "small",
    {"": {}},
    EVERY,
    (
        Field("cpu_us", "CPU per request, us"),
        Field("cpu_us", "beside http-proxy", 2, "http-proxy"),
        Field("per_second", "requests per second", 0),
    ),
    (
        Target("CPU per request, beside http-proxy", "cpu_us", ("", MAIN), 0.7, ("", "http-proxy"), why=FLOOR),
        Target("CPU per request, beside httpx2", "cpu_us", ("", MAIN), 0.1, ("", "httpx2")),
    ),
    {"seconds": 2.0, "warm": 20_000},
    {"seconds": 1.0, "warm": 5_000},
    rounds=7,
)
LARGE = Figure(
    "large",
    "A large answer",
    "GET of 1 GiB, one caller. Growth is what the process had at its peak beyond what it had before.",
    "large",
    {"": {}},
    (*PEERS, MAIN),
    (
        Field("mib_per_second", "MiB per second", 0),
        Field("mib_per_second", "beside nginx", 2, "nginx"),
        Field("cpu_s_per_gib", "CPU per GiB, s", 2),
        Field("growth_mib", "growth, MiB", 1),
    ),
    (
        Target("1 GiB, its speed beside nginx", "mib_per_second", ("", MAIN), 0.3, ("", "nginx"), least=True),
        Target("1 GiB, growth of memory", "growth_mib", ("", MAIN), 8.0, unit="MiB"),
    ),
    {"size": GIB},
    {"size": GIB // 8},
    rounds=3,
)
EVENTS = Figure(
    "events",
    "Open streams of events",
    "2,000 callers, each with a `text/event-stream` that has sent one event and stays open. The kernel's sockets are not in it. "
    "What `uvicorn alone` takes is in every row that runs on it.",
    "events",
    {"": {}},
    (*PEERS, "uvicorn alone", MAIN),
    (Field("kib", "memory for each, KiB"), Field("cpu_us", "CPU to open one, us", 0)),
    (Target("an open stream, its memory", "kib", ("", MAIN), 40.0, unit="KiB"),),
    {"streams": 2000},
    {"streams": 400},
    rounds=3,
)
FIGURES = [SMALL, LARGE, EVENTS]


class Results(TypedDict, total=False):
    """What a run found, as it is stored."""

    date: str
    minutes: float
    machine: dict[str, Any]
    versions: dict[str, str]
    absent: dict[str, str]
    figures: dict[str, list[Round]]


def whole(results: Results) -> str:
    found = [
        (target, measured)
        for figure in FIGURES
        for target in figure.targets
        if (measured := target.measured(results["figures"].get(figure.key, []))) is not None
    ]
    missed = [target for target, measured in found if not target.met(measured)]
    parts = [
        "<!-- Written by `make bench-proxy` from docs/proxy-performance.json; never edited. -->",
        "# What passing on costs",
        INTRODUCTION,
    ]
    if panels(results):
        parts.append("![CPU per request, proxy by proxy](proxy-performance.svg)")
    if found:
        parts += [
            "## What it set out to reach",
            f"{len(found) - len(missed)} of {len(found)} are reached.",
            verdicts(found),
            *[f"*{target.text}*: {target.why}" for target in missed if target.why],
        ]
    parts += ["## How to read it", READING]
    for name, reason in results["absent"].items():
        parts.append(f"Not measured: `{name}`, as {reason}.")
    parts += ["## Where it ran", ground({**results, "versions": _once(results["versions"])})]
    for figure in FIGURES:
        if rounds := results["figures"].get(figure.key):
            parts += [f"## {figure.title}", figure.text, table(figure, rounds), f"Rounds: {len(rounds)}."]
            if figure is SMALL:
                parts += shares(rounds)
    return "\n\n".join(parts) + "\n"


def _once(versions: dict[str, str]) -> dict[str, str]:
    """Without what several say."""
    return {name: number for name, number in versions.items() if name in {*PEERS, MAIN}}


def table(figure: Figure, rounds: list[Round]) -> str:
    fields = figure.fields
    rows = [f"| | {' | '.join(field.header for field in fields)} |", f"|---|{'---:|' * len(fields)}"]
    for name in figure.clients:
        if not any(name in taken[""] for taken in rounds):
            continue
        found = [(field.value(rounds, "", name), field.digits) for field in fields]
        cells = ["" if measured is None else f"{measured:,.{digits}f}" for measured, digits in found]
        rows.append(f"| {f'**{name}**' if name in OURS else name} | {' | '.join(cells)} |")
    return "\n".join(rows)


STEPS = (
    ("the server: uvicorn, and a bare application on it", "uvicorn alone", ""),
    ("the call: the engine, and its socket", "one call", "uvicorn alone"),
    ("the rules of a proxy, and a body that is streamed", "no policies", "one call"),
    ("the policies", "ReverseProxy", "no policies"),
)


def shares(rounds: list[Round]) -> list[str]:
    """Where the CPU goes: what each row has more than the one that it is built on."""
    rows = ["| of a request | us | share |", "|---|---:|---:|"]
    whole = value(rounds, "cpu_us", ("", MAIN))
    for text, name, below in STEPS:
        cost, base = value(rounds, "cpu_us", ("", name)), value(rounds, "cpu_us", ("", below)) if below else 0.0
        if whole is None or cost is None or base is None:
            return []
        rows.append(f"| {text} | {cost - base:.1f} | {(cost - base) / whole:.0%} |")
    return ["### Where the CPU goes", "\n".join(rows)]


def panels(results: Results) -> list[tuple[str, list[tuple[str, float, str]]]]:
    """What is drawn: a title, and each proxy with its CPU per request and the kind of its bar."""
    rounds = results["figures"].get(SMALL.key, [])
    costs = [(name, value(rounds, "cpu_us", ("", name))) for name in EVERY]
    bars = [(name, cost, _kind(name)) for name, cost in costs if cost is not None]
    return [("150 bytes passed on: CPU per request, microseconds (logarithmic)", bars)] if bars else []


def _kind(name: str) -> str:
    return "ours" if name in OURS else "peer" if name in PEERS else "floor"
