"""Clients that live as long as the application, injected by their class; their errors as answers of ours; their health.

    app = FastAPI(lifespan=lifespan(Weather, Orders))

    @app.get("/trip/{city}")
    async def trip(city: str, weather: Use[Weather]): ...

The lifespan also installs what answers their errors, asks for their health, and lets a caller's deadline and leaving reach the calls;
`install` does that by itself.
"""

from __future__ import annotations

import inspect
import logging
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from fastapi import Depends, Request, WebSocket
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocketState

from fairlead.asgi import Caller
from fairlead.errors import ConfigError, FairleadError
from fairlead.gather import gather
from fairlead.policies.circuit import verdict
from fairlead.policies.deadline import HEADER
from fairlead.problem import MEDIA_TYPE, problem
from fairlead.proxy import passthrough
from fairlead.settings import make

__all__ = ["Use", "install", "lifespan", "passthrough", "provide"]

C = TypeVar("C")
Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]

HEALTH: Final = 6.0
"""Seconds for all health checks together; each has 5 of its own."""
_KEY: Final = "fairlead"
_SANE: Final = re.compile(r"[\w.~:/+=@-]{1,128}", re.ASCII).fullmatch
_log: Final = logging.getLogger("fairlead")

if TYPE_CHECKING:
    Use = Annotated[C, None]
else:

    class Use:
        """`weather: Use[Weather]` injects the client that the lifespan opened; type checkers read it as `Weather`."""

        def __class_getitem__(cls, client: type) -> Any:
            return Annotated[client, Depends(provide(client))]


