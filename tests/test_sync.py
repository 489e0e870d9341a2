"""One client for many threads: the same answers and errors as the async one, one pool, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from math import inf
from time import monotonic

import anyio.to_thread
import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.caller import Asked, ask, detached, within
from fairlead.client import HTTPClient
from fairlead.endpoint import get, post
from fairlead.errors import (
    AttemptTimedOut,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    FairleadError,
    LimitReached,
    StatusError,
)
from fairlead.fastapi import Use, lifespan, provide
from fairlead.message import Arriving, Response
from fairlead.policies import ConcurrencyLimit
from fairlead.sync import SyncHTTPClient, SyncResponse, plain
from fairlead.sync.background import Background
from fairlead.sync.crossing import Crossing
from fairlead.testing import Pieces, script
from peers import PATIENCE, Peer, answer

VERBS = ("get", "head", "options", "post", "put", "patch", "delete")


@dataclass
class Forecast:
    sky: str


class Weather(HTTPClient, base_url="http://weather.test", max_retries=0):
    @get("/v1/current")
    async def current(self, city: str, units: str = "metric") -> Forecast: ...

    @post("/v1/reports")
    async def report(self, body: Forecast) -> None: ...

    async def both(self, one: str, other: str) -> list[Forecast]:
        """Two calls, one after the other."""
        return [await self.current(one), await self.current(other)]


class SyncWeather(SyncHTTPClient, of=Weather):
    current = plain(Weather.current)

    def first(self, *cities: str) -> Forecast:
        return self.current(cities[0])


def weather(*answers, then=None, **options):
    return SyncWeather(engine=script(*answers, then=then), **options)


def shop(*answers, then=None, **options):
    return SyncHTTPClient("http://shop.test", engine=script(*answers, then=then), **options)


def asked_by(client):
    """The engine's calls."""
    return client._client.engine.calls


def ours():
    """The threads of clients."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("fairlead ")]


def together(number, work, *items):
    """What `work` comes to in so many threads at once, for each item."""
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(work, *items, timeout=PATIENCE))


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    gc.collect()
    for thread in ours():
        thread.join(PATIENCE)
    assert ours() == []


LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"], indirect=True)


ONLY = {"uvloop": "", "asyncio": "import sys; sys.modules['uvloop'] = None"}


@pytest.fixture
def loop(request, monkeypatch):
    """Which loop the clients of a test have."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    else:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    return request.param


# the same calls


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_the_async_ones(verb):
    with shop(then=(200, {"sky": "blue"})) as client:
        response = getattr(client, verb)("/a", params={"page": 1}, headers={"X-One": "1"}, timeout=2.0)
        assert isinstance(response, Response)
        assert response.json() == {"sky": "blue"}
        assert getattr(client, verb)("/a", into=Forecast) == Forecast("blue")
        assert client.request(verb.upper(), "/a", into=Forecast) == Forecast("blue")
        first, *_ = asked_by(client)
        assert (first.request.method, first.request.target) == (verb.upper(), "/a?page=1")
        assert first.request.headers["x-one"] == "1"
        assert first.timeout.total == 2.0


@pytest.mark.parametrize(
    "name", [*VERBS, "request", "stream", "send", "build_request", "explain", "health_check", "close"]
)
def test_what_the_async_one_can_it_can(name):
    theirs = inspect.signature(getattr(HTTPClient, name)).parameters
    mine = inspect.signature(getattr(SyncHTTPClient, name)).parameters
    assert list(theirs)[:2] == list(mine)[:2]
    assert not inspect.iscoroutinefunction(getattr(SyncHTTPClient, name))


def test_a_status_an_option_and_a_request_of_ones_own():
    with shop(404, 404, 404, (200, "a")) as client:
        with pytest.raises(StatusError, match="answered 404"):
            client.get("/a")
        assert client.get("/a", raise_for_status=False).status_code == 404
        assert client.send(client.build_request("GET", "/a")).status_code == 404
        assert client.post("/a", json={"b": 1}).text == "a"


