"""A proxy's answer to CONNECT: any bytes in any segments, and either a status or a fault, the same for every cut."""

from __future__ import annotations

from typing import Any

from fuzz.source import Source, pieces

from fairlead.engines.native.proxied import Tunnel

SEEDS = [
    bytes([1, 3, 17]) + wire
    for wire in (
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\x00",
        b"HTTP/1.1 099 What\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nA: b\r\n c\r\n\r\n",
        b"\x05\x00",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20 + b"\r\n",
    )
]


def check(data: bytes) -> None:
    source = Source(data)
    sizes, wire = source.sizes(), source.rest()
    whole = _told([wire] if wire else [])
    for cut in (pieces(wire, sizes), pieces(wire, [1])):
        assert _told(cut) == whole, (whole, _told(cut))


def _told(cut: list[bytes]) -> tuple[bool, int, bool]:
    """Whether it answered, with what status, and whether that is a fault."""
    tunnel = Tunnel.__new__(Tunnel)
    tunnel._held, tunnel._before, tunnel._status, tunnel._fault = bytearray(), 0, 0, ""
    tunnel._answered = _Answered()
    for piece in cut:
        tunnel.data_received(piece)
    faulty = bool(tunnel._fault)
    return tunnel._answered.done(), 0 if faulty else tunnel._status, faulty


class _Answered:
    """A future without a loop."""

    def __init__(self) -> None:
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, _: Any) -> None:
        assert not self._done
        self._done = True
