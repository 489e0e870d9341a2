"""A client without `await`: the async one, on a loop of its own, so that there is one implementation of everything.

    class SyncWeather(SyncHTTPClient, of=Weather):
        current = plain(Weather.current)

Longer than most: the verbs are many, and each says what it returns.
"""

from __future__ import annotations

import warnings
from asyncio import _get_running_loop, to_thread
from collections.abc import Awaitable, Callable, Iterator
from functools import partial, update_wrapper
from inspect import isasyncgenfunction, iscoroutinefunction
from threading import Lock
from types import FunctionType, TracebackType
from typing import Any, ClassVar, Concatenate, Final, ParamSpec, Self, TypeVar, Unpack, cast, overload

from fairlead.client import HTTPClient
from fairlead.core import Timeout, Upstream
from fairlead.errors import ConfigError
from fairlead.forks import remember
from fairlead.keywords import DEFAULT, BodyOptions, CallOptions, Default, Options, Otherwise, patience
from fairlead.message import Request, Response
from fairlead.settings import make
from fairlead.stream import Stream
from fairlead.sync.background import Background, closed
from fairlead.sync.stream import SyncResponse, SyncStream

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_INSIDE: Final = frozenset({"stream", "deadline"})
"""Keywords of `send` that mean something on the loop only."""


def plain(call: Callable[Concatenate[Any, P], Awaitable[R]], /) -> Callable[Concatenate[Any, P], R]:
    """An async method of a client as a method of its SyncHTTPClient, with the same arguments and what it returns when awaited.

    By its name: an override counts. Every call of the class that is wrapped is there already; this tells a type checker of it.
    """
    name: Any = getattr(call, "__name__", None)
    if not isinstance(name, str) or isasyncgenfunction(call):
        raise ConfigError(f"plain({call!r}): pass an async method of a client class, as in plain(Weather.current)")

    def called(self: SyncHTTPClient, /, *given: P.args, **named: P.kwargs) -> R:
        answer: R = self._run(getattr(self._client, name), given, named)
        return answer

    vars(update_wrapper(called, call, updated=()))["carries"] = name
    return called


