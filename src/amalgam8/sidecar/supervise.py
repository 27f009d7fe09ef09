"""The app's process: started in a group of its own, waited for, and ended with all that it started.

It has the sidecar's output and environment, with A8_PROXY_URL added. Its exit code is passed on as shells
do (128 + n after signal n). Should the sidecar be killed, the kernel ends the app (``launch``). Refuses
to restart: whoever runs the sidecar decides that.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.logs import Log
from amalgam8.sidecar import launch

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL."""

_log = Log("sidecar.supervise")


class App:
    """One run of a command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        returned = await self._process.wait()
        return returned if returned >= 0 else 128 - returned

    async def stop(self, grace: float = GRACE) -> None:
        """End it: SIGTERM to its group, and SIGKILL to whatever of it is left after ``grace`` seconds."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace):
                    await self._process.wait()
            except TimeoutError:
                _log.warning("the app did not end in time, killing it", pid=self.pid, grace=grace)
        # Also when its first process has ended: it may have left others in its group.
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def startable(command: tuple[str, ...]) -> None:
    """Look for the command's program.

    Raises:
        InvalidSetting: it is not there or cannot be run.
    """
    program = command[0]
    if shutil.which(program):
        return
    reason = "cannot be run" if "/" in program and Path(program).exists() else "is not there"
    raise InvalidSetting(f"command: {program} {reason}")


async def start(command: tuple[str, ...], extra: Mapping[str, str]) -> App:
    """Start ``command`` with ``extra`` added to the environment.

    A program that cannot be started shows in the exit code: ``launch.NOT_FOUND`` or ``NOT_STARTABLE``.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        launch.__file__,
        str(os.getpid()),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        env={**os.environ, **extra},
        process_group=0,
    )
    _log.info("started the app", pid=process.pid, command=command[0])
    return App(process)
