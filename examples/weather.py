"""Declared calls: a client is a class, a call is its signature. Run it against any host that speaks this little API:

WEATHER__BASE_URL=http://127.0.0.1:8000 WEATHER_KEY=secret python examples/weather.py Oslo Lima
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from fairlead import Bearer, FairleadError, HTTPClient, gather, get, post


@dataclass
class Forecast:
    city: str
    celsius: float


@dataclass
class Report:
    city: str
    text: str


@dataclass
class Receipt:
    number: int


class Weather(HTTPClient, base_url="https://api.weather.example", timeout=3.0):
    auth = Bearer(env="WEATHER_KEY")

    @get("/v1/cities/{city}")
    async def current(self, city: str, units: str = "metric") -> Forecast: ...

    @post("/v1/reports", retry=None, timeout=30.0)
    async def report(self, body: Report) -> Receipt: ...


async def main(cities: list[str]) -> None:
    async with Weather() as weather:
        answers = await gather({city: weather.current(city) for city in cities}, within=5.0)
        for city, part in answers.services.items():
            print(f"{city}: {part.value.celsius:.1f} degrees" if part.status == "ok" else f"{city}: {part.error}")
        try:
            receipt = await weather.report(Report(cities[0], "mild"))
        except FairleadError as error:
            print(f"not reported: {error}")
        else:
            print(f"reported as number {receipt.number}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
