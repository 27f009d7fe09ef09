import os
import subprocess
import sys

import pytest

from amalgam8.cli.commands import COMMANDS
from amalgam8.cli.reference import markdown


def test_every_command_and_flag_is_there() -> None:
    page = markdown()
    for name, command in COMMANDS.items():
        assert (f"\n## {name}\n" in page) is not command.hidden
        for example in () if command.hidden else command.examples:
            assert f"a8ctl {example}\n" in page
    assert (
        "`A8_CONTROLLER_URL` |  | The controller. By default the context's, else http://localhost:31200"
        in page
    )
    assert "| `--gateway-port` PORT |  | `32000` |" in page
    assert "| `-o`, `--output` `table` or `json` or `yaml` |  | `table` |" in page


def test_neither_width_nor_environment_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from amalgam8.cli.reference import markdown; import sys; sys.stdout.write(markdown())"
    env = {**os.environ, "COLUMNS": "40", "A8_CONTROLLER_URL": "http://elsewhere", "TERMINAL_WIDTH": "40"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=30)
    assert ran.stdout == markdown()
