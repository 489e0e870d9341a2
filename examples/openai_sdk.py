"""OpenAI's SDK on our policies and our engine: an answer read while it is written, and asked for again where that is safe."""

from __future__ import annotations

import asyncio
import sys

import httpx2
from openai import AsyncOpenAI

from fairlead.transport import AsyncTransport


async def main(question: str) -> None:
    # `max_retries=0`: the policies try again. `idempotent=True`: they may do so with a POST, and each try carries the same key.
    http = httpx2.AsyncClient(transport=AsyncTransport(idempotent=True))
    async with AsyncOpenAI(http_client=http, max_retries=0) as sdk:
        answer = await sdk.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": question}], stream=True
        )
        async with answer:
            async for chunk in answer:
                for choice in chunk.choices:
                    print(choice.delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:])))
