"""https endpoints through a real Envoy: verified, and never spoken to in plain text."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sidecar.authority import Authority
from tests.sidecar.envoy.support import Backend, Client, Mesh, backends, running, simple


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def trusting(tmp_path: Path, authority: Authority) -> AsyncIterator[Mesh]:
    async with running(tmp_path, ca_cert_file=authority.file) as mesh:
        yield mesh


async def secure(authority: Authority, name: str, *names: str) -> Backend:
    backend = Backend(name)
    await backend.start(0, authority.context(*names))
    return backend


async def test_an_https_endpoint_is_called_over_tls_beside_plain_ones(
    trusting: Mesh, authority: Authority
) -> None:
    by_address, by_name = (
        await secure(authority, "address", "127.0.0.1"),
        await secure(authority, "name", "localhost"),
    )
    async with backends("plain") as (plain,):
        peers = (by_address.peer(tls=True), by_name.peer(host="localhost", tls=True), plain.peer())
        assert (await trusting.follow(simple("svc", *peers))).rejected == ()
        async with Client(trusting.port) as client:
            calls = [(await client.ask("/svc/", [("host", "mesh")])).call for _ in range(6)]
        assert {call.name for call in calls} == {"address", "name", "plain"}
        assert {(call.name, *call.header("host")) for call in calls} == {
            ("address", "mesh"),
            ("name", "localhost"),
            ("plain", "mesh"),
        }
        await trusting.follow(simple("svc", plain.peer()))
        assert (await trusting.ask("/svc/")).call.name == "plain"
    await by_address.stop()
    await by_name.stop()


async def test_an_endpoint_that_is_somebody_else_gets_no_call(trusting: Mesh, authority: Authority) -> None:
    other = await secure(authority, "other", "elsewhere.example")
    await trusting.follow(simple("svc", other.peer(tls=True)))
    reply = await trusting.ask("/svc/")
    assert (reply.status, reply.headers["x-a8-reason"]) == (503, "unavailable; service=svc; rule=")
    assert other.calls == 0
    await other.stop()


async def test_the_authorities_of_the_system_do_not_know_a_strange_one(
    mesh: Mesh, authority: Authority
) -> None:
    strange = await secure(authority, "strange", "127.0.0.1")
    await mesh.follow(simple("svc", strange.peer(tls=True)))
    assert (await mesh.ask("/svc/")).status == 503
    assert strange.calls == 0
    await strange.stop()


async def test_verification_can_be_skipped(tmp_path: Path, authority: Authority) -> None:
    other = await secure(authority, "other", "elsewhere.example")
    async with running(tmp_path, tls_verify=False) as mesh:
        await mesh.follow(simple("svc", other.peer(tls=True)))
        assert (await mesh.ask("/svc/")).call.name == "other"
    await other.stop()
