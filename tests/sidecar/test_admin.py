"""The admin port: what each path shows, before anything is known and after."""

import contextlib
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from amalgam8.clients.controller import ControllerClient
from amalgam8.clients.http import Answer, Http, Refusal
from amalgam8.clients.registry import RegistryClient
from amalgam8.model.caller import Caller
from amalgam8.model.instance import Endpoint
from amalgam8.model.report import PlanStamp, RegistryStamp, Rejection
from amalgam8.model.stream import Hello, InstanceSnapshot
from amalgam8.routing.plan import (
    DestinationPlan,
    FaultEntry,
    PlanBackend,
    PlanDelay,
    PlanSnapshot,
    RouteEntry,
)
from amalgam8.routing.resolve import Route, ServiceRouting, Slice, Target
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.admin import Admin, Driven, in_force
from amalgam8.sidecar.figures import HELP
from amalgam8.sidecar.follow import Follower
from amalgam8.sidecar.names import Names
from amalgam8.sidecar.proxy import Confirmed, Desired, Stamp
from amalgam8.sidecar.registration import Registration
from amalgam8.sidecar.report import Reporter
from amalgam8.sidecar.routing import Join
from amalgam8.sidecar.tcp import Connections, TcpProxy
from tests.sidecar.support import StandInProxy
from tests.wire import instance, served

CALLER = Caller("web", ("v1",))
ONE = instance("reviews", 1, "v1")


def driven() -> Driven:
    follower, proxy = Follower(), StandInProxy()
    controller = ControllerClient(Http("http://user:secret@127.0.0.1:1", "secret"))
    reporter = Reporter(controller, "the-id", CALLER, proxy.name, proxy.confirmed, follower.key)
    join = Join(follower.seen, proxy.desired)
    names = Names(follower.seen, follower.take_names)
    connections = Connections((TcpProxy(7000, "db"), TcpProxy(7001, "nobody", ("v2",))), proxy.desired)
    return Driven(proxy, follower, join, reporter, names, connections)


def registration() -> Registration:
    client = RegistryClient(Http("http://user:secret@127.0.0.1:1", "secret"))
    return Registration(client, "web", (), Endpoint("http", "127.0.0.1:80"), Latest(""))


@contextlib.asynccontextmanager
async def admin(driven: Driven | None, registration: Registration | None = None) -> AsyncIterator[Http]:
    async with served(Admin("the-id", CALLER, driven, registration).app) as port:
        http = Http(f"http://127.0.0.1:{port}")
        try:
            yield http
        finally:
            await http.close()


def tell(driven: Driven, plan: dict[str, DestinationPlan]) -> None:
    """As if both streams had told it."""
    follower = driven.follower
    follower.instances.hello(Hello("e", 4, 1), 0.0)
    follower.instances.snapshot(InstanceSnapshot(4, (ONE, instance("reviews", 2, status="STARTING"))))
    follower.plan.snapshot(PlanSnapshot(7, "h7", plan))
    follower.seen.set(type(follower.seen.value)(follower.plan.seen, follower.instances.seen))


def entry(rule: str, expires: float | None = None) -> RouteEntry:
    return RouteEntry(rule=rule, backends=(PlanBackend("reviews", ("v1",)),), expires=expires)


async def test_before_anything_is_known() -> None:
    async with admin(driven()) as http:
        assert (await http.request("GET", "/state")).json() == {"instances": [], "rules": {}}
        with pytest.raises(Refusal, match="no Plan has come from the controller yet") as refused:
            await http.request("GET", "/-/plan")
        assert refused.value.status == 503
        status = (await http.request("GET", "/-/status")).json()
        assert status["proxy"]["confirmed"] is None
        assert not status["proxy"]["registry"]["connected"]
        assert status["registration"] is None


async def test_state_shows_instances_and_the_rules_in_force() -> None:
    parts = driven()
    tell(parts, {"reviews": DestinationPlan((entry("over", time.time() - 1), entry("now")))})
    async with admin(parts) as http:
        state = (await http.request("GET", "/state")).json()
        assert {one["status"] for one in state["instances"]} == {"UP", "STARTING"}
        assert [route["rule"] for route in state["rules"]["reviews"]["routes"]] == ["now"]
        plan = msgspec.json.decode((await http.request("GET", "/-/plan")).body, type=PlanSnapshot)
        assert (plan.revision, plan.hash) == (7, "h7")
        assert [route.rule for route in plan.destinations["reviews"].routes] == ["over", "now"]


