"""Declared calls: what is refused when the class is made, when a client is built, and what a call sends and answers."""
# ruff: noqa: A002  a path says {id}, so its parameter does too

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypedDict, TypeVar
from unittest.mock import patch as patched

import msgspec
import pydantic
import pytest

from fairlead import (
    Bearer,
    ConfigError,
    HTTPClient,
    Response,
    Retry,
    StatusError,
    Timeout,
    delete,
    get,
    head,
    options,
    patch,
    post,
    put,
)
from fairlead.testing import Script, script, virtual_time

BASE = "https://api.example"


@dataclass
class User:
    id: int
    name: str = ""


class Order(msgspec.Struct):
    id: int


class Invoice(pydantic.BaseModel):
    id: int


class Filter(TypedDict):
    sku: str


class Shop(HTTPClient, base_url=BASE):
    @get("/users/{id}")
    async def user(self, id: int) -> User: ...

    @get("/users")
    async def users(
        self, page: int = 1, *, tags: list[str] | None = None, active: bool | None = None
    ) -> list[User]: ...

    @get("/users/{user}/orders/{order}")
    async def order(self, user: str, order: str, /, detail: str = "short") -> Order: ...

    @get("/search?kind=book&page%5Bsize]={size}&from={start}")
    async def search(self, text: str, size: int = 10, start: str | None = None) -> Any: ...

    @get("/100%25/{name}.json")
    async def odd(self, name: str) -> Response: ...

    @post("/users")
    async def add(self, user: User, notify: bool = False) -> User: ...

    @put("/users/{id}")
    async def replace(self, id: int, body: dict[str, int]) -> None: ...

    @patch("/users/{id}")
    async def change(self, id: int, body: Any = None) -> bytes: ...

    @post("/blobs")
    async def blob(self, body: bytes) -> str: ...

    @post("/orders")
    async def orders(self, orders: list[Order]) -> Invoice: ...

    @post("/find")
    async def find(self, where: Filter | None = None) -> Filter: ...

    @delete("/users/{id}")
    async def drop(self, id: int) -> None: ...

    @head("/users/{id}")
    async def known(self, id: int) -> Response: ...

    @options("/users")
    async def allowed(self) -> Response: ...

    @get("/later")
    async def later(self) -> Later: ...


@dataclass
class Later:
    """Named by a call above it."""

    id: int


C = TypeVar("C", bound=HTTPClient)


class Open(Protocol):
    """Builds a client over a script of answers; the test's end closes it."""

    def __call__(self, cls: type[C], *answers: Any, then: Any = None, **options: Any) -> tuple[C, Script]: ...


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    clients: list[HTTPClient] = []

    def build(cls: type[C], *answers: Any, then: Any = None, **options: Any) -> tuple[C, Script]:
        engine = script(*answers, then=then)
        client = cls(engine=engine, **options)
        clients.append(client)
        return client, engine

    yield build
    for client in clients:
        await client.close()


# The path and the query


async def test_a_placeholder_takes_the_parameter_of_its_name(opened: Open) -> None:
    client, engine = opened(Shop, (200, {"id": 7, "name": "Ada"}))
    assert await client.user(7) == User(7, "Ada")
    assert engine.requests[0].method == "GET"
    assert engine.requests[0].url == f"{BASE}/users/7"


@pytest.mark.parametrize(
    ("value", "sent"),
    [("a/b", "a%2Fb"), ("a b", "a%20b"), ("x?y#z", "x%3Fy%23z"), ("%2e", "%252e"), ("é", "%C3%A9"), ("..a", "..a")],
)
async def test_a_value_stays_in_its_segment(value: str, sent: str, opened: Open) -> None:
    client, engine = opened(Shop, (200, {"id": 1}))
    await client.order(value, "1")
    assert engine.requests[0].target == f"/users/{sent}/orders/1?detail=short"


@pytest.mark.parametrize("value", ["", ".", "..", "...", None])
async def test_a_value_that_would_be_another_path_is_refused(value: Any, opened: Open) -> None:
    client, engine = opened(Shop)
    with pytest.raises(ConfigError):
        await client.order("ada", value)
    assert engine.requests == []


async def test_every_other_parameter_is_in_the_query_and_none_is_left_out(opened: Open) -> None:
    client, engine = opened(Shop, (200, []), (200, []))
    await client.users()
    await client.users(2, tags=["a", "b&c"], active=True)
    assert [request.target for request in engine.requests] == [
        "/users?page=1",
        "/users?page=2&tags=a&tags=b%26c&active=true",
    ]


