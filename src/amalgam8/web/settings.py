# ruff: noqa: RUF009 - setting() makes a dataclass field
"""The settings that registry and controller share: where to listen, TLS, and who may use the API.

Each is described in ``docs/reference/settings.md``, made from this table. ``auth_of`` and ``tls_of`` make
of them what the servers need. Refuses keys that cannot be used before anything listens.
"""

import dataclasses
import ssl
from pathlib import Path

from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime import logs
from amalgam8.runtime.kinds import BOOLEAN, FILE, LISTEN_PORT, choices, duration
from amalgam8.runtime.settings import setting
from amalgam8.web.auth import Auth, Authenticator, Open, Trusted, on_loopback
from amalgam8.web.tls import server_context

MODES = ("none", "trusted", "jwt")
JWT_KEYS = ("jwt_secret", "jwt_public_key", "jwt_jwks")


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """Durations in seconds."""

    api_port: int = setting(8080, "Port of the REST API and the streams.", LISTEN_PORT)
    listen_host: str = setting("127.0.0.1", "Address to listen on.")
    tls_cert: Path | None = setting(None, "Certificate chain in PEM: the port speaks TLS then.", FILE)
    tls_key: Path | None = setting(None, "Private key of tls_cert, in PEM, without a passphrase.", FILE)
    tls_client_ca: Path | None = setting(
        None, "Authorities in PEM: clients must show a certificate that one of them has signed.", FILE
    )
    require_https: bool = setting(
        False,
        "Answer 301 to requests that come neither by TLS nor through a proxy that says they did "
        "(X-Forwarded-Proto: https). The registry does so for the API only.",
        BOOLEAN,
    )
    auth_mode: tuple[str, ...] = setting(
        ("none",),
        "Who may use the API. none: everybody, as the tenant 'default'; trusted: the token is the tenant's "
        "name; jwt: the token is signed. Of several, the first that knows the kind of token decides.",
        choices(*MODES),
    )
    trusted_admin: bool = setting(
        False,
        "In mode trusted, let whoever says so be admin, and act for every tenant, even on an address that is "
        "not loopback.",
        BOOLEAN,
    )
    jwt_secret: str = setting("", "Secret of tokens signed with HS256: 32 bytes or more.", secret=True)
    jwt_public_key: Path | None = setting(
        None, "Public key in PEM of tokens signed with RS256, ES256 or EdDSA.", FILE
    )
    jwt_jwks: Path | None = setting(None, "The same as a JWKS file of one key or several.", FILE)
    jwt_audience: str = setting("", "Whom tokens must be meant for (claim aud). None: anybody.")
    jwt_issuer: str = setting("", "Whom tokens must be from (claim iss). None: anybody.")
    jwt_leeway: float = setting(
        0.0, "What clocks may differ by when exp and nbf of a token are looked at.", duration(0, 600)
    )
    log_level: str = setting("info", "Least severe log records to write.", logs.LEVEL)
    log_format: str = setting("text", "Form of log records.", logs.FORMAT)


def auth_of(settings: ServerSettings) -> Auth:
    """The chain that the settings ask for; raises InvalidSetting."""
    made: list[Authenticator] = []
    for mode in settings.auth_mode:
        if mode == "none":
            made.append(Open())
        elif mode == "trusted":
            made.append(Trusted(admin=settings.trusted_admin or on_loopback(settings.listen_host)))
        else:
            made.append(_jwt(settings))
    return Auth(made)


def tls_of(settings: ServerSettings) -> ssl.SSLContext | None:
    """How the port speaks TLS, or None: it does not; raises InvalidSetting."""
    return server_context(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def _jwt(settings: ServerSettings) -> Authenticator:
    # Imported here since the libraries cost 10 MB that other modes do not need.
    from amalgam8.web.tokens import Jwt, jwks_keys, pem_key, secret_key

    keys = [secret_key(settings.jwt_secret)] if settings.jwt_secret else []
    if settings.jwt_public_key is not None:
        keys.append(pem_key(settings.jwt_public_key))
    if settings.jwt_jwks is not None:
        keys += jwks_keys(settings.jwt_jwks)
    if not keys:
        raise InvalidSetting(f"auth_mode: jwt needs a key: give {', '.join(JWT_KEYS[:-1])} or {JWT_KEYS[-1]}")
    return Jwt(keys, leeway=settings.jwt_leeway, audience=settings.jwt_audience, issuer=settings.jwt_issuer)
