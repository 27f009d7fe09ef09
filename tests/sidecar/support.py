"""A proxy without a process, and sidecars in a process of their own."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from amalgam8.clients.http import Http
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.proxy import Confirmed, Demand, Desired
from tests.conftest import eventually, free_port


class StandInProxy:
    """Listens, and confirms whatever is desired as soon as it is."""

    name = "stand-in"

    def __init__(self, port: int = 0) -> None:
        self.desired = Latest(Desired())
        self.confirmed: Latest[Confirmed | None] = Latest(None)
        self.slices: Latest[Mapping[str, float]] = Latest({})
        self.came: dict[str, Demand] = {}
        self.running = False
        self.failure: Exception | None = None
        self.ending: Callable[[], None] = lambda: None
        self._port = port

    async def run(self) -> None:
        if self.failure:
            raise self.failure
        with socket.create_server(("127.0.0.1", self._port)):
            self.running = True
            try:
                version = 0
                while True:
                    version = await self.desired.newer(version)
                    self.confirmed.set(Confirmed(self.desired.value.stamp))
            finally:
                self.running = False
                self.ending()

    def traces(self) -> list[dict[str, Any]]:
        return []

    async def demand(self) -> Mapping[str, Demand]:
        return dict(self.came)

    async def metrics(self) -> bytes:
        return b"# TYPE stand_in gauge\nstand_in 1\n"


class Sidecar:
    """``a8sidecar`` as a process; ``lines`` is what it and its app wrote."""

    def __init__(self, process: asyncio.subprocess.Process, admin_port: int) -> None:
        self.process = process
        self.admin_port = admin_port
        self.lines: list[str] = []

    async def status(self) -> Any:
        return await self.get("/-/status")

    async def get(self, path: str) -> Any:
        http = Http(f"http://127.0.0.1:{self.admin_port}")
        try:
            return msgspec.json.decode((await http.request("GET", path)).body)
        finally:
            await http.close()

    async def wrote(self, words: str) -> None:
        async def found() -> bool:
            return any(words in line for line in self.lines)

        await eventually(found, within=20, what=f"{words!r} in {self.lines}")

    async def read(self) -> None:
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().rstrip("\n"))

    async def end(self, number: int) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(15):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def sidecar(folder: Path, *argv: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Sidecar]:
    """Run ``a8sidecar`` inside the block; kills it at the end if it still runs."""
    admin_port = free_port()
    code = "import sys; from amalgam8.sidecar.main import main; sys.exit(main())"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        f"--state-dir={folder}",
        f"--admin-port={admin_port}",
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("A8_")},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            **(env or {}),
        },
    )
    running = Sidecar(process, admin_port)
    reading = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        async with asyncio.timeout(10):
            await asyncio.wait([reading])
