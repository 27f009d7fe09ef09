"""Rules that change all the time, under load, with two workers: no call fails or sees two of them at once.

``A8_FLIPS`` is how often they change; without it, a short form.
"""

import asyncio
import os
from pathlib import Path

import pytest

from amalgam8.routing.plan import HeadersEntry
from amalgam8.routing.resolve import ServiceRouting
from tests.sidecar.nginx.support import Backend, Client, Mesh, backends, running, simple

FLIPS = int(os.environ.get("A8_FLIPS", "100"))
CLIENTS = 6


def version(backend: Backend) -> ServiceRouting:
    """All calls go to this backend, with a header that names it."""
    entry = HeadersEntry(rule="name", set=(("x-version", backend.name),))
    return simple("reviews", backend.peer(backend.name), headers=(entry,))


async def calls(mesh: Mesh, stop: asyncio.Event) -> int:
    """Call until told to stop; how often."""
    count = 0
    async with Client(mesh.port) as client:
        while not stop.is_set():
            reply = await client.ask("/reviews/x")
            assert reply.status == 200
            assert reply.call.header("x-version") == [reply.call.name]
            count += 1
    return count


@pytest.mark.timeout(60 + FLIPS)
async def test_no_call_fails_or_mixes_two_rules(tmp_path: Path) -> None:
    async with running(tmp_path, workers=2) as mesh, backends("one", "two") as pair:
        await mesh.follow(version(pair[0]))
        stop = asyncio.Event()
        load = [asyncio.create_task(calls(mesh, stop)) for _ in range(CLIENTS)]
        for turn in range(FLIPS):
            wanted = pair[(turn + 1) % 2]
            await mesh.follow(version(wanted))
            replies = await asyncio.gather(*(mesh.ask("/reviews/x") for _ in range(4)))
            assert {reply.call.name for reply in replies} == {wanted.name}  # confirmed is everywhere
        stop.set()
        assert sum(await asyncio.gather(*load)) > FLIPS
