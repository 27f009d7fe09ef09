"""Serving over real sockets: slow, half-sent, oversized and unread, and an end in order."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from amalgam8.model.errors import InvalidSetting
from amalgam8.web import protocol
from amalgam8.web.app import Api, json_response
from amalgam8.web.errors import registry_style
from amalgam8.web.serve import bind, serving

LARGE = 64 * 1024 * 1024


async def echo(request: Request) -> Response:
    return json_response(await request.body() or b"{}")


async def large(_request: Request) -> Response:
    return Response(b"x" * LARGE)


APP = Api(
    [Route("/", echo, methods=["GET", "POST"]), Route("/large", large)],
    style=registry_style,
    body_limit=10**6,
)


@contextlib.asynccontextmanager
async def connected(
    host: str = "127.0.0.1",
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with serving(APP, bind(host, 0, "port")) as port:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            async with asyncio.timeout(20):
                yield reader, writer
        finally:
            writer.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN", 0.3)
    monkeypatch.setattr(protocol, "BODY_WITHIN", 0.3)
    monkeypatch.setattr(protocol, "UNREAD_FOR", 0.3)


async def test_a_half_sent_head_is_told_and_cut() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHo")
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'{"Error":"the request did not arrive in time"' in answer


async def test_a_head_that_trickles_in_is_cut_too() -> None:
    async with connected() as (reader, writer):
        answer = asyncio.ensure_future(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n")
        while not answer.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait([answer], timeout=0.05)
    assert b" 408 " in await answer


async def test_a_half_sent_body_is_told_and_cut() -> None:
    async with connected() as (reader, writer):
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_connection_without_a_word_is_closed_without_one() -> None:
    async with connected() as (reader, _):
        assert await reader.read() == b""


async def test_a_second_request_is_watched_as_well() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"{}")
        await asyncio.sleep(0.5)  # longer than a head may take: idling between requests is allowed
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"{}")
        writer.write(b"GET / HT")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


async def test_after_an_early_answer_no_second_one_is_sent() -> None:
    async with connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nx")
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_an_endless_head_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN", 15.0)
    async with connected() as (reader, writer):
        answer = asyncio.ensure_future(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (protocol.HEAD_LIMIT // 6))
        while not answer.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait([answer], timeout=0.02)
    assert (await answer).startswith(b"HTTP/1.1 431 ")


async def test_bytes_that_are_no_http_are_refused() -> None:
    async with connected() as (reader, writer):
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    cut = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * LARGE, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        cut.set()

    async with serving(app, bind("127.0.0.1", 0, "port")) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(15):
            await reader.readuntil(b"\r\n\r\n")
            await cut.wait()
        writer.close()


async def test_a_client_that_reads_slowly_is_served_to_the_end() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        size = 0
        pauses = 0
        while chunk := await reader.read(1 << 20):
            size += len(chunk)
            if size > (pauses + 1) * LARGE // 6:
                pauses += 1
                await asyncio.sleep(0.15)
    assert size > LARGE
    assert pauses >= 5


async def test_leaving_ends_idle_and_waiting_connections() -> None:
    hold = asyncio.Event()

    async def wait(_request: Request) -> Response:
        await hold.wait()
        return json_response(None)

    app = Api([Route("/", echo), Route("/wait", wait)], style=registry_style, body_limit=10)
    async with serving(app, bind("127.0.0.1", 0, "port")) as port:
        idle_reader, idle = await asyncio.open_connection("127.0.0.1", port)
        idle.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await idle_reader.readuntil(b"\r\n\r\n{}")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await idle_reader.read() == b""
        await reader.read()
    idle.close()
    writer.close()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_when_cancelled_it_still_ends_in_order() -> None:
    up: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with serving(APP, bind("127.0.0.1", 0, "port")) as port:
            up.set_result(port)
            await asyncio.Event().wait()

    task = asyncio.ensure_future(run())
    reader, writer = await asyncio.open_connection("127.0.0.1", await up)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"{}")
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await reader.read() == b""
    writer.close()


async def test_an_error_inside_the_block_gets_out() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with serving(APP, bind("127.0.0.1", 0, "port")):
            raise ValueError("inside")
    assert caught.group_contains(ValueError, match="inside")


def test_a_port_in_use_is_named() -> None:
    taken = bind("127.0.0.1", 0, "api_port")
    port = taken.getsockname()[1]
    with taken, pytest.raises(InvalidSetting) as caught:
        bind("127.0.0.1", port, "api_port")
    assert str(caught.value) == f"api_port: port {port} on 127.0.0.1 is already taken"


@pytest.mark.parametrize(
    ("host", "port"), [("192.0.2.1", 0), ("no.such.host.invalid", 0), ("127.0.0.1", 70_000)]
)
def test_an_address_that_cannot_be_listened_on_is_named(host: str, port: int) -> None:
    with pytest.raises(InvalidSetting, match=f"api_port: port {port} on {host} cannot be listened on"):
        bind(host, port, "api_port")


async def test_a_unix_socket_is_served_too(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.setblocking(False)
    async with serving(APP, listener) as port:
        assert port == 0
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()
