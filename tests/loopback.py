"""A small upstream on loopback, in a thread of its own, and an engine that leads every origin to it.

So code that names a real host runs as it is written: connections, bytes and parser are real, and only the address is another.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from fairlead import engines
from fairlead.core import Call, Engine
from fairlead.engines import EngineName, Wire
from fairlead.message import Request, Response
from fairlead.url import Origin

EXAMPLES = Path(__file__).parent.parent / "examples"


@dataclass
class Asked:
    """A request as the upstream read it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Upstream:
    """Answers by path, or by `METHOD path`: JSON, or `[status, JSON]`; what it does not know is a 404."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    origin: Origin = field(init=False)

    def answer(self, asked: Asked) -> tuple[int, Any]:
        path = asked.target.partition("?")[0]
        for key in (f"{asked.method} {path}", path):
            if key in self.answers:
                given = self.answers[key]
                match given:
                    case [int(status), body]:
                        return status, body
                return 200, given
        return 404, {"detail": f"no such path: {path}"}


class Led:
    """An engine whose every call goes to one origin."""

    def __init__(self, engine: Engine, origin: Origin) -> None:
        self._engine = engine
        self._origin = origin

    async def send(self, call: Call, /) -> Response:
        asked = call.request
        call.request = Request.build(asked.method, self._origin, asked.target, asked.headers, asked.content)
        response = await self._engine.send(call)
        response.request = call.request = asked
        return response

    async def close(self) -> None:
        await self._engine.close()


@contextmanager
def led(answers: dict[str, Any] | None = None) -> Iterator[Upstream]:
    """An upstream; as soon as it has an answer, every engine that a client makes by name leads to it."""
    create = engines.create
    with upstream(answers) as made:

        def leading(engine: EngineName | Engine, wire: Wire) -> Engine:
            created = create(engine, wire)
            return Led(created, made.origin) if isinstance(engine, str) and made.answers else created

        with patch.object(engines, "create", leading):
            yield made


def example(name: str) -> ModuleType:
    """An example, imported afresh."""
    for path in EXAMPLES.glob("*.py"):
        sys.modules.pop(path.stem, None)
    with patch.object(sys, "path", [str(EXAMPLES), *sys.path]):
        return import_module(name)


@contextmanager
def upstream(answers: dict[str, Any] | None = None) -> Iterator[Upstream]:
    made = Upstream(answers if answers is not None else {})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            asked = Asked(
                self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, self.rfile.read(length)
            )
            made.asked.append(asked)
            status, body = made.answer(asked)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """A test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.origin = Origin("http", "127.0.0.1", server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
