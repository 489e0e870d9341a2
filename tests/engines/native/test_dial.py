"""How a connection is made, and how old it may get: addresses in turn, Unix sockets, what is told of files, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import pytest

from fairlead import ConfigError, HTTPClient, Timeout
from fairlead.engines.native.dial import Reach
from fairlead.engines.native.resolve import NEGATIVE_TTL
from fairlead.errors import AttemptTimedOut, ConnectFailed
from fairlead.testing import Cut, VirtualLoop, at_every_await, at_every_step, virtual_time
from peers import PATIENCE, Crowd, Line, Peer, authority, echo, loops, moment

ENGINES = ("native", "httpx2", "aiohttp")


def sockets() -> int:
    """How many this process has open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # of the descriptor that reads the directory
            found += str(entry.readlink()).startswith("socket:")
    return found


@contextmanager
def listening(path: Path, *, backlog: int = 100) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        yield listener


class UnixPeer(Peer):
    """A peer at a path."""

    def __init__(self, path: Path, talk: Any, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(talk, tls=tls)
        self.path = str(path)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self.path, ssl=self._tls)
        return self


class TestAddresses:
    async def test_those_that_refuse_are_passed_over(self, names):
        async with Peer(echo) as peer, HTTPClient(f"http://several.example:{peer.port}") as client:
            names["several.example"] = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
            assert (await client.post("/", content=b"ok")).content == b"ok"

    async def test_one_that_does_not_answer_is_not_waited_for(self, names):
        with Crowd() as crowd:
            port = int(crowd.url.rpartition(":")[2])
            with socket.create_server(("127.0.0.2", port)) as listener:
                names["several.example"] = ["127.0.0.1", "127.0.0.2"]
                made = await asyncio.wait_for(Reach()(asyncio.Protocol, "several.example", port), PATIENCE)
                assert made[0].get_extra_info("peername")[0] == "127.0.0.2"
                made[0].abort()
                listener.accept()[0].close()

    async def test_when_none_answers_the_next_call_asks_anew_where_they_are(self, names):
        async with Peer(echo) as peer, HTTPClient(f"http://moved.example:{peer.port}", max_retries=0) as client:
            names["moved.example"] = ["127.0.0.2", "127.0.0.3"]
            with pytest.raises(ConnectFailed, match="refused the connection: is it running"):
                await client.get("/")
            names["moved.example"] = ["127.0.0.1"]
            assert (await client.get("/")).status_code == 200
            assert names["asked"] == ["moved.example"] * 2

    async def test_a_host_that_answers_for_another_is_asked_for_anew(self, names):
        names["moved.example"] = ["127.0.0.1"]
        async with Peer(echo, tls=authority().server("other.example")) as peer:
            url = f"https://moved.example:{peer.port}"
            async with HTTPClient(url, verify=authority().client(), max_retries=0) as client:
                for _ in range(2):
                    with pytest.raises(ConnectFailed, match=r"certificate of moved\.example is not trusted"):
                        await client.get("/")
        assert names["asked"] == ["moved.example"] * 2

    async def test_many_calls_at_once_ask_once(self, names):
        names["a.example"] = ["127.0.0.1"]
        async with Peer(echo) as peer, HTTPClient(f"http://a.example:{peer.port}") as client:
            await asyncio.gather(*[client.get("/") for _ in range(30)])
        assert names["asked"] == ["a.example"]
        assert peer.accepted > 1

    async def test_who_is_unknown_is_not_asked_for_again_by_each_attempt(self, names):
        async with HTTPClient("http://nobody.example", max_retries=2, retry_delay=NEGATIVE_TTL / 100) as client:
            with pytest.raises(ConnectFailed, match=r"unknown host nobody\.example"):
                await client.get("/")
        assert names["asked"] == ["nobody.example"]

    @pytest.mark.parametrize("timeout", [Timeout(PATIENCE, connect=0.02), Timeout(PATIENCE, attempt=0.02)])
    async def test_a_lookup_that_does_not_end_is_bounded_as_connecting_is(self, monkeypatch, timeout):
        await self.unending(monkeypatch, timeout)

    @virtual_time
    async def test_and_by_the_deadline_alone(self, monkeypatch):
        """On virtual time: on a slow machine the attempt begins late, and has not had all of it."""
        await self.unending(monkeypatch, Timeout(0.02))

    async def unending(self, monkeypatch, timeout):
        async def ask(host):
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr("fairlead.engines.native.resolve._system", ask)
        async with HTTPClient("http://slow.example", max_retries=0, timeout=timeout) as client:
            with pytest.raises(AttemptTimedOut) as caught:
                await client.get("/")
            assert (caught.value.phase, caught.value.knowledge) == ("connecting", "not_sent")
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_closing_ends_a_lookup(self, monkeypatch):
        begun = asyncio.Event()

        async def ask(host):
            begun.set()
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr("fairlead.engines.native.resolve._system", ask)
        client = HTTPClient("http://slow.example")
        call = asyncio.create_task(client.get("/"))
        await begun.wait()
        async with asyncio.timeout(PATIENCE):
            await client.close(drain=0)
            with pytest.raises(ConfigError, match="closed"):
                await call
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_a_fault_is_told_in_the_words_of_the_system(self, names):
        names["far.example"] = ["255.255.255.255"]
        async with HTTPClient("http://far.example", max_retries=0) as client:
            with pytest.raises(ConnectFailed, match=r"could not connect to http://far\.example: (Network|Permission)"):
                await client.get("/")

    @pytest.mark.parametrize("host", [".example", "a..example", f"{'a' * 64}.example"])
    async def test_a_name_that_is_none_is_an_unknown_host(self, host):
        async with HTTPClient(f"https://{host}", max_retries=0, verify=False) as client:
            with pytest.raises(ConnectFailed):
                await client.get("/")

    def test_a_cancellation_is_never_swallowed_with_those_that_lost(self, monkeypatch):
        """The slower addresses are cancelled when one has answered; who calls may be cancelled in that very moment."""

        async def slowly(loop: VirtualLoop, sock: socket.socket, address: Any) -> None:
            if address[0] == "192.0.2.1":
                try:
                    await asyncio.sleep(60)
                finally:
                    await asyncio.sleep(0)  # giving up takes a moment
            await asyncio.sleep(1)

        monkeypatch.setattr(VirtualLoop, "sock_connect", slowly)

        async def ask(host):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("192.0.2.1", "192.0.2.2")]

        monkeypatch.setattr("fairlead.engines.native.resolve._system", ask)
        ends: list[str] = []

        async def story(cut: Cut) -> None:
            async def work() -> None:
                try:
                    (await Reach()(asyncio.Protocol, "a.example", 80))[0].abort()
                except OSError:
                    pass  # what is connected is no connection
                except asyncio.CancelledError:
                    ends.append("cancelled")
                    raise
                ends.append("done")

            await cut(work())

        before = sockets()
        at_every_step(story)
        gc.collect()
        assert sockets() == before
        assert ends == sorted(ends), "one that came late was heard, and an earlier one not"
        assert set(ends) == {"cancelled", "done"}


