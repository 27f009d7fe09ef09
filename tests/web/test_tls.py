"""TLS on real sockets, files that are refused, and the way to https."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from starlette.types import Receive, Scope, Send

from amalgam8.clients.http import Http
from amalgam8.clients.tls import client_context
from amalgam8.model.errors import InvalidSetting, Unreachable
from amalgam8.web import protocol
from amalgam8.web.app import Api
from amalgam8.web.errors import registry_style
from amalgam8.web.serve import bind, serving
from amalgam8.web.tls import is_secure, server_context
from tests.controller.serving import running as controller
from tests.registry.kit import running as registry
from tests.registry.test_api import raw
from tests.web.certificates import Files, made
from tests.web.test_protocol import BODY_LIMIT, LARGE, table

APP = Api(table(plain=True), style=registry_style, body_limit=BODY_LIMIT)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return made(tmp_path_factory.mktemp("tls"))


@contextlib.asynccontextmanager
async def served(files: Files, client_ca: Path | None = None) -> AsyncIterator[int]:
    context = server_context(files.cert, files.key, client_ca)
    async with serving(APP, bind("127.0.0.1", 0, "port"), context) as port:
        yield port


@contextlib.asynccontextmanager
async def client(url: str, context: ssl.SSLContext | None) -> AsyncIterator[Http]:
    http = Http(url, tls=context)
    try:
        yield http
    finally:
        await http.close()


async def test_who_trusts_the_authority_is_served(files: Files) -> None:
    async with served(files) as port:
        for host in ("127.0.0.1", "localhost"):
            async with client(f"https://{host}:{port}", client_context(files.ca)) as http:
                assert (await http.request("POST", "/", {"a": [1]})).json() == {"a": [1]}
                assert len((await http.request("GET", "/large")).body) > 10**6


async def test_who_does_not_trust_it_sends_nothing(files: Files, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other"))
    async with served(files) as port:
        for context in (None, client_context(tmp_path / "other")):
            async with client(f"https://127.0.0.1:{port}", context) as http:
                with pytest.raises(Unreachable, match="certificate verify failed"):
                    await http.request("GET", "/")


async def test_a_certificate_for_another_name_is_refused(files: Files) -> None:
    async with served(files) as port, client(f"https://127.0.0.2:{port}", client_context(files.ca)) as http:
        with pytest.raises(Unreachable):
            await http.request("GET", "/")


async def test_clear_text_is_not_answered(files: Files) -> None:
    async with served(files) as port, client(f"http://127.0.0.1:{port}", None) as http:
        with pytest.raises(Unreachable):
            await http.request("GET", "/")
        async with client(f"https://127.0.0.1:{port}", client_context(files.ca)) as secure:
            assert (await secure.request("GET", "/")).status == 200


async def test_who_does_not_read_is_cut_off(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNREAD_FOR", 0.3)
    cut = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * LARGE, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        cut.set()

    context = server_context(files.cert, files.key, None)
    async with serving(app, bind("127.0.0.1", 0, "port"), context) as port:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, limit=4096, ssl=client_context(files.ca)
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(15):
            await reader.readuntil(b"\r\n\r\n")
            await cut.wait()
        writer.transport.abort()


async def test_old_versions_are_refused(files: Files) -> None:
    context = client_context(files.ca)
    assert context is not None
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with served(files) as port, client(f"https://127.0.0.1:{port}", context) as http:
        with pytest.raises(Unreachable):
            await http.request("GET", "/")


async def test_clients_show_a_certificate_where_they_must(files: Files) -> None:
    async with served(files, files.ca) as port:
        url = f"https://127.0.0.1:{port}"
        async with client(url, client_context(files.ca, files.client_cert, files.client_key)) as http:
            assert (await http.request("GET", "/")).status == 200
        async with client(url, client_context(files.ca)) as http:
            with pytest.raises(Unreachable):
                await http.request("GET", "/")


def locked(files: Files) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(files.key.read_bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def test_files_that_cannot_be_used_are_named(files: Files, tmp_path: Path) -> None:
    junk, shut = tmp_path / "junk", tmp_path / "locked"
    junk.write_bytes(b"junk")
    shut.write_bytes(locked(files))
    nothing = tmp_path / "nothing"
    cases: list[tuple[tuple[Path | None, Path | None, Path | None], str]] = [
        ((files.cert, None, None), "tls_key: missing"),
        ((None, files.key, None), "tls_cert: missing"),
        ((None, None, files.ca), "tls_client_ca: needs tls_cert"),
        ((nothing, files.key, None), f"tls_cert: cannot read {nothing}"),
        ((files.cert, nothing, None), f"tls_key: cannot read {nothing}"),
        ((files.cert, files.key, nothing), f"tls_client_ca: cannot read {nothing}"),
        ((files.cert, tmp_path, None), f"tls_key: cannot read {tmp_path}"),
        ((junk, files.key, None), "no certificate chain and its key"),
        ((files.cert, junk, None), "no certificate chain and its key"),
        ((files.cert, files.client_key, None), "key values mismatch"),
        ((files.cert, shut, None), "locked with a passphrase"),
        ((files.cert, files.key, junk), "tls_client_ca:"),
    ]
    for given, says in cases:
        with pytest.raises(InvalidSetting) as caught:
            server_context(*given)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    assert server_context(None, None, None) is None


@pytest.mark.parametrize(
    ("scheme", "headers", "secure"),
    [
        ("https", {}, True),
        ("http", {"x-forwarded-proto": "HTTPS"}, True),
        ("http", {"$wssc": "https"}, True),
        ("http", {"x-forwarded-proto": "http"}, False),
        ("http", {"x-forwarded-proto": "https, http"}, False),
        ("http", {}, False),
    ],
)
def test_what_is_secure(scheme: str, headers: dict[str, str], secure: bool) -> None:
    assert is_secure(scheme, headers) is secure


async def test_the_registry_sends_its_api_to_https_before_it_asks_for_a_token() -> None:
    async with registry(require_https=True) as found:
        moved = await found.ask(
            "GET",
            "/api/v1/instances?tags=a%2Fb&fields=",
            headers={"Authorization": "Bearer nobody", "Host": "reg.example:31300"},
        )
        assert (moved.status, moved.body) == (301, b"")
        assert moved.headers["location"] == "https://reg.example:31300/api/v1/instances?tags=a%2Fb&fields="
        for method, path in (("PUT", "/api/v1/instances/x/heartbeat"), ("GET", "/api/nothing")):
            assert (await found.ask(method, path)).status == 301
        posted = await found.ask("POST", "/api/v1/instances", b"x" * 100_000)
        assert posted.status == 301
        for path in ("/", "/uptime", "/metrics"):
            assert (await found.ask("GET", path)).status == 200
        for header in ("X-Forwarded-Proto", "$WSSC"):
            answer = await found.ask("GET", "/api/v1/services", headers={header: "https"})
            assert answer.status == 200
        head, _ = await raw(
            found.port, b"GET https://reg.example/api/v1/services HTTP/1.1\r\nHost: reg.example\r\n\r\n"
        )
        assert head.startswith(b"HTTP/1.1 200")


async def test_the_controller_sends_every_path_to_https() -> None:
    async with controller(require_https=True) as found:
        for path in ("/health", "/metrics", "/v1/rules", "/nothing"):
            answer = await found.http.request("GET", path, headers={"Host": "c.example"})
            assert (answer.status, answer.headers["location"]) == (301, f"https://c.example{path}")
        answer = await found.http.request("GET", "/health", headers={"X-Forwarded-Proto": "https"})
        assert answer.status == 200


async def test_without_the_setting_nobody_is_moved() -> None:
    async with registry() as found:
        assert (await found.ask("GET", "/api/v1/services")).status == 200
