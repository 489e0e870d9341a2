"""`Protocol` is uvicorn's HTTP on httptools, but for one thing: the trailers of a request are not among its headers.

    uvicorn service:app --http fairlead.proxy.uvicorn:Protocol

uvicorn 0.54 adds them to the list of headers that the application is given, where they come together with the head. An application
cannot tell them from headers, and RFC 9110 section 6.5.1 forbids to mix them: a proxy in front may have looked at the headers alone.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Protocol(HttpToolsProtocol):
    """What stands behind the last chunk is dropped, as uvicorn does on h11."""

    def on_headers_complete(self) -> None:
        # uvicorn's own list goes on growing; the application has one that does not.
        self.scope["headers"] = self.headers.copy()
        super().on_headers_complete()
