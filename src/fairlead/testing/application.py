"""An application under test is given clients whose engine is a script: `with override(app, Weather, script(200)): ...`."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fairlead.base import BaseAPIClient
from fairlead.core import Engine
from fairlead.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fairlead.sync import SyncHTTPClient

C = TypeVar("C", bound="BaseAPIClient | SyncHTTPClient")

_PATIENCE: Final = 5.0


@contextmanager
def override(
    app: FastAPI, client: type[C], engine: Engine | C, *, named: str | None = None, **options: Any
) -> Iterator[C]:
    """Inside, routes that use `client` are given another one over `engine`, made with `options`, which it yields.

    Instead of an engine it may be a client, which stays its owner's to close. `named` is the name in `Annotated[Weather, Named("eu")]`.
    Entered before the application starts, no other is made of a class that was passed to `lifespan`: no settings are needed.
    """
    from fairlead.fastapi import provide
    from fairlead.sync import SyncHTTPClient

    given: Any = engine
    if isinstance(given, BaseAPIClient | SyncHTTPClient):
        if options or not isinstance(given, client):
            told = f"options ({', '.join(options)}) beside a client" if options else f"{given!r}"
            raise ConfigError(f"override(): {told}: pass a {client.__name__}, or an engine such as script(200)")
        instead: Any = given
    elif callable(getattr(given, "send", None)):
        instead = client(engine=given, **options if named is None else {"name": named, **options})
    else:
        raise ConfigError(f"override(): {given!r} is no engine: pass script(200, ...), or a {client.__name__}")
    overrides, key = app.dependency_overrides, provide(client, named)
    before = overrides.get(key)

    async def stand_in() -> C:
        one: C = instead
        return one

    overrides[key] = stand_in
    try:
        yield instead
    finally:
        if before is None:
            overrides.pop(key, None)
        else:
            overrides[key] = before
        if instead is not given:
            _close(instead)


def _close(client: BaseAPIClient | SyncHTTPClient) -> None:
    """On the loop that used it, which runs in another thread where a `TestClient` is open, or is this one, or has ended."""
    if not isinstance(client, BaseAPIClient):
        with ThreadPoolExecutor(1) as thread:
            thread.submit(client.close, 0.0).result(_PATIENCE)
        return
    loop: AbstractEventLoop | None = client._loop
    here = None
    with suppress(RuntimeError):
        here = asyncio.get_running_loop()
    if loop is not None and loop.is_running() and loop is not here:
        asyncio.run_coroutine_threadsafe(client.close(0.0), loop).result(_PATIENCE)
        return
    with suppress(StopIteration):
        client.close(0.0).send(None)  # a script closes without waiting
