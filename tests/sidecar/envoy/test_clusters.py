"""Instances that fail, through a real Envoy."""

from amalgam8.model.instance import Address
from amalgam8.routing.resolve import Peer
from tests.conftest import free_port
from tests.sidecar.envoy.support import Backend, Client, Mesh, backends, simple


async def test_an_instance_that_refuses_connections_costs_no_call(mesh: Mesh) -> None:
    dead = Peer("dead", Address("127.0.0.1", free_port()))
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer(), dead))
        async with Client(mesh.port) as client:
            for _ in range(40):
                assert (await client.ask("/svc/")).call.name == "one"


async def test_when_the_only_instance_is_back_it_is_used_at_once(mesh: Mesh) -> None:
    backend = Backend("one")
    await backend.start()
    await mesh.follow(simple("svc", backend.peer()))
    assert (await mesh.ask("/svc/")).status == 200
    await backend.stop()
    async with Client(mesh.port) as client:
        for _ in range(10):
            reply = await client.ask("/svc/")
            assert (reply.status, reply.headers["x-a8-reason"]) == (503, "unavailable; service=svc; rule=")
        await backend.start(backend.port)
        for _ in range(10):
            assert (await client.ask("/svc/")).status == 200
    await backend.stop()


async def test_answers_never_leave_an_instance_out(mesh: Mesh) -> None:
    async with backends("bad", "good") as (bad, good):
        await mesh.follow(simple("svc", bad.peer(), good.peer()))
        async with Client(mesh.port) as client:
            for _ in range(40):
                assert (await client.ask("/svc/status-503")).status == 503
        assert bad.calls == good.calls == 20


async def test_a_call_that_may_have_been_processed_is_not_repeated(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        await mesh.follow(simple("svc", one.peer(), two.peer()))
        reply = await mesh.ask("/svc/broken", method="POST", body=b"x")
        assert reply.status == 503
        assert "x-a8-reason" not in reply.headers
        assert one.calls + two.calls == 1


async def test_connections_to_instances_are_kept(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        for _ in range(20):
            await mesh.ask("/svc/")
        assert one.connections == 1
