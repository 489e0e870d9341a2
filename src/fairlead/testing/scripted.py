"""An engine that answers from a list, so that a test tells a story: `script(503, 0.2, ConnectFailed, (200, {"id": 1}))`.

It keeps the call's time as a real engine does, streams where a stream is asked for, and says what it was asked. With virtual
time nothing waits.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from math import inf
from typing import Any, Final, TypeAlias, cast

from fairlead.core import Call
from fairlead.engines.timing import Bound, ends, expired, streams
from fairlead.errors import ConfigError, DecodeError, FairleadError, Knowledge, Phase, StatusError
from fairlead.message import Arriving, Request, Response

_KINDS: Final = (
    "a status, a Response, (status, body), (status, body, headers), an error, a function of the request, or seconds"
)


class Pieces:
    """A body that arrives piece by piece: bytes, seconds of silence between them, and, at its end, an error."""

    def __init__(self, *pieces: bytes | float | BaseException | type[BaseException]) -> None:
        self.pieces = pieces


Answer: TypeAlias = (
    int | float | Response | tuple[Any, ...] | BaseException | type[BaseException] | Callable[[Request], Any]
)
"""A status; a Response; `(status, body)` or `(status, body, headers)`, the body bytes, text, `Pieces` or anything JSON can say;
an error or its class; a function of the request that returns, or awaits, any of these. A float waits that many seconds before
the answer after it; `math.inf` is silence."""


class Script:
    """What `script` returns. `calls`, `requests` and `bodies` are what it was asked, in order."""

    def __init__(self, answers: tuple[Answer, ...], then: Answer | None) -> None:
        for place, answer in enumerate(answers):
            _check(answer, f"script(): answer {place + 1}")
        if then is not None:
            _check(then, "script(): then=")
        self.answers = list(answers)
        self.then = then
        self.calls: list[Call] = []
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self.open = 0
        """Calls being answered, and streams that are not closed: 0 when nothing leaks."""
        self.closed = False

    async def send(self, call: Call, /) -> Response:
        self.calls.append(call)
        self.requests.append(call.request)
        timer = _Timer(call)
        self.open += 1
        try:
            if timer.began >= call.deadline:
                raise expired(call, started=timer.began, phase="connecting")
            answer = self._next(call)
            while isinstance(answer, float):
                await timer.wait(answer, "head")
                answer = self._next(call)
            while callable(answer) and not isinstance(answer, type):
                answer = answer(call.request)
                if inspect.isawaitable(answer):
                    answer = await answer
                _check(answer, "script(): what the function returned")
            response = await self._respond(answer, call, timer)
        finally:
            self.open -= 1
        if not response.is_closed:
            self.open += 1
            response.when_closed(self._leave)
        return response

    async def close(self) -> None:
        self.closed = True

    def _next(self, call: Call) -> Answer:
        if self.answers:
            return self.answers.pop(0)
        if self.then is not None:
            return self.then
        request = call.request
        raise AssertionError(
            f"the script ended: asked for call {len(self.calls)} ({request.method} {request.place}); add an answer, or then="
        )

    async def _respond(self, answer: Any, call: Call, timer: _Timer) -> Response:
        request = call.request
        if isinstance(answer, type | BaseException):
            error = _error(answer, request)
            if getattr(error, "knowledge", None) is not Knowledge.NOT_SENT:
                await self._read_upload(request)
            raise error
        await self._read_upload(request)
        status, body, headers = _parts(answer)
        if isinstance(body, Pieces):
            pairs, pieces = Response(status, headers).headers.raw, body.pieces
        else:
            whole = answer if isinstance(answer, Response) else _whole(status, body, headers)
            pairs, pieces = whole.headers.raw, (whole.content,)
        arriving = _Arriving(pieces, request, timer)
        if call.stream:
            return Arriving(status, list(pairs), arriving, None, request, timer.elapsed())
        content = b"".join([chunk async for chunk in arriving])
        return Response.received(status, list(pairs), content, request, timer.elapsed())

    async def _read_upload(self, request: Request) -> None:
        content = request.content
        self.bodies.append(content if isinstance(content, bytes) else b"".join([chunk async for chunk in content]))

    def _leave(self) -> None:
        self.open -= 1

    def __repr__(self) -> str:
        return f"<script: {len(self.calls)} calls, {len(self.answers)} answers left>"


def script(*answers: Answer, then: Answer | None = None) -> Script:
    """An engine that gives these answers in order, and `then`, if given, ever after; with none left, AssertionError."""
    return Script(answers, then)


class _Timer:
    """The one timer of an attempt, by the rule of every engine; in a stream's body each silence has the time anew."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.began = asyncio.get_running_loop().time()

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self.began

    async def wait(self, seconds: float, phase: Phase) -> None:
        loop = asyncio.get_running_loop()
        anew = self.call.stream and phase == "body"
        if anew:
            streams(self.call)
        started = loop.time() if anew else self.began
        bound: Bound | None = None
        left = ends(self.call, started) - loop.time()
        if anew and (read := self.call.timeout.read) is not None and read < left:
            left, bound = read, "read"
        if seconds < left:
            await asyncio.sleep(seconds)
            return
        if left == inf:
            await loop.create_future()
        await asyncio.sleep(max(0.0, left))
        raise expired(self.call, started=started, phase=phase, bound=bound)


