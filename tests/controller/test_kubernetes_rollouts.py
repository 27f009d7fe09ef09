"""Rollouts of several controllers: one drives at a time, and no edition is written twice."""

import asyncio

import pytest

from amalgam8.catalogs.kubernetes.connect import Connection, by_url
from amalgam8.controller.kubernetes_rollouts import KubernetesRollouts
from amalgam8.model.errors import StoreUnavailable, Superseded
from tests.contracts.test_rollout_store import rollout
from tests.controller.kubernetes_cluster import NAMESPACE, kubernetes_kit, opened


async def test_one_leads_until_its_lease_is_over() -> None:
    now = 1_900_000_000.0
    async with kubernetes_kit() as kit:
        connection = Connection(by_url(f"http://127.0.0.1:{kit.port}"))
        one, other = (KubernetesRollouts(connection, NAMESPACE, lambda: now) for _ in range(2))
        assert await one.lead("one", 5.0)
        assert await one.lead("one", 5.0)
        assert not await other.lead("other", 5.0)
        now += 6
        assert await other.lead("other", 5.0)
        assert not await one.lead("one", 5.0)
        await connection.close()


async def test_of_two_that_write_an_edition_one_is_refused_and_both_see_the_other() -> None:
    async with kubernetes_kit() as kit:
        one, other = await opened(kit), await opened(kit)
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
        kit.cluster.refuse = 503
        with pytest.raises(StoreUnavailable):
            await one.rollouts.active()
        with pytest.raises(StoreUnavailable):
            await one.rollouts.lead("one", 5.0)
