"""Access and header changes through a real Envoy."""

from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import (
    AccessEntry,
    HeadersEntry,
)
from tests.sidecar.envoy.support import (
    Mesh,
    backends,
    service,
    simple,
    when,
)


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
