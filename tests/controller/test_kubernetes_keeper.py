"""RoutingRules beside the rules: written, judged, and changed by people with kubectl."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from amalgam8.controller import kubernetes as module
from amalgam8.controller import kubernetes_objects as objects
from amalgam8.controller import outside, rulebook
from amalgam8.controller.book import Rulebook
from amalgam8.controller.kubernetes import KubernetesStore
from amalgam8.controller.tenants import Tenants
from tests.conftest import eventually
from tests.controller.kubernetes_cluster import (
    NAMESPACE,
    KubernetesKit,
    agree,
    create,
    kubernetes_kit,
    opened,
    recorded,
    states,
    until,
)
from tests.controller.rules import route, write


@pytest.fixture
async def kit() -> AsyncIterator[KubernetesKit]:
    async with kubernetes_kit() as kit:
        yield kit


@contextlib.asynccontextmanager
async def listening(store: KubernetesStore) -> AsyncIterator[Tenants]:
    """What people change is taken over, as in a controller."""
    tenants = Tenants(store, 3600.0)
    await tenants.open()
    task = asyncio.create_task(outside.follow(tenants, store))
    try:
        yield tenants
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_rules_are_there_to_be_read_with_their_state(kit: KubernetesKit) -> None:
    store = await opened(kit)
    await create(store, route("reviews-v1", priority=1))
    await until(lambda: states(kit) == {"reviews-v1": ("valid", 1)}, "a status")
    one = kit.cluster.rules()["reviews-v1"]
    assert (one["apiVersion"], one["kind"]) == ("amalgam8.io/v1", "RoutingRule")
    expected = recorded("routingrule.created")["spec"]
    assert {name: one["spec"][name] for name in expected} == expected
    assert one["metadata"]["labels"] == {objects.TENANT: "default"}
    book = (await store.load("default")).book
    await store.append("default", 1, rulebook.replace(book, [route("reviews-v1", version="v2")], write()))
    await until(lambda: states(kit) == {"reviews-v1": ("valid", 2)}, "the newer one")
    book = (await store.load("default")).book
    await store.append("default", 2, rulebook.remove(book, rulebook.Selection(), write()))
    await until(lambda: not kit.cluster.rules(), "no rule")
    assert kit.cluster.revisions() == ["default.1", "default.2", "default.3"]


async def test_two_controllers_do_not_write_the_same_objects(kit: KubernetesKit) -> None:
    one, _ = await opened(kit), await opened(kit)
    await create(one, route("a"))
    await until(lambda: states(kit) == {"a": ("valid", 1)}, "a status")
    posts = [path for method, path in kit.cluster.writes if method == "POST" and path.endswith("rules")]
    assert len(posts) == 1


async def test_what_a_dead_controller_left_undone_another_one_does(
    kit: KubernetesKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OTHERS_AFTER", 0.05)
    other = await opened(kit)
    change = rulebook.create(Rulebook(), [route("a")], write())
    body = objects.revision_object(objects.Revision("default", 1, change))
    document = msgspec.json.decode(msgspec.json.encode(body))
    document["metadata"]["namespace"] = NAMESPACE
    kit.cluster.put("rulerevisions", document)
    await until(lambda: states(kit) == {"a": ("valid", 1)}, "the object of another one's rule")
    assert list((await other.load("default")).book.rules) == ["a"]


async def test_kubectl_apply_becomes_a_revision(kit: KubernetesKit) -> None:
    store = await opened(kit)
    async with listening(store):
        kit.cluster.apply("reviews-v1", recorded("routingrule.created")["spec"])
        await until(lambda: states(kit) == {"reviews-v1": ("valid", 1)}, "a rule of kubectl's")
        (change,) = await store.log("default")
        assert (change.cause, change.author, change.after[0].id) == ("create", outside.OUTSIDE, "reviews-v1")
        spec = {**kit.cluster.rules()["reviews-v1"]["spec"], "priority": 7}
        kit.cluster.apply("reviews-v1", spec)
        await until(lambda: states(kit) == {"reviews-v1": ("valid", 2)}, "the changed rule")
        assert (await store.load("default")).book.rules["reviews-v1"].priority == 7
        kit.cluster.delete("reviews-v1")

        async def removed() -> bool:
            return not (await store.load("default")).book.rules

        await eventually(removed, what="a rule that kubectl deleted")
        causes = [change.cause for change in await store.log("default")]
        assert causes == ["remove", "replace", "create"]
    assert not kit.cluster.rules()


async def test_an_edit_that_is_no_rule_is_judged_and_changes_nothing(kit: KubernetesKit) -> None:
    store = await opened(kit)
    await create(store, route("a"))
    await until(lambda: states(kit) == {"a": ("valid", 1)}, "a status")
    async with listening(store):
        kit.cluster.apply("a", {"destination": "reviews", "rout": {}})
        kit.cluster.apply("b", {"destination": 7})
        kit.cluster.apply("c", "no rule")
        await until(
            lambda: (
                {name: state for name, (state, _) in states(kit).items()}
                == {"a": "invalid", "b": "invalid", "c": "invalid"}
            ),
            "judged edits",
        )
        rules = kit.cluster.rules()
        assert "spec.rout" in rules["a"]["status"]["message"]
        assert "spec.destination" in rules["b"]["status"]["message"]
        assert "expected a rule" in rules["c"]["status"]["message"]
        assert (await store.load("default")).book.revision == 1
        kit.cluster.apply("b", {"destination": "ratings", "route": {"backends": [{"tags": ["v1"]}]}})
        await until(lambda: states(kit)["b"] == ("valid", 2), "a mended rule")
        assert sorted((await store.load("default")).book.rules) == ["a", "b"]


async def test_both_controllers_see_an_edit_and_one_takes_it(kit: KubernetesKit) -> None:
    one, other = await opened(kit), await opened(kit)
    async with listening(one), listening(other):
        kit.cluster.apply("a", {"destination": "reviews", "route": {"backends": [{"tags": ["v1"]}]}})
        await until(lambda: states(kit) == {"a": ("valid", 1)}, "a rule of kubectl's")
        book = await agree(one, other)
    assert (book.revision, list(book.rules)) == (1, ["a"])


async def test_an_edit_that_the_rules_refuse_says_so(kit: KubernetesKit) -> None:
    store = await opened(kit)
    async with listening(store):
        past = {"destination": "r", "expires": "2001-01-01T00:00:00Z", "actions": [{"action": "trace"}]}
        kit.cluster.apply("old", past)
        await until(lambda: states(kit) == {"old": ("invalid", 0)}, "a refusal")
        assert "passed" in kit.cluster.rules()["old"]["status"]["message"]


async def test_an_object_that_cannot_be_written_is_tried_again(kit: KubernetesKit) -> None:
    store = await opened(kit)
    kit.cluster.refused_collections = {"routingrules"}
    await create(store, route("a"))
    assert not kit.cluster.rules()
    kit.cluster.refused_collections = set()
    await until(lambda: states(kit) == {"a": ("valid", 1)}, "the object after all")
