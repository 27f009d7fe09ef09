"""The table of commands says what the functions say, and costs nothing until a command is typed."""

import subprocess
import sys

import pytest

from amalgam8.cli.commands import COMMANDS, Command, shortened


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_summary_is_the_first_line_of_the_function(command: Command) -> None:
    lines = (command.function.__doc__ or "").strip().splitlines()
    assert command.hidden or lines[0] == command.summary


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_of_itself(name: str) -> None:
    command = COMMANDS[name]
    assert command.examples
    assert any(name in example.split() for example in command.examples)


@pytest.mark.parametrize("argv", ["['--help']", "['info']", "['--version']"])
def test_help_and_simple_commands_load_no_other(argv: str) -> None:
    code = (
        f"import sys; from amalgam8.cli.main import main; main({argv}); "
        "heavy = ('asyncio', 'yaml', 'httpcore', 'ssl', 'rich', 'pydantic', 'amalgam8.cli.run');"
        "sys.exit(' '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_long_summary_is_cut_between_words() -> None:
    assert shortened("Short.", 20) == "Short"
    assert shortened("Much longer than there is room for.", 20) == "Much longer than..."
    assert shortened("What it does: and more of it, which can go.", 20) == "What it does"
