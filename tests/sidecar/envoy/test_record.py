"""Access records, counters and traces, as a real Envoy and the agent write them."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from amalgam8.model.action_reader import RECORD_MEMBERS
from amalgam8.routing.plan import (
    AccessEntry,
    FaultEntry,
    HeadersEntry,
    LimitEntry,
    MirrorEntry,
    PlanAbort,
    PlanDelay,
    PlanLimit,
    PlanMirror,
    PlanTrace,
    TraceEntry,
)
from amalgam8.routing.resolve import Route, ServiceRouting, Slice, Target
from tests.conftest import eventually
from tests.sidecar.envoy.support import Backend, Mesh, backends, running, simple, until, when

Record = dict[str, Any]


class Recorded:
    def __init__(self, mesh: Mesh, file: Path) -> None:
        self.mesh = mesh
        self.file = file

    async def read(self, count: int) -> list[Record]:
        """Wait for so many records."""
        await until(lambda: self.file.exists() and self.file.read_bytes().count(b"\n") >= count)
        return [msgspec.json.decode(line) for line in self.file.read_bytes().splitlines()]

    async def one(self, path: str, *headers: tuple[str, str]) -> Record:
        """The record of one call."""
        before = self.file.read_bytes().count(b"\n") if self.file.exists() else 0
        await self.mesh.ask(path, *headers)
        return (await self.read(before + 1))[-1]


@pytest.fixture
async def recorded(tmp_path: Path) -> AsyncIterator[Recorded]:
    file = tmp_path / "access.log"
    async with running(tmp_path, access_log=file) as mesh:
        yield Recorded(mesh, file)


def ruled(backend: Backend, **more: Any) -> ServiceRouting:
    target = Target("svc", ("v1",))
    piece = Slice(target, timeout=more.pop("timeout", 0), retries=more.pop("retries", None))
    return ServiceRouting(
        "svc", (Route((piece,), rule="r1"),), peers={target: (backend.peer("v1", "x"),)}, **more
    )


async def test_a_record_has_the_members_of_the_original(recorded: Recorded) -> None:
    async with backends("one") as (one,):
        await recorded.mesh.follow(ruled(one))
        record = await recorded.one(
            '/svc/a"b?c=1', ("user-agent", 'q"q'), ("x-forwarded-for", "1.2.3.4"), ("x-request-id", "id-7")
        )
        assert record.pop("start_time").endswith("Z")
        assert 0 <= record.pop("request_time") < 1000
        assert record.pop("upstream_response_time").isdigit()
        assert record.pop("bytes_sent") > 0
        assert record == {
            "status": "200",
            "src": "shop",
            "dst": "svc:v1,x",
            "message": 'GET /svc/a"b?c=1 200',
            "module": "ENVOY",
            "method": "GET",
            "path": '/svc/a"b?c=1',
            "protocol": "HTTP/1.1",
            "response_flags": "-",
            "x_forwarded": "1.2.3.4",
            "user_agent": 'q"q',
            "request_id": "id-7",
            "auth": "mesh",
            "upstream_host": f"127.0.0.1:{one.port}",
            "attempts": 1,
            "bytes_received": 0,
            "rules": ["r1"],
            "fault": False,
        }


async def test_what_is_missing_is_a_dash(recorded: Recorded) -> None:
    async with backends("one") as (one,):
        held = FaultEntry(rule="fa", match=when(f="1"), aborts=(PlanAbort(503),))
        await recorded.mesh.follow(simple("svc", one.peer(), faults=(held,)))
        answered = await recorded.one("/svc/")
        assert {key for key, value in answered.items() if value == "-"} == {
            "x_forwarded",
            "user_agent",
            "response_flags",
        }
        assert answered["rules"] == ["-"]
        nowhere = {"x_forwarded", "user_agent", "upstream_host", "upstream_response_time"}
        unknown = await recorded.one("/nope/")
        assert {key for key, value in unknown.items() if value == "-"} == {*nowhere, "dst"}
        aborted = await recorded.one("/svc/", ("f", "1"))
        assert {key for key, value in aborted.items() if value == "-"} == nowhere
        assert aborted.keys() == unknown.keys() == answered.keys()


async def test_any_bytes_make_a_record(recorded: Recorded) -> None:
    async with backends("one") as (one,):
        await recorded.mesh.follow(simple("svc", one.peer("v1")))
        odd = b'"\\\xff\xc3\xa4'
        head = b"GET /svc/ HTTP/1.1\r\nhost: a\r\nuser-agent: %b\r\nx-request-id: %b\r\n\r\n" % (odd, odd)
        for count, raw in enumerate((head, b"nonsense\r\n\r\n"), 1):
            reader, writer = await asyncio.open_connection("127.0.0.1", recorded.mesh.port)
            writer.write(raw)
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
            records = await recorded.read(count)
        well, ill = records
        assert (well["status"], well["dst"], well["path"]) == ("200", "svc:v1", "/svc/")
        assert well["user_agent"].startswith('"\\')
        assert well["user_agent"] == well["request_id"]
        members = ("dst", "method", "path", "auth", "request_id", "upstream_host")
        assert {ill[member] for member in members} == {"-"}


async def test_a_grpc_call_that_the_mesh_refuses_names_its_service(recorded: Recorded) -> None:
    await recorded.mesh.follow(simple("none"))
    record = await recorded.one("/none/x", ("content-type", "application/grpc"))
    assert (record["status"], record["dst"], record["response_flags"]) == ("200", "none", "UH")
    assert record["upstream_host"] == record["upstream_response_time"] == "-"


async def test_no_trace_can_take_the_name_of_a_member(recorded: Recorded) -> None:
    async with backends("one") as (one,):
        await recorded.mesh.follow(ruled(one))
        record = await recorded.one("/svc/", ("user-agent", "q"), ("x-forwarded-for", "1.2.3.4"))
        assert record.keys() <= RECORD_MEMBERS


async def test_every_rule_that_acted_is_named(recorded: Recorded) -> None:
    async with backends("one", "two") as (one, two):
        copies = Target("svc", ("v2",))
        service = ruled(
            one,
            limits=(LimitEntry(rule="li", limits=(PlanLimit(100),)),),
            headers=(HeadersEntry(rule="he", set=(("a", "b"),)),),
            mirrors=(MirrorEntry(rule="mi", mirrors=(PlanMirror(("v2",)),)),),
            faults=(FaultEntry(rule="fa", match=when(f="1"), delays=(PlanDelay(0.01),)),),
        )
        service.peers[copies] = (two.peer("v2"),)
        await recorded.mesh.follow(service)
        assert (await recorded.one("/svc/"))["rules"] == ["r1", "mi", "li", "he"]
        record = await recorded.one("/svc/", ("f", "1"))
        assert (record["rules"], record["fault"]) == (["r1", "mi", "li", "he", "fa"], True)
        assert record["response_flags"] == "DI"


@pytest.mark.parametrize("retries", [None, 2])
async def test_with_two_passes_the_record_tells_the_real_instance(
    recorded: Recorded, retries: int | None
) -> None:
    async with backends("one") as (one,):
        certain = FaultEntry(rule="f1", match=when(a="1"), aborts=(PlanAbort(503),))
        never = FaultEntry(rule="f2", match=when(b="1"), aborts=(PlanAbort(500, 1e-6),))
        await recorded.mesh.follow(ruled(one, retries=retries, faults=(certain, never)))
        record = await recorded.one("/svc/x", ("a", "1"))
        assert (record["status"], record["fault"], record["response_flags"]) == ("503", True, "FI")
        assert record["attempts"] == (3 if retries else 1) or not retries
        record = await recorded.one("/svc/x", ("b", "1"))
        assert (record["status"], record["fault"], record["dst"]) == ("200", False, "svc:v1,x")
        assert record["upstream_host"] == f"127.0.0.1:{one.port}"
        assert record["path"] == "/svc/x"


async def test_refusals_are_recorded(recorded: Recorded) -> None:
    async with backends("one") as (one,):
        access = (AccessEntry(rule="d", match=when(d="1"), verdict="deny"),)
        await recorded.mesh.follow(simple("svc", one.peer(), access=access), simple("empty"))
        record = await recorded.one("/svc/x", ("d", "1"))
        assert (record["status"], record["dst"], record["rules"]) == ("403", "svc", ["d"])
        assert record["path"] == "/svc/x"
        record = await recorded.one("/empty/x")
        assert (record["status"], record["dst"], record["response_flags"]) == ("503", "empty", "UH")
        record = await recorded.one("/nope/x")
        assert (record["status"], record["dst"]) == ("404", "-")


async def test_a_trace_stands_under_its_own_name_and_in_the_ring(recorded: Recorded) -> None:
    async with backends("one") as (one,):
        traces = (
            TraceEntry(
                rule="t",
                match=when(t="1"),
                traces=(PlanTrace("gremlin", 'a"b'), PlanTrace("other", "1"), PlanTrace("no", "1", ("v9",))),
            ),
        )
        await recorded.mesh.follow(ruled(one, traces=traces))
        record = await recorded.one("/svc/x", ("t", "1"))
        assert (record["gremlin"], record["other"], record["rules"]) == ('a"b', "1", ["r1", "t"])
        assert "no" not in record
        assert "traces" not in record
        assert recorded.mesh.envoy.traces() == [record]
        assert "gremlin" not in await recorded.one("/svc/x")


async def test_the_log_is_put_aside_when_it_has_grown_and_no_record_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    async with running(tmp_path, access_log=file, access_log_size=200_000) as mesh, backends("one") as (one,):
        await mesh.follow(ruled(one))
        aside = file.with_name("access.log.1")
        sent = 0
        while not aside.exists():
            await asyncio.gather(*(mesh.ask("/svc/") for _ in range(20)))
            sent += 20
        await mesh.ask("/svc/")
        sent += 1

        def lines() -> int:
            return sum(each.read_bytes().count(b"\n") for each in tmp_path.glob("access.log*"))

        await until(lambda: lines() == sent)
        assert file.exists()


async def test_records_can_be_switched_off(tmp_path: Path) -> None:
    async with running(tmp_path) as mesh, backends("one") as (one,):
        traces = (TraceEntry(rule="t", match=when(t="1"), traces=(PlanTrace("k", "v"),)),)
        await mesh.follow(ruled(one, traces=traces))
        await mesh.ask("/svc/", ("t", "1"))
        await until(lambda: bool(mesh.envoy.traces()))
        assert list(tmp_path.glob("access*")) == []


async def test_calls_are_counted_by_destination_version_status_and_reason(recorded: Recorded) -> None:
    async with backends("one") as (one,):
        await recorded.mesh.follow(ruled(one), simple("empty"))
        for path in ("/svc/", "/svc/", "/svc/status-404", "/empty/", "/nope/", "/other/"):
            await recorded.mesh.ask(path)
        counted = (
            ('destination="svc",version="v1,x",status="2xx",reason=""', 2),
            ('destination="svc",version="v1,x",status="4xx",reason=""', 1),
            ('destination="empty",version="",status="5xx",reason="unavailable"', 1),
            ('destination="",version="",status="4xx",reason="unknown"', 2),
        )
        wanted = {f"a8_proxy_requests_total{{{labels}}} {count}" for labels, count in counted}
        times = 'a8_proxy_request_duration_seconds_{}{{destination="svc",version="v1,x"{}}} 3'
        wanted |= {times.format("count", ""), times.format("bucket", ',le="+Inf"')}
        found = ""

        async def shown() -> bool:
            nonlocal found
            found = (await recorded.mesh.envoy.metrics()).decode()
            return wanted <= set(found.splitlines())

        await eventually(shown, what="the calls are counted")
        assert "nope" not in found


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_two_requests_get_the_same_trace(tmp_path: Path, workers: int) -> None:
    async with running(tmp_path, workers=workers) as mesh, backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        asked = [await asyncio.gather(*(mesh.ask("/svc/") for _ in range(25))) for _ in range(20)]
        traces = {
            value.split("-")[1] for many in asked for one in many for value in one.call.header("traceparent")
        }
        assert len(traces) == 500
        assert all(re.fullmatch("[0-9a-f]{32}", trace) for trace in traces)


async def test_requests_get_an_id_and_a_trace_parent_and_keep_theirs(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        made = [(await mesh.ask("/svc/")).call.header("traceparent") for _ in range(2)]
        assert made[0] != made[1]
        for (value,) in made:
            assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", value)
        mine = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        call = (await mesh.ask("/svc/", ("traceparent", mine), ("x-request-id", "mine"))).call
        assert call.header("traceparent") == [mine]
        assert call.header("x-request-id") == ["mine"]
