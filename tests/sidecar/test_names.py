"""Looking up host names: the system's answers, and what becomes of them when they change or stay away."""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from amalgam8.model.instance import Endpoint, Instance
from amalgam8.model.report import RegistryStamp
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.follow import Follower, Seen
from amalgam8.sidecar.names import NAMES_LIMIT, PLACES_LIMIT, Names, system_lookup
from amalgam8.sidecar.view import SeenInstances
from tests.conftest import eventually


class Zone:
    """A lookup whose answers a test sets; it counts what it is asked."""

    def __init__(self, **hosts: list[str]) -> None:
        self.hosts = hosts
        self.asked: Counter[str] = Counter()

    def __call__(self, host: str) -> list[str]:
        self.asked[host] += 1
        if host not in self.hosts:
            raise socket.gaierror(-2, "Name or service not known")
        return self.hosts[host]


def seen(*values: str) -> Seen:
    groups: dict[str, tuple[Instance, ...]] = {}
    for value in values:
        name = f"svc-{value}"
        groups[name] = (Instance(value, name, Endpoint("http", value), status="UP"),)
    return Seen(instances=SeenInstances(groups, RegistryStamp()))


@contextlib.asynccontextmanager
async def following(cell: Latest[Seen], lookup: Any, salt: str = "") -> AsyncIterator[Follower]:
    follower = Follower()
    task = asyncio.create_task(Names(cell, follower.take_names, salt, lookup, 0.02).run())
    try:
        yield follower
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def answers(follower: Follower, wanted: dict[str, tuple[str, ...]]) -> None:
    async def found() -> bool:
        return follower.seen.value.names == wanted

    await eventually(found, what=f"{wanted}, not {follower.seen.value.names}")


async def test_names_of_this_system_are_found_and_others_are_not() -> None:
    cell = Latest(seen("localhost:80", "no.such.name.invalid:80", "10.0.0.1:80", "[::1]:80"))
    follower = Follower()
    names = Names(cell, follower.take_names)
    task = asyncio.create_task(names.run())

    async def found() -> bool:
        return set(follower.seen.value.names) == {"localhost"}

    await eventually(found, what="localhost")
    assert set(follower.seen.value.names["localhost"]) <= {"127.0.0.1", "::1"}
    assert set(system_lookup("localhost")) >= set(follower.seen.value.names["localhost"])
    task.cancel()
    await asyncio.wait([task])


async def test_answers_change_and_the_last_ones_stay() -> None:
    zone = Zone(db=["10.0.0.1"])
    cell = Latest(seen("db:1", "later:2"))
    async with following(cell, zone) as follower:
        await answers(follower, {"db": ("10.0.0.1",)})
        zone.hosts["later"] = ["10.0.0.3"]
        await answers(follower, {"db": ("10.0.0.1",), "later": ("10.0.0.3",)})
        zone.hosts["db"] = ["10.0.0.2"]
        await answers(follower, {"db": ("10.0.0.2",), "later": ("10.0.0.3",)})
        del zone.hosts["db"]
        before = zone.asked["db"]

        async def asked_again() -> bool:
            return zone.asked["db"] > before + 2

        await eventually(asked_again)
        assert follower.seen.value.names["db"] == ("10.0.0.2",)
        zone.hosts["db"] = []
        await eventually(asked_again)
        assert follower.seen.value.names["db"] == ("10.0.0.2",)


async def test_the_order_of_an_answer_is_no_change_and_differs_between_sidecars() -> None:
    addresses = [f"10.0.0.{number}" for number in range(1, 9)]
    zone = Zone(db=addresses)
    firsts = set()
    for salt in map(str, range(20)):
        async with following(Latest(seen("db:1")), zone, salt) as follower:

            async def found(follower: Follower = follower) -> bool:
                return bool(follower.seen.value.names)

            await eventually(found)
            version, before = follower.seen.version, zone.asked["db"]
            zone.hosts["db"] = addresses[3:] + addresses[:3]

            async def asked_again(before: int = before) -> bool:
                return zone.asked["db"] > before + 1

            await eventually(asked_again)
            assert follower.seen.version == version
            firsts.add(follower.seen.value.names["db"][0])
    assert len(firsts) > 3


async def test_the_first_family_stays_first_and_there_are_limits() -> None:
    zone = Zone(
        db=["fd00::2%eth0", "10.0.0.1", "fd00::1", "fd00::1"], many=[f"10.0.1.{n}" for n in range(99)]
    )
    async with following(Latest(seen("db:1", "many:1")), zone) as follower:

        async def found() -> bool:
            return len(follower.seen.value.names) == 2

        await eventually(found)
        places = follower.seen.value.names["db"]
        assert set(places[:2]) == {"fd00::1", "fd00::2"}
        assert places[2:] == ("10.0.0.1",)
        assert len(follower.seen.value.names["many"]) == PLACES_LIMIT


async def test_a_lookup_that_hangs_holds_up_no_other_and_not_the_end() -> None:
    gate = threading.Event()

    def lookup(host: str) -> list[str]:
        if host == "hangs":
            gate.wait(20)
        return ["10.0.0.1"]

    async with following(Latest(seen("hangs:1", "db:1")), lookup) as follower:
        await answers(follower, {"db": ("10.0.0.1",)})
    gate.set()


async def test_names_that_no_instance_has_any_more_are_not_asked_for() -> None:
    zone = Zone(db=["10.0.0.1"], other=["10.0.0.2"])
    cell = Latest(seen("db:1"))
    async with following(cell, zone) as follower:
        await answers(follower, {"db": ("10.0.0.1",)})
        cell.set(seen("other:1"))
        await answers(follower, {"other": ("10.0.0.2",)})
        before = zone.asked["other"]

        async def asked_again() -> bool:
            return zone.asked["other"] > before + 2

        asked = zone.asked["db"]
        await eventually(asked_again)
        assert zone.asked["db"] == asked


async def test_too_many_names_are_not_looked_up() -> None:
    zone = Zone(**{f"n{number:04}": ["10.0.0.1"] for number in range(NAMES_LIMIT + 5)})
    async with following(Latest(seen(*(f"{name}:1" for name in zone.hosts))), zone) as follower:

        async def found() -> bool:
            return len(follower.seen.value.names) == NAMES_LIMIT

        await eventually(found, within=30)
        assert len(zone.asked) == NAMES_LIMIT