async def test_status_says_what_is_desired_and_what_is_confirmed() -> None:
    parts, one = driven(), registration()
    desired = Stamp(PlanStamp(8, "h8"), RegistryStamp("e", 9))
    parts.proxy.desired.set(Desired({}, desired))
    rejected = (Rejection("ratings", "too many"),)
    parts.proxy.confirmed.set(Confirmed(Stamp(PlanStamp(7, "h7"), RegistryStamp("e", 9)), rejected))
    async with admin(parts, one) as http:
        body = (await http.request("GET", "/-/status")).body
        status = msgspec.json.decode(body)
        assert (status["id"], status["service"], status["tags"]) == ("the-id", "web", ["v1"])
        assert status["uptime"] >= 0
        assert status["registration"] == {
            "id": one.id,
            "endpoint": {"type": "http", "value": "127.0.0.1:80"},
            "registered": False,
        }
        assert status["proxy"]["name"] == "stand-in"
        assert status["proxy"]["desired"]["plan"] == {"revision": 8, "hash": "h8"}
        assert status["proxy"]["confirmed"]["plan"] == {"revision": 7, "hash": "h7"}
        assert status["proxy"]["rejected"] == [{"destination": "ratings", "reason": "too many"}]
        assert b"secret" not in body


async def test_status_shows_names_and_tcp_proxies() -> None:
    parts = driven()
    target = Target("db", ("v1",))
    fault = FaultEntry(rule="slow")
    routed = ServiceRouting("db", (Route((Slice(target),), rule="r1"),), faults=(fault,), peers={target: ()})
    parts.proxy.desired.set(Desired({"db": routed}))
    parts.names.answers["db.example"] = ("10.0.0.1",)
    async with admin(parts) as http:
        status = (await http.request("GET", "/-/status")).json()["proxy"]
        assert status["names"] == {"db.example": ["10.0.0.1"]}
        db, nobody = status["tcp"]
        assert db == {
            "port": 7000,
            "service": "db",
            "tags": [],
            "known": True,
            "refused": False,
            "rule": "r1",
            "versions": [{"tags": ["v1"], "share": 1.0}],
            "unfit": [{"rule": "slow", "why": "a delay or an abort is for requests"}],
        }
        assert (nobody["known"], nobody["versions"]) == (False, [])


async def figures(http: Http) -> dict[str, float]:
    answer: Answer = await http.request("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


async def test_metrics_are_the_agents_and_the_proxys() -> None:
    parts = driven()
    tell(parts, {"reviews": DestinationPlan((entry("now"),))})
    async with admin(parts, registration()) as http:
        found = await figures(http)
        assert found["stand_in"] == 1
        assert found["a8_sidecar_instances"] == 2
        assert found["a8_sidecar_rules_destinations"] == 1
        assert found["a8_sidecar_registered"] == 0
        assert found["a8_sidecar_stream_connectedregistry"] == 0
        answer = (await http.request("GET", "/metrics")).body.decode()
        assert {
            line.split()[2] for line in answer.splitlines() if line.startswith("# HELP a8_sidecar")
        } == set(HELP)


async def test_a_sidecar_without_a_proxy_shows_what_it_has() -> None:
    async with admin(None, registration()) as http:
        assert (await http.request("GET", "/state")).json() == {"instances": [], "rules": {}}
        assert (await http.request("GET", "/-/status")).json()["proxy"] is None
        assert "a8_sidecar_registered" in await figures(http)


async def test_it_is_read_only() -> None:
    async with admin(driven()) as http:
        for path in ("/state", "/-/status", "/metrics"):
            with pytest.raises(Refusal) as refused:
                await http.request("PUT", path)
            assert refused.value.status == 405


def test_in_force_leaves_out_what_has_lapsed() -> None:
    fault = FaultEntry(rule="f", delays=(PlanDelay(1.0),), expires=10.0)
    part = DestinationPlan((entry("r", 20.0), entry("s")), faults=(fault,))
    assert in_force({"a": part}, 9.0) == {"a": part}
    assert in_force({"a": part}, 10.0) == {"a": DestinationPlan(part.routes)}
    assert in_force({"a": part}, 20.0) == {"a": DestinationPlan(part.routes[1:])}
