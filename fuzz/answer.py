"""The parser of answers: whatever a peer says and however it is cut into segments, the outcome is one, and it is never an exception.

An answer is fed as the connection feeds it: nothing after its end, nothing after a fault. A connection that may be kept is used
for the same answer once more, which must then be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fuzz.source import Source, pieces

from corpus import CORPUS
from fairlead.engines.native.answer import MANY, Answer
from fairlead.engines.wire import Limits

SEGMENT = 64 * 1024
LIMITS = (Limits(), Limits(head=300, headers=8, body=40))
METHODS = ("GET", "HEAD", "POST")

_OK = b"HTTP/1.1 200 OK\r\n"
WIRES = (
    _OK + b"Content-Length: 2\r\n\r\nok",
    _OK + b"Content-Length: 2\r\n\r\nok\r\n" + _OK,
    _OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    _OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    _OK + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n1 ; x\r\n!\r\n0\r\nX-Late: 1\r\n\r\n",
    _OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    _OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    _OK + b"Content-Encoding: gzip\r\nContent-Encoding: br\r\nConnection: close\r\n\r\nuntil the end",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 2
    + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    + _OK
    + b"Content-Length: 1\r\n\r\n!",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 33 + _OK + b"Content-Length: 1\r\n\r\n!",
    b"HTTP/1.1 099 What\r\n\r\n" + _OK + b"Content-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02ok",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b'HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: "x"\r\n\r\n',
    b"HTTP/1.1 200\r\nContent-Length:\t 2 \t\r\n\r\nok",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"RTSP/1.0 200 OK\r\n\r\n",
    b"220 mail.example ESMTP\r\n",
    b"\r\n\r\n" + _OK + b"Content-Length: 0\r\n\r\n",
    _OK + b"X-Fold: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    _OK + b"X-Bare: a\nY: b\rZ: c\r\n\r\n",
    _OK + b"X: " + b"x" * 300 + b"\r\nContent-Length: 0\r\n\r\n",
    _OK + b"X-Many: 1\r\n" * 9 + b"\r\n",
    _OK + b"Content-Length: 41\r\n\r\n" + b"x" * 41,
    _OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 70 + b"0\r\n\r\n",
)
SEEDS = [bytes([method, streamed, ended, 1, limits, 1, 3, 17]) + wire for wire in WIRES for method in (0, 1) for streamed in (0, 1) for ended in (0, 1) for limits in (0, 1)]  # fmt: skip

SEEDS += [
    bytes([case.method == "HEAD", streamed, 1, 0, 0, 1, 3, 17]) + case.says
    for case in CORPUS
    for streamed in (0, 1)
    if len(case.says) < 4000
]


def check(data: bytes) -> None:
    source = Source(data)
    method, streamed, ended, switches = source.pick(METHODS), source.flag(), source.flag(), source.flag()
    limits, sizes = source.pick(LIMITS), source.sizes()
    wire = source.rest()[:SEGMENT]

    def outcome(cut: Sequence[bytes], answer: Answer | None = None) -> tuple[Any, ...]:
        return _outcome(answer or Answer(limits), method, cut, streamed=streamed, ended=ended, switches=switches)

    first = Answer(limits)
    whole, _ = outcome([wire], first)
    for cut in (pieces(wire, sizes), pieces(wire, [1])):
        other, left = outcome(cut)
        if left:
            # Bytes after the end: seen in the same segment or not, they never change the answer, and always end the connection.
            assert other[:-1] == whole[:-1], (whole, other)
            assert not whole[-1], f"kept, although {left!r} came after the end"
        else:
            assert other == whole, (whole, other)
    if whole[0] == "complete" and whole[-1]:
        again, _ = outcome([wire], first)
        assert again == whole, f"what one exchange leaves behind: {whole} {again}"


def _outcome(
    answer: Answer, method: str, cut: Sequence[bytes], *, streamed: bool, ended: bool, switches: bool
) -> tuple[tuple[Any, ...], bytes]:
    """What a caller comes to see, last whether the connection is kept; and what the peer said after the end."""
    answer.expect(method, streamed=streamed)
    body: list[bytes | bytearray] = []
    for number, piece in enumerate(cut):
        answer.feed(memoryview(piece))
        assert len(answer.chunks) <= MANY
        assert answer.size <= answer.read
        if answer.fault and switches and answer.switch():
            for raw in cut[number + 1 :]:
                answer.feed(memoryview(raw))
                assert not answer.fault
            return ("another protocol", answer.status, answer.headers, b"".join([*body, *answer.chunks]), False), b""
        if answer.fault:
            return ("fault", answer.too_large), b""
        assert answer.head_done or not answer.complete
        if streamed:
            body += answer.chunks
            answer.chunks.clear()
        if answer.complete:
            left = b"".join(cut[number + 1 :])
            break
    else:
        left = b""
        if ended and not answer.end():
            return ("cut short", answer.head_done), b""
    if not answer.complete:
        return ("incomplete", answer.head_done), b""
    body += answer.chunks
    assert not answer.fault
    assert 200 <= answer.status <= 999
    assert sum(map(len, body)) == answer.size
    answer.chunks.clear()
    return (
        "complete",
        answer.status,
        answer.headers,
        b"".join(body),
        answer.trailers,
        answer.coding,
        not answer.odd,
    ), left
