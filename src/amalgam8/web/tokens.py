"""JSON Web Tokens: the keys they are checked with, and what a good one says.

The algorithm follows from the key and never from the token: a secret checks HS256 only, an RSA key RS256,
an EC key on P-256 ES256, an Ed25519 key EdDSA. Wire format: RFC 7519, RFC 7517 for key files; claims
``namespace`` (required), ``exp``, ``nbf``, ``aud``, ``iss``. Refuses short keys, ``none``, private keys
where a public one belongs, and tokens with critical extensions.
"""

import base64
import binascii
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.types import Options

from amalgam8.model.errors import InvalidSetting, MissingAuthorization, NotAuthorized

SECRET_LEAST = 32
"""Bytes, as RFC 7518 asks for."""

RSA_LEAST = 2048
TOKEN_LIMIT = 8192
CACHED = 10_000
FILE_LIMIT = 1_000_000
ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")

_NOTHING_BY_ITSELF: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""Claims are looked at here, on a clock that is handed in."""

_KINDS = {
    ("RSA", ""): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
"""Kinds of key in JWKS files."""


class Key(msgspec.Struct, frozen=True):
    """One key, the only algorithm that it is for, and its id in a JWKS file."""

    algorithm: str
    material: Any
    id: str = ""


def secret_key(secret: str, setting: str = "jwt_secret") -> Key:
    """A key for HS256.

    Raises:
        InvalidSetting: too short, or no secret at all.
    """
    material = secret.encode()
    if len(material) < SECRET_LEAST:
        raise InvalidSetting(f"{setting}: (not shown) is shorter than {SECRET_LEAST} bytes")
    if secret.lstrip().startswith(("-----BEGIN", "ssh-")):
        raise InvalidSetting(f"{setting}: (not shown) is a public key or certificate; use jwt_public_key")
    return Key("HS256", material)


def pem_key(path: Path, setting: str = "jwt_public_key") -> Key:
    """The public key in a PEM file; raises InvalidSetting."""
    data = _read(path, setting)
    if b"PRIVATE KEY" in data:
        raise InvalidSetting(f"{setting}: {path} holds a private key; give the public one")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidSetting(f"{setting}: {path} is no public key in PEM") from None
    return Key(algorithm_of(key, f"{setting}: {path}"), key)


def jwks_keys(path: Path, setting: str = "jwt_jwks") -> list[Key]:
    """The keys for signatures in a JWKS file; raises InvalidSetting."""
    try:
        document = msgspec.json.decode(_read(path, setting))
        found = [one for one in document["keys"] if isinstance(one, dict) and one.get("use", "sig") == "sig"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, KeyError):
        raise InvalidSetting(f'{setting}: {path} is no JWKS document: {{"keys": [...]}}') from None
    keys = [key for one in found if (key := _jwk(one, path, setting)) is not None]
    if not keys:
        raise InvalidSetting(f"{setting}: {path} holds no key for {', '.join(ALGORITHMS[1:])}")
    return keys


def algorithm_of(key: Any, where: str) -> str:
    """The algorithm that a key, public or private, is for; raises InvalidSetting."""
    if isinstance(key, (rsa.RSAPublicKey, rsa.RSAPrivateKey)):
        if key.key_size < RSA_LEAST:
            raise InvalidSetting(f"{where}: an RSA key of fewer than {RSA_LEAST} bits")
        return "RS256"
    if isinstance(key, (ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey)):
        if isinstance(key.curve, ec.SECP256R1):
            return "ES256"
    elif isinstance(key, (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey)):
        return "EdDSA"
    raise InvalidSetting(f"{where}: is not allowed; allowed: keys of RSA, EC on P-256, Ed25519")


class Jwt:
    """Mode ``jwt``. ``wall`` is Unix time; ``leeway`` (s) is what clocks may differ by.

    Good tokens are remembered, so that one that comes with every heartbeat is checked once.
    """

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        leeway: float = 0.0,
        audience: str = "",
        issuer: str = "",
        wall: Callable[[], float] = time.time,
        cached: int = CACHED,
    ) -> None:
        self._keys = tuple(keys)
        self._leeway = leeway
        self._audience = audience
        self._issuer = issuer
        self._wall = wall
        self._limit = cached
        # By digest: tokens are as good as passwords, and may be long.
        self._good: dict[bytes, tuple[str, float]] = {}

    def authenticate(self, token: str) -> str | None:
        if not token:
            raise MissingAuthorization("a token is needed: send 'Authorization: Bearer <token>'")
        if len(token) > TOKEN_LIMIT:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        now = self._wall()
        known = self._good.get(digest)
        if known is not None:
            if now <= known[1]:
                return known[0]
            del self._good[digest]
        header = _header(token)
        if header is None:
            return None
        tenant, good_until = self._claims(self._verified(token, header), now)
        while len(self._good) >= self._limit:
            del self._good[next(iter(self._good))]
        self._good[digest] = (tenant, good_until)
        return tenant

    def _verified(self, token: str, header: dict[str, Any]) -> dict[str, Any]:
        """The claims of a token that one of our keys has signed."""
        if "crit" in header:
            raise NotAuthorized("the token has critical extensions, and none is known here")
        kid = header.get("kid")
        for key in self._keys:
            if key.algorithm != header.get("alg") or (key.id and isinstance(kid, str) and key.id != kid):
                continue
            try:
                claims: dict[str, Any] = jwt.decode(
                    token, key.material, algorithms=[key.algorithm], options=_NOTHING_BY_ITSELF
                )
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                continue
            return claims
        raise NotAuthorized("the token is not signed with a key that is known here")

    def _claims(self, claims: dict[str, Any], now: float) -> tuple[str, float]:
        """The tenant, and the last moment (Unix s) at which the token is good."""
        until = _moment(claims, "exp", math.inf) + self._leeway
        if now > until:
            raise NotAuthorized("the token has expired")
        if now < _moment(claims, "nbf", -math.inf) - self._leeway:
            raise NotAuthorized("the token is not good yet")
        if self._audience:
            meant = claims.get("aud")
            if self._audience not in (meant if isinstance(meant, list) else [meant]):
                raise NotAuthorized("the token is meant for somebody else (aud)")
        if self._issuer and claims.get("iss") != self._issuer:
            raise NotAuthorized("the token is from somebody else (iss)")
        tenant = claims.get("namespace")
        if not isinstance(tenant, str) or not tenant:
            raise NotAuthorized("the token names no tenant: its claim 'namespace' must be a text")
        return tenant, until


def _moment(claims: dict[str, Any], name: str, absent: float) -> float:
    value = claims.get(name, absent)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise NotAuthorized(f"the token's claim '{name}' is no number")
    try:
        return float(value)
    except OverflowError:
        raise NotAuthorized(f"the token's claim '{name}' is no moment") from None


def _header(token: str) -> dict[str, Any] | None:
    """The header of what has the shape of a token; None: it has not."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        raw = [base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True) for part in parts]
        header, claims = msgspec.json.decode(raw[0]), msgspec.json.decode(raw[1])
    except (binascii.Error, ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and isinstance(claims, dict) else None


def _jwk(one: dict[str, Any], path: Path, setting: str) -> Key | None:
    """A key of the file; None for kinds that no token here is signed with."""
    if one.get("kty") == "oct":
        raise InvalidSetting(f"{setting}: {path} holds a secret; use jwt_secret")
    if "d" in one:
        raise InvalidSetting(f"{setting}: {path} holds a private key; give the public one")
    algorithm = _KINDS.get((str(one.get("kty", "")), str(one.get("crv", ""))))
    if algorithm is None or one.get("alg", algorithm) != algorithm:
        return None
    try:
        material = jwt.PyJWK(one, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        raise InvalidSetting(f"{setting}: {path} holds a key that cannot be read") from None
    kid = one.get("kid")
    return Key(algorithm_of(material, f"{setting}: {path}"), material, kid if isinstance(kid, str) else "")


def _read(path: Path, setting: str) -> bytes:
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise InvalidSetting(f"{setting}: {path} is larger than {FILE_LIMIT} bytes")
        return path.read_bytes()
    except OSError as error:
        raise InvalidSetting(f"{setting}: cannot read {path}: {error.strerror}") from None
