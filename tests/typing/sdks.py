"""One transport fits httpx2 and httpx, and so whatever is made on either."""

from __future__ import annotations

import anthropic
import httpx
import httpx2
import openai

from fairlead import HTTPClient
from fairlead.policies import Retry
from fairlead.transport import AsyncTransport


async def both() -> None:
    transport = AsyncTransport()
    async with httpx2.AsyncClient(transport=transport) as ours, httpx.AsyncClient(transport=transport) as theirs:
        await ours.get("https://api.example")
        await theirs.get("https://api.example")


def sdks() -> None:
    http = httpx2.AsyncClient(transport=AsyncTransport(HTTPClient("https://api.example"), close=True))
    openai.AsyncOpenAI(http_client=http, max_retries=0)
    anthropic.AsyncAnthropic(http_client=http, max_retries=0)


def policies() -> None:
    AsyncTransport((Retry(),), idempotent=True)
    AsyncTransport([Retry()])
    AsyncTransport("https://api.example")  # type: ignore[arg-type]
