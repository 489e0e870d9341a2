"""Without await, in threads; and work that blocks, in threads of ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_type

from fastapi import FastAPI

from fairlead import HTTPClient, Response, get
from fairlead.fastapi import Use, lifespan, provide
from fairlead.offload import Offload, offload
from fairlead.sync import SyncHTTPClient, SyncResponse, plain


@dataclass
class Forecast:
    sky: str


class Weather(HTTPClient, base_url="https://api.weather.example"):
    @get("/v1/current")
    async def current(self, city: str, *, units: str = "metric") -> Forecast: ...

    async def both(self, one: str, other: str) -> list[Forecast]:
        return [await self.current(one), await self.current(other)]


class SyncWeather(SyncHTTPClient, of=Weather, timeout=2.0):
    current = plain(Weather.current)
    both = plain(Weather.both)

    def first(self, *cities: str) -> Forecast:
        return self.current(cities[0])


def declared(weather: SyncWeather) -> None:
    assert_type(weather.current("Oslo", units="imperial"), Forecast)
    assert_type(weather.both("Oslo", "Rome"), list[Forecast])
    assert_type(SyncWeather.of(Weather("https://api.example")), SyncWeather)
    weather.current()  # type: ignore[call-arg]
    weather.current(7)  # type: ignore[arg-type]
    weather.curent("Oslo")  # type: ignore[attr-defined]
    print(weather.current("Oslo").sun)  # type: ignore[attr-defined]  # noqa: T201


def verbs(client: SyncHTTPClient) -> None:
    assert_type(client.get("/a"), Response)
    assert_type(client.get("/a", into=Forecast), Forecast)
    assert_type(client.post("/a", json={"b": 1}, into=list[Forecast], timeout=1.0), list[Forecast])
    assert_type(client.request("GET", "/a", into=Forecast), Forecast)
    assert_type(client.send(client.build_request("GET", "/a", params={"page": 1})), Response)
    assert_type(client.health_check(), bool)
    client.get("/a", paramz={"page": 1})  # type: ignore[call-overload]
    client.get("/a", json={"b": 1})  # type: ignore[call-overload]
    client.close(drain=5.0)


def streams(client: SyncHTTPClient) -> Iterator[bytes]:
    with client.stream("GET", "/export", timeout=60.0) as response:
        assert_type(response, SyncResponse)
        assert_type(response.read(), bytes)
        for line in response.iter_lines():
            assert_type(line, str)
        yield from response.iter_bytes()


def opened_and_closed() -> None:
    with SyncHTTPClient("https://api.example", timeout=3.0) as client:
        assert_type(client, SyncHTTPClient)
    with SyncWeather(max_retries=0) as weather:
        assert_type(weather, SyncWeather)
    SyncHTTPClient(retries=3)  # type: ignore[call-arg]


class Misspelt(SyncHTTPClient, base_ulr="https://api.example"):  # type: ignore[call-arg]
    pass


app = FastAPI(lifespan=lifespan(SyncWeather))


@app.get("/sky/{city}")
def sky(city: str, weather: Use[SyncWeather]) -> str:
    assert_type(weather, SyncWeather)
    return weather.current(city).sky


app.dependency_overrides[provide(SyncWeather)] = lambda: SyncWeather("http://127.0.0.1:8000")


def parse(data: bytes, *, strict: bool = False) -> list[int]:
    return [len(data)] if strict else []


async def blocking(pool: Offload) -> None:
    assert_type(await offload(parse, b"a", strict=True), list[int])
    assert_type(await pool(parse, b"a"), list[int])
    await offload(parse, "a")  # type: ignore[arg-type]
    await offload(parse, b"a", srict=True)  # type: ignore[call-arg]
    Offload(thread=8)  # type: ignore[call-arg]