class TestUnixSockets:
    @pytest.mark.parametrize("engine", ENGINES)
    async def test_the_base_url_names_the_host_and_the_path_is_connected_to(self, engine, tmp_path):
        path = tmp_path / "app.sock"
        async with (
            UnixPeer(path, echo) as peer,
            HTTPClient("http://app.example:8000/v1", uds=str(path), engine=engine) as client,
        ):
            for _ in range(3):
                assert (await client.post("/a?b=1", content=b"ok")).content == b"ok"
        assert {(seen.target, seen.get(b"host")) for seen in peer.requests} == {("/v1/a?b=1", b"app.example:8000")}
        assert peer.accepted == 1

    @pytest.mark.parametrize("engine", ["native", "httpx2"])
    async def test_tls_is_spoken_to_the_host_of_the_base_url(self, engine, tmp_path):
        path = tmp_path / "app.sock"
        async with UnixPeer(path, echo, authority().server("app.example")):
            options: dict[str, Any] = {"uds": str(path), "verify": authority().client(), "engine": engine}
            async with HTTPClient("https://app.example", **options) as client:
                assert (await client.post("/", content=b"ok")).content == b"ok"
            async with HTTPClient("https://other.example", max_retries=0, **options) as client:
                with pytest.raises(ConnectFailed, match=r"certificate of other\.example is not trusted"):
                    await client.get("/")

    async def test_aiohttp_sends_nothing_in_the_clear_that_should_be_encrypted(self, tmp_path):
        path = tmp_path / "app.sock"
        async with UnixPeer(path, echo) as peer:
            async with HTTPClient("https://app.example", uds=str(path), engine="aiohttp") as client:
                with pytest.raises(ConfigError, match="no TLS over a Unix socket"):
                    await client.get("/")
            assert peer.accepted == 0

    @pytest.mark.parametrize("engine", ENGINES)
    async def test_a_path_that_nobody_listens_at_is_named(self, engine, tmp_path):
        path = tmp_path / "none.sock"
        async with HTTPClient("http://app.example", uds=str(path), engine=engine, max_retries=0) as client:
            with pytest.raises(ConnectFailed, match=rf"could not connect to {path}: No such file") as caught:
                await client.get("/")
            assert caught.value.knowledge == "not_sent"
            with listening(path):
                pass
            with pytest.raises(ConnectFailed, match=rf"{path} refused the connection"):
                await client.get("/")

    async def test_a_full_line_is_an_error_and_no_connection(self, tmp_path):
        path = tmp_path / "full.sock"
        with listening(path, backlog=0), ExitStack() as crowd:
            while True:
                sock = crowd.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                try:
                    sock.connect(str(path))
                except BlockingIOError:
                    break
            async with HTTPClient("http://app.example", uds=str(path), max_retries=0) as client:
                with pytest.raises(ConnectFailed, match="temporarily unavailable") as caught:
                    await client.post("/")
                assert caught.value.knowledge == "not_sent"

    @pytest.mark.parametrize("path", ["", "/" + "x" * 107, "/a\0b"])
    def test_what_is_no_path_is_said_to_be_so(self, path):
        with pytest.raises(ConfigError, match="is not the path of a Unix socket"):
            HTTPClient("http://app.example", uds=path)

    def test_a_socket_and_a_proxy_cannot_both_be_meant(self):
        with pytest.raises(ConfigError, match="uds= and proxy="):
            HTTPClient("http://app.example", uds="/run/app.sock", proxy="http://127.0.0.1:1")


