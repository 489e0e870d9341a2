"""Whose deadline bounds a request's calls, and what ends when its caller leaves: by messages, then on real servers."""

import asyncio
import gc
import weakref
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse

from calls import now
from fairlead.asgi import Caller
from fairlead.caller import asked, detached, remaining, within
from fairlead.client import HTTPClient
from fairlead.errors import ConfigError, ConnectFailed
from fairlead.fastapi import Use, install, lifespan, passthrough
from fairlead.gather import gather
from fairlead.inbound import HELD
from fairlead.testing import Pieces, at_every_step, script, virtual_time
from peers import PATIENCE, Peer, answer, echo, moment, mute, says
from servers import SERVERS, serving

GONE = {"type": "http.disconnect"}
EMPTY = {"type": "http.request", "body": b"", "more_body": False}


def body(piece=b"", more=False):
    return {"type": "http.request", "body": piece, "more_body": more}


class Browser:
    """A caller, as an ASGI server tells of it: what it says, when it leaves, and what it was answered."""

    def __init__(self, *messages, headers=(), kind="http"):
        self.line: asyncio.Queue[Any] = asyncio.Queue()
        for message in messages or (EMPTY,):
            self.line.put_nowait(message)
        self.scope = {"type": kind, "method": "GET", "path": "/", "query_string": b"", "headers": list(headers)}
        self.answers = []
        self.reading = self.most = 0

    async def receive(self):
        self.reading += 1
        self.most = max(self.most, self.reading)
        try:
            message = await self.line.get()
        finally:
            self.reading -= 1
        if isinstance(message, Exception):
            raise message
        if message == GONE:
            self.leave()
        return message

    async def send(self, message):
        self.answers.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.leave()  # the request is over, which servers tell in the same way

    def leave(self):
        self.line.put_nowait(GONE)

    def asks(self, app, **options):
        return asyncio.create_task(self._asks(app, options))

    async def _asks(self, app, options):
        try:
            await Caller(app, **options)(self.scope, self.receive, self.send)
        finally:
            assert self.most <= 1, "receive was called twice at once"

    @property
    def status(self):
        return self.answers[0]["status"] if self.answers else None


async def ok(send, status=200):
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def shop(*answers, then=None, **options):
    return HTTPClient("https://shop.test", engine=script(*answers, then=then), **{"timeout": None, **options})


def alone():
    """No task is left but the test's."""
    return asyncio.all_tasks() == {asyncio.current_task()}


def left(client):
    """What a client still has in hand."""
    return client.engine.open + client.upstream.states["ConcurrencyLimit", "default"].taken


# deadlines


async def heard(*fields, kind="http", **options):
    """What is left to the calls of a request with these fields."""
    found = []

    async def app(scope, receive, send):
        found.append(remaining())

    headers = [(name.encode().lower(), value.encode()) for name, value in fields]
    await Browser(headers=headers, kind=kind).asks(app, **options)
    return found[0]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@virtual_time
async def test_a_callers_deadline_bounds_the_calls(kind):
    assert await heard(kind=kind) == inf
    assert await heard(("X-Request-Timeout", "2.5"), kind=kind) == 2.5
    assert await heard(("X-Request-Timeout", "2.5"), kind=kind, cancel_on_disconnect=False) == 2.5


@virtual_time
async def test_the_name_of_the_field_may_be_another_or_none():
    fields = ("X-Request-Timeout", "2"), ("X-Left-Ms", "500"), ("grpc-timeout", "3S")
    assert await heard(*fields, deadline_header="X-Left-Ms") == 0.5
    assert await heard(*fields, deadline_header="grpc-timeout") == 3.0
    assert await heard(*fields, deadline_header=None) == inf


@virtual_time
async def test_of_several_fields_the_shortest_counts_and_nonsense_not_at_all():
    name = "X-Request-Timeout"
    assert await heard((name, "3"), (name, "-1"), (name, "2"), (name, "soon"), (name, "9")) == 2.0
    for value in ("-1", "0", "nan", "inf", "1e3", "", "2, 3", "9" * 5000):
        assert await heard((name, value)) == inf


