"""A class per external API: its pool, its pipeline and its credentials, opened once and closed once.

`BaseAPIClient` is the life of a client: it builds the pipeline, sends, and closes. `HTTPClient` adds the verbs. What is
decided here is decided when the client is built; a call only walks through what was bound.
"""

from __future__ import annotations

import re
import sys
import uuid
import warnings
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, Unpack, cast

from fairlead import engines
from fairlead.auth import Basic
from fairlead.body import Content, Data, Files, Upload, encode
from fairlead.core import Call, Pipeline, Policy, Send, Timeout, Upstream
from fairlead.engines.coding import accepted
from fairlead.errors import ConfigError, FairleadError, StatusError
from fairlead.headers import Headers, HeaderTypes
from fairlead.message import Arriving, Request, Response
from fairlead.observe import sinks
from fairlead.options import DEFAULT, Auth, BodyOptions, CallOptions, Default, Options, checked, choose
from fairlead.policies import Retry, standard
from fairlead.url import Origin, Params, join, pairs, ready, shown, split, with_params
from fairlead.version import __version__

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Response)
else:
    T = Any

_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|//|\\").match
HEALTH: Final = Timeout(total=5.0)


class BaseAPIClient:
    """One upstream, its pipeline and its connections. Use it as `async with`, or `await client.close()` in the end."""

    _keywords: ClassVar[Mapping[str, Any]] = {}
    auth: Auth | None = None

    def __init_subclass__(cls, **options: Unpack[Options]) -> None:
        super().__init_subclass__()
        cls._keywords = {**cls._keywords, **checked(cls.__name__, options)}

    def __init__(self, base_url: str | None = None, **options: Unpack[Options]) -> None:
        cls = type(self)
        given: dict[str, Any] = dict(options) if base_url is None else {"base_url": base_url, **options}
        self._opened_at = _caller()
        self._closed = False
        self._loop: AbstractEventLoop | None = None
        self._pipelines: dict[object, Send] = {}

        chosen = choose(cls, cls._keywords, given, settings=cls not in {BaseAPIClient, HTTPClient})
        self.base_url = chosen["base_url"].rstrip("/")
        self._origin, self._base = _split_base(cls.__name__, self.base_url)
        self._allowed = {split(origin)[0] for origin in chosen["allow_origins"]} | {self._origin}
        self.name = chosen["name"] or _name(cls, self._origin)
        self.auth = chosen["auth"] if chosen["auth"] is not None else cls.auth
        self.timeout = _timeout(chosen["timeout"])
        self.raise_for_status = chosen["raise_for_status"]
        self.health_path = chosen["health_path"]
        self._params = list(pairs(chosen["params"])) if chosen["params"] else []
        self._headers = _default_headers(chosen["headers"])

        self.upstream = Upstream(self.name, (*sinks(traces=bool(chosen["trace_enabled"])), *chosen["sinks"]))
        self.engine = engines.create(
            chosen["engine"],
            engines.Wire(
                verify=chosen["verify"],
                cert=chosen["cert"],
                proxy=chosen["proxy"],
                http2=chosen["http2"],
                max_keepalive_connections=chosen["max_keepalive_connections"],
            ),
        )
        self.policies: tuple[Policy, ...] = (
            standard(
                retries=chosen["max_retries"],
                delay=chosen["retry_delay"],
                backoff=chosen["retry_backoff"],
                limit=chosen["max_connections"],
            )
            if chosen["policies"] is None
            else tuple(chosen["policies"])
        )
        self._pipeline = self._bind(DEFAULT, DEFAULT)
        for name in _declared(cls):
            self.__dict__[name] = getattr(cls, name).bind(self)

    async def send(
        self,
        request: Request,
        *,
        timeout: float | Timeout | Default | None = DEFAULT,
        auth: Auth | Default | None = DEFAULT,
        retry: Policy | Default | None = DEFAULT,
        stream: bool = False,
    ) -> Response:
        """Send a request through the pipeline; a status is an answer, never an error.

        Raises TransportError, TimedOut, Refused or ConfigError. With `stream=True` the response must be closed: prefer `stream()`.
        """
        if request.origin not in self._allowed and self._origin is not None:
            raise self._elsewhere(request.origin)
        if self._closed:
            raise ConfigError(f"{self.name}: the client is closed; open it once and close it when the application ends")
        loop = self._loop = get_running_loop()
        bounds = self.timeout if timeout is DEFAULT else _timeout(timeout)
        call = Call(request, bounds, loop.time() + bounds.total if bounds.total is not None else inf, stream=stream)
        send = self._pipeline if auth is DEFAULT and retry is DEFAULT else self._bind(auth, retry)
        try:
            return await send(call)
        except FairleadError as error:
            error.upstream = error.upstream or self.name
            error.request = error.request or request
            raise

    async def health_check(self) -> bool:
        """Whether a GET of `health_path` (default: the base URL) answers below 500 within 5 s, in one attempt. Never raises."""
        try:
            origin, target = self._locate(self.health_path)
            request = Request.build("GET", origin, target, self._headers.copy())
            response = await self.send(request, timeout=HEALTH, retry=None)
        except Exception:
            return False
        return response.status_code < 500

    def explain(self) -> str:
        """The pipeline in words, outermost first, with its numbers."""
        total, among = self.timeout.total, self.timeout.among
        lines = [
            f"{self.name} -> {self.base_url or 'any origin'}",
            f"  a call has {'no bound' if total is None else f'{total:g} s'}, an attempt that a retry may follow {among:g} s",
        ]
        steps = [*self.policies, *([self._auth(DEFAULT)] if self.auth is not None else [])]
        lines += [f"  {number}. {_explained(step)}" for number, step in enumerate(steps, 1)]
        return "\n".join([*lines, f"  then the {type(self.engine).__name__.lower()} engine"])

    async def close(self) -> None:
        """Close every connection; calls after this are errors. May be called again."""
        self._closed = True
        await self.engine.close()

    async def __aenter__(self) -> Self:
        self._loop = get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            engine = self.engine
            loop.call_soon_threadsafe(lambda: loop.create_task(engine.close()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url or 'without base_url'}>"

    def _locate(self, path: str) -> tuple[Origin, str]:
        """Where a path leads: below the base URL, or to an origin of its own where that is allowed."""
        if _ABSOLUTE(path) is None:
            if self._origin is None:
                raise ConfigError(f"{path!r} is relative and this client has no base_url: pass a whole URL")
            return self._origin, join(self._base, path)
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

    def _bind(self, auth: Auth | Default | None, retry: Policy | Default | None) -> Send:
        """The pipeline with another auth or retry: bound once for each, over the same upstream and so the same state."""
        key = auth, retry
        try:
            bound = self._pipelines.get(key)
        except TypeError:  # a recipe that cannot be hashed is bound for each call
            return self._build(auth, retry)
        if bound is None:
            if len(self._pipelines) >= 64:  # credentials of many users: the oldest is made again when it returns
                del self._pipelines[next(iter(self._pipelines))]
            bound = self._pipelines[key] = self._build(auth, retry)
        return bound

    def _build(self, auth: Auth | Default | None, retry: Policy | Default | None) -> Send:
        policies = self.policies
        if retry is not DEFAULT:
            at = next((at for at, policy in enumerate(policies) if isinstance(policy, Retry)), None)
            outer = policies[:at] if at is not None else policies[:1]
            inner = policies[at + 1 :] if at is not None else policies[1:]
            policies = (*outer, *([retry] if retry is not None else []), *inner)
        credentials = self._auth(auth)
        return Pipeline((*policies, *([credentials] if credentials is not None else []))).bind(self.engine.send, self.upstream)

    def _auth(self, auth: Auth | Default | None) -> Policy | None:
        chosen = self.auth if auth is DEFAULT else auth
        return Basic(*chosen) if isinstance(chosen, tuple) else chosen


class HTTPClient(BaseAPIClient):
    """The verbs. Each raises StatusError for 4xx and 5xx unless told `raise_for_status=False`; `into=` decodes JSON to a type."""

    async def get(self, path: str, *, into: type[T] | None = None, **options: Unpack[CallOptions]) -> T:
        return await self.request("GET", path, into=into, **options)

    async def head(self, path: str, *, into: type[T] | None = None, **options: Unpack[CallOptions]) -> T:
        return await self.request("HEAD", path, into=into, **options)

    async def options(self, path: str, *, into: type[T] | None = None, **options: Unpack[CallOptions]) -> T:
        return await self.request("OPTIONS", path, into=into, **options)

    async def post(self, path: str, *, into: type[T] | None = None, **options: Unpack[BodyOptions]) -> T:
        return await self.request("POST", path, into=into, **options)

    async def put(self, path: str, *, into: type[T] | None = None, **options: Unpack[BodyOptions]) -> T:
        return await self.request("PUT", path, into=into, **options)

    async def patch(self, path: str, *, into: type[T] | None = None, **options: Unpack[BodyOptions]) -> T:
        return await self.request("PATCH", path, into=into, **options)

    async def delete(self, path: str, *, into: type[T] | None = None, **options: Unpack[BodyOptions]) -> T:
        return await self.request("DELETE", path, into=into, **options)

    async def request(
        self,
        method: str,
        path: str,
        *,
        into: type[T] | None = None,
        timeout: float | Timeout | Default | None = DEFAULT,
        auth: Auth | Default | None = DEFAULT,
        retry: Policy | Default | None = DEFAULT,
        raise_for_status: bool | None = None,
        **parts: Any,
    ) -> T:
        """Any method. `parts` are those of `build_request`."""
        response = await self.send(self.build_request(method, path, **parts), timeout=timeout, auth=auth, retry=retry)
        if response.status_code >= 400 and (self.raise_for_status if raise_for_status is None else raise_for_status):
            raise StatusError(response, upstream=self.name)
        if into is None or into is Response:
            return cast("T", response)
        return response.json(into)

    def stream(self, method: str, path: str, **options: Unpack[BodyOptions]) -> Stream:
        """A response read while it arrives: `async with client.stream("GET", path) as response: ...`. Never raises for a status."""
        options.pop("raise_for_status", None)
        return Stream(self, method, path, options, _caller())

    def build_request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        headers: HeaderTypes | None = None,
        json: Any = None,
        data: Data | None = None,
        files: Files | None = None,
        content: Content | None = None,
        idempotent: bool = False,
        idempotency_key: str | None = None,
    ) -> Request:
        """The request that `send` takes: the path joined to the base URL, the client's headers and params under one's own."""
        origin, target = self._locate(path)
        if params or self._params:
            target = with_params(target, self._merged(params))
        fields = self._headers.copy()
        if headers:
            for name, value in Headers(headers).multi_items():
                fields[name] = value
        body: bytes | Upload | None = b""
        if json is not None or data is not None or content is not None or files is not None:
            body, content_type = encode(content=content, json=json, data=data, files=files)
            if content_type is not None and "content-type" not in fields:
                fields.add("Content-Type", content_type)
        if idempotency_key is not None or idempotent:
            # Set here, before retry, so that every attempt carries the same key.
            fields["Idempotency-Key"] = idempotency_key or uuid.uuid4().hex
        return Request.build(method, origin, target, fields, body or b"")

    def _merged(self, params: Params | None) -> Params:
        """The client's params under the call's own: a name of the call replaces the client's."""
        own = list(pairs(params)) if params else []
        names = {name for name, _ in own}
        return [pair for pair in self._params if pair[0] not in names] + own


