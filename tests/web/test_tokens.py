"""Tokens: every way in which one can be wrong, keys that are refused, and what is remembered."""

import base64
import hashlib
import hmac
import json
import math
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from amalgam8.model.errors import InvalidSetting, NotAuthorized
from amalgam8.web.tokens import Jwt, Key, jwks_keys, pem_key, secret_key
from tests.web.keys import NOW, SECRET, crafted, jwk, private_keys, private_pem, public_pem, token, written

PRIVATE = private_keys()
SECRET_KEY = secret_key(SECRET)
TOO_FEW_BITS = 1024


def checker(*keys: Key, now: float = NOW, **more: Any) -> Jwt:
    return Jwt(keys or (SECRET_KEY,), wall=lambda: now, **more)


def test_a_good_token_names_its_tenant() -> None:
    assert checker().authenticate(token("blue")) == "blue"


@pytest.mark.parametrize("algorithm", PRIVATE)
@pytest.mark.parametrize("form", ["pem", "jwks"])
def test_each_kind_of_key(algorithm: str, form: str, tmp_path: Path) -> None:
    private = PRIVATE[algorithm]
    if form == "pem":
        keys = [pem_key(written(tmp_path / "key", public_pem(private)))]
    else:
        keys = jwks_keys(written(tmp_path / "key", {"keys": [jwk(private, algorithm)]}))
    assert [key.algorithm for key in keys] == [algorithm]
    assert checker(*keys).authenticate(token("blue", private, algorithm)) == "blue"
    with pytest.raises(NotAuthorized, match="not signed"):
        checker(*keys).authenticate(token("blue", private_keys()[algorithm], algorithm))


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": NOW - 1}, "has expired"),
        ({"exp": 0}, "has expired"),
        ({"exp": -1e300}, "has expired"),
        ({"exp": str(NOW + 60)}, "'exp' is no number"),
        ({"exp": None}, "'exp' is no number"),
        ({"exp": True}, "'exp' is no number"),
        ({"exp": 10**400}, "no moment"),
        ({"nbf": 10**30}, "not good yet"),
        ({"nbf": NOW + 1}, "not good yet"),
        ({"nbf": []}, "'nbf' is no number"),
        ({"namespace": ""}, "names no tenant"),
        ({"namespace": 7}, "names no tenant"),
        ({"namespace": ["blue"]}, "names no tenant"),
        ({"namespace": None}, "names no tenant"),
    ],
)
def test_claims_that_are_refused(claims: dict[str, Any], says: str) -> None:
    sent = jwt.encode({"namespace": "blue", **claims}, SECRET, "HS256")
    with pytest.raises(NotAuthorized, match=says) as caught:
        checker().authenticate(sent)
    assert sent not in str(caught.value)


def test_a_token_without_the_claim_is_refused() -> None:
    with pytest.raises(NotAuthorized, match="namespace"):
        checker().authenticate(jwt.encode({"sub": "blue"}, SECRET, "HS256"))


@pytest.mark.parametrize("claims", [{"exp": NOW}, {"nbf": NOW}, {"exp": NOW + 0.5, "nbf": NOW - 0.5}, {}])
def test_the_bounds_themselves_are_good(claims: dict[str, Any]) -> None:
    assert checker().authenticate(token("blue", **claims)) == "blue"


def test_leeway_covers_clocks_that_differ() -> None:
    late, early = token("blue", exp=NOW - 5), token("blue", nbf=NOW + 5)
    for sent in (late, early):
        assert checker(leeway=5.0).authenticate(sent) == "blue"
        with pytest.raises(NotAuthorized):
            checker(leeway=4.0).authenticate(sent)


@pytest.mark.parametrize(
    ("aud", "good"), [("mesh", True), (["x", "mesh"], True), ("x", False), (None, False)]
)
def test_audience(aud: Any, good: bool) -> None:
    sent = token("blue", **({} if aud is None else {"aud": aud}))
    assert checker().authenticate(sent) == "blue"
    if good:
        assert checker(audience="mesh").authenticate(sent) == "blue"
    else:
        with pytest.raises(NotAuthorized, match="aud"):
            checker(audience="mesh").authenticate(sent)


def test_issuer() -> None:
    assert checker(issuer="us").authenticate(token("blue", iss="us")) == "blue"
    for claims in ({"iss": "them"}, {"iss": ["us"]}, {}):
        with pytest.raises(NotAuthorized, match="iss"):
            checker(issuer="us").authenticate(crafted_by_us(claims))


def crafted_by_us(claims: dict[str, Any]) -> str:
    return jwt.PyJWS().encode(json.dumps({"namespace": "blue", **claims}).encode(), SECRET, "HS256")


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", "HS384", "HS512", "RS256", None, 7, ["HS256"]])
def test_the_algorithm_is_the_keys_and_not_the_tokens(name: Any) -> None:
    with pytest.raises(NotAuthorized):
        checker().authenticate(crafted({"alg": name}, {"namespace": "blue"}))


def test_a_public_key_is_no_secret() -> None:
    """The classic confusion: signed with HS256, with the text of the public key for the secret."""
    for name, private in PRIVATE.items():
        public = public_pem(private)
        unsigned = crafted({"alg": "HS256"}, {"namespace": "blue"}).rpartition(".")[0]
        forged = hmac.new(public, unsigned.encode(), hashlib.sha256).digest()
        sent = crafted({"alg": "HS256"}, {"namespace": "blue"}, forged)
        with pytest.raises(NotAuthorized):
            checker(Key(name, private.public_key())).authenticate(sent)
        with pytest.raises(NotAuthorized):
            checker(Key(name, private.public_key()), SECRET_KEY).authenticate(sent)


