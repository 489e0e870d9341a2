"""Plays a case of the corpus to a client over a socket, and notes what its caller saw: the answer, and what the next call met.

Nothing here knows how the answer is cut into segments or who the caller is: both are given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import aiohttp
import httpx2

from corpus import BROKEN, CUT, FIN, LATE, OPEN, RST, Case, End, Outcome
from fairlead import engines
from fairlead.core import Call, Timeout
from fairlead.engines import Wire
from fairlead.errors import TimedOut
from fairlead.message import Request, Response
from peers import PATIENCE, Line, Peer, answer, authority, moment

SHORT = 0.3
"""Seconds that a caller waits where nothing but its own timer ends the wait."""
AGAIN = b"again"

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Answered:
    status: int
    body: bytes
    fields: Fields
    trailers: Fields


@dataclass(frozen=True)
class Seen:
    """What a caller saw, of its call and of the next."""

    error: str = ""
    status: int = 0
    body: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    kept: bool = False
    """Whether the next call went over the same connection."""
    next: bytes | str = AGAIN
    """What the next call got, or its error."""
    told: str = ""
    """The words of the error."""
    seconds: float = 0.0

    def is_exactly(self, wanted: Outcome) -> bool:
        """Whether it is this outcome and no other."""
        return (
            self._is(wanted)
            and self.error == wanted.error
            and self.kept == wanted.kept
            and wanted.trailers in {None, self.trailers}
        )

    def agrees(self, case: Case) -> bool:
        """Whether the RFC allows it. An error by another name is an error; one that only the timer brought is none."""
        return any(self._is(one) and not (one.closes and self.kept) for one in case.allowed)

    def _is(self, wanted: Outcome) -> bool:
        if self.next != AGAIN:
            return False
        if wanted.error:
            return bool(self.error) and (self.error == LATE) == (wanted.error == LATE)
        names = {name for name, _ in self.fields}
        return (
            not self.error
            and (self.status, self.body) == (wanted.status, wanted.body)
            and set(wanted.fields) <= set(self.fields)
            and not names & set(wanted.absent)
        )

    def __str__(self) -> str:
        if self.error:
            words = {BROKEN: "refused", CUT: "disconnected", LATE: "timed out"}
            return words.get(self.error, f"`{self.error}`") + self._next
        body = f"`{shown(self.body)}`" if self.body else "no body"
        return f"{self.status}, {body}{self._next or (', kept' if self.kept else ', given up')}"

    @property
    def _next(self) -> str:
        if self.next == AGAIN:
            return ""
        got = f"`{shown(self.next)}`" if isinstance(self.next, bytes) else f"`{self.next}`"
        return f"; **the next call gets {got}**"


def shown(body: bytes) -> str:
    """A body as a table may show it."""
    if len(body) > 24:
        return f"{len(body)} bytes"
    return repr(body)[2:-1].replace("|", "\\|")


# Who asks


class Client(Protocol):
    async def ask(self, method: str, url: str, content: bytes, seconds: float) -> Answered: ...

    def named(self, error: Exception) -> str:
        """The corpus's word for an error."""
        ...

    async def close(self) -> None: ...


class Ours:
    """An engine of Fairlead's."""

    def __init__(self, name: engines.EngineName, *, stream: bool = False) -> None:
        self._engine = engines.create(name, Wire(verify=authority().client()))
        self._stream = stream

    async def ask(self, method: str, url: str, content: bytes, seconds: float) -> Answered:
        call = Call(
            Request(method, url, content=content),
            Timeout(total=seconds),
            asyncio.get_running_loop().time() + seconds,
            stream=self._stream,
        )
        response = await self._engine.send(call)
        body = await self.read(response)
        return Answered(response.status_code, body, _fields(response.headers.raw), _stripped(response.trailers.raw))

    async def read(self, response: Response) -> bytes:
        return await response.aread()

    def named(self, error: Exception) -> str:
        return LATE if isinstance(error, TimedOut) else type(error).__name__

    async def close(self) -> None:
        await self._engine.close()


class Httpx2:
    """httpx2 by itself."""

    def __init__(self) -> None:
        self._client = httpx2.AsyncClient(verify=authority().client(), trust_env=False, timeout=None)

    async def ask(self, method: str, url: str, content: bytes, seconds: float) -> Answered:
        async with asyncio.timeout(seconds):
            response = await self._client.request(method, url, content=content or None)
        return Answered(response.status_code, response.content, _fields(response.headers.raw), [])

    def named(self, error: Exception) -> str:
        return _named(error)

    async def close(self) -> None:
        await self._client.aclose()


