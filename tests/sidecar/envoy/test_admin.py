"""Figures: from a real Envoy, and from servers that answer badly."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from amalgam8.model.errors import Unreachable
from amalgam8.sidecar.envoy import admin
from amalgam8.sidecar.envoy.admin import METRICS, fetch, metrics, text
from tests.sidecar.envoy.support import Mesh, backends, simple


async def test_calls_are_counted(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        for path in ("/svc/", "/svc/", "/nope/"):
            await mesh.ask(path)
        lines = (await mesh.envoy.metrics()).decode().splitlines()
    assert 'a8_proxy_calls_total{status="2xx"} 2' in lines
    assert 'a8_proxy_calls_total{status="4xx"} 1' in lines
    assert "a8_proxy_restarts_total 0" in lines
    memory = next(line for line in lines if line.startswith("a8_proxy_memory_bytes "))
    assert int(memory.split()[1]) > 1_000_000


async def test_figures_hold_every_call_that_was_answered_before_they_were_asked_for(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer("v1")))
        for number in range(1, 31):
            await mesh.ask("/svc/")
            lines = (await mesh.envoy.metrics()).decode().splitlines()
            labels = 'destination="svc",version="v1"'
            assert f'a8_proxy_requests_total{{{labels},status="2xx",reason=""}} {number}' in lines
            assert f"a8_proxy_request_duration_seconds_count{{{labels}}} {number}" in lines


async def test_without_a_process_there_are_no_figures(mesh: Mesh, tmp_path: Path) -> None:
    mesh.envoy._admin_socket = tmp_path / "nobody.sock"
    assert await mesh.envoy.metrics() == b""


def test_each_name_is_described_once() -> None:
    lines = text({}).decode().splitlines()
    described = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(described) == len(set(described))
    assert set(described) == {metric.name for metric in METRICS} | {"a8_proxy_restarts_total"}


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(data: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        writer.close()

    return handle


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n" + b" " * 20_000_000,
    ],
    ids=["nothing", "nonsense", "status", "cut", "other-json", "endless"],
)
async def test_bad_answers_are_refused(tmp_path: Path, data: bytes) -> None:
    server = await asyncio.start_unix_server(answering(data), tmp_path / "s")
    async with server:
        with pytest.raises(Unreachable):
            await metrics(tmp_path / "s", 0)


async def test_silence_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    over = asyncio.Event()
    monkeypatch.setattr(admin, "TIMEOUT", 0.1)
    async with await asyncio.start_unix_server(silent, tmp_path / "s"):
        with pytest.raises(Unreachable, match="timeout"):
            await fetch(tmp_path / "s", "/stats")
        over.set()
        await asyncio.sleep(0.01)  # so that the server's side is closed before the loop is
