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
    if isinstance(app, FastAPI):
        document(app)
    if health is not None:
        probe(app, health)
    hear(app, deadline_header)


def probe(app: Starlette, path: str) -> None:
    """The routes of health, each where its path is free."""
    Live.of(app).watched = True
    below = path.rstrip("/")
    taken = {getattr(route, "path", None) for route in app.routes}
    for place, route in ((path, probes.health), (f"{below}/live", probes.live), (f"{below}/ready", probes.ready)):
        if place not in taken:
            app.add_route(place, route, methods=["GET"], include_in_schema=False)


def hear(app: Starlette, deadline_header: str | None) -> None:
    """Outermost, so that all of the application is ended at once; unless it has one already."""
    ours: Any = Caller
    if all(layer.cls is not ours for layer in app.user_middleware):
        app.user_middleware.insert(0, Middleware(Caller, deadline_header=deadline_header))
