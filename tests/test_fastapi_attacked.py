"""What goes wrong in other people's hands: no address in what anyone may read, and a mistake that says how to mend it."""

import warnings
from math import inf, nan
from typing import Annotated, Any, Generic, TypeVar

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fairlead.asgi import Caller
from fairlead.caller import remaining
from fairlead.client import HTTPClient
from fairlead.errors import CircuitOpen, ConfigError, ConnectFailed, LimitReached
from fairlead.fastapi import Named, Use, lifespan
from fairlead.gather import gather
from fairlead.policies import CircuitBreaker
from fairlead.testing import script
from test_fastapi import Noted

ADDRESS = "http://internal-7.test:8080/bot123:secret"
T = TypeVar("T")


class Weather(HTTPClient, base_url=ADDRESS, max_retries=0):
    pass


class Listed(HTTPClient, Generic[T], base_url=ADDRESS):
    pass


# what anyone may read


def test_clients_of_one_name_are_told_apart_without_their_addresses():
    clients = [lambda: Weather(engine=script(then=200)) for _ in range(3)]
    with TestClient(FastAPI(lifespan=lifespan(*clients))) as browser:
        answer = browser.get("/health")
    assert list(answer.json()["services"]) == ["Weather", "Weather (2)", "Weather (3)"]
    assert "internal-7" not in answer.text
    assert "secret" not in answer.text


def test_a_part_that_failed_tells_no_address_whatever_it_failed_by():
    client = Weather(engine=script(then=ConnectFailed), policies=[CircuitBreaker(consecutive=1)])
    app = FastAPI(lifespan=lifespan(client))

    @app.get("/{path:path}")
    async def route(path: str, weather: Use[Weather]) -> Any:
        return (await gather({"it": weather.get(path)})).as_dict()

    with TestClient(app) as browser:
        answers = [browser.get(f"/{path}") for path in ("first", "second", "http://elsewhere.test/")]
    told = [answer.json()["services"]["it"]["error"] for answer in answers]
    assert told == ["could not connect", "circuit open", "what was configured cannot work"]
    assert not [answer.text for answer in answers if "internal-7" in answer.text]


@pytest.mark.parametrize("seconds", [inf, nan, -1.0, None])
@pytest.mark.parametrize("error", [CircuitOpen, LimitReached])
def test_whoever_is_refused_is_told_when_to_come_again_also_where_nobody_knows(error, seconds):
    client = Weather(engine=script(error(retry_after=seconds)), policies=())
    app = FastAPI(lifespan=lifespan(client))

    @app.get("/")
    async def route(weather: Use[Weather]) -> None:
        await weather.get("/")

    with TestClient(app) as browser:
        answer = browser.get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


# beside what is there already


def test_one_that_is_derived_from_the_middleware_is_the_applications_own_too():
    class Mine(Caller):
        """With something else around each request."""

    app = FastAPI(lifespan=lifespan(Weather(engine=script(then=200))))
    app.add_middleware(Mine, max_deadline=7.0)

    @app.get("/")
    async def route() -> float:
        return remaining()

    with TestClient(app) as browser:
        assert 1.0 < browser.get("/").json() <= 7.0


# mistakes


def test_an_application_that_was_not_started_says_how_a_test_starts_it():
    app = FastAPI(lifespan=lifespan(Weather))

    @app.get("/")
    async def route(weather: Use[Weather]) -> None:
        raise AssertionError

    with pytest.raises(
        ConfigError, match=r"Weather is not open: .* of the outermost .*`with TestClient\(app\)` starts"
    ):
        TestClient(app).get("/")


@pytest.mark.parametrize("annotated", [Listed[int], Weather | None, list[Weather]])
def test_a_name_of_what_is_no_class_is_refused_when_the_route_is_made(annotated):
    app = FastAPI()
    with pytest.raises(ConfigError, match=r"Named\('eu'\) of .*: annotate with one class"):

        @app.get("/")
        async def route(one: Annotated[annotated, Named("eu")]) -> None:
            raise AssertionError


def test_a_name_of_ones_own_dependency_is_refused_too():
    async def mine() -> None:
        raise AssertionError

    with pytest.raises(ConfigError, match="annotate with one class"):
        Named("eu", dependency=mine)


def test_a_lifespan_that_was_not_called_says_so():
    with pytest.raises(ConfigError, match=r"lifespan=lifespan is not called: .*lifespan=lifespan\(Weather\)"):
        TestClient(FastAPI(lifespan=lifespan)).__enter__()


def test_what_is_no_lifespan_is_refused_when_it_is_written():
    with pytest.raises(ConfigError, match=r"lifespan\(\): then=5 is no lifespan: .*@asynccontextmanager"):
        lifespan(Weather, then=5)


def test_one_that_cannot_be_entered_is_named_and_the_clients_are_closed():
    async def forgot_to_yield(app):
        raise AssertionError

    log: list[str] = []
    app = FastAPI(lifespan=lifespan(Noted("a", log), then=forgot_to_yield))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor is a coroutine left behind
        with pytest.raises(ConfigError, match=r"forgot_to_yield.* made coroutine, .*@asynccontextmanager"):
            TestClient(app).__enter__()
    assert log == ["a opened", "a closed"]
