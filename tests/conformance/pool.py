"""A pool of instances that answer who they are and what they were asked.

The path's last segment tells an instance how to answer: ``status-503``, ``slow-0.5`` (s before the response),
``fail-2-TOKEN`` (503 the first two times this token is seen), ``fail-2-TOKEN-501`` (another status),
``broken`` (closes without an answer), ``drip`` (a body that takes half a second).
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

TOKEN = "x-case-token"


class Seen(msgspec.Struct):
    """What an instance was asked; header names in lower case, in the order in which they came."""

    place: int
    method: str
    path: str
    headers: list[tuple[str, str]]
    size: int = 0

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class Pool:
    """Servers by place. ``seen`` counts calls by token and place, copies among them."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.seen: Counter[tuple[str, int]] = Counter()
        self._failed: Counter[str] = Counter()
        self._writers: set[asyncio.StreamWriter] = set()

    def handler(self, place: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    while await self._answer(place, reader, writer):
                        pass
            finally:
                self._writers.discard(writer)
                writer.close()

        return serve

    def close(self) -> None:
        for writer in list(self._writers):
            writer.close()

    async def _answer(self, place: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        pairs = (line.partition(":") for line in lines[1:-2])
        seen = Seen(place, method, path, [(name.lower(), value.strip()) for name, _, value in pairs])
        if seen.values("expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        seen.size = await _body(reader, dict(seen.headers))
        for token in seen.values(TOKEN):
            self.seen[token, place] += 1
        word, _, rest = path.partition("?")[0].rpartition("/")[2].partition("-")
        if word == "broken":
            return False
        if word == "slow":
            await asyncio.sleep(float(rest))
        status = int(rest) if word == "status" else 200
        if word == "fail":
            times, key, *code = rest.split("-")
            self._failed[key] += 1
            status = int(code[0] if code else 503) if self._failed[key] <= int(times) else 200
        body = msgspec.json.encode(seen)
        head = f"HTTP/1.1 {status} OK\r\nx-place: {place}\r\nx-a8-reason: forged\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode())
        if word == "drip":
            await asyncio.sleep(0.5)
        writer.write(b"" if method == "HEAD" else body)
        return True


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> int:
    if headers.get("transfer-encoding") == "chunked":
        size = 0
        while length := int((await reader.readuntil(b"\r\n")).strip(), 16):
            await reader.readexactly(length + 2)
            size += length
        await reader.readuntil(b"\r\n")
        return size
    size = int(headers.get("content-length", "0"))
    await reader.readexactly(size)
    return size


@contextlib.asynccontextmanager
async def pool(count: int) -> AsyncIterator[Pool]:
    """So many instances at places 0, 1, …, until left."""
    found = Pool()
    servers: list[asyncio.Server] = []
    try:
        for place in range(count):
            server = await asyncio.start_server(found.handler(place), "127.0.0.1", 0, limit=1 << 20)
            servers.append(server)
            found.ports.append(server.sockets[0].getsockname()[1])
        yield found
    finally:
        for server in servers:
            server.close()
        found.close()
        for server in servers:
            await server.wait_closed()