def test_the_policies_are_the_same():
    with shop(503, (200, "a"), ConnectFailed, 200, 503, max_retries=1, retry_delay=0.0001) as client:
        assert client.get("/").text == "a"
        assert client.post("/").status_code == 200
        with pytest.raises(StatusError):
            client.get("/", retry=None)
        assert [call.attempt for call in asked_by(client)] == [1, 2, 1, 2, 1]
        assert "retry" in client.explain()
        assert client.upstream.states["ConcurrencyLimit", "default"].taken == 0


def test_an_error_keeps_its_type_and_says_where_it_was_raised():
    with shop(ConnectFailed("no route"), max_retries=0) as client:
        with pytest.raises(ConnectFailed, match="no route") as caught:
            client.get("/a")
        told = "".join(traceback.format_tb(caught.value.__traceback__))
        assert "test_sync.py" in told
        assert "scripted.py" in told
        assert caught.value.request.target == "/a"


def test_an_error_is_no_garbage_that_has_to_be_looked_for():
    with shop(then=404) as client:
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                with pytest.raises(StatusError):
                    client.get("/")
            assert not [one for one in gc.get_objects() if isinstance(one, StatusError)][1:]
        finally:
            gc.enable()


def test_a_deadline_is_the_calls():
    with shop(inf, max_retries=0) as client, pytest.raises(AttemptTimedOut):
        client.get("/", timeout=0.05)


def test_what_is_asked_of_it_without_a_call():
    client = shop(name="shop")
    assert (client.name, client.base_url, client.health_path) == ("shop", "http://shop.test", "")
    assert repr(client) == "<SyncHTTPClient http://shop.test>"
    assert ours() == []


def test_health():
    with shop(200, 404, 503, ConnectFailed, max_retries=5) as client:
        assert [client.health_check() for _ in range(4)] == [True, True, False, False]


# a client class, without await


def test_declared_calls_are_plain_methods():
    with weather(
        (200, {"sky": "blue"}), 204, (200, {"sky": "grey"}), (200, {"sky": "red"}), (200, {"sky": "wet"})
    ) as client:
        assert client.current("Oslo", units="imperial") == Forecast("blue")
        assert client.report(Forecast("dim")) is None
        assert client.both("Oslo", "Rome") == [Forecast("grey"), Forecast("red")]
        assert client.first("Oslo") == Forecast("wet")
        assert [call.request.target for call in asked_by(client)][:2] == [
            "/v1/current?city=Oslo&units=imperial",
            "/v1/reports",
        ]


def test_they_look_as_they_were_declared():
    assert SyncWeather.current.__name__ == "current"
    assert list(inspect.signature(SyncWeather.current).parameters) == ["self", "city", "units"]
    assert SyncWeather.both.__doc__ == "Two calls, one after the other."
    assert not inspect.iscoroutinefunction(SyncWeather.both)


def test_arguments_are_checked_as_ever():
    with weather() as client, pytest.raises(TypeError, match="city"):
        client.current()


def test_an_override_counts():
    class Cached(Weather):
        async def current(self, city: str, units: str = "metric") -> Forecast:
            return Forecast(f"{city}, remembered")

        async def get(self, path, **options):
            return "overridden"

    class SyncCached(SyncWeather, of=Cached):
        pass

    with SyncCached(engine=script()) as client:
        assert client.current("Oslo") == Forecast("Oslo, remembered")
        assert client.first("Rome") == Forecast("Rome, remembered")
        assert client.get("/") == "overridden"


def test_an_instance_can_be_wrapped():
    with SyncHTTPClient.of(Weather(engine=script((200, {"sky": "blue"})))) as client:
        assert client.current("Oslo") == Forecast("blue")
        assert type(client).__name__ == "SyncWeather"
    with SyncWeather.of(Weather(engine=script((200, {"sky": "blue"})))) as client:
        assert client.first("Oslo") == Forecast("blue")
    with SyncHTTPClient.of(HTTPClient("http://shop.test", engine=script(200))) as client:
        assert type(client) is SyncHTTPClient
        assert client.get("/").status_code == 200


