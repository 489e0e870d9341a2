"""What a transport knows and does not say by itself: how it ended, and whether something waits in its socket."""

from __future__ import annotations

import asyncio
import select
import ssl
from typing import Final

FRESH: Final = 0.01
"""Seconds of rest after which a kept connection is asked whether it can still serve."""


def unread(transport: asyncio.Transport) -> bool:
    """Whether bytes or an end wait in the socket that the loop has not looked at yet: on an idle connection, its end."""
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def ended_cleanly(transport: asyncio.Transport) -> bool:
    """Whether TLS ended by its own word (RFC 9112 section 9.8), asked when the connection is lost. Without TLS a FIN is all there is."""
    ssl_object = transport.get_extra_info("ssl_object")
    if ssl_object is None:
        return True
    try:
        return not ssl_object.read(1)
    except ssl.SSLZeroReturnError:
        return True
    except ssl.SSLError:
        return False


class Gone(asyncio.Transport):
    """Stands where a transport stood that is no more. asyncio's own leads, over TLS, back to its protocol: in that circle would stay
    all its buffers, until the collector comes round."""

    def is_closing(self) -> bool:
        return True

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: object) -> None:
        """Nobody reads it."""

    def pause_reading(self) -> None:
        """Nothing comes."""

    def resume_reading(self) -> None:
        """Nothing comes."""

    def abort(self) -> None:
        """It is over."""


GONE: Final = Gone()
