"""What is measured, beside whom, and what Fairlead has to reach: the whole list, as data.

A figure has cases (a size, a loop, a number of callers), and each case its clients. A round takes every one of them once, one
after another; a value is the median over the rounds, a ratio the median of the ratios within a round. So a machine whose speed
drifts does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from contenders import ASKED_FOR, EVERY

Round = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""One round of one figure: case to client to what was measured."""

FULL, BARE = "fairlead-full", "fairlead-bare"
OURS = (BARE, FULL)

SLOWNESS = {"httpx2": 8, "httpware": 8, "httpx": 20}
"""These make that many times fewer requests, so that nobody waits for them for minutes."""


@dataclass(frozen=True)
class Field:
    """A column: what was measured, or, `beside` another client, how many times that client's."""

    name: str
    header: str
    digits: int = 1
    beside: str = ""

    def value(self, rounds: list[Round], case: str, client: str) -> float | None:
        if self.beside:
            return ratio(rounds, self.name, (case, client), (case, self.beside)) if client != self.beside else 1.0
        return value(rounds, self.name, (case, client))


@dataclass(frozen=True)
class Target:
    """What has to be reached: `entry` (case and client) at most or at least `bound`, or that many times `than`."""

    text: str
    name: str
    entry: tuple[str, str]
    bound: float
    than: tuple[str, str] | None = None
    least: bool = False
    unit: str = ""
    why: str = ""
    """What the page says of it when it is missed."""

    def measured(self, rounds: list[Round]) -> float | None:
        if self.than is not None:
            return ratio(rounds, self.name, self.entry, self.than)
        return value(rounds, self.name, self.entry)

    def met(self, measured: float) -> bool:
        """As it is printed, so that the page never contradicts itself."""
        return round(measured, 2) >= self.bound if self.least else round(measured, 2) <= self.bound


