"""A gateway asked without a server: its file as text, its services as scripts."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead import HTTPClient
from fairlead.gateway.app import Gateway
from fairlead.gateway.config import Config, load
from fairlead.testing import Script


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def data(self) -> Any:
        return self.json()["data"]

    def status_of(self, part: str) -> str:
        return self.json()["services"][part]["status"]

    def error_of(self, part: str) -> str:
        return self.json()["services"][part]["error"]


def read(toml: str, environ: Mapping[str, str] | None = None) -> Config:
    """The file, as if it were `fairlead.toml` in the working directory."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "fairlead.toml")
        file.write_text(toml, "utf-8")
        return load(file, environ or {})


class Asking:
    """Asks a gateway, and can go away while it waits: set `gone`."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.gone = asyncio.Event()

    async def __call__(self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        path, _, query = url.partition("?")
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
        }  # fmt: skip
        answer = Answer(0, {}, b"")
        first = True

        async def receive():
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.content += message["body"]

        await self.gateway(scope, receive, send)
        return answer


@asynccontextmanager
async def serving(toml: str, **engines: Script) -> AsyncIterator[Asking]:
    config = read(toml)
    clients = {
        name: HTTPClient(
            service.url, name=name, timeout=service.timeout, max_retries=service.retries, engine=engines[name]
        )
        for name, service in config.services.items()
    }
    gateway = Gateway(config, clients=clients)
    try:
        yield Asking(gateway)
    finally:
        await gateway.close()