@virtual_time
async def test_no_request_has_longer_than_the_longest():
    assert await heard(max_deadline=5.0) == 5.0
    assert await heard(("X-Request-Timeout", "60"), max_deadline=5.0) == 5.0
    assert await heard(("X-Request-Timeout", "2"), max_deadline=5.0) == 2.0


@pytest.mark.parametrize("seconds", [0, -1.0, inf, float("nan"), True, "5"])
def test_a_longest_that_cannot_be_is_refused(seconds):
    with pytest.raises(ConfigError, match=r"max_deadline=.* is not a number of seconds above 0"):
        Caller(None, max_deadline=seconds)


def test_a_field_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="header='a b' is no name"):
        Caller(None, deadline_header="a b")


@virtual_time
async def test_around_another_the_outer_one_counts():
    found = []

    async def app(scope, receive, send):
        found.append(remaining())

    await Browser().asks(Caller(app, max_deadline=1.0), max_deadline=5.0)
    assert found == [5.0]


@virtual_time
async def test_a_request_has_nothing_of_the_one_before_it_and_leaves_nothing():
    async def app(scope, receive, send):
        assert remaining() == inf

    browser = Browser()
    with within(2.0):
        await Caller(app)(browser.scope, browser.receive, browser.send)
        assert remaining() == 2.0


@virtual_time
async def test_a_lifespan_passes_by():
    async def app(scope, receive, send):
        assert asked() is None

    await Browser(kind="lifespan").asks(app)


# leaving


async def leaves(app, *messages, after=1.0, browser=None, **options):
    """The browser of an application that is asked and left."""
    browser = browser or Browser(*messages, **options)
    asking = browser.asks(app)
    await asyncio.sleep(after)
    browser.leave()
    await asking
    await asyncio.sleep(0)  # who was cancelled last, ends
    assert alone()
    return browser


@virtual_time
async def test_a_caller_that_leaves_ends_the_call_that_was_made_for_it():
    async with shop(inf) as client:

        async def app(scope, receive, send):
            await client.get("/")
            raise AssertionError("nobody is there to go on for")

        browser = await leaves(app)
        assert now() == 1.0
        assert left(client) == 0
        assert browser.status == 499


@virtual_time
async def test_gathered_calls_end_with_it():
    async with shop(then=inf) as client:

        async def app(scope, receive, send):
            await gather({str(number): client.get("/") for number in range(5)} | {"query": asyncio.sleep(99)})

        await leaves(app)
        assert len(client.engine.calls) == 5
        assert left(client) == 0


@virtual_time
async def test_a_pause_between_attempts_ends_too_and_so_does_the_line():
    async with shop(then=503, retry_delay=1e6, timeout=1e9) as client:
        await leaves(lambda scope, receive, send: client.get("/"))
        assert now() == 1.0
    async with shop(then=inf, max_connections=1) as client:
        holder = asyncio.create_task(client.get("/"))
        await asyncio.sleep(0)
        asking = (browser := Browser()).asks(lambda scope, receive, send: client.get("/"))
        await asyncio.sleep(1.0)
        browser.leave()
        await asking
        assert left(client) == 2  # the holder's own
        holder.cancel()
        with suppress(asyncio.CancelledError):
            await holder


@virtual_time
async def test_a_stream_is_a_call_until_it_is_closed():
    async with shop((200, Pieces(b"a", b"b")), (200, Pieces(b"a"))) as client:

        async def app(scope, receive, send):
            async with client.stream("GET", "/") as response:
                async for _ in response.aiter_bytes():
                    pass
                closed.append(now())
                await asyncio.sleep(3.0)  # read to its end it is closed, so this goes on
            async with client.stream("GET", "/") as response:
                await asyncio.sleep(99.0)

        closed = []
        browser = Browser()
        asking = browser.asks(app)
        await asyncio.sleep(4.0)
        browser.leave()
        await asking
        assert (now(), closed) == (4.0, [0.0])
        assert left(client) == 0


@virtual_time
async def test_between_two_calls_nothing_is_cut_and_the_next_one_is_never_sent():
    async with shop(200, then=200) as client:
        steps = []

        async def app(scope, receive, send):
            await client.get("/")
            await asyncio.sleep(5.0)
            steps.append("written")
            await client.get("/")
            steps.append("never")

        await leaves(app)
        assert (now(), steps) == (5.0, ["written"])
        assert len(client.engine.calls) == 1


