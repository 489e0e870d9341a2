"""The life of clients in an application, what their errors are to its callers, and their health."""

import logging
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from fairlead.client import HTTPClient
from fairlead.errors import (
    AttemptTimedOut,
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    Disconnected,
    FairleadError,
    LimitReached,
)
from fairlead.fastapi import Named, Use, install, lifespan, passthrough, provide
from fairlead.fastapi.live import Live
from fairlead.gather import gather
from fairlead.sync import SyncHTTPClient
from fairlead.testing import Pieces, override, script


class Weather(HTTPClient, base_url="http://weather.test", max_retries=0):
    pass


class Orders(HTTPClient, base_url="http://orders.test", max_retries=0):
    pass


def weather(*answers, **options):
    return Weather(engine=script(*answers), **options)


def orders(*answers, **options):
    return Orders(engine=script(*answers), **options)


def told(client):
    """A small application over one client, its errors installed."""
    app = FastAPI(lifespan=lifespan(client))

    @app.get("/weather")
    async def route(weather: Use[Weather]) -> Any:
        return (await weather.get("/now")).json()

    return app


# the life of clients


class Noted:
    """A client that writes down its life."""

    def __init__(self, name="noted", log=None, *, breaks=False):
        self.name, self.log, self.breaks = name, log if log is not None else [], breaks

    async def __aenter__(self):
        if self.breaks:
            raise OSError(f"{self.name} cannot open")
        self.log.append(f"{self.name} opened")
        return self

    async def __aexit__(self, *_):
        self.log.append(f"{self.name} closed")


def test_clients_are_opened_in_order_and_closed_in_reverse():
    log = []
    with TestClient(FastAPI(lifespan=lifespan(Noted("a", log), Noted("b", log)))):
        log.append("running")
    assert log == ["a opened", "b opened", "running", "b closed", "a closed"]


def test_when_one_cannot_open_those_before_it_are_closed():
    log = []
    app = FastAPI(lifespan=lifespan(Noted("a", log), Noted("b", log, breaks=True), Noted("c", log)))
    with pytest.raises(OSError, match="b cannot open"), TestClient(app):
        pass
    assert log == ["a opened", "a closed"]


def test_a_class_an_instance_and_functions_make_clients():
    class A(Noted): ...

    class B(Noted): ...

    class C(Noted): ...

    class D(Noted): ...

    class E(Noted): ...

    def make_c():
        return C()

    async def make_d():
        return D()

    async def make_e():
        async with E() as client:
            yield client

    app = FastAPI(lifespan=lifespan(A, B(), make_c, make_d, asynccontextmanager(make_e), make_e))

    @app.get("/")
    async def route(a: Use[A], b: Use[B], c: Use[C], d: Use[D]):
        return [type(one).__name__ for one in (a, b, c, d)]

    with TestClient(app) as caller:
        assert caller.get("/").json() == ["A", "B", "C", "D"]
        assert [type(one).__name__ for one in app.state.fairlead] == ["A", "B", "C", "D", "E", "E"]
        clients = list(app.state.fairlead)
    assert app.state.fairlead == []
    assert all(client.log == ["noted opened", "noted closed"] for client in clients)


def test_a_class_is_made_from_its_settings(monkeypatch):
    monkeypatch.setenv("WEATHER__TIMEOUT", "7")
    monkeypatch.setenv("WEATHER__BASE_URL", "http://elsewhere.test")
    app = FastAPI(lifespan=lifespan(Weather))
    with TestClient(app):
        (client,) = app.state.fairlead
        assert client.timeout.total == 7.0
        assert client.base_url == "http://elsewhere.test"


def test_a_setting_that_is_missing_stops_the_start():
    class Pay(HTTPClient):
        def __init__(self, merchant: str, **options: Any) -> None:
            super().__init__(**options)

    with pytest.raises(ConfigError, match="set PAY__MERCHANT"), TestClient(FastAPI(lifespan=lifespan(Pay))):
        pass


def test_the_applications_own_lifespan_runs_inside_and_keeps_its_state():
    log = []

    @asynccontextmanager
    async def own(app):
        log.append("own opened")
        yield {"db": "pool"}
        log.append("own closed")

    app = FastAPI(lifespan=lifespan(Noted("a", log), then=own))

    @app.get("/")
    async def route(request: Request, a: Use[Noted]):
        return [request.state.db, a.name]

    with TestClient(app) as caller:
        assert caller.get("/").json() == ["pool", "a"]
    assert log == ["a opened", "own opened", "own closed", "a closed"]


