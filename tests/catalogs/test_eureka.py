"""Eureka as a client sees it: deltas, failover, credentials, certificates, and data that stay."""

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from amalgam8.catalogs.contract import Listener, running
from amalgam8.catalogs.eureka import EurekaOptions, open_catalog
from amalgam8.catalogs.eureka_document import PUBLISHED_KEY
from amalgam8.catalogs.loader import read_options
from amalgam8.model.errors import InvalidSetting
from tests.catalogs.eureka_server import EurekaServer, document
from tests.catalogs.tls import TlsServer, make_pair
from tests.conftest import free_port
from tests.wire import served

WITHIN = 10.0


def options(*urls: str, **more: str) -> dict[str, str]:
    return {"url": ",".join(urls), "period": "20ms", **more}


@contextlib.asynccontextmanager
async def following(*servers: EurekaServer, **more: str) -> AsyncIterator[Listener]:
    async with contextlib.AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(served(server.app)) for server in servers]
        urls = [f"http://127.0.0.1:{port}/eureka" for port in ports]
        async with running(open_catalog(options(*urls, **more))) as listener:
            yield listener


def ids(listener: Listener, tenant: str = "default") -> list[str]:
    return sorted(one.id for one in listener.told[-1].get(tenant, ())) if listener.told else []


async def told(listener: Listener, *wanted: str) -> None:
    await listener.until(lambda: ids(listener) == sorted(wanted), f"{wanted}", WITHIN)


async def more_fulls(listener: Listener, server: EurekaServer) -> None:
    """Wait for another two full documents."""
    before = server.fulls()
    await listener.until(lambda: server.fulls() >= before + 2, "full documents", WITHIN)


@pytest.mark.parametrize("form", ["json", "xml"])
async def test_everything_once_and_then_deltas(form: str) -> None:
    server = EurekaServer()
    server.add(document("A", "x", 80), document("B", "y", 81, status="DOWN"))
    async with following(server, format=form) as listener:
        await told(listener, "a:x", "b:y")
        server.add(document("A", "z", 82), document("A", "x", 80, status="OUT_OF_SERVICE"))
        server.remove("B", "y")
        await told(listener, "a:x", "a:z")
        statuses = {one.id: one.status for one in listener.told[-1]["default"]}
        assert statuses == {"a:x": "OUT_OF_SERVICE", "a:z": "UP"}
    assert server.fulls() == 1
    assert server.deltas() >= 1
    assert server.accepted[0].startswith(f"application/{form}")


async def test_xml_that_was_not_asked_for_is_understood() -> None:
    server = EurekaServer()
    server.xml_only = True
    server.add(document("A", "x", 80))
    async with following(server) as listener:
        await told(listener, "a:x")


async def test_a_wrong_hash_leads_to_a_full_document() -> None:
    server = EurekaServer()
    server.add(document("A", "x", 80))
    async with following(server) as listener:
        await told(listener, "a:x")
        del server.known["A", "x"]  # and no delta says so
        await told(listener)
        assert server.fulls() == 2
        server.wrong_hash = "UP_99_"
        await more_fulls(listener, server)
    assert not listener.reasons


@pytest.mark.parametrize("status", [404, 400, 403, 501])
async def test_a_server_without_deltas_is_read_in_full(status: int) -> None:
    server = EurekaServer()
    server.no_delta = status
    server.add(document("A", "x", 80))
    async with following(server) as listener:
        await told(listener, "a:x")
        server.add(document("A", "y", 81))
        await told(listener, "a:x", "a:y")
    assert not listener.reasons


async def test_what_was_known_stays_while_the_server_is_away() -> None:
    server = EurekaServer()
    server.add(document("A", "x", 80))
    async with following(server) as listener:
        await told(listener, "a:x")
        for body in (b"", b"{", b"<applications>", b'{"other": 1}', b"<!DOCTYPE a><applications/>"):
            server.body = body
            before = len(listener.reasons)
            await listener.until(lambda count=before: len(listener.reasons) > count, "a failure", WITHIN)  # type: ignore[misc]
        server.refuse = 500
        before = len(listener.reasons)
        await listener.until(lambda: len(listener.reasons) > before + 1, "a failure", WITHIN)
        assert ids(listener) == ["a:x"]
        server.body, server.refuse = None, 0
        server.add(document("A", "y", 81))
        await told(listener, "a:x", "a:y")