class TestAge:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("option", ["max_connection_age", "keepalive_expiry"])
    async def test_a_connection_that_rests_is_closed_in_time(self, engine, option):
        options: dict[str, Any] = {option: 0.05, "engine": engine}
        async with Peer(echo) as peer, HTTPClient(peer.url, **options) as client:
            await client.get("/")
            if engine != "aiohttp":  # which looks now and then, and before it uses one
                await peer.empty()
            else:
                await asyncio.wait_for(_past(client, 0.1), PATIENCE)
            await client.get("/")
            assert peer.accepted == 2

    async def test_one_in_use_ends_its_exchange_first(self):
        aged = asyncio.Event()

        async def slowly(line: Line) -> None:
            while await line.request():
                await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
                await aged.wait()
                await line.say(b"lf")

        async with Peer(slowly) as peer, HTTPClient(peer.url, max_connection_age=0.05) as client:
            async with client.stream("GET", "/") as response:
                asyncio.get_running_loop().call_later(0.1, aged.set)
                assert await response.aread() == b"half"
            await peer.empty()
            assert (await client.get("/")).content == b"half"
            assert peer.accepted == 2

    async def test_a_young_one_is_used_again(self):
        async with Peer(echo) as peer, HTTPClient(peer.url, max_connection_age=3600.0) as client:
            for _ in range(5):
                await client.get("/")
            assert peer.accepted == 1

    @pytest.mark.parametrize("name", ["keepalive_expiry", "max_connection_age"])
    @pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan")])
    def test_what_is_no_time_is_said_to_be_so(self, name, seconds):
        options: dict[str, Any] = {name: seconds}
        with pytest.raises(ConfigError, match=f"{name}=.* is not a number of seconds above 0"):
            HTTPClient("http://app.example", **options)

    def test_http2_keeps_no_age(self):
        with pytest.raises(ConfigError, match="max_connection_age= is not kept with HTTP/2"):
            HTTPClient("https://app.example", http2=True, max_connection_age=60.0)


