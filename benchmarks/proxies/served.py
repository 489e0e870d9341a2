"""What is served by uvicorn here, one worker on uvloop and httptools: ours, what it is made of, and FastAPI's usual way.

    python benchmarks/proxies/served.py ours 8080 9000        kind, port, port of the upstream

Each kind imports what it needs, so that no memory is another's.
"""

import resource
import sys

import uvicorn


def ours(upstream: str):
    """`ReverseProxy`, with every policy that a client has by default."""
    from fairlead import HTTPClient
    from fairlead.proxy import ReverseProxy

    return ReverseProxy(HTTPClient(base_url=upstream, max_connections=16384))


def mounted(upstream: str):
    """The same, mounted in a FastAPI application that has nothing else."""
    from contextlib import asynccontextmanager

    from fastapi import FastAPI

    from fairlead import HTTPClient
    from fairlead.proxy import ReverseProxy

    client = HTTPClient(base_url=upstream, max_connections=16384)

    @asynccontextmanager
    async def live(app):
        async with client:
            yield

    app = FastAPI(lifespan=live)
    app.mount("/", ReverseProxy(client))
    return app


def bare(upstream: str):
    """`ReverseProxy`, with no policy: its rules and the engine."""
    from fairlead import HTTPClient
    from fairlead.proxy import ReverseProxy

    return ReverseProxy(HTTPClient(base_url=upstream, policies=()))


def call(upstream: str):
    """No proxy: an application that makes one call with no policy, and answers with what came back."""
    from fairlead import HTTPClient

    client = HTTPClient(base_url=upstream, policies=())

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        response = await client.get(scope["path"])
        head = [(name, value) for name, value in response.headers.raw]
        await send({"type": "http.response.start", "status": response.status_code, "headers": head})
        await send({"type": "http.response.body", "body": response.content})

    return app


def alone(upstream: str):
    """No proxy and no call: an application that has its answer, or a stream that stays open, and does nothing else."""
    from server import HEAD, SMALL

    lines = (HEAD % len(SMALL)).split(b"\r\n")[1:-2]
    head = [tuple(line.split(b": ", 1)) for line in lines]

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        if scope["path"] == "/events":
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            )
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            await receive()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": SMALL})

    return app


def tutorial(upstream: str):
    """FastAPI with httpx2, as it is shown everywhere: a request built, sent with `stream=True`, and closed in the background."""
    import httpx2
    from fastapi import FastAPI, Request
    from fastapi.responses import StreamingResponse
    from starlette.background import BackgroundTask

    app = FastAPI()
    client = httpx2.AsyncClient(base_url=upstream, limits=httpx2.Limits(max_connections=None), timeout=None)

    @app.get("/{path:path}")
    async def proxy(path: str, request: Request):
        url = httpx2.URL(path=f"/{path}", query=request.url.query.encode("utf-8") or None)
        asked = client.build_request(request.method, url, headers=request.headers.raw)
        answer = await client.send(asked, stream=True)
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            headers=answer.headers,
            background=BackgroundTask(answer.aclose),
        )

    return app


KINDS = {kind.__name__: kind for kind in (ours, mounted, bare, call, alone, tutorial)}

if __name__ == "__main__":
    _, chosen, port, upstream = sys.argv
    sys.path.append(__file__.rpartition("/proxies/")[0])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    app = KINDS[chosen](f"http://127.0.0.1:{upstream}")
    uvicorn.run(
        app,
        port=int(port),
        loop="uvloop",
        http="httptools" if chosen == "tutorial" else "fairlead.proxy.uvicorn:Protocol",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=4096,
    )