@virtual_time
async def test_who_calls_nobody_is_not_cut():
    async def app(scope, receive, send):
        await receive()
        await asyncio.sleep(0.5)
        assert browser.reading == 0  # nor is there anybody who listens
        await asyncio.sleep(4.5)
        await ok(send)

    browser = Browser()
    await leaves(app, browser=browser)
    assert (now(), browser.status) == (5.0, 200)


@virtual_time
async def test_a_call_that_failed_is_none_under_way():
    async with shop(ConnectFailed, max_retries=0) as client:

        async def app(scope, receive, send):
            with pytest.raises(ConnectFailed):
                await client.get("/")
            await asyncio.sleep(5.0)
            await ok(send)

        browser = await leaves(app)
        assert (now(), browser.status) == (5.0, 200)


@virtual_time
async def test_what_is_detached_is_brought_to_its_end():
    async with shop(200, 5.0, 200, then=200) as client:

        async def app(scope, receive, send):
            await client.get("/")
            with detached():
                await client.post("/payments")
            await ok(send)

        browser = await leaves(app)
        assert (now(), browser.status) == (5.0, 200)


@virtual_time
async def test_what_is_bounded_by_hand_inside_a_request_is_cut_too():
    async with shop(inf) as client:

        async def app(scope, receive, send):
            with within(30.0):
                await client.get("/")

        await leaves(app)
        assert now() == 1.0


@virtual_time
async def test_cleaning_up_may_take_its_time_and_may_call():
    async with shop(inf, 2.0, 200) as client:
        steps = []

        async def app(scope, receive, send):
            try:
                await client.get("/")
            finally:
                await asyncio.sleep(1.0)
                steps.append((await client.delete("/lock")).status_code)

        await leaves(app)
        assert (now(), steps) == (4.0, [200])


@virtual_time
async def test_it_can_be_left_alone():
    async with shop(5.0, 200) as client:

        async def app(scope, receive, send):
            await client.get("/")
            await ok(send)

        browser = Browser()
        asking = browser.asks(app, cancel_on_disconnect=False)
        await asyncio.sleep(1.0)
        browser.leave()
        await asking
        assert (now(), browser.status) == (5.0, 200)


@virtual_time
async def test_a_middleware_around_it_that_insists_on_an_answer_has_one():
    async with shop(inf) as client:
        told = []

        async def own(request, call_next):
            response = await call_next(request)
            told.append(response.status_code)
            return response

        async def app(scope, receive, send):
            await client.get("/")

        browser = Browser()
        asking = asyncio.create_task(BaseHTTPMiddleware(Caller(app), own)(browser.scope, browser.receive, browser.send))
        await asyncio.sleep(1.0)
        browser.leave()
        await asking
        assert (now(), told, left(client)) == (1.0, [499], 0)


@virtual_time
async def test_a_server_may_refuse_what_nobody_is_there_for():
    class Closed(Browser):
        async def send(self, message):
            raise BrokenPipeError

    async with shop(inf) as client:
        await leaves(lambda scope, receive, send: client.get("/"), browser=Closed())


async def test_a_call_on_another_loop_has_the_deadline_and_is_let_be():
    async def elsewhere():
        async with shop(0.01, 200) as client:
            await client.get("/")
            return client.engine.calls[0].deadline - now()

    async def app(scope, receive, send):
        found.append(await asyncio.to_thread(asyncio.run, elsewhere()))
        await ok(send)

    found = []
    browser = Browser(EMPTY, GONE, headers=[(b"x-request-timeout", b"60")])
    await browser.asks(app)
    assert browser.status == 200
    assert 30.0 < found[0] < 60.0


@virtual_time
async def test_what_was_begun_is_not_answered_twice():
    async with shop(inf) as client:

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await client.get("/")

        browser = await leaves(app)
        assert [message["type"] for message in browser.answers] == ["http.response.start"]