def test_a_signature_over_other_claims_is_refused() -> None:
    head, _, signature = token("blue").split(".")
    other = token("green").split(".")[1]
    with pytest.raises(NotAuthorized, match="not signed"):
        checker().authenticate(".".join((head, other, signature)))


@pytest.mark.parametrize(
    "sent",
    [
        "blue",
        "a.b",
        "a.b.c.d",
        "!.!.!",
        "..",
        "e30.e30.é",
        "bnVsbA.e30.x",
        "e30.W10.eA",
        "A" * 9000,
        "[." * 3,
    ],
)
def test_what_has_not_the_shape_of_a_token_is_for_others(sent: str) -> None:
    assert checker().authenticate(sent) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_json_is_no_token_even_if_signed(value: float) -> None:
    assert checker().authenticate(token("blue", exp=value)) is None


def test_deep_json_is_no_token() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()
    assert checker().authenticate(f"{deep}.{deep}.eA") is None


def test_critical_extensions_are_refused() -> None:
    sent = jwt.encode({"namespace": "blue"}, SECRET, "HS256", headers={"crit": ["exp"], "exp": 1})
    with pytest.raises(NotAuthorized, match="critical"):
        checker().authenticate(sent)


def test_keys_of_a_file_are_chosen_by_id_and_algorithm(tmp_path: Path) -> None:
    other = private_keys()
    document = {
        "keys": [
            jwk(PRIVATE["RS256"], "RS256", kid="old", use="sig", alg="RS256"),
            jwk(other["RS256"], "RS256", kid="new"),
            jwk(PRIVATE["ES256"], "ES256"),
            jwk(PRIVATE["RS256"], "RS256", use="enc"),
            {"kty": "EC", "crv": "P-521"},
            {"kty": "RSA", "alg": "RSA-OAEP"},
            7,
        ]
    }
    check = checker(*jwks_keys(written(tmp_path / "keys", document)))
    assert check.authenticate(token("blue", PRIVATE["RS256"], "RS256", kid="old")) == "blue"
    assert check.authenticate(token("blue", other["RS256"], "RS256", kid="new")) == "blue"
    assert check.authenticate(token("blue", other["RS256"], "RS256")) == "blue"
    assert check.authenticate(token("blue", PRIVATE["ES256"], "ES256", kid="any")) == "blue"
    with pytest.raises(NotAuthorized):
        check.authenticate(token("blue", other["RS256"], "RS256", kid="old"))


def test_a_remembered_token_ends_with_its_time() -> None:
    now = NOW
    check = Jwt([SECRET_KEY], wall=lambda: now, leeway=1.0)
    sent = token("blue", exp=NOW + 10)
    assert check.authenticate(sent) == "blue"
    now = NOW + 11
    assert check.authenticate(sent) == "blue"
    now = NOW + 11.1
    for _ in range(2):
        with pytest.raises(NotAuthorized, match="expired"):
            check.authenticate(sent)
    assert not check._good


def test_what_is_remembered_is_bounded_and_holds_no_tokens() -> None:
    check = checker(cached=10)
    sent = [token(f"t{number}") for number in range(50)]
    assert [check.authenticate(one) for one in sent] == [f"t{number}" for number in range(50)]
    assert len(check._good) == 10
    assert not any(one.encode() in check._good for one in sent)
    with pytest.raises(NotAuthorized):
        check.authenticate(token("t", "y" * 32))
    assert len(check._good) == 10


@pytest.mark.parametrize("secret", ["", "x" * 31, "-----BEGIN PUBLIC KEY-----\n" + "x" * 40])
def test_secrets_that_are_refused_are_not_shown(secret: str) -> None:
    with pytest.raises(InvalidSetting, match="jwt_secret") as caught:
        secret_key(secret)
    assert "xxx" not in str(caught.value)


def bad_files() -> list[tuple[str, Any, str]]:
    return [
        ("pem", b"", "no public key"),
        ("pem", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        ("pem", private_pem(PRIVATE["ES256"]), "private key"),
        ("pem", public_pem(rsa.generate_private_key(65537, TOO_FEW_BITS)), "fewer than 2048 bits"),
        ("pem", public_pem(ec.generate_private_key(ec.SECP384R1())), "EC on P-256"),
        ("jwks", b"{", "no JWKS document"),
        ("jwks", [], "no JWKS document"),
        ("jwks", {"keys": 7}, "no JWKS document"),
        ("jwks", {"keys": []}, "no key for"),
        ("jwks", {"keys": [{"kty": ["RSA"], "crv": {}}]}, "no key for"),
        ("jwks", {"keys": [{"kty": "oct", "k": "AAAA"}]}, "jwt_secret"),
        ("jwks", {"keys": [{"kty": "RSA", "n": "!", "e": "AQAB"}]}, "cannot be read"),
        ("jwks", {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA"}]}, "private key"),
        ("jwks", b"x" * 1_000_001, "larger than"),
    ]


@pytest.mark.parametrize(("form", "content", "says"), bad_files())
def test_key_files_that_are_refused(form: str, content: Any, says: str, tmp_path: Path) -> None:
    path = written(tmp_path / "key", content)
    with pytest.raises(InvalidSetting, match=says) as caught:
        pem_key(path) if form == "pem" else jwks_keys(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for read in (pem_key, jwks_keys):
        with pytest.raises(InvalidSetting, match=r"cannot read .*nothing"):
            read(tmp_path / "nothing")
