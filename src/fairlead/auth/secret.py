"""A secret as it is given: as text, wrapped so that it is not shown, or by the name of an environment variable.

It is read when a client is built, so that what is missing is found before the first call.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from fairlead.core import Call, Send
from fairlead.errors import ConfigError
from fairlead.headers import Headers, Pair
from fairlead.message import Response


@runtime_checkable
class Wrapped(Protocol):
    """A secret that is not shown, such as pydantic's SecretStr."""

    def get_secret_value(self) -> str: ...


Secret: TypeAlias = str | Wrapped


def reveal(secret: Secret | None, env: str | None, place: str) -> str:
    """The secret itself; ConfigError naming `place`, or the variable that is missing, and never the secret."""
    if (secret is None) == (env is None):
        raise ConfigError(f"{place}: give the secret, or env= with the name of its environment variable")
    if env is not None:
        if found := os.environ.get(env):
            return found
        raise ConfigError(f"{place}: the environment variable {env} is not set")
    value: object = secret.get_secret_value() if isinstance(secret, Wrapped) else secret
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{place} is {'empty' if value == '' else f'of type {type(value).__name__}, not a string'}")
    return value


def in_header(send: Send, name: str, value: str) -> Send:
    """Sends with one header more, on the attempt's own request; a request that brings that header is left as it is.

    An anonymous call is given nothing.
    """
    added = Headers({name: value})
    key = name.lower().encode("latin-1")
    before: Sequence[Pair] | None = None
    after = added

    def authenticate(call: Call) -> Awaitable[Response]:
        nonlocal before, after
        request = call.request
        headers = request.headers
        if call.anonymous:
            return send(call)
        if headers.raw is not before or headers.framing:
            # Headers that are the same in every call are looked through and joined once.
            for field, _ in headers.raw:
                if field.lower() == key:
                    return send(call)
            before, after = headers.raw, headers.joined(added)
        call.request = request.replace(headers=after.copy())
        return send(call)

    return authenticate