async def test_a_placeholder_in_the_query_gives_its_parameter_another_name(opened: Open) -> None:
    client, engine = opened(Shop, (200, {}), (200, {}))
    await client.search("x", start="now")
    await client.search(text="x", size=1)
    assert [request.target for request in engine.requests] == [
        "/search?kind=book&text=x&page%5Bsize%5D=10&from=now",
        "/search?kind=book&text=x&page%5Bsize%5D=1",
    ]


async def test_what_is_escaped_in_the_template_stays_as_it_is(opened: Open) -> None:
    client, engine = opened(Shop, 200)
    await client.odd("50%")
    assert engine.requests[0].target == "/100%25/50%25.json"


# The body


async def test_a_model_is_the_json_body_whatever_its_name(opened: Open) -> None:
    client, engine = opened(Shop, (201, {"id": 1, "name": "Ada"}))
    assert await client.add(User(1, "Ada"), notify=True) == User(1, "Ada")
    assert engine.requests[0].target == "/users?notify=true"
    assert engine.requests[0].headers["content-type"] == "application/json"
    assert engine.bodies == [b'{"id":1,"name":"Ada"}']


async def test_a_list_of_models_and_an_optional_one_are_bodies_too(opened: Open) -> None:
    client, engine = opened(Shop, (200, {"id": 3}), (200, {"sku": "a"}), (200, {"sku": "b"}))
    assert await client.orders([Order(1), Order(2)]) == Invoice(id=3)
    assert await client.find({"sku": "a"}) == {"sku": "a"}
    assert await client.find() == {"sku": "b"}
    assert engine.bodies == [b'[{"id":1},{"id":2}]', b'{"sku":"a"}', b""]
    assert engine.requests[2].target == "/find"


async def test_the_parameter_called_body_is_json_whatever_its_type(opened: Open) -> None:
    client, engine = opened(Shop, 204, (200, b"raw"))
    await client.replace(1, {"age": 36})
    assert await client.change(1, body=[1, 2]) == b"raw"
    assert engine.bodies == [b'{"age":36}', b"[1,2]"]
    assert [request.method for request in engine.requests] == ["PUT", "PATCH"]


async def test_bytes_are_sent_as_they_are(opened: Open) -> None:
    client, engine = opened(Shop, (200, "kept"))
    assert await client.blob(b"\x00\x01") == "kept"
    assert engine.bodies == [b"\x00\x01"]
    assert "content-type" not in engine.requests[0].headers


# The answer


async def test_the_return_annotation_says_what_comes_back(opened: Open) -> None:
    client, _ = opened(Shop, (200, {"a": [1]}), (200, b"{}"), 204, 200, 200, (200, {"id": 1}))
    assert await client.search("x") == {"a": [1]}
    assert isinstance(await client.odd("x"), Response)
    nothing: object = await client.drop(1)  # type: ignore[func-returns-value]
    assert nothing is None
    assert (await client.known(1)).status_code == 200
    assert (await client.allowed()).is_success
    assert await client.later() == Later(1)


async def test_a_status_raises_unless_the_call_says_otherwise(opened: Open) -> None:
    class Lenient(HTTPClient, base_url=BASE):
        @get("/strict")
        async def strict(self) -> Response: ...

        @get("/lenient", raise_for_status=False)
        async def lenient(self) -> Response: ...

    client, _ = opened(Lenient, 404, 404)
    with pytest.raises(StatusError):
        await client.strict()
    assert (await client.lenient()).status_code == 404


# Arguments


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.user(),
        lambda client: client.user(1, 2),
        lambda client: client.user(1, nam="Ada"),
        lambda client: client.users(1, ["a"]),
        lambda client: client.order(user="ada", order="1"),
    ],
)
async def test_wrong_arguments_are_pythons_own_type_error(
    call: Callable[[Shop], Awaitable[object]], opened: Open
) -> None:
    client, engine = opened(Shop)
    with pytest.raises(TypeError, match=r"Shop\.(user|users|order)\(\)"):
        await call(client)
    assert engine.requests == []


