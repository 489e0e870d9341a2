"""`Authorization: Basic ...` (RFC 7617)."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import ClassVar

from fairlead.auth.secret import Secret, in_header, reveal
from fairlead.core import Send, Upstream
from fairlead.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Basic:
    """A name and a password."""

    username: str
    password: Secret = field(repr=False)
    name: str = field(default="default", kw_only=True)
    place: ClassVar[str] = "Auth"

    def __post_init__(self) -> None:
        if ":" in self.username:
            raise ConfigError(
                f"Basic: username={self.username!r} has a colon, which ends the name (RFC 7617 section 2)"
            )

    def explain(self) -> str:
        return f"auth: name and password of {self.username}"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        password = "" if self.password == "" else reveal(self.password, None, "Basic: password=")
        pair = f"{self.username}:{password}".encode()
        return in_header(send, "Authorization", f"Basic {b64encode(pair).decode()}")
