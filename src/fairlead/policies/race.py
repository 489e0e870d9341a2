"""Several attempts of one call at once: the first good answer wins, and nothing is left of the others.

One attempt runs in its caller's own task, so an answer in time costs a timer and no task; only what is sent beside it has a task.
If that wins, the other is ended as `asyncio.timeout` ends things: the caller's task is cancelled, and that is taken back. All
that lost is cancelled, waited for and closed before the winner is handed out. Longer than most: what may come of a race is one idea.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, Future, Handle, Task, current_task, ensure_future
from typing import Any, Final, NamedTuple, TypeAlias, cast

from fairlead.core import Call, Send, Upstream
from fairlead.errors import AttemptTimedOut, DeadlineExceeded, FairleadError, ProtocolError, Refused, TransportError
from fairlead.events import GaveUp, Hedged, Retried
from fairlead.message import Response
from fairlead.policies.budget import Spending
from fairlead.tasks import discard, fault

LEAVING: Final = 1.0
"""Seconds that are waited for what was cancelled. What takes longer is closed when it ends."""

Outcome: TypeAlias = Response | BaseException


def verdict(outcome: Outcome, statuses: frozenset[int]) -> bool | None:
    """Whether it ends the call: False for a failure that another attempt may mend, None for what says nothing of the upstream."""
    if isinstance(outcome, Response):
        return outcome.status_code not in statuses
    if isinstance(outcome, TransportError | AttemptTimedOut):
        return isinstance(outcome, ProtocolError) and outcome.too_large  # it would be again
    # Our own refusal, time that is up, an attempt that a stranger cancelled.
    return None if isinstance(outcome, Refused | DeadlineExceeded) or type(outcome) is FairleadError else True


def telling(outcome: Outcome) -> int:
    """How much a failure tells: an answer most, then a fault on the way to it, then time that is up, and least a refusal of ours."""
    if isinstance(outcome, Response):
        return 3
    if isinstance(outcome, TransportError | AttemptTimedOut):
        return 2
    return 1 if isinstance(outcome, DeadlineExceeded) else 0


def close(outcome: Outcome | None) -> None:
    if isinstance(outcome, Response):
        outcome.close()


class Terms(NamedTuple):
    """What all races of a bound recipe have in common."""

    send: Send
    upstream: Upstream
    spending: Spending | None
    attempts: int
    statuses: frozenset[int]


class Race:
    """One call's attempts: one in its caller's task, the hedges in tasks of their own. Made where the first is about to be sent."""

    __slots__ = (
        "after", "asked", "best", "call", "cancelling", "final", "gate", "hedges", "inline", "over", "sent", "task", "terms",
        "timer",
    )  # fmt: skip

    def __init__(self, terms: Terms, call: Call, after: float) -> None:
        self.terms = terms
        self.call = call
        self.after = after
        """Seconds after which an attempt is late."""
        self.sent = 1
        self.task = task = cast("Task[Any]", current_task())
        self.cancelling = task.cancelling()
        self.inline = True
        """Whether an attempt runs in the caller's task."""
        self.hedges: dict[Future[Response], int] = {}
        """Those that run in tasks, and their numbers."""
        self.timer: Handle | None = None
        self.gate: Future[None] | None = None
        """What the caller waits for when hedges alone are left."""
        self.best: Outcome | None = None
        """Of what failed, what tells most."""
        self.final: Outcome | None = None
        """What a hedge ended the call with."""
        self.over = False
        """Whether whatever ends from now on has lost."""
        self.asked = 0.0
        """Seconds without calls that the upstream asked for: then no more are sent."""

    async def settle(self, outcome: Outcome) -> Outcome:
        """What the call ends with, `outcome` being the first attempt's. What lost has ended then. Raises the caller's cancellation."""
        found: Outcome | None = None
        try:
            try:
                found = await self.found(outcome)
            except BaseException:
                close(self.best)
                close(self.final)
                await self.leave()
                raise
            if self.hedges:
                await self.leave(found)
            return found
        finally:
            found = outcome = self.best = self.final = None  # type: ignore[assignment]  # as in `hedge`

    async def found(self, outcome: Outcome) -> Outcome:
        number, terms = 1, self.terms
        try:
            while True:
                if self.final is not None:
                    close(outcome)
                    if self.task.uncancel() > self.cancelling:  # a hedge was not the only one to cancel
                        raise outcome if isinstance(outcome, CancelledError) else CancelledError
                    return self.final
                good = verdict(outcome, terms.statuses)
                if isinstance(outcome, CancelledError):
                    raise outcome
                if good:
                    return outcome
                more = good is False and self.again(number, outcome, last=not self.hedges)
                self.failed(number, outcome, last=not (more or self.hedges))
                if not more:
                    return await self.others()
                number, self.inline = self.sent, True
                try:
                    outcome = await terms.send(self.fork())
                except (Exception, CancelledError) as error:
                    outcome = error
                self.inline = False
        finally:
            outcome = None  # type: ignore[assignment]

    async def others(self) -> Outcome:
        """What the call ends with when no attempt is left in the caller's task, nor will be."""
        if self.hedges:
            self.gate = self.task.get_loop().create_future()
            await self.gate
        assert self.best is not None or self.final is not None, "the last to fail is kept"
        return cast("Outcome", self.best if self.final is None else self.final)

    def end(self) -> None:
        """Cancel what is under way."""
        self.disarm()
        if not self.over:
            self.over = True
            for hedge in self.hedges:
                hedge.cancel()

    async def leave(self, winner: Outcome | None = None) -> None:
        """Wait for the end of what lost, also when the caller is cancelled meanwhile: then the winner has lost too."""
        self.end()
        clock, cancelled = self.call.clock, None
        until = clock() + LEAVING
        try:
            while self.hedges and (left := until - clock()) > 0:
                try:
                    await asyncio.wait(tuple(self.hedges), timeout=left)
                except CancelledError as error:
                    cancelled = error
            if cancelled is not None:
                raise cancelled
        except BaseException:
            close(winner)
            raise

    def fork(self) -> Call:
        fork = self.call.fork(self.sent)
        fork.allowance = self.call.timeout.among
        return fork

    def arm(self, now: float) -> None:
        """What has not ended when it is late, is not alone any more."""
        self.disarm()
        if self.sent < self.terms.attempts and (due := now + self.after) < self.call.deadline:
            self.timer = self.task.get_loop().call_at(due, self.late)

    def disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def late(self) -> None:
        # An answer that came while the loop was busy is first seen by its task.
        self.timer = self.task.get_loop().call_soon(self.hedge)

    def hedge(self) -> None:
        """Send one more beside those under way, if the budget allows it."""
        call, upstream = self.call, self.terms.upstream
        now = call.clock()
        if self.charge(now):
            self.launch()
            upstream.emit(Hedged(upstream.name, call, call.request, self.sent, self.after))
            self.arm(now)

    def charge(self, now: float) -> bool:
        """Whether the budget allows one more; then that is the next."""
        spending = self.terms.spending
        if spending is not None and not spending.charge(now):
            return False
        self.call.attempt = self.sent = self.sent + 1
        return True

    def again(self, number: int, cause: Outcome, *, last: bool) -> bool:
        """Whether another follows at once the one that failed; if so it is charged, and told. Where `last` is left, why not is told."""
        call, upstream = self.call, self.terms.upstream
        now = call.clock()
        if asked := getattr(cause, "retry_after", None):
            self.asked = asked
            self.disarm()
        if self.asked:
            reason = f"asked to wait {self.asked:.10g} s"
        elif self.sent >= self.terms.attempts:
            reason = f"{self.sent} attempts were made"
        elif now >= call.deadline:
            reason = "no time is left"
        elif not self.charge(now):
            reason = "the budget is spent"
        else:
            upstream.emit(Retried(upstream.name, call, call.request, number, 0.0, cause))
            self.arm(now)
            return True
        if last:
            upstream.emit(GaveUp(upstream.name, call, call.request, number, reason, cause))
        return False

    def launch(self) -> None:
        """Run one in a task."""
        hedge = ensure_future(self.terms.send(self.fork()))
        self.hedges[hedge] = self.sent
        hedge.add_done_callback(self.ended)

    def ended(self, hedge: Future[Response]) -> None:
        number = self.hedges.pop(hedge)
        if self.over:
            discard(hedge)
            return
        error = fault(hedge)
        outcome = hedge.result() if error is None else error
        good = verdict(outcome, self.terms.statuses)
        try:
            if good:
                self.final = outcome
                self.end()
            else:
                last = not (self.hedges or self.inline)
                more = good is False and self.again(number, outcome, last=last)
                self.failed(number, outcome, last=last and not more)
                if more:
                    self.launch()
        finally:  # whatever is wrong, the caller does not wait for ever
            if self.inline:
                if good:
                    self.task.cancel()
            elif self.gate is not None and not self.gate.done() and (good or not self.hedges):
                self.gate.set_result(None)

    def failed(self, number: int, outcome: Outcome, *, last: bool) -> None:
        """Keep what tells most. A body that is arriving holds a slot, which others may wait for: only the last to fail keeps it."""
        if isinstance(outcome, Response) and not outcome.is_closed and not last:
            outcome.close()
            return
        tells, most = telling(outcome), -1 if self.best is None else telling(self.best)
        if tells > most or (tells == most and (tells > 0 or number == 1)):
            self.best = outcome
