"""Here the bytes of a response are parsed: one answer at a time, without a socket and without a clock.

llhttp reads; what it does not know is decided here: a HEAD has no body, a message has bounds, one chunked is the only transfer
coding, and nothing may follow the end (RFC 9112 sections 6 and 7). No outcome depends on how the bytes were cut into segments: a
bound is met at the very byte that crosses it, and nothing is decided by what happens to have come along.

Longer than most: it is one state, and `tests/corpus.py` is why.
"""

from __future__ import annotations

from typing import Final, cast

import httptools

from fairlead.engines.native.chunklines import HEAD, ChunkLines, where_it_stopped
from fairlead.engines.wire import Limits
from fairlead.headers import Pair

OVERHEAD: Final = 64 * 1024
"""Bytes of chunk lines, extensions and trailers that any body may have, besides eight for each of its own."""
PAUSE: Final = 1024 * 1024
"""Bytes of framing after which a byte of the body must come: a long one buys no long trailer."""
MANY: Final = 64
"""Chunks that are held one by one; the rest are held in one piece."""
INTERIM: Final = 32
"""1xx answers before the final one."""
TINY: Final = 8
"""Bytes of a segment that is read one by one: what of it follows the answer can then be told."""
EARLY: Final = 32 * 1024
"""Bytes of an answer among which llhttp is helped with a chunk line that it refuses."""
_FRAMING: Final = frozenset(map(len, (b"content-length", b"content-encoding", b"transfer-encoding")))
"""The names that say how a body is framed and coded, by their lengths: nearly every other has another."""
_BEGINS: Final = memoryview(b"HTTP/1.1")
_ANOTHER: Final = "another protocol, which nobody asked for"
_AFTER: Final = "bytes after the end of the answer"


