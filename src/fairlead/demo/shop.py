"""An upstream of the demo: `python -m fairlead.demo.shop users --port 8101`. Everything it knows is made up on the spot.

Customer 13 has no orders to be found, and customer 7 bought what takes long to be priced. Neither opens a circuit: a 404 is an
answer, and who is late for one caller's hurry is not down.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import zlib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import uvicorn

from fairlead.errors import ConfigError
from fairlead.gateway.serve import listen

NAMES: Final = ("Ada", "Ben", "Cleo", "Dag", "Edda", "Finn", "Greta", "Hugo")
GOODS: Final = ("anchor", "barrel", "bell", "compass", "flag", "lantern", "rope", "sextant")
SLOW: Final = "ship-in-a-bottle"
PORTS: Final = {"users": 8101, "orders": 8102, "prices": 8103}

Answer = tuple[int, str]
Shop = Callable[[str, dict[str, list[str]]], Coroutine[Any, Any, Answer]]


async def users(path: str, query: dict[str, list[str]]) -> Answer:
    """GET /users/{id}"""
    if not path.startswith("/users/"):
        return 404, "null"
    name = unquote(path.removeprefix("/users/"))
    number = int(name) if re.fullmatch(r"0|[1-9][0-9]{0,17}", name) else name
    return 200, json.dumps({"id": number, "name": NAMES[_draw(name) % len(NAMES)], "points": _draw(name) % 1000})


async def orders(path: str, query: dict[str, list[str]]) -> Answer:
    """GET /orders?user={id}"""
    user = query.get("user", [""])[0]
    if path != "/orders" or user == "13":
        return 404, '{"error": "no orders of this customer"}'
    bought = [SLOW] if user == "7" else []
    bought += [GOODS[(_draw(user) + step) % len(GOODS)] for step in range(2)]
    return 200, json.dumps([{"sku": sku, "quantity": 1 + _draw(user + sku) % 3} for sku in bought])


async def prices(path: str, query: dict[str, list[str]]) -> Answer:
    """GET /prices?sku={sku}&sku={sku}"""
    if path != "/prices":
        return 404, "null"
    asked = query.get("sku", [])
    if SLOW in asked:
        await asyncio.sleep(4)
    # Two decimals, always: the gateway hands a number on as it was written.
    told = [f"{json.dumps(sku)}: {_draw(sku) % 9000 / 100 + 1:.2f}" for sku in asked]
    return 200, "{" + ", ".join(told) + "}"


SHOPS: Final[dict[str, Shop]] = {"users": users, "orders": orders, "prices": prices}


def application(shop: Shop) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        path, query = scope["path"], parse_qs(scope["query_string"].decode("latin-1"))
        if path.startswith("/sleep/"):
            seconds = min(float(path.removeprefix("/sleep/")), 10.0)
            await asyncio.sleep(seconds)
            status, body = 200, json.dumps({"slept": seconds})
        else:
            status, body = await shop(path, query)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})

    return app


def _draw(text: str) -> int:
    """The same number for the same text, in every process."""
    return zlib.crc32(text.encode())


async def serve(name: str, port: int, parent: int | None) -> None:
    """Serve until told to stop, or until the process that this one belongs to is gone."""
    config = uvicorn.Config(application(SHOPS[name]), log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listen("127.0.0.1", port)]))
    while not serving.done():
        if parent is not None and not _lives(parent):
            server.should_exit = True
        await asyncio.wait([serving], timeout=0.5)
    await serving


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fairlead.demo.shop", description="An upstream of the demo.")
    parser.add_argument("name", choices=SHOPS)
    parser.add_argument("--port", type=int, help="default: the one in the demo's file")
    parser.add_argument("--parent", type=int, help="a process without which this one ends")
    chosen = parser.parse_args()
    port = chosen.port or PORTS[chosen.name]
    print(f"{chosen.name}: http://127.0.0.1:{port}; kill {os.getpid()} stops it", flush=True)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(serve(chosen.name, port, chosen.parent))
    except ConfigError as error:
        raise SystemExit(f"{chosen.name}: {error.message}") from None


if __name__ == "__main__":
    main()
