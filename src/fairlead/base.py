"""The life of a client: built from its options, opened once, sending through its pipeline, closed once.

What is decided here is decided when the client is built; a call only walks through what was bound. Longer than most: a client's
whole life is one idea, and each of its questions is answered in it once.
"""

from __future__ import annotations

import warnings
from asyncio import AbstractEventLoop, Future, get_running_loop, wait
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from math import inf
from threading import get_ident
from types import FunctionType, TracebackType
from typing import Any, ClassVar, Final, Protocol, Self, TypeVar, Unpack

from fairlead import composed, forks
from fairlead.bound import Bound
from fairlead.caller import asked
from fairlead.core import Call, Policy, Timeout, Upstream
from fairlead.errors import ConfigError, FairleadError
from fairlead.keywords import (
    DEFAULT,
    Auth,
    Default,
    Options,
    Otherwise,
    checked,
    choose,
    default_headers,
    patience,
    split_base,
)
from fairlead.message import Headers, Request, Response
from fairlead.observe import sinks
from fairlead.stream import caller
from fairlead.url import Origin, join, pairs, relative, shown, split, with_params

T = TypeVar("T")

HEALTH: Final = Timeout(total=5.0)
DRAIN: Final = 1.0
"""Seconds that calls under way have to end, once their client is told to close."""


class Declared(Protocol):
    """A call declared on a class, as its function carries it: checked when the class is made, prepared for each client."""

    def prepare(self, client: Any, /) -> object: ...


