"""Each call has an id and a trace: its own, or what the app gave it."""

import asyncio
import re
from pathlib import Path

from tests.sidecar.nginx.support import Call, Client, Mesh, backends, running, simple

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}")
TRACE = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00")
CONNECTIONS, CALLS = 8, 50


async def asked(mesh: Mesh) -> list[Call]:
    """What the instance saw of calls on one connection."""
    async with Client(mesh.port) as client:
        return [(await client.ask("/reviews/x")).call for _ in range(CALLS)]


async def test_calls_that_come_without_are_given_their_own(tmp_path: Path) -> None:
    async with running(tmp_path, workers=2) as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        of_each = await asyncio.gather(*(asked(mesh) for _ in range(CONNECTIONS)))
        calls = [call for calls in of_each for call in calls]
        ids = {call.header("x-request-id")[0] for call in calls}
        traces = {call.header("traceparent")[0] for call in calls}
        assert len(ids) == len(traces) == CONNECTIONS * CALLS
        assert all(UUID.fullmatch(each) for each in ids)
        assert all(TRACE.fullmatch(each) for each in traces)
        spans = {each.split("-")[2] for each in traces}
        assert len(spans) == CONNECTIONS * CALLS


async def test_what_the_app_gives_passes_and_what_it_leaves_empty_is_filled(tmp_path: Path) -> None:
    async with running(tmp_path) as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        given = (await mesh.ask("/reviews/x", ("x-request-id", "mine"), ("traceparent", ""))).call
        assert given.header("x-request-id") == ["mine"]
        assert TRACE.fullmatch(given.header("traceparent")[0])
        given = (await mesh.ask("/reviews/x", ("x-request-id", ""), ("traceparent", "of-the-app"))).call
        assert given.header("traceparent") == ["of-the-app"]
        assert UUID.fullmatch(given.header("x-request-id")[0])
