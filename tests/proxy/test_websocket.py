"""WebSockets through the proxy: the handshake, messages both ways, every way to end, and nothing left behind."""

import asyncio
import logging
import subprocess
import sys
from functools import partial
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import EXTERNAL_CLOSE_CODES, Close, Frame, Opcode

from fairlead import ConfigError, HTTPClient, Timeout
from fairlead.errors import Disconnected
from fairlead.message import Request
from fairlead.policies import CircuitBreaker, ConcurrencyLimit
from fairlead.proxy import ReverseProxy, conversation, websocket
from fairlead.proxy.conversation import Conversation
from fairlead.proxy.frames import REASON, Messages, cut, sendable
from fairlead.proxy.websocket import DENIED, WebSockets
from fairlead.testing import at_every_await, at_every_step
from peers import PATIENCE, Peer, answer, closed_port, loops, moment
from proxy.sockets import KEPT, Client, Upstream, Wire, echoing, key_of, ponging, proxied, upstream
from served import served


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Nobody waits long for whoever does not end."""
    monkeypatch.setattr(conversation, "CLOSING", 0.3)


class TestHandshake:
    async def test_the_upstream_is_asked_first_and_chooses_the_subprotocol(self):
        async def talk(line):
            socket = Upstream(line)
            await asyncio.sleep(0)
            assert not client.sent
            await socket.agree(
                b"Date: Sun, 22 Nov 2026 11:00:00 GMT",
                b"Server: x",
                b"Sec-WebSocket-Protocol: superchat",
                b"Set-Cookie: a=1",
                b"Set-Cookie: b=2",
                b"Keep-Alive: 5",
            )
            await echoing(socket)

        client = Client(target=b"/a%2Fb/?x=1&x=%20")
        async with proxied(talk, client=client) as (client, peer, _):
            accepted = await client.until("websocket.accept")
            client.leave()
        assert accepted["subprotocol"] == "superchat"
        assert accepted["headers"] == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        (asked,) = peer.requests
        assert (asked.method, asked.target) == ("GET", "/a%2Fb/?x=1&x=%20")
        fields = dict(asked.headers)
        assert {name.lower(): value for name, value in fields.items()}.items() >= dict(KEPT).items()
        assert (asked.get(b"connection"), asked.get(b"upgrade")) == (b"Upgrade", b"websocket")
        assert asked.get(b"sec-websocket-protocol") == b"chat, superchat"
        assert asked.get(b"sec-websocket-version") == b"13"
        assert asked.get(b"sec-websocket-key") not in {None, b"AAAAAAAAAAAAAAAAAAAAAA=="}
        assert asked.get(b"sec-websocket-extensions") is None
        assert asked.get(b"x-mine") is None
        assert asked.get(b"x-forwarded-proto") == b"http"
        assert asked.get(b"x-forwarded-for") == b"192.0.2.7"
        assert asked.get(b"via") == b"1.1 fairlead"

    async def test_on_http_2_there_is_no_upgrade_and_no_key(self):
        class Extended(Client):
            @property
            def scope(self):
                headers = [(b"host", b"proxy.test"), *KEPT]
                own = {
                    "http_version": "2",
                    "scheme": "wss",
                    "headers": headers,
                    "subprotocols": ["chat", "", "superchat"],
                }
                return {**super().scope, **own}

        async with proxied(upstream(echoing), client=Extended()) as (client, peer, _):
            client.say("hello")
            await client.until("websocket.send")
            client.leave()
        (asked,) = peer.requests
        assert (asked.get(b"x-forwarded-proto"), asked.get(b"via")) == (b"https", b"2 fairlead")
        assert asked.get(b"sec-websocket-protocol") == b"chat, superchat"

    async def test_each_has_a_key_of_its_own(self):
        keys = set()
        for _ in range(2):
            async with proxied(upstream(echoing)) as (client, peer, _):
                await client.until("websocket.accept")
                client.leave()
            keys.add(peer.requests[0].get(b"sec-websocket-key"))
        assert len(keys) == 2

    async def test_the_clients_policies_count(self):
        async with proxied(upstream(echoing), options={"auth": ("ours", "secret")}) as (client, peer, _):
            await client.until("websocket.accept")
            client.leave()
        assert peer.requests[0].get(b"authorization").startswith(b"Basic ")

    @pytest.mark.parametrize("status", [b"403 Forbidden", b"503 Service Unavailable", b"302 Found", b"200 OK"])
    async def test_a_refusal_is_relayed_and_not_asked_for_again(self, status):
        async def talk(line):
            while await line.head() is not None:
                await line.say(answer(b"no", b"X-Why: 1", b"Connection: X-Hop", b"X-Hop: 1", status=status))

        async with proxied(talk, kept=1) as (client, peer, task):
            await task
        start, body = client.sent
        assert (start["type"], start["status"]) == ("websocket.http.response.start", int(status[:3]))
        assert dict(start["headers"]) == {b"x-why": b"1", b"content-length": b"2"}
        assert body == {"type": "websocket.http.response.body", "body": b"no"}
        assert len(peer.requests) == 1

    async def test_where_it_leads_is_said_as_the_caller_sees_it(self):
        async def talk(line):
            await line.head()
            await line.say(answer(b"", b"Location: " + line.peer.url.encode() + b"/login", status=b"302 Found"))

        async with proxied(talk, kept=1) as (client, _, task):
            await task
        assert dict(client.sent[0]["headers"])[b"location"] == b"/login"

    async def test_a_server_that_knows_no_such_answer_is_told_to_close(self):
        async def talk(line):
            await line.head()
            await line.say(answer(status=b"503 Busy"))

        async with proxied(talk, client=Client(denies=False), kept=1) as (client, _, task):
            await task
        assert [one["type"] for one in client.sent] == ["websocket.close"]

    @pytest.mark.parametrize("kind", ["too long", "broken off", "endless"])
    async def test_of_a_refusal_that_cannot_be_passed_on_the_status_is_told(self, kind, monkeypatch):
        if kind == "endless":
            monkeypatch.setattr(websocket, "DENYING", 0.05)
        length = DENIED + 1 if kind == "too long" else 9

        async def talk(line):
            await line.head()
            await line.say(b"HTTP/1.1 403 Forbidden\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % length)
            await line.say(bytes(length) if kind == "too long" else b"half")
            if kind == "broken off":
                line.hang_up()

        async with proxied(talk) as (client, _, task):
            await task
        start, end = client.sent
        assert (start["status"], start["headers"], end["body"]) == (403, [(b"content-length", b"0")], b"")

    async def test_a_status_that_no_server_would_send_is_a_bad_gateway(self):
        async def talk(line):
            await line.head()
            await line.say(answer(status=b"600 Odd"))

        async with proxied(talk, kept=1) as (client, _, task):
            await task
        assert client.sent[0]["status"] == 502

    @pytest.mark.parametrize(
        "lines",
        [
            (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Accept: AAAA"),
            (b"Connection: Upgrade", b"Upgrade: websocket"),
            (b"Connection: keep-alive", b"Upgrade: websocket", b"Sec-WebSocket-Accept: %b"),
            (b"Connection: Upgrade", b"Upgrade: h2c", b"Sec-WebSocket-Accept: %b"),
            (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Accept: %b", b"Sec-WebSocket-Protocol: z"),
            (
                b"Connection: Upgrade",
                b"Upgrade: websocket",
                b"Sec-WebSocket-Accept: %b",
                b"Sec-WebSocket-Extensions: permessage-deflate",
            ),
        ],
    )
    async def test_who_agrees_to_something_else_is_a_bad_gateway(self, lines):
        async def talk(line):
            seen = await line.head()
            key = key_of(seen.get(b"sec-websocket-key"))
            fields = b"\r\n".join(one.replace(b"%b", key) for one in lines)
            await line.say(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\r\n")

        async with proxied(talk) as (client, _, task):
            await task
        assert client.sent[0]["status"] == 502
        assert b"http_protocol_error" in dict(client.sent[0]["headers"])[b"proxy-status"]

    async def test_nobody_there_is_tried_again_and_then_a_bad_gateway(self):
        async with HTTPClient(f"http://127.0.0.1:{closed_port()}", retry_delay=0.001) as api:
            client = Client()
            await ReverseProxy(api)(client.scope, client.receive, client.send)
            assert client.sent[0]["status"] == 502
            client, heard = Client(), []
            api.upstream.sinks = (heard.append,)
            await ReverseProxy(api)(client.scope, client.receive, client.send)
            assert [type(one).__name__ for one in heard].count("Retried") == 2
            client = Client()  # five failures in a row: its circuit is open
            await ReverseProxy(api)(client.scope, client.receive, client.send)
            assert client.sent[0]["status"] == 503
            assert b"retry-after" in dict(client.sent[0]["headers"])

    async def test_who_says_nothing_is_late_and_the_circuit_hears_of_it(self):
        async def mute(line):
            await line.gone()

        policies = CircuitBreaker(consecutive=1), ConcurrencyLimit()
        options = {"policies": policies}
        async with proxied(mute, options=options, timeout=0.1) as (client, _, task):
            await task
        assert client.sent[0]["status"] == 504

    async def test_a_handshake_that_was_sent_is_not_sent_again(self):
        async def dropping(line):
            await line.head()
            line.reset()

        async with proxied(dropping) as (client, peer, task):
            await task
        assert (client.sent[0]["status"], len(peer.requests)) == (502, 1)

    async def test_a_kept_connection_that_had_died_is_not_the_clients_concern(self):
        async def once(line):
            if line.peer.accepted > 1:
                await upstream(echoing)(line)
                return
            await line.head()
            await line.say(answer(status=b"403 Forbidden"))
            await line.head()
            line.hang_up()

        async with Peer(once) as peer, HTTPClient(peer.url) as api, asyncio.timeout(PATIENCE):
            app = ReverseProxy(api)
            refused = Client()
            await app(refused.scope, refused.receive, refused.send)
            assert refused.sent[0]["status"] == 403
            client = Client()
            task = asyncio.create_task(app(client.scope, client.receive, client.send))
            await client.until("websocket.accept")
            client.leave()
            await task
        assert (peer.accepted, len(peer.requests)) == (2, 3)

    async def test_a_client_that_leaves_meanwhile_is_asked_for_no_more(self):
        async def slow(line):
            await line.head()
            client.leave(1006)
            await line.gone()

        client = Client()
        async with proxied(slow, client=client):
            pass
        assert client.sent == []

    async def test_a_client_that_speaks_early_is_heard_later(self):
        async def slow(line):
            client.say("early")
            while not client.inbox.empty():
                await moment()
            await upstream(echoing)(line)

        client = Client()
        async with proxied(slow, client=client):
            await client.until("websocket.send")
            client.leave()
        assert client.heard == ["early"]

    async def test_a_client_that_is_gone_as_it_is_accepted(self):
        async def talk(line):
            socket = Upstream(line)
            client.left = True
            await socket.agree()

        client = Client()
        async with proxied(talk, client=client):
            pass
        assert client.sent == []

    async def test_none_are_passed_on_where_none_are_wanted(self):
        async with HTTPClient("http://upstream.test") as api:
            client = Client()
            await ReverseProxy(api, websockets=None)(client.scope, client.receive, client.send)
        assert client.sent[0]["status"] == 403

    async def test_another_engine_says_that_it_cannot(self, caplog):
        async with HTTPClient("http://upstream.test", engine="httpx2") as api:
            client = Client()
            await ReverseProxy(api)(client.scope, client.receive, client.send)
        assert client.sent[0]["status"] == 500
        assert "native" in caplog.text

    @pytest.mark.parametrize("wrong", [{"largest": 0}, {"largest": 1.5}, {"ping_interval": 0}, {"idle": True}])
    def test_what_cannot_be_is_said(self, wrong):
        with pytest.raises(ConfigError, match=f"WebSockets: {next(iter(wrong))}="):
            WebSockets(**wrong)

    async def test_its_deadline_is_that_of_the_handshake_alone(self):
        async def patient(socket):
            for _ in range(30):
                await moment()
            await socket.say(Opcode.TEXT, b"late")

        async with proxied(upstream(patient), timeout=Timeout(total=0.2, read=0.1)) as (client, _, _):
            await client.until("websocket.send")
            client.leave()
        assert client.heard == ["late"]


class TestMessages:
    async def test_text_stays_text_and_bytes_stay_bytes(self):
        async with proxied(upstream(echoing)) as (client, _, _):
            said = ["hello", b"hello", "", b"", "\u00fc\U0001f600", bytes(range(256)), "x" * 70_000, bytes(1 << 20)]
            for one in said:
                client.say(one)
            await client.until("websocket.send", len(said))
            client.leave()
        assert client.heard == said
        assert [type(one) for one in client.heard] == [type(one) for one in said]

    async def test_fragments_are_put_together_also_within_a_character(self):
        async def piecemeal(socket):
            whole = "a\u00fc\U0001f600".encode()
            await socket.say(Opcode.TEXT, whole[:2], fin=False)
            await socket.say(Opcode.PING, b"between")
            await socket.say(Opcode.CONT, b"", fin=False)
            await socket.say(Opcode.CONT, whole[2:5], fin=False)
            await socket.say(Opcode.CONT, whole[5:])
            frame = await socket.frame()
            assert (frame.opcode, bytes(frame.data)) == (Opcode.PONG, b"between")

        async with proxied(upstream(piecemeal)) as (client, _, _):
            await client.until("websocket.send")
            client.leave()
        assert client.heard == ["a\u00fc\U0001f600"]

    async def test_more_than_any_body_may_have(self):
        """The bound of a body is none of another protocol's bytes."""
        async with proxied(upstream(echoing)) as (client, _, _):
            for number in range(1, 18):
                client.say(bytes(4 << 20))
                await client.until("websocket.send", number)
                client.sent[-1]["bytes"] = b""
            client.leave()

    async def test_a_message_of_the_upstreams_that_is_too_large(self):
        async def large(socket):
            await socket.say(Opcode.BINARY, bytes(100))
            await socket.say(Opcode.BINARY, bytes(60), fin=False)
            await socket.say(Opcode.CONT, bytes(41))

        bound = WebSockets(largest=100, ping_interval=None)
        async with proxied(upstream(large), websockets=bound) as (client, peer, _):
            await client.until("websocket.close")
        assert client.heard == [bytes(100)]
        assert client.closed[0] == 1011
        assert peer.words[0][:2] == (1009).to_bytes(2, "big")

    @pytest.mark.parametrize("data", [bytes(101), "x" * 101, "\u00fc" * 51])
    async def test_a_message_of_the_clients_that_is_too_large(self, data):
        bound = WebSockets(largest=100, ping_interval=None)
        async with proxied(upstream(), websockets=bound) as (client, peer, _):
            client.say("\u00fc" * 50)
            client.say(data)
            await client.until("websocket.close")
        assert client.closed[0] == 1009
        assert peer.words == [(1001).to_bytes(2, "big")]

    @pytest.mark.parametrize("parts", [[b"\xff"], [b"\xf0\x9f", b"x"], [b"fine", b"\xed\xa0\x80"]])
    async def test_text_that_is_no_utf8(self, parts):
        async def broken(socket):
            first, *rest = parts
            await socket.say(Opcode.TEXT, first, fin=not rest)
            for number, part in enumerate(rest, 1):
                await socket.say(Opcode.CONT, part, fin=number == len(rest))

        async with proxied(upstream(broken)) as (client, peer, _):
            await client.until("websocket.close")
        assert (client.heard, client.closed[0]) == ([], 1011)
        assert peer.words == [(1007).to_bytes(2, "big")]

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x83\x00",
            b"\xc1\x00",
            b"\x81\x80abcd",
            b"\x80\x00",
            b"\x09\x00",
            b"\x89\x7e\x00\x7e" + bytes(126),
            b"\x88\x01x",
        ],
    )
    async def test_frames_that_are_none(self, raw):
        async def broken(socket):
            await socket.say(Opcode.TEXT, b"before")
            await socket.line.say(raw)

        async with proxied(upstream(broken)) as (client, peer, _):
            await client.until("websocket.close")
        assert (client.heard, client.closed[0]) == (["before"], 1011)
        assert peer.words[0][:2] == (1002).to_bytes(2, "big")

    async def test_what_is_in_the_frames_is_in_no_log(self, caplog):
        caplog.set_level(logging.DEBUG)
        async with proxied(upstream(echoing)) as (client, _, _):
            client.say("topsecret")
            await client.until("websocket.send")
            client.leave()
        assert {one.name for one in caplog.records} >= {"fairlead"}
        assert not [one for one in caplog.records if one.name != "websockets.server" and "secret" in one.getMessage()]


