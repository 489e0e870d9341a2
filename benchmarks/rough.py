"""A server with every fault: of six answers one is wrong, late, broken off or something else than was asked for.

    python benchmarks/rough.py --plain 9001 --secure 9002 [--seed 1] [--certificate server.pem]

What is asked for is the target: `/small`, `/bytes/N`, `/chunks`, `/slowly` (a piece now and then), `/gzip`, `/echo`.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from peers import Line, Peer, Seen, answer

SHARE = 1 / 6
"""Of answers that go wrong."""
STALL = 3.0
"""Seconds of silence: longer than any caller waits."""
OK = b"HTTP/1.1 200 OK\r\n"
JSON = b'{"id": 1, "name": "Ada"}'
GZIP = gzip.compress(b"the same words " * 200)

Fault = Callable[[Line, random.Random], Awaitable[bool]]
"""Says something wrong; True if the connection goes on."""


class Rough(Peer):
    """On a port that is known, so that another can take its place; what was asked is not kept."""

    def __init__(self, port: int, dice: random.Random, tls: ssl.SSLContext | None) -> None:
        super().__init__(self.serve, tls=tls)
        self.port = port
        self.dice = dice

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, self._host, self.port, ssl=self._tls, limit=1 << 20, backlog=1000
        )
        return self

    async def serve(self, line: Line) -> None:
        dice = self.dice
        while (seen := await line.head()) is not None:
            self.requests.clear()
            if dice.random() >= SHARE:
                await sound(line, seen, dice)
                if dice.random() < 0.02:  # an idle connection ends, soon or at once
                    await asyncio.sleep(dice.choice((0.0, 0.0, dice.random())))
                    (line.hang_up if dice.random() < 0.5 else line.reset)()
                    return
            elif not await dice.choice(FAULTS)(line, dice):
                return


async def sound(line: Line, seen: Seen, dice: random.Random) -> None:
    """The answer that was asked for."""
    body = await line.body(seen)
    kind, _, size = seen.target.strip("/").partition("/")
    if seen.method == "HEAD":
        await line.say(OK + b"Content-Length: 1000\r\n\r\n")
    elif kind == "bytes":
        await line.say(answer(bytes(int(size))))
    elif kind == "chunks":
        await line.say(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(dice.randrange(20)):
            await line.say(b"400\r\n" + bytes(1024) + b"\r\n")
        await line.say(b"0\r\nX-Late: yes\r\n\r\n")
    elif kind == "slowly":
        await line.say(OK + b"Content-Length: 5000\r\n\r\n")
        for _ in range(5):
            await asyncio.sleep(dice.random() * 0.05)
            await line.say(bytes(1000))
    elif kind == "gzip":
        await line.say(answer(GZIP, b"Content-Encoding: gzip"))
    elif kind == "echo":
        await line.say(answer(b"%d" % len(body)))
    else:
        await line.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" if dice.random() < 0.1 else b"", answer(JSON))


async def resets(line: Line, dice: random.Random) -> bool:
    line.reset()
    return False


async def hangs_up(line: Line, dice: random.Random) -> bool:
    line.hang_up()
    return False


async def stalls(line: Line, dice: random.Random) -> bool:
    await line.say(dice.choice((b"", OK, OK + b"Content-Length: 100\r\n\r\n", OK + b"Content-Length: 100\r\n\r\nhalf")))
    await asyncio.wait_for(line.gone(), STALL)
    return False


async def stops_reading(line: Line, dice: random.Random) -> bool:
    line.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(dice.random() * STALL)
    line.reset()
    return False


async def breaks_off(line: Line, dice: random.Random) -> bool:
    await line.say(
        OK, dice.choice((b"", b"Content-Length: 1000\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"))
    )
    (line.hang_up if dice.random() < 0.5 else line.reset)()
    return False


async def drips(line: Line, dice: random.Random) -> bool:
    await line.say(OK + b"Content-Length: 1000\r\n\r\n")
    for _ in range(int(STALL / 0.05)):
        await line.say(b"x")
        await asyncio.sleep(0.05)
    line.hang_up()
    return False


async def talks_nonsense(line: Line, dice: random.Random) -> bool:
    await line.say(
        dice.choice(
            (
                b"220 mail.example ESMTP\r\n",
                dice.randbytes(100),
                OK + b"Content-Length: two\r\n\r\n",
                OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
                OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                OK + b"X: " + b"x" * 70_000,
                OK + b"X: y\r\n" * 300 + b"\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
                answer(GZIP[:50], b"Content-Encoding: gzip"),
                answer(b"not what it says", b"Content-Encoding: gzip"),
            )
        )
    )
    await asyncio.wait_for(line.gone(), STALL)
    return False


async def says_too_much(line: Line, dice: random.Random) -> bool:
    await line.say(answer(JSON) + dice.choice((b"junk", b"\r\n\r\n", answer(JSON))))
    await asyncio.wait_for(line.gone(), STALL)
    return False


async def answers_early(line: Line, dice: random.Random) -> bool:
    """Before the request is read; what is left of that is read as another."""
    await line.say(answer(b"early"))
    await asyncio.sleep(dice.random() * 0.1)
    line.hang_up()
    return False


async def is_busy(line: Line, dice: random.Random) -> bool:
    status = dice.choice((b"503 Service Unavailable", b"500 Internal Server Error", b"429 Too Many Requests"))
    await line.say(
        answer(
            b"busy", *dice.choice(((), (b"Retry-After: 0",), (b"Retry-After: 1",))), b"Connection: close", status=status
        )
    )
    line.hang_up()
    return False


FAULTS: tuple[Fault, ...] = (
    resets, hangs_up, stalls, stops_reading, breaks_off, breaks_off, drips, talks_nonsense, says_too_much, answers_early, is_busy, is_busy,
)  # fmt: skip


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--plain", type=int, required=True)
    arguments.add_argument("--secure", type=int, required=True)
    arguments.add_argument("--certificate", required=True)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # its faults are its own
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given.certificate)
    dice = random.Random(given.seed)
    async with Rough(given.plain, dice, None), Rough(given.secure, dice, context):
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
