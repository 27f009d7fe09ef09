"""The sidecar's nginx against a bare nginx that only passes on, and a static Envoy, in one run, alternating.

All have one worker and write access records. The sidecar knows 50 services; one of them has no rule, one
has 20 with header patterns, and every call carries the header that they look at. Proxies run on one
processor, instances and ``wrk`` on the other. Ratios are of requests per second; processor time per
request, which other load disturbs less, stands beside them.

How much Lua can cost at the least is shown by an nginx that asks it as often, and that it tells nothing.
These instances answer in so short a time that their processor sleeps between the calls of whoever is not
quite as fast as bare nginx, and each call pays for waking it; so the same is shown with instances that work.

Calls one after the other are shown twice, their rate and what a proxy adds to them. On two processors most
of the time goes until the other one wakes up, in a virtual machine above all: bare nginx adds as much and is
as little ahead of Envoy, and what ours adds beyond bare nginx stands beside it. On one processor nobody has
to be woken on another. Then: memory, before and after all these calls, and documents of 1,000 services.
"""

import asyncio
import contextlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from tests.conftest import free_port
from tests.e2e.mesh import mesh

from amalgam8.clients.registry import Registration
from amalgam8.model.caller import caller
from amalgam8.model.instance import Instance
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile  # noqa: A004 - the field's own word
from amalgam8.routing.resolve import Instances, ServiceRouting, resolve
from amalgam8.sidecar.nginx.adapter import Nginx
from amalgam8.sidecar.proxy import Desired, Stamp
from benchmarks.baselines import bare, idle, instances, worker_of
from benchmarks.figures import line, note
from benchmarks.load import Load, load, resident
from benchmarks.sidecar import instances as known
from benchmarks.sidecar import rules, static_envoy

SECONDS = 2
ROUNDS = 5
PORTS = 4
COOKIE = "Cookie: session=6b1f0e5ad9c84e0f; user=somebody; theme=dark"
PATHS = {"no rules": ("/svc1/x", 0.85), "20 rules": ("/svc0/x", 0.70)}
WORKING = "/svc1/busy"
ENVOY_AIM = 2.0
ADDED_AIM = 40.0
FEW, MANY, CHANGES, TURNS = 50, 1000, 1000, 5
WORKER_AIMS = {FEW: 15.0, MANY: 40.0}
AGENT_AIM = 50.0
APPLY_AIM, LONGEST_AIM = 300.0, 50.0


class Ours:
    """A running nginx as the sidecar drives it; ``port`` and ``worker`` as of the others."""

    def __init__(self, proxy: Nginx, port: int, worker: int) -> None:
        self.port, self.worker = port, worker
        self._proxy = proxy
        self._routing: dict[str, ServiceRouting] = {}

    async def follow(self, instances: Instances) -> float:
        """Milliseconds until every worker follows these instances beside what it knew, and the rules of svc0.

        Only services of these instances change.
        """
        part = compile(read_list({"rules": list(rules())}), caller("web", ["v1"]))
        assert part is not None
        plan = {"svc0": part} if "svc0" in instances else {}
        self._routing = {**self._routing, **resolve(plan, instances, 0)}
        seen, started = self._proxy.confirmed.version, time.perf_counter()
        stamp = msgspec.structs.replace(Stamp().plan, revision=self._proxy.desired.version + 1)
        self._proxy.desired.set(Desired(self._routing, Stamp(stamp)))
        async with asyncio.timeout(60):
            await self._proxy.confirmed.newer(seen)
        confirmed = self._proxy.confirmed.value
        assert confirmed is not None
        assert not confirmed.rejected, confirmed.rejected
        return (time.perf_counter() - started) * 1000


