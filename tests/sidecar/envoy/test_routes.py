"""Routes through a real Envoy."""

import asyncio
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from amalgam8.routing.addressing import address
from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import (
    AccessEntry,
    FaultEntry,
    HeadersEntry,
    LimitEntry,
    MirrorEntry,
    PlanDelay,
    PlanLimit,
    PlanMirror,
    PlanTrace,
    TraceEntry,
)
from amalgam8.routing.resolve import Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.envoy import attempts as module
from amalgam8.sidecar.envoy.faults import Unrenderable
from amalgam8.sidecar.envoy.routes import branch
from tests.sidecar.envoy.support import LIMIT, Client, Mesh, backends, running, service, simple, when


async def test_the_first_path_segment_chooses_the_service(mesh: Mesh) -> None:
    async with backends("one", "two", "three") as (one, two, three):
        await mesh.follow(
            simple("rev", one.peer()), simple("reviews", two.peer()), simple("reviews2", three.peer())
        )
        for path, name, seen in (
            ("/rev", "one", "/"),
            ("/rev/", "one", "/"),
            ("/rev?a=/reviews/", "one", "/?a=/reviews/"),
            ("/rev/reviews/x", "one", "/reviews/x"),
            ("/reviews", "two", "/"),
            ("/reviews/rev", "two", "/rev"),
            ("/reviews2/a", "three", "/a"),
        ):
            call = (await mesh.ask(path)).call
            assert (call.name, call.path) == (name, seen), path
        for path in (
            "/re/x",
            "/revi/x",
            "/revie",
            "/reviews3/",
            "/Reviews/",
            "/",
            "/rev;x/",
            "/reviews%2Fx",
            "//rev/",
        ):
            assert (await mesh.ask(path)).status == 404, path


@pytest.mark.parametrize(
    "rest",
    [
        "/%2F", "/%2e%2e/x", "/../x", "/./x", "//x//", "/;v=1", "/a%20b", "/%C3%A9", "/?", "/a?b=%2F&c=//;d",
        "/%25", "/a//..//b/", "/~!$&'()*+,;=:@", "/x?y?z",
    ],
)  # fmt: skip
async def test_the_rest_of_the_path_is_untouched(mesh: Mesh, rest: str) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        assert (await mesh.ask(f"/svc{rest}")).call.path == rest


async def test_odd_service_names_are_percent_encoded(mesh: Mesh) -> None:
    names = ["a%b", "a?b", "a#b", "é", "a;b", "a\\b", "a|b", 'a"b', "a.b_c~d", "a:b@c"]
    async with backends("one") as (one,):
        await mesh.follow(*(simple(name, one.peer()) for name in names))
        for name in names:
            reply = await mesh.ask(f"/{address(name)}/x")
            assert reply.status == 200, name
        await mesh.follow(*(simple(name) for name in names))
        for name in names:
            reply = await mesh.ask(f"/{address(name)}/x")
            assert (reply.status, reply.json["service"]) == (503, name)


async def test_patterns_are_searched_for(mesh: Mesh) -> None:
    async with backends("yes", "no") as (yes, no):
        for pattern, found, missed in (
            ("jason", ("user=jason; x", "jason"), ("Jason", "")),
            ("^jason", ("jasonx",), ("xjason",)),
            ("jason$", ("xjason",), ("jasonx",)),
            ("(?i)JASON", ("x jason y",), ("jaso",)),
            (r"\Qa.b", ("xa.by",), ("axb",)),
            (r"\Qa.b\E.c", ("a.bxc",), ("a.bc",)),
            (r"a\\Q", (r"a\Q",), ("aQ",)),
            ("a|b", ("xxbxx", "a"), ("c",)),
            ("", ("", "anything"), ()),
            ("a.*z", ("a \xe9\xff z",), ("z a",)),
            (r"\bcat\b", ("a cat!",), ("concat",)),
            ("[0-9]{3}", ("ab123cd",), ("ab12",)),
        ):
            peers = {"yes": (yes.peer(),), "": (no.peer(),)}
            await mesh.follow(service("svc", [(when(x_user=pattern), {"yes": 1}), (ALWAYS, {"": 1})], peers))
            async with Client(mesh.port) as client:
                for value in found:
                    assert (await client.ask("/svc/", [("X-User", value)])).call.name == "yes", (
                        pattern,
                        value,
                    )
                for value in missed:
                    assert (await client.ask("/svc/", [("x-user", value)])).call.name == "no", (
                        pattern,
                        value,
                    )
                assert (await client.ask("/svc/")).call.name == "no"