async def test_another_server_is_asked_and_gives_its_whole() -> None:
    first, second = EurekaServer(), EurekaServer()
    first.add(document("A", "x", 80))
    second.add(document("A", "x", 80))
    async with following(first, second) as listener:
        await told(listener, "a:x")
        assert second.asked == []
        second.add(document("A", "y", 81))
        first.refuse = 503
        await told(listener, "a:x", "a:y")
        assert second.asked[0] == "/eureka/apps", (
            "deltas of one server mean nothing after the whole of another"
        )
        first.refuse = 0
        count = len(first.asked)
        deltas = second.deltas()
        await listener.until(lambda: second.deltas() > deltas + 2, "deltas", WITHIN)
        assert len(first.asked) == count, "the one that answered last is asked first"
    assert not listener.reasons


async def test_a_server_that_is_not_there_is_passed_over() -> None:
    server = EurekaServer()
    server.add(document("A", "x", 80))
    async with served(server.app) as port:
        urls = (f"http://127.0.0.1:{free_port()}/eureka", f"http://127.0.0.1:{port}/eureka/")
        async with running(open_catalog(options(*urls))) as listener:
            await told(listener, "a:x")
    assert not listener.reasons


@pytest.mark.parametrize("how", ["in the url", "beside it"])
async def test_credentials_are_sent_and_never_shown(how: str, caplog: pytest.LogCaptureFixture) -> None:
    server = EurekaServer()
    server.login = "mesh:p@ss:word"
    server.add(document("A", "x", 80))
    caplog.set_level(logging.DEBUG)
    async with served(server.app) as port:
        where = f"127.0.0.1:{port}/eureka"
        if how == "in the url":
            chosen = options(f"http://mesh:p%40ss%3Aword@{where}")
        else:
            chosen = options(f"http://{where}", username="mesh", password="p@ss:word")
        async with running(open_catalog(chosen)) as listener:
            await told(listener, "a:x")
            server.login = "mesh:another"
            await listener.until(lambda: bool(listener.reasons), "a failure", WITHIN)
    shown = " ".join([*listener.reasons, *(repr(record.__dict__) for record in caplog.records)])
    assert "401" in listener.reasons[0]
    assert "ss" + "%3A" not in shown
    assert "p@ss" not in shown
    assert "p%40ss" not in shown


async def test_what_a_registry_published_itself_does_not_come_back() -> None:
    server = EurekaServer()
    server.add(document("A", "x", 80), document("A", "ours", 81, metadata={PUBLISHED_KEY: "true"}))
    async with following(server) as listener:
        await told(listener, "a:x")
        server.add(document("A", "y", 82))
        await told(listener, "a:x", "a:y")
    assert server.fulls() == 1, "it counts in the hash"


async def test_instances_belong_to_the_tenant_that_is_chosen() -> None:
    server = EurekaServer()
    server.add(document("A", "x", 80))
    async with following(server, tenant="shop") as listener:
        await listener.until(lambda: ids(listener, "shop") == ["a:x"], "the tenant's instance", WITHIN)
        assert set(listener.told[-1]) == {"shop"}


async def test_certificates_are_checked(tmp_path: Path) -> None:
    crt, key = make_pair(tmp_path)
    server = TlsServer(b'{"applications":{"versions__delta":"-1","apps__hashcode":"","application":[]}}')
    async with server.serving(crt, key):
        url = f"https://127.0.0.1:{server.port}/eureka"
        async with running(open_catalog(options(url))) as listener:
            await listener.until(lambda: bool(listener.reasons), "a failure", WITHIN)
        assert listener.told == []
        assert "certificate" in listener.reasons[0].lower()
        async with running(open_catalog(options(url, ca_file=str(crt)))) as listener:
            await listener.until(lambda: bool(listener.told), "an answer", WITHIN)


def test_options_are_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "no.crt").write_text("nonsense")
    for given, said in (
        ({}, "url is missing"),
        ({"url": "http://mesh:secret@"}, "url: the value is not allowed"),
        ({"url": ",".join(["http://a"] * 17)}, "1 to 16"),
        ({"url": "http://a", "format": "yaml"}, "json or xml"),
        ({"url": "http://a", "ca_file": str(tmp_path / "no.crt")}, "no.crt cannot be used"),
        ({"url": "http://a", "ca_file": "/nowhere"}, "/nowhere cannot be used"),
    ):
        with pytest.raises(InvalidSetting, match=said) as caught:
            open_catalog(given)
        assert "secret" not in str(caught.value)


def test_defaults() -> None:
    chosen = read_options(EurekaOptions, "eureka", {"url": "http://a/eureka/"})
    assert (chosen.period, chosen.tenant, chosen.url) == (30.0, "default", ("http://a/eureka",))
