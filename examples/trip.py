"""One answer made of two upstreams, one of which may fail: `uvicorn trip:app`, then GET /trip/Oslo and GET /health.

WEATHER__BASE_URL and ORDERS__BASE_URL in the environment, or in .env, say where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from fairlead import HTTPClient, gather, get
from fairlead.fastapi import Use, lifespan


@dataclass
class Forecast:
    city: str
    celsius: float


class Weather(HTTPClient, base_url="https://api.weather.example", timeout=3.0):
    @get("/v1/cities/{city}")
    async def current(self, city: str) -> Forecast: ...


class Orders(HTTPClient, base_url="https://orders.example", timeout=3.0):
    @get("/orders")
    async def latest(self, city: str, limit: int = 3) -> list[dict[str, Any]]: ...


app = FastAPI(lifespan=lifespan(Weather, Orders))


@app.get("/trip/{city}")
async def trip(city: str, weather: Use[Weather], orders: Use[Orders]) -> dict[str, Any]:
    parts = await gather(
        {"weather": weather.current(city), "orders": orders.latest(city)},
        required={"weather"},
        within=2.0,
        default={"orders": []},
    )
    return parts.as_dict()