def lifespan(
    *clients: type[Any] | AbstractAsyncContextManager[Any] | Callable[[], Any],
    then: Lifespan | None = None,
    deadline_header: str | None = HEADER,
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """Opens clients in order, runs the application's own lifespan `then` inside, and closes in reverse.

    Unless `install` was called, it is: with `GET /health`, where that path is free, and the `deadline_header` that is given here.

    A class is built from its settings, an instance is taken as it is, and a function is called: it may be async, or yield its
    client as a context manager does. When one cannot open, those before it are closed.
    """
    for place, client in enumerate(clients):
        if not callable(client) and not hasattr(client, "__aenter__"):
            raise ConfigError(
                f"lifespan(): clients[{place}] is {client!r}: pass a class, a client, or a function that makes one"
            )

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        before = len(app.exception_handlers), len(app.user_middleware)
        if FairleadError not in app.exception_handlers:
            free = all(getattr(route, "path", None) != "/health" for route in app.routes)
            install(app, health="/health" if free else None, deadline_header=deadline_header)
        _hear(app, deadline_header)
        if before != (len(app.exception_handlers), len(app.user_middleware)):
            # An application that is starting has built what stands around its routes already: without ours.
            app.middleware_stack = app.build_middleware_stack()
        if not hasattr(app.state, _KEY):
            setattr(app.state, _KEY, [])
        live: list[Any] = getattr(app.state, _KEY)
        async with AsyncExitStack() as stack:
            for client in clients:
                one = await stack.enter_async_context(await _made(client))
                live.append(one)
                stack.callback(live.remove, one)
            own = asynccontextmanager(then) if inspect.isasyncgenfunction(then) else then
            state = await stack.enter_async_context(own(app)) if own is not None else None
            # In both places: the state of a lifespan reaches mounted applications too, the application's needs no server.
            yield {**(state or {}), _KEY: live}

    return opened


async def _made(client: Any) -> Any:
    if inspect.isasyncgenfunction(client):
        return asynccontextmanager(client)()
    if isinstance(client, type):
        made: Any = make(client)
    elif hasattr(client, "__aenter__"):
        made = client
    else:
        made = client()
        if inspect.isawaitable(made):
            made = await made
    if not hasattr(made, "__aenter__"):
        name = getattr(client, "__qualname__", client)
        raise ConfigError(f"lifespan(): {name} made {type(made).__name__}, which cannot be opened: make a client")
    return made


def provide(client: type[C]) -> Callable[[HTTPConnection], Awaitable[C]]:
    """The dependency behind `Use[client]`, always the same one: `app.dependency_overrides[provide(Weather)] = lambda: fake`."""
    kind: Any = client
    provider: Callable[[HTTPConnection], Awaitable[C]] = _provider(kind)
    return provider


@cache
def _provider(client: Any) -> Any:
    async def opened(connection: HTTPConnection) -> Any:
        live = _live(connection)
        # The class itself, or else one derived from it; an instance may have been passed twice.
        found = {id(one): one for one in live if type(one) is client}
        found = found or {id(one): one for one in live if isinstance(one, client)}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise ConfigError(f"{len(found)} clients are a {client.__name__}: make a subclass for each, and use that")
        raise ConfigError(f"{client.__name__} is not open: add it to FastAPI(lifespan=lifespan({client.__name__}))")

    return opened


def _live(connection: HTTPConnection) -> list[Any]:
    state = connection.scope.get("state") or {}
    live: list[Any] = state[_KEY] if _KEY in state else getattr(connection.app.state, _KEY, [])
    return live


def install(app: Starlette, *, health: str | None = "/health", deadline_header: str | None = HEADER) -> None:
    """Answer the errors of calls as problem documents (RFC 9457), and `GET health` with the health of all clients.

    A caller's `deadline_header` (None: none is read) bounds the calls made for it, and they end when it leaves: unless the application
    has a middleware `fairlead.asgi.Caller` of its own.

    504 for a time-out, 503 with `Retry-After` for a refusal or an upstream that is overloaded, 502 for everything else. A
    ConfigError is a mistake of ours, and stays a 500. A mounted application has handlers of its own: install there too.
    """
    app.add_exception_handler(FairleadError, _answer)  # type: ignore[arg-type]  # of HTTP and WebSocket routes alike
    if health is not None:
        app.add_route(health, _health, methods=["GET"], include_in_schema=False)
    _hear(app, deadline_header)


def _hear(app: Starlette, deadline_header: str | None) -> None:
    """Outermost, so that all of the application is ended at once; unless it has one already."""
    ours: Any = Caller
    if all(layer.cls is not ours for layer in app.user_middleware):
        app.user_middleware.insert(0, Middleware(Caller, deadline_header=deadline_header))


async def _answer(connection: HTTPConnection, error: FairleadError) -> Response | None:
    if isinstance(error, ConfigError):
        raise error
    given = connection.headers.get("x-request-id", "")
    request_id = given if _SANE(given) else uuid.uuid4().hex
    status, fields, document = problem(error, request_id)
    _log.info("answered %d: %s", status, error.message, extra=document)
    if isinstance(connection, WebSocket):
        denied = "websocket.http.response" in connection.scope.get("extensions", {})
        if connection.application_state is not WebSocketState.CONNECTING or not denied:
            if WebSocketState.DISCONNECTED not in {connection.application_state, connection.client_state}:
                await connection.close(1013 if status == 503 else 1011, document["title"])
            return None
    return JSONResponse(document, status, fields, MEDIA_TYPE)


async def _health(request: Request) -> Response:
    checked = {}
    for client in _live(request):
        # A client for any origin has nothing to ask.
        if hasattr(client, "health_check") and (client.base_url or client.health_path):
            name = client.name if client.name not in checked else f"{client.name} ({client.base_url})"
            checked[name] = client
    # One for threads has another for whoever runs a loop.
    asks = {name: getattr(client, "ahealth_check", client.health_check) for name, client in checked.items()}
    checks = await gather({name: ask() for name, ask in asks.items()}, within=HEALTH)
    services = {
        name: {"healthy": checks.data[name] is True, "circuit": verdict(client.upstream)}
        for name, client in checked.items()
    }
    healthy = all(service["healthy"] for service in services.values())
    return JSONResponse(
        {"healthy": healthy, "services": services}, 200 if healthy else 503, {"Cache-Control": "no-store"}
    )
