"""The demo's upstreams as processes: started, stopped one by one, and gone when the demo is, whatever ends it.

Each is told whom it belongs to and leaves when that process does, so that even a killed demo leaves nothing behind.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from importlib.resources import files
from types import TracebackType
from typing import Final, Self

from fairlead.demo.shop import PORTS
from fairlead.errors import ConfigError

READY: Final = 30.0
"""Seconds that a process may take to listen: a busy machine is slow, not broken."""


class Upstreams:
    """The shop's three upstreams. A port that is taken is replaced by a free one."""

    def __init__(self) -> None:
        self.ports = {name: free_port(port) for name, port in PORTS.items()}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            for name in self.ports:
                self.start(name)
            for name in self.ports:
                self.wait(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def command(self, name: str) -> list[str]:
        arguments = ["--port", str(self.ports[name]), "--parent", str(os.getpid())]
        return [sys.executable, "-m", "fairlead.demo.shop", name, *arguments]

    def start(self, name: str) -> None:
        self.running[name] = spawn(self.command(name))

    def wait(self, name: str) -> None:
        """Until it listens; raises ConfigError if it never does."""
        wait_until_listening(name, self.ports[name], self.running[name])

    def stop(self, name: str) -> None:
        stop(self.running.pop(name))

    def close(self) -> None:
        for process in self.running.values():
            process.terminate()
        while self.running:
            stop(self.running.popitem()[1])

    def toml(self) -> str:
        """The demo's file, with the ports that were free."""
        text = files("fairlead.demo").joinpath("fairlead.toml").read_text("utf-8")
        for name, port in self.ports.items():
            text = text.replace(f":{PORTS[name]}", f":{port}")
        return text

    def hints(self) -> dict[str, tuple[str, str]]:
        """For each upstream the commands that stop it and start it again."""
        return {
            name: (f"kill {process.pid}", f"{shlex.join(self.command(name))} &")
            for name, process in self.running.items()
        }


def unwind_when_told() -> None:
    """SIGTERM and SIGINT end what was started, also where a shell started this in the background, with SIGINT ignored."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def spawn(command: list[str], *, quiet: bool = False, **environ: str) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that Ctrl-C reaches the demo only, which then stops the others in order."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if quiet else None,
        start_new_session=True,
        env={**os.environ, **environ},
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, gently and then not. One that has ended already is fine."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_listening(name: str, port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    ended = process.poll()
    why = f"it ended with status {ended}" if ended is not None else f"nothing listens on port {port} after {READY:g} s"
    raise ConfigError(f"{name} did not start: {why}")


def free_port(wanted: int = 0) -> int:
    """That port of loopback if nobody has it, else one that is free."""
    for port in (wanted, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as probe:
                number: int = probe.getsockname()[1]
                return number
        except OSError:
            continue
    raise ConfigError("no port of loopback is free")