class BaseAPIClient:
    """One upstream, its pipeline and its connections. Use it as `async with`, or `await client.close()` in the end."""

    _keywords: ClassVar[Mapping[str, Any]] = {}
    auth: Auth | None = None

    def __init_subclass__(cls, *, base_url: str | None = None, **options: Unpack[Options]) -> None:
        super().__init_subclass__()
        said = options if base_url is None else {"base_url": base_url, **options}
        cls._keywords = {**cls._keywords, **checked(cls.__name__, said)}

    def __init__(self, base_url: str | None = None, **options: Unpack[Options]) -> None:
        cls = type(self)
        given: dict[str, Any] = dict(options) if base_url is None else {"base_url": base_url, **options}
        self._opened_at = caller()
        self._closed = self._forked = False
        self._drain = DRAIN
        self._under_way = 0
        """Calls that began and have not ended, a stream with its body."""
        self._emptied: Future[None] | None = None
        self._loop: AbstractEventLoop | None = None
        self._runs: Callable[[], bool] = bool
        self._thread = 0

        own = not cls.__module__.startswith("fairlead.")
        chosen = choose(cls, cls._keywords, given, settings=own)
        self.base_url = chosen["base_url"].rstrip("/")
        self._origin, self._base = split_base(cls.__name__, self.base_url)
        self._allowed = {self._origin, *(split(origin)[0] for origin in chosen["allow_origins"])}
        self.name = chosen["name"] or (cls.__name__ if own or self._origin is None else self._origin.host)
        if chosen["auth"] is not None:
            self.auth = chosen["auth"]
        self.timeout = Timeout.of(chosen["timeout"])
        self.raise_for_status = chosen["raise_for_status"]
        self.health_path = chosen["health_path"]
        self._default_params = list(pairs(chosen["params"])) if chosen["params"] else []
        self._default_headers = default_headers(chosen["headers"])

        self.upstream = Upstream(self.name, (*sinks(traces=bool(chosen["trace_enabled"])), *chosen["sinks"]))
        self.upstream.relative = partial(relative, base=self._base, params={name for name, _ in self._default_params})
        if chosen["shared"] is not None:
            self.upstream.shared = composed.store(chosen["shared"]).share(self.upstream)
        self.engine = composed.engine(chosen)
        # For a `_retry_with_backoff` of one's own to read; the pipeline has them already.
        self.max_retries, self.retry_delay = chosen["max_retries"], chosen["retry_delay"]
        self.retry_backoff = chosen["retry_backoff"]
        hooked = cls._retry_with_backoff is not BaseAPIClient._retry_with_backoff
        self.pipeline = composed.pipeline(self, chosen, hooked=hooked)
        self._bound = Bound(cls, self.pipeline, chosen["max_redirects"], self.engine.send, self.upstream)
        self._bound_send = self._bound.send
        for declared in _declared(cls):
            declared.prepare(self)

    def _surround(self, policy: Policy) -> None:
        """From the next call on, every attempt passes through `policy` on its way to the engine. The state stays what it is."""
        bound = self._bound
        engine = policy.bind(bound._engine, self.upstream)
        self._bound = Bound(type(self), self.pipeline, bound._redirects, engine, self.upstream)
        self._bound_send = self._bound.send

    async def send(
        self,
        request: Request,
        *,
        timeout: float | Timeout | Default | None = DEFAULT,
        deadline: float = inf,
        stream: bool = False,
        priority: int = 0,
        **otherwise: Unpack[Otherwise],
    ) -> Response:
        """Send a request through the pipeline, or through what `otherwise` makes of it; a status is an answer, never an error.

        `deadline` (loop time) is one's own caller's: an upstream that is cut short by it is not to blame. `priority` counts where calls
        wait in line.

        Raises TransportError, TimedOut, Refused or ConfigError. With `stream=True` the response must be closed: prefer `stream()`.
        """
        if request.origin is not self._origin and self._origin is not None and request.origin not in self._allowed:
            raise self._elsewhere(request.origin)
        if not self._runs() or get_ident() != self._thread:
            self._adopt()
        clock = self._clock
        bounds = self.timeout if timeout is DEFAULT else Timeout.of(timeout)
        if bounds.total is not None and (due := clock() + bounds.total) < deadline:
            deadline = due
        if (inherited := asked()) is not None and inherited.deadline < deadline:
            deadline = inherited.deadline
        call = Call(request, bounds, deadline, stream, clock, priority)
        send = self._bound.otherwise(**otherwise) if otherwise else self._bound_send
        self._under_way += 1
        try:
            response = await (send(call) if inherited is None else inherited.carry(send, call))
            if stream and not response.is_closed:
                self._under_way += 1
                response.when_closed(self._ended)
        except FairleadError as error:
            error.upstream = error.upstream or self.name
            error.request = error.request or request
            raise
        finally:
            if self._emptied is None:
                self._under_way -= 1
            else:
                self._ended()
        response.upstream = self.name
        return response

    async def instead(self, call: Call, target: str, /) -> Response:
        """This upstream's answer to another's call: below its own base URL, by its own policies, and with no secret of the other's."""
        if self._origin is None:
            raise ConfigError(f"{self.name} stands in for another and has no base_url: pass one")
        from fairlead.policies.redirect import carried

        asked = call.request
        # What the library says where nobody else does, the first of the two has said, or had a reason not to: a proxy's caller, say, reads
        # the coded bytes, and may know no coding.
        usual = default_headers(None).raw
        own = Headers.received([pair for pair in self._default_headers.raw if pair not in usual])
        own.framing = self._default_headers.framing
        headers = own.under(carried(asked.headers, elsewhere=True, bodiless=False))
        target = with_params(self._base + target, self._default_params)
        request = Request.build(asked.method, self._origin, target, headers, asked.content)
        request.idempotent, request.route = asked.idempotent, asked.route
        # Without its own fallback, so that two that stand in for each other do not ask each other for ever.
        return await self.send(
            request, deadline=call.deadline, stream=call.stream, priority=call.priority, fallback=None
        )

    async def _retry_with_backoff(self, func: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
        """What comes of `func(*args, **kwargs)`, tried again by the numbers and the rule of this client's Retry.

        A subclass that overrides it has each of its calls sent through it: see `docs/policies/retry.md`.
        """
        from fairlead.policies.hook import retried

        return await retried(self.pipeline, self.upstream, func, *args, **kwargs)

    async def health_check(self) -> bool:
        """Whether a GET of `health_path` (default: the base URL) answers below 500 within 5 s, in one attempt. Never raises."""
        try:
            origin, target = self._locate(self.health_path)
            target = with_params(target, self._default_params)
            request = Request.build("GET", origin, target, self._default_headers.copy())
            response = await self.send(request, timeout=HEALTH, retry=None, hedge=None, fallback=None)
        except Exception:
            return False
        return response.status_code < 500

    def explain(self) -> str:
        """The pipeline in words, outermost first, with its numbers, and the worst that a call of it can come to."""
        from fairlead.policies.worst import worst

        total, among = self.timeout.total, self.timeout.among
        bound = "no bound" if total is None else f"{total:g} s"
        most = worst(self.pipeline.policies, self.timeout)
        lines = [
            f"{self.name} -> {self.base_url or 'any origin'}",
            f"  a call has {bound}, an attempt that a retry may follow {among:g} s; at the worst, one takes {most}",
        ]
        lines += [
            f"  {number}. {step.explain() if hasattr(step, 'explain') else step}"
            for number, step in enumerate(self.pipeline.policies, 1)
        ]
        lines.append(f"  then the {type(self.engine).__name__.lower()} engine")
        shared = self.upstream.shared
        return "\n".join(lines if shared is None else [*lines, f"  shared {shared.explain()}"])

    async def close(self, drain: float | None = None) -> None:
        """No call begins any more; those under way have `drain` seconds to end, and then are ended. Closes every connection.

        1 s, if nothing is said, or none where an error leaves the `async with`. Returns as soon as none is under way. May be called
        again, and by several at once: the least patient decides.
        """
        seconds = patience(self.name, drain, self._drain)
        if self._runs() and self._loop is not get_running_loop():
            raise ConfigError(f"{self.name}: close it on the event loop that opened it, which still runs")
        self._closed, self._runs = True, bool
        if self._forked:
            return
        try:
            # On a loop that ended with calls under way, none of them will ever end.
            if self._under_way and seconds and self._loop is get_running_loop():
                self._emptied = self._emptied or self._loop.create_future()
                await wait({self._emptied}, timeout=seconds)
        finally:
            self.upstream.close()
            try:
                if self.upstream.shared is not None:
                    await self.upstream.shared.close()
            finally:
                await self.engine.close()

    def forked(self) -> None:
        """In a child: the loop and the connections are the parent's."""
        self._forked, self._loop, self._runs = True, None, bool
        getattr(self.engine, "forked", bool)()
        if self.upstream.shared is not None:
            self.upstream.shared.forked()

    def _ended(self) -> None:
        """One call less is under way."""
        self._under_way -= 1
        if not self._under_way and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _adopt(self) -> None:
        """Know the loop that is running: it is asked for once, and afterwards only whether it still runs here."""
        if self._closed:
            raise ConfigError(f"{self.name}: the client is closed; open it once and close it when the application ends")
        before, self._loop = self._loop, forks.settle(self, self._loop, forked=self._forked)
        loop = self._loop
        if before is not None and before is not loop and self._under_way:
            # On a loop that ended none of them ever ends: with them goes what they hold, which is slots, turns and a probe's place.
            self._under_way = 0
            self.upstream.forget()
            self._bound = self._bound.anew()
            self._bound_send = self._bound.send
        self._clock, self._runs, self._thread = loop.time, loop.is_running, get_ident()
        if self.upstream.shared is not None:
            self.upstream.shared.start()

    async def __aenter__(self) -> Self:
        self._adopt()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._drain = 0.0
        await self.close()

    def __del__(self) -> None:
        loop = getattr(self, "_loop", None)
        if loop is None or self._closed:
            return
        warnings.warn(
            f"{type(self).__name__} made at {self._opened_at} was dropped open: use `async with` or `await client.close()`",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
        if not loop.is_closed():
            engine, shared = self.engine, self.upstream.shared
            loop.call_soon_threadsafe(lambda: loop.create_task(engine.close()))
            if shared is not None:
                loop.call_soon_threadsafe(lambda: loop.create_task(shared.close()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url or 'without base_url'}>"

    def _locate(self, path: str) -> tuple[Origin, str]:
        """Where a path leads: below the base URL, or to an origin of its own where that is allowed."""
        if (target := join(self._base, path)) is not None:
            if self._origin is None:
                raise ConfigError(f"{shown(path)!r} is relative and this client has no base_url: pass a whole URL")
            return self._origin, target
        if path[:2] == "//" and self._origin is not None:
            path = f"{self._origin.scheme}:{path}"
        origin, target = split(path)
        if self._origin is not None and origin not in self._allowed:
            raise self._elsewhere(origin)
        return origin, target

    def _elsewhere(self, origin: Origin) -> ConfigError:
        return ConfigError(
            f"{self.name}: {origin} is not {self._origin}, and would be given its credentials; "
            f"use another client, or allow_origins=({str(origin)!r},)"
        )


def _declared(cls: type) -> Iterator[Declared]:
    for owner in cls.__mro__:
        for attribute in vars(owner).values():
            if isinstance(attribute, FunctionType) and (declared := getattr(attribute, "declared", None)) is not None:
                yield declared
