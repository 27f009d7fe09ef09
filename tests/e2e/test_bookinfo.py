"""The demo as a person runs it: ``a8ctl up --demo bookinfo``, then the tutorial's rules, all for real."""

import asyncio
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpcore
import pytest

from amalgam8.clients.http import Http
from amalgam8.model.errors import A8Error
from tests.conformance.expect import assert_shares
from tests.conftest import eventually, free_port
from tests.e2e.mesh import BIN, Daemon

pytestmark = pytest.mark.timeout(300)

RULES = Path(__file__).parents[2] / "examples" / "bookinfo" / "rules"


class Demo:
    """A running ``a8ctl up --demo bookinfo``, with this proxy in every sidecar."""

    def __init__(self, folder: Path, proxy: str) -> None:
        self.registry, self.controller, self.gateway = free_port(), free_port(), free_port()
        self._environ = {
            "A8_CONTROLLER_URL": f"http://127.0.0.1:{self.controller}",
            "A8_REGISTRY_URL": f"http://127.0.0.1:{self.registry}",
        }
        command = ["up", "--demo", "bookinfo", "--proxy", proxy, "--registry-port", self.registry]
        command += ["--controller-port", self.controller, "--gateway-port", self.gateway]
        self.up = Daemon("up", [BIN / "a8ctl", *map(str, command)], folder, {})
        self._folder = folder
        self.http = Http(f"http://127.0.0.1:{self.gateway}", connections=8)

    async def a8ctl(self, *arguments: str) -> str:
        """Run a command as a person would; returns what it printed."""
        process = await asyncio.create_subprocess_exec(
            BIN / "a8ctl",
            *arguments,
            env={**self._environ, "PATH": str(BIN)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def page(self, user: str = "") -> tuple[str, float]:
        """The page that a user sees, and the seconds that it took."""
        started = time.monotonic()
        headers = {"Cookie": f"user={user}"} if user else {}
        answer = await self.http.request("GET", "/productpage/productpage", headers=headers)
        return answer.body.decode(), time.monotonic() - started

    async def stars(self, user: str = "") -> str:
        """``none``, ``black``, ``red`` stars, or ``missing`` where there are no reviews at all."""
        try:
            page, _ = await self.page(user)
        except A8Error as error:
            return str(error)
        if "Reviews are unavailable" in page:
            return "missing"
        return "black" if "black" in page else "red" if "red" in page else "none"

    async def sees(self, expected: str, user: str = "", times: int = 5) -> bool:
        return {await self.stars(user) for _ in range(times)} == {expected}


@pytest.fixture(params=["envoy", "nginx"])
async def demo(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Demo]:
    made = Demo(tmp_path, request.param)
    await made.up.start()
    try:

        async def serves() -> bool:
            assert made.up.running, made.up.tail()
            return "try" in made.up.tail().lower() and await made.stars() in ("none", "black", "red")

        await eventually(serves, within=120, what="the demo to be up")
        yield made
    except BaseException:
        sys.stderr.write(made.up.tail())
        raise
    finally:
        await made.http.close()
        if made.up.running:
            await made.up.stop(within=15)


async def test_the_tutorial(demo: Demo) -> None:
    await demo.a8ctl("rule-create", "-f", str(RULES / "all-v1.yaml"))
    await eventually(lambda: demo.sees("none"), what="v1 for all: no stars")

    await demo.a8ctl("rule-create", "-f", str(RULES / "jason-v2.yaml"))
    await eventually(lambda: demo.sees("black", "jason"), what="v2 for jason")
    assert await demo.sees("none", "mary")

    await demo.a8ctl("rule-create", "-f", str(RULES / "delay.yaml"))

    async def jason_waits() -> bool:
        page, seconds = await demo.page("jason")
        return 5 <= seconds <= 8 and "Reviews are unavailable" in page

    await eventually(jason_waits, within=30, what="jason's page without reviews after two timeouts of 3 s")
    waiting = asyncio.create_task(demo.page("jason"))
    for _ in range(5):
        page, seconds = await demo.page("mary")
        assert seconds < 2
        assert "Reviews are unavailable" not in page
    await waiting

    await demo.a8ctl("rule-delete", "-i", "bookinfo-ratings-delay")
    await eventually(lambda: demo.sees("black", "jason", times=2), within=5, what="jason's reviews are back")

    await demo.a8ctl("rule-delete", "-i", "bookinfo-reviews-jason")
    await demo.a8ctl("rule-create", "-f", str(RULES / "split-v3.yaml"))
    await eventually(lambda: demo.sees("red", times=1), what="v3 for some")
    counted = Counter([await demo.stars() for _ in range(400)])
    assert_shares(counted, {"none": 0.25, "red": 0.75}, 400)


async def test_ctrl_c_ends_everything(demo: Demo) -> None:
    assert demo.up.process
    family = descendants(demo.up.process.pid)
    assert len(family) > 15  # registry, controller, gateway and six instances, each of three processes
    demo.up.process.send_signal(signal.SIGINT)
    async with asyncio.timeout(15):
        assert await demo.up.process.wait() in (0, 130)
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    with pytest.raises((A8Error, httpcore.ConnectError)):
        await demo.page()


def descendants(pid: int) -> list[int]:
    """The process ids below ``pid``."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, re.findall(r"\d+", (task / "children").read_text())):
            found += [child, *descendants(child)]
    return found
