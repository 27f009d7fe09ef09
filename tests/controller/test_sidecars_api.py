"""Streams and reports over a real socket: what each sidecar is sent, and what it may say."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from amalgam8.clients.http import Refusal
from amalgam8.clients.watch import Lost, Watch
from amalgam8.controller import rulebook, settle
from amalgam8.controller.fleet import FORGOTTEN_AFTER, GONE_AFTER
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.slices import GRACE
from amalgam8.model.caller import Caller, caller
from amalgam8.model.report import PlanStamp, Rejection, SidecarReport
from amalgam8.model.slices import SliceReport, Slices, Wanted
from amalgam8.model.stream import Hello
from amalgam8.routing.plan import DestinationPlan, PlanDelta, PlanSnapshot, encode_part, part_hash, plan_hash
from tests.conftest import eventually
from tests.controller.rules import delay, document
from tests.controller.serving import Clock, Controller, running

Event = Hello | PlanSnapshot | PlanDelta | Slices | Lost
WEB, GATEWAY = caller("web", ["v1"]), caller("gateway")


@pytest.fixture
async def controller() -> AsyncIterator[Controller]:
    async with running() as found:
        yield found


class Sidecar:
    """Follows the stream as the real one does, and keeps what it was told."""

    def __init__(self, controller: Controller, who: Caller, identity: str = "") -> None:
        self.id = identity or str(uuid.uuid4())
        self.who = who
        self.controller = controller
        self.watch: Watch[PlanSnapshot, PlanDelta] = controller.client.watch_plan(self.id, who)
        self.events: list[Event] = []
        self.parts: dict[str, DestinationPlan] = {}
        self.hash = ""
        self.revision = -1
        self.key = ""

    async def follow(self) -> None:
        async for event in self.watch.events():
            self.events.append(event)
            if isinstance(event, Hello):
                self.key = event.key
            elif isinstance(event, PlanSnapshot):
                self.parts = dict(event.destinations)
            elif isinstance(event, PlanDelta):
                self.parts = {k: v for k, v in self.parts.items() if k not in event.removed} | event.changed
            if isinstance(event, (PlanSnapshot, PlanDelta)):
                self.hash, self.revision = event.hash, event.revision
                hashes = {name: part_hash(encode_part(part)) for name, part in self.parts.items()}
                assert plan_hash(hashes) == self.hash

    async def until(self, check: Callable[[], bool]) -> None:
        async def ask() -> bool:
            return check()

        await eventually(ask, within=10, what=f"{self.who} has {self.revision}, {sorted(self.parts)}")

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    async def report(self, **members: Any) -> None:
        report = {
            "key": self.key,
            "service": self.who.service,
            "tags": self.who.tags,
            "proxy": "envoy",
            "plan": PlanStamp(self.revision, self.hash),
            **members,
        }
        await self.controller.client.report(self.id, SidecarReport(**report))


@contextlib.asynccontextmanager
async def following(*sidecars: Sidecar) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running_tasks = [tasks.create_task(sidecar.follow()) for sidecar in sidecars]
        try:
            for sidecar in sidecars:
                await sidecar.until(lambda sidecar=sidecar: sidecar.revision >= 0)  # type: ignore[misc]
            yield
        finally:
            for task in running_tasks:
                task.cancel()


async def test_hello_then_a_snapshot_then_deltas(controller: Controller) -> None:
    await controller.client.create([document(id="a")])
    sidecar = Sidecar(controller, WEB)
    async with following(sidecar):
        assert sidecar.names() == ["Hello", "PlanSnapshot"]
        assert isinstance(sidecar.events[0], Hello)
        assert (sidecar.events[0].epoch, sidecar.events[0].revision) == (controller.tenants.epoch, 1)
        await controller.client.create([delay(id="f")])
        await sidecar.until(lambda: "ratings" in sidecar.parts)
        await controller.client.delete(ids=["a"])
        await sidecar.until(lambda: "reviews" not in sidecar.parts)
        assert sidecar.names() == ["Hello", "PlanSnapshot", "PlanDelta", "PlanDelta"]
        assert sidecar.watch.last_id == f"{controller.tenants.epoch}.3"


async def test_two_services_get_different_plans_for_a_sourced_rule(controller: Controller) -> None:
    web, gateway = Sidecar(controller, WEB), Sidecar(controller, GATEWAY)
    async with following(web, gateway):
        await controller.client.create([document(id="all")])
        await web.until(lambda: web.revision == 1)
        await gateway.until(lambda: gateway.revision == 1)
        await controller.client.create([document(version="v2", id="web-only", source="web", priority=5)])
        await web.until(lambda: web.revision == 2)
        await controller.client.create([document("details", id="mark")])
        await web.until(lambda: web.revision == 3)
        await gateway.until(lambda: gateway.revision == 3)
        assert [entry.rule for entry in web.parts["reviews"].routes] == ["web-only", "all"]
        assert [entry.rule for entry in gateway.parts["reviews"].routes] == ["all"]
        # The gateway was sent nothing for the rule that is not for it.
        seen = [event.revision for event in gateway.events if isinstance(event, PlanDelta)]
        assert seen == [1, 3]


async def test_an_equal_plan_is_not_sent_again(controller: Controller) -> None:
    await controller.client.create([document(id="a")])
    sidecar = Sidecar(controller, WEB)
    async with following(sidecar):
        for words in ("one", "two", "three"):
            await controller.client.update([document(id="a", description=words)])
        await controller.client.delete(tags=["nobody"])
        await controller.client.create([document("details", id="mark")])
        await sidecar.until(lambda: "details" in sidecar.parts)
        deltas = [event for event in sidecar.events if isinstance(event, PlanDelta)]
        assert [(list(event.changed), event.revision) for event in deltas] == [(["details"], 6)]


async def test_a_sidecar_resumes_where_it_was(controller: Controller) -> None:
    await controller.client.create([document(id="a"), document("details", id="d")])
    sidecar = Sidecar(controller, WEB)
    async with following(sidecar):
        pass
    await controller.client.create([document("ratings", id="b")])
    await controller.client.create([document("ratings", id="c", source="other")])
    async with following(sidecar):
        await sidecar.until(lambda: "ratings" in sidecar.parts)
    assert sidecar.names() == ["Hello", "PlanSnapshot", "Hello", "PlanDelta"]
    async with following(sidecar):
        await controller.client.delete(ids=["d"])
        await sidecar.until(lambda: "details" not in sidecar.parts)
    assert sidecar.names()[4:] == ["Hello", "PlanDelta"]


async def test_another_epoch_means_a_snapshot() -> None:
    store = MemoryStore()
    async with running(store) as controller:
        await controller.client.create([document(id="a")])
        sidecar = Sidecar(controller, WEB)
        sidecar.watch.last_id = "another.1"
        async with following(sidecar):
            assert sidecar.names() == ["Hello", "PlanSnapshot"]
        sidecar.watch.last_id = f"{store.epoch}.77"
        async with following(sidecar):
            await sidecar.until(lambda: len(sidecar.events) == 4)
            assert sidecar.names()[2:] == ["Hello", "PlanSnapshot"]


async def test_another_controller_on_the_same_store_goes_on() -> None:
    """As a restart looks to a sidecar: what was touched since is sent, and no more."""
    store = MemoryStore()
    async with running(store) as first:
        await first.client.create([document(id="a"), document("details", id="d")])
        sidecar = Sidecar(first, WEB)
        async with following(sidecar):
            pass
    async with running(store) as second:
        await second.client.create([document("ratings", id="b")])
        again = Sidecar(second, WEB, sidecar.id)
        again.watch.last_id, again.parts, again.revision = sidecar.watch.last_id, sidecar.parts, 1
        async with following(again):
            await again.until(lambda: again.revision == 2)
        assert again.names() == ["Hello", "PlanDelta"]
        assert again.key == sidecar.key
        assert sorted(again.parts) == ["details", "ratings", "reviews"]


async def test_many_sidecars_of_a_few_services(controller: Controller) -> None:
    sidecars = [Sidecar(controller, caller(f"app-{i % 4}")) for i in range(40)]
    async with following(*sidecars):
        await controller.client.create([document(id="all"), document("details", source="app-1")])
        for sidecar in sidecars:
            await sidecar.until(lambda sidecar=sidecar: "reviews" in sidecar.parts)  # type: ignore[misc]
        assert sum("details" in sidecar.parts for sidecar in sidecars) == 10
        text = controller.metrics.show().decode()
        # reviews once for all; details once for app-1 and once for the others.
        assert 'a8_controller_compilations_total{tenant="default"} 3.0' in text
        assert 'a8_controller_streams{tenant="default"} 40.0' in text

    async def closed() -> bool:
        return 'a8_controller_streams{tenant="default"} 0.0' in controller.metrics.show().decode()

    await eventually(closed)


async def test_a_sidecar_without_a_service(controller: Controller) -> None:
    await controller.client.create([document(id="a"), document("details", source="web")])
    sidecar = Sidecar(controller, caller(""))
    async with following(sidecar):
        assert sorted(sidecar.parts) == ["reviews"]
        await sidecar.report()
        (row,) = await controller.client.sidecars()
        assert (row.service, row.state) == ("", "applied")


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("", "invalid_query", "must be a UUID"),
        ("id=7", "invalid_query", "must be a UUID"),
        ("id={id}&service=a%2Fb", "invalid_query", "holds a slash"),
        ("id={id}&service=a&tags=v1,,v2", "invalid_query", "a tag holds"),
        ("id={id}&tags=" + ",".join(["t"] * 65), "invalid_query", "at most 64"),
        ("id={id}&protocol=one", "invalid_query", "whole number"),
        ("id={id}&protocol=2", "protocol_mismatch", "the controller is older, upgrade it"),
        ("id={id}&protocol=0", "protocol_mismatch", "the sidecar is older, upgrade it"),
    ],
)
async def test_streams_that_are_refused(controller: Controller, query: str, code: str, words: str) -> None:
    path = "/v1/plan/watch?" + query.format(id=uuid.uuid4())
    answer = await controller.http.request("GET", path, expect=[400])
    assert answer.json()["code"] == code
    assert words in answer.json()["description"]
    assert await controller.client.sidecars() == ()


async def test_protocol_may_be_left_out_and_the_id_is_any_case(controller: Controller) -> None:
    identity = str(uuid.uuid4())
    path = f"/v1/plan/watch?id={identity.upper()}&service=web"
    async with controller.http.stream(path, silence=5) as chunks:
        first = await anext(chunks)
        assert first.startswith(b'event: hello\ndata: {"epoch":"')
    (row,) = await controller.client.sidecars()
    assert row.id == identity


async def test_states_over_time() -> None:
    clock = Clock()
    async with running(clock=clock) as controller:
        sidecar = Sidecar(controller, WEB)
        await controller.client.create([document(id="a")])

        async def row() -> tuple[str, int, float, str]:
            (found,) = await controller.client.sidecars()
            assert (found.id, found.service, found.tags) == (sidecar.id, "web", ("v1",))
            return found.state, found.revision, found.age, found.reason

        async with following(sidecar):
            clock.seconds += 2
            assert await row() == ("pending", 0, 2.0, "")
            await sidecar.report()
            assert await row() == ("applied", 1, 0.0, "")
            await controller.client.create([document("details", source="other")])
            assert await row() == ("applied", 2, 0.0, "")
            await controller.client.create([document(id="b")])
            assert await row() == ("pending", 1, 0.0, "")
            await sidecar.until(lambda: sidecar.revision == 3)
            await sidecar.report(rejected=(Rejection("reviews", "no healthy cluster"),))
            assert await row() == ("rejected", 3, 0.0, "reviews: no healthy cluster")
            await sidecar.report()
            clock.seconds += GONE_AFTER
            assert await row() == ("applied", 3, GONE_AFTER, "")
            clock.seconds += 0.5
            assert await row() == ("gone", 3, GONE_AFTER + 0.5, "")
            clock.seconds += FORGOTTEN_AFTER
            assert await controller.client.sidecars() == ()
            await sidecar.report()
            assert await row() == ("applied", 3, 0.0, "")


async def test_the_key_is_needed(controller: Controller) -> None:
    one, other = Sidecar(controller, WEB), Sidecar(controller, WEB)
    async with following(one, other):
        for key in ("", "guess", other.key):
            with pytest.raises(Refusal) as caught:
                await one.report(key=key)
            assert (caught.value.status, caught.value.kind) == (403, "not_your_sidecar")
            assert one.key not in caught.value.reason
        await one.report()
    assert sorted(row.state for row in await controller.client.sidecars()) == ["applied", "pending"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "cannot be read"),
        (b"", "cannot be read"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"service":"web"}', "missing required field `key`"),
        (b'{"key":"k","service":7}', "$.service"),
        (b'{"key":"k","service":"web","tags":"v1"}', "$.tags"),
        (b'{"key":"k","service":"web","plan":{"revision":"1"}}', "$.plan.revision"),
        (b'{"key":"k","service":"web","rejected":[{"destination":"d"}]}', "$.rejected[0]"),
        (b'{"key":"k","service":"a/b"}', "holds a slash"),
        (b'{"key":"k","service":"web","tags":[""]}', "a tag holds"),
        (b'{"key":"k","service":"web","proxy":"' + b"x" * 1025 + b'"}', "$.proxy"),
    ],
)
async def test_reports_that_are_refused(controller: Controller, body: bytes, words: str) -> None:
    answer = await controller.http.request("PUT", f"/v1/sidecars/{uuid.uuid4()}", body, expect=[400])
    assert answer.json()["code"] == "invalid_report"
    assert words in answer.json()["description"]


async def test_an_id_that_is_no_uuid(controller: Controller) -> None:
    answer = await controller.http.request("PUT", "/v1/sidecars/7", {"key": "", "service": ""}, expect=[400])
    assert "must be a UUID" in answer.json()["description"]


async def test_a_lapse_reaches_the_sidecars() -> None:
    now = Clock()
    async with running(now=now) as controller:
        sidecar = Sidecar(controller, WEB)
        async with following(sidecar):
            await controller.client.create([delay(id="f", ttl=5)])
            await sidecar.until(lambda: "ratings" in sidecar.parts)
            assert sidecar.parts["ratings"].faults[0].expires == now.seconds + 5
            now.seconds += 5
            tenant = await controller.tenants.get("default")
            await controller.tenants.write(tenant, rulebook.lapse)
            await sidecar.until(lambda: "ratings" not in sidecar.parts)


async def test_figures_that_cannot_be_are_refused_and_nothing_is_counted(controller: Controller) -> None:
    sidecar = Sidecar(controller, WEB)
    async with following(sidecar):
        await sidecar.report(traffic=["e", [["reviews", "v1", [5, 0, 0, [5]]]]])
        for traffic, words in (
            (
                ["e", [["reviews", "v1", [-1, 0, 0, []]]]],
                r"\$.traffic\[1\]\[0\]: counts must not be negative",
            ),
            (["e", [["", "v1", [1, 0, 0, []]]]], r"\$.traffic\[1\]\[0\]: a service has 1 to 64"),
            (["e" * 65, []], r"\$.traffic: at most 512 series"),
            (["e", [["reviews", "v1", ["x"]]]], "the report cannot be read"),
        ):
            with pytest.raises(Refusal, match=words) as refused:
                await sidecar.report(traffic=traffic)
            assert refused.value.status == 400
        await sidecar.report(traffic=["e", [["reviews", "v1", [7, 0, 0, [7]]]]])
        (rate,) = (await controller.client.traffic()).traffic
        assert (rate.service, rate.version) == ("reviews", ("v1",))
        assert (await controller.tenants.get("default")).calls.total("reviews", ["v1"]).requests == 2
        with pytest.raises(Refusal, match="service is no parameter"):
            await controller.http.request("GET", "/v1/traffic", query=[("service", "reviews")])


async def test_what_a_sidecar_that_leaves_has_counted_counts(controller: Controller) -> None:
    sidecar = Sidecar(controller, WEB)
    async with following(sidecar):
        await sidecar.report(traffic=["e", [["reviews", "v1", [5, 0, 0, []]]]])
        await sidecar.report(traffic=["e", [["reviews", "v1", [9, 0, 0, []]]]], leaving=True)
    calls = (await controller.tenants.get("default")).calls
    assert calls.total("reviews", ["v1"]).requests == 4
    assert calls.counted(sidecar.id) is None


def shared(sidecar: Sidecar) -> dict[str, float]:
    """The shares that its stream told last."""
    found = [event for event in sidecar.events if isinstance(event, Slices)]
    return found[-1].slices if found else {}


async def test_shares_of_a_budget_come_with_the_stream() -> None:
    clock = Clock()
    async with running(clock=clock) as controller:
        clock.seconds += GRACE + 1
        limit = {"action": "rate_limit", "requests": 100, "scope": "fleet"}
        await controller.client.create([{"id": "l", "destination": "shop", "actions": [limit]}])
        one, other = Sidecar(controller, WEB), Sidecar(controller, GATEWAY)
        async with following(one), following(other):
            answer = await wanted(one)
            assert answer.slices == {"l/0": 1.0}
            await one.until(lambda: shared(one) == {"l/0": 1.0})
            await wanted(other)
            settle.settle(controller.tenants, clock())
            await one.until(lambda: shared(one) == {"l/0": 0.5})
            await other.until(lambda: shared(other) == {"l/0": 0.5})
            assert (await wanted(other)).slices == {"l/0": 0.5}
            # Rules go on beside them.
            await controller.client.create([document(id="r")])
            await one.until(lambda: "reviews" in one.parts)
            with pytest.raises(Refusal) as refused:
                await wanted(one, key="not mine")
            assert refused.value.status == 403
            with pytest.raises(Refusal, match=r"\$.budgets\[0\]") as refused:
                await wanted(one, rate=-1.0)
            assert refused.value.status == 400
            with pytest.raises(Refusal, match="the report cannot be read"):
                await controller.http.request("PUT", f"/v1/sidecars/{one.id}/limits", {"key": one.key})


async def wanted(sidecar: Sidecar, *, key: str = "", rate: float = 0.0) -> Slices:
    report = SliceReport(key or sidecar.key, "e", (Wanted("l/0", rate, 0, 0.1),))
    return await sidecar.controller.client.want(sidecar.id, report)
