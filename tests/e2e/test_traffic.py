"""A whole mesh of real processes: rules and instances change, the sky falls, and traffic goes on."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from amalgam8.model.errors import A8Error
from tests.conftest import eventually
from tests.e2e.mesh import Mesh, Sidecar, mesh, route

pytestmark = pytest.mark.timeout(240)

V1, V2 = {"tags": ["v1"]}, {"tags": ["v2"]}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with mesh(tmp_path) as made:
        yield made


class Load:
    """Steady requests through one sidecar until told to stop; remembers what went wrong."""

    def __init__(self, sidecar: Sidecar, path: str, rate: float) -> None:
        self._sidecar = sidecar
        self._path = path
        self._rate = rate
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []

    async def run(self, stop: asyncio.Event, workers: int = 8) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(self._worker(stop, workers / self._rate))

    async def _worker(self, stop: asyncio.Event, period: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + random.uniform(0, period)
        while not stop.is_set():
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += period
            try:
                answer = await self._sidecar.version(self._path)
            except A8Error as error:
                answer = str(error)
            self.answers[answer] += 1
            if not answer.startswith("v"):
                self.failures.append(answer)


async def test_two_callers_get_different_plans(running: Mesh) -> None:
    await running.add("reviews:v1")
    web = await running.add("web:v1", backend=False)
    shop = await running.add("shop", backend=False)
    await running.ready()
    sourced = route("reviews", V1, id="for-web", match={"source": {"name": "web", "tags": ["v1"]}})
    await running.rules.create([sourced])
    await running.ready()
    for sidecar, expected in ((web, ["reviews"]), (shop, [])):
        plan = (await sidecar.admin.request("GET", "/-/plan")).json()
        assert list(plan["destinations"]) == expected


async def test_no_request_fails_while_rules_flip_and_instances_come_and_go(running: Mesh) -> None:
    for service in ("reviews:v1", "reviews:v2"):
        await running.add(service)
    caller = await running.add("web", backend=False)
    await running.rules.create([route("reviews", V1, id="flip")])
    await running.ready()
    stop = asyncio.Event()
    load = Load(caller, "/reviews/x", rate=500)

    async def flip() -> None:
        for i in range(200):
            await running.rules.update([route("reviews", V2 if i % 2 == 0 else V1, id="flip")])
            await asyncio.sleep(0.05)

    async def come_and_go() -> None:
        for _ in range(2):
            extra = [await running.add(service) for service in ("reviews:v1", "reviews:v2")]
            await running.ready()
            await asyncio.gather(*(sidecar.stop() for sidecar in extra))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run(stop))
        changes = [tasks.create_task(flip()), tasks.create_task(come_and_go())]
        await asyncio.gather(*changes)
        stop.set()
    assert load.failures == []
    assert load.answers["v1"] > 100
    assert load.answers["v2"] > 100


async def test_traffic_survives_the_death_of_the_registry(running: Mesh) -> None:
    await running.add("reviews:v1")
    caller = await running.add("web", backend=False)
    await running.ready()
    stop = asyncio.Event()
    load = Load(caller, "/reviews/x", rate=100)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run(stop))
        await running.registry.kill()
        await asyncio.sleep(1)  # a time without a registry, not a wait for a condition
        await running.registry.start()
        await running.registry_up()

        async def registered_again() -> bool:
            return bool(await running.instances.instances())

        await eventually(registered_again, within=30, what="the instance registered again")
        before = load.answers["v1"]

        async def went_on() -> bool:
            return load.answers["v1"] > before + 100

        await eventually(went_on, within=20)
        stop.set()
    assert load.failures == []


async def test_traffic_and_rules_survive_the_death_of_the_controller(running: Mesh) -> None:
    for service in ("reviews:v1", "reviews:v2"):
        await running.add(service)
    caller = await running.add("web", backend=False)
    await running.ready()
    await running.rules.create([route("reviews", V2, id="kept")])

    async def follows(expected: str) -> bool:
        return {await caller.version("/reviews/x") for _ in range(10)} == {expected}

    await eventually(lambda: follows("v2"), within=10)
    await running.controller.kill()
    assert await follows("v2")
    await running.controller.start()
    await running.controller_up()
    await running.rules.update([route("reviews", V1, id="kept")])
    await eventually(lambda: follows("v1"), within=20)


async def test_a_sidecar_waits_for_registry_and_controller(tmp_path: Path) -> None:
    made = Mesh(tmp_path)
    caller = await made.add("web", backend=False)
    try:

        async def refuses() -> bool:
            try:
                return (await caller.get("/reviews/x")).status == 503
            except A8Error:
                return False

        await eventually(refuses, within=30, what="503 while nothing is known")
        log = caller.tail()
        await made.registry.start()
        await made.controller.start()
        await made.registry_up()
        await made.controller_up()

        async def knows() -> bool:
            return (await caller.get("/reviews/x")).status == 404

        await eventually(knows, within=20, what="404 once it is known that there is no such service")
        assert log.count("warning") + log.count("error") < 10, log
    finally:
        await made.stop()