def test_lifespans_compose():
    """One inside another, around one of the application's own, or inside it."""
    log = []

    @asynccontextmanager
    async def own(app):
        async with lifespan(Noted("c", log))(app) as state:
            yield {**state, "db": "pool"}

    app = FastAPI(
        lifespan=lifespan(weather(200), then=lifespan(orders(200), then=own, required=[Orders]), required=[Weather])
    )

    @app.get("/")
    async def route(request: Request, one: Use[Weather], two: Use[Orders], three: Use[Noted]):
        state = request.state
        assert (state.weather, state.orders, state.c) == (one, two, three)
        return [state.db, [type(client).__name__ for client in app.state.fairlead]]

    with TestClient(app) as caller:
        assert caller.get("/").json() == ["pool", ["Weather", "Orders", "Noted"]]
        assert list(caller.get("/health/ready").json()["services"]) == ["Weather", "Orders"]
        log.append("running")
    assert log == ["c opened", "running", "c closed"]
    assert (app.state.fairlead, app.state.fairlead.required) == ([], [])


def test_a_router_may_bring_a_client_of_its_own():
    router = APIRouter(lifespan=lifespan(orders((200, 7))))

    @router.get("/orders")
    async def route(orders: Use[Orders]):
        return (await orders.get("/")).json()

    app = FastAPI(lifespan=lifespan(weather()))
    app.include_router(router)
    with TestClient(app) as caller:
        assert caller.get("/orders").json() == 7


def test_an_own_lifespan_that_fails_closes_the_clients():
    log = []

    async def own(app):
        raise RuntimeError("no database")
        yield

    with (
        pytest.raises(RuntimeError, match="no database"),
        TestClient(FastAPI(lifespan=lifespan(Noted("a", log), then=own))),
    ):
        pass
    assert log == ["a opened", "a closed"]


def test_an_application_starts_again():
    app = told(lambda: weather((200, {"sky": "blue"})))
    for _ in range(2):
        with TestClient(app) as caller:
            assert caller.get("/weather").json() == {"sky": "blue"}


@pytest.mark.parametrize("client", [None, "weather", 7])
def test_what_is_no_client_is_refused_when_the_lifespan_is_written(client):
    with pytest.raises(ConfigError, match=r"clients\[1\] is "):
        lifespan(Weather, client)


def test_a_function_that_makes_no_client_is_named():
    def make_nothing():
        return None

    with (
        pytest.raises(ConfigError, match="make_nothing made NoneType"),
        TestClient(FastAPI(lifespan=lifespan(make_nothing))),
    ):
        pass


# injection


def test_the_open_client_is_injected_into_http_and_websocket_routes():
    client = weather((200, {"sky": "blue"}), (200, {"sky": "grey"}))
    app = told(client)

    @app.websocket("/live")
    async def live(socket: WebSocket, weather: Use[Weather]):
        assert weather is client
        await socket.accept()
        await socket.send_json((await weather.get("/now")).json())
        await socket.close()

    with TestClient(app) as caller:
        assert caller.get("/weather").json() == {"sky": "blue"}
        with caller.websocket_connect("/live") as socket:
            assert socket.receive_json() == {"sky": "grey"}


def test_a_client_is_no_parameter_of_the_route():
    assert "parameters" not in told(Weather).openapi()["paths"]["/weather"]["get"]


def test_mounted_applications_get_the_clients_of_the_outer_one():
    inner = FastAPI()

    @inner.get("/sky")
    async def route(weather: Use[Weather]):
        return (await weather.get("/now")).json()

    app = FastAPI(lifespan=lifespan(weather((200, {"sky": "blue"}))))
    app.mount("/inner", inner)
    with TestClient(app) as caller:
        assert caller.get("/inner/sky").json() == {"sky": "blue"}


def test_a_derived_class_stands_in_for_its_base():
    class Better(Weather): ...

    client = Better(engine=script((200, {"sky": "clear"})))
    with TestClient(told(client)) as caller:
        assert caller.get("/weather").json() == {"sky": "clear"}


