"""Event streams over a real socket, from a source whose every word the test decides."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.routing import Route

from amalgam8.clients.http import Http
from amalgam8.clients.sse import Parser, Received
from amalgam8.runtime.feed import Gap
from amalgam8.runtime.latest import Latest
from amalgam8.web import sse
from amalgam8.web.app import Api
from amalgam8.web.errors import registry_style
from amalgam8.web.serve import bind, serving
from amalgam8.web.sse import Event, EventStream, frame
from tests.conftest import eventually


class Numbers:
    """Revisions as events; ``first`` is the oldest to resume from, ``quiet`` ones tell nothing."""

    def __init__(self, epoch: str = "e") -> None:
        self.epoch = epoch
        self.newest = Latest(0)
        self.first = 0
        self.quiet: set[int] = set()
        self.snapshots = 0
        self.size = 0

    def hello(self) -> bytes:
        return b'"hello"'

    def snapshot(self) -> Event:
        self.snapshots += 1
        return Event("snapshot", self.newest.value, b"%d" % self.newest.value)

    def since(self, revision: int) -> tuple[int, Event | None]:
        upto = self.newest.value
        if not self.first <= revision <= upto:
            raise Gap
        told = [number for number in range(revision + 1, upto + 1) if number not in self.quiet]
        data = b",".join(b"%d" % number for number in told) + b" " * self.size
        return upto, Event("delta", upto, data) if told else None

    async def newer(self, revision: int) -> int:
        while self.newest.value == revision:
            await self.newest.newer(self.newest.version)
        return self.newest.value


class Streaming:
    def __init__(self, port: int, http: Http, source: Numbers) -> None:
        self.port = port
        self.http = http
        self.source = source
        self.ended = 0

    def end(self) -> None:
        self.ended += 1

    @contextlib.asynccontextmanager
    async def events(self, last: str = "") -> AsyncIterator[AsyncIterator[tuple[str, str, bytes]]]:
        async def read(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, str, bytes]]:
            parser = Parser()
            async for chunk in chunks:
                for event in parser.feed(chunk):
                    yield (event.name, event.id, event.data)

        headers = {"Last-Event-ID": last} if last else {}
        async with asyncio.timeout(15), self.http.stream("/watch", headers=headers, silence=10) as chunks:
            yield read(chunks)


@contextlib.asynccontextmanager
async def streaming(source: Numbers) -> AsyncIterator[Streaming]:
    made: list[Streaming] = []

    async def watch(request: Request) -> EventStream:
        return EventStream(source, request.headers.get("last-event-id", ""), made[0].end)

    app = Api([Route("/watch", watch)], style=registry_style, body_limit=10, compress=True)
    async with serving(app, bind("127.0.0.1", 0, "port")) as port:
        http = Http(f"http://127.0.0.1:{port}", timeout=10)
        made.append(Streaming(port, http, source))
        try:
            yield made[0]
        finally:
            await http.close()


def test_a_frame_is_the_format_of_the_standard() -> None:
    assert frame("delta", "e.1", b"{}") == b"event: delta\nid: e.1\ndata: {}\n\n"
    assert frame("hello", None, b"{}") == b"event: hello\ndata: {}\n\n"
    assert Parser().feed(frame("delta", "e.1", b"{}")) == [Received("delta", "e.1", b"{}")]


async def test_hello_snapshot_deltas() -> None:
    source = Numbers()
    source.newest.set(3)
    async with streaming(source) as server, server.events() as events:
        assert await anext(events) == ("hello", "", b'"hello"')
        assert await anext(events) == ("snapshot", "e.3", b"3")
        source.newest.set(5)
        assert await anext(events) == ("delta", "e.5", b"4,5")
        source.newest.set(6)
        assert await anext(events) == ("delta", "e.6", b"6")
    assert source.snapshots == 1


@pytest.mark.parametrize(
    ("last", "second"),
    [
        ("e.1", ("delta", "e.3", b"2,3")),
        ("other.1", ("snapshot", "e.3", b"3")),
        ("e.4", ("snapshot", "e.3", b"3")),
        ("e.0", ("snapshot", "e.3", b"3")),
        ("e.x", ("snapshot", "e.3", b"3")),
        ("", ("snapshot", "e.3", b"3")),
    ],
)
async def test_resuming(last: str, second: tuple[str, str, bytes]) -> None:
    source = Numbers()
    source.newest.set(3)
    source.first = 1
    async with streaming(source) as server, server.events(last) as events:
        assert (await anext(events))[0] == "hello"
        assert await anext(events) == second


async def test_what_does_not_concern_a_watcher_moves_its_cursor_silently() -> None:
    source = Numbers()
    source.quiet = {1, 2}
    async with streaming(source) as server, server.events() as events:
        await anext(events)
        await anext(events)
        source.newest.set(1)
        await asyncio.sleep(0.01)
        source.newest.set(2)
        await asyncio.sleep(0.01)
        source.newest.set(3)
        assert await anext(events) == ("delta", "e.3", b"3")


async def test_a_gap_while_streaming_is_closed_by_a_snapshot() -> None:
    source = Numbers()
    async with streaming(source) as server, server.events() as events:
        await anext(events)
        await anext(events)
        source.first = 9
        source.newest.set(9)
        assert await anext(events) == ("snapshot", "e.9", b"9")
        source.newest.set(10)
        assert await anext(events) == ("delta", "e.10", b"10")


async def test_silence_is_broken_by_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "PROOF_OF_LIFE", 0.02)
    async with streaming(Numbers()) as server, server.http.stream("/watch", silence=10) as chunks:
        text = b""
        async with asyncio.timeout(10):
            while b":\n\n:\n\n" not in text:
                text += await anext(chunks)
    assert text.startswith(b"event: hello\n")


async def test_headers_forbid_keeping_and_compressing() -> None:
    async with streaming(Numbers()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /watch HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readuntil(b"event: hello")
        writer.close()
    assert b"content-type: text/event-stream" in head
    assert b"cache-control: no-store" in head
    assert b"content-encoding" not in head


async def test_the_end_is_told_once_whoever_went_away() -> None:
    source = Numbers()
    async with streaming(source) as server:
        async with server.events() as events:
            await anext(events)

        async def ended() -> bool:
            return server.ended == 1

        await eventually(ended)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            await reader.readuntil(b"event: hello")
    assert server.ended == 2
    writer.close()


async def test_a_watcher_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STUCK_AFTER", 0.2)
    source = Numbers()
    source.size = 1 << 20
    async with streaming(source) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")

        async def cut() -> bool:
            source.newest.set(source.newest.value + 1)
            return server.ended == 1

        async with asyncio.timeout(20):
            await reader.readuntil(b"event: snapshot")
            await eventually(cut, within=15)
        writer.close()


async def test_ending_the_server_ends_streams() -> None:
    async with streaming(Numbers()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            await reader.readuntil(b"event: snapshot")
    async with asyncio.timeout(5):
        await reader.read()
    writer.close()
    assert server.ended == 1