async def test_parameters_may_have_any_name(opened: Open) -> None:
    class Names(HTTPClient, base_url=BASE):
        @get("/{segment}/{method}")
        async def names(
            self, segment: str, method: str, client: str, path: str, given: str, into: str, x: str = "d"
        ) -> None: ...

    client, engine = opened(Names, 204)
    await client.names("a", "b", client="c", path="p", given="g", into="i")
    assert engine.requests[0].target == "/a/b?client=c&path=p&given=g&into=i&x=d"


async def test_the_call_looks_like_the_method_that_was_written(opened: Open) -> None:
    client, _ = opened(Shop)
    assert inspect.iscoroutinefunction(client.users)
    assert str(inspect.signature(client.user)) == "(id: 'int') -> 'User'"
    assert client.user.__name__ == "user"


# What a call says of its own


async def test_options_of_a_call_reach_its_request(opened: Open) -> None:
    class Own(HTTPClient, base_url=BASE, timeout=30.0):
        auth = Bearer("secret")

        @post("/token", auth=None, timeout=3.0, headers={"Accept": "text/plain"}, idempotent=True)
        async def token(self) -> str: ...

        @get("/plain")
        async def plain(self) -> str: ...

        @get("/bounded", timeout=Timeout(total=5.0, attempt=1.0))
        async def bounded(self) -> str: ...

    client, engine = opened(Own, 200, 200, 200)
    await client.token()
    await client.plain()
    await client.bounded()
    token, plain, bounded = engine.calls
    assert token.timeout.total == 3.0
    assert token.request.headers["accept"] == "text/plain"
    assert "idempotency-key" in token.request.headers
    assert "authorization" not in token.request.headers
    assert plain.timeout.total == 30.0
    assert plain.request.headers["authorization"] == "Bearer secret"
    assert "idempotency-key" not in plain.request.headers
    assert bounded.timeout == Timeout(total=5.0, attempt=1.0)


@virtual_time
async def test_a_call_has_the_retries_it_declares() -> None:
    class Retrying(HTTPClient, base_url=BASE, max_retries=1, retry_delay=0.0):
        @get("/once", retry=None)
        async def once(self) -> str: ...

        @get("/twice")
        async def twice(self) -> str: ...

        @get("/often", retry=Retry(retries=3, delay=0.0))
        async def often(self) -> str: ...

    engine = script(then=429)
    attempts = []
    async with Retrying(engine=engine) as client:
        for call in (client.once, client.twice, client.often):
            before = len(engine.calls)
            with pytest.raises(StatusError):
                await call()
            attempts.append(len(engine.calls) - before)
    assert attempts == [1, 2, 4]


# Classes and instances


async def test_an_override_calls_what_it_overrides(opened: Open) -> None:
    class Louder(Shop):
        async def user(self, id: int) -> User:
            return User(id, (await super().user(id)).name.upper())

    client, _ = opened(Louder, (200, {"id": 1, "name": "ada"}))
    assert await client.user(1) == User(1, "ADA")


async def test_a_call_can_be_patched_on_an_instance_and_by_its_verb(opened: Open) -> None:
    client, engine = opened(Shop, (200, {"id": 1}))
    with patched.object(client, "user") as mocked:
        mocked.return_value = User(2)
        assert await client.user(1) == User(2)
        mocked.assert_awaited_once_with(1)
    with patched.object(client, "request") as request:
        request.return_value = User(3)
        assert await client.user(1) == User(3)
    assert await client.user(1) == User(1)
    assert len(engine.requests) == 1


async def test_clients_of_one_class_are_apart(opened: Open) -> None:
    first, _ = opened(Shop, (200, {"id": 1}))
    second, _ = opened(Shop, (200, {"id": 2}), base_url="https://other.example")
    assert await first.user(1) == User(1)
    assert await second.user(1) == User(2)


async def test_a_client_with_declared_calls_is_held_by_nothing() -> None:
    client = Shop(engine=script((200, {"id": 1})))
    await client.user(1)
    with pytest.warns(ResourceWarning, match="dropped open"):
        del client


async def test_types_named_by_the_function_around_the_class_are_found(opened: Open) -> None:
    @dataclass
    class Local:
        id: int

    class Here(HTTPClient, base_url=BASE):
        @dataclass
        class Nested:
            id: int

        @get("/local")
        async def local(self) -> Local: ...

        @get("/nested")
        async def nested(self) -> list[Nested]: ...

    client, _ = opened(Here, (200, {"id": 1}), (200, [{"id": 2}]))
    assert await client.local() == Local(1)
    assert await client.nested() == [Here.Nested(2)]


