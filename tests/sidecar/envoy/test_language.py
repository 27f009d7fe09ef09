"""Actions and conditions of the whole language, through a real Envoy."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from amalgam8.model.rule import Affinity, Resilience
from amalgam8.routing.condition import ALWAYS, Condition
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
from amalgam8.routing.resolve import SHARES, Peer, Route, ServiceRouting, Slice, Target
from tests.sidecar.envoy.support import (
    Backend,
    Client,
    Mesh,
    backends,
    service,
    simple,
    until,
    when,
)


def attempts(
    backend: Peer, *more: Peer, timeout: float = 0, retries: int | None = None, **rest: Any
) -> ServiceRouting:
    """Service ``svc`` of these instances, with one rule that says how often and how long."""
    target = Target("svc")
    piece = Slice(target, timeout=timeout, retries=retries)
    return ServiceRouting("svc", (Route((piece,), rule="r"),), peers={target: (backend, *more)}, **rest)


async def statuses(
    mesh: Mesh, count: int, path: str = "/svc/", *headers: tuple[str, str], method: str = "GET"
) -> Counter[int]:
    found: Counter[int] = Counter()
    async with Client(mesh.port) as client:
        for _ in range(count):
            found[(await client.ask(path, headers, method)).status] += 1
    return found


# -- conditions ----------------------------------------------------------------------------------------


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


# -- access --------------------------------------------------------------------------------------------


async def test_denied_calls_are_403_with_the_rule(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        access = (
            AccessEntry(rule="d1", match=when(a="1"), verdict="deny"),
            AccessEntry(rule="d2", match=when(a="1", b="1"), verdict="deny"),
            AccessEntry(rule="al", match=when(c="1"), verdict="allow"),
            AccessEntry(rule="g", verdict="guard"),
        )
        await mesh.follow(simple("svc", one.peer(), access=access))
        assert (await mesh.ask("/svc/", ("c", "1"))).status == 200
        for headers, rule in (([("a", "1"), ("c", "1")], "d1"), ([], "al"), ([("b", "1")], "al")):
            reply = await mesh.ask("/svc/", *headers)
            assert reply.status == 403
            assert reply.headers["x-a8-reason"] == f"denied; service=svc; rule={rule}"
            assert reply.json == {"error": "the rules do not allow this call", "service": "svc", "rule": rule}
        assert one.calls == 1
        await mesh.follow(simple("svc", one.peer(), access=(access[3],)))
        assert (await mesh.ask("/svc/")).status == 403
        await mesh.follow(simple("svc", one.peer(), access=access[:2]))
        assert (await mesh.ask("/svc/")).status == 200


# -- limits --------------------------------------------------------------------------------------------


async def test_limits_answer_429_and_say_when_to_come_back(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        limits = (
            LimitEntry(rule="l1", match=when(a="1"), limits=(PlanLimit(2, per=3600, burst=1),)),
            LimitEntry(rule="l2", match=when(b="1"), limits=(PlanLimit(1, per=3600),)),
        )
        await mesh.follow(simple("svc", one.peer(), limits=limits))
        assert await statuses(mesh, 6, "/svc/", ("a", "1"), ("b", "1")) == {200: 3, 429: 3}
        assert await statuses(mesh, 2, "/svc/", ("b", "1")) == {200: 1, 429: 1}
        assert await statuses(mesh, 20) == {200: 20}
        reply = await mesh.ask("/svc/", ("a", "1"))
        assert reply.headers["x-a8-reason"] == "limited; service=svc; rule=l1"
        assert reply.json == {"error": "too many calls", "service": "svc", "rule": "l1"}
        assert int(reply.headers["retry-after"]) == 1800
        assert "x-ratelimit-limit" not in reply.headers


async def test_each_value_of_a_header_has_a_bucket(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        limits = (
            LimitEntry(rule="l", limits=(PlanLimit(2, per=3600, header="x-user"), PlanLimit(70, per=3600))),
        )
        await mesh.follow(simple("svc", one.peer(), limits=limits))
        assert await statuses(mesh, 3, "/svc/", ("x-user", "a")) == {200: 2, 429: 1}
        assert await statuses(mesh, 3, "/svc/", ("x-user", "b")) == {200: 2, 429: 1}
        assert await statuses(mesh, 3) == {200: 2, 429: 1}


async def test_a_limit_refills_without_steps(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer(), limits=(LimitEntry(rule="l", limits=(PlanLimit(50),)),)))
        await statuses(mesh, 60)
        started = time.monotonic()
        passed = (await statuses(mesh, 400))[200]
        assert passed <= (time.monotonic() - started) * 50 + 52


# -- headers and mirrors -------------------------------------------------------------------------------


async def test_headers_are_set_and_removed_on_the_way_only(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        headers = (
            HeadersEntry(rule="h1", match=when(a="1"), set=(("a", "2"), ("x-new", "100%")), remove=("b",)),
            HeadersEntry(rule="h2", set=(("x-all", ""),)),
        )
        routes = [(when(a="^1$"), {"one": 1}), (ALWAYS, {"two": 1})]
        await mesh.follow(
            service("svc", routes, {"one": (one.peer(),), "two": (two.peer(),)}, headers=headers)
        )
        call = (await mesh.ask("/svc/", ("a", "1"), ("a", "7"), ("b", "1"), ("c", "3"))).call
        assert call.name == "two"  # "1,7" is what the pattern sees
        assert (call.header("a"), call.header("x-new"), call.header("b"), call.header("c")) == (
            ["2"],
            ["100%"],
            [],
            ["3"],
        )
        call = (await mesh.ask("/svc/", ("b", "1"))).call
        assert (call.header("x-all"), call.header("b")) == ([""], ["1"])


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


# -- timeouts and retries ------------------------------------------------------------------------------


async def test_a_timeout_is_504_without_a_word(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        one.gate = asyncio.Event()
        await mesh.follow(attempts(one.peer(), timeout=0.2, retries=3))
        started = time.monotonic()
        reply = await mesh.ask("/svc/")
        assert time.monotonic() - started < 5
        assert (reply.status, reply.body) == (504, b"")
        assert "x-a8-reason" not in reply.headers
        assert one.calls == 1
        one.gate.set()


async def test_retries_repeat_5xx_and_resets_of_what_may_be_repeated(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        for retries, method, path, calls in (
            (None, "GET", "status-503", 1),
            (0, "GET", "status-503", 1),
            (2, "GET", "status-503", 3),
            (2, "PUT", "status-500", 3),
            (2, "POST", "status-503", 1),
            (2, "PATCH", "status-503", 1),
            (2, "GET", "status-404", 1),
            (3, "GET", "broken", 4),
            (3, "POST", "broken", 1),
            (0, "GET", "broken", 1),
        ):
            one.calls = two.calls = 0
            await mesh.follow(attempts(one.peer(), two.peer(), retries=retries))
            await mesh.ask(f"/svc/{path}", method=method)
            assert one.calls + two.calls == calls, (retries, method, path)
            assert calls == 1 or (one.calls and two.calls)


async def test_retries_go_to_another_instance_of_the_same_version(mesh: Mesh) -> None:
    async with backends("bad", "good", "other") as (bad, good, other):
        bad.status = 503
        v1, v2 = Target("svc", ("v1",)), Target("svc", ("v2",))
        slices = (Slice(v1, SHARES // 2, 0, 0, 1), Slice(v2, SHARES // 2, 1, 0, 1))
        await mesh.follow(
            ServiceRouting(
                "svc",
                (Route(slices),),
                peers={v1: (bad.peer("v1"), good.peer("v1")), v2: (other.peer("v2"),)},
            )
        )
        assert await statuses(mesh, 100) == {200: 100}
        assert bad.calls + good.calls + other.calls > 100


# -- faults behind retries and timeouts ----------------------------------------------------------------


def faulty(**fault: Any) -> dict[str, Any]:
    return {"faults": (FaultEntry(rule="f", **fault),)}


async def test_an_injected_abort_is_retried_and_each_attempt_has_its_own_dice(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(attempts(one.peer(), retries=3, **faulty(aborts=(PlanAbort(503, 0.5),))))
        found = await statuses(mesh, 800)
        assert abs(found[200] - 750) < 6 * (800 * 15 / 256) ** 0.5  # 1 - 0.5 ** 4
        assert found[200] + found[503] == 800
        found = await statuses(mesh, 300, method="POST")
        assert abs(found[200] - 150) < 6 * (300 / 4) ** 0.5
        reply = await mesh.ask("/svc/x?y", ("x-a8-next", "forged"), ("x-a8-fault", "forged"))
        while reply.status != 200:
            reply = await mesh.ask("/svc/x?y")
        assert reply.call.path == "/x?y"
        assert [name for name, _ in reply.call.headers if name.startswith(("x-a8", "x-envoy"))] == []
        assert [name for name in reply.headers if name.startswith(("x-a8", "x-envoy"))] == []


async def test_an_injected_delay_counts_against_the_timeout(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        fault = FaultEntry(rule="f", match=when(slow="1"), delays=(PlanDelay(2.0),))
        await mesh.follow(attempts(one.peer(), timeout=0.3, faults=(fault,)))
        started = time.monotonic()
        reply = await mesh.ask("/svc/", ("slow", "1"))
        assert (reply.status, reply.body) == (504, b"")
        assert 0.25 < time.monotonic() - started < 1.9
        assert one.calls == 0
        assert (await mesh.ask("/svc/")).status == 200


async def test_an_injected_fault_has_no_words(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        more: dict[str, Any]
        for more in ({}, {"retries": 1}, {"timeout": 5.0}):
            await mesh.follow(attempts(one.peer(), **more, **faulty(aborts=(PlanAbort(503),))))
            reply = await mesh.ask("/svc/")
            assert (reply.status, reply.body) == (503, b"")
            assert [name for name in reply.headers if name.startswith(("x-a8", "x-envoy"))] == []


async def test_tagged_faults_meet_their_version_only_in_the_second_pass(mesh: Mesh) -> None:
    async with backends("v1", "v2") as (v1, v2):
        one, two = Target("svc", ("v1",)), Target("svc", ("v2",))
        slices = (Slice(one, SHARES // 2, 0, 0, 1), Slice(two, SHARES // 2, 1, 0, 1))
        faults = (FaultEntry(rule="f", aborts=(PlanAbort(599, tags=("v2",)),)),)
        await mesh.follow(
            ServiceRouting(
                "svc", (Route(slices),), faults=faults, peers={one: (v1.peer("v1"),), two: (v2.peer("v2"),)}
            )
        )
        found = await statuses(mesh, 200)
        assert found[200] == v1.calls
        assert found[200] + found[599] == 200
        assert 50 < found[599] < 150
        assert v2.calls == 0


async def test_no_instance_behind_the_second_pass_is_told_with_the_reason(mesh: Mesh) -> None:
    target = Target("svc")
    fault = (FaultEntry(rule="f", delays=(PlanDelay(0.01),)),)
    route = Route((Slice(target, timeout=3.0),), rule="r7")
    await mesh.follow(ServiceRouting("svc", (route,), faults=fault, peers={target: ()}))
    reply = await mesh.ask("/svc/")
    assert (reply.status, reply.headers["x-a8-reason"]) == (503, "unavailable; service=svc; rule=r7")


async def test_versions_of_one_route_have_their_own_timeouts_and_retries(mesh: Mesh) -> None:
    async with backends("slow", "bad") as (slow, bad):
        slow.gate, bad.status = asyncio.Event(), 503
        one, two = Target("svc", ("v1",)), Target("svc", ("v2",))
        slices = (Slice(one, SHARES // 2, 0, 0.1, 0), Slice(two, SHARES // 2, 1, 0, 2))
        peers: dict[Target, tuple[Peer, ...]] = {one: (slow.peer("v1"),), two: (bad.peer("v2"),)}
        await mesh.follow(ServiceRouting("svc", (Route(slices, affinity=Affinity(header="u")),), peers=peers))
        found = await asyncio.gather(*(mesh.ask("/svc/", ("u", str(user))) for user in range(40)))
        count = Counter(reply.status for reply in found)
        assert count.keys() == {503, 504}
        assert bad.calls == 3 * count[503]
        fault = (
            FaultEntry(
                rule="f",
                match=when(f="1"),
                aborts=(PlanAbort(418, tags=("v1",)), PlanAbort(500, tags=("v2",))),
            ),
        )
        bad.calls = 0
        await mesh.follow(
            ServiceRouting("svc", (Route(slices, affinity=Affinity(header="u")),), peers=peers, faults=fault)
        )
        found = await asyncio.gather(*(mesh.ask("/svc/", ("u", str(user)), ("f", "1")) for user in range(40)))
        assert Counter(reply.status for reply in found) == {418: count[504], 500: count[503]}
        assert bad.calls == 0
        slow.gate.set()


async def test_an_abort_without_an_answer_closes_the_connection(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        aborts = (PlanAbort(418, 0.5), PlanAbort(-1))
        fault = (FaultEntry(rule="f", match=when(f="1"), aborts=aborts),)
        for more in ({}, {"timeout": 5.0}, {"retries": 1}):
            one.calls = 0
            await mesh.follow(attempts(one.peer(), faults=fault, **more))
            found: Counter[object] = Counter()
            for _ in range(40):
                try:
                    found[(await mesh.ask("/svc/", ("f", "1"))).status] += 1
                except asyncio.IncompleteReadError as error:
                    found["cut" if error.partial else "closed"] += 1
            assert found.keys() == {418, "closed"}, more
            assert one.calls == 0
            assert (await mesh.ask("/svc/")).status == 200
            assert (await mesh.ask("/svc/status-599")).status == 599
            assert (await mesh.ask("/svc/status-599")).headers.get("x-a8-end") is None


async def test_an_abort_without_an_answer_is_retried(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        fault = (FaultEntry(rule="f", aborts=(PlanAbort(-1, 0.5),)),)
        await mesh.follow(attempts(one.peer(), faults=fault, retries=4))
        answered = 0
        for _ in range(200):
            try:
                answered += (await mesh.ask("/svc/")).status == 200
            except asyncio.IncompleteReadError:
                pass
        assert 175 < answered < 200  # 193.75 expected, 2.5 the standard deviation


async def test_an_abort_without_an_answer_resets_the_stream_alone(mesh: Mesh) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    async with backends("one") as (one,):
        fault = (FaultEntry(rule="f", match=when(f="1"), aborts=(PlanAbort(-1),)),)
        await mesh.follow(simple("svc", one.peer(), faults=fault))
        url = f"http://127.0.0.1:{mesh.port}/svc/"
        done = await asyncio.create_subprocess_exec(
            *(
                curl,
                "-sS",
                "--http2-prior-knowledge",
                "-w",
                "%{num_connects} %{http_code}\n",
                "-o",
                "/dev/null",
            ),
            *("-H", "f: 1", url, "--next", "-sS", "--http2-prior-knowledge", "-w"),
            *("%{num_connects} %{http_code}\n", "-o", "/dev/null", url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, words = await done.communicate()
        assert [line.split()[1] for line in said.decode().splitlines()] == ["000", "200"]
        assert b"HTTP/2 stream 1 was not closed cleanly" in words


async def test_two_faults_that_cannot_be_told_apart_are_refused(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        fault = (FaultEntry(rule="f", aborts=(PlanAbort(599, 0.5), PlanAbort(-1))),)
        confirmed = await mesh.follow(simple("svc", one.peer(), faults=fault))
        assert "status 599 is not possible on Envoy" in confirmed.rejected[0].reason


# -- affinity, policies --------------------------------------------------------------------------------


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


async def test_policies_count_apart(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        strict = Target("svc", policy=Policy("random", Resilience(consecutive_errors=2, sleep_window=60)))
        loose = Target("svc")
        peers = (one.peer(), two.peer())
        routes = (Route((Slice(strict),), when(a="1")), Route((Slice(loose),)))
        await mesh.follow(ServiceRouting("svc", routes, peers={strict: peers, loose: peers}))
        one.status = 500
        while one.calls < 2:
            await mesh.ask("/svc/", ("a", "1"))
        one.calls = 0
        await statuses(mesh, 40, "/svc/", ("a", "1"))
        assert one.calls == 0
        await statuses(mesh, 10)
        assert one.calls == 5


async def test_an_injected_fault_leaves_no_instance_out(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        target = Target("svc", policy=Policy("", Resilience(consecutive_errors=1, sleep_window=60)))
        for retries in (None, 2):
            route = Route((Slice(target, retries=retries),))
            fault = (FaultEntry(rule="f", match=when(f="1"), aborts=(PlanAbort(500),)),)
            await mesh.follow(ServiceRouting("svc", (route,), faults=fault, peers={target: (one.peer(),)}))
            assert await statuses(mesh, 10, "/svc/", ("f", "1")) == {500: 10}
            assert await statuses(mesh, 3) == {200: 3}


async def test_a_limit_on_waiting_calls_is_a_refusal(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        one.gate = asyncio.Event()
        policy = Policy("", Resilience(max_connections=1, max_pending_requests=1, max_requests=1))
        target = Target("svc", policy=policy)
        await mesh.follow(
            ServiceRouting("svc", (Route((Slice(target, retries=0),)),), peers={target: (one.peer(),)})
        )
        calls = [asyncio.create_task(mesh.ask("/svc/")) for _ in range(6)]
        await until(lambda: sum(call.done() for call in calls) >= 4)
        one.gate.set()
        found = await asyncio.gather(*calls)
        refused = [reply for reply in found if reply.status == 503]
        assert refused
        assert all(reply.headers["x-a8-reason"].startswith("unavailable") for reply in refused)


# -- addressing ----------------------------------------------------------------------------------------


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


# -- changes -------------------------------------------------------------------------------------------


async def test_no_call_fails_while_faults_and_retries_come_and_go(mesh: Mesh) -> None:
    """The second pass appears, changes its names and goes, under calls that are on their way through it."""
    async with backends("one", "two") as (one, two):
        await mesh.follow(attempts(one.peer(), two.peer()))
        stop = asyncio.Event()

        async def hammer() -> Counter[int]:
            found: Counter[int] = Counter()
            async with Client(mesh.port) as client:
                while not stop.is_set():
                    found[(await client.ask("/svc/")).status] += 1
            return found

        load = [asyncio.create_task(hammer()) for _ in range(4)]
        for turn in range(120):
            delay = PlanDelay(0.001 + turn % 7 / 1000)
            more = faulty(delays=(delay,)) if turn % 3 else {}
            mesh.desire(
                attempts(one.peer(), two.peer(), retries=turn % 2 or None, timeout=5.0 * (turn % 4), **more)
            )
            if turn % 5:
                await mesh.settled()
        await mesh.settled()
        stop.set()
        total = sum([await task for task in load], Counter())
    assert set(total) == {200}
