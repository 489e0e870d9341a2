"""uvicorn's HTTP as we have it: what an application says in one breath leaves in one write, and what it says first leaves at once."""

import asyncio

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from fairlead.proxy.uvicorn import SMALL, Protocol

ASKED = b"GET / HTTP/1.1\r\nhost: service.example\r\n\r\n"


class Written(asyncio.Transport):
    """A transport that keeps what is written to it, write by write."""

    def __init__(self):
        super().__init__()
        self.writes, self.closed = [], False

    def write(self, data):
        assert not self.closed, "nothing is written after the close"
        self.writes.append(bytes(data))

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


def serving(app):
    """A connection that was made."""
    config = Config(app, lifespan="off", log_config=None, proxy_headers=False, server_header=False, date_header=False)
    protocol, transport = Protocol(config, ServerState(), {}, asyncio.get_running_loop()), Written()
    protocol.connection_made(transport)
    return protocol, transport


async def ended(protocol):
    await asyncio.wait_for(asyncio.gather(*protocol.tasks), 5)


async def begin(send, length):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % length)]})


async def body(send, data, more=False):
    await send({"type": "http.response.body", "body": data, "more_body": more})


def head(length):
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length


async def test_a_small_answer_is_one_write():
    async def app(scope, receive, send):
        await begin(send, 2)
        await body(send, b"ok")

    protocol, transport = serving(app)
    protocol.data_received(ASKED)
    await ended(protocol)
    assert transport.writes == [head(2) + b"ok"]


async def test_a_head_whose_body_takes_its_time_does_not_wait_for_it():
    more = asyncio.Event()

    async def app(scope, receive, send):
        await begin(send, 4)
        await more.wait()
        await body(send, b"ok", more=True)
        more.clear()
        await more.wait()
        await body(send, b"ay")

    protocol, transport = serving(app)
    protocol.data_received(ASKED)
    for expected in ([head(4)], [head(4), b"ok"]):
        for _ in range(5):
            await asyncio.sleep(0)
        assert transport.writes == expected
        more.set()
    await ended(protocol)
    assert transport.writes == [head(4), b"ok", b"ay"]


async def test_a_large_body_is_not_copied():
    large = bytes(SMALL + 1)

    async def app(scope, receive, send):
        await begin(send, len(large))
        await body(send, large)

    protocol, transport = serving(app)
    protocol.data_received(ASKED)
    await ended(protocol)
    assert transport.writes == [head(len(large)), large]


async def test_answers_to_requests_that_came_together_leave_in_their_order():
    async def app(scope, receive, send):
        said = scope["path"].encode()
        await begin(send, len(said))
        await body(send, said)

    protocol, transport = serving(app)
    protocol.data_received(ASKED.replace(b"/ ", b"/one ") + ASKED.replace(b"/ ", b"/three "))
    await ended(protocol)
    await ended(protocol)
    assert transport.writes == [head(4) + b"/one", head(6) + b"/three"]


async def test_a_refusal_of_what_is_no_request_stands_behind_what_was_said_before():
    async def app(scope, receive, send):
        await begin(send, 2)
        protocol.data_received(b"no request\r\n\r\n")

    protocol, transport = serving(app)
    protocol.data_received(ASKED)
    await ended(protocol)
    assert transport.writes[0] == head(2)
    assert transport.writes[1].startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("sent", [b"ok", b"o"])
async def test_what_is_held_is_written_before_the_connection_is_closed(sent):
    """Closed after a whole answer, as its caller asks, or because it broke off."""

    async def app(scope, receive, send):
        await begin(send, 2)
        await body(send, sent, more=len(sent) < 2)

    protocol, transport = serving(app)
    protocol.data_received(ASKED.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    await ended(protocol)
    assert b"".join(transport.writes).endswith(b"\r\n\r\n" + sent)
    assert transport.closed