def test_its_options_and_settings_are_those_of_the_class_it_wraps(monkeypatch):
    monkeypatch.setenv("WEATHER__TIMEOUT", "7")
    assert SyncWeather()._client.timeout.total == 7.0
    assert SyncWeather(timeout=3.0)._client.timeout.total == 3.0

    class Patient(SyncHTTPClient, of=Weather, max_retries=9):
        pass

    client = Patient("http://elsewhere.test")
    assert (client._client.timeout.total, client._client.max_retries) == (7.0, 9)
    assert (client.name, client.base_url) == ("Weather", "http://elsewhere.test")
    assert isinstance(client._client, Weather)


def test_a_constructor_of_its_own_is_asked_too(monkeypatch):
    class Pay(HTTPClient, base_url="http://pay.test"):
        def __init__(self, merchant: str, **options) -> None:
            super().__init__(headers={"X-Merchant": merchant}, **options)

    class SyncPay(SyncHTTPClient, of=Pay):
        pass

    with pytest.raises(ConfigError, match="set PAY__MERCHANT"):
        SyncPay()
    monkeypatch.setenv("PAY__MERCHANT", "m1")
    with SyncPay(engine=script(200)) as client:
        client.get("/")
        assert asked_by(client)[0].request.headers["x-merchant"] == "m1"
    assert SyncPay.of(Pay("m2"))._client._default_headers["x-merchant"] == "m2"


def test_a_class_of_its_own_has_class_keywords(monkeypatch):
    monkeypatch.setenv("ORDERS__MAX_RETRIES", "4")

    class Orders(SyncHTTPClient, base_url="http://orders.test", timeout=2.0):
        auth = ("ada", "secret")

    with Orders(engine=script(200)) as client:
        client.get("/")
        assert (client.name, client._client.timeout.total, client._client.max_retries) == ("Orders", 2.0, 4)
        assert asked_by(client)[0].request.headers["authorization"].startswith("Basic ")


def test_what_cannot_be_wrapped_is_said_when_the_class_is_made():
    with pytest.raises(ConfigError, match=r"of=<class 'int'> is no class of HTTPClient"):
        type(SyncHTTPClient)("Wrong", (SyncHTTPClient,), {}, of=int)
    with pytest.raises(ConfigError, match=r"Wrong.current: declare calls on an HTTPClient, and wrap it"):

        class Wrong(SyncHTTPClient, base_url="http://weather.test"):
            @get("/v1/current")
            async def current(self) -> None: ...

    with pytest.raises(ConfigError, match=r"Odd.of: a SyncHTTPClient itself has this name"):

        class Odd(HTTPClient):
            async def of(self) -> None: ...

        SyncHTTPClient.of(Odd())
    with pytest.raises(TypeError, match="did you mean 'timeout'"):

        class Misspelt(SyncHTTPClient, tiemout=1.0):
            pass

    with pytest.raises(ConfigError, match=r"SyncWeather.of\(HTTPClient\): pass a Weather"):
        SyncWeather.of(HTTPClient("http://weather.test"))


# a thread that runs a loop


async def test_where_a_loop_runs_it_says_to_await():
    client = shop(200)
    for call in (
        lambda: client.get("/"),
        client.__enter__,
        lambda: client.stream("GET", "/").__enter__(),
        client.health_check,
    ):
        with pytest.raises(ConfigError, match=r"an event loop runs in this thread.*await the async client here"):
            call()
    assert (await asyncio.to_thread(client.get, "/")).status_code == 200
    with pytest.raises(ConfigError, match="an event loop runs"):
        client.close()
    await asyncio.to_thread(client.close)


async def test_a_loop_can_open_and_close_it():
    async with shop(200, 204) as client:
        assert await client.ahealth_check() is True
        assert (await asyncio.to_thread(client.get, "/")).status_code == 204
    assert ours() == []
    async with shop():
        pass
    await client.__aexit__(None, None, None)
    with pytest.raises(ConfigError, match="the client is closed"):
        await asyncio.to_thread(client.get, "/")


