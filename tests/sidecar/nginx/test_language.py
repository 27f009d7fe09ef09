"""What rules mean, seen from outside: a real nginx between a client and instances."""

import asyncio
import time
from collections import Counter

import pytest

from amalgam8.model.instance import Address
from amalgam8.model.rule import Affinity, Resilience
from amalgam8.routing.condition import Condition
from amalgam8.routing.plan import (
    AccessEntry,
    FaultEntry,
    HeadersEntry,
    LimitEntry,
    MirrorEntry,
    Outer,
    PlanAbort,
    PlanDelay,
    PlanLimit,
    PlanMirror,
    Policy,
)
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target, mirror_target
from tests.sidecar.nginx.support import Backend, Client, Mesh, backends, simple, split, until

V1, V2 = Target("reviews", ("v1",)), Target("reviews", ("v2",))


def when(**headers: str) -> Condition:
    return Condition(tuple(sorted((name.replace("_", "-"), value) for name, value in headers.items())))


def two_versions(one: Backend, two: Backend, condition: Condition, **more: object) -> ServiceRouting:
    """v2 for calls that meet the condition, else v1."""
    routes = (Route((Slice(V2),), condition, "to-v2", **more), Route((Slice(V1),)))  # type: ignore[arg-type]
    return ServiceRouting("reviews", routes, peers={V1: (one.peer("v1"),), V2: (two.peer("v2"),)})


