"""`fairlead demo --compare`: one endpoint twice, as the tutorials write it and with Fairlead, while an upstream dies and comes back.

Same server, same settings, same upstreams, same load; the sides take turns, so that a busy machine is busy for all of them.
The tutorials' side is there twice: as their shared helper retries everything, and as a careful reader has it, with POST sent once.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Final

from fairlead.demo.processes import free_port, spawn, stop, unwind_when_told, wait_until_listening
from fairlead.errors import ConfigError

ROUNDS: Final = 3
PEERS: Final = ("httpx2", "stamina")


@dataclass(frozen=True, slots=True)
class Side:
    """One column: which module, told what."""

    name: str
    module: str
    told: tuple[tuple[str, str], ...] = ()


SIDES: Final = (
    Side("tutorials", "tutorial"),
    Side("tutorials, POST sent once", "tutorial", (("RETRY_POSTS", "no"),)),
    Side("Fairlead", "ours"),
)


def compare() -> int:
    """Print the table; the exit status is 1 if Fairlead gave a wrong answer, lost one, or placed an order twice."""
    if missing := [name for name in (*PEERS, "uvloop", "fastapi") if find_spec(name) is None]:
        print(f"--compare needs {' and '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        return 1
    unwind_when_told()
    ports = [free_port() for _ in range(4)]
    with ExitStack() as running:
        _started(running, "the stand-in", ports[0], "fairlead.demo.standin", *map(str, ports))
        urls = {
            f"{name}__BASE_URL": f"http://127.0.0.1:{port}"
            for name, port in zip(("USERS", "ORDERS", "PRICES"), ports[:3], strict=True)
        }
        contestants = [_contestant(running, side, urls) for side in SIDES]
        days: list[list[dict[str, Any]]] = [[] for _ in SIDES]
        for _, port in contestants:
            _day(port, ports[3], warm=True)
        for number in range(ROUNDS):
            for side, (process, port), seen in zip(SIDES, contestants, days, strict=True):
                print(f"round {number + 1} of {ROUNDS}: {side.name} ...", file=sys.stderr, flush=True)
                before = cpu_seconds(process.pid)
                told = _day(port, ports[3])
                seen.append({**told, "cpu": (cpu_seconds(process.pid) - before) / told["answers"]})
    print(table(days))
    ours = days[-1]
    return 1 if any(day["wrong"] or day["doubled"] for day in ours) else 0


def table(days: list[list[dict[str, Any]]]) -> str:
    """Markdown. Figures are the median of the rounds, counts are of all rounds together."""

    def middle(key: str, form: str, scale: float = 1.0) -> list[str]:
        return [format(median(day[key] for day in rounds) * scale, form) for rounds in days]

    def total(key: str) -> list[str]:
        return [f"{sum(day[key] for day in rounds):,}" for rounds in days]

    rows = [
        ("requests per second", middle("rps", ",.0f")),
        ("... while all was well", middle("well", ",.0f")),
        ("p99, ms", middle("p99", ",.0f")),
        ("CPU per request, ms", middle("cpu", ".2f", 1000)),
        ("wrong or lost answers", total("wrong")),
        ("doubled POSTs", total("doubled")),
        ("requests sent to the dying upstream", total("refused")),
        ("seconds until it was asked again once it was back", middle("healed", ".1f")),
        ("answers in all", total("answers")),
    ]
    lines = ["| | " + " | ".join(side.name for side in SIDES) + " |", "|---|" + "---:|" * len(SIDES)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    made = ", ".join(f"{name} {version(name)}" for name in ("fastapi", "uvicorn", *PEERS))
    where = (
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}"
    )
    return "\n".join([*lines, "", f"{ROUNDS} rounds in turn; figures are medians, counts are sums. {where}; {made}."])


def cpu_seconds(process: int) -> float:
    """What a process has used so far, of all its threads."""
    stat = Path(f"/proc/{process}/stat")
    if stat.exists():
        fields = stat.read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    told = subprocess.run(
        ["/bin/ps", "-o", "cputime=", "-p", str(process)], capture_output=True, text=True, check=True
    ).stdout
    seconds = 0.0
    for field in told.strip().split(":"):
        seconds = seconds * 60 + float(field)
    return seconds


def _contestant(running: ExitStack, side: Side, urls: dict[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    # As a reader would start it: the module is a file in a folder, as an application of one's own is.
    options = ["--app-dir", str(Path(__file__).parent), "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    quiet = ["--no-access-log", "--log-level", "error"]
    command = ["uvicorn", f"{side.module}:app", *options, *quiet]
    return _started(running, side.name, port, *command, **urls, **dict(side.told)), port


def _started(running: ExitStack, name: str, port: int, *command: str, **environ: str) -> subprocess.Popen[bytes]:
    process = spawn([sys.executable, "-m", *command], quiet=True, **environ)
    running.callback(stop, process)
    wait_until_listening(name, port, process)
    return process


def _day(port: int, control: int, *, warm: bool = False) -> dict[str, Any]:
    command = [sys.executable, "-m", "fairlead.demo.load", str(port), str(control), str(int(warm))]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if told.returncode:
        raise ConfigError(f"the load ended with status {told.returncode}: {told.stderr.strip()[-300:]}")
    day: dict[str, Any] = json.loads(told.stdout)
    return day
