"""One TLS context for every engine: verified by the system's trust store unless told otherwise."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

from fairlead.engines.wire import Wire
from fairlead.errors import ConfigError

HTTP1: Final = ("http/1.1",)


class Contexts:
    """The TLS contexts of one engine. Files are read when it is built, the system's trust store when it is first needed."""

    def __init__(self, wire: Wire, *, alpn: tuple[str, ...] = HTTP1) -> None:
        self._wire = wire
        self._alpn = alpn
        self._origin: ssl.SSLContext | None = None
        self._proxy: ssl.SSLContext | None = None
        if isinstance(wire.verify, str) or wire.cert is not None:
            self.origin()

    def origin(self) -> ssl.SSLContext:
        """For who is called."""
        if self._origin is None:
            self._origin = context(self._wire, alpn=self._alpn)
        return self._origin

    def proxy(self) -> ssl.SSLContext:
        """For the proxy in between: it is verified alike, and is not shown a client certificate."""
        if self._wire.cert is None and self._alpn == HTTP1:
            return self.origin()
        if self._proxy is None:
            self._proxy = context(replace(self._wire, cert=None))
        return self._proxy


def context(wire: Wire, *, alpn: tuple[str, ...] = HTTP1) -> ssl.SSLContext:
    """The context for `verify=` and `cert=`; raises ConfigError when a file cannot be read."""
    if isinstance(wire.verify, ssl.SSLContext):
        return wire.verify
    made = _verifying(wire.verify)
    made.set_alpn_protocols(list(alpn))
    if wire.cert is not None:
        _show(made, (wire.cert,) if isinstance(wire.cert, str) else wire.cert)
    return made


def _show(made: ssl.SSLContext, files: tuple[str, ...]) -> None:
    if not 1 <= len(files) <= 3:
        raise ConfigError("cert= is a path, (certificate, key), or (certificate, key, password)")

    def ask() -> NoReturn:  # OpenSSL would ask at the terminal
        raise ConfigError(f"cert={files[0]!r}: its key is encrypted: pass (certificate, key, password)")

    certificate, key, password = (*files, None, None)[:3]
    try:
        made.load_cert_chain(certificate or "", key, password or ask)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cert={files[0]!r} cannot be loaded: {error.strerror or 'not a certificate with its key'}"
        ) from None


def _verifying(verify: bool | str) -> ssl.SSLContext:
    if verify is True:
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if verify is False:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        return made
    try:
        made.load_verify_locations(**{"capath" if Path(verify).is_dir() else "cafile": verify})
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"verify={verify!r} cannot be loaded: {error.strerror or 'not a certificate authority'}"
        ) from None
    return made
