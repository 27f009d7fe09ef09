"""Shifting traffic by hand, against a real controller and a stand-in registry."""

from typing import Any

import pytest

from tests.cli.real import Real
from tests.cli.standin import Cli, Ran, StandIn
from tests.controller.rules import document


class Shift:
    """Runs traffic commands; the registry knows instances of v1 and v2 of reviews."""

    def __init__(self, mesh: Real, server: StandIn) -> None:
        self.mesh = mesh
        instances = [
            {
                "id": tag,
                "service_name": "reviews",
                "endpoint": {"type": "http", "value": "127.0.0.1:1"},
                "status": "UP",
                "ttl": 30,
                "tags": [tag, "x"],
                "last_heartbeat": "2030-01-01T00:00:00Z",
            }
            for tag in ("v1", "v2")
        ]
        server.answers[("GET", "/api/v1/instances")] = {"instances": instances}
        self._registry = server.url

    async def __call__(self, *argv: str) -> Ran:
        return await self.mesh("--registry-url", self._registry, *argv)

    async def backends(self) -> Any:
        rules = (await self.mesh.controller.client.routes())["reviews"]
        return [(one["tags"][0], one.get("weight")) for one in rules[-1]["route"]["backends"]]


@pytest.fixture
async def shift(mesh: Real, server: StandIn) -> Shift:
    await mesh.controller.client.create(
        [
            document(id="default", priority=1),
            document(id="tester", version="v3", priority=2, match={"headers": {"X": "y"}}),
        ]
    )
    return Shift(mesh, server)


async def test_step_by_step_to_the_end(shift: Shift) -> None:
    ran = await shift("traffic-start", "reviews", "v2", "--wait")
    assert (ran.code, ran.out) == (0, "v2 of reviews gets 10 % of the calls.\n")
    assert await shift.backends() == [("v2", 0.1), ("v1", None)]
    assert (await shift("traffic-step", "reviews")).code == 0
    assert await shift.backends() == [("v2", 0.2), ("v1", None)]
    assert (await shift("traffic-step", "reviews", "--amount", "95")).code == 0
    assert await shift.backends() == [("v2", 0.95), ("v1", None)]
    ran = await shift("traffic-step", "reviews")
    assert ran.out == "The new version of reviews gets 100 % of the calls.\n"
    assert await shift.backends() == [("v2", None)]
    assert len(await shift.mesh.rules()) == 2


async def test_back_again(shift: Shift) -> None:
    await shift("traffic-start", "reviews", "v2", "--amount", "30")
    assert (await shift("traffic-abort", "reviews")).code == 0
    assert await shift.backends() == [("v1", None)]


async def test_all_at_once(shift: Shift) -> None:
    await shift("traffic-start", "reviews", "v2", "--amount", "100")
    assert await shift.backends() == [("v2", None)]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("traffic-step", "reviews"), "is not being shifted"),
        (("traffic-abort", "reviews"), "is not being shifted"),
        (("traffic-start", "reviews", "v1"), "is the default version"),
        (("traffic-start", "reviews", "v9"), "no instance of version v9"),
        (("traffic-start", "ratings", "v2"), "has no route rules"),
    ],
)
async def test_what_is_refused(shift: Shift, argv: tuple[str, ...], words: str) -> None:
    ran = await shift(*argv)
    assert (ran.code, words in ran.err) == (1, True)
    assert await shift.backends() == [("v1", None)]


async def test_a_split_is_not_started_twice(shift: Shift) -> None:
    await shift("traffic-start", "reviews", "v2")
    ran = await shift("traffic-start", "reviews", "v2")
    assert (ran.code, "is split already" in ran.err) == (1, True)


async def test_a_service_with_conditions_only_has_no_default(mesh: Real, server: StandIn) -> None:
    await mesh.controller.client.create([document(id="t", match={"headers": {"X": "y"}})])
    ran = await Shift(mesh, server)("traffic-start", "reviews", "v2")
    assert (ran.code, "has no default version" in ran.err) == (1, True)


async def test_what_somebody_else_changed_meanwhile_is_not_overwritten(a8ctl: Cli) -> None:
    """The write is for the very revision that was read."""
    rule = {**document(id="d"), "route": {"backends": [{"tags": ["v2"], "weight": 0.5}, {"tags": ["v1"]}]}}
    a8ctl.server.answers[("GET", "/v1/rules")] = {"rules": [rule], "revision": 7}
    a8ctl.server.answers[("PUT", "/v1/rules")] = None
    assert (await a8ctl("traffic-step", "reviews")).code == 0
    assert a8ctl.server.seen[1].headers["if-match"] == '"7"'
