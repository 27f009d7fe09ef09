"""Keys and tokens for tests, made on the spot."""

import base64
import json
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

SECRET = "0123456789abcdef0123456789abcdef"
NOW = 1_900_000_000.0


def token(tenant: str, secret: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A signed token."""
    kid = claims.pop("kid", None)
    return jwt.encode(
        {"namespace": tenant, **claims}, secret, algorithm, headers={"kid": kid} if kid else None
    )


def crafted(header: dict[str, Any], claims: Any, signature: bytes = b"") -> str:
    """A token of any content, and with any signature."""
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode()
        for part in (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    )


def private_keys() -> dict[str, Any]:
    """A private key by algorithm."""
    return {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


def public_pem(private: Any) -> bytes:
    found: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def private_pem(private: Any) -> bytes:
    found: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return found


def jwk(private: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    """The public key as a member of a JWKS document."""
    name = {"RS256": "RS256", "ES256": "ES256", "EdDSA": "EdDSA"}[algorithm]
    made = jwt.get_algorithm_by_name(name).to_jwk(private.public_key(), as_dict=True)
    return {**{key: value for key, value in made.items() if key != "key_ops"}, **more}


def written(path: Path, content: Any) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path
