"""One client with every argument of the guide: opened, asked three things, closed."""

from __future__ import annotations

import asyncio

from fairlead import HTTPClient

client = HTTPClient(
    base_url="https://api.example.com",
    timeout=30.0,
    max_retries=3,
    retry_delay=1.0,
    retry_backoff=2.0,
    headers={"Authorization": "Bearer YOUR_TOKEN"},
    max_connections=100,
    max_keepalive_connections=20,
    trace_enabled=True,
)


async def main() -> None:
    async with client:
        response = await client.get("/users/123")
        data = response.json()
        print(f"user {data['id']}: {data['name']}")

        response = await client.post("/users", json={"name": "Ada", "email": "ada@example.com"})
        print(f"created: {response.status_code}")

        response = await client.get("/users", params={"page": 1, "page_size": 10})
        print(f"{len(response.json())} users")
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
