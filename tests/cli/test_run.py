"""Whole meshes: real daemons, real Envoys, and a toy app."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from amalgam8.cli.processes import family
from tests.conftest import eventually, free_port

pytestmark = pytest.mark.timeout(150)

READY = "Ctrl-C ends everything."
TOY = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        names = ("A8_SERVICE", "A8_PROXY_URL", "HOST", "COLOUR")
        body = json.dumps({name: os.environ.get(name) for name in names}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
print("\\x1b[31mtoy\\x1b[0m is up")
address = (os.environ["HOST"], int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""


@dataclass
class Up:
    process: asyncio.subprocess.Process
    output: list[str]
    gateway: int
    controller: int

    async def until(self, text: str) -> str:
        """The first line with ``text``; fails if all ends before."""
        for line in self.output:
            if text in line:
                return line
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            while data := await self.process.stdout.readline():
                self.output.append(data.decode().rstrip("\n"))
                if text in self.output[-1]:
                    return self.output[-1]
        raise AssertionError("\n".join(self.output))

    def family(self) -> list[int]:
        return family([], [], self.process.pid)

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await self.rest()

    async def rest(self) -> int:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            data = await self.process.stdout.read()
            self.output += data.decode().splitlines()
            return await self.process.wait()


@contextlib.asynccontextmanager
async def up(folder: Path, mesh: object, *flags: str) -> AsyncIterator[Up]:
    (folder / "toy.py").write_text(TOY)
    file = folder / "mesh.yaml"
    file.write_text(json.dumps({"services": mesh}))
    ports = {name: free_port() for name in ("registry", "controller", "gateway")}
    argv = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "amalgam8.cli.main", "up", "-f", str(file), *argv, *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    found = Up(process, [], ports["gateway"], ports["controller"])
    try:
        yield found
    finally:
        if process.returncode is None:
            await found.end(signal.SIGTERM)


def get(port: int, path: str) -> dict[str, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        found: dict[str, str] = json.load(answer)
        return found


async def all_gone(pids: list[int]) -> None:
    async def check() -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in pids)

    await eventually(check, within=30, what=f"the end of {pids}")


ENTRY = {
    "service": "toy",
    "tags": ["v1", "version=v1"],
    "command": "python -S toy.py",
    "env": {"COLOUR": "red"},
}


async def test_a_mesh_runs_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    async with up(tmp_path, [ENTRY]) as run:
        state = Path((await run.until("state in")).split()[-1])
        await run.until(READY)
        assert state.is_dir()
        seen = await asyncio.to_thread(get, run.gateway, "/toy/")
        row = next(line for line in run.output if line.startswith("| toy-v1.1 "))
        _, where, proxy, _, pid = (cell.strip() for cell in row.split("|")[1:-1])
        assert seen == {
            "A8_SERVICE": "toy:v1,version=v1",
            "A8_PROXY_URL": proxy,
            "HOST": "127.0.0.1",
            "COLOUR": "red",
        }
        assert await asyncio.to_thread(get, int(where.rpartition(":")[2]), "/") == seen
        assert "toy-v1.1   | toy is up" in run.output
        pids = run.family()
        assert int(pid) in pids
        assert len(pids) == 7  # registry, controller, gateway, sidecar, app, two Envoys
        assert await run.end(signal.SIGINT) == 130
        await all_gone(pids)
        assert not state.exists()
        assert "\x1b" not in "".join(run.output)


async def test_rules_survive_in_a_state_folder_and_nothing_survives_kill_9(tmp_path: Path) -> None:
    flags = ("--state-dir", str(tmp_path / "state"))
    rule = {"id": "kept", "destination": "toy", "actions": [{"action": "abort", "return_code": 418}]}
    (tmp_path / "rule.json").write_text(json.dumps(rule))

    async def a8ctl(run: Up, *argv: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "amalgam8.cli.main"),
            *("--controller-url", f"http://127.0.0.1:{run.controller}", *argv),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return process.returncode, out.decode()

    async with up(tmp_path, [ENTRY], *flags) as run:
        await run.until(READY)
        assert (await a8ctl(run, "rule-create", "-f", str(tmp_path / "rule.json")))[0] == 0

        async def knows() -> bool:
            """The controller was told of the registry: it explains with instances."""
            code, out = await a8ctl(run, "explain", "--from", "web", "--to", "toy", "-o", "json")
            found = json.loads(out)
            return code == 0 and found["notes"] == [] and len(found["versions"][0]["instances"]) == 1

        await eventually(knows, within=30, what="an explanation with instances")
        assert await run.end(signal.SIGTERM) == 0
    async with up(tmp_path, [ENTRY], *flags) as run:
        await run.until(READY)
        code, out = await a8ctl(run, "rule-get", "-o", "json")
        assert (code, [kept["id"] for kept in json.loads(out)["rules"]]) == (0, ["kept"])
        pids = run.family()
        assert len(pids) == 7
        run.process.kill()
        await run.process.wait()
        await all_gone(pids)


async def test_a_command_that_dies_ends_all_and_is_named(tmp_path: Path) -> None:
    dies = {"service": "bad", "command": ["python", "-S", "-c", "import sys; print('no db'); sys.exit(3)"]}
    async with up(tmp_path, [ENTRY, dies]) as run:
        assert await run.rest() == 1
        assert "a8ctl: bad.1 ended with code 3: no db" in run.output
        assert run.family() == []


async def test_one_that_dies_later_ends_all_too(tmp_path: Path) -> None:
    async with up(tmp_path, [ENTRY]) as run:
        await run.until(READY)
        pids = run.family()
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in pids}
        app = next(pid for pid, words in lines.items() if words[1:3] == [b"-S", b"toy.py"])
        os.kill(app, signal.SIGKILL)
        assert await run.rest() == 1
        assert run.output[-1].startswith("a8ctl: toy-v1.1 ended with code 137")
        await all_gone(pids)


async def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with up(tmp_path, [{"service": "bad", "command": "./none"}]) as run:
        assert await run.rest() == 1
        assert run.output[-1].startswith("a8ctl: bad.1 ended with code 2: ")
        assert "./none is not there" in run.output[-1]


@pytest.mark.parametrize("who", ["registry", "controller", "gateway", "toy-v1.1"])
async def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path, who: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        own = who == "toy-v1.1"
        flags = [] if own else [f"--{who}-port", str(port)]
        async with up(tmp_path, [ENTRY | ({"port": port} if own else {})], *flags) as run:
            assert await run.rest() == 2
            assert run.output[-1] == f"a8ctl: {who}: port {port} on 127.0.0.1 is already taken"


@pytest.mark.parametrize("moment", ["starting; state in", "waiting for deaf.1"])
async def test_interrupted_while_starting(tmp_path: Path, moment: str) -> None:
    """As the first processes start, and while all wait for an app that never listens."""
    deaf = {"service": "deaf", "command": ["python", "-S", "-c", "import time; time.sleep(600)"]}
    async with up(tmp_path, [deaf]) as run:
        await run.until(moment)
        pids = run.family()
        assert await run.end(signal.SIGINT) == 130
        await all_gone(pids)
        assert READY not in "\n".join(run.output)
