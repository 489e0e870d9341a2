"""What an application has of us beside its clients: answers to their errors, its health, a caller who is listened for."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware

from fairlead.asgi import Caller
from fairlead.errors import FairleadError
from fairlead.fastapi import health as probes
from fairlead.fastapi.errors import answer
from fairlead.fastapi.live import Live
from fairlead.fastapi.openapi import document
from fairlead.policies.deadline import HEADER


def install(app: Starlette, *, health: str | None = "/health", deadline_header: str | None = HEADER) -> None:
    """Answer the errors of calls as problem documents (RFC 9457), which the schema lists for each route that uses a client.

    `GET health` tells of all clients, `health/live` of this process, `health/ready` of whether it can do its work; None leaves them out.

    A caller's `deadline_header` (None: none is read) bounds the calls made for it, and they end when it leaves: unless the application
    has a middleware `fairlead.asgi.Caller` of its own.

    504 for a time-out, 503 with `Retry-After` for a refusal or an upstream that is overloaded, 502 for everything else. A
    ConfigError is a mistake of ours, and stays a 500. A mounted application has handlers of its own: install there too.
    """
    app.add_exception_handler(FairleadError, answer)  # type: ignore[arg-type]  # of HTTP and WebSocket routes alike
    _complete(app, health, deadline_header)


def installed(app: Starlette, deadline_header: str | None) -> None:
    """What `install` does, where nobody called it, beside what is there already."""
    before = len(app.exception_handlers), len(app.user_middleware)
    if not Live.of(app).installed:
        if FairleadError not in app.exception_handlers:
            app.add_exception_handler(FairleadError, answer)  # type: ignore[arg-type]
        _complete(app, "/health", deadline_header)
    _hear(app, deadline_header)
    if before != (len(app.exception_handlers), len(app.user_middleware)):
        # An application that is starting has built what stands around its routes already: without ours.
        app.middleware_stack = app.build_middleware_stack()


def _complete(app: Starlette, health: str | None, deadline_header: str | None) -> None:
    live = Live.of(app)
    live.installed = True
    if isinstance(app, FastAPI):
        document(app)
    if health is not None:
        below = health.rstrip("/")
        live.watched = _route(app, health, probes.health) or live.watched
        _route(app, f"{below}/live", probes.live)
        _route(app, f"{below}/ready", probes.ready)
    _hear(app, deadline_header)


def _route(app: Starlette, path: str, endpoint: Any) -> bool:
    """Whether that path was free."""
    routes = app.router.routes
    paths = [getattr(route, "path", None) for route in routes]
    if path in paths:
        return False
    app.add_route(path, endpoint, methods=["GET"], include_in_schema=False)
    # What takes every path, such as the files of a page, would answer a probe with 200 whatever happens.
    if (place := next((at for at, one in enumerate(paths) if one is not None and _takes_all(one)), None)) is not None:
        routes.insert(place, routes.pop())
    return True


def _takes_all(path: str) -> bool:
    """A mount at the root, or a route of parameters that may be any path."""
    return path == "" or (path[:2] == "/{" and path[-6:] == ":path}")


def _hear(app: Starlette, deadline_header: str | None) -> None:
    """Outermost, so that all of the application is ended at once; unless it has one already."""
    kinds: list[Any] = [layer.cls for layer in app.user_middleware]
    if not any(isinstance(kind, type) and issubclass(kind, Caller) for kind in kinds):
        app.user_middleware.insert(0, Middleware(Caller, deadline_header=deadline_header))
