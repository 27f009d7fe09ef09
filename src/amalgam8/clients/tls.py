"""TLS of clients: whom to trust, and the certificate to show where a server asks for one.

TLS 1.2 or newer; the server's name and chain are always checked. Refuses files that cannot be used, with
the setting that names them, and keys that are locked with a passphrase.
"""

import ssl
from pathlib import Path

from amalgam8.model.errors import InvalidSetting


def client_context(
    ca: Path | None, cert: Path | None = None, key: Path | None = None, *, prefix: str = ""
) -> ssl.SSLContext | None:
    """The context, or None: the system's authorities will do, and no certificate is shown.

    ``ca`` is trusted in place of the system's authorities. ``prefix`` stands before the names of settings.

    Raises:
        InvalidSetting: a file is missing, unreadable, or does not fit the other.
    """
    if ca is None and cert is None and key is None:
        return None
    if (cert is None) != (key is None):
        have, lack = ("client_key", "client_cert") if cert is None else ("client_cert", "client_key")
        raise InvalidSetting(f"{prefix}{lack}: missing, and {have} needs it")
    for setting, path in (("ca_cert", ca), ("client_cert", cert), ("client_key", key)):
        if path is not None:
            _check_readable(f"{prefix}{setting}", path)
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, ValueError):
        raise InvalidSetting(f"{prefix}ca_cert: {ca} holds no certificates in PEM") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, password=_locked)
        except (ssl.SSLError, ValueError):
            raise InvalidSetting(
                f"{prefix}client_cert: {cert} and {key} are no certificate chain and its key in PEM"
            ) from None
    return context


def _check_readable(setting: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InvalidSetting(f"{setting}: cannot read {path}: {error.strerror}") from None


def _locked() -> str:
    raise InvalidSetting("client_key: the key is locked with a passphrase; give one without")