async def _past(client: HTTPClient, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        await moment()


class TestFiles:
    """What TLS needs is read when the client is built, so that who starts it is told."""

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("options", [{"verify": "/no/file.pem"}, {"cert": "/no/file.pem"}])
    def test_a_file_that_is_not_there_is_told_at_once(self, engine, options):
        with pytest.raises(ConfigError, match=r"='/no/file.pem' cannot be loaded: No such file"):
            HTTPClient("https://app.example", engine=engine, **options)

    def test_a_file_that_holds_something_else_is_told_at_once(self, tmp_path):
        (tmp_path / "file.pem").write_text("hunter2")
        for name in ("verify", "cert"):
            options: dict[str, Any] = {name: str(tmp_path / "file.pem")}
            with pytest.raises(ConfigError, match="cannot be loaded") as caught:
                HTTPClient("https://app.example", **options)
            assert "hunter2" not in str(caught.value)

    def test_an_encrypted_key_asks_for_its_password_and_not_at_the_terminal(self, tmp_path):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        how = serialization.BestAvailableEncryption(b"hunter2")
        text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
        (tmp_path / "key.pem").write_bytes(text)
        issued = authority().ca.issue_cert("me.example")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        with pytest.raises(ConfigError, match=r"its key is encrypted: pass \(certificate, key, password\)"):
            HTTPClient("https://app.example", cert=(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")))

    def test_a_client_for_the_systems_trust_reads_nothing_yet(self):
        client = HTTPClient("https://app.example")
        assert client.engine._dialer._tls._origin is None

    async def test_a_certificate_of_ones_own_is_shown(self, tmp_path):
        issued = authority().ca.issue_cert("me.example")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
        authority().ca.cert_pem.write_to_path(tmp_path / "ca.pem")
        server = authority().server("127.0.0.1")
        server.verify_mode = ssl.CERT_REQUIRED
        authority().ca.configure_trust(server)
        options: dict[str, Any] = {"verify": str(tmp_path / "ca.pem"), "cert": str(tmp_path / "me.pem")}
        async with Peer(echo, tls=server) as peer, HTTPClient(peer.url, **options) as client:
            for file in tmp_path.iterdir():
                file.unlink()  # it was read
            assert (await client.get("/")).status_code == 200


# Nothing is left behind


async def _unix(stack: AsyncExitStack, tmp: Path) -> tuple[Peer, HTTPClient]:
    path = tmp / "app.sock"
    path.unlink(missing_ok=True)
    peer = await stack.enter_async_context(UnixPeer(path, echo))
    return peer, HTTPClient("http://app.example", uds=str(path), max_retries=0)


async def _named(stack: AsyncExitStack, tmp: Path) -> tuple[Peer, HTTPClient]:
    peer = await stack.enter_async_context(Peer(echo))
    return peer, HTTPClient(f"http://several.example:{peer.port}", max_retries=0)


@lru_cache
def _several() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return authority().server("several.example"), authority().client()


async def _named_over_tls(stack: AsyncExitStack, tmp: Path) -> tuple[Peer, HTTPClient]:
    tls, trusted = _several()
    peer = await stack.enter_async_context(Peer(echo, tls=tls))
    options: dict[str, Any] = {"verify": trusted, "max_retries": 0, "max_connection_age": 60.0}
    return peer, HTTPClient(f"https://several.example:{peer.port}", **options)


SCENES = (_unix, _named, _named_over_tls)


def scened(scene: Any, tmp: Path) -> Callable[[Cut], Any]:
    async def story(cut: Cut) -> None:
        before = sockets()
        async with AsyncExitStack() as stack:
            peer, client = await scene(stack, tmp)
            await cut(client.get("/"))
            assert (await client.post("/", content=b"next")).content == b"next"
            async with asyncio.timeout(PATIENCE):
                await client.close()
            await peer.empty()
            assert not client.engine._waits._timers
            for _ in range(3):
                await asyncio.sleep(0)
            assert not asyncio.all_tasks() - peer.tasks - {asyncio.current_task()}
        gc.collect()
        assert sockets() == before

    return story


@pytest.mark.parametrize("loop", loops(), ids=lambda loop: loop.__module__.partition(".")[0])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__.strip("_"))
def test_an_await_that_fails_or_is_cancelled_leaves_nothing(scene, loop, tmp_path, names):
    names["several.example"] = ["127.0.0.2", "127.0.0.1"]
    assert at_every_await(scened(scene, tmp_path), loop_factory=loop) >= 3


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__.strip("_"))
def test_a_cancellation_between_any_two_callbacks_leaves_nothing(scene, tmp_path, names):
    names["several.example"] = ["127.0.0.2", "127.0.0.1"]
    assert at_every_step(scened(scene, tmp_path), real=True) >= 3