class TestAfterTheAnswer:
    @pytest.mark.parametrize(
        "last", [{"type": "http.response.body", "body": b"ok"}, {"type": "http.response.pathsend", "path": "/x"}]
    )
    @virtual_time
    async def test_nobody_waits_any_more(self, last):
        async with shop(200, 5.0, 200, then=200) as client:

            async def app(scope, receive, send):
                await client.get("/")
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send(last)
                assert remaining() == inf
                await client.get("/")
                done.append(now())

            done = []
            await leaves(app, headers=[(b"x-request-timeout", b"2")])
            assert done == [5.0]

    @virtual_time
    async def test_what_calls_only_then_is_listened_to_by_nobody(self):
        async with shop(5.0, 200) as client:

            async def app(scope, receive, send):
                await ok(send)
                await client.get("/")
                done.append(now())

            done = []
            await leaves(app)
            assert done == [5.0]

    @virtual_time
    async def test_who_listens_to_the_end_hears_it(self):
        async with shop(0.5, 200) as client:

            async def app(scope, receive, send):
                await receive()
                await client.get("/")
                listener = asyncio.create_task(receive())
                await asyncio.sleep(0.5)
                await ok(send)
                assert await listener == GONE
                assert await receive() == GONE
                outlives.append(receive)

            outlives = []
            browser = Browser()
            await browser.asks(app)
            assert now() == 1.0
            assert await outlives[0]() == GONE
            assert alone()

    @virtual_time
    async def test_a_server_may_take_its_time_to_let_go(self):
        class Slow(Browser):
            async def receive(self):
                try:
                    return await super().receive()
                except asyncio.CancelledError:
                    self.reading += 1
                    await asyncio.sleep(1.0)
                    self.reading -= 1
                    raise

        async with shop(0.5, 200) as client:

            async def app(scope, receive, send):
                await receive()
                await client.get("/")
                listener = asyncio.create_task(receive())
                await asyncio.sleep(0.5)
                await ok(send)
                assert await receive() == GONE
                listener.cancel()

            browser = Slow()
            await browser.asks(app)
            assert now() == 2.0

    @pytest.mark.parametrize("cancels", [True, False])
    @virtual_time
    async def test_what_runs_in_the_background_has_no_deadline_of_the_callers(self, cancels):
        async with shop(then=200) as client:
            found = []

            async def app(scope, receive, send):
                await ok(send)
                await asyncio.sleep(3.0)
                found.append((await client.get("/")).status_code)
                found.append(remaining())

            await Browser(headers=[(b"x-request-timeout", b"2")]).asks(app, cancel_on_disconnect=cancels)
            assert found == [200, inf]

    @virtual_time
    async def test_what_a_request_has_started_goes_on(self):
        async with shop(2.0, 200, 2.0, 200, then=200) as client:
            later = []

            async def app(scope, receive, send):
                async def outlives():
                    await client.get("/")
                    await client.get("/")

                later.append(asyncio.create_task(outlives()))
                await ok(send)

            await Browser().asks(app)
            await later[0]
            assert now() == 4.0
            assert alone()


