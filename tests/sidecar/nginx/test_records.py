"""nginx's records: their members, rotation by size, and those of traced calls."""

import asyncio
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from amalgam8.model.caller import caller
from amalgam8.routing.plan import AccessEntry, FaultEntry, PlanAbort, PlanDelay, PlanTrace, TraceEntry
from amalgam8.routing.resolve import Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.nginx.records import KEPT
from tests.conformance.http2 import Http2Client
from tests.conftest import eventually
from tests.sidecar.nginx.support import Backend, Client, Mesh, backends, running, simple
from tests.sidecar.nginx.test_language import when

TRACED = TraceEntry(rule="t", traces=(PlanTrace("recipe", "7"),))


async def records(file: Path, count: int) -> list[dict[str, Any]]:
    """So many records, once they are written."""

    async def written() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
        return found if len(found) >= count else []

    return await eventually(written)


async def test_a_record_has_all_members(tmp_path: Path) -> None:
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer("v1"), piece={"retries": 2}), simple("empty"))
        headers = (("user-agent", "me"), ("x-forwarded-for", "10.0.0.1"), ("x-request-id", "id-1"))
        await mesh.ask("/reviews/x?y=1", *headers)
        await mesh.ask("/reviews/status-503")
        await mesh.ask("/empty/x")
        good, failed, empty = await records(tmp_path / "a.log", 3)
        start, took, spent = (
            good.pop(name) for name in ("start_time", "request_time", "upstream_response_time")
        )
        assert start.endswith("Z")
        assert took >= 0
        assert int(spent) >= 0
        assert (good.pop("bytes_received"), good.pop("bytes_sent") > 0) == (0, True)
        assert good == {
            "status": "200",
            "src": "shop",
            "dst": "reviews:v1",
            "message": "GET /reviews/x?y=1 200",
            "module": "NGINX",
            "method": "GET",
            "path": "/reviews/x?y=1",
            "protocol": "HTTP/1.1",
            "response_flags": "-",
            "x_forwarded": "10.0.0.1",
            "user_agent": "me",
            "request_id": "id-1",
            "auth": "mesh",
            "upstream_host": f"127.0.0.1:{one.port}",
            "attempts": 1,
            "fault": False,
            "rules": ["-"],
        }
        assert (failed["attempts"], failed["status"]) == (3, "503")
        assert (empty["attempts"], empty["dst"], empty["response_flags"]) == (0, "empty", "UH")
        assert empty["upstream_response_time"] == "-"


async def test_what_comes_of_a_body_is_counted_without_what_stands_around_it(tmp_path: Path) -> None:
    denied = AccessEntry(rule="d", match=when(no="1"), verdict="deny")
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer(), access=(denied,)))
        async with Client(mesh.port) as client:
            await client.ask("/reviews/length", method="POST", body=b"x" * 70_000)
            client.send("/reviews/parts", [("transfer-encoding", "chunked")], "POST")
            client.writer.write(b"3\r\nabc\r\n5;name=value\r\ndefgh\r\n0\r\n\r\n")
            answer = await client.head()
            await client.reader.readexactly(int(answer.headers["content-length"]))
            await client.ask("/reviews/denied", [("no", "1")], method="POST", body=b"x" * 10)
        async with Http2Client(mesh.port) as client:
            await client.ask("/reviews/stream", method="PUT", body=b"x" * 5000)
        found = {record["path"]: record["bytes_received"] for record in await records(tmp_path / "a.log", 4)}
        assert found.pop("/reviews/denied") <= 10  # nobody waited for it
        assert found == {"/reviews/length": 70_000, "/reviews/parts": 8, "/reviews/stream": 5000}


async def test_what_is_missing_is_a_dash(tmp_path: Path) -> None:
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, backends("one") as (one,):
        held = FaultEntry(rule="fa", match=when(f="1"), aborts=(PlanAbort(503),))
        await mesh.follow(simple("reviews", one.peer(), faults=(held,)))
        await mesh.ask("/reviews/x")
        await mesh.ask("/nobody/x")
        await mesh.ask("/reviews/x", ("f", "1"))
        found = await records(tmp_path / "a.log", 3)
        answered, unknown, aborted = [{key for key, value in each.items() if value == "-"} for each in found]
        assert answered == {"x_forwarded", "user_agent", "response_flags"}
        nowhere = {"x_forwarded", "user_agent", "upstream_host", "upstream_response_time"}
        assert unknown == {*nowhere, "dst"}
        assert aborted == nowhere
        assert found[0].keys() == found[1].keys() == found[2].keys()


