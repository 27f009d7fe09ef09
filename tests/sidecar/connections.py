"""Servers that say their name to who connects and then echo, and connections to them."""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator

from amalgam8.model.instance import Address
from amalgam8.routing.resolve import Peer

LIMIT = 10.0


class Echo:
    """One server. ``connections`` counts those that it has taken, ``heard`` bytes on all of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.connections = 0
        self.heard = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Name, echo until the other side has said all, farewell."""
        self.connections += 1
        with contextlib.suppress(OSError):
            writer.write(f"{self.name}\n".encode())
            while data := await reader.read(65536):
                self.heard += len(data)
                writer.write(data)
                await writer.drain()
            writer.write(b"bye\n")
            await writer.drain()
        writer.close()

    def peer(self, *tags: str, host: str = "127.0.0.1", tls: bool = False) -> Peer:
        address = Address(host, self.port, tls)
        return Peer(self.name, address, tuple(sorted(tags)), () if address.is_ip else ("127.0.0.1",))


@contextlib.asynccontextmanager
async def echoes(
    *names: str, context: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[list[Echo]]:
    """Servers of these names, until left; with a ``context`` they speak TLS. ``port`` 0: any for each."""
    found = [Echo(name) for name in names]
    async with contextlib.AsyncExitStack() as stack:
        for echo in found:
            server = await asyncio.start_server(echo.serve, "127.0.0.1", port, ssl=context)
            stack.callback(server.close)
            echo.port = server.sockets[0].getsockname()[1]
        yield found


class Wire:
    """An app's connection; ``name`` is who took it, empty where it was closed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        self._reader, self._writer, self.name = reader, writer, name

    async def is_alive(self) -> bool:
        """Whether a line comes back."""
        async with asyncio.timeout(LIMIT):
            self._writer.write(b"ping\n")
            return await self._reader.readline() == b"ping\n"

    async def echoed(self, size: int) -> bytes:
        """Say so many bytes, then that this was all; what comes back until the other side ends too."""

        async def say() -> None:
            self._writer.write(b"x" * size)
            self._writer.write_eof()
            await self._writer.drain()

        async with asyncio.timeout(3 * LIMIT), asyncio.TaskGroup() as group:
            group.create_task(say())
            return await self._reader.read()

    def close(self) -> None:
        self._writer.close()


async def wire(port: int) -> Wire:
    """Connect, and hear who is there."""
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            name = (await reader.readline()).decode().strip()
        except ConnectionError:
            name = ""
        return Wire(reader, writer, name)


async def takers(port: int, count: int) -> Counter[str]:
    """Who takes so many connections, one after the other."""
    found: Counter[str] = Counter()
    for _ in range(count):
        one = await wire(port)
        found[one.name] += 1
        one.close()
    return found