class TestEnds:
    @pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 1012, 1014, 3000, 4999])
    async def test_a_code_and_its_reason_go_both_ways(self, code):
        async with proxied(upstream()) as (client, peer, _):
            await client.until("websocket.accept")
            client.leave(code, "f\u00fcr immer")
        assert peer.words == [code.to_bytes(2, "big") + "f\u00fcr immer".encode()]

        async def closing(socket):
            await socket.close(code, "f\u00fcr immer")

        async with proxied(upstream(closing)) as (client, peer, _):
            await client.until("websocket.close")
        assert client.closed == (code, "f\u00fcr immer")
        assert peer.words == [code.to_bytes(2, "big") + "f\u00fcr immer".encode()], "the close was not answered"

    @pytest.mark.parametrize(
        ("left", "told"),
        [(1005, b""), (None, b""), (1006, b"\x03\xe9"), (1015, b"\x03\xe9"), (0, b""), (2000, b"\x03\xe9")],
    )
    async def test_codes_that_are_never_sent(self, left, told):
        async with proxied(upstream()) as (client, peer, _):
            await client.until("websocket.accept")
            client.leave(left, "" if left is None else "why")
        assert peer.words[0][:2] == told

    async def test_a_close_without_a_code_is_a_normal_one(self):
        async def closing(socket):
            await socket.close(1005)

        async with proxied(upstream(closing)) as (client, _, _):
            await client.until("websocket.close")
        assert client.closed == (1000, "")

    @pytest.mark.parametrize("way", ["hang_up", "reset"])
    async def test_an_upstream_that_vanishes(self, way):
        async def vanishing(socket):
            await socket.say(Opcode.TEXT, b"first")
            await socket.frame()
            getattr(socket.line, way)()

        heard = []
        async with proxied(upstream(vanishing), options={"sinks": (heard.append,)}) as (client, _, _):
            await client.until("websocket.send")
            client.say("go")
            await client.until("websocket.close")
        assert client.heard == ["first"]
        assert client.closed == (1011, "the upstream is gone")
        (finished,) = [one for one in heard if type(one).__name__ == "Finished"]
        assert isinstance(finished.error, Disconnected)

    async def test_what_the_client_said_last_arrives_before_its_close(self):
        seen = []

        async def noting(socket):
            seen.extend([bytes((await socket.frame()).data) for _ in range(3)])

        async with proxied(upstream(noting)) as (client, peer, _):
            await client.until("websocket.accept")
            for one in ("a", "b", "c"):
                client.say(one)
            client.leave(1000)
        assert (seen, peer.words) == ([b"a", b"b", b"c"], [(1000).to_bytes(2, "big")])

    async def test_a_close_overtakes_no_message_that_is_not_taken_yet(self):
        seen = []

        async def slow(socket):
            socket.line.writer.transport.pause_reading()
            while not client.left:
                await moment()
            socket.line.writer.transport.resume_reading()
            seen.extend([bytes((await socket.frame()).data) for _ in range(2)])

        client = Client()
        async with proxied(upstream(slow), client=client) as (client, peer, _):
            await client.until("websocket.accept")
            client.say(bytes(12 << 20))
            client.say(b"last")
            while not client.inbox.empty():
                await moment()
            client.leave(1001)
        assert (seen, peer.words) == ([bytes(12 << 20), b"last"], [(1001).to_bytes(2, "big")])

    async def test_a_client_that_takes_nothing_any_more_may_still_say_why(self, monkeypatch):
        monkeypatch.setattr(conversation, "CLOSING", PATIENCE)

        async def speaking(socket):
            await socket.say(Opcode.TEXT, b"hello")

        class Reluctant(Client):
            async def send(self, message):
                if message["type"] == "websocket.send":
                    self.changed.set()
                    raise OSError("no more")
                await super().send(message)

        async with proxied(upstream(speaking), client=Reluctant()) as (client, peer, _):
            await client.until("websocket.accept")
            await client.changed.wait()
            await moment()
            client.leave(4000)
        assert peer.words == [(4000).to_bytes(2, "big")]

    async def test_it_is_the_upstreams_to_hang_up(self):
        """RFC 6455 section 7.1.1: the first to close has its port in TIME_WAIT, and that should be no client."""

        async def slow(socket):
            frame = await socket.frame()
            await socket.say(Opcode.CLOSE, bytes(frame.data))
            for _ in range(5):
                await moment()
                assert not socket.line.writer.transport.is_closing()
            socket.line.peer.words.append(b"first")

        async with proxied(upstream(slow)) as (client, peer, _):
            await client.until("websocket.accept")
            client.leave()
        assert peer.words == [b"first"]

    async def test_an_upstream_that_never_answers_a_close_is_left(self):
        async def deaf(socket):
            await socket.line.gone()

        async with proxied(upstream(deaf)) as (client, _, _):
            await client.until("websocket.accept")
            client.leave()

    async def test_a_client_that_leaves_while_the_upstream_takes_nothing(self):
        async def deaf(socket):
            socket.line.writer.transport.pause_reading()
            await socket.line.peer.until(lambda: bool(socket.line.peer.words))
            socket.line.writer.transport.resume_reading()

        async with proxied(upstream(deaf)) as (client, peer, task):
            await client.until("websocket.accept")
            for _ in range(2):
                client.say(bytes(12 << 20))
            while not client.inbox.empty():
                await moment()
            client.leave()
            await task
            peer.words.append(b"left")
            peer.note()

    async def test_a_client_that_takes_nothing_holds_the_upstream_back(self):
        sent = []

        async def flooding(socket):
            while True:
                await socket.say(Opcode.BINARY, bytes(64 * 1024))
                sent.append(None)
                socket.line.peer.note()

        client = Client(slow=asyncio.Event())
        async with proxied(upstream(flooding), client=client) as (client, _, task):
            before = -1
            while before != len(sent):
                before = len(sent)
                for _ in range(10):
                    await moment()
            assert 0 < len(sent) < 500  # what the buffers of two sockets hold
            assert client.heard == []
            client.leave()
            await task

    async def test_an_upstream_that_takes_nothing_holds_the_client_back(self):
        async def deaf(socket):
            socket.line.writer.transport.pause_reading()
            await socket.line.peer.until(lambda: client.left)
            socket.line.writer.transport.resume_reading()

        client = Client()
        async with proxied(upstream(deaf), client=client) as (client, peer, _):
            await client.until("websocket.accept")
            for _ in range(8):
                client.say(bytes(8 << 20))
            for _ in range(10):
                await moment()
            assert client.inbox.qsize() >= 4
            client.leave()
            peer.note()

    async def test_pings_find_out_who_is_gone(self):
        pings = []

        async def silent(socket):
            pings.append((await socket.frame()).opcode)

        soon = WebSockets(ping_interval=0.05)
        async with proxied(upstream(silent), websockets=soon) as (client, _, _):
            await client.until("websocket.close")
        assert pings == [Opcode.PING]
        assert client.closed[0] == 1011

    async def test_who_answers_pings_stays(self):
        async def answering(socket):
            for _ in range(4):
                frame = await socket.frame()
                assert frame.opcode is Opcode.PING
                await socket.say(Opcode.PONG, bytes(frame.data))
            await socket.close(1000)

        async with proxied(upstream(answering), websockets=WebSockets(ping_interval=0.05)) as (client, _, _):
            await client.until("websocket.close")
        assert client.closed[0] == 1000

    async def test_a_client_that_takes_nothing_is_no_fault_of_an_upstream_that_is_not_read(self):
        async def full(socket):
            for _ in range(100):
                await socket.say(Opcode.BINARY, bytes(64 * 1024))

        client = Client(slow=asyncio.Event())
        async with proxied(upstream(full), client=client, websockets=WebSockets(ping_interval=0.03)) as (client, _, _):
            for _ in range(20):
                await moment()
            client.slow.set()
            await client.until("websocket.send", 100)
            client.leave()

    async def test_nor_of_one_that_takes_its_time(self):
        async def slow(socket):
            socket.line.writer.transport.pause_reading()
            for _ in range(60):
                await moment()
            socket.line.writer.transport.resume_reading()
            assert len((await socket.frame()).data) == 12 << 20

        bounds = WebSockets(ping_interval=0.4)
        async with proxied(upstream(slow, ponging), websockets=bounds) as (client, peer, _):
            await client.until("websocket.accept")
            client.say(bytes(12 << 20))
            for _ in range(70):
                await moment()
            client.leave()
        assert peer.words == [(1000).to_bytes(2, "big")]

    async def test_silence_ends_it_where_that_is_wanted(self):
        bounds = WebSockets(idle=0.2, ping_interval=0.02)
        async with proxied(upstream(ponging), websockets=bounds) as (client, peer, _):
            await client.until("websocket.close")
        assert client.closed == (1001, "idle")
        assert peer.words == [(1001).to_bytes(2, "big") + b"idle"]

    @pytest.mark.parametrize("who", ["client", "upstream"])
    async def test_who_speaks_is_not_idle(self, who):
        async def speaking(socket):
            for _ in range(70):
                await moment()
                if who == "upstream":
                    await socket.say(Opcode.TEXT, b"x")

        async with proxied(upstream(speaking), websockets=WebSockets(idle=0.5, ping_interval=None)) as (client, *_):
            await client.until("websocket.accept")
            for _ in range(70):
                await moment()
                if who == "client":
                    client.say("x")
            assert all(one["type"] != "websocket.close" for one in client.sent)
            client.leave()

    async def test_a_client_of_ours_that_is_closed_says_that_it_comes_back(self):
        async with Peer(upstream()) as peer, asyncio.timeout(PATIENCE):
            api = HTTPClient(peer.url)
            client = Client()
            task = asyncio.create_task(ReverseProxy(api)(client.scope, client.receive, client.send))
            await client.until("websocket.accept")
            await api.close(drain=0)
            await task
            assert client.closed == (1012, "")
            await peer.empty()

    @pytest.mark.parametrize("place", ["receive", "send"])
    async def test_what_the_server_raises_is_the_servers_to_know(self, place):
        async def speaking(socket):
            await socket.say(Opcode.TEXT, b"hello")

        class Broken(Client):
            async def receive(self):
                message = await super().receive()
                if message.get("text") == "raise":
                    raise RuntimeError(place)
                return message

            async def send(self, message):
                if place == "send" and message["type"] == "websocket.send":
                    raise RuntimeError(place)
                await super().send(message)

        with pytest.raises(RuntimeError, match=place):
            async with proxied(upstream(speaking), client=Broken()) as (client, _, _):
                await client.until("websocket.accept")
                if place == "receive":
                    client.say("raise")


