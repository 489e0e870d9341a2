"""One answer made of several upstream answers, as `fairlead.toml` says: `Gateway("fairlead.toml")` is an ASGI application."""

from fairlead.gateway.app import Gateway
from fairlead.gateway.config import Config, load

__all__ = ["Config", "Gateway", "load"]
