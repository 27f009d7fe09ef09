"""``a8ctl`` itself, as a group of commands that are made when they are typed.

Parameters are taken for what they are without typer's own conversion wherever that is enough, since the
library behind it takes longer to load than all else. Refuses to know any command.
"""

from collections.abc import Iterator, MutableMapping
from enum import StrEnum
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from amalgam8.cli.commands import COMMANDS, examples, shortened


class Commands(MutableMapping[str, Any]):
    """The commands by name, each made when it is asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            command = COMMANDS[name]
            self._made[name] = get_command_from_info(
                CommandInfo(
                    name=name,
                    cls=_One,
                    callback=command.function,
                    help=None if not command.hidden else command.summary,
                    epilog=examples(*command.examples),
                    short_help=command.summary,
                    hidden=command.hidden,
                ),
                pretty_exceptions_short=False,
                rich_markup_mode=None,
            )
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _One(TyperCommand):
    """A command whose parameters, its --help too, are converted by Plain."""

    def get_params(self, ctx: Any) -> list[Any]:
        return plainly(super().get_params(ctx))


class Group(TyperGroup):
    """``a8ctl`` itself: its help is written from the table alone."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = Commands()

    def get_params(self, ctx: Any) -> list[Any]:
        return plainly(super().get_params(ctx))

    def list_commands(self, _ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's own context
        return [name for name, command in COMMANDS.items() if not command.hidden]

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        width = formatter.width - 6 - max(map(len, COMMANDS))
        rows = [
            (name, shortened(command.summary, width))
            for name, command in COMMANDS.items()
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Plain:
    """Takes a parameter's words for what they are where there is nothing to convert or to check.

    Typer's own conversion begins with a library that takes as long to load as all else together; it is
    used where this is not enough. Its answer to ``coerce`` is the contract.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        kind = param.type_descriptor.annotation
        if kind == list[str] and isinstance(value, (list, tuple)):
            if all(isinstance(word, str) for word in value):
                return list(value)
        elif isinstance(kind, type) and isinstance(value, kind):
            return value
        elif isinstance(kind, type) and issubclass(kind, StrEnum) and value in list(kind):
            return kind(value)
        param._runtime_param = None  # noqa: SLF001 - the one place where typer keeps it
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def plainly(parameters: list[Any]) -> list[Any]:
    """These parameters, converted by Plain. A typer that does not look there goes on as before."""
    for parameter in parameters:
        parameter._runtime_param = Plain()  # noqa: SLF001 - the one place where typer keeps it
    return parameters