class Stream:
    """A stream that is opened by `async with` and closed by its end, whatever happens."""

    __slots__ = ("_client", "_method", "_opened_at", "_options", "_path", "response")

    def __init__(self, client: HTTPClient, method: str, path: str, options: CallOptions, opened_at: str) -> None:
        self._client = client
        self._method = method
        self._path = path
        self._options: dict[str, Any] = dict(options)
        self._opened_at = opened_at
        self.response: Response | None = None

    async def __aenter__(self) -> Response:
        if self.response is not None:
            raise ConfigError("a stream opens once: call client.stream() again")
        options = self._options
        sending = {name: options.pop(name) for name in ("timeout", "auth", "retry") if name in options}
        request = self._client.build_request(self._method, self._path, **options)
        self.response = response = await self._client.send(request, stream=True, **sending)
        if isinstance(response, Arriving):
            response.opened_at = self._opened_at
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.response is not None:
            self.response.close()


@lru_cache(maxsize=256)
def _timeout(given: float | Timeout | None) -> Timeout:
    return given if isinstance(given, Timeout) else Timeout(total=given)


def _split_base(owner: str, base_url: str) -> tuple[Origin | None, str]:
    if not base_url:
        return None, ""
    try:
        origin, target = split(base_url)
    except ConfigError as error:
        raise ConfigError(f"{owner}: base_url: {error.message}") from None
    if "?" in target:
        raise ConfigError(f"{owner}: base_url {shown(base_url)!r} has a query: pass it as params=")
    return origin, ready(target).rstrip("/")


def _name(cls: type, origin: Origin | None) -> str:
    if cls not in {BaseAPIClient, HTTPClient}:
        return cls.__name__
    return origin.host if origin is not None else "http"


def _default_headers(own: HeaderTypes | None) -> Headers:
    headers = Headers({"Accept": "*/*", "Accept-Encoding": accepted(), "User-Agent": f"fairlead/{__version__}"})
    for name, value in Headers(own).multi_items():
        headers[name] = value
    return headers


def _declared(cls: type) -> list[str]:
    """Attributes that are calls declared on the class, each bound once to its client."""
    return [name for name in dir(cls) if not name.startswith("__") and hasattr(getattr(cls, name, None), "bind")]


def _explained(policy: Policy) -> str:
    explain = getattr(policy, "explain", None)
    return str(explain()) if explain is not None else repr(policy)


def _caller() -> str:
    """The line outside this package that is running: where a client or a stream was made."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("fairlead."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
