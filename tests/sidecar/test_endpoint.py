"""The endpoint's address, and waiting for it."""

import asyncio
import contextlib
import ipaddress
import socket

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.model.instance import Endpoint
from amalgam8.sidecar import endpoint
from amalgam8.sidecar.endpoint import accepts, endpoint_of, first_address, until_accepting
from tests.conftest import eventually, free_port


def test_an_address_as_given() -> None:
    assert endpoint_of("http", "127.0.0.1", 80) == Endpoint("http", "127.0.0.1:80")
    assert endpoint_of("https", "::1", 443) == Endpoint("https", "[::1]:443")
    assert endpoint_of("https", "[::1]", 443) == Endpoint("https", "[::1]:443")
    assert endpoint_of("tcp", "db.internal", 5432) == Endpoint("tcp", "db.internal:5432")


def test_the_machines_own_address_is_never_loopback() -> None:
    with contextlib.suppress(InvalidSetting):  # a machine that has no other
        assert not ipaddress.ip_address(first_address()).is_loopback


def test_a_machine_with_loopback_alone_is_asked_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo")])
    with pytest.raises(InvalidSetting, match="endpoint_host: missing"):
        endpoint_of("http", "", 80)


async def test_accepts_what_listens() -> None:
    port = free_port()
    assert not await accepts("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert await accepts("127.0.0.1", port)


async def test_waits_for_whoever_comes_late_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(endpoint, "MENTION_AFTER", 0.0)
    monkeypatch.setattr(endpoint, "CHECK_EVERY", 0.001)
    checks = 0
    port = free_port()

    async def counted(host: str, port: int) -> bool:
        nonlocal checks
        checks += 1
        return await accepts(host, port)

    monkeypatch.setattr(endpoint, "accepts", counted)
    waiting = asyncio.create_task(until_accepting("127.0.0.1", port, "nobody there"))

    async def checked_often() -> bool:
        return checks >= 5

    await eventually(checked_often)
    assert not waiting.done()
    with socket.create_server(("127.0.0.1", port)):
        async with asyncio.timeout(10):
            await waiting
    assert [record.message for record in caplog.records] == ["nobody there"]
