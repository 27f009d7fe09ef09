"""The Eureka API over a real socket: the cases of eureka_contract.yaml, XML, and deltas."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from amalgam8.catalogs.eureka_document import decode, read_applications
from amalgam8.catalogs.eureka_mirror import Mirror
from amalgam8.clients.http import Answer
from tests.registry.kit import Running, running
from tests.registry.test_api import holds

TABLE = yaml.safe_load((Path(__file__).parent / "eureka_contract.yaml").read_text())
REGISTRATIONS: dict[str, Any] = TABLE["registrations"]
BASE = "/api/eureka/default/v2"


async def register(registry: Running, name: str) -> None:
    document = REGISTRATIONS[name]
    answer = await registry.ask("POST", f"{BASE}/apps/{document['app']}", {"instance": document})
    assert answer.status == 204


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
async def test_the_contract(case: dict[str, Any]) -> None:
    async with running(capacity=case.get("capacity", -1)) as registry:
        for name in case.get("given", ()):
            await register(registry, name)
        for step in case["steps"]:
            await check(registry, step)


async def check(registry: Running, step: dict[str, Any]) -> None:
    await registry.pass_time(step.get("after", 0))
    method, path = step["ask"].split(" ", 1)
    path = path.strip('"').replace("~", BASE, 1)
    body = step["raw"].encode() if "raw" in step else step.get("body")
    answer = await registry.ask(method, path, body, step.get("headers"))
    assert answer.status == step["status"], (step, answer)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    if "error" in step:
        error = answer.json()
        assert set(error) == {"Error", "code", "request_id"}
        assert error["code"] == step["error"], (step, error)
    if "exactly" in step:
        assert (answer.json() if answer.body else "") == step["exactly"], step
    if "answer" in step:
        assert holds(answer.json(), step["answer"]), (step, answer.json())


XML_REGISTRATION = b"""<?xml version="1.0" encoding="UTF-8"?>
<instance>
  <instanceId>host-x:shop</instanceId><hostName>host-x</hostName><app>SHOP</app><ipAddr>10.0.0.3</ipAddr>
  <vipAddress>shop</vipAddress><status>UP</status>
  <port enabled="true">8080</port><securePort enabled="false">443</securePort>
  <dataCenterInfo class="com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo">
    <name>MyOwn</name>
  </dataCenterInfo>
  <leaseInfo><durationInSecs>30</durationInSecs></leaseInfo>
  <metadata><amalgam8.tags>v3</amalgam8.tags><app>own &amp; only</app></metadata>
