"""Rules that change under load: no request fails, and each is answered as the old or the new rules say.

Flips, reorders, moved weights, swapped versions, timeouts and retries that come and go; over connections
that are kept open, HTTP/1.1 and HTTP/2, with requests that take longer than a change. A few changes in each
run of the tests; ``make endurance`` makes a thousand (``A8_ENDURANCE_CHANGES``, ``A8_ENDURANCE_SEED``).
"""

import asyncio
import os
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from amalgam8.model.caller import Caller
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.model.rule import rfc3339
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile  # noqa: A004 - the field's own word
from amalgam8.routing.decide import Request, decide
from amalgam8.routing.resolve import ServiceRouting, resolve
from tests.conformance.case import OWN_SERVICE
from tests.conformance.http2 import Http2Client
from tests.conformance.proxies import PROXIES
from tests.conformance.running import Bench, bench
from tests.sidecar.envoy.support import Client, Reply

CHANGES = int(os.environ.get("A8_ENDURANCE_CHANGES", "60"))
SEED = int(os.environ.get("A8_ENDURANCE_SEED", "1"))
KEPT_OPEN, STREAMS = 5, 6
VERSIONS = ("v1", "v2", "v3")

KINDS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/svc/x", {}),
    ("/svc/x", {"x-user": "jason"}),
    ("/svc/x", {"x-user": "anna"}),
    ("/svc/x", {"x-user": "jason", "x-beta": "1"}),
    ("/svc/slow-0.2", {"x-beta": "1"}),
)


