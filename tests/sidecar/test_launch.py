"""Becoming the command: same process, its exit code, and no life without its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from amalgam8.sidecar import launch

PROGRAM = [sys.executable, "-I", "-S", launch.__file__]


def run(*command: str, parent: int | None = None) -> subprocess.CompletedProcess[str]:
    argv = [*PROGRAM, str(os.getpid() if parent is None else parent), *command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


def test_it_becomes_the_command() -> None:
    done = run("sh", "-c", 'echo "$0 $1"; exit 9', "a b", "*")
    assert (done.stdout, done.returncode) == ("a b *\n", 9)


def test_a_missing_command_is_one_line() -> None:
    done = run("/no/such/program")
    assert done.returncode == launch.NOT_FOUND
    assert done.stderr == "a8sidecar: cannot start /no/such/program: No such file or directory\n"


def test_a_command_that_cannot_run_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    done = run(str(tmp_path / "data"))
    assert done.returncode == launch.NOT_STARTABLE
    assert done.stderr.count("\n") == 1


def test_nothing_is_started_for_a_parent_that_has_gone(tmp_path: Path) -> None:
    done = run("touch", str(tmp_path / "started"), parent=1)
    assert done.returncode == 128 + signal.SIGTERM
    assert not (tmp_path / "started").exists()


def test_the_command_ends_with_a_parent_that_was_killed() -> None:
    code = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([*{PROGRAM!r}, str(os.getpid()), 'sh', '-c', 'echo up; exec sleep 600'])\n"
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        lines = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        lines.discard("up")
        child = int(lines.pop())
        parent.kill()
        parent.wait()
        limit = time.monotonic() + 10
        while alive(child):
            assert time.monotonic() < limit, "still there"
            time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
