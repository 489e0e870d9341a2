"""The demo's processes: ports, commands, and that they are gone afterwards."""

import os
import shlex
import socket
import subprocess
import sys

import pytest

from fairlead.demo import processes
from fairlead.demo.processes import Upstreams, free_port, spawn, stop, wait_until_listening
from fairlead.demo.run import guide
from fairlead.errors import ConfigError
from peers import PATIENCE


def test_a_port_that_is_taken_is_replaced_in_the_file_too(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port
        monkeypatch.setattr(processes, "free_port", lambda wanted: 9000 + wanted % 10)
        toml = Upstreams().toml()
    assert 'url = "http://127.0.0.1:9001"' in toml
    assert "810" not in toml


def test_the_guide_tells_what_to_try_and_how_to_break_it(tmp_path):
    upstreams = Upstreams()
    upstreams.running = {name: subprocess.Popen(["true"]) for name in upstreams.ports}
    told = guide(upstreams, tmp_path / "fairlead.toml", "http://127.0.0.1:8080")
    for part in ("curl localhost:8080/home/1 ", "/home/13 ", "/home/7 ", "[[aggregates]]", str(tmp_path)):
        assert part in told
    for name, (kill, start) in upstreams.hints().items():
        assert f"    {kill}\n    {start}" in told
        assert shlex.split(start)[:4] == [sys.executable, "-m", "fairlead.demo.shop", name]
    upstreams.close()


def test_a_process_that_ends_instead_of_listening_is_told():
    with pytest.raises(ConfigError, match="x did not start: it ended with status 1"):
        wait_until_listening("x", free_port(), spawn(["false"]))


def test_a_process_that_has_ended_can_be_stopped():
    process = spawn(["true"])
    process.wait(PATIENCE)
    stop(process)
    assert process.returncode == 0


def test_an_upstream_leaves_when_the_process_it_belongs_to_is_gone():
    gone = spawn(["true"])
    gone.wait(PATIENCE)
    command = [sys.executable, "-m", "fairlead.demo.shop", "users", "--port", str(free_port())]
    assert spawn([*command, "--parent", str(gone.pid)]).wait(PATIENCE) == 0


def test_an_upstream_whose_port_is_taken_says_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "fairlead.demo.shop", "users", "--port", port]
        told = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert told.returncode == 1
    assert told.stderr == f"users: port {port} of 127.0.0.1 is taken; choose another with --port\n"
