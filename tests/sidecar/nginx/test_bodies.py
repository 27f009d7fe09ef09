"""Bodies that do not say their length, through a real nginx, where rules may ask for them more than once."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from amalgam8.routing.condition import Condition
from amalgam8.routing.plan import AccessEntry, LimitEntry, MirrorEntry, PlanLimit, PlanMirror
from amalgam8.routing.resolve import Route, ServiceRouting, Slice, Target, mirror_target
from tests.conformance.http2 import Http2Client
from tests.sidecar.nginx.support import LIMIT, Client, Mesh, Reply, backends, running, simple, until

MB = 1024 * 1024


def chunks(*bodies: bytes, last: bool = True) -> bytes:
    found = b"".join(b"%x\r\n%s\r\n" % (len(body), body) for body in bodies)
    return found + (b"0\r\n\r\n" if last else b"")


def begin(client: Client, path: str, *headers: tuple[str, str], method: str = "PUT") -> None:
    client.send(path, [("transfer-encoding", "chunked"), *headers], method)


def records(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def answer(client: Client) -> Reply:
    async with asyncio.timeout(LIMIT):
        reply = await client.head()
        reply.body = await client.reader.readexactly(int(reply.headers["content-length"]))
        return reply


async def test_a_body_in_pieces_is_repeated_whole(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two), Client(mesh.port) as client:
        await mesh.follow(simple("svc", one.peer(), two.peer(), piece={"retries": 1}))
        for count, body in enumerate((b"0\r\n\r\n", b"x\r\n0\r\n\r\n" * 1000, b"x" * 87_381), 1):
            begin(client, "/svc/status-501?a=%20", ("x-a", "b"))
            client.writer.write(chunks(body, body, last=False))
            await client.writer.drain()
            client.writer.write(chunks(body))
            reply = await answer(client)
            assert (reply.status, reply.call.size) == (501, 3 * len(body))
            assert (reply.call.path, reply.call.header("x-a")) == ("/status-501?a=%20", ["b"])
            assert reply.call.header("content-length") == [str(3 * len(body))]
            assert [one.calls, two.calls] == [count, count]


async def test_over_http2_too(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two), Http2Client(mesh.port) as client:
        await mesh.follow(simple("svc", one.peer(), two.peer(), piece={"retries": 1}))
        reply = await client.ask("/svc/status-501", method="PUT", body=b"x" * 5000)
        assert (reply.status, reply.json["size"]) == (501, 5000)
        assert [one.calls, two.calls] == [1, 1]
        reply = await client.ask("/svc/status-501", method="PUT")
        assert (reply.status, reply.json["size"]) == (501, 0)
        assert [one.calls, two.calls] == [2, 2]


async def test_what_is_no_body_is_not_waited_for(mesh: Mesh) -> None:
    async with backends("one") as (one,), Http2Client(mesh.port) as client:
        await mesh.follow(simple("svc", one.peer(), piece={"retries": 1}))
        async with asyncio.timeout(LIMIT):  # to wait for each would take longer
            for _ in range(2 * int(LIMIT)):
                reply = await client.ask("/svc/x", [("transfer_encoding", "chunked")], "PUT")
                assert (reply.status, reply.json["size"]) == (200, 0)


async def test_what_is_never_repeated_takes_no_longer_way(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with (
        running(tmp_path, access_log=log) as mesh,
        backends("one") as (one,),
        Http2Client(mesh.port) as client,
    ):
        await mesh.follow(simple("svc", one.peer(), piece={"retries": 1}), simple("plain", one.peer()))
        for path, method in (("/svc/x", "POST"), ("/plain/x", "PUT"), ("/svc/x", "PUT")):
            reply = await client.ask(path, method=method, body=b"hello")
            assert reply.json["size"] == len(b"hello")
        await until(lambda: len(log.read_text().splitlines()) == 3)
        found = {(record["path"], record["method"]): record["protocol"] for record in records(log)}
        assert found == {
            ("/svc/x", "POST"): "HTTP/2.0",
            ("/plain/x", "PUT"): "HTTP/2.0",
            ("/svc/x", "PUT"): "HTTP/2.0",  # though it comes by a server on the way
        }


async def test_a_long_body_goes_on_as_it_comes_and_once(mesh: Mesh) -> None:
    async with backends("one") as (one,), Client(mesh.port) as client:
        await mesh.follow(simple("svc", one.peer(), piece={"retries": 1}))
        begin(client, "/svc/status-503")
        for _ in range(20):
            client.writer.write(chunks(b"x" * MB, last=False))
            await client.writer.drain()
        client.writer.write(chunks())
        reply = await answer(client)
        assert (reply.status, reply.call.size) == (503, 20 * MB)
        assert one.calls == 1


async def test_a_body_that_pauses_is_not_waited_for(mesh: Mesh) -> None:
    async with backends("one") as (one,), Client(mesh.port) as client:
        await mesh.follow(simple("svc", one.peer(), piece={"retries": 1}))
        begin(client, "/svc/x")
        client.writer.write(chunks(b"first", last=False))
        await until(lambda: one.calls == 1)
        client.writer.write(chunks(b"second"))
        assert (await answer(client)).call.size == len(b"firstsecond")


async def test_a_copy_of_a_body_that_does_not_say_its_length(mesh: Mesh) -> None:
    async with backends("one", "shadow") as (one, shadow), Client(mesh.port) as client:
        mirror = PlanMirror(("v2",))
        target, place = Target("svc"), mirror_target("svc", mirror)
        service = ServiceRouting(
            "svc",
            (Route((Slice(target),)),),
            mirrors=(MirrorEntry(rule="m", mirrors=(mirror,)),),
            peers={target: (one.peer(),), place: (shadow.peer("v2"),)},
        )
        await mesh.follow(service)
        begin(client, "/svc/x", method="POST")
        client.writer.write(chunks(b"x" * 200_000))
        assert (await answer(client)).call.size == 200_000
        await until(lambda: shadow.last is not None)
        assert shadow.last is not None
        assert shadow.last.size == 200_000


async def test_a_call_is_decided_and_recorded_once(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with (
        running(tmp_path, access_log=log) as mesh,
        backends("one") as (one,),
        Client(mesh.port) as client,
    ):
        limits = (LimitEntry(rule="l", limits=(PlanLimit(requests=3, per=3600),)),)
        denied = (AccessEntry(rule="no", verdict="deny", match=Condition((("x-who", "mallory"),))),)
        await mesh.follow(simple("svc", one.peer(), piece={"retries": 1}, limits=limits, access=denied))
        begin(client, "/svc/x", ("x-who", "mallory"))
        client.writer.write(chunks(b"hello"))
        reply = await answer(client)
        assert (reply.status, reply.headers["x-a8-reason"]) == (403, "denied; service=svc; rule=no")
        found = []
        for _ in range(4):
            begin(client, "/svc/x?a", ("x-request-id", "mine"))
            client.writer.write(chunks(b"hello"))
            found.append((await answer(client)).status)
        assert found == [200, 200, 200, 429]
        await until(lambda: len(log.read_text().splitlines()) == 5)
        first, *others = records(log)
        assert first["status"] == "403"
        assert [record["status"] for record in others] == ["200", "200", "200", "429"]
        assert {record["path"] for record in others} == {"/svc/x?a"}
        assert {record["request_id"] for record in others} == {"mine"}
        text = (await mesh.nginx.metrics()).decode()
        assert (
            sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if "_requests_total{" in line)
            == 5
        )


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nhelloXX0\r\n\r\n", b"-1\r\n\r\n"])
async def test_nonsense_is_refused_and_no_call_is_made(mesh: Mesh, body: bytes) -> None:
    async with backends("one") as (one,), Client(mesh.port) as client:
        await mesh.follow(simple("svc", one.peer(), piece={"retries": 1}))
        begin(client, "/svc/x")
        client.writer.write(body)
        async with asyncio.timeout(LIMIT):
            said = await client.reader.read(1000)
        assert said == b"" or said.startswith(b"HTTP/1.1 400 ")
        assert one.last is None
