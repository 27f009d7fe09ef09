"""https instances through a real nginx: verified, and never spoken to in plain text."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import msgspec
import pytest

from amalgam8.model.instance import Address
from amalgam8.routing.plan import FaultEntry, MirrorEntry, PlanDelay, PlanMirror
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target, mirror_target
from amalgam8.sidecar.tcp import TcpProxy
from amalgam8.sidecar.trust import FOLDERS
from tests.conftest import free_port
from tests.sidecar.authority import Authority
from tests.sidecar.echo import code, echoing, talk
from tests.sidecar.nginx.support import Backend, Client, Mesh, backends, running, simple, until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def trusting(tmp_path: Path, authority: Authority) -> AsyncIterator[Mesh]:
    async with running(tmp_path, ca_cert_file=authority.file) as mesh:
        yield mesh


@pytest.fixture
async def named(authority: Authority) -> AsyncIterator[Backend]:
    backend = Backend("name")
    await backend.start(0, authority.context("localhost"))
    yield backend
    await backend.stop()


@pytest.fixture
async def addressed(authority: Authority) -> AsyncIterator[Backend]:
    """As nginx wants it: no host name in the certificate, and the address as its common name."""
    backend = Backend("address")
    await backend.start(0, authority.context("127.0.0.1", common_name="127.0.0.1"))
    yield backend
    await backend.stop()


@pytest.fixture
async def other(authority: Authority) -> AsyncIterator[Backend]:
    backend = Backend("other")
    await backend.start(0, authority.context("elsewhere.example"))
    yield backend
    await backend.stop()


async def test_https_instances_are_called_over_tls_beside_plain_ones(
    trusting: Mesh, named: Backend, addressed: Backend
) -> None:
    async with backends("plain") as (plain,):
        peers = (addressed.peer(tls=True), named.peer(host="localhost", tls=True), plain.peer())
        assert (await trusting.follow(simple("svc", *peers))).rejected == ()
        async with Client(trusting.port) as client:
            calls = [(await client.ask("/svc/")).call for _ in range(9)]
        assert {(call.name, *call.header("host")) for call in calls} == {
            ("address", "mesh"),
            ("name", "localhost"),
            ("plain", "mesh"),
        }
        assert named.connections == addressed.connections == 1  # kept, as plain ones are


async def test_an_instance_that_is_somebody_else_gets_no_call(trusting: Mesh, other: Backend) -> None:
    for host in ("localhost", "127.0.0.1"):
        await trusting.follow(simple("svc", other.peer(host=host, tls=True)))
        reply = await trusting.ask("/svc/")
        assert (reply.status, reply.headers["x-a8-reason"]) == (503, "unavailable; service=svc; rule=")
    assert other.calls == 0


async def test_the_next_instance_is_tried_for_its_own_name(
    trusting: Mesh, other: Backend, named: Backend, addressed: Backend
) -> None:
    peers = (
        other.peer(host="localhost", tls=True),
        named.peer(host="localhost", tls=True),
        addressed.peer(tls=True),
    )
    for turn in range(4):  # each time anew, since nobody is left out yet
        await trusting.follow(simple(f"svc{turn}", *peers))
        assert (await trusting.ask(f"/svc{turn}/")).status == 200
    assert other.calls == 0


async def test_the_authorities_of_the_system_do_not_know_a_strange_one(mesh: Mesh, named: Backend) -> None:
    await mesh.follow(simple("svc", named.peer(host="localhost", tls=True)))
    assert (await mesh.ask("/svc/")).status == 503
    assert named.calls == 0


@pytest.fixture
def systems_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    """The system's bundle knows a stranger only, to show that the folder beside it is read."""
    for name in ("folder", "bundle"):
        (tmp_path / name).mkdir()
    bundle, folder = Authority(tmp_path / "bundle").file, Authority(tmp_path / "folder").file.parent
    (folder / "wanted.pem").write_bytes(authority.file.read_bytes())
    subprocess.run(["openssl", "rehash", folder], check=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setitem(FOLDERS, str(bundle), str(folder))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.usefixtures("systems_folder")
async def test_authorities_are_looked_up_in_the_folder_beside_the_systems_bundle(
    tmp_path: Path, named: Backend, other: Backend
) -> None:
    port = free_port()
    async with running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh:
        await mesh.follow(simple("svc", named.peer(host="localhost", tls=True)))
        assert (await mesh.ask("/svc/")).call.name == "name"
        async with Client(port) as connection:  # the port of TCP has settings of its own
            assert (await connection.ask("/")).call.name == "name"
        await mesh.follow(simple("svc", other.peer(host="localhost", tls=True)))
        assert (await mesh.ask("/svc/")).status == 503
        async with Client(port) as connection:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await connection.ask("/")
        assert other.calls == 0


async def test_verification_can_be_skipped(tmp_path: Path, other: Backend) -> None:
    async with running(tmp_path, tls_verify=False) as mesh:
        await mesh.follow(simple("svc", other.peer(tls=True)))
        assert (await mesh.ask("/svc/")).call.name == "other"


async def test_a_kept_connection_never_serves_the_other_kind(trusting: Mesh, named: Backend) -> None:
    """The same place may be registered as http by one service and as https by another."""
    place = Address("localhost", named.port)
    await trusting.follow(
        simple("secure", named.peer(host="localhost", tls=True)),
        simple("plain", Peer("plain", Address("127.0.0.1", named.port))),
        simple("named", Peer("named", place, (), ("127.0.0.1",))),
    )
    for _ in range(3):
        assert (await trusting.ask("/secure/")).status == 200
        for wrong in ("/plain/", "/named/"):
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # what TLS says to plain HTTP
                await trusting.ask(wrong)
    assert named.calls == 3


async def test_copies_to_https_instances_are_verified_too(
    trusting: Mesh, named: Backend, other: Backend
) -> None:
    async with backends("plain") as (plain,):
        target = Target("svc")
        mirrors = (PlanMirror(("shadow",)), PlanMirror(("stranger",)))
        places = [mirror_target("svc", each) for each in mirrors]
        service = ServiceRouting(
            "svc",
            (Route((Slice(target),)),),
            mirrors=(MirrorEntry(rule="m", mirrors=mirrors),),
            peers={
                target: (plain.peer(),),
                places[0]: (named.peer("shadow", host="localhost", tls=True),),
                places[1]: (other.peer("stranger", host="localhost", tls=True),),
            },
        )
        await trusting.follow(service)
        for count in range(1, 4):
            assert (await trusting.ask("/svc/x", method="POST", body=b"hello")).call.name == "plain"
            await until(lambda count=count: named.calls == count)  # type: ignore[misc]
        assert named.last is not None
        assert (named.last.header("host"), named.last.size) == (["localhost"], 5)
        assert other.calls == 0


async def test_an_attempt_with_a_fault_verifies_too(trusting: Mesh, named: Backend, other: Backend) -> None:
    target = Target("svc")
    held = FaultEntry(rule="f", delays=(PlanDelay(0.01),))
    refuses = Peer("gone", Address("127.0.0.1", 1))
    for backend, status in ((named, 200), (other, 503)):
        peers = (refuses, backend.peer(host="localhost", tls=True))
        route = Route((Slice(target, retries=2),))
        await trusting.follow(ServiceRouting("svc", (route,), faults=(held,), peers={target: peers}))
        assert {(await trusting.ask("/svc/x")).status for _ in range(4)} == {status}
    assert other.calls == 0


async def test_grpc_over_tls(trusting: Mesh, authority: Authority) -> None:
    async with echoing(authority.pair("localhost"), "localhost") as echo:
        await trusting.follow(simple("svc", msgspec.structs.replace(echo, places=("127.0.0.1",))))
        await talk(trusting.port)
    async with echoing(authority.pair("elsewhere.example"), "localhost") as other:
        await trusting.follow(simple("svc", msgspec.structs.replace(other, places=("127.0.0.1",))))
        assert await code(trusting.port) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("secure", [False, True])
async def test_grpc_in_an_attempt_with_a_fault(trusting: Mesh, authority: Authority, secure: bool) -> None:
    refuses = Peer("gone", Address("127.0.0.1", 1))
    held = FaultEntry(rule="f", delays=(PlanDelay(0.01),))
    async with echoing(authority.pair("localhost") if secure else None, "localhost") as echo:
        peers = (refuses, msgspec.structs.replace(echo, places=("127.0.0.1",)))
        for turn in range(2):  # of two services one begins with the instance that refuses
            target = Target(f"svc{turn}")
            route = Route((Slice(target, retries=2),))
            await trusting.follow(
                ServiceRouting(target.name, (route,), faults=(held,), peers={target: peers})
            )
            await talk(trusting.port, target.name)
