"""The gateway on uvicorn: one process, or several that share one socket.

The socket is bound first, so that a port that is taken is one clear line. Workers read the file again by its name in the
environment: an application cannot be handed to another process.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import uvicorn

from fairlead.errors import ConfigError
from fairlead.gateway.app import Gateway

FILE: Final = "FAIRLEAD_FILE"

_OPTIONS: Final[dict[str, Any]] = {
    "http": "fairlead.proxy.uvicorn:Protocol",  # uvicorn's own would have a trailer be a header that references read
    "ws": "none",
    "lifespan": "on",
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "timeout_keep_alive": 65,  # longer than a load balancer keeps its own side
    "timeout_graceful_shutdown": 10,
}


def serve(gateway: Gateway, listening: socket.socket, workers: int = 1) -> None:
    """Serve until SIGINT or SIGTERM; answers under way have ten seconds to end."""
    _log()
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has stopped
        if workers == 1:
            uvicorn.Server(uvicorn.Config(gateway, **_OPTIONS)).run(sockets=[listening])
            return
        host, port = listening.getsockname()[:2]
        listening.close()
        os.environ[FILE] = str(Path(gateway.config.file).absolute())
        uvicorn.run(f"{__name__}:app", factory=True, host=host, port=port, workers=workers, **_OPTIONS)


def app() -> Gateway:
    """The application of one worker."""
    _log()
    return Gateway(os.environ[FILE])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; raises ConfigError where the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is taken; choose another with --port") from None
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    # asyncio sets it only on sockets that say they are TCP, and this one does not; without it an answer may wait 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address(listening: socket.socket) -> str:
    """Where that is, as a browser or curl wants it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log() -> None:
    """Retries, refusals and opened circuits on stderr, unless the program has its own idea of logs."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
