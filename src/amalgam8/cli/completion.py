"""completion: the scripts for shells, and the words that only the mesh knows.

The shell runs ``a8ctl`` with the line so far in its environment, which typer answers from the commands
themselves. Names of services and rules are asked for in PATIENCE; whoever does not answer by then is
left out, without a word, since words would end up in the line that is being typed.
"""

import os
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amalgam8.cli import show
from amalgam8.cli.commands import PROGRAM

if TYPE_CHECKING:
    from amalgam8.clients.controller import ControllerClient
    from amalgam8.clients.registry import RegistryClient

VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"
"""Set by the scripts; its value says which shell asks."""

PATIENCE = 1.0
"""Seconds that a person at a keyboard is kept waiting."""

WORDS_LIMIT = 500


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def script(shell: Annotated[Shell, typer.Argument(help="The shell that is to complete.")]) -> None:
    """Print the script that lets a shell complete commands, flags, services and rules.

    Put it where the shell looks for such scripts, or source it: source <(a8ctl completion bash)
    """
    from typer import completion

    made = completion.get_completion_script(  # type: ignore[attr-defined]  # handed on without saying so
        prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value
    )
    show.say(made)


def prepare() -> None:
    """Make typer ready to answer a shell, where one asks."""
    if os.environ.get(VARIABLE):
        from typer.completion import get_completion_inspect_parameters

        get_completion_inspect_parameters()  # makes its classes for shells known, on the way


def services(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of services that have instances or rules."""
    from amalgam8.clients.controller import ControllerClient

    async def destinations(controller: ControllerClient) -> Iterable[str]:
        return [*(await controller.routes()), *(await controller.actions())]

    async def registered(registry: "RegistryClient") -> Iterable[str]:
        return await registry.services()

    target = _target(ctx)
    if target is None:
        return []
    found = {
        *_asked(lambda: target.with_registry(lambda client: _soon(registered(client)))),
        *_asked(lambda: target.with_controller(lambda client: _soon(destinations(client)))),
    }
    return _beginning(found, incomplete)


def rules(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of rules."""

    async def ids(controller: "ControllerClient") -> Iterable[str]:
        return [str(rule["id"]) for rule in (await controller.rules()).rules]

    target = _target(ctx)
    if target is None:
        return []
    found = _asked(lambda: target.with_controller(lambda client: _soon(ids(client))))
    return _beginning(found, incomplete)


def contexts(_ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of contexts."""
    from amalgam8.cli.context_file import read

    return _beginning(_asked(lambda: read().contexts), incomplete)


def _target(ctx: typer.Context) -> Any:
    """Where to ask, by the global flags of the line so far; None: they make no sense."""
    from amalgam8.cli.connect import target_from
    from amalgam8.model.errors import A8Error

    given = ctx.find_root().params
    try:
        return target_from({name: str(value or "") for name, value in given.items()}).check()
    except A8Error:
        return None


def _asked(ask: Callable[[], Iterable[str]]) -> Iterable[str]:
    from amalgam8.model.errors import A8Error

    try:
        return ask()
    except (A8Error, TimeoutError, OSError):
        return ()


async def _soon(asked: Awaitable[Iterable[str]]) -> Iterable[str]:
    import asyncio

    async with asyncio.timeout(PATIENCE):
        return await asked


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    # A word with blanks or control characters would come apart in the shell.
    fit = (word for word in words if word.startswith(incomplete) and word.isprintable() and " " not in word)
    return sorted(fit)[:WORDS_LIMIT]
