"""The recorded cluster over a real socket: exactly the instances expected, whatever happens to watches."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import pytest

from amalgam8.catalogs.contract import Listener, running
from amalgam8.catalogs.kubernetes.catalog import (
    NAMESPACES,
    Kubernetes,
    KubernetesOptions,
    Namespaces,
    access_to,
    open_catalog,
)
from amalgam8.catalogs.kubernetes.connect import by_url
from amalgam8.model.errors import InvalidSetting
from tests.catalogs.kubernetes.cluster import QUICK, Cluster, Json, endpoint, endpoint_slice, recorded_events
from tests.conftest import eventually
from tests.wire import served

Rows = set[tuple[str, str, str, str, str, tuple[str, ...]]]

API: Rows = {
    ("default", "192.0.2.2-16443", "kubernetes", "https 192.0.2.2:16443", "UP", ("kubernetes",)),
}
BEFORE: Rows = {
    (
        "shop",
        "b8c9ab33-307e-4a3b-8be8-e378c9392598-5432",
        "db",
        "tcp 10.244.0.21:5432",
        "UP",
        ("app=db", "version=16", "16", "kubernetes"),
    ),
}
ALWAYS: Rows = {
    (
        "shop",
        "95844db9-c8a9-44bd-bf48-5795a8288d6d-8080",
        "multi",
        "http 10.244.0.41:8080",
        "UP",
        ("app=multi", "version=v1", "v1", "kubernetes"),
    ),
    (
        "shop",
        "95844db9-c8a9-44bd-bf48-5795a8288d6d-8081",
        "multi",
        "tcp 10.244.0.41:8081",
        "UP",
        ("app=multi", "version=v1", "v1", "kubernetes"),
    ),
}
RATES = ("rates", "http 10.244.0.31:7000", "UP", ("app=rates", "version=v1", "v1", "kubernetes"))
V1 = "959c784b-765f-414b-902a-345bcf2b8c37-9080"
V2 = "efa99d44-9329-43b8-8a75-283bff85ca74-9080"
V3 = "9f94b47b-2d4e-444f-99e3-26eae38d0d9d-9080"


def review(identity: str, address: str, status: str, *tags: str) -> Rows:
    return {
        ("shop", identity, "reviews", f"http {address}:9080", status, ("app=reviews", *tags, "kubernetes"))
    }


def rows(listener: Listener) -> Rows:
    """The newest full set; the pod of ``rates`` is known by its service."""
    return {
        (tenant, one.id, one.service_name, f"{one.endpoint.type} {one.endpoint.value}", one.status, one.tags)
        for tenant, some in (listener.told[-1] if listener.told else {}).items()
        for one in some
    }


def recorded(plural: str) -> list[Json]:
    return [event for event in recorded_events(f"{plural}.watch.jsonl") if event["type"] != "BOOKMARK"]


def all_events() -> list[tuple[str, Json]]:
    """Of slices and pods, in the order in which they happened."""
    found = [(plural, event) for plural in ("endpointslices", "pods") for event in recorded(plural)]
    return sorted(found, key=lambda one: int(one[1]["object"]["metadata"]["resourceVersion"]))


def first_set() -> Rows:
    return {
        *API,
        *BEFORE,
        *with_rates(),
        *review(V1, "10.244.0.11", "UP", "version=v1", "v1"),
        *review(V2, "10.244.0.12", "STARTING", "track=canary", "version=v2", "v2"),
    }


def last_set() -> Rows:
    return {
        *API,
        *with_rates(),
        *review(V2, "10.244.0.12", "UP", "track=canary", "version=v2.1", "v2.1"),
        *review(V3, "10.244.0.13", "UP", "version=v3", "v3"),
    }


def with_rates() -> Rows:
    cluster = Cluster()
    cluster.load()
    uid = cluster.objects["pods"]["shop", "rates-v1-cccc"]["metadata"]["uid"]
    service, endpoint_, status, tags = RATES
    return {*ALWAYS, ("shop", f"{uid}-7000", service, endpoint_, status, tags)}


@contextlib.asynccontextmanager
async def followed(cluster: Cluster, namespaces: str = "*") -> AsyncIterator[Listener]:
    async with served(cluster) as port:
        access = by_url(f"http://127.0.0.1:{port}", cluster.token)
        async with running(Kubernetes(access, NAMESPACES.read(namespaces), QUICK)) as listener:
            yield listener
        cluster.cut()


async def told(listener: Listener, wanted: Rows) -> None:
    async def check() -> bool:
        return rows(listener) == wanted

    try:
        await eventually(check)
    except AssertionError:
        assert rows(listener) == wanted
        raise


async def watched(cluster: Cluster, count: int = 3) -> None:
    async def check() -> bool:
        return cluster.watches >= count

    await eventually(check, what="watches")


async def test_the_recorded_watch_step_by_step() -> None:
    cluster = Cluster()
    cluster.load()
    v1, v2 = (
        review(V1, "10.244.0.11", "UP", "version=v1", "v1"),
        review(V2, "10.244.0.12", "UP", "track=canary", "version=v2", "v2"),
    )
    base = API | with_rates()
    slices, pods = recorded("endpointslices"), recorded("pods")
    async with followed(cluster) as listener:
        await told(listener, first_set())
        assert len(listener.told) == 1, "the full set comes first, at once"

        cluster.play("endpointslices", slices[0])
        await told(listener, base | BEFORE | v1 | v2)
        cluster.play("endpointslices", slices[1])
        cluster.bookmark("endpointslices")
        await told(listener, base | BEFORE | v1 | v2)  # the pod of the new endpoint is not known yet
        cluster.play("pods", pods[0])
        v3 = review(V3, "10.244.0.13", "UP", "version=v3", "v3")
        await told(listener, base | BEFORE | v1 | v2 | v3)
        cluster.play("pods", pods[1])
        cluster.play("endpointslices", slices[2])
        v1 = review(V1, "10.244.0.11", "OUT_OF_SERVICE", "version=v1", "v1")
        await told(listener, base | BEFORE | v1 | v2 | v3)
        cluster.play("pods", pods[2])
        v2 = review(V2, "10.244.0.12", "UP", "track=canary", "version=v2.1", "v2.1")
        await told(listener, base | BEFORE | v1 | v2 | v3)
        cluster.play("endpointslices", slices[3])
        await told(listener, base | v1 | v2 | v3)
        cluster.play("pods", pods[3])
        cluster.play("pods", pods[4])
        await told(listener, last_set())
    assert not listener.reasons
    assert [cluster.lists(plural) for plural in ("endpointslices", "pods", "services")] == [1, 1, 1]


def nothing(_cluster: Cluster) -> None:
    pass


def cut(cluster: Cluster) -> None:
    cluster.cut()


def cut_within_a_line(cluster: Cluster) -> None:
    cluster.cut(within_line=True)


def forget_and_cut(cluster: Cluster) -> None:
    cluster.forget()
    cluster.cut()


def twice(cluster: Cluster) -> None:
    cluster.twice = True


@pytest.mark.parametrize("trouble", [nothing, cut, cut_within_a_line, forget_and_cut, twice])
async def test_trouble_after_every_event_changes_nothing_in_the_end(
    trouble: Callable[[Cluster], None],
) -> None:
    cluster = Cluster()
    cluster.load()
    async with followed(cluster) as listener:
        await told(listener, first_set())
        await watched(cluster)
        for plural, event in all_events():
            cluster.play(plural, event)
            trouble(cluster)
            await asyncio.sleep(0)
        await told(listener, last_set())
        assert all(len(some) for some in listener.told[-1].values())


@pytest.mark.parametrize("seed", range(8))
async def test_any_order_between_collections_and_any_trouble_end_alike(seed: int) -> None:
    """Each collection in its own order, as a server tells it; between them, and around them, anything."""
    dice = random.Random(seed)
    left = {plural: recorded(plural) for plural in ("endpointslices", "pods")}
    cluster = Cluster()
    cluster.load()
    async with followed(cluster) as listener:
        await told(listener, first_set())
        await watched(cluster)
        while any(left.values()):
            plural = dice.choice([name for name, events in left.items() if events])
            cluster.play(plural, left[plural].pop(0))
            deed = dice.choice(
                [nothing, cut, cut_within_a_line, forget_and_cut, twice, bookmarks, away, back]
            )
            deed(cluster)
            await asyncio.sleep(dice.choice([0, 0, 0.002, 0.02]))
        back(cluster)
        await told(listener, last_set())


def bookmarks(cluster: Cluster) -> None:
    for plural in ("endpointslices", "pods", "services"):
        cluster.bookmark(plural)


def away(cluster: Cluster) -> None:
    cluster.refuse = 503
    cluster.cut()


def back(cluster: Cluster) -> None:
    cluster.refuse = 0


@pytest.mark.parametrize("plural", ["endpointslices", "pods"])
async def test_what_is_late_of_one_collection_arrives_in_the_end(plural: str) -> None:
    """All events of one collection before any of the other."""
    cluster = Cluster()
    cluster.load()
    async with followed(cluster) as listener:
        await told(listener, first_set())
        await watched(cluster)
        for which in (plural, *{"endpointslices", "pods"} - {plural}):
            for event in recorded(which):
                cluster.play(which, event)
                await asyncio.sleep(0.002)
        await told(listener, last_set())


async def test_events_held_back_and_then_in_reverse() -> None:
    cluster = Cluster()
    cluster.load()
    async with followed(cluster) as listener:
        await told(listener, first_set())
        await watched(cluster)
        cluster.held = True
        for plural, event in all_events():
            cluster.play(plural, event)
        cluster.log.reverse()
        cluster.release()
        await told(listener, last_set())


async def test_what_happened_while_everything_was_away() -> None:
    cluster = Cluster()
    cluster.load()
    async with followed(cluster) as listener:
        await told(listener, first_set())
        await watched(cluster)
        cluster.refuse = 503
        forget_and_cut(cluster)

        async def said() -> bool:
            return bool(listener.reasons)

        await eventually(said)
        for plural, event in all_events():
            cluster.play(plural, event)
        cluster.forget()
        assert rows(listener) == first_set()
        cluster.refuse = 0
        await told(listener, last_set())


async def test_one_collection_that_is_not_allowed_is_said_and_nothing_is_told() -> None:
    cluster = Cluster()
    cluster.load()
    cluster.refused["pods"] = 403
    async with followed(cluster) as listener:

        async def said() -> bool:
            return bool(listener.reasons)

        await eventually(said)
        assert "pods: not allowed (403)" in listener.reasons[0]
        assert listener.told == []
        cluster.refused.clear()
        await told(listener, first_set())


async def test_a_collection_lost_later_does_not_stop_the_others() -> None:
    cluster = Cluster()
    cluster.load()
    async with followed(cluster) as listener:
        await told(listener, first_set())
        await watched(cluster)
        cluster.refused["services"] = 403
        cluster.cut()
        cluster.put("endpointslices", endpoint_slice("default", "new", [endpoint("192.0.2.9")], 80))
        new = {("default", "192.0.2.9-80", "new", "http 192.0.2.9:80", "UP", ("kubernetes",))}
        await told(listener, first_set() | new)

        async def said() -> bool:
            return any("services: not allowed" in reason for reason in listener.reasons)

        await eventually(said)


async def test_one_namespace_is_asked_for_alone() -> None:
    cluster = Cluster()
    cluster.load()
    async with followed(cluster, "shop:team-a") as listener:
        await told(listener, {("team-a", *row[1:]) for row in first_set() - API})
    assert {path for path, _ in cluster.asked} == {
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
        "/api/v1/namespaces/shop/pods",
        "/api/v1/namespaces/shop/services",
    }


async def test_several_namespaces_and_the_rest() -> None:
    cluster = Cluster()
    cluster.load()
    async with followed(cluster, "shop:team-a,*:rest") as listener:
        wanted = {("team-a" if row[0] == "shop" else "rest", *row[1:]) for row in first_set()}
        await told(listener, wanted)
    async with followed(cluster, "shop:one,default:one") as listener:
        await told(listener, {("one", *row[1:]) for row in first_set()})


async def test_the_token_is_sent_and_a_wrong_one_is_said() -> None:
    cluster = Cluster()
    cluster.load()
    cluster.token = "right"
    async with followed(cluster) as listener:
        await told(listener, first_set())
        cluster.token = "another"
        cluster.cut()

        async def said() -> bool:
            return any("not accepted (401)" in reason for reason in listener.reasons)

        await eventually(said)
        assert rows(listener) == first_set()
    assert not any("right" in reason for reason in listener.reasons)


async def test_signs_of_life_are_told() -> None:
    cluster = Cluster()
    cluster.load()
    async with followed(cluster) as listener:
        await told(listener, first_set())
        count = len(listener.told)

        async def again() -> bool:
            cluster.bookmark("pods")
            return len(listener.told) > count

        await eventually(again)
        assert listener.told[-1] == listener.told[0]


@pytest.mark.parametrize(
    ("text", "tenants"),
    [
        ("*", {"*": "*"}),
        ("shop", {"shop": "shop"}),
        ("shop:a, web-2:b ,*", {"shop": "a", "web-2": "b", "*": "*"}),
        ("*:default", {"*": "default"}),
    ],
)
def test_namespaces_are_read(text: str, tenants: dict[str, str]) -> None:
    assert NAMESPACES.read(text) == Namespaces(tenants)


@pytest.mark.parametrize("text", ["", "shop:", ":a", "shop,shop:b", "a/b", "shop,,web"])
def test_other_namespaces_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        NAMESPACES.read(text)


def test_a_namespace_has_the_tenant_of_its_name_or_the_one_it_is_given() -> None:
    assert Namespaces({"*": "*"}).tenant_of("shop") == "shop"
    assert Namespaces({"*": "default", "shop": "a"}).tenant_of("shop") == "a"
    assert Namespaces({"*": "default"}).tenant_of("web") == "default"
    assert Namespaces({"shop": "a"}).tenant_of("web") is None


def test_options_are_refused_with_a_sentence() -> None:
    for options, said in (
        ({"token": "secret"}, "token: needs url"),
        ({"url": "ftp://x"}, "url: 'ftp://x' is not allowed"),
        ({"url": "http://10.0.0.1", "token": "secret"}, "must be https"),
        ({"url": "http://127.0.0.1:1", "namespace": "a/b"}, "namespace"),
        ({"kubeconfig": "/nowhere"}, "No such file"),
        ({"colour": "red"}, "no option"),
    ):
        with pytest.raises(InvalidSetting, match=said) as caught:
            open_catalog(options)
        assert "secret" not in str(caught.value)


def test_without_any_way_to_the_api_it_says_so() -> None:
    with pytest.raises(InvalidSetting, match="this is no pod"):
        access_to(KubernetesOptions(), {})


async def test_many_namespaces_have_room_for_their_watches() -> None:
    cluster = Cluster()
    names = [f"n{number}" for number in range(12)]
    for name in names:
        cluster.put("endpointslices", endpoint_slice(name, "web", [endpoint("192.0.2.1")], 80))
    async with followed(cluster, ",".join(names)) as listener:
        await told(
            listener,
            {(name, "192.0.2.1-80", "web", "http 192.0.2.1:80", "UP", ("kubernetes",)) for name in names},
        )
        await watched(cluster, 3 * len(names))
        cluster.cut()
        cluster.remove("endpointslices", ("n3", "web-x1"))

        async def gone() -> bool:
            return not any(row[0] == "n3" for row in rows(listener))

        await eventually(gone)