@dataclass(frozen=True)
class Figure:
    key: str
    title: str
    text: str
    measure: str
    """A function of `measures.py`, `importing`, or `counting`."""
    cases: Mapping[str, Mapping[str, Any]]
    """The name of each, with the options of its measure; "" for the only one."""
    clients: tuple[str, ...]
    fields: tuple[Field, ...]
    targets: tuple[Target, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    """Options instead, for a quick look."""
    rounds: int = 9
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Clients that a case does without."""

    def entries(self) -> list[tuple[str, str]]:
        return [(case, one) for case in self.cases for one in self.clients if one not in self.absent.get(case, ())]


def value(rounds: list[Round], name: str, entry: tuple[str, str]) -> float | None:
    case, client = entry
    found = [taken[case][client][name] for taken in rounds if name in taken.get(case, {}).get(client, ())]
    return median(found) if found else None


def ratio(rounds: list[Round], name: str, entry: tuple[str, str], than: tuple[str, str]) -> float | None:
    found = [
        taken[entry[0]][entry[1]][name] / taken[than[0]][than[1]][name]
        for taken in rounds
        if entry[1] in taken.get(entry[0], {}) and than[1] in taken.get(than[0], {})
    ]
    return median(found) if found else None


CPU = Field("cpu_us", "CPU per request, us")
BESIDE_FLOOR = Field("cpu_us", "beside the floor", 2, "floor")
BESIDE_AIOHTTP = Field("cpu_us", "beside aiohttp", 2, "aiohttp")

ALONE = (
    "most of a lone call is the two processes waking each other, which no client can hurry; the row of the floor says how much. "
    "On a machine that is busy otherwise nobody sleeps as deep, and the ratio is better."
)
CROWD = (
    "with a thousand connections in turn what a call touches has left the processor's cache, and the collector has a thousand calls to "
    "look through: the floor, too, costs far more there than at 50."
)
SHARED = "the bare floor is above it already: it is what OpenSSL and uvloop hold, once handshakes have shared the heap."

MACHINE = (
    "it depends on the processor, as the floor is mostly the kernel's work and C, and a client mostly the interpreter's: the same code, and the "
    "same instructions (the table below counts them, and they are the same anywhere), took 1.88 times the floor on an "
    "AMD EPYC, where aiohttp takes 7 times, and 2.5 to 2.9 times on an Intel Xeon, where aiohttp takes 10 to 12 times."
)

MAIN = Figure(
    "small",
    "A small answer",
    "150 bytes of JSON, decoded; keep-alive, 50 callers, uvloop.",
    "load",
    {"": {}},
    ("floor", *OURS, "pyreqwest", "aiohttp", "httpx2", "httpware", "httpx"),
    (
        CPU,
        Field("system_us", "of it in the kernel, us"),
        BESIDE_FLOOR,
        BESIDE_AIOHTTP,
        Field("per_second", "requests per second", 0),
    ),
    (
        Target("full, beside the floor", "cpu_us", ("", FULL), 2.0, ("", "floor"), why=MACHINE),
        Target("aiohttp, beside full", "cpu_us", ("", "aiohttp"), 3.0, ("", FULL), least=True),
        Target("httpx2, beside full", "cpu_us", ("", "httpx2"), 20, ("", FULL), least=True),
    ),
    {"requests": 20_000},
    {"requests": 2_000},
    rounds=11,
)

FIGURES = (
    MAIN,
    Figure(
        "instructions",
        "What it makes the processor do",
        "The same, as instructions outside the kernel for each request, counted by `valgrind --tool=callgrind`: no clock is in it, so it is the "
        "same on a busy machine, and nearly the same on any other.",
        "counting",
        {"": {}},
        ("floor", *OURS, "aiohttp"),
        (
            Field("instructions", "instructions", 0),
            Field("instructions", "beside the floor", 2, "floor"),
            Field("instructions", "beside aiohttp", 2, "aiohttp"),
        ),
        options={"requests": 3_000},
        quick={"requests": 1_000},
        rounds=1,
    ),
    Figure(
        "tls",
        "Over TLS",
        "The same over TLS 1.3, the certificate checked. The floor is the same bare protocol over TLS.",
        "load",
        {"": {}},
        ("floor", *OURS, "pyreqwest", "aiohttp", "httpx2", "httpware", "httpx"),
        (CPU, BESIDE_FLOOR, BESIDE_AIOHTTP, Field("per_second", "requests per second", 0)),
        (Target("over TLS: aiohttp, beside full", "cpu_us", ("", "aiohttp"), 2.0, ("", FULL), least=True),),
        {"requests": 20_000, "tls": True},
        {"requests": 2_000},
    ),
    Figure(
        "asyncio",
        "Without uvloop",
        "The same on asyncio's own loop, in plain.",
        "load",
        {"": {"loop": "asyncio"}},
        ("floor", *OURS, "pyreqwest", "aiohttp", "httpx2"),
        (CPU, BESIDE_FLOOR, BESIDE_AIOHTTP, Field("per_second", "requests per second", 0)),
        (),
        {"requests": 10_000},
        {"requests": 2_000},
    ),
    Figure(
        "policies",
        "What each policy adds",
        "The small answer again: the bare client, the same with one policy, and with all of them; `fairlead-every` has redirects and "
        "cookies too, which nobody has who does not ask for them.",
        "load",
        {"": {}},
        (BARE, *(f"bare + {name}" for name in EVERY), FULL, "fairlead-every"),
        (CPU, Field("cpu_us", "beside the bare one", 2, BARE)),
        (),
        {"requests": 20_000},
        {"requests": 2_000},
        rounds=5,
    ),
    Figure(
        "overhead",
        "What the policies cost by themselves",
        "Everything above the engine, on one that answers at once, in one process, in turns with the bare client: what a call's CPU is beyond "
        "that. `fairlead-standard` is a client that asks for nothing; the last five are what can be asked for.",
        "overhead",
        {"": {}},
        ("fairlead-standard", FULL, "fairlead-every", *(f"bare + {name}" for name in (*EVERY, *ASKED_FOR))),
        (Field("added_us", "beyond the bare one, us", 2),),
        (
            Target(
                "the standard pipeline, beyond the bare client", "added_us", ("", "fairlead-standard"), 4.0, unit="us"
            ),
        ),
        {"requests": 40_000, "stub": True},
        {"requests": 4_000},
        rounds=5,
    ),
    Figure(
        "latency",
        "One caller at a time",
        "How long a call takes when it is the only one: the same small answer, one call after another.",
        "latency",
        {"": {"concurrency": 1}},
        ("floor", *OURS, "pyreqwest", "aiohttp", "httpx2"),
        (
            Field("median_us", "median, us"),
            Field("mean_us", "mean, us"),
            Field("p99_us", "p99, us"),
            Field("median_us", "median beside aiohttp", 2, "aiohttp"),
            CPU,
        ),
        (
            Target(
                "full, one at a time: median beside aiohttp", "median_us", ("", FULL), 0.6, ("", "aiohttp"), why=ALONE
            ),
            Target("full, one at a time: mean beside aiohttp", "mean_us", ("", FULL), 0.6, ("", "aiohttp"), why=ALONE),
        ),
        {"requests": 5_000},
        {"requests": 500},
    ),
    Figure(
        "many",
        "A thousand callers at once",
        "The same small answer. By default Fairlead and aiohttp have 100 connections, and who comes later waits in line; the "
        "others have as many as there are callers.",
        "load",
        {
            "50": {"concurrency": 50},
            "1,000": {"concurrency": 1000},
            "1,000, max_connections=1000": {"concurrency": 1000, "connections": 1000},
        },
        ("floor", FULL, "pyreqwest", "aiohttp"),
        (CPU, Field("failed", "failed", 0)),
        (
            Target("full, 1,000 callers: failed", "failed", ("1,000", FULL), 0),
            Target("full, 1,000 callers and connections: failed", "failed", ("1,000, max_connections=1000", FULL), 0),
            Target("full, 1,000 callers, beside its own at 50", "cpu_us", ("1,000", FULL), 1.5, ("50", FULL)),
            Target(
                "full, 1,000 callers and connections, beside its own at 50",
                "cpu_us",
                ("1,000, max_connections=1000", FULL),
                1.5,
                ("50", FULL),
                why=CROWD,
            ),
        ),
        {"requests": 20_000},
        {"requests": 4_000},
        absent={"1,000, max_connections=1000": ("floor", "pyreqwest")},
    ),
    Figure(
        "sizes",
        "Larger answers",
        "Bodies read whole, 50 callers, uvloop: CPU per request, us.",
        "load",
        {
            "1 KiB": {"size": 1 << 10, "requests": 10_000},
            "64 KiB": {"size": 1 << 16, "requests": 5_000},
            "1 MiB": {"size": 1 << 20, "requests": 1_000},
        },
        ("floor", *OURS, "pyreqwest", "aiohttp", "httpx2"),
        (Field("cpu_us", "us"), BESIDE_AIOHTTP),
        tuple(
            Target(f"full, {size}, beside aiohttp", "cpu_us", (size, FULL), 1.0, (size, "aiohttp"))
            for size in ("1 KiB", "64 KiB", "1 MiB")
        ),
        quick={"requests": 300},
    ),
    Figure(
        "streams",
        "One GiB, streamed",
        "One body, read or made piece by piece. Growth is the most that was resident during it, beyond the same client at rest.",
        "stream",
        {"download": {"direction": "down"}, "upload": {"direction": "up"}},
        (FULL, "pyreqwest", "aiohttp", "httpx2"),
        (
            Field("mib_per_second", "MiB/s", 0),
            Field("cpu_s_per_gib", "CPU, s", 2),
            Field("growth_mib", "growth, MiB"),
        ),
        tuple(
            target
            for way in ("download", "upload")
            for target in (
                Target(
                    f"{way}: speed beside aiohttp", "mib_per_second", (way, FULL), 1.0, (way, "aiohttp"), least=True
                ),
                Target(f"{way}: CPU beside aiohttp", "cpu_s_per_gib", (way, FULL), 1.0, (way, "aiohttp")),
                Target(f"{way}: growth", "growth_mib", (way, FULL), 16, unit="MiB"),
            )
        ),
        {"size": 1 << 30},
        {"size": 1 << 27},
    ),
    Figure(
        "idle",
        "Ten thousand idle connections",
        "What each takes while it rests: in plain what Python allocated for it, over TLS what is resident, opened one after another or a "
        "hundred at a time. Of what OpenSSL allocates, a handshake alone touches less than handshakes that share the heap.",
        "idle",
        {
            "plain": {"traced": True, "step": 100},
            "TLS, one by one": {"traced": False, "step": 1, "tls": True},
            "TLS, by hundreds": {"traced": False, "step": 100, "tls": True},
        },
        ("floor", BARE, "aiohttp"),
        (Field("kib", "KiB each"), Field("kept", "kept", 0)),
        (
            Target("bare: an idle connection in plain", "kib", ("plain", BARE), 8, unit="KiB"),
            Target(
                "bare: an idle connection over TLS, opened one by one", "kib", ("TLS, one by one", BARE), 48, unit="KiB"
            ),
            Target(
                "bare: an idle connection over TLS, opened by hundreds",
                "kib",
                ("TLS, by hundreds", BARE),
                48,
                unit="KiB",
                why=SHARED,
            ),
            Target("connections that stayed idle", "kept", ("plain", BARE), 10_000, least=True),
        ),
        {"concurrency": 10_000, "connections": 10_000},
        {"concurrency": 1_000, "connections": 1_000},
        rounds=1,
    ),
    Figure(
        "import",
        "Importing it",
        "What an import takes in a fresh interpreter that has `asyncio` and `ssl` already, its modules compiled beforehand.",
        "importing",
        {"": {}},
        ("fairlead", "aiohttp", "httpx2", "httpx", "pyreqwest"),
        (Field("ms", "CPU, ms"),),
        (Target("importing `fairlead`", "ms", ("", "fairlead"), 20, unit="ms"),),
        rounds=21,
    ),
)
