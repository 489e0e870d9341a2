"""A policy turns one way of sending into another. Everything else follows.

`Send` is what an engine is and what a policy returns. A policy is a frozen recipe whose `bind` runs once, when a client is
built; the closure it returns runs once per call. State lives in the `Upstream`, nowhere else. Longer than most: it is the
vocabulary that all else is written in.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from logging import getLogger
from math import inf
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from fairlead.errors import ConfigError, Knowledge, Refused
from fairlead.events import Event, Sink
from fairlead.message import Request, Response

S = TypeVar("S")
_blank: Final = object.__new__  # asked of a class, it costs twice as much
_logger: Final = getLogger("fairlead")

ATTEMPT: Final = 10.0
"""Seconds one attempt may take where another may follow it, unless said otherwise."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """How long a call may take, in seconds; None sets no bound.

    `total` bounds the whole call: waits, attempts, back-off and a streamed body. `attempt` bounds one attempt (of a stream: the
    wait for its head, anew when its own body is sent, and, without a `read`, each silence after it); left out, it is
    `min(10 s, total)` where a retry may follow, else `total`. `connect` bounds the connection (TCP and TLS together), `read` the
    silence between two reads, `write` a stalled send, `wait` each wait in line for a slot. A stream that begins within 10 s and
    may be silent for 5 min is `Timeout(total=None, attempt=10.0, read=300.0)`.
    """

    total: float | None = 30.0
    attempt: float | None = None
    connect: float | None = None
    read: float | None = None
    write: float | None = None
    wait: float | None = None
    alone: float = field(init=False, repr=False, compare=False)
    """Seconds an attempt has that no other can follow."""
    among: float = field(init=False, repr=False, compare=False)
    """Seconds an attempt has that a retry may follow."""

    @staticmethod
    def of(given: float | Timeout | None) -> Timeout:
        """What a `timeout=` means: a number bounds the whole call."""
        try:
            return _timeout(given)
        except TypeError:  # of what cannot be hashed, such as another library's
            raise ConfigError(f"timeout: {type(given).__name__} is not a number of seconds, nor a Timeout") from None

    def __post_init__(self) -> None:
        for name in ("total", "attempt", "connect", "read", "write", "wait"):
            seconds = getattr(self, name)
            if seconds is None:
                continue
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < inf:
                raise ConfigError(f"timeout: {name}={seconds!r} is not a number of seconds above 0; None sets no bound")
        total = self.total or inf
        object.__setattr__(self, "alone", min(self.attempt or inf, total))
        object.__setattr__(self, "among", min(self.attempt or ATTEMPT, total))


@lru_cache(maxsize=256, typed=True)  # True is no second
def _timeout(given: float | Timeout | None) -> Timeout:
    return given if isinstance(given, Timeout) else Timeout(total=given)


class Call:
    """One logical request under way. Each attempt has its own (a fork), so that attempts never overwrite each other."""

    __slots__ = ("allowance", "anonymous", "attempt", "clock", "deadline", "priority", "request", "stream", "timeout")

    def __init__(
        self,
        request: Request,
        timeout: Timeout,
        deadline: float = inf,
        stream: bool = False,
        clock: Callable[[], float] | None = None,
        priority: int = 0,
    ) -> None:
        self.request = request
        self.timeout = timeout
        self.deadline = deadline
        """Absolute loop time; `inf` for none. Whoever waits, waits no longer."""
        self.stream = stream
        self.priority = priority
        """Who waits in line is served before those of a lower one, and turned away after them. 0 for most."""
        self.anonymous = False
        """Whether it has left the origin that credentials are meant for: an Auth policy then adds nothing."""
        self.attempt = 1
        """Which attempt this is, or, of the call itself, how many there were."""
        self.clock = clock or (lambda: get_running_loop().time())
        """The loop's time. Asked of the call, as asking for the loop itself costs a system call (before Python 3.12)."""
        self.allowance = timeout.alone
        """Seconds an attempt has, if the deadline leaves as much."""

    def fork(self, attempt: int) -> Call:
        """A call of its own for one attempt."""
        fork: Call = _blank(Call)
        fork.request, fork.timeout, fork.deadline = self.request, self.timeout, self.deadline
        fork.stream, fork.clock, fork.priority = self.stream, self.clock, self.priority
        fork.attempt, fork.allowance, fork.anonymous = attempt, self.allowance, self.anonymous
        return fork

    def __repr__(self) -> str:
        return f"<Call {self.request.method} {self.request.place} attempt {self.attempt}>"


Send = Callable[[Call], Awaitable[Response]]


