"""On uvicorn, granian and hypercorn: clients that live with the application, errors as problems, and callers that leave."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, FastAPI, Request

from calls import now
from fairlead.client import HTTPClient
from fairlead.fastapi import Named, Use, lifespan, passthrough
from fairlead.policies import CookieJar
from fairlead.testing import script
from peers import PATIENCE, Peer, answer, closed_port, moment, mute
from servers import SERVERS, serving

on_each_server = pytest.mark.parametrize("server", SERVERS)


class Weather(HTTPClient, max_retries=0, timeout=10.0):
    pass


class Answer:
    """What a server answered, its fields by their names in lower case."""

    def __init__(self, head, body):
        first, *fields = head.decode("latin-1").split("\r\n")[:-2]
        self.status = int(first.split()[1])
        self.fields = [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in fields)]
        self.headers = dict(self.fields)
        self.body = body

    def json(self):
        return json.loads(self.body)

    def cookies(self):
        return [value for name, value in self.fields if name == "set-cookie"]


async def ask(port, path, headers=""):
    """What is answered to a GET, on a connection of its own that is closed after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
    async with asyncio.timeout(PATIENCE):
        head, body = await reader.readuntil(b"\r\n\r\n"), await reader.read()
    writer.close()
    await writer.wait_closed()
    found = Answer(head, body)
    if found.headers.get("transfer-encoding") == "chunked":
        pieces = []
        while body:
            size, _, body = body.partition(b"\r\n")
            pieces.append(body[: int(size, 16)])
            body = body[int(size, 16) + 2 :]
        found.body = b"".join(pieces)
    return found


def weather(*answers, then=None, **options):
    return Weather("http://weather.test", engine=script(*answers, then=then), **options)


# clients that live with the application


@on_each_server
async def test_clients_open_before_the_first_request_and_close_after_the_last(server):
    log = []

    class Noted(Weather):
        async def __aenter__(self):
            log.append(f"{self.name} opened")
            return await super().__aenter__()

        async def __aexit__(self, *told):
            await super().__aexit__(*told)
            log.append(f"{self.name} closed")

    @asynccontextmanager
    async def own(app):
        log.append("own opened")
        yield {"greeting": "hello"}
        log.append("own closed")

    clients = [Noted("http://weather.test", name=name, engine=script(then=(200, name))) for name in ("eu", "us")]
    app = FastAPI(lifespan=lifespan(*clients, then=own, eager=True, required=[Weather]))

    @app.get("/")
    async def route(request: Request, here: Annotated[Weather, Named("eu")], there: Annotated[Weather, Named("us")]):
        log.append("asked")
        return [
            request.state.greeting,
            request.state.eu is here,
            request.state.us is there,
            (await there.get("/")).text,
        ]

    async with serving(server, app) as port:
        assert (await ask(port, "/")).json() == ["hello", True, True, "us"]
        assert (await ask(port, "/health/live")).json() == {"live": True}
        assert (await ask(port, "/health/ready")).json()["ready"] is True
        assert list((await ask(port, "/health")).json()["services"]) == ["eu", "us"]
    assert log == ["eu opened", "us opened", "own opened", "asked", "own closed", "us closed", "eu closed"]


BROKEN = """
from fastapi import FastAPI
from fairlead import HTTPClient
from fairlead.fastapi import lifespan

class Weather(HTTPClient, base_url="http://127.0.0.1:{port}/v1"):
    pass

app = FastAPI(lifespan=lifespan(Weather, eager=True))
"""
COMMANDS = {
    "uvicorn": "broken:app --port {port}",
    "granian": "broken:app --interface asgi --port {port}",
    "hypercorn": "broken:app --bind 127.0.0.1:{port}",
}


@on_each_server
async def test_a_server_does_not_start_without_who_is_asked_at_the_start(server, tmp_path):
    pytest.importorskip(server)
    nobody = closed_port()
    (tmp_path / "broken.py").write_text(BROKEN.format(port=nobody))
    command = [sys.executable, "-m", server, *COMMANDS[server].format(port=closed_port()).split()]
    running = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(4 * PATIENCE):
            said, _ = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
    assert f"Weather at http://127.0.0.1:{nobody}/v1 is not healthy: ConnectFailed" in said.decode()


@on_each_server
async def test_errors_are_problems_there_too(server):
    app = FastAPI(lifespan=lifespan(weather(502, 0.1, 503, (429, "", {"Retry-After": "7"}), float("inf"))))

    @app.get("/")
    async def route(weather: Use[Weather]):
        await weather.get("/", timeout=0.2)

    async with serving(server, app) as port:
        answers = [await ask(port, "/", "X-Request-ID: abc-1\r\n") for _ in range(4)]
    assert [one.status for one in answers] == [502, 503, 503, 504]
    assert [one.headers.get("retry-after") for one in answers] == [None, "1", "7", None]
    for one in answers:
        assert one.headers["content-type"] == "application/problem+json"
        assert one.headers["x-request-id"] == one.json()["request_id"] == "abc-1"
        assert (one.json()["status"], one.json()["upstream"]) == (one.status, "Weather")


# callers that leave


