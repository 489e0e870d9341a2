"""Clients in a FastAPI application: `Use[Weather]` is a `Weather`."""

from __future__ import annotations

from typing import Any, assert_type

from fastapi import FastAPI

from fairlead import HTTPClient, gather, get
from fairlead.fastapi import Use, install, lifespan, provide


class Weather(HTTPClient, base_url="https://api.weather.example"):
    @get("/v1/current")
    async def current(self, city: str) -> float: ...


def make_orders() -> HTTPClient:
    return HTTPClient("https://orders.example", timeout=2.0)


app = FastAPI(lifespan=lifespan(Weather, make_orders))
install(app)


@app.get("/trip/{city}")
async def trip(city: str, weather: Use[Weather]) -> dict[str, Any]:
    assert_type(weather, Weather)
    assert_type(await weather.current(city), float)
    return (await gather({"weather": weather.current(city)}, required={"weather"}, within=2.0)).as_dict()


app.dependency_overrides[provide(Weather)] = lambda: Weather("http://127.0.0.1:8000")
