"""When the call failed, answer with something else: another upstream, an older value, a default; the first of them that can.

Outside retry and circuit, so that it is the last thing tried; a stream is replaced only before its head was handed out. A
cancellation is no failure, and neither is a mistake in the configuration: that must be seen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable, iscoroutinefunction
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from fairlead.body import from_json
from fairlead.core import Call, Send, Upstream
from fairlead.errors import ConfigError, FairleadError, Knowledge
from fairlead.events import FellBack
from fairlead.headers import Pair
from fairlead.message import Request, Response

Outcome: TypeAlias = Response | FairleadError

JSON: tuple[Pair, ...] = ((b"Content-Type", b"application/json"),)


@runtime_checkable
class StandIn(Protocol):
    """Another upstream: its client, which sends the same request to where it would go there."""

    name: str

    def instead(self, call: Call, target: str, /) -> Awaitable[Response]: ...


def failed(outcome: Outcome) -> bool:
    """Any error of a call, and any 5xx."""
    if isinstance(outcome, Response):
        return outcome.status_code >= 500
    return not isinstance(outcome, ConfigError)


@dataclass(frozen=True, slots=True, init=False)
class Fallback:
    """Answer with the first of `answers` that can, when `on(outcome)`; `response.fallback` says which that was.

    An answer is another client, asked by its own policies and in the time that is left, for what is safe to send again; a function
    of the call and the cause, which returns or awaits a Response or a value, and bounds its own time; a Response; or a value (200, as
    JSON). The next one is tried where one raises a FairleadError, or a client's answer is a failure too. The last one decides.
    """

    answers: tuple[Any, ...]
    on: Callable[[Outcome], bool]
    name: str
    place: ClassVar[str] = "Fallback"

    def __init__(self, *answers: Any, on: Callable[[Outcome], bool] = failed, name: str = "default") -> None:
        if not answers:
            raise ConfigError("Fallback() has nothing to answer with: pass a client, a function, a Response or a value")
        if iscoroutinefunction(on) or not callable(on):
            raise ConfigError(f"Fallback: on={on!r} cannot be asked: pass a plain function of an outcome")
        for field, value in (("answers", answers), ("on", on), ("name", name)):
            object.__setattr__(self, field, value)

    @staticmethod
    def of(given: Any) -> Fallback | None:
        """What a `fallback=` means: a Fallback, one answer, or None for none."""
        return given if given is None or isinstance(given, Fallback) else Fallback(given)

    def explain(self) -> str:
        told = ", then ".join([_named(answer) for answer in self.answers])
        return f"fallback: {told}, in place of {'an error or a 5xx' if self.on is failed else 'what it is told to replace'}"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        on, usual = self.on, self.on is failed
        # What is given is encoded once, here, so that what JSON cannot say is found when the client is built.
        answers = tuple((_named(answer), _answerer(answer, upstream)) for answer in self.answers)
        here = tuple(one for one, answer in zip(answers, self.answers, strict=True) if not isinstance(answer, StandIn))

        def usable(request: Request, knowledge: Knowledge) -> tuple[tuple[str, Answerer], ...]:
            """What may answer: no other upstream, if this one may have done already what must not be done twice."""
            return answers if (request.idempotent or knowledge is Knowledge.NOT_SENT) and request.replayable else here

        def refused(response: Response) -> bool:
            try:
                return on(response)
            except BaseException:
                response.close()
                raise

        async def instead(
            call: Call, request: Request, left: tuple[tuple[str, Answerer], ...], cause: Outcome
        ) -> Response:
            for number, (told, answer) in enumerate(left, 1):
                last = number == len(left)
                call.request = request  # as it came: an attempt may have given it credentials
                try:
                    response = await answer(call, cause)
                except FairleadError as error:
                    if last or not on(error):
                        raise
                    continue
                if last or not refused(response):
                    upstream.emit(FellBack(upstream.name, call, request, cause, told))
                    response.fallback = told
                    break
                response.close()
            return response

        async def fall_back(call: Call) -> Response:
            request = call.request
            try:
                response = await send(call)
            except FairleadError as error:
                if not on(error) or not (left := usable(request, error.knowledge)):
                    raise
                return await instead(call, request, left, error)
            if (response.status_code < 500) if usual else not refused(response):
                return response
            if not (left := usable(request, Knowledge.UNKNOWN)):
                return response
            response.close()
            return await instead(call, request, left, response)

        return fall_back


Answerer: TypeAlias = Callable[[Call, Outcome], Awaitable[Response]]


def _answerer(answer: Any, upstream: Upstream) -> Answerer:
    if isinstance(answer, type):
        raise ConfigError(f"Fallback: {answer.__name__} is a class; pass what it makes")

    async def make(call: Call, cause: Outcome) -> Response:
        told = answer(call, cause)
        found = await told if isawaitable(told) else told
        return found if isinstance(found, Response) else _response(call, *_parts(found))

    if isinstance(answer, StandIn):
        client: StandIn = answer
        return lambda call, _: client.instead(call, upstream.relative(call.request.target))
    if callable(answer):
        return make
    parts = _parts(answer)

    async def give(call: Call, _: Outcome) -> Response:
        return _response(call, *parts)

    return give


def _named(answer: Any) -> str:
    if isinstance(answer, StandIn):
        return answer.name
    return str(getattr(answer, "__name__", type(answer).__name__)) if callable(answer) else "a given answer"


def _parts(answer: Any) -> tuple[int, tuple[Pair, ...], bytes]:
    if isinstance(answer, Response):
        return answer.status_code, tuple(answer.headers.raw), answer.content
    try:
        return 200, JSON, from_json(answer)
    except ConfigError:
        told = type(answer).__name__
        raise ConfigError(
            f"Fallback: an answer of {told} cannot be encoded as JSON: pass a Response, or plain values"
        ) from None


def _response(call: Call, status: int, pairs: tuple[Pair, ...], content: bytes) -> Response:
    return Response.received(status, list(pairs), content, call.request, 0.0)
