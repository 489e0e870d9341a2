"""An upstream that costs next to nothing, so that what is measured is the client.

    python benchmarks/server.py --port 9000 [--tls CERTIFICATE KEY]

`/small` answers 150 bytes of JSON, `/bytes/N` answers N bytes, with as much in memory as the socket takes. `/together/N` answers
once N such requests are waiting, each on a connection of its own; `/waiting` tells how many do. `/events` is a stream of events that
stays open after its first. A body that is sent is counted and dropped; the answer comes at its end.
"""

import argparse
import asyncio
import re
import resource
import ssl

import uvloop

SMALL = b'{"id":123,"name":"Ada Lovelace","email":"ada@example.com","roles":["admin","author"],"active":true,"score":98.5,"note":"a hundred and fifty bytes"}    '
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: bench\r\ndate: Sun, 22 Nov 2026 04:00:00 GMT\r\ncontent-length: %d\r\n\r\n"
ANSWER = HEAD % len(SMALL) + SMALL
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
PIECE = b"x" * (256 * 1024)
BUFFER = memoryview(bytearray(256 * 1024))

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search
waiting = []


class Answer(asyncio.BufferedProtocol):
    """Requests come one after the other and whole, as the clients here send them: nothing is parsed that nobody asks for."""

    def connection_made(self, transport):
        transport.set_write_buffer_limits(high=4 * len(PIECE))
        self.transport = transport
        self.head = b""
        self.missing = self.left = 0
        self.paused = False

    def get_buffer(self, sizehint):
        return BUFFER

    def buffer_updated(self, nbytes):
        if self.missing:
            self.received(nbytes)
            return
        self.head += BUFFER[:nbytes]
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            return
        head, came, self.head = self.head[:end], len(self.head) - end - 4, b""
        announced = LENGTH(head)
        self.target = head.split(b" ", 2)[1]
        self.missing = int(announced[1]) if announced else 0
        if self.missing:
            self.received(came)
        else:
            self.answer()

    def received(self, count):
        self.missing -= count
        if self.missing <= 0:
            self.missing = 0
            self.answer()

    def answer(self):
        target = self.target
        if target.startswith(b"/bytes/"):
            self.left = int(target[7:])
            self.transport.write(HEAD % self.left)
            self.go_on()
        elif target.startswith(b"/together/"):
            waiting.append(self.transport)
            if len(waiting) >= int(target[10:]):
                for transport in waiting:
                    transport.write(ANSWER)
                waiting.clear()
        elif target == b"/events":
            self.transport.write(EVENTS)
        elif target == b"/waiting":
            told = b'{"waiting":%d}' % len(waiting)
            self.transport.write(HEAD % len(told) + told)
        else:
            self.transport.write(ANSWER)

    def go_on(self):
        while self.left and not self.paused:
            piece = PIECE if self.left >= len(PIECE) else PIECE[: self.left]
            self.left -= len(piece)
            self.transport.write(piece)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.go_on()

    def connection_lost(self, error):
        self.left = 0
        if self.transport in waiting:
            waiting.remove(self.transport)


async def serve(port, tls):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", port, ssl=context, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--tls", nargs=2)
    chosen = options.parse_args()
    uvloop.run(serve(chosen.port, chosen.tls))