class TestAnApplicationThatListensItself:
    @virtual_time
    async def test_is_told_and_not_cut(self):
        async with shop(inf) as client:
            steps = []

            async def app(scope, receive, send):
                call = asyncio.create_task(client.get("/"))
                await receive()
                steps.append((await receive())["type"])
                call.cancel()
                await asyncio.wait({call})
                await asyncio.sleep(1.0)
                steps.append("done")

            await leaves(app)
            assert (now(), steps) == (2.0, ["http.disconnect", "done"])
            assert left(client) == 0

    @virtual_time
    async def test_though_the_call_came_first(self):
        async with shop(0.5, 200, then=inf) as client:

            async def app(scope, receive, send):
                await client.get("/")
                await asyncio.sleep(0)
                assert await receive() == EMPTY
                call = asyncio.create_task(client.get("/"))
                assert await receive() == GONE
                assert await receive() == GONE
                call.cancel()
                await asyncio.sleep(1.0)

            await leaves(app)
            assert now() == 2.0

    @virtual_time
    async def test_one_that_only_asks_now_and_then_is_told(self):
        async with shop(200) as client:
            request = None

            async def app(scope, receive, send):
                nonlocal request
                await client.get("/")
                request = Request(scope, receive)
                assert await request.body() == b""
                found = []
                while not await request.is_disconnected():
                    found.append(now())
                    await asyncio.sleep(0.25)
                assert found[-1] >= 0.75
                await asyncio.sleep(1.0)

            await leaves(app)
            assert 2.0 <= now() <= 2.25

    @virtual_time
    async def test_one_that_asked_before_it_called_is_cut_all_the_same(self):
        async with shop(inf) as client:

            async def app(scope, receive, send):
                request = Request(scope, receive)
                assert await request.body() == b""
                assert not await request.is_disconnected()
                await client.get("/")

            await leaves(app)
            assert now() == 1.0

    @virtual_time
    async def test_one_that_asked_and_was_told_may_go_on_calling(self):
        async with shop(200, 3.0, 200) as client:

            async def app(scope, receive, send):
                await client.get("/")
                await asyncio.sleep(2.0)
                assert [await receive(), await receive()] == [EMPTY, GONE]
                await client.delete("/cart")

            await leaves(app)
            assert now() == 5.0

    @pytest.mark.parametrize("gives_up", [False, True])
    @virtual_time
    async def test_one_that_stops_listening_is_cut_again(self, gives_up):
        async with shop(then=inf) as client:

            async def app(scope, receive, send):
                listener = asyncio.create_task(receive())
                await asyncio.sleep(0)
                call = asyncio.create_task(client.get("/"))
                if gives_up:
                    await asyncio.sleep(0.1)
                    listener.cancel()
                    await asyncio.wait({listener})
                else:
                    assert (await listener)["body"] == b"late"
                try:
                    await call
                finally:
                    call.cancel()

            browser = Browser(EMPTY)
            browser.line.get_nowait()
            asyncio.get_running_loop().call_later(0.5, browser.line.put_nowait, body(b"late"))
            await leaves(app, browser=browser)
            assert now() == 1.0

    @virtual_time
    async def test_a_stream_that_the_framework_ends_is_ended_as_ever(self):
        async with shop((200, Pieces(b"a", inf))) as client:
            ended = []

            async def pieces():
                try:
                    async with client.stream("GET", "/") as response:
                        async for piece in response.aiter_bytes():
                            yield piece
                finally:
                    ended.append(now())

            async def background():
                await asyncio.sleep(1.0)
                ended.append("background")

            response = StreamingResponse(pieces(), background=background)
            browser = await leaves(response)
            assert ended == [1.0, "background"]
            assert browser.status == 200
            assert left(client) == 0

    @virtual_time
    async def test_what_is_passed_through_ends_as_ever(self):
        async with shop((200, Pieces(b"a", inf))) as client:
            await leaves(passthrough(client.stream("GET", "/")))
            assert now() == 1.0
            assert left(client) == 0


class TestUploads:
    @given(st.lists(st.binary(max_size=5), min_size=1, max_size=6), st.data())
    def test_every_piece_reaches_the_application_in_order(self, pieces, data):
        listened = data.draw(st.integers(0, len(pieces)))
        slow = data.draw(st.booleans())

        @virtual_time
        async def told():
            async with shop(then=inf) as client:
                read = []

                async def app(scope, receive, send):
                    request = Request(scope, receive)
                    async for piece in request.stream():
                        read.append(piece)
                        if len(read) == listened:
                            calls.append(asyncio.create_task(client.get("/")))
                        await asyncio.sleep(slow)
                    calls[0].cancel()

                async def first(scope, receive, send):
                    if listened == 0:
                        calls.append(asyncio.create_task(client.get("/")))
                        await asyncio.sleep(1.0)
                    await app(scope, receive, send)

                calls = []
                browser = Browser(body(b"", more=True))
                asking = browser.asks(first)
                for number, piece in enumerate(pieces, 1):
                    await asyncio.sleep(0.5)
                    browser.line.put_nowait(body(piece, more=number < len(pieces)))
                with suppress(IndexError):
                    await asking
                assert b"".join(read) == b"".join(pieces)
                for call in calls:
                    call.cancel()

        told()

    @virtual_time
    async def test_a_body_that_nobody_reads_is_not_hoarded(self):
        async with shop(inf) as client:

            async def app(scope, receive, send):
                await client.get("/")

            browser = Browser(*[body(b"x" * 1024, more=True)] * 1000)
            asking = browser.asks(app)
            await asyncio.sleep(1.0)
            taken = 1000 - browser.line.qsize()
            assert HELD < taken * 1024 < HELD + 2048
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    @virtual_time
    async def test_as_it_is_read_the_rest_is_listened_to(self):
        async with shop(then=inf) as client:

            async def app(scope, receive, send):
                call = asyncio.create_task(client.get("/"))
                await asyncio.sleep(0.5)
                found = [await receive() for _ in range(100)]
                assert not found[-1]["more_body"]
                await call

            await leaves(app, *[body(b"x" * 4096, more=True)] * 99, body(b"x"), after=2.0)
            assert now() == 2.0

    @virtual_time
    async def test_a_whole_one_that_is_large_keeps_nobody_from_listening(self):
        async with shop(inf) as client:
            await leaves(lambda scope, receive, send: client.get("/"), body(b"x" * 10 * HELD))
            assert now() == 1.0

    @virtual_time
    async def test_what_is_wrong_with_it_is_the_applications_to_hear(self):
        async with shop(5.0, 200) as client:

            async def app(scope, receive, send):
                await client.get("/")
                for _ in range(2):
                    with pytest.raises(ValueError, match="too large"):
                        await receive()
                await ok(send)

            browser = Browser(ValueError("too large"), ValueError("too large"))
            await browser.asks(app)
            assert (now(), browser.status) == (5.0, 200)


