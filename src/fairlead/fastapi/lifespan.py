"""Clients are opened before the first request and closed after the last one, around the application's own lifespan."""

from __future__ import annotations

import inspect
from asyncio import get_running_loop, wait
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from math import inf
from typing import Any, Final

from starlette.applications import Starlette

from fairlead.base import DRAIN, BaseAPIClient
from fairlead.errors import ConfigError, FairleadError
from fairlead.fastapi.health import check, ended, named
from fairlead.fastapi.inject import provide
from fairlead.fastapi.install import installed
from fairlead.fastapi.live import KEY, Live
from fairlead.fastapi.vitals import failure, sending, watch
from fairlead.offload import close as close_offload
from fairlead.policies.deadline import HEADER
from fairlead.settings import make
from fairlead.tasks import never_run
from fairlead.url import shown

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
Chosen = Iterable[type | str]

_LIFESPAN: Final = "decorate an async generator with @asynccontextmanager"


def lifespan(
    *clients: type[Any] | AbstractAsyncContextManager[Any] | Callable[[], Any],
    then: Lifespan | None = None,
    eager: bool | Chosen = False,
    required: Chosen = (),
    drain: float = DRAIN,
    deadline_header: str | None = HEADER,
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """Opens clients in order, runs the application's own lifespan `then` inside, and closes in reverse.

    A class is built from its settings, an instance is taken as it is, and a function is called: it may be async, or yield its
    client as a context manager does. When one cannot open, those before it are closed. Each is `request.state.<name>` too.

    The first call connects. `eager=True`, or classes and names of some, asks for their health at the start, which fails where one is
    not well. Without those that are `required` the application is not ready. At its stop, calls under way have `drain` seconds.

    Unless `install` was called, it is: with `GET /health`, where that path is free, and the `deadline_header` that is given here. A
    handler of errors that is there stays.
    """
    for place, client in enumerate(clients):
        if isinstance(client, Starlette):
            raise ConfigError("lifespan=lifespan is not called: say what it opens, as in lifespan=lifespan(Weather)")
        if not callable(client) and not hasattr(client, "__aenter__"):
            raise ConfigError(
                f"lifespan(): clients[{place}] is {client!r}: pass a class, a client, or a function that makes one"
            )
    given: Any = drain
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < inf:
        raise ConfigError(f"lifespan(): drain={given!r} is not a number of seconds from 0 on")
    if then is not None and not callable(then):
        raise ConfigError(f"lifespan(): then={then!r} is no lifespan: pass a function of the application, {_LIFESPAN}")
    needed = _chosen("required", required)
    asked = None if eager is True else _chosen("eager", () if eager is False else eager)

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        installed(app, deadline_header)
        live = Live.of(app)
        live.draining = False
        closing = _Closing(drain)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(close_offload)
            overridden = getattr(app, "dependency_overrides", ())
            absent: list[Any] = []
            for client in clients:
                if isinstance(client, type) and provide(client) in overridden:
                    absent += client, client.__name__
                    continue  # its settings may be missing where another takes its place
                one = await stack.enter_async_context(await _made(client))
                if (ours := sending(one)) is not None:
                    stack.callback(closing.begin, ours)
                    if live.watched or asked is None or asked:
                        watch(ours)
                live.append(one)
                stack.callback(live.close, one)
            stack.push_async_callback(ended, live)
            before = live.required
            live.required = [*before, *live.picked(needed, "required", absent)]
            stack.callback(setattr, live, "required", before)
            await _well(live, list(live) if asked is None else live.picked(asked, "eager", absent))
            state = await stack.enter_async_context(_entered(then, app)) if then is not None else None
            try:
                yield {**live.names(), **(state or {}), KEY: live}
            finally:
                live.draining = True

    return opened


def _chosen(argument: str, told: Any) -> tuple[Any, ...]:
    if isinstance(told, str | type) or not isinstance(told, Iterable):
        raise ConfigError(f"lifespan(): {argument}={told!r} is no list of classes and names: write {argument}=[...]")
    return tuple(told)


def _entered(then: Lifespan, app: Any) -> AbstractAsyncContextManager[Mapping[str, Any] | None]:
    own = asynccontextmanager(then) if inspect.isasyncgenfunction(then) else then
    made: Any = own(app)
    if not hasattr(made, "__aenter__"):
        never_run([made])
        raise ConfigError(f"lifespan(): then={then!r} made {type(made).__name__}, which cannot be entered: {_LIFESPAN}")
    entered: AbstractAsyncContextManager[Mapping[str, Any] | None] = made
    return entered


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


class _Closing:
    """Clients that are closed one after the other within the same seconds: whoever needs another one before it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None

    def begin(self, client: BaseAPIClient) -> None:
        """Just before it closes: give it what is left."""
        now = get_running_loop().time()
        if self._until is None:
            self._until = now + self._seconds
        client._drain = max(0.0, self._until - now)


async def _well(live: Live, clients: list[Any]) -> None:
    """Raises FairleadError that names each one that is not healthy, where it is, and what its check found."""
    checks = {name: (client, check(live, client)) for name, client in named(clients).items()}
    if checks:
        await wait([task for _, task in checks.values()])
    faults = []
    for name, (client, task) in checks.items():
        if not task.result():
            faults.append(f"{name}{_place(client)} is not healthy: {_reason(client)}")
    if faults:
        raise FairleadError(f"lifespan(eager=...): {'; '.join(faults)}")


def _place(client: Any) -> str:
    base, path = getattr(client, "base_url", ""), getattr(client, "health_path", "")
    if path and "://" not in path:
        path = f"{base}/{path.lstrip('/')}"
    return f" at {shown(path or base)}" if path or base else ""


def _reason(client: Any) -> str:
    ours = sending(client)
    last = None if ours is None else failure(ours)
    return "its health_check() did not say True" if last is None else f"{last.error}: {last.message}"