class Policy(Protocol):
    """A frozen recipe. With nothing to do, `bind` returns `send` itself, so that what is not used costs nothing."""

    def bind(self, send: Send, upstream: Upstream, /) -> Send: ...


class Engine(Protocol):
    """Moves bytes: the innermost `Send`, with the connections it keeps."""

    async def send(self, call: Call, /) -> Response: ...

    async def close(self) -> None:
        """Close every connection. May be called again."""
        ...


class Shared(Protocol):
    """What an upstream shares with its like in other processes, through a store. No call waits for a store that does not answer."""

    members: int
    """How many share, at the last count: at least 1."""

    async def reserve(
        self, key: str, /, *, interval: float, burst: int, patience: float, owed: int = 0
    ) -> float | None:
        """Seconds until the turn of a call, where each has `interval` seconds and up to `burst` come at once.

        More than `patience`: nothing is reserved, and that is when a turn would be free. None: the store does not answer.
        `owed` turns were given without a store meanwhile, and are still to be used: those of others come after them.
        """
        ...

    def explain(self) -> str:
        """Through what, in words, without credentials."""
        ...

    def start(self) -> None:
        """Begin, on the loop that is running now. May be called again."""
        ...

    def forked(self) -> None:
        """This is a child now, and the parent goes on with what was begun."""
        ...

    async def close(self) -> None:
        """End. May be called again."""
        ...


@runtime_checkable
class Store(Protocol):
    """Where processes share what they know of their upstreams: rate limits, circuits, budgets. `fairlead.sharing` has one in Redis."""

    def share(self, upstream: Upstream, /) -> Shared: ...


class Upstream:
    """The named service that calls go to: its live policy states and its sinks. State has this one home."""

    __slots__ = ("_closed", "_states", "name", "relative", "shared", "sinks", "waiting")

    def __init__(self, name: str, sinks: tuple[Sink, ...] = ()) -> None:
        self.name = name
        self.sinks = sinks
        self.shared: Shared | None = None
        """Where more than one process keeps to one limit."""
        self.relative: Callable[[str], str] = str
        """A target as one's caller gave it: without the path and the params that every call here has."""
        self._states: dict[tuple[type, str], tuple[Policy, Any]] = {}
        self._closed = False
        self.waiting: dict[Future[bool], Call | Refused | None] = {}
        """What is waited for outside the engine, and the call that could be turned away meanwhile, or what with. True once it came."""

    def state(self, recipe: Policy, make: Callable[[], S]) -> S:
        """The state of this recipe: one per kind and name, so that two pipelines over one upstream share it.

        Raises ConfigError for two different recipes of one kind under one name.
        """
        key = type(recipe), _called(recipe)
        known = self._states.get(key)
        if known is None:
            known = self._states[key] = recipe, make()
        elif known[0] != recipe:
            raise ConfigError(
                f"{self.name}: two different {key[0].__name__} recipes are called {key[1]!r}; give one of them another name="
            )
        state: S = known[1]
        return state

    @property
    def states(self) -> dict[tuple[str, str], Any]:
        """Kind and name to live state: what a dashboard reads."""
        return {(kind.__name__, name): state for (kind, name), (_, state) in self._states.items()}

    def listening(self) -> Callable[[], bool]:
        """Whether any sink would note a call that goes well, asked anew for each: most logs are below their level most of the time.

        A sink says so by a method `listens()`; one without it always does.
        """
        asked = [getattr(sink, "listens", _always) for sink in self.sinks]
        if _always in asked:
            return _always
        return asked[0] if len(asked) == 1 else lambda: any(listens() for listens in asked)

    def emit(self, event: Event) -> None:
        """Tell every sink. One that fails is logged, and breaks no call."""
        for sink in self.sinks:
            try:
                sink(event)
            except Exception:
                _logger.exception("%s: the sink %r failed", self.name, sink)

    async def pause(self, seconds: float) -> None:
        """Sleep between two attempts. Raises ConfigError as soon as the client is closed."""
        loop = get_running_loop()
        over = loop.create_future()
        timer = loop.call_later(seconds, _come, over)
        try:
            await self.wait(over, Knowledge.UNKNOWN)
        finally:
            timer.cancel()

    async def wait(self, future: Future[bool], knowledge: Knowledge, call: Call | None = None) -> bool:
        """What becomes of it. Raises ConfigError, with what is known of the request, if the client is closed before it came.

        With its `call`, which has not been sent, it may be turned away meanwhile: then the refusal is raised.
        """
        came = False
        self.waiting.setdefault(future, call)  # it may have been refused before it began to wait
        try:
            if not self._closed:
                came = await future
        finally:
            refused = self.waiting.pop(future, None)
        if isinstance(refused, Refused):
            try:
                raise refused
            finally:
                del refused  # its traceback leads here, and a circle would keep the call until it is looked for
        if self._closed and not came:
            raise ConfigError("the client was closed", upstream=self.name, phase="waiting", knowledge=knowledge)
        return came

    def turn_away(self, refusal: Callable[[Call], Refused | None]) -> None:
        """Refuse, among the calls that wait in line, those for which there is a refusal: what they wait for would not help them."""
        for future, call in tuple(self.waiting.items()):
            if isinstance(call, Call) and (refused := refusal(call)) is not None:
                self.refuse(future, refused)

    def refuse(self, future: Future[bool], refusal: Refused) -> None:
        """End a wait by a refusal. If its turn has come in this very turn of the loop, it goes back."""
        self.waiting[future] = refusal
        if not future.done():
            future.set_result(False)

    def forget(self) -> None:
        """Begin anew, for those who bind to it from now on."""
        self._states = {}
        self.waiting = {}

    def close(self) -> None:
        """End all waiting, and what would begin to wait from now on. May be called again."""
        self._closed = True
        for future in tuple(self.waiting):
            if not future.done() and not future.get_loop().is_closed():
                future.set_result(False)

    def __repr__(self) -> str:
        return f"<Upstream {self.name}>"


