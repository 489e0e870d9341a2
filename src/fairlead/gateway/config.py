"""`fairlead.toml`, read once and checked whole: what starts has been understood, and what cannot work says where and why.

Keys have the names of the policies they set. What is not a key was meant for something, so it is an error too.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from fairlead.body import from_json
from fairlead.errors import ConfigError
from fairlead.gateway.plan import Part, Plan, plan
from fairlead.gateway.reference import Reference, reference
from fairlead.gateway.routes import Pattern, pattern
from fairlead.gateway.table import (
    Table,
    duration,
    filled,
    flag,
    hidden,
    meant,
    number,
    secrets,
    shown,
    string,
)
from fairlead.gateway.target import pieces, target
from fairlead.headers import Headers
from fairlead.url import split

T = TypeVar("T")

_SERVICE: Final = ("url", "timeout", "retries", "max_connections", "verify", "health", "headers", "auth")
_AGGREGATE: Final = ("get", "within", "parts")
_PART: Final = ("call", "required", "or", "within", "when", "headers")

# What a reader may expect, and this version would have to ignore.
# fmt: off
_LATER: Final = frozenset({
    "auth", "cache", "cors", "dashboard", "include", "logs", "metrics", "openapi", "proxy", "rate_limit", "routes", "traces",
})
_SERVICE_LATER: Final = frozenset({
    "cache", "cert", "circuit", "coalesce", "discovery", "engine", "fallback", "hedge", "http2", "proxy", "rate_limit",
})
_AGGREGATE_LATER: Final = frozenset({
    "auth", "cache", "delete", "headers", "patch", "post", "put", "rate_limit", "stale", "status", "stream",
})
_PART_LATER: Final = frozenset({"body", "cache", "each", "hedge", "method", "pick", "rename", "retries", "stale"})
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An upstream, as the file describes it. Seconds are floats."""

    name: str
    url: str
    timeout: float
    retries: int
    max_connections: int
    verify: bool | str
    health: str
    headers: Mapping[str, str] = field(repr=False)
    bearer: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Config:
    """A whole file. `patterns[i]` is the path of `plans[i]`."""

    file: str
    services: Mapping[str, Service]
    patterns: tuple[Pattern, ...]
    plans: tuple[Plan, ...]


def load(file: str | Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check a file; raises ConfigError naming the file, the key, the value and the mend."""
    try:
        given = tomllib.loads(Path(file).read_text("utf-8"))
        return _config(str(file), Table("", given, ("services", "aggregates"), _LATER), environ)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    except UnicodeDecodeError:
        problem = "is not UTF-8, as TOML has to be; save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        problem = f"is not TOML: {error}"
    except ConfigError as error:
        problem = error.message
    raise ConfigError(f"{file}: {problem}")


def _config(file: str, table: Table, environ: Mapping[str, str]) -> Config:
    services = {
        name: _service(name, Table(place, value, _SERVICE, _SERVICE_LATER), environ)
        for name, place, value in table.tables("services", '[services.users] with url = "http://..."')
    }
    patterns: list[Pattern] = []
    plans: list[Plan] = []
    for at, value in enumerate(table.need("aggregates", _list, '[[aggregates]] with get = "/home/{id}" and parts')):
        one = Table(f"aggregates[{at}]", value, _AGGREGATE, _AGGREGATE_LATER)
        route = one.need("get", _route, 'get = "/home/{id}"')
        if same := [other for other, known in enumerate(patterns) if known.segments == route.segments]:
            raise ConfigError(
                f'{one.at("get")}: "{route.written}" is the route of aggregates[{same[0]}] too; change one'
            )
        plans.append(_plan(one, route, services))
        patterns.append(route)
    return Config(file, services, tuple(patterns), tuple(plans))


def _service(name: str, table: Table, environ: Mapping[str, str]) -> Service:
    text = filled(environ)
    secret = hidden(text)

    def url(value: object) -> str:
        if "?" in split(whole := text(value))[1]:
            raise ValueError("has a query; write it in the call of a part")
        return whole

    def verify(value: object) -> bool | str:
        if isinstance(value, bool):
            return value
        if not Path(path := text(value)).exists():
            raise ValueError("is not there; name a file of certificates, or write false to trust anyone")
        return path

    auth = Table(
        table.at("auth"),
        table.take("auth", secrets, {}),
        ("bearer",),
        frozenset({"basic", "oauth2", "api_key"}),
    )
    return Service(
        name=name,
        url=table.need("url", url, 'url = "http://127.0.0.1:8101"'),
        timeout=table.take("timeout", duration, 30.0),
        retries=table.take("retries", number(0), 2),
        max_connections=table.take("max_connections", number(1), 100),
        verify=table.take("verify", verify, default=True),
        health=table.take("health", lambda value: _fixed(string(value)), ""),
        headers=_headers(table, secret),
        bearer=auth.take("bearer", secret, None),
    )


def _plan(table: Table, route: Pattern, services: Mapping[str, Service]) -> Plan:
    example = 'parts = { user = { call = "users /users/{id}" } }'
    parts = [
        _part(name, Table(place, value, _PART, _PART_LATER), services)
        for name, place, value in table.tables("parts", example)
    ]
    within = table.take("within", duration, None)
    try:
        return plan(route.written, route.parameters, parts, within)
    except ConfigError as error:
        raise ConfigError(f"{table.place}.{error.message}") from None


def _part(name: str, table: Table, services: Mapping[str, Service]) -> Part:
    call = table.need("call", string, 'call = "users /users/{id}"')
    service, _, path = call.partition(" ")
    if service not in services:
        if service.isupper() or service[0] == "/":
            raise ConfigError(
                f'{table.at("call")}: {shown(call)} begins with no service; write "users /users/{{id}}", which is a GET'
            )
        raise ConfigError(f'{table.place}: no service "{service}"{meant(service, tuple(services))}')
    required = table.take("required", flag, default=False)
    if required and "or" in table.given:
        raise ConfigError(f"{table.at('or')}: never used, as the part is required; remove one of the two")
    return Part(
        name=name,
        service=service,
        call=call,
        target=table.need("call", lambda _: target(path.strip()), ""),
        required=required,
        fallback=table.take("or", from_json, None),
        within=table.take("within", duration, None),
        when=table.take("when", lambda value: _condition(string(value)), None),
        headers=tuple(_headers(table, lambda value: pieces(string(value))).items()),
    )


def _list(value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise ValueError("is not a list of tables; begin each with [[aggregates]]")
    return value


def _route(value: object) -> Pattern:
    found = pattern(string(value))
    if found.segments == ("health",):
        raise ConfigError('"/health" is the gateway\'s own; choose another path')
    return found


def _fixed(path: str) -> str:
    if target(path).names:
        raise ConfigError(f'"{path}" refers to something, and a health check knows nothing; write a plain path')
    return path


def _condition(written: str) -> Reference:
    """A reference, in its braces or without them."""
    found = pieces(written)
    if len(found) == 1 and isinstance(found[0], Reference):
        return found[0]
    return reference(written)


def _headers(table: Table, convert: Callable[[object], T]) -> dict[str, T]:
    headers = Table(table.at("headers"), table.take("headers", secrets, {}))
    for name, value in headers.given.items():
        try:
            Headers({name: value if isinstance(value, str) else ""})
        except ConfigError as error:
            raise ConfigError(f"{headers.place}: {error.message}") from None
    return {name: headers.need(name, convert, "") for name in headers.given}
