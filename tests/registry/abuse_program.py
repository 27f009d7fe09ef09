"""A program that abuses a server's port: ``idle`` or ``hostile``, port, seconds; says what came of it.

``idle`` holds as many connections as it may, each after one request; ``hostile`` sends what no client should:
broken framing, trickles, floods and bodies of 50 MB. A process of its own, whose cost is not the server's.
"""

import asyncio
import contextlib
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

IDLE = 10_000
RESERVE = 400
"""Descriptors that both ends keep for everything else."""

APART = 10.0
"""Seconds within which idle connections that were closed are opened again."""

BODY = 50 * 1024 * 1024
PATIENCE = 40.0
"""Seconds after which a server that neither answers nor closes hangs: longer than it waits for anything."""

JSON = b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HEAD = b"POST /api/v1/instances" + JSON
XML = b"POST /eureka/apps/A HTTP/1.1\r\nHost: x\r\nContent-Type: application/xml\r\n"
GET = b"GET /api/v1/services HTTP/1.1\r\nHost: x\r\n"

FRAMING = (
    b"\x00" * 64 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"get / http/1.1\r\nHost: x\r\n\r\n",
    b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%zz%00%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/instances/%2e%2e%2f%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/instances?" + b"a=b&" * 12_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    GET + b"X: \x00\r\n\r\n",
    GET + b"X: \xff\xfe\r\nAuthorization: \xff\xfe\r\n\r\n",
    GET + b": nameless\r\n\r\n",
    GET + b"X : spaced\r\n\r\n",
    GET + b"X: folded\r\n and more\r\n\r\n",
    GET + b"Authorization: Bearer " + b"a." * 20_000 + b"\r\n\r\n",
    GET + b"A8-Request-Id: " + b"\t" * 1000 + b"\r\n\r\n",
    GET + b"Accept-Encoding: " + b"gzip;q=," * 5000 + b"\r\n\r\n",
    GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
    GET + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    HEAD + b"Content-Length: -1\r\n\r\n{}",
    HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    HEAD + b"Content-Length: 0x10\r\n\r\n{}",
    HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"x" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
    HEAD + b"Content-Length: 60000\r\n\r\n" + b"[" * 60_000,
    HEAD + b"Content-Length: 60005\r\n\r\n" + b'{"a":' * 12_001,
    HEAD + b"Content-Length: 30\r\n\r\n" + b'{"service_name":"\xed\xa0\x80"}      ',
    b"PUT /api/v1/heartbeats" + JSON + b'Content-Length: 9\r\n\r\n{"ids":1}',
    b"PATCH /eureka/apps/A/b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"DELETE * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    (GET + b"\r\n") * 500,  # asked all at once, and never read
    b"GET /api/v1/instances/watch HTTP/1.1\r\nHost: x\r\nLast-Event-ID: " + b"9" * 5000 + b"\r\n\r\n",
    XML + b"Content-Length: 60000\r\n\r\n" + b"<a>" * 20_000,
    XML
    + b'Content-Length: 72\r\n\r\n<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>',
)