@pytest.mark.parametrize(
    ("service", "path", "flag"),
    [
        ({"faults": (FaultEntry(rule="f", aborts=(PlanAbort(503),)),)}, "/reviews/x", "FI"),
        ({"access": (AccessEntry(rule="no", verdict="deny"),)}, "/reviews/x", "-"),
        ({}, "/nobody/x", "NR"),
        ({}, "/reviews/broken", "UC"),
        ({"piece": {"timeout": 0.1}}, "/reviews/trickle-headers", "UT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_flags_say_what_went_wrong(
    tmp_path: Path, service: dict[str, Any], path: str, flag: str
) -> None:
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer(), **service))
        if flag == "UT":
            await _never(mesh, one, path)
        else:
            await mesh.ask(path)
        (record,) = await records(tmp_path / "a.log", 1)
        assert record["response_flags"] == flag


async def _never(mesh: Mesh, one: Backend, path: str) -> None:
    one.gate = asyncio.Event()
    await mesh.ask(path)
    one.gate.set()


async def test_a_refused_call_has_one_record_however_many_rules_acted(tmp_path: Path) -> None:
    route = Route((Slice(Target("empty")),), rule="r")
    faults = (FaultEntry(rule="f", delays=(PlanDelay(0.001),)),)
    service = ServiceRouting("empty", (route,), faults=faults, peers={Target("empty"): ()})
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh:
        await mesh.follow(service)
        await mesh.ask("/empty/x")
        await mesh.ask("/nobody/x")
        refused, _ = await records(tmp_path / "a.log", 2)
        assert (refused["rules"], refused["attempts"], refused["fault"]) == (["r", "f"], 0, True)


async def test_what_is_no_call_has_a_record_too(tmp_path: Path) -> None:
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, Client(mesh.port) as client:
        client.writer.write(b"GET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\nx-request-id: mine\r\n\r\n")
        assert (await client.head()).status == 400
        (record,) = await records(tmp_path / "a.log", 1)
        assert (record["status"], record["attempts"], record["fault"]) == ("400", 0, False)
        assert (record["response_flags"], record["rules"]) == ("-", ["-"])
        assert "T" in record["start_time"]


@pytest.mark.parametrize(
    ("sent", "status", "method"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", "400", None),
        (b"get /x HTTP/1.1\r\nhost: a\r\n\r\n", "400", None),
        (b"BREW /reviews/x HTTP/1.1\r\nhost: a\r\n\r\n", "200", "BREW"),
        (b"GET /reviews/x HTTP/1.0\r\n\r\n", "200", "GET"),
        (b"GET /reviews/x HTTP/9.9\r\nhost: a\r\n\r\n", "505", "GET"),
    ],
    ids=["no text", "no method", "an odd method", "an old version", "no version"],
)
async def test_whatever_comes_has_a_record(
    tmp_path: Path, sent: bytes, status: str, method: str | None
) -> None:
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        async with Client(mesh.port) as client:
            client.writer.write(sent)
            assert str((await client.head()).status) == status
        (record,) = await records(tmp_path / "a.log", 1)
        assert record["status"] == status
        assert method is None or record["method"] == method
        assert record["message"].endswith(status)


@pytest.mark.parametrize("seconds", [0.02, 0.15, 1.05])
async def test_times_are_in_milliseconds_however_long(tmp_path: Path, seconds: float) -> None:
    held = (FaultEntry(rule="f", delays=(PlanDelay(seconds),)),)
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer(), faults=held))
        await mesh.ask("/reviews/x")
        (record,) = await records(tmp_path / "a.log", 1)
        assert seconds * 900 <= record["request_time"] <= seconds * 1000 + 5000
        assert isinstance(record["request_time"], int)


async def test_a_record_says_when_a_call_began_however_late_it_ended(tmp_path: Path) -> None:
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, backends("one") as (one,):
        one.gate = asyncio.Event()
        await mesh.follow(simple("reviews", one.peer()))
        before = time.time()
        call = asyncio.ensure_future(mesh.ask("/reviews/x"))

        async def asked() -> bool:
            return one.calls == 1

        async def later() -> bool:
            return int(time.time()) > int(after)

        await eventually(asked)
        after = time.time()
        await eventually(later)
        one.gate.set()
        await call
        one.gate = None
        await mesh.ask("/reviews/x")
        held, quick = await records(tmp_path / "a.log", 2)
        began = datetime.fromisoformat(held["start_time"]).timestamp()
        assert before - 0.05 <= began <= after, "nginx looks at the clock once for each round of events"
        assert datetime.fromisoformat(quick["start_time"]).timestamp() > after
        assert (held["attempts"], held["response_flags"], held["rules"]) == (1, "-", ["-"])
        assert held.keys() == quick.keys()


async def test_the_file_is_put_aside_when_it_has_grown_and_nothing_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    async with running(tmp_path, access_log=file, access_log_size=4000) as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        files = [file, *(file.with_name(f"a.log.{number}") for number in range(1, KEPT + 1))]
        for turn in range(1, KEPT + 1):
            for _ in range(10):
                await mesh.ask("/reviews/x")

            async def put_aside(turn: int = turn) -> bool:
                lines = [line for each in files if each.exists() for line in each.read_text().splitlines()]
                assert all(json.loads(line)["status"] == "200" for line in lines)
                return files[turn].exists() and len(lines) == 10 * turn

            await eventually(put_aside)