class _Arriving:
    """A response body as an engine hands it over."""

    def __init__(self, pieces: tuple[Any, ...], request: Request, timer: _Timer) -> None:
        self._pieces = list(pieces)
        self._request = request
        self._timer = timer

    async def read(self) -> bytes:
        while self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, type | BaseException):
                error = _error(piece, self._request)
                if isinstance(error, FairleadError) and error.phase is None:
                    error.phase = "body"
                raise error
            if isinstance(piece, bytes):
                if piece:
                    return piece
            else:
                await self._timer.wait(piece, "body")
        return b""

    def close(self) -> None:
        self._pieces.clear()

    def __aiter__(self) -> _Arriving:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self.read():
            return chunk
        raise StopAsyncIteration


def _check(answer: object, place: str) -> None:
    if isinstance(answer, type):
        if not issubclass(answer, BaseException):
            raise ConfigError(f"{place} is the class {answer.__name__}: give {_KINDS}")
        if issubclass(answer, StatusError | DecodeError):
            raise ConfigError(f"{place} is {answer.__name__}, which no engine raises: give the status, or the body")
        return
    status = answer[0] if isinstance(answer, tuple) and 2 <= len(answer) <= 3 else answer
    if isinstance(status, int):
        if isinstance(status, bool) or not 200 <= status <= 999:
            raise ConfigError(
                f"{place} is {status!r}: a status is a number from 200 to 999; seconds are written as a float"
            )
    elif not (isinstance(answer, float | Response | BaseException) or callable(answer)):
        raise ConfigError(f"{place} is {answer!r}: give {_KINDS}")
    elif isinstance(answer, float) and not answer >= 0:
        raise ConfigError(f"{place} is {answer!r}: seconds cannot be less than 0")


def _error(answer: Any, request: Request) -> BaseException:
    if isinstance(answer, type):
        return answer(request=request) if issubclass(answer, FairleadError) else cast(BaseException, answer())
    if isinstance(answer, FairleadError) and answer.request is None:
        answer.request = request
    assert isinstance(answer, BaseException)
    return answer


def _parts(answer: Any) -> tuple[int, Any, Any]:
    if isinstance(answer, Response):
        return answer.status_code, None, None
    if isinstance(answer, tuple):
        status, body, headers = (*answer, None)[:3]
        return status, body, headers
    return answer, None, None


def _whole(status: int, body: Any, headers: Any) -> Response:
    if body is None or isinstance(body, bytes | str):
        return Response(status, headers, body)
    return Response(status, headers, json=body)
