"""What the documentation of an application says of the upstreams' failing: as long as nobody said it better."""

from copy import deepcopy
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from fairlead.client import HTTPClient
from fairlead.errors import AttemptTimedOut, ConnectFailed, FairleadError, LimitReached
from fairlead.fastapi import Named, Use, install, lifespan
from fairlead.fastapi.openapi import complete
from fairlead.problem import RESPONSES, SCHEMA
from fairlead.testing import script


class Weather(HTTPClient, base_url="http://weather.test", max_retries=0):
    pass


async def through(weather: Use[Weather]):
    return weather


def listed(app, path="/trip", method="get"):
    """The answers that the schema lists for a route."""
    return app.openapi()["paths"][path][method]["responses"]


def described(app, path="/trip", method="get"):
    """The same, each as it is described in the end."""
    schema = app.openapi()
    found = {}
    for status, told in listed(app, path, method).items():
        response = told
        if "$ref" in response:
            kind, name = response["$ref"].removeprefix("#/components/").split("/")
            response = schema["components"][kind][name]
        found[status] = response
    return found


KINDS = {"string": str, "integer": int, "null": type(None)}


def as_described(document):
    """Whether it fits the schema, as far as the schema goes: a flat object."""
    fits = [document.keys() == SCHEMA["properties"].keys() == set(SCHEMA["required"])]
    for name, told in SCHEMA["properties"].items():
        value, kinds = document.get(name), told["type"]
        fits.append(any(isinstance(value, KINDS[kind]) for kind in ([kinds] if isinstance(kinds, str) else kinds)))
        fits.append(value in told.get("enum", [value]) and value == told.get("const", value))
    return all(fits)


def installed(**options):
    app = FastAPI(**options)
    install(app)
    return app


def test_a_route_that_uses_a_client_lists_its_failing():
    app = installed()

    @app.get("/trip")
    async def trip(weather: Use[Weather]):
        raise AssertionError

    said = described(app)
    assert list(said) == ["200", "502", "503", "504"]
    for status in ("502", "503", "504"):
        assert said[status] == RESPONSES[status][1]
        assert list(said[status]["content"]) == ["application/problem+json"]
        assert said[status]["content"]["application/problem+json"]["example"]["status"] == int(status)
    assert list(said["503"]["headers"]) == ["X-Request-ID", "Retry-After"]
    assert app.openapi()["components"]["schemas"]["UpstreamProblem"] == SCHEMA


@pytest.mark.parametrize("wanted", [Annotated[Weather, Named("eu")], Annotated[Weather, Depends(through)]])
def test_however_the_client_comes_into_it(wanted):
    app = installed()

    @app.post("/trip")
    async def trip(weather: wanted):
        raise AssertionError

    assert {"502", "503", "504"} <= listed(app, method="post").keys()


def test_what_an_application_changes_of_it_is_its_own():
    for _ in range(2):
        app = installed()

        @app.get("/trip")
        async def trip(weather: Use[Weather]):
            raise AssertionError

        said = app.openapi()["components"]
        assert said["schemas"]["UpstreamProblem"].pop("description").startswith("A service")
        assert said["responses"]["UpstreamFailed"]["content"]["application/problem+json"].pop("example")


def test_one_that_uses_none_lists_nothing():
    app = installed()

    @app.get("/trip")
    async def trip(city: str): ...

    assert listed(app).keys() == {"200", "422"}
    assert "responses" not in app.openapi()["components"]
    assert "UpstreamProblem" not in app.openapi()["components"]["schemas"]


def test_what_the_route_says_itself_stays():
    app = installed()

    @app.get("/trip", responses={502: {"description": "mine"}})
    async def trip(weather: Use[Weather]):
        raise AssertionError

    @app.get("/all", responses={"5XX": {"description": "mine"}})
    async def every(weather: Use[Weather]):
        raise AssertionError

    assert listed(app)["502"] == {"description": "mine"}
    assert "$ref" in listed(app)["503"]
    assert listed(app, "/all").keys() == {"200", "5XX"}


def test_included_routers_and_what_their_inclusion_needs():
    router, quiet = APIRouter(), APIRouter()

    @router.get("/trip")
    async def trip(weather: Use[Weather]):
        raise AssertionError

    @quiet.get("/trip")
    async def other():
        raise AssertionError

    @quiet.get("/hidden", include_in_schema=False)
    async def hidden(weather: Use[Weather]):
        raise AssertionError

    app = installed()
    app.include_router(router, prefix="/v1/{region}")
    app.include_router(quiet, prefix="/plain")
    app.include_router(quiet, prefix="/checked", dependencies=[Depends(through)])
    assert "502" in listed(app, "/v1/{region}/trip")
    assert "502" not in listed(app, "/plain/trip")
    assert "502" in listed(app, "/checked/trip")
    assert "/plain/hidden" not in app.openapi()["paths"]