class Answer:
    """What came back so far. `fault` says what is wrong with it; `odd`, why the connection must not be used again: either is its last."""

    __slots__ = (
        "_beyond", "_early", "_enough", "_headless", "_interim", "_length", "_limits", "_lines", "_misread", "_parser", "_pause",
        "_streamed", "_unsure",
        "chunked", "chunks", "coding", "complete", "continued", "fault", "head_done", "headers", "odd", "read", "size", "status",
        "too_large", "trailers",
    )  # fmt: skip

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._enough = min(limits.head, limits.body)
        """Bytes that can break no bound, whatever they are."""
        self._headless = False
        self._parser = httptools.HttpResponseParser(self)
        self._begin_parser()
        self.chunked = False
        self._early: list[bytes] = []
        """The first segments of a chunked answer, or of one whose head is not whole."""
        self._lines: ChunkLines | None = None
        self._misread = False
        self._pause = 0
        self.chunks: list[bytes | bytearray] = []
        """The body as it was sent, and not yet taken: whoever takes it leaves an empty list."""
        self.status = 0
        self.headers: list[Pair] = []
        self.trailers: list[Pair] = []
        """What follows the body; never merged with the headers (RFC 9110 section 6.5.1)."""
        self.fault = self.odd = ""
        self._beyond: bytes | None = None
        """What followed an agreement to another protocol."""
        self.too_large = False
        """Whether its only fault is a body of more than is held."""

    def _begin_parser(self) -> None:
        """Allow what the RFC allows and llhttp does not; what comes through besides is looked at here."""
        self._parser.__init__(self)  # type: ignore[misc]
        self._parser.set_dangerous_leniencies(
            lenient_version=True,  # a higher minor version is read as 1.1 (RFC 9110 section 2.5)
            lenient_keep_alive=True,  # an interim answer that says `close` is not the last
            lenient_chunked_length=True,  # a Content-Length in a trailer means nothing (RFC 9110 section 6.5.1)
            lenient_spaces_after_chunk_size=True,  # `5 ;name=value` (RFC 9112 section 7.1.1)
        )

    def expect(self, method: str, streamed: bool) -> None:
        """Begin anew: the answer to a request of that method comes next."""
        if self._headless:
            self._begin_parser()  # it waits for the body that a HEAD never has
        if self.chunked:
            self.trailers = []
            self._lines = None
            self._misread = False
        if self._early:
            self._early.clear()
        self._headless = method == "HEAD"
        self._streamed = streamed
        self._interim = self._pause = self.read = self.size = 0
        self._length = self.coding = b""
        self.head_done = self.complete = self.continued = self.chunked = self._unsure = False

    def feed(self, data: memoryview) -> None:
        read = self.read
        if read < 8 and (read or data[:8] != _BEGINS):
            if data[: 7 - read] != _BEGINS[read:7][: len(data)]:
                self.fault = "it does not begin with HTTP/1"
                return
            self._unsure = True
        if (
            len(data) > TINY
            and not self._headless
            and (read + len(data) <= self._enough or (self._length and self.size))
        ):
            self._parse(data)  # it can cross no bound
        else:
            self._parse_in_parts(data)

    def end(self) -> bool:
        """The connection ended cleanly; True if that was the end of the body."""
        if self.head_done and not (self._length or self.chunked):
            self.complete = True
            self.odd = "its end was the end of the body"
        return self.complete and not self.fault

    def switch(self) -> bool:
        """Another protocol was asked for: True if it was agreed to. What follows the head is then no message, but raw bytes to its end."""
        if self.status != 101 or self._beyond is None:
            return False
        self.fault = ""
        self.head_done = True
        self._parser = cast("httptools.HttpResponseParser", _Raw(self))
        self._parser.feed_data(self._beyond)
        return True

    def _parse(self, data: memoryview) -> None:
        before = self.size
        self.read += len(data)
        try:
            self._parser.feed_data(data if self._lines is None else self._lines.cleaned(bytes(data)))
        except httptools.HttpParserError as error:
            if self.complete:  # then it is the connection's fault, not the answer's
                self.odd = _AFTER
            elif not self.fault:
                self.fault = self._beyond_limits() or self._read_cleaned(data, str(error))
        except httptools.HttpParserUpgrade as upgrade:
            if self.complete:
                self.odd = _AFTER
            elif self.fault in {"", _ANOTHER}:  # agreeing to it does not undo what was wrong before
                self.fault = _ANOTHER
                self._beyond = bytes(data[upgrade.args[0] :])
        if not self.complete:
            self._go_on(data, before)
        elif data[-1] in b"\r\n":
            self._look_behind(bytes(data), self.size - before)

    def _go_on(self, data: memoryview, before: int) -> None:
        """More is to come."""
        if self._misread:
            self._read_as_chunks()
            if self.complete:
                self._look_behind(bytes(data), 0)
        if self.read <= EARLY and (self.chunked or not self.head_done):
            self._early.append(bytes(data))
        elif self._early:
            self._early.clear()
        if not (before or self.fault):
            self.fault = self._beyond_limits()  # the length may be

    def _parse_in_parts(self, data: memoryview) -> None:
        """In parts that cross a bound by no more than a byte; what answers a HEAD line by line, as it ends with its head."""
        if self.head_done and self._beyond is not None:
            self._parse(data)
            return
        limits, place = self._limits, 0
        lines = bytes(data) if self._headless else b""
        while place < len(data):
            size = self.size
            bound = limits.head + OVERHEAD + 9 * size if self.head_done else limits.head
            end = place + (1 if len(data) <= TINY else max(1, bound + 1 - self.read))
            if lines:
                end = min(end, lines.find(b"\n", place) + 1 or end)
            part = data[place:end]
            place += len(part)
            self._parse(part)
            self._pause = self._pause + len(part) if self.size == size else 0
            if not self.fault and (self.size > limits.body or not self.complete):
                self.fault = self._beyond_limits()
            if self.fault:
                if self._beyond is not None:
                    self._beyond += data[place:]
                return
            if self.complete:
                if place < len(data):
                    self.odd = _AFTER
                return

    def _look_behind(self, data: bytes, taken: int) -> None:
        """Whether line breaks follow the answer in its last segment, of which so many bytes are its body: llhttp skips them."""
        after = len(data) - len(data.rstrip(b"\r\n"))
        own = 4
        if taken and not self.chunked:
            body = bytes(self.chunks[-1][-taken:])
            own = len(body) - len(body.rstrip(b"\r\n"))
            if own == taken < after < len(data):
                own += 4
        if after > own:
            self.odd = self.odd or _AFTER

    # Where llhttp is helped

    def _read_as_chunks(self) -> None:
        """It took the chunks for a body up to the close: it knows `chunked`, but no tab or comma after it."""
        self._misread = False
        body = b"".join(self.chunks)
        self.chunks.clear()
        self.size = 0
        self._lines = ChunkLines()
        self.fault = self.fault or self._read_chunks(self._lines.cleaned(body))

    def _read_cleaned(self, data: memoryview, error: str) -> str:
        """Go on from the chunk line at which it stopped. What is wrong with that, if it was not the blanks in it."""
        if (
            self._lines is not None
            or not error.startswith("Invalid character in chunk ext")
            or self.read - len(data) > EARLY
        ):
            return error
        raw = b"".join([*self._early, data])
        self._lines = ChunkLines()
        return self._read_chunks(self._lines.cleaned(raw[where_it_stopped(raw, self._interim, self.size) :]))

    def _read_chunks(self, data: bytes) -> str:
        """Begin anew before a chunk line; what the parser has to say of a head is not heard."""
        self._begin_parser()
        self.complete = True
        self._parser.feed_data(HEAD)
        self.complete = False
        self.odd = "the peer closes it" if self._says_close() else ""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                return self._beyond_limits() or str(error)
            self.odd = _AFTER
        return ""

    # The parser's callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            self.odd = "a second answer came"
        else:
            self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_done:
            self.headers.append((name, value))
        elif not self.complete:
            self.trailers.append((name, value))
            if len(self.trailers) > self._limits.headers:
                self.fault = f"more than {self._limits.headers} trailer fields"

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        self.status = status = self._parser.get_status_code()
        if status < 200:
            self._not_yet(status)
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
                if self.chunked or value.strip(b" \t,").lower() != b"chunked":
                    self.fault = "a transfer coding other than one chunked"
                self.chunked = True
                self._misread = value.rstrip(b" ").endswith((b"\t", b","))
        if self.chunked and self._length:
            self.fault = "both a length and a transfer coding"
        if self._unsure or len(self.headers) > self._limits.headers:
            self.fault = self.fault or self._head_fault()
        self.head_done = not self.fault
        if self._headless:
            self.on_message_complete()

    def on_body(self, chunk: bytes) -> None:
        if self.complete:
            self.odd = _AFTER
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
        if self.head_done and not self.complete:
            self.complete = True
            if self.trailers and sum([len(name) + len(value) + 4 for name, value in self.trailers]) > self._limits.head:
                self.fault = f"trailers of more than {self._limits.head} bytes"
            if not self._parser.should_keep_alive():  # asked here: the parser forgets it with the message
                self.odd = "the peer closes it"

    # What stands in a head

    def _not_yet(self, status: int) -> None:
        """An interim answer."""
        self._interim += 1
        self._unsure = True  # of the version that the next one names
        self.continued = self.continued or status == 100
        if self.fault:
            return
        if status < 100:
            self.fault = f"status {status:03}"
        elif status == 101:
            self.fault = _ANOTHER
        elif self._interim > INTERIM:
            self.fault = f"more than {INTERIM} interim answers"
        elif status > 103 and any(
            name.lower() in {b"content-length", b"transfer-encoding"} for name, _ in self.headers
        ):
            self.fault = "an interim answer with a body"  # llhttp would take what follows for it

    def _head_fault(self) -> str:
        if len(self.headers) > self._limits.headers:
            return f"more than {self._limits.headers} header fields"
        version = self._parser.get_http_version()
        if version[0] != "1":
            return "it does not begin with HTTP/1"
        if version == "1.0":
            if self.chunked:
                return "a transfer coding in HTTP/1.0"
            if self._says_close():  # llhttp hears only that it also says keep-alive
                self.odd = "the peer closes it"
        return ""

    def _says_close(self) -> bool:
        tokens = b",".join([value for name, value in self.headers if name.lower() == b"connection"]).lower()
        return b"close" in [token.strip(b" \t") for token in tokens.split(b",")]

    def _beyond_limits(self) -> str:
        limits = self._limits
        if not self.head_done:
            return f"a head of more than {limits.head} bytes" if self.read > limits.head else ""
        if not self._streamed and not self._headless and max(self.size, int(self._length or 0)) > limits.body:
            self.too_large = True
            return f"more than {limits.body} bytes"
        if self.read - self.size > limits.head + OVERHEAD + 8 * self.size or self._pause > PAUSE:
            return "more framing than body"
        return ""


class _Raw:
    """Stands where the parser stood, once the connection speaks another protocol."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def feed_data(self, data: bytes | memoryview) -> None:
        if data:
            self._answer.on_body(bytes(data))
