"""Two real controllers on one real Valkey: a ledger for both, and either may die."""

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from amalgam8.clients.controller import ControllerClient, How
from amalgam8.clients.http import Http, Refusal
from amalgam8.model.caller import Caller, caller
from amalgam8.model.errors import Unreachable
from amalgam8.model.report import PlanStamp, SidecarReport
from amalgam8.model.stream import Hello
from amalgam8.routing.plan import DestinationPlan, PlanDelta, PlanSnapshot
from tests.conftest import eventually
from tests.controller.process import Process, controller
from tests.controller.rules import document
from tests.valkey import PASSWORD, Valkey, valkey

pytestmark = pytest.mark.timeout(120)


class Side:
    """One controller: its process and its client."""

    def __init__(self, process: Process, http: Http) -> None:
        self.process = process
        self.http = http
        self.client = ControllerClient(http)


@contextlib.asynccontextmanager
async def side(server: Valkey, tmp_path: Path) -> AsyncIterator[Side]:
    settings: dict[str, Any] = {"database_type": "redis", "database_host": f"unix://{server.socket}"}
    async with controller(tmp_path / "none", database_password=PASSWORD, **settings) as process:
        http = Http(f"http://127.0.0.1:{process.port}", connections=16)
        try:
            yield Side(process, http)
        finally:
            await http.close()


class Sidecar:
    """Follows its Plan at one controller, and reports each state there."""

    def __init__(self, client: ControllerClient, who: Caller) -> None:
        self.id = str(uuid.uuid4())
        self.events: list[Any] = []
        self.parts: dict[str, DestinationPlan] = {}
        self._client = client
        self._who = who

    async def follow(self) -> None:
        key = ""
        async for event in self._client.watch_plan(self.id, self._who).events():
            self.events.append(event)
            if isinstance(event, Hello):
                key = event.key
            elif isinstance(event, (PlanSnapshot, PlanDelta)):
                if isinstance(event, PlanSnapshot):
                    self.parts = dict(event.destinations)
                else:
                    gone = {*event.removed}
                    kept = {name: part for name, part in self.parts.items() if name not in gone}
                    self.parts = kept | dict(event.changed)
                stamp = PlanStamp(event.revision, event.hash)
                await self._client.report(
                    self.id, SidecarReport(key, self._who.service, self._who.tags, "envoy", stamp)
                )


@contextlib.asynccontextmanager
async def following(client: ControllerClient, who: Caller) -> AsyncIterator[Sidecar]:
    sidecar = Sidecar(client, who)
    task = asyncio.create_task(sidecar.follow())
    try:
        yield sidecar
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_write_at_one_waits_for_the_sidecars_of_the_other(tmp_path: Path) -> None:
    with valkey(durable=True) as server:
        async with (
            side(server, tmp_path) as one,
            side(server, tmp_path) as other,
            following(other.client, caller("web")) as sidecar,
        ):

            async def known() -> bool:
                return [row.id for row in await one.client.sidecars()] == [sidecar.id]

            await eventually(known, what="the other's sidecar")
            wrote = await one.client.create([document(id="a")], How(wait=10))
            assert (wrote.applied, wrote.concerned) == (True, 1)
            status = await one.client.status("a")
            assert [(found.id, found.state) for found in status.sidecars] == [(sidecar.id, "applied")]
            assert sidecar.parts["reviews"].routes[0].rule == "a"


async def test_either_may_die_and_nothing_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    """While both are written to, one is killed; the other's stream goes on without a gap."""
    acknowledged: list[str] = []
    with valkey(durable=True) as server:
        async with (
            side(server, tmp_path) as one,
            side(server, tmp_path) as other,
            following(other.client, caller("web")) as sidecar,
        ):

            async def write(client: ControllerClient, name: str) -> None:
                for number in range(40):
                    await client.create([document(id=f"{name}-{number}")])
                    acknowledged.append(f"{name}-{number}")

            async def killed() -> None:
                with contextlib.suppress(Unreachable):
                    await write(one.client, "one")

            async def kill() -> None:
                async def enough() -> bool:
                    return sum(name.startswith("one") for name in acknowledged) >= 10

                await eventually(enough)
                one.process.signal(signal.SIGKILL)

            await asyncio.gather(killed(), write(other.client, "other"), kill())
            rules = await other.client.rules()
            kept = {rule["id"] for rule in rules.rules}
            assert kept >= {*acknowledged}
            assert len(kept - {*acknowledged}) <= 1, "at most the one that was under way"
            assert rules.revision == len(kept)

            async def caught_up() -> bool:
                return {found.rule for found in sidecar.parts["reviews"].routes} == kept

            await eventually(caught_up)
    events = sidecar.events
    assert [type(event) for event in events[:2]] == [Hello, PlanSnapshot]
    assert all(isinstance(event, PlanDelta) for event in events[2:])


async def test_a_store_that_is_away_refuses_writes_and_nothing_else(tmp_path: Path) -> None:
    with valkey(durable=True) as server:
        async with side(server, tmp_path) as one:
            await one.client.create([document(id="a")])
            async with following(one.client, caller("web")) as sidecar:

                async def there() -> bool:
                    return "reviews" in sidecar.parts

                await eventually(there)
                server.kill()
                with pytest.raises(Refusal) as caught:
                    await one.client.create([document(id="b")])
                assert caught.value.status == 503
                assert [rule["id"] for rule in (await one.client.rules()).rules] == ["a"]
                server.start()

                async def written() -> bool:
                    with contextlib.suppress(Refusal):
                        await one.client.create([document(id="b")])
                        return True
                    return False

                await eventually(written)

                async def both() -> bool:
                    return {found.rule for found in sidecar.parts["reviews"].routes} == {"a", "b"}

                await eventually(both)
        assert sum(isinstance(event, PlanSnapshot) for event in sidecar.events) == 1
