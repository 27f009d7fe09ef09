"""Rollouts on bookinfo, with real processes: a good version, a bad one, one that nobody calls."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import msgspec
import pytest

from amalgam8.clients.controller import ControllerClient
from amalgam8.clients.http import Http
from amalgam8.clients.rollout import Rollout
from tests.conftest import eventually
from tests.e2e.mesh import BIN
from tests.e2e.test_bookinfo import RULES, Demo, demo

__all__ = ["demo"]  # a fixture
pytestmark = pytest.mark.timeout(300)

READERS = 12
INTERVAL = 10
QUICKLY = ("--interval", f"{INTERVAL}s", "--min-requests", "20", "--steps", "50,100")


async def a8ctl(demo: Demo, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command, as a person would run it."""
    process = await asyncio.create_subprocess_exec(
        BIN / "a8ctl",
        *arguments,
        env={**os.environ, **demo._environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@contextlib.asynccontextmanager
async def readers(demo: Demo) -> AsyncIterator[list[str]]:
    """People who read pages, one after another; yields what they saw so far."""
    seen: list[str] = []

    async def read() -> None:
        while True:
            seen.append(await demo.stars())

    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(read()) for _ in range(READERS)]
        yield seen
        for task in reading:
            task.cancel()


async def of_reviews(demo: Demo) -> Rollout:
    http = Http(f"http://127.0.0.1:{demo.controller}")
    try:
        return (await ControllerClient(http).rollouts())[0]
    finally:
        await http.close()


async def test_on_bookinfo(demo: Demo) -> None:
    await demo.a8ctl("rule-create", "-f", str(RULES / "all-v1.yaml"))
    await eventually(lambda: demo.sees("none"), what="v1 for all: no stars")

    # Nobody calls it: the end of the first interval is the end of it all.
    code, output = await a8ctl(demo, "rollout", "reviews", "version=v3", *QUICKLY)
    assert code == 3, output
    assert "only 0 calls reached version=v3" in output
    assert "all calls go to version=v1 again" in output

    # 5 % of the answers of v2 are errors, since that many of the ratings that it wants are.
    broken = {
        "id": "broken",
        "destination": "ratings",
        "match": {"source": {"name": "reviews", "tags": ["version=v2"]}},
        "actions": [{"action": "abort", "return_code": 503, "probability": 0.05}],
    }
    http = Http(f"http://127.0.0.1:{demo.controller}")
    await http.request("POST", "/v1/rules", {"rules": [broken]})
    async with readers(demo) as seen:
        await eventually(lambda: enough(seen, 50), within=30, what="readers")
        code, output = await a8ctl(demo, "rollout", "reviews", "version=v2", *QUICKLY)
        over = len(seen)
        assert code == 1, output
        assert "calls failed; 1 % are allowed" in output
        found = await of_reviews(demo)
        assert (found.state, found.share) == ("failed", 0)
        assert (
            len([event for event in found.events if ": good: " in event.text]) <= 1
        )  # two intervals at most
        await eventually(lambda: enough(seen, over + 100), within=30, what="readers")
        # Pages that were under way when the command ended may have begun before.
        assert set(seen[over + READERS :]) == {"none"}
        assert "black" in seen

        # What is called can be seen, and a good version becomes the default.
        rows = msgspec.json.decode((await a8ctl(demo, "top", "-d", "reviews", "-o", "json"))[1])
        assert ["v1", "version=v1"] in [sorted(row["version"]) for row in rows], rows
        assert all(row["requests_per_second"] > 0 for row in rows)
        code, output = await a8ctl(
            demo, "rollout", "reviews", "version=v3", *QUICKLY, "--max-p99", "10s", "--max-errors", "1%"
        )
        assert code == 0, output
        over = len(seen)
        await eventually(lambda: enough(seen, over + 100), within=30, what="readers")
        assert set(seen[over + READERS :]) == {"red"}
    listed = await demo.a8ctl("route-list", "-s", "reviews", "-o", "json")
    assert msgspec.json.decode(listed)[0]["default"] == "version=v3"
    await http.close()


async def enough(seen: list[str], count: int) -> bool:
    return len(seen) >= count
