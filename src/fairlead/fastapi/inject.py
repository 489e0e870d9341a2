"""A route names the class of a client, and is given the one that is open: `weather: Use[Weather]`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from fastapi import Depends, params
from starlette.requests import HTTPConnection

from fairlead.errors import ConfigError
from fairlead.fastapi.live import Live

C = TypeVar("C")

if TYPE_CHECKING:
    Use = Annotated[C, None]
else:

    class Use:
        """`weather: Use[Weather]` injects the client that the lifespan opened; type checkers read it as `Weather`."""

        def __class_getitem__(cls, client: type) -> Any:
            if not isinstance(client, type):
                raise ConfigError(
                    f"Use[{client!r}]: pass one class; of several clients of it, Annotated[Weather, Named('eu')] is one"
                )
            return Annotated[client, Depends(provide(client))]


@dataclass(frozen=True, init=False)
class Named(params.Depends):
    """`weather: Annotated[Weather, Named("eu")]` injects, of several clients of a class, the one with that `name=`."""

    name: str = ""

    def __init__(self, name: str, *, dependency: Any = None, **rest: Any) -> None:
        if not isinstance(name, str):
            raise ConfigError(f"Named({name!r}): pass the name= of a client")
        # FastAPI makes a copy, whose dependency is the class that the parameter is annotated with; and copies of that one.
        if isinstance(dependency, type):
            dependency = provide(dependency, name)
        elif dependency is not None and not isinstance(dependency, Provider):
            raise ConfigError(
                f"Named({name!r}) of {dependency!r}: annotate with one class, as in Annotated[Weather, Named({name!r})]"
            )
        super().__init__(**rest, dependency=dependency)
        object.__setattr__(self, "name", name)


class Provider(Generic[C]):
    """The dependency behind `Use` and `Named`."""

    __slots__ = ("client", "name")

    def __init__(self, client: type[C], name: str | None) -> None:
        self.client = client
        self.name = name

    async def __call__(self, connection: HTTPConnection) -> C:
        found: C = Live.here(connection).find(self.client, self.name)
        return found

    def __repr__(self) -> str:
        called = "" if self.name is None else f", {self.name!r}"
        return f"provide({self.client.__qualname__}{called})"


def provide(client: type[C], name: str | None = None) -> Callable[[HTTPConnection], Awaitable[C]]:
    """The dependency behind `Use[client]` and `Named(name)`, always the same one.

    `app.dependency_overrides[provide(Weather)] = lambda: fake`: and where that is so when the application starts, none is made of a
    class that was passed to `lifespan`.
    """
    kind: Any = client
    provider: Provider[C] = _provider(kind, name)
    return provider


@cache
def _provider(client: type[Any], name: str | None) -> Provider[Any]:
    return Provider(client, name)
