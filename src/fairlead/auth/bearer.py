"""`Authorization: Bearer ...` (RFC 6750 section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fairlead.auth.secret import Secret, in_header, reveal
from fairlead.core import Send, Upstream


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token that is given, or named by `env`, the environment variable that holds it."""

    token: Secret | None = field(default=None, repr=False)
    env: str | None = field(default=None, kw_only=True)
    name: str = field(default="default", kw_only=True)
    place: ClassVar[str] = "Auth"

    def explain(self) -> str:
        return f"auth: a bearer token{f' from {self.env}' if self.env else ''}"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        return in_header(send, "Authorization", f"Bearer {reveal(self.token, self.env, 'Bearer: token=')}")
