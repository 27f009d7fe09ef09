"""How nginx's Lua finds the headers of a request, however many there are and however alike their names."""

import pytest

from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from tests.sidecar.nginx.support import Backend, Mesh, backends
from tests.sidecar.nginx.test_language import when

ALIKE = [f"x-{first}{second}" for first in "abcdefgh" for second in "abcdefgh"]
"""Of one length, and with one first letter."""


def by_header(*names: str) -> list[Route]:
    """A route for each header that is there, by its name as the version; ``none`` beside them."""
    found = [Route((Slice(Target("svc", (name,))),), when(**{name: "^yes$"}), name) for name in names]
    return [*found, Route((Slice(Target("svc", ("none",))),))]


def service(routes: list[Route], instances: list[Backend]) -> ServiceRouting:
    """Each instance is of the version that has its name."""
    peers: dict[Target, tuple[Peer, ...]] = {
        Target("svc", (each.name,)): (each.peer(),) for each in instances
    }
    return ServiceRouting("svc", tuple(routes), peers=peers)


@pytest.mark.parametrize("others", [0, 3, 60, 150])
async def test_names_that_are_alike_are_told_apart(mesh: Mesh, others: int) -> None:
    wanted = (ALIKE[5], ALIKE[-1], "y")
    async with backends(*wanted, "none") as found:
        await mesh.follow(service(by_header(*wanted), found))
        more = [(ALIKE[i % len(ALIKE)] + "z" * (i // len(ALIKE)), "no") for i in range(others)]
        more = [(name, value) for name, value in more if name not in wanted]
        for name in wanted:
            asked = [*more[: others // 2], (name, "yes"), *more[others // 2 :]]
            assert (await mesh.ask("/svc/x", *asked)).call.name == name
            assert (await mesh.ask("/svc/x", *more, (name.upper(), "yes"))).call.name == name
        assert (await mesh.ask("/svc/x", *more)).call.name == "none"


async def test_values_of_one_name_are_joined_in_their_order(mesh: Mesh) -> None:
    async with backends("joined", "none") as found:
        condition = when(x_one="^a,b,c$", x_two="^d$")
        routes = [Route((Slice(Target("svc", ("joined",))),), condition, "r"), *by_header()]
        await mesh.follow(service(routes, found))
        asked = [("x-one", "a"), ("x-two", "d"), ("X-One", "b"), ("x-ona", "z"), ("x-one", "c")]
        assert (await mesh.ask("/svc/x", *asked)).call.name == "joined"
        assert (await mesh.ask("/svc/x", *reversed(asked))).call.name == "none"


async def test_forged_words_of_the_mesh_are_dropped_wherever_they_stand(mesh: Mesh) -> None:
    forged = ["x-a8-reason", "X-Envoy-Expected-Rq-Timeout-Ms", "x-a8-", "x-a8-target"]
    kept = ["x-a7-reason", "x-envo", "x-a8", "xa8-reason"]
    async with backends("none") as found:
        await mesh.follow(service(by_header(), found))
        names = [name for pair in zip(forged, kept, strict=True) for name in pair]
        call = (await mesh.ask("/svc/x", *((name, "/v") for name in names))).call
        assert not [name for name, _ in call.headers if name.lower().startswith(("x-a8-", "x-envoy-"))]
        assert all(call.header(name) == ["/v"] for name in kept)
