"""`fairlead demo`: the shop and the gateway in front of it, until Ctrl-C."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fairlead.demo.processes import Upstreams, unwind_when_told
from fairlead.gateway import Gateway
from fairlead.gateway.serve import address, listen, serve


def run(port: int) -> None:
    """Start everything, say what to try, and stop everything when told to. Raises ConfigError if it cannot."""
    unwind_when_told()
    listening = listen("127.0.0.1", port)
    try:
        with tempfile.TemporaryDirectory(prefix="fairlead-demo-") as folder, Upstreams() as upstreams:
            file = Path(folder, "fairlead.toml")
            file.write_text(upstreams.toml(), "utf-8")
            gateway = Gateway(file)
            print(guide(upstreams, file, address(listening)), flush=True)
            serve(gateway, listening)
            print("\nstopped", flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()


def guide(upstreams: Upstreams, file: Path, gateway: str) -> str:
    """What runs, what to try, and how to break it."""
    place = gateway.replace("127.0.0.1", "localhost").removeprefix("http://")
    lines = [f"The gateway is {gateway}, with this file, {file}:", ""]
    lines += [f"    {line}".rstrip() for line in upstreams.toml().splitlines()]
    lines += [
        "",
        "Try:",
        "",
        f"    curl {place}/home/1     three parts in one answer",
        f"    curl {place}/home/13    orders fails: its `or`, the others' data, complete: false",
        f"    curl {place}/home/7     prices is too slow: the rest in time, complete: false",
        f"    curl {place}/health     the three services, one by one",
        "",
        "Stop an upstream, ask again, and start it again (within five seconds its circuit has closed too):",
        "",
    ]
    for name, (stop, start) in upstreams.hints().items():
        lines += [f"    # {name}", f"    {stop}", f"    {start}"]
    return "\n".join([*lines, "", "Ctrl-C stops everything."])
