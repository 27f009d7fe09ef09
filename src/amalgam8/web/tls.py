"""TLS of the servers: the context made from certificate files, and what counts as a secure request.

TLS 1.2 or newer. Refuses files that cannot be used, with the setting that names them, and keys that are
locked with a passphrase: a daemon has nobody to ask.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path

from amalgam8.model.errors import InvalidSetting


def server_context(cert: Path | None, key: Path | None, client_ca: Path | None) -> ssl.SSLContext | None:
    """The context, or None without a certificate. With ``client_ca`` clients must show one it signed.

    Raises:
        InvalidSetting: a file is missing, unreadable, or does not fit the others.
    """
    if cert is None and key is None:
        if client_ca is not None:
            raise InvalidSetting("tls_client_ca: needs tls_cert and tls_key")
        return None
    if cert is None or key is None:
        have, lack = ("tls_key", "tls_cert") if cert is None else ("tls_cert", "tls_key")
        raise InvalidSetting(f"{lack}: missing, and {have} needs it")
    for setting, path in (("tls_cert", cert), ("tls_key", key), ("tls_client_ca", client_ca)):
        if path is not None:
            check_readable(setting, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_locked)
    except InvalidSetting:
        raise
    except (ssl.SSLError, ValueError) as error:
        raise InvalidSetting(
            f"tls_cert, tls_key: {cert} and {key} are no certificate chain and its key in PEM: {_why(error)}"
        ) from None
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidSetting(
                f"tls_client_ca: {client_ca} holds no certificates in PEM: {_why(error)}"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def check_readable(setting: str, path: Path) -> None:
    """Raise InvalidSetting, naming the setting, for a file that cannot be read."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InvalidSetting(f"{setting}: cannot read {path}: {error.strerror}") from None


def is_secure(scheme: str, headers: Mapping[str, str]) -> bool:
    """Whether the client's own connection is encrypted: here, or as a proxy before us says.

    ``scheme`` is that of the connection, or of an absolute URL in the request.
    """
    return (
        scheme == "https"
        or _says_https(headers.get("x-forwarded-proto"))
        or _says_https(headers.get("$wssc"))
    )


def _says_https(text: str | None) -> bool:
    return text is not None and text.strip().lower() == "https"


def _locked() -> str:
    raise InvalidSetting("tls_key: the key is locked with a passphrase; give one without")


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).replace("_", " ").lower()
