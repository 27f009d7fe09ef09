"""The registry where there is much: watchers, renewals in one request, instances, and leases that lapse.

The first three measure a registry of its own process from outside; the last drives a store in this process,
on a clock that is moved by hand. What is registered goes through one connection, many requests at a time.
"""

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from tests.conftest import free_port
from tests.contracts.registry_store import instance
from tests.e2e.mesh import BIN, Daemon
from tests.registry.kit import MemoryKit

from benchmarks import cpu
from benchmarks.figures import line, note, quantile
from benchmarks.load import spent
from benchmarks.registry import ROOT, answers

WATCHERS = 1000
CHANGES = 50
RENEWED_AT_ONCE = 1000
RENEWALS = 1_000_000
MANY, FEW = 100_000, 1_000
OF_SERVICE = 10
LOOKUPS = 20_000
LAPSING = 1_000
TURNS = 7
"""How often many and few are measured in turn; the median counts."""
AT_A_TIME = 50
"""Requests written before their answers are read."""


async def run() -> AsyncIterator[str]:
    """Measure; gives each line to print once it is known."""
    for measure in (_watchers, _renewals, _instances, _expiry):
        for text in await measure():
            yield text


async def _watchers() -> list[str]:
    """From a change's request until each watcher has read of it."""
    delays: list[float] = []
    async with _registry() as (port, pid):
        watchers = [await Pipe.open(port) for _ in range(WATCHERS)]
        for one in watchers:
            one.ask("GET", "/api/v1/instances/watch")
            await one.reader.readuntil(b"event: snapshot")
            await one.reader.readuntil(b"\n\n")
        writer = await Pipe.open(port)
        before = cpu.seconds(pid)
        for number in range(CHANGES):
            sent = time.perf_counter()

            async def hear(one: Pipe, sent: float = sent) -> None:
                await one.reader.readuntil(b"event: delta")
                delays.append((time.perf_counter() - sent) * 1000)
                await one.reader.readuntil(b"\n\n")

            writer.ask("POST", "/api/v1/instances", _body(number, 1))
            await asyncio.gather(writer.receive(), *(hear(one) for one in watchers))
            await asyncio.sleep(0.1)  # so that each change is told by itself
        used = cpu.seconds(pid) - before
        for one in (writer, *watchers):
            one.close()
    what = f"change sent → {WATCHERS:,} watchers know it"
    return [
        note(f"{what}, p50 of {CHANGES}", quantile(delays, 0.50), "ms"),
        line(f"{what}, p99 of {CHANGES}", quantile(delays, 0.99), 200, "ms"),
        note("CPU of telling one of them", used / CHANGES / WATCHERS * 1e6, "µs"),
    ]


