"""`Protocol` is uvicorn's HTTP on httptools, but for two things that no application can mend: a trailer is no header, and one answer one write.

    uvicorn service:app --http fairlead.proxy.uvicorn:Protocol

uvicorn 0.54 adds the trailers of a request to the list of headers that the application is given, where they come together with the head.
An application cannot tell them from headers, and RFC 9110 section 6.5.1 forbids to mix them: a proxy in front may have looked at the
headers alone. And it writes a head as soon as it has it, and the body after it: two system calls and two packets for a small answer.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, BaseTransport, Transport
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SMALL: Final = 16 * 1024
"""Bytes of a write that may wait for the next one: what is larger is not worth a copy."""


class Protocol(HttpToolsProtocol):
    """What stands behind the last chunk is dropped, as uvicorn does on h11; what is small is written with what comes next."""

    _together: Together

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._together = Together(self.transport, self.loop)

    def on_headers_complete(self) -> None:
        # uvicorn's own list goes on growing; the application has one that does not.
        self.scope["headers"] = self.headers.copy()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            together: Any = self._together
            self.cycle.transport = together

    def send_400_response(self, msg: str) -> None:
        self._together.flush()  # of the answer before it
        super().send_400_response(msg)

    def on_response_complete(self) -> None:
        self._together.flush()
        super().on_response_complete()


class Together:
    """A transport as an answer uses it: a small write waits for the next, no longer than this turn of the loop."""

    __slots__ = ("_held", "_loop", "_transport", "_turning")

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""
        self._turning = False

    def write(self, data: bytes) -> None:
        if len(data) > SMALL:
            self.flush()
            self._transport.write(data)
        elif self._held:
            held, self._held = self._held, b""
            self._transport.write(held + data)
        else:
            self._held = data
            if not self._turning:
                self._turning = True
                self._loop.call_soon(self._turned)

    def flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def _turned(self) -> None:
        self._turning = False
        self.flush()
