"""A secret as it is given: as text, wrapped so that it is not shown, or by the name of an environment variable.

It is read when a client is built, so that what is missing is found before the first call.
"""

from __future__ import annotations

import os
from typing import Protocol, TypeAlias, runtime_checkable

from fairlead.core import Call, Send
from fairlead.errors import ConfigError
from fairlead.headers import Headers
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

    async def authenticate(call: Call) -> Response:
        if call.anonymous:
            return await send(call)
        request = call.request
        for field, _ in request.headers.raw:
            if field.lower() == key:
                return await send(call)
        call.request = request.replace(headers=request.headers.joined(added))
        return await send(call)

    return authenticate
