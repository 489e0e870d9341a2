"""WebSockets through the proxy, attacked: what upstreams may send, and what the servers before the proxy cannot bear."""

import asyncio
import logging
import sys
from functools import partial
from types import ModuleType

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Frame, Opcode

from fairlead import HTTPClient
from fairlead.errors import ProtocolError
from fairlead.message import Request
from fairlead.policies import CircuitBreaker, ConcurrencyLimit
from fairlead.policies.circuit import verdict
from fairlead.proxy import ReverseProxy, conversation, websocket
from fairlead.proxy.conversation import _exceeds
from fairlead.proxy.frames import Messages
from fairlead.proxy.websocket import WebSockets, deny
from fairlead.testing import at_every_await, at_every_step
from peers import PATIENCE, Peer, answer, moment
from proxy.sockets import Client, Upstream, Wire, echoing, key_of, proxied, upstream
from served import served
from servers import SERVERS, serving

BYE = Close(4001, "bye").serialize()
ASK = (
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def raw(opcode, data=b"", fin=True):
    return Frame(opcode, data, fin).serialize(mask=False)


async def read(largest, *frames):
    """What is understood of these bytes, and what is answered."""
    wire = Wire([b"".join(frames)])
    talk = Messages(wire, Request("GET", "http://x.test/"), largest)
    found = []
    while (one := await talk.receive()) is not None:
        found.append(one)
    return found, talk.ended


class TestBounds:
    @pytest.mark.parametrize("control", [Opcode.PING, Opcode.PONG])
    async def test_what_comes_in_the_midst_of_a_message_is_no_part_of_its_size(self, control):
        parts = raw(Opcode.BINARY, bytes(100), fin=False), raw(control, bytes(125)), raw(Opcode.CONT, b"")
        found, ended = await read(100, *parts, raw(Opcode.CLOSE, BYE))
        assert found == [bytes(100)]
        assert ended == (4001, "bye", None)

    async def test_a_close_may_say_more_than_a_message(self):
        reason = "x" * 123
        assert await read(1, raw(Opcode.CLOSE, Close(4001, reason).serialize())) == ([], (4001, reason, None))

    @pytest.mark.parametrize(
        "frames",
        [
            (raw(Opcode.BINARY, bytes(101)),),
            (raw(Opcode.TEXT, b"x" * 101),),
            (raw(Opcode.BINARY, bytes(101), fin=False),),
            (raw(Opcode.BINARY, bytes(60), fin=False), raw(Opcode.CONT, bytes(41), fin=False)),
            (raw(Opcode.BINARY, bytes(60), fin=False), raw(Opcode.PING, b"?"), raw(Opcode.CONT, bytes(41))),
            (b"\x82\x7f" + (1 << 63).to_bytes(8, "big"),),
            (b"\x89\x7f" + (1 << 62).to_bytes(8, "big"),),
        ],
    )
    async def test_a_byte_more_than_the_bound_is_one_too_many_however_it_is_cut(self, frames):
        found, ended = await read(100, raw(Opcode.BINARY, bytes(100)), *frames)
        assert found == [bytes(100)]
        assert "a message too large" in ended.fault.message

    @pytest.mark.parametrize("data", [bytearray(3), memoryview(b"abc"), b"abc", "abc", "\u00fcb"])
    def test_a_server_may_hand_over_bytes_of_any_kind(self, data):
        assert not _exceeds(data, 3)
        assert _exceeds(data, 2)


async def test_among_many_small_frames_others_have_their_turn():
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    wire = Wire([raw(Opcode.PING) * 32_768])
    task = asyncio.create_task(other())
    assert await Messages(wire, Request("GET", "http://x.test/"), None).receive() is None
    task.cancel()
    assert turns >= 16


async def test_a_close_in_the_midst_of_a_message_is_how_the_upstream_ended_it():
    """The library takes it for an error; the client is told what was said."""

    async def closing(socket):
        await socket.say(Opcode.TEXT, b"half", fin=False)
        await socket.close(4001, "bye")

    async with proxied(upstream(closing)) as (client, _, _):
        await client.until("websocket.close")
    assert (client.heard, client.closed) == ([], (4001, "bye"))


@pytest.mark.parametrize("timeout", [5.0, None])
async def test_an_upstream_that_takes_nothing_is_not_waited_for_without_end(timeout, monkeypatch):
    """Whoever gave the proxy a time for its calls gave none for this, and a stalled upstream cannot be pinged."""
    monkeypatch.setattr(websocket, "STALLED", 0.1)

    async def deaf(socket):
        socket.line.writer.transport.pause_reading()
        await socket.line.peer.until(lambda: bool(client.sent[1:]))
        socket.line.writer.transport.resume_reading()

    client = Client()
    async with proxied(upstream(deaf), client=client, timeout=timeout) as (client, peer, _):
        await client.until("websocket.accept")
        client.say(bytes(12 << 20))
        await client.until("websocket.close")
        peer.note()
    assert client.closed[0] == 1011


async def test_nor_is_a_client_that_does_and_whose_server_does_not_ping(monkeypatch):
    monkeypatch.setattr(conversation, "TAKEN", 0.05)

    async def speaking(socket):
        await socket.say(Opcode.TEXT, b"hello")

    stalled = Client(slow=asyncio.Event())
    async with proxied(upstream(speaking), client=stalled) as (client, peer, task):
        await task
    assert client.heard == []
    assert client.closed[0] == 1008
    assert peer.words == [(1001).to_bytes(2, "big")]


async def test_but_one_that_takes_what_there_is_stays(monkeypatch):
    monkeypatch.setattr(conversation, "TAKEN", 0.02)

    async def patient(socket):
        for _ in range(20):
            await moment()
        await socket.say(Opcode.TEXT, b"late")
        for _ in range(20):
            await moment()

    async with proxied(upstream(patient)) as (client, peer, _):
        await client.until("websocket.send")
        client.leave(4002)
    assert client.heard == ["late"]
    assert peer.words == [(4002).to_bytes(2, "big")]


async def test_a_token_among_the_subprotocols_is_in_no_log(caplog):
    """A page can set no other field of a handshake: Kubernetes, for one, is sent its bearers there."""
    caplog.set_level(logging.DEBUG)

    class Bearing(Client):
        @property
        def scope(self):
            return {**super().scope, "subprotocols": ["bearer.topsecret", "chat"]}

    async with proxied(upstream(echoing), client=Bearing()) as (client, peer, _):
        await client.until("websocket.accept")
        client.leave()
    assert peer.requests[0].get(b"sec-websocket-protocol") == b"bearer.topsecret, chat"
    shown = [one for one in caplog.records if one.name == "fairlead"]
    assert any("sec-websocket-key" in str(vars(one)).lower() for one in shown)
    assert not any("topsecret" in str(vars(one)) for one in shown)


async def test_a_conversation_is_a_good_probe_from_its_101_on_and_its_end_is_no_failure():
    async def talk(line):
        if line.peer.accepted == 1:
            line.reset()
            return
        socket = Upstream(line)
        await socket.agree()
        await socket.frame()
        line.reset()

    policies = CircuitBreaker(consecutive=1, open_for=0.01, random=lambda: 0.0), ConcurrencyLimit()
    async with asyncio.timeout(PATIENCE), Peer(talk) as peer, HTTPClient(peer.url, policies=policies) as api:
        app = ReverseProxy(api, websockets=WebSockets(ping_interval=None))
        lost = Client()
        await app(lost.scope, lost.receive, lost.send)
        assert (lost.sent[0]["status"], verdict(api.upstream)) == (502, "open")
        while True:
            client = Client()
            task = asyncio.create_task(app(client.scope, client.receive, client.send))
            await client.changed.wait()
            if client.sent[0]["type"] == "websocket.accept":
                break
            assert client.sent[0]["status"] == 503
            await task
            await moment()
        assert verdict(api.upstream) == "closed"
        client.say("go")
        await task
        assert client.closed[0] == 1011
        assert verdict(api.upstream) == "closed"


def refusing(*fields, status=b"401 Unauthorized", body=b"no"):
    async def talk(line):
        while await line.head() is not None:
            await line.say(answer(body, *fields, status=status))

    return talk


class TestRefusals:
    @pytest.mark.parametrize("implementation", ["websockets-sansio", "wsproto"])
    @pytest.mark.parametrize("field", [b"Date: Sun, 22 Nov 2026 11:00:00 GMT", b"Content-Type: a/b"])
    async def test_one_that_repeats_what_may_stand_once_reaches_the_client(self, implementation, field):
        """An upstream that is itself a proxy on uvicorn has two dates: uvicorn would say nothing at all."""
        async with (
            asyncio.timeout(PATIENCE),
            Peer(refusing(field, field)) as peer,
            served(ReverseProxy(HTTPClient(peer.url)), ws=implementation) as port,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ASK)
            told = await reader.read()
            writer.close()
        assert told.startswith(b"HTTP/1.1 401 ")
        assert told.lower().count(field.lower()) == 1
        assert told.endswith(b"\r\n\r\nno")

    async def test_what_may_be_repeated_is(self, monkeypatch):
        monkeypatch.delitem(sys.modules, "granian", raising=False)
        fields = b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"WWW-Authenticate: Basic", b"WWW-Authenticate: Digest"
        async with proxied(refusing(*fields), kept=1) as (client, _, task):
            await task
        assert client.sent[0]["headers"] == [
            (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"www-authenticate", b"Basic"), (b"www-authenticate", b"Digest"),
            (b"content-length", b"2"),
        ]  # fmt: skip

    async def test_but_not_in_a_process_of_granian_which_it_would_abort(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "granian", ModuleType("granian"))
        async with proxied(refusing(b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"X-A: 1"), kept=1) as (client, _, task):
            await task
        assert client.sent[0]["headers"] == [(b"set-cookie", b"a=1"), (b"x-a", b"1"), (b"content-length", b"2")]

    @pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
    async def test_one_without_a_body_has_no_length(self, status):
        async with proxied(refusing(status=status, body=b""), kept=1) as (client, _, task):
            await task
        assert client.sent[0]["headers"] == []

    async def test_on_http_2_none_has_a_connection_field(self):
        """No server can send one there (RFC 9113 section 8.2.2): the client would be told nothing."""

        class Extended(Client):
            @property
            def scope(self):
                return {**super().scope, "http_version": "2", "headers": []}

        async with HTTPClient("http://upstream.test") as api:
            client = Extended()
            await ReverseProxy(api)(client.scope, client.receive, client.send)
        assert client.sent[0]["status"] == 400
        assert b"connection" not in dict(client.sent[0]["headers"])

    @pytest.mark.parametrize("error", [OSError, RuntimeError])
    async def test_nobody_may_be_left_to_be_told(self, error):
        """granian says so by a RuntimeError."""

        async def gone(_):
            raise error("already gone")

        await deny(Client().scope, gone, 403, [], b"")

    async def test_a_101_that_is_none_is_noted_as_a_fault_of_the_call(self):
        async def talk(line):
            await line.head()
            await line.say(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: AAAA\r\n\r\n"
            )

        heard = []
        async with proxied(talk, options={"sinks": (heard.append,)}) as (client, _, task):
            await task
        assert client.sent[0]["status"] == 502
        (finished,) = [one for one in heard if type(one).__name__ == "Finished"]
        assert isinstance(finished.error, ProtocolError)


async def asked_for(cut, *, how):
    """One handshake whose application is cut, whatever it is answered."""
    client = Client()

    async def talk(line):
        if (seen := await line.head()) is None:
            return
        agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        if how == "refused":
            await line.say(answer(bytes(100_000), status=b"403 Forbidden"))
        elif how == "agreed to something else":
            await line.say(agreed + b"Sec-WebSocket-Accept: AAAA\r\n\r\n")
        elif how == "dropped":
            line.reset()
        else:
            key = key_of(seen.get(b"sec-websocket-key"))
            await line.say(
                agreed + b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n" + raw(Opcode.TEXT, b"x") + raw(Opcode.CLOSE, BYE)
            )

    async with asyncio.timeout(PATIENCE), Peer(talk) as peer, HTTPClient(peer.url, max_retries=0) as api:
        await cut(ReverseProxy(api)(client.scope, client.receive, client.send))
        slots = api.upstream.states.get(("ConcurrencyLimit", "default"))
        assert slots is None or slots.taken == 0
        assert api._under_way == 0
        left = asyncio.all_tasks() - peer.tasks - {asyncio.current_task()}
        for _ in range(5):
            await asyncio.sleep(0)
        assert not {task for task in left if not task.done()}


@pytest.mark.parametrize("how", ["refused", "agreed to something else", "dropped", "ended at once"])
class TestTorture:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch):
        monkeypatch.setattr(conversation, "CLOSING", 0.01)

    def test_a_cancellation_at_any_step_of_a_handshake_leaves_nothing(self, how):
        assert at_every_step(partial(asked_for, how=how), real=True) > 20

    def test_whatever_happens_at_any_await_of_it_leaves_nothing(self, how):
        assert at_every_await(partial(asked_for, how=how)) > 20


