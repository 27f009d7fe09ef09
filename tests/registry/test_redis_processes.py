"""Two real registries on one real Valkey."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import pytest

from amalgam8.clients.http import Http, Refusal
from amalgam8.clients.registry import Registration, RegistryClient
from amalgam8.model.errors import A8Error, InstanceGone
from amalgam8.model.instance import Endpoint
from amalgam8.model.stream import Hello, InstanceDelta, InstanceSnapshot
from tests.conftest import eventually
from tests.registry.redis_kit import PASSWORD, Valkey, valkey
from tests.registry.test_main import HERE, PROGRAM, end


class Process:
    """A running registry: its client, and what it has logged."""

    def __init__(self, http: Http) -> None:
        self.http = http
        self.client = RegistryClient(http)
        self.logged: list[str] = []

    async def epoch(self) -> str:
        answer = await self.http.request("GET", "/uptime")
        return str(answer.json()["UPTIME"]["properties"]["epoch"])

    async def tags(self) -> dict[str, tuple[str, ...]]:
        return {one.id: one.tags for one in await self.client.instances()}

    async def ids(self) -> set[str]:
        return {one.id for one in await self.client.instances()}

    def count(self, text: str) -> int:
        return sum(text in line for line in self.logged)


@contextlib.asynccontextmanager
async def registry(server: Valkey, *argv: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "--api-port", "0", "--store", "redis", "--store-address", f"unix://{server.socket}"),
        *argv,
        env={**HERE, "A8_STORE_PASSWORD": PASSWORD},
        stderr=asyncio.subprocess.PIPE,
    )
    logging: asyncio.Task[None] | None = None
    try:
        assert process.stderr is not None
        lines: list[str] = []
        async with asyncio.timeout(20):
            while not (found := re.search(r"serving .*port=(\d+)", lines[-1] if lines else "")):
                lines.append((await process.stderr.readline()).decode())
                assert lines[-1], lines
        http = Http(f"http://127.0.0.1:{found[1]}", timeout=10)
        running = Process(http)
        running.logged = lines

        async def follow(stream: asyncio.StreamReader) -> None:
            while line := await stream.readline():
                lines.append(line.decode())

        logging = asyncio.create_task(follow(process.stderr))
        try:
            yield running
        finally:
            await http.close()
        process.terminate()
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        assert not running.count("Traceback")
    finally:
        await end(process)
        if logging is not None:
            await logging


class Watcher:
    """What somebody knows who only follows the stream, and the epochs that it has heard of."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, ...]] = {}
        self.epochs: list[str] = []

    async def follow(self, process: Process) -> None:
        async for event in process.client.watch().events():
            if isinstance(event, Hello):
                self.epochs.append(event.epoch)
            elif isinstance(event, InstanceSnapshot):
                self.known = {one.id: one.tags for one in event.instances}
            elif isinstance(event, InstanceDelta):
                self.known |= {one.id: one.tags for one in event.upserted}
                for identity in event.removed:
                    self.known.pop(identity, None)

    async def knows(self, wanted: dict[str, tuple[str, ...]]) -> None:
        async def so() -> bool:
            return self.known == wanted

        await eventually(so, within=15, what="the watcher's end of the stream")


@contextlib.asynccontextmanager
async def watching(process: Process) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    task = asyncio.create_task(watcher.follow(process))
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.wait([task])


def registration(number: int, tag: str = "") -> Registration:
    return Registration("stock", Endpoint("http", f"10.0.0.1:{number}"), tags=(tag,) if tag else ())


async def agree(one: Process, two: Process) -> None:
    async def same() -> bool:
        seen = [{i.id: (i.tags, i.status) for i in await each.client.instances()} for each in (one, two)]
        return seen[0] == seen[1]

    await eventually(same, within=15, what="the same at both")


async def test_two_registries_with_racing_writes_never_diverge() -> None:
    with valkey() as server:
        async with registry(server) as one, registry(server) as two:

            async def write(process: Process, number: int) -> None:
                for turn in range(12):
                    granted = await process.client.register(registration(number % 7 + 1, f"{number}-{turn}"))
                    if turn % 4 == number % 4:
                        with contextlib.suppress(InstanceGone):
                            await process.client.deregister(granted.id)

            async with watching(one) as first, watching(two) as second:
                await asyncio.gather(*(write(each, number) for each in (one, two) for number in range(8)))
                await agree(one, two)
                await first.knows(await one.tags())
                await second.knows(await one.tags())
            assert first.epochs == second.epochs == [await one.epoch()]
            assert await one.epoch() == await two.epoch()


async def test_an_expiry_is_logged_once_by_each() -> None:
    with valkey() as server:
        short = ("--min-ttl", "1s", "--default-ttl", "1s")
        async with registry(server, *short) as one, registry(server, *short) as two:
            ids = {(await one.client.register(registration(number))).id for number in range(1, 5)}
            await agree(one, two)

            async def gone() -> bool:
                return not await one.ids() and not await two.ids()

            await eventually(gone, within=20, what="expiry")
            for process in (one, two):

                async def told(process: Process = process) -> bool:
                    return process.count("instance expired") >= 4

                await eventually(told, what="log lines")
                assert all(
                    process.count(f"instance expired tenant=default service=stock id={identity}") == 1
                    for identity in ids
                )


@pytest.mark.parametrize("lost", [False, True])
async def test_the_store_dies_and_comes_back(lost: bool) -> None:
    with valkey(durable=True) as server:
        async with registry(server) as one, registry(server) as two, watching(two) as watcher:
            ids = {(await one.client.register(registration(number))).id for number in range(1, 31)}
            await agree(one, two)
            epoch = await one.epoch()
            server.kill()
            for process in (one, two):
                with pytest.raises(Refusal) as caught:
                    await process.client.register(registration(99))
                assert (caught.value.status, caught.value.kind) == (503, "store_unavailable")
                assert await process.ids() == ids
                answer = await process.http.request("GET", "/api/v1/services/stock")
                assert len(answer.json()["instances"]) == 30
            if lost:
                server.lose()
            server.start()
            for process in (one, two):

                async def writes(process: Process = process) -> bool:
                    try:
                        await process.client.register(registration(31))
                    except A8Error:
                        return False
                    return True

                await eventually(writes, within=15, what="writes")
            gone = ids.pop()
            await two.client.deregister(gone)
            await agree(one, two)
            assert len(await one.ids()) == 30
            assert ids < await one.ids()
            await watcher.knows(await one.tags())
            assert watcher.epochs == ([epoch, await one.epoch()] if lost else [epoch])
            assert await one.epoch() == await two.epoch()
            assert (await one.epoch() != epoch) is lost
            for process in (one, two):
                assert process.count("cannot be used") == 1
                assert process.count("the store answers") == 2
