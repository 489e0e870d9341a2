"""Takes every figure of `figures.py`, client beside client in rounds, and writes `docs/performance.md` and its picture.

    python benchmarks/bench.py              the whole, about twenty minutes; writes results.json and the page
    python benchmarks/bench.py --quick      a look, four minutes; prints, and writes nothing
    python benchmarks/bench.py --only tls sizes [--rounds 3]        the same for some figures
    python benchmarks/bench.py --render     the page again, from results.json

Every client of every round runs in a process of its own; the server is another one, and serves them all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from shutil import which
from statistics import median
from time import monotonic
from typing import Any

import chart
import page
from figures import FIGURES, SLOWNESS, Figure

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
DOCS = HERE.parent / "docs"
LIBRARIES = ("uvloop", "httptools", "msgspec", "pyreqwest", "aiohttp", "httpx2", "httpware", "httpx")

IMPORT = (
    "import asyncio, ssl\nfrom time import process_time as cpu\nbegan = cpu()\nimport {}\nprint((cpu() - began) * 1000)"
)


class Bench:
    """What a run needs: the upstream in plain and over TLS, each started when it is first asked for, and a place for bytecode."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._plain = ""
        self._secure: dict[str, str] = {}
        self._environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(self._folder)}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def plain(self) -> dict[str, str]:
        if not self._plain:
            self._plain = f"http://127.0.0.1:{self._stack.enter_context(serving())}"
        return {"origin": self._plain}

    def secure(self) -> dict[str, str]:
        if not self._secure:
            port = self._stack.enter_context(serving("--tls", *certificate(self._folder)))
            self._secure = {"origin": f"https://127.0.0.1:{port}", "authority": str(self._folder / "authority.pem")}
        return self._secure

    def child(self, *arguments: str, command: Sequence[str] = (sys.executable,)) -> subprocess.CompletedProcess[str]:
        """A fresh interpreter, run to its end. What it imports is compiled once, as an installed package is."""
        whole = [*command, *arguments]
        done = subprocess.run(whole, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(whole)}\n{done.stderr}")
        return done