def test_a_policys_own_function_cannot_wait_for_it():
    with pytest.raises(ConfigError, match="an event loop runs"), shop(503, max_retries=0) as client:
        client.get("/", fallback=lambda call, cause: client.get("/b"))


# what a call inherits


def test_context_variables_reach_the_engine():
    user = ContextVar("user", default="nobody")
    seen = []

    def note(request):
        seen.append(user.get())
        user.set("the engine")
        return 200

    with shop(then=note) as client:
        client.get("/")
        user.set("ada")
        client.get("/")
        copy_context().run(lambda: (user.set("bob"), client.get("/")))
        assert (seen, user.get()) == (["nobody", "ada", "bob"], "ada")


def left(client):
    """Seconds that the last call had, when it was made."""
    call = asked_by(client)[-1]
    return call.deadline - call.clock()


def test_an_inherited_deadline_is_counted_in_the_loops_own_time():
    with shop(then=200) as client:
        for began in (0.0, 1e9, -1e9):  # the other loop's time is anything

            def of_another_loop(began=began):
                ask(Asked(began + 5.0, None, lambda: began))
                client.get("/")

            copy_context().run(of_another_loop)
            assert 4.0 < left(client) < 5.001  # so far from 0 a time is no finer than a ten-millionth
        client.get("/")
        assert 29.0 < left(client) <= 30.0


def test_a_script_can_bound_what_it_does():
    with shop(inf, then=200) as client:
        with pytest.raises(DeadlineExceeded), within(0.05):
            client.get("/")
        with pytest.raises(DeadlineExceeded), within(-1.0):
            client.get("/")
        with within(5.0):
            client.get("/")
            assert left(client) <= 5.0
            with detached():
                client.get("/")
                assert left(client) > 5.0


def test_who_carries_the_calls_of_a_loop_is_not_asked_in_a_thread():
    class Inbound(Asked):
        __slots__ = ()

        def carry(self, send, call):
            raise AssertionError("this belongs to another loop")

    def endpoint():
        ask(Inbound(inf, None, monotonic))
        client.get("/")

    with shop(200) as client:
        copy_context().run(endpoint)


# streams


def pieces(*body, **options):
    return shop((200, Pieces(*body), {"Content-Type": "text/plain; charset=utf-8"}), **options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iter_bytes", [b"ab\n", b"c\xc3", b"\xa9"]),
        ("iter_raw", [b"ab\n", b"c\xc3", b"\xa9"]),
        ("iter_text", ["ab\n", "c", "é"]),
        ("iter_lines", ["ab", "cé"]),
    ],
)
def test_a_stream_is_read_as_it_arrives(name, expected):
    with pieces(b"ab\n", b"c\xc3", b"\xa9") as client:
        with client.stream("GET", "/") as response:
            assert (response.status_code, response.headers["content-type"]) == (200, "text/plain; charset=utf-8")
            assert not response.is_closed
            assert list(getattr(response, name)()) == expected
            assert (response.is_closed, response.complete, response.error) == (True, True, None)
            with pytest.raises(FairleadError, match="closed"):
                next(response.iter_bytes())
        assert client._client.engine.open == 0


def test_a_stream_can_be_read_whole():
    with shop((200, {"sky": "blue"})) as client, client.stream("GET", "/") as response:
        with pytest.raises(FairleadError, match=r"`response.read\(\)` first"):
            response.json()
        assert response.read() == b'{"sky":"blue"}'
        assert response.json(Forecast) == Forecast("blue")
        assert response.text == '{"sky":"blue"}'
        assert list(response.iter_bytes()) == [response.content]
        assert response.read() == response.content


class Endless:
    """A body without an end, which counts what was asked of it."""

    def __init__(self):
        self.reads = 0
        self.closed = False

    async def read(self):
        self.reads += 1
        return b"%d" % self.reads

    def close(self):
        self.closed = True


