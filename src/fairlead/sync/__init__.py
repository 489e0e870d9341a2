"""The same client for threads: `def` endpoints, scripts and jobs call it without `await`, and share one pool and its policies."""

from fairlead.sync.client import SyncHTTPClient, plain
from fairlead.sync.stream import SyncResponse, SyncStream

__all__ = ["SyncHTTPClient", "SyncResponse", "SyncStream", "plain"]
