"""The rows of a service, and the ways to it, through a real Envoy."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from amalgam8.model.rule import Affinity
from amalgam8.routing.condition import ALWAYS, Condition
from amalgam8.routing.plan import (
    AccessEntry,
    FaultEntry,
    HeadersEntry,
    LimitEntry,
    MirrorEntry,
    Outer,
    PlanDelay,
    PlanLimit,
    PlanMirror,
    PlanTrace,
    TraceEntry,
)
from amalgam8.routing.resolve import SHARES, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.envoy.faults import Unrenderable
from amalgam8.sidecar.envoy.rows import branch
from tests.sidecar.envoy.support import (
    Backend,
    Client,
    Mesh,
    backends,
    service,
    simple,
    statuses,
    until,
    when,
)


async def test_any_and_none_are_combined_freely(mesh: Mesh) -> None:
    async with backends("yes", "no") as (yes, no):
        a, b, c = ("a", "1"), ("b", "2"), ("c", "3")
        for condition, found, missed in (
            (Condition(any=(((a,), (b,)),)), ([a], [b], [a, b]), ([], [c])),
            (Condition(any=(((a,), (b,)), ((c,),))), ([a, c], [b, c]), ([a], [c])),
            (Condition(none=((a,),)), ([], [b]), ([a], [a, b])),
            (Condition(none=((a, b),)), ([a], [b]), ([a, b],)),
            (Condition(none=((a,), (b,))), ([], [c]), ([a], [b], [a, b])),
            (Condition((c,), (((a,), (b,)),), ((a, b),)), ([c, a], [c, b]), ([c], [c, a, b], [a])),
        ):
            await mesh.follow(
                service(
                    "svc",
                    [(condition, {"yes": 1}), (ALWAYS, {"": 1})],
                    {"yes": (yes.peer(),), "": (no.peer(),)},
                )
            )
            for name, cases in (("yes", found), ("no", missed)):
                for headers in cases:
                    assert (await mesh.ask("/svc/", *headers)).call.name == name, (condition, headers)


async def chosen(mesh: Mesh, users: Iterable[int], cookie: bool = False) -> list[str]:
    async with Client(mesh.port) as client:
        names = []
        for user in users:
            header = ("cookie", f"other=1; uid=user{user}") if cookie else ("x-user", f"user{user}")
            names.append((await client.ask("/svc/", [header])).call.name)
        return names


@pytest.mark.parametrize("cookie", [False, True])
async def test_affinity_keeps_users_and_moves_only_those_that_have_to(mesh: Mesh, cookie: bool) -> None:
    async with backends("v1", "v2") as (v1, v2):
        one, two = Target("svc", ("v1",)), Target("svc", ("v2",))
        affinity = Affinity(cookie="uid") if cookie else Affinity(header="X-User")

        async def split(percent: int) -> list[str]:
            slices = (Slice(one, SHARES // 100 * (100 - percent)), Slice(two, SHARES // 100 * percent, 1))
            route = Route(slices, affinity=affinity)
            await mesh.follow(
                ServiceRouting("svc", (route,), peers={one: (v1.peer("v1"),), two: (v2.peer("v2"),)})
            )
            return await chosen(mesh, range(400), cookie)

        first, again, more = await split(20), await split(20), await split(25)
        assert first == again
        assert 40 < first.count("v2") < 120
        assert all(after == "v2" for before, after in zip(first, more, strict=True) if before == "v2")
        async with Client(mesh.port) as client:
            names = Counter([(await client.ask("/svc/")).call.name for _ in range(200)])
        assert len(names) == 2


async def test_a_mirror_gets_copies_and_its_answers_are_forgotten(mesh: Mesh) -> None:
    async with backends("one", "copy") as (one, copy):
        target = Target("svc", ("v2",))
        mirrors = (MirrorEntry(rule="m", match=when(a="1"), mirrors=(PlanMirror(("v2",), 25),)),)
        await mesh.follow(simple("svc", one.peer(), mirrors=mirrors, peers={target: (copy.peer("v2"),)}))
        assert await statuses(mesh, 50) == {200: 50}
        assert copy.calls == 0
        async with Client(mesh.port) as client:
            names = {
                (await client.ask("/svc/", [("a", "1"), ("host", "shop:80")])).call.name for _ in range(400)
            }
        assert names == {"one"}
        await until(lambda: copy.calls > 50)
        assert copy.calls < 160
        assert copy.last is not None
        assert copy.last.header("host") == ["shop:80"]


async def test_a_known_service_in_host_comes_first(mesh: Mesh) -> None:
    async with backends("one", "two", "own") as (one, two, own):
        await mesh.follow(simple("one", one.peer()), simple("two", two.peer()), simple("shop", own.peer()))
        for host, path, name, seen in (
            ("two", "/one/x", "two", "/one/x"),
            ("two:8080", "/?a", "two", "/?a"),
            ("shop", "/one/x", "one", "/x"),
            ("shop:80", "/shop/", "own", "/"),
            ("two.local", "/one/x", "one", "/x"),
            ("tw", "/one/", "one", "/"),
        ):
            call = (await mesh.ask(path, ("host", host))).call
            assert (call.name, call.path) == (name, seen), (host, path)
            assert call.header("host") == [host]
        assert (await mesh.ask("/nope", ("host", "nope"))).status == 404


async def test_outer_paths_come_before_the_first_segment(mesh: Mesh) -> None:
    async with backends("one", "two", "three") as (one, two, three):

        def outer(name: str, backend: Backend, match: Condition, **uri: Any) -> ServiceRouting:
            target = Target(name)
            route = Route((Slice(target),), match, f"{name}-rule", None, Outer(**uri))
            return ServiceRouting(
                name, (Route((Slice(target),)),), (route,), peers={target: (backend.peer(),)}
            )

        await mesh.follow(
            outer("one", one, ALWAYS, order=(-2, "t", "a"), prefix="/api/", rewrite="/v1/"),
            outer("two", two, ALWAYS, order=(-3, "t", "b"), path="/api/exact"),
            outer("three", three, when(x="1"), order=(-1, "t", "c"), prefix="/one", rewrite=""),
        )
        for path, headers, name, seen in (
            ("/api/x?y", [], "one", "/v1/x?y"),
            ("/api/exact?q", [], "two", "/api/exact?q"),
            ("/api/exact/x", [], "one", "/v1/exact/x"),
            ("/one/x", [], "one", "/x"),
            ("/one/x", [("x", "1")], "three", "/one/x"),
            ("/three/x", [], "three", "/x"),
            ("/api/x", [("host", "three")], "three", "/api/x"),
        ):
            call = (await mesh.ask(path, *headers)).call
            assert (call.name, call.path) == (name, seen), (path, headers)
        assert (await mesh.ask("/api")).status == 404


def test_a_service_with_a_hundred_rules_stays_small() -> None:
    here = (Slice(Target("svc")),)
    entries: list[dict[str, Any]] = [
        {"rule": f"r{number}", "match": when(x_user=f"user{number}")} for number in range(14)
    ]
    routing = ServiceRouting(
        "svc",
        (*(Route(here, entry["match"], str(entry["rule"])) for entry in entries), Route(here)),
        access=tuple(AccessEntry(**entry, verdict="allow") for entry in entries),
        limits=tuple(LimitEntry(**entry, limits=(PlanLimit(5),)) for entry in entries),
        headers=tuple(HeadersEntry(**entry, set=(("a", "b"),)) for entry in entries),
        mirrors=tuple(MirrorEntry(**entry, mirrors=(PlanMirror(("v2",)),)) for entry in entries[:2]),
        faults=tuple(FaultEntry(**entry, delays=(PlanDelay(1),)) for entry in entries),
        traces=tuple(TraceEntry(**entry, traces=(PlanTrace("k", "v"),)) for entry in entries),
    )
    started = time.perf_counter()
    found = branch(routing)
    assert len(found.body) + len(found.host) < 8_000_000
    assert time.perf_counter() - started < 5


def test_too_many_combinations_are_refused() -> None:
    here = (Slice(Target("svc")),)
    entries: list[dict[str, Any]] = [
        {"rule": f"r{number}", "match": when(x_user=f"user{number}")} for number in range(70)
    ]
    routing = ServiceRouting(
        "svc",
        (*(Route(here, entry["match"]) for entry in entries), Route(here)),
        mirrors=tuple(MirrorEntry(**entry, mirrors=(PlanMirror(("v2",)),)) for entry in entries),
    )
    with pytest.raises(Unrenderable, match="more than 2000 combinations"):
        branch(routing)
