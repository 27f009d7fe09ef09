"""Running a daemon: exit codes, one-line refusals, signals, and an end that comes."""

import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from amalgam8.runtime import service
from amalgam8.runtime.service import COLLECT_AFTER

HEAD = """
import asyncio, dataclasses, sys
from amalgam8.model.errors import InvalidSetting, StoreUnavailable
from amalgam8.runtime import logs, service
from amalgam8.runtime.kinds import PORT
from amalgam8.runtime.settings import setting

@dataclasses.dataclass(frozen=True)
class Settings:
    port: int = setting(80, "The port.", PORT)
    log_level: str = setting("info", "How much.", logs.LEVEL)
    log_format: str = setting("text", "How.", logs.FORMAT)

async def main(settings, command):
"""
TAIL = "\nsys.exit(service.run('a8x', Settings, main, command='[command]'))\n"


NESTED = """
async def fail():
    raise InvalidSetting('port: taken')
async with asyncio.TaskGroup() as one:
    async with asyncio.TaskGroup() as two:
        two.create_task(fail())
        await asyncio.sleep(60)
"""
DEFECT = """
async def fail():
    raise KeyError('x')
async with asyncio.TaskGroup() as tasks:
    tasks.create_task(fail())
"""


@contextlib.contextmanager
def daemon(body: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
    code = HEAD + "".join(f"    {line}\n" for line in body.splitlines()) + TAIL
    environ = {key: value for key, value in os.environ.items() if not key.startswith("A8_")}
    with subprocess.Popen(
        [sys.executable, "-c", code, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def outcome(body: str, *argv: str) -> tuple[int, str, str]:
    with daemon(body, *argv) as process:
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err


def test_the_exit_code_is_mains() -> None:
    assert outcome("print(settings.port, command)\nreturn 7", "--port=5", "a", "-b") == (
        7,
        "5 ('a', '-b')\n",
        "",
    )


@pytest.mark.parametrize(
    ("body", "argv", "code", "words"),
    [
        (
            "return 0",
            ("--port=x",),
            2,
            "a8x: --port: 'x' is not allowed; allowed: a whole number from 1 to 65535",
        ),
        ("raise InvalidSetting('port: taken')", (), 2, "a8x: port: taken"),
        ("raise StoreUnavailable('no store')", (), 1, "a8x: no store"),
        (
            NESTED,
            (),
            2,
            "a8x: port: taken",
        ),
    ],
)
def test_a_mistake_is_one_line(body: str, argv: tuple[str, ...], code: int, words: str) -> None:
    returned, out, err = outcome(body, *argv)
    assert (returned, out, err) == (code, "", words + "\n")


def test_help_is_on_standard_output() -> None:
    code, out, err = outcome("return 0", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: a8x [flags] [command]")


def test_a_defect_in_a_task_is_logged_and_code_1() -> None:
    code, _, err = outcome(DEFECT)
    assert code == 1
    assert "the daemon failed" in err
    assert "KeyError" in err


TIDY = """
print("up", flush=True)
try:
    await asyncio.sleep(60)
finally:
    await asyncio.sleep(0)
    print("tidied", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    with daemon(TIDY) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "tidied\n")
        assert f"signal={number.name}" in err


STUBBORN = """
print("up", flush=True)
while True:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("no", flush=True)
"""


def test_who_does_not_end_is_ended() -> None:
    with daemon("service.END_WITHIN = 0.05\n" + STUBBORN.strip()) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.wait(timeout=30) == 1


def test_a_second_signal_ends_at_once() -> None:
    with daemon(STUBBORN.strip()) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.stdout.readline() == "no\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 128 + signal.SIGINT


def test_a_server_runs_on_uvloop_and_seldom_looks_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = (
        "import gc\nprint(type(asyncio.get_running_loop()).__module__, gc.get_threshold()[0], "
        "gc.get_freeze_count() > 1000)\nreturn 0"
    )
    assert outcome(shown)[1].split()[:2] == ["asyncio.unix_events", str(gc.get_threshold()[0])]
    monkeypatch.setattr(sys.modules[__name__], "TAIL", TAIL.replace("[command]'", "[command]', fast=True"))
    assert outcome(shown)[1].split() == ["uvloop", str(COLLECT_AFTER[0]), "True"]


def test_a_server_takes_as_many_descriptors_as_it_may() -> None:
    """And a sidecar, of which there are many, leaves its own as they are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = 200
    for fast, wanted in (
        (True, hard if hard != resource.RLIM_INFINITY else service.DESCRIPTORS),
        (False, least),
    ):
        body = "import resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\nreturn 0"
        code = HEAD + "".join(f"    {line}\n" for line in body.splitlines())
        code += f"\nsys.exit(service.run('a8x', Settings, main, argv=[], fast={fast}))\n"
        ran = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard)),
        )
        assert int(ran.stdout) == min(wanted, service.DESCRIPTORS)
