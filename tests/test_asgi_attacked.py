"""A caller who leaves at the worst moment: calls that are about to begin, tasks between, requests that are over."""

import asyncio
import threading
from contextlib import suppress

import anyio
import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request

from calls import now
from fairlead import inbound
from fairlead.asgi import Caller
from fairlead.client import HTTPClient
from fairlead.fastapi import passthrough
from fairlead.gather import gather
from fairlead.testing import virtual_time
from peers import PATIENCE
from test_asgi import EMPTY, GONE, Browser, alone, body, leaves, left, ok, shop


async def passing(request, call_next):
    return await call_next(request)


def within_middleware(app, layers):
    """The application below that many layers, each of which runs it in a task of its own."""
    for _ in range(layers):
        app = BaseHTTPMiddleware(app, passing)
    return app


async def gathered(client):
    await gather({"a": client.post("/"), "b": client.post("/"), "c": client.post("/")})


async def nested(client, depth=8):
    """Each task hears of a cancellation in a turn of its own, as its parent waits for another first."""
    await gather({"a": asyncio.sleep(60.0), "b": nested(client, depth - 1) if depth else client.post("/")})


async def gathered_by_asyncio(client):
    await asyncio.gather(client.post("/"), client.post("/"))


async def grouped(client):
    async with asyncio.TaskGroup() as group:
        group.create_task(client.post("/"))
        group.create_task(client.post("/"))


async def grouped_by_anyio(client):
    async with anyio.create_task_group() as group:
        group.start_soon(client.post, "/")
        group.start_soon(client.post, "/")


async def timed(client):
    async with asyncio.timeout(60.0):
        await asyncio.wait_for(client.post("/"), 60.0)


class TestACallThatIsAboutToBegin:
    @pytest.mark.parametrize("layers", [0, 1, 5])
    @pytest.mark.parametrize("calls", [gathered, nested, gathered_by_asyncio, grouped, grouped_by_anyio, timed])
    @virtual_time
    async def test_is_never_sent_in_whatever_tasks_it_is_made(self, calls, layers):
        async with shop(200, then=200) as client:

            async def app(scope, receive, send):
                await client.get("/")
                await asyncio.sleep(5.0)
                await calls(client)
                raise AssertionError("nobody is there to go on for")

            browser = Browser()
            asking = browser.asks(within_middleware(app, layers))
            await asyncio.sleep(1.0)
            browser.leave()
            await asking
            assert (now(), browser.status) == (5.0, 499)
            await asyncio.sleep(1.0)  # cancelled twice, as a scope of anyio does it, nobody waits for those below
            assert [seen.method for seen in client.engine.requests] == ["GET"]
            assert left(client) == 0
            assert alone()

    @virtual_time
    async def test_nor_is_one_that_begins_as_the_others_are_given_up(self):
        class Watched(Browser):
            async def receive(self):
                message = await super().receive()
                if message == GONE:
                    gone.set()
                return message

        gone = asyncio.Event()
        async with shop(5.0, 200, then=200) as client:

            async def second():
                await gone.wait()
                await client.post("/")

            async def app(scope, receive, send):
                await gather({"a": client.get("/"), "b": second()})

            await leaves(app, browser=Watched())
            assert [seen.method for seen in client.engine.requests] == ["GET"]
            assert now() == 1.0

    @virtual_time
    async def test_is_sent_where_it_cleans_up_also_in_tasks_of_its_own(self):
        async with shop(5.0, 200, then=200) as client:
            steps = []

            async def app(scope, receive, send):
                try:
                    await client.get("/")
                finally:
                    await gather({"a": client.delete("/a"), "b": client.delete("/b")})
                    steps.append((await client.delete("/c")).status_code)

            await leaves(app)
            assert [seen.method for seen in client.engine.requests] == ["GET", "DELETE", "DELETE", "DELETE"]
            assert (now(), steps) == (1.0, [200])

    @virtual_time
    async def test_is_sent_where_nobody_ends_the_task_that_makes_it(self):
        async with shop(200, then=200) as client:
            tasks = []

            async def app(scope, receive, send):
                await client.get("/")
                await asyncio.sleep(5.0)
                tasks.append(asyncio.create_task(client.post("/")))
                await asyncio.sleep(5.0)

            browser = Browser()
            asking = browser.asks(app)
            await asyncio.sleep(1.0)
            browser.leave()
            await asking
            assert (await tasks[0]).status_code == 200
            assert now() == 5.0


