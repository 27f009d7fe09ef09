"""Completion as a shell sees it: its script, and the words for a line that has begun."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from amalgam8.cli.completion import VARIABLE
from amalgam8.cli.main import main
from tests.cli.standin import StandIn, stand_in
from tests.cli.terminal import terminal
from tests.conftest import eventually, free_port

EDITING = "\x1b[?2004h"
"""What zsh says to the terminal when it waits for keys."""


async def completed(*line: str, controller: str = "", registry: str = "") -> list[str]:
    """What is offered for the last word of a line."""
    import asyncio

    nowhere = f"http://127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "amalgam8.cli.main"),
        env={
            **os.environ,
            VARIABLE: "complete_bash",
            "COMP_WORDS": " ".join(["a8ctl", *line]),
            "COMP_CWORD": str(len(line)),
            "A8_CONTROLLER_URL": controller or nowhere,
            "A8_REGISTRY_URL": registry or nowhere,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert err == b""
    return out.decode().split()


def answering(server: StandIn) -> StandIn:
    server.answers |= {
        ("GET", "/api/v1/services"): {"services": ["ratings", "reviews"]},
        ("GET", "/v1/rules"): {
            "rules": [{"id": "slow"}, {"id": "split"}, {"id": "two words"}],
            "revision": 1,
        },
        ("GET", "/v1/rules/routes"): {"services": {"recommendations": []}},
        ("GET", "/v1/rules/actions"): {"services": {}},
    }
    return server


async def test_commands_and_flags() -> None:
    assert await completed("rule-d") == ["rule-delete"]
    assert await completed("traffic-") == ["traffic-start", "traffic-step", "traffic-abort"]
    assert "--destination" in await completed("rule-get", "--d")
    assert await completed("rule-get", "-o", "") == ["json", "yaml"]


async def test_names_that_only_the_mesh_knows() -> None:
    async with stand_in() as server:
        url = answering(server).url
        offered = await completed("rule-get", "-d", "re", controller=url, registry=url)
        assert offered == ["recommendations", "reviews"]
        assert await completed("rule-status", "s", controller=url) == ["slow", "split"]
        assert await completed("route-delete", "ra", registry=url) == ["ratings"]


async def test_a_mesh_that_is_not_there_offers_nothing() -> None:
    assert await completed("rule-get", "-d", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_names_the_program(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "a8ctl" in script
    assert VARIABLE in script


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Where a shell finds the program, and a home without anybody's settings."""
    program = tmp_path / "a8ctl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m amalgam8.cli.main "$@"\n')
    program.chmod(0o755)
    return {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TERM": "dumb",
    }


def script_of(name: str, capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[str, Path]:
    """The shell, and a file with its script; the test is left out where there is no such shell."""
    shell = shutil.which(name)
    if shell is None:
        pytest.skip(f"{name} is not installed")
    assert main(["completion", name]) == 0
    file = folder / f"completion.{name}"
    file.write_text(capsys.readouterr().out)
    return shell, file


def test_bash_takes_the_script(
    tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    bash, file = script_of("bash", capsys, tmp_path)
    line = 'COMP_WORDS=(a8ctl traffic-s); COMP_CWORD=1; _a8ctl_completion a8ctl; echo "${COMPREPLY[@]}"'
    ran = subprocess.run(
        [bash, "--norc", "-c", f". {file}\n{line}"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert (ran.stdout.split(), ran.stderr) == (["traffic-start", "traffic-step"], "")


def test_fish_takes_the_script(
    tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    fish, file = script_of("fish", capsys, tmp_path)
    asked = f"source {file}; complete -C 'a8ctl traffic-s'"
    ran = subprocess.run(
        [fish, "--no-config", "-c", asked], env=environ, capture_output=True, text=True, timeout=60
    )
    offered = [line.split("\t")[0] for line in ran.stdout.splitlines()]
    assert (offered, ran.stderr) == (["traffic-start", "traffic-step"], "")


async def test_zsh_takes_the_script(
    tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    zsh, file = script_of("zsh", capsys, tmp_path)
    async with terminal(zsh, "-f", "-i", env=environ) as screen:
        screen.type(f"autoload -Uz compinit; compinit -u -D; source {file}; echo rea''dy\n")

        async def ready() -> bool:
            return EDITING in screen.shown().partition("\nready")[2]

        async def offered() -> bool:
            return re.findall(r"^([\w-]+) +-- ", screen.shown(), re.MULTILINE) == [
                "traffic-start",
                "traffic-step",
            ]

        await eventually(ready)
        screen.type("a8ctl traffic-s\t\t")
        await eventually(offered, within=30)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "cmd"]) == 2
    assert "'cmd' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err
