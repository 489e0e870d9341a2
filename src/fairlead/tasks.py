"""Tasks that do not outlive whoever started them: cancelled, waited for, and the responses they leave closed."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Iterable
from inspect import iscoroutine
from typing import Any

from fairlead.errors import CircuitOpen, ConnectFailed, FairleadError
from fairlead.message import Response


async def stop(tasks: Iterable[Future[Any]]) -> None:
    """Cancel what is under way, wait for its end, and close the responses that nobody will read."""
    pending = set()
    for task in tasks:
        if task.done():
            discard(task)
        else:
            task.add_done_callback(discard)
            task.cancel()
            pending.add(task)
    if pending:
        await asyncio.wait(pending)


def discard(task: Future[Any]) -> None:
    """Close the response of a task that lost: it may have finished before its cancellation reached it."""
    if fault(task) is None and isinstance(response := task.result(), Response):
        response.close()


def fault(task: Future[Any]) -> BaseException | None:
    """What a finished task failed with. One that somebody else cancelled must not look as if its caller had been."""
    return FairleadError("the awaitable was cancelled") if task.cancelled() else task.exception()


def never_run(awaitables: Iterable[Any]) -> None:
    """Close coroutines that will not be started, which would warn."""
    for awaitable in awaitables:
        if iscoroutine(awaitable):
            awaitable.close()


def safe(error: BaseException) -> str:
    """The error as anyone may read it: our own message, but for an address, which is nobody else's business; of any other, its class."""
    if not isinstance(error, FairleadError):
        return type(error).__name__
    message = error.message
    return error.default if isinstance(error, CircuitOpen | ConnectFailed) or "://" in message else message