</instance>"""


async def test_xml_in_and_out() -> None:
    async with running() as registry:
        sent = await registry.ask(
            "POST", f"{BASE}/apps/SHOP", XML_REGISTRATION, {"Content-Type": "application/xml; charset=UTF-8"}
        )
        assert sent.status == 204, sent
        found = (await registry.ask("GET", "/api/v1/services/shop")).json()["instances"]
        assert [(one["endpoint"]["value"], one["tags"]) for one in found] == [("host-x:8080", ["v3"])]
        answer = await registry.ask("GET", f"{BASE}/apps", headers={"Accept": "application/xml"})
        assert answer.headers["content-type"] == "application/xml"
        assert answer.body.startswith(b"<?xml")
        shown = read_applications(decode(answer.body))
        assert shown.hashcode == "UP_1_"
        assert shown.instances[0]["metadata"] == {"amalgam8.tags": "v3", "app": "own & only"}
        assert shown.instances[0]["port"] == {"@enabled": "true", "$": "8080"}
        for path in ("/apps/SHOP", "/apps/SHOP/host-x:shop", "/instances/host-x:shop", "/vips/shop"):
            answer = await registry.ask("GET", BASE + path, headers={"Accept": "application/xml"})
            assert b"<hostName>host-x</hostName>" in answer.body


async def test_netflix_base_answers_xml_where_nothing_is_asked_for() -> None:
    async with running() as registry:
        for path in ("/eureka/apps", "/eureka/v2/apps"):
            answer = await registry.ask("GET", path, headers={"Accept": "*/*"})
            assert answer.headers["content-type"] == "application/xml"
        answer = await registry.ask("GET", f"{BASE}/apps", headers={"Accept": "*/*"})
        assert answer.headers["content-type"] == "application/json; charset=utf-8"


async def documents(registry: Running, path: str, form: str = "json") -> Answer:
    return await registry.ask("GET", BASE + path, headers={"Accept": f"application/{form}"})


@pytest.mark.parametrize("form", ["json", "xml"])
async def test_a_mirror_follows_by_deltas_alone(form: str) -> None:
    """Every change reaches whoever fetched everything once, and both ends count the same."""
    mirror = Mirror()

    async def follow() -> set[str]:
        answer = await documents(registry, "/apps/delta", form)
        assert mirror.delta(read_applications(decode(answer.body))), answer
        return {one.service_name for one in mirror.instances()}

    async with running() as registry:
        await register(registry, "a")
        mirror.full(read_applications(decode((await documents(registry, "/apps", form)).body)))
        assert await follow() == {"reviews"}
        body = {"service_name": "details", "endpoint": {"type": "http", "value": "10.0.0.1:1"}, "ttl": 60}
        identity = (await registry.ask("POST", "/api/v1/instances", body)).json()["id"]
        assert await follow() == {"reviews", "details"}
        await registry.ask("POST", "/api/v1/instances", {**body, "status": "STARTING"})
        assert await follow() == {"reviews", "details"}
        await registry.pass_time(31)
        assert await follow() == {"details"}
        await registry.ask("DELETE", f"/api/v1/instances/{identity}")
        assert await follow() == set()


async def test_versions_grow_with_changes_and_not_with_renewals() -> None:
    async with running() as registry:
        versions = []
        for name in ("a", "a", "b"):
            await register(registry, name)
            answer = await documents(registry, "/apps")
            versions.append(int(answer.json()["applications"]["versions__delta"]))
    assert versions[0] == versions[1] < versions[2] < 2**63


async def test_whoever_fetched_elsewhere_is_sent_to_fetch_everything() -> None:
    async with running() as registry:
        await register(registry, "a")
        delta = (await documents(registry, "/apps/delta")).json()["applications"]
        assert delta["apps__hashcode"] == ""
        assert (await documents(registry, "/apps")).json()["applications"]["apps__hashcode"] == "UP_1_"


async def test_an_override_is_the_instances_own_to_leave() -> None:
    """DOWN and STARTING are reported by the instance; an override does not hide them."""
    path = f"{BASE}/apps/REVIEWS/host-a:reviews:9080"
    async with running() as registry:
        await register(registry, "a")
        await registry.ask("PUT", f"{path}/status?value=OUT_OF_SERVICE")
        down = {"instance": {**REGISTRATIONS["a"], "status": "DOWN"}}
        await registry.ask("POST", f"{BASE}/apps/REVIEWS", down)
        assert (await registry.ask("GET", path)).json()["instance"]["status"] == "DOWN"


async def test_metadata_beyond_the_limit_change_nothing() -> None:
    path = f"{BASE}/apps/REVIEWS/host-a:reviews:9080"
    async with running() as registry:
        await register(registry, "a")
        answer = await registry.ask("PUT", f"{path}/metadata?a={'x' * 1100}")
        assert (answer.status, answer.json()["code"]) == (400, "invalid_instance")
        assert (await registry.ask("GET", path)).json()["instance"]["metadata"]["zone"] == "z1"
        body = {"service_name": "s", "endpoint": {"type": "http", "value": "h:1"}, "metadata": [1]}
        identity = (await registry.ask("POST", "/api/v1/instances", body)).json()["id"]
        answer = await registry.ask("PUT", f"{BASE}/apps/s/{identity}/metadata?a=b")
        assert answer.status == 400


async def test_nothing_beneath_an_override_is_shown() -> None:
    path = f"{BASE}/apps/REVIEWS/host-a:reviews:9080"
    async with running() as registry:
        await register(registry, "a")
        await registry.ask("PUT", f"{path}/status?value=DOWN")
        shown = (await registry.ask("GET", path)).body
        assert b"$status" not in shown
        for one in ("/api/v1/instances", "/api/v1/services/reviews"):
            assert b"extension" not in (await registry.ask("GET", one)).body
