"""The registry's speed, as a ratio to a bare ASGI application in the same run.

One process each, Debian's ``wrk`` with one thread and 16 connections; registry and yardstick in turn
(A B A B), the median of the pairs' ratios. 1,000 instances of 100 services stand in the registry. The aims
are against uvicorn as ``uvicorn[standard]`` gives it, on uvloop; the same on asyncio's loop is shown too, and
the ratio of what both use of a CPU, on which others on the machine have less influence.
"""

import asyncio
import contextlib
import os
import re
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conftest import free_port
from tests.e2e.mesh import BIN, Daemon
from tests.valkey import PASSWORD, valkey
from tests.web.keys import SECRET, token

from amalgam8.clients.http import Http
from amalgam8.clients.registry import Registration, RegistryClient
from amalgam8.model.errors import A8Error
from amalgam8.model.instance import Endpoint
from benchmarks import cpu
from benchmarks.figures import line, note

SECONDS = 3
PAIRS, PAIRS_WITHOUT_AIM = 5, 2
TENANTS = 100
LOAD = Path(__file__).parent / "load"
ROOT = Path(__file__).parents[1]
AIMS = {"lookups": 0.80, "heartbeats": 0.90, "registrations": 0.60}
LOOKUP = "/api/v1/services/svc1"


class Load(NamedTuple):
    """What wrk sends where: the path, and its options."""

    port: int
    path: str
    options: Sequence[str] = ()


class Rate(NamedTuple):
    """Requests per second, and CPU seconds of the server for each."""

    per_second: float
    cost: float


async def run() -> AsyncIterator[str]:
    """Measure; gives each line to print once it is known."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        async for text in bench.against_bare("uvloop", AIMS):
            yield text
        yield "\nthe same against a bare application on asyncio's loop"
        async for text in bench.against_bare("asyncio", {}):
            yield text
        yield "\nwith tokens that are signed (jwt), against uvloop"
        signed = {"A8_AUTH_MODE": "jwt", "A8_JWT_SECRET": SECRET}
        async for text in bench.against_bare("uvloop", {}, signed, token("default")):
            yield text
        yield f"\nwith {TENANTS} tenants, as a part of one tenant's"
        yield await bench.tenants()
        yield "\nwith the store in Valkey on this machine, against uvloop"
        with valkey() as server:
            shared = {
                "A8_STORE": "redis",
                "A8_STORE_ADDRESS": f"unix://{server.socket}",
                "A8_STORE_PASSWORD": PASSWORD,
            }
            async for text in bench.against_bare("uvloop", {}, shared):
                yield text


class Bench:
    """Starts what is measured; ``folder`` takes logs and files of ids."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = {"PYTHONPATH": os.pathsep.join([str(ROOT), f"{ROOT}/src"])}
        self._started = 0

    async def against_bare(
        self, loop: str, aims: Mapping[str, float], settings: Mapping[str, str] | None = None, token: str = ""
    ) -> AsyncIterator[str]:
        """Two lines for each of: lookups, heartbeats and registrations of a registry with these settings."""
        who = ("-H", f"Authorization: Bearer {token}") if token else ()
        async with self._registry(settings or {}) as (port, registry):
            ids, size = await _seed(port, self._folder, token)
            async with self._bare(size, loop) as (bare, same), self._bare(0, loop) as (empty, nothing):
                pids = {port: registry, bare: same, empty: nothing}
                beat = ("-s", str(LOAD / "heartbeat.lua"))
                register = ("-s", str(LOAD / "register.lua"))
                loads = {
                    "lookups": (Load(port, LOOKUP, who), Load(bare, "/")),
                    "heartbeats": (Load(port, "/", (*beat, *who)), Load(empty, "/", beat)),
                    # Registrations are held against the lookups' GET.
                    "registrations": (Load(port, "/", (*register, *who)), Load(bare, "/")),
                }
                for what, pair in loads.items():
                    for text in await _compared(what, *pair, pids, ids, aims.get(what)):
                        yield text

    async def tenants(self) -> str:
        """One line: lookups by many tenants in turn, beside lookups by one of them."""
        async with self._registry({"A8_AUTH_MODE": "trusted"}) as (port, _):
            for number in range(1, TENANTS + 1):
                await _seed(port, self._folder, f"t{number}", instances=10, services=1, prefix="svc1")
            many = Load(port, LOOKUP + "0", ("-s", str(LOAD / "tenants.lua")))
            one = Load(port, LOOKUP + "0", ("-H", "Authorization: Bearer t1"))
            ratios = [
                (await _rate(many, {}, None)).per_second / (await _rate(one, {}, None)).per_second
                for _ in range(PAIRS)
            ]
        return note("lookups", statistics.median(ratios), "×")

    @contextlib.asynccontextmanager
    async def _registry(self, settings: Mapping[str, str]) -> AsyncIterator[tuple[int, int]]:
        port = free_port()
        environ = {"A8_API_PORT": str(port), **settings, **self._python}
        async with self._daemon([BIN / "a8registry"], port, environ) as pid:
            yield port, pid

    @contextlib.asynccontextmanager
    async def _bare(self, size: int, loop: str) -> AsyncIterator[tuple[int, int]]:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.bare", str(port), str(size), loop]
        async with self._daemon(command, port, self._python) as pid:
            yield port, pid

    @contextlib.asynccontextmanager
    async def _daemon(
        self, command: Sequence[str | Path], port: int, environ: Mapping[str, str]
    ) -> AsyncIterator[int]:
        self._started += 1
        daemon = Daemon(f"daemon-{self._started}", command, self._folder, environ)
        await daemon.start()
        try:
            await answers(port)
            assert daemon.process
            yield daemon.process.pid
        finally:
            await daemon.stop()


