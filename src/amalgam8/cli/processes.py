"""Starts processes that cannot outlive this one, shows what they write, and ends them with all they started.

Each is a session of its own, so that Ctrl-C reaches only this process, which then ends the others in
order. The kernel sends SIGTERM to each should this process be killed (``amalgam8.sidecar.launch``), and
gives this process the orphans that any of them leaves (``adopt_orphans``). Refuses to restart anything.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import signal
import socket
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from amalgam8.cli.output import Console, Lines
from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar import launch

HOST = "127.0.0.1"
CHUNK = 65536
DRAIN_WITHIN = 0.5
"""Seconds for which the last lines of a process that has ended are waited for."""


_PR_SET_CHILD_SUBREAPER = 36


class Child:
    """One started process. ``last_line`` is the newest that it wrote."""

    def __init__(self, label: str, process: asyncio.subprocess.Process) -> None:
        self.label = label
        self.process = process
        self.last_line = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def how_it_ended(self) -> str:
        """A sentence on its exit code or signal, and its last line."""
        code = self.process.returncode or 0
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"{self.label} {how}" + (f": {self.last_line}" if self.last_line else "")


class Children:
    """The processes of one run. ``tasks`` carries their output, and must outlive them.

    With ``orphans`` every child of this process that was not started here counts as an orphan of theirs.
    """

    def __init__(self, console: Console, tasks: asyncio.TaskGroup, *, orphans: bool = False) -> None:
        self._console = console
        self._tasks = tasks
        self._orphans = orphans
        self._pumps: list[asyncio.Task[None]] = []
        self.all: list[Child] = []

    async def start(self, label: str, argv: Sequence[str], env: Mapping[str, str], folder: Path) -> Child:
        """Start ``argv`` in ``folder`` with exactly ``env``; what it writes is shown under ``label``."""
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid())),
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=env,
                cwd=folder,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        child = Child(label, process)
        self.all.append(child)
        self._pumps.append(self._tasks.create_task(self._pump(child, reading)))
        return child

    async def stop(self, children: Iterable[Child], within: float) -> None:
        """SIGTERM to each; after ``within`` seconds SIGKILL to whatever is left of them and theirs."""
        children = list(children)
        for child in children:
            _send(child.pid, signal.SIGTERM, child.running)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                for child in children:
                    await child.process.wait()
        self.kill(children)
        for child in children:
            await child.process.wait()

    def kill(self, children: Iterable[Child]) -> None:
        """SIGKILL to each and to all that it has started."""
        children = list(children)
        for child in children:
            _send(child.pid, signal.SIGKILL, child.running)
        roots = {child.pid for child in children}
        spared = {child.pid for child in self.all} - roots
        # Until there is nobody: one may have been about to start another. A dozen rounds are plenty.
        for _ in range(12):
            left = family(roots, spared, os.getpid() if self._orphans else None)
            if not left:
                return
            for pid in left:
                _send(pid, signal.SIGKILL, True)

    async def drain(self) -> None:
        """Show the last lines, then close."""
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=DRAIN_WITHIN)
        for pump in self._pumps:
            pump.cancel()

    async def _pump(self, child: Child, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        lines = Lines()
        try:
            while data := await reader.read(CHUNK):
                self._show(child, lines.feed(data))
            self._show(child, lines.rest())
        finally:
            transport.close()

    def _show(self, child: Child, lines: Iterable[str]) -> None:
        for line in lines:
            child.last_line = line.strip() or child.last_line
            self._console.line(child.label, line)


class Ports:
    """Ports of this machine, kept until somebody listens on them.

    A bound socket that does not listen keeps the system from giving the port to anybody's outgoing
    connection, and does not hinder a server that sets SO_REUSEADDR, as ours do.
    """

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def any(self) -> int:
        """A free port, from the system."""
        return self._hold(0, "")

    def this(self, port: int, what: str) -> int:
        """The port itself.

        Raises:
            InvalidSetting: it cannot be listened on; says ``what`` wanted it.
        """
        return self._hold(port, what)

    def release(self, port: int) -> None:
        """Let go of a port, for a server that may not set SO_REUSEADDR."""
        if held := self._held.pop(port, None):
            held.close()

    def release_all(self) -> None:
        for port in list(self._held):
            self.release(port)

    def _hold(self, port: int, what: str) -> int:
        if port in self._held:
            raise InvalidSetting(f"{what}: port {port} is wanted twice")
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((HOST, port))
            found = int(holder.getsockname()[1])
        except OSError as error:
            holder.close()
            reason = (
                "is already taken"
                if error.errno == errno.EADDRINUSE
                else f"cannot be listened on: {error.strerror}"
            )
            raise InvalidSetting(f"{what}: port {port} on {HOST} {reason}") from None
        self._held[found] = holder
        return found


def adopt_orphans() -> None:
    """Make the kernel give this process whatever its children leave behind, so that none gets lost."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def family(roots: Collection[int], spared: Collection[int], adopter: int | None) -> list[int]:
    """The living processes in the sessions of ``roots``, and all that descend from those.

    With ``adopter``, its other children and theirs too, but for those that are ``spared``.
    """
    living = _processes()
    found = {pid for pid, (_, session) in living.items() if session in roots}
    if adopter is not None:
        found |= {pid for pid, (parent, _) in living.items() if parent == adopter and pid not in spared}
    while more := {pid for pid, (parent, _) in living.items() if parent in found} - found:
        found |= more
    return sorted(found)


def _processes() -> dict[int, tuple[int, int]]:
    """Parent and session of each process of this machine that has not ended."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(errors="replace")
        except OSError:
            continue  # ended meanwhile
        # After the name, which is in brackets and may hold anything: state, parent, group, session.
        state, parent, _, session = stat.rpartition(")")[2].split()[:4]
        if state != "Z":
            found[int(entry.name)] = (int(parent), int(session))
    return found


def _send(pid: int, number: signal.Signals, running: bool) -> None:
    if running:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
