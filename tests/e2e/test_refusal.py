"""A rule set that a proxy refuses, in a whole mesh: the old one goes on, and everybody can see why."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import eventually
from tests.e2e.mesh import BIN, Mesh, mesh, route

pytestmark = pytest.mark.timeout(240)

FAULTY = Path(__file__).with_name("faulty.py")
V1, V2 = {"tags": ["v1"]}, {"tags": ["v2"]}


async def listed(running: Mesh, *flags: str) -> str:
    """What ``a8ctl sidecar-list`` prints."""
    command = await asyncio.create_subprocess_exec(
        *(str(BIN / "a8ctl"), "--controller-url", running.controller_url, "sidecar-list", *flags),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await command.communicate()
    assert command.returncode == 0
    return out.decode()


async def states(running: Mesh) -> dict[str, tuple[str, str]]:
    """State and reason by service."""
    rows: list[dict[str, Any]] = json.loads(await listed(running, "--output", "json"))
    return {row["service"]: (row["state"], row.get("reason", "")) for row in rows}


async def test_a_refused_rule_set_leaves_the_old_one_and_shows_the_proxys_words(tmp_path: Path) -> None:
    async with mesh(tmp_path) as running:
        for service in ("reviews:v1", "reviews:v2", "ratings:v1"):
            await running.add(service)
        shop = await running.add("shop", backend=False, program=[sys.executable, FAULTY])
        web = await running.add("web", backend=False)
        await running.rules.create([route("reviews", V1, id="fine")])
        await running.ready()
        assert await shop.version("/reviews/x") == "v1"

        await running.rules.create([route("reviews", V2, id="broken", priority=5)])

        async def refused() -> bool:
            found = await states(running)
            return found["shop"][0] == "rejected" and found["web"][0] == "applied"

        await eventually(refused, within=30, what="shop rejected, web applied")
        state, reason = (await states(running))["shop"]
        assert state == "rejected"
        assert reason.startswith("reviews: ")
        assert "weight" in reason  # Envoy's own word
        assert "rejected" in await listed(running)
        ledger = {one.service: one.state for one in (await running.rules.status("broken")).sidecars}
        assert (ledger["shop"], ledger["web"]) == ("rejected", "applied")
        assert {await shop.version("/reviews/x") for _ in range(10)} == {"v1"}
        assert {await web.version("/reviews/x") for _ in range(10)} == {"v2"}
        assert await shop.version("/ratings/x") == "v1"

        # Other destinations go on changing, and a rule set that is right again is followed.
        await running.rules.create([route("ratings", V2, id="nobody")])

        async def follows() -> bool:
            return await shop.version("/ratings/x") == "503"

        await eventually(follows, within=20, what="the rule of another destination")
        assert (await states(running))["shop"][0] == "rejected"
        await running.rules.delete(ids=["broken"])

        async def applied() -> bool:
            return {state for state, _ in (await states(running)).values()} == {"applied"}

        await eventually(applied, within=30, what="all applied again")
        assert await shop.version("/reviews/x") == "v1"
