"""The manifests agree with what the controller does."""

import re
from pathlib import Path
from typing import Any

import yaml

from amalgam8.controller import kubernetes_objects as objects
from amalgam8.controller.kubernetes_rollouts import LEASE, ROLLOUTS
from amalgam8.controller.kubernetes_state import IDENTITY, SIDECARS
from tests.contracts.test_rollout_store import rollout
from tests.controller.kubernetes_cluster import create, kubernetes_kit, opened, recorded, states, until
from tests.controller.rules import route

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def test_the_definitions_are_of_the_kinds_that_are_written() -> None:
    kinds = {}
    for one in manifests("crds.yaml"):
        spec = one["spec"]
        assert one["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
        kinds[spec["names"]["plural"]] = (f"{spec['group']}/{spec['versions'][0]['name']}", spec["scope"])
    assert kinds == {
        objects.RULES: (objects.VERSION, "Namespaced"),
        objects.REVISIONS: (objects.VERSION, "Namespaced"),
        ROLLOUTS: (objects.VERSION, "Namespaced"),
    }
    taken = recorded("crd.created")["spec"]["names"]
    mine = manifests("crds.yaml")[0]["spec"]["names"]
    assert {name: mine[name] for name in taken} == taken, "as a real server took it"


def test_the_schema_takes_what_the_controller_writes_and_its_status() -> None:
    rule, revision, rollout = (one["spec"]["versions"][0] for one in manifests("crds.yaml"))
    assert "status" in rule["subresources"]
    properties = rule["schema"]["openAPIV3Schema"]["properties"]
    assert set(properties["status"]["properties"]) == {"state", "message", "revision", "observedGeneration"}
    assert properties["spec"]["x-kubernetes-preserve-unknown-fields"] is True
    for one in (revision, rollout):
        kept = one["schema"]["openAPIV3Schema"]["properties"]["spec"]
        assert kept["x-kubernetes-preserve-unknown-fields"] is True


async def test_the_role_allows_what_the_controller_does_and_no_more() -> None:
    allowed: dict[str, set[str]] = {}
    for one in manifests("rbac.yaml")[1]["rules"]:
        names = one.get("resourceNames", [""])
        assert set(names) <= {"", IDENTITY, SIDECARS, LEASE}
        for resource in one["resources"]:
            allowed.setdefault(resource, set()).update(one["verbs"])
    async with kubernetes_kit() as kit:
        store = await opened(kit)
        await create(store, route("a"))
        await until(lambda: states(kit) == {"a": ("valid", 1)}, "a status")
        kit.cluster.delete("a")
        await store.remember("default", {"s": None})
        await store.rollouts.put("default", rollout())
        assert await store.rollouts.lead("me", 5.0)
        done = kit.cluster.writes
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    for method, path in done:
        found = re.search(r"/namespaces/[^/]+/(\w+)(?:/[^/]+(/status)?)?$", path)
        assert found is not None
        assert verbs[method] in allowed[found[1] + (found[2] or "")], (method, path)