def test_the_class_itself_comes_before_one_derived_from_it():
    class Better(Weather): ...

    app = FastAPI(lifespan=lifespan(Better(engine=script()), weather()))

    @app.get("/")
    async def route(plain: Use[Weather], better: Use[Better]):
        return [type(plain).__name__, type(better).__name__]

    with TestClient(app) as caller:
        assert caller.get("/").json() == ["Weather", "Better"]


def test_provide_is_always_the_same_so_that_it_can_be_overridden():
    assert provide(Weather) is provide(Weather)
    assert provide(Weather) is not provide(Orders)
    app = told(weather())
    fake = weather((200, {"sky": "fake"}))
    app.dependency_overrides[provide(Weather)] = lambda: fake
    with TestClient(app) as caller:
        assert caller.get("/weather").json() == {"sky": "fake"}
        caller.portal.call(fake.close)


def test_a_client_that_is_not_open_says_what_to_write():
    app = told(orders())
    with (
        TestClient(app) as caller,
        pytest.raises(ConfigError, match=r"Weather is not open: add it to .*lifespan\(Weather\)"),
    ):
        caller.get("/weather")


def test_without_a_lifespan_nothing_is_open():
    app = told(Weather)
    with pytest.raises(ConfigError, match="Weather is not open"):
        TestClient(app).get("/weather")


def two_regions():
    return weather((200, {"sky": "blue"}), name="eu"), weather((200, {"sky": "grey"}), name="us")


def test_two_clients_of_one_class_are_told_apart_by_their_names():
    app = FastAPI(lifespan=lifespan(*two_regions()))

    @app.get("/weather")
    async def route(here: Annotated[Weather, Named("eu")], there: Annotated[Weather, Named("us")]):
        return [here.name, (await here.get("/")).json(), there.name, (await there.get("/")).json()]

    with TestClient(app) as caller:
        assert caller.get("/weather").json() == ["eu", {"sky": "blue"}, "us", {"sky": "grey"}]
        assert "parameters" not in app.openapi()["paths"]["/weather"]["get"]


def test_a_name_alone_is_not_enough_the_class_counts_too():
    app = FastAPI(lifespan=lifespan(weather(name="eu"), orders(name="eu")))

    @app.get("/")
    async def route(one: Annotated[Weather, Named("eu")], other: Annotated[Orders, Named("eu")]):
        return [type(one).__name__, type(other).__name__]

    with TestClient(app) as caller:
        assert caller.get("/").json() == ["Weather", "Orders"]


@pytest.mark.parametrize(
    ("names", "wanted", "told"),
    [
        (("eu", "us"), Use[Weather], r"2 clients are a Weather: use Annotated\[Weather, Named\('eu'\)\]"),
        (("eu", "eu"), Use[Weather], "2 clients are a Weather: give each a name= of its own"),
        (("eu", "eu"), Annotated[Weather, Named("eu")], "2 clients are a Weather and called 'eu': give each a name="),
        (("eu", "us"), Annotated[Weather, Named("jp")], "no Weather that is called 'jp' is open, but 'eu', 'us'"),
        (("eu", "us"), Annotated[Orders, Named("eu")], "no Orders that is called 'eu' is open, but none"),
    ],
)
def test_a_wish_that_is_not_clear_says_how_to_make_it_so(names, wanted, told):
    app = FastAPI(lifespan=lifespan(*[weather(name=name) for name in names]))

    @app.get("/weather")
    async def route(weather: wanted):
        raise AssertionError

    with TestClient(app) as caller, pytest.raises(ConfigError, match=told):
        caller.get("/weather")


def test_a_name_is_a_word_and_use_takes_one_class():
    with pytest.raises(ConfigError, match=r"Named\(7\): pass the name="):
        Named(7)
    with pytest.raises(ConfigError, match=r"pass one class; .* Annotated\[Weather, Named\('eu'\)\]"):
        Use[Weather, "eu"]


def test_clients_that_open_later_are_found_too():
    """What was found once is remembered, but not beyond the next that opens or closes."""
    live = Live()
    one, two = weather(name="eu"), weather(name="us")
    live.append(one)
    assert live.find(Weather, None) is one
    live.append(two)
    with pytest.raises(ConfigError, match="2 clients"):
        live.find(Weather, None)
    live.close(one)
    assert live.find(Weather, None) is two
    live.close(two)
    with pytest.raises(ConfigError, match="not open"):
        live.find(Weather, None)


