"""What broke a client for threads once: forks, exits, interrupts and loops in bad moments, and uses that nobody meant."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fairlead.caller import within
from fairlead.client import HTTPClient
from fairlead.endpoint import get
from fairlead.errors import ConfigError, DeadlineExceeded
from fairlead.sync import SyncHTTPClient, background, plain
from fairlead.sync.background import Background
from fairlead.sync.crossing import Crossing
from fairlead.testing import Pieces, script
from peers import PATIENCE

INF = float("inf")


class Weather(HTTPClient, base_url="http://weather.test"):
    @get("/v1/current")
    async def current(self) -> str: ...

    async def each(self):
        yield await self.current()


def shop(*answers, then=200, **options):
    return SyncHTTPClient("http://shop.test", engine=script(*answers, then=then), **options)


def endless():
    return shop((200, Pieces(b"a", INF)))


def ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fairlead ")]


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    gc.collect()
    for thread in ours():
        thread.join(PATIENCE)
    assert ours() == []


async def hold():
    await asyncio.get_running_loop().create_future()


def run(code):
    """A program of its own: what it says. It is killed when it hangs."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE * 2
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


PROGRAM = """
import asyncio, os, signal, sys, threading, warnings
from fairlead import ConfigError
from fairlead.sync import SyncHTTPClient, client as module
from fairlead.testing import Pieces, script
warnings.simplefilter("ignore", DeprecationWarning)
"""
LOOPS = pytest.mark.parametrize("only", ["", "import sys; sys.modules['uvloop'] = None"], ids=["uvloop", "asyncio"])
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


# the interpreter ends


@LOOPS
def test_a_generator_that_is_left_half_way_keeps_no_interpreter_from_ending(only):
    code = """
def pieces():
    with SyncHTTPClient("http://shop.test", engine=script((200, Pieces(b"a", float("inf"))))) as client:
        with client.stream("GET", "/") as response:
            yield from response.iter_bytes()
left = pieces()
print(next(left))
"""
    assert run(only + PROGRAM + code) == ["b'a'"]


@LOOPS
def test_who_calls_when_the_thread_has_gone_with_the_interpreter_is_told(only):
    code = """
client = SyncHTTPClient("http://shop.test", engine=script(then=200))
class Last:
    def __init__(self, call):
        self.call, self.refused, self.itself = call, ConfigError, self
    def __del__(self):
        try:
            self.call("/")
        except self.refused as error:
            print(error)
last = Last(client.get)
client.get("/")
client.last = last
"""
    assert run(only + PROGRAM + code) == [
        "shop.test: the interpreter is ending, and so did the thread that carries the calls"
    ]


# forks


@FORKS
def test_a_child_of_a_fork_while_another_thread_opens_it_opens_its_own():
    code = """
client = SyncHTTPClient("http://shop.test", engine=script(then=200))
real, opening, go = module.Background, threading.Event(), threading.Event()
def slowly(name):
    opening.set()
    go.wait()
    return real(name)
module.Background = slowly
other = threading.Thread(target=client.get, args=("/",))
other.start()
opening.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(5)
    module.Background = real
    print(client.get("/").status_code, flush=True)
    os._exit(0)
go.set()
other.join()
client.close()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert run(PROGRAM + code) == ["200", "0"]


@FORKS
@LOOPS
def test_a_loop_in_a_child_does_not_wait_for_its_parents(only):
    code = """
client = SyncHTTPClient("http://shop.test", engine=script(then=200))
client.get("/")
async def use():
    print(await client.ahealth_check(), flush=True)
    try:
        async with client:
            pass
    except ConfigError as error:
        print(error, flush=True)
