"""A real Envoy, small backends and a client that sends exactly what it is told to."""

import asyncio
import contextlib
import json
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from amalgam8.model.caller import caller
from amalgam8.model.instance import Address
from amalgam8.model.report import PlanStamp
from amalgam8.routing.condition import ALWAYS, Condition
from amalgam8.routing.plan import FaultEntry
from amalgam8.routing.resolve import SHARES, Peer, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.envoy.adapter import Envoy
from amalgam8.sidecar.envoy.rows import branch
from amalgam8.sidecar.proxy import Confirmed, Desired, Stamp
from tests.conftest import free_port

LIMIT = 10.0
STALLED = 0.3
"""Seconds without room for more after which nobody seems to read."""


class Call(msgspec.Struct):
    """What a backend says that it was asked."""

    name: str
    method: str
    path: str
    headers: list[tuple[str, str]]
    size: int

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class Reply(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def call(self) -> Call:
        return msgspec.json.decode(self.body, type=Call)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Backend:
    """An HTTP/1.1 server that answers with what it was asked, or as the path's last segment tells it to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.calls = 0
        self.connections = 0
        self.status = 0
        self.last: Call | None = None
        self.heard: list[str] = []
        """The values of ``x-heard``, of each call that has one."""
        self.gate: asyncio.Event | None = None
        self.stalled = False
        self._leaving = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 20, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.close()
            await self._server.wait_closed()
            self._server = None

    def leave(self) -> None:
        """Take no more connections, and end each one with the next answer."""
        assert self._server is not None
        self._server.close()
        self._leaving = True

    def peer(self, *tags: str, host: str = "127.0.0.1", tls: bool = False) -> Peer:
        address = Address(host, self.port, tls)
        return Peer(self.name, address, tuple(sorted(tags)), () if address.is_ip else ("127.0.0.1",))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = [
            (key.lower(), value.strip()) for key, _, value in (line.partition(":") for line in lines[1:-2])
        ]
        self.calls += 1
        size = await _body_size(reader, dict(headers))
        word = path.partition("?")[0].rpartition("/")[2]
        if self.gate is not None:
            await self.gate.wait()
        if word == "websocket":
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            )
            while data := await reader.read(1000):
                writer.write(data)
            return False
        if word == "events":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: first\n\n")
            await reader.read(1)
            return False
        if word == "broken":
            return False
        if word.startswith("bytes-"):
            await self._send_bytes(writer, int(word[6:]))
            return True
        status = int(word[7:]) if word.startswith("status-") else self.status or 200
        self.last = Call(self.name, method, path, headers, size)
        self.heard += self.last.header("x-heard")
        body = msgspec.json.encode(self.last)
        extra = "x-a8-reason: forged\r\nx-envoy-own: kept\r\nserver: backend\r\n" if status != 200 else ""
        extra += "connection: close\r\n" if self._leaving else ""
        head = f"HTTP/1.1 {status} OK\r\n{extra}content-length: {len(body)}\r\n\r\n".encode()
        writer.write(head + (b"" if method == "HEAD" else body))
        return not self._leaving

    async def _send_bytes(self, writer: asyncio.StreamWriter, size: int) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode())
        chunk = b"x" * 65536
        while size:
            writer.write(chunk[:size])
            size -= min(size, len(chunk))
            try:
                async with asyncio.timeout(STALLED):
                    await writer.drain()
            except TimeoutError:
                self.stalled = True
                await writer.drain()
        self.stalled = False


async def _body_size(reader: asyncio.StreamReader, headers: dict[str, str]) -> int:
    if "content-length" in headers:
        left = size = int(headers["content-length"])
        while left:
            left -= len(await reader.readexactly(min(left, 65536)))
        return size
    size = 0
    if headers.get("transfer-encoding") == "chunked":
        while length := int((await reader.readuntil(b"\r\n")).strip(), 16):
            await reader.readexactly(length + 2)
            size += length
        await reader.readuntil(b"\r\n")
    return size


class Client:
    """One keep-alive connection. Paths and headers go out byte for byte."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> "Client":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def send(self, path: str, headers: Iterable[tuple[str, str]] = (), method: str = "GET") -> None:
        found = [("host", "mesh"), *headers]
        if any(name.lower() == "host" for name, _ in headers):
            found = list(headers)
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in found), "", ""]
        self.writer.write("\r\n".join(lines).encode("latin1"))

    async def head(self) -> Reply:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        headers = {
            key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:-2])
        }
        return Reply(int(lines[0].split(" ")[1]), headers, b"")

    async def ask(
        self,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        method: str = "GET",
        body: bytes = b"",
        *,
        chunked: bool = False,
    ) -> Reply:
        async with asyncio.timeout(LIMIT):
            more = [("content-length", str(len(body)))] if body else []
            if chunked:
                more = [("transfer-encoding", "chunked")]
                body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
            self.send(path, [*headers, *more], method)
            self.writer.write(body)
            reply = await self.head()
            if "content-length" in reply.headers and method != "HEAD":
                reply.body = await self.reader.readexactly(int(reply.headers["content-length"]))
            return reply


