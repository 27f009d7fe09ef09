import asyncio
import contextlib
import io
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from amalgam8.cli.output import Console
from amalgam8.cli.processes import HOST, Child, Children, Ports, family
from amalgam8.model.errors import InvalidSetting
from tests.conftest import eventually


@dataclass
class Started:
    children: Children
    stream: io.StringIO

    async def python(self, label: str, code: str) -> Child:
        argv = [sys.executable, "-I", "-S", "-c", code]
        return await self.children.start(label, argv, dict(os.environ), Path("/"))

    async def line(self, text: str) -> str:
        async def check() -> str:
            return next((line for line in self.stream.getvalue().splitlines() if text in line), "")

        return await eventually(check, within=30)


@contextlib.asynccontextmanager
async def started() -> AsyncIterator[Started]:
    stream = io.StringIO()
    async with asyncio.TaskGroup() as tasks:
        children = Children(Console(stream, ["app"], colour=False), tasks)
        try:
            yield Started(children, stream)
        finally:
            await children.stop(children.all, 5)
            await children.drain()


async def test_both_outputs_are_shown_with_a_prefix() -> None:
    async with started() as run:
        child = await run.python("app", "import sys; print('out'); sys.stderr.write('err'); sys.exit(3)")
        await child.process.wait()
        await run.line("app | err")
        assert "app | out" in run.stream.getvalue()
        assert child.how_it_ended() == "app ended with code 3: err"


async def test_a_command_that_is_not_there() -> None:
    async with started() as run:
        child = await run.children.start("app", ["/no/such/program"], {}, Path("/"))
        assert await child.process.wait() == 127
        await run.line("No such file")


async def test_stop_lets_it_end_by_itself() -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('tidying', flush=True), sys.exit(0)))\n"
        "print('up', flush=True)\n"
        "time.sleep(60)"
    )
    async with started() as run:
        child = await run.python("app", code)
        await run.line("up")
        await run.children.stop([child], 20)
        assert child.process.returncode == 0
        await run.line("tidying")


STUBBORN = (
    "import os, signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], process_group=0)\n"
    "print('pids', os.getpid(), inner.pid, flush=True)\n"
    "time.sleep(60)"
)


async def test_what_does_not_end_is_killed_with_all_it_started() -> None:
    async with started() as run:
        child = await run.python("app", STUBBORN)
        pids = [int(word) for word in (await run.line("pids")).split()[-2:]]
        assert set(pids) <= set(family([child.pid], [], None))
        await run.children.stop([child], 0.1)
        assert not child.running

        async def gone() -> bool:
            return family([child.pid], [], None) == []

        await eventually(gone, within=20)


async def test_descendants_in_other_sessions_are_family_too() -> None:
    code = (
        "import subprocess, sys, time\n"
        "argv = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "inner = subprocess.Popen(argv, start_new_session=True)\n"
        "print('inner', inner.pid, flush=True)\n"
        "time.sleep(60)"
    )
    async with started() as run:
        child = await run.python("app", code)
        inner = int((await run.line("inner")).split()[-1])
        assert family([child.pid], [], None) == sorted([child.pid, inner])
        assert inner in family([], [], child.pid)
        assert family([], [inner], child.pid) == []
        run.children.kill([child])
        await child.process.wait()


async def test_they_do_not_outlive_whoever_started_them() -> None:
    code = (
        "import asyncio, io, os, sys\n"
        "from pathlib import Path\n"
        "from amalgam8.cli.output import Console\n"
        "from amalgam8.cli.processes import Children\n"
        "async def main():\n"
        "    async with asyncio.TaskGroup() as tasks:\n"
        "        children = Children(Console(sys.stdout, ['a'], colour=False), tasks)\n"
        "        argv = [sys.executable, '-c', 'import time; print(\"up\", flush=True); time.sleep(60)']\n"
        "        child = await children.start('a', argv, {}, Path('/'))\n"
        "        print('pid', child.pid, flush=True)\n"
        "        await child.process.wait()\n"
        "asyncio.run(main())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    pid = int((await process.stdout.readline()).split()[-1])
    assert b"up" in await process.stdout.readline()
    process.kill()
    await process.wait()

    async def gone() -> bool:
        return pid not in family([pid], [], None)

    await eventually(gone, within=20)


def test_ports_are_kept_for_a_server_that_sets_reuseaddr() -> None:
    ports = Ports()
    try:
        port = ports.any()
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((HOST, port))
            server.listen()
            with pytest.raises(InvalidSetting, match=f"web: port {port} on {HOST} is already taken"):
                Ports().this(port, "web")
        with pytest.raises(InvalidSetting, match="is wanted twice"):
            ports.this(port, "web")
        ports.release(port)
        assert ports.this(port, "web") == port
    finally:
        ports.release_all()
