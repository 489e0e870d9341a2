"""A declared client, as a user writes it: each call answers what its signature says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from fairlead import Bearer, HTTPClient, Response, Retry, Timeout, delete, get, post


@dataclass
class Forecast:
    city: str
    celsius: float


@dataclass
class Report:
    city: str
    text: str


class Weather(HTTPClient, base_url="https://api.weather.example", timeout=3.0):
    auth = Bearer(env="WEATHER_KEY")

    @get("/v1/current")
    async def current(self, city: str, units: str = "metric") -> Forecast: ...

    @get("/v1/cities/{city}/days", timeout=Timeout(total=5.0, attempt=1.0), retry=Retry(retries=4))
    async def days(self, city: str, *, limit: int | None = None) -> list[Forecast]: ...

    @post("/v1/reports", retry=None, timeout=30.0, headers={"Accept": "text/plain"})
    async def report(self, body: Report) -> str: ...

    @post("/v1/reports/import", idempotent=True)
    async def load(self, body: bytes) -> dict[str, Any]: ...

    @delete("/v1/reports/{number}")
    async def forget(self, number: int) -> None: ...

    @get("/v1/map.png", raise_for_status=False)
    async def map(self) -> Response: ...


class Cached(Weather, name="cached", max_retries=0):
    """An ordinary method over a declared one, in a subclass with keywords of its own."""

    def __init__(self, region: str) -> None:
        super().__init__(headers={"X-Region": region})
        self.seen: dict[str, Forecast] = {}

    async def current(self, city: str, units: str = "metric") -> Forecast:
        if city not in self.seen:
            self.seen[city] = await super().current(city, units)
        return self.seen[city]


async def calls(weather: Weather) -> None:
    assert_type(await weather.current("Oslo"), Forecast)
    assert_type(await weather.current(city="Oslo", units="imperial"), Forecast)
    assert_type(await weather.days("Oslo", limit=3), list[Forecast])
    assert_type(await weather.report(Report("Oslo", "mild")), str)
    assert_type(await weather.load(b"..."), dict[str, Any])
    assert_type(await weather.map(), Response)
    await weather.forget(7)
    assert_type(await Cached("north").current("Oslo"), Forecast)