class Rules:
    """Rule sets one after the other, each a small change of the one before."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._order = ["jason", "anna", "beta"]
        self._versions = dict(zip(self._order, VERSIONS, strict=True))
        self._backends: list[dict[str, Any]] = [{"tags": ["v1"]}]
        self._route: dict[str, Any] = {}
        self.kinds: Counter[str] = Counter()

    def change(self) -> list[dict[str, Any]]:
        """The next rule set, as documents."""
        kind = self._random.choice(("flip", "reorder", "weight", "swap", "attempts"))
        self.kinds[kind] += 1
        first, second = self._random.sample(VERSIONS, 2)
        if kind == "flip":
            self._backends = [{"tags": [first]}]
        elif kind == "reorder":
            self._random.shuffle(self._order)
        elif kind == "weight":
            weight = round(self._random.uniform(0.01, 0.99), 2)
            self._backends = [{"tags": [first], "weight": weight}, {"tags": [second]}]
        elif kind == "swap":
            self._versions[self._random.choice(self._order)] = first
        else:
            attempts = self._random.choice(({}, {"http_req_timeout": 9}, {"http_req_retries": 1}))
            self._route = dict(attempts)
        return self.documents()

    def documents(self) -> list[dict[str, Any]]:
        asked = {"jason": {"X-User": "jason"}, "anna": {"X-User": "anna"}, "beta": {"X-Beta": "1"}}
        for_some = [
            {
                "id": name,
                "priority": 9 - rank,
                "destination": "svc",
                "match": {"headers": asked[name]},
                "route": {"backends": [{"tags": [self._versions[name]]}], **self._route},
            }
            for rank, name in enumerate(self._order)
        ]
        for_all = {"id": "all", "destination": "svc", "route": {"backends": self._backends, **self._route}}
        return [*for_some, for_all]


class Times(msgspec.Struct):
    """When each rule set was desired and confirmed, and which instances it allows for each kind."""

    desired: list[float] = []
    confirmed: list[float] = []
    allowed: list[list[set[str]]] = []

    def may_answer(self, kind: int, start: float, end: float) -> set[str]:
        """Instances that some rule set allows that was in force between ``start`` and ``end``."""
        first = max(bisect_right(self.confirmed, start) - 1, 0)
        last = bisect_right(self.desired, end)
        return set().union(*(allowed[kind] for allowed in self.allowed[first:last]))


class Asked(msgspec.Struct):
    kind: int
    start: float
    end: float
    status: int
    instance: str
    protocol: str


@pytest.mark.timeout(120 + CHANGES)
@pytest.mark.parametrize("name", sorted(PROXIES))
async def test_no_request_fails_and_none_goes_astray(name: str, tmp_path: Path) -> None:
    random = Random(SEED)
    async with bench(name, tmp_path) as found:
        instances = placed(found)
        rules, times = Rules(random), Times()
        await change(found, times, instances, rules.documents())
        stop = asyncio.Event()
        asked: list[Asked] = []
        async with asyncio.TaskGroup() as tasks:
            for number in range(KEPT_OPEN):
                tasks.create_task(keep_open(found, asked, stop, number))
            if "http2" not in found.proxy.lacks:
                tasks.create_task(stream(found, asked, stop))
            for _ in range(CHANGES):
                await change(found, times, instances, rules.change())
                await more(asked, random.choice((0, 5, 20, 60)))
            stop.set()
    judge(asked, times)
    count = Counter(each.protocol for each in asked)
    print(f"{name}: {CHANGES} changes {dict(rules.kinds)}, requests {dict(count)}, none failed or astray")
    assert set(count) == ({"h1", "h2"} if "http2" not in found.proxy.lacks else {"h1"})
    assert len({each.instance for each in asked}) == 6


async def more(asked: list[Asked], count: int) -> None:
    """Let so many requests be answered before the next change."""
    wanted = len(asked) + count
    while len(asked) < wanted:  # noqa: ASYNC110 - the tasks that append to it end the test if they fail
        await asyncio.sleep(0.002)


def kinds(number: int) -> Iterator[int]:
    """The kinds that one client asks for in turn; the slow one is left to the first client."""
    while True:
        yield from (range(len(KINDS)) if number == 0 else range(len(KINDS) - 1))


def placed(found: Bench) -> tuple[Instance, ...]:
    """Two instances of each version."""
    return tuple(
        Instance(
            f"{version}-{number}",
            "svc",
            Endpoint("http", f"127.0.0.1:{found.pool.ports[2 * place + number]}"),
            60,
            "UP",
            tags=(version,),
        )
        for place, version in enumerate(VERSIONS)
        for number in range(2)
    )


async def change(
    found: Bench, times: Times, instances: tuple[Instance, ...], documents: list[dict[str, Any]]
) -> None:
    """Make the proxy follow these rules."""
    rules = [
        msgspec.structs.replace(rule, created=rfc3339(age))
        for age, rule in enumerate(read_list({"rules": documents}))
    ]
    part = compile(rules, Caller(OWN_SERVICE))
    assert part is not None
    routing = resolve({"svc": part}, {"svc": instances}, 0.0)
    times.allowed.append([allowed(routing, path, headers) for path, headers in KINDS])
    times.desired.append(time.monotonic())
    assert await found.follow(routing, [instance.id for instance in instances]) == {}
    times.confirmed.append(time.monotonic())


def allowed(routing: dict[str, ServiceRouting], path: str, headers: dict[str, str]) -> set[str]:
    decision = decide(routing, Request(path, {"host": "mesh", **headers}), OWN_SERVICE)
    return {name for outcome in decision.outcomes for name in outcome.instances}


async def keep_open(found: Bench, asked: list[Asked], stop: asyncio.Event, number: int) -> None:
    """One connection, and requests of each kind in turn on it."""
    async with Client(found.proxy.port) as client:
        for kind in kinds(number):
            if stop.is_set():
                break
            path, headers = KINDS[kind]
            start = time.monotonic()
            reply = await client.ask(path, headers.items())
            asked.append(answered(reply, kind, start, "h1"))


async def stream(found: Bench, asked: list[Asked], stop: asyncio.Event) -> None:
    """One connection, and several streams at a time on it."""

    async def ask(client: Http2Client, number: int) -> None:
        for kind in kinds(number):
            if stop.is_set():
                break
            path, headers = KINDS[kind]
            start = time.monotonic()
            asked.append(answered(await client.ask(path, headers.items()), kind, start, "h2"))

    async with Http2Client(found.proxy.port) as client, asyncio.TaskGroup() as tasks:
        for number in range(STREAMS):
            tasks.create_task(ask(client, number))


def answered(reply: Reply, kind: int, start: float, protocol: str) -> Asked:
    place = reply.headers.get("x-place", "")
    name = f"{VERSIONS[int(place) // 2]}-{int(place) % 2}" if place else ""
    return Asked(kind, start, time.monotonic(), reply.status, name, protocol)


def judge(asked: list[Asked], times: Times) -> None:
    failed = [each for each in asked if each.status != 200]
    assert failed == []
    astray = [
        each for each in asked if each.instance not in times.may_answer(each.kind, each.start, each.end)
    ]
    assert astray == [], f"{len(astray)} of {len(asked)}"
    narrow = sum(len(times.may_answer(each.kind, each.start, each.end)) < 6 for each in asked)
    assert narrow > len(asked) / 2, "the judgement says something about most of them"
