"""Thousands of URLs through a bounded number of calls: the next one is taken only when there is room for its answer.

So the URLs may come from a file, a database cursor or an endless generator, and a slow reader slows the calls, not the memory.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field

from fairlead.client import HTTPClient
from fairlead.core import Timeout
from fairlead.errors import ConfigError
from fairlead.keywords import DEFAULT, Default
from fairlead.tasks import safe, stop

Urls = Iterable[str] | AsyncIterable[str]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of one URL: a status and its content, or, where no answer came, an `error` that may be shown to anyone."""

    url: str
    status: int | None = None
    content: bytes = field(default=b"", repr=False)
    error: str | None = None
    elapsed: float = 0.0
    """Seconds, with every attempt and wait."""
    cause: BaseException | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether an answer came, and it is not 4xx or 5xx."""
        return self.status is not None and self.status < 400


def fetch_all(
    urls: Urls,
    limit: int = 10,
    *,
    client: HTTPClient | None = None,
    ordered: bool = False,
    timeout: float | Timeout | Default | None = DEFAULT,
) -> AsyncGenerator[Fetched, None]:
    """GET each URL, at most `limit` at once, and yield each as it finishes, or, `ordered`, in the order of the URLs.

    No URL's failure ends the iteration. Leaving it cancels what is under way; `contextlib.aclosing` makes that happen at once.
    Without a `client` one is made, and closed in the end.
    """
    if isinstance(urls, str | bytes):
        raise ConfigError("urls is one string: pass a list of URLs")
    if limit < 1:
        raise ConfigError(f"limit={limit!r} is not a number above 0")
    return _fetch_all(urls, limit, client, timeout, ordered=ordered)


async def _fetch_all(
    urls: Urls,
    limit: int,
    client: HTTPClient | None,
    timeout: float | Timeout | Default | None,
    *,
    ordered: bool,
) -> AsyncGenerator[Fetched, None]:
    loop = asyncio.get_running_loop()
    slots = asyncio.Semaphore(limit)
    # One slow URL holds up all that must come after it; those may be here, waiting, up to four times the limit.
    room = asyncio.Semaphore(4 * limit if ordered else limit)
    line: asyncio.Queue[Task[Fetched] | None] = asyncio.Queue()
    tasks: set[Task[Fetched]] = set()

    async def fetch(url: str, client: HTTPClient) -> Fetched:
        async with slots:
            began = loop.time()
            try:
                response = await client.get(url, timeout=timeout, raise_for_status=False)
            except Exception as error:
                return Fetched(url, error=safe(error), elapsed=loop.time() - began, cause=error)
            return Fetched(url, response.status_code, response.content, elapsed=loop.time() - began)

    async def feed(client: HTTPClient) -> None:
        try:
            async with aclosing(_each(urls)) as source:
                while await room.acquire():
                    task = loop.create_task(fetch(await anext(source), client))
                    tasks.add(task)
                    if ordered:
                        line.put_nowait(task)
                    else:
                        task.add_done_callback(line.put_nowait)
        except StopAsyncIteration:
            pass
        finally:
            if tasks:
                await asyncio.wait(tasks)
            line.put_nowait(None)

    opened = nullcontext(client) if client is not None else HTTPClient(max_connections=limit)
    async with opened as open_client:
        feeder = loop.create_task(feed(open_client))
        try:
            while (task := await line.get()) is not None:
                fetched = await task
                tasks.discard(task)
                room.release()
                yield fetched
            await feeder  # raises what the source of the URLs raised
        finally:
            await stop({feeder, *tasks})


async def _each(urls: Urls) -> AsyncGenerator[str, None]:
    if isinstance(urls, AsyncIterable):
        async for url in urls:
            yield url
    else:
        for url in urls:
            yield url