class Aiohttp:
    """aiohttp by itself."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(ssl=authority().client())
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    async def ask(self, method: str, url: str, content: bytes, seconds: float) -> Answered:
        async with asyncio.timeout(seconds):
            async with self._session.request(method, url, data=content or None, allow_redirects=False) as response:
                body = await response.read()
        return Answered(response.status, body, _fields(response.raw_headers), [])

    def named(self, error: Exception) -> str:
        return _named(error)

    async def close(self) -> None:
        await self._session.close()


def _named(error: Exception) -> str:
    return LATE if isinstance(error, TimeoutError | httpx2.TimeoutException) else type(error).__name__


def _fields(pairs: Sequence[tuple[bytes, bytes]]) -> Fields:
    return [(name.lower(), value) for name, value in _stripped(pairs)]


def _stripped(pairs: Sequence[tuple[bytes, bytes]]) -> Fields:
    return [(name, value.strip(b" \t")) for name, value in pairs]


# What is said


Cut = Callable[[bytes], list[int]]
"""Where an answer is cut into segments."""


def whole(_: bytes) -> list[int]:
    return []


def byte_by_byte(says: bytes) -> list[int]:
    """Short ones only: of a long one the first and the last bytes, and what lies between in pieces."""
    size = len(says)
    if size <= 600:
        return list(range(1, size))
    return [*range(1, 200), *range(200, size - 100, max(1, size // 20)), *range(size - 100, size)]


def at(*places: float) -> Cut:
    """Cuts at parts of the whole."""
    return lambda says: [int(len(says) * place) for place in places]


class Server:
    """Plays a case to whoever asks for /case, and answers whatever else it is asked."""

    def __init__(self, case: Case, cut: Cut) -> None:
        self._case = case
        self._cut = cut
        self._tries = 0
        self._again: Line | None = None
        self._played: Line | None = None
        self.returned = asyncio.Event()
        """Set when the caller has its answer, or its error."""
        self.spoken = asyncio.Event()
        """Set when everything was said that is said after that."""

    @property
    def kept(self) -> bool:
        return self._played is not None and self._again is self._played

    async def talk(self, line: Line) -> None:
        while (asked := await line.head()) is not None:
            if asked.target == "/again" or (self._case.warm and self._tries):
                self._again = line
                await line.say(answer(AGAIN))
                continue
            self._tries += 1
            self._played = line
            try:
                await self._play(line)
            finally:
                self.spoken.set()
            if self._case.uploads:
                await line.gone()

    async def _play(self, line: Line) -> None:
        case = self._case
        edges = sorted({0, *(place for place in self._cut(case.says) if 0 < place < len(case.says)), len(case.says)})
        for start, end in pairwise(edges):
            await line.say(case.says[start:end])
            for _ in range(3):  # on loopback it is there at once: let it be read before the next comes
                await asyncio.sleep(0)
        while case.forever:
            await line.say(case.forever)
        while case.drip:
            await line.say(case.drip)
            await moment()
        await self._end(line, case.end)
        await self.returned.wait()
        if case.later:
            await line.say(case.later)
        await self._end(line, case.ends_later)

    async def _end(self, line: Line, end: End) -> None:
        if end is RST and self._case.tls:
            line.writer.transport.abort()
        elif end is RST:
            line.reset()
        elif end is FIN and self._case.uploads:
            line.writer.write_eof()  # what is never read would turn a close into a reset
        elif end is FIN:
            line.hang_up()


async def play(case: Case, client: Client, cut: Cut = whole, seconds: float | None = None) -> Seen:
    """One call that meets the case, and one more."""
    loop = asyncio.get_running_loop()
    if seconds is None:
        seconds = SHORT if case.stalls else PATIENCE
    server = Server(case, cut)
    async with Peer(server.talk, tls=authority().server("127.0.0.1") if case.tls else None) as peer:
        if case.warm:
            await client.ask("GET", f"{peer.url}/again", b"", PATIENCE)
        began = loop.time()
        try:
            told = await client.ask(case.method, f"{peer.url}/case", bytes(case.uploads), seconds)
            seen = Seen("", told.status, told.body, tuple(told.fields), tuple(told.trailers))
        except Exception as error:
            seen = Seen(client.named(error), told=str(error))
        seconds = loop.time() - began
        server.returned.set()
        if case.later or case.ends_later is not OPEN:
            async with asyncio.timeout(PATIENCE):
                await server.spoken.wait()
        await moment()  # what followed the answer is there by now, and may be seen or not
        try:
            again: bytes | str = (await client.ask("GET", f"{peer.url}/again", b"", PATIENCE)).body
        except Exception as error:
            again = client.named(error)
        return replace(seen, kept=server.kept, next=again, seconds=seconds)


async def play_all(
    cases: Sequence[Case], make: Callable[[], Client], cut: Cut = whole, seconds: float | None = None, most: int = 24
) -> dict[str, Seen]:
    """Every case to a client of that make, some at a time."""
    client, room = make(), asyncio.Semaphore(most)

    async def one(case: Case) -> tuple[str, Seen]:
        async with room:
            return f"{case.group}: {case.name}", await play(case, client, cut, seconds)

    try:
        return dict(await asyncio.gather(*map(one, cases)))
    finally:
        await client.close()
