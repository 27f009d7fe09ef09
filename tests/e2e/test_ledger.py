"""Where rules are applied, with real proxies: waiting, a stopped agent, a killed controller, an end."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from amalgam8.clients.controller import How
from tests.conftest import eventually
from tests.e2e.mesh import Mesh, mesh, route

pytestmark = pytest.mark.timeout(240)

V1, V2 = {"tags": ["v1"]}, {"tags": ["v2"]}
PATIENTLY, BRIEFLY = How(wait=20), How(wait=0.5)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with mesh(tmp_path) as made:
        yield made


async def states(running: Mesh, rule: str) -> dict[str, str]:
    return {one.service: one.state for one in (await running.rules.status(rule)).sidecars}


async def test_applied_is_what_proxies_follow(running: Mesh) -> None:
    for service in ("reviews:v1", "reviews:v2"):
        await running.add(service)
    web = await running.add("web", backend=False)
    shop = await running.add("shop", backend=False)
    await running.ready()

    # A rule that is applied when the answer comes acts on the very next call.
    await running.rules.create([route("reviews", V1, id="r", match={"source": {"name": "web"}})])
    for version in (V2, V1) * 5:
        rule = route("reviews", version, id="r", match={"source": {"name": "web"}})
        wrote = await running.rules.update([rule], PATIENTLY)
        assert (wrote.applied, wrote.concerned) == (True, 1)
        assert await web.version("/reviews/") == version["tags"][0]
    assert await states(running, "r") == {"web": "applied"}

    # An agent that stands still is missing, though its proxy goes on by the rules that it had.
    assert web.process
    web.process.send_signal(signal.SIGSTOP)
    try:
        wrote = await running.rules.update([route("reviews", V2, id="r")], BRIEFLY)
        assert [one.service for one in wrote.missing] == ["web"]
        assert await states(running, "r") == {
            "web": "pending",
            "shop": "applied",
            "reviews": "applied",
        }
        assert await web.version("/reviews/") == "v1"
    finally:
        web.process.send_signal(signal.SIGCONT)

    async def all_applied() -> bool:
        return set((await states(running, "r")).values()) == {"applied"}

    await eventually(all_applied, within=20)
    assert await web.version("/reviews/") == "v2"

    # A controller that was killed knows whom to expect, and hears from them by itself.
    await running.controller.kill()
    await running.controller.start()
    await running.controller_up()
    assert set(await states(running, "r")) == {"web", "shop", "reviews"}
    await eventually(all_applied, within=20)

    # One that ends in order is nobody to wait for.
    await shop.stop()
    wrote = await running.rules.delete(ids=["r"], how=PATIENTLY)
    assert (wrote.applied, wrote.concerned) == (True, 3)
