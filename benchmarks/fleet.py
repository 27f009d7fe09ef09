"""One controller and 1,000 sidecars: time until a change is applied everywhere, and a return of all at once.

The controller is a process; so are the sidecars, CROWD in each, made of the agent's own clients, which
confirm at once whatever comes. 5,000 rules in 50 services, SQLite. Figures of the controller's processor time
and memory are printed without an aim.
"""

import asyncio
import contextlib
import os
import resource
import sys
import tempfile
import time
import uuid
from collections import Counter as Tally
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from tests.conftest import free_port
from tests.controller.process import Process, controller

from amalgam8.clients.controller import ControllerClient, How
from amalgam8.clients.http import Http
from amalgam8.clients.watch import Watch
from amalgam8.model.caller import Caller, caller
from amalgam8.model.report import PlanStamp
from amalgam8.model.stream import Hello
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.proxy import Confirmed, Stamp
from amalgam8.sidecar.report import Reporter
from benchmarks.figures import line, quantile

SIDECARS = 1000
CROWD = 500
SERVICES = 50
RULES_EACH = 100
CHANGES = 60
FEW = 10
"""Sidecars that carry the tag ``few``."""

APPLIED_AIM = 1.0
RETURN_AIM = 10.0


def who(number: int) -> Caller:
    """The sidecar of this number; the first FEW carry a tag that the others do not."""
    tags = ["v1", "few"] if number < FEW else [f"v{number % 2 + 1}"]
    return caller(f"service-{number % SERVICES}", tags)


def rules() -> list[dict[str, Any]]:
    """RULES_EACH rules for each service: one route for everybody, the others by header."""
    found: list[dict[str, Any]] = []
    for service in range(SERVICES):
        for number in range(RULES_EACH):
            rule = {
                "id": f"rule-{service}-{number}",
                "destination": f"service-{service}",
                "priority": number,
                "route": {"backends": [{"tags": ["v1"]}]},
            }
            if number:
                rule["match"] = {"headers": {"cookie": f"user=u{number}-{service}"}}
            found.append(rule)
    return found


class Stamped(msgspec.Struct, frozen=True):
    """What is read of a Plan here: its name. What is in it is another benchmark's."""

    revision: int
    hash: str


class Simulated:
    """One sidecar without a proxy: the agent's client and its reporter; whatever comes is confirmed."""

    def __init__(self, url: str, number: int) -> None:
        self._http = Http(url)
        identity, own = str(uuid.UUID(int=number + 1)), who(number)
        self._confirmed = Latest[Confirmed | None](None)
        self._key = Latest("")
        query = [("id", identity), ("service", own.service), ("tags", ",".join(own.tags))]
        self._watch = Watch(self._http, "/v1/plan/watch", query, Stamped, Stamped, "the controller")
        client = ControllerClient(self._http)
        self._reporter = Reporter(client, identity, own, "none", self._confirmed, self._key)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._reporter.run())

    async def _follow(self) -> None:
        async for event in self._watch.events():
            if isinstance(event, Hello):
                self._key.set(event.key)
            elif isinstance(event, Stamped):
                self._confirmed.set(Confirmed(Stamp(PlanStamp(event.revision, event.hash))))


async def crowd(url: str, first: int, count: int) -> None:
    """Be sidecars until the parent ends."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(first, first + count):
            tasks.create_task(Simulated(url, number).run())


@contextlib.asynccontextmanager
async def crowds(url: str) -> AsyncIterator[None]:
    """All sidecars, in processes of their own, inside the block."""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.fleet", url, str(first), str(CROWD)
        )
        for first in range(0, SIDECARS, CROWD)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            await process.wait()


async def run() -> AsyncIterator[str]:
    """Measure; gives each line to print once it is known."""
    _allow_files()
    port = free_port()
    http = Http(f"http://127.0.0.1:{port}", timeout=60)
    client = ControllerClient(http)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "controller.db"
        async with controller(path, port) as process:
            await client.apply(rules())
            async with crowds(f"http://127.0.0.1:{port}"):
                await _all_applied(client)
                for text in await _changes(http, client, process):
                    yield text
                process.signal(9)
                await process.ended()
                async with controller(path, port) as again:
                    for text in await _return(http, client, again):
                        yield text
    await http.close()


async def _changes(http: Http, client: ControllerClient, process: Process) -> list[str]:
    """Change a rule that concerns everybody, then one that concerns FEW."""
    spent = _processor(process)
    everybody = [await _change(client, number, few=False) for number in range(CHANGES)]
    spent = _processor(process) - spent
    before = await _deltas(http)
    few = [await _change(client, number, few=True) for number in range(CHANGES)]
    sent = (await _deltas(http) - before) / CHANGES
    return [
        line(
            f"rule → applied in all {SIDECARS}, p50 of {CHANGES}", quantile(everybody, 0.5), APPLIED_AIM, "s"
        ),
        line(
            f"rule → applied in all {SIDECARS}, p99 of {CHANGES}", quantile(everybody, 0.99), APPLIED_AIM, "s"
        ),
        line(f"rule → applied in the {FEW} that it concerns, p99", quantile(few, 0.99), APPLIED_AIM, "s"),
        line(f"Plans sent for a change that concerns {FEW}", sent, FEW, ""),
        f"controller: {spent / CHANGES:.2f} s of processor time per change of all, {_memory(process)} MB",
    ]


async def _change(client: ControllerClient, number: int, *, few: bool) -> float:
    """Seconds from sending a rule until every sidecar that it concerns has confirmed it."""
    rule: dict[str, Any] = {
        "id": "few" if few else "everybody",
        "destination": "service-0",
        "priority": 1000,
        "route": {"backends": [{"tags": [f"v{number % 2 + 1}"]}]},
        "match": {"source": {"tags": ["few"]}} if few else {"headers": {"x": str(number)}},
    }
    started = time.perf_counter()
    wrote = await (client.create if not number else client.update)([rule], How(wait=30))
    took = time.perf_counter() - started
    assert wrote.applied, wrote
    assert few or wrote.concerned == SIDECARS
    return took


async def _return(http: Http, client: ControllerClient, process: Process) -> list[str]:
    """From a controller that serves again until all have come back and confirmed."""
    started = time.perf_counter()
    await _all_applied(client)
    took = time.perf_counter() - started
    metrics = (await http.request("GET", "/metrics")).body.decode()
    wrong = sum(
        float(text.rsplit(" ", 1)[1])
        for text in metrics.splitlines()
        if text.startswith("a8_controller_requests_total") and 'status="5' in text
    )
    return [
        line(f"all {SIDECARS} come back to a new controller", took, RETURN_AIM, "s"),
        line("answers with an error meanwhile", wrong, 0, ""),
        f"controller: {_processor(process):.1f} s of processor time for the return, {_memory(process)} MB",
    ]


async def _all_applied(client: ControllerClient, within: float = 120.0) -> None:
    limit = time.monotonic() + within
    while True:
        rows = await client.sidecars()
        if sum(row.state == "applied" for row in rows) == SIDECARS:
            return
        assert time.monotonic() < limit, Tally(row.state for row in rows)
        await asyncio.sleep(0.25)


async def _deltas(http: Http) -> float:
    metrics = (await http.request("GET", "/metrics")).body.decode()
    return sum(
        float(text.rsplit(" ", 1)[1])
        for text in metrics.splitlines()
        if text.startswith("a8_controller_events_total") and 'event="delta"' in text
    )


def _processor(process: Process) -> float:
    """Seconds of processor time that it has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(process: Process) -> int:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def _allow_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    _allow_files()
    uvloop.run(
        crowd(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    )  # so that they take less of the machine
