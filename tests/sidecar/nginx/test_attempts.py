"""Further attempts through a real nginx where a rule asks for retries: direct, over TLS, and the last one."""

import asyncio
from pathlib import Path

import pytest

from amalgam8.model.instance import Address
from amalgam8.routing.resolve import Peer
from tests.sidecar.authority import Authority
from tests.sidecar.nginx.support import Backend, Client, Mesh, backends, running, simple

GONE = Peer("gone", Address("127.0.0.1", 1))


@pytest.mark.parametrize("status", [500, 501, 503, 507])
async def test_each_attempt_goes_to_another_instance_and_the_last_answer_passes_whole(
    mesh: Mesh, status: int
) -> None:
    async with backends("one", "two", "three") as found:
        await mesh.follow(simple("svc", *(each.peer() for each in found), piece={"retries": 2}))
        reply = await mesh.ask(f"/svc/status-{status}?a=b", ("x-a", "1"), method="PUT", body=b"x" * 5000)
        assert [each.calls for each in found] == [1, 1, 1]
        assert (reply.status, reply.call.method, reply.call.size) == (status, "PUT", 5000)
        assert (reply.call.path, reply.call.header("x-a")) == (f"/status-{status}?a=b", ["1"])
        assert {each.last.size for each in found if each.last} == {5000}


async def test_a_refused_connection_takes_the_last_attempt_too(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        for turn in range(4):  # each time a new service, of which nobody is left out yet
            await mesh.follow(simple(f"svc{turn}", GONE, one.peer(), piece={"retries": 1}))
            assert (await mesh.ask(f"/svc{turn}/x")).call.name == "one"


async def test_a_refused_connection_after_an_answer_is_the_end(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer(), GONE, piece={"retries": 1}))
        replies = [await mesh.ask("/svc/status-501") for _ in range(2)]
        assert {reply.status for reply in replies} <= {501, 503}
        assert one.calls >= 2


async def test_all_addresses_of_a_name_are_one_attempt(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        places = ("127.0.0.8", "127.0.0.9", "127.0.0.1")
        named = Peer("one", Address("localhost", one.port), (), places)
        await mesh.follow(simple("svc", named, piece={"retries": 1}))
        assert (await mesh.ask("/svc/status-501")).status == 501
        assert one.calls == 2


@pytest.mark.parametrize("status", [501, 503])
@pytest.mark.parametrize("retries", [1, 9])
async def test_the_last_answer_passes_where_a_name_has_more_addresses(
    mesh: Mesh, status: int, retries: int
) -> None:
    async with backends("one") as (one,):
        named = Peer("one", Address("localhost", one.port), (), ("127.0.0.1", "127.0.0.8"))
        await mesh.follow(simple("svc", named, piece={"retries": retries}))
        reply = await mesh.ask(f"/svc/status-{status}")
        assert (reply.status, reply.call.name) == (status, "one")
        assert one.calls == 1 + retries


async def test_many_retries(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer(), piece={"retries": 25}))
        for turn, status in enumerate((503, 501, 507), 1):
            reply = await mesh.ask(f"/svc/status-{status}", method="PUT", body=b"x" * 5000)
            assert (reply.status, reply.call.size) == (status, 5000)
            assert one.calls == 26 * turn


async def test_who_is_silent_for_long_and_may_be(mesh: Mesh) -> None:
    async def asked(path: str, accept: str = "*/*") -> tuple[int, bytes]:
        async with Client(mesh.port) as client:
            client.send(path, [("accept", accept)])
            status, body = (await client.head()).status, b""
            while status == 200 and len(body) < 2 and (more := await client.reader.read(2)):
                body += more
            return status, body

    async with backends("one", "two") as (one, two):
        two.gate = asyncio.Event()
        await mesh.follow(
            simple("svc", one.peer()),
            simple("patient", one.peer(), piece={"timeout": 30.0}),
            simple("silent", two.peer(), piece={"retries": 2}),
        )
        async with asyncio.timeout(25):
            plain, events, patient, silent = await asyncio.gather(
                asked("/svc/pause"),
                asked("/svc/pause", "text/event-stream"),
                asked("/patient/pause"),
                asked("/silent/x"),
            )
        assert plain == (200, b"1")
        assert events == patient == (200, b"12")
        assert silent == (504, b"")
        assert two.calls == 1
        two.gate.set()


async def test_the_connection_of_the_app_stays_open(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer(), piece={"retries": 2}))
        async with Client(mesh.port) as client:
            for status in (502, 507, 503, 504, 200):
                assert (await client.ask(f"/svc/status-{status}")).status == status


async def test_further_attempts_are_verified_and_go_to_instances_of_both_kinds(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    secure, other = Backend("secure"), Backend("other")
    await secure.start(0, authority.context("localhost"))
    await other.start(0, authority.context("elsewhere.example"))
    try:
        async with running(tmp_path, ca_cert_file=authority.file) as mesh, backends("plain") as (plain,):
            peers = (
                secure.peer(host="localhost", tls=True),
                plain.peer(),
                other.peer(host="localhost", tls=True),
            )
            await mesh.follow(simple("svc", *peers, piece={"retries": 3}))
            reply = await mesh.ask("/svc/status-501")
            assert reply.status == 501
            assert other.calls == 0
            assert {secure.calls, plain.calls} <= {1, 2}
            assert secure.last is not None
            assert secure.last.header("host") == ["localhost"]
            assert plain.last is not None
            assert plain.last.header("host") == ["mesh"]
    finally:
        await secure.stop()
        await other.stop()