def test_one_piece_at_a_time_is_asked_for():
    body = Endless()
    with shop() as client:
        arriving = Arriving(200, [], body, None, client.build_request("GET", "/"), 0.0)
        response = SyncResponse(arriving, client._background)
        pieces = response.iter_bytes()
        assert body.reads == 0
        assert [next(pieces) for _ in range(3)] == [b"1", b"2", b"3"]
        client._background.run(asyncio.sleep, (0,))
        assert body.reads == 3
        response.close()
        assert body.closed


@pytest.mark.parametrize("how", ["half-way", "unread", "by an error"])
def test_a_stream_that_is_left_is_closed(how):
    with pieces(b"a", b"b", inf) as client:
        stream = client.stream("GET", "/")
        with pytest.raises(KeyError) if how == "by an error" else stream:
            if how == "by an error":
                with stream as response:
                    raise KeyError
            response = stream.response
            if how == "half-way":
                for _ in response.iter_bytes():
                    break
        assert response.is_closed
        assert not response.complete
        assert client._client.engine.open == 0
        assert client.upstream.states["ConcurrencyLimit", "default"].taken == 0


def test_an_error_of_the_body_is_raised_where_it_is_read():
    with pieces(b"a", ConnectFailed("torn")) as client, client.stream("GET", "/") as response:
        with pytest.raises(ConnectFailed, match="torn"):
            list(response.iter_bytes())
        assert isinstance(response.error, ConnectFailed)
        assert response.is_closed


def test_a_stream_never_raises_for_a_status_and_opens_once():
    with shop(404) as client:
        stream = client.stream("GET", "/")
        with stream as response:
            assert response.status_code == 404
            with pytest.raises(StatusError):
                response.raise_for_status()
        with pytest.raises(ConfigError, match="a stream opens once"), stream:
            pass


def test_what_answers_in_place_of_a_stream_is_one_too():
    with shop(503, max_retries=0) as client, client.stream("GET", "/", fallback={"sky": "blue"}) as response:
        assert response.read() == b'{"sky":"blue"}'
        assert response.fallback == "a given answer"


def test_who_awaits_a_stream_is_told():
    with pieces(b"a") as client, client.stream("GET", "/") as response:
        assert isinstance(response, SyncResponse)
        with pytest.raises(ConfigError, match="iter_bytes"):
            response.aiter_bytes()


def test_when_closed_waits_for_the_end():
    told = []
    with pieces(b"a") as client:
        with client.stream("GET", "/") as response:
            response.when_closed(lambda: told.append(threading.current_thread().name))
            assert told == []
        assert told == ["fairlead shop.test"]


@pytest.mark.parametrize("read", [0, 1])
def test_a_stream_that_is_open_when_its_client_is_closed_is_closed_with_it(read):
    client = pieces(b"a", b"b", inf)
    with client.stream("GET", "/") as response:
        body = response.iter_bytes()
        for _ in range(read):
            next(body)
        client.close(drain=0.0)
        with pytest.raises(ConfigError, match="the client is closed"):
            next(body)
    assert response.is_closed
    assert client._client.engine.open == 0


def test_a_stream_dropped_open_says_where_and_closes():
    with pieces(b"a", inf) as client:
        stream = client.stream("GET", "/")
        stream.__enter__()
        line = stream._stream._opened_at
        with pytest.warns(ResourceWarning, match="a stream opened at .*test_sync.py.* was dropped open"):
            del stream
            gc.collect()
        assert "test_sync.py:" in line
        client._background.run(asyncio.sleep, (0,))
        assert client._client.engine.open == 0


# interrupted, closed, dropped, ended


async def hold(request):
    await asyncio.get_running_loop().create_future()


async def interrupts(request):
    """An answer that never comes, and a Ctrl-C for the thread that waits for it."""
    os.kill(os.getpid(), signal.SIGINT)
    await hold(request)


