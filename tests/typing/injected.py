"""Clients in a FastAPI application: `Use[Weather]` is a `Weather`."""

from __future__ import annotations

from typing import Annotated, Any, assert_type

from fastapi import FastAPI

from fairlead import HTTPClient, gather, get
from fairlead.fastapi import Named, Use, install, lifespan, provide
from fairlead.testing import override, script


class Weather(HTTPClient, base_url="https://api.weather.example"):
    @get("/v1/current")
    async def current(self, city: str) -> float: ...


def make_orders() -> HTTPClient:
    return HTTPClient("https://orders.example", timeout=2.0)


app = FastAPI(lifespan=lifespan(Weather, make_orders))
install(app)
regions = FastAPI(
    lifespan=lifespan(
        Weather("https://eu.weather.example", name="eu"),
        Weather("https://us.weather.example", name="us"),
        eager=["eu"],
        required=[Weather],
        drain=5.0,
    )
)


@app.get("/trip/{city}")
async def trip(city: str, weather: Use[Weather]) -> dict[str, Any]:
    assert_type(weather, Weather)
    assert_type(await weather.current(city), float)
    return (await gather({"weather": weather.current(city)}, required={"weather"}, within=2.0)).as_dict()


@regions.get("/difference/{city}")
async def difference(
    city: str, here: Annotated[Weather, Named("eu")], there: Annotated[Weather, Named("us")]
) -> dict[str, float]:
    assert_type(here, Weather)
    return {"difference": await here.current(city) - await there.current(city)}


def test_difference() -> None:
    with override(regions, Weather, script((200, 3.0)), named="eu") as fake, override(app, Weather, fake, named="us"):
        assert_type(fake, Weather)


app.dependency_overrides[provide(Weather, "eu")] = app.dependency_overrides[provide(Weather)] = lambda: Weather(
    "http://127.0.0.1:8000"
)
