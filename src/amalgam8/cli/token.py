"""token: makes a token for a tenant, as registry and controller check it in mode jwt.

Signed with a secret (HS256), or with a private key, whose kind says the algorithm. Refuses keys that the
servers would refuse, tenants that they would not serve, and to take a secret as an argument, which other
users of the machine could read.
"""

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from amalgam8.cli import show
from amalgam8.model.caller import tenant_problem
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.kinds import duration

TTL = duration(1, 10 * 365 * 86400)
VARIABLE = "A8_JWT_SECRET"


def make(
    tenant: Annotated[
        str,
        typer.Option("--tenant", metavar="NAME", help="Whose token it is; admin may act for every tenant."),
    ],
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="How long it is good, such as 30m or 720h.")
    ] = "24h",
    secret_file: Annotated[
        str,
        typer.Option(
            "--secret-file",
            metavar="FILE",
            help=f"Sign with this secret; - : standard input. Else {VARIABLE}.",
        ),
    ] = "",
    key_file: Annotated[
        str, typer.Option("--key-file", metavar="FILE", help="Sign with this private key in PEM instead.")
    ] = "",
    key_id: Annotated[
        str, typer.Option("--key-id", metavar="ID", help="The key's kid in the servers' JWKS file.")
    ] = "",
    audience: Annotated[str, typer.Option("--audience", metavar="NAME", help="The claim aud.")] = "",
    issuer: Annotated[str, typer.Option("--issuer", metavar="NAME", help="The claim iss.")] = "",
) -> None:
    """Make a token for a tenant and print it.

    The secret is read from a file or from the environment, never from an argument.
    """
    # The libraries cost a fifth of a second that other commands need not wait.
    import jwt

    if (problem := tenant_problem(tenant)) is not None:
        raise InvalidSetting(f"--tenant: {tenant!r} is not allowed: it {problem}")
    try:
        seconds = TTL.read(ttl)
    except ValueError:
        raise InvalidSetting(f"--ttl: {ttl!r} is not allowed; allowed: {TTL.allowed}") from None
    now = int(time.time())
    claims: dict[str, Any] = {"namespace": tenant, "iat": now, "exp": now + int(seconds)}
    claims |= {name: value for name, value in (("aud", audience), ("iss", issuer)) if value}
    algorithm, key = _private(key_file) if key_file else ("HS256", _secret(secret_file))
    show.say(jwt.encode(claims, key, algorithm, headers={"kid": key_id} if key_id else None))


def _secret(path: str) -> Any:
    from amalgam8.web.tokens import secret_key

    if path:
        # A file is mostly written with an editor or echo, and ends with a newline that is no part of it.
        text = (sys.stdin.read() if path == "-" else _read(path, "--secret-file").decode()).rstrip("\r\n")
        return secret_key(text, "--secret-file").material
    if VARIABLE not in os.environ:
        raise InvalidSetting(f"no key: give --secret-file, --key-file or {VARIABLE}")
    return secret_key(os.environ[VARIABLE], VARIABLE).material


def _private(path: str) -> tuple[str, Any]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from amalgam8.web.tokens import algorithm_of

    try:
        key = load_pem_private_key(_read(path, "--key-file"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidSetting(f"--key-file: {path} is no private key in PEM without a passphrase") from None
    return algorithm_of(key, f"--key-file: {path}"), key


def _read(path: str, flag: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidSetting(f"{flag}: cannot read {path}: {error.strerror}") from None
