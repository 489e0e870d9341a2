"""A file of any size, written while it arrives, with a constant amount of memory: `python download.py URL FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fairlead import HTTPClient, Timeout


async def download(url: str, file: Path) -> int:
    size = 0
    # No bound on the whole: as long as bytes arrive at least every ten seconds, it may take what it takes.
    async with (
        HTTPClient(timeout=Timeout(total=None, attempt=10.0)) as client,
        client.stream("GET", url) as response,
    ):
        response.raise_for_status()
        with file.open("wb") as out:
            async for chunk in response.aiter_bytes():
                size += out.write(chunk)
    return size


if __name__ == "__main__":
    print(asyncio.run(download(sys.argv[1], Path(sys.argv[2]))), "bytes")
