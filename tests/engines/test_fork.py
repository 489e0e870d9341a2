"""A client belongs to one process and one loop at a time: elsewhere it is an error, and the connections it has go on undisturbed."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress

import pytest

from fairlead import ConfigError, HTTPClient
from peers import PATIENCE, Line, Peer, answer, authority, says

OK = says(answer())
ENGINES = ("native", "httpx2", "aiohttp")


class Child:
    """What a forked child does, and what it says of it. It is gone when its `async with` ends."""

    def __init__(self, deed: Callable[[], object], *, stays: bool = False) -> None:
        self.deed = deed
        self.stays = stays

    async def __aenter__(self) -> str:
        read, write = os.pipe()
        self.read = read
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: a thread of the test run's may be there
            self.pid = os.fork()
        if self.pid == 0:
            self._live(write)
        os.close(write)
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        loop.add_reader(read, lambda: told.done() or told.set_result(os.read(read, 65536)))
        try:
            async with asyncio.timeout(PATIENCE):
                return (await told).decode()
        finally:
            loop.remove_reader(read)

    def _live(self, write: int) -> None:
        """All of the child's life: nothing of the test run's is left to run in it."""
        try:
            told = repr(self.deed())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(write, told.encode())
        if self.stays:
            signal.pause()
        os._exit(0)

    async def __aexit__(self, *_: object) -> None:
        os.close(self.read)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)  # noqa: ASYNC222 -- it has been killed


def elsewhere(work: Callable[[], object]) -> object:
    """Run some work on a new loop of this process."""
    loop = asyncio.SelectorEventLoop()
    try:
        return loop.run_until_complete(work())
    finally:
        loop.close()


def get(client: HTTPClient) -> object:
    async def work() -> bytes:
        return (await client.get("/")).content

    return elsewhere(work)


class TestFork:
    @pytest.mark.parametrize("engine", ENGINES)
    async def test_a_client_that_was_not_used_yet_is_the_childs_too(self, engine):
        async with Peer(OK) as peer:
            client = HTTPClient(peer.url, engine=engine)
            async with Child(lambda: get(client)) as told:
                assert told == "b'ok'"
            assert (await client.get("/")).content == b"ok"
            await client.close()
            assert peer.accepted == 2

    @pytest.mark.parametrize("engine", ENGINES)
    async def test_one_that_was_used_is_an_error_in_the_child_and_goes_on_in_the_parent(self, engine):
        async with Peer(OK) as peer, HTTPClient(peer.url, engine=engine) as client:
            await client.get("/")
            async with Child(lambda: get(client)) as told:
                assert told.startswith("ConfigError: 127.0.0.1: the client was opened in another process")
                assert "open one here" in told
            for _ in range(3):
                assert (await client.get("/")).content == b"ok"
            assert peer.accepted == 1

    async def test_the_coroutine_that_forked_cannot_go_on_with_it_in_the_child(self):
        async with Peer(OK) as peer, HTTPClient(peer.url) as client:
            await client.get("/")
            async with Child(lambda: client.get("/").send(None)) as told:
                assert told.startswith("ConfigError: 127.0.0.1: the client was opened in another process")
            assert (await client.get("/")).content == b"ok"
            assert peer.accepted == 1

    @pytest.mark.parametrize("tls", [False, True])
    async def test_a_call_under_way_ends_well_in_the_parent_whatever_the_child_does(self, tls):
        forked = asyncio.Event()

        async def talk(line: Line) -> None:
            await line.request()
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            await forked.wait()
            await line.say(b"half")
            await line.request()
            await line.say(answer())

        async with (
            Peer(talk, tls=authority().server("127.0.0.1") if tls else None) as peer,
            HTTPClient(peer.url, verify=authority().client()) as client,
            client.stream("GET", "/") as response,
        ):
            body = response.aiter_bytes()
            assert await anext(body) == b"half"

            def deeds() -> str:
                response.close()
                elsewhere(client.close)
                get(client)
                return "called"

            async with Child(deeds) as told:
                assert told.startswith("ConfigError")
                forked.set()
                assert await anext(body) == b"half"
                assert await anext(body, None) is None
                assert (await client.get("/")).content == b"ok"
            assert peer.accepted == 1

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("tls", [False, True])
    async def test_closing_it_or_dropping_it_in_the_child_leaves_the_parents_connections(self, tls, engine):
        async with Peer(OK, tls=authority().server("127.0.0.1") if tls else None) as peer:
            client = HTTPClient(peer.url, engine=engine, verify=authority().client())
            clients = [client]
            await client.get("/")

            def deeds() -> str:
                elsewhere(clients[0].close)
                elsewhere(clients[0].close)
                clients.clear()
                del client.engine
                warnings.simplefilter("ignore")  # of the loop's transports, which are the parent's to close
                gc.collect()
                return "closed"

            async with Child(deeds) as told:
                assert told == "'closed'"
                assert (await client.get("/")).content == b"ok"
            assert (await client.get("/")).content == b"ok"
            assert peer.accepted == 1
            await client.close()

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("tls", [False, True])
    async def test_a_child_that_lives_on_holds_no_connection_of_the_parents(self, tls, engine):
        async with Peer(OK, tls=authority().server("127.0.0.1") if tls else None) as peer:
            client = HTTPClient(peer.url, engine=engine, verify=authority().client())
            await client.get("/")
            async with Child(lambda: "born", stays=True) as told:
                assert told == "'born'"
                await client.close()
                await peer.empty()

    async def test_a_client_of_the_childs_own_works_beside_it(self):
        async with Peer(OK) as peer, HTTPClient(peer.url) as client:
            await client.get("/")

            async def work() -> bytes:
                async with HTTPClient(peer.url) as own:
                    return (await own.get("/")).content

            async with Child(lambda: elsewhere(work)) as told:
                assert told == "b'ok'"
            assert (await client.get("/")).content == b"ok"
            assert peer.accepted == 2

    async def test_a_client_that_was_closed_stays_closed_in_the_child(self):
        async with Peer(OK) as peer:
            client = HTTPClient(peer.url)
            await client.get("/")
            await client.close()
            async with Child(lambda: get(client)) as told:
                assert "closed" in told

    async def test_what_only_the_child_dropped_open_is_not_complained_of(self):
        async with Peer(OK) as peer, HTTPClient(peer.url) as client:
            await client.get("/")

            def deeds() -> list[str]:
                with warnings.catch_warnings(record=True) as warned:
                    warnings.simplefilter("always")
                    client.__del__()
                return [str(one.message) for one in warned]

            async with Child(deeds) as told:
                assert told == "[]"


class TestLoops:
    @pytest.mark.parametrize("engine", ENGINES)
    async def test_a_second_loop_beside_the_first_is_an_error_and_the_first_goes_on(self, engine):
        async with Peer(OK) as peer, HTTPClient(peer.url, engine=engine) as client:
            await client.get("/")
            found: list[BaseException] = []

            def other() -> None:
                for deed in (lambda: get(client), lambda: elsewhere(client.close)):
                    try:
                        deed()
                    except BaseException as error:
                        found.append(error)

            thread = threading.Thread(target=other)
            thread.start()
            while thread.is_alive():
                assert (await client.get("/")).content == b"ok"
            thread.join()
            assert [type(error) for error in found] == [ConfigError, ConfigError]
            assert "was opened on another event loop" in str(found[0])
            assert "close it on the event loop that opened it" in str(found[1])
            assert (await client.get("/")).content == b"ok"
            assert peer.accepted == 1
            (circuit,) = client.upstream.states["CircuitBreaker", "default"].values()
            assert circuit.window.failed == 0

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_second_loop_after_the_first_is_a_new_beginning(self, engine):
        made: list[HTTPClient] = []

        async def use() -> bytes:
            async with Peer(OK) as peer:
                if not made:
                    made.append(HTTPClient(engine=engine))
                return (await made[0].get(peer.url)).content

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of the loop's transports, which nobody could close
            assert [asyncio.run(use()), asyncio.run(use())] == [b"ok", b"ok"]
            asyncio.run(made[0].close())
            gc.collect()
