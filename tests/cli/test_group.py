"""Commands are made when they are typed, and their words taken for what they are."""

from amalgam8.cli.commands import COMMANDS
from amalgam8.cli.group import Commands


def test_commands_are_made_once_and_by_name() -> None:
    commands = Commands()
    assert list(commands) == list(COMMANDS)
    assert commands["info"] is commands["info"]
    assert commands.get("nothing") is None
