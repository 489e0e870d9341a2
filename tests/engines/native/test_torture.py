"""Every await of the native engine fails once and is cancelled once, in turn, on real sockets: nothing is left behind.

A scene is told once for each place where something waits and each thing that can happen there, on both loops; and on asyncio's,
cancelled between any two callbacks of the loop as well. After each telling everything is counted: see `Stage.nothing_is_left`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from fairlead import ConfigError, HTTPClient, Response
from fairlead.engines import native
from fairlead.testing import Cut, at_every_await, at_every_step
from peers import PATIENCE, Line, Peer, answer, authority, loops

BODY = b"x" * 3000
HEAD = b"HTTP/1.1 200 OK\r\n"


def sockets() -> int:
    """How many this process has open, in whoever's hands."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith("socket:")
        except OSError:
            continue  # the descriptor that reads the directory
    return found


@dataclass
class Stage:
    """A client, its peer, and everything that a cut must not leave behind."""

    client: HTTPClient
    other: HTTPClient
    """Not the one that must be of use afterwards."""
    peer: Peer
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    """What the scene itself started beside the work that is cut."""

    @property
    def engine(self) -> native.Native:
        engine = self.client.engine
        assert isinstance(engine, native.Native)
        return engine

    async def until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait some turns of the loop, and some milliseconds if need be."""
        for turn in range(int(PATIENCE * 1000)):
            if happened():
                return
            await asyncio.sleep(0 if turn < 50 else 0.001)
        raise AssertionError(f"{what} was left behind")

    async def nothing_is_left(self) -> None:
        client, engine = self.client, self.engine
        me = asyncio.current_task()
        async with asyncio.timeout(PATIENCE):
            await self.other.close(drain=0.05)
        await self.until(lambda: not (asyncio.all_tasks() - self.peer.tasks - {me, *self.tasks}), "a task")
        async with asyncio.timeout(PATIENCE):
            ends = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert all(isinstance(end, Response | ConfigError) for end in ends)
        slots = client.upstream.states["ConcurrencyLimit", "default"]
        assert (slots.taken, len(slots.line)) == (0, 0), f"{slots!r}"
        assert not engine._waits._timers, "a timer of a call that is over"

        def idle() -> set[Any]:
            return {connection for some in engine._idle.values() for connection in some}

        await self.until(lambda: engine._open == idle(), "a connection that nobody uses, and that is not kept,")
        assert all(one.idle and one.arrived is None and one.call is None for one in idle())
        await self.until(lambda: self.peer.open == len(engine._open), "a socket")
        assert (await client.get("/next")).content == b"next", "the next call does not work"
        async with asyncio.timeout(PATIENCE):
            await client.close()
        assert not engine._open
        await self.peer.empty()


async def _server(line: Line) -> None:
    """Does what the target says."""
    while (seen := await line.head()) is not None:
        match seen.target:
            case "/early":  # an answer before the request is here
                await line.say(answer(b"early"))
                return
            case "/reset":
                await line.body(seen)
                if not line.peer.words:
                    line.peer.words.append(b"reset")
                    line.reset()
                    return
                await line.say(answer())
            case "/dead":  # the next request on this connection has no answer
                await line.body(seen)
                await line.say(answer())
                await line.head()
                line.hang_up()
                return
            case "/pieces":
                await line.body(seen)
                await line.say(HEAD + b"Transfer-Encoding: chunked\r\n", b"\r\n")
                for _ in range(3):
                    await line.say(b"bb8\r\n", BODY, b"\r\n")
                    await asyncio.sleep(0)
                await line.say(b"0\r\n\r\n")
            case "/large":
                await line.body(seen)
                await line.say(answer(bytes(1 << 20)))
            case "/hurt":
                await line.body(seen)
                await line.say(answer(status=b"503 Service Unavailable" if not line.peer.words else b"200 OK"))
                line.peer.words.append(b"hurt")
            case "/slow":  # what the system holds is full before it is read
                transport = cast("asyncio.Transport", line.writer.transport)
                transport.pause_reading()
                for _ in range(100):
                    await asyncio.sleep(0)
                transport.resume_reading()
                await line.body(seen)
                await line.say(answer())
            case "/expect":  # the body is not sent before it is asked for
                await line.say(b"HTTP/1.1 100 Continue\r\n\r\n")
                await line.say(answer(await line.body(seen)))
            case "/upgrade":
                await line.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
                while said := await line.reader.read(100):
                    await line.say(said)
                return
            case "/silence":
                return
            case "/next":
                await line.say(answer(b"next"))
            case _:
                seen.body = await line.body(seen)
                await line.say(answer(b"" if seen.method == "HEAD" else seen.body or b"ok"))


async def _slowly() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield BODY
        await asyncio.sleep(0)


async def _endlessly() -> AsyncIterator[bytes]:
    yield BODY
    await asyncio.get_running_loop().create_future()


async def _heavily() -> AsyncIterator[bytes]:
    piece = bytes(1 << 19)
    for _ in range(10):
        yield piece


# What is cut


async def get(stage: Stage) -> None:
    assert (await stage.client.get("/")).content == b"ok"


async def post(stage: Stage) -> None:
    assert (await stage.client.post("/", content=BODY)).content == BODY


async def head(stage: Stage) -> None:
    assert (await stage.client.head("/")).status_code == 200


async def upload(stage: Stage) -> None:
    assert (await stage.client.put("/", content=_slowly)).content == 3 * BODY


async def heavy_upload(stage: Stage) -> None:
    assert (await stage.client.put("/slow", content=_heavily)).status_code == 200


async def early_answer(stage: Stage) -> None:
    assert (await stage.client.put("/early", content=_endlessly)).content == b"early"


async def stream(stage: Stage) -> None:
    async with stage.client.stream("GET", "/pieces") as response:
        assert b"".join([piece async for piece in response.aiter_bytes()]) == 3 * BODY


async def large_stream(stage: Stage) -> None:
    async with stage.client.stream("GET", "/large") as response:
        assert len(await response.aread()) == 1 << 20


async def half_a_stream(stage: Stage) -> None:
    async with stage.client.stream("GET", "/pieces") as response:
        async for _ in response.aiter_bytes():
            break


async def unread_stream(stage: Stage) -> None:
    async with stage.client.stream("GET", "/large") as response:
        assert response.status_code == 200


async def expecting(stage: Stage) -> None:
    response = await stage.client.put("/expect", content=_slowly, headers={"Expect": "100-continue"})
    assert response.content == 3 * BODY


async def upgraded(stage: Stage) -> None:
    headers = {"Connection": "upgrade", "Upgrade": "echo"}
    async with stage.client.stream("GET", "/upgrade", headers=headers) as response:
        raw = response.upgraded
        assert raw is not None
        for _ in range(2):
            await raw.write(BODY)
            said = b""
            while len(said) < len(BODY):
                said += await raw.read()
            assert said == BODY


async def reset(stage: Stage) -> None:
    assert (await stage.client.get("/reset")).status_code == 200


async def hurt(stage: Stage) -> None:
    """A 503, a pause, and another attempt."""
    assert (await stage.client.get("/hurt")).status_code == 200


async def two_at_once(stage: Stage) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(get(stage))
            group.create_task(post(stage))
    except (
        BaseExceptionGroup
    ) as several:  # what `except*` makes of an error raised in it differs from one 3.11 to another
        raise several.exceptions[0] from None


async def closing(stage: Stage) -> None:
    await stage.other.close(drain=0)


# What comes before


async def kept(stage: Stage) -> None:
    await stage.client.get("/")


async def died(stage: Stage) -> None:
    await stage.client.get("/dead")


async def calling(stage: Stage) -> None:
    """Another client has one connection that rests, one call under way, and one that connects."""
    await stage.other.get("/")
    stage.tasks.append(asyncio.ensure_future(stage.other.get("/silence")))
    await stage.peer.until(lambda: len(stage.peer.requests) == 2)
    stage.tasks.append(asyncio.ensure_future(stage.other.get("/silence")))
    await asyncio.sleep(0)


async def in_line(stage: Stage) -> None:
    """All slots are taken: one call is under way, another waits in line, and who comes is third."""
    stage.tasks += [asyncio.ensure_future(stage.client.get("/hurt")), asyncio.ensure_future(stage.client.get("/"))]
    await stage.peer.until(lambda: len(stage.peer.requests) == 1)


@dataclass(frozen=True)
class Scene:
    name: str
    work: Callable[[Stage], Awaitable[None]]
    before: Callable[[Stage], Awaitable[None]] | None = None
    tls: bool = False
    limit: int = 10

    def __str__(self) -> str:
        return self.name


SCENES = (
    Scene("a call on a new connection", get),
    Scene("a call on a kept connection", get, kept),
    Scene("a call over TLS", post, tls=True),
    Scene("a call on a kept connection over TLS", post, kept, tls=True),
    Scene("a body", post),
    Scene("a HEAD", head, kept),
    Scene("an upload in chunks", upload),
    Scene("an upload over TLS", upload, kept, tls=True),
    Scene("an upload that the peer takes slowly", heavy_upload),
    Scene("an answer before the upload ended", early_answer),
    Scene("an upload that waits to be asked for", expecting),
    Scene("an upload that waits to be asked for, over TLS", expecting, kept, tls=True),
    Scene("another protocol", upgraded),
    Scene("another protocol, over TLS", upgraded, kept, tls=True),
    Scene("a stream read to its end", stream),
    Scene("a stream over TLS", stream, tls=True),
    Scene("a stream larger than what is read ahead", large_stream),
    Scene("a stream left half-way", half_a_stream),
    Scene("a stream that nobody read", unread_stream, kept),
    Scene("a kept connection that had died", get, died),
    Scene("a kept connection that had died, over TLS", get, died, tls=True),
    Scene("a peer that resets", reset),
    Scene("a 503 and another attempt", hurt),
    Scene("two calls at once", two_at_once),
    Scene("a place in line", get, in_line, limit=1),
    Scene("a stream from a place in line", stream, in_line, limit=1),
    Scene("closing while calls are under way", closing, calling),
    Scene("closing while calls are under way, over TLS", closing, calling, tls=True),
)


@contextmanager
def nothing_is_complained_of(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """No log, no warning, and no exception that nobody retrieved."""
    complaints: list[str] = []
    hook = sys.unraisablehook
    sys.unraisablehook = lambda given: complaints.append(f"{given.err_msg}: {given.exc_value!r}")
    caplog.set_level(logging.WARNING, logger="asyncio")
    caplog.set_level(logging.ERROR, logger="fairlead")
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield complaints
            gc.collect()
            complaints += [str(warning.message) for warning in warned]
            complaints += [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    finally:
        sys.unraisablehook = hook


def torn(scene: Scene, complaints: list[str]) -> Callable[[Cut], Awaitable[None]]:
    tls = authority().server("127.0.0.1") if scene.tls else None
    trusted = authority().client()

    async def story(cut: Cut) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(repr(context)))
        before = sockets()
        async with AsyncExitStack() as stack:
            peer = await stack.enter_async_context(Peer(_server, tls=tls))
            client, other = [
                HTTPClient(
                    peer.url,
                    verify=trusted,
                    max_connections=scene.limit,
                    retry_delay=0.001,
                    timeout=2 * PATIENCE,
                )
                for _ in range(2)
            ]
            stage = Stage(client, other, peer)
            if scene.before is not None:
                await scene.before(stage)
            await cut(scene.work(stage))
            await stage.nothing_is_left()
        del stage, client, other, peer
        gc.collect()
        assert sockets() == before, "a socket"
        assert complaints == []

    return story


@pytest.mark.timeout(300)
@pytest.mark.parametrize("loop", loops(), ids=lambda loop: loop.__module__.partition(".")[0])
@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_an_await_that_fails_or_is_cancelled_leaves_nothing(
    scene: Scene, loop: Any, caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
) -> None:
    with nothing_is_complained_of(caplog) as complaints:
        cuts = at_every_await(torn(scene, complaints), loop_factory=loop)
    assert complaints == []
    record_property("cuts", cuts)
    print(f"{cuts} cuts: {scene}")  # noqa: T201
    assert cuts >= 3


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_a_cancellation_between_any_two_callbacks_leaves_nothing(
    scene: Scene, caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
) -> None:
    with nothing_is_complained_of(caplog) as complaints:
        cuts = at_every_step(torn(scene, complaints), real=True)
    assert complaints == []
    record_property("cuts", cuts)
    print(f"{cuts} cuts: {scene}")  # noqa: T201
    assert cuts >= 3
