"""Rollouts of several controllers: one drives at a time, and no edition is written twice."""

import asyncio

import pytest

from amalgam8.model.errors import StoreUnavailable, Superseded
from tests.contracts.test_rollout_store import rollout
from tests.controller.redis_kit import RedisKit
from tests.valkey import valkey


async def test_one_leads_until_its_lease_is_over() -> None:
    with valkey() as server:
        async with RedisKit(server) as kit:
            one, other = kit.make(), kit.make()
            await kit.up(one, other)
            assert await one.rollouts.lead("one", 30.0)
            assert await one.rollouts.lead("one", 30.0)
            assert not await other.rollouts.lead("other", 30.0)
            server.ask("DEL", "{a8c}:leader")  # as when it runs out
            assert await other.rollouts.lead("other", 30.0)


async def test_of_two_that_write_an_edition_one_is_refused_and_both_see_the_other() -> None:
    with valkey(durable=True) as server:
        async with RedisKit(server) as kit:
            one, other = kit.make(), kit.make()
            await kit.up(one, other)
            await one.rollouts.put("default", first := rollout())
            editions = [first.went("2030-01-01T00:01:00Z", text) for text in ("mine", "theirs")]
            results = await asyncio.gather(
                one.rollouts.put("default", editions[0]),
                other.rollouts.put("default", editions[1]),
                return_exceptions=True,
            )
            assert [type(result) for result in results].count(Superseded) == 1
            won = editions[results.index(None)]
            assert await one.rollouts.all("default") == await other.rollouts.all("default") == [won]
            server.kill()
            with pytest.raises(StoreUnavailable):
                await one.rollouts.active()
