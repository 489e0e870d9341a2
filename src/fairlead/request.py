"""A request, with httpx's names and none of its weight: where it goes, its header pairs, and a body of bytes or an upload."""

from __future__ import annotations

import re
from typing import Any, Final, Self

from fairlead.body import Content, Data, Files, Upload, encode
from fairlead.errors import ConfigError
from fairlead.headers import Headers, HeaderTypes
from fairlead.url import Origin, Params, split, with_params

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
"""Methods that mean the same once or twice (RFC 9110 section 9.2.2; QUERY from its own draft)."""
_blank: Final = object.__new__  # asked of a class, it costs twice as much
METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
"""A method (RFC 9110 section 9.1), as `METHOD(method)` is not None."""


class Request:
    """One request: `method`, `origin` and `target` (see `fairlead.url`), `headers`, and a body of bytes or an `Upload`.

    `route` is the path's template where one is known, as of a declared call: "/users/{id}".
    """

    __slots__ = ("content", "headers", "idempotent", "method", "origin", "route", "target")

    def __init__(
        self,
        method: str,
        url: str,
        *,
        params: Params | None = None,
        headers: HeaderTypes | None = None,
        content: Content | None = None,
        json: Any = None,
        data: Data | None = None,
        files: Files | None = None,
        idempotent: bool | None = None,
    ) -> None:
        origin, target = split(url)
        body, content_type = encode(content=content, json=json, data=data, files=files)
        fields = Headers(headers)
        if content_type is not None and "content-type" not in fields:
            fields.add("Content-Type", content_type)
        self._fill(method, origin, with_params(target, params) if params else target, fields, body or b"")
        if idempotent is not None:
            self.idempotent = idempotent

    @classmethod
    def build(cls, method: str, origin: Origin, target: str, headers: Headers, content: bytes | Upload = b"") -> Self:
        """From parts that are ready to be sent, as `fairlead.url` makes them."""
        self: Self = _blank(cls)
        self._fill(method, origin, target, headers, content)
        return self

    def _fill(self, method: str, origin: Origin, target: str, headers: Headers, content: bytes | Upload) -> None:
        self.method = method
        self.origin = origin
        self.target = target
        self.headers = headers
        self.content = content
        self.route: str | None = None
        self.idempotent = idempotent = method in IDEMPOTENT
        if not idempotent:
            if METHOD(method) is None:
                raise ConfigError(f"{method!r} is not a method: use a word such as GET")
            self.method = method.upper()
            self.idempotent = self.method in IDEMPOTENT or "idempotency-key" in headers
        """Whether sending it twice means the same as once, by its method or by its key."""

    @property
    def url(self) -> str:
        return f"{self.origin}{self.target}"

    @property
    def place(self) -> str:
        """The URL without its query, which may hold secrets."""
        return f"{self.origin}{self.target.partition('?')[0]}"

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent again."""
        return type(self.content) is bytes or (isinstance(self.content, Upload) and self.content.replayable)

    def with_header(self, name: str, value: str) -> Request:
        """The same request with one header set. The original, which other attempts may share, stays as it is."""
        headers = self.headers.copy()
        headers[name] = value
        return self.replace(headers=headers)

    def replace(self, *, target: str | None = None, headers: Headers | None = None) -> Request:
        """The same request with another target or other headers."""
        copy: Request = _blank(Request)
        copy.method = self.method
        copy.origin = self.origin
        copy.target = target or self.target
        copy.headers = self.headers if headers is None else headers
        copy.content = self.content
        copy.route = self.route
        copy.idempotent = self.idempotent
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, as by an error that goes to another process, it keeps its method and its place: the rest may hold secrets."""
        fields = Headers(self.headers.redacted())
        made = Request.build, (self.method, self.origin, self.target.partition("?")[0], fields)
        return made if self.route is None else (*made, (None, {"route": self.route}))

    def __copy__(self) -> Request:
        return self.replace(headers=self.headers.copy())

    def __deepcopy__(self, memo: object) -> Request:
        return self.__copy__()

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.place}>"
