"""A class per external API: subclass `HTTPClient`, or use it as it is. Here are the verbs; `base.py` holds the life of a client."""

from __future__ import annotations

import os
from functools import partial
from typing import Any, Final, TypeVar, Unpack, overload

from fairlead.base import BaseAPIClient
from fairlead.body import Content, Data, Files, Upload, encode
from fairlead.errors import ConfigError, StatusError
from fairlead.headers import Headers, HeaderTypes
from fairlead.keywords import BodyOptions, CallOptions, Otherwise
from fairlead.message import Request, Response
from fairlead.stream import Stream, caller
from fairlead.url import Params, pairs, with_params

T = TypeVar("T")
SENDING: Final = frozenset({"timeout", "priority", *Otherwise.__annotations__})
"""The keywords of a verb that are for `send`."""

__all__ = ["BaseAPIClient", "HTTPClient"]


class HTTPClient(BaseAPIClient):
    """The verbs. Each raises StatusError for 4xx and 5xx unless told `raise_for_status=False`; `into=` decodes JSON to a type."""

    @overload
    async def get(self, path: str, **options: Unpack[CallOptions]) -> Response: ...
    @overload
    async def get(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    async def get(self, path: str, **options: Any) -> Any:
        return await self.request("GET", path, **options)

    @overload
    async def head(self, path: str, **options: Unpack[CallOptions]) -> Response: ...
    @overload
    async def head(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    async def head(self, path: str, **options: Any) -> Any:
        return await self.request("HEAD", path, **options)

    @overload
    async def options(self, path: str, **options: Unpack[CallOptions]) -> Response: ...
    @overload
    async def options(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    async def options(self, path: str, **options: Any) -> Any:
        return await self.request("OPTIONS", path, **options)

    @overload
    async def post(self, path: str, **options: Unpack[BodyOptions]) -> Response: ...
    @overload
    async def post(self, path: str, *, into: type[T], **options: Unpack[BodyOptions]) -> T: ...
    async def post(self, path: str, **options: Any) -> Any:
        return await self.request("POST", path, **options)

    @overload
    async def put(self, path: str, **options: Unpack[BodyOptions]) -> Response: ...
    @overload
    async def put(self, path: str, *, into: type[T], **options: Unpack[BodyOptions]) -> T: ...
    async def put(self, path: str, **options: Any) -> Any:
        return await self.request("PUT", path, **options)

    @overload
    async def patch(self, path: str, **options: Unpack[BodyOptions]) -> Response: ...
    @overload
    async def patch(self, path: str, *, into: type[T], **options: Unpack[BodyOptions]) -> T: ...
    async def patch(self, path: str, **options: Any) -> Any:
        return await self.request("PATCH", path, **options)

    @overload
    async def delete(self, path: str, **options: Unpack[BodyOptions]) -> Response: ...
    @overload
    async def delete(self, path: str, *, into: type[T], **options: Unpack[BodyOptions]) -> T: ...
    async def delete(self, path: str, **options: Any) -> Any:
        return await self.request("DELETE", path, **options)

    @overload
    async def request(self, method: str, path: str, **options: Unpack[BodyOptions]) -> Response: ...
    @overload
    async def request(self, method: str, path: str, *, into: type[T], **options: Unpack[BodyOptions]) -> T: ...
    async def request(
        self,
        method: str,
        path: str,
        *,
        into: Any = None,
        raise_for_status: bool | None = None,
        **options: Any,
    ) -> Any:
        """Any method. `options` are those of `build_request` and of `send`."""
        if options:
            sending = _sending(options)
            response = await self.send(self.build_request(method, path, **options), **sending)
        else:
            response = await self.send(self.build_request(method, path))
        if response.status_code >= 400 and (self.raise_for_status if raise_for_status is None else raise_for_status):
            raise StatusError(response)
        if into is None or into is Response:
            return response
        return response.json(into)

    def stream(self, method: str, path: str, **options: Unpack[BodyOptions]) -> Stream:
        """A response read while it arrives: `async with client.stream("GET", path) as response: ...`. Never raises for a status."""
        parts: dict[str, Any] = {name: value for name, value in options.items() if name != "raise_for_status"}
        sending = _sending(parts)
        return Stream(self.build_request(method, path, **parts), partial(self.send, stream=True, **sending), caller())

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
        route: str | None = None,
    ) -> Request:
        """The request that `send` takes: the path joined to the base URL, the client's headers and params under one's own.

        `route` is the template that the path was made from, if it was: what is kept for each route is kept under it.
        """
        origin, target = self._locate(path)
        if params or self._default_params:
            target = self._with_params(target, params or ())
        fields = self._default_headers.under(Headers(headers)) if headers else self._default_headers.copy()
        body: bytes | Upload | None = b""
        if json is not None or data is not None or content is not None or files is not None:
            body, content_type = encode(content=content, json=json, data=data, files=files)
            if content_type is not None and "content-type" not in fields:
                fields.add("Content-Type", content_type)
        if idempotency_key is not None or idempotent:
            # Set here, before retry, so that every attempt carries the same key.
            fields["Idempotency-Key"] = idempotency_key or os.urandom(16).hex()
        request = Request.build(method, origin, target, fields, body or b"")
        if route is not None:
            request.route = route
        return request

    def _with_params(self, target: str, params: Params) -> str:
        """The client's params and then the call's own: a name of the call replaces the client's."""
        if not self._default_params:
            return with_params(target, params)
        own = params if isinstance(params, str) else list(pairs(params))
        names = {name for name, _ in pairs(own)}
        return with_params(with_params(target, [pair for pair in self._default_params if pair[0] not in names]), own)


def _sending(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are for `send`, taken out."""
    if SENDING.isdisjoint(options):
        return {}
    if not isinstance(priority := options.get("priority", 0), int):
        raise ConfigError(
            f"priority={priority!r} is not a whole number; one with a higher is served first, and 0 is usual"
        )
    return {name: options.pop(name) for name in SENDING & options.keys()}
