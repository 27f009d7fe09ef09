"""A terminal of a test's own, on which a command runs."""

import asyncio
import contextlib
import os
import pty
from collections.abc import AsyncIterator, Mapping


class Terminal:
    """``process`` runs on it; ``shown`` is all that came so far, and ``type`` are keys."""

    def __init__(self, process: asyncio.subprocess.Process, ours: int) -> None:
        self.process = process
        self._ours = ours
        self._seen = bytearray()

    def shown(self) -> str:
        with contextlib.suppress(OSError):  # nothing more just now, or at all
            while data := os.read(self._ours, 65536):
                self._seen.extend(data)
        return self._seen.decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())


@contextlib.asynccontextmanager
async def terminal(*command: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Terminal]:
    """Run a command; it is ended if it has not by itself."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
        )
        try:
            yield Terminal(process, ours)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    finally:
        os.close(ours)
        os.close(theirs)
