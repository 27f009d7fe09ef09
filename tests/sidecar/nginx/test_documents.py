"""Only what changed travels, and what cannot be followed leaves the rest alone."""

from pathlib import Path

from amalgam8.routing.condition import Condition
from amalgam8.routing.resolve import Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.nginx.push import Head, push
from amalgam8.sidecar.nginx.render import line
from tests.sidecar.nginx.support import Mesh, backends, running, simple


async def test_only_services_that_changed_travel(mesh: Mesh, tmp_path: Path) -> None:
    async with backends("one") as (one,):
        kept = simple("kept", one.peer())
        await mesh.follow(kept, simple("reviews", one.peer()))
        # The line of a service that did not change may be lost: nobody sends it again.
        answer = await push(tmp_path / "control.sock", Head(1, 99), [])
        assert (answer.status, answer.generation) == (409, 1)
        await mesh.follow(kept, simple("ratings", one.peer()))
        assert (await mesh.ask("/kept/x")).status == 200
        assert (await mesh.ask("/reviews/x")).status == 404
        assert (await mesh.ask("/ratings/x")).status == 200


async def test_what_cannot_be_done_is_rejected_and_the_rest_followed(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        target = Target("reviews")
        impossible = Route((Slice(target),), Condition((("x-a", "("),)))
        bad = ServiceRouting("reviews", (impossible, Route((Slice(target),))), peers={target: (one.peer(),)})
        await mesh.follow(simple("reviews", one.peer()), simple("ratings", one.peer()))
        confirmed = await mesh.follow(bad, simple("ratings", one.peer()))
        assert [each.destination for each in confirmed.rejected] == ["reviews"]
        assert confirmed.rejected[0].reason.startswith(
            "nginx: the pattern for header x-a cannot be used: RE2 refuses the pattern '('"
        )
        assert (await mesh.ask("/reviews/x")).status == 200  # as it was
        confirmed = await mesh.follow(simple("reviews", one.peer()), simple("ratings", one.peer()))
        assert confirmed.rejected == ()


async def test_what_nginx_refuses_is_left_out_by_name(tmp_path: Path) -> None:
    def faulty(service: ServiceRouting) -> bytes:
        text = line(service)
        return text.replace(b'"is","odd"', b'"regex","("')

    async with running(tmp_path, render_service=faulty) as mesh, backends("one") as (one,):
        target = Target("bad")
        bad = ServiceRouting(
            "bad",
            (Route((Slice(target),), Condition((("x", "^odd$"),)), "r"), Route((Slice(target),))),
            peers={target: (one.peer(),)},
        )
        confirmed = await mesh.follow(bad, simple("good", one.peer()))
        assert [each.destination for each in confirmed.rejected] == ["bad"]
        assert (await mesh.ask("/good/x")).status == 200
        assert (await mesh.ask("/bad/x")).status == 503
