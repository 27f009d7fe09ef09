"""The app's process, with real ones."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar import launch
from amalgam8.sidecar.supervise import start, startable
from tests.conftest import eventually
from tests.sidecar.test_launch import alive


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


async def file_with_text(path: Path) -> str:
    async def read() -> str:
        return path.read_text() if path.exists() else ""

    return await eventually(read, what=f"text in {path}")


async def gone(pid: int) -> None:
    async def ended() -> bool:
        return not alive(pid)

    await eventually(ended, what=f"the end of {pid}")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
async def test_the_exit_code_is_that_of_shells(script: str, code: int) -> None:
    app = await start(sh(script), {})
    assert await app.wait() == code
    assert not app.running
    await app.stop()


async def test_a_program_that_vanished_shows_in_the_code() -> None:
    app = await start(("/no/such/program",), {})
    assert await app.wait() == launch.NOT_FOUND


async def test_the_environment_is_ours_and_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    app = await start(sh(f"echo $OURS $A8_PROXY_URL > {tmp_path}/out"), {"A8_PROXY_URL": "http://x:1"})
    assert await app.wait() == 0
    assert (tmp_path / "out").read_text() == "1 http://x:1\n"


async def test_it_is_asked_to_end_first(tmp_path: Path) -> None:
    trap = f"trap 'echo asked > {tmp_path}/end; exit 3' TERM"
    app = await start(sh(f"{trap}; echo up > {tmp_path}/up; while :; do sleep 0.01; done"), {})
    await file_with_text(tmp_path / "up")
    assert app.running
    await app.stop()
    assert (tmp_path / "end").read_text() == "asked\n"
    assert await app.wait() == 3


async def test_who_does_not_listen_is_killed(tmp_path: Path) -> None:
    app = await start(sh(f"trap '' TERM; echo up > {tmp_path}/up; while :; do sleep 0.01; done"), {})
    await file_with_text(tmp_path / "up")
    await app.stop(grace=0.05)
    assert await app.wait() == 128 + signal.SIGKILL


async def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    app = await start(sh(f"sleep 600 & echo $! > {tmp_path}/child; wait"), {})
    child = int(await file_with_text(tmp_path / "child"))
    assert os.getpgid(child) == app.pid
    assert os.getpgid(child) != os.getpgid(0)
    await app.stop()
    await gone(child)


async def test_what_it_left_behind_ends_too(tmp_path: Path) -> None:
    app = await start(sh(f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/child"), {})
    assert await app.wait() == 0
    child = int((tmp_path / "child").read_text())
    assert alive(child)
    await app.stop()
    await gone(child)


async def test_stopping_is_not_waiting_for_ever() -> None:
    app = await start(sh("exit 0"), {})
    await app.wait()
    async with asyncio.timeout(10):
        await app.stop()
        await app.stop()


def test_a_command_is_looked_for_beforehand(tmp_path: Path) -> None:
    startable(("sh",))
    with pytest.raises(InvalidSetting, match="command: no-such-program is not there"):
        startable(("no-such-program",))
    (tmp_path / "data").touch(mode=0o644)
    with pytest.raises(InvalidSetting, match="cannot be run"):
        startable((str(tmp_path / "data"),))
