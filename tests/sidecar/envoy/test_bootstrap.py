"""The bootstrap: small, private, and taken by the real binary."""

import asyncio
import json
import subprocess
from pathlib import Path

from amalgam8.sidecar.envoy.admin import STATS, fetch
from amalgam8.sidecar.envoy.bootstrap import bootstrap
from amalgam8.sidecar.envoy.process import find_binary
from tests.sidecar.envoy.support import Mesh, backends, simple

PATHS = Path("/run/ads.sock"), Path("/run/admin.sock")


async def test_envoy_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "envoy.json"
    file.write_bytes(bootstrap(*PATHS, "shop", STATS))
    command = [str(find_binary(None)), "--mode", "validate", "--log-level", "warning", "-c", str(file)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""


def test_it_opens_no_port() -> None:
    document = bootstrap(*PATHS, "shop", STATS)
    assert b"socket_address" not in document
    assert json.loads(document)["admin"]["address"]["pipe"] == {"path": "/run/admin.sock", "mode": 0o600}


async def test_memory_is_put_in_order_beside_the_calls(mesh: Mesh) -> None:
    threads = Path(f"/proc/{mesh.envoy.pid}/task").glob("*/comm")
    assert "TcmallocProcess" in {thread.read_text().strip() for thread in threads}


async def test_no_statistic_is_kept_but_those_shown(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        await mesh.ask("/svc/")
        assert mesh.envoy._admin_socket is not None
        lines = (await fetch(mesh.envoy._admin_socket, "/stats")).decode().splitlines()
    names = {line.partition(":")[0] for line in lines}
    assert {name for name in names if not name.startswith("a8.")} == set(STATS)
