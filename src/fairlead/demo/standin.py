"""The upstreams of the comparison: they answer at once, count what they are asked, and `orders` can die.

`dying`, it carries a request out and loses the connection before the answer; `down`, it takes the request and closes. Each
order has an id, so what was carried out twice is known here and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any, Final, cast

import httptools

MODES: Final = ("up", "dying", "down")


class Stand:
    """What the three upstreams and the one who asks about them have in common."""

    def __init__(self) -> None:
        self.mode = "up"
        self.placed: Counter[str] = Counter()
        self.refused = 0
        """Requests that came while it was not well: dying, or down."""

    def answer(self, name: str, method: str, target: str, body: bytes) -> tuple[int, Any] | None:
        """Status and document; None where the connection is lost instead."""
        path = target.partition("?")[0]
        if name == "control":
            return self.control(path)
        if name == "users":
            return 200, {"id": path.rpartition("/")[2], "name": "Ada", "email": "ada@example.org", "points": 12}
        if name == "prices":
            return 200, {"rope": 12.5, "bell": 99.9}
        if self.mode != "up":
            self.refused += 1
        if self.mode == "down":
            return None
        if method == "POST":
            order = json.loads(body)
            self.placed[order["id"]] += 1
            document: Any = {"id": order["id"], "status": "placed"}
        else:
            document = [{"sku": "rope", "quantity": 2}, {"sku": "bell", "quantity": 1}]
        return (200, document) if self.mode == "up" else None

    def control(self, path: str) -> tuple[int, Any]:
        if path.removeprefix("/") in MODES:
            self.mode = path.removeprefix("/")
            return 200, None
        told = {"placed": self.placed, "refused": self.refused}
        self.placed, self.refused = Counter(), 0
        return 200, told


class Exchange(asyncio.Protocol):
    """One connection."""

    def __init__(self, stand: Stand, name: str) -> None:
        self.stand = stand
        self.name = name
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.target, self.body = b"", b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        answer = self.stand.answer(self.name, self.parser.get_method().decode(), self.target.decode(), self.body)
        if answer is None:
            self.transport.abort()
            return
        status, document = answer
        body = json.dumps(document).encode()
        head = b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        self.transport.write(head + body)


async def serve(ports: dict[str, int]) -> None:
    stand, loop = Stand(), asyncio.get_running_loop()
    for name, port in ports.items():
        await loop.create_server(lambda name=name: Exchange(stand, name), "127.0.0.1", port)  # type: ignore[misc]
    await loop.create_future()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(dict(zip(("users", "orders", "prices", "control"), map(int, sys.argv[1:]), strict=True))))
