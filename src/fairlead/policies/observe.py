"""Tell the sinks when a call begins and how it ended: once each, whatever happens.

Outermost, so that one call is one span and one log line, however many attempts it took. A streamed call ends with its body.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from logging import getLogger
from time import perf_counter
from typing import ClassVar, Final

from fairlead import errors
from fairlead.core import Call, Send, Upstream
from fairlead.events import Finished, Refused, Started
from fairlead.message import Request, Response

_logger: Final = getLogger("fairlead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """Started, Refused and Finished for every call, to the sinks of the upstream; without sinks it costs nothing."""

    name: str = "default"
    place: ClassVar[str] = "Observe"

    def explain(self) -> str:
        return "observe: one start and one end of every call, told to the sinks"

    def bind(self, send: Send, upstream: Upstream, /) -> Send:
        if not upstream.sinks:
            return send
        name, emit, listens = upstream.name, upstream.emit, upstream.listening()

        def finish(call: Call, request: Request, began: float, response: Response) -> None:
            emit(Finished(name, call, request, call.attempt, perf_counter() - began, response, response.error))

        async def observe(call: Call) -> Response:
            request = call.request
            try:
                heard = listens()
            except Exception:
                _logger.exception("%s: a sink failed to say whether it listens", name)
                heard = True
            if not heard:
                try:
                    return await send(call)
                except errors.Refused as error:
                    emit(Refused(name, call, request, error))
                    raise
            began = perf_counter()
            emit(Started(name, call, request))
            try:
                response = await send(call)
            except BaseException as error:
                if isinstance(error, errors.Refused):
                    emit(Refused(name, call, request, error))
                emit(Finished(name, call, request, call.attempt, perf_counter() - began, None, error))
                raise
            if response.is_closed:
                finish(call, request, began, response)
            else:
                response.when_closed(partial(finish, call, request, began, response))
            return response

        return observe