@asynccontextmanager
async def waiting_for(server, peer):
    """A server whose handlers wait ten seconds for the peer, and what became of them, with the time."""
    became: list[tuple[str, float]] = []
    app = FastAPI(lifespan=lifespan(Weather(peer.url)))

    async def noting(what: str, client: Any):
        try:
            await client.get(f"/{what}")
        except asyncio.CancelledError:
            became.append((f"{what} was cancelled", now()))
            raise
        became.append((f"{what} was answered", now()))

    @app.get("/handler")
    async def handler(weather: Use[Weather]):
        await noting("handler", weather)

    @app.get("/background")
    async def background(weather: Use[Weather], tasks: BackgroundTasks):
        tasks.add_task(noting, "background", weather)

    async with serving(server, app) as port:
        yield port, became


async def sent(port, path):
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return writer


async def until(happened):
    async with asyncio.timeout(PATIENCE):
        while not happened():
            await moment()


@on_each_server
async def test_a_handler_that_awaits_ten_seconds_is_cancelled_within_a_tenth_of_its_callers_leaving(server):
    took = []
    async with Peer(mute) as peer, waiting_for(server, peer) as (port, became):
        for turn in range(1, 6):
            writer = await sent(port, "/handler")
            await peer.until(lambda: peer.open == 1)
            left = now()
            writer.close()
            await until(lambda turn=turn: len(became) == turn)
            took.append(became[-1][1] - left)
            await peer.empty()
    assert [what for what, _ in became] == ["handler was cancelled"] * 5
    # The machine may be busy elsewhere for once: it is not, five times in a row.
    assert min(took) < 0.1


@on_each_server
async def test_a_background_task_is_not_cancelled_and_comes_to_its_end(server):
    goes_on = asyncio.Event()

    async def late(line):
        seen = await line.request()
        if seen.target == "/background":
            await goes_on.wait()
            await line.say(answer(b"done"))
        else:
            await line.gone()

    async with Peer(late) as peer, waiting_for(server, peer) as (port, became):
        writer = await sent(port, "/background")
        await peer.until(lambda: peer.open == 1)
        writer.close()
        await writer.wait_closed()
        other = await sent(port, "/handler")  # whose leaving is noticed after that of the first
        await peer.until(lambda: peer.open == 2)
        other.close()
        await until(lambda: became)
        goes_on.set()
        await until(lambda: len(became) == 2)
    assert [what for what, _ in became] == ["handler was cancelled", "background was answered"]


# several users, one client


async def signs_in(line):
    """`/login/ada` makes whoever asks ada; everything else answers who one is."""
    while (seen := await line.request()) is not None:
        if seen.target.startswith("/login/"):
            name = seen.target.removeprefix("/login/").encode()
            await line.say(answer(b"in", b"Set-Cookie: session=%b; Path=/" % name))
        else:
            await line.say(answer(seen.get(b"cookie") or b"nobody"))


@asynccontextmanager
async def one_client_for_all(server, peer):
    app = FastAPI(lifespan=lifespan(Weather(peer.url)))
    jars = {user: CookieJar() for user in ("ada", "bob")}

    @app.get("/plain/login/{user}")
    async def login(user: str, weather: Use[Weather]):
        return (await weather.get(f"/login/{user}")).text

    @app.get("/plain/me")
    async def me(weather: Use[Weather]):
        return (await weather.get("/me")).text

    @app.get("/passed/{path:path}")
    async def passed(path: str, weather: Use[Weather]):
        return passthrough(weather.stream("GET", f"/{path}"))

    @app.get("/session/{user}/{path:path}")
    async def session(user: str, path: str, weather: Use[Weather]):
        return (await weather.get(f"/{path}", cookies=jars[user])).text

    async with serving(server, app) as port:
        yield port


@on_each_server
@pytest.mark.parametrize("way", ["plain", "passed"])
async def test_a_cookie_that_one_user_is_given_is_sent_for_nobody_else(server, way):
    async with Peer(signs_in) as peer, one_client_for_all(server, peer) as port:
        given = [await ask(port, f"/{way}/login/{user}") for user in ("ada", "bob")]
        # Whoever is asked through may keep it; the client between them keeps none.
        kept = {"plain": [[], []], "passed": [["session=ada; Path=/"], ["session=bob; Path=/"]]}[way]
        assert [one.cookies() for one in given] == kept
        answers = await asyncio.gather(*[ask(port, f"/{way}/me", "Cookie: session=ada\r\n") for _ in range(6)])
        assert [one.body.strip(b'"') for one in answers] == [b"nobody"] * 6
    assert all(seen.get(b"cookie") is None for seen in peer.requests)


@on_each_server
async def test_with_a_jar_for_each_user_each_has_its_own_cookies(server):
    users = ("ada", "bob")
    async with Peer(signs_in) as peer, one_client_for_all(server, peer) as port:
        await asyncio.gather(*[ask(port, f"/session/{user}/login/{user}") for user in users])
        asked = [user for _ in range(5) for user in users]
        answers = await asyncio.gather(*[ask(port, f"/session/{user}/me") for user in asked])
        assert [one.json() for one in answers] == [f"session={user}" for user in asked]
        assert not any(one.cookies() for one in answers)
        assert (await ask(port, "/plain/me")).json() == "nobody"