@LOOPS
def test_a_keyboard_interrupt_ends_the_waiting_and_the_call(loop):
    with shop(interrupts, 200) as client:
        with pytest.raises(KeyboardInterrupt):
            client.get("/")
        # In the order in which they were handed over: the call has been cancelled when this answers.
        assert client.get("/").status_code == 200
        assert client._client.engine.open == 0
        assert client._background.crossing == set()
        assert client.upstream.states["ConcurrencyLimit", "default"].taken == 0


def test_an_interrupt_that_ends_the_closing_of_a_stream_leaves_none_open(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with pieces(b"a", inf) as client:
        with pytest.raises(KeyboardInterrupt), client.stream("GET", "/") as response:
            monkeypatch.setattr(client._background, "run", interrupted)
        monkeypatch.undo()
        client._background.run(asyncio.sleep, (0,))
        assert client._client.engine.open == 0
        response.close()
        assert response.is_closed


def test_a_call_that_is_left_before_it_began_is_never_made():
    with shop(then=200) as client:
        background = client._background
        crossing = Crossing(background, client._client.get, ("/",), {}, bool)
        background.crossing.add(crossing)

        async def both():
            crossing.begin()
            crossing.leave()

        background.run(both)
        background.run(asyncio.sleep, (0,))
        assert asked_by(client) == []
        assert background.crossing == set()


def test_an_answer_that_nobody_waits_for_any_more_is_closed():
    with pieces(b"a", inf) as client:
        background = client._background
        sent = client._client.send
        over = threading.Event()
        crossing = Crossing(background, sent, (client.build_request("GET", "/"),), {"stream": True}, over.set)
        background.hand_over(crossing.begin)
        assert over.wait(PATIENCE)
        assert client._client.engine.open == 1
        background.hand_over(crossing.leave)
        background.run(asyncio.sleep, (0,))
        assert client._client.engine.open == 0


def test_an_answer_that_comes_in_spite_of_it_is_closed():
    async def stubborn():
        try:
            await hold(None)
        except asyncio.CancelledError:
            return await client._client.send(client.build_request("GET", "/"), stream=True)

    with pieces(b"a", inf) as client:
        background = client._background
        over = threading.Event()
        crossing = Crossing(background, stubborn, (), {}, over.set)
        background.hand_over(crossing.begin)
        background.run(asyncio.sleep, (0,))
        background.hand_over(crossing.leave)
        assert over.wait(PATIENCE)
        assert isinstance(crossing.value, Response)
        assert client._client.engine.open == 0


def test_a_cancellation_of_somebody_elses_is_an_error_of_ours():
    def cancelled(request):
        raise asyncio.CancelledError

    with shop(cancelled) as client, pytest.raises(FairleadError, match="the call was cancelled"):
        client.get("/")


@LOOPS
def test_closing_ends_the_calls_of_other_threads(loop):
    begun = threading.Semaphore(0)

    async def begin(request):
        begun.release()
        await hold(request)

    client = shop(then=begin)

    def call(number):
        try:
            client.get("/")
        except FairleadError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, number) for number in range(8)]
        for _ in calls:
            assert begun.acquire(timeout=PATIENCE)
        client.close(drain=0.0)
        told = [call.result(PATIENCE) for call in calls]
    assert {type(error) for error in told} == {ConfigError}
    assert {error.message for error in told} == {
        "shop.test: the client is closed; open it once and close it when the application ends"
    }
    with pytest.raises(ConfigError, match="the client is closed"):
        client.get("/")


def test_closing_waits_for_those_under_way():
    begun, go = threading.Event(), threading.Event()

    async def begin(request):
        begun.set()
        await asyncio.to_thread(go.wait, PATIENCE)
        return 204

    client = shop(begin)
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(client.get, "/")
        assert begun.wait(PATIENCE)
        closing = pool.submit(client.close, drain=PATIENCE)
        go.set()
        assert call.result(PATIENCE).status_code == 204
        closing.result(PATIENCE)


def test_it_may_be_closed_again_by_many_and_unopened():
    client = shop(then=200)
    client.get("/")
    together(8, lambda _: client.close(), range(8))
    client.close()
    unopened = shop()
    unopened.close()
    with pytest.raises(ConfigError, match="the client is closed"):
        unopened.get("/")


