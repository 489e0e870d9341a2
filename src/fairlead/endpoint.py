"""Declared calls: `@get("/users/{id}")` on a typed method, compiled once into a path, a query, a body and an answer.

Names and paths are checked when the class is made. Types are resolved when a client is built, as they may name what stands
further down in the module. What remains is a plain async function, which the interpreter binds by itself: nothing holds the
client in a cycle, an override and `super()` work as ever, and an instance stays patchable.
"""

from __future__ import annotations

import re
import sys
from collections import ChainMap
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from operator import attrgetter
from types import NoneType
from typing import Any, Final, NamedTuple, TypeVar, cast

from fairlead.client import HTTPClient
from fairlead.core import Policy, Timeout
from fairlead.errors import ConfigError
from fairlead.headers import Headers, HeaderTypes
from fairlead.keywords import DEFAULT, Auth, Default
from fairlead.message import Response
from fairlead.signature import binder, checked, is_model, parameters, resolved
from fairlead.typed import decoder
from fairlead.url import ready, segment

__all__ = ["Endpoint", "Verb", "delete", "get", "head", "options", "patch", "post", "put"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_UNDECODED: Final[Mapping[Any, Callable[[Response], Any] | None]] = {
    Response: None,
    NoneType: lambda _: None,
    bytes: attrgetter("content"),
    str: attrgetter("text"),
}
"""What a return annotation takes from the answer; one that is not here is what its JSON is decoded to."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A decorator that makes a typed method a call: `@get("/users/{id}")` above a signature without a body.

    A placeholder in the path takes the parameter of its name, escaped as one segment. The parameter called `body`, or one whose
    type is a model or a mapping, is sent as JSON (`bytes` as they are). Every other is a query parameter, left out when None; a
    placeholder in the query (`/orders?user={user_id}`) gives it another name there. The return annotation says what comes back:
    `Response`, `None`, `bytes`, `str`, or the type that the JSON is decoded to.

    What is not said is as the client has it; `retry=None` makes one attempt. Raises ConfigError for what cannot work.
    """

    method: str

    def __call__(
        self,
        path: str,
        *,
        timeout: float | Timeout | Default | None = DEFAULT,
        auth: Auth | Default | None = DEFAULT,
        retry: Policy | Default | None = DEFAULT,
        hedge: Policy | Default | None = DEFAULT,
        fallback: Any = DEFAULT,
        priority: int | Default = DEFAULT,
        follow_redirects: bool | Default = DEFAULT,
        headers: HeaderTypes | Default = DEFAULT,
        raise_for_status: bool | Default = DEFAULT,
        idempotent: bool | Default = DEFAULT,
    ) -> Callable[[F], F]:
        if not isinstance(path, str):
            raise ConfigError(f'@{self.method.lower()} needs its path: write @{self.method.lower()}("/path")')
        said = {
            "timeout": timeout if isinstance(timeout, Timeout | Default) else Timeout(timeout),
            "auth": auth,
            "retry": retry,
            "hedge": hedge,
            "fallback": fallback,
            "priority": priority,
            "follow_redirects": follow_redirects,
            "headers": headers if isinstance(headers, Default) else Headers(headers),
            "raise_for_status": raise_for_status,
            "idempotent": idempotent,
        }

        def declare(function: F) -> F:
            body = sys._getframe(1)
            around = ChainMap(body.f_locals, body.f_back.f_locals if body.f_back is not None else {})
            options = {option: value for option, value in said.items() if value is not DEFAULT}
            return cast("F", Endpoint(self.method, path, function, options, around).compiled())

        return declare


get = Verb("GET")
post = Verb("POST")
put = Verb("PUT")
patch = Verb("PATCH")
delete = Verb("DELETE")
head = Verb("HEAD")
options = Verb("OPTIONS")


class Plan(NamedTuple):
    """What a declared call comes to once its types are known."""

    pick: Callable[..., tuple[tuple[Any, ...], dict[str, Any], Any, Any]]
    """From the arguments to the values in the path, the query, the JSON and the content."""
    into: Any
    answer: Callable[[Any], Any] | None


class Endpoint:
    """One declared call: checked when its class is made, planned when a client is built. Its function carries it as `declared`."""

    __slots__ = ("function", "hints", "method", "name", "options", "path", "places", "plan", "wires")

    def __init__(
        self, method: str, path: str, function: Any, options: Mapping[str, Any], around: Mapping[str, Any]
    ) -> None:
        self.name = ".".join(getattr(function, "__qualname__", repr(function)).split(".")[-2:])
        self.method = method
        self.options = {**options, "route": path.partition("?")[0]}
        self.plan: Plan | None = None
        self.hints: dict[str, Any] = {}
        try:
            self.function = checked(function)
            self.path, self.places, self.wires = _template(path)
            self._check_names()
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error.message}") from None
        # What the function around a class has named can be seen now, and no more when a client is built.
        for name in self.function.__annotations__:
            with suppress(Exception):
                self.hints[name] = resolved(self.function, name, around)

    def compiled(self) -> Callable[..., Awaitable[Any]]:
        method, template, options = self.method, self.path, self.options

        @wraps(self.function)
        async def call(client: HTTPClient, /, *given: Any, **named: Any) -> Any:
            pick, into, answer = self.plan or self.prepare(client)
            places, query, json, content = pick(*given, **named)
            path = template % tuple(map(segment, places))
            value = await client.request(method, path, params=query, json=json, content=content, into=into, **options)
            return value if answer is None else answer(value)

        call.__dict__["declared"] = self
        return call

    def prepare(self, client: HTTPClient) -> Plan:
        """Resolve the types, once, and bind for this client what the call has of its own.

        Raises ConfigError naming class, method and annotation.
        """
        try:
            if self.plan is None:
                self._resolve()
                self.plan = Plan(self._pick(), *self._answer())
            client._bound.otherwise(
                self.options.get("auth", DEFAULT),
                self.options.get("retry", DEFAULT),
                self.options.get("hedge", DEFAULT),
                self.options.get("fallback", DEFAULT),
                self.options.get("follow_redirects"),
            )
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error.message}") from None
        return self.plan

    def _check_names(self) -> None:
        if hasattr(HTTPClient, self.function.__name__):
            raise ConfigError("the client itself has this name; give the call another")
        known = parameters(self.function)
        for name in (*self.places, *self.wires):
            if name not in known:
                raise ConfigError(f"{{{name}}} names no parameter; there is {', '.join(known) or 'none'}")

    def _resolve(self) -> None:
        for name, annotation in self.function.__annotations__.items():
            try:
                if name not in self.hints:
                    self.hints[name] = resolved(self.function, name, {})
            except Exception as error:
                raise ConfigError(
                    f"{name}: {annotation!r} cannot be resolved ({error}); import it, or define it in the module"
                ) from None

    def _pick(self) -> Callable[..., Any]:
        free = [name for name in parameters(self.function) if name not in self.places]
        bodies = [
            name for name in free if name not in self.wires and (name == "body" or is_model(self.hints.get(name)))
        ]
        if len(bodies) > 1:
            raise ConfigError(f"{' and '.join(bodies)} are two bodies; put them into one model")
        if bodies and self.method in _BODILESS:
            raise ConfigError(
                f"{self.method} carries no body: make {bodies[0]!r} parameters of its own, or declare the call with @post"
            )
        body = bodies[0] if bodies else None
        places = "".join(f"{name}," for name in self.places)
        query = ", ".join(f"{self.wires.get(name, name)!r}: {name}" for name in free if name != body)
        sent = f"None, {body}" if body and self.hints.get(body) is bytes else f"{body}, None"
        return binder(self.function, self.name, f"(({places}), {{{query}}}, {sent})")

    def _answer(self) -> tuple[Any, Callable[[Any], Any] | None]:
        if "return" not in self.hints:
            raise ConfigError("it does not say what it returns; annotate it, with -> Response for the answer as it is")
        into = self.hints["return"]
        try:
            if into in _UNDECODED:
                return None, _UNDECODED[into]
            decoder(into)
        except Exception as error:
            raise ConfigError(f"return: {into!r} cannot be decoded from JSON: {error}") from None
        return into, None


