"""gRPC through a real Envoy: HTTP/2 to the instance, streams and trailers."""

from collections.abc import AsyncIterator

import grpc
import pytest

from amalgam8.routing.plan import FaultEntry, PlanAbort
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from tests.sidecar.echo import code, echoing, talk
from tests.sidecar.envoy.support import Mesh, simple


@pytest.fixture
async def echo() -> AsyncIterator[Peer]:
    async with echoing() as found:
        yield found


async def test_grpc_streams_and_trailers_pass(mesh: Mesh, echo: Peer) -> None:
    assert (await mesh.follow(simple("svc", echo))).rejected == ()
    await talk(mesh.port)


async def test_grpc_passes_the_second_pass(mesh: Mesh, echo: Peer) -> None:
    target = Target("svc")
    fault = (FaultEntry(rule="f", aborts=(PlanAbort(500, 1e-6),)),)
    route = Route((Slice(target, timeout=9.0),))
    await mesh.follow(ServiceRouting("svc", (route,), faults=fault, peers={target: (echo,)}))
    await talk(mesh.port)


async def test_a_refusal_is_a_status_of_grpc(mesh: Mesh) -> None:
    await mesh.follow(simple("svc"))
    assert await code(mesh.port) is grpc.StatusCode.UNAVAILABLE
