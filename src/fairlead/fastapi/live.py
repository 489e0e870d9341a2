"""The clients that an application has open, found by their class and name: `app.state.fairlead`, and in each request's state.

A list, in the order in which they were opened. What was found once is remembered until another opens or closes.
"""

from __future__ import annotations

import re
from asyncio import Task
from collections.abc import Container, Iterable
from typing import Any, Final, SupportsIndex

from starlette.requests import HTTPConnection

from fairlead.errors import ConfigError

KEY: Final = "fairlead"
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|\W+")


class Live(list[Any]):
    """The open clients of one application, and what is known of them together."""

    def __init__(self) -> None:
        super().__init__()
        self.draining = False
        """Whether the application stops: it is not ready any more. Set it by hand where that is known earlier."""
        self.installed = False
        """Whether it has been said what the application has of us beside its clients."""
        self.watched = False
        """Whether somebody may ask for health, so that it is worth to note how attempts went."""
        self.required: list[Any] = []
        """Those without which the application is not ready."""
        self.checks: dict[int, tuple[Task[bool], float]] = {}
        """Of a client by its identity: the health check that is under way or was last, and until when it counts."""
        self._found: dict[tuple[type, str | None], Any] = {}

    @staticmethod
    def of(app: Any) -> Live:
        """That of an application, which is made with the first question."""
        known = getattr(app.state, KEY, None)
        if known is None:
            known = Live()
            setattr(app.state, KEY, known)
        live: Live = known
        return live

    @staticmethod
    def here(connection: HTTPConnection) -> Live:
        """That of a request. The state of a lifespan reaches mounted applications too, the application's own needs no server."""
        live: Live | None = (connection.scope.get("state") or {}).get(KEY)
        return Live.of(connection.app) if live is None else live

    def append(self, client: Any, /) -> None:
        self._found.clear()
        super().append(client)

    def pop(self, place: SupportsIndex = -1, /) -> Any:
        self._found.clear()
        client = super().pop(place)
        self.checks.pop(id(client), None)
        return client

    def close(self, client: Any) -> None:
        """Forget this very one, which others may be equal to."""
        self.pop(next(place for place, one in enumerate(self) if one is client))

    def find(self, client: type, name: str | None) -> Any:
        """The one of this class, or else of one derived from it, that is called so. Raises ConfigError for none, or several."""
        try:
            return self._found[client, name]
        except KeyError:
            pass
        live = [one for one in self if name is None or getattr(one, "name", None) == name]
        # An instance may have been passed twice.
        found = {id(one): one for one in live if type(one) is client}
        found = found or {id(one): one for one in live if isinstance(one, client)}
        kind = client.__name__
        if len(found) > 1:
            names = dict.fromkeys(str(getattr(one, "name", kind)) for one in found.values())
            called = "" if name is None else f" and called {name!r}"
            mend = (
                f"use Annotated[{kind}, Named({next(iter(names))!r})]"
                if name is None and len(names) == len(found)
                else "give each a name= of its own"
            )
            raise ConfigError(f"{len(found)} clients are a {kind}{called}: {mend}, or make a subclass for each")
        if not found:
            if name is None:
                raise ConfigError(
                    f"{kind} is not open: add it to FastAPI(lifespan=lifespan({kind})), of the outermost application; "
                    "in a test, `with TestClient(app)` starts that"
                )
            names = dict.fromkeys(str(getattr(one, "name", kind)) for one in self if isinstance(one, client))
            others = ", ".join(repr(one) for one in names) or "none"
            raise ConfigError(
                f"no {kind} that is called {name!r} is open, but {others}: add {kind}(..., name={name!r}) to lifespan()"
            )
        self._found[client, name] = one = next(iter(found.values()))
        return one

    def picked(self, told: Iterable[type | str], argument: str, absent: Container[type | str] = ()) -> list[Any]:
        """Those that classes and names stand for. Raises ConfigError for one that stands for none, and is not `absent` for a reason."""
        picked: dict[int, Any] = {}
        for place, one in enumerate(told):
            meant = (
                [client for client in self if isinstance(client, one)]
                if isinstance(one, type)
                else [client for client in self if getattr(client, "name", None) == one]
            )
            if not meant and one not in absent:
                raise ConfigError(
                    f"lifespan(): {argument}[{place}] is {one!r}: pass the class or the name of a client that it opens"
                )
            picked |= {id(client): client for client in meant}
        return list(picked.values())

    def names(self) -> dict[str, Any]:
        """Each under its name as an identifier, `Weather` as `weather`; two that have the same are not there."""
        named: dict[str, Any] = {}
        twice = set()
        for client in {id(one): one for one in self}.values():
            name = _WORDS.sub("_", str(getattr(client, "name", type(client).__name__))).lower()
            if name in named:
                twice.add(name)
            named[name] = client
        return {name: client for name, client in named.items() if name not in twice}
