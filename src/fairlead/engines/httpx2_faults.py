"""What went wrong in httpx2's core, told as every engine tells it."""

from __future__ import annotations

import ssl
from typing import Final

import httpcore2

from fairlead.engines.attempt import Attempt
from fairlead.engines.httpx2_sockets import Unanswered
from fairlead.engines.native.dial import failed
from fairlead.engines.proxy import Proxy
from fairlead.errors import ConnectFailed, Disconnected, Knowledge

REFUSED_STREAM: Final = 7
"""An HTTP/2 error code: the peer did nothing (RFC 9113 section 8.7)."""


def told(attempt: Attempt, error: BaseException, proxy: Proxy | None, uds: str | None) -> BaseException:
    """The same fault in our own words; what is not the core's is left as it is."""
    request = attempt.call.request
    origin = request.origin
    if isinstance(error, httpcore2.ConnectError):
        cause = error.__cause__ or error.__context__ or error  # the pool raises it `from None`
        unmade = failed(attempt.call, origin if isinstance(cause, ssl.SSLError) else proxy or uds or origin, cause)
        unmade.__cause__ = cause
        return unmade
    if isinstance(error, httpcore2.ProxyError):
        what, status = f"the proxy {proxy} did not connect", str(error)[:3]
        if proxy is not None and status.isdecimal():  # a SOCKS proxy has none
            what = proxy.refusal(origin, int(status))
        return ConnectFailed(what, request=request, phase="connecting")
    if isinstance(error, httpcore2.ReadTimeout):
        return attempt.expired("read")
    if isinstance(error, Unanswered):
        knowledge = Knowledge.UNKNOWN if error.sent else Knowledge.NOT_SENT
        return Disconnected(request=request, phase=attempt.phase, knowledge=knowledge)
    if isinstance(error, httpcore2.NetworkError):
        return Disconnected(request=request, phase=attempt.phase)
    if isinstance(error, httpcore2.RemoteProtocolError):
        what = error.args[0] if error.args else ""
        if str(what).startswith(("Server disconnected", "peer closed")):
            return Disconnected(request=request, phase=attempt.phase)
        code = getattr(what, "error_code", None)
        if code is not None:  # HTTP/2: the stream was reset, or its connection ended
            knowledge = Knowledge.REJECTED if code == REFUSED_STREAM else Knowledge.UNKNOWN
            return Disconnected(request=request, phase=attempt.phase, knowledge=knowledge)
    if isinstance(error, httpcore2.ProtocolError) or type(error).__module__.partition(".")[0] in {"h2", "hpack"}:
        return attempt.not_http("its framing is broken")
    return error
