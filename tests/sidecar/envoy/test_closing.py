"""Aborts without an answer through a real Envoy."""

import asyncio
import contextlib
import shutil
from collections import Counter

from amalgam8.routing.plan import (
    FaultEntry,
    PlanAbort,
    PlanDelay,
)
from tests.sidecar.envoy.support import (
    Mesh,
    attempts,
    backends,
    simple,
    when,
)


async def test_an_abort_without_an_answer_closes_the_connection(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        aborts = (PlanAbort(418, 0.5), PlanAbort(-1))
        fault = (FaultEntry(rule="f", match=when(f="1"), aborts=aborts),)
        for more in ({}, {"timeout": 5.0}, {"retries": 1}):
            one.calls = 0
            await mesh.follow(attempts(one.peer(), faults=fault, **more))
            found: Counter[object] = Counter()
            for _ in range(40):
                try:
                    found[(await mesh.ask("/svc/", ("f", "1"))).status] += 1
                except asyncio.IncompleteReadError as error:
                    found["cut" if error.partial else "closed"] += 1
            assert found.keys() == {418, "closed"}, more
            assert one.calls == 0
            assert (await mesh.ask("/svc/")).status == 200
            assert (await mesh.ask("/svc/status-599")).status == 599
            assert (await mesh.ask("/svc/status-599")).headers.get("x-a8-end") is None


async def test_an_abort_without_an_answer_is_retried(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        fault = (FaultEntry(rule="f", aborts=(PlanAbort(-1, 0.5),)),)
        await mesh.follow(attempts(one.peer(), faults=fault, retries=2))
        answered = 0
        for _ in range(200):
            with contextlib.suppress(asyncio.IncompleteReadError):
                answered += (await mesh.ask("/svc/")).status == 200
        assert 150 < answered < 200  # 175 expected, 4.7 the standard deviation


async def test_an_abort_without_an_answer_resets_the_stream_alone(mesh: Mesh) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    async with backends("one") as (one,):
        fault = (FaultEntry(rule="f", match=when(f="1"), aborts=(PlanAbort(-1),)),)
        await mesh.follow(simple("svc", one.peer(), faults=fault))
        url = f"http://127.0.0.1:{mesh.port}/svc/"
        done = await asyncio.create_subprocess_exec(
            *(
                curl,
                "-sS",
                "--http2-prior-knowledge",
                "-w",
                "%{num_connects} %{http_code}\n",
                "-o",
                "/dev/null",
            ),
            *("-H", "f: 1", url, "--next", "-sS", "--http2-prior-knowledge", "-w"),
            *("%{num_connects} %{http_code}\n", "-o", "/dev/null", url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, words = await done.communicate()
        assert [line.split()[1] for line in said.decode().splitlines()] == ["000", "200"]
        assert b"HTTP/2 stream 1 was not closed cleanly" in words


async def test_an_abort_of_the_same_status_is_told_from_one_without_an_answer(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        for aborts in ((PlanAbort(599, 0.5), PlanAbort(-1)), (PlanAbort(-1, 0.5), PlanAbort(599))):
            fault = FaultEntry(rule="f", delays=(PlanDelay(0.001),), aborts=aborts)
            for timeout in (0, 5.0):
                await mesh.follow(attempts(one.peer(), timeout=timeout, faults=(fault,)))
                found: Counter[object] = Counter()
                for _ in range(60):
                    try:
                        found[(await mesh.ask("/svc/")).status] += 1
                    except asyncio.IncompleteReadError:
                        found["closed"] += 1
                assert found.keys() == {599, "closed"}
                assert 10 < found[599] < 50
