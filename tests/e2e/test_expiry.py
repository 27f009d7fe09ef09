"""A rule lapses on time in a sidecar that has nobody left to tell it so."""

import asyncio
import time
from pathlib import Path

import pytest

from amalgam8.clients.controller import How
from amalgam8.model.rule import rfc3339
from tests.conftest import eventually
from tests.e2e.mesh import mesh, route

pytestmark = pytest.mark.timeout(240)

AHEAD = 12.0
ON_TIME = 1.0
"""Seconds by which a rule may outlive its time; that is promised, so it is held here."""


async def test_rules_lapse_on_time_with_registry_and_controller_dead(tmp_path: Path) -> None:
    async with mesh(tmp_path) as running:
        for service in ("reviews:v1", "reviews:v2"):
            await running.add(service)
        web = await running.add("web", backend=False)
        await running.rules.create([route("reviews", {"tags": ["v1"]}, id="kept")])
        await running.ready()
        until = time.time() + AHEAD
        expires = rfc3339(until)
        wrote = await running.rules.create(
            [
                route("reviews", {"tags": ["v2"]}, id="short", priority=5, expires=expires),
                {
                    "id": "fault",
                    "destination": "reviews",
                    "match": {"headers": {"X-Fault": "1"}},
                    "actions": [{"action": "abort", "return_code": 418}],
                    "expires": expires,
                },
            ],
            How(wait=20),
        )
        assert wrote.applied
        await running.controller.kill()
        await running.registry.kill()
        last = {"short": 0.0, "fault": 0.0}
        first = {"short": 0.0, "fault": 0.0}
        while time.time() < until + ON_TIME + 0.5:
            for rule, headers, inside, after in (
                ("short", {}, "v2", "v1"),
                ("fault", {"X-Fault": "1"}, "418", "v1"),
            ):
                asked = time.time()
                answer = await web.version("/reviews/x", headers)
                if rule == "fault" and answer == "v2":
                    continue  # the fault went a moment before the route
                assert answer in (inside, after), answer
                if answer == inside:
                    assert not first[rule], f"{rule} came back"
                    last[rule] = asked
                else:
                    first[rule] = first[rule] or time.time()
            await asyncio.sleep(0.005)
        for rule in last:
            assert 0 < last[rule] <= until + ON_TIME, (
                f"{rule}: last {last[rule] - until:.2f} s after its time"
            )
            assert first[rule] >= until - 0.01, f"{rule} went {until - first[rule]:.2f} s too early"

        # Back again, the controller knows as well that both are over.
        await running.controller.start()
        await running.controller_up()

        async def only_kept() -> bool:
            return [rule["id"] for rule in (await running.rules.rules()).rules] == ["kept"]

        await eventually(only_kept, within=20)
        assert await web.version("/reviews/x") == "v1"