pid = os.fork()
if pid == 0:
    signal.alarm(5)
    asyncio.set_event_loop(None)
    asyncio.run(use())
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
client.close()
"""
    assert run(only + PROGRAM + code) == [
        "False",
        "shop.test: the client was opened in another process, before a fork: open one here",
        "0",
    ]


# loops that run elsewhere


async def test_a_generator_that_is_dropped_where_a_loop_runs_closes_its_stream():
    client = endless()

    def read():
        with client.stream("GET", "/") as response:
            yield from response.iter_bytes()

    pieces = read()
    assert await asyncio.to_thread(next, pieces) == b"a"
    del pieces
    await client._background.reach(asyncio.sleep, 0)
    assert client._client.engine.open == 0
    await asyncio.to_thread(client.close)


async def test_a_stream_that_is_closed_where_a_loop_runs_is_closed_soon_and_says_so():
    client = endless()
    response = await asyncio.to_thread(client.stream("GET", "/").__enter__)
    response.close()
    assert response.is_closed
    assert not response.complete
    await client._background.reach(asyncio.sleep, 0)
    assert client._client.engine.open == 0
    await asyncio.to_thread(client.close)


async def test_a_loop_that_waits_is_told_of_the_end_and_not_cancelled():
    there = Background("shop")
    waiting = asyncio.create_task(there.reach(hold))
    await there.reach(asyncio.sleep, 0)  # which is handed over after it
    there.end()
    with pytest.raises(ConfigError, match="shop: the client is closed"):
        await asyncio.wait_for(waiting, PATIENCE)
    with pytest.raises(ConfigError, match="shop: the client is closed"):
        await there.reach(hold)


async def test_a_loop_that_waits_no_longer_cancels_what_it_waited_for():
    there = Background("shop")
    begun, left = threading.Event(), threading.Event()

    async def held():
        begun.set()
        try:
            await hold()
        finally:
            left.set()

    waiting = asyncio.create_task(there.reach(held))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    waiting.cancel()
    assert await asyncio.to_thread(left.wait, PATIENCE)
    assert waiting.cancelled()
    there.end()


def test_what_outlives_the_loop_that_waited_for_it_harms_nobody():
    there = Background("shop")
    begun, go = threading.Event(), threading.Event()

    async def held():
        begun.set()
        go.wait(PATIENCE)

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(there.reach(held))
    while not begun.is_set():
        loop.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    loop.run_until_complete(asyncio.wait({waiting}))
    loop.close()
    go.set()
    assert there.run(asyncio.sleep, (0, "goes on")) == "goes on"
    there.end()


async def test_where_it_is_closed_a_loop_is_told_and_it_is_not_healthy():
    client = shop()
    async with client:
        assert await client.ahealth_check() is True
    assert await client.ahealth_check() is False
    with pytest.raises(ConfigError, match="the client is closed"):
        async with client:
            pass
    assert await asyncio.to_thread(client.health_check) is False


# interrupts, and threads that cannot be had


def test_where_no_thread_can_be_had_nothing_is_left(monkeypatch):
    made = []

    def new_loop():
        made.append(asyncio.new_event_loop())
        return made[-1]

    def refuse(self):
        raise RuntimeError("can't start new thread")

    client = shop()
    with monkeypatch.context() as patched:
        patched.setattr(background, "_new_loop", new_loop)
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            client.get("/")
    assert [loop.is_closed() for loop in made] == [True]
    with client:
        assert client.get("/").status_code == 200


def test_an_interrupt_while_the_thread_starts_ends_it(monkeypatch):
    class Interrupted(threading.Thread):
        def start(self):
            super().start()
            raise KeyboardInterrupt

    client = shop()
    with monkeypatch.context() as patched:
        patched.setattr(background, "Thread", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.get("/")
    for thread in ours():
        thread.join(PATIENCE)
    assert ours() == []
    client.close()


def test_a_callback_that_ends_the_loop_ends_the_client(recwarn):
    def leave():
        raise SystemExit

    client = endless()
    response = client.stream("GET", "/").__enter__()
    client._background.hand_over(leave)
    client._background.join()
    assert client._client.engine.open == 0
    with pytest.raises(ConfigError, match="the client is closed"):
        client.get("/")
    response.close()
    client.close()
    client.close()
    del client
    gc.collect()
    assert [str(one.message) for one in recwarn] == []


def test_what_comes_when_the_end_has_begun_makes_no_task_that_never_runs():
    there = Background("shop")
    over = threading.Event()
    late = Crossing(there, hold, (), {}, over.set)
    there.ended = True
    there.crossing.add(late)
    there.hand_over(late.begin)
    assert over.wait(PATIENCE)
    assert late._task is None
    with pytest.raises(ConfigError, match="shop: the client is closed"):
        late.answer()
    there.end()


# deadlines


def test_an_inherited_deadline_goes_on_while_the_loop_is_held_up():
    due, holds = [], threading.Event()

    def hold_up(request):
        holds.set()
        while not due or client._background.loop.time() < due[0]:
            pass
        return 200

    client = shop(hold_up)
    with client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.get, "/")
        assert holds.wait(PATIENCE)
        with pytest.raises(DeadlineExceeded), within(0.05) as until:
            due.append(until)
            client.get("/late")
        assert first.result(PATIENCE).status_code == 200


# what nobody meant


async def test_a_client_that_is_open_or_closed_is_not_wrapped():
    client = Weather(engine=script(then=200))
    async with client:
        with pytest.raises(ConfigError, match=r"SyncHTTPClient.of\(Weather\): it was opened already: wrap one"):
            SyncHTTPClient.of(client)
    unused = Weather(engine=script())
    await unused.close()
    with pytest.raises(ConfigError, match="it was opened already"):
        SyncHTTPClient.of(unused)


@pytest.mark.parametrize("ends", ["closed", "dropped", "dropped after the other"])
def test_of_two_that_wrap_one_client_the_second_leaves_nothing_and_harms_nothing(ends):
    client = HTTPClient("http://shop.test", engine=script(then=200))
    first, second = SyncHTTPClient.of(client), SyncHTTPClient.of(client)
    assert first.get("/").status_code == 200
    with pytest.raises(ConfigError, match="opened on another event loop"):
        second.get("/")
    thread = second._background._thread
    if ends == "closed":
        with pytest.raises(ConfigError, match="close it on the event loop that opened it"):
            second.close()
    elif ends == "dropped after the other":
        first.close()
    del second
    gc.collect()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    if ends != "dropped after the other":
        assert first.get("/").status_code == 200
        first.close()


@pytest.mark.parametrize("name", ["stream", "deadline"])
def test_what_means_something_on_a_loop_only_is_not_sent_with(name):
    with shop() as client, pytest.raises(ConfigError, match=rf"shop.test: send\({name}=\) is for a loop: use `with"):
        client.send(client.build_request("GET", "/"), **{name: True})


@pytest.mark.parametrize("wrong", ["current", 7, Weather.each])
def test_what_is_no_async_method_is_not_carried_over(wrong):
    with pytest.raises(ConfigError, match=r"pass an async method of a client class, as in plain\(Weather.current\)"):
        plain(wrong)


def test_a_call_of_a_class_that_is_not_wrapped_is_said_when_the_class_is_made():
    with pytest.raises(ConfigError, match=r"Other.now: there is no current in what it wraps: name the class that has"):

        class Other(SyncHTTPClient, base_url="http://weather.test"):
            now = plain(Weather.current)

    class Named(SyncHTTPClient, of=Weather):
        now = plain(Weather.current)

    with Named(engine=script((200, "blue"))) as client:
        assert client.now() == "blue"


def test_a_drain_that_is_none_is_said_before_it_is_open_too():
    client = shop()
    with pytest.raises(ConfigError, match=r"shop.test: close\(drain=-1\) is not a number of seconds"):
        client.close(drain=-1)
    assert client.get("/").status_code == 200
    client.close()


def test_a_close_of_ones_own_need_not_know_of_drain():
    closed = []

    class Own(HTTPClient):
        async def close(self):
            closed.append(self.name)
            await super().close()

    client = SyncHTTPClient.of(Own("http://shop.test", engine=script(then=200)))
    client.get("/")
    client.close()
    assert closed == ["Own"]


def test_who_calls_it_on_its_own_thread_is_told_why_not():
    with shop() as client, pytest.raises(ConfigError, match="which is the client's own, and would wait for itself"):
        client.put("/", content=(client.get("/").content for _ in range(2)))
