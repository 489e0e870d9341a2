"""The pool that a loop has where nobody makes one."""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from fairlead.offload.pool import Offload

P = ParamSpec("P")
R = TypeVar("R")

_pools: Final[WeakKeyDictionary[AbstractEventLoop, Offload]] = WeakKeyDictionary()


async def offload(work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """What `work(*args, **kwargs)` returns, run in one of the threads that each loop has for this: an `Offload()` of its own.

    `with within(2.0):` around it bounds it, where the deadline of whoever asked is not enough.
    """
    loop = get_running_loop()
    pool = _pools.get(loop)
    if pool is None:
        pool = _pools[loop] = Offload()
    return await pool(work, *args, **kwargs)


async def close() -> None:
    """End the threads of `offload` on this loop, as a `lifespan` does. The next call has others."""
    if (pool := _pools.pop(get_running_loop(), None)) is not None:
        await pool.close()