class Mesh:
    """An Envoy under test, and the Routing that it is to follow."""

    def __init__(self, envoy: Envoy, port: int) -> None:
        self.envoy = envoy
        self.port = port
        self.routing: dict[str, ServiceRouting] = {}
        self._revision = 0

    async def follow(self, *services: ServiceRouting) -> Confirmed:
        """Desire exactly these services and wait until that is confirmed."""
        self.desire(*services)
        return await self.settled()

    def desire(self, *services: ServiceRouting) -> None:
        self._revision += 1
        self.routing = {service.name: service for service in services}
        self.envoy.desired.set(Desired(self.routing, Stamp(PlanStamp(self._revision))))

    async def settled(self) -> Confirmed:
        async with asyncio.timeout(LIMIT):
            async for confirmed in self.envoy.confirmed.follow():
                if confirmed is not None and confirmed.stamp.plan.revision == self._revision:
                    return confirmed
        raise AssertionError

    async def ask(
        self, path: str, *headers: tuple[str, str], method: str = "GET", body: bytes = b""
    ) -> Reply:
        async with Client(self.port) as client:
            return await client.ask(path, headers, method, body)


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    render_service: Callable[[ServiceRouting], Any] = branch,
    linger: float = 60.0,
    port: int | None = None,
    **more: Any,
) -> AsyncIterator[Mesh]:
    """An Envoy that listens, until left."""
    port = port or free_port()
    envoy = Envoy(
        state_dir=folder,
        listen_host="127.0.0.1",
        http_port=port,
        own_service=caller("shop"),
        linger=linger,
        render_service=render_service,
        **more,
    )
    task = asyncio.create_task(envoy.run())
    try:
        await until_listening(port, task)
        yield Mesh(envoy, port)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until_listening(port: int, task: "asyncio.Task[None]") -> None:
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if task.done():
            await task
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.01)
    raise AssertionError("Envoy does not listen")


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def backends(*names: str) -> AsyncIterator[list[Backend]]:
    found = [Backend(name) for name in names]
    for backend in found:
        await backend.start()
    try:
        yield found
    finally:
        for backend in found:
            await backend.stop()


def simple(name: str, *peers: Peer, **more: Any) -> ServiceRouting:
    """A service without route rules; ``more`` of a ServiceRouting."""
    target = Target(name)
    found = {target: peers, **more.pop("peers", {})}
    return ServiceRouting(name, (Route((Slice(target),)),), peers=found, **more)


def service(
    name: str,
    routes: Iterable[tuple[Condition, dict[str, int]]],
    peers: Mapping[str, tuple[Peer, ...]],
    **more: Any,
) -> ServiceRouting:
    """A service whose routes give shares (any whole numbers that divide SHARES) by tag."""
    found = []
    for position, (condition, shares) in enumerate(routes):
        total = sum(shares.values())
        slices = tuple(
            Slice(Target(name, (tag,) if tag else ()), share * SHARES // total, index)
            for index, (tag, share) in enumerate(shares.items())
        )
        found.append(Route(slices, condition, f"rule-{position}" if condition != ALWAYS else ""))
    targets = {Target(name, (tag,) if tag else ()): found for tag, found in peers.items()}
    return ServiceRouting(name, tuple(found), peers=targets, **more)


def when(**headers: str) -> Condition:
    """A condition; ``_`` in a name stands for ``-``."""
    return Condition(tuple(sorted((name.replace("_", "-"), value) for name, value in headers.items())))


def attempts(
    backend: Peer, *more: Peer, timeout: float = 0, retries: int | None = None, **rest: Any
) -> ServiceRouting:
    """Service ``svc`` of these instances, with one rule that says how often and how long."""
    target = Target("svc")
    piece = Slice(target, timeout=timeout, retries=retries)
    return ServiceRouting("svc", (Route((piece,), rule="r"),), peers={target: (backend, *more)}, **rest)


async def statuses(
    mesh: Mesh, count: int, path: str = "/svc/", *headers: tuple[str, str], method: str = "GET"
) -> Counter[int]:
    found: Counter[int] = Counter()
    async with Client(mesh.port) as client:
        for _ in range(count):
            found[(await client.ask(path, headers, method)).status] += 1
    return found


def faulty(**fault: Any) -> dict[str, Any]:
    return {"faults": (FaultEntry(rule="f", **fault),)}
