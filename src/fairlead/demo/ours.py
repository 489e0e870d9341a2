"""The endpoint with Fairlead: FastAPI, three client classes, `gather`. The base URLs come from the environment."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from fairlead import HTTPClient, gather, get, post
from fairlead.fastapi import Use, lifespan


class Users(HTTPClient, timeout=3.0):
    @get("/users/{number}")
    async def user(self, number: str) -> dict[str, Any]: ...


class Prices(HTTPClient, timeout=3.0):
    @get("/prices")
    async def of(self, sku: list[str]) -> dict[str, float]: ...


class Orders(HTTPClient, timeout=3.0):
    @get("/orders")
    async def history(self, user: str) -> list[dict[str, Any]]: ...

    @post("/orders")
    async def place(self, body: dict[str, str]) -> dict[str, Any]: ...


app = FastAPI(lifespan=lifespan(Users, Prices, Orders))


@app.post("/checkout/{user}/{order}")
async def checkout(
    user: str, order: str, users: Use[Users], prices: Use[Prices], orders: Use[Orders]
) -> dict[str, Any]:
    parts = await gather(
        {
            "user": users.user(user),
            "prices": prices.of(["rope", "bell"]),
            "history": orders.history(user),
            "order": orders.place({"id": order, "user": user}),
        },
        required={"user"},
    )
    return parts.as_dict()
