"""When the call failed, answer with something else: a default, an older value, another service.

Outside retry and circuit, so that it is the last thing tried; a stream is replaced only before its head was handed out. A
cancellation is no failure, and neither is a mistake in the configuration: that must be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, ClassVar, TypeAlias

from fairlead.body import from_json
from fairlead.core import Call, Send, Upstream
from fairlead.errors import ConfigError, FairleadError
from fairlead.events import FellBack
from fairlead.headers import Pair
from fairlead.message import Response

Outcome: TypeAlias = Response | FairleadError

JSON: tuple[Pair, ...] = ((b"Content-Type", b"application/json"),)


def failed(outcome: Outcome) -> bool:
    """Any error of a call, and any 5xx."""
    if isinstance(outcome, Response):
        return outcome.status_code >= 500
    return not isinstance(outcome, ConfigError)


@dataclass(frozen=True, slots=True)
class Fallback:
    """Answer with `answer` when `on(outcome)`: a Response, a value (200, as JSON), or a function of the call and the cause.

    The function returns, or awaits, a Response or a value; what it raises is raised. It bounds its own time.
    """

    answer: Any
    on: Callable[[Outcome], bool] = field(default=failed, kw_only=True)
    name: str = field(default="default", kw_only=True)
    place: ClassVar[str] = "Fallback"

    @staticmethod
    def of(given: Any) -> Fallback | None:
        """What a `fallback=` means: a Fallback, a list of answers to try in turn, one answer, or None for none."""
        if given is None or isinstance(given, Fallback):
            return given
        return Fallback(given)

    def explain(self) -> str:
        told = "a function" if callable(self.answer) else "a given answer"
        return (
            f"fallback: {told} in place of {'an error or a 5xx' if self.on is failed else 'what it is told to replace'}"
        )

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        answer, on, usual = self.answer, self.on, self.on is failed
        # What is given is encoded once, here, so that what JSON cannot say is found when the client is built.
        given = None if callable(answer) else _parts(answer)

        async def fall_back(call: Call) -> Response:
            cause: Outcome
            request = call.request
            try:
                response = await send(call)
            except FairleadError as error:
                if not on(error):
                    raise
                cause = error
            else:
                if (response.status_code < 500) if usual else not on(response):
                    return response
                response.close()
                cause = response
            call.request = request  # as it came: an attempt may have given it credentials
            upstream.emit(FellBack(upstream.name, call, call.request, cause))
            if given is not None:
                parts = given
            else:
                told = answer(call, cause)
                found = await told if isawaitable(told) else told
                if isinstance(found, Response):
                    return found
                parts = _parts(found)
            status, pairs, content = parts
            return Response.received(status, list(pairs), content, call.request, 0.0)

        return fall_back


def _parts(answer: Any) -> tuple[int, tuple[Pair, ...], bytes]:
    if isinstance(answer, Response):
        return answer.status_code, tuple(answer.headers.raw), answer.content
    return 200, JSON, from_json(answer)