async def told(cut, *, ends):
    """One WebSocket, whose application is cut: whatever happens to it, its connection, its slot and its tasks are gone."""
    client = Client()

    async def talking():
        await client.until("websocket.accept")
        client.say("one")
        await client.until("websocket.send")
        client.say(b"two")
        if ends == "client":
            client.leave()

    async def talk(line):
        socket = Upstream(line)
        await socket.agree()
        if ends == "client":
            await echoing(socket)
            return
        for _ in range(2):
            if (frame := await socket.frame()) is None:
                return
            await socket.say(Opcode.TEXT, bytes(frame.data))
        await socket.say(Opcode.PING, b"?")
        await socket.close(1000)
        while await socket.frame() is not None:
            pass

    async with asyncio.timeout(PATIENCE), Peer(talk) as peer, HTTPClient(peer.url, max_retries=0) as api:
        driver = asyncio.create_task(talking())
        app = ReverseProxy(api, websockets=WebSockets(ping_interval=0.01, idle=0.1))
        try:
            await cut(app(client.scope, client.receive, client.send))
        finally:
            driver.cancel()
            await asyncio.wait({driver})
        await peer.empty()
        slots = api.upstream.states["ConcurrencyLimit", "default"]
        assert (slots.taken, api._under_way) == (0, 0)
        left = asyncio.all_tasks() - peer.tasks - {asyncio.current_task()}
        for _ in range(5):
            await asyncio.sleep(0)
        assert not {task for task in left if not task.done()}


