"""Many URLs: as many as asked for at once, no more held than are read, and nothing left behind."""

import asyncio
from contextlib import aclosing
from itertools import count

import pytest

from fairlead.client import HTTPClient
from fairlead.errors import ConfigError, ConnectFailed
from fairlead.fetch import fetch_all
from fairlead.message import Response
from fairlead.testing import at_every_step, script, virtual_time

BASE = "http://api.test"


class Server:
    """Answers after the seconds that the path says, and counts who is being answered."""

    def __init__(self):
        self.now = self.most = self.asked = 0

    async def __call__(self, request):
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(float(request.target.split("/")[1]))
        finally:
            self.now -= 1
        return Response(200, content=request.target)


def client(engine, **options):
    return HTTPClient(BASE, engine=engine, max_retries=0, **options)


async def collect(iterator):
    return [fetched async for fetched in iterator]


@virtual_time
async def test_each_comes_as_it_finishes():
    async with client(script(then=Server())) as http:
        found = await collect(fetch_all(["/3", "/1", "/2"], client=http))
    assert [fetched.url for fetched in found] == ["/1", "/2", "/3"]
    assert [fetched.elapsed for fetched in found] == [1, 2, 3]
    assert all(fetched.ok and fetched.status == 200 and fetched.error is None for fetched in found)
    assert found[0].content == b"/1"


@virtual_time
async def test_ordered_keeps_the_order():
    async with client(script(then=Server())) as http:
        found = await collect(fetch_all([f"/{seconds}" for seconds in (3, 1, 2)], client=http, ordered=True))
    assert [fetched.url for fetched in found] == ["/3", "/1", "/2"]


@pytest.mark.parametrize("ordered", [False, True])
@virtual_time
async def test_no_more_than_the_limit_are_under_way(ordered):
    server = Server()
    async with client(script(then=server)) as http:
        found = await collect(fetch_all((f"/1/{n}" for n in range(100)), limit=7, client=http, ordered=ordered))
    assert len(found) == 100
    assert server.most == 7
    assert asyncio.get_running_loop().time() == 15  # 100 calls of one second, seven at once


@virtual_time
async def test_one_slow_url_does_not_stop_the_others_though_ordered():
    async with client(script(then=Server())) as http:
        urls = ["/5", *(f"/1/{n}" for n in range(15))]
        found = await collect(fetch_all(urls, limit=4, client=http, ordered=True))
    assert [fetched.url for fetched in found] == urls
    assert asyncio.get_running_loop().time() == 5


@pytest.mark.parametrize(("ordered", "held"), [(False, 3), (True, 12)])
@virtual_time
async def test_a_slow_reader_slows_the_calls(ordered, held):
    server = Server()
    async with (
        client(script(then=server)) as http,
        aclosing(fetch_all((f"/0.1/{n}" for n in count()), limit=3, client=http, ordered=ordered)) as found,
    ):
        read = 0
        async for _ in found:
            read += 1
            await asyncio.sleep(100)
            assert server.asked <= read + held
            if read == 5:
                break
    assert read == 5


@virtual_time
async def test_failures_are_items_too():
    engine = script(503, ConnectFailed, 200)
    async with client(engine, policies=()) as http:
        found = await collect(fetch_all(["/a", "/b", "/c", "http://elsewhere.test/"], limit=1, client=http))
    assert [(fetched.status, fetched.ok, fetched.error) for fetched in found[:3]] == [
        (503, False, None),
        (None, False, "could not connect"),
        (200, True, None),
    ]
    assert isinstance(found[1].cause, ConnectFailed)
    assert isinstance(found[3].cause, ConfigError)


@virtual_time
async def test_urls_may_come_from_an_async_iterator():
    async def urls():
        for n in range(5):
            await asyncio.sleep(1)
            yield f"/0.1/{n}"

    loop = asyncio.get_running_loop()
    async with client(script(then=Server())) as http:
        times = [loop.time() async for _ in fetch_all(urls(), client=http)]
    assert times == pytest.approx([1.1, 2.1, 3.1, 4.1, 5.1])  # none waits for the URL after it


@virtual_time
async def test_what_the_source_of_the_urls_raises_comes_after_what_was_asked():
    def urls():
        yield "/1"
        yield "/2"
        raise OSError("the file ended early")

    async with client(script(then=Server())) as http:
        found = fetch_all(urls(), client=http)
        assert (await anext(found)).url == "/1"
        assert (await anext(found)).url == "/2"
        with pytest.raises(OSError, match="ended early"):
            await anext(found)


@virtual_time
async def test_leaving_early_cancels_what_is_under_way():
    server = Server()
    async with client(script(then=server)) as http:
        async with aclosing(fetch_all(["/1", "/9", "/9"], client=http)) as found:
            async for _ in found:
                break
        assert server.now == 0
        async for _ in fetch_all(["/1", "/9", "/9"], client=http):
            break
        await asyncio.sleep(0.1)
        assert server.now == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_no_urls_are_no_items():
    async with client(script()) as http:
        assert await collect(fetch_all([], client=http)) == []


@virtual_time
async def test_a_timeout_is_each_urls_own():
    async with client(script(1.0, 200, 9.0, 200)) as http:
        found = await collect(fetch_all(["/a", "/b"], limit=1, client=http, timeout=2))
    assert [fetched.status for fetched in found] == [200, None]
    assert isinstance(found[1].cause, TimeoutError)
    assert found[1].elapsed == pytest.approx(2)


async def test_without_a_client_one_is_made_and_closed():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        assert await reader.read() == b""
        writer.close()
        ended.release()

    ended = asyncio.Semaphore(0)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await collect(fetch_all([f"http://127.0.0.1:{port}/{n}" for n in range(3)], limit=3))
        async with asyncio.timeout(10):
            for _ in range(3):
                await ended.acquire()
    assert [fetched.content for fetched in found] == [b"hi"] * 3


def test_cut_at_any_step_it_leaves_no_task_and_no_call():
    async def story(cut):
        engine = script(then=Server())
        http = client(engine)

        async def caller():
            async with aclosing(fetch_all(["/0.1", "/0.2", "/0.3"], limit=2, client=http)) as found:
                async for _ in found:
                    pass

        await cut(caller())
        await http.close()
        assert engine.open == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert at_every_step(story) > 20


@pytest.mark.parametrize(
    ("urls", "limit", "said"), [("http://a", 1, "urls is one string"), ([], 0, "limit=0 is not a number above 0")]
)
def test_what_cannot_work_is_said_at_once(urls, limit, said):
    with pytest.raises(ConfigError, match=said):
        fetch_all(urls, limit)
