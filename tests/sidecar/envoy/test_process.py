"""The Envoy process: found, refused, restarted, ended."""

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from amalgam8.model.caller import caller
from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar.envoy.adapter import Envoy
from amalgam8.sidecar.envoy.process import END_TIMEOUT, find_binary
from tests.conftest import free_port
from tests.sidecar.envoy.support import LIMIT, Client, backends, running, simple, until


def envoy(folder: Path, port: int, binary: str | None = None) -> Envoy:
    return Envoy(
        state_dir=folder, listen_host="127.0.0.1", http_port=port, own_service=caller("shop"), binary=binary
    )


def test_the_binary_of_the_package_is_found() -> None:
    path = find_binary(None)
    assert path.name == "envoy"
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("binary", ["/nowhere/envoy", "no-such-command", "/etc/passwd", "/tmp"])  # noqa: S108
async def test_a_missing_binary_is_refused_with_one_line(tmp_path: Path, binary: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        await envoy(tmp_path, free_port(), binary).run()
    assert str(raised.value) == (
        f"proxy_binary: {binary} is no executable file; allowed is the path of an Envoy binary; "
        "without it, the installed package's is used"
    )


async def test_a_taken_port_is_refused_with_one_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InvalidSetting) as raised:
            await envoy(tmp_path, port).run()
    assert (
        str(raised.value) == f"http_listener_port: port {port} on 127.0.0.1 is taken (Address already in use)"
    )


async def test_a_record_that_cannot_be_written_is_refused_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"^access_log: .* cannot be written to \(No such file"):
        async with running(tmp_path, access_log=tmp_path / "no" / "a.log"):
            raise AssertionError("it runs")


async def test_a_port_that_is_taken_after_the_check_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amalgam8.sidecar.envoy.adapter.check_port", lambda *_: None)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with asyncio.timeout(LIMIT):
            with pytest.raises(InvalidSetting, match=rf"^http_listener_port: port {port} .* in use"):
                await envoy(tmp_path, port).run()


async def test_it_ends_and_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as mesh:
        pid = mesh.envoy.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"envoy.json", "slices"}


async def test_an_envoy_that_does_not_listen_to_sigterm_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "stubborn"
    script.write_text(f"#!/bin/sh\ntrap '' TERM\necho ready > {tmp_path}/ready\nwhile :; do sleep 60; done\n")
    script.chmod(0o755)
    proxy = envoy(tmp_path, free_port(), str(script))
    task = asyncio.create_task(proxy.run())
    await until(lambda: (tmp_path / "ready").exists() and proxy.pid is not None)
    pid = proxy.pid
    assert pid is not None
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=LIMIT)
    assert done
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert END_TIMEOUT <= 1.0


async def test_a_binary_that_dies_at_once_is_not_started_in_a_hot_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script, count = tmp_path / "dying", tmp_path / "count"
    script.write_text(f"#!/bin/sh\necho once >> {count}\necho 'last words' >&2\nexit 3\n")
    script.chmod(0o755)
    count.touch()
    started = time.monotonic()
    task = asyncio.create_task(envoy(tmp_path, free_port(), str(script)).run())
    await until(lambda: len(count.read_text().splitlines()) >= 4)
    assert time.monotonic() - started >= 0.1 + 0.2 + 0.4
    task.cancel()
    await asyncio.wait([task])
    assert "last words" in caplog.text
    assert "exit code 3" in caplog.text


async def test_envoy_dies_with_an_agent_that_is_killed(tmp_path: Path) -> None:
    port = free_port()
    program = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from amalgam8.model.caller import caller\nfrom amalgam8.sidecar.envoy.adapter import Envoy\n"
        "envoy = Envoy(state_dir=Path(sys.argv[1]), listen_host='127.0.0.1', http_port=int(sys.argv[2]),"
        " own_service=caller('shop'))\n"
        "asyncio.run(envoy.run())\n"
    )
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), str(port), env={**os.environ, "PYTHONPATH": "src"}
    )
    await until(lambda: _listens(port))
    agent.send_signal(signal.SIGKILL)
    await agent.wait()
    await until(lambda: not _listens(port))


async def test_an_agent_that_was_killed_can_start_again(tmp_path: Path) -> None:
    """Sockets of the dead are in the way, and must not be."""
    for name in ("ads.sock", "admin.sock"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / name))
    async with running(tmp_path) as mesh, backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        assert (await mesh.ask("/svc/")).status == 200
        assert b"a8_proxy_uptime_seconds" in await mesh.envoy.metrics()


async def test_several_on_one_machine(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    async with (
        backends("one") as (one,),
        running(folders[0]) as a,
        running(folders[1]) as b,
        running(folders[2]) as c,
    ):
        for mesh in (a, b, c):
            await mesh.follow(simple("svc", one.peer()))
            async with Client(mesh.port) as client:
                assert (await client.ask("/svc/")).status == 200


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