class TestTorture:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch):
        monkeypatch.setattr(conversation, "CLOSING", 0.01)

    @pytest.mark.parametrize("ends", ["client", "upstream"])
    def test_a_cancellation_at_any_step_leaves_nothing(self, ends):
        assert at_every_step(partial(told, ends=ends), real=True) > 50

    @pytest.mark.parametrize("loop", loops())
    @pytest.mark.parametrize("ends", ["client", "upstream"])
    def test_whatever_happens_at_any_await_leaves_nothing(self, loop, ends):
        assert at_every_await(partial(told, ends=ends), loop_factory=loop) > 50


async def test_an_upstream_that_cannot_be_written_to_is_gone_whatever_is_still_read():
    class Half(Wire):
        async def read(self):
            await asyncio.Event().wait()

        async def write(self, data):
            raise Disconnected("no more")

    client = Client()
    assert (await client.receive())["type"] == "websocket.connect"
    client.say("hello")
    messages = Messages(Half([]), Request("GET", "http://x.test/"), None)
    hearing = asyncio.ensure_future(client.receive())
    talk = Conversation(messages, client.receive, client.send, hearing, largest=None)
    async with asyncio.timeout(PATIENCE):
        fault = await talk.run(inf, inf)
    assert isinstance(fault, Disconnected)
    assert client.closed[0] == 1011


