"""Blocking work off the event loop, in so many threads or processes and no more: `page = await offload(parse, data)`."""

from fairlead.offload.own import close, offload
from fairlead.offload.pool import Offload

__all__ = ["Offload", "close", "offload"]