def _come(future: Future[bool]) -> None:
    if not future.done():
        future.set_result(True)


def _always() -> bool:
    return True


ORDER: Final = (
    "Observe", "Fallback", "Cache", "Coalesce", "Redirect", "Retry", "Hedge",
    "CircuitBreaker", "RateLimit", "ConcurrencyLimit", "DeadlineHeader", "Cookies", "Auth",
)  # fmt: skip
"""Our own policies, outermost first. `docs/design.md` says why each stands where it does."""
_COUNTED: Final = frozenset({"CircuitBreaker", "RateLimit", "ConcurrencyLimit"})
"""Of these, one that a call goes through twice waits for itself: a probe for its own end, a call for its own slot."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Policies, outermost first; one within another stands for its policies. An order that cannot work is a ConfigError."""

    policies: tuple[Policy, ...]

    def __post_init__(self) -> None:
        flat = [one.policies if isinstance(one, Pipeline) else (one,) for one in self.policies]
        object.__setattr__(self, "policies", tuple([policy for policies in flat for policy in policies]))
        for policy in self.policies:
            if isinstance(policy, type) or not hasattr(policy, "bind"):
                told = policy.__name__ if isinstance(policy, type) else type(policy).__name__
                raise ConfigError(
                    f"{told} is no policy: pass what has a method bind, such as Retry() or CircuitBreaker()"
                )
            if (place := getattr(policy, "place", None)) and place not in ORDER:
                raise ConfigError(
                    f"{_kind(policy)}: place={place!r} is none of {', '.join(ORDER)}; without one, it stands anywhere"
                )
        ranked = [(ORDER.index(place), policy) for policy in self.policies if (place := getattr(policy, "place", None))]
        for (rank, policy), (next_rank, inner) in pairwise(ranked):
            if rank > next_rank:
                raise ConfigError(
                    f"{_kind(policy)} cannot stand outside {_kind(inner)}: swap them (outermost first: {', '.join(ORDER)})"
                )
            if rank == next_rank and ORDER[rank] in {"Retry", "Hedge"}:
                raise ConfigError(f"two {ORDER[rank]} policies would multiply their attempts: keep one")
        counted = [(_kind(policy), _called(policy)) for rank, policy in ranked if ORDER[rank] in _COUNTED]
        for at, (kind, name) in enumerate(counted):
            if (kind, name) in counted[:at]:
                raise ConfigError(
                    f"two {kind} policies called {name!r} would count each call twice: keep one, or give one another name="
                )
        if {"Retry", "Hedge"} <= {getattr(policy, "place", None) for policy in self.policies}:
            raise ConfigError("Retry and Hedge together would multiply their attempts: keep one")

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        for policy in reversed(self.policies):
            send = policy.bind(send, upstream)
        return send

    def put(self, place: str, policy: Policy | None) -> Pipeline:
        """The same with `policy` in that place of `ORDER`, instead of what stands there; None leaves the place empty."""
        rank = ORDER.index(place)
        kept = [one for one in self.policies if getattr(one, "place", None) != place]
        if policy is not None:
            inner = (
                at
                for at, one in enumerate(kept)
                if (there := getattr(one, "place", None)) and ORDER.index(there) > rank
            )
            kept.insert(next(inner, len(kept)), policy)
        return Pipeline(tuple(kept))


def _kind(policy: Policy) -> str:
    return type(policy).__name__


def _called(policy: Policy) -> str:
    return getattr(policy, "name", "default")
