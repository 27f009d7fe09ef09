"""The Envoy process: found, started, its words passed to our log, restarted, and ended with the agent.

Envoy runs in a session of its own, so that a terminal's Ctrl-C reaches the agent alone, and asks the
kernel to be killed when the agent dies. A crash restarts it at once; repeated crashes wait, at most
BACKOFF_LONGEST. Refuses to start where the port is taken or the binary is missing.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar.envoy.messages import EMPTY_VARIABLE

END_TIMEOUT = 1.0
"""Seconds between SIGTERM and SIGKILL."""

STEADY = 5.0
"""A process that lived so many seconds is restarted at once when it dies."""

FLUSH_MS = "200"
"""How long an access record may wait for its way to the file."""

BACKOFF_FIRST = 0.1
BACKOFF_LONGEST = 5.0
LINE_LIMIT = 2000

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_NOISE = (
    "gRPC config stream to ads closed",  # the agent's end, or a restart; both are logged by the agent
    "rejected: ",  # reported with the destination
    "gRPC update for ",
    "access_loggers.stats.v3.Config.stat_prefix",  # deprecated for a member that our protos do not have
)
_SHIM = (
    "import ctypes,os,sys;"
    "ctypes.CDLL(None).prctl(1,9,0,0,0);"  # PR_SET_PDEATHSIG, SIGKILL
    "os.getppid()==int(sys.argv[1]) or os._exit(1);"
    "os.execv(sys.argv[2],sys.argv[2:])"
)
"""A fresh interpreter that becomes Envoy. Code of ours in a fork of a process with threads is not safe."""

log = logging.getLogger("amalgam8.proxy")


def find_binary(setting: str | None) -> Path:
    """The Envoy to run: the one that ``proxy_binary`` names, else the one that came with this package.

    Raises:
        InvalidSetting: it is not there, or not executable.
    """
    allowed = "allowed is the path of an Envoy binary; without it, the installed package's is used"
    if setting:
        found = shutil.which(setting)
        if found is None:
            raise InvalidSetting(f"proxy_binary: {setting} is no executable file; {allowed}")
        return Path(found)
    package = importlib.util.find_spec("envoy")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "_bin" / "envoy"
        if os.access(path, os.X_OK):
            return path
    raise InvalidSetting(f"proxy_binary: the Envoy binary is missing from this installation; {allowed}")


class Process:
    """Keeps one Envoy running."""

    def __init__(self, binary: Path, bootstrap: Path, workers: int) -> None:
        self._binary = binary
        self._arguments = (
            "-c",
            str(bootstrap),
            "--disable-hot-restart",
            "--concurrency",
            str(workers),
            "--file-flush-interval-msec",
            FLUSH_MS,
            "--log-level",
            "warning",
            "--log-format",
            "%l\t%n\t%v",
        )
        self.pid: int | None = None
        self.restarts = 0

    async def run(self) -> None:
        """Run until cancelled; then end the process and return."""
        backoff = 0.0
        while True:
            started = time.monotonic()
            code = await self._once()
            self.restarts += 1
            steady = time.monotonic() - started > STEADY
            backoff = 0.0 if steady else min(max(backoff * 2, BACKOFF_FIRST), BACKOFF_LONGEST)
            log.error("the proxy ended (%s); it is started again in %.1f s", _ending(code), backoff)
            await asyncio.sleep(backoff)

    async def _once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid())),
            str(self._binary),
            *self._arguments,
            env=os.environ | {EMPTY_VARIABLE: ""},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = process.pid
        try:
            assert process.stderr is not None  # noqa: S101 - it was asked for above
            await _relay(process.stderr)
            return await process.wait()
        finally:
            self.pid = None
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(END_TIMEOUT):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _relay(stream: asyncio.StreamReader) -> None:
    """Pass lines to the log until the stream ends; a line longer than LINE_LIMIT is cut."""
    rest = b""
    while chunk := await stream.read(16 * 1024):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[:LINE_LIMIT]
        for line in lines:
            _log(line[:LINE_LIMIT].decode(errors="replace"))
    if rest:
        _log(rest.decode(errors="replace"))


def _log(line: str) -> None:
    level, tab, rest = line.partition("\t")
    name, _, words = rest.partition("\t")
    if not tab or level not in _LEVELS:
        level, name, words = "error", "process", line
    if words.strip() and not any(noise in words for noise in _NOISE):
        log.log(_LEVELS[level], "%s: %s", name, words)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
