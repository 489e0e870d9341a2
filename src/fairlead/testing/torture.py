"""The same story again and again, ended early at another place each time: whatever then is left behind, is left behind by us.

Two ways to choose the places. `at_every_step` cancels between any two callbacks of the loop, on virtual time or on a real loop
of asyncio's. `at_every_await` needs nothing of the loop, so it works on uvloop too: each place where the work waits, in whatever
task of its own, fails once and is cancelled in three ways.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import ContextVar, copy_context
from enum import StrEnum
from itertools import count
from typing import Any, Final, Protocol

from fairlead.errors import FairleadError
from fairlead.testing.virtual import VirtualLoop

Loops = Callable[[], asyncio.AbstractEventLoop]


class Cut(Protocol):
    """What a story is given: `await cut(work)` runs some work, and ends it early. How it ended is no concern of the story's."""

    async def __call__(self, work: Coroutine[Any, Any, Any], /) -> None: ...


Story = Callable[[Cut], Coroutine[Any, Any, None]]


# Between any two callbacks of the loop


class _OneByOne(deque[Any]):
    """The loop's ready callbacks, one in each turn, so that a cancellation can fall between any two."""

    def __len__(self) -> int:
        return min(1, super().__len__())


class _Stepwise(asyncio.SelectorEventLoop):
    """Counts its turns, of one callback each, and cancels a task between two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.victim: tuple[asyncio.Task[Any], int] | None = None
        self._ready: deque[Any] = _OneByOne()

    def _run_once(self) -> None:
        self.steps += 1
        if self.victim is not None and self.steps > self.victim[1]:
            self.victim[0].cancel()
            self.victim = None
        super()._run_once()  # type: ignore[misc]  # asyncio's own, and no stub knows it


class _StepwiseVirtual(_Stepwise, VirtualLoop):
    """The same on virtual time."""


class _AtStep:
    def __init__(self, step: int) -> None:
        self.step = step
        self.reached = False

    async def __call__(self, work: Coroutine[Any, Any, Any], /) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _Stepwise)
        task = loop.create_task(work)
        loop.victim = task, loop.steps + self.step
        try:
            await task
        except asyncio.CancelledError:
            self.reached = True
        finally:
            self.reached = self.reached or loop.victim is None
            loop.victim = None


def at_every_step(story: Story, *, real: bool = False) -> int:
    """Cancel what the story gives to `cut` one step of the loop later each time; returns how many cuts there were.

    A step is one callback of the loop, so a cancellation falls between any two. What must hold afterwards, the story asserts.
    With `real=True` time and sockets are real: how many steps there are may then differ from one telling to the next.
    """
    for step in count():
        cut = _AtStep(step)
        with asyncio.Runner(loop_factory=_Stepwise if real else _StepwiseVirtual) as runner:
            runner.run(story(cut))
        if not cut.reached:
            return step
    raise AssertionError


# At each place where something waits


class Fault(StrEnum):
    """What happens at an await: what was awaited fails, or whoever awaits it is cancelled."""

    FAILS = "fails"
    """What was awaited ends at once, with an OSError."""
    CANCELLED = "is cancelled"
    """While it waits."""
    CANCELLED_LATE = "is cancelled as it goes on"
    """In the very turn in which what it waited for has come, and before it has seen it."""
    CANCELLED_TWICE = "is cancelled twice"
    """And again, at each later await in turn, while it unwinds."""
    FAILS_AND_CANCELLED = "fails, and is cancelled"
    """At each later await in turn, while what failed is dealt with."""


_TWOFOLD: Final = frozenset({Fault.CANCELLED_TWICE, Fault.FAILS_AND_CANCELLED})
_current: Final[ContextVar[_AtAwait | None]] = ContextVar("_current", default=None)


class _AtAwait:
    """One fault at one await, of the work or of a task that it makes."""

    def __init__(self, fault: Fault, place: int, gap: int) -> None:
        self.fault = fault
        self.place = place
        self.gap = gap
        """How many awaits later, in the same task, the second thing happens."""
        self.awaits = 0
        self.reached = self.finished = False
        self.victim: asyncio.Task[Any] | None = None
        self.cancelled: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        return f"await {self.place} {self.fault}" + (f", {self.gap} awaits after" if self.fault in _TWOFOLD else "")

    async def __call__(self, work: Coroutine[Any, Any, Any], /) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(_tear)
        context = copy_context()
        context.run(_current.set, self)
        task = loop.create_task(work, context=context)
        try:
            await task
        except (asyncio.CancelledError, FairleadError, OSError):
            if self.victim is None:
                raise
        finally:
            self.finished = True
        if self.cancelled is task:
            assert task.cancelled(), f"{self!r}: the cancellation was swallowed"

    def meet(self, awaited: asyncio.Future[Any] | None) -> bool:
        """Somebody is about to wait: what happens to it is set up; True if it is to fail."""
        task = asyncio.current_task()
        if task is None or self.finished:
            return False
        if self.victim is not None:
            if task is self.victim and not self.reached:
                self.gap -= 1
                if self.gap == 0:
                    self.reached = True
                    self._cancel(task)
            return False
        self.awaits += 1
        if self.awaits <= self.place:
            return False
        self.victim = task
        self.reached = self.fault not in _TWOFOLD
        if self.fault in {Fault.FAILS, Fault.FAILS_AND_CANCELLED}:
            if awaited is not None:
                awaited.cancel()  # as one that failed has let go of all it had
            return True
        self._cancel(task, awaited if self.fault is Fault.CANCELLED_LATE else None)
        return False

    def _cancel(self, task: asyncio.Task[Any], when: asyncio.Future[Any] | None = None) -> None:
        self.cancelled = task
        if when is None:
            task.get_loop().call_soon(task.cancel)
        else:
            when.add_done_callback(lambda _: task.cancel())  # before the task's own, which would go on


def _tear(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **options: Any
) -> asyncio.Task[Any]:
    """A task factory: what belongs to a cut, whichever task it runs in, is looked at wherever it waits."""
    context = options.get("context")
    cut = _current.get() if context is None else context.get(_current)
    made = work if cut is None or cut.finished else _Torn(work, cut)
    return asyncio.Task(made, loop=loop, **options)


class _Torn(Coroutine[Any, Any, Any]):
    """Some work, with a look at each thing that it waits for."""

    def __init__(self, work: Any, cut: _AtAwait) -> None:
        self._work: Coroutine[Any, Any, Any] = work
        self._cut = cut
        self._failing = False

    def send(self, value: Any, /) -> Any:
        return (
            self._go_on(self._work.throw, OSError("torture")) if self._failing else self._go_on(self._work.send, value)
        )

    def throw(self, error: Any, *_: Any) -> Any:
        return self._go_on(self._work.throw, OSError("torture") if self._failing else error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()

    def _go_on(self, step: Callable[[Any], Any], value: Any) -> Any:
        self._failing = False
        awaited = step(value)
        self._failing = self._cut.meet(awaited)
        return awaited


def at_every_await(story: Story, *, loop_factory: Loops | None = None, faults: Iterable[Fault] = tuple(Fault)) -> int:
    """Let each await of what the story gives to `cut` fail and be cancelled, one in each telling; returns how many cuts there were.

    Work that the story gave to `cut`, and that met nothing, must end well; a task that was cancelled must end so.
    """
    cuts = 0
    for fault in faults:
        for place in count():
            for gap in count(1):
                cut = _AtAwait(fault, place, gap)
                with asyncio.Runner(loop_factory=loop_factory) as runner:
                    try:
                        runner.run(story(cut))
                    except BaseException as error:
                        error.add_note(repr(cut))
                        raise
                cuts += cut.reached
                if fault not in _TWOFOLD or not cut.reached:
                    break
            if cut.victim is None:
                break
    return cuts
