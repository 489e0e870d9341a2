"""A caller that waits to be asked for its body (`Expect: 100-continue`) is asked by the first `receive`, and so by nobody before.

Until then its leaving is not heard, as to listen is to ask. An answer that comes before ends the connection: nobody can tell
whether what comes next on it is the body, or another request (RFC 9110 section 10.1.1).
"""

from __future__ import annotations

from collections.abc import Awaitable

from fairlead.inbound import App, Message, Receive, Scope, Send
from fairlead.proxy.relay import Listening
from fairlead.proxy.status import CLOSE


def expecting(app: App, listening: Listening) -> App:
    """The application that is run by `listening`, for such a caller."""

    async def expect(scope: Scope, receive: Receive, send: Send) -> None:
        unasked = True

        def ask() -> Awaitable[Message]:
            nonlocal unasked
            unasked = listening.held = False
            return receive()

        def say(message: Message) -> Awaitable[None]:
            if unasked and message["type"] == "http.response.start" and scope.get("http_version", "1.1")[:1] == "1":
                message = {**message, "headers": [*message["headers"], CLOSE]}
            return send(message)

        await app(scope, ask, say)

    listening.held = True
    return expect
