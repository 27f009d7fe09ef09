"""One sidecar's source, as the stream asks it."""

import asyncio

import msgspec
import pytest

from amalgam8.controller import rulebook
from amalgam8.controller.book import Rulebook
from amalgam8.controller.plans import Plans
from amalgam8.controller.slices import FleetLimits
from amalgam8.controller.store import Mirror
from amalgam8.controller.watch import PlanSource
from amalgam8.model.caller import caller
from amalgam8.model.stream import PROTOCOL, Hello
from amalgam8.routing.plan import PlanDelta, PlanSnapshot
from amalgam8.runtime.feed import Gap
from tests.controller.rules import route, sourced, write


async def test_a_source() -> None:
    mirror, sent = Mirror(Rulebook()), list[str]()
    source = PlanSource(
        "epoch", "key", caller("web"), mirror, Plans(mirror), FleetLimits(0), "me", sent.append
    )
    assert msgspec.json.decode(source.hello(), type=Hello) == Hello("epoch", 0, PROTOCOL, "key")
    first = source.snapshot()
    assert (first.name, first.revision) == ("snapshot", 0)
    assert msgspec.json.decode(first.data, type=PlanSnapshot).destinations == {}

    waiting = asyncio.create_task(source.newer(0))
    mirror.take(rulebook.create(mirror.book, [sourced("other", "o")], write()))
    async with asyncio.timeout(5):
        assert await waiting == 1
    assert source.since(0) == (1, None)  # nothing for this caller, and the cursor moves on

    mirror.take(rulebook.create(mirror.book, [route("r")], write()))
    reached, event = source.since(1)
    assert event is not None
    assert (reached, event.revision, event.name) == (2, 2, "delta")
    assert list(msgspec.json.decode(event.data, type=PlanDelta).changed) == ["reviews"]
    with pytest.raises(Gap):
        source.since(3)
    assert sent == ["snapshot", "delta"]
