"""Try again what is safe to try again: decided by what is known of the request, never by the name of an exception.

Not sent: any method may try again. Answered or unknown: only a request that means the same twice (RFC 9110 section 9.2.2), or
carries an idempotency key. The pause is fully jittered, so that callers who failed together do not return together; it never
outlasts the deadline, and what lost is closed before it. Nothing is held while pausing: limits and circuits stand inside. How many
may try again at once is the budget's to say: without one, retries make of an upstream that is slow one that is down.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final

from fairlead.core import Call, Send, Timeout, Upstream
from fairlead.errors import (
    AttemptTimedOut,
    ConfigError,
    FairleadError,
    Knowledge,
    ProtocolError,
    StatusError,
    TransportError,
)
from fairlead.events import GaveUp, Retried
from fairlead.message import Request, Response
from fairlead.policies.budget import Budget, is_number
from fairlead.policies.jitter import chance

if TYPE_CHECKING:
    from fairlead.policies.worst import Worst

Outcome = Response | FairleadError

STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Up to `retries` more attempts, after a random pause of at most `min(max_delay, delay * backoff**n)` seconds.

    `throttled_delay` stands for `delay` after a 429, or a 503 that says when to come again. `Retry-After` is added to the pause. Asked
    to wait longer than the deadline leaves, or than `max_retry_after` seconds, or with the `budget` spent, the answer is handed out, or
    the error raised, at once; the event GaveUp says why. `budget=None` bounds nothing but each call's own attempts.

    `when(request, outcome)` is asked about each answer and each error of ours: True tries again, False does not, None leaves it to the
    rule. True for a POST may do twice what it does.
    """

    retries: int = 2
    delay: float = 0.05
    throttled_delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 20.0
    max_retry_after: float = 120.0
    statuses: frozenset[int] = STATUSES
    budget: Budget | None = field(default_factory=Budget)
    when: Callable[[Request, Outcome], bool | None] | None = None
    name: str = "default"
    random: Callable[[], float] = field(default=chance, repr=False, compare=False)
    """Uniform in [0, 1)."""
    place: ClassVar[str] = "Retry"

    def __post_init__(self) -> None:
        if type(self.retries) is not int or self.retries < 0:
            raise ConfigError(f"Retry: retries={self.retries!r} is not a whole number from 0 on")
        least = {"delay": 0, "throttled_delay": 0, "backoff": 1, "max_delay": 0, "max_retry_after": 0}
        for name, from_ in least.items():
            if not is_number(number := getattr(self, name)) or not from_ <= number < inf:
                raise ConfigError(f"Retry: {name}={number!r} is not a number from {from_} on")
        if not isinstance(self.budget, Budget | None):
            raise ConfigError(f"Retry: budget={self.budget!r} is no budget: pass Budget(...), or None for no bound")
        check_statuses(self)
        when: Any = self.when
        if when is not None and (iscoroutinefunction(when) or not callable(when)):
            raise ConfigError(f"Retry: when={when!r} cannot be asked: pass a plain function of request and outcome")

    def explain(self) -> str:
        if not self.retries:
            return "retry: never"
        attempts = "1 more attempt" if self.retries == 1 else f"{self.retries} more attempts"
        shown = range(1, min(self.retries, 4) + 1)
        pauses, throttled = (
            ", ".join(f"{self.cap(attempt, throttled=slow):g}" for attempt in shown) for slow in (False, True)
        )
        more = ", ..." if self.retries > 4 else ""
        return (
            f"retry: up to {attempts} where that is safe{' or `when` says so' if self.when else ''}, after a random pause of at most"
            f" {pauses}{more} s, throttled {throttled}{more} s, {self.budget.explain() if self.budget else 'without a budget'};"
            f" Retry-After is kept up to {self.max_retry_after:g} s, the deadline never passed"
        )

    def worst(self, attempt: Worst, timeout: Timeout) -> Worst:
        pauses = [
            self.max_retry_after + max(self.cap(number), self.cap(number, throttled=True))
            for number in range(1, self.retries + 1)
        ]
        return attempt.times(self.retries + 1, sum(pauses))

    def cap(self, attempt: int, *, throttled: bool = False) -> float:
        """The longest pause after attempt number `attempt`."""
        try:
            return min(
                self.max_delay, (self.throttled_delay if throttled else self.delay) * self.backoff ** (attempt - 1)
            )
        except OverflowError:
            return self.max_delay

    def again(self, request: Request | None, outcome: Outcome) -> bool:
        """Whether another attempt is safe, and may help: the rule, and before it `when`. A request that nobody knows is not safe."""
        if isinstance(outcome, ConfigError) or (request is not None and not request.replayable):
            return False
        if self.when is not None and request is not None and (said := self.when(request, outcome)) is not None:
            return said
        safe = request is not None and request.idempotent
        if isinstance(outcome, Response):
            return safe and outcome.status_code in self.statuses
        if isinstance(outcome, ProtocolError) and outcome.too_large:
            return False  # it would be again
        return isinstance(outcome, TransportError | AttemptTimedOut) and (
            safe or outcome.knowledge is Knowledge.NOT_SENT
        )

    def pause(self, attempt: int, left: float, *, asked: float = 0.0, throttled: bool = False) -> float | str:
        """Seconds between attempt number `attempt` and the next, or why there is none, with `left` seconds until the deadline."""
        if attempt > self.retries:
            return f"{attempt} attempts were made"
        if asked and asked >= left:
            return f"asked to wait {_told(asked)} s, and {_told(left)} s are left"
        if asked > self.max_retry_after:
            return f"asked to wait {_told(asked)} s, and {self.max_retry_after:g} s is the longest that is waited"
        pause = asked + self.cap(attempt, throttled=throttled) * self.random()
        if pause >= left:
            return f"the pause would be {_told(pause)} s, and {_told(left)} s are left"
        return pause

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        if not self.retries:
            return send
        retrying = Retrying(self, upstream)
        after = retrying.after
        count = retrying.spending.call if retrying.spending is not None else None
        statuses, rule = self.statuses, self.when is None

        async def retry(call: Call) -> Response:
            request = call.request
            if count is not None:
                count(call.clock())
            if type(request.content) is not bytes and not request.replayable:
                return await send(call)
            idempotent = request.idempotent
            attempt, sent = 1, False
            while True:
                fork = call.fork(attempt)
                if idempotent:
                    fork.allowance = call.timeout.among
                try:
                    response = await send(fork)
                except FairleadError as error:
                    if (pause := after(attempt, request, error, call)) is None:
                        if sent:
                            error.knowledge = Knowledge.UNKNOWN  # one before this attempt was sent
                        raise
                    sent = sent or error.knowledge is not Knowledge.NOT_SENT
                else:
                    sent = True
                    if rule and response.status_code not in statuses:
                        return response
                    try:
                        pause = after(attempt, request, response, call)
                    except BaseException:  # of `when`
                        response.close()
                        raise
                    if pause is None:
                        return response
                    response.close()
                    del response
                await upstream.pause(pause)
                attempt += 1
                call.attempt = attempt

        return retry


