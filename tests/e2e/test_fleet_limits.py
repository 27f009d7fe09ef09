"""A limit of the fleet through real proxies: shares go with demand, and outlive the controller."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from amalgam8.model.errors import A8Error
from tests.conftest import eventually
from tests.e2e.mesh import Mesh, Sidecar, mesh

pytestmark = pytest.mark.timeout(240)

RULE = {
    "id": "limit",
    "destination": "shop",
    "actions": [{"action": "rate_limit", "requests": 10, "scope": "fleet"}],
}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with mesh(tmp_path) as made:
        yield made


async def share(sidecar: Sidecar) -> float | None:
    try:
        status = (await sidecar.admin.request("GET", "/-/status")).json()
    except A8Error:
        return None
    found = status["proxy"]["slices"].get("limit/0")
    return None if found is None else float(found)


async def calls(sidecar: Sidecar) -> None:
    """One call after another, more than the limit allows on any machine."""
    while True:
        await asyncio.gather(*(sidecar.get("/shop/") for _ in range(4)))


async def some_pass(sidecar: Sidecar) -> bool:
    """Whether some calls pass, and some are refused."""
    return {(await sidecar.get("/shop/")).status for _ in range(10)} == {200, 429}


async def test_shares_go_with_demand(running: Mesh) -> None:
    await running.add("shop:v1")
    first, second = [await running.add("web", backend=False) for _ in range(2)]
    await running.ready()
    await running.rules.create([RULE])

    async def at_least(sidecar: Sidecar, least: float) -> bool:
        found = await share(sidecar)
        return found is not None and found >= least

    async with asyncio.TaskGroup() as tasks:
        busy = tasks.create_task(calls(first))
        await eventually(lambda: at_least(first, 0.8), within=30, what="nearly all for the one that calls")
        await eventually(lambda: some_pass(first), what="calls that pass beside some that do not")
        # The other one's calls are refused at first, and then it has half of the budget.
        other = tasks.create_task(calls(second))
        await eventually(lambda: at_least(second, 0.4), within=30, what="half for each")
        await running.controller.kill()
        other.cancel()
        kept = await share(second)
        assert kept is not None
        assert kept >= 0.4
        await eventually(lambda: some_pass(second), what="calls that pass beside some that do not")
        assert await share(second) == kept
        await running.controller.start()
        await running.controller_up()
        await eventually(lambda: at_least(first, 0.8), within=60, what="all for the one that calls, again")
        busy.cancel()
