"""Several calls at once, and what became of each: a part that fails takes nothing from the others.

Parts are tasks, so any awaitable is one: a call, a database query, another `gather`. Nothing outlives the call that started
it: what is late, has lost, or is left over when the caller is cancelled, is itself cancelled and waited for, and a response
that nobody will read is closed.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, ensure_future
from collections.abc import AsyncGenerator, Awaitable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from inspect import isawaitable
from math import inf
from typing import Any, Literal, TypeVar

from fairlead import caller
from fairlead.errors import ConfigError, DeadlineExceeded
from fairlead.parts import Gathered, Part, milliseconds
from fairlead.tasks import fault, never_run, safe, stop

T = TypeVar("T")
Parts = Mapping[str, Awaitable[Any] | None]
"""Name to awaitable; None where there is nothing to ask, so that the part is skipped."""


async def gather(
    parts: Parts,
    *,
    required: Iterable[str] = (),
    within: float | None = None,
    default: Mapping[str, Any] | None = None,
) -> Gathered:
    """All parts at once. After `within` seconds, or at the deadline of whoever asked, the pending ones are cancelled, and are a `timeout`.

    The first failure of a `required` part cancels the rest and is raised as it is, with a note naming the part; one that is
    late raises DeadlineExceeded. `default` fills the data of a part that has none; its status stays what it was.
    """
    fills = default or {}
    names = required if isinstance(required, str) else tuple(required)  # an iterator is read once
    _check(parts, names, fills, within)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with caller.within(within) as due:  # calls tell their upstreams of it
        tasks = {name: ensure_future(part) for name, part in parts.items() if part is not None}
    late_by = f"within {within:g} s" if within is not None and due >= began + within else "before the caller's deadline"
    vital: dict[Future[Any], str] = {tasks[name]: name for name in names}
    waited: set[Future[Any]] = set(tasks.values())
    ended: dict[Future[Any], float] = {}
    gate: Future[None] = loop.create_future()

    def settle(task: Future[Any]) -> None:
        ended[task] = loop.time()
        if len(ended) == len(waited) or (task in vital and fault(task) is not None):
            _open(gate)

    for task in waited:
        task.add_done_callback(settle)
    timer = None if due == inf else loop.call_at(due, _open, gate)
    try:
        if waited:
            await gate
        opened = loop.time()
        late = {task for task in waited if not task.done()}
        for task in (*ended, *waited):
            if task not in vital:
                continue
            if task in late:
                raise DeadlineExceeded(f"required part {vital[task]!r} gave no answer {late_by}")
            if (error := fault(task)) is not None:
                error.add_note(f"required part {vital[task]!r}")
                raise error
        if late:
            await stop(late)
    except BaseException:
        await stop(waited)
        raise
    finally:
        if timer is not None:
            timer.cancel()

    def outcome(name: str) -> Part:
        if name not in tasks:
            part = Part("skipped")
        elif tasks[name] in late:
            part = Part("timeout", milliseconds(opened - began), f"no answer {late_by}")
        else:
            part = Part.ended(tasks[name], ended.get(tasks[name], opened) - began)
        if part.status != "ok" and name in fills:
            part = replace(part, value=fills[name], used="default")
        return part

    services = {name: outcome(name) for name in parts}
    return Gathered({name: part.value for name, part in services.items()}, services)


async def race(awaitables: Iterable[Awaitable[T]], until: Literal["success", "done"] = "success") -> T:
    """The value of the first that succeeds (or, `until="done"`, of the first that ends); the others are cancelled.

    Where none succeeds, the last error is raised, with a note that tells the others.
    """
    runners = list(awaitables)
    _check(dict(enumerate(runners)), what="awaitables")
    if not runners:
        raise ConfigError("a race needs at least one awaitable")
    if until not in {"success", "done"}:
        never_run(runners)
        raise ConfigError(f"until={until!r} is not known: use 'success' or 'done'")
    loop = asyncio.get_running_loop()
    tasks = {ensure_future(runner) for runner in runners}
    failed: list[BaseException] = []
    gate: Future[Future[T]] = loop.create_future()

    def settle(task: Future[T]) -> None:
        if gate.done():
            return
        if (error := fault(task)) is not None:
            failed.append(error)
        if until == "done" or error is None or len(failed) == len(tasks):
            gate.set_result(task)

    for task in tasks:
        task.add_done_callback(settle)
    try:
        winner = await gate
        if fault(winner) is not None:
            *others, error = failed
            if others:
                error.add_note(f"the others of the race: {'; '.join(map(safe, others))}")
            raise error
        await stop(tasks - {winner})
    except BaseException:
        await stop(tasks)
        raise
    return winner.result()


def as_completed(parts: Parts) -> AsyncGenerator[tuple[str, Part], None]:
    """Each part as it finishes, the skipped ones first: `async for name, part in as_completed(parts)`.

    They start together when the iteration does; leaving the loop cancels those that are left.
    """
    _check(parts)
    return _as_completed(parts)


async def _as_completed(parts: Parts) -> AsyncGenerator[tuple[str, Part], None]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    line: asyncio.Queue[tuple[str, float]] = asyncio.Queue()

    def settle(name: str, _: Future[Any]) -> None:
        line.put_nowait((name, loop.time()))

    tasks = {name: ensure_future(part) for name, part in parts.items() if part is not None}
    for name, task in tasks.items():
        task.add_done_callback(partial(settle, name))
    try:
        for name, part in parts.items():
            if part is None:
                yield name, Part("skipped")
        while tasks:
            name, ended = await line.get()
            yield name, Part.ended(tasks.pop(name), ended - began)
    finally:
        await stop(tasks.values())


def _open(gate: Future[None]) -> None:
    if not gate.done():
        gate.set_result(None)


def _check(
    parts: Any,
    required: Collection[str] = (),
    default: Mapping[str, Any] | None = None,
    within: float | None = None,
    *,
    what: str = "parts",
) -> None:
    """Raise ConfigError for what cannot work, before anything is started."""
    try:
        if not isinstance(parts, Mapping):
            raise ConfigError(f"parts is {type(parts).__name__}: pass a mapping of a name to an awaitable")
        for name, part in parts.items():
            if not isawaitable(part) and (part is not None or what != "parts"):
                raise ConfigError(f"{what}[{name!r}] is {type(part).__name__}: pass what can be awaited")
        if isinstance(required, str):
            raise ConfigError(f"required={required!r} is a string: pass a set of names")
        for place, names in (("required", required), ("default", default or ())):
            for name in names:
                if name not in parts:
                    raise ConfigError(f"{place}: {name!r} is no part; the parts are {', '.join(map(repr, parts))}")
        for name in required:
            if parts[name] is None:
                raise ConfigError(f"parts[{name!r}] is None, and required: leave it out of required=")
            if name in (default or ()):
                raise ConfigError(f"{name!r} is required and has a default: choose one")
        if within is not None and not 0 < within < inf:
            raise ConfigError(f"within={within!r} is not a number of seconds above 0; None sets no bound")
    except ConfigError:
        never_run(parts.values() if isinstance(parts, Mapping) else parts)
        raise