@pytest.mark.parametrize("server", SERVERS)
class TestServers:
    async def test_either_side_may_end_it_and_nothing_is_left(self, server):
        async def closing(socket):
            await socket.frame()
            await socket.close(4001, "bye")

        for ends in ("upstream", "client", "connection"):
            talk = upstream(closing) if ends == "upstream" else upstream(echoing)
            async with asyncio.timeout(PATIENCE), Peer(talk) as peer, HTTPClient(peer.url) as api:
                app = ReverseProxy(api, websockets=WebSockets(ping_interval=None))
                async with serving(server, app) as port:
                    socket = await connect(f"ws://127.0.0.1:{port}/")
                    await socket.send("hello")
                    if ends == "upstream":
                        with pytest.raises(ConnectionClosed):
                            await socket.recv()
                        assert (socket.close_code, socket.close_reason) == (4001, "bye")
                    else:
                        assert await socket.recv() == "hello"
                        if ends == "client":
                            await socket.close(4002)
                        else:
                            socket.transport.abort()
                    await peer.empty()
                    slots = api.upstream.states["ConcurrencyLimit", "default"]
                    while slots.taken or api._under_way:
                        await moment()

    async def test_a_client_that_leaves_a_flood_leaves_nothing(self, server):
        async def flooding(socket):
            while True:
                await socket.say(Opcode.BINARY, bytes(65536))

        async def talk(line):
            socket = Upstream(line)
            await socket.agree()
            await flooding(socket)

        async with asyncio.timeout(PATIENCE), Peer(talk) as peer, HTTPClient(peer.url) as api:
            faults = []

            async def app(scope, receive, send):
                try:
                    await ReverseProxy(api, websockets=WebSockets(ping_interval=None))(scope, receive, send)
                except Exception as error:
                    faults.append(error)
                    raise

            async with serving(server, app) as port:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(ASK)
                await reader.readexactly(300_000)
                writer.transport.abort()
                slots = api.upstream.states["ConcurrencyLimit", "default"]
                while slots.taken or api._under_way:
                    await moment()
            assert faults == []
