"""What is more than a request and an answer: streams both ways, long bodies, odd requests, HTTP/2.

Instances here are plain sockets, so that each byte can be looked at as it comes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from amalgam8.model.instance import Endpoint, Instance
from amalgam8.routing.resolve import ServiceRouting, resolve
from tests.conformance.conftest import LACKS
from tests.conformance.http2 import Http2Client
from tests.conformance.proxies import memory
from tests.conformance.running import Bench
from tests.sidecar.envoy.support import LIMIT, Client, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MB = 1024 * 1024
LONG = 100 * MB
HELD = 48 * MB
"""What may be on its way between two ends of which one does not read: in the proxy, and in the buffers of
four sockets, which the kernel lets grow to several MB each."""

GROWTH = 24 * MB
"""How much larger a proxy may be after long bodies: its memory does not depend on their length."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def needs(bench: Bench, feature: str) -> None:
    if feature in bench.proxy.lacks:
        pytest.skip(f"{LACKS}{feature}")


@contextlib.asynccontextmanager
async def served(bench: Bench, service: str, serve: Serve) -> AsyncIterator[dict[str, ServiceRouting]]:
    """The proxy follows a Routing with this service alone, whose only instance does this with connections."""

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve_and_close, "127.0.0.1", 0, limit=MB)
    try:
        routing = of(service, server.sockets[0].getsockname()[1])
        assert await bench.follow(routing, ["one"]) == {}
        yield routing
    finally:
        server.close()


def of(service: str, port: int) -> dict[str, ServiceRouting]:
    endpoint = Endpoint("http", f"127.0.0.1:{port}")
    return resolve({}, {service: (Instance("one", service, endpoint, 60, "UP"),)}, 0.0)


