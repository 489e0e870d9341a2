"""HTTP/1.1 over asyncio, parsed by llhttp: we keep connections and watch time; we write no parser, no TLS, no decompressor.

Where is a byte parsed? `answer.py`. Where is a connection chosen, and where is one given up? `engine.py`. Where does a new one
come from? `dial.py`.
"""

from fairlead.engines.native.engine import Native

__all__ = ["Native"]
