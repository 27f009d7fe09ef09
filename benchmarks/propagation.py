"""From the answer to a rule's write until traffic follows: 200 changes, one after another.

A real registry, controller, sidecar with Envoy and two backends. After each PUT was answered, calls are
sent one after another until one is answered by the new version.
"""

import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.e2e.mesh import mesh, route

from benchmarks.figures import line, quantile

CHANGES = 200
P50_AIM, P99_AIM = 30.0, 100.0


async def run() -> AsyncIterator[str]:
    """Measure; gives each line to print once it is known."""
    delays: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with mesh(Path(folder)) as running:
            for service in ("reviews:v1", "reviews:v2"):
                await running.add(service)
            caller = await running.add("web", backend=False)
            await running.rules.create([route("reviews", {"tags": ["v1"]}, id="flip")])
            await running.ready()
            for i in range(CHANGES):
                version = "v2" if i % 2 == 0 else "v1"
                await running.rules.update([route("reviews", {"tags": [version]}, id="flip")])
                answered = time.perf_counter()
                while await caller.version("/reviews/x") != version:
                    if time.perf_counter() - answered > 10:
                        raise AssertionError("traffic did not follow within 10 s\n" + running.tails())
                delays.append((time.perf_counter() - answered) * 1000)
    yield line(f"rule answered → traffic follows, p50 of {CHANGES}", quantile(delays, 0.50), P50_AIM, "ms")
    yield line(f"rule answered → traffic follows, p99 of {CHANGES}", quantile(delays, 0.99), P99_AIM, "ms")