async def test_the_host_header_can_be_matched(mesh: Mesh) -> None:
    async with backends("yes", "no") as (yes, no):
        peers = {"yes": (yes.peer(),), "": (no.peer(),)}
        await mesh.follow(service("svc", [(when(host="shop"), {"yes": 1}), (ALWAYS, {"": 1})], peers))
        assert (await mesh.ask("/svc/", ("host", "my.shop:80"))).call.name == "yes"
        assert (await mesh.ask("/svc/", ("host", "other"))).call.name == "no"


async def test_a_large_pattern_is_taken(mesh: Mesh) -> None:
    async with backends("yes", "no") as (yes, no):
        peers = {"yes": (yes.peer(),), "": (no.peer(),)}
        pattern = "(" + "|".join(f"user{number}[a-z]+" for number in range(70)) + "){1,3}$"
        routing = service("svc", [(when(x_user=pattern), {"yes": 1}), (ALWAYS, {"": 1})], peers)
        assert (await mesh.follow(routing)).rejected == ()
        assert (await mesh.ask("/svc/", ("x-user", "user69abc"))).call.name == "yes"


async def test_all_patterns_have_to_be_found_and_order_counts(mesh: Mesh) -> None:
    async with backends("both", "a", "rest") as (both, a, rest):
        peers = {"both": (both.peer(),), "a": (a.peer(),), "": (rest.peer(),)}
        routes = [(when(a="1", b="2"), {"both": 1}), (when(a="1"), {"a": 1}), (ALWAYS, {"": 1})]
        await mesh.follow(service("svc", routes, peers))
        assert (await mesh.ask("/svc/", ("a", "1"), ("b", "2"))).call.name == "both"
        assert (await mesh.ask("/svc/", ("a", "1"))).call.name == "a"
        assert (await mesh.ask("/svc/", ("b", "2"))).call.name == "rest"


async def test_weights_split_calls(mesh: Mesh) -> None:
    async with backends("v1", "v2") as (v1, v2):
        peers = {"v1": (v1.peer(),), "v2": (v2.peer(),)}
        await mesh.follow(service("svc", [(ALWAYS, {"v1": 1, "v2": 3})], peers))
        names: Counter[str] = Counter()
        async with Client(mesh.port) as client:
            for _ in range(1000):
                names[(await client.ask("/svc/")).call.name] += 1
        assert 180 < names["v1"] < 320  # 250 expected, 13.7 the standard deviation


async def test_instances_take_turns(mesh: Mesh) -> None:
    async with backends("a", "b", "c") as found:
        await mesh.follow(simple("svc", *(backend.peer() for backend in found)))
        async with Client(mesh.port) as client:
            names = Counter([(await client.ask("/svc/")).call.name for _ in range(30)])
        assert set(names.values()) == {10}


async def test_an_instance_has_some_time_to_start_its_answer_and_no_limit_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEADERS_TIMEOUT", timedelta(seconds=0.3))
    async with running(tmp_path) as mesh, backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        async with Client(mesh.port) as client, asyncio.timeout(LIMIT):
            client.send("/svc/events")
            assert (await client.head()).status == 200
            one.gate = asyncio.Event()
            reply = await mesh.ask("/svc/")
            assert reply.status == 504
            assert "x-a8-reason" not in reply.headers
            assert b"first" in await client.reader.readuntil(b"\n\n")
            client.writer.write(b"x")  # the backend ends the stream when it hears this
        one.gate.set()


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
    assert len(found.body) < 2_000_000
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
    with pytest.raises(Unrenderable, match="more than 4000 combinations"):
        branch(routing)


async def test_many_calls_at_once_stay_apart(mesh: Mesh) -> None:
    async with backends("a", "b") as (a, b):
        await mesh.follow(simple("a", a.peer()), simple("b", b.peer()))
        replies = await asyncio.gather(*(mesh.ask(f"/{'ab'[n % 2]}/{n}") for n in range(100)))
        assert [(reply.call.name, reply.call.path) for reply in replies] == [
            ("ab"[n % 2], f"/{n}") for n in range(100)
        ]
