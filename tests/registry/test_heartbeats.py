"""Many renewals in one request."""

import pytest

from amalgam8.model.errors import InvalidJson, TooManyIds
from amalgam8.registry.heartbeats import IDS_LIMIT, read_heartbeats, renew_many
from tests.contracts.registry_store import instance
from tests.registry.kit import MemoryKit, running

PATH = "/api/v1/heartbeats"


async def test_known_leases_are_renewed_and_unknown_ones_named() -> None:
    async with running() as registry:
        ids = [instance(port=port).id for port in range(1, 101)]
        for port in range(1, 101):
            await registry.store.register("default", instance(port=port))
        await registry.pass_time(29)
        answer = await registry.ask("PUT", PATH, {"ids": ["nope", *ids[:50], "0123456789abcdef"]})
        assert (answer.status, answer.json()) == (200, {"unknown": ["nope", "0123456789abcdef"]})
        await registry.pass_time(2)
        assert len(registry.store.view("default")) == 50
        metrics = (await registry.ask("GET", "/metrics")).body.decode()
        assert 'lease_events_total{event="renewed",tenant="default"}' not in metrics  # the kit counts apart
        assert sum(event.count for event in registry.kit.happened if event.what == "renewed") == 50
        again = await registry.ask("PUT", PATH, {"ids": ids})
        assert again.json() == {"unknown": ids[50:]}
        assert (await registry.ask("PUT", PATH, {"ids": []})).json() == {"unknown": []}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"ids": "x"}', b'{"ids": [1]}', b'{"ids": null}', b"{"]
)
def test_bodies_that_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson, match="ids"):
        read_heartbeats(body)


async def test_the_number_of_ids_is_bounded_and_fits_into_a_body() -> None:
    with pytest.raises(TooManyIds, match=str(IDS_LIMIT)):
        read_heartbeats(b'{"ids":[' + b",".join([b'""'] * (IDS_LIMIT + 1)) + b"]}")
    async with running() as registry:
        answer = await registry.ask("PUT", PATH, {"ids": ["0123456789abcdef"] * IDS_LIMIT})
        refused = await registry.ask("PUT", PATH, {"ids": ["0"] * (IDS_LIMIT + 1)})
        wrong = await registry.ask("PUT", PATH, {"ids": 7})
    assert len(answer.json()["unknown"]) == IDS_LIMIT
    assert (refused.status, refused.json()["code"]) == (413, "too_many_ids")
    assert (wrong.status, wrong.json()["code"]) == (400, "invalid_json")


async def test_a_store_that_renews_one_by_one_does_too() -> None:
    kit = MemoryKit()
    store = kit.make()
    await store.register("t", instance())

    class Plain:
        renew = staticmethod(store.renew)

    found = await renew_many(Plain(), "t", [instance().id, "x"])  # type: ignore[arg-type]
    assert found.unknown == ["x"]
    assert [event.what for event in kit.happened] == ["registered", "renewed"]
