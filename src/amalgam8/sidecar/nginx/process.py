"""The nginx process: found, started, its words passed to our log, restarted, and ended with the agent.

The master runs in a session of its own and asks the kernel to end it, and so its workers, when the agent
dies. A master that crashes is restarted at once; repeated crashes wait, at most BACKOFF_LONGEST. A worker
that crashes is the master's to replace. Refuses to start without the binary.
"""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar.nginx.modules import ALLOWED

END_TIMEOUT = 1.0
"""Seconds between SIGTERM and SIGKILL."""

STEADY = 5.0
BACKOFF_FIRST = 0.1
BACKOFF_LONGEST = 5.0
LINE_LIMIT = 2000

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_LINE = re.compile(r"(?:\S+ \S+ |nginx: )\[(\w+)\] (?:\d+#\d+: )?(.*)", re.DOTALL)
_NOISE = (
    "while connecting to upstream",  # an instance that refuses; it is left out, and the records tell
    "upstream prematurely closed connection",
    "upstream timed out",
    "a client request body is buffered",
    "client sent",
    "no live upstreams",
)
_SHIM = (
    "import ctypes,os,sys;"
    "ctypes.CDLL(None).prctl(1,15,0,0,0);"  # PR_SET_PDEATHSIG, SIGTERM: the master ends its workers
    "os.getppid()==int(sys.argv[1]) or os._exit(1);"
    "os.environ.pop('NGINX',None);"
    "os.execv(sys.argv[2],sys.argv[2:])"
)

log = logging.getLogger("amalgam8.proxy")


def find_binary(setting: str | None) -> Path:
    """The nginx to run: the one that ``proxy_binary`` names, else the machine's.

    Raises:
        InvalidSetting: it is not there, or not executable.
    """
    if setting:
        found = shutil.which(setting)
        if found is None:
            raise InvalidSetting(f"proxy_binary: {setting} is no executable file; {ALLOWED}")
        return Path(found)
    found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx") or shutil.which("openresty")
    if found is None:
        raise InvalidSetting(f"proxy_binary: nginx is missing (Debian: apt install nginx); {ALLOWED}")
    return Path(found)


class Process:
    """Keeps one nginx running. ``before`` is called ahead of each start, ``heard`` with each line it says."""

    def __init__(
        self, binary: Path, file: Path, before: Callable[[], None], heard: Callable[[str], None]
    ) -> None:
        self._command = (str(binary), "-c", str(file), "-p", str(file.parent), "-e", "stderr")
        self._before = before
        self._heard = heard
        self.pid: int | None = None
        self.restarts = 0
        self.started = 0.0

    async def run(self) -> None:
        """Run until cancelled; then end the process and return."""
        backoff = 0.0
        while True:
            self.started = time.monotonic()
            code = await self._once()
            self.restarts += 1
            steady = time.monotonic() - self.started > STEADY
            backoff = 0.0 if steady else min(max(backoff * 2, BACKOFF_FIRST), BACKOFF_LONGEST)
            log.error("the proxy ended (%s); it is started again in %.1f s", _ending(code), backoff)
            await asyncio.sleep(backoff)

    def reopen(self) -> None:
        """Tell nginx to open its files anew, those of the records too."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGUSR1)

    async def _once(self) -> int:
        self._before()
        # A pipe of our own: asyncio's would put off the master's end until its last worker has ended.
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid())),
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=writing,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self.pid = process.pid
        words = asyncio.create_task(self._relay(reading))
        try:
            return await process.wait()
        finally:
            self.pid = None
            await _end_group(process)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_TIMEOUT):
                    await words

    async def _relay(self, reading: int) -> None:
        """Pass its words on until nobody can say more."""
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
        )
        with contextlib.closing(transport):
            await self._lines(stream)

    async def _lines(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(16 * 1024):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[:LINE_LIMIT]
            for line in lines:
                self._say(line[:LINE_LIMIT].decode(errors="replace"))

    def _say(self, line: str) -> None:
        self._heard(line)
        found = _LINE.fullmatch(line)
        level, words = (found[1], found[2]) if found else ("error", line)
        if words.strip() and not any(noise in words for noise in _NOISE):
            log.log(_LEVELS.get(level, logging.ERROR), "%s", words)


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End the master with SIGTERM, which ends its workers, and kill what is left of the group."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT):
                await process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
