"""The error of a call becomes the answer of the route that made it: a problem document, or the end of a WebSocket."""

from __future__ import annotations

import logging
import re
import uuid
from typing import Final

from fastapi import WebSocket
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocketState

from fairlead.errors import ConfigError, FairleadError
from fairlead.problem import MEDIA_TYPE, problem

_SANE: Final = re.compile(r"[\w.~:/+=@-]{1,128}", re.ASCII).fullmatch
_log: Final = logging.getLogger("fairlead")


async def answer(connection: HTTPConnection, error: FairleadError) -> Response | None:
    """The exception handler. A ConfigError is a mistake of ours, and goes on as it is."""
    if isinstance(error, ConfigError):
        raise error
    given = connection.headers.get("x-request-id", "")
    request_id = given if _SANE(given) else uuid.uuid4().hex
    status, fields, document = problem(error, request_id)
    _log.info("answered %d: %s", status, error.message, extra=document)
    if isinstance(connection, WebSocket):
        denied = "websocket.http.response" in connection.scope.get("extensions", {})
        if connection.application_state is not WebSocketState.CONNECTING or not denied:
            if WebSocketState.DISCONNECTED not in {connection.application_state, connection.client_state}:
                await connection.close(1013 if status == 503 else 1011, document["title"])
            return None
    return JSONResponse(document, status, fields, MEDIA_TYPE)
