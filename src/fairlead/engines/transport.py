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
