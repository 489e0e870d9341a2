"""What both type checkers must refuse: mypy errs where an ignore is not needed, pyright is asked for exactly these lines."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead import HTTPClient, get


@dataclass
class User:
    id: int


class Misspelt(HTTPClient, base_ulr="https://api.example"):  # type: ignore[call-arg]
    pass


class Mistyped(HTTPClient, timeout="soon"):  # type: ignore[arg-type]
    pass


class Users(HTTPClient, base_url="https://api.example"):
    @get("/users/{id}")
    async def user(self, id: int) -> User: ...  # noqa: A002

    @get("/users", tiemout=1.0)  # type: ignore[call-arg]
    async def slow(self) -> User: ...

    @get("/users")  # type: ignore[type-var]
    def sync(self) -> User: ...


async def calls(users: Users) -> None:
    await users.user("1")  # type: ignore[arg-type]
    await users.user()  # type: ignore[call-arg]
    await users.user(1, verbose=True)  # type: ignore[call-arg]
    number: int = await users.user(1)  # type: ignore[assignment]
    print((await users.user(number)).name)  # type: ignore[attr-defined]  # noqa: T201


async def verbs(users: Users) -> None:
    await users.get("/users", paramz={"page": 1})  # type: ignore[call-overload]
    await users.get("/users", json={"name": "Ada"})  # type: ignore[call-overload]
    await users.get("/users", timeout="soon")  # type: ignore[call-overload]
    await users.get("/users", cookies={"session": "1"})  # type: ignore[call-overload]
    user: User = await users.get("/users/1", into=list[User])  # type: ignore[arg-type]
    print((await users.get("/users/1", into=User)).name, user)  # type: ignore[attr-defined]  # noqa: T201


async def forgotten(users: Users) -> User:
    number: int = await users.get("/users/1/number")  # type: ignore[assignment]
    print(number)  # noqa: T201
    return await users.get("/users/1")  # type: ignore[return-value]


HTTPClient(base_url="https://api.example", retries=3)  # type: ignore[call-arg]
HTTPClient(max_connections="many")  # type: ignore[arg-type]
HTTPClient(follow_redirects="yes")  # type: ignore[arg-type]
