"""Messages over the raw connection to an upstream: what a frame is, the library `websockets` knows (RFC 6455 sections 5 to 7).

Here its frames become whole messages, its own answers (a pong, a close) are sent, and whatever ends the connection becomes one `Close`.
"""

from __future__ import annotations

import logging
from asyncio import sleep
from collections import deque
from contextlib import suppress
from math import inf
from typing import Final, NamedTuple

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from fairlead.errors import Disconnected, FairleadError, ProtocolError
from fairlead.message import Request, Upgraded

PIECE: Final = 4 * 1024
"""Bytes that are parsed at a time, in one turn of the loop: the smallest frames are two bytes long, and 16 KiB of those stop it for 70 ms."""
MANY: Final = 64
"""Frames in a piece after which others have their turn."""
BEHIND: Final = 64 * 1024
"""Bytes of pongs that may wait behind a message which the upstream does not take."""
CONTROL: Final = 125
"""Bytes of a control frame, and with two of them for the code, of a close (RFC 6455 section 5.5)."""
REASON: Final = CONTROL - 2
"""Bytes of a reason."""

NONE: Final = 1005
ABNORMAL: Final = 1006


class Close(NamedTuple):
    """How a connection ended, or is to end; 1005 for a close without a code, 1006 for an end without a close."""

    code: int = NONE
    reason: str = ""
    fault: FairleadError | None = None


def sendable(code: int) -> bool:
    """Whether a close frame may have this code (RFC 6455 section 7.4, with what IANA has registered since)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def cut(reason: str) -> str:
    """As much of a reason as fits."""
    return reason.encode(errors="replace")[:REASON].decode(errors="ignore")


class Messages:
    """One reader and one writer at a time."""

    def __init__(self, raw: Upgraded, request: Request, largest: int | None) -> None:
        self._raw = raw
        self._request = request
        # Its own log would show, at DEBUG, what is in the frames.
        logger = logging.Logger("fairlead.websocket", logging.ERROR)  # noqa: LOG001
        logger.parent = logging.getLogger("fairlead")
        # The library counts a ping, or a close, with the message that it comes in the midst of: for those there is room, and
        # what a message may have is counted here.
        self._largest = inf if largest is None else largest
        self._protocol = Protocol(CLIENT, max_size=None if largest is None else largest + CONTROL, logger=logger)
        self._pieces: deque[bytes] = deque()
        self._ready: deque[str | bytes] = deque()
        self._parts: bytearray | None = None
        self._text = False
        self._writing = 0
        self._behind = b""
        self.ended: Close | None = None
        """How the upstream ended it, once it has."""
        self.heard = 0
        """How often something came."""
        self.listening = False
        """Whether somebody waits for what comes next."""

    async def receive(self) -> str | bytes | None:
        """The next message; None once `ended` says how it ended. Never raises what a connection raises."""
        while not self._ready:
            if self.ended is not None:
                return None
            try:
                await self._more()
            except FairleadError as error:
                self.ended = Close(ABNORMAL, "", error)
        return self._ready.popleft()

    async def send(self, message: str | bytes) -> None:
        """Waits while the upstream does not take it. Raises TransportError or TimedOut."""
        try:
            if isinstance(message, str):
                self._protocol.send_text(message.encode())
            else:
                self._protocol.send_binary(message)
        except InvalidState:
            raise Disconnected("the upstream has closed it", request=self._request, phase="body") from None
        await self._write(self._taken())

    async def ping(self) -> bool:
        """Ask the upstream for a sign of life, unless it is being sent something that it has not taken yet: whether it was asked."""
        if self._writing or not self._open:
            return False
        self._protocol.send_ping(b"")
        await self._reply()
        return True

    async def close(self, code: int = NONE, reason: str = "") -> None:
        """Say that it ends, unless that was said. What the upstream still sends, `receive` gives."""
        if self._open:
            self._protocol.send_close(code if sendable(code) else None, cut(reason) if sendable(code) else "")
            await self._reply()

    async def drained(self) -> None:
        """Wait until the upstream has closed the connection, as a server does first (RFC 6455 section 7.1.1); raises what `read` does."""
        while await self.receive() is not None:
            pass
        while await self._raw.read():
            pass

    @property
    def _open(self) -> bool:
        return self._protocol.state is OPEN

    # What comes

    async def _more(self) -> None:
        if not self._pieces:
            self.listening = True
            try:
                data = await self._raw.read()
            finally:
                self.listening = False
            self.heard += 1
            if not data:
                self._protocol.receive_eof()
                self.ended = Close(ABNORMAL, "", Disconnected("the upstream ended it without a close", request=self._request, phase="body"))  # fmt: skip
                return
            self._pieces.extend(data[start : start + PIECE] for start in range(0, len(data), PIECE))
        self._protocol.receive_data(self._pieces.popleft())
        frames = self._protocol.events_received()
        for frame in frames:
            self._take(frame)  # type: ignore[arg-type]  # of an open connection, all events are frames
            if self.ended is not None:
                break
        else:
            if self._protocol.parser_exc is not None:
                self._refused()
        await self._reply()
        if len(frames) > MANY:
            await sleep(0)

    def _take(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.CLOSE:
            received = self._protocol.close_rcvd
            assert received is not None
            self.ended = Close(int(received.code), received.reason)
        elif opcode is Opcode.CONT:
            assert self._parts is not None
            self._parts += frame.data
            self._grown(self._parts, frame.fin)
        elif opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            self._text = opcode is Opcode.TEXT
            if frame.fin:
                self._grown(frame.data, True)
            else:
                self._parts = bytearray(frame.data)
                self._grown(self._parts, False)

    def _grown(self, data: bytes | bytearray | memoryview, whole: bool) -> None:
        if len(data) > self._largest:
            self._protocol.fail(1009)
            self._broken(1009)
        elif whole:
            self._whole(data)

    def _whole(self, data: bytes | bytearray | memoryview) -> None:
        self._parts = None
        if not self._text:
            self._ready.append(bytes(data))
            return
        try:
            self._ready.append(str(data, "utf-8"))
        except UnicodeDecodeError:
            self._protocol.fail(1007)
            self._broken(1007)

    def _refused(self) -> None:
        """The library reads no further, and has told the upstream why."""
        if (received := self._protocol.close_rcvd) is not None:
            # A close in the midst of a message: it takes that for an error, but it is how the upstream ended it.
            self.ended = Close(int(received.code), received.reason)
            return
        sent = self._protocol.close_sent
        self._broken(int(sent.code) if sent is not None else ABNORMAL)

    def _broken(self, code: int) -> None:
        told = "a message too large" if code == 1009 else f"no valid WebSocket ({code})"
        self.ended = Close(
            ABNORMAL, "", ProtocolError(f"what came back is {told}", request=self._request, phase="body")
        )

    # What goes out

    async def _reply(self) -> None:
        """Send what the library answers: never waiting for an upstream that takes nothing, as it may do so until it is heard."""
        data = self._taken()
        if not data:
            return
        if self._writing and len(self._behind) < BEHIND:
            self._behind += data
            return
        with suppress(FairleadError):  # whoever reads learns why
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        self._writing += 1
        try:
            await self._raw.write(data)
            while self._behind:
                data, self._behind = self._behind, b""
                await self._raw.write(data)
        finally:
            self._writing -= 1

    def _taken(self) -> bytes:
        return b"".join(self._protocol.data_to_send())