def test_a_drain_that_is_none_closes_nothing():
    with shop(then=200) as client:
        client.get("/")
        with pytest.raises(ConfigError, match=r"drain=-1\) is not a number of seconds"):
            client.close(drain=-1)
        assert client.get("/").status_code == 200


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 20))
def test_whoever_calls_while_it_closes_is_answered_or_told(threads, before):
    client = shop(then=200)
    called = threading.Semaphore(0)

    def calls(_):
        try:
            while True:
                assert client.get("/").status_code == 200
                called.release()
        except ConfigError as error:
            return error.message

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(calls, None) for _ in range(threads)]
        for _ in range(before):
            assert called.acquire(timeout=PATIENCE)
        client.close()
        told = {one.result(PATIENCE) for one in running}
    assert told == {"shop.test: the client is closed; open it once and close it when the application ends"}


def test_who_waits_on_a_loop_that_ends_is_released():
    background = Background("shop")
    waiting = ThreadPoolExecutor(1).submit(background.run, hold, (None,))
    while not background.crossing:
        pass
    background.end()
    with pytest.raises(ConfigError, match="shop: the client is closed"):
        waiting.result(PATIENCE)
    background.join()
    with pytest.raises(ConfigError, match="shop: the client is closed"):
        background.run(hold, (None,))
    assert background.crossing == set()


def test_what_no_loop_has_begun_any_more_is_released():
    background = Background("shop")
    over = threading.Event()
    late = Crossing(background, hold, (None,), {}, over.set)
    background.crossing.add(late)
    background.end()
    background.join()
    assert over.wait(PATIENCE)
    assert isinstance(late.error, asyncio.CancelledError)


@LOOPS
def test_dropped_open_it_says_where_it_was_made_and_ends(loop):
    client = weather(200)
    client.get("/")
    engine = client._client.engine
    with pytest.warns(
        ResourceWarning, match="SyncWeather made at .*test_sync.py.* was dropped open: use `with`"
    ) as told:
        del client
        gc.collect()
    assert len(told) == 1
    for thread in ours():
        thread.join(PATIENCE)
    assert ours() == []
    assert engine.closed


def test_it_says_so_once_also_where_nothing_can_be_closed_any_more(monkeypatch):
    client = weather(200)
    client.get("/")
    background = client._background
    with monkeypatch.context() as patched:
        patched.setattr(Background, "drop", lambda *_: None)
        with pytest.warns(ResourceWarning, match="was dropped open") as told:
            del client
            gc.collect()
    assert len(told) == 1
    background.end()


@LOOPS
@pytest.mark.parametrize("ends", ["pass", "raise SystemExit(0)", "client.close()", "del client"])
def test_the_interpreter_ends_whatever_was_left_open(ends, loop):
    code = f"""{ONLY[loop]}
from fairlead.sync import SyncHTTPClient
from fairlead.testing import script
client = SyncHTTPClient("http://shop.test", engine=script(then=200))
assert client.get("/").status_code == 200
{ends}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE * 2
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@LOOPS
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_is_told_and_its_parent_goes_on(loop):
    code = (
        ONLY[loop]
        + """
import gc, os, sys, warnings
from fairlead import ConfigError
from fairlead.sync import SyncHTTPClient
from fairlead.testing import script
warnings.simplefilter("error", ResourceWarning)
warnings.simplefilter("ignore", DeprecationWarning)
client = SyncHTTPClient("http://shop.test", engine=script(then=200))
fresh = SyncHTTPClient("http://shop.test", engine=script(then=200))
client.get("/")
pid = os.fork()
if pid == 0:
    try:
        client.get("/")
    except ConfigError as error:
        print(error, flush=True)
    client.close()
    del client
    gc.collect()
    with fresh:
        print(fresh.get("/").status_code, flush=True)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
for _ in range(3):
    assert client.get("/").status_code == 200
