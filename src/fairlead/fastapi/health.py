"""Whether the process lives, whether it can do its work, and how each of its upstreams is: three questions, three paths.

A probe that asks ten times a second costs an upstream one request in a second: one check is under way at a time, and its result
counts a while, for all who ask.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fairlead.fastapi.live import Live
from fairlead.fastapi.vitals import circuit, report, sending
from fairlead.tasks import stop

PATIENCE: Final = 6.0
"""Seconds for one check, which has 5 of its own."""
FRESH: Final = 1.0
"""Seconds that the result of a check counts."""


async def live(_: Request) -> Response:
    """The process answers."""
    return _answer(True, {"live": True})


async def ready(request: Request) -> Response:
    """It does not stop, and what it cannot do without is healthy."""
    here = Live.here(request)
    services = {} if here.draining else await _asked(here, named(here.required))
    good = not here.draining and all(one["healthy"] and one["circuit"] != "open" for one in services.values())
    return _answer(good, {"ready": good, "draining": here.draining, "services": services})


async def health(request: Request) -> Response:
    """How every upstream is."""
    here = Live.here(request)
    clients = named(here)
    services = await _asked(here, clients)
    for name, client in clients.items():
        if (one := sending(client)) is not None:
            services[name] |= report(one)
    good = all(service["healthy"] for service in services.values())
    return _answer(good, {"healthy": good, "services": services})


def _answer(good: bool, document: dict[str, Any]) -> Response:
    return JSONResponse(document, 200 if good else 503, {"Cache-Control": "no-store"})


async def _asked(here: Live, clients: dict[str, Any]) -> dict[str, dict[str, Any]]:
    checks = {name: check(here, client) for name, client in clients.items()}
    if checks:
        await asyncio.wait(checks.values())
    now = asyncio.get_running_loop().time()
    return {
        name: {
            "healthy": not checks[name].cancelled() and checks[name].result(),
            "circuit": None if (one := sending(client)) is None else circuit(one, now),
        }
        for name, client in clients.items()
    }


def named(clients: list[Any]) -> dict[str, Any]:
    """Those that have something to ask, by names that tell them apart. A client for any origin has nothing."""
    found: dict[str, Any] = {}
    for client in {id(one): one for one in clients}.values():
        if hasattr(client, "health_check") and (getattr(client, "base_url", True) or client.health_path):
            name = called = str(getattr(client, "name", type(client).__name__))
            number = 1
            while called in found:  # by a number, as an address is nobody else's business, and may hold a secret
                number += 1
                called = f"{name} ({number})"
            found[called] = client
    return found


def check(here: Live, client: Any) -> asyncio.Task[bool]:
    """The check that is under way, or was a moment ago; or else one that begins now."""
    loop = asyncio.get_running_loop()
    known = here.checks.get(id(client))
    if known is not None and (not known[0].done() or loop.time() < known[1]):
        return known[0]
    # It is nobody's request's: who asked first may leave, and has no deadline for it.
    task = loop.create_task(_check(here, client), context=Context())
    here.checks[id(client)] = task, 0.0
    return task


async def _check(here: Live, client: Any) -> bool:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE):
            # One for threads has another for whoever runs a loop.
            return await getattr(client, "ahealth_check", client.health_check)() is True
    except Exception:  # one of the user's own may raise
        return False
    finally:
        if (known := here.checks.get(id(client))) is not None:
            here.checks[id(client)] = known[0], loop.time() + FRESH


async def ended(here: Live) -> None:
    """No check is under way any more."""
    await stop([task for task, _ in here.checks.values()])