@pytest.mark.parametrize("layers", [0, 1, 3])
@virtual_time
async def test_an_upload_that_its_caller_leaves_is_an_answer_to_whoever_stands_between(layers):
    class Reading:
        """An upstream that answers when it has the whole body."""

        async def send(self, call):
            async for _ in call.request.content:
                pass
            raise AssertionError("it never ends")

        async def close(self):
            pass

    async with HTTPClient("https://shop.test", engine=Reading()) as client:

        async def app(scope, receive, send):
            answer = passthrough(client.stream("POST", "/", content=Request(scope, receive).stream()))
            await answer(scope, receive, send)

        browser = await leaves(within_middleware(app, layers), body(b"half", more=True))
        assert (now(), browser.status) == (1.0, 499)


class TestListening:
    @virtual_time
    async def test_a_call_that_is_over_soon_costs_no_task(self):
        async with shop(then=200) as client:
            tasks = []

            async def app(scope, receive, send):
                await receive()
                await client.get("/")
                tasks.append(len(asyncio.all_tasks()))
                await ok(send)

            served = Caller(app)
            for _ in range(3):
                browser = Browser()
                await served(browser.scope, browser.receive, browser.send)
                await asyncio.sleep(1.0)
                assert (browser.status, browser.line.qsize()) == (200, 1)
            assert tasks == [1, 1, 1]

    @pytest.mark.parametrize("after", [0.0, 0.001, 0.02, 0.03, 0.06])
    @virtual_time
    async def test_a_caller_that_leaves_at_once_is_heard_within_a_tenth_of_a_second(self, after):
        async with shop(9.0, 200) as client:
            await leaves(lambda scope, receive, send: client.get("/"), after=after)
            assert now() - after <= 0.05
            assert left(client) == 0

    @virtual_time
    async def test_who_is_read_from_by_the_application_meanwhile_is_listened_to_afterwards(self):
        async with shop(then=9.0) as client:

            async def app(scope, receive, send):
                reading = asyncio.create_task(receive())
                await asyncio.sleep(0.0)
                call = asyncio.create_task(client.get("/"))
                await asyncio.sleep(0.5)
                reading.cancel()
                await call

            browser = Browser()
            browser.line.get_nowait()
            with suppress(asyncio.CancelledError):
                await leaves(app, browser=browser)
            assert now() == 1.0

    @virtual_time
    async def test_nobody_listens_for_one_that_the_application_knows_is_gone(self):
        async with shop(9.0, 200) as client:

            async def app(scope, receive, send):
                await receive()
                call = asyncio.create_task(client.get("/"))
                await asyncio.sleep(0.001)
                assert await receive() == GONE
                await asyncio.sleep(1.0)
                reading.append(browser.reading)
                call.cancel()

            reading = []
            browser = Browser(EMPTY, GONE)
            browser.leave = lambda: None  # a server that has nothing more to say
            await browser.asks(app)
            assert reading == [0]


@virtual_time
async def test_what_is_sent_for_a_request_that_is_over_is_told_so():
    kept = []

    async def app(scope, receive, send):
        kept.append(send)
        await ok(send)

    await Browser().asks(app)
    with pytest.raises(OSError, match="the request is over"):
        await kept[0]({"type": "http.response.body", "body": b"more"})
    assert alone()


async def test_a_thread_may_call_in_the_moment_in_which_its_request_ends(monkeypatch):
    here = asyncio.get_running_loop()
    asks, over = threading.Event(), threading.Event()

    def which():
        loop = asyncio.get_running_loop()
        if loop is not here:
            asks.set()
            assert over.wait(PATIENCE)
        return loop

    async def elsewhere():
        async with shop(200) as client:
            return (await client.get("/")).status_code

    async def app(scope, receive, send):
        threads.append(asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere())))
        assert await asyncio.to_thread(asks.wait, PATIENCE)
        await ok(send)

    threads = []
    monkeypatch.setattr(inbound, "get_running_loop", which)
    await Browser().asks(app)
    over.set()
    assert await threads[0] == 200
