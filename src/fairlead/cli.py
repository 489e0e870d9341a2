"""The command `fairlead`: serve a file, check it, call one of its services, or see a demo.

Exit status: 1 where something failed, 2 where something was written that cannot work; either is told in one message. Typer
is imported when the command runs, so that its absence is a message too.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

from fairlead.errors import ConfigError, FairleadError

_EXTRAS: Final = {"typer": "cli", "jmespath": "gateway", "uvicorn": "gateway", "fastapi": "gateway"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, and leave by SystemExit."""
    try:
        _commands()(None if arguments is None else list(arguments), prog_name="fairlead")
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        _leave(f"fairlead: {error.name} is not installed: pip install 'fairlead[{_EXTRAS[error.name]}]'", 1)
    except ConfigError as error:
        _leave(error.message, 2)


def _commands() -> Callable[..., Any]:
    import typer

    commands = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="One answer made of several upstream answers.",
    )
    one_file = Annotated[Path, typer.Argument(metavar="FILE", help="The gateway's TOML file.")]
    one_port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")]

    @commands.command()
    def serve(
        file: one_file,
        host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
        port: one_port = 8080,
        workers: Annotated[int, typer.Option(min=1, help="Processes that share the port.")] = 1,
    ) -> None:
        """Serve the aggregates of a file."""
        from fairlead.gateway import Gateway
        from fairlead.gateway.serve import address, listen
        from fairlead.gateway.serve import serve as run

        gateway, listening = Gateway(file), listen(host, port)
        processes = "1 process" if workers == 1 else f"{workers} processes"
        print(f"fairlead: {file} on {address(listening)} in {processes}; Ctrl-C stops it", flush=True)
        run(gateway, listening, workers)

    @commands.command()
    def check(file: one_file) -> None:
        """Print a file as it was understood, or what is wrong with it."""
        from fairlead.gateway import Gateway
        from fairlead.gateway.check import explain

        print(explain(Gateway(file)))

    @commands.command()
    def call(
        file: one_file,
        service: Annotated[str, typer.Argument(help="A service of the file.")],
        path: Annotated[str, typer.Argument(help="What to GET of it, as in /users/1.")],
    ) -> None:
        """GET a path of a service, with the file's time-outs, retries and credentials: the body on stdout."""
        raise SystemExit(asyncio.run(_call(file, service, path)))

    @commands.command()
    def demo(
        port: one_port = 8080,
        check: Annotated[bool, typer.Option("--check", help="Start it, ask it, and say what held.")] = False,
        compare: Annotated[bool, typer.Option("--compare", help="Measure it beside what the tutorials write.")] = False,
    ) -> None:
        """A small shop on loopback: three upstreams, and the gateway in front of them."""
        if compare:
            from fairlead.demo.compare import compare as run_compare

            raise SystemExit(run_compare())
        if check:
            from fairlead.demo.check import check as run_check

            raise SystemExit(run_check(port))
        from fairlead.demo.run import run

        run(port)

    return commands


async def _call(file: Path, service: str, path: str) -> int:
    from fairlead.gateway.app import client
    from fairlead.gateway.config import load
    from fairlead.gateway.table import meant

    config = load(file)
    if service not in config.services:
        raise ConfigError(f'{file}: no service "{service}"{meant(service, tuple(config.services))}')
    async with client(config, config.services[service]) as upstream:
        try:
            response = await upstream.send(upstream.build_request("GET", path))
        except ConfigError:
            raise
        except FairleadError as error:
            print(error, file=sys.stderr)
            return 1
    status = response.status_code
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    print(f"{status} {phrase}".rstrip(), f"in {response.elapsed * 1000:.1f} ms", file=sys.stderr)
    sys.stdout.buffer.write(response.content)
    if sys.stdout.isatty() and response.content[-1:] != b"\n":
        print()
    return 0 if status < 400 else 1


def _leave(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(status)