class Abuser:
    """Counts the statuses that it was answered, and ``hung``: peers that neither answered nor closed."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._end = time.monotonic() + seconds
        self.statuses: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()

    def goes_on(self) -> bool:
        return time.monotonic() < self._end

    async def again(self, name: str, act: Callable[[], Awaitable[None]], pause: float = 0.0) -> None:
        """Do this until the end, whatever the server makes of it."""
        while self.goes_on():
            self.tries[name] += 1
            try:
                await act()
            except TimeoutError:
                self.statuses[f"hung in {name}"] += 1
            except (OSError, EOFError, asyncio.LimitOverrunError):
                self.statuses["cut"] += 1
            await asyncio.sleep(pause)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        try:
            async with asyncio.timeout(PATIENCE):
                yield reader, writer
        finally:
            writer.transport.abort()

    async def _answered(self, reader: asyncio.StreamReader) -> None:
        head = await reader.read(64)
        self.statuses[head[9:12].decode("latin-1") if head.startswith(b"HTTP/1.1 ") else "closed"] += 1

    async def _finish(self, answer: "asyncio.Future[None]") -> None:
        """Wait for the answer, unless time is up."""
        while self.goes_on() and not answer.done():
            await asyncio.wait([answer], timeout=0.5)
        if answer.done():
            await answer
        answer.cancel()

    async def framing(self) -> None:
        payload = random.choice(FRAMING)
        if random.random() < 0.3:
            cut = random.randrange(len(payload))
            payload = payload[:cut] + random.randbytes(random.randrange(20)) + payload[cut:]
        async with self._connected() as (reader, writer):
            writer.write(payload)
            if random.random() < 0.5:
                with contextlib.suppress(OSError):
                    writer.write_eof()
            await self._finish(asyncio.ensure_future(self._answered(reader)))

    async def gone(self) -> None:
        """Leave in the middle of a request, or before its answer."""
        async with self._connected() as (_, writer):
            writer.write(random.choice((GET + b"\r\n", GET, HEAD + b"Content-Length: 500\r\n\r\n{")))
            await writer.drain()

    async def slow(self) -> None:
        """A head or a body, byte by byte, until the server has had enough."""
        async with self._connected() as (reader, writer):
            whole = random.choice(
                (GET + b"X: " + b"y" * 500, HEAD + b"Content-Length: 500\r\n\r\n" + b" " * 500)
            )
            answer = asyncio.ensure_future(self._answered(reader))
            for byte in whole:
                if answer.done() or not self.goes_on():
                    break
                writer.write(bytes([byte]))
                await asyncio.wait([answer], timeout=0.25)
            await self._finish(answer)

    async def unread(self) -> None:
        """A stream of changes that is never read, for a while."""
        async with self._connected() as (_, writer):
            writer.write(b"GET /api/v1/instances/watch HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(random.random() * 5)

    async def body(self) -> None:
        """50 MB, announced or in chunks, sent on whatever the answer is."""
        chunk = b" " * 65_536
        async with self._connected() as (reader, writer):
            answer = asyncio.ensure_future(self._answered(reader))
            chunked = random.random() < 0.5
            length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % BODY
            writer.write(HEAD + length + b"\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(BODY // len(chunk)):
                    writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
                    await writer.drain()
                    if writer.transport.is_closing() or not self.goes_on():
                        break
            await self._finish(answer)

    async def headers(self) -> None:
        """Headers without an end."""
        async with self._connected() as (reader, writer):
            answer = asyncio.ensure_future(self._answered(reader))
            writer.write(GET)
            with contextlib.suppress(OSError):
                for number in range(5000):
                    writer.write(b"X-%d: %b\r\n" % (number, b"y" * 50))
                    await writer.drain()
                    if answer.done():
                        break
            await self._finish(answer)

    async def writes(self) -> None:
        """Well-formed writes as fast as they go: the same few instances come and go."""
        async with self._connected() as (reader, writer):
            for number in range(50):
                text = b'{"service_name":"flood","endpoint":{"type":"http","value":"h:%d"}}' % (number + 1)
                writer.write(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(text), text))
                answer = await reader.readuntil(b"}}")
                self.statuses[answer[9:12].decode("latin-1")] += 1

    async def idle(self) -> None:
        """One request, and then nothing until the server closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await self._answered(reader)
            self.tries["held"] += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.1, self._end - time.monotonic())):
                    while await reader.read(65_536):
                        pass
        finally:
            writer.transport.abort()

    async def stays_idle(self) -> None:
        while self.goes_on():
            try:
                await self.idle()
            except OSError:
                self.statuses["cut"] += 1
            # All were opened at one time, and would all come back at one time.
            await asyncio.sleep(min(random.random() * APART, max(0.0, self._end - time.monotonic())))


def idlers() -> int:
    """How many idle connections this system allows a process to hold, IDLE at the most."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return IDLE if hard == resource.RLIM_INFINITY else min(IDLE, hard - RESERVE)


async def main(kind: str, port: int, seconds: float) -> Abuser:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    one = Abuser(port, seconds)
    async with asyncio.TaskGroup() as tasks:
        if kind == "idle":
            for count in range(idlers()):
                tasks.create_task(one.stays_idle())
                if count % 100 == 99:
                    await asyncio.sleep(0.02)
            return one
        for name, times, pause in (
            *(("framing", 4, 0.01), ("gone", 2, 0.01), ("slow", 200, 0.1), ("unread", 50, 0.1)),
            *(("body", 2, 0.2), ("headers", 2, 0.1), ("writes", 1, 0.1)),
        ):
            for _ in range(times):
                tasks.create_task(one.again(name, getattr(one, name), pause))
    return one


if __name__ == "__main__":
    found = asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
    print(json.dumps({"tries": found.tries, "statuses": found.statuses}), flush=True)
    os._exit(0)
