"""The registry's speed, as a ratio to a bare ASGI application on the same server in the same run.

One process each, Debian's ``wrk`` with one thread and 16 connections; registry and yardstick in turn
(A B A B), the median of the pairs' ratios. 1,000 instances of 100 services stand in the registry.
"""

import asyncio
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import free_port
from tests.e2e.mesh import BIN, Daemon

from amalgam8.clients.http import Http
from amalgam8.clients.registry import Registration, RegistryClient
from amalgam8.model.errors import A8Error
from amalgam8.model.instance import Endpoint
from benchmarks.figures import line

SECONDS = 4
PAIRS = 4
LOAD = Path(__file__).parent / "load"
AIMS = {"lookups": 0.80, "heartbeats": 0.90, "registrations": 0.60}


async def run() -> list[str]:
    """Measure; returns the lines to print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        registry, bare, empty = free_port(), free_port(), free_port()
        root = str(Path(__file__).parents[1])
        python = {"PYTHONPATH": os.pathsep.join([root, f"{root}/src"])}
        daemons = [
            Daemon("registry", [BIN / "a8registry"], folder, {"A8_API_PORT": str(registry), **python}),
        ]
        await daemons[0].start()
        ids, size = await _seed(registry, folder)
        for port, bytes_ in ((bare, size), (empty, 0)):
            command = [sys.executable, "-m", "benchmarks.bare", str(port), str(bytes_)]
            daemons.append(Daemon(f"bare-{bytes_}", command, folder, python))
            await daemons[-1].start()
            await _answers(port)
        try:
            return [
                await _ratio("lookups", registry, bare, "/api/v1/services/svc1", ()),
                await _ratio("heartbeats", registry, empty, "/", ("-s", str(LOAD / "heartbeat.lua")), ids),
                await _ratio("registrations", registry, bare, "/", ("-s", str(LOAD / "register.lua")), ids),
            ]
        finally:
            for daemon in daemons:
                await daemon.stop()


async def _seed(port: int, folder: Path) -> tuple[Path, int]:
    """Fill the registry; returns the file of ids and the size of one lookup's answer."""
    await _answers(port)
    http = Http(f"http://127.0.0.1:{port}")
    client = RegistryClient(http)
    found = []
    for i in range(1000):
        endpoint = Endpoint("http", f"10.0.{i // 256}.{i % 256}:8080")
        registration = Registration(f"svc{i % 100}", endpoint, ttl=600, tags=["v1"], metadata={"zone": "a"})
        found.append((await client.register(registration)).id)
    answer = await http.request("GET", "/api/v1/services/svc1")
    await http.close()
    path = folder / "ids"
    path.write_text("\n".join(found))
    return path, len(answer.body)


async def _answers(port: int) -> None:
    http = Http(f"http://127.0.0.1:{port}")
    async with asyncio.timeout(20):
        while True:
            try:
                await http.request("GET", "/", timeout=1)
                break
            except A8Error:
                await asyncio.sleep(0.05)
    await http.close()


async def _ratio(
    what: str, registry: int, bare: int, path: str, extra: Sequence[str], ids: Path | None = None
) -> str:
    ratios, rates = [], []
    for _ in range(PAIRS):
        ours = await _rate(registry, path, extra, ids)
        # Lookups and heartbeats are held against the same method; registrations against the lookups' GET.
        theirs = await _rate(bare, "/", () if what == "registrations" else extra, ids)
        ratios.append(ours / theirs)
        rates.append(ours)
    shown = f"{what} (median {statistics.median(rates):,.0f}/s), as a part of bare uvicorn"
    return line(shown, statistics.median(ratios), AIMS[what], "×", at_most=False)


async def _rate(port: int, path: str, extra: Sequence[str], ids: Path | None) -> float:
    """Requests per second that wrk counted; answers other than 2xx and 3xx end the benchmark."""
    command = ["wrk", "-t1", "-c16", f"-d{SECONDS}", *extra, f"http://127.0.0.1:{port}{path}"]
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "IDS": str(ids or "")}, stdout=asyncio.subprocess.PIPE
    )
    output = (await process.communicate())[0].decode()
    if "Non-2xx" in output:
        raise AssertionError(output)
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None:
        raise AssertionError(output)
    return float(found[1])
