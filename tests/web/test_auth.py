"""The chain of authenticators, the admin, and what a header may hold."""

import pytest
from starlette.datastructures import Headers

from amalgam8.model.caller import tenant_problem
from amalgam8.model.errors import (
    A8Error,
    MalformedAuthorization,
    MissingAuthorization,
    MissingNamespace,
    NotAuthorized,
    TooManyTenants,
)
from amalgam8.web.auth import Auth, Authenticator, Open, Trusted, bearer, on_loopback
from amalgam8.web.tokens import Jwt, secret_key
from tests.web.keys import SECRET, crafted, token

JWT = Jwt([secret_key(SECRET)])
TRUSTED = Trusted(admin=True)
GOOD = token("blue")
BAD = token("blue", "x" * 32)


def tenant(auth: Auth, authorization: str = "", namespace: str | None = None) -> str:
    headers = {"Authorization": authorization} | ({} if namespace is None else {"A8-Namespace": namespace})
    return auth.tenant(Headers(headers))


@pytest.mark.parametrize("header", ["", "  ", "Bearer default", "bearer default", "Bearer  default "])
def test_open_mode_is_the_default_tenant(header: str) -> None:
    assert tenant(Auth(), header) == "default"


@pytest.mark.parametrize("header", ["Bearer", "Basic default", "default", "Bearer a b", "BEARER default"])
@pytest.mark.parametrize("chain", [[Open()], [TRUSTED], [JWT]], ids=["none", "trusted", "jwt"])
def test_malformed(header: str, chain: list[Authenticator]) -> None:
    with pytest.raises(MalformedAuthorization):
        tenant(Auth(chain), header)


@pytest.mark.parametrize("name", ["x", "DEFAULT", "\xe9", "admin"])
def test_tokens_that_nobody_gave_out_are_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(NotAuthorized) as caught:
        tenant(Auth(), f"Bearer {name}")
    assert caught.value.code == "auth_not_authorized"
    assert f" {name} " not in str(caught.value)


def test_trusted_takes_the_token_for_the_name() -> None:
    assert tenant(Auth([TRUSTED]), "Bearer blue") == "blue"
    with pytest.raises(MissingAuthorization):
        tenant(Auth([TRUSTED]))


MALFORMED = "no.token.atall"
CHAINS: list[tuple[list[Authenticator], str, str | type[A8Error]]] = [
    ([JWT], GOOD, "blue"),
    ([JWT], "", MissingAuthorization),
    ([JWT], MALFORMED, NotAuthorized),
    ([JWT], BAD, NotAuthorized),
    # What is no JWT passes on; a JWT that is not good does not.
    ([JWT, TRUSTED], "green", "green"),
    ([JWT, TRUSTED], MALFORMED, MALFORMED),
    ([JWT, TRUSTED], GOOD, "blue"),
    ([JWT, TRUSTED], BAD, NotAuthorized),
    ([JWT, TRUSTED], "", MissingAuthorization),
    # trusted knows every token, so that nothing behind it is asked.
    ([TRUSTED, JWT], "green", "green"),
    ([Open(), JWT], "", "default"),
    ([Open(), JWT], GOOD, "blue"),
    ([Open(), JWT], "green", NotAuthorized),
    ([Open(), TRUSTED], "green", "green"),
    ([Open(), TRUSTED], "default", "default"),
]


@pytest.mark.parametrize(("chain", "sent", "expected"), CHAINS)
def test_the_chain(chain: list[Authenticator], sent: str, expected: str | type[A8Error]) -> None:
    header = f"Bearer {sent}" if sent else ""
    if isinstance(expected, str):
        assert tenant(Auth(chain), header) == expected
    else:
        with pytest.raises(expected) as caught:
            tenant(Auth(chain), header)
        assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("auth", "header"),
    [(Auth([TRUSTED]), "Bearer admin"), (Auth([JWT]), f"Bearer {token('admin')}")],
    ids=["trusted", "jwt"],
)
def test_an_admin_says_for_whom(auth: Auth, header: str) -> None:
    assert tenant(auth, header, "blue") == "blue"
    for nobody in (None, "", "  ", "x" * 129):
        with pytest.raises(MissingNamespace) as caught:
            tenant(auth, header, nobody)
        assert caught.value.code == "missing_namespace_header"


def test_the_namespace_of_others_is_not_looked_at() -> None:
    assert tenant(Auth([TRUSTED]), "Bearer blue", "green") == "blue"
    assert tenant(Auth([JWT]), f"Bearer {GOOD}", "green") == "blue"
    assert tenant(Auth(), "", "green") == "default"


def test_without_proof_nobody_is_admin_where_others_reach() -> None:
    auth = Auth([Trusted(admin=False)])
    assert tenant(auth, "Bearer blue") == "blue"
    for namespace in (None, "blue"):
        with pytest.raises(NotAuthorized, match="trusted_admin"):
            tenant(auth, "Bearer admin", namespace)
    signed = Auth([JWT, Trusted(admin=False)])
    assert tenant(signed, f"Bearer {token('admin')}", "blue") == "blue"


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a\x00", "x" * 129, "\u200b", "\ud800"])
def test_names_that_no_log_or_label_could_show(name: str) -> None:
    assert tenant_problem(name)
    with pytest.raises(NotAuthorized):
        Auth([JWT]).resolve(token(name))


@pytest.mark.parametrize("name", ["blue", "team/blue", "größe", "a" * 128, "a.b-c_d"])
def test_names_that_can(name: str) -> None:
    assert tenant_problem(name) is None


def test_tenants_are_bounded_and_those_known_go_on() -> None:
    auth = Auth([TRUSTED], tenants_limit=2)
    for name in ("a", "b", "a"):
        assert tenant(auth, f"Bearer {name}") == name
    with pytest.raises(TooManyTenants, match="2"):
        tenant(auth, "Bearer c")
    assert tenant(auth, "Bearer b") == "b"


def test_bearer_takes_one_token() -> None:
    assert bearer("Bearer abc") == "abc"
    assert bearer("") == ""


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback(host: str, is_it: bool) -> None:
    assert on_loopback(host) is is_it


def test_a_token_without_a_signature_is_refused() -> None:
    forged = crafted({"alg": "none", "typ": "JWT"}, {"namespace": "blue"})
    with pytest.raises(NotAuthorized):
        tenant(Auth([JWT]), f"Bearer {forged}")
