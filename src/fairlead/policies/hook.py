"""Retries of a class's own making: a client that overrides `_retry_with_backoff` sends each call through it.

Many a team has such a method around each of its requests. It stands where Retry stands, and is told of a bad answer as it always was:
by an error. What it makes of that is its own: nothing here says what is safe to send twice, but for a body that cannot be. Its
pauses are its own too, so here, and nowhere else, a timer ends what outlasts the deadline: while an attempt runs, that is its engine's.
"""

from __future__ import annotations

from asyncio import get_running_loop, timeout_at
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar
from weakref import ref

from fairlead.core import Call, Pipeline, Send, Timeout, Upstream
from fairlead.errors import ConfigError, DeadlineExceeded, FairleadError, Knowledge, StatusError
from fairlead.message import Request, Response
from fairlead.policies.retry import Retry, Retrying

if TYPE_CHECKING:
    from fairlead.policies.worst import Worst

T = TypeVar("T")

LATE: Final = "the call is over: await func, and leave no task behind that does"

_under_way: Final[ContextVar[tuple[Upstream, Call] | None]] = ContextVar("_under_way", default=None)
"""The call that runs through a hook: `super()._retry_with_backoff(...)` is given a function, and keeps this call's deadline."""


class Hook:
    """In the place of the client's own Retry, whose numbers remain those of `super()._retry_with_backoff(...)`."""

    place: ClassVar[str] = "Retry"
    name = "default"

    def __init__(self, client: Any, pipeline: Pipeline) -> None:
        self.client = ref(client)  # it holds its pipeline: two that hold each other would be dropped late
        self.owner = f"{type(client).__name__}._retry_with_backoff"
        self.retry = recipe(pipeline)

    def explain(self) -> str:
        return f"retry: as {self.owner} does; super() has {self.retry.explain()}"

    def worst(self, attempt: Worst, timeout: Timeout) -> Worst:
        """If it keeps to the client's numbers: what else it does, it alone knows."""
        return self.retry.worst(attempt, timeout)

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        spending = Retrying(self.retry, upstream).spending

        async def hooked(call: Call) -> Response:
            if spending is not None:
                spending.call(call.clock())
            client: Any = self.client()
            attempts = _Attempts(send, upstream, call)
            around = _under_way.get()
            _under_way.set((upstream, call))
            answer: object = None
            try:
                async with attempts.deadline:
                    # Looked up in each call, so that an instance can be patched.
                    answer = await client._retry_with_backoff(attempts.send_once, call.request)
            except StatusError as error:
                if error.response not in attempts.answers:  # of some other call, which the hook made on its way
                    raise
                answer = error.response
            except TimeoutError:
                if not attempts.deadline.expired():
                    raise
                told = f"the deadline passed in {self.owner}"
                raise DeadlineExceeded(told, request=call.request, upstream=upstream.name, phase="waiting") from None
            finally:
                _under_way.set(around)
                attempts.end(answer)
            if not isinstance(answer, Response):
                raise ConfigError(f"{self.owner} returned {type(answer).__name__}: return what func returned")
            return answer

        return hooked


class _Attempts:
    """The attempts of one call: what was answered, and is to be closed unless it is handed out."""

    __slots__ = (
        "_call",
        "_fault",
        "_number",
        "_over",
        "_send",
        "_sending",
        "_sent",
        "_upstream",
        "answers",
        "deadline",
    )

    def __init__(self, send: Send, upstream: Upstream, call: Call) -> None:
        self._send = send
        self._upstream = upstream
        self._call = call
        self._number = self._sending = 0
        self._fault: FairleadError | None = None
        self._over = self._sent = False
        self.answers: list[Response] = []
        self.deadline = timeout_at(call.deadline if call.deadline < inf else None)

    async def send_once(self, request: Request) -> Response:
        """One attempt. 4xx and 5xx are raised as StatusError, and come out of the call as the answers they are."""
        call = self._call
        if self._over:
            raise ConfigError(LATE)
        if self._fault is not None and not request.replayable:
            raise self._fault
        if request.origin != call.request.origin:
            raise ConfigError(f"{request.origin} is not {call.request.origin}: send the request that func was given")
        for answer in self.answers:
            answer.close()
        self._number = call.attempt = self._number + 1
        fork = call.fork(self._number)
        fork.request = request
        if request.idempotent:
            fork.allowance = call.timeout.among
        self._sending += 1
        self._rule(None)
        try:
            response = await self._send(fork)
            self._sent = True
            if self._over:
                response.close()
                raise ConfigError(LATE)
            response.upstream = self._upstream.name
            self.answers.append(response)
            return response.raise_for_status()
        except FairleadError as error:
            if self._sent:
                error.knowledge = Knowledge.UNKNOWN  # one before this attempt was sent
            self._sent = error.knowledge is not Knowledge.NOT_SENT
            self._fault = error
            raise
        finally:
            self._sending -= 1
            if not self._sending and call.deadline < inf:
                self._rule(call.deadline)

    def _rule(self, deadline: float | None) -> None:
        """Let the timer end what is done from that time on, or nothing, where an engine keeps the time."""
        if not self._over and not self.deadline.expired():
            self.deadline.reschedule(deadline)

    def end(self, answer: object) -> None:
        self._over = True
        self._fault = None  # its traceback leads here
        for response in self.answers:
            if response is not answer:
                response.close()


def recipe(pipeline: Pipeline) -> Retry:
    """A pipeline's retry numbers: those of a hook are of the Retry that it replaced, and without either there is one attempt."""
    for policy in pipeline.policies:
        if isinstance(policy, Hook):
            return policy.retry
        if isinstance(policy, Retry):
            return policy
    return Retry(retries=0)


async def retried(
    pipeline: Pipeline, upstream: Upstream, func: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any
) -> T:
    """What comes of `func(*args, **kwargs)`, tried again as the pipeline's Retry would: by the request of its answer or its error."""
    retry = recipe(pipeline)
    if not retry.retries:
        return await func(*args, **kwargs)
    retrying = Retrying(retry, upstream)
    under_way = _under_way.get()
    call = under_way[1] if under_way is not None and under_way[0] is upstream else None
    own = call.request if call is not None else None
    if call is None and retrying.spending is not None:
        retrying.spending.call(get_running_loop().time())
    attempt = 1
    while True:
        try:
            outcome = await func(*args, **kwargs)
        except FairleadError as error:
            if (pause := retrying.after(attempt, error.request or own, error, call)) is None:
                raise
            if isinstance(error, StatusError):
                error.response.close()
        else:
            if not isinstance(outcome, Response):
                return outcome
            try:
                pause = retrying.after(attempt, outcome.request or own, outcome, call)
            except BaseException:  # of `when`
                outcome.close()
                raise
            if pause is None:
                return outcome
            outcome.close()
            del outcome
        await upstream.pause(pause)
        attempt += 1