@contextmanager
def serving(*options: str) -> Iterator[int]:
    """The server's port, while it runs."""
    command = [sys.executable, str(HERE / "server.py"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for loopback and its key, by an authority made for this run."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
    return str(folder / "certificate.pem"), str(folder / "key.pem")


def contend(figure: Figure, entry: tuple[str, str], bench: Bench, *, quick: bool) -> dict[str, Any]:
    """One client of one case, once."""
    case, client = entry
    if figure.measure == "importing":
        return {"ms": float(bench.child("-c", IMPORT.format(client)).stdout)}
    options = {**figure.options, **figure.cases[case], **(figure.quick if quick else {})}
    if figure.measure == "counting":
        return {"instructions": counted(bench, client, options["requests"])}
    where = bench.secure() if options.pop("tls", False) else bench.plain()
    if "requests" in options:
        options["requests"] = max(200, options["requests"] // SLOWNESS.get(client, 1))
    given = json.dumps({"contender": client, **where, **options})
    taken = json.loads(bench.child(str(HERE / "measures.py"), figure.measure, given).stdout)
    if taken.get("failed") and "failed" not in {field.name for field in figure.fields}:
        raise RuntimeError(f"{client}, {figure.title}: {taken['failed']} calls failed, the first by {taken['failure']}")
    return taken


def counted(bench: Bench, client: str, requests: int) -> float:
    """Instructions of a request: what so many more of them take more."""
    counting = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable)
    totals = []
    for number, command in (
        (500, (sys.executable,)),
        (500, counting),
        (500 + requests, counting),
    ):  # the first compiles
        given = json.dumps({"contender": client, **bench.plain(), "requests": number})
        said = bench.child(str(HERE / "measures.py"), "load", given, command=command).stderr
        if command is counting:
            totals.append(int(said.rpartition("Collected : ")[2].split()[0]))
    return (totals[1] - totals[0]) / requests


def rounds_of(figure: Figure, number: int, bench: Bench, *, quick: bool) -> list[page.Round]:
    entries = figure.entries()
    rounds: list[page.Round] = []
    if figure.measure == "importing":  # the first compiles
        for entry in entries:
            contend(figure, entry, bench, quick=quick)
    for turn in range(number):
        taken: dict[str, dict[str, dict[str, Any]]] = {case: {} for case in figure.cases}
        first = turn % len(entries)  # nobody is always the one after the slowest
        for case, client in entries[first:] + entries[:first]:
            taken[case][client] = contend(figure, (case, client), bench, quick=quick)
        rounds.append(taken)
    return rounds


def imports(bench: Bench) -> list[tuple[str, float]]:
    """What an import of Fairlead spends its time on: modules by their own milliseconds, the median of seven."""
    found: dict[str, list[float]] = {}
    known: set[str] = set()
    for turn in range(8):
        code = "import asyncio, ssl, fairlead" if turn else "import asyncio, ssl"
        for line in bench.child("-X", "importtime", "-c", code).stderr.splitlines()[1:]:
            own, _, name = line.removeprefix("import time:").split("|")
            if not turn:
                known.add(name.strip())
            elif name.strip() not in known:
                found.setdefault(name.strip(), []).append(int(own) / 1000)
    return sorted(((name, median(times)) for name, times in found.items()), key=lambda one: -one[1])


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": ssl.OPENSSL_VERSION.rpartition(" ")[0].partition(" ")[2].split(" ")[0],
        "load": os.getloadavg()[0],
    }


def stolen() -> tuple[int, int]:
    """Of this machine's processors, so far: ticks that another machine had on the same hardware, and all (`/proc/stat`)."""
    stat = Path("/proc/stat")
    ticks = [int(ticks) for ticks in stat.read_text().split("\n", 1)[0].split()[1:9]] if stat.exists() else [0] * 8
    return ticks[7], sum(ticks) - ticks[3] - ticks[4]


def share(before: tuple[int, int]) -> float:
    """What part of the time in which it had work was stolen since."""
    taken, busy = stolen()
    return (taken - before[0]) / max(1, busy - before[1])


def run(chosen: list[Figure], number: int | None, *, quick: bool) -> page.Results:
    began, before = monotonic(), stolen()
    results: page.Results = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": {name: version(name) for name in LIBRARIES},
        "figures": {},
    }
    with ExitStack() as stack:
        bench = Bench(stack)
        for figure in chosen:
            if figure.measure == "counting" and which("valgrind") is None:
                print("without valgrind nothing is counted", file=sys.stderr, flush=True)
                continue
            count = min(number or (3 if quick else figure.rounds), figure.rounds)
            print(f"{monotonic() - began:5.0f} s  {figure.title}, rounds: {count}", file=sys.stderr, flush=True)
            results["figures"][figure.key] = rounds_of(figure, count, bench, quick=quick)
            if figure.measure == "importing":
                results["imports"] = imports(bench)
    results["minutes"] = (monotonic() - began) / 60
    results["machine"]["stolen"] = share(before)
    return results


def write(results: page.Results) -> None:
    (DOCS / "performance.md").write_text(page.whole(results), encoding="utf-8")
    (DOCS / "performance.svg").write_text(chart.draw(page.panels(results)), encoding="utf-8")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only", nargs="+", choices=[figure.key for figure in FIGURES])
    options.add_argument("--rounds", type=int)
    options.add_argument("--render", action="store_true")
    given = options.parse_args()
    if given.render:
        write(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    chosen = [figure for figure in FIGURES if given.only is None or figure.key in given.only]
    results = run(chosen, given.rounds, quick=given.quick)
    print(page.whole(results))
    if not given.quick and given.only is None:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write(results)


if __name__ == "__main__":
    main()
