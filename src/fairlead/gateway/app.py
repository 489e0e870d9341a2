"""The gateway as an ASGI application: it finds the aggregate, reads of the request what its parts refer to, and answers.

Plain ASGI, without a framework: between the server and the plan stand `Caller`, which ends what nobody waits for any more, and one
regular expression.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from fairlead.asgi import Caller
from fairlead.auth import Bearer
from fairlead.client import HTTPClient
from fairlead.errors import ConfigError
from fairlead.gateway.answer import JSON, NO_STORE, Answer, Frame, Header, encode, refusal
from fairlead.gateway.config import Config, Service, load
from fairlead.gateway.fanout import Aggregate, Fanout
from fairlead.gateway.routes import Routes
from fairlead.inbound import Receive, Scope, Send
from fairlead.policies.circuit import verdict

_ID: Final = re.compile(rb"[\w.:+/=-]{1,128}", re.ASCII).fullmatch
_ALLOW: Final[Header] = (b"allow", b"GET, HEAD")


class Gateway:
    """An ASGI application from a file. `clients` replaces the clients of services by name, as tests and programs may want."""

    def __init__(self, config: Config | str | Path, *, clients: Mapping[str, HTTPClient] | None = None) -> None:
        self.config = config = config if isinstance(config, Config) else load(config)
        given = clients or {}
        self.clients = {
            name: given[name] if name in given else client(config, service) for name, service in config.services.items()
        }
        self._routes = Routes(config.patterns)
        self._aggregates = [(Aggregate(plan, self.clients), Frame(plan)) for plan in config.plans]
        self._asked = Caller(self._ask)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000, "reason": "no WebSocket here"})
            return
        await self._asked(scope, receive, send)

    async def _ask(self, scope: Scope, _: Receive, send: Send) -> None:
        status, body, headers = await self._answer(scope)
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def close(self) -> None:
        """Close the services' connections."""
        for one in self.clients.values():
            await one.close()

    async def _answer(self, scope: Scope) -> Answer:
        found = self._routes.find((scope.get("raw_path") or scope["path"].encode()).decode("latin-1"))
        if found is None and scope["path"] != "/health":
            return refusal(404, "no aggregate has this path")
        if scope["method"] not in {"GET", "HEAD"}:
            return refusal(405, "only GET and HEAD are answered", _ALLOW)
        if found is None:
            return await self._health()
        aggregate, frame = self._aggregates[found[0]]
        fanout = Fanout(aggregate, _values(scope, found[1], aggregate.plan.reads))
        await fanout.run()
        if fanout.failed is not None:
            return frame.failure(fanout.failed, fanout.outcomes, _request_id(scope))
        body, headers = frame.fill(fanout.settled())
        return 200, body, headers

    async def _health(self) -> Answer:
        healthy = await asyncio.gather(*[one.health_check() for one in self.clients.values()])
        services = {
            name: {"healthy": good, "circuit": verdict(one.upstream)}
            for (name, one), good in zip(self.clients.items(), healthy, strict=True)
        }
        body = encode({"healthy": all(healthy), "services": services})
        return 200 if all(healthy) else 503, body, [JSON, NO_STORE]

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})


def client(config: Config, service: Service) -> HTTPClient:
    """The client of a service, with the numbers of the file."""
    try:
        return HTTPClient(
            service.url,
            name=service.name,
            timeout=service.timeout,
            max_retries=service.retries,
            max_connections=service.max_connections,
            verify=service.verify,
            headers={"Accept": "application/json", **service.headers},
            auth=None if service.bearer is None else Bearer(service.bearer),
            health_path=service.health,
        )
    except ConfigError as error:
        raise ConfigError(f"{config.file}: services.{service.name}: {error.message}") from None


def _values(scope: Scope, parameters: Mapping[str, str], reads: frozenset[str]) -> dict[str, Any]:
    """What references read of this request, and no more of it."""
    values: dict[str, Any] = dict(parameters)
    if "query" in reads:
        query: dict[str, Any] = {}
        for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
            if name not in query:
                query[name] = value
            elif isinstance(query[name], list):
                query[name].append(value)
            else:
                query[name] = [query[name], value]
        values["query"] = query
    if "header" in reads:
        headers: dict[str, str] = {}
        for field, content in scope["headers"]:
            name, value = field.decode("latin-1"), content.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        values["header"] = headers
    return values


def _request_id(scope: Scope) -> str:
    """The caller's own, if it is a plain word; else a new one."""
    own = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return own.decode() if _ID(own) else uuid.uuid4().hex