async def test_headers_choose_the_version(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        await mesh.follow(two_versions(one, two, when(cookie="^(.*?;)?(user=jason)(;.*)?$")))
        assert (await mesh.ask("/reviews/x")).call.name == "one"
        assert (await mesh.ask("/reviews/x", ("Cookie", "a=b;user=jason"))).call.name == "two"
        assert (await mesh.ask("/reviews/x", ("Cookie", "user=jason2"))).call.name == "one"
        assert (await mesh.ask("/reviews/x", ("cookie", "a=b"), ("cookie", "user=jason"))).call.name == "one"


async def test_many_rules_on_one_header_are_each_found(mesh: Mesh) -> None:
    """They stand behind one look at it, which leaves none of them out and nothing that comes after."""
    users = [f"^(.*?;)?(user={name})(;.*)?$" for name in ("ann", "anton", "anna")]
    conditions = [
        *(when(cookie=user) for user in users),
        when(cookie="^theme=dark$"),
        when(cookie=""),
        when(x_user="^begins"),
        when(x_user="has"),
        Condition((("cookie", "a"), ("x-user", "b"))),
        when(cookie="^never$"),
        when(cookie="^neither$"),
    ]
    asked: list[tuple[str, str]] = [
        *(("cookie", f"a=b;user={name}") for name in ("ann", "anton", "anna")),
        ("cookie", "theme=dark"),
        ("cookie", "anything"),
        ("x-user", "begins"),
        ("x-user", "it has"),
    ]
    async with backends(*(str(number) for number in range(len(conditions) + 1))) as found:
        targets = [Target("reviews", (f"v{number}",)) for number in range(len(found))]
        every = [*conditions, Condition()]
        routes = tuple(Route((Slice(to),), each) for to, each in zip(targets, every, strict=True))
        peers: dict[Target, tuple[Peer, ...]] = {
            to: (backend.peer(*to.tags),) for to, backend in zip(targets, found, strict=True)
        }
        await mesh.follow(ServiceRouting("reviews", routes, peers=peers))
        for number, header in enumerate(asked):
            assert (await mesh.ask("/reviews/x", header)).call.name == str(number)
        assert (await mesh.ask("/reviews/x")).call.name == str(len(conditions))
        assert (await mesh.ask("/reviews/x", ("x-user", "nobody"))).call.name == str(len(conditions))


async def test_repeated_headers_are_one(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        await mesh.follow(two_versions(one, two, when(x_user="^a,b$")))
        assert (await mesh.ask("/reviews/x", ("x-user", "a"), ("X-User", "b"))).call.name == "two"
        assert (await mesh.ask("/reviews/x", ("x-user", "a, b"))).call.name == "one"
        assert (await mesh.ask("/reviews/x", ("x_user", "a,b"))).call.name == "one"


async def test_any_and_none(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        condition = Condition(any=(((("a", "1"),), (("b", "1"),)),), none=((("c", ""),),))
        await mesh.follow(two_versions(one, two, condition))
        assert (await mesh.ask("/reviews/x", ("a", "1"))).call.name == "two"
        assert (await mesh.ask("/reviews/x", ("b", "21"))).call.name == "two"
        assert (await mesh.ask("/reviews/x", ("b", "2"))).call.name == "one"
        assert (await mesh.ask("/reviews/x", ("a", "1"), ("c", ""))).call.name == "one"


async def test_a_rule_lapses_without_being_told(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        until_when = time.time() + 1
        await mesh.follow(two_versions(one, two, Condition(), expires=until_when))
        assert (await mesh.ask("/reviews/x")).call.name == "two"
        await asyncio.sleep(until_when + 0.05 - time.time())
        assert (await mesh.ask("/reviews/x")).call.name == "one"


async def test_access(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        allow = AccessEntry(rule="friends", verdict="allow", match=when(x_user="^friend"))
        deny = AccessEntry(rule="foes", verdict="deny", match=when(x_user="foe"))
        await mesh.follow(simple("reviews", one.peer(), access=(allow, deny)))
        assert (await mesh.ask("/reviews/x", ("x-user", "friend"))).status == 200
        for user, rule in (("friendly-foe", "foes"), ("nobody", "friends")):
            reply = await mesh.ask("/reviews/x", ("x-user", user))
            assert reply.status == 403
            assert reply.headers["x-a8-reason"] == f"denied; service=reviews; rule={rule}"
            assert reply.json["rule"] == rule
        await mesh.follow(
            simple("reviews", one.peer(), access=(AccessEntry(rule="theirs", verdict="guard"),))
        )
        assert (await mesh.ask("/reviews/x")).status == 403
        assert one.calls == 1


async def test_a_limit_answers_429_and_refills(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        entry = LimitEntry(rule="calm", limits=(PlanLimit(3, 0.5, 2, "x-user"),))
        await mesh.follow(simple("reviews", one.peer(), limits=(entry,)))
        found = [(await mesh.ask("/reviews/x", ("x-user", "a"))) for _ in range(8)]
        assert [reply.status for reply in found[:5]] == [200] * 5
        assert found[-1].status == 429
        assert found[-1].headers["retry-after"] == "1"
        assert found[-1].headers["x-a8-reason"] == "limited; service=reviews; rule=calm"
        assert (await mesh.ask("/reviews/x", ("x-user", "b"))).status == 200
        assert (await mesh.ask("/reviews/x")).status == 200

        async with asyncio.timeout(5):
            while (await mesh.ask("/reviews/x", ("x-user", "a"))).status != 200:  # noqa: ASYNC110 - it refills
                await asyncio.sleep(0.02)


async def test_headers_are_set_and_removed(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        entry = HeadersEntry(rule="h", set=(("host", "other"), ("x-new", "1")), remove=("x-old",))
        await mesh.follow(simple("reviews", one.peer(), headers=(entry,)))
        call = (await mesh.ask("/reviews/x", ("x-old", "1"), ("X-New", "0"))).call
        assert call.header("host") == ["other"]
        assert call.header("x-new") == ["1"]
        assert call.header("x-old") == []


async def test_forged_words_of_the_mesh_are_dropped_both_ways(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        call = (await mesh.ask("/reviews/x", ("X-A8-Hop", "9 500 x"), ("x-envoy-retry-on", "5xx"))).call
        assert not [name for name, _ in call.headers if name.startswith(("x-a8", "x-envoy"))]
        reply = await mesh.ask("/reviews/status-418")
        assert reply.status == 418
        assert "x-a8-reason" not in reply.headers
        assert reply.headers["server"] == "backend"


async def test_addressed_by_host_by_outer_path_and_by_path(mesh: Mesh) -> None:
    async with backends("one", "two", "three") as (one, two, three):
        outer = Route((Slice(V2),), rule="u", outer=Outer((0, "", "u"), "", "/api/", "/v2/"))
        reviews = ServiceRouting(
            "reviews",
            (Route((Slice(V1),)),),
            outers=(outer,),
            peers={V1: (one.peer("v1"),), V2: (two.peer("v2"),)},
        )
        await mesh.follow(reviews, simple("ratings", three.peer()), simple("shop", three.peer()))
        by_host = (await mesh.ask("/api/x?y", ("host", "ratings:80"))).call
        assert (by_host.name, by_host.path, by_host.header("host")) == ("three", "/api/x?y", ["ratings:80"])
        by_uri = (await mesh.ask("/api/x?y")).call
        assert (by_uri.name, by_uri.path) == ("two", "/v2/x?y")
        own = (await mesh.ask("/reviews/z", ("host", "shop"))).call
        assert (own.name, own.path) == ("one", "/z")


async def test_a_fault_delays_and_aborts(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        fault = FaultEntry(rule="f", delays=(PlanDelay(0.3),), aborts=(PlanAbort(418),))
        await mesh.follow(simple("reviews", one.peer(), faults=(fault,)))
        started = time.monotonic()
        reply = await mesh.ask("/reviews/x")
        assert reply.status == 418
        assert time.monotonic() - started > 0.29
        assert "x-a8-reason" not in reply.headers
        assert one.calls == 0


async def test_an_abort_of_minus_one_closes_without_a_byte(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        fault = FaultEntry(rule="f", aborts=(PlanAbort(-1),))
        await mesh.follow(simple("reviews", one.peer(), faults=(fault,)))
        async with Client(mesh.port) as client:
            client.send("/reviews/x")
            assert await asyncio.wait_for(client.reader.read(), 5) == b""


async def test_tagged_faults_meet_the_version_that_carries_the_tags(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        fault = FaultEntry(rule="f", aborts=(PlanAbort(503, 1, ("v2",)),))
        service = split("reviews", {"v1": 50, "v2": 50}, {"v1": (one.peer("v1"),), "v2": (two.peer("v2"),)})
        await mesh.follow(ServiceRouting(service.name, service.routes, faults=(fault,), peers=service.peers))
        found = Counter([(await mesh.ask("/reviews/x")).status for _ in range(60)])
        assert found.keys() == {200, 503}
        assert two.calls == 0


async def test_aborts_are_retried_each_attempt_with_its_own_dice(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        fault = FaultEntry(rule="f", aborts=(PlanAbort(503, 0.5),))
        await mesh.follow(simple("reviews", one.peer(), faults=(fault,), piece={"retries": 3}))
        found = Counter([(await mesh.ask("/reviews/x")).status for _ in range(400)])
        assert 350 < found[200] < 395  # 93.75 %, 5 standard deviations
        posted = Counter([(await mesh.ask("/reviews/x", method="POST")).status for _ in range(100)])
        assert posted[503] > 20  # not idempotent: each dies at its first abort


async def test_a_delay_counts_against_the_rules_timeout(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        fault = FaultEntry(rule="f", delays=(PlanDelay(5),))
        await mesh.follow(simple("reviews", one.peer(), faults=(fault,), piece={"timeout": 0.3}))
        started = time.monotonic()
        reply = await mesh.ask("/reviews/x")
        assert reply.status == 504
        assert "x-a8-reason" not in reply.headers
        assert 0.29 < time.monotonic() - started < 3
        assert one.calls == 0


async def test_the_timeout_covers_slow_headers_and_slow_bodies(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer(), piece={"timeout": 0.4}))
        async with Client(mesh.port) as client:
            client.send("/reviews/trickle")
            assert (await client.head()).status == 200
            assert 1 < len(await asyncio.wait_for(client.reader.read(), 5)) < 1000
        one.gate = asyncio.Event()
        assert (await mesh.ask("/reviews/x")).status == 504
        one.gate.set()


@pytest.mark.timeout(90)
async def test_the_time_until_an_answer_begins_covers_all_attempts(mesh: Mesh) -> None:
    """15 s, of which the first attempt takes some."""
    async with backends("one") as (one,), Client(mesh.port) as client:
        await mesh.follow(simple("reviews", one.peer(), piece={"retries": 2}))
        first, second = asyncio.Event(), asyncio.Event()
        one.gate = first
        started = time.monotonic()
        client.send("/reviews/status-503")
        await until(lambda: one.calls == 1)
        one.gate = second
        asyncio.get_running_loop().call_later(4, first.set)
        assert (await client.head()).status == 504
        assert 14.9 < time.monotonic() - started < 18
        assert one.calls == 2
        second.set()


async def test_5xx_is_retried_on_another_instance_where_a_rule_says_so(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        await mesh.follow(simple("reviews", one.peer(), two.peer(), piece={"retries": 2}))
        assert (await mesh.ask("/reviews/status-503")).status == 503
        assert (one.calls + two.calls, min(one.calls, two.calls)) == (3, 1)
        assert (await mesh.ask("/reviews/status-503", method="POST", body=b"x")).status == 503
        assert one.calls + two.calls == 4
        assert (await mesh.ask("/reviews/broken")).status == 503
        assert one.calls + two.calls == 7


async def test_by_default_only_what_cannot_have_been_processed_is_retried(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        await mesh.follow(simple("reviews", one.peer(), two.peer()))
        reply = await mesh.ask("/reviews/broken")
        assert (reply.status, one.calls + two.calls) == (503, 1)
        assert "x-a8-reason" not in reply.headers
        await one.stop()
        found = [await mesh.ask("/reviews/x", method="POST", body=b"body") for _ in range(6)]
        assert {reply.status for reply in found} == {200}
        assert {reply.call.size for reply in found} == {4}


async def test_retries_0_turns_all_off(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        await mesh.follow(simple("reviews", one.peer(), two.peer(), piece={"retries": 0}))
        await one.stop()
        found = [await mesh.ask("/reviews/x") for _ in range(6)]
        assert Counter(reply.status for reply in found)[503] == 1  # then it is left out
        refused = next(reply for reply in found if reply.status == 503)
        assert refused.headers["x-a8-reason"].startswith("unavailable; service=reviews")


async def test_an_instance_that_fails_in_a_row_is_left_out_where_a_rule_says_so(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        target = Target("reviews", policy=Policy("", Resilience(consecutive_errors=3, sleep_window=60)))
        service = ServiceRouting(
            "reviews", (Route((Slice(target),)),), peers={target: (one.peer(), two.peer())}
        )
        await mesh.follow(service)
        for _ in range(5):  # two, and three in a row
            await mesh.ask("/reviews/status-500")
        assert sorted((one.calls, two.calls)) == [2, 3]
        for _ in range(6):
            assert (await mesh.ask("/reviews/x")).status == 200
        assert sorted((one.calls, two.calls)) == [3, 8]


async def test_copies_go_to_the_mirror_and_answers_come_from_the_service(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        mirror = PlanMirror(("v2",))
        target = Target("reviews")
        service = ServiceRouting(
            "reviews",
            (Route((Slice(V1),)),),
            mirrors=(MirrorEntry(rule="m", mirrors=(mirror,)),),
            peers={V1: (one.peer("v1"),), mirror_target("reviews", mirror): (two.peer("v2"),)},
        )
        assert mirror_target("reviews", mirror) != target
        await mesh.follow(service)
        for _ in range(5):
            reply = await mesh.ask("/reviews/x?y", method="POST", body=b"body")
            assert (reply.call.name, reply.call.size) == ("one", 4)
        await until(lambda: two.calls == 5)


async def test_as_many_copies_as_a_rule_may_ask_for(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        mirrors = tuple(PlanMirror((f"m{number}",)) for number in range(32))
        service = ServiceRouting(
            "reviews",
            (Route((Slice(V1),)),),
            mirrors=(MirrorEntry(rule="m", mirrors=mirrors),),
            peers={
                V1: (one.peer("v1"),),
                **{mirror_target("reviews", each): (two.peer(),) for each in mirrors},
            },
        )
        await mesh.follow(service)
        assert (await mesh.ask("/reviews/x", method="POST", body=b"body")).call.name == "one"
        await until(lambda: two.calls == 32)


async def test_a_user_stays_on_one_version(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        peers = {"v1": (one.peer("v1"),), "v2": (two.peer("v2"),)}
        for affinity, header in (
            (Affinity(header="X-User"), "x-user: {}"),
            (Affinity(cookie="user"), "cookie: a=b; user={}"),
        ):
            await mesh.follow(split("reviews", {"v1": 50, "v2": 50}, peers, affinity=affinity))
            name, _, value = header.partition(": ")
            for user in range(20):
                seen = {
                    (await mesh.ask("/reviews/x", (name, value.format(user)))).call.name for _ in range(4)
                }
                assert len(seen) == 1
        free = {(await mesh.ask("/reviews/x")).call.name for _ in range(40)}
        assert free == {"one", "two"}


async def test_a_host_name_is_the_host_that_its_instance_sees(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        unknown = Peer("three", Address("db.example", 80))
        await mesh.follow(simple("reviews", one.peer(host="localhost"), two.peer(), unknown))
        calls = [(await mesh.ask("/reviews/x")).call for _ in range(4)]
        assert {call.name: call.header("host") for call in calls} == {"one": ["localhost"], "two": ["mesh"]}


async def test_too_many_headers_smuggling_and_huge_ones_reach_no_app(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        assert (await mesh.ask("/reviews/x", *((f"h{i}", "1") for i in range(500)))).status == 431
        assert (await mesh.ask("/reviews/x", ("big", "x" * 65536))).status in (400, 431, 494)
        for raw in (
            b"POST /reviews/x HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /reviews/x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
            b"POST /reviews/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
            b"GET /reviews/x HTTP/1.1\r\nhost: a\r\nx\x00y: 1\r\n\r\n",
            b"GET /reviews/x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        ):
            async with Client(mesh.port) as client:
                client.writer.write(raw)
                assert (await asyncio.wait_for(client.head(), 5)).status in (400, 501)
        assert one.calls == 0
