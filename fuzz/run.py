"""Fuzzing, guided by coverage where atheris is installed, else by chance over seeds; the same targets either way.

    python fuzz/run.py answer --seconds 60
    python fuzz/run.py all --seconds 3600 --jobs 2      the parser all that time, beside it the others one after the other

A target is a module beside this one: `SEEDS`, and `check(data)`, which raises when something is not as it should be. The bytes
that made it raise are written to `--findings`, and `python fuzz/run.py answer FILE` meets them again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from time import monotonic
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
PATHS = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests")]
TARGETS = (
    "answer",
    "coding",
    "cookies",
    "dates",
    "guard",
    "head",
    "hints",
    "lines",
    "redirect",
    "retry_after",
    "tunnel",
    "url",
)
LONGEST = 4096
"""Bytes of an input: more slows down, and finds no more."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("file", nargs="*", type=Path, help="inputs to meet again, instead of new ones")
    parser.add_argument("--seconds", type=float, default=10.0, help="in all")
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    parser.add_argument("--chance", action="store_true", help="without atheris, even where it is installed")
    given = parser.parse_args()
    if given.target == "all":
        return _all(given)
    if given.file:
        check = load(given.target).check
        for path in given.file:
            check(path.read_bytes())
        return 0
    guided = not given.chance and find_spec("atheris") is not None
    runs, finding = (_guided if guided else _by_chance)(given)
    how = "guided by coverage" if guided else "by chance"
    print(
        f"{given.target}: {runs} executions in {given.seconds:g} s, {how}: {'a finding' if finding else 'no finding'}"
    )
    if finding:
        print(f"  {finding}")
    return bool(finding)


def load(target: str) -> ModuleType:
    for path in PATHS:
        if path not in sys.path:
            sys.path.insert(0, path)
    return import_module(f"fuzz.{target}")


def _all(given: argparse.Namespace) -> int:
    """Each target in a process of its own, as a finding ends it. The parser has half of all time."""
    half = given.seconds * min(given.jobs, 2) / 2
    shares = {target: half / (len(TARGETS) - 1) for target in TARGETS} | {TARGETS[0]: half}

    def one(target: str) -> int:
        options = ["--seconds", f"{shares[target]:g}", "--seed", str(given.seed), "--findings", str(given.findings)]
        command = [sys.executable, __file__, target, *options, *(["--chance"] if given.chance else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(done.stdout.strip() or done.stderr.strip()[-2000:], flush=True)
        return done.returncode

    with ThreadPoolExecutor(given.jobs) as pool:
        return max([*pool.map(one, TARGETS)])


def _guided(given: argparse.Namespace) -> tuple[int, str]:
    """atheris, in a process of its own: it ends its process when it has ended."""
    given.findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for seed in load(given.target).SEEDS:
            Path(corpus, sha256(seed).hexdigest()[:16]).write_bytes(seed)
        code = (
            "import atheris, sys, importlib\n"
            f"sys.path[:0] = {PATHS}\n"
            "with atheris.instrument_imports(include=['fairlead']):\n"
            f"    target = importlib.import_module('fuzz.{given.target}')\n"
            "import warnings; warnings.simplefilter('error')\n"
            "atheris.Setup(sys.argv, lambda data: target.check(data))\n"
            "atheris.Fuzz()\n"
        )
        options = [
            f"-max_total_time={max(1, int(given.seconds))}",
            f"-max_len={LONGEST}",
            f"-seed={given.seed}",
            "-timeout=10",
            "-print_final_stats=1",
        ]
        command = [sys.executable, "-c", code, *options, f"-artifact_prefix={given.findings}/{given.target}-", corpus]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    counted = re.findall(r"stat::number_of_executed_units:\s*(\d+)|^#(\d+)", done.stderr, re.MULTILINE)
    runs = max((int(one or other) for one, other in counted), default=0)
    if done.returncode == 0 and runs:
        return runs, ""
    told = (done.stdout + done.stderr).strip().splitlines()
    return runs, "\n  ".join(line for line in told if not line.startswith(("#", "INFO"))) or "it did not start"


def _by_chance(given: argparse.Namespace) -> tuple[int, str]:
    target = load(given.target)
    until, runs = monotonic() + given.seconds, 0
    for data in inputs(target.SEEDS, given.seed):
        if monotonic() > until:
            break
        runs += 1
        if finding := met(target.check, data):
            given.findings.mkdir(parents=True, exist_ok=True)
            path = given.findings / f"{given.target}-{sha256(data).hexdigest()[:16]}"
            path.write_bytes(data)
            return runs, f"{path}: {finding}"
    return runs, ""


def met(check: Callable[[bytes], None], data: bytes) -> str:
    """What was found, or nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check(data)
    except Exception:
        return f"{data!r}\n{traceback.format_exc()}"
    return ""


def inputs(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """The seeds, and then without end what chance makes of them: the same for the same `seed`."""
    yield from seeds
    dice = Random(seed)
    while True:
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.choice((1, 1, 2, 4, 8))):
            _change(data, seeds, dice)
        yield bytes(data[:LONGEST])


def _change(data: bytearray, seeds: list[bytes], dice: Random) -> None:
    at = dice.randrange(len(data) + 1)
    end = min(len(data), at + dice.choice((1, 1, 2, 4, 16)))
    match dice.randrange(7):
        case 0:
            data[at:end] = dice.randbytes(end - at)
        case 1:
            data[at:at] = dice.choice(
                (b"\r\n", b"\r", b"\n", b" ", b"\x00", b":", b";", b",", b"0", b"%", b"/", b"\xff", b"\x80")
            )
        case 2:
            del data[at:end]
        case 3:
            data[at:at] = data[at:end] * dice.choice((1, 2, 8, 40))
        case 4:
            other = dice.choice(seeds)
            since = dice.randrange(len(other) + 1)
            data[at:] = other[since:]
        case 5 if at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        case _ if at < len(data):
            data[at] = (data[at] + dice.choice((-1, 1))) % 256


if __name__ == "__main__":
    sys.exit(main())