async def head(reader: asyncio.StreamReader) -> list[str]:
    """The lines of a request's head."""
    async with asyncio.timeout(LIMIT):
        return (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")[:-2]


async def test_a_websocket_carries_both_ways_and_over_a_change_of_rules(bench: Bench) -> None:
    asked: list[list[str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await head(reader))
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: abc\r\n\r\nhello"
        )
        while data := await reader.read(4096):
            writer.write(data.upper())

    async with served(bench, "chat", serve) as routing, Client(bench.proxy.port) as client:
        upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x")]
        async with asyncio.timeout(LIMIT):
            client.send("/chat/room?x=1", upgrade)
            reply = await client.head()
            assert (reply.status, reply.headers["sec-websocket-accept"]) == (101, "abc")
            assert await client.reader.readexactly(5) == b"hello"
            for word in (b"one", b"two"):
                client.writer.write(word)
                assert await client.reader.readexactly(3) == word.upper()
            assert await bench.follow({**routing, **of("other", 1)}, ["one"]) == {}
            client.writer.write(b"three")
            assert await client.reader.readexactly(5) == b"THREE"
    assert asked[0][0] == "GET /room?x=1 HTTP/1.1"


async def test_events_arrive_one_by_one_while_the_answer_goes_on(bench: Bench) -> None:
    next_event = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for number in range(3):
            writer.write(f"data: {number}\n\n".encode())
            await next_event.wait()
            next_event.clear()

    async with served(bench, "news", serve), Client(bench.proxy.port) as client:
        async with asyncio.timeout(LIMIT):
            client.send("/news/all")
            assert (await client.head()).headers["content-type"] == "text/event-stream"
            for number in range(3):
                await client.reader.readuntil(f"data: {number}\n\n".encode())
                next_event.set()


@pytest.mark.timeout(180)
async def test_a_long_upload_waits_for_its_reader_and_costs_no_memory(bench: Bench) -> None:
    gate, size = asyncio.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal size
        await head(reader)
        await gate.wait()
        while size < LONG:
            size += len(await reader.read(MB))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with served(bench, "upload", serve), Client(bench.proxy.port) as client:
        before = memory(bench.proxy)
        client.send("/upload/x", [("Content-Length", str(LONG))], "PUT")
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent < LONG:
                client.writer.write(b"x" * 65536)
                await client.writer.drain()
                sent += 65536

        sending = asyncio.create_task(send())
        await stands_still(lambda: sent)
        assert sent < HELD
        assert memory(bench.proxy) - before < GROWTH
        gate.set()
        async with asyncio.timeout(9 * LIMIT):
            await sending
            assert (await client.head()).status == 200
        assert size == LONG
        assert memory(bench.proxy) - before < GROWTH


@pytest.mark.timeout(180)
async def test_a_long_download_waits_for_its_reader_and_costs_no_memory(bench: Bench) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await head(reader)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n".encode())
        while sent < LONG:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with served(bench, "download", serve), Client(bench.proxy.port) as client:
        before = memory(bench.proxy)
        client.send("/download/x")
        async with asyncio.timeout(LIMIT):
            assert (await client.head()).headers["content-length"] == str(LONG)
        await stands_still(lambda: sent)
        assert sent < HELD
        came = 0
        async with asyncio.timeout(9 * LIMIT):
            while came < LONG:
                came += len(await client.reader.read(MB))
        assert came == LONG
        assert memory(bench.proxy) - before < GROWTH


async def stands_still(count: Callable[[], int]) -> None:
    """Wait until something has been sent, and no more of it for a while."""
    last, since = -1, 0
    async with asyncio.timeout(6 * LIMIT):
        while since < 20:
            await asyncio.sleep(0.05)
            since = since + 1 if count() == last and last > 0 else 0
            last = count()


async def test_a_client_that_asks_first_is_told_to_go_on(bench: Bench) -> None:
    body = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal body
        lines = await head(reader)
        if any(line.lower() == "expect: 100-continue" for line in lines):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with served(bench, "upload", serve), Client(bench.proxy.port) as client:
        async with asyncio.timeout(LIMIT):
            client.send("/upload/x", [("Content-Length", "5"), ("Expect", "100-continue")], "POST")
            assert (await client.head()).status == 100
            client.writer.write(b"12345")
            assert (await client.head()).status == 200
    assert body == b"12345"


async def test_an_answer_to_head_has_a_length_and_no_body(bench: Bench) -> None:
    methods: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while lines := await head(reader):
            methods.append(lines[0].split(" ")[0])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
            writer.write(b"" if methods[-1] == "HEAD" else b"content")

    async with served(bench, "page", serve), Client(bench.proxy.port) as client:
        for method, body in (("HEAD", b""), ("GET", b"content"), ("HEAD", b"")):
            reply = await client.ask("/page/x", method=method)
            assert (reply.status, reply.headers["content-length"], reply.body) == (200, "7", body)
    assert methods == ["HEAD", "GET", "HEAD"]


async def test_a_path_with_a_space_reaches_nobody(bench: Bench) -> None:
    asked: list[list[str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with served(bench, "page", serve), Client(bench.proxy.port) as client:
        async with asyncio.timeout(LIMIT):
            client.send("/page/a b")
            assert (await client.head()).status == 400
    assert asked == []


async def test_http_2_without_tls_carries_streams_side_by_side(bench: Bench) -> None:
    needs(bench, "http2")
    gate, paths = asyncio.Event(), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while lines := await head(reader):
            path = lines[0].split(" ")[1]
            paths.append(path)
            if path == "/waits":
                await gate.wait()
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(path)}\r\n\r\n{path}".encode())

    async with served(bench, "page", serve), Http2Client(bench.proxy.port) as client:
        waits = asyncio.create_task(client.ask("/page/waits"))
        await until(lambda: "/waits" in paths)
        for number in range(20):
            reply = await client.ask(f"/page/{number}")
            assert (reply.status, reply.body) == (200, f"/{number}".encode())
        by_name = await client.ask("/by-name", authority="page")
        assert by_name.body == b"/by-name"
        assert not waits.done()
        gate.set()
        assert (await waits).body == b"/waits"
        assert (await client.ask("/nobody/x")).headers["x-a8-reason"] == "unknown; service=nobody; rule="