def test_a_request_has_its_clients_in_its_state_by_name():
    app = FastAPI(lifespan=lifespan(Weather, *two_regions(), weather(name="a.test"), then=own_state))

    @app.get("/")
    async def route(request: Request):
        state = request.state
        return [state.weather.name, state.eu.name, state.us.name, state.a_test.name, state.db]

    with TestClient(app) as caller:
        assert caller.get("/").json() == ["Weather", "eu", "us", "a.test", "pool"]


@asynccontextmanager
async def own_state(app):
    yield {"db": "pool"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Weather", "weather"),
        ("WeChat", "we_chat"),
        ("HTTPBin", "http_bin"),
        ("OrdersV2", "orders_v2"),
        ("api.shop.example", "api_shop_example"),
        ("eu-west-1", "eu_west_1"),
    ],
)
def test_a_name_in_the_state_is_an_identifier(name, key):
    live, client = Live(), weather(name=name)
    live.append(client)
    live.append(client)
    assert live.names() == {key: client}


def test_two_of_one_name_are_not_in_the_state_and_what_is_there_is_the_applications_own():
    @asynccontextmanager
    async def own(app):
        yield {"orders": "mine"}

    app = FastAPI(lifespan=lifespan(weather(), weather(), orders(), then=own))

    @app.get("/")
    async def route(request: Request):
        return [hasattr(request.state, "weather"), request.state.orders]

    with TestClient(app) as caller:
        assert caller.get("/").json() == [False, "mine"]


# another client in a test


def test_a_script_takes_the_place_of_a_client_for_a_while():
    app = told(lambda: weather((200, {"sky": "blue"})))
    with TestClient(app) as caller:
        with override(app, Weather, script((200, {"sky": "fake"}))) as fake:
            assert caller.get("/weather").json() == {"sky": "fake"}
            assert isinstance(fake, Weather)
            assert fake.engine.requests[0].url == "http://weather.test/now"
        assert fake.engine.closed
        assert caller.get("/weather").json() == {"sky": "blue"}
    assert app.dependency_overrides == {}


def test_entered_before_the_start_no_setting_is_needed_and_no_upstream_asked():
    class Pay(HTTPClient):
        def __init__(self, merchant: str, **options: Any) -> None:
            super().__init__("http://pay.test", **options)
            self.merchant = merchant

    app = FastAPI(lifespan=lifespan(Pay, eager=[Pay], required=["Pay"]))

    @app.get("/")
    async def route(pay: Use[Pay]):
        return [pay.merchant, (await pay.get("/")).json()]

    with override(app, Pay, script((200, {"paid": 1})), merchant="me"), TestClient(app) as caller:
        assert caller.get("/").json() == ["me", {"paid": 1}]
        assert app.state.fairlead == []


def test_overrides_nest_and_one_of_several_clients_can_be_meant():
    app = FastAPI(lifespan=lifespan(*two_regions()))

    @app.get("/")
    async def route(here: Annotated[Weather, Named("eu")], there: Annotated[Weather, Named("us")]):
        return [(await one.get("/")).json() for one in (here, there)]

    with TestClient(app) as caller, override(app, Weather, script((200, 1)), named="eu") as outer:
        assert outer.name == "eu"
        with override(app, Weather, script((200, 2)), named="eu"):
            assert caller.get("/").json() == [2, {"sky": "grey"}]
        with override(app, Weather, script((200, 3)), named="us"):
            assert caller.get("/").json() == [1, 3]


def test_a_client_of_ones_own_stays_ones_own():
    app = told(Weather)
    mine = weather((200, {"sky": "mine"}))
    with TestClient(app) as caller:
        with override(app, Weather, mine):
            assert caller.get("/weather").json() == {"sky": "mine"}
        assert not mine.engine.closed
        caller.portal.call(mine.close)


def test_a_client_for_threads_has_one_too():
    class Plain(SyncHTTPClient, of=Weather):
        pass

    app = FastAPI(lifespan=lifespan(Plain))

    @app.get("/")
    def route(plain: Use[Plain]):
        return plain.get("/", into=int)

    with TestClient(app) as caller, override(app, Plain, script((200, 7))) as fake:
        assert caller.get("/").json() == 7
    assert fake._client.engine.closed
    mine = Plain(engine=script((200, 8)))
    with TestClient(app) as caller, override(app, Plain, mine):
        assert caller.get("/").json() == 8
    assert not mine._client.engine.closed
    mine.close()