async def test_annotations_may_carry_metadata(opened: Open) -> None:
    class Annotating(HTTPClient, base_url=BASE):
        @get("/small")
        async def small(self, page: Annotated[int, "which"] = 1) -> Annotated[int, msgspec.Meta(le=10)]: ...

    client, _ = opened(Annotating, (200, 7), (200, 11))
    assert await client.small() == 7
    with pytest.raises(ValueError, match="<= 10"):
        await client.small(2)


# What is refused


def declared(path: str, function: Any, verb: Any = get) -> type[HTTPClient]:
    function.__qualname__ = f"Weather.{function.__name__}"
    return type("Weather", (HTTPClient,), {function.__name__: verb(path)(function)})


async def plain(self: Any, id: int, city: str = "") -> Response: ...


async def loose(self: Any, *args: int) -> Response: ...


async def looser(self: Any, **rest: int) -> Response: ...


def waiting(self: Any, id: int) -> Response: ...


async def selfless() -> Response: ...


async def close(self: Any) -> None: ...


@pytest.mark.parametrize(
    ("path", "function", "told"),
    [
        ("users", plain, "one slash"),
        ("https://api.example/users", plain, "one slash"),
        ("//other.example/users", plain, "one slash"),
        ("", plain, "one slash"),
        ("/users/{name}", plain, "{name}"),
        ("/users?name={name}", plain, "{name}"),
        ("/users/{id}/again/{id}", plain, "twice"),
        ("/users/{id}?user={id}", plain, "twice"),
        ("/users/{id", plain, "placeholder"),
        ("/users/id}", plain, "placeholder"),
        ("/users/{{id}}", plain, "placeholder"),
        ("/users?q=id:{id}", plain, "placeholder"),
        ("/users?{city}={id}", plain, "placeholder"),
        ("/users/{}", plain, "not the name"),
        ("/users/{id:int}", plain, "not the name"),
        ("/users/{self}", plain, "{self}"),
        ("/users/\n", plain, "control character"),
        ("/users", loose, r"\*args"),
        ("/users", looser, r"\*\*kwargs"),
        ("/users", waiting, "async def"),
        ("/users", staticmethod(plain), "async def"),
        ("/users", selfless, "self"),
        ("/users", close, "name"),
    ],
)
def test_a_call_that_cannot_work_is_refused_when_its_class_is_made(path: str, function: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"^Weather\.\w+: .*{told}"):
        declared(path, function)


def test_an_option_that_cannot_work_is_refused_when_its_class_is_made() -> None:
    with pytest.raises(ConfigError, match="total=-1"):
        get("/users", timeout=-1)
    with pytest.raises(ConfigError, match="control character"):
        get("/users", headers={"X-Odd": "a\r\nb"})
    with pytest.raises(TypeError, match="tiemout"):
        get("/users", tiemout=1)  # type: ignore[call-arg]


async def unresolved(self: Any, id: Nowhere) -> Response: ...  # type: ignore[name-defined]  # noqa: F821


async def unreturned(self: Any, id: int): ...  # type: ignore[no-untyped-def]


async def undecodable(self: Any, id: int) -> Order | User: ...


async def unhashable(self: Any, id: int) -> Annotated[int, ["meta"]]: ...


async def two_bodies(self: Any, first: User, second: Order) -> Response: ...


async def one_body(self: Any, user: User) -> Response: ...


@pytest.mark.parametrize(
    ("function", "verb", "told"),
    [
        (unresolved, get, "id: 'Nowhere' cannot be resolved"),
        (unreturned, get, "it does not say what it returns"),
        (undecodable, get, "return: .* cannot be decoded"),
        (unhashable, get, "return: .* cannot be decoded"),
        (two_bodies, post, "first and second are two bodies"),
        (one_body, get, "GET carries no body"),
        (one_body, head, "HEAD carries no body"),
    ],
)
def test_types_that_cannot_work_are_refused_when_a_client_is_built(function: Any, verb: Any, told: str) -> None:
    weather = declared("/x", function, verb)
    with pytest.raises(ConfigError, match=rf"^Weather\.\w+: {told}"):
        weather(BASE, engine=script())


def test_a_verb_without_its_path_is_told_so():
    with pytest.raises(ConfigError, match=r'@get needs its path: write @get\("/path"\)'):

        class Weather(HTTPClient, base_url="https://weather.test"):
            @get  # type: ignore[arg-type]
            async def now(self) -> dict: ...