@pytest.mark.parametrize("log", ["a.log", None])
async def test_traced_calls_are_read_back_with_an_access_log_or_without(
    tmp_path: Path, log: str | None
) -> None:
    file = tmp_path / log if log else None
    async with running(tmp_path, access_log=file) as mesh, backends("one") as (one,):
        await mesh.follow(simple("plain", one.peer()), simple("traced", one.peer(), traces=(TRACED,)))
        await mesh.ask("/plain/x")
        await mesh.ask("/traced/x", ("user-agent", 'a"b\\'))

        async def written() -> list[dict[str, Any]]:
            return mesh.nginx.traces()

        (record,) = await eventually(written)
        assert (record["recipe"], record["rules"], record["user_agent"]) == ("7", ["t"], 'a"b\\')
        assert (tmp_path / "a.log").exists() == bool(log)


async def test_no_app_can_say_what_protocol_it_speaks(tmp_path: Path) -> None:
    """Neither to our own server, which is told so by the one that such calls are sent to first."""
    async with (
        running(tmp_path, access_log=tmp_path / "a.log") as mesh,
        backends("one") as (one,),
        Http2Client(mesh.port) as other,
    ):
        await mesh.follow(simple("svc", one.peer(), piece={"retries": 1}))
        # To nginx's own variables an underscore is the same as a dash.
        names = ("x-a8-protocol", "X-A8-Protocol", "x_a8_protocol", "x_a8_target", "x-a8-target")
        forged = [(name, 'GOPHER /","status":"200') for name in names]
        calls = [await mesh.ask("/svc/x", *forged), await mesh.ask("/svc/%", *forged)]
        async with Client(mesh.port) as client:  # a body that does not say its length
            client.send("/svc/x", [("transfer-encoding", "chunked"), *forged], "PUT")
            client.writer.write(b"1\r\nx\r\n0\r\n\r\n")
            reply = await client.head()
            reply.body = await client.reader.readexactly(int(reply.headers["content-length"]))
            calls.append(reply)
        assert all(not reply.call.header("x-a8-protocol") for reply in calls)
        await other.ask("/svc/x", [forged[0], *forged[2:]], "PUT", body=b"x")
        found = await records(tmp_path / "a.log", 4)
        assert [record["protocol"] for record in found] == ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/2.0"]
        assert [record["path"] for record in found] == ["/svc/x", "/svc/%", "/svc/x", "/svc/x"]


async def test_the_caller_stands_in_records_as_it_is_called(tmp_path: Path) -> None:
    own = caller('sh$op"{}', ["v$1"])
    async with running(tmp_path, own_service=own, access_log=tmp_path / "a.log") as mesh:
        await mesh.ask("/nobody/x")
        (record,) = await records(tmp_path / "a.log", 1)
        assert record["src"] == 'sh$op"{}:v$1'


@pytest.mark.parametrize("odd", ['"', "\\", "é", "\\u0041", '"}\'{"', "%s$status"])
async def test_whatever_a_request_says_a_record_is_one_line_of_json(tmp_path: Path, odd: str) -> None:
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        names = ("user-agent", "x-forwarded-for", "x-request-id")
        for _ in range(2):
            await mesh.ask(f"/reviews/x?{odd}", *((name, f"a{odd}b") for name in names))
        for record in await records(tmp_path / "a.log", 2):
            said = [record["user_agent"], record["x_forwarded"], record["request_id"]]
            assert said == [f"a{odd}b"] * 3
            assert (record["path"], record["status"]) == (f"/reviews/x?{odd}", "200")


async def test_records_of_many_paths_each_name_their_own(tmp_path: Path) -> None:
    """More than are kept to be said again, and too long to be kept."""
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        paths = [f"/reviews/{number}/{'x' * (number % 300)}" for number in range(1500)]
        async with Client(mesh.port) as client:
            for path in paths:
                await client.ask(path, [("x-request-id", path[9:])])
        found = await records(tmp_path / "a.log", len(paths))
        assert [record["path"] for record in found] == paths
        assert [record["request_id"] for record in found] == [path[9:] for path in paths]


async def test_workers_write_whole_lines_and_the_last_ones_when_they_end(tmp_path: Path) -> None:
    file, each = tmp_path / "a.log", 300
    async with running(tmp_path, access_log=file, workers=2) as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))

        async def call(number: int) -> None:
            async with Client(mesh.port) as client:
                for _ in range(each):
                    await client.ask(f"/reviews/{number}/{'y' * 400}")

        await asyncio.gather(*(call(number) for number in range(4)))
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(record["path"][9] for record in found) == sorted("0123" * each)
