"""One TLS context for every engine: verified by the system's trust store unless told otherwise."""

from __future__ import annotations

import ssl
from pathlib import Path

from fairlead.engines.wire import Wire
from fairlead.errors import ConfigError


def context(wire: Wire, *, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """The context for `verify=` and `cert=`; raises ConfigError when a file cannot be read."""
    if isinstance(wire.verify, ssl.SSLContext):
        return wire.verify
    made = _verifying(wire.verify)
    made.set_alpn_protocols(list(alpn))
    if wire.cert is not None:
        files = (wire.cert,) if isinstance(wire.cert, str) else wire.cert
        try:
            made.load_cert_chain(*files)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"cert={files[0]!r} cannot be loaded: {error.strerror or 'not a certificate with its key'}"
            ) from None
    return made


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
