"""The registry in bad company: broken framing, trickles, floods, large bodies, 10,000 idle connections.

Some seconds in each run of the tests; ``make abuse SECONDS=600`` (``A8_ABUSE_SECONDS``) goes on and shows
figures. Server, idlers and abusers are processes of their own; the test itself is the client that behaves.
"""

import asyncio
import contextlib
import json
import os
import re
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from amalgam8.clients.http import Http
from tests.conftest import eventually
from tests.registry.abuse_program import idlers
from tests.registry.test_main import HERE, PROGRAM, end

SECONDS = float(os.environ.get("A8_ABUSE_SECONDS", "0")) or 15.0
ABUSER = Path(__file__).with_name("abuse_program.py")
WANTED = idlers()
"""Connections that are held idle; less than 10,000 where the system allows fewer descriptors."""

ROUND = 0.05
"""Seconds between the rounds of the client that behaves."""

GROWTH, SLACK = 1.15, 16.0
"""How many times as large, and MB more, the process may be in the second half of the time than in the first:
halves of the time from when all connections are there."""


class Server:
    """A registry's process, seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def megabytes(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208


@contextlib.asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Server]:
    """A registry that begins with few descriptors, as where nobody has thought of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    log = directory / "log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "--api-port", "0"),
            env=HERE,
            stderr=file,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)),
        )
    try:

        async def told() -> Any:
            return re.search(r"port=(\d+)", log.read_text())

        yield Server(process, int((await eventually(told, within=20))[1]), log)
    finally:
        await end(process)


@contextlib.asynccontextmanager
async def abusing(kind: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ABUSER), kind, str(port), str(SECONDS)),
        env=HERE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        await end(process)


class Behaved:
    """A client that registers, renews, looks up and watches, one round after another."""

    def __init__(self, port: int) -> None:
        self._http = Http(f"http://127.0.0.1:{port}", timeout=30)
        self.took: dict[str, list[float]] = {"register": [], "renew": [], "look up": [], "be told": []}
        self._seen = 0
        self._newer = asyncio.Event()

    async def watch(self) -> None:
        query = [("service_name", "good")]
        async with self._http.stream("/api/v1/instances/watch", query=query, silence=60) as chunks:
            async for chunk in chunks:
                for found in re.findall(rb'"tags":\["(\d+)"\]', chunk):
                    self._seen = max(self._seen, int(found))
                self._newer.set()

    async def go_round(self, number: int) -> None:
        """Raises where an answer is another than it should be, or does not come."""
        endpoint = {"type": "http", "value": "10.0.0.1:1"}
        body = {"service_name": "good", "endpoint": endpoint, "tags": [str(number)]}
        begun = time.perf_counter()
        granted = (await self._timed("register", "POST", "/api/v1/instances", body)).json()
        await self._timed("renew", "PUT", f"/api/v1/instances/{granted['id']}/heartbeat")
        found = await self._timed("look up", "GET", "/api/v1/services/good")
        assert [one["tags"] for one in found.json()["instances"]] == [[str(number)]]
        async with asyncio.timeout(30):
            while self._seen < number:
                self._newer.clear()
                await self._newer.wait()
        self.took["be told"].append(time.perf_counter() - begun)

    async def _timed(self, name: str, method: str, path: str, body: Any = None) -> Any:
        begun = time.perf_counter()
        answer = await self._http.request(method, path, body)
        self.took[name].append(time.perf_counter() - begun)
        return answer

    async def close(self) -> None:
        await self._http.close()

    def lines(self) -> list[str]:
        shown = []
        for name, took in self.took.items():
            took.sort()
            p99 = took[int(len(took) * 0.99)]
            shown.append(
                f"{name}: {len(took)} times, median {statistics.median(took) * 1000:.1f} ms, "
                f"99 % {p99 * 1000:.1f} ms, longest {took[-1] * 1000:.1f} ms"
            )
        return shown


@pytest.mark.timeout(SECONDS + 150)
async def test_it_serves_others_keeps_its_size_and_never_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as server, contextlib.AsyncExitStack() as stack:
        behaved = Behaved(server.port)
        stack.push_async_callback(behaved.close)
        watching = asyncio.ensure_future(behaved.watch())
        stack.callback(watching.cancel)
        await behaved.go_round(1)
        before = server.megabytes()
        abusers = [
            await stack.enter_async_context(abusing(kind, server.port)) for kind in ("idle", "hostile")
        ]
        ended = [asyncio.ensure_future(process.communicate()) for process in abusers]
        number, sizes, most = 1, list[float](), 0
        while not all(one.done() for one in ended):
            number += 1
            await behaved.go_round(number)
            most = max(most, server.descriptors())
            if most >= WANTED:
                sizes.append(server.megabytes())
            assert not watching.done()
            await asyncio.sleep(ROUND)

        async def let_go() -> bool:
            return server.descriptors() < 100

        await eventually(let_go, within=30, what="connections closed")
        await behaved.go_round(number + 1)
        metrics = (await behaved._http.request("GET", "/metrics")).body.decode()
        after = server.megabytes()
    answers: Counter[str] = Counter()
    tries: Counter[str] = Counter()
    for one in ended:
        summary = json.loads((await one)[0])
        answers.update(summary["statuses"])
        tries.update(summary["tries"])
    assert most >= WANTED, "idle connections"
    half, rest = sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :]
    with capsys.disabled():
        if "A8_ABUSE_SECONDS" in os.environ:
            print(
                f"\n{SECONDS:g} s of abuse; {most} descriptors at the most\n"
                f"resident: {before:.0f} MB before, {max(half):.0f} and {max(rest):.0f} MB in the first and "
                f"second half (aim: not more than {GROWTH:g} times + {SLACK:g}), {after:.0f} MB after\n"
                + "\n".join(behaved.lines())
                + f"\nabused by: {dict(tries)}\nanswers: {dict(answers)}"
            )
    assert not [status for status in answers if status[0] == "5" or status.startswith("hung")], answers
    assert 'status="5' not in metrics
    assert all(tries[kind] for kind in ("framing", "gone", "slow", "unread", "body", "headers", "writes"))
    assert {"400", "408", "413", "431"} <= set(answers)
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "a request failed" not in log
    assert max(rest) <= max(half) * GROWTH + SLACK
