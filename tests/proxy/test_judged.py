"""Nothing malformed goes through, in either direction: payloads, fields and answers, judged by readers of the tests' own."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from fairlead.client import HTTPClient
from fairlead.proxy import ReverseProxy
from peers import PATIENCE, Peer, answer, says
from proxy.cases import ANSWERED, ASKED, BAD, PEER
from proxy.judge import BROKEN, ByAddress, asker, judge, ours, plain
from proxy.payloads import PAYLOADS
from proxy.reading import meant, strict
from servers import serving

KNOWN = {
    "uvicorn": {
        # What stands behind the last chunk is added to the headers, where it comes with them: an application cannot tell it from them.
        ("sound", "trailers"),
        ("trailers", "Authorization"),
        ("trailers", "named in Trailer"),
        # Read as HTTP/1.0.
        ("first line", "ICE/1.0"),
    },
    "uvicorn, our Protocol": {("first line", "ICE/1.0")},
    # The Host that is missing is taken from the target.
    "granian": {("targets", "absolute, without a Host")},
}
"""What a server says of a request that it was not: it is well-formed where it arrives, and no proxy behind that server can know."""


def wrong(verdicts, server=""):
    return {
        (one.payload.family, one.payload.name): f"{one.kind}: {one.why}"
        for one in verdicts
        if one.kind in {"lost", *BROKEN} and (one.payload.family, one.payload.name) not in KNOWN.get(server, ())
    }


# The readers


@pytest.mark.parametrize("payload", [one for one in PAYLOADS if one.sound], ids=lambda one: one.name)
def test_what_is_sound_has_one_meaning(payload):
    assert [one.whole for one in meant(payload.data)] == [True] * payload.sound


def test_there_are_no_fewer_payloads_than_were_published():
    assert len({one.data for one in PAYLOADS}) == len(PAYLOADS) >= 240


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n\r\n",
    ],
)
def test_the_reader_behind_the_proxy_finds_fault(data):
    assert strict(data)[2]


async def test_the_judge_sees_what_a_plain_proxy_passes_on():
    few = [one for one in PAYLOADS if one.family in {"sound", "CL and TE", "hosts"}]

    verdicts = await judge(plain("uvicorn-h11"), few)

    assert len([one for one in verdicts if one.kind == "malformed"]) > 20
    assert [one.kind for one in verdicts if one.payload.sound] == ["clean"] * sum(bool(one.sound) for one in few)


# Requests


async def test_nothing_malformed_goes_through_on_uvicorn():
    assert wrong(await judge(ours("uvicorn")), "uvicorn") == {}


@pytest.mark.parametrize("server", ["uvicorn, our Protocol", "uvicorn-h11", "granian", "hypercorn"])
async def test_nor_on_other_servers(server):
    if server in {"granian", "hypercorn"}:
        pytest.importorskip(server)
    some = [one for number, one in enumerate(PAYLOADS) if one.sound or one.family == "trailers" or number % 3 == 0]

    assert wrong(await judge(ours(server), some), server) == {}


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "9.9", ""])
async def test_a_version_that_none_has_is_answered_505_and_the_connection_ends(version):
    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    async with HTTPClient(base_url="http://a.test") as client:
        scope = {"type": "http", "method": "GET", "path": "/", "http_version": version, "headers": [(b"host", b"a")]}
        await ReverseProxy(client)(scope, receive, send)

    assert sent[0]["status"] == 505
    assert (b"connection", b"close") in sent[0]["headers"]


# Fields


async def each(cases, play):
    """Play all cases at once on one server, each by an address of its own, and say which went wrong."""
    proxies = ByAddress(lambda source: None)
    async with serving("uvicorn", proxies) as port:

        async def one(number, case):
            source = asker(number)
            async with AsyncExitStack() as stack:

                async def front(talk, **options):
                    peer = await stack.enter_async_context(Peer(talk))
                    client = await stack.enter_async_context(HTTPClient(base_url=peer.url, max_retries=0))
                    proxies.apps[source] = ReverseProxy(client, **options)
                    return peer

                async def connect():
                    return await stack.enter_async_context(connected(port, source))

                await play(case, source.encode(), front, connect)

        ended = await asyncio.gather(*(one(*case) for case in enumerate(cases)), return_exceptions=True)
    return {case.name: error for case, error in zip(cases, ended, strict=True) if error is not None}


@asynccontextmanager
async def connected(port, source):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask(line, data):
    """The answer to these bytes: all that comes until it is whole, or the connection ends."""
    reader, writer = line
    got = b""
    async with asyncio.timeout(PATIENCE):
        writer.write(data)
        while read(got, data.partition(b" ")[0])[3] == "cut" and (piece := await reader.read(65536)):
            got = (got + piece).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    return got


def read(data, method=b"GET"):
    """Status, fields, body and state ("whole", "cut" or "odd") of an answer; where one is odd, no reader may be trusted with it."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return 0, [], b"", "cut"
    first, *lines = head.split(b"\r\n")
    version, _, status = first[:12].partition(b" ")
    fields = [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    plain_text = not any(byte < 32 and byte != 9 for line in (first, *lines) for byte in line)
    if version != b"HTTP/1.1" or not status.isdigit() or not plain_text or len(lengths) + len(codings) > 1:
        return 0, fields, rest, "odd"
    if method == b"HEAD" or status in {b"204", b"304"}:
        return int(status), fields, rest, "odd" if rest else "whole"
    if lengths:
        size = int(lengths[0])
        return int(status), fields, rest, "cut" if len(rest) < size else "whole" if len(rest) == size else "odd"
    body = b""
    while codings:
        size, end, rest = rest.partition(b"\r\n")
        if not end or len(rest) < int(size, 16) + 2:
            return int(status), fields, body, "cut"
        if size == b"0":
            return int(status), fields, body, "whole" if rest == b"\r\n" else "odd"
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return int(status), fields, rest, "cut"


async def test_fields_of_requests():
    async def play(case, source, front, connect):
        peer = await front(says(answer()), trusted=("127.0.0.0/8",) if case.trusted else ())
        got = await ask(await connect(), b"\r\n".join([case.first, b"Host: a.test", *case.lines, b"", b""]) + case.body)

        assert read(got)[0] == 200, got
        assert len(peer.requests) == 1
        seen = [(name.lower(), value) for name, value in peer.requests[0].headers]
        assert not {name for name, _ in seen} & set(case.gone)
        for name, values in case.there.items():
            assert [value for one, value in seen if one == name] == [value.replace(PEER, source) for value in values]

    assert await each(ASKED, play) == {}


async def test_fields_of_answers():
    async def play(case, source, front, connect):
        async def talk(line):
            await line.request()
            await line.say(case.answer)
            line.hang_up()

        await front(talk)
        got = await ask(await connect(), case.method + b" /p HTTP/1.1\r\nHost: a.test\r\n\r\n")

        status, fields, body, state = read(got, case.method)
        assert (status, body, state) == (case.status, case.body, "whole"), got
        assert not {name for name, _ in fields} & set(case.gone)
        for name, values in case.there.items():
            assert [value for one, value in fields if one == name] == values

    assert await each(ANSWERED, play) == {}


async def test_an_answer_that_breaks_a_rule_harms_nobody_else():
    async def play(case, source, front, connect):
        async def talk(line):
            while (seen := await line.request()) is not None:
                if seen.target == "/next":
                    await line.say(answer(b"next"))
                    continue
                await line.say(case.answer)
                if case.ends:
                    line.hang_up()

        await front(talk)
        line = await connect()
        first = await ask(line, case.method + b" /p HTTP/1.1\r\nHost: a.test\r\n\r\n")
        status, fields, body, state = read(first, case.method)
        assert state != "odd", first
        if state == "whole" and status != 502:
            assert body == case.body, first
        assert b"injected" not in first
        assert not any(name == b"set-cookie" for name, _ in fields)

        # On the same connection, while that is of use.
        second = await ask(line if state == "whole" else await connect(), b"GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert read(second)[::2] == (200, b"next"), second

    assert await each(BAD, play) == {}


async def test_two_users_of_one_proxy_never_see_each_others_cookies():
    async def talk(line):
        while (seen := await line.request()) is not None:
            await line.say(answer(seen.get(b"cookie") or b"none", b"Set-Cookie: user=" + seen.get(b"x-user")))

    async def use(port, user):
        async with connected(port, PEER.decode()) as line:
            for turn in range(50):
                sent = b"Cookie: mine=%b\r\n" % user if turn % 2 else b""
                got = await ask(line, b"GET /p HTTP/1.1\r\nHost: a.test\r\nX-User: %b\r\n%b\r\n" % (user, sent))
                _, fields, body, _ = read(got)
                assert body == (b"mine=" + user if turn % 2 else b"none")
                assert [value for name, value in fields if name == b"set-cookie"] == [b"user=" + user]

    async with (
        Peer(talk) as peer,
        HTTPClient(base_url=peer.url) as client,
        serving("uvicorn", ReverseProxy(client)) as port,
    ):
        await asyncio.gather(use(port, b"ann"), use(port, b"bob"))
    assert peer.accepted <= 2  # one after the other they went by the same connections
