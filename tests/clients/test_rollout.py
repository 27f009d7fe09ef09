"""The nouns of traffic and rollouts, as the controller's own answers are read."""

import time

from amalgam8.clients.rollout import Rollout, RolloutEvent
from amalgam8.model.traffic import Count, Tally, Traffic
from tests.controller.rules import document
from tests.controller.serving import running


async def test_a_rollout_as_it_is_answered() -> None:
    async with running() as controller:
        client = controller.client
        await client.create([document(id="base")])
        made = await client.start_rollout({"service": "reviews", "version": ["v2"], "max_p99": 1}, "ann")
        assert isinstance(made, Rollout)
        assert made.events == (RolloutEvent(made.created, "started, from v1"),)
        assert (made.author, made.max_p99, made.ended) == ("ann", 1.0, "")
        assert await client.rollout(made.id) == made
        assert await client.rollouts() == (made,)
        assert (await client.tell_rollout(made.id, "pause")).state == "paused"


async def test_rates_as_they_are_answered() -> None:
    async with running() as controller:
        calls = (await controller.tenants.get("default")).calls
        now = time.monotonic()
        for at, requests in ((now - 5, 0), (now, 50)):
            calls.take("a", Traffic("e", (Count("reviews", "v1", Tally(requests, 0, 0, (requests,))),)), at)
        found = await controller.client.traffic(["reviews"])
        assert (found.sidecars, len(found.traffic)) == (0, 1)
        rate = found.traffic[0]
        assert (rate.service, rate.version, rate.requests_per_second) == ("reviews", ("v1",), 10.0)
        assert (await controller.client.traffic(["other"])).traffic == ()
