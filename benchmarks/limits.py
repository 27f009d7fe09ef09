"""How exact a limit of the fleet is: 20 sidecars, and calls that move from one of them to the other.

A real controller as a process; the agents' own code for the stream and the leases, over real sockets. Only
the proxies are played, by Envoy's arithmetic, so that there need not be twenty of them. In every window of
10 s the calls that passed are held against the budget: what passed beyond it, and what was wanted, was in
the budget and did not pass.
"""

import asyncio
import contextlib
import random
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.controller.buckets import RULE, BucketProxy, Windows
from tests.controller.process import controller

from amalgam8.clients.controller import ControllerClient
from amalgam8.clients.http import Http
from amalgam8.controller.slices import GRACE
from amalgam8.model.caller import Caller
from amalgam8.sidecar.follow import Follower
from amalgam8.sidecar.slices import SliceLease
from benchmarks.figures import line

SIDECARS = 20
RATE = 200.0
SECONDS = 60.0
SETTLED = 12.0
"""Seconds from the start that are not looked at."""

AIM = 10.0
TICK = 0.01
Load = Callable[[int, float], float]
"""Calls a second at a sidecar, at a time."""


async def run() -> AsyncIterator[str]:
    """Measure; gives each line to print once it is known."""
    loads: dict[str, Load] = {
        "all alike, twice the budget": lambda _one, _now: 2 * RATE / SIDECARS,
        "one after another calls, 5 s each": lambda one, now: (
            2 * RATE if one == int(now / 5) % SIDECARS else 0.0
        ),
        "four at random each 3 s, 1.5 times the budget": _some,
        "half of the budget, from two at a time": lambda one, now: (
            RATE / 4 if one in (int(now / 4) % SIDECARS, int(now / 7) % SIDECARS) else 0.0
        ),
    }
    for name, load in loads.items():
        windows = await measure(load)
        yield line(f"passed beyond the budget, {name}", windows.over * 100, AIM, "%")
        yield line(f"kept back within it, {name}", windows.under * 100, AIM, "%")


async def measure(load: Load, seconds: float = SECONDS) -> Windows:
    """The deviations under a load."""
    windows = Windows(RATE)
    loop = asyncio.get_running_loop()
    dice = random.Random(1)
    async with fleet() as proxies:
        start = loop.time()
        last = 0.0
        while (now := loop.time() - start) < seconds:
            came = passed = 0
            elapsed, last = now - last, now
            for number, proxy in enumerate(proxies):
                calls = _poisson(dice, load(number, now) * elapsed)
                came += calls
                passed += proxy.call(loop.time(), calls)
            if now > SETTLED:
                windows.add(now, came, passed)
            await asyncio.sleep(TICK - (loop.time() - start) % TICK)
    return windows


@contextlib.asynccontextmanager
async def fleet() -> AsyncIterator[list[BucketProxy]]:
    """A controller with one limit, and the agents' parts of SIDECARS sidecars."""
    with tempfile.TemporaryDirectory() as folder:
        async with contextlib.AsyncExitStack() as stack:
            process = await stack.enter_async_context(controller(Path(folder) / "rules.db"))
            http = Http(f"http://127.0.0.1:{process.port}", connections=200)
            stack.push_async_callback(http.close)
            client = ControllerClient(http)
            limit = {"action": "rate_limit", "requests": RATE, "scope": "fleet"}
            await client.create([{"id": RULE, "destination": "shop", "actions": [limit]}])
            await asyncio.sleep(GRACE)
            proxies = [BucketProxy(RATE, RATE) for _ in range(SIDECARS)]
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            running = []
            for proxy in proxies:
                identity, follower = str(uuid.uuid4()), Follower()
                lease = SliceLease(client, identity, follower.seen, follower.key, follower.slices, proxy)
                watch = client.watch_plan(identity, Caller("web"))
                running += [
                    tasks.create_task(follower.follow_controller(watch)),
                    tasks.create_task(lease.run()),
                ]
            yield proxies
            for task in running:
                task.cancel()


def _some(one: int, now: float) -> float:
    """Four sidecars that are drawn anew every 3 s."""
    drawn = random.Random(int(now / 3)).sample(range(SIDECARS), 4)
    return 1.5 * RATE / 4 if one in drawn else 0.0


def _poisson(dice: random.Random, mean: float) -> int:
    """Calls in a moment in which ``mean`` come on average."""
    count, left = 0, dice.expovariate(1.0)
    while left < mean:
        count += 1
        left += dice.expovariate(1.0)
    return count
