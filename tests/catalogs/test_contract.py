"""Our own catalogues keep to the contract, and the suite notices those that do not."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from amalgam8.catalogs import contract
from amalgam8.catalogs.catalog import Catalog, Found, Teller
from amalgam8.catalogs.contract import CHECKS, Broken, Check, Services, run_checks
from amalgam8.catalogs.refresh import Refresh
from amalgam8.model.instance import Endpoint, Instance, instance_id
from tests.catalogs.stages import STAGES, staged


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_catalogues_keep_the_contract(check: Check, name: str, tmp_path: Path) -> None:
    async with staged(name, tmp_path) as stage:
        await check(stage)


class Pretended:
    """A source in memory, for catalogues that are wrong on purpose."""

    tenant = "default"

    def __init__(self) -> None:
        self.services: Services = {}
        self.broken = False

    async def put(self, services: Services) -> None:
        self.services = services

    async def break_source(self) -> None:
        self.broken = True

    async def mend_source(self) -> None:
        self.broken = False

    async def fetch(self) -> Found:
        if self.broken:
            raise OSError("away")
        return self.instances()

    def instances(self) -> Mapping[str, list[Instance]]:
        found = [(name, Endpoint("http", value)) for name, some in self.services.items() for value in some]
        return {self.tenant: [Instance(instance_id(n, e), n, e, status="UP") for n, e in found]}

    def catalog(self) -> Catalog:
        return Refresh("right", self.fetch, period=0.02)


async def test_a_right_one_passes() -> None:
    await run_checks(Pretended())


class TellsInParts(Pretended):
    def catalog(self) -> Catalog:
        stage = self

        class Wrong:
            name = "wrong"

            async def run(self, teller: Teller) -> None:
                while True:
                    everything = stage.instances()[stage.tenant]
                    teller.found({stage.tenant: everything[:1]})
                    teller.found({stage.tenant: everything})
                    await asyncio.sleep(0.02)

        return Wrong()


class NeverAgain(Pretended):
    def catalog(self) -> Catalog:
        stage = self

        class Wrong:
            name = "wrong"

            async def run(self, teller: Teller) -> None:
                teller.found(stage.instances())
                await asyncio.Event().wait()

        return Wrong()


class SilentWhenEmpty(Pretended):
    async def fetch(self) -> Found:
        if not any(self.services.values()):
            await asyncio.Event().wait()
        return await super().fetch()


class BadNames(Pretended):
    def instances(self) -> Mapping[str, list[Instance]]:
        endpoints = {"127.0.0.1:9001": "", "127.0.0.1:9002": "x", "127.0.0.1:9003": "y"}
        return {
            self.tenant: [
                Instance(
                    endpoints.get(one.endpoint.value, one.id), one.service_name, one.endpoint, status="UP"
                )
                for one in super().instances()[self.tenant]
            ]
        }


class CountsIds(Pretended):
    count = 0

    def instances(self) -> Mapping[str, list[Instance]]:
        self.count += 1
        found = super().instances()[self.tenant]
        return {
            self.tenant: [
                Instance(f"{self.count}-{index}", one.service_name, one.endpoint, status="UP")
                for index, one in enumerate(found)
            ]
        }


class EmptiesItself(Pretended):
    async def fetch(self) -> Found:
        if self.broken:
            return {}
        return await super().fetch()

    def catalog(self) -> Catalog:
        right = Refresh("wrong", self.fetch, period=0.02)
        stage = self

        class Wrong:
            name = "wrong"

            async def run(self, teller: Teller) -> None:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(right.run(teller))
                    while True:
                        await asyncio.sleep(0.02)
                        if stage.broken:
                            teller.failed("away")

        return Wrong()


class GivesUp(Pretended):
    async def fetch(self) -> Found:
        return self.instances()

    def catalog(self) -> Catalog:
        stage = self

        class Wrong:
            name = "wrong"

            async def run(self, teller: Teller) -> None:
                if stage.broken:
                    teller.failed("away")
                    raise OSError("away")
                await Refresh("right", stage.fetch, period=0.02).run(teller)

        return Wrong()


class OnlyOnce(Pretended):
    def catalog(self) -> Catalog:
        stage = self

        class Wrong:
            name = "wrong"

            def __init__(self) -> None:
                self.ran = False

            async def run(self, teller: Teller) -> None:
                if self.ran:
                    await asyncio.Event().wait()
                self.ran = True
                await Refresh("right", stage.fetch, period=0.02).run(teller)

        return Wrong()


@pytest.mark.parametrize(
    ("check", "stage"),
    [
        (contract.full_set_first, TellsInParts),
        (contract.full_set_again_on_change, NeverAgain),
        (contract.an_empty_source_is_told, SilentWhenEmpty),
        (contract.instances_can_be_taken, BadNames),
        (contract.ids_survive_a_restart, CountsIds),
        (contract.a_failure_takes_nothing_away, EmptiesItself),
        (contract.a_broken_start_tells_nothing, GivesUp),
        (contract.it_can_run_again, OnlyOnce),
    ],
    ids=lambda value: value.__name__,
)
async def test_each_check_catches_what_it_is_for(check: Check, stage: type[Pretended]) -> None:
    with pytest.raises(Broken):
        await check(stage(), 0.3)


async def test_one_that_cannot_be_cancelled_is_noticed() -> None:
    class Stubborn(Pretended):
        def catalog(self) -> Catalog:
            stage = self

            class Wrong:
                name = "wrong"

                async def run(self, teller: Teller) -> None:
                    teller.found(stage.instances())
                    for _ in range(2):
                        try:
                            await asyncio.sleep(0.6)
                        except asyncio.CancelledError:
                            continue

            return Wrong()

    with pytest.raises(Broken, match="does not end"):
        await contract.full_set_first(Stubborn(), 0.2)


def test_every_check_says_what_it_holds_a_catalogue_to() -> None:
    assert all(check.__doc__ for check in CHECKS)