def test_routes_of_the_whole_application_and_with_converters():
    app = installed(dependencies=[Depends(through)])

    @app.get("/files/{name:path}")
    async def file(name: str):
        raise AssertionError

    assert "502" in listed(app, "/files/{name}")


def test_a_route_that_is_added_later_is_there_too():
    app = installed()
    assert app.openapi()["paths"] == {}

    @app.get("/trip")
    async def trip(weather: Use[Weather]):
        raise AssertionError

    assert "502" in listed(app)


def test_the_lifespan_says_it_too_and_says_it_once():
    app = FastAPI(lifespan=lifespan(Weather(engine=script(200))))

    @app.get("/trip")
    async def trip(weather: Use[Weather]):
        raise AssertionError

    with TestClient(app) as caller:
        first = caller.get("/openapi.json").json()
        assert list(first["paths"]["/trip"]["get"]["responses"]) == ["200", "502", "503", "504"]
        openapi = app.openapi
        install(app, health=None)
        assert app.openapi is openapi
        assert caller.get("/openapi.json").json() == first
        assert caller.get("/docs").status_code == 200


def test_with_a_handler_of_ones_own_the_answers_are_ones_own():
    app = installed()

    @app.exception_handler(FairleadError)
    async def answer(request, error):
        raise AssertionError

    @app.get("/trip")
    async def trip(weather: Use[Weather]):
        raise AssertionError

    assert listed(app).keys() == {"200"}


def test_a_schema_that_is_made_by_hand_is_completed():
    app = FastAPI()
    app.openapi = lambda: {"paths": {"/trip": {"get": {}}}}
    install(app)

    @app.get("/trip")
    async def trip(weather: Use[Weather]):
        raise AssertionError

    @app.get("/forgotten")
    async def forgotten(weather: Use[Weather]):
        raise AssertionError

    assert list(listed(app)) == ["502", "503", "504"]
    assert app.openapi()["paths"].keys() == {"/trip"}


@given(
    st.dictionaries(
        st.sampled_from(["200", "404", "502", "503", "504", "5XX", "default"]), st.just({"description": "mine"})
    )
)
def test_completing_keeps_what_is_there_and_twice_is_once(said):
    schema = {"paths": {"/trip": {"get": {"responses": dict(said)}, "post": {"responses": {}}}}}
    complete(schema, {("/trip", "get"), ("/trip", "put"), ("/other", "get")})
    answers = schema["paths"]["/trip"]["get"]["responses"]
    assert {status: answers[status] for status in said} == said
    added = answers.keys() - said.keys()
    assert added == (set() if "5XX" in said else {"502", "503", "504"} - said.keys())
    assert set(schema.get("components", {}).get("responses", {})) == {RESPONSES[status][0] for status in added}
    assert schema["paths"]["/trip"]["post"] == {"responses": {}}
    once = deepcopy(schema)
    complete(schema, {("/trip", "get")})
    assert schema == once


@pytest.mark.parametrize("error", [ConnectFailed, LimitReached, AttemptTimedOut, FairleadError("odd")])
def test_an_answer_is_as_it_is_described(error):
    app = FastAPI(lifespan=lifespan(Weather(engine=script(error), policies=())))

    @app.get("/trip")
    async def trip(weather: Use[Weather]):
        await weather.get("/")

    with TestClient(app) as caller:
        response = caller.get("/trip")
        told = described(app)[str(response.status_code)]
    assert as_described(response.json())
    assert list(told["content"]) == [response.headers["content-type"]]
    assert {name.lower() for name in told["headers"]} <= set(response.headers)


def test_the_examples_are_as_they_are_described():
    for _, response in RESPONSES.values():
        assert as_described(response["content"]["application/problem+json"]["example"])


def test_the_description_can_be_missed():
    for wrong in ({"status": 500}, {"phase": "lunch"}, {"upstream": 7}, {"type": "other"}, {"title": None}):
        assert not as_described({**response_of(502), **wrong})
    assert not as_described({name: value for name, value in response_of(502).items() if name != "title"})


def response_of(status):
    return RESPONSES[str(status)][1]["content"]["application/problem+json"]["example"]