async def test_in_an_async_test_it_is_closed_too():
    app = told(Weather)
    async with app.router.lifespan_context(app):
        with override(app, Weather, script(200)) as fake:
            await fake.get("/")
        assert fake.engine.closed


def test_after_the_application_ended_it_is_closed_too():
    app = told(Weather)
    with override(app, Weather, script((200, 1))) as fake:
        with TestClient(app) as caller:
            assert caller.get("/weather").json() == 1
        assert not fake.engine.closed
    assert fake.engine.closed


def test_what_cannot_take_its_place_is_refused():
    app = FastAPI()
    for instead, options, told in [
        (200, {}, r"200 is no engine: pass script\(200, ...\)"),
        (orders(), {}, "Orders .*: pass a Weather, or an engine"),
        (weather(), {"timeout": 1.0}, r"options \(timeout\) beside a client"),
    ]:
        with pytest.raises(ConfigError, match=told), override(app, Weather, instead, **options):
            pass
    assert app.dependency_overrides == {}


# errors as answers


def failing(error):
    return weather(error, policies=())


@pytest.mark.parametrize(
    ("answer", "status", "retry_after"),
    [
        (AttemptTimedOut, 504, None),
        (DeadlineExceeded, 504, None),
        (CircuitOpen(retry_after=4.2), 503, "5"),
        (LimitReached, 503, "1"),
        (ConnectFailed, 502, None),
        (Disconnected, 502, None),
        (500, 502, None),
        (404, 502, None),
        (401, 502, None),
        ((429, b"", {"Retry-After": "7"}), 503, "7"),
        ((503, b"", {"Retry-After": "nonsense"}), 503, "1"),
        (429, 503, "1"),
        (FairleadError("odd"), 502, None),
    ],
)
def test_errors_are_problem_documents(answer, status, retry_after):
    with TestClient(told(failing(answer))) as caller:
        response = caller.get("/weather", headers={"X-Request-ID": "abc-1"})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers.get("retry-after") == retry_after
    problem = response.json()
    assert list(problem) == ["type", "title", "status", "upstream", "phase", "request_id"]
    assert (problem["type"], problem["status"], problem["upstream"]) == ("about:blank", status, "Weather")
    assert problem["title"] == {502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}[status]
    assert problem["request_id"] == response.headers["x-request-id"] == "abc-1"


def test_the_phase_is_told():
    with TestClient(told(failing((200, b"not json")))) as caller:
        response = caller.get("/weather")
    assert (response.status_code, response.json()["phase"]) == (502, "decoding")


@pytest.mark.parametrize("given", [None, "a b", "x" * 129, 'a"b', "ü"])
def test_a_request_id_that_is_missing_or_odd_is_made_new(given):
    with TestClient(told(failing(ConnectFailed))) as caller:
        headers = {} if given is None else {"X-Request-ID": given.encode()}
        found = caller.get("/weather", headers=headers).json()["request_id"]
    assert len(found) == 32
    assert found != given


def test_nothing_of_the_upstream_is_told():
    secret = "hunter2"
    client = weather((500, secret, {"X-Secret": secret}), policies=(), headers={"Authorization": secret})
    app = FastAPI(lifespan=lifespan(client))

    @app.get("/weather")
    async def route(weather: Use[Weather]):
        await weather.get(f"/{secret}", params={"key": secret})

    with TestClient(app) as caller:
        response = caller.get("/weather")
    assert response.status_code == 502
    assert secret not in response.text + str(response.headers)
    assert "weather.test" not in response.text


def test_the_log_finds_the_request_by_its_id(caplog):
    caplog.set_level(logging.INFO, "fairlead")
    with TestClient(told(failing(ConnectFailed))) as caller:
        found = caller.get("/weather").json()["request_id"]
    (record,) = [record for record in caplog.records if getattr(record, "request_id", None) == found]
    assert (record.status, record.upstream) == (502, "Weather")


def test_a_mistake_of_ours_is_a_500():
    app = told(weather())

    @app.get("/wrong")
    async def route(weather: Use[Weather]):
        await weather.get("http://elsewhere.test/")

    with TestClient(app, raise_server_exceptions=False) as caller:
        response = caller.get("/wrong")
    assert response.status_code == 500
    assert "elsewhere" not in response.text


