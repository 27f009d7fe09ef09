"""``a8controller`` as a real process."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

COMMAND = [sys.executable, "-c", "import sys; from amalgam8.controller.main import main; sys.exit(main())"]


class Process:
    """A controller that serves at ``port``; ``output`` is what it wrote to standard error."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.output: list[str] = []
        self.port = 0
        self.pid = process.pid

    async def until_it_serves(self) -> None:
        assert self._process.stderr is not None
        async with asyncio.timeout(30):
            async for line in self._process.stderr:
                self.output.append(line.decode())
                record = msgspec.json.decode(line) if line.startswith(b"{") else {}
                if record.get("event") == "serving":
                    self.port = record["port"]
                    return
        raise AssertionError(f"it ended: {''.join(self.output)}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self, within: float = 10.0) -> int:
        """The exit code."""
        async with asyncio.timeout(within):
            _, rest = await self._process.communicate()
        self.output.append(rest.decode())
        return self._process.returncode or 0


async def spawn(**settings: object) -> Process:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("A8_")}
    environ |= {f"A8_{name.upper()}": str(value) for name, value in settings.items()}
    return Process(
        await asyncio.create_subprocess_exec(
            *COMMAND,
            env=environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    )


@contextlib.asynccontextmanager
async def controller(path: Path, port: int = 0, **settings: object) -> AsyncIterator[Process]:
    """A controller on the database at ``path``, killed at the end of the block if it still runs."""
    process = await spawn(database_path=path, api_port=port, log_format="json", **settings)
    try:
        await process.until_it_serves()
        yield process
    finally:
        if process._process.returncode is None:
            process.signal(9)
            await process.ended()
