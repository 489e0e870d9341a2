"""The demo as its guide says: asked, broken and mended by the commands it prints, and gone when it is told to go."""

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
from pathlib import Path

import fairlead
from fairlead.demo.processes import free_port
from peers import PATIENCE


def asked(url):
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def refused(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def eventually(holds):
    until = time.monotonic() + 3 * PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)  # another process tells nobody


def test_the_demo_shows_what_it_says_and_leaves_nothing_behind(tmp_path):
    port = free_port()
    environ = {**os.environ, "PYTHONPATH": str(Path(fairlead.__file__).parent.parent)}
    guide = tmp_path / "guide"
    with guide.open("w") as out:
        demo = subprocess.Popen([sys.executable, "-m", "fairlead", "demo", f"--port={port}"], stdout=out, env=environ)
    restarted = None
    try:
        eventually(lambda: "Ctrl-C" in guide.read_text() and not refused(port))
        told = guide.read_text()
        home = f"http://127.0.0.1:{port}/home"

        status, answer = asked(f"{home}/1")
        assert (status, answer["complete"]) == (200, True)
        assert answer["data"]["user"]["id"] == 1
        assert answer["data"]["orders"][0]["sku"] in answer["data"]["prices"]

        status, answer = asked(f"{home}/13")
        assert (status, answer["complete"]) == (200, False)
        assert {name: part["status"] for name, part in answer["services"].items()} == {
            "user": "ok", "orders": "error", "prices": "ok",
        }  # fmt: skip

        status, answer = asked(f"{home}/7")
        assert (status, answer["complete"]) == (200, False)
        assert {name: part["status"] for name, part in answer["services"].items()} == {
            "user": "ok", "orders": "ok", "prices": "timeout",
        }  # fmt: skip

        stop, start = re.findall(r"# prices\n +(kill \d+)\n +(\S.*) &", told)[0]
        subprocess.run(stop.split(), check=True)
        prices = int(re.findall(r"shop prices --port (\d+)", start)[0])
        eventually(lambda: refused(prices))
        status, answer = asked(f"{home}/1")
        assert (status, answer["complete"]) == (200, False)
        assert answer["services"]["prices"]["status"] == "error"
        assert answer["data"]["user"]["id"] == 1

        restarted = subprocess.Popen(start.split(), env=environ, stdout=subprocess.DEVNULL)
        eventually(lambda: not refused(prices))
        eventually(lambda: asked(f"{home}/1")[1]["complete"])
    finally:
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(PATIENCE) == 0
        if restarted is not None:
            assert restarted.wait(PATIENCE) == 0, "it belongs to the demo, and goes with it"
    ports = [int(found) for found in re.findall(r"shop \w+ --port (\d+)", told)]
    assert [refused(one) for one in (port, *ports)] == [True] * 4
