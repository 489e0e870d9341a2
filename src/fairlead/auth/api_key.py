"""A key in a header of the upstream's choosing, or in the query where it knows no better."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fairlead.auth.secret import Secret, in_header, reveal
from fairlead.core import Call, Send, Upstream
from fairlead.message import Response
from fairlead.url import with_params


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that is given, or named by `env`; sent as `header`, or as the parameter `query` if that is set."""

    key: Secret | None = field(default=None, repr=False)
    env: str | None = field(default=None, kw_only=True)
    header: str = field(default="X-API-Key", kw_only=True)
    query: str | None = field(default=None, kw_only=True)
    name: str = field(default="default", kw_only=True)
    place: ClassVar[str] = "Auth"

    def explain(self) -> str:
        where = f"in the query as {self.query}" if self.query is not None else f"in the header {self.header}"
        return f"auth: a key {where}{f', from {self.env}' if self.env else ''}"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        key = reveal(self.key, self.env, "ApiKey: key=")
        if self.query is None:
            return in_header(send, self.header, key)
        params = {self.query: key}

        async def authenticate(call: Call) -> Response:
            if not call.anonymous:
                call.request = call.request.replace(target=with_params(call.request.target, params))
            return await send(call)

        return authenticate