def test_other_errors_stay_what_they_are():
    app = told(weather())

    @app.get("/teapot")
    async def route():
        raise HTTPException(418)

    with TestClient(app) as caller:
        assert caller.get("/teapot").status_code == 418


def test_a_required_part_decides_the_status():
    app = told(failing(AttemptTimedOut))

    @app.get("/trip")
    async def route(weather: Use[Weather]):
        return (await gather({"weather": weather.get("/")}, required={"weather"})).as_dict()

    with TestClient(app) as caller:
        assert caller.get("/trip").status_code == 504


def test_a_gathered_answer_is_sent_as_it_is():
    app = FastAPI(lifespan=lifespan(weather((200, {"sky": "blue"})), orders(500)))

    @app.get("/trip")
    async def route(weather: Use[Weather], orders: Use[Orders]):
        return (
            await gather({"weather": weather.get("/"), "orders": orders.get("/")}, default={"orders": []})
        ).as_dict()

    with TestClient(app) as caller:
        answer = caller.get("/trip").json()
    assert answer["data"] == {"weather": {"sky": "blue"}, "orders": []}
    assert answer["complete"] is False
    assert answer["errors"] == [{"service": "orders", "error": "answered 500 Internal Server Error"}]
    assert answer["services"]["orders"]["used"] == "default"


def test_a_passthrough_that_fails_before_its_head_is_a_problem():
    app = told(weather(ConnectFailed, (200, Pieces(b"half", Disconnected)), policies=()))

    @app.get("/raw")
    async def route(weather: Use[Weather]):
        return passthrough(weather.stream("GET", "/"))

    with TestClient(app) as caller:
        response = caller.get("/raw")
        assert (response.status_code, response.json()["upstream"]) == (502, "Weather")
        with pytest.raises(RuntimeError, match="response already started"):
            caller.get("/raw")


@pytest.mark.parametrize(("error", "code"), [(ConnectFailed, 1011), (LimitReached, 1013)])
def test_an_error_in_an_open_websocket_closes_it(error, code):
    app = told(failing(error))

    @app.websocket("/live")
    async def live(socket: WebSocket, weather: Use[Weather]):
        await socket.accept()
        await weather.get("/")

    with TestClient(app) as caller, caller.websocket_connect("/live") as socket:
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_json()
        assert caught.value.code == code


def test_an_error_before_a_websocket_is_open_is_a_problem():
    app = told(failing(ConnectFailed))

    @app.websocket("/live")
    async def live(socket: WebSocket, weather: Use[Weather]):
        await weather.get("/")

    with TestClient(app) as caller, pytest.raises(WebSocketDenialResponse) as caught, caller.websocket_connect("/live"):
        pass
    assert caught.value.status_code == 502
    assert caught.value.json()["upstream"] == "Weather"


# beside what is there already


def test_a_health_route_and_a_handler_of_ones_own_stay():
    app = FastAPI(lifespan=lifespan(weather(ConnectFailed, policies=())))

    @app.get("/health")
    async def health():
        return "mine"

    @app.exception_handler(FairleadError)
    async def answer(request, error):
        return PlainTextResponse("mine too", 418)

    @app.get("/weather")
    async def route(weather: Use[Weather]):
        await weather.get("/")

    with TestClient(app) as caller:
        assert caller.get("/health").json() == "mine"
        response = caller.get("/weather")
    assert (response.status_code, response.text) == (418, "mine too")


@pytest.mark.parametrize("before", [False, True])
def test_middleware_is_made_anew_only_where_something_is_added(before):
    made = []

    class Counted:
        def __init__(self, app):
            self.app = app
            made.append(self)

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)

    app = FastAPI(lifespan=lifespan(weather(200)))
    app.add_middleware(Counted)
    if before:
        install(app)
    with TestClient(app) as caller:
        assert caller.get("/health").status_code == 200
    assert len(made) == (1 if before else 2)


def test_middleware_stays_where_it_was():
    app = FastAPI(lifespan=lifespan(weather(ConnectFailed, policies=())))

    @app.middleware("http")
    async def marked(request, call_next):
        response = await call_next(request)
        response.headers["x-marked"] = "1"
        return response

    @app.get("/weather")
    async def route(weather: Use[Weather]):
        await weather.get("/")

    with TestClient(app) as caller:
        response = caller.get("/weather")
    assert response.status_code == 502
    assert response.headers["x-marked"] == "1"
    assert response.headers["content-type"] == "application/problem+json"