async def run() -> AsyncIterator[str]:
    """Measure; gives each line to print once it is known."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = [free_port() for _ in range(PORTS)]
        async with instances(folder, ports, cpu=1) as direct:
            async with (
                bare(folder, ports, cpu=0) as plain,
                static_envoy(folder, ports) as envoy,
                idle(folder, ports, cpu=0) as handlers,
                sidecar(folder / "speed") as ours,
            ):
                await ours.follow(known(FEW, ports))
                yield line(f"worker, {FEW} services", resident(ours.worker), WORKER_AIMS[FEW], "MB")
                others = {"bare": plain, "envoy": envoy, "idle Lua": handlers, "direct": (ports[0], direct)}
                for what, connections in itertools.product(PATHS, (32, 1)):
                    for text in await _compare(what, connections, (ours.port, ours.worker), others):
                        yield text
                found = await _loads(WORKING, 32, (ours.port, ours.worker), others)
                for text in _working(found):
                    yield text
                os.sched_setaffinity(direct, {0})
                for what, (path, of_bare) in PATHS.items():
                    found = await _loads(path, 1, (ours.port, ours.worker), others, cpu=0)
                    shown = f"{what}, 1 connection, all on one processor"
                    for name, least in (("bare", of_bare), ("envoy", ENVOY_AIM)):
                        yield _rate(f"{shown}, times {name}", found["ours"], found[name], least)
                    for text in _added(f"{what}, all on one processor", found):
                        yield text
                os.sched_setaffinity(direct, {1})
                yield line(
                    f"worker, {FEW} services, after calls", resident(ours.worker), WORKER_AIMS[FEW], "MB"
                )
            async with sidecar(folder / "size") as ours:
                async for text in _documents(ours, [*ports, free_port()]):
                    yield text
        (folder / "agent").mkdir()
        yield await _agent(folder / "agent")


async def _loads(
    path: str, connections: int, ours: tuple[int, int], others: dict[str, tuple[int, int]], cpu: int = 1
) -> dict[str, list[Load]]:
    """ROUNDS loads of each, alternating."""
    found: dict[str, list[Load]] = {name: [] for name in ("ours", *others)}
    for _ in range(ROUNDS):
        for name, (port, pid) in {"ours": ours, **others}.items():
            asked = "/svc0/x" if name == "envoy" else path
            found[name].append(await load(port, pid, asked, connections, SECONDS, (COOKIE,), cpu))
    return found


async def _compare(
    what: str, connections: int, ours: tuple[int, int], others: dict[str, tuple[int, int]]
) -> list[str]:
    path, of_bare = PATHS[what]
    found = await _loads(path, connections, ours, others)
    lines = []
    for name, least in (("bare", of_bare), ("envoy", ENVOY_AIM)):
        shown = f"{what}, {connections} connections, times {name}"
        cost = _cost(found["ours"], found[name])
        lines += [
            _rate(shown, found["ours"], found[name], least),
            line(f"{shown}: per processor second", cost, least, "×", at_most=False),
        ]
    shown = f"{what}, {connections} connections, idle Lua, times bare"
    lines.append(note(f"{shown}: per processor second", _cost(found["idle Lua"], found["bare"]), "×"))
    lines.append("    " + ", ".join(_shown(name, seen) for name, seen in found.items()))
    if connections == 1:
        lines += _added(f"{what}, two processors", found)
    return lines


def _working(found: dict[str, list[Load]]) -> list[str]:
    lines = []
    for name in ("ours", "idle Lua"):
        shown = f"no rules, 32 connections, instances at work, {name}, times bare"
        pairs = zip(found[name], found["bare"], strict=True)
        rate = statistics.median(one.rate / other.rate for one, other in pairs)
        lines.append(note(f"{shown}: requests/s", rate, "×"))
        lines.append(note(f"{shown}: per processor second", _cost(found[name], found["bare"]), "×"))
    return lines


def _rate(shown: str, ours: list[Load], others: list[Load], least: float) -> str:
    rate = statistics.median(one.rate / other.rate for one, other in zip(ours, others, strict=True))
    return line(f"{shown}: requests/s", rate, least, "×", at_most=False)


def _cost(ours: list[Load], others: list[Load]) -> float:
    """How many calls ours makes in the processor time of one of the others."""
    return statistics.median(other.cost / one.cost for one, other in zip(ours, others, strict=True))


def _added(what: str, found: dict[str, list[Load]]) -> list[str]:
    """What a proxy adds to the median call of one connection, and how much of it is ours."""

    def more(name: str, than: str) -> float:
        pairs = zip(found[name], found[than], strict=True)
        return statistics.median(one.p50 - other.p50 for one, other in pairs)

    return [
        line(f"{what}: added to the median", more("ours", "direct"), ADDED_AIM, "µs"),
        line(f"{what}: beyond bare nginx", more("ours", "bare"), ADDED_AIM, "µs"),
        note(f"{what}: added by bare nginx", more("bare", "direct"), "µs"),
    ]


def _shown(name: str, seen: list[Load]) -> str:
    rate = statistics.median(each.rate for each in seen) / 1000
    return f"{name} {rate:.1f}k/s {statistics.median(each.cost for each in seen):.1f} µs"


async def _documents(ours: Ours, ports: list[int]) -> AsyncIterator[str]:
    """Whole documents of MANY services while calls go on, then as many changes of one service each."""
    whole = known(MANY, ports)
    took, longest = [], []
    await ours.follow(known(FEW, ports))
    quiet = await load(ours.port, ours.worker, "/svc1/x", 8, 3, (COOKIE,))
    for turn in range(TURNS):
        moved = {name: _turned(group, turn + 1) for name, group in whole.items()}
        calls = asyncio.ensure_future(load(ours.port, ours.worker, "/svc1/x", 8, 3, (COOKIE,)))
        await asyncio.sleep(1)
        took.append(await ours.follow(moved))
        longest.append((await calls).longest / 1000)
    yield line(f"{MANY} services changed at once, all applied", statistics.median(took), APPLY_AIM, "ms")
    yield line("longest call meanwhile, median of runs", statistics.median(longest), LONGEST_AIM, "ms")
    yield f"    longest call of as long a run without changes: {quiet.longest / 1000:.1f} ms"
    for change in range(CHANGES):
        name = f"svc{change % MANY}"
        moved[name] = _turned(moved[name], 1)
        await ours.follow({name: moved[name]})
    most = resident(ours.worker)
    yield line(f"worker, {MANY} services, {CHANGES} changes later", most, WORKER_AIMS[MANY], "MB")


def _turned(group: tuple[Instance, ...], by: int) -> tuple[Instance, ...]:
    """The same instances with the tags of others."""
    tags = [instance.tags for instance in group]
    by %= len(tags)
    turned = zip(group, tags[by:] + tags[:by], strict=True)
    return tuple(msgspec.structs.replace(instance, tags=found) for instance, found in turned)


async def _agent(folder: Path) -> str:
    async with mesh(folder) as running:
        for group in known(FEW, [free_port() for _ in range(PORTS)]).values():
            for each in group:
                registration = Registration(each.service_name, each.endpoint, ttl=60, status="UP")
                await running.instances.register(registration)
        agent = await running.add("web", backend=False, proxy="nginx")
        await running.ready()
        assert agent.process is not None
        return line(f"agent, {FEW} services", resident(agent.process.pid), AGENT_AIM, "MB")


@contextlib.asynccontextmanager
async def sidecar(folder: Path) -> AsyncIterator[Ours]:
    """An nginx as in a sidecar, on the first processor."""
    os.mkdir(folder, mode=0o700)
    port, web = free_port(), caller("web", ["v1"])
    proxy = Nginx(
        state_dir=folder, listen_host="127.0.0.1", http_port=port, own_service=web, access_log=folder / "log"
    )
    running = asyncio.ensure_future(proxy.run())
    try:
        async with asyncio.timeout(10):
            while proxy.pid is None:
                await asyncio.sleep(0.01)
        proxy.desired.set(Desired({}, Stamp()))
        async with asyncio.timeout(60):
            await proxy.confirmed.newer(0)
        worker = await worker_of(proxy.pid)
        os.sched_setaffinity(worker, {0})
        yield Ours(proxy, port, worker)
    finally:
        running.cancel()
        await asyncio.wait([running])