client.close()
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE * 2
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "shop.test: the client was opened in another process, before a fork: open one here",
        "200",
    ]


# many threads


def test_the_limit_and_its_line_are_one_for_all_threads():
    client = shop(then=200, policies=(ConcurrencyLimit(limit=2, waiting=0),))
    begun, go = threading.Semaphore(0), threading.Event()

    async def begin(request):
        begun.release()
        await asyncio.to_thread(go.wait, PATIENCE)
        return 200

    client._client.engine.answers = [begin, begin]
    with client, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.get, "/") for _ in range(2)]
        assert begun.acquire(timeout=PATIENCE)
        assert begun.acquire(timeout=PATIENCE)
        with pytest.raises(LimitReached, match="limit 2, 2 under way"):
            client.get("/")
        go.set()
        assert [call.result(PATIENCE).status_code for call in calls] == [200, 200]


class Numbers(HTTPClient, max_connections=8):
    @get("/numbers/{number}")
    async def number(self, number: int) -> int: ...


class SyncNumbers(SyncHTTPClient, of=Numbers):
    number = plain(Numbers.number)


@LOOPS
async def test_sixty_four_threads_of_def_endpoints_share_one_pool(loop):
    busy = 0

    def all_are_busy():
        return busy >= 8

    async def talk(line):
        nonlocal busy
        while (seen := await line.request()) is not None:
            busy += 1
            line.peer.note()
            if len(line.peer.requests) <= 8:  # those wait for each other: so many connections are in use at once
                await line.peer.until(all_are_busy)
            await line.say(answer(seen.target.rpartition("/")[2].encode()))

    async with Peer(talk) as peer:
        made = SyncNumbers(peer.url)
        app = FastAPI(lifespan=lifespan(made))
        inside = threading.Barrier(64)
        threads = set()

        @app.get("/double/{number}")
        def double(number: int, numbers: Use[SyncNumbers]) -> int:
            threads.add(threading.get_ident())
            inside.wait(PATIENCE)
            return numbers.number(number) + numbers.number(number)

        anyio.to_thread.current_default_thread_limiter().total_tokens = 64
        async with app.router.lifespan_context(app):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as caller:
                answers = await asyncio.gather(*[caller.get(f"/double/{number}") for number in range(128)])
            assert [one.json() for one in answers] == [2 * number for number in range(128)]
            assert len(threads) == 64
            assert len(ours()) == 1
            assert made.upstream.states["ConcurrencyLimit", "default"].taken == 0
        assert len(peer.requests) == 256
        assert peer.accepted == 8
        await peer.empty()
    assert ours() == []


# in an application


def app_of(*clients):
    app = FastAPI(lifespan=lifespan(*clients))

    @app.get("/sky")
    def sky(client: Use[SyncWeather]) -> str:
        return client.current("Oslo").sky

    return app


def test_a_class_is_opened_and_injected_into_a_def_endpoint(monkeypatch):
    monkeypatch.setenv("WEATHER__TIMEOUT", "7")
    made = []

    class Noted(SyncWeather):
        def __init__(self) -> None:
            super().__init__(engine=script(then=(200, {"sky": "blue"})))
            made.append(self)

    with TestClient(app_of(Noted)) as caller:
        assert caller.get("/sky").json() == "blue"
        assert made[0]._client.timeout.total == 7.0
        assert caller.get("/health").json()["healthy"] is True
    assert ours() == []


def test_another_takes_its_place_in_a_test():
    app = app_of()

    def grey():
        with weather((200, {"sky": "grey"})) as client:
            yield client

    app.dependency_overrides[provide(SyncWeather)] = grey
    with TestClient(app) as caller:
        assert caller.get("/sky").json() == "grey"


def test_its_errors_are_answers_and_its_callers_deadline_counts():
    with TestClient(app_of(weather(ConnectFailed, inf))) as caller:
        assert caller.get("/sky").status_code == 502
        assert caller.get("/sky", headers={"X-Request-Timeout": "0.05"}).status_code == 504
