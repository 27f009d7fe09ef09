"""The sidecar's nginx against a bare nginx that only passes on, and a static Envoy, in one run, alternating.

All have one worker and write access records. The sidecar knows 50 services; one of them has no rule, one
has 20 with header patterns, and every call carries the header that they look at. Proxies run on one
processor, instances and ``wrk`` on the other. Ratios are of requests per second; processor time per
request, which other load disturbs less, stands beside them.
"""

import asyncio
import contextlib
import os
import statistics
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from tests.conftest import free_port

from amalgam8.model.caller import caller
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile  # noqa: A004 - the field's own word
from amalgam8.routing.resolve import resolve
from amalgam8.sidecar.nginx.adapter import Nginx
from amalgam8.sidecar.proxy import Desired, Stamp
from benchmarks.baselines import bare, instances, worker_of
from benchmarks.figures import line
from benchmarks.load import Load, load
from benchmarks.sidecar import instances as known
from benchmarks.sidecar import rules, static_envoy

SECONDS = 3
ROUNDS = 5
PORTS = 4
COOKIE = "Cookie: session=6b1f0e5ad9c84e0f; user=somebody; theme=dark"
PATHS = {"no rules": ("/svc1/x", 0.85), "20 rules": ("/svc0/x", 0.70)}
ENVOY_AIM = 2.0
ADDED_AIM = 40.0


async def run() -> list[str]:
    """Measure; returns the lines to print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = [free_port() for _ in range(PORTS)]
        async with (
            instances(folder, ports, cpu=1) as direct,
            bare(folder, ports, cpu=0) as plain,
            static_envoy(folder, ports) as envoy,
            sidecar(folder / "sidecar", 50, ports) as ours,
        ):
            against = {"bare": plain, "envoy": envoy, "direct": (ports[0], direct)}
            return [text for what in PATHS for text in await _compare(what, ours, against)]


async def _compare(what: str, ours: tuple[int, int], others: dict[str, tuple[int, int]]) -> list[str]:
    path, aim = PATHS[what]
    lines = []
    for connections in (32, 1):
        found: dict[str, list[Load]] = {name: [] for name in ("ours", *others)}
        for _ in range(ROUNDS):
            for name, (port, pid) in {"ours": ours, **others}.items():
                asked = "/svc0/x" if name == "envoy" else path
                found[name].append(await load(port, pid, asked, connections, SECONDS, (COOKIE,)))
        for name, least in (("bare", aim), ("envoy", ENVOY_AIM)):
            shown = f"{what}, {connections} connections, times {name}"
            pairs = list(zip(found["ours"], found[name], strict=True))
            rate = statistics.median(one.rate / other.rate for one, other in pairs)
            cost = statistics.median(other.cost / one.cost for one, other in pairs)
            lines += [
                line(f"{shown}: requests/s", rate, least, "×", at_most=False),
                line(f"{shown}: per processor second", cost, least, "×", at_most=False),
            ]
        lines.append(
            f"{'':4}"
            + ", ".join(
                f"{name} {statistics.median(each.rate for each in seen) / 1000:.1f}k/s"
                f" {statistics.median(each.cost for each in seen):.1f} µs"
                for name, seen in found.items()
            )
        )
        if connections == 1:
            added = statistics.median(
                one.p50 - other.p50 for one, other in zip(found["ours"], found["direct"], strict=True)
            )
            lines.append(line(f"{what}, 1 connection, added to the median", added, ADDED_AIM, "µs"))
    return lines


@contextlib.asynccontextmanager
async def sidecar(folder: Path, services: int, ports: list[int]) -> AsyncIterator[tuple[int, int]]:
    """Port and worker of an nginx that is driven as in a sidecar."""
    os.mkdir(folder, mode=0o700)
    port, web = free_port(), caller("web", ["v1"])
    proxy = Nginx(
        state_dir=folder, listen_host="127.0.0.1", http_port=port, own_service=web, access_log=folder / "log"
    )
    part = compile(read_list({"rules": list(rules())}), web)
    assert part is not None
    running = asyncio.ensure_future(proxy.run())
    try:
        proxy.desired.set(Desired(resolve({"svc0": part}, known(services, ports), 0), Stamp()))
        async with asyncio.timeout(60):
            await proxy.confirmed.newer(0)
        confirmed, pid = proxy.confirmed.value, proxy.pid
        assert confirmed is not None
        assert pid is not None
        assert not confirmed.rejected, confirmed.rejected
        worker = await worker_of(pid)
        os.sched_setaffinity(worker, {0})
        yield port, worker
    finally:
        running.cancel()
        await asyncio.wait([running])
