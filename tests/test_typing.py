"""Users' code as the type checkers read it, both in strict mode: `tests/typing` is all right, but for the lines marked wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "tests" / "typing").glob("*.py"))
MARK = re.compile(r"# type: ignore\[[a-z-]+\]")

pytestmark = pytest.mark.timeout(300)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)


def marked() -> set[tuple[str, int]]:
    return {
        (path.name, number)
        for path in EXAMPLES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if MARK.search(line)
    }


def test_mypy_reads_them_as_meant() -> None:
    # Strict mode reports an ignore that is not needed, so every mark is an error that mypy sees. Its other options are those of
    # `make check`: either finds what the other cached.
    done = run("mypy", "--strict", *map(str, EXAMPLES))
    assert done.stdout == f"Success: no issues found in {len(EXAMPLES)} source files\n"


def test_pyright_reads_them_as_meant(tmp_path: Path) -> None:
    # A project of its own, in which a mark hides nothing.
    config = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT / "src")], "enableTypeIgnoreComments": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    for path in EXAMPLES:
        shutil.copy(path, tmp_path)
    done = run("pyright", "--project", str(tmp_path), "--pythonpath", sys.executable, "--outputjson")
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] == len(EXAMPLES)
    faults = {
        (Path(fault["file"]).name, fault["range"]["start"]["line"] + 1): fault["message"]
        for fault in told["generalDiagnostics"]
    }
    assert faults.keys() == marked(), faults


def test_both_are_asked_to_refuse_something() -> None:
    assert len(marked()) >= 15
