"""Clients in a FastAPI application: one for its whole life, one for each request. Run it: `uvicorn guide_fastapi:app`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from guide_wechat import WeChatAPIClient

from fairlead import HTTPClient

client: HTTPClient | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    global client
    client = HTTPClient(base_url="https://api.example.com", timeout=30.0, max_retries=3)
    yield
    await client.close()


app = FastAPI(lifespan=lifespan)


async def get_wechat_client() -> AsyncGenerator[WeChatAPIClient, None]:
    async with WeChatAPIClient(app_id="your-app-id", app_secret="your-app-secret") as client:
        yield client


@app.get("/users/{user_id}")
async def read_user(user_id: int) -> Any:
    assert client is not None
    response = await client.get(f"/users/{user_id}")
    return response.json()


@app.post("/notify/{openid}")
async def notify(openid: str, wechat: Annotated[WeChatAPIClient, Depends(get_wechat_client)]) -> dict[str, Any]:
    return await wechat.send_template_message(openid, "TEMPLATE_ID", {"first": {"value": "Hello"}})


@app.get("/health")
async def health() -> dict[str, bool]:
    assert client is not None
    return {"upstream": await client.health_check()}
