"""The command: what it prints where, and how it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fairlead
from fairlead.cli import main
from loopback import upstream
from peers import PATIENCE

FILE = """
[services.users]
url = "{url}"
timeout = "2s"
retries = 0
[[aggregates]]
get = "/home/{{id}}"
within = "800ms"
[aggregates.parts]
user = {{ call = "users /users/{{id}}", required = true }}
more = {{ call = "users /more?of={{user.name}}", or = [], when = "user.vip" }}
"""

Written = Callable[[str], Path]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.chdir(tmp_path)

    def write(url: str, toml: str = FILE) -> Path:
        Path("fairlead.toml").write_text(toml.format(url=url), "utf-8")
        return Path("fairlead.toml")

    return write


def left_with(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    code = leaving.value.code
    assert isinstance(code, int)
    return code


def test_check_prints_the_plan_as_understood(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert left_with("check", written("http://users.test")) == 0
    told = capsys.readouterr().out
    assert "users -> http://users.test" in told
    assert "circuit breaker" in told
    assert "GET /home/{id}  within 800 ms" in told
    assert "1.  user  users /users/{id}           required" in told
    assert "2.  more  users /more?of={user.name}  after user, when user.vip, or []" in told


def test_a_mistake_is_one_line_on_stderr_and_status_2(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    file = written("http://users.test", FILE.replace('"users /users', '"user /users'))
    for command in (["check"], ["serve"]):
        assert left_with(*command, file) == 2
        seen = capsys.readouterr()
        assert seen.out == ""
        assert seen.err == 'fairlead.toml: aggregates[0].parts.user: no service "user"; did you mean "users"?\n'


def test_a_file_that_is_not_there_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert left_with("check", "none.toml") == 2
    assert capsys.readouterr().err == "none.toml: cannot be read: No such file or directory\n"


def test_call_prints_the_body_and_tells_the_status_beside_it(
    written: Written, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with upstream({"/users/1": {"id": 1}}) as peer:
        assert left_with("call", written(str(peer.origin)), "users", "/users/1") == 0
    seen = capfdbinary.readouterr()
    assert seen.out == b'{"id": 1}'
    assert seen.err.startswith(b"200 OK in ")


def test_call_leaves_with_1_where_it_failed(written: Written, capfd: pytest.CaptureFixture[str]) -> None:
    with upstream({}) as peer:
        file = written(str(peer.origin))
        assert left_with("call", file, "users", "/users/1") == 1
        seen = capfd.readouterr()
        assert "no such path" in seen.out
        assert seen.err.startswith("404 Not Found in ")
    assert left_with("call", file, "users", "/users/1") == 1
    assert "refused the connection" in capfd.readouterr().err


def test_call_of_an_unknown_service_suggests_one(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert left_with("call", written("http://users.test"), "user", "/") == 2
    assert capsys.readouterr().err == 'fairlead.toml: no service "user"; did you mean "users"?\n'


def test_call_does_not_leave_its_service(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert left_with("call", written("http://users.test"), "users", "http://elsewhere.test/") == 2
    assert "elsewhere.test is not http://users.test" in capsys.readouterr().err


@pytest.mark.parametrize(("module", "extra"), [("typer", "cli"), ("jmespath", "gateway")])
def test_what_is_not_installed_is_named_with_its_extra(
    module: str, extra: str, written: Written, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("fairlead.gateway")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert left_with("check", written("http://users.test")) == 1
    seen = capsys.readouterr().err
    assert seen == f"fairlead: {module} is not installed: pip install 'fairlead[{extra}]'\n"


def test_a_port_that_is_taken_is_one_line(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert left_with("serve", written("http://users.test"), "--port", str(port)) == 2
        assert capsys.readouterr().err == f"port {port} of 127.0.0.1 is taken; choose another with --port\n"
        assert left_with("demo", "--port", str(port)) == 2


def test_an_address_of_nobody_is_one_line(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert left_with("serve", written("http://users.test"), "--host", "192.0.2.1") == 2
    assert capsys.readouterr().err.startswith("cannot listen on 192.0.2.1 port 8080: ")


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_answers_and_stops_when_told(workers: int, written: Written) -> None:
    toml = FILE.replace("required = true", 'required = true, headers = {{ X-Who = "{{header.x-who}}" }}')
    with upstream({"/users/1": {"name": "Ada", "vip": False}}) as peer:
        file = written(str(peer.origin), toml)
        serving = subprocess.Popen(
            [sys.executable, "-m", "fairlead", "serve", file, "--port=0", f"--workers={workers}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(fairlead.__file__).parent.parent)},
        )
        try:
            assert serving.stdout is not None
            told = serving.stdout.readline()
            found = re.search(r"on (http://127\.0\.0\.1:\d+) in", told)
            assert found, told
            answer = asked(f"{found[1]}/home/1")
            assert answer["data"] == {"user": {"name": "Ada", "vip": False}, "more": []}
            assert answer["complete"] is True
            trailed(int(found[1].rpartition(":")[2]))
            assert [one.headers.get("x-who") for one in peer.asked] == [None, "head"], "a trailer is no header"
        finally:
            serving.send_signal(signal.SIGTERM)
            serving.communicate(timeout=PATIENCE)
    assert serving.returncode in {0, -signal.SIGTERM}


def trailed(port: int) -> None:
    """Ask with a field in the head, and once more in a trailer that comes with it."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as line:
        line.sendall(
            b"GET /home/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Who: head\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Who: trailer\r\n\r\n"
        )
        while line.recv(65536):
            pass


def asked(url: str) -> Any:
    """What is answered there, as soon as somebody listens; workers take their time."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:
                return json.load(response)
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)  # in another process nobody tells when it listens


def test_the_module_is_the_command() -> None:
    told = subprocess.run([sys.executable, "-m", "fairlead", "--help"], capture_output=True, text=True, check=True)
    assert all(command in told.stdout for command in ("serve", "check", "call", "demo"))
