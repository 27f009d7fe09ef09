"""a8ctl token, checked with what registry and controller check tokens with."""

import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from amalgam8.cli.main import main
from amalgam8.web.tokens import Jwt, jwks_keys, pem_key, secret_key
from tests.web.keys import SECRET, jwk, private_keys, private_pem, public_pem, written


def made(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["token", *argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.strip()


def test_from_a_secret_in_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A8_JWT_SECRET", SECRET)
    found = made(capsys, "--tenant", "blue", "--ttl", "90m")
    assert Jwt([secret_key(SECRET)]).authenticate(found) == "blue"
    claims = jwt.decode(found, SECRET, ["HS256"])
    assert claims["exp"] - claims["iat"] == 5400
    assert abs(claims["iat"] - time.time()) < 60


def test_from_a_file_or_from_standard_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, type_in: Callable[[bytes], None]
) -> None:
    path = written(tmp_path / "secret", SECRET.encode() + b"\n")
    checker = Jwt([secret_key(SECRET)], audience="mesh", issuer="us")
    claims = ("--audience", "mesh", "--issuer", "us")
    assert checker.authenticate(made(capsys, "--tenant=blue", f"--secret-file={path}", *claims)) == "blue"
    type_in(SECRET.encode())
    assert checker.authenticate(made(capsys, "--tenant=green", "--secret-file=-", *claims)) == "green"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_from_a_private_key(algorithm: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    private = private_keys()[algorithm]
    path = written(tmp_path / "private", private_pem(private))
    found = made(capsys, "--tenant", "blue", "--key-file", str(path), "--key-id", "k1")
    assert jwt.get_unverified_header(found)["kid"] == "k1"
    assert Jwt([pem_key(written(tmp_path / "public", public_pem(private)))]).authenticate(found) == "blue"
    keys = jwks_keys(written(tmp_path / "jwks", {"keys": [jwk(private, algorithm, kid="k1")]}))
    assert Jwt(keys).authenticate(found) == "blue"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "--tenant"),
        (["--tenant", "a b"], "--tenant: 'a b' is not allowed: it holds white space"),
        (["--tenant", ""], "--tenant: '' is not allowed: it is empty"),
        (["--tenant", "blue"], "no key: give --secret-file, --key-file or A8_JWT_SECRET"),
        (["--tenant", "blue", "--ttl", "soon"], "--ttl: 'soon' is not allowed"),
        (["--tenant", "blue", "--secret-file", "/no/such"], "--secret-file: cannot read /no/such"),
        (["--tenant", "blue", "--key-file", "/no/such"], "--key-file: cannot read /no/such"),
        (["--tenant", "blue", "--key-file", __file__], "is no private key in PEM"),
        (["--tenant", "blue", "--secret", "x" * 40], "--secret"),
    ],
)
def test_what_is_refused(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_a_short_secret_is_refused_and_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A8_JWT_SECRET", "short")
    assert main(["token", "--tenant", "blue"]) == 2
    assert capsys.readouterr().err == "a8ctl: A8_JWT_SECRET: (not shown) is shorter than 32 bytes\n"
