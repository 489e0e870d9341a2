"""Here bytes are parsed: one answer at a time, without a socket and without a clock.

llhttp reads; what it does not know is decided here: a HEAD has no body, a message has bounds, one chunked is the only transfer
coding, and nothing may follow the end. Outcomes are decided after `feed_data` returns, never inside its callbacks, so that they
do not depend on how the bytes were cut into segments (RFC 9112 sections 6 and 7).
"""

from __future__ import annotations

from typing import Final, cast

import httptools

from fairlead.engines.wire import Limits
from fairlead.headers import Pair

OVERHEAD: Final = 64 * 1024
"""Bytes of chunk lines, extensions and trailers that any body may have, besides eight for each of its own."""
MANY: Final = 64
"""Chunks that are held one by one; the rest are held in one piece."""
_BEGINS: Final = memoryview(b"HTTP/1.")
_FRAMING: Final = frozenset(map(len, (b"content-length", b"content-encoding", b"transfer-encoding")))
"""The names that say how a body is framed and coded, by their lengths: nearly every other has another."""
INTERIM: Final = 32
"""1xx answers before the final one."""


class Answer:
    """What came back so far. `fault` says what is wrong with it; `odd`, why the connection must not be used again: either is its last."""

    __slots__ = (
        "_beyond", "_chunked", "_enough", "_headless", "_interim", "_length", "_limits", "_parser", "_streamed",
        "chunks", "coding", "complete", "continued", "fault", "head_done", "headers", "odd", "read", "size", "status", "too_large",
    )  # fmt: skip

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._enough = min(limits.head, limits.body)
        """Bytes that can break no bound, whatever they are."""
        self._headless = False
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: list[Pair] = []
        self.fault = self.odd = ""
        self._beyond: bytes | None = None
        """What followed an agreement to another protocol."""
        self.too_large = False
        """Whether its only fault is a body of more than is held."""

    def expect(self, method: str, streamed: bool) -> None:
        """Begin anew: the answer to a request of that method comes next."""
        if self._headless:
            self._parser.__init__(self)  # type: ignore[misc]  # it waits for the body that a HEAD never has
        self._headless = method == "HEAD"
        self._streamed = streamed
        self._interim = self.read = self.size = 0
        self._length = self.coding = b""
        self.chunks: list[bytes | bytearray] = []
        """The body as it was sent, and not yet taken."""
        self.head_done = self.complete = self.continued = self._chunked = False

    def feed(self, data: memoryview) -> None:
        read = self.read
        if read < 7 and (read or data[:7] != _BEGINS) and data[: 7 - read] != _BEGINS[read : read + len(data)]:
            self.fault = "it does not begin with HTTP/1"
            return
        self.read = read = read + len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # After the answer's end it is the connection's fault, not the answer's.
            if self.complete:
                self.odd = "bytes after the end of the answer"
            else:
                self.fault = self.fault or str(error)
        except httptools.HttpParserUpgrade as upgrade:
            self.fault = "another protocol, which nobody asked for"
            self._beyond = bytes(data[upgrade.args[0] :])
        if read > self._enough or not self.complete or len(self.headers) > self._limits.headers:
            self.fault = self.fault or self._beyond_limits()

    def switch(self) -> bool:
        """Another protocol was asked for: True if it was agreed to. What follows the head is then no message, but raw bytes to its end."""
        if self.status != 101 or self._beyond is None:
            return False
        self.fault = ""
        self.head_done = True
        self._parser = cast("httptools.HttpResponseParser", _Raw(self))
        self._parser.feed_data(self._beyond)
        return True

    def end(self) -> bool:
        """The connection ended cleanly; True if that was the end of the body."""
        if self.head_done and not (self._length or self._chunked):
            self.complete = True
            self.odd = "its end was the end of the body"
        return self.complete and not self.fault

    # The parser's callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            self.odd = "a second answer came"
        else:
            self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_done:  # else a trailer, which is never merged (RFC 9110 section 6.5.1)
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        self.status = status = self._parser.get_status_code()
        if status < 200:
            self.continued = self.continued or status == 100
            return
        for name, value in self.headers:
            if len(name) not in _FRAMING:
                continue
            field = name.lower()
            if field == b"content-length":
                self._length = value
            elif field == b"content-encoding":
                self.coding = self.coding + b"," + value if self.coding else value
            elif field == b"transfer-encoding":
                if self._chunked or value.strip().lower() != b"chunked" or self._parser.get_http_version() != "1.1":
                    self.fault = "a transfer coding other than one chunked"
                self._chunked = True
        self.head_done = True
        if self._headless:
            self.on_message_complete()

    def on_body(self, chunk: bytes) -> None:
        if self.complete:
            self.odd = "bytes after the end of the answer"
            return
        self.size += len(chunk)
        chunks = self.chunks
        if len(chunks) < MANY:
            chunks.append(chunk)
        else:  # bytes of their own for each of a million small chunks would cost thirty times the body
            if type(chunks[-1]) is bytes:
                chunks[-1] = bytearray(chunks[-1])
            chunks[-1] += chunk

    def on_message_complete(self) -> None:
        if not self.head_done:
            self._interim += 1
        elif not self.complete:
            self.complete = True
            if not self._parser.should_keep_alive():  # asked here: the parser forgets it with the message
                self.odd = "the peer closes it"

    def _beyond_limits(self) -> str:
        limits = self._limits
        if len(self.headers) > limits.headers:
            return f"more than {limits.headers} header fields"
        if self.head_done:
            if self.read - self.size > limits.head and self._head() > limits.head:
                return f"a head of more than {limits.head} bytes"
            if self.read - self.size > limits.head + OVERHEAD + 8 * self.size:
                return "more framing than body"
            held = not self._streamed and not self._headless
            if held and max(self.size, int(self._length or 0)) > limits.body:
                self.too_large = True
                return f"more than {limits.body} bytes"
            return ""
        if self.read > limits.head:
            return f"a head of more than {limits.head} bytes"
        if self.status == 101:
            return "another protocol, which nobody asked for"
        if self._interim > INTERIM:
            return f"more than {INTERIM} interim answers"
        if 0 < self.status < 100:
            return f"status {self.status:03}"
        return ""

    def _head(self) -> int:
        """The size of the head, without its first line."""
        return sum([len(name) + len(value) + 4 for name, value in self.headers])


class _Raw:
    """Stands where the parser stood, once the connection speaks another protocol."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def feed_data(self, data: bytes | memoryview) -> None:
        if data:
            self._answer.on_body(bytes(data))
