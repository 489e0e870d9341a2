"""The endpoint as the tutorials write it, at its best: FastAPI, one shared httpx2 client, stamina, asyncio.gather.

Time-outs and limits are set, retries are bounded, jittered and for passing faults only, the parts run at once, and one that
fails is told beside the others. `RETRY_POSTS=no` is the careful reader's version, whose POST is sent once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import stamina
from fastapi import FastAPI, HTTPException, Request

USERS, ORDERS, PRICES = (os.environ[f"{name}__BASE_URL"] for name in ("USERS", "ORDERS", "PRICES"))
RETRY_POSTS = os.environ.get("RETRY_POSTS") != "no"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    timeout = httpx2.Timeout(3.0, connect=1.0)
    limits = httpx2.Limits(max_connections=100, max_keepalive_connections=20)
    async with httpx2.AsyncClient(timeout=timeout, limits=limits) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


def passing(error: Exception) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in {408, 429, 500, 502, 503, 504}
    return isinstance(error, httpx2.TransportError)


async def once(client: httpx2.AsyncClient, method: str, url: str, **options: Any) -> Any:
    response = await client.request(method, url, **options)
    response.raise_for_status()
    return response.json()


retried = stamina.retry(on=passing, attempts=3, timeout=3.0, wait_initial=0.05, wait_jitter=0.05, wait_max=1.0)(once)
placed = retried if RETRY_POSTS else once


@app.post("/checkout/{user}/{order}")
async def checkout(user: str, order: str, request: Request) -> dict[str, Any]:
    client = request.app.state.client
    parts = {
        "user": retried(client, "GET", f"{USERS}/users/{user}"),
        "prices": retried(client, "GET", f"{PRICES}/prices", params={"sku": ["rope", "bell"]}),
        "history": retried(client, "GET", f"{ORDERS}/orders", params={"user": user}),
        "order": placed(client, "POST", f"{ORDERS}/orders", json={"id": order, "user": user}),
    }
    results = dict(zip(parts, await asyncio.gather(*parts.values(), return_exceptions=True), strict=True))
    failed = {name: result for name, result in results.items() if isinstance(result, BaseException)}
    if "user" in failed:
        raise HTTPException(502, "user: no answer")
    return {
        "data": {name: None if name in failed else result for name, result in results.items()},
        "complete": not failed,
        "errors": [{"service": name, "error": type(error).__name__} for name, error in failed.items()],
    }
