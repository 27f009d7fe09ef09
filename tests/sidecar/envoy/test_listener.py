"""What the listener lets pass, drops and answers by itself."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import FaultEntry, PlanAbort
from amalgam8.sidecar.envoy.listener import HEADERS_COUNT
from tests.sidecar.envoy.support import LIMIT, Client, Mesh, backends, service, simple, when

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def test_before_anything_is_known_all_is_unavailable(mesh: Mesh) -> None:
    reply = await mesh.ask("/reviews/x?y")
    assert reply.status == 503
    assert reply.json == {
        "error": "no instance of the service can take the call",
        "service": "reviews",
        "rule": "",
    }
    assert reply.headers["x-a8-reason"] == "unavailable; service=reviews; rule="
    assert mesh.envoy.confirmed.value is None


async def test_an_unknown_service_is_404(mesh: Mesh) -> None:
    await mesh.follow()
    for path, name in (("/nope", "nope"), ("/nope/x?y", "nope"), ("/", ""), ('/no"pe', 'no"pe'), ("/?a", "")):
        reply = await mesh.ask(path)
        assert reply.status == 404
        assert reply.json == {"error": "no such service", "service": name, "rule": ""}
        assert reply.headers["x-a8-reason"] == f"unknown; service={name}; rule="
        assert reply.headers["content-type"] == "application/json"


async def test_a_service_without_instances_is_503_with_the_rule(mesh: Mesh) -> None:
    await mesh.follow(service("svc", [(ALWAYS, {"v1": 1})], {"v1": ()}))
    reply = await mesh.ask("/svc/x")
    assert (reply.status, reply.json["service"], reply.json["rule"]) == (503, "svc", "")
    assert reply.headers["x-a8-reason"] == "unavailable; service=svc; rule="


async def test_the_rule_is_named(mesh: Mesh) -> None:
    await mesh.follow(service("svc", [(when(a="1"), {"v1": 1}), (ALWAYS, {"": 1})], {"v1": (), "": ()}))
    reply = await mesh.ask("/svc/x", ("a", "1"))
    assert reply.json["rule"] == "rule-0"
    assert reply.headers["x-a8-reason"] == "unavailable; service=svc; rule=rule-0"


async def test_answers_of_apps_are_left_alone_and_cannot_forge_a_reason(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        for status in (404, 503, 500, 504, 429):
            reply = await mesh.ask(f"/svc/status-{status}")
            assert reply.status == status
            assert reply.call.name == "one"
            assert "x-a8-reason" not in reply.headers
            assert reply.headers["server"] == "backend"
            assert reply.headers["x-envoy-own"] == "kept"


async def test_injected_aborts_carry_no_reason(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        for status in (404, 503, 500):
            fault = FaultEntry(rule="f", aborts=(PlanAbort(status),))
            await mesh.follow(simple("svc", one.peer(), faults=(fault,)))
            reply = await mesh.ask("/svc/")
            assert reply.status == status
            assert "x-a8-reason" not in reply.headers


async def test_headers_that_steer_the_mesh_are_dropped(mesh: Mesh) -> None:
    steering = [
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
        ("x-envoy-max-retries", "9"),
        ("x-envoy-retry-on", "5xx"),
        ("X-Envoy-Fault-Abort-Request", "418"),
        ("x-envoy-fault-delay-request", "5000"),
        ("x-envoy-original-path", "/x"),
        ("x-envoy-decorator-operation", "x"),
        ("x-envoy-internal", "true"),
        ("x-envoy-expected-rq-timeout-ms", "1"),
        ("X-A8-Reason", "denied"),
        ("x-a8-anything", "x"),
    ]
    async with backends("one") as (one,):
        one.gate = asyncio.Event()
        await mesh.follow(simple("svc", one.peer()))
        async with Client(mesh.port) as client:
            client.send("/svc/status-503", [*steering, ("x-mine", "1")])
            await asyncio.sleep(0.05)  # longer than the timeout that the headers ask for
            one.gate.set()
            reply = await client.head()
        assert reply.status == 503
        assert one.calls == 1
        call = (await mesh.ask("/svc/", *steering, ("x-mine", "1"))).call
        assert {name for name, _ in call.headers} == {
            *("host", "x-mine", "x-forwarded-proto", "x-request-id", "traceparent"),
            *("x-envoy-original-path", "x-envoy-expected-rq-timeout-ms"),
        }
        assert call.header("x-envoy-original-path") == ["/svc/"]
        assert call.header("x-envoy-expected-rq-timeout-ms") == ["15000"]
        call = (await mesh.ask("/", ("host", "svc"), *steering)).call
        assert call.header("x-envoy-original-path") == []


async def test_headers_pass_and_only_envoys_own_are_added(mesh: Mesh) -> None:
    sent = [
        ("host", "some.host:1234"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "mine"),
        ("cookie", "a=b; c=d"),
        ("accept", "x"),
        ("user-agent", "y"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        reply = await mesh.ask("/svc/", *sent)
        added = [("x-envoy-expected-rq-timeout-ms", "15000"), ("x-envoy-original-path", "/svc/")]
        assert sorted(reply.call.headers) == sorted(sent + added)
        assert set(reply.headers) == {"content-length", "date", "x-envoy-upstream-service-time"}
        made = (await mesh.ask("/svc/")).call.header("x-request-id")
        assert UUID.fullmatch(made[0])


async def test_methods_and_bodies_pass(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        async with Client(mesh.port) as client:
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                call = (await client.ask("/svc/x", method=method, body=b"hello")).call
                assert (call.method, call.size) == (method, 5)
            assert (await client.ask("/svc/x", method="HEAD")).status == 200
            assert (await client.ask("/svc/x")).status == 200


async def test_long_bodies_stream_through(mesh: Mesh) -> None:
    size = 20_000_000
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        before = _resident(mesh)
        async with Client(mesh.port) as client:
            assert (await client.ask("/svc/up", method="POST", body=b"x" * size)).call.size == size
            async with asyncio.timeout(LIMIT):
                client.send(f"/svc/bytes-{size}")
                assert (await client.head()).headers["content-length"] == str(size)
                await asyncio.sleep(0.2)  # a client that does not read: nothing may pile up meanwhile
                assert len(await client.reader.readexactly(size)) == size
        assert _resident(mesh) - before < 8_000


async def test_server_sent_events_arrive_at_once(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        async with Client(mesh.port) as client, asyncio.timeout(LIMIT):
            client.send("/svc/events")
            assert (await client.head()).headers["content-type"] == "text/event-stream"
            assert b"data: first" in await client.reader.readuntil(b"\n\n")


async def test_websockets_are_passed_on(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        async with Client(mesh.port) as client, asyncio.timeout(LIMIT):
            client.send("/svc/websocket", [("connection", "Upgrade"), ("upgrade", "websocket")])
            assert (await client.head()).status == 101
            for word in (b"hello", b"again"):
                client.writer.write(word)
                assert await client.reader.readexactly(len(word)) == word


async def test_headers_are_limited(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        assert (await mesh.ask("/svc/", ("x", "y" * 60_000))).status == 200
        assert (await mesh.ask("/svc/", ("x", "y" * 120_000))).status == 431
        many = [(f"x-{number}", "y") for number in range(HEADERS_COUNT + 1)]
        assert (await mesh.ask("/svc/", *many)).status == 431


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_http_2_without_tls(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        url = f"http://127.0.0.1:{mesh.port}/svc/%2F//x?y"
        command = ["curl", "-s", "--http2-prior-knowledge", "--path-as-is", "-w", "%{http_version}", url]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, timeout=LIMIT, check=True
        )
        assert b'"path":"/%2F//x?y"' in done.stdout
        assert done.stdout.endswith(b"2")


def _resident(mesh: Mesh) -> int:
    """KB that Envoy holds."""
    status = Path(f"/proc/{mesh.envoy.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