@virtual_time
async def test_a_server_that_repeats_itself_is_not_listened_to_for_ever():
    async with shop(1.0, 200) as client:

        async def app(scope, receive, send):
            await client.get("/")
            assert [await receive() for _ in range(4)] == [EMPTY] * 4
            await ok(send)

        said = 0

        async def receive():
            nonlocal said
            said += 1
            return EMPTY if said < 100 else GONE

        browser = Browser()
        await Caller(app)(browser.scope, receive, browser.send)
        assert (browser.status, said) == (200, 4)


# who else may cancel


@virtual_time
async def test_a_cancellation_from_outside_goes_through():
    async with shop(inf) as client:
        browser = Browser()
        asking = browser.asks(lambda scope, receive, send: client.get("/"))
        await asyncio.sleep(1.0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (left(client), browser.answers) == (0, [])
        await asyncio.sleep(0)
        assert alone()


@virtual_time
async def test_both_at_once_too():
    async with shop(inf) as client:
        browser = Browser()
        asking = browser.asks(lambda scope, receive, send: client.get("/"))
        await asyncio.sleep(1.0)
        browser.leave()
        for _ in range(10):
            await asyncio.sleep(0)
            if asking.cancelling():
                break
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert left(client) == 0


@virtual_time
async def test_one_of_its_own_is_no_leaving():
    async def app(scope, receive, send):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Browser().asks(app)


@virtual_time
async def test_the_task_is_as_it_was_afterwards():
    async with shop(then=inf) as client:
        counts = []

        async def told(app):
            browser = Browser()
            asyncio.get_running_loop().call_later(1.0, browser.leave)
            with suppress(RuntimeError):
                await Caller(app)(browser.scope, browser.receive, browser.send)
            counts.append(asyncio.current_task().cancelling())
            await asyncio.sleep(1.0)  # nothing hits it late

        async def ends(scope, receive, send):
            await client.get("/")

        async def goes_on(scope, receive, send):
            with suppress(asyncio.CancelledError):
                await client.get("/")
            await ok(send)

        async def fails(scope, receive, send):
            try:
                await client.get("/")
            finally:
                raise RuntimeError

        for app in (ends, goes_on, fails):
            await told(app)
        assert counts == [0, 0, 0]


@virtual_time
async def test_a_connection_that_outlives_a_request_does_not_keep_it():
    class Kept:
        def __init__(self, function):
            self.function = function

        def __call__(self, *message):
            return self.function(*message)

    async with shop(then=200) as client:
        kept = []

        async def app(scope, receive, send):
            await client.get("/")
            kept.append(
                asyncio.create_task(asyncio.sleep(99))
            )  # has the request's context, as a pooled connection does
            await ok(send)

        browser = Browser()
        receive, send = Kept(browser.receive), Kept(browser.send)
        seen = weakref.ref(receive), weakref.ref(send)
        await Caller(app)(browser.scope, receive, send)
        await asyncio.sleep(0)
        del receive, send
        gc.collect()
        assert [one() for one in seen] == [None, None]
        kept[0].cancel()


def test_cancelled_at_any_step_it_leaves_nothing():
    async def story(cut):
        async with shop(0.5, 503, 0.5, 200, 2.0, 200, timeout=30.0, retry_delay=0.0) as client:

            async def app(scope, receive, send):
                request = Request(scope, receive)
                await gather({"a": client.get("/"), "b": request.body()})
                await client.get("/")

            async def work():
                browser = Browser(body(b"x", more=True), body(b"y"))
                asyncio.get_running_loop().call_later(1.5, browser.leave)
                await Caller(app)(browser.scope, browser.receive, browser.send)
                assert browser.status == 499

            await cut(work())
            await asyncio.sleep(0)
            assert left(client) == 0
            assert client._under_way == 0
            assert alone()

    assert at_every_step(story) > 10


# in FastAPI


class Shop(HTTPClient, base_url="http://shop.test", max_retries=0):
    pass


def application(client, **options):
    app = FastAPI(lifespan=lifespan(client, **options))

    @app.get("/")
    async def route(shop: Use[Shop]) -> Any:
        await shop.get("/")
        return remaining()

    return app


def test_the_lifespan_puts_it_outermost():
    app = application(lambda: Shop(engine=script(then=200)))

    @app.middleware("http")
    async def own(request, call_next):
        return await call_next(request)

    with TestClient(app) as browser:
        assert [layer.cls for layer in app.user_middleware] == [Caller, BaseHTTPMiddleware]
        assert 1.0 < browser.get("/", headers={"X-Request-Timeout": "60"}).json() <= 60
    with TestClient(app):  # and once
        assert [layer.cls for layer in app.user_middleware] == [Caller, BaseHTTPMiddleware]


def test_a_deadline_that_passed_is_a_504():
    app = application(Shop(engine=script()))
    with TestClient(app) as browser:
        response = browser.get("/", headers={"X-Request-Timeout": "0.000001"})
    assert response.status_code == 504
    assert response.json()["title"] == "Gateway Timeout"


def test_its_header_is_chosen_by_the_lifespan_or_by_install():
    headers = {"X-Request-Timeout": "0.000001"}
    for app in (application(Shop(engine=script(200)), deadline_header=None), application(Shop(engine=script(200)))):
        install(app, deadline_header=None)
        with TestClient(app) as browser:
            assert browser.get("/", headers=headers).status_code == 200
    with TestClient(application(Shop(engine=script(200)), deadline_header="X-Left")) as browser:
        assert browser.get("/", headers=headers).status_code == 200
        assert browser.get("/", headers={"X-Left": "0.000001"}).status_code == 504


def test_one_of_the_applications_own_stays_as_it_is():
    app = application(Shop(engine=script(then=200)))
    app.add_middleware(Caller, deadline_header=None, max_deadline=7.0)
    with TestClient(app) as browser:
        assert len(app.user_middleware) == 1
        assert 1.0 < browser.get("/", headers={"X-Request-Timeout": "0.000001"}).json() <= 7.0


def test_a_mounted_application_is_bounded_once():
    inner = application(Shop(engine=script(then=200)))
    install(inner)
    app = FastAPI(lifespan=lifespan(Shop(engine=script(then=200))))
    app.mount("/inner", inner)
    with TestClient(app) as browser:
        assert browser.get("/inner/", headers={"X-Request-Timeout": "60"}).json() <= 60.0


def test_synchronous_code_has_the_deadline_too():
    app = application(Shop(engine=script(then=200)))

    @app.get("/sync")
    def route() -> Any:
        inherited = asked()
        return inherited.deadline < inf

    with TestClient(app) as browser:
        assert browser.get("/sync", headers={"X-Request-Timeout": "60"}).json() is True
        assert browser.get("/sync").json() is False


# on real servers


class Upstream(HTTPClient, max_retries=0, timeout=10.0):
    pass


@asynccontextmanager
async def asked_through(server, peer, *, middleware=False):
    """The port of an application, and the client it calls the peer with."""
    client = Upstream(peer.url)
    app = FastAPI(lifespan=lifespan(client))

    async def known(upstream: Use[Upstream]):
        await upstream.get("/known")

    @app.get("/plain")
    async def plain(upstream: Use[Upstream]):
        return (await upstream.get("/plain")).text

    @app.get("/gathered")
    async def gathered(upstream: Use[Upstream]):
        return (await gather({"a": upstream.get("/a"), "b": upstream.get("/b")})).as_dict()

    @app.get("/depends", dependencies=[Depends(known)])
    async def depends():
        raise AssertionError

    @app.post("/json")
    async def json(body: dict[str, Any], upstream: Use[Upstream]):
        await upstream.post("/json", json=body)

    @app.get("/stream")
    async def stream(upstream: Use[Upstream]):
        async with upstream.stream("GET", "/stream") as response:
            return (await response.aread()).decode()

    @app.post("/relayed")
    async def relayed(request: Request, upstream: Use[Upstream]):
        return len((await upstream.post("/relayed", content=request.stream())).content)

    @app.get("/background")
    async def background(upstream: Use[Upstream], tasks: BackgroundTasks):
        tasks.add_task(upstream.get, "/background")

    if middleware:

        @app.middleware("http")
        async def own(request, call_next):
            return await call_next(request)

    async with serving(server, app) as port:
        yield port, client


async def ask(port, path, content=b""):
    """A connection on which something was asked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    method = b"POST" if content else b"GET"
    fields = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(content) if content else b""
    writer.write(b"%b %b HTTP/1.1\r\nHost: x\r\n%b\r\n%b" % (method, path.encode(), fields, content))
    return reader, writer


async def hung_up(*writers):
    for writer in writers:
        writer.close()
        await writer.wait_closed()


async def settled(before):
    """Wait until no more tasks are left than there were."""
    async with asyncio.timeout(PATIENCE):
        while len(asyncio.all_tasks()) > before:
            await moment()


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("path", ["/plain", "/gathered", "/depends", "/json", "/stream"])
async def test_a_caller_that_leaves_ends_the_upstreams_work(server, middleware, path, caplog):
    async with Peer(mute) as peer, asked_through(server, peer, middleware=middleware) as (port, client):
        before = len(asyncio.all_tasks())
        calls = 6 if path == "/gathered" else 3
        asking = [await ask(port, path, b'{"a": 1}' if path == "/json" else b"") for _ in range(3)]
        await peer.until(lambda: peer.open == calls)
        began = now()
        await hung_up(*[writer for _, writer in asking])
        await peer.empty()
        assert now() - began < PATIENCE / 2  # not by the ten seconds of the call
        await settled(before)
        assert client.upstream.states["ConcurrencyLimit", "default"].taken == 0
        assert client._under_way == 0
    assert not [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]


@pytest.mark.parametrize("server", SERVERS)
async def test_who_stays_is_answered_on_one_connection_again_and_again(server):
    async with Peer(says(answer(b"hello"))) as peer, asked_through(server, peer) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(5):
            writer.write(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                await reader.readuntil(b'"hello"')
        await hung_up(writer)
        assert peer.accepted == 1


@pytest.mark.parametrize("server", SERVERS)
async def test_an_upload_goes_on_through_a_call(server):
    async with Peer(echo) as peer, asked_through(server, peer) as (port, _):
        content = bytes(range(256)) * 8192
        reader, writer = await ask(port, "/relayed", content)
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await reader.readuntil(str(len(content)).encode())
        await hung_up(writer)
        assert peer.requests[0].body == content


@pytest.mark.parametrize("server", SERVERS)
async def test_what_runs_in_the_background_goes_on_when_the_caller_has_left(server):
    async with Peer(mute) as peer, asked_through(server, peer) as (port, client):
        reader, writer = await ask(port, "/background")
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await peer.until(lambda: peer.open == 1)
        await hung_up(writer)
        for _ in range(10):
            await moment()
        assert (peer.open, client._under_way) == (1, 1)
        peer.tasks.pop().cancel()  # the upstream breaks off
        await peer.empty()
