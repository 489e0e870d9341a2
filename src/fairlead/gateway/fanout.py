"""One aggregate under way: a task for each part, begun when the last part it waits for has ended.

Nothing outlives it: when the time is up, a required part has failed or the caller has gone, what is still under way is
cancelled and waited for. A cancellation is no verdict, so an aggregate in a hurry opens no circuit.
"""

from __future__ import annotations

import logging
from asyncio import Future, Task, get_running_loop
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import Any, Final

from fairlead.client import HTTPClient
from fairlead.errors import DeadlineExceeded, DecodeError, FairleadError, StatusError, TimedOut
from fairlead.gateway.exact import checked, decoded
from fairlead.gateway.plan import Part, Plan, Step
from fairlead.gateway.reference import Absent, Unfit
from fairlead.gateway.target import joined
from fairlead.parts import Status, milliseconds
from fairlead.tasks import safe, stop

_log: Final = logging.getLogger("fairlead")


@dataclass(slots=True)
class Outcome:
    """What became of one part. `content` is its JSON; `unwanted` if its own `when` left it out."""

    status: Status
    ms: float = 0.0
    content: bytes | None = None
    error: str | None = None
    cause: Exception | None = None
    unwanted: bool = False


class Aggregate:
    """A plan with the clients it calls: what is the same for every request to it."""

    def __init__(self, plan: Plan, clients: Mapping[str, HTTPClient]) -> None:
        self.plan = plan
        self.clients = [clients[step.part.service] for step in plan.steps]
        self.waits = [len(step.needs) for step in plan.steps]
        self.first = [at for at, step in enumerate(plan.steps) if not step.needs]
        self.fallbacks = [None if step.part.fallback is None else decoded(step.part.fallback) for step in plan.steps]


class Fanout:
    """One request to an aggregate. `run` ends when every part has an outcome, or `failed` is the required part that has none."""

    __slots__ = (
        "_aggregate", "_began", "_gate", "_left", "_loop", "_steps", "_tasks", "_values", "_waits", "failed", "outcomes",
    )  # fmt: skip

    def __init__(self, aggregate: Aggregate, values: dict[str, Any]) -> None:
        self._aggregate = aggregate
        self._steps: Sequence[Step] = aggregate.plan.steps
        self._values = values
        self._waits = aggregate.waits.copy()
        self._left = len(self._steps)
        self._began = [0.0] * self._left
        self._tasks: list[Task[None]] = []
        self._loop = get_running_loop()
        self._gate: Future[None] = self._loop.create_future()
        self.outcomes: list[Outcome | None] = [None] * self._left
        self.failed: int | None = None

    async def run(self) -> None:
        within = self._aggregate.plan.within
        timer = self._loop.call_later(within, self._expire, within) if within is not None else None
        try:
            for at in self._aggregate.first:
                self._begin(at)
            await self._gate
        finally:
            if timer is not None:
                timer.cancel()
            if self._left:
                await stop(self._tasks)

    def settled(self) -> list[Outcome]:
        """The outcomes, once every part has one."""
        return [outcome for outcome in self.outcomes if outcome is not None]

    def _open(self) -> None:
        if not self._gate.done():
            self._gate.set_result(None)

    def _begin(self, at: int) -> None:
        if self._gate.done():
            return
        step, values = self._steps[at], self._values
        part = step.part
        for name in step.needs:
            if name not in values:
                self._end(at, self._without(name))
                return
        try:
            if part.when is not None and not part.when(values):
                self._end(at, Outcome("skipped", unwanted=True))
                return
            target = part.target.fill(values)
            headers = _headers(part, values) if part.headers else None
        except Absent as error:
            self._end(at, Outcome("skipped", error=str(error), cause=error))
        except Unfit as error:
            self._end(at, Outcome("error", error=str(error), cause=error))
        else:
            self._began[at] = perf_counter()
            self._tasks.append(self._loop.create_task(self._call(at, target, headers)))

    def _without(self, name: str) -> Outcome:
        """What becomes of a part that refers to one without a value."""
        before = next(
            outcome for step, outcome in zip(self._steps, self.outcomes, strict=True) if step.part.name == name
        )
        assert before is not None
        return Outcome(
            "skipped", error=f"needs {name}, which has no value", cause=before.cause, unwanted=before.unwanted
        )

    async def _call(self, at: int, target: str, headers: Mapping[str, str] | None) -> None:
        self._end(at, await self._outcome(at, target, headers))

    async def _outcome(self, at: int, target: str, headers: Mapping[str, str] | None) -> Outcome:
        client, step = self._aggregate.clients[at], self._steps[at]
        try:
            request = client.build_request("GET", target, headers=headers)
            # A part's hurry is its caller's, and no verdict on the upstream.
            within = step.part.within
            response = await client.send(request, deadline=inf if within is None else self._loop.time() + within)
            if not 200 <= response.status_code < 300:
                raise StatusError(response)
            try:
                content = checked(response)
                if step.is_read:
                    self._values[step.part.name] = decoded(content)
            except ValueError as error:
                raise DecodeError(str(error), response=response) from None
            return Outcome("ok", self._ms(at), content)
        except FairleadError as error:
            status: Status = "timeout" if isinstance(error, TimedOut) else "error"
            return Outcome(status, self._ms(at), error=safe(error), cause=error)
        except Exception as error:  # a fault of ours takes one part, not the answer
            _log.exception("%s: the call failed unexpectedly", client.name)
            return Outcome("error", self._ms(at), error=type(error).__name__, cause=error)

    def _ms(self, at: int) -> float:
        return milliseconds(perf_counter() - self._began[at])

    def _end(self, at: int, outcome: Outcome) -> None:
        if self.outcomes[at] is not None:  # its time was up before
            return
        step = self._steps[at]
        self.outcomes[at] = outcome
        self._left -= 1
        if outcome.status != "ok":
            if step.part.required and not outcome.unwanted:
                self._fail(at)
            elif step.is_read and step.part.fallback is not None:
                self._values[step.part.name] = self._aggregate.fallbacks[at]
        if not self._left:
            self._open()
        for then in step.then:
            self._waits[then] -= 1
            if not self._waits[then]:
                self._begin(then)

    def _fail(self, at: int) -> None:
        if self.failed is None and not self._gate.done():
            self.failed = at
            self._open()

    def _expire(self, within: float) -> None:
        for at, outcome in enumerate(self.outcomes):
            if outcome is None:
                name = self._aggregate.clients[at].name
                error = DeadlineExceeded(f"no answer within {within:g} s", upstream=name, phase="waiting")
                ms = self._ms(at) if self._began[at] else 0.0
                self.outcomes[at] = Outcome("timeout", ms, error=error.message, cause=error)
                if self._steps[at].part.required:
                    self._fail(at)
        self._open()


def _headers(part: Part, values: Mapping[str, Any]) -> dict[str, str]:
    """What the part sends along. A header whose reference is null is left out: not every caller has one."""
    found = {}
    for name, value in part.headers:
        try:
            found[name] = joined(value, values)
        except Absent:
            continue
    return found