async def _renewals() -> list[str]:
    async with _registry() as (port, pid):
        pipe = await Pipe.open(port)
        bodies = (_body(number, FEW // OF_SERVICE) for number in range(RENEWED_AT_ONCE))
        ids = await _registered(pipe, bodies)
        body = msgspec.json.encode({"ids": ids})
        before = cpu.seconds(pid)
        for _ in range(RENEWALS // RENEWED_AT_ONCE):
            pipe.ask("PUT", "/api/v1/heartbeats", body)
            assert await pipe.receive() == b'{"unknown":[]}'
        rate = RENEWALS / (cpu.seconds(pid) - before)
        pipe.close()
    what = f"leases renewed, {RENEWED_AT_ONCE:,} at once, per CPU second"
    return [line(what, rate / 1000, 500, "k", at_most=False)]


async def _instances() -> list[str]:
    """Memory, and what a lookup costs, with many instances and with few: both at a time, asked in turn.

    Of both as many services are asked for, and then of the many all: these do not fit into the processor's
    caches, whoever keeps them.
    """
    async with _filled(MANY) as many, _filled(FEW) as few:
        await many.lookups(many.services)  # the first time each answer is made; from then on it is there
        turns = [
            (
                await many.lookups(few.services),
                await few.lookups(few.services),
                await many.lookups(many.services),
            )
            for _ in range(TURNS)
        ]
        memory = cpu.megabytes(many.pid)
    some, every = (statistics.median(turn[of] / turn[1] for turn in turns[1:]) for of in (0, 2))
    return [
        line(f"memory with {MANY:,} instances", memory, 300, "MB"),
        note(f"CPU of a lookup with {FEW:,}", statistics.median(turn[1] for turn in turns) * 1e6, "µs"),
        line(f"CPU of a lookup with {MANY:,}, as a part of that", some, 1.2, "×"),
        note("where each service is asked for, too", every, "×"),
    ]


class Filled(NamedTuple):
    """A registry with instances of so many services, OF_SERVICE of each."""

    pid: int
    pipe: "Pipe"
    services: int

    async def lookups(self, asked: int) -> float:
        """CPU seconds of one lookup, of LOOKUPS of so many services in turn."""
        apart = self.services // asked
        paths = [f"/api/v1/services/svc{one * 97 % asked * apart}" for one in range(LOOKUPS)]
        before = spent(self.pid)
        await _asked(self.pipe, paths)
        return (spent(self.pid) - before) / LOOKUPS


@contextlib.asynccontextmanager
async def _filled(number: int) -> AsyncIterator[Filled]:
    async with _registry() as (port, pid):
        pipe = await Pipe.open(port)
        services = number // OF_SERVICE
        await _registered(pipe, (_body(one, services) for one in range(number)))
        yield Filled(pid, pipe, services)
        pipe.close()


async def _expiry() -> list[str]:
    """What ends costs the same, however many there are that do not."""
    pairs = [(await _ending(MANY), await _ending(10 * LAPSING)) for _ in range(TURNS)]
    look = statistics.median(pair[0][0] for pair in pairs)
    cost = statistics.median(pair[0][1] for pair in pairs)
    ratio = statistics.median(pair[0][1] / pair[1][1] for pair in pairs)
    return [
        note(f"a look for lapsed leases among {MANY:,} where there is none", look, "µs"),
        note(f"CPU of ending a lease that lapsed, of {MANY:,}", cost, "µs"),
        line(f"the same, as a part of that of {10 * LAPSING:,}", ratio, 1.5, "×"),
    ]


async def _ending(number: int) -> tuple[float, float]:
    """CPU time in µs of a look where nothing has lapsed, and of the end of one of LAPSING among so many."""
    kit = MemoryKit()
    store = kit.make()
    for port in range(number):
        await store.register("t", instance(f"s{port % 1000}", port, ttl=30 if port < LAPSING else 600))
    started = time.process_time()
    for _ in range(1000):
        await store.expire()
    look = (time.process_time() - started) / 1000
    kit.advance(31)
    started = time.process_time()
    assert await store.expire() == LAPSING
    return look * 1e6, (time.process_time() - started) / LAPSING * 1e6


class Pipe:
    """One connection on which requests are written ahead of their answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @staticmethod
    async def open(port: int) -> "Pipe":
        return Pipe(*await asyncio.open_connection("127.0.0.1", port))

    def ask(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        kind = "Content-Type: application/json\r\n" if body else ""
        self._writer.write(f"{head}{kind}\r\n".encode() + body)

    async def receive(self) -> bytes:
        """The body of the next answer, which must be a good one."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 2"), head
        return await self.reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))

    def close(self) -> None:
        self._writer.close()


async def _asked(pipe: Pipe, paths: Sequence[str]) -> None:
    for start in range(0, len(paths), AT_A_TIME):
        some = paths[start : start + AT_A_TIME]
        for path in some:
            pipe.ask("GET", path)
        for _ in some:
            await pipe.receive()


async def _registered(pipe: Pipe, bodies: Iterator[bytes]) -> list[str]:
    """Register all; returns their ids."""
    ids: list[str] = []
    while some := [body for body, _ in zip(bodies, range(AT_A_TIME), strict=False)]:
        for body in some:
            pipe.ask("POST", "/api/v1/instances", body)
        for _ in some:
            ids.append(msgspec.json.decode(await pipe.receive())["id"])  # noqa: PERF401
    return ids


def _body(number: int, services: int) -> bytes:
    return msgspec.json.encode(
        {
            "service_name": f"svc{number % services}",
            "endpoint": {
                "type": "http",
                "value": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:8080",
            },
            "ttl": 600,
            "tags": ["v1"],
            "metadata": {"zone": "a"},
        }
    )


@contextlib.asynccontextmanager
async def _registry() -> AsyncIterator[tuple[int, int]]:
    """A registry of its own; yields port and process id."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        python = {"PYTHONPATH": os.pathsep.join([str(ROOT), f"{ROOT}/src"])}
        environ = {"A8_API_PORT": str(port), **python}
        daemon = Daemon("registry", [BIN / "a8registry"], Path(folder), environ)
        await daemon.start()
        try:
            await answers(port)
            assert daemon.process
            yield port, daemon.process.pid
        finally:
            await daemon.stop()