class TestServed:
    async def test_a_real_client_through_a_real_server(self):
        async def dated(line):
            socket = Upstream(line)
            await socket.agree(b"Date: Sun, 22 Nov 2026 11:00:00 GMT", b"Server: x")
            await echoing(socket)

        async with Peer(dated) as peer, asyncio.timeout(PATIENCE):
            app = ReverseProxy(HTTPClient(peer.url))
            async with served(app) as port:
                async with connect(f"ws://127.0.0.1:{port}/", max_size=None) as socket:
                    for said in ("hello", b"\x00", "\u00fc" * 100_000, bytes(1 << 20)):
                        await socket.send(said)
                        assert await socket.recv() == said
                assert socket.close_code == 1000
            assert peer.words == [(1000).to_bytes(2, "big")]

    async def test_a_refusal_reaches_it(self):
        async def talk(line):
            await line.head()
            await line.say(answer(b"members only", status=b"403 Forbidden"))

        async with Peer(talk) as peer, asyncio.timeout(PATIENCE), served(ReverseProxy(HTTPClient(peer.url))) as port:
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{port}/")
        response = refused.value.response
        assert (response.status_code, response.body) == (403, b"members only")

    async def test_a_server_that_stops_ends_them_all(self):
        async with Peer(upstream(echoing)) as peer, asyncio.timeout(PATIENCE):
            async with served(ReverseProxy(HTTPClient(peer.url))) as port:
                socket = await connect(f"ws://127.0.0.1:{port}/")
                await socket.send("hello")
                assert await socket.recv() == "hello"
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1012
            await peer.empty()
        assert peer.words == [(1012).to_bytes(2, "big")]