class SyncHTTPClient:
    """The verbs of HTTPClient, its options and its errors, for any number of threads at once. Open it by `with`, or by its first call.

    `of=` a client class makes its declared calls, and all its own public async methods, plain ones of the same names; its settings
    are that class's. Without it, the class keywords are those of an HTTPClient.

    Where a loop runs in the calling thread, every call is a ConfigError: it would hold up the loop. `async with` opens and closes it
    there, as a lifespan does.
    """

    _of: ClassVar[type[HTTPClient]] = HTTPClient
    _named: ClassVar[str | None] = None
    """The class that was wrapped: its name is that of the settings."""

    def __init_subclass__(
        cls, *, of: type[HTTPClient] | None = None, base_url: str | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init_subclass__()
        for name, value in vars(cls).items():
            if hasattr(value, "declared"):
                raise ConfigError(
                    f"{cls.__name__}.{name}: declare calls on an HTTPClient, and wrap it: class {cls.__name__}(SyncHTTPClient, of=...)"
                )
        said: dict[str, Any] = dict(options) if base_url is None else {"base_url": base_url, **options}
        inner = cls._of
        if of is not None:
            kind: Any = of
            if not isinstance(kind, type) or not issubclass(kind, inner):
                raise ConfigError(f"{cls.__name__}: of={of!r} is no class of {inner.__name__}")
            inner, cls._named = of, of.__name__
        if said or "auth" in vars(cls) or cls._named is None:
            body = {"__module__": cls.__module__, **({"auth": vars(cls)["auth"]} if "auth" in vars(cls) else {})}
            inner = cast("Any", type)(cls._named or cls.__name__, (inner,), body, **said)
        cls._of = inner
        for name, value in vars(cls).items():
            if isinstance(carried := getattr(value, "carries", None), str) and not hasattr(inner, carried):
                raise ConfigError(
                    f"{cls.__name__}.{name}: there is no {carried} in what it wraps: "
                    f"name the class that has it, class {cls.__name__}(SyncHTTPClient, of=...)"
                )
        for name, call in _calls(inner):
            if not hasattr(cls, name):
                setattr(cls, name, plain(call))
            elif hasattr(SyncHTTPClient, name) and not hasattr(HTTPClient, name):
                raise ConfigError(
                    f"{inner.__name__}.{name}: a SyncHTTPClient itself has this name; give the call another"
                )

    def __init__(self, base_url: str | None = None, **options: Unpack[Options]) -> None:
        given: dict[str, Any] = dict(options) if base_url is None else {"base_url": base_url, **options}
        self._wrap(make(self._of, **given))

    @classmethod
    def of(cls, client: HTTPClient) -> Self:
        """That client, which nobody has opened yet, for threads; it is closed with this one."""
        kind: Any = type(client)
        made = cls
        if not issubclass(kind, cls._of):
            raise ConfigError(f"{cls.__name__}.of({kind.__name__}): pass a {cls._of.__name__}")
        if client._loop is not None or client._closed:
            raise ConfigError(f"{cls.__name__}.of({client.name}): it was opened already: wrap one that is new")
        if cls is SyncHTTPClient and kind is not HTTPClient:
            made = cast("Any", type)(f"Sync{kind.__name__}", (cls,), {"__module__": kind.__module__}, of=kind)
        self = made.__new__(made)
        self._wrap(client)
        return self

    def _wrap(self, client: HTTPClient) -> None:
        self._client = client
        self._lock = Lock()
        self._background: Background | None = None

    @property
    def name(self) -> str:
        return self._client.name

    @property
    def base_url(self) -> str:
        return self._client.base_url

    @property
    def health_path(self) -> str:
        return self._client.health_path

    @property
    def upstream(self) -> Upstream:
        return self._client.upstream

    @overload
    def get(self, path: str, **options: Unpack[CallOptions]) -> Response: ...
    @overload
    def get(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    def get(self, path: str, **options: Any) -> Any:
        return self._run(self._client.get, (path,), options)

    @overload
    def head(self, path: str, **options: Unpack[CallOptions]) -> Response: ...
    @overload
    def head(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    def head(self, path: str, **options: Any) -> Any:
        return self._run(self._client.head, (path,), options)

    @overload
    def options(self, path: str, **options: Unpack[CallOptions]) -> Response: ...
    @overload
    def options(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    def options(self, path: str, **options: Any) -> Any:
        return self._run(self._client.options, (path,), options)

    @overload
    def post(self, path: str, **options: Unpack[BodyOptions]) -> Response: ...
    @overload
    def post(self, path: str, *, into: type[T], **options: Unpack[BodyOptions]) -> T: ...
    def post(self, path: str, **options: Any) -> Any:
        return self._run(self._client.post, (path,), options)

    @overload
    def put(self, path: str, **options: Unpack[BodyOptions]) -> Response: ...
    @overload
    def put(self, path: str, *, into: type[T], **options: Unpack[BodyOptions]) -> T: ...
    def put(self, path: str, **options: Any) -> Any:
        return self._run(self._client.put, (path,), options)

    @overload
    def patch(self, path: str, **options: Unpack[BodyOptions]) -> Response: ...
    @overload
    def patch(self, path: str, *, into: type[T], **options: Unpack[BodyOptions]) -> T: ...
    def patch(self, path: str, **options: Any) -> Any:
        return self._run(self._client.patch, (path,), options)

    @overload
    def delete(self, path: str, **options: Unpack[BodyOptions]) -> Response: ...
    @overload
    def delete(self, path: str, *, into: type[T], **options: Unpack[BodyOptions]) -> T: ...
    def delete(self, path: str, **options: Any) -> Any:
        return self._run(self._client.delete, (path,), options)

    @overload
    def request(self, method: str, path: str, **options: Unpack[BodyOptions]) -> Response: ...
    @overload
    def request(self, method: str, path: str, *, into: type[T], **options: Unpack[BodyOptions]) -> T: ...
    def request(self, method: str, path: str, **options: Any) -> Any:
        return self._run(self._client.request, (method, path), options)

    def send(
        self,
        request: Request,
        *,
        timeout: float | Timeout | Default | None = DEFAULT,
        priority: int = 0,
        **otherwise: Unpack[Otherwise],
    ) -> Response:
        """Send a request of `build_request`; a status is an answer, never an error."""
        for name in _INSIDE & otherwise.keys():
            raise ConfigError(
                f"{self.name}: send({name}=) is for a loop: use `with client.stream(...)`, `with within(...)`"
            )
        return self._run(self._client.send, (request,), {"timeout": timeout, "priority": priority, **otherwise})

    def stream(self, method: str, path: str, **options: Unpack[BodyOptions]) -> SyncStream:
        """A response read while it arrives: `with client.stream("GET", path) as response: ...`. Never raises for a status."""
        return SyncStream(self._client.stream(method, path, **options), self._open_stream)

    def build_request(self, method: str, path: str, **options: Any) -> Request:
        """The request that `send` takes; `options` are those of a verb that are no matter of sending."""
        return self._client.build_request(method, path, **options)

    def health_check(self) -> bool:
        """Whether a GET of `health_path` (default: the base URL) answers below 500 within 5 s, in one attempt."""
        try:
            return self._run(self._client.health_check)
        except ConfigError:  # it is closed
            if _get_running_loop() is not None:
                raise
            return False

    async def ahealth_check(self) -> bool:
        """The same for who runs a loop."""
        try:
            return await self._opened().reach(self._client.health_check)
        except ConfigError:
            return False

    def explain(self) -> str:
        """The pipeline in words, outermost first, with its numbers."""
        return self._client.explain()

    def close(self, drain: float | None = None) -> None:
        """No call begins any more; those under way, in all threads, have `drain` seconds to end (1 s, if nothing is said). Ends the thread."""
        seconds = () if drain is None else (patience(self.name, drain, 0.0),)
        self._end(self._client.close, *seconds)

    def __enter__(self) -> Self:
        self._run(self._client.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self._client.__aexit__, kind, error, trace)

    async def __aenter__(self) -> Self:
        await self._opened().reach(self._client.__aenter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        background = self._background
        if background is None or background.lost:
            return
        try:
            await background.reach(self._client.__aexit__, kind, error, trace)
        except ConfigError:
            if not background.ended:
                raise
            self._client._closed = True  # by another thread, or with its loop
        finally:
            background.end()
            await to_thread(background.join)

    def _run(self, function: Callable[..., Awaitable[T]], given: tuple[Any, ...] = (), named: Any = None) -> T:
        return (self._background or self._opened()).run(function, given, named)

    def _open_stream(self, stream: Stream) -> SyncResponse:
        background = self._background or self._opened()
        return background.run(SyncResponse.opened, (stream, background))

    def _opened(self) -> Background:
        remember(self)
        with self._lock:
            if self._background is None:
                if self._client._closed:
                    raise closed(self.name)
                self._background = Background(self.name)
            return self._background

    def _end(self, function: Callable[..., Awaitable[None]], *given: Any) -> None:
        with self._lock:
            background = self._background
            if background is None:
                self._client._closed = True
                return
        if background.lost:
            self._client._closed = True
            return
        try:
            background.run(function, given)
        except ConfigError:
            if not background.ended:
                raise
            self._client._closed = True  # by another thread, or with its loop
        finally:
            if self._client._closed or not self._owns(background):
                background.end()
                background.join()

    def forked(self) -> None:
        """In a child: the thread is the parent's, and another one of the parent's may have held the lock."""
        self._lock = Lock()
        if self._background is not None:
            self._background.forked()

    def _owns(self, background: Background) -> bool:
        """Whether the client lives on that loop, or nowhere yet: one that was wrapped twice lives with who called first."""
        return self._client._loop is None or self._client._loop is background.loop

    def __del__(self) -> None:
        background = getattr(self, "_background", None)
        if background is None or background.forked_away or background.ended:
            return
        client = self._client
        if client._closed or not self._owns(background):
            background.end()
            return
        warnings.warn(
            f"{type(self).__name__} made at {client._opened_at} was dropped open: use `with` or `client.close()`",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
        client._closed = True  # and so says nothing of its own
        background.drop(partial(client.close, 0.0))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url or 'without base_url'}>"


def _calls(kind: type[HTTPClient]) -> Iterator[tuple[str, Any]]:
    """The async methods that it has beyond an HTTPClient's."""
    for owner in kind.__mro__:
        if owner is HTTPClient:
            return
        for name, value in vars(owner).items():
            if not name.startswith("_") and isinstance(value, FunctionType) and iscoroutinefunction(value):
                yield name, value
