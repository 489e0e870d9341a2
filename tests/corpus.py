"""Strange servers, each judged by the RFCs: what the server says, what its caller must see, and which of the choices left is ours.

The first outcome of a case is ours; whatever follows it the RFC allows as well, and a client that does either agrees with it.
Where we choose what the RFC does not say, `ours=` stands apart, and counts as a difference.

Longer than most: it is a table.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Pairs = tuple[tuple[bytes, bytes], ...]


class End(Enum):
    """What a server does when it has said everything."""

    OPEN = "stays, and answers whatever is asked next"
    FIN = "closes"
    RST = "resets; over TLS: cuts the connection without TLS's own word"


OPEN, FIN, RST = End.OPEN, End.FIN, End.RST


@dataclass(frozen=True)
class Outcome:
    """What a caller sees: an error, or an answer. `kept`: whether the connection serves the next call."""

    error: str = ""
    status: int = 200
    body: bytes = b""
    kept: bool = True
    closes: bool = False
    """Whether the RFC forbids to use the connection again."""
    fields: Pairs = ()
    """Header fields that must be there, with exactly these values."""
    absent: tuple[bytes, ...] = ()
    """Header fields that must not be there."""
    trailers: Pairs | None = None
    """What follows the body, exactly; None where nobody looks."""


@dataclass(frozen=True)
class Case:
    name: str
    rfc: str
    says: bytes
    allowed: tuple[Outcome, ...]
    """What the RFC allows."""
    ours: Outcome
    group: str = ""
    end: End = OPEN
    method: str = "GET"
    later: bytes = b""
    """Said once the caller has its answer."""
    ends_later: End = OPEN
    forever: bytes = b""
    """Said again and again, until the caller goes."""
    drip: bytes = b""
    """The same, but slowly: it never fills a limit before the time is up."""
    uploads: int = 0
    """Bytes of a request body that the server never reads."""
    tls: bool = False
    warm: bool = False
    """Whether the connection served another call before, and is closed instead of answering this one."""
    streamed: Outcome | None = None
    """What a stream comes to, where that is another thing than a buffered answer."""

    @property
    def wire(self) -> bool:
        """Whether all of it is in the bytes of one answer, so that a parser alone can decide it."""
        return not (self.later or self.ends_later is not OPEN or self.uploads or self.tls or self.warm or self.drip)

    @property
    def stalls(self) -> bool:
        """Whether only the timer ends it."""
        return self.ours.error == LATE

    @property
    def chosen(self) -> bool:
        """Whether ours is not what the RFC says."""
        return self.ours not in self.allowed


BROKEN, CUT, LATE = "ProtocolError", "Disconnected", "AttemptTimedOut"


def gives(body: bytes = b"hello", status: int = 200, **more) -> Outcome:
    """An answer, and a connection that may serve again."""
    return Outcome(status=status, body=body, **more)


def alone(body: bytes = b"hello", status: int = 200, **more) -> Outcome:
    """An answer, and a connection that we give up; the RFC leaves that to us."""
    return Outcome(status=status, body=body, kept=False, **more)


def last(body: bytes = b"hello", status: int = 200, **more) -> Outcome:
    """An answer, and a connection that must not be used again."""
    return Outcome(status=status, body=body, kept=False, closes=True, **more)


broken = Outcome(BROKEN, 0, kept=False)
cut = Outcome(CUT, 0, kept=False)
late = Outcome(LATE, 0, kept=False)
spoiled = Outcome(BROKEN, 0)
"""A body that is no good, in framing that is: a stream is told at its end, when the connection has gone back already."""


def case(name: str, rfc: str, says: bytes, *allowed: Outcome, ours: Outcome | None = None, **more) -> Case:
    return Case(name, rfc, says, allowed, ours or allowed[0], **more)


# Words of which the table is made

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = b"Content-Length: 5\r\n"
HELLO = FIVE + b"\r\nhello"
TE = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
CHUNKED = TE + b"\r\n" + CHUNKS
SECOND = OK + b"Content-Length: 6\r\n\r\nsecond"
MIB = 1 << 20


def length(value: bytes) -> bytes:
    """An answer whose Content-Length has that value."""
    return OK + b"Content-Length:" + value + b"\r\n\r\nhello"


def coded(value: bytes) -> bytes:
    """An answer whose Transfer-Encoding has that value, and whose body is chunked."""
    return OK + b"Transfer-Encoding:" + value + b"\r\n\r\n" + CHUNKS


def chunk(line: bytes, end: bytes = b"\r\n") -> bytes:
    """A chunked answer whose first chunk has that line."""
    return OK + TE + b"\r\n" + line + end + b"hello\r\n0\r\n\r\n"


def trailer(*lines: bytes) -> bytes:
    return OK + TE + b"\r\n5\r\nhello\r\n0\r\n" + b"".join([line + b"\r\n" for line in lines]) + b"\r\n"


def status(line: bytes) -> bytes:
    return line + b"\r\n" + HELLO


def header(*lines: bytes) -> bytes:
    return OK + b"".join([line + b"\r\n" for line in lines]) + HELLO


def framed(body: bytes, *lines: bytes) -> bytes:
    return OK + b"".join([line + b"\r\n" for line in lines]) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def content(coding: bytes, body: bytes) -> bytes:
    return framed(body, b"Content-Encoding: " + coding)


def saw(name: bytes, value: bytes, **more) -> Outcome:
    return gives(fields=((name, value),), **more)


def bare(plain: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(plain) + made.flush()


GZIP = gzip.compress(b"hello", mtime=0)
ZSTD = zstd.compress(b"hello", options={zstd.CompressionParameter.checksum_flag: 1})
BR = brotli.compress(b"hello")
DECORATED = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x04\x00extra"[:2] + b"more" + b"name\x00" + b"comment\x00"
"""A gzip head with an extra field, a name and a comment; its check (FHCRC) follows."""
DECORATED += (zlib.crc32(DECORATED) & 0xFFFF).to_bytes(2, "little")
_wide = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 24})
WIDE = _wide.compress(bytes(MIB)) + _wide.flush()
"""One MiB, in a frame that asks for a window of 16."""


@lru_cache
def bomb(coding: bytes, size: int = 100 * MIB) -> bytes:
    """Zeros, far smaller than they are."""
    if coding == b"gzip":
        made = zlib.compressobj(9, wbits=31)
        return b"".join([made.compress(bytes(MIB)) for _ in range(size // MIB)]) + made.flush()
    if coding == b"br":
        press = brotli.Compressor(quality=5)
        return b"".join([press.process(bytes(MIB)) for _ in range(size // MIB)]) + press.finish()
    squeeze = zstd.ZstdCompressor()
    return b"".join([squeeze.compress(bytes(MIB)) for _ in range(size // MIB)]) + squeeze.flush()


# fmt: off
LENGTHS = (
    case("a length", "9110 8.6", OK + HELLO, gives()),
    case("length 0", "9110 8.6", OK + b"Content-Length: 0\r\n\r\n", gives(b"")),
    case("leading zeros", "9110 8.6", length(b" 0005"), gives()),
    case("sixty leading zeros", "9110 8.6", length(b" " + b"0" * 60 + b"5"), gives(), broken),
    case("blanks before the number", "9112 5", length(b" \t  5"), gives()),
    case("blanks after the number", "9112 5", length(b" 5  \t"), gives()),
    case("no blank after the colon", "9112 5", length(b"5"), gives()),
    case("the name in capitals", "9110 5.1", OK + b"CONTENT-LENGTH: 5\r\n\r\nhello", gives()),
    case("the name in small letters", "9110 5.1", OK + b"content-length: 5\r\n\r\nhello", gives()),
    case("twice, equal", "9110 8.6", OK + FIVE + HELLO, broken, gives(), last()),
    case("twice, unequal", "9112 6.3", OK + b"Content-Length: 2\r\n" + HELLO, broken),
    case("twice, unequal, the larger first", "9112 6.3", OK + b"Content-Length: 99\r\n" + HELLO, broken),
    case("`5, 5`", "9110 8.6", length(b" 5, 5"), broken, gives(), last()),
    case("`5,5`", "9110 8.6", length(b"5,5"), broken, gives(), last()),
    case("`5, 6`", "9112 6.3", length(b" 5, 6"), broken),
    case("`5,`", "9112 6.3", length(b" 5,"), broken),
    case("`+5`", "9112 6.3", length(b" +5"), broken),
    case("`-5`", "9112 6.3", length(b" -5"), broken),
    case("`-0`", "9112 6.3", length(b" -0"), broken),
    case("`0x5`", "9112 6.3", length(b" 0x5"), broken),
    case("`5.0`", "9112 6.3", length(b" 5.0"), broken),
    case("`5e0`", "9112 6.3", length(b" 5e0"), broken),
    case("`0_5`", "9112 6.3", length(b" 0_5"), broken),
    case("`5 5`", "9112 6.3", length(b" 5 5"), broken),
    case("`5;x`", "9112 6.3", length(b" 5;x"), broken),
    case('`"5"`', "9112 6.3", length(b' "5"'), broken),
    case("`five`", "9112 6.3", length(b" five"), broken),
    case("nothing", "9112 6.3", length(b""), broken),
    case("blanks only", "9112 6.3", length(b"   "), broken),
    case("a superscript five (Latin-1)", "9112 6.3", length(b" \xb2"), broken),
    case("an Arabic five (UTF-8)", "9112 6.3", length(b" \xd9\xa5"), broken),
    case("a vertical tab before the number", "9112 6.3", length(b" \x0b5"), broken),
    case("a no-break space after the number", "9112 6.3", length(b" 5\xa0"), broken),
    case("2^64 + 5", "9110 8.6", length(b" 18446744073709551621"), broken, cut, end=FIN),
    case("forty nines", "9110 8.6", length(b" " + b"9" * 40), broken, cut, end=FIN),
    case("more than is held", "9110 8.6", length(b" 999999999999999"), broken, cut, end=FIN, streamed=cut),
    case("the name with a low line", "9110 5.1", OK + b"Content_Length: 2\r\n" + HELLO, gives()),
    case("less than was announced, then a close", "9112 8", OK + b"Content-Length: 9\r\n\r\nhello", cut, end=FIN),
    case("less than was announced, then a reset", "9112 8", OK + b"Content-Length: 9\r\n\r\nhello", cut, end=RST),
    case("less than was announced, then silence", "9112 8", OK + b"Content-Length: 9\r\n\r\nhello", late),
    case("nothing of what was announced", "9112 8", OK + FIVE + b"\r\n", cut, end=FIN),
    case("all of it, then a close", "9112 6.3", OK + HELLO, alone(), end=FIN),
    case("all of it, then a reset", "9112 6.3", OK + HELLO, alone(), cut, end=RST),
    case("more than was announced", "9112 6.3", OK + HELLO + b" world", alone(), gives()),
    case("bytes where none were announced", "9112 6.3", OK + b"Content-Length: 0\r\n\r\nhello", alone(b""), gives(b"")),
)

BOTH = (
    case("a length, then chunks", "9112 6.3", OK + FIVE + CHUNKED, broken, last()),
    case("chunks, then a length", "9112 6.3", OK + TE + FIVE + b"\r\n" + CHUNKS, broken, last()),
    case("length 0 and chunks", "9112 6.3", OK + b"Content-Length: 0\r\n" + CHUNKED, broken, last()),
    case("a broken length and chunks", "9112 6.3", OK + b"Content-Length: five\r\n" + CHUNKED, broken, last()),
    case("two lengths and chunks", "9112 6.3", OK + FIVE + b"Content-Length: 6\r\n" + CHUNKED, broken, last()),
    case("a length and `identity`", "9112 6.3", OK + b"Transfer-Encoding: identity\r\n" + HELLO, broken),
    case("a length and `gzip`", "9112 6.3", OK + b"Transfer-Encoding: gzip\r\n" + HELLO, broken),
    case("chunks and a length in a HEAD's answer", "9112 6.3", OK + FIVE + TE + b"\r\n", broken, gives(b""), last(b""), method="HEAD"),
)

CODINGS = (
    case("chunks", "9112 7.1", OK + CHUNKED, gives()),
    case("`Chunked`", "9112 7", coded(b" Chunked"), gives()),
    case("`CHUNKED`", "9112 7", coded(b" CHUNKED"), gives()),
    case("no blank before it", "9112 5", coded(b"chunked"), gives()),
    case("blanks before it", "9112 5", coded(b" \t chunked"), gives()),
    case("blanks after it", "9112 5", coded(b" chunked  "), gives()),
    case("a tab after it", "9112 5", coded(b" chunked\t"), gives()),
    case("a tab after it, and a close", "9112 9.6", OK + b"Connection: close\r\nTransfer-Encoding: chunked\t\r\n\r\n" + CHUNKS, last()),
    case("a tab after it, in an answer without a body", "9112 6.3", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\t\r\n\r\n", gives(b"", 204)),
    case("an empty element before it", "9110 5.6.1.2", coded(b" , chunked"), gives()),
    case("an empty element after it", "9110 5.6.1.2", coded(b" chunked,"), gives()),
    case("`chunked, chunked`", "9112 6.1", coded(b" chunked, chunked"), broken),
    case("chunked on two lines", "9112 6.1", OK + TE + CHUNKED, broken),
    case("`gzip, chunked`, which nobody asked for", "9112 6.1", coded(b" gzip, chunked"), broken),
    case("gzip and chunked on two lines", "9112 6.1", OK + b"Transfer-Encoding: gzip\r\n" + CHUNKED, broken),
    case("`chunked, gzip`", "9112 6.3", coded(b" chunked, gzip"), broken, end=FIN),
    case("`chunked, identity`", "9112 6.3", coded(b" chunked, identity"), broken, end=FIN),
    case("`identity, chunked`", "9112 6.1", coded(b" identity, chunked"), broken, last()),
    case("`gzip`", "9112 6.3", coded(b" gzip"), broken, end=FIN),
    case("`xchunked`", "9112 6.3", coded(b" xchunked"), broken, end=FIN),
    case("`chunkedx`", "9112 6.3", coded(b" chunkedx"), broken, end=FIN),
    case("`chunked;q=1`", "9112 7", coded(b" chunked;q=1"), broken, end=FIN),
    case('`"chunked"`', "9112 6.3", coded(b' "chunked"'), broken, end=FIN),
    case("`chunk ed`", "9112 6.3", coded(b" chunk ed"), broken, end=FIN),
    case("`chunked chunked`", "9112 6.3", coded(b" chunked chunked"), broken, end=FIN),
    case("`identity`", "9112 7", OK + b"Transfer-Encoding: identity\r\n\r\nhello", broken, alone(), end=FIN),
    case("a vertical tab before it", "9112 6.3", coded(b" \x0bchunked"), broken, end=FIN),
    case("a no-break space after it", "9112 6.3", coded(b" chunked\xa0"), broken, end=FIN),
    case("a NUL after it", "9110 5.5", coded(b" chunked\x00"), broken, end=FIN),
    case("nothing", "9112 6.3", OK + b"Transfer-Encoding:\r\n\r\nhello", broken, alone(), end=FIN),
    case("nothing, and a length", "9112 6.3", OK + b"Transfer-Encoding:\r\n" + HELLO, broken, gives(), alone()),
    case("the name with a low line", "9110 5.1", OK + b"Transfer_Encoding: chunked\r\n" + HELLO, gives()),
    case("a blank before the colon", "9112 5.1", OK + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS, broken, gives(), end=FIN),
    case("in HTTP/1.0", "9112 6.1", b"HTTP/1.0 200 OK\r\n" + CHUNKED, broken, last()),
    case("in HTTP/1.0, kept alive", "9112 6.1", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + CHUNKED, broken, last()),
    case("in HTTP/1.0, with a length", "9112 6.1", b"HTTP/1.0 200 OK\r\n" + TE + HELLO, broken, last()),
)

LINES = (
    case("hexadecimal, small", "9112 7.1", OK + TE + b"\r\na\r\n0123456789\r\n0\r\n\r\n", gives(b"0123456789")),
    case("hexadecimal, capital", "9112 7.1", OK + TE + b"\r\nA\r\n0123456789\r\n0\r\n\r\n", gives(b"0123456789")),
    case("two digits of each kind", "9112 7.1", OK + TE + b"\r\n1a\r\n" + b"x" * 26 + b"\r\n1A\r\n" + b"y" * 26 + b"\r\n0\r\n\r\n", gives(b"x" * 26 + b"y" * 26)),
    case("leading zeros", "9112 7.1", chunk(b"0005"), gives()),
    case("sixty leading zeros", "9112 7.1", chunk(b"0" * 60 + b"5"), gives(), broken),
    case("a last chunk of many zeros", "9112 7.1", OK + TE + b"\r\n5\r\nhello\r\n0000\r\n\r\n", gives()),
    case("nothing but the last chunk", "9112 7.1", OK + TE + b"\r\n0\r\n\r\n", gives(b"")),
    case("two chunks", "9112 7.1", OK + TE + b"\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", gives()),
    case("ten thousand chunks of one byte", "9112 7.1", OK + TE + b"\r\n" + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n", gives(b"x" * 10_000)),
    case("line breaks in a chunk", "9112 7.1", OK + TE + b"\r\n9\r\n\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", gives(b"\r\n0\r\n\r\n\r\n")),
    case("an extension", "9112 7.1.1", chunk(b"5;name=value"), gives()),
    case("an extension without a value", "9112 7.1.1", chunk(b"5;name"), gives()),
    case("two extensions", "9112 7.1.1", chunk(b"5;a=b;c"), gives()),
    case("a quoted extension", "9112 7.1.1", chunk(b'5;a="b c"'), gives()),
    case("a quoted semicolon", "9112 7.1.1", chunk(b'5;a="b; c"'), gives()),
    case("a quoted quote", "9112 7.1.1", chunk(b'5;a="b\\"c"'), gives()),
    case("a quoted value beyond ASCII", "9112 7.1.1", chunk(b'5;a="\xe9"'), gives()),
    case("an extension on the last chunk", "9112 7.1.1", OK + TE + b"\r\n5\r\nhello\r\n0;a=b\r\n\r\n", gives()),
    case("a blank before the semicolon", "9112 7.1.1", chunk(b"5 ;a=b"), gives()),
    case("a tab before the semicolon", "9112 7.1.1", chunk(b"5\t;a=b"), gives()),
    case("a blank after the semicolon", "9112 7.1.1", chunk(b"5; a=b"), gives()),
    case("blanks round the equals sign", "9112 7.1.1", chunk(b"5;a = b"), gives()),
    case("blanks and tabs everywhere", "9112 7.1.1", chunk(b'5 ; a\t=\t"b = ; c" ;\td'), gives()),
    case("a blank after the semicolon of a later chunk", "9112 7.1.1", OK + TE + b"\r\n3\r\n1; \r\n2; a\r\n\r\n\r\n0 ; b\r\nX: 1; 2\r\n\r\n", gives(b"1; \r\n", trailers=((b"X", b"1; 2"),))),
    case("a blank after the semicolon, and a close", "9112 9.6", OK + b"Connection: close\r\n" + TE + b"\r\n5; a=b\r\nhello\r\n0\r\n\r\n", last()),
    case("a blank after the semicolon, after an interim answer", "9112 7.1.1", b"HTTP/1.1 100 Continue\r\n\r\n" + chunk(b"5; a=b"), gives()),
    case("a blank after the semicolon, and nonsense after the answer", "9112 6.3", chunk(b"5; a=b") + b"nonsense", alone(), gives()),
    case("a blank in an extension's name", "9112 7.1.1", chunk(b"5; a b"), broken),
    case("an extension of a thousand bytes", "9112 7.1.1", chunk(b"5;a=" + b"b" * 1000), gives(), broken),
    case("an extension of 20,000 bytes", "9112 7.1.1", chunk(b"5;a=" + b"b" * 20_000), gives(), broken),
    case("an extension of 300,000 bytes", "9112 7.1.1", chunk(b"5;a=" + b"b" * 300_000), broken, gives()),
    case("an extension without end", "9112 7.1.1", OK + TE + b"\r\n5;a=", broken, late, forever=b"b" * 4096),
    case("more extension than body, again and again", "9112 7.1.1", OK + TE + b"\r\n" + (b"1;" + b"a" * 30 + b"\r\nx\r\n") * 10_000 + b"0\r\n\r\n", broken, gives(b"x" * 10_000)),
    case("an empty extension", "9112 7.1.1", chunk(b"5;"), broken, gives()),
    case("a line feed in an extension", "9112 7.1.1", chunk(b"5;a\nb"), broken),
    case("a carriage return in an extension", "9112 2.2", chunk(b"5;a\rb"), broken, gives()),
    case("a NUL in an extension", "9112 7.1.1", chunk(b"5;a\x00b"), broken, gives()),
    case("a line break in a quoted extension", "9112 7.1.1", chunk(b'5;a="b\r\nc"'), broken),
    case("blanks after the size", "9112 7.1", chunk(b"5  "), gives(), broken),
    case("a blank before the size", "9112 7.1", chunk(b" 5"), broken),
    case("a blank in the size", "9112 7.1", chunk(b"0 5"), broken),
    case("`0x5`", "9112 7.1", chunk(b"0x5"), broken),
    case("`+5`", "9112 7.1", chunk(b"+5"), broken),
    case("`-5`", "9112 7.1", chunk(b"-5"), broken),
    case("`0_5`", "9112 7.1", chunk(b"0_5"), broken),
    case("`5.`", "9112 7.1", chunk(b"5."), broken),
    case("`g`", "9112 7.1", chunk(b"g"), broken),
    case("a size beyond ASCII", "9112 7.1", chunk(b"\xb5"), broken),
    case("no size", "9112 7.1", chunk(b""), broken),
    case("an extension and no size", "9112 7.1", chunk(b";a=b"), broken),
    case("sixteen digits, then a close", "9112 7.1", chunk(b"fffffffffffffff0"), cut, broken, end=FIN),
    case("seventeen digits", "9112 7.1", chunk(b"10000000000000005"), broken, late),
    case("digits without end", "9112 7.1", OK + TE + b"\r\n", broken, late, forever=b"0" * 4096),
    case("a size line ended by LF", "9112 2.2", chunk(b"5", b"\n"), broken, gives()),
    case("a size line ended by CR", "9112 2.2", chunk(b"5", b"\r"), broken),
    case("a chunk ended by LF", "9112 2.2", OK + TE + b"\r\n5\r\nhello\n0\r\n\r\n", broken, gives()),
    case("a chunk without its end", "9112 7.1", OK + TE + b"\r\n5\r\nhello0\r\n\r\n", broken),
    case("a chunk longer than its size", "9112 7.1", OK + TE + b"\r\n5\r\nhello!\r\n0\r\n\r\n", broken),
    case("a chunk with two ends", "9112 7.1", OK + TE + b"\r\n5\r\nhello\r\n\r\n0\r\n\r\n", broken),
    case("cut before the first chunk", "9112 8", OK + TE + b"\r\n", cut, end=FIN),
    case("cut in a size", "9112 8", OK + TE + b"\r\n5", cut, end=FIN),
    case("cut in an extension", "9112 8", OK + TE + b"\r\n5;a=", cut, end=FIN),
    case("cut in a chunk", "9112 8", OK + TE + b"\r\n5\r\nhel", cut, end=FIN),
    case("reset in a chunk", "9112 8", OK + TE + b"\r\n5\r\nhel", cut, end=RST),
    case("silence in a chunk", "9112 8", OK + TE + b"\r\n5\r\nhel", late),
    case("cut after a chunk's bytes", "9112 8", OK + TE + b"\r\n5\r\nhello", cut, end=FIN),
    case("cut between the CR and the LF of a chunk", "9112 8", OK + TE + b"\r\n5\r\nhello\r", cut, end=FIN),
    case("cut between two chunks", "9112 8", OK + TE + b"\r\n5\r\nhello\r\n", cut, end=FIN),
    case("silence between two chunks", "9112 8", OK + TE + b"\r\n5\r\nhello\r\n", late),
    case("cut in the last chunk's line", "9112 8", OK + TE + b"\r\n5\r\nhello\r\n0", cut, end=FIN),
    case("cut after the last chunk's line", "9112 8", OK + TE + b"\r\n5\r\nhello\r\n0\r\n", cut, last(), end=FIN),
    case("cut before the very last byte", "9112 8", OK + TE + b"\r\n5\r\nhello\r\n0\r\n\r", cut, last(), end=FIN),
    case("silence before the very last byte", "9112 8", OK + TE + b"\r\n5\r\nhello\r\n0\r\n\r", late),
)

TRAILERS = (
    case("a trailer", "9110 6.5", trailer(b"X-Sum: 1"), gives(trailers=((b"X-Sum", b"1"),), absent=(b"x-sum",))),
    case("a trailer that was announced", "9110 6.6.2", OK + b"Trailer: X-Sum\r\n" + TE + b"\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", gives(trailers=((b"X-Sum", b"1"),), absent=(b"x-sum",))),
    case("three trailers, one of them twice", "9110 6.5", trailer(b"A: 1", b"B: 2", b"A: 3"), gives(trailers=((b"A", b"1"), (b"B", b"2"), (b"A", b"3")))),
    case("an empty trailer", "9110 6.5", trailer(b"A:"), gives(trailers=((b"A", b""),))),
    case("a trailer of a name that a header has", "9110 6.5.1", OK + b"A: 1\r\n" + TE + b"\r\n5\r\nhello\r\n0\r\nA: 2\r\n\r\n", gives(fields=((b"a", b"1"),), trailers=((b"A", b"2"),))),
    case("a Content-Length in a trailer", "9110 6.5.1", trailer(b"Content-Length: 2"), gives(absent=(b"content-length",))),
    case("a Transfer-Encoding in a trailer", "9110 6.5.1", trailer(b"Transfer-Encoding: gzip"), alone(fields=((b"transfer-encoding", b"chunked"),)), gives()),
    case("a Content-Encoding in a trailer", "9110 6.5.1", trailer(b"Content-Encoding: gzip"), gives(absent=(b"content-encoding",))),
    case("a Set-Cookie in a trailer", "9110 6.5.1", trailer(b"Set-Cookie: a=b"), gives(absent=(b"set-cookie",))),
    case("a Connection in a trailer", "9110 6.5.1", trailer(b"Connection: close"), alone(absent=(b"connection",)), gives(absent=(b"connection",))),
    case("a trailer without a colon", "9112 5", trailer(b"nonsense"), broken),
    case("a trailer without a name", "9112 5", trailer(b": x"), broken),
    case("a trailer with a blank before its colon", "9112 5.1", trailer(b"A : x"), broken, gives()),
    case("a trailer with a NUL", "9110 5.5", trailer(b"A: x\x00y"), broken, gives()),
    case("a trailer ended by LF", "9112 2.2", OK + TE + b"\r\n5\r\nhello\r\n0\r\nA: 1\n\r\n", broken, gives()),
    case("a folded trailer", "9112 5.2", trailer(b"A: x", b" y"), gives(), ours=broken),
    case("a trailer of 10,000 bytes", "9110 6.5", trailer(b"A: " + b"x" * 10_000), gives(), broken),
    case("a trailer of 300,000 bytes", "9110 6.5", trailer(b"A: " + b"x" * 300_000), broken, gives()),
    case("300 trailers", "9110 6.5", trailer(*[b"A: x"] * 300), broken, gives()),
    case("a trailer without end", "9110 6.5", OK + TE + b"\r\n5\r\nhello\r\n0\r\nA: ", broken, late, forever=b"x" * 4096),
    case("trailers without end", "9110 6.5", OK + TE + b"\r\n5\r\nhello\r\n0\r\n", broken, late, forever=b"A: x\r\n" * 500),
    case("cut in a trailer", "9112 8", OK + TE + b"\r\n5\r\nhello\r\n0\r\nX-Sum: ", cut, last(), end=FIN),
    case("silence in a trailer", "9112 8", OK + TE + b"\r\n5\r\nhello\r\n0\r\nX-Sum: ", late),
)

STATUS = (
    case("HTTP/1.0", "9112 9.3", b"HTTP/1.0 200 OK\r\n" + HELLO, last()),
    case("HTTP/1.2", "9110 2.5", status(b"HTTP/1.2 200 OK"), gives()),
    case("HTTP/1.9, chunked", "9110 2.5", b"HTTP/1.9 200 OK\r\n" + CHUNKED, gives()),
    case("HTTP/1.10", "9112 2.3", status(b"HTTP/1.10 200 OK"), broken),
    case("HTTP/11.1", "9112 2.3", status(b"HTTP/11.1 200 OK"), broken),
    case("HTTP/01.1", "9112 2.3", status(b"HTTP/01.1 200 OK"), broken),
    case("HTTP/1", "9112 2.3", status(b"HTTP/1 200 OK"), broken),
    case("HTTP/1.", "9112 2.3", status(b"HTTP/1. 200 OK"), broken),
    case("HTTP/2.0", "9112 2.3", status(b"HTTP/2.0 200 OK"), broken),
    case("HTTP/2", "9112 2.3", status(b"HTTP/2 200 OK"), broken),
    case("HTTP/0.9", "9112 2.3", status(b"HTTP/0.9 200 OK"), broken),
    case("HTTP/9.9", "9112 2.3", status(b"HTTP/9.9 200 OK"), broken),
    case("http/1.1", "9112 2.3", status(b"http/1.1 200 OK"), broken),
    case("HTTPS/1.1", "9112 2.3", status(b"HTTPS/1.1 200 OK"), broken),
    case("ICY", "9112 2.3", status(b"ICY 200 OK"), broken),
    case("RTSP/1.0", "9112 2.3", status(b"RTSP/1.0 200 OK"), broken),
    case("no head at all (HTTP/0.9)", "9112 2.3", b"<html>it works</html>\r\n", broken, end=FIN),
    case("no head, and longer than one", "9112 2.3", b"<html>\r\n<p>it works</p>\r\n\r\n</html>\r\n", broken),
    case("another protocol: SSH", "9112 4", b"SSH-2.0-OpenSSH_9.2\r\n", broken, late),
    case("another protocol: SMTP", "9112 4", b"220 mail.example ESMTP\r\n", broken, late),
    case("another protocol: TLS", "9112 4", b"\x15\x03\x03\x00\x02\x02\x46", broken),
    case("another protocol: HTTP/2", "9112 4", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", broken),
    case("a byte order mark first", "9112 4", status(b"\xef\xbb\xbfHTTP/1.1 200 OK"), broken),
    case("a blank first", "9112 4", status(b" HTTP/1.1 200 OK"), broken),
    case("a NUL first", "9112 4", status(b"\x00HTTP/1.1 200 OK"), broken),
    case("an empty line first", "9112 2.2", status(b"\r\nHTTP/1.1 200 OK"), broken, gives()),
    case("empty lines without end", "9112 2.2", b"", broken, late, forever=b"\r\n" * 2048),
    case("a reason without words", "9112 4", status(b"HTTP/1.1 200 "), gives()),
    case("no reason and no blank before it", "9112 4", status(b"HTTP/1.1 200"), gives(), broken),
    case("a reason of digits", "9112 4", status(b"HTTP/1.1 200 404 Not Found"), gives()),
    case("a reason beyond ASCII", "9112 4", status(b"HTTP/1.1 200 D\xe9j\xe0 vu"), gives()),
    case("a tab in the reason", "9112 4", status(b"HTTP/1.1 200 all\tright"), gives()),
    case("a NUL in the reason", "9112 4", status(b"HTTP/1.1 200 O\x00K"), gives(), broken),
    case("an ESC in the reason", "9112 4", status(b"HTTP/1.1 200 \x1b[2J"), gives(), broken),
    case("a CR in the reason", "9112 2.2", status(b"HTTP/1.1 200 O\rK"), broken, gives()),
    case("a reason of 8,000 bytes", "9112 4", status(b"HTTP/1.1 200 " + b"x" * 8000), gives(), broken),
    case("a reason of 100,000 bytes", "9112 4", status(b"HTTP/1.1 200 " + b"x" * 100_000), broken, gives()),
    case("a reason without end", "9112 4", b"HTTP/1.1 200 ", broken, late, forever=b"x" * 4096),
    case("two blanks before the status", "9112 4", status(b"HTTP/1.1  200 OK"), broken, gives()),
    case("a tab before the status", "9112 4", status(b"HTTP/1.1\t200 OK"), broken, gives()),
    case("a tab after the status", "9112 4", status(b"HTTP/1.1 200\tOK"), broken, gives()),
    case("no blank before the status", "9112 4", status(b"HTTP/1.1200 OK"), broken),
    case("no status", "9112 4", status(b"HTTP/1.1 "), broken),
    case("no status, but a reason", "9112 4", status(b"HTTP/1.1 OK"), broken),
    case("status `20`", "9112 4", status(b"HTTP/1.1 20 OK"), broken),
    case("status `2000`", "9112 4", status(b"HTTP/1.1 2000 OK"), broken),
    case("status `0200`", "9112 4", status(b"HTTP/1.1 0200 OK"), broken),
    case("status `2xx`", "9112 4", status(b"HTTP/1.1 2xx OK"), broken),
    case("status `200OK`", "9112 4", status(b"HTTP/1.1 200OK"), broken),
    case("status `-20`", "9112 4", status(b"HTTP/1.1 -20 OK"), broken),
    case("status `+20`", "9112 4", status(b"HTTP/1.1 +20 OK"), broken),
    case("status `2 0`", "9112 4", status(b"HTTP/1.1 2 0 OK"), broken),
    case("status in Arabic digits", "9112 4", status("HTTP/1.1 \u0662\u0660\u0660 OK".encode()), broken),
    case("status 000", "9110 15", status(b"HTTP/1.1 000 OK"), broken, gives(status=0)),
    case("status 099", "9110 15", status(b"HTTP/1.1 099 OK"), broken, gives(status=99)),
    case("status 299", "9110 15", status(b"HTTP/1.1 299 OK"), gives(status=299)),
    case("status 499", "9110 15", status(b"HTTP/1.1 499 OK"), gives(status=499)),
    case("status 599", "9110 15", status(b"HTTP/1.1 599 OK"), gives(status=599)),
    case("status 600", "9110 15", status(b"HTTP/1.1 600 OK"), gives(status=600), broken),
    case("status 999", "9110 15", status(b"HTTP/1.1 999 OK"), gives(status=999), broken),
    case("lines ended by LF", "9112 2.2", OK.replace(b"\r", b"") + b"Content-Length: 5\n\nhello", broken, gives()),
    case("a status line ended by LF", "9112 2.2", b"HTTP/1.1 200 OK\n" + HELLO, broken, gives()),
    case("a status line ended by CR", "9112 2.2", b"HTTP/1.1 200 OK\r" + HELLO, broken),
    case("closed before a byte", "9112 8", b"", cut, end=FIN),
    case("reset before a byte", "9112 8", b"", cut, end=RST),
    case("silence", "9110 15.5.9", b"", late),
    case("cut in the version", "9112 8", b"HTT", cut, end=FIN),
    case("silence in the version", "9112 8", b"HTTP/1.", late),
    case("cut in the status", "9112 8", b"HTTP/1.1 20", cut, end=FIN),
    case("cut in the reason", "9112 8", b"HTTP/1.1 200 O", cut, end=FIN),
    case("cut after the status line", "9112 8", OK, cut, end=FIN),
)

FIELDS = (
    case("none", "9112 6.3", OK + b"\r\nhello", alone(), end=FIN),
    case("an empty value", "9110 5.5", header(b"X:"), saw(b"x", b"")),
    case("a value of blanks", "9110 5.5", header(b"X: \t "), saw(b"x", b"")),
    case("blanks round a value", "9110 5.5", header(b"X: \t a b \t "), saw(b"x", b"a b")),
    case("no blank after the colon", "9112 5", header(b"X:a"), saw(b"x", b"a")),
    case("colons in a value", "9112 5", header(b"X: a:b:c"), saw(b"x", b"a:b:c")),
    case("a tab in a value", "9110 5.5", header(b"X: a\tb"), saw(b"x", b"a\tb")),
    case("Latin-1 in a value", "9110 5.5", header(b"X: caf\xe9"), saw(b"x", b"caf\xe9")),
    case("UTF-8 in a value", "9110 5.5", header(b"X: caf\xc3\xa9"), saw(b"x", b"caf\xc3\xa9")),
    case("every character of a token in a name", "9110 5.6.2", header(b"!#$%&'*+-.^_`|~09azAZ: 1"), saw(b"!#$%&'*+-.^_`|~09azaz", b"1")),
    case("a name twice", "9110 5.3", header(b"X: a", b"X: b"), gives(fields=((b"x", b"a"), (b"x", b"b")))),
    case("Set-Cookie twice", "9110 5.3", header(b"Set-Cookie: a=1, b", b"Set-Cookie: c=2"), gives(fields=((b"set-cookie", b"a=1, b"), (b"set-cookie", b"c=2")))),
    case("no colon", "9112 5", header(b"nonsense"), broken),
    case("a colon alone", "9112 5", header(b":"), broken),
    case("no name", "9112 5", header(b": a"), broken),
    case("a blank in a name", "9112 5", header(b"X Y: a"), broken),
    case("a blank before the colon", "9112 5.1", header(b"X : a"), broken, saw(b"x", b"a")),
    case("a tab before the colon", "9112 5.1", header(b"X\t: a"), broken, saw(b"x", b"a")),
    case("a blank before the first name", "9112 2.2", header(b" X: a"), broken, gives(absent=(b"x",))),
    case("a line of a blank first", "9112 2.2", header(b" "), broken, gives()),
    case("`@` in a name", "9110 5.1", header(b"X@Y: a"), broken),
    case("a quote in a name", "9110 5.1", header(b'"X": a'), broken),
    case("a slash in a name", "9110 5.1", header(b"X/Y: a"), broken),
    case("a bracket in a name", "9110 5.1", header(b"X[1]: a"), broken),
    case("a name beyond ASCII", "9110 5.1", header(b"X\xe9: a"), broken),
    case("a NUL in a name", "9110 5.1", header(b"X\x00: a"), broken),
    case("a DEL in a name", "9110 5.1", header(b"X\x7f: a"), broken),
    case("a CR in a name", "9112 2.2", header(b"X\rY: a"), broken),
    case("a NUL in a value", "9110 5.5", header(b"X: a\x00b"), broken, saw(b"x", b"a b")),
    case("a CR in a value", "9112 2.2", header(b"X: a\rb"), broken, saw(b"x", b"a b")),
    case("a CR and a name in a value", "9112 2.2", header(b"X: a\rY: b"), broken, gives(absent=(b"y",))),
    case("two CRs before the LF", "9112 2.2", OK + b"X: a\r\r\n" + HELLO, broken, saw(b"x", b"a")),
    case("a BEL in a value", "9110 5.5", header(b"X: a\x07b"), broken, saw(b"x", b"a\x07b"), saw(b"x", b"a b")),
    case("an ESC in a value", "9110 5.5", header(b"X: a\x1b[2J"), broken, gives()),
    case("a DEL in a value", "9110 5.5", header(b"X: a\x7fb"), broken, gives()),
    case("a line ended by LF", "9112 2.2", OK + b"X: a\n" + HELLO, broken, saw(b"x", b"a")),
    case("an end of LF and LF", "9112 2.2", OK + b"Content-Length: 5\n\nhello", broken, gives()),
    case("an end of CR and CR", "9112 2.2", OK + b"Content-Length: 5\r\rhello", broken, end=FIN),
    case("a folded value", "9112 5.2", header(b"X: a", b" b"), saw(b"x", b"a b"), ours=broken),
    case("a folded framing", "9112 5.2", OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS, gives(), ours=broken),
    case("a value of 8,000 bytes", "9110 5.4", header(b"X: " + b"a" * 8000), saw(b"x", b"a" * 8000)),
    case("a value of 60,000 bytes", "9110 5.4", header(b"X: " + b"a" * 60_000), saw(b"x", b"a" * 60_000), broken),
    case("a value of 70,000 bytes", "9110 5.4", header(b"X: " + b"a" * 70_000), broken, saw(b"x", b"a" * 70_000)),
    case("a value of 1 MiB", "9110 5.4", header(b"X: " + b"a" * MIB), broken, saw(b"x", b"a" * MIB)),
    case("a value without end", "9110 5.4", OK + b"X: ", broken, late, forever=b"a" * 4096),
    case("blanks without end", "9110 5.4", OK + b"X: ", broken, late, forever=b" " * 4096),
    case("a name of 1,000 bytes", "9110 5.4", header(b"X" * 1000 + b": a"), saw(b"x" * 1000, b"a")),
    case("a name without end", "9110 5.4", OK, broken, late, forever=b"X" * 4096),
    case("255 fields and a length", "9110 5.4", header(*[b"X: a"] * 255), gives(), broken),
    case("256 fields and a length", "9110 5.4", header(*[b"X: a"] * 256), broken, gives()),
    case("1,000 fields", "9110 5.4", header(*[b"X: a"] * 1000), broken, gives()),
    case("fields without end", "9110 5.4", OK, broken, late, forever=b"X: a\r\n" * 500),
    case("cut in a name", "9112 8", OK + b"Content-Le", cut, end=FIN),
    case("cut in a value", "9112 8", OK + b"Content-Length: 5", cut, end=FIN),
    case("cut before the empty line", "9112 8", OK + FIVE, cut, end=FIN),
    case("cut in the empty line", "9112 8", OK + FIVE + b"\r", cut, end=FIN),
    case("reset in the head", "9112 8", OK + b"Content-Le", cut, end=RST),
    case("silence in the head", "9112 8", OK + b"Content-Le", late),
)

INTERIM = (
    case("100, then the answer", "9110 15.2", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + HELLO, gives()),
    case("102, then the answer", "9110 15.2", b"HTTP/1.1 102 Processing\r\n\r\n" + OK + HELLO, gives()),
    case("103 with fields, then the answer", "9110 15.2", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX: early\r\n\r\n" + OK + b"X: late\r\n" + HELLO, gives(fields=((b"x", b"late"),), absent=(b"link",))),
    case("104, which nobody knows yet", "9110 15.2", b"HTTP/1.1 104 Upload Resumption\r\n\r\n" + OK + HELLO, gives()),
    case("199", "9110 15.2", b"HTTP/1.1 199 Whatever\r\n\r\n" + OK + HELLO, gives()),
    case("100 without a reason", "9112 4", b"HTTP/1.1 100 \r\n\r\n" + OK + HELLO, gives()),
    case("100, an empty line, then the answer", "9112 2.2", b"HTTP/1.1 100 Continue\r\n\r\n\r\n" + OK + HELLO, gives(), broken),
    case("ten of them", "9110 15.2", b"HTTP/1.1 100 Continue\r\n\r\n" * 10 + OK + HELLO, gives()),
    case("forty of them", "9110 15.2", b"HTTP/1.1 100 Continue\r\n\r\n" * 40 + OK + HELLO, broken, gives()),
    case("without end", "9110 15.2", b"", broken, late, forever=b"HTTP/1.1 100 Continue\r\n\r\n" * 20),
    case("without end, each with a large head", "9110 15.2", b"", broken, late, forever=b"HTTP/1.1 103 Early Hints\r\nX: " + b"a" * 8000 + b"\r\n\r\n"),
    case("100 with a length", "9112 6.3", b"HTTP/1.1 100 Continue\r\n" + FIVE + b"\r\n" + OK + HELLO, gives()),
    case("103 with chunks", "9112 6.3", b"HTTP/1.1 103 Early Hints\r\n" + TE + b"\r\n" + OK + HELLO, gives()),
    case("104 with a length", "9112 6.3", b"HTTP/1.1 104 Upload Resumption\r\n" + FIVE + b"\r\n" + OK + HELLO, broken, gives()),
    case("100 with `Connection: close`", "9112 9.6", b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + OK + HELLO, gives(), alone()),
    case("100 in HTTP/1.0", "9110 15.2", b"HTTP/1.0 100 Continue\r\n\r\n" + OK + HELLO, gives(), broken),
    case("100, then 204", "9110 15.2", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", gives(b"", 204)),
    case("100, then a HEAD's answer", "9110 15.2", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + FIVE + b"\r\n", gives(b""), method="HEAD"),
    case("100, then nonsense", "9112 4", b"HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n", broken, late),
    case("100, then HTTP/2.0", "9112 2.3", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/2.0 200 OK\r\n" + HELLO, broken),
    case("100, then a close", "9112 8", b"HTTP/1.1 100 Continue\r\n\r\n", cut, end=FIN),
    case("100, then silence", "9112 8", b"HTTP/1.1 100 Continue\r\n\r\n", late),
    case("101, unasked", "9110 15.2.2", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", broken),
    case("101, unasked, and an answer after it", "9110 15.2.2", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + OK + HELLO, broken),
    case("101 without `Upgrade`", "9110 15.2.2", b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK + HELLO, broken),
)

CONNECTION = (
    case("close", "9112 9.6", OK + b"Connection: close\r\n" + HELLO, last()),
    case("`Close`", "9110 7.6.1", OK + b"Connection: Close\r\n" + HELLO, last()),
    case("`close, x`", "9110 7.6.1", OK + b"Connection: close, x\r\n" + HELLO, last()),
    case("`x, close`", "9110 7.6.1", OK + b"Connection: x,close\r\n" + HELLO, last()),
    case("`, close`", "9110 5.6.1.2", OK + b"Connection: , close\r\n" + HELLO, last()),
    case("tabs round `close`", "9110 7.6.1", OK + b"Connection:\tx\t,\tclose\t\r\n" + HELLO, last()),
    case("`keep-alive, close`", "9112 9.3", OK + b"Connection: keep-alive, close\r\n" + HELLO, last()),
    case("close on a line of its own", "9112 9.3", OK + b"Connection: keep-alive\r\nConnection: close\r\n" + HELLO, last()),
    case("keep-alive on a line after close", "9112 9.3", OK + b"Connection: close\r\nConnection: keep-alive\r\n" + HELLO, last()),
    case("close, chunked", "9112 9.6", OK + b"Connection: close\r\n" + CHUNKED, last()),
    case("close, with 204", "9112 9.6", b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", last(b"", 204)),
    case("close, to a HEAD", "9112 9.6", OK + b"Connection: close\r\n" + FIVE + b"\r\n", last(b""), method="HEAD"),
    case("`closed`, another word", "9110 7.6.1", OK + b"Connection: closed\r\n" + HELLO, gives()),
    case("`not-close`, another word", "9110 7.6.1", OK + b"Connection: not-close\r\n" + HELLO, gives()),
    case("keep-alive", "9112 9.3", OK + b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n" + HELLO, gives()),
    case("keep-alive, HTTP/1.0", "9112 9.3", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + HELLO, gives()),
    case("`Keep-Alive`, HTTP/1.0", "9112 9.3", b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n" + HELLO, gives()),
    case("`keep-alive, close`, HTTP/1.0", "9112 9.3", b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n" + HELLO, last()),
    case("HTTP/1.0 without a word, then a close", "9112 6.3", b"HTTP/1.0 200 OK\r\n\r\nhello", last(), end=FIN),
    case("an upgrade offered", "9110 7.8", OK + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + HELLO, gives()),
    case("an upgrade demanded", "9110 15.5.22", b"HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: x\r\n" + HELLO, gives(status=426)),
)

AFTER = (
    case("nonsense", "9112 6.3", OK + HELLO + b"nonsense\r\n\r\n", alone(), gives()),
    case("a line break", "9112 6.3", OK + HELLO + b"\r\n", alone(), gives()),
    case("a line break, after a body that ends with one", "9112 6.3", OK + b"Content-Length: 2\r\n\r\n\r\n\r\n", alone(b"\r\n"), gives(b"\r\n")),
    case("a line feed, after chunks", "9112 6.3", OK + CHUNKED + b"\n", alone(), gives()),
    case("a line break, after chunks", "9112 6.3", OK + CHUNKED + b"\r\n", alone(), gives()),
    case("a line break, after 204", "9112 6.3", b"HTTP/1.1 204 No Content\r\n\r\n\r\n", alone(b"", 204), gives(b"", 204)),
    case("a line break, after a close", "9112 9.6", OK + b"Connection: close\r\n" + HELLO + b"\r\n", last()),
    case("nonsense, after chunks", "9112 6.3", OK + CHUNKED + b"nonsense", alone(), gives()),
    case("a second answer", "9112 6.3", OK + HELLO + SECOND, alone(), gives()),
    case("a second answer, after chunks", "9112 6.3", OK + CHUNKED + SECOND, alone(), gives()),
    case("a second answer, after 204", "9112 6.3", b"HTTP/1.1 204 No Content\r\n\r\n" + SECOND, alone(b"", 204), gives(b"", 204)),
    case("a second answer, after 304", "9112 6.3", b"HTTP/1.1 304 Not Modified\r\n\r\n" + SECOND, alone(b"", 304), gives(b"", 304)),
    case("a second answer, after a HEAD's", "9112 6.3", OK + FIVE + b"\r\n" + SECOND, alone(b""), gives(b""), method="HEAD"),
    case("half a second answer", "9112 6.3", OK + HELLO + OK[:9], alone(), gives()),
    case("a broken second answer", "9112 6.3", OK + HELLO + OK + b"no colon\r\n\r\n", alone(), gives()),
    case("100", "9112 6.3", OK + HELLO + b"HTTP/1.1 100 Continue\r\n\r\n", alone(), gives()),
    case("while idle: a second answer", "9112 9.3", OK + HELLO, alone(), later=SECOND),
    case("while idle: a byte", "9112 9.3", OK + HELLO, alone(), later=b"x"),
    case("while idle: 408 and a close", "9110 15.5.9", OK + HELLO, alone(), later=b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", ends_later=FIN),
    case("while idle: a close", "9112 9.3", OK + HELLO, alone(), ends_later=FIN),
    case("while idle: a reset", "9112 9.3", OK + HELLO, alone(), ends_later=RST),
    case("while idle: a second answer, after a HEAD's", "9112 9.3", OK + FIVE + b"\r\n", alone(b""), later=SECOND, method="HEAD"),
    case("a kept connection closed instead of an answer", "9112 9.3.1", b"", alone(b"again"), cut, warm=True, end=FIN),
    case("a kept connection reset instead of an answer", "9112 9.3.1", b"", alone(b"again"), cut, warm=True, end=RST),
    case("a kept connection closed instead of an answer to a POST", "9112 9.3.1", b"", cut, warm=True, end=FIN, method="POST"),
    case("a kept connection closed in the head", "9112 9.3.1", OK, cut, alone(b"again"), warm=True, end=FIN),
)

CLOSED = (
    case("a body up to the close", "9112 6.3", OK + b"\r\nhello", alone(), end=FIN),
    case("no body up to the close", "9112 6.3", OK + b"\r\n", alone(b""), end=FIN),
    case("a body up to a reset", "9112 8", OK + b"\r\nhello", cut, end=RST),
    case("a body, then silence", "9112 6.3", OK + b"\r\nhello", late),
    case("a body up to the close, kept alive", "9112 6.3", OK + b"Connection: keep-alive\r\n\r\nhello", alone(), end=FIN),
    case("a body up to the close that looks like an answer", "9112 6.3", OK + b"\r\n" + SECOND, alone(SECOND), end=FIN),
    case("an error up to the close", "9112 6.3", b"HTTP/1.1 500 Oh\r\n\r\nhello", alone(status=500), end=FIN),
    case("TLS: a body up to the close", "9112 9.8", OK + b"\r\nhello", alone(), end=FIN, tls=True),
    case("TLS: a body up to a cut", "9112 9.8", OK + b"\r\nhello", cut, end=RST, tls=True),
    case("TLS: a length, all of it, then a cut", "9112 9.8", OK + HELLO, alone(), end=RST, tls=True),
    case("TLS: a length, not all of it, then a close", "9112 9.8", OK + b"Content-Length: 9\r\n\r\nhello", cut, end=FIN, tls=True),
    case("TLS: chunks, not all of them, then a cut", "9112 9.8", OK + TE + b"\r\n5\r\nhello\r\n", cut, end=RST, tls=True),
    case("TLS: a head, not all of it, then a cut", "9112 9.8", OK, cut, end=RST, tls=True),
)

BODILESS = (
    case("HEAD, with a length", "9112 6.3", OK + FIVE + b"\r\n", gives(b"", fields=((b"content-length", b"5"),)), method="HEAD"),
    case("HEAD, with chunks", "9112 6.3", OK + TE + b"\r\n", gives(b""), method="HEAD"),
    case("HEAD, without either", "9112 6.3", OK + b"\r\n", gives(b""), alone(b""), ours=alone(b""), method="HEAD"),
    case("HEAD, with a content coding", "9112 6.3", OK + b"Content-Encoding: gzip\r\n" + FIVE + b"\r\n", gives(b""), method="HEAD"),
    case("HEAD, with an enormous length", "9112 6.3", OK + b"Content-Length: 999999999999999\r\n\r\n", gives(b""), method="HEAD"),
    case("HEAD, answered 404", "9112 6.3", b"HTTP/1.1 404 Not Found\r\n" + FIVE + b"\r\n", gives(b"", 404), method="HEAD"),
    case("HEAD, and a body", "9112 6.3", OK + HELLO, alone(b""), gives(b""), method="HEAD"),
    case("HEAD, and a body in chunks", "9112 6.3", OK + CHUNKED, alone(b""), gives(b""), method="HEAD"),
    case("HEAD, and a body later", "9112 6.3", OK + FIVE + b"\r\n", alone(b""), later=b"hello", method="HEAD"),
    case("204", "9112 6.3", b"HTTP/1.1 204 No Content\r\n\r\n", gives(b"", 204)),
    case("204 with length 0", "9110 8.6", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", gives(b"", 204)),
    case("204 with a length", "9112 6.3", b"HTTP/1.1 204 No Content\r\n" + FIVE + b"\r\n", gives(b"", 204)),
    case("204 with chunks announced", "9112 6.3", b"HTTP/1.1 204 No Content\r\n" + TE + b"\r\n", gives(b"", 204)),
    case("204 with a content coding", "9112 6.3", b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n", gives(b"", 204)),
    case("204 and a body", "9112 6.3", b"HTTP/1.1 204 No Content\r\n" + HELLO, alone(b"", 204), gives(b"", 204)),
    case("204 and chunks", "9112 6.3", b"HTTP/1.1 204 No Content\r\n" + CHUNKED, alone(b"", 204), gives(b"", 204)),
    case("304", "9112 6.3", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', gives(b"", 304)),
    case("304 with a length", "9110 15.4.5", b"HTTP/1.1 304 Not Modified\r\n" + FIVE + b"\r\n", gives(b"", 304)),
    case("304 with chunks announced", "9112 6.3", b"HTTP/1.1 304 Not Modified\r\n" + TE + b"\r\n", gives(b"", 304)),
    case("304 with a content coding", "9110 15.4.5", b"HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\n\r\n", gives(b"", 304)),
    case("304 and a body", "9112 6.3", b"HTTP/1.1 304 Not Modified\r\n" + HELLO, alone(b"", 304), gives(b"", 304)),
    case("205 with length 0", "9110 15.3.6", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", gives(b"", 205)),
    case("205 and a body", "9110 15.3.6", b"HTTP/1.1 205 Reset Content\r\n" + HELLO, gives(status=205), gives(b"", 205), broken),
    case("206", "9110 15.3.7", b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\n" + HELLO, gives(status=206)),
    case("416", "9110 15.5.17", b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */9\r\n" + HELLO, gives(status=416)),
)

CONTENT = (
    case("gzip", "9110 8.4.1", content(b"gzip", GZIP), gives()),
    case("`x-gzip`", "9110 8.4.1.3", content(b"x-gzip", GZIP), gives()),
    case("`GZIP`", "9110 8.4.1", content(b"GZIP", GZIP), gives()),
    case("deflate", "9110 8.4.1.2", content(b"deflate", zlib.compress(b"hello")), gives()),
    case("deflate without its wrapper", "9110 8.4.1.2", content(b"deflate", bare(b"hello")), gives(), broken),
    case("br", "7932", content(b"br", BR), gives()),
    case("zstd", "8878", content(b"zstd", ZSTD), gives()),
    case("identity", "9110 8.4.1", content(b"identity", b"hello"), gives()),
    case("one that nobody knows", "9110 8.4", content(b"x-own", b"hello"), gives(fields=((b"content-encoding", b"x-own"),)), broken),
    case("no name", "9110 5.6.1.2", content(b"", b"hello"), gives()),
    case("an empty element", "9110 5.6.1.2", content(b", gzip", GZIP), gives()),
    case("gzip over gzip", "9110 8.4", content(b"gzip, gzip", gzip.compress(GZIP)), gives()),
    case("br over gzip", "9110 8.4", content(b"gzip, br", brotli.compress(GZIP)), gives()),
    case("two lines", "9110 8.4", framed(brotli.compress(GZIP), b"Content-Encoding: gzip", b"Content-Encoding: br"), gives()),
    case("identity over gzip", "9110 8.4", content(b"gzip, identity", GZIP), gives()),
    case("one that nobody knows over gzip", "9110 8.4", content(b"gzip, x-own", b"hello"), gives(), broken),
    case("three over one another", "9110 8.4", content(b"gzip, gzip, gzip", gzip.compress(gzip.compress(GZIP))), gives(), broken),
    case("ten over one another", "9110 8.4", content(b", ".join([b"gzip"] * 10), GZIP), broken),
    case("gzip in chunks", "9112 7.1", OK + b"Content-Encoding: gzip\r\n" + TE + b"\r\n" + b"".join([b"1\r\n%c\r\n" % byte for byte in GZIP]) + b"0\r\n\r\n", gives()),
    case("gzip up to the close", "9112 6.3", OK + b"Content-Encoding: gzip\r\n\r\n" + GZIP, alone(), end=FIN),
    case("gzip and no body", "9110 8.4", content(b"gzip", b""), gives(b""), broken),
    case("gzip of nothing", "1952 2.2", content(b"gzip", gzip.compress(b"")), gives(b"")),
    case("gzip, two members", "1952 2.2", content(b"gzip", gzip.compress(b"hel") + gzip.compress(b"lo")), gives()),
    case("gzip with a name, a comment and more", "1952 2.3", content(b"gzip", DECORATED + bare(b"hello") + GZIP[-8:]), gives()),
    case("gzip with a wrong check", "1952 2.3.1", content(b"gzip", GZIP[:-8] + b"\0\0\0\0" + GZIP[-4:]), broken),
    case("gzip with a wrong size", "1952 2.3.1", content(b"gzip", GZIP[:-4] + b"\x09\0\0\0"), broken),
    case("gzip without its check", "1952 2.3.1", content(b"gzip", GZIP[:-8]), broken, streamed=spoiled),
    case("gzip, half of it", "1952 2.3", content(b"gzip", gzip.compress(b"hello" * 99)[:20]), broken, streamed=spoiled),
    case("gzip, only its head", "1952 2.3", content(b"gzip", GZIP[:10]), broken, streamed=spoiled),
    case("gzip, one byte of it", "1952 2.3", content(b"gzip", GZIP[:1]), broken, streamed=spoiled),
    case("gzip and zeros after it", "1952 2.2", content(b"gzip", GZIP + bytes(8)), broken, gives()),
    case("gzip and nonsense after it", "1952 2.2", content(b"gzip", GZIP + b"nonsense"), broken, gives()),
    case("gzip that is none", "9110 8.4", content(b"gzip", b"hello"), broken),
    case("gzip with a broken middle", "1951 3.2.3", content(b"gzip", GZIP[:10] + b"\xff" * 20), broken),
    case("deflate, half of it", "1950 2.2", content(b"deflate", zlib.compress(b"hello")[:-4]), broken, streamed=spoiled),
    case("deflate that is none", "9110 8.4", content(b"deflate", b"\xff\xfe hello"), broken),
    case("br, half of it", "7932", content(b"br", brotli.compress(b"hello" * 99)[:8]), broken, streamed=spoiled),
    case("br that is none", "9110 8.4", content(b"br", b"\xff" * 9), broken),
    case("br and nonsense after it", "7932", content(b"br", BR + b"nonsense"), broken, gives()),
    case("zstd, half of it", "8878 3.1", content(b"zstd", ZSTD[:-6]), broken, streamed=spoiled),
    case("zstd that is none", "9110 8.4", content(b"zstd", b"hello"), broken),
    case("zstd with a wrong check", "8878 3.1.1", content(b"zstd", ZSTD[:-4] + b"\0\0\0\0"), broken),
    case("zstd, two frames", "8878 3.1", content(b"zstd", zstd.compress(b"hel") + zstd.compress(b"lo")), gives()),
    case("zstd and a frame to skip", "8878 3.1.2", content(b"zstd", b"\x50\x2a\x4d\x18\x04\0\0\0skip" + ZSTD), gives()),
    case("zstd with a window of 16 MiB", "9659 3", content(b"zstd", WIDE), broken, gives(bytes(MIB))),
)

TIME = (
    case("a head, byte by byte, without end", "9110 15.5.9", OK + b"X: ", late, drip=b"a"),
    case("a body, byte by byte, without end", "9110 15.5.9", OK + b"Content-Length: 100000\r\n\r\n", late, drip=b"a"),
    case("chunks, byte by byte, without end", "9110 15.5.9", OK + TE + b"\r\n", late, drip=b"1\r\na\r\n"),
    case("an interim answer, and another byte by byte, without end", "9110 15.5.9", b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\nX: ", late, drip=b"a"),
    case("an answer before the upload ended", "9110 10.1.1", b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n" + HELLO, last(status=413), method="POST", uploads=32 * MIB),
    case("a good answer before the upload ended", "9112 9.3", OK + HELLO, alone(), method="POST", uploads=32 * MIB),
    case("an answer before the upload ended, then a close", "9112 9.6", b"HTTP/1.1 413 Content Too Large\r\n" + HELLO, alone(status=413), method="POST", uploads=32 * MIB, end=FIN),
    case("a close before the upload ended", "9112 9.5", b"", cut, method="POST", uploads=32 * MIB, end=FIN),
    case("100 and then nothing, during an upload", "9110 10.1.1", b"HTTP/1.1 100 Continue\r\n\r\n", late, method="POST", uploads=32 * MIB),
)
# fmt: on

GROUPS = {
    "Content-Length": LENGTHS,
    "Content-Length and Transfer-Encoding at once": BOTH,
    "Transfer-Encoding": CODINGS,
    "Chunks": LINES,
    "Trailers": TRAILERS,
    "The status line": STATUS,
    "Header fields": FIELDS,
    "Interim answers": INTERIM,
    "Connection": CONNECTION,
    "After the answer": AFTER,
    "Bodies that end with the connection": CLOSED,
    "Answers without a body": BODILESS,
    "Content codings": CONTENT,
    "Time, and uploads": TIME,
}
CORPUS = tuple(replace(one, group=group) for group, cases in GROUPS.items() for one in cases)


def bombs() -> tuple[Case, ...]:
    """Small bodies that decode to large ones. Made when asked for: they take a while, and so do their decoders."""
    # fmt: off
    return tuple(replace(one, group="Bombs") for one in (
        case("a gzip bomb of 100 MiB", "9110 17.5", content(b"gzip", bomb(b"gzip")), broken, gives(bytes(100 * MIB))),
        case("a br bomb of 100 MiB", "9110 17.5", content(b"br", bomb(b"br")), broken, gives(bytes(100 * MIB))),
        case("a zstd bomb of 100 MiB", "9110 17.5", content(b"zstd", bomb(b"zstd")), broken, gives(bytes(100 * MIB))),
        case("a gzip bomb in gzip", "9110 17.5", content(b"gzip, gzip", gzip.compress(bomb(b"gzip"))), broken, gives(bytes(100 * MIB))),
        case("a gzip bomb that holds next to nothing", "9110 17.5", content(b"gzip, gzip", gzip.compress(gzip.compress(b"hello") + gzip.compress(b"") * 400_000)), broken, gives()),
    ))
    # fmt: on
