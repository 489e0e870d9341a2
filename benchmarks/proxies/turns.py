"""Proxy after proxy, round after round, each in processes of its own: what the load found of it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from figures import Figure, Round
from proxies.contenders import CONTENDERS, HERE, Absent, running


def contend(figure: Figure, name: str, upstream: int, *, quick: bool) -> dict[str, Any]:
    """One proxy, once, in processes of its own."""
    options = {**figure.options, **(figure.quick if quick else {})}
    with tempfile.TemporaryDirectory() as folder, running(name, Path(folder), upstream) as (port, pids):
        asked = json.dumps({"port": port, "pids": pids, **options})
        command = [sys.executable, str(HERE / "load.py"), figure.measure, asked]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{name}, {figure.title}: {done.stderr}")
    taken: dict[str, Any] = json.loads(done.stdout)
    return taken


def rounds_of(figure: Figure, names: list[str], number: int, upstream: int, *, quick: bool) -> list[Round]:
    rounds: list[Round] = []
    for turn in range(number):
        first = turn % len(names)  # nobody is always the one after the slowest
        rounds.append(
            {"": {name: contend(figure, name, upstream, quick=quick) for name in names[first:] + names[:first]}}
        )
        print(f"   round {turn + 1} of {number}", file=sys.stderr, flush=True)
    return rounds


def present(names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Those that run here, by name their version; and of the others why they do not."""
    found, absent = {}, {}
    for name in names:
        contender = CONTENDERS[name]
        try:
            with tempfile.TemporaryDirectory() as folder:
                contender.command(Path(folder), 0, 0)
            found[name] = contender.version()
        except Absent as reason:
            absent[name] = str(reason)
        except ImportError as error:
            absent[name] = f"{error.name} is not installed"
    return found, absent
