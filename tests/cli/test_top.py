"""top against a real controller: the figures of all sidecars together."""

import json
import signal
import sys
import time

from amalgam8.cli.top import seconds
from amalgam8.model.caller import Caller
from amalgam8.model.traffic import Count, Tally, Traffic
from tests.cli.real import Real
from tests.cli.terminal import terminal
from tests.conftest import eventually

CLEAR = "\x1b[H\x1b[J"


async def counted(mesh: Real, *reports: tuple[float, Tally, Tally]) -> None:
    tenant = await mesh.controller.tenants.get("default")
    identity = await mesh.sidecar(Caller("web"))
    for at, old, new in reports:
        counts = (Count("reviews", "v1,x", old), Count("reviews", "", new))
        tenant.calls.take(identity, Traffic("e", counts), at)


async def test_the_table(mesh: Real) -> None:
    now = time.monotonic()
    await counted(
        mesh,
        (now - 10, Tally(), Tally()),
        (now, Tally(100, 5, 0, (90, 0, 10)), Tally(20, 20, 20)),
    )
    ran = await mesh("top")
    assert ran.code == 0
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in ran.out.splitlines() if line[0] == "|"
    ]
    assert rows == [
        ["Service", "Version", "Requests/s", "Errors", "p50", "p99"],
        ["reviews", "-", "2.0", "100.00 %", "-", "-"],
        ["reviews", "v1,x", "10.0", "5.00 %", "0.6 ms", "4.8 ms"],
    ]
    found = json.loads((await mesh("top", "-o", "json", "-d", "reviews")).out)
    assert [row["version"] for row in found] == [[], ["v1", "x"]]
    assert json.loads((await mesh("top", "-o", "json", "-d", "other")).out) == []


async def test_on_a_terminal_it_shows_what_is_new_until_it_is_interrupted(mesh: Real) -> None:
    now = time.monotonic()
    await counted(mesh, (now - 10, Tally(), Tally()), (now, Tally(100), Tally()))
    url = f"http://127.0.0.1:{mesh.controller.port}"
    command = (sys.executable, "-m", "amalgam8.cli.main", "--controller-url", url)
    async with terminal(*command, "top", "--every", "0.5s") as screen:

        async def frame() -> str:
            """The whole of the newest one that ended."""
            *_, last = ["", *screen.shown().split(CLEAR)[1:]]
            return last if "Ctrl-C ends this." in last else ""

        assert "10.0" in await eventually(frame)
        assert "1 sidecar report" in await frame()
        await counted(mesh, (now - 10, Tally(), Tally()), (now, Tally(230), Tally()))

        async def renewed() -> bool:
            return "33.0" in await frame() and "2 sidecars report" in await frame()

        await eventually(renewed, what="figures of another sidecar")
        screen.process.send_signal(signal.SIGINT)
        assert await screen.process.wait() == 130
        assert "Traceback" not in screen.shown()


async def test_whoever_looks_makes_reports_come_quickly(mesh: Real) -> None:
    identity = await mesh.sidecar(Caller("web"))
    tenant = await mesh.controller.tenants.get("default")
    assert tenant.calls.pace(0) is None
    assert (await mesh("top", "--once")).code == 0
    answer = await mesh.controller.client.report(identity, await mesh.report_of(identity, Caller("web")))
    assert answer.report_in == 2.0


async def test_a_duration_that_is_none(mesh: Real) -> None:
    ran = await mesh("top", "--every", "soon")
    assert ran.code == 2
    assert "--every" in ran.err


def test_latencies_for_people() -> None:
    assert [seconds(value) for value in (None, 0.0123, 2.5)] == ["-", "12.3 ms", "2.50 s"]
