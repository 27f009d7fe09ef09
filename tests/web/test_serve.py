"""Serving over real sockets: where it listens, and an end in order."""

import asyncio
import resource
import socket
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amalgam8.model.errors import InvalidSetting
from amalgam8.web import serve
from amalgam8.web.app import Api, json_response
from amalgam8.web.errors import registry_style
from amalgam8.web.serve import bind, serving


async def echo(request: Request) -> Response:
    return json_response(await request.body() or b"{}")


APP = Api([Route("/", echo)], style=registry_style, body_limit=10**6)


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


async def test_there_are_fewer_connections_where_there_are_few_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that whoever is one too many is told so, and those who are there are served."""
    monkeypatch.setattr(serve, "DESCRIPTORS_KEPT", resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 3)
    ask = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(APP, bind("127.0.0.1", 0, "port")) as port, asyncio.timeout(20):
        there = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in there:
            writer.write(ask)
            assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 ")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ask)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 503 ")
        writer.close()
        there[0][1].write(ask)
        assert (await there[0][0].readuntil(b"{}")).startswith(b"HTTP/1.1 200 ")
        for _, writer in there:
            writer.close()
