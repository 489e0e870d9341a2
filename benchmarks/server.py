"""An upstream that costs next to nothing, so that what is measured is the client.

    python benchmarks/server.py --port 9000 [--tls CERTIFICATE KEY]

`/small` answers 150 bytes of JSON, `/bytes/N` answers N bytes.
"""

import argparse
import asyncio
import ssl

import httptools
import uvloop

SMALL = b'{"id":123,"name":"Ada Lovelace","email":"ada@example.com","roles":["admin","author"],"active":true,"score":98.5,"note":"a hundred and fifty bytes"}    '
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: bench\r\ndate: Sun, 22 Nov 2026 04:00:00 GMT\r\ncontent-length: %d\r\n\r\n"


class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_url(self, url):
        self.url = url

    def on_message_complete(self):
        size = int(self.url.rpartition(b"/")[2]) if self.url.startswith(b"/bytes/") else 0
        body = b"x" * size if size else SMALL
        self.transport.write(HEAD % len(body) + body)


async def serve(port, tls):
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