messages = st.lists(st.one_of(st.text(max_size=50), st.binary(max_size=300)), max_size=6)


class TestFrames:
    @given(messages, st.randoms(use_true_random=False), st.integers(1, 40))
    def test_messages_are_the_same_however_they_are_cut(self, said, random, most):
        raw = b""
        for one in said:
            data = one.encode() if isinstance(one, str) else one
            cuts = sorted(random.randint(0, len(data)) for _ in range(random.randint(0, 3)))
            parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
            for number, part in enumerate(parts):
                kind = Opcode.TEXT if isinstance(one, str) else Opcode.BINARY
                opcode = Opcode.CONT if number else kind
                raw += Frame(opcode, part, number == len(parts) - 1).serialize(mask=False)
                if random.random() < 0.2:
                    raw += Frame(Opcode.PING, b"?").serialize(mask=False)
        raw += Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=False)
        chunks = []
        while raw:
            size = random.randint(1, most)
            chunks.append(raw[:size])
            raw = raw[size:]

        async def heard():
            got = Messages(Wire(chunks), Request("GET", "http://x.test/"), None)
            found = []
            while (one := await got.receive()) is not None:
                found.append(one)
            return found, got.ended

        found, ended = asyncio.run(heard())
        assert found == said
        assert ended[:2] == (1000, "")

    def test_a_code_is_sent_only_where_it_may_be(self):
        allowed = {code for code in range(6000) if code in EXTERNAL_CLOSE_CODES or 3000 <= code < 5000}
        assert {code for code in range(6000) if sendable(code)} == allowed

    @given(st.text(max_size=300))
    def test_a_reason_always_fits(self, reason):
        short = cut(reason)
        assert len(short.encode()) <= REASON
        assert short == reason or not reason.isascii() or reason.startswith(short)

    async def test_a_close_counts_also_where_it_cannot_be_answered(self):
        class Shut(Wire):
            async def write(self, data):
                raise Disconnected("no more")

        wire = Shut([Frame(Opcode.CLOSE, Close(4001, "bye").serialize()).serialize(mask=False)])
        talk = Messages(wire, Request("GET", "http://x.test/"), None)
        assert await talk.receive() is None
        assert talk.ended == (4001, "bye", None)

    async def test_pongs_wait_behind_a_message_that_is_not_taken(self):
        """Whoever waits to say a pong would not read, and an upstream that is not read may take nothing."""
        taken = asyncio.Event()

        class Stuck(Wire):
            async def write(self, data):
                self.written += data
                await taken.wait()

        wire = Stuck([Frame(Opcode.PING, b"1").serialize(mask=False), Frame(Opcode.TEXT, b"on").serialize(mask=False)])
        talk = Messages(wire, Request("GET", "http://x.test/"), None)
        sending = asyncio.create_task(talk.send("stuck"))
        await asyncio.sleep(0)
        before = len(wire.written)
        assert await talk.receive() == "on"
        assert len(wire.written) == before
        taken.set()
        await sending
        assert len(wire.written) == before + 2 + 4 + 1


def test_the_library_is_imported_with_the_first_websocket():
    code = "import sys, fairlead.proxy; assert not any(name.startswith('websockets') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_without_the_library_it_is_said_how_to_have_it(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "websockets.client", None)
    async with HTTPClient("http://upstream.test") as api:
        client = Client()
        await ReverseProxy(api)(client.scope, client.receive, client.send)
    assert client.sent[0]["status"] == 500
    assert "pip install 'fairlead[websocket]'" in caplog.text
