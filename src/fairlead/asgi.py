"""The caller of a request is the caller of the calls made for it: its deadline bounds them, and when it leaves, they are given up.

Plain ASGI, around any application. What a request costs that calls nobody is a context variable and a header looked for.
"""

from __future__ import annotations

from asyncio import current_task, get_running_loop
from math import inf
from typing import Any, Final

from fairlead import caller
from fairlead.errors import ConfigError
from fairlead.inbound import App, Inbound, Receive, Scope, Send
from fairlead.looks import Looks
from fairlead.policies.deadline import HEADER, DeadlineHeader

_KINDS: Final = frozenset({"http", "websocket"})
_KEY: Final = "fairlead.caller"


class Caller:
    """Middleware for HTTP and, as far as deadlines go, for WebSockets. Around another of its kind, the outer one counts.

    `deadline_header` is what the caller may say how long it waits in (None: it is not asked), read as `DeadlineHeader` reads it; of
    several fields the shortest counts. `max_deadline` bounds every request, in seconds, whatever it says. A request that has made
    outbound calls is cancelled when its caller leaves, in the midst of such a call or as the next begins, unless
    `cancel_on_disconnect=False`.
    """

    def __init__(
        self,
        app: App,
        *,
        deadline_header: str | None = HEADER,
        max_deadline: float | None = None,
        cancel_on_disconnect: bool = True,
    ) -> None:
        longest: Any = max_deadline
        if longest is not None and (type(longest) not in {int, float} or not 0 < longest < inf):
            raise ConfigError(f"Caller: max_deadline={max_deadline!r} is not a number of seconds above 0")
        self.app = app
        self._name = b""
        if deadline_header is not None:
            self._read = DeadlineHeader(deadline_header).read
            self._name = deadline_header.lower().encode()
        self._longest = inf if longest is None else longest
        self._watches = cancel_on_disconnect
        self._looks = Looks()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in _KINDS or _KEY in scope:
            await self.app(scope, receive, send)
            return
        seconds, name = self._longest, self._name
        for field, value in scope["headers"]:
            if field == name and (said := self._read(value)) is not None and said < seconds:
                seconds = said
        due = inf if seconds == inf else get_running_loop().time() + seconds
        scope[_KEY] = True
        # What may be there already is that of a request before it on its connection, and no concern of this one.
        if kind == "http" and (task := current_task()) is not None:
            await Inbound(due, task, receive, send, self._looks, self._watches).run(self.app, scope)
            return
        token = caller.ask(caller.Asked(due))
        try:
            await self.app(scope, receive, send)
        finally:
            caller.end(token)