def _template(path: str) -> tuple[str, list[str], dict[str, str]]:
    """The path as a %-template, its placeholders in order, and the name in the query of each that stands there."""
    if not path.startswith("/") or path.startswith("//"):
        raise ConfigError(f"path {path!r} must begin with one slash; the host is the client's base_url")
    path, _, query = path.partition("?")
    if query:
        from urllib.parse import unquote
    wires: list[tuple[str, str]] = []
    constants = []
    for pair in filter(None, query.split("&")):
        wire, _, value = pair.partition("=")
        if (found := _PLACEHOLDER.fullmatch(value)) is not None and "{" not in wire:
            wires.append((found[1], unquote(wire)))
        else:
            constants.append(pair)
    if constants:
        path += "?" + "&".join(constants)
    places = _PLACEHOLDER.findall(path)
    rest = _PLACEHOLDER.sub("", path)
    if "{" in rest or "}" in rest or _PLACEHOLDER.search("".join(constants)):
        raise ConfigError(f"path {path!r}: a placeholder is {{name}}, and in the query a whole value: ?user={{name}}")
    for name in (names := [*places, *(name for name, _ in wires)]):
        if not name.isidentifier():
            raise ConfigError(f"path {path!r}: {{{name}}} is not the name of a parameter")
        if names.count(name) > 1:
            raise ConfigError(f"path {path!r}: {{{name}}} stands there twice")
    ready(rest)
    return _PLACEHOLDER.sub("%s", path.replace("%", "%%")), places, dict(wires)
