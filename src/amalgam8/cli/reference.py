"""The reference page of the command line, made from the commands themselves.

Independent of the terminal's width and of the environment. Refuses to know any command by name.
"""

from typing import Any

import typer

from amalgam8.cli import main
from amalgam8.cli.commands import PROGRAM

INTRODUCTION = """\
# a8ctl

Made from the program itself. `a8ctl COMMAND --help` shows the same. In names of commands and flags `-` and
`_` are the same. Global flags may stand before or after the command.

Answers go to standard output; an error is one line on standard error. Colours appear only on a terminal, and
never where `NO_COLOR` is set.

## Exit codes

| Code | Meaning |
|---|---|
| 0 | done |
| 1 | the answer is no: refused, differs, not valid, a test fails, the user said no, an app of `up` ended |
| 2 | usage or configuration: flags, files, ports in use |
| 4 | not ready, or not applied everywhere, in time |
| 5 | the server cannot be reached, answers 502, 503 or 504, or is something else than it should be |
| 130 | interrupted |
"""


def markdown() -> str:
    """The whole page."""
    group: Any = typer.main.get_command(main.application())
    parts = [INTRODUCTION, "## Global flags\n", _flags(group)]
    for name, command in group.commands.items():
        if not command.hidden:
            parts += [f"## {name}\n", _command(name, command)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _command(name: str, command: Any) -> str:
    arguments = [
        f"[{parameter.metavar or parameter.name.upper()}]..."
        for parameter in command.params
        if parameter.param_type_name == "argument"
    ]
    usage = " ".join([PROGRAM, name, "[flags]", *arguments])
    examples = "\n".join(line.strip() for line in (command.epilog or "").splitlines()[2:])
    return "\n".join(
        [
            f"    {usage}\n",
            f"{_paragraphs(command.help)}\n",
            _flags(command),
            f"Examples:\n\n```sh\n{examples}\n```\n",
        ]
    )


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


def _flags(command: Any) -> str:
    rows = ["| Flag | Environment | Default | |", "|---|---|---|---|"]
    for parameter in command.params:
        if parameter.param_type_name != "option" or parameter.hidden:
            continue
        names = ", ".join(f"`{name}`" for name in parameter.opts)
        value = "" if parameter.is_flag else f" {_value(parameter)}"
        env = f"`{parameter.envvar}`" if parameter.envvar else ""
        rows.append(f"| {names}{value} | {env} | {_default(parameter)} | {_cell(parameter.help or '')} |")
    return "\n".join(rows) + "\n" if len(rows) > 2 else ""


def _value(parameter: Any) -> str:
    choices = parameter.type_descriptor.choices
    if choices:
        return " or ".join(f"`{choice}`" for choice in choices)
    return str(parameter.metavar or parameter.name.upper())


def _default(parameter: Any) -> str:
    default = parameter.default
    return "" if parameter.is_flag or default in (None, "", ()) else f"`{default}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