async def _seed(
    port: int, folder: Path, token: str, *, instances: int = 1000, services: int = 100, prefix: str = "svc"
) -> tuple[Path, int]:
    """Fill the registry; returns the file of ids and the size of one lookup's answer."""
    http = Http(f"http://127.0.0.1:{port}", token)
    client = RegistryClient(http)
    found = []
    for i in range(instances):
        endpoint = Endpoint("http", f"10.0.{i // 256}.{i % 256}:8080")
        name = f"{prefix}{i % services}"
        registration = Registration(name, endpoint, ttl=600, tags=["v1"], metadata={"zone": "a"})
        found.append((await client.register(registration)).id)
    answer = await http.request("GET", f"/api/v1/services/{name}")
    await http.close()
    path = folder / "ids"
    path.write_text("\n".join(found))
    return path, len(answer.body)


async def answers(port: int) -> None:
    """Wait until something answers there."""
    http = Http(f"http://127.0.0.1:{port}")
    async with asyncio.timeout(20):
        while True:
            try:
                await http.request("GET", "/", timeout=1)
                break
            except A8Error:
                await asyncio.sleep(0.05)
    await http.close()


async def _compared(
    what: str, ours: Load, theirs: Load, pids: Mapping[int, int], ids: Path, aim: float | None
) -> list[str]:
    times = PAIRS if aim is not None else PAIRS_WITHOUT_AIM
    pairs = [(await _rate(ours, pids, ids), await _rate(theirs, pids, ids)) for _ in range(times)]
    ratio = statistics.median(one.per_second / other.per_second for one, other in pairs)
    costs = statistics.median(other.cost / one.cost for one, other in pairs)
    rate = statistics.median(one.per_second for one, _ in pairs)
    shown = f"{what} (median {rate:,.0f}/s), as a part of bare uvicorn"
    first = note(shown, ratio, "×") if aim is None else line(shown, ratio, aim, "×", at_most=False)
    return [first, note(f"{what}, the same by CPU seconds", costs, "×")]


async def _rate(load: Load, pids: Mapping[int, int], ids: Path | None) -> Rate:
    """Answers other than 2xx and 3xx end the benchmark."""
    address = f"http://127.0.0.1:{load.port}{load.path}"
    command = ["wrk", "-t1", "-c16", f"-d{SECONDS}", *load.options, address]
    pid = pids.get(load.port)
    before = cpu.seconds(pid) if pid else 0.0
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "IDS": str(ids or ""), "TENANTS": str(TENANTS)},
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    used = cpu.seconds(pid) - before if pid else 0.0
    if "Non-2xx" in output:
        raise AssertionError(output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    count = re.search(r"(\d+) requests in", output)
    if rate is None or count is None:
        raise AssertionError(output)
    return Rate(float(rate[1]), used / int(count[1]))
