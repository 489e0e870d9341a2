"""Many URLs, ten at a time, each told of as it finishes: `python pages.py < urls.txt`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from fairlead import fetch_all


async def main(urls: Iterable[str]) -> None:
    async for page in fetch_all(urls, limit=10, timeout=20.0):
        told = page.error if page.status is None else f"{page.status}, {len(page.content)} bytes"
        print(f"{page.url}: {told}")


if __name__ == "__main__":
    asyncio.run(main(line.strip() for line in sys.stdin))