def check_statuses(recipe: Any) -> None:
    statuses = recipe.statuses
    if not isinstance(statuses, frozenset | set | tuple | list) or not all(
        isinstance(status, int) for status in statuses
    ):
        raise ConfigError(f"{type(recipe).__name__}: statuses={statuses!r} is no set of statuses, such as {{429, 503}}")


class Retrying:
    """A recipe at work on an upstream: what follows an attempt, told to its sinks."""

    __slots__ = ("recipe", "spending", "upstream")

    def __init__(self, recipe: Retry, upstream: Upstream) -> None:
        self.recipe = recipe
        self.upstream = upstream
        self.spending = recipe.budget.of(upstream) if recipe.budget is not None else None

    def after(self, attempt: int, request: Request | None, outcome: Outcome, call: Call | None) -> float | None:
        """Seconds to pause before the next attempt; None if none is to follow. What might have been followed by one, is told why."""
        if isinstance(outcome, StatusError) and outcome.request is request:
            answer: Outcome = outcome.response
        else:
            answer = outcome
        recipe = self.recipe
        if not recipe.again(request, answer):
            return None
        now = call.clock() if call is not None else get_running_loop().time()
        left = max(0.0, call.deadline - now) if call is not None else inf
        asked: float | None = getattr(answer, "retry_after", None)
        status = answer.status_code if isinstance(answer, Response) else 0
        throttled = status == 429 or (status == 503 and asked is not None)
        verdict = recipe.pause(attempt, left, asked=asked or 0.0, throttled=throttled)
        if not isinstance(verdict, str) and self.spending is not None and not self.spending.charge(now):
            verdict = f"the budget is spent, {self.spending.recipe}"
        if isinstance(verdict, str):
            if isinstance(outcome, FairleadError):
                outcome.add_note(f"not tried again: {verdict}")
            if request is not None:
                self.upstream.emit(GaveUp(self.upstream.name, call or request, request, attempt, verdict, answer))
            return None
        if request is not None:
            self.upstream.emit(Retried(self.upstream.name, call or request, request, attempt, verdict, answer))
        return verdict


def _told(seconds: float) -> str:
    return f"{round(seconds, 2):.10g}"
