"""The shared settings: what chain and what TLS they make, and what is refused before anything listens."""

from pathlib import Path

import pytest

from amalgam8.model.errors import InvalidSetting, NotAuthorized
from amalgam8.runtime.settings import describe, load
from amalgam8.web.settings import ServerSettings, auth_of, tls_of
from tests.web.keys import SECRET, private_keys, public_pem, token, written


def read(*argv: str, **environ: str) -> ServerSettings:
    return load(ServerSettings, "a8test", argv, environ)[0]


def test_defaults_are_open_on_loopback() -> None:
    found = read()
    assert (found.listen_host, found.auth_mode, found.require_https) == ("127.0.0.1", ("none",), False)
    assert auth_of(found).resolve("") == "default"
    assert tls_of(found) is None


def test_the_chain_is_a_list_in_order() -> None:
    assert read("--auth-mode", "jwt", "--auth-mode", "trusted").auth_mode == ("jwt", "trusted")
    chain = auth_of(read(A8_AUTH_MODE="jwt, trusted", A8_JWT_SECRET=SECRET))
    assert chain.resolve(token("blue")) == "blue"
    assert chain.resolve("green") == "green"


@pytest.mark.parametrize("text", ["", "oauth", "jwt,", "jwt,jwt"])
def test_modes_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"A8_AUTH_MODE.*none, trusted, jwt"):
        read(A8_AUTH_MODE=text)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "jwt needs a key: give jwt_secret, jwt_public_key or jwt_jwks"),
        (["--jwt-secret", "short"], "shorter than 32 bytes"),
        (["--jwt-public-key", "/no/such"], "cannot read /no/such"),
        (["--jwt-jwks", "/no/such"], "cannot read /no/such"),
    ],
)
def test_keys_that_cannot_be_used(argv: list[str], says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as caught:
        auth_of(read("--auth-mode", "jwt", *argv))
    assert "short " not in str(caught.value)


def test_several_keys_each_for_its_own_algorithm(tmp_path: Path) -> None:
    private = private_keys()["EdDSA"]
    path = written(tmp_path / "key.pem", public_pem(private))
    auth = auth_of(read("--auth-mode=jwt", f"--jwt-secret={SECRET}", f"--jwt-public-key={path}"))
    assert auth.resolve(token("blue")) == "blue"
    assert auth.resolve(token("green", private, "EdDSA")) == "green"


def test_claims_and_leeway_come_from_the_settings() -> None:
    auth = auth_of(
        read(
            *("--auth-mode=jwt", f"--jwt-secret={SECRET}", "--jwt-audience=mesh", "--jwt-issuer=us"),
            "--jwt-leeway=60s",
        )
    )
    assert auth.resolve(token("blue", aud="mesh", iss="us")) == "blue"
    with pytest.raises(NotAuthorized):
        auth.resolve(token("blue", aud="mesh"))


@pytest.mark.parametrize(
    ("argv", "may"),
    [([], True), (["--listen-host=0.0.0.0"], False), (["--listen-host=0.0.0.0", "--trusted-admin"], True)],
)
def test_trusted_admins_need_loopback_or_a_flag(argv: list[str], may: bool) -> None:
    auth = auth_of(read("--auth-mode=trusted", *argv))
    if may:
        assert auth.resolve("admin") == "admin"
    else:
        with pytest.raises(NotAuthorized):
            auth.resolve("admin")


def test_secrets_have_no_default_that_is_shown() -> None:
    shown = {item.name: item.default for item in describe(ServerSettings)}
    assert shown["jwt_secret"] == ""
    assert shown["auth_mode"] == "none"
